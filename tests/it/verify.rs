//! `ecs-groupd audit`: what is verified, found, exported and proved.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ecs_groupd::audit::note::SigningKey;
use ecs_groupd::audit::segment::SegmentWriter;
use ecs_groupd::audit::tree::Edge;
use ecs_groupd::ops::audit::verify::{Ask, Which, verify};
use ecs_groupd::ops::audit::{AuditError, Keys};
use ecs_groupd::store::log::Log;
use rusqlite::{Connection, params};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{TestApp, group_path};
use crate::log_builder::{
    LogBuilder, Row, StoredCheckpoint, agree, key, key_change, keys_of, sample, segment_name,
};

/// What is verified, in this process.
struct Case {
    folder: TempDir,
    ask: Ask,
}

impl Case {
    /// A database as the builder has it.
    fn new(log: &LogBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = log.write(folder.path());
        let keys = keys_of(&database);
        let ask = Ask { log: Which::Database { database, state: true }, keys, checkpoint: None };
        Self { folder, ask }
    }

    /// The same as an export, with the key that is trusted.
    fn export(bytes: &[u8], vkeys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, keys) = (folder.path().join("export.ndjson"), folder.path().join("keys"));
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(&keys, vkeys).unwrap();
        let ask = Ask { log: Which::Exports(vec![file]), keys: Keys::Named(keys), checkpoint: None };
        Self { folder, ask }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the database behind everybody's back.
    fn tamper(self, sql: &str) -> Self {
        let conn = Connection::open(self.at("log.db")).unwrap();
        for trigger in [
            "audit_record_is_never_updated",
            "audit_record_is_never_replaced",
            "audit_record_is_deleted_only_when_sealed",
            "audit_checkpoint_is_never_updated",
            "audit_checkpoint_is_never_deleted",
        ] {
            conn.execute_batch(&format!("drop trigger {trigger}")).unwrap();
        }
        conn.execute_batch(sql).unwrap();
        self
    }

    fn without_state(mut self) -> Self {
        if let Which::Database { state, .. } = &mut self.ask.log {
            *state = false;
        }
        self
    }

    fn told(&self) -> (bool, String) {
        let mut out = Vec::new();
        let is_good = verify(&self.ask, &mut out).unwrap();
        // Each line as it would be in the folder itself.
        let told = String::from_utf8(out).unwrap().replace(&format!("{}/", self.folder.path().display()), "");
        (is_good, told)
    }

    #[track_caller]
    fn is_good(&self) -> String {
        let (is_good, told) = self.told();
        assert!(is_good, "{told}");
        told
    }

    /// It is bad, and this is the first line.
    #[track_caller]
    fn is_bad(&self, first: &str) -> String {
        let (is_good, told) = self.told();
        assert!(!is_good, "{told}");
        assert_eq!(told.lines().next(), Some(first), "{told}");
        told
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ecs-groupd")).args(arguments).current_dir(folder).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_good_log_is_told_in_full() {
    let case = Case::new(&sample());
    let expected = format!(
        "verified: every record is as it was written, and none is missing\n\
         records      1\u{2013}23 (23), 2026-01-02T03:04:05Z to 2026-01-02T03:04:05Z\n\
         checkpoints  6 reproduced\n\
         signed by    {}\n\
         covered      up to record 21; 2 records behind it are not covered yet\n\
         compared     3 checkpoints in log.db.checkpoints\n\
         state        groups, members and registered ECSs are those that the records lead to\n",
        key(2).verifying_key(),
    );
    assert_eq!(case.is_good(), expected);
}

#[test]
fn every_change_to_a_record_is_named_with_the_record() {
    let cases = [
        (
            "update audit_record set bytes = cast(replace(cast(bytes as text), 'web 6', 'web 7') as blob) where seq = 6",
            "record 6: its bytes were changed: the leaf is not their hash",
        ),
        (
            "update audit_record set leaf = zeroblob(32) where seq = 6",
            "record 6: its bytes were changed: the leaf is not their hash",
        ),
        (
            "update audit_record set project_id = zeroblob(16) where seq = 7",
            "record 7: its column project_id was changed: its bytes say something else",
        ),
        (
            "update audit_record set group_id = null where seq = 7",
            "record 7: its column group_id was changed: its bytes say something else",
        ),
        (
            "update audit_record set record_time = record_time + 1 where seq = 7",
            "record 7: its column record_time was changed: its bytes say something else",
        ),
        ("delete from audit_record where seq = 7", "record 7 is missing: what follows is record 8"),
        (
            "delete from audit_record where seq between 7 and 9",
            "records 7\u{2013}9 are missing: what follows is record 10",
        ),
        ("delete from audit_record where seq = 1", "record 1 is missing: what follows is record 2"),
        ("update audit_record set seq = -1 where seq = 1", "record -1: it stands where record 1 should"),
        (
            "delete from audit_record where seq > 20; update audit_edge set size = 20",
            "checkpoint 3 of size 21: the log ends at record 20: its end was cut off, or an older copy put in its place",
        ),
        (
            "delete from audit_record where seq = 23",
            "audit_edge: it counts 23 records, and the last one there is record 22",
        ),
        (
            "update audit_edge set hashes = zeroblob(128)",
            "audit_edge: its hashes are not those of the tree over the records",
        ),
        (
            "update audit_edge set size = 24",
            "audit_edge: it counts 24 records, and the last one there is record 23",
        ),
        (
            "delete from audit_checkpoint where checkpoint_id = 2",
            "checkpoint 2 is missing: the next one there is checkpoint 3",
        ),
        (
            "update audit_checkpoint set size = 8 where checkpoint_id = 1",
            "checkpoint 1 of size 9: its columns were changed: it says something else",
        ),
        (
            "update audit_checkpoint set hashes = zeroblob(64) where checkpoint_id = 1",
            "checkpoint 1 of size 9: its columns were changed: it says something else",
        ),
        (
            "update audit_checkpoint set note = 'x' where checkpoint_id = 1",
            "checkpoint 1: is no checkpoint, or was changed so that it is none any more",
        ),
        (
            "update audit_checkpoint set note = replace(note, char(10) || '9' || char(10), char(10) || '8' || char(10)) where checkpoint_id = 1",
            "checkpoint 1 of size 8: it has a signature that is wrong: it was changed after it was signed, or never signed",
        ),
        (
            "delete from audit_key where seq > 1",
            "audit_key: it does not have the keys, and from where on they sign, that the records tell of",
        ),
        (
            "delete from reset",
            "reset: it says that the newest reset of project 22222222222222222222222222222222 is none, and it is record 20",
        ),
        (
            "insert into reset values (x'', 3)",
            "reset: it says that the newest reset of all projects is record 3, and it is none",
        ),
    ];
    for (sql, first) in cases {
        Case::new(&sample()).without_state().tamper(sql).is_bad(first);
    }
}

/// Whoever can write to the database can compute leaves, hashes and the edge as well, but not sign.
#[test]
fn a_rewrite_with_hashes_that_fit_is_found_by_the_checkpoints() {
    let rewritten = |size: u64| {
        let mut log = sample();
        let honest = log.clone();
        log.rows.clear();
        log.edge = Edge::default();
        for row in &honest.rows {
            let mut bytes = String::from_utf8(row.bytes.clone()).unwrap();
            if row.seq == size {
                bytes = bytes.replace("alice", "mallo");
            }
            let project = row.project_id.clone();
            log.append(project.as_deref(), row.group_id.as_deref(), row.record_time, bytes.into_bytes());
        }
        log
    };
    for (seq, first) in [
        (
            5,
            "checkpoint 1 of size 9: the log up to there is not what was signed: at least one of the records 1\u{2013}9 was changed, added or taken away",
        ),
        (
            11,
            "checkpoint 2 of size 16: the log up to there is not what was signed: at least one of the records 10\u{2013}16 was changed, added or taken away",
        ),
        (
            21,
            "checkpoint 3 of size 21: the log up to there is not what was signed: at least one of the records 17\u{2013}21 was changed, added or taken away",
        ),
    ] {
        Case::new(&rewritten(seq)).is_bad(first);
    }
    // What no checkpoint covers can be rewritten, which is why it is told how much that is.
    assert!(Case::new(&rewritten(23)).is_good().contains("2 records behind it are not covered yet"));
    // It signs the whole with a key of its own.
    let mut log = rewritten(5);
    (log.checkpoints, log.lines, log.key) = (vec![], vec![], key(9));
    log.checkpoint();
    let case = Case::new(&log);
    std::fs::write(case.at("log.db.key"), key(1).to_secret_text()).unwrap();
    case.is_bad("checkpoint 1 of size 23: it is not signed by a key that is trusted here");
}

#[test]
fn the_newest_checkpoint_must_be_by_a_key_that_is_trusted_or_that_such_a_key_agreed_to() {
    let case = Case::new(&sample());
    let write = |number: u8| {
        std::fs::write(case.at("log.db.key"), format!("# kept\n\n{}\n", key(number).verifying_key()))
            .unwrap();
    };
    write(1);
    case.is_good();
    write(2);
    case.is_good();
    write(3);
    case.is_bad(&format!(
        "checkpoint 3 of size 21: it is signed by {}, which is no key that is trusted here, nor one that such a key agreed to",
        key(2).verifying_key()
    ));
    std::fs::write(case.at("log.db.key"), "nonsense\n").unwrap();
    let error = verify(&case.ask, &mut Vec::new()).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "log.db.key, line 1 is no key: NAME+HASH+KEY, or PRIVATE+KEY+NAME+HASH+KEY, is expected"
        ),
        "{error}"
    );
    std::fs::remove_file(case.at("log.db.key")).unwrap();
    assert!(matches!(verify(&case.ask, &mut Vec::new()), Err(AuditError::NoKey(_))));
}

#[test]
fn a_change_of_key_must_be_signed_by_the_old_one_and_the_new_one() {
    let (old, new) = (key(1).verifying_key().to_string(), key(2).verifying_key().to_string());
    let other = key(3).verifying_key().to_string();
    let text = key_change(&old, &new);
    let by = |numbers: &[u8]| {
        let keys: Vec<SigningKey> = numbers.iter().map(|&number| key(number)).collect();
        agree(&text, &keys.iter().collect::<Vec<_>>())
    };
    let about_another = agree(&text.replace(&new, &other), &[&key(1), &key(2)]);
    let cases = [
        (json!({ "old": old, "new": new, "signed": by(&[1, 2]) }), None),
        (
            json!({ "old": old, "new": new, "signed": null }),
            Some("record 2: it puts a new key in force without the old one's agreement, and no loss was accepted just before".to_owned()),
        ),
        (
            json!({ "old": old, "new": new, "signed": by(&[3, 2]) }),
            Some("record 2: it puts a new key in force, and the old one's agreement is not signed by a key that is trusted here".to_owned()),
        ),
        (
            json!({ "old": old, "new": new, "signed": by(&[1]) }),
            Some("record 2: it puts a new key in force, and that key's own signature is not signed by a key that is trusted here".to_owned()),
        ),
        (
            json!({ "old": old, "new": new, "signed": about_another }),
            Some("record 2: it puts a new key in force, and what was signed is about other keys".to_owned()),
        ),
        (
            json!({ "old": other, "new": new, "signed": by(&[3, 2]) }),
            Some(format!("record 2: it puts a new key in the place of {other}, which is not the one that signed until then, {old}")),
        ),
        (
            json!({ "old": null, "new": new, "signed": null }),
            Some(format!("record 2: it puts a new key in the place of no key, which is not the one that signed until then, {old}")),
        ),
        (json!({ "old": old, "new": "x", "signed": null }), Some("record 2: its asked is none".to_owned())),
    ];
    for (asked, first) in cases {
        let mut log = LogBuilder::new();
        log.change_key(&asked, new.clone());
        log.key = key(2);
        log.checkpoint();
        let case = Case::new(&log);
        match first {
            None => drop(case.is_good()),
            Some(first) => drop(case.is_bad(&first)),
        }
    }
    // The log says that another key signs.
    let mut log = sample();
    log.checkpoints.pop();
    log.cut_to(21);
    log.key = key(1);
    log.checkpoint();
    Case::new(&log).is_bad(&format!(
        "checkpoint 3 of size 21: it is signed by {old}, and record 14 says that {new} signs from there on"
    ));
}

#[test]
fn an_accepted_loss_excuses_the_checkpoints_of_what_was_lost_and_no_others() {
    let lost = || {
        let mut log = sample();
        log.cut_to(18);
        log
    };
    let line = |number: u64| format!("checkpoint in line {number} of log.db.checkpoints");
    // Not accepted.
    let beyond = "the log ends at record 18: its end was cut off, or an older copy put in its place";
    let case = Case::new(&lost()).without_state();
    case.is_bad(&format!("{} of size 21: {beyond}", line(3)));

    // Accepted by somebody who cannot sign.
    let mut log = lost();
    log.accept_loss(21, 18);
    Case::new(&log).without_state().is_bad(&format!(
        "{} of size 21: the log does not have what was signed; record 19 gives it up, but no checkpoint made after \
         that record follows",
        line(3)
    ));

    // Accepted, and signed.
    log.checkpoint();
    log.create("again");
    log.create("and again");
    log.checkpoint();
    let told = Case::new(&log).without_state().is_good();
    let given_up = format!("{} of size 21: given up with --accept-audit-loss in record 19\n", line(3));
    assert!(told.starts_with(&given_up), "{told}");

    // The same line behind the acceptance: what was signed after it is not given up.
    let mut late = log.clone();
    let third = late.lines.remove(2);
    late.lines.push(third);
    Case::new(&late).without_state().is_bad(&format!(
        "{} of size 21: the log up to there is not what was signed: at least one of the records 20\u{2013}21 was \
         changed, added or taken away",
        line(5)
    ));

    // Nor is what was kept somewhere else.
    let mut case = Case::new(&log).without_state();
    std::fs::write(case.at("kept"), &sample().checkpoints[2].note).unwrap();
    case.ask.checkpoint = Some(case.at("kept"));
    case.is_bad(
        "checkpoint in line 1 of kept of size 21: the log does not have what was signed: record 19 says that it was \
         given up with --accept-audit-loss",
    );

    // Nor is one of another size.
    let mut other = LogBuilder::new();
    (2..=16).for_each(|_| drop(other.create("other")));
    other.checkpoint();
    let mut log = lost();
    log.lines[1].clone_from(&other.lines[0]);
    log.accept_loss(21, 18);
    log.checkpoint();
    Case::new(&log).without_state().is_bad(&format!(
        "{} of size 16: the log up to there is not what was signed: at least one of the records 10\u{2013}16 was \
         changed, added or taken away",
        line(2)
    ));
}

#[test]
fn the_key_that_signs_now_vouches_for_those_that_agreed_to_it() {
    let mut log = sample();
    log.rotate(key(7));
    log.checkpoint();
    let newest = log.key.verifying_key().to_string();
    assert!(Case::export(&log.export(), &newest).is_good().contains("covered      up to record 24"));
    for other in [key(1), key(2)] {
        Case::export(&log.export(), &other.verifying_key().to_string()).is_good();
    }
    // But not for one that was given up.
    let mut log = sample();
    log.accept_loss(23, 23);
    log.replace_key(key(5));
    log.checkpoint();
    let told = Case::export(&log.export(), &key(5).verifying_key().to_string()).is_good();
    assert!(told.contains("covered      up to record 25"), "{told}");
    let (is_good, told) = Case::export(&log.segment(1, 23), &key(5).verifying_key().to_string()).told();
    assert!(!is_good && told.contains("which is no key that is trusted here"), "{told}");
}

#[test]
fn a_key_that_is_lost_can_be_replaced_only_where_a_loss_was_accepted() {
    let mut log = sample();
    log.accept_loss(23, 23);
    log.replace_key(key(5));
    log.checkpoint();
    Case::new(&log).is_good();
    let mut log = sample();
    log.replace_key(key(5));
    log.checkpoint();
    Case::new(&log).is_bad(
        "record 24: it puts a new key in force without the old one's agreement, and no loss was accepted just before",
    );
}

#[test]
fn a_checkpoint_that_was_kept_elsewhere_must_be_reproduced() {
    let mut case = Case::new(&sample());
    case.ask.checkpoint = Some(case.at("kept"));
    let keep = |text: &str| std::fs::write(case.at("kept"), text).unwrap();
    let older = &sample().checkpoints[0].note;
    keep(older);
    assert!(case.is_good().contains("compared     1 checkpoint in kept\n"));
    // A file of them, the last line torn.
    keep(&format!("{}\n{}", json!(older), r#""ecs-groupd/te"#));
    assert!(case.is_good().contains("compared     1 checkpoint in kept\n"));
    // What a shell or an editor makes of its end.
    for kept in [older.trim_end().to_owned(), format!("{older}\n")] {
        keep(&kept);
        assert!(case.is_good().contains("compared     1 checkpoint in kept\n"));
    }
    for nothing in ["", "nonsense\n", "\"nonsense\"\n"] {
        keep(nothing);
        let error = verify(&case.ask, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, AuditError::NoCheckpointIn(_)), "{error}");
    }
    keep(&format!("\"nonsense\"\n{}\n", json!(older)));
    case.is_bad("checkpoint in line 1 of kept: is no checkpoint, or was changed so that it is none any more");
    let mut other = LogBuilder::new();
    other.create("another log");
    other.checkpoint();
    keep(&other.checkpoints[0].note);
    case.is_bad(
        "checkpoint in line 1 of kept of size 2: the log up to there is not what was signed: at least one of the \
         records 1\u{2013}2 was changed, added or taken away",
    );
    std::fs::remove_file(case.at("kept")).unwrap();
    assert!(matches!(verify(&case.ask, &mut Vec::new()), Err(AuditError::File { .. })));
}

#[test]
fn without_anything_outside_the_database_a_warning_says_so() {
    let case = Case::new(&sample());
    std::fs::remove_file(case.at("log.db.checkpoints")).unwrap();
    let warning = "warning: nothing outside the database was compared: there is no log.db.checkpoints\n";
    assert!(case.is_good().starts_with(warning));
}

#[test]
fn a_log_that_nobody_ever_signed_is_told_to_be_one() {
    let mut log = LogBuilder { rows: vec![], keys: vec![], edge: Edge::default(), ..LogBuilder::new() };
    assert_eq!(Case::new(&log).is_good(), "verified: the audit log has no records\n");
    log.create("web");
    let case = Case::new(&log);
    std::fs::remove_file(case.at("log.db.key")).unwrap();
    let told = case.is_good();
    assert!(told.starts_with("warning: no checkpoint covers any record"), "{told}");
}

#[test]
fn checkpoints_that_were_all_taken_away_are_missed() {
    let case = Case::new(&sample()).tamper("delete from audit_checkpoint");
    std::fs::remove_file(case.at("log.db.checkpoints")).unwrap();
    case.is_bad(&format!(
        "record 1 names the key {}, which signs at once, and no checkpoint is left: they were taken away",
        key(1).verifying_key()
    ));
}

#[test]
fn what_is_said_to_be_sealed_must_have_been_and_be_vouched_for() {
    // Deleted up to a checkpoint, as if it had been sealed.
    let mut log = sample();
    log.seal_untold(9);
    let case = Case::new(&log).without_state();
    case.is_bad(
        "audit_edge: its sealed part ends with record 9, and the records tell that it ends with record 0",
    );
    // Everything rewritten behind hashes that nobody can check.
    let mut log = sample();
    log.seal(22);
    log.sealed = Edge::from_parts(22, &[7; 3 * 32]).unwrap();
    log.edge = log.sealed.clone();
    for row in &log.rows[22..] {
        log.edge.push(row.leaf);
    }
    let mut case = Case::new(&log).without_state();
    let unproven = "records 1\u{2013}22 are not here, and no checkpoint behind them vouches for the hashes in their place";
    case.is_bad(unproven);
    // One that was kept elsewhere is not passed over.
    case.ask.checkpoint = Some(case.at("kept"));
    std::fs::write(case.at("kept"), &sample().checkpoints[2].note).unwrap();
    case.is_bad(
        "checkpoint in line 1 of kept of size 21: it cannot be compared, as its records are not here: put the sealed \
         segments where they belong",
    );
}

#[test]
fn a_database_that_is_reached_through_a_link_has_its_key_and_checkpoints() {
    let case = Case::new(&sample());
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(case.at("log.db"), elsewhere.path().join("link.db")).unwrap();
    let verified = run(elsewhere.path(), &["audit", "verify", "--database", "link.db"]);
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    assert!(out(&verified).contains("compared     3 checkpoints in "), "{}", out(&verified));
}

#[test]
fn what_the_tables_hold_is_compared_with_what_the_records_lead_to() {
    let group = "group 019b7c5a-0000-7000-8000-000000000001 of project 11111111111111111111111111111111";
    let member = "member 00000000-0000-4000-8000-000000000001 of";
    let server =
        "registered ECS 00000000-0000-4000-8000-000000000001 of project 11111111111111111111111111111111";
    let cases = [
        ("update server_group set name = 'x' where hex(group_id) like '%01'", format!("{group}: its name is not the one of record 2")),
        ("update server_group set created_by = zeroblob(16) where hex(group_id) like '%01'", format!("{group}: its created_by is not the one of record 2")),
        ("delete from member", format!("{member} {group}: record 10 put it there, and it is not there")),
        ("update member set server_id = zeroblob(16)", format!("member 00000000-0000-0000-0000-000000000000 of {group}: it is there, and no record put it there, or one took it out")),
        (
            "update member set group_id = (select max(group_id) from server_group)",
            "member 00000000-0000-4000-8000-000000000001 of group 019b7c5a-0000-7000-8000-00000000000b of project 11111111111111111111111111111111: record 10 put it into group 019b7c5a-0000-7000-8000-000000000001".to_owned(),
        ),
        ("delete from server", format!("{server}: record 15 registered it, and it is not there")),
        ("update server set status = 'SHUTOFF'", format!("{server}: its status is not the one of record 15")),
        ("update server set host = 'h'", format!("{server}: its host is not the one of record 15")),
        ("update project set group_count = 11", "project 11111111111111111111111111111111: it counts 11 groups, and the records lead to 10".to_owned()),
        ("delete from project", "project 11111111111111111111111111111111: it counts no groups, and the records lead to some".to_owned()),
        (
            "insert into server_group values (zeroblob(16), zeroblob(16), 'x', 'anti-affinity', zeroblob(16))",
            "group 00000000-0000-0000-0000-000000000000 of project 00000000000000000000000000000000: it is there, and no record made it, or one deleted it".to_owned(),
        ),
        (
            "pragma foreign_keys = off; delete from server_group where hex(group_id) like '%01'",
            format!("{group}: record 2 made it, and it is not there"),
        ),
    ];
    for (sql, first) in cases {
        let case = Case::new(&sample()).tamper(sql);
        case.is_bad(&first);
        case.without_state().is_good();
    }
    // After a reset of everything there is nothing.
    let mut log = sample();
    log.reset(None);
    log.checkpoint();
    Case::new(&log).is_good();
}

#[test]
fn sealed_segments_are_verified_with_the_database_and_missing_ones_are_told() {
    let mut log = sample();
    log.seal(16);
    let case = Case::new(&log);
    std::fs::create_dir(case.at("log.db.segments")).unwrap();
    let name = |first: u64, last: u64| format!("log.db.segments/{first:020}-{last:020}.ndjson");
    let segments = [(1, 9), (10, 16)];
    for (first, last) in segments {
        std::fs::write(case.at(&name(first, last)), log.segment(first, last)).unwrap();
    }
    // One that is not sealed yet, and what is none, are passed over.
    std::fs::write(case.at(&name(17, 21)), log.segment(17, 21)).unwrap();
    std::fs::write(case.at("log.db.segments/README"), "mine").unwrap();
    assert!(case.is_good().contains("records      1\u{2013}24 (24)"));

    let bad = String::from_utf8(log.segment(10, 16)).unwrap().replace("vm", "VM");
    std::fs::write(case.at(&name(10, 16)), bad).unwrap();
    case.is_bad(
        "checkpoint 2 of size 16: the log up to there is not what was signed: at least one of the records \
         10\u{2013}16 was changed, added or taken away",
    );

    std::fs::remove_file(case.at(&name(10, 16))).unwrap();
    let error = verify(&case.ask, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("records 10\u{2013}16 are not here"), "{error}");
    let case = case.without_state();
    let told = case.is_good();
    assert!(told.starts_with("warning: records 10\u{2013}16 were not looked at"), "{told}");

    std::fs::remove_dir_all(case.at("log.db.segments")).unwrap();
    let told = case.is_good();
    assert!(told.contains("records      17\u{2013}24 (8)"), "{told}");
    assert!(told.contains("verified: of the records that are here, every record is as it was"), "{told}");
    assert!(told.contains("reproduced; 2 signatures in front of record 17"), "{told}");
    let sql = "update audit_edge set sealed_hashes = zeroblob(32)";
    case.tamper(sql).is_bad(
        "checkpoint 2 of size 16: the log up to there is not what was signed: what stands for the records in front \
         of it was changed",
    );
}

/// The sample, sealed twice, the record of the first sealing in the second segment; with a file for each.
fn sealed_twice() -> (LogBuilder, Case) {
    let mut log = sample();
    let older = log.seal_into(1, 9);
    log.checkpoint();
    let newer = log.seal_into(10, 24);
    log.checkpoint();
    let case = Case::new(&log);
    std::fs::create_dir(case.at("log.db.segments")).unwrap();
    for (name, bytes) in [older, newer] {
        std::fs::write(case.at("log.db.segments").join(name), bytes).unwrap();
    }
    (log, case)
}

#[test]
fn where_files_have_the_same_records_those_that_were_sealed_are_verified() {
    let (log, case) = sealed_twice();
    let told = case.is_good();
    assert!(told.contains("records      1\u{2013}25 (25)"), "{told}");
    // As a stop in the middle of a sealing leaves them, and others that say nothing.
    for (first, last) in [(10, 16), (17, 21)] {
        std::fs::write(case.at("log.db.segments").join(segment_name(first, last)), log.segment(first, last))
            .unwrap();
    }
    for (first, last) in [(1, 7), (1, 24), (9, 1), (10, 23)] {
        std::fs::write(case.at("log.db.segments").join(segment_name(first, last)), "half").unwrap();
    }
    assert_eq!(case.is_good(), told);
    for seq in [4, 12, 24] {
        let arguments = ["audit", "prove", &log.trace_id(seq), "--database", "log.db"];
        let proved = run(case.folder.path(), &arguments);
        assert_eq!(proved.status.code(), Some(0), "{seq}: {}", err(&proved));
    }
}

#[test]
fn the_earlier_keys_are_shown_when_the_change_was_sealed_too() {
    let (_, case) = sealed_twice();
    let shown = run(case.folder.path(), &["audit", "key", "--database", "log.db"]);
    let expected = format!("{}\n{}\n", key(2).verifying_key(), key(1).verifying_key());
    assert_eq!(out(&shown), expected, "{}", err(&shown));
    std::fs::write(case.at("keys"), &shown.stdout).unwrap();
    let oldest = format!("log.db.segments/{}", segment_name(1, 9));
    let verified = run(case.folder.path(), &["audit", "verify", "--export", &oldest, "--key", "keys"]);
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    // Those that nobody can follow to are not.
    std::fs::remove_dir_all(case.at("log.db.segments")).unwrap();
    let shown = run(case.folder.path(), &["audit", "key", "--database", "log.db"]);
    assert_eq!(out(&shown), format!("{}\n", key(2).verifying_key()), "{}", err(&shown));
}

#[test]
fn an_export_is_verified_by_itself_and_several_in_their_order() {
    let log = sample();
    let trusted = key(1).verifying_key().to_string();
    let told = Case::export(&log.export(), &trusted).is_good();
    assert!(told.starts_with("warning: nothing outside the export was compared\n"), "{told}");
    assert!(told.contains("covered      up to record 21; 2 records behind it are not covered yet"), "{told}");

    let mut case = Case::export(&log.segment(1, 9), &trusted);
    std::fs::write(case.at("second"), log.segment(10, 23)).unwrap();
    case.ask.log = Which::Exports(vec![case.at("export.ndjson"), case.at("second")]);
    assert!(case.is_good().contains("records      1\u{2013}23 (23)"));
    case.ask.log = Which::Exports(vec![case.at("second"), case.at("export.ndjson")]);
    case.is_bad("export.ndjson: it goes on behind record 0, and the one before ends with record 23");

    let told = Case::export(&log.segment(17, 23), &key(2).verifying_key().to_string()).is_good();
    assert!(told.contains("warning: records 1\u{2013}16 are not in it\n"), "{told}");
    let case = Case::export(b"nonsense\n", &trusted);
    case.is_bad("export.ndjson: it is no export of an audit log: its first line is not that of one");
}

#[test]
fn the_program_tells_by_its_exit_code_what_came_of_it() {
    let case = Case::new(&sample());
    let at = |arguments: &[&str]| run(case.folder.path(), arguments);
    let good = at(&["audit", "verify", "--database", "log.db", "--state"]);
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    assert!(out(&good).starts_with("verified: ") && err(&good).is_empty(), "{}", err(&good));

    std::fs::write(case.at("other.key"), key(7).to_secret_text()).unwrap();
    let bad = at(&["audit", "verify", "--database", "log.db", "--key", "other.key"]);
    assert_eq!(bad.status.code(), Some(6));
    assert!(out(&bad).starts_with("checkpoint 3 of size 21: it is signed by "), "{}", out(&bad));
    assert_eq!(err(&bad), "ecs-groupd: the audit log does not verify\n");

    for (arguments, code, says) in [
        (&["--database", "none.db"][..], 1, "there is no database at none.db: name it with --database"),
        (&["--database", "log.db", "--key", "none"], 1, "cannot open none: No such file or directory"),
        (&["--database", "log.db", "--checkpoint", "none"], 1, "cannot open none: No such file or directory"),
        (&["--export", "none", "--key", "other.key"], 1, "cannot open none: No such file or directory"),
        (&["--export", "x", "--database", "y"], 2, "cannot be used with"),
        (&["--export", "x", "--state"], 2, "cannot be used with"),
        (&["--database", "other.key"], 5, "other.key is not a database of ecs-groupd"),
        (&["--database", "empty"], 5, "empty is not a database of ecs-groupd"),
    ] {
        std::fs::write(case.at("empty"), "").unwrap();
        let failed = at(&[&["audit", "verify"], arguments].concat());
        assert_eq!(failed.status.code(), Some(code), "{arguments:?}: {}", err(&failed));
        assert!(err(&failed).contains(says), "{arguments:?}: {}", err(&failed));
    }

    let conn = Connection::open(case.at("log.db")).unwrap();
    for (version, code, says) in
        [(5, 1, "reading its log takes version 6"), (7, 5, "install a newer ecs-groupd")]
    {
        conn.pragma_update(None, "user_version", version).unwrap();
        for verb in [
            &["verify"][..],
            &["head"],
            &["tail"],
            &["export"],
            &["prove", "00000000-0001-8000-8000-000000000000"],
        ] {
            let refused = at(&[&["audit"], verb, &["--database", "log.db"]].concat());
            assert_eq!(refused.status.code(), Some(code), "{}", err(&refused));
            assert!(err(&refused).contains(says), "{}", err(&refused));
        }
    }
}

#[test]
fn looking_at_a_log_changes_nothing() {
    let case = Case::new(&sample());
    let conn = Connection::open(case.at("log.db")).unwrap();
    conn.pragma_update(None, "journal_mode", "delete").unwrap();
    conn.pragma_update(None, "journal_mode", "wal").unwrap();
    conn.close().unwrap();
    let before = std::fs::read(case.at("log.db")).unwrap();
    case.is_good();
    assert!(std::fs::read(case.at("log.db")).unwrap() == before);
}

#[test]
fn an_export_of_a_database_verifies_without_it() {
    let case = Case::new(&sample());
    let at = |arguments: &[&str]| run(case.folder.path(), arguments);
    let exported = at(&["audit", "export", "--database", "log.db", "--output", "log.ndjson"]);
    assert_eq!(exported.status.code(), Some(0), "{}", err(&exported));
    assert!(std::fs::read(case.at("log.ndjson")).unwrap() == sample().export());
    assert_eq!(at(&["audit", "export", "--database", "log.db"]).stdout, sample().export());
    let verified = at(&["audit", "verify", "--export", "log.ndjson", "--key", "log.db.key"]);
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    std::fs::write(case.at("elsewhere.ndjson"), "").unwrap();
    std::os::unix::fs::symlink("elsewhere.ndjson", case.at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(case.at("pipe")).status().unwrap().success());
    let reader = Command::new("cat").arg(case.at("pipe")).stdout(Stdio::piped()).spawn().unwrap();
    for target in ["link", "pipe"] {
        let exported = at(&["audit", "export", "--database", "log.db", "--output", target]);
        assert_eq!(exported.status.code(), Some(0), "{target}: {}", err(&exported));
    }
    assert!(std::fs::read(case.at("elsewhere.ndjson")).unwrap() == sample().export(), "through the link");
    assert!(reader.wait_with_output().unwrap().stdout == sample().export(), "into the pipe");
    let refused = at(&["audit", "export", "--database", "log.db", "--output", "no/where"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).starts_with("ecs-groupd: cannot open no/where: "), "{}", err(&refused));
}

#[test]
fn an_export_of_what_is_left_has_the_checkpoint_that_vouches_for_its_start() {
    let mut log = sample();
    log.seal(21);
    let case = Case::new(&log);
    let exported = run(case.folder.path(), &["audit", "export", "--database", "log.db"]);
    assert!(exported.stdout == log.export(), "{}{}", out(&exported), err(&exported));
    let vkey = key(2).verifying_key().to_string();
    let told = Case::export(&exported.stdout, &vkey).is_good();
    assert!(told.contains("covered      up to record 21; 3 records behind it are not covered yet"), "{told}");
    let mut case = Case::export(&log.segment(1, 21), &vkey);
    std::fs::write(case.at("rest"), &exported.stdout).unwrap();
    case.ask.log = Which::Exports(vec![case.at("export.ndjson"), case.at("rest")]);
    assert!(case.is_good().contains("records      1\u{2013}24 (24)"));
    Case::export(&log.segment(22, 24), &vkey).is_bad(
        "records 1\u{2013}21 are not here, and no checkpoint behind them vouches for the hashes in their place",
    );
}

#[test]
fn a_proof_convinces_without_the_database_and_no_changed_one_does() {
    let mut log = sample();
    log.seal(9);
    let case = Case::new(&log);
    std::fs::create_dir(case.at("log.db.segments")).unwrap();
    std::fs::write(case.at(&format!("log.db.segments/{:020}-{:020}.ndjson", 1, 9)), log.segment(1, 9))
        .unwrap();
    let at = |arguments: &[&str]| run(case.folder.path(), arguments);
    std::fs::write(case.at("keys"), format!("{}\n{}\n", key(1).verifying_key(), key(2).verifying_key()))
        .unwrap();
    for seq in [1, 4, 9, 10, 15, 21] {
        let proved = at(&["audit", "prove", &log.trace_id(seq), "--database", "log.db", "--output", "proof"]);
        assert_eq!(proved.status.code(), Some(0), "{seq}: {}", err(&proved));
        let checked = at(&["audit", "check-proof", "proof", "--key", "keys"]);
        assert_eq!(checked.status.code(), Some(0), "{seq}: {}", err(&checked));
        let says = format!("proved: it is record {seq} of the log ecs-groupd/test\n");
        assert!(out(&checked).contains(&says), "{}", out(&checked));
        assert!(out(&checked).starts_with(&format!("record    {seq}\ntrace_id  {}", log.trace_id(seq))));
    }
    let proof = std::fs::read_to_string(case.at("proof")).unwrap();
    std::fs::write(case.at("proof"), proof.replacen("index 20", "index 19", 1)).unwrap();
    let changed = at(&["audit", "check-proof", "proof", "--key", "keys"]);
    assert_eq!(changed.status.code(), Some(6));
    assert_eq!(
        err(&changed),
        "ecs-groupd: proof: does not lead to its checkpoint: the record, its place or a hash was changed\n"
    );
    std::fs::write(case.at("proof"), "nonsense").unwrap();
    assert_eq!(at(&["audit", "check-proof", "proof", "--key", "keys"]).status.code(), Some(1));

    for (id, says) in [
        (
            log.trace_id(23),
            "no checkpoint covers record 23 yet, the newest one is of size 21: a running service",
        ),
        ("00000000-0007-8000-8000-000000000000".to_owned(), "no record has the trace id"),
        ("00000000-0012-8000-8000-000000000000".to_owned(), "no record has the trace id"),
        ("nonsense".to_owned(), "no record has the trace id \"nonsense\""),
    ] {
        let refused = at(&["audit", "prove", &id, "--database", "log.db"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(err(&refused).contains(says), "{}", err(&refused));
    }
}

#[test]
fn a_sealed_record_whose_segment_is_away_is_told_to_be_there() {
    let mut log = sample();
    log.seal(9);
    let case = Case::new(&log);
    let refused = run(case.folder.path(), &["audit", "prove", &log.trace_id(4), "--database", "log.db"]);
    assert_eq!(refused.status.code(), Some(1));
    let says = "record 4 was sealed, and its segment is not here: put it back into log.db.segments";
    assert!(err(&refused).contains(says), "{}", err(&refused));
}

#[test]
fn the_head_is_a_note_to_keep() {
    let case = Case::new(&sample());
    let at = |arguments: &[&str]| run(case.folder.path(), arguments);
    let head = at(&["audit", "head", "--database", "log.db"]);
    assert_eq!(out(&head), sample().checkpoints[2].note);
    let vkey = key(2).verifying_key();
    assert_eq!(err(&head), format!("key      {vkey}\nsize     21\nbeyond   2 records\n"));
    std::fs::write(case.at("kept"), &head.stdout).unwrap();
    let verified = at(&["audit", "verify", "--database", "log.db", "--checkpoint", "kept"]);
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    let none = Case::new(&LogBuilder::new());
    let none = run(none.folder.path(), &["audit", "head", "--database", "log.db"]);
    assert_eq!(
        (none.status.code(), &*err(&none)),
        (Some(1), "ecs-groupd: the log has no checkpoint yet, and 1 records\n")
    );
}

#[test]
fn the_public_key_is_shown_for_those_who_verify_elsewhere() {
    let case = Case::new(&sample());
    let at = |arguments: &[&str]| run(case.folder.path(), arguments);
    let vkey = key(2).verifying_key();
    let shown = at(&["audit", "key", "--database", "log.db"]);
    let both = format!("{vkey}\n{}\n", key(1).verifying_key());
    assert_eq!((out(&shown), err(&shown)), (both.clone(), String::new()));
    std::fs::rename(case.at("log.db.key"), case.at("other")).unwrap();
    std::fs::write(case.at("settings.toml"), "audit.key = 'other'").unwrap();
    let configured = at(&["audit", "key", "--database", "log.db", "--config", "settings.toml"]);
    assert_eq!(out(&configured), both, "{}", err(&configured));
    let verified = at(&["audit", "verify", "--database", "log.db", "--config", "settings.toml"]);
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    let missing = at(&["audit", "key", "--database", "log.db"]);
    assert_eq!(missing.status.code(), Some(1));
    let says = "ecs-groupd: there is no key at log.db.key, and without one nobody can tell who signed: name it with --key, or in the setting `audit.key`\n";
    assert_eq!(err(&missing), says);
}

#[test]
fn the_tail_shows_the_newest_records_in_words_or_as_they_are() {
    let mut log = sample();
    log.create("\u{1b}[31mred");
    let case = Case::new(&log);
    let at = |arguments: &[&str]| {
        let arguments = [&["audit", "tail", "--database", "log.db"], arguments].concat();
        let done = run(case.folder.path(), &arguments);
        assert_eq!(done.status.code(), Some(0), "{}", err(&done));
        out(&done)
    };
    let text = at(&["-n", "2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "      23  2026-01-02T03:04:05.230Z  done       ecs:cloudServers:createServerGroup          acct1/alice  server_group \"latest\" 019b7c5a-0000-7000-8000-00000000000b",
            "      24  2026-01-02T03:04:05.240Z  done       ecs:cloudServers:createServerGroup          acct1/alice  server_group \"\\u{1b}[31mred\" 019b7c5a-0000-7000-8000-00000000000c",
        ]
    );
    assert_eq!(at(&[]).lines().count(), 10);
    assert!(at(&["--from", "13"]).starts_with("      13  "));
    assert_eq!(at(&["--from", "25"]), "");
    assert_eq!(at(&["-n", "1", "--json"]).trim_end().as_bytes(), log.rows[23].bytes);
}

#[test]
fn the_tail_follows_until_it_is_interrupted() {
    let case = Case::new(&sample());
    let mut tail = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"))
        .args(["audit", "tail", "--database", "log.db", "--follow", "--json", "-n", "1"])
        .current_dir(case.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap().as_bytes(), sample().rows[22].bytes);
    let mut longer = sample();
    longer.create("comes");
    let insert = |row: &Row| {
        // A connection of its own each time, as after a restart of the service.
        let conn = Connection::open(case.at("log.db")).unwrap();
        let insert = "insert into audit_record (seq, record_time, bytes, leaf) values (?, ?, ?, ?)";
        let (seq, time) = (row.seq.cast_signed(), row.record_time.cast_signed());
        conn.execute(insert, params![seq, time, row.bytes, row.leaf]).unwrap();
    };
    for at in [23, 24] {
        if at == 24 {
            longer.create("and another");
        }
        insert(&longer.rows[at]);
        assert_eq!(lines.next().unwrap().as_bytes(), longer.rows[at].bytes);
    }
    let kill = Command::new("kill").args(["-INT", &tail.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn the_log_of_a_running_service_is_verified_with_its_state_while_it_writes() {
    let app = TestApp::start();
    let folder = app.database().parent().unwrap().to_owned();
    let verified = || {
        let done = run(&folder, &["audit", "verify", "--database", "ecs-groupd.db", "--state"]);
        assert_eq!(done.status.code(), Some(0), "{}{}", out(&done), err(&done));
        assert!(out(&done).contains("verified: "), "{}", out(&done));
    };
    let ids: Vec<String> = ["a", "b", "c"].map(|name| app.client.create(name)).into();
    verified();
    assert_eq!(app.client.delete(&group_path(&ids[1])).status, 204);
    verified();
    let tail = run(&folder, &["audit", "tail", "--database", "ecs-groupd.db", "-n", "1"]);
    assert!(out(&tail).contains("ecs:cloudServers:deleteServerGroup"), "{}{}", out(&tail), err(&tail));
}

/// A log as a file, whether it is good, and what both verifiers say first about it: ours, and `clients/audit-verifier`.
type Vector = (&'static str, Vec<u8>, &'static str, &'static str);

/// All of a log, with these checkpoints.
fn export_with(log: &LogBuilder, checkpoints: &[StoredCheckpoint]) -> Vec<u8> {
    let mut writer = SegmentWriter::begin(Vec::new(), "ecs-groupd/test", Edge::default()).unwrap();
    for row in &log.rows {
        writer.push(&row.bytes, row.leaf).unwrap();
    }
    writer.finish(checkpoints.iter().map(|checkpoint| checkpoint.note.clone()).collect()).unwrap()
}

/// The end of a log behind hashes that nobody signed.
fn unproven() -> Vec<u8> {
    let start = Edge::from_parts(21, &[7; 3 * 32]).unwrap();
    let mut writer = SegmentWriter::begin(Vec::new(), "ecs-groupd/test", start).unwrap();
    for row in &sample().rows[21..] {
        writer.push(&row.bytes, row.leaf).unwrap();
    }
    writer.finish(Vec::new()).unwrap()
}

/// Logs that a service, or somebody without its key, could have made.
fn made_vectors() -> Vec<Vector> {
    let whole = sample().checkpoints;
    let mut cut = sample();
    cut.cut_to(19);
    let mut lost = sample();
    lost.cut_to(18);
    lost.accept_loss(21, 18);
    lost.checkpoint();
    lost.create("again");
    lost.create("and again");
    let newest = lost.checkpoints.last().unwrap().clone();

    let (old, new) = (key(1).verifying_key().to_string(), key(2).verifying_key().to_string());
    let by = |keys: &[&SigningKey]| {
        let mut log = LogBuilder::new();
        let signed = agree(&key_change(&old, &new), keys);
        log.change_key(&json!({ "old": old, "new": new, "signed": signed }), new.clone());
        log.key = key(2);
        log.checkpoint();
        log
    };
    let (unagreed, unsigned) = (by(&[&key(3), &key(2)]), by(&[&key(1)]));

    // The key that is trusted is its second one.
    let mut later = LogBuilder::with_key(key(3));
    later.create("web");
    later.checkpoint();
    later.rotate(key(1));
    later.checkpoint();

    let mut stranger = LogBuilder::with_key(key(9));
    stranger.create("rewritten");
    stranger.checkpoint();
    vec![
        ("given_up.ndjson", export_with(&lost, &[&whole[..], &[newest]].concat()), "good", "checkpoint 3"),
        ("key_that_came_before.ndjson", later.export(), "good", "verified"),
        (
            "checkpoints_taken_away.ndjson",
            export_with(&sample(), &[]),
            "bad",
            "which signs at once, and no checkpoint is left: they were taken away",
        ),
        (
            "unproven.ndjson",
            unproven(),
            "bad",
            "records 1\u{2013}21 are not here, and no checkpoint behind them vouches for the hashes in their place",
        ),
        (
            "cut_end.ndjson",
            export_with(&cut, &whole),
            "bad",
            "of size 21: the log ends at record 19: its end was cut off",
        ),
        (
            "signed_by_a_stranger.ndjson",
            stranger.export(),
            "bad",
            "of size 2: it is signed by ecs-groupd/test+",
        ),
        (
            "key_without_agreement.ndjson",
            unagreed.export(),
            "bad",
            "record 2: it puts a new key in force, and the old one's agreement",
        ),
        (
            "key_that_did_not_sign.ndjson",
            unsigned.export(),
            "bad",
            "record 2: it puts a new key in force, and that key's own signature",
        ),
    ]
}

/// The sample's export, and what somebody could make of it in an editor.
fn edited_vectors() -> Vec<Vector> {
    let log = sample();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let good = text(log.export());
    let line = |number: usize| good.split_inclusive('\n').nth(number).unwrap();
    let checkpoint = good.split_inclusive('\n').find(|line| line.starts_with(r#"{"checkpoint":"#)).unwrap();
    let signature = log.checkpoints[1].note.lines().last().unwrap().rsplit(' ').next().unwrap();
    let forged = format!("{}A{}", &signature[..40], &signature[41..]);
    let segment = text(log.segment(10, 23));
    let hashes =
        |line: &str| line.split(r#""hashes":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let first_hashes = hashes(segment.lines().next().unwrap());
    let last_hashes = hashes(good.lines().last().unwrap());
    let other_hash = |hashes: &str| format!("B{}", &hashes[1..]);
    let bytes = String::into_bytes;
    vec![
        ("good.ndjson", good.clone().into_bytes(), "good", "verified"),
        ("segment.ndjson", segment.clone().into_bytes(), "good", "verified"),
        (
            "changed_record.ndjson",
            bytes(good.replace("web 5", "web 6")),
            "bad",
            "of size 9: the log up to there is not what was signed: at least one of the records 1\u{2013}9 was changed, \
             added or taken away",
        ),
        (
            "changed_record_later.ndjson",
            bytes(good.replacen("vm ", "VM ", 1)),
            "bad",
            "of size 16: the log up to there is not what was signed: at least one of the records 10\u{2013}16 was \
             changed, added or taken away",
        ),
        (
            "missing_record.ndjson",
            bytes(good.replace(line(7), "")),
            "bad",
            "record 7 is missing: what follows is record 8",
        ),
        (
            "swapped_records.ndjson",
            bytes(good.replace(&format!("{}{}", line(7), line(8)), &format!("{}{}", line(8), line(7)))),
            "bad",
            "record 7 is missing: what follows is record 8",
        ),
        (
            "record_twice.ndjson",
            bytes(good.replace(line(7), &line(7).repeat(2))),
            "bad",
            "record 7: it stands where record 8 should",
        ),
        (
            "torn.ndjson",
            good.as_bytes()[..good.find(line(13)).unwrap() + 100].to_vec(),
            "bad",
            "it has no last line that tells its end: it was cut, behind record 12",
        ),
        (
            "forged_checkpoint.ndjson",
            bytes(good.replace(signature, &forged)),
            "bad",
            "of size 16: it has a signature that is wrong",
        ),
        (
            "missing_checkpoint.ndjson",
            bytes(good.replace(checkpoint, "")),
            "bad",
            "it has a last line that tells of other checkpoints than stand in front of it",
        ),
        (
            "time_goes_back.ndjson",
            bytes(good.replacen(r#""record_time":1767323045120"#, r#""record_time":1767323045000"#, 1)),
            "bad",
            "record 12: its record_time goes back behind that of the record in front of it",
        ),
        (
            "changed_last_line.ndjson",
            bytes(good.replace(&last_hashes, &other_hash(&last_hashes))),
            "bad",
            "its last line: its hashes are not those of the tree over the records up to 23",
        ),
        (
            "changed_first_line.ndjson",
            bytes(segment.replace(&first_hashes, &other_hash(&first_hashes))),
            "bad",
            "of size 16: the log up to there is not what was signed: at least one of the records 10\u{2013}16 was \
             changed, added or taken away",
        ),
    ]
}

/// The files are made here, and checked in. A difference is a change of format: add a version, never edit the files;
/// where it is meant, `UPDATE_VECTORS=1 cargo test verify::` writes them anew.
#[test]
fn the_vectors_are_what_the_builder_makes_and_each_is_told_for_what_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/audit_log");
    let vkeys =
        format!("# The key of the first record; it agrees to the next one.\n{}\n", key(1).verifying_key());
    let vectors = [edited_vectors(), made_vectors()].concat();
    let row = |(file, _, kind, says): &Vector| format!("{file}\t{kind}\t{says}\n");
    let table: String = vectors.iter().map(row).collect();
    let mut files: Vec<(&str, &[u8])> = vectors.iter().map(|(file, bytes, ..)| (*file, &bytes[..])).collect();
    files.extend([("keys", vkeys.as_bytes()), ("cases.tsv", table.as_bytes())]);
    let is_update = std::env::var_os("UPDATE_VECTORS").is_some();
    for (file, bytes) in &files {
        if is_update {
            std::fs::write(folder.join(file), bytes).unwrap();
        }
        assert!(std::fs::read(folder.join(file)).unwrap() == *bytes, "{file} is another one");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), files.len(), "a file there is of no case");
    for (file, bytes, kind, says) in &vectors {
        let (is_good, told) = Case::export(bytes, &vkeys).told();
        assert_eq!(is_good, *kind == "good", "{file}: {told}");
        let first = if is_good { &told[..] } else { told.lines().next().unwrap() };
        assert!(first.contains(says), "{file}: {told}");
    }
}

#[tokio::test]
async fn a_log_that_rests_does_not_keep_the_wal_from_being_emptied() {
    let case = Case::new(&sample());
    let conn = Connection::open(case.at("log.db")).unwrap();
    let is_emptied =
        || conn.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0)).unwrap() == 0;
    let write = || conn.execute_batch("update project set group_count = group_count + 1").unwrap();
    assert!(is_emptied());
    write();
    let mut log = Log::open(&case.at("log.db")).await.unwrap();
    assert!(!is_emptied(), "it holds its moment");
    log.rest().await.unwrap();
    assert!(is_emptied());
    log.renew().await.unwrap();
    assert_eq!(log.newest_seq().await.unwrap(), 23);
    log.close().await;
}
