//! The one table of errors: every status, code, shape and message, so that a review sees each in one diff.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::ResponseError as _;
use actix_web::http::Method;
use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::DeniedReason;
use ecs_groupd::access::signature::SignatureError;
use ecs_groupd::api::body::Malformed;
use ecs_groupd::api::cts;
use ecs_groupd::api::error::{ApiError, Dialect, Failure, Unauthenticated, WrongLogin};
use ecs_groupd::domain::excerpt::Excerpt;
use ecs_groupd::domain::id::{GroupId, RequestId, ServerId};
use ecs_groupd::domain::page::PageError;
use ecs_groupd::domain::refusal::Refusal;
use ecs_groupd::store::{StoreError, Unavailable};
use serde_json::{Value, json};

const REQUEST: RequestId = RequestId::from_bytes([0x44; 16]);
const SERVER: ServerId = ServerId::from_bytes([0x66; 16]);
const OTHER: ServerId = ServerId::from_bytes([0x67; 16]);
const GROUP: GroupId = GroupId::from_bytes([0x22; 16]);

/// A sample for each pattern. The patterns are one exhaustive match, so that a new variant does not compile until it
/// has its sample here.
macro_rules! samples {
    ($($pattern:pat => $sample:expr,)*) => {
        fn samples() -> Vec<Failure> {
            #[deny(unreachable_patterns)]
            fn is_listed(failure: &Failure) -> bool {
                match failure { $($pattern => true,)* }
            }
            $(assert!(matches!($sample, $pattern), "{:?} is no {}", $sample, stringify!($pattern));)*
            let samples = vec![$($sample),*];
            assert!(samples.iter().all(is_listed));
            samples
        }
    };
}

samples! {
    Failure::NoSuchApi => Failure::NoSuchApi,
    Failure::MethodNotAllowed { .. } => Failure::MethodNotAllowed { allow: vec![Method::GET, Method::POST] },
    Failure::UriTooLong { .. } => Failure::UriTooLong { uri_bytes_max: 32_768 },
    Failure::NotAcceptable => Failure::NotAcceptable,
    Failure::BodyTooLarge { .. } => Failure::BodyTooLarge { body_bytes_max: 1_048_576 },
    Failure::BodyTimeout { .. } => Failure::BodyTimeout { body_deadline: Duration::from_secs(10) },
    Failure::BodyBroken(_) => Failure::BodyBroken("it broke off".to_owned()),
    Failure::UnsupportedContentType { found: Some(_) }
        => Failure::UnsupportedContentType { found: Some(Excerpt::of("text/plain")) },
    Failure::UnsupportedContentType { found: None } => Failure::UnsupportedContentType { found: None },
    Failure::Unauthenticated(Unauthenticated::Missing)
        => Failure::Unauthenticated(Unauthenticated::Missing),
    Failure::Unauthenticated(Unauthenticated::UnknownToken)
        => Failure::Unauthenticated(Unauthenticated::UnknownToken),
    Failure::Unauthenticated(Unauthenticated::ExpiredToken)
        => Failure::Unauthenticated(Unauthenticated::ExpiredToken),
    Failure::Unauthenticated(Unauthenticated::UnknownAccessKey)
        => Failure::Unauthenticated(Unauthenticated::UnknownAccessKey),
    Failure::Unauthenticated(Unauthenticated::ExpiredKey)
        => Failure::Unauthenticated(Unauthenticated::ExpiredKey),
    Failure::Unauthenticated(Unauthenticated::SecurityToken)
        => Failure::Unauthenticated(Unauthenticated::SecurityToken),
    Failure::Unauthenticated(Unauthenticated::Locked)
        => Failure::Unauthenticated(Unauthenticated::Locked),
    Failure::Unauthenticated(Unauthenticated::Unreadable)
        => Failure::Unauthenticated(Unauthenticated::Unreadable),
    Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Malformed(_)))
        => Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Malformed("has no Access"))),
    Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Expired))
        => Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Expired)),
    Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Mismatch))
        => Failure::Unauthenticated(Unauthenticated::Signature(SignatureError::Mismatch)),
    Failure::NotTheOperator => Failure::NotTheOperator,
    Failure::WrongLogin(WrongLogin::Password) => Failure::WrongLogin(WrongLogin::Password),
    Failure::WrongLogin(WrongLogin::Scope) => Failure::WrongLogin(WrongLogin::Scope),
    Failure::TooManyLogins { .. } => Failure::TooManyLogins { retry_after: Duration::from_millis(59_999) },
    Failure::TooManyLoginsWait => Failure::TooManyLoginsWait,
    Failure::TooManyStreams { .. } => Failure::TooManyStreams { streams_max: 64 },
    Failure::NoSuchToken => Failure::NoSuchToken,
    Failure::Denied { reason: DeniedReason::OtherProject, .. }
        => Failure::Denied { reason: DeniedReason::OtherProject, action: Action::DeleteServerGroup, on: None, own: None },
    Failure::Denied { reason: DeniedReason::NotAllowed, .. }
        => Failure::Denied { reason: DeniedReason::NotAllowed, action: Action::DeleteServerGroup, on: None, own: None },
    Failure::Denied { reason: DeniedReason::ExplicitlyDenied, .. }
        => Failure::Denied { reason: DeniedReason::ExplicitlyDenied, action: Action::DeleteServerGroup, on: None, own: None },
    Failure::Denied { reason: DeniedReason::NotOnesOwn, .. }
        => Failure::Denied { reason: DeniedReason::NotOnesOwn, action: Action::RevokeToken, on: None, own: None },
    Failure::Denied { reason: DeniedReason::OperatorOnly, .. }
        => Failure::Denied { reason: DeniedReason::OperatorOnly, action: Action::ResetDatabase, on: None, own: None },
    Failure::Malformed(Malformed::EmptyBody) => Failure::Malformed(Malformed::EmptyBody),
    Failure::Malformed(Malformed::NotJson(_))
        => Failure::Malformed(Malformed::NotJson("expected value at line 1 column 1".to_owned())),
    Failure::Malformed(Malformed::Field { .. })
        => Failure::Malformed(Malformed::field("server_group.name", "is required")),
    Failure::Page(PageError::Limit(_)) => Failure::Page(PageError::Limit(Excerpt::of("0"))),
    Failure::Page(PageError::Marker(_)) => Failure::Page(PageError::Marker(Excerpt::of("x"))),
    Failure::Page(PageError::MarkerAlone) => Failure::Page(PageError::MarkerAlone),
    Failure::NoSuchGroup { .. } => Failure::NoSuchGroup { group: Excerpt::of("x \"y\"") },
    Failure::TraceQuery(_) => Failure::TraceQuery("limit must be a whole number from 0 to 200, and is \"x\".".to_owned()),
    Failure::TracesDenied(DeniedReason::OtherProject) => Failure::TracesDenied(DeniedReason::OtherProject),
    Failure::TracesDenied(_) => Failure::TracesDenied(DeniedReason::NotAllowed),
    Failure::Store(StoreError::Refused(Refusal::GroupNotFound { .. }))
        => Failure::Store(StoreError::Refused(Refusal::GroupNotFound { group_id: GROUP })),
    Failure::Store(StoreError::Refused(Refusal::GroupQuotaReached { .. }))
        => Failure::Store(StoreError::Refused(Refusal::GroupQuotaReached { groups_max: 10 })),
    Failure::NoSuchServer { .. } => Failure::NoSuchServer { server: Excerpt::of("x \"y\"") },
    Failure::NativeMalformed(_) => Failure::NativeMalformed("Malformed request body".to_owned()),
    Failure::MicroversionUnreadable { .. } => Failure::MicroversionUnreadable { asked: Excerpt::of("two") },
    Failure::MicroversionUnsupported { .. }
        => Failure::MicroversionUnsupported { asked: "2.99".to_owned(), most: "2.60".to_owned() },
    Failure::Store(StoreError::Refused(Refusal::ServerNotFound { .. }))
        => Failure::Store(StoreError::Refused(Refusal::ServerNotFound { server_id: SERVER })),
    Failure::Store(StoreError::Refused(Refusal::MemberOfOtherGroup { .. }))
        => Failure::Store(StoreError::Refused(Refusal::MemberOfOtherGroup { server_id: SERVER, group_id: GROUP })),
    Failure::Store(StoreError::Refused(Refusal::NotAMember { .. }))
        => Failure::Store(StoreError::Refused(Refusal::NotAMember { server_id: SERVER })),
    Failure::Store(StoreError::Refused(Refusal::MemberQuotaReached { .. }))
        => Failure::Store(StoreError::Refused(Refusal::MemberQuotaReached { members_max: 16 })),
    Failure::Store(StoreError::Refused(Refusal::ServerNotStopped { .. }))
        => Failure::Store(StoreError::Refused(Refusal::ServerNotStopped { server_id: SERVER })),
    Failure::Store(StoreError::Refused(Refusal::HostTaken { .. }))
        => Failure::Store(StoreError::Refused(Refusal::HostTaken { server_id: SERVER, other_id: OTHER })),
    Failure::Store(StoreError::Refused(Refusal::KeyReused))
        => Failure::Store(StoreError::Refused(Refusal::KeyReused)),
    Failure::Store(StoreError::Refused(Refusal::TokenNotFound))
        => Failure::Store(StoreError::Refused(Refusal::TokenNotFound)),
    Failure::Store(StoreError::Unavailable(Unavailable::QueueFull))
        => Failure::Store(StoreError::Unavailable(Unavailable::QueueFull)),
    Failure::Store(StoreError::Unavailable(Unavailable::DiskFull))
        => Failure::Store(StoreError::Unavailable(Unavailable::DiskFull)),
    Failure::Store(StoreError::Unavailable(Unavailable::Busy))
        => Failure::Store(StoreError::Unavailable(Unavailable::Busy)),
    Failure::Store(StoreError::Unavailable(Unavailable::LogInDoubt))
        => Failure::Store(StoreError::Unavailable(Unavailable::LogInDoubt)),
    Failure::Store(StoreError::Unavailable(Unavailable::Stopping))
        => Failure::Store(StoreError::Unavailable(Unavailable::Stopping)),
    Failure::Store(StoreError::TooManyRefusals) => Failure::Store(StoreError::TooManyRefusals),
    Failure::Store(StoreError::OutcomeUnknown(_))
        => Failure::Store(StoreError::OutcomeUnknown(SECRET.to_owned())),
    Failure::Store(StoreError::Disk(_)) => Failure::Store(StoreError::Disk(SECRET.to_owned())),
    Failure::Store(StoreError::Corrupt { .. })
        => Failure::Store(StoreError::Corrupt { table: "server_group", key: SECRET.to_owned() }),
    Failure::Store(StoreError::WrongPermit { .. }) => Failure::Store(StoreError::WrongPermit {
        permitted: Action::ShowServerGroup,
        attempted: Action::DeleteServerGroup,
    }),
    Failure::Store(StoreError::Database(_)) => Failure::Store(StoreError::Database(SECRET.to_owned())),
    Failure::Internal(_) => Failure::Internal(SECRET.to_owned()),
}

/// Stands where a failure holds what is for the log alone.
const SECRET: &str = "/var/lib/ecs-groupd: line 7 of the inside";

/// The shape of a body, and its code and message, after checking that it has exactly the keys of its shape.
fn shape(body: &[u8]) -> (&'static str, String, String) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some((fault, inside)) = body.as_object().and_then(|body| body.iter().next())
        && inside["code"].is_u64()
        && inside.get("title").is_none()
    {
        let code = format!("{fault} {}", inside["code"]);
        assert_eq!(body.as_object().unwrap().len(), 1);
        return ("nova", code, text(&inside["message"]));
    }
    if body["error"]["title"].is_string() {
        let (code, message, title) = (
            body["error"]["code"].as_u64().unwrap(),
            text(&body["error"]["message"]),
            &body["error"]["title"],
        );
        assert_eq!(body, json!({ "error": { "code": code, "message": message, "title": title } }));
        ("iam", code.to_string(), message)
    } else if body.get("error").is_some() {
        let (code, message) = (text(&body["error"]["code"]), text(&body["error"]["message"]));
        assert_eq!(body, json!({ "error": { "message": message, "code": code } }));
        ("ecs", code, message)
    } else if body.get("request_id").is_some() {
        let (code, message) = (text(&body["error_code"]), text(&body["error_msg"]));
        let request_id = REQUEST.to_string();
        assert_eq!(body, json!({ "error_msg": message, "error_code": code, "request_id": request_id }));
        ("gateway", code, message)
    } else {
        let (code, message) = (text(&body["error_code"]), text(&body["error_msg"]));
        assert_eq!(body, json!({ "error_code": code, "error_msg": message }));
        ("code", code, message)
    }
}

fn table(dialect: Dialect) -> String {
    let mut table = format!("{:<7}{:<12}{:<9}message\n", "status", "code", "shape");
    for failure in samples() {
        let status = failure.answer().status.as_u16();
        let (shape, code, message) = shape(&ApiError(failure).render(dialect, REQUEST));
        writeln!(table, "{status:<7}{code:<12}{shape:<9}{message}").unwrap();
    }
    table
}

#[test]
fn every_failure_has_its_status_code_shape_and_message() {
    insta::assert_snapshot!(table(Dialect::Ecs));
}

#[test]
fn every_failure_has_its_status_code_shape_and_message_in_iam() {
    insta::assert_snapshot!(table(Dialect::Iam));
}

#[test]
fn every_failure_has_its_status_fault_and_message_in_nova() {
    insta::assert_snapshot!(table(Dialect::Nova));
}

#[test]
fn every_failure_has_its_status_code_shape_and_message_in_cts() {
    insta::assert_snapshot!(table(Dialect::Cts));
}

#[test]
fn a_trace_has_the_status_that_its_request_was_answered_with() {
    for failure in samples() {
        let name = match &failure {
            Failure::Store(StoreError::Refused(refusal)) => refusal.name(),
            Failure::Denied { reason, .. } => reason.name(),
            _ => continue,
        };
        assert_eq!(cts::status_of_reason(name), Some(failure.answer().status.as_u16()), "{name}");
    }
}

#[test]
fn only_the_listing_of_traces_and_of_operations_is_of_cts() {
    for path in ["/v3/x/traces", "/v3/x/operations", "/v3/x/traces/"] {
        assert_eq!(Dialect::of(path), Dialect::Cts, "{path}");
    }
    for path in ["/v3", "/v3/traces", "/v3/x/traces/y", "/v3/auth/projects", "/v3.0/x/traces"] {
        assert_eq!(Dialect::of(path), Dialect::Iam, "{path}");
    }
    for (path, dialect) in
        [("/", Dialect::Ecs), ("/v1/x/traces", Dialect::Ecs), ("/v2/x/traces", Dialect::Nova)]
    {
        assert_eq!(Dialect::of(path), dialect, "{path}");
    }
}

#[test]
fn what_is_for_the_log_alone_is_not_told_to_clients() {
    for failure in samples() {
        for dialect in [Dialect::Ecs, Dialect::Iam, Dialect::Cts, Dialect::Nova] {
            let body = String::from_utf8(ApiError(failure.clone()).render(dialect, REQUEST)).unwrap();
            assert!(!body.contains(SECRET), "{body}");
        }
    }
}

#[test]
fn each_status_has_the_headers_that_clients_act_on_and_no_other_has() {
    for failure in samples() {
        let response = ApiError(failure.clone()).error_response();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        let status = response.status().as_u16();
        assert_eq!(header("allow"), (status == 405).then_some("GET, POST"), "{failure:?}");
        let scheme = if failure == Failure::NotTheOperator { "Bearer" } else { "X-Auth-Token" };
        assert_eq!(header("www-authenticate"), (status == 401).then_some(scheme), "{failure:?}");
        let retry_after = match status {
            503 => Some("1"),
            429 => Some("60"),
            _ => None,
        };
        assert_eq!(header("retry-after"), retry_after, "{failure:?}");
    }
}

/// The rows of the README's table of errors: code and status.
fn readme_rows() -> std::collections::BTreeSet<(String, u16)> {
    let readme = include_str!("../../README.md");
    let table = readme.split("\n## Errors\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let code = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        assert!(cells.len() == 6 && !cells[3].is_empty() && !cells[4].is_empty(), "{line}");
        Some(
            cells[2]
                .split(", ")
                .map(move |status| (code.to_owned(), status.parse().unwrap()))
                .collect::<Vec<_>>(),
        )
    });
    rows.flatten().collect()
}

#[test]
fn the_readme_has_every_code_and_status_that_there_is_and_no_other() {
    let answers = samples().into_iter().map(|failure| failure.answer());
    let there_are = answers.map(|answer| (answer.code.to_owned(), answer.status.as_u16())).collect();
    assert_eq!(readme_rows(), there_are);
}
