//! Why a well-formed command is turned down. Knows no HTTP; `api/error.rs` gives each its status and code.

use crate::domain::id::GroupId;

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
            Self::TokenNotFound => "token_not_found",
        }
    }
}
