//! Prometheus' HTTP API under `/prometheus/api/v1`, so that what asks Prometheus can ask us.

mod admin;
pub mod answer;
mod export;
mod exposition;
mod federate;
mod import;
mod lookup;
pub mod parameters;
mod query;
mod rules;
mod status;
mod targets;
mod write;
mod written;

pub use crate::http::prometheus::answer::number;
pub use crate::http::prometheus::export::COMPRESSED;
pub use crate::http::prometheus::export::Exports;
pub use crate::http::prometheus::write::Writes;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use axum::routing::post;

use crate::http::App;
use crate::http::health;

/// All of its routes.
pub fn router() -> Router<Arc<App>> {
    let api = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parsed).post(query::parsed))
        .route("/series", get(lookup::series).post(lookup::series))
        .route("/labels", get(lookup::labels).post(lookup::labels))
        .route("/label/{name}/values", get(lookup::label_values))
        .route("/export", get(export::export).post(export::export))
        .route("/metadata", get(status::metadata))
        .route("/targets", get(targets::list))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/status/buildinfo", get(status::build))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime))
        .route("/status/tsdb", get(status::tables))
        .route("/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route("/admin/tsdb/clean_tombstones", post(admin::clean_tombstones).put(admin::clean_tombstones));
    Router::new().nest("/prometheus/api/v1", api).route("/prometheus/federate", get(federate::federate))
}

/// Whether it is there, for everybody: what `promtool check healthy` and load balancers ask.
pub fn open() -> Router<Arc<App>> {
    let healthy = Router::new().route("/prometheus/-/healthy", get(health::healthz));
    healthy.route("/prometheus/-/ready", get(health::readyz))
}

/// What is written to.
pub fn written() -> Router<Arc<App>> {
    Router::new()
        .route("/prometheus/api/v1/write", post(write::receive))
        .route("/prometheus/api/v1/import", post(import::import))
}
