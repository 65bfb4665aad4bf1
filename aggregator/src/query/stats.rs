//! What a query took: which series it selected, how many samples it touched, and how long each step lasted.

use std::time::Duration;

use crate::store::select::Is;
use crate::store::select::Matcher;

/// What a query took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What its selectors read, in the order of reading.
    pub selections: Vec<Selection>,
    /// Samples that it held, selected and calculated.
    pub samples_held: usize,
    /// Steps that were evaluated.
    pub steps: usize,
    /// Those of them that were answered as before.
    pub steps_cached: usize,
    /// How long all of it lasted.
    pub took: Duration,
}

impl Stats {
    /// Series that were selected, by each selector anew.
    #[must_use]
    pub fn series_selected(&self) -> usize {
        self.selections.iter().map(|selection| selection.series).sum()
    }

    /// Samples that were selected.
    #[must_use]
    pub fn samples_selected(&self) -> usize {
        self.selections.iter().map(|selection| selection.samples).sum()
    }
}

/// What one selector read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The selector.
    pub selector: String,
    /// Series that matched and had a sample.
    pub series: usize,
    /// Their samples.
    pub samples: usize,
    /// Which windows answered: `raw`, `5m`, `1h`, the oldest first.
    pub tiers: String,
    /// How long reading lasted, and what is made of each series as it comes.
    pub took: Duration,
}

/// Matchers as a selector.
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let shown = matchers.iter().map(|Matcher { name, is }| match is {
        Is::Equal(value) => format!("{name}={value:?}"),
        Is::NotEqual(value) => format!("{name}!={value:?}"),
        Is::Match(pattern) => format!("{name}=~{:?}", pattern.as_str()),
        Is::NoMatch(pattern) => format!("{name}!~{:?}", pattern.as_str()),
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}
