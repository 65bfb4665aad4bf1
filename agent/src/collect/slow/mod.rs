//! Subjects that may take milliseconds to answer, or for ever: sensors, arrays, sockets, an operator's files. Each
//! device of a subject is read by itself, aside, once a window; one that does not answer holds up no other.

mod bonding;
mod btrfs;
mod dmi;
mod edac;
mod hwmon;
mod mdadm;
mod nvme;
mod powersupplyclass;
mod rapl;
mod thermal_zone;
mod xfs;
mod zfs;

use std::path::Path;
use std::path::PathBuf;

use common::catalog;
use common::catalog::Metric;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::SeriesIndex;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::samples::Foreign;
use crate::collect::text;
use crate::host::Inquiry;
use crate::host::ReadError;
use crate::host::read_attribute;
use crate::host::read_bounded;

pub(super) use bonding::bonding;
pub(super) use btrfs::btrfs;
pub(super) use dmi::dmi;
pub(super) use edac::edac;
pub(super) use hwmon::hwmon;
pub(super) use mdadm::mdadm;
pub(super) use nvme::nvme;
pub(super) use powersupplyclass::powersupplyclass;
pub(super) use rapl::rapl;
pub(super) use thermal_zone::thermal_zone;
pub(super) use xfs::xfs;
pub(super) use zfs::zfs;

/// Devices of one subject: sensor chips, arrays, supplies of the largest machines are a few dozen.
pub(super) const DEVICES_MAX: usize = 512;

/// Readings of one device in one round: a manager with a thousand units gives five each.
pub(super) const READINGS_MAX: usize = 20_000;

/// A visit to one device: reads its files and keeps what they say. What cannot be read is missing, and counted.
#[derive(Debug, Default)]
pub(super) struct Visit {
    readings: Vec<Reading>,
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
    /// Where its devices are. Asked on the sampling thread: it lists directories and opens nothing.
    list: Box<dyn Fn() -> Vec<PathBuf> + Send>,
    /// Reads one of them.
    read: R,
    inquiry: Inquiry<Visit>,
    devices: Vec<Device>,
    /// What went wrong since it was told last.
    failed: Option<CollectError>,
}

struct Device {
    path: PathBuf,
    /// What it said last, in the same order.
    said: Vec<(Name, Labels, SeriesIndex)>,
    /// The window that has its values.
    reported: Option<Timestamp>,
}

impl<R> Slow<R>
where
    R: Fn(&Path, &mut Visit) + Clone + Send + 'static,
{
    pub(super) fn new(name: &'static str, list: impl Fn() -> Vec<PathBuf> + Send + 'static, read: R) -> Self {
        Self { name, list: Box::new(list), read, inquiry: Inquiry::default(), devices: Vec::new(), failed: None }
    }

    fn begin_round(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let mut paths = (self.list)();
        paths.sort();
        paths.truncate(DEVICES_MAX);
        let (kept, gone) =
            std::mem::take(&mut self.devices).into_iter().partition(|it: &Device| paths.contains(&it.path));
        self.devices = kept;
        gone.iter().flat_map(|device: &Device| &device.said).for_each(|(.., series)| tick.samples.end(*series));
        let read = self.read.clone();
        let question = move |path: &Path| {
            let mut visit = Visit::default();
            read(path, &mut visit);
            visit
        };
        Ok(self.inquiry.begin(&mut tick.host.devices, paths.into_iter(), &question, tick.moment.now)?)
    }

    fn report(&mut self, path: PathBuf, visit: Visit, window: Timestamp, samples: &mut Samples) {
        self.failed = self.failed.take().or(visit.failed);
        let at = self.devices.iter().position(|device| device.path == path).unwrap_or_else(|| {
            self.devices.push(Device { path, said: Vec::new(), reported: None });
            self.devices.len() - 1
        });
        self.devices[at].report(visit.readings, window, samples);
    }
}

impl<R> Collector for Slow<R>
where
    R: Fn(&Path, &mut Visit) + Clone + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let Moment { now, window, patience, first_in_window, .. } = tick.moment;
        let begun = if tick.moment.due(Tier::Window) { self.begin_round(tick) } else { Ok(()) };
        while let Some((path, answer)) = self.inquiry.next(&mut tick.host.devices, now, patience)? {
            self.report(path, answer, window, tick.samples);
        }
        begun?;
        // Once a window, where it is also said whether the collector succeeds.
        if !first_in_window {
            return Ok(());
        }
        let silent = self.inquiry.silent().next().map(|path| CollectError::Silent(path.display().to_string()));
        silent.or(self.failed.take()).map_or(Ok(()), Err)
    }
}

impl Device {
    fn report(&mut self, readings: Vec<Reading>, window: Timestamp, samples: &mut Samples) {
        if self.reported == Some(window) {
            return;
        }
        self.reported = Some(window);
        let before = std::mem::take(&mut self.said);
        for (at, Reading { metric, labels, value }) in readings.into_iter().enumerate() {
            let known = before
                .get(at)
                .filter(|(name, has, series)| *name == metric && *has == labels && samples.is_living(*series));
            let series = known.map_or_else(|| metric.series(&labels, samples), |(.., series)| *series);
            samples.put(series, value);
            self.said.push((metric, labels, series));
        }
        if before.iter().map(|(.., series)| series).ne(self.said.iter().map(|(.., series)| series)) {
            let mut kept: Vec<SeriesIndex> = self.said.iter().map(|(.., series)| *series).collect();
            kept.sort();
            let gone = before.iter().filter(|(.., series)| kept.binary_search(series).is_err());
            gone.for_each(|(.., series)| samples.end(*series));
        }
    }
}

impl Name {
    fn of(name: &str, kind: Kind) -> Self {
        catalog::find(name).map_or_else(|| Self::Foreign(Foreign { name: name.into(), kind }), Self::Known)
    }

    /// All labels are the entity's, so that a device with many of them is found at once.
    fn series(&self, labels: &Labels, samples: &mut Samples) -> SeriesIndex {
        let entity = samples.entity(labels);
        match self {
            Self::Known(metric) => samples.series(entity, metric, &Labels::new()),
            Self::Foreign(metric) => samples.foreign_series(entity, metric),
        }
    }
}
