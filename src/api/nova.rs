//! The native OpenStack interface, as far as groups go: `/v2.1/{project_id}/os-server-groups` and the older `/v2`
//! ("Native OpenStack Nova APIs"; `nova.api.openstack.compute.server_groups` where the vendor's pages are silent).
//!
//! One group has two faces: what is made here is seen on v1, and the other way round.

use std::future::{Ready, ready};
use std::sync::LazyLock;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, VARY};
use actix_web::web::{Data, Query};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse};
use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::access::action::Action;
use crate::api::caller::{Caller, JsonBody};
use crate::api::ecs::{Absolute, parameter};
use crate::api::error::{ApiError, Failure};
use crate::api::json;
use crate::api::once::IdempotencyKey;
use crate::api::site::Site;
use crate::api::target::{UrlGroup, UrlProject};
use crate::domain::command::{Change, Command};
use crate::domain::excerpt::Excerpt;
use crate::domain::group::{GroupName, NAME_CHARS_MAX, PlacementRule, ServerGroup};
use crate::domain::id::{ProjectId, RequestId};
use crate::domain::page::{LIMIT_MAX, Page};
use crate::store::Store;

/// The newest microversion that can be set: 2.64, the last that changes groups and that is built here.
pub const MICROVERSION_MINOR_MAX: u16 = 64;

/// The header of an OpenStack service's microversion.
const OPENSTACK_API_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");
/// Nova's own, older one.
const X_OPENSTACK_NOVA_API_VERSION: HeaderName = HeaderName::from_static("x-openstack-nova-api-version");
const X_OPENSTACK_REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
const X_COMPUTE_REQUEST_ID: HeaderName = HeaderName::from_static("x-compute-request-id");

/// How a request is to be read and answered: `/v2.1` with its microversion, or the older `/v2`, which has none and
/// ignores keys that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `/v2`
    Legacy,
    /// `/v2.1` with microversion 2 and this.
    Micro(u16),
}

/// From here on a group shows its project and maker.
const SHOWS_OWNER: u16 = 13;
/// From here on a group has one `policy` and its `rules` instead of `policies` and `metadata`.
const HAS_ONE_RULE: u16 = 64;

impl Version {
    const fn minor(self) -> u16 {
        match self {
            Self::Legacy => 1,
            Self::Micro(minor) => minor,
        }
    }

    fn asked(request: &HttpRequest) -> Result<Self, Failure> {
        if !request.path().starts_with("/v2.1/") {
            return Ok(Self::Legacy);
        }
        let most = request.app_data::<Data<Site>>().map_or(1, |site| site.microversion_max);
        let value = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let compute = |text: &str| {
            let services = text.to_owned();
            services.split(',').find_map(|service| {
                let (name, version) = service.trim().split_once(' ')?;
                (name == "compute").then(|| version.trim().to_owned())
            })
        };
        let asked = value(&OPENSTACK_API_VERSION).and_then(compute);
        let Some(asked) = asked.or_else(|| value(&X_OPENSTACK_NOVA_API_VERSION).map(str::to_owned)) else {
            return Ok(Self::Micro(1));
        };
        if asked == "latest" {
            return Ok(Self::Micro(most));
        }
        let number = |text: &str| {
            let is_number = !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            is_number.then(|| text.parse::<u16>().unwrap_or(u16::MAX))
        };
        let parts = asked.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        match parts {
            None => Err(Failure::MicroversionUnreadable { asked: Excerpt::of(&asked) }),
            Some((2, minor)) if (1..=most).contains(&minor) => Ok(Self::Micro(minor)),
            Some((major, minor)) => {
                let (asked, most) = (format!("{major}.{minor}"), format!("2.{most}"));
                Err(Failure::MicroversionUnsupported { asked, most })
            }
        }
    }
}

impl FromRequest for Version {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let version = Self::asked(request);
        if let Ok(version) = version {
            request.extensions_mut().insert(version);
        }
        ready(version.map_err(ApiError))
    }
}

/// Puts on an answer what every native one carries: both request ids, and the microversion that it was made with.
pub(super) fn put_headers(
    response: &mut actix_web::dev::ServiceResponse<actix_web::body::BoxBody>,
    id: RequestId,
) {
    let request = response.request();
    let minor = request.extensions().get::<Version>().map_or(1, |version| version.minor());
    let has_microversions = request.path() == "/v2.1" || request.path().starts_with("/v2.1/");
    let id = format!("req-{}", uuid::Uuid::from_bytes(*id.as_bytes()).as_hyphenated());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(id) {
        headers.insert(X_OPENSTACK_REQUEST_ID, value.clone());
        headers.insert(X_COMPUTE_REQUEST_ID, value);
    }
    if !has_microversions {
        return;
    }
    if let (Ok(service), Ok(own)) =
        (HeaderValue::try_from(format!("compute 2.{minor}")), HeaderValue::try_from(format!("2.{minor}")))
    {
        headers.insert(OPENSTACK_API_VERSION, service);
        headers.insert(X_OPENSTACK_NOVA_API_VERSION, own);
    }
    headers.append(VARY, HeaderValue::from_static("OpenStack-API-Version, X-OpenStack-Nova-API-Version"));
}

/// `GET /` ("Querying API Versions").
pub async fn versions(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    let base_url = site.base_url(&request);
    let versions = [ListedVersion::of("v2.0", &base_url, &site), ListedVersion::of("v2.1", &base_url, &site)];
    json(StatusCode::OK, &VersionsEnvelope { versions })
}

/// `GET /v2.1` ("Querying Information About a Specified API Version").
pub async fn version(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    one_version("v2.1", "2.1", &request, &site)
}

/// `GET /v2`, the same.
pub async fn legacy_version(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    one_version("v2.0", "2", &request, &site)
}

fn one_version(id: &'static str, media: &'static str, request: &HttpRequest, site: &Site) -> HttpResponse {
    let listed = ListedVersion::of(id, &site.base_url(request), site);
    let media_type = MediaType {
        base: "application/json",
        r#type: format!("application/vnd.openstack.compute+json;version={media}"),
    };
    json(StatusCode::OK, &VersionEnvelope { version: ShownVersion { listed, media_types: [media_type] } })
}

/// `POST /v2.1/{project_id}/os-server-groups` ("Creating an ECS Group", native).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn create(
    caller: Caller,
    version: Version,
    body: JsonBody,
    project: UrlProject,
    key: IdempotencyKey,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let right = Action::ManageServerGroups;
    let (permit, project_id) = caller.permit_by(&store, Action::CreateServerGroup, right, project).await?;
    let CreateGroup { name, placement_rule } = CreateGroup::parse(body.value()?, version)?;
    let created_by = caller.principal.user.user_id;
    let command = Command::CreateGroup { project_id, name, placement_rule, created_by };
    match store.apply_once(permit, command, key.once()).await? {
        Change::GroupCreated { group, .. } => {
            Ok(json(StatusCode::OK, &envelope(&group, project_id, version)))
        }
        other => Err(Failure::Internal(format!("a create came back as {other:?}")).into()),
    }
}

/// `GET /v2.1/{project_id}/os-server-groups` ("Querying ECS Groups", native).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn list(
    caller: Caller,
    version: Version,
    project: UrlProject,
    query: Query<Vec<(String, String)>>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let right = Action::ManageServerGroups;
    let (permit, project_id) = caller.permit_by(&store, Action::ListServerGroups, right, project).await?;
    let page = page(&query)?;
    let groups = store.groups(&permit, &page).await?;
    let shown = groups.iter().take(page.limit().into());
    let groups: Vec<_> = shown.map(|group| GroupBody::of(group, project_id, version)).collect();
    Ok(json(StatusCode::OK, &GroupsEnvelope { server_groups: groups }))
}

/// `GET /v2.1/{project_id}/os-server-groups/{server_group_id}` ("Querying Details About an ECS Group", native).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn show(
    caller: Caller,
    version: Version,
    project: UrlProject,
    group: UrlGroup,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let right = Action::ManageServerGroups;
    let (permit, project_id) = caller.permit_by(&store, Action::ShowServerGroup, right, project).await?;
    match store.group(&permit, group.id()?).await? {
        Some(group) => Ok(json(StatusCode::OK, &envelope(&group, project_id, version))),
        None => Err(group.not_found().into()),
    }
}

/// `DELETE /v2.1/{project_id}/os-server-groups/{server_group_id}` ("Deleting an ECS Group", native).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn delete(
    caller: Caller,
    _version: Version,
    project: UrlProject,
    group: UrlGroup,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let right = Action::ManageServerGroups;
    let (permit, project_id) = caller.permit_by(&store, Action::DeleteServerGroup, right, project).await?;
    store.apply(permit, Command::DeleteGroup { project_id, group_id: group.id()? }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /v2.1/{project_id}/limits` ("Querying Tenant Quotas", native).
///
/// # Errors
/// See [`Failure::answer`].
pub async fn limits(
    caller: Caller,
    _version: Version,
    project: UrlProject,
    store: Data<Store>,
    site: Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let right = Action::ShowNativeLimits;
    let (permit, _) = caller.permit_by(&store, Action::ShowServerLimits, right, project).await?;
    let usage = store.usage(&permit).await?;
    let absolute = Absolute::of(permit.quota().or(site.limits), usage);
    Ok(json(StatusCode::OK, &LimitsEnvelope { limits: Limits { rate: [], absolute } }))
}

/// The page of a list: `limit` 0 or none is the largest, and so is one beyond it. `all_projects` is for the cloud's
/// administrator, and nobody here is that: everybody sees its own project, as Nova answers anybody else.
fn page(query: &[(String, String)]) -> Result<Page, Failure> {
    let number = |name: &'static str| match parameter(query, name) {
        None => Ok(0),
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(text.parse::<u32>().unwrap_or(u32::MAX))
        }
        Some(text) => Err(invalid_query(name, text, "does not match '^[0-9]*$'")),
    };
    let (limit, offset) = (number("limit")?, number("offset")?);
    let limit = match u16::try_from(limit) {
        Ok(limit @ 1..=LIMIT_MAX) => limit,
        _ => LIMIT_MAX,
    };
    let marker = match parameter(query, "marker") {
        None | Some("") => None,
        Some(text) => {
            Some(text.parse().map_err(|_not_a_uuid| invalid_query("marker", text, "is not a 'uuid'"))?)
        }
    };
    Ok(Page::native(limit, offset, marker))
}

fn invalid_query(name: &str, value: &str, rule: &str) -> Failure {
    let value = Excerpt::of(value);
    let value = value.as_str();
    Failure::NativeMalformed(format!(
        "Invalid input for query parameters {name}. Value: {value}. '{value}' {rule}"
    ))
}

fn invalid_field(name: &str, value: &Value, rule: &str) -> Failure {
    let value = Excerpt::of(&value.to_string());
    let value = value.as_str();
    Failure::NativeMalformed(format!(
        "Invalid input for field/attribute {name}. Value: {value}. {value} {rule}"
    ))
}

/// The body of a create, by Nova's schema (`nova.api.openstack.compute.schemas.server_groups`).
struct CreateGroup {
    name: GroupName,
    placement_rule: PlacementRule,
}

impl CreateGroup {
    fn parse(body: Value, version: Version) -> Result<Self, Failure> {
        let Value::Object(mut body) = body else {
            return Err(Failure::NativeMalformed("Malformed request body".to_owned()));
        };
        let found = body.remove("server_group");
        check_no_more(&body, version, "")?;
        let Some(found) = found else {
            return Err(required("server_group", "body"));
        };
        let Value::Object(mut group) = found else {
            return Err(invalid_field("server_group", &found, "is not of type 'object'"));
        };
        let one_rule = version.minor() >= HAS_ONE_RULE;
        let rule_name = if one_rule { "policy" } else { "policies" };
        let (name, rule) = (group.remove("name"), group.remove(rule_name));
        let rules = if one_rule { group.remove("rules") } else { None };
        check_no_more(&group, version, "server_group")?;
        let name = name.ok_or_else(|| required("name", "server_group"))?;
        let rule = rule.ok_or_else(|| required(rule_name, "server_group"))?;
        let name = read_name(name)?;
        let placement_rule = if one_rule { read_rule("policy", &rule)? } else { read_rules(&rule)? };
        if let Some(rules) = rules {
            check_rules(&rules)?;
        }
        Ok(Self { name, placement_rule })
    }
}

/// Without the value, which Nova repeats: it is all that was sent, and a secret may have been sent by mistake.
fn required(name: &str, inside: &str) -> Failure {
    let message = format!("Invalid input for field/attribute {inside}. '{name}' is a required property");
    Failure::NativeMalformed(message)
}

/// `/v2.1` takes no key that it does not know; `/v2` ignores it.
fn check_no_more(rest: &Map<String, Value>, version: Version, inside: &str) -> Result<(), Failure> {
    match (version, rest.keys().next()) {
        (Version::Legacy, _) | (_, None) => Ok(()),
        (Version::Micro(_), Some(key)) => {
            let key = Excerpt::of(key);
            let place = if inside.is_empty() { "body" } else { inside };
            Err(Failure::NativeMalformed(format!(
                "Invalid input for field/attribute {place}. Additional properties are not allowed ('{}' was unexpected)",
                key.as_str()
            )))
        }
    }
}

/// Printable characters of the Basic Multilingual Plane, no white space at the ends, and of white space only spaces
/// inside (`nova.api.validation.parameter_types.name`).
fn read_name(value: Value) -> Result<GroupName, Failure> {
    let text = match value {
        Value::String(text) => text,
        other => return Err(invalid_field("name", &other, "is not of type 'string'")),
    };
    let shown = || Value::String(text.clone());
    match text.chars().count() {
        0 => return Err(invalid_field("name", &shown(), "is too short")),
        chars if chars > NAME_CHARS_MAX => return Err(invalid_field("name", &shown(), "is too long")),
        _ => {}
    }
    let name = is_name(&text).then(|| GroupName::try_from(text).ok()).flatten();
    name.ok_or_else(|| {
        Failure::NativeMalformed(
            "An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with \
             whitespace."
                .to_owned(),
        )
    })
}

/// Whether Nova takes it as a name, but for its length.
pub(super) fn is_name(text: &str) -> bool {
    NAME.is_match(text) && text.chars().all(|character| u32::from(character) <= 0xffff)
}

/// No character of the categories C, Zl and Zp, and none of Zs at the ends.
#[expect(clippy::unwrap_used, reason = "the expression is a constant, and every test of a name compiles it")]
static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[^\p{C}\p{Z}](?:[^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\p{Z}])?$").unwrap());

fn read_rules(value: &Value) -> Result<PlacementRule, Failure> {
    let Value::Array(items) = value else {
        return Err(invalid_field("policies", value, "is not of type 'array'"));
    };
    match &items[..] {
        [] => Err(invalid_field("policies", value, "is too short")),
        [only] => read_rule("0", only),
        _ => Err(invalid_field("policies", value, "is too long")),
    }
}

fn read_rule(name: &str, value: &Value) -> Result<PlacementRule, Failure> {
    let only = PlacementRule::AntiAffinity.as_str();
    let read = value.as_str().and_then(|text| text.parse().ok());
    read.ok_or_else(|| invalid_field(name, value, &format!("is not one of ['{only}']")))
}

/// `max_server_per_host` is 1 where servers must run on different hosts; a larger one is not what the rule here does.
fn check_rules(value: &Value) -> Result<(), Failure> {
    let Value::Object(rules) = value else {
        return Err(invalid_field("rules", value, "is not of type 'object'"));
    };
    for (key, value) in rules {
        if key != "max_server_per_host" {
            let message = format!(
                "Invalid input for field/attribute rules. Additional properties are not allowed ('{}' was unexpected)",
                Excerpt::of(key).as_str()
            );
            return Err(Failure::NativeMalformed(message));
        }
        let is_one = value.as_u64() == Some(1) || value.as_str() == Some("1");
        if !is_one {
            return Err(invalid_field(key, value, "is not 1, the only number of members on a host here"));
        }
    }
    Ok(())
}

fn envelope(group: &ServerGroup, project_id: ProjectId, version: Version) -> GroupEnvelope<'_> {
    GroupEnvelope { server_group: GroupBody::of(group, project_id, version) }
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeGroupEnvelope)]
pub(super) struct GroupEnvelope<'group> {
    server_group: GroupBody<'group>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeGroupsEnvelope)]
pub(super) struct GroupsEnvelope<'group> {
    server_groups: Vec<GroupBody<'group>>,
}

/// A group, in just the keys of its microversion.
#[derive(Serialize, ToSchema)]
#[schema(as = NativeGroupBody)]
struct GroupBody<'group> {
    id: String,
    name: &'group str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Empty>,
    members: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Empty {}

impl<'group> GroupBody<'group> {
    fn of(group: &'group ServerGroup, project_id: ProjectId, version: Version) -> Self {
        let rule = group.placement_rule.as_str();
        let (shows_owner, one_rule) = (version.minor() >= SHOWS_OWNER, version.minor() >= HAS_ONE_RULE);
        Self {
            id: group.group_id.to_string(),
            name: group.name.as_str(),
            policies: (!one_rule).then_some([rule]),
            policy: one_rule.then_some(rule),
            rules: one_rule.then_some(Empty {}),
            members: group.members.iter().map(ToString::to_string).collect(),
            metadata: (!one_rule).then_some(Empty {}),
            project_id: shows_owner.then(|| project_id.to_string()),
            user_id: shows_owner.then(|| group.created_by.to_string()),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeLimitsEnvelope)]
pub(super) struct LimitsEnvelope {
    limits: Limits,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeLimits)]
struct Limits {
    #[schema(value_type = Vec<Object>)]
    rate: [(); 0],
    absolute: Absolute,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeVersionsEnvelope)]
pub(super) struct VersionsEnvelope {
    versions: [ListedVersion; 2],
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeVersionEnvelope)]
pub(super) struct VersionEnvelope {
    version: ShownVersion,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeShownVersion)]
struct ShownVersion {
    #[serde(flatten)]
    listed: ListedVersion,
    #[serde(rename = "media-types")]
    media_types: [MediaType; 1],
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeListedVersion)]
struct ListedVersion {
    id: &'static str,
    status: &'static str,
    version: String,
    min_version: &'static str,
    updated: &'static str,
    links: [Link; 1],
}

impl ListedVersion {
    fn of(id: &'static str, base_url: &str, site: &Site) -> Self {
        let is_newest = id == "v2.1";
        let path = if is_newest { "v2.1" } else { "v2" };
        Self {
            id,
            status: if is_newest { "CURRENT" } else { "SUPPORTED" },
            version: if is_newest { format!("2.{}", site.microversion_max) } else { String::new() },
            min_version: if is_newest { "2.1" } else { "" },
            updated: if is_newest { "2013-07-23T11:33:21Z" } else { "2011-01-21T11:33:21Z" },
            links: [Link { rel: "self", href: format!("{base_url}/{path}/") }],
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = NativeLink)]
struct Link {
    rel: &'static str,
    href: String,
}

#[derive(Serialize, ToSchema)]
struct MediaType {
    base: &'static str,
    r#type: String,
}
