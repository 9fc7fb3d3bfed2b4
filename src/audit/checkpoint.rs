//! Checkpoints (C2SP "tlog-checkpoint"): what the whole log was at one size, signed.

use std::fmt;

use base64ct::{Base64, Encoding as _};

use crate::audit::event::Event;
use crate::audit::note::{self, NoteError, SigningKey, VerifyingKey};
use crate::audit::tree::Hash;

/// The size of a log and the root of the tree over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log it is of: the name of the key that signs it.
    pub origin: String,
    /// How many records the log has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// Why a checkpoint is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is signed, and no checkpoint.
    #[error("is signed, but is no checkpoint: origin, size and root, a line each, are expected")]
    NotACheckpoint,
    /// It is of another log.
    #[error("is of another log")]
    OtherLog,
}

impl Checkpoint {
    /// As a note that `key` signs.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.to_string())
    }

    /// The checkpoint in a note that one of `keys` signed, and which.
    ///
    /// # Errors
    /// [`CheckpointError`]. What no key signed is not looked at.
    pub fn open<'keys>(
        note: &str,
        keys: &'keys [VerifyingKey],
    ) -> Result<(Self, &'keys VerifyingKey), CheckpointError> {
        let (text, key) = note::open(note, keys)?;
        let checkpoint = Self::parse(text).ok_or(CheckpointError::NotACheckpoint)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::OtherLog);
        }
        Ok((checkpoint, key))
    }

    /// What a note claims to be the checkpoint of, whoever signed it: to know what it is to be compared with.
    #[must_use]
    pub fn claimed(note: &str) -> Option<Self> {
        let end = note.rfind("\n\n")?;
        Self::parse(&note[..=end])
    }

    /// Exactly the three lines that are written here.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let mut hash = Hash::default();
        let is_whole = Base64::decode(root, &mut hash).ok()?.len() == hash.len();
        let checkpoint = Self { origin: origin.to_owned(), size: size.parse().ok()?, root: hash };
        (is_whole && checkpoint.to_string() == text).then_some(checkpoint)
    }
}

/// What both keys sign when one takes the place of the other.
#[must_use]
pub fn key_change_text(old: &VerifyingKey, new: &VerifyingKey) -> String {
    format!("ecs-groupd checkpoint key\n{old}\n{new}\n")
}

/// The text of the note.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        write!(f, "{origin}\n{size}\n{}\n", Base64::encode_string(root))
    }
}

/// The key before a change that both keys signed, from the bytes of the record that tells it.
#[must_use]
pub fn key_before(bytes: &[u8], new: &VerifyingKey) -> Option<VerifyingKey> {
    #[derive(serde::Deserialize)]
    struct Asked {
        old: Option<String>,
        signed: Option<String>,
    }
    let Asked { old, signed } = serde_json::from_str(Event::parse(bytes).ok()?.asked.get()).ok()?;
    let (old, signed) = (old?.parse::<VerifyingKey>().ok()?, signed?);
    let text = key_change_text(&old, new);
    let is_signed = |by: &VerifyingKey| {
        note::open(&signed, std::slice::from_ref(by)).is_ok_and(|(signed, _)| signed == text)
    };
    (is_signed(&old) && is_signed(new)).then_some(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::new("ecs-groupd/test", [7; 32]).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: "ecs-groupd/test".to_owned(), size, root: [9; 32] }
    }

    #[test]
    fn a_checkpoint_reads_back_what_it_signs() {
        let (key, keys) = (key(), [key().verifying_key()]);
        for size in [0, 1, u64::MAX] {
            let note = checkpoint(size).sign(&key);
            assert_eq!(Checkpoint::open(&note, &keys), Ok((checkpoint(size), &keys[0])));
        }
    }

    #[test]
    fn what_is_signed_and_no_checkpoint_of_ours_is_refused() {
        let (key, keys) = (key(), [key().verifying_key()]);
        let good = checkpoint(12).to_string();
        let texts = [
            good.replace("12", "012"),
            good.replace("12", "-12"),
            good.replace("12\n", ""),
            good.replace('=', ""),
            format!("{good}more\n"),
            good.replace("CQkJ", "CQk"),
        ];
        for text in texts {
            assert_eq!(
                Checkpoint::open(&key.sign(&text), &keys),
                Err(CheckpointError::NotACheckpoint),
                "{text}"
            );
        }
        let other = Checkpoint { origin: "somebody/else".to_owned(), ..checkpoint(1) };
        assert_eq!(Checkpoint::open(&other.sign(&key), &keys), Err(CheckpointError::OtherLog));
    }
}
