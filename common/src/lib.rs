//! The language both sides speak: what the agent and the aggregator must agree on, and nothing else.
//!
//! Pure: no IO, no async but the clock's own sleep, no reading of clocks outside [`time`].

pub mod address;
pub mod backoff;
pub mod batch;
pub mod catalog;
pub mod config;
pub mod metric;
pub mod schema;
pub mod settings;
pub mod time;
pub mod trust;
pub mod window;
pub mod wire;
