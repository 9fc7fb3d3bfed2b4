//! The integration tests: one binary, a file for each concern, a real socket for each test.

mod create;
mod harness;
