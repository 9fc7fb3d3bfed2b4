//! `ecs-groupd audit rotate-key`: another key signs from then on, the old one vouches for it, and a stop at any moment
//! leaves one of the two in force.

use std::fs::Permissions;
use std::future::pending;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use ecs_groupd::access::policy;
use ecs_groupd::access::principal::Origin;
use ecs_groupd::audit::checkpoint::{Checkpoint, key_change_text};
use ecs_groupd::audit::note::{self, SigningKey, VerifyingKey};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::Command as Change;
use ecs_groupd::domain::id::RequestId;
use ecs_groupd::meter::Meter;
use ecs_groupd::store::{self, CheckpointRules, KeyChange, Options, Store, StoreError};
use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoint::{DATABASE, NEVER, lines_of, sizes};
use crate::harness::{NOW, Process, all_records, store_options, with_store, write_secret};

const KEY_CHANGED: &str = "ecs-groupd:audit:changeKey";

/// A folder with a database in it, and what stands beside.
struct Place {
    folder: TempDir,
}

impl Place {
    /// A database that a service left, with a group in it.
    fn left() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.serve_once();
        place
    }

    fn at(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{DATABASE}{ending}"))
    }

    fn key(&self) -> SigningKey {
        std::fs::read_to_string(self.at(".key")).unwrap().trim().parse().unwrap()
    }

    fn public(&self) -> String {
        self.key().verifying_key().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// Rotates, and comes back with the new key's public half, as it was printed.
    #[track_caller]
    fn rotate(&self) -> String {
        let rotated = self.run(&ROTATE);
        assert_eq!(rotated.status.code(), Some(0), "{}", said(&rotated));
        String::from_utf8(rotated.stdout).unwrap().trim().to_owned()
    }

    /// A service starts, writes and stops.
    #[track_caller]
    fn serve_once(&self) {
        let process = Process::serve(self.folder.path(), &["--database", DATABASE]);
        process.client.create("web");
        assert_eq!(process.client.get("/readyz").status, 200);
        assert_eq!(process.terminate(), Some(0));
    }

    /// Verifies with these public keys and no others.
    fn verify(&self, trusted: &str) -> Output {
        std::fs::write(self.folder.path().join("trusted"), trusted).unwrap();
        self.run(&["audit", "verify", "--state", "--database", DATABASE, "--key", "trusted"])
    }

    /// Checks that the files as they are verify, for who trusts `before` and for who trusts the key that is there.
    #[track_caller]
    fn assert_verified(&self, before: &str) {
        let own = self.run(&["audit", "verify", "--state", "--database", DATABASE]);
        for verified in [own, self.verify(before)] {
            assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
        }
    }

    /// Checks that the service goes on with this key, and that who trusted `before` trusts what it signs.
    #[track_caller]
    fn assert_signs(&self, public: &str, before: &str) {
        self.serve_once();
        assert_eq!(self.public(), public);
        for gone in [".key.new", ".key.new.tmp"] {
            assert!(!self.at(gone).exists(), "{gone} was left");
        }
        let newest = lines_of(&self.at(".checkpoints")).pop().unwrap();
        Checkpoint::open(&newest, &[public.parse().unwrap()]).expect("the newest checkpoint is by that key");
        let verified = self.verify(before);
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
        let told = String::from_utf8(verified.stdout).unwrap();
        assert!(told.contains(&format!("signed by    {public}\n")), "{told}");
    }

    fn changes(&self) -> Vec<Value> {
        let records = all_records(&self.at(""));
        records.into_iter().filter(|record| record["action"] == KEY_CHANGED).collect()
    }
}

const ORIGIN: Origin = Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "cli" };
const ROTATE: [&str; 4] = ["audit", "rotate-key", "--database", DATABASE];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(arguments);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn options(database: &Path) -> Options {
    Options { database: database.to_owned(), ..store_options() }
}

/// Opens a store, does `work`, and is gone without a stop, as a process that is killed.
async fn killed_after<T>(database: &Path, work: impl AsyncFnOnce(&Store) -> T) -> T {
    let meter = Arc::new(Meter::default());
    let opened = store::open(options(database), Clock::fixed(NOW), Ids::seeded(7), meter).await.unwrap();
    let (store, writer) = opened;
    tokio::select! {
        ended = writer.run(pending()) => panic!("the writer ended by itself: {ended:?}"),
        done = work(&store) => done,
    }
}

/// The steps of a rotation up to the record, which the old key and the new one sign.
pub async fn record_change(store: &Store) -> KeyChange {
    let change = store.next_key().unwrap();
    let command = Change::ChangeCheckpointKey {
        old: Some(change.old.clone()),
        new: change.new.clone(),
        signed: Some(change.signed.clone()),
    };
    store.apply(policy::permit_key_change(ORIGIN), command).await.unwrap();
    change
}

#[test]
fn a_new_key_signs_from_then_on_and_who_trusts_the_old_one_trusts_it() {
    let place = Place::left();
    let first = place.public();
    let new = place.rotate();
    assert_eq!(place.public(), new);
    assert_ne!(new, first);
    assert_eq!(std::fs::metadata(place.at(".key")).unwrap().permissions().mode() & 0o7777, 0o600);
    let newest = lines_of(&place.at(".checkpoints")).pop().unwrap();
    Checkpoint::open(&newest, &[new.parse().unwrap()]).expect("it signs before the verb comes back");
    place.assert_signs(&new, &first);
    place.assert_signs(&new, &new);
    let origin = |public: &str| public.parse::<VerifyingKey>().unwrap().name().to_owned();
    assert_eq!(origin(&new), origin(&first), "it stays the same log");

    // A stranger's key, be it of the same name, is vouched for by nobody.
    let stranger = SigningKey::new(&origin(&first), [9; 32]).unwrap().verifying_key().to_string();
    assert_eq!(place.verify(&stranger).status.code(), Some(6));
}

#[test]
fn the_record_of_the_change_is_signed_by_both_keys() {
    let place = Place::left();
    let old = place.key().verifying_key();
    let new: VerifyingKey = place.rotate().parse().unwrap();
    let change = place.changes().pop().unwrap();
    assert_eq!(change["asked"]["old"], old.to_string());
    assert_eq!(change["asked"]["new"], new.to_string());
    let signed = change["asked"]["signed"].as_str().unwrap();
    for key in [&old, &new] {
        let (text, by) = note::open(signed, std::slice::from_ref(key)).unwrap();
        assert_eq!((text, by), (&*key_change_text(&old, &new), key));
    }
    let secret = std::fs::read_to_string(place.at(".key")).unwrap();
    assert!(!change.to_string().contains(secret.trim()), "the private half is in no record");
}

#[test]
fn key_after_key_is_trusted_from_the_first_one_on() {
    let place = Place::left();
    let first = place.public();
    for _ in 0..2 {
        // With nothing in between, and with a service in between.
        place.rotate();
        let new = place.rotate();
        place.assert_signs(&new, &first);
    }
    assert_eq!(place.changes().len(), 5, "the first key's record, and four rotations");
}

#[test]
fn while_a_service_holds_the_database_nothing_is_rotated() {
    let place = Place::left();
    let before = place.public();
    let process = Process::serve(place.folder.path(), &["--database", DATABASE]);
    let refused = place.run(&ROTATE);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("holds"), "{}", said(&refused));
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(place.changes().len(), 1);
    place.assert_signs(&before, &before);
}

#[test]
fn a_database_that_is_not_there_has_no_key_to_rotate() {
    let folder = tempfile::tempdir().unwrap();
    let refused = command(&ROTATE).current_dir(folder.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("there is no database at"), "{}", said(&refused));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_stop_while_the_new_key_is_written_leaves_the_old_one() {
    let place = Place::left();
    let before = place.public();
    write_secret(&place.at(".key.new.tmp"), "PRIVATE+KEY+ecs-gro");
    place.assert_signs(&before, &before);
    assert_eq!(place.changes().len(), 1);
}

#[tokio::test]
async fn a_stop_before_the_record_leaves_the_old_key() {
    let place = Place::left();
    let before = place.public();
    killed_after(&place.at(""), async |store| store.next_key().unwrap()).await;
    assert!(place.at(".key.new").exists());
    place.assert_verified(&before);
    place.assert_signs(&before, &before);
    assert_eq!(place.changes().len(), 1);
}

/// Records a change of keys, and is killed before the key is put in place; and before its checkpoint stands outside.
async fn killed_behind_the_record(place: &Place, is_published: bool) -> KeyChange {
    let old = std::fs::read_to_string(place.at(".key")).unwrap();
    let outside = std::fs::read(place.at(".checkpoints")).unwrap();
    let change = killed_after(&place.at(""), record_change).await;
    std::fs::rename(place.at(".key"), place.at(".key.new")).unwrap();
    write_secret(&place.at(".key"), &old);
    if !is_published {
        std::fs::write(place.at(".checkpoints"), outside).unwrap();
    }
    change
}

#[tokio::test]
async fn a_stop_behind_the_record_leaves_the_new_key() {
    for is_published in [true, false] {
        let place = Place::left();
        let before = place.public();
        let change = killed_behind_the_record(&place, is_published).await;
        assert_eq!(place.public(), before, "the file still holds the old one");
        place.assert_verified(&before);
        place.assert_signs(&change.new, &before);
    }
}

#[tokio::test]
async fn a_stop_when_the_key_is_in_place_leaves_the_new_key() {
    for is_published in [true, false] {
        let place = Place::left();
        let before = place.public();
        let change = killed_behind_the_record(&place, is_published).await;
        std::fs::rename(place.at(".key.new"), place.at(".key")).unwrap();
        place.assert_verified(&before);
        place.assert_signs(&change.new, &before);
    }
}

#[tokio::test]
async fn what_covers_the_record_of_the_change_is_signed_by_the_new_key_alone() {
    for records in [1, u64::MAX] {
        let place = Place::left();
        let checkpoints = CheckpointRules { records, every: NEVER };
        let mut before = lines_of(&place.at(".checkpoints")).len();
        for _ in 0..2 {
            let options = Options { checkpoints, ..options(&place.at("")) };
            let change =
                with_store(options, Clock::fixed(NOW), async |store| record_change(store).await).await;
            let seq = all_records(&place.at("")).len();
            let notes = lines_of(&place.at(".checkpoints"));
            assert_eq!(sizes(&notes[before..]), [seq as u64]);
            Checkpoint::open(&notes[before], &[change.new.parse().unwrap()]).expect("it is by the new key");
            assert_eq!(place.public(), change.new, "and that is in place");
            before = notes.len();
        }
    }
}

#[tokio::test]
async fn while_no_checkpoint_can_be_written_the_old_key_signs_nothing_behind_the_change() {
    let place = Place::left();
    let before = place.public();
    let (file, aside) = (place.at(".checkpoints"), place.at(".aside"));
    let checkpoints = CheckpointRules { records: 1, every: NEVER };
    let options = Options { checkpoints, ..options(&place.at("")) };
    let change = with_store(options, Clock::fixed(NOW), async |store| {
        std::fs::rename(&file, &aside).unwrap();
        std::fs::create_dir(&file).unwrap();
        store.apply(policy::permit_reset(ORIGIN), Change::ResetDatabase).await.unwrap();
        let change = record_change(store).await;
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(&aside, &file).unwrap();
        change
    })
    .await;
    place.assert_verified(&before);
    place.assert_signs(&change.new, &before);
}

#[tokio::test]
async fn a_change_to_a_key_that_nobody_has_is_not_recorded() {
    let place = Place::left();
    let before = place.public();
    with_store(options(&place.at("")), Clock::fixed(NOW), async |store| {
        let new = SigningKey::new("ecs-groupd/none", [9; 32]).unwrap().verifying_key().to_string();
        let command = Change::ChangeCheckpointKey { old: Some(place.public()), new, signed: None };
        let applied = store.apply(policy::permit_key_change(ORIGIN), command).await;
        assert!(matches!(applied, Err(StoreError::Database(_))), "{applied:?}");
    })
    .await;
    assert_eq!(place.changes().len(), 1);
    place.assert_signs(&before, &before);
}

#[test]
fn a_log_that_is_in_doubt_gets_no_other_key_and_the_reason_is_told() {
    let place = Place::left();
    let (file, aside) = (place.at(".checkpoints"), place.at(".aside"));
    std::fs::rename(&file, &aside).unwrap();
    for arguments in [&ROTATE[..], &["reset", "--yes", "--database", DATABASE]] {
        let refused = place.run(arguments);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let said = said(&refused);
        assert!(said.contains("ecs-groupd.db.checkpoints is missing"), "{said}");
        assert!(said.contains("--accept-audit-loss") && !said.contains("/readyz"), "{said}");
        assert!(!place.at(".key.new").exists(), "{arguments:?}");
    }
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(place.changes().len(), 1);
}

#[test]
fn a_change_that_certainly_was_not_recorded_leaves_no_next_key() {
    let place = Place::left();
    let before = place.public();
    let conn = rusqlite::Connection::open(place.at("")).unwrap();
    conn.execute_batch(
        "create trigger fault before insert on audit_record begin select raise(abort, 'no'); end",
    )
    .unwrap();
    let refused = place.run(&ROTATE);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(!place.at(".key.new").exists(), "{}", said(&refused));
    conn.execute_batch("drop trigger fault").unwrap();
    place.assert_signs(&before, &before);
}

#[tokio::test]
async fn one_stop_after_another_is_settled_like_one() {
    let place = Place::left();
    let before = place.public();
    killed_after(&place.at(""), record_change).await;
    // The next start settles the first change and is killed in the second one.
    let second = killed_after(&place.at(""), record_change).await;
    place.assert_signs(&second.new, &before);
    assert_eq!(place.changes().len(), 3);
}

#[tokio::test]
async fn the_next_rotation_settles_the_one_before_too() {
    let place = Place::left();
    let before = place.public();
    let first = killed_after(&place.at(""), record_change).await;
    let new = place.rotate();
    assert_eq!(place.changes().pop().unwrap()["asked"]["old"], first.new);
    place.assert_signs(&new, &before);
}

#[test]
fn killed_as_soon_as_there_is_a_next_key_it_is_one_key_or_the_other() {
    for _ in 0..5 {
        let place = Place::left();
        let before = place.public();
        let mut rotation =
            command(&ROTATE).current_dir(place.folder.path()).stdout(Stdio::null()).spawn().unwrap();
        while !place.at(".key.new").exists() && rotation.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        rotation.kill().unwrap();
        rotation.wait().unwrap();
        place.serve_once();
        let after = place.public();
        let named = place.changes().pop().unwrap()["asked"]["new"].clone();
        assert_eq!(named, after, "the log names the key that is in force");
        place.assert_signs(&after, &before);
    }
}

#[tokio::test]
async fn a_next_key_that_is_none_is_named_and_left() {
    let place = Place::left();
    write_secret(&place.at(".key.new"), "something else\n");
    let refused = place.run(&ROTATE);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("ecs-groupd.db.key.new holds no checkpoint key"), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(place.at(".key.new")).unwrap(), "something else\n");
}

#[test]
fn a_key_that_the_setting_names_is_rotated_and_trusted_where_it_is() {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    let credentials = place.folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let key = credentials.join("audit.key");
    let config = place.folder.path().join("settings.toml");
    std::fs::write(&config, format!("[audit]\nkey = {:?}\n", key.display().to_string())).unwrap();
    let with_config = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.args(["--database", DATABASE, "--config", "settings.toml"]).current_dir(place.folder.path());
        // As a unit with `LoadCredential` has it: the modes there are systemd's.
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        command
    };
    let serve = || {
        let mut command = with_config(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
        command.stderr(Stdio::null());
        let process = Process::spawn(command, place.folder.path());
        process.client.create("web");
        assert_eq!(process.terminate(), Some(0));
    };
    serve();
    std::fs::set_permissions(&key, Permissions::from_mode(0o444)).unwrap();
    let before = std::fs::read_to_string(&key).unwrap();
    let rotated = with_config(&["audit", "rotate-key"]).output().unwrap();
    assert_eq!(rotated.status.code(), Some(0), "{}", said(&rotated));
    assert_ne!(std::fs::read_to_string(&key).unwrap(), before);
    serve();
    assert!(!place.at(".key").exists());
    // Without --key, that is the key that is trusted.
    let verified = with_config(&["audit", "verify"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(said(&verified).contains(String::from_utf8(rotated.stdout).unwrap().trim()));
    let trace_id = all_records(&place.at(""))[0]["trace_id"].as_str().unwrap().to_owned();
    let proved = with_config(&["audit", "prove", &trace_id, "--output", "proof"]).output().unwrap();
    assert_eq!(proved.status.code(), Some(0), "{}", said(&proved));
    let checked = with_config(&["audit", "check-proof", "proof"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
}
