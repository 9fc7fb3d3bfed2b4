//! The log: one line for each response, and never a secret.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Process, create_body, group_path, groups_path, records};

/// A service that logs to a file; not a terminal, so in JSON.
fn serve(folder: &Path) -> Process {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    Process::serve_with_log(folder, &["--database", "ecs-groupd.db"], log)
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn every_response_has_one_line_with_its_request_id() {
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path());
    let answers = [
        ("POST", groups_path(), process.client.post_json(&groups_path(), &create_body("web"))),
        ("GET", groups_path(), process.client.get(&groups_path())),
        ("DELETE", group_path("none"), process.client.delete(&group_path("none"))),
        ("GET", "/nowhere".to_owned(), process.client.get("/nowhere")),
    ];
    assert_eq!(process.terminate(), Some(0));
    let lines = lines(folder.path());
    for (method, path, answer) in answers {
        let id = answer.header("x-request-id").unwrap();
        let mine: Vec<&Value> = lines.iter().filter(|line| line["request_id"] == id).collect();
        assert_eq!(mine.len(), 1, "{method} {path}");
        assert_eq!(mine[0]["method"], method);
        assert_eq!(mine[0]["path"], path.as_str());
        assert_eq!(mine[0]["status"], answer.status);
        assert!(mine[0]["micros"].is_u64());
    }
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn for_people_a_line_is_text_and_without_colours_where_no_terminal_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), "[log]\nformat = 'human'\n").unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
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

#[test]
fn a_secret_is_in_no_log_line_and_in_no_record_wherever_it_was_sent() {
    const CANARY: &str = "canary-5f3b";
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path());
    let send = |path: &str, headers: &[(&str, &str)], body: &str| {
        process.client.send("POST", path, headers, body.as_bytes());
    };
    let json = ("content-type", "application/json");
    send(&groups_path(), &[json, ("x-auth-token", CANARY)], &create_body("web"));
    send(&groups_path(), &[json, ("authorization", CANARY)], &create_body("web"));
    send(&format!("{}?token={CANARY}", groups_path()), &[json], &create_body("web"));
    send(&groups_path(), &[json], &format!("{{\"password\": \"{CANARY}\""));
    send(&groups_path(), &[json, ("cookie", CANARY), ("user-agent", CANARY)], &create_body("web"));
    assert_eq!(process.terminate(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("\"answered\""));
    assert!(!log.contains(CANARY), "{log}");
    assert!(!log.contains("dev-token") && !log.contains("dev-password") && !log.contains("dev-secret-key"));
    let records = records(&folder.path().join("ecs-groupd.db"));
    assert_eq!(records.len(), 2);
    assert!(!Value::from(records).to_string().contains(CANARY));
}
