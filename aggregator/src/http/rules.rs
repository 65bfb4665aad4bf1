//! Rule files: what is in them, and what is wrong with them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::alert::snapshot;
use crate::alert::snapshot::Health;
use crate::http::App;

/// One rule.
#[derive(Serialize, ToSchema)]
pub struct Rule {
    name: String,
    /// `alerting` or `recording`.
    kind: &'static str,
    expr: String,
    for_ms: u64,
    keep_firing_for_ms: u64,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: Labels,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    annotations: Labels,
    /// `ok`, `error` or `unknown`.
    health: &'static str,
    error: Option<String>,
    /// `inactive`, `pending` or `firing`.
    state: &'static str,
    /// Pending and firing.
    alerts: usize,
    #[schema(value_type = Option<i64>)]
    last_evaluation_ms: Option<Timestamp>,
}

/// One group of rules.
#[derive(Serialize, ToSchema)]
pub struct Group {
    name: String,
    interval_ms: u64,
    rules: Vec<Rule>,
}

/// One rule file.
#[derive(Serialize, ToSchema)]
pub struct File {
    path: String,
    /// Why the file as it lies there is not in use; the rules are then those of its last good version.
    error: Option<String>,
    groups: Vec<Group>,
}

/// All rule files.
#[derive(Serialize, ToSchema)]
pub struct Rules {
    files: Vec<File>,
    /// What else lies there.
    ignored: Vec<String>,
}

/// All rule files, and what else lies there.
#[utoipa::path(get, path = "/api/v1/rules", operation_id = "rules", tag = "alerts", responses((status = 200, body = Rules)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<Rules> {
    let snapshot = app.alerts.snapshot();
    Json(Rules { files: snapshot.files.iter().map(file).collect(), ignored: snapshot.ignored.clone() })
}

fn file(file: &snapshot::File) -> File {
    let groups = file.groups.iter().map(|group| Group {
        name: group.name.as_ref().to_owned(),
        interval_ms: millis(group.interval),
        rules: group.rules.iter().map(rule).collect(),
    });
    File { path: file.path.as_ref().to_owned(), error: file.error.clone(), groups: groups.collect() }
}

fn rule(rule: &snapshot::Rule) -> Rule {
    let (health, error) = match &rule.health {
        Health::Unknown => ("unknown", None),
        Health::Ok => ("ok", None),
        Health::Error(error) => ("error", Some(error.clone())),
    };
    let state = match (rule.firing, rule.active) {
        (0, 0) => "inactive",
        (0, _) => "pending",
        _ => "firing",
    };
    Rule {
        name: rule.name.as_ref().to_owned(),
        kind: if rule.alerting { "alerting" } else { "recording" },
        expr: rule.expr.as_ref().to_owned(),
        for_ms: millis(rule.hold_for),
        keep_firing_for_ms: millis(rule.keep_firing_for),
        labels: rule.labels.clone(),
        annotations: rule.annotations.clone(),
        health,
        error,
        state,
        alerts: rule.active,
        last_evaluation_ms: rule.evaluated,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
