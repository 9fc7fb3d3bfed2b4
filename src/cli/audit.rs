//! `ecs-groupd audit`: its arguments.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{CliError, SettingsArgs};
use crate::ops::audit::{self, Keys, export, prove, tail, verify};
use crate::ops::key;
use crate::settings::SettingsError;
use crate::store::Options;
use crate::telemetry;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check every record, the tree over them, and every checkpoint; say which record is the first bad one.
    #[command(
        long_about = "Check every record, the tree over them, and every checkpoint; say which record is the \
                            first bad one.\n\n\
                            A record cannot be changed, added or taken away unseen as long as one key or one \
                            checkpoint is kept where whoever can write to the database cannot reach it: copy \
                            DATABASE.checkpoints, or what `audit head` prints, to another machine, and name it here \
                            with --checkpoint.\n\n\
                            Exit code 0 when the log is good, 6 when it is not, 1 when that could not be found out."
    )]
    Verify(VerifyArgs),
    /// Write every record to a file that can be verified without the database.
    Export {
        #[command(flatten)]
        settings: SettingsArgs,
        /// ndjson: the records' bytes and the signed checkpoints, for `audit verify --export`; cts: as the Cloud Trace
        /// Service shows them.
        #[arg(long, value_name = "ndjson|cts", default_value = "ndjson", value_parser = ["ndjson", "cts"])]
        format: String,
        /// The file; without it, standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write the proof that a record is in the log (C2SP tlog-proof), which convinces somebody without the database.
    Prove {
        /// The record's trace id, as the CTS listing and `audit tail --json` show it.
        #[arg(value_name = "TRACE_ID")]
        trace_id: String,
        #[command(flatten)]
        settings: SettingsArgs,
        /// The file; without it, standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check a proof, and show the record that it is about.
    CheckProof {
        /// The file that `audit prove` wrote.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        settings: SettingsArgs,
        /// The keys that are trusted: public ones, one a line, or the private one; without it, that of the service.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Show the newest checkpoint, and on standard error its key and how far the log goes beyond it.
    #[command(
        long_about = "Show the newest checkpoint, and on standard error its key and how far the log goes beyond \
                            it.\n\n\
                            Standard output is the signed note alone: keep it where whoever can write to the database \
                            cannot reach it, and `audit verify --checkpoint FILE` tells whether the log still \
                            reproduces it."
    )]
    Head {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Show the public key that checkpoints are signed with, and those before it, for --key where the private one is
    /// not.
    Key {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Sign with a new key from now on, which the log says, signed by both; no service may hold the database.
    RotateKey {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Show the newest records, one a line: when, what came of it, what was done, by whom, to what.
    Tail {
        #[command(flatten)]
        settings: SettingsArgs,
        /// How many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: u64,
        /// From this record on, rather than the newest ones.
        #[arg(long, value_name = "SEQ", conflicts_with = "lines")]
        from: Option<u64>,
        /// Go on with those that come, until interrupted.
        #[arg(long)]
        follow: bool,
        /// As the JSON that they are.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Not a database, but a file that `audit export` wrote, or a sealed segment; several in the log's order.
    #[arg(long, value_name = "FILE", conflicts_with = "database")]
    export: Vec<PathBuf>,
    /// A checkpoint, or a file of them, that was kept somewhere else: the log must reproduce each; without it,
    /// DATABASE.checkpoints.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The keys that are trusted: public ones, one a line, or the private one; without it, that of the service.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Replay the records, too, and compare the groups, members and registered ECSs with those in the database.
    #[arg(long, conflicts_with = "export")]
    state: bool,
}

/// Does what the arguments say.
pub(super) fn run(verb: Verb) -> Result<(), CliError> {
    let mut out = io::stdout();
    match verb {
        Verb::Verify(arguments) => return verify(arguments),
        Verb::Export { settings, format, output } => {
            let format = if format == "cts" { export::Format::Cts } else { export::Format::Ndjson };
            export::export(&database_of(&settings)?, format, output.as_deref())?;
        }
        Verb::Prove { trace_id, settings, output } => {
            prove::prove(&database_of(&settings)?, &trace_id, output.as_deref())?;
        }
        Verb::CheckProof { file, settings, key } => {
            prove::check_proof(&file, &keys(key, &settings)?, &mut out)?;
        }
        Verb::Head { settings } => {
            audit::head(&database_of(&settings)?, &mut out, &mut io::stderr())?;
        }
        Verb::Key { settings } => {
            audit::public_keys(&database_of(&settings)?, &keys(None, &settings)?, &mut out)?;
        }
        Verb::RotateKey { settings } => {
            let settings = settings.load()?;
            telemetry::init(&settings.log);
            writeln!(out, "{}", key::rotate(&settings.store_options())?)?;
        }
        Verb::Tail { settings, lines, from, follow, json } => {
            let ask = tail::Ask { from, count: lines, is_json: json, follow };
            tail::tail(&database_of(&settings)?, ask, &mut out)?;
        }
    }
    Ok(())
}

fn verify(arguments: VerifyArgs) -> Result<(), CliError> {
    let VerifyArgs { settings, export, checkpoint, key, state } = arguments;
    let keys = keys(key, &settings)?;
    let log = if export.is_empty() {
        verify::Which::Database { database: database_of(&settings)?, state }
    } else {
        verify::Which::Exports(export)
    };
    let ask = verify::Ask { log, keys, checkpoint };
    if verify::verify(&ask, &mut io::stdout())? { Ok(()) } else { Err(CliError::Unverified) }
}

/// Whether the audit log of a database, all of it that is there, is as it was signed; says what is not.
pub(super) fn verify_database(database: &Path, keys: Keys) -> Result<(), CliError> {
    let log = verify::Which::Database { database: database.to_owned(), state: false };
    let ask = verify::Ask { log, keys, checkpoint: None };
    if verify::verify(&ask, &mut io::stdout())? { Ok(()) } else { Err(CliError::Unverified) }
}

/// The database, by its own name where it is a link: what belongs to it stands beside that.
fn database_of(settings: &SettingsArgs) -> Result<PathBuf, SettingsError> {
    let database = settings.load()?.database.path;
    Ok(if database.is_symlink() { database.canonicalize().unwrap_or(database) } else { database })
}

/// Those that were named, which needs no settings; or that of the service.
pub(super) fn keys(named: Option<PathBuf>, settings: &SettingsArgs) -> Result<Keys, SettingsError> {
    if let Some(file) = named {
        return Ok(Keys::Named(file));
    }
    let options = Options { database: database_of(settings)?, ..settings.load()?.store_options() };
    Ok(Keys::Of(options.key_file()))
}
