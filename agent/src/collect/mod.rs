//! Collectors: one kernel subject a file, each a pure parser of bytes and the series it fills.

mod anything;
mod arp;
mod cgroup;
mod conntrack;
mod cpu;
mod disk;
mod entropy;
mod fields;
mod filefd;
mod filesystem;
mod given;
mod info;
mod load;
mod memory;
mod netstat;
mod network;
mod nfs;
mod os;
mod own;
mod pace;
mod pressure;
mod process;
mod roster;
mod rows;
mod samples;
mod schedstat;
mod slow;
mod sockstat;
mod softnet;
mod stat;
mod table;
mod text;
mod time;
mod timex;
mod uname;
mod vmstat;
mod work;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::batch::Process;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;
use common::time::Clock;
use common::time::Timestamp;

use crate::config::Config;
use crate::host::Host;
use crate::host::ReadError;

pub use anything::parse_anything;
pub use own::OwnCounts;
pub use samples::EVENTS_PER_WINDOW_MAX;
pub use samples::HOST;
pub use samples::Samples;
pub use samples::SeriesKey;

const SUCCESS: &Metric = metric("node_scrape_collector_success");
const DURATION: &Metric = metric("node_scrape_collector_duration_seconds");
const ERRORS: &Metric = metric("lapwing_agent_collector_errors_total");

/// A collector that reads once a minute has nothing to fail at in between: only a minute without an error is a recovery.
const RECOVERED_AFTER: Duration = Duration::from_secs(61);

/// One collection round.
pub struct Tick<'a> {
    /// Where bytes come from.
    pub host: &'a mut Host,
    /// Where values go.
    pub samples: &'a mut Samples,
    /// When it is.
    pub moment: Moment,
}

/// When a collection round happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The stamp of the tick.
    pub stamp: Timestamp,
    /// The monotonic clock, for intervals.
    pub now: Duration,
    /// The host's wall clock, which may be wrong.
    pub wall: Timestamp,
    /// The stamp of the window that the tick falls into.
    pub window: Timestamp,
    /// Whether it is the window's first tick: what is read once a window is read at it.
    pub first_in_window: bool,
    /// How long a collector may wait for what other threads find out. Nothing while running; a moment for `once`.
    pub patience: Duration,
}

impl Moment {
    /// Whether series of this tier get a value at this tick.
    #[must_use]
    pub fn due(self, tier: Tier) -> bool {
        match tier {
            Tier::Second => true,
            Tier::Window | Tier::Minute => self.first_in_window && 0 < tier.ticks(self.window),
        }
    }

    /// The slowest tier whose series get a value at this tick.
    #[must_use]
    pub fn slowest_due(self) -> Tier {
        [Tier::Minute, Tier::Window].into_iter().find(|tier| self.due(*tier)).unwrap_or(Tier::Second)
    }
}

/// Why a collector could not give all its values.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file could not be read.
    #[error("read {0}")]
    Read(#[from] ReadError),
    /// A file has not the form that the kernel gives it.
    #[error("{0} has not the form that the kernel gives it")]
    Malformed(&'static str),
    /// The kernel does not show the processes of other users.
    #[error("processes of other users are hidden (the mount option `hidepid` of /proc, or no access)")]
    Hidden,
    /// A file of one value does not have it.
    #[error("{} has not the form that the kernel gives it", .0.display())]
    Garbled(Box<Path>),
    /// The kernel does not say how right its clock is.
    #[error("ask the kernel about its clock (adjtimex): {0}")]
    Clock(io::Error),
    /// What a thread aside found.
    #[error("{0}")]
    Aside(Arc<CollectError>),
    /// systemd did not answer as it should.
    #[error("ask systemd: {0}")]
    Systemd(io::Error),
    /// A file of an operator has a slip.
    #[error("textfile {0}")]
    Textfile(String),
    /// More than is kept.
    #[error("there are too many {0}")]
    TooMuch(&'static str),
    /// There is no thread for what may be slow.
    #[error("start a thread")]
    Thread(#[from] io::Error),
    /// A mount or a device did not answer.
    #[error("{0} does not answer")]
    Silent(String),
}

/// Reads one kernel subject.
pub trait Collector: Send {
    /// What it reads, as node_exporter names it: the label `collector` of its success.
    fn name(&self) -> &'static str;

    /// Puts its values of this tick. What can be read is put, even where something else cannot.
    ///
    /// # Errors
    /// The first thing that could not be read.
    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError>;

    /// The processes that did most since the last call. Asked when a window closes; one collector knows.
    fn processes(&mut self, _host: &mut Host) -> Vec<Process> {
        Vec::new()
    }
}

/// All collectors of a run. One that fails holds nothing up.
pub struct Collectors {
    running: Vec<Running>,
    /// For what each of them costs.
    clock: Clock,
}

struct Running {
    collector: Box<dyn Collector>,
    success: SeriesKey,
    duration: SeriesKey,
    errors: SeriesKey,
    errors_total: u64,
    /// When it failed last, on the monotonic clock, unless it has recovered.
    failed: Option<Duration>,
    /// Time and ticks since the duration was put last.
    spent: Duration,
    ticks: u32,
}

impl Collectors {
    /// The collectors of a host. `own` is what other parts of the agent count about themselves.
    #[must_use]
    pub fn new(config: &Config, own: Arc<OwnCounts>, clock: Clock, samples: &mut Samples) -> Self {
        let mut collectors = make(config, own, samples);
        collectors.retain(|collector| !config.off.contains(collector.name()));
        Self::of(collectors, clock, samples)
    }

    /// These collectors and no others.
    #[must_use]
    pub fn of(collectors: Vec<Box<dyn Collector>>, clock: Clock, samples: &mut Samples) -> Self {
        let running = collectors.into_iter().map(|collector| {
            let labels = Labels::new().with("collector", collector.name());
            Running {
                success: samples.series(HOST, SUCCESS, &labels),
                duration: samples.series(HOST, DURATION, &labels),
                errors: samples.series(HOST, ERRORS, &labels),
                errors_total: 0,
                failed: None,
                spent: Duration::ZERO,
                ticks: 0,
                collector,
            }
        });
        Self { running: running.collect(), clock }
    }

    /// Runs all of them once.
    pub fn tick(&mut self, tick: &mut Tick<'_>) {
        tick.samples.begin_tick();
        let mut began = self.clock.monotonic();
        for (number, running) in (0..).zip(&mut self.running) {
            tick.samples.begin_collector(number);
            let collected = running.collector.tick(tick);
            let ended = self.clock.monotonic();
            running.note(&collected, tick.moment.now, ended.saturating_sub(began));
            running.put(tick);
            began = ended;
        }
    }

    /// The processes that did most in the window that closes.
    pub fn processes(&mut self, host: &mut Host) -> Vec<Process> {
        self.running.iter_mut().flat_map(|running| running.collector.processes(host)).collect()
    }
}

/// A collector of each name.
fn make(config: &Config, own: Arc<OwnCounts>, samples: &mut Samples) -> Vec<Box<dyn Collector>> {
    let roots = &config.roots;
    vec![
        Box::new(time::Time::new(roots, samples)),
        Box::new(stat::Stat::new(roots, samples)),
        Box::new(load::Load::new(roots, samples)),
        Box::new(memory::Memory::new(roots)),
        Box::new(vmstat::Vmstat::new(roots)),
        Box::new(pressure::Pressure::new(roots)),
        Box::new(disk::Disk::new(roots)),
        Box::new(network::Network::new(roots)),
        Box::new(netstat::Netstat::new(roots)),
        Box::new(sockstat::Sockstat::new(roots)),
        Box::new(softnet::Softnet::new(roots)),
        Box::new(conntrack::Conntrack::new(roots)),
        Box::new(arp::Arp::new(roots)),
        Box::new(nfs::Nfs::new(roots)),
        Box::new(filefd::Filefd::new(roots, samples)),
        Box::new(entropy::Entropy::new(roots, samples)),
        Box::new(schedstat::Schedstat::new(roots)),
        Box::new(timex::Timex::new(samples)),
        Box::new(filesystem::Filesystem::new(roots)),
        Box::new(uname::Uname::new()),
        Box::new(os::Os::new(roots)),
        Box::new(slow::netclass(roots)),
        Box::new(slow::cpu(roots)),
        Box::new(slow::cpufreq(roots)),
        Box::new(slow::hwmon(roots)),
        Box::new(slow::thermal_zone(roots)),
        Box::new(slow::edac(roots)),
        Box::new(slow::dmi(roots)),
        Box::new(slow::powersupplyclass(roots)),
        Box::new(slow::rapl(roots)),
        Box::new(slow::bonding(roots)),
        Box::new(slow::mdadm(roots)),
        Box::new(slow::nvme(roots)),
        Box::new(slow::btrfs(roots)),
        Box::new(slow::xfs(roots)),
        Box::new(slow::zfs(roots)),
        Box::new(slow::systemd(roots)),
        Box::new(slow::textfile(config)),
        Box::new(work::Work::new(config, samples)),
        Box::new(own::Own::new(own, roots, samples)),
    ]
}

/// What was read of a file, or nothing where there is none: its subject is not on this host.
fn if_there<T>(read: Result<T, ReadError>) -> Result<Option<T>, CollectError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Running {
    /// Counts an error; says so when the state changes, not each second.
    fn note(&mut self, collected: &Result<(), CollectError>, now: Duration, spent: Duration) {
        self.spent += spent;
        self.ticks += 1;
        let collector = self.collector.name();
        match collected {
            Ok(()) if self.failed.is_some_and(|failed| RECOVERED_AFTER <= now.saturating_sub(failed)) => {
                tracing::info!(collector, "collector recovered");
                self.failed = None;
            }
            Ok(()) => {}
            Err(error) => {
                self.errors_total += 1;
                if self.failed.replace(now).is_none() {
                    tracing::warn!(collector, %error, "collector cannot read all it should");
                }
            }
        }
    }

    /// Puts how it went.
    fn put(&mut self, tick: &mut Tick<'_>) {
        if tick.moment.due(SUCCESS.tier) {
            tick.samples.put(self.success, f64::from(u8::from(self.failed.is_none())));
        }
        if tick.moment.due(ERRORS.tier) {
            tick.samples.put_count(self.errors, self.errors_total);
        }
        if tick.moment.due(DURATION.tier) {
            tick.samples.put(self.duration, (self.spent / self.ticks).as_secs_f64());
            (self.spent, self.ticks) = (Duration::ZERO, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use common::config::Layers;
    use common::schema::SeriesIndex;

    use super::*;
    use crate::config::COLLECTORS;
    use crate::config::Roots;

    fn moment(stamp: Timestamp, first_in_window: bool) -> Moment {
        let (now, patience) = (Duration::ZERO, Duration::ZERO);
        Moment { stamp, now, wall: stamp, window: stamp, first_in_window, patience }
    }

    struct Failing {
        every: u64,
        ticks: u64,
    }

    impl Collector for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn tick(&mut self, _: &mut Tick<'_>) -> Result<(), CollectError> {
            self.ticks += 1;
            if self.ticks.is_multiple_of(self.every) { Err(CollectError::Malformed("file")) } else { Ok(()) }
        }
    }

    #[test]
    fn a_collector_that_fails_is_counted_and_holds_nothing_up() {
        let mut host = Host::new(Roots { procfs: "/nowhere".into(), ..Roots::default() });
        let mut samples = Samples::default();
        let stamp = Timestamp::from_seconds(60);
        let load = Box::new(load::Load::new(host.roots(), &mut samples));
        let mut collectors =
            Collectors::of(vec![load, Box::new(Failing { every: 2, ticks: 0 })], Clock::moved(stamp), &mut samples);
        for _ in 0..4 {
            let moment = moment(stamp, true);
            collectors.tick(&mut Tick { host: &mut host, samples: &mut samples, moment });
        }
        samples.settle();
        let shown: Vec<_> = samples
            .values()
            .iter()
            .map(|(series, value)| format!("{} {value}", samples.schema().labels(*series).unwrap()))
            .collect();
        let expect = [
            r#"node_scrape_collector_success{collector="loadavg", job="node"} 0"#,
            r#"lapwing_agent_collector_errors_total{collector="loadavg", job="lapwing"} 4"#,
            r#"node_scrape_collector_duration_seconds{collector="loadavg", job="node"} 0"#,
            r#"node_scrape_collector_success{collector="failing", job="node"} 0"#,
            r#"lapwing_agent_collector_errors_total{collector="failing", job="lapwing"} 2"#,
            r#"node_scrape_collector_duration_seconds{collector="failing", job="node"} 0"#,
        ];
        assert_eq!(shown, expect);
    }

    #[test]
    fn a_collector_has_recovered_after_a_minute_without_an_error() {
        let mut host = Host::new(Roots { procfs: "/nowhere".into(), ..Roots::default() });
        let mut samples = Samples::default();
        let stamp = Timestamp::from_seconds(60);
        // Fails once a minute, as one that reads once a minute does.
        let slow = Box::new(Failing { every: 60, ticks: 0 });
        let mut collectors = Collectors::of(vec![slow], Clock::moved(stamp), &mut samples);
        let mut shown = Vec::new();
        for second in 1..=240 {
            let moment = Moment { now: Duration::from_secs(second), ..moment(stamp, true) };
            collectors.tick(&mut Tick { host: &mut host, samples: &mut samples, moment });
            shown.push(samples.values()[0].1);
        }
        assert_eq!(shown.iter().position(|success| *success == 0.0), Some(59));
        assert!(shown[59..].iter().all(|success| *success == 0.0));
        let moment = Moment { now: Duration::from_secs(241 + 61), ..moment(stamp, true) };
        collectors.tick(&mut Tick { host: &mut host, samples: &mut samples, moment });
        assert_eq!(samples.values()[0].1, 1.0);
    }

    /// Has a series of a device at each tick, or one that leaves at the second and comes back at the third.
    struct Device {
        metric: &'static Metric,
        leaves: bool,
        entity: Option<u32>,
    }

    impl Collector for Device {
        fn name(&self) -> &'static str {
            "device"
        }

        fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
            let device = Labels::new().with("device", "eth0");
            if let Some(entity) = self.entity.take_if(|_| self.leaves) {
                tick.samples.end_entity(entity);
            } else {
                let entity = *self.entity.insert(tick.samples.entity(&device));
                tick.samples.series(entity, self.metric, &Labels::new());
            }
            Ok(())
        }
    }

    #[test]
    fn a_collector_ends_its_own_series_of_a_device() {
        let mut host = Host::new(Roots { procfs: "/nowhere".into(), ..Roots::default() });
        let mut samples = Samples::default();
        let stamp = Timestamp::from_seconds(60);
        let device = |name: &str, leaves| -> Box<dyn Collector> {
            Box::new(Device { metric: common::catalog::find(name).unwrap(), leaves, entity: None })
        };
        let all = vec![device("node_network_up", false), device("node_network_receive_bytes_total", true)];
        let mut collectors = Collectors::of(all, Clock::moved(stamp), &mut samples);
        for _ in 0..3 {
            collectors.tick(&mut Tick { host: &mut host, samples: &mut samples, moment: moment(stamp, false) });
            samples.settle();
            samples.settle();
        }
        let schema = samples.settle();
        let of_device = schema.series().iter().zip(0..).filter_map(|(series, index)| {
            let labels = schema.labels(SeriesIndex(index))?.to_string();
            labels.contains("eth0").then_some((labels, series.ended.is_some()))
        });
        let received = r#"node_network_receive_bytes_total{device="eth0", job="node"}"#.to_owned();
        let up = r#"node_network_up{device="eth0", job="node"}"#.to_owned();
        let expect = [(up, false), (received.clone(), true), (received, false)];
        assert_eq!(of_device.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn each_collector_has_the_name_by_which_it_is_switched_off() {
        let config = Config::read(&Layers::default()).unwrap();
        let made = make(&config, Arc::default(), &mut Samples::default());
        assert_eq!(made.iter().map(|collector| collector.name()).collect::<Vec<_>>(), COLLECTORS);
        let off = BTreeSet::from(["uname".to_owned()]);
        let mut samples = Samples::default();
        let left = Collectors::new(&Config { off, ..config }, Arc::default(), Clock::real(), &mut samples);
        assert_eq!(left.running.len(), COLLECTORS.len() - 1);
        assert!(left.running.iter().all(|running| running.collector.name() != "uname"));
    }

    #[test]
    fn tiers_are_due_where_their_windows_expect_them() {
        let check = |window: i64, first_in_window: bool, expect: [bool; 3]| {
            let window = Timestamp::from_seconds(window);
            let moment = moment(window, first_in_window);
            assert_eq!([Tier::Second, Tier::Window, Tier::Minute].map(|tier| moment.due(tier)), expect);
        };
        check(60, true, [true, true, true]);
        check(60, false, [true, false, false]);
        check(70, true, [true, true, false]);
        check(70, false, [true, false, false]);
    }
}
