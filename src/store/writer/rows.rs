//! From decisions to rows: as few statements as the batch allows.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::decide::Decision;
use crate::domain::command::Change;
use crate::domain::group::ServerGroup;
use crate::domain::id::{GroupId, ProjectId, ServerId};
use crate::domain::rules::Facts;
use crate::store::StoreError;
use crate::store::sqlite::{audit, group, once, server, session};

/// Writes what the decisions changed, and the counters of the projects that they changed it in.
pub(super) async fn write_changes(
    conn: &mut SqliteConnection,
    decisions: &[Decision],
    facts: &Facts,
) -> Result<(), StoreError> {
    let changes: Vec<&Change> = decisions.iter().filter_map(Decision::change).collect();
    // A reset wipes what came before it in the batch and not what comes after.
    for run in changes
        .split_inclusive(|change| matches!(change, Change::DatabaseReset | Change::ProjectReset { .. }))
    {
        write_run(conn, run).await?;
    }
    let touched: HashSet<ProjectId> = changes.iter().filter_map(|change| change.project_id()).collect();
    for project_id in touched {
        let project = facts.projects.get(&project_id);
        if let Some((count, newest)) =
            project.and_then(|facts| Some((facts.group_count, facts.newest_group_id?)))
        {
            group::put_project(conn, project_id, count, newest).await?;
        }
    }
    Ok(())
}

/// Writes changes of which only the last may be a reset. All groups that are made are written before anything else is
/// done: ids are made here, so nothing in the batch can have named one before.
async fn write_run(conn: &mut SqliteConnection, run: &[&Change]) -> Result<(), StoreError> {
    let created: Vec<(ProjectId, &ServerGroup)> = run
        .iter()
        .filter_map(|change| match change {
            Change::GroupCreated { project_id, group } => Some((*project_id, group)),
            _ => None,
        })
        .collect();
    group::insert_groups(conn, &created).await?;
    let mut pending = Pending::default();
    for change in run {
        match change {
            Change::GroupDeleted { project_id, group_id, .. } => {
                pending.turn_to(conn, Kind::DeleteGroups).await?;
                pending.groups.entry(*project_id).or_default().push(*group_id);
            }
            Change::MemberAdded { project_id, group_id, server_id, .. } => {
                pending.turn_to(conn, Kind::AddMembers).await?;
                pending.added.push((*project_id, *group_id, *server_id));
            }
            Change::MemberRemoved { project_id, server_id, .. } => {
                pending.turn_to(conn, Kind::RemoveMembers).await?;
                pending.removed.entry(*project_id).or_default().push(*server_id);
            }
            Change::GroupCreated { .. } | Change::MemberKept { .. } => {}
            other => {
                pending.turn_to(conn, Kind::Others).await?;
                write_alone(conn, other).await?;
            }
        }
    }
    pending.flush(conn).await
}

/// Writes a change that is not worth gathering.
async fn write_alone(conn: &mut SqliteConnection, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::DatabaseReset => {
            group::delete_everything(conn).await?;
            once::delete_everything(conn).await
        }
        Change::ProjectReset { project_id } => {
            group::delete_everything_of(conn, *project_id).await?;
            once::delete_everything_of(conn, *project_id).await
        }
        Change::SegmentSealed { last } => audit::delete_sealed(conn, *last).await,
        Change::ServerRegistered { project_id, server } => {
            server::put_server(conn, *project_id, server).await
        }
        Change::ServerUnregistered { project_id, server_id, group_id } => {
            if group_id.is_some() {
                server::delete_members(conn, *project_id, &[*server_id]).await?;
            }
            server::delete_server(conn, *project_id, *server_id).await
        }
        Change::TokenIssued(token) => session::insert_token(conn, token).await,
        Change::TokenRevoked { digest } => session::delete_token(conn, *digest).await,
        Change::TemporaryKeyIssued(key) => session::insert_temporary_key(conn, key).await,
        Change::ExpiredPurged { until } => session::delete_expired(conn, *until).await,
        // The accounts are in a file of their own, the log is written elsewhere, and the others are gathered.
        Change::IdentitiesReloaded
        | Change::RefusalsSummarized
        | Change::Noted
        | Change::SchemaTold { .. }
        | Change::CheckpointKeyChanged { .. }
        | Change::GroupCreated { .. }
        | Change::GroupDeleted { .. }
        | Change::MemberAdded { .. }
        | Change::MemberKept { .. }
        | Change::MemberRemoved { .. } => Ok(()),
    }
}

/// Changes of one kind that follow each other, and are written together.
#[derive(Default)]
struct Pending {
    kind: Kind,
    groups: HashMap<ProjectId, Vec<GroupId>>,
    added: Vec<(ProjectId, GroupId, ServerId)>,
    removed: HashMap<ProjectId, Vec<ServerId>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    DeleteGroups,
    AddMembers,
    RemoveMembers,
    #[default]
    Others,
}

impl Pending {
    /// Before changes of another kind, those that wait are written: an ECS may leave a group and come back.
    async fn turn_to(&mut self, conn: &mut SqliteConnection, kind: Kind) -> Result<(), StoreError> {
        if self.kind != kind {
            self.flush(conn).await?;
            self.kind = kind;
        }
        Ok(())
    }

    async fn flush(&mut self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        for (project_id, group_ids) in self.groups.drain() {
            group::delete_groups(conn, project_id, &group_ids).await?;
        }
        server::insert_members(conn, &self.added).await?;
        self.added.clear();
        for (project_id, server_ids) in self.removed.drain() {
            server::delete_members(conn, project_id, &server_ids).await?;
        }
        Ok(())
    }
}
