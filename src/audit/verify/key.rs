//! The keys that may have signed, and how one came after another.

use serde::Deserialize;

use super::finding::RecordFault;
use crate::audit::checkpoint::key_change_text;
use crate::audit::event::Event;
use crate::audit::note::{self, VerifyingKey};

/// The keys that are known so far.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    /// Those that were given, or that one of them agreed to.
    trusted: Vec<VerifyingKey>,
    /// Those, and the others that the log names: a trusted checkpoint vouches for the log.
    known: Vec<VerifyingKey>,
    /// The key that signs from a record on, as the log says.
    changes: Vec<(u64, String)>,
    /// The changes that both keys signed: the old one, and the new one.
    agreed: Vec<(VerifyingKey, VerifyingKey)>,
}

#[derive(Deserialize)]
struct Asked<'bytes> {
    old: Option<std::borrow::Cow<'bytes, str>>,
    new: std::borrow::Cow<'bytes, str>,
    signed: Option<std::borrow::Cow<'bytes, str>>,
}

impl Keyring {
    pub(super) fn new(trusted: Vec<VerifyingKey>) -> Self {
        Self { known: trusted.clone(), trusted, changes: Vec::new(), agreed: Vec::new() }
    }

    /// A key that was put in force before the first record that is here.
    pub(super) fn add_earlier(&mut self, seq: u64, key: &str) {
        if let Ok(key) = key.parse() {
            self.learn(key);
        }
        self.changes.push((seq, key.to_owned()));
    }

    pub(super) fn known(&self) -> &[VerifyingKey] {
        &self.known
    }

    pub(super) fn is_trusted(&self, key: &VerifyingKey) -> bool {
        self.trusted.contains(key)
    }

    /// The changes of key, with the record of each.
    pub(super) fn changes(&self) -> &[(u64, String)] {
        &self.changes
    }

    /// Whether this is the key that signs a log of this size, as the log says.
    pub(super) fn signs_at(&self, key: &VerifyingKey, size: u64) -> bool {
        let in_force = self.changes.iter().rev().find(|(seq, _)| *seq <= size);
        in_force.is_some_and(|(_, named)| *named == key.to_string())
    }

    fn learn(&mut self, key: VerifyingKey) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    /// Follows a change of key.
    pub(super) fn follow(&mut self, event: &Event<'_>, is_after_loss: bool) -> Result<(), RecordFault> {
        const MALFORMED: RecordFault = RecordFault::Malformed { field: "asked" };
        let malformed = |_not_asked| MALFORMED;
        let asked: Asked<'_> = serde_json::from_str(event.asked.get()).map_err(malformed)?;
        let new: VerifyingKey = asked.new.parse().map_err(|_not_a_key| MALFORMED)?;
        let in_force = self.changes.last().map(|(_, key)| key.clone());
        self.changes.push((event.seq, asked.new.clone().into_owned()));
        self.learn(new.clone());
        let Some(old) = asked.old else {
            // The first key of a log.
            return match in_force {
                None => Ok(()),
                Some(expected) => Err(RecordFault::WrongOldKey { old: "no key".to_owned(), expected }),
            };
        };
        if let Some(expected) = in_force.filter(|expected| *expected != old) {
            return Err(RecordFault::WrongOldKey { old: old.into_owned(), expected });
        }
        let Some(signed) = asked.signed else {
            return if is_after_loss { Ok(()) } else { Err(RecordFault::NobodyAgreed) };
        };
        let old: VerifyingKey = old.parse().map_err(|_not_a_key| MALFORMED)?;
        let (text, _) = note::open(&signed, std::slice::from_ref(&old)).map_err(RecordFault::NotAgreed)?;
        note::open(&signed, std::slice::from_ref(&new)).map_err(RecordFault::NotSigned)?;
        if text != key_change_text(&old, &new) {
            return Err(RecordFault::OtherAgreed);
        }
        self.learn(old.clone());
        self.agreed.push((old, new));
        Ok(())
    }

    /// Trusts whom a trusted key agreed with: the one that comes after it, and the one that came before.
    pub(super) fn settle(&mut self) {
        let forwards = self.agreed.iter().map(|(old, new)| (old, new));
        let backwards = self.agreed.iter().rev().map(|(old, new)| (new, old));
        for (by, other) in forwards.chain(backwards) {
            if self.trusted.contains(by) && !self.trusted.contains(other) {
                self.trusted.push(other.clone());
            }
        }
    }
}
