//! An ECS group: servers that must run on different hosts.

use std::fmt;
use std::str::FromStr;

use crate::domain::id::{GroupId, ServerId, UserId};

/// An ECS group as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroup {
    /// Its id; ids of one project ascend in the order of creation.
    pub group_id: GroupId,
    /// What its maker called it; names need not be unique.
    pub name: GroupName,
    /// How its members are placed.
    pub placement_rule: PlacementRule,
    /// The ECSs in it, ascending.
    pub members: Vec<ServerId>,
    /// Who made it.
    pub created_by: UserId,
}

/// The name of a group: 1 to 255 Unicode characters, none of them a control character.
///
/// "Creating an ECS Group": "1 to 255 characters"; the Chinese page says bytes, the English one is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

/// The longest name, in Unicode characters ("Creating an ECS Group").
pub const NAME_CHARS_MAX: usize = 255;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("must be 1 to {most} characters long, and is empty")]
    Empty {
        /// The most that there may be.
        most: usize,
    },
    /// More than there may be.
    #[error("must be 1 to {most} characters long, and has {chars}")]
    TooLong {
        /// The most that there may be.
        most: usize,
        /// How many Unicode characters the text has.
        chars: usize,
    },
    /// A character of Unicode category Cc.
    #[error("must not contain control characters, and has U+{:04X} as character {}", u32::from(*.found), .at + 1)]
    ControlCharacter {
        /// The first control character.
        found: char,
        /// Its place, counted in characters from 0.
        at: usize,
    },
}

impl GroupName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_name(&text, NAME_CHARS_MAX)?;
        Ok(Self(text))
    }
}

/// Checks that a name has 1 to `most` Unicode characters, none of them a control character.
pub(super) fn check_name(text: &str, most: usize) -> Result<(), NameError> {
    let chars = text.chars().count();
    if chars == 0 {
        return Err(NameError::Empty { most });
    }
    if chars > most {
        return Err(NameError::TooLong { most, chars });
    }
    match text.chars().enumerate().find(|(_, character)| character.is_control()) {
        Some((at, found)) => Err(NameError::ControlCharacter { found, at }),
        None => Ok(()),
    }
}

/// How the members of a group are placed on hosts. The wire calls it a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacementRule {
    /// Every member on a different host; the only rule that the vendor supports.
    AntiAffinity,
}

/// A text that names no supported placement rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a supported rule, only anti-affinity is")]
pub struct PlacementRuleError;

impl PlacementRule {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AntiAffinity => "anti-affinity",
        }
    }
}

impl FromStr for PlacementRule {
    type Err = PlacementRuleError;

    fn from_str(text: &str) -> Result<Self, PlacementRuleError> {
        match text {
            "anti-affinity" => Ok(Self::AntiAffinity),
            _ => Err(PlacementRuleError),
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_taken_exactly_when_it_has_1_to_255_characters_and_no_control_character(text in "\\PC{0,300}|.{0,20}|[\\x00-\\x7f]{0,10}") {
            let chars = text.chars().count();
            let is_good = (1..=NAME_CHARS_MAX).contains(&chars) && !text.chars().any(char::is_control);
            match GroupName::try_from(text.clone()) {
                Ok(name) => { prop_assert!(is_good); prop_assert_eq!(name.as_str(), text); }
                Err(_) => prop_assert!(!is_good),
            }
        }

        #[test]
        fn only_anti_affinity_is_a_placement_rule(text in ".{0,20}|anti-affinity|Anti-Affinity|soft-anti-affinity") {
            prop_assert_eq!(text.parse::<PlacementRule>().is_ok(), text == PlacementRule::AntiAffinity.as_str());
        }
    }

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(GroupName::try_from("é".repeat(NAME_CHARS_MAX)).is_ok());
        assert_eq!(
            GroupName::try_from("é".repeat(NAME_CHARS_MAX + 1)),
            Err(NameError::TooLong { most: NAME_CHARS_MAX, chars: NAME_CHARS_MAX + 1 })
        );
    }

    #[test]
    fn a_control_character_is_named_with_its_place() {
        let error = GroupName::try_from("web\u{7}".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "must not contain control characters, and has U+0007 as character 4");
    }
}
