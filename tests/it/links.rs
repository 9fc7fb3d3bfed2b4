//! Whoever may write in the database's folder can put a link where the service, or root, writes: nothing is written
//! through it, and nothing of somebody else's is given away.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::checkpoint::DATABASE;
use crate::harness::Process;

/// A database that a service left, and a file that is nobody's to write.
fn left() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &["--database", DATABASE]);
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "precious\n").unwrap();
    (folder, precious)
}

fn reset(folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["reset", "--yes", "--database", DATABASE]).current_dir(folder).output().unwrap()
}

fn assert_untouched(precious: &Path, what: &str) {
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious\n", "{what}");
}

#[test]
fn a_lock_or_a_file_of_checkpoints_that_is_a_link_is_refused_and_what_it_leads_to_is_left() {
    for ending in [".lock", ".checkpoints"] {
        for is_hard in [false, true] {
            let (folder, precious) = left();
            let owner = std::fs::metadata(&precious).unwrap().uid();
            let path = folder.path().join(format!("{DATABASE}{ending}"));
            std::fs::remove_file(&path).unwrap();
            if is_hard {
                std::fs::hard_link(&precious, &path).unwrap();
            } else {
                symlink(&precious, &path).unwrap();
            }
            let refused = reset(folder.path());
            assert_eq!(refused.status.code(), Some(1), "{ending}: {refused:?}");
            assert_untouched(&precious, ending);
            assert_eq!(std::fs::metadata(&precious).unwrap().uid(), owner);
        }
    }
}

#[test]
fn a_lock_that_leads_nowhere_makes_no_file_there() {
    let (folder, precious) = left();
    let lock = folder.path().join(format!("{DATABASE}.lock"));
    std::fs::remove_file(&lock).unwrap();
    let nowhere = folder.path().join("nowhere");
    symlink(&nowhere, &lock).unwrap();
    let refused = reset(folder.path());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("ecs-groupd.db.lock") && said.contains("it is a link"), "{said}");
    assert!(!nowhere.exists());
    assert_untouched(&precious, "the lock");
}

#[test]
fn links_where_a_new_key_is_made_are_replaced_and_not_followed() {
    let (folder, precious) = left();
    let unfinished = folder.path().join(format!("{DATABASE}.key.new.tmp"));
    symlink(&precious, &unfinished).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["audit", "rotate-key", "--database", DATABASE]).current_dir(folder.path());
    let rotated = command.output().unwrap();
    assert_eq!(rotated.status.code(), Some(0), "{rotated:?}");
    assert_untouched(&precious, "the key");
    let key = folder.path().join(format!("{DATABASE}.key"));
    assert!(std::fs::symlink_metadata(key).unwrap().is_file());
}
