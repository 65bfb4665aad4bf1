//! Samples as OpenMetrics text, as it is answered and printed.

use std::io::Write as _;
use std::process::Command;

use aggregator::http::control::Question;
use aggregator::receive::message::Message;
use aggregator::store::select::STALE;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use serde_json::json;

use crate::instance::Instance;

const EXPORT: &str = "/prometheus/api/v1/export";

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
    let all = "match[]={__name__!=\"\",instance=\"\"}";
    assert_eq!(instance.exported(all).await, format!("{b}{height}{cpu}# EOF\n"));
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
    let text = instance.exported("match[]={__name__!=\"\",instance=\"\"}").await;
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
