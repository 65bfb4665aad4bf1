//! The aggregator's own log, on standard error.

use std::io;
use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log. Libraries speak up only when something is wrong.
pub fn start() {
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("aggregator", LevelFilter::INFO)
        .with_target("lapwing_aggregator", LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Telling standard error that standard error is full would be the end of a thread.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
}
