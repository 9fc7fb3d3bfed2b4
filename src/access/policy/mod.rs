//! The permit: the proof, needed for every read and write, that somebody may do this here.

pub mod condition;
pub mod document;
pub mod grammar;

use std::sync::Arc;

use self::condition::Circumstances;
use self::document::{Effect, PolicyDocument};
use crate::access::action::{Action, GrantedBy};
use crate::access::principal::{Actor, Origin, Principal, User};
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::rules::Quota;
use crate::domain::time::Timestamp;

/// A proof that `actor` may do `action` on `project_id`. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    actor: Actor,
    origin: Origin,
    action: Action,
    project_id: Option<ProjectId>,
}

/// An authenticated caller who may not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The caller.
    pub principal: Principal,
    /// The request.
    pub origin: Origin,
    /// What it asked for.
    pub action: Action,
    /// On which project; `None` when the URL's text was no project id, or named none.
    pub on: Option<ProjectId>,
    /// The group that the URL names, if it names one; whether it is there was not looked at.
    pub group_id: Option<GroupId>,
    /// Why not.
    pub reason: DeniedReason,
}

impl Denied {
    /// A caller who may not do something on no project, or something that is not about a group.
    #[must_use]
    pub fn new(
        who: &Principal,
        origin: Origin,
        action: Action,
        on: Option<ProjectId>,
        reason: DeniedReason,
    ) -> Box<Self> {
        Box::new(Self { principal: who.clone(), origin, action, on, group_id: None, reason })
    }
}

/// Why a caller may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedReason {
    /// The project of the URL is not the one that the credential is good for.
    OtherProject,
    /// No policy of the user's allows it.
    NotAllowed,
    /// A policy of the user's denies it.
    ExplicitlyDenied,
    /// It belongs to somebody else.
    NotOnesOwn,
    /// The action is the operator's alone.
    OperatorOnly,
}

impl DeniedReason {
    /// A short, stable name for the audit record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherProject => "other_project",
            Self::NotAllowed => "not_allowed",
            Self::ExplicitlyDenied => "explicitly_denied",
            Self::NotOnesOwn => "not_ones_own",
            Self::OperatorOnly => "operator_only",
        }
    }
}

/// What a user's documents say of one request, and which statement said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'documents> {
    /// This statement allows it, and none denies it.
    Allowed(Cause<'documents>),
    /// This statement denies it; or, without one, nothing allows it.
    Denied(Option<Cause<'documents>>),
}

/// The statement that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause<'documents> {
    /// Its document.
    pub document: &'documents PolicyDocument,
    /// Its place there, counted from 0.
    pub statement: usize,
}

/// Decides one request on a user's documents: a Deny over an Allow, and neither is a denial ("Policy Syntax",
/// evaluation).
#[must_use]
pub fn decide<'documents>(
    documents: &'documents [Arc<PolicyDocument>],
    circumstances: &Circumstances<'_>,
) -> Decision<'documents> {
    let mut allowed_by = None;
    for document in documents {
        for (statement, says) in document.statements().iter().enumerate() {
            // An Allow after the first adds nothing.
            if says.effect() == Effect::Allow && allowed_by.is_some() || !says.applies(circumstances) {
                continue;
            }
            let cause = Cause { document, statement };
            match says.effect() {
                Effect::Deny => return Decision::Denied(Some(cause)),
                Effect::Allow => allowed_by = Some(cause),
            }
        }
    }
    allowed_by.map_or(Decision::Denied(None), Decision::Allowed)
}

/// Permits a caller to do `action` on the project of the URL, or says why not.
///
/// `on` is `None` when the URL's text is no project id at all, which is nobody's project.
///
/// # Errors
/// [`Denied`], to be recorded by `Store::record` when the action is a mutation.
pub fn permit(
    who: &Principal,
    origin: Origin,
    action: Action,
    on: Option<ProjectId>,
    now: Timestamp,
) -> Result<Permit, Box<Denied>> {
    permit_by(who, origin, action, action, on, now)
}

/// The same, where the right to `action` is the one to `right`: the native OpenStack interface has one name for all
/// that is done to groups.
///
/// # Errors
/// As [`permit`].
pub fn permit_by(
    who: &Principal,
    origin: Origin,
    action: Action,
    right: Action,
    on: Option<ProjectId>,
    now: Timestamp,
) -> Result<Permit, Box<Denied>> {
    let denied = |reason| Err(Denied::new(who, origin, action, on, reason));
    let Some(project) = who.project.as_ref().filter(|project| on == Some(project.project_id)) else {
        return denied(DeniedReason::OtherProject);
    };
    if action.row().granted_by != GrantedBy::PolicyDocument
        || right.row().granted_by != GrantedBy::PolicyDocument
    {
        return denied(DeniedReason::OperatorOnly);
    }
    let circumstances = Circumstances {
        action: right,
        user: &who.user,
        project_name: Some(&project.name),
        source_ip: origin.source_ip,
        now,
    };
    // The root of an account may do everything in its projects.
    if !who.user.is_root {
        match decide(&who.documents, &circumstances) {
            Decision::Allowed(_) => {}
            Decision::Denied(None) => return denied(DeniedReason::NotAllowed),
            Decision::Denied(Some(_)) => return denied(DeniedReason::ExplicitlyDenied),
        }
    }
    Ok(Permit { actor: Actor::User(who.clone()), origin, action, project_id: on })
}

/// Permits anybody who is known to get a token or a temporary key for itself.
///
/// # Errors
/// [`Denied`], when `action` is not one that everybody has over what is its own.
pub fn permit_oneself(who: &Principal, origin: Origin, action: Action) -> Result<Permit, Box<Denied>> {
    if action.row().granted_by == GrantedBy::Oneself {
        return Ok(Permit { actor: Actor::User(who.clone()), origin, action, project_id: None });
    }
    Err(Denied::new(who, origin, action, None, DeniedReason::OperatorOnly))
}

/// Permits a caller to take back a token of `holder`: its own, or as the root of an account any of that account.
///
/// # Errors
/// [`Denied`], when it is somebody else's.
pub fn permit_revoke(who: &Principal, origin: Origin, holder: &User) -> Result<Permit, Box<Denied>> {
    if has_authority_over(who, holder) {
        return permit_oneself(who, origin, Action::RevokeToken);
    }
    Err(Denied::new(who, origin, Action::RevokeToken, None, DeniedReason::NotOnesOwn))
}

/// Whether a caller may see and revoke the tokens of `holder`.
#[must_use]
pub fn has_authority_over(who: &Principal, holder: &User) -> bool {
    who.user.user_id == holder.user_id
        || who.user.is_root && who.user.domain.domain_id == holder.domain.domain_id
}

/// Permits the operator of this machine to reset the database. The caller has checked the control token, or holds
/// the database's lock at the command line.
#[must_use]
pub const fn permit_reset(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::ResetDatabase, project_id: None }
}

/// Permits the operator of this machine what is done to the inventory of a project.
///
/// # Errors
/// The action, when it is none of those.
pub fn permit_inventory(origin: Origin, action: Action, project_id: ProjectId) -> Result<Permit, Action> {
    match action {
        Action::RegisterServer | Action::UnregisterServer | Action::ListInventory => {
            Ok(Permit { actor: Actor::Operator, origin, action, project_id: Some(project_id) })
        }
        other => Err(other),
    }
}

/// Permits the operator of this machine, who may signal the process, to have the accounts read again.
#[must_use]
pub const fn permit_reload(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::ReloadIdentities, project_id: None }
}

/// Permits the service itself to forget what has expired.
#[must_use]
pub const fn permit_purge(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::PurgeExpired, project_id: None }
}

/// Permits the service itself to write down how much was not recorded.
#[must_use]
pub const fn permit_summary(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::SummarizeRefusals, project_id: None }
}

/// Permits the operator of this machine to reset one project.
#[must_use]
pub const fn permit_project_reset(origin: Origin, project_id: ProjectId) -> Permit {
    let action = Action::ResetProject;
    Permit { actor: Actor::Operator, origin, action, project_id: Some(project_id) }
}

/// Permits the operator of this machine to read the audit log of all projects.
#[must_use]
pub const fn permit_follow(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::FollowAuditLog, project_id: None }
}

/// Permits the service itself to write down that it starts.
#[must_use]
pub const fn permit_start(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::StartService, project_id: None }
}

/// Permits the service itself to write down that it stops.
#[must_use]
pub const fn permit_stop(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::StopService, project_id: None }
}

/// Permits the service itself to write down that the schema is another.
#[must_use]
pub const fn permit_migration(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::MigrateDatabase, project_id: None }
}

/// Permits the operator of this machine, who holds the database's lock, to put a backup in its place.
#[must_use]
pub const fn permit_restore(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::RestoreDatabase, project_id: None }
}

/// Permits the operator of this machine, who said `--accept-audit-loss`, to go on with the log as it is.
#[must_use]
pub const fn permit_loss(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::AcceptAuditLoss, project_id: None }
}

/// Permits the operator of this machine, who holds the key file, to sign with another key.
#[must_use]
pub const fn permit_key_change(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::ChangeCheckpointKey, project_id: None }
}

/// Permits the service itself to sign with a key that it made, where there is none that could agree to it.
#[must_use]
pub const fn permit_first_key(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::ChangeCheckpointKey, project_id: None }
}

/// Permits the service itself to delete what it has sealed.
#[must_use]
pub const fn permit_sealing(origin: Origin) -> Permit {
    Permit { actor: Actor::Service, origin, action: Action::SealSegment, project_id: None }
}

impl Permit {
    /// Who may.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The request it was made for.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// What may be done.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// What the project may hold, where that differs from the settings.
    #[must_use]
    pub fn quota(&self) -> Quota {
        match &self.actor {
            Actor::User(Principal { project: Some(project), .. }) => project.quota,
            Actor::User(_) | Actor::Operator | Actor::Service => Quota::default(),
        }
    }

    /// Where; `None` for what is in no project.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        self.project_id
    }
}
