//! ECS v1, the group family: groups, their members, quotas, and what clients of groups ask about an ECS.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::action::Action;
use crate::access::policy::Permit;
use crate::api::body::{Malformed, Object};
use crate::api::caller::{Caller, JsonBody};
use crate::api::error::{ApiError, Failure};
use crate::api::json;
use crate::api::once::IdempotencyKey;
use crate::api::site::Site;
use crate::api::target::{UrlGroup, UrlProject, UrlServer};
use crate::domain::command::{Change, Command};
use crate::domain::excerpt::Excerpt;
use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
use crate::domain::id::{ProjectId, ServerId};
use crate::domain::page::Page;
use crate::domain::refusal::Refusal;
use crate::domain::rules::Limits;
use crate::domain::server::{HostName, ServerStatus};
use crate::store::{KnownServer, Store, StoreError, Usage};

/// `POST /v1/{project_id}/cloudservers/os-server-groups` ("Creating an ECS Group").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn create(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    key: IdempotencyKey,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::CreateServerGroup, project).await?;
    let command = CreateGroup::parse(body.object()?)?.into_command(project_id, &caller);
    match store.apply_once(permit, command, key.once()).await? {
        Change::GroupCreated { group, .. } => Ok(json(StatusCode::OK, &GroupEnvelope::of(&group))),
        other => Err(Failure::Internal(format!("a create came back as {other:?}")).into()),
    }
}

/// `GET /v1/{project_id}/cloudservers/os-server-groups` ("Querying ECS Groups").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn list(
    caller: Caller,
    project: UrlProject,
    query: Query<Vec<(String, String)>>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, _) = caller.permit(&store, Action::ListServerGroups, project).await?;
    let page = Page::parse(parameter(&query, "limit"), parameter(&query, "marker"))?;
    let groups = store.groups(&permit, &page).await?;
    Ok(json(StatusCode::OK, &GroupsEnvelope::of(&groups, &page)))
}

/// `GET /v1/{project_id}/cloudservers/os-server-groups/{server_group_id}` ("Querying Details About an ECS Group").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn show(
    caller: Caller,
    project: UrlProject,
    group: UrlGroup,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, _) = caller.permit(&store, Action::ShowServerGroup, project).await?;
    match store.group(&permit, group.id()?).await? {
        Some(group) => Ok(json(StatusCode::OK, &GroupEnvelope::of(&group))),
        None => Err(group.not_found().into()),
    }
}

/// `DELETE /v1/{project_id}/cloudservers/os-server-groups/{server_group_id}` ("Deleting an ECS Group").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn delete(
    caller: Caller,
    project: UrlProject,
    group: UrlGroup,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::DeleteServerGroup, project).await?;
    let command = Command::DeleteGroup { project_id, group_id: group.id()? };
    store.apply(permit, command).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/action` ("Adding an ECS to an ECS Group",
/// "Removing an ECS from an ECS Group").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn change_member(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    group: UrlGroup,
    key: IdempotencyKey,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    // Which right is needed stands in the body. One that says neither is judged as an adding.
    let asked = body.object();
    let is_removal = asked.as_ref().is_ok_and(|asked| asked.has("remove_member") && !asked.has("add_member"));
    let action = if is_removal { Action::DeleteServerGroupMember } else { Action::AddServerGroupMember };
    let (permit, project_id) = caller.permit(&store, action, project).await?;
    let server_id = instance_of(asked?)?;
    let group_id = group.id()?;
    let command = if is_removal {
        Command::RemoveMember { project_id, group_id, server_id }
    } else {
        Command::AddMember { project_id, group_id, server_id }
    };
    store.apply_once(permit, command, key.once()).await?;
    Ok(HttpResponse::Ok().finish())
}

/// `POST /v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/add_members` ("Adding ECSs to an ECS Group
/// in a Batch", out of date).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn add_members(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    group: UrlGroup,
    key: IdempotencyKey,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::AddServerGroupMember, project).await?;
    let (server_ids, group_id) = (server_ids(body.object()?)?, group.id()?);
    let command = |server_id| Command::AddMember { project_id, group_id, server_id };
    each_alone(&store, &permit, key, &server_ids, command).await
}

/// `POST /v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/remove_members` ("Removing ECSs from an ECS
/// Group in a Batch", out of date).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn remove_members(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    group: UrlGroup,
    key: IdempotencyKey,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::DeleteServerGroupMember, project).await?;
    let (server_ids, group_id) = (server_ids(body.object()?)?, group.id()?);
    let command = |server_id| Command::RemoveMember { project_id, group_id, server_id };
    each_alone(&store, &permit, key, &server_ids, command).await
}

/// `GET /v1/{project_id}/cloudservers/limits` ("Querying Tenant Quotas").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn limits(
    caller: Caller,
    project: UrlProject,
    store: Data<Store>,
    site: Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let (permit, _) = caller.permit(&store, Action::ShowServerLimits, project).await?;
    let usage = store.usage(&permit).await?;
    let absolute = Absolute::of(permit.quota().or(site.limits), usage);
    Ok(json(StatusCode::OK, &LimitsEnvelope { absolute }))
}

/// `GET /v1/{project_id}/cloudservers/{server_id}` ("Querying Details About an ECS"), as far as groups go.
///
/// # Errors
/// See [`Failure::answer`].
pub async fn show_server(
    caller: Caller,
    project: UrlProject,
    server: UrlServer,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::ShowServer, project).await?;
    let server_id = server.id()?;
    match store.server(&permit, server_id).await? {
        Some(known) => Ok(json(StatusCode::OK, &ServerEnvelope::of(project_id, server_id, &known))),
        None => Err(server.not_found().into()),
    }
}

/// The ECS of a change of members: exactly one of `add_member` and `remove_member`.
fn instance_of(mut asked: Object) -> Result<ServerId, Malformed> {
    let verb = match (asked.has("add_member"), asked.has("remove_member")) {
        (true, false) => "add_member",
        (false, true) => "remove_member",
        (true, true) => {
            return Err(Malformed::field(
                "request body",
                "must have add_member or remove_member, and has both",
            ));
        }
        (false, false) => {
            return Err(Malformed::field(
                "request body",
                "must have add_member or remove_member, and has neither",
            ));
        }
    };
    let mut change = asked.object(verb)?;
    let text: String = change.text("instance_uuid")?;
    text.parse().map_err(|_not_a_uuid| {
        let rule = format!("must be the UUID of an ECS, and is {}", Excerpt::of(&text));
        Malformed::field(change.path_of("instance_uuid"), rule)
    })
}

/// The most ECSs of one batch.
pub const BATCH_SERVERS_MAX: usize = 1_000;

/// The ECSs of a batch: at least one, each once.
fn server_ids(mut asked: Object) -> Result<Vec<ServerId>, Malformed> {
    let texts = asked.texts("server_ids")?;
    if !(1..=BATCH_SERVERS_MAX).contains(&texts.len()) {
        let rule = format!("must have 1 to {BATCH_SERVERS_MAX} elements, and has {}", texts.len());
        return Err(Malformed::field("server_ids", rule));
    }
    let mut server_ids = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let field = format!("server_ids[{at}]");
        let server_id = text.parse().map_err(|_not_a_uuid| {
            Malformed::field(&field, format!("must be the UUID of an ECS, and is {}", Excerpt::of(text)))
        })?;
        if server_ids.contains(&server_id) {
            return Err(Malformed::field(&field, format!("must occur once, and {server_id} occurs twice")));
        }
        server_ids.push(server_id);
    }
    Ok(server_ids)
}

/// Does a command for each ECS. One that a rule turns down does not hold up the others; without the group, all fail.
async fn each_alone(
    store: &Store,
    permit: &Permit,
    key: IdempotencyKey,
    server_ids: &[ServerId],
    command: impl Fn(ServerId) -> Command,
) -> Result<HttpResponse, ApiError> {
    let mut servers = Vec::with_capacity(server_ids.len());
    for (nth, server_id) in server_ids.iter().enumerate() {
        let fail_reason = match store.apply_once(permit.clone(), command(*server_id), key.of_nth(nth)).await {
            Ok(_) => String::new(),
            Err(StoreError::Refused(refusal @ (Refusal::GroupNotFound { .. } | Refusal::KeyReused))) => {
                return Err(Failure::Store(StoreError::Refused(refusal)).into());
            }
            Err(StoreError::Refused(refusal)) => refusal.to_string(),
            Err(error) => return Err(error.into()),
        };
        let status = if fail_reason.is_empty() { "SUCCESS" } else { "FAIL" };
        servers.push(BatchServer { server_id: server_id.to_string(), status, fail_reason });
    }
    let status = if servers.iter().all(|server| server.status == "SUCCESS") { "SUCCESS" } else { "FAIL" };
    Ok(json(StatusCode::OK, &BatchEnvelope { status, servers }))
}

/// The first value of a query parameter; parameters that are not known are ignored.
pub(super) fn parameter<'query>(query: &'query [(String, String)], name: &str) -> Option<&'query str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The body of a create.
struct CreateGroup {
    name: GroupName,
    placement_rule: PlacementRule,
}

impl CreateGroup {
    /// Keys that are not known are ignored, as the vendor's clients send some.
    fn parse(mut body: Object) -> Result<Self, Malformed> {
        let mut group = body.object("server_group")?;
        let name = group.text("name")?;
        let policies = group.texts("policies")?;
        match policies.as_slice() {
            [only] if let Ok(placement_rule) = only.parse() => Ok(Self { name, placement_rule }),
            _ => Err(wrong_policies(group.path_of("policies"), &policies)),
        }
    }

    fn into_command(self, project_id: ProjectId, caller: &Caller) -> Command {
        Command::CreateGroup {
            project_id,
            name: self.name,
            placement_rule: self.placement_rule,
            created_by: caller.principal.user.user_id,
        }
    }
}

fn wrong_policies(field: String, found: &[String]) -> Malformed {
    const SHOWN_MAX: usize = 3;
    let only = PlacementRule::AntiAffinity.as_str();
    let shown: Vec<_> = found.iter().take(SHOWN_MAX).map(|text| Excerpt::of(text).to_string()).collect();
    let found = match found.len() {
        0 => "is empty".to_owned(),
        1..=SHOWN_MAX => format!("is [{}]", shown.join(", ")),
        len => format!("has {len} elements"),
    };
    Malformed::field(field, format!("must be exactly [{only:?}], and {found}"))
}

#[derive(Serialize, ToSchema)]
pub(super) struct GroupEnvelope<'group> {
    server_group: GroupBody<'group>,
}

impl<'group> GroupEnvelope<'group> {
    fn of(group: &'group ServerGroup) -> Self {
        Self { server_group: GroupBody::of(group) }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct GroupsEnvelope<'group> {
    server_groups: Vec<GroupBody<'group>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_info: Option<PageInfo>,
}

impl<'group> GroupsEnvelope<'group> {
    /// `groups` is a page, and one more when there are more.
    fn of(groups: &'group [ServerGroup], page: &Page) -> Self {
        let shown = &groups[..groups.len().min(page.limit().into())];
        let last = shown.last().filter(|_| groups.len() > shown.len());
        Self {
            server_groups: shown.iter().map(GroupBody::of).collect(),
            page_info: last.map(|group| PageInfo { next_marker: group.group_id.to_string() }),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct PageInfo {
    next_marker: String,
}

/// A group, in exactly the five keys of the vendor's pages.
#[derive(Serialize, ToSchema)]
struct GroupBody<'group> {
    id: String,
    name: &'group str,
    policies: [&'static str; 1],
    members: Vec<String>,
    metadata: Metadata,
}

/// Always `{}`, as in every example of the vendor's.
#[derive(Serialize, ToSchema)]
struct Metadata {}

impl<'group> GroupBody<'group> {
    fn of(group: &'group ServerGroup) -> Self {
        Self {
            id: group.group_id.to_string(),
            name: group.name.as_str(),
            policies: [group.placement_rule.as_str()],
            members: group.members.iter().map(ToString::to_string).collect(),
            metadata: Metadata {},
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct BatchEnvelope {
    status: &'static str,
    servers: Vec<BatchServer>,
}

#[derive(Serialize, ToSchema)]
struct BatchServer {
    server_id: String,
    status: &'static str,
    fail_reason: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct LimitsEnvelope {
    absolute: Absolute,
}

/// Nothing but groups and their members is limited here: -1 is "no limit" in the vendor's words, and of what does not
/// exist here, none is used.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Absolute {
    max_server_groups: u32,
    max_server_group_members: u32,
    total_server_groups_used: u32,
    max_total_instances: i32,
    max_total_cores: i32,
    #[serde(rename = "maxTotalRAMSize")]
    max_total_ram_size: i32,
    total_instances_used: u32,
    total_cores_used: u32,
    #[serde(rename = "totalRAMUsed")]
    total_ram_used: u32,
    max_security_groups: i32,
    max_security_group_rules: i32,
    total_security_groups_used: u32,
    #[serde(rename = "maxTotalFloatingIps")]
    max_total_floating_ips: i32,
    #[serde(rename = "totalFloatingIpsUsed")]
    total_floating_ips_used: u32,
    max_server_meta: i32,
    max_image_meta: i32,
    max_personality: i32,
    max_personality_size: i32,
    max_total_keypairs: i32,
}

impl Absolute {
    pub(super) const fn of(limits: Limits, usage: Usage) -> Self {
        Self {
            max_server_groups: limits.groups_per_project,
            max_server_group_members: limits.members_per_group,
            total_server_groups_used: usage.group_count,
            max_total_instances: -1,
            max_total_cores: -1,
            max_total_ram_size: -1,
            total_instances_used: usage.server_count,
            total_cores_used: 0,
            total_ram_used: 0,
            max_security_groups: -1,
            max_security_group_rules: -1,
            total_security_groups_used: 0,
            max_total_floating_ips: -1,
            total_floating_ips_used: 0,
            max_server_meta: -1,
            max_image_meta: -1,
            max_personality: -1,
            max_personality_size: -1,
            max_total_keypairs: -1,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct ServerEnvelope<'server> {
    server: ServerBody<'server>,
}

/// An ECS, in those of the vendor's keys that clients of groups read.
#[derive(Serialize, ToSchema)]
struct ServerBody<'server> {
    id: String,
    name: Cow<'server, str>,
    status: &'static str,
    tenant_id: String,
    #[serde(rename = "OS-EXT-STS:vm_state")]
    vm_state: &'static str,
    #[serde(rename = "OS-EXT-STS:power_state")]
    power_state: u8,
    #[serde(rename = "OS-EXT-SRV-ATTR:host", skip_serializing_if = "Option::is_none")]
    host: Option<&'server str>,
    #[serde(rename = "os:scheduler_hints")]
    scheduler_hints: SchedulerHints,
    metadata: Metadata,
    addresses: Metadata,
}

#[derive(Serialize, ToSchema)]
struct SchedulerHints {
    group: Vec<String>,
}

impl<'server> ServerEnvelope<'server> {
    /// A member that is not registered is shown as running, under its id.
    fn of(project_id: ProjectId, server_id: ServerId, known: &'server KnownServer) -> Self {
        let registered = known.registered.as_ref();
        let status = registered.map_or(ServerStatus::Active, |server| server.status);
        // Nova's power states: 0 none, 1 running, 4 shut down.
        let (vm_state, power_state) = match status {
            ServerStatus::Shutoff => ("stopped", 4),
            ServerStatus::Deleted => ("deleted", 0),
            ServerStatus::SoftDeleted => ("soft-delete", 0),
            ServerStatus::Error => ("error", 0),
            ServerStatus::Build => ("building", 0),
            _ => ("active", 1),
        };
        Self {
            server: ServerBody {
                id: server_id.to_string(),
                name: registered
                    .map_or_else(|| server_id.to_string().into(), |server| server.name.as_str().into()),
                status: status.as_str(),
                tenant_id: project_id.to_string(),
                vm_state,
                power_state,
                host: registered.and_then(|server| server.host.as_ref()).map(HostName::as_str),
                scheduler_hints: SchedulerHints {
                    group: known.member_of.iter().map(ToString::to_string).collect(),
                },
                metadata: Metadata {},
                addresses: Metadata {},
            },
        }
    }
}
