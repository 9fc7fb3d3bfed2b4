//! From jobs to decisions and records: facts read once a batch, then carried from job to job.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::job::Job;
use crate::access::principal::Actor;
use crate::audit::encode;
use crate::audit::record::{Place, Record, TraceId};
use crate::audit::tree;
use crate::clock::{Clock, Ids};
use crate::domain::command::Change;
use crate::domain::id::{GroupId, ProjectId, UserId};
use crate::domain::refusal::Refusal;
use crate::domain::rules::{self, Facts, Limits, ProjectFacts, Stamp};
use crate::domain::session::SecretDigest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::refusals::Refusals;
use crate::store::sqlite::audit::{Head, StoredRecord};
use crate::store::sqlite::{group, session};

/// A batch, decided and not yet written.
pub(super) struct Decided {
    /// One for each job.
    pub(super) decisions: Vec<Decision>,
    /// What each caller was turned down for.
    pub(super) turned_down: HashMap<UserId, TurnedDown>,
    /// The facts after the last decision.
    pub(super) facts: Facts,
    /// The end of the log after the last record, and the records up to there.
    pub(super) tail: Tail,
}

/// What became of a job.
pub(super) enum Decision {
    /// A command was decided, and its decision recorded.
    Command(Result<Change, Refusal>),
    /// An attempt without rights was recorded.
    Denied,
    /// It was turned down, and too many were already: it is only counted.
    NotRecorded,
}

impl Decision {
    /// What it changed.
    pub(super) const fn change(&self) -> Option<&Change> {
        match self {
            Self::Command(Ok(change)) => Some(change),
            Self::Command(Err(_)) | Self::Denied | Self::NotRecorded => None,
        }
    }
}

/// How often a caller was turned down in one batch.
#[derive(Clone, Copy, Default)]
pub(super) struct TurnedDown {
    pub(super) recorded: u32,
    pub(super) not_recorded: u64,
}

/// Whether another attempt that was turned down may be recorded; counts it either way.
fn may_be_recorded(
    actor: &Actor,
    turned_down: &mut HashMap<UserId, TurnedDown>,
    refusals: &Refusals,
    now: Timestamp,
) -> bool {
    let Actor::User(who) = actor else { return true };
    let user_id = who.user.user_id;
    let Some(room) = refusals.room(user_id, now) else { return true };
    let counted = turned_down.entry(user_id).or_default();
    if counted.recorded < room {
        counted.recorded += 1;
        return true;
    }
    counted.not_recorded += 1;
    false
}

/// The end of the log, growing.
pub(super) struct Tail {
    pub(super) head: Head,
    pub(super) records: Vec<StoredRecord>,
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
pub(super) fn decide_each(
    jobs: &[Job],
    mut facts: Facts,
    head: &Head,
    clock: &Clock,
    ids: &mut Ids,
    refusals: &Refusals,
) -> Result<Decided, StoreError> {
    let mut decisions = Vec::with_capacity(jobs.len());
    let mut turned_down = HashMap::new();
    let mut tail = Tail { head: head.clone(), records: Vec::with_capacity(jobs.len()) };
    for job in jobs {
        let now = clock.now();
        let place = tail.next_place(now, ids);
        match job {
            Job::Apply { permit, command, .. } => {
                let newest = command.project_id().and_then(|project_id| facts.newest_group_id(project_id));
                let stamp = Stamp { group_id: GroupId::next(newest, now, ids.bits()), now };
                let decision = rules::decide(&facts, stamp, command);
                if decision.is_err() && !may_be_recorded(permit.actor(), &mut turned_down, refusals, now) {
                    decisions.push(Decision::NotRecorded);
                    continue;
                }
                tail.push(&Record::decided(place, permit, command, &decision))?;
                if let Ok(change) = &decision {
                    facts.apply(change);
                }
                decisions.push(Decision::Command(decision));
            }
            Job::Record { denied, .. } => {
                let actor = Actor::User(denied.principal.clone());
                if may_be_recorded(&actor, &mut turned_down, refusals, now) {
                    tail.push(&Record::denied(place, denied))?;
                    decisions.push(Decision::Denied);
                } else {
                    decisions.push(Decision::NotRecorded);
                }
            }
        }
    }
    Ok(Decided { decisions, turned_down, facts, tail })
}

/// What the batch's commands are decided on: read, or known from the batch before.
pub(super) async fn read_facts(
    conn: &mut SqliteConnection,
    jobs: &[Job],
    limits: Limits,
    counters: &HashMap<ProjectId, ProjectFacts>,
) -> Result<Facts, StoreError> {
    let mut group_ids: HashMap<ProjectId, HashSet<GroupId>> = HashMap::new();
    let mut digests = HashSet::new();
    for job in jobs {
        let Job::Apply { command, .. } = job else { continue };
        if let Some(project_id) = command.project_id() {
            group_ids.entry(project_id).or_default().extend(command.group_id());
        }
        digests.extend(command.token());
    }
    let mut projects = HashMap::with_capacity(group_ids.len());
    for (project_id, group_ids) in group_ids {
        let facts = match counters.get(&project_id) {
            Some(counters) if group_ids.is_empty() => counters.clone(),
            _ => group::project_facts(conn, project_id, &Vec::from_iter(group_ids)).await?,
        };
        projects.insert(project_id, facts);
    }
    let tokens = read_tokens(conn, digests).await?;
    Ok(Facts { limits, projects, tokens })
}

/// When those of the tokens expire that exist.
async fn read_tokens(
    conn: &mut SqliteConnection,
    digests: HashSet<SecretDigest>,
) -> Result<HashMap<SecretDigest, Timestamp>, StoreError> {
    let mut tokens = HashMap::new();
    for digest in digests {
        if let Some(token) = session::token(conn, digest).await? {
            tokens.insert(digest, token.expires_at);
        }
    }
    Ok(tokens)
}

/// In debug builds, every batch of every test checks that the facts it carried are the facts it wrote.
pub(super) async fn check_carried_facts(
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
    read.tokens.extend(read_tokens(conn, carried.tokens.keys().copied().collect()).await?);
    assert_eq!(&read, carried, "the facts carried over a batch are not those in the database");
    Ok(())
}
