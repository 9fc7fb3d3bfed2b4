//! One subscriber, on standard error: human lines on a terminal, JSON elsewhere.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{Log, LogFormat, LogLevel};

/// Starts logging. A second call in one process changes nothing.
pub fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let is_terminal = io::stderr().is_terminal();
    let is_human = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // The framework tells how it starts its threads, which is nobody's business at "info".
    let filter = Targets::new()
        .with_default(level)
        .with_target("actix_server", level.min(LevelFilter::WARN))
        .with_target("actix_http", level.min(LevelFilter::WARN));
    // A log that cannot be written is no reason to stop, and standard error is no place to say so.
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    let started = if is_human {
        lines.with_ansi(is_terminal).finish().with(filter).try_init()
    } else {
        lines.json().flatten_event(true).with_span_list(false).finish().with(filter).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
