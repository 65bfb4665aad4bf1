//! How long queries take, beside Debian's Prometheus and VictoriaMetrics: the same samples by remote write, the same
//! questions over HTTP, in one run. Arguments: hours of ten thousand series at ten seconds (6), and how often each question
//! is asked (20).
//!
//! Prints; asserts only that the answers are as large: machines are shared, and only ratios hold.

mod peer;
mod synthetic;

use std::env;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use common::time::Clock;

use crate::peer::Peer;
use crate::peer::message;
use crate::synthetic::SERIES;
use crate::synthetic::Synthetic;
use crate::synthetic::labels;

const STEP_MS: i64 = 10_000;

/// Steps of a series in one message: senders gather some.
const STEPS: usize = 30;

/// Series in one message: about the 10,000 samples that Prometheus sends at once.
const SERIES_IN_MESSAGE: usize = 400;

/// A question: what it is called, where it is asked, its parameters, and how many hours ago.
type Question = (&'static str, &'static str, Vec<(&'static str, String)>);

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
    let steps = hours * 3_600_000 / STEP_MS;
    fill(&mut out, &peers, end, steps).await?;
    writeln!(out, "{:<34}{}", "", peers.iter().map(|peer| format!("{:>38}", peer.name)).collect::<String>())?;
    let columns = format!("{:>10}{:>10}{:>10}{:>8}", "p50 ms", "p99 ms", "CPU ms", "kB");
    writeln!(out, "{:<34}{}", "", columns.repeat(peers.len()))?;
    for (name, path, parameters) in questions(end, hours) {
        let mut row = format!("{name:<34}");
        for peer in &peers {
            let mut took = Vec::new();
            peer.ask(path, &parameters).await?;
            let before = peer.cpu()?;
            let mut bytes = 0;
            for _ in 0..times {
                let (_, cost) = peer.ask(path, &parameters).await?;
                took.push(cost.took);
                bytes = cost.bytes;
            }
            let cpu = (peer.cpu()? - before) / u32::try_from(times)?;
            took.sort_unstable();
            let [p50, p99] = [50, 99].map(|share| millis(took[(took.len() - 1) * share / 100]));
            row += &format!("{p50:>10.2}{p99:>10.2}{:>10.2}{:>8}", millis(cpu), bytes / 1_000);
        }
        writeln!(out, "{row}")?;
    }
    for peer in &peers {
        writeln!(out, "{:<18}{:>8.0} MB resident", peer.name, peer.resident()? as f64 / 1e6)?;
    }
    Ok(())
}

fn number(argument: Option<String>, default: i64) -> anyhow::Result<i64> {
    argument.map_or(Ok(default), |text| text.parse().with_context(|| format!("{text} is no number")))
}

/// The aggregator that `make bench-query` has built, beside this program.
fn program() -> anyhow::Result<PathBuf> {
    let me = env::current_exe()?;
    let release = me.parent().context("no place for programs")?;
    Ok(release.join("lapwing-aggregator"))
}

fn millis(time: Duration) -> f64 {
    1_000.0 * time.as_secs_f64()
}

/// Writes the same samples to all.
async fn fill(out: &mut impl Write, peers: &[Peer], end: i64, steps: i64) -> anyhow::Result<()> {
    let mut synthetic = Synthetic::default();
    let mut used = vec![Duration::ZERO; peers.len()];
    let (mut from, mut samples) = (end - (steps - 1) * STEP_MS, 0_usize);
    while from <= end {
        let stamps: Vec<i64> =
            (0_i64..).map(|at| from + at * STEP_MS).take(STEPS).take_while(|at| *at <= end).collect();
        let mut columns = vec![Vec::new(); SERIES];
        for stamp in &stamps {
            columns.iter_mut().zip(synthetic.step()).for_each(|(column, value)| column.push((*stamp, value)));
        }
        for first in (0..SERIES).step_by(SERIES_IN_MESSAGE) {
            let series =
                (first..SERIES.min(first + SERIES_IN_MESSAGE)).map(|one| (labels(one), columns[one].as_slice()));
            let message = message(series)?;
            for (peer, used) in peers.iter().zip(&mut used) {
                let before = peer.cpu()?;
                peer.write(&message).await?;
                *used += peer.cpu()? - before;
            }
        }
        samples += stamps.len() * SERIES;
        from += i64::try_from(STEPS)? * STEP_MS;
    }
    writeln!(out, "{samples} samples by remote write")?;
    for (peer, used) in peers.iter().zip(used) {
        let per_second = samples as f64 / used.as_secs_f64().max(0.01);
        writeln!(out, "{:<18}{:>8.2} M samples a second of one core", peer.name, per_second / 1e6)?;
    }
    Ok(())
}

/// Those of the budgets in `docs/BUDGETS.md`.
fn questions(end: i64, hours: i64) -> Vec<Question> {
    let seconds = |millis: i64| (millis / 1_000).to_string();
    let (now, then) = (end, end - hours * 1_800_000);
    let instant = |query: &str, at: i64| vec![("query", query.to_owned()), ("time", seconds(at))];
    let range = |query: &str, from: i64, through: i64, step: i64| {
        let step = seconds(step);
        vec![("query", query.to_owned()), ("start", seconds(from)), ("end", seconds(through)), ("step", step)]
    };
    let by_host = "sum by (host) (rate(m[1h]))";
    let hour = 3_600_000;
    vec![
        (
            "one series, 6 h at 60 s",
            "query_range",
            range(r#"m{host="host-42",id="60"}"#, end - hours * hour, end, 60_000),
        ),
        ("topk(10) of 10,000, now", "query", instant("topk(10, m)", now)),
        ("topk(10) of 10,000, then", "query", instant("topk(10, m)", then)),
        ("sum by (host) (rate[1h]), now", "query", instant(by_host, now)),
        ("sum by (host) (rate[1h]), then", "query", instant(by_host, then)),
        (
            "1 h of rate[5m] by host at 60 s",
            "query_range",
            range("sum by (host) (rate(m[5m]))", end - hour, end, 60_000),
        ),
        (
            "max_over_time[1h], 1 h at 60 s",
            "query_range",
            range("max by (host) (max_over_time(m[1h]))", end - hour, end, 60_000),
        ),
        ("count of 10,000", "query", instant("count(m)", now)),
        ("10,000 series, now", "query", instant("m", now)),
        ("values of a label", "label/host/values", Vec::new()),
    ]
}
