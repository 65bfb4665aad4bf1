//! How many bytes a value of a real host takes on the wire: `cargo test -p common --test codec_size -- --nocapture`.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot read its data should fail")]
#![expect(clippy::print_stderr, reason = "what is measured is printed")]
#![expect(clippy::disallowed_methods, reason = "where the data lies is the caller's to say")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::batch::Batch;
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
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::State;
use common::wire::codec::decode;
use common::wire::codec::encode;

/// Bytes a value, keyframes included: half of the budget for a busy host, because seven in ten series of this one never
/// change.
const BYTES_PER_VALUE_MAX: f64 = 0.6;

struct Recorded {
    column: Column,
    values: Vec<f64>,
}

/// One host's `/proc` at 1 s for an hour.
fn recorded() -> Option<Vec<Recorded>> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let directory = std::env::var("LAPWING_TEST_DATA").map_or(beside, PathBuf::from);
    let output = Command::new("gzip").arg("-dc").arg(directory.join("proc_1h.tsv.gz")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines().skip(1).peekable();
    lines.peek()?;
    let series = lines.map(|line| {
        let mut fields = line.split('\t');
        let (name, kind) = (fields.next().unwrap(), fields.next().unwrap());
        let values: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
        let exact = |digits: &u8| values.iter().all(|value| Decimals::new(*digits).mantissa(*value).is_some());
        let kind = if kind == "c" { Kind::Counter } else { Kind::Gauge };
        let busy = ["stat.cpu", "disk", "net", "proc"].iter().any(|prefix| name.starts_with(prefix));
        let column = Column {
            metric: name.to_owned(),
            labels: Labels::new(),
            kind,
            decimals: Decimals::new((0..=9).find(exact).unwrap_or(255)),
            peak: kind == Kind::Counter && busy,
            tier: Tier::Second,
        };
        Recorded { column, values }
    });
    Some(series.filter(|series| 3_600 <= series.values.len()).collect())
}

fn fold(series: &Recorded, window: usize) -> Window {
    let Column { kind, decimals, peak, .. } = series.column;
    let ticks = window * 10..window * 10 + 10;
    let windows = ticks.map(|at| match kind {
        Kind::Gauge => Window::Gauge(Gauge::of(series.values[at])),
        Kind::Counter if at == 0 => Window::Counter(Counter::first(series.values[0])),
        Kind::Counter => {
            let tick = Counter::of(series.values[at - 1], series.values[at], Duration::from_secs(1), decimals);
            Window::Counter(Counter { peak: if peak { tick.peak } else { 0.0 }, ..tick })
        }
    });
    windows.reduce(|open, tick| open.merge(tick, decimals)).unwrap()
}

/// Scalars of a window that are not implied.
fn scalars(column: &Column, window: &Window) -> usize {
    match window {
        Window::Gauge(_) => 4,
        Window::Counter(_) => 1 + usize::from(column.peak),
    }
}

#[test]
fn a_value_of_a_real_host_takes_few_bytes() {
    let Some(recorded) = recorded() else {
        eprintln!("left out: proc_1h.tsv.gz is not there");
        return;
    };
    let count = u32::try_from(recorded.len()).unwrap();
    let change = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: recorded.iter().map(|series| series.column.clone()).collect(),
        series: (0..count).map(|column| (0, column)).collect(),
        ended: Vec::new(),
    };
    let mut schema = Schema::default();
    schema.apply(&change).unwrap();
    let (mut writer, mut reader) = (State::default(), State::default());
    let (mut bytes, mut values, mut keyframe) = (0, 0, 0);
    for window in 0..360 {
        let stamp = Timestamp::from_seconds(3_600_010 + 10 * i64::try_from(window).unwrap());
        let samples = (0..).zip(&recorded).map(|(index, series)| (SeriesIndex(index), fold(series, window)));
        let batch = Batch { stamp, samples: samples.collect(), ..Batch::default() };
        let payload = encode(&batch, &schema, 1, &mut writer);
        assert_eq!(
            decode(CODEC, &payload, Against { schema: &schema, version: 1, stamp }, &mut reader),
            Ok(batch.clone())
        );
        keyframe = keyframe.max(payload.len());
        bytes += payload.len();
        values += recorded
            .iter()
            .zip(&batch.samples)
            .map(|(series, (_, window))| scalars(&series.column, window))
            .sum::<usize>();
    }
    let of = |bytes: usize, count: usize| {
        f64::from(u32::try_from(bytes).unwrap()) / f64::from(u32::try_from(count).unwrap())
    };
    let (per_value, per_window) = (of(bytes, values), of(bytes, 360 * recorded.len()));
    eprintln!(
        "{count} series, 360 windows: {per_value:.3} bytes a value, {per_window:.3} a series and window, keyframe {keyframe}"
    );
    assert!(per_value <= BYTES_PER_VALUE_MAX, "{per_value:.3}");
}
