//! "Creating an ECS Group".

use std::collections::HashSet;

use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use serde_json::{Value, json};

use crate::harness::{Client, NOW, TestApp, create_body, group_path, groups_path, records, send_raw};

/// A request and its answer, in the four blocks of a file of `tests/vectors/`: each has a head and a body.
struct Vector {
    request_head: String,
    request_body: String,
    status_line: String,
    content_type: String,
    body: String,
}

impl Vector {
    /// Reads a file, with `{project_id}` and `{token}` filled in. `{id}` is only known from the answer.
    fn parse(file: &str) -> Self {
        let file = file.replace("{project_id}", dev::PROJECT_ID).replace("{token}", dev::TOKEN);
        let blocks: Vec<&str> = file.trim_end().split("\n\n").collect();
        let [request_head, request_body, answer_head, body] = blocks[..] else { panic!("four blocks") };
        let (status_line, content_type) = answer_head.split_once('\n').unwrap();
        Self {
            request_head: request_head.replace('\n', "\r\n"),
            request_body: request_body.to_owned(),
            status_line: status_line.to_owned(),
            content_type: content_type.strip_prefix("Content-Type: ").unwrap().to_owned(),
            body: body.to_owned(),
        }
    }

    /// The request, with the headers that every client adds.
    fn request(&self) -> Vec<u8> {
        let Self { request_head, request_body, .. } = self;
        let length = request_body.len();
        let added = format!("Host: localhost\r\nContent-Length: {length}\r\nConnection: close");
        format!("{request_head}\r\n{added}\r\n\r\n{request_body}").into_bytes()
    }
}

#[test]
fn the_vendors_example_is_answered_byte_for_byte() {
    let app = TestApp::start();
    let vector = Vector::parse(include_str!("../vectors/create_server_group.http"));
    let answer = send_raw(app.api, &vector.request());
    let id = answer.json()["server_group"]["id"].as_str().unwrap().to_owned();
    assert_eq!(vector.status_line, format!("HTTP/1.1 {} OK", answer.status));
    assert_eq!(answer.header("content-type"), Some(&*vector.content_type));
    assert_eq!(answer.text, vector.body.replace("{id}", &id));
    assert_eq!(app.client.list_ids(), [id]);
}

#[test]
fn a_created_group_is_answered_shown_and_listed_with_exactly_the_five_keys() {
    let app = TestApp::start();
    let created = app.client.post_json(&groups_path(), &create_body("web"));
    assert_eq!(created.status, 200);
    let group = created.json()["server_group"].clone();
    let id = group["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "name": "web", "policies": ["anti-affinity"], "members": [], "metadata": {},
    });
    assert_eq!(group, expected);
    assert_eq!(app.client.get(&group_path(id)).json()["server_group"], expected);
    assert_eq!(app.client.get(&groups_path()).json(), json!({ "server_groups": [expected] }));
}

#[test]
fn a_name_of_1_to_255_characters_is_kept_as_it_was_sent() {
    let app = TestApp::start();
    let widest = "\u{10ffff}".repeat(255);
    let names =
        ["x", &"x".repeat(255), "é", &"é".repeat(255), "🦀", &widest, " ", " spaced ", "\"\\/\u{2028}"];
    for name in names {
        let id = app.client.create(name);
        let shown = app.client.get(&group_path(&id)).json();
        assert_eq!(shown["server_group"]["name"], name);
    }
    let listed = app.client.get(&groups_path()).json();
    let listed = listed["server_groups"].as_array().unwrap().iter().map(|group| group["name"].clone());
    assert_eq!(listed.collect::<Vec<_>>(), names);
}

#[test]
fn keys_of_the_body_that_are_not_known_are_ignored() {
    let app = TestApp::start();
    let body = json!({
        "server_group": {
            "name": "web", "policies": ["anti-affinity"],
            "id": "mine", "members": ["x"], "metadata": { "a": 1 }, "fault_domain": null, "": [],
        },
        "os:scheduler_hints": {}, "dry_run": true,
    });
    let answer = app.client.post_json(&groups_path(), &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    let group = &answer.json()["server_group"];
    assert_ne!(group["id"], "mine");
    assert_eq!((&group["members"], &group["metadata"]), (&json!([]), &json!({})));
}

#[test]
fn two_groups_may_have_the_same_name() {
    let app = TestApp::start();
    let ids = [app.client.create("web"), app.client.create("web")];
    assert_ne!(ids[0], ids[1]);
    assert_eq!(app.client.list_ids(), ids);
}

#[test]
fn a_trailing_slash_makes_no_difference() {
    let app = TestApp::start();
    let answer = app.client.post_json(&format!("{}/", groups_path()), &create_body("web"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.json()["server_group"]["id"].as_str().unwrap().to_owned();
    assert_eq!(app.client.get(&format!("{}/", groups_path())).json()["server_groups"][0]["id"], id);
    assert_eq!(app.client.get(&format!("{}/", group_path(&id))).json()["server_group"]["id"], id);
    assert_eq!(app.client.delete(&format!("{}/", group_path(&id))).status, 204);
}

#[test]
fn every_answer_has_a_request_id_of_its_own() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let control = app.control_client();
    let bearer = ("authorization", "Bearer dev-control-token");
    let (api, groups, group) = (&app.client, &*groups_path(), &*group_path(&id));
    let requests: [(&Client, &str, &str, &[(&str, &str)], u16); 15] = [
        (api, "GET", groups, &[], 200),
        (api, "GET", group, &[], 200),
        (api, "POST", groups, &[], 400),
        (api, "POST", groups, &[("x-auth-token", "x")], 401),
        (api, "GET", "/v1/x/cloudservers/os-server-groups", &[], 400),
        (api, "GET", &group_path("x"), &[], 404),
        (api, "GET", "/nowhere", &[], 404),
        (api, "PATCH", groups, &[], 405),
        (api, "DELETE", group, &[], 204),
        (api, "GET", "/livez", &[], 200),
        (api, "GET", "/readyz", &[], 200),
        (&control, "GET", "/nowhere", &[], 404),
        (&control, "GET", "/control/reset", &[], 405),
        (&control, "POST", "/control/reset", &[], 401),
        (&control, "POST", "/control/reset", &[bearer], 204),
    ];
    let mut seen = HashSet::new();
    for (client, method, path, headers, status) in requests {
        let answer = client.send(method, path, headers, &[]);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert!(seen.insert(answer.request_id().to_owned()), "{method} {path}");
    }
    // What the client calls its request is its own affair.
    let answer = app.client.send("GET", groups, &[("x-request-id", &"0".repeat(32))], &[]);
    assert!(seen.insert(answer.request_id().to_owned()));
    assert_ne!(answer.request_id(), "0".repeat(32));
}

#[test]
fn a_create_leaves_one_record_that_says_who_asked_for_what_and_what_came_of_it() {
    let app = TestApp::start();
    let token = [("x-auth-token", dev::TOKEN), ("content-type", "application/json")];
    let anonymous = app.client.post_json(&groups_path(), &create_body("one"));
    app.clock.set(Timestamp::from_millis(NOW.as_millis() + 5));
    let known = app.client.send("POST", &groups_path(), &token, create_body("two").as_bytes());

    let written = records(&app.database());
    assert_eq!(written.len(), 2);
    let answers = [(&anonymous, "one", "anonymous", 0), (&known, "two", "token", 5)];
    for (record, (answer, name, credential, later_ms)) in written.iter().zip(answers) {
        let seq = record["seq"].as_u64().unwrap();
        let trace_id = record["trace_id"].as_str().unwrap();
        assert!(trace_id.starts_with(&format!("00000000-{seq:04x}-8")), "{trace_id}");
        let expected = json!({
            "v": 1, "seq": seq, "trace_id": trace_id,
            "time": NOW.as_millis() + later_ms, "record_time": NOW.as_millis() + later_ms,
            "request_id": answer.request_id(), "source_ip": "127.0.0.1", "door": "v1",
            "actor": {
                "type": "user", "user_id": dev::USER_ID, "user_name": dev::USER_NAME,
                "domain_id": dev::DOMAIN_ID, "domain_name": dev::DOMAIN_NAME,
                "is_root": true, "credential": credential,
            },
            "action": "ecs:cloudServers:createServerGroup", "project_id": dev::PROJECT_ID,
            "resource": { "type": "server_group", "id": answer.json()["server_group"]["id"], "name": name },
            "asked": { "name": name, "placement_rule": "anti-affinity" },
            "outcome": "done", "reason": null,
        });
        assert_eq!(record, &expected);
    }
    assert_eq!(written[1]["seq"].as_u64(), written[0]["seq"].as_u64().map(|seq| seq + 1));
}

#[test]
fn a_create_beyond_the_quota_is_refused_and_recorded() {
    let app = TestApp::start_with(|settings| settings.quota.groups_per_project = 1);
    let id = app.client.create("one");
    let answer = app.client.post_json(&groups_path(), &create_body("two"));
    let wrapped: Value = serde_json::from_str(&answer.ecs_error(403, "Ecs.1000")).unwrap();
    let message = "Quota exceeded, too many server groups.";
    assert_eq!(wrapped, json!({ "forbidden": { "message": message, "code": 403 } }));
    assert_eq!(app.client.list_ids(), std::slice::from_ref(&id));

    let record = records(&app.database()).pop().unwrap();
    assert_eq!(record["request_id"], answer.request_id());
    assert_eq!(record["outcome"], "refused");
    assert_eq!(record["resource"], json!({ "type": "server_group", "id": null, "name": "two" }));
    assert_eq!(record["reason"]["name"], "group_quota_reached");

    assert_eq!(app.client.delete(&group_path(&id)).status, 204);
    app.client.create("there is room again");
}
