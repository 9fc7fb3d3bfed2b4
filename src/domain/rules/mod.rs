//! All business rules: [`decide`] says what a command does, given the facts.
//!
//! Invariant: the same facts, stamp and command give the same answer, always.

mod member;

use std::collections::{BTreeSet, HashMap};

use crate::domain::command::{Change, Command};
use crate::domain::group::{GroupName, ServerGroup};
use crate::domain::id::{GroupId, ProjectId, ServerId};
use crate::domain::refusal::Refusal;
use crate::domain::server::Server;
use crate::domain::session::{SecretDigest, Session, TemporaryKey};
use crate::domain::time::Timestamp;

pub use self::member::MemberRules;

/// How much a project may hold. Settings `quota.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups in one project.
    pub groups_per_project: u32,
    /// Members in one group.
    pub members_per_group: u32,
}

/// What a project has instead of the limits in the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Groups in it.
    pub groups: Option<u32>,
    /// Members in one of its groups.
    pub members: Option<u32>,
}

impl Quota {
    /// These limits, where it has none of its own.
    #[must_use]
    pub fn or(self, limits: Limits) -> Limits {
        Limits {
            groups_per_project: self.groups.unwrap_or(limits.groups_per_project),
            members_per_group: self.members.unwrap_or(limits.members_per_group),
        }
    }
}

/// What must be known of the projects and groups that a batch of commands names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The projects that the batch names. A project that never had a group is [`ProjectFacts::default`].
    pub projects: HashMap<ProjectId, ProjectFacts>,
    /// When those tokens expire that the batch names or makes, and that exist.
    pub tokens: HashMap<SecretDigest, Timestamp>,
}

/// What must be known of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectFacts {
    /// How many groups it has.
    pub group_count: u32,
    /// The newest group it ever had, deleted or not; the next id goes above it.
    pub newest_group_id: Option<GroupId>,
    /// Those groups that the batch names or makes, and that exist.
    pub groups: HashMap<GroupId, GroupFacts>,
    /// Those ECSs that the batch names, or that are in one of those groups.
    pub servers: HashMap<ServerId, ServerFacts>,
}

/// What must be known of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// What it is called.
    pub name: GroupName,
    /// The ECSs in it.
    pub members: BTreeSet<ServerId>,
}

/// What must be known of one ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// The group that it is in.
    pub member_of: Option<GroupId>,
    /// What the inventory knows of it.
    pub registered: Option<Server>,
}

static NO_PROJECT: std::sync::LazyLock<ProjectFacts> = std::sync::LazyLock::new(ProjectFacts::default);
static NO_SERVER: ServerFacts = ServerFacts { member_of: None, registered: None };

impl ProjectFacts {
    fn server(&self, server_id: ServerId) -> &ServerFacts {
        self.servers.get(&server_id).unwrap_or(&NO_SERVER)
    }

    /// Without a group or an ECS; the newest id stays, so that none is ever given out twice.
    fn reset(&mut self) {
        self.group_count = 0;
        self.groups.clear();
        self.servers.values_mut().for_each(|server| *server = ServerFacts::default());
    }

    fn put_in(&mut self, group_id: GroupId, server_id: ServerId) {
        self.servers.entry(server_id).or_default().member_of = Some(group_id);
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.members.insert(server_id);
        }
    }

    fn take_out(&mut self, server_id: ServerId) {
        let left = self.servers.entry(server_id).or_default().member_of.take();
        if let Some(group) = left.and_then(|group_id| self.groups.get_mut(&group_id)) {
            group.members.remove(&server_id);
        }
    }
}

/// What the writer adds to a command when it decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The id that a new group gets.
    pub group_id: GroupId,
    /// When it is decided.
    pub now: Timestamp,
    /// How much the project may hold.
    pub limits: Limits,
    /// Which ECSs may be added.
    pub member_rules: MemberRules,
}

/// Says what `command` changes, or why it is turned down.
///
/// # Errors
/// The first rule that the command breaks.
pub fn decide(facts: &Facts, stamp: Stamp, command: &Command) -> Result<Change, Refusal> {
    match command {
        Command::CreateGroup { project_id, name, placement_rule, created_by } => {
            let groups_max = stamp.limits.groups_per_project;
            if facts.project(*project_id).group_count >= groups_max {
                return Err(Refusal::GroupQuotaReached { groups_max });
            }
            let group = ServerGroup {
                group_id: stamp.group_id,
                name: name.clone(),
                placement_rule: *placement_rule,
                members: Vec::new(),
                created_by: *created_by,
            };
            Ok(Change::GroupCreated { project_id: *project_id, group })
        }
        Command::DeleteGroup { project_id, group_id } => {
            let (project_id, group_id) = (*project_id, *group_id);
            let group =
                facts.project(project_id).groups.get(&group_id).ok_or(Refusal::GroupNotFound { group_id })?;
            Ok(Change::GroupDeleted { project_id, group_id, name: group.name.clone() })
        }
        Command::AddMember { project_id, group_id, server_id } => {
            member::add(facts, stamp, *project_id, *group_id, *server_id)
        }
        Command::RemoveMember { project_id, group_id, server_id } => {
            member::remove(facts, *project_id, *group_id, *server_id)
        }
        Command::RegisterServer { project_id, server } => member::register(facts, *project_id, server),
        Command::UnregisterServer { project_id, server_id } => {
            member::unregister(facts, *project_id, *server_id)
        }
        Command::ResetDatabase => Ok(Change::DatabaseReset),
        Command::ResetProject { project_id } => Ok(Change::ProjectReset { project_id: *project_id }),
        Command::IssueToken { digest, user_id, scope, method, credentials, lifetime_ms, expires_by } => {
            Ok(Change::TokenIssued(Session {
                digest: *digest,
                user_id: *user_id,
                scope: *scope,
                method: *method,
                credentials: *credentials,
                issued_at: stamp.now,
                expires_at: expiry(stamp.now, *lifetime_ms, *expires_by),
            }))
        }
        Command::RevokeToken { digest } => match facts.tokens.get(digest) {
            Some(expires_at) if *expires_at > stamp.now => Ok(Change::TokenRevoked { digest: *digest }),
            _ => Err(Refusal::TokenNotFound),
        },
        Command::IssueTemporaryKey { access_key, digest, user_id, lifetime_ms, expires_by } => {
            Ok(Change::TemporaryKeyIssued(TemporaryKey {
                access_key: access_key.clone(),
                digest: *digest,
                user_id: *user_id,
                issued_at: stamp.now,
                expires_at: expiry(stamp.now, *lifetime_ms, *expires_by),
            }))
        }
        Command::PurgeExpired => Ok(Change::ExpiredPurged { until: stamp.now }),
        Command::ReloadIdentities { .. } => Ok(Change::IdentitiesReloaded),
        Command::SummarizeRefusals { .. } => Ok(Change::RefusalsSummarized),
        Command::StartService { .. }
        | Command::StopService
        | Command::RestoreDatabase { .. }
        | Command::AcceptAuditLoss { .. } => Ok(Change::Noted),
        Command::MigrateDatabase { to, .. } => Ok(Change::SchemaTold { version: *to }),
        Command::ChangeCheckpointKey { new, .. } => Ok(Change::CheckpointKeyChanged { key: new.clone() }),
        Command::SealSegment { last, .. } => Ok(Change::SegmentSealed { last: *last }),
    }
}

/// The end of what begins now: what is asked for with a token does not outlive the token.
fn expiry(now: Timestamp, lifetime_ms: u64, expires_by: Option<Timestamp>) -> Timestamp {
    let at = now.plus_millis(lifetime_ms);
    expires_by.map_or(at, |latest| at.min(latest))
}

impl Facts {
    /// Carries the facts over a change, so that the next command of the batch sees it.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::GroupCreated { project_id, group } => {
                let project = self.projects.entry(*project_id).or_default();
                project.group_count += 1;
                project.newest_group_id = project.newest_group_id.max(Some(group.group_id));
                let facts = GroupFacts { name: group.name.clone(), members: BTreeSet::new() };
                project.groups.insert(group.group_id, facts);
            }
            Change::GroupDeleted { project_id, group_id, .. } => {
                let project = self.projects.entry(*project_id).or_default();
                project.group_count = project.group_count.saturating_sub(1);
                project.groups.remove(group_id);
                let left = project.servers.values_mut().filter(|server| server.member_of == Some(*group_id));
                left.for_each(|server| server.member_of = None);
            }
            Change::MemberAdded { project_id, group_id, server_id, .. } => {
                self.projects.entry(*project_id).or_default().put_in(*group_id, *server_id);
            }
            Change::MemberRemoved { project_id, server_id, .. } => {
                self.projects.entry(*project_id).or_default().take_out(*server_id);
            }
            Change::ServerRegistered { project_id, server } => {
                let project = self.projects.entry(*project_id).or_default();
                project.servers.entry(server.server_id).or_default().registered = Some(server.clone());
            }
            Change::ServerUnregistered { project_id, server_id, .. } => {
                let project = self.projects.entry(*project_id).or_default();
                project.take_out(*server_id);
                project.servers.entry(*server_id).or_default().registered = None;
            }
            Change::DatabaseReset => self.projects.values_mut().for_each(ProjectFacts::reset),
            Change::ProjectReset { project_id } => self.projects.entry(*project_id).or_default().reset(),
            Change::TokenIssued(Session { digest, expires_at, .. }) => {
                self.tokens.insert(*digest, *expires_at);
            }
            Change::TokenRevoked { digest } => {
                self.tokens.remove(digest);
            }
            Change::ExpiredPurged { until } => self.tokens.retain(|_, expires_at| *expires_at > *until),
            Change::MemberKept { .. }
            | Change::TemporaryKeyIssued(_)
            | Change::IdentitiesReloaded
            | Change::RefusalsSummarized
            | Change::Noted
            | Change::SchemaTold { .. }
            | Change::CheckpointKeyChanged { .. }
            | Change::SegmentSealed { .. } => {}
        }
    }

    /// The newest group that the project ever had.
    #[must_use]
    pub fn newest_group_id(&self, project_id: ProjectId) -> Option<GroupId> {
        self.projects.get(&project_id)?.newest_group_id
    }

    fn project(&self, project_id: ProjectId) -> &ProjectFacts {
        self.projects.get(&project_id).unwrap_or(&NO_PROJECT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::group::PlacementRule;
    use crate::domain::id::UserId;
    use crate::domain::session::{LoginMethod, Scope};

    const PROJECTS: [ProjectId; 2] = [ProjectId::from_bytes([1; 16]), ProjectId::from_bytes([2; 16])];

    fn facts() -> Facts {
        Facts { projects: HashMap::new(), tokens: HashMap::new() }
    }

    fn stamp(quota: u32, group_id: GroupId, now: Timestamp) -> Stamp {
        let limits = Limits { groups_per_project: quota, members_per_group: 16 };
        Stamp { group_id, now, limits, member_rules: MemberRules::default() }
    }

    fn create(project_id: ProjectId) -> Command {
        let name = GroupName::try_from("web".to_owned()).unwrap();
        let created_by = UserId::from_bytes([9; 16]);
        Command::CreateGroup { project_id, name, placement_rule: PlacementRule::AntiAffinity, created_by }
    }

    /// Decides and carries on, as the writer does.
    fn run(facts: &mut Facts, quota: u32, command: &Command) -> Result<Change, Refusal> {
        let newest = command.project_id().and_then(|project_id| facts.newest_group_id(project_id));
        let now = Timestamp::from_millis(1);
        let stamp = stamp(quota, GroupId::next(newest, now, 0), now);
        let decision = decide(facts, stamp, command);
        if let Ok(change) = &decision {
            facts.apply(change);
        }
        decision
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create(usize),
        DeleteNth(usize, usize),
        DeleteUnknown(usize),
        Reset,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..2_usize).prop_map(Step::Create),
            3 => (0..2_usize, 0..8_usize).prop_map(|(project, nth)| Step::DeleteNth(project, nth)),
            1 => (0..2_usize).prop_map(Step::DeleteUnknown),
            1 => Just(Step::Reset),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// `decide` against the plainest model there is: a list of ids for each project.
        #[test]
        fn decisions_match_a_list_of_groups(quota in 0..6_u32, steps in steps()) {
            let mut facts = facts();
            let mut model: [Vec<GroupId>; 2] = [Vec::new(), Vec::new()];
            for step in steps {
                match step {
                    Step::Create(at) => match run(&mut facts, quota, &create(PROJECTS[at])) {
                        Ok(Change::GroupCreated { project_id, group }) => {
                            prop_assert_eq!(project_id, PROJECTS[at]);
                            prop_assert!(group.members.is_empty());
                            prop_assert!(model[at].len() < quota as usize);
                            prop_assert!(model[at].last() < Some(&group.group_id));
                            model[at].push(group.group_id);
                        }
                        other => {
                            prop_assert_eq!(other, Err(Refusal::GroupQuotaReached { groups_max: quota }));
                            prop_assert_eq!(model[at].len(), quota as usize);
                        }
                    },
                    Step::DeleteNth(at, nth) => {
                        let Some(group_id) = model[at].get(nth).copied() else { continue };
                        let command = Command::DeleteGroup { project_id: PROJECTS[at], group_id };
                        prop_assert!(run(&mut facts, quota, &command).is_ok());
                        prop_assert_eq!(run(&mut facts, quota, &command), Err(Refusal::GroupNotFound { group_id }));
                        model[at].remove(nth);
                    }
                    Step::DeleteUnknown(at) => {
                        // A group of the other project is as unknown as one that never was.
                        let group_id = model[1 - at].first().copied().unwrap_or(GroupId::from_bytes([3; 16]));
                        let command = Command::DeleteGroup { project_id: PROJECTS[at], group_id };
                        if !model[at].contains(&group_id) {
                            prop_assert_eq!(run(&mut facts, quota, &command), Err(Refusal::GroupNotFound { group_id }));
                        }
                    }
                    Step::Reset => {
                        prop_assert_eq!(run(&mut facts, quota, &Command::ResetDatabase), Ok(Change::DatabaseReset));
                        model = [Vec::new(), Vec::new()];
                    }
                }
                for at in 0..2 {
                    prop_assert_eq!(facts.project(PROJECTS[at]).group_count as usize, model[at].len());
                }
            }
        }

        #[test]
        fn a_refused_command_changes_no_fact(quota in 0..3_u32, count in 0..6_u32) {
            let mut facts = facts();
            for _ in 0..count {
                let before = facts.clone();
                if run(&mut facts, quota, &create(PROJECTS[0])).is_err() {
                    prop_assert_eq!(&facts, &before);
                }
            }
        }
    }

    #[test]
    fn the_quota_is_met_exactly() {
        let (mut facts, quota) = (facts(), 2);
        assert!(run(&mut facts, quota, &create(PROJECTS[0])).is_ok());
        assert!(run(&mut facts, quota, &create(PROJECTS[0])).is_ok());
        assert_eq!(
            run(&mut facts, quota, &create(PROJECTS[0])),
            Err(Refusal::GroupQuotaReached { groups_max: 2 })
        );
        assert!(run(&mut facts, quota, &create(PROJECTS[1])).is_ok(), "another project has its own");
    }

    fn issue(digest: SecretDigest, lifetime_ms: u64, expires_by: Option<Timestamp>) -> Command {
        let user_id = UserId::from_bytes([9; 16]);
        let (scope, method) = (Scope::Project(PROJECTS[0]), LoginMethod::Password);
        let credentials = SecretDigest::from_bytes([7; 32]);
        Command::IssueToken { digest, user_id, scope, method, credentials, lifetime_ms, expires_by }
    }

    fn at(facts: &mut Facts, millis: u64, command: &Command) -> Result<Change, Refusal> {
        let now = Timestamp::from_millis(millis);
        let decision = decide(facts, stamp(0, GroupId::next(None, now, 0), now), command);
        if let Ok(change) = &decision {
            facts.apply(change);
        }
        decision
    }

    #[test]
    fn a_token_can_be_revoked_once_and_until_it_expires() {
        let (one, two) = (SecretDigest::from_bytes([1; 32]), SecretDigest::from_bytes([2; 32]));
        let mut facts = facts();
        for digest in [one, two] {
            assert!(at(&mut facts, 1_000, &issue(digest, 10, None)).is_ok());
        }
        assert_eq!(
            at(&mut facts, 1_009, &Command::RevokeToken { digest: one }),
            Ok(Change::TokenRevoked { digest: one })
        );
        assert_eq!(at(&mut facts, 1_009, &Command::RevokeToken { digest: one }), Err(Refusal::TokenNotFound));
        assert_eq!(at(&mut facts, 1_010, &Command::RevokeToken { digest: two }), Err(Refusal::TokenNotFound));
        assert!(facts.tokens.contains_key(&two));
        assert!(at(&mut facts, 1_010, &Command::PurgeExpired).is_ok());
        assert!(facts.tokens.is_empty());
    }

    #[test]
    fn a_token_does_not_outlive_the_one_it_was_asked_for_with() {
        let digest = SecretDigest::from_bytes([1; 32]);
        for (expires_by, expected) in [(None, 1_010), (Some(1_005), 1_005), (Some(2_000), 1_010)] {
            let command = issue(digest, 10, expires_by.map(Timestamp::from_millis));
            match at(&mut facts(), 1_000, &command) {
                Ok(Change::TokenIssued(session)) => {
                    assert_eq!(session.issued_at, Timestamp::from_millis(1_000));
                    assert_eq!(session.expires_at, Timestamp::from_millis(expected));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
