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
mod textfile;
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
pub(super) use textfile::textfile;
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
    /// Where it is to be read. Asked on the sampling thread: it lists directories of the kernel and opens nothing.
    list: Box<dyn Fn() -> Vec<PathBuf> + Send>,
    /// Reads one of these places: what it finds there, and what that says.
    read: R,
    inquiry: Inquiry<Vec<(PathBuf, Visit)>>,
    devices: Vec<Device>,
    /// What went wrong since it was told last.
    failed: Option<CollectError>,
}

struct Device {
    /// Where it was found.
    place: PathBuf,
    path: PathBuf,
    /// What it said last, in the same order.
    said: Vec<(Name, Labels, SeriesIndex)>,
    /// The window that has its values.
    reported: Option<Timestamp>,
}

/// Gives any bytes to every parser of this room; see `collect::parse_anything`.
pub(super) fn parse_anything(bytes: &[u8]) {
    let mut visit = Visit::default();
    mdadm::parse(bytes, &mut visit);
    zfs::parse(bytes, &mut visit);
    debug_assert!(visit.readings.iter().all(|reading| reading.value.is_finite()), "what is not finite was left out");
    drop(textfile::parse(bytes));
    hwmon::parse_name(&text::label(bytes));
}

/// A subject whose places are its devices.
fn devices(
    name: &'static str,
    list: impl Fn() -> Vec<PathBuf> + Send + 'static,
    visit: fn(&Path, &mut Visit),
) -> impl Collector {
    let read = move |device: &Path| {
        let mut said = Visit::default();
        visit(device, &mut said);
        vec![(device.to_owned(), said)]
    };
    Slow::new(name, list, read)
}

impl<R> Slow<R>
where
    R: Fn(&Path) -> Vec<(PathBuf, Visit)> + Clone + Send + 'static,
{
    fn new(name: &'static str, list: impl Fn() -> Vec<PathBuf> + Send + 'static, read: R) -> Self {
        Self { name, list: Box::new(list), read, inquiry: Inquiry::default(), devices: Vec::new(), failed: None }
    }

    fn begin_round(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let mut places = (self.list)();
        places.sort();
        places.truncate(DEVICES_MAX);
        self.keep(tick.samples, |device| places.contains(&device.place));
        Ok(self.inquiry.begin(&mut tick.host.devices, places.into_iter(), &self.read, tick.moment.now)?)
    }

    fn keep(&mut self, samples: &mut Samples, is_there: impl Fn(&Device) -> bool) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.devices).into_iter().partition(is_there);
        self.devices = kept;
        gone.iter().flat_map(|device| &device.said).for_each(|(.., series)| samples.end(*series));
    }

    fn report(&mut self, place: &Path, found: Vec<(PathBuf, Visit)>, window: Timestamp, samples: &mut Samples) {
        let is_there = |device: &Device| device.place != place || found.iter().any(|(path, _)| *path == device.path);
        self.keep(samples, is_there);
        for (path, visit) in found {
            let failed = visit.failed.is_some();
            self.failed = self.failed.take().or(visit.failed);
            let is_known = |device: &Device| device.place == place && device.path == path;
            let at = self.devices.iter().position(is_known).unwrap_or_else(|| {
                self.devices.push(Device { place: place.to_owned(), path, said: Vec::new(), reported: None });
                self.devices.len() - 1
            });
            // What could not be read at all is there still: its series go on when it can.
            if !failed || !visit.readings.is_empty() {
                self.devices[at].report(visit.readings, window, samples);
            }
        }
    }
}

impl<R> Collector for Slow<R>
where
    R: Fn(&Path) -> Vec<(PathBuf, Visit)> + Clone + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let Moment { now, window, patience, first_in_window, .. } = tick.moment;
        let begun = if tick.moment.due(Tier::Window) { self.begin_round(tick) } else { Ok(()) };
        while let Some((place, found)) = self.inquiry.next(&mut tick.host.devices, now, patience)? {
            self.report(&place, found, window, tick.samples);
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
        match self {
            Self::Known(metric) => {
                let entity = samples.entity(labels);
                samples.series(entity, metric, &Labels::new())
            }
            Self::Foreign(metric) => samples.foreign_series(labels, metric),
        }
    }
}
