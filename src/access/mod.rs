//! Who asks, and may they.
//!
//! Invariant: pure over its inputs; the only maker of a `policy::Permit`.

pub mod action;
mod glob;
pub mod policy;
pub mod principal;
pub mod signature;
pub mod token;
