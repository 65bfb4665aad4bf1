//! Takes an alert's expression apart for its chart: what is measured, and the threshold it is held against.

import type { Labels } from "../api/shapes";

export interface Measured {
  expr: string;
  threshold?: number;
}

const COMPARISON = /^([\s\S]*\S)\s*(?:>=|<=|==|!=|>|<)\s*(?:bool\s+)?(-?[\d.]+(?:e[+-]?\d+)?)\s*$/i;

/** `a / b > 0.9` measures `a / b` against 0.9; an expression of another form is charted whole. */
export function measuredOf(expr: string): Measured {
  const match = COMPARISON.exec(expr.trim());
  const left = match?.[1];
  if (!match || left === undefined || !isWhole(left)) return { expr };
  return { expr: left, threshold: Number(match[2]) };
}

/** Whether a series of the expression is the one this alert is about: the rule may have added labels, not changed them. */
export function isSeriesOf(series: Labels, alert: Labels): boolean {
  return Object.entries(series).every(([name, value]) => name === "__name__" || alert[name] === value);
}

/** Parentheses close, and no set operator or comparison at the outer level binds looser than the cut. */
function isWhole(text: string): boolean {
  let depth = 0;
  let outer = "";
  for (const character of text.replace(/"(?:\\.|[^"\\])*"|'[^']*'/g, "")) {
    if ("([{".includes(character)) depth += 1;
    else if (")]}".includes(character)) depth -= 1;
    else if (depth === 0) outer += character;
    if (depth < 0) return false;
  }
  return depth === 0 && !/[<>]|==|!=|\b(and|or|unless)\b/.test(outer);
}
