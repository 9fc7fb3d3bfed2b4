//! Conformance to the vendor's own model: the crate `huawei-cloud-api-definitions-ECS` has a definition for each
//! operation. From those of the operations that are served, this derives requests that are right and requests that
//! are wrong in one place, sends them, and looks at the answers: a right one gets the definition's status and a body
//! that its schema takes, a wrong one gets the status, the code and the field that [`Fault`] says.
//!
//! An operation is picked up as soon as [`api::routes`] has its method and path.
//! `cargo test --locked conformance -- --nocapture` prints what was tried.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use ecs_groupd::api::{self, Guard, Route};
use ecs_groupd::identities::dev;
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Client, TestApp, group_path, groups_path};

const DEFINITIONS: &str = "huawei-cloud-api-definitions-ECS";

/// What is served, and must stay so. This list may only grow.
const SERVED: [&str; 16] = [
    "AddServerGroupMember",
    "BatchAddServerGroupMember",
    "BatchDeleteServerGroupMember",
    "CreateServerGroup",
    "DeleteServerGroup",
    "DeleteServerGroupMember",
    "ListServerGroups",
    "NovaCreateServerGroup",
    "NovaDeleteServerGroup",
    "NovaListServerGroups",
    "NovaListVersions",
    "NovaShowServerGroup",
    "NovaShowVersion",
    "ShowServer",
    "ShowServerGroup",
    "ShowServerLimits",
];

const CREATE_VARIANTS_MIN: usize = 60;

/// How much of a failure is told.
const TOLD_CHARS_MAX: usize = 600;

/// A UUID of nothing.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// What a group's or an ECS's id in a path can be without being one.
const NO_IDS: [&str; 8] = [
    NOBODY,
    "x",
    "0",
    "00000000-0000-4000-8000-00000000000",
    "00000000-0000-4000-8000-0000000000000",
    "%00",
    "a%2Fb%20c",
    "%7B%7D",
];

/// A rule about a field of a body that stands in the vendor's pages or in the README ("Differences and choices"), but
/// not in the definition. `{server_id}` is an ECS that fits.
struct Documented {
    operation: &'static str,
    pointer: &'static str,
    good: Vec<Value>,
    bad: Vec<Value>,
}

fn documented() -> Vec<Documented> {
    let row = |operation, pointer, good, bad| Documented { operation, pointer, good, bad };
    // "Currently, only the anti-affinity policy is supported": exactly one.
    let not_one = || {
        let known = "anti-affinity";
        vec![json!([]), json!([known, known]), json!([known, "affinity"]), json!([known, null])]
    };
    let not_uuids = || ["", "x", "34dac9a0", " {server_id}", "{server_id}0"].map(Value::from).to_vec();
    let not_lists =
        || vec![json!([]), json!(["x"]), json!(["{server_id}", ""]), json!(["{server_id}", null])];
    let both = || {
        let member = json!({ "instance_uuid": "{server_id}" });
        vec![json!({ "add_member": member, "remove_member": member })]
    };
    // 1 to 255 characters, where the definition's text says bytes; control characters are refused.
    let names = || ["é", "🦀", "\u{10ffff}"].map(|widest| json!(widest.repeat(255))).to_vec();
    let no_names = || [&"é".repeat(256), "\0", "a\nb", "\u{7f}"].map(Value::from).to_vec();
    // Nova's: printable, of the Basic Multilingual Plane, no white space at the ends.
    let nova_names = || vec![json!("é".repeat(255)), json!("a b")];
    let no_nova_names = || [&"é".repeat(256), "\0", "a\nb", " ", " x", "x ", "🦀"].map(Value::from).to_vec();
    vec![
        row("CreateServerGroup", "/server_group/policies", vec![], not_one()),
        row("CreateServerGroup", "/server_group/name", names(), no_names()),
        row("NovaCreateServerGroup", "/server_group/policies", vec![], not_one()),
        row("NovaCreateServerGroup", "/server_group/name", nova_names(), no_nova_names()),
        row("AddServerGroupMember", "/add_member/instance_uuid", vec![], not_uuids()),
        row("AddServerGroupMember", "", vec![], both()),
        row("DeleteServerGroupMember", "/remove_member/instance_uuid", vec![], not_uuids()),
        row("DeleteServerGroupMember", "", vec![], both()),
        row("BatchAddServerGroupMember", "/server_ids", vec![json!(["{server_id}", NOBODY])], not_lists()),
        row("BatchDeleteServerGroupMember", "/server_ids", vec![json!([NOBODY])], not_lists()),
    ]
}

/// Fields that are required though one definition does not say so: its twin, `remove_members`, does.
const ALSO_REQUIRED: [(&str, &str); 1] = [("BatchAddServerGroupMember", "server_ids")];

/// The numbers that a parameter may be, where only a text or the README says it; and whether a larger one counts as
/// the largest, as in Nova, or is refused.
const RANGES: [(&str, &str, i64, i64, bool); 2] =
    [("ListServerGroups", "limit", 1, 1000, false), ("NovaListServerGroups", "limit", 0, 1000, true)];

/// Parameters that are a group's id, and what must be used together with them.
const MARKERS: [(&str, &str, Option<&str>); 2] =
    [("ListServerGroups", "marker", Some("limit=2")), ("NovaListServerGroups", "marker", None)];

/// Keys that a definition requires in an answer and that are left out, since nothing true could stand there.
/// This list may only shrink: a key that does come fails the test.
const LEFT_OUT: [(&str, &str); 1] = [(
    "ShowServer",
    "OS-EXT-AZ:availability_zone OS-EXT-SRV-ATTR:host OS-EXT-SRV-ATTR:hostname OS-EXT-SRV-ATTR:hypervisor_hostname \
     OS-EXT-SRV-ATTR:instance_name OS-EXT-SRV-ATTR:kernel_id OS-EXT-SRV-ATTR:launch_index OS-EXT-SRV-ATTR:ramdisk_id \
     OS-EXT-SRV-ATTR:root_device_name OS-EXT-STS:task_state OS-SRV-USG:launched_at OS-SRV-USG:terminated_at accessIPv4 \
     accessIPv6 auto_terminate_time config_drive created flavor hostId host_status image key_name locked \
     os-extended-volumes:volumes_attached security_groups updated user_id",
)];

/// Nova's newest microversion at the vendor's, and thus where its definitions were made.
const MICROVERSION_MINOR: u16 = 60;

// ---------------------------------------------------------------------------------------------------- definitions

/// A definition as the crate has it.
struct Definition {
    name: String,
    method: String,
    path: String,
    whole: Value,
}

/// The crate's folder, as cargo knows it.
fn definitions_folder() -> PathBuf {
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform=host-tuple"];
    let metadata =
        Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == DEFINITIONS).unwrap();
    PathBuf::from(package["manifest_path"].as_str().unwrap()).with_file_name("src")
}

/// All definitions, by name.
fn definitions() -> Vec<Definition> {
    let files = std::fs::read_dir(definitions_folder()).unwrap().map(|file| file.unwrap().path());
    let mut definitions: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .map(|file| Definition::read(serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()))
        .collect();
    definitions.sort_by(|one, other| one.name.cmp(&other.name));
    definitions
}

/// A path whatever its parameters are called, and with or without a slash at its end.
fn shape_of(path: &str) -> String {
    // The one version that is served.
    let path = path.replace("{api_version}", "v2.1");
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    path.trim_end_matches('/').split('/').map(segment).collect::<Vec<_>>().join("/")
}

impl Definition {
    fn read(whole: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, method) = (text(&whole["name"]), text(&whole["method"]));
        let [path] = &whole["paths"].as_object().unwrap().keys().collect::<Vec<_>>()[..] else {
            panic!("{name} has one path")
        };
        let path = (*path).clone();
        Self { name, method: method.to_uppercase(), path, whole }
    }

    fn is_served_by(&self, route: &Route) -> bool {
        self.method == route.method.as_str() && shape_of(&self.path) == shape_of(route.path)
    }

    fn is_nova(&self) -> bool {
        self.path.starts_with("/v2.1/")
    }

    fn operation(&self) -> &Value {
        &self.whole["paths"][&self.path][self.method.to_lowercase()]
    }

    /// The parameters of one place, such as `query`.
    fn parameters(&self, place: &str) -> Vec<&Value> {
        let listed = self.operation()["parameters"].as_array().unwrap().iter();
        let resolved = listed.map(|parameter| match parameter["$ref"].as_str() {
            Some(reference) => self.whole.pointer(reference.trim_start_matches('#')).unwrap(),
            None => parameter,
        });
        resolved.filter(|parameter| parameter["in"] == place).collect()
    }

    /// What the body of a request must be, if it has one.
    fn body(&self) -> Option<Schema> {
        let parameters = self.parameters("body");
        let body = parameters.first()?;
        let mut schema = Schema::read(&body["schema"], &self.whole, MICROVERSION_MINOR);
        if let Schema::Object { required, .. } = &mut schema {
            let also = ALSO_REQUIRED.iter().filter(|(operation, _)| *operation == self.name);
            required.extend(also.map(|(_, name)| (*name).to_owned()));
        }
        Some(schema)
    }

    /// The status of a success, and what its body must be, if it has one.
    fn success(&self, minor: u16) -> (u16, Option<Schema>) {
        let responses = self.operation()["responses"].as_object().unwrap();
        let (status, response) = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap();
        let schema = response.get("schema").map(|schema| {
            let mut schema = Schema::read(schema, &self.whole, minor);
            schema.allow_nulls_of(&response["examples"]["application/json"]);
            schema
        });
        (status.parse().unwrap(), schema)
    }
}

// -------------------------------------------------------------------------------------------------------- schemas

/// What a JSON value must be: as much of Swagger 2.0 as occurs.
#[derive(Clone, Debug)]
enum Schema {
    Object {
        fields: BTreeMap<String, Schema>,
        required: Vec<String>,
        /// What other keys may hold.
        others: Others,
    },
    Array {
        items: Box<Schema>,
        least: usize,
        most: Option<usize>,
    },
    Text {
        least: usize,
        most: Option<usize>,
        choices: Vec<Value>,
    },
    Number {
        is_whole: bool,
        least: i64,
        most: i64,
        choices: Vec<Value>,
    },
    Boolean,
    /// The vendor's own example has a null there.
    OrNull(Box<Schema>),
}

#[derive(Clone, Debug)]
enum Others {
    /// There may be none.
    None,
    Anything,
    Each(Box<Schema>),
}

impl Schema {
    /// Reads a schema as of a microversion. What it does not know it refuses: nothing is left unchecked in silence.
    fn read(schema: &Value, whole: &Value, minor: u16) -> Self {
        if let Some(reference) = schema["$ref"].as_str() {
            return Self::read(whole.pointer(reference.trim_start_matches('#')).unwrap(), whole, minor);
        }
        let keys = schema.as_object().unwrap().keys().map(String::as_str);
        let notes = ["description", "example", "default", "type", "format"];
        let mut rules: Vec<_> = keys.filter(|key| !key.starts_with("x-") && !notes.contains(key)).collect();
        let mut takes = |name: &str| {
            rules.retain(|rule| *rule != name);
            schema.get(name)
        };
        let count = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let choices =
            |value: Option<&Value>| value.map_or(Vec::new(), |value| value.as_array().unwrap().clone());
        let read = match schema["type"].as_str() {
            Some("object") | None => {
                let described = takes("properties").map(|fields| fields.as_object().unwrap().clone());
                let fields = described.unwrap_or_default();
                let others = match takes("additionalProperties") {
                    Some(others) if others.is_object() => {
                        Others::Each(Box::new(Self::read(others, whole, minor)))
                    }
                    None if !fields.is_empty() => Others::None,
                    _ => Others::Anything,
                };
                let fields: BTreeMap<_, _> = fields
                    .into_iter()
                    .filter(|(_, field)| is_in_microversion(field, minor))
                    .map(|(name, field)| (name, Self::read(&field, whole, minor)))
                    .collect();
                let required = choices(takes("required")).into_iter();
                let required = required.map(|name| name.as_str().unwrap().to_owned());
                let required = required.filter(|name| fields.contains_key(name)).collect();
                Self::Object { fields, required, others }
            }
            Some("array") => Self::Array {
                items: Box::new(Self::read(takes("items").unwrap(), whole, minor)),
                least: takes("minItems").map_or(0, count),
                most: takes("maxItems").map(count),
            },
            Some("string") => Self::Text {
                least: takes("minLength").map_or(0, count),
                most: takes("maxLength").map(count),
                choices: choices(takes("enum")),
            },
            Some(number @ ("integer" | "number")) => {
                let is_short = schema["format"] == "int32";
                let (least, most) =
                    if is_short { (i32::MIN.into(), i32::MAX.into()) } else { (i64::MIN, i64::MAX) };
                Self::Number {
                    is_whole: number == "integer",
                    least: takes("minimum").map_or(least, |least| least.as_i64().unwrap()),
                    most: takes("maximum").map_or(most, |most| most.as_i64().unwrap()),
                    choices: choices(takes("enum")),
                }
            }
            Some("boolean") => Self::Boolean,
            Some(other) => panic!("type {other} is not known: {schema}"),
        };
        assert!(rules.is_empty(), "{rules:?} are not known: {schema}");
        read
    }

    /// Takes a null wherever the vendor's example has one.
    fn allow_nulls_of(&mut self, example: &Value) {
        match (&mut *self, example) {
            (Self::Object { fields, .. }, Value::Object(example)) => {
                for (name, value) in example {
                    match fields.get_mut(name) {
                        Some(field) if value.is_null() => *field = Self::OrNull(Box::new(field.clone())),
                        Some(field) => field.allow_nulls_of(value),
                        None => {}
                    }
                }
            }
            (Self::Array { items, .. }, Value::Array(example)) => {
                for value in example {
                    items.allow_nulls_of(value);
                }
            }
            _ => {}
        }
    }

    /// Adds what is wrong with a value to `wrong`.
    fn check(&self, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let mut claim = |is_true: bool, what: &str| {
            if !is_true {
                wrong.push(format!("{at} {what}: {value}"));
            }
        };
        match (self, value) {
            (Self::Object { fields, required, others }, Value::Object(found)) => {
                for name in required.iter().filter(|name| !found.contains_key(*name)) {
                    claim(false, &format!("lacks {name:?}"));
                }
                for (name, value) in found {
                    let at = format!("{at}/{name}");
                    match (fields.get(name), others) {
                        (Some(field), _) => field.check(value, &at, wrong),
                        (None, Others::Each(other)) => other.check(value, &at, wrong),
                        (None, Others::None) => wrong.push(format!("{at} is not declared: {value}")),
                        (None, Others::Anything) => {}
                    }
                }
            }
            (Self::Array { items, least, most }, Value::Array(found)) => {
                claim(
                    found.len() >= *least && most.is_none_or(|most| found.len() <= most),
                    "has a wrong length",
                );
                for (index, value) in found.iter().enumerate() {
                    items.check(value, &format!("{at}/{index}"), wrong);
                }
            }
            (Self::Text { least, most, choices }, Value::String(text)) => {
                let chars = text.chars().count();
                claim(chars >= *least && most.is_none_or(|most| chars <= most), "has a wrong length");
                claim(choices.is_empty() || choices.contains(value), "is none of the choices");
            }
            (Self::Number { is_whole, least, most, choices }, Value::Number(number)) => {
                claim(!is_whole || number.is_i64(), "is not a whole number");
                claim(
                    number.as_i64().is_none_or(|number| (*least..=*most).contains(&number)),
                    "is out of range",
                );
                claim(choices.is_empty() || choices.contains(value), "is none of the choices");
            }
            (Self::Boolean, Value::Bool(_)) | (Self::OrNull(_), Value::Null) => {}
            (Self::OrNull(schema), _) => schema.check(value, at, wrong),
            _ => claim(false, "has a wrong type"),
        }
    }

    /// A value that is right. `name` is the field's; ids of ECSs are filled in later.
    fn sample(&self, name: &str) -> Value {
        match self {
            Self::Object { fields, .. } => {
                fields.iter().map(|(name, field)| (name.clone(), field.sample(name))).collect()
            }
            Self::Array { items, least, .. } => vec![items.sample(name); (*least).max(1)].into(),
            Self::Text { .. } if matches!(name, "instance_uuid" | "server_ids") => json!("{server_id}"),
            Self::Text { choices, .. } | Self::Number { choices, .. } if !choices.is_empty() => {
                choices[0].clone()
            }
            Self::Text { least, .. } => json!("x".repeat((*least).max(1))),
            Self::Number { least, .. } => json!((*least).max(1)),
            Self::Boolean => json!(true),
            Self::OrNull(schema) => schema.sample(name),
        }
    }
}

/// The definitions tell of a later field in its description: "Added in microversion 2.13".
fn is_in_microversion(field: &Value, minor: u16) -> bool {
    let description = field["description"].as_str().unwrap_or_default();
    let since = description.split_once("微版本2.").and_then(|(_, rest)| rest.split_once("新增"));
    since.is_none_or(|(since, _)| since.parse::<u16>().unwrap() <= minor)
}

// ------------------------------------------------------------------------------------------- variants of one value

/// A body that is right, or wrong in one place.
struct Body {
    what: String,
    value: Value,
    /// The pointer of the field that is wrong.
    wrong: Option<String>,
}

/// What can be made of a body that is right, by its schema alone.
struct Bodies<'body> {
    right: &'body Value,
    made: Vec<Body>,
}

impl Bodies<'_> {
    /// The body with another value in one place, or with nothing there.
    fn push(&mut self, what: &str, pointer: &str, value: Option<Value>, is_wrong: bool) {
        let mut body = self.right.clone();
        match (pointer.rsplit_once('/'), value) {
            (None, value) => body = value.unwrap(),
            (Some((parent, name)), value) => match (body.pointer_mut(parent).unwrap(), value) {
                (Value::Object(fields), Some(value)) => drop(fields.insert(name.to_owned(), value)),
                (Value::Object(fields), None) => drop(fields.remove(name)),
                (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
                _ => panic!("{pointer} is no place in {}", self.right),
            },
        }
        let what = format!("{} {what}", if pointer.is_empty() { "the body" } else { pointer });
        self.made.push(Body { what, value: body, wrong: is_wrong.then(|| pointer.to_owned()) });
    }

    fn good(&mut self, what: &str, pointer: &str, value: Value) {
        self.push(what, pointer, Some(value), false);
    }

    fn bad(&mut self, what: &str, pointer: &str, value: Value) {
        self.push(what, pointer, Some(value), true);
    }

    /// Each type but the right one, and the right value wrapped up.
    fn derive_types(&mut self, schema: &Schema, pointer: &str) {
        let right = self.right.pointer(pointer).unwrap().clone();
        let wrapped =
            [json!([right]), json!({ "": right }), json!({ "value": right }), json!(right.to_string())];
        let others = [json!(null), json!(true), json!(false), json!(0), json!(-1), json!(1.5), json!(1e300)];
        let empty = [json!(""), json!("x"), json!([]), json!({}), json!([[]]), json!([{}])];
        // What serde's derived readers take for an object.
        let in_order = right.as_object().map(|fields| fields.values().cloned().collect());
        for value in wrapped.into_iter().chain(others).chain(empty).chain(in_order) {
            let is_right_type = match schema {
                Schema::Object { .. } => value.is_object(),
                Schema::Array { .. } => value.is_array(),
                Schema::Text { .. } => value.is_string(),
                Schema::Number { is_whole, .. } => value.is_i64() || (!is_whole && value.is_number()),
                Schema::Boolean => value.is_boolean(),
                Schema::OrNull(_) => panic!("only answers have nulls"),
            };
            if !is_right_type {
                self.bad(&format!("is {value}"), pointer, value);
            }
        }
    }

    fn derive(&mut self, schema: &Schema, pointer: &str) {
        self.derive_types(schema, pointer);
        let right = self.right.pointer(pointer).unwrap().clone();
        match schema {
            Schema::Object { fields, required, .. } => {
                for (name, field) in fields {
                    let pointer = format!("{pointer}/{name}");
                    self.push("is missing", &pointer, None, required.contains(name));
                    self.derive(field, &pointer);
                }
            }
            Schema::Array { items, least, most } => {
                let mut of = |len: usize, is_wrong: bool| {
                    let value = vec![right[0].clone(); len].into();
                    self.push(&format!("has {len} elements"), pointer, Some(value), is_wrong);
                };
                if let Some(less) = least.checked_sub(1) {
                    of(*least, false);
                    of(less, true);
                }
                if let Some(most) = *most {
                    of(most, false);
                    of(most + 1, true);
                }
                self.derive(items, &format!("{pointer}/0"));
            }
            Schema::Text { choices, .. } if !choices.is_empty() => self.derive_choices(choices, pointer),
            Schema::Text { least, most, .. } => {
                let mut of = |len: usize, is_wrong: bool| {
                    let what = format!("has {len} characters");
                    self.push(&what, pointer, Some(json!("x".repeat(len))), is_wrong);
                };
                if let Some(less) = least.checked_sub(1) {
                    of(*least, false);
                    of(least + 1, false);
                    of(less, true);
                }
                if let Some(most) = *most {
                    of(most - 1, false);
                    of(most, false);
                    of(most + 1, true);
                    of(2 * most, true);
                }
            }
            Schema::Number { least, most, .. } => {
                self.good("is the least", pointer, json!(least));
                self.good("is the most", pointer, json!(most));
                self.bad("is too small", pointer, json!(i128::from(*least) - 1));
                self.bad("is too large", pointer, json!(i128::from(*most) + 1));
            }
            Schema::Boolean => self.good("is the other", pointer, json!(right != json!(true))),
            Schema::OrNull(_) => {}
        }
    }

    fn derive_choices(&mut self, choices: &[Value], pointer: &str) {
        for choice in choices {
            self.good(&format!("is {choice}"), pointer, choice.clone());
            let text = choice.as_str().unwrap();
            let near = [
                text.to_uppercase(),
                format!("{text} "),
                format!(" {text}"),
                format!("{text}\0"),
                format!("soft-{text}"),
                text.replace('-', "_"),
                text[1..].to_owned(),
                text.repeat(2),
                text.rsplit('-').next().unwrap().to_owned(),
                String::new(),
            ];
            for text in near.into_iter().filter(|near| !choices.contains(&json!(near))) {
                self.bad(&format!("is {text:?}"), pointer, json!(text));
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------- variants of a request

/// A request, with `{project_id}`, `{server_group_id}` and `{server_id}` to be filled in.
#[derive(Clone)]
struct Request {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// A request and what must come of it.
struct Variant {
    what: String,
    request: Request,
    expected: Expected,
}

enum Expected {
    /// The definition's success, with the keys of this microversion.
    Success(u16),
    Fault(Fault),
}

/// What is wrong with a request. How it is answered: [`Fault::check`].
#[derive(Clone, Debug)]
enum Fault {
    /// A field of the body, or a parameter of the query, by its full name.
    Field(String),
    EmptyBody,
    NotJson,
    ContentType,
    Unauthenticated,
    OtherProject,
    /// No group or ECS has this id.
    Nothing {
        parameter: String,
        id: String,
    },
    MicroversionUnreadable,
    MicroversionUnsupported,
}

/// All variants of an operation, right ones first.
fn variants(definition: &Definition, guard: Guard) -> Vec<Variant> {
    let minor = if definition.is_nova() { MICROVERSION_MINOR } else { 0 };
    let body = definition.body();
    let right_body = body.as_ref().map(|schema| schema.sample(""));
    let mut headers = vec![("x-auth-token", dev::TOKEN.to_owned())];
    if right_body.is_some() {
        headers.push(("content-type", "application/json".to_owned()));
    }
    if definition.is_nova() {
        headers.push(("openstack-api-version", format!("compute 2.{minor}")));
    }
    let right = Request {
        path: definition.path.replace("{api_version}", "v2.1"),
        headers,
        body: right_body.as_ref().map_or(Vec::new(), |body| body.to_string().into_bytes()),
    };
    let mut made = Made { right, minor, variants: Vec::new() };
    made.add("as the definition says", None, |_| ());
    if definition.path != "/" {
        made.add("a slash at the end of the path", None, |request| request.path.push('/'));
    }
    made.add_headers(definition, guard);
    made.add_paths(definition);
    made.add_queries(definition);
    if let (Some(schema), Some(right)) = (body, right_body) {
        made.add_bodies(definition, &schema, &right);
        made.add_texts(definition);
    }
    made.variants.sort_by_key(|variant| matches!(variant.expected, Expected::Fault(_)));
    made.variants
}

/// Variants in the making.
struct Made {
    right: Request,
    minor: u16,
    variants: Vec<Variant>,
}

impl Made {
    fn add(&mut self, what: impl Into<String>, fault: Option<Fault>, change: impl FnOnce(&mut Request)) {
        let mut request = self.right.clone();
        change(&mut request);
        let expected = fault.map_or(Expected::Success(self.minor), Expected::Fault);
        self.variants.push(Variant { what: what.into(), request, expected });
    }

    /// With another value of a header, or without it.
    fn add_header(&mut self, name: &'static str, value: Option<&str>, fault: Option<Fault>) {
        self.add(format!("{name}: {value:?}"), fault, |request| {
            request.headers.retain(|(header, _)| *header != name);
            request.headers.extend(value.map(|value| (name, value.to_owned())));
        });
    }

    fn add_headers(&mut self, definition: &Definition, guard: Guard) {
        for parameter in definition.parameters("header") {
            match parameter["name"].as_str().unwrap() {
                // Clients ask for the versions before they log in, whatever the definition says.
                "X-Auth-Token" if guard == Guard::Open => self.add_header("x-auth-token", None, None),
                "X-Auth-Token" => {
                    for token in [None, Some(""), Some("x"), Some("dev-token-and-more")] {
                        self.add_header("x-auth-token", token, Some(Fault::Unauthenticated));
                    }
                }
                "OpenStack-API-Version" => self.add_microversions(),
                other => panic!("{other} is not known"),
            }
        }
    }

    fn add_microversions(&mut self) {
        let name = "openstack-api-version";
        let newest = self.minor;
        for (minor, value) in
            [(1, None), (1, Some("compute 2.1")), (12, Some("compute 2.12")), (13, Some("compute 2.13"))]
        {
            self.minor = minor;
            self.add_header(name, value, None);
        }
        self.minor = newest;
        self.add_header(name, Some(&format!("compute 2.{newest}")), None);
        for value in ["compute 2.0", "compute 1.1", "compute 3.1", "compute 2.61"] {
            self.add_header(name, Some(value), Some(Fault::MicroversionUnsupported));
        }
        for value in ["compute x", "compute 2", "compute 2.", "compute 2.1.1", "compute -2.1"] {
            self.add_header(name, Some(value), Some(Fault::MicroversionUnreadable));
        }
    }

    fn add_paths(&mut self, definition: &Definition) {
        for parameter in definition.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            let place = format!("{{{name}}}");
            match name {
                "project_id" => {
                    let other = "0123456789abcdef0123456789abcdef";
                    for project in [other, "x", "0", "%00", "a%2Fb%20c", &other[1..], NOBODY] {
                        self.add(format!("{name} {project}"), Some(Fault::OtherProject), |request| {
                            request.path = request.path.replace(&place, project);
                        });
                    }
                }
                "server_group_id" | "server_id" => {
                    for id in NO_IDS {
                        let fault = Fault::Nothing { parameter: name.to_owned(), id: id.to_owned() };
                        self.add(format!("{name} {id}"), Some(fault), |request| {
                            request.path = request.path.replace(&place, id);
                        });
                    }
                }
                "api_version" => {}
                other => panic!("{other} is not known"),
            }
        }
    }

    fn add_query(&mut self, query: &str, wrong: Option<&str>) {
        let fault = wrong.map(|name| Fault::Field(name.to_owned()));
        self.add(format!("?{query}"), fault, |request| write!(request.path, "?{query}").unwrap());
    }

    fn add_queries(&mut self, definition: &Definition) {
        self.add_query("not_known=1", None);
        for parameter in definition.parameters("query") {
            let name = parameter["name"].as_str().unwrap();
            let is_of = |row: (&str, &str)| row == (definition.name.as_str(), name);
            match parameter["type"].as_str().unwrap() {
                "integer" => {
                    let range = RANGES.iter().find(|row| is_of((row.0, row.1)));
                    let (_, _, least, most, is_cut) = *range.unwrap_or_else(|| panic!("{name} has no range"));
                    for number in [least, least + 1, most - 1, most] {
                        self.add_query(&format!("{name}={number}"), None);
                    }
                    for number in [least - 1, -1, i64::MIN] {
                        self.add_query(&format!("{name}={number}"), Some(name));
                    }
                    for number in [most + 1, i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MAX] {
                        self.add_query(&format!("{name}={number}"), (!is_cut).then_some(name));
                    }
                    for text in
                        ["", "x", "1.5", "1e2", "0x1", "true", "null", "[]", "%201", "1%20", "%2B1", "%D9%A1"]
                    {
                        self.add_query(&format!("{name}={text}"), Some(name));
                    }
                }
                // "Even if the value is not True, its presence counts."
                "boolean" => {
                    for text in ["true", "True", "false", "0", "1", "x", ""] {
                        self.add_query(&format!("{name}={text}"), None);
                    }
                }
                "string" => {
                    let marker = MARKERS.iter().find(|row| is_of((row.0, row.1)));
                    let (_, _, other) = marker.unwrap_or_else(|| panic!("{name} has no rule"));
                    let with = other.map_or(String::new(), |other| format!("{other}&"));
                    for id in ["{server_group_id}", NOBODY] {
                        self.add_query(&format!("{with}{name}={id}"), None);
                        self.add_query(&format!("{name}={id}"), other.map(|_| name));
                    }
                    for text in ["x", "1", "%00", "null", "[]", "{server_group_id}0"] {
                        self.add_query(&format!("{with}{name}={text}"), Some(name));
                    }
                }
                other => panic!("a query of {other} is not known"),
            }
        }
    }

    fn add_bodies(&mut self, definition: &Definition, schema: &Schema, right: &Value) {
        let mut bodies = Bodies { right, made: Vec::new() };
        bodies.derive(schema, "");
        // Keys that are not known are ignored on v1 and refused by Nova.
        bodies.push("is not known", "/x_y", Some(json!([null])), definition.is_nova());
        for (name, value) in right.as_object().unwrap() {
            if value.is_object() {
                let pointer = format!("/{name}/x_y");
                bodies.push("is not known", &pointer, Some(json!({})), definition.is_nova());
            }
        }
        for row in documented().into_iter().filter(|row| row.operation == definition.name) {
            for (value, is_wrong) in row
                .good
                .into_iter()
                .map(|value| (value, false))
                .chain(row.bad.into_iter().map(|bad| (bad, true)))
            {
                bodies.push(&format!("is {value}"), row.pointer, Some(value), is_wrong);
            }
        }
        for Body { what, value, wrong } in bodies.made {
            let fault = wrong.map(|pointer| Fault::Field(field_name(&pointer)));
            self.add(what, fault, |request| request.body = value.to_string().into_bytes());
        }
    }

    /// Bodies that are no JSON, or do not say that they are.
    fn add_texts(&mut self, definition: &Definition) {
        for blank in ["", " ", "\r\n\t"] {
            self.add(format!("the body is {blank:?}"), Some(Fault::EmptyBody), |request| {
                request.body = blank.as_bytes().to_vec();
            });
        }
        let right = self.right.body.clone();
        let text = String::from_utf8(right.clone()).unwrap();
        let cut = [1, text.len() / 2, text.len() - 1].map(|len| right[..len].to_vec());
        let more = ["}", "{}", "x", ","].map(|more| [&right[..], more.as_bytes()].concat());
        let others = [
            b"x".to_vec(),
            b"nul".to_vec(),
            b"'x'".to_vec(),
            b"\xff".to_vec(),
            [b"\xef\xbb\xbf", &right[..]].concat(),
            text.replace('"', "'").into_bytes(),
            [&right[..right.len() - 1], b",}"].concat(),
            text.replacen('"', "\"\\ud800", 1).into_bytes(),
            b"[".repeat(10_000),
        ];
        for body in cut.into_iter().chain(more).chain(others) {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            self.add(format!("the body is {shown}"), Some(Fault::NotJson), |request| request.body = body);
        }
        let consumes: Vec<String> =
            serde_json::from_str(definition.whole["consumes"].as_str().unwrap()).unwrap();
        for said in consumes.iter().map(String::as_str).chain(["application/json; charset=utf-8"]) {
            self.add_header("content-type", Some(said), None);
        }
        let others = [
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "json",
            "application/jsonx",
        ];
        for said in
            [None].into_iter().chain(others.map(Some)).chain([Some("application/json;charset=latin1")])
        {
            self.add_header("content-type", said, Some(Fault::ContentType));
        }
    }
}

/// The full name of a field, such as `server_group.policies[0]`; that of the body itself is empty.
fn field_name(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => write!(name, "[{index}]").unwrap(),
            Err(_) if name.is_empty() => name.push_str(part),
            Err(_) => write!(name, ".{part}").unwrap(),
        }
    }
    name
}

// -------------------------------------------------------------------------------------------------------- answers

/// What an error says, in whichever of the three shapes it is.
struct Said {
    code: String,
    message: String,
}

impl Said {
    fn of(answer: &Answer, is_nova: bool) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_str(&answer.text).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (code, message, expected) = if is_nova {
            let (fault, inner) = body.iter().next()?;
            let message = text(&inner["message"])?;
            (fault.clone(), message.clone(), json!({ fault: { "code": answer.status, "message": message } }))
        } else if let Some(inner) = body.get("error") {
            let (code, message) = (text(&inner["code"])?, text(&inner["message"])?);
            (code.clone(), message.clone(), json!({ "error": { "code": code, "message": message } }))
        } else {
            let (code, message) = (text(body.get("error_code")?)?, text(body.get("error_msg")?)?);
            let id = answer.request_id();
            (
                code.clone(),
                message.clone(),
                json!({ "error_code": code, "error_msg": message, "request_id": id }),
            )
        };
        (Value::Object(body) == expected).then_some(Self { code, message })
    }
}

impl Fault {
    /// Status and code; a fault of Nova's is its code.
    fn expected(&self, is_nova: bool) -> (u16, &'static str) {
        match (self, is_nova) {
            (Self::EmptyBody, false) => (400, "Common.0002"),
            (Self::OtherProject, false) => (400, "Ecs.0023"),
            (Self::Field(_) | Self::NotJson, false) => (400, "Ecs.0005"),
            (Self::ContentType, false) => (415, "APIGW.0201"),
            (Self::Unauthenticated, false) => (401, "APIGW.0301"),
            (Self::Nothing { parameter, .. }, false) if parameter == "server_id" => (404, "Ecs.0114"),
            (Self::Nothing { .. }, false) => (404, "Ecs.1000"),
            (Self::ContentType, true) => (415, "badMediaType"),
            (Self::Unauthenticated, true) => (401, "unauthorized"),
            (Self::Nothing { .. }, true) => (404, "itemNotFound"),
            (Self::MicroversionUnsupported, _) => (406, "computeFault"),
            (_, true) => (400, "badRequest"),
            (Self::MicroversionUnreadable, false) => panic!("only Nova has microversions"),
        }
    }

    /// Whether a message says what is wrong, and where.
    fn is_named_in(&self, message: &str, is_nova: bool) -> bool {
        let names =
            |what: &str| message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == what);
        match self {
            Self::Field(field) if field.is_empty() => {
                message.starts_with("request body ") || (is_nova && message == "Malformed request body")
            }
            // Nova names only the last part, and an element of an array by its number.
            Self::Field(field) if is_nova => {
                field.trim_end_matches(']').split(['.', '[']).rev().take(2).any(names)
            }
            Self::Field(field) => {
                // An element may be named by its array; a choice between keys is one of the body.
                let array = field.split('[').next().unwrap();
                let rest = message.strip_prefix(field.as_str()).or_else(|| message.strip_prefix(array));
                rest.is_some_and(|rest| rest.starts_with([' ', '[']))
                    || (message.starts_with("request body ") && names(array))
            }
            Self::NotJson => {
                message.starts_with("request body ") || (is_nova && message == "Malformed request body")
            }
            Self::EmptyBody => is_nova || message == "The request body cannot be left blank.",
            Self::ContentType => message.contains("Content-Type"),
            Self::Unauthenticated => message.starts_with("Incorrect IAM authentication information: "),
            Self::OtherProject => message.contains("project_id"),
            Self::Nothing { parameter, id } => {
                let expected = if parameter == "server_id" {
                    format!("Instance[{id}] could not be found.")
                } else {
                    format!("Instance group {id} could not be found.")
                };
                let wrapped: Value = serde_json::from_str(message).unwrap_or_default();
                let inner = wrapped["itemNotFound"]["message"].as_str().unwrap_or(message);
                // Of what is no UUID, it is enough to say that it is not there.
                inner == expected || (id != NOBODY && inner.ends_with(" could not be found."))
            }
            Self::MicroversionUnreadable => message.starts_with("API Version String "),
            Self::MicroversionUnsupported => {
                message.contains(" is not supported by the API. Minimum is 2.1 ")
            }
        }
    }

    fn check(&self, answer: &Answer, is_nova: bool) -> Result<(), String> {
        let (status, code) = self.expected(is_nova);
        if answer.status != status {
            return Err(format!("the status is not {status}"));
        }
        let said = Said::of(answer, is_nova).ok_or("the body has none of the shapes of an error")?;
        if said.code != code {
            return Err(format!("the code is not {code}"));
        }
        if self.is_named_in(&said.message, is_nova) {
            Ok(())
        } else {
            Err(format!("the message does not name {self:?}"))
        }
    }
}

impl Definition {
    fn check(&self, answer: &Answer, expected: &Expected) -> Result<(), String> {
        let is_json = answer.header("content-type") == Some("application/json;charset=utf-8");
        if !answer.text.is_empty() && !is_json {
            return Err("the content type is not JSON's".to_owned());
        }
        let minor = match expected {
            Expected::Fault(fault) => return fault.check(answer, self.is_nova()),
            Expected::Success(minor) => *minor,
        };
        let (status, schema) = self.success(minor);
        if answer.status != status {
            return Err(format!("the status is not {status}"));
        }
        let mut wrong = Vec::new();
        match schema {
            None if answer.text.is_empty() => {}
            None => wrong.push("there is a body".to_owned()),
            Some(schema) => match serde_json::from_str(&answer.text) {
                Ok(value) => schema.check(&value, "", &mut wrong),
                Err(error) => wrong.push(error.to_string()),
            },
        }
        let left_out = LEFT_OUT.iter().find(|(operation, _)| *operation == self.name);
        for key in left_out.iter().flat_map(|(_, keys)| keys.split(' ')) {
            let before = wrong.len();
            wrong.retain(|wrong| !wrong.contains(&format!(" lacks {key:?}")));
            if wrong.len() == before {
                wrong.push(format!("{key} is not left out any more: take it from LEFT_OUT"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

// ------------------------------------------------------------------------------------------------------------ the test

/// What a request of an operation is about: a group of its own, and an ECS that is a member of it if it must be.
struct Scene {
    server_group_id: String,
    server_id: String,
}

impl Scene {
    fn prepare(client: &Client, definition: &Definition, number: usize) -> Self {
        let server_group_id = client.create("web");
        let server_id = format!("34dac9a0-c4a7-457b-bab2-{number:012x}");
        let takes_a_member = definition.path.contains("{server_id}")
            || ["DeleteServerGroupMember", "BatchDeleteServerGroupMember"]
                .contains(&definition.name.as_str());
        if takes_a_member {
            let body = json!({ "add_member": { "instance_uuid": server_id } }).to_string();
            let added = client.post_json(&format!("{}/action", group_path(&server_group_id)), &body);
            assert_eq!(added.status, 200, "{}", added.text);
        }
        Self { server_group_id, server_id }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{project_id}", dev::PROJECT_ID)
            .replace("{server_group_id}", &self.server_group_id)
            .replace("{server_id}", &self.server_id)
    }

    fn send(&self, client: &Client, method: &str, request: &Request) -> Answer {
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = match String::from_utf8(request.body.clone()) {
            Ok(text) => self.fill(&text).into_bytes(),
            Err(error) => error.into_bytes(),
        };
        client.send(method, &self.fill(&request.path), &headers, &body)
    }
}

/// Tries all variants of an operation on a service of its own; returns how many there were, and the failures.
fn try_all(definition: &Definition, guard: Guard) -> (usize, Vec<String>) {
    // A request without a token is nobody's.
    let app = TestApp::start_with(|settings| settings.dev.anonymous = false);
    let known = app.client.with_token(dev::TOKEN);
    let variants = variants(definition, guard);
    let mut failures = Vec::new();
    // The wrong ones share a scene, which none of them may change.
    let mut shared: Option<(Scene, String)> = None;
    for (number, Variant { what, request, expected }) in variants.iter().enumerate() {
        let own;
        let scene = match expected {
            Expected::Success(_) => {
                own = Scene::prepare(&known, definition, number);
                &own
            }
            Expected::Fault(_) => {
                let (scene, _) = shared.get_or_insert_with(|| {
                    (Scene::prepare(&known, definition, number), known.get(&groups_path()).text)
                });
                scene
            }
        };
        let answer = scene.send(&app.client, &definition.method, request);
        if let Err(wrong) = definition.check(&answer, expected) {
            let told = format!("{}, {what}: {wrong}, in {} {}", definition.name, answer.status, answer.text);
            // A name of 255 characters is not worth reading.
            failures.push(told.chars().take(TOLD_CHARS_MAX).collect());
        }
        // There is one, and of the right form.
        answer.request_id();
    }
    if let Some((_, before)) = shared
        && known.get(&groups_path()).text != before
    {
        failures.push(format!("{}: a request that was turned down changed something", definition.name));
    }
    (variants.len(), failures)
}

#[test]
fn what_is_served_answers_as_the_vendors_definitions_say() {
    let definitions = definitions();
    let routes = api::routes();
    let served_by = |definition: &Definition| {
        routes.iter().find(|route| definition.is_served_by(route)).map(|route| route.guard)
    };
    let mut table = format!("{:<32}{:>6}{:>8}\n", "operation", "tried", "passed");
    let mut failures = Vec::new();
    let mut tried = BTreeMap::new();
    let mut not_served = Vec::new();
    for definition in &definitions {
        let name = definition.name.as_str();
        let Some(guard) = served_by(definition) else {
            not_served.push(name);
            continue;
        };
        let (count, mut failed) = try_all(definition, guard);
        writeln!(table, "{name:<32}{count:>6}{:>8}", count - failed.len().min(count)).unwrap();
        failures.append(&mut failed);
        tried.insert(name, count);
    }
    let about_groups = |name: &&&str| name.contains("ServerGroup") || name.contains("Limits");
    let of_those: Vec<_> = not_served.iter().filter(about_groups).collect();
    eprintln!("{table}\nnot served: {} of {}: {not_served:?}", not_served.len(), definitions.len());
    eprintln!("of those about groups and limits: {of_those:?}");

    failures.extend(
        SERVED.iter().filter(|name| !tried.contains_key(**name)).map(|name| format!("{name} is not served")),
    );
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(tried["CreateServerGroup"] >= CREATE_VARIANTS_MIN, "{tried:?}");
}

#[test]
fn the_check_of_answers_takes_what_is_right_and_finds_every_fault() {
    let mut faults = 0;
    for definition in definitions().iter().filter(|definition| definition.name.contains("ServerGroup")) {
        let (_, answer) = definition.success(MICROVERSION_MINOR);
        for schema in answer.into_iter().chain(definition.body()) {
            let right = schema.sample("");
            let mut bodies = Bodies { right: &right, made: Vec::new() };
            bodies.derive(&schema, "");
            for Body { what, value, wrong } in
                bodies.made.iter().filter(|body| !body.what.contains("not known"))
            {
                let mut found = Vec::new();
                schema.check(value, "", &mut found);
                assert_eq!(found.is_empty(), wrong.is_none(), "{}, {what}: {found:?}", definition.name);
                faults += usize::from(wrong.is_some());
            }
        }
    }
    assert!(faults > 500, "{faults}");
}
