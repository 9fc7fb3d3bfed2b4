//! Who asks, and from where.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::id::{DomainId, ProjectId, RequestId, UserId};

/// An account ("domain" in IAM's words).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub domain_id: DomainId,
    /// Its name.
    pub name: String,
}

/// A user of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub user_id: UserId,
    /// Its name.
    pub name: String,
    /// The account it belongs to.
    pub domain: Domain,
    /// Whether it is the account itself, which may do everything in its projects.
    pub is_root: bool,
}

/// What a caller showed to be known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing; only `--dev` with `dev.anonymous` takes that.
    Anonymous,
    /// `X-Auth-Token`.
    Token,
}

impl Credential {
    /// Its name in the audit record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token => "token",
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user; shared, since every request of that user has it.
    pub user: Arc<User>,
    /// The project that the credential is good for.
    pub project_id: ProjectId,
    /// What it showed.
    pub credential: Credential,
}

/// One request: its id, and where it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The request's own id.
    pub request_id: RequestId,
    /// The address it came from; `None` when it came over a Unix socket or from the command line.
    pub source_ip: Option<IpAddr>,
    /// The door it came in by, such as `v1`, `control` or `cli`.
    pub door: &'static str,
}

/// Who is behind a permitted or denied action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A caller with an account.
    User(Principal),
    /// The operator of this machine: by the control token, or at its command line.
    Operator,
}
