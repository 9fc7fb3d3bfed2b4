//! Retention: old records are moved into a sealed file of their own, and only then deleted.
//!
//! Invariant: a record is deleted only when a file on the disk holds it, and that file ends at a checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use sqlx::SqliteConnection;

use super::checkpoint_file::CheckpointFile;
use super::sqlite::audit::{self, Mark, StoredCheckpoint};
use super::sqlite::open::{beside, give_to_owner_of, sync_folder_of};
use super::sqlite::trace;
use super::trace::first_place;
use super::{Store, StoreError};
use crate::access::policy;
use crate::access::principal::Origin;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::VerifyingKey;
use crate::audit::segment::{self, SegmentReader, SegmentWriter};
use crate::audit::tree::{self, Edge};
use crate::domain::command::Command;
use crate::domain::session::SecretDigest;
use crate::domain::time::Timestamp;

/// The most records of one segment, unless there is no checkpoint among so many: deleting them holds up the writer.
const SEGMENT_RECORDS_MAX: u64 = 20_000;
/// How many records are read at a time.
const PAGE_RECORDS: u64 = 1_000;
/// What the name of a segment ends with, and that of one that is being written.
const WHOLE: &str = ".ndjson";
const UNFINISHED: &str = ".unfinished";

/// A segment that was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its first record.
    pub first: u64,
    /// Its last record.
    pub last: u64,
    /// Its file.
    pub file: PathBuf,
}

/// Why no segment was sealed. Nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file was not written.
    #[error("cannot write {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The records are not those that were signed.
    #[error(
        "the records {first} to {last} are not those that their checkpoint tells of: `ecs-groupd audit verify` says more"
    )]
    NotAsSigned {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

/// The folder of sealed segments beside a database.
#[must_use]
pub fn segments(database: &Path) -> PathBuf {
    beside(database, ".segments")
}

/// The marks that the records in the segments beside a database tell of, up to the record `last`. What cannot be read
/// tells of none.
pub(super) fn marks_of_segments(database: &Path, last: u64) -> Vec<Mark> {
    let Ok(entries) = fs::read_dir(segments(database)) else { return Vec::new() };
    let is_whole = |path: &PathBuf| path.to_string_lossy().ends_with(WHOLE);
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_whole).collect();
    files.sort();
    let mut marks = Vec::new();
    for file in files {
        let Ok(file) = File::open(file) else { continue };
        let Ok(mut segment) = SegmentReader::open(BufReader::new(file)) else { continue };
        while let Ok(Some(bytes)) = segment.next_record() {
            marks.extend(Mark::told(bytes).filter(|mark| mark.seq() <= last));
        }
    }
    marks
}

impl Store {
    /// Seals one segment of records that are older than `before`, as far as a checkpoint vouches for them that stands
    /// outside the database as well; `None` when there is none. The newest record always stays, and so does all of a
    /// log that is in doubt.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn seal(&self, origin: Origin, before: Timestamp) -> Result<Option<Sealed>, SealError> {
        if self.writer_failure.get().is_some() {
            return Ok(None);
        }
        let file = CheckpointFile::of(&self.database);
        let outside =
            file.newest().map_err(|source| SealError::Io { file: file.path().to_owned(), source })?;
        let Some(outside) = outside else { return Ok(None) };
        let found = self.read(async |conn| {
            let Some(covered) = covered(conn, &outside).await? else { return Ok(None) };
            let log = trace::range_of_log(conn).await?;
            let old = first_place(conn, log, |time| time >= before).await?.min(log.last);
            let start = audit::sealed_edge(conn).await?;
            let last = old.saturating_sub(1).min(covered);
            let most = last.min(start.size() + SEGMENT_RECORDS_MAX);
            let end = match audit::checkpoint_between(conn, start.size() + 1, most).await? {
                None => audit::first_checkpoint_between(conn, start.size() + 1, last).await?,
                newest => newest,
            };
            Ok(end.map(|end| (start, end)))
        });
        let Some((start, end)) = found.await? else { return Ok(None) };
        let (first, last) = (start.size() + 1, end.size);
        let folder = segments(&self.database);
        let name = format!("{first:020}-{last:020}{WHOLE}");
        let file = folder.join(&name);
        let digest = self.write_segment(&folder, &file, start, end).await?;
        let command = Command::SealSegment { first, last, file: name, digest };
        self.apply(policy::permit_sealing(origin), command).await?;
        Ok(Some(Sealed { first, last, file }))
    }

    /// Writes the file, and comes back with its digest when it is on the disk. A file that was not finished is gone.
    async fn write_segment(
        &self,
        folder: &Path,
        file: &Path,
        start: Edge,
        end: StoredCheckpoint,
    ) -> Result<SecretDigest, SealError> {
        let io = |source| SealError::Io { file: file.to_owned(), source };
        make_folder(&self.database, folder).map_err(io)?;
        let left = Left::of(folder, start.size() + 1, end.size).map_err(io)?;
        for unfinished in &left.unfinished {
            fs::remove_file(unfinished).map_err(io)?;
        }
        let unfinished = beside(file, UNFINISHED);
        let (digest, copies) = match self.write_unfinished(&unfinished, file, start, end, &left).await {
            Ok(written) => written,
            Err(error) => {
                // On a full disk it would only be in the way; if it stays, the next attempt removes it.
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        fs::rename(&unfinished, file).map_err(io)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        for copy in copies.iter().filter(|copy| **copy != file) {
            fs::remove_file(copy).map_err(io)?;
        }
        Ok(digest)
    }

    /// Writes all of it under another name, and says which of the segments that are left there it makes needless.
    async fn write_unfinished<'left>(
        &self,
        unfinished: &Path,
        file: &Path,
        start: Edge,
        end: StoredCheckpoint,
        left: &'left Left,
    ) -> Result<(SecretDigest, Vec<&'left Path>), SealError> {
        let (first, last) = (start.size() + 1, end.size);
        let io = |source| SealError::Io { file: file.to_owned(), source };
        let out = Digesting {
            out: BufWriter::new(File::create_new(unfinished).map_err(io)?),
            digest: Sha256::new(),
        };
        let origin = end.note.lines().next().unwrap_or_default();
        let mut segment = SegmentWriter::begin(out, origin, start).map_err(io)?;
        let mut copies = Vec::new();
        while segment.edge().size() < last {
            let after = segment.edge().size();
            let up_to = last.min(after + PAGE_RECORDS);
            let page = self.read(async |conn| audit::bytes_between(conn, after, up_to).await).await?;
            for bytes in &page {
                segment.push(bytes, tree::leaf(bytes)).map_err(io)?;
                // The same edge is over the same records.
                let copy = left.segments.iter().find(|(end, _)| end == segment.edge());
                copies.extend(copy.map(|(_, path)| &**path));
            }
            if page.is_empty() {
                break;
            }
        }
        let is_signed =
            Checkpoint::claimed(&end.note).is_some_and(|signed| signed.root == segment.edge().root());
        if *segment.edge() != end.edge || !is_signed {
            return Err(SealError::NotAsSigned { first, last });
        }
        let notes = self.read(async |conn| audit::notes_between(conn, first, last).await).await?;
        let Digesting { out, digest } = segment.finish(notes).map_err(io)?;
        let written = out.into_inner().map_err(|error| io(error.into_error()))?;
        give_to_owner_of(&self.database, &written).map_err(io)?;
        written.sync_all().map_err(io)?;
        Ok((SecretDigest::from_bytes(digest.finalize().into()), copies))
    }
}

/// Makes the folder of segments, if there is none; it is then in its own folder on the disk.
fn make_folder(database: &Path, folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let made =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(folder)?;
    give_to_owner_of(database, &made)?;
    // Also of one that is there: a kill may have come in between. Before anything is deleted that it holds.
    sync_folder_of(folder)
}

/// Up to which record the checkpoint `outside` vouches for the log: one of the newest two inside, by the key in force.
///
/// Of the newest two, as the start-up check looks at no others; by that key, as the record that put it in force is what
/// vouches for the one before.
async fn covered(conn: &mut SqliteConnection, outside: &str) -> Result<Option<u64>, StoreError> {
    let Some((_, key)) = audit::newest_key(conn).await? else { return Ok(None) };
    let key: VerifyingKey = key.parse().map_err(|error| StoreError::corrupt("audit_key", error))?;
    let newest = audit::newest_checkpoints(conn).await?;
    let same = newest.into_iter().find(|inside| inside.note == outside);
    let same = same.filter(|inside| Checkpoint::open(&inside.note, &[key]).is_ok());
    Ok(same.map(|inside| inside.size))
}

/// What a stop in the middle left in the folder of segments.
struct Left {
    unfinished: Vec<PathBuf>,
    /// Whole segments that end among the records to be sealed, each with its end.
    segments: Vec<(Edge, PathBuf)>,
}

impl Left {
    fn of(folder: &Path, first: u64, last: u64) -> io::Result<Self> {
        let mut left = Self { unfinished: Vec::new(), segments: Vec::new() };
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.ends_with(UNFINISHED.as_bytes()) {
                left.unfinished.push(path);
            } else if name.ends_with(WHOLE.as_bytes())
                && let Ok(end) = segment::read_trailer(&mut File::open(&path)?)
                && (first..=last).contains(&end.edge.size())
            {
                left.segments.push((end.edge, path));
            }
        }
        Ok(left)
    }
}

/// Writes, and digests what it writes.
struct Digesting<W> {
    out: W,
    digest: Sha256,
}

impl<W: io::Write> io::Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
