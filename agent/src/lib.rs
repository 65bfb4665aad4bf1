//! The agent: samples one host, folds ticks into windows, ships batches.

pub mod collect;
pub mod host;
pub mod identify;
pub mod spool;
pub mod uplink;
pub mod window;
