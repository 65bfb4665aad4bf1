//! Why a query was not answered, in the words and the classes of Prometheus.

use std::time::Duration;

use crate::store::select::SelectError;

/// Why a query was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The query itself is wrong: its text, its types, its range or its step.
    #[error("{0}")]
    BadData(String),
    /// The query is right, but what it found has no answer: many-to-many matching, say, or too many samples.
    #[error("{0}")]
    Execution(String),
    /// The deadline passed.
    #[error("the query took longer than {deadline:?}: narrow its labels or its range, or raise [query] deadline")]
    Timeout {
        /// How long it might have taken.
        deadline: Duration,
    },
    /// Too many queries wait.
    #[error("too many queries wait for their turn: ask again when there are fewer")]
    Busy,
    /// The store has not read all of its log again.
    #[error("{0}")]
    Unread(String),
    /// Nobody waits for the answer any more.
    #[error("the query was canceled")]
    Canceled,
}

impl QueryError {
    /// The `errorType` that Prometheus' API gives.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::BadData(_) => "bad_data",
            Self::Execution(_) => "execution",
            Self::Timeout { .. } => "timeout",
            Self::Busy | Self::Unread(_) => "unavailable",
            Self::Canceled => "canceled",
        }
    }

    pub(super) fn bad(what: impl Into<String>) -> Self {
        Self::BadData(what.into())
    }

    pub(super) fn execution(what: impl Into<String>) -> Self {
        Self::Execution(what.into())
    }
}

impl From<SelectError> for QueryError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Unread { .. } => Self::Unread(error.to_string()),
            SelectError::TooManySamples { .. } | SelectError::Unreadable(_) => Self::Execution(error.to_string()),
        }
    }
}
