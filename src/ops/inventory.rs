//! `ecs-groupd inventory`: the ECSs that a database knows, while no service holds it.

use std::fmt::Write as _;

use super::{OpsError, on_store};
use crate::access::action::Action;
use crate::access::policy::{self, Permit};
use crate::access::principal::Origin;
use crate::domain::command::Command;
use crate::domain::id::{ProjectId, ServerId};
use crate::domain::server::Server;
use crate::store::Options;

/// Makes an ECS known, or what is known of it right.
///
/// # Errors
/// [`OpsError`].
pub fn put(options: Options, project_id: ProjectId, server: Server) -> Result<(), OpsError> {
    on_store(options, async |store, origin| {
        let permit = permit(origin, Action::RegisterServer, project_id)?;
        store.apply(permit, Command::RegisterServer { project_id, server }).await?;
        Ok(())
    })
}

/// Forgets an ECS, which takes it out of its group.
///
/// # Errors
/// [`OpsError`].
pub fn remove(options: Options, project_id: ProjectId, server_id: ServerId) -> Result<(), OpsError> {
    on_store(options, async |store, origin| {
        let permit = permit(origin, Action::UnregisterServer, project_id)?;
        store.apply(permit, Command::UnregisterServer { project_id, server_id }).await?;
        Ok(())
    })
}

/// What is known, an ECS a line.
///
/// # Errors
/// [`OpsError`].
pub fn list(options: Options, project_id: ProjectId) -> Result<String, OpsError> {
    on_store(options, async |store, origin| {
        let permit = permit(origin, Action::ListInventory, project_id)?;
        let mut text = String::new();
        for Server { server_id, name, status, host } in store.inventory(&permit).await? {
            let host = host.as_ref().map_or("-", |host| host.as_str());
            let _ = writeln!(text, "{server_id}  {:<13} {host:<20} {name}", status.as_str());
        }
        Ok(text)
    })
}

fn permit(origin: Origin, action: Action, project_id: ProjectId) -> Result<Permit, OpsError> {
    policy::permit_inventory(origin, action, project_id)
        .map_err(|action| OpsError::Argument(format!("{} is not about the inventory", action.name())))
}
