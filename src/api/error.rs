//! The one table: everything that can go wrong with a request, and its status, code and message.
//!
//! [`Failure::answer`] is one exhaustive match; `tests/it/snapshots/` holds it as a table, so that a review sees
//! every code in one diff. Codes and messages are the vendor's ("Error Codes", ECS; "Error Codes", API Gateway;
//! "Error Codes", IAM; "Error Codes", CTS). How they are written is the dialect's, and the dialect is the path's.

use std::fmt;
use std::time::Duration;

use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::action::Action;
use crate::access::policy::DeniedReason;
use crate::access::signature::SignatureError;
use crate::api::body::Malformed;
use crate::clock::NoEntropy;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::{ProjectId, RequestId};
use crate::domain::page::PageError;
use crate::domain::refusal::Refusal;
use crate::store::{StoreError, Unavailable};

/// How long a client should wait when the store is unavailable.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Whose form an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ECS v1, and whatever is nobody else's.
    Ecs,
    /// IAM v3.
    Iam,
    /// The native OpenStack interface, Nova's.
    Nova,
    /// CTS v3, which shares its first segment with IAM.
    Cts,
    /// The control listener, which is ours.
    Control,
}

impl Dialect {
    /// The dialect of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut segments = path.trim_end_matches('/').split('/').skip(1);
        match segments.next() {
            Some("v3")
                if matches!((segments.nth(1), segments.next()), (Some("traces" | "operations"), None)) =>
            {
                Self::Cts
            }
            Some("v3" | "v3.0") => Self::Iam,
            Some("v2.1" | "v2") => Self::Nova,
            Some("control") => Self::Control,
            _ => Self::Ecs,
        }
    }

    /// Its name in the audit record.
    #[must_use]
    pub const fn door(self) -> &'static str {
        match self {
            Self::Ecs => "v1",
            Self::Iam | Self::Cts => "v3",
            Self::Nova => "v2.1",
            Self::Control => "control",
        }
    }
}

/// Why credentials are nobody's. Nothing of this is recorded; it goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// None were presented, and anonymous callers are not taken.
    #[error("Unauthorized: send X-Auth-Token, or sign the request with an access key")]
    Missing,
    /// A token that is not known.
    #[error("decrypt token fail")]
    UnknownToken,
    /// A token that was good.
    #[error("Unauthorized: the token has expired, log in again")]
    ExpiredToken,
    /// An access key that is not known.
    #[error("Get secretKey failed,ak:******,err:ak not exist")]
    UnknownAccessKey,
    /// A temporary access key that was good.
    #[error("Unauthorized: the temporary access key has expired")]
    ExpiredKey,
    /// A temporary access key without its security token.
    #[error("Unauthorized: a temporary access key needs its own X-Security-Token")]
    SecurityToken,
    /// Too many bad signatures in a row.
    #[error("AK access failed to reach the limit,forbidden.")]
    Locked,
    /// A signature that is not taken.
    #[error("{}", signature_message(*.0))]
    Signature(SignatureError),
    /// A credential header that is not text, or occurs twice.
    #[error("Unauthorized: a credential header is not text, or occurs twice")]
    Unreadable,
}

/// The gateway's words ("AK/SK signing", frequently asked questions).
fn signature_message(error: SignatureError) -> String {
    match error {
        SignatureError::Malformed(what) => format!("Unauthorized: Authorization {what}"),
        SignatureError::Expired => "calc ak sk signature fail:signature expired".to_owned(),
        SignatureError::Mismatch => error.to_string(),
    }
}

/// How long a client should wait that was turned down too often: until the minute is over, whenever it began.
const REFUSALS_RETRY_AFTER_SECONDS: u32 = 60;

/// Everything that can go wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No route has this path.
    NoSuchApi,
    /// A route has this path, but not with this method.
    MethodNotAllowed {
        /// The methods it has.
        allow: Vec<Method>,
    },
    /// The path and query are longer than `http.uri_bytes_max`.
    UriTooLong {
        /// The limit.
        uri_bytes_max: usize,
    },
    /// The client takes no JSON.
    NotAcceptable,
    /// The body is larger than `http.body_bytes_max`.
    BodyTooLarge {
        /// The limit.
        body_bytes_max: usize,
    },
    /// The body did not arrive within `http.body_deadline_ms`.
    BodyTimeout {
        /// The limit.
        body_deadline: Duration,
    },
    /// The body broke off, or its encoding is wrong.
    BodyBroken(String),
    /// The body is not JSON by its content type.
    UnsupportedContentType {
        /// What the request said, if anything.
        found: Option<Excerpt>,
    },
    /// The caller is not known.
    Unauthenticated(Unauthenticated),
    /// The control listener was not shown its token.
    NotTheOperator,
    /// A name and password, or a scope, that do not go together.
    WrongLogin(WrongLogin),
    /// Too many logins of this user from this address failed.
    TooManyLogins {
        /// When to come again.
        retry_after: Duration,
    },
    /// As many logins wait to be checked as may.
    TooManyLoginsWait,
    /// As many read the audit log along as may.
    TooManyStreams {
        /// The limit.
        streams_max: usize,
    },
    /// `X-Subject-Token` names no token that is good.
    NoSuchToken,
    /// The caller has no right.
    Denied {
        /// Why.
        reason: DeniedReason,
        /// To what.
        action: Action,
        /// On which project; `None` for a text that is no project id.
        on: Option<ProjectId>,
        /// The project that the credential is good for.
        own: Option<ProjectId>,
    },
    /// The body breaks a rule of the dialect.
    Malformed(Malformed),
    /// The query breaks a rule of the dialect.
    Page(PageError),
    /// The URL names a group by a text that is no group id, so there is none.
    NoSuchGroup {
        /// The text.
        group: Excerpt,
    },
    /// The URL names an ECS by a text that is no id, or one that nobody knows.
    NoSuchServer {
        /// The text.
        server: Excerpt,
    },
    /// The body or query breaks a rule of Nova's schema, in Nova's words.
    NativeMalformed(String),
    /// The microversion is not written as one.
    MicroversionUnreadable {
        /// What was written.
        asked: Excerpt,
    },
    /// The microversion is not served.
    MicroversionUnsupported {
        /// What was asked for.
        asked: String,
        /// The newest one.
        most: String,
    },
    /// A query for traces breaks a rule of CTS, or takes too long.
    TraceQuery(String),
    /// The caller has no right to the traces of the URL's project.
    TracesDenied(DeniedReason),
    /// The store refused, failed, or does not know.
    Store(StoreError),
    /// A mistake in this program.
    Internal(String),
}

/// Why a login is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrongLogin {
    /// No such user, or not its password; which of the two is not told.
    Password,
    /// The scope is not one of the user's account.
    Scope,
}

impl From<Unauthenticated> for Failure {
    fn from(reason: Unauthenticated) -> Self {
        Self::Unauthenticated(reason)
    }
}

impl From<WrongLogin> for Failure {
    fn from(reason: WrongLogin) -> Self {
        Self::WrongLogin(reason)
    }
}

impl From<NoEntropy> for Failure {
    fn from(error: NoEntropy) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<PageError> for Failure {
    fn from(error: PageError) -> Self {
        Self::Page(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a failure is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The vendor's code. `APIGW.…` is answered in the gateway's shape, everything else in the dialect's.
    pub code: &'static str,
    /// What is wrong, and where possible what to do.
    pub message: String,
}

impl Failure {
    /// What it is on the wire.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (status, code, message) = self.row();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Answer { status, code, message }
    }

    /// The table.
    #[expect(clippy::too_many_lines, reason = "it is one table")]
    fn row(&self) -> (u16, &'static str, String) {
        const NO_SUCH_API: &str = "The API does not exist or has not been published in the environment";
        const NOT_AUTHENTICATED: &str = "Incorrect IAM authentication information";
        const INTERNAL: &str = "A system exception occurred. Try again later or contact customer service.";
        match self {
            Self::NoSuchApi => (404, "APIGW.0101", format!("{NO_SUCH_API}: no such path.")),
            Self::MethodNotAllowed { allow } => {
                (405, "APIGW.0101", format!("{NO_SUCH_API}: this path takes {}.", list(allow)))
            }
            Self::UriTooLong { uri_bytes_max } => {
                (414, "APIGW.0201", format!("Request URI too large: more than {uri_bytes_max} bytes."))
            }
            Self::NotAcceptable => (
                406,
                "APIGW.0201",
                "API request error: every answer is application/json, and Accept leaves that out.".to_owned(),
            ),
            Self::BodyTooLarge { body_bytes_max } => {
                (413, "APIGW.0201", format!("Request entity too large: more than {body_bytes_max} bytes."))
            }
            Self::BodyTimeout { body_deadline } => {
                let limit_ms = body_deadline.as_millis();
                (408, "APIGW.0201", format!("The request body did not arrive within {limit_ms} ms."))
            }
            Self::BodyBroken(error) => {
                (400, "APIGW.0201", format!("API request error: the request body cannot be read: {error}."))
            }
            Self::UnsupportedContentType { found: Some(found) } => {
                (415, "APIGW.0201", format!("Content-Type must be application/json, and is {found}."))
            }
            Self::UnsupportedContentType { found: None } => {
                (415, "APIGW.0201", "Content-Type must be application/json, and is missing.".to_owned())
            }
            Self::Unauthenticated(reason) => (401, "APIGW.0301", format!("{NOT_AUTHENTICATED}: {reason}")),
            Self::NotTheOperator => {
                let what = "send Authorization: Bearer and the control token of the ready file";
                (401, "APIGW.0301", what.to_owned())
            }
            Self::WrongLogin(WrongLogin::Password) => {
                (401, "IAM.0001", "The username or password is wrong.".to_owned())
            }
            Self::WrongLogin(WrongLogin::Scope) => {
                let message = "The user's account has no such project or domain: look at auth.scope.";
                (401, "IAM.0001", message.to_owned())
            }
            Self::TooManyLogins { retry_after } => {
                let seconds = seconds_up(*retry_after);
                (429, "IAM.0012", format!("Too many failed logins: wait {seconds} s before the next one."))
            }
            Self::TooManyLoginsWait => {
                let message = "The service cannot answer now because too many logins wait: send it again.";
                (503, "Common.1503", message.to_owned())
            }
            Self::NoSuchToken => (404, "IAM.0004", "X-Subject-Token is invalid in the request".to_owned()),
            Self::Denied { reason: DeniedReason::OtherProject, .. } => {
                (400, "Ecs.0023", "project_id in token mismatches with project_id in url.".to_owned())
            }
            Self::Denied { reason: DeniedReason::NotOnesOwn, .. } => {
                (403, "IAM.0002", "You are not authorized to perform the requested action.".to_owned())
            }
            Self::Denied {
                reason: DeniedReason::NotAllowed | DeniedReason::ExplicitlyDenied | DeniedReason::OperatorOnly,
                action,
                ..
            } => (403, "Pdp.0001", format!("Policy doesn't allow {} to be performed.", action.name())),
            Self::Malformed(malformed @ Malformed::EmptyBody) => (400, "Common.0002", malformed.to_string()),
            Self::Malformed(malformed @ (Malformed::NotJson(_) | Malformed::Field { .. })) => {
                (400, "Ecs.0005", malformed.to_string())
            }
            Self::Page(error) => (400, "Ecs.0005", format!("{} {error}.", error.field())),
            Self::NoSuchServer { server } => (404, "Ecs.0114", server_not_found(&server.as_str())),
            Self::NativeMalformed(message) => (400, "Ecs.0005", message.clone()),
            Self::MicroversionUnreadable { asked } => (
                400,
                "Ecs.0005",
                format!(
                    "API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum."
                ),
            ),
            Self::MicroversionUnsupported { asked, most } => {
                let range = format!("Minimum is 2.1 and maximum is {most}.");
                (406, "Ecs.0005", format!("Version {asked} is not supported by the API. {range}"))
            }
            Self::TraceQuery(message) => (400, "CTS.0300", message.clone()),
            Self::TracesDenied(DeniedReason::OtherProject) => {
                let message = "project_id in token mismatches with project_id in url.";
                (403, "CTS.0013", message.to_owned())
            }
            Self::TracesDenied(
                DeniedReason::NotAllowed
                | DeniedReason::ExplicitlyDenied
                | DeniedReason::NotOnesOwn
                | DeniedReason::OperatorOnly,
            ) => {
                let action = Action::ListTraces.name();
                (403, "CTS.0013", format!("Policy doesn't allow {action} to be performed."))
            }
            Self::TooManyStreams { streams_max } => {
                let reason = format!("{streams_max} streams are open, which is as many as may be");
                (503, "Common.1503", format!("The service cannot answer now because {reason}: close one."))
            }
            Self::NoSuchGroup { group } => (404, "Ecs.1000", group_not_found(&group.as_str())),
            Self::Store(StoreError::Refused(refusal)) => refusal_row(refusal),
            Self::Store(StoreError::TooManyRefusals) => {
                let what = "too many of your requests were turned down in this minute";
                (
                    429,
                    "APIGW.0308",
                    format!("The throttling threshold has been reached: {what}, wait for the next."),
                )
            }
            Self::Store(StoreError::Unavailable(reason)) => {
                let what_next = match reason {
                    Unavailable::QueueFull | Unavailable::Busy | Unavailable::Stopping => {
                        "nothing was changed; send it again"
                    }
                    Unavailable::LogInDoubt => "nothing was changed; tell the operator",
                    Unavailable::DiskFull => "nothing was changed; send it again when there is space",
                };
                (503, "Common.1503", format!("The service cannot answer now because {reason}: {what_next}."))
            }
            Self::Store(StoreError::Disk(_)) => {
                let message = "The service cannot answer now because its disk fails: nothing was changed.";
                (503, "Common.1503", message.to_owned())
            }
            Self::Store(StoreError::OutcomeUnknown(_)) => {
                let message = "The change may or may not have been kept: look before you send it again, or send it with an \
                               Idempotency-Key, and again with the same one.";
                (500, "Common.0001", format!("{INTERNAL} {message}"))
            }
            Self::Store(
                StoreError::Corrupt { .. } | StoreError::WrongPermit { .. } | StoreError::Database(_),
            )
            | Self::Internal(_) => (500, "Common.0001", INTERNAL.to_owned()),
        }
    }
}

/// The part of the table about what a rule turned down.
fn refusal_row(refusal: &Refusal) -> (u16, &'static str, String) {
    match refusal {
        Refusal::GroupNotFound { group_id } => (404, "Ecs.1000", group_not_found(group_id)),
        Refusal::GroupQuotaReached { .. } => {
            let message = "Quota exceeded, too many server groups.";
            (403, "Ecs.1000", wrapped_fault("forbidden", message, 403))
        }
        Refusal::ServerNotFound { server_id } => (404, "Ecs.0114", server_not_found(server_id)),
        Refusal::MemberQuotaReached { .. } => {
            (400, "Ecs.0022", "The number of ECSs is beyond the ECS group quota limit.".to_owned())
        }
        Refusal::MemberOfOtherGroup { .. }
        | Refusal::NotAMember { .. }
        | Refusal::ServerNotStopped { .. }
        | Refusal::HostTaken { .. } => {
            (400, "Ecs.1000", wrapped_fault("badRequest", &native_refusal(refusal), 400))
        }
        Refusal::KeyReused => {
            let what =
                "Idempotency-Key was used with another request body: use another key for another request.";
            (422, "Ecs.0005", what.to_owned())
        }
        Refusal::TokenNotFound => Failure::NoSuchToken.row(),
    }
}

impl Failure {
    /// What Nova says of it, where that differs.
    fn native_message(&self) -> Option<String> {
        let text = |text: &str| Some(text.to_owned());
        match self {
            Self::NoSuchApi => text("The resource could not be found."),
            Self::MethodNotAllowed { .. } => text("The method is not allowed for this resource."),
            Self::UnsupportedContentType { .. } => text("Unsupported Content-Type"),
            Self::Malformed(Malformed::NotJson(_) | Malformed::EmptyBody) => text("Malformed request body"),
            Self::NoSuchGroup { group } => Some(native_group_not_found(&group.as_str())),
            Self::Store(StoreError::Refused(refusal)) => Some(native_refusal(refusal)),
            Self::Denied { reason: DeniedReason::OtherProject, on, own, .. } => {
                let shown = |id: &Option<ProjectId>| id.map_or("?".to_owned(), |id| id.to_string());
                Some(format!(
                    "Malformed request URL: URL's project_id '{}' doesn't match Context's project_id '{}'",
                    shown(on),
                    shown(own)
                ))
            }
            _ => None,
        }
    }
}

/// Nova's fault as v1 passes it on: a text inside ECS's own shape (seen in answers of "Adding an ECS to an ECS Group").
fn wrapped_fault(fault: &str, message: &str, code: u16) -> String {
    let message = serde_json::Value::from(message);
    format!(r#"{{"{fault}": {{"message": {message}, "code": {code}}}}}"#)
}

fn group_not_found(group: &impl fmt::Display) -> String {
    wrapped_fault("itemNotFound", &native_group_not_found(group), 404)
}

fn native_group_not_found(group: &impl fmt::Display) -> String {
    format!("Instance group {group} could not be found.")
}

fn server_not_found(server: &impl fmt::Display) -> String {
    format!("Instance[{server}] could not be found.")
}

/// A refusal in Nova's words, as far as Nova has any.
fn native_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::GroupNotFound { group_id } => native_group_not_found(group_id),
        Refusal::GroupQuotaReached { .. } => "Quota exceeded, too many server groups.".to_owned(),
        Refusal::MemberQuotaReached { .. } => "Quota exceeded, too many servers in group".to_owned(),
        Refusal::ServerNotFound { server_id } => server_not_found(server_id),
        Refusal::ServerNotStopped { server_id } => {
            format!("Instance {server_id} can not add, cause its state is not STOPPED")
        }
        Refusal::MemberOfOtherGroup { server_id, group_id } => {
            format!("Instance {server_id} is already a member of the server group {group_id}.")
        }
        Refusal::NotAMember { server_id } => {
            format!("Instance {server_id} is not a member of this server group.")
        }
        Refusal::HostTaken { server_id, other_id } => {
            let on = format!("and {server_id} is on the host of {other_id}");
            format!("The instances of an anti-affinity group must be deployed on different hosts, {on}.")
        }
        Refusal::KeyReused | Refusal::TokenNotFound => refusal.to_string(),
    }
}

/// Whole seconds, after which it is certainly over.
fn seconds_up(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Methods as `Allow` lists them.
pub(super) fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// A failure of a v1 request, or of one that reached no dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError(pub Failure);

impl<F: Into<Failure>> From<F> for ApiError {
    fn from(failure: F) -> Self {
        Self(failure.into())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { code, message, .. } = self.0.answer();
        write!(f, "{code} {message}")
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.0.answer().status
    }

    /// Only the status and headers: the body needs the request's id, and is rendered by [`ApiError::render`].
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        if let Failure::BodyTooLarge { .. } | Failure::BodyTimeout { .. } | Failure::BodyBroken(_) = self.0 {
            // The rest of the body is not waited for.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        let headers = response.headers_mut();
        match &self.0 {
            Failure::MethodNotAllowed { allow } => {
                if let Ok(value) = HeaderValue::try_from(list(allow)) {
                    headers.insert(ALLOW, value);
                }
            }
            Failure::NotTheOperator => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Failure::Unauthenticated(_) | Failure::WrongLogin(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("X-Auth-Token"));
            }
            Failure::TooManyLoginsWait
            | Failure::TooManyStreams { .. }
            | Failure::Store(StoreError::Unavailable(_) | StoreError::Disk(_)) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            Failure::Store(StoreError::TooManyRefusals) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(REFUSALS_RETRY_AFTER_SECONDS));
            }
            Failure::TooManyLogins { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(*retry_after)));
            }
            _ => {}
        }
        response
    }
}

impl ApiError {
    /// The body, in the gateway's shape or in the dialect's.
    #[must_use]
    pub fn render(&self, dialect: Dialect, request_id: RequestId) -> Vec<u8> {
        let Answer { status, code, message } = self.0.answer();
        // The gateway checks signatures for every service, and tokens for none but ECS.
        let is_of_gateway = match (&self.0, dialect) {
            (Failure::Unauthenticated(reason), Dialect::Iam) => !matches!(
                reason,
                Unauthenticated::Missing | Unauthenticated::UnknownToken | Unauthenticated::ExpiredToken
            ),
            (_, Dialect::Nova | Dialect::Control) => false,
            _ => code.starts_with("APIGW."),
        };
        let body = match dialect {
            _ if is_of_gateway => serde_json::to_vec(&GatewayBody {
                error_msg: &message,
                error_code: code,
                request_id: request_id.to_string(),
            }),
            Dialect::Nova => {
                let message = self.0.native_message().unwrap_or(message);
                let retry_after = matches!(status.as_u16(), 413 | 429).then_some("0");
                let fault = Fault { code: status.as_u16(), message: &message, retry_after };
                serde_json::to_vec(&std::collections::BTreeMap::from([(fault_name(status), fault)]))
            }
            Dialect::Control => {
                // For people, and nobody's dialect.
                let message = match &self.0 {
                    Failure::Store(StoreError::Refused(refusal)) => refusal.to_string(),
                    _ => message,
                };
                serde_json::to_vec(&std::collections::BTreeMap::from([("error", message)]))
            }
            Dialect::Ecs => serde_json::to_vec(&EcsBody { error: EcsBodyError { message: &message, code } }),
            Dialect::Cts => serde_json::to_vec(&CodeBody { error_code: code, error_msg: &message }),
            // Two shapes stand in IAM's documents; these codes stand in the second.
            Dialect::Iam if matches!(code, "IAM.0002" | "IAM.0012") => {
                serde_json::to_vec(&CodeBody { error_code: code, error_msg: &message })
            }
            Dialect::Iam => {
                let message = match &self.0 {
                    Failure::Malformed(malformed) => format!("The request body is invalid: {malformed}"),
                    _ => message,
                };
                let title = status.canonical_reason().unwrap_or_default();
                let error = IamBodyError { code: status.as_u16(), message: &message, title };
                serde_json::to_vec(&IamBody { error })
            }
        };
        body.unwrap_or_default()
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct EcsBody<'answer> {
    error: EcsBodyError<'answer>,
}

#[derive(Serialize, ToSchema)]
struct EcsBodyError<'answer> {
    message: &'answer str,
    code: &'answer str,
}

/// Nova's fault of a status (`nova.api.openstack.wsgi`, "Fault").
fn fault_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Fault<'answer> {
    code: u16,
    message: &'answer str,
    #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    retry_after: Option<&'static str>,
}

/// IAM v3, whose code is the status.
#[derive(Serialize, ToSchema)]
pub(super) struct IamBody<'answer> {
    error: IamBodyError<'answer>,
}

#[derive(Serialize, ToSchema)]
struct IamBodyError<'answer> {
    code: u16,
    message: &'answer str,
    title: &'answer str,
}

/// CTS v3, and some of IAM's.
#[derive(Serialize, ToSchema)]
pub(super) struct CodeBody<'answer> {
    error_code: &'answer str,
    error_msg: &'answer str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct GatewayBody<'answer> {
    error_msg: &'answer str,
    error_code: &'answer str,
    request_id: String,
}
