//! `/livez`: the process answers. `/readyz`: it can do its work, or says why not.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::json;
use crate::store::Store;

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// `GET /livez`: 200 as long as the process can answer at all.
pub async fn live() -> impl Responder {
    json(StatusCode::OK, &Health { status: "alive", reason: None })
}

/// `GET /readyz`: 200 when the writer lives and the schema is current, else 503 with the reason. 200 may have a reason,
/// too: requests are answered, and something wants the operator.
pub async fn ready(store: Data<Store>) -> HttpResponse {
    match store.readiness().await {
        Ok(()) => json(StatusCode::OK, &Health { status: "ready", reason: store.warning() }),
        Err(reason) => {
            json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "unready", reason: Some(reason) })
        }
    }
}
