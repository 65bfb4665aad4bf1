//! The page's keys. A chart and a field keep their own.

import { address } from "../address.svelte";
import { connection } from "../api/connection.svelte";
import { DEFAULT_RANGE, spanOf } from "../range";

/** The second key of a pair must follow within this. */
const PAIR_MS_MAX = 1_200;

/** Listens until the returned function is called. */
export function keys(open: { search: () => void; help: () => void }): () => void {
  let goSince = 0;
  const press = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    const typing = target.matches("input, textarea, select") || target.closest("dialog[open]") !== null;
    if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
    const going = event.timeStamp - goSince < PAIR_MS_MAX;
    goSince = 0;
    if (going && event.key === "h") address.go(address.link("/"));
    else if (going && event.key === "a") address.go(address.link("/alerts"));
    else if (event.key === "g") goSince = event.timeStamp;
    else if (event.key === "/") open.search();
    else if (event.key === "?") open.help();
    else if (event.key === "f") document.querySelector<HTMLElement>("[data-filter]")?.focus();
    else if (event.key === "l") goLive();
    else if (event.key === "-") zoomOut();
    else if (event.key === "[") pan(-1);
    else if (event.key === "]") pan(1);
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", press);
  return () => removeEventListener("keydown", press);
}

/** Back to now, with the span that is shown when it is a usual one. */
export function goLive(): void {
  address.setRange(address.range.to === "now" ? address.range : DEFAULT_RANGE);
}

/** Twice the span around the same middle, not into the future. */
export function zoomOut(): void {
  const nowMs = connection.now();
  const { startMs, endMs } = spanOf(address.range, nowMs)!;
  const half = (endMs - startMs) / 2;
  const end = Math.min(endMs + half, nowMs);
  address.zoom({ startMs: end - 4 * half, endMs: end });
}

/** Half a span earlier or later, not into the future. */
export function pan(direction: -1 | 1): void {
  const nowMs = connection.now();
  const { startMs, endMs } = spanOf(address.range, nowMs)!;
  const by = Math.min(((endMs - startMs) / 2) * direction, nowMs - endMs);
  if (by !== 0) address.zoom({ startMs: startMs + by, endMs: endMs + by });
}
