//! Webhooks: Alertmanager's JSON, version 4, by POST.

use std::time::Duration;

use common::time::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;

use crate::alert::fingerprint::Fingerprint;
use crate::notify::message::Map;
use crate::notify::message::Message;
use crate::notify::message::labels;
use crate::notify::receiver::Failure;
use crate::notify::receiver::client::Authorization;
use crate::notify::receiver::client::Client;
use crate::notify::receiver::client::Post;
use crate::notify::receiver::client::Secret;

/// How long a receiver may take to answer, unless it says otherwise: nobody waits longer for a page.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// One entry of `webhook_configs`.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where to.
    pub url: Secret,
    /// What to put into the `Authorization` header.
    pub authorization: Option<Authorization>,
    /// Whether it wants to hear what resolved.
    pub send_resolved: bool,
    /// Most alerts in a message; 0 is no limit.
    pub max_alerts: usize,
    /// How long it may take to answer.
    pub timeout: Duration,
}

impl Webhook {
    /// What is secret of it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.url].into_iter().chain(self.authorization.as_ref().map(Authorization::secret))
    }
}

/// Tells a webhook.
///
/// # Errors
/// When it did not take the message. What is said contains no part of the URL.
pub async fn send(client: &Client, webhook: &Webhook, id: &str, body: String) -> Result<(), Failure> {
    let url = webhook.url.read()?;
    let post = Post {
        url: &url,
        authorization: webhook.authorization.as_ref(),
        headers: vec![("Content-Type", "application/json"), ("Idempotency-Key", id)],
        timeout: webhook.timeout,
        body: body.into_bytes(),
    };
    judge(client.post(post).await?)
}

fn judge(status: StatusCode) -> Result<(), Failure> {
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() {
        Err(Failure::Passing(format!("the receiver answered {status}")))
    } else {
        Err(Failure::Lasting(format!("the receiver answered {status}")))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<PayloadAlert<'a>>,
    group_labels: &'a Map,
    common_labels: Map,
    common_annotations: Map,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a Map,
    annotations: &'a Map,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: Fingerprint,
}

/// The message in Alertmanager's form.
#[must_use]
pub fn payload(message: &Message, receiver: &str, max_alerts: usize, external_url: &str) -> String {
    let shown = if max_alerts == 0 { message.alerts.len() } else { max_alerts.min(message.alerts.len()) };
    let status = |firing| if firing { "firing" } else { "resolved" };
    let alerts = message.alerts[..shown].iter().map(|alert| PayloadAlert {
        status: status(alert.ends_at.is_none()),
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: moment(Some(alert.starts_at)),
        ends_at: moment(alert.ends_at),
        generator_url: &alert.generator_url,
        fingerprint: Fingerprint::of(&labels(&alert.labels)),
    });
    let payload = Payload {
        receiver,
        status: status(message.is_firing()),
        alerts: alerts.collect(),
        group_labels: &message.group_labels,
        common_labels: Message::common(message.alerts.iter().map(|alert| &alert.labels)),
        common_annotations: Message::common(message.alerts.iter().map(|alert| &alert.annotations)),
        external_url,
        version: "4",
        group_key: &message.group_key,
        truncated_alerts: message.alerts.len() - shown,
    };
    // Strings and numbers in structs: there is nothing that JSON could refuse.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// A moment as Go writes it: without zeros behind the point, and the year 1 for none.
fn moment(at: Option<Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at.as_millis()).ok());
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::Member;

    /// Alertmanager 0.25 made this of the alerts in it: read as a message, ours must come out the same.
    fn check(captured: &str) {
        let payload: serde_json::Value = serde_json::from_str(captured).unwrap();
        let map = |value: &serde_json::Value| serde_json::from_value::<Map>(value.clone()).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let at = |value: &serde_json::Value| {
            let at: jiff::Timestamp = text(value).parse().unwrap();
            Timestamp::from_millis(at.as_millisecond())
        };
        let alert = |alert: &serde_json::Value| Member {
            labels: map(&alert["labels"]),
            annotations: map(&alert["annotations"]),
            starts_at: at(&alert["startsAt"]),
            ends_at: (alert["status"] == "resolved").then(|| at(&alert["endsAt"])),
            generator_url: text(&alert["generatorURL"]),
        };
        let message = Message {
            group_key: text(&payload["groupKey"]),
            group_labels: map(&payload["groupLabels"]),
            alerts: payload["alerts"].as_array().unwrap().iter().map(alert).collect(),
        };
        let ours = super::payload(&message, "team", 0, &text(&payload["externalURL"]));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap(), payload);
    }

    #[test]
    fn payloads_are_alertmanagers() {
        check(include_str!("../../../../tests/fixtures/notify/firing.json"));
        check(include_str!("../../../../tests/fixtures/notify/quoted.json"));
        check(include_str!("../../../../tests/fixtures/notify/partly_resolved.json"));
        check(include_str!("../../../../tests/fixtures/notify/resolved.json"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let check = |status: u16, expect: Option<bool>| {
            let passing = judge(StatusCode::from_u16(status).unwrap())
                .err()
                .map(|failure| matches!(failure, Failure::Passing(_)));
            assert_eq!(passing, expect, "{status}");
        };
        check(200, None);
        check(204, None);
        check(302, Some(false));
        check(404, Some(false));
        check(429, Some(false));
        check(500, Some(true));
        check(503, Some(true));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let hook = Webhook {
            url: Secret::Inline("http://x/?token=hunter2".to_owned()),
            authorization: Some(Authorization::Basic("me".to_owned(), Secret::Inline("hunter2".to_owned()))),
            send_resolved: true,
            max_alerts: 0,
            timeout: TIMEOUT,
        };
        assert!(!format!("{hook:?}").contains("hunter2"));
    }
}
