//! Signed notes (C2SP "signed-note"): a text, and who signed it with Ed25519.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, Signer as _};
use sha2::{Digest as _, Sha256};

/// The only kind of signature here: "Ed25519 signatures as specified by this document".
const ED25519: u8 = 0x01;
/// What a note's signature lines begin with.
const DASH: &str = "\u{2014} ";
/// What a private key's text begins with, as Go's `sumdb/note` writes it.
const PRIVATE: &str = "PRIVATE+KEY+";
/// The longest note that is looked at, in bytes: 16 signatures have room in it many times over.
pub const NOTE_BYTES_MAX: usize = 65_536;

/// Why a key or a note is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not written as a key is.
    #[error("is no key: NAME+HASH+KEY, or PRIVATE+KEY+NAME+HASH+KEY, is expected")]
    NotAKey,
    /// It is not written as a note is.
    #[error("is not a signed note")]
    NotANote,
    /// None of the keys signed it.
    #[error("is not signed by a key that is trusted here")]
    UnknownKey,
    /// A signature by one of the keys is wrong.
    #[error("has a signature that is wrong: it was changed after it was signed, or never signed")]
    WrongSignature,
}

/// Half of a key that is kept: it signs.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

/// Half of a key that everybody may have: it tells who signed.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    key: ed25519_dalek::VerifyingKey,
}

impl SigningKey {
    /// A key of this name, made of 32 secret bytes.
    ///
    /// # Errors
    /// When the name is empty, or has white space or a `+`.
    pub fn new(name: &str, secret: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(&secret) })
    }

    /// The half that tells who signed.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// As it stands in its file. It is the secret itself.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        let id = base16ct::lower::encode_string(&self.verifying_key().id());
        format!("{PRIVATE}{}+{id}+{}", self.name, encode_typed(self.key.as_bytes()))
    }

    /// `text`, signed. The text ends with a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.signature_line(text))
    }

    /// A note that another key made of `text`, signed by this one too.
    #[must_use]
    pub fn cosign(&self, text: &str, note: &str) -> String {
        format!("{note}{}", self.signature_line(text))
    }

    fn signature_line(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let signature = Base64::encode_string(&[&self.verifying_key().id()[..], &signature].concat());
        format!("{DASH}{} {signature}\n", self.name)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key())
    }
}

impl FromStr for SigningKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, id, secret) = split_key(text.strip_prefix(PRIVATE).ok_or(NoteError::NotAKey)?)?;
        let key = Self::new(name, secret)?;
        if key.verifying_key().id() == id { Ok(key) } else { Err(NoteError::NotAKey) }
    }
}

impl VerifyingKey {
    /// Its name, which is also the origin of the checkpoints that it signs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `SHA-256(name ‖ 0x0A ‖ type ‖ key)[:4]`
    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

/// `NAME+HASH+KEY`, the "vkey" of C2SP.
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = base16ct::lower::encode_string(&self.id());
        write!(f, "{}+{id}+{}", self.name, encode_typed(self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, id, key) = split_key(text)?;
        let not_a_key = |_not_a_point| NoteError::NotAKey;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key).map_err(not_a_key)?;
        let key = Self { name: name.to_owned(), key };
        if key.id() == id { Ok(key) } else { Err(NoteError::NotAKey) }
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let is_good =
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+');
    if is_good { Ok(()) } else { Err(NoteError::NotAKey) }
}

fn encode_typed(key: &[u8; 32]) -> String {
    Base64::encode_string(&[&[ED25519], &key[..]].concat())
}

/// The name, the id and the 32 bytes of `NAME+HASH+KEY`.
fn split_key(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), NoteError> {
    let (name, rest) = text.split_once('+').ok_or(NoteError::NotAKey)?;
    let (id, key) = rest.split_once('+').ok_or(NoteError::NotAKey)?;
    check_name(name)?;
    let mut bytes = [0; 4];
    let id = base16ct::lower::decode(id, &mut bytes).ok().filter(|id| id.len() == 4);
    let key = Base64::decode_vec(key).ok();
    match (id, key.as_deref()) {
        (Some(_), Some([ED25519, key @ ..])) => {
            let wrong_length = |_wrong_length| NoteError::NotAKey;
            Ok((name, bytes, key.try_into().map_err(wrong_length)?))
        }
        _ => Err(NoteError::NotAKey),
    }
}

/// The text of a note, and which of `keys` signed it. Signatures of others do not count.
///
/// # Errors
/// [`NoteError`], when it is no note, or none of `keys` signed it, or one of them did not.
pub fn open<'note, 'keys>(
    note: &'note str,
    keys: &'keys [VerifyingKey],
) -> Result<(&'note str, &'keys VerifyingKey), NoteError> {
    let is_text = |c: char| c == '\n' || c >= ' ';
    if note.len() > NOTE_BYTES_MAX || !note.chars().all(is_text) || !note.ends_with('\n') {
        return Err(NoteError::NotANote);
    }
    let end = note.rfind("\n\n").ok_or(NoteError::NotANote)?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    let mut signed_by = None;
    if signatures.is_empty() {
        return Err(NoteError::NotANote);
    }
    for line in signatures.lines() {
        let (name, signature) =
            line.strip_prefix(DASH).and_then(|line| line.split_once(' ')).ok_or(NoteError::NotANote)?;
        let bytes = Base64::decode_vec(signature).map_err(|_not_base64| NoteError::NotANote)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::NotANote)?;
        let Some(key) = keys.iter().find(|key| key.name == name && key.id() == *id) else { continue };
        let wrong = |_wrong| NoteError::WrongSignature;
        let signature = Signature::from_slice(signature).map_err(wrong)?;
        key.key.verify_strict(text.as_bytes(), &signature).map_err(wrong)?;
        signed_by = signed_by.or(Some(key));
    }
    signed_by.map(|key| (text, key)).ok_or(NoteError::UnknownKey)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The example of Go's `golang.org/x/mod/sumdb/note`, which C2SP "signed-note" is the specification of.
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_note_opens_and_is_signed_alike() {
        let key: VerifyingKey = VKEY.parse().unwrap();
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(open(&note, std::slice::from_ref(&key)), Ok((TEXT, &key)));
        let signing: SigningKey = SKEY.parse().unwrap();
        assert_eq!(signing.sign(TEXT), note);
        assert_eq!(signing.to_secret_text(), SKEY);
        assert_eq!(signing.verifying_key().to_string(), VKEY);
    }

    /// The example of C2SP "signed-note", whose key is not published: it is a note, by somebody unknown.
    #[test]
    fn the_specifications_example_is_a_note_by_somebody_unknown() {
        let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
                    \u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
        let other: VerifyingKey = VKEY.parse().unwrap();
        assert_eq!(open(note, &[other]), Err(NoteError::UnknownKey));
        assert_eq!(open(note, &[]), Err(NoteError::UnknownKey));
    }

    #[test]
    fn signatures_of_others_do_not_count_and_a_wrong_one_spoils_the_note() {
        let (ours, other) =
            (SigningKey::new("a/b", [1; 32]).unwrap(), SigningKey::new("a/b", [2; 32]).unwrap());
        let keys = [ours.verifying_key()];
        let (note, by_other) = (ours.sign(TEXT), other.sign(TEXT));
        let line = by_other.strip_prefix(TEXT).unwrap().trim_start_matches('\n');
        assert_eq!(open(&format!("{note}{line}"), &keys).unwrap().1, &keys[0]);
        let forged = format!("{note}{}", note.lines().last().unwrap().replace('A', "B"));
        assert!(open(&forged, &keys).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in
            ["", "a", "a+b", "a+00000000+", "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", SKEY]
        {
            assert_eq!(text.parse::<VerifyingKey>(), Err(NoteError::NotAKey), "{text}");
        }
        // Another name has another hash.
        assert_eq!(VKEY.replacen("Peter", "Paul", 1).parse::<VerifyingKey>(), Err(NoteError::NotAKey));
        assert!(VKEY.parse::<SigningKey>().is_err());
        assert!(SigningKey::new("a b", [1; 32]).is_err() && SigningKey::new("a+b", [1; 32]).is_err());
    }

    proptest! {
        #[test]
        fn every_changed_byte_of_a_note_is_noticed(at: prop::sample::Index, bit in 0..7_u32) {
            let key = SigningKey::new("ecs-groupd/test", [7; 32]).unwrap();
            let note = key.sign("ecs-groupd/test\n12\nAAAA\n").into_bytes();
            let mut changed = note.clone();
            changed[at.index(note.len())] ^= 1 << bit;
            let opened = String::from_utf8(changed).ok();
            let keys = [key.verifying_key()];
            prop_assert!(opened.is_none_or(|note| open(&note, &keys).is_err()));
        }
    }
}
