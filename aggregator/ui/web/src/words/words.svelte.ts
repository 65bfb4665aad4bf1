//! The person's language: chosen by the browser, changed by hand, kept. And times as that language writes them.

import { recall, remember } from "../memory";
import type en from "./en.json";
import enUrl from "./en.json?url";
import zhUrl from "./zh.json?url";

export type Language = "en" | "zh";
export type Word = keyof typeof en;

type Dictionary = Record<Word, string>;

/** A person downloads the language that is shown, as data. A test holds both to the same keys. */
const DICTIONARIES: Record<Language, string> = { en: enUrl, zh: zhUrl };
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

class Words {
  language = $state<Language>("en");
  #dictionary = $state.raw<Partial<Dictionary>>({});

  readonly #locale = $derived(this.language === "zh" ? "zh-CN" : "en-GB");
  readonly #clock = $derived(format(this.#locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" }));
  readonly #short = $derived(format(this.#locale, { hour: "2-digit", minute: "2-digit" }));
  readonly #day = $derived(format(this.#locale, { day: "numeric", month: "short" }));
  readonly #full = $derived(
    format(this.#locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  );
  readonly zone = $derived(zoneName(this.#locale));

  /** Loads the language kept or the browser's. Before this nothing can be said. */
  async begin(): Promise<void> {
    const kept = recall("language");
    await this.#show(kept === "en" || kept === "zh" ? kept : fromBrowser());
  }

  async choose(language: Language): Promise<void> {
    remember("language", language);
    await this.#show(language);
  }

  async #show(language: Language): Promise<void> {
    this.#dictionary = (await (await fetch(DICTIONARIES[language])).json()) as Dictionary;
    this.language = language;
  }

  say(word: Word, values: Record<string, string | number> = {}): string {
    const text = this.#dictionary[word] ?? word;
    return text.replace(/\{(\w+)\}/g, (whole, key: string) => String(values[key] ?? whole));
  }

  /** What an aggregator calls by a name: one that is newer than this page may have names that it does not know. */
  named(word: string, otherwise: string): string {
    return word in this.#dictionary ? this.say(word as Word) : otherwise;
  }

  /** A moment: the clock alone when it is of the last day, else with its date. */
  moment(ms: number, nowMs: number = Date.now()): string {
    return Math.abs(nowMs - ms) < DAY / 2 ? this.#clock.format(ms) : this.#full.format(ms);
  }

  /** A moment to the minute where its day is plain. */
  brief(ms: number, nowMs: number): string {
    return nowMs - ms < DAY / 2 ? this.#short.format(ms) : this.#full.format(ms);
  }

  /** A label of a time axis whose labels are `stepSeconds` apart. */
  axis(ms: number, stepSeconds: number): string {
    if (DAY <= stepSeconds * SECOND) return this.#day.format(ms);
    const date = new Date(ms);
    if (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0) return this.#day.format(ms);
    return (stepSeconds < 60 ? this.#clock : this.#short).format(ms);
  }

  /** A length of time in its two largest units: `3 d 4 h`. */
  span(ms: number): string {
    const names = this.language === "zh" ? ["天", "小时", "分钟", "秒"] : ["d", "h", "min", "s"];
    const space = this.language === "zh" ? "" : " ";
    const parts = [Math.floor(ms / DAY), Math.floor(ms / HOUR) % 24, Math.floor(ms / MINUTE) % 60];
    const seconds = Math.floor(ms / SECOND) % 60;
    const first = parts.findIndex((part) => part !== 0);
    if (first === -1) return `${seconds}${space}${names[3]}`;
    const second = parts[first + 1];
    const head = `${parts[first]}${space}${names[first]}`;
    return second ? `${head}${space}${second}${space}${names[first + 1]}` : head;
  }

  ago(ms: number, nowMs: number): string {
    const since = nowMs - ms;
    return since < 25 * SECOND ? this.say("ago.now") : this.say("ago.before", { span: this.span(coarse(since)) });
  }
}

export const words = new Words();

export function say(word: Word, values?: Record<string, string | number>): string {
  return words.say(word, values);
}

/** Ages are read, not measured: one unit is enough below two of it. */
function coarse(ms: number): number {
  for (const unit of [DAY, HOUR, MINUTE]) if (2 * unit <= ms) return Math.floor(ms / unit) * unit;
  return ms;
}

function fromBrowser(): Language {
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function format(locale: string, parts: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat(locale, { ...parts, hourCycle: "h23" });
}

/** The zone's name and its distance from UTC: `Europe/Berlin, GMT+1`. */
function zoneName(locale: string): string {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const parts = new Intl.DateTimeFormat(locale, { timeZoneName: "shortOffset" }).formatToParts();
  const offset = parts.find((part) => part.type === "timeZoneName")?.value;
  return offset && offset !== zone && zone !== "UTC" ? `${zone}, ${offset}` : zone;
}
