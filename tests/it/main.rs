//! The integration tests: one binary, a file for each concern, a real socket for each test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::type_complexity,
    reason = "a test that cannot go on has failed, a failed one says where its database is, and cases stand in tables"
)]

mod access;
mod audit_loss;
mod authz;
mod backup;
mod bad_input;
mod batch;
mod checkpoint;
mod closed_doors;
mod conformance;
mod consistency;
mod coverage;
mod create;
mod cts;
mod durability;
mod errors;
mod full_disk;
mod harness;
mod idempotency;
mod identities;
mod inventory;
mod kill;
mod layering;
mod lifecycle;
mod links;
mod list;
mod log_builder;
mod log_lines;
mod login;
mod manners;
mod member;
mod nova;
mod one_batch;
mod openapi;
mod policy;
mod refusals;
mod reset;
mod retention;
mod rotation;
mod routes;
mod service;
mod settings;
mod show_and_delete;
mod signature;
mod stream;
mod tampering;
mod terraform;
mod verify;
