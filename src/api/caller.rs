//! From a request to a caller: the bounded body, the credentials, and what a handler extracts of them.

use std::future::{Ready, ready};
use std::pin::Pin;

use actix_web::body::{self, BodyStream, BoxBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest};

use crate::access::action::Action;
use crate::access::policy::{self, Permit};
use crate::access::principal::{Credential, Origin, Principal, User};
use crate::access::signature::{Signature, SignatureError, SignedRequest};
use crate::access::token;
use crate::api::body::{self as json_body, Object};
use crate::api::error::{ApiError, Dialect, Failure, Unauthenticated};
use crate::api::gate::Gate;
use crate::api::target::{UrlGroup, UrlProject};
use crate::api::{self, HttpLimits, unread};
use crate::clock::Clock;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::ProjectId;
use crate::domain::session::{LoginMethod, Scope, TemporaryKey};
use crate::domain::time::Timestamp;
use crate::identities::{Current, Identities, SecretKey};
use crate::store::Store;

/// The header that carries a token ("Authentication", token authentication).
pub(super) const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// The project of a signed request, where its URL names none ("AK/SK authentication").
const X_PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");
/// What goes with a temporary access key.
const X_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-security-token");

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
        Err(failure) => Ok(request.error_response(ApiError(failure))),
    }
}

/// Reads the body within its limits.
///
/// # Errors
/// None of its own: what is too large or too slow gets its answer here.
pub async fn admit_anybody(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match read_body(&mut request).await {
        Ok(body) => {
            request.extensions_mut().insert(body);
            next.call(request).await
        }
        Err(failure) => Ok(request.error_response(ApiError(failure))),
    }
}

async fn admit(request: &mut ServiceRequest) -> Result<(), Failure> {
    let body = read_body(request).await?;
    let caller = Caller::known(request.request(), &body).await?;
    let mut extensions = request.extensions_mut();
    extensions.insert(caller);
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

/// An authenticated caller, and the request it makes.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// From where, by which request.
    pub origin: Origin,
    /// When the credential ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it came.
    pub now: Timestamp,
    /// The group that the URL names.
    pub group: UrlGroup,
}

impl Caller {
    /// Who presented these credentials. Whatever is presented must verify, also where none would do.
    ///
    /// # Errors
    /// Why it is nobody known.
    pub async fn known(request: &HttpRequest, body: &Bytes) -> Result<Self, Failure> {
        let identities = app_data::<Current>(request)?.get();
        let now = app_data::<Clock>(request)?.now();
        let origin = api::origin(request, Dialect::of(request.path()).door());
        let (principal, expires_at) = match (text(request, &AUTHORIZATION)?, text(request, &X_AUTH_TOKEN)?) {
            (Some(authorization), _) => {
                let incoming = Incoming { request, body, identities: &identities, origin, now };
                incoming.signer(authorization).await?
            }
            (None, Some(token)) => {
                let holder = holder(app_data(request)?, &identities, token, now).await?;
                (holder.principal, holder.expires_at)
            }
            (None, None) => (identities.anonymous().ok_or(Unauthenticated::Missing)?, None),
        };
        Ok(Self { principal, origin, expires_at, now, group: UrlGroup::of(request) })
    }

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
    ) -> Result<(Permit, ProjectId), Failure> {
        self.permit_by(store, action, action, project).await
    }

    /// The same, where the right to `action` is the one to `right`.
    ///
    /// # Errors
    /// As [`Caller::permit`].
    pub async fn permit_by(
        &self,
        store: &Store,
        action: Action,
        right: Action,
        project: UrlProject,
    ) -> Result<(Permit, ProjectId), Failure> {
        let permit = policy::permit_by(&self.principal, self.origin, action, right, project.id(), self.now);
        match (permit, project.id()) {
            (Ok(permit), Some(project_id)) => Ok((permit, project_id)),
            (Ok(_), None) => Err(Failure::Internal("a permit for no project".to_owned())),
            (Err(mut denied), _) => {
                denied.group_id = self.group.id().ok();
                Err(deny(store, denied, right).await)
            }
        }
    }
}

/// Records an attempt without rights, when something was to be changed. The answer names `right`.
pub(super) async fn deny(store: &Store, denied: Box<policy::Denied>, right: Action) -> Failure {
    let policy::Denied { reason, action, on, .. } = *denied;
    let own = denied.principal.project_id();
    if action.is_mutation()
        && let Err(error) = store.record(*denied).await
    {
        return error.into();
    }
    Failure::Denied { reason, action: right, on, own }
}

/// The only value of a header, as text.
pub(super) fn text<'request>(
    request: &'request HttpRequest,
    name: &HeaderName,
) -> Result<Option<&'request str>, Unauthenticated> {
    let mut values = request.headers().get_all(name).map(HeaderValue::to_str);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        _ => Err(Unauthenticated::Unreadable),
    }
}

/// Whose token this is.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) principal: Principal,
    /// How it logged in.
    pub(super) method: LoginMethod,
    pub(super) issued_at: Timestamp,
    /// `None` for a token that is always good.
    pub(super) expires_at: Option<Timestamp>,
}

/// Whose token this is, if it is good.
pub(super) async fn holder(
    store: &Store,
    identities: &Identities,
    presented: &str,
    now: Timestamp,
) -> Result<Holder, Failure> {
    if let Some(principal) = identities.by_fixed_token(presented) {
        return Ok(Holder { principal, method: LoginMethod::Password, issued_at: now, expires_at: None });
    }
    let session = store.token(token::digest(presented)).await?.ok_or(Unauthenticated::UnknownToken)?;
    if session.expires_at <= now {
        return Err(Unauthenticated::ExpiredToken.into());
    }
    if identities.credentials_digest(session.user_id) != Some(session.credentials) {
        return Err(Unauthenticated::UnknownToken.into());
    }
    // Its user, or the user's project, may be gone since.
    let principal = identities.principal(session.user_id, session.scope, Credential::Token);
    let principal = principal.ok_or(Unauthenticated::UnknownToken)?;
    let (method, issued_at) = (session.method, session.issued_at);
    Ok(Holder { principal, method, issued_at, expires_at: Some(session.expires_at) })
}

/// A request whose signature is to be checked.
struct Incoming<'request> {
    request: &'request HttpRequest,
    body: &'request Bytes,
    identities: &'request Identities,
    origin: Origin,
    now: Timestamp,
}

impl SignedRequest for Incoming<'_> {
    fn method(&self) -> &str {
        self.request.method().as_str()
    }

    fn path(&self) -> &str {
        self.request.uri().path()
    }

    fn query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.request.headers().get_all(name).map(HeaderValue::as_bytes)
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}

impl Incoming<'_> {
    /// Who signed, and when the key ends.
    async fn signer(&self, authorization: &str) -> Result<(Principal, Option<Timestamp>), Failure> {
        let signature = Signature::parse(authorization).map_err(Unauthenticated::Signature)?;
        let access_key = signature.access_key();
        let (user, secret, temporary) = if let Some((user, secret)) = self.identities.access_key(access_key) {
            (user, secret, None)
        } else {
            let store: &Store = app_data(self.request)?;
            let key = store.temporary_key(access_key).await?.ok_or(Unauthenticated::UnknownAccessKey)?;
            let user = self.identities.user(key.user_id).ok_or(Unauthenticated::UnknownAccessKey)?;
            (user, self.temporary_secret(&key)?, Some(key))
        };
        self.check(&signature, &secret)?;
        let key = access_key.clone();
        let credential =
            if temporary.is_some() { Credential::TemporaryKey(key) } else { Credential::AccessKey(key) };
        let principal = self.scoped(&user, credential)?;
        Ok((principal, temporary.map(|key| key.expires_at)))
    }

    /// Checks the signature, and counts a bad one.
    fn check(&self, signature: &Signature<'_>, secret: &SecretKey) -> Result<(), Failure> {
        let locks = &app_data::<Gate>(self.request)?.locks;
        let (key, source_ip) = (signature.access_key(), self.origin.source_ip);
        signature.check_date(self, self.now).map_err(Unauthenticated::Signature)?;
        if locks.is_locked(key, source_ip, self.now) {
            return Err(Unauthenticated::Locked.into());
        }
        match signature.verify(self, secret.expose()) {
            Ok(()) => {
                locks.succeeded(key, source_ip);
                Ok(())
            }
            Err(error) => {
                if error == SignatureError::Mismatch {
                    locks.failed(key, source_ip, self.now);
                }
                Err(Unauthenticated::Signature(error).into())
            }
        }
    }

    /// The secret of a temporary key, if the security token that belongs to it is there too.
    fn temporary_secret(&self, key: &TemporaryKey) -> Result<SecretKey, Failure> {
        let presented = text(self.request, &X_SECURITY_TOKEN)?.ok_or(Unauthenticated::SecurityToken)?;
        if !token::matches(&key.digest, presented) {
            return Err(Unauthenticated::SecurityToken.into());
        }
        if key.expires_at <= self.now {
            return Err(Unauthenticated::ExpiredKey.into());
        }
        let secret = self.identities.temporary_secret(key.user_id, &key.access_key);
        secret.ok_or_else(|| Unauthenticated::UnknownAccessKey.into())
    }

    /// A key is good for every project of its account: for the one that the request names.
    fn scoped(&self, user: &User, credential: Credential) -> Result<Principal, Failure> {
        let domain_id = user.domain.domain_id;
        let named = match text(self.request, &X_PROJECT_ID)? {
            Some(text) => Some(text),
            None => self.request.match_info().get("project_id"),
        };
        // One that is not the account's is none: the permit says so.
        let project = named.and_then(|text| self.identities.project_of(domain_id, text.parse().ok()?));
        let scope = project.map_or(Scope::Domain(domain_id), |project| Scope::Project(project.project_id));
        let principal = self.identities.principal(user.user_id, scope, credential);
        principal.ok_or_else(|| Unauthenticated::UnknownAccessKey.into())
    }
}

/// The caller, if the request has credentials in its headers; a route that takes them elsewhere too asks for this.
#[derive(Debug)]
pub struct PresentedCaller(pub Option<Caller>);

impl FromRequest for PresentedCaller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let is_presented =
                [&AUTHORIZATION, &X_AUTH_TOKEN].iter().any(|name| request.headers().contains_key(*name));
            if !is_presented {
                return Ok(Self(None));
            }
            let body = request.extensions().get::<Bytes>().cloned().unwrap_or_default();
            Ok(Self(Some(Caller::known(&request, &body).await?)))
        })
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

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

    /// The body as whatever JSON it is.
    ///
    /// # Errors
    /// When there is none, or it is not JSON.
    pub fn value(&self) -> Result<serde_json::Value, Failure> {
        Ok(json_body::json(&self.0)?)
    }
}

impl FromRequest for JsonBody {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(body) = request.extensions().get::<Bytes>().cloned() else {
            return ready(Err(internal("a route that reads no body asks for it")));
        };
        // No body needs no content type: it is refused as an empty body.
        if body.is_empty() || is_json(request) {
            return ready(Ok(Self(body)));
        }
        let found = request.headers().get(CONTENT_TYPE);
        let found = found.map(|value| Excerpt::of(&String::from_utf8_lossy(value.as_bytes())));
        ready(Err(ApiError(Failure::UnsupportedContentType { found })))
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

fn internal(what: &str) -> ApiError {
    ApiError(Failure::Internal(what.to_owned()))
}
