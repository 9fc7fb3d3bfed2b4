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
    /// The kind of `error`.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        match code.map(|code| (code, code & 0xff)) {
            Some((SQLITE_IOERR_SHMSIZE, _) | (_, SQLITE_FULL)) => Self::Full,
            Some((_, SQLITE_IOERR)) => Self::Io,
            Some((_, SQLITE_BUSY)) => Self::Busy,
            _ => Self::Other,
        }
    }
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
