//! Opening the database: whose file it is, who holds it, its pragmas, its migrations.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};

use super::fault::Fault;
use crate::store::{OpenError, Options, StoreError};

/// "ECSg": what `pragma application_id` of our files says.
const APPLICATION_ID: i64 = 0x4543_5367;
/// What `pragma user_version` says after the newest migration.
const SCHEMA_VERSION: i64 = 6;
/// The first version that keeps which one the log last told of, and the table that it keeps it in.
const KEPT_FROM: i64 = 6;
const TOLD_SCHEMA: &str = "create table if not exists told_schema (
    only_row integer not null,
    version  integer not null,
    constraint told_schema_key primary key (only_row),
    constraint told_schema_has_one_row check (only_row = 1)
) strict";
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for somebody else's lock: an operator's `sqlite3` shell, say.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A checkpoint starts when the WAL has this many pages (SQLite's default: 4 MB).
const CHECKPOINT_PAGES: &str = "1000";
/// After a checkpoint the WAL file is cut to this size.
const JOURNAL_BYTES_MAX: &str = "16777216";
/// How many rows are fetched ahead of the one that is looked at, where many are.
const ROWS_AHEAD: usize = 4_096;
/// An unused read connection is closed after this time, which gives its memory back.
const READER_IDLE: Duration = Duration::from_mins(1);

/// The right to write the database: an exclusive `flock` on `<database>.lock`, for as long as it lives.
///
/// Never on the database file itself: closing a descriptor of that would drop SQLite's own locks.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Given back at once, and not only when a process that was just forked has closed its copy of the descriptor, too.
impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file gives it back as well.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, ".lock");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut file = open_beside(&path).map_err(io)?;
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
        give_to_owner_of(database, &file).map_err(io)?;
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { file })
    }
}

/// A file made by root beside somebody's database is that somebody's, or the service could not open it afterwards.
///
/// By its handle: whoever may write in the folder can put a link at its path.
pub(crate) fn give_to_owner_of(database: &Path, made: &File) -> std::io::Result<()> {
    let Ok(owner) = std::fs::metadata(database) else { return Ok(()) };
    let current = made.metadata()?;
    if (owner.uid(), owner.gid()) != (current.uid(), current.gid()) {
        std::os::unix::fs::fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Opens a file beside the database to read and write, and makes it if there is none. One that has another name as
/// well, or is only a link, is left alone: root would write to, or give away, a file that is somebody else's.
pub(crate) fn open_beside(path: &Path) -> std::io::Result<File> {
    // Not to wait for whoever reads from a pipe that somebody put there.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => not_alone("it is a link"),
            _ => error,
        })?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        false => Err(not_alone("it is no file")),
        true if metadata.nlink() > 1 => Err(not_alone("it has another name as well")),
        true => Ok(file),
    }
}

fn not_alone(why: &str) -> std::io::Error {
    std::io::Error::other(format!("{why}, and is not written to"))
}

/// Comes back when a file that was made is in its folder on the disk, and not only what is in it.
pub(crate) fn sync_folder_of(made: &Path) -> std::io::Result<()> {
    let folder = made.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The file beside another, whose name is that one's and this ending.
pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

/// The schema was another one, and is the one that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Migrated {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// The writer's first connection: the file made if there is none.
pub(crate) async fn first_connection(options: &Options) -> Result<SqliteConnection, OpenError> {
    if std::fs::metadata(&options.database).is_ok_and(|file| file.len() > 0) {
        // Looked at without the right to write: even closing a connection moves a WAL into its database.
        let connect = connect_options(&options.database).read_only(true);
        let mut conn = connect.connect().await.map_err(|error| foreign_or(&options.database, error))?;
        let checked = check_file(&mut conn, &options.database).await;
        close(Some(conn)).await;
        checked?;
    }
    writer_connection(options, connect_options(&options.database).create_if_missing(true)).await
}

/// The schema is another one than the log last told of, be it since this start or an earlier one that was cut short.
pub(crate) async fn untold_migration(conn: &mut SqliteConnection) -> Result<Option<Migrated>, OpenError> {
    let told = sqlx::query_scalar!("select version from told_schema").fetch_optional(&mut *conn).await?;
    let Some(from) = told else {
        // It is new: there was no other schema to tell of.
        sqlx::query!("insert into told_schema (only_row, version) values (1, ?)", SCHEMA_VERSION)
            .execute(conn)
            .await?;
        return Ok(None);
    };
    Ok((from != SCHEMA_VERSION).then_some(Migrated { from, to: SCHEMA_VERSION }))
}

/// Writes down which schema it was, before it is another: the record of that may have to wait for another start.
async fn keep_schema(conn: &mut SqliteConnection) -> Result<(), OpenError> {
    // A new one, or one that keeps it already.
    let found = schema_version(conn).await?;
    if !(1..KEPT_FROM).contains(&found) {
        return Ok(());
    }
    let mut tx = conn.begin_with("begin immediate").await?;
    sqlx::raw_sql(TOLD_SCHEMA).execute(&mut *tx).await?;
    sqlx::query("insert into told_schema (only_row, version) values (1, ?) on conflict do nothing")
        .bind(found)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Another connection after a failure. A file that has gone meanwhile is not made anew: what was acknowledged is
/// in it.
pub(crate) async fn next_connection(options: &Options) -> Result<SqliteConnection, OpenError> {
    writer_connection(options, connect_options(&options.database)).await
}

/// The file checked to be ours, migrated, in WAL mode, and nothing left in the WAL.
async fn writer_connection(
    options: &Options,
    connect: SqliteConnectOptions,
) -> Result<SqliteConnection, OpenError> {
    let mut connect = connect
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
    // Before the first write, so that none ever stands behind a hole; and after the migrations, which write.
    empty_wal(&mut conn).await?;
    keep_schema(&mut conn).await?;
    MIGRATOR.run(&mut conn).await?;
    empty_wal(&mut conn).await?;
    Ok(conn)
}

/// One connection to read a database of this schema, which is left as it is. Needs no lock, and works beside a service.
pub(crate) async fn reading_connection(database: &Path) -> Result<SqliteConnection, OpenError> {
    let io = |source| OpenError::Io { path: database.to_owned(), source };
    let is_empty = std::fs::metadata(database).map_err(io)?.len() == 0;
    if is_empty {
        return Err(OpenError::Foreign { database: database.to_owned() });
    }
    let connect = connect_options(database).read_only(true).row_buffer_size(ROWS_AHEAD);
    let mut conn = match connect.clone().connect().await {
        Ok(mut conn) => match schema_version(&mut conn).await {
            // No WAL, and no right to make one: nobody writes there.
            Err(error) if is_unwritable(&error) && !wal_path(database).exists() => {
                connect.immutable(true).connect().await
            }
            _ => Ok(conn),
        },
        Err(error) => Err(error),
    }
    .map_err(|error| foreign_or(database, error))?;
    let checked = check_file(&mut conn, database).await.and_then(|is_new| {
        if is_new { Err(OpenError::Foreign { database: database.to_owned() }) } else { Ok(()) }
    });
    let found = match checked {
        Ok(()) => schema_version(&mut conn).await.map_err(OpenError::from),
        Err(error) => Err(error),
    };
    match found {
        Ok(SCHEMA_VERSION) => Ok(conn),
        Ok(found) => {
            close(Some(conn)).await;
            Err(OpenError::Older { database: database.to_owned(), found, known: SCHEMA_VERSION })
        }
        Err(error) => {
            close(Some(conn)).await;
            Err(error)
        }
    }
}

/// Moves the whole WAL into a database that is to be put aside. One that cannot be opened any more is left as it is.
pub(crate) async fn settle(database: &Path) -> Result<(), OpenError> {
    let Ok(mut conn) = connect_options(database).connect().await else { return Ok(()) };
    let settled = match check_file(&mut conn, database).await {
        Ok(_) => empty_wal(&mut conn).await,
        Err(error @ (OpenError::Foreign { .. } | OpenError::Newer { .. })) => Err(error),
        Err(_damaged) => Ok(()),
    };
    close(Some(conn)).await;
    settled
}

/// SQLite cannot make the files that reading a WAL takes: `SQLITE_READONLY` or `SQLITE_CANTOPEN`
/// (<https://www.sqlite.org/rescode.html>).
fn is_unwritable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(8 | 14))
}

fn wal_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    PathBuf::from(path)
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
    let object_count: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema where name not glob 'sqlite_*'")
            .fetch_one(&mut *conn)
            .await
            .map_err(|error| foreign_or(database, error))?;
    let application_id: i64 = sqlx::query_scalar("pragma application_id").fetch_one(&mut *conn).await?;
    let found = schema_version(conn).await?;
    if object_count == 0 && application_id == 0 && found == 0 {
        return Ok(true);
    }
    // `sqlx` makes its own table first, in a transaction of its own; a start cut short there left nothing of ours.
    let is_cut_short =
        application_id == 0 && found == 0 && object_count == 1 && has_migrations_table(conn).await?;
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
/// Waits for readers as long as for any lock.
pub(crate) async fn empty_wal(conn: &mut SqliteConnection) -> Result<(), OpenError> {
    if checkpoint(conn).await? { Ok(()) } else { Err(OpenError::Busy) }
}

/// The same, but moves only what it can when a reader is in the way: the writer does not wait for it.
pub(crate) async fn shrink_wal(conn: &mut SqliteConnection) -> Result<(), OpenError> {
    sqlx::query("pragma busy_timeout = 0").execute(&mut *conn).await?;
    let emptied = checkpoint(conn).await;
    // Whatever came of it: the next batch waits for a lock again.
    let restore = format!("pragma busy_timeout = {}", BUSY_TIMEOUT.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(restore)).execute(conn).await?;
    if !emptied? {
        tracing::debug!("a reader holds the WAL; it is emptied another time");
    }
    Ok(())
}

/// Whether the WAL is empty now.
async fn checkpoint(conn: &mut SqliteConnection) -> Result<bool, OpenError> {
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(conn).await?;
    Ok(busy == 0)
}

/// A connection that does nothing but be there: SQLite removes the WAL when the last one closes, and the writer's
/// may close at any failure, under the readers and on a disk that has no room for a new WAL.
pub(crate) async fn anchor(database: &Path) -> Result<SqliteConnection, OpenError> {
    let mut conn = connect_options(database).read_only(true).connect().await?;
    schema_version(&mut conn).await?;
    Ok(conn)
}

/// The file by its one true name, so that a link to it meets the same lock.
pub(crate) fn true_path(database: &Path) -> Result<PathBuf, OpenError> {
    if let Ok(path) = database.canonicalize() {
        return Ok(path);
    }
    let folder = match database.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    Ok(database.file_name().map_or(folder.clone(), |name| folder.join(name)))
}

/// Closes a connection, if there is one, which rolls back what it had open.
pub(crate) async fn close(conn: Option<SqliteConnection>) {
    if let Some(conn) = conn
        && let Err(error) = conn.close().await
    {
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
            Fault::Busy => Self::Busy,
            Fault::Io => Self::Disk(error.to_string()),
            Fault::Other => Self::Database(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for OpenError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
        match error {
            Execute(error) | ExecuteMigration(error, _) => error.into(),
            other => Self::Database(format!("a migration failed: {other}")),
        }
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
/// Room for those of the three tables that are written so, and for every other statement.
const STATEMENTS_KEPT: usize = 3 * ROWS_MAX + 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_checkpoint_that_fails_leaves_the_connection_waiting_for_locks_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let connect = connect_options(&folder.path().join("x.db")).create_if_missing(true);
        let mut conn = connect.connect().await.unwrap();
        sqlx::raw_sql("pragma journal_mode = wal; create table t (a); begin; insert into t values (1)")
            .execute(&mut conn)
            .await
            .unwrap();
        // No connection can checkpoint in the middle of its own transaction.
        assert!(shrink_wal(&mut conn).await.is_err());
        let millis: i64 = sqlx::query_scalar("pragma busy_timeout").fetch_one(&mut conn).await.unwrap();
        assert_eq!(u128::from(millis.cast_unsigned()), BUSY_TIMEOUT.as_millis());
    }

    #[test]
    fn the_schema_version_is_the_newest_migrations() {
        assert_eq!(MIGRATOR.iter().map(|migration| migration.version).max(), Some(SCHEMA_VERSION));
    }
}
