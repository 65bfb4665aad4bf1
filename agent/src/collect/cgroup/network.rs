//! Network of containers: each network namespace once, for whoever owns it.
//!
//! `/proc/PID/net/dev` is opened, read and closed: a kept descriptor would keep the namespace and its interfaces alive
//! when the container is gone. The inode of that file is the namespace's own, and may be seen without privilege.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::cgroup::members;
use crate::collect::cgroup::tree::Trees;
use crate::collect::network;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::host::Host;

/// Metrics, and the column of `/proc/net/dev` that each shows.
pub(super) const COLUMNS: [(&Metric, usize); 8] = [
    (metric("container_network_receive_bytes_total"), 0),
    (metric("container_network_receive_packets_total"), 1),
    (metric("container_network_receive_errors_total"), 2),
    (metric("container_network_receive_packets_dropped_total"), 3),
    (metric("container_network_transmit_bytes_total"), 8),
    (metric("container_network_transmit_packets_total"), 9),
    (metric("container_network_transmit_errors_total"), 10),
    (metric("container_network_transmit_packets_dropped_total"), 11),
];

/// Interfaces that cAdvisor leaves out: of the container itself, and those by which it serves containers of its own.
const PASSED_OVER: [&[u8]; 4] = [b"lo", b"veth", b"docker", b"nerdctl"];

/// Interfaces of one container that are shown: a container that routes has a few.
pub(super) const CONTAINER_INTERFACES_MAX: usize = 64;

/// Network namespaces that were given to their owners in this round.
#[derive(Debug, Default)]
pub(super) struct Namespaces(HashSet<u64>);

impl Namespaces {
    /// Begins a round. The host's own namespace is nobody's; where it is not known, none can be told from it.
    pub(super) fn begin(&mut self, host: &Host) -> bool {
        self.0.clear();
        let own = host.roots().of_net("dev").iter().find_map(|file| host.version(file));
        self.0.extend(own.map(|file| file.inode));
        own.is_some()
    }
}

/// The network of one container.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// The file of its first process that showed its network last, and the namespace that it showed.
    known: Option<(PathBuf, u64)>,
    interfaces: Roster<[SeriesKey; COLUMNS.len()]>,
}

impl Network {
    /// Puts the figures of the container's interfaces, unless its namespace is somebody else's.
    pub(super) fn put(&mut self, tick: &mut Tick<'_>, of: &Place<'_>, namespaces: &mut Namespaces) {
        self.interfaces.begin();
        if let Some((file, namespace)) = self.find(tick.host, of)
            && namespaces.0.insert(namespace)
            && let Ok(bytes) = tick.host.read_once(&file)
        {
            self.parse(bytes, of.entity, tick.samples);
        }
        self.interfaces.end(|series| series.into_iter().for_each(|series| tick.samples.end(series)));
    }

    /// Lets the next [`Self::put`] make new series.
    pub(super) fn forget_series(&mut self) {
        self.interfaces = Roster::default();
    }

    /// As long as the file shows the same namespace, whose process it is does not matter. What does not run leaves none.
    fn find(&mut self, host: &mut Host, of: &Place<'_>) -> Option<(PathBuf, u64)> {
        let shown = |host: &Host, file: &Path| host.version(file).map(|version| version.inode);
        if let Some((file, namespace)) = &self.known
            && (!of.ran || shown(host, file) == Some(*namespace))
        {
            return self.known.clone();
        }
        let (_, members) = members::first(host, of.trees, of.cgroup)?;
        let file = host.roots().procfs.join(members.first()?.to_string()).join("net/dev");
        self.known = shown(host, &file).map(|namespace| (file, namespace));
        self.known.clone()
    }

    fn parse(&mut self, dev: &[u8], entity: u32, samples: &mut Samples) {
        let shown = network::interfaces(dev).filter(|(name, _)| !PASSED_OVER.iter().any(|it| name.starts_with(it)));
        for (name, columns) in shown.take(CONTAINER_INTERFACES_MAX) {
            let series = *self.interfaces.get(name, || {
                let labels = Labels::new().with("interface", text::label(name));
                COLUMNS.map(|(metric, _)| samples.series(entity, metric, &labels))
            });
            for (series, (_, column)) in series.into_iter().zip(COLUMNS) {
                samples.put_count(series, columns[column]);
            }
        }
    }
}

/// Whose network it would be: where its processes are found, and where its figures go.
pub(super) struct Place<'a> {
    pub trees: &'a Trees,
    pub cgroup: &'a str,
    pub entity: u32,
    /// Whether anything in it may have run since its network was looked at last.
    pub ran: bool,
}
