//! Where the engine gets series from: the store, or memory in tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use common::metric::{Kind, Labels};
use common::time::{TimeRange, Timestamp};
use common::window::{Gauge, Window};

use crate::query::QueryError;
use crate::store::Store;
use crate::store::select::Field;
use crate::store::select::Matcher;
use crate::store::select::STALE;
use crate::store::select::SelectError;
use crate::store::select::Selected;

/// Something that has series.
pub trait Source: Send + Sync {
    /// All series that match, with the samples of their windows in `range`, oldest first. A series that matches without
    /// a sample there is left out. A staleness mark stands in every column.
    ///
    /// # Errors
    /// When a budget runs out or the store cannot read.
    fn select(&self, matchers: &[Matcher], range: TimeRange, fields: &[Field]) -> Result<Vec<Selected>, SelectError>;

    /// The same, one series after the other.
    ///
    /// # Errors
    /// As [`Self::select`], and those of `give`.
    fn select_each(
        &self,
        (matchers, range, fields): (&[Matcher], TimeRange, &[Field]),
        give: &mut dyn FnMut(Selected) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.select(matchers, range, fields)?.into_iter().try_for_each(give)
    }
}

impl Source for Store {
    fn select(&self, matchers: &[Matcher], range: TimeRange, fields: &[Field]) -> Result<Vec<Selected>, SelectError> {
        Self::select(self, matchers, range, fields)
    }

    fn select_each(
        &self,
        what: (&[Matcher], TimeRange, &[Field]),
        give: &mut dyn FnMut(Selected) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        Self::select_each(self, what, give)
    }
}

/// Series in memory: what tests and replays query.
#[derive(Debug, Default)]
pub struct Memory {
    series: RwLock<BTreeMap<Labels, Kept>>,
}

#[derive(Debug)]
struct Kept {
    kind: Kind,
    /// By stamp; a staleness mark is no window.
    windows: BTreeMap<Timestamp, Option<Window>>,
}

impl Memory {
    /// Adds a window to a series, replacing one with its stamp. The first window of a series decides its kind.
    pub fn append(&self, labels: &Labels, stamp: Timestamp, window: Window) {
        let kind = match window {
            Window::Gauge(_) => Kind::Gauge,
            Window::Counter(_) => Kind::Counter,
        };
        self.put(labels, kind, stamp, Some(window));
    }

    /// Adds a plain sample: a gauge's window of one.
    pub fn append_sample(&self, labels: &Labels, stamp: Timestamp, value: f64) {
        self.append(labels, stamp, Window::Gauge(Gauge::of(value)));
    }

    /// Marks that a series ended.
    pub fn mark_stale(&self, labels: &Labels, stamp: Timestamp) {
        self.put(labels, Kind::Gauge, stamp, None);
    }

    fn put(&self, labels: &Labels, kind: Kind, stamp: Timestamp, window: Option<Window>) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let kept = series.entry(labels.clone()).or_insert_with(|| Kept { kind, windows: BTreeMap::new() });
        kept.windows.insert(stamp, window);
    }
}

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], range: TimeRange, fields: &[Field]) -> Result<Vec<Selected>, SelectError> {
        if range.through <= range.after {
            return Ok(Vec::new());
        }
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let matches = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        let selected = series.iter().filter(|(labels, _)| matches(labels)).map(|(labels, kept)| {
            let bounds = (Bound::Excluded(range.after), Bound::Included(range.through));
            let windows: Vec<_> = kept.windows.range(bounds).collect();
            let stamps = windows.iter().map(|(stamp, _)| **stamp).collect();
            let column = |field: &Field| windows.iter().map(|(_, window)| read(window.as_ref(), *field)).collect();
            let columns = fields.iter().map(column).collect();
            Selected { labels: labels.clone(), kind: kept.kind, stamps, columns }
        });
        Ok(selected.filter(|selected| !selected.stamps.is_empty()).collect())
    }
}

fn read(window: Option<&Window>, field: Field) -> f64 {
    let Some(window) = window else {
        return f64::from_bits(STALE);
    };
    match (window, field) {
        (_, Field::Count) => f64::from(window.count()),
        (Window::Gauge(gauge), Field::Min) => gauge.min,
        (Window::Gauge(gauge), Field::Max) => gauge.max,
        (Window::Gauge(gauge), Field::Sum) => gauge.sum,
        (Window::Gauge(_), Field::Peak) => f64::NAN,
        (Window::Counter(counter), Field::Increase) => counter.increase,
        (Window::Counter(counter), Field::Peak) => counter.peak,
        (_, Field::Last | Field::Min | Field::Max | Field::Sum | Field::Increase) => window.last(),
    }
}
