//! Samples as OpenMetrics text: what is answered and printed, and taken in again.

use std::io::Write as _;
use std::process::Command;

use aggregator::http::control::Question;
use aggregator::receive::message::Message;
use aggregator::store::select::STALE;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::Row;
use parquet::record::RowAccessor as _;
use serde_json::json;

use crate::instance::Instance;

const EXPORT: &str = "/prometheus/api/v1/export";

/// All but what the aggregator says of itself.
const OTHERS: &str = "match[]={__name__!=\"\",__name__!~\"up|ALERTS.*|lapwing_.*\"}";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

impl Instance {
    /// Writes series as a stranger does: label sets, and milliseconds with values.
    async fn stored(&self, token: &str, series: &[(Labels, Vec<(i64, f64)>)]) {
        let mut message = Message::default();
        for (labels, samples) in series {
            message.push(labels, samples.iter().map(|(at, value)| (Timestamp::from_millis(*at), *value)));
        }
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
        let answer = self.send("/prometheus/api/v1/write", token, &headers, message.take()).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    async fn exported(&self, parameters: &str) -> String {
        let answer = self.ask(("GET", &format!("{EXPORT}?{parameters}")), Some(&self.token), None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(
            answer.header("content-type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "{parameters}"
        );
        answer.text
    }

    /// A whole minute that is a moment ago.
    fn minute(&self) -> i64 {
        self.clock.wall().as_millis() / 60_000 * 60_000 - 60_000
    }
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000).trim_end_matches(".000").to_owned()
}

#[tokio::test]
async fn what_is_stored_is_exported() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let at = instance.minute();
    let stale = f64::from_bits(STALE);
    let series = [
        (labels(&[(NAME, "node_cpu_seconds_total"), ("cpu", "\"0\\\n")]), vec![(at, 0.1), (at + 1, 1e21)]),
        (
            labels(&[(NAME, "b"), ("job", "j")]),
            vec![(at, f64::NAN), (at + 500, f64::NEG_INFINITY), (at + 1_000, stale)],
        ),
        (labels(&[(NAME, "h\u{f6}he.m"), ("a.b", "c")]), vec![(at, -0.0)]),
    ];
    instance.stored(&token, &series).await;
    let [first, second, half] = [at, at + 1, at + 500].map(seconds);
    let b = format!("# TYPE b unknown\nb{{job=\"j\"}} NaN {first}\nb{{job=\"j\"}} -Inf {half}\n");
    let help = common::catalog::metric("node_cpu_seconds_total").help;
    let cpu = format!("# TYPE node_cpu_seconds counter\n# HELP node_cpu_seconds {help}\n");
    let of_cpu = "node_cpu_seconds_total{cpu=\"\\\"0\\\\\\n\"}";
    let cpu = format!("{cpu}{of_cpu} 0.1 {first}\n{of_cpu} 1e+21 {second}\n");
    let height = format!("# TYPE \"h\u{f6}he.m\" unknown\n{{\"h\u{f6}he.m\",\"a.b\"=\"c\"}} -0 {first}\n");
    assert_eq!(instance.exported(OTHERS).await, format!("{b}{height}{cpu}# EOF\n"));
    // What two selectors mean is told once.
    assert_eq!(instance.exported("match[]=b&match[]={job=\"j\"}&match[]=nothing").await, format!("{b}# EOF\n"));
    assert_eq!(instance.exported("match[]=nothing").await, "# EOF\n");
    let part = format!("match[]=b&start={first}&end={first}");
    assert_eq!(instance.exported(&part).await, format!("# TYPE b unknown\nb{{job=\"j\"}} NaN {first}\n# EOF\n"));

    // The command is answered the same, whether the aggregator runs or not.
    let (config, clock) = (instance.config.clone(), instance.clock.clone());
    let printed = async || {
        let mut out = Vec::new();
        let question = Question::get(EXPORT, &[("match[]", "b")]);
        aggregator::copy(&config, &clock, question, &mut out).await.map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(printed().await.unwrap(), format!("{b}# EOF\n"));
    let refused = aggregator::copy(&config, &clock, Question::get(EXPORT, &[]), &mut Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("no match[] parameter provided"), "{refused}");
    let _dir = instance.stop().await;
    assert_eq!(printed().await.unwrap(), format!("{b}# EOF\n"));
}

/// The rows of a table: what its labels say, stamps, and the bits of values.
fn rows(file: Vec<u8>) -> Vec<(Labels, i64, u64)> {
    let reader = SerializedFileReader::new(axum::body::Bytes::from(file)).unwrap();
    let row = |row: Row| {
        let text = |field: &Field| if let Field::Str(text) = field { text.clone() } else { String::new() };
        let labels: Labels =
            row.get_map(1).unwrap().entries().iter().map(|(name, value)| (text(name), text(value))).collect();
        let labels = labels.with(NAME, row.get_string(0).unwrap().as_str());
        (labels, row.get_timestamp_millis(2).unwrap(), row.get_double(3).unwrap().to_bits())
    };
    reader.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
}

#[tokio::test]
async fn what_is_stored_is_exported_as_a_table() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let at = instance.minute();
    let odd = f64::from_bits(0x7ff8_0000_0000_0007);
    let values = [0.1, 5e-324, -0.0, f64::NEG_INFINITY, odd];
    let samples: Vec<(i64, f64)> = (0..).map(|step| at + 7 * step).zip(values).collect();
    let series = [
        (labels(&[(NAME, "a")]), samples.clone()),
        (labels(&[(NAME, "b"), ("job", "j"), ("of", "\"\\\n")]), samples.clone()),
        (labels(&[(NAME, "h\u{f6}he.m"), ("a.b", "c")]), vec![(at, 1.0), (at + 1, f64::from_bits(STALE))]),
    ];
    instance.stored(&token, &series).await;
    let stored: Vec<(Labels, i64, u64)> = series
        .iter()
        .flat_map(|(labels, samples)| samples.iter().map(|(at, value)| (labels.clone(), *at, value.to_bits())))
        .filter(|(_, _, bits)| *bits != STALE)
        .collect();
    let table = async |parameters: &str, headers: &[(&str, &str)]| {
        let path = format!("{EXPORT}?format=parquet&{parameters}");
        let answer = instance.send(&path, &instance.token, headers, vec![]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/vnd.apache.parquet"));
        assert_eq!(answer.header("content-encoding"), "", "it is compressed already");
        rows(answer.bytes)
    };
    assert_eq!(table(OTHERS, &[]).await, stored);
    assert_eq!(table(OTHERS, &[("accept-encoding", "gzip, zstd")]).await, stored);
    assert_eq!(
        table(&format!("match[]=a&match[]=b&end={}", seconds(at)), &[]).await,
        [stored[0].clone(), stored[values.len()].clone()]
    );
    assert_eq!(table("match[]=nothing", &[]).await, []);
    let refused = instance.get(&format!("{EXPORT}?format=csv&match[]=a")).await;
    assert!(refused.status == 400 && refused.text.contains("none of openmetrics and parquet"), "{}", refused.text);

    // The command writes the same.
    let mut out = Vec::new();
    let question = Question::get(EXPORT, &[("match[]", "a"), ("format", "parquet")]);
    aggregator::copy(&instance.config, &instance.clock, question, &mut out).await.unwrap();
    assert_eq!(rows(out), stored[..values.len()]);
    instance.stop().await;
}

/// What promtool makes blocks of, and reads out of them, is what was stored: a line each.
fn through_promtool(text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut file = tempfile::NamedTempFile::new_in(&dir).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let blocks = dir.path().join("blocks");
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([file.path(), &blocks])
        .output()
        .ok()?;
    assert!(
        made.status.success(),
        "{}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    // It reads a whole data directory.
    std::fs::create_dir(blocks.join("wal")).unwrap();
    let dumped = Command::new("promtool").args(["tsdb", "dump"]).arg(&blocks).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    Some(String::from_utf8(dumped.stdout).unwrap())
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "what is left out is to be seen")]
async fn promtool_reads_what_is_exported() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let at = instance.minute();
    let values = [0.1, 1e21, 5e-324, f64::MAX, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 123_456_789.123];
    let samples: Vec<(i64, f64)> = (0..).map(|step| at + 7 * step).zip(values).collect();
    let series = [
        (labels(&[(NAME, "a_total"), ("of", "\"\\\n")]), samples.clone()),
        (labels(&[(NAME, "node_cpu_seconds_total"), ("cpu", "0"), ("mode", "idle")]), samples.clone()),
        (labels(&[(NAME, "node_load1")]), samples.clone()),
    ];
    instance.stored(&token, &series).await;
    let text = instance.exported(OTHERS).await;
    let Some(dumped) = through_promtool(&text) else {
        eprintln!("export: SKIPPED: promtool is not installed (Debian: package prometheus)");
        return;
    };
    let mut read: Vec<(String, i64, u64)> = dumped
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let [stamp, value, series] = line.rsplitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            (series.to_owned(), stamp.parse().unwrap(), value.parse::<f64>().unwrap().to_bits())
        })
        .collect();
    read.sort_unstable();
    let named = |labels: &Labels| {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let of = |(labels, samples): &(Labels, Vec<(i64, f64)>)| {
        let series = named(labels);
        samples.iter().map(|(at, value)| (series.clone(), *at, value.to_bits())).collect::<Vec<_>>()
    };
    let mut stored: Vec<(String, i64, u64)> = series.iter().flat_map(of).collect();
    stored.sort_unstable();
    assert_eq!(read, stored);
    instance.stop().await;
}

pub(crate) const IMPORT: &str = "/prometheus/api/v1/import";

impl Instance {
    pub(crate) async fn imported(&self, token: &str, parameters: &str, text: &str) -> (u16, String) {
        let answer = self.send(&format!("{IMPORT}?{parameters}"), token, &[], text.as_bytes().to_vec()).await;
        (answer.status, answer.text)
    }
}

#[tokio::test]
async fn what_was_exported_is_imported_and_is_the_same() {
    let (from, to) = (Instance::start().await, Instance::start().await);
    let token = from.writer(json!({"write": "a"})).await;
    let at = from.minute();
    let values = [0.1, 1e21, 5e-324, -0.0, f64::INFINITY, f64::NAN];
    let samples: Vec<(i64, f64)> = (0..).map(|step| at - 3_600_000 + 1_234_567 * step).zip(values).take(3).collect();
    let series = [
        (labels(&[(NAME, "a_total"), ("of", "\"\\\n")]), samples.clone()),
        (labels(&[(NAME, "h\u{f6}he.m"), ("a:b", "c")]), samples),
        (labels(&[(NAME, "b")]), (0..).map(|step| at + step).zip(values).collect()),
    ];
    from.stored(&token, &series).await;
    let text = from.exported(OTHERS).await;
    let token = to.writer(json!({"write": "a"})).await;
    for _ in 0..2 {
        let answer = to.imported(&token, "", &text).await;
        assert_eq!(answer, (200, r#"{"status":"success","data":{"samples":12}}"#.to_owned()), "twice is once");
    }
    assert_eq!(to.exported(OTHERS).await, text);
    // What promtool dumps is the same again, as it has names and quotes of its own.
    let plain = from.exported("match[]=b&match[]=a_total").await;
    if let Some(dumped) = through_promtool(&plain) {
        let third = Instance::start().await;
        let token = third.writer(json!({"write": "a"})).await;
        let dumped: Vec<&str> = dumped.lines().filter(|line| line.starts_with('{')).collect();
        let answer = third.imported(&token, "format=prometheus", &dumped.join("\n")).await;
        assert_eq!(answer, (200, r#"{"status":"success","data":{"samples":9}}"#.to_owned()));
        assert_eq!(third.exported(OTHERS).await, plain);
        third.stop().await;
    }
    from.stop().await;

    // By command, while it runs and when it does not.
    let (config, clock) = (to.config.clone(), to.clock.clone());
    let import = async |name: &str, text: &'static str| {
        let question = Question::upload(IMPORT, &[("as", name), ("format", "prometheus")], text.as_bytes());
        aggregator::ask(&config, &clock, question).await.map_err(|error| error.to_string())
    };
    assert!(import("a", "").await.is_ok());
    assert!(import("nobody", "").await.unwrap_err().contains("token create --write NAME"));
    let dir = to.stop().await;
    assert!(import("a", "").await.is_ok());
    assert!(import("a", "b 1").await.unwrap_err().contains("line 1: it has no stamp"));
    drop(dir);
}

#[tokio::test]
async fn what_is_not_imported_is_told() {
    let instance = Instance::start().await;
    let token = instance.writer(json!({"write": "a"})).await;
    let at = seconds(instance.minute());
    let check = async |text: String, expect: &str| {
        let (status, told) = instance.imported(&token, "", &text).await;
        assert!(status == 400 && told.contains(expect), "{status} {told}");
    };
    let refused = "1 are from the future, 1 are older than what is kept; for example m{} at 1.000";
    check(format!("m 1 1\nm 2 {at}\nm 3 1e10\n# EOF\n"), &format!("2 of 3 samples are not stored: {refused}")).await;
    check(format!("m 1 {at}\nm\n# EOF\n"), "line 2: it has no value; 1 samples that stand before it are stored").await;
    check(
        format!("m 1 {at}\nm 1 1\n"),
        "it is not whole; 1 samples that stand before it are stored, 1 are not: 1 are older",
    )
    .await;
    // Of this token are no more than three series.
    let many: String = (0..5).map(|at_series| format!("s{at_series} 1 {at}\n")).collect();
    check(format!("{many}# EOF"), "3 of 5 samples are not stored: 3 are of series for which there is no room").await;
    let compressed = instance.send(IMPORT, &token, &[("content-encoding", "gzip")], vec![1]).await;
    assert_eq!(compressed.status, 415, "{}", compressed.text);
    assert_eq!(instance.imported(&instance.token, "as=a", "# EOF").await.0, 403, "it is for the control socket");
    assert_eq!(instance.imported(&token, "format=xml", "# EOF").await.0, 400);
    instance.stop().await;
}
