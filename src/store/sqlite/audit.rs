//! The audit log: records and the edge of the tree over them.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::open::{ROWS_MAX, expect_rows};
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
#[derive(Debug)]
pub(crate) enum Mark {
    /// A reset of this project, or of all of them: listings begin behind it.
    Reset { project_id: Option<ProjectId>, seq: u64 },
    /// The key that checkpoints are signed with from there on.
    Key { key: String, seq: u64 },
}

impl Mark {
    /// The mark that a change leaves, if it leaves one.
    pub(crate) fn of(change: &Change, seq: u64) -> Option<Self> {
        match change {
            Change::DatabaseReset => Some(Self::Reset { project_id: None, seq }),
            Change::ProjectReset { project_id } => Some(Self::Reset { project_id: Some(*project_id), seq }),
            Change::CheckpointKeyChanged { key } => Some(Self::Key { key: key.clone(), seq }),
            _ => None,
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
    };
    expect_rows("reset or audit_key", done.rows_affected(), 1)
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

/// The newest checkpoint with this note.
pub(crate) async fn checkpoint_of(
    conn: &mut SqliteConnection,
    note: &str,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint where note = ?
         order by checkpoint_id desc limit 1",
        note,
    )
    .fetch_optional(conn)
    .await?;
    row.map(CheckpointRow::read).transpose()
}

/// The checkpoints that were made after another, in their order.
pub(crate) async fn checkpoints_behind(
    conn: &mut SqliteConnection,
    checkpoint_id: i64,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let rows = sqlx::query_as!(
        CheckpointRow,
        "select checkpoint_id, size, hashes, note from audit_checkpoint where checkpoint_id > ?
         order by checkpoint_id",
        checkpoint_id,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(CheckpointRow::read).collect()
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

/// The end of the log as its records have it, whatever its edge says; and the first record that is missing, where
/// others stand behind it.
pub(crate) async fn head_of_records(conn: &mut SqliteConnection) -> Result<(Head, Option<u64>), StoreError> {
    const PAGE_RECORDS: i64 = 1_000;
    let mut head = Head { edge: sealed_edge(conn).await?, record_time: Timestamp::default() };
    loop {
        let after = head.edge.size().cast_signed();
        let rows = sqlx::query!(
            "select seq, record_time, bytes from audit_record where seq > ? order by seq limit ?",
            after,
            PAGE_RECORDS,
        )
        .fetch_all(&mut *conn)
        .await?;
        if rows.is_empty() {
            return Ok((head, None));
        }
        for row in rows {
            let expected = head.edge.size() + 1;
            if unsigned("audit_record", row.seq)? != expected {
                return Ok((head, Some(expected)));
            }
            head.edge.push(tree::leaf(&row.bytes));
            head.record_time = Timestamp::from_millis(unsigned("audit_record", row.record_time)?);
        }
    }
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
