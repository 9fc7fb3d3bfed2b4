//! Arguments and exit codes.

mod audit;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock::{self, Clock, Ids, NoEntropy};
use crate::domain::id::{ProjectId, ServerId};
use crate::domain::server::{HostName, Server};
use crate::identities;
use crate::identities::dev::{self, DevSecrets};
use crate::identities::file::IdentitiesError;
use crate::identities::password::{Cost, Hashed, PASSWORD_BYTES_MAX, PasswordError};
use crate::ops::audit::AuditError;
use crate::ops::explain::{self, ExplainError, Question};
use crate::ops::{self, OpsError};
use crate::server::ready::{self, Ready, ReadyFile};
use crate::server::signal::{self, HangUp};
use crate::server::{self, Launch, ServeError};
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
/// The audit log, or a proof, does not verify.
const EXIT_UNVERIFIED: u8 = 6;

/// A persistent, auditable stand-in for Huawei Cloud's ECS group API.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 a setting is wrong, 4 another process holds the database, \
                  5 the database is not ours or newer, 6 the audit log does not verify."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the service.
    Serve(Serve),
    /// Delete every group, of every project or of one; the audit log stays.
    Reset(Reset),
    /// Write a copy of the database, while a service runs or without one.
    Backup(Backup),
    /// Put a backup in the place of the database; no service may hold it.
    Restore(Restore),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make and look at the file of accounts, users, keys and policies.
    #[command(subcommand)]
    Identity(IdentityVerb),
    /// The ECSs that a database knows, while no service holds it; a service has them on its control listener.
    #[command(subcommand)]
    Inventory(InventoryVerb),
    /// Verify, export and read the audit log, while a service runs or without one. But for rotate-key nothing is written.
    #[command(subcommand)]
    Audit(audit::Verb),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
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
    /// The file of accounts, users, keys and policies.
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    identities: Option<PathBuf>,
    /// Let other machines reach the service without TLS: passwords and tokens can be read on the way.
    #[arg(long)]
    insecure_http: bool,
    /// Go on with an audit log that was cut or changed, or whose key is lost; that is recorded.
    #[arg(long)]
    accept_audit_loss: bool,
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
    /// Only those of this project, by its id.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Really delete them.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct Backup {
    /// The file, which must not be there yet.
    #[arg(value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Args)]
struct Restore {
    /// What `ecs-groupd backup` wrote.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
    /// The keys that are trusted to have signed its audit log, if they are not that of the service.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Really give up what came after it.
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

#[derive(Debug, Subcommand)]
enum IdentityVerb {
    /// Hash a password for `password_hash`: asks for it at a terminal, else reads one line of standard input.
    HashPassword,
    /// Make an access key, as a line for the file.
    NewAccessKey,
    /// Print a file of accounts with everything explained.
    Example,
    /// Check a file of accounts, and say what is wrong and where.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say whether a user may do something, which statement decided, and why.
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Explain {
    /// The user: ACCOUNT/NAME, an id, or a name that only one has.
    #[arg(long)]
    user: String,
    /// The action, as ecs:cloudServers:createServerGroup.
    #[arg(long)]
    action: String,
    /// The project, by name or id; without it, each of the account's.
    #[arg(long)]
    project: Option<String>,
    /// The address that the request would come from.
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<std::net::IpAddr>,
    /// The file of accounts; without it, the one in the settings.
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// A file of settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum InventoryVerb {
    /// Make an ECS known, or what is known of it right.
    Put {
        /// Its id.
        #[arg(value_name = "ECS")]
        server_id: String,
        /// What it is called; without it, its id.
        #[arg(long)]
        name: Option<String>,
        /// What it does.
        #[arg(long, default_value = "ACTIVE")]
        status: String,
        /// The host that it runs on.
        #[arg(long)]
        host: Option<String>,
        #[command(flatten)]
        at: InventoryArgs,
    },
    /// Show what is known.
    List {
        #[command(flatten)]
        at: InventoryArgs,
    },
    /// Forget an ECS, which takes it out of its group.
    Remove {
        /// Its id.
        #[arg(value_name = "ECS")]
        server_id: String,
        #[command(flatten)]
        at: InventoryArgs,
    },
}

#[derive(Debug, Args)]
struct InventoryArgs {
    /// The project's id; without it, the one of --dev.
    #[arg(long, default_value = dev::PROJECT_ID)]
    project: String,
    #[command(flatten)]
    settings: SettingsArgs,
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
    #[error("{0}: say --yes if that is meant")]
    NotConfirmed(String),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Ops(#[from] OpsError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the audit log does not verify")]
    Unverified,
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    #[error("{0}")]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    #[error("cannot print the settings: {0}")]
    Print(#[from] toml::ser::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::NotConfirmed(_)
            | Self::Explain(_)
            | Self::Ops(OpsError::Argument(_))
            | Self::Password(PasswordError::Length)
            | Self::Serve(
                ServeError::NoIdentities
                | ServeError::TwoIdentities
                | ServeError::DevOffLoopback { .. }
                | ServeError::Insecure { .. },
            ) => EXIT_USAGE,
            Self::Settings(_) | Self::Identities(_) | Self::Serve(ServeError::Identities(_)) => EXIT_SETTINGS,
            Self::Unverified => EXIT_UNVERIFIED,
            Self::Audit(error) if error.is_unverified() => EXIT_UNVERIFIED,
            Self::Serve(ServeError::Store(error))
            | Self::Ops(OpsError::Open(error))
            | Self::Audit(AuditError::Open(error)) => match error {
                OpenError::Locked { .. } => EXIT_LOCKED,
                OpenError::Foreign { .. } | OpenError::Newer { .. } => EXIT_FOREIGN,
                _ => EXIT_FAILED,
            },
            Self::Serve(_)
            | Self::Ops(_)
            | Self::Audit(_)
            | Self::Print(_)
            | Self::Io(_)
            | Self::Password(
                PasswordError::NoEntropy(_) | PasswordError::Params(_) | PasswordError::Hash(_),
            )
            | Self::NoEntropy(_) => EXIT_FAILED,
        }
    }
}

/// Does what the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Serve(arguments) => serve(&arguments),
        Verb::Reset(arguments) => reset(&arguments),
        Verb::Backup(arguments) => backup(&arguments),
        Verb::Restore(arguments) => restore(arguments),
        Verb::Config(verb) => config(&verb),
        Verb::Identity(verb) => identity(&verb),
        Verb::Inventory(verb) => inventory(verb),
        Verb::Audit(verb) => audit::run(verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(CliError::Audit(AuditError::Io(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
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
        identities: arguments.identities.clone(),
    };
    let settings = Settings::load(arguments.settings.config.as_deref(), &overrides)?;
    telemetry::init(&settings.log);
    let dev = match (arguments.dev, settings.dev.random_credentials) {
        (false, _) => None,
        (true, false) => Some(DevSecrets::well_known()),
        (true, true) => Some(DevSecrets::random()?),
    };
    let launch = Launch {
        dev,
        is_insecure_http_allowed: arguments.insecure_http,
        is_loss_accepted: arguments.accept_audit_loss,
    };

    let served = server::block_on(async {
        let stop = signal::stop(arguments.exit_with_parent)?;
        // Without a file to read again, SIGHUP ends the service, as it ends what a terminal leaves behind.
        let mut hang_up = if arguments.dev { None } else { Some(HangUp::new()?) };
        let ids = Ids::random()?;
        let server = server::build(&settings, &launch, Clock::System, ids).await?;
        let ready_file = arguments.ready_file.as_deref().map(ReadyFile::new).transpose()?;
        let control_token = server.control_token().to_owned();
        let announce = |addresses: &server::Addresses| {
            let ready = Ready::new(addresses, &control_token, &settings, &launch);
            if let Some(file) = &ready_file {
                file.write(&ready)?;
            }
            // A closed standard output is no reason to stop.
            let _ = ready.print(&settings.database.path, arguments.ready_file.as_deref());
            tracing::info!(api = %addresses.api, "ready");
            ready::notify_ready();
            Ok(())
        };
        let stop = async {
            stop.await;
            ready::notify_stopping();
        };
        server
            .run(announce, stop, async || signal::next(hang_up.as_mut()).await)
            .await
            .map_err(CliError::from)
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
    let project_id = arguments.project.as_deref().map(|id| {
        id.parse::<ProjectId>().map_err(|error| OpsError::Argument(format!("--project {id:?} is {error}")))
    });
    let project_id = project_id.transpose()?;
    let whose = project_id.map_or("every project".to_owned(), |id| format!("project {id}"));
    if !arguments.yes {
        let database = settings.database.path.display();
        return Err(CliError::NotConfirmed(format!("reset deletes every group of {whose} in {database}")));
    }
    ops::reset(settings.store_options(), project_id)?;
    writeln!(io::stdout(), "every group of {whose} is gone; the audit log stays")?;
    Ok(())
}

fn backup(arguments: &Backup) -> Result<(), CliError> {
    let settings = arguments.settings.load()?;
    ops::backup::back_up(&settings.database.path, &arguments.to)?;
    let (to, from) = (arguments.to.display(), settings.database.path.display());
    writeln!(io::stdout(), "{to} has {from} as it is now, without its key: keep that elsewhere")?;
    Ok(())
}

fn restore(arguments: Restore) -> Result<(), CliError> {
    let Restore { from, settings: place, key, yes } = arguments;
    let settings = place.load()?;
    telemetry::init(&settings.log);
    let database = settings.database.path.display().to_string();
    if !yes {
        let (from, beside) = (from.display(), format!("{database}.replaced"));
        let what = format!("restore puts {from} in the place of {database}, which is kept as {beside}");
        return Err(CliError::NotConfirmed(what));
    }
    audit::verify_database(&from, audit::keys(key, &place)?)?;
    ops::backup::restore(settings.store_options(), from.clone())?;
    writeln!(io::stdout(), "{} is in the place of {database}", from.display())?;
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

fn identity(verb: &IdentityVerb) -> Result<(), CliError> {
    let mut out = io::stdout();
    match verb {
        IdentityVerb::HashPassword => {
            let password = read_password()?;
            if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
                return Err(CliError::Password(PasswordError::Length));
            }
            let hashed = Hashed::of(&password, Cost::Chosen)?;
            writeln!(out, "password_hash = \"{}\"", hashed.as_str())?;
        }
        IdentityVerb::NewAccessKey => {
            let (access, secret) = (clock::access_key_text()?, clock::secret_text()?);
            writeln!(out, "access_key = [{{ access = \"{access}\", secret = \"{}\" }}]", &secret[..40])?;
        }
        IdentityVerb::Example => write!(out, "{}", identities::EXAMPLE)?,
        IdentityVerb::Check { file } => write!(out, "{}", explain::summary(&identities::file::read(file)?))?,
        IdentityVerb::Explain(arguments) => {
            let overrides = Overrides { identities: arguments.identities.clone(), ..Overrides::default() };
            let settings = Settings::load(arguments.config.as_deref(), &overrides)?;
            if settings.access.identities == Path::new("") {
                return Err(ServeError::NoIdentities.into());
            }
            let question = Question {
                user: &arguments.user,
                action: &arguments.action,
                project: arguments.project.as_deref(),
                source_ip: arguments.source_ip,
                now: Clock::System.now(),
            };
            let identities = identities::file::read(&settings.access.identities)?;
            write!(out, "{}", explain::explain(&identities, &question)?)?;
        }
    }
    Ok(())
}

fn inventory(verb: InventoryVerb) -> Result<(), CliError> {
    let wrong = |name: &str, rule: &dyn std::fmt::Display| OpsError::Argument(format!("{name} {rule}"));
    let id = |text: &str| text.parse::<ServerId>().map_err(|error| wrong("the ECS's id is", &error));
    let open = |at: &InventoryArgs| {
        let settings = at.settings.load()?;
        telemetry::init(&settings.log);
        let project_id: ProjectId = at.project.parse().map_err(|error| wrong("--project is", &error))?;
        Ok::<_, CliError>((settings.store_options(), project_id))
    };
    match verb {
        InventoryVerb::List { at } => {
            let (options, project_id) = open(&at)?;
            write!(io::stdout(), "{}", ops::inventory::list(options, project_id)?)?;
        }
        InventoryVerb::Remove { server_id, at } => {
            let (options, project_id) = open(&at)?;
            ops::inventory::remove(options, project_id, id(&server_id)?)?;
        }
        InventoryVerb::Put { server_id, name, status, host, at } => {
            let (options, project_id) = open(&at)?;
            let server = Server {
                server_id: id(&server_id)?,
                name: name.unwrap_or(server_id).try_into().map_err(|error| wrong("--name", &error))?,
                status: status.try_into().map_err(|error| wrong("--status", &error))?,
                host: host.map(HostName::try_from).transpose().map_err(|error| wrong("--host", &error))?,
            };
            ops::inventory::put(options, project_id, server)?;
        }
    }
    Ok(())
}

/// Without showing it, where somebody types it.
fn read_password() -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("Password: ");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl SettingsArgs {
    fn load(&self) -> Result<Settings, SettingsError> {
        let overrides = Overrides { database: self.database.clone(), ..Overrides::default() };
        Settings::load(self.config.as_deref(), &overrides)
    }
}
