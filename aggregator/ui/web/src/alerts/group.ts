//! Alerts in the groups in which they are notified. Pure.

import type { Alert, Notification } from "../api/shapes";

export interface Group {
  /** Empty: nobody is told of these. */
  key: string;
  alerts: Alert[];
}

export function isHeld(alert: Alert): boolean {
  return alert.held_since_ms !== null && alert.state !== "resolved";
}

/** Names an alert of a rule: several rules may raise one with the same labels. */
export function keyOf({ file, group, rule, expr, fingerprint }: Alert): string {
  return JSON.stringify([file, group, rule, expr, fingerprint]);
}

/** The decisions about an alert: those of its groups since it fires. */
export function about(alert: Alert, notifications: Notification[]): Notification[] {
  const { fired_ms: fired } = alert;
  if (fired === null) return [];
  return notifications.filter((one) => fired <= one.at_ms && alert.groups.includes(one.group_key));
}

/** Alerts by the first group in which they are notified; the group with the newest alert first. */
export function groupsOf(alerts: Alert[]): Group[] {
  const groups = new Map<string, Alert[]>();
  for (const alert of [...alerts].sort((left, right) => (right.since_ms ?? 0) - (left.since_ms ?? 0))) {
    const key = alert.groups[0] ?? "";
    groups.set(key, [...(groups.get(key) ?? []), alert]);
  }
  return [...groups].map(([key, members]) => ({ key, alerts: members }));
}
