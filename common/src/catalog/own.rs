//! What the agent says about itself.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    gauge("lapwing_agent_clock_offset_seconds", Unit::Seconds, "How far stamps are ahead of the host's wall clock.")
        .own()
        .decimals(3),
    counter(
        "lapwing_agent_collector_errors_total",
        Unit::None,
        "Ticks at which a collector could not read all it should.",
    )
    .own()
    .labels(&["collector"]),
    gauge(
        "lapwing_agent_congestion_window_bytes",
        Unit::Bytes,
        "What may be on its way to the aggregator at once, by QUIC.",
    )
    .own(),
    gauge("lapwing_agent_container_engine_up", Unit::None, "Whether a container engine answers that may be asked.")
        .own()
        .labels(&["socket"]),
    counter("lapwing_agent_cpu_seconds_total", Unit::Seconds, "CPU time that the agent used.").own().decimals(3),
    gauge(
        "lapwing_agent_denied",
        Unit::None,
        "Whether the agent may not see something: `docs/PRIVILEGES.md` says what shows it.",
    )
    .own()
    .labels(&["sight"]),
    counter(
        "lapwing_agent_dropped_batches_total",
        Unit::None,
        "Batches dropped because the spool was full, or lost with a file of it.",
    )
    .own(),
    gauge(
        "lapwing_agent_kept_out",
        Unit::None,
        "Whether the aggregator keeps this agent out because another one has its state.",
    )
    .own(),
    counter("lapwing_agent_late_ticks_total", Unit::None, "Ticks that came so late that another was due already.")
        .own(),
    counter("lapwing_agent_lost_packets_total", Unit::None, "Packets to the aggregator that were lost, by QUIC.").own(),
    gauge("lapwing_agent_process_interval_seconds", Unit::Seconds, "How often the agent looks at processes.").own(),
    counter("lapwing_agent_reconnects_total", Unit::None, "Sessions with the aggregator after the first.").own(),
    gauge("lapwing_agent_recorded_seconds", Unit::Seconds, "How far back the flight recorder reaches.").own(),
    counter("lapwing_agent_refused_series_total", Unit::None, "Times that a new series found no room.").own(),
    gauge("lapwing_agent_resident_memory_bytes", Unit::Bytes, "Memory that the agent holds.").own(),
    gauge("lapwing_agent_round_trip_seconds", Unit::Seconds, "Time to the aggregator and back, by QUIC, smoothed.")
        .own()
        .decimals(6),
    counter("lapwing_agent_samples_total", Unit::None, "Values folded into windows.").own(),
    gauge(
        "lapwing_agent_session_over_tcp",
        Unit::None,
        "Whether the aggregator is reached by TCP because UDP does not pass.",
    )
    .own(),
    gauge(
        "lapwing_agent_settings_refused",
        Unit::None,
        "Whether the agent refused what the aggregator wanted to set last.",
    )
    .own(),
    counter("lapwing_agent_skipped_windows_total", Unit::None, "Windows not written because the clock was set back.")
        .own(),
    gauge("lapwing_agent_spool_batches", Unit::None, "Batches that wait for their acknowledgement.").own(),
    counter(
        "lapwing_agent_spool_corrupt_files_total",
        Unit::None,
        "Files of the spool that were not what had been written.",
    )
    .own(),
    gauge("lapwing_agent_spool_disk_bytes", Unit::Bytes, "Disk that waiting batches take.").own(),
    gauge("lapwing_agent_spool_disk_failing", Unit::None, "Whether the disk does not take waiting batches.").own(),
    gauge(
        "node_scrape_collector_duration_seconds",
        Unit::Seconds,
        "Time that a collector took, the mean of its ticks.",
    )
    .decimals(6)
    .labels(&["collector"])
    .tier(Tier::Window),
    gauge("node_scrape_collector_success", Unit::None, "Whether a collector read all it should in the last minute.")
        .labels(&["collector"])
        .tier(Tier::Window),
];
