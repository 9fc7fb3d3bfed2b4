//! A point in time, as the wire and the database keep it. Invariant: nothing here reads a clock.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Milliseconds since 1970-01-01T00:00:00Z (CTS's `time` and `record_time` have this unit).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest time a UUIDv7 can carry: 48 bits of milliseconds, in the year 10889.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// From milliseconds since the epoch; later than [`Timestamp::MAX`] is cut to it.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// This much later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// `2026-01-02T03:04:05Z`.
    #[must_use]
    pub fn to_iso8601(self) -> String {
        self.formatted(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
    }

    /// `2026-01-02T03:04:05.678Z`, all that it says.
    #[must_use]
    pub fn to_iso8601_millis(self) -> String {
        self.formatted(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        ))
    }

    /// `2026-01-02T03:04:05.678000Z`, as IAM writes times ("Obtaining a User Token Through Password Authentication").
    #[must_use]
    pub fn to_iso8601_micros(self) -> String {
        self.formatted(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        ))
    }

    /// Later than the last year with four digits is that year's end.
    fn formatted(self, format: &[BorrowedFormatItem<'_>]) -> String {
        const LAST_MILLIS: u64 = 253_402_300_799_999;
        let nanos = i128::from(self.0.min(LAST_MILLIS)) * 1_000_000;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        time.format(format).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_vendor_writes_it() {
        let time = Timestamp::from_millis(1_767_323_045_678);
        assert_eq!(time.to_iso8601(), "2026-01-02T03:04:05Z");
        assert_eq!(time.to_iso8601_millis(), "2026-01-02T03:04:05.678Z");
        assert_eq!(time.to_iso8601_micros(), "2026-01-02T03:04:05.678000Z");
        assert_eq!(Timestamp::MAX.to_iso8601(), "9999-12-31T23:59:59Z");
    }
}
