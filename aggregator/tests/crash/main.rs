//! The store on a disk that loses power, at moments by chance: what was not synced is lost, torn and out of order. What
//! was acknowledged is there, each commit as a whole or not at all, and nothing is damaged.
//!
//! A child does its work under `strace`; its writes make images of disks, and the store is opened on each.
//! `LAPWING_CRASHES=10000 SEED=7` tries more, and others.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod disk;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use aggregator::store::select::Field;
use aggregator::store::select::Grains;
use aggregator::store::select::Is;
use aggregator::store::select::Matcher;
use aggregator::store::select::Question;
use aggregator::store::select::SelectError;
use aggregator::store::select::Selected;
use aggregator::store::verify::verify;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::disk::Call;
use crate::disk::Chance;
use crate::disk::Disk;

/// Names the directory to a child.
const CHILD: &str = "LAPWING_CRASH_CHILD";

/// Commits of a child, ten minutes of their time apart: hours are sealed meanwhile, and days merged.
const COMMITS: u64 = 300;
const APART: Duration = Duration::from_secs(600);

/// Series of each commit.
const SERIES: usize = 3;

/// Images of a disk that lies.
const LIES: usize = 20;

/// Images, unless it is said how many.
const CRASHES: usize = 200;

fn stamp(commit: u64) -> Timestamp {
    (0..commit).fold(Timestamp::from_seconds(1_000_000), |at, _| at.after(APART))
}

#[expect(clippy::cast_precision_loss, reason = "it is small")]
const fn value(commit: u64) -> f64 {
    commit as f64
}

fn labels(series: usize) -> Labels {
    Labels::new().with(NAME, "m").with("series", series.to_string())
}

/// What a child does: commits, one after the other, and says so.
#[test]
fn child() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let clock = Clock::moved(stamp(0));
    let settle_every = Some(Duration::from_millis(1));
    let config = StoreConfig { commit_interval: Duration::ZERO, settle_every, ..StoreConfig::default() };
    let lock = Lock::take(Path::new(&dir)).unwrap();
    let (store, writer) = Store::open(lock, config, clock.clone()).unwrap();
    let writing = std::thread::spawn(move || writer.run());
    let mut out = fs::File::create(Path::new(&dir).with_extension("said")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for commit in 1..=COMMITS {
        clock.advance(APART);
        let samples = (0..SERIES).map(|series| (labels(series), value(commit))).collect();
        let appends = vec![Append::Own { stamp: stamp(commit), samples }];
        runtime.block_on(store.commit(Commit { appends, records: Vec::new() })).unwrap();
        out.write_all(format!("stored {commit}\n").as_bytes()).unwrap();
    }
    store.close();
    writing.join().unwrap();
}

/// What a child did, a line each; nothing where `strace` is not installed, or may not trace.
fn recorded(dir: &Path) -> Option<Vec<Call>> {
    Command::new("strace").arg("true").output().ok().filter(|tried| tried.status.success())?;
    let calls = "trace=openat,pwrite64,write,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";
    let log = dir.join("log");
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let child = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "1000000", "-e", calls, "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(CHILD, &data)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let log = String::from_utf8(fs::read(log).unwrap()).unwrap();
    Some(log.lines().filter_map(Call::read).collect())
}

/// What is wrong with an image.
fn judge(image: &Path, acknowledged: u64) -> Result<(), String> {
    let damage = verify(image);
    if 0 < acknowledged && !damage.is_empty() {
        return Err(format!("damaged: {damage:?}"));
    }
    let lock = Lock::take(image).map_err(|error| error.to_string())?;
    let config = StoreConfig { settle_every: None, ..StoreConfig::default() };
    let clock = Clock::moved(stamp(acknowledged + 1));
    let (store, _writer) = Store::open(lock, config, clock).map_err(|error| error.to_string())?;
    let mut found: BTreeMap<(Timestamp, u64), usize> = BTreeMap::new();
    let matchers = [Matcher { name: NAME.to_owned(), is: Is::Equal("m".to_owned()) }];
    let range = TimeRange { after: Timestamp::from_millis(0), through: stamp(COMMITS + 1) };
    let fields = [Field::Last];
    let question = Question { matchers: &matchers, range, fields: &fields, latest: false, grains: Grains::default() };
    store
        .select(question, &mut |selected: Selected<'_>| {
            for (at, value) in selected.samples.stamps.iter().zip(&selected.samples.columns[0]) {
                *found.entry((*at, value.to_bits())).or_default() += 1;
            }
            Ok::<_, SelectError>(())
        })
        .map_err(|error| error.to_string())?;
    // The one under way is there or not.
    let under_way = found.remove(&(stamp(acknowledged + 1), value(acknowledged + 1).to_bits()));
    let expected: BTreeMap<_, _> =
        (1..=acknowledged).map(|commit| ((stamp(commit), value(commit).to_bits()), SERIES)).collect();
    let lost = expected.iter().find(|(sample, count)| found.get(sample) != Some(count));
    match (lost, found.len() == expected.len(), under_way) {
        (Some(lost), ..) => Err(format!("of {lost:?} there is {:?}", found.get(lost.0))),
        (None, false, _) => Err("there is what nobody wrote".to_owned()),
        (None, true, Some(part)) if part != SERIES => Err(format!("of a commit there are {part}")),
        (None, true, _) => Ok(()),
    }
}

/// Loses the power so many times, of a disk that may lie. Answers how often something was not on it yet, and what was wrong.
fn crash(
    calls: &[Call],
    data: &Path,
    (seed, crashes): (u64, usize),
    lies_about: Option<&'static str>,
) -> (usize, Vec<String>) {
    let mut disk = Disk::new(data, lies_about);
    let mut moments = Chance(seed);
    let mut chosen: Vec<usize> = (0..crashes).map(|_| moments.below(calls.len())).collect();
    chosen.sort_unstable();
    let (mut done, mut behind, mut wrong) = (0, 0, Vec::new());
    for (number, at) in (seed..).zip(chosen) {
        calls[done..at].iter().for_each(|call| disk.apply(call));
        done = at;
        behind += usize::from(disk.is_behind());
        let image = tempfile::tempdir().unwrap();
        disk.lose_power(image.path(), &mut Chance(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        let acknowledged = disk.acknowledged.last().copied().unwrap_or(0);
        if let Err(why) = judge(image.path(), acknowledged) {
            wrong.push(format!("after {at} of {} calls, {acknowledged} commits: {why}", calls.len()));
        }
    }
    (behind, wrong)
}

#[test]
#[expect(clippy::print_stderr, reason = "what is left out is to be seen")]
fn what_was_acknowledged_survives_the_loss_of_power() {
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = recorded(dir.path()) else {
        eprintln!("crash: SKIPPED: strace is not installed (Debian: package strace), or may not trace here");
        return;
    };
    let number = |name: &str| env::var_os(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or(1);
    let crashes = number("LAPWING_CRASHES").map_or(CRASHES, |crashes| usize::try_from(crashes).unwrap());
    let data = dir.path().join("data");
    let mut disk = Disk::new(&data, None);
    calls.iter().for_each(|call| disk.apply(call));
    assert_eq!(disk.acknowledged.len() as u64, COMMITS, "all is in what was written down");
    assert!(disk.has_block_files(), "hours were sealed meanwhile");
    let (behind, wrong) = crash(&calls, &data, (seed, crashes), None);
    assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
    assert!(crashes / 2 < behind, "{behind} of {crashes} times something was under way");
    // What a disk says that it has and has not is missed: the log, as with `PRAGMA synchronous = OFF`, and block files.
    for lies_about in ["-wal", "/raw/"] {
        let (_, wrong) = crash(&calls, &data, (seed, LIES), Some(lies_about));
        assert!(LIES / 4 < wrong.len(), "{lies_about}: {wrong:#?}");
    }
}
