//! What batches cost on the wire: an hour of a real host, and the windows of a host with 100 containers and 30 process groups.
//!
//! A *value* is a scalar that is not implied: one of a gauge that stood still, four of one that moved; of a counter its
//! last, its increase where it is not the difference, its peak where it grew and has one. Framing is counted.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data should fail")]
#![expect(clippy::print_stderr, reason = "figures are printed")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::window::Counter;
use common::window::Gauge;
use common::window::Window;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::CODEC_VARINTS;
use common::wire::codec::State;
use common::wire::frame;
use common::wire::message::Message;
use common::wire::message::SchemaMessage;

/// Bytes a value at most, framing included.
const BYTES_PER_VALUE: f64 = 1.25;

const RUN: RunId = RunId([1; 16]);
const START: i64 = 1_000_000_800;

/// One series, tick by tick; none where it was not there.
struct Series {
    kind: Kind,
    peak: bool,
    decimals: Decimals,
    ticks: Vec<Option<f64>>,
}

fn schema(series: &[Series]) -> Schema {
    let column = |series: &Series| Column {
        metric: "m".to_owned(),
        labels: Labels::new(),
        kind: series.kind,
        decimals: series.decimals,
        peak: series.peak,
        tier: Tier::Second,
    };
    let mut schema = Schema::default();
    let change = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: series.iter().map(column).collect(),
        series: (0..u32::try_from(series.len()).unwrap()).map(|column| (0, column)).collect(),
        ended: Vec::new(),
    };
    schema.apply(&change).unwrap();
    schema
}

fn window(series: &Series, at: usize) -> Option<Window> {
    let tick = |tick: usize| {
        let value = series.ticks.get(tick).copied().flatten()?;
        let before = tick.checked_sub(1).and_then(|before| series.ticks[before]);
        Some(match (series.kind, before) {
            (Kind::Gauge, _) => Window::Gauge(Gauge::of(value)),
            (Kind::Counter, None) => Window::Counter(Counter::first(value)),
            (Kind::Counter, Some(before)) => {
                Window::Counter(Counter::of(before, value, Duration::from_secs(1), series.decimals))
            }
        })
    };
    let window = (10 * at..10 * (at + 1)).filter_map(tick).reduce(|open, tick| open.merge(tick, series.decimals))?;
    Some(match window {
        Window::Counter(counter) if !series.peak => Window::Counter(Counter { peak: 0.0, ..counter }),
        Window::Gauge(_) | Window::Counter(_) => window,
    })
}

fn values(window: &Window, before: Option<&Window>) -> usize {
    match window {
        Window::Gauge(gauge) if gauge.min == gauge.max => 1,
        Window::Gauge(_) => 4,
        Window::Counter(counter) => {
            let last = before.map_or(0.0, Window::last);
            let implied = (counter.last - last - counter.increase).abs() < 1e-6;
            1 + usize::from(!implied) + usize::from(counter.peak != 0.0)
        }
    }
}

struct Cost {
    bytes: usize,
    values: usize,
    windows: usize,
    /// To encode a series of the batch that went fastest: a busy machine shows in the others.
    nanoseconds: f64,
    /// To decode a series, likewise.
    decoding: f64,
}

/// What all batches from the second half hour of `series` on cost, the keyframes at the full hour and a quarter later among them.
fn cost(codec: u8, series: &[Series]) -> Cost {
    let schema = schema(series);
    let count = series.iter().map(|series| series.ticks.len()).max().unwrap() / 10;
    let (mut state, mut reader, mut before) = (State::default(), State::default(), vec![None; series.len()]);
    let mut cost = Cost { bytes: 0, values: 0, windows: 0, nanoseconds: f64::MAX, decoding: f64::MAX };
    for at in 0..count {
        let samples: Vec<_> =
            (0..).zip(series).filter_map(|(index, series)| Some((SeriesIndex(index), window(series, at)?))).collect();
        let stamp = Timestamp::from_seconds(START + 10 * i64::try_from(at).unwrap());
        let batch = Batch { stamp, samples, ..Batch::default() };
        let keyframe = at == 0 || EncodedBatch::quarter_begins(stamp);
        if keyframe {
            (state, reader) = (State::default(), State::default());
        }
        let began = Instant::now();
        let payload = codec::encode(codec, &batch, (&schema, 1), &mut state);
        let spent = began.elapsed().as_secs_f64() * 1e9;
        let began = Instant::now();
        let against = Against { schema: &schema, version: 1, stamp };
        let decoded = codec::decode(codec, &payload, against, &mut reader).unwrap();
        let decoding = began.elapsed().as_secs_f64() * 1e9;
        assert_eq!(decoded, batch);
        let (spool, seq) = (SpoolId([2; 16]), Seq(at as u64));
        let encoded = EncodedBatch { run: RUN, spool, seq, schema_version: 1, stamp, codec, keyframe, payload };
        let counted = count / 2 <= at;
        for (index, window) in &batch.samples {
            let before = &mut before[index.0 as usize];
            cost.values += usize::from(counted) * values(window, before.as_ref());
            *before = Some(*window);
        }
        if counted {
            cost.bytes += frame::encode(&Message::Batch(encoded)).len();
            cost.windows += batch.samples.len();
            let series = f64::from(u32::try_from(batch.samples.len()).unwrap());
            cost.nanoseconds = cost.nanoseconds.min(spent / series);
            cost.decoding = cost.decoding.min(decoding / series);
        }
    }
    cost
}

#[track_caller]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn check(name: &str, series: &[Series]) {
    for codec in [CODEC_VARINTS, CODEC] {
        let Cost { bytes, values, windows, nanoseconds, decoding } = cost(codec, series);
        let (per_value, per_window) = (bytes as f64 / values as f64, bytes as f64 / windows as f64);
        let each = windows as f64 / values as f64;
        eprintln!(
            "{name}, codec {codec}: {} series, {per_value:.3} bytes a value, {per_window:.3} a series and window; {:.0} ns \
             to encode a value, {:.0} to decode it",
            series.len(),
            nanoseconds * each,
            decoding * each,
        );
        assert!(codec != CODEC || per_value <= BYTES_PER_VALUE, "{name}: {per_value:.3} bytes a value");
    }
}

/// The hour that was recorded, if it is there.
fn recorded() -> Option<Vec<Series>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let directory = std::env::var_os("LAPWING_TEST_DATA").map_or(beside, PathBuf::from);
    let output = Command::new("zcat").arg(directory.join("proc_1h.tsv.gz")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|text| !text.is_empty())?;
    let series = |line: &str| {
        let mut columns = line.split('\t');
        let (name, kind) = (columns.next()?, columns.next()?);
        let texts: Vec<&str> = columns.collect();
        let digits = texts.iter().map(|text| text.split_once('.').map_or(0, |(_, digits)| digits.len())).max()?;
        let kind = if kind == "c" { Kind::Counter } else { Kind::Gauge };
        let busy = ["stat.cpu", "net.", "disk."].iter().any(|prefix| name.starts_with(prefix));
        Some(Series {
            kind,
            peak: kind == Kind::Counter && busy,
            decimals: Decimals::new(u8::try_from(digits.min(6)).ok()?),
            ticks: texts.iter().map(|text| text.parse().ok()).collect(),
        })
    };
    Some(
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(series)
            .filter(|series| series.ticks.len() == 3_600)
            .collect(),
    )
}

#[test]
fn an_hour_of_a_real_host() {
    let Some(series) = recorded() else {
        eprintln!("LEFT OUT: an hour of a real host; proc_1h.tsv.gz is not in LAPWING_TEST_DATA");
        return;
    };
    check("a real host", &series);
}

/// Xorshift, and sums of it for what is spread around a middle.
struct Random(u64);

impl Random {
    #[expect(clippy::cast_precision_loss, reason = "32 bits")]
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as f64 / f64::from(u32::MAX)
    }

    fn normal(&mut self) -> f64 {
        ((0..4).map(|_| self.unit()).sum::<f64>() - 2.0) * 1.732
    }
}

/// `count` windows of a figure that is read once in each.
fn series(kind: Kind, count: usize, mut next: impl FnMut() -> f64) -> Series {
    let ticks = (0..count).flat_map(|_| vec![Some(next()); 10]).collect();
    Series { kind, peak: false, decimals: Decimals::new(0), ticks }
}

/// 100 containers with 20 figures each (30 busy, 40 light, 30 idle), and 30 process groups with 6.
fn made() -> Vec<Series> {
    const WINDOWS: usize = 360;
    let mut random = Random(11);
    let mut all = Vec::new();
    for container in 0..100 {
        let tenth = [1.0, 1.0, 1.0, 0.05, 0.05, 0.05, 0.05, 0.0005, 0.0005, 0.0005][container % 10];
        let activity = tenth * 10_f64.powf(random.unit() * 1.2 - 0.6);
        let rates = [3e6, 2.3e6, 7e5, 0.0, 3e3, 0.02, 8e4, 3e5, 5.0, 80.0, 2.5e5, 2.9e5, 900.0, 800.0, 0.0];
        for rate in rates {
            let mut value = (random.unit() * 1e8).floor();
            all.push(series(Kind::Counter, WINDOWS, || {
                let expected = activity * rate * (0.5 * random.normal()).exp();
                let whole =
                    if expected < 2.0 { f64::from(u8::from(random.unit() < expected)) } else { expected.round() };
                value += whole;
                value
            }));
        }
        for _ in 0..4 {
            let mut pages = (random.unit() * 1e5).floor();
            all.push(series(Kind::Gauge, WINDOWS, || {
                if random.unit() < (activity * 2.0).min(0.9) {
                    pages = (pages + (random.normal() * 60.0).round()).max(1.0);
                }
                pages * 4_096.0
            }));
        }
        let mut threads = (random.unit() * 40.0).floor();
        all.push(series(Kind::Gauge, WINDOWS, || {
            if random.unit() < 0.05 * activity.min(1.0) {
                threads += 1.0;
            }
            threads
        }));
    }
    for _ in 0..30 {
        let activity = 10_f64.powf(random.unit() * 2.0);
        for (rate, chance, unit) in [
            (1.0, 1.0, 1.0),
            (0.2, 1.0, 1.0),
            (30.0, 0.6, 4_096.0),
            (32.0, 0.2, 4_096.0),
            (128.0, 0.4, 4_096.0),
            (1.0, 0.03, 1.0),
        ] {
            let mut value = (random.unit() * 1e5).floor();
            all.push(series(Kind::Counter, WINDOWS, || {
                if random.unit() < chance {
                    value +=
                        (rate * if chance == 1.0 { activity } else { 1.0 } * (0.4 * random.normal()).exp()).round();
                }
                value * unit
            }));
        }
    }
    all
}

#[test]
fn containers_and_process_groups() {
    check("100 containers and 30 process groups", &made());
}

/// A container that comes costs its own names, and not those of the hundred that are there.
#[test]
fn a_change_of_the_schema_costs_what_changes() {
    let container = |number: usize| {
        let id = format!("{number:064x}");
        let labels = [("id", id.as_str()), ("name", "web"), ("image", "registry.example.com/team/web:1.2.3")];
        Entity { labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    };
    let columns: Vec<Column> = (0..20)
        .map(|column| Column {
            metric: format!("container_figure_{column}_total"),
            labels: Labels::new().with("job", "cadvisor"),
            kind: Kind::Counter,
            decimals: Decimals::new(0),
            peak: false,
            tier: Tier::Second,
        })
        .collect();
    let bytes = |change: &SchemaChange| {
        frame::encode(&Message::Schema(SchemaMessage { run: RUN, change: change.clone(), ext: Vec::new() })).len()
    };
    let change = |version, first: u32, count: u32, columns: Vec<Column>, ended: Vec<SeriesIndex>| SchemaChange {
        version,
        entities: (first..first + count).map(|number| container(number as usize)).collect(),
        columns,
        series: (first..first + count).flat_map(|entity| (0..20).map(move |column| (entity, column))).collect(),
        ended,
    };
    let all = bytes(&change(1, 0, 100, columns, Vec::new()));
    let [one, two] = [1, 2].map(|count| bytes(&change(2, 100, count, Vec::new(), Vec::new())));
    let goes = bytes(&change(2, 100, 0, Vec::new(), (0..20).map(SeriesIndex).collect()));
    eprintln!("a schema of 100 containers takes {all} bytes, one that comes {one}, two {two}, one that goes {goes}");
    assert!(one < all / 80 && two < 2 * one && goes < 64);

    // The batch behind the change costs the values of what came, and no keyframe.
    let stands = |count: usize| Series {
        kind: Kind::Counter,
        peak: false,
        decimals: Decimals::new(0),
        ticks: vec![Some(1e6); count],
    };
    let mut grown = schema(&(0..2_000).map(|_| stands(10)).collect::<Vec<_>>());
    let mut state = State::default();
    let mut bytes = |second: i64, count: u32, grown: &Schema| {
        let window = Window::Counter(Counter { count: 10, last: 1e6, increase: 0.0, peak: 0.0 });
        let samples = (0..count).map(|index| (SeriesIndex(index), window)).collect();
        let batch = Batch { stamp: Timestamp::from_seconds(START + second), samples, ..Batch::default() };
        codec::encode(CODEC, &batch, (grown, grown.version()), &mut state).len()
    };
    let [_keyframe, unchanged] = [20, 30].map(|second| bytes(second, 2_000, &grown));
    grown.apply(&SchemaChange { version: 2, series: vec![(0, 0); 20], ..SchemaChange::default() }).unwrap();
    let changed = bytes(40, 2_020, &grown);
    eprintln!("a batch of 2000 series that stand takes {unchanged} bytes, with 20 new ones {changed}");
    assert!(changed < unchanged + 20 * 12, "{changed}");
}
