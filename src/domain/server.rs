//! The ECSs that the inventory knows: enough of each to say whether it may be in a group, and on which host it runs.

use std::fmt;
use std::str::FromStr;

use crate::domain::group::{NameError, check_name};
use crate::domain::id::ServerId;

/// The longest name of an ECS ("Creating ECSs": 1 to 128 characters), in Unicode characters.
pub const SERVER_NAME_CHARS_MAX: usize = 128;
/// The longest name of a host, in Unicode characters (Nova: 255).
pub const HOST_CHARS_MAX: usize = 255;

/// A registered ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub server_id: ServerId,
    /// What it is called.
    pub name: ServerName,
    /// What it does.
    pub status: ServerStatus,
    /// The host that it runs on, if that is known.
    pub host: Option<HostName>,
}

/// The name of an ECS: 1 to [`SERVER_NAME_CHARS_MAX`] characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

/// The name of a host: 1 to [`HOST_CHARS_MAX`] characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

macro_rules! text_of {
    ($name:ident, $most:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                check_name(&text, $most)?;
                Ok(Self(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_of!(ServerName, SERVER_NAME_CHARS_MAX);
text_of!(HostName, HOST_CHARS_MAX);

/// What an ECS does ("Querying Details About an ECS", `status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// It runs.
    Active,
    /// It is being made.
    Build,
    /// It is gone.
    Deleted,
    /// It failed.
    Error,
    /// It is being restarted by force.
    HardReboot,
    /// It moves to another host.
    Migrating,
    /// It is being restarted.
    Reboot,
    /// It is being made anew.
    Rebuild,
    /// It is being made larger or smaller.
    Resize,
    /// It goes back to the size it had.
    RevertResize,
    /// It is stopped.
    Shutoff,
    /// It is gone, and can be brought back.
    SoftDeleted,
    /// It waits for its new size to be confirmed.
    VerifyResize,
}

/// A text that is no status of an ECS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", ServerStatus::ALL.map(ServerStatus::as_str).join(", "))]
pub struct ServerStatusError;

impl ServerStatus {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Active,
        Self::Build,
        Self::Deleted,
        Self::Error,
        Self::HardReboot,
        Self::Migrating,
        Self::Reboot,
        Self::Rebuild,
        Self::Resize,
        Self::RevertResize,
        Self::Shutoff,
        Self::SoftDeleted,
        Self::VerifyResize,
    ];

    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Build => "BUILD",
            Self::Deleted => "DELETED",
            Self::Error => "ERROR",
            Self::HardReboot => "HARD_REBOOT",
            Self::Migrating => "MIGRATING",
            Self::Reboot => "REBOOT",
            Self::Rebuild => "REBUILD",
            Self::Resize => "RESIZE",
            Self::RevertResize => "REVERT_RESIZE",
            Self::Shutoff => "SHUTOFF",
            Self::SoftDeleted => "SOFT_DELETED",
            Self::VerifyResize => "VERIFY_RESIZE",
        }
    }
}

impl FromStr for ServerStatus {
    type Err = ServerStatusError;

    fn from_str(text: &str) -> Result<Self, ServerStatusError> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(ServerStatusError)
    }
}

impl TryFrom<String> for ServerStatus {
    type Error = ServerStatusError;

    fn try_from(text: String) -> Result<Self, ServerStatusError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_up_to_their_lengths_and_without_control_characters() {
        let server = |chars: usize| ServerName::try_from("é".repeat(chars)).is_ok();
        let host = |chars: usize| HostName::try_from("é".repeat(chars)).is_ok();
        assert!(server(1) && server(SERVER_NAME_CHARS_MAX) && host(1) && host(HOST_CHARS_MAX));
        assert!(!server(0) && !server(SERVER_NAME_CHARS_MAX + 1) && !host(0) && !host(HOST_CHARS_MAX + 1));
        assert!(
            ServerName::try_from("a\n".to_owned()).is_err() && HostName::try_from("a\0".to_owned()).is_err()
        );
    }

    #[test]
    fn a_status_reads_back_what_it_prints() {
        for status in ServerStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("active".parse::<ServerStatus>().is_err());
    }
}
