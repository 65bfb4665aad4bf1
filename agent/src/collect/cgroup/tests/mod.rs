//! Whole trees below a root of their own, ticked by hand. Values of version 1 are as recorded from Docker 20.10 on Linux
//! 6.18; the version 2 tree is made from the kernel's documentation.

mod life;
mod network;

use std::fs;
use std::time::Duration;

use common::metric::NAME;
use common::time::Timestamp;

use super::*;
use crate::collect::cgroup::workload::UNNAMED_TICKS;
use crate::config::Roots;
use crate::identify::SHORT_ID;

const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";

/// Made from the kernel's documentation.
const V2_MEMORY_STAT: &str = "anon 61440\nfile 8388608\nkernel 12288\nfile_mapped 2048\ninactive_file 4194304\n\
    workingset_refault_anon 3\nworkingset_refault_file 4\npgfault 100\npgmajfault 7\n";

struct Machine {
    base: tempfile::TempDir,
    host: Host,
    samples: Samples,
    cgroups: Cgroups,
    second: i64,
}

impl Machine {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: at("root"), cgroupfs: at("cgroup") };
        for root in [&roots.procfs, &roots.rootfs, &roots.cgroupfs] {
            fs::create_dir(root).unwrap();
        }
        let machine = Self {
            host: Host::new(roots),
            samples: Samples::default(),
            cgroups: Cgroups::default(),
            second: 1_000,
            base,
        };
        machine.write("proc/partitions", " 254        0  268435456 vda\n");
        machine.write("proc/uptime", "500.00 900.00\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.base.path().join(path.replace('@', ID));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.base.path().join(path.replace('@', ID))).unwrap();
    }

    fn describe(&self, name: &str, restarts: u32) {
        self.describe_as(name, &format!(r#""State":{{"Running":true}},"RestartCount":{restarts}"#));
    }

    fn describe_as(&self, name: &str, state: &str) {
        let json = format!(r#"{{"Name":"/{name}","Config":{{"Image":"nginx:1"}},{state}}}"#);
        self.write("root/var/lib/docker/containers/@/config.v2.json", &json);
    }

    /// The unified tree, with one container and one service in it.
    fn v2(&self) {
        self.write("cgroup/cgroup.controllers", "cpu io memory pids\n");
        self.v2_container("10", "0");
        self.write(r"cgroup/system.slice/a\x2db.service/cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n");
        self.write("cgroup/system.slice/tmp.mount/cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n");
    }

    fn v2_container(&self, usage: &str, oom: &str) {
        let file = |name: &str, text: &str| self.write(&format!("cgroup/system.slice/docker-@.scope/{name}"), text);
        let throttling = "nr_periods 24\nnr_throttled 22\nthrottled_usec 1440444\n";
        file("cpu.stat", &format!("usage_usec {usage}000000\nuser_usec 9000000\nsystem_usec 1000000\n{throttling}"));
        file("cpu.max", "30000 100000\n");
        file("cpu.weight", "100\n");
        file("memory.current", "10485760\n");
        file("memory.max", "67108864\n");
        file("memory.peak", "20971520\n");
        file("memory.stat", V2_MEMORY_STAT);
        file("memory.swap.current", "4096\n");
        file("memory.events", &format!("low 0\nhigh 0\nmax 5\noom {oom}\noom_kill {oom}\n"));
        file("io.stat", "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n");
        file("pids.current", "3\n");
        file("pids.max", "100\n");
        let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1250000\n";
        ["cpu", "memory", "io"].iter().for_each(|what| file(&format!("{what}.pressure"), pressure));
    }

    fn tick(&mut self) {
        self.second += 1;
        let stamp = Timestamp::from_seconds(self.second);
        let window = stamp.align_up(Duration::from_secs(10));
        let first_in_window = self.second % 10 == 1;
        let now = Duration::ZERO;
        let moment = Moment { stamp, now, wall: stamp, window, first_in_window, patience: now };
        self.samples.begin_tick();
        self.cgroups.tick(&mut Tick { host: &mut self.host, samples: &mut self.samples, moment }).unwrap();
        self.samples.settle();
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
        }
    }

    /// Ticks to the first tick of the next window.
    fn window(&mut self) {
        self.tick();
        while self.second % 10 != 1 {
            self.tick();
        }
    }

    /// Values of one metric at this tick, each with `label`.
    fn values(&self, metric: &str, label: &str) -> Vec<(String, f64)> {
        let labelled = self.samples.values().iter().filter_map(|(series, value)| {
            let labels = self.samples.schema().labels(*series)?;
            (labels.get(NAME) == metric).then(|| (labels.get(label).replace(ID, "@"), *value))
        });
        labelled.collect()
    }

    #[track_caller]
    fn check(&self, metric: &str, expect: &[f64]) {
        let of_container = |labels: &Labels| !labels.get("name").is_empty();
        let found = self.samples.values().iter().filter_map(|(series, value)| {
            let labels = self.samples.schema().labels(*series)?;
            (labels.get(NAME) == metric && of_container(&labels)).then_some(*value)
        });
        assert_eq!(found.collect::<Vec<_>>(), expect, "{metric}");
    }

    fn events(&mut self) -> Vec<String> {
        self.samples.take_events().into_iter().map(|event| event.kind).collect()
    }

    /// The same files, seen for the first time.
    fn again(&self) -> Self {
        Self { host: Host::new(self.host.roots().clone()), base: tempfile::tempdir().unwrap(), ..Self::new() }
    }
}

#[test]
fn a_container_of_version_2() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 2);
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[10.0]);
    machine.check("container_cpu_user_seconds_total", &[9.0]);
    machine.check("container_cpu_system_seconds_total", &[1.0]);
    machine.check("container_cpu_cfs_periods_total", &[24.0]);
    machine.check("container_cpu_cfs_throttled_periods_total", &[22.0]);
    machine.check("container_cpu_cfs_throttled_seconds_total", &[1.44]);
    machine.check("container_spec_cpu_quota", &[30_000.0]);
    machine.check("container_spec_cpu_period", &[100_000.0]);
    machine.check("container_spec_cpu_shares", &[2_597.0]);
    machine.check("container_memory_usage_bytes", &[10_485_760.0]);
    machine.check("container_memory_working_set_bytes", &[6_291_456.0]);
    machine.check("container_memory_rss", &[61_440.0]);
    machine.check("container_memory_cache", &[8_388_608.0]);
    machine.check("container_memory_swap", &[4_096.0]);
    machine.check("container_spec_memory_limit_bytes", &[67_108_864.0]);
    machine.check("container_oom_events_total", &[0.0]);
    machine.check("container_threads", &[3.0]);
    machine.check("container_threads_max", &[100.0]);
    machine.check("container_memory_max_usage_bytes", &[20_971_520.0]);
    machine.check("container_memory_failcnt", &[5.0]);
    machine.check("container_memory_kernel_usage", &[12_288.0]);
    machine.check("container_memory_mapped_file", &[2_048.0]);
    machine.check("container_memory_failures_total", &[100.0, 7.0, 100.0, 7.0]);
    machine.check("container_memory_workingset_refault_anon_total", &[3.0]);
    machine.check("container_memory_workingset_refault_file_total", &[4.0]);
    for what in ["cpu", "memory", "io"] {
        machine.check(&format!("container_pressure_{what}_waiting_seconds_total"), &[2.5]);
        machine.check(&format!("container_pressure_{what}_stalled_seconds_total"), &[1.25]);
    }
    machine.check("container_last_seen", &[1_001.0]);
    machine.check("lapwing_container_restarts_total", &[2.0]);
    assert_eq!(machine.values("container_fs_reads_bytes_total", "device"), [("/dev/vda".to_owned(), 4_096.0)]);
    assert_eq!(machine.values("container_fs_writes_bytes_total", "device"), [("/dev/vda".to_owned(), 8_192.0)]);
    let [reads, writes] = ["container_fs_reads_total", "container_fs_writes_total"];
    assert_eq!([&machine.values(reads, "image")[0].0, &machine.values(writes, "name")[0].0], ["nginx:1", "web"]);
    let shown = machine.values("container_cpu_usage_seconds_total", "service");
    assert_eq!(shown, [("a-b.service".to_owned(), 0.0), (String::new(), 10.0)]);
    let ids = machine.values("container_cpu_usage_seconds_total", "id").into_iter().map(|(id, _)| id);
    assert_eq!(ids.collect::<Vec<_>>(), [r"/system.slice/a\x2db.service", "/system.slice/docker-@.scope"]);
}

#[test]
fn a_container_of_version_1() {
    let mut machine = Machine::new();
    let file = |machine: &Machine, place: &str, text: &str| machine.write(&format!("cgroup/{place}"), text);
    file(&machine, "cpuacct/docker/@/cpuacct.usage", "693315320\n");
    file(&machine, "cpuacct/docker/@/cpuacct.stat", "user 65\nsystem 3\n");
    file(&machine, "cpu/docker/@/cpu.stat", "nr_periods 24\nnr_throttled 22\nthrottled_time 1440444202\n");
    file(&machine, "cpu/docker/@/cpu.cfs_quota_us", "30000\n");
    file(&machine, "cpu/docker/@/cpu.cfs_period_us", "100000\n");
    file(&machine, "cpu/docker/@/cpu.shares", "1024\n");
    file(&machine, "memory/docker/@/memory.usage_in_bytes", "323584\n");
    file(&machine, "memory/docker/@/memory.limit_in_bytes", "9223372036854771712\n");
    file(&machine, "memory/docker/@/memory.stat", include_str!("../fixtures/v1/memory.stat"));
    file(&machine, "memory/docker/@/memory.max_usage_in_bytes", "400000\n");
    file(&machine, "memory/docker/@/memory.failcnt", "6\n");
    file(&machine, "memory/docker/@/memory.kmem.usage_in_bytes", "53248\n");
    file(&machine, "pids/docker/@/pids.max", "max\n");
    file(&machine, "memory/docker/@/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    file(
        &machine,
        "blkio/docker/@/blkio.throttle.io_service_bytes_recursive",
        "254:0 Read 1\n254:0 Write 2\nTotal 3\n",
    );
    file(&machine, "blkio/docker/@/blkio.throttle.io_serviced_recursive", "254:0 Read 3\n254:0 Write 4\nTotal 7\n");
    file(&machine, "pids/docker/@/pids.current", "1\n");
    machine.describe("spin", 0);
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[0.693]);
    machine.check("container_cpu_user_seconds_total", &[0.65]);
    machine.check("container_cpu_system_seconds_total", &[0.03]);
    machine.check("container_cpu_cfs_throttled_seconds_total", &[1.44]);
    machine.check("container_spec_cpu_quota", &[30_000.0]);
    machine.check("container_spec_cpu_period", &[100_000.0]);
    machine.check("container_spec_cpu_shares", &[1_024.0]);
    machine.check("container_memory_working_set_bytes", &[323_584.0]);
    machine.check("container_spec_memory_limit_bytes", &[0.0]);
    machine.check("container_memory_max_usage_bytes", &[400_000.0]);
    machine.check("container_memory_failcnt", &[6.0]);
    machine.check("container_memory_kernel_usage", &[53_248.0]);
    machine.check("container_memory_failures_total", &[1_115.0, 0.0, 1_115.0, 0.0]);
    machine.check("container_oom_events_total", &[1.0]);
    machine.check("container_threads", &[1.0]);
    machine.check("container_threads_max", &[0.0]);
    let io = ["reads_bytes", "writes_bytes", "reads", "writes"];
    for (what, expect) in io.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        machine.check(&format!("container_fs_{what}_total"), &[expect]);
    }
}

#[test]
fn on_a_hybrid_host_a_service_without_accounting_is_read_from_the_unified_tree() {
    let mut machine = Machine::new();
    let mounts = "\
1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
2 0 0:2 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    machine.write("proc/self/mountinfo", mounts);
    machine.write("cgroup/cpuacct/docker/@/cpuacct.usage", "5000000000\n");
    machine.write("cgroup/memory/system.slice/a.service/memory.usage_in_bytes", "4096\n");
    machine.write("cgroup/unified/docker/@/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\n");
    machine.write("cgroup/unified/system.slice/a.service/cpu.stat", "usage_usec 2000000\nuser_usec 1\nsystem_usec 0\n");
    machine.describe("web", 0);
    machine.tick();
    let found = machine.values("container_cpu_usage_seconds_total", "id");
    assert_eq!(found, [("/docker/@".to_owned(), 5.0), ("/system.slice/a.service".to_owned(), 2.0)]);
    let found = machine.values("container_memory_usage_bytes", "service");
    assert_eq!(found, [("a.service".to_owned(), 4_096.0)]);
}

#[test]
fn a_container_that_appears_waits_for_its_name() {
    let mut machine = Machine::new();
    machine.write("cgroup/cgroup.controllers", "cpu\n");
    machine.ticks(3);
    machine.v2();
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.describe("web", 0);
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[10.0]);
    assert_eq!(machine.events(), ["container_started"]);
    machine.window();
    machine.check("container_start_time_seconds", &[1_004.0]);
}

#[test]
fn a_container_nobody_names_is_shown_by_its_id_until_somebody_does() {
    let mut machine = Machine::new();
    machine.v2();
    machine.ticks(UNNAMED_TICKS as usize);
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.tick();
    assert_eq!(machine.values("container_threads", "name"), [(ID[..SHORT_ID].to_owned(), 3.0)]);
    machine.describe("web", 0);
    machine.window();
    assert_eq!(machine.values("container_threads", "name"), [("web".to_owned(), 3.0)]);
    machine.window();
    let schema = machine.samples.schema();
    let living = schema.living(schema.version()).filter_map(|(series, _)| schema.labels(series));
    assert_eq!(
        living.filter(|labels| labels.get("name") == &ID[..SHORT_ID]).count(),
        0,
        "the series under the id ended"
    );
}

#[test]
fn processes_are_counted_where_they_are() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    let mut check = |processes: &str, usage: &str, expect: &[f64]| {
        machine.v2_container(usage, "0");
        machine.write("cgroup/system.slice/docker-@.scope/cgroup.procs", processes);
        machine.window();
        machine.check("container_processes", expect);
    };
    check("11\n12\n", "11", &[2.0]);
    check("11\n12\n13\n", "12", &[3.0]);
    // Nobody began or ended without CPU time.
    check("11\n", "12", &[3.0]);
    // What runs is in cgroups inside.
    check("", "13", &[]);
}

#[test]
fn an_idle_container_is_read_once_a_window() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    machine.write("cgroup/system.slice/docker-@.scope/pids.current", "9\n");
    machine.tick();
    machine.check("container_threads", &[3.0]);
    machine.write("cgroup/system.slice/docker-@.scope/cpu.stat", "usage_usec 11000000\nuser_usec 0\nsystem_usec 0\n");
    machine.tick();
    machine.check("container_threads", &[9.0]);
    machine.check("container_cpu_usage_seconds_total", &[11.0]);
    let inside = machine.cgroups.find(&format!("/system.slice/docker-{ID}.scope/x")).unwrap();
    let used: Vec<_> = machine.cgroups.each().map(|(handle, used)| (handle, used.unwrap().usage)).collect();
    assert!(used.contains(&(inside, 11.0)), "{used:?}");
    machine.write("cgroup/system.slice/docker-@.scope/pids.current", "1\n");
    machine.window();
    machine.check("container_threads", &[1.0]);
    machine.check("container_cpu_user_seconds_total", &[9.0]);
}

#[test]
fn a_limit_around_is_a_limit() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    let file = |machine: &Machine, name: &str, text: &str| machine.write(&format!("cgroup/system.slice/{name}"), text);
    file(&machine, "cpu.max", "50000 200000\n");
    file(&machine, "memory.max", "33554432\n");
    file(&machine, "pids.max", "max\n");
    machine.tick();
    machine.check("container_spec_cpu_quota", &[50_000.0]);
    machine.check("container_spec_cpu_period", &[200_000.0]);
    machine.check("container_spec_memory_limit_bytes", &[33_554_432.0]);
    machine.check("container_threads_max", &[100.0]);
    file(&machine, "cpu.max", "max 100000\n");
    file(&machine, "memory.max", "max\n");
    machine.window();
    machine.check("container_spec_cpu_quota", &[30_000.0]);
    machine.check("container_spec_memory_limit_bytes", &[67_108_864.0]);
}

#[test]
fn limits_that_the_runtime_writes_down_anew_are_seen_within_a_window() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(200);
    machine.describe("renamed", 0);
    machine.window();
    machine.write("cgroup/system.slice/docker-@.scope/memory.max", "134217728\n");
    machine.window();
    machine.check("container_spec_memory_limit_bytes", &[134_217_728.0]);
    let names = machine.values("container_threads", "name").into_iter().map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["renamed"]);
}

#[test]
fn a_limit_that_was_changed_by_hand_is_seen_within_a_minute_in_which_the_container_runs() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(200);
    machine.write("cgroup/system.slice/docker-@.scope/memory.max", "134217728\n");
    machine.ticks(121);
    machine.check("container_spec_memory_limit_bytes", &[67_108_864.0]);
    machine.write("cgroup/system.slice/docker-@.scope/cpu.stat", "usage_usec 11000000\nuser_usec 1\nsystem_usec 1\n");
    machine.ticks(60);
    machine.check("container_spec_memory_limit_bytes", &[134_217_728.0]);
}

#[test]
fn broken_and_missing_files_are_missing_values_and_nothing_else() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    for file in ["memory.stat", "io.stat", "pids.current", "cpu.max"] {
        machine.write(&format!("cgroup/system.slice/docker-@.scope/{file}"), "\u{fffd} what\n\n= =\n");
    }
    fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/memory.max"))).unwrap();
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[10.0]);
    machine.check("container_memory_usage_bytes", &[10_485_760.0]);
    for missing in
        ["memory_working_set_bytes", "threads", "spec_cpu_quota", "spec_memory_limit_bytes", "fs_reads_total"]
    {
        machine.check(&format!("container_{missing}"), &[]);
    }
}

#[test]
fn a_controller_that_is_switched_off_takes_its_files_and_nothing_else() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.window();
    machine.v2_container("20", "0");
    fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/memory.stat"))).unwrap();
    machine.window();
    machine.v2_container("30", "0");
    machine.window();
    machine.check("container_cpu_usage_seconds_total", &[30.0]);
    assert_eq!(machine.events(), [""; 0]);
}

#[test]
fn without_cgroups_nothing_is_shown() {
    let mut machine = Machine::new();
    fs::remove_dir(machine.base.path().join("cgroup")).unwrap();
    machine.tick();
    assert_eq!(machine.samples.values(), []);
}
