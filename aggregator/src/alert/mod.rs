//! Alert rules and their state.

pub mod active;
pub mod duration;
pub mod evaluator;
pub mod files;
pub mod fingerprint;
pub mod rule;
pub mod seen;
pub mod snapshot;
pub mod state;
pub mod template;
mod written;
