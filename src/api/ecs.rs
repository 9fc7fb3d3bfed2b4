//! ECS v1, the group family: "Creating an ECS Group", "Querying ECS Groups", "Querying Details About an ECS Group"
//! and "Deleting an ECS Group".

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use serde::Serialize;

use crate::access::action::Action;
use crate::api::body::{Malformed, Object};
use crate::api::caller::{Caller, JsonBody};
use crate::api::error::{ApiError, Failure};
use crate::api::json;
use crate::api::target::{UrlGroup, UrlProject};
use crate::domain::command::{Change, Command};
use crate::domain::excerpt::Excerpt;
use crate::domain::group::{GroupName, PlacementRule, ServerGroup};
use crate::domain::id::ProjectId;
use crate::domain::page::Page;
use crate::store::Store;

/// `POST /v1/{project_id}/cloudservers/os-server-groups` ("Creating an ECS Group").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn create(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::CreateServerGroup, project).await?;
    let command = CreateGroup::parse(body.object()?)?.into_command(project_id, &caller);
    match store.apply(permit, command).await? {
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

#[derive(Serialize)]
struct GroupEnvelope<'group> {
    server_group: GroupBody<'group>,
}

impl<'group> GroupEnvelope<'group> {
    fn of(group: &'group ServerGroup) -> Self {
        Self { server_group: GroupBody::of(group) }
    }
}

#[derive(Serialize)]
struct GroupsEnvelope<'group> {
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

#[derive(Serialize)]
struct PageInfo {
    next_marker: String,
}

/// A group, in exactly the five keys of the vendor's pages.
#[derive(Serialize)]
struct GroupBody<'group> {
    id: String,
    name: &'group str,
    policies: [&'static str; 1],
    members: Vec<String>,
    metadata: Metadata,
}

/// Always `{}`, as in every example of the vendor's.
#[derive(Serialize)]
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
