//! Light or dark: the system's choice until the person makes one.

import { recall, remember } from "./memory";

export type Theme = "system" | "light" | "dark";

class Appearance {
  theme = $state<Theme>(read());
  readonly #systemDark = matchMedia("(prefers-color-scheme: dark)");
  #system = $state(this.#systemDark.matches);
  /** What is shown. Charts follow it: a canvas does not know CSS. */
  readonly dark = $derived(this.theme === "dark" || (this.theme === "system" && this.#system));

  constructor() {
    this.#systemDark.addEventListener("change", (event) => (this.#system = event.matches));
  }

  choose(theme: Theme): void {
    this.theme = theme;
    remember("theme", theme);
  }
}

export const appearance = new Appearance();

function read(): Theme {
  const kept = recall("theme");
  return kept === "light" || kept === "dark" ? kept : "system";
}
