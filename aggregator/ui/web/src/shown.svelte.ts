//! The span that the charts of a screen show: the address's range, or what there can be of a host that has just joined.

import { address } from "./address.svelte";
import { type Span, spanOf, spanSince } from "./range";

class Shown {
  /** When the host of this screen joined. */
  joinedMs = $state<number | undefined>();

  span(nowMs: number): Span {
    return spanSince(address.range, nowMs, this.joinedMs)!;
  }

  /** Where the span begins when it is shorter than the range. */
  sinceMs(nowMs: number): number | undefined {
    const { startMs } = this.span(nowMs);
    return startMs === spanOf(address.range, nowMs)!.startMs ? undefined : startMs;
  }
}

export const shown = new Shown();
