"""OpenStack's own command line client, as it is, against a running server.

    python3 -m venv venv
    venv/bin/pip install -r clients/openstack/requirements.txt
    clients/with-service ECS-GROUPD venv/bin/python clients/openstack/round_trip.py

It logs in by password and by token, with the address of the identity service; creates, lists, shows and deletes groups by id and by name; and asks for versions and the catalog. It prints a line for
each step, and stops with exit status 1 at the first surprise. The groups that it made are then still there.

A wrong password is tried once: fewer times than lock the user out.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ECS = "34dac9a0-c4a7-457b-bab2-e2c696e0e401"
NOBODY = "00000000-0000-4000-8000-000000000000"


class Surprise(Exception):
    """The server did not do what the client's users count on."""


def step(text):
    print(text, flush=True)


def expect(is_so, text):
    if not is_so:
        raise Surprise(text)


def expect_equal(actual, expected, text):
    expect(actual == expected, f"{text}: expected {expected!r}, got {actual!r}")


class Server:
    """Where the server is, and who may ask it: what its ready file says."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.ready = json.load(file)
        self.api_url = self.ready["api_url"]
        self.project_id = self.ready["project_id"]

    def add_member(self, token, group_id, server_id):
        """What the native interface has no call for."""
        url = f"{self.api_url}/v1/{self.project_id}/cloudservers/os-server-groups/{group_id}/action"
        body = json.dumps({"add_member": {"instance_uuid": server_id}}).encode()
        headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with without_proxy.open(urllib.request.Request(url, body, headers), timeout=10) as answer:
            expect_equal(answer.status, 200, "the status of adding an ECS")


class Client:
    """The client as one user runs it, with nothing of the surrounding settings."""

    def __init__(self, server, home, auth_url, **more):
        ready = server.ready
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            # The server is here, whatever proxy there is.
            "NO_PROXY": "*",
            "OS_AUTH_URL": auth_url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": ready["region"],
            "OS_PROJECT_NAME": ready["project_name"],
            "OS_PROJECT_DOMAIN_NAME": ready["domain_name"],
        }
        if "OS_TOKEN" not in more:
            self.environment |= {
                "OS_USERNAME": ready["user_name"],
                "OS_PASSWORD": ready["password"],
                "OS_USER_DOMAIN_NAME": ready["domain_name"],
            }
        self.environment |= more
        self.home = home
        # Beside the interpreter of the virtual environment.
        self.program = Path(sys.executable).parent / "openstack"

    def run(self, *arguments):
        return subprocess.run([self.program, *arguments], env=self.environment, cwd=self.home, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)

    def do(self, *arguments):
        """Runs a command that must be done and say nothing on standard error."""
        done = self.run(*arguments)
        said = f"`openstack {' '.join(arguments)}` said {done.stderr.strip()!r}"
        expect(done.returncode == 0 and not done.stderr.strip(), f"{said}, with exit status {done.returncode}")
        return done.stdout

    def ask(self, *arguments):
        """Runs a command that must be done, and returns what it shows."""
        return json.loads(self.do(*arguments, "-f", "json"))

    def expect_refusal(self, message, *arguments):
        """Runs a command that must fail."""
        done = self.run(*arguments)
        command = f"`openstack {' '.join(arguments)}`"
        expect_equal(done.returncode, 1, f"the exit status of {command}")
        expect(message in done.stderr, f"{command} says {done.stderr.strip()!r}, and not {message!r}")


def groups(server, client):
    """Three groups, from creation to deletion."""
    owned = {"project_id": server.project_id, "policies": ["anti-affinity"], "members": []}
    ids = {}
    for name in ("web", "data base", "db"):
        group = client.ask("server", "group", "create", "--policy", "anti-affinity", name)
        expect(group["id"] and group["user_id"], f"{name} has no id, or nobody made it: {group}")
        expect_equal({**group, **owned, "name": name}, group, f"the group {name}")
        ids[name] = group["id"]
        step(f"created {name}: {group['id']}")

    expected = [{"ID": ids[name], "Name": name, "Policies": ["anti-affinity"]} for name in ids]
    expect_equal(client.ask("server", "group", "list"), expected, "the list")
    for limit in ("1", "2", "3", "100"):
        pages = client.ask("server", "group", "list", "--limit", limit)
        expect_equal(pages, expected, f"the list, {limit} at a time")
    first = client.ask("server", "group", "list", "--limit", "2", "--max-items", "2")
    expect_equal(first, expected[:2], "the first two of the list")
    expect_equal(client.ask("server", "group", "list", "--all-projects"), expected, "the list of all projects")
    step(f"listed {len(expected)}, and page by page")

    token = client.ask("token", "issue")["id"]
    server.add_member(token, ids["web"], ECS)
    for name in ids:
        members = [ECS] if name == "web" else []
        for key in (name, ids[name]):
            shown = client.ask("server", "group", "show", key)
            expect_equal({**shown, **owned, "members": members, "name": name, "id": ids[name]}, shown,
                         f"the group {key}")
        step(f"showed {name}, by name and by id")
    listed = client.ask("server", "group", "list", "--long")
    expect_equal([group["Members"] for group in listed], [[ECS], [], []], "the members in the list")
    expect_equal({group["Project Id"] for group in listed}, {server.project_id}, "the projects in the list")

    oldest = client.ask("--os-compute-api-version", "2.1", "server", "group", "show", "web")
    expect_equal((oldest["project_id"], oldest["members"]), (None, [ECS]), "the group at microversion 2.1")
    step("showed it at microversion 2.1")

    for wrong in ("nowhere", NOBODY):
        client.expect_refusal("No ServerGroup found for", "server", "group", "show", wrong)
        client.expect_refusal("failed to delete", "server", "group", "delete", wrong)
    client.expect_refusal("is not one of ['anti-affinity']", "server", "group", "create", "--policy", "affinity", "x")
    client.expect_refusal("An invalid 'name' value was provided", "server", "group", "create", "--policy",
                          "anti-affinity", " x")
    step("refused what there is not, and what Nova does not take")

    twin = client.ask("server", "group", "create", "--policy", "anti-affinity", "web")["id"]
    client.expect_refusal("More than one ServerGroup exists with the name", "server", "group", "show", "web")
    client.do("server", "group", "delete", twin)
    step("would not choose between two of one name")

    client.do("server", "group", "delete", "web")
    client.do("server", "group", "delete", "data base", ids["db"])
    expect_equal(client.ask("server", "group", "list"), [], "the list after all were deleted")
    client.expect_refusal("No ServerGroup found for", "server", "group", "show", "web")
    step("deleted them, by name and by id")


def tokens(server, home, client):
    """Logging in by token, and the end of it."""
    issued = client.ask("token", "issue")
    expect_equal(issued["project_id"], server.project_id, "the token's project")
    expect(issued["user_id"] and issued["expires"], f"the token has no user, or no end: {issued}")
    step("issued a token")
    by_token = Client(server, home, f"{server.api_url}/v3", OS_AUTH_TYPE="v3token", OS_TOKEN=issued["id"])
    expect_equal(by_token.ask("server", "group", "list"), [], "the list, by token")
    step("logged in with it")
    client.do("token", "revoke", issued["id"])
    by_token.expect_refusal("HTTP 401", "server", "group", "list")
    client.expect_refusal("404", "token", "revoke", issued["id"])
    step("revoked it, and it was good for nothing any more")
    wrong = Client(server, home, f"{server.api_url}/v3", OS_PASSWORD="not-the-password")
    wrong.expect_refusal("The username or password is wrong. (HTTP 401)", "token", "issue")
    step("refused a wrong password")


def discovery(server, client):
    """Versions and the catalog."""
    # The client knows Nova by "compute" alone.
    versions = [version for version in client.ask("versions", "show") if version["Service Type"] == "compute"]
    current = [version for version in versions if version["Status"] == "CURRENT"]
    expect_equal([(version["Version"], version["Min Microversion"], version["Max Microversion"],
                   version["Endpoint"]) for version in current],
                 [("2.1", "2.1", "2.60", f"{server.api_url}/v2.1/")], "the current version of compute")
    step(f"showed {len(versions)} versions of compute")

    catalog = {service["Type"]: service["Endpoints"] for service in client.ask("catalog", "list")}
    for kind, path in (("identity", "/v3"), ("compute", f"/v2.1/{server.project_id}")):
        expect(kind in catalog, f"the catalog lacks {kind}: {catalog}")
        expect_equal([(endpoint["interface"], endpoint["region"], endpoint["url"]) for endpoint in catalog[kind]],
                     [("public", server.ready["region"], server.api_url + path)], f"the endpoints of {kind}")
    shown = client.ask("catalog", "show", "compute")
    expect_equal(shown["endpoints"], catalog["compute"], "the endpoints of compute, shown alone")
    step(f"listed the catalog: {', '.join(sorted(catalog))}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: round_trip.py READY_FILE")
    server = Server(sys.argv[1])
    with tempfile.TemporaryDirectory() as home:
        try:
            client = Client(server, home, f"{server.api_url}/v3")
            groups(server, client)
            tokens(server, home, client)
            discovery(server, client)
        except Surprise as surprise:
            sys.exit(f"SURPRISE: {surprise}")
    step("all as expected")


if __name__ == "__main__":
    main()
