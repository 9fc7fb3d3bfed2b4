//! The settings: their layers, and what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use config::{Environment, Map};
use ecs_groupd::settings::{self, ControlListen, Overrides, Settings, SettingsError};

/// The settings from a file, an environment and flags of a test's own.
fn load(
    file: Option<&str>,
    environment: &[(&str, &str)],
    overrides: &Overrides,
) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = file.map(|text| write(folder.path(), text));
    let variables: Map<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let environment = Environment::with_prefix("ECS_GROUPD").prefix_separator("__").separator("__");
    Settings::load_with(path.as_deref(), environment.source(Some(variables)), overrides)
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn refused(file: Option<&str>, environment: &[(&str, &str)]) -> String {
    load(file, environment, &Overrides::default()).unwrap_err().to_string()
}

#[test]
fn the_layers_are_defaults_then_file_then_environment_then_flags() {
    let file = "[quota]\ngroups_per_project = 2\n[database]\npath = 'file.db'\nqueue_max = 7\n";
    let environment =
        [("ECS_GROUPD__QUOTA__GROUPS_PER_PROJECT", "3"), ("ECS_GROUPD__DATABASE__PATH", "environment.db")];
    let flags = Overrides { database: Some("flags.db".into()), ..Overrides::default() };

    let defaults = load(None, &[], &Overrides::default()).unwrap();
    assert_eq!((defaults.quota.groups_per_project, defaults.database.queue_max), (10_000, 4_096));
    assert_eq!(defaults.database.path, Path::new("ecs-groupd.db"));
    let from_file = load(Some(file), &[], &Overrides::default()).unwrap();
    assert_eq!((from_file.quota.groups_per_project, from_file.database.queue_max), (2, 7));
    assert_eq!(from_file.database.path, Path::new("file.db"));
    let from_environment = load(Some(file), &environment, &Overrides::default()).unwrap();
    assert_eq!((from_environment.quota.groups_per_project, from_environment.database.queue_max), (3, 7));
    assert_eq!(from_environment.database.path, Path::new("environment.db"));
    let from_flags = load(Some(file), &environment, &flags).unwrap();
    assert_eq!((from_flags.quota.groups_per_project, from_flags.database.queue_max), (3, 7));
    assert_eq!(from_flags.database.path, Path::new("flags.db"));
}

#[test]
fn an_unknown_key_is_refused_by_name_with_its_place_and_the_nearest_one() {
    let said = refused(Some("[quota]\ngrups_per_project = 2\n"), &[]);
    assert!(said.contains("unknown setting `quota.grups_per_project` in "), "{said}");
    assert!(said.contains("settings.toml"), "{said}");
    assert!(said.contains("did you mean `quota.groups_per_project`?"), "{said}");
    let said = refused(None, &[("ECS_GROUPD__HTTP__BODY_BYTE_MAX", "1")]);
    assert!(
        said.contains(
            "unknown setting `http.body_byte_max` in the environment, did you mean `http.body_bytes_max`?"
        ),
        "{said}"
    );
    let said = refused(Some("[zebra]\nstripes = 9\n"), &[]);
    assert!(said.contains("unknown setting `zebra.stripes`"), "{said}");
    assert!(!said.contains("did you mean"), "nothing is near: {said}");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_name() {
    for (file, key) in [
        ("[quota]\ngroups_per_project = 'many'\n", "quota.groups_per_project"),
        ("[quota]\ngroups_per_project = -1\n", "quota.groups_per_project"),
        ("[quota]\ngroups_per_project = 4_294_967_296\n", "quota.groups_per_project"),
        ("[dev]\nanonymous = 'perhaps'\n", "dev.anonymous"),
        ("[api]\nlisten = 'here'\n", "api.listen"),
        ("[control]\nlisten = 'unix:'\n", "control.listen"),
        ("[control]\nlisten = 'there'\n", "control.listen"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("[log]\nlevel = 'loud'\n", "must be off, error, warn, info, debug or trace, and is \"loud\""),
        ("[api]\nlisten = 'here'\n", "must be ADDRESS:PORT, as in 127.0.0.1:8774, and is \"here\""),
        ("quota = 7\n", "quota"),
    ] {
        let said = refused(Some(file), &[]);
        assert!(said.contains(key), "{file:?}: {said}");
    }
}

#[test]
fn the_ends_of_every_range_are_taken_and_one_beyond_is_refused_by_name() {
    for (section, name, least, most) in [
        ("http", "workers", 0, 512),
        ("http", "body_bytes_max", 1_024, 1 << 30),
        ("http", "body_deadline_ms", 10, 3_600_000),
        ("http", "head_deadline_ms", 10, 3_600_000),
        ("http", "uri_bytes_max", 256, 65_536),
        ("http", "keep_alive_s", 1, 3_600),
        ("http", "connections_per_worker_max", 1, 1_000_000),
        ("http", "stop_deadline_s", 0, 3_600),
        ("database", "read_connections", 1, 256),
        ("database", "read_deadline_ms", 10, 3_600_000),
        ("database", "queue_max", 1, 1_000_000),
        ("database", "batch_max", 1, 10_000),
        ("database", "checkpoint_every_s", 1, 86_400),
    ] {
        let file = |value: i64| format!("[{section}]\n{name} = {value}\n");
        for value in [least, most] {
            assert!(
                load(Some(&file(value)), &[], &Overrides::default()).is_ok(),
                "{section}.{name} = {value}"
            );
        }
        for value in [least - 1, most + 1] {
            let said = refused(Some(&file(value)), &[]);
            assert!(said.contains(&format!("{section}.{name}")), "{said}");
        }
        let said = refused(Some(&file(most + 1)), &[]);
        assert!(said.contains(&format!("`{section}.{name}` must be from {least} to {most}")), "{said}");
    }
}

#[test]
fn the_control_listener_is_auto_off_a_port_or_a_socket() {
    for (text, expected) in [
        ("auto", ControlListen::Auto),
        ("off", ControlListen::Off),
        ("127.0.0.1:1", ControlListen::Tcp("127.0.0.1:1".parse().unwrap())),
        ("[::1]:1", ControlListen::Tcp("[::1]:1".parse().unwrap())),
        ("unix:/run/x", ControlListen::Unix("/run/x".into())),
    ] {
        let overrides = Overrides { control_listen: Some(text.to_owned()), ..Overrides::default() };
        assert_eq!(load(None, &[], &overrides).unwrap().control.listen, expected);
    }
}

#[test]
fn every_setting_says_what_it_means() {
    let mut last_was_comment = false;
    for line in settings::DEFAULT.lines() {
        let is_setting = line.contains('=') && !line.starts_with('#');
        assert!(!is_setting || last_was_comment, "no comment above {line:?}");
        last_was_comment = line.starts_with('#');
    }
}

fn config(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    let output = command.arg("config").args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn config_default_prints_the_file_that_is_compiled_in() {
    let (code, printed, _) = config(Path::new("/"), &["default"]);
    assert_eq!((code, printed.as_str()), (Some(0), include_str!("../../config/default.toml")));
}

#[test]
fn what_config_show_prints_is_a_file_of_the_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "[quota]\ngroups_per_project = 2\n[control]\nlisten = 'unix:/run/x'\n");
    let (code, shown, said) = config(folder.path(), &["show", "--config", "settings.toml"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("groups_per_project = 2"), "{shown}");
    write(folder.path(), &shown);
    assert_eq!(config(folder.path(), &["show", "--config", "settings.toml"]).1, shown);
}

#[test]
fn config_check_says_what_is_wrong_and_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(config(folder.path(), &["check"]).0, Some(0));
    for (text, reason) in [
        ("[quota]\ngrups = 2\n", "quota.grups"),
        ("[quota\n", "settings.toml"),
        ("[http]\nuri_bytes_max = 1\n", "http.uri_bytes_max"),
    ] {
        write(folder.path(), text);
        let (code, _, said) = config(folder.path(), &["check", "--config", "settings.toml"]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(reason), "{text:?}: {said}");
    }
    let (code, _, said) = config(folder.path(), &["check", "--config", "nowhere.toml"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("nowhere.toml"), "{said}");
}
