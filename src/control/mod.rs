//! The admin listener: what an operator or a test suite does beside the API.
//!
//! Every request needs `Authorization: Bearer` and the control token.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::access::{policy, token};
use crate::api::{self, exchange::RequestIds};
use crate::clock::Ids;
use crate::domain::command::Command;
use crate::domain::session::SecretDigest;
use crate::store::{Store, StoreError, Unavailable};

/// What the control listener can reach.
#[derive(Clone)]
pub struct Shared {
    /// The database.
    pub store: Arc<Store>,
    /// The token that every request must carry.
    pub token: SecretDigest,
    /// Where request ids come from.
    pub ids: Arc<std::sync::Mutex<Ids>>,
}

/// The routes of the control listener.
pub fn mount(shared: Shared) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(Data::from(shared.store)).app_data(Data::new(shared.token));
        config.app_data(RequestIds::fork(&shared.ids));
        config.service(web::resource("/control/reset").route(web::post().to(reset)).default_service(
            web::to(async || {
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "this path takes POST");
                let post = actix_web::http::header::HeaderValue::from_static("POST");
                response.headers_mut().insert(actix_web::http::header::ALLOW, post);
                response
            }),
        ));
    }
}

/// The answer for a path that is not served.
pub async fn not_found() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "no such path; there is POST /control/reset")
}

/// `POST /control/reset`: deletes every group of every project. The audit log stays, and records it.
async fn reset(request: HttpRequest, token: Data<SecretDigest>, store: Data<Store>) -> HttpResponse {
    if !is_operator(&request, &token) {
        return error(
            StatusCode::UNAUTHORIZED,
            "send Authorization: Bearer and the control token of the ready file",
        );
    }
    let permit = policy::permit_reset(api::origin(&request, "control"));
    match store.apply(permit, Command::ResetDatabase).await {
        Ok(_) => HttpResponse::NoContent().finish(),
        Err(failure) => error(status_of(&failure), &failure.to_string()),
    }
}

fn is_operator(request: &HttpRequest, token: &SecretDigest) -> bool {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|text| text.strip_prefix("Bearer "));
    presented.is_some_and(|presented| token::matches(token, presented))
}

const fn status_of(failure: &StoreError) -> StatusCode {
    match failure {
        StoreError::Unavailable(
            Unavailable::QueueFull | Unavailable::DiskFull | Unavailable::Busy | Unavailable::Stopping,
        )
        | StoreError::Disk(_) => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Refused(_)
        | StoreError::TooManyRefusals
        | StoreError::OutcomeUnknown(_)
        | StoreError::Corrupt { .. }
        | StoreError::WrongPermit { .. }
        | StoreError::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn error(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": message }))
}
