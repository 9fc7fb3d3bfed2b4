//! Arguments and exit codes.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock::{Clock, Ids};
use crate::ops::{self, OpsError};
use crate::server::ready::{self, Ready, ReadyFile};
use crate::server::{self, ServeError, stop};
use crate::settings::{self, Overrides, Settings, SettingsError};
use crate::store::OpenError;
use crate::telemetry;

/// Something failed; what it was stands on standard error.
const EXIT_FAILED: u8 = 1;
/// The arguments, or a missing `--yes`; the code that `clap` uses, too.
const EXIT_USAGE: u8 = 2;
/// A setting is unknown or wrong.
const EXIT_SETTINGS: u8 = 3;
/// Another process holds the database.
const EXIT_LOCKED: u8 = 4;
/// The database is not ours, or newer than this program.
const EXIT_FOREIGN: u8 = 5;

/// A persistent, auditable stand-in for Huawei Cloud's ECS group API.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 a setting is wrong, 4 another process holds the database, \
                  5 the database is not ours or newer."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the service.
    Serve(Serve),
    /// Delete every group of every project; the audit log stays.
    Reset(Reset),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Debug, Args)]
struct Serve {
    /// Listen on loopback only, with one well-known account.
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where the control listener is.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH|off")]
    control: Option<String>,
    /// Keep the database in a fresh temporary directory, and remove it at exit.
    #[arg(long, conflicts_with = "database")]
    ephemeral: bool,
    /// Write the addresses and the dev account to this file, as JSON, once requests are answered.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when standard input closes, as it does when the parent process ends.
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Debug, Args)]
struct Reset {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Really delete them.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the settings in force, as they come out of file and environment.
    Show(SettingsArgs),
    /// Check the settings, and say what is wrong.
    Check(SettingsArgs),
    /// Print every setting with its default and what it means.
    Default,
}

#[derive(Debug, Args)]
struct SettingsArgs {
    /// A file of settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The SQLite file.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("reset deletes every group of every project in {}: say --yes if that is meant", .0.display())]
    NotConfirmed(PathBuf),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Ops(#[from] OpsError),
    #[error("cannot print the settings: {0}")]
    Print(#[from] toml::ser::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::NotConfirmed(_)
            | Self::Serve(ServeError::NoIdentities | ServeError::DevOffLoopback { .. }) => EXIT_USAGE,
            Self::Settings(_) => EXIT_SETTINGS,
            Self::Serve(ServeError::Store(error)) | Self::Ops(OpsError::Open(error)) => match error {
                OpenError::Locked { .. } => EXIT_LOCKED,
                OpenError::Foreign { .. } | OpenError::Newer { .. } => EXIT_FOREIGN,
                _ => EXIT_FAILED,
            },
            Self::Serve(_) | Self::Ops(_) | Self::Print(_) | Self::Io(_) => EXIT_FAILED,
        }
    }
}

/// Does what the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Serve(arguments) => serve(&arguments),
        Verb::Reset(arguments) => reset(&arguments),
        Verb::Config(verb) => config(&verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nowhere else to say it.
            let _ = writeln!(io::stderr(), "ecs-groupd: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(arguments: &Serve) -> Result<(), CliError> {
    let folder = if arguments.ephemeral { Some(ephemeral_folder()?) } else { None };
    let database = match &folder {
        Some(folder) => Some(folder.path().join("ecs-groupd.db")),
        None => arguments.settings.database.clone(),
    };
    let overrides = Overrides {
        api_listen: arguments.listen.clone(),
        control_listen: arguments.control.clone(),
        database,
    };
    let settings = Settings::load(arguments.settings.config.as_deref(), &overrides)?;
    telemetry::init(&settings.log);

    let served = server::block_on(async {
        let stop = stop::requested(arguments.exit_with_parent)?;
        let ids = Ids::random().map_err(ServeError::from)?;
        let server = server::build(&settings, arguments.dev, Clock::System, ids).await?;
        let ready_file = arguments.ready_file.as_deref().map(ReadyFile::new).transpose()?;
        let announce = |addresses: &server::Addresses| {
            let ready = Ready::dev(addresses, settings.dev.anonymous);
            if let Some(file) = &ready_file {
                file.write(&ready)?;
            }
            // A closed standard output is no reason to stop.
            let _ = ready.print(&settings.database.path);
            tracing::info!(api = %addresses.api, "ready");
            ready::notify_ready();
            Ok(())
        };
        let stop = async {
            stop.await;
            ready::notify_stopping();
        };
        server.run(announce, stop).await.map_err(CliError::from)
    });
    let removed = folder.map_or(Ok(()), tempfile::TempDir::close);
    served?;
    Ok(removed?)
}

fn ephemeral_folder() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("ecs-groupd-").tempdir()
}

fn reset(arguments: &Reset) -> Result<(), CliError> {
    let settings = arguments.settings.load()?;
    telemetry::init(&settings.log);
    if !arguments.yes {
        return Err(CliError::NotConfirmed(settings.database.path));
    }
    ops::reset(settings.store_options())?;
    writeln!(io::stdout(), "every group of every project is gone; the audit log stays")?;
    Ok(())
}

fn config(verb: &ConfigVerb) -> Result<(), CliError> {
    let mut out = io::stdout();
    match verb {
        ConfigVerb::Show(arguments) => write!(out, "{}", toml::to_string(&arguments.load()?)?)?,
        ConfigVerb::Check(arguments) => {
            arguments.load()?;
            writeln!(out, "the settings are good")?;
        }
        ConfigVerb::Default => write!(out, "{}", settings::DEFAULT)?,
    }
    Ok(())
}

impl SettingsArgs {
    fn load(&self) -> Result<Settings, SettingsError> {
        let overrides = Overrides { database: self.database.clone(), ..Overrides::default() };
        Settings::load(self.config.as_deref(), &overrides)
    }
}
