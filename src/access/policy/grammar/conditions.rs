//! Reading a statement's `Condition`: operators, keys and values.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{CONDITIONS_MAX, VALUE_CHARS_MAX, VALUES_MAX};
use crate::access::policy::condition::{Condition, Expected, Key, OPERATORS, Operator, Test};

/// Reads the whole of a statement's `Condition`: all must hold.
#[derive(Clone, Copy)]
pub(super) struct ConditionsOf {
    /// By the limits of the 1.x grammar.
    pub(super) is_limited: bool,
}

impl<'de> DeserializeSeed<'de> for ConditionsOf {
    type Value = Vec<Condition>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Condition>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ConditionsOf {
    type Value = Vec<Condition>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of operators, as {\"StringEquals\": {\"g:UserName\": [\"alice\"]}}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Condition>, A::Error> {
        let mut conditions = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let Some(operator) = Operator::parse(&name) else {
                let known = OPERATORS.map(|(name, ..)| name).join(", ");
                return Err(de::Error::custom(format!("unknown operator {name:?}: there are {known}")));
            };
            conditions.extend(map.next_value_seed(KeysOf { operator, is_limited: self.is_limited })?);
        }
        if self.is_limited && !(1..=CONDITIONS_MAX).contains(&conditions.len()) {
            let found = conditions.len();
            let rule = format!("{found} conditions in one statement: there may be 1 to {CONDITIONS_MAX}");
            return Err(de::Error::custom(rule));
        }
        Ok(conditions)
    }
}

struct KeysOf {
    operator: Operator,
    is_limited: bool,
}

impl<'de> DeserializeSeed<'de> for KeysOf {
    type Value = Vec<Condition>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeysOf {
    type Value = Vec<Condition>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of condition keys, as {\"g:UserName\": [\"alice\"]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut conditions = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let key = Key::parse(&name).map_err(de::Error::custom)?;
            let expected =
                map.next_value_seed(ValuesOf { test: self.operator.test, is_limited: self.is_limited })?;
            conditions.push(Condition { operator: self.operator, key, expected });
        }
        // It would always hold.
        if conditions.is_empty() {
            Err(de::Error::custom("an operator without a key"))
        } else {
            Ok(conditions)
        }
    }
}

struct ValuesOf {
    test: Test,
    is_limited: bool,
}

impl ValuesOf {
    fn read<E: de::Error>(self, values: Vec<String>) -> Result<Expected, E> {
        if values.is_empty() {
            return Err(E::custom("a condition without values"));
        }
        if self.is_limited && values.len() > VALUES_MAX {
            return Err(E::custom(format!("more than {VALUES_MAX} values in one condition")));
        }
        if self.is_limited && values.iter().any(|value| value.chars().count() > VALUE_CHARS_MAX) {
            return Err(E::custom(format!("a value of more than {VALUE_CHARS_MAX} characters")));
        }
        self.test.expected(values).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ValuesOf {
    type Value = Expected;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Expected, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuesOf {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or an array of values")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Expected, E> {
        self.read(vec![ScalarVisitor.visit_str(text)?])
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Expected, E> {
        self.read(vec![ScalarVisitor.visit_bool(flag)?])
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Expected, E> {
        self.read(vec![ScalarVisitor.visit_u64(number)?])
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Expected, E> {
        self.read(vec![ScalarVisitor.visit_i64(number)?])
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Expected, E> {
        self.read(vec![ScalarVisitor.visit_f64(number)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Expected, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element::<Scalar>()? {
            values.push(value.0);
        }
        self.read(values)
    }
}

/// A value in the list of a condition, as text.
struct Scalar(String);

impl<'de> de::Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Self)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<String, E> {
        Ok(flag.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}
