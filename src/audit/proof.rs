//! Inclusion proofs (RFC 6962 §2.1.1): that a record is in the log that a checkpoint is of, without the log.
//!
//! The text is that of C2SP "tlog-proof", with the record's canonical bytes as its extra data.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};

use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::note::VerifyingKey;
use crate::audit::tree::{self, Edge, Hash};

/// What the text begins with.
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The longest path: a tree has no more levels than its size has bits.
const HASHES_MAX: usize = 64;

/// Builds the path of one leaf while the leaves go by, once.
#[derive(Debug)]
pub struct PathBuilder {
    /// The perfect subtrees so far, from the largest to the smallest, and whether the leaf is in it.
    subtrees: Vec<(Hash, bool)>,
    size: u64,
    index: u64,
    path: Vec<Hash>,
}

impl PathBuilder {
    /// For the leaf `index`, counted from 0, which is not yet behind `start`.
    #[must_use]
    pub fn new(start: &Edge, index: u64) -> Self {
        let subtrees = start.hashes().iter().map(|hash| (*hash, false)).collect();
        Self { subtrees, size: start.size(), index, path: Vec::new() }
    }

    /// The next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut right = (leaf, self.size == self.index);
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                right = self.join(left, right);
            }
        }
        self.subtrees.push(right);
        self.size += 1;
    }

    /// The root of what went by, and the path from the leaf to it; `None` when the leaf did not go by.
    #[must_use]
    pub fn finish(mut self) -> Option<(Hash, Vec<Hash>)> {
        let mut whole = self.subtrees.pop()?;
        while let Some(left) = self.subtrees.pop() {
            whole = self.join(left, whole);
        }
        whole.1.then_some((whole.0, self.path))
    }

    fn join(&mut self, left: (Hash, bool), right: (Hash, bool)) -> (Hash, bool) {
        if left.1 {
            self.path.push(right.0);
        } else if right.1 {
            self.path.push(left.0);
        }
        (tree::node(&left.0, &right.0), left.1 || right.1)
    }
}

/// The root that a leaf and its path lead to, as RFC 9162 §2.1.3.2 has it; `None` when the path is not of that index
/// and size.
#[must_use]
pub fn root_of(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for hash in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = tree::node(hash, &root);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            root = tree::node(&root, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// That a record is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The record's canonical bytes.
    pub bytes: Vec<u8>,
    /// Its leaf's index, counted from 0: one less than its `seq`.
    pub index: u64,
    /// From the leaf to the root.
    pub path: Vec<Hash>,
    /// The signed note of the checkpoint.
    pub note: String,
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not written as one.
    #[error("is no proof as C2SP tlog-proof has them, with a record in it")]
    NotAProof,
    /// The checkpoint in it is not taken.
    #[error("its checkpoint {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path leads elsewhere.
    #[error("does not lead to its checkpoint: the record, its place or a hash was changed")]
    ElsewhereLed,
}

impl Proof {
    /// Checks it against one of `keys`: the checkpoint that it leads to, and by whom.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check<'keys>(
        &self,
        keys: &'keys [VerifyingKey],
    ) -> Result<(Checkpoint, &'keys VerifyingKey), ProofError> {
        let (checkpoint, key) = Checkpoint::open(&self.note, keys)?;
        match root_of(tree::leaf(&self.bytes), self.index, checkpoint.size, &self.path) {
            Some(root) if root == checkpoint.root => Ok((checkpoint, key)),
            _ => Err(ProofError::ElsewhereLed),
        }
    }
}

/// The text of C2SP "tlog-proof".
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, index, path, note } = self;
        writeln!(f, "{FIRST_LINE}\nextra {}\nindex {index}", Base64::encode_string(bytes))?;
        for hash in path {
            writeln!(f, "{}", Base64::encode_string(hash))?;
        }
        write!(f, "\n{note}")
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        Self::parse(text).ok_or(ProofError::NotAProof)
    }
}

impl Proof {
    fn parse(text: &str) -> Option<Self> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        lines.next().filter(|line| *line == FIRST_LINE)?;
        let bytes = Base64::decode_vec(lines.next()?.strip_prefix("extra ")?).ok()?;
        let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
        let hash = |line| -> Option<Hash> { Base64::decode_vec(line).ok()?.try_into().ok() };
        let path = lines.map(hash).collect::<Option<Vec<Hash>>>()?;
        let proof = Self { bytes, index, path, note: note.to_owned() };
        // Exactly as it is written here: an index with a zero in front is no other proof.
        (proof.path.len() <= HASHES_MAX && proof.to_string() == text).then_some(proof)
    }
}

#[cfg(test)]
mod tests {
    use ct_merkle::InclusionProof;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use sha2::Sha256;

    use super::*;
    use crate::audit::note::SigningKey;

    fn bytes(number: u64) -> Vec<u8> {
        number.to_be_bytes().repeat(usize::try_from(number % 4).unwrap())
    }

    fn edge(size: u64) -> Edge {
        let mut edge = Edge::default();
        for number in 0..size {
            edge.push(tree::leaf(&bytes(number)));
        }
        edge
    }

    fn path(start: u64, index: u64, size: u64) -> (Hash, Vec<Hash>) {
        let mut builder = PathBuilder::new(&edge(start), index);
        for number in start..size {
            builder.push(tree::leaf(&bytes(number)));
        }
        builder.finish().unwrap()
    }

    #[test]
    fn every_path_up_to_130_leaves_agrees_with_another_implementation_wherever_the_log_begins() {
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        for size in 1..=130 {
            other.push(bytes(size - 1));
            let root = edge(size).root();
            assert_eq!(root[..], other.root().as_bytes()[..]);
            for index in 0..size {
                let (own_root, own) = path(0, index, size);
                assert_eq!(own_root, root);
                let theirs = other.prove_inclusion(usize::try_from(index).unwrap());
                assert_eq!(own.concat(), theirs.as_bytes(), "{index} of {size}");
                assert_eq!(root_of(tree::leaf(&bytes(index)), index, size, &own), Some(root));
                let parsed = InclusionProof::<Sha256>::try_from_bytes(own.concat()).unwrap();
                other.root().verify_inclusion(&bytes(index), index, &parsed).unwrap();
                for start in [index / 2, index] {
                    assert_eq!(
                        path(start, index, size),
                        (root, own.clone()),
                        "{index} of {size} from {start}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_path_is_good_for_no_other_index_size_or_length() {
        for size in 1..=40_u64 {
            for index in 0..size {
                let (root, own) = path(0, index, size);
                let leaf = tree::leaf(&bytes(index));
                for other in 0..=size + 1 {
                    let is_same = other == index;
                    assert_eq!(
                        root_of(leaf, other, size, &own) == Some(root),
                        is_same,
                        "{index}/{other}/{size}"
                    );
                }
                assert_eq!(root_of(leaf, index, size, &[&own[..], &[root]].concat()), None);
                if let Some((_, shorter)) = own.split_last() {
                    assert_ne!(root_of(leaf, index, size, shorter), Some(root));
                }
            }
        }
        assert_eq!(root_of([0; 32], 0, 0, &[]), None);
    }

    #[test]
    fn a_proof_reads_back_what_it_writes_and_any_change_to_it_is_noticed() {
        let key = SigningKey::new("ecs-groupd/test", [7; 32]).unwrap();
        let keys = [key.verifying_key()];
        let (root, path) = path(0, 4, 11);
        let checkpoint = Checkpoint { origin: "ecs-groupd/test".to_owned(), size: 11, root };
        let proof = Proof { bytes: bytes(4), index: 4, path, note: checkpoint.sign(&key) };
        // A record that is empty is written as such.
        assert_eq!(proof.to_string().lines().nth(1), Some("extra "));
        assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
        assert_eq!(proof.check(&keys), Ok((checkpoint, &keys[0])));
        let text = proof.to_string();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let is_good = changed.parse::<Proof>().is_ok_and(|proof| proof.check(&keys).is_ok());
            assert!(!is_good, "byte {at}");
        }
        let other = SigningKey::new("ecs-groupd/test", [8; 32]).unwrap().verifying_key();
        assert!(matches!(proof.check(&[other]), Err(ProofError::Checkpoint(_))));
    }
}
