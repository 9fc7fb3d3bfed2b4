//! What the document says of each operation that the code does not say already.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{Schemas, request, schema_of};
use crate::access::action::Action;
use crate::access::policy::DeniedReason;
use crate::api::body::Malformed;
use crate::api::error::{Failure, WrongLogin};
use crate::api::site::Site;
use crate::api::{cts, ecs, health, iam, nova};
use crate::domain::excerpt::Excerpt;
use crate::domain::id::{GroupId, ServerId};
use crate::domain::page::PageError;
use crate::domain::refusal::Refusal;
use crate::store::{StoreError, TraceError};

/// The groups of the explorer's page, in its order.
pub(super) const TAGS: [(&str, &str); 6] = [
    ("ECS groups", "The vendor's own interface, v1."),
    ("IAM", "Logging in, v3."),
    ("Native OpenStack interface", "Nova's, with microversions."),
    ("Native OpenStack interface, v2", "The older one, which ignores keys that it does not know."),
    ("CTS", "What happened: the audit log, v3."),
    ("Service", "About this service."),
];

/// The group and ECSs of examples.
pub(super) const GROUP_ID: GroupId = GroupId::from_bytes([0x01; 16]);
const OTHER_GROUP_ID: GroupId = GroupId::from_bytes([0x02; 16]);
const SERVER_ID: ServerId = ServerId::from_bytes([0x0a; 16]);
const OTHER_SERVER_ID: ServerId = ServerId::from_bytes([0x0b; 16]);

/// Names a schema, and puts it where schemas are.
type SchemaRef = fn(&mut Schemas) -> Value;

/// An answer that is no error.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) description: &'static str,
    pub(super) content: Option<(&'static str, SchemaRef)>,
}

/// One operation.
pub(super) struct Operation {
    method: Method,
    path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    /// The title of the vendor's page.
    pub(super) summary: &'static str,
    pub(super) notes: &'static str,
    pub(super) is_deprecated: bool,
    /// Whether it asks itself who the caller is, since the body may say so.
    pub(super) knows_by_body: bool,
    /// Those of the query and the headers; those of the path are found there.
    pub(super) parameters: Vec<&'static str>,
    /// The content of its body.
    pub(super) takes: Option<fn(&Site) -> Value>,
    pub(super) answers: Vec<(u16, Answer)>,
    /// Of its answers, beside those of all.
    pub(super) headers: Vec<&'static str>,
    pub(super) links: Option<fn() -> Value>,
    /// What can go wrong with it alone.
    pub(super) fails: fn() -> Vec<Failure>,
}

impl Operation {
    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            tag,
            summary,
            notes: "",
            is_deprecated: false,
            knows_by_body: false,
            parameters: Vec::new(),
            takes: None,
            answers: Vec::new(),
            headers: Vec::new(),
            links: None,
            fails: Vec::new,
        }
    }

    /// Whether it is the one of a route.
    pub(super) fn is(&self, method: &Method, path: &str) -> bool {
        self.method == *method && self.path == path
    }

    fn notes(self, notes: &'static str) -> Self {
        Self { notes, ..self }
    }

    fn deprecated(self) -> Self {
        Self { is_deprecated: true, ..self }
    }

    fn parameters<const N: usize>(self, parameters: [&'static str; N]) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    fn takes(self, takes: fn(&Site) -> Value) -> Self {
        Self { takes: Some(takes), ..self }
    }

    fn answers(mut self, status: u16, schema: SchemaRef) -> Self {
        let description = if status < 300 { "Done." } else { "Not now." };
        self.answers.push((status, Answer { description, content: Some(("application/json", schema)) }));
        self
    }

    fn answers_nothing(mut self, status: u16) -> Self {
        self.answers.push((status, Answer { description: "Done; there is no body.", content: None }));
        self
    }

    fn answers_file(mut self, content_type: &'static str) -> Self {
        let schema: SchemaRef = |_| json!({});
        self.answers.push((200, Answer { description: "The file.", content: Some((content_type, schema)) }));
        self
    }

    fn fails(self, fails: fn() -> Vec<Failure>) -> Self {
        Self { fails, ..self }
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Store(StoreError::Refused(refusal))
}

fn not_ones_own() -> Vec<Failure> {
    let (reason, action) = (DeniedReason::NotOnesOwn, Action::RevokeToken);
    vec![Failure::NoSuchToken, Failure::Denied { reason, action, on: None, own: None }]
}

/// Every operation there is.
pub(super) fn all() -> Vec<Operation> {
    [groups(), native("/v2.1"), native("/v2"), iam(), traces(), service()].into_iter().flatten().collect()
}

fn groups() -> Vec<Operation> {
    const GROUPS: &str = "/v1/{project_id}/cloudservers/os-server-groups";
    const GROUP: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}";
    const MEMBERS: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/action";
    const ADD: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/add_members";
    const REMOVE: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/remove_members";
    const LIMITS: &str = "/v1/{project_id}/cloudservers/limits";
    const SERVER: &str = "/v1/{project_id}/cloudservers/{server_id}";
    let new = |method, path, id, summary| Operation::new(method, path, id, TAGS[0].0, summary);
    let create = new(Method::POST, GROUPS, "createServerGroup", "Creating an ECS Group")
        .takes(request::create_group)
        .parameters(["Idempotency-Key"])
        .answers(200, schema_of::<ecs::GroupEnvelope<'_>>)
        .fails(|| vec![refused(Refusal::GroupQuotaReached { groups_max: 10_000 })]);
    vec![
        Operation { links: Some(links_to_group), ..create },
        new(Method::GET, GROUPS, "listServerGroups", "Querying ECS Groups")
            .notes(
                "In creation order. `page_info` is there as long as there are more. `marker` only together with \
                 `limit`.",
            )
            .parameters(["limit", "marker"])
            .answers(200, schema_of::<ecs::GroupsEnvelope<'_>>)
            .fails(|| {
                vec![
                    Failure::Page(PageError::Limit(Excerpt::of("0"))),
                    Failure::Page(PageError::Marker(Excerpt::of("x"))),
                    Failure::Page(PageError::MarkerAlone),
                ]
            }),
        new(Method::GET, GROUP, "showServerGroup", "Querying Details About an ECS Group")
            .answers(200, schema_of::<ecs::GroupEnvelope<'_>>),
        new(Method::DELETE, GROUP, "deleteServerGroup", "Deleting an ECS Group")
            .notes("Its memberships go with it.")
            .answers_nothing(204),
        new(
            Method::POST,
            MEMBERS,
            "changeServerGroupMember",
            "Adding an ECS to an ECS Group; Removing an ECS from an ECS Group",
        )
        .notes("An ECS is in one group at the most.")
        .parameters(["Idempotency-Key"])
            .takes(request::change_member)
        .answers_nothing(200)
        .fails(|| {
            vec![
                refused(Refusal::ServerNotFound { server_id: SERVER_ID }),
                refused(Refusal::MemberOfOtherGroup { server_id: SERVER_ID, group_id: OTHER_GROUP_ID }),
                refused(Refusal::NotAMember { server_id: SERVER_ID }),
                refused(Refusal::MemberQuotaReached { members_max: 16 }),
                refused(Refusal::ServerNotStopped { server_id: SERVER_ID }),
                refused(Refusal::HostTaken { server_id: SERVER_ID, other_id: OTHER_SERVER_ID }),
            ]
        }),
        new(Method::POST, ADD, "batchAddServerGroupMembers", "Adding ECSs to an ECS Group in a Batch")
            .notes("An ECS that a rule turns down does not hold up the others.")
            .parameters(["Idempotency-Key"])
            .takes(request::server_ids)
            .answers(200, schema_of::<ecs::BatchEnvelope>)
            .deprecated(),
        new(Method::POST, REMOVE, "batchRemoveServerGroupMembers", "Removing ECSs from an ECS Group in a Batch")
            .notes("An ECS that a rule turns down does not hold up the others.")
            .parameters(["Idempotency-Key"])
            .takes(request::server_ids)
            .answers(200, schema_of::<ecs::BatchEnvelope>)
            .deprecated(),
        new(Method::GET, LIMITS, "showServerLimits", "Querying Tenant Quotas")
            .answers(200, schema_of::<ecs::LimitsEnvelope>),
        new(Method::GET, SERVER, "showServer", "Querying Details About an ECS")
            .notes("Of ECSs that are registered, or in a group.")
            .answers(200, schema_of::<ecs::ServerEnvelope<'_>>)
            .fails(|| vec![refused(Refusal::ServerNotFound { server_id: SERVER_ID })]),
    ]
}

/// Where one can go on with a group that was made.
fn links_to_group() -> Value {
    links(&["showServerGroup", "deleteServerGroup", "changeServerGroupMember", "batchAddServerGroupMembers"])
}

fn links_to_native_group() -> Value {
    links(&["showNativeServerGroup", "deleteNativeServerGroup"])
}

fn links_to_legacy_group() -> Value {
    links(&["showLegacyServerGroup", "deleteLegacyServerGroup"])
}

fn links(ids: &[&str]) -> Value {
    let link = |id: &&str| {
        let parameters = json!({
            "project_id": "$request.path.project_id",
            "server_group_id": "$response.body#/server_group/id",
        });
        ((*id).to_owned(), json!({ "operationId": id, "parameters": parameters }))
    };
    Value::Object(ids.iter().map(link).collect())
}

/// Those of `/v2.1`, or the same of `/v2`.
fn native(version: &str) -> Vec<Operation> {
    let is_legacy = version == "/v2";
    let of = |versioned: &'static str, legacy: &'static str| if is_legacy { legacy } else { versioned };
    let groups = of("/v2.1/{project_id}/os-server-groups", "/v2/{project_id}/os-server-groups");
    let group = of(
        "/v2.1/{project_id}/os-server-groups/{server_group_id}",
        "/v2/{project_id}/os-server-groups/{server_group_id}",
    );
    let limits = of("/v2.1/{project_id}/limits", "/v2/{project_id}/limits");
    let tag = if is_legacy { TAGS[3].0 } else { TAGS[2].0 };
    let new = |method, path, id, summary| Operation::new(method, path, id, tag, summary);
    let take = if is_legacy { request::create_legacy_group } else { request::create_native_group };
    let create = new(
        Method::POST,
        groups,
        of("createNativeServerGroup", "createLegacyServerGroup"),
        "Creating an ECS Group",
    )
    .parameters(["Idempotency-Key"])
    .takes(take)
    .answers(200, schema_of::<nova::GroupEnvelope<'_>>)
    .fails(|| vec![refused(Refusal::GroupQuotaReached { groups_max: 10_000 })]);
    let links = if is_legacy { links_to_legacy_group } else { links_to_native_group };
    vec![
        new(
            Method::GET,
            of("/v2.1", "/v2"),
            of("showNativeVersion", "showLegacyVersion"),
            "Querying Information About a Specified API Version",
        )
        .answers(200, schema_of::<nova::VersionEnvelope>),
        Operation { links: Some(links), ..create },
        new(
            Method::GET,
            groups,
            of("listNativeServerGroups", "listLegacyServerGroups"),
            "Querying ECS Groups",
        )
        .parameters(["native_limit", "offset", "native_marker", "all_projects"])
        .answers(200, schema_of::<nova::GroupsEnvelope<'_>>)
        .fails(|| {
            let message = "Invalid input for query parameters limit. Value: x. 'x' does not match '^[0-9]*$'";
            vec![Failure::NativeMalformed(message.to_owned())]
        }),
        new(
            Method::GET,
            group,
            of("showNativeServerGroup", "showLegacyServerGroup"),
            "Querying Details About an ECS Group",
        )
        .answers(200, schema_of::<nova::GroupEnvelope<'_>>),
        new(
            Method::DELETE,
            group,
            of("deleteNativeServerGroup", "deleteLegacyServerGroup"),
            "Deleting an ECS Group",
        )
        .notes("Its memberships go with it.")
        .answers_nothing(204),
        new(Method::GET, limits, of("showNativeLimits", "showLegacyLimits"), "Querying Tenant Quotas")
            .answers(200, schema_of::<nova::LimitsEnvelope>),
    ]
}

fn iam() -> Vec<Operation> {
    const TOKENS: &str = "/v3/auth/tokens";
    let new = |method, path, id, summary| Operation::new(method, path, id, TAGS[1].0, summary);
    let log_in =
        new(Method::POST, TOKENS, "issueToken", "Obtaining a User Token Through Password Authentication")
            .notes("The token stands in `X-Subject-Token`.")
            .parameters(["nocatalog"])
            .takes(request::log_in)
            .answers(201, schema_of::<iam::TokenEnvelope<'_>>)
            .fails(|| {
                let retry_after = std::time::Duration::from_mins(1);
                let unknown = super::UNKNOWN.into_iter().skip(1).take(2).map(Failure::Unauthenticated);
                let wrong = [WrongLogin::Password, WrongLogin::Scope].map(Failure::WrongLogin);
                let too_many = [Failure::TooManyLogins { retry_after }, Failure::TooManyLoginsWait];
                unknown.chain(wrong).chain(too_many).collect()
            });
    let show = new(Method::GET, TOKENS, "showToken", "Verifying a Token")
        .notes("Of one's own tokens; the root of an account sees all of the account.")
        .parameters(["X-Subject-Token", "nocatalog"])
        .answers(200, schema_of::<iam::TokenEnvelope<'_>>)
        .fails(not_ones_own);
    let temporary_key = new(
        Method::POST,
        "/v3.0/OS-CREDENTIAL/securitytokens",
        "issueTemporaryKey",
        "Obtaining a Temporary AK/SK and Security Token Through a Token",
    )
    .takes(request::temporary_key)
    .answers(201, schema_of::<iam::TemporaryKeyEnvelope<'_>>);
    vec![
        new(Method::GET, "/v3", "showIdentityVersion", "Querying Keystone API Version Information")
            .answers(200, schema_of::<iam::VersionEnvelope>),
        Operation { headers: vec!["X-Subject-Token"], ..log_in },
        Operation { headers: vec!["X-Subject-Token"], ..show },
        new(Method::DELETE, TOKENS, "revokeToken", "Revoking a Token")
            .notes("Of one's own tokens; the root of an account revokes all of the account.")
            .parameters(["X-Subject-Token"])
            .answers_nothing(204)
            .fails(not_ones_own),
        new(Method::GET, "/v3/projects", "listProjects", "Querying Project Information")
            .parameters(["name", "domain_id", "parent_id", "enabled", "is_domain", "page", "per_page"])
            .answers(200, schema_of::<iam::ProjectsEnvelope<'_>>)
            .fails(|| {
                vec![Failure::Malformed(Malformed::field(
                    "page",
                    "must be a whole number from 1, and is \"0\"",
                ))]
            }),
        new(
            Method::GET,
            "/v3/auth/projects",
            "listOwnProjects",
            "Querying the List of Projects Accessible to Users",
        )
        .answers(200, schema_of::<iam::ProjectsEnvelope<'_>>),
        new(
            Method::GET,
            "/v3/auth/domains",
            "listDomains",
            "Querying Account Information Accessible to Users",
        )
        .answers(200, schema_of::<iam::DomainsEnvelope<'_>>),
        new(Method::GET, "/v3/auth/catalog", "showCatalog", "Querying a Service Catalog")
            .answers(200, schema_of::<iam::CatalogEnvelope>),
        Operation { knows_by_body: true, ..temporary_key },
    ]
}

fn traces() -> Vec<Operation> {
    let new = |path, id, summary| Operation::new(Method::GET, path, id, TAGS[4].0, summary);
    vec![
        new("/v3/{project_id}/traces", "listTraces", "Querying a Trace List")
            .notes(
                "Newest first, of the last hour where `from` and `to` say nothing else. `trace_id`, `from` and `to`, and \
                 the `resource_id` of a group are found at once; other filters look through the records, and give up \
                 after 2 s. What was before the project's last reset is left out.",
            )
            .parameters([
                "trace_type",
                "traces_limit",
                "from",
                "to",
                "next",
                "tracker_name",
                "service_type",
                "user",
                "resource_id",
                "resource_name",
                "resource_type",
                "trace_id",
                "trace_name",
                "trace_rating",
                "access_key_id",
                "enterprise_project_id",
                "include_before_reset",
            ])
            .answers(200, schema_of::<cts::TracesEnvelope<'_>>)
            .fails(|| {
                let message = "limit must be a whole number from 0 to 200, and is \"x\".";
                vec![Failure::TraceQuery(message.to_owned()), TraceError::OutOfTime.into()]
            }),
        new("/v3/{project_id}/operations", "listOperations", "Querying Key Operations")
            .parameters(["service_type", "resource_type"])
            .answers(200, schema_of::<cts::OperationsEnvelope>)
            .fails(|| {
                let message = "resource_type needs service_type beside it.";
                vec![Failure::TraceQuery(message.to_owned())]
            }),
    ]
}

fn service() -> Vec<Operation> {
    let new = |path, id, summary| Operation::new(Method::GET, path, id, TAGS[5].0, summary);
    vec![
        new("/", "listNativeVersions", "Querying API Versions")
            .answers(200, schema_of::<nova::VersionsEnvelope>),
        new("/livez", "isAlive", "Whether the process answers").answers(200, schema_of::<health::Health>),
        new("/readyz", "isReady", "Whether it can do its work")
            .answers(200, schema_of::<health::Health>)
            .answers(503, schema_of::<health::Health>),
        new("/openapi.json", "showDocument", "This document").answers_file("application/json"),
        new("/explorer", "showExplorer", "The API Explorer").answers_file("text/html"),
        new("/explorer/{file}", "showExplorerFile", "What the API Explorer's page loads")
            .answers_file("*/*")
            .fails(|| vec![Failure::NoSuchApi]),
    ]
}
