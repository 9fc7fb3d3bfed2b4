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

mod check;
mod decide;
mod job;
mod notary;
mod rows;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use self::check::{Doubt, Found, Named};
use self::decide::{
    Decided, Decision, Known, Rules, Tail, TurnedDown, check_carried_facts, decide_each, read_answers,
    read_facts,
};
pub(super) use self::job::Job;
use self::job::Taken;
pub use self::notary::CheckpointRules;
use self::notary::Notary;
use self::rows::write_changes;
use crate::access::policy;
use crate::access::principal::Origin;
use crate::audit::note::SigningKey;
use crate::clock::{Clock, Ids};
use crate::domain::command::{Change, Command};
use crate::domain::id::ProjectId;
use crate::domain::rules::{Facts, ProjectFacts};
use crate::meter::Meter;
use crate::store::cache::Versions;
use crate::store::checkpoint_file::CheckpointFile;
use crate::store::key_file::{self, KeyError};
use crate::store::lost::{self, Lost};
use crate::store::refusals::Refusals;
use crate::store::sqlite::audit::{Head, Mark, StoredCheckpoint};
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::open::Migrated;
use crate::store::sqlite::{audit, log, once, open};
use crate::store::{OpenError, Options, StoreError, Unavailable, Warning, backup};

/// How many projects' counters are kept between batches; they are small, and read again when they are needed.
const COUNTERS_KEPT: usize = 4_096;

/// What the operator can do about a log that was cut or changed.
const WHAT_NEXT: &str = "`ecs-groupd audit verify` says more; put the right files back, or start with \
                         --accept-audit-loss, which is recorded";

/// The key that the log is signed with: the one in its file, or at the first start a new one.
fn key(options: &Options, named: Option<&str>) -> Result<SigningKey, KeyError> {
    let path = options.key_file();
    key_file::settle(&path, named)?;
    if let Some(key) = key_file::read(&path)? {
        return Ok(key);
    }
    match named {
        Some(named) if !options.is_loss_accepted => {
            Err(KeyError::Missing { path, signed_with: named.to_owned() })
        }
        // It stays the same log.
        Some(named) => key_file::make(&options.database, &path, named.split('+').next()),
        None => key_file::make(&options.database, &path, None),
    }
}

/// The key that signs from the newest of these marks on, when it is not the one that signs now.
fn next_key(options: &Options, notary: &Notary, marks: &[Mark]) -> Result<Option<SigningKey>, StoreError> {
    let Some((_, public)) = check::newest_key(marks) else { return Ok(None) };
    if public == notary.key().to_string() {
        return Ok(None);
    }
    let path = key_file::next_path(&options.key_file());
    let next = key_file::read(&path).map_err(|error| StoreError::Database(error.to_string()))?;
    let next = next.filter(|next| key_file::public(next) == public);
    let missing = || StoreError::Database(format!("{} does not hold the key {public}", path.display()));
    next.map(Some).ok_or_else(missing)
}

/// What happened to the database before the service could record it.
struct First {
    /// The key that the log names.
    named: Option<String>,
    migrated: Option<Migrated>,
    loss: Option<Loss>,
}

/// A log that is gone on with.
struct Loss {
    reason: String,
    expected_size: u64,
    /// The marks that its records tell of.
    marks: Vec<Mark>,
}

/// Puts aside what a log that is gone on with loses; says what is to be recorded, and which key the rest of it names.
async fn accept(
    conn: &mut SqliteConnection,
    options: &Options,
    head: &Head,
    Doubt { reason, expected_size, has_rest }: Doubt,
) -> Result<(Loss, Option<String>), OpenError> {
    let size = head.edge.size();
    let mut marks = check::marks(conn, options).await?;
    marks.retain(|mark| mark.seq() <= size);
    let named = match check::newest_key(&marks) {
        // The segments of what was sealed may be elsewhere, and the records changed.
        None => audit::key_at(conn, size).await.map_err(OpenError::Damaged)?,
        named => named,
    };
    let reason = if has_rest {
        let Lost { file, sha256 } = lost::put_aside(conn, &options.database, size).await?;
        let file = file.file_name().unwrap_or_default().display();
        format!("{reason}; what stood behind record {size} is in {file}, SHA-256 {sha256}")
    } else {
        reason
    };
    Ok((Loss { reason, expected_size, marks }, named.map(|(_, key)| key)))
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
    notary: Notary,
    /// The log is not the one that was left: nothing is written.
    is_in_doubt: bool,
    /// With the first batch, what stands behind the head goes, and the marks are these.
    cut: Option<Vec<Mark>>,
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
    pub(super) warning: Arc<Warning>,
    /// How many records the log has.
    pub(super) committed: watch::Sender<u64>,
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
        if let Some(backup) = &options.restore_from {
            backup::put_in_place(&options.database, backup).await?;
        }
        let mut conn = open::first_connection(&options).await?;
        let migrated = open::untold_migration(&mut conn).await?;
        let named = Named::read(&mut conn, &options).await?;
        let key = key(&options, named.public())?;
        let file = CheckpointFile::of(&options.database);
        let Found { head, newest, mut unpublished, doubt } =
            check::look(&mut conn, &file, &key, &named).await?;
        let first = match doubt {
            None => {
                let named = named.key.map(|(_, key)| key);
                Some(First { named, migrated, loss: None })
            }
            Some(doubt) if options.is_loss_accepted => {
                let (loss, named) = accept(&mut conn, &options, &head, doubt).await?;
                Some(First { named, migrated, loss: Some(loss) })
            }
            Some(Doubt { reason, .. }) => {
                tracing::error!(reason, "nothing is written: the audit log was cut or changed; {WHAT_NEXT}");
                shared
                    .failure
                    .get_or_init(|| format!("the audit log was cut or changed: {reason}; {WHAT_NEXT}"));
                None
            }
        };
        if unpublished.len() > 1 {
            let (file_name, missing) = (file.path().display(), unpublished.len());
            tracing::warn!(%file_name, missing, "the file of checkpoints is an older copy, and is caught up with");
            let io = |source| OpenError::Io { path: file.path().to_owned(), source };
            file.append(&std::mem::take(&mut unpublished)).map_err(io)?;
        }
        let anchor = Some(open::anchor(&options.database).await?);
        // Also of a log in doubt, all is read that is there.
        let last = log::newest_seq(&mut conn).await.map_err(OpenError::Damaged)?;
        shared.committed.send_replace(head.edge.size().max(u64::try_from(last).unwrap_or_default()));
        let mut writer = Self {
            notary: Notary::new(
                key,
                file,
                options.checkpoints,
                newest,
                unpublished.pop(),
                Arc::clone(&shared.warning),
            ),
            is_in_doubt: first.is_none(),
            cut: None,
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
        };
        // Before there is another: the next start looks for the newest two alone.
        writer.notary.publish();
        if let Some(first) = first {
            writer.write_first(first).await?;
        }
        Ok(writer)
    }

    /// Records what happened to the database before the service could.
    async fn write_first(&mut self, First { named, migrated, loss }: First) -> Result<(), OpenError> {
        let origin = Origin { request_id: self.ids.request_id(), source_ip: None, door: "service" };
        let mut jobs = Vec::new();
        if let Some(Loss { reason, expected_size, marks }) = loss {
            tracing::warn!(reason, "the audit log was cut or changed, and is gone on with");
            let found_size = self.head.edge.size();
            let command = Command::AcceptAuditLoss { reason, expected_size, found_size };
            jobs.push(Job::unanswered(policy::permit_loss(origin), command));
            self.cut = Some(marks);
        }
        let key = self.notary.key().to_string();
        if named.as_ref() != Some(&key) {
            let command = Command::ChangeCheckpointKey { old: named, new: key, signed: None };
            jobs.push(Job::unanswered(policy::permit_first_key(origin), command));
        }
        if let Some(Migrated { from, to }) = migrated {
            let command = Command::MigrateDatabase { from, to };
            jobs.push(Job::unanswered(policy::permit_migration(origin), command));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let (size, new) = (self.head.edge.size(), jobs.len() as u64);
        self.batch(Taken { jobs }).await.map_err(|WriterFailed(error)| OpenError::Disk(error))?;
        if self.head.edge.size() == size + new {
            return Ok(());
        }
        Err(OpenError::Database("its first records were not written; why stands above".to_owned()))
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
            let signs_at = self.notary.wakes_at(self.head.edge.size()).filter(|_| !self.is_in_doubt);
            tokio::select! {
                biased;
                () = &mut stop, if !self.jobs.is_closed() => self.jobs.close(),
                _ = checkpoint.tick() => self.shrink_wal().await?,
                () = sleep_until(signs_at.unwrap_or_else(Instant::now)), if signs_at.is_some() => {
                    self.sign().await?;
                }
                count = self.jobs.recv_many(&mut batch, self.options.batch_max) => {
                    if count == 0 { break }
                    self.batch(Taken { jobs: std::mem::take(&mut batch) }).await?;
                }
            }
        }
        self.close().await
    }

    /// Signs what is not signed yet, with no attempt to write.
    async fn sign(&mut self) -> Result<(), WriterFailed> {
        self.notary.publish();
        if self.notary.is_due(self.head.edge.size()) {
            self.batch(Taken { jobs: Vec::new() }).await?;
            self.notary.put_off();
        }
        Ok(())
    }

    /// Carries a batch to one of the ends in the table above.
    async fn batch(&mut self, taken: Taken) -> Result<(), WriterFailed> {
        if self.is_in_doubt {
            taken.answer_all(&StoreError::Unavailable(Unavailable::LogInDoubt));
            return Ok(());
        }
        let failed = match self.attempt(&taken.jobs).await {
            Ok(decisions) => {
                taken.answer_each(decisions);
                self.notary.publish();
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
        if let Some(marks) = &self.cut {
            audit::cut_behind(&mut tx, self.head.edge.size(), marks).await?;
        }
        let known = Known {
            facts: read_facts(&mut tx, jobs, &self.counters).await?,
            answers: read_answers(&mut tx, jobs, self.clock.now()).await?,
        };
        let rules = Rules { limits: self.options.limits, members: self.options.member_rules };
        let refusals = &self.shared.refusals;
        let Decided { decisions, turned_down, to_keep, facts, tail: Tail { head, records, marks } } =
            decide_each(jobs, known, &self.head, &self.clock, &mut self.ids, rules, refusals)?;
        write_changes(&mut tx, &decisions, &facts).await?;
        for kept in &to_keep {
            once::put(&mut tx, kept).await?;
        }
        let record_count = records.len() as u64;
        audit::insert_records(&mut tx, &records).await?;
        audit::put_edge(&mut tx, &head.edge).await?;
        for mark in &marks {
            audit::put_mark(&mut tx, mark).await?;
        }
        let size = head.edge.size();
        // What covers the record of a change of keys is signed by the new one, at once: the old one has agreed, and
        // whoever has it from then on is nobody.
        let next = next_key(&self.options, &self.notary, &marks)?;
        let is_due = if next.is_some() { self.notary.may_sign() } else { self.notary.is_due(size) };
        let note = is_due.then(|| self.notary.sign(&head.edge, next.as_ref()));
        if let Some(note) = &note {
            audit::insert_checkpoint(&mut tx, &head.edge, note).await?;
        }
        if cfg!(debug_assertions) {
            check_carried_facts(&mut tx, jobs, &facts).await?;
        }
        tx.commit().await.map_err(|error| Failed::AtCommit(Fault::of_commit(&error), error.to_string()))?;

        self.head = head;
        self.cut = None;
        if let Some(next) = next {
            self.take_over(next);
        }
        // A checkpoint alone is nothing new to who reads along.
        self.shared.committed.send_if_modified(|known| std::mem::replace(known, size) != size);
        if let Some(note) = note {
            self.notary.committed(size, note);
        }
        for change in decisions.iter().filter_map(Decision::change) {
            self.outdate(change);
        }
        for (user_id, TurnedDown { recorded, not_recorded }) in turned_down {
            self.shared.refusals.count(user_id, recorded, not_recorded, self.clock.now());
        }
        self.keep_counters(facts);
        self.shared.meter.commits.add(u64::from(!jobs.is_empty()));
        self.shared.meter.records.add(record_count);
        Ok(decisions)
    }

    /// Signs with the key that the log names from now on, and puts it in the place of the old one.
    fn take_over(&mut self, next: SigningKey) {
        let (path, public) = (self.options.key_file(), key_file::public(&next));
        self.notary.take_over(next);
        if let Err(error) = key_file::settle(&path, Some(&public)) {
            tracing::warn!(%error, "the next key is put in the old one's place another time");
        }
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
            Change::ProjectReset { project_id } => {
                self.shared.versions.move_on(*project_id);
                self.counters.remove(project_id);
            }
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
            | Change::RefusalsSummarized
            | Change::Noted
            | Change::SchemaTold { .. }
            | Change::CheckpointKeyChanged { .. }
            | Change::SegmentSealed { .. } => {}
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
        // Before a loss is recorded, the head is that of the whole records.
        if self.cut.is_none() {
            self.head = audit::head(&mut conn).await.map_err(OpenError::Damaged)?;
        }
        let named = audit::newest_key(&mut conn).await.map_err(OpenError::Damaged)?;
        if let (Some((seq, key)), None) = (named, &self.cut) {
            // A change of keys may have happened, or its key may not be what it was.
            if let Some(next) = next_key(&self.options, &self.notary, &[Mark::Key { key, seq }])? {
                self.take_over(next);
            }
        }
        let newest = audit::newest_checkpoints(&mut conn).await.map_err(OpenError::Damaged)?;
        self.notary.recall(newest.first().map(StoredCheckpoint::signed));
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

    /// Leaves a signed log, and a database without a WAL, also when the last batch failed.
    async fn close(mut self) -> Result<(), WriterFailed> {
        self.notary.hurry();
        if !self.is_in_doubt {
            self.sign().await?;
        }
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
