//! What was asked of the engine and took long.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::problem::Problem;
use crate::query::Asked;
use crate::query::Moments;

/// The latest slow queries.
#[derive(Serialize, ToSchema)]
pub struct Queries {
    /// Newest first.
    queries: Vec<Query>,
}

/// A slow query. The first and the last moment it asks about are the same unless it is a range query.
#[derive(Serialize, ToSchema)]
pub struct Query {
    #[schema(value_type = i64)]
    at_ms: Timestamp,
    query: String,
    #[schema(value_type = i64)]
    start_ms: Timestamp,
    #[schema(value_type = i64)]
    end_ms: Timestamp,
    step_seconds: f64,
    seconds: f64,
    /// Series that its selectors read.
    series: usize,
    /// Samples that they read.
    samples: usize,
    /// Why it was not answered.
    error: Option<String>,
}

impl From<Asked> for Query {
    fn from(Asked { at, query, moments, stats, error }: Asked) -> Self {
        let (start_ms, end_ms, step_seconds) = match moments {
            Moments::At(at) => (at, at, 0.0),
            Moments::Range { start, end, step } => (start, end, step.as_secs_f64()),
        };
        Self {
            at_ms: at,
            query,
            start_ms,
            end_ms,
            step_seconds,
            seconds: stats.took.as_secs_f64(),
            series: stats.series_selected(),
            samples: stats.samples_selected(),
            error: error.map(|error| error.to_string()),
        }
    }
}

/// The latest queries, rules' among them, that took longer than `[query] slow`: newest first.
#[utoipa::path(get, path = "/api/v1/queries", operation_id = "queries", tag = "queries", responses((status = 200, body = Queries), (status = 401, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<Queries> {
    Json(Queries { queries: app.engine.log().slow().into_iter().rev().map(Query::from).collect() })
}
