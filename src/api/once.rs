//! `Idempotency-Key`: a request that is sent again with its key has the same answer, and is done once.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use sha2::{Digest as _, Sha256};

use crate::api::body::Malformed;
use crate::api::caller::Caller;
use crate::api::error::{ApiError, Failure};
use crate::domain::session::SecretDigest;
use crate::store::Once;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The request's `Idempotency-Key`, if it has one: its user's own, for a project and a path.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyKey(Option<Once>);

impl IdempotencyKey {
    /// By what the request is known again.
    #[must_use]
    pub const fn once(self) -> Option<Once> {
        self.0
    }

    /// By what the `nth` of several commands of the request is known again.
    #[must_use]
    pub fn of_nth(self, nth: usize) -> Option<Once> {
        self.0.map(|Once { digest, body_digest }| {
            let nth = nth.to_be_bytes();
            Once { digest: digest_of(&[digest.as_bytes(), &nth]), body_digest }
        })
    }

    fn read(request: &HttpRequest) -> Result<Self, Failure> {
        let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
        let Some(key) = values.next() else { return Ok(Self(None)) };
        let is_good = (1..=KEY_BYTES_MAX).contains(&key.len()) && values.next().is_none();
        if !is_good {
            let rule = format!("must occur once, and have 1 to {KEY_BYTES_MAX} bytes");
            return Err(Malformed::field("Idempotency-Key", rule).into());
        }
        let extensions = request.extensions();
        let (Some(caller), Some(body)) = (extensions.get::<Caller>(), extensions.get::<Bytes>()) else {
            return Err(Failure::Internal("a route without authentication asks for its key".to_owned()));
        };
        let principal = &caller.principal;
        let project = principal.project_id().map_or([0; 16], |project_id| *project_id.as_bytes());
        let path = request.path().trim_end_matches('/');
        let digest =
            digest_of(&[principal.user.user_id.as_bytes(), &project, path.as_bytes(), key.as_bytes()]);
        Ok(Self(Some(Once { digest, body_digest: digest_of(&[body]) })))
    }
}

/// Over parts whose ends count.
fn digest_of(parts: &[&[u8]]) -> SecretDigest {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    SecretDigest::from_bytes(digest.finalize().into())
}

impl FromRequest for IdempotencyKey {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::read(request).map_err(ApiError))
    }
}
