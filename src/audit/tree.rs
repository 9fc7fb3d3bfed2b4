//! The Merkle tree over the records (RFC 6962 §2.1): its leaves, its nodes and its right edge.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash: of a leaf, a node or the whole tree.
pub type Hash = [u8; 32];

/// The leaf of a record: `SHA-256(0x00 ‖ bytes)`.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// A node: `SHA-256(0x01 ‖ left ‖ right)`.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The right edge of the tree: what must be kept to add a leaf and to tell the root.
///
/// It holds one hash for each perfect subtree, from the largest to the smallest: one for each bit that is set in
/// `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    hashes: Vec<Hash>,
}

/// A size and hashes that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an edge of size {size} has {expected} hashes, this one has {found} bytes")]
pub struct EdgeError {
    size: u64,
    expected: u32,
    found: usize,
}

impl Edge {
    /// Reads an edge as the database keeps it: the size, and the hashes one after the other.
    ///
    /// # Errors
    /// When there are not as many hashes as bits set in `size`.
    pub fn from_parts(size: u64, bytes: &[u8]) -> Result<Self, EdgeError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() && hashes.len() == size.count_ones() as usize {
            return Ok(Self { size, hashes: hashes.to_vec() });
        }
        Err(EdgeError { size, expected: size.count_ones(), found: bytes.len() })
    }

    /// An edge of this size over nothing, for counting on where a tree is broken.
    pub(crate) fn placeholder(size: u64) -> Self {
        Self { size, hashes: vec![Hash::default(); size.count_ones() as usize] }
    }

    /// The hashes one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// The hashes, from the largest subtree's to the smallest's.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// How many leaves the tree has; also the `seq` of the newest record.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Every trailing one-bit of the size is a perfect subtree that the new leaf completes into a larger one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root: the hash of everything so far. Of nothing, `SHA-256("")`.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.hashes
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(|| Sha256::digest([]).into())
    }
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_root_up_to_300_leaves_agrees_with_another_implementation() {
        let mut edge = Edge::default();
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        assert_eq!(edge.root()[..], other.root().as_bytes()[..]);
        for number in 0..300_u32 {
            let bytes = number.to_be_bytes().repeat(number as usize % 5);
            edge.push(leaf(&bytes));
            other.push(bytes);
            assert_eq!(edge.root()[..], other.root().as_bytes()[..], "with {} leaves", number + 1);
            assert_eq!(edge.size(), u64::from(number) + 1);
        }
    }

    proptest! {
        #[test]
        fn an_edge_reads_back_what_it_writes(leaves in prop::collection::vec(any::<Hash>(), 0..70)) {
            let mut edge = Edge::default();
            for leaf in leaves {
                edge.push(leaf);
            }
            prop_assert_eq!(Edge::from_parts(edge.size(), &edge.to_bytes()), Ok(edge.clone()));
            prop_assert!(Edge::from_parts(edge.size(), &[edge.to_bytes(), vec![0]].concat()).is_err());
            prop_assert!(Edge::from_parts(edge.size(), &[edge.to_bytes(), vec![0; 32]].concat()).is_err());
        }
    }
}
