//! What requests hold: parameters, and the bodies that [`crate::api::body`] and the dialects read by hand.

#![expect(clippy::needless_pass_by_value, reason = "a schema reads best as an expression of schemas")]

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::api::ecs::BATCH_SERVERS_MAX;
use crate::api::once::KEY_BYTES_MAX;
use crate::api::site::Site;
use crate::api::{cts, explorer, nova};
use crate::domain::group::{NAME_CHARS_MAX, PlacementRule};
use crate::domain::page::LIMIT_MAX;

/// From this microversion on, a group is made with `policy` instead of `policies`.
const HAS_ONE_RULE: u16 = 64;

/// 32 lower-case hex digits.
pub(super) fn hex_id() -> Value {
    json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
}

fn uuid() -> Value {
    let pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
    json!({ "type": "string", "format": "uuid", "pattern": pattern })
}

/// The parameters, by the names that operations know them by.
pub(super) fn parameters(site: &Site) -> Value {
    let text = || json!({ "type": "string" });
    let whole = |least: u32| json!({ "type": "integer", "minimum": least });
    let path = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema });
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "description": description, "schema": schema });
    let project_id = match site.dev_project {
        // There is no other one.
        Some(id) => json!({ "type": "string", "enum": [id] }),
        None => hex_id(),
    };
    let pages = json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX });
    let empty_or_uuid = json!({ "anyOf": [uuid(), { "type": "string", "maxLength": 0 }] });
    let mut all = json!({
        "project_id": path("project_id", "The project that the token or key is good for.", project_id),
        "server_group_id": path("server_group_id", "The ECS group: a UUID.", json!({ "type": "string", "minLength": 1 })),
        "server_id": path("server_id", "The ECS: a UUID.", json!({ "type": "string", "minLength": 1 })),
        "file": path("file", "The file.", json!({ "type": "string", "enum": explorer::FILES })),
        "limit": query("limit", "How many at the most.", pages),
        "marker": query("marker", "The id after which to begin; only together with `limit`.", uuid()),
        "native_limit": query("limit", "How many at the most; 0 for as many as there may be.", whole(0)),
        "offset": query("offset", "How many to leave out.", whole(0)),
        "native_marker": query("marker", "The id after which to begin.", empty_or_uuid),
        "all_projects": query("all_projects", "For the cloud's administrator; ignored.", text()),
        "nocatalog": query("nocatalog", "Whatever it says: leave the catalogue out.", text()),
        "name": query("name", "Only projects of this name.", text()),
        "domain_id": query("domain_id", "Only projects of this account.", text()),
        "parent_id": query("parent_id", "Only projects of this parent, which is the account.", text()),
        "enabled": query("enabled", "`true`, which all projects are.", text()),
        "is_domain": query("is_domain", "`false`, which all projects are.", text()),
        "page": query("page", "Which page; only together with `per_page`.", whole(1)),
        "per_page": query("per_page", "How many a page has.", whole(1)),
        "Idempotency-Key": header(
            "Idempotency-Key",
            "Made up for this request: sent again within 24 hours, with the same key, it is done once and answered alike.",
            json!({ "type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX }),
        ),
        "X-Subject-Token": header("X-Subject-Token", "The token that it is about; without it, there is none.", text()),
        "OpenStack-API-Version": header(
            "OpenStack-API-Version",
            "The microversion, as `compute 2.60` or `compute latest`.",
            text(),
        ),
        "X-OpenStack-Nova-API-Version": header(
            "X-OpenStack-Nova-API-Version",
            "The microversion, where `OpenStack-API-Version` says none.",
            json!({ "type": "string", "enum": microversions(site) }),
        ),
    });
    if let (Value::Object(all), Value::Object(of_traces)) = (&mut all, trace_parameters()) {
        all.extend(of_traces);
    }
    all
}

/// Those of CTS.
fn trace_parameters() -> Value {
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let millis = || json!({ "type": "integer", "minimum": 0 });
    let limit =
        json!({ "type": "integer", "minimum": 0, "maximum": cts::LIMIT_MAX, "default": cts::LIMIT_DEFAULT });
    json!({
        "trace_type": query("trace_type", "`data` finds nothing: nothing here is a data event.", json!({ "enum": ["system", "data"] })),
        "traces_limit": query("limit", "How many at the most.", limit),
        "from": query("from", "Only traces recorded then or later, in milliseconds; only together with `to`.", millis()),
        "to": query("to", "Only traces recorded then or earlier, in milliseconds; only together with `from`.", millis()),
        "next": query("next", "The `marker` of the page before.", uuid()),
        "tracker_name": query("tracker_name", "`system`; there is no other tracker.", text()),
        "service_type": query("service_type", "Only of this service, such as `ECS`.", text()),
        "user": query("user", "Only of the user of this name.", text()),
        "resource_id": query("resource_id", "Only about the ECS group, or ECS, of this id.", text()),
        "resource_name": query("resource_name", "Only about what has this name.", text()),
        "resource_type": query("resource_type", "Only about this kind of resource, such as `serverGroup`.", text()),
        "trace_id": query("trace_id", "Only this one; the other filters are ignored.", uuid()),
        "trace_name": query("trace_name", "Only of this operation, such as `createServerGroup`.", text()),
        "trace_rating": query("trace_rating", "`normal` is done, `warning` refused or denied.", json!({ "enum": ["normal", "warning", "incident"] })),
        "access_key_id": query("access_key_id", "Only of requests that this access key signed.", text()),
        "enterprise_project_id": query("enterprise_project_id", "`0`, which all resources are in.", text()),
        "include_before_reset": query("include_before_reset", "Whether to show what was before the project's last reset.", json!({ "type": "boolean" })),
    })
}

fn microversions(site: &Site) -> Vec<String> {
    let numbers = (1..=site.microversion_max).map(|minor| format!("2.{minor}"));
    std::iter::once("latest".to_owned()).chain(numbers).collect()
}

fn rules() -> Value {
    let only = PlacementRule::AntiAffinity.as_str();
    json!({ "type": "array", "minItems": 1, "maxItems": 1, "items": { "type": "string", "enum": [only] } })
}

/// An object with these keys, all of which must be there.
fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(|keys| keys.keys().cloned()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// An object that has one of these keys.
fn one_of(properties: Value) -> Value {
    let keys = properties.as_object().into_iter().flat_map(serde_json::Map::keys);
    let one_of: Vec<_> = keys.map(|key| json!({ "required": [key] })).collect();
    json!({ "type": "object", "properties": properties, "oneOf": one_of })
}

fn content(schema: Value, example: Value) -> Value {
    json!({ "schema": schema, "example": example })
}

fn example_group() -> Value {
    json!({ "server_group": { "name": "web", "policies": [PlacementRule::AntiAffinity.as_str()] } })
}

/// A group of v1.
pub(super) fn create_group(_: &Site) -> Value {
    let name = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARS_MAX,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
    });
    let group = object(json!({ "name": name, "policies": rules() }));
    content(object(json!({ "server_group": group })), example_group())
}

/// A name as Nova takes it: printable, of the Basic Multilingual Plane, no white space at the ends. (What may stand there
/// is listed, not what may not: that is quicker to make examples of.)
fn native_name() -> Value {
    json!({ "type": "string", "pattern": *NATIVE_NAME })
}

static NATIVE_NAME: LazyLock<String> = LazyLock::new(|| {
    let ends = class(|character| nova::is_name(&character.to_string()));
    let inside = class(|character| nova::is_name(&format!("a{character}a")));
    format!("^[{ends}]([{inside}]{{0,{}}}[{ends}])?$", NAME_CHARS_MAX - 2)
});

/// Those characters of the Basic Multilingual Plane, as ranges of a regular expression.
fn class(is_in: impl Fn(char) -> bool) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in (0..=0xffff).filter(|code| char::from_u32(*code).is_some_and(&is_in)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    let ranges: Vec<_> = ranges.iter().map(|(first, last)| format!("\\u{first:04x}-\\u{last:04x}")).collect();
    ranges.concat()
}

fn closed(mut object: Value) -> Value {
    object["additionalProperties"] = json!(false);
    object
}

/// A group of `/v2.1`, which takes no key that it does not know.
pub(super) fn create_native_group(site: &Site) -> Value {
    let group = closed(object(json!({ "name": native_name(), "policies": rules() })));
    let mut schema = closed(object(json!({ "server_group": group })));
    if site.microversion_max >= HAS_ONE_RULE {
        let only = PlacementRule::AntiAffinity.as_str();
        let rule = json!({ "type": "string", "enum": [only] });
        let mut group = closed(object(json!({ "name": native_name(), "policy": rule })));
        group["properties"]["rules"] = json!({
            "type": "object",
            "properties": { "max_server_per_host": { "enum": [1, "1"] } },
            "additionalProperties": false,
        });
        schema = json!({ "anyOf": [schema, closed(object(json!({ "server_group": group })))] });
    }
    content(schema, example_group())
}

/// A group of `/v2`.
pub(super) fn create_legacy_group(_: &Site) -> Value {
    let group = object(json!({ "name": native_name(), "policies": rules() }));
    content(object(json!({ "server_group": group })), example_group())
}

/// Exactly one of an ECS to add and an ECS to remove.
pub(super) fn change_member(_: &Site) -> Value {
    let server = || object(json!({ "instance_uuid": uuid() }));
    let example = json!({ "add_member": { "instance_uuid": "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a" } });
    content(one_of(json!({ "add_member": server(), "remove_member": server() })), example)
}

/// A batch of ECSs.
pub(super) fn server_ids(_: &Site) -> Value {
    let ids = json!({
        "type": "array",
        "minItems": 1,
        "maxItems": BATCH_SERVERS_MAX,
        "uniqueItems": true,
        "items": uuid(),
    });
    content(
        object(json!({ "server_ids": ids })),
        json!({ "server_ids": ["0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a"] }),
    )
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// An object named by its `id`, which counts alone, or else by these keys.
fn by_id_or(properties: Value, required: Value) -> Value {
    json!({
        "type": "object",
        "anyOf": [
            { "properties": { "id": text() }, "required": ["id"] },
            { "properties": properties, "required": required, "not": { "required": ["id"] } },
        ],
    })
}

fn domain() -> Value {
    by_id_or(json!({ "name": text() }), json!(["name"]))
}

/// A login.
pub(super) fn log_in(_: &Site) -> Value {
    let mut user = by_id_or(json!({ "name": text(), "domain": domain() }), json!(["name", "domain"]));
    user["properties"] = json!({ "password": { "type": "string", "format": "password" } });
    user["required"] = json!(["password"]);
    let methods = |method: &str| json!({ "type": "array", "minItems": 1, "maxItems": 1, "items": { "enum": [method] } });
    let identity = json!({
        "oneOf": [
            object(json!({ "methods": methods("password"), "password": object(json!({ "user": user })) })),
            object(json!({ "methods": methods("token"), "token": object(json!({ "id": text() })) })),
        ],
    });
    // A project's domain may be left out, and a domain beside the project does not count.
    let project = by_id_or(json!({ "name": text(), "domain": domain() }), json!(["name"]));
    let scope = json!({
        "type": "object",
        "anyOf": [
            { "properties": { "project": project }, "required": ["project"] },
            { "properties": { "domain": domain() }, "required": ["domain"], "not": { "required": ["project"] } },
        ],
    });
    let mut auth = object(json!({ "identity": identity }));
    auth["properties"]["scope"] = scope;
    let example = json!({
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": { "user": { "name": "dev", "domain": { "name": "dev" }, "password": "dev-password" } },
            },
            "scope": { "project": { "name": "dev-1" } },
        },
    });
    content(object(json!({ "auth": auth })), example)
}

/// A request for a temporary key.
pub(super) fn temporary_key(_: &Site) -> Value {
    let seconds = json!({ "type": "integer", "minimum": 900, "maximum": 86_400, "default": 900 });
    let token = json!({ "type": "object", "properties": { "id": text(), "duration_seconds": seconds } });
    let methods = json!({ "type": "array", "minItems": 1, "maxItems": 1, "items": { "enum": ["token"] } });
    let mut identity = object(json!({ "methods": methods }));
    identity["properties"]["token"] = token;
    identity["not"] = json!({ "required": ["policy"] });
    let schema = object(json!({ "auth": object(json!({ "identity": identity })) }));
    content(
        schema,
        json!({ "auth": { "identity": { "methods": ["token"], "token": { "duration_seconds": 900 } } } }),
    )
}
