//! The growing schema of this run, and the values of the current tick.

use std::collections::HashMap;
use std::sync::Arc;

use common::batch::Event;
use common::catalog::Metric;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::SERIES_PER_HOST_MAX;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;

/// Entity of everything that is about the host itself.
pub const HOST: u32 = 0;

/// Events kept until the window closes: more in ten seconds is a storm, and the counters tell its size.
pub const EVENTS_PER_WINDOW_MAX: usize = 1_000;

/// Bytes that the events of one window take at most: a container brings all its labels into each of its events.
const EVENT_BYTES_PER_WINDOW_MAX: usize = 256 << 10;

/// What collectors write into.
///
/// Names are looked up once, when a series appears: a collector keeps the [`SeriesIndex`] and puts values by it, which
/// allocates nothing.
#[derive(Debug)]
pub struct Samples {
    schema: Schema,
    change: SchemaChange,
    /// Series that ended since the last version: they still have values in the open window, and so end one later.
    ending: Vec<SeriesIndex>,
    entities: HashMap<Labels, u32>,
    columns: HashMap<Box<str>, Vec<(Labels, KnownColumn)>>,
    slots: Vec<Slot>,
    /// Living series by entity.
    living: Vec<Vec<(u32, SeriesIndex)>>,
    values: Vec<(SeriesIndex, f64)>,
    events: Vec<Event>,
    event_bytes: usize,
    /// Series that found no room.
    refused_total: u64,
    foreign_total: usize,
    tick: u64,
}

/// Series of one run that have names of others: a tenth of all, so that a file whose labels change with each writing
/// takes no room from what the kernel tells.
const FOREIGN_SERIES_MAX: usize = SERIES_PER_HOST_MAX / 10;

/// What has a name that the catalog does not know: a line of an operator's file, a setting of some driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The metric's name.
    pub name: Arc<str>,
    /// Gauge or counter.
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug)]
struct KnownColumn {
    index: u32,
    kind: Kind,
    decimals: Decimals,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    entity: u32,
    decimals: Decimals,
    kind: Kind,
    /// The tick of its latest value: a second one in the same tick is a line that came twice.
    tick: u64,
}

impl Default for Samples {
    fn default() -> Self {
        let mut samples = Self {
            schema: Schema::default(),
            change: SchemaChange::default(),
            ending: Vec::new(),
            entities: HashMap::new(),
            columns: HashMap::new(),
            slots: Vec::new(),
            living: Vec::new(),
            values: Vec::new(),
            events: Vec::new(),
            event_bytes: 0,
            refused_total: 0,
            foreign_total: 0,
            tick: 1,
        };
        samples.entity(&Labels::new());
        samples
    }
}

impl Samples {
    /// The entity with these labels; made when it is not known yet. The empty set is the host.
    pub fn entity(&mut self, labels: &Labels) -> u32 {
        if let Some(known) = self.entities.get(labels) {
            return *known;
        }
        if SERIES_PER_HOST_MAX <= self.slots.len() {
            return u32::MAX;
        }
        let entity = index(self.entities.len());
        self.entities.insert(labels.clone(), entity);
        self.change.entities.push(Entity { labels: labels.clone() });
        self.living.push(Vec::new());
        entity
    }

    /// The series of one metric of an entity; made when it is not living yet. `labels` are those of the column (`mode`,
    /// `cpu`); `job` is the metric's own.
    ///
    /// Past [`SERIES_PER_HOST_MAX`] it returns an index that takes no values, which is counted: who came first stays.
    pub fn series(&mut self, entity: u32, metric: &'static Metric, labels: &Labels) -> SeriesIndex {
        let column = self.column(metric.name, labels, || Column {
            metric: metric.name.to_owned(),
            labels: labels.clone().with("job", metric.job),
            kind: metric.kind,
            decimals: metric.decimals,
            peak: metric.peak,
            tier: metric.tier,
        });
        self.living_series(entity, column, true)
    }

    /// The series of a metric that is not in the catalog, sampled once a window, as [`Self::series`]. A name keeps the
    /// kind that it had first.
    ///
    /// Past `FOREIGN_SERIES_MAX` no new one is made.
    pub fn foreign_series(&mut self, labels: &Labels, metric: &Foreign) -> SeriesIndex {
        let may_grow = self.foreign_total < FOREIGN_SERIES_MAX;
        let is_known = self.entities.contains_key(labels) && self.columns.contains_key(&*metric.name);
        if !may_grow && !is_known {
            self.refused_total += 1;
            return SeriesIndex(u32::MAX);
        }
        let entity = self.entity(labels);
        let column = self.column(&metric.name, &Labels::new(), || Column {
            metric: metric.name.to_string(),
            labels: Labels::new().with("job", "node"),
            kind: metric.kind,
            decimals: Decimals::FULL,
            peak: false,
            tier: Tier::Window,
        });
        let before = self.slots.len();
        let series = self.living_series(entity, column, may_grow);
        self.foreign_total += self.slots.len() - before;
        series
    }

    fn living_series(&mut self, entity: u32, column: KnownColumn, may_grow: bool) -> SeriesIndex {
        let Some(living) = self.living.get_mut(entity as usize) else {
            self.refused_total += 1;
            return SeriesIndex(u32::MAX);
        };
        if let Some((_, known)) = living.iter().find(|(known, _)| *known == column.index) {
            return *known;
        }
        if !may_grow || SERIES_PER_HOST_MAX <= self.slots.len() {
            self.refused_total += 1;
            return SeriesIndex(u32::MAX);
        }
        let series = SeriesIndex(index(self.slots.len()));
        living.push((column.index, series));
        self.slots.push(Slot { entity, decimals: column.decimals, kind: column.kind, tick: 0 });
        self.change.series.push((entity, column.index));
        series
    }

    fn column(&mut self, name: &str, labels: &Labels, make: impl FnOnce() -> Column) -> KnownColumn {
        let known = self.columns.get(name).and_then(|columns| columns.iter().find(|(known, _)| known == labels));
        if let Some((_, known)) = known {
            return *known;
        }
        let made = make();
        let column = KnownColumn {
            index: index(self.schema.columns().len() + self.change.columns.len()),
            kind: made.kind,
            decimals: made.decimals,
        };
        self.change.columns.push(made);
        self.columns.entry(name.into()).or_default().push((labels.clone(), column));
        column
    }

    /// Ends a series: what it measured is gone. If it comes back, it is a new series with the same labels.
    pub fn end(&mut self, series: SeriesIndex) {
        let Some(slot) = self.slots.get(series.0 as usize) else { return };
        let living = &mut self.living[slot.entity as usize];
        if let Some(at) = living.iter().position(|(_, living)| *living == series) {
            living.swap_remove(at);
            self.ending.push(series);
        }
    }

    /// Whether a series has not ended.
    pub(super) fn is_living(&self, series: SeriesIndex) -> bool {
        let slot = self.slots.get(series.0 as usize);
        slot.is_some_and(|slot| self.living[slot.entity as usize].iter().any(|(_, living)| *living == series))
    }

    /// Ends all series of an entity: the container, the device is gone.
    pub fn end_entity(&mut self, entity: u32) {
        let Some(living) = self.living.get_mut(entity as usize) else { return };
        self.ending.extend(living.drain(..).map(|(_, series)| series));
    }

    /// Sets a series' value at this tick, rounded to what the metric means. The first value of a tick stands.
    pub fn put(&mut self, series: SeriesIndex, value: f64) {
        let Some(slot) = self.slots.get_mut(series.0 as usize) else { return };
        if slot.tick != self.tick {
            slot.tick = self.tick;
            self.values.push((series, slot.decimals.round(value)));
        }
    }

    /// Sets a series' value from a count that the kernel gives as an integer. Above 2^53 the nearest float is taken, as
    /// everyone's exposition does.
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    pub fn put_count(&mut self, series: SeriesIndex, value: u64) {
        self.put(series, value as f64);
    }

    /// Reports something that happened.
    pub fn event(&mut self, event: Event) {
        let labels: usize = event.entity.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = self.event_bytes + labels + event.kind.len() + event.text.len();
        if self.events.len() < EVENTS_PER_WINDOW_MAX && bytes <= EVENT_BYTES_PER_WINDOW_MAX {
            self.event_bytes = bytes;
            self.events.push(event);
        }
    }

    /// Begins the next tick: the values of the last one are gone.
    pub fn begin_tick(&mut self) {
        self.tick += 1;
        self.values.clear();
    }

    /// The values of this tick, in the order they were put.
    #[must_use]
    pub fn values(&self) -> &[(SeriesIndex, f64)] {
        &self.values
    }

    /// Kind and decimals of a series, without a look into the schema.
    #[must_use]
    pub fn meaning(&self, series: SeriesIndex) -> Option<(Kind, Decimals)> {
        self.slots.get(series.0 as usize).map(|slot| (slot.kind, slot.decimals))
    }

    /// What happened since the window opened.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.event_bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Makes what was added since the last call, and what had ended before it, the schema's next version, if there is
    /// anything. Called when a window closes, before the next tick is collected.
    pub fn settle(&mut self) -> &Schema {
        let next = SchemaChange { ended: std::mem::take(&mut self.ending), ..SchemaChange::default() };
        let mut change = std::mem::replace(&mut self.change, next);
        if !change.is_empty() {
            change.version = self.schema.version() + 1;
            // Every index in the change was made here, and the limit was kept when its series were added.
            let applied = self.schema.apply(&change);
            debug_assert_eq!(applied, Ok(()), "a change made here fits");
        }
        &self.schema
    }

    /// The schema as of the last [`Self::settle`].
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether the run has used up its series on what is mostly gone: a new run has room again.
    #[must_use]
    pub fn is_worn_out(&self) -> bool {
        let living = || self.living.iter().map(Vec::len).sum::<usize>();
        SERIES_PER_HOST_MAX <= self.slots.len() && living() <= SERIES_PER_HOST_MAX / 2
    }

    /// Series that found no room in this run.
    #[must_use]
    pub const fn refused_total(&self) -> u64 {
        self.refused_total
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use common::catalog::metric;

    use super::*;

    const LOAD1: &Metric = metric("node_load1");
    const LOAD5: &Metric = metric("node_load5");

    fn device(name: &str) -> Labels {
        Labels::new().with("device", name)
    }

    fn living(samples: &mut Samples) -> Vec<String> {
        let schema = samples.settle();
        schema
            .living(schema.version())
            .filter_map(|(series, _)| schema.labels(series))
            .map(|it| it.to_string())
            .collect()
    }

    #[test]
    fn a_series_is_made_once_and_ends_a_version_after_its_last_value() {
        let mut samples = Samples::default();
        let disk = samples.entity(&device("sda"));
        let first = samples.series(disk, LOAD1, &Labels::new());
        assert_eq!(samples.series(disk, LOAD1, &Labels::new()), first);
        let named = r#"node_load1{device="sda", job="node"}"#;
        assert_eq!(living(&mut samples), [named]);
        samples.end(first);
        samples.end(first);
        let again = samples.series(disk, LOAD1, &Labels::new());
        assert_ne!(again, first);
        assert_eq!(living(&mut samples), [named, named]);
        assert_eq!(living(&mut samples), [named]);
        assert_eq!(samples.settle().version(), 3);
        assert_eq!(samples.schema().series()[first.0 as usize].ended, Some(3));
    }

    #[test]
    fn an_entity_ends_with_all_its_series_and_no_other() {
        let mut samples = Samples::default();
        let disks = ["sda", "sdb"].map(|name| samples.entity(&device(name)));
        for disk in disks {
            samples.series(disk, LOAD1, &Labels::new());
            samples.series(disk, LOAD5, &Labels::new());
        }
        samples.end_entity(disks[0]);
        samples.end_entity(99);
        samples.settle();
        let kept = [r#"node_load1{device="sdb", job="node"}"#, r#"node_load5{device="sdb", job="node"}"#];
        assert_eq!(living(&mut samples), kept);
    }

    #[test]
    fn a_line_that_comes_twice_counts_once_and_values_are_rounded() {
        let mut samples = Samples::default();
        let load = samples.series(HOST, LOAD1, &Labels::new());
        for value in [0.123_456, 9.0] {
            samples.put(load, value);
        }
        assert_eq!(samples.values(), [(load, 0.12)]);
        samples.begin_tick();
        assert_eq!(samples.values(), []);
        samples.put_count(load, 3);
        assert_eq!(samples.values(), [(load, 3.0)]);
    }

    #[test]
    fn past_the_limit_a_series_takes_no_values_and_a_run_wears_out_when_half_of_them_are_gone() {
        let mut samples = Samples::default();
        let disks: Vec<u32> = (0..SERIES_PER_HOST_MAX)
            .map(|name| {
                let disk = samples.entity(&device(&name.to_string()));
                samples.series(disk, LOAD1, &Labels::new());
                disk
            })
            .collect();
        let late = samples.entity(&device("late"));
        for refused in [samples.series(HOST, LOAD5, &Labels::new()), samples.series(late, LOAD1, &Labels::new())] {
            samples.put(refused, 1.0);
            samples.end(refused);
        }
        assert_eq!((samples.values(), samples.refused_total()), ([].as_slice(), 2));
        assert_eq!(samples.settle().version(), 1);
        assert_eq!(samples.schema().entities().len(), SERIES_PER_HOST_MAX + 1);
        let (gone, last) = disks[..SERIES_PER_HOST_MAX / 2].split_at(SERIES_PER_HOST_MAX / 2 - 1);
        gone.iter().for_each(|disk| samples.end_entity(*disk));
        assert!(!samples.is_worn_out());
        samples.end_entity(last[0]);
        assert!(samples.is_worn_out());
    }

    #[test]
    fn events_past_their_bytes_are_left_out() {
        let mut samples = Samples::default();
        let event = |bytes: usize| Event {
            at: common::time::Timestamp::default(),
            kind: String::new(),
            entity: device(&"x".repeat(bytes)),
            text: String::new(),
        };
        let label = "device".len();
        for (bytes, expect) in [(EVENT_BYTES_PER_WINDOW_MAX - 10 - label, 1), (11 - label, 1), (10 - label, 2)] {
            samples.event(event(bytes));
            assert_eq!(samples.events.len(), expect, "{bytes}");
        }
        assert_eq!(samples.take_events().len(), 2);
        samples.event(event(EVENT_BYTES_PER_WINDOW_MAX - label));
        assert_eq!(samples.take_events().len(), 1);
    }
}
