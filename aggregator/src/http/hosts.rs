//! Hosts: who they are, how they are, and their totals.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use common::batch::HostId;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::figures::Figures;
use crate::http::labels;
use crate::http::problem::Problem;
use crate::ingest::enroll::HOSTNAME_BYTES_MAX;
use crate::ingest::enroll::is_hostname;
use crate::ingest::lineage::KeptOut;
use crate::ingest::policy::Settlement;
use crate::ingest::presence::HostChange;
use crate::ingest::presence::HostState;
use crate::ingest::presence::NotChanged;
use crate::ingest::presence::State;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::record::Record;

/// One host. A figure that is not known is null.
#[derive(Serialize, ToSchema)]
pub struct Host {
    #[schema(value_type = u32)]
    id: HostId,
    instance: String,
    /// Besides `instance`.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: Labels,
    /// `up`, `silent`, `stopped`, `shutdown`, `rebooting`, `revoked` or `new`.
    #[schema(value_type = String)]
    state: State,
    #[schema(value_type = i64)]
    state_since_ms: Timestamp,
    /// When it was enrolled: it has no data from before.
    #[schema(value_type = i64)]
    joined_ms: Timestamp,
    #[schema(value_type = i64)]
    last_seen_ms: Timestamp,
    /// Null before its first session.
    agent_version: Option<String>,
    /// Where its latest session came from.
    address: Option<String>,
    /// Another agent with the state of this one, that was kept out since the aggregator started.
    kept_out: Option<Copy>,
    /// What this aggregator sets of its agent's configuration; null where nothing is set, or its agent does not take it.
    settings: Option<Set>,
    os: Option<String>,
    kernel: Option<String>,
    architecture: Option<String>,
    cores: Option<i64>,
    memory_bytes: Option<i64>,
    boot_ms: Option<i64>,
    /// Of all cores.
    cpu_ratio: Option<f64>,
    /// The busiest second of the last minute.
    cpu_peak_ratio: Option<f64>,
    memory_ratio: Option<f64>,
    /// Of the fullest filesystem.
    disk_ratio: Option<f64>,
    /// Where the fullest filesystem is mounted.
    disk_mountpoint: Option<String>,
    receive_bytes_per_second: Option<f64>,
    transmit_bytes_per_second: Option<f64>,
    load1: Option<f64>,
    containers: i64,
    /// Alerts whose state is `firing`, held ones among them, as `/api/v1/alerts` has them.
    alerts_firing: usize,
}

/// Another agent with the state of a host: one of the two machines is a copy.
#[derive(Serialize, ToSchema)]
pub struct Copy {
    /// When it tried last.
    #[schema(value_type = i64)]
    last_ms: Timestamp,
    /// Where it came from.
    address: String,
}

/// What the aggregator sets of an agent's configuration.
#[derive(Serialize, ToSchema)]
pub struct Set {
    /// As `[[agents]]` of the aggregator's configuration has it.
    text: String,
    /// `applied`, `refused`, or `sent` while the agent has not answered.
    state: &'static str,
    /// Why it is refused.
    why: Option<String>,
    /// Keys that are not taken, because the host's own configuration sets them.
    overruled: Vec<String>,
}

/// All hosts.
#[derive(Serialize, ToSchema)]
pub struct Hosts {
    hosts: Vec<Host>,
    totals: Totals,
}

/// What all hosts come to.
#[derive(Serialize, ToSchema)]
pub struct Totals {
    hosts: usize,
    hosts_up: usize,
    /// Alerts whose state is `firing`, held ones among them, as `/api/v1/alerts` has them.
    alerts_firing: usize,
    containers: i64,
    samples_per_second: f64,
}

/// Interfaces that carry traffic of the host itself: what the others carry passes one of these too, or stays inside.
macro_rules! traffic {
    ($metric:literal) => {
        concat!(
            "sum by (instance) (rate(",
            $metric,
            r#"{device!~"lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|tun.*|tap.*"$host}[30s]))"#
        )
    };
}

/// File systems that can fill: those of the page's chart.
macro_rules! disk {
    ($metric:literal) => {
        concat!(
            $metric,
            r#"{job="node",fstype!~"tmpfs|devtmpfs|overlay|squashfs|ramfs|iso9660|fuse.*|nsfs|proc|sysfs|cgroup.*"$host}"#
        )
    };
}

const FIGURES: &[(&str, &str)] = &[
    ("os", r#"node_os_info{job="node"$host}"#),
    ("uname", r#"node_uname_info{job="node"$host}"#),
    ("cores", r#"count by (instance) (node_cpu_seconds_total{mode="idle"$host})"#),
    ("memory", r#"node_memory_MemTotal_bytes{job="node"$host}"#),
    ("boot", r#"node_boot_time_seconds{job="node"$host} * 1000"#),
    (
        "cpu",
        r#"clamp_min(1 - sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait"$host}[30s]))
           / count by (instance) (node_cpu_seconds_total{mode="idle"$host}), 0)"#,
    ),
    (
        "cpu_peak",
        r#"clamp_max(sum by (instance) (peak_rate(node_cpu_seconds_total{mode!~"idle|iowait"$host}[1m]))
           / count by (instance) (node_cpu_seconds_total{mode="idle"$host}), 1)"#,
    ),
    (
        "memory_used",
        r#"1 - node_memory_MemAvailable_bytes{job="node"$host} / node_memory_MemTotal_bytes{job="node"$host}"#,
    ),
    (
        "disk",
        // As df counts: what only root may use is not there.
        concat!(
            "topk by (instance) (1, 1 - ",
            disk!("node_filesystem_avail_bytes"),
            " / (",
            disk!("node_filesystem_size_bytes"),
            " - ",
            disk!("node_filesystem_free_bytes"),
            " + ",
            disk!("node_filesystem_avail_bytes"),
            "))"
        ),
    ),
    ("receive", traffic!("node_network_receive_bytes_total")),
    ("transmit", traffic!("node_network_transmit_bytes_total")),
    ("load1", r#"node_load1{job="node"$host}"#),
    ("containers", r#"count by (instance) (container_memory_working_set_bytes{id!="",service=""$host})"#),
];

/// All hosts, by name.
#[utoipa::path(get, path = "/api/v1/hosts", operation_id = "hosts", tag = "hosts", responses((status = 200, body = Hosts), (status = 401, body = Problem)))]
pub async fn list(extract::State(app): extract::State<Arc<App>>) -> Result<Json<Hosts>, Problem> {
    let mut states = app.presence.snapshot();
    states.sort_by(|left, right| left.instance.cmp(&right.instance));
    let hosts = describe(&app, states, None).await?;
    let totals = Totals {
        hosts: hosts.len(),
        hosts_up: hosts.iter().filter(|host| host.state == State::Up).count(),
        alerts_firing: app.alerts.snapshot().firing().count(),
        containers: hosts.iter().map(|host| host.containers).sum(),
        samples_per_second: samples_per_second(&app).await?,
    };
    Ok(Json(Hosts { hosts, totals }))
}

/// One host.
#[utoipa::path(get, path = "/api/v1/hosts/{id}", operation_id = "host", tag = "hosts", params(("id" = u32, Path)), responses((status = 200, body = Host), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn one(extract::State(app): extract::State<Arc<App>>, Path(id): Path<u32>) -> Result<Json<Host>, Problem> {
    let state = find(&app, id)?;
    let instance = state.instance.clone();
    let host = describe(&app, vec![state], Some(instance)).await?.pop();
    host.map(Json).ok_or_else(|| unknown(id))
}

/// What shall be changed of a host.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its new name. Its series go on under it as new ones.
    instance: Option<String>,
    /// Labels to give it; an empty value takes away a label that was given here.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Ends its session and keeps it out for good. There is no way back but to let the machine join as a new host.
    #[serde(default)]
    revoked: bool,
}

/// Renames a host, labels it, or revokes it.
#[utoipa::path(patch, path = "/api/v1/hosts/{id}", operation_id = "host_change", tag = "hosts", params(("id" = u32, Path)), request_body = Wanted, responses((status = 204), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn change(
    extract::State(app): extract::State<Arc<App>>,
    Path(id): Path<u32>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(wanted) = wanted?;
    let name = wanted.instance.clone().unwrap_or_default();
    if wanted.instance.is_some() && !is_hostname(&name) {
        let why = format!("instance: from one to {HOSTNAME_BYTES_MAX} bytes that can be seen");
        return Err(Problem::bad_request(why));
    }
    labels::check(&wanted.labels)?;
    let change = HostChange { instance: wanted.instance, labels: wanted.labels, revoke: wanted.revoked };
    let changed = app.presence.change(HostId(id), &change, app.clock.wall());
    let (commit, back) = changed.map_err(|why| match why {
        NotChanged::Unknown => unknown(id),
        NotChanged::Taken => Problem::new(StatusCode::CONFLICT, format!("instance: another host is called {name:?}")),
    })?;
    let changed = app.commit(commit).await;
    if changed.is_err() {
        // What this would store is what was there.
        drop(app.presence.change(HostId(id), &back, app.clock.wall()));
    }
    changed.map(|()| StatusCode::NO_CONTENT)
}

/// Forgets a host and everything that is stored about it.
#[utoipa::path(delete, path = "/api/v1/hosts/{id}", operation_id = "host_forget", tag = "hosts", params(("id" = u32, Path)), responses((status = 204), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn forget(extract::State(app): extract::State<Arc<App>>, Path(id): Path<u32>) -> Result<StatusCode, Problem> {
    let (host, session) = app.presence.forget(HostId(id)).ok_or_else(|| unknown(id))?;
    if let Some(session) = session {
        // What it still commits must go too.
        session.cancelled().await;
    }
    let forget = Append::Forget { host: host.id, instance: host.instance.clone() };
    let commit = Commit { appends: vec![forget], records: vec![Record::HostForgotten(host.id)] };
    let forgotten = app.commit(commit).await;
    if forgotten.is_err() {
        app.presence.enrolled(host, app.clock.wall());
    }
    forgotten.map(|()| StatusCode::NO_CONTENT)
}

/// A host by its number.
pub fn find(app: &App, id: u32) -> Result<HostState, Problem> {
    app.presence.snapshot().into_iter().find(|state| state.id == HostId(id)).ok_or_else(|| unknown(id))
}

fn unknown(id: u32) -> Problem {
    Problem::not_found(format!("there is no host {id}; /api/v1/hosts lists those that there are"))
}

/// What all agents measure.
async fn samples_per_second(app: &App) -> Result<f64, Problem> {
    const ALL: &[(&str, &str)] = &[("samples", "sum(rate(lapwing_agent_samples_total[1m]))")];
    let now = app.clock.wall();
    let figures = app.ask(move |engine, turn| Figures::ask((engine, turn), ALL, "", None, now)).await?;
    Ok(figures.get("samples", "").unwrap_or(0.0))
}

async fn describe(app: &Arc<App>, states: Vec<HostState>, only: Option<String>) -> Result<Vec<Host>, Problem> {
    let now = app.clock.wall();
    let figures =
        app.ask(move |engine, turn| Figures::ask((engine, turn), FIGURES, "instance", only.as_deref(), now)).await?;
    let alerts = app.alerts.snapshot();
    let firing = alerts.firing_by_instance();
    Ok(states.into_iter().map(|state| host(state, &figures, &firing)).collect())
}

fn set(text: String, settled: Settlement) -> Set {
    let (state, why, overruled) = match settled {
        Settlement::Unknown => ("sent", None, Vec::new()),
        Settlement::Applied(overruled) => ("applied", None, overruled),
        Settlement::Refused(why) => ("refused", Some(why), Vec::new()),
    };
    Set { text, state, why, overruled }
}

fn host(state: HostState, figures: &Figures, firing: &HashMap<&str, usize>) -> Host {
    let key = state.instance.clone();
    let get = |name| figures.get(name, &key);
    let whole = |name| figures.whole(name, &key);
    let label = |name, label| figures.label(name, &key, label);
    Host {
        id: state.id,
        labels: state.labels.with("instance", ""),
        state: state.state,
        state_since_ms: state.since,
        joined_ms: state.joined,
        last_seen_ms: state.last_seen,
        agent_version: Some(state.agent_version).filter(|version| !version.is_empty()),
        address: state.address.map(|address| address.to_string()),
        kept_out: state.kept_out.map(|KeptOut { at, from }| Copy { last_ms: at, address: from.ip().to_string() }),
        settings: state.settings.filter(|text| !text.is_empty()).map(|text| set(text, state.settled)),
        os: label("os", "pretty_name"),
        kernel: label("uname", "release"),
        architecture: label("uname", "machine"),
        cores: whole("cores"),
        memory_bytes: whole("memory"),
        boot_ms: whole("boot"),
        cpu_ratio: get("cpu"),
        cpu_peak_ratio: get("cpu_peak"),
        memory_ratio: get("memory_used"),
        disk_ratio: get("disk"),
        disk_mountpoint: label("disk", "mountpoint"),
        receive_bytes_per_second: get("receive"),
        transmit_bytes_per_second: get("transmit"),
        load1: get("load1"),
        containers: whole("containers").unwrap_or(0),
        alerts_firing: firing.get(key.as_str()).copied().unwrap_or(0),
        instance: state.instance,
    }
}
