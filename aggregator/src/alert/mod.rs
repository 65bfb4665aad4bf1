//! Alert rules and their state.

pub mod duration;
pub mod fingerprint;
pub mod snapshot;
pub mod state;
pub mod template;
