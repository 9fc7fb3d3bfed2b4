//! What shares a transaction: decided one after the other, written together, answered after the commit.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::{self, Permit};
use ecs_groupd::access::principal::{Origin, Principal};
use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::{Change, Command};
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::{GroupId, RequestId};
use ecs_groupd::domain::page::Page;
use ecs_groupd::domain::refusal::Refusal;
use ecs_groupd::domain::rules::{Limits, MemberRules};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::meter::Meter;
use ecs_groupd::store::{self, Options, Store, StoreError, Unavailable, Writer};
use tempfile::TempDir;

use crate::batch::{dev, neighbour};
use crate::harness::{NOW, records, store_options};

/// A store whose writer runs only when a test says so.
struct Bench {
    folder: TempDir,
    store: Arc<Store>,
    writer: Option<Writer>,
    meter: Arc<Meter>,
    clock: Clock,
}

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>>>>;

impl Bench {
    async fn open(groups_per_project: u32, queue_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open_in(folder, Clock::fixed(NOW), groups_per_project, queue_max).await
    }

    async fn open_in(folder: TempDir, clock: Clock, groups_per_project: u32, queue_max: usize) -> Self {
        let meter = Arc::new(Meter::default());
        let options = Options {
            database: folder.path().join("ecs-groupd.db"),
            size_bytes_max: 0,
            read_connections: 2,
            read_deadline: Duration::from_secs(5),
            queue_max,
            batch_max: 256,
            checkpoint_every: Duration::from_mins(1),
            limits: Limits { groups_per_project, members_per_group: 16 },
            member_rules: MemberRules::default(),
            refusals_per_minute: None,
            ..store_options()
        };
        let opened = store::open(options, clock.clone(), Ids::seeded(1), Arc::clone(&meter)).await;
        let (store, writer) = opened.unwrap();
        Self { folder, store: Arc::new(store), writer: Some(writer), meter, clock }
    }

    /// The same database, opened again.
    async fn reopen(self) -> Self {
        self.store.close().await;
        Self::open_in(self.folder, self.clock, 1_000, 1_000).await
    }

    /// Transactions with attempts, but for the one at the opening, which named the key.
    fn commits(&self) -> u64 {
        self.meter.commits.get() - 1
    }

    /// Records, but for that one's.
    fn record_count(&self) -> u64 {
        self.meter.records.get() - 1
    }

    fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("ecs-groupd.db")
    }

    /// Puts a command in the queue.
    fn queue(&self, permit: Permit, command: Command) -> Pending<Change> {
        let store = Arc::clone(&self.store);
        let mut pending: Pending<Change> = Box::pin(async move { store.apply(permit, command).await });
        // The first poll queues it; what is turned away has its answer there and then.
        match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => pending,
            Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
        }
    }

    fn queue_create(&self, who: &Principal, name: &str) -> Pending<Change> {
        self.queue(permit(who, Action::CreateServerGroup), create(who, name))
    }

    fn queue_delete(&self, who: &Principal, group_id: GroupId) -> Pending<Change> {
        let command = Command::DeleteGroup { project_id: who.project_id().unwrap(), group_id };
        self.queue(permit(who, Action::DeleteServerGroup), command)
    }

    /// Lets the writer do what is queued, as one batch if there is room for it, and stop.
    async fn write(&mut self) {
        self.writer.take().unwrap().run(std::future::ready(())).await.unwrap();
    }

    async fn ids(&self, who: &Principal) -> Vec<GroupId> {
        let page = Page::parse(None, None).unwrap();
        let groups = self.store.groups(&permit(who, Action::ListServerGroups), &page).await.unwrap();
        groups.iter().map(|group| group.group_id).collect()
    }
}

fn origin() -> Origin {
    Origin { request_id: RequestId::from_bytes([0; 16]), source_ip: None, door: "test" }
}

fn permit(who: &Principal, action: Action) -> Permit {
    policy::permit(who, origin(), action, who.project_id(), NOW).unwrap()
}

fn create(who: &Principal, name: &str) -> Command {
    Command::CreateGroup {
        project_id: who.project_id().unwrap(),
        name: GroupName::try_from(name.to_owned()).unwrap(),
        placement_rule: PlacementRule::AntiAffinity,
        created_by: who.user.user_id,
    }
}

fn outcomes(database: &Path) -> Vec<String> {
    records(database).iter().map(|record| record["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn of_32_creates_in_one_batch_with_room_for_5_there_are_5_groups_27_refusals_32_records_and_one_commit()
{
    let mut bench = Bench::open(5, 100).await;
    let pending: Vec<_> = (0..32).map(|nth| bench.queue_create(&dev(), &format!("group-{nth}"))).collect();
    bench.write().await;
    let (mut made, mut refused) = (Vec::new(), 0);
    for answer in pending {
        match answer.await {
            Ok(Change::GroupCreated { group, .. }) => made.push(group.group_id),
            Err(StoreError::Refused(Refusal::GroupQuotaReached { groups_max: 5 })) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made.len(), refused), (5, 27));
    assert_eq!(bench.ids(&dev()).await, made);
    let outcomes = outcomes(&bench.database());
    assert_eq!(outcomes.len(), 32);
    assert!(outcomes[..5].iter().all(|outcome| outcome == "done"));
    assert!(outcomes[5..].iter().all(|outcome| outcome == "refused"));
    assert_eq!((bench.commits(), bench.record_count()), (1, 32));
}

#[tokio::test]
async fn of_two_clients_in_one_batch_the_refused_one_does_not_hurt_the_other() {
    let mut bench = Bench::open(1, 100).await;
    let unknown = GroupId::from_bytes([1; 16]);
    let refused = bench.queue_delete(&dev(), unknown);
    let kept = bench.queue_create(&neighbour(), "kept");
    bench.write().await;
    let not_found = Refusal::GroupNotFound { group_id: unknown };
    assert_eq!(refused.await, Err(StoreError::Refused(not_found)));
    assert!(matches!(kept.await, Ok(Change::GroupCreated { .. })));
    assert_eq!(bench.ids(&neighbour()).await.len(), 1);
    assert_eq!(outcomes(&bench.database()), ["refused", "done"]);
    assert_eq!(bench.commits(), 1);
}

#[tokio::test]
async fn a_reset_in_a_batch_takes_what_came_before_it_and_leaves_what_comes_after() {
    let mut bench = Bench::open(2, 100).await;
    let before = [bench.queue_create(&dev(), "before"), bench.queue_create(&dev(), "before")];
    let reset = bench.queue(policy::permit_reset(origin()), Command::ResetDatabase);
    let after = bench.queue_create(&dev(), "after");
    bench.write().await;
    for answer in before {
        answer.await.unwrap();
    }
    assert_eq!(reset.await, Ok(Change::DatabaseReset));
    let Ok(Change::GroupCreated { group, .. }) = after.await else { panic!("there is room again") };
    assert_eq!(bench.ids(&dev()).await, [group.group_id]);
    assert_eq!(bench.commits(), 1);
}

#[tokio::test]
async fn one_attempt_more_than_the_queue_holds_is_turned_away_at_once() {
    let mut bench = Bench::open(10, 3).await;
    let waiting: Vec<_> = (0..3).map(|_| bench.queue_create(&dev(), "waits")).collect();
    let turned_away = bench.queue_create(&dev(), "one more").await;
    assert_eq!(turned_away, Err(StoreError::Unavailable(Unavailable::QueueFull)));
    bench.write().await;
    for answer in waiting {
        assert!(answer.await.is_ok());
    }
    assert_eq!(outcomes(&bench.database()).len(), 3, "what was turned away has no record");
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_back_what_is_queued() {
    let mut bench = Bench::open(10, 100).await;
    drop(bench.queue_create(&dev(), "abandoned"));
    bench.write().await;
    assert_eq!(bench.ids(&dev()).await.len(), 1);
    assert_eq!(outcomes(&bench.database()), ["done"]);
}

#[tokio::test]
async fn a_stopped_writer_turns_every_attempt_away_and_the_store_says_so() {
    let mut bench = Bench::open(10, 100).await;
    assert_eq!(bench.store.readiness().await, Ok(()));
    bench.write().await;
    assert_eq!(bench.store.readiness().await, Err("the writer has stopped".to_owned()));
    let answer = bench.queue_create(&dev(), "late").await;
    assert_eq!(answer, Err(StoreError::Unavailable(Unavailable::Stopping)));
}

#[tokio::test]
async fn ids_ascend_and_record_time_never_goes_back_whatever_the_clock_does() {
    let mut bench = Bench::open(10, 100).await;
    let first = bench.queue_create(&dev(), "first");
    bench.write().await;
    first.await.unwrap();
    bench.clock.set(Timestamp::from_millis(NOW.as_millis() - 3_600_000));
    let mut bench = bench.reopen().await;
    let second = bench.queue_create(&dev(), "second");
    bench.write().await;
    second.await.unwrap();
    let ids = bench.ids(&dev()).await;
    assert!(ids[0] < ids[1]);
    let records = records(&bench.database());
    assert_eq!(records[1]["record_time"], records[0]["record_time"]);
    assert!(records[1]["time"].as_u64() < records[0]["time"].as_u64());
}

/// Checks that the stored edge is the tree over the leaves, the leaves those of the bytes, and `seq` without gaps.
pub fn check_tree(conn: &rusqlite::Connection) {
    let mut edge = Edge::default();
    let mut select = conn.prepare("select seq, bytes, leaf from audit_record order by seq").unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (seq, bytes, leaf): (i64, Vec<u8>, tree::Hash) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        assert_eq!(seq.cast_unsigned(), edge.size() + 1);
        assert_eq!(tree::leaf(&bytes), leaf);
        edge.push(leaf);
    }
    let stored = conn.query_row("select size, hashes from audit_edge", [], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Vec<u8>>(1)?))
    });
    assert_eq!(stored.unwrap(), (edge.size(), edge.to_bytes()));
}

#[tokio::test]
async fn the_log_refuses_to_be_changed_even_by_hand() {
    let mut bench = Bench::open(10, 100).await;
    let created = bench.queue_create(&dev(), "web");
    bench.write().await;
    created.await.unwrap();
    let conn = rusqlite::Connection::open(bench.database()).unwrap();
    let update = conn.execute("update audit_record set bytes = x'00'", []).unwrap_err();
    assert!(update.to_string().contains("audit_record_is_never_updated"), "{update}");
    let delete = conn.execute("delete from audit_record", []).unwrap_err();
    assert!(delete.to_string().contains("audit_record_is_deleted_only_when_sealed"), "{delete}");
    check_tree(&conn);
}
