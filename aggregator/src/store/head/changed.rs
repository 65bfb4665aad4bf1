//! When what there is of each stretch of time changed last: what was answered before that may not be right any more. And
//! from when on there may be something that no block file has.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::time::{TimeRange, Timestamp};

/// One stretch: a late sample costs the answers about its minute.
const STRETCH: Duration = Duration::from_secs(60);

/// Stretches that are told apart: three weeks of them, a megabyte.
const STRETCHES_MAX: usize = 30_240;

/// Changes are numbered; each stretch has the number of its last.
#[derive(Debug, Default)]
pub(super) struct Changed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// By their ends.
    stretches: BTreeMap<Timestamp, u64>,
    /// Of all others.
    others: u64,
    /// The first stamp of what came since it was begun to seal the last time.
    growing: Option<Timestamp>,
    /// The first one of what came before that, until it is sealed.
    sealing: Option<Timestamp>,
    is_sealing: bool,
}

impl Changed {
    /// Notes that there is something new at these stamps. To be called when it can be read.
    pub(super) fn note(&self, stamps: impl Iterator<Item = Timestamp>) {
        let mut state = self.lock();
        state.count += 1;
        let count = state.count;
        let mut before = None;
        for stamp in stamps {
            let end = stamp.align_up(STRETCH);
            // Neighbours mostly lie in one.
            if before.replace(end) != Some(end) {
                state.stretches.insert(end, count);
            }
            state.growing = Some(state.growing.map_or(stamp, |first| first.min(stamp)));
        }
        while STRETCHES_MAX < state.stretches.len() {
            let gone = state.stretches.pop_first().map_or(0, |(_, count)| count);
            state.others = state.others.max(gone);
        }
    }

    /// Notes that anything may have changed.
    pub(super) fn note_all(&self) {
        let mut state = self.lock();
        state.count += 1;
        state.others = state.count;
        state.stretches.clear();
    }

    /// The number of the last change of anything in a range. It grows with each.
    pub(super) fn last_in(&self, range: TimeRange) -> u64 {
        let state = self.lock();
        let within = state.stretches.range(range.after..=range.through.align_up(STRETCH));
        within.map(|(_, count)| *count).fold(state.others, u64::max)
    }

    /// Notes that it begins to be sealed what all hosts have. What lies behind the quarters that are sealed stays; no day is merged
    /// before it is sealed, too.
    pub(super) fn begin_sealing(&self) {
        let mut state = self.lock();
        if !state.is_sealing {
            state.is_sealing = true;
            let growing = state.growing.take();
            state.sealing = growing.into_iter().chain(state.sealing).min();
        }
    }

    /// Notes that block files have it.
    pub(super) fn end_sealing(&self) {
        let mut state = self.lock();
        (state.sealing, state.is_sealing) = (None, false);
    }

    /// A stamp before which block files have all that there is.
    pub(super) fn unsealed(&self) -> Option<Timestamp> {
        let state = self.lock();
        state.growing.into_iter().chain(state.sealing).min()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_whoever_asks_about_its_time() {
        let changed = Changed::default();
        let at = Timestamp::from_seconds;
        let last_in = |after, through| changed.last_in(TimeRange { after: at(after), through: at(through) });
        changed.note([90, 91, 600].map(at).into_iter());
        assert_eq!(last_in(0, 60), 0);
        assert_eq!([last_in(0, 90), last_in(90, 91), last_in(100, 700), last_in(0, 10_000)], [1; 4]);
        changed.note([61].map(at).into_iter());
        assert_eq!([last_in(0, 10_000), last_in(60, 61), last_in(121, 10_000)], [2, 2, 1]);
        changed.note_all();
        assert_eq!([last_in(0, 60), last_in(90, 91)], [3, 3]);
    }

    #[test]
    fn what_comes_while_quarters_are_sealed_may_be_in_no_file() {
        let changed = Changed::default();
        let at = Timestamp::from_seconds;
        let note = |second: i64| changed.note(std::iter::once(at(second)));
        assert_eq!(changed.unsealed(), None);
        [50, 20, 90].into_iter().for_each(note);
        assert_eq!(changed.unsealed(), Some(at(20)));
        changed.begin_sealing();
        note(30);
        // It had failed.
        changed.begin_sealing();
        assert_eq!(changed.unsealed(), Some(at(20)));
        changed.end_sealing();
        assert_eq!(changed.unsealed(), Some(at(30)));
        changed.begin_sealing();
        changed.end_sealing();
        assert_eq!(changed.unsealed(), None);
    }

    #[test]
    fn what_is_told_apart_no_more_counts_as_changed() {
        let changed = Changed::default();
        let minutes = i64::try_from(STRETCHES_MAX).unwrap() + 10;
        (0..minutes).for_each(|minute| changed.note([Timestamp::from_seconds(60 * minute)].into_iter()));
        assert_eq!(changed.lock().stretches.len(), STRETCHES_MAX);
        let old = TimeRange { after: Timestamp::default(), through: Timestamp::from_seconds(60) };
        assert_eq!(changed.last_in(old), 10);
    }
}
