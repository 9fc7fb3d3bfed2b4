//! What every login meets: the two limits on being wrong, and room for two password checks at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::sync::{Notify, Semaphore};

use crate::domain::time::Timestamp;
use crate::identities::lockout::{KeyLocks, LoginLimit, NotNow};
use crate::identities::password::Hashed;

/// Password checks that run at once. Each takes a core and 19 MiB for a while.
const PASSWORD_CHECKS_MAX: usize = 2;

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
            done: Notify::new(),
        }
    }

    /// Whether `hash` is the password's; what is not is counted for `who` and the address.
    ///
    /// # Errors
    /// When too many failed; when to come again.
    pub async fn log_in(
        &self,
        who: &str,
        source_ip: Option<IpAddr>,
        now: Timestamp,
        hash: Hashed,
        password: String,
    ) -> Result<bool, Duration> {
        // Told after the check is counted, also when whoever asked goes away: the others must not wait for ever.
        let told = TellWhenDropped(&self.done);
        let check = loop {
            let done = self.done.notified();
            match self.logins.begin(who, source_ip, now) {
                Ok(check) => break check,
                Err(NotNow::TooMany { retry_after_ms }) => return Err(Duration::from_millis(retry_after_ms)),
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
