//! How long queries take, beside Debian's Prometheus and VictoriaMetrics: the same samples by remote write, the same
//! questions over HTTP, in one run. Arguments: hours of ten thousand series at ten seconds (6), and how often each question
//! is asked (20). Before those hours there is a month of a hundred series, a sample a minute.
//!
//! Prints; asserts only that a neighbour answers the same: machines are shared, and only ratios hold.

use std::env;
use std::io;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::ensure;
use benches::fill::MONTH_METRIC;
use benches::fill::MONTH_SERIES;
use benches::fill::STEP_MS;
use benches::fill::fill;
use benches::fill::fill_month;
use benches::millis;
use benches::number;
use benches::peer::Peer;
use benches::percentiles;
use benches::program;
use common::time::Clock;
use serde_json::Value;

/// A question: what it is called, where it is asked, its parameters, and how many hours ago.
type Question = (&'static str, &'static str, Vec<(&'static str, String)>);

const HOUR_MS: i64 = 3_600_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client asks for one even where it speaks plain HTTP.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let mut arguments = env::args().skip(1);
    let hours = number(arguments.next(), 6)?;
    let times = usize::try_from(number(arguments.next(), 20)?)?;
    let mut out = io::stdout().lock();
    let mut peers = vec![Peer::lapwing(&program()?).await?];
    for name in ["victoria-metrics", "prometheus"] {
        peers.extend(Peer::neighbour(name).await?);
    }
    let end = Clock::real().wall().as_millis() / STEP_MS * STEP_MS;
    // Half of what makes a chunk beside whole ones: what grows behind the chunks is neither empty nor full.
    let steps = hours * HOUR_MS / STEP_MS + 60;
    // Who has seen what is recent takes nothing that is old.
    let month_end = (end - (hours + 1) * HOUR_MS) / HOUR_MS * HOUR_MS;
    fill_month(&peers, month_end).await?;
    settle_month(&mut peers[0], month_end).await?;
    let filled = fill(&peers, end, steps, None).await?;
    writeln!(out, "{} samples by remote write", filled.samples)?;
    for (peer, used) in peers.iter().zip(filled.used) {
        let per_second = filled.samples as f64 / used.as_secs_f64().max(0.01);
        writeln!(out, "{:<18}{:>8.2} M samples a second of one core", peer.name, per_second / 1e6)?;
    }
    writeln!(out, "{:<34}{}", "", peers.iter().map(|peer| format!("{:>38}", peer.name)).collect::<String>())?;
    let columns = format!("{:>10}{:>10}{:>10}{:>8}", "p50 ms", "p99 ms", "CPU ms", "kB");
    writeln!(out, "{:<34}{}", "", columns.repeat(peers.len()))?;
    for (name, path, parameters) in questions(end, hours).into_iter().chain(questions_of_month(month_end)) {
        let mut row = format!("{name:<34}");
        let mut told = Vec::new();
        for peer in &peers {
            let mut took = Vec::new();
            told.push(Told::read(&peer.ask(path, &parameters).await?.0)?);
            let before = peer.process.cpu()?;
            let mut bytes = 0;
            for _ in 0..times {
                let (_, cost) = peer.ask(path, &parameters).await?;
                took.push(cost.took);
                bytes = cost.bytes;
            }
            let cpu = (peer.process.cpu()? - before) / u32::try_from(times)?;
            let [p50, p99] = percentiles(took).map(millis);
            row += &format!("{p50:>10.2}{p99:>10.2}{:>10.2}{:>8}", millis(cpu), bytes / 1_000);
        }
        writeln!(out, "{row}")?;
        // VictoriaMetrics reckons growth otherwise, and Prometheus 2 takes the left edge of a range for a part of it.
        let (ours, theirs) = told.split_first().context("nobody was asked")?;
        ensure!(
            theirs.is_empty() || theirs.iter().any(|theirs| ours.agrees(theirs)),
            "{name}: nobody answers the same"
        );
    }
    for peer in &peers {
        writeln!(out, "{:<18}{:>8.0} MB resident", peer.name, peer.process.resident()? as f64 / 1e6)?;
    }
    Ok(())
}

/// An answer, however it is ordered.
struct Told {
    /// How many series, or values of a label.
    series: usize,
    /// Stamps and values, ascending.
    samples: Vec<(f64, f64)>,
}

impl Told {
    fn read(text: &str) -> anyhow::Result<Self> {
        let answer: Value = serde_json::from_str(text)?;
        let data = &answer["data"];
        let series = data["result"].as_array().or(data.as_array()).context("no answer")?;
        let pairs =
            series.iter().flat_map(|one| one["values"].as_array().into_iter().flatten().chain(one.get("value")));
        let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
        let mut samples: Vec<(f64, f64)> = pairs.map(sample).collect::<Option<_>>().context("not a sample")?;
        samples.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
        Ok(Self { series: series.len(), samples })
    }

    fn agrees(&self, other: &Self) -> bool {
        let is_near = |left: f64, right: f64| (left - right).abs() <= 1e-9 * left.abs().max(right.abs());
        let mut pairs = self.samples.iter().zip(&other.samples);
        (self.series, self.samples.len()) == (other.series, other.samples.len())
            && pairs.all(|(left, right)| left.0 == right.0 && is_near(left.1, right.1))
    }
}

/// Waits until what is over is in files, and longer windows are made of it: what comes late waits for the next hour to be
/// sealed, or for a start.
async fn settle_month(lapwing: &mut Peer, end: i64) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(300);
    const GLANCE: Duration = Duration::from_millis(500);
    /// Of the raw samples: windows of an hour and those of the last day are far less.
    const SHARE: usize = 10;
    let count = format!("count({MONTH_METRIC})");
    let at_end = [("query", count), ("time", (end / 1_000).to_string())];
    let back = lapwing.kill_and_start(&at_end, &MONTH_SERIES.to_string()).await?;
    ensure!(back.is_some(), "the month is lost");
    let (_, _, mut explained) = questions_of_month(end).swap_remove(0);
    explained.push(("explain", "1".to_owned()));
    let began = Instant::now();
    loop {
        let (text, _) = lapwing.ask("query_range", &explained).await?;
        let told = text.rsplit(r#""samples":"#).next().unwrap_or_default();
        let samples: usize = told.split(|digit: char| !digit.is_ascii_digit()).next().unwrap_or_default().parse()?;
        if samples < MONTH_SERIES * 30 * 24 * 60 / SHARE {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "no longer windows are made of the month: {samples} samples answer");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Of thirty days, at each hour.
fn questions_of_month(end: i64) -> Vec<Question> {
    let seconds = |millis: i64| (millis / 1_000).to_string();
    let range = |of: &str| {
        let query = format!("{of} by (id) ({of}_over_time({MONTH_METRIC}[1h]))");
        let start = seconds(end - 30 * 24 * HOUR_MS);
        vec![("query", query), ("start", start), ("end", seconds(end)), ("step", seconds(HOUR_MS))]
    };
    vec![
        ("30 d of avg_over_time[1h]", "query_range", range("avg")),
        ("30 d of max_over_time[1h]", "query_range", range("max")),
    ]
}

/// Those of the budgets in `docs/BUDGETS.md`.
fn questions(end: i64, hours: i64) -> Vec<Question> {
    let seconds = |millis: i64| (millis / 1_000).to_string();
    // Between two samples, so that none is on the left edge of a range.
    let end = end - 1_000;
    let (now, then) = (end, end - hours * 1_800_000);
    let instant = |query: &str, at: i64| vec![("query", query.to_owned()), ("time", seconds(at))];
    let range = |query: &str, from: i64, through: i64, step: i64| {
        let step = seconds(step);
        vec![("query", query.to_owned()), ("start", seconds(from)), ("end", seconds(through)), ("step", step)]
    };
    let by_host = "sum by (host) (rate(m[1h]))";
    vec![
        (
            "one series, 6 h at 60 s",
            "query_range",
            range(r#"m{host="host-42",id="60"}"#, end - hours * HOUR_MS, end, 60_000),
        ),
        ("topk(10) of 10,000, now", "query", instant("topk(10, m)", now)),
        ("topk(10) of 10,000, then", "query", instant("topk(10, m)", then)),
        ("sum by (host) (rate[1h]), now", "query", instant(by_host, now)),
        ("sum by (host) (rate[1h]), then", "query", instant(by_host, then)),
        (
            "1 h of rate[5m] by host at 60 s",
            "query_range",
            range("sum by (host) (rate(m[5m]))", end - HOUR_MS, end, 60_000),
        ),
        (
            "max_over_time[1h], 1 h at 60 s",
            "query_range",
            range("max by (host) (max_over_time(m[1h]))", end - HOUR_MS, end, 60_000),
        ),
        ("count of 10,000", "query", instant("count(m)", now)),
        ("10,000 series, now", "query", instant("m", now)),
        ("values of a label", "label/host/values", Vec::new()),
    ]
}
