//! The ECSs that the service knows: the control listener's routes, `ecs-groupd inventory`, and the rules that need it.
//! And the quotas of a project's own.

use std::path::Path;
use std::process::{Command, Output};

use ecs_groupd::domain::server::ServerStatus;
use ecs_groupd::identities::dev;
use ecs_groupd::settings::{MemberSource, Settings};
use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Process, TestApp, cheap_hash, create_body, group_path, groups_path, records, token_for,
};
use crate::member::{
    add, assert_done, at_once, batch, ecs, members, remove, server_path, wrapped_bad_request,
};

const NEIGHBOUR: &str = "de0000000000000000000000000000aa";
const BEARER: (&str, &str) = ("authorization", "Bearer dev-control-token");

fn servers_path() -> String {
    format!("/control/projects/{}/servers", dev::PROJECT_ID)
}

fn put(app: &TestApp, server_id: &str, body: &Value) -> Answer {
    let path = format!("{}/{server_id}", servers_path());
    app.control_client().send("PUT", &path, &[BEARER], body.to_string().as_bytes())
}

/// Registers an ECS that must be taken.
#[track_caller]
fn register(app: &TestApp, server_id: &str, body: &Value) {
    let answer = put(app, server_id, body);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn unregister(app: &TestApp, server_id: &str) -> Answer {
    app.control_client().send("DELETE", &format!("{}/{server_id}", servers_path()), &[BEARER], &[])
}

#[track_caller]
fn inventory(app: &TestApp) -> Vec<Value> {
    let answer = app.control_client().send("GET", &servers_path(), &[BEARER], &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let servers = answer.json()["servers"].as_array().unwrap().clone();
    assert_eq!(answer.json(), json!({ "servers": servers }));
    servers
}

/// The message of an error of the control listener, which has exactly one key, and is for people.
#[track_caller]
fn control_error(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text);
    answer.request_id();
    let message = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.json(), json!({ "error": message }));
    assert!(!message.is_empty() && !message.starts_with('{'), "{message}");
    message
}

fn used_instances(app: &TestApp) -> Value {
    let limits = app.client.get(&format!("/v1/{}/cloudservers/limits", dev::PROJECT_ID)).json();
    limits["absolute"]["totalInstancesUsed"].clone()
}

#[test]
fn what_is_registered_is_listed_by_id_and_shown_until_it_is_unregistered() {
    let app = TestApp::start();
    assert_eq!(inventory(&app), Vec::<Value>::new());
    let full = json!({ "id": ecs(2), "name": "vm2", "status": "SHUTOFF", "host": "host-a" });
    let answer = put(&app, &ecs(2), &json!({ "name": "vm2", "status": "SHUTOFF", "host": "host-a" }));
    assert_eq!((answer.status, answer.json()), (200, full.clone()));
    let bare = json!({ "id": ecs(1), "name": ecs(1), "status": "ACTIVE", "host": null });
    let answer = put(&app, &ecs(1), &json!({}));
    assert_eq!((answer.status, answer.json()), (200, bare.clone()));
    assert_eq!(inventory(&app), [bare, full.clone()]);
    assert_eq!(used_instances(&app), 2);

    let shown = app.client.get(&server_path(&ecs(2)));
    let expected = json!({ "server": {
        "id": ecs(2), "name": "vm2", "status": "SHUTOFF", "tenant_id": dev::PROJECT_ID,
        "OS-EXT-STS:vm_state": "stopped", "OS-EXT-STS:power_state": 4, "OS-EXT-SRV-ATTR:host": "host-a",
        "os:scheduler_hints": { "group": [] }, "metadata": {}, "addresses": {},
    } });
    assert_eq!((shown.status, shown.json()), (200, expected));
    let shown = app.client.get(&server_path(&ecs(1))).json();
    assert_eq!((&shown["server"]["name"], &shown["server"]["status"]), (&json!(ecs(1)), &json!("ACTIVE")));

    let answer = unregister(&app, &ecs(1));
    assert_eq!((answer.status, &*answer.text), (204, ""));
    assert_eq!(inventory(&app), [full]);
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 404);
    assert_eq!(used_instances(&app), 1);
    assert!(control_error(&unregister(&app, &ecs(1)), 404).contains(&ecs(1)));
    assert!(control_error(&unregister(&app, &ecs(9)), 404).contains(&ecs(9)));
}

#[test]
fn registering_an_ecs_again_replaces_all_that_was_known_of_it() {
    let app = TestApp::start();
    register(&app, &ecs(1), &json!({ "name": "vm1", "status": "SHUTOFF", "host": "host-a" }));
    register(&app, &ecs(1), &json!({ "name": "vm1 renamed" }));
    let renamed = json!({ "id": ecs(1), "name": "vm1 renamed", "status": "ACTIVE", "host": null });
    assert_eq!(inventory(&app), [renamed]);
    assert_eq!(used_instances(&app), 1);
    // However the id is written.
    register(&app, &ecs(0xab).to_uppercase(), &json!({ "name": "x" }));
    register(&app, &ecs(0xab), &json!({ "name": "y" }));
    assert_eq!(inventory(&app).len(), 2);
    assert_eq!(app.client.get(&server_path(&ecs(0xab))).json()["server"]["name"], "y");
}

#[test]
fn every_status_of_an_ecs_is_taken_and_shown() {
    let app = TestApp::start();
    for status in ServerStatus::ALL.map(ServerStatus::as_str) {
        register(&app, &ecs(1), &json!({ "status": status }));
        assert_eq!(app.client.get(&server_path(&ecs(1))).json()["server"]["status"], status);
    }
}

#[test]
fn each_project_has_an_inventory_of_its_own() {
    let app = TestApp::start();
    let control = app.control_client();
    let theirs = format!("/control/projects/{NEIGHBOUR}/servers");
    let body = json!({ "host": "host-a" }).to_string();
    let answer = control.send("PUT", &format!("{theirs}/{}", ecs(1)), &[BEARER], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(inventory(&app), Vec::<Value>::new());
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 404);
    assert_eq!(used_instances(&app), 0);
    assert_eq!(unregister(&app, &ecs(1)).status, 404);
    register(&app, &ecs(1), &json!({ "name": "ours" }));
    let listed = control.send("GET", &theirs, &[BEARER], &[]).json();
    assert_eq!(listed["servers"][0]["name"], ecs(1));
}

#[test]
fn the_inventory_needs_the_control_token() {
    let app = TestApp::start();
    register(&app, &ecs(1), &json!({}));
    let wrong: [&[(&str, &str)]; 7] = [
        &[],
        &[("authorization", "Bearer x")],
        &[("authorization", "Bearer ")],
        &[("authorization", "dev-control-token")],
        &[("authorization", "Basic dev-control-token")],
        &[("x-auth-token", dev::TOKEN)],
        &[("authorization", "Bearer dev-token")],
    ];
    let (control, one) = (app.control_client(), format!("{}/{}", servers_path(), ecs(1)));
    for headers in wrong {
        for (method, path) in [("GET", &servers_path()), ("PUT", &one), ("DELETE", &one)] {
            let message = control_error(&control.send(method, path, headers, b"{"), 401);
            assert!(message.contains("control token"), "{message}");
        }
    }
    assert_eq!(inventory(&app).len(), 1);
    assert_eq!(records(&app.database()).len(), 1);
}

#[test]
fn a_wrong_body_or_path_is_400_and_names_what_is_wrong() {
    let app = TestApp::start();
    let long = "n".repeat(129);
    let bodies = [
        ("", "request body"),
        ("{", "request body"),
        ("[]", "request body must be an object, and is an array"),
        ("null", "request body must be an object, and is null"),
        (r#"{"name":1}"#, "name must be a string, and is a number"),
        (r#"{"name":null}"#, "name must be a string, and is null"),
        (r#"{"name":""}"#, "name must be 1 to 128 characters long, and is empty"),
        (&json!({ "name": long }).to_string(), "name must be 1 to 128 characters long, and has 129"),
        (r#"{"name":"a\nb"}"#, "name must not contain control characters"),
        (r#"{"status":"shutoff"}"#, "status must be one of ACTIVE, "),
        (r#"{"status":"STOPPED"}"#, "status must be one of ACTIVE, "),
        (r#"{"status":["ACTIVE"]}"#, "status must be a string, and is an array"),
        (r#"{"host":""}"#, "host must be 1 to 255 characters long, and is empty"),
        (r#"{"host":{"name":"a"}}"#, "host must be a string, and is an object"),
        (r#"{"host":"a\u0000"}"#, "host must not contain control characters"),
        (r#"{"hostname":"a"}"#, "hostname is not known here"),
        (r#"{"name":"a","flavor":"s6"}"#, "flavor is not known here"),
    ];
    let (control, one) = (app.control_client(), format!("{}/{}", servers_path(), ecs(1)));
    for (body, expected) in bodies {
        let message = control_error(&control.send("PUT", &one, &[BEARER], body.as_bytes()), 400);
        assert!(message.contains(expected), "{body}: {message}");
    }
    for wrong in ["x", "0", &dev::PROJECT_ID.to_uppercase(), &dev::PROJECT_ID[1..]] {
        let path = format!("/control/projects/{wrong}/servers");
        assert!(control_error(&control.send("GET", &path, &[BEARER], &[]), 400).contains("project"));
        for method in ["PUT", "DELETE"] {
            let answer = control.send(method, &format!("{path}/{}", ecs(1)), &[BEARER], b"{}");
            assert!(control_error(&answer, 400).contains("project"));
        }
    }
    for wrong in ["x", &ecs(1)[1..], &ecs(1).replace('-', "")] {
        for method in ["PUT", "DELETE"] {
            let answer = control.send(method, &format!("{}/{wrong}", servers_path()), &[BEARER], b"{}");
            assert!(control_error(&answer, 400).contains("UUID"));
        }
    }
    for (method, path, allow) in [("POST", servers_path(), "GET"), ("POST", one, "PUT, DELETE")] {
        let answer = control.send(method, &path, &[BEARER], b"{}");
        control_error(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allow));
    }
    control_error(&control.send("GET", "/control/projects", &[BEARER], &[]), 404);
    assert_eq!(app.client.get(&servers_path()).status, 404, "the API has none of it");
    app.assert_untouched();
}

#[test]
fn what_the_operator_does_to_the_inventory_is_recorded_and_looking_is_not() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let body = json!({ "name": "vm1", "status": "SHUTOFF", "host": "host-a" });
    let registered = put(&app, &ecs(1), &body);
    assert_done(&add(&app.client, &id, &ecs(1)));
    inventory(&app);
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 200);
    let (unregistered, refused) = (unregister(&app, &ecs(1)), unregister(&app, &ecs(1)));
    let [_, first, _, second, third] = records(&app.database()).try_into().unwrap();
    let (registering, unregistering) = ("ecs-groupd:inventory:register", "ecs-groupd:inventory:unregister");
    let asked = json!({ "server_id": ecs(1), "name": "vm1", "status": "SHUTOFF", "host": "host-a" });
    let message = format!("no ECS {} is registered in this project", ecs(1));
    let reason = json!({ "name": "server_not_found", "message": message });
    let named = json!({ "server_id": ecs(1) });
    for (record, answer, action, name, asked, outcome, reason) in [
        (first, registered, registering, json!("vm1"), asked, "done", Value::Null),
        (second, unregistered, unregistering, Value::Null, named.clone(), "done", Value::Null),
        (third, refused, unregistering, Value::Null, named, "refused", reason),
    ] {
        let expected = json!({
            "v": 1, "seq": record["seq"], "trace_id": record["trace_id"],
            "time": record["time"], "record_time": record["record_time"],
            "request_id": answer.request_id(), "source_ip": "127.0.0.1", "door": "control",
            "actor": { "type": "operator" }, "action": action, "project_id": dev::PROJECT_ID,
            "resource": { "type": "server", "id": ecs(1), "name": name },
            "asked": asked, "outcome": outcome, "reason": reason,
        });
        assert_eq!(record, expected);
    }
}

fn registered_only(settings: &mut Settings) {
    settings.members.source = MemberSource::Registered;
}

#[test]
fn where_only_registered_ecss_may_be_members_any_other_is_not_found() {
    let app = TestApp::start_with(registered_only);
    let id = app.client.create("web");
    let answer = add(&app.client, &id, &ecs(1));
    let message = answer.ecs_error(404, "Ecs.0114");
    assert_eq!(message, format!("Instance[{}] could not be found.", ecs(1)));
    let record = records(&app.database()).pop().unwrap();
    assert_eq!(
        (&record["outcome"], &record["reason"]["name"]),
        (&json!("refused"), &json!("server_not_found"))
    );

    register(&app, &ecs(1), &json!({}));
    assert_done(&add(&app.client, &id, &ecs(1)));
    assert_done(&add(&app.client, &id, &ecs(1)));
    let answer = batch(&app.client, &id, "add_members", &[2, 1].map(ecs));
    let statuses: Vec<_> =
        answer.json()["servers"].as_array().unwrap().iter().map(|server| server["status"].clone()).collect();
    assert_eq!((answer.status, statuses), (200, vec![json!("FAIL"), json!("SUCCESS")]));
    assert_eq!(members(&app.client, &id), [ecs(1)]);
    assert_eq!(unregister(&app, &ecs(1)).status, 204);
    add(&app.client, &id, &ecs(1)).ecs_error(404, "Ecs.0114");
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
}

#[test]
fn a_member_that_was_never_registered_may_leave_where_only_registered_ones_may_come() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_done(&add(&app.client, &id, &ecs(1)));
    let app = TestApp::start_in(app.stop(), registered_only);
    assert_eq!(members(&app.client, &id), [ecs(1)]);
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 200);
    assert_done(&remove(&app.client, &id, &ecs(1)));
    add(&app.client, &id, &ecs(1)).ecs_error(404, "Ecs.0114");
}

#[test]
fn an_ecs_that_another_project_registered_is_not_found_here() {
    let app = TestApp::start_with(registered_only);
    let id = app.client.create("web");
    let path = format!("/control/projects/{NEIGHBOUR}/servers/{}", ecs(1));
    assert_eq!(app.control_client().send("PUT", &path, &[BEARER], b"{}").status, 200);
    add(&app.client, &id, &ecs(1)).ecs_error(404, "Ecs.0114");
}

#[test]
fn where_an_ecs_must_be_stopped_any_other_status_is_refused_as_the_vendors_service_does() {
    let app = TestApp::start_with(|settings| settings.members.require_stopped = true);
    let id = app.client.create("web");
    for status in ServerStatus::ALL.map(ServerStatus::as_str) {
        register(&app, &ecs(1), &json!({ "status": status }));
        let answer = add(&app.client, &id, &ecs(1));
        if status == "SHUTOFF" {
            assert_done(&answer);
            assert_done(&remove(&app.client, &id, &ecs(1)));
            continue;
        }
        let expected = [
            r#"{"error":{"message":"{\"badRequest\": {\"message\": \"Instance "#,
            &ecs(1),
            r#" can not add, cause its state is not STOPPED\", \"code\": 400}}","code":"Ecs.1000"}}"#,
        ];
        assert_eq!((answer.status, answer.text), (400, expected.concat()), "{status}");
    }
    // Of one that is not registered nothing is known, and one that is in stays in when it is started.
    assert_done(&add(&app.client, &id, &ecs(2)));
    register(&app, &ecs(3), &json!({ "status": "SHUTOFF" }));
    assert_done(&add(&app.client, &id, &ecs(3)));
    register(&app, &ecs(3), &json!({ "status": "ACTIVE" }));
    assert_done(&add(&app.client, &id, &ecs(3)));
    assert_eq!(members(&app.client, &id), [2, 3].map(ecs));
    assert_done(&remove(&app.client, &id, &ecs(3)));
    wrapped_bad_request(&add(&app.client, &id, &ecs(3)));
}

#[test]
fn by_default_a_running_ecs_may_be_added() {
    let app = TestApp::start();
    let id = app.client.create("web");
    register(&app, &ecs(1), &json!({ "status": "ACTIVE" }));
    assert_done(&add(&app.client, &id, &ecs(1)));
}

#[test]
fn members_of_a_group_must_be_deployed_on_different_hosts() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    for (nth, host) in [(1, "host-a"), (2, "host-a"), (3, "host-b")] {
        register(&app, &ecs(nth), &json!({ "host": host }));
    }
    register(&app, &ecs(4), &json!({}));
    assert_done(&add(&app.client, &ids[0], &ecs(1)));
    let message = wrapped_bad_request(&add(&app.client, &ids[0], &ecs(2)));
    assert!(message.contains("must be deployed on different hosts"), "{message}");
    assert!(message.contains(&ecs(1)) && message.contains(&ecs(2)), "{message}");
    let record = records(&app.database()).pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]["name"]), (&json!("refused"), &json!("host_taken")));
    // Another host, and those whose host nobody knows.
    for nth in [3, 4, 5, 6] {
        assert_done(&add(&app.client, &ids[0], &ecs(nth)));
    }
    assert_done(&add(&app.client, &ids[1], &ecs(2)));
    assert_done(&remove(&app.client, &ids[1], &ecs(2)));
    assert_done(&remove(&app.client, &ids[0], &ecs(1)));
    assert_done(&add(&app.client, &ids[0], &ecs(2)));
}

#[test]
fn a_member_cannot_move_to_the_host_of_another_one_of_its_group() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    for (nth, host) in [(1, "host-a"), (2, "host-b")] {
        register(&app, &ecs(nth), &json!({ "host": host }));
        assert_done(&add(&app.client, &ids[0], &ecs(nth)));
    }
    // One that nobody knows may be a member; where it runs is told later.
    assert_done(&add(&app.client, &ids[0], &ecs(3)));
    for nth in [2, 3] {
        let refused = put(&app, &ecs(nth), &json!({ "host": "host-a" }));
        assert!((400..500).contains(&refused.status), "{}", refused.text);
        let message = control_error(&refused, refused.status);
        assert!(message.contains(&ecs(nth)) && message.contains(&ecs(1)), "{message}");
    }
    let hosts: Vec<_> = inventory(&app).iter().map(|server| server["host"].clone()).collect();
    assert_eq!(hosts, ["host-a", "host-b"]);
    register(&app, &ecs(1), &json!({ "host": "host-a", "status": "SHUTOFF" }));
    register(&app, &ecs(2), &json!({ "host": "host-c" }));
    register(&app, &ecs(3), &json!({ "host": "host-b" }));
    register(&app, &ecs(4), &json!({ "host": "host-a" }));
    assert_done(&add(&app.client, &ids[1], &ecs(4)));
    assert_eq!(members(&app.client, &ids[0]), [1, 2, 3].map(ecs));
}

#[test]
fn of_many_ecss_of_one_host_exactly_one_gets_into_a_group() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let clients: Vec<_> = (0..12).map(|nth| (Client::new(app.api), ecs(nth))).collect();
    for (_, server_id) in &clients {
        register(&app, server_id, &json!({ "host": "host-a" }));
    }
    let answers = at_once(&clients, |(client, server_id)| add(client, &id, server_id));
    let (won, lost): (Vec<_>, Vec<_>) =
        answers.iter().zip(&clients).partition(|(answer, _)| answer.status == 200);
    let [(_, (_, winner))] = won[..] else { panic!("{} won", won.len()) };
    for (answer, _) in lost {
        assert!(wrapped_bad_request(answer).contains(&**winner), "{}", answer.text);
    }
    assert_eq!(members(&app.client, &id), std::slice::from_ref(winner));
}

#[test]
fn unregistering_an_ecs_takes_it_out_of_its_group() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    for nth in [1, 2] {
        register(&app, &ecs(nth), &json!({ "host": format!("host-{nth}") }));
        assert_done(&add(&app.client, &ids[0], &ecs(nth)));
    }
    // Whoever looked before sees the difference.
    assert_eq!(members(&app.client, &ids[0]), [1, 2].map(ecs));
    assert_eq!(app.client.get(&groups_path()).status, 200);
    assert_eq!(unregister(&app, &ecs(1)).status, 204);
    assert_eq!(members(&app.client, &ids[0]), [ecs(2)]);
    let listed = app.client.get(&groups_path()).json();
    assert_eq!(listed["server_groups"][0]["members"], json!([ecs(2)]));
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 404);
    wrapped_bad_request(&remove(&app.client, &ids[0], &ecs(1)));
    assert_done(&add(&app.client, &ids[1], &ecs(1)));
}

#[test]
fn deleting_a_group_leaves_the_inventory_as_it_is() {
    let app = TestApp::start();
    let id = app.client.create("web");
    register(&app, &ecs(1), &json!({ "name": "vm1" }));
    assert_done(&add(&app.client, &id, &ecs(1)));
    assert_eq!(app.client.delete(&group_path(&id)).status, 204);
    let shown = app.client.get(&server_path(&ecs(1))).json();
    assert_eq!(shown["server"]["os:scheduler_hints"], json!({ "group": [] }));
    assert_eq!(inventory(&app).len(), 1);
}

#[test]
fn the_inventory_survives_a_restart() {
    let app = TestApp::start();
    let id = app.client.create("web");
    register(&app, &ecs(1), &json!({ "name": "vm1 é", "status": "SHUTOFF", "host": "host-a" }));
    register(&app, &ecs(2), &json!({ "host": "host-a" }));
    assert_done(&add(&app.client, &id, &ecs(1)));
    let before = (inventory(&app), app.client.get(&server_path(&ecs(1))).json());
    let app = TestApp::start_in(app.stop(), |_| {});
    assert_eq!((inventory(&app), app.client.get(&server_path(&ecs(1))).json()), before);
    wrapped_bad_request(&add(&app.client, &id, &ecs(2)));
}

#[test]
fn a_reset_forgets_every_registered_ecs_and_every_member() {
    let app = TestApp::start_with(registered_only);
    let id = app.client.create("web");
    register(&app, &ecs(1), &json!({}));
    register(&app, &ecs(2), &json!({}));
    assert_done(&add(&app.client, &id, &ecs(1)));
    assert_eq!(app.control_client().send("POST", "/control/reset", &[BEARER], &[]).status, 204);
    assert_eq!((inventory(&app), used_instances(&app)), (Vec::new(), json!(0)));
    for nth in [1, 2] {
        assert_eq!(app.client.get(&server_path(&ecs(nth))).status, 404);
    }
    let id = app.client.create("web");
    add(&app.client, &id, &ecs(1)).ecs_error(404, "Ecs.0114");
    register(&app, &ecs(1), &json!({}));
    assert_done(&add(&app.client, &id, &ecs(1)));
}

/// Runs `ecs-groupd inventory`, without the environment of whoever runs the tests.
fn verb(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.arg("inventory").args(arguments).args(["--database", "ecs-groupd.db"]);
    command.env_clear().current_dir(folder).output().unwrap()
}

#[track_caller]
fn assert_failed(output: &Output, code: i32, message: &str) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(code), &b""[..]), "{said}");
    assert!(said.contains(message), "{said:?} does not say {message:?}");
}

#[track_caller]
fn words(output: &Output) -> Vec<Vec<String>> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn without_a_service_the_inventory_is_kept_by_the_program() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_done(&add(&app.client, &id, &ecs(1)));
    assert_done(&add(&app.client, &id, &ecs(2)));
    let folder = app.stop();
    let here = folder.path();
    assert_eq!(words(&verb(here, &["list"])), Vec::<Vec<String>>::new());
    let described = ["--name", "vm1", "--status", "SHUTOFF", "--host", "host-a"];
    words(&verb(here, &[&["put", &ecs(1)][..], &described].concat()));
    words(&verb(here, &["put", &ecs(2)]));
    words(&verb(here, &["put", &ecs(3), "--project", NEIGHBOUR]));
    let one = [ecs(1), "SHUTOFF".to_owned(), "host-a".to_owned(), "vm1".to_owned()].to_vec();
    let two = [ecs(2), "ACTIVE".to_owned(), "-".to_owned(), ecs(2)].to_vec();
    assert_eq!(words(&verb(here, &["list"])), [one, two]);
    assert_eq!(words(&verb(here, &["list", "--project", NEIGHBOUR])).len(), 1);
    words(&verb(here, &["remove", &ecs(2)]));
    assert_eq!(words(&verb(here, &["list"])).len(), 1);

    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(members(&app.client, &id), [ecs(1)], "what is forgotten left its group");
    assert_eq!(app.client.get(&server_path(&ecs(1))).json()["server"]["name"], "vm1");
    let records = records(&app.database());
    let written: Vec<_> = records[3..]
        .iter()
        .map(|record| (&record["door"], &record["actor"], record["action"].as_str().unwrap()))
        .collect();
    let (door, operator) = (json!("cli"), json!({ "type": "operator" }));
    let (put, gone) = ("ecs-groupd:inventory:register", "ecs-groupd:inventory:unregister");
    assert_eq!(written, [put, put, put, gone].map(|action| (&door, &operator, action)));
}

#[test]
fn what_the_program_cannot_do_to_an_inventory_it_says_with_its_exit_code() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for nth in [1, 2] {
        register(&app, &ecs(nth), &json!({ "host": format!("host-{nth}") }));
        assert_done(&add(&app.client, &id, &ecs(nth)));
    }
    let before = inventory(&app);
    let folder = app.stop();
    let here = folder.path();
    assert_failed(&verb(here, &["remove", &ecs(9)]), 1, &ecs(9));
    assert_failed(&verb(here, &["put", &ecs(2), "--host", "host-1"]), 1, "host");
    for (arguments, message) in [
        (&["put", "x"][..], "UUID"),
        (&["remove", "x"], "UUID"),
        (&["put", &ecs(3), "--status", "shutoff"], "--status must be one of ACTIVE"),
        (&["put", &ecs(3), "--name", ""], "--name must be 1 to 128 characters long"),
        (&["put", &ecs(3), "--host", "a\nb"], "--host must not contain control characters"),
        (&["put", &ecs(3), "--project", "x"], "--project"),
        (&["list", "--project", &dev::PROJECT_ID.to_uppercase()], "--project"),
        (&["remove", &ecs(1), "--project", ""], "--project"),
        (&["put"], "required"),
        (&["put", &ecs(3), "--flavor", "s6"], "--flavor"),
        (&["rename", &ecs(3)], "rename"),
    ] {
        assert_failed(&verb(here, arguments), 2, message);
    }
    std::fs::write(here.join("settings.toml"), "[member]\n").unwrap();
    assert_failed(&verb(here, &["list", "--config", "settings.toml"]), 3, "member");
    let empty = tempfile::tempdir().unwrap();
    for arguments in [&["list"][..], &["put", &ecs(1)], &["remove", &ecs(1)]] {
        assert_failed(&verb(empty.path(), arguments), 1, "there is no database");
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "and none is made");
    }
    let foreign = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(foreign.path().join("ecs-groupd.db")).unwrap();
    conn.execute_batch("create table somebody_elses (x)").unwrap();
    drop(conn);
    assert_failed(&verb(foreign.path(), &["put", &ecs(1)]), 5, "");

    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(inventory(&app), before);
    assert_eq!(members(&app.client, &id), [1, 2].map(ecs));
}

#[test]
fn while_a_service_holds_the_database_the_program_leaves_its_inventory_alone() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    for arguments in [&["put", &ecs(1)][..], &["remove", &ecs(1)]] {
        assert_failed(&verb(folder.path(), arguments), 4, "");
    }
    assert_eq!(process.client.get(&server_path(&ecs(1))).status, 404);
    assert_eq!(process.terminate(), Some(0));
    words(&verb(folder.path(), &["put", &ecs(1)]));
}

const PASSWORD: &str = "correct horse battery staple";
const SMALL: &str = "a0000000000000000000000000000001";
const LARGE: &str = "a0000000000000000000000000000002";

/// An account with two projects, one of them with such quotas of its own.
fn accounts(quotas: &str) -> String {
    let hash = cheap_hash(PASSWORD);
    format!(
        "[[domain]]
         name = 'acme'
         root = {{ password_hash = '{hash}' }}
         project = [{{ name = 'small', id = '{SMALL}' {quotas} }}, {{ name = 'large', id = '{LARGE}' }}]
        "
    )
}

/// The owner of a project.
struct Tenant {
    client: Client,
    groups: String,
}

impl Tenant {
    fn of(app: &TestApp, project: &str, project_id: &str) -> Self {
        let token = token_for(&app.client, "acme", "acme", PASSWORD, project);
        let groups = format!("/v1/{project_id}/cloudservers/os-server-groups");
        Self { client: app.client.with_token(&token), groups }
    }

    fn create(&self) -> Answer {
        self.client.post_json(&self.groups, &create_body("web"))
    }

    fn add(&self, group_id: &str, nth: usize) -> Answer {
        let body = json!({ "add_member": { "instance_uuid": ecs(nth) } });
        self.client.post_json(&format!("{}/{group_id}/action", self.groups), &body.to_string())
    }

    /// Quotas as v1 shows them; the native interface must show the same.
    fn quotas(&self) -> (u64, u64, u64) {
        let v1 =
            self.client.get(&self.groups.replace("os-server-groups", "limits")).json()["absolute"].clone();
        let native = self.groups.replace("/v1/", "/v2.1/").replace("cloudservers/os-server-groups", "limits");
        assert_eq!(self.client.get(&native).json()["limits"]["absolute"], v1);
        let number = |name: &str| v1[name].as_u64().unwrap();
        (number("maxServerGroups"), number("maxServerGroupMembers"), number("totalServerGroupsUsed"))
    }
}

fn id_of(created: &Answer) -> String {
    assert_eq!(created.status, 200, "{}", created.text);
    created.json()["server_group"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_project_with_quotas_of_its_own_has_those_and_any_other_the_settings() {
    let app = TestApp::start_with_identities(&accounts(", groups = 2, members_per_group = 1"), |settings| {
        settings.quota.groups_per_project = 3;
        settings.quota.members_per_group = 2;
    });
    for (project, project_id, groups, members) in [("small", SMALL, 2, 1), ("large", LARGE, 3, 2)] {
        let tenant = Tenant::of(&app, project, project_id);
        assert_eq!(tenant.quotas(), (groups, members, 0), "{project}");
        let ids: Vec<_> = (0..groups).map(|_| id_of(&tenant.create())).collect();
        assert_eq!(tenant.quotas(), (groups, members, groups), "{project}");
        let message = tenant.create().ecs_error(403, "Ecs.1000");
        assert!(message.contains("Quota exceeded, too many server groups."), "{message}");
        for nth in 0..usize::try_from(members).unwrap() {
            assert_done(&tenant.add(&ids[0], nth));
        }
        tenant.add(&ids[0], 9).ecs_error(400, "Ecs.0022");
        assert_done(&tenant.add(&ids[1], 9));
    }
}

#[test]
fn one_quota_of_a_projects_own_leaves_the_other_to_the_settings() {
    for (quotas, expected) in [(", groups = 2", (2, 16, 0)), (", members_per_group = 1", (10_000, 1, 0))] {
        let app = TestApp::start_with_identities(&accounts(quotas), |_| {});
        assert_eq!(Tenant::of(&app, "small", SMALL).quotas(), expected);
        assert_eq!(Tenant::of(&app, "large", LARGE).quotas(), (10_000, 16, 0));
    }
}

#[test]
fn quotas_of_a_projects_own_change_with_a_reload_and_what_is_beyond_them_stays() {
    let app = TestApp::start_with_identities(&accounts(", groups = 1, members_per_group = 1"), |_| {});
    let tenant = Tenant::of(&app, "small", SMALL);
    let id = id_of(&tenant.create());
    assert_done(&tenant.add(&id, 1));
    tenant.add(&id, 2).ecs_error(400, "Ecs.0022");
    assert_eq!(tenant.create().status, 403);

    app.reload(&accounts(", groups = 2, members_per_group = 3"));
    assert_eq!(tenant.quotas(), (2, 3, 1));
    assert_done(&tenant.add(&id, 2));
    id_of(&tenant.create());

    app.reload(&accounts(", groups = 1, members_per_group = 1"));
    assert_eq!(tenant.quotas(), (1, 1, 2));
    let shown = tenant.client.get(&format!("{}/{id}", tenant.groups)).json();
    assert_eq!(shown["server_group"]["members"], json!([1, 2].map(ecs)));
    tenant.add(&id, 3).ecs_error(400, "Ecs.0022");
    assert_eq!(tenant.create().status, 403);
}

#[test]
fn a_quota_of_a_projects_own_is_met_exactly_by_many_clients_at_once() {
    let app = TestApp::start_with_identities(&accounts(", groups = 5, members_per_group = 3"), |_| {});
    let tenants: Vec<_> = (0..12).map(|nth| (Tenant::of(&app, "small", SMALL), nth)).collect();
    let created = at_once(&tenants, |(tenant, _)| tenant.create());
    let made: Vec<_> = created.iter().filter(|answer| answer.status == 200).map(id_of).collect();
    assert_eq!((made.len(), tenants[0].0.quotas()), (5, (5, 3, 5)));
    let added = at_once(&tenants, |(tenant, nth)| tenant.add(&made[0], *nth).status);
    assert_eq!(added.iter().filter(|status| **status == 200).count(), 3, "{added:?}");
}

#[test]
fn a_quota_that_is_no_number_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for quotas in [", groups = -1", ", groups = '2'", ", members_per_group = 1.5", ", members = 3"] {
        let file = folder.path().join("identities.toml");
        crate::harness::write_secret(&file, &accounts(quotas));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
        let output = command.args(["identity", "check"]).arg(&file).env_clear().output().unwrap();
        assert_failed(&output, 3, "identities.toml:4: ");
    }
}
