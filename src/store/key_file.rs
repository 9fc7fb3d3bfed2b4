//! The file of the key that checkpoints are signed with. The service makes it; whoever has it can rewrite the log
//! unseen, but for checkpoints that are held elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::key_change_text;
use crate::audit::note::SigningKey;
use crate::clock;
use crate::store::sqlite::open::{beside, give_to_owner_of, sync_folder_of};

/// Nobody but its owner reads it.
const MODE: u32 = 0o600;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It was there, since the log is signed with it.
    #[error(
        "there is no checkpoint key at {}, and the audit log is signed with {signed_with}: put the file back, or go on \
         with a new key with --accept-audit-loss",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The public half.
        signed_with: String,
    },
    /// Others may read it.
    #[error("{} may be read by others, and is a secret: `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is not written as a key is.
    #[error("{} holds no checkpoint key: one line, PRIVATE+KEY+NAME+HASH+KEY, is expected", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or made.
    #[error("checkpoint key {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the key is: where it is said to be, else beside the database.
pub(crate) fn path(database: &Path, configured: &Path) -> PathBuf {
    if configured == Path::new("") { beside(database, ".key") } else { configured.to_owned() }
}

/// Where the next key is while it takes the place of the key.
pub(crate) fn next_path(path: &Path) -> PathBuf {
    beside(path, ".new")
}

/// The key, or `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<SigningKey>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mode = file.metadata().map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 && !crate::identities::file::is_a_credential_of_systemd(path) {
        return Err(KeyError::Open { path: path.to_owned() });
    }
    let text = io::read_to_string(file).map_err(io)?;
    let key = text.trim().parse().map_err(|_not_a_key| KeyError::NotAKey { path: path.to_owned() })?;
    Ok(Some(key))
}

/// Makes a key of this name in a file of its own; one that is there stays. The file is there as a whole, on the disk,
/// or not at all: the log is about to name the key.
pub(crate) fn make(database: &Path, path: &Path, name: Option<&str>) -> Result<SigningKey, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let secret = clock::secret_bytes().map_err(|error| io(io::Error::other(error)))?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => new_name().map_err(|error| io(io::Error::other(error)))?,
    };
    let key =
        SigningKey::new(&name, secret).map_err(|_bad_name| KeyError::NotAKey { path: path.to_owned() })?;
    if path.exists() {
        return Err(io(io::ErrorKind::AlreadyExists.into()));
    }
    write_whole(database, path, &key).map_err(io)?;
    Ok(key)
}

fn write_whole(database: &Path, path: &Path, key: &SigningKey) -> io::Result<()> {
    let unfinished = unfinished(path);
    // One that a kill left there is nobody's key.
    remove(&unfinished)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&unfinished)?;
    writeln!(file, "{}", key.to_secret_text())?;
    give_to_owner_of(database, &file)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder_of(path)
}

/// Where a key is while it is being written.
fn unfinished(path: &Path) -> PathBuf {
    beside(path, ".tmp")
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Which log it is: a name that no other has.
fn new_name() -> Result<String, clock::NoEntropy> {
    Ok(format!("ecs-groupd/{}", base16ct::lower::encode_string(&clock::secret_bytes::<8>()?)))
}

/// Ends a change of keys that was cut short: the next key takes the key's place when the log names it, and is
/// forgotten when it does not.
pub(crate) fn settle(path: &Path, signed_with: Option<&str>) -> Result<(), KeyError> {
    let next = next_path(path);
    let io = |source| KeyError::Io { path: next.clone(), source };
    remove(&unfinished(&next)).map_err(io)?;
    let Some(key) = read(&next)? else { return Ok(()) };
    if signed_with == Some(public(&key).as_str()) {
        fs::rename(&next, path).map_err(io)?;
        sync_folder_of(path).map_err(io)
    } else {
        fs::remove_file(&next).map_err(io)
    }
}

/// The half of a key that everybody may know, as text.
pub(crate) fn public(key: &SigningKey) -> String {
    key.verifying_key().to_string()
}

/// One key after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The public half of the old one.
    pub old: String,
    /// That of the new one.
    pub new: String,
    /// Both, signed by both.
    pub signed: String,
}

/// Makes the key that is to come after the one that is there, in a file beside it.
pub(crate) fn make_next(database: &Path, path: &Path) -> Result<KeyChange, KeyError> {
    let not_a_key = || KeyError::NotAKey { path: path.to_owned() };
    let old = read(path)?.ok_or_else(not_a_key)?;
    let new = make(database, &next_path(path), Some(old.verifying_key().name()))?;
    let text = key_change_text(&old.verifying_key(), &new.verifying_key());
    let signed = new.cosign(&text, &old.sign(&text));
    Ok(KeyChange { old: public(&old), new: public(&new), signed })
}
