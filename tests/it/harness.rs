//! What every test stands on: a service of its own on a free port, with a database of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev::{self, DevSecrets};
use ecs_groupd::identities::password::{Cost, Hashed};
use ecs_groupd::meter::Meter;
pub use ecs_groupd::server::ControlAddress;
use ecs_groupd::server::{self, Launch};
use ecs_groupd::settings::{Overrides, Settings};
use ecs_groupd::store;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::oneshot;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

/// Where a [`TestApp`]'s clock stands, unless it is started at another time: 2026-01-02T03:04:05Z.
pub const NOW: Timestamp = Timestamp::from_millis(1_767_323_045_000);

/// A service inside the test's process, with a fixed clock. It stops when it is dropped; a failing test keeps its
/// database and says where.
pub struct TestApp {
    pub api: SocketAddr,
    pub control: Option<ControlAddress>,
    pub control_token: String,
    pub clock: Clock,
    pub client: Client,
    folder: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    reload: tokio::sync::mpsc::Sender<()>,
    reloaded: Mutex<mpsc::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What [`TestApp`] serves.
enum Accounts<'text> {
    Dev,
    File(&'text str),
}

impl TestApp {
    /// With the default settings.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With settings changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change)
    }

    /// On the database in `folder`, such as one from [`TestApp::stop`].
    pub fn start_in(folder: TempDir, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_at(NOW, folder, change)
    }

    /// The same, at this time.
    pub fn start_at(now: Timestamp, folder: TempDir, change: impl FnOnce(&mut Settings)) -> Self {
        Self::launch(now, folder, &Accounts::Dev, change)
    }

    /// Not as `--dev`, but with the accounts of this file.
    pub fn start_with_identities(text: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with_identities_in(tempfile::tempdir().unwrap(), text, change)
    }

    /// The same, on the database in `folder`.
    pub fn start_with_identities_in(folder: TempDir, text: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::launch(NOW, folder, &Accounts::File(text), change)
    }

    fn launch(
        now: Timestamp,
        folder: TempDir,
        accounts: &Accounts<'_>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::load_with(
            None,
            config::Environment::default().source(Some(config::Map::default())),
            &Overrides::default(),
        )
        .unwrap();
        settings.api.listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        settings.database.path = folder.path().join("ecs-groupd.db");
        let mut launch = Launch::default();
        match accounts {
            Accounts::Dev => launch.dev = Some(DevSecrets::well_known()),
            Accounts::File(text) => {
                settings.access.identities = folder.path().join("identities.toml");
                write_secret(&settings.access.identities, text);
            }
        }
        change(&mut settings);
        let clock = Clock::fixed(now);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let (reload, mut to_reload) = tokio::sync::mpsc::channel(1);
        let (done, reloaded) = mpsc::channel();
        let service_clock = clock.clone();
        let thread = thread::spawn(move || {
            server::block_on(async {
                let server = server::build(&settings, &launch, service_clock, Ids::seeded(1)).await.unwrap();
                let control_token = server.control_token().to_owned();
                let tell = |addresses: &server::Addresses| {
                    ready.send((addresses.clone(), control_token)).unwrap();
                    Ok(())
                };
                let mut is_asked = false;
                // It is called again when the reload before is done.
                let next_reload = async || {
                    if std::mem::take(&mut is_asked) {
                        done.send(()).unwrap();
                    }
                    match to_reload.recv().await {
                        Some(()) => is_asked = true,
                        None => std::future::pending().await,
                    }
                };
                server.run(tell, async { drop(stopped.await) }, next_reload).await.unwrap();
            });
        });
        let (addresses, control_token) = is_ready.recv().expect("the service starts");
        let client = Client::new(addresses.api);
        Self {
            api: addresses.api,
            control: addresses.control,
            control_token,
            clock,
            client,
            folder: Some(folder),
            stop: Some(stop),
            reload,
            reloaded: Mutex::new(reloaded),
            thread: Some(thread),
        }
    }

    /// Writes another file of accounts, and has it read as SIGHUP would; comes back when that is done.
    pub fn reload(&self, text: &str) {
        write_secret(&self.folder.as_ref().unwrap().path().join("identities.toml"), text);
        self.reload.blocking_send(()).unwrap();
        self.reloaded.lock().unwrap().recv().unwrap();
    }

    /// Stops the service and hands over its folder, with the database in it.
    pub fn stop(mut self) -> TempDir {
        self.end();
        self.folder.take().unwrap()
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("ecs-groupd.db")
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the service panicked");
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.end();
        if thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the database is kept in {}", folder.keep().display());
        }
    }
}

/// Writes a file that only this user can read.
pub fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The options of the default settings.
pub fn store_options() -> store::Options {
    Settings::load(None, &Overrides::default()).unwrap().store_options()
}

/// Opens a store, does `work` on it with its writer beside, and closes both.
pub async fn with_store<T>(
    options: store::Options,
    clock: Clock,
    work: impl AsyncFnOnce(&Arc<store::Store>) -> T,
) -> T {
    let meter = Arc::new(Meter::default());
    let (store, writer) = store::open(options, clock, Ids::seeded(1), meter).await.unwrap();
    let store = Arc::new(store);
    let (stop, stopped) = oneshot::channel::<()>();
    let work = async {
        let done = work(&store).await;
        store.close().await;
        drop(stop);
        done
    };
    let (ended, done) = tokio::join!(writer.run(async { drop(stopped.await) }), work);
    ended.unwrap();
    done
}

/// The same, for a test that is not async.
pub fn on_a_store(options: store::Options, clock: &Clock, work: impl AsyncFnOnce(&Arc<store::Store>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(with_store(options, clock.clone(), work));
}

/// The audit records of a database, but for those of the service about itself: its starts, stops and keys.
pub fn records(database: &Path) -> Vec<Value> {
    all_records(database).into_iter().filter(|record| record["door"] != "service").collect()
}

/// The audit records of a database, in order, as the JSON that they are. Reads the file beside a running service.
pub fn all_records(database: &Path) -> Vec<Value> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(database, flags).unwrap();
    let mut select = conn.prepare("select bytes from audit_record order by seq").unwrap();
    let rows = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    rows.map(|bytes| serde_json::from_slice(&bytes.unwrap()).unwrap()).collect()
}

/// The real program, as a process of its own. It is killed when it is dropped.
pub struct Process {
    child: Child,
    /// What `--ready-file` said.
    pub ready: Value,
    pub client: Client,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Runs `ecs-groupd serve --dev --listen 127.0.0.1:0` with more arguments, and waits until it is ready.
    pub fn serve(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn(serve_command(arguments), folder)
    }

    /// The same, with its log in a file.
    pub fn serve_with_log(folder: &Path, arguments: &[&str], log: File) -> Self {
        let mut command = serve_command(arguments);
        command.stderr(log);
        Self::spawn(command, folder)
    }

    /// Runs a command that serves, and waits until it is ready.
    pub fn spawn(mut command: Command, folder: &Path) -> Self {
        let ready_file = folder.join("ready.json");
        command.arg("--ready-file").arg(&ready_file).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It prints that it is ready after it wrote the file; reading is waiting.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ecs-groupd is ready"), "it ended before it was ready");
        let ready: Value = serde_json::from_slice(&std::fs::read(ready_file).unwrap()).unwrap();
        let api = ready["api_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        let stdin = child.stdin.take();
        Self { child, ready, client: Client::new(api), stdin }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL, as a power cut would, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop with SIGTERM.
    pub fn signal_terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Asks it to stop with SIGTERM, and waits for its exit code.
    pub fn terminate(self) -> Option<i32> {
        self.signal_terminate();
        self.wait()
    }

    /// Closes its standard input, and waits for its exit code.
    pub fn close_stdin(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// `ecs-groupd serve --dev` on a free port, which logs to nowhere.
fn serve_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0"]).args(arguments).stderr(Stdio::null());
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of one service. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: SocketAddr,
    base: String,
    /// Sent with every request.
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(1)))
            .allow_non_standard_methods(true)
            .build();
        Self { agent: config.new_agent(), address, base: format!("http://{address}"), token: None }
    }

    /// The same client, which sends `X-Auth-Token` with every request.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The service's address, for a socket of one's own.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Any request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    /// Any request, to a service that may be gone.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        let request = request.uri(format!("{}{path}", self.base)).body(body).unwrap();
        let mut response = self.agent.run(request)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), text })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], &[])
    }

    pub fn post_json(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// Creates a group and returns its id.
    pub fn create(&self, name: &str) -> String {
        let answer = self.post_json(&groups_path(), &create_body(name));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["server_group"]["id"].as_str().unwrap().to_owned()
    }

    /// The ids of all groups, page by page.
    pub fn list_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        loop {
            let marker = ids.last().map_or(String::new(), |id| format!("&marker={id}"));
            let page = self.get(&format!("{}?limit=1000{marker}", groups_path())).json();
            let groups = page["server_groups"].as_array().unwrap();
            ids.extend(groups.iter().map(|group| group["id"].as_str().unwrap().to_owned()));
            if page.get("page_info").is_none() {
                return ids;
            }
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The path of the dev project's groups.
pub fn groups_path() -> String {
    format!("/v1/{}/cloudservers/os-server-groups", dev::PROJECT_ID)
}

/// The path of one of them.
pub fn group_path(id: &str) -> String {
    format!("{}/{id}", groups_path())
}

/// The body of a create.
pub fn create_body(name: &str) -> String {
    json!({ "server_group": { "name": name, "policies": ["anti-affinity"] } }).to_string()
}

/// A connection of the test's own, for what no proper client sends.
pub fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

/// Sends bytes as they are, and reads the answer. They should say `Connection: close`, or be such that the service
/// closes the connection.
pub fn send_raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut connection = connect(address);
    connection.write_all(bytes).unwrap();
    read_answer(connection)
}

/// Reads one answer, and the connection to its end.
pub fn read_answer(mut connection: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        })
        .collect();
    Answer { status, headers, text: body.to_owned() }
}

impl Answer {
    /// `X-Request-Id`, which every answer has: 32 lower-case hex digits.
    pub fn request_id(&self) -> &str {
        let id = self.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id: {self:?}"));
        let is_lower_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        assert!(id.len() == 32 && is_lower_hex, "{id:?}");
        id
    }

    /// The message of an error in ECS's shape, which has exactly two keys.
    #[track_caller]
    pub fn ecs_error(&self, status: u16, code: &str) -> String {
        let body = self.error_body(status);
        let message = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(body, json!({ "error": { "message": message, "code": code } }));
        message
    }

    /// The message of an error in the API gateway's shape, which has exactly three keys.
    #[track_caller]
    pub fn gateway_error(&self, status: u16, code: &str) -> String {
        let body = self.error_body(status);
        let message = body["error_msg"].as_str().unwrap_or_default().to_owned();
        let request_id = self.request_id();
        assert_eq!(body, json!({ "error_msg": message, "error_code": code, "request_id": request_id }));
        message
    }

    /// The message of an error in CTS's shape, which has exactly two keys.
    #[track_caller]
    pub fn cts_error(&self, status: u16, code: &str) -> String {
        let body = self.error_body(status);
        let message = body["error_msg"].as_str().unwrap_or_default().to_owned();
        assert_eq!(body, json!({ "error_code": code, "error_msg": message }));
        message
    }

    #[track_caller]
    fn error_body(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json;charset=utf-8"), "{}", self.text);
        self.request_id();
        self.json()
    }
}

impl TestApp {
    /// Checks that nothing was stored: no group, and no record in the audit log.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(self.client.list_ids(), Vec::<String>::new());
        assert_eq!(records(&self.database()), Vec::<Value>::new());
    }

    /// A request to the control listener, with its token.
    pub fn operate(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.control_token);
        self.control_client().send(method, path, &[("authorization", &bearer)], body.as_bytes())
    }

    /// A client of the control listener.
    pub fn control_client(&self) -> Client {
        match &self.control {
            Some(ControlAddress::Tcp(address)) => Client::new(*address),
            other => panic!("no control listener on TCP: {other:?}"),
        }
    }
}

/// Puts ECSs into a group of the dev project, in the database of a service that is stopped.
pub fn insert_members(database: &Path, group_id: &str, server_ids: &[&str]) {
    let conn = rusqlite::Connection::open(database).unwrap();
    for server_id in server_ids {
        let insert = "insert into member (project_id, group_id, server_id)
                      values (unhex(?), unhex(?, '-'), unhex(?, '-'))";
        conn.execute(insert, [dev::PROJECT_ID, group_id, server_id]).unwrap();
    }
}

/// Logs in by password, and returns the answer of `POST /v3/auth/tokens`.
pub fn log_in(client: &Client, domain: &str, user: &str, password: &str, scope: &Value) -> Answer {
    let user = json!({ "name": user, "password": password, "domain": { "name": domain } });
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    let body = json!({ "auth": { "identity": identity, "scope": scope } });
    client.post_json("/v3/auth/tokens", &body.to_string())
}

/// Logs in to a project, and returns the token.
pub fn token_for(client: &Client, domain: &str, user: &str, password: &str, project: &str) -> String {
    let answer = log_in(client, domain, user, password, &json!({ "project": { "name": project } }));
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.header("x-subject-token").unwrap().to_owned()
}

/// An Argon2id hash that costs next to nothing, for a file of accounts; always the same for a password, as in a file
/// that is read again.
pub fn cheap_hash(password: &str) -> String {
    Hashed::with_salt(password, Cost::Nominal, [7; 16]).unwrap().as_str().to_owned()
}

/// An access key that signs as the vendor's SDKs do, written anew from "API Request Signing Guide".
pub struct Signer<'key> {
    pub access_key: &'key str,
    pub secret_key: &'key str,
    /// As `20260102T030405Z`.
    pub date: &'key str,
}

impl Signer<'_> {
    /// The headers of a signed request: those given, `X-Sdk-Date` and `Authorization`. `path` is as on the wire, and
    /// must have nothing in it that is escaped; the query must be sorted.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<(String, String)> {
        let mut signed: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
        signed.push(("x-sdk-date".to_owned(), self.date.to_owned()));
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: Vec<_> = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let lines = lines.concat();
        let slash = if path.ends_with('/') { "" } else { "/" };
        let hash = hex(&Sha256::digest(body));
        let canonical = format!("{method}\n{path}{slash}\n{query}\n{lines}\n{names}\n{hash}");
        let to_sign = format!("SDK-HMAC-SHA256\n{}\n{}", self.date, hex(&Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret_key.as_bytes()).unwrap();
        mac.update(to_sign.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        let access_key = self.access_key;
        let authorization =
            format!("SDK-HMAC-SHA256 Access={access_key}, SignedHeaders={names}, Signature={signature}");
        signed.push(("authorization".to_owned(), authorization));
        signed
    }
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

impl Client {
    /// Signs a request and sends it.
    pub fn send_signed(
        &self,
        signer: &Signer<'_>,
        method: &str,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let all = signer.sign(method, path, query, headers, body);
        let headers: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send(method, path_and_query, &headers, body)
    }
}
