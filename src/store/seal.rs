//! Retention: old records are moved into a sealed file of their own, and only then deleted.
//!
//! Invariant: a record is deleted only when a file on the disk holds it, and that file ends at a checkpoint.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::sqlite::audit::{self, StoredCheckpoint};
use super::sqlite::open::{beside, give_to_owner_of};
use super::sqlite::trace;
use super::trace::first_place;
use super::{Store, StoreError};
use crate::access::policy;
use crate::access::principal::Origin;
use crate::audit::segment::SegmentWriter;
use crate::audit::tree::{self, Edge};
use crate::domain::command::Command;
use crate::domain::session::SecretDigest;
use crate::domain::time::Timestamp;

/// The most records of one segment, unless there is no checkpoint among so many: deleting them holds up the writer.
const SEGMENT_RECORDS_MAX: u64 = 20_000;
/// How many records are read at a time.
const PAGE_RECORDS: u64 = 1_000;

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

impl Store {
    /// Seals one segment of records that are older than `before`, as far as a checkpoint vouches for them; `None` when
    /// there is none. The newest record always stays.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn seal(&self, origin: Origin, before: Timestamp) -> Result<Option<Sealed>, SealError> {
        let found = self.read(async |conn| {
            let log = trace::range_of_log(conn).await?;
            let old = first_place(conn, log, |time| time >= before).await?.min(log.last);
            let start = audit::sealed_edge(conn).await?;
            let last = old.saturating_sub(1);
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
        let name = format!("{first:020}-{last:020}.ndjson");
        let file = folder.join(&name);
        let digest = self.write_segment(&folder, &file, start, end).await?;
        let command = Command::SealSegment { first, last, file: name, digest };
        self.apply(policy::permit_sealing(origin), command).await?;
        Ok(Some(Sealed { first, last, file }))
    }

    /// Writes the file, and comes back with its digest when it is on the disk.
    async fn write_segment(
        &self,
        folder: &Path,
        file: &Path,
        start: Edge,
        end: StoredCheckpoint,
    ) -> Result<SecretDigest, SealError> {
        let (first, last) = (start.size() + 1, end.size);
        let io = |source| SealError::Io { file: file.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        give_to_owner_of(&self.database, folder).map_err(io)?;
        let unfinished = beside(file, ".unfinished");
        let out =
            Digesting { out: BufWriter::new(File::create(&unfinished).map_err(io)?), digest: Sha256::new() };
        let origin = end.note.lines().next().unwrap_or_default();
        let mut segment = SegmentWriter::begin(out, origin, start).map_err(io)?;
        while segment.edge().size() < last {
            let after = segment.edge().size();
            let up_to = last.min(after + PAGE_RECORDS);
            let page = self.read(async |conn| audit::bytes_between(conn, after, up_to).await).await?;
            for bytes in &page {
                segment.push(bytes, tree::leaf(bytes)).map_err(io)?;
            }
            if page.is_empty() {
                break;
            }
        }
        if *segment.edge() != end.edge {
            return Err(SealError::NotAsSigned { first, last });
        }
        let notes = self.read(async |conn| audit::notes_between(conn, first, last).await).await?;
        let Digesting { out, digest } = segment.finish(notes).map_err(io)?;
        let written = out.into_inner().map_err(|error| io(error.into_error()))?;
        written.sync_all().map_err(io)?;
        give_to_owner_of(&self.database, &unfinished).map_err(io)?;
        fs::rename(&unfinished, file).map_err(io)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(SecretDigest::from_bytes(digest.finalize().into()))
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
