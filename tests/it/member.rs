//! "Adding an ECS to an ECS Group", "Removing an ECS from an ECS Group", their batch forms, and what clients of groups
//! ask about an ECS and about quotas.
//!
//! (`inventory.rs` has the rules about ECSs that are registered.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Barrier, Mutex};
use std::thread;

use ecs_groupd::identities::dev;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Process, Signer, TestApp, create_body, group_path, groups_path, records,
};

const NEVER_WAS: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
const OTHER_PROJECT: &str = "0123456789abcdef0123456789abcdef";
const QUOTA_MESSAGE: &str = "The number of ECSs is beyond the ECS group quota limit.";

/// The id of an ECS; different ones ascend.
pub fn ecs(nth: usize) -> String {
    format!("34dac9a0-c4a7-457b-bab2-{nth:012x}")
}

/// The path of an ECS of the dev project.
pub fn server_path(server_id: &str) -> String {
    format!("/v1/{}/cloudservers/{server_id}", dev::PROJECT_ID)
}

fn change(client: &Client, group_id: &str, verb: &str, server_id: &str) -> Answer {
    let body = json!({ verb: { "instance_uuid": server_id } });
    client.post_json(&format!("{}/action", group_path(group_id)), &body.to_string())
}

pub fn add(client: &Client, group_id: &str, server_id: &str) -> Answer {
    change(client, group_id, "add_member", server_id)
}

pub fn remove(client: &Client, group_id: &str, server_id: &str) -> Answer {
    change(client, group_id, "remove_member", server_id)
}

/// Several ECSs in one request: `add_members` or `remove_members`.
pub fn batch(client: &Client, group_id: &str, verb: &str, server_ids: &[String]) -> Answer {
    let body = json!({ "server_ids": server_ids });
    client.post_json(&format!("{}/{verb}", group_path(group_id)), &body.to_string())
}

/// The members that a group shows.
#[track_caller]
pub fn members(client: &Client, group_id: &str) -> Vec<String> {
    let answer = client.get(&group_path(group_id));
    assert_eq!(answer.status, 200, "{}", answer.text);
    texts(&answer.json()["server_group"]["members"])
}

fn texts(array: &Value) -> Vec<String> {
    array.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The message of Nova's `badRequest`, as v1 passes it on: a text inside ECS's own shape.
#[track_caller]
pub fn wrapped_bad_request(answer: &Answer) -> String {
    let text = answer.ecs_error(400, "Ecs.1000");
    let wrapped: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let message = wrapped["badRequest"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(wrapped, json!({ "badRequest": { "message": message, "code": 400 } }));
    message
}

/// Checks a 200 of `/action`: there is nothing in it.
#[track_caller]
pub fn assert_done(answer: &Answer) {
    assert_eq!((answer.status, &*answer.text), (200, ""));
    assert_eq!(answer.header("content-type"), None);
    answer.request_id();
}

/// Does `work` for each item on a thread of its own, all at once.
pub fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (start, work) = (&Barrier::new(items.len()), &work);
    let at_the_start = move |item| {
        start.wait();
        work(item)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || at_the_start(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// What became of an attempt: the outcome of its record, or why it was refused.
fn became(record: &Value) -> String {
    let word = if record["reason"].is_null() { &record["outcome"] } else { &record["reason"]["name"] };
    word.as_str().unwrap().to_owned()
}

#[test]
fn an_added_ecs_is_a_member_and_a_removed_one_is_none_any_more() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_done(&add(&app.client, &id, &ecs(1)));
    let group = json!({
        "id": id, "name": "web", "policies": ["anti-affinity"], "members": [ecs(1)], "metadata": {},
    });
    assert_eq!(app.client.get(&group_path(&id)).json(), json!({ "server_group": group }));
    assert_eq!(app.client.get(&groups_path()).json(), json!({ "server_groups": [group] }));
    assert_done(&remove(&app.client, &id, &ecs(1)));
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
    assert_eq!(app.client.get(&groups_path()).json()["server_groups"][0]["members"], json!([]));
}

#[test]
fn members_are_shown_in_the_order_of_their_ids_whatever_the_order_of_adding() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for nth in [3, 1, 4, 15, 9, 2, 6] {
        assert_done(&add(&app.client, &id, &ecs(nth)));
    }
    assert_done(&remove(&app.client, &id, &ecs(4)));
    assert_eq!(members(&app.client, &id), [1, 2, 3, 6, 9, 15].map(ecs));
}

#[test]
fn whoever_asks_after_the_answer_sees_the_change() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    let readers = [Client::new(app.api), app.client.clone()];
    for nth in 0..20 {
        let id = &ids[nth % 2];
        assert_done(&add(&app.client, id, &ecs(nth)));
        for reader in &readers {
            assert!(members(reader, id).contains(&ecs(nth)));
            let listed = reader.get(&groups_path()).json();
            assert!(texts(&listed["server_groups"][nth % 2]["members"]).contains(&ecs(nth)));
            let shown = reader.get(&server_path(&ecs(nth))).json();
            assert_eq!(shown["server"]["os:scheduler_hints"], json!({ "group": [id] }));
        }
        assert_done(&remove(&app.client, id, &ecs(nth)));
        for reader in &readers {
            assert_eq!(members(reader, id), Vec::<String>::new());
            assert_eq!(reader.get(&groups_path()).json()["server_groups"][nth % 2]["members"], json!([]));
            assert_eq!(reader.get(&server_path(&ecs(nth))).status, 404);
        }
    }
}

#[test]
fn adding_an_ecs_twice_is_200_and_changes_nothing_and_the_second_is_recorded_as_that() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let answers = [add(&app.client, &id, &ecs(1)), add(&app.client, &id, &ecs(1))];
    answers.iter().for_each(assert_done);
    assert_eq!(members(&app.client, &id), [ecs(1)]);
    let [_, first, second] = records(&app.database()).try_into().unwrap();
    assert_eq!((became(&first), became(&second)), ("done".to_owned(), "unchanged".to_owned()));
    assert_eq!(second["request_id"], answers[1].request_id());
}

#[test]
fn an_id_is_the_same_ecs_in_whatever_case_it_is_written() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let upper = ecs(0xabc).to_uppercase();
    assert_done(&add(&app.client, &id, &upper));
    assert_done(&add(&app.client, &id, &ecs(0xabc)));
    assert_eq!(members(&app.client, &id), [ecs(0xabc)]);
    assert_eq!(app.client.get(&server_path(&upper)).json()["server"]["id"], ecs(0xabc));
    assert_done(&remove(&app.client, &id, &upper));
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
}

#[test]
fn an_ecs_of_another_group_is_refused_naming_that_group_and_stays_where_it_is() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    assert_done(&add(&app.client, &ids[0], &ecs(1)));
    let answer = add(&app.client, &ids[1], &ecs(1));
    let message = wrapped_bad_request(&answer);
    assert!(message.contains(&ids[0]) && message.contains(&ecs(1)), "{message}");
    // As the vendor's service was seen to write it, spaces and all.
    let expected = [
        r#"{"error":{"message":"{\"badRequest\": {\"message\": \""#,
        &message,
        r#"\", \"code\": 400}}","code":"Ecs.1000"}}"#,
    ];
    assert_eq!(answer.text, expected.concat());
    assert_eq!((members(&app.client, &ids[0]), members(&app.client, &ids[1])), (vec![ecs(1)], Vec::new()));

    assert_done(&remove(&app.client, &ids[0], &ecs(1)));
    assert_done(&add(&app.client, &ids[1], &ecs(1)));
    assert_eq!((members(&app.client, &ids[0]), members(&app.client, &ids[1])), (Vec::new(), vec![ecs(1)]));
}

#[test]
fn removing_an_ecs_that_is_no_member_is_refused_wherever_else_it_is() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    let nowhere = remove(&app.client, &ids[0], &ecs(1));
    assert!(wrapped_bad_request(&nowhere).contains(&ecs(1)));
    assert_done(&add(&app.client, &ids[0], &ecs(1)));
    let elsewhere = remove(&app.client, &ids[1], &ecs(1));
    assert!(wrapped_bad_request(&elsewhere).contains(&ecs(1)));
    assert_eq!(members(&app.client, &ids[0]), [ecs(1)]);
    assert_done(&remove(&app.client, &ids[0], &ecs(1)));
    wrapped_bad_request(&remove(&app.client, &ids[0], &ecs(1)));
}

#[test]
fn the_member_quota_is_met_exactly_and_one_more_is_refused() {
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = 3);
    let ids = [app.client.create("full"), app.client.create("with room")];
    for nth in 1..=3 {
        assert_done(&add(&app.client, &ids[0], &ecs(nth)));
    }
    assert_eq!(add(&app.client, &ids[0], &ecs(4)).ecs_error(400, "Ecs.0022"), QUOTA_MESSAGE);
    assert_eq!(members(&app.client, &ids[0]), [1, 2, 3].map(ecs));
    // One that is in is not counted again, another group has room of its own, and what leaves makes room.
    assert_done(&add(&app.client, &ids[0], &ecs(3)));
    assert_done(&add(&app.client, &ids[1], &ecs(4)));
    assert_done(&remove(&app.client, &ids[0], &ecs(2)));
    assert_done(&add(&app.client, &ids[0], &ecs(5)));
    assert_eq!(members(&app.client, &ids[0]), [1, 3, 5].map(ecs));
}

#[test]
fn by_default_a_group_takes_16_members() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for nth in 0..16 {
        assert_done(&add(&app.client, &id, &ecs(nth)));
    }
    add(&app.client, &id, &ecs(16)).ecs_error(400, "Ecs.0022");
    assert_eq!(members(&app.client, &id).len(), 16);
}

#[test]
fn a_group_with_more_members_than_a_lowered_quota_keeps_them_and_takes_no_more() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for nth in 1..=3 {
        assert_done(&add(&app.client, &id, &ecs(nth)));
    }
    let app = TestApp::start_in(app.stop(), |settings| settings.quota.members_per_group = 1);
    add(&app.client, &id, &ecs(4)).ecs_error(400, "Ecs.0022");
    assert_done(&add(&app.client, &id, &ecs(1)));
    assert_done(&remove(&app.client, &id, &ecs(2)));
    assert_eq!(members(&app.client, &id), [1, 3].map(ecs));
    add(&app.client, &id, &ecs(2)).ecs_error(400, "Ecs.0022");
}

#[test]
fn a_group_with_members_is_deleted_and_they_are_free_again() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    for nth in 1..=3 {
        assert_done(&add(&app.client, &ids[0], &ecs(nth)));
    }
    let answer = app.client.delete(&group_path(&ids[0]));
    assert_eq!((answer.status, &*answer.text), (204, ""));
    for nth in 1..=3 {
        assert_eq!(app.client.get(&server_path(&ecs(nth))).status, 404);
        assert_done(&add(&app.client, &ids[1], &ecs(nth)));
    }
    assert_eq!(members(&app.client, &ids[1]), [1, 2, 3].map(ecs));
}

/// What the vendor says of a group that does not exist.
fn no_group(id: &str) -> String {
    [
        r#"{"error":{"message":"{\"itemNotFound\": {\"message\": \"Instance group "#,
        id,
        r#" could not be found.\", \"code\": 404}}","code":"Ecs.1000"}}"#,
    ]
    .concat()
}

#[test]
fn a_group_that_does_not_exist_takes_and_loses_no_member() {
    let app = TestApp::start();
    let deleted = app.client.create("deleted");
    assert_eq!(app.client.delete(&group_path(&deleted)).status, 204);
    for id in [NEVER_WAS, &deleted, "x", &NEVER_WAS.replace('-', "")] {
        let answers = [
            add(&app.client, id, &ecs(1)),
            remove(&app.client, id, &ecs(1)),
            batch(&app.client, id, "add_members", &[ecs(1), ecs(2)]),
            batch(&app.client, id, "remove_members", &[ecs(1), ecs(2)]),
        ];
        for answer in answers {
            assert_eq!((answer.status, &*answer.text), (404, &*no_group(id)));
            assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
        }
    }
    assert_eq!(app.client.get(&server_path(&ecs(1))).status, 404);
    let records = records(&app.database());
    let refused: Vec<_> = records.iter().skip(2).map(became).collect();
    assert_eq!(refused, vec!["group_not_found"; 8], "what is no id is nothing that was asked for");
}

#[test]
fn a_group_of_another_projects_url_is_denied_and_its_members_stay() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_done(&add(&app.client, &id, &ecs(1)));
    let path = group_path(&id).replace(dev::PROJECT_ID, OTHER_PROJECT);
    let member = json!({ "instance_uuid": ecs(1) });
    for (verb, body) in [
        ("action", json!({ "add_member": member })),
        ("action", json!({ "remove_member": member })),
        ("add_members", json!({ "server_ids": [ecs(1)] })),
        ("remove_members", json!({ "server_ids": [ecs(1)] })),
        ("action", json!([])),
    ] {
        app.client.post_json(&format!("{path}/{verb}"), &body.to_string()).ecs_error(400, "Ecs.0023");
    }
    assert_eq!(members(&app.client, &id), [ecs(1)]);
    let records = records(&app.database());
    let actions: Vec<_> = records[2..].iter().map(|record| record["action"].as_str().unwrap()).collect();
    let (add, remove) = ("ecs:cloudServers:addServerGroupMember", "ecs:cloudServers:deleteServerGroupMember");
    assert_eq!(actions, [add, remove, add, remove, add]);
    assert!(records[2..].iter().all(|record| became(record) == "other_project"));
}

/// A field of another kind than the one that belongs there, and what it is called.
fn wrong_kinds() -> [(Value, &'static str); 6] {
    [
        (Value::Null, "null"),
        (json!(true), "a boolean"),
        (json!(1), "a number"),
        (json!("x"), "a string"),
        (json!([{ "instance_uuid": ecs(1) }]), "an array"),
        (json!({}), "an object"),
    ]
}

/// Texts that are no UUID of 36 characters.
fn no_uuids() -> Vec<String> {
    let id = ecs(1);
    let texts = ["", "x", "web-1", &id[..35], &format!("{id}0"), &format!(" {id}"), &id.replace('-', "")];
    let more = [format!("{{{id}}}"), format!("urn:uuid:{id}"), id.replace('3', "g"), "🦀".repeat(9)];
    texts.into_iter().map(str::to_owned).chain(more).collect()
}

#[test]
fn a_malformed_change_of_members_names_its_field_and_changes_nothing() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let one = json!({ "instance_uuid": ecs(1) });
    let which = "request body must have add_member or remove_member, and has";
    let mut cases = vec![
        (json!({}).to_string(), format!("{which} neither.")),
        (json!({ "add": one, "Add_member": one }).to_string(), format!("{which} neither.")),
        (json!({ "instance_uuid": ecs(1) }).to_string(), format!("{which} neither.")),
        (json!({ "add_member": one, "remove_member": one }).to_string(), format!("{which} both.")),
        (json!({ "add_member": one, "remove_member": null }).to_string(), format!("{which} both.")),
        ("{".to_owned(), "request body is illegal: it is not valid JSON: ".to_owned()),
        (format!("{}x", json!({ "add_member": one })), "request body is illegal: ".to_owned()),
        ("{'add_member': {}}".to_owned(), "request body is illegal: ".to_owned()),
    ];
    for (found, kind) in wrong_kinds() {
        if kind != "an object" {
            let message = format!("request body must be an object, and is {kind}.");
            cases.push((found.to_string(), message));
        }
        for verb in ["add_member", "remove_member"] {
            if kind != "an object" {
                let message = format!("{verb} must be an object, and is {kind}.");
                cases.push((json!({ verb: found }).to_string(), message));
            }
            if kind != "a string" {
                let message = format!("{verb}.instance_uuid must be a string, and is {kind}.");
                cases.push((json!({ verb: { "instance_uuid": found } }).to_string(), message));
            }
        }
    }
    for verb in ["add_member", "remove_member"] {
        let message = format!("{verb}.instance_uuid is required.");
        for inner in [json!({}), json!({ "server_id": ecs(1) }), json!({ "Instance_uuid": ecs(1) })] {
            cases.push((json!({ verb: inner }).to_string(), message.clone()));
        }
        for text in no_uuids() {
            let message = format!("{verb}.instance_uuid must be the UUID of an ECS, and is ");
            cases.push((json!({ verb: { "instance_uuid": text } }).to_string(), message));
        }
    }
    for group_id in [&*id, NEVER_WAS] {
        let path = format!("{}/action", group_path(group_id));
        for (body, expected) in &cases {
            let message = app.client.post_json(&path, body).ecs_error(400, "Ecs.0005");
            assert!(message.starts_with(expected), "{body}: {message:?}");
        }
        for body in ["", " \r\n\t"] {
            let message = app.client.post_json(&path, body).ecs_error(400, "Common.0002");
            assert_eq!(message, "The request body cannot be left blank.");
        }
    }
    let path = format!("{}/action", group_path(&id));
    let body = json!({ "add_member": one }).to_string();
    let plain = app.client.send("POST", &path, &[("content-type", "text/plain")], body.as_bytes());
    plain.gateway_error(415, "APIGW.0201");
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
    assert_eq!(records(&app.database()).len(), 1, "what is malformed is not recorded");
}

#[test]
fn keys_that_are_not_known_are_ignored_in_a_change_of_members() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let add = json!({
        "add_member": { "instance_uuid": ecs(1), "policy": ["affinity"], "": null },
        "remove_members": { "instance_uuid": ecs(1) }, "dry_run": true,
    });
    let path = group_path(&id);
    assert_done(&app.client.post_json(&format!("{path}/action"), &add.to_string()));
    let add = json!({ "server_ids": [ecs(2)], "status": "x", "servers": {} });
    assert_eq!(app.client.post_json(&format!("{path}/add_members"), &add.to_string()).status, 200);
    assert_eq!(members(&app.client, &id), [1, 2].map(ecs));
}

#[test]
fn changes_of_members_take_post_alone_with_or_without_a_slash_at_the_end() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for verb in ["action", "add_members", "remove_members"] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = app.client.send(method, &format!("{}/{verb}", group_path(&id)), &[], &[]);
            answer.gateway_error(405, "APIGW.0101");
            assert_eq!(answer.header("allow"), Some("POST"));
        }
    }
    let body = json!({ "add_member": { "instance_uuid": ecs(1) } }).to_string();
    assert_done(&app.client.post_json(&format!("{}/action/", group_path(&id)), &body));
    let body = json!({ "server_ids": [ecs(2)] }).to_string();
    assert_eq!(app.client.post_json(&format!("{}/add_members/", group_path(&id)), &body).status, 200);
    assert_eq!(members(&app.client, &id), [1, 2].map(ecs));
}

#[test]
fn every_change_of_members_leaves_one_record_that_says_what_came_of_it() {
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = 1);
    let ids = [app.client.create("one"), app.client.create("two")];
    let (client, first) = (&app.client, &ids[0]);
    let (added, removed) =
        ("ecs:cloudServers:addServerGroupMember", "ecs:cloudServers:deleteServerGroupMember");
    let full = "the ECS group has 1 members, which is its quota";
    let taken = format!("the ECS {} is in the ECS group {first} already", ecs(1));
    let not_in = format!("the ECS {} is not in this ECS group", ecs(1));
    let no_group = format!("no ECS group {NEVER_WAS} in this project");
    let cases = [
        (add(client, first, &ecs(1)), added, &**first, 1, json!("one"), "done", None),
        (add(client, first, &ecs(1)), added, &**first, 1, json!("one"), "unchanged", None),
        (
            add(client, first, &ecs(2)),
            added,
            &**first,
            2,
            Value::Null,
            "refused",
            Some(("member_quota_reached", full)),
        ),
        (
            add(client, &ids[1], &ecs(1)),
            added,
            &*ids[1],
            1,
            Value::Null,
            "refused",
            Some(("member_of_other_group", &*taken)),
        ),
        (remove(client, first, &ecs(1)), removed, &**first, 1, json!("one"), "done", None),
        (
            remove(client, first, &ecs(1)),
            removed,
            &**first,
            1,
            Value::Null,
            "refused",
            Some(("not_a_member", &*not_in)),
        ),
        (
            add(client, NEVER_WAS, &ecs(1)),
            added,
            NEVER_WAS,
            1,
            Value::Null,
            "refused",
            Some(("group_not_found", &*no_group)),
        ),
    ];
    let written = records(&app.database());
    assert_eq!(written.len(), 2 + cases.len());
    for (record, (answer, action, group_id, nth, name, outcome, reason)) in written[2..].iter().zip(cases) {
        let reason =
            reason.map_or(Value::Null, |(name, message)| json!({ "name": name, "message": message }));
        let expected = json!({
            "v": 1, "seq": record["seq"], "trace_id": record["trace_id"],
            "time": record["time"], "record_time": record["record_time"],
            "request_id": answer.request_id(), "source_ip": "127.0.0.1", "door": "v1",
            "actor": {
                "type": "user", "user_id": dev::USER_ID, "user_name": dev::USER_NAME,
                "domain_id": dev::DOMAIN_ID, "domain_name": dev::DOMAIN_NAME,
                "is_root": true, "credential": "anonymous",
            },
            "action": action, "project_id": dev::PROJECT_ID,
            "resource": { "type": "server_group", "id": group_id, "name": name },
            "asked": { "group_id": group_id, "server_id": ecs(nth) },
            "outcome": outcome, "reason": reason,
        });
        assert_eq!(record, &expected);
    }
}

/// The answer of a batch: `(ECS, whether it was done)`, in order; each failure has its reason.
#[track_caller]
fn batch_results(answer: &Answer) -> Vec<(String, bool, String)> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    let body = answer.json();
    let servers = body["servers"].as_array().unwrap();
    let results: Vec<_> = servers
        .iter()
        .map(|server| {
            let is_done = server["status"] == "SUCCESS";
            let (id, reason) =
                (server["server_id"].as_str().unwrap(), server["fail_reason"].as_str().unwrap());
            assert_eq!(is_done, reason.is_empty(), "{server}");
            let status = if is_done { "SUCCESS" } else { "FAIL" };
            assert_eq!(server, &json!({ "server_id": id, "status": status, "fail_reason": reason }));
            (id.to_owned(), is_done, reason.to_owned())
        })
        .collect();
    let status = if results.iter().all(|(_, is_done, _)| *is_done) { "SUCCESS" } else { "FAIL" };
    assert_eq!(body, json!({ "status": status, "servers": servers }));
    results
}

#[test]
fn a_batch_adds_and_removes_several_ecss_and_answers_for_each_in_its_order() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let server_ids = [3, 1, 2].map(ecs);
    let added = batch(&app.client, &id, "add_members", &server_ids);
    let done = |nth: usize| format!(r#"{{"server_id":"{}","status":"SUCCESS","fail_reason":""}}"#, ecs(nth));
    let expected = format!(r#"{{"status":"SUCCESS","servers":[{},{},{}]}}"#, done(3), done(1), done(2));
    assert_eq!((added.status, &*added.text), (200, &*expected));
    assert_eq!(members(&app.client, &id), [1, 2, 3].map(ecs));
    let removed = batch(&app.client, &id, "remove_members", &[ecs(3), ecs(1)]);
    let expected = format!(r#"{{"status":"SUCCESS","servers":[{},{}]}}"#, done(3), done(1));
    assert_eq!((removed.status, &*removed.text), (200, &*expected));
    assert_eq!(members(&app.client, &id), [ecs(2)]);
}

#[test]
fn an_ecs_that_a_batch_cannot_add_or_remove_fails_with_its_reason_and_the_others_are_done() {
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = 2);
    let ids = [app.client.create("one"), app.client.create("two")];
    assert_done(&add(&app.client, &ids[0], &ecs(1)));
    assert_done(&add(&app.client, &ids[1], &ecs(9)));

    let added = batch(&app.client, &ids[0], "add_members", &[1, 9, 2, 3].map(ecs));
    let results = batch_results(&added);
    let done: Vec<_> = results.iter().map(|(id, is_done, _)| (id.clone(), *is_done)).collect();
    assert_eq!(done, [(ecs(1), true), (ecs(9), false), (ecs(2), true), (ecs(3), false)]);
    assert!(results[1].2.contains(&ids[1]), "it names the other group: {}", results[1].2);
    assert!(results[3].2.contains("quota"), "{}", results[3].2);
    assert_eq!(members(&app.client, &ids[0]), [1, 2].map(ecs));

    let removed = batch(&app.client, &ids[0], "remove_members", &[2, 9, 1].map(ecs));
    let done: Vec<_> = batch_results(&removed).into_iter().map(|(id, is_done, _)| (id, is_done)).collect();
    assert_eq!(done, [(ecs(2), true), (ecs(9), false), (ecs(1), true)]);
    assert_eq!((members(&app.client, &ids[0]), members(&app.client, &ids[1])), (Vec::new(), vec![ecs(9)]));

    let records = records(&app.database());
    let of_added = ["unchanged", "member_of_other_group", "done", "member_quota_reached"];
    let of_removed = ["done", "not_a_member", "done"];
    let expected = of_added.map(|became| (became, added.request_id()));
    let expected = expected.into_iter().chain(of_removed.map(|became| (became, removed.request_id())));
    assert_eq!(records[4..].len(), 7);
    for (record, (expected, request_id)) in records[4..].iter().zip(expected) {
        assert_eq!((&*became(record), &record["request_id"]), (expected, &json!(request_id)));
    }
}

#[test]
fn a_malformed_batch_names_its_field_and_changes_nothing() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let mut cases = vec![
        (json!({}), "server_ids is required.".to_owned()),
        (json!({ "add_member": { "instance_uuid": ecs(1) } }), "server_ids is required.".to_owned()),
        (json!([ecs(1)]), "request body must be an object, and is an array.".to_owned()),
        (json!({ "server_ids": [] }), "server_ids must have 1 to 1000 elements, and has 0".to_owned()),
        (
            json!({ "server_ids": (0..=1_000).map(ecs).collect::<Vec<_>>() }),
            "server_ids must have 1 to 1000 elements, and has 1001".to_owned(),
        ),
        (
            json!({ "server_ids": [ecs(1), ecs(2), ecs(1)] }),
            format!("server_ids[2] must occur once, and {} occurs twice.", ecs(1)),
        ),
        (
            json!({ "server_ids": [ecs(0xa), ecs(0xa).to_uppercase()] }),
            "server_ids[1] must occur once".to_owned(),
        ),
    ];
    for (found, kind) in wrong_kinds() {
        if kind != "an array" {
            let message = format!("server_ids must be an array of strings, and is {kind}.");
            cases.push((json!({ "server_ids": found }), message));
        }
        if kind != "a string" {
            let message = format!("server_ids[1] must be a string, and is {kind}.");
            cases.push((json!({ "server_ids": [ecs(1), found] }), message));
        }
    }
    for text in no_uuids() {
        let message = "server_ids[1] must be the UUID of an ECS, and is ".to_owned();
        cases.push((json!({ "server_ids": [ecs(1), text] }), message));
    }
    for verb in ["add_members", "remove_members"] {
        let path = format!("{}/{verb}", group_path(&id));
        for (body, expected) in &cases {
            let message = app.client.post_json(&path, &body.to_string()).ecs_error(400, "Ecs.0005");
            assert!(message.starts_with(expected), "{body}: {message:?}");
        }
        app.client.post_json(&path, "").ecs_error(400, "Common.0002");
        app.client.post_json(&path, "{").ecs_error(400, "Ecs.0005");
    }
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
    assert_eq!(records(&app.database()).len(), 1);
}

#[test]
fn a_batch_of_1000_is_taken_up_to_the_quota() {
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = 20);
    let id = app.client.create("web");
    let server_ids: Vec<_> = (0..1_000).map(ecs).collect();
    let results = batch_results(&batch(&app.client, &id, "add_members", &server_ids));
    let expected: Vec<_> = (0..1_000).map(|nth| (ecs(nth), nth < 20)).collect();
    assert_eq!(results.into_iter().map(|(id, is_done, _)| (id, is_done)).collect::<Vec<_>>(), expected);
    assert_eq!(members(&app.client, &id), server_ids[..20]);
}

#[test]
fn limits_show_quotas_and_what_is_used_in_the_vendors_keys() {
    let app = TestApp::start_with(|settings| {
        settings.quota.groups_per_project = 7;
        settings.quota.members_per_group = 5;
    });
    let path = format!("/v1/{}/cloudservers/limits", dev::PROJECT_ID);
    let expected = |used: u32| {
        json!({ "absolute": {
            "maxServerGroups": 7, "maxServerGroupMembers": 5, "totalServerGroupsUsed": used,
            "maxTotalInstances": -1, "maxTotalCores": -1, "maxTotalRAMSize": -1,
            "totalInstancesUsed": 0, "totalCoresUsed": 0, "totalRAMUsed": 0,
            "maxSecurityGroups": -1, "maxSecurityGroupRules": -1, "totalSecurityGroupsUsed": 0,
            "maxTotalFloatingIps": -1, "totalFloatingIpsUsed": 0,
            "maxServerMeta": -1, "maxImageMeta": -1, "maxPersonality": -1, "maxPersonalitySize": -1,
            "maxTotalKeypairs": -1,
        } })
    };
    let shown = || {
        let answer = app.client.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
        answer.json()
    };
    assert_eq!(shown(), expected(0));
    let ids = [app.client.create("one"), app.client.create("two")];
    assert_done(&add(&app.client, &ids[0], &ecs(1)));
    assert_eq!(shown(), expected(2));
    assert_eq!(app.client.delete(&group_path(&ids[0])).status, 204);
    assert_eq!(shown(), expected(1));
    assert_eq!(app.client.get(&format!("{path}/")).json(), expected(1));
    assert_eq!(records(&app.database()).len(), 4, "looking leaves no record");
}

#[test]
fn a_member_is_an_ecs_that_is_shown_and_one_that_nobody_knows_is_not() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let unknown = |server_id: &str| {
        let answer = app.client.get(&server_path(server_id));
        let message = answer.ecs_error(404, "Ecs.0114");
        assert_eq!(message, format!("Instance[{server_id}] could not be found."));
    };
    unknown(&ecs(1));
    unknown("abc");
    unknown(&id);
    assert_done(&add(&app.client, &id, &ecs(1)));
    let answer = app.client.get(&server_path(&ecs(1)));
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    let expected = json!({ "server": {
        "id": ecs(1), "name": ecs(1), "status": "ACTIVE", "tenant_id": dev::PROJECT_ID,
        "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:power_state": 1,
        "os:scheduler_hints": { "group": [id] }, "metadata": {}, "addresses": {},
    } });
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert_eq!(app.client.get(&format!("{}/", server_path(&ecs(1)))).json(), answer.json());
    assert_done(&remove(&app.client, &id, &ecs(1)));
    unknown(&ecs(1));
    let elsewhere = server_path(&ecs(1)).replace(dev::PROJECT_ID, OTHER_PROJECT);
    app.client.get(&elsewhere).ecs_error(400, "Ecs.0023");
    assert_eq!(records(&app.database()).len(), 3, "looking leaves no record");
}

#[test]
fn of_many_clients_that_add_one_ecs_to_different_groups_exactly_one_wins() {
    const CLIENTS: usize = 16;
    let app = TestApp::start();
    let clients: Vec<_> =
        (0..CLIENTS).map(|nth| (Client::new(app.api), app.client.create(&format!("group-{nth}")))).collect();
    for nth in 0..10 {
        let answers = at_once(&clients, |(client, id)| add(client, id, &ecs(nth)));
        let won: Vec<_> = answers
            .iter()
            .zip(&clients)
            .filter(|(answer, _)| answer.status == 200)
            .map(|(_, (_, id))| id)
            .collect();
        let [winner] = won[..] else { panic!("{} won: {answers:?}", won.len()) };
        for (answer, (_, id)) in answers.iter().zip(&clients).filter(|(_, (_, id))| id != winner) {
            assert!(wrapped_bad_request(answer).contains(&**winner));
            assert!(!members(&app.client, id).contains(&ecs(nth)));
        }
        assert!(members(&app.client, winner).contains(&ecs(nth)));
    }
    let records = records(&app.database());
    for nth in 0..10 {
        let of_it = records.iter().filter(|record| record["asked"]["server_id"] == *ecs(nth)).map(became);
        let mut of_it: Vec<_> = of_it.collect();
        assert_eq!((of_it.len(), &*of_it.remove(0)), (CLIENTS, "done"), "the first in the log won");
        assert!(of_it.iter().all(|became| became == "member_of_other_group"), "{of_it:?}");
    }
}

#[test]
fn of_many_clients_that_add_one_ecs_to_one_group_one_changes_it_and_all_are_told_200() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let clients: Vec<_> = (0..16).map(|_| Client::new(app.api)).collect();
    at_once(&clients, |client| add(client, &id, &ecs(1))).iter().for_each(assert_done);
    assert_eq!(members(&app.client, &id), [ecs(1)]);
    let mut outcomes: Vec<_> = records(&app.database())[1..].iter().map(became).collect();
    assert_eq!(outcomes.remove(0), "done");
    assert_eq!(outcomes, vec!["unchanged"; 15]);
    // The other way round there is nothing left to remove for all but one.
    let removed = at_once(&clients, |client| remove(client, &id, &ecs(1)).status);
    assert_eq!(removed.iter().filter(|status| **status == 200).count(), 1, "{removed:?}");
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
}

#[test]
fn the_member_quota_is_met_exactly_by_many_clients_at_once() {
    const QUOTA: u32 = 7;
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = QUOTA);
    let clients: Vec<_> = (0..24).map(|nth| (Client::new(app.api), ecs(nth))).collect();
    for round in 0..5 {
        let id = app.client.create(&format!("round-{round}"));
        let answers = at_once(&clients, |(client, server_id)| add(client, &id, server_id));
        let mut expected = Vec::new();
        for (answer, (_, server_id)) in answers.iter().zip(&clients) {
            if answer.status == 200 {
                expected.push(server_id.clone());
            } else {
                assert_eq!(answer.ecs_error(400, "Ecs.0022"), QUOTA_MESSAGE);
            }
        }
        assert_eq!((expected.len(), members(&app.client, &id)), (QUOTA as usize, expected.clone()));
        assert_eq!(app.client.delete(&group_path(&id)).status, 204);
    }
}

#[test]
fn a_group_that_is_deleted_while_many_add_to_it_leaves_no_membership_behind() {
    let app = TestApp::start_with(|settings| settings.quota.members_per_group = 100);
    let refuge = app.client.create("refuge");
    let clients: Vec<_> = (0..17).map(|nth| (Client::new(app.api), nth)).collect();
    for round in 0..5 {
        let id = app.client.create("doomed");
        let answers = at_once(&clients, |(client, nth)| match nth {
            8 => client.delete(&group_path(&id)),
            nth => add(client, &id, &ecs(*nth)),
        });
        for (nth, answer) in answers.iter().enumerate() {
            match (nth, answer.status) {
                (8, 204) | (_, 200) => {}
                _ => assert_eq!((answer.status, &*answer.text), (404, &*no_group(&id)), "{round}"),
            }
        }
        assert_eq!(answers[8].status, 204);
        for nth in (0..17).filter(|nth| *nth != 8) {
            assert_eq!(app.client.get(&server_path(&ecs(nth))).status, 404);
            assert_done(&add(&app.client, &refuge, &ecs(nth)));
            assert_done(&remove(&app.client, &refuge, &ecs(nth)));
        }
    }
}

/// Three groups, two of them with members; their ids.
fn furnish(client: &Client) -> Vec<String> {
    let ids: Vec<_> = ["one", "two", "none"].into_iter().map(|name| client.create(name)).collect();
    for (id, nths) in ids.iter().zip([&[3, 1][..], &[2, 7]]) {
        for nth in nths {
            assert_done(&add(client, id, &ecs(*nth)));
        }
    }
    assert_done(&remove(client, &ids[1], &ecs(7)));
    ids
}

#[track_caller]
fn assert_furnished(client: &Client, ids: &[String]) {
    let expected = [vec![ecs(1), ecs(3)], vec![ecs(2)], Vec::new()];
    for (id, expected) in ids.iter().zip(expected) {
        assert_eq!(members(client, id), expected);
    }
    wrapped_bad_request(&add(client, &ids[2], &ecs(1)));
    assert_eq!(client.get(&server_path(&ecs(7))).status, 404);
    assert_eq!(client.get(&server_path(&ecs(2))).status, 200);
}

#[test]
fn members_survive_a_restart() {
    let app = TestApp::start();
    let ids = furnish(&app.client);
    let app = TestApp::start_in(app.stop(), |_| {});
    assert_furnished(&app.client, &ids);
}

#[test]
fn members_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    let ids = furnish(&process.client);
    process.kill();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    assert_furnished(&process.client, &ids);
    assert_eq!(process.terminate(), Some(0));
}

/// The groups of a project as a plain map, and what each attempt becomes.
#[derive(Clone, Debug, Default)]
struct Model {
    groups: BTreeMap<String, BTreeSet<String>>,
    became: Vec<String>,
}

impl Model {
    const MEMBERS_MAX: usize = 3;

    fn create(&mut self, id: &str) {
        self.groups.insert(id.to_owned(), BTreeSet::new());
        self.became.push("done".to_owned());
    }

    fn delete(&mut self, id: &str) -> u16 {
        let is_there = self.groups.remove(id).is_some();
        self.became.push(if is_there { "done" } else { "group_not_found" }.to_owned());
        if is_there { 204 } else { 404 }
    }

    fn home_of(&self, server_id: &str) -> Option<&str> {
        self.groups.iter().find(|(_, members)| members.contains(server_id)).map(|(id, _)| &**id)
    }

    fn add(&mut self, id: &str, server_id: &str) -> u16 {
        let home = self.home_of(server_id).map(str::to_owned);
        let (status, became) = match (self.groups.get_mut(id), home) {
            (None, _) => (404, "group_not_found"),
            (Some(_), Some(home)) if home == id => (200, "unchanged"),
            (Some(_), Some(_)) => (400, "member_of_other_group"),
            (Some(members), None) if members.len() >= Self::MEMBERS_MAX => (400, "member_quota_reached"),
            (Some(members), None) => {
                members.insert(server_id.to_owned());
                (200, "done")
            }
        };
        self.became.push(became.to_owned());
        status
    }

    fn remove(&mut self, id: &str, server_id: &str) -> u16 {
        let removed = self.groups.get_mut(id).map(|members| members.remove(server_id));
        let (status, became) = match removed {
            None => (404, "group_not_found"),
            Some(true) => (200, "done"),
            Some(false) => (400, "not_a_member"),
        };
        self.became.push(became.to_owned());
        status
    }

    /// The project as v1 lists it, but for names.
    fn listed(&self) -> Vec<(String, Vec<String>)> {
        self.groups.iter().map(|(id, members)| (id.clone(), members.iter().cloned().collect())).collect()
    }
}

fn listed(client: &Client) -> Vec<(String, Vec<String>)> {
    let body = client.get(&groups_path()).json();
    let groups = body["server_groups"].as_array().unwrap().iter();
    groups.map(|group| (group["id"].as_str().unwrap().to_owned(), texts(&group["members"]))).collect()
}

/// What one client asks for. Groups are counted in the order of their making, ECSs from 0.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Delete(usize),
    Add(usize, usize),
    Remove(usize, usize),
    AddAll(usize, BTreeSet<usize>),
    RemoveAll(usize, BTreeSet<usize>),
}

const SERVERS: usize = 7;

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let (group, server) = (0..5_usize, 0..SERVERS);
    let several = prop::collection::btree_set(0..SERVERS, 1..4);
    let step = prop_oneof![
        2 => Just(Step::Create),
        1 => group.clone().prop_map(Step::Delete),
        6 => (group.clone(), server.clone()).prop_map(|(group, server)| Step::Add(group, server)),
        4 => (group.clone(), server).prop_map(|(group, server)| Step::Remove(group, server)),
        1 => (group.clone(), several.clone()).prop_map(|(group, servers)| Step::AddAll(group, servers)),
        1 => (group, several).prop_map(|(group, servers)| Step::RemoveAll(group, servers)),
    ];
    prop::collection::vec((0..3_usize, step), 1..60)
}

const SIGNER: Signer<'static> =
    Signer { access_key: dev::ACCESS_KEY, secret_key: dev::SECRET_KEY, date: "20260102T030405Z" };

/// Three clients, each with credentials of its own kind.
struct Clients {
    anonymous: Client,
    with_token: Client,
}

impl Clients {
    fn of(app: &TestApp) -> Self {
        Self { anonymous: Client::new(app.api), with_token: Client::new(app.api).with_token(dev::TOKEN) }
    }

    fn send(&self, who: usize, method: &str, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        match who {
            0 => self.anonymous.send(method, path, &json, body.as_bytes()),
            1 => self.with_token.send(method, path, &json, body.as_bytes()),
            _ => self.anonymous.send_signed(&SIGNER, method, path, &json, body.as_bytes()),
        }
    }
}

/// Does one step, and checks its answer against the model's.
fn follow(clients: &Clients, model: &mut Model, made: &mut Vec<String>, who: usize, step: &Step) {
    let id_of = |nth: usize| made.get(nth).cloned().unwrap_or_else(|| NEVER_WAS.to_owned());
    match step {
        Step::Create => {
            let body = serde_json::from_str(&create_body("web")).unwrap();
            let answer = clients.send(who, "POST", &groups_path(), &body);
            assert_eq!(answer.status, 200, "{}", answer.text);
            made.push(answer.json()["server_group"]["id"].as_str().unwrap().to_owned());
            model.create(made.last().unwrap());
        }
        Step::Delete(nth) => {
            let id = id_of(*nth);
            let answer = clients.send(who, "DELETE", &group_path(&id), &Value::Null);
            assert_eq!(answer.status, model.delete(&id), "{}", answer.text);
        }
        Step::Add(nth, server) | Step::Remove(nth, server) => {
            let (id, server_id) = (id_of(*nth), ecs(*server));
            let is_add = matches!(step, Step::Add(..));
            let verb = if is_add { "add_member" } else { "remove_member" };
            let body = json!({ verb: { "instance_uuid": server_id } });
            let answer = clients.send(who, "POST", &format!("{}/action", group_path(&id)), &body);
            let expected = if is_add { model.add(&id, &server_id) } else { model.remove(&id, &server_id) };
            assert_eq!(answer.status, expected, "{step:?}: {}", answer.text);
        }
        Step::AddAll(nth, servers) | Step::RemoveAll(nth, servers) => {
            let (id, server_ids) = (id_of(*nth), servers.iter().map(|nth| ecs(*nth)).collect::<Vec<_>>());
            let is_add = matches!(step, Step::AddAll(..));
            let verb = if is_add { "add_members" } else { "remove_members" };
            let body = json!({ "server_ids": server_ids });
            let answer = clients.send(who, "POST", &format!("{}/{verb}", group_path(&id)), &body);
            if !model.groups.contains_key(&id) {
                assert_eq!(answer.status, 404, "{}", answer.text);
                model.became.push("group_not_found".to_owned());
                return;
            }
            let expected: Vec<_> = server_ids
                .iter()
                .map(
                    |server_id| if is_add { model.add(&id, server_id) } else { model.remove(&id, server_id) },
                )
                .map(|status| status == 200)
                .collect();
            let found: Vec<_> = batch_results(&answer).into_iter().map(|(_, is_done, _)| is_done).collect();
            assert_eq!(found, expected, "{step:?}: {}", answer.text);
        }
    }
}

#[track_caller]
fn assert_is(app: &TestApp, model: &Model, made: &[String]) {
    assert_eq!(listed(&app.client), model.listed());
    for id in made {
        let shown = app.client.get(&group_path(id));
        assert_eq!(shown.status, if model.groups.contains_key(id) { 200 } else { 404 });
    }
    for nth in 0..SERVERS {
        let shown = app.client.get(&server_path(&ecs(nth)));
        match model.home_of(&ecs(nth)) {
            None => assert_eq!(shown.status, 404),
            Some(id) => assert_eq!(shown.json()["server"]["os:scheduler_hints"]["group"], json!([id])),
        }
    }
    let became: Vec<_> = records(&app.database()).iter().map(became).collect();
    assert_eq!(became, model.became);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_several_clients_ask_for_the_answers_groups_and_records_are_those_of_a_plain_model(
        steps in steps(),
    ) {
        let quota = |settings: &mut ecs_groupd::settings::Settings| {
            settings.quota.members_per_group = u32::try_from(Model::MEMBERS_MAX).unwrap();
        };
        let app = TestApp::start_with(quota);
        let clients = Clients::of(&app);
        let (mut model, mut made) = (Model::default(), Vec::new());
        for (who, step) in &steps {
            follow(&clients, &mut model, &mut made, *who, step);
        }
        assert_is(&app, &model, &made);
        let app = TestApp::start_in(app.stop(), quota);
        assert_is(&app, &model, &made);
    }
}

/// The log is the order in which things happened: whatever ran at the same time, done again one after the other it
/// comes out the same.
#[test]
fn what_many_clients_do_at_once_is_what_the_log_says_done_one_by_one() {
    const CLIENTS: u64 = 8;
    const ATTEMPTS: usize = 120;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let app = TestApp::start_with(|settings| {
        settings.quota.members_per_group = u32::try_from(Model::MEMBERS_MAX).unwrap();
    });
    let made = Mutex::new(vec![app.client.create("first")]);
    let told = Mutex::new(BTreeMap::new());
    at_once(&(0..CLIENTS).collect::<Vec<_>>(), |nth| {
        let (client, mut random) = (Client::new(app.api), StdRng::seed_from_u64(seed + nth));
        for _ in 0..ATTEMPTS {
            let id = {
                let made = made.lock().unwrap();
                made[made.len().saturating_sub(1 + random.random_range(0..6))].clone()
            };
            let server_id = ecs(random.random_range(0..SERVERS));
            let answer = match random.random_range(0..20) {
                0 => client.delete(&group_path(&id)),
                1..4 => {
                    let answer = client.post_json(&groups_path(), &create_body("web"));
                    let id = answer.json()["server_group"]["id"].as_str().unwrap().to_owned();
                    made.lock().unwrap().push(id);
                    answer
                }
                4..14 => add(&client, &id, &server_id),
                _ => remove(&client, &id, &server_id),
            };
            told.lock().unwrap().insert(answer.request_id().to_owned(), answer.status);
        }
    });
    let records = records(&app.database());
    assert_eq!(records.len(), 1 + usize::try_from(CLIENTS).unwrap() * ATTEMPTS);
    let (mut model, told) = (Model::default(), told.into_inner().unwrap());
    for record in &records {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let action = text(&record["action"]);
        let id = text(&record["resource"]["id"]);
        let expected = match action.rsplit_once(':').unwrap().1 {
            "createServerGroup" => {
                model.create(&id);
                200
            }
            "deleteServerGroup" => model.delete(&id),
            "addServerGroupMember" => model.add(&id, &text(&record["asked"]["server_id"])),
            _ => model.remove(&id, &text(&record["asked"]["server_id"])),
        };
        assert_eq!(Some(&became(record)), model.became.last(), "{record}");
        if let Some(status) = told.get(&text(&record["request_id"])) {
            assert_eq!(*status, expected, "{record}");
        }
    }
    assert_eq!(listed(&app.client), model.listed());
}
