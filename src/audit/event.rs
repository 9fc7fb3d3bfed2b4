//! A record as it is read back from its canonical bytes, whoever wrote them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::audit::record::TraceId;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::time::Timestamp;

/// What the bytes of a record say. Unknown keys are passed over: a newer version may have more of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Event<'bytes> {
    /// The format version.
    pub v: u8,
    /// Its place in the log, from 1.
    pub seq: u64,
    /// The id that CTS shows.
    #[serde(borrow)]
    pub trace_id: Cow<'bytes, str>,
    /// The wall clock when it was decided, in milliseconds.
    pub time: u64,
    /// The same, but never before the record in front of it.
    pub record_time: u64,
    /// The request's id.
    #[serde(borrow)]
    pub request_id: Cow<'bytes, str>,
    /// Where the request came from.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub source_ip: Option<Cow<'bytes, str>>,
    /// The door it came in by.
    #[serde(borrow)]
    pub door: Cow<'bytes, str>,
    /// Who asked.
    #[serde(borrow)]
    pub actor: ActorEvent<'bytes>,
    /// What for, by the action's name.
    #[serde(borrow)]
    pub action: Cow<'bytes, str>,
    /// In which project.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub project_id: Option<Cow<'bytes, str>>,
    /// What it was about.
    #[serde(borrow)]
    pub resource: ResourceEvent<'bytes>,
    /// What was asked for: an object that depends on the action.
    #[serde(borrow)]
    pub asked: &'bytes RawValue,
    /// What came of it.
    pub outcome: Outcome,
    /// Why nothing came of it.
    #[serde(borrow)]
    pub reason: Option<ReasonEvent<'bytes>>,
}

/// Who asked. All but `type` is there only of a user.
#[derive(Clone, Debug, Deserialize)]
pub struct ActorEvent<'bytes> {
    /// `user`, `operator` or `service`.
    #[serde(borrow)]
    pub r#type: Cow<'bytes, str>,
    /// The user's id.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub user_id: Option<Cow<'bytes, str>>,
    /// Its name.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub user_name: Option<Cow<'bytes, str>>,
    /// Its account's id.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub domain_id: Option<Cow<'bytes, str>>,
    /// Its account's name.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub domain_name: Option<Cow<'bytes, str>>,
    /// Whether it is the account itself.
    #[serde(default)]
    pub is_root: bool,
    /// What it showed to be known by.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub credential: Option<Cow<'bytes, str>>,
    /// The access key that it signed with.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub access_key: Option<Cow<'bytes, str>>,
}

/// What an attempt was about.
#[derive(Clone, Debug, Deserialize)]
pub struct ResourceEvent<'bytes> {
    /// What kind of thing.
    #[serde(borrow)]
    pub r#type: Cow<'bytes, str>,
    /// Its id, where there is one.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub id: Option<Cow<'bytes, str>>,
    /// Its name, where it is known.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub name: Option<Cow<'bytes, str>>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It changed what it was to change.
    Done,
    /// It was so already.
    Unchanged,
    /// A rule turned it down.
    Refused,
    /// The caller had no right.
    Denied,
}

/// Why nothing came of an attempt.
#[derive(Clone, Debug, Deserialize)]
pub struct ReasonEvent<'bytes> {
    /// A short, stable name.
    #[serde(borrow)]
    pub name: Cow<'bytes, str>,
    /// In words.
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub message: Option<Cow<'bytes, str>>,
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// They do not parse.
    #[error("its bytes are no record: {0}")]
    NotARecord(String),
    /// A newer program wrote them.
    #[error("its format version is {0}, and this ecs-groupd knows 1: use a newer one")]
    Newer(u8),
}

/// A text as it stands in the bytes, where it needs no unescaping: serde does so by itself for a bare `Cow` only.
fn borrowed<'bytes, D: Deserializer<'bytes>>(from: D) -> Result<Option<Cow<'bytes, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'bytes>(#[serde(borrow)] Cow<'bytes, str>);
    Ok(Option::<Text<'bytes>>::deserialize(from)?.map(|Text(text)| text))
}

impl<'bytes> Event<'bytes> {
    /// Reads the bytes of a record.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn parse(bytes: &'bytes [u8]) -> Result<Self, EventError> {
        let event: Self =
            serde_json::from_slice(bytes).map_err(|error| EventError::NotARecord(error.to_string()))?;
        if event.v == 1 { Ok(event) } else { Err(EventError::Newer(event.v)) }
    }

    /// The id that CTS shows, if it is one.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id.parse().ok()
    }

    /// The project, if it is one.
    #[must_use]
    pub fn project_id(&self) -> Option<ProjectId> {
        self.project_id.as_deref()?.parse().ok()
    }

    /// The group that the attempt was about, where there is one.
    #[must_use]
    pub fn group_id(&self) -> Option<GroupId> {
        match (&*self.resource.r#type, &self.resource.id) {
            ("server_group", Some(id)) => id.parse().ok(),
            _ => None,
        }
    }

    /// When it was decided, never before the record in front of it.
    #[must_use]
    pub const fn record_time(&self) -> Timestamp {
        Timestamp::from_millis(self.record_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_record_reads_back() {
        let golden = include_str!("../../tests/vectors/audit_records_v1.ndjson");
        for (at, line) in golden.lines().enumerate() {
            let event = Event::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(event.seq, at as u64 + 1);
            assert_eq!(event.trace_id().unwrap().seq(), event.seq);
            assert_eq!(event.project_id().is_some(), event.project_id.is_some());
            assert_eq!(event.reason.is_some(), matches!(event.outcome, Outcome::Refused | Outcome::Denied));
        }
    }

    #[test]
    fn a_newer_version_is_named_and_what_is_no_record_is_refused() {
        let golden = include_str!("../../tests/vectors/audit_records_v1.ndjson");
        let newer = golden.lines().next().unwrap().replacen(r#""v":1"#, r#""v":2"#, 1);
        assert_eq!(Event::parse(newer.as_bytes()).unwrap_err(), EventError::Newer(2));
        for bytes in [&b""[..], b"{}", b"null", b"\xff", br#"{"v":1}"#] {
            assert!(matches!(Event::parse(bytes), Err(EventError::NotARecord(_))));
        }
    }
}
