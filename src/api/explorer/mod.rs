//! `/explorer`: Swagger UI over `/openapi.json`. All of it is inside the program, and the page may load nothing from
//! anywhere else.

use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::Config;

use crate::api::error::{ApiError, Failure};
use crate::api::site::Site;

/// The page; `{token}` is the login that it begins with.
const PAGE: &str = include_str!("page.html");
/// What starts Swagger UI.
const SCRIPT: &str = include_str!("explorer.js");
const SCRIPT_NAME: &str = "explorer.js";
/// What the page loads.
pub(super) const FILES: [&str; 4] =
    [SCRIPT_NAME, "favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"];
/// Swagger UI writes styles into the page, and its icons are `data:`.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /explorer`: the page.
pub async fn page(site: Data<Site>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(PAGE.replace("{token}", site.dev_token.unwrap_or_default()))
}

/// `GET /explorer/{file}`: what the page loads.
///
/// # Errors
/// When there is no such file.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let asked = request.match_info().query("file");
    let name = FILES.into_iter().find(|name| *name == asked).ok_or(Failure::NoSuchApi)?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "no-cache")).insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if name == SCRIPT_NAME {
        return Ok(answer.content_type("text/javascript").body(SCRIPT));
    }
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::default()));
    let file = file.map_err(|error| Failure::Internal(error.to_string()))?.ok_or(Failure::NoSuchApi)?;
    if file.gzpipped {
        answer.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(answer.content_type(file.content_type).body(file.bytes.into_owned()))
}
