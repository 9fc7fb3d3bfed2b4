//! The audit log as its verifier reads it: whatever stands there, whether or not it makes sense.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::open::bytes16;
use crate::audit::replay::{GroupRow, ServerRow};
use crate::audit::tree;
use crate::audit::verify::Row;
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::store::StoreError;
use crate::store::log::{Sealed, StoredCheckpoint};

/// From here on everything is read as it is now.
pub(crate) async fn begin(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("begin").execute(&mut *conn).await?;
    // SQLite takes the moment of the first read.
    newest_seq_of(conn).await.map(drop)
}

/// Until here.
pub(crate) async fn end(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("commit").execute(conn).await?;
    Ok(())
}

/// The last record that was deleted, and the edge there.
pub(crate) async fn sealed(conn: &mut SqliteConnection) -> Result<Sealed, StoreError> {
    let row = sqlx::query!("select sealed_up_to, sealed_hashes from audit_edge").fetch_one(conn).await?;
    Ok(Sealed { up_to: row.sealed_up_to, hashes: row.sealed_hashes })
}

/// The size and the hashes of the right edge.
pub(crate) async fn edge(conn: &mut SqliteConnection) -> Result<(i64, Vec<u8>), StoreError> {
    let row = sqlx::query!("select size, hashes from audit_edge").fetch_one(conn).await?;
    Ok((row.size, row.hashes))
}

/// The newest resets, by project.
pub(crate) async fn resets(conn: &mut SqliteConnection) -> Result<Vec<(Vec<u8>, i64)>, StoreError> {
    let rows = sqlx::query!("select project_id, seq from reset order by project_id").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.project_id, row.seq)).collect())
}

/// The keys, and from which record on they sign.
pub(crate) async fn keys(conn: &mut SqliteConnection) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query!("select seq, key from audit_key order by seq").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.seq, row.key)).collect())
}

/// Every checkpoint, in the order in which they were made.
pub(crate) async fn checkpoints(conn: &mut SqliteConnection) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let rows = sqlx::query_as!(
        StoredCheckpoint,
        "select checkpoint_id, size, hashes, note from audit_checkpoint order by checkpoint_id",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The place of the newest record; 0 without any.
pub(crate) async fn newest_seq(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(newest_seq_of(conn).await?)
}

async fn newest_seq_of(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let newest = sqlx::query_scalar!("select max(seq) from audit_record").fetch_one(conn).await?;
    Ok(newest.unwrap_or(0))
}

/// One record's bytes.
pub(crate) async fn record(conn: &mut SqliteConnection, seq: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = sqlx::query_scalar!("select bytes from audit_record where seq = ?", seq);
    Ok(bytes.fetch_optional(conn).await?)
}

/// A page of records behind `after`, in order, as long as `each` says.
pub(crate) async fn records(
    conn: &mut SqliteConnection,
    after: i64,
    limit: u32,
    mut each: impl FnMut(Row<'_>) -> bool,
) -> Result<(), StoreError> {
    // Not checked when it is built: a checked row copies what this one only lends.
    let select = sqlx::query(
        "select seq, project_id, group_id, record_time, bytes, leaf from audit_record
         where seq > ? order by seq limit ?",
    );
    for row in eagerly(select.bind(after).bind(limit).fetch_all(conn)).await? {
        let row = Row {
            seq: row.try_get(0)?,
            project_id: row.try_get(1)?,
            group_id: row.try_get(2)?,
            record_time: row.try_get(3)?,
            bytes: row.try_get(4)?,
            leaf: row.try_get(5)?,
        };
        if !each(row) {
            break;
        }
    }
    Ok(())
}

/// How often in a row the rows are looked for before they are waited for.
const LOOKS_MAX: u32 = 1_000;

/// Waits for many rows, but gives way to SQLite's thread rather than sleep: for a sleeper it would make a system call,
/// and on one core a switch, for each row.
async fn eagerly<T>(rows: impl Future<Output = T>) -> T {
    let mut rows = pin!(rows);
    poll_fn(|context| {
        for _ in 0..LOOKS_MAX {
            let polled = rows.as_mut().poll(context);
            if polled.is_ready() {
                return polled;
            }
            std::thread::yield_now();
        }
        Poll::Pending
    })
    .await
}

/// A page of leaves behind `after`, up to `last`, in order.
pub(crate) async fn leaves(
    conn: &mut SqliteConnection,
    after: i64,
    last: i64,
    limit: u32,
) -> Result<Vec<(i64, tree::Hash)>, StoreError> {
    let rows = sqlx::query!(
        "select seq, leaf from audit_record where seq > ? and seq <= ? order by seq limit ?",
        after,
        last,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let leaf = |seq, leaf: Vec<u8>| {
        let wrong_length =
            |_wrong_length| StoreError::corrupt("audit_record", format!("leaf of record {seq}"));
        Ok((seq, leaf.try_into().map_err(wrong_length)?))
    };
    rows.into_iter().map(|row| leaf(row.seq, row.leaf)).collect()
}

/// Every group.
pub(crate) async fn groups(
    conn: &mut SqliteConnection,
    mut each: impl FnMut(GroupRow<'_>),
) -> Result<(), StoreError> {
    let rows = sqlx::query("select project_id, group_id, name, placement_rule, created_by from server_group")
        .fetch_all(conn)
        .await?;
    for row in rows {
        each(GroupRow {
            project_id: ProjectId::from_bytes(id(&row, 0, "server_group")?),
            group_id: GroupId::from_bytes(id(&row, 1, "server_group")?),
            name: row.try_get(2)?,
            placement_rule: row.try_get(3)?,
            created_by: UserId::from_bytes(id(&row, 4, "server_group")?),
        });
    }
    Ok(())
}

/// Every member.
pub(crate) async fn members(
    conn: &mut SqliteConnection,
    mut each: impl FnMut(ProjectId, GroupId, ServerId),
) -> Result<(), StoreError> {
    for row in sqlx::query("select project_id, group_id, server_id from member").fetch_all(conn).await? {
        each(
            ProjectId::from_bytes(id(&row, 0, "member")?),
            GroupId::from_bytes(id(&row, 1, "member")?),
            ServerId::from_bytes(id(&row, 2, "member")?),
        );
    }
    Ok(())
}

/// Every registered ECS.
pub(crate) async fn servers(
    conn: &mut SqliteConnection,
    mut each: impl FnMut(ServerRow<'_>),
) -> Result<(), StoreError> {
    let rows =
        sqlx::query("select project_id, server_id, name, status, host from server").fetch_all(conn).await?;
    for row in rows {
        each(ServerRow {
            project_id: ProjectId::from_bytes(id(&row, 0, "server")?),
            server_id: ServerId::from_bytes(id(&row, 1, "server")?),
            name: row.try_get(2)?,
            status: row.try_get(3)?,
            host: row.try_get(4)?,
        });
    }
    Ok(())
}

/// How many groups each project counts.
pub(crate) async fn group_counts(conn: &mut SqliteConnection) -> Result<Vec<(ProjectId, i64)>, StoreError> {
    let rows = sqlx::query!("select project_id, group_count from project").fetch_all(conn).await?;
    rows.into_iter()
        .map(|row| Ok((ProjectId::from_bytes(bytes16("project", &row.project_id)?), row.group_count)))
        .collect()
}

fn id(row: &SqliteRow, column: usize, table: &'static str) -> Result<[u8; 16], StoreError> {
    bytes16(table, row.try_get(column)?)
}
