//! Telling that the service is ready: to a file, to systemd, and to whoever sits at the terminal.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Addresses, ControlAddress, Launch};
use crate::identities::dev;
use crate::settings::Settings;

/// What a client needs to start: the addresses, and with `--dev` the account.
#[derive(Serialize)]
pub struct Ready {
    api_url: String,
    control_url: Option<String>,
    control_token: String,
    region: String,
    #[serde(flatten)]
    dev: Option<DevAccount>,
}

#[derive(Serialize)]
struct DevAccount {
    #[serde(skip)]
    is_anonymous_allowed: bool,
    #[serde(skip)]
    is_secret: bool,
    domain_name: &'static str,
    project_id: &'static str,
    project_name: &'static str,
    user_name: &'static str,
    password: String,
    access_key: String,
    secret_key: String,
    token: String,
}

impl Ready {
    /// A service at `addresses`.
    #[must_use]
    pub fn new(addresses: &Addresses, control_token: &str, settings: &Settings, launch: &Launch) -> Self {
        Self {
            api_url: format!("http://{}", addresses.api),
            control_url: addresses.control.as_ref().map(|address| match address {
                ControlAddress::Tcp(address) => format!("http://{address}"),
                ControlAddress::Unix(path) => format!("unix:{}", path.display()),
            }),
            control_token: control_token.to_owned(),
            region: settings.api.region.clone(),
            dev: launch.dev.clone().map(|secrets| DevAccount {
                is_anonymous_allowed: settings.dev.anonymous,
                is_secret: settings.dev.random_credentials,
                domain_name: dev::DOMAIN_NAME,
                project_id: dev::PROJECT_ID,
                project_name: dev::PROJECT_NAME,
                user_name: dev::USER_NAME,
                password: secrets.password,
                access_key: secrets.access_key,
                secret_key: secrets.secret_key,
                token: secrets.token,
            }),
        }
    }

    /// Prints where the service is; with `--dev` also the account, and a command to try it with.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self, database: &Path, ready_file: Option<&Path>) -> io::Result<()> {
        let Self { api_url, control_url, control_token, region, dev } = self;
        let database = database.display();
        let control = control_url.as_deref().unwrap_or("off");
        let mut out = io::stdout().lock();
        writeln!(out, "ecs-groupd is ready: {api_url}\n  database    {database}")?;
        let Some(account) = dev else {
            writeln!(out, "  control     {control}")?;
            return out.flush();
        };
        // What is a secret goes to the file alone, where there is one: standard output is a log in a container.
        if let (true, Some(file)) = (account.is_secret, ready_file) {
            writeln!(out, "  control     {control}\n  account     in {}", file.display())?;
            return out.flush();
        }
        let DevAccount {
            domain_name, project_id, user_name, password, access_key, secret_key, token, ..
        } = account;
        let (anonymous, token_header) = if account.is_anonymous_allowed {
            (
                " (a request without credentials is this account too, unless dev.anonymous = false)",
                String::new(),
            )
        } else {
            ("", format!(" -H 'X-Auth-Token: {token}'"))
        };
        write!(
            out,
            "  account     {domain_name}, user {user_name}, password {password}
  project     {project_id}, region {region}
  access key  {access_key}, secret key {secret_key}
  token       {token}{anonymous}
  control     {control}, token {control_token}

Create a group:
  curl {api_url}/v1/{project_id}/cloudservers/os-server-groups \\
    -H 'Content-Type: application/json'{token_header} \\
    -d '{{\"server_group\":{{\"name\":\"web\",\"policies\":[\"anti-affinity\"]}}}}'

",
        )?;
        out.flush()
    }
}

/// The file that says so. It goes when this goes, so that nobody takes the last start's addresses for this one's.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// At `path`; one that a killed service left there is removed.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn new(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
            _ => Ok(Self { path: path.to_owned() }),
        }
    }

    /// Writes it in one step: whoever sees the file sees all of it.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn write(&self, ready: &Ready) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, ready)?;
            file.write_all(b"\n")?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|error: io::Error| named(&self.path, &error))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // Gone already, or never written, is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the ready file {}: {error}", path.display()))
}

/// Tells systemd, if it asked to be told.
pub fn notify_ready() {
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the service is on its way out.
pub fn notify_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
