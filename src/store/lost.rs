//! What stands behind a hole in the log, when the log goes on from in front of it: in a file beside the database.
//!
//! Invariant: a record is deleted only when the file that holds it is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base16ct::lower;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::OpenError;
use super::backup;
use super::sqlite::log;
use super::sqlite::open::{beside, give_to_owner_of, sync_folder_of};
use crate::audit::verify::Row;

/// How many records are read at a time.
const PAGE_RECORDS: u32 = 1_000;
/// The file while it is being written.
const UNFINISHED: &str = ".lost.unfinished";

/// What was put aside.
#[derive(Debug)]
pub(super) struct Lost {
    /// The file.
    pub(super) file: PathBuf,
    /// Its SHA-256, in hex.
    pub(super) sha256: String,
}

/// A row as it was, whatever stands in it.
#[derive(Serialize)]
struct Line<'row> {
    seq: i64,
    project_id: Option<String>,
    group_id: Option<String>,
    record_time: i64,
    leaf: String,
    /// The bytes, when they are text.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'row str>,
    /// Else in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl<'row> Line<'row> {
    fn of(row: &Row<'row>) -> Self {
        let record = std::str::from_utf8(row.bytes).ok();
        Self {
            seq: row.seq,
            project_id: row.project_id.map(lower::encode_string),
            group_id: row.group_id.map(lower::encode_string),
            record_time: row.record_time,
            leaf: lower::encode_string(row.leaf),
            record,
            bytes: record.is_none().then(|| lower::encode_string(row.bytes)),
        }
    }
}

/// Writes the records behind the place `size` to `<database>.lost-<n>.ndjson`, and comes back when they are on the disk.
/// One that a try before wrote, and that is the same, is not written twice.
pub(super) async fn put_aside(
    conn: &mut SqliteConnection,
    database: &Path,
    size: u64,
) -> Result<Lost, OpenError> {
    let unfinished = beside(database, UNFINISHED);
    let io = |source| OpenError::Io { path: unfinished.clone(), source };
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    give_to_owner_of(database, &made).map_err(io)?;
    let mut out = BufWriter::new(made);
    let mut first = size.saturating_add(1).cast_signed();
    loop {
        let (mut count, mut written) = (0, Ok(()));
        log::records(conn, first, PAGE_RECORDS, |row| {
            count += 1;
            first = row.seq.saturating_add(1);
            written = serde_json::to_writer(&mut out, &Line::of(&row))
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"));
            written.is_ok()
        })
        .await
        .map_err(OpenError::Damaged)?;
        written.map_err(io)?;
        if count < PAGE_RECORDS {
            break;
        }
    }
    let made: File = out.into_inner().map_err(|error| io(error.into_error()))?;
    made.sync_all().map_err(io)?;
    let sha256 = backup::digest(&unfinished).map_err(io)?;
    let file = name(database, &unfinished, &sha256).map_err(io)?;
    sync_folder_of(&file).map_err(io)?;
    Ok(Lost { file, sha256 })
}

/// Gives the file the first name that is free.
fn name(database: &Path, unfinished: &Path, sha256: &str) -> io::Result<PathBuf> {
    for nth in 1_u64.. {
        let file = beside(database, &format!(".lost-{nth}.ndjson"));
        // Unlike a rename, a link takes no other file's place.
        match fs::hard_link(unfinished, &file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&file)?.is_file() || backup::digest(&file)? != sha256 {
                    continue;
                }
            }
            Err(error) => return Err(error),
        }
        fs::remove_file(unfinished)?;
        return Ok(file);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
