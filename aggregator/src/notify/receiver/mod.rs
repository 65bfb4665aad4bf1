//! Those who are told. One receiver a file.

pub mod client;
pub mod webhook;

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Trying again later is right.
    #[error("{0}")]
    Passing(String),
    /// The receiver does not want it like this: it is tried again when the group is looked at next.
    #[error("{0}")]
    Lasting(String),
}
