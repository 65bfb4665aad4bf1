//! Prometheus' HTTP API as a door: ours, and its own.

use aggregator::query::Moments;
use aggregator::query::Value;
use common::metric::Labels;
use common::time::Timestamp;
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::door::Door;
use crate::door::Reply;

/// A client.
pub(crate) struct Api {
    /// Where its requests run.
    pub(crate) runtime: Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    /// A client of the API below an address.
    pub(crate) fn new(runtime: Runtime, url: String, token: String) -> Self {
        // The client asks for one even where it speaks plain HTTP; a second call changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { runtime, client: reqwest::Client::builder().no_proxy().build().unwrap(), url, token }
    }

    /// Whether it is there, and ready.
    pub(crate) fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("{}/-/ready", self.url)).send();
        self.runtime.block_on(asked).is_ok_and(|answer| answer.status().is_success())
    }
}

impl Door for Api {
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String> {
        // As text: seconds in a float lose their last millisecond on the way through Prometheus.
        let text = |at: Timestamp| jiff::Timestamp::from_millisecond(at.as_millis()).unwrap().to_string();
        let (path, mut form) = match moments {
            Moments::At(at) => ("query", vec![("time", text(at))]),
            Moments::Range { start, end, step } => {
                let step = format!("{}ms", step.as_millis());
                ("query_range", vec![("start", text(start)), ("end", text(end)), ("step", step)])
            }
        };
        form.push(("query", query.to_owned()));
        let encoded = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>();
        let request = self.client.post(format!("{}/api/v1/{path}", self.url)).bearer_auth(&self.token);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encoded.join("&"));
        let body = self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
        let body: Json = serde_json::from_str(&body).unwrap();
        if let Some(error) = body["error"].as_str() {
            return Err(error.strip_prefix("invalid parameter \"query\": ").unwrap_or(error).to_owned());
        }
        let said = |key: &str| {
            let said = body[key].as_array().into_iter().flatten();
            said.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        Ok(Reply { value: value(&body["data"]), warnings: said("warnings"), infos: said("infos") })
    }
}

fn value(data: &Json) -> Value {
    let result = &data["result"];
    let number = |point: &Json| crate::series::number(point[1].as_str().unwrap());
    let at = |point: &Json| {
        let seconds = point[0].as_f64().unwrap();
        // Whole milliseconds: half of one more makes of the cut a rounding.
        let since = std::time::Duration::from_secs_f64(seconds.abs() + 0.000_5);
        let zero = Timestamp::default();
        if seconds < 0.0 { zero.before(since) } else { zero.after(since) }
    };
    let labels = |series: &Json| {
        let pairs = series["metric"].as_object().unwrap().iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect::<Labels>()
    };
    match data["resultType"].as_str().unwrap() {
        "scalar" => Value::Scalar(number(result)),
        "string" => Value::String(result[1].as_str().unwrap().to_owned()),
        "vector" => {
            let samples = result.as_array().unwrap().iter();
            Value::Vector(samples.map(|of| (labels(of), at(&of["value"]), number(&of["value"]))).collect())
        }
        _ => {
            let points = |of: &Json| of["values"].as_array().unwrap().iter().map(|of| (at(of), number(of))).collect();
            Value::Matrix(result.as_array().unwrap().iter().map(|of| (labels(of), points(of))).collect())
        }
    }
}

/// For a form.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escape).collect()
}
