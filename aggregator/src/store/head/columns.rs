//! What is measured, each column once for all hosts, and where its metric's name leads.

use std::collections::HashMap;
use std::sync::Arc;

use common::metric::{Kind, Labels, NAME};
use common::schema;

use crate::store::chunk::Shape;
use crate::store::room::Count;
use crate::store::room::Limit;
use crate::store::room::Limits;
use crate::store::room::Seat;
use crate::store::select::Is;
use crate::store::select::Matcher;

/// A column's place among all columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ColumnId(pub(super) u32);

/// A column: labels with the metric's name among them, and the shape of its windows.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) labels: Labels,
    pub(super) shape: Shape,
    /// How many series its metric has.
    series: Count,
}

/// All columns of all hosts.
#[derive(Debug, Default)]
pub(super) struct Columns {
    all: Vec<Arc<Column>>,
    ids: HashMap<(Labels, Kind), ColumnId>,
    by_metric: HashMap<Arc<str>, Vec<ColumnId>>,
    limits: Limits,
    series: Count,
}

/// A column that no matcher rules out, and the matchers that its own labels leave open.
#[derive(Debug)]
pub(in crate::store) struct Candidate<'a> {
    pub(super) id: ColumnId,
    pub(super) open: Vec<&'a Matcher>,
    column: Arc<Column>,
}

impl Candidate<'_> {
    /// Gauge or counter.
    pub(in crate::store) fn kind(&self) -> Kind {
        self.column.shape.kind
    }

    /// One of its labels.
    pub(super) fn label(&self, name: &str) -> &str {
        self.column.labels.get(name)
    }

    /// The value of one of its labels; or the names of all.
    pub(super) fn texts(&self, of: Option<&str>) -> impl Iterator<Item = &str> {
        let names = of.is_none().then(|| self.column.labels.iter().map(|(name, _)| name));
        of.map(|name| self.label(name)).into_iter().chain(names.into_iter().flatten())
    }
}

impl Columns {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Which limit keeps a host that has so many series from another one of a metric.
    pub(super) fn limit(&self, metric: &str, of_host: usize) -> Option<Limit> {
        let Limits { series_max, series_per_host_max, series_per_metric_max } = self.limits;
        let of_metric = self.by_metric.get(metric).and_then(|ids| self.get(*ids.first()?));
        let of_metric = of_metric.map_or(0, |column| column.series.get());
        let of_host = u64::try_from(of_host).unwrap_or(u64::MAX);
        let reached = [
            (Limit::PerHost, of_host, series_per_host_max),
            (Limit::PerMetric, of_metric, series_per_metric_max),
            (Limit::Series, self.series.get(), series_max),
        ];
        reached.into_iter().find(|(_, count, most)| most <= count).map(|(limit, ..)| limit)
    }

    /// Counts a series of a column.
    pub(super) fn seat(&self, column: &Column) -> Seat {
        Seat::take(&self.series, &column.series)
    }

    /// The column of a schema, which is new or not. What a later agent says about its decimals is not heard: a block
    /// keeps every value to the bit either way.
    pub(super) fn intern(&mut self, column: &schema::Column) -> ColumnId {
        self.insert(whole(column), Shape { kind: column.kind, decimals: column.decimals, peak: column.peak })
    }

    /// The column of a metric whose series come with their whole label sets, which is new or not.
    pub(super) fn intern_written(&mut self, metric: &str) -> ColumnId {
        self.insert(Labels::new().with(NAME, metric), Shape::WRITTEN)
    }

    /// The column with these labels, if there is one.
    pub(super) fn id(&self, labels: &Labels, kind: Kind) -> Option<ColumnId> {
        self.ids.get(&(labels.clone(), kind)).copied()
    }

    pub(super) fn insert(&mut self, labels: Labels, shape: Shape) -> ColumnId {
        let key = (labels, shape.kind);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = ColumnId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let of_metric = self.by_metric.entry(key.0.get(NAME).into()).or_default();
        let beside = of_metric.first().and_then(|id| self.all.get(id.0 as usize));
        let series = beside.map(|column| column.series.clone()).unwrap_or_default();
        of_metric.push(id);
        self.all.push(Arc::new(Column { labels: key.0.clone(), shape, series }));
        self.ids.insert(key, id);
        id
    }

    pub(super) fn get(&self, id: ColumnId) -> Option<&Arc<Column>> {
        self.all.get(id.0 as usize)
    }

    /// The columns that may match, ascending.
    pub(super) fn candidates<'a>(&self, matchers: &'a [Matcher]) -> Vec<Candidate<'a>> {
        let named = matchers.iter().find_map(|matcher| match &matcher.is {
            Is::Equal(name) if matcher.name == NAME => Some(name.as_str()),
            Is::Equal(_) | Is::NotEqual(_) | Is::Match(_) | Is::NoMatch(_) => None,
        });
        match named {
            Some(name) => {
                let ids = self.by_metric.get(name).into_iter().flatten();
                ids.filter_map(|id| self.candidate(*id, matchers)).collect()
            }
            None => {
                let ids = (0..).take(self.all.len()).map(ColumnId);
                ids.filter_map(|id| self.candidate(id, matchers)).collect()
            }
        }
    }

    fn candidate<'a>(&self, id: ColumnId, matchers: &'a [Matcher]) -> Option<Candidate<'a>> {
        let column = self.get(id)?;
        let open = leave_open(&column.labels, matchers.iter())?;
        Some(Candidate { id, open, column: Arc::clone(column) })
    }
}

/// The labels of a column of a schema, the metric's name among them.
pub(super) fn whole(column: &schema::Column) -> Labels {
    column.labels.clone().with(NAME, column.metric.as_str())
}

/// The matchers about labels that are not among these; `None` when one of the others does not match.
pub(in crate::store) fn leave_open<'a>(
    labels: &Labels,
    matchers: impl Iterator<Item = &'a Matcher>,
) -> Option<Vec<&'a Matcher>> {
    let mut open = Vec::new();
    for matcher in matchers {
        match labels.get(&matcher.name) {
            "" => open.push(matcher),
            value if matcher.matches(value) => {}
            _ => return None,
        }
    }
    Some(open)
}
