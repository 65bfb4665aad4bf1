//! The growing schema of this run, and the values of the current tick.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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

use crate::collect::table::Table;

/// Entity of everything that is about the host itself.
pub const HOST: u32 = 0;

/// Events kept until the window closes: more in ten seconds is a storm, and the counters tell its size.
pub const EVENTS_PER_WINDOW_MAX: usize = 1_000;

/// Bytes that the events of one window take at most: a container brings all its labels into each of its events.
const EVENT_BYTES_PER_WINDOW_MAX: usize = 256 << 10;

/// What collectors write into.
///
/// Names are looked up once, when a series appears: a collector keeps the [`SeriesKey`] and puts values by it, which
/// allocates nothing. A key stands for its series as long as that lives, in whatever run; behind it stands the place that
/// the series has in the schema of the run that goes on.
#[derive(Debug)]
pub struct Samples {
    /// The run's schema, and what is added to it when the window closes.
    schema: Schema,
    change: SchemaChange,
    /// Series that ended since the last version: they still have values in the open window, and so end one later.
    ending: Ends,
    /// Series that had ended before it: they end with the next one.
    ended: Ends,
    numbers: HashMap<Labels, u32>,
    entities: Table<KnownEntity>,
    columns: HashMap<Box<str>, Vec<(Labels, KnownColumn)>>,
    series: Table<KnownSeries>,
    /// What values of the run's series mean, in the order of their index.
    meanings: Vec<(Kind, Decimals)>,
    values: Vec<(SeriesIndex, f64)>,
    events: Vec<Event>,
    event_bytes: usize,
    /// Series that found no room.
    refused_total: u64,
    foreign_total: usize,
    tick: u64,
    /// Who makes series now.
    collector: u8,
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

/// Entity and column of series whose end is not told: one that is there again meanwhile has never left.
type Ends = BTreeMap<(u32, u32), SeriesKey>;

#[derive(Clone, Copy, Debug)]
struct KnownColumn {
    index: u32,
    kind: Kind,
    decimals: Decimals,
}

/// What a collector knows a series by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey(u32);

/// Series that must have ended before a new run begins without them: what they take of memory is a few hundred kilobytes,
/// and what the new run's schema takes of the wire is little beside what told of them.
const ENDED_SERIES_MAX: usize = 8_192;

/// Entity and place in the run's schema.
#[derive(Debug)]
struct KnownEntity {
    index: u32,
    /// Columns of its living series.
    living: Vec<(u32, SeriesKey)>,
    /// Whether nobody holds its number: it left, or is looked up by its labels each time.
    left: bool,
}

#[derive(Clone, Copy, Debug)]
struct KnownSeries {
    entity: u32,
    column: u32,
    index: SeriesIndex,
    decimals: Decimals,
    is_foreign: bool,
    lives: bool,
    /// Who made it: others may have series of the same entity, and end their own.
    collector: u8,
    /// The tick of its latest value: a second one in the same tick is a line that came twice.
    tick: u64,
}

impl Default for Samples {
    fn default() -> Self {
        let mut samples = Self {
            schema: Schema::default(),
            change: SchemaChange::default(),
            ending: Ends::new(),
            ended: Ends::new(),
            numbers: HashMap::new(),
            entities: Table::default(),
            columns: HashMap::new(),
            series: Table::default(),
            meanings: Vec::new(),
            values: Vec::new(),
            events: Vec::new(),
            event_bytes: 0,
            refused_total: 0,
            foreign_total: 0,
            tick: 1,
            collector: 0,
        };
        samples.entity(&Labels::new());
        samples
    }
}

impl Samples {
    /// The entity with these labels; made when it is not known yet. The empty set is the host.
    pub fn entity(&mut self, labels: &Labels) -> u32 {
        if let Some(known) = self.numbers.get(labels) {
            if let Some(entity) = self.entities.get_mut(*known) {
                entity.left = false;
            }
            return *known;
        }
        if SERIES_PER_HOST_MAX <= self.meanings.len() {
            return u32::MAX;
        }
        let index = index(self.schema.entities().len() + self.change.entities.len());
        let number = self.entities.insert(KnownEntity { index, living: Vec::new(), left: false });
        self.numbers.insert(labels.clone(), number);
        self.change.entities.push(Entity { labels: labels.clone() });
        number
    }

    /// The series of one metric of an entity; made when it is not living yet. `labels` are those of the column (`mode`,
    /// `cpu`); `job` is the metric's own.
    ///
    /// Past [`SERIES_PER_HOST_MAX`] it returns a key that takes no values, which is counted: who came first stays.
    pub fn series(&mut self, entity: u32, metric: &'static Metric, labels: &Labels) -> SeriesKey {
        let column = self.column(metric.name, labels, || Column {
            metric: metric.name.to_owned(),
            labels: labels.clone().with("job", metric.job),
            kind: metric.kind,
            decimals: metric.decimals,
            peak: metric.peak,
            tier: metric.tier,
        });
        self.living_series(entity, column, false)
    }

    /// The series of a metric that is not in the catalog, sampled once a window, as [`Self::series`]. A name keeps the
    /// kind that it had first.
    ///
    /// Past `FOREIGN_SERIES_MAX` no new one is made.
    pub fn foreign_series(&mut self, labels: &Labels, metric: &Foreign) -> SeriesKey {
        let may_grow = self.foreign_total < FOREIGN_SERIES_MAX;
        let is_known = self.numbers.contains_key(labels) && self.columns.contains_key(&*metric.name);
        if !may_grow && !is_known {
            self.refused_total += 1;
            return SeriesKey(u32::MAX);
        }
        let is_new = !self.numbers.contains_key(labels);
        let entity = self.entity(labels);
        if let Some(entity) = self.entities.get_mut(entity).filter(|_| is_new) {
            entity.left = true;
        }
        let column = self.column(&metric.name, &Labels::new(), || Column {
            metric: metric.name.to_string(),
            labels: Labels::new().with("job", "node"),
            kind: metric.kind,
            decimals: Decimals::FULL,
            peak: false,
            tier: Tier::Window,
        });
        self.living_series(entity, column, true)
    }

    fn living_series(&mut self, number: u32, column: KnownColumn, is_foreign: bool) -> SeriesKey {
        let Some(entity) = self.entities.get_mut(number) else {
            self.refused_total += 1;
            return SeriesKey(u32::MAX);
        };
        if let Some((_, known)) = entity.living.iter().find(|(known, _)| *known == column.index) {
            return *known;
        }
        let place = (number, column.index);
        if let Some(key) = self.ending.remove(&place).or_else(|| self.ended.remove(&place)) {
            if let Some(series) = self.series.get_mut(key.0) {
                (series.lives, series.collector) = (true, self.collector);
            }
            entity.living.push((column.index, key));
            return key;
        }
        let may_grow = !is_foreign || self.foreign_total < FOREIGN_SERIES_MAX;
        if !may_grow || SERIES_PER_HOST_MAX <= self.meanings.len() {
            self.refused_total += 1;
            return SeriesKey(u32::MAX);
        }
        let key = SeriesKey(self.series.insert(KnownSeries {
            entity: number,
            column: column.index,
            index: SeriesIndex(index(self.meanings.len())),
            decimals: column.decimals,
            is_foreign,
            lives: true,
            collector: self.collector,
            tick: 0,
        }));
        entity.living.push((column.index, key));
        self.meanings.push((column.kind, column.decimals));
        self.change.series.push((entity.index, column.index));
        self.foreign_total += usize::from(is_foreign);
        key
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

    /// Ends a series: what it measured is gone. If it comes back behind the window after this one, it is a new series with
    /// the same labels; before that it goes on, so that no window has it twice.
    pub fn end(&mut self, key: SeriesKey) {
        let Some(series) = self.series.get_mut(key.0).filter(|series| series.lives) else { return };
        series.lives = false;
        self.ending.insert((series.entity, series.column), key);
        if let Some(entity) = self.entities.get_mut(series.entity) {
            entity.living.retain(|(_, living)| *living != key);
        }
    }

    /// Whether a series has not ended.
    pub(super) fn is_living(&self, key: SeriesKey) -> bool {
        self.series.get(key.0).is_some_and(|series| series.lives)
    }

    /// Ends all series of an entity that this collector made: to it the container, the device is gone.
    pub fn end_entity(&mut self, number: u32) {
        let Self { entities, series, ending, collector, .. } = self;
        let Some(entity) = entities.get_mut(number) else { return };
        entity.left = true;
        entity.living.retain(|(column, key)| {
            let Some(series) = series.get_mut(key.0).filter(|series| series.collector == *collector) else {
                return true;
            };
            series.lives = false;
            ending.insert((number, *column), *key);
            false
        });
        // Its departure is told for minutes.
        entity.living.shrink_to_fit();
    }

    /// Sets a series' value at this tick, rounded to what the metric means. The first value of a tick stands; a series
    /// that has ended takes none.
    pub fn put(&mut self, key: SeriesKey, value: f64) {
        let Some(series) = self.series.get_mut(key.0) else { return };
        if series.lives && series.tick != self.tick {
            series.tick = self.tick;
            self.values.push((series.index, series.decimals.round(value)));
        }
    }

    /// Sets a series' value from a count that the kernel gives as an integer. Above 2^53 the nearest float is taken, as
    /// everyone's exposition does.
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    pub fn put_count(&mut self, key: SeriesKey, value: u64) {
        self.put(key, value as f64);
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

    /// Says who makes and ends series from here on.
    pub(super) const fn begin_collector(&mut self, collector: u8) {
        self.collector = collector;
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
        self.meanings.get(series.0 as usize).copied()
    }

    /// What happened since the window opened.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.event_bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Makes what was added since the last call, and what had ended before it, the schema's next version, if there is
    /// anything. Called when a window closes, before the next tick is collected.
    pub fn settle(&mut self) -> &Schema {
        let ended = std::mem::replace(&mut self.ended, std::mem::take(&mut self.ending));
        let mut change = std::mem::take(&mut self.change);
        change.ended = ended.values().filter_map(|key| Some(self.series.get(key.0)?.index)).collect();
        change.ended.sort_unstable();
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

    /// Begins a new run if most of what this one has seen is gone and told: what lives stands in its schema, and what it has
    /// to tell the end of. Called behind [`Self::settle`]. Returns where the series of the new run stood in the old one.
    pub fn renew(&mut self) -> Option<Vec<SeriesIndex>> {
        let ended = self.meanings.len() - self.living_total() - self.ending.len() - self.ended.len();
        if ended < ENDED_SERIES_MAX || (ended < self.meanings.len() / 2 && self.meanings.len() < SERIES_PER_HOST_MAX) {
            return None;
        }
        let old = std::mem::take(&mut self.schema);
        let untold: BTreeSet<_> = self.ending.values().chain(self.ended.values()).copied().collect();
        let mut needed = BTreeSet::from([HOST]);
        self.series.retain(|number, series| {
            let stays = series.lives || untold.contains(&SeriesKey(number));
            needed.extend(stays.then_some(series.entity));
            stays
        });
        self.entities.retain(|number, entity| !entity.left || needed.contains(&number));
        self.numbers.retain(|_, number| self.entities.get(*number).is_some());
        self.change = SchemaChange { columns: old.columns().to_vec(), ..SchemaChange::default() };
        let mut kept: Vec<_> = self.entities.iter_mut().map(|(_, entity)| entity).collect();
        kept.sort_unstable_by_key(|entity| entity.index);
        for entity in kept {
            self.change.entities.extend(old.entities().get(entity.index as usize).cloned());
            entity.index = index(self.change.entities.len() - 1);
        }
        let mut kept: Vec<_> = self.series.iter_mut().map(|(_, series)| series).collect();
        kept.sort_unstable_by_key(|series| series.index);
        self.foreign_total = kept.iter().filter(|series| series.is_foreign).count();
        let mut stood = Vec::with_capacity(kept.len());
        for series in kept {
            let entity = self.entities.get(series.entity).map_or(HOST, |entity| entity.index);
            self.change.series.push((entity, series.column));
            stood.push(series.index);
            series.index = SeriesIndex(index(stood.len() - 1));
        }
        self.meanings = stood.iter().filter_map(|series| self.meanings.get(series.0 as usize).copied()).collect();
        Some(stood)
    }

    /// Begins a run for collectors that know nothing of this one. What lives, and what has its end to tell, stands in the new
    /// one, too, and ends there unless it is there again within its first window, but for what is looked at each minute alone.
    /// Called behind [`Self::settle`].
    #[must_use]
    pub fn anew(&mut self) -> Self {
        let mut anew = Self::default();
        let mut names: HashMap<u32, (&str, &Labels)> = HashMap::new();
        for (name, columns) in &self.columns {
            names.extend(columns.iter().map(|(labels, known)| (known.index, (&**name, labels))));
        }
        let untold: BTreeSet<_> = self.ending.values().chain(self.ended.values()).copied().collect();
        let stays = |key: u32, series: &KnownSeries| series.lives || untold.contains(&SeriesKey(key));
        let mut kept: Vec<_> = self.series.iter_mut().filter(|(key, series)| stays(*key, series)).collect();
        kept.sort_unstable_by_key(|(_, series)| series.index);
        for (_, series) in kept {
            let entity = self.entities.get(series.entity).and_then(|of| self.schema.entities().get(of.index as usize));
            let column = self.schema.columns().get(series.column as usize).filter(|column| column.tier != Tier::Minute);
            if let (Some(entity), Some(column), Some(&(name, labels))) = (entity, column, names.get(&series.column)) {
                let number = anew.entity(&entity.labels);
                let column = anew.column(name, labels, || column.clone());
                let key = anew.living_series(number, column, series.is_foreign);
                anew.end(key);
            }
        }
        // Nobody holds their numbers.
        anew.entities.iter_mut().for_each(|(number, entity)| entity.left = number != HOST);
        anew
    }

    /// Whether a series found no room in this run, or none would.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        SERIES_PER_HOST_MAX <= self.meanings.len()
    }

    fn living_total(&mut self) -> usize {
        self.entities.iter_mut().map(|(_, entity)| entity.living.len()).sum()
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
        assert_eq!(living(&mut samples), [named]);
        assert_eq!(living(&mut samples), [""; 0]);
        assert_ne!(samples.series(disk, LOAD1, &Labels::new()), first);
        assert_eq!(living(&mut samples), [named]);
        assert_eq!(samples.settle().version(), 3);
        assert_eq!(samples.schema().series()[first.0 as usize].ended, Some(2));
    }

    #[test]
    fn what_is_not_there_again_in_a_run_that_begins_anew_ends_in_it() {
        let mut samples = Samples::default();
        let [stays, goes, gone] = ["sda", "sdb", "sdc"].map(|name| {
            let disk = samples.entity(&device(name));
            samples.series(disk, LOAD1, &Labels::new())
        });
        assert_eq!(living(&mut samples).len(), 3);
        samples.end(gone);
        samples.settle();
        let mut anew = samples.anew();
        let disk = anew.entity(&device("sda"));
        let again = anew.series(disk, LOAD1, &Labels::new());
        anew.begin_tick();
        [stays, goes, gone, again].into_iter().for_each(|key| anew.put(key, 1.0));
        assert_eq!(anew.values(), [(SeriesIndex(0), 1.0)]);
        let all = ["sda", "sdb", "sdc"].map(|name| format!(r#"node_load1{{device="{name}", job="node"}}"#));
        assert_eq!(living(&mut anew), all, "they stand in the new run");
        assert_eq!(living(&mut anew), all[..1], "and end in it");
        // Nobody holds what is gone: the next run is without it.
        assert_eq!(anew.entities.iter_mut().filter(|(_, entity)| entity.left).count(), 2);
    }

    #[test]
    fn what_is_looked_at_each_minute_does_not_end_in_a_run_that_begins_anew() {
        let minutely = metric("machine_cpu_cores");
        let mut samples = Samples::default();
        samples.series(HOST, minutely, &Labels::new());
        assert_eq!(living(&mut samples).len(), 1);
        let mut anew = samples.anew();
        // It is there again within a minute, and until then it is what it was.
        assert_eq!(living(&mut anew), [""; 0]);
        living(&mut anew);
        assert_eq!(anew.schema().series(), []);
    }

    #[test]
    fn a_series_that_is_back_before_its_end_is_told_goes_on() {
        for windows in 0..2 {
            let mut samples = Samples::default();
            let disk = samples.entity(&device("sda"));
            let first = samples.series(disk, LOAD1, &Labels::new());
            samples.settle();
            for end in [
                |samples: &mut Samples, _, key| samples.end(key),
                |samples: &mut Samples, disk, _| {
                    samples.end_entity(disk);
                },
            ] {
                end(&mut samples, disk, first);
                (0..windows).for_each(|_| drop(samples.settle().clone()));
                assert_eq!(samples.series(disk, LOAD1, &Labels::new()), first);
                samples.put(first, 1.0);
                assert_eq!(samples.values(), [(SeriesIndex(0), 1.0)]);
            }
            for _ in 0..3 {
                assert_eq!(living(&mut samples), [r#"node_load1{device="sda", job="node"}"#]);
            }
            assert_eq!(samples.settle().version(), 1, "nothing is to be told");
        }
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
    fn a_series_that_has_ended_takes_no_value() {
        let mut samples = Samples::default();
        let load = samples.series(HOST, LOAD1, &Labels::new());
        samples.end(load);
        samples.put(load, 1.0);
        assert_eq!(samples.values(), []);
    }

    #[test]
    fn a_line_that_comes_twice_counts_once_and_values_are_rounded() {
        let mut samples = Samples::default();
        let load = samples.series(HOST, LOAD1, &Labels::new());
        for value in [0.123_456, 9.0] {
            samples.put(load, value);
        }
        assert_eq!(samples.values(), [(SeriesIndex(0), 0.12)]);
        samples.begin_tick();
        assert_eq!(samples.values(), []);
        samples.put_count(load, 3);
        assert_eq!(samples.values(), [(SeriesIndex(0), 3.0)]);
    }

    #[test]
    fn past_the_limit_a_series_takes_no_values_until_a_new_run_has_room() {
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
        let (gone, last) = disks[..ENDED_SERIES_MAX].split_at(ENDED_SERIES_MAX - 1);
        gone.iter().for_each(|disk| samples.end_entity(*disk));
        assert_eq!(samples.renew(), None);
        samples.end_entity(last[0]);
        (0..2).for_each(|_| drop(samples.settle().clone()));
        assert_eq!(samples.renew().map(|stood| stood.len()), Some(SERIES_PER_HOST_MAX - ENDED_SERIES_MAX));
        let late = samples.entity(&device("late"));
        let late = samples.series(late, LOAD1, &Labels::new());
        samples.put(late, 1.0);
        assert_eq!(samples.values(), [(SeriesIndex(index(SERIES_PER_HOST_MAX - ENDED_SERIES_MAX)), 1.0)]);
    }

    #[test]
    fn a_new_run_has_what_lives_and_keys_go_on() {
        let mut samples = Samples::default();
        let kept = samples.entity(&device("kept"));
        let gone = samples.entity(&device("gone"));
        let silent = samples.entity(&device("silent"));
        let ended = samples.series(gone, LOAD1, &Labels::new());
        let first = samples.series(kept, LOAD5, &Labels::new());
        let mut stood = vec![SeriesIndex(1)];
        samples.settle();
        for _ in 0..ENDED_SERIES_MAX {
            assert_eq!(samples.renew(), None);
            samples.end_entity(gone);
            samples.settle();
            samples.settle();
            samples.series(gone, LOAD1, &Labels::new());
            samples.settle();
        }
        samples.end_entity(gone);
        (0..2).for_each(|_| drop(samples.settle().clone()));
        assert_eq!(samples.renew(), Some(std::mem::take(&mut stood)));
        for key in [ended, first] {
            samples.put(key, 1.0);
            samples.end(ended);
        }
        assert_eq!(samples.values(), [(SeriesIndex(0), 1.0)]);
        let late = samples.series(silent, LOAD1, &Labels::new());
        assert!(samples.is_living(late) && !samples.is_living(ended));
        assert_eq!(samples.series(gone, LOAD1, &Labels::new()), SeriesKey(u32::MAX), "nobody is called so");
        assert_ne!(samples.entity(&device("gone")), gone);
        let expect = [r#"node_load5{device="kept", job="node"}"#, r#"node_load1{device="silent", job="node"}"#];
        assert_eq!(living(&mut samples), expect);
        assert_eq!(samples.schema().version(), 1);
        assert_eq!(samples.meaning(SeriesIndex(1)), Some((LOAD1.kind, LOAD1.decimals)));
    }

    #[test]
    fn a_new_run_tells_the_ends_that_the_one_before_did_not() {
        let check = |is_back: bool, expect: &[&str]| {
            let mut samples = Samples::default();
            let kept = samples.entity(&device("kept"));
            samples.series(kept, LOAD1, &Labels::new());
            let last = samples.entity(&device("last"));
            for number in 0..ENDED_SERIES_MAX {
                let gone = samples.entity(&device(&number.to_string()));
                samples.series(gone, LOAD1, &Labels::new());
                samples.end_entity(gone);
            }
            samples.settle();
            let key = samples.series(last, LOAD1, &Labels::new());
            samples.end_entity(last);
            assert_eq!(samples.renew(), None, "there is nothing that the aggregator knows to be gone");
            samples.settle();
            assert_eq!(samples.renew().map(|stood| stood.len()), Some(2));
            if is_back {
                assert_eq!(samples.series(last, LOAD1, &Labels::new()), key);
            }
            let schema = samples.settle();
            let ended = (0..).zip(schema.series()).filter(|(_, series)| series.ended.is_some());
            let ended = ended.filter_map(|(index, _)| schema.labels(SeriesIndex(index))).map(|it| it.to_string());
            assert_eq!(ended.collect::<Vec<_>>(), expect);
        };
        check(false, &[r#"node_load1{device="last", job="node"}"#]);
        check(true, &[]);
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
