//! Request bodies that nobody reads to their end.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpRequest};

/// Puts the request's body aside, so that whatever nobody reads of it is still there when the answer is made.
pub(crate) fn put_body_aside(request: &mut ServiceRequest) {
    let payload = request.take_payload();
    if !matches!(payload, Payload::None) {
        keep_unread(request, payload);
    }
}

/// The request's body, or what is left of it.
pub(crate) fn take_unread(request: &HttpRequest) -> Payload {
    request.extensions_mut().remove().unwrap_or(Payload::None)
}

/// Keeps what was not read of the request's body.
pub(crate) fn keep_unread(request: &ServiceRequest, unread: Payload) {
    request.extensions_mut().insert(unread);
}

/// Holds what was not read of the request's body until its answer is sent.
pub(crate) fn hold(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    match take_unread(response.request()) {
        Payload::None => response,
        unread => response.map_body(|_, body| BoxBody::new(HoldingBody { body, _unread: unread })),
    }
}

/// An answer that holds what was not read of its request's body.
///
/// The framework closes a connection whose request was not read to its end, except where the rest is chunked and
/// nobody holds it any more: that it reads for ever. So it is held until the answer is sent.
struct HoldingBody {
    body: BoxBody,
    _unread: Payload,
}

impl MessageBody for HoldingBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(cx)
    }
}
