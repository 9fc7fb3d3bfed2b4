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

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::access::policy::{Denied, Permit};
use crate::audit::encode;
use crate::audit::record::{Place, Record, TraceId};
use crate::audit::tree;
use crate::clock::{Clock, Ids};
use crate::domain::command::{Change, Command};
use crate::domain::group::ServerGroup;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::refusal::Refusal;
use crate::domain::rules::{self, Facts, Limits, ProjectFacts, Stamp};
use crate::domain::time::Timestamp;
use crate::meter::Meter;
use crate::store::cache::Versions;
use crate::store::sqlite::audit::{Head, StoredRecord};
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::{audit, group, open};
use crate::store::{OpenError, Options, StoreError, Unavailable};

/// How many projects' counters are kept between batches; they are small, and read again when they are needed.
const COUNTERS_KEPT: usize = 4_096;

/// One attempt that waits to be written, and whom to answer.
#[derive(Debug)]
pub(super) enum Job {
    /// A permitted command: decide, change, record.
    Apply { permit: Permit, command: Command, answer: oneshot::Sender<Result<Change, StoreError>> },
    /// An attempt without rights: record.
    Record { denied: Denied, answer: oneshot::Sender<Result<(), StoreError>> },
}

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
    meter: Arc<Meter>,
    versions: Arc<Versions>,
    failure: Arc<OnceLock<String>>,
    _lock: open::Lock,
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

/// Jobs that were taken from the queue. Whoever is not answered, because the writer panicked, is told that nobody
/// knows.
struct Taken {
    jobs: Vec<Job>,
}

impl Taken {
    /// Answers each job with its own decision. Whoever is gone does not hear it; what was committed stays.
    fn answer_each(mut self, decisions: Vec<Result<Change, Refusal>>) {
        let mut decisions = decisions.into_iter();
        for job in self.jobs.drain(..) {
            match job {
                Job::Apply { answer, .. } => {
                    if let Some(decision) = decisions.next() {
                        let _ = answer.send(decision.map_err(StoreError::from));
                    }
                }
                Job::Record { answer, .. } => {
                    let _ = answer.send(Ok(()));
                }
            }
        }
    }

    /// Answers every job with the same error.
    fn answer_all(mut self, error: &StoreError) {
        for job in self.jobs.drain(..) {
            job.fail(error);
        }
    }

    /// Each job as a batch of its own.
    fn one_by_one(mut self) -> Vec<Self> {
        self.jobs.drain(..).map(|job| Self { jobs: vec![job] }).collect()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let unknown = StoreError::OutcomeUnknown("the writer stopped in the middle of it".to_owned());
        for job in self.jobs.drain(..) {
            job.fail(&unknown);
        }
    }
}

impl Job {
    fn fail(self, error: &StoreError) {
        match self {
            Self::Apply { answer, .. } => {
                let _ = answer.send(Err(error.clone()));
            }
            Self::Record { answer, .. } => {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

impl Writer {
    pub(super) async fn open(
        options: Options,
        jobs: mpsc::Receiver<Job>,
        clock: Clock,
        ids: Ids,
        meter: Arc<Meter>,
        versions: Arc<Versions>,
        failure: Arc<OnceLock<String>>,
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
            meter,
            versions,
            failure,
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
    async fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Result<Change, Refusal>>, Failed> {
        let conn = if let Some(conn) = &mut self.conn {
            conn
        } else {
            let conn = self.reopen().await?;
            self.conn.insert(conn)
        };
        let mut tx =
            conn.begin_with("begin immediate").await.map_err(StoreError::from).map_err(Failed::not_begun)?;
        let facts = read_facts(&mut tx, jobs, self.options.limits, &self.counters).await?;
        let Decided { decisions, facts, tail: Tail { head, records } } =
            decide_each(jobs, facts, &self.head, &self.clock, &mut self.ids)?;
        write_changes(&mut tx, &decisions, &facts).await?;
        let record_count = records.len() as u64;
        audit::insert_records(&mut tx, &records).await?;
        audit::put_edge(&mut tx, &head.edge).await?;
        if cfg!(debug_assertions) {
            check_carried_facts(&mut tx, jobs, &facts).await?;
        }
        tx.commit().await.map_err(|error| Failed::AtCommit(Fault::of(&error), error.to_string()))?;

        self.head = head;
        for change in decisions.iter().flatten() {
            if let Some(project_id) = change.project_id() {
                self.versions.move_on(project_id);
            } else {
                self.versions.move_all_on();
                self.counters.clear();
            }
        }
        self.keep_counters(facts);
        self.meter.commits.add(1);
        self.meter.records.add(record_count);
        Ok(decisions)
    }

    /// Keeps what the next batch may need of the projects that this one named.
    fn keep_counters(&mut self, facts: Facts) {
        if self.counters.len() > COUNTERS_KEPT {
            self.counters.clear();
        }
        for (project_id, ProjectFacts { group_count, newest_group_id, .. }) in facts.projects {
            let counters = ProjectFacts { group_count, newest_group_id, groups: HashMap::new() };
            self.counters.insert(project_id, counters);
        }
    }

    /// Forgets the connection, and whatever was read before: a commit that failed may have happened.
    async fn drop_connection(&mut self) {
        self.versions.move_all_on();
        self.counters.clear();
        open::close(self.conn.take()).await;
    }

    /// A new connection, and the head read from it: the last commit may or may not have happened.
    async fn reopen(&mut self) -> Result<SqliteConnection, Failed> {
        let mut conn = open::next_connection(&self.options).await?;
        self.head = audit::head(&mut conn).await.map_err(OpenError::Damaged)?;
        // What recovery brought back may have been read, and kept, without it.
        self.versions.move_all_on();
        Ok(conn)
    }

    /// Cuts the WAL while the service goes on. Only a failing disk is a reason to stop.
    async fn shrink_wal(&mut self) -> Result<(), WriterFailed> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        match open::shrink_wal(conn).await {
            Err(OpenError::Disk(error)) => Err(self.fail(error)),
            Err(error) => {
                tracing::warn!(%error, "the WAL was not emptied");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Leaves a database without a WAL, also when the last batch failed.
    async fn close(mut self) -> Result<(), WriterFailed> {
        open::close(self.anchor.take()).await;
        let emptied = match (&mut self.conn, open::next_connection(&self.options)) {
            (Some(conn), _) => open::empty_wal(conn).await,
            (None, next) => next.await.map(|conn| self.conn = Some(conn)),
        };
        open::close(self.conn.take()).await;
        match emptied {
            Err(OpenError::Disk(error)) => Err(self.fail(error)),
            Err(error) => {
                tracing::warn!(%error, "the WAL was not emptied");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn fail(&self, error: String) -> WriterFailed {
        tracing::error!(error, "the disk fails: the writer stops");
        let failure = WriterFailed(error);
        self.failure.get_or_init(|| failure.to_string());
        failure
    }
}

/// A batch, decided and not yet written.
struct Decided {
    /// One for each [`Job::Apply`], in the order of the jobs.
    decisions: Vec<Result<Change, Refusal>>,
    /// The facts after the last decision.
    facts: Facts,
    /// The end of the log after the last record, and the records up to there.
    tail: Tail,
}

/// The end of the log, growing.
struct Tail {
    head: Head,
    records: Vec<StoredRecord>,
}

impl Tail {
    /// Where the next record will stand.
    fn next_place(&self, now: Timestamp, ids: &mut Ids) -> Place {
        let seq = self.head.edge.size() + 1;
        let trace_id = TraceId::new(seq, ids.bits());
        Place { seq, trace_id, time: now, record_time: now.max(self.head.record_time) }
    }

    /// Puts a record behind the last one.
    fn push(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        let bytes = encode::encode(record).map_err(|error| StoreError::Database(error.to_string()))?;
        let leaf = tree::leaf(&bytes);
        let Place { seq, record_time, .. } = record.place;
        let (project_id, group_id) = (record.project_id, record.group_id());
        self.records.push(StoredRecord { seq, project_id, group_id, record_time, bytes, leaf });
        self.head.edge.push(leaf);
        self.head.record_time = record_time;
        Ok(())
    }
}

/// Decides each job on what the ones before it left, and makes its record.
fn decide_each(
    jobs: &[Job],
    mut facts: Facts,
    head: &Head,
    clock: &Clock,
    ids: &mut Ids,
) -> Result<Decided, StoreError> {
    let mut decisions = Vec::with_capacity(jobs.len());
    let mut tail = Tail { head: head.clone(), records: Vec::with_capacity(jobs.len()) };
    for job in jobs {
        let now = clock.now();
        let place = tail.next_place(now, ids);
        match job {
            Job::Apply { permit, command, .. } => {
                let newest = command.project_id().and_then(|project_id| facts.newest_group_id(project_id));
                let stamp = Stamp { group_id: GroupId::next(newest, now, ids.bits()) };
                let decision = rules::decide(&facts, stamp, command);
                tail.push(&Record::decided(place, permit, command, &decision))?;
                if let Ok(change) = &decision {
                    facts.apply(change);
                }
                decisions.push(decision);
            }
            Job::Record { denied, .. } => tail.push(&Record::denied(place, denied))?,
        }
    }
    Ok(Decided { decisions, facts, tail })
}

/// What the batch's commands are decided on: read, or known from the batch before.
async fn read_facts(
    conn: &mut SqliteConnection,
    jobs: &[Job],
    limits: Limits,
    counters: &HashMap<ProjectId, ProjectFacts>,
) -> Result<Facts, StoreError> {
    let mut group_ids: HashMap<ProjectId, HashSet<GroupId>> = HashMap::new();
    for job in jobs {
        if let Job::Apply { command, .. } = job
            && let Some(project_id) = command.project_id()
        {
            group_ids.entry(project_id).or_default().extend(command.group_id());
        }
    }
    let mut projects = HashMap::with_capacity(group_ids.len());
    for (project_id, group_ids) in group_ids {
        let facts = match counters.get(&project_id) {
            Some(counters) if group_ids.is_empty() => counters.clone(),
            _ => group::project_facts(conn, project_id, &Vec::from_iter(group_ids)).await?,
        };
        projects.insert(project_id, facts);
    }
    Ok(Facts { limits, projects })
}

/// Writes what the decisions changed, and the counters of the projects that they changed it in.
async fn write_changes(
    conn: &mut SqliteConnection,
    decisions: &[Result<Change, Refusal>],
    facts: &Facts,
) -> Result<(), StoreError> {
    let changes: Vec<&Change> = decisions.iter().flatten().collect();
    // A reset wipes what came before it in the batch and not what comes after.
    for run in changes.split_inclusive(|change| matches!(change, Change::DatabaseReset)) {
        write_run(conn, run).await?;
    }
    let touched: HashSet<ProjectId> = changes.iter().filter_map(|change| change.project_id()).collect();
    for project_id in touched {
        let project = facts.projects.get(&project_id);
        if let Some((count, newest)) =
            project.and_then(|facts| Some((facts.group_count, facts.newest_group_id?)))
        {
            group::put_project(conn, project_id, count, newest).await?;
        }
    }
    Ok(())
}

/// Writes changes of which only the last may be a reset. All that is made is written before anything is deleted:
/// ids are made here, so nothing in the batch can have named one before.
async fn write_run(conn: &mut SqliteConnection, run: &[&Change]) -> Result<(), StoreError> {
    let mut created: Vec<(ProjectId, &ServerGroup)> = Vec::new();
    let mut deleted: HashMap<ProjectId, Vec<GroupId>> = HashMap::new();
    let mut is_reset = false;
    for change in run {
        match change {
            Change::GroupCreated { project_id, group } => created.push((*project_id, group)),
            Change::GroupDeleted { project_id, group_id, .. } => {
                deleted.entry(*project_id).or_default().push(*group_id);
            }
            Change::DatabaseReset => is_reset = true,
        }
    }
    group::insert_groups(conn, &created).await?;
    for (project_id, group_ids) in deleted {
        group::delete_groups(conn, project_id, &group_ids).await?;
    }
    if is_reset {
        group::delete_all_groups(conn).await?;
    }
    Ok(())
}

/// In debug builds, every batch of every test checks that the facts it carried are the facts it wrote.
async fn check_carried_facts(
    conn: &mut SqliteConnection,
    jobs: &[Job],
    carried: &Facts,
) -> Result<(), StoreError> {
    let mut read = read_facts(conn, jobs, carried.limits, &HashMap::new()).await?;
    for (project_id, facts) in &mut read.projects {
        let made: Vec<GroupId> = carried
            .projects
            .get(project_id)
            .into_iter()
            .flat_map(|facts| facts.groups.keys().copied())
            .collect();
        facts.groups.extend(group::project_facts(conn, *project_id, &made).await?.groups);
    }
    assert_eq!(&read, carried, "the facts carried over a batch are not those in the database");
    Ok(())
}
