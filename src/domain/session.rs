//! Logins: tokens and temporary access keys, by the digests that they are known by. The secrets never come here.

use std::fmt;
use std::str::FromStr;

use crate::domain::id::{DomainId, IdError, ProjectId, UserId};
use crate::domain::time::Timestamp;

/// The SHA-256 of a random secret, which stands for it everywhere but on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// From its 32 bytes, as the database keeps it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 hex digits: the audit log names a token by them, and nobody finds the token from them.
impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The public half of an access key (AK): 1 to 64 letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// The most characters; the vendor's have 20.
    pub const CHARS_MAX: usize = 64;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccessKeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_good = (1..=Self::CHARS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_good { Ok(Self(text.to_owned())) } else { Err(IdError::new("1 to 64 letters and digits")) }
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One project.
    Project(ProjectId),
    /// The account as a whole, and so no project's groups.
    Domain(DomainId),
}

/// How somebody proved who they are when they asked for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginMethod {
    /// By a password.
    Password,
    /// By another token.
    Token,
}

impl LoginMethod {
    /// Its name on the wire, in the database and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Token => "token",
        }
    }
}

impl FromStr for LoginMethod {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "password" => Ok(Self::Password),
            "token" => Ok(Self::Token),
            _ => Err(IdError::new("a login method")),
        }
    }
}

/// A token that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the token is known by.
    pub digest: SecretDigest,
    /// Whose it is.
    pub user_id: UserId,
    /// What it is good for.
    pub scope: Scope,
    /// How its holder logged in.
    pub method: LoginMethod,
    /// A mark of what its holder logs in with; when that changes, the token is good for nothing.
    pub credentials: SecretDigest,
    /// When.
    pub issued_at: Timestamp,
    /// From this time on it is good for nothing.
    pub expires_at: Timestamp,
}

/// A temporary access key that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryKey {
    /// Its public half.
    pub access_key: AccessKeyId,
    /// What its security token is known by.
    pub digest: SecretDigest,
    /// Whose it is.
    pub user_id: UserId,
    /// When it was given out.
    pub issued_at: Timestamp,
    /// From this time on it is good for nothing.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_has_1_to_64_letters_and_digits() {
        for good in ["A".to_owned(), "9z".repeat(AccessKeyId::CHARS_MAX / 2)] {
            assert_eq!(good.parse::<AccessKeyId>().unwrap().as_str(), good);
        }
        for bad in
            [String::new(), "A".repeat(AccessKeyId::CHARS_MAX + 1), "A B".into(), "é".into(), "A\n".into()]
        {
            assert!(bad.parse::<AccessKeyId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_prints_as_64_hex_digits() {
        assert_eq!(SecretDigest::from_bytes([0x0a; 32]).to_string(), "0a".repeat(32));
    }
}
