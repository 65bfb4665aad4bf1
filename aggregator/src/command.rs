//! Commands that ask the aggregator something, whether it runs or not: what they ask, and how they write the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use common::time::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::http::control::Question;
use crate::ingest::trust::Authority;
use crate::ingest::trust::date;
use crate::store::backup;
use crate::store::lock::Lock;
use crate::store::snapshot::Snapshot;
use crate::store::verify;

/// A command that asks.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make a join token.
    TokenCreate {
        /// How many hosts may join with it.
        uses: u32,
        /// How long it may be used.
        expires: Duration,
        /// Labels that its hosts get.
        labels: Vec<(String, String)>,
        /// After how long without a word its hosts are forgotten.
        ephemeral: Option<Duration>,
    },
    /// Make a token with which somebody writes.
    TokenCreateWrite {
        /// What that one is called.
        name: String,
        /// Labels that the series get.
        labels: Vec<(String, String)>,
    },
    /// List tokens.
    TokenList,
    /// Revoke a token.
    TokenRevoke(String),
    /// List hosts.
    HostList,
    /// Do something about one host.
    Host {
        /// Its name, or its number.
        host: String,
        /// What.
        what: About,
    },
    /// Make a login link.
    UserLink,
    /// Say what the series come from.
    TopSeries {
        /// Rows of each table.
        rows: u32,
    },
    /// Ask a query for the present moment.
    Query {
        /// The expression.
        expr: String,
        /// Whether to say what it read.
        explain: bool,
    },
}

/// What is to be done about a host.
#[derive(Clone, Debug)]
pub enum About {
    /// Give it labels, or take them away with an empty value.
    Label(Vec<(String, String)>),
    /// Call it otherwise.
    Rename(String),
    /// Keep it out for good.
    Revoke,
    /// Remove everything that is stored about it.
    Forget,
}

impl About {
    fn question(&self, host: &Value) -> Question {
        let path = format!("/api/v1/hosts/{host}");
        match self {
            Self::Label(labels) => {
                let labels: BTreeMap<_, _> = labels.iter().cloned().collect();
                Question::patch(&path, &json!({ "labels": labels }))
            }
            Self::Rename(name) => Question::patch(&path, &json!({ "instance": name })),
            Self::Revoke => Question::patch(&path, &json!({ "revoked": true })),
            Self::Forget => Question::delete(&path),
        }
    }

    fn answer(&self, host: &str) -> String {
        match self {
            Self::Label(_) => format!("{host} has its labels: its series go on under them as new ones\n"),
            Self::Rename(name) => format!("{host} is called {name}\n"),
            Self::Revoke => format!("{host} is revoked: its session has ended, and its key does not come in again\n"),
            Self::Forget => format!("{host} is forgotten, with everything that was stored about it\n"),
        }
    }
}

impl Command {
    /// Asks what it takes, and writes the answer for a person; what a script wants stands in the last line.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a refusal.
    pub async fn run(&self, ask: impl AsyncFn(Question) -> anyhow::Result<Value>) -> anyhow::Result<String> {
        let question = if let Self::Host { host, what } = self {
            what.question(number_of(host, &ask(Self::hosts()).await?)?)
        } else {
            self.question()
        };
        Ok(self.answer(&ask(question).await?))
    }

    fn hosts() -> Question {
        Question::get("/api/v1/hosts", &[])
    }

    fn question(&self) -> Question {
        match self {
            Self::TokenCreate { uses, expires, labels, ephemeral } => Question::post(
                "/api/v1/tokens",
                &json!({
                    "uses": uses,
                    "expires_seconds": expires.as_secs(),
                    "labels": labels.iter().cloned().collect::<BTreeMap<_, _>>(),
                    "ephemeral_seconds": ephemeral.map(|time| time.as_secs()),
                }),
            ),
            Self::TokenCreateWrite { name, labels } => {
                let labels: BTreeMap<_, _> = labels.iter().cloned().collect();
                Question::post("/api/v1/tokens", &json!({ "write": name, "labels": labels }))
            }
            Self::TokenList => Question::get("/api/v1/tokens", &[]),
            Self::TokenRevoke(id) => Question::delete(&format!("/api/v1/tokens/{id}")),
            Self::HostList | Self::Host { .. } => Self::hosts(),
            Self::UserLink => Question::post("/api/v1/links", &json!({})),
            Self::TopSeries { rows } => {
                Question::get("/prometheus/api/v1/status/tsdb", &[("limit", &rows.to_string())])
            }
            Self::Query { expr, explain } => {
                let explain = explain.then_some(("explain", "1"));
                let parameters: Vec<_> = [("query", expr.as_str())].into_iter().chain(explain).collect();
                Question::get("/prometheus/api/v1/query", &parameters)
            }
        }
    }

    fn answer(&self, answer: &Value) -> String {
        let text = |key: &str| answer[key].as_str().unwrap_or_default();
        match self {
            Self::TokenCreate { .. } => {
                format!("Run this on the host that joins:\n\n    {}\n\n{}\n", text("line"), text("token"))
            }
            Self::TokenCreateWrite { .. } => {
                let lines = text("line").replace('\n', "\n    ");
                format!("Say this in prometheus.yml:\n\n    {lines}\n\n{}\n", text("token"))
            }
            Self::TokenList => table(
                &["ID", "WRITES", "USES LEFT", "EXPIRES", "LABELS"],
                &answer["tokens"],
                &["id", "write", "uses_left", "expires_ms", "labels"],
            ),
            Self::HostList => table(
                &["ID", "INSTANCE", "STATE", "LAST SEEN", "AGENT", "LABELS"],
                &answer["hosts"],
                &["id", "instance", "state", "last_seen_ms", "agent_version", "labels"],
            ),
            Self::TokenRevoke(id) => {
                format!("{id} is revoked: no further host joins with it, and nobody writes with it\n")
            }
            Self::Host { host, what } => what.answer(host),
            Self::UserLink => format!("{}\n", answer["url"].as_str().unwrap_or_default()),
            Self::TopSeries { .. } => top_series(&answer["data"]),
            Self::Query { .. } => series(&answer["data"]) + &beside(answer),
        }
    }
}

/// The number of a host, which is given by its name or by its number.
fn number_of<'a>(host: &str, list: &'a Value) -> anyhow::Result<&'a Value> {
    let hosts = || list["hosts"].as_array().into_iter().flatten();
    let named = hosts().find(|known| known["instance"] == host);
    // A name that looks like a number is a name.
    let number = host.parse::<u64>().ok();
    let found = named.or_else(|| hosts().find(|known| number.is_some() && known["id"].as_u64() == number));
    let found = found.with_context(|| format!("there is no host {host:?}: see `lapwing-aggregator host list`"))?;
    Ok(&found["id"])
}

/// Makes another certificate authority for a data directory.
///
/// # Errors
/// When it is in use, hosts would be locked out, or a file cannot be written.
pub fn rotate_ca(data_dir: &Path, now: Timestamp, anew: bool) -> anyhow::Result<(String, bool)> {
    let lock = Lock::take(data_dir)?;
    let until = date(Authority::rotate(lock.data_dir(), now, anew)?);
    let text = format!(
        "The certificate authority is another one: start the aggregator.\n\
         Agents learn of it when they renew, within 20 days. One that is off until {until} has to join again.\n\
         Tokens that were made before are good for as long. Copy ca.key where you keep the old one.\n"
    );
    Ok((text, true))
}

/// Copies a data directory.
///
/// # Errors
/// When it cannot be copied.
pub fn back_up(
    data_dir: &Path,
    to: &Path,
    ask: impl FnMut() -> anyhow::Result<Snapshot>,
) -> anyhow::Result<(String, bool)> {
    let copied = backup::back_up(data_dir, to, ask)?;
    Ok((format!("{}: {} files, {} bytes\n", to.display(), copied.files, copied.bytes), true))
}

/// Makes a data directory of a copy.
///
/// # Errors
/// When it is in use or not empty, or the copy cannot be used.
pub fn restore(from: &Path, data_dir: &Path) -> anyhow::Result<(String, bool)> {
    let copied = backup::restore(from, &Lock::take(data_dir)?)?;
    Ok((format!("{}: {} files, {} bytes\n", data_dir.display(), copied.files, copied.bytes), true))
}

/// Looks through a data directory or a copy; whether all is good.
///
/// # Errors
/// When the aggregator that runs there does not hand its database out.
pub fn verify(directory: &Path, ask: impl FnMut() -> anyhow::Result<Snapshot>) -> anyhow::Result<(String, bool)> {
    let damage = verify::verify_beside(directory, ask)?;
    let mut text: String = damage.iter().map(|damage| format!("{damage}\n")).collect();
    if damage.is_empty() {
        text = format!("{}: all is as it was written\n", directory.display());
    }
    Ok((text, damage.is_empty()))
}

/// What most series come from: a table each for metrics, labels, and what labels say.
fn top_series(data: &Value) -> String {
    let tables = [
        ("SERIES OF METRIC", "seriesCountByMetricName"),
        ("SERIES WITH LABEL", "seriesCountByLabelValuePair"),
        ("VALUES OF LABEL", "labelValueCountByLabelName"),
        ("SAMPLES REFUSED BY LIMIT", "refusedSamplesByLimit"),
    ];
    let tables = tables.map(|(title, key)| table(&[title, "COUNT"], &data[key], &["name", "value"]));
    format!("{} series\n\n{}", data["headStats"]["numSeries"], tables.join("\n"))
}

/// Rows of objects in columns as wide as they must be.
fn table(head: &[&str], rows: &Value, keys: &[&str]) -> String {
    let mut lines = vec![head.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()];
    for row in rows.as_array().into_iter().flatten() {
        lines.push(keys.iter().map(|key| cell(key, &row[key])).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(key: &str, value: &Value) -> String {
    let moment = value.as_i64().filter(|_| key.ends_with("_ms"));
    match (value, moment.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())) {
        (_, Some(moment)) => moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        (Value::Null, _) => "-".to_owned(),
        (Value::String(text), _) => text.clone(),
        (Value::Object(labels), _) => {
            let pairs = labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
            pairs.collect::<Vec<_>>().join(",")
        }
        (other, _) => other.to_string(),
    }
}

/// A query's answer, a line a sample: labels, value, time.
fn series(data: &Value) -> String {
    let mut text = String::new();
    let mut line = |labels: &str, point: &Value| {
        let value = point[1].as_str().unwrap_or_default();
        // Writing to a string does not fail.
        writeln!(text, "{labels} {value} @{}", point[0]).unwrap_or_default();
    };
    match data["resultType"].as_str() {
        Some("vector" | "matrix") => {
            for found in data["result"].as_array().into_iter().flatten() {
                let labels = labels(&found["metric"]);
                let points = found["values"].as_array().cloned().unwrap_or_else(|| vec![found["value"].clone()]);
                points.iter().for_each(|point| line(&labels, point));
            }
        }
        _ => line(data["resultType"].as_str().unwrap_or_default(), &data["result"]),
    }
    if text.is_empty() { "no series match\n".to_owned() } else { text }
}

/// What stands beside a query's answer: warnings, infos, and what it took if that was asked for.
fn beside(answer: &Value) -> String {
    let said = ["warnings", "infos"].into_iter().flat_map(|key| answer[key].as_array().into_iter().flatten());
    let mut lines: Vec<String> = said.filter_map(Value::as_str).map(str::to_owned).collect();
    let explained = &answer["data"]["explain"];
    for read in explained["selections"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}: {} series, {} samples, tier {}, {} s",
            read["selector"].as_str().unwrap_or_default(),
            read["series"],
            read["samples"],
            read["tier"].as_str().unwrap_or_default(),
            read["seconds"]
        ));
    }
    if explained.is_object() {
        lines.push(format!(
            "{} steps in {} s, {} s each; {} samples held",
            explained["steps"], explained["seconds"], explained["seconds_per_step"], explained["samples_held"]
        ));
    }
    lines.iter().map(|line| format!("# {line}\n")).collect()
}

fn labels(metric: &Value) -> String {
    let pairs = metric.as_object().into_iter().flatten();
    let labels: common::metric::Labels =
        pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
    labels.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &Command, answer: &Value, expect: &str) {
        assert_eq!(command.answer(answer), expect);
    }

    #[test]
    fn hosts_are_a_table() {
        let answer = json!({"hosts": [
            {"id": 1, "instance": "web-1", "state": "up", "last_seen_ms": 0, "agent_version": "0.1.0", "labels": {"env": "prod", "team": "a"}},
            {"id": 12, "instance": "b", "state": "silent", "last_seen_ms": null, "agent_version": null, "labels": {}},
        ]});
        check(
            &Command::HostList,
            &answer,
            "ID  INSTANCE  STATE   LAST SEEN             AGENT  LABELS\n\
             1   web-1     up      1970-01-01 00:00:00Z  0.1.0  env=prod,team=a\n\
             12  b         silent  -                     -\n",
        );
    }

    #[test]
    fn a_host_is_found_by_its_name_or_its_number() {
        let list =
            json!({"hosts": [{"id": 1, "instance": "web"}, {"id": 2, "instance": "1"}, {"id": 3, "instance": "db"}]});
        let check = |host: &str, expect: Option<u64>| {
            let found = number_of(host, &list).ok().and_then(Value::as_u64);
            assert_eq!(found, expect, "{host}");
        };
        check("web", Some(1));
        check("1", Some(2));
        check("3", Some(3));
        check("we", None);
        check("", None);
    }

    #[test]
    fn a_token_to_write_with_comes_with_what_to_configure() {
        let create = Command::TokenCreateWrite { name: "dc2".to_owned(), labels: Vec::new() };
        check(
            &create,
            &json!({"token": "T", "line": "remote_write:\n  - url: U"}),
            "Say this in prometheus.yml:\n\n    remote_write:\n      - url: U\n\nT\n",
        );
        let tokens = json!({"tokens": [
            {"id": "a", "write": null, "uses_left": 1, "expires_ms": 0, "labels": {}},
            {"id": "b", "write": "dc2", "uses_left": null, "expires_ms": null, "labels": {"dc": "2"}},
        ]});
        check(
            &Command::TokenList,
            &tokens,
            "ID  WRITES  USES LEFT  EXPIRES               LABELS\n\
             a   -       1          1970-01-01 00:00:00Z\n\
             b   dc2     -          -                     dc=2\n",
        );
    }

    #[test]
    fn what_series_come_from_is_a_table_each() {
        let data = json!({
            "headStats": {"numSeries": 7},
            "seriesCountByMetricName": [{"name": "up", "value": 4}, {"name": "node_load1", "value": 3}],
            "seriesCountByLabelValuePair": [{"name": "instance=web-1", "value": 7}],
            "labelValueCountByLabelName": [],
            "refusedSamplesByLimit": [{"name": "series_max of 3, as up", "value": 9}],
        });
        let expect = "7 series\n\nSERIES OF METRIC  COUNT\nup                4\nnode_load1        3\n\n\
                      SERIES WITH LABEL  COUNT\ninstance=web-1     7\n\nVALUES OF LABEL  COUNT\n\n\
                      SAMPLES REFUSED BY LIMIT  COUNT\nseries_max of 3, as up    9\n";
        check(&Command::TopSeries { rows: 10 }, &json!({ "data": data }), expect);
    }

    #[test]
    fn the_last_line_is_for_scripts() {
        let create =
            Command::TokenCreate { uses: 1, expires: Duration::from_secs(60), labels: Vec::new(), ephemeral: None };
        let answer = json!({"token": "T", "line": "lapwing-agent run --join T --aggregator h:4641"});
        assert_eq!(create.answer(&answer).lines().last(), Some("T"));
        check(&Command::UserLink, &json!({"url": "http://h/login?link=x"}), "http://h/login?link=x\n");
    }

    #[test]
    fn a_query_answers_a_line_a_sample() {
        let query = Command::Query { expr: String::new(), explain: false };
        let vector = json!({"data": {"resultType": "vector", "result": [{"metric": {"__name__": "up", "job": "node"}, "value": [7, "1"]}]}});
        check(&query, &vector, "up{job=\"node\"} 1 @7\n");
        check(&query, &json!({"data": {"resultType": "scalar", "result": [7.5, "2"]}}), "scalar 2 @7.5\n");
        let matrix =
            json!({"data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[7, "1"], [8, "NaN"]]}]}});
        check(&query, &matrix, "{} 1 @7\n{} NaN @8\n");
        let nothing = json!({"data": {"resultType": "vector", "result": []}, "warnings": ["PromQL warning: w"]});
        check(&query, &nothing, "no series match\n# PromQL warning: w\n");
        let explained = json!({"data": {"resultType": "scalar", "result": [7, "2"], "explain": {
            "selections": [{"selector": "{__name__=\"up\"}", "series": 2, "samples": 4, "tier": "raw", "seconds": 0.5}],
            "steps": 1, "seconds": 0.5, "seconds_per_step": 0.5, "samples_held": 9,
        }}});
        check(
            &query,
            &explained,
            "scalar 2 @7\n# {__name__=\"up\"}: 2 series, 4 samples, tier raw, 0.5 s\n\
             # 1 steps in 0.5 s, 0.5 s each; 9 samples held\n",
        );
    }
}
