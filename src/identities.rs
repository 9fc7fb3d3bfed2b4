//! The accounts that the service knows. For now the one of `--dev`.

use std::sync::Arc;

use crate::access::principal::{Credential, Domain, Principal, User};
use crate::access::token::TokenDigest;
use crate::domain::id::{DomainId, ProjectId, UserId};

/// The well-known account of `--dev`: the same at every start, and no secret. It opens nothing off this machine,
/// since `--dev` listens on loopback only.
pub mod dev {
    /// The region, as endpoints and catalogues name it.
    pub const REGION: &str = "dev-1";
    /// The account's name.
    pub const DOMAIN_NAME: &str = "dev";
    /// The account's id.
    pub const DOMAIN_ID: &str = "de000000000000000000000000000001";
    /// The project's name; the vendor names a region's first project after the region.
    pub const PROJECT_NAME: &str = REGION;
    /// The project's id.
    pub const PROJECT_ID: &str = "de000000000000000000000000000002";
    /// The user's name: the account itself.
    pub const USER_NAME: &str = "dev";
    /// The user's id.
    pub const USER_ID: &str = "de000000000000000000000000000003";
    /// The user's password.
    pub const PASSWORD: &str = "dev-password";
    /// The access key (AK).
    pub const ACCESS_KEY: &str = "DEVACCESSKEY00000001";
    /// The secret key (SK).
    pub const SECRET_KEY: &str = "dev-secret-key-0000000000000000000000001";
    /// A token that is always good, for `X-Auth-Token`.
    pub const TOKEN: &str = "dev-token";
    /// The token of the control listener.
    pub const CONTROL_TOKEN: &str = "dev-control-token";
}

/// The credentials that a request presented.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'request> {
    /// `X-Auth-Token`.
    pub token: Option<&'request str>,
    /// `Authorization`: an AK/SK signature, or something that is none.
    pub authorization: Option<&'request str>,
}

/// Why credentials did not make a principal. Nothing of this is recorded; it goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// None were presented, and anonymous callers are not taken.
    #[error("no credentials: send X-Auth-Token")]
    Missing,
    /// A token that is not known.
    #[error("decrypt token fail")]
    UnknownToken,
    /// `Authorization` holds something that cannot be verified here.
    #[error("AK/SK signatures are not verified by this version: send X-Auth-Token")]
    UnverifiedSignature,
    /// A credential header that is not text, or occurs twice.
    #[error("a credential header is not text, or occurs twice")]
    Unreadable,
}

/// Who there is, and how each is known.
#[derive(Clone, Debug)]
pub struct Identities {
    token: TokenDigest,
    anonymous: Option<Principal>,
    by_token: Principal,
}

impl Identities {
    /// The one account of `--dev`. With `is_anonymous_allowed`, a caller without credentials is that account.
    #[must_use]
    pub fn dev(is_anonymous_allowed: bool) -> Self {
        let user = Arc::new(User {
            user_id: UserId::from_bytes(dev_bytes(3)),
            name: dev::USER_NAME.to_owned(),
            domain: Domain {
                domain_id: DomainId::from_bytes(dev_bytes(1)),
                name: dev::DOMAIN_NAME.to_owned(),
            },
            is_root: true,
        });
        let known_by = |credential| Principal {
            user: Arc::clone(&user),
            project_id: ProjectId::from_bytes(dev_bytes(2)),
            credential,
        };
        Self {
            token: TokenDigest::of(dev::TOKEN),
            anonymous: is_anonymous_allowed.then(|| known_by(Credential::Anonymous)),
            by_token: known_by(Credential::Token),
        }
    }

    /// Who presented these credentials. Whatever is presented must verify, also where none would do.
    ///
    /// # Errors
    /// [`Unauthenticated`] with the reason.
    pub fn authenticate(&self, presented: Presented<'_>) -> Result<Principal, Unauthenticated> {
        match presented {
            Presented { authorization: Some(_), .. } => Err(Unauthenticated::UnverifiedSignature),
            Presented { token: Some(token), .. } if self.token.matches(token) => Ok(self.by_token.clone()),
            Presented { token: Some(_), .. } => Err(Unauthenticated::UnknownToken),
            Presented { .. } => self.anonymous.clone().ok_or(Unauthenticated::Missing),
        }
    }
}

/// The dev ids: `de…` and a number.
const fn dev_bytes(number: u8) -> [u8; 16] {
    [0xde, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dev_account_is_the_one_that_is_printed() {
        let principal = Identities::dev(true).authenticate(Presented::default()).unwrap();
        assert_eq!(principal.user.user_id.to_string(), dev::USER_ID);
        assert_eq!(principal.user.domain.domain_id.to_string(), dev::DOMAIN_ID);
        assert_eq!(principal.project_id.to_string(), dev::PROJECT_ID);
    }

    #[test]
    fn what_is_presented_must_verify() {
        let known = Presented { token: Some(dev::TOKEN), authorization: None };
        let unknown = Presented { token: Some("x"), authorization: None };
        let empty = Presented { token: Some(""), authorization: None };
        let signed = Presented { token: Some(dev::TOKEN), authorization: Some("") };
        for is_anonymous_allowed in [true, false] {
            let identities = Identities::dev(is_anonymous_allowed);
            assert_eq!(identities.authenticate(known).unwrap().credential, Credential::Token);
            assert_eq!(identities.authenticate(unknown), Err(Unauthenticated::UnknownToken));
            assert_eq!(identities.authenticate(empty), Err(Unauthenticated::UnknownToken));
            assert_eq!(identities.authenticate(signed), Err(Unauthenticated::UnverifiedSignature));
        }
        assert_eq!(Identities::dev(false).authenticate(Presented::default()), Err(Unauthenticated::Missing));
    }
}
