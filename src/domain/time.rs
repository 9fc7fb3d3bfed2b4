//! A point in time, as the wire and the database keep it. Invariant: nothing here reads a clock.

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

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}
