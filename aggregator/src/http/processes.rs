//! The processes of a host that did most at some moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use common::batch;
use common::batch::HostId;
use common::batch::WINDOW;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::hosts;
use crate::http::problem::Problem;

/// Which moment.
#[derive(Deserialize)]
pub struct Moment {
    /// Milliseconds since the epoch, or `now`.
    at: Option<String>,
}

/// One process, over one window.
#[derive(Serialize, ToSchema)]
pub struct Process {
    pid: u32,
    /// Start, in clock ticks since boot.
    start_ticks: u64,
    user: String,
    command: String,
    /// Masked by the agent.
    command_line: String,
    container: String,
    cpu_ms: u64,
    cpu_cores: f64,
    resident_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    major_faults: u64,
    minor_faults: u64,
    threads: u32,
}

/// The processes that did most.
#[derive(Serialize, ToSchema)]
pub struct Processes {
    /// End of the window.
    #[schema(value_type = Option<i64>)]
    at_ms: Option<Timestamp>,
    processes: Vec<Process>,
}

/// The processes that did most in the window that covers a moment.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/processes", operation_id = "processes", tag = "hosts", params(("id" = u32, Path), ("at" = Option<String>, Query, description = "Milliseconds since the epoch, or `now`")), responses((status = 200, body = Processes), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    Query(moment): Query<Moment>,
) -> Result<Json<Processes>, Problem> {
    hosts::find(&app, id)?;
    let asked = match moment.at.as_deref() {
        None | Some("now") => app.clock.wall(),
        Some(text) => text.parse().map(Timestamp::from_millis).map_err(|_| {
            Problem::bad_request(format!("at: {text:?} is neither milliseconds since the epoch nor `now`"))
        })?,
    };
    // The window that covers the present is not closed: the latest one stands for it.
    let at = app.store.last_stamp(HostId(id)).map_or(asked, |last| asked.min(last));
    let found = app.store.processes(HostId(id), at).await.map_err(|error| Problem::internal(&error))?;
    let (at_ms, processes) = found.map_or((None, Vec::new()), |(stamp, processes)| (Some(stamp), processes));
    Ok(Json(Processes { at_ms, processes: processes.into_iter().map(process).collect() }))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 285,000 years of CPU time")]
fn process(of: batch::Process) -> Process {
    Process {
        cpu_cores: of.cpu_ms as f64 / WINDOW.as_millis() as f64,
        pid: of.pid,
        start_ticks: of.start_ticks,
        user: of.user,
        command: of.command,
        command_line: of.command_line,
        container: of.container,
        cpu_ms: of.cpu_ms,
        resident_bytes: of.resident_bytes,
        read_bytes: of.read_bytes,
        written_bytes: of.written_bytes,
        major_faults: of.major_faults,
        minor_faults: of.minor_faults,
        threads: of.threads,
    }
}
