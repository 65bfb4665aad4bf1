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

/// Series of a host that are not in the head: block files may have had them.
#[derive(Debug, Default)]
pub(in crate::store) struct Absent {
    pub(in crate::store) series: Vec<(LabelSets, Kind)>,
    /// Those that ended without a mark after this are wanted too: they are to be marked.
    pub(in crate::store) unmarked: Option<Timestamp>,
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

    /// The latest stamp of the series that block files alone have, if there may be any; and how many came back.
    pub(in crate::store::head) const fn ended(&self) -> (Option<Timestamp>, u64) {
        (self.ended, self.recalled)
    }

    /// The series that a batch is about, or marks, and that are not here.
    pub(in crate::store::head) fn absent(
        &self,
        (run, version): (RunId, u32),
        batch: &Batch,
        columns: &RwLock<Columns>,
    ) -> Absent {
        if self.ended.is_none() {
            return Absent::default();
        }
        let indices = self.unplaced(run, batch).into_iter().chain(self.ended_by(run, version));
        let series = indices.filter_map(|index| self.sets(run, index));
        let absent = series.filter(|(sets, kind)| self.lacks(sets, *kind, columns)).collect();
        Absent { series: absent, unmarked: self.relabelled.then(|| batch.stamp.before(MARKED_WITHIN)) }
    }

    /// The series that are not here of some whose whole label sets are given.
    pub(in crate::store::head) fn absent_written(&self, written: &[Written], columns: &RwLock<Columns>) -> Absent {
        if self.ended.is_none() {
            return Absent::default();
        }
        let series = written.iter().map(|Written { labels, .. }| LabelSets {
            column: Labels::new().with(NAME, labels.get(NAME)),
            entity: without_name(labels),
            host: self.labels().clone(),
        });
        let absent = series.filter(|sets| self.lacks(sets, Kind::Gauge, columns));
        Absent { series: absent.map(|sets| (sets, Kind::Gauge)).collect(), unmarked: None }
    }

    /// What a series of a run is to be called.
    fn sets(&self, run: RunId, index: SeriesIndex) -> Option<(LabelSets, Kind)> {
        let schema = self.schema(run)?;
        let series = schema.series().get(index.0 as usize)?;
        let column = schema.columns().get(series.column as usize)?;
        let entity = schema.entities().get(series.entity as usize)?.labels.clone();
        let sets = LabelSets { column: whole(column), entity, host: self.labels().clone() };
        Some((sets, column.kind))
    }

    fn lacks(&self, sets: &LabelSets, kind: Kind, columns: &RwLock<Columns>) -> bool {
        let key = || {
            let column = read(columns).id(&sets.column, kind)?;
            let host = self.labels.iter().position(|labels| *labels == sets.host)?;
            Some((column, *self.entity_ids.get(&sets.entity)?, u32::try_from(host).ok()?))
        };
        key().is_none_or(|key| !self.index.contains_key(&key))
    }
}

impl Slot {
    /// Whether block files have all of it, if anybody has.
    fn has_left(&self) -> bool {
        self.series.is_empty() && self.recorded.is_none_or(|life| life.last.is_some())
    }
}
