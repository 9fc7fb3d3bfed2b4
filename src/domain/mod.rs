//! What is true about ECS groups: ids, groups, commands, and the rules that decide them.
//!
//! Invariant: nothing here is async, knows SQL or HTTP, or reads a clock.

pub mod command;
pub mod excerpt;
pub mod group;
pub mod id;
pub mod page;
pub mod refusal;
pub mod rules;
pub mod server;
pub mod session;
pub mod time;
