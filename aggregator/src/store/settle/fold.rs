//! Coarser windows of a series: each stretch of time merged into one, by the algebra that the agent folds with.

use std::time::Duration;

use common::time::Timestamp;
use common::window::Window;

use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::meant;

/// Windows of a resolution made of finer ones, which ascend.
///
/// One is stamped with the end of its stretch. A mark stays where it is and is never folded: the windows of the stretch
/// before it are stamped as the last of them, so that the mark is behind them, and those after it are a window of their own.
pub(super) fn fold(shape: Shape, entries: &[Entry], resolution: Duration) -> Vec<Entry> {
    // A sum of what has two digits has two, though that of the floats has more.
    let decimals = meant(shape, entries);
    let mut folded: Vec<Entry> = Vec::new();
    let mut open: Option<(Timestamp, Entry)> = None;
    for entry in entries {
        let end = entry.stamp.align_up(resolution);
        let same = open.take_if(|(until, _)| *until == end);
        folded.extend(open.take().map(|(until, of)| Entry { stamp: until, ..of }));
        match (same, entry.window) {
            (before, None) => folded.extend(before.map(|(_, of)| of).into_iter().chain([*entry])),
            (before, Some(window)) => {
                let earlier = before.and_then(|(_, of)| of.window);
                let window = earlier.map_or(window, |earlier: Window| earlier.merge(window, decimals));
                open = Some((end, Entry { stamp: entry.stamp, window: Some(window) }));
            }
        }
    }
    folded.extend(open.map(|(until, of)| Entry { stamp: until, ..of }));
    folded
}

#[cfg(test)]
mod tests {
    use common::metric::{Decimals, Kind};
    use common::window::Gauge;

    use super::*;

    /// Windows of a gauge with these values at these seconds, `!` for a mark; the folded ones with count, sum and last.
    fn check(entries: &str, expect: &str) {
        let shape = Shape { kind: Kind::Gauge, decimals: Decimals::new(0), peak: false };
        let entry = |text: &str| {
            let (value, second) = text.split_once('@').unwrap();
            let window = value.parse().ok().map(|value| Window::Gauge(Gauge::of(value)));
            Entry { stamp: Timestamp::from_seconds(second.parse().unwrap()), window }
        };
        let entries: Vec<Entry> = entries.split_whitespace().map(entry).collect();
        let shown = |entry: &Entry| match entry.window {
            Some(Window::Gauge(Gauge { count, sum, last, .. })) => {
                format!("{count}:{sum}:{last}@{}", entry.stamp.as_millis() / 1_000)
            }
            _ => format!("!@{}", entry.stamp.as_millis() / 1_000),
        };
        let folded = fold(shape, &entries, Duration::from_secs(300));
        assert_eq!(folded.iter().map(shown).collect::<Vec<_>>().join(" "), expect);
    }

    #[test]
    fn a_window_covers_what_is_after_its_begin_through_its_end() {
        check("", "");
        check("1@10 2@20 3@300 4@310", "3:6:3@300 1:4:4@600");
        check("1@300 2@900", "1:1:1@300 1:2:2@900");
        check("1@0 2@10", "1:1:1@0 1:2:2@300");
    }

    #[test]
    fn a_sum_has_the_digits_of_what_it_is_made_of() {
        let shape = Shape::WRITTEN;
        let sums = |values: &[f64]| {
            let entry = |(second, value): (i64, &f64)| Entry {
                stamp: Timestamp::from_seconds(second),
                window: Some(Window::Gauge(Gauge::of(*value))),
            };
            let entries: Vec<Entry> = (1..).zip(values).map(entry).collect();
            let folded = fold(shape, &entries, Duration::from_secs(300)).into_iter().filter_map(|entry| entry.window);
            let sum = |window| if let Window::Gauge(Gauge { sum, .. }) = window { sum } else { f64::NAN };
            folded.map(sum).collect::<Vec<f64>>()
        };
        assert_eq!(sums(&[0.1, 0.2]), [0.3]);
        assert_eq!(sums(&[0.1, 0.2, 1.0 / 3.0]), [0.1 + 0.2 + 1.0 / 3.0]);
    }

    #[test]
    fn a_mark_is_not_folded_and_stays_behind_what_it_ends() {
        check("1@10 2@20 !@30", "2:3:2@20 !@30");
        check("1@10 2@20 !@30 3@40 4@50", "2:3:2@20 !@30 2:7:4@300");
        check("!@10 1@20", "!@10 1:1:1@300");
        check("1@300 !@310", "1:1:1@300 !@310");
        check("1@290 !@300 2@310", "1:1:1@290 !@300 1:2:2@600");
        check("!@10 !@20", "!@10 !@20");
    }
}
