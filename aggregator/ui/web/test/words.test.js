import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SOURCES = new URL("../src/", import.meta.url);

/** @param {string} language @returns {Promise<Record<string, string>>} */
async function dictionary(language) {
  return JSON.parse(await readFile(new URL(`words/${language}.json`, SOURCES), "utf8"));
}

/** @param {string} text */
const placeholders = (text) => [...text.matchAll(/\{\w+\}/g)].map(([name]) => name).sort();

test("both languages say the same things with the same values", async () => {
  const [en, zh] = await Promise.all([dictionary("en"), dictionary("zh")]);
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  for (const [word, text] of Object.entries(en)) {
    assert.deepEqual(placeholders(zh[word] ?? ""), placeholders(text), word);
  }
});

test("every word of the dictionaries is said somewhere", async () => {
  const files = (await readdir(SOURCES, { recursive: true })).filter((file) => /\.(ts|svelte)$/.test(file));
  const sources = await Promise.all(files.map((file) => readFile(new URL(file, SOURCES), "utf8")));
  const all = sources.join("\n");
  const built = [...all.matchAll(/`([a-z]+\.)\$\{/g)].map(([, start]) => String(start));
  const words = Object.keys(await dictionary("en"));
  const unsaid = words.filter((word) => !all.includes(`"${word}"`) && !built.some((start) => word.startsWith(start)));
  assert.deepEqual(unsaid, [], fileURLToPath(SOURCES));
});
