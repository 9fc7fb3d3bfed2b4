//! Who is let in, in which order a request is checked, and what an attempt without rights leaves behind.

use std::path::Path;
use std::sync::Arc;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::{self, DeniedReason, Permit};
use ecs_groupd::access::principal::{Credential, Domain, Origin, Principal, Project, User};
use ecs_groupd::api::{self, Guard};
use ecs_groupd::clock::Clock;
use ecs_groupd::domain::command::Command;
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::{DomainId, GroupId, ProjectId, RequestId, ServerId, UserId};
use ecs_groupd::domain::page::Page;
use ecs_groupd::domain::rules::Quota;
use ecs_groupd::domain::server::{Server, ServerStatus};
use ecs_groupd::domain::session::{LoginMethod, Scope, SecretDigest};
use ecs_groupd::identities::dev;
use ecs_groupd::settings::Settings;
use ecs_groupd::store::{self, StoreError};
use serde_json::{Value, json};

use crate::harness::{
    Answer, NOW, TestApp, create_body, group_path, groups_path, on_a_store, records, send_raw, store_options,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const GOOD_TOKEN: (&str, &str) = ("x-auth-token", dev::TOKEN);
const BAD_TOKEN: (&str, &str) = ("x-auth-token", "dev-tokem");
const OTHER_PROJECT: &str = "0123456789abcdef0123456789abcdef";

fn strict(settings: &mut Settings) {
    settings.dev.anonymous = false;
}

/// One request for each action that a caller needs a right for, from the table of routes.
fn requests(project: &str) -> Vec<(String, String)> {
    // (The native interface has words of its own: nova.rs.)
    let guarded = api::routes()
        .into_iter()
        .filter(|route| matches!(route.guard, Guard::Permitted(_)) && route.path.starts_with("/v1/"));
    guarded
        .map(|route| {
            let path = route.path.replace("{project_id}", project);
            let path = path.replace("{server_group_id}", "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9");
            let path = path.replace("{server_id}", "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9");
            (route.method.to_string(), path)
        })
        .collect()
}

#[test]
fn without_credentials_a_caller_is_the_dev_account() {
    let app = TestApp::start();
    app.client.create("web");
    let actor = &records(&app.database())[0]["actor"];
    assert_eq!((&actor["user_id"], &actor["credential"]), (&json!(dev::USER_ID), &json!("anonymous")));
}

#[test]
fn the_dev_token_is_the_dev_account_whether_or_not_anonymous_callers_are_taken() {
    for app in [TestApp::start(), TestApp::start_with(strict)] {
        let answer =
            app.client.send("POST", &groups_path(), &[GOOD_TOKEN, JSON], create_body("web").as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
        let actor = &records(&app.database())[0]["actor"];
        assert_eq!((&actor["user_id"], &actor["credential"]), (&json!(dev::USER_ID), &json!("token")));
    }
}

#[test]
fn credentials_that_are_presented_must_verify_even_where_none_would_do() {
    let app = TestApp::start();
    let long = "x".repeat(10_000);
    let presented: [&[(&str, &str)]; 8] = [
        &[BAD_TOKEN],
        &[("x-auth-token", "")],
        &[("x-auth-token", "DEV-TOKEN")],
        &[("x-auth-token", &long)],
        &[("authorization", "")],
        &[("authorization", "Bearer dev-token")],
        &[(
            "authorization",
            "SDK-HMAC-SHA256 Access=DEVACCESSKEY00000001, SignedHeaders=x-sdk-date, Signature=0",
        )],
        &[GOOD_TOKEN, ("authorization", "Basic ZGV2OmRldg==")],
    ];
    for headers in presented {
        for (method, path) in requests(dev::PROJECT_ID) {
            let answer = app.client.send(&method, &path, headers, b"");
            let message = answer.gateway_error(401, "APIGW.0301");
            assert!(message.starts_with("Incorrect IAM authentication information: "), "{message}");
            assert_eq!(answer.header("www-authenticate"), Some("X-Auth-Token"));
        }
    }
    app.assert_untouched();
}

#[test]
fn a_credential_that_is_not_text_is_401() {
    let app = TestApp::start();
    for header in ["X-Auth-Token", "Authorization"] {
        let path = groups_path();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}: ");
        let request = [head.as_bytes(), b"d\xe9v\r\n\r\n"].concat();
        send_raw(app.api, &request).gateway_error(401, "APIGW.0301");
    }
}

#[test]
fn a_second_credential_must_verify_as_the_first_must() {
    let app = TestApp::start();
    let good = format!("X-Auth-Token: {}\r\n", dev::TOKEN);
    for credentials in [format!("{good}X-Auth-Token: x\r\n"), format!("X-Auth-Token: x\r\n{good}")] {
        let path = groups_path();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{credentials}\r\n");
        send_raw(app.api, request.as_bytes()).gateway_error(401, "APIGW.0301");
    }
}

#[test]
fn every_route_with_an_action_is_401_without_credentials_when_anonymous_callers_are_not_taken() {
    let app = TestApp::start_with(strict);
    for (method, path) in requests(dev::PROJECT_ID) {
        let message = app.client.send(&method, &path, &[], b"").gateway_error(401, "APIGW.0301");
        assert!(
            message.ends_with(": send X-Auth-Token, or sign the request with an access key"),
            "{message}"
        );
    }
    for open in ["/livez", "/readyz"] {
        assert_eq!(app.client.get(open).status, 200);
        assert_eq!(app.client.send("GET", open, &[BAD_TOKEN], b"").status, 200, "nobody asks who it is");
    }
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}

#[test]
fn another_project_is_denied_and_recorded_once_under_the_callers_own_when_something_was_to_be_changed() {
    let projects = [
        (OTHER_PROJECT, json!(OTHER_PROJECT)),
        ("DE000000000000000000000000000002", Value::Null),
        ("no-project-id", Value::Null),
    ];
    for (project, asked) in projects {
        for (method, path) in requests(project) {
            let app = TestApp::start();
            let answer = app.client.send(&method, &path, &[GOOD_TOKEN, JSON], create_body("web").as_bytes());
            let message = answer.ecs_error(400, "Ecs.0023");
            assert_eq!(message, "project_id in token mismatches with project_id in url.");
            let written = records(&app.database());
            if method == "GET" {
                assert_eq!(written, Vec::<Value>::new(), "{method} {path}");
                continue;
            }
            let [record] = &written[..] else { panic!("{method} {path}: {written:?}") };
            assert_eq!(record["outcome"], "denied");
            assert_eq!(record["request_id"], answer.request_id());
            assert_eq!(record["project_id"], dev::PROJECT_ID);
            assert_eq!(record["asked"], json!({ "project_id": asked }));
            assert_eq!(record["reason"], json!({ "name": "other_project", "message": null }));
            assert_eq!(record["actor"]["user_id"], dev::USER_ID);
            let named = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
            let named = path.contains(named).then_some(named);
            assert_eq!(record["resource"], json!({ "type": "server_group", "id": named, "name": null }));
            assert_eq!(app.client.list_ids(), Vec::<String>::new());
        }
    }
}

/// A create that breaks every rule there is, some of which can be mended.
#[derive(Clone)]
struct Faults {
    method: &'static str,
    path: String,
    token: &'static str,
    content_type: &'static str,
    body: String,
}

impl Faults {
    fn send(&self, app: &TestApp) -> Answer {
        let headers = [("x-auth-token", self.token), ("content-type", self.content_type)];
        app.client.send(self.method, &self.path, &headers, self.body.as_bytes())
    }
}

#[test]
fn a_request_is_checked_in_a_fixed_order_whatever_else_is_wrong_with_it() {
    let app = TestApp::start_with(|settings| {
        settings.http.uri_bytes_max = 256;
        settings.http.body_bytes_max = 1_024;
        settings.quota.groups_per_project = 0;
    });
    let other_project = format!("/v1/{OTHER_PROJECT}/cloudservers/os-server-groups");
    let mut faults = Faults {
        method: "PUT",
        path: format!("/nowhere{}", "x".repeat(256)),
        token: "x",
        content_type: "text/plain",
        body: "x".repeat(1_025),
    };
    faults.send(&app).gateway_error(414, "APIGW.0201");
    faults.path = "/nowhere".to_owned();
    faults.send(&app).gateway_error(404, "APIGW.0101");
    faults.path = other_project;
    faults.send(&app).gateway_error(405, "APIGW.0101");
    faults.method = "POST";
    faults.send(&app).gateway_error(413, "APIGW.0201");
    faults.body = "x".repeat(1_024);
    faults.send(&app).gateway_error(401, "APIGW.0301");
    faults.token = dev::TOKEN;
    faults.send(&app).gateway_error(415, "APIGW.0201");
    faults.content_type = "application/json";
    assert_eq!(records(&app.database()), Vec::<Value>::new(), "none of these got as far as a decision");

    faults.send(&app).ecs_error(400, "Ecs.0023");
    faults.path = groups_path();
    faults.send(&app).ecs_error(400, "Ecs.0005");
    faults.body = create_body("web");
    faults.send(&app).ecs_error(403, "Ecs.1000");
    let outcomes: Vec<_> = records(&app.database()).iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["denied", "refused"]);
}

#[test]
fn a_body_that_never_ends_is_408_before_anybody_asks_who_sends_it() {
    let app = TestApp::start_with(|settings| settings.http.body_deadline_ms = 50);
    let head =
        format!("POST {} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: x\r\nContent-Length: 9\r\n\r\n", groups_path());
    send_raw(app.api, head.as_bytes()).gateway_error(408, "APIGW.0201");
}

#[test]
fn what_is_not_a_decision_leaves_no_record() {
    let app = TestApp::start_with(|settings| settings.http.body_bytes_max = 1_024);
    let big = "x".repeat(1_025);
    let requests: [(&str, &str, &[(&str, &str)], &str, u16); 7] = [
        ("POST", &groups_path(), &[BAD_TOKEN, JSON], &create_body("web"), 401),
        ("POST", &groups_path(), &[JSON], "{}", 400),
        ("POST", "/v1", &[JSON], "{}", 404),
        ("PUT", &groups_path(), &[JSON], "{}", 405),
        ("POST", &groups_path(), &[JSON], &big, 413),
        ("POST", &groups_path(), &[], "{}", 415),
        ("DELETE", &group_path("x"), &[], "", 404),
    ];
    for (method, path, headers, body, status) in requests {
        let answer = app.client.send(method, path, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    app.assert_untouched();
}

const HERE: ProjectId = ProjectId::from_bytes([1; 16]);
const THERE: ProjectId = ProjectId::from_bytes([2; 16]);
const GROUP: GroupId = GroupId::from_bytes([3; 16]);
const SERVER: ServerId = ServerId::from_bytes([8; 16]);
const USER: UserId = UserId::from_bytes([4; 16]);
const ORIGIN: Origin = Origin { request_id: RequestId::from_bytes([5; 16]), source_ip: None, door: "v1" };

/// What a user may be permitted; the operator's own action is none of it.
const ACTIONS: [Action; 8] = [
    Action::CreateServerGroup,
    Action::ListServerGroups,
    Action::ShowServerGroup,
    Action::DeleteServerGroup,
    Action::AddServerGroupMember,
    Action::DeleteServerGroupMember,
    Action::ShowServerLimits,
    Action::ShowServer,
];

/// The root of an account, which may do everything in its project.
fn root(project_id: ProjectId) -> Principal {
    let domain = Domain { domain_id: DomainId::from_bytes([6; 16]), name: "acct".to_owned() };
    let user = Arc::new(User::new(USER, "alice".to_owned(), domain.clone(), true));
    let project = Some(Arc::new(Project {
        project_id,
        name: "region-1".to_owned(),
        domain_id: domain.domain_id,
        quota: Quota::default(),
    }));
    Principal { user, project, credential: Credential::Token, documents: Arc::default() }
}

/// This permit is as wide as one can be.
fn permit(action: Action, project_id: ProjectId) -> Permit {
    let who = root(project_id);
    let reset = policy::permit(&who, ORIGIN, Action::ResetDatabase, Some(project_id), NOW).unwrap_err();
    assert_eq!(reset.reason, DeniedReason::OperatorOnly, "not even the root of an account");
    policy::permit(&who, ORIGIN, action, Some(project_id), NOW).unwrap()
}

/// Every permit that there can be, of two projects.
fn permits() -> Vec<Permit> {
    let of_users =
        [HERE, THERE].into_iter().flat_map(|project| ACTIONS.map(|action| permit(action, project)));
    let of_inventory =
        [Action::RegisterServer, Action::UnregisterServer, Action::ListInventory].map(inventory);
    let of_operator = OPERATOR.map(|permit| permit(ORIGIN)).into_iter().chain(of_inventory);
    of_users.chain(OWN_ACTIONS.map(own)).chain(of_operator).collect()
}

/// What everybody may for itself.
const OWN_ACTIONS: [Action; 3] = [Action::IssueToken, Action::RevokeToken, Action::IssueTemporaryKey];

fn own(action: Action) -> Permit {
    policy::permit_oneself(&root(HERE), ORIGIN, action).unwrap()
}

fn inventory(action: Action) -> Permit {
    policy::permit_inventory(ORIGIN, action, HERE).unwrap()
}

/// What only the operator and the service itself may.
const OPERATOR: [fn(Origin) -> Permit; 11] = [
    policy::permit_reset,
    |origin| policy::permit_project_reset(origin, HERE),
    policy::permit_reload,
    policy::permit_purge,
    policy::permit_summary,
    policy::permit_start,
    policy::permit_stop,
    policy::permit_migration,
    policy::permit_loss,
    policy::permit_key_change,
    policy::permit_sealing,
];

/// One of each command, for the project [`HERE`], and the permit that it needs.
fn commands() -> Vec<(Command, Permit)> {
    let name = GroupName::try_from("web".to_owned()).unwrap();
    let placement_rule = PlacementRule::AntiAffinity;
    let (digest, scope, method) =
        (SecretDigest::from_bytes([7; 32]), Scope::Project(HERE), LoginMethod::Password);
    let access_key = "AK".parse().unwrap();
    let (server_id, vm, status) = (SERVER, "vm".to_owned().try_into().unwrap(), ServerStatus::Active);
    let server = Server { server_id, name: vm, status, host: None };
    let commands = [
        Command::CreateGroup { project_id: HERE, name, placement_rule, created_by: USER },
        Command::DeleteGroup { project_id: HERE, group_id: GROUP },
        Command::AddMember { project_id: HERE, group_id: GROUP, server_id: SERVER },
        Command::RemoveMember { project_id: HERE, group_id: GROUP, server_id: SERVER },
        Command::RegisterServer { project_id: HERE, server },
        Command::UnregisterServer { project_id: HERE, server_id: SERVER },
        Command::ResetDatabase,
        Command::IssueToken {
            digest,
            user_id: USER,
            scope,
            method,
            credentials: digest,
            lifetime_ms: 60_000,
            expires_by: None,
        },
        Command::RevokeToken { digest },
        Command::IssueTemporaryKey {
            access_key,
            digest,
            user_id: USER,
            lifetime_ms: 60_000,
            expires_by: None,
        },
        Command::PurgeExpired,
        Command::ReloadIdentities { differences: vec!["user acct/bob added".to_owned()] },
        Command::SummarizeRefusals { user_id: USER, count: 7, since: NOW },
        Command::ResetProject { project_id: HERE },
        Command::StartService { version: "0.1.0".to_owned() },
        Command::StopService,
        Command::MigrateDatabase { from: 5, to: 6 },
        Command::RestoreDatabase { sha256: "ab".repeat(32) },
        Command::AcceptAuditLoss { reason: "fewer".to_owned(), expected_size: 9, found_size: 8 },
        Command::ChangeCheckpointKey { old: None, new: "key".to_owned(), signed: None },
        Command::SealSegment { first: 1, last: 1_000_000, file: "1-1000000.ndjson".to_owned(), digest },
    ];
    commands
        .map(|command| {
            // A new command does not compile until it has its permit here, and should be sampled above.
            let needed = match command {
                Command::CreateGroup { .. } => permit(Action::CreateServerGroup, HERE),
                Command::DeleteGroup { .. } => permit(Action::DeleteServerGroup, HERE),
                Command::AddMember { .. } => permit(Action::AddServerGroupMember, HERE),
                Command::RemoveMember { .. } => permit(Action::DeleteServerGroupMember, HERE),
                Command::RegisterServer { .. } => inventory(Action::RegisterServer),
                Command::UnregisterServer { .. } => inventory(Action::UnregisterServer),
                Command::ResetDatabase => policy::permit_reset(ORIGIN),
                Command::IssueToken { .. } => own(Action::IssueToken),
                Command::RevokeToken { .. } => own(Action::RevokeToken),
                Command::IssueTemporaryKey { .. } => own(Action::IssueTemporaryKey),
                Command::PurgeExpired => policy::permit_purge(ORIGIN),
                Command::ReloadIdentities { .. } => policy::permit_reload(ORIGIN),
                Command::SummarizeRefusals { .. } => policy::permit_summary(ORIGIN),
                Command::ResetProject { .. } => policy::permit_project_reset(ORIGIN, HERE),
                Command::StartService { .. } => policy::permit_start(ORIGIN),
                Command::StopService => policy::permit_stop(ORIGIN),
                Command::MigrateDatabase { .. } => policy::permit_migration(ORIGIN),
                Command::RestoreDatabase { .. } => policy::permit_restore(ORIGIN),
                Command::AcceptAuditLoss { .. } => policy::permit_loss(ORIGIN),
                Command::ChangeCheckpointKey { .. } => policy::permit_key_change(ORIGIN),
                Command::SealSegment { .. } => policy::permit_sealing(ORIGIN),
            };
            (command, needed)
        })
        .into()
}

#[test]
fn the_store_takes_a_command_with_its_own_permit_and_refuses_it_with_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("ecs-groupd.db");
    on_a_store(options(&database), &Clock::fixed(NOW), async |store| {
        for (command, needed) in commands() {
            for permit in permits().into_iter().filter(|permit| *permit != needed) {
                let (permitted, attempted) = (permit.action(), Action::of(&command));
                assert_eq!(
                    store.apply(permit, command.clone()).await,
                    Err(StoreError::WrongPermit { permitted, attempted }),
                    "{command:?}"
                );
            }
        }
    });
    assert_eq!(records(&database), Vec::<Value>::new(), "none of them was even recorded");

    on_a_store(options(&database), &Clock::fixed(NOW), async |store| {
        for (command, needed) in commands() {
            let taken = store.apply(needed, command.clone()).await;
            assert!(!matches!(taken, Err(StoreError::WrongPermit { .. })), "{command:?}: {taken:?}");
        }
    });
    // Nothing was sealed, so nothing may be deleted; and nobody has the key that is to sign.
    assert_eq!(records(&database).len(), commands().len() - 2);
}

#[test]
fn the_store_reads_with_the_permit_for_that_read_and_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let page = Page::parse(None, None).unwrap();
    on_a_store(options(&folder.path().join("ecs-groupd.db")), &Clock::fixed(NOW), async |store| {
        for permit in permits() {
            let wrong = |attempted| StoreError::WrongPermit { permitted: permit.action(), attempted };
            let group = store.group(&permit, GROUP).await;
            match permit.action() {
                Action::ShowServerGroup => assert_eq!(group, Ok(None)),
                _ => assert_eq!(group, Err(wrong(Action::ShowServerGroup))),
            }
            let groups = store.groups(&permit, &page).await;
            match permit.action() {
                Action::ListServerGroups => assert_eq!(groups, Ok(Arc::from([]))),
                _ => assert_eq!(groups, Err(wrong(Action::ListServerGroups))),
            }
        }
    });
}

#[test]
fn a_read_shows_the_project_of_its_permit_alone() {
    let folder = tempfile::tempdir().unwrap();
    let page = Page::parse(None, None).unwrap();
    on_a_store(options(&folder.path().join("ecs-groupd.db")), &Clock::fixed(NOW), async |store| {
        let (create, needed) = commands().swap_remove(0);
        store.apply(needed, create).await.unwrap();
        let listed = store.groups(&permit(Action::ListServerGroups, HERE), &page).await.unwrap();
        let group_id = listed[0].group_id;
        let elsewhere = store.groups(&permit(Action::ListServerGroups, THERE), &page).await.unwrap();
        assert_eq!((listed.len(), elsewhere.len()), (1, 0));
        let shown = async |project| store.group(&permit(Action::ShowServerGroup, project), group_id).await;
        assert_eq!(shown(HERE).await.unwrap().as_deref(), Some(&listed[0]));
        assert_eq!(shown(THERE).await, Ok(None));
    });
}

fn options(database: &Path) -> store::Options {
    store::Options { database: database.to_owned(), refusals_per_minute: None, ..store_options() }
}
