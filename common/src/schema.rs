//! Which series a run of the agent has: host × entity × column, numbered, append-only.

use bincode::{Decode, Encode};

use crate::metric::{Decimals, Kind, Labels, NAME, Tier};

/// A series' place in its run's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SeriesIndex(pub u32);

/// What a series is about besides the host: a container, a device, a process group. Entity 0 is the host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Entity {
    /// Labels that the entity's series share.
    pub labels: Labels,
}

/// What is measured of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Column {
    /// Metric name.
    pub metric: String,
    /// `job`, `mode`, `cpu`: what tells the columns of one metric apart.
    pub labels: Labels,
    /// Gauge or counter.
    pub kind: Kind,
    /// Digits its values mean.
    pub decimals: Decimals,
    /// Whether its windows keep the fastest growth between two ticks (counters).
    pub peak: bool,
    /// How often it is sampled.
    pub tier: Tier,
}

/// One series of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Index of its entity.
    pub entity: u32,
    /// Index of its column.
    pub column: u32,
    /// The version that added it.
    pub since: u32,
    /// The version that ended it, if it ended.
    pub ended: Option<u32>,
}

/// What one version adds to the version before it. The first version is 1; version 0 is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SchemaChange {
    /// The version that this change makes.
    pub version: u32,
    /// Entities added.
    pub entities: Vec<Entity>,
    /// Columns added.
    pub columns: Vec<Column>,
    /// Series added: index of entity, index of column.
    pub series: Vec<(u32, u32)>,
    /// Series that ended.
    pub ended: Vec<SeriesIndex>,
}

impl SchemaChange {
    /// Whether the change changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.columns.is_empty() && self.series.is_empty() && self.ended.is_empty()
    }
}

/// Why a change does not fit the schema it was sent for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A version is missing in between, or comes twice.
    #[error("schema version {found} does not follow version {held}")]
    Version {
        /// What is held.
        held: u32,
        /// What came.
        found: u32,
    },
    /// An index points past its table.
    #[error("schema change names {what} {index}, which does not exist")]
    Dangling {
        /// `entity`, `column` or `series`.
        what: &'static str,
        /// The index.
        index: u32,
    },
    /// More series than a host may have, or more entities or columns than they could need.
    #[error("schema has more than {SERIES_PER_HOST_MAX} series")]
    TooLarge,
    /// A version that changes nothing: they would go on for ever.
    #[error("schema version {0} changes nothing")]
    Empty(u32),
}

/// Series of one run, ended ones included: 5,000 processes in 1,000 containers are about 40,000 series; churn has
/// room for a few times that before the agent starts a new run.
pub const SERIES_PER_HOST_MAX: usize = 200_000;

/// All versions of one run's schema at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// How many entities and columns each version has, from version 1 on.
    lengths: Vec<(usize, usize)>,
    entities: Vec<Entity>,
    columns: Vec<Column>,
    series: Vec<Series>,
}

impl Schema {
    /// The latest version.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::try_from(self.lengths.len()).unwrap_or(u32::MAX)
    }

    /// All entities.
    #[must_use]
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// All series, ended ones included, in the order of their index.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The column of a series.
    #[must_use]
    pub fn column(&self, series: SeriesIndex) -> Option<&Column> {
        let series = self.series.get(series.0 as usize)?;
        self.columns.get(series.column as usize)
    }

    /// Labels of a series without the host's: entity, column and name together.
    #[must_use]
    pub fn labels(&self, series: SeriesIndex) -> Option<Labels> {
        let Series { entity, column, .. } = *self.series.get(series.0 as usize)?;
        let column = self.columns.get(column as usize)?;
        let entity = self.entities.get(entity as usize)?;
        let named = entity.labels.clone().and(&column.labels);
        Some(named.with(NAME, column.metric.as_str()))
    }

    /// Series that exist in `version`, in the order of their index, with their columns: what a batch of that version
    /// has values for.
    pub fn living(&self, version: u32) -> impl Iterator<Item = (SeriesIndex, &Column)> {
        (0..).zip(&self.series).filter_map(move |(index, series)| {
            let born = series.since <= version;
            let alive = series.ended.is_none_or(|ended| version < ended);
            let column = self.columns.get(series.column as usize)?;
            (born && alive).then_some((SeriesIndex(index), column))
        })
    }

    /// Makes the next version. A change that does not fit leaves the schema as it was.
    ///
    /// # Errors
    /// When the version does not follow, an index dangles or the limit is passed.
    pub fn apply(&mut self, change: &SchemaChange) -> Result<(), SchemaError> {
        self.check(change)?;
        self.entities.extend_from_slice(&change.entities);
        self.columns.extend_from_slice(&change.columns);
        self.series.extend(change.series.iter().map(|&(entity, column)| Series {
            entity,
            column,
            since: change.version,
            ended: None,
        }));
        for ended in &change.ended {
            if let Some(series) = self.series.get_mut(ended.0 as usize) {
                series.ended.get_or_insert(change.version);
            }
        }
        self.lengths.push((self.entities.len(), self.columns.len()));
        Ok(())
    }

    fn check(&self, change: &SchemaChange) -> Result<(), SchemaError> {
        if self.version().checked_add(1) != Some(change.version) {
            return Err(SchemaError::Version { held: self.version(), found: change.version });
        }
        let entities = self.entities.len() + change.entities.len();
        let columns = self.columns.len() + change.columns.len();
        let series = self.series.len() + change.series.len();
        // The host's own entity may have no series.
        if SERIES_PER_HOST_MAX < series.max(columns).max(entities.saturating_sub(1)) {
            return Err(SchemaError::TooLarge);
        }
        let ends = |ended: &SeriesIndex| self.series.get(ended.0 as usize).is_none_or(|series| series.ended.is_none());
        let grows = !(change.entities.is_empty() && change.columns.is_empty() && change.series.is_empty());
        if !grows && !change.ended.iter().any(ends) {
            return Err(SchemaError::Empty(change.version));
        }
        for &(entity, column) in &change.series {
            within(entity, entities, "entity")?;
            within(column, columns, "column")?;
        }
        for ended in &change.ended {
            within(ended.0, self.series.len() + change.series.len(), "series")?;
        }
        Ok(())
    }

    /// The changes that lead from `version` (not included) to the latest: what a peer that holds `version` lacks.
    pub fn changes_since(&self, version: u32) -> impl Iterator<Item = SchemaChange> {
        (version..self.version()).map(|before| self.change(before + 1))
    }

    fn change(&self, version: u32) -> SchemaChange {
        let (entities, columns) = self.lengths_at(version - 1);
        let (entities_then, columns_then) = self.lengths_at(version);
        let added = self.series.iter().filter(|series| series.since == version);
        let ended = (0..).zip(&self.series).filter(|(_, series)| series.ended == Some(version));
        SchemaChange {
            version,
            entities: self.entities[entities..entities_then].to_vec(),
            columns: self.columns[columns..columns_then].to_vec(),
            series: added.map(|series| (series.entity, series.column)).collect(),
            ended: ended.map(|(index, _)| SeriesIndex(index)).collect(),
        }
    }

    fn lengths_at(&self, version: u32) -> (usize, usize) {
        (version as usize).checked_sub(1).and_then(|at| self.lengths.get(at)).copied().unwrap_or((0, 0))
    }
}

fn within(index: u32, len: usize, what: &'static str) -> Result<(), SchemaError> {
    if (index as usize) < len { Ok(()) } else { Err(SchemaError::Dangling { what, index }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(metric: &str) -> Column {
        Column {
            metric: metric.to_owned(),
            labels: Labels::new().with("job", "node"),
            kind: Kind::Gauge,
            decimals: Decimals::new(2),
            peak: false,
            tier: Tier::Second,
        }
    }

    fn grown() -> Schema {
        let mut schema = Schema::default();
        let host = Entity::default();
        let disk = Entity { labels: Labels::new().with("device", "sda") };
        let changes = [
            SchemaChange {
                version: 1,
                entities: vec![host],
                columns: vec![column("node_load1")],
                series: vec![(0, 0)],
                ended: vec![],
            },
            SchemaChange {
                version: 2,
                entities: vec![disk],
                columns: vec![column("node_disk_reads_completed_total")],
                series: vec![(1, 1)],
                ended: vec![],
            },
            SchemaChange { version: 3, ended: vec![SeriesIndex(1)], ..SchemaChange::default() },
        ];
        for change in &changes {
            schema.apply(change).unwrap();
        }
        schema
    }

    #[test]
    fn each_version_has_its_own_living_series() {
        let schema = grown();
        let living = |version| schema.living(version).map(|(index, _)| index.0).collect::<Vec<_>>();
        assert_eq!([living(0), living(1), living(2), living(3)], [vec![], vec![0], vec![0, 1], vec![0]]);
        let labels = schema.labels(SeriesIndex(1)).unwrap();
        assert_eq!(labels.to_string(), r#"node_disk_reads_completed_total{device="sda", job="node"}"#);
    }

    #[test]
    fn what_a_peer_lacks_brings_it_to_the_same_schema() {
        let schema = grown();
        for held in 0..=schema.version() {
            let mut peer = Schema::default();
            for change in schema.changes_since(0).take(held as usize) {
                peer.apply(&change).unwrap();
            }
            for change in schema.changes_since(held) {
                peer.apply(&change).unwrap();
            }
            assert_eq!(peer, schema, "from version {held}");
        }
    }

    #[test]
    fn a_change_that_does_not_fit_changes_nothing() {
        let mut schema = grown();
        let check = |schema: &mut Schema, change: SchemaChange, expect: &str| {
            let before = schema.clone();
            assert_eq!(schema.apply(&change).unwrap_err().to_string(), expect);
            assert_eq!(*schema, before);
        };
        let next = SchemaChange { version: 4, ..SchemaChange::default() };
        check(&mut schema, SchemaChange { version: 3, ..next.clone() }, "schema version 3 does not follow version 3");
        let dangling = SchemaChange { series: vec![(2, 0)], ..next.clone() };
        check(&mut schema, dangling, "schema change names entity 2, which does not exist");
        check(&mut schema, next.clone(), "schema version 4 changes nothing");
        let entities = vec![Entity::default(); SERIES_PER_HOST_MAX];
        check(&mut schema, SchemaChange { entities, ..next.clone() }, "schema has more than 200000 series");
        let columns = vec![column("m"); SERIES_PER_HOST_MAX];
        check(&mut schema, SchemaChange { columns, ..next.clone() }, "schema has more than 200000 series");
        let dangling = SchemaChange { ended: vec![SeriesIndex(2)], ..next };
        check(&mut schema, dangling, "schema change names series 2, which does not exist");
    }
}
