//! The only reader of the host.
