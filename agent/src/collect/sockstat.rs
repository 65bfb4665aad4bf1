//! `/proc/net/sockstat` and `sockstat6`: sockets and their memory.

use std::path::PathBuf;

use common::catalog::metric;
use common::metric::Tier;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::fields::Fields;
use crate::collect::if_there;
use crate::collect::text;
use crate::host;
use crate::host::Roots;

const TIER: Tier = metric("node_sockstat_sockets_used").tier;
const FILES: [&str; 2] = ["sockstat", "sockstat6"];

/// Sockets by protocol and state.
pub(super) struct Sockstat {
    files: [[PathBuf; 2]; FILES.len()],
    fields: Fields,
    /// `TCP_inuse`, put together for a look-up.
    name: Vec<u8>,
    page_bytes: u64,
}

impl Sockstat {
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            files: FILES.map(|name| roots.of_net(name)),
            fields: Fields::new("node_sockstat_"),
            name: Vec::new(),
            page_bytes: host::page_bytes(),
        }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        for line in text::lines(text) {
            understood = understood.and(self.line(line, samples));
        }
        understood
    }

    /// `TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1`; `mem` is in pages.
    fn line(&mut self, line: &[u8], samples: &mut Samples) -> Option<()> {
        let mut words = text::words(line);
        let protocol = words.next()?.strip_suffix(b":")?;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            self.name.clear();
            self.name.extend(protocol.iter().chain(b"_").chain(name));
            self.fields.put(&self.name, value, samples)?;
            if name == b"mem" {
                self.name.extend(b"_bytes");
                let bytes = text::number(value)?.saturating_mul(self.page_bytes);
                self.fields.get(&self.name, samples).into_iter().for_each(|series| samples.put_count(series, bytes));
            }
        }
        Some(())
    }

    fn read(&mut self, file: usize, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        // Without IPv6 there is no `sockstat6`.
        let Some(text) = if_there(tick.host.read_either(&self.files[file]))? else { return Ok(()) };
        self.parse(text, tick.samples).ok_or(CollectError::Malformed(FILES[file]))
    }
}

impl Collector for Sockstat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(TIER) {
            return Ok(());
        }
        self.fields.begin();
        let mut read = Ok(());
        for file in 0..FILES.len() {
            read = read.and(self.read(file, tick));
        }
        self.fields.end(tick.samples);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_protocol_and_pairs() {
        let check = |text: &[u8], understood: bool, expect: &[f64]| {
            let mut samples = Samples::default();
            let mut sockstat = Sockstat { page_bytes: 4_096, ..Sockstat::new(&Roots::default()) };
            assert_eq!(sockstat.parse(text, &mut samples).is_some(), understood, "{}", text.escape_ascii());
            let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expect, "{}", text.escape_ascii());
        };
        check(
            b"sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 2\nTCP6: inuse 17\n",
            true,
            &[229.0, 4.0, 0.0, 4.0, 17.0, 2.0, 8_192.0, 17.0],
        );
        check(b"TCP: inuse 4 new 5 orphan\nMPTCP: inuse 1\n", true, &[4.0]);
        check(b"TCP: mem 18446744073709551615\n", true, &[18_446_744_073_709_551_615.0; 2]);
        check(b"TCP: inuse x orphan 1\nTCP6: inuse 17\n", false, &[17.0]);
        check(b"TCP inuse 4\nTCP6: inuse 1", false, &[]);
        check(b"", false, &[]);
    }
}
