//! Prometheus' query API as its clients use it: Grafana's data source, and people who leave.

use std::time::Duration;

use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::instance::Instance;

const API: &str = "/prometheus/api/v1";

/// A directory with two hours of a gauge in two rooms, a sample each ten seconds: the hours that end at this moment.
async fn directory(end: Timestamp) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { settle_every: None, ..StoreConfig::default() };
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config, Clock::moved(end)).unwrap();
    let writing = tokio::task::spawn_blocking(move || writer.run());
    let rooms = ["hall", "attic"]
        .map(|room| [(NAME, "room_celsius"), ("room", room), ("http.method", "GET")].into_iter().collect::<Labels>());
    let appends = (0..720_u64).map(|window| Append::Own {
        stamp: end.before(Duration::from_secs(10 * window)),
        samples: rooms.iter().map(|labels| (labels.clone(), if window % 60 == 7 { 30.0 } else { 20.0 })).collect(),
    });
    store.commit(Commit { appends: appends.collect(), records: Vec::new() }).await.unwrap();
    store.close();
    writing.await.unwrap();
    dir
}

/// Asks until the answer is as it should be, half a minute at most.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap()
}

#[tokio::test]
async fn a_query_ends_when_its_client_hangs_up() {
    // Nothing but that ends it while this test waits.
    let instance = Instance::start_with(
        tempfile::tempdir().unwrap(),
        vec![("query.deadline", "1h".into()), ("query.slow", "1ms".into())],
    )
    .await;
    let counted = async |name: &str| {
        let text = instance.get("/metrics").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("lapwing_aggregator_{name} ")));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!([counted("queries_running").await, counted("queries_canceled_total").await], [0, 0]);
    let mut client = TcpStream::connect(instance.addresses.http).await.unwrap();
    let endless = "quantile_over_time(0.5,vector(time())[1d:5s])";
    let path = format!("{API}/query_range?query={endless}&start=0&end=11000000&step=1000");
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {}\r\n\r\n", instance.token);
    client.write_all(request.as_bytes()).await.unwrap();
    until(async || (counted("queries_running").await == 1).then_some(())).await;
    drop(client);
    until(async || (counted("queries_running").await == 0).then_some(())).await;
    assert_eq!(counted("queries_canceled_total").await, 1, "it was not answered, and did not fail otherwise");
    let slow = instance.get("/api/v1/queries").await.json();
    assert_eq!(slow["queries"][0]["error"], "the query was canceled", "{slow}");
    instance.stop().await;
}

#[tokio::test]
async fn who_asks_says_how_long_the_windows_may_be_that_answer() {
    let day = Duration::from_secs(86_400);
    let end = Clock::real().wall().align_down(day).before(2 * day).after(Duration::from_secs(7_200));
    let instance = Instance::start_with(directory(end).await, Vec::new()).await;
    let seconds = end.as_millis() / 1_000;
    let ask = async |longest: &str| {
        let query = "max_over_time(room_celsius{room=\"hall\"}[1h])";
        let (start, end) = ((seconds - 3_600).to_string(), seconds.to_string());
        let mut form =
            vec![("query", query), ("start", start.as_str()), ("end", &end), ("step", "3600"), ("explain", "1")];
        form.extend((longest != "left out").then_some(("max_source_resolution", longest)));
        instance.post(&format!("{API}/query_range"), &form).await
    };
    let tier = |answer: &Value| answer["data"]["explain"]["selections"][0]["tier"].as_str().map(str::to_owned);
    // The day is over: it is sealed, merged and folded as soon as the aggregator runs.
    until(async || (tier(&ask("auto").await.json()).as_deref() == Some("1h")).then_some(())).await;
    for (longest, expect) in [
        ("left out", "1h"),
        ("1h", "1h"),
        ("3600", "1h"),
        ("2h", "1h"),
        ("30m", "5m"),
        ("5m", "5m"),
        ("300s", "5m"),
        ("1m", "raw"),
        ("0s", "raw"),
        ("0", "raw"),
    ] {
        let answer = ask(longest).await.json();
        assert_eq!(tier(&answer).as_deref(), Some(expect), "{longest}: {answer}");
        let values: Vec<_> =
            answer["data"]["result"][0]["values"].as_array().unwrap().iter().map(|of| &of[1]).collect();
        assert_eq!(values, ["30", "30"], "{longest}");
    }
    let refused = ask("long").await;
    assert_eq!((refused.status, refused.json()["errorType"].as_str()), (400, Some("bad_data")));
    assert!(refused.text.contains("max_source_resolution"), "{}", refused.text);
    instance.stop().await;
}

#[tokio::test]
async fn grafanas_data_source_is_answered() {
    let end = Clock::real().wall().align_down(Duration::from_secs(10));
    let instance = Instance::start_with(directory(end).await, Vec::new()).await;
    let (from, to) = ((end.as_millis() / 1_000 - 3_600).to_string(), (end.as_millis() / 1_000).to_string());
    let ever = [("start", "-292273086-05-16T16:47:06Z"), ("end", "+292277025-08-18T07:12:54.999999999Z")];
    let range = [("start", from.as_str()), ("end", to.as_str())];
    let with = |more: &[(&'static str, &'static str)], range: [(&'static str, &str); 2]| {
        more.iter().copied().chain(range).map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>()
    };
    let post = async |path: &str, form: Vec<(&'static str, String)>| {
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = instance.post(&format!("{API}/{path}"), &form).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    };
    let get = async |path: &str| {
        let answer = instance.get(&format!("{API}/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    };
    // "Save & test".
    let tested = post("query", vec![("query", "1+1".to_owned()), ("time", "4".to_owned())]).await;
    assert_eq!(tested["data"], json!({"resultType": "scalar", "result": [4, "2"]}));
    assert_eq!(get("status/buildinfo").await["data"]["version"], "3.5.0");
    // A panel, the names that it is made with, and those of variables.
    let drawn = post("query_range", with(&[("query", "room_celsius"), ("step", "15")], range)).await;
    assert_eq!(drawn["data"]["result"].as_array().unwrap().len(), 2);
    assert_eq!(drawn["data"]["result"][0]["values"].as_array().unwrap().len(), 241);
    let ours = ("match[]", "{__name__=\"room_celsius\"}");
    for range in [range, ever] {
        let names = post("labels", with(&[ours], range)).await;
        assert_eq!(names["data"], json!(["__name__", "http.method", "room"]));
        let series = post("series", with(&[ours, ("match[]", "nothing"), ("limit", "1")], range)).await;
        assert_eq!(
            (&series["data"][0]["room"], &series["warnings"][0]),
            (&json!("attic"), &json!("results truncated due to limit"))
        );
    }
    let of = |range: [(&str, &str); 2]| format!("start={}&end={}", range[0].1, range[1].1.replace('+', "%2B"));
    let selector = "match[]=%7B__name__%3D~%22.*celsius.*%22%7D";
    for range in [range, ever] {
        let values =
            async |name: &str| get(&format!("label/{name}/values?{selector}&{}", of(range))).await["data"].clone();
        assert_eq!(values("room").await, json!(["attic", "hall"]));
        assert_eq!(values("__name__").await, json!(["room_celsius"]));
        assert_eq!(values("U__http_2e_method").await, json!(["GET"]));
    }
    let before = get(&format!("label/room/values?{selector}&start=1&end=1000")).await;
    assert_eq!(before["data"], json!([]), "there was no room then");
    assert_eq!(get("metadata?metric=node_load1").await["data"]["node_load1"][0]["type"], "gauge");
    // What it looks for besides: examples, rules, and the tree of a query for its builder.
    assert_eq!(post("query_exemplars", with(&[("query", "room_celsius")], range)).await["data"], json!([]));
    let first = async || get("rules?type=alert").await["data"]["groups"].get(0).cloned();
    assert_eq!(until(first).await["name"], "lapwing", "there are rules once they were read");
    assert_eq!(get("alerts").await["data"]["alerts"], json!([]));
    let of_query = |query: &str| vec![("query", query.to_owned())];
    let formatted = post("format_query", of_query("sum by(room)(room_celsius)")).await;
    assert_eq!(formatted["data"], "sum by (room) (room_celsius)");
    assert_eq!(post("parse_query", of_query("sum(room_celsius)")).await["data"]["type"], "aggregation");
    // What is said beside an answer says where in the query.
    let said = post("query", of_query("rate(room_celsius[5m])")).await;
    assert!(said["infos"][0].as_str().is_some_and(|info| info.ends_with("\"room_celsius\" (1:6)")), "{said}");
    instance.stop().await;
}

#[tokio::test]
async fn wrong_questions_are_refused_in_prometheus_words() {
    let instance = Instance::start().await;
    let check = async |path: &str, status: u16, kind: &str, error: &str| {
        let answer = instance.get(&format!("{API}/{path}")).await;
        let body = answer.json();
        assert_eq!((answer.status, body["errorType"].as_str()), (status, Some(kind)), "{path}: {body}");
        assert!(body["error"].as_str().unwrap().starts_with(error), "{path}: {body}");
    };
    let bad = async |path: &str, error: &str| check(path, 400, "bad_data", error).await;
    bad("query", "invalid parameter \"query\": ").await;
    bad("query?query=up&time=noon", "invalid parameter \"time\": invalid time value for 'time': cannot parse \"noon\"")
        .await;
    bad("query_range?query=up", "invalid parameter \"start\": cannot parse \"\" to a valid timestamp").await;
    bad("query_range?query=up&start=0", "invalid parameter \"end\": cannot parse \"\" to a valid timestamp").await;
    bad("query_range?query=up&start=0&end=1", "invalid parameter \"step\": cannot parse \"\" to a valid duration")
        .await;
    bad(
        "query_range?query=up&start=1&end=0&step=1",
        "invalid parameter \"end\": end timestamp must not be before start time",
    )
    .await;
    bad(
        "query_range?query=up&start=0&end=1&step=0",
        "invalid parameter \"step\": zero or negative query resolution step widths",
    )
    .await;
    bad("query_range?query=up&start=0&end=1e6&step=1", "exceeded maximum resolution of 11,000 points per timeseries")
        .await;
    bad("series", "no match[] parameter provided").await;
    bad("series?match[]=%7B%7D", "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher")
        .await;
    bad("series?match[]=up%7B", "invalid parameter \"match[]\": ").await;
    for path in ["labels", "label/room/values"] {
        bad(&format!("{path}?match[]=%7B%7D"), "match[] must contain at least one non-empty matcher").await;
        bad(&format!("{path}?match[]=sum(up)"), "it must be a selector").await;
    }
    for path in ["query_exemplars?query=up", "series?match[]=up", "labels?", "label/room/values?"] {
        bad(&format!("{path}&start=1&end=0"), "end timestamp must not be before start timestamp").await;
    }
    bad("series?match[]=up&limit=x", "invalid parameter \"limit\": ").await;
    bad("labels?start=noon", "invalid parameter \"start\": ").await;
    bad("metadata?limit=x", "limit must be a number").await;
    bad("rules?type=x", "invalid parameter \"type\": not supported value \"x\"").await;
    check("query?query=up%2Bon()group_left()up&timeout=0", 503, "timeout", "the query took longer").await;
    instance.stop().await;
}
