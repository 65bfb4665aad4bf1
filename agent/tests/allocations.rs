//! What the sampling thread takes of memory. A tick at which nothing appeared or went allocates nothing: its budget hangs
//! on that. And what went is given back.
#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a test that cannot write its tree should fail")]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use agent::config::Config;
use agent::config::Roots;
use agent::sampler::Sampler;
use agent::spool::Spool;
use agent::window::Stamps;
use common::batch::RunId;
use common::batch::SpoolId;
use common::config::Layers;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::codec::CODEC;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that all threads hold: what one takes another may give back. And the most there were.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    MOST.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

fn give_back(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A block that moves is there twice for a moment.
        take(size);
        give_back(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Collectors that ask aside: their answers come when the thread has them, which allocates at the tick that takes them.
const ASIDE: [&str; 18] = [
    "filesystem",
    "netclass",
    "cpu",
    "cpufreq",
    "hwmon",
    "thermal_zone",
    "edac",
    "dmi",
    "powersupplyclass",
    "rapl",
    "bonding",
    "mdadm",
    "nvme",
    "btrfs",
    "xfs",
    "zfs",
    "systemd",
    "textfile",
];

#[test]
fn a_tick_at_which_nothing_appeared_allocates_nothing() {
    let nowhere = Path::new("/nowhere").to_owned();
    let captured = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts/debian-6.18/proc");
    let host = tempfile::tempdir().unwrap();
    for name in ["stat", "loadavg", "meminfo", "vmstat", "diskstats", "net/dev", "pressure/cpu"] {
        let copy = host.path().join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(captured.join(name), copy).unwrap();
    }
    let roots =
        Roots { procfs: host.path().to_owned(), sysfs: nowhere.clone(), rootfs: nowhere.clone(), cgroupfs: nowhere };
    let off = ASIDE.map(str::to_owned).into();
    let config = Config { roots, off, ..Config::read(&Layers::default()).unwrap() };
    let clock = Clock::moved(Timestamp::from_millis(1_000_000_100));
    let stamps = Stamps::new(clock.wall(), clock.boot());
    let mut sampler = Sampler::new(&config, clock.clone(), stamps, Spool::new(RunId([1; 16]), SpoolId([2; 16])));
    let mut spent = Vec::new();
    for _ in 0..19 {
        let before = ALLOCATIONS.get();
        sampler.tick();
        spent.push(ALLOCATIONS.get() - before);
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(spent[12..], [0; 7], "allocations by tick: {spent:?}");
}

/// Bytes that may be held meanwhile: what leaves two of the agent's 8 MiB to its program and its connection.
const HELD_MAX: usize = 6 << 20;

/// Seconds that a container lives.
const LIFE: u32 = 20;

const PRESSURE: &str =
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=25\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";
const DEV: &str =
    "Inter-|   Receive |  Transmit\n face |bytes |bytes\n  eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n";

/// A host of which all that is there are containers, one of them new each second.
struct Churn {
    root: tempfile::TempDir,
    clock: Clock,
    sampler: Sampler,
    spool: Spool,
    held: HashMap<RunId, u32>,
    second: u32,
}

impl Churn {
    fn new() -> Self {
        // Fifty thousand small files: in memory where there is such a place.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let [procfs, sysfs, rootfs, cgroupfs] = ["proc", "sys", "root", "cgroup"].map(|tree| root.path().join(tree));
        let roots = Roots { procfs, sysfs, rootfs, cgroupfs };
        let off = ASIDE.map(str::to_owned).into();
        let config = Config { roots, off, ..Config::read(&Layers::default()).unwrap() };
        let clock = Clock::moved(Timestamp::from_millis(1_700_000_000_100));
        let stamps = Stamps::new(clock.wall(), clock.boot());
        let spool = Spool::new(RunId([1; 16]), SpoolId([2; 16]));
        spool.welcome(&[], CODEC);
        let sampler = Sampler::new(&config, clock.clone(), stamps, spool.clone());
        let churn = Self { root, clock, sampler, spool, held: HashMap::new(), second: 0 };
        churn.write("cgroup/cgroup.controllers", "cpu io memory pids\n");
        churn.write("proc/stat", "cpu  1 2 3 4 5 6 7 8 0 0\nbtime 1600000000\n");
        churn.write("proc/uptime", "500.00 900.00\n");
        churn.write("proc/partitions", " 254 0 268435456 vda\n");
        churn.write("proc/1/net/dev", DEV);
        churn
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn start(&self, number: u32) {
        let (id, pid) = (format!("{number:064x}"), number + 100);
        let scope = format!("system.slice/docker-{id}.scope");
        let file = |name: &str, text: &str| self.write(&format!("cgroup/{scope}/{name}"), text);
        file(
            "cpu.stat",
            "usage_usec 10000000\nuser_usec 9000000\nsystem_usec 1000000\nnr_periods 24\nnr_throttled 2\nthrottled_usec 14\n",
        );
        file("cpu.max", "30000 100000\n");
        file("cpu.weight", "100\n");
        file("memory.current", "10485760\n");
        file("memory.max", "67108864\n");
        file("memory.peak", "20971520\n");
        file(
            "memory.stat",
            "anon 61440\nfile 8388608\nkernel 12288\ninactive_file 4194304\npgfault 100\npgmajfault 7\n",
        );
        file("memory.events", "low 0\nhigh 0\nmax 5\noom 0\noom_kill 0\n");
        file("io.stat", "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n");
        file("pids.current", "1\n");
        file("pids.max", "100\n");
        file("cgroup.procs", &format!("{pid}\n"));
        ["cpu", "memory", "io"].iter().for_each(|what| file(&format!("{what}.pressure"), PRESSURE));
        let process = |name: &str, text: &str| self.write(&format!("proc/{pid}/{name}"), text);
        let stat = format!("{pid} (work) S 1 1 1 0 -1 4194560 1 0 0 0 5 5 0 0 20 0 1 0 {pid} 1000000 200 0");
        process("stat", &format!("{stat}{}\n", " 0".repeat(27)));
        process("statm", "250 200 100 1 0 50 0\n");
        process("status", "Uid:\t1000 1000 1000 1000\nVmRSS:\t 800 kB\nvoluntary_ctxt_switches:\t3\n");
        process("cmdline", &format!("work\0--number={number}\0"));
        process("io", "read_bytes: 1\nwrite_bytes: 2\n");
        process("comm", "work\n");
        process("cgroup", &format!("0::/{scope}\n"));
        process("net/dev", DEV);
        let description = format!(
            r#"{{"Name":"/job-{number}","Config":{{"Image":"job:1","Labels":{{"team":"birds"}}}},"State":{{"Running":true}}}}"#
        );
        self.write(&format!("root/var/lib/docker/containers/{id}/config.v2.json"), &description);
    }

    fn stop(&self, number: u32) {
        let remove = |path: String| fs::remove_dir_all(self.root.path().join(path)).unwrap();
        remove(format!("cgroup/system.slice/docker-{number:064x}.scope"));
        remove(format!("proc/{}", number + 100));
        remove(format!("root/var/lib/docker/containers/{number:064x}"));
    }

    /// An aggregator that takes and acknowledges all that it is sent.
    fn deliver(&mut self) {
        let Self { spool, held, .. } = self;
        let next = |held: &HashMap<RunId, u32>| {
            let version = |run| held.get(&run).copied().unwrap_or_default();
            spool.next_backlog(version).or_else(|| spool.next_live(version))
        };
        while let Some(outgoing) = next(held) {
            held.retain(|run, _| *run == outgoing.batch.run);
            held.insert(outgoing.batch.run, outgoing.batch.schema_version);
            spool.ack(outgoing.batch.spool, outgoing.batch.seq.next());
        }
    }

    /// Returns how many bytes were held at most.
    fn run(&mut self, seconds: u32) -> usize {
        MOST.store(LIVE.load(Relaxed), Relaxed);
        for _ in 0..seconds {
            self.second += 1;
            self.start(self.second);
            if LIFE < self.second {
                self.stop(self.second - LIFE);
            }
            self.sampler.tick();
            self.deliver();
            self.clock.advance(Duration::from_secs(1));
        }
        MOST.load(Relaxed)
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn containers_that_come_and_go_leave_nothing_behind() {
    let mut churn = Churn::new();
    let first = churn.spool.run();
    // The recorder fills for ten minutes; runs renew every few.
    churn.run(720);
    let (settled, open) = (churn.run(300), descriptors());
    churn.run(300);
    let later = churn.run(300);
    assert_ne!(churn.spool.run(), first);
    assert!(later <= settled + settled / 50, "{settled} bytes at most, and ten minutes later {later}");
    assert!(later < HELD_MAX, "{later} bytes");
    let open_later = descriptors();
    assert!(open_later <= open + 4, "{open} descriptors, and ten minutes later {open_later}");
}
