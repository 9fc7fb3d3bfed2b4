//! `ecs-groupd backup` and `restore`: a copy beside a running service, put back while there is none.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Process, all_records, group_path};

const DATABASE: &str = "ecs-groupd.db";

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ecs-groupd")).args(arguments).current_dir(folder).output().unwrap()
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn serve(folder: &Path) -> Process {
    Process::serve(folder, &["--database", DATABASE])
}

fn actions(folder: &Path) -> Vec<String> {
    let all = all_records(&folder.join(DATABASE));
    all.iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
}

/// A backup of one group, and a database that has another one and not that one.
fn with_backup() -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path());
    let kept = process.client.create("kept");
    done(folder.path(), &["backup", "copy.db"]);
    let late = process.client.create("late");
    assert_eq!(process.client.delete(&group_path(&kept)).status, 204);
    assert_eq!(process.terminate(), Some(0));
    (folder, kept, late)
}

#[test]
fn a_backup_beside_a_running_service_is_whole_and_for_its_owner_alone() {
    let (folder, kept, _) = with_backup();
    let copy = folder.path().join("copy.db");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let told = done(
        folder.path(),
        &["audit", "verify", "--state", "--database", "copy.db", "--key", "ecs-groupd.db.key"],
    );
    assert!(
        told.contains("groups, members and registered ECSs are those that the records lead to"),
        "{told}"
    );
    let last = all_records(&copy).pop().unwrap();
    assert_eq!(last["resource"]["id"], Value::from(kept));
    let before = std::fs::read(&copy).unwrap();
    let said = refused(folder.path(), &["backup", "copy.db"], 1);
    assert!(said.contains("copy.db"), "{said}");
    assert_eq!(std::fs::read(&copy).unwrap(), before, "nothing is written over");
    refused(folder.path(), &["backup", "no/where.db"], 1);
    refused(folder.path(), &["backup", "other.db", "--database", "none.db"], 1);
    assert!(!folder.path().join("other.db").exists());
}

#[test]
fn what_is_restored_is_as_it_was_and_the_log_tells_of_it_and_of_what_is_lost() {
    let (folder, kept, late) = with_backup();
    let before = actions(folder.path());
    let told = done(folder.path(), &["restore", "copy.db", "--yes"]);
    assert!(told.ends_with("copy.db is in the place of ecs-groupd.db\n"), "{told}");
    let process = serve(folder.path());
    assert_eq!(process.client.list_ids(), [kept]);
    assert_eq!(process.client.get(&group_path(&late)).status, 404);
    process.client.create("new");
    assert_eq!(process.terminate(), Some(0));
    let records = all_records(&folder.path().join(DATABASE));
    let restores: Vec<&Value> =
        records.iter().filter(|record| record["action"] == "ecs-groupd:database:restore").collect();
    assert_eq!(restores.len(), 1);
    assert_eq!(restores[0]["actor"]["type"], "operator");
    assert_eq!(restores[0]["asked"]["sha256"].as_str().unwrap().len(), 64);
    let accepted = records.iter().find(|record| record["action"] == "ecs-groupd:audit:acceptLoss").unwrap();
    assert_eq!(accepted["asked"]["expected_size"], before.len() as u64);
    done(folder.path(), &["audit", "verify", "--state"]);
    // What was replaced is there, and whole.
    let replaced = all_records(&folder.path().join("ecs-groupd.db.replaced"));
    assert_eq!(replaced.len(), before.len());
    let said = refused(folder.path(), &["restore", "copy.db", "--yes"], 1);
    assert!(said.contains("ecs-groupd.db.replaced is there from a restore before: move it away"), "{said}");
}

#[test]
fn a_database_that_is_gone_or_ruined_is_replaced_too() {
    for is_gone in [true, false] {
        let (folder, kept, _) = with_backup();
        let database = folder.path().join(DATABASE);
        if is_gone {
            std::fs::remove_file(&database).unwrap();
        } else {
            let mut bytes = std::fs::read(&database).unwrap();
            bytes[4_096..].fill(0xff);
            std::fs::write(&database, bytes).unwrap();
        }
        done(folder.path(), &["restore", "copy.db", "--yes"]);
        let process = serve(folder.path());
        assert_eq!(process.client.list_ids(), [kept]);
        assert_eq!(process.terminate(), Some(0));
    }
}

#[test]
fn nothing_is_restored_while_a_service_runs_without_a_yes_or_from_what_does_not_verify() {
    let (folder, _, late) = with_backup();
    let at = folder.path();
    let before = actions(at);
    let said = refused(at, &["restore", "copy.db"], 2);
    assert!(said.contains("say --yes") && said.contains("ecs-groupd.db.replaced"), "{said}");
    refused(at, &["restore", "none.db", "--yes"], 1);
    std::fs::write(at.join("text.db"), "no database at all, but long enough to be one, if it were one")
        .unwrap();
    refused(at, &["restore", "text.db", "--yes"], 5);
    std::fs::copy(at.join("copy.db"), at.join("changed.db")).unwrap();
    let changed = rusqlite::Connection::open(at.join("changed.db")).unwrap();
    changed.execute_batch("update audit_edge set size = 1").unwrap();
    drop(changed);
    refused(at, &["restore", "changed.db", "--yes"], 6);
    assert_eq!(actions(at), before);

    let process = serve(at);
    let said = refused(at, &["restore", "copy.db", "--yes"], 4);
    assert!(said.contains("ecs-groupd.db"), "{said}");
    assert_eq!(process.client.list_ids(), [late]);
    assert_eq!(process.terminate(), Some(0));
    assert!(!at.join("ecs-groupd.db.replaced").exists());
}
