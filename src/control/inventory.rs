//! The ECSs that the service knows: what there is, and on which host it runs.

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Path, ReqData};
use serde::Serialize;

use super::Operator;
use crate::access::action::Action;
use crate::access::policy::{self, Permit};
use crate::api::body::{Malformed, Object};
use crate::api::error::{ApiError, Failure};
use crate::domain::command::Command;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::{ProjectId, ServerId};
use crate::domain::server::{HostName, Server, ServerStatus};
use crate::store::Store;

/// `GET /control/projects/{project_id}/servers`: what the inventory knows, by id.
pub(super) async fn list(
    operator: Operator,
    path: Path<String>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (permit, _) = permit(operator, Action::ListInventory, &path)?;
    let servers = store.inventory(&permit).await?;
    let servers = servers.iter().map(ServerBody::of).collect();
    Ok(HttpResponse::Ok().json(ServersEnvelope { servers }))
}

/// `PUT /control/projects/{project_id}/servers/{server_id}` with `name`, `status` and `host`, all of them optional:
/// makes an ECS known, or what is known of it right.
pub(super) async fn register(
    operator: Operator,
    path: Path<(String, String)>,
    body: ReqData<Bytes>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (project, server_id) = path.into_inner();
    let (permit, project_id) = permit(operator, Action::RegisterServer, &project)?;
    let server = read(id_of(&server_id)?, &body)?;
    store.apply(permit, Command::RegisterServer { project_id, server: server.clone() }).await?;
    Ok(HttpResponse::Ok().json(ServerBody::of(&server)))
}

/// `DELETE /control/projects/{project_id}/servers/{server_id}`: forgets an ECS, which takes it out of its group.
pub(super) async fn unregister(
    operator: Operator,
    path: Path<(String, String)>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let (project, server_id) = path.into_inner();
    let (permit, project_id) = permit(operator, Action::UnregisterServer, &project)?;
    let server_id = id_of(&server_id)?;
    store.apply(permit, Command::UnregisterServer { project_id, server_id }).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn permit(operator: Operator, action: Action, project: &str) -> Result<(Permit, ProjectId), Failure> {
    let project_id = super::project_id(project)?;
    let permit = policy::permit_inventory(operator.0, action, project_id)
        .map_err(|action| Failure::Internal(format!("{} is not about the inventory", action.name())))?;
    Ok((permit, project_id))
}

fn id_of(text: &str) -> Result<ServerId, Malformed> {
    text.parse().map_err(|error| {
        Malformed::field("server_id", format!("in the path is {}, which is {error}", Excerpt::of(text)))
    })
}

/// Without a name, an ECS is called by its id; without a status, it runs.
fn read(server_id: ServerId, body: &[u8]) -> Result<Server, Malformed> {
    let mut body = Object::parse(body)?;
    let name = if body.has("name") { body.text("name")? } else { name_of(server_id)? };
    let status = if body.has("status") { body.text("status")? } else { ServerStatus::Active };
    let host = if body.has("host") { Some(body.text("host")?) } else { None };
    body.no_more()?;
    Ok(Server { server_id, name, status, host })
}

fn name_of(server_id: ServerId) -> Result<crate::domain::server::ServerName, Malformed> {
    server_id.to_string().try_into().map_err(|error| Malformed::field("name", format!("{error}")))
}

#[derive(Serialize)]
struct ServersEnvelope<'server> {
    servers: Vec<ServerBody<'server>>,
}

#[derive(Serialize)]
struct ServerBody<'server> {
    id: String,
    name: &'server str,
    status: &'static str,
    host: Option<&'server str>,
}

impl<'server> ServerBody<'server> {
    fn of(server: &'server Server) -> Self {
        Self {
            id: server.server_id.to_string(),
            name: server.name.as_str(),
            status: server.status.as_str(),
            host: server.host.as_ref().map(HostName::as_str),
        }
    }
}
