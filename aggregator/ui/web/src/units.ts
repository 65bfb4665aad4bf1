//! Quantities as a person reads them: at most three significant digits, the unit that keeps the number small.

export type Unit = "bytes" | "disk_bytes" | "bytes_per_second" | "ratio" | "cores" | "per_second" | "celsius" | "none";

/** What a quantity is divided by, and what is written behind it. */
export interface Scale {
  divisor: number;
  suffix: string;
}

const LADDERS: Partial<Record<Unit, { base: number; suffixes: string[] }>> = {
  bytes: { base: 1024, suffixes: ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] },
  disk_bytes: { base: 1000, suffixes: ["B", "kB", "MB", "GB", "TB", "PB"] },
  bytes_per_second: { base: 1000, suffixes: ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"] },
  none: { base: 1000, suffixes: ["", "k", "M", "G", "T"] },
  per_second: { base: 1000, suffixes: ["/s", "k/s", "M/s", "G/s"] },
};
const PLAIN: Partial<Record<Unit, Scale>> = {
  ratio: { divisor: 0.01, suffix: "%" },
  cores: { divisor: 1, suffix: "" },
  celsius: { divisor: 1, suffix: "°C" },
};

/** The scale in which `largest` has one to three digits before the point. */
export function scaleOf(unit: Unit, largest: number): Scale {
  const ladder = LADDERS[unit];
  if (!ladder) return PLAIN[unit] ?? { divisor: 1, suffix: "" };
  let rung = 0;
  // 999.5 would be written as a thousand.
  while (rung + 1 < ladder.suffixes.length && 999.5 <= Math.abs(largest) / ladder.base ** rung) rung += 1;
  return { divisor: ladder.base ** rung, suffix: ladder.suffixes[rung] ?? "" };
}

/** A number and its unit; a missing one is a dash of the same meaning everywhere. */
export function quantity(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const scale = scaleOf(unit, value);
  const text = digits(value / scale.divisor);
  return scale.suffix === "" || scale.suffix === "%" ? text + scale.suffix : `${text} ${scale.suffix}`;
}

/** At most three significant digits, never an exponent. */
export function digits(value: number): string {
  const size = Math.abs(value);
  if (size < 0.0005) return "0";
  if (size < 0.0995) return value.toFixed(3);
  if (99.95 <= size) return value.toFixed(0);
  return value.toFixed(9.995 <= size ? 1 : 2);
}

/** A text that a program made, its fractions as short as a person reads them: `0.01364887` becomes `0.0136`. */
export function readable(text: string): string {
  return text.replace(/(?<![\w.:/-])-?\d+\.\d{4,}(?![\w.:/-]*\w)/g, (fraction) => {
    const whole = Math.trunc(Math.abs(Number(fraction)));
    return String(Number(Number(fraction).toPrecision(Math.max(3, String(whole).length))));
  });
}

/** A percentage without a fraction once it matters little: `0.4%`, `37%`. */
export function percent(ratio: number | null | undefined): string {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return "–";
  const value = ratio * 100;
  return value !== 0 && value < 9.95 ? `${value.toFixed(1)}%` : `${value.toFixed(0)}%`;
}

/** Round numbers from zero to at least `largest`, in steps of 1, 2 or 5 of the scale's unit. */
export function ticks(largest: number, scale: Scale, count: number): number[] {
  const raw = largest / scale.divisor / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => raw <= candidate) ?? 10 * power;
  const found: number[] = [];
  for (let at = 0; at * step * scale.divisor <= largest * 1.000001; at += 1) found.push(at * step * scale.divisor);
  return found;
}
