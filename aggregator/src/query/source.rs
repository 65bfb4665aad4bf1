//! Where the engine gets series from: the store, or memory in tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::slice::from_ref;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use common::metric::{Kind, Labels};
use common::time::{TimeRange, Timestamp};
use common::window::{Gauge, Window};

use crate::query::QueryError;
use crate::store::Store;
use crate::store::Version;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Levels;
use crate::store::select::Question;
use crate::store::select::STALE;
use crate::store::select::Samples;
use crate::store::select::Selected;

/// Something that has series.
pub trait Source: Send + Sync {
    /// All series that match, one after the other, with the samples of their windows in the range, oldest first. A series
    /// that matches without a sample there is left out. A staleness mark stands in every column.
    ///
    /// # Errors
    /// When a budget runs out or the store cannot read, and those of `give`.
    fn select(&self, question: Question<'_>, give: &mut Lend<'_>) -> Result<(), QueryError>;

    /// How long the windows are that answer for a moment, where they are not those that were written: longer ones where
    /// grains let them. Not longer for later moments.
    fn resolution(&self, _at: Timestamp, _grains: Grains) -> Option<Duration> {
        None
    }

    /// What is another one when what is answered about a range may be another. Nothing where that is not known.
    fn version(&self, _range: TimeRange) -> Option<Version> {
        None
    }
}

impl dyn Source + '_ {
    /// How far one looks back from each moment, as far as that is further than usual: two windows where those are long.
    pub(super) fn lookbacks(&self, usual_ms: i64, moments: impl Iterator<Item = i64>) -> Vec<i64> {
        moments.map_while(|moment| self.before_ms(moment, Grains::default())).map(|two| two.max(usual_ms)).collect()
    }

    /// How far before a moment is to be read where windows are long: two of them.
    pub(super) fn before_ms(&self, moment: i64, grains: Grains) -> Option<i64> {
        let resolution = self.resolution(Timestamp::from_millis(moment), grains)?;
        Some(i64::try_from(2 * resolution.as_millis()).unwrap_or(i64::MAX))
    }

    /// What is to be said of the windows that answer for a moment, if they are long.
    pub(super) fn said_of(&self, at: Timestamp) -> Option<String> {
        let minutes = self.resolution(at, Grains::default())?.as_secs() / 60;
        Some(format!("windows of {minutes} minutes answer for the beginning of the range"))
    }
}

/// Somebody who is lent one series after the other.
pub type Lend<'a> = dyn FnMut(Selected<'_>) -> Result<(), QueryError> + 'a;

impl Source for Store {
    fn select(&self, question: Question<'_>, give: &mut Lend<'_>) -> Result<(), QueryError> {
        Self::select(self, question, give)
    }

    fn resolution(&self, at: Timestamp, grains: Grains) -> Option<Duration> {
        Self::resolution(self, at, grains)
    }

    fn version(&self, range: TimeRange) -> Option<Version> {
        Some(Self::version(self, range))
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
    fn select(&self, question: Question<'_>, give: &mut Lend<'_>) -> Result<(), QueryError> {
        let Question { matchers, range, fields, .. } = question;
        if range.through <= range.after {
            return Ok(());
        }
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let matches = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        for (labels, kept) in all.iter().filter(|(labels, _)| matches(labels)) {
            let bounds = (Bound::Excluded(range.after), Bound::Included(range.through));
            let windows: Vec<_> = kept.windows.range(bounds).collect();
            let column = |field: &Field| windows.iter().map(|(_, window)| read(window.as_ref(), *field)).collect();
            let mut samples = Samples {
                stamps: windows.iter().map(|(stamp, _)| **stamp).collect(),
                columns: fields.iter().map(column).collect(),
            };
            if !samples.is_empty() {
                give(Selected {
                    labels: Levels(from_ref(labels)),
                    kind: kept.kind,
                    tiers: &[],
                    samples: &mut samples,
                })?;
            }
        }
        Ok(())
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
