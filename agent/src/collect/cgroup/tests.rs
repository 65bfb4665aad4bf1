//! Whole trees below a root of their own, ticked by hand. Values of version 1 are as recorded from Docker 20.10 on Linux
//! 6.18; the version 2 tree is made from the kernel's documentation.

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
    file(&machine, "memory/docker/@/memory.stat", include_str!("fixtures/v1/memory.stat"));
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
fn a_cgroup_that_nobody_lives_in_is_no_container() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":137}"#);
    let file = |machine: &Machine, name: &str, text: &str| {
        machine.write(&format!("cgroup/system.slice/docker-@.scope/{name}"), text);
    };
    file(&machine, "pids.current", "0\n");
    machine.ticks(20);
    machine.check("container_last_seen", &[]);
    machine.check("container_cpu_usage_seconds_total", &[]);
    // Somebody moves in, and dies with the engine.
    machine.v2_container("11", "0");
    machine.describe("web", 0);
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[11.0]);
    file(&machine, "pids.current", "0\n");
    file(&machine, "cpu.stat", "usage_usec 12000000\nuser_usec 0\nsystem_usec 0\n");
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.ticks(5);
    assert_eq!(machine.events(), ["container_exited"]);
    // Without a pids controller the cgroup itself says it, and without that the runtime.
    for name in ["pids.current", "pids.max"] {
        fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/{name}"))).unwrap();
    }
    let check = |machine: &Machine, shown: usize| {
        let mut fresh = Machine { samples: Samples::default(), cgroups: Cgroups::default(), ..machine.again() };
        fresh.tick();
        assert_eq!(fresh.values("container_memory_usage_bytes", "name").len(), shown);
    };
    file(&machine, "cgroup.events", "populated 0\nfrozen 0\n");
    check(&machine, 0);
    file(&machine, "cgroup.events", "populated 1\nfrozen 0\n");
    check(&machine, 1);
    fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/cgroup.events"))).unwrap();
    check(&machine, 1);
    machine.describe_as("web", r#""State":{"Running":false}"#);
    check(&machine, 0);
}

#[test]
fn an_end_is_told_with_its_reason_once_the_runtime_wrote_it() {
    let check = |state: &str, expect: &[(&str, &str)]| {
        let mut machine = Machine::new();
        machine.v2();
        machine.describe("web", 0);
        machine.ticks(2);
        machine.remove("cgroup/system.slice/docker-@.scope");
        machine.ticks(2);
        assert_eq!(machine.events(), Vec::<String>::new(), "the runtime still has it running");
        machine.describe_as("web", state);
        machine.ticks(5);
        let told = machine.samples.take_events();
        let told: Vec<_> = told.iter().map(|event| (event.kind.as_str(), event.text.as_str())).collect();
        assert_eq!(told, expect, "{state}");
    };
    let exited = "container_exited";
    check(r#""State":{"Running":false,"ExitCode":3}"#, &[(exited, "Container web ended with exit code 3.")]);
    check(r#""State":{"Running":true}"#, &[(exited, "Container web ended.")]);
    let killed = ("oom_kill", "The kernel killed a task of web for want of memory.");
    let ended = (exited, "Container web ended with exit code 137.");
    check(r#""State":{"Running":false,"ExitCode":137,"OOMKilled":true}"#, &[killed, ended]);
}

#[test]
fn kills_are_counted_on_through_restarts() {
    let mut machine = Machine::new();
    machine.v2();
    machine.v2_container("10", "2");
    machine.describe("web", 0);
    machine.ticks(2);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":137,"OOMKilled":true}"#);
    machine.ticks(2);
    machine.describe("web", 1);
    machine.v2_container("1", "0");
    machine.ticks(2);
    machine.check("container_oom_events_total", &[2.0]);
    assert_eq!(machine.events(), ["container_exited", "container_restarted"]);
}

#[test]
fn a_kill_in_a_container_inside_is_its_own() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    let inner = format!("cgroup/system.slice/docker-@.scope/docker/{}", ID.replace('9', "8"));
    let file = |machine: &Machine, place: &str, name: &str, kills: u32| {
        machine.write(&format!("{place}/{name}"), &format!("max 0\noom_kill {kills}\n"));
    };
    machine.write(&format!("{inner}/cpu.stat"), "usage_usec 1\nuser_usec 1\nsystem_usec 0\n");
    machine.write(&format!("{inner}/pids.current"), "1\n");
    let outer = "cgroup/system.slice/docker-@.scope";
    let write = |machine: &Machine, own: u32, inside: u32| {
        file(machine, outer, "memory.events", own + inside);
        file(machine, outer, "memory.events.local", own);
        file(machine, &inner, "memory.events", inside);
        file(machine, &inner, "memory.events.local", inside);
    };
    write(&machine, 1, 4);
    machine.ticks(5);
    write(&machine, 2, 6);
    machine.window();
    machine.check("container_oom_events_total", &[2.0, 6.0]);
    let parents = machine.values("container_oom_events_total", "parent").into_iter().map(|(parent, _)| parent);
    assert_eq!(parents.collect::<Vec<_>>(), ["", "web"]);
    let told: Vec<_> = machine.samples.take_events().into_iter().map(|event| event.text).collect();
    let killed =
        |count: u32, name: &str| format!("The kernel killed {count} of the tasks of {name} for want of memory.");
    assert_eq!(told, [killed(1, "web"), killed(2, &ID.replace('9', "8")[..SHORT_ID])]);
}

#[test]
fn health_checks() {
    let mut machine = Machine::new();
    machine.v2();
    let health = |machine: &Machine, status: &str| {
        machine.describe_as("web", &format!(r#""State":{{"Running":true,"Health":{{"Status":"{status}"}}}}"#));
    };
    health(&machine, "starting");
    machine.tick();
    machine.check("container_health_state", &[0.0]);
    for (status, value, told) in [
        ("healthy", 1.0, &[][..]),
        ("unhealthy", 0.0, &["container_unhealthy"]),
        ("unhealthy ", 0.0, &[]),
        ("healthy", 1.0, &[]),
        ("unhealthy", 0.0, &["container_unhealthy"]),
        ("healthy", 1.0, &["container_healthy"]),
    ] {
        health(&machine, status);
        machine.window();
        machine.check("container_health_state", &[value]);
        assert_eq!(machine.events(), told, "{status}");
    }
}

const DEV: &str = "Inter-|   Receive |  Transmit\n face |bytes |bytes\n\
    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n  eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n";

impl Machine {
    /// The same files, seen for the first time.
    fn again(&self) -> Self {
        Self { host: Host::new(self.host.roots().clone()), base: tempfile::tempdir().unwrap(), ..Self::new() }
    }

    /// A process in a cgroup, in a network namespace of its own or that of another process.
    fn process(&self, cgroup: &str, pid: u32, namespace_of: Option<u32>) {
        self.write(&format!("cgroup{cgroup}/cgroup.procs"), &format!("{pid}\n"));
        self.write(&format!("proc/{pid}/comm"), "pause\n");
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} (x) S{} {pid}00 0 0\n", " 0".repeat(18)));
        let file = |pid: u32| self.base.path().join(format!("proc/{pid}/net/dev"));
        match namespace_of {
            None => self.write(&format!("proc/{pid}/net/dev"), DEV),
            Some(other) => {
                fs::create_dir_all(file(pid).parent().unwrap()).unwrap();
                fs::hard_link(file(other), file(pid)).unwrap();
            }
        }
    }
}

#[test]
fn a_container_has_the_network_that_its_processes_see() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.write("proc/1/net/dev", DEV);
    machine.process("/system.slice/docker-@.scope/init.scope", 40, None);
    machine.tick();
    for (what, expect) in [("receive", 10.0), ("transmit", 20.0)] {
        let metric = |name: &str| format!("container_network_{what}_{name}_total");
        assert_eq!(machine.values(&metric("bytes"), "interface"), [("eth0".to_owned(), expect)]);
        machine.check(&metric("packets"), &[expect + 1.0]);
        machine.check(&metric("errors"), &[expect + 2.0]);
        machine.check(&metric("packets_dropped"), &[expect + 3.0]);
    }
    machine.tick();
    machine.check("container_network_receive_bytes_total", &[]);
    machine.write("proc/40/net/dev", &DEV.replace("eth0", "eth1"));
    machine.window();
    assert_eq!(machine.values("container_network_receive_bytes_total", "interface"), [("eth1".to_owned(), 10.0)]);
    machine.write("proc/40/net/dev", "garbage");
    machine.window();
    machine.check("container_network_receive_bytes_total", &[]);
}

#[test]
fn the_network_of_the_host_is_no_containers() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.write("proc/1/net/dev", DEV);
    machine.process("/system.slice/docker-@.scope", 40, Some(1));
    machine.tick();
    machine.check("container_network_receive_bytes_total", &[]);
    machine.check("container_threads", &[3.0]);
}

#[test]
fn a_pod_has_one_network_and_its_sandbox_is_not_listed() {
    let mut machine = Machine::new();
    machine.write("proc/1/net/dev", DEV);
    machine.write("cgroup/cgroup.controllers", "cpu io memory pids\n");
    let pod = "/kubepods.slice/kubepods-pod6b.slice";
    let [sandbox, app] = ['1', '2'].map(|digit| digit.to_string().repeat(64));
    let bundle = |machine: &Machine, id: &str, kind: &str, name: &str| {
        let json = format!(
            r#"{{"annotations":{{"io.kubernetes.cri.container-type":"{kind}",{name}
                "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"}}}}"#
        );
        machine.write(&format!("root/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json"), &json);
    };
    // The sandbox comes second and is no older.
    for (id, pid, of) in [(&app, 50, None), (&sandbox, 60, Some(50))] {
        machine.write(
            &format!("cgroup{pod}/cri-containerd-{id}.scope/cpu.stat"),
            "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
        );
        machine.process(&format!("{pod}/cri-containerd-{id}.scope"), pid, of);
    }
    bundle(&machine, &sandbox, "sandbox", "");
    bundle(&machine, &app, "container", r#""io.kubernetes.cri.container-name":"app","#);
    machine.tick();
    let network = machine.values("container_network_receive_bytes_total", "id");
    assert_eq!(network, [(format!("{pod}/cri-containerd-{sandbox}.scope"), 10.0)]);
    assert_eq!(machine.values("container_network_receive_bytes_total", "pod"), [("web-0".to_owned(), 10.0)]);
    let listed = |label: &str| {
        let values = machine.values("container_last_seen", label).into_iter();
        values.map(|(value, _)| value).collect::<Vec<_>>()
    };
    assert_eq!(listed("id"), [format!("{pod}/cri-containerd-{app}.scope")]);
    assert_eq!([listed("container"), listed("pod"), listed("namespace")], [["app"], ["web-0"], ["shop"]]);
    assert_eq!(listed("name"), ["shop/web-0/app"]);
    let sandbox = machine.cgroups.find(&format!("{pod}/cri-containerd-{sandbox}.scope")).unwrap();
    assert_eq!(machine.cgroups.name(sandbox), Some(""), "its process belongs to no container");
}

#[test]
fn a_sandbox_that_nobody_describes_is_known_by_its_command() {
    let mut machine = Machine::new();
    machine.write("cgroup/cgroup.controllers", "cpu\n");
    let scope = "/kubepods.slice/kubepods-pod6b.slice/cri-containerd-@.scope";
    machine.write(&format!("cgroup{scope}/cpu.stat"), "usage_usec 1\nuser_usec 1\nsystem_usec 0\n");
    machine.process(scope, 60, None);
    machine.ticks(15);
    assert_eq!(machine.values("container_last_seen", "id"), []);
}

#[test]
fn an_oom_kill_is_counted_and_told() {
    let mut machine = Machine::new();
    machine.v2();
    machine.v2_container("10", "4");
    machine.describe("web", 0);
    machine.tick();
    assert_eq!(machine.events(), Vec::<String>::new());
    machine.v2_container("11", "6");
    machine.tick();
    machine.check("container_oom_events_total", &[6.0]);
    let told = machine.samples.take_events();
    let told: Vec<_> =
        told.iter().map(|event| (event.kind.as_str(), event.entity.get("name"), event.text.as_str())).collect();
    assert_eq!(told, [("oom_kill", "web", "The kernel killed 2 of the tasks of web for want of memory.")]);
}

#[test]
fn a_container_that_ends_leaves_when_it_was_seen_last_for_five_minutes() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false}"#);
    machine.tick();
    assert_eq!(machine.events(), ["container_exited"]);
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.window();
    machine.check("container_last_seen", &[1_003.0]);
    machine.check("container_memory_rss", &[]);
    machine.ticks(280);
    machine.check("container_last_seen", &[1_003.0]);
    machine.ticks(10);
    machine.check("container_last_seen", &[1_003.0]);
    machine.ticks(10);
    machine.check("container_last_seen", &[]);
    assert!(machine.cgroups.departures.is_empty());
}

#[test]
fn a_restarted_container_is_a_new_instance_with_the_same_labels() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    let before = machine.cgroups.find(&format!("/system.slice/docker-{ID}.scope")).unwrap();
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.write("cgroup/between/cpu.stat", "");
    machine.describe("web", 1);
    machine.v2_container("1", "0");
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[1.0]);
    assert_eq!(machine.events(), ["container_exited", "container_restarted"]);
    let after = machine.cgroups.find(&format!("/system.slice/docker-{ID}.scope")).unwrap();
    assert_ne!(before, after);
    assert_eq!([before, after].map(|handle| machine.cgroups.is_living(handle)), [false, true]);
    machine.window();
    machine.check("container_last_seen", &[1_011.0]);
    machine.check("lapwing_container_restarts_total", &[1.0]);
    machine.ticks(400);
    machine.check("container_last_seen", &[1_411.0]);
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
fn without_cgroups_nothing_is_shown() {
    let mut machine = Machine::new();
    fs::remove_dir(machine.base.path().join("cgroup")).unwrap();
    machine.tick();
    assert_eq!(machine.samples.values(), []);
}
