//! Processes below a root of their own, ticked by hand.

mod exited;
mod fields;
mod live;

use std::fs;
use std::time::Duration;

use common::config::Layers;
use common::metric::NAME;
use common::time::Timestamp;

use super::*;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::config::Config;
use crate::config::Roots;

const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";

/// One process as the kernel would show it.
#[derive(Clone, Copy)]
struct Fake {
    pid: u32,
    comm: &'static str,
    parent: u32,
    kernel: bool,
    start: u64,
    cpu: u64,
    pages: u64,
    read: u64,
    container: bool,
}

const BASH: Fake = Fake {
    pid: 17,
    comm: "bash",
    parent: 1,
    kernel: false,
    start: 4_000,
    cpu: 100,
    pages: 10,
    read: 0,
    container: false,
};

/// What a configuration says of processes.
fn naming(text: &str) -> Naming {
    let layers = Layers { file: Some(("agent.toml", text)), ..Layers::default() };
    let config = Config::read(&layers).unwrap();
    Naming { command_line: config.command_line, rules: config.groups }
}

/// How long a test waits for what is asked aside, where it must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Always there, and never doing anything.
const INIT: Fake = Fake { pid: 1, comm: "init", parent: 0, start: 1, cpu: 0, pages: 0, ..BASH };

struct Machine {
    base: tempfile::TempDir,
    host: Host,
    samples: Samples,
    cgroups: Cgroups,
    processes: Processes,
    second: i64,
    now: Duration,
    patience: Duration,
}

impl Machine {
    fn new() -> Self {
        // Ten thousand processes are thirty thousand files and directories: too many for a disk.
        let base = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let at = |name: &str| base.path().join(name);
        let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: at("root"), cgroupfs: at("cgroup") };
        fs::create_dir_all(at("proc/sys")).unwrap();
        fs::create_dir_all(at("root/etc")).unwrap();
        fs::create_dir_all(at("cgroup")).unwrap();
        fs::write(at("proc/uptime"), "500.00 900.00\n").unwrap();
        fs::write(at("root/etc/passwd"), "www:x:33:33\n").unwrap();
        fs::write(at("cgroup/cgroup.controllers"), "cpu\n").unwrap();
        let processes = Processes::new(&roots.procfs, naming(""));
        let (host, samples, cgroups) = (Host::new(roots), Samples::default(), Cgroups::default());
        let machine = Self {
            host,
            samples,
            cgroups,
            processes,
            second: 1_000,
            now: Duration::ZERO,
            patience: Duration::ZERO,
            base,
        };
        machine.run(INIT);
        machine
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.base.path().join(path.replace('@', ID));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, fake: Fake) {
        let Fake { pid, comm, parent, kernel, start, cpu, pages, read, container } = fake;
        let flags = if kernel { 0x0020_0000 } else { 0 };
        let stat = format!(
            "{pid} ({comm}) S {parent} 1 1 0 -1 {flags} {cpu} 0 {cpu} 0 {cpu} {cpu} 0 0 20 0 2 0 {start} 8192 {pages} 0 0\n"
        );
        let file = |name: &str, text: &str| self.write(&format!("proc/{pid}/{name}"), text);
        file("stat", &stat);
        file("statm", &format!("9 {pages} 1 0 0 0 0\n"));
        file("io", &format!("rchar: 1\nread_bytes: {read}\nwrite_bytes: {read}\ncancelled_write_bytes: 0\n"));
        file("cgroup", if container { "0::/docker/@\n" } else { "0::/\n" }.replace('@', ID).as_str());
        file("status", "Name:\tx\nUid:\t0\t33\t0\t0\n");
        file("cmdline", &format!("{comm}\0--password=hunter2\0"));
    }

    fn kill(&self, pid: u32) {
        fs::remove_dir_all(self.base.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn tick(&mut self) {
        self.try_tick().unwrap();
    }

    /// A tick at which only containers are looked at.
    fn skip(&mut self) {
        let moment = self.begin_tick();
        self.cgroups.tick(&mut Tick { host: &mut self.host, samples: &mut self.samples, moment }).unwrap();
        self.samples.settle();
    }

    fn try_tick(&mut self) -> Result<(), CollectError> {
        let moment = self.begin_tick();
        let mut tick = Tick { host: &mut self.host, samples: &mut self.samples, moment };
        self.cgroups.tick(&mut tick).unwrap();
        let outcome = self.processes.tick(&mut tick, &self.cgroups);
        self.samples.settle();
        outcome
    }

    fn begin_tick(&mut self) -> Moment {
        self.second += 1;
        let (stamp, now) = (Timestamp::from_seconds(self.second), self.now);
        let window = stamp.align_up(Duration::from_secs(10));
        let first_in_window = self.second % 10 == 1;
        self.samples.begin_tick();
        Moment { stamp, now, wall: stamp, window, first_in_window, patience: self.patience }
    }

    /// Makes the container's runtime write down what it used, and its name.
    fn container(&self, used_us: u64) {
        let cpu = format!("usage_usec {used_us}\nuser_usec {}\nsystem_usec {}\n", used_us / 4, used_us - used_us / 4);
        self.write("cgroup/docker/@/cpu.stat", cpu);
        self.write("root/var/lib/docker/containers/@/config.v2.json", r#"{"Name":"/web","Config":{"Image":"x"}}"#);
    }

    /// Ticks to the first tick of the next window, and takes the table when the open one closes.
    fn window(&mut self) -> Vec<Process> {
        while self.second % 10 != 0 {
            self.tick();
        }
        let table = self.processes.take_top(&mut self.host);
        self.tick();
        table
    }

    #[track_caller]
    fn check(&self, metric: &str, group: &str, expect: &[f64]) {
        let found = self.samples.values().iter().filter_map(|(series, value)| {
            let labels = self.samples.schema().labels(*series)?;
            let group_of = format!("{}@{}", labels.get("groupname"), labels.get("container"));
            let named = labels.get(NAME).strip_prefix("namedprocess_namegroup_") == Some(metric);
            (named && group_of.trim_end_matches('@') == group).then_some(*value)
        });
        assert_eq!(found.collect::<Vec<_>>(), expect, "{metric} of {group}");
    }
}

#[test]
fn a_group_is_all_processes_of_a_command() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.run(Fake { pid: 18, start: 3_000, pages: 5, ..BASH });
    machine.run(Fake { pid: 19, comm: "kworker/0:1-events", kernel: true, ..BASH });
    machine.run(Fake { pid: 20, comm: "kworker/u8:3", kernel: true, ..BASH });
    machine.write("proc/notes/stat", "");
    machine.tick();
    machine.check("num_procs", "bash", &[2.0]);
    machine.check("num_procs", "kworker", &[2.0]);
    machine.check("num_threads", "bash", &[4.0]);
    machine.check("memory_bytes", "bash", &[15.0 * 4_096.0, 2.0 * 8_192.0, 0.0]);
    machine.check("oldest_start_time_seconds", "bash", &[1_001.0 - 500.0 + 30.0]);
    machine.check("states", "bash", &[2.0]);
    machine.check("cpu_seconds_total", "bash", &[0.0, 0.0]);
}

#[test]
fn counters_of_a_group_do_not_fall_when_a_member_ends() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.run(Fake { pid: 18, ..BASH });
    machine.tick();
    machine.run(Fake { cpu: 150, ..BASH });
    machine.run(Fake { pid: 18, cpu: 130, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash", &[0.8, 0.8]);
    machine.kill(17);
    machine.tick();
    machine.check("cpu_seconds_total", "bash", &[0.8, 0.8]);
    machine.check("num_procs", "bash", &[1.0]);
    machine.run(Fake { pid: 18, cpu: 131, ..BASH });
    machine.run(Fake { pid: 21, start: 60_000, cpu: 7, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash", &[0.88, 0.88]);
    machine.window();
    machine.check("minor_page_faults_total", "bash", &[88.0]);
}

#[test]
fn a_process_id_that_is_given_again_is_another_process() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.tick();
    machine.run(Fake { cpu: 150, ..BASH });
    machine.tick();
    machine.run(Fake { comm: "vim", start: 60_000, cpu: 3, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash", &[0.5, 0.5]);
    let table = machine.window();
    let shown: Vec<_> = table.iter().map(|it| (it.command.as_str(), it.start_ticks, it.cpu_ms)).collect();
    assert_eq!(shown, [("bash", 4_000, 1_000), ("vim", 60_000, 60)]);
    machine.check("cpu_seconds_total", "vim", &[0.03, 0.03]);
}

#[test]
fn a_process_that_runs_another_program_changes_its_group() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.tick();
    machine.run(Fake { comm: "vim", cpu: 110, ..BASH });
    machine.window();
    machine.check("num_procs", "bash", &[0.0]);
    machine.check("num_procs", "vim", &[1.0]);
    machine.check("cpu_seconds_total", "vim", &[0.1, 0.1]);
}

#[test]
fn a_group_without_processes_ends_after_a_minute() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.tick();
    machine.kill(17);
    for _ in 0..60 {
        machine.tick();
    }
    machine.check("num_procs", "bash", &[0.0]);
    machine.tick();
    machine.check("num_procs", "bash", &[]);
    machine.run(BASH);
    machine.window();
    machine.check("num_procs", "bash", &[1.0]);
}

#[test]
fn a_command_that_comes_and_goes_within_a_window_makes_no_group() {
    let mut machine = Machine::new();
    machine.tick();
    machine.run(BASH);
    machine.tick();
    machine.kill(17);
    machine.window();
    machine.check("num_procs", "bash", &[]);
    assert!(!machine.samples.schema().entities().iter().any(|entity| entity.labels.get("groupname") == "bash"));
}

#[test]
fn only_processes_whose_container_used_cpu_are_read() {
    let mut machine = Machine::new();
    let cpu = |machine: &Machine, us: u32| {
        machine.write("cgroup/docker/@/cpu.stat", format!("usage_usec {us}\nuser_usec 0\nsystem_usec 0\n"));
    };
    cpu(&machine, 1);
    machine.write("root/var/lib/docker/containers/@/config.v2.json", r#"{"Name":"/web","Config":{"Image":"x"}}"#);
    machine.run(Fake { container: true, ..BASH });
    machine.run(Fake { pid: 18, comm: "kthread", kernel: true, ..BASH });
    machine.tick();
    machine.tick();
    machine.check("num_procs", "bash@web", &[1.0]);
    machine.run(Fake { container: true, cpu: 150, ..BASH });
    machine.run(Fake { pid: 18, comm: "kthread", kernel: true, cpu: 150, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[0.0, 0.0]);
    // Less than a clock tick is no more than a process would hide.
    cpu(&machine, 10_000);
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[0.0, 0.0]);
    cpu(&machine, 10_001);
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[0.5, 0.5]);
    machine.check("cpu_seconds_total", "kthread", &[]);
    let table = machine.window();
    assert_eq!(table.iter().find(|it| it.pid == 17).unwrap().container, "web");
    machine.check("cpu_seconds_total", "kthread", &[0.5, 0.5]);
    cpu(&machine, 10_002);
    machine.run(Fake { container: true, cpu: 151, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[0.5, 0.5]);
    machine.window();
    machine.check("cpu_seconds_total", "bash@web", &[0.51, 0.51]);
}

#[test]
fn what_ended_children_read_counts_once() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.tick();
    machine.run(Fake { pid: 18, parent: 17, comm: "dd", start: 60_000, read: 1_000, ..BASH });
    machine.window();
    machine.check("read_bytes_total", "dd", &[1_000.0]);
    machine.kill(18);
    // The kernel adds the child's whole count to its parent; 50 of it were never seen in the child.
    machine.run(Fake { read: 1_057, ..BASH });
    machine.window();
    machine.check("read_bytes_total", "bash", &[57.0]);
    machine.check("read_bytes_total", "dd", &[1_000.0]);
    machine.run(Fake { read: 1_060, ..BASH });
    machine.window();
    machine.check("write_bytes_total", "bash", &[60.0]);
}

#[test]
fn what_a_family_read_that_ended_at_once_counts_once() {
    let mut machine = Machine::new();
    machine.run(Fake { comm: "cron", ..BASH });
    machine.tick();
    let (shell, tar) = (18, 19);
    machine.run(Fake { pid: shell, parent: 17, comm: "sh", start: 60_000, ..BASH });
    machine.run(Fake { pid: tar, parent: shell, comm: "tar", start: 60_000, read: 1_000, ..BASH });
    machine.window();
    machine.kill(tar);
    machine.tick();
    machine.kill(shell);
    machine.run(Fake { comm: "cron", read: 1_001, ..BASH });
    machine.window();
    machine.check("read_bytes_total", "cron", &[1.0]);
    machine.run(Fake { pid: shell, parent: 17, comm: "sh", start: 70_000, ..BASH });
    machine.run(Fake { pid: tar, parent: shell, comm: "tar", start: 70_000, read: 500, ..BASH });
    machine.window();
    machine.kill(tar);
    machine.kill(shell);
    machine.run(Fake { comm: "cron", read: 1_503, ..BASH });
    machine.window();
    machine.check("read_bytes_total", "cron", &[3.0]);
}

#[test]
fn what_a_process_did_before_it_was_seen_is_not_growth() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.tick();
    machine.run(Fake { pid: 18, cpu: 90_000, read: 7_000, ..BASH });
    machine.window();
    machine.check("cpu_seconds_total", "bash", &[0.0, 0.0]);
    machine.check("read_bytes_total", "bash", &[0.0]);
    machine.run(Fake { pid: 18, cpu: 90_100, read: 7_009, ..BASH });
    machine.window();
    machine.check("cpu_seconds_total", "bash", &[1.0, 1.0]);
    machine.check("read_bytes_total", "bash", &[9.0]);
}

#[test]
fn kernel_threads_have_values_at_the_ticks_that_read_them() {
    let mut machine = Machine::new();
    machine.run(Fake { comm: "ksoftirqd/0", kernel: true, ..BASH });
    machine.window();
    machine.run(Fake { comm: "ksoftirqd/0", kernel: true, cpu: 1_100, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "ksoftirqd", &[]);
    machine.window();
    machine.check("cpu_seconds_total", "ksoftirqd", &[10.0, 10.0]);
}

#[test]
fn a_container_that_is_found_late_gets_its_processes() {
    let mut machine = Machine::new();
    machine.run(Fake { container: true, ..BASH });
    machine.tick();
    machine.check("num_procs", "bash", &[1.0]);
    machine.write("cgroup/docker/@/cpu.stat", "usage_usec 1\nuser_usec 0\nsystem_usec 0\n");
    machine.write("root/var/lib/docker/containers/@/config.v2.json", r#"{"Name":"/web","Config":{"Image":"x"}}"#);
    for _ in 0..7 {
        machine.window();
    }
    machine.check("num_procs", "bash@web", &[1.0]);
    machine.check("num_procs", "bash", &[]);
}

#[test]
fn the_groups_of_a_container_follow_its_name() {
    let mut machine = Machine::new();
    machine.container(0);
    machine.run(Fake { container: true, ..BASH });
    machine.tick();
    machine.run(Fake { container: true, cpu: 150, ..BASH });
    machine.container(1_000_000);
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[0.5, 0.5]);
    machine.write("root/var/lib/docker/containers/@/config.v2.json", r#"{"Name":"/website","Config":{"Image":"x"}}"#);
    machine.window();
    machine.check("num_procs", "bash@website", &[1.0]);
    machine.check("num_procs", "bash@web", &[0.0]);
    machine.check("cpu_seconds_total", "bash@web", &[0.5, 0.5]);
    machine.check("cpu_seconds_total", "bash@website", &[0.0, 0.0]);
    assert_eq!(machine.window()[0].container, "website");
}

#[test]
fn the_table_shows_who_did_what_and_no_secrets() {
    let mut machine = Machine::new();
    machine.patience = PATIENCE;
    machine.run(BASH);
    machine.tick();
    machine.run(Fake { cpu: 200, read: 4_096, pages: 20, ..BASH });
    let table = machine.window();
    let expect = Process {
        pid: 17,
        start_ticks: 4_000,
        user: "www".to_owned(),
        command: "bash".to_owned(),
        command_line: "bash --password=***".to_owned(),
        container: String::new(),
        cpu_ms: 2_000,
        resident_bytes: 20 * 4_096,
        read_bytes: 4_096,
        written_bytes: 4_096,
        major_faults: 100,
        minor_faults: 100,
        threads: 2,
    };
    assert_eq!(table, [expect]);
    let quiet = machine.window();
    assert_eq!((quiet[0].cpu_ms, quiet[0].read_bytes, quiet[0].minor_faults), (0, 0, 0));
}

#[test]
fn a_busy_process_that_ended_is_still_in_the_table() {
    let mut machine = Machine::new();
    machine.patience = PATIENCE;
    machine.tick();
    machine.run(Fake { start: 50_000, ..BASH });
    machine.tick();
    machine.kill(17);
    let table = machine.window();
    let shown: Vec<_> = table.iter().map(|it| (it.command_line.as_str(), it.cpu_ms)).collect();
    assert_eq!(shown, [("bash --password=***", 2_000)]);
    assert_eq!(machine.window(), []);
}

#[test]
fn odd_names_and_broken_files_hold_nothing_up() {
    let mut machine = Machine::new();
    machine.run(Fake { comm: "a) R (b\n", ..BASH });
    machine.write("proc/18/stat", b"18 (\xff\xfe) S 1 1 1 0 -1 0 1 0 1 0 1 1 0 0 20 0 2 0 5 8192 1 0 0\n");
    machine.write("proc/19/stat", "");
    machine.write("proc/20/stat", "20 (x) S 1");
    machine.write("proc/21/cmdline", "no stat\0");
    machine.write("proc/99999999999/stat", "");
    machine.tick();
    machine.check("num_procs", "a) R (b\n", &[1.0]);
    machine.check("num_procs", "\u{fffd}\u{fffd}", &[1.0]);
    let table = machine.window();
    assert_eq!(table.iter().map(|it| it.pid).collect::<Vec<_>>(), [17, 18]);
}

#[test]
fn past_the_limit_groups_are_one() {
    let mut groups = Groups::default();
    let now = Timestamp::from_seconds(1);
    let all: std::collections::BTreeSet<_> =
        (0..2 * group::GROUPS_MAX).map(|number| groups.of(&format!("command-{number}"), "", false, now)).collect();
    assert_eq!(all.len(), group::GROUPS_MAX + 1);
}
