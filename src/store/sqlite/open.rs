//! Opening the database: whose file it is, who holds it, its pragmas, its migrations.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};

use super::fault::Fault;
use crate::store::{OpenError, Options, StoreError};

/// "ECSg": what `pragma application_id` of our files says.
const APPLICATION_ID: i64 = 0x4543_5367;
/// What `pragma user_version` says after the newest migration.
const SCHEMA_VERSION: i64 = 1;
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for somebody else's lock: an operator's `sqlite3` shell, say.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A checkpoint starts when the WAL has this many pages (SQLite's default: 4 MB).
const CHECKPOINT_PAGES: &str = "1000";
/// After a checkpoint the WAL file is cut to this size.
const JOURNAL_BYTES_MAX: &str = "16777216";
/// An unused read connection is closed after this time, which gives its memory back.
const READER_IDLE: Duration = Duration::from_mins(1);

/// The right to write the database: an exclusive `flock` on `<database>.lock`, for as long as it lives.
///
/// Never on the database file itself: closing a descriptor of that would drop SQLite's own locks.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(io)?;
                return Err(OpenError::Locked {
                    database: database.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        give_to_owner_of(database, &path).map_err(io)?;
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// A file made by root beside somebody's database is that somebody's, or the service could not open it afterwards.
fn give_to_owner_of(database: &Path, made: &Path) -> std::io::Result<()> {
    let Ok(owner) = std::fs::metadata(database) else { return Ok(()) };
    let current = std::fs::metadata(made)?;
    if (owner.uid(), owner.gid()) != (current.uid(), current.gid()) {
        std::os::unix::fs::chown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

/// The writer's connection: the file checked to be ours, migrated, in WAL mode, and nothing left in the WAL.
pub(crate) async fn writer_connection(options: &Options) -> Result<SqliteConnection, OpenError> {
    let mut connect = connect_options(&options.database)
        .create_if_missing(true)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", JOURNAL_BYTES_MAX);
    if let Some(pages) = options.size_pages_max() {
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    let mut conn = connect.connect().await.map_err(|error| foreign_or(&options.database, error))?;
    let is_new = check_file(&mut conn, &options.database).await?;
    // Only now, since it changes the file: somebody else's database is left as it was.
    if is_new {
        // Four syncs of an empty file are of no use to anybody; the checkpoint below syncs it with its first content.
        sqlx::query("pragma synchronous = off").execute(&mut conn).await?;
    }
    sqlx::query("pragma journal_mode = wal").execute(&mut conn).await?;
    sqlx::query("pragma synchronous = full").execute(&mut conn).await?;
    MIGRATOR.run(&mut conn).await?;
    truncate_wal(&mut conn).await?;
    Ok(conn)
}

/// Connections for reads: opened when they are needed, several at once, none of them able to write.
pub(crate) fn read_pool(options: &Options) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(options.read_connections)
        .acquire_timeout(options.read_deadline)
        .idle_timeout(READER_IDLE)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(connect_options(&options.database).read_only(true))
}

fn connect_options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(database).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

/// Checks that the file is empty, or ours and not newer than this program; says whether it is empty.
async fn check_file(conn: &mut SqliteConnection, database: &Path) -> Result<bool, OpenError> {
    let foreign = || OpenError::Foreign { database: database.to_owned() };
    let table_count: i64 = sqlx::query_scalar("select count(*) from sqlite_schema")
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| foreign_or(database, error))?;
    if table_count == 0 {
        return Ok(true);
    }
    let application_id: i64 = sqlx::query_scalar("pragma application_id").fetch_one(&mut *conn).await?;
    let found = schema_version(conn).await?;
    // `sqlx` makes its own table first, in a transaction of its own; a start cut short there left nothing of ours.
    let is_cut_short =
        application_id == 0 && found == 0 && table_count == 1 && has_migrations_table(conn).await?;
    if application_id != APPLICATION_ID && !is_cut_short {
        return Err(foreign());
    }
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { database: database.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(false)
}

async fn has_migrations_table(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select 1 from sqlite_schema where name = '_sqlx_migrations')")
        .fetch_one(conn)
        .await
}

async fn schema_version(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("pragma user_version").fetch_one(conn).await
}

/// Whether the database can be read and has the schema that this program knows.
pub(crate) async fn check_schema(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    match schema_version(conn).await? {
        SCHEMA_VERSION => Ok(()),
        found => Err(StoreError::corrupt("schema", format!("version {found}, not {SCHEMA_VERSION}"))),
    }
}

/// Moves the whole WAL into the database and cuts it to nothing, so that no acknowledged write stands behind a hole.
pub(crate) async fn truncate_wal(conn: &mut SqliteConnection) -> Result<(), OpenError> {
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(conn).await?;
    if busy == 0 { Ok(()) } else { Err(OpenError::WalHeld) }
}

/// Closes a connection, which rolls back what it had open.
pub(crate) async fn close(conn: SqliteConnection) {
    if let Err(error) = conn.close().await {
        tracing::warn!(%error, "a database connection did not close cleanly");
    }
}

fn foreign_or(database: &Path, error: sqlx::Error) -> OpenError {
    // SQLITE_NOTADB, <https://www.sqlite.org/rescode.html#notadb>.
    let is_not_a_database =
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("26"));
    if is_not_a_database { OpenError::Foreign { database: database.to_owned() } } else { error.into() }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        match Fault::of(&error) {
            Fault::Full => Self::DiskFull,
            _ => Self::Database(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for OpenError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Database(format!("a migration failed: {error}"))
    }
}

/// The 16 bytes of an id in a row of `table`.
pub(super) fn bytes16(table: &'static str, bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(|_wrong_length| StoreError::corrupt(table, format!("id {bytes:02x?}")))
}

/// Whether a statement touched as many rows as it must have.
pub(super) fn expect_rows(table: &'static str, affected: u64, expected: usize) -> Result<(), StoreError> {
    if affected == expected as u64 {
        return Ok(());
    }
    Err(StoreError::corrupt(table, format!("{affected} rows touched where {expected} should be")))
}

/// The most rows of one insert. Each number of rows up to here is a statement of its own, prepared once and kept.
pub(super) const ROWS_MAX: usize = 64;
/// Room for those of both tables, and for every other statement.
const STATEMENTS_KEPT: usize = 2 * ROWS_MAX + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_version_is_the_newest_migrations() {
        assert_eq!(MIGRATOR.iter().map(|migration| migration.version).max(), Some(SCHEMA_VERSION));
    }
}
