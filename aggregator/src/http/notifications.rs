//! Who was told what, who was not, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::problem::Problem;
use crate::notify::history;
use crate::store::record::notifications;

/// How many.
#[derive(Deserialize)]
pub struct Limit {
    /// The newest so many; 100 if missing.
    limit: Option<u32>,
}

/// One decision to send something, or to send nothing.
#[derive(Clone, Serialize, ToSchema)]
pub struct Notification {
    id: String,
    #[schema(value_type = i64)]
    at_ms: Timestamp,
    group_key: String,
    receiver: String,
    /// `sent`, `failed`, `pending` or `skipped`.
    status: &'static str,
    /// Why it was sent or not.
    reason: String,
    attempts: u32,
    /// What went wrong at the last attempt.
    error: Option<String>,
    alerts: Vec<Told>,
}

/// An alert in a notification.
#[derive(Clone, Serialize, ToSchema)]
pub struct Told {
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: Labels,
    /// `firing` or `resolved`.
    status: &'static str,
}

/// The newest decisions.
#[derive(Serialize, ToSchema)]
pub struct Notifications {
    notifications: Vec<Notification>,
}

/// The newest decisions, newest first.
#[utoipa::path(get, path = "/api/v1/notifications", operation_id = "notifications", tag = "alerts", params(("limit" = Option<u32>, Query, description = "The newest so many; 100 if missing")), responses((status = 200, body = Notifications), (status = 401, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>, Query(limit): Query<Limit>) -> Result<Json<Notifications>, Problem> {
    let notifications = recent(&app, limit.limit.unwrap_or(100)).await?;
    Ok(Json(Notifications { notifications }))
}

/// The newest decisions, newest first.
pub async fn recent(app: &App, limit: u32) -> Result<Vec<Notification>, Problem> {
    let recent = history::recent(&app.store, limit).await.map_err(|error| Problem::internal(&error))?;
    Ok(recent.into_iter().map(Notification::from).collect())
}

impl Notification {
    /// Whether an alert with these labels is in it.
    pub fn is_about(&self, labels: &Labels) -> bool {
        self.alerts.iter().any(|told| told.labels == *labels)
    }
}

impl From<notifications::Notification> for Notification {
    fn from(decision: notifications::Notification) -> Self {
        let told = |told: notifications::Told| Told {
            labels: told.labels,
            status: if told.firing { "firing" } else { "resolved" },
        };
        Self {
            id: decision.id,
            at_ms: decision.at,
            group_key: decision.group_key,
            receiver: decision.receiver,
            status: decision.status.name(),
            reason: decision.reason,
            attempts: decision.attempts,
            error: decision.error,
            alerts: decision.alerts.into_iter().map(told).collect(),
        }
    }
}
