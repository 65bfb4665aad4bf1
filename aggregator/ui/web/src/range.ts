//! The one time range of the page: how it is written in the address, and the grid on which charts ask for it.

/** A range as written: `now`, `now-15m`, or milliseconds since the epoch. */
export interface Range {
  from: string;
  to: string;
}

/** A range at a moment, in milliseconds. */
export interface Span {
  startMs: number;
  endMs: number;
}

/** Seconds, as Prometheus wants them; both ends lie on multiples of `step`, so that points keep their place. */
export interface Grid {
  start: number;
  end: number;
  step: number;
}

export const DEFAULT_RANGE: Range = { from: "now-1h", to: "now" };
export const PRESETS = ["15m", "1h", "3h", "6h", "12h", "24h"] as const;

/** The narrowest zoom: six windows. */
const SPAN_MS_MIN = 60_000;
/** A host that has just joined is shown with at least this. */
const YOUNG_MS_MIN = 5 * 60_000;
/** A point is a pixel or two of a chart in two columns. */
const POINTS_MAX = 400;
const STEPS = [10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400];
/** A window reaches the store within a second or two of its end; asking earlier shows a gap that is none. */
const SETTLE_MS = 2_000;
const UNITS: Record<string, number> = { s: 1e3, m: 60e3, h: 3600e3, d: 86400e3, w: 604800e3 };

/** Reads a range out of the address; what cannot be read is the last hour. */
export function parseRange(parameters: URLSearchParams): Range {
  const range = {
    from: parameters.get("from") ?? DEFAULT_RANGE.from,
    to: parameters.get("to") ?? DEFAULT_RANGE.to,
  };
  const span = spanOf(range, Date.now());
  return span === undefined || span.endMs <= span.startMs ? DEFAULT_RANGE : range;
}

export function isLive(range: Range): boolean {
  return range.to === "now";
}

/** Where the range lies at `nowMs`. Undefined when it cannot be read. */
export function spanOf(range: Range, nowMs: number): Span | undefined {
  const startMs = momentOf(range.from, nowMs);
  const endMs = momentOf(range.to, nowMs);
  return startMs === undefined || endMs === undefined ? undefined : { startMs, endMs };
}

/** The span of a live range of the last so long. Of what joined in its later half it shows what there can be. */
export function spanSince(range: Range, nowMs: number, joinedMs: number | undefined): Span | undefined {
  const span = spanOf(range, nowMs);
  if (!span || joinedMs === undefined || !isLive(range) || !range.from.startsWith("now-")) return span;
  const middle = (span.startMs + span.endMs) / 2;
  const startMs = Math.min(joinedMs, span.endMs - YOUNG_MS_MIN);
  return middle < startMs ? { ...span, startMs } : span;
}

/** A range that stands still. Narrower than the narrowest zoom it grows around its middle. */
export function fixed(span: Span): Range {
  const middle = (span.startMs + span.endMs) / 2;
  const half = Math.max(SPAN_MS_MIN, span.endMs - span.startMs) / 2;
  return { from: String(Math.round(middle - half)), to: String(Math.round(middle + half)) };
}

export function gridOf(span: Span, nowMs: number): Grid {
  const end = Math.min(span.endMs, nowMs - SETTLE_MS) / 1000;
  const start = Math.min(span.startMs / 1000, end - 10);
  const seconds = (span.endMs - span.startMs) / 1000;
  const step = STEPS.find((candidate) => seconds / candidate <= POINTS_MAX) ?? Math.ceil(seconds / POINTS_MAX);
  return { start: Math.ceil(start / step) * step, end: Math.floor(end / step) * step, step };
}

function momentOf(text: string, nowMs: number): number | undefined {
  if (/^\d{10,14}$/.test(text)) return Number(text);
  if (text === "now") return nowMs;
  const match = /^now-(\d{1,6})([smhdw])$/.exec(text);
  const unit = match?.[2] && UNITS[match[2]];
  return match && unit ? nowMs - Number(match[1]) * unit : undefined;
}
