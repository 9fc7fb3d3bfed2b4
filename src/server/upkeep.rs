//! What the service does beside answering: reads its accounts again when it is told to, forgets what has expired, and
//! sums up the refusals that were not recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::access::policy;
use crate::access::principal::Origin;
use crate::clock::{Clock, Ids};
use crate::domain::command::Command;
use crate::domain::time::Timestamp;
use crate::identities::{Current, Identities, file};
use crate::store::Store;
use crate::store::seal::Sealed;

/// How often it is looked for what has expired, and for what is to be summed up.
const EVERY: Duration = Duration::from_mins(1);

/// What the service does beside answering.
pub(super) struct Upkeep {
    pub(super) store: Arc<Store>,
    pub(super) identities: Arc<Current>,
    /// The file of accounts; `None` with `--dev`.
    pub(super) file: Option<PathBuf>,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    /// How old a record is when it is sealed, in milliseconds; 0 for never.
    pub(super) retention_ms: u64,
}

impl Upkeep {
    /// Goes on until the future is dropped. `next_reload` comes back whenever the accounts are to be read again.
    pub(super) async fn run(&mut self, mut next_reload: impl AsyncFnMut()) {
        let mut minute = tokio::time::interval(EVERY);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = minute.tick() => {
                    self.purge().await;
                    self.sum_up().await;
                    self.seal().await;
                }
                () = next_reload() => self.reload().await,
            }
        }
    }

    /// Writes down that the service starts.
    pub(super) async fn record_start(&mut self) {
        let permit = policy::permit_start(self.origin("service"));
        let command = Command::StartService { version: env!("CARGO_PKG_VERSION").to_owned() };
        if let Err(error) = self.store.apply(permit, command).await {
            tracing::error!(%error, "the start was not recorded");
        }
    }

    /// Writes down that the service stops.
    pub(super) async fn record_stop(&mut self) {
        let permit = policy::permit_stop(self.origin("service"));
        if let Err(error) = self.store.apply(permit, Command::StopService).await {
            tracing::error!(%error, "the stop was not recorded");
        }
    }

    async fn purge(&mut self) {
        let origin = self.origin("timer");
        if let Err(error) = self.store.purge_expired(origin, self.clock.now()).await {
            tracing::warn!(%error, "what has expired is forgotten another time");
        }
    }

    /// Seals what is old enough, segment by segment.
    async fn seal(&mut self) {
        if self.retention_ms == 0 {
            return;
        }
        let before = self.clock.now().as_millis().saturating_sub(self.retention_ms);
        loop {
            let origin = self.origin("timer");
            match self.store.seal(origin, Timestamp::from_millis(before)).await {
                Ok(None) => return,
                Ok(Some(Sealed { first, last, file })) => {
                    tracing::info!(first, last, file = %file.display(), "records were sealed");
                }
                Err(error) => {
                    tracing::error!(%error, "no records were sealed, and none deleted");
                    return;
                }
            }
        }
    }

    /// Sums up the refusals that were not recorded.
    pub(super) async fn sum_up(&mut self) {
        let origin = self.origin("timer");
        if let Err(error) = self.store.summarize_refusals(origin).await {
            tracing::warn!(%error, "refusals that were not recorded are summed up another time");
        }
    }

    /// Puts the accounts of the file in the place of those in force, once that is recorded. A file that is wrong
    /// changes nothing.
    async fn reload(&mut self) {
        let Some(path) = &self.file else {
            tracing::info!("there is no file of accounts to read again with --dev");
            return;
        };
        match file::read(path) {
            Ok(identities) => self.replace(identities).await,
            Err(error) => tracing::error!(%error, "the accounts stay as they were"),
        }
    }

    async fn replace(&mut self, identities: Identities) {
        let differences = self.identities.get().differences(&identities);
        if differences.is_empty() {
            tracing::info!("the accounts were read again; nothing is different");
            return;
        }
        let permit = policy::permit_reload(self.origin("signal"));
        let command = Command::ReloadIdentities { differences: differences.clone() };
        match self.store.apply(permit, command).await {
            Ok(_) => {
                self.identities.replace(identities);
                tracing::info!(differences = differences.join("; "), "the accounts were read again");
            }
            Err(error) => {
                tracing::error!(%error, "the accounts stay as they were: the change could not be recorded");
            }
        }
    }

    fn origin(&mut self, door: &'static str) -> Origin {
        Origin { request_id: self.ids.request_id(), source_ip: None, door }
    }
}
