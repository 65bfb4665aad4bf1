//! Who was told what, who was not, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::problem::Problem;
use crate::notify::decide::Reason;
use crate::notify::history;
use crate::store::record::notifications;

/// How many.
#[derive(Deserialize)]
pub struct Limit {
    /// The newest so many; 100 if missing.
    limit: Option<u32>,
}

/// One decision to send something, or to send nothing.
#[derive(Serialize, ToSchema)]
pub struct Notification {
    id: String,
    #[schema(value_type = i64)]
    at_ms: Timestamp,
    group_key: String,
    receiver: String,
    /// `sent`, `failed`, `pending` or `skipped`.
    status: &'static str,
    /// Why it was sent or not, in words.
    reason: String,
    /// The same by a name that stays: `new_alerts`, `all_resolved`, `some_resolved`, `repeat`, `never_told`, `nothing_new`,
    /// `resolved_unwanted`, `replaced`, `receiver_gone` or `too_old`.
    reason_code: String,
    attempts: u32,
    /// What went wrong at the last attempt.
    error: Option<String>,
    /// How many alerts it is about.
    alerts_total: usize,
    /// The first of them.
    alerts: Vec<Subject>,
}

/// An alert in a notification.
#[derive(Serialize, ToSchema)]
pub struct Subject {
    labels: BTreeMap<String, String>,
    /// `firing` or `resolved`.
    status: &'static str,
}

/// The newest decisions.
#[derive(Serialize, ToSchema)]
pub struct Notifications {
    notifications: Vec<Notification>,
    /// Why `alertmanager.yml` as it lies there is not in use; the last good version then is, if any.
    config_error: Option<String>,
}

/// The newest decisions, newest first.
#[utoipa::path(get, path = "/api/v1/notifications", operation_id = "notifications", tag = "alerts", params(("limit" = Option<u32>, Query, description = "The newest so many; 100 if missing")), responses((status = 200, body = Notifications), (status = 401, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>, Query(limit): Query<Limit>) -> Result<Json<Notifications>, Problem> {
    let recent = history::recent(&app.store, limit.limit.unwrap_or(100)).await;
    let recent = recent.map_err(|error| Problem::internal(&error))?;
    let notifications = recent.into_iter().map(Notification::from).collect();
    Ok(Json(Notifications { notifications, config_error: app.alerts.snapshot().routing_error.clone() }))
}

impl From<notifications::Notification> for Notification {
    fn from(decision: notifications::Notification) -> Self {
        let subject = |subject: notifications::Subject| Subject {
            labels: subject.labels,
            status: if subject.firing { "firing" } else { "resolved" },
        };
        Self {
            id: decision.id,
            at_ms: decision.at,
            group_key: decision.group_key,
            receiver: decision.receiver,
            status: decision.status.name(),
            reason: Reason::of(&decision.reason)
                .map_or_else(|| decision.reason.clone(), |reason| reason.words().to_owned()),
            reason_code: decision.reason,
            attempts: decision.attempts,
            error: decision.error,
            alerts_total: decision.about.total,
            alerts: decision.about.alerts.into_iter().map(subject).collect(),
        }
    }
}
