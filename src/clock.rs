//! Where time and chance come from. Both are handed in, so that a test can fix them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng as _, TryRng as _};

use crate::domain::id::RequestId;
use crate::domain::time::Timestamp;

/// What time it is.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that stands still until it is set; clones show the same time.
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn fixed(now: Timestamp) -> Self {
        Self::Fixed(Arc::new(AtomicU64::new(now.as_millis())))
    }

    /// Sets a fixed clock, forward or back; the machine's own clock is left alone.
    pub fn set(&self, now: Timestamp) {
        if let Self::Fixed(millis) = self {
            millis.store(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// The time now; a machine clock before 1970 reads as 1970.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Self::Fixed(millis) => millis.load(Ordering::Relaxed),
        })
    }
}

/// This many bytes for a secret, from the system itself.
///
/// # Errors
/// When the system has no random bytes to give.
pub fn secret_bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

/// A secret of 256 bits, as 64 hex digits.
///
/// # Errors
/// When the system has no random bytes to give.
pub fn secret_text() -> Result<String, NoEntropy> {
    Ok(base16ct::lower::encode_string(&secret_bytes::<32>()?))
}

/// The public half of a new access key: 20 letters and digits, as the vendor's.
///
/// # Errors
/// When the system has no random bytes to give.
pub fn access_key_text() -> Result<String, NoEntropy> {
    const SYMBOLS: [char; 32] = [
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U', 'V',
        'W', 'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    Ok(secret_bytes::<20>()?.iter().map(|byte| SYMBOLS[usize::from(byte % 32)]).collect())
}

/// A source of unpredictable bits for ids. Not for secrets.
#[derive(Debug)]
pub struct Ids(StdRng);

/// The machine gave no random bytes to start from.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed: {0}")]
pub struct NoEntropy(#[from] rand::rngs::SysError);

impl Ids {
    /// Seeded by the system.
    ///
    /// # Errors
    /// When the system has no random bytes to give.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut seed = <StdRng as rand::SeedableRng>::Seed::default();
        SysRng.try_fill_bytes(&mut seed)?;
        Ok(Self(StdRng::from_seed(seed)))
    }

    /// The same ids every time.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A source of its own for another thread.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(StdRng::from_rng(&mut self.0))
    }

    /// 128 unpredictable bits.
    pub fn bits(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64())
    }

    /// A request's id.
    pub fn request_id(&mut self) -> RequestId {
        RequestId::from_bytes(self.bits().to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2026() {
        assert!(Clock::System.now().as_millis() > 1_767_000_000_000);
    }

    #[test]
    fn a_seeded_source_repeats_itself_and_its_fork_differs() {
        let (mut one, mut two) = (Ids::seeded(7), Ids::seeded(7));
        assert_eq!(one.bits(), two.bits());
        assert_ne!(one.fork().bits(), two.bits());
    }
}
