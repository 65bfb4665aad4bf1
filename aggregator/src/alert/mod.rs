//! Alert rules and their state.
