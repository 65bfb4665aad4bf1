//! The network, as node_exporter names it.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    gauge("node_bonding_active", Unit::None, "Interfaces of a bond that work.").labels(MASTER).tier(Tier::Window),
    gauge("node_bonding_slaves", Unit::None, "Interfaces of a bond.").labels(MASTER).tier(Tier::Window),
    counter("node_network_receive_bytes_total", Unit::Bytes, "Bytes received.").labels(DEVICE).peak(),
    counter("node_network_receive_compressed_total", Unit::None, "Compressed packets received.").labels(DEVICE),
    counter("node_network_receive_drop_total", Unit::None, "Packets dropped while receiving.").labels(DEVICE),
    counter("node_network_receive_errs_total", Unit::None, "Packets with errors while receiving.").labels(DEVICE),
    counter("node_network_receive_fifo_total", Unit::None, "Overruns of the queue while receiving.").labels(DEVICE),
    counter("node_network_receive_frame_total", Unit::None, "Packets with framing errors while receiving.")
        .labels(DEVICE),
    counter("node_network_receive_multicast_total", Unit::None, "Multicast packets received.").labels(DEVICE),
    counter("node_network_receive_packets_total", Unit::None, "Packets received.").labels(DEVICE).peak(),
    counter("node_network_transmit_bytes_total", Unit::Bytes, "Bytes sent.").labels(DEVICE).peak(),
    counter("node_network_transmit_carrier_total", Unit::None, "Losses of the carrier while sending.").labels(DEVICE),
    counter("node_network_transmit_colls_total", Unit::None, "Collisions while sending.").labels(DEVICE),
    counter("node_network_transmit_compressed_total", Unit::None, "Compressed packets sent.").labels(DEVICE),
    counter("node_network_transmit_drop_total", Unit::None, "Packets dropped while sending.").labels(DEVICE),
    counter("node_network_transmit_errs_total", Unit::None, "Packets with errors while sending.").labels(DEVICE),
    counter("node_network_transmit_fifo_total", Unit::None, "Overruns of the queue while sending.").labels(DEVICE),
    counter("node_network_transmit_packets_total", Unit::None, "Packets sent.").labels(DEVICE).peak(),
];

const DEVICE: &[&str] = &["device"];
const MASTER: &[&str] = &["master"];
