//! The API of a whole aggregator in this process, on port 0, with a fresh data directory.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod export;
mod import;
mod instance;
mod query;
mod write;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::instance::Answer;
use crate::instance::Instance;

/// Routes, and the status that each gives to somebody nobody knows and to the admin.
const DOORS: &[(&str, &str, u16, u16)] = &[
    ("GET", "/", 200, 200),
    ("GET", "/hosts/1", 200, 200),
    ("GET", "/healthz", 200, 200),
    ("GET", "/readyz", 200, 200),
    ("GET", "/api/openapi.json", 200, 200),
    ("GET", "/login?link=unknown", 403, 403),
    ("POST", "/login?link=unknown", 403, 403),
    ("GET", "/metrics", 401, 200),
    ("GET", "/api/v1/hosts", 401, 200),
    ("GET", "/api/v1/hosts/1", 401, 404),
    ("GET", "/api/v1/hosts/x", 401, 400),
    ("GET", "/api/v1/hosts/1/containers", 401, 404),
    ("GET", "/api/v1/hosts/1/processes?at=now", 401, 404),
    ("GET", "/api/v1/hosts/1/events", 401, 404),
    ("GET", "/api/v1/alerts", 401, 200),
    ("GET", "/api/v1/rules", 401, 200),
    ("GET", "/api/v1/notifications?limit=3", 401, 200),
    ("GET", "/api/v1/notifications?limit=x", 401, 400),
    ("GET", "/api/v1/tokens", 401, 200),
    ("POST", "/api/v1/tokens", 401, 200),
    ("POST", "/api/v1/links", 401, 200),
    ("DELETE", "/api/v1/hosts", 401, 405),
    ("PATCH", "/api/v1/hosts/1", 401, 404),
    ("DELETE", "/api/v1/hosts/1", 401, 404),
    ("DELETE", "/api/v1/tokens/1", 401, 404),
    ("GET", "/api/v1/nothing", 404, 404),
    ("GET", "/prometheus/api/v1/query?query=1", 401, 200),
    ("POST", "/prometheus/api/v1/query?query=1", 401, 200),
    ("GET", "/prometheus/api/v1/query?query=(", 401, 400),
    ("GET", "/prometheus/api/v1/query_range?query=1&start=0&end=60&step=15", 401, 200),
    ("GET", "/prometheus/api/v1/query_range?query=1&start=0&end=60", 401, 400),
    ("GET", "/prometheus/api/v1/query_range?query=1&start=0&end=11000&step=1", 401, 200),
    ("GET", "/prometheus/api/v1/query_range?query=1&start=0&end=11001&step=1", 401, 400),
    ("GET", "/prometheus/api/v1/series", 401, 400),
    ("GET", "/prometheus/api/v1/series?match[]=up", 401, 200),
    ("GET", "/prometheus/api/v1/series?match[]=sum(up)", 401, 400),
    ("GET", "/prometheus/api/v1/labels", 401, 200),
    ("GET", "/prometheus/api/v1/label/__name__/values", 401, 200),
    ("GET", "/prometheus/api/v1/metadata?limit=1", 401, 200),
    ("GET", "/prometheus/api/v1/status/buildinfo", 401, 200),
    ("GET", "/prometheus/api/v1/query?query=1&limit=-1", 401, 400),
    ("GET", "/prometheus/api/v1/query?query=1&timeout=x", 401, 400),
    ("GET", "/prometheus/api/v1/query?query=1&timeout=0", 401, 503),
    ("GET", "/prometheus/api/v1/query?query=1&lookback_delta=x", 401, 400),
    ("GET", "/prometheus/api/v1/query?query=1&lookback_delta=1m&timeout=5s&stats=all&explain=1", 401, 200),
    ("GET", "/prometheus/api/v1/query_exemplars?query=up", 401, 200),
    ("GET", "/prometheus/api/v1/query_exemplars?query=(", 401, 400),
    ("GET", "/prometheus/api/v1/format_query?query=1%2B1", 401, 200),
    ("GET", "/prometheus/api/v1/format_query?query=(", 401, 400),
    ("GET", "/prometheus/api/v1/parse_query?query=up", 401, 200),
    ("GET", "/prometheus/api/v1/parse_query?query=(", 401, 400),
    ("GET", "/prometheus/api/v1/metadata?limit=x", 401, 400),
    ("GET", "/prometheus/api/v1/export?match[]=up", 401, 200),
    ("GET", "/prometheus/api/v1/export", 401, 400),
    ("GET", "/prometheus/api/v1/export?match[]=sum(up)", 401, 400),
    ("GET", "/prometheus/api/v1/export?match[]=up&start=2&end=1", 401, 400),
    ("GET", "/prometheus/api/v1/targets", 401, 200),
    ("GET", "/prometheus/api/v1/rules", 401, 200),
    ("GET", "/prometheus/api/v1/rules?type=x", 401, 400),
    ("GET", "/prometheus/api/v1/rules?group_limit=0", 401, 400),
    ("GET", "/prometheus/api/v1/rules?group_limit=1&group_next_token=x", 401, 400),
    ("GET", "/prometheus/api/v1/alerts", 401, 200),
    ("GET", "/prometheus/api/v1/status/config", 401, 200),
    ("GET", "/prometheus/api/v1/status/flags", 401, 200),
    ("GET", "/prometheus/api/v1/status/runtimeinfo", 401, 200),
    ("GET", "/prometheus/api/v1/status/tsdb", 401, 200),
    ("POST", "/prometheus/api/v1/write", 401, 403),
    ("GET", "/prometheus/api/v1/write", 401, 403),
    ("POST", "/prometheus/api/v1/import", 401, 403),
    ("GET", "/prometheus/federate?match[]=up", 401, 200),
    ("GET", "/prometheus/federate?match[]=sum(up)", 401, 400),
    ("GET", "/prometheus/-/healthy", 200, 200),
    ("GET", "/prometheus/-/ready", 200, 200),
    ("GET", "/prometheus/api/v1/nothing", 404, 404),
];

#[tokio::test]
async fn everything_but_the_page_wants_a_token() {
    let instance = Instance::start().await;
    for (method, path, stranger, admin) in DOORS {
        let body = (["POST", "PATCH"].contains(method) && path.starts_with("/api")).then_some("{}");
        for (token, expect) in [(None, stranger), (Some("wrong"), stranger), (Some(instance.token.as_str()), admin)] {
            let answer = instance.ask((method, path), token, body).await;
            assert_eq!(answer.status, *expect, "{method} {path} with {token:?}: {}", answer.text);
            check_shape(path, &answer);
        }
    }
    instance.stop().await;
}

/// Errors are problems, or what Prometheus answers; nothing is sniffed or framed.
fn check_shape(path: &str, answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    if answer.status < 400 || path.starts_with("/login") {
        return;
    }
    let body: Value = serde_json::from_str(&answer.text).unwrap();
    if body["errorType"].is_string() {
        assert_eq!(body["status"], "error", "{path}");
        return;
    }
    assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    assert_eq!(body["status"], answer.status, "{path}");
    assert!(body["title"].is_string() && body["detail"].as_str().is_some_and(|text| 10 < text.len()), "{path}: {body}");
}

#[tokio::test]
async fn a_login_link_works_once_and_only_by_its_button() {
    let instance = Instance::start().await;
    let made = instance.ask(("POST", "/api/v1/links"), Some(&instance.token), Some("{}")).await.json();
    let url = made["url"].as_str().unwrap();
    let path = &url[url.find("/login").unwrap()..];
    for _ in 0..2 {
        let shown = instance.ask(("GET", path), None, None).await;
        assert!(shown.status == 200 && shown.text.contains("<button"), "looking at a link does not spend it");
    }
    let spent = instance.ask(("POST", path), None, None).await;
    assert_eq!((spent.status, spent.header("location")), (303, "/"));
    let cookie = spent.header("set-cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    assert!(session.starts_with(&format!("lapwing_session_{}=", instance.addresses.http.port())), "{session}");
    assert_eq!(instance.with_cookie("/api/v1/hosts", session).await.status, 200);
    // A proxy before us asks for a password of its own, and hands it on.
    let behind_proxy = instance.request("GET", "/api/v1/hosts").header("cookie", session);
    let behind_proxy = behind_proxy.header("authorization", "Basic b3RoZXI6cHc=");
    assert_eq!(Answer::of(behind_proxy).await.status, 200);
    // A page of a neighbour may have the browser send a form with our cookie.
    let changes = async |headers: &[(&str, &str)]| {
        let path = "/prometheus/api/v1/admin/tsdb/delete_series?match[]=nothing";
        let request = instance.request("POST", path).header("cookie", session);
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await.status
    };
    let ours = format!("http://{}", instance.addresses.http);
    assert_eq!(changes(&[]).await, 204);
    assert_eq!(changes(&[("origin", &ours)]).await, 204);
    assert_eq!(changes(&[("origin", "http://127.0.0.1:3000")]).await, 403);
    assert_eq!(changes(&[("origin", "null")]).await, 403);
    assert_eq!(changes(&[("sec-fetch-site", "same-site"), ("origin", &ours)]).await, 403);
    assert_eq!(changes(&[("sec-fetch-site", "same-origin"), ("origin", "https://by.proxy.example")]).await, 204);
    let read = instance.request("GET", "/api/v1/hosts").header("cookie", session).header("origin", "null");
    assert_eq!(Answer::of(read).await.status, 200);
    assert_eq!(instance.with_cookie("/api/v1/hosts", &format!("{session}x")).await.status, 401);
    assert_eq!(instance.ask(("POST", path), None, None).await.status, 403, "a second use");
    assert_eq!(instance.ask(("GET", path), None, None).await.status, 403, "no button for a link that is spent");
    instance.stop().await;
}

#[tokio::test]
async fn pages_before_the_login_are_drawn_and_name_no_path_of_the_server() {
    let instance = Instance::start().await;
    let spent = instance.ask(("GET", "/login?link=unknown"), None, None).await;
    assert!(spent.text.contains("user link") && spent.text.contains("--data-dir"), "{}", spent.text);
    let refused = instance.ask(("GET", "/api/v1/hosts"), None, None).await;
    let directory = instance.config.data_dir.to_str().unwrap();
    assert!(!spent.text.contains(directory) && !refused.text.contains(directory), "{}", refused.text);
    let style = instance.ask(("GET", "/plain.css"), None, None).await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(!style.header("content-security-policy").contains("unsafe"), "the policy stays strict");
    instance.stop().await;
}

#[tokio::test]
async fn a_broken_alertmanager_yml_is_answered_until_it_is_mended() {
    let instance = Instance::start().await;
    let path = instance.config.data_dir.join("alertmanager.yml");
    fs::write(&path, "route: {recieiver: nobody}\n").unwrap();
    let error = config_error(&instance, |error| error.is_string()).await;
    assert!(error.as_str().unwrap().contains("recieiver"), "{error}");
    fs::remove_file(&path).unwrap();
    config_error(&instance, Value::is_null).await;
    instance.stop().await;
}

/// What is wrong with `alertmanager.yml`, as soon as it is as expected.
async fn config_error(instance: &Instance, expected: impl Fn(&Value) -> bool) -> Value {
    let asked = async {
        loop {
            let answer = instance.ask(("GET", "/api/v1/notifications"), Some(&instance.token), None).await.json();
            if expected(&answer["config_error"]) {
                return answer["config_error"].clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap()
}

#[tokio::test]
async fn a_restart_keeps_sessions_tokens_and_the_directory_to_itself() {
    let mut instance = Instance::start().await;
    let admin = instance.token.clone();
    let made =
        instance.ask(("POST", "/api/v1/tokens"), Some(&admin), Some(r#"{"labels": {"env": "prod"}}"#)).await.json();
    let token = made["token"].as_str().unwrap().to_owned();
    assert!(made["line"].as_str().unwrap().contains(&format!("--join {token} --aggregator ")));
    instance = instance.restart().await;
    assert_eq!(instance.token, admin);
    let known = instance.ask(("GET", "/api/v1/tokens"), Some(&admin), None).await.json();
    assert_eq!((&known["tokens"][0]["uses_left"], &known["tokens"][0]["labels"]["env"]), (&1.into(), &"prod".into()));
    let dir = instance.stop().await;
    assert!(!dir.path().join("control.sock").exists(), "nobody listens there any more");
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!found, "{} holds a join token", path.display());
    }
}

#[tokio::test]
async fn commands_are_answered_whether_it_runs_or_not() {
    let instance = Instance::start().await;
    let (config, clock) = (instance.config.clone(), instance.clock.clone());
    let ask = async |expression: &str| {
        let query = aggregator::command::Command::Query { expr: expression.to_owned(), explain: false };
        query.run(async |question| aggregator::ask(&config, &clock, question).await).await
    };
    assert!(ask("1 + 1").await.unwrap().starts_with("scalar 2 @"));
    let dir = instance.stop().await;
    assert!(ask("1 + 1").await.unwrap().starts_with("scalar 2 @"));
    let refusal = ask("1 +").await.unwrap_err().to_string();
    assert!(refusal.contains("invalid parameter \"query\""), "{refusal}");
    drop(dir);
    let refusal = ask("1 + 1").await.unwrap_err().to_string();
    assert!(refusal.contains("no aggregator has run") && refusal.contains("--data-dir"), "{refusal}");
    assert!(!config.data_dir.exists(), "a question makes no store");
}

#[tokio::test]
async fn the_description_names_every_route() {
    let instance = Instance::start().await;
    let document = instance.ask(("GET", "/api/openapi.json"), None, None).await.json();
    for (method, path, ..) in DOORS.iter().filter(|(_, path, _, admin)| path.starts_with("/api/v1") && *admin == 200) {
        let path = path.split('?').next().unwrap();
        assert!(document["paths"][path][method.to_lowercase()].is_object(), "{method} {path} is not described");
    }
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<_> = operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "two operations share a name");
    instance.stop().await;
}

#[tokio::test]
async fn who_leaves_a_request_half_said_holds_no_stop_up() {
    let instance = Instance::start().await;
    let mut half = TcpStream::connect(instance.addresses.http).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
    // Another is answered first: the half is being read by then.
    assert_eq!(instance.ask(("GET", "/healthz"), None, None).await.status, 200);
    instance.stop().await;
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let instance = Instance::start().await;
    let mut second = instance.config.clone();
    second.http.listen = instance.addresses.http;
    let dir = tempfile::tempdir().unwrap();
    second.data_dir = dir.path().join("second");
    let error = instance::failure(second).await;
    assert!(error.contains("is in use by another program"), "{error}");
    let error = instance::failure(instance.config.clone()).await;
    assert!(error.contains("in use") && error.contains("--data-dir"), "{error}");
    let mut file = instance.config.clone();
    file.data_dir = instance.config.data_dir.join("admin.token");
    let error = instance::failure(file).await;
    assert!(error.contains("not writable"), "{error}");
    instance.stop().await;
}

#[tokio::test]
async fn large_answers_are_whole_and_compressed_as_the_client_likes() {
    let instance = Instance::start().await;
    let path = "/prometheus/api/v1/query_range?query=vector(0.5)&start=0&end=11000&step=1";
    let check = async |accepted: &str, expect: &str| {
        let headers = [("accept-encoding", accepted)];
        let answer = instance.send(path, &instance.token, &headers, Vec::new()).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, expect), "{accepted}");
        answer
    };
    let values = check("identity", "").await.json()["data"]["result"][0]["values"].clone();
    assert_eq!(values.as_array().unwrap().len(), 11_001);
    check("gzip", "gzip").await;
    check("zstd", "zstd").await;
    check("gzip, deflate, br, zstd", "zstd").await;
    check("zstd;q=0.5, gzip", "gzip").await;
    instance.stop().await;
}
