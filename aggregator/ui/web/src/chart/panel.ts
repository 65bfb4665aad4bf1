//! What a chart asks for, and its answer laid on one grid of times.

import { queryRange } from "../api/client";
import type { Labels, RangeSeries } from "../api/shapes";
import type { Grid } from "../range";
import type { Unit } from "../units";
import type { Word } from "../words/words.svelte";

/** Colours of the ordered palette: 1 to 8, as the tokens number them. */
export type Colour = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** One question of a chart. It may answer with one series or, by `label`, with several. */
export interface Question {
  expr: string;
  /** Least and most inside each step: the band behind the mean. */
  low?: string;
  high?: string;
  /** The name of the only series, from the dictionary. */
  name?: Word;
  /** The names of several series: this label's values. */
  label?: string;
  /** Known values of `label`, in order, with their names: the same mode has the same place and colour everywhere. */
  known?: readonly (readonly [value: string, name: Word, colour: Colour])[];
  colour: Colour;
}

export interface Panel {
  key: string;
  title: Word;
  unit: Unit;
  questions: Question[];
  stacked?: boolean;
  /** The most the whole stack reached inside each step. */
  crest?: string;
  /** A size that cannot be passed; drawn when near. */
  limit?: number | null;
  /** A value that means something; always drawn. */
  threshold?: number;
  /** What the line of the limit or threshold is called, where that is not its name. */
  markName?: Word;
  /** The axis goes at least this far: noise on an idle host is not a mountain. */
  least?: number;
  /** Not shown at all while it has no data. */
  optional?: boolean;
  /** Keeps a series of the answer when true. */
  keep?: (labels: Labels) => boolean;
}

export type Values = (number | null)[];

export interface Line {
  name: string | Word;
  /** Whether `name` is a word of the dictionary; else it is data. */
  translated: boolean;
  colour: Colour;
  values: Values;
  low?: Values;
  high?: Values;
}

export interface Plotted {
  /** Seconds. */
  times: number[];
  lines: Line[];
  crest?: Values;
}

/** More than this many lines: the largest are shown, the rest is summed (stacked) or left out. */
const LINES_MAX = 8;

export async function load(panel: Panel, grid: Grid, signal: AbortSignal): Promise<Plotted> {
  const times = timesOf(grid);
  const ask = async (expr: string | undefined): Promise<RangeSeries[]> =>
    expr === undefined ? [] : (await queryRange(expr, grid, signal)).filter((s) => panel.keep?.(s.metric) ?? true);
  const answers = await Promise.all(
    panel.questions.map(async (question) => {
      const [mean, low, high] = await Promise.all([ask(question.expr), ask(question.low), ask(question.high)]);
      return linesOf(question, grid, { mean, low, high });
    }),
  );
  const crest = await ask(panel.crest);
  const lines = shorten(answers.flat(), panel.stacked ?? false);
  return { times, lines, ...(crest[0] && { crest: spread(crest[0], grid) }) };
}

export function isEmpty(plotted: Plotted): boolean {
  return plotted.lines.every((line) => line.values.every((value) => value === null));
}

function timesOf(grid: Grid): number[] {
  const count = Math.max(0, Math.floor((grid.end - grid.start) / grid.step) + 1);
  return Array.from({ length: count }, (_, at) => grid.start + at * grid.step);
}

/** Puts the pairs of an answer into their places of the grid. A place without a pair is a gap. */
export function spread(series: RangeSeries, grid: Grid): Values {
  const values: Values = timesOf(grid).map(() => null);
  for (const [seconds, text] of series.values) {
    const at = Math.round((seconds - grid.start) / grid.step);
    const value = Number(text);
    if (0 <= at && at < values.length && Number.isFinite(value)) values[at] = value;
  }
  return values;
}

interface Answer {
  mean: RangeSeries[];
  low: RangeSeries[];
  high: RangeSeries[];
}

function linesOf(question: Question, grid: Grid, answer: Answer): Line[] {
  const lines = answer.mean.map((series, at) => {
    const value = question.label ? (series.metric[question.label] ?? "") : "";
    const known = question.known?.find(([name]) => name === value);
    const match = (others: RangeSeries[]): RangeSeries | undefined =>
      others.find((other) => !question.label || other.metric[question.label] === value);
    const low = match(answer.low);
    const high = match(answer.high);
    return {
      name: known?.[1] ?? question.name ?? value,
      translated: known !== undefined || question.name !== undefined,
      colour: known?.[2] ?? ((((question.colour - 1 + at) % 8) + 1) as Colour),
      values: spread(series, grid),
      ...(low && { low: spread(low, grid) }),
      ...(high && { high: spread(high, grid) }),
    };
  });
  if (!question.known) return lines.sort((left, right) => left.name.localeCompare(right.name));
  const order = question.known.map(([, name]) => name as string);
  return lines.sort((left, right) => order.indexOf(left.name) - order.indexOf(right.name));
}

/** The top seven and the others. */
function shorten(lines: Line[], stacked: boolean): Line[] {
  if (lines.length <= LINES_MAX) return lines;
  const largest = (line: Line): number => line.values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
  const ranked = [...lines].sort((left, right) => largest(right) - largest(left));
  const top = ranked.slice(0, LINES_MAX - 1);
  const rest = ranked.slice(LINES_MAX - 1);
  const combine = (values: Values): number | null => {
    const present = values.filter((value) => value !== null);
    if (present.length === 0) return null;
    return stacked ? present.reduce((sum, value) => sum + value, 0) : Math.max(...present);
  };
  const others = top[0]!.values.map((_, at) => combine(rest.map((line) => line.values[at] ?? null)));
  const shown = top.map((line, at) => ({ ...line, colour: (at + 1) as Colour }));
  return [...shown, { name: "chart.others", translated: true, colour: 8, values: others }];
}
