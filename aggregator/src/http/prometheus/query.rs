//! `query` and `query_range`, and what is asked of a query's text alone.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde_json::Value;
use serde_json::json;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::parameters::Parameters;
use crate::http::prometheus::written::Beside;
use crate::http::prometheus::written::Written;
use crate::query;
use crate::query::Moments;
use crate::query::Reply;
use crate::query::Stats;

/// `query`.
pub(super) async fn instant(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Written, Failure> {
    let limit = parameters.limit()?;
    let at = parameters.time_or("time", app.clock.wall())?;
    answer(&app, &parameters, Moments::At(at), limit).await
}

/// `query_range`.
pub(super) async fn range(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Written, Failure> {
    let limit = parameters.limit()?;
    let moments = parameters.steps()?;
    answer(&app, &parameters, moments, limit).await
}

async fn answer(app: &App, parameters: &Parameters, moments: Moments, limit: usize) -> Result<Written, Failure> {
    let timeout = parameters.duration("timeout")?;
    let lookback = parameters.duration("lookback_delta").map_err(|_| {
        let text = parameters.get("lookback_delta").unwrap_or_default();
        Failure::bad_data(format!("error parsing lookback delta duration: cannot parse {text:?} to a valid duration"))
    })?;
    let longest = longest(parameters)?;
    let expr = parse(parameters)?;
    let ask = move |engine: &query::Engine, turn: &query::Turn| {
        let engine = lookback
            .filter(|lookback| !lookback.is_zero())
            .map_or_else(|| engine.clone(), |lookback| engine.clone().looking_back(lookback));
        let engine = longest.map_or_else(|| engine.clone(), |longest| engine.clone().at_longest(longest));
        engine.within(timeout.unwrap_or(Duration::MAX)).reply(&expr, moments, turn)
    };
    let Reply { value, annotations, stats, held } = app.ask(ask).await?;
    let at = match moments {
        Moments::At(at) => at,
        Moments::Range { end, .. } => end,
    };
    let beside = Beside {
        stats: parameters.get("stats").map(|_| timings(&stats)),
        explain: parameters.get("explain").map(|_| explained(&stats)),
        said: annotations,
    };
    Ok(Written::new((value, held), at, (limit, beside)))
}

/// How long the windows may be that answer in the place of shorter ones; nothing if that is left to us. As Thanos calls it.
fn longest(parameters: &Parameters) -> Result<Option<Duration>, Failure> {
    if parameters.get("max_source_resolution") == Some("auto") {
        Ok(None)
    } else {
        parameters.duration("max_source_resolution")
    }
}

/// `format_query`: the query as it is written well.
pub(super) async fn format(parameters: Parameters) -> Result<Success<String>, Failure> {
    let text = parameters.get("query").unwrap_or_default();
    query::format(text).map(Success::new).map_err(|error| Failure::parameter("query", error))
}

/// `parse_query`: the query as a tree.
pub(super) async fn parsed(parameters: Parameters) -> Result<Success<Value>, Failure> {
    let text = parameters.get("query").unwrap_or_default();
    query::tree(text).map(Success::new).map_err(|error| Failure::parameter("query", error))
}

/// `query_exemplars`: none are kept.
pub(super) async fn exemplars(parameters: Parameters) -> Result<Success<Vec<Value>>, Failure> {
    parameters.lookup_range()?;
    query::parse(parameters.get("query").unwrap_or_default()).map_err(|error| Failure::bad_data(error.to_string()))?;
    Ok(Success::new(Vec::new()))
}

fn parse(parameters: &Parameters) -> Result<query::Expr, Failure> {
    query::parse(parameters.get("query").unwrap_or_default()).map_err(|error| Failure::parameter("query", error))
}

/// In Prometheus' words, as far as they mean something here.
fn timings(stats: &Stats) -> Value {
    let reading: Duration = stats.selections.iter().map(|selection| selection.took).sum();
    let took = stats.took.as_secs_f64();
    json!({
        "timings": {
            "evalTotalTime": took, "resultSortTime": 0, "queryPreparationTime": reading.as_secs_f64(),
            "innerEvalTime": stats.took.saturating_sub(reading).as_secs_f64(), "execQueueTime": 0, "execTotalTime": took,
        },
        "samples": {"totalQueryableSamples": stats.samples_selected(), "peakSamples": stats.samples_held},
    })
}

/// What makes a query slow.
fn explained(stats: &Stats) -> Value {
    let selections = stats.selections.iter().map(|selection| {
        json!({
            "selector": selection.selector, "series": selection.series, "samples": selection.samples,
            "tier": selection.tiers, "seconds": selection.took.as_secs_f64(),
        })
    });
    let steps = u32::try_from(stats.steps).unwrap_or(u32::MAX).max(1);
    json!({
        "selections": selections.collect::<Vec<_>>(), "samples_held": stats.samples_held, "steps": stats.steps,
        "steps_cached": stats.steps_cached,
        "seconds": stats.took.as_secs_f64(), "seconds_per_step": (stats.took / steps).as_secs_f64(),
    })
}
