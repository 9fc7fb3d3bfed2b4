//! The table of actions: what a request does, in the names that policies use.
//!
//! Source: "Permissions and Supported Actions" (ECS, policies and identity policies).

use std::fmt;

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
    /// Add an ECS to a group.
    AddServerGroupMember,
    /// Take an ECS out of a group.
    DeleteServerGroupMember,
    /// Show how much a project may hold, and holds.
    ShowServerLimits,
    /// Show one ECS.
    ShowServer,
    /// Do anything to groups by the native OpenStack interface. It permits the actions above there, and is none itself.
    ManageServerGroups,
    /// The same of the limits.
    ShowNativeLimits,
    /// Make an ECS known to the inventory, or what is known of it right.
    RegisterServer,
    /// Have the inventory forget an ECS.
    UnregisterServer,
    /// Show what the inventory knows.
    ListInventory,
    /// Delete every group of every project.
    ResetDatabase,
    /// Get a token for oneself.
    IssueToken,
    /// Take a token back.
    RevokeToken,
    /// Get a temporary access key for oneself.
    IssueTemporaryKey,
    /// Forget tokens and keys that have expired.
    PurgeExpired,
    /// Read the file of accounts again.
    ReloadIdentities,
    /// Write down how much was not recorded.
    SummarizeRefusals,
    /// Delete every group of one project.
    ResetProject,
    /// List a project's audit records.
    ListTraces,
    /// Start the service.
    StartService,
    /// Stop it.
    StopService,
    /// Give the database another schema.
    MigrateDatabase,
    /// Put a backup in the database's place.
    RestoreDatabase,
    /// Go on with a log that is not the one that its newest checkpoint tells of.
    AcceptAuditLoss,
    /// Sign checkpoints with another key.
    ChangeCheckpointKey,
    /// Delete records that stand in a sealed segment.
    SealSegment,
    /// Read the audit records of all projects as they are written.
    FollowAuditLog,
}

/// Who can be given the right to an action, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedBy {
    /// The root of the account has it, and a policy can give it to its users.
    PolicyDocument,
    /// Everybody has it over what is their own.
    Oneself,
    /// Only the operator of this machine, or the service itself.
    Operator,
}

/// How much an action does, in the vendor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLevel {
    /// Changes something.
    Write,
    /// Shows many.
    List,
    /// Shows one.
    Read,
}

/// What kind of thing an action is about, in the audit log's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// ECS groups.
    ServerGroup,
    /// ECSs.
    Server,
    /// The whole database.
    Database,
    /// Tokens.
    Token,
    /// Temporary access keys.
    TemporaryKey,
    /// The accounts.
    Identities,
    /// The audit log itself.
    AuditLog,
    /// A project as a whole.
    Project,
    /// The service itself.
    Service,
}

impl Subject {
    /// Its name in the audit record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerGroup => "server_group",
            Self::Server => "server",
            Self::Database => "database",
            Self::Token => "token",
            Self::TemporaryKey => "temporary_key",
            Self::Identities => "identities",
            Self::AuditLog => "audit_log",
            Self::Project => "project",
            Self::Service => "service",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name that identity policies use, or our own for what the vendor gives no name.
    pub name: &'static str,
    /// The older, wider name that policies may use as well.
    pub alias: Option<&'static str>,
    /// How much it does.
    pub level: AccessLevel,
    /// The vendor's resource type; `-` where a statement's Resource must be `*`.
    pub resource_type: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// Who can have it.
    pub granted_by: GrantedBy,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 30] = [
        Self::CreateServerGroup,
        Self::ListServerGroups,
        Self::ShowServerGroup,
        Self::DeleteServerGroup,
        Self::AddServerGroupMember,
        Self::DeleteServerGroupMember,
        Self::ShowServerLimits,
        Self::ShowServer,
        Self::ManageServerGroups,
        Self::ShowNativeLimits,
        Self::RegisterServer,
        Self::UnregisterServer,
        Self::ListInventory,
        Self::ResetDatabase,
        Self::IssueToken,
        Self::RevokeToken,
        Self::IssueTemporaryKey,
        Self::PurgeExpired,
        Self::ReloadIdentities,
        Self::SummarizeRefusals,
        Self::ResetProject,
        Self::ListTraces,
        Self::StartService,
        Self::StopService,
        Self::MigrateDatabase,
        Self::RestoreDatabase,
        Self::AcceptAuditLoss,
        Self::ChangeCheckpointKey,
        Self::SealSegment,
        Self::FollowAuditLog,
    ];

    /// The table.
    #[must_use]
    pub const fn row(self) -> Row {
        use AccessLevel::{List, Read, Write};
        match self {
            Self::CreateServerGroup => {
                group("ecs:cloudServers:createServerGroup", "ecs:cloudServers:create", Write)
            }
            Self::ListServerGroups => {
                group("ecs:cloudServers:listServerGroups", "ecs:cloudServers:list", List)
            }
            Self::ShowServerGroup => group("ecs:cloudServers:showServerGroup", "ecs:cloudServers:get", Read),
            Self::DeleteServerGroup => {
                group("ecs:cloudServers:deleteServerGroup", "ecs:cloudServers:delete", Write)
            }
            Self::AddServerGroupMember => {
                group("ecs:cloudServers:addServerGroupMember", "ecs:cloudServers:create", Write)
            }
            Self::DeleteServerGroupMember => {
                group("ecs:cloudServers:deleteServerGroupMember", "ecs:cloudServers:delete", Write)
            }
            Self::ShowServerLimits => Row { alias: None, ..group("ecs:cloudServerQuotas:get", "", Read) },
            Self::ShowServer => {
                let row = group("ecs:cloudServers:showServer", "ecs:cloudServers:get", Read);
                Row { subject: Subject::Server, ..row }
            }
            Self::ManageServerGroups => Row { alias: None, ..group("ecs:serverGroups:manage", "", Write) },
            Self::ShowNativeLimits => Row { alias: None, ..group("ecs:quotas:get", "", Read) },
            Self::RegisterServer => {
                own("ecs-groupd:inventory:register", Subject::Server, GrantedBy::Operator)
            }
            Self::UnregisterServer => {
                own("ecs-groupd:inventory:unregister", Subject::Server, GrantedBy::Operator)
            }
            Self::ListInventory => {
                let row = own("ecs-groupd:inventory:list", Subject::Server, GrantedBy::Operator);
                Row { level: List, ..row }
            }
            Self::ResetDatabase => own("ecs-groupd:database:reset", Subject::Database, GrantedBy::Operator),
            Self::IssueToken => own("ecs-groupd:token:issue", Subject::Token, GrantedBy::Oneself),
            Self::RevokeToken => own("ecs-groupd:token:revoke", Subject::Token, GrantedBy::Oneself),
            Self::IssueTemporaryKey => {
                own("ecs-groupd:temporaryKey:issue", Subject::TemporaryKey, GrantedBy::Oneself)
            }
            Self::PurgeExpired => own("ecs-groupd:token:purge", Subject::Token, GrantedBy::Operator),
            Self::ReloadIdentities => {
                own("ecs-groupd:identities:reload", Subject::Identities, GrantedBy::Operator)
            }
            Self::SummarizeRefusals => {
                own("ecs-groupd:audit:summarizeRefusals", Subject::AuditLog, GrantedBy::Operator)
            }
            Self::ResetProject => own("ecs-groupd:project:reset", Subject::Project, GrantedBy::Operator),
            Self::ListTraces => {
                let row = own("cts:trace:list", Subject::AuditLog, GrantedBy::PolicyDocument);
                Row { level: List, ..row }
            }
            Self::StartService => own("ecs-groupd:service:start", Subject::Service, GrantedBy::Operator),
            Self::StopService => own("ecs-groupd:service:stop", Subject::Service, GrantedBy::Operator),
            Self::MigrateDatabase => {
                own("ecs-groupd:database:migrate", Subject::Database, GrantedBy::Operator)
            }
            Self::RestoreDatabase => {
                own("ecs-groupd:database:restore", Subject::Database, GrantedBy::Operator)
            }
            Self::AcceptAuditLoss => {
                own("ecs-groupd:audit:acceptLoss", Subject::AuditLog, GrantedBy::Operator)
            }
            Self::ChangeCheckpointKey => {
                own("ecs-groupd:audit:changeKey", Subject::AuditLog, GrantedBy::Operator)
            }
            Self::FollowAuditLog => {
                let row = own("ecs-groupd:audit:follow", Subject::AuditLog, GrantedBy::Operator);
                Row { level: Read, ..row }
            }
            Self::SealSegment => own("ecs-groupd:audit:sealSegment", Subject::AuditLog, GrantedBy::Operator),
        }
    }

    /// The action that a command needs a permit for.
    #[must_use]
    pub const fn of(command: &Command) -> Self {
        match command {
            Command::CreateGroup { .. } => Self::CreateServerGroup,
            Command::DeleteGroup { .. } => Self::DeleteServerGroup,
            Command::AddMember { .. } => Self::AddServerGroupMember,
            Command::RemoveMember { .. } => Self::DeleteServerGroupMember,
            Command::RegisterServer { .. } => Self::RegisterServer,
            Command::UnregisterServer { .. } => Self::UnregisterServer,
            Command::ResetDatabase => Self::ResetDatabase,
            Command::IssueToken { .. } => Self::IssueToken,
            Command::RevokeToken { .. } => Self::RevokeToken,
            Command::IssueTemporaryKey { .. } => Self::IssueTemporaryKey,
            Command::PurgeExpired => Self::PurgeExpired,
            Command::ReloadIdentities { .. } => Self::ReloadIdentities,
            Command::SummarizeRefusals { .. } => Self::SummarizeRefusals,
            Command::ResetProject { .. } => Self::ResetProject,
            Command::StartService { .. } => Self::StartService,
            Command::StopService => Self::StopService,
            Command::MigrateDatabase { .. } => Self::MigrateDatabase,
            Command::RestoreDatabase { .. } => Self::RestoreDatabase,
            Command::AcceptAuditLoss { .. } => Self::AcceptAuditLoss,
            Command::ChangeCheckpointKey { .. } => Self::ChangeCheckpointKey,
            Command::SealSegment { .. } => Self::SealSegment,
        }
    }

    /// The action of this name, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The service it belongs to: what stands before the first colon.
    #[must_use]
    pub fn service(self) -> &'static str {
        self.name().split(':').next().unwrap_or_default()
    }

    /// Whether it changes something, so that an attempt without rights is recorded too.
    #[must_use]
    pub const fn is_mutation(self) -> bool {
        matches!(self.row().level, AccessLevel::Write)
    }
}

const fn group(name: &'static str, alias: &'static str, level: AccessLevel) -> Row {
    let (subject, granted_by) = (Subject::ServerGroup, GrantedBy::PolicyDocument);
    Row { name, alias: Some(alias), level, resource_type: "-", subject, granted_by }
}

const fn own(name: &'static str, subject: Subject, granted_by: GrantedBy) -> Row {
    Row { name, alias: None, level: AccessLevel::Write, resource_type: "-", subject, granted_by }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::List => "list",
            Self::Read => "read",
        })
    }
}

/// Some of the actions that there are. What a policy's pattern matches is worked out once, when it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionSet(u32);

impl ActionSet {
    /// Those for which `is_in` holds.
    pub fn of(is_in: impl Fn(Action) -> bool) -> Self {
        Self(
            Action::ALL
                .into_iter()
                .filter(|action| is_in(*action))
                .fold(0, |bits, action| bits | action.bit()),
        )
    }

    /// Whether `action` is one of them.
    #[must_use]
    pub const fn has(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }
}

impl Action {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_action_stands_once_in_the_list_and_has_a_name_of_its_own() {
        let names: HashSet<_> = Action::ALL.map(Action::name).into();
        assert_eq!(names.len(), Action::ALL.len());
        for (at, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, at, "{action:?} is not where it is declared");
            assert_eq!(Action::named(&action.name().to_uppercase()), Some(action));
        }
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        let set = ActionSet::of(Action::is_mutation);
        for action in Action::ALL {
            assert_eq!(set.has(action), action.is_mutation());
        }
    }
}
