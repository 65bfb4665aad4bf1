//! Our parsers held against the procfs crate, on the same bytes of the living host that the test runs on.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use agent::config::Config;
use agent::config::Roots;
use agent::once;
use common::config::Layers;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use procfs::CpuPressure;
use procfs::DiskStats;
use procfs::FromBufRead;
use procfs::FromBufReadSI;
use procfs::FromRead;
use procfs::IoPressure;
use procfs::KernelStats;
use procfs::LoadAverage;
use procfs::Meminfo;
use procfs::MemoryPressure;
use procfs::VmStat;
use procfs::net::InterfaceDeviceStatus;
use procfs::net::Snmp;
use procfs::net::Snmp6;

const FILES: &[&str] = &[
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "diskstats",
    "net/dev",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
    "net/snmp",
    "net/snmp6",
];

/// A copy of the host's files, so that both read the same, and what we make of it.
struct Host {
    directory: tempfile::TempDir,
    collected: BTreeMap<Labels, f64>,
}

impl Host {
    fn copy() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in FILES {
            let copy = directory.path().join(name);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            // A kernel without pressure stall information has fewer files.
            if let Ok(text) = fs::read(Path::new("/proc").join(name)) {
                fs::write(copy, text).unwrap();
            }
        }
        let nowhere = PathBuf::from("/nowhere");
        let procfs = directory.path().to_owned();
        let roots = Roots { procfs, sysfs: nowhere.clone(), rootfs: nowhere.clone(), cgroupfs: nowhere };
        let config = Config { roots, ..Config::read(&Layers::default()).unwrap() };
        let collected = once::collect(&config, &Clock::real());
        let collected = collected.into_iter().map(|(labels, value)| (labels.with("job", ""), value)).collect();
        Self { directory, collected }
    }

    fn read(&self, name: &str) -> Option<&'static [u8]> {
        fs::read(self.directory.path().join(name)).ok().map(|text| &*text.leak())
    }

    fn check(&self, name: &str, labels: &[(&str, &str)], expect: f64) {
        let labels = Labels::from_iter(labels.iter().copied()).with(NAME, name);
        let found = self.collected.get(&labels).copied();
        let close = found.is_some_and(|found| (found - expect).abs() <= expect.abs() * 1e-9);
        assert!(close, "{labels}: {found:?}, procfs {expect}");
    }

    #[expect(clippy::cast_precision_loss, reason = "both sides lose the same")]
    fn check_count(&self, name: &str, labels: &[(&str, &str)], expect: u64) {
        self.check(name, labels, expect as f64);
    }
}

#[test]
fn kernel_statistics_agree() {
    let host = Host::copy();
    let stats = KernelStats::from_buf_read(host.read("stat").unwrap(), procfs::current_system_info()).unwrap();
    host.check_count("node_context_switches_total", &[], stats.ctxt);
    host.check_count("node_boot_time_seconds", &[], stats.btime);
    host.check_count("node_forks_total", &[], stats.processes);
    host.check_count("node_procs_running", &[], stats.procs_running.unwrap().into());
    host.check_count("node_procs_blocked", &[], stats.procs_blocked.unwrap().into());
    for (cpu, time) in stats.cpu_time.iter().enumerate() {
        let modes = [
            ("user", time.user_duration()),
            ("nice", time.nice_duration()),
            ("system", time.system_duration()),
            ("idle", time.idle_duration()),
            ("iowait", time.iowait_duration().unwrap()),
            ("irq", time.irq_duration().unwrap()),
            ("softirq", time.softirq_duration().unwrap()),
            ("steal", time.steal_duration().unwrap()),
        ];
        for (mode, expect) in modes {
            let labels = [("cpu", &*cpu.to_string()), ("mode", mode)];
            host.check("node_cpu_seconds_total", &labels, expect.as_secs_f64());
        }
    }
}

#[test]
fn load_and_memory_agree() {
    let host = Host::copy();
    let load = LoadAverage::from_read(host.read("loadavg").unwrap()).unwrap();
    for (name, expect) in [("node_load1", load.one), ("node_load5", load.five), ("node_load15", load.fifteen)] {
        let expect = (f64::from(expect) * 100.0).round() / 100.0;
        host.check(name, &[], expect);
    }
    let memory = Meminfo::from_read(host.read("meminfo").unwrap()).unwrap();
    host.check_count("node_memory_MemTotal_bytes", &[], memory.mem_total);
    host.check_count("node_memory_MemFree_bytes", &[], memory.mem_free);
    host.check_count("node_memory_MemAvailable_bytes", &[], memory.mem_available.unwrap());
    host.check_count("node_memory_Active_anon_bytes", &[], memory.active_anon.unwrap());
    host.check_count("node_memory_Committed_AS_bytes", &[], memory.committed_as);
    host.check_count("node_memory_HugePages_Total", &[], memory.hugepages_total.unwrap());
    let paging = VmStat::from_buf_read(host.read("vmstat").unwrap()).unwrap();
    for name in ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"] {
        host.check_count(&format!("node_vmstat_{name}"), &[], paging.0[name].try_into().unwrap());
    }
}

#[test]
fn pressure_agrees() {
    let host = Host::copy();
    let Some(cpu) = host.read("pressure/cpu") else { return };
    let cpu = CpuPressure::from_buf_read(cpu).unwrap();
    let io = IoPressure::from_buf_read(host.read("pressure/io").unwrap()).unwrap();
    let memory = MemoryPressure::from_buf_read(host.read("pressure/memory").unwrap()).unwrap();
    let check = |name: &str, micros: u64| host.check(name, &[], Duration::from_micros(micros).as_secs_f64());
    check("node_pressure_cpu_waiting_seconds_total", cpu.some.total);
    check("node_pressure_io_waiting_seconds_total", io.some.total);
    check("node_pressure_io_stalled_seconds_total", io.full.total);
    check("node_pressure_memory_waiting_seconds_total", memory.some.total);
    check("node_pressure_memory_stalled_seconds_total", memory.full.total);
}

#[test]
fn devices_agree() {
    let host = Host::copy();
    for (name, device) in InterfaceDeviceStatus::from_buf_read(host.read("net/dev").unwrap()).unwrap().0 {
        let check = |metric: &str, expect: u64| host.check_count(metric, &[("device", &name)], expect);
        check("node_network_receive_bytes_total", device.recv_bytes);
        check("node_network_receive_packets_total", device.recv_packets);
        check("node_network_receive_drop_total", device.recv_drop);
        check("node_network_transmit_bytes_total", device.sent_bytes);
        check("node_network_transmit_colls_total", device.sent_colls);
        check("node_network_transmit_compressed_total", device.sent_compressed);
    }
    let disks = DiskStats::from_buf_read(host.read("diskstats").unwrap()).unwrap();
    let shown = |name: &str| host.collected.keys().any(|labels| labels.get("device") == name);
    for disk in disks.0.iter().filter(|disk| shown(&disk.name)) {
        let check = |metric: &str, expect: u64| host.check_count(metric, &[("device", &disk.name)], expect);
        check("node_disk_reads_completed_total", disk.reads);
        check("node_disk_read_bytes_total", disk.sectors_read * 512);
        check("node_disk_writes_merged_total", disk.writes_merged);
        check("node_disk_io_now", disk.in_progress);
        check("node_disk_flush_requests_total", disk.flushes.unwrap_or_default());
    }
}

#[test]
fn protocols_agree() {
    let host = Host::copy();
    let check = |name: &str, expect: u64| host.check_count(&format!("node_netstat_{name}"), &[], expect);
    let snmp = Snmp::from_buf_read(host.read("net/snmp").unwrap()).unwrap();
    check("Icmp_InMsgs", snmp.icmp_in_msgs);
    check("Icmp_OutMsgs", snmp.icmp_out_msgs);
    check("Tcp_ActiveOpens", snmp.tcp_active_opens);
    check("Tcp_CurrEstab", snmp.tcp_curr_estab);
    check("Tcp_InSegs", snmp.tcp_in_segs);
    check("Tcp_RetransSegs", snmp.tcp_retrans_segs);
    check("Udp_InDatagrams", snmp.udp_in_datagrams);
    check("Udp_NoPorts", snmp.udp_no_ports);
    let Some(snmp6) = host.read("net/snmp6") else { return };
    let snmp6 = Snmp6::from_buf_read(snmp6).unwrap();
    check("Ip6_InOctets", snmp6.ip_in_octets);
    check("Ip6_OutOctets", snmp6.ip_out_octets);
    check("Icmp6_InMsgs", snmp6.icmp_in_msgs);
    check("Udp6_RcvbufErrors", snmp6.udp_rcvbuf_errors);
}
