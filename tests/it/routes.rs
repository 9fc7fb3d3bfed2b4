//! The URL surface: every route with its action, and what a path says to a method that it does not take.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ecs_groupd::api::{self, Guard};
use ecs_groupd::identities::dev;

use serde_json::json;

use crate::harness::{TestApp, send_raw};

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW"];

/// The methods of each path, with its parameters filled in. HEAD goes with GET.
fn methods_by_path() -> BTreeMap<String, Vec<String>> {
    let mut methods = BTreeMap::<_, Vec<_>>::new();
    for route in api::routes() {
        let path = route.path.replace("{project_id}", dev::PROJECT_ID).replace("{server_group_id}", "x");
        let path = path.replace("{server_id}", "x").replace("{file}", "explorer.js");
        assert!(!path.contains('{'), "{path} has a parameter that this test does not know");
        let methods = methods.entry(path).or_default();
        methods.push(route.method.to_string());
        if route.method == "GET" {
            methods.push("HEAD".to_owned());
        }
    }
    methods
}

fn send(app: &TestApp, method: &str, path: &str) -> crate::harness::Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    send_raw(app.api, request.as_bytes())
}

#[test]
fn every_route_stands_in_the_table_with_its_action() {
    let mut table = String::new();
    for route in api::routes() {
        let action = match route.guard {
            Guard::Open => "everybody".to_owned(),
            Guard::Known => "everybody known".to_owned(),
            Guard::Permitted(action) => action.name().to_owned(),
            Guard::PermittedByBody(actions) => {
                actions.iter().map(|action| action.name()).collect::<Vec<_>>().join(" or ")
            }
        };
        writeln!(table, "{:<7}{:<72}{action}", route.method.as_str(), route.path).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_method_that_a_path_does_not_take_is_405_and_says_what_it_takes() {
    let app = TestApp::start();
    for (path, allowed) in methods_by_path() {
        let allow = allowed.join(", ");
        for method in METHODS.into_iter().filter(|method| !allowed.iter().any(|allowed| allowed == method)) {
            let slash = if path == "/" { "" } else { "/" };
            for path in [path.clone(), format!("{path}{slash}"), format!("{path}?limit=x")] {
                let answer = send(&app, method, &path);
                if path.starts_with("/v2") {
                    let fault =
                        json!({ "code": 405, "message": "The method is not allowed for this resource." });
                    assert_eq!((answer.status, answer.json()), (405, json!({ "badMethod": fault })));
                } else {
                    let message = answer.gateway_error(405, "APIGW.0101");
                    assert!(
                        message.ends_with(&format!(": this path takes {allow}.")),
                        "{method} {path}: {message}"
                    );
                }
                assert_eq!(answer.header("allow"), Some(&*allow), "{method} {path}");
            }
        }
    }
    app.assert_untouched();
}

#[test]
fn head_is_answered_as_get_is_without_the_body() {
    let app = TestApp::start();
    for (path, allowed) in methods_by_path() {
        if allowed.iter().any(|allowed| allowed == "GET") {
            let (get, head) = (send(&app, "GET", &path), send(&app, "HEAD", &path));
            assert_eq!((head.status, &*head.text), (get.status, ""), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        }
    }
}

#[test]
fn options_is_answered_with_what_a_path_takes() {
    let app = TestApp::start();
    for (path, allowed) in methods_by_path() {
        let answer = send(&app, "OPTIONS", &path);
        assert_eq!((answer.status, &*answer.text), (204, ""), "{path}");
        assert_eq!(answer.header("allow"), Some(&*allowed.join(", ")), "{path}");
    }
    send(&app, "OPTIONS", "/nowhere").gateway_error(404, "APIGW.0101");
    app.assert_untouched();
}
