//! The program as a process: how it starts, what it tells, how it stops, and what it refuses.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Client, Process, TestApp, create_body, groups_path, records};

/// Runs the program to its end.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ecs-groupd")).args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text<'ready>(ready: &'ready Value, key: &str) -> &'ready str {
    ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {ready}"))
}

fn control_of(process: &Process) -> Client {
    Client::new(text(&process.ready, "control_url").strip_prefix("http://").unwrap().parse().unwrap())
}

#[test]
fn the_ready_file_holds_all_that_a_client_needs_and_goes_when_the_service_goes() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--ephemeral"]);
    let keys: Vec<&str> = process.ready.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "api_url",
        "control_url",
        "region",
        "domain_name",
        "project_id",
        "project_name",
        "user_name",
        "password",
        "access_key",
        "secret_key",
        "token",
        "control_token",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert!(!text(&process.ready, "api_url").ends_with(":0"));
    assert!(!text(&process.ready, "control_url").ends_with(":0"), "the control listener's port is free, too");

    let path = format!("/v1/{}/cloudservers/os-server-groups", text(&process.ready, "project_id"));
    let token = ("x-auth-token", text(&process.ready, "token"));
    assert_eq!(process.client.send("GET", &path, &[token], &[]).status, 200);
    let bearer = format!("Bearer {}", text(&process.ready, "control_token"));
    let reset = control_of(&process).send("POST", "/control/reset", &[("authorization", &bearer)], &[]);
    assert_eq!(reset.status, 204);

    assert_eq!(process.terminate(), Some(0));
    assert!(!folder.path().join("ready.json").exists());
}

#[test]
fn the_account_of_dev_is_the_same_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let account = || {
        let process = Process::serve(folder.path(), &["--ephemeral"]);
        let mut ready = process.ready.clone();
        let addresses = ready.as_object_mut().unwrap();
        addresses.remove("api_url");
        addresses.remove("control_url");
        ready
    };
    assert_eq!(account(), account());
}

#[test]
fn sigterm_empties_the_wal_and_exits_with_0_though_a_client_keeps_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    let mut idle = TcpStream::connect(process.client.address()).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    let wal = std::fs::metadata(folder.path().join("ecs-groupd.db-wal"));
    assert!(wal.map_or(true, |wal| wal.len() == 0));
}

#[test]
fn a_request_in_flight_at_sigterm_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    let body = create_body("in flight");
    let (first, rest) = body.split_at(10);
    let mut stream = TcpStream::connect(process.client.address()).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        groups_path(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The service asks for the body, so the request is in flight.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(first.as_bytes()).unwrap();
    process.signal_terminate();
    // Its listener closes before it waits for what is in flight.
    while TcpStream::connect(process.client.address()).is_ok() {}
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(process.wait(), Some(0));
    assert_eq!(records(&folder.path().join("ecs-groupd.db")).len(), 1);
}

#[test]
fn with_exit_with_parent_it_stops_when_standard_input_closes() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--ephemeral", "--exit-with-parent"]);
    assert_eq!(process.close_stdin(), Some(0));
}

#[test]
fn an_ephemeral_database_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--ephemeral"]).env("TMPDIR", &temporary);
    command.stderr(std::process::Stdio::null());
    let process = Process::spawn(command, folder.path());
    process.client.create("web");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn a_second_process_on_the_same_database_exits_at_once_and_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    let second =
        run(folder.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--database", "ecs-groupd.db"]);
    assert_eq!(second.status.code(), Some(4));
    let said = said(&second);
    assert!(said.contains(&format!("another ecs-groupd (process {})", process.id())), "{said}");
    assert!(said.contains("use another --database"), "{said}");
    process.client.create("still works");
}

#[test]
fn a_link_to_a_database_meets_the_same_lock() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    std::os::unix::fs::symlink("ecs-groupd.db", folder.path().join("link.db")).unwrap();
    let second = run(folder.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--database", "link.db"]);
    assert_eq!(second.status.code(), Some(4), "{}", said(&second));
}

#[test]
fn a_process_that_does_not_start_leaves_the_ready_file_of_the_one_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    let arguments = ["serve", "--dev", "--database", "ecs-groupd.db", "--ready-file", "ready.json"];
    assert_eq!(run(folder.path(), &arguments).status.code(), Some(4));
    assert!(folder.path().join("ready.json").exists());
}

#[test]
fn reset_refuses_a_database_that_a_service_holds_and_afterwards_wipes_groups_but_not_records() {
    let folder = tempfile::tempdir().unwrap();
    let reset = || run(folder.path(), &["reset", "--yes", "--database", "ecs-groupd.db"]);
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    process.client.create("web");
    assert_eq!(reset().status.code(), Some(4));
    assert_eq!(process.client.list_ids().len(), 1);
    assert_eq!(process.terminate(), Some(0));

    let unconfirmed = run(folder.path(), &["reset", "--database", "ecs-groupd.db"]);
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(said(&unconfirmed).contains("--yes"));
    assert_eq!(records(&folder.path().join("ecs-groupd.db")).len(), 1);

    assert_eq!(reset().status.code(), Some(0));
    let records = records(&folder.path().join("ecs-groupd.db"));
    assert_eq!(records.len(), 2, "the log stays");
    assert_eq!(records[1]["action"], "ecs-groupd:database:reset");
    assert_eq!(records[1]["actor"]["type"], "operator");
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    assert!(process.client.list_ids().is_empty());
}

#[test]
fn reset_of_a_database_that_is_not_there_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let reset = run(folder.path(), &["reset", "--yes", "--database", "nowhere.db"]);
    assert_eq!(reset.status.code(), Some(1));
    assert!(said(&reset).contains("there is no database at nowhere.db"), "{}", said(&reset));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn somebody_elses_file_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    let conn = rusqlite::Connection::open(&foreign).unwrap();
    conn.execute_batch("create table diary (day text); insert into diary values ('monday');").unwrap();
    drop(conn);
    std::fs::write(folder.path().join("letter.txt"), "Dear reader, this is no database. ".repeat(100))
        .unwrap();
    for name in ["foreign.db", "letter.txt"] {
        let before = std::fs::read(folder.path().join(name)).unwrap();
        let serve = run(folder.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--database", name]);
        assert_eq!(serve.status.code(), Some(5), "{}", said(&serve));
        assert!(said(&serve).contains("is not a database of ecs-groupd"), "{}", said(&serve));
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), before, "{name}");
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_was() {
    let app = TestApp::start();
    app.client.create("web");
    let folder = app.stop();
    let database = folder.path().join("ecs-groupd.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&database).unwrap();
    let serve =
        run(folder.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--database", "ecs-groupd.db"]);
    assert_eq!(serve.status.code(), Some(5), "{}", said(&serve));
    assert!(said(&serve).contains("schema version 99"), "{}", said(&serve));
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[test]
fn without_dev_or_off_loopback_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        (&["serve", "--listen", "127.0.0.1:0"][..], "run with --dev"),
        (&["serve", "--dev", "--listen", "0.0.0.0:0"], "api.listen is set to 0.0.0.0:0"),
        (
            &["serve", "--dev", "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"],
            "control.listen is set to",
        ),
    ] {
        let serve = run(folder.path(), arguments);
        assert_eq!(serve.status.code(), Some(2), "{arguments:?}: {}", said(&serve));
        assert!(said(&serve).contains(reason), "{arguments:?}: {}", said(&serve));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and leaves nothing behind");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve =
        run(folder.path(), &["serve", "--dev", "--ephemeral", "--listen", &address, "--control", "off"]);
    assert_eq!(serve.status.code(), Some(1));
    assert!(said(&serve).contains(&format!("cannot listen on {address}")), "{}", said(&serve));
}

#[test]
fn the_control_listener_needs_its_token_and_answers_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--ephemeral"]);
    process.client.create("web");
    let control = control_of(&process);
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "dev-control-token")]]
    {
        let answer = control.send("POST", "/control/reset", headers, &[]);
        assert_eq!(answer.status, 401);
        assert!(answer.json()["error"].as_str().unwrap().contains("Authorization: Bearer"));
    }
    assert_eq!(process.client.list_ids().len(), 1);
    let wrong_method = control.get("/control/reset");
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, Some("POST")));
    assert!(wrong_method.json()["error"].is_string());
    assert_eq!(control.get("/").status, 404);
    assert!(control.get("/").json()["error"].is_string());
    let reset = control.send("POST", "/control/reset", &[("authorization", "Bearer dev-control-token")], &[]);
    assert_eq!((reset.status, reset.text.as_str()), (204, ""));
    assert!(process.client.list_ids().is_empty());
}

#[test]
fn the_control_listener_can_be_a_unix_socket_or_off() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let control = format!("unix:{}", socket.display());
    let process = Process::serve(folder.path(), &["--ephemeral", "--control", &control]);
    assert_eq!(process.ready["control_url"], control.as_str());
    process.client.create("web");
    let mut stream = UnixStream::connect(&socket).unwrap();
    let request = "POST /control/reset HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Authorization: Bearer dev-control-token\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(process.client.list_ids().is_empty());
    assert_eq!(process.terminate(), Some(0));
    assert!(!socket.exists(), "it goes when the service goes");

    // A file that is no socket is somebody's, and so is a socket that somebody listens on.
    std::fs::write(&socket, "a letter").unwrap();
    let arguments = ["serve", "--dev", "--ephemeral", "--listen", "127.0.0.1:0", "--control", &control];
    let serve = run(folder.path(), &arguments);
    assert_eq!(serve.status.code(), Some(1));
    assert!(said(&serve).contains("control.listen: cannot listen on"), "{}", said(&serve));
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "a letter");

    let process = Process::serve(folder.path(), &["--ephemeral", "--control", "off"]);
    assert_eq!(process.ready["control_url"], Value::Null);
}

#[test]
fn alive_and_ready_are_said_in_json() {
    let app = TestApp::start();
    assert_eq!(app.client.get("/livez").json(), serde_json::json!({ "status": "alive" }));
    assert_eq!(app.client.get("/readyz").json(), serde_json::json!({ "status": "ready" }));
}
