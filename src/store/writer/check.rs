//! Whether the log is the one that was left: its edge against the newest checkpoint outside the database.

use std::io;

use sqlx::SqliteConnection;

use super::notary::Signed;
use crate::audit::checkpoint::{Checkpoint, key_change_text};
use crate::audit::event::Event;
use crate::audit::note::{self, SigningKey, VerifyingKey};
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
    /// The newest checkpoint, when a crash kept it from the file.
    pub(super) unpublished: Option<String>,
    /// Why it is not taken for the log that was left.
    pub(super) doubt: Option<Doubt>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) reason: String,
    /// How many records there should be at the least.
    pub(super) expected_size: u64,
}

impl Doubt {
    fn new(reason: impl Into<String>, expected_size: u64) -> Self {
        Self { reason: reason.into(), expected_size }
    }
}

/// Looks at the log, and says what it is, and what is wrong with it.
pub(super) async fn look(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
) -> Result<Found, OpenError> {
    let (head, mut doubt) = match audit::head(conn).await {
        Ok(head) => (head, None),
        Err(StoreError::Corrupt { key, .. }) => {
            let head = audit::head_of_records(conn).await.map_err(OpenError::Damaged)?;
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
    let is_signed = audit::newest_key(conn).await.map_err(OpenError::Damaged)?.is_some();
    if !is_signed && newest.is_empty() && file.newest().map_err(io)?.is_none() {
        // From now on its absence tells something.
        file.append(&[]).map_err(io)?;
    }
    let mut unpublished = None;
    match compare(conn, file, key, &head, &newest).await? {
        // A key is named and first signs with in one transaction.
        Ok(_) if is_signed && newest.is_empty() => {
            let reason = "it names the key that it is signed with, and no checkpoint is left".to_owned();
            doubt = Some(Doubt::new(reason, head.edge.size()));
        }
        Ok(note) => unpublished = note,
        Err(other) => {
            let expected_size = doubt.map_or(0, |doubt: Doubt| doubt.expected_size).max(other.expected_size);
            doubt = Some(Doubt { expected_size, ..other });
        }
    }
    // A log that is gone on with is signed anew at once, at whatever size.
    let newest = by_this_key.filter(|_| doubt.is_none());
    Ok(Found { head, newest, unpublished, doubt })
}

/// The log against what is outside; says which checkpoint is not there yet.
async fn compare(
    conn: &mut SqliteConnection,
    file: &CheckpointFile,
    key: &SigningKey,
    head: &Head,
    newest: &[StoredCheckpoint],
) -> Result<Result<Option<String>, Doubt>, OpenError> {
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
    // A crash between a commit and the file keeps one checkpoint from it, and never more.
    let (since, unpublished) = match (file.newest().map_err(io)?, newest) {
        (None, []) => return Ok(Ok(None)),
        (None, [only]) => (None, Some(only)),
        (Some(outside), [inside, ..]) if inside.note == outside => (Some(inside), None),
        (Some(outside), [inside, before, ..]) if before.note == outside => (Some(before), Some(inside)),
        (None, _) => {
            let reason = format!("{path} is empty, and held the checkpoints");
            return Ok(Err(Doubt::new(reason, size.max(inside_size))));
        }
        (Some(outside), _) => return Ok(Err(other_than(conn, file, &outside, &keys, size).await?)),
    };
    let mut edge = audit::sealed_edge(conn).await.map_err(OpenError::Damaged)?;
    for checkpoint in since.into_iter().chain(unpublished) {
        let doubt = |reason: String| Ok(Err(Doubt::new(reason, size.max(checkpoint.size))));
        let told = match Checkpoint::open(&checkpoint.note, &keys) {
            Ok((told, _)) => told,
            Err(error) => return doubt(format!("its checkpoint of {} records {error}", checkpoint.size)),
        };
        if told.size > size {
            return Ok(Err(shorter(told.size, size)));
        }
        if since.is_some_and(|since| since.checkpoint_id == checkpoint.checkpoint_id) {
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
    Ok(Ok(unpublished.map(|checkpoint| checkpoint.note.clone())))
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
        format!("{path} ends with a checkpoint of {told} records, which is none of the database's newest two")
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

/// The key before a change that both keys signed.
fn key_before(bytes: &[u8], new: &VerifyingKey) -> Option<VerifyingKey> {
    #[derive(serde::Deserialize)]
    struct Asked {
        old: Option<String>,
        signed: Option<String>,
    }
    let Asked { old, signed } = serde_json::from_str(Event::parse(bytes).ok()?.asked.get()).ok()?;
    let (old, signed) = (old?.parse::<VerifyingKey>().ok()?, signed?);
    let text = key_change_text(&old, new);
    let is_signed = |by: &VerifyingKey| {
        note::open(&signed, std::slice::from_ref(by)).is_ok_and(|(signed, _)| signed == text)
    };
    (is_signed(&old) && is_signed(new)).then_some(old)
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
