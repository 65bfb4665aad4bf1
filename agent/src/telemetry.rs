//! The agent's own log: one line an event, on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// Writes events of INFO and above to standard error. Journals and container runtimes add the time themselves.
pub fn start() {
    fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
}
