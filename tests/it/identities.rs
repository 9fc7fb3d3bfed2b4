//! The file of accounts: what is good in it and what is wrong, what its grants give, how it is read again, and the
//! command line around it.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ecs_groupd::identities::file::{self, IdentitiesError};
use ecs_groupd::identities::{EXAMPLE, dev};
use ecs_groupd::settings::Networks;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Answer, Client, Process, Signer, TestApp, cheap_hash, create_body, groups_path, log_in, records,
    token_for, write_secret,
};

const DATE: &str = "20260102T030405Z";
const PROJECT_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PROJECT_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const PROJECT_C: &str = "cccccccccccccccccccccccccccccccc";

/// How long a test waits for what another process does.
const PATIENCE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["CREDENTIALS_DIRECTORY", "ECS_GROUPD__ACCESS__IDENTITIES"] {
        command.env_remove(variable);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A program that ended: its exit code, standard output and standard error.
fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The standard output of a program that must succeed.
#[track_caller]
fn printed(output: &Output) -> String {
    let (code, out, error) = ended(output);
    assert_eq!(code, 0, "{error}");
    out
}

/// A file of accounts in a folder of its own.
fn file_with(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identities.toml");
    write_secret(&path, text);
    (folder, path)
}

#[test]
fn the_example_is_good_and_its_passwords_are_the_ones_it_names() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/identities.example.toml");
    let text = std::fs::read_to_string(example).unwrap();
    assert_eq!(text, EXAMPLE);
    assert_eq!(printed(&run(&["identity", "example"])), text);
    let (_folder, path) = file_with(&text);
    let said = printed(&run(&["identity", "check", path.to_str().unwrap()]));
    let counts: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "the file is good",
        "domains 1",
        "projects 2",
        "users 3",
        "access keys 2",
        "user groups 1",
        "policies 1",
        "grants 2",
    ];
    assert_eq!(counts, expected);

    let app = TestApp::start_with_identities(&text, |_| {});
    for (user, password) in [("acme-admin", "acme-password"), ("alice", "alice-password")] {
        assert!(text.contains(&format!("\"{password}\"")), "the comment names {password}");
        let scope = json!({ "project": { "name": "region-1" } });
        assert_eq!(log_in(&app.client, "acme", user, password, &scope).status, 201);
        assert_eq!(log_in(&app.client, "acme", user, "x", &scope).status, 401);
    }
    let robot = Signer {
        access_key: "EXAMPLEROBOT22222222",
        secret_key: "example-secret-key-of-robot-000000000000",
        date: DATE,
    };
    let groups = "/v1/0123456789abcdef0123456789abcdef/cloudservers/os-server-groups";
    assert_eq!(app.client.send_signed(&robot, "GET", groups, &[], b"").status, 200);
    let headers = [("content-type", "application/json")];
    let body = create_body("web");
    let denied = app.client.send_signed(&robot, "POST", groups, &headers, body.as_bytes());
    denied.ecs_error(403, "Pdp.0001");
    let token = token_for(&app.client, "acme", "alice", "alice-password", "region-1_staging");
    let shown = app.client.with_token(&token).get("/v3/projects?name=region-1_staging").json();
    let staging = shown["projects"][0]["id"].as_str().unwrap().to_owned();
    let groups = format!("/v1/{staging}/cloudservers/os-server-groups");
    let client = app.client.with_token(&token);
    let created = client.post_json(&groups, &body);
    assert_eq!(created.status, 200, "{}", created.text);
    let id = created.json()["server_group"]["id"].as_str().unwrap().to_owned();
    client.delete(&format!("{groups}/{id}")).ecs_error(403, "Pdp.0001");
}

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$dGFnLXRhZy10YWctdGFn";

/// A good file, with something in it of everything.
const GOOD: &str = r#"[[domain]]
name = "acme"
id = "d0000000000000000000000000000001"
root = { name = "admin", password_hash = "HASH" }

[[domain.project]]
name = "a"
id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

[[domain.project]]
name = "b"

[[domain.user]]
name = "alice"
id = "a11ce000000000000000000000000001"
password_hash = "HASH"
access_key = [{ access = "AKALICE", secret = "alice-secret" }]

[[domain.user]]
name = "bob"
access_key = [{ access = "AKBOB", secret = "bob-secret" }]

[[domain.user_group]]
name = "developers"
users = ["alice", "bob"]

[[domain.policy]]
name = "own"
document = '''
{
  "Version": "5.0",
  "Statement": [
    { "Effect": "Allow", "Action": ["ecs:*:list*"] }
  ]
}
'''

[[domain.grant]]
user_group = "developers"
policies = ["own", "ECS ReadOnlyAccess"]
scope = { project = "a" }

[[domain.grant]]
user_group = "developers"
document = '{ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": ["ecs:*:*"] }] }'
scope = "all_projects"

[[domain]]
name = "other"
root = {}
"#;

fn good() -> String {
    GOOD.replace("HASH", HASH)
}

/// What is wrong with a text, and in which line.
fn wrong(text: &str) -> Option<(usize, String)> {
    let (_folder, path) = file_with(text);
    match file::read(&path) {
        Ok(_) => None,
        Err(error @ IdentitiesError::Wrong { line, .. }) => {
            let said = error.to_string();
            let place = format!("{}:{line}: ", path.display());
            assert!(said.starts_with(&place), "{said:?} does not begin with {place:?}");
            Some((line, said[place.len()..].to_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

/// Each case: what stands in the good file, what stands there instead with an `@` in the line that is wrong, and a part
/// of the message.
#[track_caller]
fn assert_wrong(cases: &[(&str, &str, &str)]) {
    for (from, to, part) in cases {
        let good = good();
        assert!(good.contains(from), "{from:?} is not in the good file");
        let marked = good.replacen(from, to, 1);
        let before = marked.split_once('@').unwrap_or_else(|| panic!("no mark in {to:?}")).0;
        let expected = before.matches('\n').count() + 1;
        let Some((line, rule)) = wrong(&marked.replacen('@', "", 1)) else { panic!("{to:?} is taken") };
        assert!(rule.contains(part), "{to:?}: {rule:?} does not say {part:?}");
        assert_eq!(line, expected, "{to:?}: {rule}");
    }
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(wrong(&good()), None);
}

#[test]
fn a_text_that_is_no_toml_is_wrong_in_its_line() {
    assert_wrong(&[
        ("name = \"bob\"", "@name = \"bob", ""),
        ("name = \"bob\"", "@name = bob", ""),
        ("name = \"bob\"", "@name \"bob\"", ""),
        ("users = [\"alice\", \"bob\"]", "@users = [\"alice\" \"bob\"]", ""),
        ("name = \"bob\"", "name = \"bob\"\n@name = \"bob\"", "duplicate"),
        ("[[domain.user]]", "@[[domain.user]", ""),
    ]);
    assert_eq!(wrong("").map(|(line, _)| line), Some(1));
    assert_eq!(wrong("# nothing\n").map(|(line, _)| line), Some(1));
}

#[test]
fn a_key_that_there_is_not_is_wrong_in_its_line() {
    assert_wrong(&[
        ("name = \"acme\"", "name = \"acme\"\n@nmae = \"x\"", "nmae"),
        ("[[domain]]", "@title = \"x\"\n[[domain]]", "title"),
        ("root = { name = \"admin\",", "@root = { user = \"admin\",", "user"),
        ("name = \"b\"", "name = \"b\"\n@enabled = true", "enabled"),
        ("name = \"bob\"", "name = \"bob\"\n@password = \"x\"", "password"),
        ("secret = \"bob-secret\"", "@secret_key = \"bob-secret\"", "secret_key"),
        ("name = \"developers\"", "name = \"developers\"\n@members = []", "members"),
        ("name = \"own\"", "name = \"own\"\n@version = \"5.0\"", "version"),
        ("scope = \"all_projects\"", "scope = \"all_projects\"\n@project = \"a\"", "project"),
        ("[[domain.grant]]", "@[[domain.grants]]", "grants"),
        ("[[domain.grant]]", "@[[grant]]", "grant"),
    ]);
}

#[test]
fn a_field_that_is_missing_is_wrong_in_the_line_of_its_table() {
    let group = "[[domain.user_group]]\nname = \"developers\"";
    let grant = "[[domain.grant]]\nuser_group = \"developers\"\npolicies = [\"own\", \"ECS ReadOnlyAccess\"]";
    assert_wrong(&[
        ("[[domain]]\nname = \"other\"", "@[[domain]]", "name"),
        ("[[domain]]\nname = \"other\"\nroot = {}", "@[[domain]]\nname = \"other\"", "root"),
        ("[[domain.project]]\nname = \"b\"", "@[[domain.project]]", "name"),
        ("[[domain.user]]\nname = \"bob\"", "@[[domain.user]]", "name"),
        ("[{ access = \"AKBOB\", secret = \"bob-secret\" }]", "@[{ access = \"AKBOB\" }]", "secret"),
        ("[{ access = \"AKBOB\", secret = \"bob-secret\" }]", "@[{ secret = \"bob-secret\" }]", "access"),
        (group, "@[[domain.user_group]]", "name"),
        (&format!("{group}\nusers = [\"alice\", \"bob\"]"), &format!("@{group}"), "users"),
        ("[[domain.policy]]\nname = \"own\"", "@[[domain.policy]]", "name"),
        ("[[domain.grant]]\nuser_group = \"developers\"", "@[[domain.grant]]", "user_group"),
        (&format!("{grant}\nscope = {{ project = \"a\" }}"), &format!("@{grant}"), "scope"),
    ]);
}

#[test]
fn a_value_of_another_type_is_wrong_in_its_line() {
    assert_wrong(&[
        ("name = \"acme\"", "@name = 1", "string"),
        ("id = \"d0000000000000000000000000000001\"", "@id = 1", "string"),
        ("root = {}", "@root = \"admin\"", ""),
        ("name = \"b\"", "@name = [\"b\"]", "string"),
        ("name = \"bob\"", "@name = true", "string"),
        ("access_key = [{ access = \"AKBOB\", secret = \"bob-secret\" }]", "@access_key = \"AKBOB\"", ""),
        ("access = \"AKBOB\"", "@access = 1", "string"),
        ("secret = \"bob-secret\"", "@secret = 12345678", "a secret must be a string"),
        ("secret = \"bob-secret\"", "@secret = true", "a secret must be a string"),
        ("secret = \"bob-secret\"", "@secret = 1.5", "a secret must be a string"),
        ("users = [\"alice\", \"bob\"]", "@users = \"alice\"", ""),
        ("users = [\"alice\", \"bob\"]", "users = [\n\"alice\",\n@1]", "string"),
        ("policies = [\"own\", \"ECS ReadOnlyAccess\"]", "@policies = \"own\"", ""),
        ("scope = \"all_projects\"", "@scope = true", ""),
        ("scope = \"all_projects\"", "@scope = \"everywhere\"", "everywhere"),
        ("scope = \"all_projects\"", "@scope = { user = \"a\" }", "user"),
        ("scope = { project = \"a\" }", "@scope = { project = 1 }", "string"),
    ]);
}

#[test]
fn there_may_be_one_of_a_name_an_id_and_an_access_key() {
    assert_wrong(&[
        ("name = \"other\"", "@name = \"acme\"", "acme"),
        ("name = \"b\"", "@name = \"a\"", "project acme/a"),
        ("name = \"bob\"", "@name = \"alice\"", "user acme/alice"),
        ("name = \"bob\"", "@name = \"admin\"", "user acme/admin"),
        ("access = \"AKBOB\"", "@access = \"AKALICE\"", "access key AKALICE"),
        (
            "[{ access = \"AKBOB\", secret = \"bob-secret\" }]",
            "[{ access = \"AKBOB\", secret = \"bob-secret\" },\n\
             @{ access = \"AKBOB\", secret = \"bob-secret\" }]",
            "access key AKBOB",
        ),
        (
            "[[domain.policy]]",
            "[[domain.user_group]]\n@name = \"developers\"\nusers = []\n[[domain.policy]]",
            "user group acme/developers",
        ),
        (
            "[[domain.grant]]",
            "[[domain.policy]]\n@name = \"own\"\ndocument = '{\"Version\": \"5.0\", \"Statement\": \
             [{\"Effect\": \"Allow\", \"Action\": [\"ecs:*:*\"]}]}'\n[[domain.grant]]",
            "policy acme/own",
        ),
        ("name = \"b\"", "name = \"b\"\n@id = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "project acme/a"),
        ("name = \"b\"", "name = \"b\"\n@id = \"d0000000000000000000000000000001\"", "domain acme"),
        ("name = \"bob\"", "name = \"bob\"\n@id = \"a11ce000000000000000000000000001\"", "user acme/alice"),
        (
            "name = \"other\"",
            "name = \"other\"\n@id = \"a11ce000000000000000000000000001\"",
            "user acme/alice",
        ),
        ("root = {}", "@root = { access_key = [{ access = \"AKBOB\", secret = \"bob-secret\" }] }", "AKBOB"),
        ("name = \"own\"", "@name = \"ECS FullAccess\"", "system policy"),
    ]);
}

#[test]
fn what_is_named_must_be_there_in_the_same_account() {
    assert_wrong(&[
        ("users = [\"alice\", \"bob\"]", "@users = [\"alice\", \"carol\"]", "\"carol\""),
        ("users = [\"alice\", \"bob\"]", "users = [\n  \"alice\",\n@  \"Bob\",\n]", "\"Bob\""),
        ("policies = [\"own\", \"ECS ReadOnlyAccess\"]", "@policies = [\"owned\"]", "\"owned\""),
        (
            "policies = [\"own\", \"ECS ReadOnlyAccess\"]",
            "@policies = [\"ecs fullaccess\"]",
            "ECS FullAccess",
        ),
        ("policies = [\"own\", \"ECS ReadOnlyAccess\"]", "policies = [\n\"own\",\n@\"x\"]", "\"x\""),
        ("scope = { project = \"a\" }", "@scope = { project = \"c\" }", "\"c\""),
        (
            "scope = { project = \"a\" }",
            "@scope = { project = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" }",
            "no project",
        ),
        ("user_group = \"developers\"", "@user_group = \"admins\"", "\"admins\""),
        ("root = {}", "root = {}\n[[domain.user_group]]\nname = \"x\"\n@users = [\"alice\"]", "\"alice\""),
        (
            "root = {}",
            "root = {}\n[[domain.grant]]\n@user_group = \"developers\"\npolicies = [\"own\"]\n\
             scope = \"domain\"",
            "\"developers\"",
        ),
    ]);
}

#[test]
fn a_grant_must_grant_something() {
    assert_wrong(&[
        (
            "[[domain.grant]]\nuser_group = \"developers\"\npolicies = [\"own\", \"ECS ReadOnlyAccess\"]",
            "@[[domain.grant]]\nuser_group = \"developers\"",
            "a grant without policies",
        ),
        (
            "[[domain.grant]]\nuser_group = \"developers\"\npolicies = [\"own\", \"ECS ReadOnlyAccess\"]",
            "@[[domain.grant]]\nuser_group = \"developers\"\npolicies = []",
            "a grant without policies",
        ),
    ]);
}

#[test]
fn an_id_a_hash_and_an_access_key_have_their_forms() {
    assert_wrong(&[
        ("id = \"d0000000000000000000000000000001\"", "@id = \"\"", "id is"),
        ("id = \"d0000000000000000000000000000001\"", "@id = \"d000000000000000000000000000001\"", "id is"),
        ("id = \"d0000000000000000000000000000001\"", "@id = \"d00000000000000000000000000000001\"", "id is"),
        ("id = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "@id = \"gaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "id is"),
        ("id = \"a11ce000000000000000000000000001\"", "@id = \"A11CE000000000000000000000000001\"", "id is"),
        (
            "id = \"a11ce000000000000000000000000001\"",
            "@id = \"a11ce000-0000-0000-0000-000000000001\"",
            "id is",
        ),
        ("access = \"AKBOB\"", "@access = \"\"", "access is"),
        ("access = \"AKBOB\"", "@access = \"AK BOB\"", "access is"),
        ("access = \"AKBOB\"", "@access = \"AK_BOB\"", "access is"),
    ]);
}

#[test]
fn a_password_hash_must_be_argon2id_and_not_too_costly() {
    let hash =
        |kind: &str, params: &str| format!("${kind}$v=19${params}$c2FsdHNhbHRzYWx0$dGFnLXRhZy10YWctdGFn");
    for (hash, part) in [
        (String::new(), "no Argon2id hash"),
        ("bobs-password".to_owned(), "no Argon2id hash"),
        ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(), "no Argon2id hash"),
        ("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0".to_owned(), "no Argon2id hash"),
        (hash("argon2i", "m=8,t=1,p=1"), "no Argon2id hash"),
        (hash("argon2d", "m=8,t=1,p=1"), "no Argon2id hash"),
        (hash("argon2id", "m=1048577,t=1,p=1"), "costs more than"),
        (hash("argon2id", "m=8,t=65,p=1"), "costs more than"),
        (hash("argon2id", "m=1024,t=1,p=17"), "costs more than"),
    ] {
        let line = format!("name = \"bob\"\n@password_hash = \"{hash}\"");
        assert_wrong(&[("name = \"bob\"", &line, part)]);
    }
}

#[test]
fn an_error_about_a_secret_does_not_repeat_it() {
    for (from, to, secret) in [
        ("secret = \"bob-secret\"", "secret = \"sEcrEt\"", "sEcrEt"),
        ("secret = \"bob-secret\"", "secret = 987654321", "987654321"),
        ("secret = \"bob-secret\"", "secret = 98765.4321", "98765.4321"),
        ("secret = \"bob-secret\"", "secret = [\"sEcrEt-in-a-list\"]", "sEcrEt-in-a-list"),
        ("secret = \"bob-secret\"", "secret = 1979-05-27", "1979-05-27"),
        ("name = \"bob\"", "name = \"bob\"\npassword_hash = \"sEcrEt-password\"", "sEcrEt-password"),
        ("name = \"bob\"", "name = \"bob\"\npassword_hash = 987654321", "987654321"),
        (
            "access = \"AKBOB\", secret = \"bob-secret\"",
            "access = \"AKALICE\", secret = \"sEcrEt-12\"",
            "sEcrEt-12",
        ),
        ("secret = \"bob-secret\"", "secret = \"sEcrEt-open", "sEcrEt-open"),
    ] {
        let text = good().replacen(from, to, 1);
        let (_folder, path) = file_with(&text);
        let (code, out, error) = ended(&run(&["identity", "check", path.to_str().unwrap()]));
        assert_eq!((code, out.as_str()), (3, ""), "{to}");
        assert!(error.contains(&format!("{}:", path.display())), "{error}");
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn names_and_secrets_have_a_shortest_and_a_longest_form() {
    let places = [
        "name = \"other\"",
        "name = \"b\"",
        "name = \"bob\"",
        "name = \"admin\"",
        "name = \"developers\"",
        "name = \"own\"",
    ];
    for place in places {
        for (chars, is_taken) in [(0, false), (1, true), (64, true), (65, false)] {
            let name = "é".repeat(chars);
            let new = format!("name = \"{name}\"");
            // Whoever names it goes along.
            let old = place.split('"').nth(1).unwrap();
            let text = good().replacen(place, &new, 1);
            let text = match old {
                "bob" | "own" => text.replace(&format!("\"{old}\""), &format!("\"{name}\"")),
                "developers" => {
                    text.replace("user_group = \"developers\"", &format!("user_group = \"{name}\""))
                }
                _ => text,
            };
            let line = text[..text.find(&new).unwrap()].matches('\n').count() + 1;
            match wrong(&text) {
                None => assert!(is_taken, "{place} with {chars} characters is taken"),
                Some((found, rule)) => {
                    assert!(!is_taken, "{place} with {chars} characters: {rule}");
                    assert!(rule.contains("1 to 64 characters"), "{rule}");
                    assert_eq!(found, line, "{place}");
                }
            }
        }
        for name in ["a/b", "a\\nb", "a\\u0000", "\\u0085"] {
            let text = good().replacen(place, &format!("name = \"{name}\""), 1);
            let (_, rule) = wrong(&text).unwrap_or_else(|| panic!("{place} is taken as {name:?}"));
            assert!(rule.contains("a name must have"), "{rule}");
        }
    }
    for (chars, is_taken) in [(7, false), (8, true), (128, true), (129, false)] {
        let text = good().replace("bob-secret", &"é".repeat(chars));
        match wrong(&text) {
            None => assert!(is_taken, "a secret of {chars} characters is taken"),
            Some((line, rule)) => {
                assert!(!is_taken, "a secret of {chars} characters: {rule}");
                assert!(rule.contains("8 to 128 characters"), "{rule}");
                assert_eq!(line, 21, "{rule}");
            }
        }
    }
    for (chars, is_taken) in [(64, true), (65, false)] {
        let text = good().replace("AKBOB", &"A".repeat(chars));
        assert_eq!(wrong(&text).is_none(), is_taken, "an access key of {chars} characters");
    }
}

#[test]
fn a_mistake_in_a_policy_is_wrong_in_its_own_line_of_the_file() {
    assert_wrong(&[
        ("\"5.0\",\n  \"Statement\"", "\"5.0\"\n@  \"Statement\"", "policy \"own\""),
        ("  \"Version\": \"5.0\",", "@  \"Version\": \"6.0\",", "policy \"own\""),
        ("  \"Version\": \"5.0\",", "@  \"Version\": 5.0,", "policy \"own\""),
        (
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"] }",
            "@    { \"Effect\": \"Maybe\", \"Action\": [\"ecs:*:list*\"] }",
            "Maybe",
        ),
        (
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"] }",
            "    { \"Effect\": \"Allow\",\n@      \"Actions\": [\"ecs:*:list*\"] }",
            "Actions",
        ),
        (
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"] }",
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"],\n      \
             \"Condition\": {\n@        \"Sounds\": { \"g:UserName\": [\"x\"] } } }",
            "Sounds",
        ),
        (
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"] }",
            "    { \"Effect\": \"Allow\", \"Action\": [\"ecs:*:list*\"],\n      \"Condition\": {\n        \
             \"StringEquals\": {\n@          \"g:NoSuchKey\": [\"x\"] } } }",
            "g:NoSuchKey",
        ),
        ("document = '{ \"Version\": \"1.1\",", "@document = '{ \"Version\": \"9\",", "developers's grant 2"),
        (
            "document = '{ \"Version\": \"1.1\",",
            "document = '''{\n@\"Version\": \"9\",''' #",
            "developers's grant 2",
        ),
        ("document = '{ \"Version\": \"1.1\",", "document = '''\n\n{\n@\"Version\": \"9\",}''' #", "grant 2"),
        ("document = '{ \"Version\": \"1.1\",", "@document = '{ \"Version\": ' #", "developers's grant 2"),
        ("document = '{ \"Version\": \"1.1\",", "@document = '' #", "developers's grant 2"),
    ]);
    let windows = good().replace('\n', "\r\n").replacen("\"Version\": \"5.0\"", "\"Version\": \"6.0\"", 1);
    let line = windows[..windows.find("6.0").unwrap()].matches('\n').count() + 1;
    assert_eq!(wrong(&windows).unwrap().0, line, "with Windows' line breaks");
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let (code, _, error) = ended(&run(&["identity", "check", missing.to_str().unwrap()]));
    assert_eq!(code, 3);
    assert!(error.contains(&format!("cannot read {}", missing.display())), "{error}");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"name = \"\xff\"").unwrap();
    std::fs::set_permissions(&binary, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(run(&["identity", "check", binary.to_str().unwrap()]).status.code(), Some(3));
    let (code, _, error) = ended(&run(&["serve", "--identities", missing.to_str().unwrap()]));
    assert_eq!(code, 3);
    assert!(error.contains("cannot read"), "{error}");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let (folder, path) = file_with(&good());
    let database = folder.path().join("ecs-groupd.db");
    let (path_text, database) = (path.to_str().unwrap(), database.to_str().unwrap());
    for mode in [0o640, 0o604, 0o644, 0o660, 0o606, 0o610, 0o601, 0o777, 0o440] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for arguments in [
            &["identity", "check", path_text][..],
            &["serve", "--listen", "127.0.0.1:0", "--database", database, "--identities", path_text],
        ] {
            let (code, out, error) = ended(&run(arguments));
            assert_eq!((code, out.as_str()), (3, ""), "{mode:o}");
            assert!(error.contains("can be read by group or others"), "{error}");
            assert!(error.contains(&format!("mode {mode:o}")), "{error}");
            assert!(error.contains(&format!("chmod 600 {path_text}")), "{error}");
        }
    }
    for mode in [0o600, 0o400, 0o700] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        printed(&run(&["identity", "check", path_text]));
    }
}

#[test]
fn in_the_credentials_directory_of_systemd_the_modes_are_systemds() {
    let (folder, path) = file_with(&good());
    let (_elsewhere, other) = file_with(&good());
    for path in [&path, &other] {
        std::fs::set_permissions(path, Permissions::from_mode(0o440)).unwrap();
    }
    let link = folder.path().join("link.toml");
    symlink(&other, &link).unwrap();
    let link_in = other.parent().unwrap().join("link-in.toml");
    symlink(&path, &link_in).unwrap();
    let check = |path: &Path, credentials: &Path| {
        let mut command = command(&["identity", "check", path.to_str().unwrap()]);
        command.env("CREDENTIALS_DIRECTORY", credentials).output().unwrap().status.code()
    };
    assert_eq!(check(&path, folder.path()), Some(0));
    assert_eq!(check(&link_in, folder.path()), Some(0), "a link to a file that is in it");
    assert_eq!(check(&folder.path().join("./identities.toml"), &folder.path().join(".")), Some(0));
    assert_eq!(check(&other, folder.path()), Some(3), "a file elsewhere");
    assert_eq!(check(&link, folder.path()), Some(3), "a link to a file elsewhere");
    let out_of_it = folder.path().join("..").join(other.strip_prefix(std::env::temp_dir()).unwrap());
    assert_eq!(check(&out_of_it, folder.path()), Some(3), "a path that leaves it");
    assert_eq!(check(&path, Path::new("")), Some(3));
    assert_eq!(check(&path, Path::new("/nonexistent")), Some(3));
}

/// Runs `serve` in a folder of its own, which must end by itself.
fn serve_ends(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&["serve"]);
    command.args(arguments).envs(variables.iter().copied()).current_dir(folder.path());
    let (code, out, error) = ended(&command.output().unwrap());
    assert_eq!(out, "", "{arguments:?}");
    assert!(!folder.path().join("ecs-groupd.db").exists(), "{arguments:?} made a database");
    (code, error)
}

const ANYWHERE: [&str; 2] = ["--listen", "0.0.0.0:0"];
const NOT_ANONYMOUS: (&str, &str) = ("ECS_GROUPD__DEV__ANONYMOUS", "false");
const RANDOM: (&str, &str) = ("ECS_GROUPD__DEV__RANDOM_CREDENTIALS", "true");

#[test]
fn serve_says_why_it_does_not_start() {
    let (_folder, path) = file_with(&good());
    let (_broken_folder, broken) = file_with(&good().replace("name = \"bob\"", "name = \"alice\""));
    let (file, broken) = (path.to_str().unwrap(), broken.to_str().unwrap());
    let in_environment = ("ECS_GROUPD__ACCESS__IDENTITIES", file);
    let broken_line = format!("{broken}:20: there are two of user acme/alice");
    let dev_only_here = "--dev listens on loopback only, and api.listen is set to 0.0.0.0:0";
    let cases: [(&[&str], &[(&str, &str)], i32, &str); 15] = [
        (&[], &[], 2, "no accounts: name a file of them with --identities"),
        (&["--listen", "127.0.0.1:0"], &[], 2, "or run with --dev"),
        (&["--identities", ""], &[], 2, "a value is required for '--identities <FILE>'"),
        (&["--dev", "--identities", file], &[], 2, "cannot be used with"),
        (&["--dev"], &[in_environment], 2, "--dev has an account of its own"),
        (&["--dev", "--listen", "0.0.0.0:0"], &[], 2, dev_only_here),
        (&["--dev", "--listen", "0.0.0.0:0", "--insecure-http"], &[], 2, dev_only_here),
        (&["--dev", "--listen", "0.0.0.0:0"], &[NOT_ANONYMOUS], 2, dev_only_here),
        (&["--dev", "--listen", "0.0.0.0:0"], &[RANDOM], 2, dev_only_here),
        (&["--dev", "--listen", "[::]:0"], &[], 2, "api.listen is set to [::]:0"),
        (
            &["--dev", "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"],
            &[],
            2,
            "control.listen is set to 0.0.0.0:0",
        ),
        (&["--identities", file, "--listen", "0.0.0.0:0"], &[], 2, "say --insecure-http"),
        (
            &["--identities", file, "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"],
            &[],
            2,
            "control.listen is set to 0.0.0.0:0, which other machines reach",
        ),
        (&["--identities", broken, "--listen", "127.0.0.1:0"], &[], 3, &broken_line),
        (&["--identities", file], &[("ECS_GROUPD__API__TRUSTED_PROXIES", "10.0.0.0/33")], 3, "10.0.0.0/33"),
    ];
    for (arguments, variables, expected, part) in cases {
        let (code, error) = serve_ends(arguments, variables);
        assert_eq!(code, expected, "{arguments:?} {variables:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error:?} does not say {part:?}");
        assert_eq!(
            error.lines().filter(|line| line.starts_with("ecs-groupd: ")).count().max(1),
            1,
            "{error}"
        );
    }
}

#[test]
fn with_insecure_http_a_file_of_accounts_may_be_served_to_everybody() {
    let (folder, path) = file_with(&good());
    let mut command = command(&["serve", "--insecure-http", "--identities", path.to_str().unwrap()]);
    command.args(ANYWHERE).stderr(Stdio::null());
    let service = Process::spawn(command, folder.path());
    assert_eq!(service.client.get("/livez").status, 200);
    assert_eq!(service.ready["control_url"], Value::Null, "off without --dev");
    for secret in ["password", "secret_key", "token", "access_key"] {
        assert_eq!(service.ready.get(secret), None, "{secret} is no business of the ready file");
    }
}

/// `--dev` for everybody, with credentials of its own.
fn dev_for_everybody(folder: &Path) -> Process {
    let mut command = command(&["serve", "--dev"]);
    command.args(ANYWHERE).envs([NOT_ANONYMOUS, RANDOM]).stderr(Stdio::null());
    Process::spawn(command, folder)
}

#[test]
fn dev_with_random_credentials_may_be_served_to_everybody_and_has_new_ones_at_every_start() {
    const SECRETS: [&str; 5] = ["password", "access_key", "secret_key", "token", "control_token"];
    let folder = tempfile::tempdir().unwrap();
    let known = [dev::PASSWORD, dev::ACCESS_KEY, dev::SECRET_KEY, dev::TOKEN, dev::CONTROL_TOKEN];
    let mut starts: Vec<Value> = Vec::new();
    for _ in 0..2 {
        let service = dev_for_everybody(folder.path());
        let ready = service.ready.clone();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        for (name, known) in SECRETS.into_iter().zip(known) {
            assert_ne!(text(name), known, "{name}");
            assert!(starts.iter().all(|before| before[name] != ready[name]), "{name} is the same again");
        }
        let client = &service.client;
        let path = groups_path();
        client.get(&path).gateway_error(401, "APIGW.0301");
        client.with_token(dev::TOKEN).get(&path).gateway_error(401, "APIGW.0301");
        assert_eq!(client.with_token(&text("token")).get(&path).status, 200);
        let scope = json!({ "project": { "name": dev::PROJECT_NAME } });
        let log_in = |password: &str| log_in(client, dev::DOMAIN_NAME, dev::USER_NAME, password, &scope);
        assert_eq!(log_in(dev::PASSWORD).status, 401);
        let answer = log_in(&text("password"));
        assert_eq!(answer.status, 201);
        let date = now_of(&answer);
        let (access_key, secret_key) = (text("access_key"), text("secret_key"));
        let signer = Signer { access_key: &access_key, secret_key: &secret_key, date: &date };
        assert_eq!(client.send_signed(&signer, "GET", &path, &[], b"").status, 200);
        let signer = Signer { access_key: dev::ACCESS_KEY, secret_key: dev::SECRET_KEY, date: &date };
        client.send_signed(&signer, "GET", &path, &[], b"").gateway_error(401, "APIGW.0301");
        starts.push(ready);
    }
}

/// The service's own time, as a signature writes it.
fn now_of(login: &Answer) -> String {
    let issued_at = login.json()["token"]["issued_at"].as_str().unwrap().to_owned();
    format!("{}Z", issued_at.split('.').next().unwrap().replace(['-', ':'], ""))
}

/// Three projects and their users; a user's password is its name and `-password`.
fn accounts(users: &[&str], more: &str) -> String {
    let users: Vec<_> = users
        .iter()
        .map(|user| {
            let hash = cheap_hash(&format!("{user}-password"));
            format!("[[domain.user]]\nname = '{user}'\npassword_hash = '{hash}'\n")
        })
        .collect();
    let users = users.concat();
    format!(
        "[[domain]]
         name = 'acme'
         root = {{ name = 'admin', access_key = [{{ access = 'AKADMIN', secret = 'admin-secret' }}] }}
         project = [
             {{ name = 'a', id = '{PROJECT_A}' }},
             {{ name = 'b', id = '{PROJECT_B}' }},
             {{ name = 'c', id = '{PROJECT_C}' }},
         ]
         {users}
         {more}"
    )
}

fn groups_of(project: &str) -> String {
    let id = match project {
        "a" => PROJECT_A,
        "b" => PROJECT_B,
        "c" => PROJECT_C,
        other => panic!("no project {other}"),
    };
    format!("/v1/{id}/cloudservers/os-server-groups")
}

/// Whether a user may write and read in a project.
fn may(app: &TestApp, user: &str, project: &str) -> (bool, bool) {
    let token = token_for(&app.client, "acme", user, &format!("{user}-password"), project);
    let client = app.client.with_token(&token);
    let is_allowed = |answer: &Answer| {
        let is_allowed = answer.status == 200;
        if !is_allowed {
            answer.ecs_error(403, "Pdp.0001");
        }
        is_allowed
    };
    let created = client.post_json(&groups_of(project), &create_body("web"));
    (is_allowed(&created), is_allowed(&client.get(&groups_of(project))))
}

#[test]
fn a_grant_gives_its_policies_where_its_scope_says() {
    let more = "
        [[domain.user_group]]
        name = 'developers'
        users = ['alice', 'bob']
        [[domain.user_group]]
        name = 'guests'
        users = ['alice', 'carol']
        [[domain.user_group]]
        name = 'accountants'
        users = ['dave']
        [[domain.grant]]
        user_group = 'developers'
        policies = ['ECS FullAccess']
        scope = { project = 'a' }
        [[domain.grant]]
        user_group = 'developers'
        policies = ['ECS ReadOnlyAccess']
        scope = { project = 'b' }
        [[domain.grant]]
        user_group = 'guests'
        policies = ['Tenant Guest']
        scope = 'all_projects'
        [[domain.grant]]
        user_group = 'accountants'
        policies = ['ECS FullAccess', 'Tenant Administrator']
        scope = 'domain'
    ";
    let users = ["alice", "bob", "carol", "dave", "eve"];
    let app = TestApp::start_with_identities(&accounts(&users, more), |_| {});
    let (write, read, nothing) = ((true, true), (false, true), (false, false));
    for (user, expected) in [
        ("alice", [write, read, read]),
        ("bob", [write, read, nothing]),
        ("carol", [read, read, read]),
        ("dave", [nothing, nothing, nothing]),
        ("eve", [nothing, nothing, nothing]),
    ] {
        for (project, expected) in ["a", "b", "c"].into_iter().zip(expected) {
            assert_eq!(may(&app, user, project), expected, "{user} in {project}");
        }
    }
    let domain = json!({ "domain": { "name": "acme" } });
    let answer = log_in(&app.client, "acme", "dave", "dave-password", &domain);
    let token = answer.header("x-subject-token").unwrap().to_owned();
    app.client.with_token(&token).get(&groups_of("a")).ecs_error(400, "Ecs.0023");
}

#[test]
fn a_role_brings_the_roles_that_it_depends_on() {
    let more = "
        [[domain.user_group]]
        name = 'developers'
        users = ['alice']
        [[domain.grant]]
        user_group = 'developers'
        policies = ['Server Administrator']
        scope = { project = 'a' }
        [[domain.user_group]]
        name = 'auditors'
        users = ['bob']
        [[domain.grant]]
        user_group = 'auditors'
        policies = ['CTS Administrator']
        scope = { project = 'a' }
    ";
    let app = TestApp::start_with_identities(&accounts(&["alice", "bob"], more), |_| {});
    for (user, own) in [("alice", "server_adm"), ("bob", "cts_adm")] {
        let scope = json!({ "project": { "name": "a" } });
        let answer = log_in(&app.client, "acme", user, &format!("{user}-password"), &scope);
        let roles = answer.json()["token"]["roles"].clone();
        assert_eq!(roles, json!([{ "id": "0", "name": own }, { "id": "0", "name": "readonly" }]));
    }
    assert_eq!(may(&app, "bob", "a"), (false, true), "a CTS Administrator reads as a Tenant Guest does");
}

#[test]
fn a_document_in_a_grant_counts_as_a_policy_does() {
    let more = r#"
        [[domain.user_group]]
        name = 'developers'
        users = ['alice']
        [[domain.grant]]
        user_group = 'developers'
        policies = ['ECS FullAccess']
        document = '''
        {"Version": "5.0", "Statement": [{"Effect": "Deny", "Action": ["ecs:cloudServers:createServerGroup"]}]}
        '''
        scope = { project = 'a' }
    "#;
    let app = TestApp::start_with_identities(&accounts(&["alice"], more), |_| {});
    assert_eq!(may(&app, "alice", "a"), (false, true));
}

const RELOAD: &str = "ecs-groupd:identities:reload";

/// The differences that each reload recorded.
fn reloads(database: &Path) -> Vec<Value> {
    let records = records(database).into_iter();
    records
        .filter(|record| record["action"] == RELOAD)
        .map(|record| {
            assert_eq!((&record["outcome"], &record["door"]), (&json!("done"), &json!("signal")));
            assert_eq!(record["resource"], json!({ "type": "identities", "id": null, "name": null }));
            assert_eq!((&record["project_id"], &record["source_ip"]), (&Value::Null, &Value::Null));
            assert!(["service", "operator"].contains(&record["actor"]["type"].as_str().unwrap()));
            record["asked"]["differences"].clone()
        })
        .collect()
}

/// Asks for as long as it is told to, on connections that are kept, and counts the answers.
fn hammer(client: &Client, answers: &AtomicUsize, is_over: &AtomicBool) {
    let admin = Signer { access_key: "AKADMIN", secret_key: "admin-secret", date: DATE };
    while !is_over.load(Ordering::Relaxed) {
        let answer = client.send_signed(&admin, "GET", &groups_of("a"), &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text);
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells the others to end, also when this one fails.
struct Over<'flag>(&'flag AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reload_puts_other_accounts_in_force_drops_no_request_and_is_recorded_once() {
    let group = "
        [[domain.user_group]]
        name = 'developers'
        users = ['alice']
    ";
    let grant = "
        [[domain.grant]]
        user_group = 'developers'
        policies = ['ECS FullAccess']
        scope = { project = 'a' }
    ";
    // The hashes are made once: another salt is another password.
    let alice = accounts(&["alice"], "");
    let bob = format!("[[domain.user]]\nname = 'bob'\npassword_hash = '{}'\n", cheap_hash("bob-password"));
    let both = format!("{alice}\n{bob}");
    let bobs_key = "access_key = [{ access = 'AKBOB', secret = 'bob-secret' }]\n";
    let with_key = format!("{both}\n{bobs_key}");
    let other_key = with_key.replace("bob-secret", "bob-other-secret");

    let app = TestApp::start_with_identities(&alice, |_| {});
    let scope = json!({ "project": { "name": "a" } });
    let log_in_as = |user: &str| log_in(&app.client, "acme", user, &format!("{user}-password"), &scope);
    let sign = |secret_key: &str| {
        let bob = Signer { access_key: "AKBOB", secret_key, date: DATE };
        app.client.send_signed(&bob, "GET", "/v3/projects", &[], b"").status
    };
    let (answers, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|threads| {
        let _over = Over(&is_over);
        for _ in 0..2 {
            let client = Client::new(app.api);
            let (answers, is_over) = (&answers, &is_over);
            threads.spawn(move || hammer(&client, answers, is_over));
        }
        let reload = |text: &str| {
            let until = answers.load(Ordering::Relaxed) + 10;
            app.reload(text);
            let started = Instant::now();
            while answers.load(Ordering::Relaxed) < until {
                assert!(started.elapsed() < PATIENCE, "the clients do not get on");
                thread::yield_now();
            }
        };
        let token = log_in_as("alice").header("x-subject-token").unwrap().to_owned();
        let alices = app.client.with_token(&token);
        assert_eq!(log_in_as("bob").status, 401);

        reload(&both);
        let bobs_token = log_in_as("bob").header("x-subject-token").unwrap().to_owned();
        assert_eq!(sign("bob-secret"), 401);
        reload(&with_key);
        assert_eq!((sign("bob-secret"), sign("bob-other-secret")), (200, 401));
        reload(&other_key);
        assert_eq!((sign("bob-secret"), sign("bob-other-secret")), (401, 200));
        reload(&both);
        assert_eq!((sign("bob-secret"), sign("bob-other-secret")), (401, 401));

        alices.get(&groups_of("a")).ecs_error(403, "Pdp.0001");
        reload(&format!("{both}{group}{grant}"));
        assert_eq!(alices.get(&groups_of("a")).status, 200, "a token that was there gets it too");
        reload(&format!("{both}{group}{}", grant.replace("ECS FullAccess", "ECS ReadOnlyAccess")));
        alices.post_json(&groups_of("a"), &create_body("web")).ecs_error(403, "Pdp.0001");
        assert_eq!(alices.get(&groups_of("a")).status, 200);
        reload(&both);
        alices.get(&groups_of("a")).ecs_error(403, "Pdp.0001");

        reload(&alice);
        assert_eq!(log_in_as("bob").status, 401);
        app.client.with_token(&bobs_token).get(&groups_of("a")).gateway_error(401, "APIGW.0301");
        assert_eq!(log_in_as("alice").status, 201);
    });
    let granted = "grant 1 of user group acme/developers on project a";
    assert_eq!(
        reloads(&app.database()),
        [
            json!(["user acme/bob added"]),
            json!(["access key AKBOB added"]),
            json!(["access key AKBOB changed"]),
            json!(["access key AKBOB removed"]),
            json!([format!("{granted} added"), "user group acme/developers added"]),
            json!([format!("{granted} changed")]),
            json!([format!("{granted} removed"), "user group acme/developers removed"]),
            json!(["user acme/bob removed"]),
        ]
    );
    let text = json!(records(&app.database())).to_string();
    for secret in ["bob-secret", "bob-other-secret", "admin-secret", "bob-password", "$argon2id$"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn a_change_of_each_kind_has_its_label() {
    let start = good();
    let app = TestApp::start_with_identities(&start, |_| {});
    let changes = [
        (
            start.replace("name = \"other\"", "name = \"another\""),
            json!([
                "domain other removed",
                "user other/other removed",
                "domain another added",
                "user another/another added",
            ]),
        ),
        (
            start.replace("a11ce000000000000000000000000001", "a11ce000000000000000000000000002"),
            json!(["user acme/alice changed"]),
        ),
        (start.replace("id = \"aaaaaaaa", "id = \"baaaaaaa"), json!(["project acme/a changed"])),
        (
            start.replace("users = [\"alice\", \"bob\"]", "users = [\"alice\"]"),
            json!(["user group acme/developers changed"]),
        ),
        (start.replace("ecs:*:list*", "ecs:*:get*"), json!(["policy acme/own changed"])),
        (
            start.replace("\"ecs:*:*\"", "\"ecs:*:get*\""),
            json!(["grant 2 of user group acme/developers on all_projects changed"]),
        ),
        (start.replacen(HASH, &cheap_hash("x"), 1), json!(["user acme/admin changed"])),
    ];
    let mut expected: Vec<Value> = Vec::new();
    for (text, differences) in changes {
        app.reload(&text);
        app.reload(&start);
        expected.push(differences);
    }
    let recorded = reloads(&app.database());
    assert_eq!(recorded.len(), 2 * expected.len(), "{recorded:#?}");
    let sorted = |differences: &Value| {
        let mut lines: Vec<_> = differences.as_array().unwrap().iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    for (found, expected) in recorded.iter().step_by(2).zip(&expected) {
        assert_eq!(sorted(found), sorted(expected));
    }
}

#[test]
fn a_file_that_says_the_same_is_not_recorded_and_a_broken_one_changes_nothing() {
    let text = accounts(&["alice"], "");
    let app = TestApp::start_with_identities(&text, |_| {});
    let token = token_for(&app.client, "acme", "alice", "alice-password", "a");
    let before = records(&app.database());
    app.reload(&text);
    app.reload(&format!("# the same\n\n{text}\n"));
    for broken in
        ["", "x", "[[domain]]", &text.replace("'alice'", "'admin'"), &format!("{text}\n[[domain.user]]")]
    {
        app.reload(broken);
        assert_eq!(app.client.with_token(&token).get("/v3/projects").status, 200, "{broken}");
        let scope = json!({ "project": { "name": "a" } });
        assert_eq!(log_in(&app.client, "acme", "alice", "x", &scope).status, 401);
    }
    assert_eq!(records(&app.database()), before);
    let scope = json!({ "project": { "name": "a" } });
    assert_eq!(log_in(&app.client, "acme", "alice", "alice-password", &scope).status, 201);
}

#[test]
fn with_dev_there_is_nothing_to_read_again() {
    let app = TestApp::start();
    app.reload("broken");
    assert_eq!(app.client.get(&groups_path()).status, 200);
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}

fn hang_up(service: &Process) {
    let kill = Command::new("kill").args(["-HUP", &service.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

/// Asks until it is so.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

#[test]
fn on_sighup_the_program_reads_its_accounts_again_and_a_broken_file_goes_to_its_log() {
    let alice = accounts(&["alice"], "");
    let bob = accounts(&["bob"], "");
    let (folder, path) = file_with(&alice);
    let (log, database) = (folder.path().join("log"), folder.path().join("ecs-groupd.db"));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--identities", path.to_str().unwrap()];
    let mut command = command(&arguments);
    command.env("ECS_GROUPD__ACCESS__LOGIN_FAILURES_PER_MINUTE", "0").stderr(File::create(&log).unwrap());
    let service = Process::spawn(command, folder.path());
    let scope = json!({ "project": { "name": "a" } });
    let log_in_as =
        |user: &str| log_in(&service.client, "acme", user, &format!("{user}-password"), &scope).status;
    assert_eq!((log_in_as("alice"), log_in_as("bob")), (201, 401));

    write_secret(&path, &bob);
    assert_eq!(log_in_as("bob"), 401, "nobody told it");
    hang_up(&service);
    wait_until("bob logs in", || log_in_as("bob") == 201);
    assert_eq!(log_in_as("alice"), 401);
    assert_eq!(reloads(&database), [json!(["user acme/alice removed", "user acme/bob added"])]);

    write_secret(&path, &bob.replace("'bob'", "'admin'"));
    hang_up(&service);
    let logged = |part: &str| std::fs::read_to_string(&log).unwrap().lines().any(|line| line.contains(part));
    wait_until("the error is logged", || logged("there are two of user acme/admin"));
    let text = std::fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains("there are two of")).unwrap();
    assert!(line.contains("ERROR") && line.contains("identities.toml:"), "{line}");
    assert_eq!(log_in_as("bob"), 201);

    write_secret(&path, &bob);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    hang_up(&service);
    wait_until("the mode is logged", || logged("can be read by group or others"));
    assert_eq!(log_in_as("bob"), 201);

    write_secret(&path, &alice);
    hang_up(&service);
    wait_until("alice logs in", || log_in_as("alice") == 201);
    assert_eq!(log_in_as("bob"), 401);
    assert_eq!(reloads(&database).len(), 2);
    assert_eq!(service.terminate(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    for secret in ["admin-secret", "-password\"", "$argon2id$"] {
        assert!(!log.contains(secret), "{secret} stands in the log");
    }
}

#[test]
fn what_changed_while_the_program_was_down_counts_from_its_start() {
    let alice = accounts(&["alice"], "");
    let app = TestApp::start_with_identities(&alice, |_| {});
    let token = token_for(&app.client, "acme", "alice", "alice-password", "a");
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(&["bob"], ""), |_| {});
    app.client.with_token(&token).get(&groups_of("a")).gateway_error(401, "APIGW.0301");
}

/// Runs a program with something on its standard input.
fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn hash_password_makes_a_line_that_a_file_takes_and_that_logs_in() {
    let mut lines: Vec<String> = Vec::new();
    for input in ["pass wörd '\"\\\n", "pass wörd '\"\\", "pass wörd '\"\\\r\n", "pass wörd '\"\\\nmore\n"]
    {
        let line = printed(&run_with_input(&["identity", "hash-password"], input));
        assert!(line.starts_with("password_hash = \"$argon2id$v=19$m=19456,t=2,p=1$"), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert!(!lines.contains(&line), "each has a salt of its own");
        lines.push(line);
    }
    let users: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(nth, line)| format!("[[domain.user]]\nname = 'user{nth}'\n{line}"))
        .collect();
    let users = users.concat();
    let app = TestApp::start_with_identities(&accounts(&[], &users), |_| {});
    for nth in 0..lines.len() {
        let user = format!("user{nth}");
        let scope = json!({ "project": { "name": "a" } });
        for (password, status) in [("pass wörd '\"\\", 201), ("pass wörd '\"\\\n", 401), ("", 401)] {
            let answer = log_in(&app.client, "acme", &user, password, &scope);
            assert_eq!(answer.status, status, "{user} {password:?}: {}", answer.text);
        }
    }
}

#[test]
fn no_password_and_one_that_is_too_long_to_log_in_with_are_not_hashed() {
    for input in ["", "\n", &format!("{}\n", "x".repeat(1_025))] {
        let (code, out, error) = ended(&run_with_input(&["identity", "hash-password"], input));
        assert!(code != 0 && out.is_empty(), "{} bytes: {out}", input.len());
        assert!(error.starts_with("ecs-groupd: "), "{error}");
    }
}

#[test]
fn new_access_key_makes_a_line_that_a_file_takes_and_that_signs() {
    let lines = [(); 2].map(|()| printed(&run(&["identity", "new-access-key"])));
    assert_ne!(lines[0], lines[1]);
    let users: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(nth, line)| format!("[[domain.user]]\nname = 'user{nth}'\n{line}"))
        .collect();
    let users = users.concat();
    let app = TestApp::start_with_identities(&accounts(&[], &users), |_| {});
    for line in &lines {
        let texts: Vec<_> = line.split('"').collect();
        let [_, access_key, _, secret_key, _] = texts[..] else { panic!("{line}") };
        assert_eq!(
            *line,
            format!("access_key = [{{ access = \"{access_key}\", secret = \"{secret_key}\" }}]\n")
        );
        let is_good = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(access_key.len() == 20 && is_good(access_key), "{access_key}");
        assert!(secret_key.len() == 40 && is_good(secret_key), "{secret_key}");
        let signer = Signer { access_key, secret_key, date: DATE };
        assert_eq!(app.client.send_signed(&signer, "GET", "/v3/projects", &[], b"").status, 200);
    }
}

const EXPLAINED: &str = r#"
[[domain.user_group]]
name = "developers"
users = ["alice"]

[[domain.policy]]
name = "own"
document = '''
{
  "Version": "5.0",
  "Statement": [
    { "Sid": "all", "Effect": "Allow", "Action": ["ecs:cloudServers:*ServerGroup*"] },
    { "Sid": "office", "Effect": "Deny", "Action": ["ecs:cloudServers:deleteServerGroup"],
      "Condition": { "NotIpAddress": { "g:SourceIp": ["192.0.2.0/24"] } } },
    { "Effect": "Deny", "Action": ["ecs:cloudServers:showServerGroup"], "Resource": ["ecs:*:*:instance:x"] }
  ]
}
'''

[[domain.grant]]
user_group = "developers"
policies = ["own"]
scope = { project = "a" }

[[domain.grant]]
user_group = "developers"
policies = ["ECS ReadOnlyAccess"]
scope = { project = "b" }

[[domain]]
name = "other"
root = {}
project = [{ name = "z" }]
user = [{ name = "alice" }]
"#;

fn explain(path: &Path, arguments: &[&str]) -> Output {
    let mut command = command(&["identity", "explain", "--identities", path.to_str().unwrap()]);
    command.args(arguments).output().unwrap()
}

#[test]
fn explain_says_which_statement_decided_and_why_the_others_did_not() {
    let (_folder, path) = file_with(&accounts(&["alice"], EXPLAINED));
    let said = |arguments: &[&str]| {
        let action = [&["--user", "acme/alice", "--action"][..], arguments].concat();
        printed(&explain(&path, &action))
    };
    let (create, delete) = ("ecs:cloudServers:createServerGroup", "ecs:cloudServers:deleteServerGroup");
    let in_a = ["--project", "a"];
    let assert_says = |said: &str, lines: &[&str]| {
        for line in lines {
            assert!(said.lines().any(|found| found.trim() == *line), "{said}\ndoes not say\n{line}");
        }
        assert_eq!(said.matches("\nproject   ").count(), 1, "{said}");
        assert_eq!(said.matches("\ndecision  ").count(), 1, "{said}");
    };
    let (allow, deny, other) = (
        "policy \"own\", statement 1 \"all\" (Allow)",
        "policy \"own\", statement 2 \"office\" (Deny)",
        "policy \"own\", statement 3 (Deny)",
    );
    let not_about = "is not about this action";

    assert_says(
        &said(&[create, in_a[0], in_a[1]]),
        &[
            "access level write, resource type -, alias ecs:cloudServers:create",
            &format!("action    {create}"),
            &format!("project   a ({PROJECT_A})"),
            &format!("decision  allowed by {allow}"),
            &format!("{allow}: applies"),
            &format!("{deny}: {not_about}"),
            &format!("{other}: {not_about}"),
        ],
    );
    assert_says(
        &said(&[delete, in_a[0], in_a[1], "--source-ip", "198.51.100.1"]),
        &[&format!("decision  denied by {deny}"), &format!("{deny}: applies"), &format!("{allow}: applies")],
    );
    assert_says(
        &said(&[delete, in_a[0], PROJECT_A, "--source-ip", "192.0.2.77"]),
        &[&format!("decision  allowed by {allow}"), &format!("{deny}: its Condition is not met")],
    );
    assert_says(
        &said(&["ecs:cloudServers:showServerGroup", in_a[0], in_a[1]]),
        &[
            "access level read, resource type -, alias ecs:cloudServers:get",
            &format!("decision  allowed by {allow}"),
            &format!(
                "{other}: has a Resource other than *, which an action without a resource type never meets"
            ),
        ],
    );
    assert_says(
        &said(&[create, "--project", "b"]),
        &[
            "decision  denied: no statement allows it",
            &format!("policy \"ECS ReadOnlyAccess\", statement 1 (Allow): {not_about}"),
        ],
    );
    assert_says(
        &said(&["ecs:cloudServers:listServerGroups", "--project", "b"]),
        &[
            "access level list, resource type -, alias ecs:cloudServers:list",
            "decision  allowed by policy \"ECS ReadOnlyAccess\", statement 1 (Allow)",
        ],
    );
    assert_says(
        &said(&[create, "--project", "c"]),
        &["decision  denied: no statement allows it", "no group of the user is granted anything here"],
    );
    let root = printed(&explain(&path, &["--user", "admin", "--action", delete, "--project", "c"]));
    assert_says(&root, &["decision  allowed: the root of an account may do everything in its projects"]);
}

#[test]
fn explain_takes_an_alias_any_case_and_every_project() {
    let (_folder, path) = file_with(&accounts(&["alice"], EXPLAINED));
    for action in ["ecs:cloudServers:create", "ECS:CLOUDSERVERS:CREATESERVERGROUP"] {
        let said = printed(&explain(&path, &["--user", "acme/alice", "--action", action]));
        assert!(said.contains("action    ecs:cloudServers:createServerGroup\n"), "{said}");
        assert_eq!(said.matches("\nproject   ").count(), 3, "each of the account's: {said}");
        assert_eq!(said.matches("\ndecision  allowed").count(), 1, "{said}");
    }
    let user_id = printed(&explain(&path, &["--user", "acme/alice", "--action", "ecs:cloudServers:create"]));
    let user_id = user_id.lines().next().unwrap().rsplit(['(', ')']).nth(1).unwrap().to_owned();
    let said = printed(&explain(&path, &["--user", &user_id, "--action", "ecs:cloudServers:create"]));
    assert!(said.starts_with("user      acme/alice ("), "{said}");
}

#[test]
fn explain_says_what_there_is_when_something_is_not_there() {
    let (_folder, path) = file_with(&accounts(&["alice"], EXPLAINED));
    let create = "ecs:cloudServers:createServerGroup";
    for (user, action, project, parts) in [
        ("nobody", create, "a", &["\"nobody\"", "acme/admin, acme/alice, other/alice, other/other"][..]),
        ("alice", create, "a", &["not one user \"alice\"", "acme/alice"]),
        ("ACME/alice", create, "a", &["\"ACME/alice\""]),
        ("acme/alice", "ecs:cloudServers:fly", "a", &["\"ecs:cloudServers:fly\"", create]),
        ("acme/alice", "", "a", &["no action \"\""]),
        ("acme/alice", "ecs-groupd:database:reset", "a", &["that a policy can grant"]),
        ("acme/alice", "ecs-groupd:token:issue", "a", &["that a policy can grant"]),
        ("acme/alice", create, "z", &["no project \"z\"", "it has a, b, c"]),
        ("acme/alice", create, "", &["no project \"\""]),
    ] {
        let output = explain(&path, &["--user", user, "--action", action, "--project", project]);
        let (code, out, error) = ended(&output);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
    let create = ["identity", "explain", "--user", "acme/alice", "--action", create];
    assert_eq!(run(&create).status.code(), Some(2), "no file");
    let mut by_setting = command(&create);
    by_setting.env("ECS_GROUPD__ACCESS__IDENTITIES", &path);
    assert!(printed(&by_setting.output().unwrap()).contains("decision  allowed by"));
    let bad_ip = [&create[..], &["--identities", path.to_str().unwrap(), "--source-ip", "x"]].concat();
    assert_eq!(run(&bad_ip).status.code(), Some(2));
}

#[test]
fn explain_decides_as_the_service_does() {
    let text = accounts(&["alice"], EXPLAINED);
    let (_folder, path) = file_with(&text);
    let app = TestApp::start_with_identities(&text, |_| {});
    let missing = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
    for project in ["a", "b", "c"] {
        let token = token_for(&app.client, "acme", "alice", "alice-password", project);
        let client = app.client.with_token(&token);
        let groups = groups_of(project);
        for (action, method, path_asked) in [
            ("createServerGroup", "POST", groups.clone()),
            ("listServerGroups", "GET", groups.clone()),
            ("showServerGroup", "GET", format!("{groups}/{missing}")),
            ("deleteServerGroup", "DELETE", format!("{groups}/{missing}")),
        ] {
            let answer = client.send(method, &path_asked, &[("content-type", "application/json")], b"{}");
            let name = format!("ecs:cloudServers:{action}");
            let arguments =
                ["--user", "acme/alice", "--action", &name, "--project", project, "--source-ip", "127.0.0.1"];
            let said = printed(&explain(&path, &arguments));
            let is_allowed = said.contains("\ndecision  allowed by ");
            assert_eq!(answer.status != 403, is_allowed, "{action} in {project}: {} {said}", answer.text);
        }
    }
}

#[test]
fn a_trusted_proxy_says_where_a_request_came_from_and_nobody_else() {
    let proxies = |text: &str| Networks::try_from(text.to_owned()).unwrap();
    for (trusted, forwarded_for, expected) in [
        ("", &["198.51.100.7"][..], "127.0.0.1"),
        ("10.0.0.0/8", &["198.51.100.7"], "127.0.0.1"),
        ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", &[], "127.0.0.1"),
        ("127.0.0.1", &["x"], "127.0.0.1"),
        ("127.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("127.0.0.0/8, 10.0.0.0/8", &["203.0.113.9, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ("127.0.0.0/8, 10.0.0.0/8", &["203.0.113.9, 198.51.100.7", "10.1.2.3"], "198.51.100.7"),
        ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
    ] {
        let app = TestApp::start_with(|settings| settings.api.trusted_proxies = proxies(trusted));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(forwarded_for.iter().map(|value| ("x-forwarded-for", *value)));
        let answer = app.client.send("POST", &groups_path(), &headers, create_body("web").as_bytes());
        assert_eq!(answer.status, 200);
        assert_eq!(records(&app.database())[0]["source_ip"], expected, "{trusted:?} {forwarded_for:?}");
    }
}

#[test]
fn a_condition_on_the_source_address_sees_through_a_trusted_proxy() {
    let app = TestApp::start_with_identities(&accounts(&["alice"], EXPLAINED), |settings| {
        settings.api.trusted_proxies = Networks::try_from("127.0.0.1".to_owned()).unwrap();
    });
    let token = token_for(&app.client, "acme", "alice", "alice-password", "a");
    let client = app.client.with_token(&token);
    let path = format!("{}/5bbcc3c4-1da2-4437-a48a-66f15b1b13f9", groups_of("a"));
    for (address, status) in
        [("192.0.2.77", 404), ("198.51.100.1", 403), ("192.0.2.77, 198.51.100.1", 403), ("x, 192.0.2.1", 404)]
    {
        let answer = client.send("DELETE", &path, &[("x-forwarded-for", address)], b"");
        assert_eq!(answer.status, status, "{address}: {}", answer.text);
    }
    assert_eq!(client.delete(&path).status, 403, "from the proxy itself");
}
