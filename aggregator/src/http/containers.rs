//! Containers and services of a host.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::figures::Figures;
use crate::http::hosts;
use crate::http::problem::Problem;

/// One container or service. A figure that is not known is null.
#[derive(Serialize, ToSchema)]
pub struct Container {
    /// Path of its cgroup.
    id: String,
    /// `docker`, `podman`, `containerd`, … or `systemd`.
    runtime: String,
    name: String,
    image: Option<String>,
    /// `container` or `service`.
    kind: &'static str,
    cpu_cores: Option<f64>,
    cpu_limit_cores: Option<f64>,
    /// Share of the scheduling periods in which it was held back.
    throttled_ratio: Option<f64>,
    memory_working_set_bytes: Option<i64>,
    memory_limit_bytes: Option<i64>,
    read_bytes_per_second: Option<f64>,
    write_bytes_per_second: Option<f64>,
    tasks: Option<i64>,
    oom_kills: i64,
    /// In the last day.
    restarts: i64,
    last_seen_ms: Option<i64>,
}

/// All containers and services of a host.
#[derive(Serialize, ToSchema)]
pub struct Containers {
    containers: Vec<Container>,
}

const FIGURES: &[(&str, &str)] = &[
    ("memory", r#"container_memory_working_set_bytes{id!=""$host}"#),
    ("memory_limit", r#"container_spec_memory_limit_bytes{id!=""$host} > 0"#),
    ("cpu", r#"sum by (id) (rate(container_cpu_usage_seconds_total{id!=""$host}[30s]))"#),
    ("cpu_limit", r#"container_spec_cpu_quota{id!=""$host} / container_spec_cpu_period{id!=""$host} > 0"#),
    (
        "throttled",
        r#"rate(container_cpu_cfs_throttled_periods_total{id!=""$host}[1m])
           / rate(container_cpu_cfs_periods_total{id!=""$host}[1m])"#,
    ),
    ("read", r#"sum by (id) (rate(container_fs_reads_bytes_total{id!=""$host}[30s]))"#),
    ("write", r#"sum by (id) (rate(container_fs_writes_bytes_total{id!=""$host}[30s]))"#),
    ("tasks", r#"container_threads{id!=""$host}"#),
    ("oom", r#"container_oom_events_total{id!=""$host}"#),
    ("restarts", r#"changes(container_start_time_seconds{id!=""$host}[1d])"#),
    ("seen", r#"container_last_seen{id!=""$host} * 1000"#),
];

/// All containers and services of a host, by the path of their cgroup.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/containers", operation_id = "containers", tag = "hosts", params(("id" = u32, Path)), responses((status = 200, body = Containers), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>, Path(id): Path<u32>) -> Result<Json<Containers>, Problem> {
    let instance = hosts::find(&app, id)?.instance;
    let now = app.clock.wall();
    let figures =
        app.ask(move |engine, turn| Figures::ask((engine, turn), FIGURES, "id", Some(&instance), now)).await?;
    let containers = figures.keys("seen").into_iter().map(|id| container(id, &figures)).collect();
    Ok(Json(Containers { containers }))
}

fn container(id: &str, figures: &Figures) -> Container {
    let get = |name| figures.get(name, id);
    let whole = |name| figures.whole(name, id);
    let label = |label| figures.label("seen", id, label);
    let (runtime, short) = runtime_and_name(id);
    let service = label("service");
    Container {
        id: id.to_owned(),
        runtime: runtime.to_owned(),
        kind: if service.is_some() { "service" } else { "container" },
        name: label("name").or(service).unwrap_or_else(|| short.to_owned()),
        image: label("image"),
        cpu_cores: get("cpu"),
        cpu_limit_cores: get("cpu_limit"),
        throttled_ratio: get("throttled"),
        memory_working_set_bytes: whole("memory"),
        memory_limit_bytes: whole("memory_limit"),
        read_bytes_per_second: get("read"),
        write_bytes_per_second: get("write"),
        tasks: whole("tasks"),
        oom_kills: whole("oom").unwrap_or(0),
        restarts: whole("restarts").unwrap_or(0),
        last_seen_ms: whole("seen"),
    }
}

/// What a cgroup's path says: runtimes name their scopes after themselves.
fn runtime_and_name(id: &str) -> (&'static str, &str) {
    const RUNTIMES: &[(&str, &str)] = &[
        ("docker-", "docker"),
        ("libpod-", "podman"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
        ("lxc.payload.", "lxc"),
    ];
    let last = id.rsplit('/').next().unwrap_or(id);
    let stem = last.strip_suffix(".scope").unwrap_or(last);
    let named = RUNTIMES.iter().find_map(|(prefix, runtime)| Some((*runtime, stem.strip_prefix(prefix)?)));
    let within = |runtime: &str| id.contains(&format!("/{runtime}/"));
    named.unwrap_or_else(|| match () {
        () if within("docker") => ("docker", stem),
        () if within("lxc") => ("lxc", stem),
        () => ("systemd", last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_path_names_its_runtime() {
        let check = |id: &str, expect: (&str, &str)| assert_eq!(runtime_and_name(id), expect, "{id}");
        check("/system.slice/docker-0123.scope", ("docker", "0123"));
        check("/docker/0123", ("docker", "0123"));
        check("/machine.slice/libpod-0123.scope", ("podman", "0123"));
        check("/kubepods.slice/pod1/cri-containerd-0123.scope", ("containerd", "0123"));
        check("/lxc.payload.web", ("lxc", "web"));
        check("/system.slice/ssh.service", ("systemd", "ssh.service"));
        check("/system.slice/docker.service", ("systemd", "docker.service"));
    }
}
