//! What the product is measured against.
//!
//! (a) `serve-naive`: the product's HTTP stack, schema, ids, pragmas and record, and the two inserts as most people
//! write them: a pool of 10, a transaction a request, two single-row inserts, commit.
//! `serve-static`: the same HTTP stack, and the same bytes with no database.
//! (b) [`bare_loop`]: SQLite alone, the same two inserts at a given number of pairs a transaction.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use ecs_groupd::access::action::Action;
use ecs_groupd::api::body::Malformed;
use ecs_groupd::api::caller::{Caller, JsonBody};
use ecs_groupd::api::error::{ApiError, Failure};
use ecs_groupd::api::target::{UrlGroup, UrlProject};
use ecs_groupd::api::{self, Guard, Route, exchange};
use ecs_groupd::audit::record::{Place, Record, TraceId};
use ecs_groupd::audit::{encode, tree};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::{Change, Command};
use ecs_groupd::domain::group::{GroupName, PlacementRule, ServerGroup};
use ecs_groupd::domain::id::GroupId;
use ecs_groupd::identities::dev::DevSecrets;
use ecs_groupd::identities::{Current, Identities};
use ecs_groupd::meter::Meter;
use ecs_groupd::server;
use ecs_groupd::settings::{Overrides, Settings};
use ecs_groupd::store::{self, Store};
use ecs_groupd::telemetry;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::Error;

const GROUPS: &str = "/v1/{project_id}/cloudservers/os-server-groups";
const GROUP: &str = "/v1/{project_id}/cloudservers/os-server-groups/{server_group_id}";
const SCHEMA: &str = include_str!("../../migrations/sqlite/0001_groups_and_audit.sql");

/// Serves (a) until it is killed.
pub fn serve_naive(address: SocketAddr, database: &Path) -> Result<(), Error> {
    server::block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(database)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .pragma("journal_size_limit", "16777216");
        let pool = SqlitePoolOptions::new().max_connections(10).connect_with(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        let routes =
            || vec![Route::new(Method::POST, GROUPS, Guard::Permitted(Action::CreateServerGroup), create)];
        serve(address, database, routes, Data::new(pool)).await
    })
}

/// Serves constant answers until it is killed: the ones that the product gives on `database`.
pub fn serve_static(address: SocketAddr, database: &Path) -> Result<(), Error> {
    let bytes = std::fs::read(database.with_extension("answers"))?;
    let answers: Answers = serde_json::from_slice(&bytes)?;
    server::block_on(async {
        let routes = || {
            vec![
                Route::new(Method::GET, GROUPS, Guard::Permitted(Action::ListServerGroups), list),
                Route::new(Method::GET, GROUP, Guard::Permitted(Action::ShowServerGroup), show),
            ]
        };
        serve(address, database, routes, Data::new(answers)).await
    })
}

/// The bytes that `serve-static` sends.
#[derive(serde::Deserialize, serde::Serialize)]
pub struct Answers {
    pub show: String,
    pub list: String,
}

async fn serve<T: 'static>(
    address: SocketAddr,
    database: &Path,
    routes: impl Fn() -> Vec<Route> + Clone + Send + 'static,
    data: Data<T>,
) -> Result<(), Error>
where
    Data<T>: Clone + Send,
{
    let settings = Settings::load(None, &Overrides::default())?;
    telemetry::init(&settings.log);
    // A store that is never written, since the handlers' extractors and `/readyz` ask for one.
    let mut options = settings.store_options();
    options.database = database.with_extension("unused");
    let (store, _writer) =
        store::open(options, Clock::System, Ids::random()?, Arc::new(Meter::default())).await?;
    let shared = api::Shared {
        store: Arc::new(store),
        identities: Arc::new(Current::new(Identities::dev(&DevSecrets::well_known(), true)?)),
        gate: Arc::new(settings.gate()),
        site: Arc::new(settings.site()),
        clock: Clock::System,
        ids: Arc::new(Mutex::new(Ids::random()?)),
        limits: settings.http_limits(),
    };
    let open = || vec![Route::new(Method::GET, "/readyz", Guard::Open, api::health::live)];
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(exchange::observe))
            .app_data(data.clone())
            .configure(api::mount(shared.clone(), routes().into_iter().chain(open()).collect()))
    });
    let workers = std::thread::available_parallelism()?.get();
    Ok(server.workers(workers).bind(address)?.run().await?)
}

#[expect(clippy::disallowed_methods, reason = "this is how most people write it")]
async fn create(
    caller: Caller,
    body: JsonBody,
    project: UrlProject,
    store: Data<Store>,
    pool: Data<SqlitePool>,
) -> Result<HttpResponse, ApiError> {
    let (permit, project_id) = caller.permit(&store, Action::CreateServerGroup, project).await?;
    let mut group = body.object()?.object("server_group")?;
    let name: GroupName = group.text("name")?;
    let policies = group.texts("policies")?;
    let [Ok(placement_rule)] =
        policies.iter().map(|text| text.parse::<PlacementRule>()).collect::<Vec<_>>()[..]
    else {
        return Err(Malformed::field("policies", "is wrong").into());
    };
    let created_by = caller.principal.user.user_id;

    let now = Clock::System.now();
    let group_id = GroupId::next(None, now, rand::random());
    let command = Command::CreateGroup { project_id, name: name.clone(), placement_rule, created_by };
    let group = ServerGroup { group_id, name, placement_rule, members: Vec::new(), created_by };
    let decision = Ok(Change::GroupCreated { project_id, group: group.clone() });
    let place = Place { seq: 0, trace_id: TraceId::new(0, rand::random()), time: now, record_time: now };
    let bytes = encode::encode(&Record::decided(place, &permit, &command, &decision)).map_err(internal)?;
    let leaf = tree::leaf(&bytes);

    let mut tx = pool.begin().await.map_err(internal)?;
    sqlx::query("insert into server_group (project_id, group_id, name, placement_rule, created_by) values (?, ?, ?, ?, ?)")
        .bind(&project_id.as_bytes()[..])
        .bind(&group_id.as_bytes()[..])
        .bind(group.name.as_str())
        .bind(placement_rule.as_str())
        .bind(&created_by.as_bytes()[..])
        .execute(&mut *tx)
        .await
        .map_err(internal)?;
    sqlx::query(
        "insert into audit_record (project_id, group_id, record_time, bytes, leaf) values (?, ?, ?, ?, ?)",
    )
    .bind(&project_id.as_bytes()[..])
    .bind(&group_id.as_bytes()[..])
    .bind(now.as_millis().cast_signed())
    .bind(bytes)
    .bind(&leaf[..])
    .execute(&mut *tx)
    .await
    .map_err(internal)?;
    tx.commit().await.map_err(internal)?;
    let body = serde_json::json!({ "server_group": {
        "id": group_id.to_string(), "name": group.name.as_str(), "policies": [placement_rule.as_str()],
        "members": [], "metadata": {},
    }});
    Ok(HttpResponse::Ok().content_type("application/json;charset=utf-8").body(body.to_string()))
}

async fn show(
    caller: Caller,
    project: UrlProject,
    _group: UrlGroup,
    store: Data<Store>,
    answers: Data<Answers>,
) -> Result<HttpResponse, ApiError> {
    caller.permit(&store, Action::ShowServerGroup, project).await?;
    Ok(HttpResponse::Ok().content_type("application/json;charset=utf-8").body(answers.show.clone()))
}

async fn list(
    caller: Caller,
    project: UrlProject,
    _query: web::Query<Vec<(String, String)>>,
    store: Data<Store>,
    answers: Data<Answers>,
) -> Result<HttpResponse, ApiError> {
    caller.permit(&store, Action::ListServerGroups, project).await?;
    Ok(HttpResponse::Ok().content_type("application/json;charset=utf-8").body(answers.list.clone()))
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError(Failure::Internal(error.to_string()))
}

/// (b): pairs of inserts a second, at `batch` pairs a transaction, over SQLite alone.
pub fn bare_loop(database: &Path, batch: f64, seconds: u32) -> Result<f64, Error> {
    let conn = rusqlite::Connection::open(database)?;
    conn.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma journal_size_limit = 16777216;",
    )?;
    conn.execute_batch(SCHEMA)?;
    let mut begin = conn.prepare("begin immediate")?;
    let mut commit = conn.prepare("commit")?;
    let mut insert_group = conn.prepare(
        "insert into server_group (project_id, group_id, name, placement_rule, created_by) values (?, ?, ?, ?, ?)",
    )?;
    let mut insert_record = conn.prepare(
        "insert into audit_record (seq, project_id, group_id, record_time, bytes, leaf) values (?, ?, ?, ?, ?, ?)",
    )?;
    let record =
        include_str!("../../tests/vectors/audit_records_v1.ndjson").lines().next().unwrap_or_default();
    let (project_id, created_by, leaf) = ([1_u8; 16], [2_u8; 16], [3_u8; 32]);
    let (mut newest, mut seq, mut due) = (None, 0_i64, 0.0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds.into()) {
        begin.execute([])?;
        // A batch that is not whole is made up for by the next one.
        due += batch;
        while due >= 1.0 {
            due -= 1.0;
            seq += 1;
            let now = Clock::System.now();
            let group_id = GroupId::next(newest, now, 7);
            newest = Some(group_id);
            insert_group.execute((
                &project_id,
                group_id.as_bytes(),
                "web-tier",
                "anti-affinity",
                &created_by,
            ))?;
            let time = now.as_millis().cast_signed();
            insert_record.execute((seq, &project_id, group_id.as_bytes(), time, record.as_bytes(), &leaf))?;
        }
        commit.execute([])?;
    }
    Ok(seq as f64 / started.elapsed().as_secs_f64())
}
