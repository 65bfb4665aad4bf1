//! `docs/METRICS.md` says what the catalog says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::catalog;
use common::catalog::Metric;
use common::metric::Kind;
use common::metric::Tier;
use common::metric::Unit;

const HEAD: &str = "\
# Metrics

What the agent emits. Generated from `common/src/catalog/`; `UPDATE=1 cargo test -p common` writes it anew.

Every series also has `instance`, `job` and the labels that the operator put on the host. A *second* metric is sampled
each second and shipped as windows of ten; a *window* metric once in ten seconds, a *minute* metric once a minute. A
counter marked *peak* keeps its fastest second: `peak_rate(metric[1m])` finds it. Seconds are counted from shortly after
each full one of the clock: a one-second burst that starts with a second is seen whole, one that starts in the middle
falls into two of them and shows half of its height.
";

/// What a job is.
const JOBS: &[(&str, &str)] = &[
    ("node", "The host, as node_exporter names it"),
    ("cadvisor", "Containers and services, as cAdvisor names them"),
    ("process", "Groups of processes, as process-exporter names them"),
    ("lapwing", "Ours"),
];

#[test]
fn the_document_is_the_catalog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let text = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/METRICS.md is out of step: run `UPDATE=1 cargo test -p common`");
}

fn document() -> String {
    let mut jobs: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    let mut metrics: Vec<&Metric> = catalog::all().collect();
    metrics.sort_by_key(|metric| metric.name);
    for metric in metrics {
        jobs.entry(metric.job).or_default().push(metric);
    }
    let mut text = HEAD.to_owned();
    for (job, title) in JOBS {
        text.push_str(&format!("\n## {title}\n\n`job=\"{job}\"`\n\n| metric | | unit | sampled each | labels | |\n"));
        text.push_str("|---|---|---|---|---|---|\n");
        text.extend(jobs.remove(job).into_iter().flatten().map(row));
    }
    assert!(jobs.is_empty(), "jobs without a title: {:?}", jobs.keys());
    text
}

fn row(metric: &Metric) -> String {
    let kind = match (metric.kind, metric.peak) {
        (Kind::Gauge, _) => "gauge",
        (Kind::Counter, false) => "counter",
        (Kind::Counter, true) => "counter, peak",
    };
    let unit = match metric.unit {
        Unit::None => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Ratio => "ratio",
        Unit::Celsius => "°C",
    };
    let tier = match metric.tier {
        Tier::Second => "second",
        Tier::Window => "window",
        Tier::Minute => "minute",
    };
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {kind} | {unit} | {tier} | {} | {} |\n", metric.name, labels.join(" "), metric.help)
}
