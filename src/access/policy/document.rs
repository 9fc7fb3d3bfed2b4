//! Policy documents as the vendor has them: versions 1.0 and 1.1 ("Policy Syntax", IAM) and 5.0 ("Identity Policy
//! Syntax"). Whatever is not understood is refused with its line, since skipping a Deny would let someone in.

use super::condition::{Circumstances, Condition};
use super::grammar::{self, Said};
use crate::access::action::{Action, ActionSet};

/// Why a text is no policy document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct DocumentError {
    /// The line of the text, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub rule: String,
}

/// A policy document, ready to decide: each statement's patterns are worked out against the table of actions.
#[derive(Clone, Debug)]
pub struct PolicyDocument {
    name: String,
    source: String,
    statements: Vec<Statement>,
    depends: Vec<String>,
}

/// Two documents are the same when they say the same under the same name.
impl PartialEq for PolicyDocument {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.source) == (&other.name, &other.source)
    }
}

impl Eq for PolicyDocument {}

/// What a statement does where it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Gives a right.
    Allow,
    /// Takes it, whatever else gives it.
    Deny,
}

/// One statement of a document.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) effect: Effect,
    /// The actions it is about, by name or alias.
    pub(super) actions: ActionSet,
    /// Whether its Resource is `*`. A group action has no resource of its own, so another one never meets it.
    pub(super) is_for_every_resource: bool,
    pub(super) conditions: Vec<Condition>,
    pub(super) sid: Option<String>,
}

impl Statement {
    /// What it does where it applies.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Its `Sid`, if it has one.
    #[must_use]
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// Whether it is about the action at all.
    #[must_use]
    pub const fn names(&self, action: Action) -> bool {
        self.actions.has(action)
    }

    /// Whether its Resource lets it apply to an action that has no resource of its own.
    #[must_use]
    pub const fn is_for_every_resource(&self) -> bool {
        self.is_for_every_resource
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn is_met_by(&self, circumstances: &Circumstances<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(circumstances))
    }

    /// Whether it has a say in this request.
    #[must_use]
    pub fn applies(&self, circumstances: &Circumstances<'_>) -> bool {
        self.names(circumstances.action) && self.is_for_every_resource && self.is_met_by(circumstances)
    }
}

impl PolicyDocument {
    /// Reads a document of any version.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(name: &str, source: &str) -> Result<Self, DocumentError> {
        let Said { statements, depends } = grammar::read(source)?;
        Ok(Self { name: name.to_owned(), source: source.to_owned(), statements, depends })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its statements, in order.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// The display names of the roles that it needs beside itself (version 1.0).
    #[must_use]
    pub fn depends(&self) -> &[String] {
        &self.depends
    }
}
