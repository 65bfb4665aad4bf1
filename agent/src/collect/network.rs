//! `/proc/net/dev`: what each network interface of the host received and sent.

use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// Columns behind the name, in the kernel's order.
const COLUMNS: [&Metric; 16] = [
    metric("node_network_receive_bytes_total"),
    metric("node_network_receive_packets_total"),
    metric("node_network_receive_errs_total"),
    metric("node_network_receive_drop_total"),
    metric("node_network_receive_fifo_total"),
    metric("node_network_receive_frame_total"),
    metric("node_network_receive_compressed_total"),
    metric("node_network_receive_multicast_total"),
    metric("node_network_transmit_bytes_total"),
    metric("node_network_transmit_packets_total"),
    metric("node_network_transmit_errs_total"),
    metric("node_network_transmit_drop_total"),
    metric("node_network_transmit_fifo_total"),
    metric("node_network_transmit_colls_total"),
    metric("node_network_transmit_carrier_total"),
    metric("node_network_transmit_compressed_total"),
];

/// Two lines of headings.
const HEADINGS: usize = 2;

/// The host's network interfaces.
pub(super) struct Network {
    tables: [PathBuf; 2],
    table: Option<KeptFile>,
    interfaces: Roster<Interface>,
}

#[derive(Debug)]
struct Interface {
    entity: u32,
    series: [SeriesKey; COLUMNS.len()],
}

impl Network {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { tables: roots.of_net("dev"), table: None, interfaces: Roster::default() }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.interfaces.begin();
        for line in text::lines(text).skip(HEADINGS) {
            let Some((name, columns)) = parse(line) else {
                understood = None;
                continue;
            };
            let interface = self.interfaces.get(name, || Interface::new(name, samples));
            for (series, value) in interface.series.into_iter().zip(columns) {
                samples.put_count(series, value);
            }
        }
        self.interfaces.end(|interface| samples.end_entity(interface.entity));
        understood
    }
}

impl Collector for Network {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let [of_host, own] = &self.tables;
        let table = self
            .table
            .get_or_insert_with(|| KeptFile::new(if tick.host.read_once(of_host).is_ok() { of_host } else { own }));
        let text = tick.host.read(table)?;
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("net/dev"))
    }
}

impl Interface {
    fn new(name: &[u8], samples: &mut Samples) -> Self {
        let entity = samples.entity(&Labels::new().with("device", text::label(name)));
        Self { entity, series: COLUMNS.map(|metric| samples.series(entity, metric, &Labels::new())) }
    }
}

/// The interfaces that `/proc/net/dev` names and that can be understood.
pub(super) fn interfaces(text: &[u8]) -> impl Iterator<Item = (&[u8], [u64; COLUMNS.len()])> {
    text::lines(text).skip(HEADINGS).filter_map(parse)
}

/// `  eth0: 449260308   11104 …`; the first number may touch the colon.
fn parse(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()])> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii_start();
    Some((name, text::array(&line[colon + 1..])?)).filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive |  Transmit\n face |bytes |bytes\n";

    #[test]
    fn an_interface_has_a_name_and_sixteen_numbers() {
        let check = |line: &[u8], expect: Option<(&[u8], u64, u64)>| {
            let found = parse(line).map(|(name, columns)| (name, columns[0], columns[15]));
            assert_eq!(found, expect, "{}", line.escape_ascii());
        };
        check(b"  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", Some((b"eth0", 1, 16)));
        check(b"a\"b: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", Some((b"a\"b", 1, 16)));
        check(b"eth0:7: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", Some((b"eth0:7", 1, 16)));
        check(b"eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", None);
        check(b"eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 -16", None);
        check(b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", None);
        check(b"eth0", None);
        check(b"", None);
    }

    #[test]
    fn names_that_are_not_text_are_kept_apart_and_shown() {
        let mut samples = Samples::default();
        let mut text = HEAD.as_bytes().to_vec();
        text.extend(
            b"veth\xff\xfe: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n  lo: 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\nwlan0: 3 0",
        );
        assert_eq!(Network::new(&Roots::default()).parse(&text, &mut samples), Some(()));
        let devices: Vec<String> =
            samples.settle().entities().iter().map(|entity| entity.labels.get("device").to_owned()).collect();
        assert_eq!(devices, ["", "veth\u{fffd}\u{fffd}", "lo"]);
    }

    #[test]
    fn a_line_that_is_garbled_leaves_the_others_standing() {
        let check = |lines: &str, understood: bool, interfaces: usize| {
            let mut samples = Samples::default();
            let parsed = Network::new(&Roots::default()).parse(lines.as_bytes(), &mut samples);
            assert_eq!((parsed.is_some(), samples.values().len()), (understood, interfaces * COLUMNS.len()), "{lines}");
        };
        check(&format!("{HEAD}eth0: 1\n  lo: 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"), false, 1);
        check(HEAD, true, 0);
        check("", false, 0);
    }
}
