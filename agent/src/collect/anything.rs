//! All parsers of this room over the same bytes, for fuzzing.

use crate::collect::Samples;
use crate::collect::arp;
use crate::collect::cgroup;
use crate::collect::conntrack;
use crate::collect::disk::Disk;
use crate::collect::filesystem::Filesystem;
use crate::collect::load;
use crate::collect::memory::Memory;
use crate::collect::netstat::Netstat;
use crate::collect::network::Network;
use crate::collect::nfs::Nfs;
use crate::collect::pressure;
use crate::collect::process;
use crate::collect::schedstat::Schedstat;
use crate::collect::slow;
use crate::collect::sockstat::Sockstat;
use crate::collect::softnet::Softnet;
use crate::collect::stat::Stat;
use crate::collect::vmstat::Vmstat;
use crate::host::Roots;

/// Gives any bytes to every parser: whole, cut in the middle, and whole again, as ticks of one run. None may panic, and
/// what they add to the schema fits into it.
pub fn parse_anything(bytes: &[u8]) {
    let (roots, mut samples) = (Roots::default(), Samples::default());
    let mut stat = Stat::new(&roots, &mut samples);
    let mut memory = Memory::new(&roots);
    let mut vmstat = Vmstat::new(&roots);
    let mut disk = Disk::new(&roots);
    let mut network = Network::new(&roots);
    let mut filesystem = Filesystem::new(&roots);
    let mut netstat = Netstat::new(&roots);
    let mut sockstat = Sockstat::new(&roots);
    let mut softnet = Softnet::new(&roots);
    let mut schedstat = Schedstat::new(&roots);
    let mut nfs = Nfs::new(&roots);
    for text in [bytes, &bytes[..bytes.len() / 2], bytes] {
        samples.begin_tick();
        stat.parse(text, &mut samples);
        memory.parse(text, &mut samples);
        vmstat.parse(text, &mut samples);
        disk.parse(text, &mut samples);
        network.parse(text, &mut samples);
        filesystem.parse(text, &mut samples);
        netstat.pairs(text, &mut samples);
        netstat.lines(text, &mut samples);
        sockstat.parse(text, &mut samples);
        softnet.parse(text, &mut samples);
        schedstat.parse(text, &mut samples);
        nfs.parse(text, &mut samples);
        samples.settle();
    }
    load::parse(bytes);
    arp::count(bytes);
    conntrack::sums(bytes);
    slow::parse_anything(bytes);
    pressure::parse(bytes);
    cgroup::parse_anything(bytes);
    process::parse_anything(bytes);
}
