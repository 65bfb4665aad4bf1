//! One host in the head and in block files: what was sealed before the start, what is being sealed, what is let go of.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use common::batch::{Event, RunId};
use common::time::{TimeRange, Timestamp};

use crate::store::catalog::Sealed;
use crate::store::catalog::series::Identity;
use crate::store::catalog::series::LabelSets;
use crate::store::catalog::series::Life;
use crate::store::chunk::Chunk;
use crate::store::chunk::Shape;
use crate::store::head::columns::Columns;
use crate::store::head::host::Host;
use crate::store::head::host::MARKED_WITHIN;
use crate::store::head::host::Slot;
use crate::store::head::host::intern;
use crate::store::head::read;
use crate::store::head::series::Series;
use crate::store::head::write;

/// The last rows that were appended: those of its log, and those of the table of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Applied {
    pub(in crate::store) row: i64,
    pub(in crate::store) event: i64,
}

/// What a host has that is to be sealed.
#[derive(Debug, Default)]
pub(in crate::store) struct Frozen {
    pub(in crate::store) applied: Applied,
    /// By number.
    pub(in crate::store) series: Vec<FrozenSeries>,
    /// Series that the catalog does not have.
    pub(in crate::store) new: Vec<Identity>,
    /// Those of which it has another life, by number.
    pub(in crate::store) lives: Vec<(u32, Life)>,
    pub(in crate::store) events: Vec<Event>,
    pub(in crate::store) next_number: u32,
    pub(in crate::store) last_stamp: Option<Timestamp>,
}

/// One of its series.
#[derive(Clone, Debug)]
pub(in crate::store) struct FrozenSeries {
    pub(in crate::store) number: u32,
    pub(in crate::store) shape: Shape,
    pub(in crate::store) chunks: Vec<Chunk>,
}

impl Host {
    /// What was sealed of it before the start.
    pub(in crate::store::head) fn resume(&mut self, sealed: &Sealed) {
        self.next_number = sealed.next_number;
        self.last_stamp = sealed.last_stamp;
        self.applied.row = sealed.row;
        self.cut = sealed.cut;
        self.ended = Some(sealed.latest());
    }

    /// One of its series that block files have, unless it is known. One that goes on has its latest stamp there where the
    /// files of its host end.
    pub(in crate::store::head) fn recall(&mut self, identity: Identity, latest: Timestamp, columns: &RwLock<Columns>) {
        let Identity { number, shape, sets, life } = identity;
        let column = write(columns).insert(sets.column, shape);
        let key = (column, self.entity(&sets.entity), intern(&mut self.labels, &sets.host));
        let Some(column) = read(columns).get(column).map(Arc::clone).filter(|_| !self.index.contains_key(&key)) else {
            return;
        };
        let sealed = Some((life.last.unwrap_or(latest), life.marked));
        let series = Series::continuing(sealed);
        let _seat = read(columns).seat(&column);
        self.push(Slot { number, key, column, series, _seat, recorded: Some(life), sealed });
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.recalled += 1;
    }

    /// Notes that a row of its log was appended.
    pub(in crate::store::head) fn note_row(&mut self, row: i64) {
        self.applied.row = self.applied.row.max(row);
    }

    /// Notes that a row of the table of events was.
    pub(in crate::store::head) fn note_event_row(&mut self, row: i64) {
        self.applied.event = self.applied.event.max(row);
    }

    /// Takes in what appending a batch does besides its samples and events: block files have those.
    pub(in crate::store::head) fn pass(&mut self, run: RunId, version: u32, stamp: Timestamp) {
        if self.relabelled {
            self.relabelled = self.is_behind_labels(stamp);
            // Those that came back to be asked go again: nothing is appended to them.
            self.let_go();
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.marked = run.marked.max(version);
            run.used = run.used.max(stamp);
        }
        self.last_stamp = self.last_stamp.max(Some(stamp));
    }

    /// Sets aside what is not after `cut`, until it is released.
    pub(in crate::store::head) fn freeze(&mut self, cut: Timestamp) -> Frozen {
        self.cut = cut;
        let mut frozen = Frozen {
            applied: self.applied,
            next_number: self.next_number,
            last_stamp: self.last_stamp,
            ..Frozen::default()
        };
        let (events, rest): (VecDeque<_>, _) = self.events.drain(..).partition(|event| event.at <= cut);
        self.events = rest;
        self.frozen_events.extend(events);
        frozen.events.clone_from(&self.frozen_events);
        for at in 0..self.series.len() {
            let slot = &mut self.series[at];
            let (number, shape) = (slot.number, slot.column.shape);
            let chunks = slot.series.freeze(shape, cut);
            if !chunks.is_empty() {
                frozen.series.push(FrozenSeries { number, shape, chunks });
            }
            let slot = &self.series[at];
            let Some(life) = slot.life(cut) else {
                continue;
            };
            let begun = Life { last: None, marked: false, ..life };
            if slot.recorded.is_none() {
                frozen.new.push(self.identity(slot, begun));
            }
            if slot.recorded.unwrap_or(begun) != life {
                frozen.lives.push((number, life));
            }
        }
        // Those that came back have lower numbers than others before them.
        frozen.series.sort_unstable_by_key(|series| series.number);
        frozen
    }

    /// Leaves those of its series that were not forgotten meanwhile.
    pub(in crate::store::head) fn retain_known(&self, series: &mut Vec<Identity>) {
        series.retain(|series| self.places.contains_key(&series.number));
    }

    /// Notes that the catalog has series so.
    pub(in crate::store::head) fn note_recorded(&mut self, lives: impl Iterator<Item = (u32, Life)>) {
        for (number, life) in lives {
            if let Some(slot) = self.numbered(number) {
                slot.recorded = Some(life);
            }
        }
    }

    /// Drops what was set aside: block files have it.
    pub(in crate::store::head) fn release(&mut self) {
        for slot in &mut self.series {
            slot.sealed = slot.through_frozen();
            slot.series.release(slot.column.shape);
        }
        self.frozen_events.clear();
    }

    fn identity(&self, slot: &Slot, life: Life) -> Identity {
        let (_, entity, labels) = slot.key;
        let (entity, host) = (self.entities[entity as usize].clone(), self.labels[labels as usize].clone());
        let sets = LabelSets { column: slot.column.labels.clone(), entity, host };
        Identity { number: slot.number, shape: slot.column.shape, sets, life }
    }
}

impl Slot {
    /// When it lived, as a block file that has what is set aside makes it; nothing if none ever had it. One that is silent
    /// goes on until that has lasted so long that it ended by it.
    fn life(&self, cut: Timestamp) -> Option<Life> {
        let frozen = self.series.frozen_first();
        let first = match (self.recorded, frozen) {
            (Some(life), Some(first)) => life.first.min(first),
            (Some(Life { first, .. }), None) | (None, Some(first)) => first,
            (None, None) => return None,
        };
        let (latest, marked) = self.through_frozen()?;
        let is_silent = frozen.is_none() && latest <= cut.before(MARKED_WITHIN);
        let goes_on = self.series.is_growing() || !marked && !is_silent;
        Some(Life { first, last: (!goes_on).then_some(latest), marked })
    }

    /// Its latest stamp, and whether it marks the end there, once what is set aside is in a block file.
    fn through_frozen(&self) -> Option<(Timestamp, bool)> {
        let frozen = self.series.frozen_last(self.column.shape);
        frozen.filter(|(last, _)| self.sealed.is_none_or(|(sealed, _)| sealed <= *last)).or(self.sealed)
    }

    /// Whether block files may have it in `range`.
    pub(super) fn was_sealed_in(&self, range: TimeRange) -> bool {
        self.recorded.is_some_and(|life| life.first <= range.through && life.last.is_none_or(|last| range.after < last))
    }
}
