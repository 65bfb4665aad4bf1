//! One host in the head as a question sees it: which of its series match, and what there is of them.

use std::borrow::Borrow;

use common::metric::Labels;
use common::time::{TimeRange, Timestamp};

use crate::store::head::columns::Candidate;
use crate::store::head::columns::ColumnId;
use crate::store::head::columns::leave_open;
use crate::store::head::host::Host;
use crate::store::head::host::Slot;
use crate::store::head::lookup::When;
use crate::store::pile::Pile;
use crate::store::pile::Piled;
use crate::store::select::Is;

/// A series that a question is about.
pub(in crate::store::head) struct Found<'a> {
    host: &'a Host,
    slot: &'a Slot,
    place: u32,
}

/// Where a series is found again once the host was let go of: its place, unless others went, and its number.
pub(in crate::store) type Address = (u32, u32);

impl Host {
    /// The series that match, by column.
    pub(in crate::store::head) fn find<'a, C: Borrow<Candidate<'a>>>(
        &'a self,
        candidates: &'a [C],
    ) -> impl Iterator<Item = Found<'a>> {
        // A question that names no metric is asked of what the host has, not of all that there is.
        let few = candidates.len() <= self.index.len();
        let asked = if few { candidates } else { &[] };
        let asked = asked.iter().map(Borrow::borrow);
        let by_candidate = asked.filter(|candidate| self.may_match(candidate)).flat_map(move |candidate| {
            let id = candidate.id;
            let of = move |from: u32, to: u32| self.index.range((id, from, 0)..=(id, to, u32::MAX));
            let named = self.named(candidate);
            let all = if named.is_none() { Some(of(0, u32::MAX)) } else { None };
            let some = named.unwrap_or_default().iter().flat_map(move |entity| of(*entity, *entity));
            all.into_iter().flatten().chain(some).map(move |(_, place)| (candidate, *place))
        });
        let had = if few { None } else { Some(&self.index) };
        let by_series = had
            .into_iter()
            .flatten()
            .filter_map(|((column, ..), place)| Some((candidate(candidates, *column)?, *place)));
        by_candidate.chain(by_series).filter_map(|(candidate, place)| self.found(candidate, place))
    }

    /// Of each entity with a label the series that began last, if it matches: the likeliest to be there.
    pub(in crate::store::head) fn latest_with<'a, C: Borrow<Candidate<'a>>>(
        &'a self,
        (name, value): (&str, &str),
        candidates: &'a [C],
    ) -> impl Iterator<Item = Found<'a>> {
        let places = self.postings.with(name, value).iter().filter_map(|entity| self.begun.get(*entity as usize));
        places.filter_map(|place| {
            let (column, ..) = self.series.get(*place as usize)?.key;
            self.found(candidate(candidates, column)?, *place)
        })
    }

    /// The values that it and its entities have of a label; or the names of all, some more than once.
    pub(in crate::store::head) fn texts(&self, of: Option<&str>) -> impl Iterator<Item = &str> {
        let values = of.map(|name| {
            self.labels.iter().map(move |labels| labels.get(name)).chain(self.postings.values(name)).collect::<Vec<_>>()
        });
        let names = of
            .is_none()
            .then(|| self.labels.iter().flat_map(Labels::iter).map(|(name, _)| name).chain(self.postings.names()));
        values.into_iter().flatten().chain(names.into_iter().flatten())
    }

    /// The series at a place, if what a candidate leaves open matches.
    fn found<'a>(&'a self, candidate: &Candidate<'_>, place: u32) -> Option<Found<'a>> {
        let slot = &self.series[place as usize];
        let (_, entity, labels) = slot.key;
        let open = leave_open(&self.entities[entity as usize], candidate.open.iter().copied())?;
        let labels = &self.labels[labels as usize];
        let matches = open.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        matches.then_some(Found { host: self, slot, place })
    }

    /// Puts on a pile what there is of some series in `range`; nothing of those that have nothing there, unless block
    /// files may have something in `sealed`. Answers the numbers of those that are here.
    pub(in crate::store::head) fn put(
        &self,
        some: &[Address],
        (range, sealed, latest): (TimeRange, Option<TimeRange>, bool),
        pile: &mut Pile,
    ) -> Vec<u32> {
        let mut here = Vec::with_capacity(some.len());
        for (place, number) in some {
            let held = self.series.get(*place as usize).filter(|slot| slot.number == *number);
            let moved = || Some(&self.series[*self.places.get(number)? as usize]);
            let Some(slot) = held.or_else(moved) else {
                continue;
            };
            here.push(*number);
            let (_, entity, labels) = slot.key;
            let (entity, host) = (&self.entities[entity as usize], &self.labels[labels as usize]);
            let labels = [slot.column.labels.clone(), entity.clone(), host.clone()];
            let shape = slot.column.shape;
            let lived = slot.recorded.map_or(range, |life| life.range());
            pile.begin(Piled { number: *number, labels, kind: shape.kind, sealed: false, lived });
            let newest = slot.series.put(shape, (range, latest), pile).filter(|newest| range.after < *newest);
            let newer = |newest: Timestamp| slot.sealed.is_some_and(|(sealed, _)| newest < sealed);
            let sealed = newest.is_none_or(newer) && sealed.is_some_and(|sealed| slot.was_sealed_in(sealed));
            pile.end(sealed);
        }
        here
    }

    /// The entities that a label names which nobody but entities has; of several such labels those that fewest have.
    fn named(&self, candidate: &Candidate<'_>) -> Option<&[u32]> {
        let named = candidate.open.iter().filter_map(|matcher| match &matcher.is {
            Is::Equal(value) if !value.is_empty() => Some((matcher.name.as_str(), value.as_str())),
            Is::Equal(_) | Is::NotEqual(_) | Is::Match(_) | Is::NoMatch(_) => None,
        });
        let of_entities = named.filter(|(name, value)| self.labels.iter().all(|labels| labels.get(name) != *value));
        of_entities.map(|(name, value)| self.postings.with(name, value)).min_by_key(|entities| entities.len())
    }

    /// Whether the labels of the host itself leave a chance: most questions are about one host or one group of them.
    fn may_match(&self, candidate: &Candidate<'_>) -> bool {
        let mut decided = candidate.open.iter().filter(|matcher| !self.postings.has(&matcher.name));
        decided.all(|matcher| self.labels.iter().any(|labels| matcher.matches(labels.get(&matcher.name))))
    }
}

impl<'a> Found<'a> {
    /// Where it is found again.
    pub(in crate::store::head) const fn address(&self) -> Address {
        (self.place, self.slot.number)
    }

    /// Whether it has a sample then. May err towards yes by what lies between its samples.
    pub(in crate::store::head) fn touches(&self, when: When) -> bool {
        self.slot.series.touches(when.in_memory) || self.slot.was_sealed_in(when.in_files)
    }

    /// The value of one of its labels; or the names of all, some more than once.
    pub(in crate::store::head) fn texts(&self, of: Option<&str>) -> impl Iterator<Item = &'a str> {
        let levels = self.lent_levels();
        let value = of.and_then(|name| levels.iter().map(|labels| labels.get(name)).find(|value| !value.is_empty()));
        let names = of.is_none().then(|| levels.into_iter().flat_map(Labels::iter).map(|(name, _)| name));
        value.into_iter().chain(names.into_iter().flatten())
    }

    /// The levels that its labels come from, the nearest first.
    pub(in crate::store::head) fn levels(&self) -> [Labels; 3] {
        self.lent_levels().map(Clone::clone)
    }

    fn lent_levels(&self) -> [&'a Labels; 3] {
        let (_, entity, host) = self.slot.key;
        [&self.slot.column.labels, &self.host.entities[entity as usize], &self.host.labels[host as usize]]
    }
}

/// The one of a column; they are in the order of these.
fn candidate<'a, C: Borrow<Candidate<'a>>>(candidates: &'a [C], column: ColumnId) -> Option<&'a Candidate<'a>> {
    let at = candidates.binary_search_by_key(&column, |candidate| candidate.borrow().id).ok()?;
    candidates.get(at).map(Borrow::borrow)
}
