//! A tick at which nothing appeared or went allocates nothing: the budget of the sampling thread hangs on it.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::fs;
use std::path::Path;
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

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
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
