//! From jobs to decisions and records: facts read once a batch, then carried from job to job.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::SqliteConnection;

use super::job::Job;
use crate::access::principal::Actor;
use crate::audit::encode;
use crate::audit::record::{Place, Record, TraceId};
use crate::audit::tree;
use crate::clock::{Clock, Ids};
use crate::domain::command::Change;
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::domain::refusal::Refusal;
use crate::domain::rules::{self, Facts, GroupFacts, Limits, MemberRules, ProjectFacts, Stamp};
use crate::domain::session::SecretDigest;
use crate::domain::time::Timestamp;
use crate::store::refusals::Refusals;
use crate::store::sqlite::audit::{Head, Mark, StoredRecord};
use crate::store::sqlite::once::{self, Kept};
use crate::store::sqlite::{group, server, session};
use crate::store::{Once, StoreError};

/// How long an answer is kept for its key: 24 hours.
const KEY_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;

/// The answers that are kept for the keys of the batch, and have not expired.
pub(super) async fn read_answers(
    conn: &mut SqliteConnection,
    jobs: &[Job],
    now: Timestamp,
) -> Result<HashMap<SecretDigest, Kept>, StoreError> {
    let mut answers = HashMap::new();
    for job in jobs {
        if let Job::Apply { command, once: Some(Once { digest, .. }), .. } = job
            && let Some(project_id) = command.project_id()
            && let Some(kept) = once::kept(conn, *digest, project_id).await?
            && kept.expires_at > now
        {
            answers.insert(*digest, kept);
        }
    }
    Ok(answers)
}

/// The rules that are settings.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) members: MemberRules,
}

/// A batch, decided and not yet written.
pub(super) struct Decided {
    /// One for each job.
    pub(super) decisions: Vec<Decision>,
    /// What each caller was turned down for.
    pub(super) turned_down: HashMap<UserId, TurnedDown>,
    /// Answers to be kept for the keys that they were asked for with.
    pub(super) to_keep: Vec<Kept>,
    /// The facts after the last decision.
    pub(super) facts: Facts,
    /// The end of the log after the last record, and the records up to there.
    pub(super) tail: Tail,
}

/// What a batch is decided on.
pub(super) struct Known {
    pub(super) facts: Facts,
    /// The answers that are kept for the keys of the batch, and have not expired.
    pub(super) answers: HashMap<SecretDigest, Kept>,
}

/// What became of a job.
pub(super) enum Decision {
    /// A command was decided, and its decision recorded.
    Command(Result<Change, Refusal>),
    /// The same request was decided before; this is what was answered then. Nothing is done or recorded again.
    Again(Result<Change, Refusal>),
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
            Self::Command(Err(_)) | Self::Again(_) | Self::Denied | Self::NotRecorded => None,
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
    let Some(user_id) = actor.user_id() else { return true };
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
    /// What is looked up by the place that its record has.
    pub(super) marks: Vec<Mark>,
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
    Known { mut facts, mut answers }: Known,
    head: &Head,
    clock: &Clock,
    ids: &mut Ids,
    rules: Rules,
    refusals: &Refusals,
) -> Result<Decided, StoreError> {
    let mut decisions = Vec::with_capacity(jobs.len());
    let mut turned_down = HashMap::new();
    let mut to_keep = Vec::new();
    let mut tail = Tail { head: head.clone(), records: Vec::with_capacity(jobs.len()), marks: Vec::new() };
    for job in jobs {
        let now = clock.now();
        let place = tail.next_place(now, ids);
        match job {
            Job::Apply { permit, command, once, .. } => {
                let before = once.and_then(|once| answers.get(&once.digest).map(|kept| (once, kept)));
                let is_same = before.map(|(once, kept)| once.body_digest == kept.body_digest);
                if let (Some(true), Some((_, kept))) = (is_same, before) {
                    decisions.push(Decision::Again(kept.outcome.clone()));
                    continue;
                }
                let newest = command.project_id().and_then(|project_id| facts.newest_group_id(project_id));
                let stamp = Stamp {
                    group_id: GroupId::next(newest, now, ids.bits()),
                    now,
                    limits: permit.quota().or(rules.limits),
                    member_rules: rules.members,
                };
                let decision = match is_same {
                    Some(false) => Err(Refusal::KeyReused),
                    _ => rules::decide(&facts, stamp, command),
                };
                if decision.is_err() && !may_be_recorded(permit.actor(), &mut turned_down, refusals, now) {
                    decisions.push(Decision::NotRecorded);
                    continue;
                }
                tail.push(&Record::decided(place, permit, command, &decision))?;
                if let Ok(change) = &decision {
                    facts.apply(change);
                    if let Some(is_forgotten) = forgets(change) {
                        answers.retain(|_, kept| !is_forgotten(kept));
                        to_keep.retain(|kept| !is_forgotten(kept));
                    }
                    tail.marks.extend(Mark::of(change, place.seq));
                }
                if let (Some(Once { digest, body_digest }), None, Some(project_id)) =
                    (*once, is_same, command.project_id())
                {
                    let expires_at = now.plus_millis(KEY_LIFETIME_MS);
                    let kept =
                        Kept { digest, project_id, body_digest, outcome: decision.clone(), expires_at };
                    answers.insert(digest, kept.clone());
                    to_keep.push(kept);
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
    Ok(Decided { decisions, turned_down, to_keep, facts, tail })
}

/// Which answers a reset forgets, since what they name is gone.
fn forgets(change: &Change) -> Option<impl Fn(&Kept) -> bool> {
    let only = match change {
        Change::DatabaseReset => None,
        Change::ProjectReset { project_id } => Some(*project_id),
        _ => return None,
    };
    Some(move |kept: &Kept| only.is_none_or(|project_id| kept.project_id == project_id))
}

/// The groups and ECSs that a batch names in one project.
#[derive(Default)]
struct Named {
    group_ids: HashSet<GroupId>,
    server_ids: HashSet<ServerId>,
}

/// What the batch's commands are decided on: read, or known from the batch before.
pub(super) async fn read_facts(
    conn: &mut SqliteConnection,
    jobs: &[Job],
    counters: &HashMap<ProjectId, ProjectFacts>,
) -> Result<Facts, StoreError> {
    let mut named: HashMap<ProjectId, Named> = HashMap::new();
    let mut digests = HashSet::new();
    for job in jobs {
        let Job::Apply { command, .. } = job else { continue };
        if let Some(project_id) = command.project_id() {
            let named = named.entry(project_id).or_default();
            named.group_ids.extend(command.group_id());
            named.server_ids.extend(command.server_id());
        }
        digests.extend(command.token());
    }
    let mut projects = HashMap::with_capacity(named.len());
    for (project_id, named) in named {
        let known = counters.get(&project_id).cloned();
        projects.insert(project_id, project_facts(conn, project_id, named, known).await?);
    }
    let tokens = read_tokens(conn, digests).await?;
    Ok(Facts { projects, tokens })
}

/// What must be known of one project, on top of its counters.
async fn project_facts(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    Named { mut group_ids, mut server_ids }: Named,
    counters: Option<ProjectFacts>,
) -> Result<ProjectFacts, StoreError> {
    let mut facts = match counters {
        Some(counters) => counters,
        None => group::counters(conn, project_id).await?,
    };
    if !server_ids.is_empty() {
        let ids: Vec<_> = server_ids.iter().copied().collect();
        // The group that an ECS is in is needed too: the ECS may move to the host of another member.
        let found = server::groups_of_servers(conn, project_id, &ids).await?;
        group_ids.extend(found.into_iter().map(|(group_id, _)| group_id));
    }
    if !group_ids.is_empty() {
        let ids = Vec::from_iter(group_ids);
        for (group_id, name) in group::names_of_groups(conn, project_id, &ids).await? {
            facts.groups.insert(group_id, GroupFacts { name, members: BTreeSet::new() });
        }
        for (group_id, server_id) in server::members_of_groups(conn, project_id, &ids).await? {
            facts.servers.entry(server_id).or_default().member_of = Some(group_id);
            if let Some(group) = facts.groups.get_mut(&group_id) {
                group.members.insert(server_id);
            }
            server_ids.insert(server_id);
        }
    }
    if !server_ids.is_empty() {
        let ids = Vec::from_iter(server_ids);
        for server in server::servers(conn, project_id, &ids).await? {
            let server_id = server.server_id;
            facts.servers.entry(server_id).or_default().registered = Some(server);
        }
        for server_id in ids {
            facts.servers.entry(server_id).or_default();
        }
    }
    Ok(facts)
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
    let mut read = read_facts(conn, jobs, &HashMap::new()).await?;
    for (project_id, facts) in &carried.projects {
        let named = Named {
            group_ids: facts.groups.keys().copied().collect(),
            server_ids: facts.servers.keys().copied().collect(),
        };
        read.projects.insert(*project_id, project_facts(conn, *project_id, named, None).await?);
    }
    read.tokens.extend(read_tokens(conn, carried.tokens.keys().copied().collect()).await?);
    assert_eq!(&read, carried, "the facts carried over a batch are not those in the database");
    Ok(())
}
