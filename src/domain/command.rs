//! Everything that can change, and what each change does.

use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
use crate::domain::id::{GroupId, ProjectId, UserId};

/// Every mutation there is. A command is well formed: what does not parse never becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a group ("Creating an ECS Group").
    CreateGroup {
        /// The project that will own it.
        project_id: ProjectId,
        /// Its name.
        name: GroupName,
        /// How its members are to be placed.
        placement_rule: PlacementRule,
        /// Who makes it.
        created_by: UserId,
    },
    /// Delete a group, with its memberships ("Deleting an ECS Group").
    DeleteGroup {
        /// The project that owns it.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
    },
    /// Delete every group of every project; the audit log stays.
    ResetDatabase,
}

impl Command {
    /// The project whose facts the command is decided on; `None` for a command about the whole database.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::CreateGroup { project_id, .. } | Self::DeleteGroup { project_id, .. } => Some(*project_id),
            Self::ResetDatabase => None,
        }
    }

    /// The existing group whose facts the command is decided on.
    #[must_use]
    pub const fn group_id(&self) -> Option<GroupId> {
        match self {
            Self::DeleteGroup { group_id, .. } => Some(*group_id),
            Self::CreateGroup { .. } | Self::ResetDatabase => None,
        }
    }
}

/// What a command did to the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new group stands in the project.
    GroupCreated {
        /// The owner.
        project_id: ProjectId,
        /// The group, as every read shows it from now on.
        group: ServerGroup,
    },
    /// A group is gone, and its memberships with it.
    GroupDeleted {
        /// The owner.
        project_id: ProjectId,
        /// The group that was deleted.
        group_id: GroupId,
        /// What it was called.
        name: GroupName,
    },
    /// Every group of every project is gone.
    DatabaseReset,
}

impl Change {
    /// The project that it changed; `None` for all of them.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::GroupCreated { project_id, .. } | Self::GroupDeleted { project_id, .. } => {
                Some(*project_id)
            }
            Self::DatabaseReset => None,
        }
    }
}
