//! Passwords: kept as Argon2id hashes, and never anything else.
//!
//! Hashing is slow on purpose. It belongs on a thread that answers no requests.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};

use crate::clock::{self, NoEntropy};

/// The largest costs that a hash may ask for: memory in KiB, passes and lanes. A login must not stop the service.
pub const MEMORY_KIB_MAX: u32 = 1 << 20;
/// See [`MEMORY_KIB_MAX`].
pub const PASSES_MAX: u32 = 64;
/// See [`MEMORY_KIB_MAX`].
pub const LANES_MAX: u32 = 16;
/// The longest password that is looked at, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// An Argon2id hash of a password, in the form `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[derive(Clone)]
pub struct Hashed(String);

/// A text that is no hash that can be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not the form.
    #[error("is no Argon2id hash: make one with `ecs-groupd identity hash-password`")]
    NotArgon2id,
    /// Costs that would stop the service.
    #[error("costs more than m={MEMORY_KIB_MAX},t={PASSES_MAX},p={LANES_MAX}")]
    TooCostly,
}

/// How much work a hash is.
#[derive(Clone, Copy, Debug)]
pub enum Cost {
    /// For passwords that people choose (OWASP "Password Storage Cheat Sheet": 19 MiB, 2 passes).
    Chosen,
    /// For secrets that are random or no secret at all.
    Nominal,
}

impl Hashed {
    /// Reads a hash.
    ///
    /// # Errors
    /// When it is none, or too costly. The error does not repeat it.
    pub fn parse(text: String) -> Result<Self, HashError> {
        let hash = PasswordHash::new(&text).map_err(|_unreadable| HashError::NotArgon2id)?;
        if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
            return Err(HashError::NotArgon2id);
        }
        let params = Params::try_from(&hash).map_err(|_unreadable| HashError::NotArgon2id)?;
        if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX || params.p_cost() > LANES_MAX {
            return Err(HashError::TooCostly);
        }
        Ok(Self(text))
    }

    /// Hashes a password with a salt of its own.
    ///
    /// # Errors
    /// When the system has no random bytes to give.
    pub fn of(password: &str, cost: Cost) -> Result<Self, PasswordError> {
        Self::with_salt(password, cost, clock::secret_bytes()?)
    }

    /// The same hash for the same password and salt.
    ///
    /// # Errors
    /// None that can happen: the parameters are our own.
    pub fn with_salt(password: &str, cost: Cost, salt: [u8; 16]) -> Result<Self, PasswordError> {
        let params = match cost {
            Cost::Chosen => Params::default(),
            Cost::Nominal => Params::new(Params::MIN_M_COST, Params::MIN_T_COST, 1, None)?,
        };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self(argon2.hash_password_with_salt(password.as_bytes(), &salt)?.to_string()))
    }

    /// Whether it is the hash of `password`.
    #[must_use]
    pub fn is_of(&self, password: &str) -> bool {
        password.len() <= PASSWORD_BYTES_MAX
            && Argon2::default().verify_password(password.as_bytes(), self.0.as_str()).is_ok()
    }

    /// Its text, for the file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How much work it is to check: memory by passes.
    #[must_use]
    pub fn work(&self) -> u64 {
        let params = PasswordHash::new(&self.0).ok().and_then(|hash| Params::try_from(&hash).ok());
        params.map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(..)")
    }
}

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is empty, or longer than anybody could log in with.
    #[error("a password must have 1 to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    /// The system has no random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The parameters are wrong: a mistake in this program.
    #[error("cannot hash a password: {0}")]
    Params(#[from] argon2::Error),
    /// The hash is not made: a mistake in this program.
    #[error("cannot hash a password: {0}")]
    Hash(#[from] argon2::password_hash::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_matches_its_hash() {
        let hashed = Hashed::of("correct horse", Cost::Nominal).unwrap();
        let hashed = Hashed::parse(hashed.as_str().to_owned()).unwrap();
        assert!(hashed.is_of("correct horse"));
        for other in ["", "correct hors", "Correct horse", &"x".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert!(!hashed.is_of(other));
        }
        assert_eq!(format!("{hashed:?}"), "Hashed(..)");
    }

    #[test]
    fn the_longest_password_is_taken_and_no_longer_one() {
        for (bytes, is_taken) in [(PASSWORD_BYTES_MAX, true), (PASSWORD_BYTES_MAX + 1, false)] {
            let password = "x".repeat(bytes);
            assert_eq!(Hashed::of(&password, Cost::Nominal).unwrap().is_of(&password), is_taken);
        }
    }

    #[test]
    fn a_hash_of_another_kind_or_cost_is_refused() {
        let hash =
            |kind: &str, params: &str| format!("${kind}$v=19${params}$c2FsdHNhbHRzYWx0$dGFnLXRhZy10YWctdGFn");
        for (text, expected) in [
            ("secret".to_owned(), Err(HashError::NotArgon2id)),
            (hash("argon2i", "m=8,t=1,p=1"), Err(HashError::NotArgon2id)),
            (hash("argon2id", "m=1048576,t=64,p=16"), Ok(())),
            (hash("argon2id", "m=1048577,t=64,p=16"), Err(HashError::TooCostly)),
            (hash("argon2id", "m=1048576,t=65,p=16"), Err(HashError::TooCostly)),
            (hash("argon2id", "m=1048576,t=64,p=17"), Err(HashError::TooCostly)),
        ] {
            assert_eq!(Hashed::parse(text.clone()).map(drop), expected, "{text}");
        }
    }
}
