//! Which hosts are shown, and in which order. Pure.

import type { Host, HostState } from "../api/shapes";

export type SortKey =
  "trouble" | "host" | "cpu" | "memory" | "disk" | "network" | "load" | "containers" | "version" | "seen";

export interface Sort {
  key: SortKey;
  descending: boolean;
}

const SEVERITY: Record<HostState, number> = {
  silent: 0,
  rebooting: 2,
  new: 3,
  up: 3,
  stopped: 4,
  shutdown: 4,
  revoked: 5,
};
const FIRING = 1;
const KEYS: SortKey[] = [
  "trouble",
  "host",
  "cpu",
  "memory",
  "disk",
  "network",
  "load",
  "containers",
  "version",
  "seen",
];

/** Reads an order from the address: `-cpu` is descending. What cannot be read is trouble first. */
export function parseSort(text: string): Sort {
  const key = text.replace(/^-/, "") as SortKey;
  return KEYS.includes(key) ? { key, descending: text.startsWith("-") } : { key: "trouble", descending: false };
}

/** The order that a press on a column's head makes: figures largest first, names from A. */
export function nextSort(current: Sort, key: SortKey): string {
  const ascendingFirst = key === "host" || key === "version";
  const descending = current.key === key ? !current.descending : !ascendingFirst;
  return `${descending ? "-" : ""}${key}`;
}

export function sorted(hosts: Host[], sort: Sort): Host[] {
  const sign = sort.descending ? -1 : 1;
  const byName = (left: Host, right: Host): number =>
    left.instance.localeCompare(right.instance, "en", { numeric: true });
  return [...hosts].sort((left, right) => {
    const [a, b] = [figure(left, sort.key), figure(right, sort.key)];
    // A missing figure is last in either order.
    if (a === null || b === null) return Number(a === null) - Number(b === null) || byName(left, right);
    const order = typeof a === "string" ? a.localeCompare(String(b), "en", { numeric: true }) : a - Number(b);
    return order * sign || byName(left, right);
  });
}

/** Every word must match: `key=value` a label, anything else any text of the host. */
export function filtered(hosts: Host[], text: string): Host[] {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  return hosts.filter((host) => wanted.every((word) => matches(host, word)));
}

function matches(host: Host, word: string): boolean {
  const [key, value] = word.split("=", 2) as [string, string?];
  if (value !== undefined) {
    return Object.entries(host.labels).some(
      ([name, is]) => name.toLowerCase() === key && is.toLowerCase().startsWith(value),
    );
  }
  const texts = [host.instance, host.state, host.os, host.address, host.agent_version, ...Object.values(host.labels)];
  return texts.some((part) => part?.toLowerCase().includes(word));
}

function figure(host: Host, key: SortKey): number | string | null {
  switch (key) {
    case "trouble":
      return host.alerts_firing > 0 ? Math.min(FIRING, SEVERITY[host.state]) : SEVERITY[host.state];
    case "host":
      return host.instance;
    case "cpu":
      return host.cpu_ratio;
    case "memory":
      return host.memory_ratio;
    case "disk":
      return host.disk_ratio;
    case "network":
      return host.receive_bytes_per_second === null
        ? null
        : host.receive_bytes_per_second + (host.transmit_bytes_per_second ?? 0);
    case "load":
      return host.load1;
    case "containers":
      return host.containers;
    case "version":
      return host.agent_version;
    case "seen":
      return host.last_seen_ms;
  }
}
