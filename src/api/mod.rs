//! The dialects: what goes over the wire, and nothing else.
//!
//! The order of the checks is fixed: route (404, 405), size (413, 408), caller (401), content type (415), project of
//! the URL, permit, body, decision. A handler's parameters stand in that order, since they are extracted from left
//! to right.

pub mod body;
pub mod caller;
pub mod cts;
pub mod ecs;
pub mod error;
pub mod exchange;
pub mod explorer;
pub mod gate;
pub mod health;
pub mod iam;
pub mod nova;
pub mod once;
pub mod openapi;
pub mod site;
pub mod target;
mod unread;

use std::future::ready;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Handler, HttpMessage as _, HttpRequest, HttpResponse, Responder};

use crate::access::action::Action;
use crate::access::principal::Origin;
use crate::api::error::{ApiError, Failure};
use crate::api::gate::Gate;
use crate::api::site::Site;
use crate::clock::{Clock, Ids};
use crate::domain::id::RequestId;
use crate::identities::Current;
use crate::store::Store;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Everybody, without credentials.
    Open,
    /// Everybody who is known.
    Known,
    /// Who is permitted this.
    Permitted(Action),
    /// Who is permitted one of these; the body says which.
    PermittedByBody(&'static [Action]),
}

/// One row of the URL surface.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, in actix's patterns.
    pub path: &'static str,
    /// Who may call it.
    pub guard: Guard,
    /// One route, or two where HEAD goes with GET.
    handlers: Vec<actix_web::Route>,
}

impl Route {
    /// A row.
    pub fn new<F, Args>(method: Method, path: &'static str, guard: Guard, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let is_get = method == Method::GET;
        let handlers = with_head(&method).map(move |method| {
            let route = web::method(method).to(handler.clone());
            match guard {
                // Nobody reads the body of a GET.
                Guard::Open if is_get => route,
                Guard::Open => route.wrap(from_fn(caller::admit_anybody)),
                Guard::Known | Guard::Permitted(_) | Guard::PermittedByBody(_) => {
                    route.wrap(from_fn(caller::authenticate))
                }
            }
        });
        Self { handlers: handlers.collect(), method, path, guard }
    }

    /// What `Allow` says of it.
    fn methods(&self) -> impl Iterator<Item = Method> {
        with_head(&self.method)
    }
}

/// The method, and HEAD with GET: the framework leaves out the body.
fn with_head(method: &Method) -> impl Iterator<Item = Method> + use<> {
    std::iter::once(method.clone()).chain((method == Method::GET).then_some(Method::HEAD))
}

/// The whole URL surface. Rows of one path stand together.
#[must_use]
pub fn routes() -> Vec<Route> {
    const GROUPS: &str = "/v1/{project_id}/cloudservers/os-server-groups";
    const GROUP: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}";
    const TOKENS: &str = "/v3/auth/tokens";
    const TEMPORARY_KEYS: &str = "/v3.0/OS-CREDENTIAL/securitytokens";
    const MEMBERS: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/action";
    const ADD: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/add_members";
    const REMOVE: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}/remove_members";
    const LIMITS: &str = "/v1/{project_id}/cloudservers/limits";
    const SERVER: &str = "/v1/{project_id}/cloudservers/{server_id}";
    const NATIVE_GROUPS: &str = "/v2.1/{project_id}/os-server-groups";
    const NATIVE_GROUP: &str = "/v2.1/{project_id}/os-server-groups/{server_group_id}";
    const NATIVE_LIMITS: &str = "/v2.1/{project_id}/limits";
    const LEGACY_GROUPS: &str = "/v2/{project_id}/os-server-groups";
    const LEGACY_GROUP: &str = "/v2/{project_id}/os-server-groups/{server_group_id}";
    const LEGACY_LIMITS: &str = "/v2/{project_id}/limits";
    const TRACES: &str = "/v3/{project_id}/traces";
    const OPERATIONS: &str = "/v3/{project_id}/operations";
    const MEMBER_ACTIONS: [Action; 2] = [Action::AddServerGroupMember, Action::DeleteServerGroupMember];
    use Guard::{Known, Open, Permitted, PermittedByBody};
    vec![
        Route::new(Method::GET, GROUPS, Permitted(Action::ListServerGroups), ecs::list),
        Route::new(Method::POST, GROUPS, Permitted(Action::CreateServerGroup), ecs::create),
        Route::new(Method::GET, GROUP, Permitted(Action::ShowServerGroup), ecs::show),
        Route::new(Method::DELETE, GROUP, Permitted(Action::DeleteServerGroup), ecs::delete),
        Route::new(Method::POST, MEMBERS, PermittedByBody(&MEMBER_ACTIONS), ecs::change_member),
        Route::new(Method::POST, ADD, Permitted(Action::AddServerGroupMember), ecs::add_members),
        Route::new(Method::POST, REMOVE, Permitted(Action::DeleteServerGroupMember), ecs::remove_members),
        Route::new(Method::GET, LIMITS, Permitted(Action::ShowServerLimits), ecs::limits),
        Route::new(Method::GET, SERVER, Permitted(Action::ShowServer), ecs::show_server),
        Route::new(Method::GET, "/", Open, nova::versions),
        Route::new(Method::GET, "/v2.1", Open, nova::version),
        Route::new(Method::GET, NATIVE_GROUPS, Permitted(Action::ManageServerGroups), nova::list),
        Route::new(Method::POST, NATIVE_GROUPS, Permitted(Action::ManageServerGroups), nova::create),
        Route::new(Method::GET, NATIVE_GROUP, Permitted(Action::ManageServerGroups), nova::show),
        Route::new(Method::DELETE, NATIVE_GROUP, Permitted(Action::ManageServerGroups), nova::delete),
        Route::new(Method::GET, NATIVE_LIMITS, Permitted(Action::ShowNativeLimits), nova::limits),
        Route::new(Method::GET, "/v2", Open, nova::legacy_version),
        Route::new(Method::GET, LEGACY_GROUPS, Permitted(Action::ManageServerGroups), nova::list),
        Route::new(Method::POST, LEGACY_GROUPS, Permitted(Action::ManageServerGroups), nova::create),
        Route::new(Method::GET, LEGACY_GROUP, Permitted(Action::ManageServerGroups), nova::show),
        Route::new(Method::DELETE, LEGACY_GROUP, Permitted(Action::ManageServerGroups), nova::delete),
        Route::new(Method::GET, LEGACY_LIMITS, Permitted(Action::ShowNativeLimits), nova::limits),
        Route::new(Method::GET, "/v3", Open, iam::version),
        Route::new(Method::POST, TOKENS, Open, iam::issue_token),
        Route::new(Method::GET, TOKENS, Known, iam::show_token),
        Route::new(Method::DELETE, TOKENS, Known, iam::revoke_token),
        Route::new(Method::GET, "/v3/projects", Known, iam::projects),
        Route::new(Method::GET, "/v3/auth/projects", Known, iam::own_projects),
        Route::new(Method::GET, "/v3/auth/domains", Known, iam::domains),
        Route::new(Method::GET, "/v3/auth/catalog", Known, iam::catalog),
        Route::new(Method::POST, TEMPORARY_KEYS, Open, iam::issue_temporary_key),
        Route::new(Method::GET, TRACES, Permitted(Action::ListTraces), cts::list),
        Route::new(Method::GET, OPERATIONS, Permitted(Action::ListTraces), cts::operations),
        Route::new(Method::GET, "/openapi.json", Open, openapi::show),
        Route::new(Method::GET, "/explorer", Open, explorer::page),
        Route::new(Method::GET, "/explorer/{file}", Open, explorer::file),
        Route::new(Method::GET, "/livez", Open, health::live),
        Route::new(Method::GET, "/readyz", Open, health::ready),
    ]
}

/// What every handler can reach.
#[derive(Clone)]
pub struct Shared {
    /// The database.
    pub store: Arc<Store>,
    /// Who there is.
    pub identities: Arc<Current>,
    /// The limits on being wrong.
    pub gate: Arc<Gate>,
    /// Where the service stands.
    pub site: Arc<Site>,
    /// What time it is.
    pub clock: Clock,
    /// Where request ids come from; each worker forks its own.
    pub ids: Arc<Mutex<Ids>>,
    /// How large and how slow a request may be.
    pub limits: HttpLimits,
}

/// How large and how slow a request may be. Settings `http.*`.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_deadline: Duration,
    /// The longest path and query, in bytes.
    pub uri_bytes_max: usize,
}

/// Serves `routes` with what `shared` holds. A known path with another method is 405 with `Allow`; the caller of this
/// adds [`not_found`] as the default.
pub fn mount(shared: Shared, routes: Vec<Route>) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(web::Data::from(shared.store)).app_data(web::Data::from(shared.identities));
        config.app_data(web::Data::from(shared.gate)).app_data(web::Data::from(shared.site));
        config.app_data(web::Data::new(shared.clock)).app_data(web::Data::new(shared.limits));
        config.app_data(exchange::RequestIds::fork(&shared.ids));
        let mut routes = routes.into_iter().peekable();
        while let Some(first) = routes.next() {
            let path = first.path;
            let mut allow: Vec<Method> = first.methods().collect();
            let mut handlers = first.handlers;
            while let Some(next) = routes.next_if(|next| next.path == path) {
                allow.extend(next.methods());
                handlers.extend(next.handlers);
            }
            // A trailing slash makes no difference; the root has its own.
            let resource =
                if path == "/" { web::resource("/") } else { web::resource(format!("{path}{{slash:/?}}")) };
            let resource = handlers.into_iter().fold(resource, actix_web::Resource::route);
            config.service(
                resource.default_service(web::to(move |method: Method| ready(no_handler(&method, &allow)))),
            );
        }
    }
}

/// The answer on a path that has no handler for `method`: OPTIONS tells what there is, the others are refused.
fn no_handler(method: &Method, allow: &[Method]) -> Result<HttpResponse, ApiError> {
    if method == Method::OPTIONS {
        return Ok(HttpResponse::NoContent().insert_header((ALLOW, error::list(allow))).finish());
    }
    Err(ApiError(Failure::MethodNotAllowed { allow: allow.to_vec() }))
}

/// The answer for a path that is not served.
///
/// # Errors
/// Always.
pub async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError(Failure::NoSuchApi))
}

/// An answer with a JSON body, in the content type that the vendor's clients are told to expect.
pub(crate) fn json(status: actix_web::http::StatusCode, body: &impl serde::Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => HttpResponse::build(status).content_type("application/json;charset=utf-8").body(bytes),
        Err(error) => HttpResponse::from_error(ApiError(Failure::Internal(error.to_string()))),
    }
}

/// Where a request came in, and its id.
pub(crate) fn origin(request: &HttpRequest, door: &'static str) -> Origin {
    let request_id = request.extensions().get().copied().unwrap_or(RequestId::from_bytes([0; 16]));
    Origin { request_id, source_ip: source_ip(request), door }
}

/// The address that a request counts as coming from.
fn source_ip(request: &HttpRequest) -> Option<IpAddr> {
    // A listener on [::] sees IPv4 clients under addresses of its own kind.
    let peer = request.peer_addr()?.ip().to_canonical();
    let Some(site) = request.app_data::<web::Data<Site>>() else { return Some(peer) };
    if site.trusted_proxies.is_empty() {
        return Some(peer);
    }
    // What is not text is kept as something that is no address, so that nobody hides behind it.
    let hops =
        request.headers().get_all("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes()));
    Some(site.source_ip(peer, &hops.collect::<Vec<_>>().join(",")))
}
