//! What one writer carries from batch to batch, and what becomes of a batch that fails.
//!
//! (`one_batch.rs` has what happens inside a single one.)

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::{self, Permit};
use ecs_groupd::access::principal::{Origin, Principal, Project};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::{Change, Command};
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::{GroupId, ProjectId, RequestId};
use ecs_groupd::domain::refusal::Refusal;
use ecs_groupd::domain::rules::{Limits, MemberRules, Quota};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::Identities;
use ecs_groupd::identities::dev::DevSecrets;
use ecs_groupd::meter::Meter;
use ecs_groupd::store::{self, Options, Store, StoreError, Unavailable, Writer};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::harness::{NOW, records, store_options};
use crate::one_batch::check_tree;

pub const BATCH_MAX: usize = 256;
/// As long as nobody says otherwise, no quota is in the way.
const NO_QUOTA: u32 = 100_000;

/// A store whose every attempt has a request id of its own, counted from 1.
pub struct Bench {
    folder: TempDir,
    store: Arc<Store>,
    meter: Arc<Meter>,
    pub clock: Clock,
    pub attempts: u128,
}

/// An attempt in the queue, and the answer it will get.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>>>>;

/// Opens a new database and runs `work` beside its writer, on one thread: what `work` queues without waiting in
/// between is there all at once when the writer looks, so it is one batch.
pub async fn bench<T>(batch_max: usize, quota: u32, work: impl AsyncFnOnce(&mut Bench) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let (meter, clock) = (Arc::new(Meter::default()), Clock::fixed(NOW));
    let options = Options {
        database: folder.path().join("ecs-groupd.db"),
        size_bytes_max: 0,
        read_connections: 1,
        read_deadline: Duration::from_secs(5),
        queue_max: 10_000,
        batch_max,
        checkpoint_every: Duration::from_hours(1),
        limits: Limits { groups_per_project: quota, members_per_group: 16 },
        member_rules: MemberRules::default(),
        refusals_per_minute: None,
        ..store_options()
    };
    let opened = store::open(options, clock.clone(), Ids::seeded(1), Arc::clone(&meter)).await;
    let (store, writer) = opened.unwrap();
    let mut bench = Bench { folder, store: Arc::new(store), meter, clock, attempts: 0 };
    beside(writer, work(&mut bench)).await
}

/// Runs the writer until `work` is done.
async fn beside<T>(writer: Writer, work: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let work = async {
        let done = work.await;
        drop(stop);
        done
    };
    let (ended, done) = tokio::join!(writer.run(async { drop(stopped.await) }), work);
    ended.unwrap();
    done
}

impl Bench {
    /// Transactions with attempts, but for the one at the opening, which named the key.
    fn commits(&self) -> u64 {
        self.meter.commits.get() - 1
    }

    /// Records, but for that one's.
    fn record_count(&self) -> u64 {
        self.meter.records.get() - 1
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("ecs-groupd.db")
    }

    pub fn origin(&mut self) -> Origin {
        self.attempts += 1;
        Origin {
            request_id: RequestId::from_bytes(self.attempts.to_be_bytes()),
            source_ip: None,
            door: "test",
        }
    }

    pub fn permit(&mut self, who: &Principal, action: Action) -> Permit {
        policy::permit(who, self.origin(), action, who.project_id(), NOW).unwrap()
    }

    pub fn queue(&self, permit: Permit, command: Command) -> Pending<Change> {
        let store = Arc::clone(&self.store);
        queued(async move { store.apply(permit, command).await })
    }

    pub fn create(&mut self, who: &Principal, name: &str) -> Pending<Change> {
        let command = Command::CreateGroup {
            project_id: project(who),
            name: GroupName::try_from(name.to_owned()).unwrap(),
            placement_rule: PlacementRule::AntiAffinity,
            created_by: who.user.user_id,
        };
        let permit = self.permit(who, Action::CreateServerGroup);
        self.queue(permit, command)
    }

    pub fn delete(&mut self, who: &Principal, group_id: GroupId) -> Pending<Change> {
        let permit = self.permit(who, Action::DeleteServerGroup);
        self.queue(permit, Command::DeleteGroup { project_id: project(who), group_id })
    }

    pub fn reset(&mut self) -> Pending<Change> {
        let permit = policy::permit_reset(self.origin());
        self.queue(permit, Command::ResetDatabase)
    }

    /// Queues an attempt to create a group in somebody else's project.
    pub fn trespass(&mut self, who: &Principal, on: &Principal) -> Pending<()> {
        let denied =
            policy::permit(who, self.origin(), Action::CreateServerGroup, on.project_id(), NOW).unwrap_err();
        let store = Arc::clone(&self.store);
        queued(async move { store.record(*denied).await })
    }

    /// The groups in the database, beside the counters that go with them.
    pub fn groups(&self) -> BTreeMap<ProjectId, Vec<GroupId>> {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        let mut select = conn
            .prepare("select project_id, group_id from server_group order by project_id, group_id")
            .unwrap();
        let mut groups: BTreeMap<ProjectId, Vec<GroupId>> = BTreeMap::new();
        let rows = select
            .query_map([], |row| Ok((ProjectId::from_bytes(row.get(0)?), GroupId::from_bytes(row.get(1)?))))
            .unwrap();
        for row in rows {
            let (project_id, group_id) = row.unwrap();
            groups.entry(project_id).or_default().push(group_id);
        }
        let mut select = conn.prepare("select project_id, group_count from project").unwrap();
        let counters = select
            .query_map([], |row| Ok((ProjectId::from_bytes(row.get(0)?), row.get::<_, u32>(1)?)))
            .unwrap();
        for counter in counters {
            let (project_id, group_count): (_, u32) = counter.unwrap();
            assert_eq!(group_count as usize, groups.get(&project_id).map_or(0, Vec::len), "{project_id:?}");
        }
        groups
    }

    /// The records, after a look at the tree over them.
    pub fn records(&self) -> Vec<Value> {
        let records = records(&self.database());
        check_tree(&rusqlite::Connection::open(self.database()).unwrap());
        records
    }

    /// Changes the schema behind the service's back.
    fn meddle(&self, sql: &str) {
        rusqlite::Connection::open(self.database()).unwrap().execute_batch(sql).unwrap();
    }
}

/// Puts an attempt in the queue, which its first poll does. What is turned away has its answer there and then.
fn queued<T: 'static>(attempt: impl Future<Output = Result<T, StoreError>> + 'static) -> Pending<T> {
    let mut attempt = Box::pin(attempt);
    match attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => attempt,
        Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
    }
}

pub fn dev() -> Principal {
    Identities::dev(&DevSecrets::well_known(), true).unwrap().anonymous().unwrap()
}

/// The same user in another project.
pub fn neighbour() -> Principal {
    let dev = dev();
    let (project_id, domain_id) = (ProjectId::from_bytes([7; 16]), dev.user.domain.domain_id);
    Principal {
        project: Some(Arc::new(Project {
            project_id,
            name: "next-door".to_owned(),
            domain_id,
            quota: Quota::default(),
        })),
        ..dev
    }
}

pub fn project(who: &Principal) -> ProjectId {
    who.project_id().unwrap()
}

/// The id of the group that an attempt made.
async fn made(answer: Pending<Change>) -> GroupId {
    match answer.await {
        Ok(Change::GroupCreated { group, .. }) => group.group_id,
        other => panic!("{other:?}"),
    }
}

fn not_found(group_id: GroupId) -> Result<Change, StoreError> {
    Err(StoreError::Refused(Refusal::GroupNotFound { group_id }))
}

/// What a record says came of which request.
pub fn outcome(record: &Value) -> (u128, &str) {
    let request_id = u128::from_str_radix(record["request_id"].as_str().unwrap(), 16).unwrap();
    (request_id, record["outcome"].as_str().unwrap())
}

#[tokio::test]
async fn creates_deletes_a_denial_and_a_reset_in_one_batch_are_decided_and_recorded_in_their_order() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        let (a, b) = (bench.create(&dev(), "a"), bench.create(&dev(), "b"));
        let (a, b) = (made(a).await, made(b).await);

        let delete_a = bench.delete(&dev(), a);
        let delete_a_again = bench.delete(&dev(), a);
        let delete_a_of_neighbour = bench.delete(&neighbour(), b);
        let c = bench.create(&neighbour(), "c");
        let denied = bench.trespass(&dev(), &neighbour());
        let reset = bench.reset();
        let delete_b = bench.delete(&dev(), b);
        let d = bench.create(&dev(), "d");

        assert!(matches!(delete_a.await, Ok(Change::GroupDeleted { group_id, .. }) if group_id == a));
        assert_eq!(delete_a_again.await, not_found(a));
        assert_eq!(delete_a_of_neighbour.await, not_found(b), "another project's group is no group");
        let c = made(c).await;
        assert_eq!(denied.await, Ok(()));
        assert_eq!(reset.await, Ok(Change::DatabaseReset));
        assert_eq!(delete_b.await, not_found(b), "the reset took it");
        let d = made(d).await;

        assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), vec![d])]));
        assert_eq!(bench.commits(), 2);
        let records = bench.records();
        let outcomes: Vec<_> = records.iter().map(outcome).collect();
        let expected =
            ["done", "done", "done", "refused", "refused", "done", "denied", "done", "refused", "done"];
        assert_eq!(outcomes, (1..).zip(expected).collect::<Vec<_>>());
        let about: Vec<_> = records.iter().map(|record| record["resource"]["id"].as_str()).collect();
        let expected = [Some(a), Some(b), Some(a), Some(a), Some(b), Some(c), None, None, Some(b), Some(d)];
        let expected: Vec<_> = expected.iter().map(|id| id.map(|id| id.to_string())).collect();
        assert_eq!(about, expected.iter().map(Option::as_deref).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn more_than_a_batch_holds_is_written_in_several_and_in_the_order_of_the_queue() {
    bench(10, NO_QUOTA, async |bench| {
        let pending: Vec<_> = (0..25).map(|nth| bench.create(&dev(), &format!("group-{nth}"))).collect();
        let mut ids = Vec::new();
        for answer in pending {
            ids.push(made(answer).await);
        }
        assert_eq!(bench.commits(), 3);
        assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), ids)]));
    })
    .await;
}

#[tokio::test]
async fn a_batch_of_any_size_writes_every_row_and_deletes_every_row() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        let mut attempts = 0;
        // On both sides of the rows that one insert takes.
        for size in [1, 2, 63, 64, 65, 127, 128, 129, 255, 256] {
            let pending: Vec<_> = (0..size).map(|_| bench.create(&dev(), "web")).collect();
            let mut ids = Vec::new();
            for answer in pending {
                ids.push(made(answer).await);
            }
            assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), ids.clone())]), "{size}");
            let pending: Vec<_> = ids.iter().map(|id| bench.delete(&dev(), *id)).collect();
            for answer in pending {
                answer.await.unwrap();
            }
            assert_eq!(bench.groups(), BTreeMap::new(), "{size}");
            attempts += 2 * size;
        }
        assert_eq!(bench.records().len(), attempts);
        assert_eq!(bench.commits(), 20);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_the_database_rejects_does_not_hurt_the_others_of_its_batch() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        bench.meddle(
            "create trigger poison before insert on server_group when new.name = 'poison'
             begin select raise(abort, 'poison'); end",
        );
        let before = bench.create(&dev(), "before");
        let poison = bench.create(&dev(), "poison");
        let after = bench.create(&neighbour(), "after");
        let before = made(before).await;
        let Err(StoreError::Database(reason)) = poison.await else { panic!("it was rejected") };
        assert!(reason.contains("poison"), "{reason}");
        let after = made(after).await;
        let kept = BTreeMap::from([(project(&dev()), vec![before]), (project(&neighbour()), vec![after])]);
        assert_eq!(bench.groups(), kept);
        let records = bench.records();
        assert_eq!(records.iter().map(outcome).collect::<Vec<_>>(), [(1, "done"), (3, "done")]);
        assert_eq!(bench.record_count(), 2, "what was rolled back is not counted");
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_fails_is_answered_as_unknown_and_not_run_again_and_the_next_batch_is_written() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        let first = made(bench.create(&dev(), "first")).await;
        // A foreign key that is only checked at COMMIT, so that everything before it goes well.
        bench.meddle(
            "create table parent (id integer primary key);
             create table child (id integer references parent (id) deferrable initially deferred);
             create trigger dangle after insert on server_group when new.name = 'dangling'
             begin insert into child values (1); end",
        );
        let innocent = bench.create(&dev(), "innocent");
        let dangling = bench.create(&dev(), "dangling");
        for answer in [innocent, dangling] {
            let answer = answer.await;
            assert!(matches!(answer, Err(StoreError::OutcomeUnknown(_))), "{answer:?}");
        }
        assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), vec![first])]));
        assert_eq!(bench.store.readiness().await, Ok(()));

        let next = made(bench.create(&dev(), "next")).await;
        assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), vec![first, next])]));
        let records = bench.records();
        assert_eq!(records.iter().map(outcome).collect::<Vec<_>>(), [(1, "done"), (4, "done")]);
    })
    .await;
}

#[tokio::test]
async fn while_somebody_else_writes_an_attempt_is_busy_and_afterwards_the_next_one_is_written() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        let shell = rusqlite::Connection::open(bench.database()).unwrap();
        shell.execute_batch("begin immediate").unwrap();
        let attempts = [bench.create(&dev(), "one"), bench.create(&dev(), "two")];
        for answer in attempts {
            assert_eq!(answer.await, Err(StoreError::Unavailable(Unavailable::Busy)));
        }
        shell.execute_batch("rollback").unwrap();
        let id = made(bench.create(&dev(), "three")).await;
        assert_eq!(bench.groups(), BTreeMap::from([(project(&dev()), vec![id])]));
        assert_eq!(bench.records().iter().map(outcome).collect::<Vec<_>>(), [(3, "done")]);
    })
    .await;
}

#[tokio::test]
async fn a_writer_whose_file_is_gone_makes_no_second_one_to_write_in() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        made(bench.create(&dev(), "web")).await;
        // Any failure makes the writer open the file anew.
        bench.meddle(
            "create trigger poison before insert on server_group when new.name = 'poison'
             begin select raise(abort, 'poison'); end",
        );
        bench.create(&dev(), "poison").await.unwrap_err();
        std::fs::rename(bench.database(), bench.folder.path().join("moved.db")).unwrap();
        let answer = bench.create(&dev(), "lost").await;
        assert!(answer.is_err(), "acknowledged into an empty database: {answer:?}");
        std::fs::rename(bench.folder.path().join("moved.db"), bench.database()).unwrap();
        made(bench.create(&dev(), "kept")).await;
        assert_eq!(bench.groups()[&project(&dev())].len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_record_can_not_be_replaced_by_hand() {
    bench(BATCH_MAX, NO_QUOTA, async |bench| {
        made(bench.create(&dev(), "web")).await;
        let conn = rusqlite::Connection::open(bench.database()).unwrap();
        let columns = "seq, project_id, group_id, record_time, bytes, leaf";
        for verb in ["insert or replace", "replace"] {
            let forged = format!(
                "{verb} into audit_record ({columns})
                 select seq, project_id, group_id, record_time, x'00', leaf from audit_record"
            );
            assert!(conn.execute(&forged, []).is_err(), "{verb} went behind the triggers' back");
        }
        let upsert = format!(
            "insert into audit_record ({columns}) select * from audit_record where true
             on conflict (seq) do update set bytes = x'00'"
        );
        assert!(conn.execute(&upsert, []).is_err());
        bench.records();
    })
    .await;
}

/// One attempt of a random batch.
#[derive(Clone, Debug)]
enum Step {
    Create {
        in_neighbour: bool,
    },
    /// Deletes the nth group that there was when the batch was queued, or one that never was.
    Delete {
        in_neighbour: bool,
        nth: usize,
    },
    Trespass,
    Reset,
}

/// Batches, and where the clock stands while each is written.
fn batches() -> impl Strategy<Value = Vec<(u64, Vec<Step>)>> {
    let step = prop_oneof![
        24 => any::<bool>().prop_map(|in_neighbour| Step::Create { in_neighbour }),
        12 => (any::<bool>(), 0..12_usize).prop_map(|(in_neighbour, nth)| Step::Delete { in_neighbour, nth }),
        2 => Just(Step::Trespass),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec((0..100_000_u64, prop::collection::vec(step, 1..80)), 1..8)
}

/// An attempt in the queue, of either kind.
enum Waiting {
    Apply(Pending<Change>),
    Record(Pending<()>),
}

/// What should be in the database.
#[derive(Default)]
struct Model {
    groups: BTreeMap<ProjectId, Vec<GroupId>>,
    newest: BTreeMap<ProjectId, GroupId>,
    outcomes: Vec<(u128, &'static str)>,
}

impl Model {
    fn of(&self, who: &Principal) -> &[GroupId] {
        self.groups.get(&project(who)).map_or(&[], Vec::as_slice)
    }

    /// Follows the answer to an attempt of `who`, and checks that it is the right one.
    fn follow(&mut self, who: &Principal, quota: usize, answer: Result<Change, StoreError>) -> &'static str {
        match answer {
            Ok(Change::GroupCreated { project_id, group }) => {
                let groups = self.groups.entry(project_id).or_default();
                assert!(groups.len() < quota);
                groups.push(group.group_id);
                let before = self.newest.insert(project_id, group.group_id);
                assert!(before < Some(group.group_id), "ids ascend, whatever the clock and a reset do");
                "done"
            }
            Ok(Change::GroupDeleted { project_id, group_id, .. }) => {
                let groups = self.groups.get_mut(&project_id).unwrap();
                groups.remove(groups.iter().position(|id| *id == group_id).unwrap());
                "done"
            }
            Ok(Change::DatabaseReset) => {
                self.groups.clear();
                "done"
            }
            Err(StoreError::Refused(Refusal::GroupNotFound { group_id })) => {
                assert!(!self.of(who).contains(&group_id));
                "refused"
            }
            Err(StoreError::Refused(Refusal::GroupQuotaReached { .. })) => {
                assert_eq!(self.of(who).len(), quota);
                "refused"
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => panic!("{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// One writer over all of them, so that what it keeps in memory between batches must be right. In a debug build
    /// it checks, in every batch, that the facts that it carried are the facts that it wrote.
    #[test]
    fn after_every_batch_the_groups_counters_records_and_tree_are_those_of_a_plain_model(batches in batches()) {
        const QUOTA: u32 = 30;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(bench(BATCH_MAX, QUOTA, async |bench| {
            let mut model = Model::default();
            let batch_count = batches.len() as u64;
            for (later_ms, steps) in batches {
                bench.clock.set(Timestamp::from_millis(NOW.as_millis() + later_ms));
                write_batch(bench, &mut model, QUOTA as usize, &steps).await;
            }
            let records = bench.records();
            assert_eq!(records.iter().map(outcome).collect::<Vec<_>>(), model.outcomes, "one for each attempt");
            assert!(records.is_sorted_by_key(|record| record["record_time"].as_u64()), "it never goes back");
            assert_eq!(bench.commits(), batch_count);
        }));
    }
}

/// Queues a batch, and follows its answers.
async fn write_batch(bench: &mut Bench, model: &mut Model, quota: usize, steps: &[Step]) {
    let principal = |in_neighbour: bool| if in_neighbour { neighbour() } else { dev() };
    let mut waiting = Vec::new();
    for step in steps {
        let (who, attempt) = match step {
            Step::Create { in_neighbour } => {
                let who = principal(*in_neighbour);
                let attempt = bench.create(&who, "web");
                (who, Waiting::Apply(attempt))
            }
            Step::Delete { in_neighbour, nth } => {
                let who = principal(*in_neighbour);
                let never = GroupId::from_bytes([9; 16]);
                let attempt = bench.delete(&who, model.of(&who).get(*nth).copied().unwrap_or(never));
                (who, Waiting::Apply(attempt))
            }
            Step::Trespass => (dev(), Waiting::Record(bench.trespass(&dev(), &neighbour()))),
            Step::Reset => (dev(), Waiting::Apply(bench.reset())),
        };
        waiting.push((bench.attempts, who, attempt));
    }
    for (request_id, who, attempt) in waiting {
        let outcome = match attempt {
            Waiting::Apply(answer) => model.follow(&who, quota, answer.await),
            Waiting::Record(answer) => {
                answer.await.unwrap();
                "denied"
            }
        };
        model.outcomes.push((request_id, outcome));
    }
    model.groups.retain(|_, groups| !groups.is_empty());
    assert_eq!(bench.groups(), model.groups);
}
