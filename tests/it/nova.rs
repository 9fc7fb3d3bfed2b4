//! The native OpenStack interface: version documents, microversions, Nova's schema, faults and headers, and that one
//! group has two faces.

use std::collections::{BTreeSet, HashSet};

use ecs_groupd::identities::dev;
use ecs_groupd::settings::{MicroversionMax, Settings};
use serde_json::{Value, json};

use crate::harness::{Answer, TestApp, cheap_hash, create_body, group_path, groups_path, records, token_for};
use crate::member::{add, assert_done, ecs, members, server_path};

const NEVER_WAS: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
const OTHER_PROJECT: &str = "0123456789abcdef0123456789abcdef";
const JSON: (&str, &str) = ("content-type", "application/json");
const SERVICE_HEADER: &str = "openstack-api-version";
const OWN_HEADER: &str = "x-openstack-nova-api-version";

/// The paths of both families.
const FAMILIES: [&str; 2] = ["v2.1", "v2"];

fn native(family: &str) -> String {
    format!("/{family}/{}/os-server-groups", dev::PROJECT_ID)
}

/// The path of the groups under `/v2.1`.
fn micro() -> String {
    native("v2.1")
}

fn up_to_64(settings: &mut Settings) {
    settings.nova.microversion_max = MicroversionMax(64);
}

/// A create with a microversion; without one where it is empty.
fn create_at(app: &TestApp, version: &str, group: &Value) -> Answer {
    let service = format!("compute {version}");
    let headers = [JSON, (SERVICE_HEADER, &*service)];
    let headers = if version.is_empty() { &headers[..1] } else { &headers };
    app.client.send("POST", &micro(), headers, json!({ "server_group": group }).to_string().as_bytes())
}

fn get_at(app: &TestApp, version: &str, path: &str) -> Answer {
    let service = format!("compute {version}");
    let headers = [(SERVICE_HEADER, &*service)];
    app.client.send("GET", path, if version.is_empty() { &[] } else { &headers }, &[])
}

#[track_caller]
fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["server_group"]["id"].as_str().unwrap().to_owned()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Checks the headers that every native answer has, with the microversion that it was made with; `None` under `/v2`.
#[track_caller]
fn assert_headers(answer: &Answer, version: Option<&str>) {
    let id = answer.request_id();
    let dashed = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    let id = format!("req-{dashed}");
    assert_eq!(answer.header("x-openstack-request-id"), Some(&*id));
    assert_eq!(answer.header("x-compute-request-id"), Some(&*id));
    let service = version.map(|version| format!("compute {version}"));
    assert_eq!(answer.header(SERVICE_HEADER), service.as_deref(), "{}", answer.text);
    assert_eq!(answer.header(OWN_HEADER), version);
    let vary = answer.header("vary").unwrap_or_default().to_lowercase();
    let vary: Vec<_> = vary.split(',').map(str::trim).collect();
    for name in [SERVICE_HEADER, OWN_HEADER] {
        assert_eq!(vary.contains(&name), version.is_some(), "{vary:?}");
    }
}

/// The message of a fault, which has nothing else in it but its status.
#[track_caller]
fn fault(answer: &Answer, status: u16, name: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text);
    let content_type = answer.header("content-type").unwrap().to_lowercase().replace(' ', "");
    assert_eq!(content_type, "application/json;charset=utf-8");
    answer.request_id();
    let body = answer.json();
    let message = body[name]["message"].as_str().unwrap_or_default().to_owned();
    let mut expected = json!({ name: { "code": status, "message": message } });
    if name == "overLimit" {
        expected[name]["retryAfter"] = body[name]["retryAfter"].clone();
        assert!(body[name]["retryAfter"].is_string(), "{body}");
    }
    assert_eq!(body, expected);
    assert!(!message.is_empty());
    message
}

#[test]
fn whoever_asks_which_versions_there_are_is_told_without_credentials() {
    let app = TestApp::start_with(|settings| settings.dev.anonymous = false);
    let base = format!("http://{}", app.api);
    let listed = |id: &str, path: &str, status: &str, version: [&str; 2], updated: &str| {
        let links = json!([{ "rel": "self", "href": format!("{base}/{path}/") }]);
        let [version, min_version] = version;
        json!({
            "id": id, "status": status, "version": version, "min_version": min_version,
            "updated": updated, "links": links,
        })
    };
    let v2_0 = listed("v2.0", "v2", "SUPPORTED", ["", ""], "2011-01-21T11:33:21Z");
    let v2_1 = listed("v2.1", "v2.1", "CURRENT", ["2.60", "2.1"], "2013-07-23T11:33:21Z");

    let answer = app.client.get("/");
    assert_eq!((answer.status, keys(&answer.json())), (200, BTreeSet::from(["versions"])));
    let found = answer.json()["versions"].as_array().unwrap().clone();
    for expected in [&v2_0, &v2_1] {
        assert_eq!(found.iter().filter(|version| *version == expected).count(), 1, "{found:?}");
    }
    for (paths, listed, media) in [(["/v2.1", "/v2.1/"], v2_1, "2.1"), (["/v2", "/v2/"], v2_0, "2")] {
        let media_type = format!("application/vnd.openstack.compute+json;version={media}");
        let mut version = listed;
        version["media-types"] = json!([{ "base": "application/json", "type": media_type }]);
        for path in paths {
            let answer = app.client.get(path);
            assert_eq!((answer.status, answer.json()), (200, json!({ "version": version })), "{path}");
            assert_headers(&answer, (media == "2.1").then_some("2.1"));
            assert_eq!(app.client.send("HEAD", path, &[], &[]).status, 200);
        }
    }
    fault(&app.client.get(&micro()), 401, "unauthorized");
}

#[test]
fn the_links_of_a_version_begin_with_the_public_url_and_its_newest_is_the_setting() {
    let app = TestApp::start_with(|settings| {
        settings.api.public_url = "https://ecs.staging.example".to_owned();
        settings.nova.microversion_max = MicroversionMax(64);
    });
    let version = app.client.get("/v2.1").json()["version"].clone();
    assert_eq!(version["links"][0]["href"], "https://ecs.staging.example/v2.1/");
    assert_eq!((&version["version"], &version["min_version"]), (&json!("2.64"), &json!("2.1")));
    let listed = app.client.get("/").json()["versions"].as_array().unwrap().clone();
    let current = listed.iter().find(|version| version["id"] == "v2.1").unwrap();
    assert_eq!((&current["links"], &current["version"]), (&version["links"], &json!("2.64")));
}

#[test]
fn a_group_is_created_shown_listed_and_deleted_in_both_families() {
    let app = TestApp::start();
    for (family, version) in [("v2.1", Some("2.1")), ("v2", None)] {
        for slash in ["", "/"] {
            let path = format!("{}{slash}", native(family));
            let created = app.client.post_json(&path, &create_body("web"));
            let id = id_of(&created);
            let group = json!({
                "id": id, "name": "web", "policies": ["anti-affinity"], "members": [], "metadata": {},
            });
            assert_eq!(created.json(), json!({ "server_group": group }));
            let one = format!("{}/{id}{slash}", native(family));
            let shown = app.client.get(&one);
            assert_eq!((shown.status, shown.json()), (200, json!({ "server_group": group })));
            let listed = app.client.get(&path);
            assert_eq!((listed.status, listed.json()), (200, json!({ "server_groups": [group] })));
            let deleted = app.client.delete(&one);
            assert_eq!((deleted.status, &*deleted.text), (204, ""));
            assert_eq!(deleted.header("content-type"), None);
            for answer in [&created, &shown, &listed, &deleted] {
                assert_headers(answer, version);
            }
            for answer in [&created, &shown, &listed] {
                assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
            }
            let message = format!("Instance group {id} could not be found.");
            assert_eq!(fault(&app.client.delete(&one), 404, "itemNotFound"), message);
            assert_eq!(fault(&app.client.get(&one), 404, "itemNotFound"), message);
        }
    }
}

const OLD_KEYS: [&str; 5] = ["id", "members", "metadata", "name", "policies"];
const OWNED_KEYS: [&str; 7] = ["id", "members", "metadata", "name", "policies", "project_id", "user_id"];
const NEW_KEYS: [&str; 7] = ["id", "members", "name", "policy", "project_id", "rules", "user_id"];

/// Checks every way to see a group, at a microversion that is asked for by these headers.
#[track_caller]
fn assert_seen(app: &TestApp, headers: &[(&str, &str)], version: &str, expected: &[&str]) {
    let minor: u16 = version.strip_prefix("2.").unwrap().parse().unwrap();
    let rule =
        if minor >= 64 { ("policy", json!("anti-affinity")) } else { ("policies", json!(["anti-affinity"])) };
    let body = json!({ "server_group": { "name": "web", rule.0: rule.1 } });
    let with_body = [headers, &[JSON]].concat();
    let created = app.client.send("POST", &micro(), &with_body, body.to_string().as_bytes());
    let id = id_of(&created);
    let shown = app.client.send("GET", &format!("{}/{id}", micro()), headers, &[]);
    let listed = app.client.send("GET", &micro(), headers, &[]);
    assert_eq!((shown.status, listed.status), (200, 200));
    let group = created.json()["server_group"].clone();
    assert_eq!(keys(&group), expected.iter().copied().collect(), "{headers:?}");
    assert_eq!(shown.json(), json!({ "server_group": group }));
    assert_eq!(listed.json(), json!({ "server_groups": [group] }));
    assert_eq!(group[rule.0], rule.1);
    if expected.contains(&"user_id") {
        assert_eq!(
            (&group["project_id"], &group["user_id"]),
            (&json!(dev::PROJECT_ID), &json!(dev::USER_ID))
        );
    }
    if expected.contains(&"rules") {
        assert_eq!(group["rules"], json!({}));
    }
    let deleted = app.client.send("DELETE", &format!("{}/{id}", micro()), headers, &[]);
    assert_eq!(deleted.status, 204);
    for answer in [created, shown, listed, deleted] {
        assert_headers(&answer, Some(version));
    }
}

#[test]
fn a_group_has_exactly_the_keys_of_its_microversion() {
    let app = TestApp::start();
    let cases: [(&str, &str, &[&str]); 8] = [
        ("2.1", "2.1", &OLD_KEYS),
        ("2.2", "2.2", &OLD_KEYS),
        ("2.12", "2.12", &OLD_KEYS),
        ("2.13", "2.13", &OWNED_KEYS),
        ("2.15", "2.15", &OWNED_KEYS),
        ("2.59", "2.59", &OWNED_KEYS),
        ("2.60", "2.60", &OWNED_KEYS),
        ("latest", "2.60", &OWNED_KEYS),
    ];
    for (asked, version, expected) in cases {
        assert_seen(&app, &[(SERVICE_HEADER, &format!("compute {asked}"))], version, expected);
        assert_seen(&app, &[(OWN_HEADER, asked)], version, expected);
        let both = [(SERVICE_HEADER, &*format!("compute {asked}")), (OWN_HEADER, "2.5")];
        assert_seen(&app, &both, version, expected);
    }
    assert_seen(&app, &[], "2.1", &OLD_KEYS);
    assert_seen(&app, &[(SERVICE_HEADER, "volume 3.59")], "2.1", &OLD_KEYS);
    assert_seen(&app, &[(SERVICE_HEADER, "volume 3.59, compute 2.13")], "2.13", &OWNED_KEYS);
    assert_seen(&app, &[(SERVICE_HEADER, "volume 3.59"), (OWN_HEADER, "2.13")], "2.13", &OWNED_KEYS);
}

#[test]
fn where_2_64_is_served_a_group_has_one_policy_and_its_rules() {
    let app = TestApp::start_with(up_to_64);
    for (asked, version) in [("2.64", "2.64"), ("latest", "2.64")] {
        assert_seen(&app, &[(SERVICE_HEADER, &format!("compute {asked}"))], version, &NEW_KEYS);
    }
    assert_seen(&app, &[(OWN_HEADER, "2.63")], "2.63", &OWNED_KEYS);
    assert_seen(&app, &[], "2.1", &OLD_KEYS);

    let create = |group: Value| create_at(&app, "2.64", &group);
    for rules in [json!({}), json!({ "max_server_per_host": 1 }), json!({ "max_server_per_host": "1" })] {
        id_of(&create(json!({ "name": "web", "policy": "anti-affinity", "rules": rules })));
    }
    for (group, field) in [
        (json!({ "name": "web", "policies": ["anti-affinity"] }), "policies"),
        (json!({ "name": "web" }), "policy"),
        (json!({ "name": "web", "policy": ["anti-affinity"] }), "policy"),
        (json!({ "name": "web", "policy": null }), "policy"),
        (json!({ "name": "web", "policy": "affinity" }), "policy"),
        (json!({ "name": "web", "policy": "soft-anti-affinity" }), "policy"),
        (json!({ "name": "web", "policy": "anti-affinity", "policies": ["anti-affinity"] }), "policies"),
        (json!({ "name": "web", "policy": "anti-affinity", "rules": [] }), "rules"),
        (json!({ "name": "web", "policy": "anti-affinity", "rules": null }), "rules"),
        (json!({ "name": "web", "policy": "anti-affinity", "rules": { "x": 1 } }), "x"),
    ] {
        let message = fault(&create(group), 400, "badRequest");
        assert!(message.contains(field), "{field}: {message}");
    }
    for most in [json!(0), json!(-1), json!(2), json!(1.5), json!("x"), json!(null), json!([1])] {
        let rules = json!({ "max_server_per_host": most });
        let answer = create(json!({ "name": "web", "policy": "anti-affinity", "rules": rules }));
        let message = fault(&answer, 400, "badRequest");
        assert!(message.contains("max_server_per_host"), "{message}");
    }
    // Before it there is neither.
    for group in [
        json!({ "name": "web", "policy": "anti-affinity" }),
        json!({ "name": "web", "policies": ["anti-affinity"], "rules": {} }),
    ] {
        fault(&create_at(&app, "2.63", &group), 400, "badRequest");
    }
    assert_eq!(app.client.list_ids().len(), 3);
}

#[test]
fn a_microversion_that_is_not_served_is_406_and_names_the_range() {
    for (change, most, beyond) in
        [((|_| {}) as fn(&mut Settings), "2.60", "2.61"), (up_to_64, "2.64", "2.65")]
    {
        let app = TestApp::start_with(change);
        let id = app.client.create("web");
        for asked in [beyond, "2.0", "2.100", "1.1", "3.0", "10.1", "2.99999999999999999999"] {
            for (name, value) in
                [(SERVICE_HEADER, format!("compute {asked}")), (OWN_HEADER, asked.to_owned())]
            {
                for (method, path) in [
                    ("GET", micro()),
                    ("POST", micro()),
                    ("GET", format!("{}/{id}", micro())),
                    ("DELETE", format!("{}/{id}", micro())),
                ] {
                    let body = if method == "POST" { create_body("web") } else { String::new() };
                    let answer = app.client.send(method, &path, &[JSON, (name, &value)], body.as_bytes());
                    let message = fault(&answer, 406, "computeFault");
                    let range = format!("is not supported by the API. Minimum is 2.1 and maximum is {most}.");
                    assert!(message.starts_with("Version ") && message.ends_with(&range), "{message}");
                    if asked.len() < 9 {
                        assert_eq!(message, format!("Version {asked} {range}"));
                    }
                }
            }
        }
        assert_eq!(app.client.list_ids(), [id]);
        assert_eq!(records(&app.database()).len(), 1);
    }
}

#[test]
fn a_microversion_that_is_none_is_400() {
    let app = TestApp::start();
    for asked in
        ["x", "2", "2.", ".1", "2.01", "2.1.1", "-2.1", "+2.1", "2.x", "2,1", "2.1a", "LATEST", "2. 1"]
    {
        for (name, value) in [(SERVICE_HEADER, format!("compute {asked}")), (OWN_HEADER, asked.to_owned())] {
            for method in ["GET", "POST"] {
                let body = if method == "POST" { create_body("web") } else { String::new() };
                let answer = app.client.send(method, &micro(), &[JSON, (name, &value)], body.as_bytes());
                let message = fault(&answer, 400, "badRequest");
                assert!(message.contains("Must be of format MajorNum.MinorNum"), "{value}: {message}");
            }
        }
    }
    app.assert_untouched();
}

#[test]
fn under_v2_there_are_no_microversions_and_no_header_of_them() {
    let app = TestApp::start_with(up_to_64);
    for asked in ["2.13", "2.64", "2.99", "x", "latest"] {
        let headers = [JSON, (SERVICE_HEADER, &*format!("compute {asked}")), (OWN_HEADER, asked)];
        let answer = app.client.send("POST", &native("v2"), &headers, create_body("web").as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(keys(&answer.json()["server_group"]), BTreeSet::from(OLD_KEYS));
        assert_headers(&answer, None);
    }
}

#[test]
fn every_native_answer_carries_a_request_id_of_its_own_in_three_headers() {
    let app = TestApp::start();
    let mut seen = HashSet::new();
    let id = app.client.create("web");
    for family in FAMILIES {
        let version = (family == "v2.1").then_some("2.1");
        let (all, limits) = (native(family), format!("/{family}/{}/limits", dev::PROJECT_ID));
        for (method, path, headers, body, status) in [
            ("GET", all.clone(), &[][..], "", 200),
            ("GET", format!("{all}/{id}"), &[], "", 200),
            ("GET", limits, &[], "", 200),
            ("GET", format!("{all}/web"), &[], "", 404),
            ("DELETE", format!("{all}/{NEVER_WAS}"), &[], "", 404),
            ("GET", format!("/{family}/nowhere"), &[], "", 404),
            ("PUT", all.clone(), &[], "", 405),
            ("POST", all.clone(), &[JSON], "{", 400),
            ("POST", all.clone(), &[("content-type", "text/plain")], "x", 415),
            ("GET", all.clone(), &[("x-auth-token", "x")], "", 401),
            ("GET", all.clone(), &[("accept", "text/html")], "", 406),
            ("OPTIONS", all.clone(), &[], "", 204),
        ] {
            let answer = app.client.send(method, &path, headers, body.as_bytes());
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
            assert_headers(&answer, version);
            assert!(seen.insert(answer.request_id().to_owned()));
        }
    }
}

/// Bodies that Nova's schema turns down in both families, and what the message holds.
fn wrong_groups() -> Vec<(Value, &'static str)> {
    let of = |name: Value, policies: Value| json!({ "name": name, "policies": policies });
    let (name, rule) = (json!("web"), json!(["anti-affinity"]));
    let mut cases = vec![
        (json!({}), "'name' is a required property"),
        (json!({ "name": "web" }), "'policies' is a required property"),
        (json!({ "policies": ["anti-affinity"] }), "'name' is a required property"),
        (
            of(name.clone(), json!([])),
            "Invalid input for field/attribute policies. Value: []. [] is too short",
        ),
        (
            of(name.clone(), json!(["anti-affinity", "affinity"])),
            "Invalid input for field/attribute policies. ",
        ),
        (
            of(name.clone(), json!(["anti-affinity", "anti-affinity"])),
            "Invalid input for field/attribute policies. ",
        ),
        (of(name.clone(), json!("anti-affinity")), "Invalid input for field/attribute policies. "),
        (of(name.clone(), json!({ "0": "anti-affinity" })), "Invalid input for field/attribute policies. "),
        (of(name.clone(), json!(null)), "Invalid input for field/attribute policies. "),
        (of(json!("n".repeat(256)), rule.clone()), "name"),
        (of(json!(""), rule.clone()), "name"),
    ];
    // The only element is named by its place, as Nova names it.
    for policy in [
        json!("affinity"),
        json!("soft-affinity"),
        json!("soft-anti-affinity"),
        json!("fault_domain"),
        json!("Anti-Affinity"),
        json!("anti-affinity "),
        json!(""),
        json!(null),
        json!(1),
        json!(["anti-affinity"]),
    ] {
        cases.push((of(name.clone(), json!([policy])), "is not one of ['anti-affinity']"));
    }
    for wrong in [json!(null), json!(1), json!(true), json!(["web"]), json!({ "name": "web" })] {
        cases.push((of(wrong, rule.clone()), "Invalid input for field/attribute name. "));
    }
    cases
}

#[test]
fn a_body_that_breaks_novas_schema_is_400_in_novas_words() {
    let app = TestApp::start();
    for family in FAMILIES {
        for (group, expected) in wrong_groups() {
            let body = json!({ "server_group": group }).to_string();
            let message = fault(&app.client.post_json(&native(family), &body), 400, "badRequest");
            assert!(message.contains(expected), "{body}: {message}");
            assert!(message.starts_with("Invalid input for field/attribute "), "{body}: {message}");
        }
        for (body, expected) in [
            (json!({}), "'server_group' is a required property"),
            (json!({ "server_group": null }), "Invalid input for field/attribute server_group. "),
            (json!({ "server_group": [] }), "Invalid input for field/attribute server_group. "),
            (json!({ "server_group": [["web"]] }), "Invalid input for field/attribute server_group. "),
            (json!({ "server_group": "web" }), "Invalid input for field/attribute server_group. "),
        ] {
            let message = fault(&app.client.post_json(&native(family), &body.to_string()), 400, "badRequest");
            assert!(message.contains(expected), "{body}: {message}");
        }
        for body in
            ["", " ", "{", "x", "[]", "null", "1", "\"server_group\"", "[{\"server_group\":{}}]", "{}x"]
        {
            let message = fault(&app.client.post_json(&native(family), body), 400, "badRequest");
            assert_eq!(message, "Malformed request body", "{body:?}");
        }
    }
    app.assert_untouched();
}

/// Tries to make groups of names that Nova does not take.
#[track_caller]
fn assert_bad_names(names: &[&str]) {
    let app = TestApp::start();
    let mut taken = Vec::new();
    for name in names {
        for family in FAMILIES {
            let answer = app.client.post_json(&native(family), &create_body(name));
            if answer.status == 200 {
                taken.push((family, name));
                continue;
            }
            let expected = "An invalid 'name' value was provided. The name must be: printable characters. Can not \
                            start or end with whitespace.";
            assert_eq!(fault(&answer, 400, "badRequest"), expected, "{name:?}");
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
    app.assert_untouched();
}

#[test]
fn a_name_with_white_space_at_an_end_or_other_than_spaces_inside_is_refused_in_novas_words() {
    assert_bad_names(&[
        " ",
        "   ",
        " web",
        "web ",
        "\u{a0}web",
        "web\u{3000}",
        "\tweb",
        "a\tb",
        "a\nb",
        "a\u{2028}b",
        "a\u{2029}b",
    ]);
}

#[test]
fn a_name_beyond_the_basic_multilingual_plane_is_refused_in_novas_words() {
    assert_bad_names(&["🦀", "a\u{1f4a9}", "\u{10000}", "\u{10ffff}"]);
}

#[test]
fn a_name_with_a_character_that_is_not_printable_is_refused_in_novas_words() {
    // Unicode categories Cc, Cf, Co and Cn.
    assert_bad_names(&[
        "a\0b",
        "a\u{1b}b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{ad}b",
        "a\u{61c}b",
        "a\u{8e2}b",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{2060}b",
        "a\u{feff}b",
        "a\u{fffb}b",
        "a\u{e000}b",
        "a\u{f8ff}b",
        "a\u{378}b",
        "a\u{fdd0}b",
        "a\u{ffff}b",
    ]);
}

#[test]
fn a_name_that_nova_takes_is_kept_as_it_was_sent() {
    let app = TestApp::start();
    let (long, wide) = ("x".repeat(255), "é".repeat(255));
    let names = [
        "x",
        "web-1",
        "a b",
        "a  b",
        "a\u{a0}b",
        "a\u{3000}b",
        "é",
        "e\u{301}",
        "組",
        "ẞ",
        "\"\\/'<&>",
        "$(x)",
        "\u{fffd}",
        "½",
        "٣",
        &long,
        &wide,
    ];
    for name in names {
        for family in FAMILIES {
            let id = id_of(&app.client.post_json(&native(family), &create_body(name)));
            let shown = app.client.get(&format!("{}/{id}", native(family))).json();
            assert_eq!(shown["server_group"]["name"], name);
        }
    }
}

#[test]
fn a_name_of_v1_that_nova_would_not_take_is_shown_as_it_is() {
    let app = TestApp::start();
    for name in [" spaced ", "🦀"] {
        let id = app.client.create(name);
        assert_eq!(app.client.get(&format!("{}/{id}", micro())).json()["server_group"]["name"], name);
    }
}

#[test]
fn keys_that_are_not_known_are_refused_under_v2_1_and_ignored_under_v2() {
    let app = TestApp::start();
    let group = json!({ "name": "web", "policies": ["anti-affinity"] });
    let with = |key: &str, value: Value| {
        let mut group = group.clone();
        group[key] = value;
        json!({ "server_group": group })
    };
    for (body, key) in [
        (json!({ "server_group": group, "dry_run": true }), "dry_run"),
        (json!({ "server_group": group, "os:scheduler_hints": {} }), "os:scheduler_hints"),
        (with("id", json!(NEVER_WAS)), "id"),
        (with("members", json!([])), "members"),
        (with("metadata", json!({})), "metadata"),
        (with("policy", json!("anti-affinity")), "policy"),
        (with("rules", json!({})), "rules"),
        (with("", json!(null)), ""),
    ] {
        let message = fault(&app.client.post_json(&micro(), &body.to_string()), 400, "badRequest");
        let expected = format!("Additional properties are not allowed ('{key}' was unexpected)");
        assert!(message.contains(&expected), "{message}");
        let created = app.client.post_json(&native("v2"), &body.to_string());
        assert_ne!(id_of(&created), NEVER_WAS);
        assert_eq!(created.json()["server_group"]["metadata"], json!({}));
    }
    assert_eq!(app.client.list_ids().len(), 8);
}

#[test]
fn a_rule_other_than_anti_affinity_is_refused_on_both_sides() {
    let app = TestApp::start_with(up_to_64);
    for rule in ["affinity", "soft-affinity", "soft-anti-affinity", "fault_domain", "legacy"] {
        let body = json!({ "server_group": { "name": "web", "policies": [rule] } });
        let message = app.client.post_json(&groups_path(), &body.to_string()).ecs_error(400, "Ecs.0005");
        assert!(message.contains("policies") && message.contains("anti-affinity"), "{message}");
        for version in ["", "2.13", "2.15", "2.60"] {
            let answer = create_at(&app, version, &body["server_group"]);
            assert!(fault(&answer, 400, "badRequest").contains("anti-affinity"));
        }
        let answer = create_at(&app, "2.64", &json!({ "name": "web", "policy": rule }));
        assert!(fault(&answer, 400, "badRequest").contains("anti-affinity"));
        fault(&app.client.post_json(&native("v2"), &body.to_string()), 400, "badRequest");
    }
    app.assert_untouched();
}

/// The ids of a native list; there is nothing else in it.
#[track_caller]
fn listed(app: &TestApp, family: &str, query: &str) -> Vec<String> {
    let answer = app.client.get(&format!("{}{query}", native(family)));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    assert_eq!(keys(&answer.json()), BTreeSet::from(["server_groups"]), "{query}");
    let groups = answer.json()["server_groups"].as_array().unwrap().clone();
    groups.iter().map(|group| group["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_list_takes_limit_offset_and_marker() {
    let app = TestApp::start();
    for family in FAMILIES {
        assert_eq!(listed(&app, family, ""), Vec::<String>::new());
    }
    let ids: Vec<_> = (0..5).map(|nth| app.client.create(&format!("group-{nth}"))).collect();
    let (first, fourth) = (&ids[0], &ids[3]);
    let cases = [
        (String::new(), &ids[..]),
        ("?limit=2".to_owned(), &ids[..2]),
        ("?limit=5".to_owned(), &ids),
        // None, 0 and more than the largest are the largest.
        ("?limit=0".to_owned(), &ids),
        ("?limit=1001".to_owned(), &ids),
        ("?limit=99999999999999999999".to_owned(), &ids),
        ("?offset=3".to_owned(), &ids[3..]),
        ("?offset=0".to_owned(), &ids),
        ("?offset=5".to_owned(), &[]),
        ("?offset=99999999999999999999".to_owned(), &[]),
        ("?limit=2&offset=2".to_owned(), &ids[2..4]),
        // Without a limit, too.
        (format!("?marker={first}"), &ids[1..]),
        (format!("?limit=2&marker={first}"), &ids[1..3]),
        (format!("?limit=2&marker={fourth}"), &ids[4..]),
        (format!("?limit=1&offset=1&marker={first}"), &ids[2..3]),
        (format!("?marker={}", ids[4]), &[]),
        ("?marker=00000000-0000-4000-8000-000000000000".to_owned(), &ids),
        ("?marker=ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned(), &[]),
        // Nobody here is the cloud's administrator.
        ("?all_projects=True".to_owned(), &ids),
        ("?all_projects".to_owned(), &ids),
        ("?all_projects=x&limit=1".to_owned(), &ids[..1]),
        ("?name=group-1&sort_key=x&Limit=1".to_owned(), &ids),
    ];
    for family in FAMILIES {
        for (query, expected) in &cases {
            assert_eq!(listed(&app, family, query), *expected, "{query}");
        }
    }
}

#[test]
fn page_by_page_each_group_is_seen_once() {
    let app = TestApp::start();
    let ids: Vec<_> = (0..7).map(|nth| app.client.create(&format!("group-{nth}"))).collect();
    for limit in 1..=8 {
        let mut seen: Vec<String> = Vec::new();
        // As the OpenStack client pages: until a page is empty.
        loop {
            let marker = seen.last().map_or(String::new(), |id| format!("&marker={id}"));
            let page = listed(&app, "v2.1", &format!("?limit={limit}{marker}"));
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, ids);
    }
}

#[test]
fn a_query_that_breaks_its_rule_is_400_and_names_the_parameter() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let mut cases: Vec<(&str, String)> = Vec::new();
    for name in ["limit", "offset"] {
        cases.extend(["-1", "x", "1.5", "1e2", "0x1", "1a"].map(|value| (name, value.to_owned())));
    }
    cases.extend(["x", "1", &id[1..], &id.replace('-', "")].map(|value| ("marker", value.to_owned())));
    for family in FAMILIES {
        for (name, value) in &cases {
            let answer = app.client.get(&format!("{}?{name}={value}", native(family)));
            let message = fault(&answer, 400, "badRequest");
            let expected = format!("Invalid input for query parameters {name}. Value: {value}. ");
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}

#[test]
fn a_list_is_of_ones_own_project_whoever_asks_for_all() {
    let (one, two) = (OTHER_PROJECT, "fedcba9876543210fedcba9876543210");
    let accounts = format!(
        "[[domain]]
         name = 'acme'
         root = {{ password_hash = '{}' }}
         project = [{{ name = 'one', id = '{one}' }}, {{ name = 'two', id = '{two}' }}]
        ",
        cheap_hash("acme-password")
    );
    let app = TestApp::start_with_identities(&accounts, |_| {});
    let mut made = Vec::new();
    for (name, id) in [("one", one), ("two", two)] {
        let client = app.client.with_token(&token_for(&app.client, "acme", "acme", "acme-password", name));
        let path = format!("/v2.1/{id}/os-server-groups");
        made.push((client.clone(), path.clone(), id_of(&client.post_json(&path, &create_body(name)))));
    }
    for (client, path, id) in &made {
        for query in ["", "?all_projects=True", "?all_projects=1&limit=10"] {
            let groups = client.get(&format!("{path}{query}")).json()["server_groups"].clone();
            assert_eq!(groups.as_array().unwrap().iter().map(|group| &group["id"]).collect::<Vec<_>>(), [id]);
        }
    }
    let [(client, path, _), (_, other, hidden)] = &made[..] else { panic!("two projects") };
    fault(&client.get(&format!("{path}/{hidden}")), 404, "itemNotFound");
    fault(&client.delete(&format!("{path}/{hidden}")), 404, "itemNotFound");
    fault(&client.get(&format!("{other}/{hidden}")), 400, "badRequest");
}

#[test]
fn a_group_has_two_faces_and_is_the_same_on_either() {
    let app = TestApp::start();
    let by_v1 = app.client.create("by v1");
    let by_micro =
        id_of(&create_at(&app, "2.13", &json!({ "name": "by v2.1", "policies": ["anti-affinity"] })));
    let by_legacy = id_of(&app.client.post_json(&native("v2"), &create_body("by v2")));
    let ids = [&by_v1, &by_micro, &by_legacy].map(String::as_str);
    assert_eq!(app.client.list_ids(), ids);
    for family in FAMILIES {
        assert_eq!(listed(&app, family, ""), ids);
    }
    // Whoever made it, its maker is shown.
    let shown = get_at(&app, "2.13", &format!("{}/{by_v1}", micro())).json();
    assert_eq!(shown["server_group"]["user_id"], dev::USER_ID);

    for (nth, id) in ids.into_iter().enumerate() {
        assert_done(&add(&app.client, id, &ecs(nth)));
        let v1 = app.client.get(&group_path(id)).json();
        assert_eq!(v1["server_group"]["members"], json!([ecs(nth)]));
        for family in FAMILIES {
            assert_eq!(
                app.client.get(&format!("{}/{id}", native(family))).json(),
                v1,
                "the keys are the same"
            );
        }
    }
    // Deleted on one side it is gone on the other, and its members are free.
    assert_eq!(app.client.delete(&format!("{}/{by_v1}", micro())).status, 204);
    assert_eq!(app.client.get(&group_path(&by_v1)).status, 404);
    assert_eq!(app.client.get(&server_path(&ecs(0))).status, 404);
    assert_done(&add(&app.client, &by_micro, &ecs(0)));
    assert_eq!(members(&app.client, &by_micro), [0, 1].map(ecs));
    assert_eq!(app.client.delete(&group_path(&by_micro)).status, 204);
    for family in FAMILIES {
        fault(&app.client.get(&format!("{}/{by_micro}", native(family))), 404, "itemNotFound");
        assert_eq!(listed(&app, family, ""), std::slice::from_ref(&by_legacy));
    }
}

#[test]
fn there_is_no_native_way_to_change_members() {
    let app = TestApp::start();
    let id = app.client.create("web");
    let body = json!({ "add_member": { "instance_uuid": ecs(1) } }).to_string();
    for family in FAMILIES {
        for verb in ["action", "add_members", "remove_members"] {
            let answer = app.client.post_json(&format!("{}/{id}/{verb}", native(family)), &body);
            assert_eq!(fault(&answer, 404, "itemNotFound"), "The resource could not be found.");
        }
    }
    assert_eq!(members(&app.client, &id), Vec::<String>::new());
}

#[test]
fn native_changes_are_recorded_as_what_they_are() {
    let app = TestApp::start_with(|settings| settings.quota.groups_per_project = 1);
    let created = app.client.post_json(&micro(), &create_body("web"));
    let id = id_of(&created);
    let refused = app.client.post_json(&micro(), &create_body("too many"));
    assert_eq!(fault(&refused, 403, "forbidden"), "Quota exceeded, too many server groups.");
    assert_eq!(app.client.get(&micro()).status, 200);
    let gone = app.client.delete(&format!("{}/{id}", native("v2")));
    let not_found = app.client.delete(&format!("{}/{id}", micro()));
    fault(&not_found, 404, "itemNotFound");
    let (create, delete) = ("ecs:cloudServers:createServerGroup", "ecs:cloudServers:deleteServerGroup");
    let cases = [
        (created, create, "done"),
        (refused, create, "refused"),
        (gone, delete, "done"),
        (not_found, delete, "refused"),
    ];
    let written = records(&app.database());
    assert_eq!(written.len(), cases.len());
    for (record, (answer, action, outcome)) in written.iter().zip(cases) {
        assert_eq!(record["request_id"], answer.request_id());
        assert_eq!((&record["action"], &record["outcome"]), (&json!(action), &json!(outcome)));
        assert_eq!((&record["door"], &record["project_id"]), (&json!("v2.1"), &json!(dev::PROJECT_ID)));
    }
    assert_eq!(written[0]["asked"], json!({ "name": "web", "placement_rule": "anti-affinity" }));
    assert_eq!(written[0]["resource"], json!({ "type": "server_group", "id": id, "name": "web" }));
}

#[test]
fn native_limits_are_those_of_v1() {
    let app = TestApp::start_with(|settings| settings.quota.groups_per_project = 7);
    app.client.create("web");
    let v1 = app.client.get(&format!("/v1/{}/cloudservers/limits", dev::PROJECT_ID)).json();
    assert_eq!(
        (&v1["absolute"]["maxServerGroups"], &v1["absolute"]["totalServerGroupsUsed"]),
        (&json!(7), &json!(1))
    );
    for (family, version) in [("v2.1", Some("2.1")), ("v2", None)] {
        for slash in ["", "/"] {
            let answer = app.client.get(&format!("/{family}/{}/limits{slash}", dev::PROJECT_ID));
            let expected = json!({ "limits": { "rate": [], "absolute": v1["absolute"] } });
            assert_eq!((answer.status, answer.json()), (200, expected));
            assert_headers(&answer, version);
        }
    }
}

#[test]
fn what_is_no_id_is_a_group_that_does_not_exist() {
    let app = TestApp::start();
    let id = app.client.create("web");
    for text in ["web", "1", "action", "detail", "a-b_c.d", &id[1..], &id.replace('-', "")] {
        for family in FAMILIES {
            for method in ["GET", "DELETE"] {
                let answer = app.client.send(method, &format!("{}/{text}", native(family)), &[], &[]);
                let message = fault(&answer, 404, "itemNotFound");
                assert_eq!(message, format!("Instance group {text} could not be found."));
            }
        }
    }
    fault(&app.client.get(&format!("{}/a%20b", micro())), 404, "itemNotFound");
    assert_eq!(app.client.list_ids(), [id]);
    assert_eq!(records(&app.database()).len(), 1);
}

#[test]
fn what_goes_wrong_before_a_group_is_looked_at_is_one_of_novas_faults() {
    let app = TestApp::start_with(|settings| settings.http.body_bytes_max = 1_000);
    for family in FAMILIES {
        let all = native(family);
        let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
            app.client.send(method, path, headers, body.as_bytes())
        };
        let elsewhere = all.replace(dev::PROJECT_ID, OTHER_PROJECT);
        let expected = format!(
            "Malformed request URL: URL's project_id '{OTHER_PROJECT}' doesn't match Context's project_id '{}'",
            dev::PROJECT_ID
        );
        for (method, path) in
            [("GET", &elsewhere), ("POST", &elsewhere), ("DELETE", &format!("{elsewhere}/x"))]
        {
            let answer = send(method, path, &[JSON], &create_body("web"));
            assert_eq!(fault(&answer, 400, "badRequest"), expected);
        }
        for token in ["x", ""] {
            fault(&send("GET", &all, &[("x-auth-token", token)], ""), 401, "unauthorized");
        }
        fault(&send("GET", &all, &[("authorization", "x")], ""), 401, "unauthorized");
        for path in [
            format!("/{family}/nowhere"),
            format!("/{family}/{}/servers", dev::PROJECT_ID),
            format!("{all}/x/y"),
        ] {
            assert_eq!(
                fault(&send("GET", &path, &[], ""), 404, "itemNotFound"),
                "The resource could not be found."
            );
        }
        for (method, path, allow) in [
            ("PUT", all.clone(), "GET, HEAD, POST"),
            ("DELETE", all.clone(), "GET, HEAD, POST"),
            ("POST", format!("{all}/{NEVER_WAS}"), "GET, HEAD, DELETE"),
            ("POST", format!("/{family}/{}/limits", dev::PROJECT_ID), "GET, HEAD"),
            ("POST", format!("/{family}"), "GET, HEAD"),
        ] {
            let answer = send(method, &path, &[JSON], "{}");
            fault(&answer, 405, "badMethod");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
        fault(&send("GET", &all, &[("accept", "text/html")], ""), 406, "computeFault");
        fault(&send("POST", &all, &[JSON], &create_body(&"n".repeat(1_000))), 413, "overLimit");
        for kind in ["text/plain", "application/xml", "application/json;charset=latin1"] {
            let answer = send("POST", &all, &[("content-type", kind)], &create_body("web"));
            assert_eq!(fault(&answer, 415, "badMediaType"), "Unsupported Content-Type");
        }
    }
    assert_eq!(app.client.list_ids(), Vec::<String>::new());
}

#[test]
fn whoever_has_no_right_is_forbidden_and_told_which_one() {
    let project = OTHER_PROJECT;
    let hash = cheap_hash("a-password");
    let accounts = format!(
        "[[domain]]
         name = 'acme'
         root = {{ password_hash = '{hash}' }}
         project = [{{ name = 'one', id = '{project}' }}]
         user = [{{ name = 'newcomer', password_hash = '{hash}' }}]
        "
    );
    let app = TestApp::start_with_identities(&accounts, |_| {});
    let client = app.client.with_token(&token_for(&app.client, "acme", "newcomer", "a-password", "one"));
    for family in FAMILIES {
        let all = format!("/{family}/{project}/os-server-groups");
        for (method, path, right) in [
            ("GET", all.clone(), "ecs:serverGroups:manage"),
            ("POST", all.clone(), "ecs:serverGroups:manage"),
            ("GET", format!("{all}/{NEVER_WAS}"), "ecs:serverGroups:manage"),
            ("DELETE", format!("{all}/{NEVER_WAS}"), "ecs:serverGroups:manage"),
            ("GET", format!("/{family}/{project}/limits"), "ecs:quotas:get"),
        ] {
            // Rights come before the body.
            let answer = client.send(method, &path, &[JSON], if method == "POST" { b"{" } else { b"" });
            let message = fault(&answer, 403, "forbidden");
            assert_eq!(message, format!("Policy doesn't allow {right} to be performed."));
        }
    }
}

#[test]
fn while_the_disk_is_full_a_change_is_unavailable_and_a_look_is_not() {
    let app = TestApp::start();
    app.client.create("web");
    let folder = app.stop();
    let database = folder.path().join("ecs-groupd.db");
    let bytes = std::fs::metadata(database).unwrap().len();
    let app = TestApp::start_in(folder, |settings| settings.database.size_bytes_max = bytes);
    let long = create_body(&"n".repeat(255));
    let fill = || app.client.post_json(&micro(), &long);
    assert!((0..1_000).any(|_| fill().status != 200), "there is always space");
    let ids = app.client.list_ids();
    for family in FAMILIES {
        let answer = app.client.post_json(&native(family), &long);
        let message = fault(&answer, 503, "serviceUnavailable");
        assert!(message.contains("the disk is full"), "{message}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_headers(&answer, (family == "v2.1").then_some("2.1"));
        assert_eq!(listed(&app, family, ""), ids);
    }
    let app = TestApp::start_in(app.stop(), |_| {});
    id_of(&app.client.post_json(&micro(), &long));
}
