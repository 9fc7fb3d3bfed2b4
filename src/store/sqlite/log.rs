//! The audit log as its verifier reads it: whatever stands there, whether or not it makes sense.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, TypeInfo as _, ValueRef as _};

use super::open::bytes16;
use crate::audit::replay::{GroupRow, ServerRow};
use crate::audit::tree;
use crate::audit::verify::{Beside, EdgeRow, Row};
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::store::StoreError;
use crate::store::log::{Sealed, StoredCheckpoint};

/// What a number counts as that is none: no column of the log goes below 0.
const NO_INTEGER: i64 = -1;
/// What bytes count as that are none: no id, no hash and no record is one zero byte.
const NO_BLOB: &[u8] = &[0];

/// Whether a value is of a kind. The columns are declared to hold one kind, but whoever can write to the file can put
/// another there.
fn is_a(row: &SqliteRow, column: usize, kind: &str) -> Result<bool, StoreError> {
    let value = row.try_get_raw(column)?;
    Ok(!value.is_null() && value.type_info().name() == kind)
}

fn integer(row: &SqliteRow, column: usize) -> Result<i64, StoreError> {
    if is_a(row, column, "INTEGER")? { Ok(row.try_get(column)?) } else { Ok(NO_INTEGER) }
}

fn blob(row: &SqliteRow, column: usize) -> Result<&[u8], StoreError> {
    if is_a(row, column, "BLOB")? { Ok(row.try_get(column)?) } else { Ok(NO_BLOB) }
}

fn blob_or_null(row: &SqliteRow, column: usize) -> Result<Option<&[u8]>, StoreError> {
    if row.try_get_raw(column)?.is_null() { Ok(None) } else { blob(row, column).map(Some) }
}

/// What is no text counts as none.
fn text(row: &SqliteRow, column: usize) -> Result<&str, StoreError> {
    let bytes: &[u8] = if is_a(row, column, "TEXT")? { row.try_get(column)? } else { &[] };
    Ok(std::str::from_utf8(bytes).unwrap_or_default())
}

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

/// What stands beside the records: the edge, the newest resets by project, and the keys.
pub(crate) async fn beside(conn: &mut SqliteConnection) -> Result<Beside, StoreError> {
    let mut beside = Beside::default();
    let select = "select only_row, size, hashes, sealed_up_to, sealed_hashes from audit_edge";
    for row in sqlx::query(select).fetch_all(&mut *conn).await? {
        beside.edges.push(EdgeRow {
            only_row: integer(&row, 0)?,
            size: integer(&row, 1)?,
            hashes: blob(&row, 2)?.to_vec(),
            sealed_up_to: integer(&row, 3)?,
            sealed_hashes: blob(&row, 4)?.to_vec(),
        });
    }
    for row in
        sqlx::query("select project_id, seq from reset order by project_id").fetch_all(&mut *conn).await?
    {
        beside.resets.push((blob(&row, 0)?.to_vec(), integer(&row, 1)?));
    }
    for row in sqlx::query("select seq, key from audit_key order by seq").fetch_all(conn).await? {
        beside.keys.push((integer(&row, 0)?, text(&row, 1)?.to_owned()));
    }
    Ok(beside)
}

/// A page of checkpoints from number `first` on, in the order in which they were made.
pub(crate) async fn checkpoints(
    conn: &mut SqliteConnection,
    first: i64,
    limit: u32,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let select = "select checkpoint_id, size, hashes, note from audit_checkpoint
                  where checkpoint_id >= ? order by checkpoint_id limit ?";
    let rows = sqlx::query(select).bind(first).bind(limit).fetch_all(conn).await?;
    rows.iter().map(stored_checkpoint).collect()
}

/// The checkpoint that was made last.
pub(crate) async fn newest_checkpoint(
    conn: &mut SqliteConnection,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    let select =
        "select checkpoint_id, size, hashes, note from audit_checkpoint order by checkpoint_id desc limit 1";
    sqlx::query(select).fetch_optional(conn).await?.as_ref().map(stored_checkpoint).transpose()
}

fn stored_checkpoint(row: &SqliteRow) -> Result<StoredCheckpoint, StoreError> {
    Ok(StoredCheckpoint {
        checkpoint_id: integer(row, 0)?,
        size: integer(row, 1)?,
        hashes: blob(row, 2)?.to_vec(),
        note: text(row, 3)?.to_owned(),
    })
}

/// The place of the newest record; 0 without any.
pub(crate) async fn newest_seq(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(newest_seq_of(conn).await?)
}

async fn newest_seq_of(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let newest = sqlx::query_scalar!("select max(seq) from audit_record").fetch_one(conn).await?;
    Ok(newest.unwrap_or(0))
}

/// The place of the oldest record.
pub(crate) async fn oldest_seq(conn: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar("select min(seq) from audit_record").fetch_one(conn).await?)
}

/// One record's bytes.
pub(crate) async fn record(conn: &mut SqliteConnection, seq: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = sqlx::query_scalar!("select bytes from audit_record where seq = ?", seq);
    Ok(bytes.fetch_optional(conn).await?)
}

/// The bytes of the records in which `part` stands, in order.
pub(crate) async fn records_with(
    conn: &mut SqliteConnection,
    part: &[u8],
) -> Result<Vec<Vec<u8>>, StoreError> {
    let bytes = sqlx::query_scalar!(
        "select bytes from audit_record where typeof(bytes) = 'blob' and instr(bytes, ?) > 0 order by seq",
        part,
    );
    Ok(bytes.fetch_all(conn).await?)
}

/// A page of records from `first` on, in order, as long as `each` says.
pub(crate) async fn records(
    conn: &mut SqliteConnection,
    first: i64,
    limit: u32,
    mut each: impl FnMut(Row<'_>) -> bool,
) -> Result<(), StoreError> {
    // Not checked when it is built: a checked row copies what this one only lends.
    let select = sqlx::query(
        "select seq, project_id, group_id, record_time, bytes, leaf from audit_record
         where seq >= ? order by seq limit ?",
    );
    for row in eagerly(select.bind(first).bind(limit).fetch_all(conn)).await? {
        let row = Row {
            seq: integer(&row, 0)?,
            project_id: blob_or_null(&row, 1)?,
            group_id: blob_or_null(&row, 2)?,
            record_time: integer(&row, 3)?,
            bytes: blob(&row, 4)?,
            leaf: blob(&row, 5)?,
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
            name: text(&row, 2)?,
            placement_rule: text(&row, 3)?,
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
            name: text(&row, 2)?,
            status: text(&row, 3)?,
            host: if row.try_get_raw(4)?.is_null() { None } else { Some(text(&row, 4)?) },
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
    bytes16(table, blob(row, column)?)
}
