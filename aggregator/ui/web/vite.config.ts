import { gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** What a person downloads before the page works, in bytes of gzip. The browser test holds it too. */
const SCRIPT_GZIP_BYTES_MAX = 75 * 1000;

/** Prints the size of all scripts after the build and fails it above the budget. */
function budget(): Plugin {
  return {
    name: "budget",
    writeBundle(_, bundle) {
      const scripts = Object.values(bundle).filter((file) => file.type === "chunk");
      const bytes = scripts.reduce((sum, chunk) => sum + gzipSync(chunk.code, { level: 9 }).length, 0);
      this.info(`JavaScript: ${(bytes / 1000).toFixed(1)} kB gzip of ${SCRIPT_GZIP_BYTES_MAX / 1000} kB`);
      if (bytes > SCRIPT_GZIP_BYTES_MAX) this.error("the page is above its budget");
    },
  };
}

export default defineConfig({
  plugins: [svelte({ compilerOptions: { runes: true } }), budget()],
  build: {
    outDir: "dist/page",
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:4640", "/prometheus": "http://127.0.0.1:4640" } },
});
