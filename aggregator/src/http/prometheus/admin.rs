//! What changes what is stored: `admin/tsdb`. Who may use the API may.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::lookup::Lookup;
use crate::http::prometheus::parameters::Parameters;
use crate::store::Deletion;

/// `delete_series`: of the series that match nothing is left in the range when this is answered.
pub(super) async fn delete_series(State(app): State<Arc<App>>, parameters: Parameters) -> Result<StatusCode, Failure> {
    let found = Lookup::of_some(&parameters)?;
    let deletion = Deletion { selectors: found.matchers().map(<[_]>::to_vec).collect(), range: found.range };
    tracing::info!(selectors = ?parameters.all("match[]").collect::<Vec<_>>(), range = ?found.range, "series are deleted");
    app.store.delete(deletion).await.map_err(|error| Failure::internal(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `clean_tombstones`: there are none, because what is deleted is gone.
pub(super) async fn clean_tombstones() -> StatusCode {
    StatusCode::NO_CONTENT
}
