//! What storing costs, beside Debian's Prometheus and VictoriaMetrics: the same samples by remote write, in one run.
//! Arguments: hours of ten thousand series at ten seconds (24), how often each question is asked (10), and a file of an hour
//! that was recorded second by second on a real host, if made series are not to be stored.
//!
//! Prints; asserts only that nothing is missing after a kill: machines are shared, and only ratios hold.

use std::env;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use benches::fill::STEP_MS;
use benches::fill::fill;
use benches::millis;
use benches::number;
use benches::peer::Peer;
use benches::percentiles;
use benches::program;
use benches::synthetic::SERIES;
use common::time::Clock;
use common::time::Timestamp;

/// How many seconds nothing may change on the disk before it counts as settled.
const QUIET: u32 = 30;

/// Longest that settling is waited for, in seconds.
const SETTLING_MAX: u32 = 600;

/// How long after its end a day is merged, and a little more: what comes then is nothing but late.
const MERGED_AFTER: Duration = Duration::from_secs(2 * 3_600);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client asks for one even where it speaks plain HTTP.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let mut arguments = env::args().skip(1);
    let hours = number(arguments.next(), 24)?;
    let times = u32::try_from(number(arguments.next(), 10)?)?;
    let recorded = arguments.next().map(PathBuf::from);
    let mut peers = vec![Peer::lapwing(&program()?).await?];
    for name in ["victoria-metrics", "prometheus"] {
        peers.extend(Peer::neighbour(name).await?);
    }
    row("", peers.iter().map(|peer| peer.name.to_owned()))?;

    let end = end(Clock::real().wall(), hours).as_millis() / STEP_MS * STEP_MS;
    let filled = fill(&peers, end, hours * 3_600_000 / STEP_MS, recorded.as_deref()).await?;
    let samples = filled.samples as f64;
    row("M samples a second of one core", filled.used.iter().map(|used| ratio(samples / 1e6, used.as_secs_f64())))?;
    each("bytes written a sample", &peers, |peer| Ok(ratio(peer.written()? as f64, samples)))?;
    each("MB resident, at most", &peers, |peer| Ok(ratio(peer.process.resident_peak()? as f64, 1e6)))?;
    each("bytes a sample on disk, at once", &peers, |peer| Ok(ratio(peer.on_disk()? as f64, samples)))?;

    let last = end / 1_000;
    let all = [("query", "count(m)".to_owned()), ("time", last.to_string())];
    let mut back = Vec::new();
    for peer in &mut peers {
        let took = peer.kill_and_start(&all, &SERIES.to_string()).await?;
        ensure!(took.is_some() || peer.name != "lapwing", "lapwing lost what it had acknowledged");
        back.push(took.map_or_else(|| "some are lost".to_owned(), |took| ratio(took.as_secs_f64(), 1.0)));
    }
    row("seconds from kill -9 to all answers", back.into_iter())?;
    settle(&peers).await?;
    each("bytes a sample on disk, settled", &peers, |peer| Ok(ratio(peer.on_disk()? as f64, samples)))?;
    each("bytes written a sample, settled", &peers, |peer| Ok(ratio(peer.written()? as f64, samples)))?;
    each("MB resident, settled", &peers, |peer| Ok(ratio(peer.process.resident()? as f64, 1e6)))?;
    for (name, query, at) in questions(last, hours) {
        ask(name, &peers, &[("query", query), ("time", at.to_string())], times).await?;
    }
    Ok(())
}

/// Where what is stored ends: with the last day of which everything is made that is made when a day is over, if it is a day.
fn end(now: Timestamp, hours: i64) -> Timestamp {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    if hours < 24 { now } else { now.before(MERGED_AFTER).align_down(DAY) }
}

/// Name, expression, and when.
fn questions(last: i64, hours: i64) -> [(&'static str, String, i64); 5] {
    let then = last - hours * 1_800;
    [
        ("one series, all of it", format!(r#"m{{host="host-42",id="60"}}[{hours}h]"#), last),
        ("10,000 series at an instant, now", "sum(m)".to_owned(), last),
        ("10,000 series at an instant, then", "sum(m)".to_owned(), then),
        ("10,000 series over an hour, now", "sum(sum_over_time(m[1h]))".to_owned(), last),
        ("10,000 series over an hour, then", "sum(sum_over_time(m[1h]))".to_owned(), then),
    ]
}

/// Asks all the same, first with nothing of their files in memory.
async fn ask(name: &str, peers: &[Peer], parameters: &[(&str, String)], times: u32) -> anyhow::Result<()> {
    let mut rows: [Vec<String>; 3] = Default::default();
    for peer in peers {
        let forgot = forget_pages();
        let (_, first) = peer.ask("query", parameters).await?;
        let before = peer.process.cpu()?;
        let mut took = Vec::new();
        for _ in 0..times {
            took.push(peer.ask("query", parameters).await?.1.took);
        }
        let cpu = (peer.process.cpu()? - before) / times;
        let cold = if forgot { ratio(millis(first.took), 1.0) } else { "-".to_owned() };
        let [p50, _] = percentiles(took);
        let figures = [cold, ratio(millis(p50), 1.0), ratio(millis(cpu), 1.0)];
        rows.iter_mut().zip(figures).for_each(|(row, figure)| row.push(figure));
    }
    for (figures, kind) in rows.into_iter().zip(["ms, cold", "ms, p50", "ms of CPU"]) {
        row(&format!("{name}: {kind}"), figures.into_iter())?;
    }
    Ok(())
}

/// Waits until the disk has what it is going to have.
async fn settle(peers: &[Peer]) -> anyhow::Result<()> {
    let on_disk = || peers.iter().map(Peer::on_disk).collect::<anyhow::Result<Vec<_>>>();
    let (mut seen, mut quiet) = (on_disk()?, 0);
    for _ in 0..SETTLING_MAX {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = on_disk()?;
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return Ok(());
        }
        seen = now;
    }
    Ok(writeln!(io::stderr(), "the disk does not come to rest within {SETTLING_MAX} s")?)
}

/// Lets the kernel forget the pages of files, which takes root. Whether it did.
fn forget_pages() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn ratio(of: f64, to: f64) -> String {
    format!("{:.2}", of / to.max(0.01))
}

/// Prints a figure of each.
fn row(name: &str, columns: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let columns: String = columns.map(|column| format!("{column:>18}")).collect();
    Ok(writeln!(io::stdout(), "{name:<48}{columns}")?)
}

fn each(name: &str, peers: &[Peer], figure: impl Fn(&Peer) -> anyhow::Result<String>) -> anyhow::Result<()> {
    row(name, peers.iter().map(figure).collect::<anyhow::Result<Vec<_>>>()?.into_iter())
}
