//! The table of actions: what a request does, in the names that policies use.

use crate::domain::command::Command;

/// One thing that a caller may be permitted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make a group.
    CreateServerGroup,
    /// List the groups of a project.
    ListServerGroups,
    /// Show one group.
    ShowServerGroup,
    /// Delete a group.
    DeleteServerGroup,
    /// Delete every group of every project. The operator's alone; no policy can grant it.
    ResetDatabase,
}

impl Action {
    /// The action that a command needs a permit for.
    #[must_use]
    pub const fn of(command: &Command) -> Self {
        match command {
            Command::CreateGroup { .. } => Self::CreateServerGroup,
            Command::DeleteGroup { .. } => Self::DeleteServerGroup,
            Command::ResetDatabase => Self::ResetDatabase,
        }
    }

    /// The name that identity policies use ("Permissions and Supported Actions", ECS), or our own for an operator's
    /// action.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateServerGroup => "ecs:cloudServers:createServerGroup",
            Self::ListServerGroups => "ecs:cloudServers:listServerGroups",
            Self::ShowServerGroup => "ecs:cloudServers:showServerGroup",
            Self::DeleteServerGroup => "ecs:cloudServers:deleteServerGroup",
            Self::ResetDatabase => "ecs-groupd:database:reset",
        }
    }

    /// Whether it changes something, so that an attempt without rights is recorded too.
    #[must_use]
    pub const fn is_mutation(self) -> bool {
        match self {
            Self::CreateServerGroup | Self::DeleteServerGroup | Self::ResetDatabase => true,
            Self::ListServerGroups | Self::ShowServerGroup => false,
        }
    }
}
