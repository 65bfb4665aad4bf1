//! What an aggregation takes, and what it holds, of ten times as many series again and again.

use std::fs;
use std::io::Write;
use std::process;
use std::time::Duration;
use std::time::Instant;

use aggregator::query::Engine;
use aggregator::query::Moments;
use aggregator::query::Turn;
use aggregator::query::parse;
use aggregator::store::Store;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::commit::Written;
use anyhow::Context as _;
use benches::millis;
use benches::process::resident;
use benches::process::resident_peak;
use benches::synthetic::SERIES;
use benches::synthetic::labels;
use common::batch::HostId;
use common::metric::NAME;
use common::time::Timestamp;

/// Selected at first.
const FEWEST: usize = 1_000;

/// Samples of each series: two minutes.
const SAMPLES: u32 = 12;

/// How often each is asked; what takes least counts.
const TIMES: u32 = 3;

/// Prints a line for each number of series up to `most`, each with a metric of its own.
pub(crate) async fn print(
    out: &mut impl Write,
    (store, engine): (&Store, &Engine),
    (now, step): (Timestamp, Duration),
    most: usize,
) -> anyhow::Result<()> {
    let counts = std::iter::successors(Some(FEWEST), |count| count.checked_mul(10));
    let counts: Vec<usize> = counts.take_while(|count| *count <= most).collect();
    for count in &counts {
        fill(store, (now, step), *count).await?;
    }
    writeln!(
        out,
        "{:<34}{:>10}{:>10}{:>16}{:>14}{:>10}",
        "", "series", "clock ms", "us a series", "samples held", "MB more"
    )?;
    for query in ["sum by (id) ({})", "sum by (id) (rate({}[2m]))", "topk(10, {})"] {
        for count in &counts {
            let asked = parse(&query.replace("{}", &metric(*count)))?;
            let (mut least, mut held, mut more) = (Duration::MAX, 0, 0);
            for _ in 0..TIMES {
                let before = resident(process::id())?;
                // From here on the kernel keeps anew what is resident at most.
                fs::write("/proc/self/clear_refs", "5")?;
                let began = Instant::now();
                let reply = engine.reply(&asked, Moments::At(now), &Turn::default())?;
                least = least.min(began.elapsed());
                held = reply.stats.samples_held;
                more = more.max(resident_peak(process::id())?.saturating_sub(before));
            }
            let (took, more) = (millis(least), more as f64 / 1e6);
            let each = 1_000.0 * took / *count as f64;
            writeln!(out, "{query:<34}{count:>10}{took:>10.2}{each:>16.3}{held:>14}{more:>10.1}")?;
        }
    }
    Ok(())
}

fn metric(count: usize) -> String {
    format!("m{count}")
}

/// So many series of a metric, ten thousand of each origin.
async fn fill(store: &Store, (now, step): (Timestamp, Duration), count: usize) -> anyhow::Result<()> {
    let metric = metric(count);
    for (origin, first) in (1_u32..).zip((0..count).step_by(SERIES)) {
        let series = (first..count.min(first + SERIES)).map(|one| Written {
            labels: labels(one).with(NAME, metric.as_str()),
            samples: (0..SAMPLES).rev().map(|ago| (now.before(step * ago), Some((one + 1) as f64))).collect(),
        });
        let series = series.collect();
        let commit = Commit {
            appends: vec![Append::Written { origin: HostId((1 << 31) + origin), series }],
            records: Vec::new(),
        };
        store.commit(commit).await.context("fill")?;
    }
    Ok(())
}
