//! The log: one line for each response, never a secret, and no harm when nobody reads it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use ecs_groupd::identities::dev;
use serde_json::Value;

use crate::harness::{Client, Process, connect, create_body, group_path, groups_path, records, send_raw};

const DATABASE: &str = "ecs-groupd.db";

fn serve(folder: &Path, level: &str, log: impl Into<Stdio>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--database", DATABASE]);
    command.env("ECS_GROUPD__LOG__LEVEL", level).env("ECS_GROUPD__HTTP__BODY_DEADLINE_MS", "50").stderr(log);
    Process::spawn(command, folder)
}

fn control_client(process: &Process) -> Client {
    Client::new(
        process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap(),
    )
}

#[test]
fn every_response_of_both_listeners_has_one_line_of_json_with_its_request_id_and_status() {
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path(), "info", File::create(folder.path().join("log")).unwrap());
    let (api, control) = (&process.client, control_client(&process));
    let json = ("content-type", "application/json");
    let bearer = ("authorization", "Bearer dev-control-token");
    let too_long = format!("{}?{}", groups_path(), "x".repeat(40_000));
    let id = api.create("web");
    let answers = [
        ("POST", groups_path(), api.post_json(&groups_path(), "{")),
        ("POST", groups_path(), api.send("POST", &groups_path(), &[json, ("x-auth-token", "x")], b"{}")),
        ("POST", groups_path(), api.send("POST", &groups_path(), &[("content-type", "text/plain")], b"x")),
        ("POST", groups_path(), api.send("POST", &groups_path(), &[json], &vec![b' '; 2_000_000])),
        ("PATCH", groups_path(), api.send("PATCH", &groups_path(), &[], &[])),
        ("GET", groups_path(), api.get(&too_long)),
        ("GET", "/readyz".to_owned(), api.get("/readyz")),
        ("GET", group_path(&id), api.get(&group_path(&id))),
        ("DELETE", group_path(&id), api.delete(&group_path(&id))),
        ("POST", "/control/reset".to_owned(), control.send("POST", "/control/reset", &[], &[])),
        ("POST", "/control/reset".to_owned(), control.send("POST", "/control/reset", &[bearer], &[])),
        ("GET", "/nowhere".to_owned(), control.get("/nowhere")),
    ];
    let statuses = answers.each_ref().map(|(_, _, answer)| answer.status);
    assert_eq!(statuses, [400, 401, 415, 413, 405, 414, 200, 200, 204, 401, 204, 404]);
    assert_eq!(process.terminate(), Some(0));

    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for (method, path, answer) in &answers {
        let mut mine = lines.iter().filter(|line| line["request_id"] == answer.request_id());
        let line = mine.next().unwrap_or_else(|| panic!("no line for {method} {path} {}", answer.status));
        assert!(mine.next().is_none(), "two lines for {method} {path} {}", answer.status);
        assert_eq!((&line["method"], &line["path"]), (&Value::from(*method), &Value::from(path.as_str())));
        assert_eq!(line["status"], answer.status);
        assert!(line["micros"].is_u64(), "{line}");
    }
    assert_eq!(lines.last().unwrap()["message"], "stopped");
    for record in records(&folder.path().join(DATABASE)) {
        assert!(lines.iter().any(|line| line["request_id"] == record["request_id"]), "{record}");
    }
}

#[test]
fn a_secret_is_in_no_line_even_when_everything_is_logged_and_in_no_record() {
    const CANARY: &str = "canary-5f3b-9d21";
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path(), "trace", File::create(folder.path().join("log")).unwrap());
    let (api, control) = (&process.client, control_client(&process));
    let json = ("content-type", "application/json");
    let groups = groups_path();
    let query = format!("{groups}?limit={CANARY}&token={CANARY}");
    let long_query = format!("{groups}?{}", CANARY.repeat(3_000));
    let bearer = format!("Bearer {CANARY}");
    let with_unknown_keys = format!(
        r#"{{"server_group":{{"name":"web","policies":["anti-affinity"],"password":"{CANARY}"}},"{CANARY}":1}}"#
    );
    let bodies = [
        with_unknown_keys,
        format!("{{\"password\": \"{CANARY}\""),
        format!("\"{CANARY}\""),
        format!(r#"{{"server_group":{{"name":"web","policies":["{CANARY}"]}}}}"#),
        format!(r#"{{"server_group":{{"name":["{CANARY}"],"policies":["anti-affinity"]}}}}"#),
        CANARY.repeat(200_000),
    ];
    for body in &bodies {
        api.send("POST", &groups, &[json], body.as_bytes());
        api.send("POST", &groups, &[("content-type", CANARY)], body.as_bytes());
        api.send("POST", "/v1/x/cloudservers/os-server-groups", &[json], body.as_bytes());
    }
    for header in ["x-auth-token", "authorization", "cookie", "user-agent", "x-forwarded-for", "x-request-id"]
    {
        api.send("POST", &groups, &[json, (header, CANARY)], create_body("web").as_bytes());
        api.send("GET", &groups, &[(header, CANARY)], &[]);
    }
    for path in [&query, &long_query] {
        api.get(path);
        api.send("POST", path, &[json, ("x-auth-token", dev::TOKEN)], create_body("web").as_bytes());
    }
    control.send("POST", &format!("/control/reset?token={CANARY}"), &[("authorization", &bearer)], &[]);
    // What breaks off, and what does not even parse.
    let head = format!("POST {groups} HTTP/1.1\r\nHost: {CANARY}\r\nContent-Type: application/json\r\n");
    send_raw(
        api.address(),
        format!("{head}Content-Length: 100\r\nConnection: close\r\n\r\n{CANARY}").as_bytes(),
    );
    send_raw(api.address(), format!("{head}X-Auth-Token: {CANARY}\u{7f}\r\n\r\n").as_bytes());
    drop(connect(api.address()));
    assert_eq!(process.terminate(), Some(0));

    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "every line is JSON");
    assert!(log.lines().filter(|line| line.contains("\"answered\"")).count() > 30);
    if let Some(line) = log.lines().find(|line| line.contains(CANARY)) {
        panic!("{line:.2000}");
    }
    for secret in [dev::TOKEN, dev::CONTROL_TOKEN, dev::SECRET_KEY, dev::PASSWORD] {
        assert!(!log.contains(secret), "{secret}");
    }
    let records = Value::from(records(&folder.path().join(DATABASE))).to_string();
    assert!(records.contains("\"done\"") && records.contains("\"denied\""));
    assert!(!records.contains(CANARY), "{records}");
}

#[test]
fn a_level_of_off_logs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path(), "off", File::create(folder.path().join("log")).unwrap());
    process.client.create("web");
    process.client.post_json(&groups_path(), "{");
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "");
}

#[test]
fn a_service_whose_log_nobody_reads_any_more_serves_on_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let process = serve(folder.path(), "info", writer);
    // As when the suite that started it, or the pager behind a pipe, goes away.
    drop(reader);
    let answer = process.client.try_send("GET", "/livez", &[], &[]);
    assert_eq!(answer.expect("it still answers").status, 200);
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(records(&folder.path().join(DATABASE)).len(), 1);
}

#[test]
fn a_service_whose_log_has_no_room_serves_on_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let process = serve(folder.path(), "info", full);
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(records(&folder.path().join(DATABASE)).len(), 1);
}

#[test]
fn for_people_a_line_is_text_and_without_colours_where_no_terminal_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), "[log]\nformat = 'human'\n").unwrap();
    let log = File::create(folder.path().join("log")).unwrap();
    let process = Process::serve_with_log(folder.path(), &["--ephemeral", "--config", "settings.toml"], log);
    let id = process.client.get(&groups_path()).header("x-request-id").unwrap().to_owned();
    assert_eq!(process.terminate(), Some(0));
    let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let line =
        text.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("no line for {id}: {text}"));
    for part in [" INFO ", "answered", "method=\"GET\"", "status=200"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
}
