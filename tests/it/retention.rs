//! `audit.retention_days`: old records move into sealed files, and whatever stops that, each stands in a file or in the
//! database and proves.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::principal::Origin;
use ecs_groupd::audit::segment::read_trailer;
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::{self, Change};
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::RequestId;
use ecs_groupd::domain::rules::Limits;
use ecs_groupd::domain::session::SecretDigest;
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev::PROJECT_ID;
use ecs_groupd::meter::Meter;
use ecs_groupd::ops::audit::prove::{check_proof, prove};
use ecs_groupd::ops::audit::verify::{Ask, Which, verify};
use ecs_groupd::ops::audit::{AuditError, Keys};
use ecs_groupd::store::seal::{SealError, Sealed, segments};
use ecs_groupd::store::{self, CheckpointRules, Once, Options, Store, StoreError, Unavailable, Writer};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::batch::dev;
use crate::checkpoint::{DATABASE, NEVER, lines_of};
use crate::cts::{create, permit};
use crate::harness::{NOW, Process, TestApp, all_records, create_body, groups_path, store_options};
use crate::log_builder::keys_of;
use crate::member::{add, ecs};
use crate::rotation::record_change;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const ORIGIN: Origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "timer" };
const SEALED: &str = "ecs-groupd:audit:sealSegment";
/// Behind every record of a test.
const LATER: Timestamp = NOW.plus_millis(1_000 * DAY_MS);

fn day(nth: u64) -> Timestamp {
    NOW.plus_millis(nth * DAY_MS)
}

/// A database on which no service runs, but a writer when a test says so.
struct Lab {
    folder: TempDir,
    clock: Clock,
    rules: CheckpointRules,
    size_bytes_max: u64,
}

impl Lab {
    /// Where every so many records are signed.
    fn new(records: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::fixed(NOW),
            rules: CheckpointRules { records, every: NEVER },
            size_bytes_max: 0,
        }
    }

    /// With so many groups made, and closed: the record of the key is the first one.
    fn with_groups(records: u64, groups: u64) -> Self {
        let lab = Self::new(records);
        lab.open(async |store| create_groups(store, groups).await);
        lab
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }

    async fn store(&self) -> (Arc<Store>, Writer) {
        let options = Options {
            database: self.database(),
            size_bytes_max: self.size_bytes_max,
            checkpoint_every: NEVER,
            limits: Limits { groups_per_project: 100_000, members_per_group: 16 },
            checkpoints: self.rules,
            ..store_options()
        };
        let meter = Arc::new(Meter::default());
        let (store, writer) = store::open(options, self.clock.clone(), Ids::seeded(1), meter).await.unwrap();
        (Arc::new(store), writer)
    }

    /// Opens a store and its writer, does `work`, and closes both.
    fn open<T>(&self, work: impl AsyncFnOnce(&Arc<Store>) -> T) -> T {
        run(async {
            let (store, writer) = self.store().await;
            let (stop, stopped) = oneshot::channel::<()>();
            let work = async {
                let done = work(&store).await;
                store.close().await;
                drop(stop);
                done
            };
            let (ended, done) = tokio::join!(writer.run(async { drop(stopped.await) }), work);
            ended.unwrap();
            done
        })
    }

    /// Seals once what is older than `before`; the range, if there was one.
    async fn seal(&self, store: &Store, before: Timestamp) -> Option<(u64, u64)> {
        self.published().await;
        let sealed = store.seal(ORIGIN, before).await.unwrap();
        sealed.map(|Sealed { first, last, file }| {
            assert_eq!(file, self.segment(first, last));
            (first, last)
        })
    }

    /// Lets the writer put its newest checkpoint into the file, which it does behind its answer.
    async fn published(&self) {
        while lines_of(&self.at(".checkpoints")).len() < self.count("audit_checkpoint") {
            tokio::task::yield_now().await;
        }
    }

    fn at(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{DATABASE}{ending}"))
    }

    fn segment(&self, first: u64, last: u64) -> PathBuf {
        segments(&self.database().canonicalize().unwrap()).join(format!("{first:020}-{last:020}.ndjson"))
    }

    fn count(&self, table: &str) -> usize {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let conn = Connection::open_with_flags(self.database(), flags).unwrap();
        let sql = format!("select count(*) from {table}");
        conn.query_one(&sql, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    }

    /// What verifies it all, with the state.
    fn ask(&self) -> Ask {
        let keys = keys_of(&self.database());
        Ask { log: Which::Database { database: self.database(), state: true }, keys, checkpoint: None }
    }

    /// Verifies all of it, with the state; what was told.
    #[track_caller]
    fn verified(&self) -> String {
        let (is_good, told) = told(&self.ask());
        assert!(is_good, "{told}");
        told
    }

    /// The names of the files in the folder of segments.
    fn files(&self) -> Vec<String> {
        files_in(&self.database())
    }
}

fn files_in(database: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(segments(database)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn told(ask: &Ask) -> (bool, String) {
    let mut out = Vec::new();
    match verify(ask, &mut out) {
        Ok(is_good) => (is_good, String::from_utf8(out).unwrap()),
        Err(error) => (false, error.to_string()),
    }
}

async fn create_groups(store: &Store, count: u64) {
    for nth in 0..count {
        create(store, &dev(), &format!("group-{nth}")).await;
    }
}

/// Copies a database and what stands beside it.
fn copied(from: &Lab) -> Lab {
    let to = Lab { clock: from.clock.clone(), ..Lab::new(from.rules.records) };
    copy_folder(from.folder.path(), to.folder.path());
    to
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if from.is_dir() {
            copy_folder(&from, &to.join(name));
        } else {
            std::fs::copy(&from, to.join(name)).unwrap();
        }
    }
}

fn sha256(file: &Path) -> String {
    base16ct::lower::encode_string(&Sha256::digest(std::fs::read(file).unwrap()))
}

fn ecs_groupd(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ecs-groupd")).args(arguments).current_dir(folder).output().unwrap()
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = ecs_groupd(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the records up to `last` are sealed.
fn wait_until_sealed(database: &Path, last: u64) {
    while all_records(database)[0]["seq"].as_u64() <= Some(last) {
        std::thread::yield_now();
    }
}

#[test]
fn over_several_prunings_every_kept_and_every_sealed_record_proves() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut records: BTreeMap<u64, Value> = BTreeMap::new();
    let mut last_of_day = Vec::new();
    let mut kept_group = String::new();
    for nth in 0..5 {
        let app = TestApp::start_at(day(nth), folder, |settings| settings.audit.retention_days = 1);
        // What was written yesterday is not older than a day.
        if let Some(sealed) = nth.checked_sub(2) {
            wait_until_sealed(&app.database(), last_of_day[usize::try_from(sealed).unwrap()]);
        }
        let group = app.client.create(&format!("day-{nth}"));
        add(&app.client, &group, &ecs(1));
        if nth == 1 {
            kept_group = group;
        } else {
            assert_eq!(app.client.delete(&crate::harness::group_path(&group)).status, 204);
        }
        folder = app.stop();
        let found = all_records(&folder.path().join(DATABASE));
        last_of_day.push(found.last().unwrap()["seq"].as_u64().unwrap());
        records.extend(found.into_iter().map(|record| (record["seq"].as_u64().unwrap(), record)));
    }
    let (database, last) = (folder.path().join(DATABASE), last_of_day[4]);
    assert_eq!(records.keys().copied().collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    assert_eq!(all_records(&database)[0]["seq"], last_of_day[2] + 1, "the third day's are the last to go");

    // Each sealing has a record, which tells the file and its digest.
    let sealings: Vec<&Value> = records.values().filter(|record| record["action"] == SEALED).collect();
    let ranges: Vec<(u64, u64)> = sealings
        .iter()
        .map(|record| {
            let asked = &record["asked"];
            let (first, last) = (asked["first"].as_u64().unwrap(), asked["last"].as_u64().unwrap());
            let file = segments(&database).join(asked["file"].as_str().unwrap());
            assert_eq!(asked["sha256"], sha256(&file));
            assert_eq!(read_trailer(&mut File::open(file).unwrap()).unwrap().edge.size(), last);
            assert_eq!((&record["actor"]["type"], &record["door"]), (&json!("service"), &json!("timer")));
            (first, last)
        })
        .collect();
    let expected =
        [(1, last_of_day[0]), (last_of_day[0] + 1, last_of_day[1]), (last_of_day[1] + 1, last_of_day[2])];
    assert_eq!(ranges, expected);
    assert_eq!(files_in(&database).len(), ranges.len());

    let at = |arguments: &[&str]| done(folder.path(), arguments);
    let verified = at(&["audit", "verify", "--state", "--database", DATABASE]);
    assert!(verified.contains(&format!("records      1\u{2013}{last} ({last})")), "{verified}");
    assert!(!verified.contains("warning"), "{verified}");
    at(&["audit", "export", "--database", DATABASE, "--output", "rest"]);
    let files: Vec<String> =
        files_in(&database).into_iter().map(|name| format!("{DATABASE}.segments/{name}")).collect();
    let exports: Vec<&str> =
        files.iter().map(String::as_str).chain(["rest"]).flat_map(|file| ["--export", file]).collect();
    let key = format!("{DATABASE}.key");
    let verified = at(&[&["audit", "verify", "--key", &key][..], &exports[..]].concat());
    assert!(verified.contains(&format!("records      1\u{2013}{last} ({last})")), "{verified}");

    let proof = folder.path().join("proof");
    let keys = keys_of(&database);
    for (seq, record) in &records {
        prove(&database, record["trace_id"].as_str().unwrap(), Some(&proof)).unwrap();
        let mut out = Vec::new();
        check_proof(&proof, &keys, &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(told.contains(&format!("proved: it is record {seq} of the log")), "{told}");
    }

    // The groups know nothing of it.
    let app = TestApp::start_at(day(5), folder, |_| {});
    assert_eq!(app.client.list_ids(), [kept_group]);
}

#[test]
fn without_the_setting_nothing_is_sealed_however_old_it_is() {
    let folder = TestApp::start().stop();
    let app = TestApp::start_at(LATER, folder, |settings| assert_eq!(settings.audit.retention_days, 0));
    (0..5).for_each(|_| app.reload(""));
    let folder = app.stop();
    let database = folder.path().join(DATABASE);
    assert_eq!(all_records(&database)[0]["seq"], 1);
    assert!(!segments(&database).exists());
}

#[test]
fn only_what_a_checkpoint_covers_is_sealed() {
    let lab = Lab::new(5);
    lab.open(async |store| {
        create_groups(store, 8).await;
        // Signed at 1 and 6; there are 9.
        assert_eq!(lab.seal(store, LATER).await, Some((1, 6)));
        assert_eq!(lab.seal(store, LATER).await, None);
        assert_eq!(lab.count("audit_record"), 9 - 6 + 1, "and the record of the sealing");
    });
    assert!(lab.verified().contains("records      1\u{2013}10 (10)"));
}

#[test]
fn what_is_not_older_stays_and_so_does_the_newest_record() {
    let lab = Lab::new(1);
    lab.open(async |store| {
        for nth in 1..=4 {
            lab.clock.set(day(nth));
            create(store, &dev(), "web").await;
        }
        assert_eq!(lab.seal(store, NOW).await, None);
        assert_eq!(lab.seal(store, day(2)).await, Some((1, 2)), "the third is just as old, and not older");
        assert_eq!(lab.seal(store, day(2).plus_millis(1)).await, Some((3, 3)));
        assert_eq!(lab.seal(store, LATER).await, Some((4, 6)));
        let kept: Vec<Value> =
            all_records(&lab.database()).iter().map(|record| record["seq"].clone()).collect();
        assert_eq!(kept, [7, 8], "the newest one at that time, and the record of the sealing");
    });
    assert!(lab.verified().contains("records      1\u{2013}8 (8)"));
    lab.open(async |store| create(store, &dev(), "on").await);
    assert!(lab.verified().contains("records      1\u{2013}9 (9)"));
}

#[test]
fn a_checkpoint_that_does_not_stand_outside_covers_nothing() {
    let lab = Lab::new(3);
    let crashed = lab.open(async |store| {
        create_groups(store, 7).await;
        lab.published().await;
        let outside = lab.at(".checkpoints");
        let text = std::fs::read_to_string(&outside).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 3, "of 1, 4 and 7 records");
        for (left, sealed) in [
            (String::new(), None),
            (lines[0].to_owned(), None),
            ("\"another log's\"\n".to_owned(), None),
            // As a crash between the commit and the file leaves it.
            (lines[..2].concat(), Some((1, 4))),
        ] {
            std::fs::write(&outside, &left).unwrap();
            let found = store.seal(ORIGIN, LATER).await.unwrap();
            assert_eq!(found.map(|found| (found.first, found.last)), sealed, "{left}");
        }
        std::fs::remove_file(&outside).unwrap();
        assert_eq!(store.seal(ORIGIN, LATER).await.unwrap(), None);
        std::fs::create_dir(&outside).unwrap();
        let error = store.seal(ORIGIN, LATER).await.unwrap_err();
        assert!(matches!(&error, SealError::Io { file, .. } if file.ends_with("ecs-groupd.db.checkpoints")));
        std::fs::remove_dir(&outside).unwrap();
        std::fs::write(&outside, lines[..2].concat()).unwrap();
        copied(&lab)
    });
    // The start-up check makes do with what was kept.
    crashed.open(async |store| create(store, &dev(), "on").await);
    crashed.verified();
    assert_eq!(crashed.count("audit_checkpoint"), lines_of(&crashed.at(".checkpoints")).len());
}

#[test]
fn a_change_of_keys_is_sealed_and_the_old_key_still_vouches_for_it() {
    let lab = Lab::new(1);
    let old = std::fs::read_to_string(lab.open(async |store| {
        create_groups(store, 2).await;
        lab.at(".key")
    }))
    .unwrap();
    lab.open(async |store| {
        record_change(store).await;
        create_groups(store, 2).await;
        assert_eq!(lab.seal(store, LATER).await, Some((1, 5)));
    });
    lab.open(async |store| create(store, &dev(), "on").await);
    let trusted = lab.folder.path().join("trusted");
    std::fs::write(&trusted, old).unwrap();
    let (is_good, told) = told(&Ask { keys: Keys::Named(trusted), ..lab.ask() });
    assert!(is_good, "{told}");
}

/// Opens a store whose writer does not run, and is gone as soon as the segment is whole: killed before the rows go.
fn killed_when_the_file_is_whole(lab: &Lab, before: Timestamp) -> String {
    let earlier = lab.files();
    run(async {
        let (store, _writer) = lab.store().await;
        let is_whole = async {
            loop {
                let made = lab.files().into_iter().find(|name| !earlier.contains(name));
                match made {
                    Some(name) if name.ends_with(".ndjson") => break name,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::select! {
            sealed = store.seal(ORIGIN, before) => panic!("it cannot end without the writer: {sealed:?}"),
            name = is_whole => name,
        }
    })
}

#[test]
fn a_stop_between_the_file_and_the_rows_loses_nothing_and_is_made_up_for() {
    let lab = Lab::with_groups(5, 20);
    let whole = lab.verified();
    let name = killed_when_the_file_is_whole(&lab, LATER);
    assert_eq!(lab.verified(), whole, "the file is passed over while the records are in the database");
    lab.open(async |store| assert!(lab.seal(store, LATER).await.is_some()));
    assert_eq!(lab.files(), [name]);
    assert!(lab.verified().contains("records      1\u{2013}22 (22)"));
}

#[test]
fn a_segment_that_a_stop_left_gives_way_to_one_that_holds_its_records_and_to_no_other() {
    let lab = Lab::new(2);
    lab.open(async |store| {
        for nth in 1..=10 {
            lab.clock.set(day(nth));
            create(store, &dev(), "web").await;
        }
    });
    // The times at which a sealing was cut short, and how far the next one goes.
    for (cut_at, sealed_up_to) in [(4, 8), (8, 4), (4, 4)] {
        let lab = copied(&lab);
        let left = killed_when_the_file_is_whole(&lab, day(cut_at));
        std::fs::write(segments(&lab.database()).join("half.ndjson.unfinished"), "half").unwrap();
        lab.open(async |store| assert!(lab.seal(store, day(sealed_up_to)).await.is_some()));
        lab.verified();
        assert_eq!(lab.files().contains(&left), sealed_up_to <= cut_at, "{:?}", lab.files());
        lab.open(async |store| assert!(lab.seal(store, LATER).await.is_some()));
        let told = lab.verified();
        assert!(!told.contains("warning"), "{told}");
        assert_eq!(lab.files().len(), 2, "{cut_at} {sealed_up_to}: {:?}", lab.files());
    }

    // One that ends at the same place and holds other records is not ours to remove.
    let lab = copied(&lab);
    let other = Lab::with_groups(2, 3);
    let name = killed_when_the_file_is_whole(&other, LATER);
    std::fs::create_dir(segments(&lab.database())).unwrap();
    let strange = segments(&lab.database()).join(&name);
    std::fs::copy(segments(&other.database()).join(&name), &strange).unwrap();
    lab.open(async |store| assert!(lab.seal(store, LATER).await.is_some()));
    assert!(strange.exists());
}

#[test]
fn a_segment_that_is_missing_or_changed_anywhere_is_told() {
    let lab = Lab::with_groups(5, 12);
    lab.open(async |store| {
        assert!(lab.seal(store, LATER).await.is_some());
        create_groups(store, 6).await;
        assert!(lab.seal(store, LATER).await.is_some());
    });
    lab.verified();
    let name = lab.files().remove(0);
    let file = segments(&lab.database()).join(&name);
    let good = std::fs::read(&file).unwrap();
    // Somewhere in each line, and all over its first and last one.
    let ends = good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let ends: Vec<usize> = ends.collect();
    let places = (0..ends[0]).chain(ends[ends.len() - 2]..good.len()).step_by(5).chain(ends.iter().copied());
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(&file, bad).unwrap();
        let (is_good, told) = told(&lab.ask());
        assert!(!is_good, "the change at {place} was not found: {told}");
    }
    for bad in [&good[..good.len() - 1], &good[..good.len() / 2], b"", &[&good[..], b"\n"].concat()] {
        std::fs::write(&file, bad).unwrap();
        let (is_good, told) = told(&lab.ask());
        assert!(!is_good && told.contains(&name), "{told}");
    }
    // A checkpoint taken out of it, which the tree does not show.
    let text = String::from_utf8(good.clone()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let taken = lines.iter().position(|line| line.starts_with(r#"{"checkpoint":"#)).unwrap();
    let taken = lines.remove(taken);
    let mut last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    last["checkpoints"] = (last["checkpoints"].as_u64().unwrap() - 1).into();
    last["checkpoint_bytes"] = (last["checkpoint_bytes"].as_u64().unwrap() - taken.len() as u64 - 1).into();
    *lines.last_mut().unwrap() = format!(
        r#"{{"last":{},"hashes":{},"checkpoints":{},"checkpoint_bytes":{}}}"#,
        last["last"], last["hashes"], last["checkpoints"], last["checkpoint_bytes"]
    );
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let (is_good, said) = told(&lab.ask());
    assert!(!is_good, "{said}");
    assert!(said.contains(&name) && said.contains("it is not the file that record 14 tells of"), "{said}");

    std::fs::remove_file(&file).unwrap();
    let error = verify(&lab.ask(), &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, AuditError::NotWhole { first: 1, .. }), "{error}");
    let stateless = Ask { log: Which::Database { database: lab.database(), state: false }, ..lab.ask() };
    let (_, said) = told(&stateless);
    assert!(said.starts_with("warning: records 1\u{2013}"), "{said}");
    std::fs::write(&file, &good).unwrap();
    lab.verified();
}

#[test]
fn an_older_copy_put_back_after_a_pruning_is_doubted_and_nothing_of_it_is_sealed() {
    let lab = Lab::with_groups(5, 12);
    let older = copied(&lab);
    lab.open(async |store| assert!(lab.seal(store, LATER).await.is_some()));
    let files = lab.files();
    std::fs::copy(older.database(), lab.database()).unwrap();
    lab.open(async |store| {
        let refused = store.purge_expired(ORIGIN, LATER).await;
        assert_eq!(refused, Ok(()), "with nothing to purge there is nothing to write");
        let denied = store.apply(
            permit(&dev(), Action::CreateServerGroup),
            command::Command::CreateGroup {
                project_id: dev().project_id().unwrap(),
                name: GroupName::try_from("web".to_owned()).unwrap(),
                placement_rule: PlacementRule::AntiAffinity,
                created_by: dev().user.user_id,
            },
        );
        assert_eq!(denied.await, Err(StoreError::Unavailable(Unavailable::LogInDoubt)));
        assert_eq!(store.seal(ORIGIN, LATER).await.unwrap(), None);
    });
    assert_eq!(lab.files(), files);
    assert_eq!(lab.count("audit_record"), older.count("audit_record"));
}

#[test]
fn records_that_are_not_those_that_were_signed_are_not_sealed() {
    let lab = Lab::with_groups(5, 12);
    let conn = Connection::open(lab.database()).unwrap();
    let sql = "drop trigger audit_record_is_never_updated;
               update audit_record set bytes = cast(replace(cast(bytes as text), 'group-2', 'group-X') as blob);";
    conn.execute_batch(sql).unwrap();
    drop(conn);
    lab.open(async |store| {
        lab.published().await;
        let error = store.seal(ORIGIN, LATER).await.unwrap_err();
        assert!(matches!(error, SealError::NotAsSigned { first: 1, last: 11 }), "{error}");
    });
    assert_eq!(lab.files(), Vec::<String>::new());
    assert_eq!(lab.count("audit_record"), 13);
}

#[test]
fn an_answer_that_is_kept_for_its_key_comes_again_after_its_record_was_sealed() {
    let lab = Lab::new(1);
    let who = dev();
    let once =
        Once { digest: SecretDigest::from_bytes([1; 32]), body_digest: SecretDigest::from_bytes([2; 32]) };
    let asked = async |store: &Store| {
        let command = command::Command::CreateGroup {
            project_id: who.project_id().unwrap(),
            name: GroupName::try_from("web".to_owned()).unwrap(),
            placement_rule: PlacementRule::AntiAffinity,
            created_by: who.user.user_id,
        };
        let done = store.apply_once(permit(&who, Action::CreateServerGroup), command, Some(once)).await;
        match done.unwrap() {
            Change::GroupCreated { group, .. } => group.group_id,
            other => panic!("{other:?}"),
        }
    };
    lab.open(async |store| {
        let made = asked(store).await;
        create_groups(store, 2).await;
        assert!(lab.seal(store, LATER).await.is_some());
        let before = lab.count("audit_record");
        assert_eq!(asked(store).await, made);
        assert_eq!(lab.count("audit_record"), before, "nothing is done or recorded again");
    });
    lab.verified();
}

#[test]
fn the_listing_of_traces_has_what_was_kept_and_a_kept_one_is_found_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::start_in(folder, |_| {});
    (0..3).for_each(|nth| drop(app.client.create(&format!("old-{nth}"))));
    let folder = app.stop();
    let database = folder.path().join(DATABASE);
    let old = all_records(&database);
    let app = TestApp::start_at(day(3), folder, |settings| settings.audit.retention_days = 1);
    wait_until_sealed(&database, old.last().unwrap()["seq"].as_u64().unwrap());
    app.client.create("new");
    let list = |query: &str| {
        let answer = app.client.get(&format!("/v3/{PROJECT_ID}/traces?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["traces"].as_array().unwrap().clone()
    };
    let names =
        |traces: &[Value]| traces.iter().map(|trace| trace["resource_name"].clone()).collect::<Vec<_>>();
    let everything = list("from=0&to=281474976710655");
    assert_eq!(names(&everything), ["new"]);
    assert_eq!(list(&format!("trace_id={}", everything[0]["trace_id"].as_str().unwrap())), everything);
    for record in &old {
        assert_eq!(list(&format!("trace_id={}", record["trace_id"].as_str().unwrap())), [] as [Value; 0]);
    }
    // The groups themselves are all there.
    assert_eq!(app.client.list_ids().len(), 4);
    let refused = app.client.post_json(&groups_path(), &create_body(""));
    assert_eq!(refused.status, 400);
}

#[test]
fn a_full_database_is_sealed_and_has_room_again() {
    let mut lab = Lab::new(10);
    lab.size_bytes_max = 400_000;
    lab.open(async |store| {
        let who = dev();
        let fill = async || loop {
            let command = command::Command::CreateGroup {
                project_id: who.project_id().unwrap(),
                name: GroupName::try_from("n".repeat(255)).unwrap(),
                placement_rule: PlacementRule::AntiAffinity,
                created_by: who.user.user_id,
            };
            match store.apply(permit(&who, Action::CreateServerGroup), command).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(fill().await, StoreError::Unavailable(Unavailable::DiskFull));
        assert!(lab.seal(store, LATER).await.is_some());
        create_groups(store, 10).await;
    });
    lab.verified();
}

/// Runs a service on a small disk of its own, on which a database was put and little is left free.
const ON_A_SMALL_DISK: &str = "mount -t tmpfs -o size=6m tmpfs \"$0\" && cp -r \"$1\"/. \"$0\" && \
    free=$(df --output=avail -B1 \"$0\" | tail -n 1) && \
    head -c $((free - 500000)) /dev/zero > \"$0/ballast\" && shift && exec \"$@\"";

#[test]
fn a_full_disk_while_a_segment_is_written_loses_nothing() {
    let lab = Lab::with_groups(1_000, 1_500);
    let before = all_records(&lab.database());
    let folder = tempfile::tempdir().unwrap();
    let (disk, log) = (folder.path().join("disk"), folder.path().join("log"));
    std::fs::create_dir(&disk).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK]);
    command.arg(&disk).arg(lab.folder.path());
    command.arg(env!("CARGO_BIN_EXE_ecs-groupd")).args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
    command.arg("--database").arg(disk.join(DATABASE)).env("ECS_GROUPD__AUDIT__RETENTION_DAYS", "1");
    command.env("ECS_GROUPD__LOG__FORMAT", "json").stderr(File::create(&log).unwrap());
    let process = Process::spawn(command, folder.path());
    let said = || std::fs::read_to_string(&log).unwrap();
    while !said().contains("no records were sealed, and none deleted") {
        assert!(!said().contains("records were sealed\""), "there was room: {}", said());
        std::thread::yield_now();
    }
    assert!(said().contains("No space left on device"), "{}", said());
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.id(), disk.display()));
    assert_eq!(files_in(&inside.join(DATABASE)), Vec::<String>::new(), "what was begun is not in the way");
    process.client.create("while it is full");

    let copy = Lab::new(1_000);
    std::fs::remove_file(inside.join("ballast")).unwrap();
    copy_folder(&inside, copy.folder.path());
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(all_records(&copy.database())[..before.len()], before);
    copy.clock.set(LATER);
    copy.open(async |store| assert!(copy.seal(store, LATER).await.is_some()));
    copy.verified();
}
