//! Copies of the database: made beside a running service, and put back while there is none.

use std::path::{Path, PathBuf};

use super::{OpsError, on_store};
use crate::access::policy;
use crate::domain::command::Command;
use crate::store::{OpenError, Options, backup};

/// Writes the database as it is now to a new file, beside a running service or without one.
///
/// # Errors
/// [`OpsError`]; then there is no such file.
pub fn back_up(database: &Path, to: &Path) -> Result<(), OpsError> {
    if !database.exists() {
        return Err(OpsError::NoDatabase { database: database.to_owned() });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Ok(runtime.block_on(backup::back_up(database, to))?)
}

/// Puts a backup in the place of the database, and records that; the caller has verified it. What came after it is
/// gone from the database, which the log then tells as a loss that was accepted.
///
/// # Errors
/// [`OpsError`]; when a service holds the database, nothing is done.
pub fn restore(options: Options, from: PathBuf) -> Result<(), OpsError> {
    let sha256 = backup::digest(&from).map_err(|source| OpenError::Io { path: from.clone(), source })?;
    let options = Options { restore_from: Some(from), is_loss_accepted: true, ..options };
    on_store(options, async |store, origin| {
        store.apply(policy::permit_restore(origin), Command::RestoreDatabase { sha256 }).await?;
        Ok(())
    })
}
