//! One source of settings against the settings that there are: names and kinds.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use super::SettingsError;

/// The full names of all values in a source, and the values.
pub(super) fn values(source: &Map<String, Value>) -> BTreeMap<String, ValueKind> {
    fn walk(path: &str, value: &Value, values: &mut BTreeMap<String, ValueKind>) {
        match &value.kind {
            ValueKind::Table(table) => {
                for (name, value) in table {
                    walk(&format!("{path}.{name}"), value, values);
                }
            }
            kind => drop(values.insert(path.to_owned(), kind.clone())),
        }
    }
    let mut values = BTreeMap::new();
    for (name, value) in source {
        walk(name, value, &mut values);
    }
    values
}

/// Checks that each value of a source is of a setting that there is, and of the kind that its default is.
pub(super) fn check_source(
    known: &BTreeMap<String, ValueKind>,
    source: &Map<String, Value>,
    place: &str,
) -> Result<(), SettingsError> {
    for (key, found) in values(source) {
        let Some(expected) = known.get(&key) else {
            let nearest = nearest(known, &key);
            return Err(SettingsError::UnknownKey { key, place: place.to_owned(), nearest });
        };
        // A variable is always text; what it says must be of the kind.
        let kind = match (expected, &found) {
            (ValueKind::Boolean(_), ValueKind::Boolean(_))
            | (ValueKind::String(_), ValueKind::String(_))
            | (ValueKind::I64(_), ValueKind::I64(_)) => continue,
            (ValueKind::Boolean(_), ValueKind::String(text)) if text.parse::<bool>().is_ok() => continue,
            (ValueKind::I64(_), ValueKind::String(text)) if text.parse::<i64>().is_ok() => continue,
            (ValueKind::Boolean(_), _) => "true or false",
            (ValueKind::I64(_), _) => "a whole number",
            _ => "a text",
        };
        return Err(SettingsError::Kind { key, place: place.to_owned(), kind, found: found.to_string() });
    }
    Ok(())
}

fn nearest(known: &BTreeMap<String, ValueKind>, key: &str) -> Option<String> {
    known
        .keys()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(candidate, key), candidate))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(similarity, _)| *similarity > 0.7)
        .map(|(_, candidate)| candidate.clone())
}
