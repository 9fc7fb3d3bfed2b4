//! The answers to requests that were sent with an Idempotency-Key.

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::open::expect_rows;
use crate::domain::command::Change;
use crate::domain::group::ServerGroup;
use crate::domain::id::ProjectId;
use crate::domain::refusal::Refusal;
use crate::domain::session::SecretDigest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// The answer to a request, and by what it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: SecretDigest,
    pub(crate) project_id: ProjectId,
    pub(crate) body_digest: SecretDigest,
    pub(crate) outcome: Result<Change, Refusal>,
    pub(crate) expires_at: Timestamp,
}

/// The answer that is kept for a key, expired or not; or `None`.
pub(crate) async fn kept(
    conn: &mut SqliteConnection,
    digest: SecretDigest,
    project_id: ProjectId,
) -> Result<Option<Kept>, StoreError> {
    let key = &digest.as_bytes()[..];
    let row =
        sqlx::query!("select body_digest, outcome, expires_at from idempotency_key where digest = ?", key)
            .fetch_optional(conn)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = |what: &str| StoreError::corrupt("idempotency_key", format!("{digest}: {what}"));
    let outcome: OutcomeRow =
        serde_json::from_str(&row.outcome).map_err(|_unreadable| corrupt("its outcome"))?;
    let body_digest = row.body_digest.try_into().map_err(|_wrong_length| corrupt("its body's digest"))?;
    Ok(Some(Kept {
        digest,
        project_id,
        body_digest: SecretDigest::from_bytes(body_digest),
        outcome: outcome.read(project_id).ok_or_else(|| corrupt("its outcome"))?,
        expires_at: u64::try_from(row.expires_at)
            .map(Timestamp::from_millis)
            .map_err(|_out_of_range| corrupt("expires_at"))?,
    }))
}

/// Keeps the answer for a key; one that has expired is replaced.
pub(crate) async fn put(conn: &mut SqliteConnection, kept: &Kept) -> Result<(), StoreError> {
    let (digest, body_digest) = (&kept.digest.as_bytes()[..], &kept.body_digest.as_bytes()[..]);
    let Some(outcome) = OutcomeRow::of(&kept.outcome) else {
        return Err(StoreError::Database("an outcome that no request has was to be kept".to_owned()));
    };
    let outcome = serde_json::to_string(&outcome).map_err(|error| StoreError::Database(error.to_string()))?;
    let expires_at = kept.expires_at.as_millis().cast_signed();
    let project = &kept.project_id.as_bytes()[..];
    let done = sqlx::query!(
        "insert into idempotency_key (digest, body_digest, outcome, expires_at, project_id) values (?, ?, ?, ?, ?)
         on conflict (digest) do update
         set body_digest = excluded.body_digest, outcome = excluded.outcome, expires_at = excluded.expires_at",
        digest,
        body_digest,
        outcome,
        expires_at,
        project,
    )
    .execute(conn)
    .await?;
    expect_rows("idempotency_key", done.rows_affected(), 1)
}

/// Forgets every answer: what they name is gone.
pub(crate) async fn delete_everything(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query!("delete from idempotency_key").execute(conn).await?;
    Ok(())
}

/// Forgets the answers of one project; those from before they had one are gone after a day anyway.
pub(crate) async fn delete_everything_of(
    conn: &mut SqliteConnection,
    project_id: ProjectId,
) -> Result<(), StoreError> {
    let project = &project_id.as_bytes()[..];
    sqlx::query!("delete from idempotency_key where project_id = ?", project).execute(conn).await?;
    Ok(())
}

/// An outcome as it is kept: all that an answer is rendered from. The project is the request's.
#[derive(Serialize, Deserialize)]
enum OutcomeRow {
    GroupCreated { group_id: String, name: String, placement_rule: String, created_by: String },
    MemberAdded(MemberRow),
    MemberKept(MemberRow),
    MemberRemoved(MemberRow),
    GroupNotFound { group_id: String },
    GroupQuotaReached { groups_max: u32 },
    ServerNotFound { server_id: String },
    MemberOfOtherGroup { server_id: String, group_id: String },
    NotAMember { server_id: String },
    MemberQuotaReached { members_max: u32 },
    ServerNotStopped { server_id: String },
    HostTaken { server_id: String, other_id: String },
}

#[derive(Serialize, Deserialize)]
struct MemberRow {
    group_id: String,
    name: String,
    server_id: String,
}

impl OutcomeRow {
    /// `None` for what is no answer to a request that may have a key.
    fn of(outcome: &Result<Change, Refusal>) -> Option<Self> {
        let member = |group_id: &dyn ToString, name: &dyn ToString, server_id: &dyn ToString| MemberRow {
            group_id: group_id.to_string(),
            name: name.to_string(),
            server_id: server_id.to_string(),
        };
        Some(match outcome {
            Ok(Change::GroupCreated { group, .. }) => Self::GroupCreated {
                group_id: group.group_id.to_string(),
                name: group.name.to_string(),
                placement_rule: group.placement_rule.as_str().to_owned(),
                created_by: group.created_by.to_string(),
            },
            Ok(Change::MemberAdded { group_id, name, server_id, .. }) => {
                Self::MemberAdded(member(group_id, name, server_id))
            }
            Ok(Change::MemberKept { group_id, name, server_id, .. }) => {
                Self::MemberKept(member(group_id, name, server_id))
            }
            Ok(Change::MemberRemoved { group_id, name, server_id, .. }) => {
                Self::MemberRemoved(member(group_id, name, server_id))
            }
            Ok(_) => return None,
            Err(refusal) => match refusal {
                Refusal::GroupNotFound { group_id } => Self::GroupNotFound { group_id: group_id.to_string() },
                Refusal::GroupQuotaReached { groups_max } => {
                    Self::GroupQuotaReached { groups_max: *groups_max }
                }
                Refusal::ServerNotFound { server_id } => {
                    Self::ServerNotFound { server_id: server_id.to_string() }
                }
                Refusal::MemberOfOtherGroup { server_id, group_id } => Self::MemberOfOtherGroup {
                    server_id: server_id.to_string(),
                    group_id: group_id.to_string(),
                },
                Refusal::NotAMember { server_id } => Self::NotAMember { server_id: server_id.to_string() },
                Refusal::MemberQuotaReached { members_max } => {
                    Self::MemberQuotaReached { members_max: *members_max }
                }
                Refusal::ServerNotStopped { server_id } => {
                    Self::ServerNotStopped { server_id: server_id.to_string() }
                }
                Refusal::HostTaken { server_id, other_id } => {
                    Self::HostTaken { server_id: server_id.to_string(), other_id: other_id.to_string() }
                }
                Refusal::TokenNotFound | Refusal::KeyReused => return None,
            },
        })
    }

    /// `None` for a row that does not parse.
    fn read(self, project_id: ProjectId) -> Option<Result<Change, Refusal>> {
        Some(match self {
            Self::GroupCreated { group_id, name, placement_rule, created_by } => Ok(Change::GroupCreated {
                project_id,
                group: ServerGroup {
                    group_id: group_id.parse().ok()?,
                    name: name.try_into().ok()?,
                    placement_rule: placement_rule.parse().ok()?,
                    members: Vec::new(),
                    created_by: created_by.parse().ok()?,
                },
            }),
            Self::MemberAdded(MemberRow { group_id, name, server_id }) => Ok(Change::MemberAdded {
                project_id,
                group_id: group_id.parse().ok()?,
                name: name.try_into().ok()?,
                server_id: server_id.parse().ok()?,
            }),
            Self::MemberKept(MemberRow { group_id, name, server_id }) => Ok(Change::MemberKept {
                project_id,
                group_id: group_id.parse().ok()?,
                name: name.try_into().ok()?,
                server_id: server_id.parse().ok()?,
            }),
            Self::MemberRemoved(MemberRow { group_id, name, server_id }) => Ok(Change::MemberRemoved {
                project_id,
                group_id: group_id.parse().ok()?,
                name: name.try_into().ok()?,
                server_id: server_id.parse().ok()?,
            }),
            Self::GroupNotFound { group_id } => {
                Err(Refusal::GroupNotFound { group_id: group_id.parse().ok()? })
            }
            Self::GroupQuotaReached { groups_max } => Err(Refusal::GroupQuotaReached { groups_max }),
            Self::ServerNotFound { server_id } => {
                Err(Refusal::ServerNotFound { server_id: server_id.parse().ok()? })
            }
            Self::MemberOfOtherGroup { server_id, group_id } => Err(Refusal::MemberOfOtherGroup {
                server_id: server_id.parse().ok()?,
                group_id: group_id.parse().ok()?,
            }),
            Self::NotAMember { server_id } => Err(Refusal::NotAMember { server_id: server_id.parse().ok()? }),
            Self::MemberQuotaReached { members_max } => Err(Refusal::MemberQuotaReached { members_max }),
            Self::ServerNotStopped { server_id } => {
                Err(Refusal::ServerNotStopped { server_id: server_id.parse().ok()? })
            }
            Self::HostTaken { server_id, other_id } => Err(Refusal::HostTaken {
                server_id: server_id.parse().ok()?,
                other_id: other_id.parse().ok()?,
            }),
        })
    }
}
