//! Whether the log is the one that was left: its edge against the newest checkpoint outside the database.

use std::io;

use sqlx::SqliteConnection;

use super::notary::Signed;
use crate::audit::checkpoint::{Checkpoint, key_before};
use crate::audit::note::{SigningKey, VerifyingKey};
use crate::store::checkpoint_file::CheckpointFile;
use crate::store::seal;
use crate::store::sqlite::audit::{self, Grown, Head, Mark, StoredCheckpoint};
use crate::store::sqlite::log;
use crate::store::{OpenError, Options, StoreError};

impl StoredCheckpoint {
    /// As the notary knows it.
    pub(super) fn signed(&self) -> Signed {
        Signed { size: self.size, note: self.note.clone() }
    }
}

/// The key that the log says it is signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// The record that says so, and the key.
    pub(super) key: Option<(u64, String)>,
    /// The database keeps no key, though there is one.
    is_forgotten: bool,
}

impl Named {
    /// What the database keeps; without any, what the records tell.
    pub(super) async fn read(conn: &mut SqliteConnection, options: &Options) -> Result<Self, OpenError> {
        let kept = audit::newest_key(conn).await.map_err(OpenError::Damaged)?;
        if kept.is_some() {
            return Ok(Self { key: kept, is_forgotten: false });
        }
        let key = newest_key(&marks(conn, options).await?);
        Ok(Self { is_forgotten: key.is_some(), key })
    }

    pub(super) fn public(&self) -> Option<&str> {
        self.key.as_ref().map(|(_, key)| &**key)
    }
}

/// The newest key among marks.
pub(super) fn newest_key(marks: &[Mark]) -> Option<(u64, String)> {
    marks.iter().rev().find_map(|mark| match mark {
        Mark::Key { key, seq } => Some((*seq, key.clone())),
        Mark::Reset { .. } | Mark::Schema { .. } => None,
    })
}

/// The marks that the records tell of, those in sealed segments first.
pub(super) async fn marks(conn: &mut SqliteConnection, options: &Options) -> Result<Vec<Mark>, OpenError> {
    let sealed = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?.size();
    let mut marks = if sealed > 0 { seal::marks_of_segments(&options.database, sealed) } else { Vec::new() };
    marks.extend(audit::marks_of_records(conn).await.map_err(OpenError::Damaged)?);
    Ok(marks)
}

/// The log as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its end; of one that is in doubt, the end of what is whole.
    pub(super) head: Head,
    /// The newest checkpoint, if this key signed it.
    pub(super) newest: Option<Signed>,
    /// The checkpoints that the file outside does not have: one, when a crash kept it from the file, and more, when
    /// the file is an older copy.
    pub(super) unpublished: Vec<String>,
    /// Why it is not taken for the log that was left.
    pub(super) doubt: Option<Doubt>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) reason: String,
    /// How many records there should be at the least.
    pub(super) expected_size: u64,
    /// Something stands behind the beginning that is whole.
    pub(super) has_rest: bool,
}

impl Doubt {
    fn new(reason: impl Into<String>, expected_size: u64) -> Self {
        Self { reason: reason.into(), expected_size, has_rest: false }
    }
}

/// Looks at the log, and says what it is, and what is wrong with it.
pub(super) async fn look(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
    named: &Named,
) -> Result<Found, OpenError> {
    let (head, mut doubt) = match audit::head(conn).await {
        Ok(head) => (head, None),
        Err(StoreError::Corrupt { key, .. }) => {
            let Grown { head, .. } = audit::whole_beginning(conn).await.map_err(OpenError::Damaged)?;
            let size = head.edge.size();
            (head, Some(Doubt::new(format!("the records and the tree's edge do not fit: {key}"), size)))
        }
        Err(error) => return Err(OpenError::Damaged(error)),
    };
    let newest = audit::newest_checkpoints(conn).await.map_err(OpenError::Damaged)?;
    let own = [key.verifying_key()];
    let by_this_key = newest.first().filter(|newest| Checkpoint::open(&newest.note, &own).is_ok());
    let by_this_key = by_this_key.map(StoredCheckpoint::signed);
    let io = |source: io::Error| OpenError::Io { path: file.path().to_owned(), source };
    let sealed = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    let is_signed = named.key.is_some() || !newest.is_empty() || sealed.size() > 0;
    if !is_signed && file.newest().map_err(io)?.is_none() {
        // From now on its absence tells something.
        file.append(&[]).map_err(io)?;
    }
    let mut unpublished = Vec::new();
    let size = head.edge.size();
    match compare(conn, file, key, named, &head, &newest).await? {
        Ok(_) if named.key.is_none() && is_signed => {
            doubt = Some(Doubt::new("it was signed, and names no key that it is signed with", size));
        }
        // A key is named and first signs with in one transaction.
        Ok(_) if is_signed && newest.is_empty() => {
            let reason = "it names the key that it is signed with, and no checkpoint is left";
            doubt = Some(Doubt::new(reason, size));
        }
        Ok(_) if named.is_forgotten => {
            let reason = "its records name the key that it is signed with, and its table of keys is empty";
            doubt = Some(Doubt::new(reason, size));
        }
        Ok(notes) => unpublished = notes,
        Err(other) => {
            let expected_size = doubt.map_or(0, |doubt: Doubt| doubt.expected_size).max(other.expected_size);
            doubt = Some(Doubt { expected_size, ..other });
        }
    }
    let Some(doubt) = doubt else {
        return Ok(Found { head, newest: by_this_key, unpublished, doubt: None });
    };
    let (head, doubt) = look_closely(conn, doubt).await?;
    // A log that is gone on with is signed anew at once, at whatever size.
    Ok(Found { head, newest: None, unpublished: Vec::new(), doubt: Some(doubt) })
}

/// The end of what is whole of a log that is in doubt, and what is wrong behind it.
async fn look_closely(conn: &mut SqliteConnection, doubt: Doubt) -> Result<(Head, Doubt), OpenError> {
    let Grown { head, fault } = audit::whole_beginning(conn).await.map_err(OpenError::Damaged)?;
    let Some(fault) = fault else { return Ok((head, doubt)) };
    let last = log::newest_seq(conn).await.map_err(OpenError::Damaged)?;
    let expected_size = doubt.expected_size.max(u64::try_from(last).unwrap_or_default());
    let Doubt { reason, .. } = doubt;
    let reason = if reason == fault { reason } else { format!("{reason}; {fault}") };
    Ok((head, Doubt { reason, expected_size, has_rest: true }))
}

/// The log against what is outside; says which checkpoints are not there yet.
async fn compare(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
    named: &Named,
    head: &Head,
    newest: &[StoredCheckpoint],
) -> Result<Result<Vec<String>, Doubt>, OpenError> {
    let (path, size) = (file.path().display(), head.edge.size());
    let inside_size = newest.first().map_or(0, |checkpoint| checkpoint.size);
    let own = key.verifying_key();
    if let Some(named) = named.public().filter(|named| *named != own.to_string()) {
        let reason = format!("it is signed with the key {named}, and the key file holds {own}");
        return Ok(Err(Doubt::new(reason, size)));
    }
    let io = |source| OpenError::Io { path: file.path().to_owned(), source };
    if !file.path().exists() {
        let reason = format!("{path} is missing, which holds the checkpoints outside the database");
        return Ok(Err(Doubt::new(reason, size.max(inside_size))));
    }
    // A crash between a commit and the file keeps one checkpoint from it, and never more.
    let (since, behind) = match (file.newest().map_err(io)?, newest) {
        (None, []) => return Ok(Ok(Vec::new())),
        (None, [only]) => (None, vec![only.clone()]),
        (Some(outside), [inside, ..]) if inside.note == outside => (Some(inside.clone()), Vec::new()),
        (Some(outside), [inside, before, ..]) if before.note == outside => {
            (Some(before.clone()), vec![inside.clone()])
        }
        (None, _) => {
            let reason = format!("{path} is empty, and held the checkpoints");
            return Ok(Err(Doubt::new(reason, size.max(inside_size))));
        }
        (Some(outside), _) => match last_in_common(conn, file).await? {
            Some(since) => {
                let id = since.checkpoint_id;
                let behind = audit::checkpoints_behind(conn, id).await.map_err(OpenError::Damaged)?;
                (Some(since), behind)
            }
            None => return Ok(Err(other_than(conn, file, &outside, &own, named, size).await?)),
        },
    };
    // Of an older copy, the log has come further than one key.
    let keys_max = if behind.len() > 1 { usize::MAX } else { 2 };
    let keys = keys(conn, &own, named, keys_max).await?;
    let mut edge = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    for checkpoint in since.iter().chain(&behind) {
        let doubt = |reason: String| Ok(Err(Doubt::new(reason, size.max(checkpoint.size))));
        let told = match Checkpoint::open(&checkpoint.note, &keys) {
            Ok((told, _)) => told,
            Err(error) => return doubt(format!("its checkpoint of {} records {error}", checkpoint.size)),
        };
        if told.size > size {
            return Ok(Err(shorter(told.size, size)));
        }
        if since.as_ref().is_some_and(|since| since.checkpoint_id == checkpoint.checkpoint_id) {
            edge = checkpoint.edge.clone();
        } else {
            let grown = audit::grow(conn, edge, told.size).await.map_err(OpenError::Damaged)?;
            if let Some(fault) = grown.fault {
                return doubt(fault);
            }
            edge = grown.head.edge;
        }
        if (edge.size(), edge.root()) != (told.size, told.root) {
            return doubt(different(told.size));
        }
    }
    let grown = audit::grow(conn, edge, size).await.map_err(OpenError::Damaged)?;
    let reason = match grown.fault {
        Some(fault) => fault,
        None if grown.head.edge == head.edge => {
            return Ok(Ok(behind.into_iter().map(|checkpoint| checkpoint.note).collect()));
        }
        None if inside_size == size => different(size),
        None => {
            format!("its tree is not what its checkpoint of {inside_size} records and the records since make")
        }
    };
    Ok(Err(Doubt::new(reason, size)))
}

/// The last checkpoint of a file that is an older copy: what stands in it is what the database begins with.
async fn last_in_common(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
) -> Result<Option<StoredCheckpoint>, OpenError> {
    const PAGE_NOTES: usize = 1_000;
    let io = |source| OpenError::Io { path: file.path().to_owned(), source };
    let (mut last, mut outside) = (0, file.notes().map_err(io)?);
    loop {
        let page: Vec<String> = outside.by_ref().take(PAGE_NOTES).collect::<Result<_, _>>().map_err(io)?;
        if page.is_empty() {
            return audit::checkpoint(conn, last).await.map_err(OpenError::Damaged);
        }
        let limit = u32::try_from(page.len()).unwrap_or(u32::MAX);
        let inside = audit::notes_behind(conn, last, limit).await.map_err(OpenError::Damaged)?;
        let is_same = inside.len() == page.len()
            && inside.iter().zip(&page).all(|((_, inside), outside)| inside == outside);
        let (true, Some((id, _))) = (is_same, inside.last()) else { return Ok(None) };
        last = *id;
    }
}

/// What is wrong, when the newest checkpoint outside is none of those inside, or not all in front of it are.
async fn other_than(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    outside: &str,
    own: &VerifyingKey,
    named: &Named,
    size: u64,
) -> Result<Doubt, OpenError> {
    let path = file.path().display();
    let keys = keys(conn, own, named, 2).await?;
    let told = match Checkpoint::open(outside, &keys) {
        Ok((told, _)) if told.size > size => return Ok(shorter(told.size, size)),
        Ok((told, _)) => told,
        Err(error) => return Ok(Doubt::new(format!("the newest checkpoint in {path} {error}"), size)),
    };
    let sealed = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    let Grown { head: Head { edge, .. }, fault } =
        audit::grow(conn, sealed, told.size).await.map_err(OpenError::Damaged)?;
    let reason = if let Some(fault) = fault {
        fault
    } else if edge.size() > told.size || edge.root() == told.root {
        let told = told.size;
        format!(
            "{path} ends with a checkpoint of {told} records, and what is in it is not what the database begins with"
        )
    } else {
        different(told.size)
    };
    Ok(Doubt::new(reason, size))
}

fn shorter(told: u64, size: u64) -> Doubt {
    let reason = format!("it has {size} records, and its newest checkpoint tells of {told}");
    Doubt::new(reason, told)
}

fn different(told: u64) -> String {
    format!("its first {told} records are not those that its checkpoint tells of")
}

/// The keys that a checkpoint may be signed by: this one, and those before it, as long as both signed the change.
async fn keys(
    conn: &mut SqliteConnection,
    own: &VerifyingKey,
    named: &Named,
    keys_max: usize,
) -> Result<Vec<VerifyingKey>, OpenError> {
    let mut keys = vec![own.clone()];
    let mut seqs = audit::key_seqs(conn).await.map_err(OpenError::Damaged)?;
    if seqs.is_empty() {
        seqs.extend(named.key.as_ref().map(|(seq, _)| *seq));
    }
    while keys.len() < keys_max
        && let Some(seq) = seqs.pop()
    {
        let bytes = audit::bytes_between(conn, seq - 1, seq).await.map_err(OpenError::Damaged)?;
        let before = bytes.first().zip(keys.last()).and_then(|(bytes, new)| key_before(bytes, new));
        let Some(before) = before else { break };
        keys.push(before);
    }
    Ok(keys)
}
