//! What a small house writes in a day: the windows of three hosts, `up` and what is told of them, and an evaluation each
//! ten seconds, stored one group commit in each interval, with the quarters, the hours and the day that end meanwhile. Arguments: series of
//! each host (300), seconds between two commits (10), hours (24).
//!
//! Prints what the kernel counted for this process, whole pages of the file system. The clock is moved, so that a day takes
//! as long as its commits.

use std::io;
use std::io::Write as _;
use std::process;
use std::time::Duration;

use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use aggregator::store::record::Record;
use aggregator::store::record::alerts::Evaluated;
use aggregator::store::record::windows::Span;
use aggregator::store::record::windows::Windows;
use benches::made::Made;
use benches::number;
use benches::process::resident;
use benches::process::written;
use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::WINDOW;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::codec::State;

const HOSTS: u32 = 3;

/// Two hours before a day begins: what is measured finds room that others left.
const BEGINS: Timestamp = Timestamp::from_seconds(1_700_006_400 - 7_200);
const HOUR: Duration = Duration::from_secs(3_600);

/// The jobs that each host has an `up` of.
const JOBS: [&str; 3] = ["node", "cadvisor", "process"];

/// By how much the clock is moved at once.
const STEP: Duration = Duration::from_secs(5);

/// How often it is looked whether a quarter of an hour is to be sealed, in real time: there are some milliseconds between two commits.
const SETTLE_EVERY: Duration = Duration::from_millis(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let series = usize::try_from(number(arguments.next(), 300)?)?;
    let interval = Duration::from_secs(u64::try_from(number(arguments.next(), 10)?)?);
    let hours = u32::try_from(number(arguments.next(), 24)?)?;
    let (dir, clock) = (tempfile::tempdir()?, Clock::moved(BEGINS));
    let config =
        StoreConfig { commit_interval: Duration::ZERO, settle_every: Some(SETTLE_EVERY), ..StoreConfig::default() };
    let (store, writer) = Store::open(Lock::take(dir.path())?, config, clock.clone())?;
    let writer = std::thread::spawn(move || writer.run());

    let mut house = House::enter(&store, series).await?;
    house.live(&store, (&clock, interval), 2 * HOUR).await?;
    let (before, commits, payload) = (written(process::id())?, house.commits, house.payload);
    house.live(&store, (&clock, interval), hours * HOUR).await?;
    let (all, commits) = (written(process::id())? - before, house.commits - commits);
    writeln!(
        io::stdout().lock(),
        "{HOSTS} hosts of {series} series, a commit each {} s: {:.1} MB in {hours} h, of which {:.1} MB are what hosts sent; \
         {:.1} MB of block files then; {:.1} pages of 4 KiB a commit with all that is done between them; {:.0} MB resident",
        interval.as_secs(),
        all as f64 / 1e6,
        (house.payload - payload) as f64 / 1e6,
        store.stats().block_bytes as f64 / 1e6,
        all as f64 / 4_096.0 / commits as f64,
        resident(process::id())? as f64 / 1e6,
    )?;
    store.close();
    drop(store);
    writer.join().map_err(|_| anyhow::anyhow!("the writer ended early"))
}

/// Three hosts, and what waits for the next commit.
struct House {
    hosts: Vec<(HostId, Made, State)>,
    windows: u64,
    waiting: Commit,
    commits: u64,
    /// Bytes that the hosts sent.
    payload: usize,
}

impl House {
    async fn enter(store: &Store, series: usize) -> anyhow::Result<Self> {
        let mut hosts = Vec::new();
        for host in (1..=HOSTS).map(HostId) {
            let made = Made::of_classes(series)?;
            store.set_host_labels(host, instance(host)).await?;
            let schemas = made.schema.changes_since(0).map(|change| Append::Schema { host, run: run(host), change });
            store.commit(Commit { appends: schemas.collect(), records: Vec::new() }).await?;
            hosts.push((host, made, State::default()));
        }
        Ok(Self { hosts, windows: 0, waiting: Commit::default(), commits: 0, payload: 0 })
    }

    /// Lets so much time pass.
    async fn live(
        &mut self,
        store: &Store,
        (clock, interval): (&Clock, Duration),
        time: Duration,
    ) -> anyhow::Result<()> {
        let (began, mut committed) = (clock.wall(), clock.wall());
        while clock.wall() < began.after(time) {
            clock.advance(STEP);
            let now = clock.wall();
            if now == now.align_down(WINDOW) {
                self.window(now);
            }
            if interval <= now.since(committed) && !self.waiting.appends.is_empty() {
                store.commit(std::mem::take(&mut self.waiting)).await?;
                self.commits += 1;
                committed = now;
            }
        }
        Ok(())
    }

    /// What comes of a window.
    fn window(&mut self, stamp: Timestamp) {
        let first = stamp.before(WINDOW * u32::try_from(self.windows).unwrap_or(u32::MAX));
        for (host, made, state) in &mut self.hosts {
            if EncodedBatch::quarter_begins(stamp) {
                *state = State::default();
            }
            let batch = made.encoded((run(*host), Seq(self.windows)), stamp, state);
            self.payload += batch.payload.len();
            self.waiting.appends.push(Append::Batch { host: *host, batch });
            let spans = vec![Span { run: run(*host), first, last: stamp, excused: false }];
            let windows = Windows { host: *host, settled: first, spans, missing: 0 };
            self.waiting.records.push(Record::Windows(windows));
        }
        self.windows += 1;
        let named = |name: &str| Labels::new().with(NAME, name);
        let up = self.hosts.iter().flat_map(|(host, ..)| {
            let up = JOBS.map(|job| (named("up").and(&instance(*host)).with("job", job), 1.0));
            up.into_iter().chain([(named("lapwing_windows_missing_total").and(&instance(*host)), 0.0)])
        });
        let own = [vec![(named("lapwing_blind"), 0.0)], up.collect()];
        self.waiting.appends.extend(own.map(|samples| Append::Own { stamp, samples }));
        self.waiting.records.push(Record::Evaluated(Evaluated { through: stamp }));
    }
}

fn instance(host: HostId) -> Labels {
    Labels::new().with("instance", format!("host-{}", host.0))
}

fn run(host: HostId) -> RunId {
    RunId(u128::from(host.0).to_le_bytes())
}
