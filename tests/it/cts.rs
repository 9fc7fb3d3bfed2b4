//! The audit log as CTS lists it: every filter, every limit, and nobody else's records.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::{self, Permit};
use ecs_groupd::access::principal::{Origin, Principal};
use ecs_groupd::api::error::Failure;
use ecs_groupd::audit::event::Event;
use ecs_groupd::clock::Clock;
use ecs_groupd::domain::command;
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::RequestId;
use ecs_groupd::identities::dev;
use ecs_groupd::store::{self, LoggedRecord, Store, TraceError, TraceQuery, Window};
use serde_json::{Value, json};

use crate::batch::{dev, neighbour};
use crate::harness::{
    Answer, Client, NOW, Signer, TestApp, cheap_hash, create_body, group_path, groups_path, on_a_store,
    records, store_options, token_for,
};

const HERE: &str = "a0000000000000000000000000000001";
const THERE: &str = "a0000000000000000000000000000002";
const ABROAD: &str = "b0000000000000000000000000000001";
const PASSWORD: &str = "correct horse battery staple";
/// The control token of `--dev`.
const BEARER: (&str, &str) = ("authorization", "Bearer dev-control-token");
const SERVER: &str = "34dac9a0-c4a7-457b-bab2-e2c696e0e401";

/// alice may do all to groups and read traces, bob only show groups, guest and auditor have the vendor's own policies.
fn accounts() -> String {
    let hash = cheap_hash(PASSWORD);
    let root = |name: &str| {
        let key = name.to_uppercase();
        format!(
            "[[domain]]\nname = '{name}'\n[domain.root]\npassword_hash = '{hash}'\n\
             access_key = [{{ access = 'AK{key}', secret = 'secret-key-of-{name}-00000000' }}]\n"
        )
    };
    let project = |id: &str, name: &str| format!("[[domain.project]]\nname = '{name}'\nid = '{id}'\n");
    let user = |name: &str, grant: &str| {
        format!(
            "[[domain.user]]\nname = '{name}'\npassword_hash = '{hash}'\n\
             [[domain.user_group]]\nname = '{name}s'\nusers = ['{name}']\n\
             [[domain.grant]]\nuser_group = '{name}s'\n{grant}\nscope = 'all_projects'\n"
        )
    };
    let document = |actions: &str| {
        format!(r#"document = '{{"Version":"1.1","Statement":[{{"Effect":"Allow","Action":[{actions}]}}]}}'"#)
    };
    [
        root("acme"),
        project(HERE, "here"),
        project(THERE, "there"),
        user("alice", &document(r#""ecs:cloudServers:*ServerGroup*","cts:trace:list""#)),
        user("bob", &document(r#""ecs:cloudServers:showServerGroup""#)),
        user("guest", "policies = ['Tenant Guest']"),
        user("auditor", "policies = ['CTS Administrator']"),
        root("globex"),
        project(ABROAD, "abroad"),
    ]
    .concat()
}

fn client_of(app: &TestApp, domain: &str, user: &str, project: &str) -> Client {
    app.client.with_token(&token_for(&app.client, domain, user, PASSWORD, project))
}

fn groups_of(project: &str) -> String {
    format!("/v1/{project}/cloudservers/os-server-groups")
}

/// The path of the dev project's traces.
fn traces_path(query: &str) -> String {
    format!("/v3/{}/traces{query}", dev::PROJECT_ID)
}

/// The traces of an answer, whose count and marker are right.
#[track_caller]
fn traces(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    let traces = body["traces"].as_array().unwrap().clone();
    let marker = traces.last().map_or(Value::Null, |last| last["trace_id"].clone());
    assert_eq!(body["meta_data"], json!({ "count": traces.len(), "marker": marker }));
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    traces
}

/// The dev project's traces.
#[track_caller]
fn listed(app: &TestApp, query: &str) -> Vec<Value> {
    traces(&app.client.get(&traces_path(query)))
}

/// Operation and resource name of each.
fn summary(traces: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    traces
        .iter()
        .map(|trace| format!("{} {}", text(&trace["trace_name"]), text(&trace["resource_name"])))
        .collect()
}

fn ids(traces: &[Value]) -> Vec<String> {
    traces.iter().map(|trace| trace["trace_id"].as_str().unwrap().to_owned()).collect()
}

fn change_member(client: &Client, group: &str, verb: &str, server: &str) -> Answer {
    let body = json!({ verb: { "instance_uuid": server } }).to_string();
    client.post_json(&format!("{}/action", group_path(group)), &body)
}

/// The record of a request.
fn record_of(app: &TestApp, answer: &Answer) -> Value {
    let mut all = records(&app.database()).into_iter();
    all.find(|record| record["request_id"] == answer.request_id()).unwrap()
}

/// What every trace of a user of acme has, from the answer that it tells of.
fn expected_trace(app: &TestApp, answer: &Answer, user: &str, own: Value) -> Value {
    let record = record_of(app, answer);
    let acme = &record["actor"]["domain_id"];
    let mut expected = json!({
        "trace_id": record["trace_id"],
        "trace_type": "ApiCall",
        "service_type": "ECS",
        "resource_type": "serverGroup",
        "api_version": "v1",
        "source_ip": "127.0.0.1",
        "tracker_name": "system",
        "event_type": "system",
        "read_only": false,
        "time": NOW.as_millis(),
        "record_time": NOW.as_millis(),
        "request_id": answer.request_id(),
        "project_id": HERE,
        "domain_id": acme,
        "resource_account_id": acme,
        "enterprise_project_id": "0",
        "user": {
            "id": record["actor"]["user_id"],
            "name": user,
            "user_name": user,
            "type": "User",
            "account_id": acme,
            "principal_id": record["actor"]["user_id"],
            "principal_urn": format!("iam::{}:user:{user}", acme.as_str().unwrap()),
            "principal_is_root_user": "false",
            "domain": { "id": acme, "name": "acme" },
        },
    });
    let Value::Object(own) = own else { panic!("{own}") };
    expected.as_object_mut().unwrap().extend(own);
    expected
}

/// `request` and `response` as what they hold.
fn unfolded(mut trace: Value) -> Value {
    for key in ["request", "response"] {
        if let Some(text) = trace.get_mut(key) {
            *text = serde_json::from_str(text.as_str().unwrap()).unwrap();
        }
    }
    trace
}

#[test]
fn a_trace_is_exactly_what_the_record_tells() {
    let app = TestApp::start_with_identities(&accounts(), |settings| settings.quota.groups_per_project = 1);
    let alice = client_of(&app, "acme", "alice", "here");
    let bob = client_of(&app, "acme", "bob", "here");
    let groups = groups_of(HERE);
    let created = alice.post_json(&groups, &create_body("web \"tier\" é"));
    let group = created.json()["server_group"]["id"].as_str().unwrap().to_owned();
    let full = alice.post_json(&groups, &create_body("db"));
    assert_eq!((created.status, full.status), (200, 403));
    let denied = bob.delete(&format!("{groups}/{group}"));
    assert_eq!(denied.status, 403);
    let body = json!({ "add_member": { "instance_uuid": SERVER } }).to_string();
    let added = alice.post_json(&format!("{groups}/{group}/action"), &body);
    assert_eq!(added.status, 200);

    let name = "web \"tier\" é";
    let expected = [
        expected_trace(
            &app,
            &created,
            "alice",
            json!({
                "trace_name": "createServerGroup",
                "trace_rating": "normal",
                "operation_id": "CreateServerGroup",
                "resource_id": group,
                "resource_name": name,
                "request": { "server_group": { "name": name, "policies": ["anti-affinity"] } },
                "response": { "server_group": { "id": group } },
                "code": "200",
            }),
        ),
        expected_trace(
            &app,
            &full,
            "alice",
            json!({
                "trace_name": "createServerGroup",
                "trace_rating": "warning",
                "operation_id": "CreateServerGroup",
                "resource_name": "db",
                "request": { "server_group": { "name": "db", "policies": ["anti-affinity"] } },
                "response": { "error": {
                    "reason": "group_quota_reached",
                    "message": "the project has 1 ECS groups, which is its quota",
                } },
                "code": "403",
            }),
        ),
        expected_trace(
            &app,
            &denied,
            "bob",
            json!({
                "trace_name": "deleteServerGroup",
                "trace_rating": "warning",
                "operation_id": "DeleteServerGroup",
                "resource_id": group,
                "response": { "error": { "reason": "not_allowed", "project_id": HERE } },
                "code": "403",
            }),
        ),
        expected_trace(
            &app,
            &added,
            "alice",
            json!({
                "trace_name": "addServerGroupMember",
                "trace_rating": "normal",
                "operation_id": "AddServerGroupMember",
                "resource_id": group,
                "resource_name": name,
                "request": { "add_member": { "instance_uuid": SERVER } },
                "code": "200",
            }),
        ),
    ];
    let mut found = traces(&alice.get(&format!("/v3/{HERE}/traces")));
    found.reverse();
    let found: Vec<_> = found.into_iter().map(unfolded).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_trace_tells_the_native_interface_the_root_and_the_access_key() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    let alice = client_of(&app, "acme", "alice", "here");
    let group = alice.post_json(&groups_of(HERE), &create_body("web")).json();
    let group = group["server_group"]["id"].as_str().unwrap();
    let root =
        Signer { access_key: "AKACME", secret_key: "secret-key-of-acme-00000000", date: "20260102T030405Z" };
    let native = format!("/v2.1/{HERE}/os-server-groups/{group}");
    let deleted = app.client.send_signed(&root, "DELETE", &native, &[], &[]);
    assert_eq!(deleted.status, 204);

    let mut expected = expected_trace(
        &app,
        &deleted,
        "acme",
        json!({
            "trace_name": "deleteServerGroup",
            "trace_rating": "normal",
            "operation_id": "NovaDeleteServerGroup",
            "api_version": "v2.1",
            "resource_id": group,
            "resource_name": "web",
            "code": "204",
        }),
    );
    expected["user"]["principal_is_root_user"] = json!("true");
    expected["user"]["access_key_id"] = json!("AKACME");
    let found = traces(&alice.get(&format!("/v3/{HERE}/traces")));
    assert_eq!(found[0], expected);
}

#[test]
fn an_attempt_in_another_project_is_listed_in_the_callers_own_and_says_where_it_was() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    let alice = client_of(&app, "acme", "alice", "here");
    let denied = alice.post_json(&groups_of(ABROAD), &create_body("mine"));
    assert_eq!(denied.status, 400);
    let trace = unfolded(traces(&alice.get(&format!("/v3/{HERE}/traces"))).remove(0));
    assert_eq!(trace["response"], json!({ "error": { "reason": "other_project", "project_id": ABROAD } }));
    assert_eq!((&trace["code"], &trace["project_id"]), (&json!("400"), &json!(HERE)));
    assert_eq!(trace.get("resource_account_id"), None, "whose that project is, the record does not tell");
}

#[test]
fn every_filter_finds_what_it_names_and_nothing_else() {
    let folder = TestApp::start().stop();
    // By the machine's clock, behind which no later record goes.
    let put = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"))
        .args(["inventory", "put", SERVER, "--name", "vm1", "--database"])
        .arg(folder.path().join("ecs-groupd.db"))
        .status()
        .unwrap();
    assert!(put.success());
    let app = TestApp::start_in(folder, |_| {});
    let web = app.client.create("web");
    let db = app.client.create("db");
    change_member(&app.client, &web, "add_member", SERVER);
    change_member(&app.client, &db, "add_member", SERVER);
    let key = Signer { access_key: dev::ACCESS_KEY, secret_key: dev::SECRET_KEY, date: "20260102T030405Z" };
    assert_eq!(app.client.send_signed(&key, "DELETE", &group_path(&db), &[], &[]).status, 204);

    let all = [
        "deleteServerGroup db",
        "addServerGroupMember -",
        "addServerGroupMember web",
        "createServerGroup db",
        "createServerGroup web",
        "registerServer vm1",
    ];
    assert_eq!(summary(&listed(&app, "")), all);
    let pick = |places: &[usize]| places.iter().map(|place| all[*place].to_owned()).collect::<Vec<_>>();
    let cases: Vec<(String, Vec<usize>)> = vec![
        ("trace_type=system".to_owned(), vec![0, 1, 2, 3, 4, 5]),
        ("trace_type=data".to_owned(), vec![]),
        ("tracker_name=system".to_owned(), vec![0, 1, 2, 3, 4, 5]),
        ("tracker_name=other".to_owned(), vec![]),
        ("service_type=ECS".to_owned(), vec![0, 1, 2, 3, 4, 5]),
        ("service_type=IAM".to_owned(), vec![]),
        ("user=dev".to_owned(), vec![0, 1, 2, 3, 4]),
        ("user=de".to_owned(), vec![]),
        ("user=".to_owned(), vec![]),
        (format!("resource_id={web}"), vec![2, 4]),
        (format!("resource_id={}", web.to_uppercase()), vec![2, 4]),
        (format!("resource_id={db}"), vec![0, 1, 3]),
        (format!("resource_id={SERVER}"), vec![5]),
        ("resource_id=00000000-0000-4000-8000-000000000000".to_owned(), vec![]),
        ("resource_id=x".to_owned(), vec![]),
        (format!("resource_id={web}&resource_type=ecs"), vec![]),
        (format!("resource_id={web}&resource_type=serverGroup&trace_name=createServerGroup"), vec![4]),
        ("resource_name=db".to_owned(), vec![0, 3]),
        ("resource_type=serverGroup".to_owned(), vec![0, 1, 2, 3, 4]),
        ("resource_type=ecs".to_owned(), vec![5]),
        ("trace_name=createServerGroup".to_owned(), vec![3, 4]),
        ("trace_name=createservergroup".to_owned(), vec![]),
        ("trace_rating=normal".to_owned(), vec![0, 2, 3, 4, 5]),
        ("trace_rating=warning".to_owned(), vec![1]),
        ("trace_rating=incident".to_owned(), vec![]),
        (format!("access_key_id={}", dev::ACCESS_KEY), vec![0]),
        ("access_key_id=OTHER".to_owned(), vec![]),
        ("enterprise_project_id=0".to_owned(), vec![0, 1, 2, 3, 4, 5]),
        ("enterprise_project_id=1".to_owned(), vec![]),
        ("resource_name=db&trace_name=createServerGroup&user=dev&trace_rating=normal".to_owned(), vec![3]),
        ("nobody_knows_this=1".to_owned(), vec![0, 1, 2, 3, 4, 5]),
    ];
    for (query, places) in cases {
        let found = listed(&app, &format!("?{query}"));
        assert_eq!(summary(&found), pick(&places), "{query}");
        // Whatever is filtered, a page is the first of what is left.
        let page = listed(&app, &format!("?limit=1&{query}"));
        assert_eq!(page, found[..found.len().min(1)], "{query}");
    }
}

#[test]
fn one_trace_is_found_by_its_id_whatever_the_other_filters_say() {
    let app = TestApp::start();
    app.client.create("web");
    app.client.create("db");
    let all = listed(&app, "");
    let id = all[1]["trace_id"].as_str().unwrap();
    let later = NOW.plus_millis(86_400_000).as_millis();
    for more in [
        String::new(),
        "&trace_name=deleteServerGroup&trace_rating=incident&trace_type=data&tracker_name=x".to_owned(),
        format!("&from={later}&to={later}"),
        format!("&next={id}"),
        "&limit=200".to_owned(),
    ] {
        assert_eq!(listed(&app, &format!("?trace_id={id}{more}")), all[1..], "{more}");
    }
    assert_eq!(listed(&app, &format!("?trace_id={}", id.to_uppercase())), all[1..]);
    assert_eq!(listed(&app, &format!("?limit=0&trace_id={id}")), Vec::<Value>::new());
    // The right place, and other random bits; no place at all.
    for other in [&format!("{}0000-000000000000", &id[..19]), "00000000-0000-8000-8000-000000000000"] {
        assert_eq!(listed(&app, &format!("?trace_id={other}")), Vec::<Value>::new(), "{other}");
    }
}

#[test]
fn a_page_has_10_traces_or_as_many_from_0_to_200_as_are_asked_for() {
    let app = TestApp::start();
    for nth in 0..201 {
        app.client.create(&format!("g{nth}"));
    }
    for (query, count) in [("", 10), ("?limit=0", 0), ("?limit=1", 1), ("?limit=007", 7), ("?limit=200", 200)]
    {
        let found = listed(&app, query);
        assert_eq!(found.len(), count, "{query}");
        let newest_first: Vec<_> = (0..201).rev().take(count).map(|nth| format!("g{nth}")).collect();
        assert!(found.iter().map(|trace| trace["resource_name"].as_str().unwrap()).eq(&newest_first));
    }
    for limit in ["201", "-1", "+1", "1.0", "", "x", "99999999999999999999999"] {
        let message = app.client.get(&traces_path(&format!("?limit={limit}"))).cts_error(400, "CTS.0300");
        assert!(message.starts_with("limit must be a whole number from 0 to 200, and is "), "{message}");
    }
}

#[test]
fn a_window_includes_both_its_ends() {
    let app = TestApp::start();
    let at = |millis: u64| NOW.plus_millis(millis);
    for millis in [0, 1_000, 1_000, 2_000, 3_000] {
        app.clock.set(at(millis));
        app.client.create(&format!("at-{millis}"));
    }
    let found = |from: u64, to: u64| {
        let (from, to) = (at(from).as_millis(), at(to).as_millis());
        listed(&app, &format!("?from={from}&to={to}")).len()
    };
    for ((from, to), count) in [
        ((0, 3_000), 5),
        ((0, 2_999), 4),
        ((1, 3_000), 4),
        ((1_000, 1_000), 2),
        ((999, 1_001), 2),
        ((1_001, 1_999), 0),
        ((2_000, 2_000), 1),
        ((3_000, 4_000), 1),
        ((3_001, 4_000), 0),
    ] {
        assert_eq!(found(from, to), count, "{from} to {to}");
    }
    assert_eq!(listed(&app, &format!("?from=0&to={}", (1_u64 << 48) - 1)).len(), 5);
    assert_eq!(listed(&app, &format!("?from=0&to={}", NOW.as_millis() - 1)).len(), 0);
    for (query, problem) in [
        ("?from=1", "from needs to beside it."),
        ("?to=1", "to needs from beside it."),
        ("?from=2&to=1", "from must not be later than to, and is 2, where to is 1."),
        ("?from=x&to=1", "from must be a whole number from 0 to 281474976710655, and is \"x\"."),
        ("?from=1&to=-1", "to must be a whole number from 0 to 281474976710655, and is \"-1\"."),
        (
            "?from=1&to=281474976710656",
            "to must be a whole number from 0 to 281474976710655, and is \"281474976710656\".",
        ),
    ] {
        assert_eq!(app.client.get(&traces_path(query)).cts_error(400, "CTS.0300"), problem);
    }
}

#[test]
fn without_a_window_it_is_the_last_hour_up_to_now_or_to_the_newest_record() {
    const HOUR: u64 = 3_600_000;
    let app = TestApp::start();
    assert_eq!(listed(&app, "").len(), 0, "there is nothing yet");
    app.client.create("web");
    for (later, count) in [(0, 1), (HOUR, 1), (HOUR + 1, 0)] {
        app.clock.set(NOW.plus_millis(later));
        assert_eq!(listed(&app, "").len(), count, "{later}");
    }
    app.client.create("db");
    assert_eq!(summary(&listed(&app, "")), ["createServerGroup db"]);
    // The clock went back: what is newest is still shown, and what is made now is not before it.
    app.clock.set(NOW);
    assert_eq!(summary(&listed(&app, "")), ["createServerGroup db"]);
    app.client.create("third");
    let found = listed(&app, "");
    assert_eq!(summary(&found), ["createServerGroup third", "createServerGroup db"]);
    assert_eq!(
        (&found[0]["time"], &found[0]["record_time"]),
        (&json!(NOW.as_millis()), &found[1]["record_time"])
    );
}

#[test]
fn paging_to_the_end_while_writes_go_on_leaves_nothing_out_and_repeats_nothing() {
    for (filter, expected) in [("", 25), ("&trace_rating=warning", 12), ("&trace_name=createServerGroup", 13)]
    {
        for limit in [1, 3, 12, 200] {
            let app = TestApp::start();
            let group = app.client.create("members");
            for nth in 0..12 {
                app.client.create(&format!("g{nth}"));
                assert_eq!(change_member(&app.client, &group, "remove_member", SERVER).status, 400);
            }
            let before = listed(&app, &format!("?limit=200{filter}"));
            assert_eq!(before.len(), expected);
            let (mut found, mut next) = (Vec::new(), String::new());
            loop {
                let page = listed(&app, &format!("?limit={limit}{filter}{next}"));
                let Some(last) = page.last() else { break };
                next = format!("&next={}", last["trace_id"].as_str().unwrap());
                found.extend(page);
                // What comes meanwhile is newer, and so on no page that follows.
                app.client.create("meanwhile");
                change_member(&app.client, &group, "remove_member", SERVER);
            }
            assert_eq!(ids(&found), ids(&before), "limit={limit}{filter}");
        }
    }
}

#[test]
fn a_marker_that_is_no_trace_of_the_project_is_400() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    let (alice, stranger) =
        (client_of(&app, "acme", "alice", "here"), client_of(&app, "globex", "globex", "abroad"));
    alice.post_json(&groups_of(HERE), &create_body("web"));
    stranger.post_json(&groups_of(ABROAD), &create_body("web"));
    let own = ids(&traces(&alice.get(&format!("/v3/{HERE}/traces")))).remove(0);
    let other = ids(&traces(&stranger.get(&format!("/v3/{ABROAD}/traces")))).remove(0);
    let get = |next: &str| alice.get(&format!("/v3/{HERE}/traces?next={next}"));
    assert_eq!(traces(&get(&own)).len(), 0, "there is nothing older");
    let guessed = format!("{}0000-000000000000", &own[..19]);
    let beyond = "7fffffff-ffff-8000-8000-000000000000";
    for next in [
        &other,
        &guessed,
        beyond,
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        let message = get(next).cts_error(400, "CTS.0300");
        assert!(message.starts_with("next must be the marker of the page before"), "{message}");
        let limit_0 = alice.get(&format!("/v3/{HERE}/traces?limit=0&next={next}"));
        limit_0.cts_error(400, "CTS.0300");
    }
    for name in ["next", "trace_id"] {
        let message = alice.get(&format!("/v3/{HERE}/traces?{name}=x")).cts_error(400, "CTS.0300");
        assert_eq!(message, format!("{name} must be the trace_id of a trace, and is \"x\"."));
    }
}

#[test]
fn nobody_sees_the_records_of_another_project() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    let own = [
        (client_of(&app, "acme", "acme", "here"), HERE),
        (client_of(&app, "acme", "acme", "there"), THERE),
        (client_of(&app, "globex", "globex", "abroad"), ABROAD),
    ];
    let mut made = BTreeMap::new();
    for (client, project) in &own {
        let group = client.post_json(&groups_of(project), &create_body(project)).json();
        let trace = traces(&client.get(&format!("/v3/{project}/traces"))).remove(0);
        made.insert(*project, (group["server_group"]["id"].as_str().unwrap().to_owned(), trace));
    }
    for (client, project) in &own {
        for query in ["", "?limit=200", "?trace_name=createServerGroup", "?include_before_reset=true"] {
            let found = traces(&client.get(&format!("/v3/{project}/traces{query}")));
            assert_eq!(found, [made[project].1.clone()], "{query}");
        }
        for (other, (group, trace)) in made.iter().filter(|(other, _)| *other != project) {
            let id = trace["trace_id"].as_str().unwrap();
            for query in
                [format!("trace_id={id}"), format!("resource_id={group}"), format!("resource_name={other}")]
            {
                assert_eq!(
                    traces(&client.get(&format!("/v3/{project}/traces?{query}"))),
                    Vec::<Value>::new()
                );
            }
            for path in ["traces", "operations"] {
                let message = client.get(&format!("/v3/{other}/{path}")).cts_error(403, "CTS.0013");
                assert_eq!(message, "project_id in token mismatches with project_id in url.");
            }
        }
    }
}

#[test]
fn listing_needs_the_right_to_and_is_not_recorded() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    let here = |user| client_of(&app, "acme", user, "here");
    let (alice, bob, guest, auditor) = (here("alice"), here("bob"), here("guest"), here("auditor"));
    let before = records(&app.database()).len();
    for path in [format!("/v3/{HERE}/traces"), format!("/v3/{HERE}/operations")] {
        for client in [&alice, &guest, &auditor] {
            assert_eq!(client.get(&path).status, 200);
        }
        // The right comes before the parameters.
        for query in ["", "?limit=x", "?resource_type=x"] {
            let message = bob.get(&format!("{path}{query}")).cts_error(403, "CTS.0013");
            assert_eq!(message, "Policy doesn't allow cts:trace:list to be performed.");
        }
        app.client.get(&path).gateway_error(401, "APIGW.0301");
        app.client.with_token("x").get(&path).gateway_error(401, "APIGW.0301");
        alice.post_json(&path, "{}").gateway_error(405, "APIGW.0101");
    }
    for path in ["/v3/x/traces", "/v3/auth/traces", "/v3/A0000000000000000000000000000001/operations"] {
        alice.get(path).cts_error(403, "CTS.0013");
    }
    for gone in [
        format!("/v1.0/{HERE}/system/trace"),
        format!("/v2.0/{HERE}/system/trace"),
        format!("/v3/{HERE}/traces/x"),
    ] {
        alice.get(&gone).gateway_error(404, "APIGW.0101");
    }
    assert_eq!(records(&app.database()).len(), before);
}

#[test]
fn a_parameter_that_breaks_its_rule_is_400_and_named() {
    let app = TestApp::start();
    for (query, problem) in [
        ("trace_type=x", "trace_type must be system or data, and is \"x\"."),
        ("trace_type=", "trace_type must be system or data, and is \"\"."),
        ("trace_rating=Normal", "trace_rating must be normal, warning or incident, and is \"Normal\"."),
        ("include_before_reset=1", "include_before_reset must be true or false, and is \"1\"."),
    ] {
        assert_eq!(app.client.get(&traces_path(&format!("?{query}"))).cts_error(400, "CTS.0300"), problem);
    }
}

#[test]
fn the_listing_starts_after_the_last_reset() {
    let app = TestApp::start();
    let operator = app.control_client();
    let reset = || assert_eq!(operator.send("POST", "/control/reset", &[BEARER], &[]).status, 204);
    let old = app.client.create("old");
    let marker = ids(&listed(&app, "")).remove(0);
    reset();
    assert_eq!(listed(&app, "").len(), 0);
    app.client.create("new");
    assert_eq!(summary(&listed(&app, "")), ["createServerGroup new"]);
    for query in
        [format!("?trace_id={marker}"), format!("?resource_id={old}"), "?resource_name=old".to_owned()]
    {
        assert_eq!(listed(&app, &query).len(), 0, "{query}");
        let more = listed(&app, &format!("{query}&include_before_reset=true"));
        assert_eq!(summary(&more), ["createServerGroup old"], "{query}");
    }
    let all = ["createServerGroup new", "createServerGroup old"];
    assert_eq!(summary(&listed(&app, "?include_before_reset=true")), all);
    assert_eq!(summary(&listed(&app, "?include_before_reset=false")), all[..1]);
    // A page that was begun before the reset ends there.
    assert_eq!(listed(&app, &format!("?next={marker}")).len(), 0);
    reset();
    assert_eq!(listed(&app, "").len(), 0);
    assert_eq!(summary(&listed(&app, "?include_before_reset=true")), all);
}

#[test]
fn the_operations_are_those_that_leave_a_trace() {
    let app = TestApp::start();
    let path = format!("/v3/{}/operations", dev::PROJECT_ID);
    let get = |query: &str| {
        let answer = app.client.get(&format!("{path}{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let groups = json!({
        "service_type": "ECS",
        "resource_type": "serverGroup",
        "operation_list": [
            "createServerGroup",
            "deleteServerGroup",
            "addServerGroupMember",
            "deleteServerGroupMember",
        ],
    });
    let all = get("");
    assert_eq!(all["operations"][0], groups);
    let services: Vec<_> =
        all["operations"].as_array().unwrap().iter().map(|one| one["service_type"].clone()).collect();
    for service in ["ECS", "IAM", "CTS"] {
        let found = get(&format!("?service_type={service}"));
        let expected = services.iter().filter(|found| *found == service).count();
        assert_eq!(found["operations"].as_array().unwrap().len(), expected, "{service}");
    }
    assert_eq!(get("?service_type=ECS&resource_type=serverGroup"), json!({ "operations": [groups] }));
    assert_eq!(get("?service_type=IAM&resource_type=serverGroup"), json!({ "operations": [] }));
    assert_eq!(get("?service_type=VPC"), json!({ "operations": [] }));
    let message = app.client.get(&format!("{path}?resource_type=serverGroup")).cts_error(400, "CTS.0300");
    assert_eq!(message, "resource_type needs service_type beside it.");
}

#[test]
fn what_was_sealed_and_deleted_is_not_listed_and_does_not_hide_the_rest() {
    let app = TestApp::start();
    for nth in 0..20 {
        app.clock.set(NOW.plus_millis(nth * 1_000));
        app.client.create(&format!("g{nth}"));
    }
    let all = listed(&app, "?limit=200");
    let last_deleted = ids(&all)[10].clone();
    seal(&app.database(), "g9");
    assert_eq!(listed(&app, "?limit=200&from=0&to=281474976710655"), all[..10]);
    assert_eq!(listed(&app, &format!("?trace_id={last_deleted}")).len(), 0);
    app.client.get(&traces_path(&format!("?next={last_deleted}"))).cts_error(400, "CTS.0300");
    for second in 8..13 {
        let at = NOW.plus_millis(second * 1_000).as_millis();
        let found = listed(&app, &format!("?from={at}&to={at}"));
        assert_eq!(found.len(), usize::from(second > 9), "{second}");
    }
}

/// Deletes the records up to the one about a group of this name, as if they had been sealed.
fn seal(database: &Path, name: &str) {
    let conn = rusqlite::Connection::open(database).unwrap();
    let last = records(database)
        .into_iter()
        .find(|record| record["resource"]["name"] == name)
        .and_then(|record| record["seq"].as_i64())
        .unwrap();
    conn.execute("update audit_edge set sealed_up_to = ?", [last]).unwrap();
    conn.execute("delete from audit_record where seq <= ?", [last]).unwrap();
}

/// On a new store, which looks through records for so long.
fn with_store(trace_scan_max: Duration, work: impl AsyncFnOnce(&Arc<Store>)) {
    let folder = tempfile::tempdir().unwrap();
    let options = store::Options {
        database: folder.path().join("ecs-groupd.db"),
        refusals_per_minute: None,
        trace_scan_max,
        ..store_options()
    };
    on_a_store(options, &Clock::fixed(NOW), work);
}

const ORIGIN: Origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "v1" };

pub fn permit(who: &Principal, action: Action) -> Permit {
    policy::permit(who, ORIGIN, action, who.project_id(), NOW).unwrap()
}

pub async fn create(store: &Store, who: &Principal, name: &str) {
    let command = command::Command::CreateGroup {
        project_id: who.project_id().unwrap(),
        name: GroupName::try_from(name.to_owned()).unwrap(),
        placement_rule: PlacementRule::AntiAffinity,
        created_by: who.user.user_id,
    };
    store.apply(permit(who, Action::CreateServerGroup), command).await.unwrap();
}

fn everything(filter: &(dyn Fn(&Event<'_>) -> bool + Sync)) -> TraceQuery<'_> {
    TraceQuery {
        limit: 10,
        window: None,
        after: None,
        trace_id: None,
        group_id: None,
        filter,
        includes_before_reset: false,
    }
}

fn names(found: &[LoggedRecord]) -> Vec<String> {
    let name = |record: &LoggedRecord| record.event().unwrap().resource.name.unwrap_or_default().into_owned();
    found.iter().map(name).collect()
}

#[test]
fn records_are_looked_through_only_as_long_as_is_allowed() {
    let nothing = |_: &Event<'_>| false;
    let first = |event: &Event<'_>| event.resource.name.as_deref() == Some("g0");
    let list = async |store: &Store, filter: &(dyn Fn(&Event<'_>) -> bool + Sync)| {
        store.traces(&permit(&dev(), Action::ListTraces), &everything(filter)).await
    };
    // What fits into one read is looked through, whatever the time; more is not begun when the time is over.
    with_store(Duration::ZERO, async |store| {
        for nth in 0..9 {
            create(store, &dev(), &format!("g{nth}")).await;
        }
        assert_eq!(list(store, &nothing).await, Ok(vec![]));
        assert_eq!(names(&list(store, &first).await.unwrap()), ["g0"]);
        create(store, &dev(), "g9").await;
        assert_eq!(list(store, &nothing).await, Err(TraceError::OutOfTime));
        assert_eq!(list(store, &first).await, Err(TraceError::OutOfTime));
        assert_eq!(list(store, &|_| true).await.unwrap().len(), 10, "nothing has to be looked through");
        // As the message says: a window that is narrow enough is answered.
        let window = Some(Window { from: NOW.plus_millis(1), to: NOW.plus_millis(2) });
        let narrow = TraceQuery { window, ..everything(&nothing) };
        let narrow = store.traces(&permit(&dev(), Action::ListTraces), &narrow).await;
        assert_eq!(narrow, Ok(vec![]));
    });
    with_store(store::TRACE_SCAN_MAX, async |store| {
        for nth in 0..60 {
            create(store, &dev(), &format!("g{nth}")).await;
        }
        assert_eq!(list(store, &nothing).await, Ok(vec![]));
        assert_eq!(names(&list(store, &first).await.unwrap()), ["g0"]);
    });
    assert_eq!(store::TRACE_SCAN_MAX, Duration::from_secs(2));
    let answer = Failure::from(TraceError::OutOfTime).answer();
    assert_eq!((answer.status.as_u16(), answer.code), (400, "CTS.0300"));
    assert!(answer.message.contains("narrow from/to"), "{}", answer.message);
}

#[test]
fn a_reset_of_one_project_cuts_its_own_listing_only() {
    with_store(store::TRACE_SCAN_MAX, async |store| {
        let (dev, neighbour) = (dev(), neighbour());
        create(store, &dev, "dev-old").await;
        create(store, &neighbour, "neighbour-old").await;
        let project_id = dev.project_id().unwrap();
        let reset = policy::permit_project_reset(ORIGIN, project_id);
        store.apply(reset, command::Command::ResetProject { project_id }).await.unwrap();
        create(store, &dev, "dev-new").await;
        create(store, &neighbour, "neighbour-new").await;

        let list = async |who: &Principal, includes_before_reset| {
            let query = TraceQuery { includes_before_reset, ..everything(&|_| true) };
            names(&store.traces(&permit(who, Action::ListTraces), &query).await.unwrap())
        };
        assert_eq!(list(&dev, false).await, ["dev-new"]);
        assert_eq!(list(&dev, true).await, ["dev-new", "", "dev-old"], "the reset is the project's own too");
        for includes_before_reset in [false, true] {
            let found = list(&neighbour, includes_before_reset).await;
            assert_eq!(found, ["neighbour-new", "neighbour-old"]);
        }
    });
}

#[test]
fn traces_are_not_read_with_a_permit_for_something_else() {
    with_store(store::TRACE_SCAN_MAX, async |store| {
        let other = permit(&dev(), Action::ListServerGroups);
        let answer = store.traces(&other, &everything(&|_| true)).await;
        assert!(
            matches!(answer, Err(TraceError::Store(store::StoreError::WrongPermit { .. }))),
            "{answer:?}"
        );
    });
}

#[test]
fn the_paths_of_groups_and_of_the_login_are_where_they_were() {
    let app = TestApp::start();
    for path in ["/v3/auth/projects", "/v3/auth/domains", "/v3/auth/catalog", "/v3/projects", &groups_path()]
    {
        assert_eq!(app.client.get(path).status, 200, "{path}");
    }
}

#[test]
fn the_export_for_cts_has_the_traces_that_the_listing_shows_and_those_of_no_project() {
    let app = TestApp::start();
    let group = app.client.create("web");
    app.client.post_json(&groups_of(dev::PROJECT_ID), &create_body("web \u{e9}"));
    app.client.delete(&group_path(&group));
    let exported = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"))
        .args(["audit", "export", "--format", "cts", "--database"])
        .arg(app.database())
        .output()
        .unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let lines = String::from_utf8(exported.stdout).unwrap();
    let all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (of_project, of_none): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|trace| trace["project_id"] == dev::PROJECT_ID);
    let newest_first: Vec<Value> = of_project.into_iter().rev().collect();
    assert_eq!(newest_first, listed(&app, ""));
    assert_eq!(newest_first.len(), 3);
    assert_eq!(summary(&of_none), ["changeCheckpointKey -", "startService -"]);
}
