//! A reset, of one project or of all: what it had is gone at once, the log stays and says so, and nobody else is touched.
//!
//! (`one_batch.rs` and `durability.rs` have resets amid other changes, `cts.rs` the listings around them.)

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ecs_groupd::identities::dev;
use ecs_groupd::settings::{ControlListen, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, Client, Process, TestApp, cheap_hash, create_body, records, token_for};
use crate::member::ecs;

const PASSWORD: &str = "Acme-password-1";
const HERE: &str = "de0000000000000000000000000000b1";
const THERE: &str = "de0000000000000000000000000000b2";
const EMPTY: &str = "de0000000000000000000000000000b3";
const DATABASE: &str = "ecs-groupd.db";

/// An account with three projects, a client of each of the first two, and the operator's listener.
struct Bench {
    app: TestApp,
    here: Client,
    there: Client,
}

impl Bench {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let hash = cheap_hash(PASSWORD);
        let accounts = format!(
            "[[domain]]\nname = 'acme'\n[domain.root]\npassword_hash = '{hash}'\n\
             [[domain.project]]\nname = 'here'\nid = '{HERE}'\n\
             [[domain.project]]\nname = 'there'\nid = '{THERE}'\n\
             [[domain.project]]\nname = 'empty'\nid = '{EMPTY}'\n"
        );
        let app = TestApp::start_with_identities(&accounts, |settings| {
            settings.control.listen = ControlListen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            change(settings);
        });
        let client = |project| {
            let token = token_for(&app.client, "acme", "acme", PASSWORD, project);
            app.client.with_token(&token)
        };
        let (here, there) = (client("here"), client("there"));
        Self { app, here, there }
    }

    #[track_caller]
    fn reset(&self, path: &str) {
        let answer = self.app.operate("POST", path, "");
        assert_eq!((answer.status, &*answer.text), (204, ""));
    }

    /// A group with a member, a registered ECS, and an answer that is kept for its key.
    fn fill(&self, client: &Client, project: &str) -> Value {
        let group = create(client, project, "web").json()["server_group"]["id"].clone();
        let body = json!({ "add_member": { "instance_uuid": ecs(1) } }).to_string();
        let path = format!("{}/{}/action", groups_of(project), group.as_str().unwrap());
        assert_eq!(client.post_json(&path, &body).status, 200);
        let servers = format!("/control/projects/{project}/servers");
        assert_eq!(self.app.operate("PUT", &format!("{servers}/{}", ecs(2)), "{}").status, 200);
        json!([create_once(client, project), self.state(client, project)])
    }

    /// All that a project has.
    fn state(&self, client: &Client, project: &str) -> Value {
        let limits = client.get(&format!("/v1/{project}/cloudservers/limits")).json()["absolute"].clone();
        json!({
            "groups": client.get(&groups_of(project)).json()["server_groups"],
            "servers": self.app.operate("GET", &format!("/control/projects/{project}/servers"), "").json()["servers"],
            "member": client.get(&format!("/v1/{project}/cloudservers/{}", ecs(1))).status,
            "groups used": limits["totalServerGroupsUsed"],
            "servers used": limits["totalInstancesUsed"],
        })
    }

    #[track_caller]
    fn assert_empty(&self, client: &Client, project: &str) {
        let nothing =
            json!({ "groups": [], "servers": [], "member": 404, "groups used": 0, "servers used": 0 });
        assert_eq!(self.state(client, project), nothing);
    }
}

fn groups_of(project: &str) -> String {
    format!("/v1/{project}/cloudservers/os-server-groups")
}

fn create(client: &Client, project: &str, name: &str) -> Answer {
    client.post_json(&groups_of(project), &create_body(name))
}

/// A create that is done once for its key; the id.
fn create_once(client: &Client, project: &str) -> Value {
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let answer = client.send("POST", &groups_of(project), &headers, create_body("once").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["server_group"]["id"].clone()
}

fn traces(client: &Client, project: &str, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v3/{project}/traces?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["traces"].as_array().unwrap().clone()
}

fn trace_names(traces: &[Value]) -> Vec<&str> {
    traces.iter().map(|trace| trace["trace_name"].as_str().unwrap()).collect()
}

fn reset_of(project: &str) -> String {
    format!("/control/projects/{project}/reset")
}

#[test]
fn a_projects_reset_wipes_all_that_it_had_and_touches_no_other() {
    let bench = Bench::start();
    let here = bench.fill(&bench.here, HERE);
    let there = bench.fill(&bench.there, THERE);
    bench.reset(&reset_of(HERE));
    bench.assert_empty(&bench.here, HERE);
    assert_eq!(json!([create_once(&bench.there, THERE), bench.state(&bench.there, THERE)]), there);
    assert_ne!(create_once(&bench.here, HERE), here[0], "what the answer named is gone");
}

#[test]
fn a_reset_of_all_wipes_all_that_every_project_had() {
    let bench = Bench::start();
    let before = [bench.fill(&bench.here, HERE), bench.fill(&bench.there, THERE)];
    bench.reset("/control/reset");
    for (client, project, before) in [(&bench.here, HERE, &before[0]), (&bench.there, THERE, &before[1])] {
        bench.assert_empty(client, project);
        assert_ne!(create_once(client, project), before[0]);
    }
}

#[test]
fn what_is_made_after_a_reset_is_all_there_is_and_its_ids_go_on_ascending() {
    let bench = Bench::start();
    let mut newest = String::new();
    for path in [reset_of(HERE), "/control/reset".to_owned(), reset_of(HERE)] {
        let id = create(&bench.here, HERE, "web").json()["server_group"]["id"].as_str().unwrap().to_owned();
        assert!(id > newest, "{id} is not behind {newest}");
        assert_eq!(bench.state(&bench.here, HERE)["groups used"], 1);
        bench.reset(&path);
        newest = id;
    }
}

#[test]
fn the_quota_counts_from_nothing_after_a_reset() {
    let bench = Bench::start_with(|settings| settings.quota.groups_per_project = 2);
    for path in [reset_of(HERE), "/control/reset".to_owned()] {
        for project in [(&bench.here, HERE), (&bench.there, THERE)] {
            while create(project.0, project.1, "web").status == 200 {}
            create(project.0, project.1, "web").ecs_error(403, "Ecs.1000");
        }
        bench.reset(&path);
        for nth in 0..2 {
            assert_eq!(create(&bench.here, HERE, "web").status, 200, "{nth}");
        }
        create(&bench.here, HERE, "web").ecs_error(403, "Ecs.1000");
        let others = create(&bench.there, THERE, "web").status;
        assert_eq!(others, if path == "/control/reset" { 200 } else { 403 });
    }
}

#[test]
fn tokens_live_on() {
    let bench = Bench::start();
    for path in [reset_of(HERE), "/control/reset".to_owned()] {
        bench.reset(&path);
        assert_eq!(create(&bench.here, HERE, "web").status, 200);
        assert_eq!(create(&bench.there, THERE, "web").status, 200);
    }
}

#[test]
fn the_log_keeps_what_was_before_and_tells_of_the_reset() {
    let bench = Bench::start();
    bench.fill(&bench.here, HERE);
    bench.fill(&bench.there, THERE);
    let database = bench.app.database();
    let before = records(&database);
    let theirs = traces(&bench.there, THERE, "limit=200");

    bench.reset(&reset_of(HERE));
    assert_eq!(traces(&bench.here, HERE, ""), [] as [Value; 0]);
    let all = traces(&bench.here, HERE, "limit=200&include_before_reset=true");
    assert_eq!(trace_names(&all)[..2], ["projectReset", "createServerGroup"]);
    let (reset, expected) =
        (&all[0], [("trace_type", "SystemAction"), ("trace_rating", "normal"), ("project_id", HERE)]);
    for (field, value) in expected {
        assert_eq!(reset[field], value, "{reset}");
    }
    assert_eq!(traces(&bench.there, THERE, "limit=200"), theirs);
    create(&bench.here, HERE, "new");
    assert_eq!(trace_names(&traces(&bench.here, HERE, "")), ["createServerGroup"]);

    bench.reset("/control/reset");
    for (client, project) in [(&bench.here, HERE), (&bench.there, THERE)] {
        assert_eq!(traces(client, project, ""), [] as [Value; 0]);
    }
    let before_it = traces(&bench.there, THERE, "limit=200&include_before_reset=true");
    assert_eq!(before_it, theirs, "it is of no one project, so it is in no listing");

    let after = records(&database);
    assert_eq!(after[..before.len()], before);
    let told: Vec<_> = after[before.len()..]
        .iter()
        .map(|record| (record["action"].as_str().unwrap(), &record["actor"]["type"], &record["project_id"]))
        .collect();
    let operator = json!("operator");
    assert_eq!(
        [told[0], told[2]],
        [
            ("ecs-groupd:project:reset", &operator, &json!(HERE)),
            ("ecs-groupd:database:reset", &operator, &Value::Null),
        ]
    );
}

#[test]
fn a_project_that_never_had_anything_is_reset_like_any_other() {
    let bench = Bench::start();
    let before = records(&bench.app.database()).len();
    for _ in 0..2 {
        bench.reset(&reset_of(EMPTY));
    }
    let after = records(&bench.app.database());
    assert_eq!(after.len(), before + 2, "each is recorded");
    let token = token_for(&bench.app.client, "acme", "acme", PASSWORD, "empty");
    let empty = bench.app.client.with_token(&token);
    bench.assert_empty(&empty, EMPTY);
    assert_eq!(create(&empty, EMPTY, "web").status, 200);
}

#[test]
fn an_id_that_is_none_is_named_and_nothing_is_reset() {
    let bench = Bench::start();
    bench.fill(&bench.here, HERE);
    let before = (bench.state(&bench.here, HERE), records(&bench.app.database()));
    for bad in [
        "here",
        &HERE.to_uppercase(),
        &HERE[1..],
        &format!("{HERE}0"),
        "de000000-0000-0000-0000-0000000000b1",
    ] {
        let answer = bench.app.operate("POST", &reset_of(bad), "");
        assert_eq!(answer.status, 400, "{}", answer.text);
        let message = format!("project_id in the path is {bad:?}, which is not 32 lower-case hex digits.");
        assert_eq!(answer.json(), json!({ "error": message }));
    }
    assert_eq!((bench.state(&bench.here, HERE), records(&bench.app.database())), before);
}

#[test]
fn without_the_operators_token_nothing_is_reset() {
    let bench = Bench::start();
    bench.fill(&bench.here, HERE);
    let before = (bench.state(&bench.here, HERE), records(&bench.app.database()));
    let control = bench.app.control_client();
    for path in [reset_of(HERE), "/control/reset".to_owned()] {
        let token = token_for(&bench.app.client, "acme", "acme", PASSWORD, "here");
        for headers in [&[][..], &[("authorization", "Bearer x")], &[("x-auth-token", &token)]] {
            assert_eq!(control.send("POST", &path, headers, &[]).status, 401, "{path} {headers:?}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(bench.app.operate(method, &path, "").status, 405, "{method} {path}");
        }
        assert_eq!(bench.app.client.post_json(&path, "").status, 404, "it is not the API's");
    }
    assert_eq!(bench.state(&bench.here, HERE), before.0);
    let resets = records(&bench.app.database());
    assert!(!resets.iter().any(|record| record["action"].as_str().unwrap().ends_with(":reset")));
}

/// Runs `ecs-groupd reset` in a folder.
fn reset(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["reset", "--database", DATABASE]).args(arguments);
    command.env_clear().current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A database that a service left, with all that two projects can have.
fn left() -> (TempDir, PathBuf) {
    let bench = Bench::start();
    bench.fill(&bench.here, HERE);
    bench.fill(&bench.there, THERE);
    let folder = bench.app.stop();
    let database = folder.path().join(DATABASE);
    (folder, database)
}

/// How many rows of each table belong to a project.
fn rows_of(database: &Path, project: &str) -> Vec<i64> {
    let conn = rusqlite::Connection::open(database).unwrap();
    ["server_group", "member", "server", "idempotency_key"]
        .map(|table| {
            let sql = format!("select count(*) from {table} where project_id = unhex(?)");
            conn.query_one(&sql, [project], |row| row.get(0)).unwrap()
        })
        .to_vec()
}

fn verify(folder: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["audit", "verify", "--state", "--database", DATABASE]);
    let verified = command.env_clear().current_dir(folder).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn the_verb_resets_one_project_or_all_and_the_log_leads_to_what_is_left() {
    let (folder, database) = left();
    let full = vec![2, 1, 1, 1];
    assert_eq!((rows_of(&database, HERE), rows_of(&database, THERE)), (full.clone(), full.clone()));
    let done = reset(folder.path(), &["--yes", "--project", HERE]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(told, format!("every group of project {HERE} is gone; the audit log stays\n"));
    assert_eq!((rows_of(&database, HERE), rows_of(&database, THERE)), (vec![0; 4], full));
    verify(folder.path());
    let done = reset(folder.path(), &["--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert_eq!(rows_of(&database, THERE), [0; 4]);
    verify(folder.path());
    let resets: Vec<_> = records(&database).into_iter().rev().take(2).collect();
    assert_eq!(resets[0]["action"], "ecs-groupd:database:reset");
    assert_eq!(resets[1]["action"], "ecs-groupd:project:reset");
    assert!(resets.iter().all(|record| record["door"] == "cli"));
}

#[test]
fn the_verb_does_nothing_without_yes_and_says_what_it_would_do() {
    let (folder, database) = left();
    let before = (rows_of(&database, HERE), records(&database));
    for (arguments, whose) in
        [(&[][..], "every project"), (&["--project", HERE], &*format!("project {HERE}"))]
    {
        let refused = reset(folder.path(), arguments);
        assert_eq!(refused.status.code(), Some(2));
        let expected =
            format!("reset deletes every group of {whose} in {DATABASE}: say --yes if that is meant");
        assert!(said(&refused).contains(&expected), "{}", said(&refused));
    }
    assert_eq!((rows_of(&database, HERE), records(&database)), before);
}

#[test]
fn the_verb_names_an_id_that_is_none() {
    let (folder, database) = left();
    let before = (rows_of(&database, HERE), records(&database));
    for bad in ["", "here", &HERE.to_uppercase(), &HERE[1..]] {
        for yes in [&["--yes"][..], &[]] {
            let refused = reset(folder.path(), &[yes, &["--project", bad]].concat());
            assert_eq!(refused.status.code(), Some(2));
            let expected = format!("--project {bad:?} is not 32 lower-case hex digits");
            assert!(said(&refused).contains(&expected), "{}", said(&refused));
        }
    }
    assert_eq!((rows_of(&database, HERE), records(&database)), before);
}

#[test]
fn the_verb_resets_nothing_under_a_running_service() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", DATABASE]);
    process.client.create("web");
    for arguments in [&["--yes"][..], &["--yes", "--project", dev::PROJECT_ID]] {
        assert_eq!(reset(folder.path(), arguments).status.code(), Some(4));
    }
    assert_eq!(process.client.list_ids().len(), 1);
}
