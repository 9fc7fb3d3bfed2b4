//! The audit log as it is listed: by `seq`, by project and by group. Invariant: no statement here reads more rows than
//! it gives back.

use sqlx::SqliteConnection;

use super::open::bytes16;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// Places in the log, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    pub(crate) const fn is_empty(self) -> bool {
        self.first > self.last
    }
}

/// The places that have a record: what was sealed and deleted is no more among them.
pub(crate) async fn range_of_log(conn: &mut SqliteConnection) -> Result<Range, StoreError> {
    let edge = sqlx::query!("select size, sealed_up_to from audit_edge").fetch_one(conn).await?;
    let place = |seq: i64| u64::try_from(seq).map_err(|error| StoreError::corrupt("audit_edge", error));
    Ok(Range { first: place(edge.sealed_up_to)? + 1, last: place(edge.size)? })
}

/// The first record at a place or behind it, and when it was made.
pub(crate) async fn time_at(
    conn: &mut SqliteConnection,
    seq: u64,
) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let seq = seq.cast_signed();
    let row = sqlx::query!(
        r#"select seq as "seq!", record_time from audit_record where seq >= ? order by seq limit 1"#,
        seq
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((seq_of(row.seq)?, time_of(row.record_time)?))).transpose()
}

/// When the newest record was made.
pub(crate) async fn newest_time(conn: &mut SqliteConnection) -> Result<Option<Timestamp>, StoreError> {
    let newest = sqlx::query_scalar!("select record_time from audit_record order by seq desc limit 1")
        .fetch_optional(conn)
        .await?;
    newest.map(time_of).transpose()
}

/// The record at a place, and its project.
pub(crate) async fn record(
    conn: &mut SqliteConnection,
    seq: u64,
) -> Result<Option<(Option<ProjectId>, Vec<u8>)>, StoreError> {
    let seq = seq.cast_signed();
    let row = sqlx::query!("select project_id, bytes from audit_record where seq = ?", seq)
        .fetch_optional(conn)
        .await?;
    row.map(|row| {
        let project_id = row.project_id.map(|id| bytes16("audit_record", &id)).transpose()?;
        Ok((project_id.map(ProjectId::from_bytes), row.bytes))
    })
    .transpose()
}

/// Records of all projects after a place, each with its own.
pub(crate) async fn records_after(
    conn: &mut SqliteConnection,
    seq: u64,
    rows_max: u32,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let seq = seq.cast_signed();
    let rows = sqlx::query!(
        r#"select seq as "seq!", bytes from audit_record where seq > ? order by seq limit ?"#,
        seq,
        rows_max,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok((seq_of(row.seq)?, row.bytes))).collect()
}

/// Records of a project, newest first, each with its place.
pub(crate) async fn records_of_project(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    Range { first, last }: Range,
    rows_max: u32,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let project_key = &project_id.as_bytes()[..];
    let (first, last) = (first.cast_signed(), last.cast_signed());
    let rows = sqlx::query!(
        r#"select seq as "seq!", bytes from audit_record
         where project_id = ? and seq between ? and ? order by seq desc limit ?"#,
        project_key,
        first,
        last,
        rows_max,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok((seq_of(row.seq)?, row.bytes))).collect()
}

/// Records about a group, newest first, each with its place.
pub(crate) async fn records_of_group(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_id: GroupId,
    Range { first, last }: Range,
    rows_max: u32,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let (project_key, group_key) = (&project_id.as_bytes()[..], &group_id.as_bytes()[..]);
    let (first, last) = (first.cast_signed(), last.cast_signed());
    let rows = sqlx::query!(
        r#"select seq as "seq!", bytes from audit_record
         where group_id = ? and project_id = ? and seq between ? and ? order by seq desc limit ?"#,
        group_key,
        project_key,
        first,
        last,
        rows_max,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok((seq_of(row.seq)?, row.bytes))).collect()
}

/// Whether a project has any record about a group.
pub(crate) async fn has_records_of_group(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_id: GroupId,
) -> Result<bool, StoreError> {
    let (project_key, group_key) = (&project_id.as_bytes()[..], &group_id.as_bytes()[..]);
    let found = sqlx::query_scalar!(
        "select exists (select 1 from audit_record where group_id = ? and project_id = ?)",
        group_key,
        project_key,
    )
    .fetch_one(conn)
    .await?;
    Ok(found == 1)
}

fn seq_of(seq: i64) -> Result<u64, StoreError> {
    u64::try_from(seq).map_err(|error| StoreError::corrupt("audit_record", error))
}

fn time_of(millis: i64) -> Result<Timestamp, StoreError> {
    let millis = u64::try_from(millis).map_err(|error| StoreError::corrupt("audit_record", error))?;
    Ok(Timestamp::from_millis(millis))
}
