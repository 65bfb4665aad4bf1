//! Containers that live a minute, for days: what memory holds depends on what is active, not on what there ever was.
//!
//! `LAPWING_CHURN=28x100` takes so many days with so many containers an hour, and `--nocapture` shows what each week leaves.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]
#![expect(clippy::disallowed_methods, reason = "the one variable that says how much is to be churned")]
#![expect(clippy::print_stderr, reason = "shows what each week leaves")]

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::commit::Written;
use aggregator::store::lock::Lock;
use aggregator::store::select::Field;
use aggregator::store::select::Grains;
use aggregator::store::select::Is;
use aggregator::store::select::Matcher;
use aggregator::store::select::Question;
use aggregator::store::select::SelectError;
use common::batch::HostId;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::TimeRange;
use common::time::Timestamp;

const ORIGIN: HostId = HostId(7);
const SERIES: usize = 20;
const HOUR: Duration = Duration::from_secs(3_600);

/// Sealing takes milliseconds; a hung test must not cost more than this.
const PATIENCE: Duration = Duration::from_secs(60);

struct Churn {
    store: Store,
    clock: Clock,
    containers_per_hour: usize,
}

/// A container that lives a minute from `begin` on, and is marked as ended then.
fn container(name: &str, begin: Timestamp) -> Append {
    let window = |at: u64| begin.after(Duration::from_secs(10 * at));
    let written = |series: usize| Written {
        labels: Labels::new()
            .with(NAME, format!("container_metric_{series}"))
            .with("job", "cadvisor")
            .with("instance", "web-1")
            .with("container", name)
            .with("image", "registry.example/batch:1"),
        samples: (1..=6)
            .map(|at| (window(at), Some(f64::from(u32::try_from(at).unwrap()))))
            .chain([(window(7), None)])
            .collect(),
    };
    Append::Written { origin: ORIGIN, series: (0..SERIES).map(written).collect() }
}

impl Churn {
    async fn hour(&self, hour: usize) {
        let begin = self.clock.wall();
        let apart = HOUR / u32::try_from(self.containers_per_hour).unwrap();
        for at in 0..self.containers_per_hour {
            let begin = begin.after(apart * u32::try_from(at).unwrap());
            let appends = vec![container(&format!("job-{hour}-{at}"), begin)];
            self.store.commit(Commit { appends, records: Vec::new() }).await.unwrap();
        }
        self.clock.advance(HOUR);
        // A container that began at its end is sealed with the next.
        let until = Instant::now() + PATIENCE;
        while 2 * self.containers_per_hour * SERIES < usize::try_from(self.store.stats().series).unwrap() {
            assert!(Instant::now() < until, "hour {hour}: {} series in memory", self.store.stats().series);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What one container of long ago left.
    fn samples_of(&self, name: &str) -> Vec<usize> {
        let range = TimeRange { after: Timestamp::default(), through: self.clock.wall() };
        let matchers = [Matcher { name: "container".to_owned(), is: Is::Equal(name.to_owned()) }];
        let question =
            Question { matchers: &matchers, range, fields: &[Field::Count], latest: false, grains: Grains::default() };
        let mut found = Vec::new();
        let mut give = |selected: aggregator::store::select::Selected<'_>| {
            found.push(selected.samples.len());
            Ok::<_, SelectError>(())
        };
        self.store.select(question, &mut give).unwrap();
        found
    }
}

fn bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_holds_does_not_grow_with_what_ended() {
    let asked = env::var("LAPWING_CHURN").ok();
    let (days, containers_per_hour) = asked.as_deref().and_then(|asked| asked.split_once('x')).unwrap_or(("3", "5"));
    let (days, containers_per_hour): (usize, usize) = (days.parse().unwrap(), containers_per_hour.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::moved(Timestamp::from_seconds(1_000_000_800));
    let config = || StoreConfig {
        commit_interval: Duration::ZERO,
        settle_every: Some(Duration::from_millis(1)),
        ..StoreConfig::default()
    };
    let open = || Store::open(Lock::take(dir.path()).unwrap(), config(), clock.clone()).unwrap();
    let (store, writer) = open();
    let writer = std::thread::spawn(move || writer.run());
    let churn = Churn { store, clock: clock.clone(), containers_per_hour };
    for hour in 0..24 * days {
        churn.hour(hour).await;
        if (hour + 1) % (24 * 7) == 0 {
            let stats = churn.store.stats();
            eprintln!(
                "day {:>3}: {} series in memory, {} head bytes, {} KiB resident, block files {} KiB, on disk {} KiB",
                (hour + 1) / 24,
                stats.series,
                stats.head_bytes,
                resident_kib(),
                stats.block_bytes / 1_024,
                bytes(dir.path()) / 1_024,
            );
        }
    }
    let asked = Instant::now();
    assert_eq!(churn.samples_of("job-10-1").len(), SERIES);
    eprintln!("a container of long ago: {:?}", asked.elapsed());
    churn.store.close();
    writer.join().unwrap();
    drop(churn);
    let opened = Instant::now();
    let (store, writer) = open();
    eprintln!("a start: {:?}, {} series", opened.elapsed(), store.stats().series);
    assert!(store.stats().series <= u64::try_from(2 * containers_per_hour * SERIES).unwrap());
    store.close();
    writer.run();
}
