//! Everything that can change, and what each change does.

use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};
use crate::domain::server::Server;
use crate::domain::session::{AccessKeyId, LoginMethod, Scope, SecretDigest, Session, TemporaryKey};
use crate::domain::time::Timestamp;

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
    /// Add an ECS to a group ("Adding an ECS to an ECS Group").
    AddMember {
        /// The project that owns the group.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
        /// The ECS.
        server_id: ServerId,
    },
    /// Take an ECS out of a group ("Removing an ECS from an ECS Group").
    RemoveMember {
        /// The project that owns the group.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
        /// The ECS.
        server_id: ServerId,
    },
    /// Make an ECS known to the inventory, or what is known of it right.
    RegisterServer {
        /// The project that owns it.
        project_id: ProjectId,
        /// All that is known of it.
        server: Server,
    },
    /// Forget an ECS, which takes it out of its group, as deleting it does.
    UnregisterServer {
        /// The project that owns it.
        project_id: ProjectId,
        /// The ECS.
        server_id: ServerId,
    },
    /// Delete every group and registered ECS of every project; the audit log stays.
    ResetDatabase,
    /// Delete every group and registered ECS of one project; the audit log stays.
    ResetProject {
        /// The project.
        project_id: ProjectId,
    },
    /// Give out a token ("Obtaining a User Token Through Password Authentication").
    IssueToken {
        /// What the token will be known by.
        digest: SecretDigest,
        /// Whose it will be.
        user_id: UserId,
        /// What it will be good for.
        scope: Scope,
        /// How its holder logged in.
        method: LoginMethod,
        /// A mark of what its holder logs in with.
        credentials: SecretDigest,
        /// How long it will be good, in milliseconds.
        lifetime_ms: u64,
        /// The expiry of the token that it was asked for with, which it does not outlive.
        expires_by: Option<Timestamp>,
    },
    /// Take a token back.
    RevokeToken {
        /// The token.
        digest: SecretDigest,
    },
    /// Give out a temporary access key ("Obtaining a Temporary AK/SK and Security Token Through a Token").
    IssueTemporaryKey {
        /// Its public half.
        access_key: AccessKeyId,
        /// What its security token will be known by.
        digest: SecretDigest,
        /// Whose it will be.
        user_id: UserId,
        /// How long it will be good, in milliseconds.
        lifetime_ms: u64,
        /// The expiry of the token that it was asked for with, which it does not outlive.
        expires_by: Option<Timestamp>,
    },
    /// Forget the tokens and temporary keys that have expired.
    PurgeExpired,
    /// Go on with the accounts of a file that was read again.
    ReloadIdentities {
        /// What is different, a line each.
        differences: Vec<String>,
    },
    /// Write down how many attempts of a caller were turned down and not recorded one by one.
    SummarizeRefusals {
        /// The caller.
        user_id: UserId,
        /// How many.
        count: u64,
        /// Since when.
        since: Timestamp,
    },
    /// Write down that the service starts.
    StartService {
        /// The program's version.
        version: String,
    },
    /// Write down that the service stops.
    StopService,
    /// Write down that the database has another schema than it had.
    MigrateDatabase {
        /// The schema that it had.
        from: i64,
        /// The schema that it has.
        to: i64,
    },
    /// Write down that a backup was put in the database's place.
    RestoreDatabase {
        /// The SHA-256 of its file, in hex.
        sha256: String,
    },
    /// Go on with a log that is not the one that its newest checkpoint tells of.
    AcceptAuditLoss {
        /// What is wrong with it.
        reason: String,
        /// How many records the checkpoint tells of.
        expected_size: u64,
        /// How many there are.
        found_size: u64,
    },
    /// Sign checkpoints with another key from now on.
    ChangeCheckpointKey {
        /// The key so far, its public half; `None` for the first one.
        old: Option<String>,
        /// The public half of the new one.
        new: String,
        /// The new key, signed by the old one; `None` for the first one, and when the old one is lost.
        signed: Option<String>,
    },
    /// Delete records that stand in a sealed segment.
    SealSegment {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// The segment's file.
        file: String,
        /// SHA-256 of that file.
        digest: SecretDigest,
    },
}

impl Command {
    /// The project whose facts the command is decided on; `None` for a command about the whole database.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::CreateGroup { project_id, .. }
            | Self::DeleteGroup { project_id, .. }
            | Self::AddMember { project_id, .. }
            | Self::RemoveMember { project_id, .. }
            | Self::RegisterServer { project_id, .. }
            | Self::UnregisterServer { project_id, .. }
            | Self::ResetProject { project_id } => Some(*project_id),
            Self::ResetDatabase
            | Self::IssueToken { .. }
            | Self::RevokeToken { .. }
            | Self::IssueTemporaryKey { .. }
            | Self::PurgeExpired
            | Self::ReloadIdentities { .. }
            | Self::SummarizeRefusals { .. }
            | Self::StartService { .. }
            | Self::StopService
            | Self::MigrateDatabase { .. }
            | Self::RestoreDatabase { .. }
            | Self::AcceptAuditLoss { .. }
            | Self::ChangeCheckpointKey { .. }
            | Self::SealSegment { .. } => None,
        }
    }

    /// The existing group whose facts the command is decided on.
    #[must_use]
    pub const fn group_id(&self) -> Option<GroupId> {
        match self {
            Self::DeleteGroup { group_id, .. }
            | Self::AddMember { group_id, .. }
            | Self::RemoveMember { group_id, .. } => Some(*group_id),
            _ => None,
        }
    }

    /// The ECS whose facts the command is decided on.
    #[must_use]
    pub const fn server_id(&self) -> Option<ServerId> {
        match self {
            Self::AddMember { server_id, .. }
            | Self::RemoveMember { server_id, .. }
            | Self::RegisterServer { server: Server { server_id, .. }, .. }
            | Self::UnregisterServer { server_id, .. } => Some(*server_id),
            _ => None,
        }
    }

    /// The existing token whose facts the command is decided on.
    #[must_use]
    pub const fn token(&self) -> Option<SecretDigest> {
        match self {
            Self::RevokeToken { digest } => Some(*digest),
            _ => None,
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
    /// An ECS is in a group from now on.
    MemberAdded {
        /// The owner.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
        /// What it is called.
        name: GroupName,
        /// The ECS.
        server_id: ServerId,
    },
    /// An ECS was to be added to the group that it is in: nothing changed.
    MemberKept {
        /// The owner.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
        /// What it is called.
        name: GroupName,
        /// The ECS.
        server_id: ServerId,
    },
    /// An ECS is no longer in a group.
    MemberRemoved {
        /// The owner.
        project_id: ProjectId,
        /// The group.
        group_id: GroupId,
        /// What it is called.
        name: GroupName,
        /// The ECS.
        server_id: ServerId,
    },
    /// An ECS is known, or known better.
    ServerRegistered {
        /// The owner.
        project_id: ProjectId,
        /// All that is known of it.
        server: Server,
    },
    /// An ECS is known no longer.
    ServerUnregistered {
        /// The owner.
        project_id: ProjectId,
        /// The ECS.
        server_id: ServerId,
        /// The group that it was in.
        group_id: Option<GroupId>,
    },
    /// Every group and registered ECS of every project is gone.
    DatabaseReset,
    /// Every group and registered ECS of one project is gone.
    ProjectReset {
        /// The project.
        project_id: ProjectId,
    },
    /// A token is good from now on.
    TokenIssued(Session),
    /// A token is good for nothing any more.
    TokenRevoked {
        /// The token.
        digest: SecretDigest,
    },
    /// A temporary access key is good from now on.
    TemporaryKeyIssued(TemporaryKey),
    /// What had expired is forgotten.
    ExpiredPurged {
        /// What expired at this time or before.
        until: Timestamp,
    },
    /// The accounts are those of the file as it is now.
    IdentitiesReloaded,
    /// The count stands in the log.
    RefusalsSummarized,
    /// It stands in the log, and that is all: the service started or stopped, a backup was put in place, a loss is
    /// taken for true.
    Noted,
    /// The log tells of this schema.
    SchemaTold {
        /// Its version.
        version: i64,
    },
    /// Checkpoints are signed with another key.
    CheckpointKeyChanged {
        /// Its public half.
        key: String,
    },
    /// Records are gone that a sealed segment holds.
    SegmentSealed {
        /// The last of them.
        last: u64,
    },
}

impl Change {
    /// The project whose groups it changed; `None` for all of them, or for none.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::GroupCreated { project_id, .. }
            | Self::GroupDeleted { project_id, .. }
            | Self::MemberAdded { project_id, .. }
            | Self::MemberKept { project_id, .. }
            | Self::MemberRemoved { project_id, .. }
            | Self::ServerRegistered { project_id, .. }
            | Self::ServerUnregistered { project_id, .. }
            | Self::ProjectReset { project_id } => Some(*project_id),
            Self::DatabaseReset
            | Self::TokenIssued(_)
            | Self::TokenRevoked { .. }
            | Self::TemporaryKeyIssued(_)
            | Self::ExpiredPurged { .. }
            | Self::IdentitiesReloaded
            | Self::RefusalsSummarized
            | Self::Noted
            | Self::SchemaTold { .. }
            | Self::CheckpointKeyChanged { .. }
            | Self::SegmentSealed { .. } => None,
        }
    }
}
