//! `/openapi.json`: the service described by itself. Paths and rights come from [`api::routes`], answers from the wire
//! types, errors and their headers from the one table of failures; the words, and what requests hold, stand in
//! `operation.rs` and `request.rs`.

mod operation;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, ResponseError as _};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use self::operation::Operation;
use crate::access::action::Action;
use crate::access::policy::DeniedReason;
use crate::access::signature::SignatureError;
use crate::api::body::Malformed;
use crate::api::error::{self, ApiError, Dialect, Failure, Unauthenticated};
use crate::api::site::Site;
use crate::api::{self, Guard, Route};
use crate::domain::excerpt::Excerpt;
use crate::domain::id::RequestId;
use crate::domain::refusal::Refusal;
use crate::store::{StoreError, Unavailable};

/// `GET /openapi.json`.
pub async fn show(site: Data<Site>) -> HttpResponse {
    let document = site.document.get_or_init(|| Bytes::from(document(&site, &api::routes()).to_string()));
    HttpResponse::Ok().content_type("application/json;charset=utf-8").body(document.clone())
}

/// The document, for a service that stands there. A route that `operation` says nothing of is left out.
#[must_use]
pub fn document(site: &Site, routes: &[Route]) -> Value {
    let mut components = Components::default();
    let operations = operation::all();
    let mut paths = Map::new();
    for route in routes {
        let route_is = |operation: &&Operation| operation.is(&route.method, route.path);
        let Some(operation) = operations.iter().find(route_is) else { continue };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = components.describe(route, operation, site);
    }
    let Components { mut schemas, errors } = components;
    let responses: Map<_, _> = errors
        .iter()
        .map(|((family, status), failures)| {
            (error_name(*family, *status), error_response(*family, failures, &mut schemas))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ecs-groupd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
        },
        "servers": [{ "url": "/", "description": "where this document comes from" }],
        "tags": operation::TAGS.map(|(name, description)| json!({ "name": name, "description": description })),
        "security": [{ "X-Auth-Token": [] }, { "AK-SK": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "parameters": request::parameters(site),
            "headers": headers(),
            "securitySchemes": security_schemes(),
        },
    })
}

/// What is described, and no route any more.
#[must_use]
pub fn operations_without_route(routes: &[Route]) -> Vec<String> {
    let has_route =
        |operation: &Operation| routes.iter().any(|route| operation.is(&route.method, route.path));
    operation::all()
        .into_iter()
        .filter(|operation| !has_route(operation))
        .map(|gone| gone.id.to_owned())
        .collect()
}

const INTRODUCTION: &str = "Huawei Cloud's ECS groups, with as much of IAM, of CTS and of the native OpenStack interface as \
    their clients need.\n\nEvery answer has `X-Request-Id`. HEAD is answered as GET is, without the body; OPTIONS with \
    204 and `Allow`. A slash at the end of a path makes no difference. Bodies are `application/json` in UTF-8.";

fn security_schemes() -> Value {
    json!({
        "X-Auth-Token": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Auth-Token",
            "description": "A token from `POST /v3/auth/tokens`, for the project that the URL names.",
        },
        "AK-SK": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "A signature made with an access key: `SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, \
                Signature=HEX` (or `V11-HMAC-SHA256`), with the time in `X-Sdk-Date`, at most 15 minutes off. A temporary \
                key sends its `X-Security-Token` too. `X-Project-Id` names the project where the URL names none. The \
                vendor's SDKs sign by themselves.",
        },
    })
}

fn headers() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "required": true, "schema": schema });
    json!({
        "X-Request-Id": header("The request's id, as the log and the audit record have it.", request::hex_id()),
        "Retry-After": header("Seconds after which to try again.", json!({ "type": "integer", "minimum": 0 })),
        "Allow": header("The methods that the path takes.", json!({ "type": "string" })),
        "WWW-Authenticate": header("How to show who one is.", json!({ "const": "X-Auth-Token" })),
        "X-Subject-Token": header("The token.", json!({ "type": "string", "minLength": 1 })),
        "X-Openstack-Request-Id": header("`req-` and the request's id as a UUID.", native_request_id()),
        "X-Compute-Request-Id": header("The same as `X-Openstack-Request-Id`.", native_request_id()),
        "OpenStack-API-Version": header(
            "`compute` and the microversion of the answer.",
            json!({ "type": "string", "pattern": "^compute 2\\.[0-9]+$" }),
        ),
        "X-OpenStack-Nova-API-Version": header(
            "The microversion of the answer.",
            json!({ "type": "string", "pattern": "^2\\.[0-9]+$" }),
        ),
        "Vary": header("The headers that the answer depends on.", json!({ "type": "string" })),
    })
}

fn native_request_id() -> Value {
    json!({ "type": "string", "pattern": "^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" })
}

fn header_refs(names: &[&str]) -> Map<String, Value> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })))
        .collect()
}

/// The schemas of wire types, by their names.
#[derive(Default)]
struct Schemas(BTreeMap<String, RefOr<Schema>>);

impl serde::Serialize for Schemas {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Puts a wire type among the schemas, with all that it holds, and refers to it.
fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        let known = schemas.0.insert(name, schema.clone());
        // Two types of one name would each be described as the other.
        debug_assert!(known.is_none_or(|known| known == schema), "two schemas are called the same");
    }
    json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

fn error_name(family: Family, status: u16) -> String {
    format!("{}-{status}", family.name())
}

/// What operations share.
#[derive(Default)]
struct Components {
    schemas: Schemas,
    errors: BTreeMap<(Family, u16), Vec<Failure>>,
}

impl Components {
    fn describe(&mut self, route: &Route, operation: &Operation, site: &Site) -> Value {
        let mut responses = Map::new();
        for (status, answer) in &operation.answers {
            responses.insert(status.to_string(), self.answer(route, operation, *answer));
        }
        let (family, mut codes) = (Family::of(route.path), BTreeSet::new());
        for failure in failures(route, operation) {
            let answer = failure.answer();
            let status = answer.status.as_u16();
            codes.insert(format!("{status} `{}`", code_of(family.dialect(), &failure)));
            let name = error_name(family, status);
            responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
            let failures = self.errors.entry((family, status)).or_default();
            if !failures.iter().any(|known| known.answer() == answer) {
                failures.push(failure);
            }
        }
        let mut described = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "description": description(route, operation, &codes),
            "tags": [operation.tag],
            "responses": responses,
        });
        let mut names = operation.parameters.clone();
        names.extend(route.path.split(['{', '}']).skip(1).step_by(2));
        if is_versioned(route) {
            names.extend(["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"]);
        }
        if !names.is_empty() {
            let refs = names.iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
            described["parameters"] = refs.collect();
        }
        if let Some(takes) = operation.takes {
            let content = json!({ "application/json": takes(site) });
            described["requestBody"] = json!({ "required": true, "content": content });
        }
        match (route.guard, operation.knows_by_body) {
            (Guard::Open, false) => described["security"] = json!([]),
            (Guard::Open, true) => {
                described["security"] = json!([{ "X-Auth-Token": [] }, { "AK-SK": [] }, {}]);
            }
            (Guard::Known | Guard::Permitted(_) | Guard::PermittedByBody(_), _) => {}
        }
        if operation.is_deprecated {
            described["deprecated"] = json!(true);
        }
        described
    }

    /// An answer that is no error.
    fn answer(&mut self, route: &Route, operation: &Operation, answer: operation::Answer) -> Value {
        let mut names = Family::of(route.path).headers();
        names.extend(&operation.headers);
        let mut response = json!({ "description": answer.description, "headers": header_refs(&names) });
        if let Some((content_type, schema)) = answer.content {
            response["content"] = json!({ content_type: { "schema": schema(&mut self.schemas) } });
        }
        if let Some(links) = operation.links {
            response["links"] = links();
        }
        response
    }
}

fn description(route: &Route, operation: &Operation, codes: &BTreeSet<String>) -> String {
    let code = |action: &Action| format!("`{}`", action.name());
    let right = match route.guard {
        Guard::Open if operation.knows_by_body => {
            "Needs a token, here or in the body, or a signature.".to_owned()
        }
        Guard::Open => "For everybody.".to_owned(),
        Guard::Known => "For everybody who is known.".to_owned(),
        Guard::Permitted(action) => format!("Needs the right to {}.", code(&action)),
        Guard::PermittedByBody(actions) => {
            let actions: Vec<_> = actions.iter().map(code).collect();
            format!("Needs the right to {}.", actions.join(" or "))
        }
    };
    let codes: Vec<_> = codes.iter().map(String::as_str).collect();
    let mut text = format!("{right}\n\nErrors: {}.", codes.join(", "));
    if !operation.notes.is_empty() {
        text = format!("{}\n\n{text}", operation.notes);
    }
    text
}

/// Whether the microversion counts there.
fn is_versioned(route: &Route) -> bool {
    route.path.starts_with("/v2.1/")
}

/// The paths whose answers have the same headers, and whose errors look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Ecs,
    Iam,
    Cts,
    Nova,
    NovaLegacy,
}

impl Family {
    fn of(path: &str) -> Self {
        match Dialect::of(path) {
            // The control listener is not described.
            Dialect::Ecs | Dialect::Control => Self::Ecs,
            Dialect::Iam => Self::Iam,
            Dialect::Cts => Self::Cts,
            Dialect::Nova if path.starts_with("/v2.1") => Self::Nova,
            Dialect::Nova => Self::NovaLegacy,
        }
    }

    const fn dialect(self) -> Dialect {
        match self {
            Self::Ecs => Dialect::Ecs,
            Self::Iam => Dialect::Iam,
            Self::Cts => Dialect::Cts,
            Self::Nova | Self::NovaLegacy => Dialect::Nova,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Iam => "iam",
            Self::Cts => "cts",
            Self::Nova => "nova",
            Self::NovaLegacy => "nova-legacy",
        }
    }

    /// The headers of every answer.
    fn headers(self) -> Vec<&'static str> {
        let native = ["X-Openstack-Request-Id", "X-Compute-Request-Id"];
        let versioned = ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version", "Vary"];
        let more: &[&[&str]] = match self {
            Self::Ecs | Self::Iam | Self::Cts => &[],
            Self::Nova => &[&native, &versioned],
            Self::NovaLegacy => &[&native],
        };
        [&["X-Request-Id"], more.concat().as_slice()].concat()
    }
}

/// All errors of a family with one status, as one answer.
fn error_response(family: Family, failures: &[Failure], schemas: &mut Schemas) -> Value {
    let dialect = family.dialect();
    let (mut shapes, mut examples) = (BTreeMap::new(), Map::new());
    for failure in failures {
        let error = ApiError(failure.clone());
        let body: Value = serde_json::from_slice(&error.render(dialect, EXAMPLE_REQUEST)).unwrap_or_default();
        let shape = shape(dialect, &body, schemas);
        shapes.insert(shape.to_string(), shape);
        let code = code_of(dialect, failure);
        let mut name = code.clone();
        for number in 2.. {
            if !examples.contains_key(&name) {
                break;
            }
            name = format!("{code} ({number})");
        }
        examples.insert(name, json!({ "value": body }));
    }
    let shapes: Vec<_> = shapes.into_values().collect();
    let schema = if let [only] = &shapes[..] { only.clone() } else { json!({ "anyOf": shapes }) };
    let mut headers = header_refs(&family.headers());
    for (name, shown) in
        [(ALLOW, "Allow"), (RETRY_AFTER, "Retry-After"), (WWW_AUTHENTICATE, "WWW-Authenticate")]
    {
        let has =
            |failure: &Failure| ApiError(failure.clone()).error_response().headers().contains_key(&name);
        if failures.iter().all(has) {
            headers.extend(header_refs(&[shown]));
        } else if failures.iter().any(has) {
            let mut header = self::headers()[shown].take();
            header["required"] = json!(false);
            headers.insert(shown.to_owned(), header);
        }
    }
    json!({
        "description": failures.first().and_then(|failure| failure.answer().status.canonical_reason()),
        "headers": headers,
        "content": { "application/json": { "schema": schema, "examples": examples } },
    })
}

const EXAMPLE_REQUEST: RequestId = RequestId::from_bytes([0x5e; 16]);

/// What an error calls itself in a dialect.
fn code_of(dialect: Dialect, failure: &Failure) -> String {
    let body = ApiError(failure.clone()).render(dialect, EXAMPLE_REQUEST);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code =
        ["/error_code", "/error/title", "/error/code"].iter().find_map(|key| body.pointer(key)?.as_str());
    // Nova's fault has its name as its only key.
    let fault = body.as_object().and_then(|body| body.keys().next().map(String::as_str));
    code.or(fault).unwrap_or_default().to_owned()
}

/// The schema of an error's body.
fn shape(dialect: Dialect, body: &Value, schemas: &mut Schemas) -> Value {
    if body.get("request_id").is_some() {
        return schema_of::<error::GatewayBody<'_>>(schemas);
    }
    match dialect {
        Dialect::Ecs | Dialect::Control => schema_of::<error::EcsBody<'_>>(schemas),
        Dialect::Cts => schema_of::<error::CodeBody<'_>>(schemas),
        Dialect::Iam if body.get("error_code").is_some() => schema_of::<error::CodeBody<'_>>(schemas),
        Dialect::Iam => schema_of::<error::IamBody<'_>>(schemas),
        Dialect::Nova => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": schema_of::<error::Fault<'_>>(schemas),
        }),
    }
}

/// Everything that can go wrong there: what comes of the route, and what comes of the operation alone.
fn failures(route: &Route, operation: &Operation) -> Vec<Failure> {
    let is_get = route.method == Method::GET;
    let dialect = Dialect::of(route.path);
    let mut failures = vec![
        Failure::MethodNotAllowed { allow: vec![Method::GET, Method::HEAD] },
        Failure::UriTooLong { uri_bytes_max: 32_768 },
        Failure::Internal(String::new()),
    ];
    if !route.path.starts_with("/explorer") {
        failures.push(Failure::NotAcceptable);
    }
    if operation.parameters.contains(&"Idempotency-Key") {
        failures.push(Failure::Store(StoreError::Refused(Refusal::KeyReused)));
    }
    if route.guard != Guard::Open || !is_get {
        failures.extend([
            Failure::BodyTooLarge { body_bytes_max: 1_048_576 },
            Failure::BodyTimeout { body_deadline: std::time::Duration::from_secs(9) },
            Failure::BodyBroken("it broke off".to_owned()),
        ]);
    }
    if operation.takes.is_some() {
        failures.extend([
            Failure::UnsupportedContentType { found: Some(Excerpt::of("text/plain")) },
            Failure::Malformed(Malformed::EmptyBody),
            Failure::Malformed(Malformed::NotJson("expected value at line 1 column 1".to_owned())),
        ]);
        failures.push(match dialect {
            Dialect::Ecs | Dialect::Control => {
                Failure::Malformed(Malformed::field("server_group.name", "is required"))
            }
            Dialect::Iam => Failure::Malformed(Malformed::field("auth", "is required")),
            // It only reads.
            Dialect::Cts => Failure::TraceQuery("Malformed request body".to_owned()),
            Dialect::Nova => Failure::NativeMalformed("Malformed request body".to_owned()),
        });
    }
    if route.guard != Guard::Open || operation.knows_by_body {
        failures.extend(UNKNOWN.map(Failure::Unauthenticated));
        failures.push(Failure::Store(StoreError::Unavailable(Unavailable::Busy)));
    }
    if let Guard::Permitted(_) | Guard::PermittedByBody(_) = route.guard {
        let denied = |reason| match dialect {
            Dialect::Cts => Failure::TracesDenied(reason),
            _ => Failure::Denied { reason, action: Action::ListServerGroups, on: None, own: None },
        };
        failures.extend([DeniedReason::OtherProject, DeniedReason::NotAllowed].map(denied));
    }
    if !is_get {
        failures.extend([
            Failure::Store(StoreError::TooManyRefusals),
            Failure::Store(StoreError::Unavailable(Unavailable::QueueFull)),
            Failure::Store(StoreError::Unavailable(Unavailable::DiskFull)),
            Failure::Store(StoreError::Disk(String::new())),
            Failure::Store(StoreError::OutcomeUnknown(String::new())),
        ]);
    }
    if route.path.contains("{server_group_id}") {
        failures.push(Failure::Store(StoreError::Refused(Refusal::GroupNotFound {
            group_id: operation::GROUP_ID,
        })));
    }
    if is_versioned(route) {
        failures.extend([
            Failure::MicroversionUnreadable { asked: Excerpt::of("two") },
            Failure::MicroversionUnsupported { asked: "2.99".to_owned(), most: "2.60".to_owned() },
        ]);
    }
    failures.extend((operation.fails)());
    failures
}

const UNKNOWN: [Unauthenticated; 11] = [
    Unauthenticated::Missing,
    Unauthenticated::UnknownToken,
    Unauthenticated::ExpiredToken,
    Unauthenticated::UnknownAccessKey,
    Unauthenticated::ExpiredKey,
    Unauthenticated::SecurityToken,
    Unauthenticated::Locked,
    Unauthenticated::Unreadable,
    Unauthenticated::Signature(SignatureError::Malformed("has no Access")),
    Unauthenticated::Signature(SignatureError::Expired),
    Unauthenticated::Signature(SignatureError::Mismatch),
];
