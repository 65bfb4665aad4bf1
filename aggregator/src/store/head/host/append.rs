//! One host in the head: its windows come, and the series in them have their places.

use std::collections::HashSet;
use std::sync::RwLock;
use std::time::Duration;

use common::batch::{Batch, RunId};
use common::metric::NAME;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::window::Window;

use crate::store::chunk::Entry;
use crate::store::head::Appended;
use crate::store::head::columns::Columns;
use crate::store::head::host::Host;
use crate::store::head::host::MARKED_WITHIN;
use crate::store::head::host::Run;
use crate::store::head::host::Slot;
use crate::store::head::read;
use crate::store::head::write;

impl Host {
    /// Appends windows of all series of a run, and the marks of those that ended with the version of its schema.
    pub(in crate::store::head) fn append(
        &mut self,
        (run, version): (RunId, u32),
        rows: &[(i64, Batch)],
        columns: &RwLock<Columns>,
    ) -> Appended {
        self.place_all(run, rows, columns);
        let mut appended = Appended::default();
        let mut rest = rows;
        while let Some((_, first)) = rest.first() {
            self.mark_ended((run, version), first.stamp, columns);
            // What comes late leaves it to those behind it to say what ended.
            let (some, behind) = rest.split_at(if self.relabelled { 1 } else { rest.len() });
            appended.join(self.append_samples(run, some));
            rest = behind;
        }
        for (_, batch) in rows {
            batch.events.iter().for_each(|event| self.push_event(event.clone()));
            self.last_stamp = self.last_stamp.max(Some(batch.stamp));
            if let Some(run) = self.runs.get_mut(&run) {
                run.used = run.used.max(batch.stamp);
            }
        }
        appended
    }

    /// Appends the samples of some windows, series after series, each of which is looked for once.
    fn append_samples(&mut self, run: RunId, rows: &[(i64, Batch)]) -> Appended {
        let mut appended = Appended::default();
        let Some(places) = self.runs.get_mut(&run).map(|run| std::mem::take(&mut run.places)) else {
            return appended;
        };
        let mut rest: Vec<&[(SeriesIndex, Window)]> = rows.iter().map(|(_, batch)| &batch.samples[..]).collect();
        let mut entries = Vec::with_capacity(rows.len());
        while let Some(next) = rest.iter().filter_map(|rest| rest.first()).map(|(index, _)| *index).min() {
            entries.clear();
            for ((_, batch), rest) in rows.iter().zip(&mut rest) {
                if let Some(((_, window), behind)) = rest.split_first().filter(|((index, _), _)| *index == next) {
                    entries.push(Entry { stamp: batch.stamp, window: Some(*window) });
                    *rest = behind;
                }
            }
            if let Some(place) = places.get(next.0 as usize).copied().flatten() {
                appended.join(self.append_to(place, &entries));
            }
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.places = places;
        }
        appended
    }

    fn mark_ended(&mut self, (run, version): (RunId, u32), stamp: Timestamp, columns: &RwLock<Columns>) {
        let mut ending: Vec<u32> = Vec::new();
        if self.relabelled {
            self.relabelled = self.is_behind_labels(stamp);
            if !self.relabelled {
                ending.extend(self.earlier().map(|(place, _)| place));
            }
        }
        ending.extend(self.ended_by(run, version).into_iter().filter_map(|index| {
            let (sets, kind) = self.sets(run, index)?;
            self.known(&sets, kind, columns)
        }));
        if let Some(run) = self.runs.get_mut(&run) {
            run.marked = run.marked.max(version);
        }
        if ending.is_empty() {
            return;
        }
        let living = self.living(run, version);
        for place in ending.into_iter().filter(|place| !living.contains(place)) {
            let slot = &mut self.series[place as usize];
            if slot.series.lives_at(stamp.before(MARKED_WITHIN)) {
                slot.append(&[Entry { stamp, window: None }]);
            }
        }
    }

    /// Whether what is stamped so comes late behind new labels: it says nothing of series that lived on behind it.
    pub(super) fn is_behind_labels(&self, stamp: Timestamp) -> bool {
        let before = stamp.before(Duration::from_millis(1));
        self.earlier().any(|(_, slot)| slot.series.lives_at(before))
    }

    /// The series that have earlier labels, with their places.
    fn earlier(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.series).filter(|(_, slot)| slot.key.2 != self.current)
    }

    /// The places of the series that a version of a run's schema has: one that ended may be there again.
    fn living(&self, run: RunId, version: u32) -> HashSet<u32> {
        let Some(Run { schema, places, .. }) = self.runs.get(&run) else { return HashSet::new() };
        schema.living(version).filter_map(|(index, _)| places.get(index.0 as usize).copied().flatten()).collect()
    }

    /// The series of a run that ended with `version` or before it and are not marked.
    pub(super) fn ended_by(&self, run: RunId, version: u32) -> Vec<SeriesIndex> {
        let Some(run) = self.runs.get(&run).filter(|run| run.marked < version) else {
            return Vec::new();
        };
        let is_new = |ended: u32| run.marked < ended && ended <= version;
        let ended = (0..).zip(run.schema.series()).filter(|(_, series)| series.ended.is_some_and(is_new));
        ended.map(|(index, _)| SeriesIndex(index)).collect()
    }

    /// Gives a place to the series that have their first sample.
    fn place_all(&mut self, run: RunId, rows: &[(i64, Batch)], columns: &RwLock<Columns>) {
        for index in self.unplaced(run, rows) {
            self.place(run, index, columns);
        }
    }

    /// The series of some batches that have no place yet.
    pub(super) fn unplaced(&self, run: RunId, rows: &[(i64, Batch)]) -> Vec<SeriesIndex> {
        let Some(Run { schema, places, .. }) = self.runs.get(&run) else { return Vec::new() };
        let mut unplaced: Vec<bool> = places.iter().map(Option::is_none).collect();
        unplaced.resize(schema.series().len(), true);
        let mut left = unplaced.iter().filter(|is_unplaced| **is_unplaced).count();
        let mut found = Vec::new();
        for (_, batch) in rows {
            // Mostly all have places, or the first batch is about all that have none.
            let mut samples = batch.samples.iter();
            while 0 < left
                && let Some((index, _)) = samples.next()
            {
                if unplaced.get_mut(index.0 as usize).is_some_and(std::mem::take) {
                    found.push(*index);
                    left -= 1;
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn place(&mut self, run: RunId, index: SeriesIndex, columns: &RwLock<Columns>) -> Option<u32> {
        let known = self.runs.get(&run)?;
        let at = index.0 as usize;
        if let Some(Some(place)) = known.places.get(at) {
            return Some(*place);
        }
        let (sets, kind) = self.sets(run, index)?;
        let place = match self.known(&sets, kind, columns) {
            Some(place) => place,
            None => {
                if let Some(limit) = read(columns).limit(sets.column.get(NAME), self.series.len()) {
                    self.refuse(limit, 1, &sets);
                    return None;
                }
                let schema = &self.runs.get(&run)?.schema;
                let column = schema.columns().get(schema.series().get(at)?.column as usize)?;
                let column = write(columns).intern(column);
                let entity = self.entity(&sets.entity);
                self.intern((column, entity, self.current), columns)?
            }
        };
        let known = self.runs.get_mut(&run)?;
        known.places.resize(known.schema.series().len(), None);
        known.places[at] = Some(place);
        Some(place)
    }
}
