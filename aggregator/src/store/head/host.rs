//! One host in the head: its labels, its entities and its series, each numbered and kept once.

mod append;
mod find;
mod leave;
mod schemas;
mod sealing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use common::batch::{Event, RunId};
use common::metric::{Labels, NAME};
use common::schema::{Schema, SchemaChange};
use common::time::{TimeRange, Timestamp};
use common::window::{Gauge, Window};

use crate::store::catalog::series::LabelSets;
use crate::store::catalog::series::Life;
use crate::store::chunk::Entry;
use crate::store::commit::Written;
use crate::store::head::Appended;
use crate::store::head::columns::Column;
use crate::store::head::columns::ColumnId;
use crate::store::head::columns::Columns;
pub(in crate::store) use crate::store::head::host::find::Address;
pub(super) use crate::store::head::host::find::Found;
pub(in crate::store) use crate::store::head::host::leave::Absent;
pub(in crate::store) use crate::store::head::host::schemas::NotApplied;
use crate::store::head::host::schemas::SCHEMA_BYTES_MAX;
pub(in crate::store) use crate::store::head::host::sealing::Applied;
pub(in crate::store) use crate::store::head::host::sealing::Frozen;
use crate::store::head::postings::Postings;
use crate::store::head::read;
use crate::store::head::series::Series;
use crate::store::head::write;
use crate::store::room::Limit;
use crate::store::room::Refusals;
use crate::store::room::Seat;
use crate::store::room::refuse;

/// Events kept of one host: a day of one every ten seconds. Older ones go first.
const EVENTS_PER_HOST_MAX: usize = 8_640;

/// How long after its latest window a series is marked as ended, because its agent says so or its host has other labels:
/// one that was silent for longer ended by that.
const MARKED_WITHIN: Duration = Duration::from_secs(3_600);

/// What a series is: its column, its entity, and the labels that the host had when it began.
type Key = (ColumnId, u32, u32);

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    /// All label sets that the host had while one of its series began.
    labels: Vec<Labels>,
    /// The one it has.
    current: u32,
    entities: Vec<Labels>,
    entity_ids: HashMap<Labels, u32>,
    postings: Postings,
    series: Vec<Slot>,
    /// The place of each, by its number.
    places: HashMap<u32, u32>,
    next_number: u32,
    index: BTreeMap<Key, u32>,
    /// The place of the series that began last, of each entity.
    begun: Vec<u32>,
    runs: HashMap<RunId, Run>,
    events: VecDeque<Event>,
    /// Events that are being sealed.
    frozen_events: Vec<Event>,
    /// How much of its log is in here or in block files.
    applied: Applied,
    /// Up to where it was sealed.
    cut: Timestamp,
    /// Whether series that have earlier labels are to be marked as ended by the next batch.
    relabelled: bool,
    last_stamp: Option<Timestamp>,
    /// The latest stamp of the series that block files alone have, if there may be any.
    ended: Option<Timestamp>,
    /// Times that one of those came back.
    recalled: u64,
    /// Samples for whose series there was no room.
    refused: Refusals,
}

#[derive(Debug)]
struct Slot {
    /// What block files call it.
    number: u32,
    key: Key,
    column: Arc<Column>,
    series: Series,
    _seat: Seat,
    /// As the catalog has it; not at all until it is to be in a block file.
    recorded: Option<Life>,
    /// The latest stamp that is in a block file, and whether it marks the end there.
    sealed: Option<(Timestamp, bool)>,
}

/// One run of the host's agent.
#[derive(Debug)]
struct Run {
    schema: Schema,
    /// About what that takes in memory.
    bytes: usize,
    /// Where each series of the schema is; those that had no sample yet are nowhere.
    places: Vec<Option<u32>>,
    /// The version whose ended series are marked.
    marked: u32,
    used: Timestamp,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            labels: vec![Labels::new()],
            current: 0,
            entities: Vec::new(),
            entity_ids: HashMap::new(),
            postings: Postings::default(),
            series: Vec::new(),
            places: HashMap::new(),
            next_number: 0,
            index: BTreeMap::new(),
            begun: Vec::new(),
            runs: HashMap::new(),
            events: VecDeque::new(),
            frozen_events: Vec::new(),
            applied: Applied::default(),
            cut: Timestamp::from_millis(i64::MIN),
            relabelled: false,
            last_stamp: None,
            ended: None,
            recalled: 0,
            refused: Refusals::new(),
        }
    }
}

impl Host {
    /// The labels it has.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels[self.current as usize]
    }

    /// New labels begin new series; the old ones end with the next batch.
    pub(super) fn set_labels(&mut self, labels: &Labels) {
        if self.labels() == labels {
            return;
        }
        self.current = intern(&mut self.labels, labels);
        self.relabelled = true;
        for run in self.runs.values_mut() {
            run.places.fill(None);
        }
    }

    /// The schema of a run, as far as it is known.
    pub(super) fn schema(&self, run: RunId) -> Option<&Schema> {
        self.runs.get(&run).map(|run| &run.schema)
    }

    /// Makes the next version of a run's schema.
    pub(super) fn apply(&mut self, run: RunId, change: &SchemaChange, now: Timestamp) -> Result<(), NotApplied> {
        let bytes = schemas::bytes(change);
        if SCHEMA_BYTES_MAX < self.runs.values().map(|run| run.bytes).fold(bytes, usize::saturating_add) {
            return Err(NotApplied::TooManyBytes);
        }
        let fresh = || Run { schema: Schema::default(), bytes: 0, places: Vec::new(), marked: 0, used: now };
        let run = self.runs.entry(run).or_insert_with(fresh);
        run.used = run.used.max(now);
        run.schema.apply(change)?;
        run.bytes += bytes;
        Ok(())
    }

    /// Forgets the versions of a run's schema behind `version`: they were not stored.
    pub(super) fn truncate(&mut self, run: RunId, version: u32) {
        let Some(run) = self.runs.get_mut(&run) else {
            return;
        };
        let (mut schema, mut bytes) = (Schema::default(), 0);
        for change in run.schema.changes_since(0).take(version as usize) {
            // Each of them was applied to the same schema before.
            drop(schema.apply(&change));
            bytes += schemas::bytes(&change);
        }
        run.places.truncate(schema.series().len());
        (run.schema, run.bytes) = (schema, bytes);
    }

    /// Appends samples of a series whose whole label set is given.
    pub(super) fn append_written(&mut self, written: &Written, columns: &RwLock<Columns>) -> Appended {
        let Written { labels, samples } = written;
        let column = write(columns).intern_written(labels.get(NAME));
        let entity = self.entity(&without_name(labels));
        let Some(place) = self.intern((column, entity, self.current), columns) else {
            return Appended::default();
        };
        self.last_stamp = self.last_stamp.max(samples.iter().map(|(stamp, _)| *stamp).max());
        let window = |value: f64| Window::Gauge(Gauge::of(value));
        let entries = samples.iter().map(|(stamp, value)| Entry { stamp: *stamp, window: value.map(window) });
        self.append_to(place, &entries.collect::<Vec<_>>())
    }

    fn append_to(&mut self, place: u32, entries: &[Entry]) -> Appended {
        let late = entries.iter().filter(|entry| entry.stamp <= self.cut).count() as u64;
        let replaced = self.series[place as usize].append(entries);
        Appended { samples: entries.len() as u64, late, replaced }
    }

    /// Samples for whose series there was no room.
    pub(super) const fn refused(&self) -> &Refusals {
        &self.refused
    }

    /// Whether there are samples of a series whose whole label set is given.
    pub(super) fn has(&self, column: ColumnId, labels: &Labels) -> bool {
        let entity = self.entity_ids.get(&without_name(labels));
        let place = entity.and_then(|entity| self.index.get(&(column, *entity, self.current)));
        place.is_some_and(|place| !self.series[*place as usize].series.is_empty())
    }

    /// Notes an event.
    pub(super) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
        if EVENTS_PER_HOST_MAX < self.events.len() {
            self.events.pop_front();
        }
    }

    /// Events in `range`, in the order in which they came.
    pub(super) fn events(&self, range: TimeRange) -> impl Iterator<Item = &Event> {
        self.frozen_events.iter().chain(&self.events).filter(move |event| range.contains(event.at))
    }

    /// The end of its latest window.
    pub(super) const fn last_stamp(&self) -> Option<Timestamp> {
        self.last_stamp
    }

    /// Number of series, and bytes of their windows.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes: usize = self.series.iter().map(|slot| slot.series.bytes()).sum();
        (self.series.len() as u64, bytes as u64)
    }

    /// Drops what is not after `cutoff`, and the series that nothing is left of: neither here, nor in block files, where
    /// those are that did not end before `ended`.
    pub(super) fn drop_through(&mut self, cutoff: Timestamp, ended: Timestamp) {
        for slot in &mut self.series {
            slot.series.drop_through(slot.column.shape, cutoff);
            slot.recorded.take_if(|life| life.last.is_some_and(|last| last <= ended));
        }
        self.events.retain(|event| cutoff < event.at);
        let empty = self.series.iter().filter(|slot| slot.is_gone()).count();
        if self.series.len() < 4 * empty {
            self.retain(|slot| !slot.is_gone());
        }
    }

    /// Forgets the series of some entities.
    pub(super) fn forget(&mut self, gone: impl Fn(&Labels) -> bool) {
        for slot in &mut self.series {
            let (_, entity, _) = slot.key;
            if gone(&self.entities[entity as usize]) {
                slot.series = Series::default();
                (slot.recorded, slot.sealed) = (None, None);
            }
        }
        self.retain(|slot| !slot.is_gone());
    }

    /// Runs that were last used at or before `cutoff`.
    pub(super) fn runs_unused_since(&self, cutoff: Timestamp) -> Vec<RunId> {
        self.runs.iter().filter(|(_, run)| run.used <= cutoff).map(|(id, _)| *id).collect()
    }

    /// Forgets a run; its samples stay.
    pub(super) fn forget_run(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// Leaves some of its series, and of labels and entities what they need.
    fn retain(&mut self, stays: impl Fn(&Slot) -> bool) {
        let slots = std::mem::take(&mut self.series);
        let entities = std::mem::take(&mut self.entities);
        let labels = std::mem::take(&mut self.labels);
        let current = labels[self.current as usize].clone();
        self.entity_ids.clear();
        self.postings.clear();
        self.index.clear();
        self.begun.clear();
        self.places.clear();
        self.current = intern(&mut self.labels, &current);
        for slot in slots.into_iter().filter(stays) {
            let (column, entity, had) = slot.key;
            let key =
                (column, self.entity(&entities[entity as usize]), intern(&mut self.labels, &labels[had as usize]));
            self.push(Slot { key, ..slot });
        }
        self.runs.values_mut().for_each(|run| run.places.fill(None));
    }

    /// Counts samples for whose series there is no room, and says so when they are the first.
    fn refuse(&mut self, limit: Limit, samples: u64, sets: &LabelSets) {
        let example = || sets.whole().to_string();
        if refuse(&mut self.refused, limit, samples, example) {
            let (series, host) = (example(), self.labels().get("instance"));
            tracing::warn!(%limit, series, host, "no room for more series: top-series shows what there is most of");
        }
    }

    fn entity(&mut self, labels: &Labels) -> u32 {
        if let Some(id) = self.entity_ids.get(labels) {
            return *id;
        }
        let id = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
        self.entities.push(labels.clone());
        self.entity_ids.insert(labels.clone(), id);
        self.postings.insert(id, labels);
        id
    }

    fn intern(&mut self, key: Key, columns: &RwLock<Columns>) -> Option<u32> {
        if let Some(place) = self.index.get(&key) {
            return Some(*place);
        }
        let column = Arc::clone(read(columns).get(key.0)?);
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let _seat = read(columns).seat(&column);
        Some(self.push(Slot { number, key, column, series: Series::default(), _seat, recorded: None, sealed: None }))
    }

    /// Gives a series its place.
    fn push(&mut self, slot: Slot) -> u32 {
        let place = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        self.index.insert(slot.key, place);
        self.places.insert(slot.number, place);
        self.begun.resize(self.entities.len(), place);
        self.begun[slot.key.1 as usize] = place;
        if self.series.len() == self.series.capacity() {
            // By an eighth: what is doubled stands half empty on a host whose series are all there from the first.
            self.series.reserve_exact(self.series.len() / 8 + 16);
        }
        self.series.push(slot);
        place
    }

    /// One of its series.
    fn numbered(&mut self, number: u32) -> Option<&mut Slot> {
        self.series.get_mut(*self.places.get(&number)? as usize)
    }
}

impl Slot {
    /// Whether nothing is left of it, here or in block files.
    fn is_gone(&self) -> bool {
        self.recorded.is_none() && self.series.is_empty()
    }

    fn append(&mut self, entries: &[Entry]) -> u64 {
        self.series.append(self.column.shape, entries)
    }
}

/// The place of these labels in a list, at whose end they are put if they are not in it.
fn intern(list: &mut Vec<Labels>, labels: &Labels) -> u32 {
    let at = list.iter().position(|have| have == labels).unwrap_or_else(|| {
        list.push(labels.clone());
        list.len() - 1
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn without_name(labels: &Labels) -> Labels {
    let mut rest = labels.clone();
    rest.retain(|name| name != NAME);
    rest
}

#[cfg(test)]
mod tests {
    use common::schema;

    use super::*;

    #[test]
    fn schemas_without_end_take_no_memory() {
        let labels = Labels::new().with("name", "x".repeat(4 << 20));
        let change = |version| SchemaChange {
            version,
            entities: vec![schema::Entity { labels: labels.clone() }],
            ..SchemaChange::default()
        };
        let mut host = Host::default();
        let mut applied = 0;
        // Versions of one run, and runs of one version.
        for number in 0..100_u8 {
            let (run, version) = if number < 20 { (0, u32::from(number) + 1) } else { (number, 1) };
            applied += usize::from(host.apply(RunId([run; 16]), &change(version), Timestamp::default()).is_ok());
        }
        assert!((60..=64).contains(&applied), "{applied}");
        host.truncate(RunId([0; 16]), 10);
        host.apply(RunId([0; 16]), &change(11), Timestamp::default()).unwrap();
        // What goes makes room.
        host.forget_run(RunId([0; 16]));
        host.apply(RunId([200; 16]), &change(1), Timestamp::default()).unwrap();
    }
}
