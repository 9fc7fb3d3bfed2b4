//! Logging in: tokens, what they are good for and how they end, lookups, and temporary access keys.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use ecs_groupd::access::policy;
use ecs_groupd::access::principal::{Credential, Domain, Origin, Principal, User};
use ecs_groupd::access::{action::Action, token};
use ecs_groupd::clock::Clock;
use ecs_groupd::domain::command::Command;
use ecs_groupd::domain::id::{DomainId, RequestId, UserId};
use ecs_groupd::domain::session::{LoginMethod, Scope};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use ecs_groupd::identities::lockout::MINUTE_MS;
use ecs_groupd::identities::password::{Cost, Hashed};
use ecs_groupd::settings::{Networks, Settings};
use ecs_groupd::store;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, NOW, Signer, TestApp, cheap_hash, create_body, groups_path, log_in, on_a_store, records,
    store_options, token_for,
};

const ACME: &str = "d0000000000000000000000000000001";
const OTHER: &str = "d0000000000000000000000000000002";
const ADMIN: &str = "a0000000000000000000000000000001";
const ALICE: &str = "a0000000000000000000000000000002";
const REGION_1: &str = "0123456789abcdef0123456789abcdef";
const STAGING: &str = "fedcba9876543210fedcba9876543210";
const OTHERS_PROJECT: &str = "11111111111111111111111111111111";
const GROUPS: &str = "/v1/0123456789abcdef0123456789abcdef/cloudservers/os-server-groups";
const TOKENS: &str = "/v3/auth/tokens";
const TEMPORARY_KEYS: &str = "/v3.0/OS-CREDENTIAL/securitytokens";
const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Two accounts. A user's password is its name and `-password`; `robot` has none.
fn accounts() -> String {
    accounts_where_alice_has(&cheap_hash("alice-password"))
}

fn accounts_where_alice_has(hash: &str) -> String {
    let (admin, bob, other) =
        (cheap_hash("admin-password"), cheap_hash("bob-password"), cheap_hash("other-password"));
    format!(
        "[[domain]]
         name = 'acme'
         id = '{ACME}'
         root = {{ name = 'admin', id = '{ADMIN}', password_hash = '{admin}' }}
         project = [{{ name = 'region-1', id = '{REGION_1}' }}, {{ name = 'region-1_staging', id = '{STAGING}' }}]
         user = [
             {{ name = 'alice', id = '{ALICE}', password_hash = '{hash}' }},
             {{ name = 'bob', password_hash = '{bob}' }},
             {{ name = 'robot', access_key = [{{ access = 'AKROBOT0000000000001', secret = 'robot-secret' }}] }},
         ]
         user_group = [{{ name = 'developers', users = ['alice', 'robot'] }}]
         grant = [{{ user_group = 'developers', policies = ['ECS FullAccess'], scope = {{ project = 'region-1' }} }}]

         [[domain]]
         name = 'other'
         id = '{OTHER}'
         root = {{ password_hash = '{other}' }}
         project = [{{ name = 'region-1', id = '{OTHERS_PROJECT}' }}, {{ name = 'theirs' }}]
        "
    )
}

const ROBOT: Signer<'static> =
    Signer { access_key: "AKROBOT0000000000001", secret_key: "robot-secret", date: "20260102T030405Z" };

fn acme() -> TestApp {
    TestApp::start_with_identities(&accounts(), |_| {})
}

fn acme_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    TestApp::start_with_identities(&accounts(), change)
}

/// The body of a login by password.
fn by_password(user: &Value, scope: &Value) -> Value {
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    match scope {
        Value::Null => json!({ "auth": { "identity": identity } }),
        scope => json!({ "auth": { "identity": identity, "scope": scope } }),
    }
}

/// The body of a login by another token.
fn by_token(token: &str, scope: &Value) -> Value {
    json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": token } }, "scope": scope } })
}

fn alice() -> Value {
    json!({ "name": "alice", "password": "alice-password", "domain": { "name": "acme" } })
}

fn region_1() -> Value {
    json!({ "project": { "name": "region-1" } })
}

fn post(app: &TestApp, body: &Value) -> Answer {
    app.client.post_json(TOKENS, &body.to_string())
}

/// The token of a login that must be good.
#[track_caller]
fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.header("x-subject-token").unwrap().to_owned()
}

fn token_of_alice(app: &TestApp) -> String {
    token_for(&app.client, "acme", "alice", "alice-password", "region-1")
}

/// Checks an answer in IAM's own shape, and that there is nothing else in it.
#[track_caller]
fn assert_iam_error(answer: &Answer, status: u16, message: &str) {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        other => panic!("no title for {other}"),
    };
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    answer.request_id();
    assert_eq!(answer.json(), json!({ "error": { "code": status, "message": message, "title": title } }));
}

#[track_caller]
fn assert_iam_code(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text);
    answer.request_id();
    let body = answer.json();
    assert_eq!(body, json!({ "error_code": code, "error_msg": body["error_msg"] }));
    body["error_msg"].as_str().unwrap().to_owned()
}

const WRONG: &str = "The username or password is wrong.";
const NO_SUCH_TOKEN: &str = "X-Subject-Token is invalid in the request";

/// Asks about a token in the name of another.
fn about(app: &TestApp, method: &str, token: &str, subject: &str) -> Answer {
    app.client.send(method, TOKENS, &[("x-auth-token", token), ("x-subject-token", subject)], b"")
}

fn list_with(app: &TestApp, token: &str) -> Answer {
    app.client.with_token(token).get(GROUPS)
}

#[track_caller]
fn assert_is_hex(text: &Value, digits: usize) {
    let text = text.as_str().unwrap();
    assert!(text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text:?}");
}

/// Checks a catalogue against what it must hold, apart from its own ids.
#[track_caller]
fn assert_catalog(catalog: &Value, expected: &[(&str, &str, String)]) {
    let found = catalog.as_array().unwrap();
    for service in found {
        assert_is_hex(&service["id"], 32);
        assert_is_hex(&service["endpoints"][0]["id"], 32);
    }
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(name, kind, url)| {
            let found = found.iter().find(|service| service["type"] == *kind).unwrap_or(&Value::Null);
            json!({
                "id": found["id"],
                "name": name,
                "type": kind,
                "endpoints": [{
                    "id": found["endpoints"][0]["id"],
                    "interface": "public",
                    "region": "dev-1",
                    "region_id": "dev-1",
                    "url": url,
                }],
            })
        })
        .collect();
    let mut found = found.clone();
    for services in [&mut found, &mut expected] {
        services.sort_by_key(|service| service["type"].to_string());
    }
    assert_eq!(found, expected);
}

/// Everything that a project's catalogue holds, behind `base`.
fn project_services(base: &str, project: &str) -> [(&'static str, &'static str, String); 4] {
    [
        ("iam", "identity", format!("{base}/v3")),
        ("ecs", "ecs", format!("{base}/v1/{project}")),
        ("nova", "compute", format!("{base}/v2.1/{project}")),
        ("cts", "cts", format!("{base}/v3/{project}")),
    ]
}

#[test]
fn a_login_answers_as_the_vendor_does() {
    let app = acme();
    let answer = post(&app, &by_password(&alice(), &region_1()));
    let token = token_of(&answer);
    assert_is_hex(&token.as_str().into(), 64);
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    let body = answer.json();
    let base = format!("http://{}", app.api);
    assert_catalog(&body["token"]["catalog"], &project_services(&base, REGION_1));
    let domain = json!({ "id": ACME, "name": "acme" });
    let expected = json!({
        "token": {
            "methods": ["password"],
            "issued_at": "2026-01-02T03:04:05.000000Z",
            "expires_at": "2026-01-03T03:04:05.000000Z",
            "user": { "id": ALICE, "name": "alice", "password_expires_at": "", "domain": domain },
            "project": { "id": REGION_1, "name": "region-1", "domain": domain },
            "roles": [{ "id": "0", "name": "system_all_3" }],
            "catalog": body["token"]["catalog"],
        }
    });
    assert_eq!(body, expected);
    assert_eq!(list_with(&app, &token).status, 200);

    let again = token_of(&post(&app, &by_password(&alice(), &region_1())));
    assert_ne!(again, token, "each login has a token of its own");
    assert_eq!(list_with(&app, &token).status, 200);
}

#[test]
fn the_root_of_an_account_is_its_administrator() {
    let app = acme();
    let answer = log_in(&app.client, "acme", "admin", "admin-password", &region_1());
    let roles = answer.json()["token"]["roles"].clone();
    assert_eq!(roles, json!([{ "id": "0", "name": "te_admin" }, { "id": "0", "name": "secu_admin" }]));
    let unnamed = log_in(&app.client, "other", "other", "other-password", &region_1());
    assert_eq!(unnamed.json()["token"]["user"]["name"], "other", "a root without a name has the account's");
    assert_eq!(unnamed.json()["token"]["project"]["id"], OTHERS_PROJECT);
}

#[test]
fn a_user_and_a_scope_may_be_named_in_every_way() {
    let app = acme();
    let users = [
        json!({ "id": ALICE, "password": "alice-password" }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "id": ACME } }),
        json!({ "id": ALICE, "name": "whoever", "password": "alice-password", "domain": { "id": "x" } }),
    ];
    let scopes = [
        (json!({ "project": { "id": REGION_1 } }), Some(REGION_1)),
        (json!({ "project": { "id": REGION_1, "domain": { "name": "acme" } } }), Some(REGION_1)),
        (json!({ "project": { "name": "region-1" } }), Some(REGION_1)),
        (json!({ "project": { "name": "region-1", "domain": { "name": "acme" } } }), Some(REGION_1)),
        (json!({ "project": { "name": "region-1", "domain": { "id": ACME } } }), Some(REGION_1)),
        (json!({ "project": { "name": "region-1_staging" } }), Some(STAGING)),
        (json!({ "project": { "id": REGION_1 }, "domain": { "id": ACME } }), Some(REGION_1)),
        (json!({ "domain": { "id": ACME } }), None),
        (json!({ "domain": { "name": "acme" } }), None),
        (Value::Null, None),
    ];
    let first = token_of_alice(&app);
    for (scope, project) in &scopes {
        let mut bodies: Vec<_> = users.iter().map(|user| by_password(user, scope)).collect();
        if !scope.is_null() {
            bodies.push(by_token(&first, scope));
        }
        for body in bodies {
            let answer = post(&app, &body);
            let token = token_of(&answer);
            let said = &answer.json()["token"];
            assert_eq!(said["user"]["id"], ALICE, "{body}");
            let base = format!("http://{}", app.api);
            if let Some(project) = project {
                assert_eq!((&said["project"]["id"], said.get("domain")), (&json!(project), None), "{body}");
                assert_catalog(&said["catalog"], &project_services(&base, project));
            } else {
                assert_eq!(said.get("project"), None, "{body}");
                assert_eq!(said["domain"], json!({ "id": ACME, "name": "acme" }), "{body}");
                assert_catalog(&said["catalog"], &project_services(&base, "")[..1]);
            }
            let status = if *project == Some(REGION_1) { 200 } else { 400 };
            assert_eq!(list_with(&app, &token).status, status, "{body}");
        }
    }
}

#[test]
fn a_token_for_the_account_is_good_for_no_projects_groups() {
    let app = acme();
    let domain = json!({ "domain": { "name": "acme" } });
    for (user, password) in [("admin", "admin-password"), ("alice", "alice-password")] {
        let token = token_of(&log_in(&app.client, "acme", user, password, &domain));
        list_with(&app, &token).ecs_error(400, "Ecs.0023");
    }
}

#[test]
fn a_token_may_be_had_for_a_token() {
    let app = acme();
    let first = token_of_alice(&app);
    let answer = post(&app, &by_token(&first, &json!({ "project": { "id": STAGING } })));
    let said = &answer.json()["token"];
    assert_eq!((&said["methods"], &said["project"]["id"]), (&json!(["token"]), &json!(STAGING)));
    let shown = about(&app, "GET", &first, &token_of(&answer));
    assert_eq!(shown.json()["token"]["methods"], json!(["token"]), "and so it is shown");
    assert_iam_error(
        &post(&app, &by_token("no-such-token", &region_1())),
        401,
        "Incorrect IAM authentication information: decrypt token fail",
    );
}

#[test]
fn without_a_catalogue_when_none_is_asked_for() {
    let app = acme();
    let body = by_password(&alice(), &region_1()).to_string();
    for query in ["nocatalog=any", "nocatalog", "nocatalog="] {
        let answer = app.client.post_json(&format!("{TOKENS}?{query}"), &body);
        let token = token_of(&answer);
        assert_eq!(answer.json()["token"]["catalog"], json!([]), "{query}");
        let headers = [("x-auth-token", token.as_str()), ("x-subject-token", &token)];
        let shown = app.client.send("GET", &format!("{TOKENS}?{query}"), &headers, b"");
        assert_eq!(shown.json()["token"]["catalog"], json!([]), "{query}");
    }
}

#[test]
fn the_catalogue_points_back_at_the_host_that_was_asked_or_at_the_public_url() {
    let app = acme();
    let body = by_password(&alice(), &region_1()).to_string();
    let headers = [("content-type", "application/json"), ("host", "ecs.example:8443")];
    let answer = app.client.send("POST", TOKENS, &headers, body.as_bytes());
    assert_catalog(
        &answer.json()["token"]["catalog"],
        &project_services("http://ecs.example:8443", REGION_1),
    );

    let public = acme_with(|settings| "https://ecs.staging.example".clone_into(&mut settings.api.public_url));
    let answer = public.client.send("POST", TOKENS, &headers, body.as_bytes());
    let base = "https://ecs.staging.example";
    assert_catalog(&answer.json()["token"]["catalog"], &project_services(base, REGION_1));
    let client = public.client.with_token(&token_of(&answer));
    let catalog = client.get("/v3/auth/catalog").json();
    assert_catalog(&catalog["catalog"], &project_services(base, REGION_1));
    assert_eq!(client.get("/v3").json()["version"]["links"][0]["href"], format!("{base}/v3/"));
}

#[test]
fn a_host_that_is_none_does_not_get_into_the_catalogue() {
    let app = acme();
    let body = by_password(&alice(), &region_1()).to_string();
    for host in ["a b", "<script>", "x\"y", "evil.example/path?"] {
        let headers = [("content-type", "application/json"), ("host", host)];
        let Ok(answer) = app.client.try_send("POST", TOKENS, &headers, body.as_bytes()) else { continue };
        assert!(!answer.text.contains(host), "{host}: {}", answer.text);
    }
}

#[test]
fn the_dev_account_logs_in_as_any_other() {
    let app = TestApp::start();
    let scope = json!({ "project": { "name": dev::PROJECT_NAME } });
    let answer = log_in(&app.client, dev::DOMAIN_NAME, dev::USER_NAME, dev::PASSWORD, &scope);
    let token = token_of(&answer);
    assert_eq!(answer.json()["token"]["project"]["id"], dev::PROJECT_ID);
    assert_eq!(app.client.with_token(&token).get(&groups_path()).status, 200);
    assert_iam_error(&log_in(&app.client, dev::DOMAIN_NAME, dev::USER_NAME, "x", &scope), 401, WRONG);
}

#[test]
fn whoever_may_not_log_in_gets_the_same_answer() {
    let app = acme_with(|settings| settings.access.login_failures_per_minute = 0);
    let long = "x".repeat(2_000);
    let users = [
        json!({ "name": "alice", "password": "alice-passwore", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "Alice-password", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "alice-password ", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": long, "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "bob-password", "domain": { "name": "acme" } }),
        json!({ "name": "Alice", "password": "alice-password", "domain": { "name": "acme" } }),
        json!({ "name": "nobody", "password": "alice-password", "domain": { "name": "acme" } }),
        json!({ "name": "", "password": "alice-password", "domain": { "name": "acme" } }),
        json!({ "name": long, "password": "alice-password", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "name": "nowhere" } }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "name": "other" } }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "id": OTHER } }),
        json!({ "name": "alice", "password": "alice-password", "domain": { "id": "x" } }),
        json!({ "name": "robot", "password": "", "domain": { "name": "acme" } }),
        json!({ "name": "robot", "password": "robot-secret", "domain": { "name": "acme" } }),
        json!({ "id": "a0000000000000000000000000000009", "password": "alice-password" }),
        json!({ "id": "alice", "password": "alice-password" }),
        json!({ "id": "", "password": "alice-password" }),
    ];
    for user in users {
        for scope in [region_1(), json!({ "project": { "id": OTHERS_PROJECT } })] {
            let answer = post(&app, &by_password(&user, &scope));
            assert_iam_error(&answer, 401, WRONG);
            assert_eq!(answer.header("x-subject-token"), None);
        }
    }
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}

#[test]
fn a_scope_that_is_not_of_the_users_account_is_401() {
    let app = acme();
    let first = token_of_alice(&app);
    let scopes = [
        json!({ "project": { "id": OTHERS_PROJECT } }),
        json!({ "project": { "id": "99999999999999999999999999999999" } }),
        json!({ "project": { "id": "x" } }),
        json!({ "project": { "name": "theirs" } }),
        json!({ "project": { "name": "theirs", "domain": { "name": "other" } } }),
        json!({ "project": { "name": "region-1", "domain": { "name": "other" } } }),
        json!({ "project": { "name": "region-1", "domain": { "id": OTHER } } }),
        json!({ "project": { "name": "region-1", "domain": { "name": "nowhere" } } }),
        json!({ "project": { "name": "nowhere" } }),
        json!({ "domain": { "name": "other" } }),
        json!({ "domain": { "id": OTHER } }),
        json!({ "domain": { "name": "nowhere" } }),
    ];
    for scope in scopes {
        for body in [by_password(&alice(), &scope), by_token(&first, &scope)] {
            let answer = post(&app, &body);
            assert_eq!(answer.status, 401, "{body}: {}", answer.text);
            let said = answer.json()["error"].clone();
            assert_eq!((&said["code"], &said["title"]), (&json!(401), &json!("Unauthorized")), "{body}");
            assert_eq!(answer.header("x-subject-token"), None);
        }
    }
    assert_eq!(records(&app.database()).len(), 1, "alice's own login");
}

/// Puts `value` in the place of what `pointer` names; `None` takes it away.
fn put(body: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut body = body.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    body
}

#[track_caller]
fn assert_malformed(answer: &Answer, field: &str) {
    let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_iam_error(answer, 400, &message);
    let named = format!("The request body is invalid: {field} ");
    assert!(message.starts_with(&named), "{message:?} does not name {field}");
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Object,
    Text,
    Texts,
}

impl Kind {
    fn wrong_values(self) -> Vec<Value> {
        let all = [
            (Kind::Object, json!({})),
            (Kind::Text, json!("x")),
            (Kind::Texts, json!([])),
            (Kind::Texts, json!(["x"])),
        ];
        let wrong = all.into_iter().filter(|(kind, _)| *kind != self).map(|(_, value)| value);
        wrong.chain([Value::Null, json!(1), json!(true)]).collect()
    }
}

#[test]
fn every_field_of_a_login_is_required_and_has_its_type_and_the_answer_names_it() {
    use Kind::{Object, Text, Texts};
    let app = acme_with(|settings| settings.access.login_failures_per_minute = 0);
    let scope = json!({ "project": { "name": "region-1", "domain": { "name": "acme" } } });
    let password = by_password(&alice(), &scope);
    let by_ids = by_password(
        &json!({ "id": ALICE, "password": "alice-password" }),
        &json!({ "project": { "id": REGION_1 } }),
    );
    let domain = by_password(&alice(), &json!({ "domain": { "name": "acme" } }));
    let domain_id = by_password(&alice(), &json!({ "domain": { "id": ACME } }));
    let token = by_token(&token_of_alice(&app), &region_1());
    let fields = [
        (&password, "/auth", Object, true),
        (&password, "/auth/identity", Object, true),
        (&password, "/auth/identity/methods", Texts, true),
        (&password, "/auth/identity/password", Object, true),
        (&password, "/auth/identity/password/user", Object, true),
        (&password, "/auth/identity/password/user/password", Text, true),
        (&password, "/auth/identity/password/user/name", Text, true),
        (&password, "/auth/identity/password/user/domain", Object, true),
        (&password, "/auth/identity/password/user/domain/name", Text, true),
        (&password, "/auth/scope", Object, false),
        (&password, "/auth/scope/project", Object, false),
        (&password, "/auth/scope/project/name", Text, true),
        (&password, "/auth/scope/project/domain", Object, false),
        (&password, "/auth/scope/project/domain/name", Text, true),
        (&by_ids, "/auth/identity/password/user/id", Text, false),
        (&by_ids, "/auth/identity/password/user/password", Text, true),
        (&by_ids, "/auth/scope/project/id", Text, false),
        (&domain, "/auth/scope/domain", Object, true),
        (&domain, "/auth/scope/domain/name", Text, true),
        (&domain_id, "/auth/scope/domain/id", Text, false),
        (&token, "/auth/identity/token", Object, true),
        (&token, "/auth/identity/token/id", Text, true),
    ];
    for (good, pointer, kind, is_required) in fields {
        assert_eq!(post(&app, good).status, 201);
        let field = pointer[1..].replace('/', ".");
        if is_required {
            assert_malformed(&post(&app, &put(good, pointer, None)), &field);
        }
        for wrong in kind.wrong_values() {
            let body = put(good, pointer, Some(wrong.clone()));
            // An empty list of methods, or another one, is the same field.
            let within = |field: &str| match &wrong {
                Value::Object(_) if kind == Object => format!("{field}."),
                _ => field.to_owned(),
            };
            assert_malformed(&post(&app, &body), &within(&field));
        }
    }
    assert_malformed(&post(&app, &put(&password, "/auth/scope/project", None)), "auth.scope.domain");
    assert_malformed(
        &post(&app, &put(&by_ids, "/auth/identity/password/user/id", None)),
        "auth.identity.password.user.name",
    );
    let methods = put(&password, "/auth/identity/methods", Some(json!(["password", 1])));
    assert_malformed(&post(&app, &methods), "auth.identity.methods[1]");
}

#[test]
fn another_method_than_password_or_token_is_400() {
    let app = acme();
    let good = by_password(&alice(), &region_1());
    for methods in [
        json!([]),
        json!(["totp"]),
        json!(["password", "totp"]),
        json!(["password", "token"]),
        json!(["password", "password"]),
        json!(["Password"]),
        json!(["assume_role"]),
        json!(["hw_ak_sk"]),
        json!([""]),
    ] {
        let body = put(&good, "/auth/identity/methods", Some(methods.clone()));
        let answer = post(&app, &body);
        assert_malformed(&answer, "auth.identity.methods");
        assert!(answer.text.contains(r#"[\"password\"] or [\"token\"]"#), "{}", answer.text);
    }
}

#[test]
fn a_body_that_is_no_json_object_is_400_and_another_content_type_415() {
    let app = acme();
    for body in ["", " ", "{", "null", "[]", "\"auth\"", "{\"auth\":}", "\u{0}"] {
        let answer = app.client.post_json(TOKENS, body);
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_iam_error(&answer, 400, &message);
        assert!(message.starts_with("The request body is invalid: "), "{body:?}: {message}");
    }
    let body = by_password(&alice(), &region_1()).to_string();
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/xml")]] {
        let answer = app.client.send("POST", TOKENS, headers, body.as_bytes());
        assert_eq!(answer.status, 415, "{}", answer.text);
    }
    let headers = [("content-type", "application/json;charset=UTF-8")];
    assert_eq!(app.client.send("POST", TOKENS, &headers, body.as_bytes()).status, 201);
    assert_eq!(app.client.post_json(&format!("{TOKENS}/"), &body).status, 201, "with a slash at its end");
}

#[test]
fn credentials_beside_a_login_are_not_looked_at() {
    let app = acme();
    let body = by_password(&alice(), &region_1()).to_string();
    let headers = [("content-type", "application/json"), ("x-auth-token", "x"), ("authorization", "x")];
    assert_eq!(app.client.send("POST", TOKENS, &headers, body.as_bytes()).status, 201);
}

#[test]
fn a_token_is_shown_to_its_user_and_to_the_root_of_its_account() {
    let app = acme();
    let login = post(&app, &by_password(&alice(), &region_1()));
    let (token, second) = (token_of(&login), token_of_alice(&app));
    let root = token_for(&app.client, "acme", "admin", "admin-password", "region-1_staging");
    app.clock.set(NOW.plus_millis(HOUR_MS));
    for by in [&token, &second, &root] {
        let shown = about(&app, "GET", by, &token);
        assert_eq!((shown.status, shown.header("x-subject-token")), (200, Some(token.as_str())));
        assert_eq!(shown.json(), login.json());
        let head = about(&app, "HEAD", by, &token);
        assert_eq!((head.status, head.text.as_str()), (200, ""));
        assert_eq!(head.header("x-subject-token"), Some(token.as_str()));
    }
    let an_hour_later = Signer { date: "20260102T040405Z", ..ROBOT };
    let signed = app.client.send_signed(&an_hour_later, "GET", TOKENS, &[("x-subject-token", &token)], b"");
    assert_iam_code(&signed, 403, "IAM.0002");
}

#[test]
fn a_token_is_not_shown_to_another_user_and_does_not_exist_for_another_account() {
    let app = acme();
    let token = token_of_alice(&app);
    let bob = token_for(&app.client, "acme", "bob", "bob-password", "region-1");
    let root = token_for(&app.client, "acme", "admin", "admin-password", "region-1");
    let stranger = token_for(&app.client, "other", "other", "other-password", "region-1");
    let before = records(&app.database()).len();
    for method in ["GET", "DELETE"] {
        let message = assert_iam_code(&about(&app, method, &bob, &token), 403, "IAM.0002");
        assert_eq!(message, "You are not authorized to perform the requested action.");
        assert_iam_code(&about(&app, method, &token, &root), 403, "IAM.0002");
        assert_iam_error(&about(&app, method, &stranger, &token), 404, NO_SUCH_TOKEN);
        assert_iam_error(&about(&app, method, &token, "no-such-token"), 404, NO_SUCH_TOKEN);
        assert_iam_error(&about(&app, method, &token, ""), 404, NO_SUCH_TOKEN);
        let headers = [("x-auth-token", token.as_str())];
        assert_iam_error(&app.client.send(method, TOKENS, &headers, b""), 404, NO_SUCH_TOKEN);
    }
    for (by, status) in [(&bob, 403), (&stranger, 404)] {
        let head = about(&app, "HEAD", by, &token);
        assert_eq!((head.status, head.text.as_str()), (status, ""));
    }
    assert_eq!(list_with(&app, &token).status, 200, "nobody revoked it");

    let denied = records(&app.database()).split_off(before);
    let denied: Vec<_> = denied
        .iter()
        .map(|record| {
            let user = record["actor"]["user_name"].as_str().unwrap();
            (record["outcome"].as_str().unwrap(), record["action"].as_str().unwrap(), user)
        })
        .collect();
    let action = "ecs-groupd:token:revoke";
    assert_eq!(
        denied,
        [("denied", action, "bob"), ("denied", action, "alice")],
        "one for each that was denied"
    );
}

#[test]
fn without_credentials_nobody_asks_about_a_token() {
    let app = acme();
    let token = token_of_alice(&app);
    for (method, path) in [
        ("GET", TOKENS),
        ("DELETE", TOKENS),
        ("GET", "/v3/projects"),
        ("GET", "/v3/auth/projects"),
        ("GET", "/v3/auth/domains"),
        ("GET", "/v3/auth/catalog"),
    ] {
        for headers in [&[("x-subject-token", token.as_str())][..], &[("x-auth-token", "x")]] {
            let answer = app.client.send(method, path, headers, b"");
            let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            assert_iam_error(&answer, 401, &message);
        }
    }
}

#[test]
fn a_revoked_token_is_good_for_nothing_not_even_after_a_restart() {
    let app = acme();
    let (token, other) = (token_of_alice(&app), token_of_alice(&app));
    assert_eq!(list_with(&app, &token).status, 200);
    let revoked = about(&app, "DELETE", &token, &token);
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    let is_gone = |app: &TestApp| {
        let message = list_with(app, &token).gateway_error(401, "APIGW.0301");
        assert_eq!(message, "Incorrect IAM authentication information: decrypt token fail");
        assert_eq!(about(app, "GET", &token, &token).status, 401);
        assert_iam_error(&about(app, "GET", &other, &token), 404, NO_SUCH_TOKEN);
        assert_iam_error(&about(app, "DELETE", &other, &token), 404, NO_SUCH_TOKEN);
        assert_eq!(post(app, &by_token(&token, &region_1())).status, 401);
        assert_eq!(list_with(app, &other).status, 200);
    };
    is_gone(&app);
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), |_| {});
    is_gone(&app);
}

#[test]
fn the_root_of_an_account_revokes_its_users_tokens() {
    let app = acme();
    let token = token_of_alice(&app);
    let root = token_for(&app.client, "acme", "admin", "admin-password", "region-1");
    assert_eq!(about(&app, "DELETE", &root, &token).status, 204);
    assert_eq!(list_with(&app, &token).status, 401);
    assert_eq!(list_with(&app, &root).status, 200);
}

#[test]
fn of_many_who_revoke_a_token_at_once_one_does_and_the_others_find_none() {
    let app = acme();
    let (token, other) = (token_of_alice(&app), token_of_alice(&app));
    let before = records(&app.database()).len();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let revoke = || about(&app, "DELETE", &other, &token).status;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(revoke)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 404].contains(status)), "{statuses:?}");
    let done = records(&app.database()).split_off(before);
    assert_eq!(done.iter().filter(|record| record["outcome"] == "done").count(), 1);
}

#[test]
fn the_fixed_token_of_dev_cannot_be_revoked() {
    let app = TestApp::start();
    let answer = about(&app, "DELETE", dev::TOKEN, dev::TOKEN);
    assert_iam_code(&answer, 403, "IAM.0002");
    assert_eq!(app.client.with_token(dev::TOKEN).get(&groups_path()).status, 200);
    assert_eq!(about(&app, "GET", dev::TOKEN, dev::TOKEN).status, 200);
}

#[test]
fn tokens_survive_a_restart_and_end_exactly_when_they_say() {
    let app = acme_with(|settings| settings.access.token_lifetime_s = 3_600);
    let answer = post(&app, &by_password(&alice(), &region_1()));
    let token = token_of(&answer);
    assert_eq!(answer.json()["token"]["expires_at"], "2026-01-02T04:04:05.000000Z");
    let root = token_for(&app.client, "acme", "admin", "admin-password", "region-1");
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), |_| {});
    assert_eq!(about(&app, "GET", &root, &token).json(), rehosted(&answer.json(), app.api));

    app.clock.set(NOW.plus_millis(HOUR_MS - 1));
    let late = token_for(&app.client, "acme", "admin", "admin-password", "region-1");
    assert_eq!(list_with(&app, &token).status, 200);
    assert_eq!(about(&app, "GET", &token, &token).status, 200);
    app.clock.set(NOW.plus_millis(HOUR_MS));
    let message = list_with(&app, &token).gateway_error(401, "APIGW.0301");
    assert!(message.contains("expired"), "{message}");
    let answer = about(&app, "GET", &token, &token);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["code"], 401);
    assert_eq!(post(&app, &by_token(&token, &region_1())).status, 401);
    assert_iam_error(&about(&app, "GET", &late, &token), 404, NO_SUCH_TOKEN);
    assert_iam_error(&about(&app, "DELETE", &late, &token), 404, NO_SUCH_TOKEN);
}

/// The answer as it is after a restart, which takes another port.
fn rehosted(body: &Value, api: std::net::SocketAddr) -> Value {
    let url = body.pointer("/token/catalog/0/endpoints/0/url").unwrap().as_str().unwrap();
    let old = url.split('/').nth(2).unwrap();
    serde_json::from_str(&body.to_string().replace(old, &api.to_string())).unwrap()
}

#[test]
fn a_token_got_by_a_token_does_not_outlive_it() {
    let app = acme();
    let mut token = token_of_alice(&app);
    for hours in [1, 2, 23] {
        app.clock.set(NOW.plus_millis(hours * HOUR_MS));
        let answer = post(&app, &by_token(&token, &region_1()));
        let said = &answer.json()["token"];
        assert_eq!(
            said["issued_at"],
            format!("2026-01-{:02}T{:02}:04:05.000000Z", 2 + (3 + hours) / 24, (3 + hours) % 24)
        );
        assert_eq!(said["expires_at"], "2026-01-03T03:04:05.000000Z", "the first one's");
        token = token_of(&answer);
    }
    app.clock.set(NOW.plus_millis(DAY_MS));
    assert_eq!(list_with(&app, &token).status, 401);
}

#[test]
fn a_shorter_lifetime_counts_for_a_token_got_by_a_token_too() {
    let app = acme();
    let token = token_of_alice(&app);
    let short = |settings: &mut Settings| settings.access.token_lifetime_s = 60;
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), short);
    let answer = post(&app, &by_token(&token, &region_1()));
    assert_eq!(answer.json()["token"]["expires_at"], "2026-01-02T03:05:05.000000Z");
}

/// One column of the database beside a running service.
fn column<T: rusqlite::types::FromSql>(database: &Path, select: &str) -> Vec<T> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(database, flags).unwrap();
    let mut select = conn.prepare(select).unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn of_a_token_and_a_temporary_key_only_digests_are_kept() {
    let app = acme();
    let token = token_of_alice(&app);
    let key = temporary_key(&app, &token, None);
    let digests: Vec<Vec<u8>> = column(&app.database(), "select digest from token");
    assert_eq!(digests, [token::digest(&token).as_bytes().to_vec()]);
    let digests: Vec<Vec<u8>> = column(&app.database(), "select digest from temporary_key");
    assert_eq!(digests, [token::digest(&key.security_token).as_bytes().to_vec()]);

    let secrets =
        [&token, &key.security_token, &key.secret_key, "alice-password", "$argon2id$"].map(str::to_owned);
    let folder = app.database().parent().unwrap().to_owned();
    let mut files = 0;
    for file in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap() == "identities.toml" {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        files += 1;
        for secret in &secrets {
            let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_there, "{secret} stands in {}", file.display());
        }
    }
    assert!(files >= 2, "the database and its WAL");
}

const ORIGIN: Origin = Origin { request_id: RequestId::from_bytes([5; 16]), source_ip: None, door: "timer" };

#[test]
fn what_has_expired_is_purged_with_one_record_and_without_anything_to_purge_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("ecs-groupd.db");
    let clock = Clock::fixed(NOW);
    let domain = Domain { domain_id: DomainId::from_bytes([6; 16]), name: "acme".to_owned() };
    let (user_id, scope) = (UserId::from_bytes([4; 16]), Scope::Domain(domain.domain_id));
    let principal = Principal {
        user: Arc::new(User::new(user_id, "alice".to_owned(), domain, false)),
        project: None,
        credential: Credential::Login(LoginMethod::Password),
        documents: Arc::default(),
    };
    let permit = |action| policy::permit_oneself(&principal, ORIGIN, action).unwrap();
    let options = store::Options { database: database.clone(), refusals_per_minute: None, ..store_options() };
    on_a_store(options, &clock, async |store| {
        for (name, lifetime_ms) in [("short", 1_000), ("same", 1_000), ("long", 1_001)] {
            let (digest, method) = (token::digest(name), LoginMethod::Password);
            let token = Command::IssueToken {
                digest,
                user_id,
                scope,
                method,
                credentials: digest,
                lifetime_ms,
                expires_by: None,
            };
            store.apply(permit(Action::IssueToken), token).await.unwrap();
            let access_key = name.parse().unwrap();
            let key =
                Command::IssueTemporaryKey { access_key, digest, user_id, lifetime_ms, expires_by: None };
            store.apply(permit(Action::IssueTemporaryKey), key).await.unwrap();
        }
        let purge = async |now: Timestamp| {
            clock.set(now);
            store.purge_expired(ORIGIN, now).await.unwrap();
            let tokens: i64 = column(&database, "select count(*) from token")[0];
            let keys: i64 = column(&database, "select count(*) from temporary_key")[0];
            let records = records(&database);
            let purges = records.iter().filter(|record| record["action"] == "ecs-groupd:token:purge").count();
            (tokens, keys, purges)
        };
        assert_eq!(purge(NOW).await, (3, 3, 0));
        assert_eq!(purge(NOW.plus_millis(999)).await, (3, 3, 0));
        assert_eq!(purge(NOW.plus_millis(1_000)).await, (1, 1, 1));
        assert_eq!(purge(NOW.plus_millis(1_000)).await, (1, 1, 1), "and nothing the next time");
        assert_eq!(store.token(token::digest("short")).await.unwrap(), None);
        assert!(store.token(token::digest("long")).await.unwrap().is_some());
        assert_eq!(purge(NOW.plus_millis(1_001)).await, (0, 0, 2));
        assert_eq!(purge(NOW.plus_millis(DAY_MS)).await, (0, 0, 2));
    });
    let last = records(&database).pop().unwrap();
    assert_eq!(last["actor"], json!({ "type": "service" }));
    assert_eq!((&last["door"], &last["project_id"]), (&json!("timer"), &Value::Null));
    assert_eq!(last["outcome"], "done");
}

#[test]
fn a_service_that_starts_purges_what_expired_while_it_was_down() {
    let app = acme();
    app.clock.set(Timestamp::from_millis(NOW.as_millis() - 2 * DAY_MS));
    let expired = token_of_alice(&app);
    app.clock.set(NOW);
    let good = token_of_alice(&app);
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), |_| {});
    let digests = || -> Vec<Vec<u8>> { column(&app.database(), "select digest from token") };
    let is_there = |token: &str| digests().contains(&token::digest(token).as_bytes().to_vec());
    while is_there(&expired) {
        assert_eq!(list_with(&app, &good).status, 200);
    }
    assert!(is_there(&good));
    let purges = |record: &&Value| record["action"] == "ecs-groupd:token:purge";
    assert_eq!(records(&app.database()).iter().filter(purges).count(), 1);
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), |_| {});
    assert_eq!(list_with(&app, &good).status, 200);
    let written = records(&app.stop().path().join("ecs-groupd.db"));
    assert_eq!(written.iter().filter(purges).count(), 1, "nothing to purge the second time");
}

fn guess(app: &TestApp, user: &str, password: &str) -> Answer {
    log_in(&app.client, "acme", user, password, &region_1())
}

#[track_caller]
fn assert_throttled(answer: &Answer, retry_after: &str) {
    assert_iam_code(answer, 429, "IAM.0012");
    assert_eq!(answer.header("retry-after"), Some(retry_after));
    assert_eq!(answer.header("x-subject-token"), None);
}

#[test]
fn after_ten_failed_logins_a_user_waits_for_the_rest_of_the_minute_whatever_the_password() {
    let app = acme();
    for _ in 0..20 {
        assert_eq!(guess(&app, "alice", "alice-password").status, 201, "good ones do not count");
    }
    for _ in 0..10 {
        assert_iam_error(&guess(&app, "alice", "wrong"), 401, WRONG);
    }
    assert_throttled(&guess(&app, "alice", "wrong"), "60");
    assert_throttled(&guess(&app, "alice", "alice-password"), "60");
    assert_eq!(guess(&app, "bob", "bob-password").status, 201, "another user");
    assert_eq!(guess(&app, "robot", "x").status, 401, "another user, who may not log in");

    app.clock.set(NOW.plus_millis(MINUTE_MS - 30 * SECOND_MS));
    assert_throttled(&guess(&app, "alice", "alice-password"), "30");
    app.clock.set(NOW.plus_millis(MINUTE_MS - 1));
    assert_throttled(&guess(&app, "alice", "alice-password"), "1");
    app.clock.set(NOW.plus_millis(MINUTE_MS));
    assert_eq!(guess(&app, "alice", "alice-password").status, 201);
    assert_iam_error(&guess(&app, "alice", "wrong"), 401, WRONG);
}

#[test]
fn who_comes_back_when_retry_after_says_may_log_in() {
    let app = acme_with(|settings| settings.access.login_failures_per_minute = 1);
    assert_eq!(guess(&app, "alice", "wrong").status, 401);
    for elapsed_ms in [0, 1, 500, 58_001, 58_500, 59_999] {
        let now = NOW.plus_millis(elapsed_ms);
        app.clock.set(now);
        let answer = guess(&app, "alice", "alice-password");
        assert_eq!(answer.status, 429, "{elapsed_ms}");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        let ends_at = NOW.as_millis() + MINUTE_MS;
        let back_at = now.as_millis() + seconds * SECOND_MS;
        assert!(back_at >= ends_at, "after {elapsed_ms} ms it says {seconds} s, which is too soon");
        assert!(
            back_at < ends_at + SECOND_MS,
            "after {elapsed_ms} ms it says {seconds} s, which is too late"
        );
    }
}

#[test]
fn a_user_that_does_not_exist_is_throttled_as_one_that_does() {
    let app = acme();
    for user in ["nobody", "robot"] {
        for _ in 0..10 {
            assert_iam_error(&guess(&app, user, "wrong"), 401, WRONG);
        }
        assert_throttled(&guess(&app, user, "wrong"), "60");
    }
}

#[test]
fn failed_logins_of_a_user_count_together_however_it_is_named() {
    let app = acme_with(|settings| settings.access.login_failures_per_minute = 3);
    let users = [
        json!({ "id": ALICE, "password": "wrong" }),
        json!({ "name": "alice", "password": "wrong", "domain": { "name": "acme" } }),
        json!({ "name": "alice", "password": "wrong", "domain": { "id": ACME } }),
    ];
    for user in &users {
        assert_iam_error(&post(&app, &by_password(user, &region_1())), 401, WRONG);
    }
    for user in &users {
        assert_throttled(&post(&app, &by_password(user, &region_1())), "60");
    }
}

#[test]
fn failed_logins_count_for_the_address_that_they_come_from() {
    let app = acme_with(|settings| {
        settings.api.trusted_proxies = Networks::try_from("127.0.0.0/8".to_owned()).unwrap();
    });
    let guess_from = |address: &str, password: &str| {
        let user = json!({ "name": "alice", "password": password, "domain": { "name": "acme" } });
        let headers = [("content-type", "application/json"), ("x-forwarded-for", address)];
        app.client.send("POST", TOKENS, &headers, by_password(&user, &region_1()).to_string().as_bytes())
    };
    for _ in 0..10 {
        assert_iam_error(&guess_from("198.51.100.7", "wrong"), 401, WRONG);
    }
    assert_throttled(&guess_from("198.51.100.7", "alice-password"), "60");
    assert_eq!(guess_from("198.51.100.8", "alice-password").status, 201);
    assert_eq!(guess(&app, "alice", "alice-password").status, 201);
}

#[test]
fn with_0_failed_logins_are_never_throttled() {
    let app = acme_with(|settings| settings.access.login_failures_per_minute = 0);
    for _ in 0..50 {
        assert_iam_error(&guess(&app, "alice", "wrong"), 401, WRONG);
    }
    assert_eq!(guess(&app, "alice", "alice-password").status, 201);
}

/// The statuses of as many logins at once.
fn at_once(app: &TestApp, threads: usize, each: usize, password: &str) -> Vec<u16> {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let guesses = || {
            // A connection of its own.
            let client = Client::new(app.api);
            start.wait();
            let guess = |_| log_in(&client, "acme", "alice", password, &region_1()).status;
            (0..each).map(guess).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(guesses)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn guesses_at_once_are_not_more_than_the_limit() {
    let app = acme();
    let statuses = at_once(&app, 8, 5, "wrong");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 30, "{statuses:?}");
}

#[test]
fn many_who_log_in_at_once_with_the_right_password_are_all_let_in() {
    // As costly as a real one, so that they wait for each other.
    let hash = Hashed::of("alice-password", Cost::Chosen).unwrap();
    let app = TestApp::start_with_identities(&accounts_where_alice_has(hash.as_str()), |_| {});
    let statuses = at_once(&app, 16, 1, "alice-password");
    assert_eq!(statuses, [201; 16], "good logins do not count as failed ones");
}

#[test]
fn the_version_of_iam_is_told_to_everybody() {
    let app = acme();
    let href = format!("http://{}/v3/", app.api);
    for path in ["/v3", "/v3/"] {
        let answer = app.client.send("GET", path, &[("x-auth-token", "x")], b"");
        assert_eq!(answer.status, 200);
        let version = answer.json()["version"].clone();
        assert_eq!(version["links"], json!([{ "rel": "self", "href": href }]));
        assert!(version["id"].as_str().unwrap().starts_with("v3."), "{version}");
        assert_eq!(version["status"], "stable");
    }
}

/// A project as the lookups show it.
fn project(app: &TestApp, id: &str, name: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "domain_id": ACME,
        "parent_id": ACME,
        "is_domain": false,
        "enabled": true,
        "description": "",
        "links": { "self": format!("http://{}/v3/projects/{id}", app.api) },
    })
}

#[test]
fn the_projects_of_an_account_are_listed_by_name_domain_and_page() {
    let app = acme();
    let client = app.client.with_token(&token_of_alice(&app));
    let projects = [project(&app, REGION_1, "region-1"), project(&app, STAGING, "region-1_staging")];
    let answer = client.get("/v3/projects").json();
    let links = json!({ "self": format!("http://{}/v3/projects", app.api), "next": null, "previous": null });
    assert_eq!(answer, json!({ "projects": projects, "links": links }));
    let (both, first, second, none) = (&projects[..], &projects[..1], &projects[1..], &projects[..0]);
    for (query, expected) in [
        ("", both),
        ("name=region-1", first),
        ("name=region-1_staging", second),
        ("name=region", none),
        ("name=theirs", none),
        ("name=", none),
        (&format!("domain_id={ACME}"), both),
        (&format!("domain_id={OTHER}"), none),
        ("enabled=true", both),
        ("enabled=false", none),
        ("is_domain=false", both),
        ("is_domain=true", none),
        (&format!("parent_id={ACME}"), both),
        ("name=region-1&enabled=true", first),
        ("page=1&per_page=1", first),
        ("page=2&per_page=1", second),
        ("page=3&per_page=1", none),
        ("per_page=1", first),
        ("page=1&per_page=2", both),
        ("page=1&per_page=5000", both),
        ("page=18446744073709551615&per_page=18446744073709551615", none),
        ("page=18446744073709551616&per_page=18446744073709551616", none),
        ("page=1", both),
    ] {
        let answer = client.get(&format!("/v3/projects?{query}"));
        assert_eq!(answer.json()["projects"], json!(expected), "{query}: {}", answer.text);
    }
    for query in ["page=0&per_page=1", "page=1&per_page=0", "page=x&per_page=1", "page=-1&per_page=1"] {
        assert_eq!(client.get(&format!("/v3/projects?{query}")).status, 400, "{query}");
    }
}

#[test]
fn an_sdk_finds_its_project_by_a_signed_request() {
    let app = acme();
    for name in ["region-1", "region-1_staging"] {
        let answer = app.client.send_signed(&ROBOT, "GET", &format!("/v3/projects?name={name}"), &[], b"");
        let projects = answer.json()["projects"].clone();
        assert_eq!((projects.as_array().unwrap().len(), &projects[0]["name"]), (1, &json!(name)));
    }
    let answer = app.client.send_signed(&ROBOT, "GET", "/v3/auth/domains", &[], b"");
    assert_eq!(answer.json()["domains"][0]["id"], ACME);
}

#[test]
fn a_user_is_shown_the_projects_that_it_is_granted_anything_in() {
    let app = acme();
    let shown = |user: &str, password: &str| -> Vec<Value> {
        let scope = json!({ "domain": { "name": "acme" } });
        let token = token_of(&log_in(&app.client, "acme", user, password, &scope));
        let answer = app.client.with_token(&token).get("/v3/auth/projects").json();
        assert_eq!(answer["links"]["self"], format!("http://{}/v3/auth/projects", app.api));
        answer["projects"].as_array().unwrap().clone()
    };
    let (first, second) = (project(&app, REGION_1, "region-1"), project(&app, STAGING, "region-1_staging"));
    assert_eq!(shown("admin", "admin-password"), [first.clone(), second]);
    assert_eq!(shown("alice", "alice-password"), [first]);
    assert_eq!(shown("bob", "bob-password"), Vec::<Value>::new());
}

#[test]
fn the_account_and_the_catalogue_are_told_to_whoever_is_known() {
    let app = acme();
    let base = format!("http://{}", app.api);
    let client = app.client.with_token(&token_of_alice(&app));
    let domain = json!({
        "id": ACME,
        "name": "acme",
        "enabled": true,
        "description": "",
        "links": { "self": format!("{base}/v3/domains/{ACME}") },
    });
    let links = json!({ "self": format!("{base}/v3/auth/domains"), "next": null, "previous": null });
    assert_eq!(client.get("/v3/auth/domains").json(), json!({ "domains": [domain], "links": links }));

    let answer = client.get("/v3/auth/catalog").json();
    assert_catalog(&answer["catalog"], &project_services(&base, REGION_1));
    let links = json!({ "self": format!("{base}/v3/auth/catalog") });
    assert_eq!(answer, json!({ "catalog": answer["catalog"], "links": links }));
    let signed = app.client.send_signed(&ROBOT, "GET", "/v3/auth/catalog", &[("x-project-id", STAGING)], b"");
    assert_catalog(&signed.json()["catalog"], &project_services(&base, STAGING));
    let signed = app.client.send_signed(&ROBOT, "GET", "/v3/auth/catalog", &[], b"");
    assert_catalog(&signed.json()["catalog"], &project_services(&base, "")[..1]);
}

/// A temporary access key, and what goes with it.
struct Temporary {
    access_key: String,
    secret_key: String,
    security_token: String,
    expires_at: String,
}

impl Temporary {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 201, "{}", answer.text);
        let body = answer.json();
        let text = |name: &str| body["credential"][name].as_str().unwrap().to_owned();
        let found = Self {
            access_key: text("access"),
            secret_key: text("secret"),
            security_token: text("securitytoken"),
            expires_at: text("expires_at"),
        };
        let credential = json!({
            "access": found.access_key,
            "secret": found.secret_key,
            "securitytoken": found.security_token,
            "expires_at": found.expires_at,
        });
        assert_eq!(body, json!({ "credential": credential }));
        found
    }

    fn signer<'key>(&'key self, date: &'key str) -> Signer<'key> {
        Signer { access_key: &self.access_key, secret_key: &self.secret_key, date }
    }
}

/// The body of a request for a temporary key. Without a token in it, the caller's own counts.
fn for_key(token: Option<&str>, duration_seconds: Option<Value>) -> Value {
    let mut asked = json!({});
    if let Some(token) = token {
        asked["id"] = json!(token);
    }
    if let Some(seconds) = duration_seconds {
        asked["duration_seconds"] = seconds;
    }
    json!({ "auth": { "identity": { "methods": ["token"], "token": asked } } })
}

fn temporary_key(app: &TestApp, token: &str, seconds: Option<u64>) -> Temporary {
    let body = for_key(Some(token), seconds.map(Value::from));
    Temporary::of(&app.client.post_json(TEMPORARY_KEYS, &body.to_string()))
}

/// Lists groups, signed with a temporary key, whose security token is a signed header.
fn list_by(app: &TestApp, key: &Temporary, date: &str) -> Answer {
    let headers = [("x-security-token", key.security_token.as_str())];
    app.client.send_signed(&key.signer(date), "GET", GROUPS, &headers, b"")
}

/// The same, but the security token is added after signing, as Terraform does.
fn list_by_unsigned(app: &TestApp, key: &Temporary, security_tokens: &[&str], date: &str) -> Answer {
    let signed = key.signer(date).sign("GET", GROUPS, "", &[], b"");
    let headers = signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<_> =
        headers.chain(security_tokens.iter().map(|token| ("x-security-token", *token))).collect();
    app.client.send("GET", GROUPS, &headers, b"")
}

const DATE: &str = "20260102T030405Z";

#[test]
fn a_temporary_key_signs_for_its_user_with_its_security_token() {
    let app = acme();
    let token = token_of_alice(&app);
    let by_header = app.client.with_token(&token).post_json(TEMPORARY_KEYS, &for_key(None, None).to_string());
    let short = json!({ "auth": { "identity": { "methods": ["token"] } } }).to_string();
    let shortest = app.client.with_token(&token).post_json(TEMPORARY_KEYS, &short);
    let by_signature = {
        let json = [("content-type", "application/json")];
        app.client.send_signed(&ROBOT, "POST", TEMPORARY_KEYS, &json, short.as_bytes())
    };
    let keys = [
        temporary_key(&app, &token, None),
        Temporary::of(&by_header),
        Temporary::of(&shortest),
        Temporary::of(&by_signature),
    ];
    for key in &keys {
        assert_eq!(key.expires_at, "2026-01-02T03:19:05.000000Z", "15 minutes, when nothing is said");
        assert_eq!(list_by(&app, key, DATE).status, 200);
        assert_eq!(list_by_unsigned(&app, key, &[&key.security_token], DATE).status, 200);

        list_by_unsigned(&app, key, &[], DATE).gateway_error(401, "APIGW.0301");
        for wrong in ["", "x", &token, &keys[0].security_token[1..]] {
            list_by_unsigned(&app, key, &[wrong], DATE).gateway_error(401, "APIGW.0301");
        }
        let twice = [key.security_token.as_str(), key.security_token.as_str()];
        list_by_unsigned(&app, key, &twice, DATE).gateway_error(401, "APIGW.0301");
        let forged = Temporary {
            secret_key: "x".repeat(40),
            access_key: key.access_key.clone(),
            security_token: key.security_token.clone(),
            expires_at: String::new(),
        };
        let message = list_by(&app, &forged, DATE).gateway_error(401, "APIGW.0301");
        assert!(message.ends_with("verify aksk signature fail"), "{message}");
    }
    let others = list_by_unsigned(&app, &keys[0], &[&keys[1].security_token], DATE);
    others.gateway_error(401, "APIGW.0301");

    let headers =
        [("x-security-token", keys[0].security_token.as_str()), ("content-type", "application/json")];
    let body = create_body("web");
    let signer = keys[0].signer(DATE);
    assert_eq!(app.client.send_signed(&signer, "POST", GROUPS, &headers, body.as_bytes()).status, 200);
    let actor = records(&app.database()).pop().unwrap()["actor"].clone();
    assert_eq!((&actor["user_id"], &actor["credential"]), (&json!(ALICE), &json!("temporary_key")));
    assert_eq!(actor["access_key"], keys[0].access_key);
}

#[test]
fn a_security_token_beside_a_permanent_key_is_not_looked_at() {
    let app = acme();
    let answer = app.client.send_signed(&ROBOT, "GET", GROUPS, &[("x-security-token", "STSTOKEN==")], b"");
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn a_temporary_key_lasts_900_to_86400_seconds() {
    let app = acme();
    let token = token_of_alice(&app);
    for (seconds, expires_at) in [
        (900, "2026-01-02T03:19:05.000000Z"),
        (901, "2026-01-02T03:19:06.000000Z"),
        (86_400, "2026-01-03T03:04:05.000000Z"),
    ] {
        assert_eq!(temporary_key(&app, &token, Some(seconds)).expires_at, expires_at);
    }
    // JSON has one kind of number.
    let answer = app.client.post_json(TEMPORARY_KEYS, &for_key(Some(&token), Some(json!(900.0))).to_string());
    assert_eq!(answer.status, 201, "{}", answer.text);
    let before = records(&app.database()).len();
    for wrong in [
        json!(899),
        json!(86_401),
        json!(0),
        json!(-900),
        json!(900.5),
        json!("900"),
        json!(null),
        json!([900]),
        json!(1e30),
    ] {
        let body = for_key(Some(&token), Some(wrong));
        let answer = app.client.post_json(TEMPORARY_KEYS, &body.to_string());
        assert_malformed(&answer, "auth.identity.token.duration_seconds");
    }
    assert_eq!(records(&app.database()).len(), before);
}

#[test]
fn a_request_for_a_temporary_key_in_another_form_is_400_and_without_a_good_token_401() {
    let app = acme();
    let token = token_of_alice(&app);
    let good = for_key(Some(&token), None);
    for (pointer, value, field) in [
        ("/auth", None, "auth"),
        ("/auth", Some(json!([])), "auth"),
        ("/auth/identity", None, "auth.identity"),
        ("/auth/identity", Some(json!("x")), "auth.identity"),
        ("/auth/identity/methods", None, "auth.identity.methods"),
        ("/auth/identity/methods", Some(json!("token")), "auth.identity.methods"),
        ("/auth/identity/methods", Some(json!(["password"])), "auth.identity.methods"),
        ("/auth/identity/methods", Some(json!([])), "auth.identity.methods"),
        ("/auth/identity/token", Some(json!("x")), "auth.identity.token"),
        ("/auth/identity/token/id", Some(json!(1)), "auth.identity.token.id"),
        ("/auth/identity/policy", Some(json!({})), "auth.identity.policy"),
    ] {
        let body = put(&good, pointer, value);
        assert_malformed(&app.client.post_json(TEMPORARY_KEYS, &body.to_string()), field);
    }
    for body in [for_key(None, None), for_key(Some("x"), None), for_key(Some(""), None)] {
        let answer = app.client.post_json(TEMPORARY_KEYS, &body.to_string());
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_iam_error(&answer, 401, &message);
    }
    let by_bad_header =
        app.client.with_token("x").post_json(TEMPORARY_KEYS, &for_key(None, None).to_string());
    assert_eq!(by_bad_header.status, 401);
    assert_eq!(records(&app.database()).len(), 1, "alice's login");
}

#[test]
fn a_temporary_key_ends_exactly_when_it_says_and_survives_a_restart_until_then() {
    let text = accounts();
    let app = TestApp::start_with_identities(&text, |_| {});
    let token = token_of_alice(&app);
    let key = temporary_key(&app, &token, Some(3_600));
    let app = TestApp::start_with_identities_in(app.stop(), &text, |_| {});
    assert_eq!(list_by(&app, &key, DATE).status, 200);
    app.clock.set(NOW.plus_millis(HOUR_MS - 1));
    assert_eq!(list_by(&app, &key, "20260102T040405Z").status, 200);
    app.clock.set(NOW.plus_millis(HOUR_MS));
    let message = list_by(&app, &key, "20260102T040405Z").gateway_error(401, "APIGW.0301");
    assert!(message.contains("expired"), "{message}");
}

#[test]
fn a_temporary_key_does_not_outlive_the_token_or_the_key_that_it_was_got_by() {
    let app = acme();
    let token = token_of_alice(&app);
    app.clock.set(NOW.plus_millis(23 * HOUR_MS));
    let ends = "2026-01-03T03:04:05.000000Z";
    let key = temporary_key(&app, &token, Some(86_400));
    assert_eq!(key.expires_at, ends);
    let body = for_key(None, Some(json!(86_400))).to_string();
    let by_header = app.client.with_token(&token).post_json(TEMPORARY_KEYS, &body);
    assert_eq!(Temporary::of(&by_header).expires_at, ends);

    let headers = [("x-security-token", key.security_token.as_str()), ("content-type", "application/json")];
    let signer = key.signer("20260103T020405Z");
    let by_key = app.client.send_signed(&signer, "POST", TEMPORARY_KEYS, &headers, body.as_bytes());
    if by_key.status == 201 {
        assert_eq!(Temporary::of(&by_key).expires_at, ends);
    }
}

#[test]
fn a_temporary_key_ends_when_its_users_password_changes_and_a_token_when_its_user_goes() {
    let app = acme();
    let token = token_of_alice(&app);
    let key = temporary_key(&app, &token, Some(3_600));
    let robots = app.client.send_signed(
        &ROBOT,
        "POST",
        TEMPORARY_KEYS,
        &[("content-type", "application/json")],
        for_key(None, None).to_string().as_bytes(),
    );
    let robots = Temporary::of(&robots);
    assert_eq!(list_by(&app, &key, DATE).status, 200);
    app.reload(&accounts_where_alice_has(&cheap_hash("another-password")));
    list_by(&app, &key, DATE).gateway_error(401, "APIGW.0301");
    assert_eq!(list_by(&app, &robots, DATE).status, 200, "another user's");
    assert_iam_error(&guess(&app, "alice", "alice-password"), 401, WRONG);
    assert_eq!(guess(&app, "alice", "another-password").status, 201);

    let gone = accounts().replace("'alice'", "'carol'").replace(ALICE, "a0000000000000000000000000000077");
    app.reload(&gone);
    list_by(&app, &key, DATE).gateway_error(401, "APIGW.0301");
    list_with(&app, &token).gateway_error(401, "APIGW.0301");
    assert_iam_error(&guess(&app, "alice", "another-password"), 401, WRONG);
}

#[test]
fn a_login_a_revocation_and_a_temporary_key_leave_one_record_each_without_a_secret() {
    let app = acme();
    let login = post(&app, &by_password(&alice(), &region_1()));
    let token = token_of(&login);
    let again = post(&app, &by_token(&token, &json!({ "domain": { "name": "acme" } })));
    let second = token_of(&again);
    let body = for_key(Some(&token), Some(json!(1_000))).to_string();
    let asked = app.client.post_json(TEMPORARY_KEYS, &body);
    let key = Temporary::of(&asked);
    let revoked = about(&app, "DELETE", &token, &second);
    assert_eq!(revoked.status, 204);
    for failed in [
        guess(&app, "alice", "wrong"),
        post(&app, &json!({})),
        post(&app, &by_token("x", &region_1())),
        about(&app, "DELETE", &token, &second),
        about(&app, "DELETE", "x", &second),
        app.client.post_json(TEMPORARY_KEYS, &for_key(Some("x"), None).to_string()),
        app.client.post_json(TEMPORARY_KEYS, &for_key(Some(&token), Some(json!(1))).to_string()),
    ] {
        assert!([400, 401, 404].contains(&failed.status), "{}", failed.text);
    }
    for read in ["/v3/projects", "/v3/auth/projects", "/v3/auth/domains", "/v3/auth/catalog"] {
        assert_eq!(app.client.with_token(&token).get(read).status, 200);
    }
    assert_eq!(about(&app, "GET", &token, &token).status, 200);

    let written = records(&app.database());
    let actor = |credential: &str| {
        json!({
            "type": "user",
            "user_id": ALICE,
            "user_name": "alice",
            "domain_id": ACME,
            "domain_name": "acme",
            "is_root": false,
            "credential": credential,
        })
    };
    let digest = |token: &str| token::digest(token).to_string();
    let day_after = NOW.as_millis() + DAY_MS;
    let expected = [
        (
            &login,
            "ecs-groupd:token:issue",
            actor("password"),
            "token",
            json!({
                "token": digest(&token),
                "method": "password",
                "project_id": REGION_1,
                "expires_at": day_after,
            }),
        ),
        (
            &again,
            "ecs-groupd:token:issue",
            actor("token"),
            "token",
            json!({
                "token": digest(&second),
                "method": "token",
                "project_id": null,
                "expires_at": day_after,
            }),
        ),
        (
            &asked,
            "ecs-groupd:temporaryKey:issue",
            actor("token"),
            "temporary_key",
            json!({ "access_key": key.access_key, "expires_at": NOW.as_millis() + 1_000_000 }),
        ),
        (&revoked, "ecs-groupd:token:revoke", actor("token"), "token", json!({ "token": digest(&second) })),
    ];
    assert_eq!(written.len(), expected.len(), "{written:#?}");
    for (record, (answer, action, actor, kind, asked)) in written.iter().zip(expected) {
        assert_eq!(record["request_id"], answer.request_id());
        assert_eq!((&record["action"], &record["outcome"]), (&json!(action), &json!("done")));
        assert_eq!((&record["actor"], &record["project_id"]), (&actor, &Value::Null), "{action}");
        assert_eq!(record["resource"], json!({ "type": kind, "id": null, "name": null }));
        assert_eq!(record["asked"], asked, "{action}");
        assert_eq!((&record["door"], &record["source_ip"]), (&json!("v3"), &json!("127.0.0.1")));
        assert_eq!(record["reason"], Value::Null);
    }
    let text = json!(written).to_string();
    for secret in [&token, &second, &key.secret_key, &key.security_token, "alice-password"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
