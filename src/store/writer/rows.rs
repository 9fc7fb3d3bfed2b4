//! From decisions to rows: as few statements as the batch allows.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::decide::Decision;
use crate::domain::command::Change;
use crate::domain::group::ServerGroup;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::rules::Facts;
use crate::store::StoreError;
use crate::store::sqlite::{group, session};

/// Writes what the decisions changed, and the counters of the projects that they changed it in.
pub(super) async fn write_changes(
    conn: &mut SqliteConnection,
    decisions: &[Decision],
    facts: &Facts,
) -> Result<(), StoreError> {
    let changes: Vec<&Change> = decisions.iter().filter_map(Decision::change).collect();
    // A reset wipes what came before it in the batch and not what comes after.
    for run in changes.split_inclusive(|change| matches!(change, Change::DatabaseReset)) {
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

/// Writes changes of which only the last may be a reset. All that is made is written before anything is deleted:
/// ids are made here, so nothing in the batch can have named one before.
async fn write_run(conn: &mut SqliteConnection, run: &[&Change]) -> Result<(), StoreError> {
    let mut created: Vec<(ProjectId, &ServerGroup)> = Vec::new();
    let mut deleted: HashMap<ProjectId, Vec<GroupId>> = HashMap::new();
    let mut is_reset = false;
    for change in run {
        match change {
            Change::GroupCreated { project_id, group } => created.push((*project_id, group)),
            Change::GroupDeleted { project_id, group_id, .. } => {
                deleted.entry(*project_id).or_default().push(*group_id);
            }
            Change::DatabaseReset => is_reset = true,
            Change::TokenIssued(token) => session::insert_token(conn, token).await?,
            Change::TokenRevoked { digest } => session::delete_token(conn, *digest).await?,
            Change::TemporaryKeyIssued(key) => session::insert_temporary_key(conn, key).await?,
            Change::ExpiredPurged { until } => session::delete_expired(conn, *until).await?,
            // The accounts are in a file of their own.
            Change::IdentitiesReloaded | Change::RefusalsSummarized => {}
        }
    }
    group::insert_groups(conn, &created).await?;
    for (project_id, group_ids) in deleted {
        group::delete_groups(conn, project_id, &group_ids).await?;
    }
    if is_reset {
        group::delete_all_groups(conn).await?;
    }
    Ok(())
}
