//! "Querying Details About an ECS Group" and "Deleting an ECS Group".

use ecs_groupd::domain::id::GroupId;
use ecs_groupd::identities::dev;
use serde_json::{Value, json};

use crate::harness::{TestApp, group_path, groups_path, insert_members, records};

const NEVER_WAS: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
const OTHER_PROJECT: &str = "0123456789abcdef0123456789abcdef";

/// What the vendor says of a group that does not exist: Nova's fault, as a text inside ECS's own shape.
fn not_found(id: &str) -> String {
    [
        r#"{"error":{"message":"{\"itemNotFound\": {\"message\": \"Instance group "#,
        id,
        r#" could not be found.\", \"code\": 404}}","code":"Ecs.1000"}}"#,
    ]
    .concat()
}

#[test]
fn a_group_is_shown_in_exactly_the_five_keys_in_the_vendors_order() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let answer = app.client.get(&group_path(&id));
    let head = format!(r#"{{"server_group":{{"id":"{id}","name":"web","#);
    let rest = r#""policies":["anti-affinity"],"members":[],"metadata":{}}}"#;
    assert_eq!((answer.status, answer.text.clone()), (200, head + rest));
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
}

#[test]
fn a_group_that_does_not_exist_is_404_byte_for_byte_as_nova_says_it() {
    let app = TestApp::start();
    app.client.create("another");
    let answers = [app.client.get(&group_path(NEVER_WAS)), app.client.delete(&group_path(NEVER_WAS))];
    for answer in answers {
        assert_eq!((answer.status, answer.text.clone()), (404, not_found(NEVER_WAS)));
        assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    }
}

#[test]
fn an_id_that_is_no_uuid_is_a_group_that_does_not_exist() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let texts = ["x", "1", "web", "action", &id[..35], &format!("{id}0"), &id.replace('-', "")];
    for text in texts {
        let answers = [app.client.get(&group_path(text)), app.client.delete(&group_path(text))];
        for answer in answers {
            assert_eq!((answer.status, answer.text), (404, not_found(text)));
        }
    }
    assert_eq!(app.client.list_ids(), [id]);
    assert_eq!(records(&app.database()).len(), 1, "what is no id is nothing that was asked for");
}

#[test]
fn a_deleted_group_is_gone_and_the_answer_is_204_and_empty() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    let answer = app.client.delete(&group_path(&ids[0]));
    assert_eq!((answer.status, &*answer.text), (204, ""));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(app.client.get(&group_path(&ids[0])).text, not_found(&ids[0]));
    assert_eq!(app.client.list_ids(), ids[1..]);
}

#[test]
fn deleting_a_group_twice_is_not_found() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_eq!(app.client.delete(&group_path(&id)).status, 204);
    let answer = app.client.delete(&group_path(&id));
    assert_eq!((answer.status, answer.text), (404, not_found(&id)));
}

#[test]
fn deleting_a_group_takes_its_memberships_with_it_and_no_other() {
    const SERVERS: [&str; 3] = [
        "34dac9a0-c4a7-457b-bab2-e2c696e0e401",
        "34dac9a0-c4a7-457b-bab2-e2c696e0e402",
        "34dac9a0-c4a7-457b-bab2-e2c696e0e403",
    ];
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    let database = app.database();
    let folder = app.stop();
    insert_members(&database, &ids[0], &SERVERS[..2]);
    insert_members(&database, &ids[1], &SERVERS[2..]);

    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(app.client.delete(&group_path(&ids[0])).status, 204);
    let folder = app.stop();
    let conn = rusqlite::Connection::open(&database).unwrap();
    let left: Vec<Vec<u8>> = conn
        .prepare("select group_id from member")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let kept: GroupId = ids[1].parse().unwrap();
    assert_eq!(left, [kept.as_bytes()]);
    drop((conn, folder));
}

#[test]
fn a_group_of_another_project_does_not_exist_here() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let database = app.database();
    let folder = app.stop();
    let conn = rusqlite::Connection::open(&database).unwrap();
    for table in ["server_group", "project"] {
        conn.execute(&format!("update {table} set project_id = unhex(?)"), [OTHER_PROJECT]).unwrap();
    }
    drop(conn);

    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(app.client.list_ids(), Vec::<String>::new());
    assert_eq!(app.client.get(&group_path(&id)).text, not_found(&id));
    assert_eq!(app.client.delete(&group_path(&id)).text, not_found(&id));
    drop(app.stop());
}

#[test]
fn a_delete_by_another_projects_url_is_denied_and_deletes_nothing() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let path = group_path(&id).replace(dev::PROJECT_ID, OTHER_PROJECT);
    app.client.delete(&path).ecs_error(400, "Ecs.0023");
    assert_eq!(app.client.list_ids(), [id]);
}

#[test]
fn a_delete_and_a_refused_delete_each_leave_a_record() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let answers = [app.client.delete(&group_path(&id)), app.client.delete(&group_path(&id))];
    let [_, done, refused] = records(&app.database()).try_into().unwrap();
    let message = format!("no ECS group {id} in this project");
    let cases = [
        (done, "done", json!("web"), Value::Null),
        (refused, "refused", Value::Null, json!({ "name": "group_not_found", "message": message })),
    ];
    for ((record, outcome, name, reason), answer) in cases.into_iter().zip(answers) {
        assert_eq!(record["request_id"], answer.request_id());
        assert_eq!(record["action"], "ecs:cloudServers:deleteServerGroup");
        assert_eq!(record["project_id"], dev::PROJECT_ID);
        assert_eq!(record["actor"]["user_id"], dev::USER_ID);
        assert_eq!(record["resource"], json!({ "type": "server_group", "id": id, "name": name }));
        assert_eq!(record["asked"], json!({ "group_id": id }));
        assert_eq!((&record["outcome"], &record["reason"]), (&json!(outcome), &reason));
    }
}

#[test]
fn showing_a_group_leaves_no_record() {
    let app = TestApp::start();
    let id = app.client.create("web");
    assert_eq!(app.client.get(&group_path(&id)).status, 200);
    assert_eq!(app.client.get(&group_path(NEVER_WAS)).status, 404);
    assert_eq!(app.client.get(&groups_path()).status, 200);
    assert_eq!(records(&app.database()).len(), 1);
}
