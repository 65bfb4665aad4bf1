//! The moment that all charts and the process table show: under the pointer, or kept by a click.

class Moment {
  /** Where the pointer is, in milliseconds. */
  hoveredMs = $state<number | undefined>();
  /** What a click kept. */
  pinnedMs = $state<number | undefined>();
  readonly shownMs = $derived(this.hoveredMs ?? this.pinnedMs);

  hover(ms: number | undefined): void {
    this.hoveredMs = ms;
  }

  clear(): void {
    this.hoveredMs = undefined;
    this.pinnedMs = undefined;
  }

  /** Keeps a moment; the same one again lets it go. */
  pin(ms: number | undefined): void {
    this.pinnedMs = this.pinnedMs === ms ? undefined : ms;
  }
}

export const moment = new Moment();
