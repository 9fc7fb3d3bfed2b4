//! `/openapi.json` says what the routes say, and `/explorer` shows it with nothing from elsewhere.

use std::collections::BTreeSet;

use ecs_groupd::api::{self, Guard};
use ecs_groupd::identities::dev;
use serde_json::Value;

use crate::harness::{Answer, Process, TestApp, cheap_hash};

/// Accounts that are not those of `--dev`.
fn accounts() -> String {
    let hash = cheap_hash("password-of-acme");
    format!(
        "[[domain]]\nname = 'acme'\n[domain.root]\nname = 'acme'\npassword_hash = '{hash}'\n\
         access_key = [{{ access = 'ACMEACCESSKEY0000001', secret = 'secret-key-of-acme' }}]\n\
         [[domain.project]]\nname = 'here'\n"
    )
}

fn document(app: &TestApp) -> Value {
    let answer = app.client.get("/openapi.json");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    answer.json()
}

/// What a production service answers. A change of a route, an error, a header or a wire type is a change here.
#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let app = TestApp::start_with_identities(&accounts(), |_| {});
    insta::assert_snapshot!(serde_json::to_string_pretty(&document(&app)).unwrap());
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let app = TestApp::start();
    let document = document(&app);
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> =
        api::routes().iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    let missing: Vec<_> = routes.difference(&described).collect();
    assert!(missing.is_empty(), "src/api/openapi/operation.rs does not say what these are: {missing:?}");
    let gone: Vec<_> = described.difference(&routes).collect();
    assert!(gone.is_empty(), "no routes: {gone:?}");
    assert_eq!(api::openapi::operations_without_route(&api::routes()), Vec::<String>::new());
}

#[test]
fn an_operation_needs_credentials_as_its_route_does() {
    let app = TestApp::start();
    let document = document(&app);
    for route in api::routes() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let is_closed = route.guard != Guard::Open;
        assert_eq!(operation.get("security").is_none(), is_closed, "{} {}", route.method, route.path);
        assert_eq!(operation["responses"].get("401").is_some(), is_closed || route.method == "POST");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    fn collect(value: &Value, refs: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    refs.insert(target.clone());
                }
                fields.values().for_each(|value| collect(value, refs));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, refs)),
            _ => {}
        }
    }
    let app = TestApp::start();
    let document = document(&app);
    let mut refs = BTreeSet::new();
    collect(&document, &mut refs);
    let lost: Vec<_> =
        refs.iter().filter(|target| document.pointer(target.strip_prefix('#').unwrap()).is_none()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    for kind in ["schemas", "responses", "parameters", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(refs.contains(&format!("#/components/{kind}/{name}")), "nobody needs {kind}/{name}");
        }
    }
}

/// Fetches the page and all that it loads.
fn page(app: &TestApp, path: &str) -> Answer {
    let page = app.client.get(path);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
    page
}

#[test]
fn the_explorer_loads_only_what_the_service_has() {
    let app = TestApp::start();
    let page = page(&app, "/explorer");
    assert_eq!(self::page(&app, "/explorer/").text, page.text);
    let mut loaded = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in page.text.split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            assert!(target.starts_with("/explorer/"), "{target}");
            // Those of Swagger UI are compressed already, and no text.
            let head = app.client.send("HEAD", target, &[], &[]);
            assert_eq!(head.status, 200, "{target}");
            loaded += 1;
        }
    }
    assert_eq!(loaded, 4);
    app.client.get("/explorer/nothing.js").gateway_error(404, "APIGW.0101");
    assert!(app.client.get("/explorer/explorer.js").text.contains("url: \"/openapi.json\""));
}

#[test]
fn the_explorer_knows_the_well_known_login_of_dev_and_no_other() {
    let app = TestApp::start();
    assert!(page(&app, "/explorer").text.contains(&format!("data-token=\"{}\"", dev::TOKEN)));
    let project = &document(&app)["components"]["parameters"]["project_id"]["schema"]["enum"];
    assert_eq!(project[0], dev::PROJECT_ID);

    let app = TestApp::start_with_identities(&accounts(), |_| {});
    assert!(page(&app, "/explorer").text.contains("data-token=\"\""));

    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("random.toml");
    std::fs::write(&settings, "[dev]\nrandom_credentials = true\n").unwrap();
    let process = Process::serve(folder.path(), &["--ephemeral", "--config", settings.to_str().unwrap()]);
    let token = process.ready["token"].as_str().unwrap();
    assert_ne!(token, dev::TOKEN);
    for path in ["/explorer", "/explorer/explorer.js", "/openapi.json"] {
        let text = process.client.get(path).text;
        for secret in ["token", "password", "access_key", "secret_key", "control_token"] {
            assert!(!text.contains(process.ready[secret].as_str().unwrap()), "{path} tells the {secret}");
        }
    }
}
