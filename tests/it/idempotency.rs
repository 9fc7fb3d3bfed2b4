//! `Idempotency-Key`: the same request with the same key has the same answer, and is done once.

use std::thread;

use ecs_groupd::identities::dev;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, NOW, TestApp, create_body, group_path, groups_path, records};

const JSON: (&str, &str) = ("content-type", "application/json");
const SERVER: &str = "34dac9a0-c4a7-457b-bab2-e2c696e0e401";
const DAY_MS: u64 = 86_400_000;

fn post(client: &Client, path: &str, key: &str, body: &str) -> Answer {
    client.send("POST", path, &[JSON, ("idempotency-key", key)], body.as_bytes())
}

fn create(client: &Client, key: &str, name: &str) -> Answer {
    post(client, &groups_path(), key, &create_body(name))
}

#[test]
fn the_same_key_and_body_have_the_same_answer_and_make_one_group_also_after_a_restart() {
    let app = TestApp::start();
    let first = create(&app.client, "key-1", "web");
    assert_eq!(first.status, 200, "{}", first.text);
    let again = create(&app.client, "key-1", "web");
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_ne!(again.request_id(), first.request_id(), "an answer has an id of its own");
    let app = TestApp::start_in(app.stop(), |_| {});
    assert_eq!(create(&app.client, "key-1", "web").text, first.text);
    assert_eq!(app.client.list_ids().len(), 1);
    assert_eq!(records(&app.database()).len(), 1, "what was decided before is not decided again");
    assert_ne!(create(&app.client, "key-2", "web").text, first.text, "another key is another request");
    assert_eq!(app.client.list_ids().len(), 2);
}

#[test]
fn another_body_with_the_same_key_is_422_and_recorded_as_refused() {
    let app = TestApp::start();
    create(&app.client, "key", "web");
    let message = create(&app.client, "key", "db").ecs_error(422, "Ecs.0005");
    assert!(message.starts_with("Idempotency-Key "), "{message}");
    assert_eq!(app.client.list_ids().len(), 1);
    let last = records(&app.database()).pop().unwrap();
    assert_eq!((&last["outcome"], &last["reason"]["name"]), (&json!("refused"), &json!("key_reused")));
    assert_eq!(create(&app.client, "key", "web").status, 200, "the first one's answer stays");
}

#[test]
fn of_many_at_once_with_one_key_all_have_the_answer_of_one() {
    let app = TestApp::start();
    let answers: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..16).map(|_| scope.spawn(|| create(&app.client, "key", "web").text)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(app.client.list_ids().len(), 1);
    assert_eq!(records(&app.database()).len(), 1);
}

#[test]
fn what_was_refused_is_refused_again_also_when_it_could_be_done_now() {
    let app = TestApp::start_with(|settings| settings.quota.groups_per_project = 1);
    let id = app.client.create("first");
    let refused = create(&app.client, "key", "web");
    refused.ecs_error(403, "Ecs.1000");
    app.client.delete(&group_path(&id));
    assert_eq!(create(&app.client, "key", "web").text, refused.text);
    assert_eq!(app.client.list_ids(), Vec::<String>::new());
}

#[test]
fn a_key_is_its_paths_own_and_the_native_path_is_another() {
    let app = TestApp::start();
    let native = format!("/v2.1/{}/os-server-groups", dev::PROJECT_ID);
    let made = create(&app.client, "key", "web").json();
    let other = post(&app.client, &native, "key", &create_body("web")).json();
    assert_ne!(made["server_group"]["id"], other["server_group"]["id"]);
    let group = made["server_group"]["id"].as_str().unwrap().to_owned();
    let slash = format!("{}/", groups_path());
    assert_eq!(
        post(&app.client, &slash, "key", &create_body("web")).json(),
        made,
        "a slash makes no difference"
    );

    let action = format!("{}/action", group_path(&group));
    let add = json!({ "add_member": { "instance_uuid": SERVER } }).to_string();
    let remove = json!({ "remove_member": { "instance_uuid": SERVER } }).to_string();
    assert_eq!(post(&app.client, &action, "add", &add).status, 200);
    assert_eq!(post(&app.client, &action, "remove", &remove).status, 200);
    assert_eq!(post(&app.client, &action, "remove", &remove).status, 200, "it is not removed twice");
    assert_eq!(post(&app.client, &action, "add", &add).status, 200);
    let members = app.client.get(&group_path(&group)).json()["server_group"]["members"].clone();
    assert_eq!(members, json!([]), "nor added again");
    assert_eq!(post(&app.client, &action, "add", &remove).status, 422);
}

#[test]
fn a_batch_that_is_sent_again_has_the_same_answer_too() {
    let app = TestApp::start();
    let group = app.client.create("web");
    let path = format!("{}/remove_members", group_path(&group));
    app.client.post_json(&format!("{}/add_members", group_path(&group)), &batch(&[SERVER]));
    let first = post(&app.client, &path, "key", &batch(&[SERVER]));
    assert_eq!(first.json()["status"], "SUCCESS");
    assert_eq!(post(&app.client, &path, "key", &batch(&[SERVER])).text, first.text);
    assert_eq!(
        post(&app.client, &path, "key", &batch(&["5bbcc3c4-1da2-4437-a48a-66f15b1b13f9"])).status,
        422
    );
}

fn batch(server_ids: &[&str]) -> String {
    json!({ "server_ids": server_ids }).to_string()
}

#[test]
fn an_answer_is_kept_for_24_hours() {
    let app = TestApp::start();
    let first = create(&app.client, "key", "web");
    app.clock.set(NOW.plus_millis(DAY_MS - 1));
    assert_eq!(create(&app.client, "key", "web").text, first.text);
    app.clock.set(NOW.plus_millis(DAY_MS));
    assert_ne!(create(&app.client, "key", "web").text, first.text);
    assert_eq!(app.client.list_ids().len(), 2);
}

#[test]
fn a_key_has_1_to_255_bytes_and_occurs_once() {
    let app = TestApp::start();
    for key in ["k".to_owned(), "k".repeat(255)] {
        assert_eq!(create(&app.client, &key, "web").status, 200, "{key}");
    }
    for key in [String::new(), "k".repeat(256)] {
        let message = create(&app.client, &key, "web").ecs_error(400, "Ecs.0005");
        assert_eq!(message, "Idempotency-Key must occur once, and have 1 to 255 bytes.");
    }
    let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = app.client.send("POST", &groups_path(), &twice, create_body("web").as_bytes());
    answer.ecs_error(400, "Ecs.0005");
    assert_eq!(app.client.list_ids().len(), 2);
}

#[test]
fn what_does_not_parse_takes_no_key() {
    let app = TestApp::start();
    post(&app.client, &groups_path(), "key", "{}").ecs_error(400, "Ecs.0005");
    assert_eq!(create(&app.client, "key", "web").status, 200);
    let written: Vec<Value> = records(&app.database());
    assert_eq!(written.len(), 1);
}
