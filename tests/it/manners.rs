//! HTTP manners: what a client may ask of any service.

use serde_json::Value;

use crate::harness::{Process, TestApp, create_body, groups_path};

#[test]
fn whoever_takes_json_is_answered_and_whoever_does_not_gets_406() {
    let app = TestApp::start();
    for accept in [
        "*/*",
        "application/json",
        "application/*",
        "application/json;charset=utf-8",
        "text/html, application/json;q=0.1",
        "text/html, */*;q=0.8",
        "nonsense",
        "",
    ] {
        let answer = app.client.send("GET", &groups_path(), &[("accept", accept)], b"");
        assert_eq!(answer.status, 200, "{accept}: {}", answer.text);
    }
    for accept in ["text/html", "application/xml", "application/json;q=0", "image/*"] {
        let answer = app.client.send("GET", &groups_path(), &[("accept", accept)], b"");
        let message = answer.gateway_error(406, "APIGW.0201");
        assert!(message.contains("Accept"), "{message}");
    }
    let body = create_body("web");
    let headers = [("accept", "text/html"), ("content-type", "application/json")];
    app.client.send("POST", &groups_path(), &headers, body.as_bytes()).gateway_error(406, "APIGW.0201");
    app.assert_untouched();
}

#[test]
fn every_answer_has_a_date_and_a_charset() {
    let app = TestApp::start();
    for path in [groups_path(), "/nowhere".to_owned(), "/v3".to_owned(), "/v2.1".to_owned()] {
        let answer = app.client.get(&path);
        assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"), "{path}");
        let date = answer.header("date").unwrap_or_default();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{path}: {date:?}");
    }
}

#[test]
fn the_trace_of_a_request_stands_in_its_log_line_and_what_is_none_is_ignored() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let folder = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let process = Process::serve_with_log(folder.path(), &["--ephemeral"], log);
    let with = |traceparent: &str| {
        let answer = process.client.send("GET", &groups_path(), &[("traceparent", traceparent)], b"");
        assert_eq!(answer.status, 200, "{traceparent}");
        answer.request_id().to_owned()
    };
    let traced = with(&format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let others = [
        format!("00-{TRACE}-00f067aa0ba902b7"),
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
        format!("01-{TRACE}-00f067aa0ba902b7-01-x"),
        "nonsense".to_owned(),
    ];
    let ignored: Vec<String> = others.iter().map(|traceparent| with(traceparent)).collect();
    assert_eq!(process.terminate(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trace_of = |id: &str| lines.iter().find(|line| line["request_id"] == id).unwrap()["trace"].clone();
    assert_eq!(trace_of(&traced), TRACE);
    for id in ignored {
        assert_eq!(trace_of(&id), Value::Null);
    }
}
