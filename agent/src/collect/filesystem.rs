//! The mount table, and how full each real file system is.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use common::batch::Event;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::config::Roots;
use crate::host::Aside;
use crate::host::FilesystemSpace;
use crate::host::Inquiry;
use crate::host::filesystem_space;

const DEVICE_ERROR: &Metric = metric("node_filesystem_device_error");
type Part = fn(&FilesystemSpace, bool) -> u64;
const SPACE: [(&Metric, Part); 6] = [
    (metric("node_filesystem_size_bytes"), |space, _| space.size_bytes),
    (metric("node_filesystem_free_bytes"), |space, _| space.free_bytes),
    (metric("node_filesystem_avail_bytes"), |space, _| space.available_bytes),
    (metric("node_filesystem_files"), |space, _| space.files),
    (metric("node_filesystem_files_free"), |space, _| space.files_free),
    (metric("node_filesystem_readonly"), |_, read_only| u64::from(read_only)),
];

/// File systems that hold no data of their own; node_exporter's default.
const EXCLUDED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mount points that are passed over with all below them, and those of which only what is below is; node_exporter's
/// default.
const EXCLUDED_TREES: &[&str] = &["/dev", "/proc", "/sys"];
const EXCLUDED_BELOW: &[&str] = &["/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"];

/// Real file systems of the host.
pub(super) struct Filesystem {
    /// The first process' mounts are the host's; the agent's own where those may not be read.
    tables: [PathBuf; 2],
    roots: Roots,
    mounts: Roster<Option<Mount>>,
    aside: Aside,
    inquiry: Inquiry<io::Result<FilesystemSpace>>,
}

/// A mount that is not passed over.
#[derive(Debug)]
struct Mount {
    /// Where it is reached from here.
    path: PathBuf,
    entity: u32,
    labels: Labels,
    error: SeriesKey,
    /// What the host's table says: the agent's own view of the mount may be narrower.
    read_only: bool,
    /// Whether it was not read-only in the window before.
    writable: bool,
    space: Option<[SeriesKey; SPACE.len()]>,
    /// The window that has its values.
    reported: Option<Timestamp>,
}

impl Filesystem {
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            tables: ["1/mountinfo", "self/mountinfo"].map(|table| roots.procfs.join(table)),
            roots: roots.clone(),
            mounts: Roster::default(),
            aside: Aside::default(),
            inquiry: Inquiry::default(),
        }
    }

    fn begin_round(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let text = tick.host.read_either(&self.tables)?;
        let understood = self.parse(text, tick.samples);
        let paths = self.mounts.items().filter_map(|mount| Some(mount.as_ref()?.path.clone()));
        let has_room = self.inquiry.begin(&mut self.aside, paths, &filesystem_space, tick.moment.now)?;
        understood.ok_or(CollectError::Malformed("mountinfo"))?;
        if has_room { Ok(()) } else { Err(CollectError::TooMuch("mounts")) }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.mounts.begin();
        for line in text::lines(text) {
            let Some(([mountpoint, fstype, device], read_only)) = parse(line) else {
                understood = None;
                continue;
            };
            let mount = self.mounts.get(&[mountpoint, fstype, device].join(&b' '), || {
                let (mountpoint, fstype) = (unescape(mountpoint), text::label(fstype));
                (!is_passed_over(&mountpoint, &fstype)).then(|| {
                    let labels = Labels::new()
                        .with("device", text::label(&unescape(device)))
                        .with("fstype", fstype)
                        .with("mountpoint", text::label(&mountpoint));
                    let entity = samples.entity(&labels);
                    let path = self.roots.on_rootfs(Path::new(&OsString::from_vec(mountpoint)));
                    let error = samples.series(entity, DEVICE_ERROR, &Labels::new());
                    let (writable, space, reported) = (false, None, None);
                    Mount { path, entity, labels, error, read_only, writable, space, reported }
                })
            });
            mount.iter_mut().for_each(|mount| mount.read_only = read_only);
        }
        self.mounts.end(|mount| mount.into_iter().for_each(|mount| samples.end_entity(mount.entity)));
        understood
    }

    fn report(&mut self, path: &Path, space: Option<FilesystemSpace>, tick: &mut Tick<'_>) {
        for mount in self.mounts.items().flatten().filter(|mount| mount.path == path) {
            mount.report(space, tick.moment, tick.samples);
        }
    }
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let begun = if tick.moment.due(DEVICE_ERROR.tier) { self.begin_round(tick) } else { Ok(()) };
        let Moment { now, patience, .. } = tick.moment;
        while let Some((path, answer)) = self.inquiry.next(&mut self.aside, now, patience)? {
            self.report(&path, answer.ok(), tick);
        }
        let silent: Vec<PathBuf> = self.inquiry.silent().map(Path::to_owned).collect();
        for path in &silent {
            self.report(path, None, tick);
        }
        begun?;
        silent.first().map_or(Ok(()), |path| Err(CollectError::Silent(path.display().to_string())))
    }
}

impl Mount {
    fn report(&mut self, space: Option<FilesystemSpace>, moment: Moment, samples: &mut Samples) {
        if self.reported == Some(moment.window) {
            return;
        }
        self.reported = Some(moment.window);
        samples.put(self.error, f64::from(u8::from(space.is_none())));
        if let Some(space) = space {
            let entity = self.entity;
            let make = || SPACE.map(|(metric, _)| samples.series(entity, metric, &Labels::new()));
            let series = *self.space.get_or_insert_with(make);
            for (series, (_, value)) in series.into_iter().zip(SPACE) {
                samples.put_count(series, value(&space, self.read_only));
            }
        }
        if std::mem::replace(&mut self.writable, !self.read_only) && self.read_only {
            let text = format!("The file system on {} is read-only.", self.labels.get("mountpoint"));
            let (kind, entity) = ("mount_read_only".to_owned(), self.labels.clone());
            samples.event(Event { at: moment.stamp, kind, entity, text });
        }
    }
}

/// Mount point, type and device of `27 1 254:0 / /home rw,relatime shared:1 - ext4 /dev/sda1 rw`, and whether it is
/// read-only: the mount, or the file system that an error made so.
fn parse(line: &[u8]) -> Option<([&[u8]; 3], bool)> {
    const MOUNTPOINT: usize = 4;
    let mut columns = line.split(|byte| *byte == b' ');
    let (mountpoint, options) = (columns.nth(MOUNTPOINT)?, columns.next()?);
    // Between the options and the dash stand any number of tags.
    columns.find(|column| *column == b"-")?;
    let (fstype, device) = (columns.next()?, columns.next()?);
    let says_so = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let read_only = says_so(options) || columns.next().is_some_and(says_so);
    (mountpoint.starts_with(b"/") && !fstype.is_empty()).then_some(([mountpoint, fstype, device], read_only))
}

/// Spaces, tabs, newlines, backslashes and hashes are written as three octal digits.
fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((first, behind)) = rest.split_first() {
        match (first, behind) {
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', behind @ ..]) => {
                plain.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest = behind;
            }
            _ => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

fn is_passed_over(mountpoint: &[u8], fstype: &str) -> bool {
    let below = |tree: &str| mountpoint.strip_prefix(tree.as_bytes()).filter(|rest| rest.is_empty() || rest[0] == b'/');
    EXCLUDED_TYPES.contains(&fstype)
        || EXCLUDED_TREES.iter().any(|tree| below(tree).is_some())
        || EXCLUDED_BELOW.iter().any(|tree| below(tree).is_some_and(|rest| 1 < rest.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_holds_no_data_is_passed_over() {
        let check = |passed_over: bool, mountpoint: &str, fstype: &str| {
            assert_eq!(is_passed_over(mountpoint.as_bytes(), fstype), passed_over, "{mountpoint} {fstype}");
        };
        check(true, "/dev", "tmpfs");
        check(true, "/dev/shm", "tmpfs");
        check(true, "/run/credentials/a.service", "tmpfs");
        check(true, "/var/lib/docker/volumes", "ext4");
        check(true, "/mnt", "overlay");
        check(true, "/snap/core", "squashfs");
        check(false, "/", "ext4");
        check(false, "/device", "ext4");
        check(false, "/run/credentials", "tmpfs");
        check(false, "/var/lib/docker", "ext4");
        check(false, "/mnt", "nfs4");
    }

    #[test]
    fn odd_names_become_labels() {
        let check = |table: &[u8], understood: bool, expect: &[&str]| {
            let mut samples = Samples::default();
            let roots = Roots { rootfs: "/host".into(), ..Roots::default() };
            let mut filesystem = Filesystem::new(&roots);
            let read = filesystem.parse(table, &mut samples);
            assert_eq!(read.is_some(), understood, "{}", table.escape_ascii());
            let shown: Vec<String> = filesystem
                .mounts
                .items()
                .flatten()
                .zip(&samples.settle().entities()[1..])
                .map(|(mount, entity)| format!("{} {}", mount.path.display(), entity.labels))
                .collect();
            assert_eq!(shown, expect);
        };
        check(
            b"27 1 8:1 / / rw shared:1 master:2 - ext4 /dev/sda1 rw\n22 27 0:21 / /proc rw - proc proc rw\n\
              30 27 0:50 / /mnt/a\\040b\\012\"c\\134 rw - nfs4 nas:/a\\040b rw,vers=4.2\n",
            true,
            &[
                r#"/host/ {device="/dev/sda1", fstype="ext4", mountpoint="/"}"#,
                "/host/mnt/a b\n\"c\\ {device=\"nas:/a b\", fstype=\"nfs4\", mountpoint=\"/mnt/a b\\n\\\"c\\\\\"}",
            ],
        );
        check(
            b"27 1 8:1 / /mnt\\377 rw - ext4 /dev/sd\xff rw\n28 1 8:2 / /cut rw - ex",
            true,
            &["/host/mnt\u{fffd} {device=\"/dev/sd\u{fffd}\", fstype=\"ext4\", mountpoint=\"/mnt\u{fffd}\"}"],
        );
        let tmp = r#"/host/tmp {device="tmp", fstype="tmpfs", mountpoint="/tmp"}"#;
        let whole = "28 1 0:9 / /tmp rw - tmpfs tmp rw\n";
        for garbled in [
            "27 1 8:1 / relative rw - ext4 /dev/sda1 rw\n",
            "27 1 8:1 / / rw ext4 /dev/sda1\n",
            "\u{fffd}\n",
            "27 1 8:1 / /\n",
        ] {
            check(format!("{garbled}{whole}{whole}").as_bytes(), false, &[tmp]);
        }
        check(b"", false, &[]);
    }

    const ASKED: FilesystemSpace =
        FilesystemSpace { size_bytes: 9, free_bytes: 5, available_bytes: 4, files: 3, files_free: 2 };

    fn of_window(seconds: i64) -> Moment {
        let (stamp, now, patience) = (Timestamp::from_seconds(seconds), Duration::ZERO, Duration::ZERO);
        Moment { stamp, now, wall: stamp, window: stamp, first_in_window: true, patience }
    }

    #[test]
    fn a_mount_has_one_value_a_window_and_says_when_it_fails() {
        let mut samples = Samples::default();
        let mut filesystem = Filesystem::new(&Roots::default());
        filesystem.parse(b"27 1 8:1 / / ro - ext4 /dev/sda1 rw\n", &mut samples);
        let mount = filesystem.mounts.items().flatten().next().unwrap();
        let mut check = |space: Option<FilesystemSpace>, window: i64, expect: &[f64]| {
            samples.begin_tick();
            mount.report(space, of_window(window), &mut samples);
            let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expect);
        };
        check(None, 10, &[1.0]);
        check(Some(ASKED), 10, &[]);
        check(Some(ASKED), 20, &[0.0, 9.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        check(None, 30, &[1.0]);
    }

    #[test]
    fn a_mount_that_goes_read_only_is_an_event_and_one_that_was_so_is_none() {
        let mut samples = Samples::default();
        let mut filesystem = Filesystem::new(&Roots::default());
        let mut window = 0;
        // One character a window: `r` read-only, `e` after an error, `w` writable.
        let mut check = |tables: &str, expect: &[i64]| {
            for table in tables.chars() {
                window += 10;
                let [mount, whole] = [table == 'r', table == 'e'].map(|it| if it { "ro,noatime" } else { "rw,ro_x" });
                let line = format!("27 1 8:1 / /srv {mount} shared:1 - ext4 /dev/sda1 {whole}\n");
                filesystem.parse(line.as_bytes(), &mut samples);
                let mount = filesystem.mounts.items().flatten().next().unwrap();
                mount.report(None, of_window(window), &mut samples);
            }
            let events = samples.take_events();
            let named = |event: &Event| event.kind == "mount_read_only" && event.entity.get("mountpoint") == "/srv";
            assert!(events.iter().all(named), "{events:?}");
            assert_eq!(events.iter().map(|event| event.at.as_millis() / 1_000).collect::<Vec<_>>(), expect);
        };
        check("rr", &[]);
        check("wrr", &[40]);
        check("wee", &[70]);
    }
}
