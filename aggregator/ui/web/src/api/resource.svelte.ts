//! One thing loaded from the aggregator that keeps its last good value while a newer one is on its way.

import { ApiError } from "./client";

export class Resource<T> {
  data = $state.raw<T | undefined>();
  error = $state.raw<ApiError | undefined>();
  #running: AbortController | undefined;

  /** Loads again; an older load that is still under way is dropped. */
  async load(loader: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    try {
      const data = await loader(running.signal);
      if (running.signal.aborted) return;
      this.data = data;
      this.error = undefined;
    } catch (failure) {
      if (running.signal.aborted) return;
      this.error = failure instanceof ApiError ? failure : new ApiError(0, String(failure));
    }
  }

  /** Forgets the value: the next one is of another thing. */
  clear(): void {
    this.#running?.abort();
    this.data = undefined;
    this.error = undefined;
  }
}
