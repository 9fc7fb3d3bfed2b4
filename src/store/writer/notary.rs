//! Signs what the log is from time to time: a checkpoint, in the batch's own transaction, and after the commit in the
//! file beside the database and in the service's log, where a change of the database does not reach it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::{SigningKey, VerifyingKey};
use crate::audit::tree::Edge;
use crate::store::Warning;
use crate::store::checkpoint_file::CheckpointFile;

/// When checkpoints are made. Settings `audit.checkpoint_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRules {
    /// At the latest after this many records.
    pub records: u64,
    /// At the latest after this time, while there is something new; and no sooner, unless the records make it.
    pub every: Duration,
}

/// The one who signs.
#[derive(Debug)]
pub(super) struct Notary {
    key: SigningKey,
    file: CheckpointFile,
    rules: CheckpointRules,
    /// The newest checkpoint in the database, and the size that it is of; `None` when there is none by this key.
    newest: Option<Signed>,
    /// `None` when the next one is due at once.
    signed_at: Option<Instant>,
    /// Committed, and not yet in the file. There is no other before it is.
    unpublished: Option<String>,
    /// When it was last tried in vain to write the file; `None` as long as that works.
    tried_at: Option<Instant>,
    /// The service is about to stop: there is no later.
    is_hurried: bool,
    warning: Arc<Warning>,
}

/// A checkpoint, and the size that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) size: u64,
    pub(super) note: String,
}

impl Notary {
    pub(super) fn new(
        key: SigningKey,
        file: CheckpointFile,
        rules: CheckpointRules,
        newest: Option<Signed>,
        unpublished: Option<String>,
        warning: Arc<Warning>,
    ) -> Self {
        Self {
            key,
            file,
            rules,
            newest,
            signed_at: None,
            unpublished,
            tried_at: None,
            is_hurried: false,
            warning,
        }
    }

    /// The key that signs.
    pub(super) fn key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Another key signs from now on.
    pub(super) fn take_over(&mut self, key: SigningKey) {
        self.key = key;
        // There is none by this key: the next one is due at once.
        self.newest = None;
        self.signed_at = None;
    }

    /// What the database has after a commit whose outcome was not known: the checkpoint of it, or none.
    pub(super) fn recall(&mut self, stored: Option<Signed>) {
        if stored.is_some() && stored != self.newest {
            self.unpublished = stored.as_ref().map(|signed| signed.note.clone());
            self.newest = stored;
        }
    }

    /// Whether the newest checkpoint is in the file, so that there may be another.
    pub(super) const fn may_sign(&self) -> bool {
        self.unpublished.is_none()
    }

    /// Whether a log of this size is to be signed now.
    pub(super) fn is_due(&self, size: u64) -> bool {
        let (true, Some(new)) = (self.may_sign(), self.new_records(size)) else { return false };
        new >= self.rules.records || self.due_at() <= Instant::now()
    }

    /// When a log of this size is to be signed; `None` when nothing is new.
    pub(super) fn wakes_at(&self, size: u64) -> Option<Instant> {
        if self.unpublished.is_some() {
            return Some(self.tried_at.map_or_else(Instant::now, |tried_at| tried_at + self.rules.every));
        }
        self.new_records(size).map(|_| self.due_at())
    }

    /// How many records the newest checkpoint does not tell of; `None` when there is nothing to sign.
    fn new_records(&self, size: u64) -> Option<u64> {
        match &self.newest {
            None => (size > 0).then_some(size),
            Some(newest) => size.checked_sub(newest.size).filter(|new| *new > 0),
        }
    }

    fn due_at(&self) -> Instant {
        self.signed_at.map_or_else(Instant::now, |signed_at| signed_at + self.rules.every)
    }

    /// Makes the next one, or the next try of one that waits, due at once: there is no later.
    pub(super) fn hurry(&mut self) {
        self.signed_at = None;
        self.is_hurried = true;
    }

    /// Puts the next one off, after one that failed.
    pub(super) fn put_off(&mut self) {
        self.signed_at = Some(Instant::now());
    }

    /// A checkpoint of the log with this edge, by the key that signs or by the one that is to come after it.
    pub(super) fn sign(&self, edge: &Edge, next: Option<&SigningKey>) -> String {
        let key = next.unwrap_or(&self.key);
        let origin = key.verifying_key().name().to_owned();
        Checkpoint { origin, size: edge.size(), root: edge.root() }.sign(key)
    }

    /// A checkpoint was committed.
    pub(super) fn committed(&mut self, size: u64, note: String) {
        self.unpublished = Some(note.clone());
        self.newest = Some(Signed { size, note });
        self.signed_at = Some(Instant::now());
    }

    /// Puts what was committed where the database's own file does not reach. What cannot be put there waits, and is
    /// tried again after a while.
    pub(super) fn publish(&mut self) {
        let now = Instant::now();
        let is_early = self.tried_at.is_some_and(|tried_at| now < tried_at + self.rules.every);
        if is_early && !self.is_hurried {
            return;
        }
        let Some(note) = self.unpublished.take() else { return };
        let file = self.file.path().display();
        match self.file.append(std::slice::from_ref(&note)) {
            Ok(()) => {
                if self.tried_at.take().is_some() {
                    tracing::info!(%file, "checkpoints are written again");
                    self.warning.put(None);
                }
                tracing::info!(checkpoint = note, "the audit log was signed");
            }
            Err(error) => {
                if self.tried_at.is_none() {
                    tracing::error!(%error, %file, "a checkpoint was not written, and waits: nothing is signed meanwhile");
                } else {
                    // It was tried before, and that is as long ago as the next checkpoint may take.
                    let reason =
                        format!("{file} cannot be written, and so the audit log is not signed: {error}");
                    self.warning.put(Some(reason));
                }
                self.tried_at = Some(now);
                self.unpublished = Some(note);
            }
        }
    }
}
