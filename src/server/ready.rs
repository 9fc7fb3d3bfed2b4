//! Telling that the service is ready: to a file, to systemd, and to whoever sits at the terminal.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Addresses, ControlAddress};
use crate::identities::dev;

/// What a client needs to start: the addresses, and the dev account.
#[derive(Debug, Serialize)]
pub struct Ready {
    #[serde(skip)]
    is_anonymous_allowed: bool,
    api_url: String,
    control_url: Option<String>,
    region: &'static str,
    domain_name: &'static str,
    project_id: &'static str,
    project_name: &'static str,
    user_name: &'static str,
    password: &'static str,
    access_key: &'static str,
    secret_key: &'static str,
    token: &'static str,
    control_token: &'static str,
}

impl Ready {
    /// The dev account at `addresses`.
    #[must_use]
    pub fn dev(addresses: &Addresses, is_anonymous_allowed: bool) -> Self {
        Self {
            is_anonymous_allowed,
            api_url: format!("http://{}", addresses.api),
            control_url: addresses.control.as_ref().map(|address| match address {
                ControlAddress::Tcp(address) => format!("http://{address}"),
                ControlAddress::Unix(path) => format!("unix:{}", path.display()),
            }),
            region: dev::REGION,
            domain_name: dev::DOMAIN_NAME,
            project_id: dev::PROJECT_ID,
            project_name: dev::PROJECT_NAME,
            user_name: dev::USER_NAME,
            password: dev::PASSWORD,
            access_key: dev::ACCESS_KEY,
            secret_key: dev::SECRET_KEY,
            token: dev::TOKEN,
            control_token: dev::CONTROL_TOKEN,
        }
    }

    /// Prints the account, and a command to try it with.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self, database: &Path) -> io::Result<()> {
        let Self { api_url, region, project_id, user_name, password, domain_name, .. } = self;
        let token_header = if self.is_anonymous_allowed {
            String::new()
        } else {
            format!(" -H 'X-Auth-Token: {}'", self.token)
        };
        let control = self.control_url.as_deref().unwrap_or("off");
        let mut out = io::stdout().lock();
        write!(
            out,
            "ecs-groupd is ready: {api_url}
  database    {}
  account     {domain_name}, user {user_name}, password {password}
  project     {project_id}, region {region}
  access key  {}, secret key {}
  token       {} (a request without credentials is this account too, unless dev.anonymous = false)
  control     {control}, token {}

Create a group:
  curl {api_url}/v1/{project_id}/cloudservers/os-server-groups \\
    -H 'Content-Type: application/json'{token_header} \\
    -d '{{\"server_group\":{{\"name\":\"web\",\"policies\":[\"anti-affinity\"]}}}}'

",
            database.display(),
            self.access_key,
            self.secret_key,
            self.token,
            self.control_token,
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
