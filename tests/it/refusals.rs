//! How many attempts that are turned down are recorded: nobody fills the disk by being denied.

use std::collections::BTreeSet;
use std::sync::Arc;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy;
use ecs_groupd::access::principal::{Origin, Principal, User};
use ecs_groupd::domain::id::{ProjectId, RequestId, UserId};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::store::StoreError;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::batch::dev;
use crate::checkpoint::{DATABASE, with_store};
use crate::harness::{
    Client, NOW, TestApp, all_records, cheap_hash, create_body, group_path, records, store_options, token_for,
};

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

#[test]
fn a_user_without_rights_at_full_speed_adds_at_most_601_records_in_a_minute() {
    const CLIENTS: usize = 8;
    let app = TestApp::start_with_identities(&identities(), |settings| {
        assert_eq!(settings.audit.refusals_per_minute, 600, "the default");
    });
    let mallory = logged_in(&app, "mallory");
    let before = all_records(&app.database()).len();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| statuses(&mallory, 100))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(403), count(429)), (600, CLIENTS * 100 - 600));
    assert_eq!(all_records(&app.database()).len(), before + 600);
    let database = app.database();
    let folder = app.stop();
    let all = all_records(&database);
    assert_eq!(all.len(), before + 600 + 1 + 1, "its summary, and the stop");
    let summary = &all[before + 600];
    assert_eq!(summary["action"], "ecs-groupd:audit:summarizeRefusals");
    assert_eq!(summary["asked"]["not_recorded"], 200);
    drop(folder);
}

/// Another user of the same project.
fn somebody_else(who: &Principal) -> Principal {
    let User { name, domain, is_root, .. } = &*who.user;
    let user = User::new(UserId::from_bytes([5; 16]), name.clone(), domain.clone(), *is_root);
    Principal { user: user.into(), ..who.clone() }
}

#[tokio::test]
async fn refusals_whose_summary_cannot_be_written_wait_for_the_next_one_each_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "test" };
    let summaries = || {
        let all = all_records(&database).into_iter();
        let all = all.filter(|record| record["action"] == "ecs-groupd:audit:summarizeRefusals");
        all.map(|record| record["asked"]["not_recorded"].as_u64().unwrap()).collect::<BTreeSet<_>>()
    };
    let meddle = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    with_store(&folder, store_options().checkpoints, async |store| {
        for (who, count) in [(dev(), 5), (somebody_else(&dev()), 7)] {
            let elsewhere = Some(ProjectId::from_bytes([8; 16]));
            let action = Action::CreateServerGroup;
            for nth in 0..count {
                let denied = policy::permit(&who, origin, action, elsewhere, NOW).unwrap_err();
                let recorded = store.record(*denied).await;
                assert_eq!(recorded, if nth < 2 { Ok(()) } else { Err(StoreError::TooManyRefusals) });
            }
        }
        meddle(
            "create trigger fault before insert on audit_record
             begin select raise(abort, 'no records today'); end",
        );
        assert!(store.summarize_refusals(origin).await.is_err());
        meddle("drop trigger fault");
        assert_eq!(summaries(), BTreeSet::new());
        store.summarize_refusals(origin).await.unwrap();
        assert_eq!(summaries(), BTreeSet::from([3, 5]));
        store.summarize_refusals(origin).await.unwrap();
        assert_eq!(
            all_records(&database).len(),
            1 + 4 + 2,
            "the key, two refusals of each, and their summaries"
        );
    })
    .await;
}

#[tokio::test]
async fn a_caller_beyond_the_limit_is_answered_one_hundred_times_a_second_and_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "test" };
    let denied = |who: &Principal| {
        let elsewhere = Some(ProjectId::from_bytes([8; 16]));
        *policy::permit(who, origin, Action::CreateServerGroup, elsewhere, NOW).unwrap_err()
    };
    with_store(&folder, store_options().checkpoints, async |store| {
        for _ in 0..2 {
            store.record(denied(&dev())).await.unwrap();
        }
        // From here on the time goes by only where all wait for it.
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            let (store, denied) = (Arc::clone(store), denied(&dev()));
            waiting.spawn(async move { store.record(denied).await });
        }
        let answers = waiting.join_all().await;
        assert_eq!(answers, vec![Err(StoreError::TooManyRefusals); 100]);
        // The first at once; and a timer wakes at a whole millisecond.
        let waited = begun.elapsed();
        assert!((990..=991).contains(&waited.as_millis()), "{waited:?}");
        tokio::time::resume();
        assert_eq!(store.record(denied(&somebody_else(&dev()))).await, Ok(()));
    })
    .await;
}
