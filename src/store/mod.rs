//! What is remembered: reads, and the one way to change anything.
//!
//! Invariant: nothing is answered from a transaction that did not commit.

pub mod backup;
mod cache;
mod checkpoint_file;
mod key_file;
pub mod log;
mod lost;
mod refusals;
mod sqlite;
pub mod seal;
mod trace;
mod writer;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot, watch};

use self::cache::{Cache, Versions};
pub use self::key_file::{KeyChange, KeyError};
use self::refusals::{NotRecorded, Refusals};
pub use self::trace::{LoggedRecord, TRACE_SCAN_MAX, TraceError, TraceQuery, Window};
use self::writer::Job;
pub use self::writer::{CheckpointRules, Writer, WriterFailed};
use crate::access::action::Action;
use crate::access::policy::{self, Denied, Permit};
use crate::access::principal::Origin;
use crate::audit::record::TraceId;
use crate::clock::{Clock, Ids};
use crate::domain::command::{Change, Command};
use crate::domain::group::ServerGroup;
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::domain::page::Page;
use crate::domain::refusal::Refusal;
use crate::domain::rules::{Limits, MemberRules};
use crate::domain::server::Server;
use crate::domain::session::{AccessKeyId, SecretDigest, Session, TemporaryKey};
use crate::domain::time::Timestamp;
use crate::meter::Meter;

/// How the database is opened and used. Settings `database.*` and `quota.*`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The SQLite file; beside it stand `-wal`, `-shm` and `.lock`.
    pub database: PathBuf,
    /// How large the database file may grow, in bytes; 0 for as large as the disk allows.
    pub size_bytes_max: u64,
    /// Connections for reads.
    pub read_connections: u32,
    /// How long a read may take, waiting for a connection included.
    pub read_deadline: Duration,
    /// How many attempts may wait for the writer; one more is turned away at once.
    pub queue_max: usize,
    /// How many attempts share a transaction at the most.
    pub batch_max: usize,
    /// How often the WAL is emptied.
    pub checkpoint_every: Duration,
    /// The quotas.
    pub limits: Limits,
    /// Which ECSs may be members.
    pub member_rules: MemberRules,
    /// How many refused and denied attempts of one caller are recorded in a minute; `None` for all of them.
    pub refusals_per_minute: Option<u32>,
    /// The file of the key that the log is signed with; empty for `<database>.key`.
    pub key: PathBuf,
    /// When the log is signed.
    pub checkpoints: CheckpointRules,
    /// Whether a log is gone on with that is not the one that its newest checkpoint tells of.
    pub is_loss_accepted: bool,
    /// A backup that is put in the database's place first.
    pub restore_from: Option<PathBuf>,
    /// How long records are looked through for one listing; [`TRACE_SCAN_MAX`].
    pub trace_scan_max: Duration,
}

impl Options {
    /// The file of the key that the log is signed with.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        key_file::path(&self.database, &self.key)
    }

    /// `size_bytes_max` in pages of SQLite's default size.
    fn size_pages_max(&self) -> Option<u64> {
        const PAGE_BYTES: u64 = 4096;
        (self.size_bytes_max > 0).then(|| (self.size_bytes_max / PAGE_BYTES).max(1))
    }
}

/// Why the database could not be opened to write.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is one that was replaced before, and it is kept.
    #[error("{} is there from a restore before: move it away first", replaced.display())]
    AlreadyReplaced {
        /// The database that was replaced.
        replaced: PathBuf,
    },
    /// Another process has it.
    #[error(
        "another ecs-groupd (process {holder}) holds {}: stop that one first, or use another --database",
        database.display()
    )]
    Locked {
        /// The database.
        database: PathBuf,
        /// The other process's id, as it wrote it down.
        holder: String,
    },
    /// It is a database, or some other file, of somebody else.
    #[error("{} is not a database of ecs-groupd: it was left as it was; use another --database", database.display())]
    Foreign {
        /// The file.
        database: PathBuf,
    },
    /// A newer ecs-groupd wrote it.
    #[error(
        "{} has schema version {found}, and this ecs-groupd knows versions up to {known}: install a newer ecs-groupd",
        database.display()
    )]
    Newer {
        /// The database.
        database: PathBuf,
        /// The file's version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// An older ecs-groupd wrote it, and what is to be done changes nothing.
    #[error(
        "{} has schema version {found}, and reading its log takes version {known}: `ecs-groupd serve` or any verb that \
         changes something brings it up to date",
        database.display()
    )]
    Older {
        /// The database.
        database: PathBuf,
        /// The file's version.
        found: i64,
        /// The one that this program reads.
        known: i64,
    },
    /// Something else holds the database.
    #[error("the database is busy: another process, perhaps a sqlite3 shell, holds it; close that one")]
    Busy,
    /// The operating system failed to read or write.
    #[error("the disk fails: {0}")]
    Disk(String),
    /// No room.
    #[error("the disk is full: free some space")]
    DiskFull,
    /// The file or its lock could not be opened.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no key to sign the log with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What stands in the database does not fit together.
    #[error("the database is damaged: {0}")]
    Damaged(StoreError),
    /// SQLite refused.
    #[error("cannot open the database: {0}")]
    Database(String),
}

/// Why a read or a change did not happen, or may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A rule was broken. Nothing changed; the attempt is recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be done now. Certainly nothing changed; the same request may be sent again.
    #[error("unavailable: {0}")]
    Unavailable(Unavailable),
    /// The commit failed in a way that may have kept the change.
    #[error("the commit failed and may or may not have happened: {0}")]
    OutcomeUnknown(String),
    /// The operating system failed to read or write. Certainly nothing changed.
    #[error("the disk fails: {0}")]
    Disk(String),
    /// A row that does not parse, or does not fit the others.
    #[error("corrupt row in {table}: {key}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row, or what is wrong with it.
        key: String,
    },
    /// The caller was turned down so often in this minute that one more is not recorded, but only counted. Nothing
    /// changed.
    #[error("too many attempts were turned down in this minute")]
    TooManyRefusals,
    /// The permit is for something else: a mistake in this program.
    #[error("a permit for {permitted:?} was used for {attempted:?}, or in another project")]
    WrongPermit {
        /// What the permit allows.
        permitted: Action,
        /// What was tried.
        attempted: Action,
    },
    /// SQLite refused. Certainly nothing changed.
    #[error("database error: {0}")]
    Database(String),
}

impl StoreError {
    fn corrupt(table: &'static str, key: impl fmt::Display) -> Self {
        Self::Corrupt { table, key: key.to_string() }
    }
}

/// Why something cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// As many attempts wait as may wait.
    #[error("too many requests wait to be written")]
    QueueFull,
    /// The disk, or `database.size_bytes_max`, is used up.
    #[error("the disk is full")]
    DiskFull,
    /// Something else holds the database, or a read took too long.
    #[error("the database is busy")]
    Busy,
    /// The service is stopping, or its writer has stopped.
    #[error("the service is stopping")]
    Stopping,
    /// The audit log is not the one that its newest checkpoint tells of.
    #[error(
        "its audit log was cut or changed, and nothing is written before that is settled: look at /readyz"
    )]
    LogInDoubt,
}

/// What is not as it should be, though attempts are answered.
#[derive(Debug, Default)]
struct Warning(Mutex<Option<String>>);

impl Warning {
    fn put(&self, warning: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = warning;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// By what a request is known again: its key, which is its user's own for a project and a path, and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Over user, project, path and key.
    pub digest: SecretDigest,
    /// Over the body.
    pub body_digest: SecretDigest,
}

/// What a project holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Groups.
    pub group_count: u32,
    /// Registered ECSs.
    pub server_count: u32,
}

/// What is known of an ECS: one of the two at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownServer {
    /// What the inventory knows.
    pub registered: Option<Server>,
    /// The group that it is in.
    pub member_of: Option<GroupId>,
}

/// The database: any number of readers, and the queue to the one writer.
#[derive(Debug)]
pub struct Store {
    database: PathBuf,
    key: PathBuf,
    jobs: mpsc::Sender<Job>,
    committed: watch::Receiver<u64>,
    readers: SqlitePool,
    read_deadline: Duration,
    versions: Arc<Versions>,
    refusals: Arc<Refusals>,
    trace_scan_max: Duration,
    clock: Clock,
    groups: Cache<(ProjectId, GroupId), Option<Arc<ServerGroup>>>,
    pages: Cache<(ProjectId, Page), Arc<[ServerGroup]>>,
    tokens: Cache<SecretDigest, Option<Arc<Session>>>,
    temporary_keys: Cache<AccessKeyId, Option<Arc<TemporaryKey>>>,
    writer_failure: Arc<OnceLock<String>>,
    warning: Arc<Warning>,
}

/// How many groups are kept in memory: 0.2 kB each, and 1.4 kB with the longest name and 16 members.
const GROUPS_CACHED: usize = 4_096;
/// How many pages are kept in memory: up to 1,001 groups each, so 2 MB where every page is full.
const PAGES_CACHED: usize = 12;
/// How many tokens, and as many temporary keys, are kept in memory: 0.2 kB each.
const TOKENS_CACHED: usize = 4_096;

/// Opens the database, takes its lock, brings its schema up to date and empties its WAL.
///
/// The [`Writer`] does nothing until it is run; until then attempts wait in the queue.
///
/// # Errors
/// [`OpenError`], with what to do about it.
pub async fn open(
    mut options: Options,
    clock: Clock,
    ids: Ids,
    meter: Arc<Meter>,
) -> Result<(Store, Writer), OpenError> {
    options.database = sqlite::open::true_path(&options.database)?;
    let (sender, jobs) = mpsc::channel(options.queue_max);
    let writer_failure = Arc::new(OnceLock::new());
    let (commit, committed) = watch::channel(0);
    let store = Store {
        key: options.key_file(),
        database: options.database.clone(),
        jobs: sender,
        committed,
        readers: sqlite::open::read_pool(&options),
        read_deadline: options.read_deadline,
        versions: Arc::default(),
        refusals: Arc::new(Refusals::new(options.refusals_per_minute)),
        trace_scan_max: options.trace_scan_max,
        clock: clock.clone(),
        groups: Cache::new(GROUPS_CACHED),
        pages: Cache::new(PAGES_CACHED),
        tokens: Cache::new(TOKENS_CACHED),
        temporary_keys: Cache::new(TOKENS_CACHED),
        writer_failure: Arc::clone(&writer_failure),
        warning: Arc::default(),
    };
    let shared = writer::Shared {
        meter,
        versions: Arc::clone(&store.versions),
        refusals: Arc::clone(&store.refusals),
        failure: writer_failure,
        warning: Arc::clone(&store.warning),
        committed: commit,
    };
    let writer = Writer::open(options, jobs, clock, ids, shared).await?;
    Ok((store, writer))
}

impl Store {
    /// Does what `command` asks, and records it, in one transaction. Comes back after the commit.
    ///
    /// Dropping the future does not take back what is already queued.
    ///
    /// # Errors
    /// [`StoreError`]; only `OutcomeUnknown` may have changed something.
    pub async fn apply(&self, permit: Permit, command: Command) -> Result<Change, StoreError> {
        self.apply_once(permit, command, None).await
    }

    /// The same; and when the same request was sent before, `once` says that it was, and its answer comes again.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub async fn apply_once(
        &self,
        permit: Permit,
        command: Command,
        once: Option<Once>,
    ) -> Result<Change, StoreError> {
        check_permit(&permit, Action::of(&command), command.project_id())?;
        let user_id = permit.actor().user_id();
        let applied = self.submit(|answer| Job::Apply { permit, command, once, answer }).await;
        if let (Err(StoreError::TooManyRefusals), Some(user_id)) = (&applied, user_id) {
            self.wait_for_turn(user_id).await;
        }
        applied
    }

    /// Records an attempt without rights. Comes back after the commit.
    ///
    /// # Errors
    /// [`StoreError`], when it could not be recorded.
    pub async fn record(&self, denied: Denied) -> Result<(), StoreError> {
        // Turned away here, so that it does not hold up the writer either.
        let (user_id, now) = (denied.principal.user.user_id, self.clock.now());
        if self.refusals.room(user_id, now) == Some(0) {
            self.refusals.count(user_id, 0, 1, now);
            self.wait_for_turn(user_id).await;
            return Err(StoreError::TooManyRefusals);
        }
        self.submit(|answer| Job::Record { denied, answer }).await
    }

    /// Records how many attempts were turned down and not recorded, one record for each caller; none when there are
    /// none.
    ///
    /// # Errors
    /// [`StoreError`]; what was not recorded waits for the next time.
    pub async fn summarize_refusals(&self, origin: Origin) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut waiting = self.refusals.take(now).into_iter();
        while let Some(next) = waiting.next() {
            let NotRecorded { user_id, count, since } = next;
            let command = Command::SummarizeRefusals { user_id, count, since };
            if let Err(error) = self.apply(policy::permit_summary(origin), command).await {
                for put_back in std::iter::once(next).chain(waiting) {
                    self.refusals.put_back(put_back, now);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Holds back an answer to a caller that was turned down too often.
    async fn wait_for_turn(&self, user_id: UserId) {
        tokio::time::sleep_until(self.refusals.turn(user_id, tokio::time::Instant::now())).await;
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(job(answer)).map_err(|error| {
            StoreError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => Unavailable::QueueFull,
                mpsc::error::TrySendError::Closed(_) => Unavailable::Stopping,
            })
        })?;
        // The writer answers every job it takes; one that it never took is dropped with the queue.
        answered.await.unwrap_or(Err(StoreError::Unavailable(Unavailable::Stopping)))
    }

    /// One group of the permit's project, or `None`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn group(
        &self,
        permit: &Permit,
        group_id: GroupId,
    ) -> Result<Option<Arc<ServerGroup>>, StoreError> {
        let project_id = read_permit(permit, Action::ShowServerGroup)?;
        let read = self.read(async |conn| {
            let group = sqlite::group::group(conn, project_id, group_id).await?;
            Ok(group.map(Arc::new))
        });
        self.groups.get_or_read(self.versions.of(project_id), (project_id, group_id), read).await
    }

    /// The groups of the permit's project in creation order: a page of them, and one more when there are more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn groups(&self, permit: &Permit, page: &Page) -> Result<Arc<[ServerGroup]>, StoreError> {
        let project_id = read_permit(permit, Action::ListServerGroups)?;
        let read = self.read(async |conn| {
            let groups = sqlite::group::groups_of_project(conn, project_id, page).await?;
            Ok(groups.into())
        });
        self.pages.get_or_read(self.versions.of(project_id), (project_id, *page), read).await
    }

    /// How many groups and registered ECSs the permit's project has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn usage(&self, permit: &Permit) -> Result<Usage, StoreError> {
        let project_id = read_permit(permit, Action::ShowServerLimits)?;
        self.read(async |conn| {
            let group_count = sqlite::group::counters(conn, project_id).await?.group_count;
            let server_count = sqlite::server::server_count(conn, project_id).await?;
            Ok(Usage { group_count, server_count })
        })
        .await
    }

    /// One ECS of the permit's project, as far as it is known: registered, or in a group; or `None`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server(
        &self,
        permit: &Permit,
        server_id: ServerId,
    ) -> Result<Option<KnownServer>, StoreError> {
        let project_id = read_permit(permit, Action::ShowServer)?;
        self.read(async |conn| {
            let registered = sqlite::server::servers(conn, project_id, &[server_id]).await?.pop();
            let member_of = sqlite::server::groups_of_servers(conn, project_id, &[server_id]).await?.pop();
            let member_of = member_of.map(|(group_id, _)| group_id);
            let is_known = registered.is_some() || member_of.is_some();
            Ok(is_known.then_some(KnownServer { registered, member_of }))
        })
        .await
    }

    /// What the inventory knows of the permit's project, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn inventory(&self, permit: &Permit) -> Result<Vec<Server>, StoreError> {
        let project_id = read_permit(permit, Action::ListInventory)?;
        self.read(async |conn| sqlite::server::servers_of_project(conn, project_id).await).await
    }

    /// The token that is known by `digest`, expired or not; or `None`. Needs no permit: it is how a caller is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token(&self, digest: SecretDigest) -> Result<Option<Arc<Session>>, StoreError> {
        let read = self.read(async |conn| Ok(sqlite::session::token(conn, digest).await?.map(Arc::new)));
        self.tokens.get_or_read(self.versions.of_tokens(), digest, read).await
    }

    /// The temporary access key, expired or not; or `None`. Needs no permit: it is how a caller is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn temporary_key(
        &self,
        access_key: &AccessKeyId,
    ) -> Result<Option<Arc<TemporaryKey>>, StoreError> {
        let read =
            self.read(async |conn| Ok(sqlite::session::temporary_key(conn, access_key).await?.map(Arc::new)));
        self.temporary_keys.get_or_read(self.versions.of_tokens(), access_key.clone(), read).await
    }

    /// Forgets the tokens and keys that have expired by now, if there are any; without any, nothing is recorded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_expired(&self, origin: Origin, now: Timestamp) -> Result<(), StoreError> {
        if self.read(async |conn| sqlite::session::has_expired(conn, now).await).await? {
            self.apply(policy::permit_purge(origin), Command::PurgeExpired).await?;
        }
        Ok(())
    }

    /// Whether attempts can be answered: the writer lives, and the schema is the one that is known.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn readiness(&self) -> Result<(), String> {
        if let Some(failure) = self.writer_failure.get() {
            return Err(failure.clone());
        }
        if self.jobs.is_closed() {
            return Err("the writer has stopped".to_owned());
        }
        self.read(async |conn| sqlite::open::check_schema(conn).await)
            .await
            .map_err(|error| error.to_string())
    }

    /// What is not as it should be, though attempts are answered: the log has not been signed for a while.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.warning.get()
    }

    /// Why nothing is written, if the writer does not.
    #[must_use]
    pub fn writer_failure(&self) -> Option<&str> {
        self.writer_failure.get().map(String::as_str)
    }

    /// How many records the log has: a new number after each commit that added some.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// The records of all projects after this place, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records_after(
        &self,
        permit: &Permit,
        seq: u64,
        records_max: u32,
    ) -> Result<Vec<LoggedRecord>, StoreError> {
        check_permit(permit, Action::FollowAuditLog, None)?;
        let page = self.read(async |conn| sqlite::trace::records_after(conn, seq, records_max).await).await?;
        Ok(page.into_iter().map(|(seq, bytes)| LoggedRecord::new(seq, bytes)).collect())
    }

    /// The place of the record of this id; `None` when there is none. What was sealed has its place, unseen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn place_of(&self, permit: &Permit, trace_id: TraceId) -> Result<Option<u64>, StoreError> {
        check_permit(permit, Action::FollowAuditLog, None)?;
        let seq = trace_id.seq();
        if (1..=self.sealed_up_to(permit).await?).contains(&seq) {
            return Ok(Some(seq));
        }
        let found = self.read(async |conn| sqlite::trace::record(conn, seq).await).await?;
        let Some((_, bytes)) = found else { return Ok(None) };
        let is_it = LoggedRecord::new(seq, bytes).event()?.trace_id() == Some(trace_id);
        Ok(is_it.then_some(seq))
    }

    /// The last record that was sealed and deleted; 0 when none was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_up_to(&self, permit: &Permit) -> Result<u64, StoreError> {
        check_permit(permit, Action::FollowAuditLog, None)?;
        let log = self.read(async |conn| sqlite::trace::range_of_log(conn).await).await?;
        Ok(log.first - 1)
    }

    /// Makes the key that is to come after the one that the log is signed with: once it is recorded, it signs. It stays
    /// when the record may have been written; else it is to be [forgotten](Self::forget_next_key).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn next_key(&self) -> Result<KeyChange, KeyError> {
        key_file::make_next(&self.database, &self.key)
    }

    /// Removes the next key, which was certainly not recorded.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn forget_next_key(&self) -> Result<(), KeyError> {
        key_file::settle(&self.key, None)
    }

    /// Closes the read connections; the writer closes its own when it stops.
    pub async fn close(&self) {
        self.readers.close().await;
    }

    async fn read<T>(
        &self,
        query: impl AsyncFnOnce(&mut sqlx::SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        within(self.read_deadline, async {
            let mut conn = self.readers.acquire().await?;
            query(&mut conn).await
        })
        .await
    }
}

async fn within<T>(
    deadline: Duration,
    read: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, read).await.unwrap_or(Err(StoreError::Unavailable(Unavailable::Busy)))
}

fn check_permit(permit: &Permit, action: Action, project_id: Option<ProjectId>) -> Result<(), StoreError> {
    if permit.action() == action && permit.project_id() == project_id {
        return Ok(());
    }
    Err(StoreError::WrongPermit { permitted: permit.action(), attempted: action })
}

/// The project that may be read.
fn read_permit(permit: &Permit, action: Action) -> Result<ProjectId, StoreError> {
    check_permit(permit, action, permit.project_id())?;
    permit.project_id().ok_or(StoreError::WrongPermit { permitted: permit.action(), attempted: action })
}
