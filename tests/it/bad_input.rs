//! What is malformed, too large, too slow or broken off: it gets an answer in JSON that says what is wrong, and leaves
//! nothing behind.

use std::io::Write as _;
use std::net::Shutdown;

use ecs_groupd::identities::dev;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::harness::{Answer, TestApp, connect, create_body, group_path, groups_path, read_answer, send_raw};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A bad body of a create, and what its answer must say: which field, and which rule it breaks.
struct BadBody {
    body: Vec<u8>,
    code: &'static str,
    field: String,
    rule: String,
}

fn bad(body: impl Into<Vec<u8>>, field: impl Into<String>, rule: impl Into<String>) -> BadBody {
    BadBody { body: body.into(), code: "Ecs.0005", field: field.into(), rule: rule.into() }
}

/// One value of each kind of JSON, and the kind in words.
fn kinds() -> [(Value, &'static str); 6] {
    [
        (Value::Null, "null"),
        (json!(true), "a boolean"),
        (json!(7), "a number"),
        (json!("x"), "a string"),
        (json!(["x", ["anti-affinity"]]), "an array"),
        (json!({ "name": "x", "policies": ["anti-affinity"] }), "an object"),
    ]
}

fn blank_bodies() -> impl Iterator<Item = BadBody> {
    ["", " ", "\r\n\t \n"]
        .into_iter()
        .map(|blank| BadBody { code: "Common.0002", ..bad(blank, "request body", "cannot be left blank") })
}

fn bodies_that_are_not_json() -> impl Iterator<Item = BadBody> {
    let good = create_body("web").into_bytes();
    let truncated = (1..good.len()).step_by(7).map(move |at| good[..at].to_vec());
    let nested = "[".repeat(100_000);
    let not_utf8 =
        [b"{\"server_group\":{\"name\":\"", &b"\xff\xfe"[..], b"\",\"policies\":[\"anti-affinity\"]}}"];
    let not_utf8_and_ignored =
        [create_body("web").trim_end_matches('}').as_bytes(), b"},\"x\":\"\xc3\"}"].concat();
    let others: [&[u8]; 14] = [
        b"x",
        b"{",
        b"nul",
        b"\0",
        b"{'server_group':{}}",
        b"{\"server_group\":{\"name\":\"x\",\"policies\":[\"anti-affinity\"],}}",
        b"{\"server_group\":{\"name\":\"x\",\"policies\":[\"anti-affinity\"]}}}",
        b"{\"server_group\":{\"name\":\"x\",\"policies\":[\"anti-affinity\"]}} {}",
        b"{\"server_group\":{\"name\":\"\\ud800\",\"policies\":[\"anti-affinity\"]}}",
        b"{\"server_group\":{\"name\":\"a\nb\",\"policies\":[\"anti-affinity\"]}}",
        b"server_group[name]=x&server_group[policies][]=anti-affinity",
        b"\xef\xbb\xbf{\"server_group\":{\"name\":\"x\",\"policies\":[\"anti-affinity\"]}}",
        &not_utf8.concat(),
        &not_utf8_and_ignored,
    ];
    let others: Vec<_> = others.into_iter().map(<[u8]>::to_vec).collect();
    truncated
        .chain(others)
        .chain([nested.into_bytes()])
        .map(|body| bad(body, "request body", "not valid JSON"))
}

/// Every field with every wrong kind of value, and without any.
fn bodies_of_a_wrong_kind() -> Vec<BadBody> {
    let mut bodies = Vec::new();
    for (value, kind) in kinds() {
        let mut refuse = |body: Value, field: &str, expected: &str| {
            if expected.split(' ').nth(1) != kind.split(' ').nth(1) {
                bodies.push(bad(body.to_string(), field, format!("must be {expected}, and is {kind}")));
            }
        };
        let group = |name: &Value, policies: &Value| json!({ "server_group": { "name": name, "policies": policies } });
        refuse(value.clone(), "request body", "an object");
        refuse(json!({ "server_group": value }), "server_group", "an object");
        refuse(group(&value, &json!(["anti-affinity"])), "server_group.name", "a string");
        refuse(group(&json!("x"), &value), "server_group.policies", "an array of strings");
        refuse(group(&json!("x"), &json!([value])), "server_group.policies[0]", "a string");
        refuse(group(&json!("x"), &json!(["anti-affinity", value])), "server_group.policies[1]", "a string");
    }
    let missing = [
        (json!({}), "server_group"),
        (json!({ "Server_group": {}, "servergroup": {} }), "server_group"),
        (json!({ "name": "x", "policies": ["anti-affinity"] }), "server_group"),
        (json!({ "server_group": {} }), "server_group.name"),
        (json!({ "server_group": { "policies": ["anti-affinity"] } }), "server_group.name"),
        (json!({ "server_group": { "name": "x" } }), "server_group.policies"),
        (json!({ "server_group": { "name": "x", "policy": "anti-affinity" } }), "server_group.policies"),
    ];
    bodies.extend(missing.map(|(body, field)| bad(body.to_string(), field, "is required")));
    bodies
}

fn bodies_with_a_bad_name() -> impl Iterator<Item = BadBody> {
    let long = |character: &str| character.repeat(256);
    let names = [
        (String::new(), "must be 1 to 255 characters long, and is empty"),
        (long("x"), "must be 1 to 255 characters long, and has 256"),
        (long("é"), "must be 1 to 255 characters long, and has 256"),
        (long("🦀"), "must be 1 to 255 characters long, and has 256"),
        ("\0".to_owned(), "must not contain control characters, and has U+0000 as character 1"),
        ("a\nb".to_owned(), "must not contain control characters, and has U+000A as character 2"),
        ("é\t".to_owned(), "must not contain control characters, and has U+0009 as character 2"),
        ("ab\u{7f}".to_owned(), "must not contain control characters, and has U+007F as character 3"),
        ("\u{85}".to_owned(), "must not contain control characters, and has U+0085 as character 1"),
    ];
    names.into_iter().map(|(name, rule)| bad(create_body(&name), "server_group.name", rule))
}

fn bodies_with_bad_policies() -> impl Iterator<Item = BadBody> {
    let policies = [
        (json!([]), "is empty"),
        (json!(["anti-affinity", "anti-affinity"]), r#"is ["anti-affinity", "anti-affinity"]"#),
        (json!(["anti-affinity", "affinity"]), r#"is ["anti-affinity", "affinity"]"#),
        (json!(["affinity"]), r#"is ["affinity"]"#),
        (json!(["soft-anti-affinity"]), r#"is ["soft-anti-affinity"]"#),
        (json!(["soft-affinity"]), r#"is ["soft-affinity"]"#),
        (json!(["fault_domain"]), r#"is ["fault_domain"]"#),
        (json!(["Anti-Affinity"]), r#"is ["Anti-Affinity"]"#),
        (json!(["anti-affinity "]), r#"is ["anti-affinity "]"#),
        (json!([""]), r#"is [""]"#),
        (json!(vec!["anti-affinity"; 1_000]), "has 1000 elements"),
    ];
    policies.into_iter().map(|(policies, found)| {
        let body = json!({ "server_group": { "name": "x", "policies": policies } });
        let rule = format!(r#"must be exactly ["anti-affinity"], and {found}"#);
        bad(body.to_string(), "server_group.policies", rule)
    })
}

#[test]
fn every_bad_body_is_refused_by_field_and_rule_and_leaves_nothing_behind() {
    let app = TestApp::start();
    let bodies = blank_bodies()
        .chain(bodies_that_are_not_json())
        .chain(bodies_of_a_wrong_kind())
        .chain(bodies_with_a_bad_name())
        .chain(bodies_with_bad_policies());
    for BadBody { body, code, field, rule } in bodies {
        let answer = app.client.send("POST", &groups_path(), &[JSON], &body);
        let message = answer.ecs_error(400, code);
        let sent = String::from_utf8_lossy(&body[..body.len().min(300)]);
        assert!(message.contains(&field) && message.contains(&rule), "{message:?} for {sent:?}");
    }
    app.assert_untouched();
}

#[test]
fn no_body_is_called_blank_whatever_its_content_type() {
    let app = TestApp::start();
    let content_types: [&[(&str, &str)]; 3] = [&[], &[JSON], &[("content-type", "text/plain")]];
    for headers in content_types {
        let answer = app.client.send("POST", &groups_path(), headers, b"");
        assert_eq!(answer.ecs_error(400, "Common.0002"), "The request body cannot be left blank.");
    }
    app.assert_untouched();
}

#[test]
fn a_message_stays_short_however_long_what_it_quotes() {
    let app = TestApp::start();
    let long = "x".repeat(20_000);
    let policies = json!({ "server_group": { "name": "x", "policies": [long] } }).to_string();
    let answers = [
        app.client.get(&group_path(&long)),
        app.client.delete(&group_path(&long)),
        app.client.post_json(&groups_path(), &policies),
        app.client.get(&format!("{}?limit={long}", groups_path())),
        app.client.get(&format!("{}?limit=1&marker={long}", groups_path())),
        app.client.send("POST", &groups_path(), &[("content-type", &long)], b"x"),
    ];
    for answer in answers {
        assert!((400..=415).contains(&answer.status), "{}", answer.status);
        assert!(answer.text.len() <= 1_000, "{} bytes: {:.200}", answer.text.len(), answer.text);
    }
}

/// What a create is made of.
const PIECES: &[&[u8]] =
    &[b"{", b"}", b"[", b"]", b":", b",", b"\"", b"server_group", b"name", b"1", b" ", b"\\u"];

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(256) })
}

#[test]
fn random_bytes_are_always_a_bad_request() {
    let app = TestApp::start();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        // Likelier to get far: pieces of what a create is made of.
        prop::collection::vec(select(PIECES), 0..30).prop_map(|pieces| pieces.concat()),
    ];
    let sent = runner().run(&bytes, |body| {
        let answer = app.client.send("POST", &groups_path(), &[JSON], &body);
        let is_blank = body.iter().all(u8::is_ascii_whitespace);
        answer.ecs_error(400, if is_blank { "Common.0002" } else { "Ecs.0005" });
        Ok(())
    });
    sent.unwrap();
    app.assert_untouched();
}

/// Any JSON, and often such JSON as is nearly or fully a good create.
fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!(["anti-affinity"])),
        Just(json!("web")),
    ];
    let key = prop_oneof![4 => select(vec!["server_group", "name", "policies"]).prop_map(str::to_owned), 1 => ".{0,5}"];
    let any_json = leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    });
    let policies = prop_oneof![2 => Just(json!(["anti-affinity"])), 1 => any_json.clone()];
    let name = prop_oneof![3 => "\\PC{1,260}".prop_map(Value::from), 1 => any_json.clone()];
    let group = (name, policies, any_json.clone())
        .prop_map(|(name, policies, other)| json!({ "server_group": { "name": name, "policies": policies, "x": other } }));
    prop_oneof![any_json, group]
}

/// The rules of a create once more, as plainly as they can be said.
fn is_good_create(body: &Value) -> bool {
    let group = &body["server_group"];
    let is_good_name = |name: &str| {
        let chars = name.chars().count();
        (1..=255).contains(&chars) && !name.chars().any(char::is_control)
    };
    group["name"].as_str().is_some_and(is_good_name) && group["policies"] == json!(["anti-affinity"])
}

#[test]
fn a_json_body_makes_a_group_exactly_when_it_keeps_the_rules() {
    let app = TestApp::start();
    let made = std::cell::RefCell::new(Vec::new());
    let sent = runner().run(&json_values(), |body| {
        let answer = app.client.post_json(&groups_path(), &body.to_string());
        if is_good_create(&body) {
            prop_assert_eq!(answer.status, 200, "{}", answer.text);
            let group = &answer.json()["server_group"];
            prop_assert_eq!(&group["name"], &body["server_group"]["name"]);
            made.borrow_mut().push(group["id"].as_str().unwrap().to_owned());
        } else {
            answer.ecs_error(400, "Ecs.0005");
        }
        Ok(())
    });
    sent.unwrap();
    assert!(!made.borrow().is_empty(), "some of them must have been good");
    assert_eq!(app.client.list_ids(), *made.borrow());
}

#[test]
fn a_content_type_that_is_not_json_in_utf8_is_415() {
    let app = TestApp::start();
    let refused = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json;charset=latin1",
        "application/json; charset=utf-16",
        "application/jsonp",
        "application/vnd.api+json",
        "text/json",
        "*/*",
        "json",
        "garbage; ; /",
        "",
    ];
    for content_type in refused {
        let headers = [("content-type", content_type)];
        let answer = app.client.send("POST", &groups_path(), &headers, create_body("web").as_bytes());
        let message = answer.gateway_error(415, "APIGW.0201");
        let expected = format!("Content-Type must be application/json, and is {content_type:?}.");
        assert_eq!(message, expected);
    }
    let answer = app.client.send("POST", &groups_path(), &[], create_body("web").as_bytes());
    let message = answer.gateway_error(415, "APIGW.0201");
    assert_eq!(message, "Content-Type must be application/json, and is missing.");
    app.assert_untouched();
}

#[test]
fn json_in_utf8_is_taken_however_its_content_type_is_spelled() {
    let app = TestApp::start();
    let taken = [
        "application/json",
        "application/json;charset=UTF-8",
        "application/json; charset=utf-8",
        "application/json; charset=\"utf-8\"",
        "Application/JSON",
        "APPLICATION/JSON;CHARSET=UTF-8",
    ];
    for content_type in taken {
        let headers = [("content-type", content_type)];
        let answer = app.client.send("POST", &groups_path(), &headers, create_body("web").as_bytes());
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.text);
    }
}

/// A good create of exactly this many bytes.
fn create_of(bytes: usize) -> String {
    let body = create_body("web");
    let blank = " ".repeat(bytes - body.len());
    body + &blank
}

/// The head of a create on a connection of its own, up to its last header.
fn create_head(headers: &str) -> String {
    let path = groups_path();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n\r\n")
}

fn with_length(body: &str) -> Vec<u8> {
    format!("{}{body}", create_head(&format!("Connection: close\r\nContent-Length: {}", body.len())))
        .into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    let head = create_head("Connection: close\r\nTransfer-Encoding: chunked");
    let (one, two) = body.split_at(body.len() / 2);
    format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len()).into_bytes()
}

#[test]
fn a_body_of_the_most_bytes_is_taken_and_one_more_byte_is_413() {
    let app = TestApp::start_with(|settings| settings.http.body_bytes_max = 2_000);
    for encode in [with_length, chunked] {
        assert_eq!(send_raw(app.api, &encode(&create_of(2_000))).status, 200);
        let message = send_raw(app.api, &encode(&create_of(2_001))).gateway_error(413, "APIGW.0201");
        assert_eq!(message, "Request entity too large: more than 2000 bytes.");
    }
    assert_eq!(app.client.list_ids().len(), 2);
}

#[test]
fn a_client_that_sends_far_too_much_can_still_read_why_it_was_turned_away() {
    let app = TestApp::start();
    for bytes in [1_048_577, 8 * 1_048_576] {
        for encode in [with_length, chunked] {
            send_raw(app.api, &encode(&create_of(bytes))).gateway_error(413, "APIGW.0201");
        }
        let answer = app.client.post_json(&groups_path(), &create_of(bytes));
        answer.gateway_error(413, "APIGW.0201");
    }
    app.assert_untouched();
    assert_eq!(app.client.post_json(&groups_path(), &create_of(1_048_576)).status, 200);
}

#[test]
fn a_body_that_never_ends_is_408_and_its_connection_is_closed() {
    let app = TestApp::start_with(|settings| settings.http.body_deadline_ms = 50);
    let body = create_body("web");
    let begun = &body[..body.len() / 2];
    let endless = [
        create_head("Content-Length: 100"),
        create_head("Content-Length: 100") + begun,
        create_head(&format!("Content-Length: {}", body.len())) + begun,
    ];
    for request in endless {
        let message = send_raw(app.api, request.as_bytes()).gateway_error(408, "APIGW.0201");
        assert_eq!(message, "The request body did not arrive within 50 ms.");
    }
    app.assert_untouched();
}

#[test]
fn a_chunked_body_that_never_ends_is_408_and_its_connection_is_closed() {
    let app = TestApp::start_with(|settings| settings.http.body_deadline_ms = 50);
    let body = create_body("web");
    let head = create_head("Transfer-Encoding: chunked");
    let endless = [head.clone(), head + &format!("{:x}\r\n{body}\r\n", body.len())];
    for request in endless {
        let message = send_raw(app.api, request.as_bytes()).gateway_error(408, "APIGW.0201");
        assert_eq!(message, "The request body did not arrive within 50 ms.");
    }
    app.assert_untouched();
}

#[test]
fn a_body_that_never_ends_holds_no_connection_where_nobody_reads_it() {
    let app = TestApp::start();
    let groups = groups_path();
    let requests = [
        ("POST", "/nowhere", 404),
        ("POST", "/livez", 405),
        ("PUT", &groups, 405),
        ("OPTIONS", &groups, 204),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
    ];
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        for (method, path, status) in requests {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
            let answer = send_raw(app.api, request.as_bytes());
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        }
    }
}

#[test]
fn a_body_that_breaks_off_stores_nothing() {
    let app = TestApp::start();
    let body = create_body("web");
    let heads = [
        create_head(&format!("Content-Length: {}", body.len() + 1)),
        create_head("Transfer-Encoding: chunked") + &format!("{:x}\r\n", body.len()),
    ];
    for head in heads {
        // Half closed: the client can still be told.
        let mut connection = connect(app.api);
        connection.write_all((head.clone() + &body).as_bytes()).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let message = read_answer(connection).gateway_error(400, "APIGW.0201");
        assert!(message.starts_with("API request error: the request body cannot be read: "), "{message}");
        // Closed: nobody is there any more.
        let mut connection = connect(app.api);
        connection.write_all((head + &body).as_bytes()).unwrap();
        drop(connection);
    }
    app.assert_untouched();
    // A stop waits for what is in flight; so that whatever could still be stored has been.
    let app = TestApp::start_in(app.stop(), |_| {});
    app.assert_untouched();
}

#[test]
fn a_chunked_body_with_a_broken_encoding_is_a_bad_request() {
    let app = TestApp::start();
    let request = create_head("Connection: close\r\nTransfer-Encoding: chunked") + "zz\r\n{}\r\n0\r\n\r\n";
    send_raw(app.api, request.as_bytes()).gateway_error(400, "APIGW.0201");
    app.assert_untouched();
}

/// A GET of exactly this path and query.
fn get_raw(app: &TestApp, target: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    send_raw(app.api, request.as_bytes())
}

#[test]
fn a_uri_of_the_most_bytes_is_taken_and_one_more_byte_is_414() {
    for uri_bytes_max in [256, 32_768] {
        let app = TestApp::start_with(|settings| settings.http.uri_bytes_max = uri_bytes_max);
        let uri_of = |bytes: usize| {
            let start = format!("{}?x=", groups_path());
            format!("{start}{}", "y".repeat(bytes - start.len()))
        };
        assert_eq!(get_raw(&app, &uri_of(uri_bytes_max)).status, 200);
        let message = get_raw(&app, &uri_of(uri_bytes_max + 1)).gateway_error(414, "APIGW.0201");
        assert_eq!(message, format!("Request URI too large: more than {uri_bytes_max} bytes."));
        // Wherever the bytes stand, and whether or not there is such a path.
        let path = format!("/{}", "y".repeat(uri_bytes_max));
        get_raw(&app, &path).gateway_error(414, "APIGW.0201");
    }
}

#[test]
fn a_path_that_is_not_served_is_404_in_the_gateways_shape() {
    let app = TestApp::start();
    let dev = dev::PROJECT_ID;
    let paths = [
        "/v1".to_owned(),
        format!("/v1/{dev}"),
        format!("/v1/{dev}/cloudserver/os-server-groups"),
        format!("/v1/{dev}/cloudservers/os-server-groupsx/a"),
        format!("/V1/{dev}/cloudservers/os-server-groups"),
        format!("/v1/{dev}/cloudservers/os-server-groups//"),
        format!("/v1/{dev}/cloudservers/os-server-groups/a/b"),
        format!("//v1/{dev}/cloudservers/os-server-groups"),
        "/v1//cloudservers/os-server-groups".to_owned(),
        "/livez/x".to_owned(),
        "/%00".to_owned(),
        "/%ff".to_owned(),
        "/%".to_owned(),
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE", "PATCH"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let message = send_raw(app.api, request.as_bytes()).gateway_error(404, "APIGW.0101");
            assert!(message.ends_with("no such path."), "{method} {path}: {message}");
        }
    }
    app.assert_untouched();
}

/// Texts for a segment of a path that are no id of anything.
fn rubbish() -> Vec<String> {
    let texts = [
        "x",
        "%ff",
        "%c3%28",
        "%ed%a0%80",
        "%00",
        "%0a",
        "%7f",
        "%",
        "%2",
        "%zz",
        "%25",
        "%252f",
        "%2F",
        "a%2Fb%20c",
        "%2e%2e",
        "..",
        ".",
        "%F0%9F%92%A9",
        "{}",
        "%7Bproject_id%7D",
        "'",
        "%22",
        "%5C",
        "+",
        ";a=b",
        "a:b@c",
        "*",
    ];
    let long = ["x".repeat(20_000), "%ff".repeat(6_000)];
    texts.map(str::to_owned).into_iter().chain(long).collect()
}

#[test]
fn rubbish_as_a_project_is_another_project() {
    let app = TestApp::start();
    for segment in rubbish() {
        for rest in ["", "/x", "/00000000-0000-0000-0000-000000000000"] {
            let answer = get_raw(&app, &format!("/v1/{segment}/cloudservers/os-server-groups{rest}"));
            answer.ecs_error(400, "Ecs.0023");
        }
    }
}

#[test]
fn rubbish_as_a_group_is_a_group_that_does_not_exist() {
    let app = TestApp::start();
    for segment in rubbish() {
        for method in ["GET", "DELETE"] {
            let path = group_path(&segment);
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let message = send_raw(app.api, request.as_bytes()).ecs_error(404, "Ecs.1000");
            let wrapped: Value = serde_json::from_str(&message).unwrap();
            let inner = wrapped["itemNotFound"]["message"].as_str().unwrap();
            assert!(
                inner.starts_with("Instance group ") && inner.ends_with(" could not be found."),
                "{inner}"
            );
        }
    }
    app.assert_untouched();
}

#[test]
fn rubbish_in_the_query_is_ignored_where_it_names_nothing_and_400_where_it_does() {
    let app = TestApp::start();
    for query in
        ["", "&&&", "=", "%ff=%ff", "%=%", "x=1&x=2", "limit%00=0", "Limit=0", "a[]=1;b=2", "?", "{}"]
    {
        let answer = get_raw(&app, &format!("{}?{query}", groups_path()));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    }
    for query in [
        "limit",
        "limit=",
        "limi%74=0",
        "limit=%ff",
        "limit=%",
        "limit=%31%00",
        "limit=1%20",
        "limit=+1",
        "limit=1&marker=%ff",
    ] {
        let message = get_raw(&app, &format!("{}?{query}", groups_path())).ecs_error(400, "Ecs.0005");
        let field = if query.contains("marker") { "marker" } else { "limit" };
        assert!(message.starts_with(&format!("{field} must be ")), "{query}: {message}");
    }
    // A create has no query of its own.
    let answer = app.client.post_json(&format!("{}?limit=x&%ff", groups_path()), &create_body("web"));
    assert_eq!(answer.status, 200, "{}", answer.text);
}
