//! Which windows answer: those that were written, or longer ones that were made of them.

use std::time::Duration;

use common::time::Timestamp;

use crate::query::column::Grid;
use crate::query::function::Folds;
use crate::store::select::Grains;
use crate::store::select::Tiered;

/// Of what the ends of all ranges are multiples, and so which longer windows say the same of the series that they do say it
/// of: the moments that are looked at, the step between them, and the range.
///
/// An instant selector sees the last sample of its lookback, as if that was a range.
pub(super) fn grains(folds: Folds, (looked, range_ms): (Grid, i64), longest: Option<Duration>) -> Grains {
    let step = if looked.count == 1 { 0 } else { looked.step };
    let longest = longest.map(|longest| i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
    let grain = match longest {
        Some(0) => 0,
        longest => [step, range_ms].into_iter().chain(longest).fold(looked.start, common_divisor),
    };
    let grain = Duration::from_millis(grain.unsigned_abs());
    let of = |these: Folds| if folds == these || folds == Folds::All { grain } else { Duration::ZERO };
    Grains { gauges: of(Folds::Gauges), counters: of(Folds::Counters) }
}

/// The greatest one. Of zero everything is a divisor.
const fn common_divisor(left: i64, right: i64) -> i64 {
    let (mut left, mut right) = (left.saturating_abs(), right.saturating_abs());
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// How these are called that answer, as files of them are.
pub(super) fn shown(tiers: &[Tiered]) -> String {
    let name = |tier: &Tiered| match tier.resolution.map(|length| length.as_secs()) {
        None => "raw".to_owned(),
        Some(seconds) if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        Some(seconds) => format!("{}m", seconds / 60),
    };
    if tiers.is_empty() { "raw".to_owned() } else { tiers.iter().map(name).collect::<Vec<_>>().join(", ") }
}

/// How long the window of a stamp is, if it was made of others.
pub(super) fn resolution(tiers: &[Tiered], stamp: Timestamp) -> Option<Duration> {
    of(tiers, stamp).and_then(|tier| tier.resolution)
}

/// How many of a series' windows were made of others.
pub(super) fn coarse(stamps: &[Timestamp], tiers: &[Tiered]) -> usize {
    let made = tiers.iter().rfind(|tier| tier.resolution.is_some());
    made.map_or(0, |made| stamps.partition_point(|stamp| *stamp <= made.through))
}

/// Whether a window is the latest one that can be in a range that is shorter, of those that answer where it begins.
pub(super) fn covers(tiers: &[Tiered], stamp: Timestamp, (after, through): (i64, i64)) -> bool {
    let tier = of(tiers, stamp).filter(|tier| after < tier.through.as_millis());
    tier.and_then(|tier| tier.resolution).is_some_and(|length| through < stamp.after(length).as_millis())
}

fn of(tiers: &[Tiered], stamp: Timestamp) -> Option<&Tiered> {
    tiers.iter().find(|tier| stamp <= tier.through)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_answer_whose_length_divides_all_that_is_looked_at() {
        let check = |(start, step, count): (i64, i64, usize), range: i64, longest: Option<u64>, expect: u64| {
            let looked = Grid { start: start * 1_000, step: step * 1_000, count };
            let longest = longest.map(Duration::from_secs);
            let Grains { gauges, counters } = grains(Folds::Gauges, (looked, range * 1_000), longest);
            assert_eq!((gauges, counters), (Duration::from_secs(expect), Duration::ZERO), "{looked:?} {range}");
        };
        check((7_200, 3_600, 720), 3_600, None, 3_600);
        check((7_200, 3_600, 720), 300, None, 300);
        check((7_200, 3_600, 720), 7_200, None, 3_600);
        check((7_201, 3_600, 720), 3_600, None, 1);
        check((7_200, 60, 720), 3_600, None, 60);
        // One moment has no step.
        check((7_200, 60, 1), 3_600, None, 3_600);
        check((-7_200, 3_600, 2), 3_600, None, 3_600);
        check((7_200, 3_600, 720), 3_600, Some(300), 300);
        check((7_200, 3_600, 720), 3_600, Some(0), 0);
        let all = grains(Folds::All, (Grid::instant(600_000), 300_000), None);
        assert_eq!([all.gauges, all.counters], [Duration::from_secs(300); 2]);
        assert_eq!(grains(Folds::None, (Grid::instant(600_000), 300_000), None), Grains::default());
    }
}
