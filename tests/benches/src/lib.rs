//! What the benchmarks share: servers to compare, the series that they are given, and how they are given them.

pub mod fill;
pub mod made;
pub mod peer;
pub mod process;
pub mod recorded;
pub mod synthetic;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// A number among the arguments, or what stands for it where it is not given.
///
/// # Errors
/// When it is none.
pub fn number(argument: Option<String>, default: i64) -> anyhow::Result<i64> {
    argument.map_or(Ok(default), |text| text.parse().with_context(|| format!("{text} is no number")))
}

/// The aggregator that cargo has built beside this program.
///
/// # Errors
/// When this program has no place.
pub fn program() -> anyhow::Result<PathBuf> {
    let me = env::current_exe()?;
    let release = me.parent().context("no place for programs")?;
    Ok(release.join("lapwing-aggregator"))
}

/// A time in milliseconds.
#[must_use]
pub const fn millis(time: Duration) -> f64 {
    1_000.0 * time.as_secs_f64()
}

/// The middle and the 99th of a hundred.
#[must_use]
pub fn percentiles(mut took: Vec<Duration>) -> [Duration; 2] {
    took.sort_unstable();
    [50, 99].map(|share| took.get(took.len().saturating_sub(1) * share / 100).copied().unwrap_or_default())
}
