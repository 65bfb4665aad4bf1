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

  #lastPulseMs = 0;
  #pending: ReturnType<typeof setTimeout> | undefined;

  /** Lets time pass also without windows: no stream, or every host silent. Returns what ends it. */
  tick(): () => void {
    const timer = setInterval(() => {
      if (PULSE_MS <= Date.now() - this.#lastPulseMs) this.#beat();
    }, 1_000);
    return () => clearInterval(timer);
  }

  /** Opens the stream; the browser reconnects it unless it was refused. Returns what closes it. */
  stream(): () => void {
    const source = new EventSource("/api/v1/events");
    source.onopen = () => this.#beat();
    source.addEventListener("window", () => this.#soon());
    for (const subject of ["alert", "host", "notification"] satisfies Subject[]) {
      source.addEventListener(subject, () => (this.changes += 1));
    }
    return () => source.close();
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
