//! What the records lead to: every project's groups, their members, and the registered ECSs.
//!
//! Invariant: unknown actions pass, so that a newer log replays as far as it is understood.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use crate::access::action::Action;
use crate::audit::event::{Event, Outcome};
use crate::domain::id::{GroupId, ProjectId, ServerId, UserId};

/// How many differences are kept.
const DIFFERENCES_MAX: usize = 20;

/// What there is after the records so far. Then it is compared with what stands in a database, row by row.
#[derive(Debug, Default)]
pub struct Replay {
    projects: BTreeMap<ProjectId, Project>,
    differences: Vec<String>,
    difference_count: u64,
}

#[derive(Debug, Default)]
struct Project {
    groups: BTreeMap<GroupId, Group>,
    /// The group of each ECS that is in one, and the record that put it there.
    members: HashMap<ServerId, (GroupId, u64)>,
    servers: BTreeMap<ServerId, Server>,
    /// How many groups there were when the comparison began.
    group_count: i64,
}

#[derive(Debug)]
struct Group {
    seq: u64,
    name: String,
    placement_rule: String,
    created_by: Option<UserId>,
    members: BTreeSet<ServerId>,
}

#[derive(Debug)]
struct Server {
    seq: u64,
    name: String,
    status: String,
    host: Option<String>,
}

#[derive(Deserialize)]
struct AskedGroup<'bytes> {
    #[serde(borrow)]
    name: Cow<'bytes, str>,
    #[serde(borrow)]
    placement_rule: Cow<'bytes, str>,
}

#[derive(Deserialize)]
struct AskedMember<'bytes> {
    group_id: Cow<'bytes, str>,
    server_id: Cow<'bytes, str>,
}

#[derive(Deserialize)]
struct AskedServer<'bytes> {
    server_id: Cow<'bytes, str>,
    name: Option<Cow<'bytes, str>>,
    status: Option<Cow<'bytes, str>>,
    host: Option<Cow<'bytes, str>>,
}

/// A row of `server_group`.
#[derive(Clone, Copy, Debug)]
pub struct GroupRow<'row> {
    /// The owner.
    pub project_id: ProjectId,
    /// The group.
    pub group_id: GroupId,
    /// Its name.
    pub name: &'row str,
    /// How its members are placed.
    pub placement_rule: &'row str,
    /// Who made it.
    pub created_by: UserId,
}

/// A row of `server`.
#[derive(Clone, Copy, Debug)]
pub struct ServerRow<'row> {
    /// The owner.
    pub project_id: ProjectId,
    /// The ECS.
    pub server_id: ServerId,
    /// Its name.
    pub name: &'row str,
    /// What it does.
    pub status: &'row str,
    /// Where it runs.
    pub host: Option<&'row str>,
}

impl Replay {
    /// Does what the record says was done. What it says of a thing that is not there is a difference, too.
    pub fn apply(&mut self, event: &Event<'_>) {
        if event.outcome != Outcome::Done {
            return;
        }
        let Some(action) = Action::named(&event.action) else { return };
        if action == Action::ResetDatabase {
            self.projects.clear();
            return;
        }
        let Some(project_id) = event.project_id() else { return };
        if action == Action::ResetProject {
            self.projects.remove(&project_id);
            return;
        }
        let seq = event.seq;
        let project = self.projects.entry(project_id).or_default();
        let done = match action {
            Action::CreateServerGroup => project.create(event),
            Action::DeleteServerGroup => project.delete(event),
            Action::AddServerGroupMember => project.add_member(event),
            Action::DeleteServerGroupMember => project.remove_member(event),
            Action::RegisterServer => project.register(event),
            Action::UnregisterServer => project.unregister(event),
            _ => Some(()),
        };
        if done.is_none() {
            self.differ(format!("record {seq}: it cannot have been done after the records in front of it"));
        }
    }

    /// Ends the replay: from here on it is compared.
    pub fn begin_comparison(&mut self) {
        for project in self.projects.values_mut() {
            project.group_count = i64::try_from(project.groups.len()).unwrap_or(i64::MAX);
        }
    }

    /// Compares a row of `server_group`.
    pub fn compare_group(&mut self, row: &GroupRow<'_>) {
        let GroupRow { project_id, group_id, .. } = *row;
        let named = format!("group {group_id} of project {project_id}");
        let found = self.projects.get_mut(&project_id).and_then(|project| project.groups.remove(&group_id));
        let Some(group) = found else {
            return self.differ(format!("{named}: it is there, and no record made it, or one deleted it"));
        };
        for (column, is_same) in [
            ("name", group.name == row.name),
            ("placement_rule", group.placement_rule == row.placement_rule),
            ("created_by", group.created_by == Some(row.created_by)),
        ] {
            if !is_same {
                self.differ(format!("{named}: its {column} is not the one of record {}", group.seq));
            }
        }
    }

    /// Compares a row of `member`.
    pub fn compare_member(&mut self, project_id: ProjectId, group_id: GroupId, server_id: ServerId) {
        let named = format!("member {server_id} of group {group_id} of project {project_id}");
        let project = self.projects.get_mut(&project_id);
        match project.and_then(|project| project.members.remove(&server_id)) {
            None => {
                self.differ(format!("{named}: it is there, and no record put it there, or one took it out"));
            }
            Some((recorded, seq)) if recorded != group_id => {
                self.differ(format!("{named}: record {seq} put it into group {recorded}"));
            }
            Some(_) => {}
        }
    }

    /// Compares a row of `server`.
    pub fn compare_server(&mut self, row: &ServerRow<'_>) {
        let ServerRow { project_id, server_id, .. } = *row;
        let named = format!("registered ECS {server_id} of project {project_id}");
        let project = self.projects.get_mut(&project_id);
        let Some(server) = project.and_then(|project| project.servers.remove(&server_id)) else {
            return self
                .differ(format!("{named}: it is there, and no record registered it, or one forgot it"));
        };
        for (column, is_same) in [
            ("name", server.name == row.name),
            ("status", server.status == row.status),
            ("host", server.host.as_deref() == row.host),
        ] {
            if !is_same {
                self.differ(format!("{named}: its {column} is not the one of record {}", server.seq));
            }
        }
    }

    /// Compares the count that stands in a row of `project`.
    pub fn compare_count(&mut self, project_id: ProjectId, group_count: i64) {
        let project = self.projects.get_mut(&project_id);
        let recorded = project.map_or(0, |project| std::mem::take(&mut project.group_count));
        if recorded != group_count {
            self.differ(format!(
                "project {project_id}: it counts {group_count} groups, and the records lead to {recorded}"
            ));
        }
    }

    /// What is different, and how much; not all of it, when it is much.
    #[must_use]
    pub fn finish(mut self) -> (Vec<String>, u64) {
        for (project_id, project) in std::mem::take(&mut self.projects) {
            if project.group_count != 0 {
                self.differ(format!(
                    "project {project_id}: it counts no groups, and the records lead to some"
                ));
            }
            for (group_id, group) in project.groups {
                let seq = group.seq;
                self.differ(format!(
                    "group {group_id} of project {project_id}: record {seq} made it, and it is not there"
                ));
            }
            for (server_id, (group_id, seq)) in project.members {
                self.differ(format!(
                    "member {server_id} of group {group_id} of project {project_id}: record {seq} put it there, \
                     and it is not there"
                ));
            }
            for (server_id, server) in project.servers {
                let seq = server.seq;
                self.differ(format!(
                    "registered ECS {server_id} of project {project_id}: record {seq} registered it, and it is not \
                     there"
                ));
            }
        }
        (self.differences, self.difference_count)
    }

    fn differ(&mut self, difference: String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(difference);
        }
    }
}

impl Project {
    fn create(&mut self, event: &Event<'_>) -> Option<()> {
        let asked: AskedGroup<'_> = asked(event)?;
        let group = Group {
            seq: event.seq,
            name: asked.name.into_owned(),
            placement_rule: asked.placement_rule.into_owned(),
            created_by: event.actor.user_id.as_deref().and_then(|id| id.parse().ok()),
            members: BTreeSet::new(),
        };
        self.groups.insert(event.group_id()?, group).is_none().then_some(())
    }

    fn delete(&mut self, event: &Event<'_>) -> Option<()> {
        for server_id in self.groups.remove(&event.group_id()?)?.members {
            self.members.remove(&server_id);
        }
        Some(())
    }

    fn add_member(&mut self, event: &Event<'_>) -> Option<()> {
        let (group_id, server_id) = member(event)?;
        let is_new = self.members.insert(server_id, (group_id, event.seq)).is_none();
        let is_first = self.groups.get_mut(&group_id)?.members.insert(server_id);
        (is_new && is_first).then_some(())
    }

    fn remove_member(&mut self, event: &Event<'_>) -> Option<()> {
        let (group_id, server_id) = member(event)?;
        self.leave(server_id).filter(|of| *of == group_id).map(drop)
    }

    fn register(&mut self, event: &Event<'_>) -> Option<()> {
        let asked: AskedServer<'_> = asked(event)?;
        let server = Server {
            seq: event.seq,
            name: asked.name?.into_owned(),
            status: asked.status?.into_owned(),
            host: asked.host.map(Cow::into_owned),
        };
        self.servers.insert(asked.server_id.parse().ok()?, server);
        Some(())
    }

    fn unregister(&mut self, event: &Event<'_>) -> Option<()> {
        let asked: AskedServer<'_> = asked(event)?;
        let server_id = asked.server_id.parse().ok()?;
        self.leave(server_id);
        self.servers.remove(&server_id).map(drop)
    }

    /// Takes an ECS out of its group, and says which that was.
    fn leave(&mut self, server_id: ServerId) -> Option<GroupId> {
        let (group_id, _) = self.members.remove(&server_id)?;
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.members.remove(&server_id);
        }
        Some(group_id)
    }
}

fn asked<'bytes, T: Deserialize<'bytes>>(event: &Event<'bytes>) -> Option<T> {
    serde_json::from_str(event.asked.get()).ok()
}

fn member(event: &Event<'_>) -> Option<(GroupId, ServerId)> {
    let AskedMember { group_id, server_id } = asked(event)?;
    Some((group_id.parse().ok()?, server_id.parse().ok()?))
}
