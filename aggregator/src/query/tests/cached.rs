//! What is answered as before is what would be answered anew, whatever was written meanwhile.

use std::thread::JoinHandle;

use common::batch::HostId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::query::Reply;
use crate::query::Stats;
use crate::store::Retention;
use crate::store::Store;
use crate::store::StoreConfig;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::Written;
use crate::store::lock::Lock;

const QUERIES: &[&str] = &[
    "m_total",
    "sum by (a) (rate(m_total[5m]))",
    "max_over_time(m_total{a=\"1\"}[10m] offset 20m)",
    "quantile_over_time(0.5, m_total[3m] offset -10m)",
    "topk(1, m_total)",
    "absent(m_total{a=\"1\"})",
    "sum_over_time(max by (a) (m_total)[20m:1m])",
    "m_total > on (a) group_left () avg_over_time(m_total{a=\"2\"}[1h]) or vector(time() - 5)",
    "count(m_total @ end())",
    "m_total offset 1h",
    "max_over_time(m_total[1h])",
    "sum by (a) (avg_over_time(m_total[2h] offset 1h))",
    "min_over_time(m_total[5m]) + count_over_time(m_total[1h])",
    "last_over_time(m_total[1h]) + on (a) timestamp(m_total)",
    "sum_over_time(m_total[30m]) * present_over_time(m_total[10m])",
];

/// Two days after 1970: the hours before are kept.
pub(super) const NOW: i64 = 200_000;

/// A store, one engine that keeps what it answered, one that does not, and one that does not choose longer windows either.
pub(super) struct World {
    pub(super) store: Store,
    writer: Option<JoinHandle<()>>,
    pub(super) clock: Clock,
    keeping: Engine,
    pub(super) forgetful: Engine,
    pub(super) plain: Engine,
    _dir: TempDir,
}

#[derive(Clone, Debug)]
enum Step {
    /// Samples of a series, so many seconds ago, ten seconds apart.
    Write { series: u8, ago: i64, samples: u8, value: i32 },
    /// It is so many minutes later; what is over was sealed and merged meanwhile.
    Later(u64),
    /// A query, at so many steps of so many seconds, through so long ago.
    Ask { query: usize, steps: i64, step: i64, ago: i64 },
    /// The same query a bit later.
    Again(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ago = || prop_oneof![3 => 0..600_i64, 1 => 0..80_000_i64];
    let write = (0..3_u8, ago(), 1..40_u8, 0..50_i32);
    let ask = (0..QUERIES.len(), 1..200_i64, prop::sample::select(vec![10, 60, 77, 300, 300, 3_600]), ago());
    let step = prop_oneof![
        3 => write.prop_map(|(series, ago, samples, value)| Step::Write { series, ago, samples, value }),
        1 => (0..400_u64).prop_map(Step::Later),
        2 => ask.prop_map(|(query, steps, step, ago)| Step::Ask { query, steps, step, ago }),
        3 => (0..5_i64).prop_map(Step::Again),
    ];
    prop::collection::vec(step, 1..60)
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::moved(at(NOW));
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let retention =
            Retention { raw: hours(30), five_minutes: hours(60), one_hour: hours(1_000), ..Retention::default() };
        let config =
            StoreConfig { commit_interval: Duration::ZERO, settle_every: None, retention, ..StoreConfig::default() };
        let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config, clock.clone()).unwrap();
        let engine = |cache_max: usize| {
            let config = EngineConfig { cache_max, ..EngineConfig::default() };
            Engine::new(Arc::new(store.clone()), clock.clone(), config)
        };
        let (keeping, forgetful, plain) = (engine(20_000), engine(0), engine(0).at_longest(Duration::ZERO));
        let writer = Some(std::thread::spawn(move || writer.run()));
        Self { writer, store, clock, keeping, forgetful, plain, _dir: dir }
    }

    async fn write(&self, series: u8, stamps: impl Iterator<Item = Timestamp>, value: i32) {
        let labels = labels("m_total", &[("a", &series.to_string())]);
        // A mark now and then.
        let sample = |(stamp, value): (Timestamp, i32)| (stamp, (value % 37 != 36).then_some(f64::from(value)));
        let samples = stamps.zip(value..).map(sample).collect();
        let series = vec![Written { labels, samples }];
        let append = Append::Written { origin: HostId(1 << 31), series };
        self.store.commit(Commit { appends: vec![append], records: Vec::new() }).await.unwrap();
    }

    pub(super) fn later(&self, minutes: u64) {
        for hour in (0..minutes).step_by(60) {
            self.clock.advance(Duration::from_secs(60 * (minutes - hour).min(60)));
            self.store.settle();
        }
    }

    /// Asks all, and says how many steps the one told as before.
    fn ask(&self, query: &str, (steps, step, ago): (i64, i64, i64)) -> usize {
        let end = self.clock.wall().before(Duration::from_secs(ago.unsigned_abs()));
        // Where longer windows may answer.
        let end = if 300 <= step { end.align_down(Duration::from_secs(step.unsigned_abs())) } else { end };
        let length = Duration::from_secs((step * (steps - 1)).unsigned_abs());
        let moments = Moments::Range { start: end.before(length), end, step: Duration::from_secs(step.unsigned_abs()) };
        let [kept, anew, plain] = [&self.keeping, &self.forgetful, &self.plain]
            .map(|engine| engine.reply(&parse(query).unwrap(), moments, &Turn::default()).unwrap());
        let Stats { steps_cached, .. } = kept.stats;
        assert_alike((query, moments), kept.value, &anew.value);
        assert_alike((query, moments), anew.value, &plain.value);
        steps_cached
    }
}

fn assert_alike((query, moments): (&str, Moments), seen: Value, expect: &Value) {
    let (Value::Matrix(rows), Value::Matrix(expect)) = (seen, expect.clone()) else {
        panic!("{query} answers no matrix");
    };
    let shape = |rows: &[(Labels, Vec<(Timestamp, f64)>)]| -> Vec<(Labels, Vec<Timestamp>)> {
        rows.iter().map(|(labels, points)| (labels.clone(), points.iter().map(|(at, _)| *at).collect())).collect()
    };
    assert_eq!(shape(&rows), shape(&expect), "{query} at {moments:?}");
    // Where a sliding sum begins decides how it rounds.
    let close = |left: f64, right: f64| left == right || (left - right).abs() <= 1e-12 * right.abs();
    let values = |rows: Vec<(Labels, Vec<(Timestamp, f64)>)>| rows.into_iter().flat_map(|(_, points)| points);
    for ((at, value), (_, expect)) in values(rows).zip(values(expect)) {
        assert!(close(value, expect), "{query} at {at:?}: {value}, expected {expect}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.store.close();
        self.writer.take().map(JoinHandle::join);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_kept_is_what_would_be_answered_anew(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (world, mut asked) = (World::new(), (0, (100, 60, 0)));
        for step in steps {
            match step {
                Step::Write { series, ago, samples, value } => {
                    let first = world.clock.wall().before(Duration::from_secs(ago.unsigned_abs()));
                    let stamps = (0..samples.into()).map(|at: u64| first.after(Duration::from_secs(10 * at)));
                    runtime.block_on(world.write(series, stamps, value));
                }
                Step::Later(minutes) => world.later(minutes),
                Step::Ask { query, steps, step, ago } => {
                    asked = (query, (steps, step, ago));
                    world.ask(QUERIES[query], asked.1);
                }
                Step::Again(later) => {
                    let (query, (steps, step, ago)) = asked;
                    world.ask(QUERIES[query], (steps, step, (ago - later * step).max(0)));
                }
            }
            prop_assert!(world.keeping.caching().bytes <= 20_000);
        }
    }
}

#[tokio::test]
async fn a_dashboard_that_is_asked_again_is_told_as_before_but_for_what_is_new() {
    let world = World::new();
    let stamps = |from: i64, through: i64| (from..through).step_by(10).map(at);
    world.write(1, stamps(NOW - 7_200, NOW), 0).await;
    let hour = (361, 10, 0);
    let rate = "sum by (a) (rate(m_total[5m]))";
    assert_eq!(world.ask(rate, hour), 0);
    world.clock.advance(Duration::from_secs(10));
    world.write(1, stamps(NOW, NOW + 10), 720).await;
    assert!((361 - 2 * 32..361 - 5).contains(&world.ask(rate, hour)), "all but what may see the last minute");
    // One that comes late changes what sees it.
    world.write(1, stamps(NOW - 1_800, NOW - 1_799), 5).await;
    let told = world.ask(rate, hour);
    assert!((361 - 4 * 32..361 - 2 * 32).contains(&told), "{told}: all but the five minutes behind it");
    assert_eq!(world.ask("count(m_total @ end())", hour), 0);
    assert_eq!(world.ask("count(m_total @ end())", hour), 0, "what does not move with the step is not kept");
    let caching = world.keeping.caching();
    assert!(0 < caching.hits && 0 < caching.misses && 0 < caching.bytes);
}

#[tokio::test]
async fn what_comes_late_is_told_at_once_whichever_windows_answered_before_and_once_they_are_made_anew() {
    let (world, then) = (World::new(), NOW - 26 * 3_600);
    world.write(1, (then..then + 300).step_by(10).map(at), 0).await;
    world.later(2 * 60);
    // Which windows answer, and the largest value.
    let ask = || {
        let end = at(then).after(Duration::from_secs(6 * 3_600)).align_up(Duration::from_secs(300));
        let ago = world.clock.wall().since(end).as_secs().cast_signed();
        let (query, step) = ("max(max_over_time(m_total[1h]))", Duration::from_secs(300));
        world.ask(query, (128, 300, ago));
        let moments = Moments::Range { start: end.before(127 * step), end, step };
        let [kept, anew] = [&world.keeping, &world.forgetful]
            .map(|engine| engine.reply(&parse(query).unwrap(), moments, &Turn::default()).unwrap());
        assert!(0 < kept.stats.steps_cached);
        let Value::Matrix(rows) = kept.value else { panic!("no matrix") };
        let points = rows.iter().flat_map(|(_, points)| points);
        (anew.stats.selections[0].tiers.clone(), points.map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max))
    };
    assert_eq!(ask(), ("5m".to_owned(), 29.0));
    world.write(1, std::iter::once(at(then + 20)), 1_000).await;
    assert_eq!(ask(), ("5m, raw".to_owned(), 1_000.0));
    // Sealed, merged, and made anew.
    world.later(60);
    assert_eq!(ask(), ("5m".to_owned(), 1_000.0));
}

#[tokio::test]
async fn what_samples_answered_is_not_told_once_they_went() {
    let (world, day) = (World::new(), 86_400);
    world.write(1, (NOW - day - 7_200..NOW - day).chain(NOW - 7_200..NOW).step_by(10).map(at), 0).await;
    let (query, end) = ("count_over_time(m_total[10m])", at(NOW - 80));
    let ask = || world.ask(query, (460, 200, world.clock.wall().since(end).as_secs().cast_signed()));
    // Of the day before there are long windows alone, of this day there are both.
    world.later(24 * 60);
    assert_eq!(ask(), 0);
    assert!(400 < ask());
    world.later(24 * 60);
    assert!((1..400).contains(&ask()), "of this day, too");
    assert!(400 < ask());
}

#[tokio::test]
async fn thirty_days_at_an_hours_step_are_read_from_windows_of_an_hour() {
    let world = World::new();
    world.write(1, (0..NOW).step_by(60).map(at).filter(|stamp| NOW - 28 * 3_600 < stamp.as_millis() / 1_000), 0).await;
    world.later(60);
    let hour = Duration::from_secs(3_600);
    let end = world.clock.wall().align_down(hour);
    let read = |engine: &Engine, query: &str| {
        let moments = Moments::Range { start: end.before(20 * hour), end, step: hour };
        let Reply { stats, .. } = engine.reply(&parse(query).unwrap(), moments, &Turn::default()).unwrap();
        let [selection] = &stats.selections[..] else { panic!("one selection") };
        (selection.tiers.clone(), selection.samples)
    };
    let check = |query: &str, tiers: &str, samples_max: usize| {
        let (answered, samples) = read(&world.forgetful, query);
        assert_eq!(answered, tiers, "{query}");
        assert!(samples <= samples_max, "{query}: {samples}");
        assert_eq!(read(&world.plain, query).0, "raw", "{query}");
    };
    // The day that is not over is raw.
    check("max_over_time(m_total[1h])", "1h, raw", 60 * 9 + 13);
    check("max_over_time(m_total[30m])", "5m, raw", 60 * 9 + 13 * 12);
    check("m_total", "5m, raw", 60 * 9 + 13 * 12);
    check("rate(m_total[1h])", "raw", 60 * 24);
    check("timestamp(m_total)", "raw", 60 * 22);
    check("max_over_time(m_total[90s])", "raw", 60 * 22);
    check("max_over_time(m_total[1h] offset 1m)", "raw", 60 * 22);
}
