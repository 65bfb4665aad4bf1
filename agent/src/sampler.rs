//! One tick after the other: read, fold, and hand over each window that closes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::batch::Batch;
use common::batch::Event;
use common::batch::WINDOW;
use common::metric::Decimals;
use common::metric::Labels;
use common::schema::SERIES_PER_HOST_MAX;
use common::time::Clock;
use common::time::Timestamp;
use tokio::sync::watch;

use crate::collect::Collectors;
use crate::collect::Moment;
use crate::collect::OwnCounts;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::config::Config;
use crate::config::Given;
use crate::host::Host;
use crate::recorder::Recorder;
use crate::spool::Spool;
use crate::window::Stamps;
use crate::window::Windower;

/// A tick that comes this long after the one before, half a tick more than it should, is late.
const LATE_AFTER: Duration = Duration::from_millis(1_500);

/// The host's wall clock may wander from the stamps by this much between two ticks; more is a step.
const STEP: Duration = Duration::from_secs(1);

/// The boot clock runs ahead of the monotonic one by what the machine slept; less than this is no suspension.
const SUSPENDED: Duration = Duration::from_secs(1);

/// What the sampling thread owns.
pub struct Sampler {
    /// What the host's own configuration says.
    own_config: Config,
    /// What is in force: that, and what the aggregator gave.
    config: Config,
    given: Option<watch::Receiver<Given>>,
    clock: Clock,
    stamps: Stamps,
    spool: Spool,
    host: Host,
    samples: Samples,
    collectors: Collectors,
    windower: Windower,
    recorder: Recorder,
    own: Arc<OwnCounts>,
    /// The monotonic clock at the latest tick.
    latest: Option<Duration>,
    /// How long the machine had been suspended since it booted, at the latest tick.
    asleep: Duration,
    /// How far stamps were ahead of the wall clock at the latest tick, in milliseconds.
    offset_ms: i64,
}

impl Sampler {
    /// Samples what `config` says into `spool`.
    #[must_use]
    pub fn new(config: &Config, clock: Clock, stamps: Stamps, spool: Spool) -> Self {
        let own = Arc::new(OwnCounts::default());
        let mut samples = Samples::default();
        let collectors = Collectors::new(config, Arc::clone(&own), clock.clone(), &mut samples);
        let mut sampler = Self {
            own_config: config.clone(),
            config: config.clone(),
            given: None,
            host: Host::new(config.roots.clone()),
            offset_ms: stamps.at(clock.boot()).as_millis() - clock.wall().as_millis(),
            windower: Windower::default(),
            recorder: Recorder::default(),
            latest: None,
            asleep: asleep(&clock),
            clock,
            stamps,
            spool,
            samples,
            collectors,
            own,
        };
        sampler.event("agent_started", format!("agent {} started", env!("CARGO_PKG_VERSION")));
        sampler
    }

    /// Follows what the aggregator gives of the configuration, from the next window on.
    pub fn follow(&mut self, mut given: watch::Receiver<Given>) {
        given.mark_changed();
        self.given = Some(given);
        // Nothing is sampled yet: the first window has it.
        if self.reconfigure() {
            let events = self.samples.take_events();
            self.begin_anew();
            events.into_iter().for_each(|event| self.samples.event(event));
        }
    }

    /// The flight recorder that it fills.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// What it shows of the rest of the agent.
    #[must_use]
    pub fn counts(&self) -> Arc<OwnCounts> {
        Arc::clone(&self.own)
    }

    /// Samples once. Returns the stamp of the tick.
    pub fn tick(&mut self) -> Timestamp {
        let stamp = self.stamps.at(self.clock.boot());
        let moment = self.moment(stamp);
        if let Some(batch) = self.windower.advance(stamp) {
            self.hand_over(batch);
        }
        self.count(moment);
        let moment = Moment { first_in_window: self.windower.begins(stamp), ..moment };
        self.collectors.tick(&mut Tick { host: &mut self.host, samples: &mut self.samples, moment });
        self.record(moment);
        self.own.samples.fetch_add(self.samples.values().len() as u64, Relaxed);
        if let Some(batch) = self.windower.fold(&self.samples, stamp, moment.now) {
            self.hand_over(batch);
        }
        stamp
    }

    fn record(&self, moment: Moment) {
        let decimals = |series| self.samples.meaning(series).map_or(Decimals::FULL, |(_, decimals)| decimals);
        self.recorder.record(moment.stamp, moment.slowest_due(), self.samples.values(), decimals);
    }

    fn moment(&self, stamp: Timestamp) -> Moment {
        Moment {
            stamp,
            now: self.clock.monotonic(),
            wall: self.clock.wall(),
            window: stamp.align_up(WINDOW),
            first_in_window: false,
            patience: Duration::ZERO,
        }
    }

    fn hand_over(&mut self, batch: Batch) {
        let processes = self.collectors.processes(&mut self.host);
        let batch = Batch { processes, events: self.samples.take_events(), ..batch };
        self.spool.push(&batch, self.samples.settle(), self.clock.boot());
        if self.reconfigure() {
            self.begin_anew();
            self.windower.renew(&[]);
            self.recorder.renew();
            self.spool.renew();
            return;
        }
        let was_full = self.samples.is_full();
        if let Some(mut stood) = self.samples.renew() {
            if was_full {
                stood.clear();
                self.begin_anew();
            }
            tracing::debug!(series = stood.len(), "most series of this run are gone: a new run begins with the others");
            self.windower.renew(&stood);
            self.recorder.renew();
            self.spool.renew();
        }
    }

    /// Takes over what was given meanwhile. Whether anything is meant otherwise than before.
    fn reconfigure(&mut self) -> bool {
        let Some(given) = self.given.as_mut().filter(|given| given.has_changed().unwrap_or(false)) else {
            return false;
        };
        let config = self.own_config.and(&given.borrow_and_update());
        let changed = config != self.config;
        self.config = config;
        changed
    }

    /// Collectors hold keys of series that found no room: they begin anew, and everything gets its room.
    fn begin_anew(&mut self) {
        self.samples = self.samples.anew();
        self.collectors = Collectors::new(&self.config, Arc::clone(&self.own), self.clock.clone(), &mut self.samples);
    }

    /// Brings up to date what the agent counts about itself, and reports what happened to the host's clocks.
    fn count(&mut self, moment: Moment) {
        let late = self.latest.is_some_and(|latest| LATE_AFTER < moment.now.saturating_sub(latest));
        self.own.late_ticks.fetch_add(u64::from(late), Relaxed);
        self.latest = Some(moment.now);

        let refused = self.own.refused_series.swap(self.samples.refused_total(), Relaxed);
        if refused == 0 && 0 < self.samples.refused_total() {
            tracing::warn!(series = SERIES_PER_HOST_MAX, "this host has too many series: new ones are left out");
            self.event("series_refused", format!("more than {SERIES_PER_HOST_MAX} series: new ones are left out"));
        }
        self.count_spool();
        let recorded = self.recorder.oldest().map_or(0, |oldest| moment.stamp.since(oldest).as_secs());
        self.own.recorded_seconds.store(recorded, Relaxed);
        self.own.skipped_windows.store(self.windower.skipped_total(), Relaxed);

        let asleep = asleep(&self.clock);
        let slept = asleep.saturating_sub(std::mem::replace(&mut self.asleep, asleep));
        if SUSPENDED <= slept {
            self.event("suspended", format!("the host was suspended for {} s", slept.as_secs()));
        }
        let offset_ms = moment.stamp.as_millis() - moment.wall.as_millis();
        let step_ms = self.offset_ms - offset_ms;
        if STEP <= Duration::from_millis(step_ms.unsigned_abs()) {
            tracing::warn!(step_ms, "the host's clock and the stamps moved against each other");
            self.event("clock_stepped", format!("the host's clock moved by {step_ms} ms against the aggregator's"));
        }
        self.offset_ms = offset_ms;
        self.own.clock_offset_ms.store(offset_ms, Relaxed);
    }

    fn count_spool(&mut self) {
        let figures = self.spool.figures();
        self.own.spool_batches.store(figures.depth, Relaxed);
        self.own.spool_disk_bytes.store(figures.disk_bytes, Relaxed);
        self.own.spool_corrupt_files.store(figures.corrupt_total, Relaxed);
        self.own.dropped_batches.store(figures.dropped_total, Relaxed);
        self.own.reconnects.store(figures.sessions_total.saturating_sub(1), Relaxed);
        let trouble = self.spool.trouble();
        let failed = self.own.spool_disk_failing.swap(u64::from(trouble.is_some()), Relaxed);
        match trouble {
            Some(why) if failed == 0 => {
                self.event(
                    "spool_failed",
                    format!("waiting batches stay in memory, the disk does not take them: {why}"),
                );
            }
            None if failed == 1 => self.event("spool_recovered", "the disk takes waiting batches again".to_owned()),
            Some(_) | None => {}
        }
    }

    /// Something happened to the agent.
    pub fn event(&mut self, kind: &str, text: String) {
        let at = self.stamps.at(self.clock.boot());
        self.samples.event(Event { at, kind: kind.to_owned(), entity: Labels::new(), text });
    }
}

/// How long the machine has been suspended since it booted.
fn asleep(clock: &Clock) -> Duration {
    clock.boot().saturating_sub(clock.monotonic())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use common::batch::RunId;
    use common::batch::SpoolId;
    use common::catalog::metric;
    use common::config::Layers;
    use common::schema::Schema;
    use common::schema::SeriesIndex;
    use common::time::TimeRange;
    use common::wire::codec;
    use common::wire::codec::Against;
    use common::wire::codec::CODEC;
    use common::wire::codec::State;

    use super::*;
    use crate::spool::Outgoing;

    struct Bench {
        clock: Clock,
        stamps: Stamps,
        spool: Spool,
        sampler: Sampler,
    }

    /// A host whose only readable file is `loadavg`.
    fn bench(procfs: &std::path::Path) -> Bench {
        std::fs::write(procfs.join("loadavg"), "0.25 0.5 0.75 1/1 1\n").unwrap();
        let mut config = Config::read(&Layers::default()).unwrap();
        config.roots.procfs = procfs.to_owned();
        config.roots.cgroupfs = procfs.to_owned();
        let clock = Clock::moved(Timestamp::from_millis(1_000_000_100));
        let stamps = Stamps::new(clock.wall(), clock.boot());
        let spool = Spool::new(RunId([1; 16]), SpoolId([2; 16]));
        let sampler = Sampler::new(&config, clock.clone(), stamps.clone(), spool.clone());
        Bench { clock, stamps, spool, sampler }
    }

    impl Bench {
        fn run(&mut self, seconds: u32) {
            for _ in 0..seconds {
                self.sampler.tick();
                self.clock.advance(Duration::from_secs(1));
            }
        }

        /// What was shipped: stamp, events, ticks in the window of `node_load1`.
        fn shipped(&self) -> Vec<(i64, Vec<String>, Option<u32>)> {
            let mut held: HashMap<RunId, Schema> = HashMap::new();
            let mut states: HashMap<SpoolId, State> = HashMap::new();
            self.spool.welcome(&[], CODEC);
            let mut sent = Vec::new();
            let version = |held: &HashMap<RunId, Schema>, run| held.get(&run).map_or(0, Schema::version);
            let next = |held: &HashMap<_, _>| {
                self.spool
                    .next_backlog(|run| version(held, run))
                    .or_else(|| self.spool.next_live(|run| version(held, run)))
            };
            while let Some(Outgoing { changes, batch }) = next(&held) {
                let schema = held.entry(batch.run).or_default();
                changes.iter().for_each(|change| schema.apply(change).unwrap());
                let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
                let state = states.entry(batch.spool).or_default();
                let decoded = codec::decode(batch.codec, &batch.payload, against, state).unwrap();
                let is_load = |series| schema.column(series).is_some_and(|column| column.metric == "node_load1");
                let load = decoded.samples.iter().find(|(series, _)| is_load(*series));
                let events = decoded.events.iter().map(|event| event.kind.clone()).collect();
                sent.push((decoded.stamp.as_millis() / 1_000, events, load.map(|(_, window)| window.count())));
            }
            sent
        }
    }

    #[test]
    fn windows_are_whole_and_the_first_says_that_the_agent_started() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(31);
        let started = vec!["agent_started".to_owned()];
        let expect = [(1_000_010, started, Some(10)), (1_000_020, vec![], Some(10)), (1_000_030, vec![], Some(10))];
        assert_eq!(bench.shipped(), expect);
    }

    #[test]
    fn the_recorder_has_each_tick() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(31);
        let (after, through) = (Timestamp::from_seconds(1_000_005), Timestamp::from_seconds(1_000_025));
        let rows: Vec<_> = bench.sampler.recorder().read(TimeRange { after, through }).collect();
        let stamps: Vec<_> = rows.iter().map(|row| row.stamp.as_millis()).collect();
        assert_eq!(stamps, (1_000_005_100..1_000_025_000).step_by(1_000).collect::<Vec<_>>());
        let schema = bench.sampler.samples.settle();
        let is_load = |series: SeriesIndex| schema.column(series).is_some_and(|column| column.metric == "node_load1");
        assert!(rows.iter().all(|row| row.values.iter().any(|(series, value)| is_load(*series) && *value == 0.25)));
    }

    #[test]
    fn a_new_run_without_what_is_gone_begins_between_two_windows() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        let run = bench.spool.run();
        let mut run_and_churn = |windows: u32| {
            for window in 0..windows {
                bench.run(10);
                let samples = &mut bench.sampler.samples;
                for number in 0..5_000 {
                    let gone = samples.entity(&Labels::new().with("device", format!("{window}-{number}")));
                    samples.series(gone, metric("node_load5"), &Labels::new());
                    samples.end_entity(gone);
                }
            }
            bench.run(1);
        };
        run_and_churn(10);
        let shipped = bench.shipped();
        assert!(shipped.iter().map(|(stamp, ..)| *stamp).eq((1_000_010..=1_000_100).step_by(10)));
        assert!(shipped.iter().all(|(_, _, load)| *load == Some(10)), "{shipped:?}");
        assert_ne!(bench.spool.run(), run);
        let series = bench.sampler.samples.schema().series().len();
        assert!(series < 20_000, "{series} series in the schema");
        let ever = TimeRange { after: Timestamp::default(), through: Timestamp::from_seconds(2_000_000) };
        let rows: Vec<_> = bench.sampler.recorder().read(ever).collect();
        assert_eq!(rows.len(), 101);
        let loads = rows.iter().map(|row| row.values.iter().filter(|(_, value)| *value == 0.25).count());
        assert!(loads.min() >= Some(1));
        assert_eq!(rows.iter().map(|row| row.run).max(), Some(4));
    }

    #[test]
    fn what_the_aggregator_sets_is_in_force_from_the_next_window_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        let given = watch::Sender::new(Given::read("processes.interval_seconds = 2").unwrap());
        bench.sampler.follow(given.subscribe());
        assert_eq!(bench.sampler.config.process_interval_seconds, 2);
        let run = bench.spool.run();
        bench.run(15);
        given.send_replace(Given::read("processes.interval_seconds = 5").unwrap());
        bench.run(3);
        assert_eq!((bench.sampler.config.process_interval_seconds, bench.spool.run()), (2, run), "not within a window");
        bench.run(3);
        assert_eq!(bench.sampler.config.process_interval_seconds, 5);
        assert_ne!(bench.spool.run(), run);
        let run = bench.spool.run();
        given.send_replace(Given::read("processes.interval_seconds = 5").unwrap());
        bench.run(10);
        assert_eq!(bench.spool.run(), run, "nothing is meant otherwise");
        let started = vec!["agent_started".to_owned()];
        let expect = [(1_000_010, started, Some(10)), (1_000_020, vec![], Some(10)), (1_000_030, vec![], Some(10))];
        assert_eq!(bench.shipped(), expect, "no window is lost, and no event");
    }

    #[test]
    fn what_other_settings_do_not_bring_again_ends() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        let given = watch::Sender::new(Given::read("processes.interval_seconds = 2").unwrap());
        bench.sampler.follow(given.subscribe());
        let samples = &mut bench.sampler.samples;
        let group = samples.entity(&Labels::new().with("group", "of before"));
        samples.series(group, metric("node_load5"), &Labels::new());
        bench.run(15);
        given.send_replace(Given::read("processes.interval_seconds = 5").unwrap());
        bench.run(30);
        let schema = bench.sampler.samples.schema();
        let ended = |name: &str, value: &str| {
            let is_it = |series: SeriesIndex| schema.labels(series).is_some_and(|labels| labels.get(name) == value);
            let mut found = (0..).zip(schema.series()).filter(|(series, _)| is_it(SeriesIndex(*series)));
            (found.next().map(|(_, series)| series.ended.is_some()), found.next().is_some())
        };
        assert_eq!(ended("group", "of before"), (Some(true), false));
        assert_eq!(ended("__name__", "node_load1"), (Some(false), false));
    }

    #[test]
    fn past_the_limit_of_series_an_event_says_so_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(1);
        let samples = &mut bench.sampler.samples;
        for device in 0..SERIES_PER_HOST_MAX {
            let device = samples.entity(&Labels::new().with("device", device.to_string()));
            samples.series(device, metric("node_load5"), &Labels::new());
        }
        bench.run(21);
        let events: Vec<_> = bench.shipped().into_iter().flat_map(|(_, events, _)| events).collect();
        assert_eq!(events, ["agent_started", "series_refused"]);
    }

    #[test]
    fn a_step_of_the_clock_is_an_event_and_moves_no_window() {
        let check = |step_seconds: i64| {
            let directory = tempfile::tempdir().unwrap();
            let mut bench = bench(directory.path());
            bench.run(15);
            bench.clock.step_wall(Timestamp::from_millis(bench.clock.wall().as_millis() + 1_000 * step_seconds));
            bench.run(16);
            let stepped = vec!["clock_stepped".to_owned()];
            let expect = [(1_000_020, stepped, Some(10)), (1_000_030, vec![], Some(10))];
            assert_eq!(bench.shipped()[1..], expect, "{step_seconds} s");
            assert_eq!(bench.sampler.own.late_ticks.load(Relaxed), 0);
        };
        check(3_600);
        check(-3_600);
        check(-999_000);
    }

    #[test]
    fn a_suspended_machine_is_an_event_and_its_sleep_is_in_no_interval() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(15);
        bench.clock.suspend(Duration::from_secs(3_600));
        bench.run(16);
        let suspended = vec!["suspended".to_owned()];
        // The window that was open closes with what it had; the next begins in the middle.
        let expect = [(1_000_020, vec![], Some(5)), (1_003_620, suspended, Some(5)), (1_003_630, vec![], Some(10))];
        assert_eq!(bench.shipped()[1..], expect);
        assert_eq!(bench.sampler.own.late_ticks.load(Relaxed), 0);
    }

    #[test]
    fn a_late_tick_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(4);
        bench.clock.advance(Duration::from_millis(2_700));
        bench.run(4);
        bench.run(3);
        assert_eq!(bench.sampler.own.late_ticks.load(Relaxed), 1);
        assert_eq!(bench.shipped()[0].2, Some(8));
    }

    #[test]
    fn the_time_of_the_aggregator_moves_windows_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = bench(directory.path());
        bench.run(15);
        let now = bench.clock.boot();
        bench.stamps.set(Timestamp::from_millis(2_000_000_100), now, now);
        bench.run(11);
        let shipped: Vec<_> = bench.shipped().into_iter().map(|(stamp, _, count)| (stamp, count)).collect();
        assert_eq!(shipped, [(1_000_010, Some(10)), (1_000_020, Some(5)), (2_000_010, Some(10))]);
    }
}
