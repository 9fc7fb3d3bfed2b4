//! Another key to sign the log with.

use super::{OpsError, on_store};
use crate::access::policy;
use crate::domain::command::Command;
use crate::store::{Options, StoreError};

/// Makes a new key, has the log say so, signed by both, and puts it in the place of the old one. A stop in the middle
/// is settled at the next start.
///
/// # Errors
/// [`OpsError`]; when a service holds the database, nothing is done.
pub fn rotate(options: &Options) -> Result<String, OpsError> {
    let mut new = String::new();
    on_store(options.clone(), async |store, origin| {
        if let Some(failure) = store.writer_failure() {
            return Err(OpsError::NotWritten(failure.to_owned()));
        }
        let change = store.next_key()?;
        let command = Command::ChangeCheckpointKey {
            old: Some(change.old),
            new: change.new.clone(),
            signed: Some(change.signed),
        };
        if let Err(error) = store.apply(policy::permit_key_change(origin), command).await {
            // Of what may have been recorded, the next start knows.
            if !matches!(error, StoreError::OutcomeUnknown(_)) {
                store.forget_next_key()?;
            }
            return Err(error.into());
        }
        new = change.new;
        Ok(())
    })?;
    Ok(new)
}
