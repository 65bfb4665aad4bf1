//! The shape of a question to the store and of its answer.

use std::time::Duration;

use common::metric::{Kind, Labels};
use common::time::{TimeRange, Timestamp};

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

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Which series.
    pub matchers: &'a [Matcher],
    /// Of when.
    pub range: TimeRange,
    /// What of their windows.
    pub fields: &'a [Field],
    /// Whether of each series only the latest entry in the range counts: others may be left out.
    pub latest: bool,
    /// Which longer windows may answer in the place of those that were written.
    pub grains: Grains,
}

/// Of what all ends of the ranges that are looked at are multiples: windows whose length divides that may answer in the place
/// of shorter ones. None may if it is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grains {
    /// Of gauges.
    pub gauges: Duration,
    /// Of counters.
    pub counters: Duration,
}

/// The labels of a series, in the levels that they come from; what is nearer to the series stands first, and wins.
#[derive(Clone, Copy, Debug)]
pub struct Levels<'a>(pub &'a [Labels]);

impl<'a> Levels<'a> {
    /// Looks a value up; a missing label is an empty one.
    #[must_use]
    pub fn get(self, name: &str) -> &'a str {
        self.0.iter().map(|labels| labels.get(name)).find(|value| !value.is_empty()).unwrap_or("")
    }

    /// The names of all of them, some more than once.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.iter().flat_map(Labels::iter).map(|(name, _)| name)
    }

    /// All of them.
    #[must_use]
    pub fn whole(self) -> Labels {
        self.0.iter().rev().fold(Labels::new(), |whole, nearer| whole.and(nearer))
    }
}

/// One series of an answer. What is lent may be changed.
#[derive(Debug)]
pub struct Selected<'a> {
    /// All its labels, the name among them.
    pub labels: Levels<'a>,
    /// Gauge or counter.
    pub kind: Kind,
    /// Which windows answer, oldest first; all of them are as they were written if there is none.
    pub tiers: &'a [Tiered],
    /// At least one.
    pub samples: &'a mut Samples,
}

/// Of which windows the samples are that are behind those of the one before and not after a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiered {
    /// The stamp.
    pub through: Timestamp,
    /// The length of the windows, if they were made of others.
    pub resolution: Option<Duration>,
}

/// Samples of one series, in columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Ends of its windows, ascending.
    pub stamps: Vec<Timestamp>,
    /// For each field that was asked for, in that order: a value for each stamp.
    pub columns: Vec<Vec<f64>>,
}

impl Samples {
    /// None of so many columns.
    pub fn reset(&mut self, columns: usize) {
        self.stamps.clear();
        self.columns.resize_with(columns, Vec::new);
        self.columns.iter_mut().for_each(Vec::clear);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Leaves the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.stamps.truncate(len);
        self.columns.iter_mut().for_each(|column| column.truncate(len));
    }

    /// Takes some out.
    pub fn remove(&mut self, gone: std::ops::Range<usize>) {
        if !gone.is_empty() {
            drop(self.stamps.drain(gone.clone()));
            self.columns.iter_mut().for_each(|column| drop(column.drain(gone.clone())));
        }
    }

    /// Takes the staleness marks out.
    pub fn drop_stale(&mut self) {
        let Self { stamps, columns } = self;
        let is_stale = |at: usize| columns.iter().any(|column| column[at].to_bits() == STALE);
        // A mark is a NaN: those are looked for without a way out in the middle, and so many at a time. There mostly are none.
        let any_nan = |column: &[f64]| column.iter().fold(false, |any, value| any | value.is_nan());
        let is_mark = |value: &f64| value.to_bits() == STALE;
        if !columns.iter().any(|column| any_nan(column) && column.iter().any(is_mark)) {
            return;
        }
        let fresh: Vec<bool> = (0..stamps.len()).map(|at| !is_stale(at)).collect();
        let mut keep = fresh.iter();
        stamps.retain(|_| keep.next().is_some_and(|fresh| *fresh));
        for column in columns {
            let mut keep = fresh.iter();
            column.retain(|_| keep.next().is_some_and(|fresh| *fresh));
        }
    }
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
    /// It reaches into what the store has not read again since its start.
    #[error("the aggregator has started and reads its log: {read} of {of} rows; ask again, or about an earlier time")]
    Unread {
        /// Rows that have been read.
        read: u64,
        /// Rows that there are.
        of: u64,
    },
    /// What is stored cannot be read.
    #[error("the store cannot read: {0}")]
    Unreadable(String),
}
