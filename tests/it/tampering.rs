//! Whatever is changed in what a service left, `audit verify` says so, and says what.
//!
//! The log is one that the service wrote. Whoever changes it here can write every byte of every file, so the copies
//! have no triggers, types or constraints.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ecs_groupd::access::principal::Origin;
use ecs_groupd::audit::checkpoint::Checkpoint;
use ecs_groupd::audit::note::{SigningKey, VerifyingKey};
use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::domain::id::RequestId;
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use ecs_groupd::ops::audit::export::{Format, export};
use ecs_groupd::ops::audit::verify::{Ask, Which, verify};
use ecs_groupd::ops::audit::{Keys, head};
use ecs_groupd::ops::key;
use ecs_groupd::settings::Settings;
use ecs_groupd::store::{self, CheckpointRules};
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use serde_json::json;
use tempfile::TempDir;

use crate::checkpoint::{DATABASE, NEVER, lines_of, sizes, with_store};
use crate::harness::{
    NOW, TestApp, all_records, create_body, group_path, groups_path, log_in, store_options, write_secret,
};
use crate::log_builder::{agree, key_change, keys_of};
use crate::member::{add, ecs, remove};

/// Files by their names, those in folders too.
type Files = BTreeMap<String, Vec<u8>>;

/// What a service left: some twenty records, several checkpoints, a change of key and a reset.
struct Left {
    files: Files,
    /// What was there when it was stopped for the first time.
    earlier: Files,
    /// How many records there are.
    size: u64,
}

static LEFT: LazyLock<Left> = LazyLock::new(|| {
    let settings = |settings: &mut Settings| {
        settings.audit.checkpoint_records = 8;
        settings.audit.checkpoint_every_s = 3_600;
    };
    let app = TestApp::start_with(settings);
    let bearer = [("authorization", "Bearer dev-control-token")];
    let reset = app.control_client().send("POST", "/control/reset", &bearer, &[]);
    assert_eq!(reset.status, 204, "{}", reset.text);
    let ids = ["a", "b \u{e9}", "c"].map(|name| app.client.create(name));
    assert_eq!(add(&app.client, &ids[0], &ecs(1)).status, 200);
    assert_eq!(add(&app.client, &ids[1], &ecs(2)).status, 200);
    let folder = app.stop();
    let earlier = files(folder.path());
    let database = folder.path().join(DATABASE);
    key::rotate(&store::Options { database: database.clone(), ..store_options() }).unwrap();

    let app = TestApp::start_in(folder, settings);
    app.clock.set(NOW.plus_millis(1_000));
    assert_eq!(app.client.delete(&group_path(&ids[2])).status, 204);
    assert_eq!(app.client.delete(&group_path(&ids[2])).status, 404, "it is refused");
    let elsewhere = groups_path().replace(dev::PROJECT_ID, "0123456789abcdef0123456789abcdef");
    assert_eq!(app.client.post_json(&elsewhere, &create_body("x")).status, 400, "it is denied");
    let scope = json!({ "project": { "id": dev::PROJECT_ID } });
    let token = log_in(&app.client, dev::DOMAIN_NAME, dev::USER_NAME, dev::PASSWORD, &scope);
    assert_eq!(token.status, 201, "{}", token.text);
    assert_eq!(remove(&app.client, &ids[1], &ecs(2)).status, 200);
    assert_eq!(add(&app.client, &ids[1], &ecs(3)).status, 200);
    for name in ["d", "e", "f"] {
        app.client.create(name);
    }
    let folder = app.stop();
    let files = files(folder.path());
    let size = all_records(&database).len() as u64;
    assert!(
        size >= 20 && sizes(&lines_of(&folder.path().join(format!("{DATABASE}.checkpoints")))).len() >= 3
    );
    Left { files, earlier, size }
});

/// The same, with its first records sealed in two segments.
static SEALED: LazyLock<Files> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    put(&LEFT.files, folder.path());
    let rules = CheckpointRules { records: 1_000, every: NEVER };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(with_store(&folder, rules, async |store| {
        let origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "test" };
        for before in [NOW.plus_millis(1), Timestamp::from_millis(i64::MAX.cast_unsigned())] {
            store.seal(origin, before).await.unwrap().unwrap();
        }
    }));
    files(folder.path())
});

fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(
                self::files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

fn put(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        if *name == format!("{DATABASE}.key") {
            write_secret(&path, str::from_utf8(bytes).unwrap());
        }
    }
}

/// The tables of the log, and their columns without types and constraints.
const TABLES: [(&str, &str); 7] = [
    ("audit_record", "seq integer primary key, project_id, group_id, record_time, bytes, leaf"),
    ("audit_edge", "only_row, size, hashes, sealed_up_to, sealed_hashes"),
    ("audit_checkpoint", "checkpoint_id integer primary key, size, hashes, note"),
    ("audit_key", "seq, key"),
    ("reset", "project_id, seq"),
    ("server_group", "project_id, group_id, name, placement_rule, created_by"),
    ("member", "project_id, group_id, server_id"),
];

/// A copy of what was left, to be changed.
struct Case {
    folder: TempDir,
    conn: Connection,
    ask: Ask,
}

impl Case {
    fn of(files: &Files) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(files, folder.path());
        let database = folder.path().join(DATABASE);
        let conn = Connection::open(&database).unwrap();
        conn.execute_batch(
            "pragma foreign_keys = off; pragma journal_mode = delete; pragma synchronous = off",
        )
        .unwrap();
        conn.execute_batch("pragma journal_mode = memory").unwrap();
        for (table, columns) in TABLES {
            let names: Vec<&str> =
                columns.split(", ").map(|column| column.split(' ').next().unwrap()).collect();
            let names = names.join(", ");
            conn.execute_batch(&format!(
                "create table loose ({columns}); insert into loose select {names} from {table};
                 drop table {table}; alter table loose rename to {table}"
            ))
            .unwrap();
        }
        let keys = keys_of(&database);
        let ask = Ask { log: Which::Database { database, state: false }, keys, checkpoint: None };
        let case = Self { folder, conn, ask };
        case.assert_good();
        case
    }

    /// With the groups and members compared as well.
    fn with_state(mut self) -> Self {
        self.ask.log = Which::Database { database: self.at(""), state: true };
        self.assert_good();
        self
    }

    fn at(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{DATABASE}{ending}"))
    }

    fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap();
    }

    fn told(&self) -> (bool, String) {
        let mut out = Vec::new();
        let is_good = verify(&self.ask, &mut out).unwrap();
        let told = String::from_utf8(out).unwrap().replace(&format!("{}/", self.folder.path().display()), "");
        (is_good, told)
    }

    #[track_caller]
    fn assert_good(&self) -> String {
        let (is_good, told) = self.told();
        assert!(is_good, "{told}");
        told
    }

    /// It does not verify, and the first line is as expected.
    #[track_caller]
    fn assert_bad(&self, what: &str, is_expected: impl FnOnce(&str) -> bool) {
        let (is_good, told) = self.told();
        let first = told.lines().next().unwrap();
        assert!(!is_good && is_expected(first), "{what} is not what is told:\n{told}");
    }

    #[track_caller]
    fn assert_bad_with(&self, what: &str, first: &str) {
        self.assert_bad(what, |told| told.starts_with(first));
    }

    /// Changes every byte of every column of the rows of a table, and the type of each, one after the other. `named`
    /// tells whether a line names the row, whose first column was that number, or is now the other.
    fn change_every_byte(&self, table: &str, rows: &str, named: impl Fn(&str, &str, i64) -> bool) {
        let mut count = 0;
        let columns: Vec<&str> = {
            let (_, columns) = TABLES.iter().find(|(name, _)| *name == table).unwrap();
            columns.split(", ").collect()
        };
        for (at, column) in columns.iter().enumerate() {
            let is_key = column.ends_with("primary key");
            let column = column.split(' ').next().unwrap();
            let sql = format!("select rowid, {column} from {table} where {rows}");
            let mut select = self.conn.prepare(&sql).unwrap();
            let cells = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            let cells: Vec<(i64, Value)> = cells.map(Result::unwrap).collect();
            for (row, value) in cells {
                for (expression, changed) in changes(&value, is_key) {
                    let what =
                        format!("{table}.{column} (column {at}) of row {row}: {value:?} made {changed:?}");
                    let set = |expression: &str, value: &Value, row: i64| {
                        let sql = format!("update {table} set {column} = {expression} where rowid = ?");
                        let mut update = self.conn.prepare_cached(&sql).unwrap();
                        assert_eq!(update.execute(params![value, row]).unwrap(), 1, "{what}");
                    };
                    set(expression, &changed, row);
                    let now = if let (true, Value::Integer(now)) = (is_key, &changed) { *now } else { row };
                    self.assert_bad(&what, |first| named(first, column, row) || named(first, column, now));
                    let same = if matches!(value, Value::Text(_)) { "cast(? as text)" } else { "?" };
                    set(same, &value, now);
                    count += 1;
                }
            }
        }
        assert!(count > 0);
        self.assert_good();
    }
}

/// Other values than this one: each byte of it changed, another type, shorter and longer. How it is written, and what.
fn changes(value: &Value, is_key: bool) -> Vec<(&'static str, Value)> {
    const TEXT: &str = "cast(? as text)";
    let flipped = |bytes: &[u8], bits: &[u8]| -> Vec<Vec<u8>> {
        let each = |at: usize| {
            bits.iter().map(move |bit| {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= bit;
                bytes
            })
        };
        (0..bytes.len()).flat_map(each).collect()
    };
    match value {
        Value::Integer(number) => {
            // A number in the first byte that no row has.
            let bytes = |at| number ^ (0x41_i64 << (8 * at));
            let mut changes: Vec<_> = (0..8).map(|at| ("?", Value::Integer(bytes(at)))).collect();
            if !is_key {
                changes.extend([
                    ("?", Value::Null),
                    ("?", Value::Real(2.5)),
                    (TEXT, Value::Text(number.to_string())),
                    ("?", Value::Blob(number.to_be_bytes().to_vec())),
                ]);
            }
            changes
        }
        Value::Text(text) => {
            // One bit makes another letter or digit, the other what is no text.
            let mut changes: Vec<_> = flipped(text.as_bytes(), &[0x01, 0x80])
                .into_iter()
                .map(|bytes| (TEXT, Value::Blob(bytes)))
                .collect();
            changes.extend([
                ("?", Value::Null),
                ("?", Value::Integer(1)),
                ("?", Value::Blob(text.clone().into_bytes())),
                ("?", Value::Text(format!("{text}\n"))),
            ]);
            changes
        }
        Value::Blob(bytes) => {
            let mut changes: Vec<_> =
                flipped(bytes, &[0x01]).into_iter().map(|bytes| ("?", Value::Blob(bytes))).collect();
            let longer = [&bytes[..], &[0]].concat();
            changes.extend([
                ("?", Value::Null),
                ("?", Value::Integer(1)),
                (TEXT, Value::Blob(bytes.clone())),
                ("?", Value::Blob(longer)),
            ]);
            if let [shorter @ .., _] = &bytes[..] {
                changes.push(("?", Value::Blob(shorter.to_vec())));
            }
            changes
        }
        Value::Null => {
            vec![
                ("?", Value::Blob(vec![0; 16])),
                ("?", Value::Blob(vec![])),
                ("?", Value::Integer(0)),
                ("?", Value::Text(String::new())),
            ]
        }
        Value::Real(_) => panic!("the log has none"),
    }
}

/// Whether a line is about a record, as it is numbered.
fn names_record(first: &str, column: &str, seq: i64) -> bool {
    let gone = [format!("record {seq} is missing"), format!("records {seq}\u{2013}")];
    let is_gone = column == "seq" && gone.iter().any(|gone| first.starts_with(gone));
    first.starts_with(&format!("record {seq}: ")) || is_gone
}

/// What is wrong with a record is found in it alone, so the file of checkpoints need not be read thousands of times.
fn records_alone() -> Case {
    let case = Case::of(&LEFT.files);
    std::fs::remove_file(case.at(".checkpoints")).unwrap();
    case
}

#[test]
fn every_byte_of_every_column_of_every_odd_record_is_guarded() {
    records_alone().change_every_byte("audit_record", "seq % 2 = 1", names_record);
}

#[test]
fn every_byte_of_every_column_of_every_even_record_is_guarded() {
    records_alone().change_every_byte("audit_record", "seq % 2 = 0", names_record);
}

#[test]
fn every_byte_of_every_column_of_every_checkpoint_is_guarded() {
    Case::of(&LEFT.files).change_every_byte("audit_checkpoint", "true", |first, column, id| {
        let is_gone = column == "checkpoint_id" && first.starts_with(&format!("checkpoint {id} is missing"));
        is_gone || [" of size ", ": "].iter().any(|then| first.starts_with(&format!("checkpoint {id}{then}")))
    });
}

#[test]
fn every_byte_of_the_edge_the_keys_and_the_resets_is_guarded() {
    let case = Case::of(&LEFT.files);
    for table in ["audit_edge", "audit_key", "reset"] {
        let place = format!("{table}: ");
        let sealed = format!("{table}, where its sealed part ends: ");
        case.change_every_byte(table, "true", |first, _, _| {
            first.starts_with(&place) || first.starts_with(&sealed)
        });
        case.run(&format!("create table aside as select * from {table}; delete from {table}"));
        case.assert_bad_with(table, &place);
        case.run(&format!("insert into {table} select * from aside"));
        case.assert_good();
        case.run(&format!("insert into {table} select * from aside"));
        case.assert_bad_with(table, &place);
        case.run(&format!("delete from {table}; insert into {table} select * from aside; drop table aside"));
        case.assert_good();
    }
}

/// With its segments at hand; without them, nobody can tell what was in front.
#[test]
fn every_byte_of_the_edge_is_guarded_where_records_were_sealed() {
    let case = Case::of(&SEALED).with_state();
    case.change_every_byte("audit_edge", "true", |first, _, _| first.starts_with("audit_edge"));
}

/// Who made a group, and what else the records tell.
#[test]
fn every_byte_of_every_group_and_member_is_guarded_by_the_replay() {
    let case = Case::of(&LEFT.files).with_state();
    for (table, thing) in [("server_group", "group "), ("member", "member ")] {
        let is_named = |first: &str| first.starts_with(thing) || first.starts_with(&format!("{table}: "));
        case.change_every_byte(table, "true", |first, _, _| is_named(first));
    }
    for table in ["server_group", "member"] {
        for row in ["min(rowid)", "max(rowid)"] {
            case.run(&format!(
                "create table aside as select * from {table} where rowid = (select {row} from {table})"
            ));
            case.run(&format!("delete from {table} where rowid = (select {row} from {table})"));
            case.assert_bad(table, |first| first.starts_with("group ") || first.starts_with("member "));
            case.run(&format!("insert into {table} select * from aside; drop table aside"));
            case.assert_good();
        }
    }
}

/// Trusts all the keys that the log ever had, from a copy that was kept.
fn keep_keys(case: &mut Case) -> PathBuf {
    let mut select = case.conn.prepare("select key from audit_key order by seq").unwrap();
    let keys = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let keys: Vec<String> = keys.map(Result::unwrap).collect();
    drop(select);
    let kept = case.folder.path().join("keys");
    std::fs::write(&kept, keys.join("\n")).unwrap();
    case.ask.keys = Keys::Named(kept.clone());
    kept
}

/// Deletes what the rows behind `size` tell of, and makes the edge fit, as somebody does who knows how it is made.
fn cut(case: &Case, size: u64) {
    case.run(&format!(
        "delete from audit_record where seq > {size}; delete from audit_checkpoint where size > {size};
         delete from audit_key where seq > {size}; delete from reset where seq > {size}"
    ));
    mend_edge(case);
}

/// Makes the leaves and the edge fit the records.
fn mend_edge(case: &Case) {
    let mut edge = Edge::default();
    for (row, bytes) in bytes_of(case) {
        let leaf = tree::leaf(&bytes);
        case.conn.execute("update audit_record set leaf = ? where seq = ?", params![leaf, row]).unwrap();
        edge.push(leaf);
    }
    let (size, hashes) = (edge.size().cast_signed(), edge.to_bytes());
    case.conn.execute("update audit_edge set size = ?, hashes = ?", params![size, hashes]).unwrap();
}

fn bytes_of(case: &Case) -> Vec<(i64, Vec<u8>)> {
    let mut select = case.conn.prepare("select seq, bytes from audit_record order by seq").unwrap();
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// The lines of the file of checkpoints, and the sizes that they are of.
fn lines(case: &Case) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(case.at(".checkpoints")).unwrap();
    let sizes = sizes(&lines_of(&case.at(".checkpoints")));
    sizes.into_iter().zip(text.split_inclusive('\n').map(str::to_owned)).collect()
}

fn put_lines<'line>(case: &Case, lines: impl IntoIterator<Item = &'line String>) {
    std::fs::write(case.at(".checkpoints"), lines.into_iter().map(String::as_str).collect::<String>())
        .unwrap();
}

#[test]
fn a_log_that_was_cut_to_any_length_is_told_to_be_shorter_than_it_was() {
    let size = LEFT.size;
    for length in 0..size {
        let mut case = Case::of(&LEFT.files);
        keep_keys(&mut case);
        cut(&case, length);
        let lines = lines(&case);
        let at = lines.iter().position(|(size, _)| *size > length).unwrap();
        let first = format!(
            "checkpoint in line {} of {DATABASE}.checkpoints of size {}: the log ends at record {length}: ",
            at + 1,
            lines[at].0
        );
        case.assert_bad_with(&format!("{length} of {size}"), &first);
    }
}

/// Then nothing here tells of what was cut off, but whatever was kept somewhere else does.
#[test]
fn a_log_that_was_cut_with_the_file_beside_it_is_told_by_a_checkpoint_that_was_kept() {
    for length in 0..LEFT.size {
        let mut case = Case::of(&LEFT.files);
        let newest = lines_of(&case.at(".checkpoints")).pop().unwrap();
        let kept = case.folder.path().join("kept");
        std::fs::write(&kept, newest).unwrap();
        keep_keys(&mut case);
        cut(&case, length);
        let left = lines(&case);
        put_lines(&case, left.iter().filter(|(size, _)| *size <= length).map(|(_, line)| line));
        case.ask.checkpoint = Some(kept);
        let first =
            format!("checkpoint in line 1 of kept of size {}: the log ends at record {length}: ", LEFT.size);
        case.assert_bad_with(&length.to_string(), &first);
    }
}

#[test]
fn records_that_are_deleted_swapped_doubled_or_renumbered_are_named() {
    let last = LEFT.size;
    for seq in [1, 2, last / 2, last] {
        let case = Case::of(&LEFT.files);
        case.run(&format!("delete from audit_record where seq = {seq}"));
        let first = if seq == last {
            format!(
                "checkpoint {} of size {last}: the log ends at record {}",
                lines_of_left().len(),
                last - 1
            )
        } else {
            format!("record {seq} is missing: what follows is record {}", seq + 1)
        };
        case.assert_bad_with("deleted", &first);
        // The others move up.
        case.run(&format!(
            "update audit_record set seq = -seq where seq > {seq}; update audit_record set seq = -seq - 1 where seq < 0"
        ));
        mend_edge(&case);
        if seq < last {
            let first = format!("record {seq}: its bytes say that they are record {}", seq + 1);
            case.assert_bad_with("moved up", &first);
        }
    }
    for (one, other) in [(1, 2), (5, 6), (2, last - 1), (last - 1, last)] {
        for is_mended in [false, true] {
            let case = Case::of(&LEFT.files);
            case.run(&format!(
                "update audit_record set seq = 0 where seq = {one}; update audit_record set seq = {one} where seq = {other};
                 update audit_record set seq = {other} where seq = 0"
            ));
            if is_mended {
                mend_edge(&case);
            }
            case.assert_bad_with(
                "swapped",
                &format!("record {one}: its bytes say that they are record {other}"),
            );
        }
    }
    for seq in [1, last / 2, last] {
        for is_mended in [false, true] {
            let case = Case::of(&LEFT.files);
            let copy = "project_id, group_id, record_time, bytes, leaf from audit_record where seq =";
            case.run(&format!("insert into audit_record select {last} + 1, {copy} {seq}"));
            if is_mended {
                mend_edge(&case);
            }
            let first = format!("record {}: its bytes say that they are record {seq}", last + 1);
            case.assert_bad_with("doubled at the end", &first);
            let case = Case::of(&LEFT.files);
            case.run(&format!(
                "update audit_record set seq = -seq where seq > {seq}; update audit_record set seq = 1 - seq where seq < 0;
                 insert into audit_record select {seq} + 1, {copy} {seq}"
            ));
            if is_mended {
                mend_edge(&case);
            }
            let first = format!("record {}: its bytes say that they are record {seq}", seq + 1);
            case.assert_bad_with("doubled at its place", &first);
        }
    }
    // In front of all of them, where nothing looks.
    for seq in [i64::MIN, -1, 0] {
        let case = Case::of(&LEFT.files);
        case.run(&format!("insert into audit_record select {seq}, project_id, group_id, record_time, bytes, leaf from audit_record where seq = 1"));
        case.assert_bad_with("put in front", &format!("record {seq}: it stands where record 1 should"));
    }
}

#[test]
fn checkpoints_that_are_deleted_swapped_or_doubled_are_named() {
    let beside = format!("{DATABASE}.checkpoints");
    let last = lines_of_left().len();
    for id in 1..=last {
        let case = Case::of(&LEFT.files);
        case.run(&format!("delete from audit_checkpoint where checkpoint_id = {id}"));
        let first = if id == last {
            format!(
                "checkpoint in line {id} of {beside} of size {}: the database does not have it",
                LEFT.size
            )
        } else {
            format!("checkpoint {id} is missing: the next one there is checkpoint {}", id + 1)
        };
        case.assert_bad_with("deleted", &first);
        // The others move up.
        case.run(&format!(
            "update audit_checkpoint set checkpoint_id = -checkpoint_id where checkpoint_id > {id};
             update audit_checkpoint set checkpoint_id = -checkpoint_id - 1 where checkpoint_id < 0"
        ));
        case.assert_bad_with("moved up", &format!("checkpoint in line {id} of {beside} of size "));
        // Not in the file either: the rest is a log that was signed less often, so nothing here can tell.
        let mut lines = lines(&case);
        lines.remove(id - 1);
        put_lines(&case, lines.iter().map(|(_, line)| line));
        if id < last {
            case.assert_good();
        }

        let case = Case::of(&LEFT.files);
        let copy = format!("size, hashes, note from audit_checkpoint where checkpoint_id = {id}");
        case.run(&format!("insert into audit_checkpoint select {last} + 1, {copy}"));
        case.assert_bad_with("doubled", &format!("checkpoint {} of size ", last + 1));
    }
    for id in 1..last {
        let case = Case::of(&LEFT.files);
        case.run(&format!(
            "update audit_checkpoint set checkpoint_id = 0 where checkpoint_id = {id};
             update audit_checkpoint set checkpoint_id = {id} where checkpoint_id = {id} + 1;
             update audit_checkpoint set checkpoint_id = {id} + 1 where checkpoint_id = 0"
        ));
        case.assert_bad("swapped", |first| {
            [id, id + 1].iter().any(|id| first.starts_with(&format!("checkpoint {id} of size ")))
        });
    }
}

fn lines_of_left() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    put(&LEFT.files, folder.path());
    lines_of(&folder.path().join(format!("{DATABASE}.checkpoints")))
}

#[test]
fn every_byte_and_every_line_of_the_file_of_checkpoints_is_guarded() {
    let case = Case::of(&LEFT.files);
    let (file, named) = (case.at(".checkpoints"), format!("{DATABASE}.checkpoints"));
    let whole = std::fs::read(&file).unwrap();
    for bits in [0x01, 0x80] {
        let mut line = 1;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= bits;
            std::fs::write(&file, changed).unwrap();
            let first = format!("checkpoint in line {line} of {named}");
            case.assert_bad_with(&format!("byte {at} ^ {bits}"), &first);
            line += usize::from(whole[at] == b'\n');
        }
    }
    let lines: Vec<String> = {
        std::fs::write(&file, &whole).unwrap();
        lines(&case).into_iter().map(|(_, line)| line).collect()
    };
    let last = lines.len();
    // Written in another way, it says the same.
    for other in
        [lines[1].replace('\u{2014}', "\\u2014"), format!(" {}", lines[1]), lines[1].replace('\n', " \n")]
    {
        put_lines(&case, [&lines[..1], &[other], &lines[2..]].concat().iter());
        case.assert_bad_with("written otherwise", &format!("checkpoint in line 2 of {named}"));
    }
    for at in 0..last - 1 {
        put_lines(&case, [&lines[..at], &lines[at + 1..]].concat().iter());
        case.assert_bad_with("a line deleted", &format!("checkpoint {} of size ", at + 1));
        put_lines(
            &case,
            [&lines[..at], &[lines[at + 1].clone(), lines[at].clone()], &lines[at + 2..]].concat().iter(),
        );
        case.assert_bad("lines swapped", |first| {
            [at + 1, at + 2]
                .iter()
                .any(|line| first.starts_with(&format!("checkpoint in line {line} of {named}")))
        });
    }
    for line in &lines {
        put_lines(&case, lines.iter().chain([line]));
        case.assert_bad_with("a line doubled", &format!("checkpoint in line {} of {named}", last + 1));
    }
    // The last line, or a part of it, is what a crash keeps from the file: the database has it.
    let length = whole.len() - lines[last - 1].len();
    for end in length..=whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        case.assert_good();
    }
    // But no crash takes more.
    for end in 0..length {
        std::fs::write(&file, &whole[..end]).unwrap();
        case.assert_bad_with("cut", "checkpoint ");
    }
}

/// The lines of an export or a segment, and what must be told first when one of its bytes is changed.
struct Export<'case> {
    case: &'case Case,
    file: PathBuf,
    named: String,
    bytes: Vec<u8>,
    /// Where each line is, with its end.
    lines: Vec<Range<usize>>,
    /// The first record.
    first: u64,
}

impl<'case> Export<'case> {
    fn new(case: &'case Case, file: PathBuf) -> Self {
        let named = file.strip_prefix(case.folder.path()).unwrap().display().to_string();
        let bytes = std::fs::read(&file).unwrap();
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let start = lines.last().map_or(0, |before: &Range<usize>| before.end);
            lines.push(start..start + line.len());
        }
        let head: serde_json::Value = serde_json::from_slice(&bytes[lines[0].clone()]).unwrap();
        let first = head["first"].as_u64().unwrap();
        Self { case, file, named, bytes, lines, first }
    }

    /// Where each record is.
    fn records(&self) -> impl Iterator<Item = &Range<usize>> {
        self.lines.iter().filter(|line| self.bytes[line.start..line.end].starts_with(br#"{"v":"#))
    }

    /// How many records are whole in front of a byte.
    fn whole_before(&self, at: usize) -> u64 {
        let whole = self.records().filter(|line| line.end <= at).count();
        self.first - 1 + whole as u64
    }

    /// Whether a line names the line that a byte is in.
    fn is_named(&self, first: &str, at: usize) -> bool {
        let line = self.lines.iter().position(|line| line.contains(&at)).unwrap();
        let seq = self.first - 1 + line as u64;
        let of_file = first.starts_with(&format!("{}: ", self.named))
            || first.starts_with(&format!("{}, its ", self.named));
        // A hash in front of the records cannot be told from a record, where nothing else tells either.
        let checkpoint = first
            .strip_prefix("checkpoint ")
            .is_some_and(|rest| rest.contains(" of size ") || rest.contains(": is no checkpoint"));
        if line == 0 {
            let of_first =
                [self.first - 1, self.first].iter().any(|seq| first.starts_with(&format!("record {seq}")));
            of_file
                || of_first
                || first.starts_with("records ")
                || (checkpoint && first.contains("was changed"))
        } else if line > self.records().count() {
            // The first of them may look like the next record.
            of_file
                || (checkpoint && !first.contains("the log up to there is not what was signed"))
                || first.starts_with(&format!("record {seq}: "))
        } else {
            let is_among = first.split_once("was signed: ").is_some_and(|(_, rest)| {
                let range = rest
                    .strip_prefix("at least one of the records ")
                    .and_then(|rest| rest.split_once(" was "));
                match range.and_then(|(range, _)| range.split_once('\u{2013}')) {
                    Some((from, to)) => (from.parse().unwrap()..=to.parse().unwrap()).contains(&seq),
                    None => rest == format!("record {seq} was changed"),
                }
            });
            let of_record = [
                format!("record {seq}: "),
                format!("record {seq} is missing"),
                format!("records {seq}\u{2013}"),
            ];
            is_among
                || of_record.iter().any(|of_record| first.starts_with(of_record))
                || first.ends_with(&format!(": it stands where record {seq} should"))
                || first.starts_with(&format!("record {}: its record_time goes back", seq + 1))
                || of_file
        }
    }

    /// Changes every byte of it, one after the other.
    fn change_every_byte(&self) {
        for at in 0..self.bytes.len() {
            let mut changed = self.bytes.clone();
            changed[at] ^= if at % 5 == 0 { 0x80 } else { 0x01 };
            std::fs::write(&self.file, changed).unwrap();
            let what = format!("byte {at} of {}", self.named);
            self.case.assert_bad(&what, |first| self.is_named(first, at));
        }
        std::fs::write(&self.file, &self.bytes).unwrap();
        self.case.assert_good();
    }
}

/// An export of the records that are left behind the sealed ones, with all the keys that there ever were.
fn exported(files: &Files) -> (Case, PathBuf) {
    let mut case = Case::of(files);
    keep_keys(&mut case);
    let file = case.folder.path().join("export.ndjson");
    export(&case.at(""), Format::Ndjson, Some(&file)).unwrap();
    case.ask.log = Which::Exports(vec![file.clone()]);
    case.assert_good();
    (case, file)
}

#[test]
fn every_byte_of_an_export_is_guarded() {
    let (case, file) = exported(&LEFT.earlier);
    Export::new(&case, file).change_every_byte();
}

#[test]
fn an_export_that_was_cut_at_any_byte_is_told_to_be_cut() {
    let (case, file) = exported(&LEFT.earlier);
    let export = Export::new(&case, file);
    for end in 0..export.bytes.len() {
        std::fs::write(&export.file, &export.bytes[..end]).unwrap();
        let first = if end < export.lines[0].end {
            "export.ndjson: it is no export of an audit log: its first line is not that of one".to_owned()
        } else {
            let behind = export.whole_before(end);
            format!(
                "export.ndjson: it has no last line that tells its end: it was cut, behind record {behind}"
            )
        };
        case.assert_bad_with(&format!("{end} bytes"), &first);
    }
}

/// Each is guarded by the record of its sealing as well, which has its digest.
#[test]
fn every_byte_of_a_sealed_segment_is_guarded() {
    let case = Case::of(&SEALED).with_state();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(case.at(".segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    Export::new(&case, files[0].clone()).change_every_byte();
    // A checkpoint less is a log that was signed less often, but not the file that was sealed.
    let text = std::fs::read_to_string(&files[1]).unwrap();
    let (lines, last) = text.trim_end().rsplit_once('\n').unwrap();
    let mut last: serde_json::Value = serde_json::from_str(last).unwrap();
    let taken = lines.lines().find(|line| line.starts_with(r#"{"checkpoint":"#)).unwrap();
    last["checkpoints"] = json!(last["checkpoints"].as_u64().unwrap() - 1);
    last["checkpoint_bytes"] = json!(last["checkpoint_bytes"].as_u64().unwrap() - taken.len() as u64 - 1);
    let rest = format!(
        "{{\"last\":{},\"hashes\":{},\"checkpoints\":{},\"checkpoint_bytes\":{}}}",
        last["last"], last["hashes"], last["checkpoints"], last["checkpoint_bytes"]
    );
    let lines = lines.replacen(&format!("{taken}\n"), "", 1);
    std::fs::write(&files[1], format!("{lines}\n{rest}\n")).unwrap();
    let named = files[1].strip_prefix(case.folder.path()).unwrap().display().to_string();
    case.assert_bad_with("a checkpoint less", &format!("{named}: it is not the file that record "));
}

/// Rewrites the records from the first to the last, and signs them with keys of one's own under the log's name.
fn rewrite(case: &Case) -> (Vec<String>, SigningKey) {
    let mut select = case.conn.prepare("select key from audit_key order by seq").unwrap();
    let old: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    drop(select);
    let parsed: VerifyingKey = old[0].parse().unwrap();
    let own: Vec<SigningKey> =
        [8, 9].map(|number| SigningKey::new(parsed.name(), [number; 32]).unwrap()).into();
    let vkeys: Vec<String> = own.iter().map(|key| key.verifying_key().to_string()).collect();
    let mut edge = Edge::default();
    let mut edges = vec![edge.clone()];
    for (seq, bytes) in bytes_of(case) {
        let mut text = String::from_utf8(bytes).unwrap().replace("anti-affinity", "anti-afinity");
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Some(signed) = record["asked"]["signed"].as_str() {
            let agreed = agree(&key_change(&vkeys[0], &vkeys[1]), &[&own[0], &own[1]]);
            text = text.replace(&json!(signed).to_string(), &json!(agreed).to_string());
        }
        for (old, new) in old.iter().zip(&vkeys) {
            text = text.replace(old, new);
        }
        let leaf = tree::leaf(text.as_bytes());
        let update = "update audit_record set bytes = ?, leaf = ? where seq = ?";
        case.conn.execute(update, params![text.as_bytes(), leaf, seq]).unwrap();
        edge.push(leaf);
        edges.push(edge.clone());
    }
    mend_edge(case);
    let mut notes = Vec::new();
    let mut select =
        case.conn.prepare("select checkpoint_id, size, note from audit_checkpoint order by 1").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let rows: Vec<(i64, i64, String)> = rows.map(Result::unwrap).collect();
    for (id, size, note) in rows {
        let edge = &edges[usize::try_from(size).unwrap()];
        let is_by_first = old[0].parse().is_ok_and(|key| Checkpoint::open(&note, &[key]).is_ok());
        let key = &own[usize::from(!is_by_first)];
        let checkpoint =
            Checkpoint { origin: parsed.name().to_owned(), size: edge.size(), root: edge.root() };
        let note = checkpoint.sign(key);
        let update = "update audit_checkpoint set hashes = ?, note = ? where checkpoint_id = ?";
        case.conn.execute(update, params![edge.to_bytes(), note, id]).unwrap();
        notes.push(format!("{}\n", json!(note)));
    }
    for (old, new) in old.iter().zip(&vkeys) {
        case.conn.execute("update audit_key set key = ? where key = ?", [new, old]).unwrap();
    }
    (notes, own[1].clone())
}

#[test]
fn a_log_that_was_rewritten_and_signed_with_another_key_is_told_by_whatever_was_not() {
    let mut case = Case::of(&LEFT.files);
    let kept_keys = keep_keys(&mut case);
    case.ask.keys = keys_of(&case.at(""));
    let kept = case.folder.path().join("kept");
    let mut note = Vec::new();
    head(&case.at(""), &mut note, &mut Vec::new()).unwrap();
    std::fs::write(&kept, note).unwrap();
    let (lines, key) = rewrite(&case);

    let not_trusted = "it is not signed by a key that is trusted here";
    case.assert_bad("the file of checkpoints is as it was", |first| {
        first.starts_with("checkpoint ") && first.contains(" of size 1: ")
    });
    put_lines(&case, &lines);
    case.assert_bad("the key is as it was", |first| {
        first.starts_with(&format!("checkpoint {} of size {}: it is signed by ", lines.len(), LEFT.size))
            && first.ends_with("which is no key that is trusted here, nor one that such a key agreed to")
    });
    write_secret(&case.at(".key"), &format!("{}\n", key.to_secret_text()));
    // Now it is a good log, of somebody else.
    case.assert_good();
    case.ask.keys = Keys::Named(kept_keys.clone());
    case.assert_bad("a key that was kept", |first| first.contains("which is no key that is trusted here"));
    case.ask.keys = keys_of(&case.at(""));
    case.ask.checkpoint = Some(kept);
    let first = format!("checkpoint in line 1 of kept of size {}: {not_trusted}", LEFT.size);
    case.assert_bad_with("a checkpoint that was kept", &first);
    case.ask.keys = Keys::Named(kept_keys);
    let first =
        format!("checkpoint in line 1 of kept of size {}: the log up to there is not what was", LEFT.size);
    case.assert_bad_with("both", &first);
}

#[test]
fn an_older_copy_that_was_put_back_is_told_by_the_checkpoints_of_what_came_after() {
    let mut case = Case::of(&LEFT.files);
    keep_keys(&mut case);
    let kept = case.folder.path().join("kept");
    let (keys, mut note) = (case.ask.keys.clone(), Vec::new());
    head(&case.at(""), &mut note, &mut Vec::new()).unwrap();
    let mut copy = Case::of(&LEFT.earlier);
    let length = bytes_of(&copy).len();
    copy.ask.keys = keys;
    copy.assert_good();
    std::fs::copy(case.at(".checkpoints"), copy.at(".checkpoints")).unwrap();
    let line = lines(&case).iter().position(|(size, _)| *size > length as u64).unwrap() + 1;
    let named = format!("checkpoint in line {line} of {DATABASE}.checkpoints of size ");
    copy.assert_bad("the database alone", |first| {
        first.starts_with(&named) && first.contains(&format!(": the log ends at record {length}: "))
    });
    // The whole of it was once good.
    std::fs::write(copy.at(".checkpoints"), &LEFT.earlier[&format!("{DATABASE}.checkpoints")]).unwrap();
    copy.assert_good();
    std::fs::write(&kept, note).unwrap();
    copy.ask.checkpoint = Some(kept.clone());
    let first = format!(
        "of size {}: the log ends at record {length}: its end was cut off, or an older copy put in its place",
        LEFT.size
    );
    copy.assert_bad("all of it", |told| {
        told.starts_with("checkpoint in line 1 of ") && told.ends_with(&first)
    });
}
