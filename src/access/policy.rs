//! The permit: the proof, needed for every read and write, that somebody may do this here.

use crate::access::action::Action;
use crate::access::principal::{Actor, Origin, Principal};
use crate::domain::id::ProjectId;

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
    /// On which project; `None` when the URL's text was no project id.
    pub on: Option<ProjectId>,
    /// Why not.
    pub reason: DeniedReason,
}

/// Why a caller may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedReason {
    /// The project of the URL is not the one that the credential is good for.
    OtherProject,
    /// The action is the operator's alone.
    OperatorOnly,
}

impl DeniedReason {
    /// A short, stable name for the audit record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherProject => "other_project",
            Self::OperatorOnly => "operator_only",
        }
    }
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
) -> Result<Permit, Denied> {
    let denied = |reason| Err(Denied { principal: who.clone(), origin, action, on, reason });
    if on != Some(who.project_id) {
        return denied(DeniedReason::OtherProject);
    }
    if action == Action::ResetDatabase {
        return denied(DeniedReason::OperatorOnly);
    }
    // Every caller there is so far is the root of its account, which may do everything in its projects.
    Ok(Permit { actor: Actor::User(who.clone()), origin, action, project_id: on })
}

/// Permits the operator of this machine to reset the database. The caller has checked the control token, or holds
/// the database's lock at the command line.
#[must_use]
pub fn permit_reset(origin: Origin) -> Permit {
    Permit { actor: Actor::Operator, origin, action: Action::ResetDatabase, project_id: None }
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

    /// Where; `None` for the whole database.
    #[must_use]
    pub const fn project_id(&self) -> Option<ProjectId> {
        self.project_id
    }
}
