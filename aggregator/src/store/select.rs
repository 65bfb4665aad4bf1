//! The shape of a question to the store and of its answer.

use common::metric::{Kind, Labels};
use common::time::Timestamp;

/// One condition on a label. A missing label is an empty one.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Label name; `__name__` is the metric's.
    pub name: String,
    /// What its value must be.
    pub is: Is,
}

/// What a label's value must be.
#[derive(Clone, Debug)]
pub enum Is {
    /// Equal.
    Equal(String),
    /// Not equal.
    NotEqual(String),
    /// Matched as a whole.
    Match(regex::Regex),
    /// Not matched as a whole.
    NoMatch(regex::Regex),
}

impl Matcher {
    /// Whether a series with this value of the label is meant.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match &self.is {
            Is::Equal(wanted) => value == wanted,
            Is::NotEqual(unwanted) => value != unwanted,
            Is::Match(pattern) => pattern.is_match(value),
            Is::NoMatch(pattern) => !pattern.is_match(value),
        }
    }
}

/// One field of a window. Fields that a kind does not have read `Last`, but for `Count`, which all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Value at the window's end. A staleness mark is the NaN [`STALE`].
    Last,
    /// Smallest value inside.
    Min,
    /// Largest value inside.
    Max,
    /// Sum of the values inside.
    Sum,
    /// Number of values inside.
    Count,
    /// Growth, resets bridged.
    Increase,
    /// Fastest growth per second; NaN where the column keeps none.
    Peak,
}

/// Asked at each series that a lookup comes to, with the number of answers that it holds more; an error ends the lookup.
pub type Spend<'a, E> = &'a dyn Fn(usize) -> Result<(), E>;

/// The bits of the NaN that says that a series ended, as in Prometheus.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// One series of an answer, in columns.
#[derive(Clone, Debug)]
pub struct Selected {
    /// All its labels, the name among them.
    pub labels: Labels,
    /// Gauge or counter.
    pub kind: Kind,
    /// Ends of its windows, ascending.
    pub stamps: Vec<Timestamp>,
    /// For each field that was asked for, in that order: a value for each stamp.
    pub columns: Vec<Vec<f64>>,
}

/// Why a selection was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The answer would hold more samples than a query may.
    #[error(
        "the query selects more than {limit} samples: narrow its labels or its range, or raise [query] samples_max"
    )]
    TooManySamples {
        /// The limit.
        limit: usize,
    },
    /// What is stored cannot be read.
    #[error("the store cannot read: {0}")]
    Unreadable(String),
}
