//! The one writer: take what waits, decide each, write it all, commit, answer.
//!
//! Invariant: what is held in memory moves only after the commit, and nobody is answered before it.
//!
//! At three in the morning, these are all the ways a batch can end:
//!
//! | what failed | what is on disk | what is answered | what the writer does next |
//! |---|---|---|---|
//! | nothing | the batch | each its own decision | the next batch |
//! | before COMMIT: disk full, busy, no connection | nothing | the same error to all | a new connection, the next batch |
//! | before COMMIT: anything else | nothing | each is run again alone, so that only the culprit gets the error | a new connection |
//! | COMMIT: disk full | nothing: SQLite rolled back by itself | 503 to all | a new connection, the next batch |
//! | COMMIT: otherwise | not known | "outcome unknown" to all, nothing is run again | a new connection |
//! | an I/O error, wherever; a damaged log | not known, if at COMMIT | 503 before COMMIT, "outcome unknown" at it | stops; the process exits and starts anew |
//! | the writer itself: it panicked | not known | "outcome unknown" to all | nothing; the process exits |
//!
//! A new connection after every failure, since `sqlx` 0.9 goes on counting a transaction that SQLite has already
//! rolled back, and then refuses every later BEGIN on that connection.

mod decide;
mod job;
mod rows;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use self::decide::{
    Decided, Decision, Known, Rules, Tail, TurnedDown, check_carried_facts, decide_each, read_answers,
    read_facts,
};
pub(super) use self::job::Job;
use self::job::Taken;
use self::rows::write_changes;
use crate::clock::{Clock, Ids};
use crate::domain::command::Change;
use crate::domain::id::ProjectId;
use crate::domain::rules::{Facts, ProjectFacts};
use crate::meter::Meter;
use crate::store::cache::Versions;
use crate::store::refusals::Refusals;
use crate::store::sqlite::audit::Head;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::{audit, once, open};
use crate::store::{OpenError, Options, StoreError, Unavailable};

/// How many projects' counters are kept between batches; they are small, and read again when they are needed.
const COUNTERS_KEPT: usize = 4_096;

/// The task that changes the database. There is one in a process, and one process with a database.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    jobs: mpsc::Receiver<Job>,
    /// `None` after a failure, until a new one is open.
    conn: Option<SqliteConnection>,
    /// See [`open::anchor`]; `None` only while stopping.
    anchor: Option<SqliteConnection>,
    head: Head,
    /// The counters of the projects that were written lately, so that a create need not read them.
    counters: HashMap<ProjectId, ProjectFacts>,
    clock: Clock,
    ids: Ids,
    shared: Shared,
    _lock: open::Lock,
}

/// What the writer tells the others.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) meter: Arc<Meter>,
    pub(super) versions: Arc<Versions>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) failure: Arc<OnceLock<String>>,
}

/// The writer has stopped, because the disk fails. The process should exit non-zero and be started anew.
#[derive(Debug, thiserror::Error)]
#[error("the writer stopped: {0}")]
pub struct WriterFailed(String);

/// A batch that did not commit, or may not have.
#[derive(Debug)]
enum Failed {
    /// There is no transaction to write it in; no job is to blame, and certainly nothing happened.
    NotBegun(StoreError),
    /// A statement failed; certainly nothing happened.
    BeforeCommit(StoreError),
    /// COMMIT failed.
    AtCommit(Fault, String),
    /// The disk fails, or the log is damaged; certainly nothing happened, and nothing will.
    Hopeless(String),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Disk(error) => Self::Hopeless(error),
            StoreError::Unavailable(_) => Self::NotBegun(error),
            _ => Self::BeforeCommit(error),
        }
    }
}

impl Failed {
    /// The transaction did not begin, so that no job is to blame.
    fn not_begun(error: StoreError) -> Self {
        match error.into() {
            Self::BeforeCommit(error) => Self::NotBegun(error),
            other => other,
        }
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::DiskFull => Self::NotBegun(StoreError::Unavailable(Unavailable::DiskFull)),
            OpenError::Busy => Self::NotBegun(StoreError::Unavailable(Unavailable::Busy)),
            OpenError::Disk(error) => Self::Hopeless(error),
            OpenError::Damaged(_) => Self::Hopeless(error.to_string()),
            other => Self::NotBegun(StoreError::Database(other.to_string())),
        }
    }
}

impl Writer {
    pub(super) async fn open(
        options: Options,
        jobs: mpsc::Receiver<Job>,
        clock: Clock,
        ids: Ids,
        shared: Shared,
    ) -> Result<Self, OpenError> {
        let lock = open::Lock::take(&options.database)?;
        let mut conn = open::first_connection(&options).await?;
        let head = audit::head(&mut conn).await.map_err(OpenError::Damaged)?;
        let anchor = Some(open::anchor(&options.database).await?);
        Ok(Self {
            options,
            jobs,
            conn: Some(conn),
            anchor,
            head,
            counters: HashMap::new(),
            clock,
            ids,
            shared,
            _lock: lock,
        })
    }

    /// Applies what comes, until `stop`; then what is still queued, and empties the WAL.
    ///
    /// There is no timer: an idle writer commits an attempt at once, and what comes while it commits is the next
    /// batch.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), WriterFailed> {
        let mut stop = pin!(stop);
        let mut batch = Vec::new();
        let mut checkpoint = tokio::time::interval(self.options.checkpoint_every);
        checkpoint.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        checkpoint.reset();
        loop {
            tokio::select! {
                biased;
                () = &mut stop, if !self.jobs.is_closed() => self.jobs.close(),
                _ = checkpoint.tick() => self.shrink_wal().await?,
                count = self.jobs.recv_many(&mut batch, self.options.batch_max) => {
                    if count == 0 { break }
                    self.batch(Taken { jobs: std::mem::take(&mut batch) }).await?;
                }
            }
        }
        self.close().await
    }

    /// Carries a batch to one of the ends in the table above.
    async fn batch(&mut self, taken: Taken) -> Result<(), WriterFailed> {
        let failed = match self.attempt(&taken.jobs).await {
            Ok(decisions) => {
                taken.answer_each(decisions);
                return Ok(());
            }
            Err(failed) => failed,
        };
        self.drop_connection().await;
        let jobs = taken.jobs.len();
        match failed {
            Failed::Hopeless(error) => {
                taken.answer_all(&StoreError::Disk(error.clone()));
                Err(self.fail(error))
            }
            Failed::BeforeCommit(error) if jobs > 1 => {
                tracing::warn!(%error, jobs, "a batch failed; each attempt is run alone");
                for alone in taken.one_by_one() {
                    Box::pin(self.batch(alone)).await?;
                }
                Ok(())
            }
            Failed::NotBegun(error) | Failed::BeforeCommit(error) => {
                tracing::warn!(%error, jobs, "a batch was not written");
                taken.answer_all(&error);
                Ok(())
            }
            Failed::AtCommit(Fault::Full, error) => {
                tracing::warn!(error, jobs, "a batch was not written: COMMIT failed");
                taken.answer_all(&StoreError::Unavailable(Unavailable::DiskFull));
                Ok(())
            }
            Failed::AtCommit(fault, error) => {
                tracing::error!(error, jobs, "a commit failed: its outcome is not known");
                taken.answer_all(&StoreError::OutcomeUnknown(error.clone()));
                if fault == Fault::Io { Err(self.fail(error)) } else { Ok(()) }
            }
        }
    }

    /// One transaction: facts, decisions, changes, records, the tree's edge, COMMIT.
    async fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Decision>, Failed> {
        let conn = if let Some(conn) = &mut self.conn {
            conn
        } else {
            let conn = self.reopen().await?;
            self.conn.insert(conn)
        };
        let mut tx =
            conn.begin_with("begin immediate").await.map_err(StoreError::from).map_err(Failed::not_begun)?;
        let known = Known {
            facts: read_facts(&mut tx, jobs, &self.counters).await?,
            answers: read_answers(&mut tx, jobs, self.clock.now()).await?,
        };
        let rules = Rules { limits: self.options.limits, members: self.options.member_rules };
        let refusals = &self.shared.refusals;
        let Decided { decisions, turned_down, to_keep, facts, tail: Tail { head, records } } =
            decide_each(jobs, known, &self.head, &self.clock, &mut self.ids, rules, refusals)?;
        write_changes(&mut tx, &decisions, &facts).await?;
        for kept in &to_keep {
            once::put(&mut tx, kept).await?;
        }
        let record_count = records.len() as u64;
        audit::insert_records(&mut tx, &records).await?;
        audit::put_edge(&mut tx, &head.edge).await?;
        if cfg!(debug_assertions) {
            check_carried_facts(&mut tx, jobs, &facts).await?;
        }
        tx.commit().await.map_err(|error| Failed::AtCommit(Fault::of_commit(&error), error.to_string()))?;

        self.head = head;
        for change in decisions.iter().filter_map(Decision::change) {
            self.outdate(change);
        }
        for (user_id, TurnedDown { recorded, not_recorded }) in turned_down {
            self.shared.refusals.count(user_id, recorded, not_recorded, self.clock.now());
        }
        self.keep_counters(facts);
        self.shared.meter.commits.add(1);
        self.shared.meter.records.add(record_count);
        Ok(decisions)
    }

    /// What was read before a change is good no longer.
    fn outdate(&mut self, change: &Change) {
        match change {
            Change::GroupCreated { project_id, .. }
            | Change::GroupDeleted { project_id, .. }
            | Change::MemberAdded { project_id, .. }
            | Change::MemberRemoved { project_id, .. }
            | Change::ServerRegistered { project_id, .. }
            | Change::ServerUnregistered { project_id, .. } => self.shared.versions.move_on(*project_id),
            Change::DatabaseReset => {
                self.shared.versions.move_all_on();
                self.counters.clear();
            }
            Change::TokenRevoked { .. } | Change::ExpiredPurged { .. } => {
                self.shared.versions.move_tokens_on();
            }
            Change::MemberKept { .. }
            | Change::TokenIssued(_)
            | Change::TemporaryKeyIssued(_)
            | Change::IdentitiesReloaded
            | Change::RefusalsSummarized => {}
        }
    }

    /// Keeps what the next batch may need of the projects that this one named.
    fn keep_counters(&mut self, facts: Facts) {
        if self.counters.len() > COUNTERS_KEPT {
            self.counters.clear();
        }
        for (project_id, ProjectFacts { group_count, newest_group_id, .. }) in facts.projects {
            let counters = ProjectFacts { group_count, newest_group_id, ..ProjectFacts::default() };
            self.counters.insert(project_id, counters);
        }
    }

    /// Forgets the connection, and whatever was read before: a commit that failed may have happened.
    async fn drop_connection(&mut self) {
        self.shared.versions.move_all_on();
        self.counters.clear();
        open::close(self.conn.take()).await;
    }

    /// A new connection, and the head read from it: the last commit may or may not have happened.
    async fn reopen(&mut self) -> Result<SqliteConnection, Failed> {
        let mut conn = open::next_connection(&self.options).await?;
        self.head = audit::head(&mut conn).await.map_err(OpenError::Damaged)?;
        // What recovery brought back may have been read, and kept, without it.
        self.shared.versions.move_all_on();
        Ok(conn)
    }

    /// Cuts the WAL while the service goes on.
    async fn shrink_wal(&mut self) -> Result<(), WriterFailed> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let emptied = open::shrink_wal(conn).await;
        self.bear(emptied)
    }

    /// Leaves a database without a WAL, also when the last batch failed.
    async fn close(mut self) -> Result<(), WriterFailed> {
        open::close(self.anchor.take()).await;
        let emptied = if let Some(conn) = &mut self.conn {
            open::empty_wal(conn).await
        } else {
            open::next_connection(&self.options).await.map(|conn| self.conn = Some(conn))
        };
        open::close(self.conn.take()).await;
        self.bear(emptied)
    }

    /// A WAL that was not emptied is a reason to stop only when the disk fails.
    fn bear(&self, emptied: Result<(), OpenError>) -> Result<(), WriterFailed> {
        match emptied {
            Err(OpenError::Disk(error)) => return Err(self.fail(error)),
            Err(error) => tracing::warn!(%error, "the WAL was not emptied"),
            Ok(()) => {}
        }
        Ok(())
    }

    fn fail(&self, error: String) -> WriterFailed {
        tracing::error!(error, "the disk fails: the writer stops");
        let failure = WriterFailed(error);
        self.shared.failure.get_or_init(|| failure.to_string());
        failure
    }
}
