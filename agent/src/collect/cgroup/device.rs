//! Block IO of one cgroup by device.

use std::str;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::cgroup::parse;
use crate::collect::cgroup::parse::DeviceNumber;
use crate::collect::cgroup::parse::Io;
use crate::host::Host;

/// Devices of one cgroup: a host with more disks than this shows the first.
pub(super) const CGROUP_DEVICES_MAX: usize = 64;

/// In the order of [`Io`].
const METRICS: [&Metric; 4] = [
    metric("container_fs_reads_bytes_total"),
    metric("container_fs_writes_bytes_total"),
    metric("container_fs_reads_total"),
    metric("container_fs_writes_total"),
];

#[derive(Debug, Default)]
pub(super) struct Devices(Vec<Device>);

#[derive(Debug)]
struct Device {
    number: DeviceNumber,
    /// Empty until it is known.
    name: String,
    values: [u64; METRICS.len()],
    series: [Option<SeriesKey>; METRICS.len()],
}

impl Devices {
    /// Sets one count of one device. Returns whether it moved.
    pub(super) fn set(&mut self, number: DeviceNumber, io: Io, value: u64) -> bool {
        let at = self.0.iter().position(|device| device.number == number).or_else(|| {
            (self.0.len() < CGROUP_DEVICES_MAX).then(|| {
                self.0.push(Device { number, name: String::new(), values: [0; 4], series: [None; 4] });
                self.0.len() - 1
            })
        });
        let Some(device) = at.map(|at| &mut self.0[at]) else { return false };
        let known = &mut device.values[io as usize];
        let moved = *known < value;
        *known = value.max(*known);
        moved
    }

    /// Names devices that are new, as cAdvisor does: by their place below `/dev`, or by number.
    pub(super) fn name(&mut self, host: &mut Host) {
        if self.0.iter().all(|device| !device.name.is_empty()) {
            return;
        }
        let path = host.roots().procfs.join("partitions");
        let partitions = host.read_once(&path).unwrap_or_default();
        for device in self.0.iter_mut().filter(|device| device.name.is_empty()) {
            let (major, minor) = device.number;
            let name = partition_name(partitions, device.number);
            device.name = name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"));
        }
    }

    /// Puts what is due, under the labels of `entity`.
    pub(super) fn put(&mut self, samples: &mut Samples, entity: u32, moment: Moment) {
        for device in &mut self.0 {
            for (at, metric) in METRICS.iter().enumerate().filter(|(_, metric)| moment.due(metric.tier)) {
                let name = &device.name;
                let series = *device.series[at].get_or_insert_with(|| {
                    samples.series(entity, metric, &Labels::new().with("device", name.as_str()))
                });
                samples.put_count(series, device.values[at]);
            }
        }
    }

    /// Lets the next [`Self::put`] make new series.
    pub(super) fn forget_series(&mut self) {
        for device in &mut self.0 {
            device.series = [None; METRICS.len()];
        }
    }
}

/// Finds a device's name in `/proc/partitions`.
pub(super) fn partition_name(partitions: &[u8], (major, minor): DeviceNumber) -> Option<&str> {
    str::from_utf8(partitions).ok()?.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| parse::single(word.as_bytes()));
        let found = (number(words.next())?, number(words.next())?) == (u64::from(major), u64::from(minor));
        words.nth(1).filter(|_| found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_by_the_partition_table() {
        let table = b"major minor  #blocks  name\n\n 254        0  268435456 vda\n 254        1  26843 vda1\n 8 x\n";
        let check = |number, expect| assert_eq!(partition_name(table, number), expect);
        check((254, 0), Some("vda"));
        check((254, 1), Some("vda1"));
        check((8, 0), None);
        assert_eq!(partition_name(b"\xff", (8, 0)), None);
    }

    #[test]
    fn a_count_never_steps_back_and_devices_are_bounded() {
        let mut devices = Devices::default();
        for value in [5, 3] {
            devices.set((8, 0), Io::Reads, value);
        }
        assert_eq!(devices.0[0].values, [0, 0, 5, 0]);
        for minor in 0..1_000 {
            devices.set((9, minor), Io::Reads, 1);
        }
        assert_eq!(devices.0.len(), CGROUP_DEVICES_MAX);
    }
}
