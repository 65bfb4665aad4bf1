//! What the schemas of a host's runs take in memory.

use common::metric::Labels;
use common::schema;
use common::schema::{SchemaChange, SchemaError};

/// Bytes that the schemas of a host's runs take: those of twenty runs of 200,000 series each, which only a host sends whose
/// containers come and go by the second.
pub(super) const SCHEMA_BYTES_MAX: usize = 256 << 20;

/// What a label takes besides its letters.
const LABEL_BYTES: usize = 32;

/// Why a schema was not changed.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum NotApplied {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the schemas of this host take more than {SCHEMA_BYTES_MAX} bytes")]
    TooManyBytes,
}

/// About what a change takes in memory.
pub(super) fn bytes(change: &SchemaChange) -> usize {
    let text =
        |labels: &Labels| labels.iter().map(|(name, value)| LABEL_BYTES + name.len() + value.len()).sum::<usize>();
    let entities: usize = change.entities.iter().map(|entity| size_of::<Labels>() + text(&entity.labels)).sum();
    let column = |column: &schema::Column| size_of_val(column) + column.metric.len() + text(&column.labels);
    let columns: usize = change.columns.iter().map(column).sum();
    size_of::<SchemaChange>() + entities + columns + size_of::<schema::Series>() * change.series.len()
}
