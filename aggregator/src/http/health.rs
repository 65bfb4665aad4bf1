//! Whether the aggregator lives, and whether it can take data in.

use std::sync::Arc;

use axum::extract::State;

use crate::http::App;
use crate::http::problem::Problem;
use crate::http::reading;
use crate::store::Health;

/// Says that the program answers.
#[utoipa::path(get, path = "/healthz", operation_id = "health", tag = "health", security(()), responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether data can be stored, and all that is stored can be asked for.
#[utoipa::path(get, path = "/readyz", operation_id = "readiness", tag = "health", security(()), responses((status = 200, content_type = "text/plain", body = String), (status = 503, body = Problem)))]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    match app.store.health() {
        Health::Writable => Ok("ok\n"),
        Health::Reading => Err(reading::unread(&app)),
        Health::Full => Err(Problem::unavailable(
            "the disk is full: agents keep their data until there is space again; queries and alerts go on",
        )),
        Health::Failing => Err(Problem::unavailable("the database cannot be written; the log says why")),
    }
}
