//! The aggregator's own metrics, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::alert::snapshot;
use crate::forward::Counted;
use crate::http::App;
use crate::http::prometheus::number;
use crate::receive::received::Reason;
use crate::store::Health;
use crate::store::disk::Disk;

/// What the aggregator counts about itself.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn show(State(app): State<Arc<App>>) -> Response {
    let mut text = Exposition::default();
    ingest(&app, &mut text);
    store(&app, &mut text);
    queries(&app, &mut text);
    written(&app, &mut text);
    forwarded(&app, &mut text);
    alerts(&app, &mut text);
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

    fn seconds(&mut self, name: &str, help: &str, value: Duration) {
        self.metric("counter", name, help, value.as_secs_f64());
    }

    /// A counter with a value for each value of one label.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
    fn counters(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (String, u64)>) {
        let name = format!("lapwing_aggregator_{name}");
        // Writing to a string does not fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} counter").unwrap_or_default();
        for (value, count) in values {
            writeln!(self.0, "{name}{{{label}=\"{value}\"}} {}", number(count as f64)).unwrap_or_default();
        }
    }

    /// A gauge with a value for each value of one label.
    fn gauges(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (String, f64)>) {
        let name = format!("lapwing_aggregator_{name}");
        // Writing to a string does not fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge").unwrap_or_default();
        for (value, number_of) in values {
            writeln!(self.0, "{name}{{{label}=\"{value}\"}} {}", number(number_of)).unwrap_or_default();
        }
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
    text.gauge("store_head_bytes", "Bytes that the head takes.", stats.head_bytes as f64);
    text.gauge("store_block_bytes", "Bytes of all block files.", stats.block_bytes as f64);
    text.counter("store_damaged_total", "Times that a block file was not what was written.", stats.damaged_total);
    for (name, bytes) in app.store.disk().into_iter().flat_map(Disk::figures) {
        text.gauge(name, "Of the file system that everything is kept on.", bytes);
    }
    let refused = app.store.refused().into_iter().flat_map(|(_, refusals)| refusals);
    let mut by_limit: BTreeMap<String, u64> = BTreeMap::new();
    refused.for_each(|(limit, refusal)| *by_limit.entry(limit.to_string()).or_default() += refusal.samples);
    let help = "Samples for whose series there was no room.";
    text.counters("store_refused_total", help, "limit", by_limit.into_iter());
    text.counter("store_samples_total", "Samples appended, replay at the start included.", stats.samples_total);
    text.counter(
        "store_replaced_total",
        "Samples that took the place of one with the same stamp.",
        stats.replaced_total,
    );
    text.counter("store_batches_total", "Batches stored.", stats.batches_total);
    text.counter("store_repeated_total", "Batches that came again.", stats.repeated_total);
    text.counter("store_missing_total", "Batches that agents dropped before they were sent.", stats.missing_total);
    let help = "Batches that were older than what is kept when they came: taken, and not stored.";
    text.counter("store_too_old_total", help, stats.too_old_total);
    text.counter("store_commits_total", "Group commits made.", stats.commits_total);
    text.counter("store_commits_failed_total", "Group commits that failed.", stats.commits_failed_total);
    text.counter("store_unreadable_total", "Log rows that could not be replayed at the start.", stats.unreadable_total);
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn ingest(app: &App, text: &mut Exposition) {
    let hosts = app.presence.snapshot();
    let connected = hosts.iter().filter(|host| host.connected).count();
    text.gauge("ingest_hosts", "Hosts that are known.", hosts.len() as f64);
    text.gauge("ingest_connected", "Hosts in session.", connected as f64);
    let counters = &app.ingested;
    let counted = [
        ("sessions_total", "Sessions opened.", &counters.sessions_total),
        ("tcp_sessions_total", "Sessions opened on TCP, where UDP does not pass.", &counters.tcp_sessions_total),
        ("turned_away_total", "Connections turned away for want of room.", &counters.turned_away_total),
        ("handshakes_failed_total", "Handshakes that were not completed.", &counters.handshakes_failed_total),
        ("malformed_total", "Sessions ended for what cannot be read.", &counters.malformed_total),
        ("refused_total", "Sessions and enrolments without the right to be here.", &counters.refused_total),
        ("replaced_total", "Sessions that a newer one of the same host took over from.", &counters.replaced_total),
        ("wordless_total", "Connections that said no first word in time.", &counters.wordless_total),
        ("throttled_total", "Times that a session sent faster than one may, and waited.", &counters.throttled_total),
        ("copied_total", "Sessions refused: another agent with the same state is in session.", &counters.copied_total),
        ("busy_total", "Times that an agent was told to wait.", &counters.busy_total),
        ("batches_total", "Batches committed.", &counters.batches_total),
        ("samples_total", "Samples in them.", &counters.samples_total),
    ];
    for (name, help, counter) in counted {
        text.counter(&format!("ingest_{name}"), help, counter.get());
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn queries(app: &App, text: &mut Exposition) {
    let asking = app.engine.log().asking();
    text.counter("queries_total", "Queries asked, those of rules and of the page among them.", asking.queries);
    text.counter("queries_failed_total", "Queries that were not answered.", asking.failed);
    let gone = "Queries and lookups that ended, or never began, because nobody waited for the answer any more.";
    text.counter("queries_canceled_total", gone, app.queries.canceled());
    text.gauge("queries_running", "Queries and lookups that are on a thread.", app.queries.running() as f64);
    text.seconds("query_seconds_total", "How long all queries ran.", asking.took);
    let caching = app.engine.caching();
    text.counter("query_cache_hits_total", "Pieces of range queries answered as before.", caching.hits);
    text.counter("query_cache_misses_total", "Pieces of range queries that had to be calculated.", caching.misses);
    text.gauge("query_cache_bytes", "Bytes of the pieces that are kept.", caching.bytes as f64);
}

fn written(app: &App, text: &mut Exposition) {
    let counted = app.writes.counted();
    let requests = counted.requests().into_iter().map(|(code, count)| (code.to_string(), count));
    text.counters("remote_write_requests_total", "Requests of remote write, by their answer.", "code", requests);
    text.counter("remote_write_samples_total", "Samples of remote write stored.", counted.samples());
    let refused = counted.refused();
    let refused = Reason::ALL
        .into_iter()
        .map(|reason| (reason.name().to_owned(), refused.get(&reason).copied().unwrap_or_default()));
    let help = "Samples of remote write that can never be stored.";
    text.counters("remote_write_refused_total", help, "reason", refused);
}

fn forwarded(app: &App, text: &mut Exposition) {
    if app.forwards.is_empty() {
        return;
    }
    let now = app.clock.wall();
    let of = |count: fn(&Counted) -> u64| app.forwards.iter().map(move |target| (target.name.clone(), count(target)));
    let lags = app.forwards.iter().map(|target| (target.name.clone(), target.lag(now).as_secs_f64()));
    text.gauges("forward_lag_seconds", "How far those who are written to are behind.", "target", lags);
    text.counters("forward_samples_total", "Samples that they took.", "target", of(Counted::sent));
    text.counters("forward_dropped_total", "Samples that they refused for good.", "target", of(Counted::dropped));
    text.counters("forward_failed_total", "Attempts that failed and are made again.", "target", of(Counted::failed));
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn alerts(app: &App, text: &mut Exposition) {
    let snapshot = app.alerts.snapshot();
    let unused = snapshot.files.iter().filter(|file| file.error.is_some()).count();
    let rules = snapshot.files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules);
    let failing = rules.filter(|rule| matches!(rule.health, snapshot::Health::Error(_))).count();
    text.gauge("alert_firing", "Alerts that fire.", snapshot.firing().count() as f64);
    text.gauge("alert_files_unused", "Rule files that are not in use as they lie there.", unused as f64);
    text.gauge("alert_rules_failing", "Rules whose last evaluation failed.", failing as f64);
    text.counter("alert_skipped_total", "Evaluations left out, because there was no catching up.", snapshot.skipped);
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
