//! What functions make of windows that hold more than one tick.

use std::sync::Arc;
use std::time::Duration;

use common::metric::Decimals;
use common::metric::Kind;
use common::time::Clock;
use common::time::Timestamp;
use common::window::Counter;
use common::window::Gauge;
use common::window::Window;
use proptest::prelude::*;

use crate::query::Engine;
use crate::query::EngineConfig;
use crate::query::QueryError;
use crate::query::Value;
use crate::query::source::Lend;
use crate::query::source::Memory;
use crate::query::source::Source;
use crate::query::tests::answer;
use crate::query::tests::at;
use crate::query::tests::engine;
use crate::query::tests::labels;
use crate::store::select::Grains;
use crate::store::select::Question;
use crate::store::select::Selected;
use crate::store::select::Tiered;

const WINDOW: Duration = Duration::from_secs(10);

/// A minute of ticks, one a second: all idle, but for one.
fn one_spike(idle: f64, spike: f64) -> impl Fn(i64) -> f64 {
    move |second| if second == 34 { spike } else { idle }
}

/// Folds a tick a second in (0, 60] into windows of ten.
fn gauge(value: impl Fn(i64) -> f64) -> Memory {
    let memory = Memory::default();
    for window in 1..=6 {
        let ticks = (window * 10 - 9..=window * 10).map(|second| Gauge::of(value(second)));
        let gauge = ticks.reduce(|open, tick| open.merge(tick, Decimals::FULL)).unwrap();
        memory.append(&labels("memory_bytes", &[]), at(window * 10), Window::Gauge(gauge));
    }
    memory
}

/// Folds a counter that grows by `growth` a second in (0, 60] into windows of ten.
fn counter(growth: impl Fn(i64) -> f64) -> Memory {
    let memory = Memory::default();
    let mut total = 0.0;
    for window in 1..=6 {
        let ticks = (window * 10 - 9..=window * 10).map(|second| {
            let before = total;
            total += growth(second);
            Counter::of(before, total, Duration::from_secs(1), Decimals::FULL)
        });
        let counter = ticks.reduce(|open, tick| open.merge(tick, Decimals::FULL)).unwrap();
        memory.append(&labels("cpu_seconds_total", &[]), at(window * 10), Window::Counter(counter));
    }
    memory
}

#[test]
fn a_gauge_answers_from_all_its_ticks() {
    let engine = engine(gauge(one_spike(1.0, 100.0)));
    let check = |query, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    check("memory_bytes", "memory_bytes{} 1");
    check("max_over_time(memory_bytes[1m])", "{} 100");
    check("min_over_time(memory_bytes[1m])", "{} 1");
    check("sum_over_time(memory_bytes[1m])", "{} 159");
    check("avg_over_time(memory_bytes[1m])", "{} 2.65");
    check("count_over_time(memory_bytes[1m])", "{} 60");
    check("last_over_time(memory_bytes[1m])", "memory_bytes{} 1");
    check("quantile_over_time(1, memory_bytes[1m])", "{} 1");
    check("memory_bytes[1m]", "memory_bytes{} x6");
    // A subquery sees what an instant query sees: the ends of windows.
    check("max_over_time(memory_bytes[1m:10s])", "{} 1");
    check("count_over_time(memory_bytes[1m:10s])", "{} 6");
}

#[test]
fn a_counter_answers_from_the_ends_of_its_windows() {
    let engine = engine(counter(one_spike(0.0, 1.0)));
    let check = |query, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    check("max_over_time(cpu_seconds_total[1m])", "{} 1");
    check("min_over_time(cpu_seconds_total[1m])", "{} 0");
    check("sum_over_time(cpu_seconds_total[1m])", "{} 3");
    check("avg_over_time(cpu_seconds_total[1m])", "{} 0.5");
    check("count_over_time(cpu_seconds_total[1m])", "{} 60");
    check("increase(cpu_seconds_total[1m])", "{} 1");
    check("changes(cpu_seconds_total[1m])", "{} 1");
}

#[test]
fn a_second_at_full_speed_survives_its_window() {
    let engine = engine(counter(one_spike(0.1, 1.0)));
    let check = |query, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    check("round(peak_rate(cpu_seconds_total[1m]), 0.01)", "{} 1");
    check("round(peak_rate(cpu_seconds_total[20s]), 0.01)", "{} 0.1");
    check("round(max_over_time(rate(cpu_seconds_total[20s])[1m:10s]), 0.001)", "{} 0.19");
}

#[test]
fn a_series_without_peaks_has_no_peak_rate() {
    let engine = engine(gauge(one_spike(0.0, 1.0)));
    assert_eq!(answer(&engine, "peak_rate(memory_bytes[1m])"), "");
}

#[test]
fn a_staleness_mark_counts_nowhere() {
    let memory = gauge(|_| 1.0);
    memory.mark_stale(&labels("memory_bytes", &[]), at(55));
    memory.mark_stale(&labels("memory_bytes", &[]), at(60));
    let engine = engine(memory);
    let check = |query, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    check("memory_bytes", "");
    check("absent(memory_bytes)", "{} 1");
    check("memory_bytes offset 1s", "");
    check("memory_bytes offset 6s", "memory_bytes{} 1");
    check("count_over_time(memory_bytes[1m])", "{} 50");
    check("min_over_time(memory_bytes[1m])", "{} 1");
    check("memory_bytes[1m]", "memory_bytes{} x5");
}

proptest! {
    /// Ranges whose ends lie on the grid of windows answer as if each tick had been kept.
    #[test]
    fn windows_answer_as_their_ticks_would(values in prop::collection::vec(-1_000_i32..1_000, 60), range in 1_i64..=6) {
        let value = |second: i64| f64::from(values[usize::try_from(second - 1).unwrap()]);
        let ticks = Memory::default();
        for second in 1..=60 {
            ticks.append_sample(&labels("memory_bytes", &[]), at(second), value(second));
        }
        let (windows, ticks) = (engine(gauge(value)), engine(ticks));
        for function in ["min", "max", "sum", "avg", "count", "last"] {
            let query = format!("{function}_over_time(memory_bytes[{range}0s])");
            let (by_windows, by_ticks) = (windows.range(&query, at(20), at(60), WINDOW), ticks.range(&query, at(20), at(60), WINDOW));
            prop_assert!(nearly(&by_windows.unwrap(), &by_ticks.unwrap()), "{}", query);
        }
    }
}

fn nearly(left: &Value, right: &Value) -> bool {
    let (Value::Matrix(left), Value::Matrix(right)) = (left, right) else { return false };
    let samples = |value: &Vec<(_, Vec<(Timestamp, f64)>)>| {
        value.iter().flat_map(|(_, samples)| samples.clone()).collect::<Vec<_>>()
    };
    let (left, right) = (samples(left), samples(right));
    left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(left, right)| left.0 == right.0 && (left.1 - right.1).abs() <= 1e-9 * (1.0 + right.1.abs()))
}

/// Windows of an hour through the second one, then of ten seconds.
struct Pieced(Memory);

const TIERS: &[Tiered] = &[
    Tiered { through: at(7_200), resolution: Some(Duration::from_secs(3_600)) },
    Tiered { through: Timestamp::from_millis(i64::MAX), resolution: None },
];

impl Source for Pieced {
    fn select(&self, question: Question<'_>, give: &mut Lend<'_>) -> Result<(), QueryError> {
        self.0.select(question, &mut |selected| give(Selected { tiers: TIERS, ..selected }))
    }

    fn resolution(&self, moment: Timestamp, _: Grains) -> Option<Duration> {
        (moment <= at(7_200)).then_some(Duration::from_secs(3_600))
    }
}

#[test]
fn one_looks_back_two_windows_where_they_are_long() {
    let memory = Memory::default();
    [3_600, 7_200, 7_210].into_iter().for_each(|second| memory.append_sample(&labels("load", &[]), at(second), 1.0));
    let engine = Engine::new(Arc::new(Pieced(memory)), Clock::moved(Timestamp::default()), EngineConfig::default());
    let check = |second: i64, expect: &str| {
        let query = format!("load @ {second}");
        assert_eq!(answer(&engine, &query), expect, "{query}");
    };
    check(3_599, "");
    check(3_600, "load{} 1");
    check(7_000, "load{} 1");
    check(7_200, "load{} 1");
    check(7_509, "load{} 1");
    check(7_510, "");
}

/// Windows of an hour through the second one, of these ones; then these ones.
fn pieced(kind: Kind, ticks: &[(i64, Window)]) -> Engine {
    let (name, memory) = (labels("work_total", &[]), Memory::default());
    let merged = |earlier: Window, later: &Window| earlier.merge(*later, Decimals::FULL);
    for hour in [3_600, 7_200] {
        let inside: Vec<Window> =
            ticks.iter().filter(|(second, _)| (hour - 3_600 < *second) && *second <= hour).map(|tick| tick.1).collect();
        if let Some((first, rest)) = inside.split_first() {
            memory.append(&name, at(hour), rest.iter().fold(*first, merged));
        }
    }
    ticks
        .iter()
        .filter(|(second, _)| 7_200 < *second)
        .for_each(|(second, tick)| memory.append(&name, at(*second), *tick));
    assert!(ticks.iter().all(|(_, tick)| matches!(tick, Window::Gauge(_)) == (kind == Kind::Gauge)));
    Engine::new(Arc::new(Pieced(memory)), Clock::moved(Timestamp::default()), EngineConfig::default())
}

/// A counter each ten seconds for three hours: what it grows by, and where it starts again at zero.
fn counted() -> impl Strategy<Value = Vec<(i64, Counter)>> {
    prop::collection::vec((0..100_i32, prop::bool::weighted(0.02)), 1_080).prop_map(|steps| {
        let mut value = 1e6;
        let tick = |(second, (growth, resets)): (i64, (i32, bool))| {
            let before = value;
            value = if resets { f64::from(growth) } else { before + f64::from(growth) };
            (second, Counter::of(before, value, WINDOW, Decimals::FULL))
        };
        (1..).map(|window: i64| window * 10).zip(steps).map(tick).collect()
    })
}

fn points(engine: &Engine, query: &str, step: Duration) -> Vec<(i64, f64)> {
    let Value::Matrix(rows) = engine.range(query, at(3_600), at(10_800), step).unwrap() else { panic!("no matrix") };
    let points = rows.into_iter().flat_map(|(_, points)| points);
    points.map(|(moment, value)| (moment.as_millis() / 1_000, value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Ranges whose ends lie on the grid: what grew in them to the last reset, as far as coarse windows answer; and behind
    /// them what is answered without any.
    #[test]
    fn growth_in_long_windows_is_that_of_those_they_were_made_of(ticks in counted(), hours in 1_i64..3) {
        let windows: Vec<_> = ticks.iter().map(|(second, tick)| (*second, Window::Counter(*tick))).collect();
        let raw = Memory::default();
        windows.iter().for_each(|(second, tick)| raw.append(&labels("work_total", &[]), at(*second), *tick));
        let (coarse, raw) = (pieced(Kind::Counter, &windows), engine(raw));
        let hour = Duration::from_secs(3_600);
        let expect = |function: &str, of: &dyn Fn(&[Counter]) -> f64| {
            let seen = points(&coarse, &format!("{function}(work_total[{hours}h])"), hour);
            prop_assert_eq!(seen.len(), 3);
            for (moment, value) in seen {
                let after = moment - hours * 3_600;
                let inside = ticks.iter().filter(|(second, _)| after < *second && *second <= moment);
                let expect = of(&inside.map(|(_, tick)| *tick).collect::<Vec<_>>());
                if after < 7_200 {
                    prop_assert!((value - expect).abs() <= 1e-9 * expect.abs(), "{function} at {moment}: {value}, {expect}");
                }
            }
            Ok(())
        };
        let grown = |ticks: &[Counter]| ticks.iter().map(|tick| tick.increase).sum::<f64>();
        expect("increase", &grown)?;
        expect("rate", &|ticks| grown(ticks) / f64::from(i32::try_from(hours * 3_600).unwrap()))?;
        expect("count_over_time", &|ticks| f64::from(u32::try_from(ticks.len()).unwrap()))?;
        expect("peak_rate", &|ticks| ticks.iter().map(|tick| tick.peak).fold(f64::NEG_INFINITY, f64::max))?;
        let behind = |engine: &Engine| {
            let mut points = points(engine, "rate(work_total[20m])", Duration::from_secs(600));
            points.retain(|(moment, _)| 7_200 + 1_200 <= *moment);
            points
        };
        prop_assert_eq!(behind(&coarse), behind(&raw));
    }
}

/// A gauge at each quarter of an hour for three hours.
fn written(values: [f64; 12]) -> Engine {
    let tick = |(quarter, value): (i64, f64)| (quarter * 900, Window::Gauge(Gauge::of(value)));
    pieced(Kind::Gauge, &(1..).zip(values).map(tick).collect::<Vec<_>>())
}

#[test]
fn what_grew_in_a_long_window_is_known_of_the_window_alone() {
    let steady = written([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    let reset = written([10.0, 20.0, 30.0, 40.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    let check = |engine: &Engine, query: &str, expect: &str| assert_eq!(answer(engine, query), expect, "{query}");
    check(&steady, "increase(work_total[1h] @ 7200)", "{} 4");
    check(&steady, "delta(work_total[1h] @ 7200)", "{} 4");
    check(&steady, "idelta(work_total[1h] @ 7200)", "{} 4");
    check(&steady, "irate(work_total[1h] @ 7200) * 3600", "{} 4");
    check(&steady, "increase(work_total[2h] @ 10800)", "{} 8");
    check(&steady, "idelta(work_total[2h] @ 10800)", "{} 1");
    // Nothing is known of what was before the first one.
    check(&steady, "increase(work_total[1h] @ 3600)", "");
    // A range that is shorter than the window has its share; one that cuts windows has shares of both.
    check(&steady, "increase(work_total[15m] @ 7200)", "{} 1");
    check(&steady, "increase(work_total[15m] @ 7300)", "{} 1");
    check(&steady, "max_over_time(work_total[1m] @ 7100)", "{} 4");
    check(&steady, "max_over_time(work_total[2m] @ 7300)", "{} 8");
    check(&steady, "max_over_time(work_total[1m] @ 7300)", "");
    // What is not a counter to whom wrote it is one as far as its windows' ends tell.
    check(&reset, "increase(work_total[1h] @ 7200)", "{} 8");
    check(&reset, "delta(work_total[1h] @ 7200)", "{} -32");
}
