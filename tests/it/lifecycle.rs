//! What a start must leave alone, and what a stop must not lose or wait for.
//!
//! (`service.rs` has the ordinary start, stop and refusals.)

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::{App, test, web};
use ecs_groupd::api;
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::identities::dev::DevSecrets;
use ecs_groupd::identities::{Current, Identities};
use ecs_groupd::meter::Meter;
use ecs_groupd::server;
use ecs_groupd::settings::{Overrides, Settings};
use ecs_groupd::store::{self, OpenError};
use serde_json::{Value, json};

use crate::harness::{Client, Process, TestApp, connect, create_body, groups_path, records};

const DATABASE: &str = "ecs-groupd.db";
/// Much longer than anything here takes, and much shorter than what it would take to wait for an idle connection.
const SOON: Duration = Duration::from_secs(10);

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(arguments).current_dir(folder).env("TMPDIR", folder).stderr(Stdio::null());
    command
}

fn serve_command(folder: &Path) -> Command {
    program(folder, &["serve", "--dev", "--listen", "127.0.0.1:0", "--database", DATABASE])
}

/// Runs the program to its end.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_ready_file_is_whole_when_it_is_first_seen_and_requests_are_answered_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready");
    let mut command = serve_command(folder.path());
    let mut child = command.args(["--ready-file", "ready"]).stdout(Stdio::null()).spawn().unwrap();
    let ready = loop {
        match std::fs::read(&ready_file) {
            Ok(bytes) => break serde_json::from_slice::<Value>(&bytes).unwrap(),
            Err(_not_yet) => assert!(child.try_wait().unwrap().is_none(), "it ended before it was ready"),
        }
    };
    let address = |key: &str| ready[key].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let client = Client::new(address("api_url"));
    assert_eq!(client.get("/readyz").status, 200);
    client.create("web");
    assert_eq!(Client::new(address("control_url")).get("/").status, 404);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_process_leaves_the_first_ones_ready_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::spawn(serve_command(folder.path()), folder.path());
    let ready = std::fs::read(folder.path().join("ready.json")).unwrap();
    let second = serve_command(folder.path()).args(["--ready-file", "ready.json"]).status().unwrap();
    assert_eq!(second.code(), Some(4));
    let still = std::fs::read(folder.path().join("ready.json")).expect("the first one's ready file is there");
    assert_eq!(still, ready);
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn a_database_is_held_whatever_name_it_is_opened_by() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::spawn(serve_command(folder.path()), folder.path());
    symlink(DATABASE, folder.path().join("link.db")).unwrap();
    let absolute = folder.path().join(DATABASE);
    for name in [absolute.to_str().unwrap(), "./ecs-groupd.db", "link.db"] {
        let reset = run(folder.path(), &["reset", "--yes", "--database", name]);
        assert_eq!(reset.status.code(), Some(4), "{name}: {}", said(&reset));
    }
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn what_is_not_ours_or_newer_is_refused_by_serve_and_reset_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("short.txt"), "hi").unwrap();
    std::fs::write(at("long.txt"), "Dear diary. ".repeat(1_000)).unwrap();
    let diary = "create table diary (day text); insert into diary values ('monday')";
    rusqlite::Connection::open(at("diary.db")).unwrap().execute_batch(diary).unwrap();
    let no_table = "create view today as select 'monday' as day";
    rusqlite::Connection::open(at("view.db")).unwrap().execute_batch(no_table).unwrap();
    let process = Process::spawn(serve_command(folder.path()), folder.path());
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    std::fs::rename(at(DATABASE), at("newer.db")).unwrap();
    rusqlite::Connection::open(at("newer.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();

    for name in ["short.txt", "long.txt", "diary.db", "view.db", "newer.db"] {
        let before = std::fs::read(at(name)).unwrap();
        // Should it start, it stops at once.
        let serve = &["serve", "--dev", "--listen", "127.0.0.1:0", "--exit-with-parent"][..];
        for verb in [serve, &["reset", "--yes"]] {
            let refused = run(folder.path(), &[verb, &["--database", name]].concat());
            assert_eq!(refused.status.code(), Some(5), "{verb:?} {name}: {}", said(&refused));
            let reason =
                if name == "newer.db" { "has schema version 99" } else { "is not a database of ecs-groupd" };
            assert!(said(&refused).contains(&format!("{name} {reason}")), "{}", said(&refused));
            assert!(std::fs::read(at(name)).unwrap() == before, "{verb:?} changed {name}");
        }
    }
}

#[test]
fn somebody_elses_wal_is_left_as_it_was_however_long_the_refused_service_takes_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = rusqlite::Connection::open(at("open.db")).unwrap();
    let diary = "create table diary (day text); insert into diary values ('monday')";
    open.execute_batch(&format!("pragma journal_mode = wal; {diary}")).unwrap();
    // As its owner's crash would leave it: the last day only in the WAL.
    std::fs::copy(at("open.db"), at("diary.db")).unwrap();
    std::fs::copy(at("open.db-wal"), at("diary.db-wal")).unwrap();
    let both = || (std::fs::read(at("diary.db")).unwrap(), std::fs::read(at("diary.db-wal")).ok());
    let before = both();
    let flags = Overrides { database: Some(at("diary.db")), ..Overrides::default() };
    let settings = Settings::load_with(None, no_environment(), &flags).unwrap();
    server::block_on(async {
        let (clock, meter) = (Clock::System, Meter::default().into());
        let refused = store::open(settings.store_options(), clock, Ids::seeded(1), meter).await;
        assert!(matches!(refused, Err(OpenError::Foreign { .. })));
    });
    // What it had open is closed by a thread of its own.
    let is_open = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .any(|entry| std::fs::read_link(entry.unwrap().path()).is_ok_and(|file| file == at("diary.db")))
    };
    while is_open() {
        thread::yield_now();
    }
    assert!(both() == before, "it emptied the WAL");
}

#[test]
fn a_control_socket_never_takes_the_place_of_another_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("precious.txt"), "precious").unwrap();
    let mut command = serve_command(folder.path());
    command.args(["--control", "unix:precious.txt", "--ready-file", "ready.json"]);
    command.stdin(Stdio::piped()).arg("--exit-with-parent");
    let mut child = command.spawn().unwrap();
    // Should it start, it stops at once.
    drop(child.stdin.take());
    let code = child.wait().unwrap().code();
    assert_eq!(std::fs::read_to_string(folder.path().join("precious.txt")).ok().as_deref(), Some("precious"));
    assert_eq!(code, Some(1));
}

#[test]
fn a_control_socket_that_a_kill_left_behind_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = serve_command(folder.path());
        command.args(["--control", "unix:control.sock"]);
        Process::spawn(command, folder.path())
    };
    serve().kill();
    let socket = folder.path().join("control.sock");
    assert!(std::fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let _process = serve();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// How many TCP sockets a process listens on.
fn listeners_of(process: &Process) -> usize {
    let folder = format!("/proc/{}", process.id());
    let descriptors = std::fs::read_dir(format!("{folder}/fd")).unwrap();
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| {
            std::fs::read_link(entry.unwrap().path()).ok()?.into_os_string().into_string().ok()
        })
        .collect();
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let table = std::fs::read_to_string(format!("{folder}/net/{table}")).unwrap_or_default();
            table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (state, inode) = (columns[3], columns[9]);
            state == "0A" && sockets.contains(&format!("socket:[{inode}]"))
        })
        .count()
}

#[test]
fn without_a_control_listener_there_is_one_port_and_with_one_there_are_two() {
    let folder = tempfile::tempdir().unwrap();
    for (control, listeners) in [("off", 1), ("auto", 2), ("unix:control.sock", 1)] {
        let mut command = serve_command(folder.path());
        command.args(["--control", control]);
        let process = Process::spawn(command, folder.path());
        assert_eq!(listeners_of(&process), listeners, "{control}");
        assert_eq!(process.terminate(), Some(0));
    }
}

#[test]
fn a_start_that_is_refused_leaves_no_temporary_directory_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [&[&str]; 4] = [
        &["--listen", "127.0.0.1:0"],
        &["--dev", "--listen", "0.0.0.0:0"],
        &["--dev", "--listen", &taken],
        &["--dev", "--listen", "127.0.0.1:0", "--config", "nowhere.toml"],
    ];
    for arguments in cases {
        let refused = run(folder.path(), &[&["serve", "--ephemeral"], arguments].concat());
        assert!(matches!(refused.status.code(), Some(1..=3)), "{arguments:?}: {}", said(&refused));
        assert_eq!(names_in(folder.path()), Vec::<String>::new(), "{arguments:?}");
    }
}

#[test]
fn dev_listens_on_loopback_only_by_either_protocol_and_listener() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        ["--listen", "0.0.0.0:0", "--control", "off"],
        ["--listen", "[::]:0", "--control", "off"],
        ["--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"],
        ["--listen", "127.0.0.1:0", "--control", "[::]:0"],
    ] {
        let refused = run(folder.path(), &[&["serve", "--dev", "--ephemeral"], &arguments[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", said(&refused));
        assert!(said(&refused).contains("--dev listens on loopback only"), "{}", said(&refused));
    }
}

#[test]
fn no_kind_of_idle_connection_holds_up_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve_command(folder.path());
    // So that waiting for one of them would be noticed.
    command.env("ECS_GROUPD__HTTP__STOP_DEADLINE_S", "3600").env("ECS_GROUPD__HTTP__KEEP_ALIVE_S", "3600");
    let process = Process::spawn(command, folder.path());
    let address = process.client.address();
    let silent = connect(address);
    let mut after_a_request = connect(address);
    after_a_request.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(after_a_request.read(&mut [0; 1024]).unwrap() > 0);
    let mut control = connect(
        process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap(),
    );
    control.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(control.read(&mut [0; 1024]).unwrap() > 0);
    let started = Instant::now();
    assert_eq!(process.terminate(), Some(0));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    drop((silent, after_a_request, control));
}

#[test]
fn a_request_that_never_ends_holds_up_the_stop_until_the_deadline_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve_command(folder.path());
    command
        .env("ECS_GROUPD__HTTP__STOP_DEADLINE_S", "1")
        .env("ECS_GROUPD__HTTP__BODY_DEADLINE_MS", "3600000");
    let process = Process::spawn(command, folder.path());
    let mut never_ends = connect(process.client.address());
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\n\r\n",
        groups_path()
    );
    never_ends.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    never_ends.read_exact(&mut asked).unwrap();
    let started = Instant::now();
    assert_eq!(process.terminate(), Some(0));
    let took = started.elapsed();
    assert!((Duration::from_millis(900)..SOON).contains(&took), "{took:?}");
    assert_eq!(records(&folder.path().join(DATABASE)), Vec::<Value>::new());
}

#[test]
fn a_stop_under_load_answers_all_that_it_wrote_and_empties_the_wal() {
    const CLIENTS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::spawn(serve_command(folder.path()), folder.path());
    let (sender, acknowledged) = mpsc::channel();
    let mut answers = 0;
    let json = [("content-type", "application/json")];
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (client, sender) = (process.client.clone(), sender.clone());
            scope.spawn(move || {
                let body = create_body("web");
                while let Ok(answer) = client.try_send("POST", &groups_path(), &json, body.as_bytes()) {
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    sender.send(()).unwrap();
                }
            });
        }
        drop(sender);
        answers += acknowledged.iter().take(100).count();
        process.signal_terminate();
        answers += acknowledged.iter().count();
    });
    assert_eq!(process.wait(), Some(0));
    assert_eq!(records(&folder.path().join(DATABASE)).len(), answers, "what was written was answered");
    let wal = std::fs::metadata(folder.path().join("ecs-groupd.db-wal"));
    assert!(wal.map_or(true, |wal| wal.len() == 0));
}

#[test]
fn sigint_stops_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::spawn(serve_command(folder.path()), folder.path());
    let kill = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(process.wait(), Some(0));
    assert!(!folder.path().join("ready.json").exists());
}

#[test]
fn a_log_of_its_own_tells_how_it_started_and_why_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve_command(folder.path());
    command.arg("--exit-with-parent").stderr(File::create(folder.path().join("log")).unwrap());
    let process = Process::spawn(command, folder.path());
    assert_eq!(process.close_stdin(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = lines
        .iter()
        .filter_map(|line| line["message"].as_str())
        .filter(|message| *message != "answered")
        .collect();
    let signed = "the audit log was signed";
    assert_eq!(messages, [signed, "ready", "stopping", signed, "stopped"]);
    assert!(lines.iter().any(|line| line["reason"] == "standard input closed"));
}

#[test]
fn a_service_whose_schema_was_changed_under_it_is_alive_and_not_ready_and_says_why() {
    let app = TestApp::start();
    assert_eq!(app.client.get("/readyz").json(), json!({ "status": "ready" }));
    let conn = rusqlite::Connection::open(app.database()).unwrap();
    let known: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let set = |version: u32| {
        let conn = rusqlite::Connection::open(app.database()).unwrap();
        conn.pragma_update(None, "user_version", version).unwrap();
    };
    set(99);
    let unready = app.client.get("/readyz");
    assert_eq!(unready.status, 503);
    let reason = unready.json()["reason"].as_str().unwrap().to_owned();
    assert_eq!(unready.json(), json!({ "status": "unready", "reason": reason }));
    assert!(reason.contains(&format!("version 99, not {known}")), "{reason}");
    assert_eq!(app.client.get("/livez").status, 200);
    set(known);
    assert_eq!(app.client.get("/readyz").status, 200);
}

#[test]
fn a_service_whose_writer_has_stopped_is_alive_and_not_ready_and_takes_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Overrides { database: Some(folder.path().join(DATABASE)), ..Overrides::default() };
    let settings = Settings::load_with(None, no_environment(), &flags).unwrap();
    let (clock, meter) = (Clock::System, Meter::default().into());
    server::block_on(async {
        let opened = store::open(settings.store_options(), clock, Ids::seeded(1), meter).await;
        let (store, writer) = opened.unwrap();
        drop(writer);
        let shared = api::Shared {
            store: store.into(),
            identities: Current::new(Identities::dev(&DevSecrets::well_known(), true).unwrap()).into(),
            gate: settings.gate().into(),
            site: settings.site().into(),
            clock: Clock::System,
            ids: std::sync::Mutex::new(Ids::seeded(2)).into(),
            limits: settings.http_limits(),
        };
        let app = App::new()
            .wrap(actix_web::middleware::from_fn(api::exchange::observe))
            .configure(api::mount(shared, api::routes()))
            .default_service(web::to(api::not_found));
        let app = test::init_service(app).await;
        let live = test::call_service(&app, test::TestRequest::get().uri("/livez").to_request()).await;
        assert_eq!(live.status(), 200);
        let unready = test::call_service(&app, test::TestRequest::get().uri("/readyz").to_request()).await;
        assert_eq!(unready.status(), 503);
        let body: Value = test::read_body_json(unready).await;
        assert_eq!(body, json!({ "status": "unready", "reason": "the writer has stopped" }));
        let create = test::TestRequest::post().uri(&groups_path()).set_payload(create_body("late"));
        let create = create.insert_header(("content-type", "application/json")).to_request();
        let turned_away = test::call_service(&app, create).await;
        assert_eq!(turned_away.status(), 503);
        assert_eq!(turned_away.headers().get("retry-after").unwrap(), "1");
        let body: Value = test::read_body_json(turned_away).await;
        assert_eq!(body["error"]["code"], "Common.1503");
    });
}

fn no_environment() -> config::Environment {
    config::Environment::default().source(Some(config::Map::default()))
}
