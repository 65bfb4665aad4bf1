//! The aggregator's own metrics, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::http::App;
use crate::http::prometheus::number;
use crate::store::Health;

/// What the aggregator counts about itself.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn show(State(app): State<Arc<App>>) -> Response {
    let mut text = Exposition::default();
    store(&app, &mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response()
}

/// Text in Prometheus' format.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric("gauge", name, help, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric("counter", name, help, value as f64);
    }

    fn metric(&mut self, kind: &str, name: &str, help: &str, value: f64) {
        let name = format!("lapwing_aggregator_{name}");
        let value = number(value);
        // Writing to a string does not fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}").unwrap_or_default();
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn store(app: &App, text: &mut Exposition) {
    let stats = app.store.stats();
    let writable = f64::from(u8::from(app.store.health() == Health::Writable));
    text.gauge("store_writable", "Whether the last commit could be written.", writable);
    text.gauge("store_series", "Series in the head.", stats.series as f64);
    text.gauge("store_block_bytes", "Bytes of the head's compressed blocks.", stats.block_bytes as f64);
    text.counter("store_samples_total", "Samples appended, replay at the start included.", stats.samples_total);
    text.counter(
        "store_replaced_total",
        "Samples that took the place of one with the same stamp.",
        stats.replaced_total,
    );
    text.counter("store_batches_total", "Batches stored.", stats.batches_total);
    text.counter("store_repeated_total", "Batches that came again.", stats.repeated_total);
    text.counter("store_missing_total", "Batches that agents dropped before they were sent.", stats.missing_total);
    text.counter("store_commits_total", "Group commits made.", stats.commits_total);
    text.counter("store_commits_failed_total", "Group commits that failed.", stats.commits_failed_total);
    text.counter("store_unreadable_total", "Log rows that could not be replayed at the start.", stats.unreadable_total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let mut text = Exposition::default();
        text.counter("x_total", "Things.", 7);
        let expect = "# HELP lapwing_aggregator_x_total Things.\n# TYPE lapwing_aggregator_x_total counter\n\
                      lapwing_aggregator_x_total 7\n";
        assert_eq!(text.0, expect);
    }
}
