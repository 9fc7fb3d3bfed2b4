//! The offline verbs: what is done to a database that no service holds.

pub mod audit;
pub mod backup;
pub mod explain;
pub mod key;
pub mod inventory;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::access::policy;
use crate::access::principal::Origin;
use crate::clock::{Clock, Ids, NoEntropy};
use crate::domain::command::Command;
use crate::domain::id::ProjectId;
use crate::meter::Meter;
use crate::store::{self, KeyError, OpenError, Options, Store, StoreError, Unavailable, WriterFailed};

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// There is nothing to work on.
    #[error("there is no database at {}: name it with --database", database.display())]
    NoDatabase {
        /// Where it was looked for.
        database: PathBuf,
    },
    /// The database cannot be opened to write.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no other key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was not written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is in doubt, or the writer has stopped.
    #[error("nothing was changed: {0}")]
    NotWritten(String),
    /// The disk fails.
    #[error(transparent)]
    Writer(#[from] WriterFailed),
    /// The system has no random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Something in the arguments is wrong.
    #[error("{0}")]
    Argument(String),
    /// The runtime did not start.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Deletes every group and registered ECS, of every project or of one. The audit log stays, and records it.
///
/// # Errors
/// [`OpsError`]; when a service holds the database, nothing is done.
pub fn reset(options: Options, project_id: Option<ProjectId>) -> Result<(), OpsError> {
    on_store(options, async |store, origin| {
        match project_id {
            None => store.apply(policy::permit_reset(origin), Command::ResetDatabase).await?,
            Some(project_id) => {
                let permit = policy::permit_project_reset(origin, project_id);
                store.apply(permit, Command::ResetProject { project_id }).await?
            }
        };
        Ok(())
    })
}

/// Opens a database that is there, does `work` on it, and closes it.
pub(crate) fn on_store<T>(
    options: Options,
    work: impl AsyncFnOnce(&Store, Origin) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    if options.restore_from.is_none() && !options.database.exists() {
        return Err(OpsError::NoDatabase { database: options.database });
    }
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
        let mut ids = Ids::random()?;
        let origin = Origin { request_id: ids.request_id(), source_ip: None, door: "cli" };
        let (store, writer) = store::open(options, Clock::System, ids, Arc::new(Meter::default())).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let work = async {
            let done = match work(&store, origin).await {
                // There is no service here that could be asked for the reason.
                Err(OpsError::Store(StoreError::Unavailable(Unavailable::LogInDoubt))) => {
                    Err(OpsError::NotWritten(store.writer_failure().unwrap_or_default().to_owned()))
                }
                done => done,
            };
            store.close().await;
            drop(stop);
            done
        };
        let (ended, done) = tokio::join!(writer.run(async { drop(stopped.await) }), work);
        ended?;
        done
    })
}
