//! Hosts as the targets that Prometheus would scrape: nobody asks them, they send.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde_json::Value;
use serde_json::json;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::answer::moment;
use crate::http::prometheus::parameters::Parameters;
use crate::ingest::presence;
use crate::ingest::presence::HostState;

/// The pool of all of them.
const POOL: &str = "node";

/// `targets`.
pub(super) async fn list(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Success<Value>, Failure> {
    let wanted = |state: &str| parameters.get("state").is_none_or(|asked| asked == "any" || asked == state);
    let shown = wanted("active") && parameters.get("scrapePool").is_none_or(|pool| pool == POOL);
    let hosts = if shown { app.presence.snapshot() } else { Vec::new() };
    Ok(Success::new(json!({
        "activeTargets": hosts.iter().map(target).collect::<Vec<_>>(),
        "droppedTargets": [],
        "droppedTargetCounts": BTreeMap::from([(POOL, 0)]),
    })))
}

fn target(host: &HostState) -> Value {
    let health = match host.state {
        presence::State::Up => "up",
        presence::State::New => "unknown",
        presence::State::Silent
        | presence::State::Stopped
        | presence::State::Shutdown
        | presence::State::Rebooting
        | presence::State::Revoked => "down",
    };
    let state = json!(host.state).as_str().unwrap_or_default().to_owned();
    json!({
        "discoveredLabels": {}, "labels": host.labels.clone().with("job", POOL), "scrapePool": POOL,
        "scrapeUrl": "", "globalUrl": "", "lastError": if health == "up" { String::new() } else { state },
        "lastScrape": moment(host.last_seen), "lastScrapeDuration": 0, "health": health,
        "scrapeInterval": "10s", "scrapeTimeout": "10s",
    })
}
