//! `/proc/net/netstat`, `snmp` and `snmp6`: what the host's IP, TCP, UDP and ICMP count.

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
use crate::host::Roots;

const TIER: Tier = metric("node_netstat_Tcp_InSegs").tier;

type Parse = fn(&mut Netstat, &[u8], &mut Samples) -> Option<()>;
const FILES: [(&str, Parse); 3] = [("netstat", Netstat::pairs), ("snmp", Netstat::pairs), ("snmp6", Netstat::lines)];

/// The fields that the catalog knows: those that node_exporter shows by default.
pub(super) struct Netstat {
    files: [[PathBuf; 2]; FILES.len()],
    fields: Fields,
    /// `Tcp_InSegs`, put together for a look-up.
    name: Vec<u8>,
}

impl Netstat {
    pub(super) fn new(roots: &Roots) -> Self {
        let fields = Fields::new("node_netstat_");
        Self { files: FILES.map(|(name, _)| roots.of_net(name)), fields, name: Vec::new() }
    }

    /// `Tcp: InSegs OutSegs`, and below it `Tcp: 57252008 54915039`.
    pub(super) fn pairs(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        let mut lines = text::lines(text);
        while let Some(names) = lines.next() {
            let (mut names, mut values) = (text::words(names), text::words(lines.next().unwrap_or_default()));
            let protocol = names.next().and_then(|protocol| protocol.strip_suffix(b":"));
            let same = |word: Option<&[u8]>| word.and_then(|word| word.strip_suffix(b":")) == protocol;
            let Some(protocol) = protocol.filter(|_| same(values.next())) else {
                understood = None;
                continue;
            };
            for name in names {
                understood = understood.and(values.next().and_then(|value| self.put(protocol, name, value, samples)));
            }
        }
        understood
    }

    /// `Ip6InOctets    460`: the protocol ends with the 6.
    pub(super) fn lines(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        for line in text::lines(text) {
            let mut words = text::words(line);
            let put = words.next().zip(words.next()).and_then(|(name, value)| {
                let six = name.iter().position(|byte| *byte == b'6')?;
                let (protocol, name) = name.split_at(six + 1);
                self.put(protocol, name, value, samples)
            });
            understood = understood.and(put);
        }
        understood
    }

    fn put(&mut self, protocol: &[u8], name: &[u8], value: &[u8], samples: &mut Samples) -> Option<()> {
        self.name.clear();
        self.name.extend(protocol.iter().chain(b"_").chain(name));
        self.fields.put(&self.name, value, samples)
    }

    fn read(&mut self, file: usize, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let (name, parse) = FILES[file];
        // Without IPv6 there is no `snmp6`.
        let Some(text) = if_there(tick.host.read_either(&self.files[file]))? else { return Ok(()) };
        parse(self, text, tick.samples).ok_or(CollectError::Malformed(name))
    }
}

impl Collector for Netstat {
    fn name(&self) -> &'static str {
        "netstat"
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

    fn check(parse: Parse, text: &[u8], understood: bool, expect: &[f64]) {
        let mut samples = Samples::default();
        let parsed = parse(&mut Netstat::new(&Roots::default()), text, &mut samples);
        assert_eq!(parsed.is_some(), understood, "{}", text.escape_ascii());
        let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
        assert_eq!(values, expect, "{}", text.escape_ascii());
    }

    #[test]
    fn names_stand_above_their_values() {
        let check = |text: &[u8], understood, expect: &[f64]| check(Netstat::pairs, text, understood, expect);
        check(b"Tcp: MaxConn InSegs New\nTcp: -1 5 6\nIpExt: InOctets\nIpExt: 7\n", true, &[5.0, 7.0]);
        check(b"Udp: InErrors\nTcp: 5\nIpExt: InOctets\nIpExt: 7\n", false, &[7.0]);
        check(b"Tcp: InSegs OutSegs\nTcp: 5\nIpExt: InOctets\nIpExt: 7\n", false, &[5.0, 7.0]);
        check(b"Tcp: InSegs OutSegs\nTcp: x 5\n", false, &[5.0]);
        check(b"Tcp: InSegs\nTcp: 5 6\nIpExt: InOctets\nIpExt: 7", false, &[5.0]);
        check(b"Tcp InSegs\nTcp 5\n", false, &[]);
        check(b"\n\n", false, &[]);
        check(b"", false, &[]);
    }

    #[test]
    fn a_protocol_of_ip6_ends_with_the_six() {
        let check = |text: &[u8], understood, expect: &[f64]| check(Netstat::lines, text, understood, expect);
        check(b"Ip6InOctets \t460\nUdp6InErrors 1 2\nIp6InTooBigErrors 3\n", true, &[460.0, 1.0]);
        check(b"IpInOctets 460\nUdp6InErrors 1\n", false, &[1.0]);
        check(b"Ip6InOctets -460\nUdp6InErrors 1\n", false, &[1.0]);
        check(b"Ip6InOctets\nUdp6InErrors 1\nIp6OutOct", false, &[1.0]);
        check(b"", false, &[]);
    }
}
