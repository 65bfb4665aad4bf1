//! Speaks HTTP with the aggregator: one way to ask, one shape of failure.

import { connection } from "./connection.svelte";
import type { Labels, RangeSeries } from "./shapes";

/** Longest wait for an answer before the aggregator counts as unreachable. */
const ANSWER_MS_MAX = 20_000;

/** An answer that is not the thing asked for. `status` 0: no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
  ) {
    super(detail);
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return request<T>(path, { method: "GET" }, signal);
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { "content-type": "application/json" };
  return request<T>(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Evaluates an expression over a range. The times are seconds, as Prometheus wants them. */
export async function queryRange(
  expr: string,
  grid: { start: number; end: number; step: number },
  signal?: AbortSignal,
): Promise<RangeSeries[]> {
  const parameters = new URLSearchParams({
    query: expr,
    start: String(grid.start),
    end: String(grid.end),
    step: String(grid.step),
  });
  const answer = await get<{ data: { result: RangeSeries[] } }>(`/prometheus/api/v1/query_range?${parameters}`, signal);
  return answer.data.result;
}

/** The label sets for which an expression has a value at this moment. */
export async function queryLabels(expr: string): Promise<Labels[]> {
  const parameters = new URLSearchParams({ query: expr });
  const answer = await get<{ data: { result: { metric: Labels }[] } }>(`/prometheus/api/v1/query?${parameters}`);
  return answer.data.result.map((series) => series.metric);
}

async function request<T>(path: string, init: RequestInit, signal?: AbortSignal): Promise<T> {
  const deadline = AbortSignal.timeout(ANSWER_MS_MAX);
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal: signal ? AbortSignal.any([signal, deadline]) : deadline });
  } catch (failure) {
    if (signal?.aborted) throw failure;
    connection.lost();
    throw new ApiError(0, String(failure));
  }
  connection.answered(response.status, response.headers.get("date"));
  if (!response.ok) throw new ApiError(response.status, await detail(response));
  return (await response.json()) as T;
}

/** The sentence for a person in a problem (RFC 9457) or a Prometheus error. */
async function detail(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as Record<string, unknown>;
    return String(body.detail ?? body.error ?? body.title ?? response.statusText);
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}
