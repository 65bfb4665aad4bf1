//! One host in the head as a question sees it: which of its series match, and what there is of them.

use common::metric::Labels;
use common::time::{TimeRange, Timestamp};

use crate::store::head::columns::Candidate;
use crate::store::head::columns::leave_open;
use crate::store::head::host::Host;
use crate::store::head::host::Slot;
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
    pub(in crate::store::head) fn find<'a>(
        &'a self,
        candidates: &'a [Candidate<'_>],
    ) -> impl Iterator<Item = Found<'a>> {
        // A question that names no metric is asked of what the host has, not of all that there is.
        let few = candidates.len() <= self.index.len();
        let asked = if few { candidates } else { &[] };
        let by_candidate = asked.iter().filter(|candidate| self.may_match(candidate)).flat_map(move |candidate| {
            let id = candidate.id;
            let of = move |from: u32, to: u32| self.index.range((id, from, 0)..=(id, to, u32::MAX));
            let named = self.named(candidate);
            let all = if named.is_none() { Some(of(0, u32::MAX)) } else { None };
            let some = named.unwrap_or_default().iter().flat_map(move |entity| of(*entity, *entity));
            all.into_iter().flatten().chain(some).map(move |(_, place)| (candidate, *place))
        });
        let had = if few { None } else { Some(&self.index) };
        let by_series = had.into_iter().flatten().filter_map(|((column, ..), place)| {
            let at = candidates.binary_search_by_key(column, |candidate| candidate.id).ok()?;
            Some((&candidates[at], *place))
        });
        by_candidate.chain(by_series).filter_map(|(candidate, place)| {
            let slot = &self.series[place as usize];
            let (_, entity, labels) = slot.key;
            let open = leave_open(&self.entities[entity as usize], candidate.open.iter().copied())?;
            let labels = &self.labels[labels as usize];
            let matches = open.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
            matches.then_some(Found { host: self, slot, place })
        })
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
            pile.begin(Piled { number: *number, labels, kind: shape.kind, sealed: false });
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

    /// Whether it has a sample in `range`. May err towards yes by what lies between its samples.
    pub(in crate::store::head) fn touches(&self, range: TimeRange) -> bool {
        self.slot.series.touches(range) || self.slot.was_sealed_in(range)
    }

    /// The levels that its labels come from, the nearest first.
    pub(in crate::store::head) fn levels(&self) -> [Labels; 3] {
        let (_, entity, host) = self.slot.key;
        let (entity, host) = (&self.host.entities[entity as usize], &self.host.labels[host as usize]);
        [self.slot.column.labels.clone(), entity.clone(), host.clone()]
    }
}
