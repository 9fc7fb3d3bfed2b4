//! The settings: their layers, their ranges, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use config::{Environment, Map};
use ecs_groupd::settings::{self, ControlListen, Overrides, Settings};
use toml::{Table, Value};

/// Runs `ecs-groupd config`, without the environment of whoever runs the tests.
fn config(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.arg("config").args(arguments).current_dir(folder);
    command.env_clear().envs(environment.iter().copied()).output().unwrap()
}

fn shown(output: &Output) -> Table {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap().parse().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every setting by its full name, with its default.
fn defaults() -> BTreeMap<String, Value> {
    flat(&settings::DEFAULT.parse().unwrap())
}

fn flat(table: &Table) -> BTreeMap<String, Value> {
    let sections = table.iter().map(|(section, keys)| (section, keys.as_table().unwrap()));
    sections
        .flat_map(|(section, keys)| {
            keys.iter().map(move |(key, value)| (format!("{section}.{key}"), value.clone()))
        })
        .collect()
}

/// What the program says to one value in a file.
fn check(key: &str, value: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (section, name) = key.split_once('.').unwrap();
    std::fs::write(folder.path().join("settings.toml"), format!("[{section}]\n{name} = {value}\n")).unwrap();
    config(folder.path(), &["check", "--config", "settings.toml"], &[])
}

#[track_caller]
fn assert_refused(key: &str, value: &str) -> String {
    let refused = check(key, value);
    assert_eq!(refused.status.code(), Some(3), "{key} = {value} was taken");
    let said = said(&refused);
    assert!(said.contains(&format!("`{key}`")), "{key} = {value}: {said}");
    said
}

#[test]
fn each_layer_overrides_the_ones_before_it_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[quota]\ngroups_per_project = 2\nmembers_per_group = 2\n[database]\npath = '2.db'\n";
    std::fs::write(folder.path().join("settings.toml"), file).unwrap();
    let environment =
        [("ECS_GROUPD__QUOTA__GROUPS_PER_PROJECT", "3"), ("ECS_GROUPD__DATABASE__PATH", "3.db")];
    let of = |arguments: &[&str], environment: &[(&str, &str)]| {
        let shown = flat(&shown(&config(folder.path(), arguments, environment)));
        let text = |key: &str| shown[key].to_string().trim_matches('"').to_owned();
        [
            "database.path",
            "quota.groups_per_project",
            "quota.members_per_group",
            "quota.groups_per_project",
            "database.queue_max",
        ]
        .map(text)
    };
    assert_eq!(of(&["show"], &[]), ["ecs-groupd.db", "10000", "16", "10000", "4096"]);
    let with_file = ["show", "--config", "settings.toml"];
    assert_eq!(of(&with_file, &[]), ["2.db", "2", "2", "2", "4096"]);
    assert_eq!(of(&with_file, &environment), ["3.db", "3", "2", "3", "4096"]);
    let with_flag = ["show", "--config", "settings.toml", "--database", "4.db"];
    assert_eq!(of(&with_flag, &environment), ["4.db", "3", "2", "3", "4096"]);
}

#[test]
fn what_is_shown_is_every_setting_there_is_with_its_default() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(flat(&shown(&config(folder.path(), &["show"], &[]))), defaults());
}

#[test]
fn a_variable_that_names_no_setting_is_refused_with_the_nearest_one() {
    let folder = tempfile::tempdir().unwrap();
    for (variable, key, nearest) in [
        ("ECS_GROUPD__QUOTA__GROUP_PER_PROJECT", "quota.group_per_project", Some("quota.groups_per_project")),
        (
            "ECS_GROUPD__QUOTAS__GROUPS_PER_PROJECT",
            "quotas.groups_per_project",
            Some("quota.groups_per_project"),
        ),
        ("ECS_GROUPD__DATABASE__PATHS", "database.paths", Some("database.path")),
        ("ECS_GROUPD__ZEBRA", "zebra", None),
    ] {
        let refused = config(folder.path(), &["show"], &[(variable, "1")]);
        assert_eq!(refused.status.code(), Some(3), "{variable}");
        let said = said(&refused);
        assert!(said.contains(&format!("unknown setting `{key}` in the environment")), "{said}");
        match nearest {
            Some(nearest) => assert!(said.contains(&format!("did you mean `{nearest}`?")), "{said}"),
            None => assert!(!said.contains("did you mean"), "{said}"),
        }
    }
}

#[test]
fn every_number_is_taken_up_to_both_ends_of_its_range_and_refused_by_name_beyond() {
    const HOUR_S: i64 = 3_600;
    let mut ranges = BTreeMap::from([
        ("http.workers", 0..=512),
        ("http.body_bytes_max", 1_024..=1_073_741_824),
        ("http.body_deadline_ms", 10..=HOUR_S * 1_000),
        ("http.head_deadline_ms", 10..=HOUR_S * 1_000),
        ("http.uri_bytes_max", 256..=65_536),
        ("http.keep_alive_s", 1..=HOUR_S),
        ("http.connections_per_worker_max", 1..=1_000_000),
        ("http.stop_deadline_s", 0..=HOUR_S),
        ("database.size_bytes_max", 0..=i64::MAX),
        ("database.read_connections", 1..=256),
        ("database.read_deadline_ms", 10..=HOUR_S * 1_000),
        ("database.queue_max", 1..=1_000_000),
        ("database.batch_max", 1..=10_000),
        ("database.checkpoint_every_s", 1..=24 * HOUR_S),
        ("access.token_lifetime_s", 60..=30 * 24 * HOUR_S),
        ("access.lock_after_failures", 0..=i64::from(u32::MAX)),
        ("access.login_failures_per_minute", 0..=i64::from(u32::MAX)),
        ("audit.checkpoint_records", 1..=1_000_000),
        ("audit.checkpoint_every_s", 1..=HOUR_S),
        ("audit.retention_days", 0..=36_500),
        ("audit.refusals_per_minute", 0..=i64::from(u32::MAX)),
        ("quota.groups_per_project", 0..=i64::from(u32::MAX)),
        ("quota.members_per_group", 0..=i64::from(u32::MAX)),
    ]);
    for (key, _) in defaults().iter().filter(|(_, default)| default.is_integer()) {
        let range = ranges.remove(key.as_str()).unwrap_or_else(|| panic!("{key} has no range here"));
        let (least, most) = range.into_inner();
        for value in [least, most] {
            let taken = check(key, &value.to_string());
            assert!(taken.status.success(), "{key} = {value}: {}", said(&taken));
        }
        let refused = assert_refused(key, &(least - 1).to_string());
        if least > 0 {
            assert!(refused.contains(&format!("`{key}` must be from {least} to {most}")), "{refused}");
        }
        if let Some(too_large) = most.checked_add(1) {
            assert_refused(key, &too_large.to_string());
        }
    }
    assert!(ranges.is_empty(), "no longer a setting: {ranges:?}");
}

#[test]
fn a_value_of_another_kind_is_refused_by_name_and_never_bent_into_shape() {
    let others = ["true", "7", "7.5", "'text'", "[]", "['text']"];
    for (key, default) in defaults() {
        for other in others {
            let value: Value = format!("value = {other}").parse::<Table>().unwrap().remove("value").unwrap();
            if !value.same_type(&default) {
                assert_refused(&key, other);
            }
        }
    }
}

#[test]
fn a_text_from_the_environment_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["7.db", "007", "1e3", "true", "1_000", " spaced ", "é"] {
        let shown = shown(&config(folder.path(), &["show"], &[("ECS_GROUPD__DATABASE__PATH", path)]));
        assert_eq!(shown["database"]["path"].as_str(), Some(path));
    }
}

#[test]
fn a_path_that_is_no_unicode_is_never_taken_for_another_one() {
    let path = PathBuf::from(OsString::from(OsStr::from_bytes(b"\xff.db")));
    let flags = Overrides { database: Some(path.clone()), ..Overrides::default() };
    let no_environment = Environment::default().source(Some(Map::default()));
    // Refusing it would be as good.
    if let Ok(settings) = Settings::load_with(None, no_environment, &flags) {
        assert_eq!(settings.database.path, path);
    }
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.toml")).unwrap();
    std::fs::write(folder.path().join("bytes.toml"), b"[quota]\n\xff").unwrap();
    std::fs::write(folder.path().join("open.toml"), "[quota\n").unwrap();
    std::fs::write(
        folder.path().join("twice.toml"),
        "[quota]\nmembers_per_group = 1\nmembers_per_group = 2\n",
    )
    .unwrap();
    assert!(config(folder.path(), &["check"], &[]).status.success());
    for name in ["nowhere.toml", "folder.toml", "bytes.toml", "open.toml", "twice.toml"] {
        for verb in ["show", "check"] {
            let refused = config(folder.path(), &[verb, "--config", name], &[]);
            assert_eq!(refused.status.code(), Some(3), "{name}: {}", said(&refused));
            assert!(said(&refused).contains(name), "{name}: {}", said(&refused));
            assert_eq!(refused.stdout, b"", "{name}");
        }
    }
}

#[test]
fn no_two_settings_have_the_same_comment() {
    let lines: Vec<&str> = settings::DEFAULT.lines().collect();
    let mut comments = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            let comment = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
            let comment: Vec<_> = comment.copied().collect();
            assert!(!comment.is_empty(), "no comment above {line:?}");
            assert!(comments.insert(comment), "the comment above {line:?} stands elsewhere too");
        }
    }
    assert_eq!(comments.len(), defaults().len());
}

#[test]
fn an_unknown_key_in_a_file_is_refused_by_name_with_its_place_and_the_nearest_one() {
    let said = assert_refused("quota.grups_per_project", "2");
    for part in [
        "unknown setting `quota.grups_per_project` in settings.toml",
        "did you mean `quota.groups_per_project`?",
    ] {
        assert!(said.contains(part), "{part:?}: {said}");
    }
    let said = assert_refused("zebra.stripes", "9");
    assert!(said.contains("unknown setting `zebra.stripes`") && !said.contains("did you mean"), "{said}");
}

#[test]
fn a_value_that_makes_no_sense_is_refused_with_what_would() {
    for (key, value, rule) in [
        ("quota.groups_per_project", "4_294_967_296", "4294967296"),
        ("control.listen", "'unix:'", "unix:"),
        ("control.listen", "'there'", "there"),
        ("log.level", "'loud'", "must be off, error, warn, info, debug or trace, and is \"loud\""),
        ("api.listen", "'here'", "must be ADDRESS:PORT, as in 127.0.0.1:8774, and is \"here\""),
    ] {
        let said = assert_refused(key, value);
        assert!(said.contains(rule), "{key} = {value}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), "quota = 7\n").unwrap();
    let refused = config(folder.path(), &["check", "--config", "settings.toml"], &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(said(&refused).contains("`quota`"), "{}", said(&refused));
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
        let flags = Overrides { control_listen: Some(text.to_owned()), ..Overrides::default() };
        let no_environment = Environment::default().source(Some(Map::default()));
        let settings = Settings::load_with(None, no_environment, &flags).unwrap();
        assert_eq!(settings.control.listen, expected);
    }
}

#[test]
fn config_default_prints_the_file_that_is_compiled_in() {
    let printed = config(Path::new("/"), &["default"], &[]);
    assert!(printed.status.success(), "{}", said(&printed));
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), include_str!("../../config/default.toml"));
}

#[test]
fn what_config_show_prints_is_a_file_of_the_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[quota]\ngroups_per_project = 2\n[control]\nlisten = 'unix:/run/x'\n").unwrap();
    let show = || config(folder.path(), &["show", "--config", "settings.toml"], &[]);
    let first = show();
    assert_eq!(shown(&first)["quota"]["groups_per_project"].as_integer(), Some(2));
    std::fs::write(&file, &first.stdout).unwrap();
    assert_eq!(show().stdout, first.stdout);
}
