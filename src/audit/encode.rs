//! The canonical bytes of a record: one JSON object, its keys in the order below, no white space.
//!
//! They begin with the format version, are written once, and are never re-serialised: what is hashed, stored, shown
//! and verified are these very bytes. The golden test at the end freezes the format. A change needs a new version
//! beside the old one, never an edit.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::access::principal::{Actor, Principal};
use crate::audit::record::{Attempt, Record};
use crate::domain::command::{Change, Command};
use crate::domain::server::HostName;
use crate::domain::session::{AccessKeyId, Scope};

/// The version that [`encode`] writes.
const FORMAT_VERSION: u8 = 1;

/// A generous first guess of a record's size in bytes, so that encoding allocates once.
const CAPACITY: usize = 1024;

/// The canonical bytes of `record`.
///
/// # Errors
/// None that can happen: the types below have no map with keys that are not text, and writing to memory does not
/// fail. It is passed on rather than hidden.
pub fn encode(record: &Record<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(CAPACITY);
    serde_json::to_writer(&mut bytes, &Version1::of(record))?;
    Ok(bytes)
}

/// Format version 1. The order of the fields is the order of the bytes.
#[derive(Serialize)]
struct Version1<'record> {
    v: u8,
    seq: u64,
    trace_id: Text<&'record dyn Display>,
    time: u64,
    record_time: u64,
    request_id: Text<&'record dyn Display>,
    source_ip: Option<Text<&'record dyn Display>>,
    door: &'static str,
    actor: ActorV1<'record>,
    action: &'static str,
    project_id: Option<Text<&'record dyn Display>>,
    resource: ResourceV1<'record>,
    asked: AskedV1<'record>,
    outcome: &'static str,
    reason: Option<ReasonV1<'record>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ActorV1<'record> {
    User {
        user_id: Text<&'record dyn Display>,
        user_name: &'record str,
        domain_id: Text<&'record dyn Display>,
        domain_name: &'record str,
        is_root: bool,
        credential: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        access_key: Option<&'record str>,
    },
    Operator,
    Service,
}

#[derive(Serialize)]
struct ResourceV1<'record> {
    r#type: &'static str,
    id: Option<String>,
    name: Option<&'record str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AskedV1<'record> {
    CreateGroup {
        name: &'record str,
        placement_rule: &'static str,
    },
    DeleteGroup {
        group_id: Text<&'record dyn Display>,
    },
    Member {
        group_id: Text<&'record dyn Display>,
        server_id: Text<&'record dyn Display>,
    },
    RegisterServer {
        server_id: Text<&'record dyn Display>,
        name: &'record str,
        status: &'static str,
        host: Option<&'record str>,
    },
    UnregisterServer {
        server_id: Text<&'record dyn Display>,
    },
    ResetDatabase {
        scope: &'static str,
    },
    Token(TokenV1<'record>),
    RevokeToken {
        token: Text<&'record dyn Display>,
    },
    TemporaryKey(TemporaryKeyV1<'record>),
    Purge {
        expired: &'static [&'static str],
    },
    ReloadIdentities {
        differences: &'record [String],
    },
    SummarizeRefusals {
        user_id: Text<&'record dyn Display>,
        not_recorded: u64,
        since: u64,
    },
    Denied {
        project_id: Option<Text<&'record dyn Display>>,
    },
    StartService {
        version: &'record str,
    },
    Nothing {},
    MigrateDatabase {
        from: i64,
        to: i64,
    },
    RestoreDatabase {
        sha256: &'record str,
    },
    AcceptAuditLoss {
        reason: &'record str,
        expected_size: u64,
        found_size: u64,
    },
    ChangeCheckpointKey {
        old: Option<&'record str>,
        new: &'record str,
        signed: Option<&'record str>,
    },
    SealSegment {
        first: u64,
        last: u64,
        file: &'record str,
        sha256: Text<&'record dyn Display>,
    },
}

/// A token is named by its digest, which tells nobody the token.
#[derive(Serialize)]
struct TokenV1<'record> {
    token: Text<&'record dyn Display>,
    method: &'static str,
    project_id: Option<Text<&'record dyn Display>>,
    /// `null` when it was refused.
    expires_at: Option<u64>,
}

#[derive(Serialize)]
struct TemporaryKeyV1<'record> {
    access_key: &'record str,
    expires_at: Option<u64>,
}

#[derive(Serialize)]
struct ReasonV1<'record> {
    name: &'static str,
    message: Option<Text<&'record dyn Display>>,
}

impl<'record> Version1<'record> {
    fn of(record: &'record Record<'_>) -> Self {
        Self {
            v: FORMAT_VERSION,
            seq: record.place.seq,
            trace_id: Text(&record.place.trace_id),
            time: record.place.time.as_millis(),
            record_time: record.place.record_time.as_millis(),
            request_id: Text(&record.origin.request_id),
            source_ip: record.origin.source_ip.as_ref().map(|ip| Text(ip as &dyn Display)),
            door: record.origin.door,
            actor: ActorV1::of(&record.actor),
            action: record.action.name(),
            project_id: record.project_id.as_ref().map(|id| Text(id as &dyn Display)),
            resource: ResourceV1 {
                r#type: record.action.row().subject.name(),
                id: record.resource_id(),
                name: record.resource_name(),
            },
            asked: AskedV1::of(record),
            outcome: match record.attempt {
                Attempt::Command(_, Ok(Change::MemberKept { .. })) => "unchanged",
                Attempt::Command(_, Ok(_)) => "done",
                Attempt::Command(_, Err(_)) => "refused",
                Attempt::Denied(_) => "denied",
            },
            reason: match &record.attempt {
                Attempt::Command(_, Ok(_)) => None,
                Attempt::Command(_, Err(refusal)) => {
                    Some(ReasonV1 { name: refusal.name(), message: Some(Text(refusal as &dyn Display)) })
                }
                Attempt::Denied(denied) => Some(ReasonV1 { name: denied.reason.name(), message: None }),
            },
        }
    }
}

impl<'record> ActorV1<'record> {
    fn of(actor: &'record Actor) -> Self {
        match actor {
            Actor::User(Principal { user, credential, .. }) => Self::User {
                user_id: Text(&user.user_id),
                user_name: &user.name,
                domain_id: Text(&user.domain.domain_id),
                domain_name: &user.domain.name,
                is_root: user.is_root,
                credential: credential.name(),
                access_key: credential.access_key().map(AccessKeyId::as_str),
            },
            Actor::Operator => Self::Operator,
            Actor::Service => Self::Service,
        }
    }
}

impl<'record> AskedV1<'record> {
    fn of(record: &'record Record<'_>) -> Self {
        match &record.attempt {
            Attempt::Command(command, decision) => match command {
                Command::CreateGroup { name, placement_rule, .. } => {
                    Self::CreateGroup { name: name.as_str(), placement_rule: placement_rule.as_str() }
                }
                Command::DeleteGroup { group_id, .. } => Self::DeleteGroup { group_id: Text(group_id) },
                Command::AddMember { group_id, server_id, .. }
                | Command::RemoveMember { group_id, server_id, .. } => {
                    Self::Member { group_id: Text(group_id), server_id: Text(server_id) }
                }
                Command::RegisterServer { server, .. } => Self::RegisterServer {
                    server_id: Text(&server.server_id),
                    name: server.name.as_str(),
                    status: server.status.as_str(),
                    host: server.host.as_ref().map(HostName::as_str),
                },
                Command::UnregisterServer { server_id, .. } => {
                    Self::UnregisterServer { server_id: Text(server_id) }
                }
                Command::ResetDatabase => Self::ResetDatabase { scope: "database" },
                Command::IssueToken { digest, scope, method, .. } => Self::Token(TokenV1 {
                    token: Text(digest),
                    method: method.name(),
                    project_id: match scope {
                        Scope::Project(project_id) => Some(Text(project_id)),
                        Scope::Domain(_) => None,
                    },
                    expires_at: match decision {
                        Ok(Change::TokenIssued(session)) => Some(session.expires_at.as_millis()),
                        _ => None,
                    },
                }),
                Command::RevokeToken { digest } => Self::RevokeToken { token: Text(digest) },
                Command::IssueTemporaryKey { access_key, .. } => Self::TemporaryKey(TemporaryKeyV1 {
                    access_key: access_key.as_str(),
                    expires_at: match decision {
                        Ok(Change::TemporaryKeyIssued(key)) => Some(key.expires_at.as_millis()),
                        _ => None,
                    },
                }),
                Command::PurgeExpired => Self::Purge { expired: &["token", "temporary_key"] },
                Command::ReloadIdentities { differences } => Self::ReloadIdentities { differences },
                Command::SummarizeRefusals { user_id, count, since } => Self::SummarizeRefusals {
                    user_id: Text(user_id),
                    not_recorded: *count,
                    since: since.as_millis(),
                },
                Command::ResetProject { .. } => Self::ResetDatabase { scope: "project" },
                Command::StartService { version } => Self::StartService { version },
                Command::StopService => Self::Nothing {},
                Command::MigrateDatabase { from, to } => Self::MigrateDatabase { from: *from, to: *to },
                Command::RestoreDatabase { sha256 } => Self::RestoreDatabase { sha256 },
                Command::AcceptAuditLoss { reason, expected_size, found_size } => {
                    Self::AcceptAuditLoss { reason, expected_size: *expected_size, found_size: *found_size }
                }
                Command::ChangeCheckpointKey { old, new, signed } => {
                    Self::ChangeCheckpointKey { old: old.as_deref(), new, signed: signed.as_deref() }
                }
                Command::SealSegment { first, last, file, digest } => {
                    Self::SealSegment { first: *first, last: *last, file, sha256: Text(digest) }
                }
            },
            Attempt::Denied(denied) => {
                Self::Denied { project_id: denied.on.as_ref().map(|id| Text(id as &dyn Display)) }
            }
        }
    }
}

/// A value written as the JSON string that it displays as.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::access::action::Action;
    use crate::access::policy;
    use crate::access::principal::{Credential, Domain, Origin, Project, User};
    use crate::audit::record::{Place, TraceId};
    use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
    use crate::domain::id::{DomainId, GroupId, ProjectId, RequestId, ServerId, UserId};
    use crate::domain::refusal::Refusal;
    use crate::domain::rules::Quota;
    use crate::domain::server::{Server, ServerStatus};
    use crate::domain::session::{LoginMethod, SecretDigest, Session, TemporaryKey};
    use crate::domain::time::Timestamp;

    const PROJECT: ProjectId = ProjectId::from_bytes([0x11; 16]);
    const GROUP: GroupId = GroupId::from_bytes([0x22; 16]);
    const SERVER: ServerId = ServerId::from_bytes([0x66; 16]);
    const USER: UserId = UserId::from_bytes([0x33; 16]);
    const TOKEN: SecretDigest = SecretDigest::from_bytes([0x77; 32]);
    const NOW: Timestamp = Timestamp::from_millis(1_767_323_045_000);

    fn place(seq: u64) -> Place {
        Place {
            seq,
            trace_id: TraceId::new(seq, 0),
            time: NOW,
            record_time: Timestamp::from_millis(1_767_323_045_123),
        }
    }

    fn origin() -> Origin {
        let source_ip = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)));
        Origin { request_id: RequestId::from_bytes([0x44; 16]), source_ip, door: "v1" }
    }

    fn service() -> Origin {
        Origin { source_ip: None, door: "service", ..origin() }
    }

    fn alice() -> Principal {
        let domain = Domain { domain_id: DomainId::from_bytes([0x55; 16]), name: "acct1".to_owned() };
        let project = Project {
            project_id: PROJECT,
            name: "region-1".to_owned(),
            domain_id: domain.domain_id,
            quota: Quota::default(),
        };
        Principal {
            user: Arc::new(User::new(USER, "alice".to_owned(), domain, true)),
            project: Some(Arc::new(project)),
            credential: Credential::Token,
            documents: Arc::default(),
        }
    }

    fn logging_in() -> Principal {
        Principal { credential: Credential::Login(LoginMethod::Password), ..alice() }
    }

    fn name() -> GroupName {
        GroupName::try_from("web \"tier\" é".to_owned()).unwrap()
    }

    fn create() -> Command {
        let placement_rule = PlacementRule::AntiAffinity;
        Command::CreateGroup { project_id: PROJECT, name: name(), placement_rule, created_by: USER }
    }

    fn delete() -> Command {
        Command::DeleteGroup { project_id: PROJECT, group_id: GROUP }
    }

    fn decided(seq: u64, action: Action, command: &Command, decision: &Result<Change, Refusal>) -> String {
        let permit = match action {
            Action::ResetDatabase => {
                policy::permit_reset(Origin { source_ip: None, door: "cli", ..origin() })
            }
            Action::ReloadIdentities => {
                policy::permit_reload(Origin { source_ip: None, door: "signal", ..origin() })
            }
            Action::SummarizeRefusals => {
                policy::permit_summary(Origin { source_ip: None, door: "timer", ..origin() })
            }
            Action::PurgeExpired => {
                policy::permit_purge(Origin { source_ip: None, door: "timer", ..origin() })
            }
            Action::IssueToken | Action::RevokeToken | Action::IssueTemporaryKey => {
                policy::permit_oneself(&logging_in(), Origin { door: "v3", ..origin() }, action).unwrap()
            }
            Action::ResetProject => {
                policy::permit_project_reset(Origin { source_ip: None, door: "control", ..origin() }, PROJECT)
            }
            Action::StartService => policy::permit_start(service()),
            Action::StopService => policy::permit_stop(service()),
            Action::MigrateDatabase => policy::permit_migration(service()),
            Action::RestoreDatabase => {
                policy::permit_restore(Origin { source_ip: None, door: "cli", ..origin() })
            }
            Action::AcceptAuditLoss => policy::permit_loss(service()),
            Action::ChangeCheckpointKey => policy::permit_key_change(service()),
            Action::SealSegment => policy::permit_sealing(service()),
            Action::RegisterServer | Action::UnregisterServer => {
                let origin = Origin { source_ip: None, door: "control", ..origin() };
                policy::permit_inventory(origin, action, PROJECT).unwrap()
            }
            _ => policy::permit(&alice(), origin(), action, Some(PROJECT), NOW).unwrap(),
        };
        String::from_utf8(encode(&Record::decided(place(seq), &permit, command, decision)).unwrap()).unwrap()
    }

    fn member(seq: u64, action: Action, decision: &Result<Change, Refusal>) -> String {
        let (project_id, group_id, server_id) = (PROJECT, GROUP, SERVER);
        let command = match action {
            Action::AddServerGroupMember => Command::AddMember { project_id, group_id, server_id },
            _ => Command::RemoveMember { project_id, group_id, server_id },
        };
        decided(seq, action, &command, decision)
    }

    fn added(is_new: bool) -> Change {
        let (project_id, group_id, server_id, name) = (PROJECT, GROUP, SERVER, name());
        if is_new {
            Change::MemberAdded { project_id, group_id, name, server_id }
        } else {
            Change::MemberKept { project_id, group_id, name, server_id }
        }
    }

    fn register() -> Command {
        let server = Server {
            server_id: SERVER,
            name: "vm \"1\"".to_owned().try_into().unwrap(),
            status: ServerStatus::Shutoff,
            host: Some("host-a".to_owned().try_into().unwrap()),
        };
        Command::RegisterServer { project_id: PROJECT, server }
    }

    fn session() -> Session {
        Session {
            digest: TOKEN,
            user_id: USER,
            scope: Scope::Project(PROJECT),
            method: LoginMethod::Password,
            credentials: TOKEN,
            issued_at: NOW,
            expires_at: NOW.plus_millis(86_400_000),
        }
    }

    fn issue_token() -> Command {
        let Session { digest, user_id, scope, method, credentials, .. } = session();
        Command::IssueToken {
            digest,
            user_id,
            scope,
            method,
            credentials,
            lifetime_ms: 86_400_000,
            expires_by: None,
        }
    }

    fn revoke() -> Command {
        Command::RevokeToken { digest: TOKEN }
    }

    fn key() -> TemporaryKey {
        TemporaryKey {
            access_key: "TEMPEXAMPLE000000001".parse().unwrap(),
            digest: TOKEN,
            user_id: USER,
            issued_at: NOW,
            expires_at: NOW.plus_millis(900_000),
        }
    }

    fn issue_key() -> Command {
        let TemporaryKey { access_key, digest, user_id, .. } = key();
        Command::IssueTemporaryKey { access_key, digest, user_id, lifetime_ms: 900_000, expires_by: None }
    }

    /// One line for every command and outcome there is. Never edit the expected file; add a format version instead.
    #[test]
    #[expect(clippy::too_many_lines, reason = "it is one list")]
    fn the_canonical_bytes_are_frozen() {
        let group = ServerGroup {
            group_id: GROUP,
            name: name(),
            placement_rule: PlacementRule::AntiAffinity,
            members: Vec::new(),
            created_by: USER,
        };
        let created = Ok(Change::GroupCreated { project_id: PROJECT, group });
        let deleted = Ok(Change::GroupDeleted { project_id: PROJECT, group_id: GROUP, name: name() });
        let denied = policy::permit(&alice(), origin(), Action::DeleteServerGroup, None, NOW).unwrap_err();
        let denied = encode(&Record::denied(place(6), &denied)).unwrap();
        let signed = Credential::AccessKey("AKTESTEXAMPLE0000001".parse().unwrap());
        let signing = Principal { credential: signed, ..alice() };
        let signed = policy::permit(&signing, origin(), Action::CreateServerGroup, None, NOW).unwrap_err();
        let signed = encode(&Record::denied(place(7), &signed)).unwrap();

        let lines = [
            decided(1, Action::CreateServerGroup, &create(), &created),
            decided(
                2,
                Action::CreateServerGroup,
                &create(),
                &Err(Refusal::GroupQuotaReached { groups_max: 10 }),
            ),
            decided(3, Action::DeleteServerGroup, &delete(), &deleted),
            decided(
                4,
                Action::DeleteServerGroup,
                &delete(),
                &Err(Refusal::GroupNotFound { group_id: GROUP }),
            ),
            decided(5, Action::ResetDatabase, &Command::ResetDatabase, &Ok(Change::DatabaseReset)),
            String::from_utf8(denied).unwrap(),
            String::from_utf8(signed).unwrap(),
            decided(8, Action::IssueToken, &issue_token(), &Ok(Change::TokenIssued(session()))),
            decided(9, Action::RevokeToken, &revoke(), &Ok(Change::TokenRevoked { digest: TOKEN })),
            decided(10, Action::RevokeToken, &revoke(), &Err(Refusal::TokenNotFound)),
            decided(11, Action::IssueTemporaryKey, &issue_key(), &Ok(Change::TemporaryKeyIssued(key()))),
            decided(
                12,
                Action::PurgeExpired,
                &Command::PurgeExpired,
                &Ok(Change::ExpiredPurged { until: NOW }),
            ),
            decided(
                13,
                Action::ReloadIdentities,
                &Command::ReloadIdentities { differences: vec!["user acct1/bob added".to_owned()] },
                &Ok(Change::IdentitiesReloaded),
            ),
            decided(
                14,
                Action::SummarizeRefusals,
                &Command::SummarizeRefusals { user_id: USER, count: 77, since: NOW },
                &Ok(Change::RefusalsSummarized),
            ),
            member(15, Action::AddServerGroupMember, &Ok(added(true))),
            member(16, Action::AddServerGroupMember, &Ok(added(false))),
            member(17, Action::AddServerGroupMember, &Err(Refusal::MemberQuotaReached { members_max: 16 })),
            member(
                18,
                Action::DeleteServerGroupMember,
                &Ok(Change::MemberRemoved {
                    project_id: PROJECT,
                    group_id: GROUP,
                    name: name(),
                    server_id: SERVER,
                }),
            ),
            decided(19, Action::RegisterServer, &register(), &{
                let Command::RegisterServer { project_id, server } = register() else { unreachable!() };
                Ok(Change::ServerRegistered { project_id, server })
            }),
            decided(
                20,
                Action::UnregisterServer,
                &Command::UnregisterServer { project_id: PROJECT, server_id: SERVER },
                &Ok(Change::ServerUnregistered {
                    project_id: PROJECT,
                    server_id: SERVER,
                    group_id: Some(GROUP),
                }),
            ),
            decided(
                21,
                Action::ResetProject,
                &Command::ResetProject { project_id: PROJECT },
                &Ok(Change::ProjectReset { project_id: PROJECT }),
            ),
            decided(
                22,
                Action::StartService,
                &Command::StartService { version: "0.1.0".to_owned() },
                &Ok(Change::Noted),
            ),
            decided(23, Action::StopService, &Command::StopService, &Ok(Change::Noted)),
            decided(
                24,
                Action::MigrateDatabase,
                &Command::MigrateDatabase { from: 5, to: 6 },
                &Ok(Change::SchemaTold { version: 6 }),
            ),
            decided(
                25,
                Action::AcceptAuditLoss,
                &Command::AcceptAuditLoss {
                    reason: "it has 3 records fewer".to_owned(),
                    expected_size: 27,
                    found_size: 24,
                },
                &Ok(Change::Noted),
            ),
            decided(
                26,
                Action::ChangeCheckpointKey,
                &Command::ChangeCheckpointKey {
                    old: Some("old".to_owned()),
                    new: "new".to_owned(),
                    signed: Some("new\n\n\u{2014} old AAAA\n".to_owned()),
                },
                &Ok(Change::CheckpointKeyChanged { key: "new".to_owned() }),
            ),
            decided(
                27,
                Action::SealSegment,
                &Command::SealSegment { first: 1, last: 9, file: "1-9.ndjson".to_owned(), digest: TOKEN },
                &Ok(Change::SegmentSealed { last: 9 }),
            ),
            decided(
                28,
                Action::RestoreDatabase,
                &Command::RestoreDatabase { sha256: "77".repeat(32) },
                &Ok(Change::Noted),
            ),
        ];
        let golden = include_str!("../../tests/vectors/audit_records_v1.ndjson");
        assert_eq!(lines.join("\n"), golden.trim_end(), "the record's bytes changed");
    }

    #[test]
    fn the_bytes_begin_with_the_format_version() {
        let line = decided(1, Action::ResetDatabase, &Command::ResetDatabase, &Ok(Change::DatabaseReset));
        assert!(line.starts_with(r#"{"v":1,"#), "{line}");
    }
}
