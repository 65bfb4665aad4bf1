//! One host in the head: who leaves it because block files have all of it, and who comes back.

use std::sync::RwLock;

use common::batch::{Batch, RunId};
use common::metric::{Kind, Labels, NAME};
use common::schema::SeriesIndex;
use common::time::Timestamp;

use crate::store::catalog::series::LabelSets;
use crate::store::commit::Written;
use crate::store::head::columns::Columns;
use crate::store::head::columns::whole;
use crate::store::head::host::Host;
use crate::store::head::host::MARKED_WITHIN;
use crate::store::head::host::Slot;
use crate::store::head::host::without_name;
use crate::store::head::read;
use crate::store::head::write;
use crate::store::room::Limit;

/// Series of a host that are not in the head: block files may have had them.
#[derive(Debug, Default)]
pub(in crate::store) struct Absent {
    pub(in crate::store) series: Vec<(LabelSets, Kind)>,
    /// Those that ended without a mark after this are wanted too: they are to be marked.
    pub(in crate::store) unmarked: Option<Timestamp>,
    /// Whether block files may have had any.
    pub(in crate::store) may_be: bool,
}

impl Host {
    /// Lets go of the series that ended and are in block files alone.
    pub(in crate::store::head) fn let_go(&mut self) {
        let ended = self.series.iter().filter(|slot| slot.has_left());
        let Some(latest) = ended.map(|slot| slot.recorded.and_then(|life| life.last)).max() else {
            return;
        };
        self.ended = self.ended.max(latest);
        self.retain(|slot| !slot.has_left());
    }

    /// Whether one of its series has something that no block file has.
    pub(in crate::store::head) fn has_more(&self, number: u32) -> bool {
        self.places.get(&number).is_some_and(|place| !self.series[*place as usize].series.is_empty())
    }

    /// Lets go of some series that block files have nothing of any more, but for those that go on.
    pub(in crate::store::head) fn remove(&mut self, numbers: &[u32]) {
        for number in numbers {
            if let Some(slot) = self.numbered(*number).filter(|slot| slot.series.is_empty()) {
                (slot.recorded, slot.sealed) = (None, None);
            }
        }
        self.retain(|slot| !slot.is_gone());
    }

    /// The latest stamp of the series that block files alone have, if there may be any; and how many came back.
    pub(in crate::store::head) const fn ended(&self) -> (Option<Timestamp>, u64) {
        (self.ended, self.recalled)
    }

    /// The series that batches are about, or mark, and that are not here.
    pub(in crate::store::head) fn absent(
        &self,
        (run, version): (RunId, u32),
        rows: &[(i64, Batch)],
        columns: &RwLock<Columns>,
    ) -> Absent {
        let Some(first) = rows.iter().map(|(_, batch)| batch.stamp).min().filter(|_| self.ended.is_some()) else {
            return Absent::default();
        };
        let indices = self.unplaced(run, rows).into_iter().chain(self.ended_by(run, version));
        let series = indices.filter_map(|index| self.sets(run, index));
        let absent = series.filter(|(sets, kind)| self.known(sets, *kind, columns).is_none()).collect();
        Absent { series: absent, ..self.absent_earlier(first) }
    }

    /// The series that are to be marked by what is stamped so, and may not be here.
    pub(in crate::store::head) fn absent_earlier(&self, stamp: Timestamp) -> Absent {
        let unmarked = self.relabelled.then(|| stamp.before(MARKED_WITHIN));
        Absent { series: Vec::new(), unmarked, may_be: self.ended.is_some() }
    }

    /// The series that are not here of some whose whole label sets are given.
    pub(in crate::store::head) fn absent_written(&self, written: &[Written], columns: &RwLock<Columns>) -> Absent {
        let series = written.iter().map(|written| self.written(&written.labels));
        let absent = series.filter(|sets| self.known(sets, Kind::Gauge, columns).is_none());
        let series = absent.map(|sets| (sets, Kind::Gauge)).collect();
        Absent { series, unmarked: None, may_be: self.ended.is_some() }
    }

    /// Gives a place to a series whose whole label set is given, if there is room.
    pub(in crate::store::head) fn admit(&mut self, written: &Written, columns: &RwLock<Columns>) -> Result<(), Limit> {
        let sets = self.written(&written.labels);
        if self.known(&sets, Kind::Gauge, columns).is_some() {
            return Ok(());
        }
        if let Some(limit) = read(columns).limit(sets.column.get(NAME), self.series.len()) {
            self.refuse(limit, written.samples.len() as u64, &sets);
            return Err(limit);
        }
        let column = write(columns).intern_written(sets.column.get(NAME));
        let entity = self.entity(&sets.entity);
        self.intern((column, entity, self.current), columns);
        Ok(())
    }

    /// What a series is whose whole label set is given.
    fn written(&self, labels: &Labels) -> LabelSets {
        let column = Labels::new().with(NAME, labels.get(NAME));
        LabelSets { column, entity: without_name(labels), host: self.labels().clone() }
    }

    /// What a series of a run is to be called.
    pub(super) fn sets(&self, run: RunId, index: SeriesIndex) -> Option<(LabelSets, Kind)> {
        let schema = self.schema(run)?;
        let series = schema.series().get(index.0 as usize)?;
        let column = schema.columns().get(series.column as usize)?;
        let entity = schema.entities().get(series.entity as usize)?.labels.clone();
        let sets = LabelSets { column: whole(column), entity, host: self.labels().clone() };
        Some((sets, column.kind))
    }

    /// The place of a series, if it has one.
    pub(super) fn known(&self, sets: &LabelSets, kind: Kind, columns: &RwLock<Columns>) -> Option<u32> {
        let column = read(columns).id(&sets.column, kind)?;
        let host = self.labels.iter().position(|labels| *labels == sets.host)?;
        let key = (column, *self.entity_ids.get(&sets.entity)?, u32::try_from(host).ok()?);
        self.index.get(&key).copied()
    }
}

impl Slot {
    /// Whether block files have all of it, if anybody has.
    fn has_left(&self) -> bool {
        self.series.is_empty() && self.recorded.is_none_or(|life| life.last.is_some())
    }
}
