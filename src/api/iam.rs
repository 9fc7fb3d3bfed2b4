//! IAM v3, as far as clients need it to log in: tokens, projects, domains, the catalogue and temporary access keys
//! ("Token Management", "Project Management", "Access Key Management", IAM).

use std::num::IntErrorKind;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Bytes, Data, Query};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::access::action::Action;
use crate::access::policy::{self, Denied, DeniedReason};
use crate::access::principal::{Credential, Principal, Project, User};
use crate::access::token;
use crate::api::body::{Malformed, Object};
use crate::api::caller::{self, Caller, Holder, JsonBody, PresentedCaller};
use crate::api::ecs::parameter;
use crate::api::error::{ApiError, Dialect, Failure, WrongLogin};
use crate::api::gate::Gate;
use crate::api::site::Site;
use crate::api::{self, json};
use crate::clock::{self, Clock};
use crate::domain::command::{Change, Command};
use crate::domain::excerpt::Excerpt;
use crate::domain::session::{LoginMethod, Scope, Session, TemporaryKey};
use crate::domain::time::Timestamp;
use crate::identities::password::PASSWORD_BYTES_MAX;
use crate::identities::{Current, DomainRef, Identities, ScopeRef, UserRef, system};
use crate::store::Store;

/// The header that names the token that a request is about, and that carries a new one.
const X_SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// How long a temporary access key is good, in seconds: when nothing is said, and at the least and most ("Obtaining a
/// Temporary AK/SK and Security Token Through a Token").
const KEY_SECONDS_DEFAULT: u64 = 900;
const KEY_SECONDS_MIN: u64 = 900;
const KEY_SECONDS_MAX: u64 = 86_400;

/// `GET /v3` ("Querying Keystone API Version Information").
pub async fn version(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    let href = format!("{}/v3/", site.base_url(&request));
    let links = [Link { rel: "self", href }];
    let version = Version { id: "v3.6", status: "stable", updated: "2016-04-04T00:00:00Z", links };
    json(StatusCode::OK, &VersionEnvelope { version })
}

/// `POST /v3/auth/tokens` ("Obtaining a User Token Through Password Authentication").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn issue_token(
    request: HttpRequest,
    body: JsonBody,
    query: Query<Vec<(String, String)>>,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let Login { proof, scope } = Login::parse(body.object()?)?;
    // Logins wait; their bodies need not.
    drop((body, request.extensions_mut().remove::<Bytes>()));
    let identities = desk.identities.get();
    let (user, expires_by) = desk.prove(&request, &identities, &proof).await?;
    let scope = identities.scope(&user, &scope).ok_or(Failure::WrongLogin(WrongLogin::Scope))?;
    let credential = Credential::Login(proof.method());
    let principal = identities.principal(user.user_id, scope, credential).ok_or(WrongLogin::Scope)?;
    let token = clock::secret_text()?;
    let command = Command::IssueToken {
        digest: token::digest(&token),
        user_id: user.user_id,
        scope,
        method: proof.method(),
        credentials: identities.credentials_digest(user.user_id).ok_or(WrongLogin::Password)?,
        lifetime_ms: desk.site.token_lifetime_ms,
        expires_by,
    };
    let Change::TokenIssued(session) = desk.for_oneself(&request, &principal, command).await? else {
        return Err(Failure::Internal("a login came back as something else".to_owned()).into());
    };
    let base_url = parameter(&query, "nocatalog").is_none().then(|| desk.site.base_url(&request));
    let answer = TokenEnvelope::of(&principal, &Times::of(&session), base_url.as_deref(), &desk.site);
    Ok(with_token(json(StatusCode::CREATED, &answer), &token))
}

/// `GET /v3/auth/tokens` ("Verifying a Token").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn show_token(
    request: HttpRequest,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let (token, holder) = desk.subject(&request, &caller).await?;
    if !policy::has_authority_over(&caller.principal, &holder.principal.user) {
        return Err(Failure::Denied {
            reason: DeniedReason::NotOnesOwn,
            action: Action::RevokeToken,
            on: None,
            own: None,
        }
        .into());
    }
    let base_url = parameter(&query, "nocatalog").is_none().then(|| desk.site.base_url(&request));
    let times = Times {
        issued_at: holder.issued_at,
        expires_at: holder.expires_at.unwrap_or(caller.now.plus_millis(desk.site.token_lifetime_ms)),
        method: holder.method,
    };
    let answer = TokenEnvelope::of(&holder.principal, &times, base_url.as_deref(), &desk.site);
    Ok(with_token(json(StatusCode::OK, &answer), &token))
}

/// `DELETE /v3/auth/tokens`: Keystone's "Revoke token".
///
/// # Errors
/// See [`Failure::answer`].
pub async fn revoke_token(
    request: HttpRequest,
    caller: Caller,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let (token, holder) = desk.subject(&request, &caller).await?;
    let Caller { principal, origin, .. } = &caller;
    let permit = match policy::permit_revoke(principal, *origin, &holder.principal.user) {
        // The token of `--dev` stands in no table.
        Ok(_) if holder.expires_at.is_none() => {
            Err(Denied::new(principal, *origin, Action::RevokeToken, None, DeniedReason::NotOnesOwn))
        }
        permitted => permitted,
    };
    match permit {
        Err(denied) => Err(caller::deny(&desk.store, denied, Action::RevokeToken).await.into()),
        Ok(permit) => {
            desk.store.apply(permit, Command::RevokeToken { digest: token::digest(&token) }).await?;
            Ok(HttpResponse::NoContent().finish())
        }
    }
}

/// `GET /v3/projects` ("Querying Project Information"): those of the caller's account.
///
/// # Errors
/// See [`Failure::answer`].
pub async fn projects(
    request: HttpRequest,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let identities = desk.identities.get();
    let domain_id = caller.principal.user.domain.domain_id;
    let asked = |name: &str| parameter(&query, name);
    let is_asked_for = |project: &Project| {
        asked("name").is_none_or(|name| project.name == name)
            && asked("domain_id").is_none_or(|id| project.domain_id.to_string() == id)
            && asked("parent_id").is_none_or(|id| project.domain_id.to_string() == id)
            && asked("enabled").is_none_or(|flag| flag == "true")
            && asked("is_domain").is_none_or(|flag| flag == "false")
    };
    let projects = identities.projects_of(domain_id).iter().filter(|project| is_asked_for(project));
    let base_url = desk.site.base_url(&request);
    let projects: Vec<_> = projects.map(|project| ProjectBody::of(project, &base_url)).collect();
    let links = Links::of(format!("{base_url}{}", path_and_query(&request)));
    Ok(json(StatusCode::OK, &ProjectsEnvelope { projects: paged(projects, &query)?, links }))
}

/// `GET /v3/auth/projects` ("Querying the List of Projects Accessible to Users").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn own_projects(
    request: HttpRequest,
    caller: Caller,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let identities = desk.identities.get();
    let base_url = desk.site.base_url(&request);
    let projects = identities.projects_open_to(&caller.principal.user);
    let projects = projects.iter().map(|project| ProjectBody::of(project, &base_url)).collect();
    let links = Links::of(format!("{base_url}{}", path_and_query(&request)));
    Ok(json(StatusCode::OK, &ProjectsEnvelope { projects, links }))
}

/// `GET /v3/auth/domains` ("Querying Account Information Accessible to Users").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn domains(request: HttpRequest, caller: Caller, desk: Desk) -> Result<HttpResponse, ApiError> {
    let base_url = desk.site.base_url(&request);
    let domain = &caller.principal.user.domain;
    let id = domain.domain_id.to_string();
    let links = SelfLink { own: format!("{base_url}/v3/domains/{id}") };
    let domains = [DomainBody { id, name: &domain.name, enabled: true, description: "", links }];
    let links = Links::of(format!("{base_url}{}", path_and_query(&request)));
    Ok(json(StatusCode::OK, &DomainsEnvelope { domains, links }))
}

/// `GET /v3/auth/catalog` ("Querying a Service Catalog").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn catalog(request: HttpRequest, caller: Caller, desk: Desk) -> Result<HttpResponse, ApiError> {
    let base_url = desk.site.base_url(&request);
    let catalog = services(caller.principal.project.as_deref(), &base_url, &desk.site);
    let links = SelfLink { own: format!("{base_url}{}", path_and_query(&request)) };
    Ok(json(StatusCode::OK, &CatalogEnvelope { catalog, links }))
}

/// `POST /v3.0/OS-CREDENTIAL/securitytokens` ("Obtaining a Temporary AK/SK and Security Token Through a Token").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn issue_temporary_key(
    request: HttpRequest,
    presented: PresentedCaller,
    body: JsonBody,
    desk: Desk,
) -> Result<HttpResponse, ApiError> {
    let asked = TemporaryKeyRequest::parse(body.object()?)?;
    let identities = desk.identities.get();
    let (principal, expires_by) = match (&asked.token, presented) {
        (Some(token), _) => {
            let holder = caller::holder(&desk.store, &identities, token, desk.clock.now()).await?;
            (holder.principal, holder.expires_at)
        }
        (None, PresentedCaller(Some(caller))) => (caller.principal, caller.expires_at),
        (None, PresentedCaller(None)) => {
            let caller = Caller::known(&request, &Bytes::new()).await?;
            (caller.principal, caller.expires_at)
        }
    };
    if identities.credentials_digest(principal.user.user_id).is_none() {
        return Err(WrongLogin::Password.into());
    }
    let (access_key, security_token) = (clock::access_key_text()?, clock::secret_text()?);
    let command = Command::IssueTemporaryKey {
        access_key: access_key.parse().map_err(|error| Failure::Internal(format!("{error}")))?,
        digest: token::digest(&security_token),
        user_id: principal.user.user_id,
        lifetime_ms: asked.seconds * 1000,
        expires_by,
    };
    let Change::TemporaryKeyIssued(key) = desk.for_oneself(&request, &principal, command).await? else {
        return Err(Failure::Internal("a temporary key came back as something else".to_owned()).into());
    };
    let TemporaryKey { access_key, user_id, expires_at, .. } = key;
    let secret = identities.temporary_secret(user_id, &access_key);
    let secret = secret.ok_or_else(|| Failure::Internal("its user is gone".to_owned()))?;
    let credential = TemporaryKeyBody {
        access: access_key.as_str(),
        secret: secret.expose(),
        securitytoken: &security_token,
        expires_at: expires_at.to_iso8601_micros(),
    };
    Ok(json(StatusCode::CREATED, &TemporaryKeyEnvelope { credential }))
}

/// What a login needs of the service.
pub struct Desk {
    store: Data<Store>,
    identities: Data<Current>,
    gate: Data<Gate>,
    site: Data<Site>,
    clock: Data<Clock>,
}

impl actix_web::FromRequest for Desk {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        let desk = || {
            Some(Self {
                store: request.app_data::<Data<Store>>()?.clone(),
                identities: request.app_data::<Data<Current>>()?.clone(),
                gate: request.app_data::<Data<Gate>>()?.clone(),
                site: request.app_data::<Data<Site>>()?.clone(),
                clock: request.app_data::<Data<Clock>>()?.clone(),
            })
        };
        std::future::ready(desk().ok_or_else(|| Failure::Internal("logins are not wired".to_owned()).into()))
    }
}

impl Desk {
    /// Who it is, and when what proved it ends.
    async fn prove(
        &self,
        request: &HttpRequest,
        identities: &Identities,
        proof: &Proof,
    ) -> Result<(std::sync::Arc<User>, Option<Timestamp>), Failure> {
        let now = self.clock.now();
        match proof {
            Proof::Token(token) => {
                let holder = caller::holder(&self.store, identities, token, now).await?;
                Ok((holder.principal.user, holder.expires_at))
            }
            Proof::Password { user, password } => {
                // Nobody has one so long: it need not wait, or be counted.
                if password.len() > PASSWORD_BYTES_MAX {
                    return Err(WrongLogin::Password.into());
                }
                let who = identities.label(user);
                let (user, hash) =
                    identities.login(user).map_err(|error| Failure::Internal(error.to_string()))?;
                let source_ip = api::origin(request, Dialect::Iam.door()).source_ip;
                let is_right = self.gate.log_in(&who, source_ip, now, hash, password.clone()).await?;
                let user = user.filter(|_user| is_right).ok_or(WrongLogin::Password)?;
                Ok((user, None))
            }
        }
    }

    /// Does what everybody may for itself.
    async fn for_oneself(
        &self,
        request: &HttpRequest,
        principal: &Principal,
        command: Command,
    ) -> Result<Change, Failure> {
        let origin = api::origin(request, Dialect::Iam.door());
        let action = Action::of(&command);
        match policy::permit_oneself(principal, origin, action) {
            Ok(permit) => Ok(self.store.apply(permit, command).await?),
            Err(denied) => Err(caller::deny(&self.store, denied, action).await),
        }
    }

    /// The token that the request is about, if it is good and of the caller's account.
    async fn subject(&self, request: &HttpRequest, caller: &Caller) -> Result<(String, Holder), Failure> {
        let token = caller::text(request, &X_SUBJECT_TOKEN)?.ok_or(Failure::NoSuchToken)?;
        let found = caller::holder(&self.store, &self.identities.get(), token, caller.now).await;
        match found {
            Ok(holder) if holder.principal.user.domain == caller.principal.user.domain => {
                Ok((token.to_owned(), holder))
            }
            Ok(_) | Err(Failure::Unauthenticated(_)) => Err(Failure::NoSuchToken),
            Err(failure) => Err(failure),
        }
    }
}

/// The body of a login.
struct Login {
    proof: Proof,
    scope: ScopeRef,
}

enum Proof {
    Password { user: UserRef, password: String },
    Token(String),
}

impl Proof {
    const fn method(&self) -> LoginMethod {
        match self {
            Self::Password { .. } => LoginMethod::Password,
            Self::Token(_) => LoginMethod::Token,
        }
    }
}

impl Login {
    fn parse(mut body: Object) -> Result<Self, Malformed> {
        let mut auth = body.object("auth")?;
        let mut identity = auth.object("identity")?;
        let methods = identity.texts("methods")?;
        let proof = match methods.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["password"] => {
                let mut user = identity.object("password")?.object("user")?;
                Proof::Password { password: user.text("password")?, user: user_ref(&mut user)? }
            }
            ["token"] => Proof::Token(identity.object("token")?.text("id")?),
            _ => {
                let shown: Vec<_> =
                    methods.iter().take(3).map(|method| Excerpt::of(method).to_string()).collect();
                let rule = format!("must be [\"password\"] or [\"token\"], and is [{}]", shown.join(", "));
                return Err(Malformed::field(identity.path_of("methods"), rule));
            }
        };
        let scope =
            if auth.has("scope") { scope_ref(&mut auth.object("scope")?)? } else { ScopeRef::Unscoped };
        Ok(Self { proof, scope })
    }
}

fn user_ref(user: &mut Object) -> Result<UserRef, Malformed> {
    if user.has("id") {
        return Ok(UserRef::Id(user.text("id")?));
    }
    Ok(UserRef::Name { name: user.text("name")?, domain: domain_ref(&mut user.object("domain")?)? })
}

fn domain_ref(domain: &mut Object) -> Result<DomainRef, Malformed> {
    if domain.has("id") {
        Ok(DomainRef::Id(domain.text("id")?))
    } else {
        Ok(DomainRef::Name(domain.text("name")?))
    }
}

fn scope_ref(scope: &mut Object) -> Result<ScopeRef, Malformed> {
    if !scope.has("project") {
        return Ok(ScopeRef::Domain(domain_ref(&mut scope.object("domain")?)?));
    }
    let mut project = scope.object("project")?;
    if project.has("id") {
        return Ok(ScopeRef::ProjectId(project.text("id")?));
    }
    let name = project.text("name")?;
    let domain = if project.has("domain") { Some(domain_ref(&mut project.object("domain")?)?) } else { None };
    Ok(ScopeRef::ProjectName { name, domain })
}

/// The body of a request for a temporary key.
struct TemporaryKeyRequest {
    token: Option<String>,
    seconds: u64,
}

impl TemporaryKeyRequest {
    fn parse(mut body: Object) -> Result<Self, Malformed> {
        let mut identity = body.object("auth")?.object("identity")?;
        let methods = identity.texts("methods")?;
        if methods != ["token"] {
            return Err(Malformed::field(identity.path_of("methods"), "must be [\"token\"]"));
        }
        if identity.has("policy") {
            let rule = "is not supported here: give the user a policy in identities.toml";
            return Err(Malformed::field(identity.path_of("policy"), rule));
        }
        let Some(mut asked) = identity.has("token").then(|| identity.object("token")).transpose()? else {
            return Ok(Self { token: None, seconds: KEY_SECONDS_DEFAULT });
        };
        let token = if asked.has("id") { Some(asked.text("id")?) } else { None };
        let seconds = if asked.has("duration_seconds") {
            asked.whole_number("duration_seconds", KEY_SECONDS_MIN..=KEY_SECONDS_MAX)?
        } else {
            KEY_SECONDS_DEFAULT
        };
        Ok(Self { token, seconds })
    }
}

fn path_and_query(request: &HttpRequest) -> &str {
    request.uri().path_and_query().map_or("/", |text| text.as_str())
}

/// `page` and `per_page`, both from 1; without them, all.
fn paged<T>(items: Vec<T>, query: &[(String, String)]) -> Result<Vec<T>, Malformed> {
    let number = |name: &str| match parameter(query, name) {
        None => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            // No list is that long.
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => Ok(Some(usize::MAX)),
            _ => {
                let rule = format!("must be a whole number from 1, and is {}", Excerpt::of(text));
                Err(Malformed::field(name, rule))
            }
        },
    };
    match (number("page")?, number("per_page")?) {
        (page, Some(per_page)) => {
            let before = (page.unwrap_or(1) - 1).saturating_mul(per_page);
            Ok(items.into_iter().skip(before).take(per_page).collect())
        }
        (Some(page), None) if page > 1 => Ok(Vec::new()),
        _ => Ok(items),
    }
}

fn with_token(mut response: HttpResponse, token: &str) -> HttpResponse {
    if let Ok(value) = HeaderValue::from_str(token) {
        response.headers_mut().insert(X_SUBJECT_TOKEN, value);
    }
    response
}

/// The services, and where they stand. Those of a project are left out where there is none.
fn services(project: Option<&Project>, base_url: &str, site: &Site) -> Vec<ServiceBody> {
    let service = |name, r#type, url: String| {
        let region = site.region.clone();
        let endpoint = EndpointBody {
            id: stable_id(&["endpoint", r#type]),
            interface: "public",
            region: region.clone(),
            region_id: region,
            url,
        };
        ServiceBody { id: stable_id(&["service", r#type]), name, r#type, endpoints: [endpoint] }
    };
    let mut services = vec![service("iam", "identity", format!("{base_url}/v3"))];
    if let Some(project) = project {
        let id = project.project_id;
        services.push(service("ecs", "ecs", format!("{base_url}/v1/{id}")));
        services.push(service("nova", "compute", format!("{base_url}/v2.1/{id}")));
        services.push(service("cts", "cts", format!("{base_url}/v3/{id}")));
    }
    services
}

/// An id that is always the same for the same names.
fn stable_id(names: &[&str]) -> String {
    let digest = names.iter().fold(Sha256::new(), |digest, name| digest.chain_update(name).chain_update([0]));
    base16ct::lower::encode_string(&digest.finalize()[..16])
}

/// When a token was given out, until when it is good, and for what proof.
struct Times {
    issued_at: Timestamp,
    expires_at: Timestamp,
    method: LoginMethod,
}

impl Times {
    const fn of(session: &Session) -> Self {
        Self { issued_at: session.issued_at, expires_at: session.expires_at, method: session.method }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct TokenEnvelope<'token> {
    token: TokenBody<'token>,
}

#[derive(Serialize, ToSchema)]
struct TokenBody<'token> {
    methods: [&'static str; 1],
    issued_at: String,
    expires_at: String,
    user: UserBody<'token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ScopedProjectBody<'token>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<NamedBody<'token>>,
    roles: Vec<RoleBody>,
    catalog: Vec<ServiceBody>,
}

#[derive(Serialize, ToSchema)]
struct UserBody<'token> {
    id: &'token str,
    name: &'token str,
    password_expires_at: &'static str,
    domain: NamedBody<'token>,
}

#[derive(Serialize, ToSchema)]
struct ScopedProjectBody<'token> {
    id: String,
    name: &'token str,
    domain: NamedBody<'token>,
}

#[derive(Serialize, ToSchema)]
struct NamedBody<'token> {
    id: &'token str,
    name: &'token str,
}

#[derive(Serialize, ToSchema)]
struct RoleBody {
    id: &'static str,
    name: String,
}

impl<'token> TokenEnvelope<'token> {
    /// Without a `base_url`, without a catalogue.
    fn of(principal: &'token Principal, times: &Times, base_url: Option<&str>, site: &Site) -> Self {
        let user = &principal.user;
        let domain = || NamedBody { id: user.domain_id_text(), name: &user.domain.name };
        let project = principal.project.as_deref();
        let token = TokenBody {
            methods: [times.method.name()],
            issued_at: times.issued_at.to_iso8601_micros(),
            expires_at: times.expires_at.to_iso8601_micros(),
            user: UserBody {
                id: user.user_id_text(),
                name: &user.name,
                password_expires_at: "",
                domain: domain(),
            },
            project: project.map(|project| ScopedProjectBody {
                id: project.project_id.to_string(),
                name: &project.name,
                domain: domain(),
            }),
            domain: match principal.scope() {
                Scope::Domain(_) => Some(domain()),
                Scope::Project(_) => None,
            },
            roles: roles(principal),
            catalog: base_url.map_or(Vec::new(), |base_url| services(project, base_url, site)),
        };
        Self { token }
    }
}

/// The internal names of what is granted; the root of an account is its administrator.
fn roles(principal: &Principal) -> Vec<RoleBody> {
    let role = |name: &str| RoleBody { id: "0", name: name.to_owned() };
    if principal.user.is_root {
        return vec![role("te_admin"), role("secu_admin")];
    }
    let names = principal.documents.iter().map(|document| document.name());
    names.map(|name| role(system::named(name).map_or(name, |system| system.internal_name))).collect()
}

#[derive(Serialize, ToSchema)]
struct ServiceBody {
    id: String,
    name: &'static str,
    r#type: &'static str,
    endpoints: [EndpointBody; 1],
}

#[derive(Serialize, ToSchema)]
struct EndpointBody {
    id: String,
    interface: &'static str,
    region: String,
    region_id: String,
    url: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct CatalogEnvelope {
    catalog: Vec<ServiceBody>,
    links: SelfLink,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProjectsEnvelope<'project> {
    projects: Vec<ProjectBody<'project>>,
    links: Links,
}

#[derive(Serialize, ToSchema)]
struct ProjectBody<'project> {
    id: String,
    name: &'project str,
    domain_id: String,
    parent_id: String,
    is_domain: bool,
    enabled: bool,
    description: &'static str,
    links: SelfLink,
}

impl<'project> ProjectBody<'project> {
    fn of(project: &'project Project, base_url: &str) -> Self {
        let id = project.project_id.to_string();
        Self {
            name: &project.name,
            domain_id: project.domain_id.to_string(),
            parent_id: project.domain_id.to_string(),
            is_domain: false,
            enabled: true,
            description: "",
            links: SelfLink { own: format!("{base_url}/v3/projects/{id}") },
            id,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct DomainsEnvelope<'domain> {
    domains: [DomainBody<'domain>; 1],
    links: Links,
}

#[derive(Serialize, ToSchema)]
struct DomainBody<'domain> {
    id: String,
    name: &'domain str,
    enabled: bool,
    description: &'static str,
    links: SelfLink,
}

#[derive(Serialize, ToSchema)]
struct SelfLink {
    #[serde(rename = "self")]
    own: String,
}

#[derive(Serialize, ToSchema)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    next: Option<String>,
    previous: Option<String>,
}

impl Links {
    const fn of(own: String) -> Self {
        Self { own, next: None, previous: None }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct VersionEnvelope {
    version: Version,
}

#[derive(Serialize, ToSchema)]
struct Version {
    id: &'static str,
    status: &'static str,
    updated: &'static str,
    links: [Link; 1],
}

#[derive(Serialize, ToSchema)]
struct Link {
    rel: &'static str,
    href: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TemporaryKeyEnvelope<'key> {
    credential: TemporaryKeyBody<'key>,
}

#[derive(Serialize, ToSchema)]
struct TemporaryKeyBody<'key> {
    access: &'key str,
    secret: &'key str,
    securitytoken: &'key str,
    expires_at: String,
}
