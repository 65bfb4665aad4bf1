//! Alerts, each with the groups in which people are told of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::alert::snapshot;
use crate::alert::state;
use crate::http::App;
use crate::http::problem::Problem;

/// One instance of an alerting rule.
#[derive(Serialize, ToSchema)]
pub struct Alert {
    rule: String,
    group: String,
    file: String,
    /// `pending`, `firing` or `resolved`.
    state: &'static str,
    /// Since when its host is silent, so that it neither ripens nor resolves.
    #[schema(value_type = Option<i64>)]
    held_since_ms: Option<Timestamp>,
    /// When its condition began to hold.
    #[schema(value_type = i64)]
    since_ms: Timestamp,
    #[schema(value_type = Option<i64>)]
    fired_ms: Option<Timestamp>,
    #[schema(value_type = Option<i64>)]
    resolved_ms: Option<Timestamp>,
    /// What the expression gave; null if that is not a finite number.
    value: Option<f64>,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: Labels,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    annotations: Labels,
    expr: String,
    fingerprint: String,
    /// Keys of the groups in which it is notified: the decisions about it are those of `/api/v1/notifications` with one
    /// of these as `group_key` since `fired_ms`.
    groups: Vec<String>,
}

/// All alerts.
#[derive(Serialize, ToSchema)]
pub struct Alerts {
    alerts: Vec<Alert>,
}

/// All alerts: pending, firing, and those that resolved a short while ago.
#[utoipa::path(get, path = "/api/v1/alerts", operation_id = "alerts", tag = "alerts", responses((status = 200, body = Alerts), (status = 401, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<Alerts> {
    let snapshot = app.alerts.snapshot();
    Json(Alerts { alerts: snapshot.alerts.iter().map(describe).collect() })
}

fn describe(alert: &snapshot::Alert) -> Alert {
    let (fired_ms, resolved_ms) = match alert.state {
        state::State::Pending { .. } => (None, None),
        state::State::Firing { fired, .. } => (Some(fired), None),
        state::State::Resolved { fired, at, .. } => (Some(fired), Some(at)),
    };
    Alert {
        rule: alert.rule.as_ref().to_owned(),
        group: alert.group.as_ref().to_owned(),
        file: alert.file.as_ref().to_owned(),
        state: alert.state.name(),
        held_since_ms: alert.state.held(),
        since_ms: alert.state.since(),
        fired_ms,
        resolved_ms,
        value: Some(alert.value).filter(|value| value.is_finite()),
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        expr: alert.expr.as_ref().to_owned(),
        fingerprint: alert.fingerprint.to_string(),
        groups: alert.groups.clone(),
    }
}
