//! Texts that come slowly, last long, are torn or refused while they are sent.

use std::io;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

use aggregator::Signals;
use aggregator::config::CommandLine;
use aggregator::config::Config;
use aggregator::http::control;
use aggregator::http::control::Question;
use common::time::Clock;
use common::time::Timestamp;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::export::IMPORT;
use crate::instance::Instance;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Each piece of a text, and how long it takes to come.
struct Slow<P> {
    clock: Clock,
    pieces: P,
}

impl<P: Iterator<Item = (Duration, String)>> Read for Slow<P> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((after, piece)) = self.pieces.next() else { return Ok(0) };
        self.clock.advance(after);
        into[..piece.len()].copy_from_slice(piece.as_bytes());
        Ok(piece.len())
    }
}

/// What is answered when these pieces are imported.
async fn imported(pieces: impl Iterator<Item = (u64, String)> + Send + 'static) -> Result<u64, String> {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let values = [("data_dir", dir.path().to_str().unwrap()), ("http.listen", any), ("ingest.listen", any)];
    let values = values.map(|(key, value)| (key, toml::Value::from(value))).to_vec();
    let config = Config::read(CommandLine { config: None, values }).unwrap();
    let (clock, signals) = (Clock::moved(NOW), Signals::default());
    // Commands are for a directory in which one has run.
    let (started, addresses) = oneshot::channel();
    let mut running = JoinSet::new();
    running.spawn(aggregator::run(config.clone(), clock.clone(), signals.clone(), Some(started)));
    addresses.await.unwrap();
    signals.stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
    let writer = Question::post("/api/v1/tokens", &json!({"write": "a"}));
    aggregator::ask(&config, &clock, writer).await.unwrap();
    let pieces = pieces.map(|(seconds, piece)| (Duration::from_secs(seconds), piece));
    let from = Slow { clock: clock.clone(), pieces };
    let question = Question::upload(IMPORT, &[("as", "a"), ("format", "prometheus")], from);
    let answer = aggregator::ask(&config, &clock, question).await.map_err(|error| error.to_string())?;
    Ok(answer["data"]["samples"].as_u64().unwrap())
}

fn sample(seconds: u64) -> String {
    format!("m 1 {}\n", NOW.after(Duration::from_secs(seconds)).as_millis())
}

#[tokio::test]
async fn who_drips_is_not_waited_for() {
    let drip = |seconds| (0..200).map(move |_| (seconds, "#".to_owned()));
    let told = imported([(0, sample(0))].into_iter().chain(drip(7))).await.unwrap_err();
    assert!(told.contains("did not come in time; 1 samples that stand before it are stored"), "{told}");
    assert_eq!(imported([(0, sample(0)), (59, sample(1))].into_iter()).await, Ok(2), "a pause is none");
    assert!(imported([(0, sample(0)), (61, sample(1))].into_iter()).await.is_err());
}

#[tokio::test]
async fn a_text_that_takes_long_is_judged_by_the_time_at_which_it_comes() {
    let comments = || (0..60).map(|_| (30, format!("{}\n", "#".repeat((64 << 10) - 1))));
    let far = [(0, sample(1_800))].into_iter().chain(comments());
    let told = imported(far).await.unwrap_err();
    assert!(told.contains("1 are from the future"), "{told}");
    // Half an hour later it is the present.
    let long = [(0, sample(0))].into_iter().chain(comments()).chain([(0, sample(1_800))]);
    assert_eq!(imported(long).await, Ok(2));
    // And what was kept at the beginning is too old.
    let day = 86_400;
    let aged = |late: usize| {
        let first = NOW.before(Duration::from_secs(15 * day - 600)).as_millis();
        [(0, sample(0))].into_iter().chain(comments().take(60 * late)).chain([(0, format!("m 1 {first}\n"))])
    };
    assert_eq!(imported(aged(0)).await, Ok(2));
    let told = imported(aged(1)).await.unwrap_err();
    assert!(told.contains("1 are older than what is kept"), "{told}");
}

#[tokio::test]
async fn one_series_written_in_two_ways_is_one() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let at = instance.clock.wall().as_millis() / 1_000;
    let ways =
        ["m{a=\"1\",b=\"2\"} 1", "m{b=\"2\",a=\"1\"} 2", "{__name__=\"m\",a=\"1\",b=\"2\"} 3", "m{a=\"1\",b=\"2\"} 4"];
    for last in 1..=ways.len() {
        let text: String = ways[..last].iter().map(|way| format!("{way} {at}\n")).collect();
        assert_eq!(instance.imported(&token, "", &format!("{text}# EOF\n")).await.0, 200);
        let found = instance.get(&format!("/prometheus/api/v1/query?query=m&time={at}")).await.json();
        assert_eq!(found["data"]["result"][0]["value"][1], last.to_string(), "the last counts");
    }
    instance.stop().await;
}

#[tokio::test]
async fn what_is_stored_is_counted_though_the_text_is_torn() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.clock.wall().as_millis();
    let counted = async || {
        let metrics = instance.get("/metrics").await.text;
        let line = |name: &str| {
            let name = format!("lapwing_aggregator_remote_write_{name} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<u64>().unwrap()
        };
        (line("samples_total"), line("refused_total{reason=\"old\"}"))
    };
    // A line that cannot be read.
    let (status, _) = instance.imported(&token, "format=prometheus", &format!("m 1 {now}\nm 1 1\nm")).await;
    assert_eq!((status, counted().await), (400, (1, 1)));
    // Who sends leaves behind the first batch.
    let batch: String = (0..99_999).map(|at| format!("m 1 {}\n", now - at)).collect();
    let mut stream = TcpStream::connect(instance.addresses.http).await.unwrap();
    let head = format!(
        "POST {IMPORT}?format=prometheus HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-length: 99999999\r\n\r\n"
    );
    stream.write_all(format!("{head}m 1 1\n{batch}").as_bytes()).await.unwrap();
    let heard = async { while counted().await == (1, 1) {} };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("nothing is counted");
    drop(stream);
    assert_eq!(counted().await, (100_000, 2));
    instance.stop().await;
}

#[tokio::test]
async fn who_may_write_no_more_stores_no_more() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let now = instance.clock.wall().as_millis();
    let stored = async |metric: &str| {
        let answer = instance.get(&format!("/prometheus/api/v1/query?query=count({metric})")).await.json();
        answer["data"]["result"][0]["value"][1].as_str().map(ToOwned::to_owned)
    };
    let batch = |metric: &str| (0..100_000).map(|at| format!("{metric} 1 {}\n", now - at)).collect::<String>();
    let mut stream = TcpStream::connect(instance.addresses.http).await.unwrap();
    let head = format!(
        "POST {IMPORT}?format=prometheus HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-length: 99999999\r\n\r\n"
    );
    stream.write_all(format!("{head}{}", batch("before")).as_bytes()).await.unwrap();
    let heard = async { while stored("before").await.is_none() {} };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("nothing is stored");
    let tokens = instance.get("/api/v1/tokens").await.json();
    let id = tokens["tokens"][0]["id"].as_str().unwrap().to_owned();
    let revoked = instance.ask(("DELETE", &format!("/api/v1/tokens/{id}")), Some(&instance.token), None).await;
    assert_eq!(revoked.status, 204);
    stream.write_all(batch("behind").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.contains("401") && answer.contains("revoked") && answer.contains("100000 samples"), "{answer}");
    assert_eq!(stored("behind").await, None);
    instance.stop().await;
}

/// Pieces of a text that does not end. One of them comes only when the peer has answered and gone: it is written to nobody.
struct Endless {
    pieces: u32,
    here: mpsc::Sender<()>,
    gone: mpsc::Receiver<()>,
}

const PIECES_BEFORE: u32 = 10;

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.pieces += 1;
        if self.pieces == PIECES_BEFORE {
            self.here.send(()).unwrap();
            self.gone.recv().unwrap();
        }
        into.fill(b'\n');
        Ok(into.len())
    }
}

#[tokio::test]
async fn who_is_refused_while_sending_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for (answer, expect) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 26\r\n\r\n{\"detail\":\"as it happens\"}\n",
            "as it happens",
        ),
        ("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"detail\":\"no text\"}", "no text"),
        ("", "connection"),
    ] {
        let ((here, sent), (left, gone)) = (mpsc::channel(), mpsc::channel());
        let listener = listener.try_clone().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut piece = vec![0; 64 << 10];
            while sent.try_recv().is_err() {
                // None is there yet, or some is.
                drop(stream.read(&mut piece));
            }
            stream.write_all(answer.as_bytes()).unwrap();
            drop(stream);
            left.send(()).unwrap();
        });
        let question = Question::upload(IMPORT, &[("as", "a")], Endless { pieces: 0, here, gone });
        let told = control::ask(&path, question, control::read).await.unwrap_err();
        assert!(format!("{told:#}").contains(expect), "{told:#}");
        server.join().unwrap();
    }
}
