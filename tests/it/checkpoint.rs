//! What the log was, signed from time to time: when, where it is put, and with which key.
//!
//! (`audit_loss.rs` has what a start makes of it.)

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ecs_groupd::access::policy;
use ecs_groupd::access::principal::Origin;
use ecs_groupd::audit::checkpoint::Checkpoint;
use ecs_groupd::audit::note::SigningKey;
use ecs_groupd::clock::Clock;
use ecs_groupd::domain::command::Command as Change;
use ecs_groupd::domain::id::RequestId;
use ecs_groupd::domain::rules::Limits;
use ecs_groupd::store::{CheckpointRules, Options, Store};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;

use crate::harness::{self, NOW, Process, TestApp, all_records, store_options};

pub const DATABASE: &str = "ecs-groupd.db";
pub const NEVER: Duration = Duration::from_hours(1);

/// What stands beside a database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// The checkpoints in a file of them.
pub fn lines_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line at its end");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sizes that checkpoints are of, whoever signed them.
pub fn sizes(notes: &[String]) -> Vec<u64> {
    notes.iter().map(|note| note.lines().nth(1).unwrap().parse().unwrap()).collect()
}

/// The checkpoints in a database.
fn rows_of(database: &Path) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(database, flags).unwrap();
    let mut select = conn.prepare("select size, note from audit_checkpoint order by checkpoint_id").unwrap();
    let rows = select.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(i64, String)> = rows.map(Result::unwrap).collect();
    for (size, note) in &rows {
        assert_eq!(sizes(std::slice::from_ref(note)), [size.cast_unsigned()]);
    }
    rows.into_iter().map(|(_, note)| note).collect()
}

/// The key beside a database.
fn key_of(database: &Path) -> SigningKey {
    std::fs::read_to_string(beside(database, ".key")).unwrap().trim().parse().unwrap()
}

/// The root of the tree over the first records, by somebody else's tree.
fn root(database: &Path, size: u64) -> Vec<u8> {
    let conn = rusqlite::Connection::open(database).unwrap();
    let mut select = conn.prepare("select bytes from audit_record where seq <= ? order by seq").unwrap();
    let rows = select.query_map([size.cast_signed()], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    rows.for_each(|bytes| tree.push(bytes.unwrap()));
    assert_eq!(tree.len(), size);
    tree.root().as_bytes().to_vec()
}

/// Checks that the same checkpoints stand in the database and beside it, that its key signed them, that they ascend,
/// and that each tells of the records that there are. Returns their sizes.
pub fn check_checkpoints(database: &Path) -> Vec<u64> {
    let notes = rows_of(database);
    assert_eq!(lines_of(&beside(database, ".checkpoints")), notes, "inside and outside are the same");
    let keys = [key_of(database).verifying_key()];
    let checkpoints = notes.iter().map(|note| Checkpoint::open(note, &keys).unwrap().0);
    let found: Vec<u64> = checkpoints
        .map(|checkpoint| {
            assert_eq!(checkpoint.root.to_vec(), root(database, checkpoint.size), "{checkpoint}");
            checkpoint.size
        })
        .collect();
    assert!(found.is_sorted_by(|before, after| before < after), "none without something new: {found:?}");
    found
}

fn serve_command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--database", DATABASE]);
    command.envs(settings.iter().copied()).stderr(Stdio::null());
    command
}

fn serve(folder: &Path, settings: &[(&str, &str)]) -> Process {
    Process::spawn(serve_command(settings), folder)
}

/// Runs a start that must fail to its end.
fn refused(folder: &Path, settings: &[(&str, &str)]) -> Output {
    let mut command = serve_command(settings);
    // Should it start, it stops at once.
    command.arg("--exit-with-parent").stdin(Stdio::null()).stderr(Stdio::piped()).current_dir(folder);
    command.output().unwrap()
}

#[track_caller]
fn assert_refused(folder: &Path, settings: &[(&str, &str)], parts: &[&str]) {
    let refused = refused(folder, settings);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// A store of a folder, with its writer beside, which records two refusals of a caller in a minute.
pub async fn with_store<T>(
    folder: &TempDir,
    checkpoints: CheckpointRules,
    work: impl AsyncFnOnce(&Arc<Store>) -> T,
) -> T {
    let options = Options {
        database: folder.path().join(DATABASE),
        checkpoint_every: NEVER,
        limits: Limits { groups_per_project: 1_000, members_per_group: 16 },
        refusals_per_minute: Some(2),
        checkpoints,
        ..store_options()
    };
    Box::pin(harness::with_store(options, Clock::fixed(NOW), work)).await
}

/// One more record, which is answered after its commit.
async fn append(store: &Store) {
    let origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "test" };
    store.apply(policy::permit_reset(origin), Change::ResetDatabase).await.unwrap();
}

/// Lets the writer and its thread work until there are so many checkpoints.
async fn signed(folder: &TempDir, count: usize) -> Vec<u64> {
    loop {
        let notes = rows_of(&folder.path().join(DATABASE));
        if notes.len() >= count {
            return sizes(&notes);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_log_is_signed_after_so_many_records_and_when_it_is_closed_and_not_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let rules = CheckpointRules { records: 5, every: NEVER };
    with_store(&folder, rules, async |store| {
        assert_eq!(sizes(&rows_of(&database)), [1], "the record that names the key");
        for nth in 2..=17 {
            append(store).await;
            let expected: &[u64] = match nth {
                ..6 => &[1],
                6..11 => &[1, 6],
                11..16 => &[1, 6, 11],
                _ => &[1, 6, 11, 16],
            };
            assert_eq!(sizes(&rows_of(&database)), expected, "with {nth} records");
        }
    })
    .await;
    assert_eq!(check_checkpoints(&database), [1, 6, 11, 16, 17]);
    // With nothing new, there is nothing to sign.
    with_store(&folder, rules, async |_| {}).await;
    assert_eq!(check_checkpoints(&database), [1, 6, 11, 16, 17]);
}

#[tokio::test]
async fn a_batch_of_more_records_than_that_is_signed_once_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    with_store(&folder, CheckpointRules { records: 5, every: NEVER }, async |store| {
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..23 {
            let store = Arc::clone(store);
            waiting.spawn(async move { append(&store).await });
        }
        waiting.join_all().await;
    })
    .await;
    // The first is taken as soon as it is there; how the others are divided is not said.
    let sizes = check_checkpoints(&database);
    assert_eq!(sizes.last(), Some(&24));
    assert!(sizes.len() <= 2 + 24 / 5, "{sizes:?}");
}

#[tokio::test]
async fn what_is_new_is_signed_after_a_while_and_what_is_not_new_never_again() {
    let soon = CheckpointRules { records: u64::MAX, every: Duration::from_millis(5) };
    let (idle, busy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_store(&idle, soon, async |store| {
        append(store).await;
        assert_eq!(signed(&idle, 2).await, [1, 2]);
        // While another one, with the same rules, signs ten times by the clock, this one has nothing to sign.
        with_store(&busy, soon, async |store| {
            for nth in 2..12 {
                append(store).await;
                let expected: Vec<u64> = (1..=nth).collect();
                assert_eq!(signed(&busy, expected.len()).await, expected);
            }
        })
        .await;
        assert_eq!(sizes(&rows_of(&idle.path().join(DATABASE))), [1, 2]);
        append(store).await;
        assert_eq!(signed(&idle, 3).await, [1, 2, 3]);
    })
    .await;
    assert_eq!(check_checkpoints(&idle.path().join(DATABASE)), [1, 2, 3]);
    assert_eq!(check_checkpoints(&busy.path().join(DATABASE)), (1..=11).collect::<Vec<_>>());
}

#[test]
fn row_line_and_log_line_are_one_note_and_the_settings_say_when() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let settings =
        [("ECS_GROUPD__AUDIT__CHECKPOINT_RECORDS", "4"), ("ECS_GROUPD__AUDIT__CHECKPOINT_EVERY_S", "3600")];
    let mut command = serve_command(&settings);
    command.stderr(File::create(folder.path().join("log")).unwrap());
    let process = Process::spawn(command, folder.path());
    for nth in 0..10 {
        process.client.create(&format!("group-{nth}"));
    }
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(check_checkpoints(&database), [1, 5, 9, 13], "the stop's record is the 13th");
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let told: Vec<String> = log
        .lines()
        .filter_map(|line| {
            Some(serde_json::from_str::<Value>(line).unwrap()["checkpoint"].as_str()?.to_owned())
        })
        .collect();
    assert_eq!(told, rows_of(&database));
}

#[test]
fn a_log_that_has_something_new_is_signed_within_the_seconds_of_the_setting() {
    let app = TestApp::start_with(|settings| settings.audit.checkpoint_every_s = 1);
    app.client.create("web");
    let size = all_records(&app.database()).len() as u64;
    while sizes(&lines_of(&beside(&app.database(), ".checkpoints"))).last() != Some(&size) {
        std::thread::yield_now();
    }
    check_checkpoints(&app.database());
}

#[test]
fn the_key_is_made_at_the_first_start_for_its_owner_alone_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let key = || std::fs::read(beside(&database, ".key")).unwrap();
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
    let made = key();
    assert_eq!(std::fs::metadata(beside(&database, ".key")).unwrap().permissions().mode() & 0o7777, 0o600);
    let process = serve(folder.path(), &[]);
    process.client.create("web");
    process.kill();
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
    assert_eq!(key(), made);
    check_checkpoints(&database);
    let public = key_of(&database).verifying_key().to_string();
    let records = all_records(&database);
    let named: Vec<_> =
        records.iter().filter(|record| record["action"] == "ecs-groupd:audit:changeKey").collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0]["asked"]["new"], public);
    let other = tempfile::tempdir().unwrap();
    assert_eq!(serve(other.path(), &[]).terminate(), Some(0));
    let others = key_of(&other.path().join(DATABASE)).verifying_key();
    assert_ne!(others.name(), key_of(&database).verifying_key().name(), "each log has a name of its own");
}

#[test]
fn a_key_that_others_may_read_or_that_is_none_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join(format!("{DATABASE}.key"));
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
    let made = std::fs::read(&key).unwrap();
    for mode in [0o604, 0o640, 0o620, 0o610, 0o601] {
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        assert_refused(folder.path(), &[], &["ecs-groupd.db.key may be read by others", "chmod 600"]);
    }
    std::fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let mut damaged = made.clone();
    damaged[made.len() / 2] ^= 1;
    for (what, bytes) in [("empty", &b""[..]), ("torn", &made[..made.len() / 2]), ("damaged", &damaged)] {
        std::fs::write(&key, bytes).unwrap();
        assert_refused(folder.path(), &[], &["ecs-groupd.db.key holds no checkpoint key"]);
        assert_eq!(std::fs::read(&key).unwrap(), bytes, "{what}");
    }
    // Not to be read as text at all.
    std::fs::write(&key, [0xff, 0xfe]).unwrap();
    assert_refused(folder.path(), &[], &["ecs-groupd.db.key"]);
    std::fs::write(&key, &made).unwrap();
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
}

#[test]
fn the_key_may_be_elsewhere_and_where_systemd_puts_it_its_modes_are_systemds() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let key = credentials.join("audit.key");
    let setting = ("ECS_GROUPD__AUDIT__KEY", key.to_str().unwrap());
    assert_eq!(serve(folder.path(), &[setting]).terminate(), Some(0));
    assert!(!beside(&database, ".key").exists());
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    std::fs::set_permissions(&key, Permissions::from_mode(0o444)).unwrap();
    assert_refused(folder.path(), &[setting], &["audit.key may be read by others"]);
    let given = ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    assert_eq!(serve(folder.path(), &[setting, given]).terminate(), Some(0));
    // It is missed where it was, not where it would be without the setting.
    std::fs::remove_file(&key).unwrap();
    assert_refused(folder.path(), &[setting], &["audit.key", "--accept-audit-loss"]);
    assert_refused(folder.path(), &[], &["ecs-groupd.db.key", "--accept-audit-loss"]);
}

#[test]
fn a_file_that_cannot_be_written_holds_nothing_up_is_told_once_and_is_caught_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let file = beside(&database, ".checkpoints");
    let settings =
        [("ECS_GROUPD__AUDIT__CHECKPOINT_RECORDS", "1"), ("ECS_GROUPD__AUDIT__CHECKPOINT_EVERY_S", "1")];
    let log = folder.path().join("log");
    let mut command = serve_command(&settings);
    command.stderr(File::create(&log).unwrap());
    let process = Process::spawn(command, folder.path());
    // The start's checkpoint is put into the file after it is committed.
    let newest = all_records(&database).len() as u64;
    while sizes(&lines_of(&file)).last() != Some(&newest) {
        std::thread::yield_now();
    }
    let aside = beside(&database, ".aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let before = rows_of(&database).len();
    // Until it has failed for longer than a checkpoint may take.
    let told = loop {
        process.client.create("web");
        let ready = process.client.get("/readyz");
        assert_eq!((ready.status, &ready.json()["status"]), (200, &"ready".into()), "{}", ready.text);
        if let Some(reason) = ready.json()["reason"].as_str() {
            break reason.to_owned();
        }
    };
    assert!(told.contains("ecs-groupd.db.checkpoints cannot be written"), "{told}");
    assert_eq!(rows_of(&database).len(), before + 1, "no other before this one is outside");
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("a checkpoint was not written, and waits").count(), 1, "{said}");
    assert!(said.contains("ecs-groupd.db.checkpoints"), "{said}");

    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    let size = all_records(&database).len() as u64;
    while sizes(&lines_of(&file)).last() != Some(&size) {
        std::thread::yield_now();
    }
    check_checkpoints(&database);
    let ready = process.client.get("/readyz");
    assert_eq!((ready.status, &ready.json()["reason"]), (200, &Value::Null), "{}", ready.text);
    assert_eq!(process.terminate(), Some(0));
    check_checkpoints(&database);
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("checkpoints are written again").count(), 1, "{said}");
    assert_eq!(said.matches("a checkpoint was not written, and waits").count(), 1, "{said}");
}

#[test]
fn a_stop_while_the_file_cannot_be_written_is_made_up_for_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let file = beside(&database, ".checkpoints");
    let process = serve(folder.path(), &[]);
    let aside = beside(&database, ".aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    assert_refused(folder.path(), &[], &["cannot open", "ecs-groupd.db.checkpoints"]);
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    let process = serve(folder.path(), &[]);
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
    check_checkpoints(&database);
}

#[test]
fn a_torn_last_line_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(DATABASE);
    let file = beside(&database, ".checkpoints");
    assert_eq!(serve(folder.path(), &[]).terminate(), Some(0));
    for torn in ["\"ecs-groupd/", "\"", "\"a whole one, but for its end\""] {
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{torn}")).unwrap();
        let process = serve(folder.path(), &[]);
        assert_eq!(process.client.get("/readyz").status, 200);
        assert_eq!(process.terminate(), Some(0));
        assert!(std::fs::read_to_string(&file).unwrap().starts_with(&whole));
        check_checkpoints(&database);
    }
}
