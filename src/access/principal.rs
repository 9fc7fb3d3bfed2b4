//! Who asks, and from where.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::policy::document::PolicyDocument;
use crate::domain::id::{DomainId, ProjectId, RequestId, UserId};
use crate::domain::rules::Quota;
use crate::domain::session::{AccessKeyId, LoginMethod, Scope};

/// An account ("domain" in IAM's words).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub domain_id: DomainId,
    /// Its name.
    pub name: String,
}

/// A project of an account: what owns groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub project_id: ProjectId,
    /// Its name; the vendor names a region's first project after the region.
    pub name: String,
    /// The account it belongs to.
    pub domain_id: DomainId,
    /// What it may hold, where that differs from the settings.
    pub quota: Quota,
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
    texts: Texts,
}

/// What policies compare a user with, written out once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Texts {
    user_id: String,
    domain_id: String,
    urn: String,
}

impl User {
    /// A user.
    #[must_use]
    pub fn new(user_id: UserId, name: String, domain: Domain, is_root: bool) -> Self {
        let urn = format!("iam::{}:user:{name}", domain.domain_id);
        let texts = Texts { user_id: user_id.to_string(), domain_id: domain.domain_id.to_string(), urn };
        Self { user_id, name, domain, is_root, texts }
    }

    /// Its id as text.
    #[must_use]
    pub fn user_id_text(&self) -> &str {
        &self.texts.user_id
    }

    /// Its account's id as text.
    #[must_use]
    pub fn domain_id_text(&self) -> &str {
        &self.texts.domain_id
    }

    /// `iam::ACCOUNT_ID:user:NAME`.
    #[must_use]
    pub fn urn(&self) -> &str {
        &self.texts.urn
    }
}

/// What a caller showed to be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing; only `--dev` with `dev.anonymous` takes that.
    Anonymous,
    /// `X-Auth-Token`.
    Token,
    /// A signature with an access key.
    AccessKey(AccessKeyId),
    /// A signature with a temporary access key, and its security token.
    TemporaryKey(AccessKeyId),
    /// What it logs in with.
    Login(LoginMethod),
}

impl Credential {
    /// Its name in the audit record.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token | Self::Login(LoginMethod::Token) => "token",
            Self::AccessKey(_) => "access_key",
            Self::TemporaryKey(_) => "temporary_key",
            Self::Login(LoginMethod::Password) => "password",
        }
    }

    /// The access key, if one was used.
    #[must_use]
    pub const fn access_key(&self) -> Option<&AccessKeyId> {
        match self {
            Self::AccessKey(key) | Self::TemporaryKey(key) => Some(key),
            Self::Anonymous | Self::Token | Self::Login(_) => None,
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user; shared, since every request of that user has it.
    pub user: Arc<User>,
    /// The project that the credential is good for; `None` for the account as a whole.
    pub project: Option<Arc<Project>>,
    /// What it showed.
    pub credential: Credential,
    /// What the user's groups are granted there.
    pub documents: Arc<[Arc<PolicyDocument>]>,
}

impl Principal {
    /// The project that the credential is good for; `None` for the account as a whole.
    #[must_use]
    pub fn project_id(&self) -> Option<ProjectId> {
        self.project.as_ref().map(|project| project.project_id)
    }

    /// What the credential is good for.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.project_id().map_or(Scope::Domain(self.user.domain.domain_id), Scope::Project)
    }
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
    /// The service itself.
    Service,
}

impl Actor {
    /// The user; the operator and the service are none.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        match self {
            Self::User(who) => Some(who.user.user_id),
            Self::Operator | Self::Service => None,
        }
    }
}
