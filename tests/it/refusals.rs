//! How many attempts that are turned down are recorded: nobody fills the disk by being denied.

use ecs_groupd::domain::time::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Client, NOW, TestApp, cheap_hash, create_body, group_path, records, token_for};

const ABSENT: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
const GROUPS: &str = "/v1/0123456789abcdef0123456789abcdef/cloudservers/os-server-groups";

fn identities() -> String {
    let hash = cheap_hash("secret-of-all");
    format!(
        "[[domain]]
name = 'acme'
root = {{ name = 'admin', password_hash = '{hash}' }}
project = [{{ name = 'region-1', id = '0123456789abcdef0123456789abcdef' }}]
user = [{{ name = 'mallory', password_hash = '{hash}' }}, {{ name = 'eve', password_hash = '{hash}' }}]
"
    )
}

/// With three refusals a minute.
fn app() -> TestApp {
    TestApp::start_with_identities(&identities(), |settings| settings.audit.refusals_per_minute = 3)
}

fn logged_in(app: &TestApp, user: &str) -> Client {
    app.client.with_token(&token_for(&app.client, "acme", user, "secret-of-all", "region-1"))
}

fn statuses(client: &Client, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.post_json(GROUPS, &create_body("web")).status).collect()
}

/// The records of attempts on groups, and of what was not recorded.
fn records_but_logins(app: &TestApp) -> Vec<Value> {
    let mut all = records(&app.database());
    all.retain(|record| record["resource"]["type"] != "token");
    all
}

#[test]
fn beyond_so_many_a_minute_a_denial_is_429_and_not_recorded_and_others_go_on() {
    let app = app();
    let (mallory, eve, admin) =
        (logged_in(&app, "mallory"), logged_in(&app, "eve"), logged_in(&app, "admin"));
    assert_eq!(statuses(&mallory, 5), [403, 403, 403, 429, 429]);
    let answer = mallory.post_json(GROUPS, &create_body("web"));
    let message = answer.gateway_error(429, "APIGW.0308");
    assert!(message.starts_with("The throttling threshold has been reached"), "{message}");
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(records_but_logins(&app).len(), 3);
    assert_eq!(statuses(&eve, 1), [403], "another caller has a count of its own");
    assert_eq!(statuses(&admin, 1), [200]);

    app.clock.set(NOW.plus_millis(59_999));
    assert_eq!(statuses(&mallory, 1), [429]);
    app.clock.set(NOW.plus_millis(60_000));
    assert_eq!(statuses(&mallory, 1), [403], "a new minute");
}

#[test]
fn what_a_rule_turns_down_counts_as_what_a_policy_denies_and_a_change_does_not() {
    let app = app();
    let admin = logged_in(&app, "admin");
    let absent = format!("{GROUPS}/{ABSENT}");
    let answers: Vec<u16> = (0..5).map(|_| admin.delete(&absent).status).collect();
    assert_eq!(answers, [404, 404, 404, 429, 429]);
    assert_eq!(statuses(&admin, 5), [200; 5]);
    let outcomes: Vec<_> = records_but_logins(&app).iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["refused", "refused", "refused", "done", "done", "done", "done", "done"]);
}

#[test]
fn what_was_not_recorded_is_summed_up_when_the_service_stops() {
    let app = app();
    let mallory = logged_in(&app, "mallory");
    statuses(&mallory, 8);
    let database = app.database();
    let folder = app.stop();
    let all = records(&database);
    let summary = all.last().unwrap();
    assert_eq!(summary["action"], "ecs-groupd:audit:summarizeRefusals");
    assert_eq!(summary["actor"], json!({ "type": "service" }));
    let user_id = &all[0]["actor"]["user_id"];
    let since: Timestamp = NOW;
    let asked = json!({ "user_id": user_id, "not_recorded": 5, "since": since.as_millis() });
    assert_eq!(summary["asked"], asked);
    assert_eq!(all.iter().filter(|record| record["outcome"] == "denied").count(), 3);
    drop(folder);
}

#[test]
fn with_dev_every_refusal_is_recorded() {
    let app = TestApp::start_with(|settings| settings.audit.refusals_per_minute = 3);
    for _ in 0..10 {
        assert_eq!(app.client.delete(&group_path(ABSENT)).status, 404);
    }
    assert_eq!(records(&app.database()).len(), 10);
}
