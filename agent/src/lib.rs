//! The agent: samples one host, folds ticks into windows, ships batches.

pub mod collect;
pub mod config;
pub mod host;
pub mod identify;
pub mod once;
pub mod spool;
pub mod telemetry;
pub mod uplink;
pub mod window;
