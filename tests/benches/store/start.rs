//! What a start takes, and what the series of agents take in memory and in block files: windows of made hosts are stored by one process, and the
//! data directory is opened by another, as after `kill -9`. Arguments: hosts of 2,240 series (50), windows that they send (389: with
//! the next one a quarter of an hour would be sealed, so that memory holds as much as it ever does), what the series are (`moving`,
//! or `classes` as hosts have them), and, of the first process, where to store them.
//!
//! Prints; asserts only that everything is there again: machines are shared, and only ratios hold.

use std::env;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::process;
use std::process::Command;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use aggregator::store::Stats;
use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use benches::made::Made;
use benches::number;
use benches::process::cpu;
use benches::process::resident;
use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::schema::SchemaChange;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::State;

/// An hour begins, not the last of its day.
const HOUR: Timestamp = Timestamp::from_seconds(1_699_966_800);

/// What is sealed at once.
const QUARTER: Duration = Duration::from_secs(900);

/// How long after its end it is sealed.
const SEALED_AFTER: Duration = Duration::from_secs(300);

/// Until what came is over by more than an hour, and merged.
const MERGED_AFTER: Duration = Duration::from_secs(3 * 3_600);

/// How long sealing may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Real time between two looks.
const GLANCE: Duration = Duration::from_millis(20);

/// Hosts that send in one commit.
const HOSTS_IN_COMMIT: u32 = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let hosts = u32::try_from(number(arguments.next(), 50)?)?;
    let windows = u32::try_from(number(arguments.next(), 389)?)?;
    let set = arguments.next().unwrap_or_else(|| "moving".to_owned());
    let filling = arguments.next();
    let mut out = io::stdout().lock();
    let mut made = match set.as_str() {
        "moving" => Made::new(usize::MAX)?,
        "classes" => Made::of_classes(usize::MAX)?,
        other => bail!("the series are `moving` or `classes`, not {other}"),
    };
    let series = f64::from(hosts) * made.schema.series().len() as f64;
    let now = HOUR.after(WINDOW * windows);
    let unsealed = now.since(cut(now).max(HOUR)).as_secs_f64() / WINDOW.as_secs_f64();
    let samples = series * unsealed;
    let sent = sent(windows, &mut made);
    let clock = Clock::moved(HOUR);
    if let Some(dir) = filling {
        return fill(&mut out, (Path::new(&dir), &clock), hosts, (&made, &sent)).await;
    }

    let dir = tempfile::tempdir()?;
    // In a process of its own: memory that it gives back and the allocator keeps would hide what a start takes.
    let filled = Command::new(env::current_exe()?)
        .args([hosts.to_string(), windows.to_string(), set])
        .arg(dir.path())
        .status()?;
    ensure!(filled.success(), "not filled");
    clock.advance(now.since(HOUR));
    let (before, used, began) = (resident(process::id())?, cpu(process::id())?, Instant::now());
    let (store, writer) = open(dir.path(), &clock)?;
    store.has_read().await?;
    let (took, used) = (began.elapsed(), cpu(process::id())? - used);
    ensure!(store.stats().samples_total as f64 == samples, "not all is there again");
    tell_memory(&mut out, "when all is there again", before, series, store.stats().head_bytes)?;
    let decoded = decoded(&made, &sent)?;
    writeln!(
        out,
        "a start: {:.2} s, {:.1} M samples/s by the clock, {:.1} M/s of one core: {:.2} of the {:.1} that decoding reaches",
        took.as_secs_f64(),
        samples / took.as_secs_f64() / 1e6,
        samples / used.as_secs_f64() / 1e6,
        samples / used.as_secs_f64() / decoded,
        decoded / 1e6,
    )?;
    let all = series * f64::from(windows);
    clock.advance(QUARTER + SEALED_AFTER);
    settled(&store, |stats| stats.head_bytes == 0).await?;
    let sealed = store.stats().block_bytes;
    writeln!(out, "bytes a sample in files of a quarter of an hour: {:.2}", sealed as f64 / all)?;
    // Of one quarter nothing is merged.
    if QUARTER < WINDOW * windows {
        clock.advance(MERGED_AFTER);
        settled(&store, |stats| stats.block_bytes != sealed).await?;
        writeln!(out, "the same when the hour is merged: {:.2}", store.stats().block_bytes as f64 / all)?;
    }
    close(store, writer)
}

fn open(dir: &Path, clock: &Clock) -> anyhow::Result<(Store, JoinHandle<()>)> {
    let config = StoreConfig { settle_every: Some(GLANCE), ..StoreConfig::default() };
    let (store, writer) = Store::open(Lock::take(dir)?, config, clock.clone())?;
    Ok((store, thread::spawn(move || writer.run())))
}

fn close(store: Store, writer: JoinHandle<()>) -> anyhow::Result<()> {
    store.close();
    drop(store);
    writer.join().map_err(|_| anyhow::anyhow!("the writer ended early"))
}

/// Up to where is sealed at a moment.
fn cut(now: Timestamp) -> Timestamp {
    now.before(SEALED_AFTER).align_down(QUARTER)
}

/// What a host sends in an hour.
fn sent(windows: u32, made: &mut Made) -> Vec<EncodedBatch> {
    let mut state = State::default();
    let batch = |window: u32| {
        let stamp = HOUR.after(WINDOW * (window + 1));
        if EncodedBatch::quarter_begins(stamp) {
            state = State::default();
        }
        made.encoded((run(0), Seq(window.into())), stamp, &mut state)
    };
    (0..windows).map(batch).collect()
}

/// Stores what hosts send, each the same: what it is makes no difference to who stores it. Quarters are sealed when it is time.
/// Leaves everything as it stands then.
async fn fill(
    out: &mut impl io::Write,
    (dir, clock): (&Path, &Clock),
    hosts: u32,
    (made, sent): (&Made, &[EncodedBatch]),
) -> anyhow::Result<()> {
    let before = resident(process::id())?;
    let (store, _) = open(dir, clock)?;
    for host in 1..=hosts {
        let labels = Labels::new().with("instance", format!("host-{host}"));
        store.set_host_labels(HostId(host), labels).await?;
        let appends = vec![Append::Schema { host: HostId(host), run: run(host), change: of_host(made, host)? }];
        store.commit(Commit { appends, records: Vec::new() }).await?;
    }
    for batch in sent {
        clock.advance(WINDOW);
        if cut(clock.wall().before(WINDOW)).max(HOUR) < cut(clock.wall()) {
            let full = store.stats().head_bytes;
            settled(&store, |stats| stats.head_bytes < full).await?;
        }
        let of = |host| EncodedBatch { run: run(host), spool: SpoolId(run(host).0), ..batch.clone() };
        let all: Vec<u32> = (1..=hosts).collect();
        for some in all.chunks(HOSTS_IN_COMMIT as usize) {
            let append = |host: &u32| Append::Batch { host: HostId(*host), batch: of(*host) };
            store.commit(Commit { appends: some.iter().map(append).collect(), records: Vec::new() }).await?;
        }
    }
    let series = f64::from(hosts) * made.schema.series().len() as f64;
    writeln!(out, "{hosts} hosts: {:.2} M series, {:.0} M samples", series / 1e6, series * sent.len() as f64 / 1e6)?;
    tell_memory(out, "when all had come", before, series, store.stats().head_bytes)?;
    // Without a word to the store.
    process::exit(0)
}

fn run(host: u32) -> RunId {
    RunId(u128::from(host).to_le_bytes())
}

/// The schema as a host sends it: with containers of its own, and none of its text shared with another's.
fn of_host(made: &Made, host: u32) -> anyhow::Result<SchemaChange> {
    let mut change = made.schema.changes_since(0).next().context("no schema")?;
    for entity in change.entities.iter_mut().filter(|entity| !entity.labels.is_empty()) {
        let name = format!("{}-{host}", entity.labels.get("name"));
        let id =
            format!("/system.slice/docker-{name}-1a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f.scope");
        entity.labels = Labels::new().with("container", name.as_str()).with("name", name.as_str()).with("id", id);
    }
    change.columns.iter_mut().for_each(|column| {
        column.labels = column.labels.iter().collect();
    });
    Ok(change)
}

async fn settled(store: &Store, is_done: impl Fn(&Stats) -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_done(&store.stats()) {
        ensure!(began.elapsed() < PATIENCE, "nothing was sealed or merged");
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// Samples a second that one core decodes: no start can be faster than its cores decode.
fn decoded(made: &Made, sent: &[EncodedBatch]) -> anyhow::Result<f64> {
    const TIMES: u32 = 10;
    let (before, mut samples) = (cpu(process::id())?, 0);
    for _ in 0..TIMES {
        let mut state = State::default();
        for batch in sent {
            if batch.keyframe {
                state = State::default();
            }
            let against = Against { schema: &made.schema, version: batch.schema_version, stamp: batch.stamp };
            samples += codec::decode(batch.codec, &batch.payload, against, &mut state)?.samples.len();
        }
    }
    Ok(samples as f64 / (cpu(process::id())? - before).as_secs_f64())
}

fn tell_memory(out: &mut impl io::Write, when: &str, before: u64, series: f64, head: u64) -> anyhow::Result<()> {
    let resident = resident(process::id())?;
    let each = resident.saturating_sub(before) as f64 / series;
    let windows = head as f64 / series;
    writeln!(
        out,
        "{when}: {:.0} MB resident; {each:.0} bytes a series, {windows:.0} of them its windows",
        resident as f64 / 1e6
    )?;
    Ok(())
}
