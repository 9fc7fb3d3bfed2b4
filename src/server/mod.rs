//! The only wiring: settings → store → routes → listeners. `build` makes everything ready, `Server::run` serves.

pub mod ready;
pub mod signal;
mod upkeep;

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use actix_web::dev::Server as HttpListener;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use self::upkeep::Upkeep;
use crate::access::token;
use crate::api::site::Site;
use crate::api::{self, exchange};
use crate::clock::{self, Clock, Ids, NoEntropy};
use crate::control;
use crate::identities::dev::{self, DevSecrets};
use crate::identities::file::{self, IdentitiesError};
use crate::identities::{Current, Identities};
use crate::meter::Meter;
use crate::settings::{ControlListen, Http, Settings};
use crate::store::{self, OpenError, Store, Writer, WriterFailed};

/// Where `control.listen = "auto"` is, when the API's port is not 0.
const CONTROL_PORT: u16 = 8775;

/// How long the control listener's answers in flight may take at a stop, in seconds: its requests are short, and a stream
/// whose reader takes nothing never ends by itself.
const CONTROL_STOP_S_MAX: u64 = 3;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Why the service did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is nobody who could log in.
    #[error(
        "no accounts: name a file of them with --identities (`ecs-groupd identity example` prints one), or run with \
         --dev, which has one well-known account, on loopback only"
    )]
    NoIdentities,
    /// There are two answers to who may log in.
    #[error(
        "--dev has an account of its own, and access.identities names a file of them: use one of the two"
    )]
    TwoIdentities,
    /// The file of accounts is not used.
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    /// `--dev` would be open to other machines.
    #[error(
        "--dev listens on loopback only, and {listener} is set to {address}: use 127.0.0.1 or [::1], or set \
         dev.anonymous = false and dev.random_credentials = true"
    )]
    DevOffLoopback {
        /// Which listener.
        listener: &'static str,
        /// Where it was to be.
        address: SocketAddr,
    },
    /// Passwords and tokens would cross the network for all to read.
    #[error(
        "{listener} is set to {address}, which other machines reach, and this is HTTP without TLS: put a proxy with \
         TLS in front and listen on 127.0.0.1, or say --insecure-http"
    )]
    Insecure {
        /// Which listener.
        listener: &'static str,
        /// Where it was to be.
        address: SocketAddr,
    },
    /// The address is taken, or may not be used.
    #[error("{listener}: cannot listen on {address}: {source}")]
    Listen {
        /// Which listener: the setting that says where it is.
        listener: &'static str,
        /// The address or path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The database cannot be opened to write.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The writer stopped.
    #[error(transparent)]
    Writer(#[from] WriterFailed),
    /// The writer panicked: a mistake in this program.
    #[error("the writer panicked; what it said stands above")]
    WriterPanicked,
    /// The system has no random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Something of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The API's address.
    pub api: SocketAddr,
    /// The control listener's, if there is one.
    pub control: Option<ControlAddress>,
}

/// Where the control listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

/// What is said at the command line alone.
#[derive(Clone, Default)]
pub struct Launch {
    /// `--dev`: the one account, and what it logs in with.
    pub dev: Option<DevSecrets>,
    /// `--insecure-http`: other machines may reach the service without TLS.
    pub is_insecure_http_allowed: bool,
    /// `--accept-audit-loss`: a log is gone on with that is not the one that its newest checkpoint tells of.
    pub is_loss_accepted: bool,
}

/// A service that listens, and does not answer yet.
pub struct Server {
    addresses: Addresses,
    control_token: String,
    upkeep: Upkeep,
    api: HttpListener,
    control: Option<HttpListener>,
    store: Arc<Store>,
    writer: Writer,
    meter: Arc<Meter>,
    stopping: watch::Sender<bool>,
}

/// Opens the database and binds the listeners. Must be called inside [`block_on`].
///
/// # Errors
/// [`ServeError`], with what to do about it.
pub async fn build(
    settings: &Settings,
    launch: &Launch,
    clock: Clock,
    mut ids: Ids,
) -> Result<Server, ServeError> {
    let (identities, file) = identities(settings, launch)?;
    let identities = Arc::new(Current::new(identities));
    let control = control_listen(settings, launch.dev.is_some());
    check_address("api.listen", settings.api.listen, settings, launch)?;
    if let ControlListen::Tcp(address) = control {
        check_address("control.listen", address, settings, launch)?;
    }

    let meter = Arc::new(Meter::default());
    let mut options = settings.store_options();
    options.is_loss_accepted = launch.is_loss_accepted;
    if launch.dev.is_some() {
        options.refusals_per_minute = None;
    }
    let (store, writer) = store::open(options, clock.clone(), ids.fork(), Arc::clone(&meter)).await?;
    let store = Arc::new(store);
    let upkeep = Upkeep {
        store: Arc::clone(&store),
        identities: Arc::clone(&identities),
        file,
        clock: clock.clone(),
        ids: ids.fork(),
        retention_ms: settings.audit.retention_days * DAY_MS,
    };
    let ids = Arc::new(Mutex::new(ids));

    let shared = api::Shared {
        store: Arc::clone(&store),
        identities,
        gate: Arc::new(settings.gate()),
        site: Arc::new(site(settings, launch)),
        clock,
        ids: Arc::clone(&ids),
        limits: settings.http_limits(),
    };
    let (api, api_address) = api_listener(settings, shared)?;
    let control_token = match &launch.dev {
        Some(secrets) => secrets.control_token.clone(),
        None => clock::secret_text()?,
    };
    let (stopping, stops) = watch::channel(false);
    let shared = control::Shared {
        store: Arc::clone(&store),
        token: token::digest(&control_token),
        ids,
        limits: settings.http_limits(),
        stopping: stops,
        streams: control::stream::Places::default(),
    };
    let (control, control_address) = control_listener(control, &settings.http, shared)?.unzip();
    let addresses = Addresses { api: api_address, control: control_address };
    Ok(Server { addresses, control_token, upkeep, api, control, store, writer, meter, stopping })
}

/// Who there is, and the file that says so.
fn identities(settings: &Settings, launch: &Launch) -> Result<(Identities, Option<PathBuf>), ServeError> {
    let path = &settings.access.identities;
    match &launch.dev {
        Some(_) if path != Path::new("") => Err(ServeError::TwoIdentities),
        Some(secrets) => Ok((Identities::dev(secrets, settings.dev.anonymous)?, None)),
        None if path == Path::new("") => Err(ServeError::NoIdentities),
        None => Ok((file::read(path)?, Some(path.clone()))),
    }
}

/// Where the service stands, and what the explorer's page may know of `--dev`.
fn site(settings: &Settings, launch: &Launch) -> Site {
    let Some(secrets) = &launch.dev else { return settings.site() };
    let dev_token = (secrets.token == dev::TOKEN).then_some(dev::TOKEN);
    Site { dev_project: Some(dev::PROJECT_ID), dev_token, ..settings.site() }
}

/// What `control.listen` means.
fn control_listen(settings: &Settings, is_dev: bool) -> ControlListen {
    match (&settings.control.listen, settings.api.listen) {
        (ControlListen::Auto, _) if !is_dev => ControlListen::Off,
        (ControlListen::Auto, api) => {
            // Never for other machines, unless that is said.
            let ip = if api.ip().is_loopback() { api.ip() } else { Ipv4Addr::LOCALHOST.into() };
            let port = if api.port() == 0 { 0 } else { CONTROL_PORT };
            ControlListen::Tcp(SocketAddr::new(ip, port))
        }
        (configured, _) => configured.clone(),
    }
}

/// Other machines reach the service only when that was meant.
fn check_address(
    listener: &'static str,
    address: SocketAddr,
    settings: &Settings,
    launch: &Launch,
) -> Result<(), ServeError> {
    let is_dev_closed = !settings.dev.anonymous && settings.dev.random_credentials;
    if address.ip().is_loopback() {
        Ok(())
    } else if launch.dev.is_some() {
        if is_dev_closed { Ok(()) } else { Err(ServeError::DevOffLoopback { listener, address }) }
    } else if launch.is_insecure_http_allowed {
        Ok(())
    } else {
        Err(ServeError::Insecure { listener, address })
    }
}

fn api_listener(settings: &Settings, shared: api::Shared) -> Result<(HttpListener, SocketAddr), ServeError> {
    let address = settings.api.listen;
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(exchange::observe))
            .configure(api::mount(shared.clone(), api::routes()))
            .default_service(web::to(api::not_found))
    });
    let workers = match settings.http.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let server = server
        .workers(workers)
        .max_connections(settings.http.connections_per_worker_max)
        .client_request_timeout(Duration::from_millis(settings.http.head_deadline_ms))
        .keep_alive(Duration::from_secs(settings.http.keep_alive_s))
        .shutdown_timeout(settings.http.stop_deadline_s)
        .disable_signals()
        .bind(address)
        .map_err(|source| ServeError::Listen {
            listener: "api.listen",
            address: address.to_string(),
            source,
        })?;
    let bound = server.addrs().first().copied().unwrap_or(address);
    Ok((server.run(), bound))
}

fn control_listener(
    listen: ControlListen,
    http: &Http,
    shared: control::Shared,
) -> Result<Option<(HttpListener, ControlAddress)>, ServeError> {
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(exchange::observe))
            .configure(control::mount(shared.clone()))
            .default_service(web::to(control::not_found))
    });
    let server = server
        .workers(1)
        .max_connections(http.connections_per_worker_max)
        .client_request_timeout(Duration::from_millis(http.head_deadline_ms))
        .keep_alive(Duration::from_secs(http.keep_alive_s))
        .shutdown_timeout(http.stop_deadline_s.min(CONTROL_STOP_S_MAX))
        .disable_signals();
    let failed =
        |address: String| move |source| ServeError::Listen { listener: "control.listen", address, source };
    match listen {
        ControlListen::Auto | ControlListen::Off => Ok(None),
        ControlListen::Tcp(address) => {
            let server = server.bind(address).map_err(failed(address.to_string()))?;
            let bound = server.addrs().first().copied().unwrap_or(address);
            Ok(Some((server.run(), ControlAddress::Tcp(bound))))
        }
        ControlListen::Unix(path) => {
            let listener = unix_listener(&path).map_err(failed(path.display().to_string()))?;
            let server = server.listen_uds(listener).map_err(failed(path.display().to_string()))?;
            Ok(Some((server.run(), ControlAddress::Unix(path))))
        }
    }
}

/// A socket that only this user may connect to. One that a killed service left there is replaced; one that somebody
/// listens on, or any other file, is not.
fn unix_listener(path: &Path) -> io::Result<UnixListener> {
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() || UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Server {
    /// Where it listens; ports that were 0 are the ones that were free.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The token of the control listener.
    #[must_use]
    pub fn control_token(&self) -> &str {
        &self.control_token
    }

    /// Answers requests until `stop`; then finishes those in flight, empties the WAL and closes the database.
    ///
    /// `on_ready` is called once requests are answered. `next_reload` comes back whenever the accounts are to be read
    /// again.
    ///
    /// # Errors
    /// When the writer stops by itself, or `on_ready` fails.
    pub async fn run(
        self,
        on_ready: impl FnOnce(&Addresses) -> io::Result<()>,
        stop: impl Future<Output = ()>,
        next_reload: impl AsyncFnMut(),
    ) -> Result<(), ServeError> {
        let Self { addresses, control_token: _, mut upkeep, api, control, store, writer, meter, stopping } =
            self;
        let (stop_writer, mut writer) = start_writer(writer)?;
        let listeners: Vec<_> = std::iter::once(api).chain(control).collect();
        let handles: Vec<_> = listeners.iter().map(HttpListener::handle).collect();
        let listeners: Vec<_> = listeners.into_iter().map(actix_web::rt::spawn).collect();

        let work = async {
            first_answer(addresses.api).await?;
            upkeep.record_start().await;
            on_ready(&addresses)?;
            tokio::select! {
                () = stop => Ok(()),
                () = upkeep.run(next_reload) => Ok(()),
            }
        };
        let (worked, writer_ended) = tokio::select! {
            worked = work => (worked, None),
            ended = &mut writer => (Ok(()), Some(ended)),
        };

        stopping.send_replace(true);
        // All are told before any is waited for.
        let stopping: Vec<_> = handles.iter().map(|handle| handle.stop(true)).collect();
        for stopped in stopping {
            stopped.await;
        }
        for listener in listeners {
            // A listener that was told to stop has nothing to tell.
            let _ = listener.await;
        }
        if let Some(ControlAddress::Unix(path)) = &addresses.control {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
        if writer_ended.is_none() {
            upkeep.sum_up().await;
            upkeep.record_stop().await;
        }
        store.close().await;
        let writer_ended = if let Some(ended) = writer_ended {
            ended
        } else {
            let _ = stop_writer.send(());
            writer.await
        };
        tracing::info!(commits = meter.commits.get(), records = meter.records.get(), "stopped");
        worked.map_err(|source| ServeError::Io { what: "it did not get ready", source })?;
        writer_ended.map_err(|_panicked| ServeError::WriterPanicked)??;
        Ok(())
    }
}

/// How the writer ended.
type WriterEnd = oneshot::Receiver<Result<(), WriterFailed>>;

/// Runs the writer on a thread of its own: no request can hold it up, and waking a parked thread is cheaper than
/// waking an event loop.
fn start_writer(writer: Writer) -> Result<(oneshot::Sender<()>, WriterEnd), ServeError> {
    let failed = |source| ServeError::Io { what: "cannot start the writer", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let run = move || {
        let result = runtime.block_on(writer.run(async { drop(stopped.await) }));
        // Nobody waits for it any more when the service was given up.
        let _ = end.send(result);
    };
    thread::Builder::new().name("writer".to_owned()).spawn(run).map_err(failed)?;
    Ok((stop, ended))
}

/// Comes back once the API answers.
async fn first_answer(address: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("the API does not answer"))
    }
}

/// Runs `service` to its end, on the runtime that the listeners need.
pub fn block_on<T>(service: impl Future<Output = T>) -> T {
    actix_web::rt::System::new().block_on(service)
}
