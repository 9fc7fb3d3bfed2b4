//! The ECSs that the inventory knows, and what groups ECSs are in.

use sqlx::SqliteConnection;

use super::group::{hex_array, insert_rows};
use super::open::{bytes16, expect_rows};
use crate::domain::id::{GroupId, ProjectId, ServerId};
use crate::domain::server::{HostName, Server};
use crate::store::StoreError;

/// The ECSs of `group_ids`, each with its group.
pub(crate) async fn members_of_groups(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    group_ids: &[GroupId],
) -> Result<Vec<(GroupId, ServerId)>, StoreError> {
    let (project_key, group_keys) =
        (&project_id.as_bytes()[..], hex_array(group_ids.iter().map(GroupId::as_bytes)));
    let rows = sqlx::query!(
        "select group_id, server_id from member
         where project_id = ? and group_id in (select unhex(value) from json_each(?))",
        project_key,
        group_keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| membership(&row.group_id, &row.server_id)).collect()
}

/// Those of `server_ids` that are in a group, each with its group.
pub(crate) async fn groups_of_servers(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    server_ids: &[ServerId],
) -> Result<Vec<(GroupId, ServerId)>, StoreError> {
    let (project_key, server_keys) =
        (&project_id.as_bytes()[..], hex_array(server_ids.iter().map(ServerId::as_bytes)));
    let rows = sqlx::query!(
        "select group_id, server_id from member
         where project_id = ? and server_id in (select unhex(value) from json_each(?))",
        project_key,
        server_keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| membership(&row.group_id, &row.server_id)).collect()
}

fn membership(group_id: &[u8], server_id: &[u8]) -> Result<(GroupId, ServerId), StoreError> {
    let group_id = GroupId::from_bytes(bytes16("member", group_id)?);
    Ok((group_id, ServerId::from_bytes(bytes16("member", server_id)?)))
}

/// Those of `server_ids` that the inventory knows.
pub(crate) async fn servers(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    server_ids: &[ServerId],
) -> Result<Vec<Server>, StoreError> {
    let (project_key, server_keys) =
        (&project_id.as_bytes()[..], hex_array(server_ids.iter().map(ServerId::as_bytes)));
    let rows = sqlx::query_as!(
        ServerRow,
        "select server_id, name, status, host from server
         where project_id = ? and server_id in (select unhex(value) from json_each(?))",
        project_key,
        server_keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Server::try_from).collect()
}

/// All that the inventory knows of a project, by id.
pub(crate) async fn servers_of_project(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<Vec<Server>, StoreError> {
    let project_key = &project_id.as_bytes()[..];
    let rows = sqlx::query_as!(
        ServerRow,
        "select server_id, name, status, host from server where project_id = ? order by server_id",
        project_key,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Server::try_from).collect()
}

/// How many the inventory knows of a project.
pub(crate) async fn server_count(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<u32, StoreError> {
    let project_key = &project_id.as_bytes()[..];
    let row = sqlx::query!("select count(*) as count from server where project_id = ?", project_key)
        .fetch_one(conn)
        .await?;
    u32::try_from(row.count).map_err(|_out_of_range| StoreError::corrupt("server", project_id))
}

/// Puts ECSs into groups.
pub(crate) async fn insert_members(
    conn: &mut SqliteConnection,
    members: &[(ProjectId, GroupId, ServerId)],
) -> Result<(), StoreError> {
    let insert = "insert into member (project_id, group_id, server_id) ";
    insert_rows(conn, "member", insert, members, |row, (project_id, group_id, server_id)| {
        row.push_bind(&project_id.as_bytes()[..])
            .push_bind(&group_id.as_bytes()[..])
            .push_bind(&server_id.as_bytes()[..]);
    })
    .await
}

/// Takes ECSs of a project out of their groups.
pub(crate) async fn delete_members(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    server_ids: &[ServerId],
) -> Result<(), StoreError> {
    let (project_key, server_keys) =
        (&project_id.as_bytes()[..], hex_array(server_ids.iter().map(ServerId::as_bytes)));
    let done = sqlx::query!(
        "delete from member where project_id = ? and server_id in (select unhex(value) from json_each(?))",
        project_key,
        server_keys,
    )
    .execute(conn)
    .await?;
    expect_rows("member", done.rows_affected(), server_ids.len())
}

/// Keeps what is known of an ECS.
pub(crate) async fn put_server(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    server: &Server,
) -> Result<(), StoreError> {
    let (project_key, server_key) = (&project_id.as_bytes()[..], &server.server_id.as_bytes()[..]);
    let (name, status) = (server.name.as_str(), server.status.as_str());
    let host = server.host.as_ref().map(HostName::as_str);
    let done = sqlx::query!(
        "insert into server (project_id, server_id, name, status, host) values (?, ?, ?, ?, ?)
         on conflict (project_id, server_id) do update
         set name = excluded.name, status = excluded.status, host = excluded.host",
        project_key,
        server_key,
        name,
        status,
        host,
    )
    .execute(conn)
    .await?;
    expect_rows("server", done.rows_affected(), 1)
}

/// Forgets an ECS.
pub(crate) async fn delete_server(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
    server_id: ServerId,
) -> Result<(), StoreError> {
    let (project_key, server_key) = (&project_id.as_bytes()[..], &server_id.as_bytes()[..]);
    let done =
        sqlx::query!("delete from server where project_id = ? and server_id = ?", project_key, server_key)
            .execute(conn)
            .await?;
    expect_rows("server", done.rows_affected(), 1)
}

struct ServerRow {
    server_id: Vec<u8>,
    name: String,
    status: String,
    host: Option<String>,
}

impl TryFrom<ServerRow> for Server {
    type Error = StoreError;

    fn try_from(row: ServerRow) -> Result<Self, StoreError> {
        let server_id = ServerId::from_bytes(bytes16("server", &row.server_id)?);
        let corrupt = |what: String| StoreError::corrupt("server", format!("{server_id}: {what}"));
        Ok(Self {
            server_id,
            name: row.name.try_into().map_err(|error| corrupt(format!("its name {error}")))?,
            status: row.status.parse().map_err(|_unknown| corrupt("its status".to_owned()))?,
            host: match row.host {
                None => None,
                Some(host) => Some(host.try_into().map_err(|error| corrupt(format!("its host {error}")))?),
            },
        })
    }
}
