//! `ecs-groupd audit`: the log looked at from outside, beside a running service or without one.
//!
//! Invariant: nothing here writes to a database.

pub mod export;
pub mod prove;
mod sealed;
pub mod tail;
pub mod verify;
mod words;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::{Checkpoint, key_before};
use crate::audit::note::{NOTE_BYTES_MAX, NoteError, SigningKey, VerifyingKey};
use crate::audit::proof::ProofError;
use crate::audit::segment::SegmentError;
use crate::store::log::Log;
use crate::store::{OpenError, StoreError};

/// The largest file of keys that is read, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// What begins a comment in a file of keys.
const COMMENT: char = '#';

/// Why a verb did not do its work. That a log does not verify is told otherwise.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is nothing to look at.
    #[error("there is no database at {}: name it with --database", .0.display())]
    NoDatabase(PathBuf),
    /// The database cannot be opened to read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another file cannot be read or written.
    #[error("cannot open {}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that was named to compare with has nothing to compare with.
    #[error("there is no checkpoint in {}: `ecs-groupd audit head > FILE` writes one", .0.display())]
    NoCheckpointIn(PathBuf),
    /// There are checkpoints, and nothing to check them with.
    #[error("there is no key at {}, and without one nobody can tell who signed: name it with --key, or in the setting `audit.key`", .0.display())]
    NoKey(PathBuf),
    /// A file of keys has something else in it.
    #[error("{}, line {line} {error}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        error: NoteError,
    },
    /// An export or a sealed segment is none.
    #[error("{} {error}", file.display())]
    Segment {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: SegmentError,
    },
    /// The state needs the whole log.
    #[error(
        "--state replays every record from the first on, and records {first}\u{2013}{last} are not here: they were \
         sealed, so put their segments back into {}",
        folder.display()
    )]
    NotWhole {
        /// The first record that is missing.
        first: u64,
        /// The last.
        last: u64,
        /// Where they belong.
        folder: PathBuf,
    },
    /// No record has this id.
    #[error("no record has the trace id {0:?}")]
    NoRecord(String),
    /// The record is in a segment that is not here.
    #[error("record {seq} was sealed, and its segment is not here: put it back into {}", folder.display())]
    SealedAway {
        /// The record.
        seq: u64,
        /// Where segments belong.
        folder: PathBuf,
    },
    /// The record is too new.
    #[error(
        "no checkpoint covers record {seq} yet, the newest one is of size {size}: a running service makes the next one \
         within `audit.checkpoint_every_s`, and when it stops"
    )]
    NotCovered {
        /// The record.
        seq: u64,
        /// The newest checkpoint's size.
        size: u64,
    },
    /// The log does not reproduce its own checkpoint.
    #[error("the log does not reproduce its newest checkpoint: `ecs-groupd audit verify` says what is wrong")]
    NotReproduced,
    /// A proof proves nothing.
    #[error("{}: {error}", file.display())]
    Proof {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: ProofError,
    },
    /// There is no checkpoint yet.
    #[error("the log has no checkpoint yet, and {0} records")]
    NoCheckpoint(i64),
    /// Nothing can be printed, or the runtime did not start.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AuditError {
    /// Whether it was read, and does not verify.
    #[must_use]
    pub const fn is_unverified(&self) -> bool {
        matches!(
            self,
            Self::Proof { error: ProofError::Checkpoint(_) | ProofError::ElsewhereLed, .. }
                | Self::NotReproduced
        )
    }
}

/// The newest checkpoint, as it is to be kept, to `out`; the key that signs, and how far the log goes beyond it, to
/// `beside`.
///
/// # Errors
/// [`AuditError`].
pub fn head(
    database: &Path,
    out: &mut impl io::Write,
    beside: &mut impl io::Write,
) -> Result<(), AuditError> {
    on_log(database, async |log| {
        let (newest, kept) = (log.newest_seq().await?, log.beside().await?);
        let checkpoint = log.newest_checkpoint().await?.ok_or(AuditError::NoCheckpoint(newest))?;
        let key = kept.keys.last().map_or("none", |(_, key)| key);
        write!(out, "{}", checkpoint.note)?;
        writeln!(beside, "key      {}", words::plain(key))?;
        writeln!(beside, "size     {}", checkpoint.size)?;
        writeln!(beside, "beyond   {} records", newest - checkpoint.size)?;
        Ok(())
    })
}

/// Writes the public key that the log is signed with, and those before it that agreed to the next one, one a line:
/// anybody may have them.
///
/// # Errors
/// [`AuditError`].
pub fn public_keys(database: &Path, keys: &Keys, out: &mut impl io::Write) -> Result<(), AuditError> {
    let mut found = keys.read_some()?;
    on_log(database, async |log| {
        for (seq, named) in log.beside().await?.keys.into_iter().rev() {
            let Some(key) = found.last().filter(|key| key.to_string() == named) else { break };
            let bytes = match log.record(seq).await? {
                None => sealed::record(database, seq.try_into().unwrap_or_default())?,
                stored => stored,
            };
            let before = bytes.and_then(|bytes| key_before(&bytes, key));
            found.extend(before);
        }
        Ok(())
    })?;
    for key in found {
        writeln!(out, "{key}")?;
    }
    Ok(())
}

/// Opens the log of a database that is there, does `work` on it, and closes it.
fn on_log<T>(
    database: &Path,
    work: impl AsyncFnOnce(&mut Log) -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    // Without I/O of its own: waking it for each row that SQLite's thread hands over would cost a system call.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    on_runtime(&runtime, database, work)
}

fn on_runtime<T>(
    runtime: &tokio::runtime::Runtime,
    database: &Path,
    work: impl AsyncFnOnce(&mut Log) -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    if !database.exists() {
        return Err(AuditError::NoDatabase(database.to_owned()));
    }
    runtime.block_on(async {
        let mut log = Log::open(database).await?;
        let done = work(&mut log).await;
        log.close().await;
        done
    })
}

/// `<database>.<suffix>`
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(OsStr::new(suffix));
    PathBuf::from(path)
}

fn open(file: &Path) -> Result<File, AuditError> {
    File::open(file).map_err(|source| AuditError::File { file: file.to_owned(), source })
}

fn read(file: &Path) -> Result<String, AuditError> {
    std::fs::read_to_string(file).map_err(|source| AuditError::File { file: file.to_owned(), source })
}

/// Where the keys are that are trusted.
#[derive(Clone, Debug)]
pub enum Keys {
    /// In a file that was named.
    Named(PathBuf),
    /// In the file that the service signs with, if it is there.
    Of(PathBuf),
}

impl Keys {
    fn file(&self) -> &Path {
        let (Self::Named(file) | Self::Of(file)) = self;
        file
    }

    /// The keys; none when there is no file, and none was named.
    fn read(&self) -> Result<Vec<VerifyingKey>, AuditError> {
        match self {
            Self::Of(file) if !file.exists() => Ok(Vec::new()),
            _ => read_keys(self.file()),
        }
    }

    /// The keys, one at least.
    fn read_some(&self) -> Result<Vec<VerifyingKey>, AuditError> {
        let keys = self.read()?;
        if keys.is_empty() { Err(AuditError::NoKey(self.file().to_owned())) } else { Ok(keys) }
    }
}

/// A private key, or public ones, one a line.
fn read_keys(file: &Path) -> Result<Vec<VerifyingKey>, AuditError> {
    let io = |source| AuditError::File { file: file.to_owned(), source };
    let mut text = String::new();
    open(file)?.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let key = |text: &str| match text.parse::<SigningKey>() {
        Ok(key) => Ok(key.verifying_key()),
        Err(_not_private) => text.parse(),
    };
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(COMMENT))
        .map(|(line, text)| key(text).map_err(|error| AuditError::Key { file: file.to_owned(), line, error }))
        .collect()
}

/// What a file of checkpoints has.
#[derive(Debug, Default)]
struct Notes {
    /// The notes, each with its line. What is no note is there without a text.
    notes: Vec<(usize, String)>,
    /// A last line that is not whole, as a crash leaves it.
    torn: Option<(usize, Vec<u8>)>,
}

/// The notes in a file: one, or a JSON string a line; where it is the program's own file, just as it writes them.
fn read_notes(file: &Path, is_own: bool) -> Result<Notes, AuditError> {
    let bytes = std::fs::read(file).map_err(|source| AuditError::File { file: file.to_owned(), source })?;
    if let Ok(text) = str::from_utf8(&bytes)
        && text.len() <= NOTE_BYTES_MAX
    {
        // Its last line's end goes easily astray where it is kept.
        let note = format!("{}\n", text.trim_end_matches(['\n', '\r']));
        if Checkpoint::claimed(&note).is_some() {
            return Ok(Notes { notes: vec![(1, note)], torn: None });
        }
    }
    let mut read = Notes::default();
    for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (number, text) = (at + 1, line.strip_suffix(b"\n"));
        let note: Option<String> = serde_json::from_slice(text.unwrap_or(line)).ok();
        let is_as_written = |note: &String| line_of(note).is_some_and(|own| own == text.unwrap_or(line));
        match note.filter(|note| !is_own || is_as_written(note)) {
            // The program itself goes by the end of a line, and writes a line without one anew.
            Some(note) if text.is_some() || !is_own => read.notes.push((number, note)),
            _ if text.is_none() => read.torn = Some((number, line.to_owned())),
            _ => read.notes.push((number, String::new())),
        }
    }
    Ok(read)
}

/// A note as a line has it, without the line's end.
fn line_of(note: &String) -> Option<Vec<u8>> {
    serde_json::to_vec(note).ok()
}

/// A file that is there once it is whole, or standard output.
enum Output {
    Standard(io::BufWriter<io::Stdout>),
    Device(io::BufWriter<File>, PathBuf),
    File(io::BufWriter<tempfile::NamedTempFile>, PathBuf),
}

impl Output {
    fn new(file: Option<&Path>) -> Result<Self, AuditError> {
        let Some(file) = file else { return Ok(Self::Standard(io::BufWriter::new(io::stdout()))) };
        let failed = |source| AuditError::File { file: file.to_owned(), source };
        if std::fs::metadata(file).is_ok_and(|there| !there.is_file()) {
            // A device or a pipe is written to, and not put out of the way.
            let made = File::options().write(true).open(file).map_err(failed)?;
            return Ok(Self::Device(io::BufWriter::new(made), file.to_owned()));
        }
        // A link stays one.
        let file = &std::fs::canonicalize(file).unwrap_or_else(|_new| file.to_owned());
        let folder = match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let made = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        Ok(Self::File(io::BufWriter::new(made), file.to_owned()))
    }

    /// It is whole.
    fn finish(self) -> Result<(), AuditError> {
        match self {
            Self::Standard(mut out) => Ok(out.flush()?),
            Self::Device(mut out, file) => out.flush().map_err(|source| AuditError::File { file, source }),
            Self::File(out, file) => {
                let io = |source| AuditError::File { file: file.clone(), source };
                let made = out.into_inner().map_err(|error| io(error.into_error()))?;
                made.as_file().sync_all().map_err(io)?;
                made.persist(&file).map_err(|error| io(error.error))?;
                Ok(())
            }
        }
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::Device(out, _) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::Device(out, _) => out.flush(),
            Self::File(out, _) => out.flush(),
        }
    }
}
