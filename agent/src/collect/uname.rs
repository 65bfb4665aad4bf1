//! What the kernel calls itself and the host.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::schema::SeriesIndex;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Tick;
use crate::host;
use crate::host::Uname as Names;

const INFO: &Metric = metric("node_uname_info");

/// A series that is always one; its labels are what it says.
#[derive(Default)]
pub(super) struct Uname(Option<(Names, SeriesIndex)>);

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(INFO.tier) {
            return Ok(());
        }
        let names = host::uname();
        let series = match self.0.take() {
            Some((known, series)) if known == names => series,
            before => {
                if let Some((_, series)) = before {
                    tick.samples.end(series);
                }
                tick.samples.series(HOST, INFO, &labels(&names))
            }
        };
        tick.samples.put(series, 1.0);
        self.0 = Some((names, series));
        Ok(())
    }
}

fn labels(names: &Names) -> Labels {
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
