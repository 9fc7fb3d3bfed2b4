//! The sealed segments beside a database: which of the files there are those that the log tells of.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{AuditError, beside, open};
use crate::access::action::Action;
use crate::audit::event::{Event, Outcome};
use crate::audit::segment::{SegmentError, SegmentReader};
use crate::store::log::Log;

/// A file of the folder of segments, as its name tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Its first record.
    pub(super) first: u64,
    /// Its last record.
    pub(super) last: u64,
    pub(super) file: PathBuf,
}

impl Segment {
    fn name(&self) -> Option<&str> {
        self.file.file_name().and_then(OsStr::to_str)
    }

    fn has(&self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Its records, as long as `each` says; whatever it has that is none ends it, and is not told here.
    fn read(&self, mut each: impl FnMut(u64, &[u8]) -> bool) -> Result<(), AuditError> {
        let failed = |source| AuditError::File { file: self.file.clone(), source };
        let mut read = || {
            let mut reader = SegmentReader::open(BufReader::new(open(&self.file)?))?;
            let mut seq = reader.edge().size();
            while let Some(bytes) = reader.next_record()? {
                seq += 1;
                if !each(seq, bytes) {
                    break;
                }
            }
            Ok::<_, ReadError>(())
        };
        match read() {
            Err(ReadError::Audit(error)) => Err(error),
            Err(ReadError::Segment(SegmentError::Io(source))) => Err(failed(source)),
            Ok(()) | Err(ReadError::Segment(_)) => Ok(()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// What is in the folder of segments, in the log's order.
fn segments(database: &Path) -> Result<Vec<Segment>, AuditError> {
    let folder = beside(database, ".segments");
    let failed = |source| AuditError::File { file: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(".ndjson"));
        let numbers = name.and_then(|name| name.split_once('-'));
        if let Some((first, last)) = numbers
            && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
            && first <= last
        {
            segments.push(Segment { first, last, file });
        }
    }
    segments.sort();
    Ok(segments)
}

/// The segments up to record `up_to` in the log's order, no record twice. A stop in the middle of a sealing leaves files
/// with the same records: where there are such, those that the log names come first.
pub(super) async fn segments_up_to(
    log: &mut Log,
    database: &Path,
    up_to: u64,
) -> Result<Vec<Segment>, AuditError> {
    let mut segments = segments(database)?;
    // What is behind that was not sealed yet when the moment was taken.
    segments.retain(|segment| segment.last <= up_to);
    if segments.is_sorted_by(|segment, next| segment.last < next.first) {
        return Ok(segments);
    }
    let named = named(log, &segments).await?;
    let is_named = |segment: &Segment| segment.name().is_some_and(|name| named.contains(name));
    segments.sort_by_key(|segment| (!is_named(segment), segment.first, Reverse(segment.last)));
    let mut chosen: Vec<Segment> = Vec::new();
    for segment in segments {
        if !chosen.iter().any(|other| other.overlaps(&segment)) {
            chosen.push(segment);
        }
    }
    chosen.sort();
    Ok(chosen)
}

/// The names of the files that were sealed, as far as the records tell that are here: of each segment a record behind it
/// does, which may be in a later one.
async fn named(log: &mut Log, segments: &[Segment]) -> Result<BTreeSet<String>, AuditError> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    let part = format!(r#""action":"{}""#, Action::SealSegment.name());
    named.extend(log.records_with(&part).await?.iter().filter_map(|bytes| sealed_file(bytes)));
    // From the newest to the oldest.
    for segment in segments.iter().rev() {
        if segment.name().is_some_and(|name| named.contains(name)) {
            segment.read(|_, bytes| {
                named.extend(sealed_file(bytes));
                true
            })?;
        }
    }
    Ok(named)
}

/// The file that a record tells to be sealed.
fn sealed_file(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Asked {
        file: String,
    }
    let event = Event::parse(bytes).ok()?;
    let is_sealing = event.outcome == Outcome::Done && event.action == Action::SealSegment.name();
    let asked: Asked = serde_json::from_str(event.asked.get()).ok().filter(|_| is_sealing)?;
    Some(asked.file)
}

/// The files that have record `seq`, by their names.
pub(super) fn segments_with(database: &Path, seq: u64) -> Result<Vec<Segment>, AuditError> {
    let mut segments = segments(database)?;
    segments.retain(|segment| segment.has(seq));
    Ok(segments)
}

/// The bytes of a sealed record, if its segment is here.
pub(super) fn record(database: &Path, seq: u64) -> Result<Option<Vec<u8>>, AuditError> {
    let mut found = None;
    for segment in segments_with(database, seq)? {
        segment.read(|at, bytes| {
            if at == seq {
                found = Some(bytes.to_vec());
            }
            at < seq
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}
