//! Who gets what of every route, ten thousand tries to reach what is somebody else's, and where no secret stands.
//!
//! A route that is missing in [`TABLE`] fails here: say there what each kind of caller gets of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ecs_groupd::api::{self, Guard};
use ecs_groupd::clock::Clock;
use ecs_groupd::identities;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{
    Answer, Client, NOW, Signer, TestApp, cheap_hash, create_body, log_in, records, token_for, write_secret,
};

const JSON: (&str, &str) = ("content-type", "application/json");
/// Everybody's, where a test does not look for it.
const PASSWORD: &str = "correct horse battery staple";

const GROUPS: &str = "/v1/{project_id}/cloudservers/os-server-groups";
const GROUP: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}";
const TOKENS: &str = "/v3/auth/tokens";
const TEMPORARY_KEYS: &str = "/v3.0/OS-CREDENTIAL/securitytokens";

/// The kinds of callers, in the order of the table's columns.
const CALLERS: [&str; 8] = [
    "nobody",
    "bad signature",
    "expired token",
    "other project",
    "other account",
    "no policy",
    "allowed user",
    "root",
];

/// Not known, in the gateway's words and in IAM's.
const UNKNOWN: &str = "401 APIGW.0301";
const UNKNOWN_IAM: &str = "401 Unauthorized";
/// Not the caller's project, and no right there; with a third word, an attempt that is recorded, and why.
const ELSEWHERE: &str = "400 Ecs.0023";
const ELSEWHERE_CHANGE: &str = "400 Ecs.0023 other_project";
const FORBIDDEN: &str = "403 Pdp.0001";
const FORBIDDEN_CHANGE: &str = "403 Pdp.0001 not_allowed";
/// The token that the request is about is somebody else's: one of the same account, and of another one.
const NOT_OWN: &str = "403 IAM.0002";
const NOT_OWN_CHANGE: &str = "403 IAM.0002 not_ones_own";
const NO_TOKEN: &str = "404 Not Found";
const NOVA_UNKNOWN: &str = "401 unauthorized";
const NOVA_ELSEWHERE: &str = "400 badRequest";
const NOVA_ELSEWHERE_CHANGE: &str = "400 badRequest other_project";
const NOVA_FORBIDDEN: &str = "403 forbidden";
const NOVA_FORBIDDEN_CHANGE: &str = "403 forbidden not_allowed";

const CTS_FORBIDDEN: &str = "403 CTS.0013";
const TRACES: &str = "/v3/{project_id}/traces";
const OPERATIONS: &str = "/v3/{project_id}/operations";

const MEMBERS: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/action";
const ADD: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/add_members";
const REMOVE: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/remove_members";
const LIMITS: &str = "/v1/{project_id}/cloudservers/limits";
const SERVER: &str = "/v1/{project_id}/cloudservers/{server_id}";
const NATIVE_GROUPS: &str = "/v2.1/{project_id}/os-server-groups";
const NATIVE_GROUP: &str = "/v2.1/{project_id}/os-server-groups/{server_group_id}";
const NATIVE_LIMITS: &str = "/v2.1/{project_id}/limits";
const LEGACY_GROUPS: &str = "/v2/{project_id}/os-server-groups";
const LEGACY_GROUP: &str = "/v2/{project_id}/os-server-groups/{server_group_id}";
const LEGACY_LIMITS: &str = "/v2/{project_id}/limits";

/// What each kind of caller gets of each route.
#[rustfmt::skip]
const TABLE: &[(&str, &str, [&str; CALLERS.len()])] = &[
    ("GET", GROUPS, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE, ELSEWHERE, FORBIDDEN, "200", "200"]),
    ("POST", GROUPS, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE_CHANGE, ELSEWHERE_CHANGE, FORBIDDEN_CHANGE, "200", "200"]),
    ("GET", GROUP, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE, ELSEWHERE, FORBIDDEN, "200", "200"]),
    ("DELETE", GROUP, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE_CHANGE, ELSEWHERE_CHANGE, FORBIDDEN_CHANGE, "204", "204"]),
    ("POST", MEMBERS, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE_CHANGE, ELSEWHERE_CHANGE, FORBIDDEN_CHANGE, "200", "200"]),
    ("POST", ADD, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE_CHANGE, ELSEWHERE_CHANGE, FORBIDDEN_CHANGE, "200", "200"]),
    ("POST", REMOVE, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE_CHANGE, ELSEWHERE_CHANGE, FORBIDDEN_CHANGE, "200", "200"]),
    ("GET", LIMITS, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE, ELSEWHERE, FORBIDDEN, "200", "200"]),
    ("GET", SERVER, [UNKNOWN, UNKNOWN, UNKNOWN, ELSEWHERE, ELSEWHERE, FORBIDDEN, "200", "200"]),
    ("GET", "/", ["200"; 8]),
    ("GET", "/v2.1", ["200"; 8]),
    ("GET", NATIVE_GROUPS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("POST", NATIVE_GROUPS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE_CHANGE, NOVA_ELSEWHERE_CHANGE, NOVA_FORBIDDEN_CHANGE, "200", "200"]),
    ("GET", NATIVE_GROUP, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("DELETE", NATIVE_GROUP, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE_CHANGE, NOVA_ELSEWHERE_CHANGE, NOVA_FORBIDDEN_CHANGE, "204", "204"]),
    ("GET", NATIVE_LIMITS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("GET", "/v2", ["200"; 8]),
    ("GET", LEGACY_GROUPS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("POST", LEGACY_GROUPS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE_CHANGE, NOVA_ELSEWHERE_CHANGE, NOVA_FORBIDDEN_CHANGE, "200", "200"]),
    ("GET", LEGACY_GROUP, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("DELETE", LEGACY_GROUP, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE_CHANGE, NOVA_ELSEWHERE_CHANGE, NOVA_FORBIDDEN_CHANGE, "204", "204"]),
    ("GET", LEGACY_LIMITS, [NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_UNKNOWN, NOVA_ELSEWHERE, NOVA_ELSEWHERE, NOVA_FORBIDDEN, "200", "200"]),
    ("GET", "/v3", ["200"; 8]),
    ("POST", TOKENS, ["201"; 8]),
    // The token that these two are about is one of the allowed user's.
    ("GET", TOKENS, [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "200", NO_TOKEN, NOT_OWN, "200", "200"]),
    ("DELETE", TOKENS, [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "204", NO_TOKEN, NOT_OWN_CHANGE, "204", "204"]),
    ("GET", "/v3/projects", [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "200", "200", "200", "200", "200"]),
    ("GET", "/v3/auth/projects", [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "200", "200", "200", "200", "200"]),
    ("GET", "/v3/auth/domains", [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "200", "200", "200", "200", "200"]),
    ("GET", "/v3/auth/catalog", [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "200", "200", "200", "200", "200"]),
    ("POST", TEMPORARY_KEYS, [UNKNOWN_IAM, UNKNOWN, UNKNOWN_IAM, "201", "201", "201", "201", "201"]),
    ("GET", TRACES, [UNKNOWN, UNKNOWN, UNKNOWN, CTS_FORBIDDEN, CTS_FORBIDDEN, CTS_FORBIDDEN, "200", "200"]),
    ("GET", OPERATIONS, [UNKNOWN, UNKNOWN, UNKNOWN, CTS_FORBIDDEN, CTS_FORBIDDEN, CTS_FORBIDDEN, "200", "200"]),
    ("GET", "/openapi.json", ["200"; 8]),
    ("GET", "/explorer", ["200"; 8]),
    ("GET", "/explorer/{file}", ["200"; 8]),
    ("GET", "/livez", ["200"; 8]),
    ("GET", "/readyz", ["200"; 8]),
];

/// What the routes say that the table does not, and the other way round.
fn differences(routes: &BTreeSet<(String, String)>) -> Vec<String> {
    let listed: BTreeSet<_> =
        TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    let missing = routes.difference(&listed).map(|(method, path)| {
        format!("{method} {path} is not in TABLE of tests/it/authz.rs: say there who gets what")
    });
    let gone = listed
        .difference(routes)
        .map(|(method, path)| format!("{method} {path} is in TABLE of tests/it/authz.rs and no route"));
    missing.chain(gone).collect()
}

fn routes() -> BTreeSet<(String, String)> {
    api::routes().iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect()
}

#[test]
fn every_route_stands_once_in_the_table_of_who_gets_what() {
    let differences = differences(&routes());
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    assert_eq!(TABLE.len(), api::routes().len(), "a row stands there twice");
}

#[test]
fn a_route_that_the_table_does_not_have_is_named() {
    let mut routes = routes();
    routes.insert(("PUT".to_owned(), GROUP.to_owned()));
    routes.remove(&("GET".to_owned(), "/livez".to_owned()));
    let differences = differences(&routes);
    assert_eq!(differences.len(), 2, "{differences:?}");
    assert!(differences[0].starts_with(&format!("PUT {GROUP} is not in TABLE")), "{differences:?}");
    assert!(differences[1].starts_with("GET /livez is in TABLE"), "{differences:?}");
}

/// A user of a file of accounts. Its keys come of its name.
fn user_toml(name: &str, hash: &str) -> String {
    format!("[[domain.user]]\nname = '{name}'\n{}", logs_in_with(name, hash))
}

/// The same for the root of an account, which is called as the account.
fn domain_toml(name: &str, hash: &str) -> String {
    format!("[[domain]]\nname = '{name}'\n[domain.root]\n{}", logs_in_with(name, hash))
}

fn logs_in_with(name: &str, hash: &str) -> String {
    let (access, secret) = (access_key(name), secret_key(name));
    format!("password_hash = '{hash}'\naccess_key = [{{ access = '{access}', secret = '{secret}' }}]\n")
}

fn access_key(user: &str) -> String {
    format!("AK{}", user.replace('-', "").to_uppercase())
}

fn secret_key(user: &str) -> String {
    format!("secret-key-of-{user}-000000000000")
}

/// A user group of one, and one grant to it.
fn grant_toml(group: &str, document: &str, scope: &str) -> String {
    format!("[[domain.grant]]\nuser_group = '{group}'\ndocument = '{document}'\nscope = {scope}\n")
}

fn user_group_toml(name: &str, user: &str) -> String {
    format!("[[domain.user_group]]\nname = '{name}'\nusers = ['{user}']\n")
}

/// A project of the account acme, whose groups are asked for.
const HERE: &str = "a0000000000000000000000000000001";
/// Another one of the same account.
const THERE: &str = "a0000000000000000000000000000002";
/// The project of the account globex.
const ABROAD: &str = "b0000000000000000000000000000001";

/// How a caller shows who it is.
#[derive(Clone, Debug)]
enum Proof {
    Nothing,
    Token { token: String, project: &'static str },
    Signature { access_key: String, secret_key: String, named: Option<&'static str>, account: &'static str },
}

impl Proof {
    /// The project that an attempt with it is recorded under.
    fn own_project(&self, path: &str) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Token { project, .. } => Some(project),
            Self::Signature { named, account, .. } => {
                let asked = named.or_else(|| [HERE, ABROAD].into_iter().find(|id| path.contains(id)));
                asked.filter(|id| if *account == "acme" { *id != ABROAD } else { *id == ABROAD })
            }
        }
    }
}

/// A service with two accounts. For each action that a policy can give there is a user who may do just that, in all
/// projects of acme.
struct World {
    app: TestApp,
    conn: Connection,
    /// Of the root of acme; it was good once.
    expired_token: String,
    /// To hand out names.
    made: std::cell::Cell<usize>,
    /// The ECS that the newest request is about.
    server: std::cell::RefCell<String>,
}

/// The date of signatures: exactly a token's lifetime after [`NOW`].
const LATER: &str = "20260103T030405Z";
const DAY_MS: u64 = 86_400_000;

impl World {
    fn start() -> Self {
        let hash = cheap_hash(PASSWORD);
        let mut text = domain_toml("acme", &hash);
        for (id, name) in [(HERE, "here"), (THERE, "there")] {
            writeln!(text, "[[domain.project]]\nname = '{name}'\nid = '{id}'").unwrap();
        }
        text += &user_toml("newcomer", &hash);
        for (user, action) in users_by_action() {
            let group = format!("{user}-group");
            let document = format!(
                r#"{{"Version":"5.0","Statement":[{{"Effect":"Allow","Action":["{action}"],"Resource":["*"]}}]}}"#
            );
            text += &user_toml(&user, &hash);
            text += &user_group_toml(&group, &user);
            text += &grant_toml(&group, &document, "'all_projects'");
        }
        text += &domain_toml("globex", &hash);
        writeln!(text, "[[domain.project]]\nname = 'abroad'\nid = '{ABROAD}'").unwrap();
        text += &user_toml("stranger", &hash);
        text += &user_group_toml("strangers", "stranger");
        text += "[[domain.grant]]\nuser_group = 'strangers'\npolicies = ['Tenant Administrator']\n\
                 scope = 'all_projects'\n";
        let app = TestApp::start_with_identities(&text, |settings| {
            settings.access.lock_after_failures = 0;
            settings.audit.refusals_per_minute = 1_000_000;
        });
        let expired_token = token_for(&app.client, "acme", "acme", PASSWORD, "here");
        let path = GROUPS.replace("{project_id}", HERE);
        assert_eq!(app.client.with_token(&expired_token).get(&path).status, 200, "it is good now");
        app.clock.set(NOW.plus_millis(DAY_MS));
        let conn = Connection::open_with_flags(app.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        Self { app, conn, expired_token, made: 0.into(), server: String::new().into() }
    }

    fn token(&self, user: &str, project: &'static str) -> Proof {
        let (domain, name) = match project {
            HERE => ("acme", "here"),
            THERE => ("acme", "there"),
            _ => ("globex", "abroad"),
        };
        Proof::Token { token: token_for(&self.app.client, domain, user, PASSWORD, name), project }
    }

    /// Every way in which a caller of this kind can show who it is, on a route whose allowed user is `user`.
    fn proofs(&self, kind: &str, user: &str) -> Vec<Proof> {
        let signature = |user: &str, named, account| Proof::Signature {
            access_key: access_key(user),
            secret_key: secret_key(user),
            named,
            account,
        };
        match kind {
            "nobody" => vec![Proof::Nothing],
            "bad signature" => [Some(HERE), None]
                .map(|named| Proof::Signature {
                    access_key: access_key("acme"),
                    secret_key: secret_key("newcomer"),
                    named,
                    account: "acme",
                })
                .into(),
            "expired token" => vec![Proof::Token { token: self.expired_token.clone(), project: HERE }],
            // It may do in that other project what it asks for in this one.
            "other project" => vec![self.token(user, THERE), signature(user, Some(THERE), "acme")],
            "other account" => vec![
                self.token("stranger", ABROAD),
                self.token("globex", ABROAD),
                signature("stranger", Some(ABROAD), "globex"),
                signature("stranger", Some(HERE), "globex"),
                signature("globex", None, "globex"),
            ],
            "no policy" | "allowed user" | "root" => {
                let user = match kind {
                    "no policy" => "newcomer",
                    "root" => "acme",
                    _ => user,
                };
                let named = [Some(HERE), None].map(|named| signature(user, named, "acme"));
                [vec![self.token(user, HERE)], named.into()].concat()
            }
            _ => panic!("nobody knows what {kind} shows"),
        }
    }

    /// The path with its parameters filled in; a group is a new one of the project that is asked for.
    fn path(&self, pattern: &str) -> String {
        let mut path = pattern.replace("{project_id}", HERE).replace("{file}", "explorer.js");
        if path.contains("{server_group_id}") || path.contains("{server_id}") {
            let group = self.create_group();
            let server = format!("00000000-0000-4000-8000-{:012}", self.made.get());
            // Of some routes a member is asked for, and others make one.
            if pattern == REMOVE || pattern == SERVER {
                self.add_member(&group, &server);
            }
            path = path.replace("{server_group_id}", &group).replace("{server_id}", &server);
            self.server.replace(server);
        }
        assert!(!path.contains('{'), "{path} has a parameter that this test does not know");
        path
    }

    fn create_group(&self) -> String {
        self.made.set(self.made.get() + 1);
        let (path, body) =
            (GROUPS.replace("{project_id}", HERE), create_body(&format!("g{}", self.made.get())));
        let root = Signer { access_key: &access_key("acme"), secret_key: &secret_key("acme"), date: LATER };
        let answer = self.app.client.send_signed(&root, "POST", &path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["server_group"]["id"].as_str().unwrap().to_owned()
    }

    fn add_member(&self, group: &str, server: &str) {
        let path = MEMBERS.replace("{project_id}", HERE).replace("{server_group_id}", group);
        let body = json!({ "add_member": { "instance_uuid": server } }).to_string();
        let root = Signer { access_key: &access_key("acme"), secret_key: &secret_key("acme"), date: LATER };
        let answer = self.app.client.send_signed(&root, "POST", &path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// A body that the route takes, if it takes one; after the path, since that says which ECS it is about.
    fn body(&self, method: &str, pattern: &str) -> String {
        match (method, pattern) {
            ("POST", GROUPS | NATIVE_GROUPS | LEGACY_GROUPS) => create_body("web"),
            ("POST", MEMBERS) => {
                json!({ "add_member": { "instance_uuid": *self.server.borrow() } }).to_string()
            }
            ("POST", ADD | REMOVE) => json!({ "server_ids": [*self.server.borrow()] }).to_string(),
            ("POST", TOKENS) => {
                let user = json!({ "name": "newcomer", "password": PASSWORD, "domain": { "name": "acme" } });
                let identity = json!({ "methods": ["password"], "password": { "user": user } });
                json!({ "auth": { "identity": identity } }).to_string()
            }
            ("POST", TEMPORARY_KEYS) => {
                json!({ "auth": { "identity": { "methods": ["token"] } } }).to_string()
            }
            ("POST" | "PUT" | "PATCH", _) => panic!("say what body {method} {pattern} takes"),
            _ => String::new(),
        }
    }

    fn send(&self, method: &str, path: &str, proof: &Proof, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let client = &self.app.client;
        match proof {
            Proof::Nothing => client.send(method, path, headers, body),
            Proof::Token { token, .. } => client.with_token(token).send(method, path, headers, body),
            Proof::Signature { access_key, secret_key, named, .. } => {
                let signer = Signer { access_key, secret_key, date: LATER };
                let named = named.map(|id| ("x-project-id", id));
                let headers: Vec<_> = headers.iter().copied().chain(named).collect();
                client.send_signed(&signer, method, path, &headers, body)
            }
        }
    }

    /// All that a denied caller could have changed. (Expired tokens are forgotten now and then.)
    fn held(&self) -> Vec<String> {
        let now = self.app.clock.now().as_millis();
        let queries = [
            "select * from server_group".to_owned(),
            "select * from member".to_owned(),
            format!("select * from token where expires_at > {now}"),
            format!("select * from temporary_key where expires_at > {now}"),
        ];
        let mut held = Vec::new();
        for query in queries {
            let mut select = self.conn.prepare(&query).unwrap();
            let columns = select.column_count();
            let mut rows = select.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let row: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
                held.push(format!("{row:?}"));
            }
        }
        held
    }

    /// The records that a request left.
    fn records_of(&self, answer: &Answer) -> Vec<Value> {
        let mut select = self
            .conn
            .prepare("select bytes from audit_record where instr(bytes, cast(? as blob)) > 0 order by seq")
            .unwrap();
        let rows = select.query_map([answer.request_id()], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|bytes| serde_json::from_slice(&bytes.unwrap()).unwrap()).collect()
    }

    /// What is wrong with one request, if anything.
    fn visit(
        &self,
        (method, pattern): (&str, &str),
        spelling: Spelling,
        proof: &Proof,
        user: &str,
        expected: &str,
    ) -> Option<String> {
        let path = self.path(pattern);
        let (method_sent, path_sent) = match spelling {
            Spelling::Plain => (method, path.clone()),
            Spelling::Slash if path == "/" => (method, path.clone()),
            Spelling::Slash => (method, format!("{path}/")),
            Spelling::Head => ("HEAD", path.clone()),
        };
        let body = self.body(method, pattern);
        let subject = (pattern == TOKENS && method != "POST").then(|| match self.token(user, HERE) {
            Proof::Token { token, .. } => token,
            other => panic!("{other:?}"),
        });
        let mut headers: Vec<_> =
            subject.as_deref().map(|token| ("x-subject-token", token)).into_iter().collect();
        if !body.is_empty() {
            headers.push(JSON);
        }
        let before = self.held();
        let answer = self.send(method_sent, &path_sent, proof, &headers, body.as_bytes());

        let (expected, reason) = match expected.splitn(3, ' ').collect::<Vec<_>>()[..] {
            [status, code, reason] if reason.contains('_') => (format!("{status} {code}"), Some(reason)),
            _ => (expected.to_owned(), None),
        };
        let said = match spelling {
            // It has no body that says more.
            Spelling::Head if answer.text.is_empty() => answer.status.to_string(),
            _ => said(&answer),
        };
        let is_it = if spelling == Spelling::Head { expected.starts_with(&said) } else { said == expected };
        if !is_it {
            return Some(format!("is answered with {said}, not {expected}: {}", answer.text));
        }
        let is_denied = answer.status >= 400;
        if is_denied && self.held() != before {
            return Some("is denied, and something changed".to_owned());
        }
        let found = self.records_of(&answer);
        let is_change = !matches!(method_sent, "GET" | "HEAD");
        let expected = match (is_denied, reason, is_change) {
            (true, Some(reason), _) => json!([["denied", reason, proof.own_project(&path)]]),
            (false, _, true) => json!([["done", null]]),
            _ => json!([]),
        };
        let summary = found.iter().map(|record| match record["outcome"].as_str() {
            Some("done") => json!(["done", record["reason"]["name"]]),
            _ => json!([record["outcome"], record["reason"]["name"], record["project_id"]]),
        });
        let summary = Value::from(summary.collect::<Vec<_>>());
        (summary != expected).then(|| format!("is recorded as {summary}, not as {expected}"))
    }
}

/// How a request is written: every way is a route of its own to the framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Plain,
    Slash,
    Head,
}

/// The user who may do just what a route needs; any of them where a route needs nothing.
fn user_for(guard: Guard) -> String {
    match guard {
        Guard::Permitted(action) | Guard::PermittedByBody(&[action, ..]) => {
            let name: String = action.name().split(':').skip(1).collect();
            name.to_lowercase()
        }
        Guard::PermittedByBody([]) => panic!("a route that nobody may call"),
        Guard::Open | Guard::Known => users_by_action().keys().next().unwrap().clone(),
    }
}

fn users_by_action() -> BTreeMap<String, &'static str> {
    let actions = api::routes().into_iter().filter_map(|route| match route.guard {
        Guard::Permitted(action) | Guard::PermittedByBody(&[action, ..]) => {
            Some((user_for(route.guard), action.name()))
        }
        Guard::PermittedByBody([]) | Guard::Open | Guard::Known => None,
    });
    actions.collect()
}

/// The status, and what the error calls itself.
fn said(answer: &Answer) -> String {
    if answer.status < 400 {
        return answer.status.to_string();
    }
    let body = answer.json();
    let mut codes = ["/error_code", "/error/title", "/error/code"].into_iter();
    let code = codes.find_map(|pointer| body.pointer(pointer)?.as_str());
    // Nova's fault has its name as its only key.
    let fault = body.as_object().and_then(|body| body.keys().next().map(String::as_str));
    format!("{} {}", answer.status, code.or(fault).unwrap_or("without a code"))
}

#[test]
fn every_kind_of_caller_gets_of_every_route_what_the_table_says_and_leaves_the_record_it_says() {
    let world = World::start();
    let mut wrong = Vec::new();
    for route in api::routes() {
        let method = route.method.as_str();
        let Some((_, path, row)) = TABLE.iter().find(|(m, p, _)| *m == method && *p == route.path) else {
            continue;
        };
        let user = user_for(route.guard);
        for (kind, expected) in CALLERS.into_iter().zip(row) {
            for proof in world.proofs(kind, &user) {
                let head = (method == "GET").then_some(Spelling::Head);
                for spelling in [Spelling::Plain, Spelling::Slash].into_iter().chain(head) {
                    let found = world.visit((method, path), spelling, &proof, &user, expected);
                    wrong.extend(
                        found.map(|what| {
                            format!("{method} {path} ({spelling:?}) by {kind}, {proof:?}, {what}")
                        }),
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let denied = records(&world.app.database()).into_iter().filter(|record| record["outcome"] == "denied");
    // Two spellings each: four changes that are denied, to two or five callers of some kinds.
    assert!(denied.count() >= 30, "the test does not look at what it should");
}

#[test]
fn a_policy_for_one_action_opens_no_route_of_another() {
    let world = World::start();
    let users: Vec<_> =
        users_by_action().into_iter().map(|(user, action)| (world.token(&user, HERE), action)).collect();
    for route in api::routes() {
        let (Guard::Permitted(needed) | Guard::PermittedByBody(&[needed, ..])) = route.guard else {
            continue;
        };
        let (method, path) = (route.method.as_str(), world.path(route.path));
        let body = world.body(method, route.path);
        for (token, granted) in users.iter().filter(|(_, granted)| *granted != needed.name()) {
            let answer = world.send(method, &path, token, &[JSON], body.as_bytes());
            let forbidden = match path.split('/').nth(1) {
                Some("v1") => FORBIDDEN,
                Some("v3") => CTS_FORBIDDEN,
                _ => NOVA_FORBIDDEN,
            };
            assert_eq!(said(&answer), forbidden, "{method} {path} with {granted}");
        }
    }
}

#[test]
fn a_token_in_a_body_opens_no_more_than_one_in_a_header() {
    let world = World::start();
    let wrong = "0".repeat(64);
    let before = world.held();
    for token in [&world.expired_token, &wrong, ""] {
        let identity = json!({ "methods": ["token"], "token": { "id": token } });
        let body = json!({ "auth": { "identity": identity } }).to_string();
        for path in [TOKENS, TEMPORARY_KEYS] {
            for proof in [Proof::Nothing, world.proofs("root", "").remove(1)] {
                let answer = world.send("POST", path, &proof, &[JSON], body.as_bytes());
                assert_eq!(said(&answer), UNKNOWN_IAM, "{path} {token:?} {proof:?}");
            }
        }
    }
    assert_eq!(world.held().len(), before.len() + 6, "only this test's own logins are there");
}

/// The actions on groups, and the older, wider name that a policy may use for each ("Permissions and Supported
/// Actions"); written out again, so that the oracle below is one.
const ACTIONS: [(&str, &str); 4] = [
    ("ecs:cloudServers:createServerGroup", "ecs:cloudServers:create"),
    ("ecs:cloudServers:listServerGroups", "ecs:cloudServers:list"),
    ("ecs:cloudServers:showServerGroup", "ecs:cloudServers:get"),
    ("ecs:cloudServers:deleteServerGroup", "ecs:cloudServers:delete"),
];
const CREATE: usize = 0;
const LIST: usize = 1;
const SHOW: usize = 2;
const DELETE: usize = 3;

const ACCOUNTS: usize = 3;
const PROJECTS_OF_ACCOUNT: usize = 3;
const PROJECTS: usize = ACCOUNTS * PROJECTS_OF_ACCOUNT;
/// One of them is its root.
const USERS_OF_ACCOUNT: usize = 6;
const USERS: usize = ACCOUNTS * USERS_OF_ACCOUNT;
/// Groups that are in each project from the first to the last.
const STANDING: usize = 3;
/// Tries that must not succeed.
const TRIES: usize = 10_000;
const THREADS: usize = 8;
/// The date of signatures: [`NOW`].
const TODAY: &str = "20260102T030405Z";

/// One statement in one grant: who may, or may not, do what where.
struct Granted {
    is_allow: bool,
    actions: Vec<usize>,
    /// A project, or all of the account's.
    project: Option<usize>,
}

/// Users by number, account by account; the first of each is the root. Projects the same.
struct Oracle {
    granted: Vec<Vec<Granted>>,
}

impl Oracle {
    fn random(random: &mut StdRng) -> Self {
        let mut granted = Vec::new();
        for user in 0..USERS {
            let first = user / USERS_OF_ACCOUNT * PROJECTS_OF_ACCOUNT;
            granted.push(match user % USERS_OF_ACCOUNT {
                0 | 1 => Vec::new(),
                // Writes in A, reads in B, and does nothing in C.
                2 => [(first, vec![CREATE, DELETE]), (first + 1, vec![LIST, SHOW])]
                    .map(|(project, actions)| Granted { is_allow: true, actions, project: Some(project) })
                    .into(),
                _ => (0..random.random_range(1..5)).map(|_| Self::grant(random, first)).collect(),
            });
        }
        Self { granted }
    }

    fn grant(random: &mut StdRng, first: usize) -> Granted {
        let project = random.random_bool(0.7).then(|| first + random.random_range(0..PROJECTS_OF_ACCOUNT));
        let mut actions: Vec<_> = (0..ACTIONS.len()).filter(|_| random.random_bool(0.5)).collect();
        if actions.is_empty() {
            actions.push(random.random_range(0..ACTIONS.len()));
        }
        Granted { is_allow: random.random_bool(0.8), actions, project }
    }

    /// Whether a user may do it there: the root of the account everything; others what is allowed and not denied.
    fn may(&self, user: usize, project: usize, action: usize) -> bool {
        let is = |is_allow: bool| {
            self.granted[user].iter().any(|granted| {
                granted.is_allow == is_allow
                    && granted.actions.contains(&action)
                    && granted.project.is_none_or(|id| id == project)
            })
        };
        account_of(user) == account_of_project(project) && (is_root(user) || is(true) && !is(false))
    }

    fn to_toml(&self, random: &mut StdRng) -> String {
        let hash = cheap_hash(PASSWORD);
        let mut text = String::new();
        for account in 0..ACCOUNTS {
            let users = account * USERS_OF_ACCOUNT..(account + 1) * USERS_OF_ACCOUNT;
            text += &domain_toml(&user_name(users.start), &hash);
            for project in account * PROJECTS_OF_ACCOUNT..(account + 1) * PROJECTS_OF_ACCOUNT {
                let (name, id) = (project_name(project), project_id(project));
                writeln!(text, "[[domain.project]]\nname = '{name}'\nid = '{id}'").unwrap();
            }
            for user in users.skip(1) {
                let (name, group) = (user_name(user), format!("group-{user}"));
                text += &user_toml(&name, &hash);
                text += &user_group_toml(&group, &name);
                for granted in &self.granted[user] {
                    let names = granted.actions.iter().map(|action| {
                        let (name, alias) = ACTIONS[*action];
                        if random.random_bool(0.5) { name } else { alias }
                    });
                    let statement = json!({
                        "Effect": if granted.is_allow { "Allow" } else { "Deny" },
                        "Action": names.collect::<Vec<_>>(),
                    });
                    let version = if random.random_bool(0.5) { "1.1" } else { "5.0" };
                    let document = json!({ "Version": version, "Statement": [statement] }).to_string();
                    let scope = match granted.project {
                        Some(project) => format!("{{ project = '{}' }}", project_name(project)),
                        None => "'all_projects'".to_owned(),
                    };
                    text += &grant_toml(&group, &document, &scope);
                }
            }
        }
        text
    }
}

const fn is_root(user: usize) -> bool {
    user.is_multiple_of(USERS_OF_ACCOUNT)
}

const fn account_of(user: usize) -> usize {
    user / USERS_OF_ACCOUNT
}

const fn account_of_project(project: usize) -> usize {
    project / PROJECTS_OF_ACCOUNT
}

fn user_name(user: usize) -> String {
    format!("user-{user:02}")
}

fn account_name(account: usize) -> String {
    user_name(account * USERS_OF_ACCOUNT)
}

fn project_name(project: usize) -> String {
    format!("project-{project}")
}

fn project_id(project: usize) -> String {
    format!("{:032x}", 0xace0_0000_u64 + project as u64)
}

/// What the names of a project's groups begin with, so that an answer tells whose groups it shows.
fn tag(project: usize) -> String {
    format!("of-{project}-")
}

/// What a user logs in with.
struct Credentials {
    name: String,
    access_key: String,
    secret_key: String,
    /// A token for each project of the account, and last one for the account itself.
    tokens: Vec<String>,
    temporary: TemporaryKey,
}

struct TemporaryKey {
    access: String,
    secret: String,
    security_token: String,
}

impl Credentials {
    fn of(client: &Client, user: usize) -> Self {
        let (domain, name) = (account_name(account_of(user)), user_name(user));
        let first = account_of(user) * PROJECTS_OF_ACCOUNT;
        let projects = (first..first + PROJECTS_OF_ACCOUNT).map(project_name);
        let mut tokens: Vec<_> =
            projects.map(|project| token_for(client, &domain, &name, PASSWORD, &project)).collect();
        let answer = log_in(client, &domain, &name, PASSWORD, &json!({ "domain": { "name": domain } }));
        tokens.push(answer.header("x-subject-token").unwrap().to_owned());
        let temporary = TemporaryKey::of(client, &tokens[0]);
        let (access_key, secret_key) = (access_key(&name), secret_key(&name));
        Self { name, access_key, secret_key, tokens, temporary }
    }
}

impl TemporaryKey {
    fn of(client: &Client, token: &str) -> Self {
        let body = json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": token } } } });
        let answer = client.post_json(TEMPORARY_KEYS, &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text);
        let text = |key: &str| answer.json()["credential"][key].as_str().unwrap().to_owned();
        Self { access: text("access"), secret: text("secret"), security_token: text("securitytoken") }
    }
}

/// Who a request is by, and what for, as far as the oracle can tell.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nobody,
    /// A user, and the project that it speaks for; `None` for its account.
    User(usize, Option<usize>),
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tried {
    Allowed,
    /// Somebody known reached for what is not its own, in vain.
    Denied,
    Unknown,
}

impl Tried {
    fn of(shown: Shown, is_allowed: bool) -> Self {
        match shown {
            Shown::Nobody => Self::Unknown,
            Shown::User(..) if is_allowed => Self::Allowed,
            Shown::User(..) => Self::Denied,
        }
    }
}

struct Try<'arena> {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// With whose key it is signed, and for which path.
    signed: Option<(Signer<'arena>, String)>,
}

impl Try<'_> {
    fn send(&self, client: &Client) -> Answer {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let target =
            if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) };
        let Some((key, signed_path)) = &self.signed else {
            return client.send(self.method, &target, &headers, self.body.as_bytes());
        };
        let signed = key.sign(self.method, signed_path, &self.query, &headers, self.body.as_bytes());
        let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.send(self.method, &target, &headers, self.body.as_bytes())
    }
}

/// Which project a signed request is for: the one that `X-Project-Id` names, else the URL's.
fn name_a_project(random: &mut StdRng, on: Option<usize>, this: &mut Try<'_>) -> Option<usize> {
    match random.random_range(0..6) {
        0 => {
            this.headers.push(("x-project-id", "no-project".to_owned()));
            None
        }
        1 | 2 => {
            let project = random.random_range(0..PROJECTS);
            this.headers.push(("x-project-id", project_id(project)));
            Some(project)
        }
        _ => on,
    }
}

/// What all threads share.
struct Arena {
    oracle: Oracle,
    users: Vec<Credentials>,
    /// The groups that stay, by project.
    standing: Vec<Vec<String>>,
    revoked_token: String,
    /// Groups that were made and not deleted again, by project.
    made: Mutex<Vec<usize>>,
    /// Attempts to change something that were denied to somebody known.
    denied: Mutex<usize>,
    /// Every error's text by what was asked and its status, with the asked id left out: an answer that is different
    /// for a group that exists elsewhere would tell that it does.
    errors: Mutex<BTreeMap<(&'static str, u16), BTreeSet<String>>>,
}

impl Arena {
    /// Random credentials of a user for a project's path, and who they show it to be.
    fn show<'arena>(
        &'arena self,
        random: &mut StdRng,
        user: usize,
        on: Option<usize>,
        this: &mut Try<'arena>,
    ) -> Shown {
        let first = account_of(user) * PROJECTS_OF_ACCOUNT;
        let other = (user + random.random_range(1..USERS)) % USERS;
        let (mine, others) = (&self.users[user], &self.users[other]);
        let named = name_a_project(random, on, this);
        let of_account = |project: Option<usize>| {
            Shown::User(
                user,
                project.filter(|project| (first..first + PROJECTS_OF_ACCOUNT).contains(project)),
            )
        };
        let key = &mine.temporary;
        let signer = |access_key, secret_key| Signer { access_key, secret_key, date: TODAY };
        let path = this.path.clone();
        match random.random_range(0..20) {
            0 => Shown::Nobody,
            1 => {
                let wrong = format!("{}0", &mine.tokens[0][..63]);
                let wrong = if wrong == mine.tokens[0] { self.revoked_token.clone() } else { wrong };
                this.headers.push(("x-auth-token", wrong));
                Shown::Nobody
            }
            2 => {
                this.headers.push(("x-auth-token", self.revoked_token.clone()));
                Shown::Nobody
            }
            // A good token beside a signature that is none.
            3 => {
                this.headers.push(("x-auth-token", mine.tokens[0].clone()));
                this.signed = Some((signer(&mine.access_key, &others.secret_key), path));
                Shown::Nobody
            }
            // A signature for another path, as if it was overheard.
            4 => {
                this.signed = Some((signer(&mine.access_key, &mine.secret_key), format!("{path}x")));
                Shown::Nobody
            }
            // A temporary key without the token that belongs to it, or with somebody else's.
            5 => {
                if random.random() {
                    this.headers.push(("x-security-token", others.temporary.security_token.clone()));
                }
                this.signed = Some((signer(&key.access, &key.secret), path));
                Shown::Nobody
            }
            6..=8 => {
                this.headers.push(("x-security-token", key.security_token.clone()));
                this.signed = Some((signer(&key.access, &key.secret), path));
                of_account(named)
            }
            9..=13 => {
                this.signed = Some((signer(&mine.access_key, &mine.secret_key), path));
                of_account(named)
            }
            _ => {
                let at = match on {
                    Some(on) if account_of_project(on) == account_of(user) && random.random() => on - first,
                    _ => random.random_range(0..mine.tokens.len()),
                };
                this.headers.push(("x-auth-token", mine.tokens[at].clone()));
                Shown::User(user, (at < PROJECTS_OF_ACCOUNT).then_some(first + at))
            }
        }
    }

    /// One random request for a project's groups. Returns what became of it.
    fn try_groups(&self, client: &Client, random: &mut StdRng) -> Tried {
        let user = random.random_range(0..USERS);
        let project = if random.random_bool(0.25) {
            account_of(user) * PROJECTS_OF_ACCOUNT + random.random_range(0..PROJECTS_OF_ACCOUNT)
        } else {
            random.random_range(0..PROJECTS)
        };
        let whose = random.random_range(0..PROJECTS);
        let action = random.random_range(0..ACTIONS.len());
        let is_odd = random.random_bool(0.05);
        let id = if is_odd { project_id(project).to_uppercase() } else { project_id(project) };
        let mut this = Try {
            method: ["POST", "GET", "GET", "DELETE"][action],
            path: format!("/v1/{id}/cloudservers/os-server-groups"),
            query: String::new(),
            headers: Vec::new(),
            body: String::new(),
            signed: None,
        };
        let mut asked = match random.random_range(0..4) {
            0 => Uuid::from_u128(random.random()).to_string(),
            1 => self.standing[project][random.random_range(0..STANDING)].clone(),
            _ => self.standing[whose][random.random_range(0..STANDING)].clone(),
        };
        let target = (!is_odd).then_some(project);
        let here = || self.standing[project].contains(&asked);
        match action {
            CREATE => {
                let name = format!("{}made", tag(project));
                let group =
                    json!({ "name": name, "policies": ["anti-affinity"], "project_id": project_id(whose) });
                this.body = json!({ "project_id": project_id(whose), "server_group": group }).to_string();
                this.headers.push(("content-type", "application/json".to_owned()));
            }
            LIST if random.random() => this.query = format!("limit=1000&marker={asked}"),
            LIST => this.query = format!("project_id={}", project_id(whose)),
            _ => write!(this.path, "/{asked}").unwrap(),
        }
        if action == LIST && random.random_bool(0.2) || action == SHOW && random.random_bool(0.2) {
            this.method = "HEAD";
        }
        let shown = self.show(random, user, target, &mut this);
        let may = match shown {
            Shown::User(user, Some(own)) => Some(own) == target && self.oracle.may(user, own, action),
            _ => false,
        };
        if may && action == DELETE && here() {
            // A group of its own to delete, so that the standing ones stay.
            asked = self.make(client, project);
            this.path = format!("/v1/{id}/cloudservers/os-server-groups/{asked}");
            if let Some((_, path)) = &mut this.signed {
                path.clone_from(&this.path);
            }
            let answer = this.send(client);
            assert_eq!(answer.status, 204, "{shown:?} {} {}: {}", this.method, this.path, answer.text);
            return Tried::Allowed;
        }
        let is_there = matches!(action, CREATE | LIST) || here();
        let expected = match shown {
            Shown::Nobody => 401,
            Shown::User(_, own) if own.is_none() || own != target => 400,
            _ if !may => 403,
            _ if !is_there => 404,
            _ if action == DELETE => 204,
            Shown::User(..) => 200,
        };
        let answer = this.send(client);
        let what = format!("{shown:?} {} {}?{} on project {project}", this.method, this.path, this.query);
        assert!(may || answer.status >= 400, "{what} succeeded: {}", answer.text);
        assert_eq!(answer.status, expected, "{what}: {}", answer.text);
        self.check_leaks(&answer, project, &asked, &what);
        if let (CREATE, 200) = (action, answer.status) {
            self.made.lock().unwrap()[project] += 1;
        }
        if matches!(answer.status, 400 | 403) && matches!(action, CREATE | DELETE) {
            *self.denied.lock().unwrap() += 1;
        }
        if matches!(answer.status, 400 | 403 | 404) && this.method != "HEAD" {
            let text = answer.text.replace(&asked, "ID");
            self.errors.lock().unwrap().entry((ACTIONS[action].0, answer.status)).or_default().insert(text);
        }
        Tried::of(shown, may && is_there)
    }

    /// Makes a group as the root of the project's account.
    fn make(&self, client: &Client, project: usize) -> String {
        let root = &self.users[account_of_project(project) * USERS_OF_ACCOUNT];
        make_group(client, &root.tokens[project % PROJECTS_OF_ACCOUNT], project, "passing")
    }

    /// An answer about one project shows nothing of another; an error shows nothing at all.
    fn check_leaks(&self, answer: &Answer, project: usize, asked: &str, what: &str) {
        let text = format!("{} {:?}", answer.text, answer.headers);
        for other in (0..PROJECTS).filter(|other| *other != project || answer.status >= 400) {
            assert!(!text.contains(&tag(other)), "{what} names a group of project {other}: {text}");
            for id in self.standing[other].iter().filter(|id| *id != asked) {
                assert!(!text.contains(id), "{what} shows group {id} of project {other}: {text}");
            }
        }
        if answer.status >= 400 {
            let is_id = |window: &str| window.contains('-') && Uuid::try_parse(window).is_ok();
            let windows = (0..text.len().saturating_sub(35)).filter_map(|at| text.get(at..at + 36));
            let mut ids = windows.filter(|window| is_id(window) && *window != asked);
            assert_eq!(ids.next(), None, "{what} shows an id: {text}");
        }
    }

    /// One random request to IAM. Returns what became of it.
    fn try_iam(&self, client: &Client, random: &mut StdRng) -> Tried {
        let mut this = Try {
            method: "GET",
            path: TOKENS.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: String::new(),
            signed: None,
        };
        let (user, subject) = (random.random_range(0..USERS), random.random_range(0..USERS));
        let at = random.random_range(0..self.users[subject].tokens.len());
        let subject_token = ("x-subject-token", self.users[subject].tokens[at].clone());
        match random.random_range(0..4) {
            // Somebody's token, to look at or to take back.
            0 | 1 => {
                this.headers.push(subject_token);
                let shown = self.show(random, user, None, &mut this);
                let expected = match shown {
                    Shown::Nobody => 401,
                    Shown::User(user, _) if account_of(user) != account_of(subject) => 404,
                    Shown::User(user, _) if user != subject && !is_root(user) => 403,
                    Shown::User(..) => 200,
                };
                // Those that may take it back would spoil the other tries.
                if expected != 200 && random.random() {
                    this.method = "DELETE";
                }
                let answer = this.send(client);
                assert_eq!(
                    answer.status, expected,
                    "{shown:?} {} token of {subject}: {}",
                    this.method, answer.text
                );
                if expected != 200 {
                    assert!(answer.header("x-subject-token").is_none(), "{:?}", answer.headers);
                    assert!(!answer.text.contains(&self.users[subject].name), "{}", answer.text);
                }
                if (this.method, expected) == ("DELETE", 403) {
                    *self.denied.lock().unwrap() += 1;
                }
                Tried::of(shown, expected == 200)
            }
            // A token for a project, out of a token for another one.
            2 => {
                let project = random.random_range(0..PROJECTS);
                let identity = json!({ "methods": ["token"], "token": { "id": subject_token.1 } });
                let scope = json!({ "project": { "id": project_id(project) } });
                let body = json!({ "auth": { "identity": identity, "scope": scope } }).to_string();
                let answer = client.post_json(TOKENS, &body);
                let may = account_of(subject) == account_of_project(project);
                let expected = if may { 201 } else { 401 };
                assert_eq!(answer.status, expected, "{subject} logs in to {project}: {}", answer.text);
                Tried::of(Shown::User(subject, None), may)
            }
            _ => {
                let paths = ["/v3/projects", "/v3/auth/projects", "/v3/auth/domains", "/v3/auth/catalog"];
                paths[random.random_range(0..paths.len())].clone_into(&mut this.path);
                let shown = self.show(random, user, None, &mut this);
                let answer = this.send(client);
                let account = match shown {
                    Shown::Nobody => None,
                    Shown::User(user, _) => Some(account_of(user)),
                };
                let expected = if account.is_some() { 200 } else { 401 };
                assert_eq!(answer.status, expected, "{shown:?} {}: {}", this.path, answer.text);
                for project in (0..PROJECTS).filter(|project| Some(account_of_project(*project)) != account) {
                    let (name, id) = (project_name(project), project_id(project));
                    assert!(
                        !answer.text.contains(&name) && !answer.text.contains(&id),
                        "{shown:?}: {}",
                        answer.text
                    );
                }
                for other in (0..ACCOUNTS).filter(|other| Some(*other) != account) {
                    assert!(!answer.text.contains(&account_name(other)), "{shown:?}: {}", answer.text);
                }
                Tried::of(shown, true)
            }
        }
    }
}

fn make_group(client: &Client, token: &str, project: usize, name: &str) -> String {
    let path = GROUPS.replace("{project_id}", &project_id(project));
    let answer = client.with_token(token).post_json(&path, &create_body(&format!("{}{name}", tag(project))));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["server_group"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn ten_thousand_random_tries_without_the_right_reach_nothing_of_anybody_else() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let oracle = Oracle::random(&mut random);
    let app = TestApp::start_with_identities(&oracle.to_toml(&mut random), |settings| {
        settings.access.lock_after_failures = 0;
        settings.audit.refusals_per_minute = 1_000_000;
    });
    let users: Vec<_> = (0..USERS).map(|user| Credentials::of(&app.client, user)).collect();
    let standing = (0..PROJECTS).map(|project| {
        let root = &users[account_of_project(project) * USERS_OF_ACCOUNT];
        let token = &root.tokens[project % PROJECTS_OF_ACCOUNT];
        (0..STANDING).map(|_| make_group(&app.client, token, project, "standing")).collect()
    });
    let standing = standing.collect();
    let revoked_token =
        token_for(&app.client, &account_name(0), &account_name(0), PASSWORD, &project_name(0));
    let revoke = [("x-subject-token", revoked_token.as_str())];
    let answer = app.client.with_token(&revoked_token).send("DELETE", TOKENS, &revoke, b"");
    assert_eq!(answer.status, 204, "{}", answer.text);
    let arena = Arena {
        oracle,
        users,
        standing,
        revoked_token,
        made: Mutex::new(vec![0; PROJECTS]),
        denied: Mutex::new(0),
        errors: Mutex::default(),
    };

    let counts = Mutex::new(BTreeMap::<Tried, usize>::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (arena, counts, seed, client) = (&arena, &counts, random.random(), Client::new(app.api));
            scope.spawn(move || {
                let (mut random, mut denied) = (StdRng::seed_from_u64(seed), 0);
                while denied < TRIES.div_ceil(THREADS) {
                    let tried = match random.random_range(0..10) {
                        0 => arena.try_iam(&client, &mut random),
                        _ => arena.try_groups(&client, &mut random),
                    };
                    denied += usize::from(tried == Tried::Denied);
                    *counts.lock().unwrap().entry(tried).or_default() += 1;
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{counts:?}");
    assert!(counts[&Tried::Denied] >= TRIES && counts[&Tried::Allowed] >= TRIES / 20, "{counts:?}");
    arena.check_what_is_there(&app);
}

impl Arena {
    /// Afterwards: every group is where it was, and what was denied is recorded at the one who was.
    fn check_what_is_there(&self, app: &TestApp) {
        for (what, texts) in self.errors.lock().unwrap().iter() {
            assert_eq!(texts.len(), 1, "{what:?} is answered differently for what is elsewhere: {texts:?}");
        }
        let conn = Connection::open_with_flags(app.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut select = conn.prepare("select lower(hex(project_id)), name from server_group").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut found: Vec<(String, String)> = rows.collect::<Result<_, _>>().unwrap();
        let mut expected = Vec::new();
        for (project, made) in self.made.lock().unwrap().iter().enumerate() {
            let group = |name: &str| (project_id(project), format!("{}{name}", tag(project)));
            expected.extend(std::iter::repeat_n(group("standing"), STANDING));
            expected.extend(std::iter::repeat_n(group("made"), *made));
        }
        found.sort();
        expected.sort();
        assert!(found == expected, "groups are not where they belong: {found:?}");

        let denied = records(&app.database()).into_iter().filter(|record| record["outcome"] == "denied");
        let mut count = 0;
        for record in denied {
            count += 1;
            let name = record["actor"]["user_name"].as_str().unwrap();
            let user: usize = name.strip_prefix("user-").unwrap().parse().unwrap();
            let first = account_of(user) * PROJECTS_OF_ACCOUNT;
            let own = (first..first + PROJECTS_OF_ACCOUNT).map(project_id);
            let is_own =
                record["project_id"].is_null() || own.into_iter().any(|id| record["project_id"] == id);
            assert!(is_own, "recorded under a project that is not the caller's: {record}");
        }
        assert_eq!(count, *self.denied.lock().unwrap(), "each denied change is recorded once");
    }
}

/// Stands in every secret of what follows, and in nothing else.
const CANARY: &str = "canary";
/// The same in Base64, at each of the three places where it can begin; and as a list of bytes.
const CANARY_ENCODED: [&str; 4] = ["Y2FuYXJ5", "NhbmFye", "jYW5hcn", "99, 97, 110, 97, 114, 121"];

const ROOT_PASSWORD: &str = "canary-password-of-root";
const ROOT_KEY: &str = "AKOFTHEROOT000000001";
const ROOT_SECRET: &str = "canary-secret-key-of-root-00000000000000";
const ALICE_PASSWORD: &str = "canary-password-of-alice";
const ALICE_KEY: &str = "AKOFALICE00000000001";
const ALICE_SECRET: &str = "canary-secret-key-of-alice-0000000000000";

/// What must be found nowhere: the canary, and secrets that the service itself gave out.
struct Hunt(Vec<String>);

impl Hunt {
    /// Which of them stands in `bytes`, in whatever way it is written, and what is around it.
    fn find(&self, place: &str, bytes: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(bytes);
        let (lower, as_hex, canary_as_hex) = (text.to_lowercase(), hex(bytes), hex(CANARY.as_bytes()));
        let found = |needle: &str, text: &str| {
            let at = text.find(needle)?;
            let (from, to) =
                (text.floor_char_boundary(at.saturating_sub(300)), text.ceil_char_boundary(at + 300));
            Some(format!("{needle:?} stands in {place}: …{}…", &text[from..to]))
        };
        let mut in_any_case = [CANARY, &canary_as_hex].into_iter().chain(self.0.iter().map(String::as_str));
        let mut as_bytes = self.0.iter();
        in_any_case
            .find_map(|needle| found(needle, &lower))
            .or_else(|| CANARY_ENCODED.into_iter().find_map(|needle| found(needle, &text)))
            // A secret of the service's is the hexadecimal form of its bytes, which could stand there themselves.
            .or_else(|| as_bytes.find_map(|needle| found(needle, &as_hex)))
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        if let Some(found) = self.find(place, bytes) {
            panic!("{found}");
        }
    }

    /// One more secret, in part too: an excerpt of one is too much.
    fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 40, "{secret:?} is no secret of the service's");
        self.0.push(secret[..16].to_lowercase());
        self.0.push(secret[secret.len() - 16..].to_lowercase());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// A file of accounts that is good; `generation` is in every secret.
fn canaries_toml(generation: &str) -> String {
    let hash = |password: &str| cheap_hash(&format!("{password}{generation}"));
    let mut text =
        format!("[[domain]]\nname = 'acme'\n[domain.root]\npassword_hash = '{}'\n", hash(ROOT_PASSWORD));
    writeln!(text, "access_key = [{{ access = '{ROOT_KEY}', secret = '{ROOT_SECRET}{generation}' }}]")
        .unwrap();
    writeln!(text, "[[domain.project]]\nname = 'here'\nid = '{HERE}'").unwrap();
    writeln!(text, "[[domain.user]]\nname = 'alice'\npassword_hash = '{}'", hash(ALICE_PASSWORD)).unwrap();
    writeln!(text, "access_key = [{{ access = '{ALICE_KEY}', secret = '{ALICE_SECRET}{generation}' }}]")
        .unwrap();
    text
}

/// Files of accounts that are wrong where a secret is, or next to it: what is said of a root, and what is wrong.
fn broken_tomls() -> Vec<(&'static str, String)> {
    let key = |secret: &str| format!("access_key = [{{ access = 'AK1', {secret} }}]");
    let long = CANARY.repeat(30);
    let roots = [
        ("a hash that is none", "password_hash = 'canary-hash'".to_owned()),
        (
            "a hash of another kind",
            "password_hash = '$argon2i$v=19$m=8,t=1,p=1$canarycanarycanary$canarycanarycanary'".into(),
        ),
        (
            "a hash that costs too much",
            "password_hash = '$argon2id$v=19$m=4194304,t=2,p=1$canarycanarycanary$canarycanarycanary'".into(),
        ),
        ("a hash in an array", "password_hash = ['canary']".into()),
        ("a hash in a table", "password_hash = { text = 'canary' }".into()),
        ("a hash in several lines", "password_hash = 'canary\ncanary'".into()),
        ("a hash without quotes", "password_hash = canary-hash".into()),
        ("a hash after a hash", "password_hash = 'canary-1'\npassword_hash = 'canary-2'".into()),
        ("a password", "password = 'canary'".into()),
        ("a secret that is too short", key("secret = 'canary'")),
        ("a secret that is too long", key(&format!("secret = '{long}'"))),
        ("a secret in an array", key("secret = ['canary-secret-key']")),
        ("a secret in a table", key("secret = { text = 'canary-secret-key' }")),
        ("a secret without its last quote", key("secret = 'canary-secret-key")),
        ("a secret without quotes", key("secret = canary-secret-key")),
        ("a secret with an escape that is none", key(r#"secret = "canary-secret-key\q""#)),
        ("a secret without an equals sign", key("secret 'canary-secret-key'")),
        ("a secret after a secret", key("secret = 'canary-secret-1', secret = 'canary-secret-2'")),
        ("a secret under another name", key("sk = 'canary-secret-key'")),
        (
            "a secret in the place of the access key",
            "access_key = [{ access = 'canary-secret-key', secret = 'AK1' }]".into(),
        ),
        ("a secret in the place of the keys", "access_key = 'canary-secret-key'".into()),
        ("a secret in the place of a key", "access_key = ['canary-secret-key']".into()),
        (
            "a key that is not in an array",
            "access_key = { access = 'AK1', secret = 'canary-secret-key' }".into(),
        ),
        (
            "two keys of one name",
            "access_key = [{ access = 'AK1', secret = 'canary-secret-1' }, { access = 'AK1', secret = \
             'canary-secret-2' }]"
                .into(),
        ),
    ];
    let mut files: Vec<_> = roots
        .into_iter()
        .map(|(what, root)| (what, format!("[[domain]]\nname = 'acme'\n[domain.root]\n{root}\n")))
        .collect();
    let key = "access = 'AK1'\nsecret = 'canary-secret-key'\n";
    files.push(("a key that is nobody's", format!("[[access_key]]\n{key}")));
    files.push((
        "a key of the account's",
        format!("[[domain]]\nname = 'acme'\nroot = {{}}\n[[domain.access_key]]\n{key}"),
    ));
    files
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(arguments).env("ECS_GROUPD__LOG__LEVEL", "trace").env("ECS_GROUPD__LOG__FORMAT", "json");
    command
}

/// The real program at its most talkative, with all that it says kept.
struct Watched {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
    folder: TempDir,
    api: Client,
    control: Client,
    control_token: String,
    /// The errors of all requests, with their headers.
    errors: Mutex<Vec<String>>,
}

impl Watched {
    fn serve(identities: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("identities.toml"), identities);
        let mut command = program(&["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.args(["--identities", "identities.toml", "--database", "ecs-groupd.db"]);
        command.args(["--ready-file", "ready.json"]).current_dir(folder.path());
        let log = File::create(folder.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        // It prints that it is ready after it wrote the file; reading is waiting.
        stdout.read_line(&mut said).unwrap();
        assert!(said.starts_with("ecs-groupd is ready"), "it ended before it was ready");
        let ready: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("ready.json")).unwrap()).unwrap();
        let client = |key: &str| {
            Client::new(ready[key].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap())
        };
        let (api, control) = (client("api_url"), client("control_url"));
        let control_token = ready["control_token"].as_str().unwrap().to_owned();
        Self { child, stdout, said, folder, api, control, control_token, errors: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Sends a request, and keeps its answer when it is an error.
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.keep(self.api.send(method, path, headers, body.as_bytes()))
    }

    fn keep(&self, answer: Answer) -> Answer {
        if answer.status >= 400 {
            self.errors.lock().unwrap().push(format!("{answer:?}"));
        }
        answer
    }

    /// Signs with a key as it is now.
    fn send_signed(&self, access_key: &str, secret_key: &str, headers: &[(&str, &str)]) -> Answer {
        let digits = Clock::System.now().to_iso8601_micros().replace(['-', ':'], "");
        let date = format!("{}Z", &digits[..15]);
        let signer = Signer { access_key, secret_key, date: &date };
        let path = GROUPS.replace("{project_id}", HERE);
        self.keep(self.api.send_signed(&signer, "GET", &path, headers, b""))
    }

    /// Has another file of accounts read, and waits until the log says that it was.
    fn reload(&self, text: &str) {
        let lines = || self.log().matches("the accounts ").count();
        let before = lines();
        write_secret(&self.path("identities.toml"), text);
        let kill = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let deadline = Instant::now() + Duration::from_secs(20);
        while lines() == before {
            assert!(Instant::now() < deadline, "the accounts were not read again");
            thread::yield_now();
        }
    }

    /// Stops it, and hands over its folder, all it said, and the errors.
    fn stop(mut self) -> (TempDir, String, Vec<String>) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success() && self.child.wait().unwrap().success());
        let mut said = std::mem::take(&mut self.said);
        self.stdout.read_to_string(&mut said).unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let errors = std::mem::take(self.errors.get_mut().unwrap());
        (folder, said, errors)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Headers with a secret where one can be, none of which is good.
fn bad_headers(token: &str) -> Vec<Vec<(&'static str, String)>> {
    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let authorizations = [
        "canary".to_owned(),
        "Basic canary:canary".into(),
        "Bearer canary-token".into(),
        "AWS4-HMAC-SHA256 Credential=canary/20260102/r/s, SignedHeaders=host, Signature=canary".into(),
        "SDK-HMAC-SHA256 canary".into(),
        format!("SDK-HMAC-SHA256 Access={ROOT_SECRET}, SignedHeaders=x-sdk-date, Signature={ZEROS}"),
        format!("SDK-HMAC-SHA256 Access=canaryAsAnAccessKey1, SignedHeaders=x-sdk-date, Signature={ZEROS}"),
        format!("SDK-HMAC-SHA256 Access={ROOT_KEY}, SignedHeaders=canary;x-sdk-date, Signature={ZEROS}"),
        format!("SDK-HMAC-SHA256 Access={ROOT_KEY}, SignedHeaders=x-sdk-date, Signature=canary"),
        format!(
            "SDK-HMAC-SHA256 Access={ROOT_KEY}, SignedHeaders=x-sdk-date, Signature={ZEROS}, Secret=canary"
        ),
        format!(
            "V11-HMAC-SHA256 Credential=canary/20260102/r/s, SignedHeaders=x-sdk-date, Signature={ZEROS}"
        ),
        format!("V11-HMAC-SHA256 Credential={ROOT_KEY}/canary, SignedHeaders=x-sdk-date, Signature={ZEROS}"),
    ];
    let mut all: Vec<_> = authorizations
        .into_iter()
        .flat_map(|text| {
            let with_date =
                vec![("authorization", text.clone()), ("x-sdk-date", "20260102T030405Z".to_owned())];
            [with_date, vec![("authorization", text), ("x-sdk-date", "canary".to_owned())]]
        })
        .collect();
    let canary = || "canary-token".to_owned();
    all.push(vec![("x-auth-token", canary())]);
    all.push(vec![("x-auth-token", format!("{token}canary"))]);
    all.push(vec![("x-auth-token", format!("canary\t{}", "canary".repeat(1_000)))]);
    all.push(vec![("x-auth-token", canary()), ("x-subject-token", canary())]);
    all.push(vec![("x-auth-token", token.to_owned()), ("x-subject-token", canary())]);
    all.push(vec![("x-auth-token", token.to_owned()), ("authorization", canary())]);
    all.push(vec![("x-security-token", canary()), ("cookie", format!("token={}", canary()))]);
    all.push(vec![("proxy-authorization", canary()), ("x-api-key", canary()), ("x-project-id", canary())]);
    all
}

/// Bodies with a secret where one can be, none of which is good for anything.
fn bad_bodies() -> Vec<String> {
    let user = |user: &Value| {
        let identity = json!({ "methods": ["password"], "password": { "user": user } });
        json!({ "auth": { "identity": identity, "scope": { "project": { "name": "here" } } } }).to_string()
    };
    let acme = json!({ "name": "acme" });
    let token = |token: &Value| {
        json!({ "auth": { "identity": { "methods": ["token"], "token": token } } }).to_string()
    };
    let right = user(&json!({ "name": "acme", "password": ROOT_PASSWORD, "domain": acme }));
    vec![
        user(&json!({ "name": "acme", "password": "canary-wrong", "domain": acme })),
        user(&json!({ "name": "nobody", "password": ROOT_PASSWORD, "domain": acme })),
        user(&json!({ "name": "acme", "password": ROOT_PASSWORD })),
        user(&json!({ "name": "acme", "password": ROOT_PASSWORD, "domain": { "name": "nowhere" } })),
        user(&json!({ "name": "acme", "password": [ROOT_PASSWORD], "domain": acme })),
        user(&json!({ "name": "acme", "password": { "canary": "canary" }, "domain": acme })),
        user(&json!({ "name": "acme", "password": "canary".repeat(1_000), "domain": acme })),
        user(&json!({ "name": "acme", "pasword": ROOT_PASSWORD, "domain": acme })),
        user(&json!({ "name": ["acme"], "password": ROOT_PASSWORD, "domain": acme })),
        right.replace("\"here\"", "\"nowhere\""),
        right.replace("[\"password\"]", "[\"password\",\"totp\"]"),
        right[..right.find("-of-root").unwrap()].to_owned(),
        right.replace("-of-root", "\\q"),
        right.replace("-of-root", "\n"),
        format!("{right}{right}"),
        format!("\"{ROOT_PASSWORD}\""),
        format!("password={ROOT_PASSWORD}&token=canary"),
        token(&json!({ "id": "canary-token" })),
        token(&json!({ "id": ["canary-token"] })),
        token(&json!("canary-token")),
        token(&json!({ "id": "canary-token", "duration_seconds": "canary" })),
        json!({ "auth": { "identity": { "methods": ["token"], "policy": { "canary": "canary" } } } }).to_string(),
        json!({ "auth": { "identity": { "methods": ["totp"], "totp": { "user": { "passcode": "canary" } } } } })
            .to_string(),
    ]
}

/// Logs in and signs in every way that is good, and learns what the service gives out.
fn give_everything_out(watched: &Watched, generation: &str, hunt: &mut Hunt) -> (String, TemporaryKey) {
    let mut tokens = Vec::new();
    for (user, password) in [("acme", ROOT_PASSWORD), ("alice", ALICE_PASSWORD)] {
        tokens.push(token_for(&watched.api, "acme", user, &format!("{password}{generation}"), "here"));
    }
    let root = tokens[0].clone();
    let identity = json!({ "methods": ["token"], "token": { "id": root } });
    let again = json!({ "auth": { "identity": identity } }).to_string();
    let answer = watched.send("POST", TOKENS, &[JSON], &again);
    assert_eq!(answer.status, 201, "{}", answer.text);
    tokens.push(answer.header("x-subject-token").unwrap().to_owned());
    let key = TemporaryKey::of(&watched.api, &root);
    tokens.iter().chain([&key.secret, &key.security_token]).for_each(|secret| hunt.add(secret));

    let groups = GROUPS.replace("{project_id}", HERE);
    for (token, status) in [(&tokens[0], 200), (&tokens[1], 403)] {
        let headers = [("x-auth-token", token.as_str()), JSON];
        assert_eq!(watched.send("POST", &groups, &headers, &create_body("web")).status, status);
    }
    for token in &tokens[1..] {
        let headers = [("x-auth-token", root.as_str()), ("x-subject-token", token.as_str())];
        assert_eq!(watched.send("GET", TOKENS, &headers, "").status, 200);
        assert_eq!(watched.send("DELETE", TOKENS, &headers, "").status, 204);
        assert_eq!(watched.send("GET", TOKENS, &headers, "").status, 404);
    }
    let (root_secret, alice_secret) =
        (format!("{ROOT_SECRET}{generation}"), format!("{ALICE_SECRET}{generation}"));
    let security = ("x-security-token", key.security_token.as_str());
    assert_eq!(watched.send_signed(ROOT_KEY, &root_secret, &[]).status, 200);
    assert_eq!(watched.send_signed(ALICE_KEY, &alice_secret, &[]).status, 403);
    assert_eq!(watched.send_signed(&key.access, &key.secret, &[security]).status, 200);
    (root, key)
}

/// Tries every secret that is not good, everywhere.
fn try_what_is_not_good(watched: &Watched, token: &str, key: &TemporaryKey) {
    let bad = bad_headers(token);
    for route in api::routes() {
        let method = route.method.as_str();
        let path = route.path.replace("{project_id}", HERE).replace("{server_group_id}", HERE);
        let bodies: &[String] = if method == "POST" { &bad_bodies() } else { &[String::new()] };
        for headers in &bad {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            watched.send(method, &path, &headers, "");
            watched.send(method, &format!("{path}?token=canary&password=canary"), &headers, "");
        }
        for body in bodies {
            watched.send(method, &path, &[("x-auth-token", token), JSON], body);
            watched.send(method, &path, &[JSON], body);
            watched.send(method, &path, &[("content-type", "text/plain")], body);
        }
    }
    let groups = GROUPS.replace("{project_id}", HERE);
    let token = ("x-auth-token", token);
    for query in ["limit=0&token=canary", "marker=x&limit=1&sk=canary", "X-Auth-Token=canary"] {
        watched.send("GET", &format!("{groups}?{query}"), &[token], "");
    }
    for path in [&format!("{groups}?{}", "canary".repeat(6_000)), "/nowhere?token=canary", "/?token=canary"] {
        watched.send("GET", path, &[token], "");
        watched.send("PUT", path, &[token], "canary");
    }
    watched.send("POST", &groups, &[token, JSON], &"canary".repeat(200_000));

    watched.send_signed(&key.access, &key.secret, &[]);
    watched.send_signed(&key.access, &key.secret, &[("x-security-token", "canary-token")]);
    watched.send_signed(ROOT_KEY, "canary-another-secret", &[]);
    watched.send_signed(ALICE_KEY, ALICE_SECRET, &[("x-project-id", "canary")]);
    let security = [("x-security-token", key.security_token.as_str())];
    for _ in 0..8 {
        watched.send_signed(&key.access, "canary-secret", &security);
    }
    assert_eq!(watched.send_signed(&key.access, &key.secret, &security).status, 401, "by now it is locked");
    for secret in ["canary", "Bearer canary-control", &watched.control_token] {
        let headers = [("authorization", secret), ("x-auth-token", "canary")];
        watched.keep(watched.control.send("POST", "/control/reset?token=canary", &headers, b"canary"));
    }
    let good = format!("Bearer {}", watched.control_token);
    let answer =
        watched.control.send("POST", "/control/reset?token=canary", &[("authorization", &good)], b"");
    assert_eq!(answer.status, 204, "{}", answer.text);
}

#[test]
fn a_secret_of_a_run_stands_in_no_log_line_record_error_or_backup() {
    let generations = ["", "-2"].map(canaries_toml);
    let watched = Watched::serve(&generations[0]);
    let mut hunt = Hunt(Vec::new());
    hunt.add(&watched.control_token);
    for line in generations.iter().flat_map(|text| text.lines()) {
        if let Some(hash) = line.strip_prefix("password_hash = ") {
            hunt.add(hash.trim_matches('\''));
        }
    }
    let (token, key) = give_everything_out(&watched, "", &mut hunt);
    try_what_is_not_good(&watched, &token, &key);
    for (_, text) in broken_tomls() {
        watched.reload(&text);
    }
    watched.reload(&generations[1]);
    give_everything_out(&watched, "-2", &mut hunt);

    let files = ["ecs-groupd.db", "ecs-groupd.db-wal", "ecs-groupd.db-shm"];
    for name in files {
        hunt.assert_absent(name, &std::fs::read(watched.path(name)).unwrap());
    }
    let backup = watched.path("backup.db");
    let conn = Connection::open(watched.path("ecs-groupd.db")).unwrap();
    conn.execute("vacuum into ?", [backup.to_str().unwrap()]).unwrap();
    drop(conn);
    let (folder, stdout, errors) = watched.stop();

    for name in ["ecs-groupd.db", "backup.db"] {
        let database = folder.path().join(name);
        hunt.assert_absent(name, &std::fs::read(&database).unwrap());
        let records = Value::from(records(&database)).to_string();
        hunt.assert_absent(&format!("the records of {name}"), records.as_bytes());
        for outcome in ["done", "denied"] {
            assert!(records.contains(&format!("\"outcome\":\"{outcome}\"")), "{records}");
        }
        assert!(records.contains("access key AKOFALICE00000000001 changed"), "{records}");
    }
    hunt.assert_absent("standard output", stdout.as_bytes());
    assert!(errors.len() > 500, "{}", errors.len());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for line in log.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
    assert!(!log.contains("panicked"));
    assert_eq!(log.matches("the accounts stay as they were").count(), broken_tomls().len());
    assert!(log.matches("\"answered\"").count() >= 1_000, "the test does not send what it should");
    let in_errors = errors.iter().filter_map(|error| hunt.find("an error", error.as_bytes()));
    let in_lines = log.lines().filter_map(|line| hunt.find("a log line", line.as_bytes()));
    let leaks: Vec<_> = in_errors.chain(in_lines).collect();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// All that a command said.
fn all_of(output: &Output) -> Vec<u8> {
    [&*output.stdout, &output.stderr].concat()
}

#[test]
fn a_secret_of_a_broken_file_of_accounts_stands_in_nothing_that_a_command_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identities.toml");
    let file_name = file.to_str().unwrap();
    let database = folder.path().join("ecs-groupd.db");
    let commands: [&[&str]; 3] = [
        &["identity", "check", file_name],
        &["identity", "explain", "--user", "acme", "--action", ACTIONS[0].0, "--identities", file_name],
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--identities",
            file_name,
            "--database",
            database.to_str().unwrap(),
        ],
    ];
    let hunt = Hunt(Vec::new());
    let mut leaks = Vec::new();
    for (what, text) in broken_tomls() {
        write_secret(&file, &text);
        for command in commands {
            let output = program(command).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{what}: {command:?}");
            leaks.extend(hunt.find(what, &all_of(&output)));
        }
    }
    assert!(leaks.is_empty(), "\n{}", leaks.join("\n"));
}

#[test]
fn a_secret_of_a_good_file_of_accounts_stands_in_nothing_that_a_command_or_a_panic_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identities.toml");
    write_secret(&file, &canaries_toml(""));
    let file_name = file.to_str().unwrap();
    let hunt = Hunt(Vec::new());
    let run = |arguments: &[&str]| {
        let output = program(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        hunt.assert_absent(&format!("{arguments:?}"), &all_of(&output));
    };
    run(&["identity", "check", file_name]);
    run(&[
        "identity",
        "explain",
        "--user",
        "acme/alice",
        "--action",
        ACTIONS[0].0,
        "--identities",
        file_name,
    ]);

    let mut hashing =
        program(&["identity", "hash-password"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(hashing.stdin.take().unwrap(), "{ROOT_PASSWORD}").unwrap();
    hunt.assert_absent("the hash of a password", &hashing.wait_with_output().unwrap().stdout);

    // What a panic would print of it.
    let read = identities::file::read(Path::new(file_name)).unwrap();
    hunt.assert_absent("the accounts", format!("{read:?}").as_bytes());
    let (user, secret) = read.access_key(&ROOT_KEY.parse().unwrap()).unwrap();
    assert_eq!(secret.expose(), ROOT_SECRET, "the secret is there");
    hunt.assert_absent("a secret key", format!("{secret:?} {user:?}").as_bytes());
}
