//! The account of `--dev`: well known, the same at every start, and no secret. It opens nothing off this machine,
//! since `--dev` listens on loopback only, unless its credentials are made anew at every start.

use super::password::{Cost, Hashed, PasswordError};
use crate::clock;

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

/// Of the password's hash.
const SALT: [u8; 16] = *b"ecs-groupd --dev";

/// What the dev account logs in with.
#[derive(Clone)]
pub struct DevSecrets {
    /// The user's password.
    pub password: String,
    /// The access key (AK).
    pub access_key: String,
    /// The secret key (SK).
    pub secret_key: String,
    /// A token that is always good.
    pub token: String,
    /// The token of the control listener.
    pub control_token: String,
}

impl DevSecrets {
    /// The well-known ones.
    #[must_use]
    pub fn well_known() -> Self {
        Self {
            password: PASSWORD.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            token: TOKEN.to_owned(),
            control_token: CONTROL_TOKEN.to_owned(),
        }
    }

    /// New ones.
    ///
    /// # Errors
    /// When the system has no random bytes to give.
    pub fn random() -> Result<Self, clock::NoEntropy> {
        Ok(Self {
            password: clock::secret_text()?,
            access_key: clock::access_key_text()?,
            secret_key: clock::secret_text()?[..40].to_owned(),
            token: clock::secret_text()?,
            control_token: clock::secret_text()?,
        })
    }

    /// The account as a file of accounts has it. The password is random or no secret at all, so its hash is cheap, and
    /// always the same: tokens outlive a restart.
    pub(super) fn to_toml(&self) -> Result<String, PasswordError> {
        let Self { password, access_key, secret_key, .. } = self;
        let hash = Hashed::with_salt(password, Cost::Nominal, SALT)?;
        Ok(format!(
            "[[domain]]
             name = '{DOMAIN_NAME}'
             id = '{DOMAIN_ID}'
             root = {{ name = '{USER_NAME}', id = '{USER_ID}', password_hash = '{}', access_key = [{{ access = \
             '{access_key}', secret = '{secret_key}' }}] }}
             project = [{{ name = '{PROJECT_NAME}', id = '{PROJECT_ID}' }}]
            ",
            hash.as_str()
        ))
    }
}
