//! `ecs-groupd`: a persistent, auditable stand-in for Huawei Cloud's ECS group API.
//!
//! The modules stand in layer order: **a module may use only the modules listed above it**
//! (`tests/it/layering.rs` reads this file and fails on an import that goes up).
//!
//! 1. Everything that can change is a [`domain::command::Command`]; one writer task applies it.
//! 2. `domain` decides, `access` permits, `audit` records, `store` remembers, `api` speaks. The first three are pure.
//! 3. No write without a [`access::policy::Permit`]; no change without an audit record; no answer before the commit.
//! 4. A module may use only the modules listed above it.
//! 5. Each foreign dialect is one translating file in `api/`; nothing inward knows it exists.

/// What is true: groups, names, limits and the one function that decides. No async, no SQL, no HTTP, no clock.
pub mod domain;
/// Who asks, and may they: principals, tokens, actions, and the only maker of a `Permit`. Pure.
pub mod access;
/// What happened: the record, its canonical bytes and the RFC 6962 tree over them. Pure.
pub mod audit;
/// Where time and chance come from; both can be fixed in a test.
pub mod clock;
/// The accounts the service knows, in `access`'s types.
pub mod identities;
/// The counters that `store` and `api` feed.
pub mod meter;
/// The only place that knows SQL: reads, and the one writer.
pub mod store;
/// The dialects: bounded bodies, callers, routes, handlers and the one error table.
pub mod api;
/// The admin listener.
pub mod control;
/// Typed settings from defaults, a file, the environment and flags.
pub mod settings;
/// One subscriber: human lines on a terminal, JSON elsewhere.
pub mod telemetry;
/// The only wiring: settings, store, routes, listeners; `build()` then `run()`.
pub mod server;
/// The offline verbs.
pub mod ops;
/// Arguments and exit codes.
pub mod cli;
