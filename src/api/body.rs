//! Reading a JSON body by hand, so that every error names the field and its rule.
//!
//! `serde`'s derived readers take a JSON array where an object belongs; these do not.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// A body, or a part of the URL, that breaks a rule of the dialect. Nothing of it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No body, or one of nothing but white space.
    #[error("The request body cannot be left blank.")]
    EmptyBody,
    /// Not JSON.
    #[error("request body is illegal: it is not valid JSON: {0}.")]
    NotJson(String),
    /// A field that breaks its rule.
    #[error("{field} {rule}.")]
    Field {
        /// Where, such as `server_group.name`.
        field: String,
        /// The rule, such as `must be a string, and is a number`.
        rule: String,
    },
}

impl Malformed {
    /// `field` breaks `rule`.
    pub fn field(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Field { field: field.into(), rule: rule.into() }
    }
}

/// The body as whatever JSON it is.
///
/// # Errors
/// When there is none, or it is not JSON.
pub fn json(body: &[u8]) -> Result<Value, Malformed> {
    if body.trim_ascii().is_empty() {
        return Err(Malformed::EmptyBody);
    }
    serde_json::from_slice(body).map_err(|error| Malformed::NotJson(error.to_string()))
}

/// A JSON object of the body, and where it stands.
#[derive(Debug)]
pub struct Object {
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    /// The body itself.
    ///
    /// # Errors
    /// When there is none, it is not JSON, or not an object.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        Self::of(String::new(), json(body)?)
    }

    /// The object that is field `name`.
    ///
    /// # Errors
    /// When it is missing or not an object.
    pub fn object(&mut self, name: &str) -> Result<Self, Malformed> {
        let value = self.take(name)?;
        Self::of(self.path_of(name), value)
    }

    /// The text that is field `name`, read into its type.
    ///
    /// # Errors
    /// When it is missing, not a string, or breaks the type's rule.
    pub fn text<T>(&mut self, name: &str) -> Result<T, Malformed>
    where
        T: TryFrom<String, Error: std::fmt::Display>,
    {
        match self.take(name)? {
            Value::String(text) => {
                T::try_from(text).map_err(|error| Malformed::field(self.path_of(name), error.to_string()))
            }
            other => Err(self.wrong_kind(name, "a string", &other)),
        }
    }

    /// The array of texts that is field `name`.
    ///
    /// # Errors
    /// When it is missing, not an array, or holds anything but strings.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, Malformed> {
        let items = match self.take(name)? {
            Value::Array(items) => items,
            other => return Err(self.wrong_kind(name, "an array of strings", &other)),
        };
        items
            .into_iter()
            .enumerate()
            .map(|(at, item)| match item {
                Value::String(text) => Ok(text),
                other => Err(self.wrong_kind(&format!("{name}[{at}]"), "a string", &other)),
            })
            .collect()
    }

    /// The whole number that is field `name`.
    ///
    /// # Errors
    /// When it is missing, not a whole number, or out of `range`.
    pub fn whole_number(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<u64, Malformed> {
        let value = self.take(name)?;
        // JSON has one kind of number: 900.0 is 900.
        let whole = value.as_u64().or_else(|| value.as_f64()?.to_string().parse().ok());
        if let Some(number) = whole.filter(|number| range.contains(number)) {
            return Ok(number);
        }
        let (least, most) = range.into_inner();
        let found = if value.is_number() { value.to_string() } else { kind_of(&value).to_owned() };
        let rule = format!("must be a whole number from {least} to {most}, and is {found}");
        Err(Malformed::field(self.path_of(name), rule))
    }

    /// Whether nothing is left that was not read.
    ///
    /// # Errors
    /// Naming the first field that is left.
    pub fn no_more(&self) -> Result<(), Malformed> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(Malformed::field(self.path_of(name), "is not known here")),
        }
    }

    /// Whether there is a field `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The full name of a field of this object.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn of(path: String, value: Value) -> Result<Self, Malformed> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            other => {
                let field = if path.is_empty() { "request body".to_owned() } else { path };
                Err(Malformed::field(field, format!("must be an object, and is {}", kind_of(&other))))
            }
        }
    }

    fn take(&mut self, name: &str) -> Result<Value, Malformed> {
        self.fields.remove(name).ok_or_else(|| Malformed::field(self.path_of(name), "is required"))
    }

    fn wrong_kind(&self, name: &str, kind: &str, found: &Value) -> Malformed {
        Malformed::field(self.path_of(name), format!("must be {kind}, and is {}", kind_of(found)))
    }
}

/// What a JSON value is, in words.
const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
