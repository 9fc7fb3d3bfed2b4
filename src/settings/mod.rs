//! Typed settings: compiled-in defaults, then a file, then the environment, then flags.
//!
//! `config/default.toml` holds every key there is; a key that is not in it is refused, wherever it was set.

mod source;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use config::{Config, Environment, File, FileFormat, Source};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use self::source::{check_source, values};
use crate::api::HttpLimits;
use crate::api::gate::Gate;
use crate::api::nova::MICROVERSION_MINOR_MAX;
use crate::api::site::Site;
use crate::domain::rules::{Limits, MemberRules};
use crate::store::{self, CheckpointRules};

/// `config/default.toml`, as `ecs-groupd config default` prints it.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// Before the first `__` of an environment variable that is a setting.
const ENVIRONMENT_PREFIX: &str = "ECS_GROUPD";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key that there is not.
    #[error("unknown setting `{key}` in {place}{}: `ecs-groupd config default` lists them all", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// The file, or the environment.
        place: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// A value of the wrong kind, or a file that cannot be read or parsed.
    #[error("{0}")]
    Source(#[from] config::ConfigError),
    /// A value of another kind than its setting's.
    #[error("setting `{key}` in {place} must be {kind}, and is {found}")]
    Kind {
        /// The key.
        key: String,
        /// The file, or the environment.
        place: String,
        /// The kind.
        kind: &'static str,
        /// What was found.
        found: String,
    },
    /// A value out of its range.
    #[error("setting `{key}` {rule}")]
    Value {
        /// The key.
        key: &'static str,
        /// The rule.
        rule: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |key| format!(", did you mean `{key}`?"))
}

/// All settings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The API's listener.
    pub api: Api,
    /// The control listener.
    pub control: Control,
    /// How large, slow and many requests may be.
    pub http: Http,
    /// Who may log in, and how often wrongly.
    pub access: Access,
    /// The SQLite file and its writer.
    pub database: Database,
    /// What is recorded.
    pub audit: Audit,
    /// How much a project may hold.
    pub quota: Quota,
    /// Which ECSs may be members.
    pub members: Members,
    /// The native OpenStack interface.
    pub nova: Nova,
    /// What `--dev` does.
    pub dev: Dev,
    /// What is logged, and how.
    pub log: Log,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where the API listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// What links and the catalogue begin with; empty for the request's own `Host`.
    pub public_url: String,
    /// The region that the catalogue names.
    pub region: String,
    /// Whose `X-Forwarded-For` counts: addresses and ranges, with commas between them.
    pub trusted_proxies: Networks,
}

/// Addresses and ranges of them; in a file one text, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Networks(pub Vec<IpNet>);

impl TryFrom<String> for Networks {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let read = |part: &str| {
            let network = part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from));
            network.ok_or_else(|| format!("must be addresses or ranges, as in 10.0.0.0/8, and has {part:?}"))
        };
        parts.map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Networks> for String {
    fn from(networks: Networks) -> Self {
        networks.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// `[access]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The file of accounts; empty for none.
    pub identities: PathBuf,
    /// How long a token is good.
    pub token_lifetime_s: u64,
    /// Bad signatures in a row, beyond which an access key is locked for the address that sent them; 0 for never.
    pub lock_after_failures: u32,
    /// Failed logins in a minute for a user and address; 0 for no limit.
    pub login_failures_per_minute: u32,
}

/// `[audit]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Refusals and denials of one caller that are recorded in a minute; more are turned away, and only counted. 0 for
    /// no limit, as with `--dev`.
    pub refusals_per_minute: u32,
    /// The file of the key that the log is signed with; empty for `<database>.key`.
    pub key: PathBuf,
    /// After how many records the log is signed, at the latest.
    pub checkpoint_records: u64,
    /// After how long it is signed, at the latest, while there is something new.
    pub checkpoint_every_s: u64,
    /// How old a record is when it is moved into a sealed file; 0 for never.
    pub retention_days: u64,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_not_an_address| {
        serde::de::Error::custom(format!("must be ADDRESS:PORT, as in 127.0.0.1:8774, and is {text:?}"))
    })
}

/// `[control]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Where the control listener is.
    pub listen: ControlListen,
}

/// Where the control listener is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum ControlListen {
    /// Beside the API with `--dev`, else nowhere.
    Auto,
    /// Nowhere.
    Off,
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl TryFrom<String> for ControlListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        match text.strip_prefix("unix:") {
            Some("") => Err("\"unix:\" needs a path".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_not_an_address| {
                format!("must be ADDRESS:PORT, unix:PATH, off or auto, and is {text:?}")
            }),
        }
    }
}

impl From<ControlListen> for String {
    fn from(listen: ControlListen) -> Self {
        match listen {
            ControlListen::Auto => "auto".to_owned(),
            ControlListen::Off => "off".to_owned(),
            ControlListen::Tcp(address) => address.to_string(),
            ControlListen::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Threads that answer requests; 0 for one for each core.
    pub workers: usize,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_deadline_ms: u64,
    /// How long a request's head may take to arrive.
    pub head_deadline_ms: u64,
    /// The longest path and query, in bytes.
    pub uri_bytes_max: usize,
    /// How long an idle connection is kept.
    pub keep_alive_s: u64,
    /// How many connections each worker holds at the most.
    pub connections_per_worker_max: usize,
    /// How long requests in flight may take when the service is told to stop.
    pub stop_deadline_s: u64,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The SQLite file.
    pub path: PathBuf,
    /// How large the file may grow, in bytes; 0 for no limit.
    pub size_bytes_max: u64,
    /// Connections for reads.
    pub read_connections: u32,
    /// How long a read may take.
    pub read_deadline_ms: u64,
    /// How many changes may wait to be written.
    pub queue_max: usize,
    /// How many changes share a transaction at the most.
    pub batch_max: usize,
    /// How often the WAL is emptied.
    pub checkpoint_every_s: u64,
}

/// `[quota]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Groups in one project.
    pub groups_per_project: u32,
    /// Members in one group.
    pub members_per_group: u32,
}

/// `[nova]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Nova {
    /// The newest microversion, as `2.60`.
    pub microversion_max: MicroversionMax,
}

/// The newest microversion of the native interface: 2 and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MicroversionMax(pub u16);

impl TryFrom<String> for MicroversionMax {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let minor = text.strip_prefix("2.").and_then(|minor| minor.parse().ok());
        match minor {
            Some(minor @ 1..=MICROVERSION_MINOR_MAX) if format!("2.{minor}") == text => Ok(Self(minor)),
            _ => Err(format!("must be from 2.1 to 2.{MICROVERSION_MINOR_MAX}, and is {text:?}")),
        }
    }
}

impl From<MicroversionMax> for String {
    fn from(MicroversionMax(minor): MicroversionMax) -> Self {
        format!("2.{minor}")
    }
}

/// `[members]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Which ECSs may be added to a group.
    pub source: MemberSource,
    /// Whether a registered ECS must be stopped to be added.
    pub require_stopped: bool,
}

/// Which ECSs may be added to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum MemberSource {
    /// Any UUID.
    Any,
    /// Those that the inventory knows.
    Registered,
}

impl TryFrom<String> for MemberSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "any" => Ok(Self::Any),
            "registered" => Ok(Self::Registered),
            _ => Err(format!("must be any or registered, and is {text:?}")),
        }
    }
}

/// `[dev]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dev {
    /// Whether a caller without credentials is the dev account.
    pub anonymous: bool,
    /// Whether its password, keys and tokens are new ones at every start.
    pub random_credentials: bool,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is logged.
    pub level: LogLevel,
    /// How.
    pub format: LogFormat,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What needs somebody now.
    Error,
    /// And what will.
    Warn,
    /// And one line for each response.
    Info,
    /// And more.
    Debug,
    /// And everything.
    Trace,
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(format!("must be off, error, warn, info, debug or trace, and is {text:?}")),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be auto, human or json, and is {text:?}")),
        }
    }
}

/// What the flags override.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub api_listen: Option<String>,
    /// `--control`
    pub control_listen: Option<String>,
    /// `--database`
    pub database: Option<PathBuf>,
    /// `--identities`
    pub identities: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings in their layers, and checks them.
    ///
    /// # Errors
    /// The first key that is unknown, or value that is wrong, named with the place it was set in.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, SettingsError> {
        Self::load_with(file, environment(), overrides)
    }

    /// [`Settings::load`] with an environment of its own, for tests.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(
        file: Option<&Path>,
        environment: Environment,
        overrides: &Overrides,
    ) -> Result<Self, SettingsError> {
        let defaults = File::from_str(DEFAULT, FileFormat::Toml);
        let known = values(&defaults.collect()?);
        let mut builder = Config::builder().add_source(defaults);
        if let Some(path) = file {
            let source = File::from(path).format(FileFormat::Toml);
            check_source(&known, &source.collect()?, &path.display().to_string())?;
            builder = builder.add_source(source);
        }
        check_source(&known, &environment.collect()?, "the environment")?;
        let database = utf8("database.path", overrides.database.as_deref())?;
        let identities = utf8("access.identities", overrides.identities.as_deref())?;
        let settings: Self = builder
            .add_source(environment)
            .set_override_option("api.listen", overrides.api_listen.clone())?
            .set_override_option("control.listen", overrides.control_listen.clone())?
            .set_override_option("database.path", database)?
            .set_override_option("access.identities", identities)?
            .build()?
            .try_deserialize()?;
        settings.validate()?;
        Ok(settings)
    }

    /// Each range, in one place. The upper ends are far above sense, and far below what a machine chokes on.
    fn validate(&self) -> Result<(), SettingsError> {
        let Self { api, http, access, database, .. } = self;
        let size = |number: usize| number as u64;
        in_range("http.workers", size(http.workers), 0..=512)?;
        in_range("http.body_bytes_max", size(http.body_bytes_max), 1_024..=1 << 30)?;
        in_range("http.body_deadline_ms", http.body_deadline_ms, 10..=HOUR_MS)?;
        in_range("http.head_deadline_ms", http.head_deadline_ms, 10..=HOUR_MS)?;
        // The framework itself takes heads of up to 128 KiB.
        in_range("http.uri_bytes_max", size(http.uri_bytes_max), 256..=65_536)?;
        in_range("http.keep_alive_s", http.keep_alive_s, 1..=HOUR_MS / 1_000)?;
        in_range("http.connections_per_worker_max", size(http.connections_per_worker_max), 1..=1_000_000)?;
        in_range("http.stop_deadline_s", http.stop_deadline_s, 0..=HOUR_MS / 1_000)?;
        in_range("database.read_connections", database.read_connections.into(), 1..=256)?;
        in_range("database.read_deadline_ms", database.read_deadline_ms, 10..=HOUR_MS)?;
        in_range("database.queue_max", size(database.queue_max), 1..=1_000_000)?;
        in_range("database.batch_max", size(database.batch_max), 1..=10_000)?;
        in_range("database.checkpoint_every_s", database.checkpoint_every_s, 1..=86_400)?;
        in_range("audit.checkpoint_records", self.audit.checkpoint_records, 1..=1_000_000)?;
        in_range("audit.retention_days", self.audit.retention_days, 0..=36_500)?;
        in_range("audit.checkpoint_every_s", self.audit.checkpoint_every_s, 1..=3_600)?;
        in_range("access.token_lifetime_s", access.token_lifetime_s, 60..=30 * 86_400)?;
        if !api.public_url.is_empty() && !is_http_url(&api.public_url) {
            let rule = format!(
                "must be http://HOST or https://HOST, with a port or path if need be and no / at the end, and is {:?}",
                api.public_url
            );
            return Err(SettingsError::Value { key: "api.public_url", rule });
        }
        let is_name = |text: &str| {
            (1..=REGION_CHARS_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !is_name(&api.region) {
            let rule =
                format!("must be 1 to {REGION_CHARS_MAX} letters, digits, - and _, and is {:?}", api.region);
            return Err(SettingsError::Value { key: "api.region", rule });
        }
        Ok(())
    }

    /// How the store is opened.
    #[must_use]
    pub fn store_options(&self) -> store::Options {
        store::Options {
            database: self.database.path.clone(),
            size_bytes_max: self.database.size_bytes_max,
            read_connections: self.database.read_connections,
            read_deadline: Duration::from_millis(self.database.read_deadline_ms),
            queue_max: self.database.queue_max,
            batch_max: self.database.batch_max,
            checkpoint_every: Duration::from_secs(self.database.checkpoint_every_s),
            limits: self.limits(),
            member_rules: MemberRules {
                must_be_registered: self.members.source == MemberSource::Registered,
                must_be_stopped: self.members.require_stopped,
            },
            refusals_per_minute: match self.audit.refusals_per_minute {
                0 => None,
                per_minute => Some(per_minute),
            },
            key: self.audit.key.clone(),
            checkpoints: CheckpointRules {
                records: self.audit.checkpoint_records,
                every: Duration::from_secs(self.audit.checkpoint_every_s),
            },
            is_loss_accepted: false,
            restore_from: None,
            trace_scan_max: store::TRACE_SCAN_MAX,
        }
    }

    const fn limits(&self) -> Limits {
        let Quota { groups_per_project, members_per_group } = self.quota;
        Limits { groups_per_project, members_per_group }
    }

    /// How often somebody may be wrong.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate::new(self.access.lock_after_failures, self.access.login_failures_per_minute)
    }

    /// Where the service stands.
    #[must_use]
    pub fn site(&self) -> Site {
        let public_url = &self.api.public_url;
        Site {
            public_url: (!public_url.is_empty()).then(|| public_url.clone()),
            region: self.api.region.clone(),
            trusted_proxies: self.api.trusted_proxies.0.clone(),
            token_lifetime_ms: self.access.token_lifetime_s * 1000,
            microversion_max: self.nova.microversion_max.0,
            limits: self.limits(),
            dev_project: None,
            dev_token: None,
            document: OnceLock::new(),
        }
    }

    /// How large and slow a request may be.
    #[must_use]
    pub const fn http_limits(&self) -> HttpLimits {
        HttpLimits {
            body_bytes_max: self.http.body_bytes_max,
            body_deadline: Duration::from_millis(self.http.body_deadline_ms),
            uri_bytes_max: self.http.uri_bytes_max,
        }
    }
}

/// The longest name of a region, in characters.
const REGION_CHARS_MAX: usize = 64;

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.ends_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>?#".contains(&byte))
    })
}

fn utf8<'path>(key: &'static str, path: Option<&'path Path>) -> Result<Option<&'path str>, SettingsError> {
    let Some(path) = path else { return Ok(None) };
    let rule = || format!("must be a path in UTF-8, and is {}", path.display());
    path.to_str().map(Some).ok_or_else(|| SettingsError::Value { key, rule: rule() })
}

fn environment() -> Environment {
    Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__")
}

/// The longest that any deadline may be.
const HOUR_MS: u64 = 3_600_000;

fn in_range(key: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(SettingsError::Value { key, rule: format!("must be from {least} to {most}, and is {value}") })
}
