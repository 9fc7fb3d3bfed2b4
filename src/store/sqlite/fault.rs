//! What a database error means for those who wait for an answer.

use crate::store::{StoreError, Unavailable};

/// The kinds of failure that are handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk, or the size that the database may have, is used up. SQLite rolled back by itself.
    Full,
    /// The operating system failed to read, write or sync. What reached the disk is not known.
    Io,
    /// Something else holds the database.
    Busy,
    /// Anything else; the job may be at fault.
    Other,
}

/// SQLite's primary result codes (<https://www.sqlite.org/rescode.html>); extended codes have them in the low byte.
const SQLITE_BUSY: u32 = 5;
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;
/// The `-shm` file could not grow, which only a full disk does.
const SQLITE_IOERR_SHMSIZE: u32 = SQLITE_IOERR | (19 << 8);

impl Fault {
    /// The kind of an error before COMMIT, or of a read.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        Self::of_code(code(error))
    }

    /// The kind of an error of COMMIT.
    pub(crate) fn of_commit(error: &sqlx::Error) -> Self {
        Self::of_commit_code(code(error))
    }

    fn of_code(code: Option<u32>) -> Self {
        match code.map(|code| (code, code & 0xff)) {
            Some((SQLITE_IOERR_SHMSIZE, _) | (_, SQLITE_FULL)) => Self::Full,
            Some((_, SQLITE_IOERR)) => Self::Io,
            Some((_, SQLITE_BUSY)) => Self::Busy,
            _ => Self::Other,
        }
    }

    /// SQLite lets the WAL's index grow only after it has synced the commit into the WAL: no room for the index says
    /// nothing about the commit, which the next recovery finds.
    fn of_commit_code(code: Option<u32>) -> Self {
        if code == Some(SQLITE_IOERR_SHMSIZE) { Self::Io } else { Self::of_code(code) }
    }
}

fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

impl From<sqlx::Error> for StoreError {
    /// For an error after which certainly nothing has changed: before COMMIT was sent, or while reading.
    fn from(error: sqlx::Error) -> Self {
        match (Fault::of(&error), &error) {
            (Fault::Full, _) => Self::Unavailable(Unavailable::DiskFull),
            (Fault::Busy, _) | (_, sqlx::Error::PoolTimedOut) => Self::Unavailable(Unavailable::Busy),
            (_, sqlx::Error::PoolClosed) => Self::Unavailable(Unavailable::Stopping),
            (Fault::Io, _) => Self::Disk(error.to_string()),
            (Fault::Other, _) => Self::Database(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_for_the_wals_index_is_a_full_disk_before_commit_and_an_unknown_outcome_at_it() {
        let code = Some(4874);
        assert_eq!(Fault::of_code(code), Fault::Full);
        assert_eq!(Fault::of_commit_code(code), Fault::Io);
    }

    #[test]
    fn every_other_code_means_the_same_at_commit_as_before() {
        for (code, expected) in [
            (Some(13), Fault::Full),
            (Some(10), Fault::Io),
            (Some(1034), Fault::Io),
            (Some(778), Fault::Io),
            (Some(5), Fault::Busy),
            (Some(261), Fault::Busy),
            (Some(1811), Fault::Other),
            (None, Fault::Other),
        ] {
            assert_eq!((Fault::of_code(code), Fault::of_commit_code(code)), (expected, expected), "{code:?}");
        }
    }
}
