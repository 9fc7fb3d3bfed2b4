//! The integration tests: one binary, a file for each concern, a real socket for each test.

mod access;
mod bad_input;
mod batch;
mod configuration;
mod consistency;
mod create;
mod errors;
mod full_disk;
mod harness;
mod kill;
mod layering;
mod list;
mod log_lines;
mod one_batch;
mod routes;
mod service;
mod show_and_delete;
