//! Remote write by HTTP: what Prometheus' receiver answers, and what is stored.

use serde_json::json;

use crate::instance::Answer;
use crate::instance::Instance;

const PATH: &str = "/prometheus/api/v1/write";
const ONE: &str = "application/x-protobuf";
const TWO: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// A field of protobuf with a length before it.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while 0x7f < length {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend(content);
    field
}

fn sample(at_ms: i64, value: f64) -> Vec<u8> {
    let mut sample = vec![1 << 3 | 1];
    sample.extend(value.to_bits().to_le_bytes());
    sample.push(2 << 3);
    let mut at = at_ms;
    while 0x7f < at {
        sample.push(u8::try_from(at & 0x7f).unwrap() | 0x80);
        at >>= 7;
    }
    sample.push(u8::try_from(at).unwrap());
    bytes(2, &sample)
}

fn series(name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
    let label = |name: &str, value: &str| bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat());
    let samples: Vec<u8> = samples.iter().flat_map(|(at, value)| sample(*at, *value)).collect();
    bytes(1, &[label("__name__", name), label("job", "j"), samples].concat())
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

impl Instance {
    pub(crate) async fn writer(&self, body: serde_json::Value) -> String {
        let made = self.ask(("POST", "/api/v1/tokens"), Some(&self.token), Some(&body.to_string())).await.json();
        made["token"].as_str().unwrap().to_owned()
    }

    async fn write(&self, token: &str, content_type: &str, body: Vec<u8>) -> Answer {
        self.send(PATH, token, &[("content-type", content_type), ("content-encoding", "snappy")], body).await
    }

    async fn query(&self, query: &str) -> serde_json::Value {
        let path = format!("/prometheus/api/v1/query?query={query}");
        self.ask(("GET", &path), Some(&self.token), None).await.json()["data"]["result"].clone()
    }

    fn now_ms(&self) -> i64 {
        self.clock.wall().as_millis()
    }
}

#[tokio::test]
async fn what_is_written_is_durable_and_told_apart() {
    let instance = Instance::start().await;
    let now = instance.now_ms();
    let a = instance.writer(json!({"write": "a", "labels": {"dc": "1"}})).await;
    let b = instance.writer(json!({"write": "b"})).await;
    let message = snappy(&series("m", &[(now - 1_000, 1.5), (now, 2.5)]));
    for token in [&a, &b, &a] {
        let answer = instance.write(token, ONE, message.clone()).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "", "the first version has no headers");
    }
    let instance = instance.restart().await;
    for (selector, labels) in [("m{dc=\"\"}", json!({"job": "j"})), ("m{dc=\"1\"}", json!({"dc": "1", "job": "j"}))] {
        let found = instance.query(&format!("count_over_time({selector}[1m])")).await;
        assert_eq!((&found[0]["metric"], found.as_array().unwrap().len()), (&labels, 1));
        assert_eq!(found[0]["value"][1], "2", "written twice is written once");
    }
    let metrics = instance.ask(("GET", "/metrics"), Some(&instance.token), None).await.text;
    assert!(metrics.contains("lapwing_aggregator_remote_write_refused_total{reason=\"old\"} 0"), "{metrics}");
    instance.stop().await;
}

#[tokio::test]
async fn the_second_version_is_answered_with_what_was_written() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.now_ms();
    let two = |samples: Vec<u8>, more: Vec<u8>| {
        let symbols = ["", "__name__", "m"].map(|symbol| bytes(4, symbol.as_bytes())).concat();
        let good = bytes(5, &[bytes(1, &[1, 2]), samples].concat());
        snappy(&[symbols, good, bytes(5, &more)].concat())
    };
    let check = async |body: Vec<u8>, status: u16, written: [&str; 3]| {
        let answer = instance.write(&token, TWO, body).await;
        let headers = ["samples", "histograms", "exemplars"]
            .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")).to_owned());
        assert_eq!((answer.status, headers), (status, written.map(str::to_owned)), "{}", answer.text);
        answer.text
    };
    check(two(sample(now, 1.0), Vec::new()), 204, ["1", "0", "0"]).await;
    check(two(sample(now, 1.0), bytes(4, b"exemplar")), 204, ["1", "0", "0"]).await;
    let histogram = [bytes(1, &[1, 2]), bytes(3, b"")].concat();
    let text = check(two(sample(now, 1.0), histogram), 400, ["1", "0", "0"]).await;
    assert!(text.contains("1 of 2 samples are not stored: 1 are native histograms"), "{text}");
    let nameless = [bytes(1, &[2, 2]), sample(now, 1.0)].concat();
    check(two([sample(now - 1, 1.0), sample(now, 1.0)].concat(), nameless), 400, ["2", "0", "0"]).await;
    check(snappy(b"\x0a\x05ab"), 400, ["0", "0", "0"]).await;
    instance.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_by_its_kind() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.now_ms();
    let good = snappy(&series("m", &[(now, 1.0)]));
    let check = async |headers: &[(&str, &str)], body: Vec<u8>, status: u16, why: &str| {
        let answer = instance.send(PATH, &token, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text);
        assert!(answer.text.contains(why), "{}", answer.text);
    };
    // Senders of the first days said nothing.
    check(&[], good.clone(), 204, "").await;
    check(&[("content-type", "application/json")], good.clone(), 415, "application/json").await;
    check(&[("content-type", "application/x-protobuf;proto=x")], good.clone(), 415, "proto=x").await;
    for encoding in ["gzip", "deflate", "zstd"] {
        check(&[("content-encoding", encoding)], good.clone(), 415, encoding).await;
    }
    check(&[], b"no snappy".to_vec(), 400, "snappy").await;
    check(&[], good[..good.len() - 1].to_vec(), 400, "snappy").await;
    check(&[], vec![0; (32 << 20) + 1], 413, "33554432").await;
    check(&[], snappy(&vec![0; (32 << 20) + 1]), 413, "33554432").await;
    check(&[], snappy(&series("m", &[(now + 11 * 60_000, 1.0), (now + 9 * 60_000, 1.0)])), 400, "1 of 2 samples").await;
    check(&[], snappy(&series("m", &[(1, 1.0)])), 400, "older than what is kept").await;
    assert!(instance.query("m offset -10m").await[0]["value"].is_array(), "nine minutes ahead is taken");
    let refused = instance.ask(("GET", "/metrics"), Some(&instance.token), None).await.text;
    for line in ["refused_total{reason=\"future\"} 1", "requests_total{code=\"415\"} 5", "samples_total 2"] {
        assert!(refused.contains(&format!("remote_write_{line}\n")), "{line}: {refused}");
    }
    instance.stop().await;
}

#[tokio::test]
async fn a_token_to_write_with_is_for_that_alone() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let check = async |token: &str, status: u16| {
        let answer = instance.write(token, ONE, snappy(&series("m", &[(instance.now_ms(), 1.0)]))).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    };
    check(&token, 204).await;
    check("wrong", 401).await;
    check(&instance.token, 403).await;
    for path in ["/api/v1/hosts", "/prometheus/api/v1/query?query=m", "/metrics"] {
        assert_eq!(instance.ask(("GET", path), Some(&token), None).await.status, 403, "{path}");
    }
    let make = |body: &'static str| instance.ask(("POST", "/api/v1/tokens"), Some(&instance.token), Some(body));
    assert_eq!(make(r#"{"write": "a"}"#).await.status, 409);
    for body in [
        r#"{"write": ""}"#,
        r#"{"write": "a b"}"#,
        r#"{"write": "c", "uses": 1}"#,
        r#"{"write": "c", "labels": {"job": "x"}}"#,
    ] {
        assert_eq!(make(body).await.status, 400, "{body}");
    }
    let list = instance.ask(("GET", "/api/v1/tokens"), Some(&instance.token), None).await.json();
    let id = list["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list["tokens"][0]["write"], "a", "{list}");
    let revoked = instance.ask(("DELETE", &format!("/api/v1/tokens/{id}")), Some(&instance.token), None).await;
    assert_eq!(revoked.status, 204);
    check(&token, 401).await;
    // Its series go on with a new token, as the same.
    let token = instance.writer(json!({"write": "a"})).await;
    check(&token, 204).await;
    assert_eq!(instance.query("count(m)").await[0]["value"][1], "1");
    instance.stop().await;
}

#[tokio::test]
async fn series_for_which_there_is_no_room_are_refused_and_shown() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.now_ms();
    let names: Vec<Vec<u8>> = (0..5).map(|at| series(&format!("m{at}"), &[(now - 1, 1.0), (now, 1.0)])).collect();
    for _ in 0..2 {
        let answer = instance.write(&token, ONE, snappy(&names.concat())).await;
        assert_eq!(answer.status, 400, "not for good, and never 429: {}", answer.text);
        let expect = "4 of 10 samples are not stored: 4 are of series for which there is no room; for example \
                      m3{job=\"j\"}, by store.series_per_host_max";
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(told, expect);
    }
    assert_eq!(instance.write(&token, ONE, snappy(&names[..3].concat())).await.status, 204);
    let tables = instance.ask(("GET", "/prometheus/api/v1/status/tsdb"), Some(&instance.token), None).await.json();
    let refused = &tables["data"]["refusedSamplesByLimit"][0];
    assert_eq!(refused["value"], 8, "{tables}");
    let named = "series_per_host_max of 2147483648, as m3{job=\"j\"}";
    assert_eq!(refused["name"], named);
    let metrics = instance.ask(("GET", "/metrics"), Some(&instance.token), None).await.text;
    for line in
        ["remote_write_refused_total{reason=\"limit\"} 8", "store_refused_total{limit=\"series_per_host_max\"} 8"]
    {
        assert!(metrics.contains(&format!("lapwing_aggregator_{line}\n")), "{line}: {metrics}");
    }
    instance.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.now_ms();
    let body = [series("m", &[(now - 2_000, 1.0), (now - 1_000, 2.0)]), series("n", &[(now - 1_000, 3.0)])].concat();
    assert_eq!(instance.write(&token, ONE, snappy(&body)).await.status, 204);
    let ask = async |method: &str, query: String, token: &str, status: u16| {
        let path = format!("/prometheus/api/v1/admin/tsdb/{query}");
        let answer = instance.ask((method, &path), Some(token), None).await;
        assert_eq!(answer.status, status, "{method} {query}: {}", answer.text);
    };
    let admin = instance.token.as_str();
    ask("POST", "delete_series?match[]=m".to_owned(), &token, 403).await;
    ask("GET", "delete_series?match[]=m".to_owned(), admin, 405).await;
    ask("POST", "delete_series".to_owned(), admin, 400).await;
    ask("POST", "delete_series?match[]=m[5m]".to_owned(), admin, 400).await;
    ask("POST", "delete_series?match[]={x=\"\"}".to_owned(), admin, 400).await;
    ask("POST", "delete_series?match[]=m&start=2&end=1".to_owned(), admin, 400).await;
    ask(
        "POST",
        format!("delete_series?match[]=m&end={}.{:03}", (now - 2_000) / 1_000, (now - 2_000) % 1_000),
        admin,
        204,
    )
    .await;
    let count = async |instance: &Instance, name: &str| {
        let found = instance.query(&format!("count_over_time({name}[1m])")).await;
        found[0]["value"][1].as_str().map(str::to_owned)
    };
    assert_eq!(count(&instance, "m").await.as_deref(), Some("1"), "both ends of the range are in it");
    ask("PUT", "delete_series?match[]=m".to_owned(), admin, 204).await;
    ask("POST", "clean_tombstones".to_owned(), admin, 204).await;
    assert_eq!((count(&instance, "m").await, count(&instance, "n").await.as_deref()), (None, Some("1")));
    let instance = instance.restart().await;
    assert_eq!((count(&instance, "m").await, count(&instance, "n").await.as_deref()), (None, Some("1")));
    assert_eq!(instance.write(&token, ONE, snappy(&body)).await.status, 204);
    assert_eq!(count(&instance, "m").await.as_deref(), Some("2"), "what comes after that is new");
    instance.stop().await;
}
