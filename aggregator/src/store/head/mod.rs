//! The latest windows of all hosts, compressed, in memory. Rebuilt from the log at start.
//!
//! A lock a host, held for one append or for reading one host's part of an answer, never while the disk works.

mod block;
mod column;
mod columns;
mod first;
mod host;
mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use common::batch::{Batch, Event, HostId, RunId};
use common::metric::{Labels, NAME};
use common::schema::{Schema, SchemaChange, SchemaError};
use common::time::{TimeRange, Timestamp};
use common::window::Window;

use crate::store::commit::Written;
use crate::store::head::block::Detail;
use crate::store::head::block::Entry;
use crate::store::head::block::Shape;
use crate::store::head::columns::Columns;
use crate::store::head::first::First;
use crate::store::head::host::Found;
use crate::store::head::host::Host;
use crate::store::select::Field;
use crate::store::select::Matcher;
use crate::store::select::STALE;
use crate::store::select::SelectError;
use crate::store::select::Selected;
use crate::store::select::Spend;

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Head {
    hosts: RwLock<BTreeMap<HostId, Arc<RwLock<Host>>>>,
    columns: RwLock<Columns>,
}

/// What appending did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Appended {
    pub(super) samples: u64,
    /// Samples that took the place of one with the same stamp.
    pub(super) replaced: u64,
}

impl Head {
    /// Makes the next version of a run's schema.
    pub(super) fn apply(
        &self,
        (host, run): (HostId, RunId),
        change: &SchemaChange,
        now: Timestamp,
    ) -> Result<(), SchemaError> {
        write(&self.host(host)).apply(run, change, now)
    }

    /// Forgets the versions of a run's schema behind `version`.
    pub(super) fn truncate(&self, (host, run): (HostId, RunId), version: u32) {
        write(&self.host(host)).truncate(run, version);
    }

    /// Lets `look` see the schema of a run.
    pub(super) fn with_schema<T>(&self, host: HostId, run: RunId, look: impl FnOnce(&Schema) -> T) -> Option<T> {
        let host = self.known(host)?;
        let host = read(&host);
        host.schema(run).map(look)
    }

    /// Appends one window of a host.
    pub(super) fn append(&self, (host, run): (HostId, RunId), version: u32, batch: &Batch) -> Appended {
        write(&self.host(host)).append(run, version, batch, &self.columns)
    }

    /// Appends samples of series that come with their whole label sets.
    pub(super) fn append_written(&self, origin: HostId, series: &[Written]) -> Appended {
        let host = self.host(origin);
        let mut host = write(&host);
        series.iter().filter(|written| !written.samples.is_empty()).fold(Appended::default(), |sum, written| {
            let one = host.append_written(written, &self.columns);
            Appended { samples: sum.samples + one.samples, replaced: sum.replaced + one.replaced }
        })
    }

    /// Labels that a host's series have from here on.
    pub(super) fn set_labels(&self, host: HostId, labels: &Labels) {
        write(&self.host(host)).set_labels(labels);
    }

    /// Whether an origin has samples of a series.
    pub(super) fn has(&self, origin: HostId, labels: &Labels) -> bool {
        let column = read(&self.columns).written(labels.get(NAME));
        let host = self.known(origin);
        column.zip(host).is_some_and(|(column, host)| read(&host).has(column, labels))
    }

    /// Notes an event.
    pub(super) fn push_event(&self, host: HostId, event: Event) {
        write(&self.host(host)).push_event(event);
    }

    /// Events in `range`, oldest first, of one host or of all.
    pub(super) fn events(&self, host: Option<HostId>, range: TimeRange) -> Vec<(HostId, Event)> {
        let mut events = Vec::new();
        for (id, one) in self.all().into_iter().filter(|(id, _)| host.is_none_or(|host| host == *id)) {
            events.extend(read(&one).events(range).map(|event| (id, event.clone())));
        }
        events.sort_by_key(|(_, event)| event.at);
        events
    }

    /// The end of a host's latest window.
    pub(super) fn last_stamp(&self, host: HostId) -> Option<Timestamp> {
        read(&*self.known(host)?).last_stamp()
    }

    /// Forgets a host, and the series of the aggregator itself that name it.
    pub(super) fn forget(&self, host: HostId, instance: &str) {
        write(&self.hosts).remove(&host);
        if let Some(own) = self.known(HostId::AGGREGATOR) {
            write(&own).forget(|labels| labels.get("instance") == instance);
        }
    }

    /// Number of series, and bytes of their windows.
    pub(super) fn size(&self) -> (u64, u64) {
        let sizes = self.all().into_iter().map(|(_, host)| read(&host).size());
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Drops what is not after `cutoff`.
    pub(super) fn drop_through(&self, cutoff: Timestamp) {
        self.all().into_iter().for_each(|(_, host)| write(&host).drop_through(cutoff));
    }

    /// Runs that were last used at or before `cutoff`.
    pub(super) fn runs_unused_since(&self, cutoff: Timestamp) -> Vec<(HostId, RunId)> {
        let unused = |(id, host): (HostId, Arc<RwLock<Host>>)| {
            read(&host).runs_unused_since(cutoff).into_iter().map(move |run| (id, run))
        };
        self.all().into_iter().flat_map(unused).collect()
    }

    /// Forgets a run; its samples stay.
    pub(super) fn forget_run(&self, host: HostId, run: RunId) {
        write(&self.host(host)).forget_run(run);
    }

    /// Series that match, with their samples in `range`.
    pub(super) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        fields: &[Field],
        samples_max: usize,
    ) -> Result<Vec<Selected>, SelectError> {
        let mut answer = Vec::new();
        let mut samples = 0;
        self.each(matchers, |found| {
            let selected = selected(found, range, fields);
            samples += selected.stamps.len();
            if !selected.stamps.is_empty() {
                answer.push(Selected { labels: found.labels(), ..selected });
            }
            if samples <= samples_max { Ok(()) } else { Err(SelectError::TooManySamples { limit: samples_max }) }
        })?;
        Ok(answer)
    }

    /// Gives series that match, with their samples in `range`, host by host: no host is locked while they are given.
    pub(super) fn select_each<E: From<SelectError>>(
        &self,
        (matchers, range, fields): (&[Matcher], TimeRange, &[Field]),
        samples_max: usize,
        give: &mut dyn FnMut(Selected) -> Result<(), E>,
    ) -> Result<(), E> {
        let candidates = read(&self.columns).candidates(matchers);
        for (_, host) in self.all() {
            let mut of_host = Vec::new();
            let mut samples = 0;
            for found in read(&host).find(&candidates) {
                let selected = selected(&found, range, fields);
                samples += selected.stamps.len();
                if samples_max < samples {
                    return Err(SelectError::TooManySamples { limit: samples_max }.into());
                }
                if !selected.stamps.is_empty() {
                    of_host.push(Selected { labels: found.labels(), ..selected });
                }
            }
            of_host.into_iter().try_for_each(&mut *give)?;
        }
        Ok(())
    }

    /// Label sets of the series that match and have a sample in `range`, sorted, the first `limit` of them.
    pub(super) fn series<E>(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Labels>, E> {
        let mut answer = First::new(limit);
        self.each_in(matchers, range, spend, |found| answer.push_new(found.labels()))?;
        Ok(answer.into_sorted())
    }

    /// Names of their labels.
    pub(super) fn label_names<E>(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Arc<str>>, E> {
        let mut answer = First::<Arc<str>>::new(limit);
        let names = |found: &Found<'_>| found.labels().iter().map(|(name, _)| answer.push(name)).sum();
        self.each_in(matchers, range, spend, names)?;
        Ok(answer.into_sorted())
    }

    /// Values of one of their labels.
    pub(super) fn label_values<E>(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Arc<str>>, E> {
        let mut answer = First::<Arc<str>>::new(limit);
        self.each_in(matchers, range, spend, |found| match found.label(name) {
            "" => 0,
            value => answer.push(value),
        })?;
        Ok(answer.into_sorted())
    }

    /// Gives those of the series that match and have a sample in `range` to somebody who says how many answers more that
    /// makes.
    fn each_in<E>(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        spend: Spend<'_, E>,
        mut give: impl FnMut(&Found<'_>) -> usize,
    ) -> Result<(), E> {
        self.each(matchers, |found| spend(if found.series().touches(range) { give(found) } else { 0 }))
    }

    fn each<E>(&self, matchers: &[Matcher], mut give: impl FnMut(&Found<'_>) -> Result<(), E>) -> Result<(), E> {
        let candidates = read(&self.columns).candidates(matchers);
        for (_, host) in self.all() {
            let host = read(&host);
            for found in host.find(&candidates) {
                give(&found)?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<(HostId, Arc<RwLock<Host>>)> {
        read(&self.hosts).iter().map(|(id, host)| (*id, Arc::clone(host))).collect()
    }

    fn known(&self, host: HostId) -> Option<Arc<RwLock<Host>>> {
        read(&self.hosts).get(&host).map(Arc::clone)
    }

    fn host(&self, host: HostId) -> Arc<RwLock<Host>> {
        self.known(host).unwrap_or_else(|| Arc::clone(write(&self.hosts).entry(host).or_default()))
    }
}

/// The samples of one series, its labels left out.
fn selected(found: &Found<'_>, range: TimeRange, fields: &[Field]) -> Selected {
    let shape = found.column().shape;
    let last_only = fields.iter().all(|field| *field == Field::Last);
    let mut stamps = Vec::new();
    let mut columns = vec![Vec::new(); fields.len()];
    let detail = if last_only { Detail::Last } else { Detail::Full };
    found.series().each(shape, range, detail, |entry| {
        stamps.push(entry.stamp);
        for (column, field) in columns.iter_mut().zip(fields) {
            column.push(value(entry, *field, shape));
        }
    });
    Selected { labels: Labels::new(), kind: shape.kind, stamps, columns }
}

/// One field of an entry. A mark reads as a mark in all of them.
fn value(entry: Entry, field: Field, shape: Shape) -> f64 {
    let Some(window) = entry.window else {
        return f64::from_bits(STALE);
    };
    match (window, field) {
        (_, Field::Count) => f64::from(window.count()),
        (Window::Counter(counter), Field::Peak) if shape.peak => counter.peak,
        (_, Field::Peak) => f64::NAN,
        (Window::Gauge(gauge), Field::Min) => gauge.min,
        (Window::Gauge(gauge), Field::Max) => gauge.max,
        (Window::Gauge(gauge), Field::Sum) => gauge.sum,
        (Window::Counter(counter), Field::Increase) => counter.increase,
        (Window::Gauge(_), Field::Last | Field::Increase)
        | (Window::Counter(_), Field::Last | Field::Min | Field::Max | Field::Sum) => window.last(),
    }
}

/// A panic elsewhere is that thread's own end; what it left is whole between two calls.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
