//! The rules about members, and about the ECSs that the inventory knows.

use super::{Facts, ProjectFacts, ServerFacts, Stamp};
use crate::domain::command::Change;
use crate::domain::id::{GroupId, ProjectId, ServerId};
use crate::domain::refusal::Refusal;
use crate::domain::server::{HostName, Server, ServerStatus};

/// Which ECSs may be added to a group. Settings `members.*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberRules {
    /// Only those that the inventory knows.
    pub must_be_registered: bool,
    /// Of those that it knows, only stopped ones.
    pub must_be_stopped: bool,
}

/// An ECS to a group: the group is there, the ECS may be added, is in no other group, and there is room for it on a
/// host of its own.
pub(super) fn add(
    facts: &Facts,
    stamp: Stamp,
    project_id: ProjectId,
    group_id: GroupId,
    server_id: ServerId,
) -> Result<Change, Refusal> {
    let project = facts.project(project_id);
    let group = project.groups.get(&group_id).ok_or(Refusal::GroupNotFound { group_id })?;
    let name = group.name.clone();
    let server = project.server(server_id);
    if stamp.member_rules.must_be_registered && server.registered.is_none() {
        return Err(Refusal::ServerNotFound { server_id });
    }
    match server.member_of {
        Some(same) if same == group_id => {
            return Ok(Change::MemberKept { project_id, group_id, name, server_id });
        }
        Some(group_id) => return Err(Refusal::MemberOfOtherGroup { server_id, group_id }),
        None => {}
    }
    if let Some(registered) = &server.registered
        && stamp.member_rules.must_be_stopped
        && registered.status != ServerStatus::Shutoff
    {
        return Err(Refusal::ServerNotStopped { server_id });
    }
    let members_max = stamp.limits.members_per_group;
    if group.members.len() as u64 >= u64::from(members_max) {
        return Err(Refusal::MemberQuotaReached { members_max });
    }
    check_host(project, group_id, server_id, server.host())?;
    Ok(Change::MemberAdded { project_id, group_id, name, server_id })
}

/// An ECS out of the group that it is in.
pub(super) fn remove(
    facts: &Facts,
    project_id: ProjectId,
    group_id: GroupId,
    server_id: ServerId,
) -> Result<Change, Refusal> {
    let project = facts.project(project_id);
    let group = project.groups.get(&group_id).ok_or(Refusal::GroupNotFound { group_id })?;
    if !group.members.contains(&server_id) {
        return Err(Refusal::NotAMember { server_id });
    }
    Ok(Change::MemberRemoved { project_id, group_id, name: group.name.clone(), server_id })
}

/// An ECS that the inventory is to know: not on the host of another member of its group.
pub(super) fn register(facts: &Facts, project_id: ProjectId, server: &Server) -> Result<Change, Refusal> {
    let project = facts.project(project_id);
    if let Some(group_id) = project.server(server.server_id).member_of {
        check_host(project, group_id, server.server_id, server.host.as_ref())?;
    }
    Ok(Change::ServerRegistered { project_id, server: server.clone() })
}

/// An ECS that the inventory is to forget.
pub(super) fn unregister(
    facts: &Facts,
    project_id: ProjectId,
    server_id: ServerId,
) -> Result<Change, Refusal> {
    let server = facts.project(project_id).server(server_id);
    if server.registered.is_none() {
        return Err(Refusal::ServerNotFound { server_id });
    }
    Ok(Change::ServerUnregistered { project_id, server_id, group_id: server.member_of })
}

/// Two members of a group never share a host, as far as hosts are known.
fn check_host(
    project: &ProjectFacts,
    group_id: GroupId,
    server_id: ServerId,
    host: Option<&HostName>,
) -> Result<(), Refusal> {
    let (Some(host), Some(group)) = (host, project.groups.get(&group_id)) else { return Ok(()) };
    let shares_it = |other: &&ServerId| **other != server_id && project.server(**other).host() == Some(host);
    match group.members.iter().find(shares_it) {
        Some(other_id) => Err(Refusal::HostTaken { server_id, other_id: *other_id }),
        None => Ok(()),
    }
}

impl ServerFacts {
    fn host(&self) -> Option<&HostName> {
        self.registered.as_ref()?.host.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::domain::command::Command;
    use crate::domain::group::{GroupName, PlacementRule};
    use crate::domain::id::UserId;
    use crate::domain::rules::{Limits, decide};
    use crate::domain::time::Timestamp;

    const PROJECT: ProjectId = ProjectId::from_bytes([1; 16]);
    const LIMITS: Limits = Limits { groups_per_project: 10, members_per_group: 2 };

    fn server(number: u8) -> ServerId {
        ServerId::from_bytes([number; 16])
    }

    /// Facts and rules, with each command carried on.
    struct World {
        facts: Facts,
        rules: MemberRules,
        newest: Option<GroupId>,
    }

    impl World {
        fn new() -> Self {
            let facts = Facts { projects: HashMap::new(), tokens: HashMap::new() };
            Self { facts, rules: MemberRules::default(), newest: None }
        }

        fn run(&mut self, command: &Command) -> Result<Change, Refusal> {
            let now = Timestamp::from_millis(1);
            let group_id = GroupId::next(self.newest, now, 0);
            let stamp = Stamp { group_id, now, limits: LIMITS, member_rules: self.rules };
            let decision = decide(&self.facts, stamp, command);
            if let Ok(change) = &decision {
                self.facts.apply(change);
            }
            decision
        }

        fn group(&mut self) -> GroupId {
            let create = Command::CreateGroup {
                project_id: PROJECT,
                name: GroupName::try_from("web".to_owned()).unwrap(),
                placement_rule: PlacementRule::AntiAffinity,
                created_by: UserId::from_bytes([9; 16]),
            };
            match self.run(&create) {
                Ok(Change::GroupCreated { group, .. }) => {
                    self.newest = Some(group.group_id);
                    group.group_id
                }
                other => panic!("{other:?}"),
            }
        }

        fn add(&mut self, group_id: GroupId, number: u8) -> Result<Change, Refusal> {
            self.run(&Command::AddMember { project_id: PROJECT, group_id, server_id: server(number) })
        }

        fn remove(&mut self, group_id: GroupId, number: u8) -> Result<Change, Refusal> {
            self.run(&Command::RemoveMember { project_id: PROJECT, group_id, server_id: server(number) })
        }

        fn register(&mut self, number: u8, status: ServerStatus, host: &str) -> Result<Change, Refusal> {
            let server = Server {
                server_id: server(number),
                name: "vm".to_owned().try_into().unwrap(),
                status,
                host: Some(host.to_owned().try_into().unwrap()),
            };
            self.run(&Command::RegisterServer { project_id: PROJECT, server })
        }
    }

    #[test]
    fn an_ecs_is_in_one_group_at_the_most_and_adding_it_again_changes_nothing() {
        let mut world = World::new();
        let (one, two) = (world.group(), world.group());
        assert!(matches!(world.add(one, 1), Ok(Change::MemberAdded { .. })));
        assert!(matches!(world.add(one, 1), Ok(Change::MemberKept { .. })));
        let elsewhere = Refusal::MemberOfOtherGroup { server_id: server(1), group_id: one };
        assert_eq!(world.add(two, 1), Err(elsewhere));
        assert_eq!(world.remove(two, 1), Err(Refusal::NotAMember { server_id: server(1) }));
        assert!(world.remove(one, 1).is_ok());
        assert!(matches!(world.add(two, 1), Ok(Change::MemberAdded { .. })));
        assert!(world.run(&Command::DeleteGroup { project_id: PROJECT, group_id: two }).is_ok());
        assert!(matches!(world.add(one, 1), Ok(Change::MemberAdded { .. })), "free again");
        assert_eq!(world.add(two, 2), Err(Refusal::GroupNotFound { group_id: two }));
    }

    #[test]
    fn the_member_quota_is_met_exactly_and_one_that_is_in_is_not_counted_again() {
        let mut world = World::new();
        let group = world.group();
        assert!(world.add(group, 1).is_ok() && world.add(group, 2).is_ok());
        assert_eq!(world.add(group, 3), Err(Refusal::MemberQuotaReached { members_max: 2 }));
        assert!(matches!(world.add(group, 2), Ok(Change::MemberKept { .. })));
        assert!(world.remove(group, 1).is_ok() && world.add(group, 3).is_ok());
    }

    #[test]
    fn only_registered_and_stopped_ecss_may_be_added_where_that_is_the_rule() {
        let mut world = World::new();
        let group = world.group();
        world.rules.must_be_registered = true;
        assert_eq!(world.add(group, 1), Err(Refusal::ServerNotFound { server_id: server(1) }));
        assert!(world.register(1, ServerStatus::Active, "a").is_ok());
        world.rules.must_be_stopped = true;
        assert_eq!(world.add(group, 1), Err(Refusal::ServerNotStopped { server_id: server(1) }));
        assert!(world.register(1, ServerStatus::Shutoff, "a").is_ok());
        assert!(world.add(group, 1).is_ok());
    }

    #[test]
    fn two_members_of_a_group_never_share_a_host() {
        let mut world = World::new();
        let (one, two) = (world.group(), world.group());
        for (number, host) in [(1, "a"), (2, "a"), (3, "b")] {
            assert!(world.register(number, ServerStatus::Active, host).is_ok());
        }
        assert!(world.add(one, 1).is_ok());
        let taken = |number, other| Refusal::HostTaken { server_id: server(number), other_id: server(other) };
        assert_eq!(world.add(one, 2), Err(taken(2, 1)));
        assert!(world.add(two, 2).is_ok(), "another group has hosts of its own");
        assert!(world.add(one, 3).is_ok());
        assert_eq!(world.register(3, ServerStatus::Active, "a"), Err(taken(3, 1)), "not by moving either");
        assert!(world.register(1, ServerStatus::Active, "a").is_ok(), "where it is, it may stay");
    }

    #[test]
    fn an_ecs_that_is_forgotten_leaves_its_group() {
        let mut world = World::new();
        let group = world.group();
        let forget = Command::UnregisterServer { project_id: PROJECT, server_id: server(1) };
        assert_eq!(world.run(&forget), Err(Refusal::ServerNotFound { server_id: server(1) }));
        assert!(world.register(1, ServerStatus::Active, "a").is_ok() && world.add(group, 1).is_ok());
        let (project_id, server_id) = (PROJECT, server(1));
        let forgotten = Change::ServerUnregistered { project_id, server_id, group_id: Some(group) };
        assert_eq!(world.run(&forget), Ok(forgotten));
        assert_eq!(world.remove(group, 1), Err(Refusal::NotAMember { server_id }));
    }
}
