import { gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** What a person downloads before a screen works, in bytes of gzip. The browser test holds it too. */
const SCRIPT_GZIP_BYTES_MAX = 60_000;

/** Entries of the screens: each is downloaded with the frame, and what both import. */
const SCREENS = ["HostsScreen", "HostScreen", "AlertsScreen"];
const FRAME = "src/main.ts";

/** Prints the size of each screen's scripts after the build and fails it above the budget. */
function budget(): Plugin {
  return {
    name: "budget",
    writeBundle(_, bundle) {
      const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
      const needed = (name: string, found: Set<string>): Set<string> => {
        if (found.has(name)) return found;
        found.add(name);
        chunks.find((chunk) => chunk.fileName === name)?.imports.forEach((next) => needed(next, found));
        return found;
      };
      for (const screen of SCREENS) {
        const entries = chunks.filter((chunk) =>
          chunk.moduleIds.some((id) => [FRAME, `/${screen}.svelte`].some((end) => id.endsWith(end))),
        );
        const names = new Set(entries.flatMap((entry) => [...needed(entry.fileName, new Set())]));
        const scripts = chunks.filter((chunk) => names.has(chunk.fileName));
        const bytes = scripts.reduce((sum, chunk) => sum + gzipSync(chunk.code, { level: 9 }).length, 0);
        this.info(
          `${screen}: ${(bytes / 1000).toFixed(1)} kB gzip of JavaScript, at most ${SCRIPT_GZIP_BYTES_MAX / 1000}`,
        );
        if (SCRIPT_GZIP_BYTES_MAX < bytes) this.error(`${screen} is above the page's budget`);
      }
    },
  };
}

const UNUSED = /\(paths\.(?:bars|spline|stepped) *= \w+\);|uPlot\.join = join;/g;

/** Drops the curve shapes that no chart of ours has: uPlot names them where nothing can shake them off. */
function linesOnly(): Plugin {
  return {
    name: "lines-only",
    transform(code, id) {
      return id.includes("uPlot.esm") ? code.replace(UNUSED, "") : null;
    },
  };
}

export default defineConfig({
  plugins: [svelte({ compilerOptions: { runes: true } }), linesOnly(), budget()],
  build: {
    outDir: "dist/page",
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // Small chunks compress badly: what every screen needs is one, what charts need another.
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "chart", test: /uplot|src\/chart\/(?!panel)/ },
            {
              name: "frame",
              priority: 1,
              test: /svelte\/|src\/(api|words|shell\/(Line|Failure)|chart\/panel)|src\/\w+(\.svelte)?\.ts/,
            },
          ],
        },
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:4640", "/prometheus": "http://127.0.0.1:4640" } },
});
