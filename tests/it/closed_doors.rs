//! Ways in that look as if they were open.

use ecs_groupd::identities::dev;
use serde_json::json;

use crate::harness::{
    NOW, Process, Signer, TestApp, cheap_hash, create_body, groups_path, log_in, send_raw, token_for,
};

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const JSON: (&str, &str) = ("content-type", "application/json");

fn groups() -> String {
    format!("/v1/{PROJECT}/cloudservers/os-server-groups")
}

/// Alice may list groups, but not from 198.51.100.0/24.
fn accounts(password: &str) -> String {
    let hash = cheap_hash(password);
    format!(
        "[[domain]]
name = 'acme'
root = {{ name = 'admin', password_hash = '{hash}' }}
project = [{{ name = 'region-1', id = '{PROJECT}' }}]
user = [{{ name = 'alice', password_hash = '{hash}' }}, {{ name = 'bob' }}]
user_group = [{{ name = 'all', users = ['alice', 'bob'] }}]
[[domain.grant]]
user_group = 'all'
scope = 'all_projects'
document = '''
{{\"Version\":\"5.0\",\"Statement\":[
  {{\"Effect\":\"Allow\",\"Action\":[\"ecs:*:*\"]}},
  {{\"Effect\":\"Deny\",\"Action\":[\"ecs:*:*\"],\"Condition\":{{\"IpAddress\":{{\"g:SourceIp\":[\"198.51.100.0/24\"]}}}}}}]}}
'''
"
    )
}

#[test]
fn nobody_hides_an_address_behind_bytes_that_are_no_text() {
    let app = TestApp::start_with_identities(&accounts("right"), |settings| {
        settings.api.trusted_proxies = "127.0.0.1".to_owned().try_into().unwrap();
    });
    let token = token_for(&app.client, "acme", "alice", "right", "region-1");
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Auth-Token: {token}\r\nX-Forwarded-For: ",
        groups()
    );
    for (hops, status) in [
        (&b"192.0.2.1"[..], 200),
        (b"198.51.100.7", 403),
        (b"\xff, 198.51.100.7", 403),
        (b"nonsense, 198.51.100.7", 403),
    ] {
        let request = [head.as_bytes(), hops, b"\r\n\r\n"].concat();
        assert_eq!(send_raw(app.api, &request).status, status, "{:?}", String::from_utf8_lossy(hops));
    }
}

#[test]
fn a_token_ends_when_its_user_logs_in_with_something_else() {
    let app = TestApp::start_with_identities(&accounts("right"), |_| {});
    let token = token_for(&app.client, "acme", "alice", "right", "region-1");
    let alice = app.client.with_token(&token);
    assert_eq!(alice.get(&groups()).status, 200);
    app.reload(&(accounts("right") + "# the same accounts\n"));
    assert_eq!(alice.get(&groups()).status, 200);
    app.reload(&accounts("changed"));
    alice.get(&groups()).gateway_error(401, "APIGW.0301");
    let body = json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": token } } } });
    assert_eq!(app.client.post_json("/v3.0/OS-CREDENTIAL/securitytokens", &body.to_string()).status, 401);
    app.reload(&accounts("right"));
    assert_eq!(alice.get(&groups()).status, 200, "it is the very same credential again");
}

#[test]
fn a_token_that_was_forged_is_401_before_its_body_is_looked_at() {
    let app = TestApp::start_with_identities(&accounts("right"), |_| {});
    let path = "/v3.0/OS-CREDENTIAL/securitytokens";
    for body in ["{broken", "[]", "{}"] {
        for header in [("x-auth-token", "forged"), ("authorization", "forged")] {
            for kind in [JSON, ("content-type", "text/plain")] {
                let answer = app.client.send("POST", path, &[header, kind], body.as_bytes());
                assert_eq!(answer.status, 401, "{header:?} {body}: {}", answer.text);
            }
        }
    }
}

#[test]
fn failed_logins_do_not_tell_who_there_is() {
    let app = TestApp::start_with_identities(&accounts("right"), |settings| {
        settings.access.login_failures_per_minute = 2;
    });
    let scope = json!({ "project": { "name": "region-1" } });
    let domain_id =
        log_in(&app.client, "acme", "admin", "right", &scope).json()["token"]["user"]["domain"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
    for user in ["alice", "nosuch", "bob"] {
        let by = |domain: serde_json::Value| {
            let user = json!({ "name": user, "password": "wrong", "domain": domain });
            let identity = json!({ "methods": ["password"], "password": { "user": user } });
            app.client
                .post_json("/v3/auth/tokens", &json!({ "auth": { "identity": identity } }).to_string())
                .status
        };
        let by_name = || by(json!({ "name": "acme" }));
        assert_eq!((by_name(), by_name()), (401, 401), "{user}");
        assert_eq!(by(json!({ "id": domain_id })), 429, "{user} is one, however its domain is named");
    }
}

#[test]
fn a_deny_of_every_resource_is_one_however_it_is_written() {
    let text = accounts("right").replace(
        "\"Condition\":{\"IpAddress\":{\"g:SourceIp\":[\"198.51.100.0/24\"]}}",
        "\"Resource\":[\"*:*:*:*:*\"]",
    );
    let app = TestApp::start_with_identities(&text, |_| {});
    let token = token_for(&app.client, "acme", "alice", "right", "region-1");
    app.client.with_token(&token).get(&groups()).ecs_error(403, "Pdp.0001");
}

#[test]
fn a_proxy_that_is_not_trusted_says_nothing() {
    let app = TestApp::start_with_identities(&accounts("right"), |_| {});
    let token = token_for(&app.client, "acme", "alice", "right", "region-1");
    let answer =
        app.client.with_token(&token).send("GET", &groups(), &[("x-forwarded-for", "198.51.100.7")], b"");
    assert_eq!(answer.status, 200);
}

#[test]
fn dev_for_other_machines_keeps_its_control_listener_and_its_secrets_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[dev]\nanonymous = false\nrandom_credentials = true\n";
    std::fs::write(folder.path().join("settings.toml"), settings).unwrap();
    let arguments = ["--ephemeral", "--config", "settings.toml"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "0.0.0.0:0"]).args(arguments);
    command.stderr(std::process::Stdio::null());
    let process = Process::spawn(command, folder.path());
    let control = process.ready["control_url"].as_str().unwrap();
    assert!(control.starts_with("http://127.0.0.1:"), "{control}");
    assert_ne!(process.ready["token"], dev::TOKEN);
}

#[test]
fn a_signature_of_yesterday_opens_nothing_today() {
    let app = TestApp::start();
    let signer =
        Signer { access_key: dev::ACCESS_KEY, secret_key: dev::SECRET_KEY, date: "20260102T030405Z" };
    let body = create_body("web");
    assert_eq!(app.client.send_signed(&signer, "POST", &groups_path(), &[JSON], body.as_bytes()).status, 200);
    app.clock.set(NOW.plus_millis(15 * 60 * 1000 + 1));
    let answer = app.client.send_signed(&signer, "POST", &groups_path(), &[JSON], body.as_bytes());
    assert!(answer.gateway_error(401, "APIGW.0301").ends_with("signature expired"));
    assert_eq!(app.client.list_ids().len(), 1);
}
