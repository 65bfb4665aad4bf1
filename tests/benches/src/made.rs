//! The windows of a made host: 60 series of its own, 100 containers of 20 each, 30 groups of processes of 6, of which half
//! move from one window to the next. The same every time.

use std::time::Duration;

use common::batch::Batch;
use common::batch::WINDOW;
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

/// Ticks of a window.
const TICKS: u32 = 10;

/// A metric of each entity: what it is called, what it counts in, and how it moves.
struct Subject {
    job: &'static str,
    entities: u32,
    columns: u32,
}

const SUBJECTS: [Subject; 3] = [
    Subject { job: "node", entities: 1, columns: 60 },
    Subject { job: "cadvisor", entities: 100, columns: 20 },
    Subject { job: "process", entities: 30, columns: 6 },
];

/// A host, window by window.
pub struct Made {
    /// Its series: one version.
    pub schema: Schema,
    random: u64,
    kinds: Vec<Kind>,
    last: Vec<f64>,
    windows: u32,
}

impl Made {
    /// With so many of its series at most.
    ///
    /// # Errors
    /// When they make no schema.
    pub fn new(series_max: usize) -> anyhow::Result<Self> {
        let mut change =
            SchemaChange { version: 1, entities: vec![], columns: vec![], series: vec![], ended: Vec::new() };
        for Subject { job, entities, columns } in SUBJECTS {
            let first = (u32::try_from(change.entities.len())?, u32::try_from(change.columns.len())?);
            let name = |entity: u32| if entities == 1 { String::new() } else { format!("{job}-{entity}") };
            change.entities.extend((0..entities).map(|entity| Entity { labels: named(&name(entity)) }));
            change.columns.extend((0..columns).map(|column| self::column(job, column)));
            change.series.extend(
                (0..entities).flat_map(|entity| (0..columns).map(move |column| (first.0 + entity, first.1 + column))),
            );
        }
        change.series.truncate(series_max);
        let kind = |(_, column): &(u32, u32)| change.columns[*column as usize].kind;
        let kinds: Vec<Kind> = change.series.iter().map(kind).collect();
        let mut schema = Schema::default();
        schema.apply(&change)?;
        Ok(Self { schema, random: 0x9e37_79b9_7f4a_7c15, last: vec![1_000.0; kinds.len()], kinds, windows: 0 })
    }

    /// The next window.
    pub fn window(&mut self, stamp: Timestamp) -> Batch {
        let samples = (0..self.kinds.len()).map(|series| {
            let moves = self.below(100) < 55;
            let step = if moves { f64::from(self.below(1_000)) } else { 0.0 };
            let kind = self.kinds[series];
            let window = match kind {
                Kind::Gauge => gauge(self.last[series], step),
                Kind::Counter => counter(self.last[series], step, self.windows),
            };
            self.last[series] = window.last();
            (SeriesIndex(u32::try_from(series).unwrap_or(u32::MAX)), window)
        });
        let samples = samples.collect();
        self.windows += 1;
        Batch { stamp, samples, ..Batch::default() }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % u64::from(limit)).unwrap_or(0)
    }
}

fn named(name: &str) -> Labels {
    if name.is_empty() { Labels::new() } else { Labels::new().with("name", name) }
}

fn column(job: &str, column: u32) -> Column {
    let kind = if column.is_multiple_of(3) { Kind::Gauge } else { Kind::Counter };
    Column {
        metric: format!("bench_{job}_{column}"),
        labels: Labels::new().with("job", job),
        kind,
        decimals: Decimals::new(0),
        peak: false,
        tier: Tier::Second,
    }
}

fn gauge(before: f64, step: f64) -> Window {
    let last = 1_000.0 + (before + step) % 5_000.0;
    let (min, max) = (last.min(before), last.max(before));
    let sum = before * f64::from(TICKS - 1) + last;
    Window::Gauge(Gauge { count: TICKS, min, max, sum, last })
}

fn counter(before: f64, step: f64, windows: u32) -> Window {
    let increase = if windows == 0 { 0.0 } else { step };
    Window::Counter(Counter { count: TICKS, last: before + increase, increase, peak: 0.0 })
}

/// Time until the windows that are open at `now` close.
#[must_use]
pub fn closes_in(now: Timestamp) -> Duration {
    now.align_down(WINDOW).after(WINDOW).since(now)
}
