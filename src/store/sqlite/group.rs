//! Groups, their members, and the counter of each project.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::open::{ROWS_MAX, bytes16, expect_rows};
use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::domain::page::Page;
use crate::domain::rules::ProjectFacts;
use crate::store::StoreError;

/// One group, or `None`.
pub(crate) async fn group(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_id: GroupId,
) -> Result<Option<ServerGroup>, StoreError> {
    let (project_key, group_key) = (&project_id.as_bytes()[..], &group_id.as_bytes()[..]);
    let rows = sqlx::query_as!(
        GroupRow,
        "select g.group_id, g.name, g.placement_rule, g.created_by, m.server_id as 'server_id?'
         from server_group g left join member m using (project_id, group_id)
         where g.project_id = ? and g.group_id = ?
         order by m.server_id",
        project_key,
        group_key,
    )
    .fetch_all(conn)
    .await?;
    Ok(groups_of(rows)?.pop())
}

/// The groups of one project in creation order, after `page.marker()`: one more than `page.limit()` when there are
/// more, so that the caller can tell.
pub(crate) async fn groups_of_project(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    page: &Page,
) -> Result<Vec<ServerGroup>, StoreError> {
    let project_key = &project_id.as_bytes()[..];
    let after = page.marker().map_or(Vec::new(), |marker| marker.as_bytes().to_vec());
    let (limit, offset) = (i64::from(page.limit()) + 1, i64::from(page.offset()));
    let rows = sqlx::query_as!(
        GroupRow,
        "select g.group_id, g.name, g.placement_rule, g.created_by, m.server_id as 'server_id?'
         from (
             select project_id, group_id, name, placement_rule, created_by from server_group
             where project_id = ? and group_id > ? order by group_id limit ? offset ?
         ) g left join member m using (project_id, group_id)
         order by g.group_id, m.server_id",
        project_key,
        after,
        limit,
        offset,
    )
    .fetch_all(conn)
    .await?;
    groups_of(rows)
}

/// A project's counter and newest group; nothing of its groups and ECSs.
pub(crate) async fn counters(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<ProjectFacts, StoreError> {
    let project_key = &project_id.as_bytes()[..];
    let row =
        sqlx::query!("select group_count, newest_group_id from project where project_id = ?", project_key)
            .fetch_optional(&mut *conn)
            .await?;
    let Some(row) = row else { return Ok(ProjectFacts::default()) };
    let corrupt = |_out_of_range| StoreError::corrupt("project", project_id);
    Ok(ProjectFacts {
        group_count: u32::try_from(row.group_count).map_err(corrupt)?,
        newest_group_id: Some(GroupId::from_bytes(bytes16("project", &row.newest_group_id)?)),
        ..ProjectFacts::default()
    })
}

/// The names of those of `group_ids` that exist.
pub(crate) async fn names_of_groups(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_ids: &[GroupId],
) -> Result<Vec<(GroupId, GroupName)>, StoreError> {
    let (project_key, group_keys) =
        (&project_id.as_bytes()[..], hex_array(group_ids.iter().map(GroupId::as_bytes)));
    let rows = sqlx::query!(
        "select group_id, name from server_group
         where project_id = ? and group_id in (select unhex(value) from json_each(?))",
        project_key,
        group_keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let group_id = GroupId::from_bytes(bytes16("server_group", &row.group_id)?);
            Ok((group_id, name(group_id, row.name)?))
        })
        .collect()
}

/// Inserts rows of one table, as many with one statement as it takes.
pub(super) async fn insert_rows<'rows, T>(
    conn: &mut SqliteConnection,
    table: &'static str,
    insert: &str,
    rows: &'rows [T],
    mut bind: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, &'rows T),
) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS_MAX) {
        let mut query = QueryBuilder::<Sqlite>::new(insert);
        query.push_values(chunk, |mut row, item| bind(&mut row, item));
        let done = query.build().execute(&mut *conn).await?;
        expect_rows(table, done.rows_affected(), chunk.len())?;
    }
    Ok(())
}

/// Adds groups to their projects.
pub(crate) async fn insert_groups(
    conn: &mut SqliteConnection,
    groups: &[(ProjectId, &ServerGroup)],
) -> Result<(), StoreError> {
    let insert = "insert into server_group (project_id, group_id, name, placement_rule, created_by) ";
    insert_rows(conn, "server_group", insert, groups, |row, (project_id, group)| {
        row.push_bind(&project_id.as_bytes()[..])
            .push_bind(&group.group_id.as_bytes()[..])
            .push_bind(group.name.as_str())
            .push_bind(group.placement_rule.as_str())
            .push_bind(&group.created_by.as_bytes()[..]);
    })
    .await
}

/// Deletes groups of a project; their memberships go with them (`member_of_a_group`).
pub(crate) async fn delete_groups(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_ids: &[GroupId],
) -> Result<(), StoreError> {
    let (project_key, group_keys) =
        (&project_id.as_bytes()[..], hex_array(group_ids.iter().map(GroupId::as_bytes)));
    let done = sqlx::query!(
        "delete from server_group
         where project_id = ? and group_id in (select unhex(value) from json_each(?))",
        project_key,
        group_keys,
    )
    .execute(conn)
    .await?;
    expect_rows("server_group", done.rows_affected(), group_ids.len())
}

/// Deletes every group, membership and registered ECS of every project, and sets the counters to zero.
pub(crate) async fn delete_everything(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query!("delete from member").execute(&mut *conn).await?;
    sqlx::query!("delete from server_group").execute(&mut *conn).await?;
    sqlx::query!("delete from server").execute(&mut *conn).await?;
    sqlx::query!("update project set group_count = 0").execute(conn).await?;
    Ok(())
}

/// Deletes every group, member and registered ECS of one project.
pub(crate) async fn delete_everything_of(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<(), StoreError> {
    let project = &project_id.as_bytes()[..];
    sqlx::query!("delete from member where project_id = ?", project).execute(&mut *conn).await?;
    sqlx::query!("delete from server_group where project_id = ?", project).execute(&mut *conn).await?;
    sqlx::query!("delete from server where project_id = ?", project).execute(&mut *conn).await?;
    sqlx::query!("update project set group_count = 0 where project_id = ?", project).execute(conn).await?;
    Ok(())
}

/// Keeps a project's counter and newest id.
pub(crate) async fn put_project(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_count: u32,
    newest_group_id: GroupId,
) -> Result<(), StoreError> {
    let (project_key, newest_key) = (&project_id.as_bytes()[..], &newest_group_id.as_bytes()[..]);
    let done = sqlx::query!(
        "insert into project (project_id, group_count, newest_group_id) values (?, ?, ?)
         on conflict (project_id) do update
         set group_count = excluded.group_count, newest_group_id = excluded.newest_group_id",
        project_key,
        group_count,
        newest_key,
    )
    .execute(conn)
    .await?;
    expect_rows("project", done.rows_affected(), 1)
}

/// A group beside one of its members; a group without members has one row.
struct GroupRow {
    group_id: Vec<u8>,
    name: String,
    placement_rule: String,
    created_by: Vec<u8>,
    server_id: Option<Vec<u8>>,
}

/// Folds rows, ordered by group, into groups.
fn groups_of(rows: Vec<GroupRow>) -> Result<Vec<ServerGroup>, StoreError> {
    let mut groups: Vec<ServerGroup> = Vec::with_capacity(rows.len());
    for row in rows {
        let member = match &row.server_id {
            Some(bytes) => Some(ServerId::from_bytes(bytes16("member", bytes)?)),
            None => None,
        };
        let group_id = GroupId::from_bytes(bytes16("server_group", &row.group_id)?);
        match groups.last_mut() {
            Some(last) if last.group_id == group_id => last.members.extend(member),
            _ => groups.push(ServerGroup {
                group_id,
                name: name(group_id, row.name)?,
                placement_rule: placement_rule(group_id, &row.placement_rule)?,
                members: member.into_iter().collect(),
                created_by: UserId::from_bytes(bytes16("server_group", &row.created_by)?),
            }),
        }
    }
    Ok(groups)
}

fn name(group_id: GroupId, text: String) -> Result<GroupName, StoreError> {
    GroupName::try_from(text)
        .map_err(|error| StoreError::corrupt("server_group", format!("{group_id}: its name {error}")))
}

fn placement_rule(group_id: GroupId, text: &str) -> Result<PlacementRule, StoreError> {
    text.parse().map_err(|error| {
        StoreError::corrupt("server_group", format!("{group_id}: its placement rule {error}"))
    })
}

/// Ids as a JSON array of hex texts: any number of them in one parameter, so that the statement stays the same.
pub(super) fn hex_array<'ids>(ids: impl Iterator<Item = &'ids [u8; 16]>) -> String {
    let quoted: Vec<String> = ids.map(|id| format!("\"{:032x}\"", u128::from_be_bytes(*id))).collect();
    format!("[{}]", quoted.join(","))
}
