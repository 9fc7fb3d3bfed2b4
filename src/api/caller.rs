//! From a request to a caller: the bounded body, the credentials, and what a handler extracts of them.

use std::future::{Ready, ready};

use actix_web::body::{self, BodyStream, BoxBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest};

use crate::access::action::Action;
use crate::access::policy::{self, Permit};
use crate::access::principal::{Origin, Principal};
use crate::api::body::Object;
use crate::api::error::{EcsError, Failure};
use crate::api::target::UrlProject;
use crate::api::{self, HttpLimits, unread};
use crate::domain::excerpt::Excerpt;
use crate::identities::{Identities, Presented, Unauthenticated};
use crate::store::Store;

/// The header that carries a token ("Authentication", token authentication).
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Reads the body within its limits and finds out who the caller is, before anything of the body is parsed.
///
/// # Errors
/// None of its own: what is too large, too slow or unknown gets its answer here.
pub async fn authenticate(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(&mut request).await {
        Ok(()) => next.call(request).await,
        Err(failure) => Ok(request.error_response(EcsError(failure))),
    }
}

async fn admit(request: &mut ServiceRequest) -> Result<(), Failure> {
    let body = read_body(request).await?;
    let principal = principal(request.request())?;
    let origin = api::origin(request.request(), "v1");
    let mut extensions = request.extensions_mut();
    extensions.insert(Caller { principal, origin });
    extensions.insert(body);
    Ok(())
}

/// The whole body, if it is small enough and arrives in time.
async fn read_body(request: &mut ServiceRequest) -> Result<Bytes, Failure> {
    let HttpLimits { body_bytes_max, body_deadline, .. } = *app_data::<HttpLimits>(request.request())?;
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > body_bytes_max as u64) {
        return Err(Failure::BodyTooLarge { body_bytes_max });
    }
    let mut payload = unread::take_unread(request.request());
    let read = body::to_bytes_limited(BodyStream::new(&mut payload), body_bytes_max);
    let failure = match tokio::time::timeout(body_deadline, read).await {
        Ok(Ok(Ok(body))) => return Ok(body),
        Ok(Ok(Err(error))) => Failure::BodyBroken(error.to_string()),
        Ok(Err(_too_large)) => Failure::BodyTooLarge { body_bytes_max },
        Err(_elapsed) => Failure::BodyTimeout { body_deadline },
    };
    unread::keep_unread(request, payload);
    Err(failure)
}

fn principal(request: &HttpRequest) -> Result<Principal, Failure> {
    let text = |name: &HeaderName| {
        let mut values = request.headers().get_all(name).map(HeaderValue::to_str);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(Ok(text)), None) => Ok(Some(text)),
            _ => Err(Failure::Unauthenticated(Unauthenticated::Unreadable)),
        }
    };
    let presented = Presented { token: text(&X_AUTH_TOKEN)?, authorization: text(&AUTHORIZATION)? };
    app_data::<Identities>(request)?.authenticate(presented).map_err(Failure::Unauthenticated)
}

/// An authenticated caller, and the request it makes.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// From where, by which request.
    pub origin: Origin,
}

impl Caller {
    /// Permits `action` on the project of the URL. An attempt to change something without the right is recorded
    /// before it is answered.
    ///
    /// # Errors
    /// The denial, or why it could not be recorded.
    pub async fn permit(
        &self,
        store: &Store,
        action: Action,
        project: UrlProject,
    ) -> Result<Permit, Failure> {
        match policy::permit(&self.principal, self.origin, action, project.id()) {
            Ok(permit) => Ok(permit),
            Err(denied) => {
                let reason = denied.reason;
                if action.is_mutation() {
                    store.record(denied).await?;
                }
                Err(Failure::Denied(reason))
            }
        }
    }
}

impl FromRequest for Caller {
    type Error = EcsError;
    type Future = Ready<Result<Self, EcsError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| internal("a route without authentication asks for its caller")))
    }
}

/// A body whose content type is JSON. It is parsed by [`JsonBody::object`], which a handler calls after its permit.
#[derive(Clone, Debug)]
pub struct JsonBody(Bytes);

impl JsonBody {
    /// The body as an object.
    ///
    /// # Errors
    /// When there is none, it is not JSON, or not an object.
    pub fn object(&self) -> Result<Object, Failure> {
        Ok(Object::parse(&self.0)?)
    }
}

impl FromRequest for JsonBody {
    type Error = EcsError;
    type Future = Ready<Result<Self, EcsError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(body) = request.extensions().get::<Bytes>().cloned() else {
            return ready(Err(internal("a route without authentication asks for its body")));
        };
        // No body needs no content type: it is refused as an empty body.
        if body.is_empty() || is_json(request) {
            return ready(Ok(Self(body)));
        }
        let found = request.headers().get(CONTENT_TYPE);
        let found = found.map(|value| Excerpt::of(&String::from_utf8_lossy(value.as_bytes())));
        ready(Err(EcsError(Failure::UnsupportedContentType { found })))
    }
}

/// Whether the content type is `application/json`, in UTF-8 if it says so at all.
fn is_json(request: &HttpRequest) -> bool {
    let mime = request.mime_type().ok().flatten();
    mime.is_some_and(|mime| {
        let charset = mime.get_param("charset");
        mime.essence_str() == "application/json" && charset.is_none_or(|charset| charset == "utf-8")
    })
}

fn app_data<T: 'static>(request: &HttpRequest) -> Result<&T, Failure> {
    let data = request.app_data::<Data<T>>().map(Data::get_ref);
    data.ok_or_else(|| Failure::Internal(format!("{} is not wired", std::any::type_name::<T>())))
}

fn internal(what: &str) -> EcsError {
    EcsError(Failure::Internal(what.to_owned()))
}
