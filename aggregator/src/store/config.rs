//! How to keep.

use std::time::Duration;

use crate::store::Retention;
use crate::store::room::Limits;

/// Samples of what is sealed that wait in memory: a backlog of a day of ten hosts is ten times as many, and each further file
/// of a day is one more to be read until the day is merged. They take about 40 MB.
const LATE_MAX: u64 = 16_000_000;

/// How to keep.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Longest time between two group commits: 200 ms keeps up with 10,000 agents; 10 s spares a memory card.
    pub commit_interval: Duration,
    /// How long samples are kept.
    pub retention: Retention,
    /// How often it is looked whether something is to be sealed, merged or removed; nothing is if that is never.
    pub settle_every: Option<Duration>,
    /// Samples of what is sealed that wait in memory for the next quarter of an hour to be; more are sealed at once.
    pub late_max: u64,
    /// Entries that are read at once of some series of one host.
    pub samples_max: usize,
    /// How many series there may be at once.
    pub limits: Limits,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(200),
            retention: Retention::default(),
            settle_every: Some(Duration::from_secs(1)),
            late_max: LATE_MAX,
            samples_max: 50_000_000,
            limits: Limits::default(),
        }
    }
}
