//! Whether the log is the one that was left: its edge against the newest checkpoint outside the database.

use std::io;

use sqlx::SqliteConnection;

use super::notary::Signed;
use crate::access::action::Action;
use crate::audit::checkpoint::{Checkpoint, key_before};
use crate::audit::event::Event;
use crate::audit::note::{SigningKey, VerifyingKey};
use crate::audit::tree::{self, Edge};
use crate::store::checkpoint_file::CheckpointFile;
use crate::store::sqlite::audit::{self, Head, StoredCheckpoint};
use crate::store::{OpenError, StoreError};

impl StoredCheckpoint {
    /// As the notary knows it.
    pub(super) fn signed(&self) -> Signed {
        Signed { size: self.size, note: self.note.clone() }
    }
}

/// How many records are read at a time.
const PAGE_RECORDS: u64 = 1_000;

/// The log as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) head: Head,
    /// The newest checkpoint, if this key signed it.
    pub(super) newest: Option<Signed>,
    /// The newest checkpoints, which the file does not have: a crash kept the last one from it, or it is an older copy.
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
    /// Whether nothing can be written behind what is left.
    pub(super) is_ruin: bool,
}

impl Doubt {
    fn new(reason: impl Into<String>, expected_size: u64) -> Self {
        Self { reason: reason.into(), expected_size, is_ruin: false }
    }
}

/// Looks at the log, and says what it is, and what is wrong with it.
pub(super) async fn look(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
) -> Result<Found, OpenError> {
    let (head, hole, mut doubt) = match audit::head(conn).await {
        Ok(head) => (head, None, None),
        Err(StoreError::Corrupt { key, .. }) => {
            let (head, missing) = audit::head_of_records(conn).await.map_err(OpenError::Damaged)?;
            let size = head.edge.size();
            let do_not_fit = || format!("the records and the tree's edge do not fit: {key}");
            (head, missing, Some(Doubt::new(missing.map_or_else(do_not_fit, without), size)))
        }
        Err(error) => return Err(OpenError::Damaged(error)),
    };
    let newest = audit::newest_checkpoints(conn).await.map_err(OpenError::Damaged)?;
    let own = [key.verifying_key()];
    let by_this_key = newest.first().filter(|newest| Checkpoint::open(&newest.note, &own).is_ok());
    let by_this_key = by_this_key.map(StoredCheckpoint::signed);
    let io = |source: io::Error| OpenError::Io { path: file.path().to_owned(), source };
    let is_signed = audit::newest_key(conn).await.map_err(OpenError::Damaged)?.is_some();
    if !is_signed && newest.is_empty() && file.newest().map_err(io)?.is_none() {
        // From now on its absence tells something.
        file.append(&[]).map_err(io)?;
    }
    let mut unpublished = Vec::new();
    match compare(conn, file, key, &head, &newest).await? {
        Ok(_) if !is_signed && (!newest.is_empty() || names_key(conn, head.edge.size()).await?) => {
            let reason = "a record names the key that it is signed with, and the table of keys does not";
            doubt = Some(Doubt { is_ruin: true, ..Doubt::new(reason, head.edge.size()) });
        }
        // A key is named and first signs in one transaction.
        Ok(_) if is_signed && newest.is_empty() => {
            let reason = "it names the key that it is signed with, and no checkpoint is left".to_owned();
            doubt = Some(Doubt::new(reason, head.edge.size()));
        }
        Ok(notes) => unpublished = notes,
        Err(other) => {
            let expected_size = doubt.map_or(0, |doubt: Doubt| doubt.expected_size).max(other.expected_size);
            // What a hole makes of the rest says less than the hole.
            let reason = hole.map_or(other.reason, without);
            doubt = Some(Doubt { reason, expected_size, is_ruin: hole.is_some() });
        }
    }
    // A log that is gone on with is signed anew at once, at whatever size.
    let newest = by_this_key.filter(|_| doubt.is_none());
    Ok(Found { head, newest, unpublished, doubt })
}

/// Whether a record puts a key in force. Only a log that nobody signed yet is looked through for it.
async fn names_key(conn: &mut SqliteConnection, size: u64) -> Result<bool, OpenError> {
    let mut at = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?.size();
    while at < size {
        let up_to = size.min(at + PAGE_RECORDS);
        let page = audit::bytes_between(conn, at, up_to).await.map_err(OpenError::Damaged)?;
        let is_change = |bytes: &Vec<u8>| {
            let action = Event::parse(bytes).ok().and_then(|event| Action::named(&event.action));
            action == Some(Action::ChangeCheckpointKey)
        };
        if page.iter().any(is_change) {
            return Ok(true);
        }
        at = up_to;
    }
    Ok(false)
}

/// The log against what is outside; says which checkpoints are not there yet.
async fn compare(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
    head: &Head,
    newest: &[StoredCheckpoint],
) -> Result<Result<Vec<String>, Doubt>, OpenError> {
    let (path, size) = (file.path().display(), head.edge.size());
    let inside_size = newest.first().map_or(0, |checkpoint| checkpoint.size);
    let keys = match keys(conn, key).await? {
        Ok(keys) => keys,
        Err(reason) => return Ok(Err(Doubt::new(reason, size))),
    };
    let io = |source| OpenError::Io { path: file.path().to_owned(), source };
    if !file.path().exists() {
        let reason = format!("{path} is missing, which holds the checkpoints outside the database");
        return Ok(Err(Doubt::new(reason, size.max(inside_size))));
    }
    // A crash between a commit and the file keeps one checkpoint from it, and never more. That more are missing tells
    // of an older copy of the file, which the log need not be ashamed of as long as it reproduces what is there.
    let (since, unpublished) = match (file.newest().map_err(io)?, newest) {
        (None, []) => return Ok(Ok(Vec::new())),
        (None, [only]) => (None, vec![only.clone()]),
        (None, _) => {
            let reason = format!("{path} is empty, and held the checkpoints");
            return Ok(Err(Doubt::new(reason, size.max(inside_size))));
        }
        (Some(outside), _) => {
            let since = match newest.iter().find(|stored| stored.note == outside) {
                Some(since) => Some(since.clone()),
                None => audit::checkpoint_of(conn, &outside).await.map_err(OpenError::Damaged)?,
            };
            let Some(since) = since else {
                return Ok(Err(other_than(conn, file, &outside, &keys, size).await?));
            };
            let behind = audit::checkpoints_behind(conn, since.checkpoint_id).await;
            (Some(since), behind.map_err(OpenError::Damaged)?)
        }
    };
    if unpublished.len() > 1 {
        let (missing, file) = (unpublished.len(), file.path().display());
        tracing::warn!(missing, %file, "an older copy of the checkpoints: those that are missing are put there");
    }
    let mut edge = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    for checkpoint in since.iter().chain(&unpublished) {
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
            edge = grow(conn, edge, told.size).await?;
        }
        if (edge.size(), edge.root()) != (told.size, told.root) {
            return doubt(different(told.size));
        }
    }
    let edge = grow(conn, edge, size).await?;
    if edge != head.edge {
        let reason = if inside_size == size {
            different(size)
        } else {
            format!("its tree is not what its checkpoint of {inside_size} records and the records since make")
        };
        return Ok(Err(Doubt::new(reason, size)));
    }
    Ok(Ok(unpublished.into_iter().map(|checkpoint| checkpoint.note).collect()))
}

/// What is wrong, when the newest checkpoint outside is none of the newest inside.
async fn other_than(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    outside: &str,
    keys: &[VerifyingKey],
    size: u64,
) -> Result<Doubt, OpenError> {
    let path = file.path().display();
    let told = match Checkpoint::open(outside, keys) {
        Ok((told, _)) if told.size > size => return Ok(shorter(told.size, size)),
        Ok((told, _)) => told,
        Err(error) => return Ok(Doubt::new(format!("the newest checkpoint in {path} {error}"), size)),
    };
    let sealed = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    let edge = grow(conn, sealed, told.size).await?;
    let reason = if edge.size() > told.size || edge.root() == told.root {
        let told = told.size;
        format!("{path} ends with a checkpoint of {told} records, which the database does not have")
    } else {
        different(told.size)
    };
    Ok(Doubt::new(reason, size))
}

pub(super) fn without(missing: u64) -> String {
    format!("record {missing} is missing, and others stand behind it")
}

fn shorter(told: u64, size: u64) -> Doubt {
    let reason = format!("it has {size} records, and its newest checkpoint tells of {told}");
    Doubt::new(reason, told)
}

fn different(told: u64) -> String {
    format!("its first {told} records are not those that its checkpoint tells of")
}

/// The keys that the newest checkpoint may be signed by: this one, and the one before it, if both signed the change.
async fn keys(
    conn: &mut SqliteConnection,
    key: &SigningKey,
) -> Result<Result<Vec<VerifyingKey>, String>, OpenError> {
    let own = key.verifying_key();
    let Some((seq, named)) = audit::newest_key(conn).await.map_err(OpenError::Damaged)? else {
        return Ok(Ok(vec![own]));
    };
    if named != own.to_string() {
        return Ok(Err(format!("it is signed with the key {named}, and the key file holds {own}")));
    }
    let bytes = audit::bytes_between(conn, seq - 1, seq).await.map_err(OpenError::Damaged)?;
    let before = bytes.first().and_then(|bytes| key_before(bytes, &own));
    Ok(Ok(before.into_iter().chain([own]).collect()))
}

/// The edge after the records up to `size`, as far as there are any.
async fn grow(conn: &mut SqliteConnection, mut edge: Edge, size: u64) -> Result<Edge, OpenError> {
    while edge.size() < size {
        let up_to = size.min(edge.size() + PAGE_RECORDS);
        let page = audit::bytes_between(conn, edge.size(), up_to).await.map_err(OpenError::Damaged)?;
        if page.is_empty() {
            break;
        }
        for bytes in &page {
            edge.push(tree::leaf(bytes));
        }
    }
    Ok(edge)
}
