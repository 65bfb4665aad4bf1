//! Protocols and sockets, as node_exporter names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    counter("node_netstat_Icmp6_InErrors", Unit::None, "ICMPv6 messages received with errors.").tier(Tier::Window),
    counter("node_netstat_Icmp6_InMsgs", Unit::None, "ICMPv6 messages received.").tier(Tier::Window),
    counter("node_netstat_Icmp6_OutMsgs", Unit::None, "ICMPv6 messages sent.").tier(Tier::Window),
    counter("node_netstat_Icmp_InErrors", Unit::None, "ICMP messages received with errors.").tier(Tier::Window),
    counter("node_netstat_Icmp_InMsgs", Unit::None, "ICMP messages received.").tier(Tier::Window),
    counter("node_netstat_Icmp_OutMsgs", Unit::None, "ICMP messages sent.").tier(Tier::Window),
    counter("node_netstat_Ip6_InOctets", Unit::Bytes, "Bytes received by IPv6.").tier(Tier::Window),
    counter("node_netstat_Ip6_OutOctets", Unit::Bytes, "Bytes sent by IPv6.").tier(Tier::Window),
    counter("node_netstat_IpExt_InOctets", Unit::Bytes, "Bytes received by IPv4.").tier(Tier::Window),
    counter("node_netstat_IpExt_OutOctets", Unit::Bytes, "Bytes sent by IPv4.").tier(Tier::Window),
    gauge("node_netstat_Ip_Forwarding", Unit::None, "Whether IPv4 packets are forwarded: 1 yes, 2 no.")
        .tier(Tier::Window),
    counter(
        "node_netstat_TcpExt_ListenDrops",
        Unit::None,
        "Connections dropped that a listening socket should have had.",
    )
    .tier(Tier::Window),
    counter(
        "node_netstat_TcpExt_ListenOverflows",
        Unit::None,
        "Connections dropped because a listening socket had too many waiting.",
    )
    .tier(Tier::Window),
    counter("node_netstat_TcpExt_SyncookiesFailed", Unit::None, "SYN cookies that came back wrong.").tier(Tier::Window),
    counter("node_netstat_TcpExt_SyncookiesRecv", Unit::None, "SYN cookies that came back.").tier(Tier::Window),
    counter("node_netstat_TcpExt_SyncookiesSent", Unit::None, "SYN cookies sent.").tier(Tier::Window),
    counter("node_netstat_TcpExt_TCPOFOQueue", Unit::None, "TCP packets received out of order and queued.")
        .tier(Tier::Window),
    counter("node_netstat_TcpExt_TCPRcvQDrop", Unit::None, "TCP packets dropped because the receive queue was full.")
        .tier(Tier::Window),
    counter("node_netstat_TcpExt_TCPSynRetrans", Unit::None, "SYN packets sent again.").tier(Tier::Window),
    counter("node_netstat_TcpExt_TCPTimeouts", Unit::None, "TCP timeouts.").tier(Tier::Window),
    counter("node_netstat_Tcp_ActiveOpens", Unit::None, "TCP connections opened by this host.").tier(Tier::Window),
    gauge("node_netstat_Tcp_CurrEstab", Unit::None, "TCP connections that are established.").tier(Tier::Window),
    counter("node_netstat_Tcp_InErrs", Unit::None, "TCP packets received with errors.").tier(Tier::Window),
    counter("node_netstat_Tcp_InSegs", Unit::None, "TCP packets received.").tier(Tier::Window),
    counter("node_netstat_Tcp_OutRsts", Unit::None, "TCP resets sent.").tier(Tier::Window),
    counter("node_netstat_Tcp_OutSegs", Unit::None, "TCP packets sent.").tier(Tier::Window),
    counter("node_netstat_Tcp_PassiveOpens", Unit::None, "TCP connections opened by others.").tier(Tier::Window),
    counter("node_netstat_Tcp_RetransSegs", Unit::None, "TCP packets sent again.").tier(Tier::Window),
    counter("node_netstat_Udp6_InDatagrams", Unit::None, "UDP packets received by IPv6.").tier(Tier::Window),
    counter("node_netstat_Udp6_InErrors", Unit::None, "UDP packets received by IPv6 with errors.").tier(Tier::Window),
    counter("node_netstat_Udp6_NoPorts", Unit::None, "UDP packets received by IPv6 for a port without a socket.")
        .tier(Tier::Window),
    counter("node_netstat_Udp6_OutDatagrams", Unit::None, "UDP packets sent by IPv6.").tier(Tier::Window),
    counter(
        "node_netstat_Udp6_RcvbufErrors",
        Unit::None,
        "UDP packets of IPv6 dropped because the receive buffer was full.",
    )
    .tier(Tier::Window),
    counter(
        "node_netstat_Udp6_SndbufErrors",
        Unit::None,
        "UDP packets of IPv6 dropped because the send buffer was full.",
    )
    .tier(Tier::Window),
    counter("node_netstat_UdpLite6_InErrors", Unit::None, "UDP-Lite packets received by IPv6 with errors.")
        .tier(Tier::Window),
    counter("node_netstat_UdpLite_InErrors", Unit::None, "UDP-Lite packets received by IPv4 with errors.")
        .tier(Tier::Window),
    counter("node_netstat_Udp_InDatagrams", Unit::None, "UDP packets received by IPv4.").tier(Tier::Window),
    counter("node_netstat_Udp_InErrors", Unit::None, "UDP packets received by IPv4 with errors.").tier(Tier::Window),
    counter("node_netstat_Udp_NoPorts", Unit::None, "UDP packets received by IPv4 for a port without a socket.")
        .tier(Tier::Window),
    counter("node_netstat_Udp_OutDatagrams", Unit::None, "UDP packets sent by IPv4.").tier(Tier::Window),
    counter(
        "node_netstat_Udp_RcvbufErrors",
        Unit::None,
        "UDP packets of IPv4 dropped because the receive buffer was full.",
    )
    .tier(Tier::Window),
    counter(
        "node_netstat_Udp_SndbufErrors",
        Unit::None,
        "UDP packets of IPv4 dropped because the send buffer was full.",
    )
    .tier(Tier::Window),
    gauge("node_nf_conntrack_entries", Unit::None, "Connections tracked.").tier(Tier::Window),
    gauge("node_nf_conntrack_entries_limit", Unit::None, "Connections that may be tracked.").tier(Tier::Window),
    counter("node_nf_conntrack_stat_drop", Unit::None, "Packets dropped because tracking failed.").tier(Tier::Window),
    counter("node_nf_conntrack_stat_early_drop", Unit::None, "Connections dropped from a full table for new ones.")
        .tier(Tier::Window),
    counter("node_nf_conntrack_stat_found", Unit::None, "Searches that found a connection.").tier(Tier::Window),
    counter("node_nf_conntrack_stat_ignore", Unit::None, "Packets of connections that are tracked already.")
        .tier(Tier::Window),
    counter("node_nf_conntrack_stat_insert", Unit::None, "Connections put into the table.").tier(Tier::Window),
    counter("node_nf_conntrack_stat_insert_failed", Unit::None, "Connections that could not be put into the table.")
        .tier(Tier::Window),
    counter("node_nf_conntrack_stat_invalid", Unit::None, "Packets that cannot be tracked.").tier(Tier::Window),
    counter("node_nf_conntrack_stat_search_restart", Unit::None, "Searches begun again because the table was resized.")
        .tier(Tier::Window),
    counter("node_nfs_connections_total", Unit::None, "TCP connections to NFS servers.").tier(Tier::Window),
    counter("node_nfs_packets_total", Unit::None, "Packets to and from NFS servers.")
        .labels(&["protocol"])
        .tier(Tier::Window),
    counter("node_nfs_requests_total", Unit::None, "Calls of NFS by method.")
        .labels(&["method", "proto"])
        .tier(Tier::Window),
    counter(
        "node_nfs_rpc_authentication_refreshes_total",
        Unit::None,
        "Times at which credentials for NFS were renewed.",
    )
    .tier(Tier::Window),
    counter("node_nfs_rpc_retransmissions_total", Unit::None, "Calls of NFS sent again.").tier(Tier::Window),
    counter("node_nfs_rpcs_total", Unit::None, "Calls of NFS.").tier(Tier::Window),
    gauge("node_sockstat_FRAG6_inuse", Unit::None, "IPv6 packets that wait for their missing fragments.")
        .tier(Tier::Window),
    gauge("node_sockstat_FRAG6_memory", Unit::Bytes, "Memory of IPv6 fragments.").tier(Tier::Window),
    gauge("node_sockstat_FRAG_inuse", Unit::None, "IPv4 packets that wait for their missing fragments.")
        .tier(Tier::Window),
    gauge("node_sockstat_FRAG_memory", Unit::Bytes, "Memory of IPv4 fragments.").tier(Tier::Window),
    gauge("node_sockstat_RAW6_inuse", Unit::None, "Raw IPv6 sockets.").tier(Tier::Window),
    gauge("node_sockstat_RAW_inuse", Unit::None, "Raw IPv4 sockets.").tier(Tier::Window),
    gauge("node_sockstat_TCP6_inuse", Unit::None, "TCP sockets of IPv6 in use.").tier(Tier::Window),
    gauge("node_sockstat_TCP_alloc", Unit::None, "TCP sockets allocated.").tier(Tier::Window),
    gauge("node_sockstat_TCP_inuse", Unit::None, "TCP sockets of IPv4 in use.").tier(Tier::Window),
    gauge("node_sockstat_TCP_mem", Unit::None, "Memory of TCP sockets, in pages.").tier(Tier::Window),
    gauge("node_sockstat_TCP_mem_bytes", Unit::Bytes, "Memory of TCP sockets.").tier(Tier::Window),
    gauge("node_sockstat_TCP_orphan", Unit::None, "TCP sockets that no process holds.").tier(Tier::Window),
    gauge("node_sockstat_TCP_tw", Unit::None, "TCP sockets that wait for late packets.").tier(Tier::Window),
    gauge("node_sockstat_UDP6_inuse", Unit::None, "UDP sockets of IPv6 in use.").tier(Tier::Window),
    gauge("node_sockstat_UDPLITE6_inuse", Unit::None, "UDP-Lite sockets of IPv6 in use.").tier(Tier::Window),
    gauge("node_sockstat_UDPLITE_inuse", Unit::None, "UDP-Lite sockets of IPv4 in use.").tier(Tier::Window),
    gauge("node_sockstat_UDP_inuse", Unit::None, "UDP sockets of IPv4 in use.").tier(Tier::Window),
    gauge("node_sockstat_UDP_mem", Unit::None, "Memory of UDP sockets, in pages.").tier(Tier::Window),
    gauge("node_sockstat_UDP_mem_bytes", Unit::Bytes, "Memory of UDP sockets.").tier(Tier::Window),
    gauge("node_sockstat_sockets_used", Unit::None, "Sockets in use.").tier(Tier::Window),
    gauge("node_softnet_backlog_len", Unit::None, "Packets that wait for the core.").labels(CPU).tier(Tier::Window),
    counter("node_softnet_cpu_collision_total", Unit::None, "Times at which a core waited for another to send.")
        .labels(CPU)
        .tier(Tier::Window),
    counter("node_softnet_dropped_total", Unit::None, "Packets dropped because the backlog was full.")
        .labels(CPU)
        .tier(Tier::Window),
    counter("node_softnet_flow_limit_count_total", Unit::None, "Packets dropped because one flow had too many.")
        .labels(CPU)
        .tier(Tier::Window),
    counter("node_softnet_processed_total", Unit::None, "Packets taken from the network cards.")
        .labels(CPU)
        .tier(Tier::Window),
    counter("node_softnet_received_rps_total", Unit::None, "Times at which another core woke this one for packets.")
        .labels(CPU)
        .tier(Tier::Window),
    counter(
        "node_softnet_times_squeezed_total",
        Unit::None,
        "Times at which packets were left because the time was up.",
    )
    .labels(CPU)
    .tier(Tier::Window),
];

const CPU: &[&str] = &["cpu"];
