//! "Querying ECS Groups".

use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use serde_json::{Value, json};

use crate::harness::{NOW, TestApp, group_path, groups_path, insert_members};

const NEVER_WAS: &str = "00000000-0000-4000-8000-000000000000";
const LATER_THAN_ALL: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/// One page: the ids on it, and where the next one starts if there is one.
fn page(app: &TestApp, query: &str) -> (Vec<String>, Option<String>) {
    let answer = app.client.get(&format!("{}{query}", groups_path()));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let body = answer.json();
    let groups = body["server_groups"].as_array().unwrap();
    let ids = groups.iter().map(|group| group["id"].as_str().unwrap().to_owned()).collect();
    let next_marker = body.get("page_info").map(|page_info| {
        let marker = page_info["next_marker"].as_str().unwrap().to_owned();
        assert_eq!(page_info, &json!({ "next_marker": marker }));
        marker
    });
    (ids, next_marker)
}

fn create_many(app: &TestApp, count: usize) -> Vec<String> {
    (0..count).map(|nth| app.client.create(&format!("group-{nth}"))).collect()
}

#[test]
fn an_empty_project_lists_no_group_and_no_page_info() {
    let app = TestApp::start();
    for query in ["", "?limit=1", &format!("?limit=1000&marker={NEVER_WAS}")] {
        let answer = app.client.get(&format!("{}{query}", groups_path()));
        assert_eq!((answer.status, &*answer.text), (200, r#"{"server_groups":[]}"#));
        assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    }
}

#[test]
fn groups_are_listed_in_the_order_of_their_creation_whatever_the_clock_did() {
    let app = TestApp::start();
    let mut created = Vec::new();
    for later_ms in [0, 5, 5, 1, 0, 9] {
        app.clock.set(Timestamp::from_millis(NOW.as_millis() + later_ms));
        created.push(app.client.create("zyxabc"));
    }
    assert_eq!(page(&app, ""), (created, None));
}

#[test]
fn page_by_page_each_group_is_seen_once_and_the_last_page_has_no_next_marker() {
    let app = TestApp::start();
    let created = create_many(&app, 7);
    for limit in 1..=8 {
        let mut seen = Vec::new();
        let mut query = format!("?limit={limit}");
        loop {
            let (ids, next_marker) = page(&app, &query);
            assert!(!ids.is_empty() && ids.len() <= limit, "limit {limit}: {ids:?}");
            seen.extend(ids);
            let Some(next_marker) = next_marker else { break };
            assert_eq!(Some(&next_marker), seen.last(), "the marker is the last id of its page");
            query = format!("?limit={limit}&marker={next_marker}");
        }
        assert_eq!(seen, created, "limit {limit}");
    }
}

#[test]
fn a_last_page_that_is_exactly_full_has_no_next_marker() {
    let app = TestApp::start();
    let created = create_many(&app, 4);
    assert_eq!(page(&app, "?limit=4"), (created.clone(), None));
    assert_eq!(page(&app, "?limit=2").1.as_ref(), Some(&created[1]));
    assert_eq!(page(&app, &format!("?limit=2&marker={}", created[1])), (created[2..].to_vec(), None));
    assert_eq!(page(&app, &format!("?limit=2&marker={}", created[3])), (Vec::new(), None));
}

#[test]
fn a_marker_is_a_position_whether_or_not_such_a_group_exists() {
    let app = TestApp::start();
    let created = create_many(&app, 4);
    assert_eq!(app.client.delete(&group_path(&created[1])).status, 204);
    let after = |marker: &str| page(&app, &format!("?limit=10&marker={marker}")).0;
    assert_eq!(after(&created[1]), created[2..], "the marker's group is gone");
    assert_eq!(after(NEVER_WAS), [&created[..1], &created[2..]].concat(), "below all");
    assert_eq!(after(LATER_THAN_ALL), Vec::<String>::new(), "above all");
}

#[test]
fn a_group_that_is_made_while_somebody_pages_is_on_a_later_page() {
    let app = TestApp::start();
    let mut created = create_many(&app, 2);
    let (first, _) = page(&app, "?limit=1");
    created.push(app.client.create("late"));
    let (second, next_marker) = page(&app, &format!("?limit=2&marker={}", first[0]));
    assert_eq!((second, next_marker), (created[1..].to_vec(), None));
}

#[test]
fn a_limit_or_marker_that_breaks_its_rule_is_refused_by_name() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let limits = ["0", "1001", "-1", "x", "", "1.5", "1e2", "99999999999999999999", "%201", "%2B1", "0x1"];
    for limit in limits {
        let answer = app.client.get(&format!("{}?limit={limit}", groups_path()));
        let message = answer.ecs_error(400, "Ecs.0005");
        assert!(message.starts_with("limit must be a whole number from 1 to 1000, and is "), "{message}");
    }
    for marker in ["x", "", "1", &id.replace('-', ""), &format!("%7B{id}%7D"), &format!("{id}0")] {
        let answer = app.client.get(&format!("{}?limit=1&marker={marker}", groups_path()));
        let message = answer.ecs_error(400, "Ecs.0005");
        assert!(message.starts_with("marker must be the UUID of an ECS group, and is "), "{message}");
    }
    let answer = app.client.get(&format!("{}?marker={id}", groups_path()));
    assert_eq!(answer.ecs_error(400, "Ecs.0005"), "marker must be used together with limit.");
}

#[test]
fn a_limit_of_1_and_of_1000_is_taken() {
    let app = TestApp::start();
    let created = create_many(&app, 2);
    assert_eq!(page(&app, "?limit=1").0, created[..1]);
    assert_eq!(page(&app, "?limit=1000"), (created, None));
}

#[test]
fn keys_of_the_query_that_are_not_known_are_ignored() {
    let app = TestApp::start();
    let created = create_many(&app, 2);
    let query = "?name=nobody&offset=5&all_projects=True&Limit=1&enterprise_project_id=0&limit=2&sort";
    assert_eq!(page(&app, query), (created, None));
}

#[test]
fn without_a_limit_the_first_1000_groups_are_listed_and_where_the_rest_begins() {
    let app = TestApp::start();
    app.client.create("the first of 1001");
    let database = app.database();
    let folder = app.stop();
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.execute_batch(
        "with recursive nth (n) as (select 1 union all select n + 1 from nth where n < 1000)
         insert into server_group
         select project_id, unhex(printf('f%031x', n)), 'group ' || n, placement_rule, created_by
         from server_group, nth;
         update project set group_count = 1001, newest_group_id = unhex(printf('f%031x', 1000));",
    )
    .unwrap();
    drop(conn);

    let app = TestApp::start_in(folder, |_| {});
    let (ids, next_marker) = page(&app, "");
    assert_eq!(ids.len(), 1_000);
    assert_eq!(next_marker.as_ref(), ids.last());
    let (rest, next_marker) = page(&app, &format!("?limit=1000&marker={}", next_marker.unwrap()));
    assert_eq!((rest.len(), next_marker), (1, None));
}

#[test]
fn the_members_of_a_group_are_listed_and_shown() {
    const SERVERS: [&str; 3] = [
        "34dac9a0-c4a7-457b-bab2-e2c696e0e401",
        "34dac9a0-c4a7-457b-bab2-e2c696e0e402",
        "f0000000-0000-4000-8000-000000000000",
    ];
    let app = TestApp::start();
    let groups = create_many(&app, 3);
    let database = app.database();
    let folder = app.stop();
    insert_members(&database, &groups[0], &SERVERS[2..]);
    // In another order than they are shown in.
    insert_members(&database, &groups[2], &[SERVERS[1], SERVERS[0]]);

    let app = TestApp::start_in(folder, |_| {});
    let members: [&[&str]; 3] = [&SERVERS[2..], &[], &SERVERS[..2]];
    let listed = app.client.get(&groups_path()).json();
    for (nth, id) in groups.iter().enumerate() {
        assert_eq!(listed["server_groups"][nth]["members"], json!(members[nth]));
        assert_eq!(app.client.get(&group_path(id)).json()["server_group"]["members"], json!(members[nth]));
    }
    // Members do not count as groups.
    assert_eq!(page(&app, "?limit=1"), (groups[..1].to_vec(), Some(groups[0].clone())));
    assert_eq!(page(&app, "?limit=3"), (groups, None));
}

#[test]
fn a_listing_leaves_no_record() {
    let app = TestApp::start();
    assert_eq!(app.client.get(&groups_path()).status, 200);
    assert_eq!(app.client.get(&format!("/v1/{}/cloudservers/os-server-groups", dev::USER_ID)).status, 400);
    assert_eq!(crate::harness::records(&app.database()), Vec::<Value>::new());
}
