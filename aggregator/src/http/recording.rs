//! What a host's flight recorder holds, at each second: the last ten minutes, and what comes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use axum::response::sse::Sse;
use common::batch::HostId;
use common::batch::RunId;
use common::metric::Decimals;
use common::metric::Labels;
use common::metric::NAME;
use common::schema::SERIES_PER_HOST_MAX;
use common::schema::SeriesIndex;
use common::time::TimeRange;
use common::time::Timestamp;
use common::wire::message::Recorded;
use common::wire::recording::Tick;
use common::wire::recording::Track;
use futures::Stream;
use futures::StreamExt as _;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::hosts;
use crate::http::keeping;
use crate::http::problem::Problem;
use crate::ingest::presence::HostState;
use crate::ingest::recall::NotRecalled;
use crate::receive::received::Received;
use crate::store::Store;
use crate::store::commit::Written;

/// What is answered when no `from` is given.
const MINUTE: Duration = Duration::from_secs(60);

/// How long an agent may take for its next piece: it is asked over the network, and sends about 1 MiB a second.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// Values of one answer: ten minutes of an ordinary host are 1.3 million.
const RECORDED_VALUES_MAX: usize = 2_000_000;

/// What the names of kept series begin with: a series of windows has other samples at these stamps, and rules look for it.
const KEPT_PREFIX: &str = "recorded:";

/// Values that are kept in one commit: about what a busy second brings.
const KEPT_AT_ONCE_MAX: usize = 100_000;

/// How long one stream follows: as long as an agent does. Who reads on comes again by itself.
const FOLLOWED: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Milliseconds since the epoch; a minute before `to` if missing
    from: Option<i64>,
    /// Milliseconds since the epoch; the present if missing
    to: Option<i64>,
    /// Names of metrics, with commas between them; all if missing
    metrics: Option<String>,
}

/// What is followed.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Followed {
    /// Names of metrics, with commas between them; all if missing
    metrics: Option<String>,
}

/// A series at each second.
#[derive(Serialize, ToSchema)]
pub struct RecordedSeries {
    /// All its labels.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: Labels,
    /// Milliseconds since the epoch, and the value.
    #[schema(value_type = Vec<(i64, f64)>)]
    samples: Vec<(Timestamp, f64)>,
}

/// What was kept of a recording.
#[derive(Serialize, ToSchema)]
pub struct Kept {
    #[schema(value_type = i64)]
    from_ms: Timestamp,
    #[schema(value_type = i64)]
    to_ms: Timestamp,
    /// Series that have values there.
    series: usize,
    /// Their values.
    samples: usize,
    /// Values among them that are not stored: too old, from the future, or of series for which there is no room.
    refused: u64,
}

/// What a host's flight recorder holds of a stretch of time.
#[derive(Serialize, ToSchema)]
pub struct Recording {
    #[schema(value_type = i64)]
    from_ms: Timestamp,
    #[schema(value_type = i64)]
    to_ms: Timestamp,
    series: Vec<RecordedSeries>,
}

/// The last minutes of a host at each second, from its agent's memory. What is older than about ten minutes is not there.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/recording", operation_id = "host_recording", tag = "hosts", params(("id" = u32, Path), Asked), responses((status = 200, body = Recording), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 413, body = Problem), (status = 501, body = Problem), (status = 503, body = Problem)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    Query(asked): Query<Asked>,
) -> Result<Json<Recording>, Problem> {
    recording(&app, id, asked).await.map(Json)
}

/// Keeps what `GET` shows: each series as one called `recorded:` and its name, to be asked for like any other. Kept again,
/// it is the same.
#[utoipa::path(post, path = "/api/v1/hosts/{id}/recording", operation_id = "keep_host_recording", tag = "hosts", params(("id" = u32, Path), Asked), responses((status = 200, body = Kept), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 413, body = Problem), (status = 501, body = Problem), (status = 503, body = Problem)))]
pub async fn keep(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    Query(asked): Query<Asked>,
) -> Result<Json<Kept>, Problem> {
    keeping::has_room(&app)?;
    let Recording { from_ms, to_ms, series } = recording(&app, id, asked).await?;
    let samples = series.iter().map(|series| series.samples.len()).sum();
    let mut kept = Kept { from_ms, to_ms, series: series.len(), samples, refused: 0 };
    let terms = keeping::terms(&app, Labels::new());
    let mut series = series.into_iter().map(written).peekable();
    while series.peek().is_some() {
        let mut values = 0;
        let some = std::iter::from_fn(|| {
            let next = series.next_if(|_| values < KEPT_AT_ONCE_MAX)?;
            values += next.samples.len();
            Some(next)
        });
        let mut received = Received::default();
        some.for_each(|series| received.push(series, &terms));
        kept.refused += keeping::keep(&app, HostId::AGGREGATOR, received).await?.refused.total();
    }
    Ok(Json(kept))
}

/// A series as it is kept.
fn written(RecordedSeries { labels, samples }: RecordedSeries) -> Written {
    let name = format!("{KEPT_PREFIX}{}", labels.get(NAME));
    let samples = samples.into_iter().map(|(stamp, value)| (stamp, Some(value))).collect();
    Written { labels: labels.with(NAME, name), samples }
}

async fn recording(app: &App, id: u32, asked: Asked) -> Result<Recording, Problem> {
    let now = app.clock.wall();
    let through = asked.to.map_or(now, Timestamp::from_millis).min(now);
    let after = asked.from.map_or_else(|| through.before(MINUTE), Timestamp::from_millis);
    if through < after {
        return Err(Problem::bad_request("`from` is behind `to`, or still to come"));
    }
    let range = TimeRange { after, through };
    let (mut reading, mut answers) = ask(app, id, (range, asked.metrics))?;
    let mut series: BTreeMap<(RunId, SeriesIndex), RecordedSeries> = BTreeMap::new();
    let mut values = 0;
    loop {
        let late = |_| Problem::unavailable("the agent does not answer: try again");
        let answer = timeout(PIECE_TIMEOUT, answers.recv()).await.map_err(late)?;
        let ended = || Problem::unavailable("the agent left, or too many ask it at once: try again");
        let recorded = answer.ok_or_else(ended)?;
        let (run, end) = (recorded.run, recorded.end);
        for tick in reading.take(recorded) {
            values += tick.values.len();
            if RECORDED_VALUES_MAX < values {
                let text = format!("more than {RECORDED_VALUES_MAX} values: ask for less time, or for some `metrics`");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
            for (index, value) in tick.values {
                let Some(labels) = reading.labels(index) else { continue };
                let new = || RecordedSeries { labels: labels.clone(), samples: Vec::new() };
                series.entry((run, index)).or_insert_with(new).samples.push((tick.stamp, value));
            }
        }
        if end {
            return Ok(Recording { from_ms: after, to_ms: through, series: series.into_values().collect() });
        }
    }
}

/// What a host records, at each second, while somebody reads: `series` names what comes by number, `tick` has the values.
/// The stream ends after ten minutes.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/live", operation_id = "host_live", tag = "hosts", params(("id" = u32, Path), Followed), responses((status = 200, content_type = "text/event-stream", body = String), (status = 401, body = Problem), (status = 404, body = Problem), (status = 501, body = Problem), (status = 503, body = Problem)))]
pub async fn follow(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    Query(followed): Query<Followed>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let now = app.clock.wall();
    let range = TimeRange { after: now.before(Duration::from_secs(2)), through: now.after(FOLLOWED) };
    let (reading, answers) = ask(&app, id, (range, followed.metrics))?;
    let stop = app.stop.clone();
    let told = futures::stream::unfold((reading, answers, app), async |(mut reading, mut answers, app)| {
        let recorded = answers.recv().await.filter(|recorded| !recorded.end)?;
        let told = reading.tell(recorded);
        Some((futures::stream::iter(told), (reading, answers, app)))
    });
    let events = told.flatten().map(|(name, data)| Ok(Event::default().event(name).data(data.to_string())));
    Ok(Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default()))
}

type Answers = mpsc::Receiver<Recorded>;

fn ask(app: &App, id: u32, (range, metrics): (TimeRange, Option<String>)) -> Result<(Reading, Answers), Problem> {
    let HostState { labels, .. } = hosts::find(app, id)?;
    let answers = app.presence.recall(HostId(id), range.after, range.through).map_err(|why| match why {
        NotRecalled::Away => Problem::unavailable("the host is not connected: what its agent recorded cannot be asked"),
        NotRecalled::Unable => Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "the host's agent is of a version that does not give out what it records: update it",
        ),
        NotRecalled::Busy => Problem::unavailable("too many ask this host at once: try again"),
    })?;
    let metrics = metrics.map(|metrics| metrics.split(',').map(|name| name.trim().to_owned()).collect());
    let run = RunId([0; 16]);
    let reading = Reading {
        store: app.store.clone(),
        host: HostId(id),
        shared: labels,
        metrics,
        range,
        run,
        track: Track::default(),
        decimals: Vec::new(),
        named: Vec::new(),
        told: 0,
    };
    Ok((reading, answers))
}

/// Reads the pieces of a recording.
struct Reading {
    store: Store,
    host: HostId,
    /// Labels of the host.
    shared: Labels,
    /// Names of the metrics that are wanted.
    metrics: Option<Vec<String>>,
    range: TimeRange,
    run: RunId,
    track: Track,
    decimals: Vec<Decimals>,
    /// Labels of the run's series, as far as the aggregator knows them; none of those that are not wanted.
    named: Vec<Option<Labels>>,
    /// How many of them were told.
    told: usize,
}

impl Reading {
    /// The ticks of a piece that are in the range. What is not what an agent would have sent ends it.
    fn take(&mut self, recorded: Recorded) -> Vec<Tick> {
        let Recorded { run, begin, decimals, bytes, .. } = recorded;
        if run != self.run {
            (self.run, self.named, self.told) = (run, Vec::new(), 0);
        }
        if begin {
            (self.track, self.decimals) = (Track::default(), Vec::new());
        }
        let room = SERIES_PER_HOST_MAX.saturating_sub(self.decimals.len());
        self.decimals.extend(decimals.into_iter().take(room));
        self.name();
        let (mut ticks, mut at) = (Vec::new(), 0);
        while let Some(mut tick) = self.track.next(&self.decimals, &bytes, &mut at) {
            if self.range.contains(tick.stamp) {
                tick.values.retain(|(index, _)| self.labels(*index).is_some());
                ticks.push(tick);
            }
        }
        ticks
    }

    /// The labels of a series, if it is known and wanted.
    fn labels(&self, index: SeriesIndex) -> Option<&Labels> {
        self.named.get(index.0 as usize)?.as_ref()
    }

    /// Learns the series that came into the run's schema.
    fn name(&mut self) {
        let Self { store, host, shared, metrics, run, named, .. } = self;
        let wanted = |labels: &Labels| {
            metrics.as_ref().is_none_or(|metrics| metrics.iter().any(|metric| metric == labels.get(NAME)))
        };
        // Without the schema nothing is known of the run.
        store.with_schema(*host, *run, |schema| {
            for index in named.len()..schema.series().len() {
                let labels = u32::try_from(index).ok().and_then(|index| schema.labels(SeriesIndex(index)));
                named.push(labels.filter(wanted).map(|labels| labels.and(shared)));
            }
        });
    }

    /// What is told of a piece: series that were not told before, then ticks.
    fn tell(&mut self, recorded: Recorded) -> Vec<(&'static str, serde_json::Value)> {
        let ticks = self.take(recorded);
        let mut told = Vec::new();
        let new = (0..).zip(&self.named).skip(self.told);
        let new: Vec<(u32, &Labels)> = new.filter_map(|(index, labels)| Some((index, labels.as_ref()?))).collect();
        if !new.is_empty() {
            told.push(("series", json!({"run": self.run, "series": new})));
        }
        self.told = self.named.len();
        told.extend(ticks.into_iter().map(|Tick { stamp, values }| {
            let values: Vec<(u32, f64)> = values.into_iter().map(|(index, value)| (index.0, value)).collect();
            ("tick", json!({"stamp_ms": stamp, "values": values}))
        }));
        told
    }
}
