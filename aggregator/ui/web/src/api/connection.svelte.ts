//! What is known of the aggregator: whether it answers, whether it knows us, and what time it has.

/** A difference smaller than this is the resolution of the Date header, not a wrong clock. */
const SKEW_MS_MIN = 5_000;

class Connection {
  reachable = $state(true);
  /** True when the aggregator asked who we are. */
  loginNeeded = $state(false);
  /** True once it has answered somebody whom it knows, until it does not: only then can anything be live. */
  answering = $state(false);
  #skewMs = 0;

  /** The aggregator's time: stamps are its own, so a browser with a wrong clock still sees the last hour. */
  now(): number {
    return Date.now() + this.#skewMs;
  }

  lost(): void {
    this.reachable = false;
    this.answering = false;
  }

  answered(status: number, date: string | null): void {
    // A proxy in front answers these when the aggregator is away.
    this.reachable = status !== 502 && status !== 503 && status !== 504;
    this.loginNeeded = status === 401;
    this.answering = this.reachable && !this.loginNeeded;
    const skewMs = date ? Date.parse(date) - Date.now() : 0;
    this.#skewMs = SKEW_MS_MIN <= Math.abs(skewMs) ? skewMs : 0;
  }
}

export const connection = new Connection();
