//! Alerts in the groups in which they are notified. Pure.

import type { Alert } from "../api/shapes";

export interface Group {
  /** Empty: nobody was told of these yet. */
  key: string;
  alerts: Alert[];
}

export function isHeld(alert: Alert): boolean {
  return alert.held_since_ms !== null && alert.state !== "resolved";
}

/** Groups by the newest notification of each alert; the group with the newest alert first. */
export function groupsOf(alerts: Alert[]): Group[] {
  const groups = new Map<string, Alert[]>();
  for (const alert of [...alerts].sort((left, right) => (right.since_ms ?? 0) - (left.since_ms ?? 0))) {
    const newest = alert.notifications.reduce<Alert["notifications"][number] | undefined>(
      (found, one) => (found && one.at_ms <= found.at_ms ? found : one),
      undefined,
    );
    const key = newest?.group_key ?? "";
    groups.set(key, [...(groups.get(key) ?? []), alert]);
  }
  return [...groups].map(([key, members]) => ({ key, alerts: members }));
}
