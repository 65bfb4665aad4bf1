//! The address bar is the page's state: which screen, which range, which filter. This module is its only writer.

import { type Range, fixed, parseRange, type Span } from "./range";

export type Screen = { name: "hosts" } | { name: "host"; id: number } | { name: "alerts" } | { name: "unknown" };

class Address {
  #path = $state(location.pathname);
  #search = $state(location.search);

  readonly parameters = $derived(new URLSearchParams(this.#search));
  readonly screen = $derived(screenOf(this.#path));
  readonly range = $derived(parseRange(this.parameters));

  /** A link to another screen: the range goes along, what belongs to this screen does not. */
  link(path: string): string {
    const kept = new URLSearchParams();
    for (const key of ["from", "to"]) {
      const value = this.parameters.get(key);
      if (value !== null) kept.set(key, value);
    }
    return kept.size === 0 ? path : `${path}?${kept}`;
  }

  go(href: string): void {
    history.pushState(null, "", href);
    this.#read();
    scrollTo(0, 0);
  }

  setRange(range: Range): void {
    this.#write(range as unknown as Record<string, string>, "push");
  }

  zoom(span: Span): void {
    this.setRange(fixed(span));
  }

  /** Sets or, with an empty value, removes one parameter without a new entry in the history. */
  set(key: string, value: string): void {
    this.#write({ [key]: value }, "replace");
  }

  /** Follows the browser's back and forward, and takes clicks on links inside the page. Returns what ends it. */
  follow(): () => void {
    const read = (): void => this.#read();
    const click = (event: MouseEvent): void => this.#click(event);
    addEventListener("popstate", read);
    document.addEventListener("click", click);
    return () => {
      removeEventListener("popstate", read);
      document.removeEventListener("click", click);
    };
  }

  #write(values: Record<string, string>, how: "push" | "replace"): void {
    const next = new URLSearchParams(this.#search);
    for (const [key, value] of Object.entries(values)) {
      if (value === "") next.delete(key);
      else next.set(key, value);
    }
    const href = next.size === 0 ? this.#path : `${this.#path}?${next}`;
    if (how === "push") history.pushState(null, "", href);
    else history.replaceState(null, "", href);
    this.#read();
  }

  #read(): void {
    this.#path = location.pathname;
    this.#search = location.search;
  }

  #click(event: MouseEvent): void {
    const link = (event.target as Element).closest("a");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || link.target || link.origin !== location.origin || event.defaultPrevented) return;
    if (screenOf(link.pathname).name === "unknown" || link.hash) return;
    event.preventDefault();
    this.go(link.href);
  }
}

function screenOf(path: string): Screen {
  if (path === "/" || path === "/hosts") return { name: "hosts" };
  if (path === "/alerts") return { name: "alerts" };
  const host = /^\/hosts\/(\d+)$/.exec(path);
  return host ? { name: "host", id: Number(host[1]) } : { name: "unknown" };
}

export const address = new Address();
