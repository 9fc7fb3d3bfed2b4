//! How often somebody may be wrong: bad signatures in a row, and failed logins in a minute.
//!
//! Both count by who and from where together, so that a stranger elsewhere cannot lock a team out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::domain::session::AccessKeyId;
use crate::domain::time::Timestamp;

/// How long an access key stays locked ("AK/SK signing": 5 minutes).
pub const LOCK_MS: u64 = 5 * 60 * 1000;
/// What "a minute" is.
pub const MINUTE_MS: u64 = 60 * 1000;
/// How many are counted at once; beyond that the ones that ended go, and then any.
pub const COUNTED_MAX: usize = 65_536;

/// Who, from where. A request over a Unix socket has no address; of IPv6, one network of 64 bits is one place, since
/// whoever has one address of it has them all.
type From<K> = (K, Option<IpAddr>);

fn place(source_ip: Option<IpAddr>) -> Option<IpAddr> {
    match source_ip?.to_canonical() {
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64))),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    /// When it stops to count.
    ends_at: Timestamp,
}

#[derive(Debug)]
struct Counts<K>(Mutex<Counted<K>>);

#[derive(Debug)]
struct Counted<K> {
    counts: HashMap<From<K>, Count>,
    /// When those that ended were last looked for.
    swept_at: Timestamp,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::new(Counted { counts: HashMap::new(), swept_at: Timestamp::default() }))
    }
}

impl<K: Clone + Eq + Hash> Counts<K> {
    /// The count that has not ended.
    fn get(&self, key: &From<K>, now: Timestamp) -> Option<Count> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.counts.get(key).filter(|count| count.ends_at > now).copied()
    }

    /// Changes a count; one that is not there, or has ended, begins as `fresh`.
    fn change(&self, key: &From<K>, now: Timestamp, fresh: Count, change: impl FnOnce(&mut Count)) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { counts, swept_at } = &mut *counted;
        if !counts.contains_key(key) && counts.len() >= COUNTED_MAX {
            if *swept_at != now {
                counts.retain(|_, count| count.ends_at > now);
                *swept_at = now;
            }
            if counts.len() >= COUNTED_MAX
                && let Some(any) = counts.keys().next().cloned()
            {
                counts.remove(&any);
            }
        }
        let count = counts.entry(key.clone()).or_insert(fresh);
        if count.ends_at <= now {
            *count = fresh;
        }
        change(count);
    }

    fn forget(&self, key: &From<K>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.remove(key);
    }
}

/// Locks an access key after bad signatures in a row, for the address that sent them. Setting
/// `access.lock_after_failures`.
#[derive(Debug)]
pub struct KeyLocks {
    /// One more than this locks; 0 for never.
    failures_max: u32,
    counts: Counts<AccessKeyId>,
}

impl KeyLocks {
    /// Locks after more than this many bad signatures in a row; 0 for never.
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, counts: Counts::default() }
    }

    /// Whether the key is locked for this address.
    #[must_use]
    pub fn is_locked(&self, key: &AccessKeyId, source_ip: Option<IpAddr>, now: Timestamp) -> bool {
        let count = || self.counts.get(&(key.clone(), place(source_ip)), now);
        self.failures_max > 0 && count().is_some_and(|count| count.failures > self.failures_max)
    }

    /// Counts a bad signature.
    pub fn failed(&self, key: &AccessKeyId, source_ip: Option<IpAddr>, now: Timestamp) {
        if self.failures_max > 0 {
            let fresh = Count { failures: 0, ends_at: now.plus_millis(LOCK_MS) };
            self.counts.change(&(key.clone(), place(source_ip)), now, fresh, |count| {
                count.failures += 1;
                count.ends_at = now.plus_millis(LOCK_MS);
            });
        }
    }

    /// Forgets the bad ones: they were not in a row.
    pub fn succeeded(&self, key: &AccessKeyId, source_ip: Option<IpAddr>) {
        if self.failures_max > 0 {
            self.counts.forget(&(key.clone(), place(source_ip)));
        }
    }
}

/// Turns logins away after failed ones, for a minute. Setting `access.login_failures_per_minute`.
#[derive(Debug)]
pub struct LoginLimit {
    /// 0 for no limit.
    failures_max: u32,
    counts: Counts<String>,
    /// Logins that are being checked. No more are at once than may still fail.
    checked: Mutex<HashMap<From<String>, u32>>,
}

/// Why a login is not checked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// Too many failed.
    TooMany {
        /// When to come again, in milliseconds.
        retry_after_ms: u64,
    },
    /// As many are being checked as may still fail: it depends on them.
    Wait,
}

/// A login that is being checked. It failed, unless it is said to have succeeded; also when whoever asked goes away.
#[derive(Debug)]
#[must_use]
pub struct Check<'limit> {
    limit: &'limit LoginLimit,
    key: From<String>,
    now: Timestamp,
    has_succeeded: bool,
}

impl LoginLimit {
    /// At most this many failures in a minute; 0 for no limit.
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, counts: Counts::default(), checked: Mutex::default() }
    }

    /// Lets a login be checked, if it may fail.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn begin(&self, who: &str, source_ip: Option<IpAddr>, now: Timestamp) -> Result<Check<'_>, NotNow> {
        let key = (who.to_owned(), place(source_ip));
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = checked.get(&key).copied().unwrap_or(0);
        if self.failures_max > 0 {
            let count = self.counts.get(&key, now);
            let failures = count.map_or(0, |count| count.failures);
            if let Some(count) = count.filter(|count| count.failures >= self.failures_max) {
                return Err(NotNow::TooMany { retry_after_ms: count.ends_at.as_millis() - now.as_millis() });
            }
            if failures.saturating_add(in_flight) >= self.failures_max {
                return Err(NotNow::Wait);
            }
        }
        checked.insert(key.clone(), in_flight + 1);
        Ok(Check { limit: self, key, now, has_succeeded: false })
    }

    fn failed(&self, key: &From<String>, now: Timestamp) {
        if self.failures_max > 0 {
            let fresh = Count { failures: 0, ends_at: now.plus_millis(MINUTE_MS) };
            self.counts.change(key, now, fresh, |count| count.failures += 1);
        }
    }
}

impl Check<'_> {
    /// It was the right password.
    pub fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let mut checked = self.limit.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_succeeded {
            self.limit.failed(&self.key, self.now);
        }
        match checked.get_mut(&self.key) {
            Some(in_flight) if *in_flight > 1 => *in_flight -= 1,
            _ => drop(checked.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const ELSEWHERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn key() -> AccessKeyId {
        "AK".parse().unwrap()
    }

    #[test]
    fn one_bad_signature_more_than_the_limit_locks_the_key_for_that_address_for_5_minutes() {
        let locks = KeyLocks::new(5);
        for _ in 0..5 {
            locks.failed(&key(), HERE, NOW);
        }
        assert!(!locks.is_locked(&key(), HERE, NOW));
        locks.failed(&key(), HERE, NOW);
        assert!(locks.is_locked(&key(), HERE, NOW));
        assert!(!locks.is_locked(&key(), ELSEWHERE, NOW));
        assert!(locks.is_locked(&key(), HERE, NOW.plus_millis(LOCK_MS - 1)));
        assert!(!locks.is_locked(&key(), HERE, NOW.plus_millis(LOCK_MS)));
        locks.failed(&key(), HERE, NOW.plus_millis(LOCK_MS));
        assert!(!locks.is_locked(&key(), HERE, NOW.plus_millis(LOCK_MS)), "counted anew");
    }

    #[test]
    fn a_good_signature_between_starts_the_row_anew_and_0_never_locks() {
        let (locks, never) = (KeyLocks::new(1), KeyLocks::new(0));
        locks.failed(&key(), HERE, NOW);
        locks.succeeded(&key(), HERE);
        locks.failed(&key(), HERE, NOW);
        assert!(!locks.is_locked(&key(), HERE, NOW));
        for _ in 0..100 {
            never.failed(&key(), HERE, NOW);
        }
        assert!(!never.is_locked(&key(), HERE, NOW));
    }

    /// Begins a login, and lets it fail.
    fn fail(limit: &LoginLimit, who: &str, source_ip: Option<IpAddr>, now: Timestamp) -> Result<(), NotNow> {
        limit.begin(who, source_ip, now).map(drop)
    }

    #[test]
    fn as_many_logins_as_the_limit_may_fail_in_a_minute_and_good_ones_do_not_count() {
        let limit = LoginLimit::new(2);
        for _ in 0..10 {
            limit.begin("alice", HERE, NOW).unwrap().succeeded();
        }
        assert_eq!(fail(&limit, "alice", HERE, NOW), Ok(()));
        assert_eq!(fail(&limit, "alice", HERE, NOW.plus_millis(1)), Ok(()));
        let late = NOW.plus_millis(MINUTE_MS - 1);
        assert_eq!(fail(&limit, "alice", HERE, late), Err(NotNow::TooMany { retry_after_ms: 1 }));
        assert_eq!(fail(&limit, "bob", HERE, late), Ok(()));
        assert_eq!(fail(&limit, "alice", ELSEWHERE, late), Ok(()));
        assert_eq!(fail(&limit, "alice", HERE, NOW.plus_millis(MINUTE_MS)), Ok(()));
        let never = LoginLimit::new(0);
        assert!((0..100).all(|_| fail(&never, "alice", HERE, NOW).is_ok()));
    }

    #[test]
    fn no_more_are_checked_at_once_than_may_still_fail() {
        let limit = LoginLimit::new(2);
        let (one, two) = (limit.begin("alice", HERE, NOW).unwrap(), limit.begin("alice", HERE, NOW).unwrap());
        assert!(matches!(limit.begin("alice", HERE, NOW), Err(NotNow::Wait)));
        one.succeeded();
        let three = limit.begin("alice", HERE, NOW).unwrap();
        drop((two, three));
        assert!(matches!(limit.begin("alice", HERE, NOW), Err(NotNow::TooMany { .. })));
        assert!(limit.checked.lock().unwrap().is_empty());
    }

    #[test]
    fn one_network_of_ipv6_is_one_place_and_an_ipv4_address_is_one_however_it_is_written() {
        let at = |text: &str| place(Some(text.parse().unwrap()));
        assert_eq!(at("2001:db8:0:1::7"), at("2001:db8:0:1:ffff::"));
        assert_ne!(at("2001:db8:0:1::7"), at("2001:db8:0:2::7"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    #[test]
    fn no_more_are_counted_than_there_is_room_for() {
        let limit = LoginLimit::new(1);
        for number in 0..=COUNTED_MAX {
            fail(&limit, &number.to_string(), HERE, NOW).unwrap();
        }
        assert_eq!(limit.counts.0.lock().unwrap().counts.len(), COUNTED_MAX);
        fail(&limit, "later", HERE, NOW.plus_millis(MINUTE_MS)).unwrap();
        assert_eq!(limit.counts.0.lock().unwrap().counts.len(), 1, "the ones that ended are gone");
    }
}
