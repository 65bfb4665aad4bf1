//! What others wrote, judged: samples that can be stored, and a count of those that cannot.

use std::collections::BTreeMap;
use std::fmt;

use common::metric::Labels;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::receive::labels;
use crate::store::commit::Written;

/// Whose series, and which stamps are taken.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Labels that all series get that have no label of that name.
    pub labels: Labels,
    /// Stamps that can be stored.
    pub range: TimeRange,
}

impl Terms {
    /// Why a sample with this stamp is not taken, if it is not.
    #[must_use]
    pub fn refuse(&self, at: Timestamp) -> Option<Reason> {
        if self.range.through < at {
            Some(Reason::Future)
        } else if at <= self.range.after {
            Some(Reason::Old)
        } else {
            None
        }
    }
}

/// What a message holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// What can be stored.
    pub series: Vec<Written>,
    /// Samples in it.
    pub samples: u64,
    /// Samples and histograms that cannot be stored, by reason.
    pub refused: Refused,
}

impl Received {
    /// Takes what can be stored of a series, and counts what cannot.
    pub fn push(&mut self, Written { labels, mut samples }: Written, terms: &Terms) {
        let Self { series, samples: count, refused } = self;
        samples.retain(|(at, _)| {
            let reason = terms.refuse(*at);
            reason.into_iter().for_each(|reason| refused.push(reason, 1, || labels::example(&labels, *at)));
            reason.is_none()
        });
        if !samples.is_empty() {
            *count += samples.len() as u64;
            series.push(Written { labels, samples });
        }
    }
}

/// Why a sample cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its series has labels that no series may have.
    Labels,
    /// It is from the future.
    Future,
    /// It is older than what is kept.
    Old,
    /// It is a native histogram.
    Histogram,
    /// There is no room for its series.
    Limit,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Labels, Self::Future, Self::Old, Self::Histogram, Self::Limit];

    /// In one word, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Future => "future",
            Self::Old => "old",
            Self::Histogram => "histogram",
            Self::Limit => "limit",
        }
    }
}

/// Samples that cannot be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    counts: BTreeMap<Reason, u64>,
    /// One of them.
    example: Option<String>,
}

impl Refused {
    /// How many.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many for each reason.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Adds those of another batch.
    pub fn add(&mut self, other: Self) {
        for (reason, count) in other.counts {
            self.push(reason, count, || other.example.clone().unwrap_or_default());
        }
    }

    /// Adds some.
    pub fn push(&mut self, reason: Reason, count: u64, example: impl FnOnce() -> String) {
        if 0 < count {
            *self.counts.entry(reason).or_default() += count;
            self.example.get_or_insert_with(example);
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |(reason, count): (&Reason, &u64)| match reason {
            Reason::Labels => format!("{count} have labels that no series may have"),
            Reason::Future => format!("{count} are from the future"),
            Reason::Old => format!("{count} are older than what is kept"),
            Reason::Histogram => format!("{count} are native histograms, which are not stored"),
            Reason::Limit => format!("{count} are of series for which there is no room"),
        };
        let reasons: Vec<String> = self.counts.iter().map(reason).collect();
        f.write_str(&reasons.join(", "))?;
        self.example.as_ref().map_or(Ok(()), |example| write!(f, "; for example {example}"))
    }
}
