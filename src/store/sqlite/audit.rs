//! The audit log: records and the edge of the tree over them.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::log;
use super::open::{ROWS_MAX, expect_rows};
use crate::access::action::Action;
use crate::audit::event::{Event, Outcome};
use crate::audit::tree::{self, Edge};
use crate::domain::command::Change;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// A record as it is stored.
#[derive(Debug)]
pub(crate) struct StoredRecord {
    pub(crate) seq: u64,
    pub(crate) project_id: Option<ProjectId>,
    pub(crate) group_id: Option<GroupId>,
    pub(crate) record_time: Timestamp,
    pub(crate) bytes: Vec<u8>,
    pub(crate) leaf: tree::Hash,
}

/// The end of the log: what the next record is put behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) edge: Edge,
    /// The newest record's; the next one is not before it.
    pub(crate) record_time: Timestamp,
}

/// The end of the log as it stands.
pub(crate) async fn head(conn: &mut SqliteConnection) -> Result<Head, StoreError> {
    let edge = sqlx::query!("select size, hashes from audit_edge").fetch_one(&mut *conn).await?;
    let newest = sqlx::query!("select seq, record_time from audit_record order by seq desc limit 1")
        .fetch_optional(conn)
        .await?;
    let newest_seq = newest.as_ref().map_or(0, |record| record.seq);
    if newest_seq != edge.size {
        let found = format!("size {} over records up to {newest_seq}", edge.size);
        return Err(StoreError::corrupt("audit_edge", found));
    }
    let size = u64::try_from(edge.size).map_err(|error| StoreError::corrupt("audit_edge", error))?;
    let record_time = newest.map_or(0, |record| record.record_time);
    Ok(Head {
        edge: Edge::from_parts(size, &edge.hashes)
            .map_err(|error| StoreError::corrupt("audit_edge", error))?,
        record_time: Timestamp::from_millis(
            u64::try_from(record_time).map_err(|error| StoreError::corrupt("audit_record", error))?,
        ),
    })
}

/// Appends records.
pub(crate) async fn insert_records(
    conn: &mut SqliteConnection,
    records: &[StoredRecord],
) -> Result<(), StoreError> {
    for chunk in records.chunks(ROWS_MAX) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "insert into audit_record (seq, project_id, group_id, record_time, bytes, leaf) ",
        );
        insert.push_values(chunk, |mut row, record| {
            row.push_bind(record.seq.cast_signed())
                .push_bind(record.project_id.as_ref().map(|id| &id.as_bytes()[..]))
                .push_bind(record.group_id.as_ref().map(|id| &id.as_bytes()[..]))
                .push_bind(record.record_time.as_millis().cast_signed())
                .push_bind(&record.bytes[..])
                .push_bind(&record.leaf[..]);
        });
        let done = insert.build().execute(&mut *conn).await?;
        expect_rows("audit_record", done.rows_affected(), chunk.len())?;
    }
    Ok(())
}

/// Keeps the edge of the tree.
pub(crate) async fn put_edge(conn: &mut SqliteConnection, edge: &Edge) -> Result<(), StoreError> {
    let (size, hashes) = (edge.size().cast_signed(), edge.to_bytes());
    let done = sqlx::query!("update audit_edge set size = ?, hashes = ?", size, hashes).execute(conn).await?;
    expect_rows("audit_edge", done.rows_affected(), 1)
}

/// What is looked up by the place that its record has in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A reset of this project, or of all of them: listings begin behind it.
    Reset { project_id: Option<ProjectId>, seq: u64 },
    /// The key that checkpoints are signed with from there on.
    Key { key: String, seq: u64 },
    /// The schema that the log last told of.
    Schema { version: i64, seq: u64 },
}

impl Mark {
    /// The mark that a change leaves, if it leaves one.
    pub(crate) fn of(change: &Change, seq: u64) -> Option<Self> {
        match change {
            Change::DatabaseReset => Some(Self::Reset { project_id: None, seq }),
            Change::ProjectReset { project_id } => Some(Self::Reset { project_id: Some(*project_id), seq }),
            Change::CheckpointKeyChanged { key } => Some(Self::Key { key: key.clone(), seq }),
            Change::SchemaTold { version } => Some(Self::Schema { version: *version, seq }),
            _ => None,
        }
    }

    /// The mark that a record tells of, if it tells of one.
    pub(crate) fn told(bytes: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Asked {
            new: String,
        }
        let event = Event::parse(bytes).ok()?;
        let seq = event.seq;
        match Action::named(&event.action).filter(|_| event.outcome == Outcome::Done)? {
            Action::ResetDatabase => Some(Self::Reset { project_id: None, seq }),
            Action::ResetProject => Some(Self::Reset { project_id: Some(event.project_id()?), seq }),
            Action::ChangeCheckpointKey => {
                let Asked { new } = serde_json::from_str(event.asked.get()).ok()?;
                Some(Self::Key { key: new, seq })
            }
            _ => None,
        }
    }

    /// The record that it is of.
    pub(crate) const fn seq(&self) -> u64 {
        match self {
            Self::Reset { seq, .. } | Self::Key { seq, .. } | Self::Schema { seq, .. } => *seq,
        }
    }
}

/// The marks that the records tell of, in their order.
pub(crate) async fn marks_of_records(conn: &mut SqliteConnection) -> Result<Vec<Mark>, StoreError> {
    const PAGE_RECORDS: usize = 1_000;
    let name = |action: Action| action.name().as_bytes();
    let (key, all, project) =
        (name(Action::ChangeCheckpointKey), name(Action::ResetDatabase), name(Action::ResetProject));
    let mut marks = Vec::new();
    let mut after = -1;
    loop {
        let page = sqlx::query!(
            "select seq, bytes from audit_record
             where seq > ? and (instr(bytes, ?) > 0 or instr(bytes, ?) > 0 or instr(bytes, ?) > 0)
             order by seq limit 1000",
            after,
            key,
            all,
            project,
        )
        .fetch_all(&mut *conn)
        .await?;
        // What only has the name of such an action in it tells of none.
        marks.extend(page.iter().filter_map(|row| Mark::told(&row.bytes)));
        match page.last() {
            Some(last) if page.len() == PAGE_RECORDS => after = last.seq,
            _ => return Ok(marks),
        }
    }
}

/// Keeps a mark.
pub(crate) async fn put_mark(conn: &mut SqliteConnection, mark: &Mark) -> Result<(), StoreError> {
    let done = match mark {
        Mark::Reset { project_id, seq } => {
            let (project, seq) = (reset_key(project_id.as_ref()), seq.cast_signed());
            sqlx::query!(
                "insert into reset (project_id, seq) values (?, ?)
                 on conflict (project_id) do update set seq = excluded.seq",
                project,
                seq,
            )
            .execute(conn)
            .await?
        }
        Mark::Key { key, seq } => {
            let seq = seq.cast_signed();
            sqlx::query!("insert into audit_key (seq, key) values (?, ?)", seq, key).execute(conn).await?
        }
        Mark::Schema { version, .. } => {
            sqlx::query!("update told_schema set version = ?", version).execute(conn).await?
        }
    };
    expect_rows("reset, audit_key or told_schema", done.rows_affected(), 1)
}

/// The bytes that a project has in `reset`; none for all projects.
fn reset_key(project_id: Option<&ProjectId>) -> &[u8] {
    project_id.map_or(&[], |project_id| &project_id.as_bytes()[..])
}

/// The newest reset of a project, its own or of all: what comes after it is listed.
pub(crate) async fn reset_of_project(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<u64, StoreError> {
    let project = reset_key(Some(&project_id));
    let seq = sqlx::query_scalar!("select max(seq) from reset where project_id in (x'', ?)", project)
        .fetch_one(conn)
        .await?;
    u64::try_from(seq.unwrap_or(0)).map_err(|error| StoreError::corrupt("reset", error))
}

/// Deletes the records up to `last`, which a sealed segment holds and a checkpoint of just that size vouches for.
pub(crate) async fn delete_sealed(conn: &mut SqliteConnection, last: u64) -> Result<(), StoreError> {
    let last = last.cast_signed();
    let done = sqlx::query!(
        "update audit_edge set sealed_up_to = ?, sealed_hashes = (
             select hashes from audit_checkpoint where size = ? order by checkpoint_id desc limit 1
         )",
        last,
        last,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("audit_edge", done.rows_affected(), 1)?;
    sqlx::query!("delete from audit_record where seq <= ?", last).execute(conn).await?;
    Ok(())
}

/// A checkpoint as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredCheckpoint {
    pub(crate) checkpoint_id: i64,
    pub(crate) size: u64,
    /// The edge at that size.
    pub(crate) edge: Edge,
    pub(crate) note: String,
}

/// A row of `audit_checkpoint`.
struct CheckpointRow {
    checkpoint_id: i64,
    size: i64,
    hashes: Vec<u8>,
    note: String,
}

impl CheckpointRow {
    fn read(self) -> Result<StoredCheckpoint, StoreError> {
        let Self { checkpoint_id, size, hashes, note } = self;
        let size = unsigned("audit_checkpoint", size)?;
        let edge = Edge::from_parts(size, &hashes)
            .map_err(|error| StoreError::corrupt("audit_checkpoint", error))?;
        Ok(StoredCheckpoint { checkpoint_id, size, edge, note })
    }
}

/// The newest two checkpoints, the newest first.
pub(crate) async fn newest_checkpoints(
    conn: &mut SqliteConnection,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let rows = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint order by checkpoint_id desc limit 2"
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(CheckpointRow::read).collect()
}

/// One checkpoint, or `None`.
pub(crate) async fn checkpoint(
    conn: &mut SqliteConnection,
    checkpoint_id: i64,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint where checkpoint_id = ?",
        checkpoint_id,
    )
    .fetch_optional(conn)
    .await?;
    row.map(CheckpointRow::read).transpose()
}

/// The checkpoints made after this one, in the order in which they were made.
pub(crate) async fn checkpoints_behind(
    conn: &mut SqliteConnection,
    checkpoint_id: i64,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let rows = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint
         where checkpoint_id > ? order by checkpoint_id",
        checkpoint_id,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(CheckpointRow::read).collect()
}

/// The notes of a page of checkpoints made after this one, in the order in which they were made.
pub(crate) async fn notes_behind(
    conn: &mut SqliteConnection,
    checkpoint_id: i64,
    limit: u32,
) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query!(
        "select checkpoint_id, note from audit_checkpoint where checkpoint_id > ? order by checkpoint_id limit ?",
        checkpoint_id,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.checkpoint_id, row.note)).collect())
}

/// Keeps a checkpoint of the log with this edge.
pub(crate) async fn insert_checkpoint(
    conn: &mut SqliteConnection,
    edge: &Edge,
    note: &str,
) -> Result<(), StoreError> {
    let (size, hashes) = (edge.size().cast_signed(), edge.to_bytes());
    let done = sqlx::query!(
        "insert into audit_checkpoint (size, hashes, note) values (?, ?, ?)",
        size,
        hashes,
        note
    )
    .execute(conn)
    .await?;
    expect_rows("audit_checkpoint", done.rows_affected(), 1)
}

/// The key that checkpoints are signed with, and the record that says so.
pub(crate) async fn newest_key(conn: &mut SqliteConnection) -> Result<Option<(u64, String)>, StoreError> {
    let row =
        sqlx::query!("select seq, key from audit_key order by seq desc limit 1").fetch_optional(conn).await?;
    row.map(|row| Ok((unsigned("audit_key", row.seq)?, row.key))).transpose()
}

/// The key that signs a log of this size, and the record that says so.
pub(crate) async fn key_at(
    conn: &mut SqliteConnection,
    size: u64,
) -> Result<Option<(u64, String)>, StoreError> {
    let size = size.cast_signed();
    let row = sqlx::query!("select seq, key from audit_key where seq <= ? order by seq desc limit 1", size)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok((unsigned("audit_key", row.seq)?, row.key))).transpose()
}

/// The records that name a key, in their order.
pub(crate) async fn key_seqs(conn: &mut SqliteConnection) -> Result<Vec<u64>, StoreError> {
    let seqs = sqlx::query_scalar!("select seq from audit_key order by seq").fetch_all(conn).await?;
    seqs.into_iter().map(|seq| unsigned("audit_key", seq)).collect()
}

/// Makes the log what its first `size` records are: what stands behind them goes, and so do the marks, which are then
/// those that the records tell of.
pub(crate) async fn cut_behind(
    conn: &mut SqliteConnection,
    size: u64,
    marks: &[Mark],
) -> Result<(), StoreError> {
    let (sealed, last) = (sealed_edge(conn).await?.size().cast_signed(), size.cast_signed());
    // Only what counts as sealed may be deleted: for this moment everything does.
    put_sealed_up_to(conn, i64::MAX).await?;
    sqlx::query!("delete from audit_record where seq > ?", last).execute(&mut *conn).await?;
    put_sealed_up_to(conn, sealed).await?;
    // Those of sealed records stay as they are: their segments may be elsewhere. So do the keys, where the records were
    // changed so that they tell of none.
    let tells_of_keys = marks.iter().any(|mark| matches!(mark, Mark::Key { .. }));
    let keys_up_to = if tells_of_keys { sealed } else { last };
    sqlx::query!("delete from audit_key where seq > ?", keys_up_to).execute(&mut *conn).await?;
    sqlx::query!("delete from reset where seq > ?", sealed).execute(&mut *conn).await?;
    for mark in marks.iter().filter(|mark| mark.seq() <= size) {
        put_told_mark(conn, mark).await?;
    }
    Ok(())
}

async fn put_sealed_up_to(conn: &mut SqliteConnection, seq: i64) -> Result<(), StoreError> {
    let done = sqlx::query!("update audit_edge set sealed_up_to = ?", seq).execute(conn).await?;
    expect_rows("audit_edge", done.rows_affected(), 1)
}

/// Keeps a mark, unless it is there, or a newer one of its kind.
async fn put_told_mark(conn: &mut SqliteConnection, mark: &Mark) -> Result<(), StoreError> {
    match mark {
        Mark::Reset { project_id, seq } => {
            let (project, seq) = (reset_key(project_id.as_ref()), seq.cast_signed());
            sqlx::query!(
                "insert into reset (project_id, seq) values (?, ?)
                 on conflict (project_id) do update set seq = max(seq, excluded.seq)",
                project,
                seq,
            )
            .execute(conn)
            .await?;
        }
        Mark::Key { key, seq } => {
            let seq = seq.cast_signed();
            sqlx::query!(
                "insert into audit_key (seq, key) values (?, ?) on conflict (seq) do nothing",
                seq,
                key
            )
            .execute(conn)
            .await?;
        }
        // It is what was told and no more, also when that is lost.
        Mark::Schema { .. } => {}
    }
    Ok(())
}

/// The bytes of the records after `after` and up to `up_to`, in their order.
pub(crate) async fn bytes_between(
    conn: &mut SqliteConnection,
    after: u64,
    up_to: u64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (after, up_to) = (after.cast_signed(), up_to.cast_signed());
    Ok(sqlx::query_scalar!(
        "select bytes from audit_record where seq > ? and seq <= ? order by seq",
        after,
        up_to,
    )
    .fetch_all(conn)
    .await?)
}

/// The edge at the last record that was sealed and deleted; of nothing, when none was.
pub(crate) async fn sealed_edge(conn: &mut SqliteConnection) -> Result<Edge, StoreError> {
    let row = sqlx::query!("select sealed_up_to, sealed_hashes from audit_edge").fetch_one(conn).await?;
    Edge::from_parts(unsigned("audit_edge", row.sealed_up_to)?, &row.sealed_hashes)
        .map_err(|error| StoreError::corrupt("audit_edge", error))
}

/// How far the records go, each at its own place and as its leaf has it.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) head: Head,
    /// What is wrong with what stands behind them.
    pub(crate) fault: Option<String>,
}

/// The end of the log after the records behind `edge` and up to `up_to`, as far as there are any that are whole.
pub(crate) async fn grow(conn: &mut SqliteConnection, edge: Edge, up_to: u64) -> Result<Grown, StoreError> {
    grow_while(conn, edge, up_to, |_, _| None).await
}

/// The largest beginning of the log that is whole, whatever its edge says.
pub(crate) async fn whole_beginning(conn: &mut SqliteConnection) -> Result<Grown, StoreError> {
    let sealed = sealed_edge(conn).await?;
    grow_while(conn, sealed, i64::MAX.cast_unsigned(), |place, bytes| {
        let said = Event::parse(bytes).ok().map(|event| event.seq).filter(|said| *said != place)?;
        Some(format!("the record {place} says that it is record {said}"))
    })
    .await
}

async fn grow_while(
    conn: &mut SqliteConnection,
    edge: Edge,
    up_to: u64,
    fault_of: impl Fn(u64, &[u8]) -> Option<String>,
) -> Result<Grown, StoreError> {
    const PAGE_RECORDS: u64 = 1_000;
    let mut grown = Grown { head: Head { edge, record_time: Timestamp::default() }, fault: None };
    while grown.head.edge.size() < up_to && grown.fault.is_none() {
        let Grown { head: Head { edge, record_time }, fault } = &mut grown;
        let after = edge.size();
        let limit = u32::try_from(PAGE_RECORDS.min(up_to - after)).unwrap_or(u32::MAX);
        log::records(conn, after.saturating_add(1).cast_signed(), limit, |row| {
            let place = edge.size() + 1;
            let leaf = tree::leaf(row.bytes);
            *fault = if u64::try_from(row.seq) != Ok(place) {
                Some(format!("the record {place} is missing"))
            } else if row.leaf != leaf {
                Some(format!("the record {place} was changed: its leaf is not its hash"))
            } else {
                fault_of(place, row.bytes)
            };
            if fault.is_none() {
                edge.push(leaf);
                *record_time = Timestamp::from_millis(u64::try_from(row.record_time).unwrap_or_default());
            }
            fault.is_none()
        })
        .await?;
        if edge.size() == after {
            break;
        }
    }
    Ok(grown)
}

fn unsigned(table: &'static str, number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|error| StoreError::corrupt(table, error))
}

/// The newest checkpoint of a size in between, both ends included.
pub(crate) async fn checkpoint_between(
    conn: &mut SqliteConnection,
    first: u64,
    last: u64,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    let (first, last) = (first.cast_signed(), last.cast_signed());
    let row = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint where size between ? and ?
         order by size desc, checkpoint_id desc limit 1",
        first,
        last,
    )
    .fetch_optional(conn)
    .await?;
    row.map(CheckpointRow::read).transpose()
}

/// The first checkpoint of a size in between, both ends included.
pub(crate) async fn first_checkpoint_between(
    conn: &mut SqliteConnection,
    first: u64,
    last: u64,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    let (first, last) = (first.cast_signed(), last.cast_signed());
    let row = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint where size between ? and ?
         order by size, checkpoint_id desc limit 1",
        first,
        last,
    )
    .fetch_optional(conn)
    .await?;
    row.map(CheckpointRow::read).transpose()
}

/// The notes of the checkpoints of a size in between, both ends included, in the order in which they were made.
pub(crate) async fn notes_between(
    conn: &mut SqliteConnection,
    first: u64,
    last: u64,
) -> Result<Vec<String>, StoreError> {
    let (first, last) = (first.cast_signed(), last.cast_signed());
    Ok(sqlx::query_scalar!(
        "select note from audit_checkpoint where size between ? and ? order by checkpoint_id",
        first,
        last,
    )
    .fetch_all(conn)
    .await?)
}
