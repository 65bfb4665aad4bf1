//! What a query answers.

use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;

use crate::query::annotation::Annotations;
use crate::query::budget::Held;
use crate::query::stats::Stats;

/// When to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// At one moment.
    At(Timestamp),
    /// At each step.
    Range {
        /// The first.
        start: Timestamp,
        /// None is after it.
        end: Timestamp,
        /// Between two.
        step: Duration,
    },
}

/// The answer, and what is to be said beside it.
#[derive(Debug)]
pub struct Reply {
    /// What the query answers.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it took.
    pub stats: Stats,
    /// What it holds of what all queries together may.
    pub held: Held,
}

/// A series, a moment, and its value there.
pub type Sample = (Labels, Timestamp, f64);

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(f64),
    /// One text.
    String(String),
    /// A sample for each series, in the order that `sort` or `topk` asked for.
    Vector(Vec<Sample>),
    /// Samples for each series, sorted by labels, oldest first.
    Matrix(Vec<(Labels, Vec<(Timestamp, f64)>)>),
}

impl Value {
    /// The `resultType` that Prometheus' API gives.
    #[must_use]
    pub const fn result_type(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "scalar",
            Self::String(..) => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }

    /// How many samples it has.
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Scalar(_) | Self::String(_) => 1,
            Self::Vector(samples) => samples.len(),
            Self::Matrix(series) => series.iter().map(|(_, samples)| samples.len()).sum(),
        }
    }
}
