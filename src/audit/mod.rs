//! What happened, so that it cannot be changed unseen: records, their canonical bytes, and the tree over them.
//!
//! Invariant: pure; a record is encoded once, by the writer, and never re-serialised after that.

pub mod checkpoint;
pub mod encode;
pub mod event;
pub mod note;
pub mod proof;
pub mod record;
pub mod replay;
pub mod segment;
pub mod tree;
pub mod verify;
