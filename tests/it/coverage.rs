//! Every attempt that is to be recorded has one record, what is not to be recorded has none, and the log says neither
//! more nor less than what was changed.
//!
//! (`refusals.rs` has the limit on refusals, `idempotency.rs` what is sent twice, `batch.rs` and `one_batch.rs` what
//! shares a transaction, `durability.rs` and `kill.rs` what a kill leaves.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command as Program, Stdio};

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy;
use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::domain::command::{Change, Command};
use ecs_groupd::domain::id::{GroupId, ServerId};
use ecs_groupd::domain::server::{Server, ServerStatus};
use ecs_groupd::domain::session::{LoginMethod, Scope, SecretDigest};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use ecs_groupd::ops::{self, OpsError};
use ecs_groupd::settings::MemberSource;
use ecs_groupd::store::{OpenError, Options, StoreError};
use proptest::prelude::*;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};

use crate::batch::{BATCH_MAX, Bench, Pending, bench, dev, neighbour, outcome, project};
use crate::checkpoint::check_checkpoints;
use crate::harness::{
    Answer, Client, NOW, TestApp, all_records, cheap_hash, create_body, group_path, groups_path, log_in,
    store_options, token_for, write_secret,
};
use crate::member::{batch, ecs};

const REGION_1: &str = "0123456789abcdef0123456789abcdef";
const REGION_2: &str = "fedcba9876543210fedcba9876543210";
const JSON: (&str, &str) = ("content-type", "application/json");
const BEARER: (&str, &str) = ("authorization", "Bearer dev-control-token");
const ABSENT: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
const TOKENS: &str = "/v3/auth/tokens";
const PASSWORD: &str = "secret-of-all";

/// `alice` may do everything to groups, `dora` everything but delete, `mallory` nothing.
fn accounts(more: &str) -> String {
    let hash = cheap_hash(PASSWORD);
    let user = |name: &str| format!("{{ name = '{name}', password_hash = '{hash}' }}");
    let users = ["alice", "dora", "mallory"].map(user).join(", ");
    let (allow, deny) = ("ecs:cloudServers:*", "ecs:cloudServers:deleteServerGroup");
    format!(
        r#"[[domain]]
name = 'acme'
root = {{ name = 'admin', password_hash = '{hash}' }}
project = [{{ name = 'region-1', id = '{REGION_1}' }}, {{ name = 'region-2', id = '{REGION_2}' }}]
user = [{users}{more}]
user_group = [{{ name = 'all', users = ['alice'] }}, {{ name = 'some', users = ['dora'] }}]
grant = [
    {{ user_group = 'all', policies = ['ECS FullAccess'], scope = {{ project = 'region-1' }} }},
    {{ user_group = 'some', policies = ['no-deletes'], scope = {{ project = 'region-1' }} }},
]
[[domain.policy]]
name = 'no-deletes'
document = '''{{"Version":"5.0","Statement":[
    {{"Effect":"Allow","Action":["{allow}"]}},{{"Effect":"Deny","Action":["{deny}"]}}]}}'''
"#
    )
}

/// What a record says: door, actor, action, outcome, reason, project.
fn told(record: &Value) -> String {
    let actor = &record["actor"];
    let actor = actor["user_name"].as_str().or(actor["type"].as_str()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let project = match record["project_id"].as_str().map(|id| id.replace('-', "")).as_deref() {
        None => "-",
        Some(REGION_1 | dev::PROJECT_ID) => "own",
        Some(REGION_2) => "other",
        Some(other) => panic!("{other}"),
    };
    let (door, action) = (text(&record["door"]), text(&record["action"]));
    let (outcome, reason) = (text(&record["outcome"]), text(&record["reason"]["name"]));
    format!("{door} {actor} {action} {outcome} {reason} {project}")
}

/// A service, and how much of its log was looked at.
struct Ledger {
    app: TestApp,
    seen: usize,
    reasons: BTreeSet<String>,
}

impl Ledger {
    fn new(app: TestApp) -> Self {
        let seen = all_records(&app.database()).len();
        Self { app, seen, reasons: BTreeSet::new() }
    }

    /// Checks an answer, and that just these records were added.
    #[track_caller]
    fn expect(&mut self, what: &str, answer: &Answer, status: u16, expected: &[&str]) {
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        let records = all_records(&self.app.database());
        let added: Vec<String> = records[self.seen..].iter().map(told).collect();
        assert_eq!(added, expected, "{what}");
        for record in &records[self.seen..] {
            let request_id = answer.request_id();
            assert!(record["door"] == "signal" || record["request_id"] == request_id, "{what}: {record}");
            self.reasons.extend(record["reason"]["name"].as_str().map(str::to_owned));
        }
        self.seen = records.len();
    }

    /// Checks that nothing was added.
    #[track_caller]
    fn nothing(&mut self, what: &str, answer: &Answer, status: u16) {
        self.expect(what, answer, status, &[]);
    }

    #[track_caller]
    fn user(&mut self, name: &str) -> Client {
        let answer = log_in(&self.app.client, "acme", name, PASSWORD, &region_1());
        self.expect("a login", &answer, 201, &[&format!("v3 {name} ecs-groupd:token:issue done - -")]);
        self.app.client.with_token(answer.header("x-subject-token").unwrap())
    }
}

fn region_1() -> Value {
    json!({ "project": { "name": "region-1" } })
}

fn groups() -> String {
    format!("/v1/{REGION_1}/cloudservers/os-server-groups")
}

fn group(id: &str) -> String {
    format!("{}/{id}", groups())
}

fn native(id: &str) -> String {
    format!("/v2.1/{REGION_1}/os-server-groups{id}")
}

fn member(verb: &str, server_id: &str) -> String {
    json!({ verb: { "instance_uuid": server_id } }).to_string()
}

fn id_of(answer: &Answer) -> String {
    answer.json()["server_group"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn every_decision_on_a_group_of_v1_has_one_record() {
    const CREATE: &str = "v1 alice ecs:cloudServers:createServerGroup";
    const DELETE: &str = "v1 alice ecs:cloudServers:deleteServerGroup";
    let mut ledger = Ledger::new(TestApp::start_with_identities(&accounts(""), |settings| {
        settings.quota.groups_per_project = 2;
    }));
    let (alice, dora, mallory) = (ledger.user("alice"), ledger.user("dora"), ledger.user("mallory"));
    let done = |verb: &str| format!("{verb} done - own");
    let web = create_body("web");

    let created = alice.post_json(&groups(), &web);
    let id = id_of(&created);
    ledger.expect("a create", &created, 200, &[&done(CREATE)]);
    let keyed = |key: &str, body: &str| {
        alice.send("POST", &groups(), &[JSON, ("idempotency-key", key)], body.as_bytes())
    };
    ledger.expect("with a key", &keyed("k", &web), 200, &[&done(CREATE)]);
    ledger.nothing("the same again", &keyed("k", &web), 200);
    let reused = format!("{CREATE} refused key_reused own");
    ledger.expect("another with that key", &keyed("k", &create_body("db")), 422, &[&reused]);
    let full = format!("{CREATE} refused group_quota_reached own");
    ledger.expect("one too many", &alice.post_json(&groups(), &web), 403, &[&full]);
    ledger.expect("refused with a key", &keyed("full", &web), 403, &[&full]);
    ledger.nothing("and again", &keyed("full", &web), 403);

    ledger.expect("a delete", &alice.delete(&group(&id)), 204, &[&done(DELETE)]);
    let gone = format!("{DELETE} refused group_not_found own");
    ledger.expect("a delete of none", &alice.delete(&group(&id)), 404, &[&gone]);
    ledger.nothing("a delete of what is no id", &alice.delete(&group("none")), 404);

    let denied = |who: &str, action: &str, reason: &str| {
        format!("v1 {who} ecs:cloudServers:{action} denied {reason} own")
    };
    let create = denied("mallory", "createServerGroup", "not_allowed");
    ledger.expect("no right to create", &mallory.post_json(&groups(), &web), 403, &[&create]);
    ledger.expect("nor with a wrong body", &mallory.post_json(&groups(), "{"), 403, &[&create]);
    let delete = denied("dora", "deleteServerGroup", "explicitly_denied");
    ledger.expect("a right taken away", &dora.delete(&group(ABSENT)), 403, &[&delete]);
    let other = denied("alice", "createServerGroup", "other_project");
    for project in [REGION_2, "11111111111111111111111111111111", "none"] {
        let path = groups().replace(REGION_1, project);
        ledger.expect("another's project", &alice.post_json(&path, &web), 400, &[&other]);
    }
    let other = denied("alice", "deleteServerGroup", "other_project");
    let path = group(ABSENT).replace(REGION_1, REGION_2);
    ledger.expect("a delete in another's project", &alice.delete(&path), 400, &[&other]);
    let reasons = [
        "explicitly_denied",
        "group_not_found",
        "group_quota_reached",
        "key_reused",
        "not_allowed",
        "other_project",
    ];
    assert_eq!(ledger.reasons, BTreeSet::from(reasons.map(str::to_owned)));
}

#[test]
fn every_decision_on_a_member_has_one_record_and_one_for_each_ecs_of_several() {
    const ADD: &str = "v1 alice ecs:cloudServers:addServerGroupMember";
    const REMOVE: &str = "v1 alice ecs:cloudServers:deleteServerGroupMember";
    let mut ledger = Ledger::new(TestApp::start_with_identities(&accounts(""), |settings| {
        settings.quota.members_per_group = 2;
    }));
    let (alice, mallory) = (ledger.user("alice"), ledger.user("mallory"));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let created = alice.post_json(&groups(), &create_body("web"));
        ids.push(id_of(&created));
        let create = "v1 alice ecs:cloudServers:createServerGroup done - own";
        ledger.expect("a create", &created, 200, &[create]);
    }
    let action = |who: &Client, id: &str, verb: &str, server_id: &str| {
        who.post_json(&format!("{}/action", group(id)), &member(verb, server_id))
    };
    let (one, two) = (&ids[0], &ids[1]);
    for (what, id, verb, server_id, status, expected) in [
        ("an add", one, "add_member", ecs(1), 200, format!("{ADD} done - own")),
        ("a member", one, "add_member", ecs(1), 200, format!("{ADD} unchanged - own")),
        ("another's", two, "add_member", ecs(1), 400, format!("{ADD} refused member_of_other_group own")),
        ("an add", one, "add_member", ecs(2), 200, format!("{ADD} done - own")),
        ("too many", one, "add_member", ecs(3), 400, format!("{ADD} refused member_quota_reached own")),
        (
            "to none",
            &ABSENT.to_owned(),
            "add_member",
            ecs(3),
            404,
            format!("{ADD} refused group_not_found own"),
        ),
        ("a removal", one, "remove_member", ecs(1), 200, format!("{REMOVE} done - own")),
        ("no member", one, "remove_member", ecs(1), 400, format!("{REMOVE} refused not_a_member own")),
        (
            "from none",
            &ABSENT.to_owned(),
            "remove_member",
            ecs(2),
            404,
            format!("{REMOVE} refused group_not_found own"),
        ),
    ] {
        ledger.expect(what, &action(&alice, id, verb, &server_id), status, &[&expected]);
    }
    for (verb, name) in [("add_member", "addServerGroupMember"), ("remove_member", "deleteServerGroupMember")]
    {
        let denied = format!("v1 mallory ecs:cloudServers:{name} denied not_allowed own");
        ledger.expect("no right", &action(&mallory, one, verb, &ecs(9)), 403, &[&denied]);
    }
    ledger.nothing("no verb", &alice.post_json(&format!("{}/action", group(one)), "{}"), 400);
    ledger.nothing("no id", &action(&alice, one, "add_member", "none"), 400);

    let several = |who: &Client, verb: &str, server_ids: &[String]| {
        who.post_json(&format!("{}/{verb}", group(two)), &json!({ "server_ids": server_ids }).to_string())
    };
    let (added, refused) = (format!("{ADD} done - own"), format!("{ADD} refused member_of_other_group own"));
    let answer = several(&alice, "add_members", &[ecs(4), ecs(2), ecs(5)]);
    ledger.expect("several", &answer, 200, &[&added, &refused, &added]);
    let (removed, none) = (format!("{REMOVE} done - own"), format!("{REMOVE} refused not_a_member own"));
    ledger.expect("several", &several(&alice, "remove_members", &[ecs(9), ecs(4)]), 200, &[&none, &removed]);
    let denied = "v1 mallory ecs:cloudServers:addServerGroupMember denied not_allowed own";
    ledger.expect("no right", &several(&mallory, "add_members", &[ecs(8), ecs(9)]), 403, &[denied]);
    ledger.nothing("none at all", &several(&alice, "add_members", &[]), 400);
}

#[test]
fn every_decision_of_the_native_interface_has_one_record_by_the_actions_own_name() {
    let mut ledger = Ledger::new(TestApp::start_with_identities(&accounts(""), |_| {}));
    let admin = ledger.user("admin");
    let mallory = ledger.user("mallory");
    let told = |who: &str, verb: &str, rest: &str| format!("v2.1 {who} ecs:cloudServers:{verb} {rest} own");
    for family in ["/v2.1/", "/v2/"] {
        let path = |id: &str| native(id).replace("/v2.1/", family);
        let created = admin.post_json(&path(""), &create_body("web"));
        let id = format!("/{}", id_of(&created));
        ledger.expect("a create", &created, 200, &[&told("admin", "createServerGroup", "done -")]);
        let done = told("admin", "deleteServerGroup", "done -");
        ledger.expect("a delete", &admin.delete(&path(&id)), 204, &[&done]);
        let gone = told("admin", "deleteServerGroup", "refused group_not_found");
        ledger.expect("a delete of none", &admin.delete(&path(&id)), 404, &[&gone]);
        let denied = told("mallory", "createServerGroup", "denied not_allowed");
        ledger.expect("no right", &mallory.post_json(&path(""), &create_body("web")), 403, &[&denied]);
        let denied = told("mallory", "deleteServerGroup", "denied not_allowed");
        ledger.expect("no right", &mallory.delete(&path(&id)), 403, &[&denied]);
        let denied = told("admin", "createServerGroup", "denied other_project");
        let other = path("").replace(REGION_1, REGION_2);
        ledger.expect("another's", &admin.post_json(&other, &create_body("web")), 400, &[&denied]);
        ledger.nothing("a wrong body", &admin.post_json(&path(""), "{}"), 400);
        ledger.nothing("an unknown path", &admin.post_json(&path("/a/b"), "{}"), 404);
        ledger.nothing("no such method", &admin.send("PUT", &path(""), &[JSON], b"{}"), 405);
        ledger.nothing("a list", &admin.get(&path("")), 200);
        ledger.nothing("a list without rights", &mallory.get(&path("")), 403);
    }
    let beyond = [JSON, ("x-openstack-nova-api-version", "2.99")];
    let answer = admin.send("POST", &native(""), &beyond, create_body("web").as_bytes());
    ledger.nothing("a microversion too new", &answer, 406);
}

#[test]
fn logins_keys_and_revocations_have_one_record_and_what_is_wrong_about_them_has_none() {
    let mut ledger = Ledger::new(TestApp::start_with_identities(&accounts(""), |_| {}));
    let client = ledger.app.client.clone();
    let (alice, admin) = (ledger.user("alice"), ledger.user("admin"));
    let token = |ledger: &mut Ledger, who: &str| {
        let answer = log_in(&client, "acme", who, PASSWORD, &region_1());
        ledger.expect("a login", &answer, 201, &[&format!("v3 {who} ecs-groupd:token:issue done - -")]);
        answer.header("x-subject-token").unwrap().to_owned()
    };
    let (own, others) = (token(&mut ledger, "alice"), token(&mut ledger, "admin"));
    let by_token = json!({ "auth": {
        "identity": { "methods": ["token"], "token": { "id": own } }, "scope": region_1(),
    } });
    let issued = "v3 alice ecs-groupd:token:issue done - -";
    ledger.expect("by a token", &client.post_json(TOKENS, &by_token.to_string()), 201, &[issued]);
    let of_domain = log_in(&client, "acme", "alice", PASSWORD, &json!({ "domain": { "name": "acme" } }));
    ledger.expect("to the account", &of_domain, 201, &[issued]);
    let key = json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": own } } } }).to_string();
    let keys = "/v3.0/OS-CREDENTIAL/securitytokens";
    let answer = client.post_json(keys, &key);
    ledger.expect("a key", &answer, 201, &["v3 alice ecs-groupd:temporaryKey:issue done - -"]);

    ledger.nothing("a malformed login", &client.post_json(TOKENS, "{}"), 400);
    ledger.nothing("a malformed key", &client.post_json(keys, "{}"), 400);
    ledger.nothing("a wrong password", &log_in(&client, "acme", "alice", "wrong", &region_1()), 401);
    ledger.nothing("a wrong user", &log_in(&client, "acme", "nobody", PASSWORD, &region_1()), 401);
    let nowhere = json!({ "project": { "name": "nowhere" } });
    ledger.nothing("a wrong project", &log_in(&client, "acme", "alice", PASSWORD, &nowhere), 401);

    let about = |who: &Client, method: &str, subject: &str| {
        who.send(method, TOKENS, &[("x-subject-token", subject)], &[])
    };
    ledger.nothing("a look at one's own", &about(&alice, "GET", &own), 200);
    ledger.nothing("a look at another's", &about(&alice, "GET", &others), 403);
    let denied = "v3 alice ecs-groupd:token:revoke denied not_ones_own own";
    ledger.expect("another's", &about(&alice, "DELETE", &others), 403, &[denied]);
    let revoked = |who: &str| format!("v3 {who} ecs-groupd:token:revoke done - -");
    ledger.expect("one's own", &about(&alice, "DELETE", &own), 204, &[&revoked("alice")]);
    ledger.nothing("of none", &about(&alice, "DELETE", &own), 404);
    let users = token(&mut ledger, "alice");
    ledger.expect("as root", &about(&admin, "DELETE", &users), 204, &[&revoked("admin")]);
    ledger.nothing("without a token", &about(&client, "DELETE", &others), 401);

    let statuses: Vec<u16> = (0..12)
        .map(|_| {
            let answer = log_in(&client, "acme", "mallory", "wrong", &region_1());
            ledger.nothing("too many wrong ones", &answer, answer.status);
            answer.status
        })
        .collect();
    assert_eq!((statuses[0], statuses[11]), (401, 429), "{statuses:?}");
}

#[test]
fn what_gets_as_far_as_no_decision_and_what_changes_nothing_has_no_record() {
    let mut ledger = Ledger::new(TestApp::start_with_identities(&accounts(""), |settings| {
        settings.http.body_bytes_max = 1_000;
        settings.http.uri_bytes_max = 500;
    }));
    let (alice, mallory) = (ledger.user("alice"), ledger.user("mallory"));
    let stranger = ledger.app.client.clone();
    let web = create_body("web");
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        alice.send(method, path, headers, body.as_bytes())
    };
    ledger.nothing("no JSON", &send("POST", &groups(), &[JSON], "{"), 400);
    ledger.nothing("no name", &send("POST", &groups(), &[JSON], r#"{"server_group":{}}"#), 400);
    ledger.nothing("no good name", &alice.post_json(&groups(), &create_body("")), 400);
    ledger.nothing("a bad key", &send("POST", &groups(), &[JSON, ("idempotency-key", "")], &web), 400);
    ledger.nothing("nobody", &stranger.post_json(&groups(), &web), 401);
    ledger.nothing("a bad token", &stranger.with_token("bad").delete(&group(ABSENT)), 401);
    let signed = [JSON, ("authorization", "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=00")];
    ledger.nothing("a bad signature", &stranger.send("POST", &groups(), &signed, web.as_bytes()), 401);
    ledger.nothing("no such path", &alice.post_json("/v1/none", &web), 404);
    ledger.nothing("no such method", &send("PUT", &groups(), &[JSON], &web), 405);
    ledger.nothing("no JSON wanted", &send("POST", &groups(), &[JSON, ("accept", "text/html")], &web), 406);
    ledger.nothing("a large body", &alice.post_json(&groups(), &create_body(&"n".repeat(1_000))), 413);
    ledger.nothing("a long path", &alice.post_json(&format!("{}?{}", groups(), "q".repeat(500)), &web), 414);
    ledger.nothing("another type", &send("POST", &groups(), &[("content-type", "text/plain")], &web), 415);
    ledger.nothing("options", &send("OPTIONS", &groups(), &[], ""), 204);
    for (path, status) in [
        (groups(), 200),
        (format!("{}?limit=1", groups()), 200),
        (format!("{}?limit=0", groups()), 400),
        (group(ABSENT), 404),
        (format!("/v1/{REGION_1}/cloudservers/limits"), 200),
        (format!("/v1/{REGION_1}/cloudservers/{ABSENT}"), 404),
        (groups().replace(REGION_1, REGION_2), 400),
        ("/v3/projects".to_owned(), 200),
        ("/v3/auth/catalog".to_owned(), 200),
        ("/livez".to_owned(), 200),
        ("/readyz".to_owned(), 200),
        ("/openapi.json".to_owned(), 200),
    ] {
        ledger.nothing(&path, &alice.get(&path), status);
        ledger.nothing(&path, &alice.send("HEAD", &path, &[], &[]), status);
    }
    for path in [groups(), group(ABSENT)] {
        ledger.nothing("a read without rights", &mallory.get(&path), 403);
    }
    let app = ledger.app;
    assert_eq!(alice.get(&groups()).json()["server_groups"], json!([]));
    drop(app);
}

#[test]
fn what_the_operator_does_to_a_service_has_one_record_and_what_the_inventory_refuses_too() {
    const ADD: &str = "v1 dev ecs:cloudServers:addServerGroupMember";
    let mut ledger = Ledger::new(TestApp::start_with(|settings| {
        settings.members.source = MemberSource::Registered;
        settings.members.require_stopped = true;
    }));
    let (client, operator) = (ledger.app.client.clone(), ledger.app.control_client());
    let control = |method: &str, path: &str, body: &str| {
        operator.send(method, &format!("/control/{path}"), &[BEARER], body.as_bytes())
    };
    let server = |id: usize| format!("projects/{}/servers/{}", dev::PROJECT_ID, ecs(id));
    let registered = "control operator ecs-groupd:inventory:register done - own";
    let on_a = r#"{"host":"a","status":"SHUTOFF"}"#;
    for (id, body) in [(1, on_a), (2, on_a), (3, "{}"), (3, "{}")] {
        ledger.expect("a put", &control("PUT", &server(id), body), 200, &[registered]);
    }
    ledger.nothing("a list", &control("GET", &format!("projects/{}/servers", dev::PROJECT_ID), ""), 200);
    ledger.nothing("a wrong put", &control("PUT", &server(4), r#"{"status":"none"}"#), 400);
    ledger.nothing("no such path", &control("POST", "none", ""), 404);
    ledger.nothing("no such method", &control("GET", "reset", ""), 405);
    ledger.nothing("not the operator", &operator.send("POST", "/control/reset", &[], &[]), 401);

    let created = client.post_json(&groups_path(), &create_body("web"));
    let id = id_of(&created);
    let user = &all_records(&ledger.app.database()).pop().unwrap()["actor"]["user_name"];
    let as_dev = |text: &str| text.replace("dev", user.as_str().unwrap());
    let create = as_dev("v1 dev ecs:cloudServers:createServerGroup done - own");
    ledger.expect("a create", &created, 200, &[&create]);
    for (server_id, status, rest) in [
        (1, 200, "done -"),
        (2, 400, "refused host_taken"),
        (3, 400, "refused server_not_stopped"),
        (4, 404, "refused server_not_found"),
    ] {
        let path = format!("{}/action", group_path(&id));
        let answer = client.post_json(&path, &member("add_member", &ecs(server_id)));
        ledger.expect("an add", &answer, status, &[&as_dev(&format!("{ADD} {rest} own"))]);
    }
    let gone = |rest: &str| format!("control operator ecs-groupd:inventory:unregister {rest} own");
    ledger.expect("a delete", &control("DELETE", &server(1), ""), 204, &[&gone("done -")]);
    let absent = gone("refused server_not_found");
    ledger.expect("a delete of none", &control("DELETE", &server(1), ""), 404, &[&absent]);
    let reset = "control operator ecs-groupd:database:reset done - -";
    ledger.expect("a reset", &control("POST", "reset", ""), 204, &[reset]);
}

#[test]
fn a_reload_that_changes_something_has_one_record() {
    let app = TestApp::start_with_identities(&accounts(""), |_| {});
    let mut ledger = Ledger::new(app);
    let ready = |ledger: &Ledger| ledger.app.client.get("/readyz");
    ledger.app.reload(&accounts(""));
    ledger.nothing("the same again", &ready(&ledger), 200);
    ledger.app.reload("no accounts");
    ledger.nothing("a wrong file", &ready(&ledger), 200);
    ledger.app.reload(&accounts(", { name = 'eve' }"));
    let expected = "signal operator ecs-groupd:identities:reload done - -";
    ledger.expect("one more user", &ready(&ledger), 200, &[expected]);
    ledger.app.reload(&accounts(", { name = 'eve' }"));
    ledger.nothing("the same again", &ready(&ledger), 200);
}

#[test]
fn what_is_done_at_the_command_line_has_one_record_each() {
    let folder = TestApp::start().stop();
    let database = folder.path().join("ecs-groupd.db");
    let mut seen = all_records(&database).len();
    let mut run = |arguments: &[&str], code: i32, expected: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_ecs-groupd"));
        program.args(arguments).args(["--database", "ecs-groupd.db"]).current_dir(folder.path());
        let status = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
        let records = all_records(&database);
        let added: Vec<String> = records[seen..].iter().map(told).collect();
        assert_eq!(added, expected, "{arguments:?}");
        seen = records.len();
    };
    let inventory = "cli operator ecs-groupd:inventory:";
    run(&["inventory", "put", &ecs(1)], 0, &[&format!("{inventory}register done - own")]);
    run(&["inventory", "list"], 0, &[]);
    run(&["inventory", "put", "none"], 2, &[]);
    run(&["inventory", "remove", &ecs(1)], 0, &[&format!("{inventory}unregister done - own")]);
    let absent = format!("{inventory}unregister refused server_not_found own");
    run(&["inventory", "remove", &ecs(1)], 1, &[&absent]);
    run(&["reset"], 2, &[]);
    run(&["reset", "--yes"], 0, &["cli operator ecs-groupd:database:reset done - -"]);
    check_checkpoints(&database);
}

#[test]
fn the_key_is_named_once_and_each_start_and_stop_has_one_record() {
    let app = TestApp::start();
    let database = app.database();
    let told_all = || all_records(&database).iter().map(told).collect::<Vec<_>>();
    let key = "service service ecs-groupd:audit:changeKey done - -";
    let (start, stop) = (
        "service service ecs-groupd:service:start done - -",
        "service service ecs-groupd:service:stop done - -",
    );
    assert_eq!(told_all(), [key, start]);
    let folder = app.stop();
    assert_eq!(told_all(), [key, start, stop]);
    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(told_all(), [key, start, stop, start]);
    let records = all_records(&database);
    assert_eq!(records[1]["asked"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(records[0]["asked"]["old"], Value::Null);
    let folder = app.stop();
    assert_eq!(told_all(), [key, start, stop, start, stop]);
    drop(folder);
}

/// A database as a program with the first five migrations left it, with records in its log.
fn of_version_5(database: &Path, records: &[&str]) {
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.execute_batch(
        "pragma journal_mode = wal;
         create table _sqlx_migrations (
             version bigint primary key, description text not null,
             installed_on timestamp not null default current_timestamp,
             success boolean not null, checksum blob not null, execution_time bigint not null
         )",
    )
    .unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for (version, file) in (1..=5).zip(&files) {
        let sql = std::fs::read_to_string(file).unwrap();
        conn.execute_batch(&sql).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let (number, description) = name.split_once('_').unwrap();
        assert_eq!(number.parse(), Ok(version));
        let insert = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                      values (?, ?, true, ?, 0)";
        let checksum = Sha384::digest(&sql);
        conn.execute(insert, (version, description.replace('_', " "), &checksum[..])).unwrap();
    }
    let mut edge = Edge::default();
    for (seq, bytes) in (1..).zip(records) {
        let leaf = tree::leaf(bytes.as_bytes());
        let insert = "insert into audit_record (seq, record_time, bytes, leaf) values (?, ?, ?, ?)";
        let time = serde_json::from_str::<Value>(bytes).unwrap()["record_time"].as_i64().unwrap();
        conn.execute(insert, (seq, time, bytes.as_bytes(), &leaf[..])).unwrap();
        edge.push(leaf);
    }
    let (size, hashes) = (edge.size().cast_signed(), edge.to_bytes());
    conn.execute("update audit_edge set size = ?, hashes = ?", (size, hashes)).unwrap();
}

#[test]
fn a_database_of_an_older_schema_is_migrated_with_one_record_and_its_log_signed() {
    let golden = include_str!("../vectors/audit_records_v1.ndjson");
    for count in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("ecs-groupd.db");
        let old: Vec<&str> = golden.lines().take(count).collect();
        of_version_5(&database, &old);
        let app = TestApp::start_in(folder, |_| {});
        assert_eq!(app.client.get("/readyz").status, 200);
        let records = all_records(&database);
        let before: Vec<Value> = old.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records[..count], before);
        let expected = [
            "service service ecs-groupd:audit:changeKey done - -",
            "service service ecs-groupd:database:migrate done - -",
            "service service ecs-groupd:service:start done - -",
        ];
        assert_eq!(records[count..].iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(records[count + 1]["asked"], json!({ "from": 5, "to": 6 }));
        let app = TestApp::start_in(app.stop(), |_| {});
        let migrated = |record: &&Value| record["action"] == "ecs-groupd:database:migrate";
        assert_eq!(all_records(&database).iter().filter(migrated).count(), 1, "once and for all");
        let folder = app.stop();
        assert_eq!(check_checkpoints(&database)[0], count as u64 + 2);
        drop(folder);
    }
}

#[test]
fn a_migration_whose_record_was_kept_from_it_is_recorded_by_the_next_start() {
    let golden: Vec<&str> = include_str!("../vectors/audit_records_v1.ndjson").lines().take(3).collect();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("ecs-groupd.db");
    of_version_5(&database, &golden);
    // What is no key ends the start behind the migration.
    let key = folder.path().join("ecs-groupd.db.key");
    write_secret(&key, "none\n");
    for _ in 0..2 {
        let refused = ops::reset(Options { database: database.clone(), ..store_options() }, None);
        assert!(matches!(refused, Err(OpsError::Open(OpenError::Key(_)))), "{refused:?}");
        let conn = rusqlite::Connection::open(&database).unwrap();
        let version: i64 = conn.query_row("pragma user_version", [], |row| row.get(0)).unwrap();
        assert_eq!((version, all_records(&database).len()), (6, 3), "migrated, and not recorded");
    }
    std::fs::remove_file(&key).unwrap();
    let app = TestApp::start_in(folder, |_| {});
    let app = TestApp::start_in(app.stop(), |_| {});
    let records = all_records(&database);
    let migrated: Vec<&Value> =
        records.iter().filter(|record| record["action"] == "ecs-groupd:database:migrate").collect();
    assert_eq!(migrated.len(), 1, "once and for all");
    assert_eq!(migrated[0]["asked"], json!({ "from": 5, "to": 6 }));
    drop(app);
}

/// All that a database holds, but for what SQLite and the migrator keep there.
fn contents(database: &Path) -> BTreeMap<String, Vec<String>> {
    let conn = rusqlite::Connection::open(database).unwrap();
    let names = "select name from sqlite_schema where type = 'table' and name not glob '[s_]*q*'";
    let mut select = conn.prepare(names).unwrap();
    let tables: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut contents = BTreeMap::new();
    for table in tables {
        let mut select = conn.prepare(&format!("select * from {table}")).unwrap();
        let columns = select.column_count();
        let rows = select.query_map([], |row| {
            let value = |nth| match row.get_ref(nth).unwrap() {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            Ok((0..columns).map(value).collect::<Vec<_>>().join("|"))
        });
        contents.insert(table, rows.unwrap().map(Result::unwrap).collect());
    }
    contents
}

const FAULTS: [&str; 2] = ["insert on audit_record", "update on audit_edge"];

fn break_the_log(database: &Path, when: &str) {
    let conn = rusqlite::Connection::open(database).unwrap();
    let trigger =
        format!("create trigger fault before {when} begin select raise(abort, 'no records today'); end");
    conn.execute_batch(&trigger).unwrap();
}

fn mend_the_log(database: &Path) {
    rusqlite::Connection::open(database).unwrap().execute_batch("drop trigger fault").unwrap();
}

#[test]
fn when_its_record_cannot_be_written_a_change_does_not_happen_and_the_caller_is_told() {
    for fault in FAULTS {
        let app = TestApp::start();
        let (client, operator) = (app.client.clone(), app.control_client());
        let (kept, doomed) = (client.create("kept"), client.create("doomed"));
        let action = |verb: &str, id: usize| {
            client.post_json(&format!("{}/action", group_path(&kept)), &member(verb, &ecs(id)))
        };
        assert_eq!(action("add_member", 1).status, 200);
        let login = || {
            log_in(
                &client,
                dev::DOMAIN_NAME,
                dev::USER_NAME,
                "dev-password",
                &json!({ "project": { "id": dev::PROJECT_ID } }),
            )
        };
        let answer = login();
        assert_eq!(answer.status, 201, "{}", answer.text);
        let token = answer.header("x-subject-token").unwrap().to_owned();
        let control =
            |method: &str, path: &str| operator.send(method, &format!("/control/{path}"), &[BEARER], b"{}");
        let server = format!("projects/{}/servers/{}", dev::PROJECT_ID, ecs(7));
        let native = format!("/v2.1/{}/os-server-groups", dev::PROJECT_ID);
        let keyed = [JSON, ("idempotency-key", "k")];
        let attempts: [(&str, &dyn Fn() -> Answer); 11] = [
            ("a create", &|| client.post_json(&groups_path(), &create_body("new"))),
            ("a create with a key", &|| {
                client.send("POST", &groups_path(), &keyed, create_body("new").as_bytes())
            }),
            ("a native create", &|| client.post_json(&native, &create_body("new"))),
            ("a delete", &|| client.delete(&group_path(&doomed))),
            ("an add", &|| action("add_member", 2)),
            ("a removal", &|| action("remove_member", 1)),
            ("a login", &login),
            ("a revocation", &|| {
                client.send("DELETE", TOKENS, &[("x-subject-token", &token), ("x-auth-token", &token)], &[])
            }),
            ("a registration", &|| control("PUT", &server)),
            ("an unregistration", &|| control("DELETE", &server)),
            ("a reset", &|| control("POST", "reset")),
        ];
        let database = app.database();
        for (what, attempt) in attempts {
            // The trigger is no content; what the log is signed with is not touched by time alone.
            break_the_log(&database, fault);
            let before = contents(&database);
            let answer = attempt();
            let is_absent = what == "an unregistration" && answer.status == 404;
            assert!(answer.status == 500 || is_absent, "{what}, {fault}: {} {}", answer.status, answer.text);
            assert!(!answer.text.contains("no records today"), "{what}: {}", answer.text);
            if what == "a create" {
                answer.ecs_error(500, "Common.0001");
            }
            assert_eq!(client.get("/readyz").status, 200, "{what}");
            assert!(contents(&database) == before, "{what}, {fault}: something was changed");
            mend_the_log(&database);
            let records = all_records(&database).len();
            let answer = attempt();
            assert!(answer.status < 300, "{what}: {} {}", answer.status, answer.text);
            assert_eq!(all_records(&database).len(), records + 1, "{what}");
            assert!(contents(&database) != before, "{what}");
        }
        assert_eq!(client.list_ids(), Vec::<String>::new(), "the reset was the last");
        let folder = app.stop();
        check_checkpoints(&database);
        drop(folder);
    }
}

#[test]
fn several_ecss_whose_records_cannot_be_written_are_no_members_and_the_answer_says_so() {
    let app = TestApp::start();
    let id = app.client.create("web");
    break_the_log(&app.database(), FAULTS[0]);
    let before = contents(&app.database());
    let answer = batch(&app.client, &id, "add_members", &[ecs(1), ecs(2)]);
    assert!(!answer.text.contains("SUCCESS"), "{} {}", answer.status, answer.text);
    assert!(contents(&app.database()) == before);
    mend_the_log(&app.database());
    assert_eq!(batch(&app.client, &id, "add_members", &[ecs(1), ecs(2)]).status, 200);
    assert_eq!(all_records(&app.database()).len(), before["audit_record"].len() + 2);
}

#[test]
fn when_a_denial_or_a_reload_cannot_be_recorded_it_is_not_a_denial_and_not_a_reload() {
    let app = TestApp::start_with_identities(&accounts(""), |_| {});
    let login = |who: &str| token_for(&app.client, "acme", who, PASSWORD, "region-1");
    let mallory = app.client.with_token(&login("mallory"));
    let create = || mallory.post_json(&groups(), &create_body("web"));
    break_the_log(&app.database(), FAULTS[0]);
    let before = contents(&app.database());
    create().ecs_error(500, "Common.0001");
    // She would be as `alice` is.
    let promoted = accounts("").replace("users = ['alice']", "users = ['alice', 'mallory']");
    app.reload(&promoted);
    assert_eq!(mallory.get(&groups()).status, 403, "the accounts stay as they were");
    assert!(contents(&app.database()) == before);
    mend_the_log(&app.database());
    assert_eq!(create().status, 403);
    app.reload(&promoted);
    assert_eq!(create().status, 200);
    assert_eq!(all_records(&app.database()).len(), before["audit_record"].len() + 3);
}

/// One attempt of a random history. `who` is one of two projects; `nth` names a group that there was, if there were so
/// many, or one that never was.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Delete { nth: usize },
    Add { nth: usize, server: u8 },
    Remove { nth: usize, server: u8 },
    Register { server: u8, host: Option<u8> },
    Unregister { server: u8 },
    ResetProject,
    ResetDatabase,
    IssueToken { lifetime_ms: u64 },
    RevokeToken { nth: usize },
    IssueKey { lifetime_ms: u64 },
    Purge,
    Trespass,
}

fn step() -> impl Strategy<Value = Step> {
    let (nth, server) = (0..5_usize, 0..6_u8);
    prop_oneof![
        12 => Just(Step::Create),
        4 => nth.clone().prop_map(|nth| Step::Delete { nth }),
        12 => (nth.clone(), server.clone()).prop_map(|(nth, server)| Step::Add { nth, server }),
        6 => (nth.clone(), server.clone()).prop_map(|(nth, server)| Step::Remove { nth, server }),
        6 => (server.clone(), prop::option::of(0..3_u8))
            .prop_map(|(server, host)| Step::Register { server, host }),
        3 => server.prop_map(|server| Step::Unregister { server }),
        1 => Just(Step::ResetProject),
        1 => Just(Step::ResetDatabase),
        6 => (1..100_000_u64).prop_map(|lifetime_ms| Step::IssueToken { lifetime_ms }),
        4 => nth.prop_map(|nth| Step::RevokeToken { nth }),
        3 => (1..100_000_u64).prop_map(|lifetime_ms| Step::IssueKey { lifetime_ms }),
        1 => Just(Step::Purge),
        2 => Just(Step::Trespass),
    ]
}

/// Batches, and where the clock stands while each is written.
fn histories() -> impl Strategy<Value = Vec<(u64, Vec<(bool, Step)>)>> {
    let batch = prop::collection::vec((any::<bool>(), step()), 1..60);
    prop::collection::vec((0..100_000_u64, batch), 1..8)
}

/// An attempt in the queue, of either kind.
enum Waiting {
    Apply(Pending<Change>),
    Record(Pending<()>),
}

fn server_id(server: u8) -> ServerId {
    ServerId::from_bytes([server + 1; 16])
}

/// Puts an attempt in the queue. `issued` are the tokens so far.
fn queue(
    bench: &mut Bench,
    in_neighbour: bool,
    step: &Step,
    known: &[GroupId],
    issued: &mut Vec<SecretDigest>,
) -> Waiting {
    let who = if in_neighbour { neighbour() } else { dev() };
    let (project_id, user_id) = (project(&who), who.user.user_id);
    let group_id = |nth: usize| known.get(nth).copied().unwrap_or(GroupId::from_bytes([9; 16]));
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&bench.attempts.to_be_bytes());
    let digest = SecretDigest::from_bytes(digest);
    let (permit, command) = match *step {
        Step::Create => return Waiting::Apply(bench.create(&who, "web")),
        Step::Delete { nth } => return Waiting::Apply(bench.delete(&who, group_id(nth))),
        Step::ResetDatabase => return Waiting::Apply(bench.reset()),
        Step::Trespass => {
            let (other, own) = if in_neighbour { (dev(), who) } else { (neighbour(), who) };
            return Waiting::Record(bench.trespass(&own, &other));
        }
        Step::Add { nth, server } => {
            let permit = bench.permit(&who, Action::AddServerGroupMember);
            let (group_id, server_id) = (group_id(nth), server_id(server));
            (permit, Command::AddMember { project_id, group_id, server_id })
        }
        Step::Remove { nth, server } => {
            let permit = bench.permit(&who, Action::DeleteServerGroupMember);
            let (group_id, server_id) = (group_id(nth), server_id(server));
            (permit, Command::RemoveMember { project_id, group_id, server_id })
        }
        Step::Register { server, host } => {
            let host = host.map(|host| format!("host-{host}").try_into().unwrap());
            let name = format!("ecs-{server}").try_into().unwrap();
            let server = Server { server_id: server_id(server), name, status: ServerStatus::Active, host };
            let permit = policy::permit_inventory(bench.origin(), Action::RegisterServer, project_id);
            (permit.unwrap(), Command::RegisterServer { project_id, server })
        }
        Step::Unregister { server } => {
            let permit = policy::permit_inventory(bench.origin(), Action::UnregisterServer, project_id);
            (permit.unwrap(), Command::UnregisterServer { project_id, server_id: server_id(server) })
        }
        Step::ResetProject => {
            let permit = policy::permit_project_reset(bench.origin(), project_id);
            (permit, Command::ResetProject { project_id })
        }
        Step::IssueToken { lifetime_ms } => {
            issued.push(digest);
            let permit = policy::permit_oneself(&who, bench.origin(), Action::IssueToken).unwrap();
            let (scope, method) = (Scope::Project(project_id), LoginMethod::Password);
            let credentials = digest;
            (
                permit,
                Command::IssueToken {
                    digest,
                    user_id,
                    scope,
                    method,
                    credentials,
                    lifetime_ms,
                    expires_by: None,
                },
            )
        }
        Step::RevokeToken { nth } => {
            let permit = policy::permit_revoke(&who, bench.origin(), &who.user).unwrap();
            (permit, Command::RevokeToken { digest: issued.iter().rev().nth(nth).copied().unwrap_or(digest) })
        }
        Step::IssueKey { lifetime_ms } => {
            let permit = policy::permit_oneself(&who, bench.origin(), Action::IssueTemporaryKey).unwrap();
            let access_key = format!("AK{}", bench.attempts).parse().unwrap();
            (
                permit,
                Command::IssueTemporaryKey { access_key, digest, user_id, lifetime_ms, expires_by: None },
            )
        }
        Step::Purge => (policy::permit_purge(bench.origin()), Command::PurgeExpired),
    };
    Waiting::Apply(bench.queue(permit, command))
}

type Rows = BTreeSet<Vec<String>>;

/// What a database holds, or should hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    groups: Rows,
    members: Rows,
    servers: Rows,
    tokens: Rows,
    keys: Rows,
}

impl State {
    fn read(database: &Path) -> Self {
        let conn = rusqlite::Connection::open(database).unwrap();
        let rows = |sql: &str| -> Rows {
            let mut select = conn.prepare(sql).unwrap();
            let columns = select.column_count();
            let rows = select.query_map([], |row| (0..columns).map(|nth| row.get(nth)).collect());
            rows.unwrap().map(Result::unwrap).collect()
        };
        Self {
            groups: rows(
                "select lower(hex(project_id)), lower(hex(group_id)), name, placement_rule from server_group",
            ),
            members: rows(
                "select lower(hex(project_id)), lower(hex(group_id)), lower(hex(server_id)) from member",
            ),
            servers: rows(
                "select lower(hex(project_id)), lower(hex(server_id)), name, status, coalesce(host, '-') from server",
            ),
            tokens: rows("select lower(hex(digest)), cast(expires_at as text) from token"),
            keys: rows("select access_key, cast(expires_at as text) from temporary_key"),
        }
    }

    /// Does what a record says was done. What it says was so must be so.
    fn follow(&mut self, record: &Value) {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let id = |value: &Value| text(value).replace('-', "");
        let (asked, project) = (&record["asked"], id(&record["project_id"]));
        let member = || vec![project.clone(), id(&asked["group_id"]), id(&asked["server_id"])];
        let is_true = match (record["action"].as_str().unwrap(), record["outcome"].as_str().unwrap()) {
            (_, "refused" | "denied") => true,
            ("ecs:cloudServers:createServerGroup", "done") => self.groups.insert(vec![
                project,
                id(&record["resource"]["id"]),
                text(&asked["name"]),
                text(&asked["placement_rule"]),
            ]),
            ("ecs:cloudServers:deleteServerGroup", "done") => {
                let (before, group) = (self.groups.len(), id(&asked["group_id"]));
                self.groups.retain(|row| row[..2] != [project.clone(), group.clone()]);
                self.members.retain(|row| row[..2] != [project.clone(), group.clone()]);
                self.groups.len() == before - 1
            }
            ("ecs:cloudServers:addServerGroupMember", "done") => self.members.insert(member()),
            ("ecs:cloudServers:addServerGroupMember", "unchanged") => self.members.contains(&member()),
            ("ecs:cloudServers:deleteServerGroupMember", "done") => self.members.remove(&member()),
            ("ecs-groupd:inventory:register", "done") => {
                let server = id(&asked["server_id"]);
                self.servers.retain(|row| row[..2] != [project.clone(), server.clone()]);
                let [name, status, host] = ["name", "status", "host"].map(|key| text(&asked[key]));
                self.servers.insert(vec![project, server, name, status, host])
            }
            ("ecs-groupd:inventory:unregister", "done") => {
                let (before, server) = (self.servers.len(), id(&asked["server_id"]));
                self.servers.retain(|row| row[..2] != [project.clone(), server.clone()]);
                self.members.retain(|row| (&row[0], &row[2]) != (&project, &server));
                self.servers.len() == before - 1
            }
            ("ecs-groupd:project:reset", "done") => {
                for rows in [&mut self.groups, &mut self.members, &mut self.servers] {
                    rows.retain(|row| row[0] != project);
                }
                true
            }
            ("ecs-groupd:database:reset", "done") => {
                for rows in [&mut self.groups, &mut self.members, &mut self.servers] {
                    rows.clear();
                }
                true
            }
            ("ecs-groupd:token:issue", "done") => {
                self.tokens.insert(vec![text(&asked["token"]), text(&asked["expires_at"])])
            }
            ("ecs-groupd:token:revoke", "done") => {
                let before = self.tokens.len();
                self.tokens.retain(|row| row[0] != asked["token"]);
                self.tokens.len() == before - 1
            }
            ("ecs-groupd:temporaryKey:issue", "done") => {
                self.keys.insert(vec![text(&asked["access_key"]), text(&asked["expires_at"])])
            }
            ("ecs-groupd:token:purge", "done") => {
                let now = record["time"].as_u64().unwrap();
                for rows in [&mut self.tokens, &mut self.keys] {
                    rows.retain(|row| row[1].parse::<u64>().unwrap() > now);
                }
                true
            }
            other => panic!("{other:?}"),
        };
        assert!(is_true, "what it says was not so: {record}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every command that a caller, an operator or a timer can give, in any order, several to a transaction.
    #[test]
    fn the_records_one_after_the_other_make_what_the_tables_hold(history in histories()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(bench(BATCH_MAX, 10, async |bench| {
            let (mut outcomes, mut issued) = (Vec::new(), Vec::new());
            for (later_ms, steps) in history {
                bench.clock.set(Timestamp::from_millis(NOW.as_millis() + later_ms));
                let known = bench.groups();
                let mut waiting = Vec::new();
                for (in_neighbour, step) in &steps {
                    let project_id = project(&if *in_neighbour { neighbour() } else { dev() });
                    let known = known.get(&project_id).map_or(&[][..], Vec::as_slice);
                    let attempt = queue(bench, *in_neighbour, step, known, &mut issued);
                    waiting.push((bench.attempts, attempt));
                }
                for (request_id, attempt) in waiting {
                    outcomes.push((request_id, match attempt {
                        Waiting::Record(answer) => answer.await.map(|()| "denied").unwrap(),
                        Waiting::Apply(answer) => match answer.await {
                            Ok(Change::MemberKept { .. }) => "unchanged",
                            Ok(_) => "done",
                            Err(StoreError::Refused(_)) => "refused",
                            Err(error) => panic!("{error}"),
                        },
                    }));
                }
                let records = bench.records();
                assert_eq!(records.iter().map(outcome).collect::<Vec<_>>(), outcomes, "one for each attempt");
                let mut state = State::default();
                for record in &records {
                    state.follow(record);
                }
                assert_eq!(State::read(&bench.database()), state);
            }
        }));
    }
}
