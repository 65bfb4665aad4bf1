//! Turns a panel's answer into what uPlot draws: series, bands, axes and the marks on top.

import uPlot from "uplot";
import type { HostEvent } from "../api/shapes";
import { digits, scaleOf, ticks } from "../units";
import { words } from "../words/words.svelte";
import { type Axis, stack } from "./axis";
import type { Line, Panel, Plotted, Values } from "./panel";

/** Everything that changes while a plot lives; uPlot's callbacks read it through one reference. */
export interface Scene {
  panel: Panel;
  plotted: Plotted;
  axis: Axis;
  /** Seconds. */
  start: number;
  end: number;
  events: HostEvent[];
  pinnedMs: number | undefined;
}

const GUTTER = 44;
/** Layers of a stack have no outlines: thin ones would be nothing else. */
const STACK_ALPHA = 0.75;
const FONT = "11px system-ui, sans-serif";
const TROUBLE = /oom|died|killed|silent|lost|unhealthy/;

/** Curves in drawing order, all on the grid's times. */
export function dataOf(scene: Scene): uPlot.AlignedData {
  const { lines, crest, times } = scene.plotted;
  const means = lines.map((line) => line.values);
  const drawn = scene.panel.stacked ? stack(means) : means;
  const bands = lines.flatMap((line) => (line.low && line.high ? [line.high, line.low] : line.high ? [line.high] : []));
  return [times, ...drawn, ...bands, ...(crest ? [crest] : [])] as uPlot.AlignedData;
}

/** What the plot consists of; when this differs, the plot is made anew. */
export function shapeOf(plotted: Plotted): string {
  const lines = plotted.lines.map((line) => `${line.name}/${line.colour}/${!!line.low}/${!!line.high}`);
  return `${lines.join()}|${!!plotted.crest}`;
}

export function optionsOf(scene: () => Scene, style: CSSStyleDeclaration, size: uPlot.Options): uPlot.Options {
  const { panel, plotted } = scene();
  const colour = (line: Line): string => style.getPropertyValue(`--series-${line.colour}`);
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  plotted.lines.forEach((line, at) => {
    const alone = !panel.stacked && plotted.lines.length === 1;
    const fill =
      panel.stacked && at === 0 ? faded(colour(line), STACK_ALPHA) : alone ? faded(colour(line), 0.12) : undefined;
    series.push(curve(colour(line), panel.stacked ? 0 : 1.5, fill));
    if (panel.stacked && 0 < at) bands.push({ series: [at + 1, at], fill: faded(colour(line), STACK_ALPHA) });
  });
  plotted.lines.forEach((line, at) => {
    if (!line.high) return;
    const high = series.push(curve("transparent", 0)) - 1;
    const low = line.low ? series.push(curve("transparent", 0)) - 1 : at + 1;
    bands.push({ series: [high, low], fill: faded(colour(line), 0.2) });
  });
  if (plotted.crest) {
    const crest = series.push({ ...curve(style.getPropertyValue("--text-quiet"), 1), dash: [2, 2] }) - 1;
    bands.push({ series: [crest, plotted.lines.length], fill: faded(style.getPropertyValue("--series-1"), 0.1) });
  }
  return { ...size, series, bands, scales: scales(scene), axes: axes(scene, style) };
}

function curve(stroke: string, width: number, fill?: string): uPlot.Series {
  return {
    stroke,
    width,
    ...(fill && { fill }),
    spanGaps: false,
    // A sample between two gaps has no line: it is shown as a point.
    points: { show: width !== 0, size: 4, fill: stroke, filter: (plot, at) => lonely(plot.data[at] as Values) },
  };
}

function lonely(values: Values): number[] {
  const gap = (at: number): boolean => values[at] === null || values[at] === undefined;
  return values.flatMap((_, at) => (!gap(at) && gap(at - 1) && gap(at + 1) ? [at] : []));
}

function scales(scene: () => Scene): uPlot.Scales {
  return {
    x: { time: true, range: () => [scene().start, scene().end] },
    y: { range: () => [scene().axis.bottom, scene().axis.top] },
  };
}

function axes(scene: () => Scene, style: CSSStyleDeclaration): uPlot.Axis[] {
  const common = {
    stroke: style.getPropertyValue("--text-quiet"),
    font: FONT,
    grid: { stroke: style.getPropertyValue("--line"), width: 1 },
    ticks: { show: false },
  };
  const scale = (): { divisor: number; suffix: string } => scaleOf(scene().panel.unit, scene().axis.top);
  return [
    {
      ...common,
      size: 24,
      gap: 4,
      space: 64,
      grid: { show: false },
      values: (_, splits, _axis, _space, step) => splits.map((at) => words.axis(at * 1000, step)),
    },
    {
      ...common,
      size: GUTTER,
      gap: 6,
      splits: () => {
        const { bottom, top } = scene().axis;
        const above = ticks(top, scale(), 4);
        return bottom < 0
          ? [
              ...ticks(-bottom, scale(), 2)
                .map((at) => -at)
                .reverse(),
              ...above.slice(1),
            ]
          : above;
      },
      values: (_, splits) => splits.map((at) => trimmed(digits(at / scale().divisor))),
    },
  ];
}

/** Draws what lies over the curves: the limit or threshold, events, and the pinned moment. */
export function drawMarks(plot: uPlot, scene: Scene, style: CSSStyleDeclaration): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top - 6 * ratio, bbox.width, bbox.height + 6 * ratio);
  ctx.clip();
  if (scene.axis.mark !== undefined) {
    const y = plot.valToPos(scene.axis.mark, "y", true);
    stroke(ctx, style.getPropertyValue("--bad"), [5 * ratio, 4 * ratio], [bbox.left, y, bbox.left + bbox.width, y]);
  }
  // Trouble is drawn last, over what else happened then.
  for (const event of [...scene.events].sort((left, right) => +isTrouble(left) - +isTrouble(right))) {
    const x = plot.valToPos(event.at_ms / 1000, "x", true);
    const colour = style.getPropertyValue(isTrouble(event) ? "--bad" : "--text-quiet");
    stroke(ctx, colour, [1 * ratio, 3 * ratio], [x, bbox.top, x, bbox.top + bbox.height]);
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.moveTo(x - 4 * ratio, bbox.top - 5 * ratio);
    ctx.lineTo(x + 4 * ratio, bbox.top - 5 * ratio);
    ctx.lineTo(x, bbox.top + 2 * ratio);
    ctx.fill();
  }
  if (scene.pinnedMs !== undefined) {
    const x = plot.valToPos(scene.pinnedMs / 1000, "x", true);
    stroke(ctx, style.getPropertyValue("--accent"), [], [x, bbox.top, x, bbox.top + bbox.height]);
  }
  ctx.restore();
}

export function isTrouble(event: HostEvent): boolean {
  return TROUBLE.test(event.kind);
}

function stroke(
  ctx: CanvasRenderingContext2D,
  colour: string,
  dash: number[],
  line: [number, number, number, number],
): void {
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(line[0], line[1]);
  ctx.lineTo(line[2], line[3]);
  ctx.stroke();
  ctx.setLineDash([]);
}

/** A colour of the tokens (`#rrggbb`) with an alpha. */
function faded(colour: string, alpha: number): string {
  const part = Math.round(alpha * 255).toString(16);
  return colour.trim() + part.padStart(2, "0");
}

function trimmed(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
