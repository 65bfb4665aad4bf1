//! Windows that will not come are counted: an agent dies, and the next one sends what it left on disk.

use agent::config::DiskLimits;
use agent::spool::Limits;
use agent::spool::shelf::Job;
use common::time::TimeRange;

use super::*;

/// A spool of a process of its own.
fn spool(run: u8) -> Spool {
    let disk = DiskLimits { bytes_max: 1 << 20, age_max: Duration::from_secs(1 << 20) };
    Spool::with_limits(RunId([run; 16]), SpoolId([run; 16]), Limits::new(disk))
}

/// Everything that is not acknowledged, as a disk would keep it.
fn left(spool: &Spool) -> Vec<u8> {
    spool.leave();
    let mut file = Vec::new();
    while let Some(job) = spool.job(Duration::ZERO) {
        if let Job::Append { bytes, .. } = job {
            file.extend(bytes);
        }
        spool.done(Ok(Vec::new()), Duration::ZERO);
    }
    file
}

impl Bench {
    /// A process of the agent that pushes windows, `at` seconds from `start`, and dies when they are acknowledged.
    async fn live(&self, state: &Path, join: Option<String>, spool: &Spool, file: &[u8]) {
        let uplink = Uplink { spool: spool.clone(), ..self.uplink(state, join) };
        let died = async {
            while 0 < spool.figures().depth {
                if let Some(job) = spool.job(Duration::ZERO) {
                    let read = matches!(job, Job::Read { .. }).then(|| file.to_vec());
                    spool.done(Ok(read.unwrap_or_default()), Duration::ZERO);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let stop = CancellationToken::new();
        let over = async {
            tokio::select! {
                ended = uplink.run(stop) => ended.unwrap(),
                () = died => {}
            }
        };
        timeout(PATIENCE, over).await.unwrap();
    }

    fn told(&self) -> Vec<String> {
        let ever = TimeRange { after: Timestamp::default(), through: self.clock.wall().after(Duration::from_secs(60)) };
        let missing = self.store.events(None, ever).into_iter().filter(|(_, event)| event.kind == "windows_missing");
        missing.map(|(_, event)| event.text.split(':').next().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hole_that_an_agent_left_is_counted_when_its_disk_has_drained() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let token = bench.token(1, Wanted::default()).await;
    let start = bench.clock.wall().align_down(Duration::from_secs(10)).before(Duration::from_secs(1_000));
    let push = |spool: &Spool, windows: std::ops::Range<u64>| {
        for window in windows {
            spool.push(&batch(start.after(Duration::from_secs(10 * window))), &schema(), bench.clock.boot());
        }
    };
    let first = spool(1);
    push(&first, 0..10);
    bench.live(state.path(), Some(token), &first, &[]).await;
    // Five windows more reach the disk, and the process dies; four are lost with it.
    push(&first, 10..15);
    let file = left(&first);
    let second = spool(2);
    second.adopt(0, &file);
    push(&second, 19..25);
    bench.live(state.path(), None, &second, &file).await;
    assert_eq!(bench.told(), ["4 windows are missing, 40 s"]);
    assert_eq!(bench.counters.batches_total.get(), 21);
    drop(bench.end().await);
}
