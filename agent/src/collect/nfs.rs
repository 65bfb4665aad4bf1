//! `/proc/net/rpc/nfs`: what this host asked of NFS servers.

use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::given::Given;
use crate::collect::if_there;
use crate::collect::text;
use crate::host::Roots;

const PACKETS: &Metric = metric("node_nfs_packets_total");
const CONNECTIONS: &Metric = metric("node_nfs_connections_total");
const REQUESTS: &Metric = metric("node_nfs_requests_total");
const RPC: [&Metric; 3] = [
    metric("node_nfs_rpcs_total"),
    metric("node_nfs_rpc_retransmissions_total"),
    metric("node_nfs_rpc_authentication_refreshes_total"),
];

/// Lines of calls by method: first word, the protocol's version, and its methods in the order of the numbers, as
/// node_exporter names them.
const PROTOCOLS: [(&[u8], &str, &str); 3] =
    [(b"proc2", "2", VERSION_2), (b"proc3", "3", VERSION_3), (b"proc4", "4", VERSION_4)];
const VERSION_2: &str = "Null GetAttr SetAttr Root Lookup ReadLink Read WrCache Write Create Remove Rename Link SymLink MkDir \
     RmDir ReadDir FsStat";
const VERSION_3: &str = "Null GetAttr SetAttr Lookup Access ReadLink Read Write Create MkDir SymLink MkNod Remove RmDir Rename \
     Link ReadDir ReadDirPlus FsStat FsInfo PathConf Commit";
const VERSION_4: &str = "Null Read Write Commit Open OpenConfirm OpenNoattr OpenDowngrade Close Setattr FsInfo Renew SetClientID \
     SetClientIDConfirm Lock Lockt Locku Access Getattr Lookup LookupRoot Remove Rename Link Symlink Create \
     Pathconf StatFs ReadLink ReadDir ServerCaps DelegReturn GetACL SetACL FsLocations ReleaseLockowner \
     Secinfo FsidPresent ExchangeID CreateSession DestroySession Sequence GetLeaseTime ReclaimComplete \
     GetDeviceInfo LayoutGet LayoutCommit LayoutReturn SecinfoNoName TestStateID FreeStateID GetDeviceList \
     BindConnToSession DestroyClientID Seek Allocate DeAllocate LayoutStats Clone";

/// The NFS client; nothing where the kernel's module is not loaded.
pub(super) struct Nfs {
    file: [PathBuf; 2],
    given: Given,
}

impl Nfs {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: roots.of_net("rpc/nfs"), given: Given::default() }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        for line in text::lines(text) {
            understood = understood.and(self.line(line, samples));
        }
        self.given.end(samples);
        understood
    }

    fn line(&mut self, line: &[u8], samples: &mut Samples) -> Option<()> {
        let word = text::words(line).next()?;
        let numbers = &line[word.len()..];
        match word {
            b"net" => {
                let [_packets, udp, tcp, connections] = text::array(numbers)?;
                for (protocol, packets) in [("udp", udp), ("tcp", tcp)] {
                    self.given.put_count(samples, (PACKETS, &Labels::new().with("protocol", protocol)), packets);
                }
                self.given.put_count(samples, (CONNECTIONS, &Labels::new()), connections);
            }
            b"rpc" => {
                for (metric, value) in RPC.into_iter().zip(text::array::<{ RPC.len() }>(numbers)?) {
                    self.given.put_count(samples, (metric, &Labels::new()), value);
                }
            }
            _ => {
                let known = PROTOCOLS.into_iter().find(|(known, ..)| *known == word);
                if let Some((_, version, methods)) = known {
                    self.requests(version, methods, numbers, samples)?;
                }
            }
        }
        Some(())
    }

    /// How many numbers follow, and these. A method that the kernel does not know was not called.
    fn requests(&mut self, version: &str, methods: &str, numbers: &[u8], samples: &mut Samples) -> Option<()> {
        let announced = usize::try_from(text::numbers(numbers).next()?).ok()?;
        if text::numbers(numbers).skip(1).take(announced).count() < announced {
            return None;
        }
        let mut calls = text::numbers(numbers).skip(1).take(announced);
        for method in methods.split(' ') {
            let labels = Labels::new().with("method", method).with("proto", version);
            self.given.put_count(samples, (REQUESTS, &labels), calls.next().unwrap_or(0));
        }
        Some(())
    }
}

impl Collector for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(REQUESTS.tier) {
            return Ok(());
        }
        let Some(text) = if_there(tick.host.read_either(&self.file))? else {
            self.given.end(tick.samples);
            return Ok(());
        };
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("rpc/nfs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_that_the_kernel_counted() {
        let check = |text: &[u8], understood: bool, series: usize, sum: f64| {
            let mut samples = Samples::default();
            let parsed = Nfs::new(&Roots::default()).parse(text, &mut samples);
            assert_eq!(parsed.is_some(), understood, "{}", text.escape_ascii());
            let total: f64 = samples.values().iter().map(|(_, value)| value).sum();
            assert_eq!((samples.values().len(), total), (series, sum), "{}", text.escape_ascii());
        };
        check(b"net 70 1 2 4 new\nrpc 8 16 32\nproc9 1 5\n", true, 6, 63.0);
        check(b"proc4 3 1 2 4\n", true, 59, 7.0);
        check(b"proc3 2 1 2 4\n", true, 22, 3.0);
        check(b"proc3 3 1 2\nnet 7 1 2 4\n", false, 3, 7.0);
        check(b"proc2 18446744073709551615 1 2\n", false, 0, 0.0);
        check(b"proc2\nrpc 1 2\nnet x\nnet 7 1 2 4", false, 0, 0.0);
        check(b"", false, 0, 0.0);
    }
}
