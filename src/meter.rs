//! The counters that `store` and `api` feed. Reading them costs nothing, and so does counting.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Meter {
    /// Transactions with attempts that committed.
    pub commits: Counter,
    /// Audit records that committed; by `commits`, the mean batch.
    pub records: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
