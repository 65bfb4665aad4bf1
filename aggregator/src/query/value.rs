//! What a query answers.

use common::metric::Labels;
use common::time::Timestamp;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(f64),
    /// One text.
    String(String),
    /// A sample for each series, in the order that `sort` or `topk` asked for.
    Vector(Vec<(Labels, Timestamp, f64)>),
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
}
