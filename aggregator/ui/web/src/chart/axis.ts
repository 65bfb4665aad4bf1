//! The vertical axis: it begins at zero, ends a little above the data, and shows a limit when that is near.

import type { Panel, Plotted, Values } from "./panel";

/** A limit is near once the data reaches this share of it. */
const NEAR = 0.6;
const HEADROOM = 1.1;

export interface Axis {
  bottom: number;
  top: number;
  /** The line of the limit or threshold, when it is drawn. */
  mark?: number;
}

export function axisOf(panel: Panel, plotted: Plotted | undefined): Axis {
  const all = plotted ? curves(panel, plotted) : [];
  const largest = all.reduce((most, values) => extreme(values, Math.max, most), 0);
  const smallest = all.reduce((least, values) => extreme(values, Math.min, least), 0);
  const mark = panel.threshold ?? (panel.limit && NEAR * panel.limit <= largest ? panel.limit : undefined);
  const top = Math.max(
    largest * HEADROOM,
    (mark ?? 0) * HEADROOM,
    panel.least ?? 0,
    smallest < 0 ? 0 : Number.MIN_VALUE,
  );
  const axis = { bottom: Math.min(smallest * HEADROOM, (mark ?? 0) * HEADROOM, 0), top: top < 1e-12 ? 1 : top };
  return mark === undefined ? axis : { ...axis, mark };
}

/** Running sums from the bottom of a stack upwards; a gap only where nothing is known. */
export function stack(lines: Values[]): Values[] {
  const sums: Values[] = [];
  for (const values of lines) {
    const below = sums.at(-1);
    sums.push(values.map((value, at) => add(below?.[at] ?? null, value)));
  }
  return sums;
}

function curves(panel: Panel, plotted: Plotted): Values[] {
  const means = plotted.lines.map((line) => line.values);
  const bands = plotted.lines.flatMap((line) => [line.low ?? [], line.high ?? []]);
  return [...(panel.stacked ? stack(means) : means), ...bands, plotted.crest ?? []];
}

function add(left: number | null, right: number | null): number | null {
  return left === null ? right : left + (right ?? 0);
}

function extreme(values: Values, pick: (left: number, right: number) => number, start: number): number {
  return values.reduce<number>((found, value) => (value === null ? found : pick(found, value)), start);
}
