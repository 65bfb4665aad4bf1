//! Snapshots of the database for commands, which remove them: through the control socket alone.

use std::path::Path;

use anyhow::Context as _;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use serde_json::json;

use crate::http::control::Question;
use crate::http::problem::Problem;
use crate::store::Store;
use crate::store::snapshot::Snapshot;

const PATH: &str = "/control/snapshots";

/// Makes them.
pub fn router(store: Store) -> Router {
    Router::new().route(PATH, post(make)).with_state(store)
}

/// Asks for one.
#[must_use]
pub fn question() -> Question {
    Question::post(PATH, &json!({}))
}

/// The one that was made.
///
/// # Errors
/// When it is not named.
pub fn answered(data_dir: &Path, answer: &Value) -> anyhow::Result<Snapshot> {
    let number = answer["snapshot"].as_u64().and_then(|number| u32::try_from(number).ok());
    Ok(Snapshot::numbered(data_dir, number.context("the aggregator answered without a snapshot")?))
}

async fn make(State(store): State<Store>) -> Result<Json<Value>, Problem> {
    let made = store.snapshot().await.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(Json(json!({ "snapshot": made.hand_over() })))
}
