//! The audit log of a database, opened to be read: without the lock, beside a running service, as of one moment.

use std::path::Path;

use sqlx::SqliteConnection;

use super::sqlite::{self, open};
use super::{OpenError, StoreError};
use crate::audit::replay::{GroupRow, ServerRow};
use crate::audit::tree;
use crate::audit::verify::{Beside, Row};
use crate::domain::id::{GroupId, ProjectId, ServerId};

/// How many records are read at once: some megabytes.
const PAGE: u32 = 4_096;

/// The log as of one moment.
#[derive(Debug)]
pub struct Log {
    conn: SqliteConnection,
}

/// Where the log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The last record that was deleted.
    pub up_to: i64,
    /// The hashes of the edge there.
    pub hashes: Vec<u8>,
}

/// A checkpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Counted from 1 without gaps.
    pub checkpoint_id: i64,
    /// How many records it is of.
    pub size: i64,
    /// The hashes of the edge at that size.
    pub hashes: Vec<u8>,
    /// The signed note.
    pub note: String,
}

impl Log {
    /// Opens a database that is there, of the schema that this program knows; it is left as it is.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(database: &Path) -> Result<Self, OpenError> {
        let mut conn = open::reading_connection(database).await?;
        sqlite::log::begin(&mut conn).await?;
        Ok(Self { conn })
    }

    /// Lets go of the moment, which would keep the WAL from being emptied, until the log is [renewed](Self::renew).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rest(&mut self) -> Result<(), StoreError> {
        sqlite::log::end(&mut self.conn).await
    }

    /// Goes on as of now, after a rest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        Ok(sqlite::log::begin(&mut self.conn).await?)
    }

    /// Closes it.
    pub async fn close(self) {
        open::close(Some(self.conn)).await;
    }

    /// Where the log begins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed(&mut self) -> Result<Sealed, StoreError> {
        sqlite::log::sealed(&mut self.conn).await
    }

    /// What stands beside the records.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn beside(&mut self) -> Result<Beside, StoreError> {
        sqlite::log::beside(&mut self.conn).await
    }

    /// Every checkpoint, in the order in which they were made, until `each` fails.
    ///
    /// # Errors
    /// [`StoreError`], and what `each` fails with.
    pub async fn checkpoints<E: From<StoreError>>(
        &mut self,
        mut each: impl FnMut(StoredCheckpoint) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first = i64::MIN;
        loop {
            let page = sqlite::log::checkpoints(&mut self.conn, first, PAGE).await?;
            let next = page.last().and_then(|newest| newest.checkpoint_id.checked_add(1));
            let is_full = page.len() == PAGE as usize;
            page.into_iter().try_for_each(&mut each)?;
            match next {
                Some(next) if is_full => first = next,
                _ => return Ok(()),
            }
        }
    }

    /// The checkpoint that was made last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_checkpoint(&mut self) -> Result<Option<StoredCheckpoint>, StoreError> {
        sqlite::log::newest_checkpoint(&mut self.conn).await
    }

    /// The place of the newest record; 0 without any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_seq(&mut self) -> Result<i64, StoreError> {
        sqlite::log::newest_seq(&mut self.conn).await
    }

    /// The place of the oldest record; `None` without any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest_seq(&mut self) -> Result<Option<i64>, StoreError> {
        sqlite::log::oldest_seq(&mut self.conn).await
    }

    /// One record's bytes, or `None`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&mut self, seq: i64) -> Result<Option<Vec<u8>>, StoreError> {
        sqlite::log::record(&mut self.conn, seq).await
    }

    /// The bytes of the records in which `part` stands, in order. No index helps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records_with(&mut self, part: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        sqlite::log::records_with(&mut self.conn, part.as_bytes()).await
    }

    /// The records from `first` on, in order, until `each` fails.
    ///
    /// # Errors
    /// [`StoreError`], and what `each` fails with.
    pub async fn records<E: From<StoreError>>(
        &mut self,
        mut first: i64,
        mut each: impl FnMut(Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let mut count = 0;
            let mut newest = first;
            let mut failed = None;
            sqlite::log::records(&mut self.conn, first, PAGE, |row| {
                count += 1;
                newest = row.seq;
                failed = each(row).err();
                failed.is_none()
            })
            .await?;
            if let Some(failed) = failed {
                return Err(failed);
            }
            match newest.checked_add(1) {
                Some(next) if count == PAGE => first = next,
                _ => return Ok(()),
            }
        }
    }

    /// The leaves of the records behind `after`, up to `last`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leaves(
        &mut self,
        mut after: i64,
        last: i64,
        mut each: impl FnMut(i64, tree::Hash),
    ) -> Result<(), StoreError> {
        while after < last {
            let leaves = sqlite::log::leaves(&mut self.conn, after, last, PAGE).await?;
            let Some((newest, _)) = leaves.last() else { break };
            after = *newest;
            for (seq, leaf) in leaves {
                each(seq, leaf);
            }
        }
        Ok(())
    }

    /// Every group.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn groups(&mut self, each: impl FnMut(GroupRow<'_>)) -> Result<(), StoreError> {
        sqlite::log::groups(&mut self.conn, each).await
    }

    /// Every member.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(
        &mut self,
        each: impl FnMut(ProjectId, GroupId, ServerId),
    ) -> Result<(), StoreError> {
        sqlite::log::members(&mut self.conn, each).await
    }

    /// Every registered ECS.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn servers(&mut self, each: impl FnMut(ServerRow<'_>)) -> Result<(), StoreError> {
        sqlite::log::servers(&mut self.conn, each).await
    }

    /// How many groups each project counts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn group_counts(&mut self) -> Result<Vec<(ProjectId, i64)>, StoreError> {
        sqlite::log::group_counts(&mut self.conn).await
    }
}
