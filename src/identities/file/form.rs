//! The form of `identities.toml`, before anything in it is looked up.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileToml {
    #[serde(default)]
    pub(super) domain: Vec<DomainToml>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainToml {
    pub(super) name: Spanned<String>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) root: Spanned<RootToml>,
    #[serde(default)]
    pub(super) project: Vec<ProjectToml>,
    #[serde(default)]
    pub(super) user: Vec<UserToml>,
    #[serde(default)]
    pub(super) user_group: Vec<UserGroupToml>,
    #[serde(default)]
    pub(super) policy: Vec<PolicyToml>,
    #[serde(default)]
    pub(super) grant: Vec<Spanned<GrantToml>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootToml {
    pub(super) name: Option<Spanned<String>>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) password_hash: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub(super) access_key: Vec<AccessKeyToml>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectToml {
    pub(super) name: Spanned<String>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) groups: Option<u32>,
    pub(super) members_per_group: Option<u32>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserToml {
    pub(super) name: Spanned<String>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) password_hash: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub(super) access_key: Vec<AccessKeyToml>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKeyToml {
    pub(super) access: Spanned<String>,
    pub(super) secret: Spanned<SecretText>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserGroupToml {
    pub(super) name: Spanned<String>,
    pub(super) users: Vec<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyToml {
    pub(super) name: Spanned<String>,
    pub(super) document: Spanned<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantToml {
    pub(super) user_group: Spanned<String>,
    #[serde(default)]
    pub(super) policies: Vec<Spanned<String>>,
    pub(super) document: Option<Spanned<String>>,
    pub(super) scope: ScopeToml,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeToml {
    Project(Spanned<String>),
    AllProjects,
    Domain,
}

/// A secret in the file. An error about its form does not repeat it.
pub(super) struct SecretText(pub(super) String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretText, E> {
                Err(E::custom("a secret must be a string"))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
                Err(E::custom("a secret must be a string"))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
                Err(E::custom("a secret must be a string"))
            }
        }
        deserializer.deserialize_any(Text)
    }
}
