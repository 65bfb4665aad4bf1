//! The network, as node_exporter names it.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    gauge("node_arp_entries", Unit::None, "Neighbours that the interface knows.").labels(DEVICE).tier(Tier::Minute),
    gauge("node_bonding_active", Unit::None, "Interfaces of a bond that work.").labels(MASTER).tier(Tier::Window),
    gauge("node_bonding_slaves", Unit::None, "Interfaces of a bond.").labels(MASTER).tier(Tier::Window),
    gauge(
        "node_network_address_assign_type",
        Unit::None,
        "How the address came to be: 0 permanent, 1 random, 2 taken from another, 3 set.",
    )
    .labels(DEVICE)
    .tier(Tier::Minute),
    gauge("node_network_carrier", Unit::None, "Whether the link is there.").labels(DEVICE).tier(Tier::Window),
    counter("node_network_carrier_changes_total", Unit::None, "Times at which the link came or went.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    counter("node_network_carrier_down_changes_total", Unit::None, "Times at which the link went.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    counter("node_network_carrier_up_changes_total", Unit::None, "Times at which the link came.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_device_id", Unit::None, "Number among the devices that share an address.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_dormant", Unit::None, "Whether the interface waits for something from outside.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_flags", Unit::None, "Flags of the interface.").labels(DEVICE).tier(Tier::Minute),
    gauge("node_network_iface_id", Unit::None, "Number of the interface.").labels(DEVICE).tier(Tier::Minute),
    gauge("node_network_iface_link", Unit::None, "Number of the interface below it, or its own.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_iface_link_mode", Unit::None, "Whether a dormant interface is let up: 0 default, 1 dormant.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_info", Unit::None, "What the interface is; always 1.").labels(INFO).tier(Tier::Minute),
    gauge("node_network_mtu_bytes", Unit::Bytes, "Largest packet.").labels(DEVICE).tier(Tier::Minute),
    gauge("node_network_name_assign_type", Unit::None, "How the name came to be.").labels(DEVICE).tier(Tier::Minute),
    gauge("node_network_net_dev_group", Unit::None, "Group that the interface is in.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_protocol_type", Unit::None, "Kind of the hardware.").labels(DEVICE).tier(Tier::Minute),
    counter("node_network_receive_bytes_total", Unit::Bytes, "Bytes received.").labels(DEVICE).peak(),
    counter("node_network_receive_compressed_total", Unit::None, "Compressed packets received.").labels(DEVICE),
    counter("node_network_receive_drop_total", Unit::None, "Packets dropped while receiving.").labels(DEVICE),
    counter("node_network_receive_errs_total", Unit::None, "Packets with errors while receiving.").labels(DEVICE),
    counter("node_network_receive_fifo_total", Unit::None, "Overruns of the queue while receiving.").labels(DEVICE),
    counter("node_network_receive_frame_total", Unit::None, "Packets with framing errors while receiving.")
        .labels(DEVICE),
    counter("node_network_receive_multicast_total", Unit::None, "Multicast packets received.").labels(DEVICE),
    counter("node_network_receive_nohandler_total", Unit::None, "Packets received that nobody wanted.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    counter("node_network_receive_packets_total", Unit::None, "Packets received.").labels(DEVICE).peak(),
    gauge("node_network_speed_bytes", Unit::Bytes, "Speed of the link, in bytes a second.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    counter("node_network_transmit_bytes_total", Unit::Bytes, "Bytes sent.").labels(DEVICE).peak(),
    counter("node_network_transmit_carrier_total", Unit::None, "Losses of the carrier while sending.").labels(DEVICE),
    counter("node_network_transmit_colls_total", Unit::None, "Collisions while sending.").labels(DEVICE),
    counter("node_network_transmit_compressed_total", Unit::None, "Compressed packets sent.").labels(DEVICE),
    counter("node_network_transmit_drop_total", Unit::None, "Packets dropped while sending.").labels(DEVICE),
    counter("node_network_transmit_errs_total", Unit::None, "Packets with errors while sending.").labels(DEVICE),
    counter("node_network_transmit_fifo_total", Unit::None, "Overruns of the queue while sending.").labels(DEVICE),
    counter("node_network_transmit_packets_total", Unit::None, "Packets sent.").labels(DEVICE).peak(),
    gauge("node_network_transmit_queue_length", Unit::None, "Packets that may wait to be sent.")
        .labels(DEVICE)
        .tier(Tier::Minute),
    gauge("node_network_up", Unit::None, "Whether the interface works.").labels(DEVICE).tier(Tier::Window),
];

const DEVICE: &[&str] = &["device"];
const MASTER: &[&str] = &["master"];
const INFO: &[&str] = &["address", "adminstate", "broadcast", "device", "duplex", "ifalias", "operstate"];
