//! What the kernel calls itself and the host.

use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Tick;
use crate::collect::info::Info;
use crate::host;

/// `uname(2)` as labels.
pub(super) struct Uname(Info);

impl Uname {
    pub(super) const fn new() -> Self {
        Self(Info::new(metric("node_uname_info")))
    }
}

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if tick.moment.due(self.0.metric().tier) {
            self.0.put(tick.samples, labels(&host::uname()));
        }
        Ok(())
    }
}

fn labels(names: &host::Uname) -> Labels {
    [
        ("sysname", &names.sysname),
        ("release", &names.release),
        ("version", &names.version),
        ("machine", &names.machine),
        ("nodename", &names.nodename),
        ("domainname", &names.domainname),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.as_str()))
    .collect()
}
