//! AK/SK signatures: `SDK-HMAC-SHA256` and `V11-HMAC-SHA256` ("API Request Signing Guide", AK/SK signing).
//!
//! The canonical request is rebuilt from the request as it came and from the list of signed headers alone. What is
//! not signed proves nothing; what is signed and missing, or there twice, fails.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::domain::session::AccessKeyId;
use crate::domain::time::Timestamp;

/// How far a signature's date may be from now, in milliseconds: 15 minutes ("API Request Signing Guide").
pub const SKEW_MAX_MS: u64 = 15 * 60 * 1000;
/// The most headers that one signature covers.
pub const SIGNED_HEADERS_MAX: usize = 64;

const X_SDK_DATE: &str = "x-sdk-date";
const X_SDK_CONTENT_SHA256: &str = "x-sdk-content-sha256";
/// Stands in for the body's hash where the body is neither JSON nor BSON.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Why a signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `Authorization` is not in the form of a signature.
    #[error("Authorization {0}")]
    Malformed(&'static str),
    /// The signature's date is more than [`SKEW_MAX_MS`] away.
    #[error("signature expired")]
    Expired,
    /// It is not the signature of this request by this key.
    #[error("verify aksk signature fail")]
    Mismatch,
}

/// `Authorization`, taken apart.
#[derive(Debug)]
pub struct Signature<'header> {
    access_key: AccessKeyId,
    /// `date/region/service`, with `V11-HMAC-SHA256`.
    derived_for: Option<&'header str>,
    signed_headers: Vec<&'header str>,
    mac: [u8; 32],
}

/// A request, as far as a signature looks at it.
pub trait SignedRequest {
    /// The method.
    fn method(&self) -> &str;
    /// The path as it came.
    fn path(&self) -> &str;
    /// What follows the `?`, as it came.
    fn query(&self) -> &str;
    /// The values of a header, by its lower-case name.
    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]>;
    /// The body.
    fn body(&self) -> &[u8];
}

impl<'header> Signature<'header> {
    /// Takes `Authorization` apart.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`], with what is missing.
    pub fn parse(authorization: &'header str) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Malformed;
        let (algorithm, fields) = authorization.trim().split_once(' ').unwrap_or((authorization, ""));
        let field = |name: &str| {
            let mut values =
                fields.split(',').filter_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            match (values.next(), values.next()) {
                (Some(value), None) => Some(value.trim()),
                _ => None,
            }
        };
        let (access_key, derived_for) = match algorithm {
            "SDK-HMAC-SHA256" => (field("Access").ok_or(malformed("has no Access"))?, None),
            "V11-HMAC-SHA256" => {
                let credential = field("Credential").ok_or(malformed("has no Credential"))?;
                let (access_key, derived_for) = credential
                    .split_once('/')
                    .ok_or(malformed("has a Credential without a date, region and service"))?;
                (access_key, Some(derived_for))
            }
            _ => return Err(malformed("must be SDK-HMAC-SHA256 or V11-HMAC-SHA256")),
        };
        let access_key =
            access_key.parse().map_err(|_not_a_key| malformed("has an access key that is none"))?;
        let names = field("SignedHeaders").ok_or(malformed("has no SignedHeaders"))?;
        let signed_headers: Vec<_> = names.split(';').collect();
        if signed_headers.len() > SIGNED_HEADERS_MAX || !signed_headers.is_sorted_by(|one, other| one < other)
        {
            return Err(malformed("has SignedHeaders that are not ascending, or too many"));
        }
        if !signed_headers.contains(&X_SDK_DATE) {
            return Err(malformed("does not sign X-Sdk-Date"));
        }
        let mac = field("Signature")
            .and_then(digest_of_hex)
            .ok_or(malformed("has no Signature of 64 hex digits"))?;
        Ok(Self { access_key, derived_for, signed_headers, mac })
    }

    /// The key that it says it is made with.
    #[must_use]
    pub const fn access_key(&self) -> &AccessKeyId {
        &self.access_key
    }

    /// Checks that it was made lately.
    ///
    /// # Errors
    /// When its date is unreadable, or too far from `now`.
    pub fn check_date(&self, request: &impl SignedRequest, now: Timestamp) -> Result<(), SignatureError> {
        let text = date(request)?;
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let unreadable = SignatureError::Malformed("signs an X-Sdk-Date that is not as 20260102T030405Z");
        let date = PrimitiveDateTime::parse(text, format).map_err(|_unreadable| unreadable)?;
        let millis = u64::try_from(date.assume_utc().unix_timestamp_nanos() / 1_000_000)
            .map_err(|_before_1970| SignatureError::Expired)?;
        if self.derived_for.is_some_and(|scope| scope.get(..8) != text.get(..8)) {
            return Err(SignatureError::Malformed("has a Credential of another day than X-Sdk-Date"));
        }
        if millis.abs_diff(now.as_millis()) > SKEW_MAX_MS { Err(SignatureError::Expired) } else { Ok(()) }
    }

    /// Checks that it is the signature of `request` by `secret_key`, in time that does not depend on where it differs.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, request: &impl SignedRequest, secret_key: &str) -> Result<(), SignatureError> {
        let (date, key) = (date(request)?, self.key(secret_key)?);
        let contents = self.contents(request)?;
        // The Node SDK encodes what is encoded once more.
        let is_escaped = request.path().contains('%');
        let paths = [Some(Escapes::Decoded), is_escaped.then_some(Escapes::Encoded)];
        for path in paths.into_iter().flatten().map(|escapes| canonical_path(request.path(), escapes)) {
            for content in &contents {
                let canonical = self.canonical_request(request, &path, content)?;
                if self.check_mac(&key, date, &canonical).is_ok() {
                    return Ok(());
                }
            }
        }
        Err(SignatureError::Mismatch)
    }

    /// The key of the signature: the secret, or what is derived from it for one day, region and service (HKDF-SHA256,
    /// one block, as hex).
    fn key(&self, secret_key: &str) -> Result<String, SignatureError> {
        let Some(derived_for) = self.derived_for else { return Ok(secret_key.to_owned()) };
        let pseudo_random = mac(self.access_key.as_str().as_bytes(), &[secret_key.as_bytes()])?.finalize();
        let derived = mac(&pseudo_random.into_bytes(), &[derived_for.as_bytes(), &[1]])?.finalize();
        Ok(base16ct::lower::encode_string(&derived.into_bytes()))
    }

    fn check_mac(&self, key: &str, date: &str, canonical_request: &[u8]) -> Result<(), SignatureError> {
        let hash = base16ct::lower::encode_string(&Sha256::digest(canonical_request));
        let expected = match self.derived_for {
            None => mac(key.as_bytes(), &[b"SDK-HMAC-SHA256\n", date.as_bytes(), b"\n", hash.as_bytes()]),
            Some(scope) => {
                let parts: [&[u8]; 6] =
                    [b"V11-HMAC-SHA256\n", date.as_bytes(), b"\n", scope.as_bytes(), b"\n", hash.as_bytes()];
                mac(key.as_bytes(), &parts)
            }
        };
        expected?.verify(&self.mac.into()).map_err(|_differs| SignatureError::Mismatch)
    }

    fn canonical_request(
        &self,
        request: &impl SignedRequest,
        path: &str,
        content: &str,
    ) -> Result<Vec<u8>, SignatureError> {
        let query = canonical_query(request.query());
        let mut canonical = Vec::with_capacity(1024);
        for part in [request.method(), "\n", path, "\n", &query, "\n"] {
            canonical.extend(part.as_bytes());
        }
        for name in &self.signed_headers {
            let value = only_value(request, name).ok_or(SignatureError::Mismatch)?;
            canonical.extend(name.as_bytes());
            canonical.push(b':');
            canonical.extend(value.trim_ascii());
            canonical.push(b'\n');
        }
        canonical.push(b'\n');
        canonical.extend(self.signed_headers.join(";").as_bytes());
        canonical.push(b'\n');
        canonical.extend(content.as_bytes());
        Ok(canonical)
    }

    /// What may stand for the body. The client may say that it did not sign it, where it is neither JSON nor BSON;
    /// any other text than the body's own hash would let a changed body through.
    fn contents(&self, request: &impl SignedRequest) -> Result<Vec<String>, SignatureError> {
        let hash = base16ct::lower::encode_string(&Sha256::digest(request.body()));
        if !self.signed_headers.contains(&X_SDK_CONTENT_SHA256) {
            return Ok(vec![hash]);
        }
        let said = only_value(request, X_SDK_CONTENT_SHA256).ok_or(SignatureError::Mismatch)?;
        if said == hash.as_bytes() {
            return Ok(vec![hash]);
        }
        let is_plain = request.header("content-type").all(|kind| {
            let kind = kind.to_ascii_lowercase();
            !["json", "bson"].iter().any(|word| kind.windows(4).any(|part| part == word.as_bytes()))
        });
        match said == UNSIGNED_PAYLOAD.as_bytes() && is_plain {
            // Without a body, the Python SDK sends the header and signs the hash of nothing.
            true if request.body().is_empty() => Ok(vec![UNSIGNED_PAYLOAD.to_owned(), hash]),
            true => Ok(vec![UNSIGNED_PAYLOAD.to_owned()]),
            false => Err(SignatureError::Mismatch),
        }
    }
}

/// `X-Sdk-Date` as it is sent.
fn date(request: &impl SignedRequest) -> Result<&str, SignatureError> {
    let value = only_value(request, X_SDK_DATE).ok_or(SignatureError::Malformed("signs no X-Sdk-Date"))?;
    std::str::from_utf8(value)
        .map_err(|_not_text| SignatureError::Malformed("signs an X-Sdk-Date that is no text"))
}

/// The value of a header that is there once.
fn only_value<'request>(request: &'request impl SignedRequest, name: &str) -> Option<&'request [u8]> {
    let mut values = request.header(name);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// What stays as it is: `A-Za-z0-9-._~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether the path's escapes are taken back before each part is encoded.
#[derive(Clone, Copy)]
enum Escapes {
    Decoded,
    Encoded,
}

/// Each part of the path encoded, and a `/` at the end.
fn canonical_path(path: &str, escapes: Escapes) -> String {
    let decoded = match escapes {
        Escapes::Decoded => percent_decode_str(path).collect::<Vec<u8>>(),
        Escapes::Encoded => path.as_bytes().to_vec(),
    };
    let mut canonical = String::with_capacity(path.len() + 1);
    for (at, part) in decoded.split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            canonical.push('/');
        }
        canonical.extend(percent_encoding::percent_encode(part, ENCODED));
    }
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// The parameters sorted by key, then by value, before they are encoded.
fn canonical_query(query: &str) -> String {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let mut parameters: Vec<(String, String)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(key), decode(value))
        })
        .collect();
    parameters.sort();
    let mut canonical = String::with_capacity(query.len());
    for (key, value) in parameters {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        canonical.extend(utf8_percent_encode(&key, ENCODED));
        canonical.push('=');
        canonical.extend(utf8_percent_encode(&value, ENCODED));
    }
    canonical
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<Hmac<Sha256>, SignatureError> {
    // HMAC takes a key of any length (RFC 2104): this never fails.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_length| SignatureError::Mismatch)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac)
}

fn digest_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let decoded = base16ct::mixed::decode(text, &mut bytes).ok()?;
    (decoded.len() == bytes.len()).then_some(bytes)
}
