//! Subjects that may take milliseconds to answer, or for ever: sensors, arrays, sockets, an operator's files. Each
//! device of a subject is read by itself, aside, once a window; one that does not answer holds up no other.

mod bonding;
mod btrfs;
mod cpu;
mod cpufreq;
mod dmi;
mod edac;
mod hwmon;
mod mdadm;
mod netclass;
mod nvme;
mod powersupplyclass;
mod rapl;
mod systemd;
mod textfile;
mod thermal_zone;
mod xfs;
mod zfs;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use common::catalog;
use common::catalog::Metric;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::samples::Foreign;
use crate::collect::text;
use crate::host::Inquiry;
use crate::host::ReadError;
use crate::host::read_attribute;
use crate::host::read_bounded;

pub(super) use bonding::bonding;
pub(super) use btrfs::btrfs;
pub(super) use cpu::cpu;
pub(super) use cpufreq::cpufreq;
pub(super) use dmi::dmi;
pub(super) use edac::edac;
pub(super) use hwmon::hwmon;
pub(super) use mdadm::mdadm;
pub(super) use netclass::netclass;
pub(super) use nvme::nvme;
pub(super) use powersupplyclass::powersupplyclass;
pub(super) use rapl::rapl;
pub(super) use systemd::systemd;
pub(super) use textfile::textfile;
pub(super) use thermal_zone::thermal_zone;
pub(super) use xfs::xfs;
pub(super) use zfs::zfs;

/// Devices of one subject: sensor chips, arrays, supplies of the largest machines are a few dozen; interfaces are as many
/// as containers.
pub(super) const DEVICES_MAX: usize = 1_024;

/// Readings of one device in one round: a manager with a thousand units gives five each.
pub(super) const READINGS_MAX: usize = 20_000;

/// A visit to one device: reads its files and keeps what they say. What cannot be read is missing, and counted.
#[derive(Debug, Default)]
pub(super) struct Visit {
    readings: Vec<Reading>,
    /// Whether metrics that are sampled once a minute get a value.
    is_minute: bool,
    failed: Option<CollectError>,
}

/// One value with its name and labels.
#[derive(Debug)]
struct Reading {
    metric: Name,
    labels: Labels,
    value: f64,
}

/// What a reading is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Known(&'static Metric),
    Foreign(Foreign),
}

impl Visit {
    fn new(is_minute: bool) -> Self {
        Self { is_minute, ..Self::default() }
    }

    /// Whether a metric gets a value in this round.
    fn is_due(&self, metric: &Metric) -> bool {
        self.is_minute || metric.tier != Tier::Minute
    }

    /// Text of an attribute that is there and not empty.
    fn text(&mut self, path: &Path) -> Option<String> {
        self.said(read_attribute(path))
    }

    /// Text of an attribute that the kernel keeps from all but root; `None` to others.
    fn text_if_allowed(&mut self, path: &Path) -> Option<String> {
        let read = read_attribute(path);
        if read.as_ref().is_err_and(ReadError::is_denied) { None } else { self.said(read) }
    }

    fn said(&mut self, read: Result<Option<Vec<u8>>, ReadError>) -> Option<String> {
        let read = self.take(read.map_err(CollectError::from))??;
        Some(text::label(&read)).filter(|text| !text.is_empty())
    }

    /// Number of an attribute that is there.
    fn number(&mut self, path: &Path) -> Option<f64> {
        let text = self.text(path)?;
        let number = text::float(text.as_bytes());
        self.take(number.ok_or_else(|| CollectError::Garbled(path.into())))
    }

    /// Text of a file that has more than one line; empty where there is no such file.
    fn lines(&mut self, path: &Path, bytes_max: usize) -> Vec<u8> {
        self.take(read_bounded(path, bytes_max).map_err(CollectError::from)).flatten().unwrap_or_default()
    }

    /// Adds a value.
    fn put(&mut self, metric: &'static Metric, labels: &Labels, value: f64) {
        self.push(Name::Known(metric), labels, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch")]
    fn put_count(&mut self, metric: &'static Metric, labels: &Labels, value: i64) {
        self.put(metric, labels, value as f64);
    }

    /// Adds the number of an attribute, if it is there, times `factor`.
    fn put_number(&mut self, metric: &'static Metric, labels: &Labels, path: &Path, factor: f64) {
        if let Some(number) = self.number(path) {
            self.put(metric, labels, number * factor);
        }
    }

    /// Adds the number that a word of the file `of` is.
    fn put_word(&mut self, metric: &'static Metric, labels: &Labels, word: &[u8], of: &'static str) {
        match text::float(word) {
            Some(number) => self.put(metric, labels, number),
            None => self.malformed(of),
        }
    }

    /// Adds a value of a gauge whose name a driver made; the catalog may know it.
    fn put_named(&mut self, name: &str, labels: &Labels, value: f64) {
        self.push(Name::of(name, Kind::Gauge), labels, value);
    }

    /// As [`Self::put_named`], of a counter.
    fn put_named_counter(&mut self, name: &str, labels: &Labels, value: f64) {
        self.push(Name::of(name, Kind::Counter), labels, value);
    }

    fn push(&mut self, metric: Name, labels: &Labels, value: f64) {
        if READINGS_MAX <= self.readings.len() {
            self.fail(CollectError::TooMuch("readings of one device"));
        } else if value.is_finite() {
            self.readings.push(Reading { metric, labels: labels.clone(), value });
        }
    }

    /// The first error is told; the rest goes on.
    fn fail(&mut self, error: CollectError) {
        self.failed.get_or_insert(error);
    }

    fn malformed(&mut self, file: &'static str) {
        self.fail(CollectError::Malformed(file));
    }

    fn take<T>(&mut self, read: Result<T, CollectError>) -> Option<T> {
        read.map_err(|error| self.fail(error)).ok()
    }
}

#[cfg(test)]
impl Visit {
    fn shown(&self) -> Vec<String> {
        let show = |Reading { metric, labels, value }: &Reading| match metric {
            Name::Known(metric) => format!("{}{labels} {value}", metric.name),
            Name::Foreign(metric) => format!("{}{labels} {value}", metric.name),
        };
        self.readings.iter().map(show).collect()
    }
}

/// The name of a file or directory behind a prefix.
fn name_behind(path: &Path, prefix: &str) -> Option<String> {
    path.file_name()?.to_string_lossy().strip_prefix(prefix).map(str::to_owned)
}

/// One such subject.
pub(super) struct Slow<R> {
    name: &'static str,
    tier: Tier,
    /// Where it is to be read. Asked on the sampling thread: it lists directories of the kernel and opens nothing.
    list: Box<dyn Fn() -> Vec<PathBuf> + Send>,
    /// Reads one of these places, in the first window of a minute or another: what it finds there, and what that says.
    read: R,
    inquiry: Inquiry<Vec<(PathBuf, Visit)>>,
    devices: Vec<Device>,
    /// What went wrong in the latest round.
    failed: Option<Arc<CollectError>>,
}

/// A reading, and its series.
type Said = (Name, Labels, SeriesKey);

struct Device {
    /// Where it was found.
    place: PathBuf,
    path: PathBuf,
    /// What it said last, in the same order.
    said: Vec<Said>,
    /// What it said last in the first window of a minute, of metrics that are sampled so.
    said_each_minute: Vec<Said>,
    /// The window that has its values.
    reported: Option<Timestamp>,
}

/// Gives any bytes to every parser of this room; see `collect::parse_anything`.
pub(super) fn parse_anything(bytes: &[u8]) {
    let mut visit = Visit::default();
    mdadm::parse(bytes, &mut visit);
    zfs::parse(bytes, &mut visit);
    cpu::ranges(bytes);
    cpu::parse(bytes);
    netclass::number(bytes);
    debug_assert!(visit.readings.iter().all(|reading| reading.value.is_finite()), "what is not finite was left out");
    drop(textfile::parse(bytes));
    hwmon::parse_name(&text::label(bytes));
    systemd::parse_anything(bytes);
}

/// A subject whose places are its devices.
fn devices(
    name: &'static str,
    list: impl Fn() -> Vec<PathBuf> + Send + 'static,
    visit: impl Fn(&Path, &mut Visit) + Clone + Send + 'static,
) -> Slow<impl Fn(&Path, bool) -> Vec<(PathBuf, Visit)> + Clone + Send + 'static> {
    let read = move |device: &Path, is_minute: bool| {
        let mut said = Visit::new(is_minute);
        visit(device, &mut said);
        vec![(device.to_owned(), said)]
    };
    Slow::new(name, list, read)
}

impl<R> Slow<R>
where
    R: Fn(&Path, bool) -> Vec<(PathBuf, Visit)> + Clone + Send + 'static,
{
    fn new(name: &'static str, list: impl Fn() -> Vec<PathBuf> + Send + 'static, read: R) -> Self {
        let (list, inquiry) = (Box::new(list), Inquiry::default());
        Self { name, tier: Tier::Window, list, read, inquiry, devices: Vec::new(), failed: None }
    }

    /// Is read as often as that instead of once a window; its metrics are of that tier.
    fn each(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }

    fn begin_round(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let mut places = (self.list)();
        places.sort();
        let is_too_many = DEVICES_MAX < places.len();
        places.truncate(DEVICES_MAX);
        self.keep(tick.samples, |device| places.contains(&device.place));
        let (read, is_minute) = (self.read.clone(), tick.moment.due(Tier::Minute));
        let question = move |place: &Path| read(place, is_minute);
        let has_room = self.inquiry.begin(&mut tick.host.devices, places.into_iter(), &question, tick.moment.now)?;
        if is_too_many || !has_room { Err(CollectError::TooMuch("devices")) } else { Ok(()) }
    }

    fn keep(&mut self, samples: &mut Samples, is_there: impl Fn(&Device) -> bool) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.devices).into_iter().partition(is_there);
        self.devices = kept;
        let said = gone.iter().flat_map(|device| device.said.iter().chain(&device.said_each_minute));
        said.for_each(|(.., series)| samples.end(*series));
    }

    fn report(&mut self, place: &Path, found: Vec<(PathBuf, Visit)>, window: Timestamp, samples: &mut Samples) {
        let is_there = |device: &Device| device.place != place || found.iter().any(|(path, _)| *path == device.path);
        self.keep(samples, is_there);
        for (path, mut visit) in found {
            let failed = visit.failed.take();
            // What could not be read at all is there still: its series go on when it can.
            let says = failed.is_none() || !visit.readings.is_empty();
            self.failed = self.failed.take().or(failed.map(Arc::new));
            let is_known = |device: &Device| device.place == place && device.path == path;
            let at = self.devices.iter().position(is_known).unwrap_or_else(|| {
                self.devices.push(Device::new(place, path));
                self.devices.len() - 1
            });
            if says {
                self.devices[at].report(visit, window, samples);
            }
        }
    }
}

impl<R> Collector for Slow<R>
where
    R: Fn(&Path, bool) -> Vec<(PathBuf, Visit)> + Clone + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let Moment { now, window, patience, first_in_window, .. } = tick.moment;
        let is_due = tick.moment.due(self.tier);
        let before = if is_due { self.failed.take() } else { None };
        let begun = if is_due { self.begin_round(tick) } else { Ok(()) };
        while let Some((place, found)) = self.inquiry.next(&mut tick.host.devices, now, patience)? {
            self.report(&place, found, window, tick.samples);
        }
        begun?;
        // Once a window, where it is also said whether the collector succeeds: the round before has ended by then.
        if !first_in_window {
            return Ok(());
        }
        let silent = self.inquiry.silent().next().map(|path| CollectError::Silent(path.display().to_string()));
        let failed = || self.failed.clone().or(before).map(CollectError::Aside);
        silent.or_else(failed).map_or(Ok(()), Err)
    }
}

impl Device {
    fn new(place: &Path, path: PathBuf) -> Self {
        Self { place: place.to_owned(), path, said: Vec::new(), said_each_minute: Vec::new(), reported: None }
    }

    fn report(&mut self, visit: Visit, window: Timestamp, samples: &mut Samples) {
        if self.reported == Some(window) {
            return;
        }
        self.reported = Some(window);
        let (each_minute, others) = visit.readings.into_iter().partition(|reading| reading.metric.is_of_minute());
        renew(&mut self.said, others, samples);
        if visit.is_minute {
            renew(&mut self.said_each_minute, each_minute, samples);
        }
    }
}

/// Puts what a device says, and ends what it said before and says no more.
fn renew(said: &mut Vec<Said>, readings: Vec<Reading>, samples: &mut Samples) {
    let before = std::mem::take(said);
    for (at, Reading { metric, labels, value }) in readings.into_iter().enumerate() {
        let known = before
            .get(at)
            .filter(|(name, has, series)| *name == metric && *has == labels && samples.is_living(*series));
        let series = known.map_or_else(|| metric.series(&labels, samples), |(.., series)| *series);
        samples.put(series, value);
        said.push((metric, labels, series));
    }
    if before.iter().map(|(.., series)| series).ne(said.iter().map(|(.., series)| series)) {
        let mut kept: Vec<SeriesKey> = said.iter().map(|(.., series)| *series).collect();
        kept.sort();
        let gone = before.iter().filter(|(.., series)| kept.binary_search(series).is_err());
        gone.for_each(|(.., series)| samples.end(*series));
    }
}

impl Name {
    fn is_of_minute(&self) -> bool {
        matches!(self, Self::Known(metric) if metric.tier == Tier::Minute)
    }

    fn of(name: &str, kind: Kind) -> Self {
        catalog::find(name).map_or_else(|| Self::Foreign(Foreign { name: name.into(), kind }), Self::Known)
    }

    /// All labels are the entity's, so that a device with many of them is found at once.
    fn series(&self, labels: &Labels, samples: &mut Samples) -> SeriesKey {
        match self {
            Self::Known(metric) => {
                let entity = samples.entity(labels);
                samples.series(entity, metric, &Labels::new())
            }
            Self::Foreign(metric) => samples.foreign_series(labels, metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::schema::SeriesIndex;
    use std::fs;
    use std::process::Command;
    use std::thread;
    use std::time::Duration;
    use std::time::Instant;

    use common::catalog::metric;

    use super::*;
    use crate::host::Host;
    use crate::host::Roots;

    /// Runs a collector through seconds that it need not wait for.
    struct Bench<C> {
        host: Host,
        samples: Samples,
        collector: C,
        second: u32,
    }

    impl<C: Collector> Bench<C> {
        fn new(roots: Roots, make: impl FnOnce(&Roots) -> C) -> Self {
            let collector = make(&roots);
            Self { host: Host::new(roots), samples: Samples::default(), collector, second: 0 }
        }

        /// One tick: what was put, and what failed.
        fn tick(&mut self) -> (Vec<String>, Option<String>) {
            let told = self.look(self.second.is_multiple_of(10));
            self.second += 1;
            told
        }

        fn look(&mut self, first_in_window: bool) -> (Vec<String>, Option<String>) {
            self.samples.begin_tick();
            let window = Timestamp::from_seconds(i64::from(self.second / 10 * 10 + 10));
            let moment = Moment {
                stamp: window,
                now: Duration::from_secs(1) * self.second,
                wall: window,
                window,
                first_in_window,
                patience: Duration::ZERO,
            };
            let (host, samples) = (&mut self.host, &mut self.samples);
            let failed = self.collector.tick(&mut Tick { host, samples, moment }).err().map(|error| error.to_string());
            self.samples.settle();
            let show = |(series, value): &(SeriesIndex, f64)| {
                let labels = self.samples.schema().labels(*series).unwrap();
                format!("{} {} {value}", labels.get("chip"), labels.get("sensor"))
            };
            (self.samples.values().iter().map(show).collect(), failed)
        }

        /// The ticks of one window. The clock stands still until the thread aside has said `at_once` values in its first
        /// second, and `in_all` in its last.
        fn window(&mut self, at_once: usize, in_all: usize) -> (Vec<String>, Vec<String>) {
            let (mut put, mut failed) = (Vec::new(), Vec::new());
            for second in 0..10 {
                let (values, error) = self.look(second == 0);
                put.extend(values);
                failed.extend(error);
                let expected = if second < 9 { at_once } else { in_all };
                let began = Instant::now();
                while put.len() < expected {
                    assert!(began.elapsed() < Duration::from_secs(30), "{put:?}");
                    thread::yield_now();
                    put.extend(self.look(false).0);
                }
                self.second += 1;
            }
            put.sort();
            (put, failed)
        }
    }

    #[test]
    fn a_sensor_that_never_answers_is_counted_and_holds_no_other_up() {
        let sysfs = tempfile::tempdir().unwrap();
        let class = sysfs.path().join("class/hwmon");
        for (chip, name, temperature) in [("hwmon0", "good", "41000\n"), ("hwmon2", "late", "42000\n")] {
            fs::create_dir_all(class.join(chip)).unwrap();
            fs::write(class.join(chip).join("name"), name).unwrap();
            fs::write(class.join(chip).join("temp1_input"), temperature).unwrap();
        }
        let roots = Roots { sysfs: sysfs.path().to_owned(), ..Roots::default() };
        let mut bench = Bench::new(roots, hwmon);
        let whole = ["good  1", "good temp1 41", "late  1", "late temp1 42"];
        assert_eq!(bench.window(4, 4), (whole.map(str::to_owned).to_vec(), vec![]));

        let silent = class.join("hwmon1");
        fs::create_dir(&silent).unwrap();
        let fifo = silent.join("temp1_input");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for at_once in [2, 4, 4] {
            let (put, failed) = bench.window(at_once, 4);
            assert_eq!(put, whole);
            assert!(failed.iter().all(|error| *error == format!("{} does not answer", silent.display())), "{failed:?}");
        }
        assert_eq!(bench.tick().1, Some(format!("{} does not answer", silent.display())));

        fs::remove_file(&fifo).unwrap();
        fs::write(silent.join("temp1_input"), "43000\n").unwrap();
    }

    #[test]
    fn devices_past_the_limit_are_an_error_and_the_others_are_read() {
        let check = |count: usize, expect: (usize, Option<&str>)| {
            let list = move || (0..count).map(|device| PathBuf::from(format!("{device:04}"))).collect();
            let temperature = metric("node_hwmon_temp_celsius");
            let read = move |device: &Path, said: &mut Visit| {
                said.put(temperature, &Labels::new().with("chip", device.to_string_lossy()), 1.0);
            };
            let mut bench = Bench::new(Roots::default(), |_| devices("many", list, read));
            let (put, failed) = bench.window(0, expect.0);
            assert_eq!((put.len(), failed.first().map(String::as_str)), expect);
        };
        check(DEVICES_MAX, (DEVICES_MAX, None));
        check(DEVICES_MAX + 1, (DEVICES_MAX, Some("there are too many devices")));
    }

    #[test]
    fn what_is_gone_ends_and_what_comes_again_is_a_new_series() {
        let sysfs = tempfile::tempdir().unwrap();
        let chip = sysfs.path().join("class/hwmon/hwmon0");
        fs::create_dir_all(&chip).unwrap();
        let write = |name: &str, text: &str| fs::write(chip.join(name), text).unwrap();
        write("temp1_input", "1000\n");
        write("temp2_input", "2000\n");
        let mut bench = Bench::new(Roots { sysfs: sysfs.path().to_owned(), ..Roots::default() }, hwmon);
        let living = |bench: &Bench<_>| {
            let schema = bench.samples.schema();
            schema.living(schema.version()).count()
        };
        assert_eq!(bench.window(2, 2).0, ["hwmon0 temp1 1", "hwmon0 temp2 2"]);
        fs::remove_file(chip.join("temp1_input")).unwrap();
        assert_eq!(bench.window(1, 1).0, ["hwmon0 temp2 2"]);
        assert_eq!(bench.window(1, 1).0, ["hwmon0 temp2 2"]);
        assert_eq!(living(&bench), 1);
        write("temp1_input", "3000\n");
        assert_eq!(bench.window(2, 2).0, ["hwmon0 temp1 3", "hwmon0 temp2 2"]);
        // Somebody else ended what has the same labels.
        let entity = bench.samples.entity(&Labels::new().with("chip", "hwmon0").with("sensor", "temp2"));
        bench.samples.end_entity(entity);
        assert_eq!(bench.window(2, 2).0, ["hwmon0 temp1 3", "hwmon0 temp2 2"]);
        assert_eq!(living(&bench), 2);
        fs::remove_dir_all(&chip).unwrap();
        assert_eq!(bench.window(0, 0).0, [""; 0]);
        bench.window(0, 0);
        assert_eq!(living(&bench), 0);
    }
}
