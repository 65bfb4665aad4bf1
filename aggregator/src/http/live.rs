//! What happens, as it happens: server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use axum::response::sse::Sse;
use futures::Stream;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::alert::fingerprint::Fingerprint;
use crate::alert::snapshot::Snapshot;
use crate::http::App;
use crate::http::Rooms;
use crate::http::notifications::Notification;
use crate::ingest::presence::Change;
use crate::store::record::notifications;

/// Events that a reader may fall behind; one who falls further is dropped, and comes back by itself. A commit of all of
/// 10,000 hosts' windows fits.
const EVENTS_MAX: usize = 16_384;

/// Where events are told.
#[derive(Clone, Debug)]
pub struct Live(broadcast::Sender<Told>);

/// One event, as it is sent to each reader.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    name: &'static str,
    data: serde_json::Value,
}

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_MAX))
    }
}

impl Live {
    /// Tells what changes until `stop`.
    pub async fn run(self, rooms: Rooms, stop: CancellationToken) {
        let Rooms { presence, mut alerts, decisions, .. } = rooms;
        let mut changes = presence.changes();
        let mut decisions = decisions.subscribe();
        let mut known = HashMap::new();
        self.tell(alert_changes(&mut known, &alerts.snapshot()));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) => self.tell([host_change(change)]),
                    // What was lost shows in the next request of whoever reads.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return stop.cancelled().await,
                },
                decision = decisions.recv() => match decision {
                    Ok(decision) => self.tell([notification(decision)]),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return stop.cancelled().await,
                },
                snapshot = alerts.changed() => match snapshot {
                    Some(snapshot) => self.tell(alert_changes(&mut known, &snapshot)),
                    None => return stop.cancelled().await,
                },
            }
        }
    }

    fn tell(&self, events: impl IntoIterator<Item = Told>) {
        for event in events {
            // Nobody may be reading.
            self.0.send(event).map(drop).unwrap_or_default();
        }
    }
}

/// What happens from here on: `window`, `host`, `alert`, `notification`.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "events", tag = "events", responses((status = 200, content_type = "text/event-stream", body = String)))]
pub async fn stream(State(app): State<Arc<App>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let told = BroadcastStream::new(app.live.0.subscribe());
    // An error says that the reader is too slow: the stream ends, and the browser asks anew.
    let events = told.take_while(|told| std::future::ready(told.is_ok())).filter_map(|told| async move {
        let told = told.ok()?;
        Some(Ok(Event::default().event(told.name).data(told.data.to_string())))
    });
    let stop = app.stop.clone();
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default())
}

fn host_change(change: Change) -> Told {
    match change {
        Change::Window(host, stamp) => Told { name: "window", data: json!({"host": host, "stamp_ms": stamp}) },
        Change::Host(host, state) => Told { name: "host", data: json!({"id": host, "state": state}) },
    }
}

fn notification(decision: notifications::Notification) -> Told {
    Told { name: "notification", data: json!(Notification::from(decision)) }
}

/// The alerts that are not in the state in which they were known; they are then.
fn alert_changes(known: &mut HashMap<Fingerprint, &'static str>, snapshot: &Snapshot) -> Vec<Told> {
    let before = std::mem::take(known);
    let mut changed = Vec::new();
    for alert in &snapshot.alerts {
        let state = alert.state.name();
        known.insert(alert.fingerprint, state);
        if before.get(&alert.fingerprint) != Some(&state) {
            let data = json!({
                "fingerprint": alert.fingerprint.to_string(),
                "rule": alert.rule.as_ref(),
                "state": state,
                "labels": alert.labels,
            });
            changed.push(Told { name: "alert", data });
        }
    }
    let gone = before.keys().filter(|fingerprint| !known.contains_key(fingerprint));
    changed.extend(gone.map(|fingerprint| Told {
        name: "alert",
        data: json!({"fingerprint": fingerprint.to_string(), "state": "inactive"}),
    }));
    changed
}
