//! The conditions of a statement: operators, keys, and what a request has for each key.
//!
//! Sources: "Policy Syntax" (IAM, 1.1), "Identity Policy Syntax" (IAM 5.0). One table serves both grammars: an
//! operator that one of them has is understood in the other.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use crate::access::action::Action;
use crate::access::glob::{self, Rules};
use crate::access::principal::User;
use crate::domain::time::Timestamp;

/// What a request brings to a condition.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'request> {
    /// What is asked for.
    pub action: Action,
    /// Who asks.
    pub user: &'request User,
    /// In which project; `None` for the account as a whole.
    pub project_name: Option<&'request str>,
    /// From where.
    pub source_ip: Option<IpAddr>,
    /// When.
    pub now: Timestamp,
}

/// One line of a statement's `Condition`: an operator, a key, and the values it is compared with.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    pub(super) key: Key,
    pub(super) expected: Expected,
}

/// What a condition tests, and what it says of a request that lacks the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) test: Test,
    /// Holds where the test does not: `StringNotEquals`.
    is_negated: bool,
    /// `…IfExists`: holds where the key is absent.
    is_if_exists: bool,
    quantifier: Option<Quantifier>,
}

/// How a key of several values is tested. No key that a request has here is one, so it only decides absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equals {
        ignores_case: bool,
    },
    Like,
    StartWith,
    EndWith,
    Number(Order),
    Date(Order),
    Bool,
    /// The key is absent; with `true`, also when it is empty.
    Null {
        or_empty: bool,
    },
    Ip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, found: &T, expected: &T) -> bool {
        match self {
            Self::Equal => found == expected,
            Self::Less => found < expected,
            Self::LessOrEqual => found <= expected,
            Self::Greater => found > expected,
            Self::GreaterOrEqual => found >= expected,
        }
    }
}

/// Every operator there is, without prefixes and suffixes, and whether it is negated.
pub(super) const OPERATORS: [(&str, Test, bool); 29] = [
    ("StringEquals", Test::Equals { ignores_case: false }, false),
    ("StringNotEquals", Test::Equals { ignores_case: false }, true),
    ("StringEqualsIgnoreCase", Test::Equals { ignores_case: true }, false),
    ("StringNotEqualsIgnoreCase", Test::Equals { ignores_case: true }, true),
    ("StringLike", Test::Like, false),
    ("StringNotLike", Test::Like, true),
    ("StringMatch", Test::Like, false),
    ("StringNotMatch", Test::Like, true),
    ("StringStartWith", Test::StartWith, false),
    ("StringNotStartWith", Test::StartWith, true),
    ("StringEndWith", Test::EndWith, false),
    ("StringNotEndWith", Test::EndWith, true),
    ("NumberEquals", Test::Number(Order::Equal), false),
    ("NumberNotEquals", Test::Number(Order::Equal), true),
    ("NumberLessThan", Test::Number(Order::Less), false),
    ("NumberLessThanEquals", Test::Number(Order::LessOrEqual), false),
    ("NumberGreaterThan", Test::Number(Order::Greater), false),
    ("NumberGreaterThanEquals", Test::Number(Order::GreaterOrEqual), false),
    ("DateEquals", Test::Date(Order::Equal), false),
    ("DateNotEquals", Test::Date(Order::Equal), true),
    ("DateLessThan", Test::Date(Order::Less), false),
    ("DateLessThanEquals", Test::Date(Order::LessOrEqual), false),
    ("DateGreaterThan", Test::Date(Order::Greater), false),
    ("DateGreaterThanEquals", Test::Date(Order::GreaterOrEqual), false),
    ("Bool", Test::Bool, false),
    ("Null", Test::Null { or_empty: false }, false),
    ("IsNullOrEmpty", Test::Null { or_empty: true }, false),
    ("IpAddress", Test::Ip, false),
    ("NotIpAddress", Test::Ip, true),
];

impl Operator {
    /// `ForAllValues:` or `ForAnyValue:`, the name, `AnyOf`, `IfExists`; all but the name may be missing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (quantifier, rest) = if let Some(rest) = text.strip_prefix("ForAllValues:") {
            (Some(Quantifier::All), rest)
        } else if let Some(rest) = text.strip_prefix("ForAnyValue:") {
            (Some(Quantifier::Any), rest)
        } else {
            (None, text)
        };
        let (name, is_if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        // Several values are alternatives in either form.
        let (name, is_any_of) = match name.strip_suffix("AnyOf") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (_, kind, is_negated) = OPERATORS.into_iter().find(|(known, ..)| *known == name)?;
        if is_any_of && !name.starts_with("String") {
            return None;
        }
        Some(Self { test: kind, is_negated, is_if_exists, quantifier })
    }
}

/// What of the request is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    CurrentTime,
    DomainId,
    DomainName,
    MfaPresent,
    PrincipalUrn,
    ProjectName,
    ServiceName,
    SourceIp,
    UserId,
    UserName,
    /// A key that no request here has: of another service, or about what does not exist here.
    Absent,
}

/// The vendor's global keys ("Global Condition Keys"). Those that end in `/` go on with a tag's name.
const KEYS: [(&str, Key); 21] = [
    ("g:CurrentTime", Key::CurrentTime),
    ("g:DomainId", Key::DomainId),
    ("g:PrincipalAccount", Key::DomainId),
    ("g:DomainName", Key::DomainName),
    ("g:MFAPresent", Key::MfaPresent),
    ("g:MFAAge", Key::Absent),
    ("g:PrincipalUrn", Key::PrincipalUrn),
    ("g:PrincipalOrgPath", Key::Absent),
    ("g:ProjectName", Key::ProjectName),
    ("g:ServiceName", Key::ServiceName),
    ("g:SourceIp", Key::SourceIp),
    ("g:SourceVpc", Key::Absent),
    ("g:SourceVpce", Key::Absent),
    ("g:UserId", Key::UserId),
    ("g:UserName", Key::UserName),
    ("g:ResourceTag/", Key::Absent),
    ("g:RequestTag/", Key::Absent),
    ("g:TagKeys", Key::Absent),
    ("g:EnterpriseProjectId", Key::Absent),
    ("g:SourceAccount", Key::Absent),
    ("g:SourceUrn", Key::Absent),
];

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_it = |known: &str| match known.strip_suffix('/') {
            Some(prefix) => text
                .split_once('/')
                .is_some_and(|(name, tag)| name.eq_ignore_ascii_case(prefix) && !tag.is_empty()),
            None => text.eq_ignore_ascii_case(known),
        };
        if let Some((_, key)) = KEYS.iter().find(|(known, _)| is_it(known)) {
            return Ok(key.clone());
        }
        match text.split_once(':') {
            Some((service, name))
                if !service.is_empty()
                    && !service.eq_ignore_ascii_case("g")
                    && !name.is_empty()
                    && !text.contains(char::is_whitespace) =>
            {
                Ok(Self::Absent)
            }
            _ => {
                let known = KEYS.map(|(name, _)| name).join(", ");
                Err(format!("unknown condition key {text:?}: a global key is one of {known}"))
            }
        }
    }
}

/// What a request has for a key.
enum Found<'request> {
    Text(&'request str),
    Time(Timestamp),
    Ip(IpAddr),
    Bool(bool),
}

impl Found<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Time(time) => Cow::Owned(time.to_iso8601()),
            Self::Ip(ip) => Cow::Owned(ip.to_canonical().to_string()),
            Self::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        }
    }

    fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Time(time) => Some(*time),
            other => date(&other.text()),
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip.to_canonical()),
            other => other.text().parse().ok(),
        }
    }
}

impl<'request> Circumstances<'request> {
    fn find(&self, key: &Key) -> Option<Found<'request>> {
        match key {
            Key::CurrentTime => Some(Found::Time(self.now)),
            Key::DomainId => Some(Found::Text(self.user.domain_id_text())),
            Key::DomainName => Some(Found::Text(&self.user.domain.name)),
            // Nobody logs in with a second factor here.
            Key::MfaPresent => Some(Found::Bool(false)),
            Key::PrincipalUrn => Some(Found::Text(self.user.urn())),
            Key::ProjectName => self.project_name.map(Found::Text),
            Key::ServiceName => Some(Found::Text(self.action.service())),
            Key::SourceIp => self.source_ip.map(Found::Ip),
            Key::UserId => Some(Found::Text(self.user.user_id_text())),
            Key::UserName => Some(Found::Text(&self.user.name)),
            Key::Absent => None,
        }
    }
}

/// The values of a condition, of the kind that its operator compares.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Texts(Vec<String>),
    Numbers(Vec<f64>),
    Dates(Vec<Timestamp>),
    Bools(Vec<bool>),
    Nets(Vec<IpNet>),
}

impl Condition {
    /// Whether the request is as the condition wants it.
    pub(super) fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let found = circumstances.find(&self.key);
        if let (Test::Null { or_empty }, Expected::Bools(expected)) = (self.operator.test, &self.expected) {
            let is_null = found.is_none_or(|found| or_empty && found.text().is_empty());
            return expected.contains(&is_null);
        }
        match found {
            Some(found) => self.is_any_met(&found) != self.operator.is_negated,
            None if self.operator.is_if_exists => true,
            None => match self.operator.quantifier {
                Some(quantifier) => quantifier == Quantifier::All,
                None => self.operator.is_negated,
            },
        }
    }

    fn is_any_met(&self, found: &Found<'_>) -> bool {
        match &self.expected {
            Expected::Texts(texts) => {
                let found = found.text();
                texts.iter().any(|text| self.operator.test.is_met_by(&found, text))
            }
            Expected::Numbers(numbers) => {
                let Test::Number(order) = self.operator.test else { return false };
                found
                    .text()
                    .parse()
                    .is_ok_and(|found| numbers.iter().any(|number| order.holds::<f64>(&found, number)))
            }
            Expected::Dates(dates) => {
                let Test::Date(order) = self.operator.test else { return false };
                found.time().is_some_and(|found| dates.iter().any(|date| order.holds(&found, date)))
            }
            Expected::Bools(bools) => match found {
                Found::Bool(found) => bools.contains(found),
                other => boolean(&other.text()).is_some_and(|found| bools.contains(&found)),
            },
            Expected::Nets(nets) => {
                found.ip().is_some_and(|found| nets.iter().any(|net| net.contains(&found)))
            }
        }
    }
}

impl Test {
    fn is_met_by(self, found: &str, expected: &str) -> bool {
        match self {
            Self::Equals { ignores_case: false } => found == expected,
            Self::Equals { ignores_case: true } => {
                found == expected || found.to_lowercase() == expected.to_lowercase()
            }
            Self::Like => {
                glob::matches(expected, found, Rules { has_question_mark: true, ignores_case: false })
            }
            Self::StartWith => found.starts_with(expected),
            Self::EndWith => found.ends_with(expected),
            Self::Number(_) | Self::Date(_) | Self::Bool | Self::Null { .. } | Self::Ip => false,
        }
    }

    /// Reads values of the kind that the test compares.
    pub(super) fn expected(self, values: Vec<String>) -> Result<Expected, String> {
        fn each<T>(
            values: &[String],
            kind: &str,
            read: impl Fn(&str) -> Option<T>,
        ) -> Result<Vec<T>, String> {
            let read_one = |text: &String| read(text).ok_or_else(|| format!("{text:?} is not {kind}"));
            values.iter().map(read_one).collect()
        }
        Ok(match self {
            Self::Equals { .. } | Self::Like | Self::StartWith | Self::EndWith => Expected::Texts(values),
            Self::Number(_) => {
                let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
                Expected::Numbers(each(&values, "a number", number)?)
            }
            Self::Date(_) => {
                Expected::Dates(each(&values, "a date of ISO 8601, as 2026-01-02T03:04:05Z", date)?)
            }
            Self::Bool | Self::Null { .. } => Expected::Bools(each(&values, "true or false", boolean)?),
            Self::Ip => {
                Expected::Nets(each(&values, "an address or a range of them, as 192.0.2.0/24", network)?)
            }
        })
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn date(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Iso8601::DEFAULT).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

/// A range, or an address as the range of itself.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
