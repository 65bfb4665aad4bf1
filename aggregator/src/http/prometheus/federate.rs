//! `federate`: the latest samples, as a Prometheus that scrapes us reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::response::Response;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::number;
use crate::http::prometheus::exposition::Names;
use crate::http::prometheus::parameters::Parameters;
use crate::query;
use crate::query::Sample;

/// The latest samples of what any `match[]` selects, sorted by metric.
pub(super) async fn federate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Failure> {
    let parse = |text: &str| query::parse(text).map_err(|error| Failure::bad_data(error.to_string()));
    let selectors: Vec<query::Expr> = parameters.all("match[]").map(parse).collect::<Result<_, _>>()?;
    let now = app.clock.wall();
    let asked = app.ask(move |engine, turn| {
        let mut found: BTreeMap<Labels, (Timestamp, f64)> = BTreeMap::new();
        for selector in &selectors {
            found.extend(
                engine.latest(selector, now, turn)?.into_iter().map(|(labels, at, value)| (labels, (at, value))),
            );
        }
        Ok(found.into_iter().map(|(labels, (at, value))| (labels, at, value)).collect::<Vec<_>>())
    });
    let mut samples = asked.await?;
    samples.sort_by(|left, right| left.0.get(NAME).cmp(right.0.get(NAME)));
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let names = if accept.contains("escaping=allow-utf-8") { Names::Quoted } else { Names::Underscored };
    let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={}", names.escaping());
    Ok(([(CONTENT_TYPE, kind)], exposition(&samples, names)).into_response())
}

fn exposition(samples: &[Sample], names: Names) -> String {
    let mut text = String::new();
    let mut before = "";
    for (labels, at, value) in samples.iter().filter(|(labels, ..)| !labels.get(NAME).is_empty()) {
        if labels.get(NAME) != before {
            before = labels.get(NAME);
            // Writing to a string does not fail.
            writeln!(text, "# TYPE {} untyped", names.metric(before)).unwrap_or_default();
        }
        // Else the Prometheus that reads it would put our name there.
        let unnamed = labels.get("instance").is_empty().then_some(("instance", ""));
        let pairs = labels.iter().filter(|(name, _)| *name != NAME).chain(unnamed);
        let series = names.series(labels.get(NAME), pairs);
        writeln!(text, "{series} {} {}", number(*value), at.as_millis()).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_a_scrape_reads_them() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Labels>();
        let samples = [
            (labels(&[(NAME, "up"), ("instance", "a")]), Timestamp::from_seconds(7), 1.0),
            (labels(&[(NAME, "up"), ("of", "\"\\\n")]), Timestamp::from_seconds(8), f64::NAN),
            (labels(&[(NAME, "h\u{f6}he.m"), ("a.b", "c"), ("instance", "x")]), Timestamp::from_seconds(9), 0.5),
            (labels(&[("instance", "nameless")]), Timestamp::from_seconds(9), 0.5),
        ];
        let up = "# TYPE up untyped\nup{instance=\"a\"} 1 7000\nup{of=\"\\\"\\\\\\n\",instance=\"\"} NaN 8000\n";
        let check = |names, expect: &str| assert_eq!(exposition(&samples, names), format!("{up}{expect}"));
        check(Names::Underscored, "# TYPE h_he_m untyped\nh_he_m{a_b=\"c\",instance=\"x\"} 0.5 9000\n");
        check(
            Names::Quoted,
            "# TYPE \"h\u{f6}he.m\" untyped\n{\"h\u{f6}he.m\",\"a.b\"=\"c\",instance=\"x\"} 0.5 9000\n",
        );
    }
}
