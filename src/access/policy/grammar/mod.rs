//! Reading policy documents: each grammar has just its elements, and whatever is not one of them is refused.
//!
//! Every error is raised while what is wrong is read, so that it has its line.

mod conditions;

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use self::conditions::ConditionsOf;
use super::document::{DocumentError, Effect, Statement};
use crate::access::action::{Action, ActionSet};
use crate::access::glob::{self, Rules};

/// The largest document of version 1.x, in characters; every limit below is of the 1.x grammar too ("Creating a
/// Custom Policy for Cloud Services").
pub const DOCUMENT_1_CHARS_MAX: usize = 6_144;
/// The largest document of version 5.0, in bytes ("Creating an Identity Policy").
pub const DOCUMENT_5_BYTES_MAX: usize = 131_072;
/// Statements in one document.
pub const STATEMENTS_MAX: usize = 8;
/// Actions in one statement.
pub const ACTIONS_MAX: usize = 100;
/// Characters in one action.
pub const ACTION_CHARS_MAX: usize = 128;
/// Resources in one statement.
pub const RESOURCES_MAX: usize = 20;
/// Conditions in one statement.
pub const CONDITIONS_MAX: usize = 10;
/// Values of one condition.
pub const VALUES_MAX: usize = 10;
/// Characters in one value.
pub const VALUE_CHARS_MAX: usize = 1_024;

/// What a document says, but for its name.
pub(super) struct Said {
    pub(super) statements: Vec<Statement>,
    pub(super) depends: Vec<String>,
}

/// Reads a document of any version.
pub(super) fn read(source: &str) -> Result<Said, DocumentError> {
    let Versioned { version } = serde_json::from_str(source).map_err(|error| wrong(&error))?;
    let too_long =
        |most, unit| Err(DocumentError { line: 1, rule: format!("a document of more than {most} {unit}") });
    match version {
        Version::One if source.chars().count() > DOCUMENT_1_CHARS_MAX => {
            return too_long(DOCUMENT_1_CHARS_MAX, "characters");
        }
        Version::Five if source.len() > DOCUMENT_5_BYTES_MAX => {
            return too_long(DOCUMENT_5_BYTES_MAX, "bytes");
        }
        Version::One | Version::Five => {}
    }
    let mut deserializer = serde_json::Deserializer::from_str(source);
    let said = DocumentOf(version).deserialize(&mut deserializer).map_err(|error| wrong(&error))?;
    deserializer.end().map_err(|error| wrong(&error))?;
    Ok(said)
}

fn wrong(error: &serde_json::Error) -> DocumentError {
    // `serde_json` puts the place behind the message; here the line is told apart, for it counts in another file.
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let rule = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    DocumentError { line: error.line().max(1), rule }
}

/// The version alone, to know which grammar to read the document by.
#[derive(serde::Deserialize)]
struct Versioned {
    #[serde(rename = "Version")]
    version: Version,
}

/// The two grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// 1.0 and 1.1.
    One,
    /// 5.0.
    Five,
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word("a Version", |text: &str| match text {
            "1.0" | "1.1" => Ok(Self::One),
            "5.0" => Ok(Self::Five),
            _ => Err(format!("Version must be \"1.0\", \"1.1\" or \"5.0\", and is {text:?}")),
        }))
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word("an Effect", |text: &str| match text {
            "Allow" => Ok(Self::Allow),
            "Deny" => Ok(Self::Deny),
            _ => Err(format!("Effect must be \"Allow\" or \"Deny\", and is {text:?}")),
        }))
    }
}

/// Reads a text.
struct Word<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Word<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.1(text).map_err(E::custom)
    }
}

/// Reads a document of one grammar: an object, with what the grammar has and nothing else.
#[derive(Clone, Copy)]
struct DocumentOf(Version);

impl<'de> DeserializeSeed<'de> for DocumentOf {
    type Value = Said;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DocumentOf {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let (mut version, mut statements, mut depends) = (None, None, None);
        while let Some(element) = map.next_key::<String>()? {
            match (element.as_str(), self.0) {
                ("Version", _) => set(&mut version, &element, map.next_value::<Version>()?)?,
                ("Statement", grammar) => {
                    set(&mut statements, &element, map.next_value_seed(List(StatementOf(grammar)))?)?;
                }
                ("Depends", Version::One) => {
                    set(&mut depends, &element, map.next_value_seed(List(DependsOn))?)?;
                }
                _ => return Err(unknown(&element)),
            }
        }
        let statements: Vec<_> = statements.ok_or_else(|| de::Error::missing_field("Statement"))?;
        if self.0 == Version::One && statements.len() > STATEMENTS_MAX {
            return Err(too_many(statements.len(), STATEMENTS_MAX, "statements"));
        }
        Ok(Said { statements, depends: depends.unwrap_or_default() })
    }
}

/// An element may occur once.
fn set<T, E: de::Error>(place: &mut Option<T>, element: &str, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format!("{element} occurs twice"))),
    }
}

fn unknown<E: de::Error>(element: &str) -> E {
    E::custom(format!("unknown element {element:?}"))
}

fn too_many<E: de::Error>(found: usize, most: usize, what: &str) -> E {
    E::custom(format!("{found} {what}: there may be {most}"))
}

/// Reads an array of at least one.
#[derive(Clone, Copy)]
struct List<S>(S);

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(self.0)? {
            elements.push(element);
        }
        if elements.is_empty() { Err(de::Error::custom("an empty array")) } else { Ok(elements) }
    }
}

/// Reads what a role depends on: `{"catalog": …, "display_name": …}`.
#[derive(Clone, Copy)]
struct DependsOn;

impl<'de> DeserializeSeed<'de> for DependsOn {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DependsOn {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with catalog and display_name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let (mut catalog, mut display_name) = (None, None);
        while let Some(element) = map.next_key::<String>()? {
            match element.as_str() {
                "catalog" => set(&mut catalog, &element, map.next_value::<String>()?)?,
                "display_name" => set(&mut display_name, &element, map.next_value::<String>()?)?,
                _ => return Err(unknown(&element)),
            }
        }
        display_name.ok_or_else(|| de::Error::missing_field("display_name"))
    }
}

/// Reads a statement of one grammar.
#[derive(Clone, Copy)]
struct StatementOf(Version);

impl<'de> DeserializeSeed<'de> for StatementOf {
    type Value = Statement;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Statement, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StatementOf {
    type Value = Statement;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a statement")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Statement, A::Error> {
        let grammar = self.0;
        let (mut sid, mut effect, mut conditions) = (None, None, None);
        // Each with whether it is the plain one, or `NotAction` and `NotResource`.
        let (mut actions, mut resources) = (None, None);
        while let Some(element) = map.next_key::<String>()? {
            match (element.as_str(), grammar) {
                ("Sid", Version::Five) => set(&mut sid, &element, map.next_value::<String>()?)?,
                ("Effect", _) => set(&mut effect, &element, map.next_value::<Effect>()?)?,
                ("Action", _) | ("NotAction", Version::Five) => {
                    let read = TextsOf { grammar, most: ACTIONS_MAX, read: read_action };
                    if actions.replace((element == "Action", map.next_value_seed(read)?)).is_some() {
                        return Err(de::Error::custom(
                            "a statement has one Action or one NotAction, not both",
                        ));
                    }
                }
                ("Resource", _) | ("NotResource", Version::Five) => {
                    let read = TextsOf { grammar, most: RESOURCES_MAX, read: read_resource };
                    if resources.replace((element == "Resource", map.next_value_seed(read)?)).is_some() {
                        let rule = "a statement has one Resource or one NotResource, not both";
                        return Err(de::Error::custom(rule));
                    }
                }
                ("Condition", _) => {
                    let read = ConditionsOf { is_limited: grammar == Version::One };
                    set(&mut conditions, &element, map.next_value_seed(read)?)?;
                }
                _ => return Err(unknown(&element)),
            }
        }
        let effect = effect.ok_or_else(|| de::Error::missing_field("Effect"))?;
        let (is_these, patterns) = actions.ok_or_else(|| de::Error::missing_field("Action"))?;
        Ok(Statement {
            effect,
            actions: ActionSet::of(|action| is_any_about(&patterns, grammar, action) == is_these),
            is_for_every_resource: match &resources {
                None => true,
                // A Deny of everything is one however it is written.
                Some((true, these)) => {
                    has_every_resource(these) || effect == Effect::Deny && these.iter().any(is_everything)
                }
                // All but some is not all, and a group action has nothing by which to tell: so it never gives a
                // right, and always takes one.
                Some((false, all_but)) => effect == Effect::Deny && !has_every_resource(all_but),
            },
            conditions: conditions.unwrap_or_default(),
            sid,
        })
    }
}

fn has_every_resource(resources: &[String]) -> bool {
    resources.iter().any(|resource| resource == "*")
}

#[expect(clippy::ptr_arg, reason = "it is passed as a function")]
fn is_everything(resource: &String) -> bool {
    resource.split(':').all(|part| !part.is_empty() && part.bytes().all(|byte| byte == b'*'))
}

/// An action is meant by its name and by its alias. `?` is a wildcard in 5.0 only.
fn is_any_about(patterns: &[String], grammar: Version, action: Action) -> bool {
    let rules = Rules { has_question_mark: grammar == Version::Five, ignores_case: true };
    let row = action.row();
    let names = || [Some(row.name), row.alias].into_iter().flatten();
    patterns.iter().any(|pattern| names().any(|name| glob::matches(pattern, name, rules)))
}

/// Reads texts of one kind: an array of at least one, and in 1.x of `most`; with 5.0 also one text alone.
#[derive(Clone, Copy)]
struct TextsOf {
    grammar: Version,
    most: usize,
    read: fn(Version, &str) -> Result<String, String>,
}

impl<'de> DeserializeSeed<'de> for TextsOf {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.grammar {
            Version::One => deserializer.deserialize_seq(self),
            Version::Five => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for TextsOf {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![(self.read)(self.grammar, text).map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let texts = List(OneTextOf(self)).visit_seq(seq)?;
        if self.grammar == Version::One && texts.len() > self.most {
            return Err(too_many(texts.len(), self.most, "elements"));
        }
        Ok(texts)
    }
}

/// Reads one of them.
#[derive(Clone, Copy)]
struct OneTextOf(TextsOf);

impl<'de> DeserializeSeed<'de> for OneTextOf {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let TextsOf { grammar, read, .. } = self.0;
        deserializer.deserialize_str(Word("a text", |text: &str| read(grammar, text)))
    }
}

fn read_action(grammar: Version, text: &str) -> Result<String, String> {
    if grammar == Version::One && text.chars().count() > ACTION_CHARS_MAX {
        return Err(format!("an action of more than {ACTION_CHARS_MAX} characters"));
    }
    let is_good = text == "*" || text.split(':').count() >= 2 && text.split(':').all(|part| !part.is_empty());
    if is_good && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no action: it is service:type:operation, or *"))
}

fn read_resource(_: Version, text: &str) -> Result<String, String> {
    let is_good = text == "*" || text.split(':').count() >= 5;
    if is_good && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no resource: it is service:region:account:type:path, or *"))
}
