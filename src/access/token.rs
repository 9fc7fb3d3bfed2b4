//! Secrets that are presented: kept as SHA-256 digests, compared in constant time, never printed.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::session::SecretDigest;

/// The digest of a secret as presented. The secret itself is never kept.
#[must_use]
pub fn digest(secret: &str) -> SecretDigest {
    SecretDigest::from_bytes(Sha256::digest(secret.as_bytes()).into())
}

/// Whether `secret` is the one that `digest` was made of, in time that does not depend on where they differ.
#[must_use]
pub fn matches(digest: &SecretDigest, secret: &str) -> bool {
    digest.as_bytes().ct_eq(self::digest(secret).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_matches() {
        let digest = digest("correct horse");
        assert!(matches(&digest, "correct horse"));
        for other in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!matches(&digest, other));
        }
    }
}
