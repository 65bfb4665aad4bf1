//! The agent's own log: one line an event, on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// Writes events of INFO and above to standard error, each with its time (UTC), like the aggregator's.
pub fn start() {
    fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        // Telling standard error that standard error is full would be the end of the agent.
        .log_internal_errors(false)
        .init();
}
