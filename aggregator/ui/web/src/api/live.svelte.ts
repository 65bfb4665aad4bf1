//! Tells the screens when there is something new: by server-sent events, by a timer where those do not pass.

import { connection } from "./connection.svelte";

/** Windows close every ten seconds: asking more often shows nothing new. */
const PULSE_MS = 10_000;
/** Hosts report within moments of each other; one refresh serves all of them. */
const SETTLE_MS = 700;

export type Subject = "window" | "alert" | "host" | "notification";

class Live {
  /** Grows by one whenever data may have changed. Reading it inside an effect makes that effect follow. */
  pulse = $state(0);
  /** Grows with each change of an alert, a host's state or a notification. */
  changes = $state(0);
  /** The aggregator's time at the last pulse. */
  nowMs = $state(connection.now());
  streaming = $state(false);

  #lastPulseMs = 0;
  #pending: ReturnType<typeof setTimeout> | undefined;

  /** Opens the stream; the browser reconnects it by itself. Returns what closes it. */
  open(): () => void {
    const source = new EventSource("/api/v1/events");
    source.onopen = () => {
      this.streaming = true;
      this.#beat();
    };
    source.onerror = () => (this.streaming = false);
    source.addEventListener("window", () => this.#soon());
    for (const subject of ["alert", "host", "notification"] satisfies Subject[]) {
      source.addEventListener(subject, () => (this.changes += 1));
    }
    const timer = setInterval(() => {
      // Without windows (no stream, or every host silent) time still passes.
      if (PULSE_MS <= Date.now() - this.#lastPulseMs) this.#beat();
    }, 1_000);
    return () => {
      source.close();
      clearInterval(timer);
    };
  }

  #soon(): void {
    const dueMs = Math.max(SETTLE_MS, PULSE_MS / 2 - (Date.now() - this.#lastPulseMs));
    this.#pending ??= setTimeout(() => this.#beat(), dueMs);
  }

  #beat(): void {
    clearTimeout(this.#pending);
    this.#pending = undefined;
    if (document.hidden) return;
    this.#lastPulseMs = Date.now();
    this.nowMs = connection.now();
    this.pulse += 1;
  }
}

export const live = new Live();
