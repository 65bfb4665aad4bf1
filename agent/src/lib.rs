//! The agent: samples one host, folds ticks into windows, ships batches.

pub mod collect;
pub mod config;
pub mod host;
pub mod identify;
pub mod labels;
pub mod mask;
pub mod once;
pub mod recorder;
pub mod sampler;
pub mod spool;
pub mod telemetry;
pub mod uplink;
pub mod window;

use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::anyhow;
use anyhow::bail;
use common::batch::RunId;
use common::batch::SpoolId;
use common::batch::TICK;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::message::Lineage;
use common::wire::message::Reason;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use config::Config;
use config::Given;
use host::Host;
use sampler::Sampler;
use spool::Figures;
use spool::Limits;
use spool::Spool;
use spool::directory;
use spool::directory::Directory;
use uplink::Uplink;
use uplink::UplinkError;
use uplink::dialogue::Introduction;
use uplink::settings::Settings;
use window::Stamps;

/// Ticks on their way to the sampling thread: one. A second means that the thread is late, and then the two become one
/// longer interval.
const TICKS_WAITING_MAX: usize = 1;

/// Where in the second this agent samples: behind the edge, so that no jitter moves a tick into another window, and close
/// to it, so that work which timers start with a second fills one tick and its peak is whole; spread, so that the guests
/// of one machine do not all wake at once.
const PHASE_MS: (u64, u64) = (20, 80);

/// How long the disk may take at the stop to store what was not acknowledged.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until `stop`, or until something fails that must not. `ticked` shows the stamp of the latest tick that was
/// folded: tests wait for it.
///
/// # Errors
/// When a part of the agent fails or ends before it was told to.
pub async fn run(
    config: Config,
    clock: Clock,
    stop: CancellationToken,
    ticked: watch::Sender<Timestamp>,
) -> anyhow::Result<()> {
    tracing::info!(descriptors = host::raise_descriptor_limit(), version = env!("CARGO_PKG_VERSION"), "agent starts");
    let (mut dropped, given) = (0, watch::Sender::new(Settings::kept(&config.uplink.state_dir)));
    loop {
        let ended = live((&config, &given), &clock, stop.child_token(), ticked.clone(), dropped).await;
        match ended.as_ref().map_err(|error| error.downcast_ref()) {
            Err(Some(UplinkError::Copied(all))) if !stop.is_cancelled() => {
                tracing::warn!(dropped = all - dropped, "this process runs twice, with its memory copied: begins anew");
                dropped = *all;
            }
            Ok(()) | Err(_) => return ended,
        }
    }
}

/// The agent under one identity of its process: its runs and spools are named by chance. `dropped` is how many batches the
/// lives before had to drop, because the process had been copied with its memory.
async fn live(
    (config, given): (&Config, &watch::Sender<Given>),
    clock: &Clock,
    stop: CancellationToken,
    ticked: watch::Sender<Timestamp>,
    dropped: u64,
) -> anyhow::Result<()> {
    let introduction = introduction(config);
    let stamps = uplink::time::stamps(&config.uplink.state_dir, introduction.boot_id, clock);
    let denied: Vec<_> = host::denied(&config.roots).map(|sight| sight.name).collect();
    if !denied.is_empty() {
        tracing::info!(
            denied = denied.join(" "),
            "may not see all of this host; `lapwing-agent check-config` says why"
        );
    }
    let first_run = RunId(random()?);
    let spool = Spool::with_limits(first_run, SpoolId(random()?), Limits::new(config.spool));
    spool.count_dropped(dropped);
    let directory = Directory::new(config.uplink.state_dir.join("spool"));
    directory.each(|number, file| spool.adopt(number, file));
    report_found(&spool.figures());
    let [jitter, ..] = random::<1>()?;
    let (first, last) = PHASE_MS;
    let phase = Duration::from_millis(first + (last - first) * u64::from(jitter) / 256);

    let (ticks, due) = mpsc::sync_channel(TICKS_WAITING_MAX);
    let mut sampler = Sampler::new(config, clock.clone(), stamps.clone(), spool.clone());
    sampler.follow(given.subscribe());
    if 0 < dropped {
        sampler.event("process_copied", format!("the agent ran twice, with its memory copied: {dropped} windows lost"));
    }
    let last = CancellationToken::new();
    let mut keeper = JoinSet::new();
    keeper.spawn(directory::keep(spool.clone(), directory, clock.clone(), last.clone()));
    let uplink = Uplink {
        introduction,
        config: config.uplink.clone(),
        spool,
        recorder: sampler.recorder(),
        counts: sampler.counts(),
        settings: Settings { given: given.clone(), pinned: config.pinned },
        first_run,
        stamps: stamps.clone(),
        clock: clock.clone(),
        farewell: || Reason::Stopped,
    };
    let sampled = start_sampling(sampler, due, ticked)?;
    let mut parts = JoinSet::new();
    parts.spawn(async { sampled.await.context("the sampling thread vanished") });
    parts.spawn(tick(clock.clone(), stamps.clone(), phase, ticks, stop.clone()));
    parts.spawn({
        let stop = stop.clone();
        async { uplink.run(stop).await.context("ship") }
    });
    let ended = end(parts, &stop).await;
    // Nothing comes any more, and nothing is acknowledged: what is left goes to disk.
    last.cancel();
    if timeout(LEAVE_TIMEOUT, keeper.join_next()).await.is_err() {
        tracing::warn!("the disk did not take what is left of the spool in time");
    }
    ended
}

fn report_found(figures: &Figures) {
    let Figures { depth, disk_bytes, corrupt_total, .. } = figures;
    if 0 < *depth {
        tracing::info!(batches = depth, bytes = disk_bytes, "an earlier run left batches: they are sent");
    }
    if 0 < *corrupt_total {
        tracing::warn!(
            files = corrupt_total,
            "files of the spool are not what was written: what follows there is lost"
        );
    }
}

/// Who the agent says that it is. A tree without a boot id, as captured ones are, was never booted.
fn introduction(config: &Config) -> Introduction {
    let mut host = Host::new(config.roots.clone());
    let boot_id = host.read_once(&config.roots.procfs.join("sys/kernel/random/boot_id"));
    Introduction {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.ok().and_then(parse_boot_id).unwrap_or_default(),
        hostname: config.instance.clone().unwrap_or_else(|| host::uname().nodename),
        labels: config.labels.clone(),
        lineage: Lineage::default(),
    }
}

/// `4a2f…-…`: hexadecimal digits and dashes.
fn parse_boot_id(text: &[u8]) -> Option<[u8; 16]> {
    let digits: String = str::from_utf8(text).ok()?.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then(|| number.to_be_bytes())
}

/// Waits for all parts. The source of ticks ends by the stop token, the others when their input does; one that ends
/// before takes all with it.
async fn end(mut parts: JoinSet<anyhow::Result<()>>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        let ended = ended.context("a part of the agent panicked").flatten();
        let in_time = if stop.is_cancelled() { Ok(()) } else { Err(anyhow!("a part of the agent ended by itself")) };
        stop.cancel();
        result = result.and(ended).and(in_time);
    }
    result
}

/// Says when a tick is due: once a second of stamp time, `phase` behind its edge.
async fn tick(
    clock: Clock,
    stamps: Stamps,
    phase: Duration,
    ticks: SyncSender<()>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut due = first_due(stamps.at(clock.boot()), phase);
    loop {
        let boot = clock.boot();
        let stamp = stamps.at(boot);
        // Stamps that moved back a little make one longer interval, not a second tick at the edge just sampled.
        if TICK < stamp.since(due) || TICK + TICK / 2 < due.since(stamp) {
            due = first_due(stamp, phase);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = clock.sleep_until_boot(boot + due.since(stamp)) => {}
        }
        due = due.after(TICK);
        if let Err(TrySendError::Disconnected(())) = ticks.try_send(()) {
            bail!("nobody samples");
        }
    }
}

/// The next moment that lies `phase` behind the edge of a second.
fn first_due(stamp: Timestamp, phase: Duration) -> Timestamp {
    stamp.before(phase).align_down(TICK).after(TICK + phase)
}

/// Samples on a thread of its own until nobody says any more when. The open window is dropped then.
fn start_sampling(
    mut sampler: Sampler,
    due: Receiver<()>,
    ticked: watch::Sender<Timestamp>,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, result) = oneshot::channel();
    let sample = move || {
        let mut ticks: u64 = 0;
        for () in due {
            ticked.send_replace(sampler.tick());
            ticks += 1;
        }
        tracing::info!(ticks, "sampling ended");
        // Nobody listens when the agent ends for another reason.
        let _heard = ended.send(());
    };
    thread::Builder::new().name("sampler".to_owned()).spawn(sample).context("start the sampling thread")?;
    Ok(result)
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("get randomness: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use common::config::Layers;

    use super::*;

    #[tokio::test]
    async fn ticks_come_until_the_stop_and_end_the_sampling_with_them() {
        let clock = Clock::moved(Timestamp::from_seconds(1_000_000));
        let stamps = Stamps::new(clock.wall(), clock.boot());
        let config = Config::read(&Layers::default()).unwrap();
        let spool = Spool::new(RunId([1; 16]), SpoolId([2; 16]));
        let sampler = Sampler::new(&config, clock.clone(), stamps.clone(), spool);
        let ticked = watch::Sender::default();
        let mut latest = ticked.subscribe();
        let (ticks, due) = mpsc::sync_channel(TICKS_WAITING_MAX);
        let sampled = start_sampling(sampler, due, ticked).unwrap();
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        parts.spawn(async { sampled.await.context("vanished") });
        parts.spawn(tick(clock.clone(), stamps, TICK / 4, ticks, stop.clone()));
        let mut seen = Vec::new();
        while seen.len() < 5 {
            clock.advance(TICK / 4);
            tokio::task::yield_now().await;
            if latest.has_changed().unwrap() {
                seen.push(*latest.borrow_and_update());
            }
        }
        assert!(seen.is_sorted_by(|earlier, later| earlier < later), "{seen:?}");
        stop.cancel();
        end(parts, &stop).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_ends_the_agent_with_an_error() {
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        let waiting = stop.clone();
        parts.spawn(async move {
            waiting.cancelled().await;
            Ok(())
        });
        parts.spawn(async { Ok(()) });
        assert_eq!(end(parts, &stop).await.unwrap_err().to_string(), "a part of the agent ended by itself");
    }
}
