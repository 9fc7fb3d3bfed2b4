//! The event: who asked for what, from where, and what came of it.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::access::action::Action;
use crate::access::policy::{Denied, Permit};
use crate::access::principal::{Actor, Origin};
use crate::domain::command::{Change, Command};
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;

/// One attempt that got as far as a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'attempt> {
    /// Its place in the log.
    pub place: Place,
    /// The request.
    pub origin: Origin,
    /// Who asked.
    pub actor: Actor,
    /// What for.
    pub action: Action,
    /// In which project; a denied attempt stands under the caller's own. `None` for what is in no project.
    pub project_id: Option<ProjectId>,
    /// What was asked for, and what came of it.
    pub attempt: Attempt<'attempt>,
}

/// What was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt<'attempt> {
    /// A permitted command, and its decision: done, or refused by a rule.
    Command(&'attempt Command, &'attempt Result<Change, Refusal>),
    /// The caller had no right. Its body was not read.
    Denied(&'attempt Denied),
}

/// Where and when a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1 without gaps. The leaf's index in the tree is one less.
    pub seq: u64,
    /// The id that CTS shows.
    pub trace_id: TraceId,
    /// The wall clock when it was decided.
    pub time: Timestamp,
    /// The same, but never before the record in front of it.
    pub record_time: Timestamp,
}

impl<'attempt> Record<'attempt> {
    /// The record of a permitted command and its decision.
    #[must_use]
    pub fn decided(
        place: Place,
        permit: &Permit,
        command: &'attempt Command,
        decision: &'attempt Result<Change, Refusal>,
    ) -> Self {
        Self {
            place,
            origin: permit.origin(),
            actor: permit.actor().clone(),
            action: permit.action(),
            project_id: permit.project_id(),
            attempt: Attempt::Command(command, decision),
        }
    }

    /// The record of an attempt without rights.
    #[must_use]
    pub fn denied(place: Place, denied: &'attempt Denied) -> Self {
        Self {
            place,
            origin: denied.origin,
            actor: Actor::User(denied.principal.clone()),
            action: denied.action,
            project_id: denied.principal.project_id(),
            attempt: Attempt::Denied(denied),
        }
    }

    /// The group that the attempt was about, where there is one.
    #[must_use]
    pub fn group_id(&self) -> Option<GroupId> {
        match self.attempt {
            Attempt::Command(_, Ok(Change::GroupCreated { group, .. })) => Some(group.group_id),
            Attempt::Command(command, _) => command.group_id(),
            Attempt::Denied(denied) => denied.group_id,
        }
    }

    /// The id of what the attempt was about: a group, or an ECS.
    #[must_use]
    pub fn resource_id(&self) -> Option<String> {
        match self.attempt {
            Attempt::Command(Command::RegisterServer { server, .. }, _) => Some(server.server_id.to_string()),
            Attempt::Command(Command::UnregisterServer { server_id, .. }, _) => Some(server_id.to_string()),
            _ => self.group_id().map(|group_id| group_id.to_string()),
        }
    }

    /// The name of that group or ECS, where it is known.
    #[must_use]
    pub fn resource_name(&self) -> Option<&str> {
        match self.attempt {
            Attempt::Command(
                _,
                Ok(
                    Change::GroupDeleted { name, .. }
                    | Change::MemberAdded { name, .. }
                    | Change::MemberKept { name, .. }
                    | Change::MemberRemoved { name, .. },
                ),
            )
            | Attempt::Command(Command::CreateGroup { name, .. }, _) => Some(name.as_str()),
            Attempt::Command(Command::RegisterServer { server, .. }, _) => Some(server.name.as_str()),
            _ => None,
        }
    }
}

/// The id of a record: a UUIDv8 whose first 48 bits are `seq`, the rest random. So a lookup needs no index, and a
/// stranger cannot guess one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(Uuid);

impl TraceId {
    /// The id of record `seq`.
    #[must_use]
    pub fn new(seq: u64, random: u128) -> Self {
        const RANDOM_BITS: u128 = (1 << 80) - 1;
        let bits = (u128::from(seq) << 80) | (random & RANDOM_BITS);
        Self(uuid::Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// Which record it is the id of, if of any: the whole id is still to be compared.
    #[must_use]
    pub fn seq(self) -> u64 {
        (self.0.as_u128() >> 80) as u64
    }
}

impl FromStr for TraceId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_trace_id_tells_its_seq(seq in 0..1_u64 << 48, random: u128) {
            let id = TraceId::new(seq, random);
            prop_assert_eq!(id.seq(), seq);
            prop_assert_eq!(id.0.get_version_num(), 8);
            prop_assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        }
    }
}
