//! What every login meets: the two limits on being wrong, and room for two password checks at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::sync::{Notify, Semaphore};

use crate::api::error::Failure;
use crate::domain::time::Timestamp;
use crate::identities::lockout::{KeyLocks, LoginLimit, NotNow};
use crate::identities::password::Hashed;

/// Password checks that run at once. Each takes a core and 19 MiB for a while.
const PASSWORD_CHECKS_MAX: usize = 2;

/// Logins by password that are checked or wait for it; one more is turned away.
pub const LOGINS_MAX: usize = 256;

/// Wakes those who wait, when a login is done one way or the other.
struct TellWhenDropped<'gate>(&'gate Notify);

impl Drop for TellWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// The state of every login and signature.
#[derive(Debug)]
pub struct Gate {
    /// Bad signatures.
    pub locks: KeyLocks,
    /// Failed logins.
    pub logins: LoginLimit,
    checks: Arc<Semaphore>,
    places: Semaphore,
    /// Tells those who wait for other logins of the same user that one is done.
    done: Notify,
}

impl Gate {
    /// With the settings `access.lock_after_failures` and `access.login_failures_per_minute`.
    #[must_use]
    pub fn new(lock_after_failures: u32, login_failures_per_minute: u32) -> Self {
        Self {
            locks: KeyLocks::new(lock_after_failures),
            logins: LoginLimit::new(login_failures_per_minute),
            checks: Arc::new(Semaphore::new(PASSWORD_CHECKS_MAX)),
            places: Semaphore::new(LOGINS_MAX),
            done: Notify::new(),
        }
    }

    /// Whether `hash` is the password's; what is not is counted for `who` and the address.
    ///
    /// # Errors
    /// When too many failed, or too many wait.
    pub async fn log_in(
        &self,
        who: &str,
        source_ip: Option<IpAddr>,
        now: Timestamp,
        hash: Hashed,
        password: String,
    ) -> Result<bool, Failure> {
        let Ok(_place) = self.places.try_acquire() else { return Err(Failure::TooManyLoginsWait) };
        // Told after the check is counted, also when whoever asked goes away: the others must not wait for ever.
        let told = TellWhenDropped(&self.done);
        let check = loop {
            let done = self.done.notified();
            match self.logins.begin(who, source_ip, now) {
                Ok(check) => break check,
                Err(NotNow::TooMany { retry_after_ms }) => {
                    return Err(Failure::TooManyLogins {
                        retry_after: Duration::from_millis(retry_after_ms),
                    });
                }
                Err(NotNow::Wait) => done.await,
            }
        };
        let is_right = self.check_password(hash, password).await;
        if is_right {
            check.succeeded();
        } else {
            drop(check);
        }
        drop(told);
        Ok(is_right)
    }

    /// Whether `hash` is the password's, on a thread that answers no requests. Waits while others are checked.
    async fn check_password(&self, hash: Hashed, password: String) -> bool {
        let Ok(room) = Arc::clone(&self.checks).acquire_owned().await else { return false };
        // A client that goes away leaves its check running, and the room taken.
        let check = move || {
            let is_right = hash.is_of(&password);
            drop(room);
            is_right
        };
        web::block(check).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::identities::password::Cost;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    #[tokio::test]
    async fn two_passwords_are_checked_at_once_and_the_third_waits() {
        let gate = Gate::new(0, 0);
        let hash = Hashed::of("right", Cost::Nominal).unwrap();
        let busy: Vec<_> = (0..PASSWORD_CHECKS_MAX)
            .map(|_| Arc::clone(&gate.checks).try_acquire_owned().expect("there is room"))
            .collect();
        let mut third = pin!(gate.log_in("alice", None, NOW, hash, "right".to_owned()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(third.as_mut().poll(&mut context), Poll::Pending));
        drop(busy);
        assert_eq!(third.await, Ok(true));
    }

    #[tokio::test]
    async fn as_many_as_there_are_places_may_wait_and_one_more_is_turned_away() {
        let gate = Gate::new(0, 0);
        let hash = Hashed::of("right", Cost::Nominal).unwrap();
        let log_in = || gate.log_in("alice", None, NOW, hash.clone(), "right".to_owned());
        let all_but_one = gate.places.try_acquire_many(u32::try_from(LOGINS_MAX).unwrap() - 1).unwrap();
        assert_eq!(log_in().await, Ok(true));
        let last = gate.places.try_acquire().unwrap();
        assert_eq!(log_in().await, Err(Failure::TooManyLoginsWait));
        drop((all_but_one, last));
    }
}
