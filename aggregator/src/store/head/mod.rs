//! The latest windows of all hosts, compressed, in memory. Rebuilt from the log at start.
//!
//! A lock a host, held for one append or for reading one host's part of an answer, never while the disk works.

mod changed;
pub(super) mod columns;
pub(super) mod host;
pub(super) mod lookup;
mod postings;
mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use common::batch::{Batch, Event, HostId, RunId};
use common::metric::{Kind, Labels, NAME};
use common::schema::{Schema, SchemaChange};
use common::time::{TimeRange, Timestamp};

use crate::store::catalog::Sealed;
use crate::store::catalog::series::Identity;
use crate::store::catalog::series::Life;
use crate::store::commit::Written;
use crate::store::head::changed::Changed;
use crate::store::head::columns::Candidate;
use crate::store::head::columns::Columns;
use crate::store::head::host::Absent;
use crate::store::head::host::Address;
use crate::store::head::host::Frozen;
use crate::store::head::host::Host;
use crate::store::head::host::NotApplied;
use crate::store::head::lookup::When;
use crate::store::pile::Pile;
use crate::store::room::Limits;
use crate::store::room::Refusals;
use crate::store::room::refuse;
use crate::store::select::Levels;
use crate::store::select::Matcher;

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Head {
    hosts: RwLock<BTreeMap<HostId, Arc<RwLock<Host>>>>,
    columns: RwLock<Columns>,
    changed: Changed,
}

/// What the head has of the series of a host that match.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) series: Vec<Address>,
    /// The latest stamp of the series that block files alone have, if there may be any.
    pub(super) ended: Option<Timestamp>,
    /// How many of those had come back.
    pub(super) recalled: u64,
}

/// What appending did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Appended {
    pub(super) samples: u64,
    /// Samples that took the place of one with the same stamp.
    pub(super) replaced: u64,
    /// Samples of a time that is sealed already.
    pub(super) late: u64,
}

impl Appended {
    /// Adds what more of it did.
    const fn join(&mut self, other: Self) {
        let Self { samples, replaced, late } = other;
        self.samples += samples;
        self.replaced += replaced;
        self.late += late;
    }
}

impl Head {
    pub(super) fn new(limits: Limits) -> Self {
        Self { columns: RwLock::new(Columns::new(limits)), ..Self::default() }
    }

    /// Leaves of some series of an origin those that there is room for. Answers what was refused.
    pub(super) fn admit(&self, origin: HostId, series: &mut Vec<Written>) -> Refusals {
        let host = self.host(origin);
        let mut host = write(&host);
        let mut refused = Refusals::new();
        series.retain(|written| {
            let admitted = host.admit(written, &self.columns);
            if let Err(limit) = admitted {
                refuse(&mut refused, limit, written.samples.len() as u64, || written.labels.to_string());
            }
            admitted.is_ok()
        });
        refused
    }

    /// Samples for whose series there was no room, of each host.
    pub(super) fn refused(&self) -> Vec<(HostId, Refusals)> {
        let refused = self.all().into_iter().map(|(id, host)| (id, read(&host).refused().clone()));
        refused.filter(|(_, refused)| !refused.is_empty()).collect()
    }

    /// Makes the next version of a run's schema.
    pub(super) fn apply(
        &self,
        (host, run): (HostId, RunId),
        change: &SchemaChange,
        now: Timestamp,
    ) -> Result<(), NotApplied> {
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

    /// What was sealed before the start: of a host, and then each of its series.
    pub(super) fn resume(&self, host: HostId, sealed: &Sealed) {
        write(&self.host(host)).resume(sealed);
    }

    /// A series that block files have; one that goes on was there until `latest`.
    pub(super) fn recall(&self, host: HostId, identity: Identity, latest: Timestamp) {
        write(&self.host(host)).recall(identity, latest, &self.columns);
    }

    /// The series that batches are about and that are not here.
    pub(super) fn absent(&self, (host, run): (HostId, RunId), version: u32, rows: &[(i64, Batch)]) -> Absent {
        self.known(host).map(|host| read(&host).absent((run, version), rows, &self.columns)).unwrap_or_default()
    }

    /// The same of series that come with their whole label sets.
    pub(super) fn absent_written(&self, origin: HostId, series: &[Written]) -> Absent {
        read(&self.host(origin)).absent_written(series, &self.columns)
    }

    /// The same of series of earlier labels, which a window that block files have may mark.
    pub(super) fn absent_earlier(&self, host: HostId, stamp: Timestamp) -> Absent {
        self.known(host).map(|host| read(&host).absent_earlier(stamp)).unwrap_or_default()
    }

    /// Whether a series has something that no block file has.
    pub(super) fn has_more(&self, (host, number): (HostId, u32)) -> bool {
        self.known(host).is_some_and(|host| read(&host).has_more(number))
    }

    /// Lets go of series that block files have nothing of any more, ascending, but for those that go on; and says that what
    /// was answered before may not be right any more.
    pub(super) fn remove(&self, gone: &[(HostId, u32)]) {
        for of_host in gone.chunk_by(|(left, _), (right, _)| left == right) {
            let numbers: Vec<u32> = of_host.iter().map(|(_, number)| *number).collect();
            if let Some(host) = self.known(of_host[0].0) {
                write(&host).remove(&numbers);
            }
        }
        self.changed.note_all();
    }

    /// Lets go of the series that ended and are in block files alone.
    pub(super) fn let_go(&self) {
        self.all().into_iter().for_each(|(_, host)| write(&host).let_go());
    }

    /// Appends windows of a host, each of which is a row of its log.
    pub(super) fn append(&self, (host, run): (HostId, RunId), version: u32, rows: &[(i64, Batch)]) -> Appended {
        let host = self.host(host);
        let mut locked = write(&host);
        rows.iter().for_each(|(row, _)| locked.note_row(*row));
        let appended = locked.append((run, version), rows, &self.columns);
        drop(locked);
        self.changed.note(rows.iter().map(|(_, batch)| batch.stamp));
        appended
    }

    /// Takes in what appending a window does besides its samples and events: block files have those.
    pub(super) fn pass(&self, (host, run): (HostId, RunId), version: u32, stamp: Timestamp) {
        write(&self.host(host)).pass(run, version, stamp);
    }

    /// Appends samples of series that come with their whole label sets; the last row of the origin's log that they are in.
    pub(super) fn append_written(&self, origin: HostId, (row, series): (i64, &[Written])) -> Appended {
        let host = self.host(origin);
        let mut locked = write(&host);
        locked.note_row(row);
        let series = || series.iter().filter(|written| !written.samples.is_empty());
        let appended = series().fold(Appended::default(), |sum, written| {
            let mut sum = sum;
            sum.join(locked.append_written(written, &self.columns));
            sum
        });
        drop(locked);
        self.changed.note(series().flat_map(|written| &written.samples).map(|(stamp, _)| *stamp));
        appended
    }

    /// The number of the last change of what there is of a range: it grows with each.
    pub(super) fn changed_in(&self, range: TimeRange) -> u64 {
        self.changed.last_in(range)
    }

    /// A stamp before which block files have all that there is.
    pub(super) fn unsealed(&self) -> Option<Timestamp> {
        self.changed.unsealed()
    }

    /// Notes that it begins to be sealed what all hosts have.
    pub(super) fn begin_sealing(&self) {
        self.changed.begin_sealing();
    }

    /// Notes that block files have it.
    pub(super) fn end_sealing(&self) {
        self.changed.end_sealing();
    }

    /// Labels that a host's series have from here on.
    pub(super) fn set_labels(&self, host: HostId, labels: &Labels) {
        write(&self.host(host)).set_labels(labels);
    }

    /// Whether an origin has samples of a series.
    pub(super) fn has(&self, origin: HostId, labels: &Labels) -> bool {
        let column = read(&self.columns).id(&Labels::new().with(NAME, labels.get(NAME)), Kind::Gauge);
        let host = self.known(origin);
        column.zip(host).is_some_and(|(column, host)| read(&host).has(column, labels))
    }

    /// Notes an event that has a row of its own.
    pub(super) fn push_event(&self, host: HostId, (row, event): (i64, Event)) {
        let host = self.host(host);
        let mut host = write(&host);
        host.note_event_row(row);
        host.push_event(event);
    }

    /// Sets aside what a host has that is not after `cut`, until it is released.
    pub(super) fn freeze(&self, host: HostId, cut: Timestamp) -> Frozen {
        self.known(host).map(|host| write(&host).freeze(cut)).unwrap_or_default()
    }

    /// Whether there is anything of a host.
    pub(super) fn knows(&self, host: HostId) -> bool {
        self.known(host).is_some()
    }

    /// Leaves those of the series of a host that were not forgotten meanwhile.
    pub(super) fn retain_known(&self, host: HostId, series: &mut Vec<Identity>) {
        match self.known(host) {
            Some(host) => read(&host).retain_known(series),
            None => series.clear(),
        }
    }

    /// Notes that the catalog has series of a host so.
    pub(super) fn note_recorded(&self, host: HostId, lives: impl Iterator<Item = (u32, Life)>) {
        if let Some(host) = self.known(host) {
            write(&host).note_recorded(lives);
        }
    }

    /// Drops what was set aside of a host: block files have it.
    pub(super) fn release(&self, host: HostId) {
        if let Some(host) = self.known(host) {
            write(&host).release();
        }
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
        self.changed.note_all();
    }

    /// Number of series, and bytes of their windows.
    pub(super) fn size(&self) -> (u64, u64) {
        let sizes = self.all().into_iter().map(|(_, host)| read(&host).size());
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Drops what is not after `cutoff`, and the series that have nothing after `ended` in block files either.
    pub(super) fn drop_through(&self, cutoff: Timestamp, ended: Timestamp) {
        self.all().into_iter().for_each(|(_, host)| write(&host).drop_through(cutoff, ended));
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

    /// The columns that may match.
    pub(super) fn candidates<'a>(&self, matchers: &'a [Matcher]) -> Vec<Candidate<'a>> {
        read(&self.columns).candidates(matchers)
    }

    /// The series of a host that match.
    pub(super) fn find(&self, host: HostId, candidates: &[Candidate<'_>]) -> Here {
        let Some(host) = self.known(host) else {
            return Here::default();
        };
        let host = read(&host);
        let (ended, recalled) = host.ended();
        Here { series: host.find(candidates).map(|found| found.address()).collect(), ended, recalled }
    }

    /// Puts on a pile what there is of some series of a host. Answers which of them are here.
    pub(super) fn put(
        &self,
        host: HostId,
        some: &[Address],
        what: (TimeRange, Option<TimeRange>, bool),
        pile: &mut Pile,
    ) -> Vec<u32> {
        self.known(host).map(|host| read(&host).put(some, what, pile)).unwrap_or_default()
    }

    /// How many series of a host came back.
    pub(super) fn recalled(&self, host: HostId) -> u64 {
        self.known(host).map_or(0, |host| read(&host).ended().1)
    }

    /// Gives the labels of the series of a host that match and may be there. Answers what block files alone may have.
    pub(super) fn each<E>(
        &self,
        host: HostId,
        (candidates, when): (&[Candidate<'_>], When),
        give: &mut dyn FnMut(Levels<'_>) -> Result<(), E>,
    ) -> Result<Here, E> {
        let Some(host) = self.known(host) else {
            return Ok(Here::default());
        };
        let host = read(&host);
        for found in host.find(candidates).filter(|found| found.touches(when)) {
            give(Levels(&found.levels()))?;
        }
        let (ended, recalled) = host.ended();
        Ok(Here { series: Vec::new(), ended, recalled })
    }

    /// All hosts that there is anything of.
    pub(super) fn ids(&self) -> Vec<HostId> {
        read(&self.hosts).keys().copied().collect()
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

/// A panic elsewhere is that thread's own end; what it left is whole between two calls.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
