//! `/proc/diskstats`: what each block device did.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// Columns behind the name, in the kernel's order, and what one of each counts.
const COLUMNS: [(&Metric, f64); 17] = [
    (metric("node_disk_reads_completed_total"), 1.0),
    (metric("node_disk_reads_merged_total"), 1.0),
    (metric("node_disk_read_bytes_total"), SECTOR_BYTES),
    (metric("node_disk_read_time_seconds_total"), MILLISECOND),
    (metric("node_disk_writes_completed_total"), 1.0),
    (metric("node_disk_writes_merged_total"), 1.0),
    (metric("node_disk_written_bytes_total"), SECTOR_BYTES),
    (metric("node_disk_write_time_seconds_total"), MILLISECOND),
    (metric("node_disk_io_now"), 1.0),
    (metric("node_disk_io_time_seconds_total"), MILLISECOND),
    (metric("node_disk_io_time_weighted_seconds_total"), MILLISECOND),
    (metric("node_disk_discards_completed_total"), 1.0),
    (metric("node_disk_discards_merged_total"), 1.0),
    (metric("node_disk_discarded_sectors_total"), 1.0),
    (metric("node_disk_discard_time_seconds_total"), MILLISECOND),
    (metric("node_disk_flush_requests_total"), 1.0),
    (metric("node_disk_flush_requests_time_seconds_total"), MILLISECOND),
];

/// Columns that every kernel has; discards came with 4.18, flushes with 5.5.
const COLUMNS_MIN: usize = 11;

/// The kernel counts in sectors of 512 bytes whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;
const MILLISECOND: f64 = 0.001;

/// Whole block devices; partitions and memory disks are passed over, as node_exporter does by default.
pub(super) struct Disk {
    file: KeptFile,
    devices: Roster<Option<Device>>,
}

/// A device that is not passed over.
#[derive(Debug)]
struct Device {
    entity: u32,
    series: Vec<SeriesKey>,
}

impl Disk {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: KeptFile::new(roots.procfs.join("diskstats")), devices: Roster::default() }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(());
        self.devices.begin();
        for line in text::lines(text) {
            understood = understood.and(self.line(line, samples));
        }
        self.devices.end(|device| {
            if let Some(device) = device {
                samples.end_entity(device.entity);
            }
        });
        understood
    }

    #[expect(clippy::cast_precision_loss, reason = "above 2^53 the nearest float is taken")]
    fn line(&mut self, line: &[u8], samples: &mut Samples) -> Option<()> {
        let (name, columns, found) = parse(line)?;
        let device = self.devices.get(name, || (!is_passed_over(name)).then(|| Device::new(name, found, samples)));
        if let Some(device) = device {
            for ((series, value), (_, unit)) in device.series.iter().zip(columns).zip(COLUMNS) {
                samples.put(*series, value as f64 * unit);
            }
        }
        Some(())
    }
}

impl Device {
    fn new(name: &[u8], columns: usize, samples: &mut Samples) -> Self {
        let entity = samples.entity(&Labels::new().with("device", text::label(name)));
        let series = COLUMNS[..columns].iter().map(|(metric, _)| samples.series(entity, metric, &Labels::new()));
        Self { entity, series: series.collect() }
    }
}

impl Collector for Disk {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let text = tick.host.read(&mut self.file)?;
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("diskstats"))
    }
}

/// Name, columns, and how many of them there are.
fn parse(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()], usize)> {
    let mut words = text::words(line);
    let (_major, _minor, name) = (text::number(words.next()?)?, text::number(words.next()?)?, words.next()?);
    let mut columns = [0; COLUMNS.len()];
    let mut found = 0;
    for (slot, value) in columns.iter_mut().zip(words.map_while(text::number)) {
        *slot = value;
        found += 1;
    }
    (COLUMNS_MIN <= found).then_some((name, columns, found))
}

/// node_exporter's default: `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_passed_over(name: &[u8]) -> bool {
    let stem = without_digits(name);
    if stem.len() == name.len() {
        return false;
    }
    match stem {
        b"ram" | b"zram" | b"loop" | b"fd" => true,
        [b'h' | b's' | b'v', b'd', letter] | [b'x', b'v', b'd', letter] => letter.is_ascii_lowercase(),
        _ => is_nvme_namespace(stem.strip_suffix(b"p").unwrap_or_default()),
    }
}

/// `nvme\d+n\d+`.
fn is_nvme_namespace(name: &[u8]) -> bool {
    let numbered = |name: &'_ [u8], stem: &[u8]| {
        let bare = without_digits(name);
        (bare.len() < name.len()).then(|| bare.strip_suffix(stem)).flatten().map(<[u8]>::len)
    };
    let controller = numbered(name, b"n").map(|length| &name[..length]);
    controller.and_then(|controller| numbered(controller, b"nvme")) == Some(0)
}

fn without_digits(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_disks_are_passed_over() {
        let check = |passed_over: bool, names: &str| {
            for name in names.split(' ') {
                assert_eq!(is_passed_over(name.as_bytes()), passed_over, "{name}");
            }
        };
        check(true, "ram0 zram1 loop12 fd0 hda1 sda12 vdz3 xvda1 nvme0n1p1 nvme10n21p3");
        check(
            false,
            "sda sdaa1 vda xvda nvme0n1 nvme0c1n1 mmcblk0p1 dm-0 md0 sr0 sd1 sdA1 loopback1 1 0 nvmen1p1 nvme0np1",
        );
    }

    fn check(lines: &str, understood: bool, expect: &[f64]) {
        let mut samples = Samples::default();
        let mut disk = Disk::new(&Roots::default());
        assert_eq!(disk.parse(lines.as_bytes(), &mut samples).is_some(), understood, "{lines}");
        let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
        assert_eq!(values, expect, "{lines}");
    }

    #[test]
    fn columns_have_their_units_and_old_kernels_fewer() {
        let sixteen = " 8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n";
        let old = [1.0, 2.0, 1_536.0, 0.004, 5.0, 6.0, 3_584.0, 0.008, 9.0, 0.01, 0.011];
        let new = [12.0, 13.0, 14.0, 0.015, 16.0, 0.017];
        check(" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n", true, &old);
        check(sixteen, true, &[&old[..], &new].concat());
        check(&format!("{sixteen} 8 1 sda1 1 2 3 4 5 6 7 8 9 10 11\n 8 1"), true, &[&old[..], &new].concat());
    }

    #[test]
    fn lines_that_are_cut_or_garbled_leave_the_others_standing() {
        let whole = " 8 0 sda 1 0 0 0 0 0 0 0 0 0 0\n";
        let values = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        check(&format!(" 8 16 sdb 1 2 3\n{whole}"), false, &values);
        check(&format!("x 16 sdb 1 2 3 4 5 6 7 8 9 10 11\n{whole}"), false, &values);
        check(&format!("{whole} 8 16 sdb 1 2 3 4 5 6 7 8 9 -10 11\n"), false, &values);
        check("\n", false, &[]);
        check("", true, &[]);
    }

    #[test]
    fn a_disk_that_is_pulled_ends_with_all_its_series() {
        let mut samples = Samples::default();
        let mut disk = Disk::new(&Roots::default());
        for text in [
            " 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n 9 0 md0 1 2 3 4 5 6 7 8 9 10 11\n",
            " 9 0 md0 1 2 3 4 5 6 7 8 9 10 11\n",
            "",
        ] {
            disk.parse(text.as_bytes(), &mut samples);
            samples.settle();
        }
        let version = samples.settle().version();
        assert_eq!([1, 2, 3].map(|version| samples.schema().living(version).count()), [22, 11, 0]);
        assert_eq!(version, 3);
    }
}
