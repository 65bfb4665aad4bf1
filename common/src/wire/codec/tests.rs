use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::batch::Process;
use crate::metric::Decimals;
use crate::metric::Kind;
use crate::metric::Labels;
use crate::metric::Tier;
use crate::schema::Column;
use crate::schema::Entity;
use crate::schema::SchemaChange;
use crate::schema::SchemaError;
use crate::window::Counter;
use crate::window::Gauge;
use crate::window::Window;

const COLUMNS: [(Kind, u8, bool, Tier); 7] = [
    (Kind::Gauge, 0, false, Tier::Second),
    (Kind::Gauge, 3, false, Tier::Second),
    (Kind::Gauge, 2, false, Tier::Minute),
    (Kind::Gauge, 255, false, Tier::Window),
    (Kind::Counter, 0, true, Tier::Second),
    (Kind::Counter, 2, false, Tier::Second),
    (Kind::Counter, 6, true, Tier::Window),
];

/// A schema of one version for each item: that many series more, and the series that end.
fn schema(versions: &[(usize, Vec<u32>)]) -> Schema {
    let column = |(kind, digits, peak, tier)| Column {
        metric: "m".to_owned(),
        labels: Labels::new(),
        kind,
        decimals: Decimals::new(digits),
        peak,
        tier,
    };
    let mut schema = Schema::default();
    for (added, ended) in versions {
        let version = schema.version() + 1;
        let from = schema.series().len();
        let first = version == 1;
        let change = SchemaChange {
            version,
            entities: first.then(Entity::default).into_iter().collect(),
            columns: COLUMNS.into_iter().filter(|_| first).map(column).collect(),
            series: (from..from + added).map(|at| (0, u32::try_from(at % COLUMNS.len()).unwrap())).collect(),
            ended: ended.iter().filter(|index| (**index as usize) < from).map(|index| SeriesIndex(*index)).collect(),
        };
        let applied = schema.apply(&change);
        assert!(matches!(applied, Ok(()) | Err(SchemaError::Empty(_))), "{applied:?}");
    }
    schema
}

fn value() -> impl Strategy<Value = f64> {
    let odd =
        [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 9e15, -9e15, 0.1 + 0.2];
    prop_oneof![
        4 => (-50_i32..50).prop_map(f64::from),
        2 => (0_u32..1 << 20).prop_map(|pages| f64::from(pages) * 4096.0),
        2 => (-1e6..1e6_f64).prop_map(|value| Decimals::new(2).round(value)),
        1 => prop::sample::select(odd.to_vec()),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

/// What a series does in a window: mostly nothing, mostly something sensible otherwise.
#[derive(Clone, Debug)]
enum Does {
    Stand,
    Absent,
    Tick(u32, [f64; 4]),
    Fold(Vec<f64>),
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => Just(Does::Stand),
        1 => Just(Does::Absent),
        2 => (1_u32..12, prop::array::uniform4(value())).prop_map(|(count, fields)| Does::Tick(count, fields)),
        4 => prop::collection::vec(value(), 1..=10).prop_map(Does::Fold),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let figures = (any::<u64>(), any::<u64>(), any::<u64>(), 0_u64..9, any::<u32>());
    (0_u32..6, "[a-zé]{0,5}", figures).prop_map(|(pid, text, (cpu_ms, resident_bytes, read_bytes, faults, threads))| {
        Process {
            pid,
            start_ticks: u64::from(pid) * 7,
            user: "root".to_owned(),
            command: text.clone(),
            command_line: text.repeat(3),
            container: String::new(),
            cpu_ms,
            resident_bytes,
            read_bytes,
            written_bytes: faults * 4096,
            major_faults: faults,
            minor_faults: 0,
            threads,
        }
    })
}

fn window(column: &Column, does: &Does, before: f64) -> Option<Window> {
    let decimals = column.decimals;
    let second = std::time::Duration::from_secs(1);
    match (does, column.kind) {
        (Does::Absent, _) => None,
        (Does::Stand, Kind::Gauge) => {
            (0..10).map(|_| Gauge::of(before)).reduce(|a, b| a.merge(b, decimals)).map(Window::Gauge)
        }
        (Does::Stand, Kind::Counter) => {
            Some(Window::Counter(Counter { count: 10, last: before, increase: 0.0, peak: 0.0 }))
        }
        (Does::Tick(count, [min, max, sum, last]), Kind::Gauge) => {
            Some(Window::Gauge(Gauge { count: *count, min: *min, max: *max, sum: *sum, last: *last }))
        }
        (Does::Tick(count, [last, increase, peak, _]), Kind::Counter) => {
            let peak = if column.peak { *peak } else { 0.0 };
            Some(Window::Counter(Counter { count: *count, last: *last, increase: *increase, peak }))
        }
        (Does::Fold(values), Kind::Gauge) => {
            let ticks = values.iter().map(|value| Gauge::of(decimals.round(*value)));
            ticks.reduce(|a, b| a.merge(b, decimals)).map(Window::Gauge)
        }
        (Does::Fold(values), Kind::Counter) => {
            let mut at = before;
            let ticks = values.iter().map(|grown| {
                let previous = at;
                at = decimals.round(at + grown.abs());
                Counter::of(previous, at, second, decimals)
            });
            let folded = ticks.reduce(|a, b| a.merge(b, decimals));
            folded.map(|counter| {
                Window::Counter(Counter { peak: if column.peak { counter.peak } else { 0.0 }, ..counter })
            })
        }
    }
}

/// NaN is itself, and the two zeros differ: what `==` does not say.
fn to_the_bit(batch: &Batch) -> impl PartialEq + Debug {
    let samples: Vec<_> = batch
        .samples
        .iter()
        .map(|(index, window)| {
            let bits = match *window {
                Window::Gauge(gauge) => [gauge.min, gauge.max, gauge.sum, gauge.last],
                Window::Counter(counter) => [counter.last, counter.increase, counter.peak, 0.0],
            };
            (*index, window.count(), bits.map(f64::to_bits))
        })
        .collect();
    (batch.stamp, samples, batch.processes.clone(), batch.events.clone())
}

/// 60 rows, most of them busy, three of them new in each window.
#[test]
fn a_process_table_takes_a_kilobyte_a_window() {
    let schema = schema(&[(1, vec![])]);
    let (mut writer, mut reader) = (State::default(), State::default());
    let mut bytes = Vec::new();
    for window in 0..40_u32 {
        let row = |place: u32| Process {
            pid: 1_000 + place + if place < 3 { 100 * window } else { 0 },
            start_ticks: 77_000 + u64::from(place),
            user: "www-data".to_owned(),
            command: format!("worker-{place}"),
            command_line: format!("/usr/lib/service/bin/worker --listen 0.0.0.0:8080 --number {place}"),
            container: "web".to_owned(),
            cpu_ms: u64::from(place * 7 + window * 13 % 900),
            resident_bytes: (100_000 + u64::from(place * window % 50)) * 4_096,
            read_bytes: if place.is_multiple_of(4) { u64::from(window) * 4_096 } else { 0 },
            written_bytes: if place.is_multiple_of(3) { u64::from(place) * 40_960 } else { 0 },
            major_faults: 0,
            minor_faults: u64::from(place * 3 % 200),
            threads: 12,
        };
        let stamp = Timestamp::from_seconds(10 * i64::from(window));
        let batch = Batch { stamp, processes: (0..60).map(row).collect(), ..Batch::default() };
        let payload = encode(CODEC, &batch, (&schema, 1), &mut writer);
        let against = Against { schema: &schema, version: 1, stamp };
        assert_eq!(decode(CODEC, &payload, against, &mut reader), Ok(batch));
        bytes.push(payload.len());
    }
    let later = bytes[1..].iter().max();
    assert!(later < Some(&1_024), "{bytes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decoding_is_the_exact_inverse(
        versions in prop::collection::vec((0..20_usize, prop::collection::vec(0..40_u32, 0..4)), 1..4),
        windows in prop::collection::vec((0..4_usize, prop::collection::vec(does(), 60), prop::collection::vec(process(), 0..6)), 1..8),
        older in 0..6_i64,
    ) {
        let schema = schema(&versions);
        let (mut writer, mut reader) = (State::default(), State::default());
        let mut version = 1;
        for (at, (growth, does, processes)) in (0..).zip(windows) {
            version = (version + u32::try_from(growth).unwrap()).min(schema.version());
            let stamp = Timestamp::from_seconds(1_000_000_000 + 10 * at);
            let samples = schema.living(version).zip(&does).filter_map(|((index, column), does)| {
                window(column, does, writer.last(index).unwrap_or(0.0)).map(|window| (index, window))
            }).collect();
            let processes_count = processes.len();
            let event = Event { at: stamp, kind: "k".to_owned(), entity: Labels::new().with("a", "b"), text: "t".to_owned() };
            let batch = Batch { stamp, samples, processes, events: vec![event; processes_count % 3] };
            let codec = if at < older { CODEC_VARINTS } else { CODEC };
            let payload = encode(codec, &batch, (&schema, version), &mut writer);
            let decoded = decode(codec, &payload, Against { schema: &schema, version, stamp }, &mut reader).unwrap();
            prop_assert_eq!(to_the_bit(&decoded), to_the_bit(&batch));
        }
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..200), version in 0..5_u32) {
        let schema = schema(&[(40, vec![]), (5, vec![3])]);
        let against = Against { schema: &schema, version, stamp: Timestamp::from_seconds(60) };
        let mut state = State::default();
        for codec in [CODEC_VARINTS, CODEC] {
            drop(decode(codec, &payload, against, &mut state));
            for kind in [SAMPLES, PROCESSES, EVENTS] {
                let mut section = vec![kind];
                put_sized(&mut section, &payload);
                drop(decode(codec, &section, against, &mut state));
            }
        }
    }
}

/// What a host of every kind of column does in three windows: stands, moves, is absent, loses its counters, is no number.
fn played() -> (Schema, Vec<Batch>) {
    let schema = schema(&[(14, vec![])]);
    let windows = [
        |at: u32| Does::Fold(vec![f64::from(at * 4_096), f64::from(at * 8_192)]),
        |at: u32| match at % 4 {
            0 => Does::Stand,
            1 => Does::Absent,
            2 => Does::Tick(7, [f64::NAN, 0.5, -0.0, 1e300]),
            _ => Does::Fold(vec![0.25, f64::from(at), 1_000_000.5]),
        },
        |at: u32| Does::Tick(10, [f64::from(at), 3.0, 30.0, 2.0]),
    ];
    let mut last = [0.0; 14];
    let batch = |(number, does): (i64, fn(u32) -> Does)| {
        let stamp = Timestamp::from_seconds(1_000_000_000 + 10 * number);
        let samples = schema.living(1).filter_map(|(index, column)| {
            let window = window(column, &does(index.0), last[index.0 as usize])?;
            last[index.0 as usize] = window.last();
            Some((index, window))
        });
        Batch { stamp, samples: samples.collect(), ..Batch::default() }
    };
    let batches = (0..).zip(windows).map(batch).collect();
    (schema, batches)
}

/// The bytes of each codec, as agents of its release write them: a line a batch.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn bytes_of_each_codec_stay() {
    let (schema, batches) = played();
    for codec in [CODEC_VARINTS, CODEC] {
        let (mut writer, mut reader) = (State::default(), State::default());
        let golden = GOLDEN.lines().filter_map(|line| line.strip_prefix(&format!("{codec} ")));
        assert_eq!(golden.clone().count(), batches.len());
        for (batch, golden) in batches.iter().zip(golden) {
            let payload = encode(codec, batch, (&schema, 1), &mut writer);
            let hexadecimal: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hexadecimal, golden, "codec {codec}");
            let against = Against { schema: &schema, version: 1, stamp: batch.stamp };
            let decoded = decode(codec, &payload, against, &mut reader).unwrap();
            assert_eq!(format!("{:?}", to_the_bit(&decoded)), format!("{:?}", to_the_bit(batch)));
        }
    }
}
