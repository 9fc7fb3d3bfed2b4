"""The vendor's Python SDK, as it is, against a running server.

    ecs-groupd serve --dev --listen 127.0.0.1:0 --ephemeral --ready-file ready.json &
    python3 -m venv venv
    venv/bin/pip install -r requirements.txt
    venv/bin/python round_trip.py ready.json

It creates, lists, shows and deletes groups with each kind of credentials that the SDK has, asks the identity service
what the SDK asks it, and reads in the audit log what it did. It prints a line for each step, and stops with exit status 1 at the first surprise. The
groups that it made are then still there.

Wrong secrets are tried too, four times in all: fewer than lock the access key.
"""

import json
import os
import sys

from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException, SdkException
from huaweicloudsdkcore.http.http_handler import HttpHandler
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcts.v3 import CtsClient, ListOperationsRequest, ListTracesRequest
from huaweicloudsdkecs.v2 import (
    CreateServerGroupOption,
    CreateServerGroupRequest,
    CreateServerGroupRequestBody,
    DeleteServerGroupRequest,
    EcsClient,
    ListServerGroupsRequest,
    ShowServerGroupRequest,
)
from huaweicloudsdkiam.v3 import (
    IamClient,
    KeystoneListAuthDomainsRequest,
    KeystoneListProjectsRequest,
)

WRONG_SECRET = "wrong-secret-key-00000000000000000000001"


class Surprise(Exception):
    """The server did not do what the SDK's users count on."""


class Server:
    """Where the server is, and who may ask it: what its ready file says."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            ready = json.load(file)
        self.api_url = ready["api_url"]
        self.project_id = ready["project_id"]
        self.access_key = ready["access_key"]
        self.secret_key = ready["secret_key"]
        self.region = Region(id=ready["region"], endpoint=self.api_url)


class Wire:
    """Sees the requests that the SDK sends."""

    def __init__(self):
        self.handler = HttpHandler().add_request_handler(lambda request, **_: self.requests.append(request))
        self.requests = []

    def uris(self):
        return [request.uri for request in self.requests]

    def algorithms(self):
        return {request.header_params["Authorization"].split(" ")[0] for request in self.requests}


def step(text):
    print(text, flush=True)


def expect(is_so, text):
    if not is_so:
        raise Surprise(text)


def expect_equal(actual, expected, text):
    expect(actual == expected, f"{text}: expected {expected!r}, got {actual!r}")


def expect_refusal(call, status, code, message=""):
    """Makes a call that must be refused."""
    try:
        answer = call()
    except ClientRequestException as refusal:
        expect_equal(refusal.status_code, status, "the status of a refusal")
        expect_equal(refusal.error_code, code, "the code of a refusal")
        expect(message in refusal.error_msg, f"the refusal says {refusal.error_msg!r}, and not {message!r}")
        expect(refusal.request_id, "the refusal has no request id")
        return
    raise Surprise(f"expected {status} {code}, got {answer}")


def ecs_client(server, credentials, wire=None):
    builder = EcsClient.new_builder().with_region(server.region).with_credentials(credentials)
    # A service whose requests are signed with a derived key has its generated client call this; that of ECS does not.
    builder._with_derived_auth_service_name("ecs")
    return builder.with_http_handler(wire.handler if wire else None).build()


def create(client, name):
    option = CreateServerGroupOption(name=name, policies=["anti-affinity"])
    request = CreateServerGroupRequest(body=CreateServerGroupRequestBody(server_group=option))
    response = client.create_server_group(request)
    expect_equal(response.status_code, 200, f"the status of creating {name}")
    expect(response.server_group.id, f"{name} has no id")
    step(f"  created {name}: {response.server_group.id}")
    return response.server_group.id


def show(client, group_id):
    return client.show_server_group(ShowServerGroupRequest(server_group_id=group_id))


def ids_of_list(client):
    response = client.list_server_groups(ListServerGroupsRequest())
    return [group.id for group in response.server_groups]


def ids_of_pages(client):
    """All groups, a page of one at a time."""
    ids = []
    marker = None
    while True:
        response = client.list_server_groups(ListServerGroupsRequest(limit=1, marker=marker))
        expect(len(response.server_groups) <= 1, "a page with limit=1 has more than one group")
        ids.extend(group.id for group in response.server_groups)
        marker = response.page_info.next_marker if response.page_info else None
        if not marker:
            return ids
        expect_equal(marker, ids[-1], "the next marker")
        expect_equal(len(ids), len(set(ids)), "how many groups the pages have, and how many of them differ")


def round_trip(client):
    """Two groups, from creation to deletion."""
    names = {}
    for name in ("round-trip-1", "round-trip-2"):
        names[create(client, name)] = name

    ids = ids_of_list(client)
    expect(set(names) <= set(ids), f"the list lacks a group: {ids}")
    step(f"  listed {len(ids)}")
    expect_equal(ids_of_pages(client), ids, "the groups of the pages")
    step(f"  listed {len(ids)} by limit and marker")

    group_id = next(iter(names))
    group = show(client, group_id).server_group
    expect_equal(group.to_dict(), {"id": group_id, "name": names[group_id], "policies": ["anti-affinity"],
                                   "members": [], "metadata": {}}, "the group")
    step(f"  showed {group.name}")

    for group_id, name in names.items():
        response = client.delete_server_group(DeleteServerGroupRequest(server_group_id=group_id))
        expect_equal(response.status_code, 204, f"the status of deleting {name}")
        expect_refusal(lambda: show(client, group_id), 404, "Ecs.1000")
        step(f"  deleted {name}, and did not find it again")


def refuse_wrong_secret(server, credentials):
    client = ecs_client(server, credentials)
    expect_refusal(lambda: ids_of_list(client), 401, "APIGW.0301", "verify aksk signature fail")
    step("  refused a wrong secret")


def with_project_id(server):
    step("BasicCredentials with a project id")
    wire = Wire()
    round_trip(ecs_client(server, BasicCredentials(server.access_key, server.secret_key, server.project_id), wire))
    expect_equal(wire.algorithms(), {"SDK-HMAC-SHA256"}, "the signatures' algorithms")
    refuse_wrong_secret(server, BasicCredentials(server.access_key, WRONG_SECRET, server.project_id))


def without_project_id(server):
    step("BasicCredentials without a project id")
    # The SDK looks the project up while it builds the client, and remembers it by access key and region.
    try:
        ecs_client(server, BasicCredentials(server.access_key, WRONG_SECRET).with_iam_endpoint(server.api_url))
    except SdkException as refusal:
        expect("verify aksk signature fail" in str(refusal), f"a wrong secret is refused with {refusal}")
        step("  refused to look the project up with a wrong secret")
    else:
        raise Surprise("the project is found with a wrong secret")

    wire = Wire()
    credentials = BasicCredentials(server.access_key, server.secret_key).with_iam_endpoint(server.api_url)
    client = ecs_client(server, credentials, wire)
    expect_equal(wire.uris(), [f"/v3/projects?name={server.region.id}"], "what building the client asks")
    expect_equal(credentials.project_id, server.project_id, "the project that the SDK found")
    step(f"  looked the project up: {credentials.project_id}")
    round_trip(client)
    # The project is known by now: no lookup.
    refuse_wrong_secret(server, BasicCredentials(server.access_key, WRONG_SECRET))


def with_derived_key(server):
    step("BasicCredentials with a derived key (V11-HMAC-SHA256)")

    def credentials(secret_key):
        # The default predicate derives the key where the server is none of the vendor's own.
        basic = BasicCredentials(server.access_key, secret_key, server.project_id)
        return basic.with_derived_predicate(BasicCredentials.get_default_derived_predicate())

    wire = Wire()
    round_trip(ecs_client(server, credentials(server.secret_key), wire))
    expect_equal(wire.algorithms(), {"V11-HMAC-SHA256"}, "the signatures' algorithms")
    refuse_wrong_secret(server, credentials(WRONG_SECRET))


def identity_service(server, credentials):
    """What the SDK's own client of the identity service sees. Gives back the account's id."""
    client = IamClient.new_builder().with_region(server.region).with_credentials(credentials).build()

    projects = client.keystone_list_projects(KeystoneListProjectsRequest(name=server.region.id)).projects
    expect_equal([project.id for project in projects], [server.project_id], "the projects of the region")
    expect_equal(projects[0].name, server.region.id, "the project's name")
    expect(server.project_id in [project.id for project in
                                 client.keystone_list_projects(KeystoneListProjectsRequest()).projects],
           "the list of all projects lacks the project")
    nothing = client.keystone_list_projects(KeystoneListProjectsRequest(name="no-such-region"))
    expect_equal(nothing.projects, [], "the projects of a region that there is not")
    step(f"  listed the projects: {projects[0].id} {projects[0].name}")

    domains = client.keystone_list_auth_domains(KeystoneListAuthDomainsRequest()).domains
    expect_equal(len(domains), 1, "how many accounts there are")
    expect_equal(domains[0].id, projects[0].domain_id, "the account's id, and that of the project's account")
    step(f"  listed the accounts: {domains[0].id} {domains[0].name}")
    return domains[0].id


def identity(server):
    step("the identity service, with BasicCredentials")
    basic = BasicCredentials(server.access_key, server.secret_key, server.project_id)
    domain_id = identity_service(server, basic)

    step("the identity service, with GlobalCredentials")
    # By the environment this time. The SDK asks for the account while it builds the client.
    os.environ["HUAWEICLOUD_SDK_IAM_ENDPOINT"] = server.api_url
    credentials = GlobalCredentials(server.access_key, server.secret_key)
    identity_service(server, credentials)
    expect_equal(credentials.domain_id, domain_id, "the account that the SDK found")
    step(f"  looked the account up: {credentials.domain_id}")


def traces_of_pages(client, **filters):
    """All traces that the filters leave, a page of two at a time."""
    traces = []
    marker = None
    while True:
        response = client.list_traces(ListTracesRequest(trace_type="system", limit=2, next=marker, **filters))
        expect_equal(response.meta_data.count, len(response.traces), "the count of a page of traces")
        traces.extend(response.traces)
        marker = response.meta_data.marker
        if not marker:
            ids = [trace.trace_id for trace in traces]
            expect_equal(len(ids), len(set(ids)), "how many traces the pages have, and how many of them differ")
            return traces
        expect_equal(marker, traces[-1].trace_id, "the marker of a page of traces")


def audit(server):
    step("the audit log, with BasicCredentials")
    credentials = BasicCredentials(server.access_key, server.secret_key, server.project_id)
    ecs = ecs_client(server, credentials)
    client = CtsClient.new_builder().with_region(server.region).with_credentials(credentials).build()

    group_id = create(ecs, "audited")
    ecs.delete_server_group(DeleteServerGroupRequest(server_group_id=group_id))
    expect_refusal(
        lambda: ecs.delete_server_group(DeleteServerGroupRequest(server_group_id=group_id)), 404, "Ecs.1000")
    traces = traces_of_pages(client, resource_id=group_id)
    expect_equal([(trace.trace_name, trace.trace_rating, trace.code) for trace in traces],
                 [("deleteServerGroup", "warning", "404"), ("deleteServerGroup", "normal", "204"),
                  ("createServerGroup", "normal", "200")], "the traces of the group, newest first")
    trace = traces[-1]
    expect_equal((trace.service_type, trace.resource_type, trace.resource_id, trace.resource_name, trace.trace_type),
                 ("ECS", "serverGroup", group_id, "audited", "ApiCall"), "what the trace is about")
    expect_equal(json.loads(trace.request), {"server_group": {"name": "audited", "policies": ["anti-affinity"]}},
                 "the request of the trace")
    expect_equal(json.loads(trace.response), {"server_group": {"id": group_id}}, "the response of the trace")
    expect_equal(trace.user.access_key_id, server.access_key, "the access key of the trace")
    expect(trace.user.name and trace.user.domain.name and trace.source_ip and trace.request_id,
           f"the trace does not say who made the request from where: {trace}")
    expect_equal((trace.read_only, trace.user.principal_is_root_user), (False, "true"), "two flags of the trace")
    step(f"  listed the traces of one group: {len(traces)}")

    everything = traces_of_pages(client)
    expect(len(everything) > len(traces), f"there are only {len(everything)} traces")
    times = [trace.record_time for trace in everything]
    expect_equal(times, sorted(times, reverse=True), "the times of the traces")
    in_window = traces_of_pages(client, _from=trace.record_time, to=traces[0].record_time)
    expect({each.trace_id for each in traces} <= {each.trace_id for each in in_window},
           "from and to leave out what was recorded then")
    only = client.list_traces(ListTracesRequest(trace_type="system", trace_id=trace.trace_id))
    expect_equal([each.trace_id for each in only.traces], [trace.trace_id], "the trace of an id")
    step(f"  listed all traces: {len(everything)}")

    expect_refusal(lambda: client.list_traces(ListTracesRequest(trace_type="system", limit=201)), 400, "CTS.0300",
                   "limit must be a whole number from 0 to 200")
    step("  refused a limit of 201")

    request = ListOperationsRequest(service_type="ECS", resource_type="serverGroup")
    operations = client.list_operations(request).operations
    expect_equal([(each.service_type, each.resource_type) for each in operations], [("ECS", "serverGroup")],
                 "the services and resource types of the operations")
    expect({each.trace_name for each in traces} <= set(operations[0].operation_list),
           f"the operations lack one that has a trace: {operations[0].operation_list}")
    expect(len(client.list_operations(ListOperationsRequest()).operations) > 1, "there is only one resource type")
    step(f"  listed the operations on groups: {len(operations[0].operation_list)}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: round_trip.py READY_FILE")
    # The server is here, whatever proxy the environment names.
    os.environ["NO_PROXY"] = "*"
    server = Server(sys.argv[1])
    try:
        with_project_id(server)
        without_project_id(server)
        with_derived_key(server)
        identity(server)
        audit(server)
    except (Surprise, SdkException) as surprise:
        sys.exit(f"SURPRISE: {surprise}")
    step("all as expected")


if __name__ == "__main__":
    main()
