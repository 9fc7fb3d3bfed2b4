//! Why a well-formed command is turned down. Knows no HTTP; `api/error.rs` gives each its status and code.

use crate::domain::id::{GroupId, ServerId};

/// A rule that a command broke. A refusal changes nothing, and is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The project has no such group.
    #[error("no ECS group {group_id} in this project")]
    GroupNotFound {
        /// The id that was asked for.
        group_id: GroupId,
    },
    /// The project has as many groups as it may have.
    #[error("the project has {groups_max} ECS groups, which is its quota")]
    GroupQuotaReached {
        /// The quota.
        groups_max: u32,
    },
    /// The inventory does not know the ECS, and only ECSs that it knows may be members.
    #[error("no ECS {server_id} is registered in this project")]
    ServerNotFound {
        /// The ECS.
        server_id: ServerId,
    },
    /// The ECS is in another group, and an ECS is in one at the most.
    #[error("the ECS {server_id} is in the ECS group {group_id} already")]
    MemberOfOtherGroup {
        /// The ECS.
        server_id: ServerId,
        /// The group that it is in.
        group_id: GroupId,
    },
    /// The ECS is not in the group.
    #[error("the ECS {server_id} is not in this ECS group")]
    NotAMember {
        /// The ECS.
        server_id: ServerId,
    },
    /// The group has as many members as it may have.
    #[error("the ECS group has {members_max} members, which is its quota")]
    MemberQuotaReached {
        /// The quota.
        members_max: u32,
    },
    /// The ECS is not stopped, and only a stopped one may be added.
    #[error("the ECS {server_id} is not stopped")]
    ServerNotStopped {
        /// The ECS.
        server_id: ServerId,
    },
    /// The ECS runs on the host of another member.
    #[error("the ECSs {server_id} and {other_id} run on the same host, and the group wants different ones")]
    HostTaken {
        /// The ECS.
        server_id: ServerId,
        /// The member that runs there.
        other_id: ServerId,
    },
    /// The idempotency key was used with another body.
    #[error("the Idempotency-Key was used with another request body")]
    KeyReused,
    /// There is no such token, or it has expired.
    #[error("no such token, or it has expired")]
    TokenNotFound,
}

impl Refusal {
    /// A short, stable name for the audit record.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::GroupNotFound { .. } => "group_not_found",
            Self::GroupQuotaReached { .. } => "group_quota_reached",
            Self::ServerNotFound { .. } => "server_not_found",
            Self::MemberOfOtherGroup { .. } => "member_of_other_group",
            Self::NotAMember { .. } => "not_a_member",
            Self::MemberQuotaReached { .. } => "member_quota_reached",
            Self::ServerNotStopped { .. } => "server_not_stopped",
            Self::HostTaken { .. } => "host_taken",
            Self::KeyReused => "key_reused",
            Self::TokenNotFound => "token_not_found",
        }
    }
}
