//! A log that is not the one that was left is read and not written, until that is accepted; and an honest one is never
//! taken for such a one.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::identities::dev;
use ecs_groupd::ops::audit::verify::{Ask, Which, verify};
use ecs_groupd::ops::{self, key};
use ecs_groupd::store;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoint::{check_checkpoints, lines_of, sizes};
use crate::harness::{Client, Process, all_records, create_body, group_path, groups_path, store_options};
use crate::log_builder::keys_of;
use crate::member::{add, ecs};
use crate::one_batch::check_tree;

const DATABASE: &str = "ecs-groupd.db";
const FLAG: &str = "--accept-audit-loss";
const ACCEPTED: &str = "ecs-groupd:audit:acceptLoss";
const KEY_CHANGED: &str = "ecs-groupd:audit:changeKey";
const CHANGED: &str = "its first 11 records are not those that its checkpoint tells of";
const SINCE: &str = "its tree is not what its checkpoint of ";
/// The records that [`Left::new`] leaves: the key's, the start's, [`GROUPS`], the stop's.
const RECORDS: u64 = 11;
const GROUPS: usize = 8;

/// `ecs-groupd serve --dev`, which signs after every third record, and otherwise only at its start and stop.
fn serve_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--database", DATABASE]).args(arguments);
    command.env("ECS_GROUPD__AUDIT__CHECKPOINT_RECORDS", "3");
    command.env("ECS_GROUPD__AUDIT__CHECKPOINT_EVERY_S", "3600");
    command
}

/// A database that a service left, signed, with its key and its checkpoints.
struct Left {
    folder: TempDir,
}

impl Left {
    fn new() -> Self {
        let left = Self { folder: tempfile::tempdir().unwrap() };
        let process = left.serve(&[]);
        (0..GROUPS).for_each(|nth| drop(process.client.create(&format!("group-{nth}"))));
        assert_eq!(process.terminate(), Some(0));
        assert_eq!(left.sizes(), [1, 4, 7, 10, RECORDS]);
        left
    }

    fn at(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{DATABASE}{ending}"))
    }

    fn serve(&self, arguments: &[&str]) -> Process {
        let mut command = serve_command(arguments);
        command.stderr(File::create(self.folder.path().join("log")).unwrap());
        Process::spawn(command, self.folder.path())
    }

    /// Runs a start that must fail to its end.
    fn refused(&self, arguments: &[&str]) -> Output {
        // Should it start, it stops at once.
        let mut command = serve_command(arguments);
        command.arg("--exit-with-parent").stdin(Stdio::null()).current_dir(self.folder.path());
        command.output().unwrap()
    }

    /// The lines of the last service's log.
    fn log(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn records(&self) -> Vec<Value> {
        all_records(&self.at(""))
    }

    fn sizes(&self) -> Vec<u64> {
        sizes(&lines_of(&self.at(".checkpoints")))
    }

    /// Does something to the log that its triggers are there to stop.
    fn meddle(&self, work: impl FnOnce(&Connection)) {
        let conn = Connection::open(self.at("")).unwrap();
        let mut select = conn
            .prepare("select name, sql from sqlite_schema where type = 'trigger' and name glob 'audit_*'")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let triggers: Vec<(String, String)> = rows.map(Result::unwrap).collect();
        drop(select);
        for (name, _) in &triggers {
            conn.execute_batch(&format!("drop trigger {name}")).unwrap();
        }
        work(&conn);
        for (_, sql) in &triggers {
            conn.execute_batch(sql).unwrap();
        }
    }
}

/// Makes leaves and edge fit the records, as somebody would who knows how they are made.
fn mend(conn: &Connection) {
    let mut edge = Edge::default();
    let mut select = conn.prepare("select seq, bytes from audit_record order by seq").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let records: Vec<(i64, Vec<u8>)> = rows.map(Result::unwrap).collect();
    for (seq, bytes) in records {
        let leaf = tree::leaf(&bytes);
        conn.execute("update audit_record set leaf = ? where seq = ?", (&leaf[..], seq)).unwrap();
        edge.push(leaf);
    }
    let (size, hashes) = (edge.size().cast_signed(), edge.to_bytes());
    conn.execute("update audit_edge set size = ?, hashes = ?", (size, hashes)).unwrap();
}

/// Makes one record, or each of them, tell something else of the same length.
fn rewrite(conn: &Connection, which: &str) {
    let sql = format!(
        "update audit_record set bytes = cast(replace(cast(bytes as text), '\"outcome\":\"done\"', '\"outcome\":\"gone\"') as blob)
         where {which}"
    );
    assert!(conn.execute(&sql, []).unwrap() > 0);
}

/// Checks that a service starts on what is left, answers reads, writes nothing and says why.
#[track_caller]
fn assert_doubted(left: &Left, reason: &str) {
    let before = (left.records(), std::fs::read(left.at(".checkpoints")).ok());
    let process = left.serve(&[]);
    let client = &process.client;
    let ids = client.list_ids();
    if let Some(id) = ids.first() {
        assert_eq!(client.get(&group_path(id)).status, 200, "reads go on");
    }
    let ready = client.get("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text);
    let told = ready.json()["reason"].as_str().unwrap().to_owned();
    assert!(told.starts_with("the audit log was cut or changed: "), "{told}");
    for part in [reason, FLAG, "put the right files back", "`ecs-groupd audit verify`"] {
        assert!(told.contains(part), "no {part:?} in {told:?}");
    }
    assert_eq!(client.get("/livez").status, 200);
    let id = ids.first().cloned().unwrap_or_else(|| ecs(1));
    let native = groups_path().replace("/v1/", "/v2.1/").replace("/cloudservers", "");
    let control: std::net::SocketAddr =
        process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let bearer = [("authorization", "Bearer dev-control-token")];
    for answer in [
        client.post_json(&groups_path(), &create_body("late")),
        client.delete(&group_path(&id)),
        add(client, &id, &ecs(1)),
    ] {
        assert_eq!(answer.header("retry-after"), Some("1"));
        let message = answer.ecs_error(503, "Common.1503");
        assert!(message.contains("audit log was cut or changed"), "{message}");
    }
    for answer in [
        client.post_json(&native, &create_body("late")),
        Client::new(control).send("POST", "/control/reset", &bearer, &[]),
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.text.contains("audit log was cut or changed"), "{}", answer.text);
    }
    assert_eq!(client.list_ids(), ids);
    assert_eq!(process.terminate(), Some(0));
    let log = left.log();
    let said = log.iter().find(|line| line["level"] == "ERROR" && line["reason"].is_string());
    let said = said.unwrap_or_else(|| panic!("the log does not say it: {log:#?}"));
    assert!(said["reason"].as_str().unwrap().contains(reason), "{said}");
    assert!(said["message"].as_str().unwrap().contains(FLAG), "{said}");
    assert_eq!((left.records(), std::fs::read(left.at(".checkpoints")).ok()), before, "nothing was written");
}

/// Checks that a service that is told to goes on, writes that down, signs what there is, and that the next one need
/// not be told.
#[track_caller]
fn assert_gone_on_with(left: &Left, reason: &str, expected_size: u64, is_key_new: bool) {
    let found = left.records();
    let process = left.serve(&[FLAG]);
    assert_eq!(process.client.get("/readyz").status, 200);
    let signed = left.sizes();
    let id = process.client.create("after");
    process.kill();
    let records = left.records();
    assert_eq!(records[..found.len()], found, "what there was stays as it was");
    let actions: Vec<_> =
        records[found.len()..].iter().map(|record| record["action"].as_str().unwrap()).collect();
    let first = if is_key_new { &[ACCEPTED, KEY_CHANGED][..] } else { &[ACCEPTED] };
    let rest = ["ecs-groupd:service:start", "ecs:cloudServers:createServerGroup"];
    assert_eq!(actions, [first, &rest].concat());
    let accepted = &records[found.len()];
    assert_eq!((&accepted["outcome"], &accepted["actor"]["type"]), (&"done".into(), &"operator".into()));
    let asked = &accepted["asked"];
    assert!(asked["reason"].as_str().unwrap().contains(reason), "{asked}");
    assert_eq!(
        (asked["expected_size"].as_u64(), asked["found_size"].as_u64()),
        (Some(expected_size), Some(found.len() as u64))
    );
    let accepted_size = (found.len() + first.len()) as u64;
    assert!(signed.contains(&accepted_size), "signed at {signed:?}, and not at {accepted_size}");
    let is_warned = left.log().iter().any(|line| line["level"] == "WARN" && line["reason"].is_string());
    assert!(is_warned, "{:#?}", left.log());
    check_tree(&Connection::open(left.at("")).unwrap());

    let process = left.serve(&[]);
    assert_eq!(process.client.get("/readyz").status, 200, "{:#?}", left.log());
    assert_eq!(process.client.delete(&group_path(&id)).status, 204);
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(left.records().len(), records.len() + 3, "start, delete and stop");
    assert_eq!(left.sizes().last(), Some(&(left.records().len() as u64)));
    check_tree(&Connection::open(left.at("")).unwrap());
    let process = left.serve(&[]);
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn records_cut_off_the_end_are_missed_also_when_the_edge_was_mended() {
    let reason = "it has 8 records, and its newest checkpoint tells of 11";
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq > 8", []).unwrap();
        mend(conn);
    });
    assert_doubted(&left, reason);
    assert_gone_on_with(&left, reason, RECORDS, false);
}

#[test]
fn records_cut_off_the_end_are_missed_when_the_edge_was_left() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq > 8", []).unwrap();
    });
    let reason = "it has 8 records, and its newest checkpoint tells of 11";
    assert_doubted(&left, reason);
    assert_gone_on_with(&left, reason, RECORDS, false);
}

#[test]
fn a_record_that_was_changed_is_noticed_though_its_leaf_and_the_edge_were_mended() {
    let left = Left::new();
    left.meddle(|conn| {
        rewrite(conn, "seq = 5");
        mend(conn);
    });
    assert_doubted(&left, CHANGED);
    assert_gone_on_with(&left, CHANGED, RECORDS, false);
}

#[test]
fn a_record_that_was_changed_since_the_newest_checkpoint_is_noticed_by_the_edge() {
    let left = Left::new();
    let process = left.serve(&[]);
    process.client.create("signed");
    process.client.create("not signed");
    process.kill();
    assert_eq!(left.sizes().last(), Some(&12), "the start's record is signed, as nothing was before it");
    left.meddle(|conn| rewrite(conn, "seq = 14"));
    assert_doubted(&left, "the record 14 was changed: its leaf is not its hash");
    // What is gone on with is what there is, so that the tree is over these records from there on.
    left.meddle(|conn| {
        let bytes: Vec<u8> =
            conn.query_row("select bytes from audit_record where seq = 14", [], |row| row.get(0)).unwrap();
        conn.execute("update audit_record set leaf = ? where seq = 14", [&tree::leaf(&bytes)[..]]).unwrap();
    });
    assert_gone_on_with(&left, SINCE, 14, false);
}

#[test]
fn a_log_that_was_rewritten_from_its_first_record_on_is_noticed() {
    let left = Left::new();
    left.meddle(|conn| {
        rewrite(conn, "true");
        mend(conn);
    });
    assert_doubted(&left, CHANGED);
    assert_gone_on_with(&left, CHANGED, RECORDS, false);
}

#[test]
fn another_honest_log_in_its_place_is_noticed() {
    let (left, other) = (Left::new(), Left::new());
    std::fs::copy(other.at(""), left.at("")).unwrap();
    assert_doubted(&left, "it is signed with the key ecs-groupd/");
    assert_gone_on_with(&left, "it is signed with the key ecs-groupd/", RECORDS, true);
}

#[test]
fn an_old_copy_put_back_is_noticed_and_what_it_has_is_gone_on_with() {
    let left = Left::new();
    let backup = std::fs::read(left.at("")).unwrap();
    let process = left.serve(&[]);
    let id = process.client.create("after the backup");
    assert_eq!(process.terminate(), Some(0));
    std::fs::write(left.at(""), &backup).unwrap();
    let reason = "it has 11 records, and its newest checkpoint tells of 14";
    assert_doubted(&left, reason);
    assert_gone_on_with(&left, reason, 14, false);
    let records = left.records();
    assert!(records.iter().all(|record| record["resource"]["id"] != id), "it is gone with the records");
}

#[test]
fn a_deleted_database_is_missed_where_its_checkpoints_stayed() {
    let left = Left::new();
    std::fs::remove_file(left.at("")).unwrap();
    let reason = "it has 0 records, and its newest checkpoint tells of 11";
    // There are no records to compare before the first start.
    drop(Connection::open(left.at("")).unwrap());
    let process = left.serve(&[]);
    assert_eq!(process.client.get("/readyz").status, 503);
    assert_eq!(process.terminate(), Some(0));
    assert_doubted(&left, reason);
    // It names its key again, which is the one that it had.
    assert_gone_on_with(&left, reason, RECORDS, true);
}

#[test]
fn a_file_of_checkpoints_that_is_gone_is_missed() {
    let left = Left::new();
    std::fs::remove_file(left.at(".checkpoints")).unwrap();
    assert_doubted(&left, "ecs-groupd.db.checkpoints is missing");
    assert_gone_on_with(&left, "ecs-groupd.db.checkpoints is missing", RECORDS, false);
}

#[test]
fn a_file_of_checkpoints_that_was_emptied_is_missed() {
    let left = Left::new();
    std::fs::write(left.at(".checkpoints"), "").unwrap();
    assert_doubted(&left, "ecs-groupd.db.checkpoints is empty");
    assert_gone_on_with(&left, "ecs-groupd.db.checkpoints is empty", RECORDS, false);
}

/// Takes the last lines off the file of checkpoints.
fn shorten(left: &Left, by: usize) {
    let text = std::fs::read_to_string(left.at(".checkpoints")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(left.at(".checkpoints"), lines[..lines.len() - by].concat()).unwrap();
}

#[test]
fn a_file_of_checkpoints_that_is_an_older_copy_is_caught_up_with_from_the_database() {
    let left = Left::new();
    for by in [2, 4] {
        let whole = lines_of(&left.at(".checkpoints"));
        shorten(&left, by);
        let process = left.serve(&[]);
        let ready = process.client.get("/readyz");
        assert_eq!(ready.status, 200, "{}", ready.text);
        assert_eq!(process.terminate(), Some(0));
        let lines = lines_of(&left.at(".checkpoints"));
        assert_eq!(lines[..whole.len()], whole, "without the last {by}");
        assert_eq!(lines, notes_of(&left.at("")));
        check_checkpoints(&left.at(""));
        let warned = |line: &&Value| line["level"] == "WARN" && line["missing"] == by;
        assert_eq!(left.log().iter().filter(warned).count(), 1, "{:#?}", left.log());
    }
    assert!(left.records().iter().all(|record| record["action"] != ACCEPTED));
}

#[test]
fn an_older_copy_from_before_the_keys_were_changed_is_caught_up_with_too() {
    let left = Left::new();
    let older = std::fs::read(left.at(".checkpoints")).unwrap();
    for _ in 0..2 {
        key::rotate(&store::Options { database: left.at(""), ..store_options() }).unwrap();
    }
    let whole = lines_of(&left.at(".checkpoints"));
    std::fs::write(left.at(".checkpoints"), older).unwrap();
    let process = left.serve(&[]);
    let ready = process.client.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text);
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(lines_of(&left.at(".checkpoints"))[..whole.len()], whole);
    assert_verified(&left.at(""), "caught up with");
}

#[test]
fn an_older_copy_of_another_log_or_that_lacks_one_in_the_middle_is_noticed() {
    let left = Left::new();
    let text = std::fs::read_to_string(left.at(".checkpoints")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let gap = [lines[0], lines[2]].concat();
    std::fs::write(left.at(".checkpoints"), gap).unwrap();
    assert_doubted(&left, "what is in it is not what the database begins with");
    assert_gone_on_with(&left, "what is in it is not what the database begins with", RECORDS, false);

    let (left, other) = (Left::new(), Left::new());
    std::fs::copy(other.at(".checkpoints"), left.at(".checkpoints")).unwrap();
    assert_doubted(&left, "the newest checkpoint in ");
}

#[test]
fn an_older_copy_does_not_hide_what_was_changed_since() {
    for changed in [5, 9] {
        let left = Left::new();
        shorten(&left, 3);
        left.meddle(|conn| {
            rewrite(conn, &format!("seq = {changed}"));
            mend(conn);
        });
        assert_doubted(&left, "records are not those that its checkpoint tells of");
    }
    let left = Left::new();
    shorten(&left, 3);
    left.meddle(|conn| {
        conn.execute("update audit_checkpoint set note = replace(note, '7', '8') where size = 7", [])
            .unwrap();
    });
    assert_doubted(&left, "its checkpoint of 7 records ");
}

#[test]
fn a_file_of_checkpoints_that_lacks_its_last_line_or_half_of_it_is_what_a_crash_leaves_and_is_mended() {
    let left = Left::new();
    let whole = lines_of(&left.at(".checkpoints"));
    for is_half in [false, true] {
        let expected = lines_of(&left.at(".checkpoints"));
        if is_half {
            let text = std::fs::read(left.at(".checkpoints")).unwrap();
            std::fs::write(left.at(".checkpoints"), &text[..text.len() - 20]).unwrap();
        } else {
            shorten(&left, 1);
        }
        let process = left.serve(&[]);
        assert_eq!(process.client.get("/readyz").status, 200, "half: {is_half}");
        assert_eq!(process.terminate(), Some(0));
        let lines = lines_of(&left.at(".checkpoints"));
        assert_eq!(lines[..expected.len()], expected, "half: {is_half}");
        check_checkpoints(&left.at(""));
    }
    assert_eq!(lines_of(&left.at(".checkpoints"))[..whole.len()], whole);
}

#[test]
fn another_key_in_the_key_file_is_noticed_and_going_on_with_it_is_recorded() {
    let (left, other) = (Left::new(), Left::new());
    std::fs::copy(other.at(".key"), left.at(".key")).unwrap();
    assert_doubted(&left, "it is signed with the key ecs-groupd/");
    assert_gone_on_with(&left, "it is signed with the key ecs-groupd/", RECORDS, true);
    let records = left.records();
    let change = &records[usize::try_from(RECORDS).unwrap() + 1];
    assert_eq!(change["asked"]["old"], records[0]["asked"]["new"]);
    assert_eq!(change["asked"]["new"], other.records()[0]["asked"]["new"]);
    assert_eq!(change["asked"]["signed"], Value::Null, "nobody vouches for it");
}

#[test]
fn a_key_that_is_gone_ends_the_start_and_a_new_one_of_the_same_name_is_made_when_that_is_accepted() {
    let left = Left::new();
    let before = std::fs::read_to_string(left.at(".key")).unwrap();
    std::fs::remove_file(left.at(".key")).unwrap();
    let refused = left.refused(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    for part in [left.at(".key").file_name().unwrap().to_str().unwrap(), FLAG, "ecs-groupd/"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(!left.at(".key").exists());
    assert_eq!(left.records().len() as u64, RECORDS);
    assert_gone_on_with(&left, "it is signed with the key ecs-groupd/", RECORDS, true);
    let after = std::fs::read_to_string(left.at(".key")).unwrap();
    assert_ne!(after, before);
    let name = |key: &str| key.trim().split('+').nth(2).map(str::to_owned);
    assert_eq!(name(&after), name(&before));
}

#[test]
fn checkpoints_that_were_deleted_from_the_database_are_missed() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_checkpoint", []).unwrap();
    });
    assert_doubted(&left, "ends with a checkpoint of 11 records");
    assert_gone_on_with(&left, "ends with a checkpoint of 11 records", RECORDS, false);
}

#[test]
fn checkpoints_that_were_deleted_inside_and_outside_are_missed_since_the_log_names_its_key() {
    for (is_file_gone, reason) in [(true, "is missing"), (false, "no checkpoint is left")] {
        let left = Left::new();
        left.meddle(|conn| {
            conn.execute("delete from audit_checkpoint", []).unwrap();
        });
        if is_file_gone {
            std::fs::remove_file(left.at(".checkpoints")).unwrap();
        } else {
            std::fs::write(left.at(".checkpoints"), "").unwrap();
        }
        assert_doubted(&left, reason);
        assert_gone_on_with(&left, reason, RECORDS, false);
    }
}

/// The rows of the log, as they are put aside.
fn rows_behind(left: &Left, size: u64) -> Vec<Value> {
    let conn = Connection::open(left.at("")).unwrap();
    let select = "select seq, record_time, lower(hex(leaf)), cast(bytes as text), lower(hex(project_id)),
                      lower(hex(group_id)), project_id is null, group_id is null
                  from audit_record where seq > ? order by seq";
    let mut select = conn.prepare(select).unwrap();
    let rows = select.query_map([size.cast_signed()], |row| {
        let id = |at, is_none| {
            Ok::<_, rusqlite::Error>(if row.get(is_none)? { None } else { Some(row.get::<_, String>(at)?) })
        };
        Ok(json!({
            "seq": row.get::<_, i64>(0)?, "record_time": row.get::<_, i64>(1)?,
            "leaf": row.get::<_, String>(2)?, "record": row.get::<_, String>(3)?,
            "project_id": id(4, 6)?, "group_id": id(5, 7)?,
        }))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn lost(left: &Left, nth: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(left.at(&format!(".lost-{nth}.ndjson"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that a service that is told to goes on behind the first records, that the rest is kept in a file, and that
/// the log verifies from then on.
#[track_caller]
fn assert_gone_on_behind(left: &Left, size: u64, reason: &str, expected_size: u64) {
    let (begun, rest) = (usize::try_from(size).unwrap(), rows_behind(left, size));
    let beginning = left.records()[..begun].to_vec();
    let process = left.serve(&[FLAG]);
    assert_eq!(process.client.get("/readyz").status, 200);
    let id = process.client.create("after");
    process.kill();
    assert_eq!(lost(left, 1), rest, "nothing is lost");
    let mode = std::fs::metadata(left.at(".lost-1.ndjson")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let records = left.records();
    assert_eq!(records[..begun], beginning);
    let accepted = &records[begun];
    assert_eq!((&accepted["action"], &accepted["seq"]), (&ACCEPTED.into(), &(size + 1).into()));
    let asked = &accepted["asked"];
    assert_eq!((&asked["found_size"], &asked["expected_size"]), (&size.into(), &expected_size.into()));
    let told = asked["reason"].as_str().unwrap();
    for part in [reason, "ecs-groupd.db.lost-1.ndjson", "SHA-256"] {
        assert!(told.contains(part), "no {part:?} in {told:?}");
    }
    check_tree(&Connection::open(left.at("")).unwrap());
    assert_log_verified(&left.at(""), "as the kill left it");
    let process = left.serve(&[]);
    assert_eq!(process.client.get("/readyz").status, 200, "{:#?}", left.log());
    assert_eq!(process.client.delete(&group_path(&id)).status, 204);
    assert_eq!(process.terminate(), Some(0));
    assert_log_verified(&left.at(""), "gone on with");
    let process = left.serve(&[FLAG]);
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
    assert!(!left.at(".lost-2.ndjson").exists(), "once and for all");
}

#[test]
fn a_record_missing_in_the_middle_is_noticed_and_what_is_in_front_of_it_is_gone_on_with() {
    let left = Left::new();
    let process = left.serve(&[]);
    (0..2).for_each(|_| drop(process.client.create("not signed")));
    process.kill();
    assert_eq!((left.records().len(), left.sizes().last()), (14, Some(&12)));
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq = 13", []).unwrap();
    });
    assert_doubted(&left, "the record 13 is missing");
    assert_gone_on_behind(&left, 12, "the record 13 is missing", 14);
}

#[test]
fn a_record_missing_in_the_middle_is_told_with_what_else_is_missing() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq = 7", []).unwrap();
    });
    std::fs::remove_file(left.at(".checkpoints")).unwrap();
    assert_doubted(&left, "ecs-groupd.db.checkpoints is missing");
    assert_doubted(&left, "the record 7 is missing");
    assert_gone_on_behind(&left, 6, "the record 7 is missing", RECORDS);
}

#[test]
fn records_missing_in_the_middle_and_at_the_end_leave_a_log_that_is_read_and_can_be_gone_on_with() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq in (5, 11)", []).unwrap();
    });
    assert_doubted(&left, "the record 5 is missing");
    assert_gone_on_behind(&left, 4, "the record 5 is missing", RECORDS);
}

#[test]
fn all_records_missing_but_the_last_leave_a_log_that_begins_anew() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq < 11", []).unwrap();
    });
    std::fs::write(left.at(".checkpoints"), "").unwrap();
    assert_doubted(&left, "the record 1 is missing");
    assert_gone_on_behind(&left, 0, "the record 1 is missing", RECORDS);
}

#[test]
fn a_record_whose_leaf_is_not_its_own_is_noticed_and_what_is_in_front_of_it_is_gone_on_with() {
    let left = Left::new();
    let process = left.serve(&[]);
    process.client.create("not signed");
    process.kill();
    left.meddle(|conn| {
        conn.execute("update audit_record set leaf = zeroblob(32) where seq = 13", []).unwrap();
    });
    assert_doubted(&left, "the record 13 was changed: its leaf is not its hash");
    assert_gone_on_behind(&left, 12, "the record 13 was changed", 13);
}

#[test]
fn records_that_changed_places_are_noticed_and_what_is_in_front_of_them_is_gone_on_with() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute_batch(
            "update audit_record set seq = 100 where seq = 6; update audit_record set seq = 6 where seq = 8;
             update audit_record set seq = 8 where seq = 100",
        )
        .unwrap();
        mend(conn);
    });
    assert_doubted(&left, "the record 6 says that it is record 8");
    assert_gone_on_behind(&left, 5, "the record 6 says that it is record 8", RECORDS);
}

#[test]
fn what_was_put_aside_before_a_kill_is_not_put_aside_twice_and_no_other_file_is_taken_for_it() {
    let left = Left::new();
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq = 7", []).unwrap();
        // The record cannot be written, so that nothing is deleted either.
        conn.execute_batch(
            "create trigger fault before insert on audit_record begin select raise(abort, 'no'); end",
        )
        .unwrap();
    });
    std::fs::remove_file(left.at(".checkpoints")).unwrap();
    let (before, rest) = (rows_behind(&left, 0), rows_behind(&left, 6));
    for _ in 0..2 {
        assert_eq!(left.refused(&[FLAG]).status.code(), Some(1));
        assert_eq!(rows_behind(&left, 0), before, "nothing is deleted before it is recorded");
        assert_eq!(lost(&left, 1), rest);
        assert!(!left.at(".lost-2.ndjson").exists());
    }
    std::fs::write(left.at(".lost-1.ndjson"), "somebody's\n").unwrap();
    left.meddle(|conn| conn.execute_batch("drop trigger fault").unwrap());
    let process = left.serve(&[FLAG]);
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(std::fs::read_to_string(left.at(".lost-1.ndjson")).unwrap(), "somebody's\n");
    assert_eq!(lost(&left, 2), rest);
    assert_log_verified(&left.at(""), "gone on with");
}

#[test]
fn a_key_and_a_reset_behind_the_hole_are_forgotten_with_their_records() {
    let left = Left::new();
    let options = || store::Options { database: left.at(""), ..store_options() };
    key::rotate(&options()).unwrap();
    ops::reset(options(), None).unwrap();
    let newest = left.records().len() as u64;
    left.meddle(|conn| {
        conn.execute("delete from audit_record where seq = 7", []).unwrap();
    });
    std::fs::remove_file(left.at(".checkpoints")).unwrap();
    assert_doubted(&left, "the record 7 is missing");
    let process = left.serve(&[FLAG]);
    assert_eq!(process.terminate(), Some(0));
    let records = left.records();
    let change = &records[7];
    assert_eq!((&change["action"], &change["actor"]["type"]), (&KEY_CHANGED.into(), &"service".into()));
    assert_eq!(change["asked"]["old"], records[0]["asked"]["new"], "the one that the rest of the log names");
    assert_eq!(records[6]["asked"]["expected_size"], newest);
    assert_log_verified(&left.at(""), "gone on with");
}

#[test]
fn keys_that_were_deleted_from_their_table_are_missed_and_found_again_in_the_records() {
    for (is_rotated, what) in [
        (false, "delete from audit_key"),
        (true, "delete from audit_key"),
        (true, "delete from audit_key; delete from audit_checkpoint"),
    ] {
        let left = Left::new();
        if is_rotated {
            key::rotate(&store::Options { database: left.at(""), ..store_options() }).unwrap();
        }
        let newest = left.records().len() as u64;
        left.meddle(|conn| conn.execute_batch(what).unwrap());
        let reason = if what.contains("checkpoint") { "checkpoint" } else { "its table of keys is empty" };
        assert_doubted(&left, reason);
        assert_gone_on_with(&left, reason, newest, false);
        assert_log_verified(&left.at(""), what);
    }
    // Nor is it a log that was never signed when all is gone that says it was, but for its records.
    let left = Left::new();
    left.meddle(|conn| conn.execute_batch("delete from audit_key; delete from audit_checkpoint").unwrap());
    std::fs::remove_file(left.at(".checkpoints")).unwrap();
    assert_doubted(&left, "ecs-groupd.db.checkpoints is missing");
    assert_gone_on_with(&left, "ecs-groupd.db.checkpoints is missing", RECORDS, false);
}

#[test]
fn the_flag_on_a_log_that_is_as_it_was_left_changes_nothing() {
    let left = Left::new();
    let process = left.serve(&[FLAG]);
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
    let actions: Vec<_> = left.records().iter().map(|record| record["action"].clone()).collect();
    assert_eq!(
        actions[usize::try_from(RECORDS).unwrap()..],
        ["ecs-groupd:service:start", "ecs-groupd:service:stop"]
    );
}

/// How often an honest log is killed; after how many kills it is verified, by turns as it is left and beside a service;
/// and after how many it gets another key.
const ROUNDS: usize = 200;
const VERIFIED_EVERY: usize = 10;
const KEY_EVERY: usize = 60;
const CLIENTS: usize = 4;

#[test]
fn an_honest_log_is_never_accused_whenever_it_was_killed() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let serve = || {
        let mut command = serve_command(&[]);
        command.env("ECS_GROUPD__AUDIT__CHECKPOINT_EVERY_S", "1").stderr(Stdio::null());
        Process::spawn(command, folder.path())
    };
    for round in 0..ROUNDS {
        let process = serve();
        assert_ready(&process, round);
        if round % (2 * VERIFIED_EVERY) == VERIFIED_EVERY {
            assert_verified(&database, "beside the service");
        }
        let (sender, acknowledged) = mpsc::channel();
        // Now and then before anything was asked.
        let deadly = random.random_range(0..24);
        let pid = process.id().to_string();
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (process, sender, seed) = (&process, sender.clone(), random.random());
                scope.spawn(move || attempt_until_killed(process, client, seed, &sender));
            }
            drop(sender);
            assert_eq!(acknowledged.iter().take(deadly).count(), deadly);
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
            while acknowledged.recv().is_ok() {}
        });
        process.kill();
        if round % (2 * VERIFIED_EVERY) == 0 {
            assert_verified(&database, "as the kill left it");
        }
        if round % KEY_EVERY == KEY_EVERY - 1 {
            key::rotate(&store::Options { database: database.clone(), ..store_options() }).unwrap();
            assert_verified(&database, "with another key");
        }
    }
    let process = serve();
    assert_ready(&process, ROUNDS);
    assert_eq!(process.terminate(), Some(0));
    let accused = all_records(&database).iter().filter(|record| record["action"] == ACCEPTED).count();
    assert_eq!(accused, 0);
    let mut verify = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    verify.args(["audit", "verify", "--database", DATABASE, "--state"]).current_dir(folder.path());
    let verified = verify.output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert_eq!(lines_of(&database.with_extension("db.checkpoints")), notes_of(&database));
}

fn notes_of(database: &Path) -> Vec<String> {
    let conn = Connection::open(database).unwrap();
    let mut select = conn.prepare("select note from audit_checkpoint order by checkpoint_id").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Checks that the verifier finds nothing wrong with the log, nor with the groups and members.
#[track_caller]
fn assert_verified(database: &Path, when: &str) {
    assert_verified_with(database, when, true);
}

/// The same, but for the groups and members, which records that are lost led to.
#[track_caller]
fn assert_log_verified(database: &Path, when: &str) {
    assert_verified_with(database, when, false);
}

#[track_caller]
fn assert_verified_with(database: &Path, when: &str, state: bool) {
    let log = Which::Database { database: database.to_owned(), state };
    let mut told = Vec::new();
    let is_good = verify(&Ask { log, keys: keys_of(database), checkpoint: None }, &mut told).unwrap();
    assert!(is_good, "{when}: {}", String::from_utf8_lossy(&told));
}

/// Creates, deletes, adds and removes members, logs in, tries what is another project's, and now and then resets; tells
/// `acknowledged` of every answer, until there is none.
fn attempt_until_killed(process: &Process, client: usize, seed: u64, acknowledged: &mpsc::Sender<()>) {
    let mut random = StdRng::seed_from_u64(seed);
    let control = process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let control = Client::new(control.parse().unwrap());
    let bearer = format!("Bearer {}", dev::CONTROL_TOKEN);
    let json = [("content-type", "application/json")];
    let post = |path: &str, body: &str| process.client.try_send("POST", path, &json, body.as_bytes());
    let created = create_body(&format!("client-{client}"));
    let elsewhere = groups_path().replace(dev::PROJECT_ID, "0123456789abcdef0123456789abcdef");
    let user =
        json!({ "name": dev::USER_NAME, "password": dev::PASSWORD, "domain": { "name": dev::DOMAIN_NAME } });
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    let login =
        json!({ "auth": { "identity": identity, "scope": { "project": { "id": dev::PROJECT_ID } } } });
    let mut mine: Vec<String> = Vec::new();
    loop {
        let nth = random.random_range(0..mine.len().max(1));
        // Somebody's reset may have taken a group, and somebody's group an ECS: that is an answer, too.
        let answer = match (random.random_range(0..40), mine.get(nth)) {
            (0, _) => control.try_send("POST", "/control/reset", &[("authorization", &bearer)], &[]),
            (1..3, _) => post("/v3/auth/tokens", &login.to_string()),
            (3..5, _) => post(&elsewhere, &created),
            (5..12, Some(id)) => {
                let answer = process.client.try_send("DELETE", &group_path(id), &[], &[]);
                mine.swap_remove(nth);
                answer
            }
            (at @ 12..28, Some(id)) => {
                let verb = if at < 22 { "add_member" } else { "remove_member" };
                let body = json!({ verb: { "instance_uuid": ecs(random.random_range(0..8)) } });
                post(&format!("{}/action", group_path(id)), &body.to_string())
            }
            _ => post(&groups_path(), &created),
        };
        let Ok(answer) = answer else { return };
        assert!(matches!(answer.status, 200 | 201 | 204 | 400 | 404), "{}", answer.text);
        if answer.status == 200 && answer.text.starts_with("{\"server_group\":") {
            mine.push(answer.json()["server_group"]["id"].as_str().unwrap().to_owned());
        }
        if acknowledged.send(()).is_err() {
            return;
        }
    }
}

#[track_caller]
fn assert_ready(process: &Process, round: usize) {
    let ready = process.client.get("/readyz");
    assert_eq!(ready.status, 200, "round {round}: {}", ready.text);
}
