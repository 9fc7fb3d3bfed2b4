//! The ids: each parsed once at the edge, never a bare string after that.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::domain::time::Timestamp;

/// A text that is not an id of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct IdError {
    expected: &'static str,
}

impl IdError {
    /// The text is not `expected`.
    pub(crate) const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

/// An id that the vendor writes as 32 lower-case hex digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes, as the database keeps it.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let is_lower_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                match u128::from_str_radix(text, 16) {
                    Ok(number) if text.len() == 32 && is_lower_hex => Ok(Self(number.to_be_bytes())),
                    _ => Err(IdError { expected: "32 lower-case hex digits" }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id! {
    /// A project (tenant): what owns groups, and what a token or key is scoped to.
    ProjectId
}
hex_id! {
    /// An account ("domain" in IAM's words).
    DomainId
}
hex_id! {
    /// An IAM user.
    UserId
}
hex_id! {
    /// One request; stands in `X-Request-Id`, the log line and the audit record.
    RequestId
}

/// An id that the vendor writes as a dashed UUID.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// From its 16 bytes, as the database keeps it.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Only the dashed form of 36 characters; braces, `urn:uuid:` and undashed forms are not ids here.
            fn from_str(text: &str) -> Result<Self, IdError> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
                    _ => Err(IdError { expected: "a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id! {
    /// An ECS group. A UUIDv7, so that the order of the keys is the order of creation.
    GroupId
}
uuid_id! {
    /// An ECS (a server); any UUID.
    ServerId
}

/// The 74 bits of a UUIDv7 that are not time, version or variant.
const TAIL_BITS: u32 = 74;
const TAIL_MAX: u128 = (1 << TAIL_BITS) - 1;
/// A fresh millisecond starts in the lower half, so that there is always room to count up.
const FRESH_TAIL_MAX: u128 = TAIL_MAX >> 1;

impl GroupId {
    /// The id for a group made at `now`, strictly above `newest` whatever the clock did.
    ///
    /// RFC 9562 §6.2: within one millisecond the tail counts up by a random step; when it would overflow, the time
    /// part moves one millisecond ahead.
    #[must_use]
    pub fn next(newest: Option<Self>, now: Timestamp, random: u128) -> Self {
        let fresh = random & FRESH_TAIL_MAX;
        let step = (random & 0xffff_ffff) + 1;
        let (millis, tail) = match newest.map(Self::split) {
            Some((millis, tail)) if millis >= now.as_millis() => match tail + step {
                over if over > TAIL_MAX => (millis + 1, fresh),
                counted => (millis, counted),
            },
            _ => (now.as_millis(), fresh),
        };
        Self::join(millis, tail)
    }

    /// When the group was made, by the clock of the writer that made it.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis(self.split().0)
    }

    fn join(millis: u64, tail: u128) -> Self {
        let head = u128::from(millis & Timestamp::MAX.as_millis()) << 80;
        let upper = (tail >> 62) << 64;
        let lower = tail & ((1 << 62) - 1);
        Self(Uuid::from_u128(head | (0x7 << 76) | upper | (0b10 << 62) | lower))
    }

    fn split(self) -> (u64, u128) {
        let bits = self.0.as_u128();
        let tail = (((bits >> 64) & 0xfff) << 62) | (bits & ((1 << 62) - 1));
        ((bits >> 80) as u64, tail)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hex_id_reads_back_what_it_prints(bytes: [u8; 16]) {
            let id = ProjectId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 32);
        }

        #[test]
        fn a_group_id_reads_back_what_it_prints(bytes: [u8; 16]) {
            let id = GroupId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn the_next_group_id_is_above_the_newest_whatever_the_clock_does(
            clock in prop::collection::vec(0..=1_000_u64, 1..200),
            random: u128,
        ) {
            let mut newest = None;
            for now in clock {
                let next = GroupId::next(newest, Timestamp::from_millis(now), random);
                prop_assert!(Some(next) > newest);
                prop_assert_eq!(next.0.get_version_num(), 7);
                prop_assert_eq!(next.0.get_variant(), uuid::Variant::RFC4122);
                prop_assert!(next.created_at().as_millis() >= now);
                newest = Some(next);
            }
        }
    }

    #[test]
    fn a_full_millisecond_moves_on_to_the_next_one() {
        let full = GroupId::join(7, TAIL_MAX);
        let next = GroupId::next(Some(full), Timestamp::from_millis(7), 1);
        assert!(next > full);
        assert_eq!(next.created_at().as_millis(), 8);
    }

    #[test]
    fn a_project_id_in_any_other_spelling_is_refused() {
        for text in ["", "0", "+123456789abcdef0123456789abcdef0", "0123456789ABCDEF0123456789ABCDEF", "é"] {
            assert!(text.parse::<ProjectId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_group_id_in_any_other_spelling_is_refused() {
        let dashed = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";
        assert!(dashed.parse::<GroupId>().is_ok());
        for text in
            [&dashed.replace('-', ""), &format!("{{{dashed}}}"), &format!("urn:uuid:{dashed}"), "", "1"]
        {
            assert!(text.parse::<GroupId>().is_err(), "{text:?}");
        }
    }
}
