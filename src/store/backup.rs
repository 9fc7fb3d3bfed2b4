//! A copy of the database as of one moment, and one that is put in the database's place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base16ct::lower;
use sha2::{Digest as _, Sha256};

use super::OpenError;
use super::sqlite::open::{self, beside};

/// The backup on its way into the database's place.
const UNFINISHED: &str = ".restoring";
/// The database that it takes the place of.
const REPLACED: &str = ".replaced";

/// Writes the database as it is at this moment to a file that is not there yet, beside a running service or without
/// one.
///
/// # Errors
/// [`OpenError`]; then there is no such file.
pub async fn back_up(database: &Path, to: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: to.to_owned(), source };
    let folder = to.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // For its owner alone, as it holds what tokens hash to; SQLite fills a file that is empty.
    let made = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let mut conn = open::reading_connection(database).await?;
    let path = made.path().to_str().ok_or_else(|| io(io::ErrorKind::InvalidFilename.into()))?;
    let copied = sqlx::query("vacuum into ?").bind(path).execute(&mut conn).await;
    open::close(Some(conn)).await;
    copied?;
    made.as_file().sync_all().map_err(io)?;
    made.persist_noclobber(to).map_err(|error| io(error.error))?;
    open::sync_folder_of(to).map_err(io)
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// When it cannot be read.
pub fn digest(file: &Path) -> io::Result<String> {
    let (mut file, mut digest) = (BufReader::new(File::open(file)?), Sha256::new());
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(lower::encode_string(&digest.finalize()));
        }
        digest.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
}

/// Puts a backup in the database's place. The database that was there stays beside it, as `<database>.replaced`.
///
/// The caller holds the lock. At every moment one of the two is there, whole.
pub(super) async fn put_in_place(database: &Path, backup: &Path) -> Result<(), OpenError> {
    let of = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let (fresh, replaced) = (beside(database, UNFINISHED), beside(database, REPLACED));
    let is_there = database.try_exists().map_err(of(database))?;
    if is_there && replaced.try_exists().map_err(of(&replaced))? {
        return Err(OpenError::AlreadyReplaced { replaced });
    }
    copy(database, backup, &fresh).map_err(of(&fresh))?;
    if is_there {
        open::settle(database).await?;
        std::fs::hard_link(database, &replaced).map_err(of(&replaced))?;
        // Only of a database that could not be opened any more there is one still.
        put_aside(database, &replaced, "-wal").map_err(of(database))?;
        put_aside(database, &replaced, "-shm").map_err(of(database))?;
    }
    std::fs::rename(&fresh, database).map_err(of(database))?;
    open::sync_folder_of(database).map_err(of(database))
}

fn copy(database: &Path, backup: &Path, fresh: &Path) -> io::Result<()> {
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    io::copy(&mut File::open(backup)?, &mut to)?;
    open::give_to_owner_of(database, &to)?;
    to.sync_all()
}

fn put_aside(database: &Path, replaced: &Path, ending: &str) -> io::Result<()> {
    let (from, to): (PathBuf, PathBuf) = (beside(database, ending), beside(replaced, ending));
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
