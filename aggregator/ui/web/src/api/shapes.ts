//! What the public API answers. Times end in `_ms` and count from the epoch; a figure that is missing is null.

export type Labels = Record<string, string>;
export type HostState = "up" | "silent" | "stopped" | "shutdown" | "rebooting" | "revoked" | "new";

export interface Host {
  id: number;
  instance: string;
  labels: Labels;
  state: HostState;
  state_since_ms: number | null;
  /** It has no data from before. */
  joined_ms: number;
  last_seen_ms: number | null;
  agent_version: string | null;
  address: string | null;
  os: string | null;
  kernel: string | null;
  architecture: string | null;
  cores: number | null;
  memory_bytes: number | null;
  boot_ms: number | null;
  cpu_ratio: number | null;
  cpu_peak_ratio: number | null;
  memory_ratio: number | null;
  disk_ratio: number | null;
  disk_mountpoint: string | null;
  receive_bytes_per_second: number | null;
  transmit_bytes_per_second: number | null;
  load1: number | null;
  containers: number | null;
  alerts_firing: number;
}

export interface Totals {
  hosts: number;
  hosts_up: number;
  alerts_firing: number;
  containers: number;
  samples_per_second: number | null;
}

export interface Container {
  id: string;
  runtime: string;
  name: string | null;
  image: string | null;
  kind: "container" | "service";
  cpu_cores: number | null;
  cpu_limit_cores: number | null;
  throttled_ratio: number | null;
  memory_working_set_bytes: number | null;
  memory_limit_bytes: number | null;
  read_bytes_per_second: number | null;
  write_bytes_per_second: number | null;
  tasks: number | null;
  oom_kills: number | null;
  restarts: number | null;
  last_seen_ms: number | null;
}

export interface Process {
  pid: number;
  start_ticks: number;
  user: string | null;
  command: string;
  command_line: string | null;
  container: string | null;
  cpu_ms: number;
  cpu_cores: number;
  resident_bytes: number;
  read_bytes: number | null;
  written_bytes: number | null;
  major_faults: number;
  minor_faults: number;
  threads: number;
}

export interface ProcessTable {
  at_ms: number | null;
  processes: Process[];
}

export interface HostEvent {
  at_ms: number;
  kind: string;
  entity: Labels;
  text: string;
  host: number;
}

export interface Notification {
  at_ms: number;
  group_key: string;
  receiver: string;
  status: "sent" | "failed" | "pending" | "skipped";
  /** In English, for a reason that this page does not know by its name. */
  reason: string;
  reason_code: string;
  attempts: number;
  error: string | null;
  /** How many alerts it is about; the first of them follow. */
  alerts_total: number;
  alerts: { labels: Labels; status: string }[];
}

export interface Alert {
  rule: string;
  group: string;
  file: string;
  state: "pending" | "firing" | "resolved";
  held_since_ms: number | null;
  since_ms: number | null;
  fired_ms: number | null;
  resolved_ms: number | null;
  value: number | null;
  labels: Labels;
  annotations: Labels;
  expr: string;
  fingerprint: string;
  /** Keys of the groups in which it is notified: notifications carry them. */
  groups: string[];
}

export interface RuleFile {
  path: string;
  error: string | null;
  groups: {
    name: string;
    rules: { name: string; health: "ok" | "error" | "unknown"; error: string | null }[];
  }[];
}

/** One series of a Prometheus range answer: pairs of seconds and a number as text. */
export interface RangeSeries {
  metric: Labels;
  values: [number, string][];
}
