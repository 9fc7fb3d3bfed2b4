//! The audit log: records and the edge of the tree over them.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::open::{ROWS_MAX, expect_rows};
use crate::audit::tree::{self, Edge};
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
