//! Ticks into closed, aligned windows, and the time they are stamped with. Pure.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::batch::Batch;
use common::batch::WINDOW;
use common::metric::Decimals;
use common::metric::Kind;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::window::Counter;
use common::window::Gauge;
use common::window::Window;

use crate::collect::Samples;

/// The time of stamps: the boot clock, set to the aggregator's time once a session. Steps and skew of the host's own
/// clock do not move it. Handles share one offset: the uplink sets it, the sampler reads it.
#[derive(Clone, Debug)]
pub struct Stamps(Arc<AtomicI64>);

impl Stamps {
    /// Stamps by which it was `wall` when the boot clock stood at `boot`. Before first contact that is the host's wall clock
    /// when the agent started.
    #[must_use]
    pub fn new(wall: Timestamp, boot: Duration) -> Self {
        Self(Arc::new(AtomicI64::new(offset(wall, boot))))
    }

    /// The stamp of a moment of the boot clock.
    #[must_use]
    pub fn at(&self, boot: Duration) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed)).after(boot)
    }

    /// Sets the aggregator's time, which it read between two moments of the boot clock: when it was asked and when it
    /// answered. Stamps that agree with that stay as they are, so that how long a message travels moves nothing. Returns
    /// by how many milliseconds they move.
    pub fn set(&self, aggregator: Timestamp, asked: Duration, answered: Duration) -> i64 {
        let (latest, earliest) = (offset(aggregator, asked), offset(aggregator, answered));
        let before = self.0.load(Ordering::Relaxed);
        if (earliest..=latest).contains(&before) {
            return 0;
        }
        let middle = earliest.midpoint(latest);
        self.0.store(middle, Ordering::Relaxed);
        middle.saturating_sub(before)
    }
}

fn offset(wall: Timestamp, boot: Duration) -> i64 {
    wall.before(boot).as_millis()
}

/// The longest that stamps stand still to let a clock that was ahead be caught up with. A clock that was further ahead
/// than this was wrong, and its stamps are worth less than an hour of new ones.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(3_600);

/// Two ticks closer than this are one that was late and one in time: what a kernel counter with its own clock moved
/// meanwhile is no rate.
const RATE_LEAST: Duration = Duration::from_millis(500);

/// Folds ticks into the open window of each series.
///
/// A window stamped t covers (t − 10 s, t]: a tick at exactly t belongs to it.
#[derive(Debug, Default)]
pub struct Windower {
    slots: Vec<Slot>,
    /// What was folded since the window opened, of the series that had a value.
    folded: Vec<(SeriesIndex, Window)>,
    open: Option<Timestamp>,
    /// The latest window that was closed: no stamp comes twice.
    closed: Option<Timestamp>,
    skipped: Option<Timestamp>,
    skipped_total: u64,
}

/// One series. Small: those that ended have a place until the run does.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Value and moment (monotonic) of the latest tick that was folded.
    previous: Option<(f64, Duration)>,
    /// Where its window stands among those folded, if it stands there.
    place: u32,
}

impl Windower {
    /// Closes the open window if a tick at `stamp` does not belong to it. Called before the tick is collected, so that
    /// a closed window does not wait for it.
    pub fn advance(&mut self, stamp: Timestamp) -> Option<Batch> {
        let open = self.open?;
        (stamp.align_up(WINDOW) != open).then(|| self.close(open))
    }

    /// Whether a tick at `stamp` is the first of its window.
    #[must_use]
    pub fn begins(&self, stamp: Timestamp) -> bool {
        self.open != Some(stamp.align_up(WINDOW))
    }

    /// Folds a tick. `now` is the monotonic clock: a late tick is one longer interval, never two spikes.
    ///
    /// Returns the window if the tick stands on its very end, because nothing can follow in it.
    pub fn fold(&mut self, samples: &Samples, stamp: Timestamp, now: Duration) -> Option<Batch> {
        let window = stamp.align_up(WINDOW);
        if self.is_behind(window) {
            self.skip(window);
            return None;
        }
        self.open = Some(window);
        for &(series, value) in samples.values() {
            if let Some((kind, decimals)) = samples.meaning(series) {
                self.fold_value(series, value, now, (kind, decimals));
            }
        }
        (stamp == window).then(|| self.close(window))
    }

    /// Begins a run whose series stood at these places in the one before: what they were at the latest tick is not lost.
    /// No window is open then.
    pub fn renew(&mut self, stood: &[SeriesIndex]) {
        let before = std::mem::take(&mut self.slots);
        self.slots = stood.iter().map(|series| before.get(series.0 as usize).copied().unwrap_or_default()).collect();
    }

    /// Windows that were not written because the clock was set back.
    #[must_use]
    pub const fn skipped_total(&self) -> u64 {
        self.skipped_total
    }

    /// Whether a window of this stamp or a later one was closed already, and it is worth waiting until stamps pass it.
    fn is_behind(&self, window: Timestamp) -> bool {
        self.closed.is_some_and(|closed| window <= closed && closed.since(window) < CATCH_UP_MAX)
    }

    /// What a skipped window's ticks counted is not lost: the next window's growth starts where the last one ended.
    fn skip(&mut self, window: Timestamp) {
        self.open = None;
        if self.skipped != Some(window) {
            self.skipped = Some(window);
            self.skipped_total += 1;
        }
    }

    fn fold_value(&mut self, series: SeriesIndex, value: f64, now: Duration, meaning: (Kind, Decimals)) {
        let at = series.0 as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, Slot::default());
        }
        let slot = &mut self.slots[at];
        let tick = slot.window_of(value, now, meaning);
        match self.folded.get_mut(slot.place as usize).filter(|(of, _)| *of == series) {
            Some((_, window)) => *window = window.merge(tick, meaning.1),
            None => {
                slot.place = u32::try_from(self.folded.len()).unwrap_or(u32::MAX);
                self.folded.push((series, tick));
            }
        }
    }

    fn close(&mut self, stamp: Timestamp) -> Batch {
        self.open = None;
        self.closed = Some(stamp);
        let following = Vec::with_capacity(self.folded.len());
        let mut samples = std::mem::replace(&mut self.folded, following);
        samples.sort_unstable_by_key(|(series, _)| *series);
        Batch { stamp, samples, ..Batch::default() }
    }
}

impl Slot {
    /// The window of one tick.
    fn window_of(&mut self, value: f64, now: Duration, (kind, decimals): (Kind, Decimals)) -> Window {
        match (kind, self.previous.replace((value, now))) {
            (Kind::Gauge, _) => Window::Gauge(Gauge::of(value)),
            (Kind::Counter, None) => Window::Counter(Counter::first(value)),
            (Kind::Counter, Some((previous, at))) => {
                let elapsed = now.saturating_sub(at);
                let counter = Counter::of(previous, value, elapsed, decimals);
                Window::Counter(if elapsed < RATE_LEAST { Counter { peak: 0.0, ..counter } } else { counter })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::catalog::Metric;
    use common::catalog::metric;
    use common::metric::Labels;
    use proptest::prelude::*;

    use super::*;
    use crate::collect::HOST;
    use crate::collect::SeriesKey;

    const GAUGE: &Metric = metric("node_load1");
    const COUNTER: &Metric = metric("node_cpu_seconds_total");

    /// One series, folded tick by tick: (stamp in ms, value).
    struct Bench {
        samples: Samples,
        series: SeriesKey,
        windower: Windower,
    }

    impl Bench {
        fn new(metric: &'static Metric) -> Self {
            let mut samples = Samples::default();
            let series = samples.series(HOST, metric, &Labels::new());
            Self { samples, series, windower: Windower::default() }
        }

        fn tick(&mut self, stamp: i64, now: i64, value: Option<f64>) -> Vec<Batch> {
            let stamp = Timestamp::from_millis(stamp);
            let now = Duration::from_millis(u64::try_from(now).unwrap());
            let mut batches = Vec::from_iter(self.windower.advance(stamp));
            self.samples.begin_tick();
            if let Some(value) = value {
                self.samples.put(self.series, value);
            }
            batches.extend(self.windower.fold(&self.samples, stamp, now));
            batches
        }

        fn run(&mut self, ticks: &[(i64, f64)]) -> Vec<Batch> {
            ticks.iter().flat_map(|&(stamp, value)| self.tick(stamp, stamp, Some(value))).collect()
        }
    }

    fn counter(count: u32, last: f64, increase: f64, peak: f64) -> Window {
        Window::Counter(Counter { count, last, increase, peak })
    }

    fn gauge(count: u32, (min, max): (f64, f64), sum: f64, last: f64) -> Window {
        Window::Gauge(Gauge { count, min, max, sum, last })
    }

    fn check(metric: &'static Metric, ticks: &[(i64, f64)], expect: &[(i64, Window)]) {
        let closed: Vec<_> = Bench::new(metric)
            .run(ticks)
            .iter()
            .flat_map(|batch| batch.samples.iter().map(|(_, window)| (batch.stamp.as_millis(), *window)))
            .collect();
        assert_eq!(closed, expect, "{ticks:?}");
    }

    #[test]
    fn windows_are_left_open() {
        let ticks = [(9_999, 1.0), (10_000, 2.0), (10_001, 3.0), (20_000, 4.0), (20_001, 5.0)];
        let expect = [(10_000, gauge(2, (1.0, 2.0), 3.0, 2.0)), (20_000, gauge(2, (3.0, 4.0), 7.0, 4.0))];
        check(GAUGE, &ticks, &expect);
    }

    #[test]
    fn the_first_window_may_be_partial_and_the_open_one_is_dropped() {
        let expect = [(10_000, gauge(2, (1.0, 2.0), 3.0, 2.0))];
        check(GAUGE, &[(8_300, 1.0), (9_300, 2.0), (10_300, 3.0), (11_300, 4.0)], &expect);
        check(GAUGE, &[(1_000, 1.0), (9_000, 2.0)], &[]);
    }

    #[test]
    fn a_late_tick_is_one_longer_interval() {
        let ticks = [(8_000, 10.0), (9_000, 10.5), (13_000, 14.5), (20_000, 14.5)];
        check(COUNTER, &ticks, &[(10_000, counter(2, 10.5, 0.5, 0.5)), (20_000, counter(2, 14.5, 4.0, 1.0))]);
    }

    #[test]
    fn a_tick_right_behind_a_late_one_is_no_spike() {
        let ticks = [(7_000, 1.0), (8_900, 1.95), (9_000, 2.05), (10_000, 2.55)];
        check(COUNTER, &ticks, &[(10_000, counter(4, 2.55, 1.55, 0.5))]);
    }

    #[test]
    fn a_reset_inside_a_window_loses_no_growth() {
        check(
            COUNTER,
            &[(7_000, 90.0), (8_000, 100.0), (9_000, 5.0), (10_000, 8.0)],
            &[(10_000, counter(4, 8.0, 18.0, 10.0))],
        );
    }

    #[test]
    fn growth_between_windows_belongs_to_the_later_one() {
        let ticks = [(10_000, 1.0), (11_000, 4.0), (20_000, 5.0)];
        check(COUNTER, &ticks, &[(10_000, counter(1, 1.0, 0.0, 0.0)), (20_000, counter(2, 5.0, 4.0, 3.0))]);
    }

    #[test]
    fn a_series_without_a_value_is_not_in_the_window_and_bridges_the_gap() {
        let mut bench = Bench::new(COUNTER);
        assert_eq!(bench.tick(10_000, 10_000, Some(1.0)).len(), 1);
        assert_eq!(bench.tick(20_000, 20_000, None)[0].samples, []);
        let batches = bench.tick(30_000, 30_000, Some(61.0));
        assert_eq!(batches[0].samples, [(SeriesIndex(0), counter(1, 61.0, 60.0, 3.0))]);
    }

    #[test]
    fn growth_goes_on_where_a_series_has_another_place_in_a_new_run() {
        let mut bench = Bench::new(COUNTER);
        bench.samples.series(HOST, GAUGE, &Labels::new());
        assert_eq!(bench.tick(10_000, 10_000, Some(1.0)).len(), 1);
        bench.windower.renew(&[SeriesIndex(1), SeriesIndex(0), SeriesIndex(9)]);
        let window = bench.windower.slots[1].fold_of(61.0, Duration::from_secs(20));
        assert_eq!(window, counter(1, 61.0, 60.0, 6.0));
        assert_eq!(bench.windower.slots[0].fold_of(1.0, Duration::from_secs(20)), counter(1, 1.0, 0.0, 0.0));
    }

    impl Slot {
        fn fold_of(&mut self, value: f64, now: Duration) -> Window {
            self.window_of(value, now, (Kind::Counter, COUNTER.decimals))
        }
    }

    #[test]
    fn a_backward_correction_skips_windows_and_no_growth() {
        let mut bench = Bench::new(COUNTER);
        let stamps = |batches: Vec<Batch>| batches.iter().map(|batch| batch.stamp.as_millis()).collect::<Vec<_>>();
        assert_eq!(stamps(bench.tick(95_000, 1_000, Some(1.0))), Vec::<i64>::new());
        assert_eq!(stamps(bench.tick(76_000, 2_000, Some(2.0))), [100_000], "what is open is not lost");
        for (stamp, now) in [(80_000, 6_000), (81_000, 7_000), (90_001, 16_001), (100_000, 26_000)] {
            assert_eq!(stamps(bench.tick(stamp, now, Some(3.0))), Vec::<i64>::new());
        }
        let batches = bench.tick(110_000, 36_000, Some(71.0));
        assert_eq!(batches[0].samples, [(SeriesIndex(0), counter(1, 71.0, 70.0, 2.0))]);
        assert_eq!(bench.windower.skipped_total(), 3, "80, 90 and 100");
    }

    #[test]
    fn a_clock_that_was_hours_ahead_is_not_waited_for() {
        let mut bench = Bench::new(GAUGE);
        let hours_ahead = 2 * 3_600_000;
        assert_eq!(bench.tick(hours_ahead, 0, Some(1.0)).len(), 1);
        assert_eq!(bench.tick(10_000, 1_000, Some(1.0)).len(), 1);
        assert_eq!(bench.windower.skipped_total(), 0);
    }

    #[test]
    fn stamps_follow_the_boot_clock_and_the_aggregator() {
        let stamps = Stamps::new(Timestamp::from_seconds(1_000), Duration::from_secs(40));
        let sampler = stamps.clone();
        assert_eq!(sampler.at(Duration::from_secs(50)), Timestamp::from_seconds(1_010));
        let set = |aggregator, asked, answered| {
            stamps.set(Timestamp::from_seconds(aggregator), Duration::from_secs(asked), Duration::from_secs(answered))
        };
        assert_eq!(set(1_007, 50, 50), -3_000);
        assert_eq!(sampler.at(Duration::from_secs(60)), Timestamp::from_seconds(1_017));
        for (aggregator, asked, answered) in [(1_017, 60, 60), (1_017, 60, 68), (1_017, 52, 60), (1_017, 0, 300)] {
            assert_eq!(set(aggregator, asked, answered), 0, "{aggregator} may have been read at 60");
        }
        assert_eq!(set(1_017, 62, 66), -4_000, "halfway, where it agrees with nothing");
        assert_eq!(set(1_017, 52, 54), 11_000);
    }

    proptest! {
        #[test]
        fn windows_merged_are_all_ticks_folded(
            steps in prop::collection::vec((1..4_000_i64, 0..10_000_i32), 1..100),
            is_counter: bool,
        ) {
            let metric = if is_counter { COUNTER } else { GAUGE };
            let mut stamp = 0;
            let ticks: Vec<(i64, f64)> = steps
                .iter()
                .map(|(step, hundredths)| {
                    stamp += step;
                    (stamp, metric.decimals.round(f64::from(*hundredths) / 100.0))
                })
                .collect();
            let mut bench = Bench::new(metric);
            let mut closed = bench.run(&ticks);
            closed.extend(bench.windower.advance(Timestamp::from_millis(stamp + 20_000)));
            let merged = closed.iter().map(|batch| batch.samples[0].1).reduce(|all, next| all.merge(next, metric.decimals));

            let (mut slot, meaning) = (Slot::default(), (metric.kind, metric.decimals));
            let of_tick = |&(stamp, value): &(i64, f64)| {
                slot.window_of(value, Duration::from_millis(u64::try_from(stamp).unwrap()), meaning)
            };
            let whole = ticks.iter().map(of_tick).reduce(|all, next| all.merge(next, metric.decimals));
            prop_assert_eq!(merged, whole);
            let grid: Vec<i64> = closed.iter().map(|batch| batch.stamp.as_millis()).collect();
            prop_assert!(grid.iter().all(|stamp| stamp % 10_000 == 0) && grid.is_sorted_by(|a, b| a < b), "{grid:?}");
        }
    }
}
