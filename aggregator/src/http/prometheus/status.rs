//! What programs ask to learn whom they speak to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use common::catalog;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;
use common::time::TimeRange;
use common::time::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::answer::moment;
use crate::http::prometheus::parameters::Parameters;
use crate::store::Store;
use crate::store::room::Limit;
use crate::store::room::Refusal;

/// Entries of each table of `status/tsdb` when no limit is given, as in Prometheus.
const TABLE_DEFAULT: usize = 10;

/// Series that had a sample in so long stand in `status/tsdb`: about what Prometheus' head has.
const ACTIVE_WITHIN: Duration = Duration::from_secs(3 * 3_600);

/// What the catalog says about each metric.
pub(super) async fn metadata(parameters: Parameters) -> Result<Success<Value>, Failure> {
    let limit = parameters.signed("limit")?.unwrap_or(usize::MAX);
    parameters.signed("limit_per_metric")?;
    let wanted = parameters.get("metric");
    let metrics = catalog::all().filter(|metric| wanted.is_none_or(|wanted| wanted == metric.name));
    let described = metrics.take(limit).map(|metric| {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        (metric.name, [json!({"type": kind, "help": metric.help, "unit": ""})])
    });
    Ok(Success::new(json!(described.collect::<BTreeMap<_, _>>())))
}

/// `status/buildinfo`: the Prometheus whose functions ours are.
pub(super) async fn build() -> Success<Value> {
    Success::new(json!({
        "version": "3.5.0",
        "revision": concat!("lapwing-", env!("CARGO_PKG_VERSION")),
        "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

/// `status/config`: ours is no YAML, and no secret of it is for a reader.
pub(super) async fn config() -> Success<Value> {
    Success::new(json!({"yaml": "# Lapwing is configured in aggregator.toml.\n"}))
}

/// `status/flags`: what queries may cost, in the words of Prometheus.
pub(super) async fn flags(State(app): State<Arc<App>>) -> Success<Value> {
    let config = app.engine.config();
    Success::new(json!({
        "query.lookback-delta": format!("{}s", config.lookback.as_secs()),
        "query.max-samples": config.samples_max.to_string(),
        "query.timeout": format!("{}s", config.deadline.as_secs()),
        "storage.tsdb.retention.time": format!("{}s", app.store.retention().raw.as_secs()),
    }))
}

/// `status/runtimeinfo`.
pub(super) async fn runtime(State(app): State<Arc<App>>) -> Success<Value> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Success::new(json!({
        "startTime": moment(app.began), "CWD": "", "hostname": "", "serverTime": moment(app.clock.wall()),
        "reloadConfigSuccess": app.alerts.snapshot().files.iter().all(|file| file.error.is_none()),
        "lastConfigTime": moment(app.began),
        "corruptionCount": 0, "goroutineCount": 0, "GOMAXPROCS": threads, "GOMEMLIMIT": 0, "GOGC": "", "GODEBUG": "",
        "storageRetention": format!("{}s", app.store.retention().raw.as_secs()),
    }))
}

/// `status/tsdb`: what the series come from, by which labels.
pub(super) async fn tables(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Success<Value>, Failure> {
    let most = match parameters.limit()? {
        0 => TABLE_DEFAULT,
        limit => limit,
    };
    let (store, now) = (app.store.clone(), app.clock.wall());
    let count = move |engine: &crate::query::Engine, turn: &crate::query::Turn| {
        let oldest = now.before(ACTIVE_WITHIN);
        let range = TimeRange { after: oldest, through: Timestamp::from_millis(i64::MAX) };
        let series = engine.look_up(turn, |spend| store.series(&[], range, (usize::MAX, spend)))?;
        let mut tables = counted(&series, most, (oldest, now));
        tables["refusedSamplesByLimit"] = table(refused(&store), most);
        Ok(tables)
    };
    Ok(Success::new(app.ask(count).await?))
}

/// Samples for whose series there was no room, by the limit and by whose they are.
fn refused(store: &Store) -> impl Iterator<Item = (String, usize)> {
    let count = |refusal: &Refusal| usize::try_from(refusal.samples).unwrap_or(usize::MAX);
    store.refused().into_iter().flat_map(move |(host, refusals)| {
        let named = move |(limit, refusal): (Limit, Refusal)| {
            (format!("{limit} of {}, as {}", host.0, refusal.example), count(&refusal))
        };
        refusals.into_iter().map(named)
    })
}

fn counted(series: &[Labels], most: usize, (oldest, newest): (Timestamp, Timestamp)) -> Value {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_pair: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for labels in series {
        *by_name.entry(labels.get(NAME)).or_default() += 1;
        for (name, value) in labels.iter() {
            *by_pair.entry((name, value)).or_default() += 1;
            values.entry(name).or_default().insert(value);
        }
    }
    let pairs = by_pair.len();
    let bytes = |values: &BTreeSet<&str>| values.iter().map(|value| value.len()).sum::<usize>();
    json!({
        "headStats": {
            "numSeries": series.len(), "numLabelPairs": pairs, "chunkCount": 0,
            "minTime": oldest.as_millis(), "maxTime": newest.as_millis(),
        },
        "seriesCountByMetricName": table(by_name.into_iter().map(|(name, count)| (name.to_owned(), count)), most),
        "labelValueCountByLabelName":
            table(values.iter().map(|(name, values)| ((*name).to_owned(), values.len())), most),
        "memoryInBytesByLabelName":
            table(values.iter().map(|(name, values)| ((*name).to_owned(), bytes(values))), most),
        "seriesCountByLabelValuePair":
            table(by_pair.into_iter().map(|((name, value), count)| (format!("{name}={value}"), count)), most),
    })
}

/// The largest first.
fn table(rows: impl Iterator<Item = (String, usize)>, most: usize) -> Value {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, value)| Reverse(*value));
    rows.into_iter().take(most).map(|(name, value)| json!({"name": name, "value": value})).collect()
}
