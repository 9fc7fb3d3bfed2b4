//! What was read lately, so that a client that refreshes its state over and over, or sends the same token with every
//! request, need not read the database.
//!
//! Invariant: nothing is given out that is older than the last change that was answered. Each project has a version,
//! and so have the tokens; the writer moves it after a commit and before it answers. An entry holds the version from *before* its read
//! began, and is good only while that is still the project's: so a read that raced a commit is never kept for longer
//! than that commit goes unanswered.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::id::ProjectId;

/// How many versions there are. Projects share them by hash: a neighbour's change costs a read, never a wrong answer.
const VERSIONS: usize = 256;

/// The version of every project.
#[derive(Debug)]
pub(super) struct Versions {
    hasher: RandomState,
    projects: [AtomicU64; VERSIONS],
    tokens: AtomicU64,
}

impl Default for Versions {
    fn default() -> Self {
        let projects = [const { AtomicU64::new(0) }; VERSIONS];
        Self { hasher: RandomState::new(), projects, tokens: AtomicU64::new(0) }
    }
}

impl Versions {
    /// After a change in one project.
    pub(super) fn move_on(&self, project_id: ProjectId) {
        self.slot(project_id).fetch_add(1, Ordering::SeqCst);
    }

    /// After a token or key was taken away. One that is new was never asked for before: nobody guesses 256 bits.
    pub(super) fn move_tokens_on(&self) {
        self.tokens.fetch_add(1, Ordering::SeqCst);
    }

    /// After a change in all, or one that is not known.
    pub(super) fn move_all_on(&self) {
        for version in self.projects.iter().chain([&self.tokens]) {
            version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The version of the tokens and temporary keys.
    pub(super) fn of_tokens(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }

    /// The version of a project's groups.
    pub(super) fn of(&self, project_id: ProjectId) -> u64 {
        self.slot(project_id).load(Ordering::SeqCst)
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn slot(&self, project_id: ProjectId) -> &AtomicU64 {
        &self.projects[self.hasher.hash_one(project_id) as usize % VERSIONS]
    }
}

/// Answers by key, each good for one version of what it was read from.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: quick_cache::sync::Cache<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    /// For this many answers; the least used go first.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: quick_cache::sync::Cache::new(entries_max) }
    }

    /// The answer that is kept, or the one that `read` gives, which is then kept. `version` was looked up before
    /// `read` began.
    pub(super) async fn get_or_read<E>(
        &self,
        version: u64,
        key: K,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        match self.entries.get(&key) {
            Some((kept, value)) if kept == version => Ok(value),
            _ => {
                let value = read.await?;
                self.entries.insert(key, (version, value.clone()));
                Ok(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const PROJECT: ProjectId = ProjectId::from_bytes([1; 16]);

    async fn read(cache: &Cache<u8, u32>, versions: &Versions, value: u32) -> u32 {
        let read = async { Ok::<_, Infallible>(value) };
        let Ok(value) = cache.get_or_read(versions.of(PROJECT), 7, read).await;
        value
    }

    #[tokio::test]
    async fn an_answer_is_kept_until_its_project_changes() {
        let (cache, versions) = (Cache::new(10), Versions::default());
        assert_eq!(read(&cache, &versions, 1).await, 1);
        assert_eq!(read(&cache, &versions, 2).await, 1, "kept");
        versions.move_on(PROJECT);
        assert_eq!(read(&cache, &versions, 3).await, 3, "read again");
        versions.move_all_on();
        assert_eq!(read(&cache, &versions, 4).await, 4, "read again");
    }

    #[tokio::test]
    async fn a_read_that_raced_a_change_is_not_kept() {
        let (cache, versions) = (Cache::new(10), Versions::default());
        let raced = async {
            versions.move_on(PROJECT);
            Ok::<_, Infallible>(1)
        };
        assert_eq!(cache.get_or_read(versions.of(PROJECT), 7, raced).await, Ok(1));
        assert_eq!(read(&cache, &versions, 2).await, 2);
    }

    #[test]
    fn tokens_have_a_version_of_their_own_which_a_change_in_all_moves_too() {
        let versions = Versions::default();
        let before = (versions.of(PROJECT), versions.of_tokens());
        versions.move_tokens_on();
        assert_eq!((versions.of(PROJECT), versions.of_tokens()), (before.0, before.1 + 1));
        versions.move_all_on();
        assert_eq!((versions.of(PROJECT), versions.of_tokens()), (before.0 + 1, before.1 + 2));
    }
}
