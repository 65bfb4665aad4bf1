//! What happened on a host.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use common::batch::HostId;
use common::metric::Labels;
use common::time::TimeRange;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::hosts;
use crate::http::problem::Problem;

/// What is answered when no `from` is given.
const HOUR: Duration = Duration::from_secs(3_600);

/// A stretch of time, both ends in milliseconds since the epoch.
#[derive(Deserialize)]
pub struct Stretch {
    /// An hour before `to` if missing.
    from: Option<i64>,
    /// The present if missing.
    to: Option<i64>,
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub struct Event {
    #[schema(value_type = i64)]
    at_ms: Timestamp,
    /// `agent_started`, `container_started`, `oom_kill`, …
    kind: String,
    /// What it happened to; empty for the host itself.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    entity: Labels,
    /// A sentence.
    text: String,
    #[schema(value_type = u32)]
    host: HostId,
}

/// What happened.
#[derive(Serialize, ToSchema)]
pub struct Events {
    events: Vec<Event>,
}

/// What happened on a host, oldest first.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/events", operation_id = "host_events", tag = "hosts", params(("id" = u32, Path), ("from" = Option<i64>, Query, description = "Milliseconds since the epoch; an hour before `to` if missing"), ("to" = Option<i64>, Query, description = "Milliseconds since the epoch; the present if missing")), responses((status = 200, body = Events), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    Query(stretch): Query<Stretch>,
) -> Result<Json<Events>, Problem> {
    hosts::find(&app, id)?;
    let through = stretch.to.map_or_else(|| app.clock.wall(), Timestamp::from_millis);
    let after = stretch.from.map_or_else(|| through.before(HOUR), Timestamp::from_millis);
    let asked = Arc::clone(&app);
    let range = TimeRange { after, through };
    let found = app.ask(move |_, _| Ok(asked.store.events(Some(HostId(id)), range))).await?;
    let events = found.into_iter().map(|(host, event)| Event {
        at_ms: event.at,
        kind: event.kind,
        entity: event.entity,
        text: event.text,
        host,
    });
    Ok(Json(Events { events: events.collect() }))
}
