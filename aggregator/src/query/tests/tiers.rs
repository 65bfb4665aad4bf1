//! Longer windows in the place of those that an agent sent: `rate` and `increase` say what is true, resets or not.

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::window::Counter;
use common::window::Window;
use common::wire::codec;
use common::wire::codec::State;

use super::cached::NOW;
use super::cached::World;
use super::*;
use crate::store::commit::Append;
use crate::store::commit::Commit;

const HOST: HostId = HostId(1);
const RUN: RunId = RunId([1; 16]);
const WINDOW: i64 = 10;

/// Growth in each second of the five minutes that hold this one: another than in the five before and behind.
fn speed(second: i64) -> f64 {
    [10.0, 14.0, 9.0, 13.0, 16.0, 11.0, 12.0][usize::try_from((second - 1).div_euclid(300).rem_euclid(7)).unwrap()]
}

/// What a counter grew in (from, to].
fn grown(from: i64, to: i64) -> f64 {
    (from + 1..=to).map(speed).sum()
}

/// Whether the counter begins anew behind a window: at the edge of five minutes and of an hour, a window or two before it and
/// behind it, and twice in one. Two windows lie between any two: who sees samples alone sees each.
fn resets_behind(end: i64) -> bool {
    [0, 300, 590, 910, 1_250, 1_270, 1_500, 1_520, 3_580].contains(&end.rem_euclid(3_600))
}

/// Windows of a counter as an agent sends them, those that end in (from, through].
fn windows(from: i64, through: i64) -> Vec<(Timestamp, Counter)> {
    let mut total = 0.0;
    let ends = (from / WINDOW + 1..=through / WINDOW).map(|window| window * WINDOW);
    ends.map(|end| {
        if resets_behind(end - WINDOW) {
            total = 0.0;
        }
        let ticks = (end - WINDOW + 1..=end).map(|second| {
            let before = total;
            total += speed(second);
            Counter::of(before, total, Duration::from_secs(1), Decimals::FULL)
        });
        (at(end), ticks.reduce(|open, tick| open.merge(tick, Decimals::FULL)).unwrap())
    })
    .collect()
}

/// Commits them as batches of one run.
async fn send(world: &World, windows: Vec<(Timestamp, Counter)>) {
    let column = Column {
        metric: "node_network_receive_bytes_total".to_owned(),
        labels: Labels::new().with("job", "node"),
        kind: Kind::Counter,
        decimals: Decimals::FULL,
        peak: false,
        tier: Tier::Window,
    };
    let change = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: vec![column],
        series: vec![(0, 0)],
        ended: Vec::new(),
    };
    let mut schema = Schema::default();
    schema.apply(&change).unwrap();
    let mut appends = vec![Append::Schema { host: HOST, run: RUN, change }];
    let mut state = State::default();
    for (seq, (stamp, counter)) in (0..).zip(windows) {
        let keyframe = seq == 0 || EncodedBatch::quarter_begins(stamp);
        if keyframe {
            state = State::default();
        }
        let batch = Batch { stamp, samples: vec![(SeriesIndex(0), Window::Counter(counter))], ..Batch::default() };
        let payload = codec::encode(codec::CODEC, &batch, (&schema, 1), &mut state);
        let (run, spool, codec) = (RUN, SpoolId([1; 16]), codec::CODEC);
        let batch = EncodedBatch { run, spool, seq: Seq(seq), schema_version: 1, stamp, codec, keyframe, payload };
        appends.push(Append::Batch { host: HOST, batch });
    }
    world.store.commit(Commit { appends, records: Vec::new() }).await.unwrap();
}

/// A day and more of it, over and merged but for the last hours.
async fn counted() -> World {
    let world = World::new();
    send(&world, windows(NOW - 28 * 3_600, NOW)).await;
    world.later(60);
    world
}

/// Which windows answered, and the points, of twenty steps up to the last full hour, so many seconds later.
fn points(engine: &Engine, query: &str, (step, later): (u64, u64)) -> (String, Vec<(i64, f64)>) {
    let (hour, step) = (Duration::from_secs(3_600), Duration::from_secs(step));
    let end = at(NOW).align_down(hour).after(Duration::from_secs(later));
    let start = end.before(20 * hour);
    let reply = engine.reply(&parse(query).unwrap(), Moments::Range { start, end, step }, &Turn::default()).unwrap();
    let Value::Matrix(rows) = reply.value else { panic!("{query} answers no matrix") };
    let points = rows.into_iter().flat_map(|(_, points)| points);
    let points = points.map(|(at, value)| (at.as_millis() / 1_000, value)).collect();
    (reply.stats.selections[0].tiers.clone(), points)
}

#[tokio::test]
async fn longer_windows_answer_what_grew_and_shorter_ones_nearly_that() {
    let world = counted().await;
    let check = |range: i64, (step, later): (u64, u64), tiers: &str| {
        let query = format!("increase(node_network_receive_bytes_total[{range}s])");
        let (answered, chosen) = points(&world.forgetful, &query, (step, later));
        assert_eq!(answered, tiers, "{query} each {step} s");
        let (answered, plain) = points(&world.plain, &query, (step, later));
        assert_eq!(answered, "raw", "{query} each {step} s");
        let expect = usize::try_from(20 * 3_600 / step).unwrap() + 1;
        assert_eq!([chosen.len(), plain.len()], [expect; 2], "{query}");
        // What grew between the beginning of a range and its first sample is a guess where samples answer.
        let guess = 16.0 * 10.0;
        let merged = NOW - NOW.rem_euclid(86_400);
        for ((at, chosen), (_, plain)) in chosen.into_iter().zip(plain) {
            let truth = grown(at - range, at);
            let nearly = |value: f64, within: f64| (value - truth).abs() <= within;
            assert!(nearly(plain, guess), "{query} at {at}: {plain} of samples, {truth} grew");
            let within = if tiers == "raw" || merged < at { guess } else { truth * 1e-12 };
            assert!(nearly(chosen, within), "{query} at {at}: {chosen} of windows, {truth} grew");
        }
    };
    check(3_600, (3_600, 0), "1h, raw");
    check(7_200, (3_600, 0), "1h, raw");
    check(300, (300, 0), "5m, raw");
    check(1_800, (3_600, 0), "5m, raw");
    check(3_600, (300, 0), "5m, raw");
    // An edge lies inside of a longer window.
    check(3_600, (3_600, 300), "5m, raw");
    check(3_600, (3_600, 10), "raw");
    check(3_610, (3_600, 0), "raw");
    check(3_600, (60, 0), "raw");
}

#[tokio::test]
async fn what_is_no_growth_and_what_asks_for_samples_is_answered_from_samples() {
    let world = counted().await;
    let check = |engine: &Engine, query: &str, tiers: &str| {
        assert_eq!(points(engine, query, (3_600, 0)).0, tiers, "{query}");
    };
    let engine = &world.forgetful;
    check(engine, "rate(node_network_receive_bytes_total[1h])", "1h, raw");
    check(engine, "rate(node_network_receive_bytes_total[1h] offset 2h)", "1h, raw");
    check(engine, "rate(node_network_receive_bytes_total[1h] offset 5m)", "5m, raw");
    check(engine, "rate(node_network_receive_bytes_total[1h] offset 1m)", "raw");
    check(engine, "irate(node_network_receive_bytes_total[1h])", "raw");
    check(engine, "resets(node_network_receive_bytes_total[1h])", "raw");
    check(
        &engine.clone().at_longest(Duration::from_secs(300)),
        "rate(node_network_receive_bytes_total[1h])",
        "5m, raw",
    );
    check(&engine.clone().at_longest(Duration::from_secs(60)), "rate(node_network_receive_bytes_total[1h])", "raw");
}
