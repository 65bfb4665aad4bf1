//! What a small query and a write wait for, alone, beside dashboards and beside queries that are too heavy: Lapwing, and the
//! neighbours that Debian has, one after the other. Arguments: seconds of each part (10), and clients that ask heavy
//! queries (8).
//!
//! Prints; asserts nothing: machines are shared, and only ratios hold.

use std::env;
use std::io;
use std::io::Write;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use benches::fill::STEP_MS;
use benches::fill::fill;
use benches::millis;
use benches::number;
use benches::peer::Peer;
use benches::peer::message;
use benches::percentiles;
use benches::program;
use benches::synthetic::HOSTS;
use benches::synthetic::SERIES;
use benches::synthetic::labels;
use common::time::Clock;
use tokio::task::JoinSet;

const HOUR_MS: i64 = 3_600_000;

/// Between two writes, each of the series of four hosts: 10,000 series in 2.5 s, four times what they sample.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Between two small queries.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Dashboards that are open.
const DASHBOARDS: usize = 8;

/// What is asked beside the small queries.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// Dashboards of a host each, one panel after the other.
    Dashboards,
    /// An hour's rates of everything, at each quarter of a minute.
    Heavy(usize),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client asks for one even where it speaks plain HTTP.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let mut arguments = env::args().skip(1);
    let seconds = Duration::from_secs(number(arguments.next(), 10)?.unsigned_abs());
    let clients = usize::try_from(number(arguments.next(), 8)?)?;
    let mut out = io::stdout().lock();
    let parts = [
        ("alone", Beside::Nothing),
        ("beside eight dashboards", Beside::Dashboards),
        ("beside heavy queries", Beside::Heavy(clients)),
    ];
    for name in ["lapwing", "victoria-metrics", "prometheus"] {
        let peer = match name {
            "lapwing" => Some(Peer::lapwing(&program()?).await?),
            _ => Peer::neighbour(name).await?,
        };
        let Some(peer) = peer.map(Arc::new) else {
            continue;
        };
        let end = Clock::real().wall().as_millis() / STEP_MS * STEP_MS;
        fill(from_ref(&*peer), end, HOUR_MS / STEP_MS, None).await?;
        writeln!(out, "{:<26}{:>34}{:>34}{:>34}", peer.name, "small queries", "writes", "other queries")?;
        writeln!(out, "{:<26}{}", "", format!("{:>10}{:>12}{:>12}", "", "p50 ms", "p99 ms").repeat(3))?;
        let next = Arc::new(AtomicI64::new(end));
        for (name, beside) in parts {
            let [small, writes, others] = part(&peer, &next, (beside, seconds)).await?;
            writeln!(out, "{name:<26}{}{}{}", shown(small), shown(writes), shown(others))?;
        }
    }
    Ok(())
}

/// How long each small query took, each write, and each of the others.
async fn part(
    peer: &Arc<Peer>,
    next: &Arc<AtomicI64>,
    (beside, seconds): (Beside, Duration),
) -> anyhow::Result<[Vec<Duration>; 3]> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    let clients = match beside {
        Beside::Nothing => 0,
        Beside::Dashboards => DASHBOARDS,
        Beside::Heavy(clients) => clients,
    };
    for client in 0..clients {
        let (peer, stop) = (Arc::clone(peer), Arc::clone(&stop));
        others.spawn(async move {
            let mut took = Vec::new();
            for panel in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let query = match beside {
                    Beside::Heavy(_) => "sum by (id) (rate(m[1h]))".to_owned(),
                    Beside::Nothing | Beside::Dashboards => {
                        format!("sum by (id) (rate(m{{host=\"host-{client:02}\", id=~\"{}.\"}}[5m]))", panel % 10)
                    }
                };
                let began = Instant::now();
                // One that is refused has been answered.
                drop(peer.ask("query_range", &range(query, 15)).await);
                took.push(began.elapsed());
            }
            took
        });
    }
    let (mut small, mut writes) = (JoinSet::new(), JoinSet::new());
    small.spawn(asking(Arc::clone(peer), Arc::clone(&stop)));
    writes.spawn(writing((Arc::clone(peer), Arc::clone(next)), Arc::clone(&stop)));
    tokio::time::sleep(seconds).await;
    stop.store(true, Ordering::Relaxed);
    let small = small.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let writes = writes.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok([small, writes, others.join_all().await.concat()])
}

/// One series of an hour, again and again.
async fn asking(peer: Arc<Peer>, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    let (mut took, mut every) = (Vec::new(), tokio::time::interval(ASK_EVERY));
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        let host = took.len() % HOSTS;
        let (_, cost) = peer.ask("query_range", &range(format!("m{{host=\"host-{host:02}\", id=\"60\"}}"), 60)).await?;
        took.push(cost.took);
    }
    Ok(took)
}

/// The next samples of some hosts, again and again.
async fn writing((peer, next): (Arc<Peer>, Arc<AtomicI64>), stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    const SERIES_AT_ONCE: usize = 400;
    let (mut took, mut every) = (Vec::new(), tokio::time::interval(WRITE_EVERY));
    while !stop.load(Ordering::Relaxed) {
        for first in (0..SERIES).step_by(SERIES_AT_ONCE) {
            every.tick().await;
            let sample = (next.load(Ordering::Relaxed) + STEP_MS / 10, 1.0);
            let series = (first..first + SERIES_AT_ONCE).map(|one| (labels(one), from_ref(&sample)));
            let message = message(series);
            let began = Instant::now();
            peer.write(&message).await?;
            took.push(began.elapsed());
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        next.fetch_add(STEP_MS / 10, Ordering::Relaxed);
    }
    Ok(took)
}

/// The last hour.
fn range(query: String, step: i64) -> Vec<(&'static str, String)> {
    let end = Clock::real().wall().as_millis() / 1_000;
    let start = end - HOUR_MS / 1_000;
    vec![("query", query), ("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())]
}

fn shown(took: Vec<Duration>) -> String {
    let count = format!("{} x", took.len());
    let [p50, p99] = percentiles(took).map(millis);
    format!("{count:>10}{p50:>12.1}{p99:>12.1}")
}
