//! One request and its answer: the request's id, its span, its log line, and the body of every error.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, Accept, CONTENT_TYPE, Header as _, HeaderName, HeaderValue, Quality, QualityItem,
};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpRequest};
use mime::Mime;
use tracing::Instrument as _;

use crate::api::HttpLimits;
use crate::api::caller::Caller;
use crate::api::error::{ApiError, Dialect, Failure};
use crate::api::{nova, unread};
use crate::clock::Ids;
use crate::domain::id::RequestId;

/// The header that the vendor's SDKs read a request's id from.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A worker's own source of request ids.
pub(crate) struct RequestIds(RefCell<Ids>);

impl RequestIds {
    /// A new source, split off the shared one.
    pub(crate) fn fork(ids: &Mutex<Ids>) -> Self {
        Self(RefCell::new(ids.lock().unwrap_or_else(PoisonError::into_inner).fork()))
    }
}

/// Wraps the whole application: gives the request its id and span; gives every answer `X-Request-Id`, every error its
/// body, and the log its line.
///
/// # Errors
/// None of its own.
pub async fn observe(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let request_id = match request.app_data::<RequestIds>() {
        Some(ids) => ids.0.borrow_mut().request_id(),
        None => RequestId::from_bytes([0; 16]),
    };
    request.extensions_mut().insert(request_id);
    unread::put_body_aside(&mut request);
    let span = tracing::info_span!("http.request", %request_id);
    let mut response = match too_long(&request).or_else(|| not_acceptable(&request)) {
        Some(failure) => request.error_response(ApiError(failure)),
        None => next.call(request).instrument(span).await?,
    };
    if response.response().error().is_some() {
        response = with_error_body(response, request_id);
    }
    response = unread::hold(response);
    if let Ok(value) = HeaderValue::try_from(request_id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if Dialect::of(response.request().path()) == Dialect::Nova {
        nova::put_headers(&mut response, request_id);
    }
    log(&response, request_id, started);
    Ok(response)
}

fn too_long(request: &ServiceRequest) -> Option<Failure> {
    let HttpLimits { uri_bytes_max, .. } = ***request.app_data::<Data<HttpLimits>>()?;
    let uri = request.uri();
    let uri_bytes = uri.path_and_query().map_or(0, |text| text.as_str().len());
    (uri_bytes > uri_bytes_max).then_some(Failure::UriTooLong { uri_bytes_max })
}

/// Every answer but the explorer's page is JSON, which a client that says what it takes must take.
fn not_acceptable(request: &ServiceRequest) -> Option<Failure> {
    let is_json = |range: &QualityItem<Mime>| {
        let (kind, subtype) = (range.item.type_(), range.item.subtype());
        range.quality != Quality::ZERO
            && (kind == mime::STAR
                || kind == mime::APPLICATION && [mime::STAR, mime::JSON].contains(&subtype))
    };
    if !request.headers().contains_key(ACCEPT) || request.path().starts_with("/explorer") {
        return None;
    }
    // One that cannot be read says nothing.
    let accept = Accept::parse(request.request()).ok()?;
    let says_something = !accept.0.is_empty();
    (says_something && !accept.0.iter().any(is_json)).then_some(Failure::NotAcceptable)
}

/// The trace that a request belongs to, by its `traceparent` (W3C "Trace Context", version 00).
fn trace_of(request: &HttpRequest) -> Option<&str> {
    let text = request.headers().get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match parts[..] {
        ["00", trace, parent, flags]
            if is_hex(trace, 32)
                && is_hex(parent, 16)
                && is_hex(flags, 2)
                && trace.bytes().any(|digit| digit != b'0') =>
        {
            Some(trace)
        }
        _ => None,
    }
}

/// Puts the vendor's body on an error. What is not ours, such as an error of the framework, becomes ours by its
/// status.
fn with_error_body(response: ServiceResponse<BoxBody>, request_id: RequestId) -> ServiceResponse<BoxBody> {
    let error = match response.response().error().and_then(Error::as_error::<ApiError>) {
        Some(error) => error.clone(),
        None => ApiError(foreign(&response)),
    };
    // The client is told no more than its status; what it was stands here.
    match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => tracing::warn!(%request_id, failure = ?error.0, "turned away"),
        status if status.is_server_error() => tracing::error!(%request_id, failure = ?error.0, "failed"),
        _ => {}
    }
    let dialect = Dialect::of(response.request().path());
    let mut response = response.map_body(|_, _| BoxBody::new(error.render(dialect, request_id)));
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn foreign(response: &ServiceResponse<BoxBody>) -> Failure {
    let text = response.response().error().map(ToString::to_string).unwrap_or_default();
    match response.status() {
        StatusCode::NOT_FOUND => Failure::NoSuchApi,
        status if status.is_client_error() => Failure::BodyBroken(text),
        _ => Failure::Internal(text),
    }
}

/// One line for each response. The path, not the query: nobody's secret belongs in either, but a query is where one
/// would be.
fn log(response: &ServiceResponse<BoxBody>, request_id: RequestId, started: Instant) {
    let request = response.request();
    let extensions = request.extensions();
    let user = extensions.get::<Caller>().map(|caller| caller.principal.user.name.as_str());
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        method = request.method().as_str(),
        path = request.path(),
        status = response.status().as_u16(),
        micros,
        %request_id,
        trace = trace_of(request),
        user,
        "answered"
    );
}
