//! The charts of a host and of a container: what each asks.

import type { Container, Host } from "../api/shapes";
import type { Panel, Question } from "../chart/panel";

const MODES = [
  ["user", "series.user", 1],
  ["system", "series.system", 2],
  ["nice", "series.nice", 4],
  ["iowait", "series.iowait", 3],
  ["irq", "series.irq", 6],
  ["softirq", "series.softirq", 7],
  ["steal", "series.steal", 5],
] as const;
/** Links that carry another's packets: counting them would count each packet twice. */
const VIRTUAL_LINKS = "lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|tap.*|tun.*";
const VIRTUAL_DISKS = "dm-.*|md.*|loop.*|ram.*|zram.*|sr.*";
const PSEUDO_FILESYSTEMS = "tmpfs|devtmpfs|overlay|squashfs|ramfs|iso9660|fuse.*|nsfs|proc|sysfs|cgroup.*";
/** Slow gauges (file systems, sensors) are sampled once a minute. */
const SLOW_SECONDS = 60;

/** All charts of a host, for points `step` seconds apart. */
export function hostPanels(host: Host, step: number): Panel[] {
  const who = `instance=${quoted(host.instance)}`;
  const cores = host.cores ?? undefined;
  return [
    cpu(who, step, cores),
    {
      key: "memory",
      title: "chart.memory",
      unit: "bytes",
      limit: host.memory_bytes,
      least: 1024 ** 2,
      questions: memory(who, step),
    },
    {
      key: "load",
      title: "chart.load",
      unit: "none",
      ...(cores && { limit: cores, least: cores / 4 }),
      markName: "unit.cores",
      questions: [
        { ...gauge(`node_load1{${who}}`, step), name: "series.load1", colour: 1 },
        { ...gauge(`node_load5{${who}}`, step, "plain"), name: "series.load5", colour: 2 },
        { ...gauge(`node_load15{${who}}`, step, "plain"), name: "series.load15", colour: 3 },
      ],
    },
    {
      key: "pressure",
      title: "chart.pressure",
      unit: "ratio",
      least: 0.1,
      questions: [
        { expr: rate(`node_pressure_cpu_waiting_seconds_total{${who}}`, step), name: "series.cpuWait", colour: 1 },
        { expr: rate(`node_pressure_io_waiting_seconds_total{${who}}`, step), name: "series.ioWait", colour: 2 },
        {
          expr: rate(`node_pressure_memory_waiting_seconds_total{${who}}`, step),
          name: "series.memoryWait",
          colour: 3,
        },
      ],
    },
    {
      key: "disk",
      title: "chart.disk",
      unit: "bytes_per_second",
      least: 100e3,
      questions: [
        {
          ...flow(`node_disk_read_bytes_total{${who},device!~"${VIRTUAL_DISKS}"}`, step),
          name: "series.read",
          colour: 1,
        },
        {
          ...flow(`node_disk_written_bytes_total{${who},device!~"${VIRTUAL_DISKS}"}`, step),
          name: "series.written",
          colour: 2,
        },
      ],
    },
    {
      key: "network",
      title: "chart.network",
      unit: "bytes_per_second",
      least: 10e3,
      questions: [
        {
          ...flow(`node_network_receive_bytes_total{${who},device!~"${VIRTUAL_LINKS}"}`, step),
          name: "series.received",
          colour: 1,
        },
        {
          ...flow(`node_network_transmit_bytes_total{${who},device!~"${VIRTUAL_LINKS}"}`, step),
          name: "series.sent",
          colour: 2,
        },
      ],
    },
    space(who, step),
    temperature(who, step),
  ];
}

/** The charts of one container or service. */
export function containerPanels(host: Host, container: Container, step: number): Panel[] {
  const who = `instance=${quoted(host.instance)},id=${quoted(container.id)}`;
  const usage = `container_cpu_usage_seconds_total{${who}}`;
  return [
    {
      key: "container-cpu",
      title: "chart.cpu",
      unit: "cores",
      limit: container.cpu_limit_cores,
      least: 0.05,
      questions: [{ ...flow(usage, step), name: "series.used", colour: 1 }],
    },
    {
      key: "container-memory",
      title: "chart.memory",
      unit: "bytes",
      limit: container.memory_limit_bytes,
      least: 1024 ** 2,
      questions: [
        { ...gauge(`container_memory_working_set_bytes{${who}}`, step), name: "series.workingSet", colour: 1 },
      ],
    },
    {
      key: "container-throttled",
      title: "chart.throttled",
      unit: "ratio",
      least: 0.05,
      optional: true,
      questions: [
        {
          expr: `${rate(`container_cpu_cfs_throttled_periods_total{${who}}`, step)} / ${rate(`container_cpu_cfs_periods_total{${who}}`, step)}`,
          name: "series.throttled",
          colour: 5,
        },
      ],
    },
    {
      key: "container-disk",
      title: "chart.disk",
      unit: "bytes_per_second",
      least: 10e3,
      questions: [
        { ...flow(`container_fs_reads_bytes_total{${who}}`, step), name: "series.read", colour: 1 },
        { ...flow(`container_fs_writes_bytes_total{${who}}`, step), name: "series.written", colour: 2 },
      ],
    },
  ];
}

/** CPU of each host over the last hour for the sparklines, and the fastest second inside each step. */
export function fleetCpu(step: number): { mean: string; peak: string } {
  return {
    mean: `1 - avg by (instance) (sum by (instance, cpu) (${rate('node_cpu_seconds_total{mode=~"idle|iowait"}', step)}))`,
    peak: `clamp_max(avg by (instance) (sum by (instance, cpu) (${peak('node_cpu_seconds_total{mode!~"idle|iowait"}', step)})), 1)`,
  };
}

function cpu(who: string, step: number, cores: number | undefined): Panel {
  const busy = `node_cpu_seconds_total{${who},mode!="idle"}`;
  const crest = `sum(${peak(busy, step)})`;
  return {
    key: "cpu",
    title: "chart.cpu",
    unit: "cores",
    stacked: true,
    // Modes and cores may peak in different seconds: their sum is the most it can have been, and never above the cores.
    crest: cores ? `clamp_max(${crest}, ${cores})` : crest,
    ...(cores && { limit: cores, least: cores / 20 }),
    questions: [
      {
        expr: `sum by (mode) (${rate(`node_cpu_seconds_total{${who},mode!="idle"}`, step)})`,
        label: "mode",
        known: MODES,
        colour: 1,
      },
    ],
  };
}

function memory(who: string, step: number): Question[] {
  const total = `node_memory_MemTotal_bytes{${who}}`;
  const available = `node_memory_MemAvailable_bytes{${who}}`;
  const cache = ["Cached", "Buffers", "SReclaimable"].map((part) =>
    over("avg", `node_memory_${part}_bytes{${who}}`, step),
  );
  return [
    {
      expr: `${over("avg", total, step)} - ${over("avg", available, step)}`,
      low: `${over("avg", total, step)} - ${over("max", available, step)}`,
      high: `${over("avg", total, step)} - ${over("min", available, step)}`,
      name: "series.used",
      colour: 1,
    },
    { expr: cache.join(" + "), name: "series.cache", colour: 4 },
    {
      expr: `${over("avg", `node_memory_SwapTotal_bytes{${who}}`, step)} - ${over("avg", `node_memory_SwapFree_bytes{${who}}`, step)}`,
      name: "series.swap",
      colour: 5,
    },
  ];
}

function space(who: string, step: number): Panel {
  const slow = Math.max(step, SLOW_SECONDS);
  const labels = `{${who},fstype!~"${PSEUDO_FILESYSTEMS}"}`;
  const bytes = (what: string): string => over("avg", `node_filesystem_${what}_bytes${labels}`, slow);
  // As df counts: what only root may use is not there.
  const expr = `max by (mountpoint) (1 - ${bytes("avail")} / (${bytes("size")} - ${bytes("free")} + ${bytes("avail")}))`;
  return {
    key: "space",
    title: "chart.space",
    unit: "ratio",
    limit: 1,
    least: 1,
    questions: [{ expr, label: "mountpoint", colour: 1 }],
  };
}

function temperature(who: string, step: number): Panel {
  const expr = `max by (chip) (${over("avg", `node_hwmon_temp_celsius{${who}}`, Math.max(step, SLOW_SECONDS))})`;
  const questions: Question[] = [{ expr, label: "chip", colour: 1 }];
  return { key: "temperature", title: "chart.temperature", unit: "celsius", optional: true, questions };
}

/** The mean of a gauge over each step and, unless plain, the band from its least to its most. */
function gauge(selector: string, step: number, band?: "plain"): { expr: string; low?: string; high?: string } {
  const expr = over("avg", selector, step);
  return band ? { expr } : { expr, low: over("min", selector, step), high: over("max", selector, step) };
}

/** What several counters grow by together, and the fastest second inside each step. */
function flow(selector: string, step: number): { expr: string; high: string } {
  return { expr: `sum(${rate(selector, step)})`, high: `sum(${peak(selector, step)})` };
}

function over(how: "avg" | "min" | "max", selector: string, step: number): string {
  return `${how}_over_time(${selector}[${step}s])`;
}

/** A rate needs the window before the step to see the growth of the step's first window. */
function rate(selector: string, step: number): string {
  return `rate(${selector}[${step + 10}s])`;
}

function peak(selector: string, step: number): string {
  return `peak_rate(${selector}[${step}s])`;
}

function quoted(value: string): string {
  return JSON.stringify(value);
}
