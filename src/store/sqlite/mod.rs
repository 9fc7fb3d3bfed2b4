//! The SQL, all of it: one statement a function, named for what it answers.

pub(super) mod audit;
pub(super) mod fault;
pub(super) mod group;
pub(super) mod log;
pub(super) mod once;
pub(super) mod open;
pub(super) mod server;
pub(super) mod session;
pub(super) mod trace;
