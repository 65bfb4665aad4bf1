//! Where the engine gets series from: the store, or memory in tests.

use crate::store::Store;
use crate::store::select::Field;
use crate::store::select::Matcher;
use crate::store::select::SelectError;
use crate::store::select::Selected;
use common::time::TimeRange;

/// Something that has series.
pub trait Source: Send + Sync {
    /// All series that match, with the samples of their windows in `range`, oldest first. A series that matches without
    /// a sample there is left out.
    ///
    /// # Errors
    /// When a budget runs out or the store cannot read.
    fn select(&self, matchers: &[Matcher], range: TimeRange, fields: &[Field]) -> Result<Vec<Selected>, SelectError>;
}

impl Source for Store {
    fn select(&self, matchers: &[Matcher], range: TimeRange, fields: &[Field]) -> Result<Vec<Selected>, SelectError> {
        Self::select(self, matchers, range, fields)
    }
}
