//! What the engine alone takes to answer, without HTTP and without a neighbour: the questions of `bench-query` over the same
//! ten thousand series, in one process that a profiler can look into. Arguments: what a question's name must contain (all),
//! and how often each is asked (20); how many series an aggregation selects at most, to ask of ever more of them instead.
//!
//! Prints; asserts nothing.

mod growth;

use std::env;
use std::fs;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aggregator::query::Engine;
use aggregator::query::EngineConfig;
use aggregator::query::Moments;
use aggregator::query::Turn;
use aggregator::query::parse;
use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::commit::Written;
use aggregator::store::lock::Lock;
use anyhow::Context as _;
use benches::number;
use benches::synthetic::SERIES;
use benches::synthetic::Synthetic;
use benches::synthetic::labels;
use common::batch::HostId;
use common::time::Clock;
use common::time::TimeRange;
use common::time::Timestamp;

const STEP: Duration = Duration::from_secs(10);

/// Ten minutes before an hour ends: of what is filled in, files have all but the last fifty minutes, memory those.
const NOW: Timestamp = Timestamp::from_seconds(1_700_002_800 + 3_000);

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let times = u32::try_from(number(arguments.next(), 20)?)?;
    let most = usize::try_from(number(arguments.next(), 0)?)?;
    let dir = tempfile::tempdir()?;
    let clock = Clock::moved(NOW);
    let (store, writer) = Store::open(Lock::take(dir.path())?, StoreConfig::default(), clock)?;
    let writer = thread::spawn(move || writer.run());
    let config = EngineConfig { cache_max: 0, ..EngineConfig::default() };
    let engine = Engine::new(Arc::new(store.clone()), Clock::real(), config);
    let mut out = io::stdout().lock();
    if 0 < most {
        growth::print(&mut out, (&store, &engine), (NOW, STEP), most).await?;
    } else {
        fill(&store).await?;
        // What is over is sealed in the background, a second later.
        tokio::time::sleep(Duration::from_secs(5)).await;
        print_all(&mut out, (&store, &engine), (&wanted, times))?;
    }
    store.close();
    writer.join().map_err(|_| anyhow::anyhow!("the writer ended early"))
}

/// Prints a line for each question that is wanted.
fn print_all(
    out: &mut impl Write,
    (store, engine): (&Store, &Engine),
    (wanted, times): (&str, u32),
) -> anyhow::Result<()> {
    writeln!(out, "{:<34}{:>10}{:>10}", "", "clock ms", "CPU ms")?;
    for (name, query, moments) in questions().into_iter().filter(|(name, ..)| name.contains(wanted)) {
        let query = parse(query)?;
        let ask = || engine.reply(&query, moments, &Turn::default()).map(drop);
        print(out, name, times, ask)?;
    }
    if "values of a label".contains(wanted) {
        let all = TimeRange { after: NOW.before(HOUR), through: NOW };
        let ask = || store.label_values("host", &[], all, (usize::MAX, &|_| Ok::<_, anyhow::Error>(()))).map(drop);
        print(out, "values of a label", times, ask)?;
    }
    Ok(())
}

/// What asking takes, the least of all times: others only add to it.
fn print<E>(out: &mut impl Write, name: &str, times: u32, ask: impl Fn() -> Result<(), E>) -> anyhow::Result<()>
where
    E: Into<anyhow::Error>,
{
    let (mut least, mut least_used) = (Duration::MAX, Duration::MAX);
    for _ in 0..=times {
        let (began, used) = (std::time::Instant::now(), used()?);
        ask().map_err(Into::into)?;
        least = least.min(began.elapsed());
        least_used = least_used.min(self::used()?.saturating_sub(used));
    }
    let [least, used] = [least, least_used].map(|time| 1_000.0 * time.as_secs_f64());
    writeln!(out, "{name:<34}{least:>10.2}{used:>10.2}")?;
    Ok(())
}

/// Processor time of this process.
fn used() -> anyhow::Result<Duration> {
    let mut used = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        used += stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(used))
}

async fn fill(store: &Store) -> anyhow::Result<()> {
    /// Two hours, and half of what makes a chunk: what grows behind the chunks is neither empty nor full.
    const STEPS: u32 = 720 + 60;
    const AT_ONCE: u32 = 30;
    let mut synthetic = Synthetic::default();
    for from in (0..STEPS).step_by(AT_ONCE as usize) {
        let mut series: Vec<Written> =
            (0..SERIES).map(|one| Written { labels: labels(one), samples: Vec::new() }).collect();
        for step in from..from + AT_ONCE {
            let stamp = NOW.before(STEP * (STEPS - 1 - step));
            series.iter_mut().zip(synthetic.step()).for_each(|(one, value)| one.samples.push((stamp, Some(value))));
        }
        let commit = Commit { appends: vec![Append::Written { origin: HostId(1 << 31), series }], records: Vec::new() };
        store.commit(commit).await.context("fill")?;
    }
    Ok(())
}

/// Those of `bench-query`: what it is called, what is asked, and when.
fn questions() -> Vec<(&'static str, &'static str, Moments)> {
    let (now, then) = (Moments::At(NOW), Moments::At(NOW.before(HOUR)));
    let minutes = Moments::Range { start: NOW.before(HOUR), end: NOW, step: Duration::from_secs(60) };
    let by_host = "sum by (host) (rate(m[1h]))";
    vec![
        ("one series, 1 h at 60 s", r#"m{host="host-42",id="60"}"#, minutes),
        ("topk(10) of 10,000, now", "topk(10, m)", now),
        ("topk(10) of 10,000, then", "topk(10, m)", then),
        ("sum by (host) (rate[1h]), now", by_host, now),
        ("sum by (host) (rate[1h]), then", by_host, then),
        ("1 h of rate[5m] by host at 60 s", "sum by (host) (rate(m[5m]))", minutes),
        ("max_over_time[1h], 1 h at 60 s", "max by (host) (max_over_time(m[1h]))", minutes),
        ("count of 10,000", "count(m)", now),
        ("10,000 series, now", "m", now),
    ]
}
