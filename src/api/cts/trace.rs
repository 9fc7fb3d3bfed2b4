//! A trace: one record of the log, as CTS shows it ("Trace Structure", CTS).
//!
//! It is rendered from the record's own bytes. What the record does not tell is left out, not made up.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::access::action::{Action, Subject};
use crate::audit::event::{ActorEvent, Event, Outcome};

/// The longest `request` and `response`, in characters; what is longer is left out, since a part of it is no JSON.
const JSON_CHARS_MAX: usize = 5_000;
/// The only tracker there is.
pub(super) const TRACKER: &str = "system";
/// The enterprise project of what was put in none, which is everything here.
pub(super) const ENTERPRISE_PROJECT: &str = "0";

/// How an attempt ended, in CTS's words. There is no `incident` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rating {
    Normal,
    Warning,
}

impl Rating {
    pub(super) const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done | Outcome::Unchanged => Self::Normal,
            Outcome::Refused | Outcome::Denied => Self::Warning,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
        }
    }
}

/// The name of an operation; `None` for what changes nothing, and so leaves no trace.
pub(super) const fn trace_name(action: Action) -> Option<&'static str> {
    Some(match action {
        Action::CreateServerGroup => "createServerGroup",
        Action::DeleteServerGroup => "deleteServerGroup",
        Action::AddServerGroupMember => "addServerGroupMember",
        Action::DeleteServerGroupMember => "deleteServerGroupMember",
        Action::RegisterServer => "registerServer",
        Action::UnregisterServer => "unregisterServer",
        Action::ResetDatabase => "databaseReset",
        Action::ResetProject => "projectReset",
        Action::IssueToken => "issueToken",
        Action::RevokeToken => "revokeToken",
        Action::IssueTemporaryKey => "issueTemporaryKey",
        Action::PurgeExpired => "purgeExpired",
        Action::ReloadIdentities => "reloadIdentities",
        Action::SummarizeRefusals => "summarizeRefusals",
        Action::StartService => "startService",
        Action::StopService => "stopService",
        Action::MigrateDatabase => "migrateDatabase",
        Action::RestoreDatabase => "databaseRestore",
        Action::AcceptAuditLoss => "acceptAuditLoss",
        Action::ChangeCheckpointKey => "changeCheckpointKey",
        Action::SealSegment => "sealSegment",
        Action::FollowAuditLog
        | Action::ListServerGroups
        | Action::ShowServerGroup
        | Action::ShowServerLimits
        | Action::ShowServer
        | Action::ManageServerGroups
        | Action::ShowNativeLimits
        | Action::ListInventory
        | Action::ListTraces => return None,
    })
}

/// The service and the resource type of a subject. An ECS is `ecs`, as in "Key ECS Operations Recorded by CTS".
pub(super) const fn names(subject: Subject) -> (&'static str, &'static str) {
    match subject {
        Subject::ServerGroup => ("ECS", "serverGroup"),
        Subject::Server => ("ECS", "ecs"),
        Subject::Database => ("ECS", "database"),
        Subject::Project => ("ECS", "project"),
        Subject::Service => ("ECS", "service"),
        Subject::Token => ("IAM", "token"),
        Subject::TemporaryKey => ("IAM", "temporaryKey"),
        Subject::Identities => ("IAM", "identities"),
        Subject::AuditLog => ("CTS", "auditLog"),
    }
}

/// An attempt in CTS's names.
pub(super) struct Named<'event> {
    action: Option<Action>,
    pub(super) service_type: &'static str,
    pub(super) resource_type: &'event str,
    pub(super) trace_name: &'event str,
}

impl<'event> Named<'event> {
    pub(super) fn of(event: &'event Event<'_>) -> Self {
        let action = Action::named(&event.action);
        if let Some(action) = action
            && let Some(trace_name) = trace_name(action)
        {
            let (service_type, resource_type) = names(action.row().subject);
            return Self { action: Some(action), service_type, resource_type, trace_name };
        }
        // A newer program's; its own name for it ends in a word that is one.
        let trace_name = event.action.rsplit(':').next().unwrap_or_default();
        Self { action, service_type: "ECS", resource_type: &event.resource.r#type, trace_name }
    }
}

/// The HTTP status of an attempt that was turned down for the reason of this name.
#[must_use]
pub fn status_of_reason(name: &str) -> Option<u16> {
    Some(match name {
        "member_of_other_group"
        | "not_a_member"
        | "member_quota_reached"
        | "server_not_stopped"
        | "host_taken"
        | "other_project" => 400,
        "group_quota_reached" | "not_allowed" | "explicitly_denied" | "not_ones_own" | "operator_only" => 403,
        "group_not_found" | "server_not_found" | "token_not_found" => 404,
        "key_reused" => 422,
        _ => return None,
    })
}

/// The HTTP status of an attempt that was not turned down, where it is known.
const fn status_when_done(action: Action) -> Option<u16> {
    match action {
        Action::CreateServerGroup
        | Action::AddServerGroupMember
        | Action::DeleteServerGroupMember
        | Action::RegisterServer => Some(200),
        Action::IssueToken | Action::IssueTemporaryKey => Some(201),
        Action::DeleteServerGroup
        | Action::UnregisterServer
        | Action::RevokeToken
        | Action::ResetDatabase
        | Action::ResetProject => Some(204),
        _ => None,
    }
}

/// The HTTP status that an attempt was answered with; in a batch, that it would have been answered with alone.
fn status(event: &Event<'_>, action: Option<Action>) -> Option<u16> {
    if !matches!(&*event.door, "v1" | "v2.1" | "v3" | "control") {
        return None;
    }
    match &event.reason {
        Some(reason) => status_of_reason(&reason.name),
        None => status_when_done(action?),
    }
}

/// The vendor's name of the operation, where it has one ("API Overview", ECS).
fn operation_id(event: &Event<'_>, action: Option<Action>) -> Option<&'static str> {
    Some(match (&*event.door, action?) {
        ("v1", Action::CreateServerGroup) => "CreateServerGroup",
        ("v1", Action::DeleteServerGroup) => "DeleteServerGroup",
        ("v1", Action::AddServerGroupMember) => "AddServerGroupMember",
        ("v1", Action::DeleteServerGroupMember) => "DeleteServerGroupMember",
        ("v2.1", Action::CreateServerGroup) => "NovaCreateServerGroup",
        ("v2.1", Action::DeleteServerGroup) => "NovaDeleteServerGroup",
        _ => return None,
    })
}

/// The body of the request, rebuilt from what was asked for, each ECS of a batch as if alone. That of a denied one was
/// not read.
fn request(event: &Event<'_>, action: Option<Action>) -> Option<String> {
    if event.outcome == Outcome::Denied {
        return None;
    }
    let mut asked = object(event.asked)?;
    let mut taken = |key: &str| asked.remove(key).unwrap_or_default();
    let body = match action {
        Some(Action::CreateServerGroup) => {
            let (name, rule) = (taken("name"), taken("placement_rule"));
            json!({ "server_group": { "name": name, "policies": [rule] } })
        }
        Some(Action::AddServerGroupMember) => {
            json!({ "add_member": { "instance_uuid": taken("server_id") } })
        }
        Some(Action::DeleteServerGroupMember) => {
            json!({ "remove_member": { "instance_uuid": taken("server_id") } })
        }
        // All that was asked for stands in the path, or nothing was.
        Some(Action::DeleteServerGroup | Action::UnregisterServer) => return None,
        _ if asked.is_empty() => return None,
        // Ours: as the record has it.
        _ => Value::Object(asked),
    };
    short_json(&body)
}

/// What the answer said: the id of a group that was made, or why nothing came of it.
fn response(event: &Event<'_>, action: Option<Action>) -> Option<String> {
    if let Some(reason) = &event.reason {
        let mut error = Map::from_iter([("reason".to_owned(), Value::from(&*reason.name))]);
        if let Some(message) = &reason.message {
            error.insert("message".to_owned(), Value::from(&**message));
        }
        // Of a denied attempt nothing else tells where it was made.
        if event.outcome == Outcome::Denied
            && let Some(asked) = object(event.asked)
        {
            error.extend(asked.into_iter().filter(|(_, value)| !value.is_null()));
        }
        return short_json(&json!({ "error": error }));
    }
    match (action, &event.resource.id) {
        (Some(Action::CreateServerGroup), Some(id)) => short_json(&json!({ "server_group": { "id": id } })),
        _ => None,
    }
}

fn object(json: &RawValue) -> Option<Map<String, Value>> {
    serde_json::from_str(json.get()).ok()
}

fn short_json(value: &Value) -> Option<String> {
    let text = value.to_string();
    (text.chars().count() <= JSON_CHARS_MAX).then_some(text)
}

/// A record as CTS shows it.
pub(crate) fn trace<'event>(event: &'event Event<'_>) -> Trace<'event> {
    let Named { action, service_type, resource_type, trace_name } = Named::of(event);
    let user = TraceUser::of(&event.actor);
    let domain_id = event.actor.domain_id.as_deref();
    // The project that was asked for may be of another account than the caller.
    let is_elsewhere = event.reason.as_ref().is_some_and(|reason| reason.name == "other_project");
    Trace {
        id: &event.trace_id,
        name: trace_name,
        rating: Rating::of(event.outcome).name(),
        kind: if user.is_some() { "ApiCall" } else { "SystemAction" },
        service_type,
        resource_type,
        resource_id: event.resource.id.as_deref(),
        resource_name: event.resource.name.as_deref(),
        api_version: matches!(&*event.door, "v1" | "v2.1" | "v3").then_some(&*event.door),
        source_ip: event.source_ip.as_deref().unwrap_or_default(),
        tracker_name: TRACKER,
        event_type: "system",
        read_only: false,
        operation_id: operation_id(event, action),
        request: request(event, action),
        response: response(event, action),
        code: status(event, action).map(|status| status.to_string()),
        time: event.time,
        record_time: event.record_time,
        request_id: &event.request_id,
        project_id: event.project_id.as_deref(),
        domain_id,
        resource_account_id: domain_id.filter(|_| !is_elsewhere),
        enterprise_project_id: event.project_id.as_ref().map(|_| ENTERPRISE_PROJECT),
        user,
    }
}

/// One trace ("Querying a Trace List", response parameters).
#[derive(Serialize, ToSchema)]
pub(crate) struct Trace<'event> {
    #[serde(rename = "trace_id")]
    pub(super) id: &'event str,
    #[serde(rename = "trace_name")]
    name: &'event str,
    #[serde(rename = "trace_rating")]
    rating: &'static str,
    #[serde(rename = "trace_type")]
    kind: &'static str,
    service_type: &'static str,
    resource_type: &'event str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'event str>,
    /// Empty where there was no request from elsewhere.
    source_ip: &'event str,
    tracker_name: &'static str,
    event_type: &'static str,
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<&'static str>,
    /// JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    time: u64,
    record_time: u64,
    request_id: &'event str,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_id: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_account_id: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enterprise_project_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<TraceUser<'event>>,
}

#[derive(Serialize, ToSchema)]
struct TraceUser<'event> {
    id: &'event str,
    name: &'event str,
    user_name: &'event str,
    r#type: &'static str,
    account_id: &'event str,
    principal_id: &'event str,
    principal_urn: String,
    /// `true` or `false`, as a text.
    principal_is_root_user: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'event str>,
    domain: TraceDomain<'event>,
}

#[derive(Serialize, ToSchema)]
struct TraceDomain<'event> {
    id: &'event str,
    name: &'event str,
}

impl<'event> TraceUser<'event> {
    /// The operator and the service are no users.
    fn of(actor: &'event ActorEvent<'_>) -> Option<Self> {
        if actor.r#type != "user" {
            return None;
        }
        let [id, name, account_id, account_name] =
            [&actor.user_id, &actor.user_name, &actor.domain_id, &actor.domain_name]
                .map(|text| text.as_deref().unwrap_or_default());
        Some(Self {
            id,
            name,
            user_name: name,
            r#type: "User",
            account_id,
            principal_id: id,
            principal_urn: format!("iam::{account_id}:user:{name}"),
            principal_is_root_user: if actor.is_root { "true" } else { "false" },
            access_key_id: actor.access_key.as_deref(),
            domain: TraceDomain { id: account_id, name: account_name },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of every command, as a version 1 of this program wrote it.
    const GOLDEN: &str = include_str!("../../../tests/vectors/audit_records_v1.ndjson");

    fn shown(bytes: &[u8]) -> Value {
        serde_json::to_value(trace(&Event::parse(bytes).unwrap())).unwrap()
    }

    #[test]
    fn a_record_of_every_command_has_its_names_rating_and_status() {
        let line = |bytes: &str| {
            let trace = shown(bytes.as_bytes());
            let text = |key: &str| trace[key].as_str().unwrap_or("-").to_owned();
            let keys = ["service_type", "resource_type", "trace_name", "trace_rating", "trace_type", "code"];
            keys.map(text).join(" ")
        };
        let lines: Vec<_> = GOLDEN.lines().map(line).collect();
        let expected = [
            "ECS serverGroup createServerGroup normal ApiCall 200",
            "ECS serverGroup createServerGroup warning ApiCall 403",
            "ECS serverGroup deleteServerGroup normal ApiCall 204",
            "ECS serverGroup deleteServerGroup warning ApiCall 404",
            "ECS database databaseReset normal SystemAction -",
            "ECS serverGroup deleteServerGroup warning ApiCall 400",
            "ECS serverGroup createServerGroup warning ApiCall 400",
            "IAM token issueToken normal ApiCall 201",
            "IAM token revokeToken normal ApiCall 204",
            "IAM token revokeToken warning ApiCall 404",
            "IAM temporaryKey issueTemporaryKey normal ApiCall 201",
            "IAM token purgeExpired normal SystemAction -",
            "IAM identities reloadIdentities normal SystemAction -",
            "CTS auditLog summarizeRefusals normal SystemAction -",
            "ECS serverGroup addServerGroupMember normal ApiCall 200",
            "ECS serverGroup addServerGroupMember normal ApiCall 200",
            "ECS serverGroup addServerGroupMember warning ApiCall 400",
            "ECS serverGroup deleteServerGroupMember normal ApiCall 200",
            "ECS ecs registerServer normal SystemAction 200",
            "ECS ecs unregisterServer normal SystemAction 204",
            "ECS project projectReset normal SystemAction 204",
            "ECS service startService normal SystemAction -",
            "ECS service stopService normal SystemAction -",
            "ECS database migrateDatabase normal SystemAction -",
            "CTS auditLog acceptAuditLoss normal SystemAction -",
            "CTS auditLog changeCheckpointKey normal SystemAction -",
            "CTS auditLog sealSegment normal SystemAction -",
            "ECS database databaseRestore normal SystemAction -",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn request_and_response_are_short_json_and_names_are_names() {
        for line in GOLDEN.lines() {
            let trace = shown(line.as_bytes());
            for key in ["request", "response"] {
                if let Some(text) = trace.get(key) {
                    assert!(serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap().is_object());
                }
            }
        }
        let is_name = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphabetic())
                && (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let names: Vec<_> = Action::ALL.into_iter().filter_map(trace_name).collect();
        assert!(names.iter().all(|name| is_name(name)), "{names:?}");
        for action in Action::ALL {
            let is_recorded = action.is_mutation() && action != Action::ManageServerGroups;
            assert_eq!(trace_name(action).is_some(), is_recorded, "{action:?}");
        }
    }

    #[test]
    fn a_request_of_more_than_5000_characters_is_left_out() {
        let golden = GOLDEN.lines().find(|line| line.contains("identities:reload")).unwrap();
        let rest = r#"{"differences":[""]}"#.len();
        for (chars, is_there) in [(JSON_CHARS_MAX - rest, true), (JSON_CHARS_MAX - rest + 1, false)] {
            let difference = "\u{e9}".repeat(chars);
            let line = golden.replace("user acct1/bob added", &difference);
            assert_eq!(shown(line.as_bytes()).get("request").is_some(), is_there);
        }
    }

    #[test]
    fn the_operator_and_the_service_are_no_users_and_a_command_line_has_no_status() {
        let golden = GOLDEN.lines().nth(4).unwrap();
        let trace = shown(golden.as_bytes());
        assert_eq!((&trace["trace_type"], &trace["source_ip"]), (&json!("SystemAction"), &json!("")));
        for key in [
            "user",
            "code",
            "api_version",
            "domain_id",
            "resource_account_id",
            "operation_id",
            "enterprise_project_id",
        ] {
            assert_eq!(trace.get(key), None, "{key}");
        }
    }

    #[test]
    fn an_action_of_a_newer_program_is_shown_by_its_own_name() {
        let golden =
            GOLDEN.lines().nth(4).unwrap().replace("ecs-groupd:database:reset", "ecs-groupd:moon:paint");
        let trace = shown(golden.as_bytes());
        assert_eq!((&trace["trace_name"], &trace["resource_type"]), (&json!("paint"), &json!("database")));
    }
}
