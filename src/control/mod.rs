//! The admin listener: what an operator or a test suite does beside the API.
//!
//! Every request needs `Authorization: Bearer` and the control token.

mod inventory;
pub mod stream;

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, AUTHORIZATION, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use serde_json::json;

use crate::access::principal::Origin;
use crate::access::{policy, token};
use crate::api::body::Malformed;
use crate::api::error::{ApiError, Dialect, Failure};
use crate::api::{self, HttpLimits, caller, exchange::RequestIds};
use crate::clock::Ids;
use crate::domain::command::Command;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::ProjectId;
use crate::domain::session::SecretDigest;
use crate::store::Store;

use self::stream::{Places, Stopping};

/// What the control listener can reach.
#[derive(Clone)]
pub struct Shared {
    /// The database.
    pub store: Arc<Store>,
    /// The token that every request must carry.
    pub token: SecretDigest,
    /// Where request ids come from.
    pub ids: Arc<std::sync::Mutex<Ids>>,
    /// How large and how slow a request may be.
    pub limits: HttpLimits,
    /// Turns true when the service stops.
    pub stopping: Stopping,
    /// The room for streams.
    pub streams: Places,
}

/// The routes of the control listener.
pub fn mount(shared: Shared) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(Data::from(shared.store)).app_data(Data::new(shared.token));
        config.app_data(RequestIds::fork(&shared.ids)).app_data(Data::new(shared.limits));
        config.app_data(Data::new(shared.stopping)).app_data(Data::new(shared.streams));
        config.service(resource("/control/reset", "POST").route(web::post().to(reset)));
        config.service(resource(PROJECT_RESET, "POST").route(web::post().to(reset_project)));
        config.service(resource(STREAM, "GET").route(web::get().to(stream::stream)));
        config.service(resource(SERVERS, "GET").route(web::get().to(inventory::list)));
        config.service(
            resource(SERVER, "PUT, DELETE")
                .route(web::put().to(inventory::register).wrap(from_fn(caller::admit_anybody)))
                .route(web::delete().to(inventory::unregister)),
        );
    }
}

const PROJECT_RESET: &str = "/control/projects/{project_id}/reset";
const STREAM: &str = "/control/traces/stream";
const SERVERS: &str = "/control/projects/{project_id}/servers";
const SERVER: &str = "/control/projects/{project_id}/servers/{server_id}";

/// A path that takes just these methods.
fn resource(path: &str, methods: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move || {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {methods}"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        ready(response)
    }))
}

/// The answer for a path that is not served.
pub async fn not_found() -> HttpResponse {
    error(
        StatusCode::NOT_FOUND,
        &format!(
            "no such path; there are POST /control/reset, POST {PROJECT_RESET}, GET {STREAM}, GET {SERVERS} and PUT, \
             DELETE {SERVER}"
        ),
    )
}

/// A request with the control token.
#[derive(Clone, Copy)]
pub(crate) struct Operator(Origin);

impl FromRequest for Operator {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let is_operator =
            request.app_data::<Data<SecretDigest>>().is_some_and(|token| is_operator(request, token));
        ready(if is_operator {
            Ok(Self(api::origin(request, Dialect::Control.door())))
        } else {
            Err(ApiError(Failure::NotTheOperator))
        })
    }
}

/// `POST /control/reset`: deletes every group and registered ECS of every project. The audit log stays, and records
/// it.
async fn reset(operator: Operator, store: Data<Store>) -> Result<HttpResponse, ApiError> {
    store.apply(policy::permit_reset(operator.0), Command::ResetDatabase).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /control/projects/{project_id}/reset`: the same of one project, whose listing of traces begins anew too.
async fn reset_project(
    operator: Operator,
    path: Path<String>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let project_id = project_id(&path)?;
    let permit = policy::permit_project_reset(operator.0, project_id);
    store.apply(permit, Command::ResetProject { project_id }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The project that a path names.
fn project_id(text: &str) -> Result<ProjectId, Malformed> {
    text.parse().map_err(|error| {
        Malformed::field("project_id", format!("in the path is {}, which is {error}", Excerpt::of(text)))
    })
}

fn is_operator(request: &HttpRequest, token: &SecretDigest) -> bool {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|text| text.strip_prefix("Bearer "));
    presented.is_some_and(|presented| token::matches(token, presented))
}

fn error(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": message }))
}
