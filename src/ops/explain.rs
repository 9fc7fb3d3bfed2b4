//! `ecs-groupd identity check` and `identity explain`: what a file of accounts says, in words.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access::action::{Action, GrantedBy};
use crate::access::policy::condition::Circumstances;
use crate::access::policy::document::{Effect, Statement};
use crate::access::policy::{self, Cause, Decision};
use crate::access::principal::{Credential, Principal, Project, User};
use crate::domain::session::{LoginMethod, Scope};
use crate::domain::time::Timestamp;
use crate::identities::Identities;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'arguments> {
    /// `ACCOUNT/NAME`, an id, or a name that only one has.
    pub user: &'arguments str,
    /// The action's name or alias.
    pub action: &'arguments str,
    /// A project by name or id; `None` for each of the account's.
    pub project: Option<&'arguments str>,
    /// Where the request would come from.
    pub source_ip: Option<IpAddr>,
    /// When it would come.
    pub now: Timestamp,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No user, or several, are called so.
    #[error("there is not one user {0:?}: name it as ACCOUNT/NAME, or by its id; there are {1}")]
    User(String, String),
    /// No action that a policy can grant is called so.
    #[error("there is no action {0:?} that a policy can grant; there are {1}")]
    Action(String, String),
    /// The account has no such project.
    #[error("the account {0:?} has no project {1:?}; it has {2}")]
    Project(String, String, String),
}

/// What a file of accounts has, one line for each kind.
#[must_use]
pub fn summary(identities: &Identities) -> String {
    let kinds = ["domain", "project", "user", "access key", "user group", "policy", "grant"];
    let counts = kinds.map(|kind| {
        let prefix = format!("{kind} ");
        // "user group acme/devs" is no "user".
        let is_of_kind = |label: &&str| {
            label.starts_with(&prefix) && !(kind == "user" && label.starts_with("user group "))
        };
        format!("{:<12}{}\n", format!("{kind}s"), identities.labels().filter(is_of_kind).count())
    });
    format!("the file is good\n{}", counts.concat().replace("policys", "policies"))
}

/// Answers a question: the decision in each project, and what each statement says to it.
///
/// # Errors
/// [`ExplainError`], when something in the question is not there.
pub fn explain(identities: &Identities, question: &Question<'_>) -> Result<String, ExplainError> {
    let user = find_user(identities, question.user)?;
    let action = find_action(question.action)?;
    let row = action.row();
    let mut text = format!("user      {}/{} ({})\n", user.domain.name, user.name, user.user_id);
    let _ = writeln!(text, "action    {}", row.name);
    let _ = writeln!(
        text,
        "          access level {}, resource type {}, alias {}",
        row.level,
        row.resource_type,
        row.alias.unwrap_or("-")
    );
    for project in find_projects(identities, &user, question.project)? {
        let scope = Scope::Project(project.project_id);
        let login = Credential::Login(LoginMethod::Password);
        let Some(principal) = identities.principal(user.user_id, scope, login) else { continue };
        let _ = writeln!(text, "\nproject   {} ({})", project.name, project.project_id);
        explain_in_project(&mut text, &principal, &project, action, question);
    }
    Ok(text)
}

fn explain_in_project(
    text: &mut String,
    principal: &Principal,
    project: &Project,
    action: Action,
    question: &Question<'_>,
) {
    if principal.user.is_root {
        text.push_str("decision  allowed: the root of an account may do everything in its projects\n");
        return;
    }
    let circumstances = Circumstances {
        action,
        user: &principal.user,
        project_name: Some(&project.name),
        source_ip: question.source_ip,
        now: question.now,
    };
    let decision = match policy::decide(&principal.documents, &circumstances) {
        Decision::Allowed(cause) => format!("allowed by {}", named(cause)),
        Decision::Denied(Some(cause)) => format!("denied by {}", named(cause)),
        Decision::Denied(None) => "denied: no statement allows it".to_owned(),
    };
    let _ = writeln!(text, "decision  {decision}");
    if principal.documents.is_empty() {
        text.push_str("          no group of the user is granted anything here\n");
    }
    for document in principal.documents.iter() {
        for (at, statement) in document.statements().iter().enumerate() {
            let said = what_it_says(statement, &circumstances);
            let _ = writeln!(text, "          {}: {said}", named(Cause { document, statement: at }));
        }
    }
}

fn named(Cause { document, statement }: Cause<'_>) -> String {
    let said = &document.statements()[statement];
    let called = said.sid().map_or(String::new(), |sid| format!(" {sid:?}"));
    let effect = match said.effect() {
        Effect::Allow => "Allow",
        Effect::Deny => "Deny",
    };
    format!("policy {:?}, statement {}{called} ({effect})", document.name(), statement + 1)
}

fn what_it_says(statement: &Statement, circumstances: &Circumstances<'_>) -> &'static str {
    if !statement.names(circumstances.action) {
        "is not about this action"
    } else if !statement.is_for_every_resource() {
        "has a Resource other than *, which an action without a resource type never meets"
    } else if !statement.is_met_by(circumstances) {
        "its Condition is not met"
    } else {
        "applies"
    }
}

fn find_user(identities: &Identities, asked: &str) -> Result<Arc<User>, ExplainError> {
    let is_asked = |user: &&Arc<User>| {
        user.user_id_text() == asked
            || user.name == asked
            || format!("{}/{}", user.domain.name, user.name) == asked
    };
    let mut found = identities.users().filter(is_asked);
    if let (Some(user), None) = (found.next(), found.next()) {
        return Ok(Arc::clone(user));
    }
    let known = identities.users().map(|user| format!("{}/{}", user.domain.name, user.name));
    Err(ExplainError::User(asked.to_owned(), listed(known)))
}

fn find_action(asked: &str) -> Result<Action, ExplainError> {
    let grantable =
        || Action::ALL.into_iter().filter(|action| action.row().granted_by == GrantedBy::PolicyDocument);
    // Of several that share an alias, the first stands for all: a policy cannot tell them apart by it.
    let by_alias = || {
        let is_alias = |alias: &str| alias.eq_ignore_ascii_case(asked);
        grantable().find(|action| action.row().alias.is_some_and(is_alias))
    };
    let found =
        Action::named(asked).filter(|action| grantable().any(|known| known == *action)).or_else(by_alias);
    found.ok_or_else(|| ExplainError::Action(asked.to_owned(), listed(grantable().map(Action::name))))
}

fn find_projects(
    identities: &Identities,
    user: &User,
    asked: Option<&str>,
) -> Result<Vec<Arc<Project>>, ExplainError> {
    let projects = identities.projects_of(user.domain.domain_id);
    let Some(asked) = asked else { return Ok(projects.to_vec()) };
    let is_asked = |project: &&Arc<Project>| project.name == asked || project.project_id.to_string() == asked;
    if let Some(project) = projects.iter().find(is_asked) {
        return Ok(vec![Arc::clone(project)]);
    }
    let known = listed(projects.iter().map(|project| project.name.clone()));
    Err(ExplainError::Project(user.domain.name.clone(), asked.to_owned(), known))
}

fn listed(names: impl Iterator<Item = impl Into<String>>) -> String {
    let mut names: Vec<String> = names.map(Into::into).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
