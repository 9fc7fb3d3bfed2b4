//! Signs what the log is from time to time: a checkpoint, in the batch's own transaction, and after the commit in the
//! file beside the database and in the service's log, where a change of the database does not reach it.

use std::time::Duration;

use tokio::time::Instant;

use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::SigningKey;
use crate::audit::tree::Edge;
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
    /// Committed, and not yet in the file, in their order. There is no other before they are.
    unpublished: Vec<String>,
    /// Since when the file cannot be written.
    failing_since: Option<Instant>,
    /// When it was tried last.
    tried_at: Option<Instant>,
    /// Another key signs from here on, in another run.
    is_retired: bool,
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
        unpublished: Vec<String>,
    ) -> Self {
        Self {
            key,
            file,
            rules,
            newest,
            signed_at: None,
            unpublished,
            failing_since: None,
            tried_at: None,
            is_retired: false,
        }
    }

    /// Whether nothing is signed with this key yet.
    pub(super) const fn is_new(&self) -> bool {
        self.newest.is_none()
    }

    /// Whether this is the key that it signs with.
    pub(super) fn signs_with(&self, key: &str) -> bool {
        self.key.verifying_key().to_string() == key
    }

    /// Leaves what comes to the key that the log names by now.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// What the database has after a commit whose outcome was not known: the checkpoint of it, or none.
    pub(super) fn recall(&mut self, stored: Option<Signed>) {
        if stored.is_some() && stored != self.newest {
            self.unpublished.extend(stored.as_ref().map(|signed| signed.note.clone()));
            self.newest = stored;
        }
    }

    /// Whether a log of this size is to be signed now.
    pub(super) fn is_due(&self, size: u64) -> bool {
        let (true, Some(new)) = (self.unpublished.is_empty(), self.new_records(size)) else { return false };
        new >= self.rules.records || self.due_at() <= Instant::now()
    }

    /// When a log of this size is to be signed; `None` when nothing is new.
    pub(super) fn wakes_at(&self, size: u64) -> Option<Instant> {
        if !self.unpublished.is_empty() {
            return Some(self.tried_at.map_or_else(Instant::now, |tried_at| tried_at + self.rules.every));
        }
        self.new_records(size).map(|_| self.due_at())
    }

    /// How many records the newest checkpoint does not tell of; `None` when there is nothing to sign.
    fn new_records(&self, size: u64) -> Option<u64> {
        match &self.newest {
            _ if self.is_retired => None,
            None => (size > 0).then_some(size),
            Some(newest) => size.checked_sub(newest.size).filter(|new| *new > 0),
        }
    }

    fn due_at(&self) -> Instant {
        self.signed_at.map_or_else(Instant::now, |signed_at| signed_at + self.rules.every)
    }

    /// Whether checkpoints wait, for longer than one is due, for a file that cannot be written.
    pub(super) fn is_stuck(&self) -> bool {
        self.failing_since.is_some_and(|since| since + self.rules.every <= Instant::now())
    }

    /// Makes the next one due at once.
    pub(super) fn hurry(&mut self) {
        self.signed_at = None;
        self.tried_at = None;
    }

    /// Puts the next one off, after one that failed.
    pub(super) fn put_off(&mut self) {
        self.signed_at = Some(Instant::now());
    }

    /// A checkpoint of the log with this edge.
    pub(super) fn sign(&self, edge: &Edge) -> String {
        let origin = self.key.verifying_key().name().to_owned();
        Checkpoint { origin, size: edge.size(), root: edge.root() }.sign(&self.key)
    }

    /// A checkpoint was committed.
    pub(super) fn committed(&mut self, size: u64, note: String) {
        self.unpublished.push(note.clone());
        self.tried_at = None;
        self.newest = Some(Signed { size, note });
        self.signed_at = Some(Instant::now());
    }

    /// Puts what was committed where the database's own file does not reach. What cannot be put there waits, and is
    /// tried again no sooner than the next checkpoint would be due.
    pub(super) fn publish(&mut self) {
        let now = Instant::now();
        let is_early = self.tried_at.is_some_and(|tried_at| now < tried_at + self.rules.every);
        if self.unpublished.is_empty() || is_early {
            return;
        }
        self.tried_at = Some(now);
        let file = self.file.path().display();
        match self.file.append(&self.unpublished) {
            Ok(()) => {
                for checkpoint in self.unpublished.drain(..) {
                    tracing::info!(checkpoint, "the audit log was signed");
                }
                if self.failing_since.take().is_some() {
                    tracing::info!(%file, "the file of checkpoints can be written again");
                }
            }
            Err(error) if self.failing_since.is_none() => {
                self.failing_since = Some(now);
                tracing::error!(%error, %file, "a checkpoint was not written, and waits: nothing is signed meanwhile");
            }
            Err(error) => tracing::debug!(%error, %file, "a checkpoint still waits"),
        }
    }
}
