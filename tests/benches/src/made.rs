//! The windows of a made host: 60 series of its own, 100 containers of 20 each, 30 groups of processes of 6, of which half
//! move from one window to the next; or those of 22 containers with a hundred series each, which are of the classes that hosts
//! have. The same every time.

use std::time::Duration;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
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
use common::wire::codec;
use common::wire::codec::CODEC;
use common::wire::codec::State;

use crate::synthetic::Synthetic;
use crate::synthetic::meaning;

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

const OF_CLASSES: [Subject; 1] = [Subject { job: "classes", entities: 22, columns: 100 }];

/// A host, window by window.
pub struct Made {
    /// Its series: one version.
    pub schema: Schema,
    random: u64,
    last: Vec<f64>,
    classes: Option<Synthetic>,
    windows: u32,
}

impl Made {
    /// With so many of its series at most.
    ///
    /// # Errors
    /// When they make no schema.
    pub fn new(series_max: usize) -> anyhow::Result<Self> {
        Self::with(&SUBJECTS, kind_of, series_max)
    }

    /// With series of all classes, so many of them at most.
    ///
    /// # Errors
    /// When they make no schema.
    pub fn of_classes(series_max: usize) -> anyhow::Result<Self> {
        let made = Self::with(&OF_CLASSES, |column| meaning(column as usize), series_max)?;
        let classes = Some(Synthetic::new(made.last.len()));
        Ok(Self { classes, ..made })
    }

    fn with(subjects: &[Subject], meaning: fn(u32) -> (Kind, Decimals), series_max: usize) -> anyhow::Result<Self> {
        let mut change =
            SchemaChange { version: 1, entities: vec![], columns: vec![], series: vec![], ended: Vec::new() };
        for Subject { job, entities, columns } in subjects {
            let first = (u32::try_from(change.entities.len())?, u32::try_from(change.columns.len())?);
            let name = |entity: u32| if *entities == 1 { String::new() } else { format!("{job}-{entity}") };
            change.entities.extend((0..*entities).map(|entity| Entity { labels: named(&name(entity)) }));
            change.columns.extend((0..*columns).map(|at| column(job, at, meaning(at))));
            change.series.extend(
                (0..*entities).flat_map(|entity| (0..*columns).map(move |column| (first.0 + entity, first.1 + column))),
            );
        }
        change.series.truncate(series_max);
        let last = vec![1_000.0; change.series.len()];
        let mut schema = Schema::default();
        schema.apply(&change)?;
        Ok(Self { schema, random: 0x9e37_79b9_7f4a_7c15, last, classes: None, windows: 0 })
    }

    /// The next window.
    pub fn window(&mut self, stamp: Timestamp) -> Batch {
        let values = match &mut self.classes {
            Some(classes) => classes.step(),
            None => (0..self.last.len()).map(|series| self.moved(series)).collect(),
        };
        let of = self.schema.series().iter().zip(&self.last).zip(&values);
        let samples = (0..).map(SeriesIndex).zip(of.map(|((series, before), value)| {
            let Column { kind, decimals, .. } = self.schema.columns()[series.column as usize];
            match kind {
                Kind::Gauge => gauge(*before, *value, decimals),
                Kind::Counter => counter(if self.windows == 0 { *value } else { *before }, *value, decimals),
            }
        }));
        let samples = samples.collect();
        self.last = values;
        self.windows += 1;
        Batch { stamp, samples, ..Batch::default() }
    }

    /// The next window as a run sends it in its only spool; a keyframe if `state` is a new one.
    pub fn encoded(&mut self, (run, seq): (RunId, Seq), stamp: Timestamp, state: &mut State) -> EncodedBatch {
        let (batch, version) = (self.window(stamp), self.schema.version());
        let keyframe = *state == State::default();
        let payload = codec::encode(CODEC, &batch, (&self.schema, version), state);
        EncodedBatch {
            run,
            spool: SpoolId(run.0),
            seq,
            schema_version: version,
            codec: CODEC,
            keyframe,
            stamp,
            payload,
        }
    }

    /// What a series moves to, if it does.
    fn moved(&mut self, series: usize) -> f64 {
        let moves = self.below(100) < 55;
        let step = if moves { f64::from(self.below(1_000)) } else { 0.0 };
        let moved = self.last[series] + step;
        match self.schema.column(SeriesIndex(u32::try_from(series).unwrap_or(u32::MAX))) {
            Some(Column { kind: Kind::Gauge, .. }) => 1_000.0 + moved % 5_000.0,
            Some(_) | None => moved,
        }
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

/// What a column counts in where half of its series move by whole numbers.
const fn kind_of(column: u32) -> (Kind, Decimals) {
    (if column.is_multiple_of(3) { Kind::Gauge } else { Kind::Counter }, Decimals::new(0))
}

fn column(job: &str, column: u32, (kind, decimals): (Kind, Decimals)) -> Column {
    Column {
        metric: format!("bench_{job}_{column}"),
        labels: Labels::new().with("job", job),
        kind,
        decimals,
        peak: false,
        tier: Tier::Second,
    }
}

/// It moves with the last tick.
fn gauge(before: f64, last: f64, decimals: Decimals) -> Window {
    let sum = decimals.round(before * f64::from(TICKS - 1) + last);
    Window::Gauge(Gauge { count: TICKS, min: last.min(before), max: last.max(before), sum, last })
}

fn counter(before: f64, last: f64, decimals: Decimals) -> Window {
    Window::Counter(Counter { count: TICKS, peak: 0.0, ..Counter::of(before, last, WINDOW, decimals) })
}

/// Time until the windows that are open at `now` close.
#[must_use]
pub fn closes_in(now: Timestamp) -> Duration {
    now.align_down(WINDOW).after(WINDOW).since(now)
}
