"""Makes signature vectors with the vendor's own signers, as they go over the wire.

    python3 -m venv venv
    venv/bin/pip install -r requirements.txt
    venv/bin/python make_signature_vectors.py [--node-sdk FOLDER] > ../../tests/vectors/signatures.json

Each case is signed by `huaweicloudsdkcore` and sent by its HTTP client to a socket on loopback; what arrives there is
the vector. The client rewrites some paths on the way (a space becomes `%20`, `%7E` becomes `~`), so what was signed and
what arrives are not always spelled alike, and only what arrives is of use to a verifier.

FOLDER is where `npm install @huaweicloud/huaweicloud-sdk-core` was run. Without it the cases named `node: ...` are left
out.

The output is a list of objects: `name`, `method`, `path` and `query` as they arrived, `headers` as `[name, value]`
pairs, the body as `body` (text), `body_base64` (bytes that are no UTF-8) or `body_repeat` (`[text, count]`),
`access_key` and `secret_key`. Headers that an HTTP client adds on its own and that are not signed (`Accept-Encoding`,
`Content-Length`, ...) are left out. The names' first words:

* `edited:` the request was changed after it was signed, in a way that leaves the signature good: a query parameter
  without its `=`, a header padded with spaces. The vendor's client does not send such things, others do.
* `quirk:` the vendor's signer does what its documentation does not say; a verifier may or may not follow it.
* `node:` the signature is of the Node SDK; the others are of the Python SDK.

The date and the keys are fixed, so the output is the same at every run with the same SDK.
"""

import argparse
import base64
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from logging import getLogger

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exception_handler import DefaultExceptionHandler
from huaweicloudsdkcore.http.http_client import HttpClient
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.http.http_handler import HttpHandler
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, Signer

ACCESS_KEY = "AKTESTEXAMPLE0000001"
SECRET_KEY = "SKtestExampleSecretKey00000000000000000001"
DATE = "20260102T030405Z"
REGION = "region-1"
SERVICE = "ecs"
HOST = "ecs.region-1.example.com"
PROJECT_ID = "0123456789abcdef0123456789abcdef"
GROUPS = f"/v1/{PROJECT_ID}/cloudservers/os-server-groups"
GROUP = f"{GROUPS}/5bbcc3c4-1da2-4437-a48a-66f15b1b13f9"
JSON = "application/json"
CREATE = '{"server_group": {"name": "test", "policies": ["anti-affinity"]}}'
ADD_MEMBER = '{"add_member": {"instance_uuid": "34dac9a0-c4a7-457b-bab2-e2c696e0e401"}}'
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
CREATE_SHA256 = "e2d49d9fb2775dd008f3278c778c884533db6f9a1436d6b7b7a5a72889add51c"

# What an HTTP client adds on its own; of no interest unless it is signed.
CLIENT_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "transfer-encoding", "user-agent"}


@dataclass
class Case:
    """A request as the caller of the SDK makes it, and what becomes of it after it is signed."""

    name: str
    method: str = "GET"
    path: str = GROUPS
    query: list = field(default_factory=list)
    # Signed, beside X-Sdk-Date and Host.
    headers: dict = field(default_factory=lambda: {"Content-Type": JSON, "User-Agent": "vectors/1.0"})
    host: str = HOST
    body: object = None
    body_repeat: tuple = None
    # BasicCredentials sign this one as X-Project-Id.
    project_id: str = None
    security_token: str = None
    # V11-HMAC-SHA256 in place of SDK-HMAC-SHA256.
    is_derived: bool = False
    # Go's and Terraform's signers do not sign Host.
    is_host_signed: bool = True
    # Headers that are added after signing.
    unsigned: dict = field(default_factory=dict)
    # Changes to what arrived: a path, a query, or header values by name.
    edited_path: str = None
    edited_query: str = None
    edited_headers: dict = field(default_factory=dict)


def python_cases():
    plain = {"Content-Type": JSON}
    terraform = {"Accept": JSON, "Content-Type": JSON, "User-Agent": "terraform-provider"}
    go_sdk = {}
    project = {"X-Project-Id": PROJECT_ID}
    octets = {"Content-Type": "application/octet-stream"}

    # Methods and bodies.
    yield Case("GET without a body")
    yield Case("POST with a JSON body", "POST", body=CREATE)
    yield Case("POST with a JSON body and a charset", "POST", body=CREATE,
               headers={"Content-Type": "application/json;charset=UTF-8", "User-Agent": "contract-test/1.0"},
               project_id=PROJECT_ID)
    yield Case("POST with an empty body", "POST", f"{GROUP}/action", body="")
    yield Case("PUT with a JSON body", "PUT", GROUP, body='{"server_group": {"name": "renamed"}}')
    yield Case("DELETE without a body", "DELETE", GROUP)
    yield Case("DELETE with a body", "DELETE", GROUP, body="{}")
    yield Case("POST with a body beyond ASCII", "POST", body='{"server_group": {"name": "组-é"}}')
    yield Case("POST with a body of 104 KB", "POST", body_repeat=("server-group ", 8000))
    yield Case("POST with a BSON body, which is signed", "POST", headers={"Content-Type": "application/bson"},
               body=b"\x10\x00\x00\x00\x01n\x00\x00\x00\x00\x00\x00\x00\xf0\xbf\x00")

    # Paths.
    yield Case("path: the root", path="/")
    yield Case("path: a trailing slash", path=f"{GROUPS}/")
    yield Case("path: a space", path=f"{GROUPS}/a b")
    yield Case("path: an escaped space", path=f"{GROUPS}/a%20b")
    yield Case("path: an escaped slash", path=f"{GROUPS}/a%2Fb%20c")
    yield Case("path: an upper-case escape", path=f"{GROUPS}/caf%C3%A9")
    # The client makes escapes upper-case on the way.
    yield Case("edited: a lower-case escape", path=f"{GROUPS}/caf%c3%a9", edited_path=f"{GROUPS}/caf%c3%a9")
    yield Case("edited: a lower-case escaped slash", path=f"{GROUPS}/a%2fb", edited_path=f"{GROUPS}/a%2fb")
    yield Case("edited: an escaped tilde", path=f"{GROUPS}/a~b", edited_path=f"{GROUPS}/a%7Eb")
    yield Case("edited: an escaped @", path=f"{GROUPS}/a@b", edited_path=f"{GROUPS}/a%40b")
    yield Case("path: letters beyond ASCII", path=f"{GROUPS}/组")
    yield Case("path: an @ and other sub-delimiters", path=f"{GROUPS}/a@b:c!$&'()*+,;=d")
    yield Case("path: unreserved characters", path=f"{GROUPS}/A-z.0_9~")
    yield Case("path: an escaped tilde, which the client unescapes", path=f"{GROUPS}/%7Ea")
    yield Case("path: an escaped percent sign", path=f"{GROUPS}/100%25")
    yield Case("path: an escape of an escape", path=f"{GROUPS}/a%252Fb")
    yield Case("path: double slashes", path=f"/v1//{PROJECT_ID}/cloudservers//os-server-groups")
    yield Case("path: a plus sign", path=f"{GROUPS}/a+b")
    yield Case("path: an escaped dot segment", path=f"{GROUPS}/%2e%2e")
    yield Case("edited: a trailing slash that was not signed", edited_path=f"{GROUPS}/")

    # Queries.
    yield Case("query: limit and marker", query=[("limit", 10), ("marker", "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9")])
    yield Case("query: unsorted keys", query=[("marker", "m"), ("limit", 1), ("Limit", 2), ("a", "b")])
    yield Case("query: repeated keys", query=[("k", "b"), ("k", "a"), ("k", "B"), ("j", "z")])
    yield Case("query: an empty value", query=[("all_projects", ""), ("limit", 1)])
    yield Case("query: a list", query=[("b", ["3", "1", "2"]), ("a", "x")])
    yield Case("query: booleans", query=[("yes", True), ("no", False)])
    yield Case("query: everything that is escaped", query=[("marker", "a b/c+d*e~f'(g)!&=?#%@:"), ("k/ y", "v")])
    yield Case("query: letters beyond ASCII", query=[("name", "组é"), ("é", "1"), ("z", "2")])
    yield Case("query: an escape as the value", query=[("marker", "%2F%c3")])
    yield Case("query: sorted before it is encoded", query=[("a-b", "1"), ("a", "1"), ("a b", "1"), ("aé", "1")])
    yield Case("edited: unsorted keys on the wire", query=[("limit", 1), ("marker", "m")],
               edited_query="marker=m&limit=1")
    yield Case("edited: a key without an equals sign", query=[("all_projects", ""), ("limit", 1)],
               edited_query="limit=1&all_projects")
    yield Case("edited: a query with lower-case and needless escapes", query=[("marker", "a/é")],
               edited_query="mark%65r=%61%2f%c3%a9")
    yield Case("edited: a query with characters left unescaped", query=[("marker", "a/b:c@d*e'(f)")],
               edited_query="marker=a/b:c@d*e'(f)")
    yield Case("edited: a plus sign that stands for a space", query=[("marker", "a b")], edited_query="marker=a+b")

    # Headers.
    yield Case("header: inner runs of spaces", headers={**plain, "X-Note": "a  b   c"})
    yield Case("header: padding that the SDK strips", headers={**plain, "X-Note": "  padded  "})
    yield Case("edited: a header padded with spaces", headers={**plain, "X-Note": "a  b"},
               edited_headers={"X-Note": "   a  b \t "})
    yield Case("header: letters beyond ASCII", headers={**plain, "X-Note": "组 é"})
    yield Case("header: an empty value", headers={**plain, "X-Note": ""})
    yield Case("header: an underscore, which is not signed", headers={**plain, "X_Note": "u", "X-Note": "v"})
    yield Case("header: names in any case", headers={"conTENT-tYPE": JSON, "x-NOTE": "v"})
    yield Case("header: a Host with a port", host="127.0.0.1:8443")
    yield Case("header: X-Project-Id is signed", project_id=PROJECT_ID)
    yield Case("header: X-Project-Id is not signed", unsigned=project)
    yield Case("header: X-Security-Token", project_id=PROJECT_ID, security_token="STSTOKEN==")
    yield Case("header: OpenStack's microversion, unsigned", path=f"/v2.1/{PROJECT_ID}/os-server-groups",
               unsigned={"OpenStack-API-Version": "compute 2.60"})

    # What other clients sign, with the same algorithm.
    yield Case("as Terraform: GET", path=GROUP, headers=terraform, is_host_signed=False, unsigned=project)
    yield Case("as Terraform: POST", "POST", headers=terraform, is_host_signed=False, unsigned=project, body=CREATE)
    yield Case("as Terraform: temporary keys", headers=terraform, is_host_signed=False,
               unsigned={**project, "X-Security-Token": "STSTOKEN=="})
    yield Case("as the Go SDK: GET", query=[("limit", 1)], headers=go_sdk, is_host_signed=False, project_id=PROJECT_ID)
    yield Case("as the Go SDK: POST", "POST", headers=go_sdk, is_host_signed=False, project_id=PROJECT_ID,
               unsigned=plain, body=CREATE)
    yield Case("nothing but the date is signed", "POST", headers={}, is_host_signed=False, unsigned=plain, body=CREATE)

    # What stands for the body.
    yield Case("payload: unsigned, since it is octets", "PUT", headers=octets, body=b"abc\xff\x00")
    yield Case("payload: unsigned, since it is text", "POST", headers={"Content-Type": "text/plain"}, body="abc")
    yield Case("payload: unsigned, since it is a form", "POST",
               headers={"Content-Type": "application/x-www-form-urlencoded"}, body="a=b")
    yield Case("payload: signed, though it is text", "POST", headers={"content-type": "text/plain"}, body="abc")
    yield Case("payload: its own hash in X-Sdk-Content-Sha256", "POST",
               headers={**plain, "X-Sdk-Content-Sha256": CREATE_SHA256}, body=CREATE)
    yield Case("payload: the hash of nothing in X-Sdk-Content-Sha256",
               headers={**plain, "X-Sdk-Content-Sha256": EMPTY_SHA256})

    # V11-HMAC-SHA256.
    yield Case("derived: GET", query=[("limit", 1)], is_derived=True, project_id=PROJECT_ID)
    yield Case("derived: POST", "POST", f"{GROUP}/action", is_derived=True, project_id=PROJECT_ID, body=ADD_MEMBER)
    yield Case("derived: odd path, query and header", "DELETE", f"{GROUPS}/a%2Fb é@~", is_derived=True,
               query=[("k", "b c"), ("k", "*")], headers={**plain, "X-Note": "组  é"})
    yield Case("derived: unsigned payload", "PUT", headers=octets, is_derived=True, body=b"abc")
    yield Case("derived: without Host", "POST", headers=terraform, is_host_signed=False, unsigned=project,
               is_derived=True, body=CREATE)

    # X-Sdk-Content-Sha256 says UNSIGNED-PAYLOAD, and yet the hash of nothing is signed.
    yield Case("quirk: an empty body that is not JSON is signed as empty", "POST", headers=octets, body=b"")
    yield Case("quirk: no body, and a type that is not JSON", headers={"Content-Type": "text/plain"})
    # Only what begins with `application/json`, in lower case, is JSON to the signer.
    yield Case("quirk: application/merge-patch+json is an unsigned payload", "PUT", GROUP,
               headers={"Content-Type": "application/merge-patch+json"}, body=CREATE)
    yield Case("quirk: Application/JSON is an unsigned payload", "POST",
               headers={"Content-Type": "Application/JSON"}, body=CREATE)
    # `%FF` is signed as U+FFFD.
    yield Case("quirk: an escape that is no UTF-8", path=f"{GROUPS}/%FFa")
    # 9 before 10.
    yield Case("quirk: numbers of one key are sorted as numbers", query=[("id", [10, 9])])


class Recorder:
    """Listens on loopback and keeps the requests that come, byte by byte."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._requests = []
        threading.Thread(target=self._serve, daemon=True).start()

    def take(self):
        """The one request that came since the last call: method, path, query, headers, body."""
        (request,) = self._requests
        self._requests.clear()
        return request

    def _serve(self):
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as stream:
                # Kept before it is answered: whoever has the answer finds the request.
                self._requests.append(self._read(stream))
                connection.sendall(self.ANSWER)

    @staticmethod
    def _read(stream):
        method, target, _ = stream.readline().decode("ascii").split(" ")
        path, _, query = target.partition("?")
        headers = []
        while (line := stream.readline().decode("utf-8").removesuffix("\r\n")) != "":
            name, _, value = line.partition(":")
            headers.append((name, value.removeprefix(" ")))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        return method, path, query, headers, stream.read(length)


class HostlessSigner(Signer):
    """Does not add Host, and so does not sign it."""

    @classmethod
    def _process_header_host(cls, request):
        pass


class HostlessDerivedSigner(DerivationAKSKSigner):
    """Does not add Host, and so does not sign it."""

    @classmethod
    def _process_header_host(cls, request):
        pass


def sign(case, request):
    """Signs as the SDK's credentials do, with the signer that the case wants."""
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY, case.project_id).with_security_token(case.security_token)
    if case.is_host_signed:
        if case.is_derived:
            credentials.with_derived_predicate(lambda _request: True)
            credentials._process_derived_auth_params(SERVICE, REGION)
        return credentials.sign_request(request)
    if case.project_id:
        request.header_params["X-Project-Id"] = case.project_id
    if case.is_derived:
        return HostlessDerivedSigner(credentials).sign(request, SERVICE, REGION)
    return HostlessSigner(credentials).sign(request)


def send(case, client, recorder):
    """Signs a case's request, sends it with the SDK's HTTP client, and gives back what arrived, as a vector."""
    body = case.body_repeat[0] * case.body_repeat[1] if case.body_repeat else case.body
    headers = {**case.headers, "X-Sdk-Date": DATE}
    if case.is_host_signed:
        headers["Host"] = case.host
    request = SdkRequest(case.method, "http", recorder.address, case.path, query_params=case.query,
                         header_params=headers, body=body)
    request = sign(case, request)
    request.header_params.update(case.unsigned)
    request.header_params["Host"] = case.host
    client.do_request_sync(request)

    method, path, query, headers, body = recorder.take()
    headers = [(name, case.edited_headers.get(name, value)) for name, value in headers]
    path = path if case.edited_path is None else case.edited_path
    query = query if case.edited_query is None else case.edited_query
    return vector(case.name, method, path, query, headers, body, case.body_repeat)


def vector(name, method, path, query, headers, body, body_repeat=None):
    authorization = next(value for name, value in headers if name.lower() == "authorization")
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    kept = [list(header) for header in headers
            if header[0].lower() in signed or header[0].lower() not in CLIENT_HEADERS]
    if body_repeat:
        content = {"body_repeat": list(body_repeat)}
    else:
        try:
            content = {"body": body.decode("utf-8")}
        except UnicodeDecodeError:
            content = {"body_base64": base64.b64encode(body).decode("ascii")}
    return {"name": name, "method": method, "path": path, "query": query, "headers": kept, **content,
            "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}


def as_text(each):
    """JSON with a member in each line, and a header in each line."""
    def line(value):
        return json.dumps(value, ensure_ascii=False)

    members = []
    for key, value in each.items():
        if key == "headers":
            headers = ",\n".join(f"      {line(header)}" for header in value)
            members.append(f"    {line(key)}: [\n{headers}\n    ]")
        else:
            members.append(f"    {line(key)}: {line(value)}")
    return "  {\n" + ",\n".join(members) + "\n  }"


# Reads one request from standard input, and sends it with the Node SDK's own client.
NODE_SCRIPT = """
const core = require('@huaweicloud/huaweicloud-sdk-core');
const { DefaultHttpClient } = require('@huaweicloud/huaweicloud-sdk-core/http/DefaultHttpClient');
const { HcClient } = require('@huaweicloud/huaweicloud-sdk-core/HcClient');
const { accessKey, secretKey, projectId, date, host, region, service, endpoint, request, isDerived } =
  JSON.parse(require('fs').readFileSync(0, 'utf-8'));
const credential = new core.BasicCredentials().withAk(accessKey).withSk(secretKey).withProjectId(projectId);
if (isDerived) {
  credential.withDerivedPredicate(() => true);
  credential.processDerivedAuthParams(service, region);
}
const client = new HcClient(new DefaultHttpClient({}, [endpoint]), {})
  .withEndpoints([endpoint]).withCredential(credential);
request.headers = { 'X-Sdk-Date': date, host };
client.sendRequest(request).catch(error => { console.error(error); process.exit(1); });
"""


def node_cases():
    show = {"method": "GET", "url": "/v1/{project_id}/cloudservers/os-server-groups/{id}",
            "contentType": JSON}
    list_ = {"method": "GET", "url": "/v1/{project_id}/cloudservers/os-server-groups", "contentType": JSON}

    def shown(group_id):
        return {**show, "pathParams": {"project_id": PROJECT_ID, "id": group_id}, "queryParams": {}}

    def listed(**query):
        return {**list_, "pathParams": {"project_id": PROJECT_ID}, "queryParams": query}

    yield "node: GET", shown("5bbcc3c4-1da2-4437-a48a-66f15b1b13f9"), False
    yield "node: POST", {**listed(), "method": "POST", "data": json.loads(CREATE)}, False
    yield "node: path with %20", shown("a%20b"), False
    yield "node: path with a space", shown("a b"), False
    yield "node: path with %2F", shown("a%2Fb"), False
    yield "node: path with %c3%a9", shown("caf%c3%a9"), False
    yield "node: path with an @ and a ~", shown("a@b~"), False
    yield "node: query", listed(limit=10, marker="a b/c*d'(e)!~é", k=["b", "a"]), False
    yield "node: derived, path with %2F", shown("a%2Fb"), True


def node_vectors(folder, recorder):
    for name, request, is_derived in node_cases():
        order = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY, "projectId": PROJECT_ID, "date": DATE, "host": HOST,
                 "region": REGION, "service": SERVICE, "endpoint": f"http://{recorder.address}", "request": request,
                 "isDerived": is_derived}
        subprocess.run(["node", "-e", NODE_SCRIPT], cwd=folder, input=json.dumps(order), text=True, check=True,
                       stdout=sys.stderr)
        yield vector(name, *recorder.take())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--node-sdk", metavar="FOLDER", help="where the Node SDK was installed with npm")
    arguments = parser.parse_args()

    os.environ["NO_PROXY"] = "*"
    recorder = Recorder()
    client = HttpClient(HttpConfig.get_default_config(), HttpHandler(), DefaultExceptionHandler(), getLogger("vectors"))
    vectors = [send(case, client, recorder) for case in python_cases()]
    if arguments.node_sdk:
        vectors.extend(node_vectors(arguments.node_sdk, recorder))
    names = [each["name"] for each in vectors]
    assert len(names) == len(set(names)), "two cases have one name"
    sys.stdout.reconfigure(encoding="utf-8")
    print("[\n" + ",\n".join(as_text(each) for each in vectors) + "\n]")


if __name__ == "__main__":
    main()
