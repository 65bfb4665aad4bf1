//! The built page in a real browser, as a person uses it: against the stand-in, and against a running aggregator when
//! LAPWING_URL and LAPWING_LINK name one.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { serve } from "./mock.js";

const SCRIPT_GZIP_BYTES_MAX = 60_000;
/** A busy machine is slow; a page that is broken never answers. */
const WAIT_MS_MAX = 20_000;
const CHROMIUM = process.env.LAPWING_CHROMIUM ?? "/usr/bin/chromium";
const SCREENS = { hosts: "/", host: "/hosts/3", alerts: "/alerts" };
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @typedef {import("playwright-core").Page} Page */

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {Awaited<ReturnType<typeof serve>>} */ let mock;

before(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  mock = await serve();
});

after(async () => {
  await browser?.close();
  await mock?.close();
});

/**
 * Opens a path in a fresh context, runs the steps, and fails on anything that the page said to the console.
 * @param {string} path @param {(page: Page) => Promise<void>} steps
 * @param {import("playwright-core").BrowserContextOptions & { url?: string, expected?: RegExp }} [options]
 */
async function visit(path, steps, { url = mock.url, expected, ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    locale: "en-GB",
    reducedMotion: "reduce",
    ...options,
  });
  context.setDefaultTimeout(WAIT_MS_MAX);
  const page = await context.newPage();
  /** @type {string[]} */
  const said = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto(url + path);
  await steps(page);
  await context.close();
  assert.deepEqual(
    said.filter((text) => !expected?.test(text)),
    [],
  );
}

/** Waits until a screen has drawn what it is there for. @param {Page} page @param {string} screen */
async function drawn(page, screen) {
  const wanted = { hosts: "[role=row] a", host: ".plot canvas", alerts: "article .plot canvas" }[screen] ?? "main";
  await page.locator(wanted).first().waitFor();
}

/** @param {Page} page */
const path = (page) => new URL(page.url()).pathname;

/** What axe finds, a line each. @param {Page} page @returns {Promise<string[]>} */
async function violations(page) {
  const found = await page.evaluate(async () => (await /** @type {any} */ (window).axe.run()).violations);
  return found.map((/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => node.html)}`);
}

/** @param {Page} page */
const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/**
 * Gives the page another size. What watches its own hears of that in the next frame.
 * @param {Page} page @param {import("playwright-core").ViewportSize} size
 */
async function resize(page, size) {
  await page.setViewportSize(size);
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** Waits for what happens outside the browser. @param {() => boolean} holds @param {string} what */
async function until(holds, what) {
  for (let waited = 0; !holds(); waited += 50) {
    assert.ok(waited < WAIT_MS_MAX, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Whether a query's range begins at a moment, but for the grid. @param {string} asked @param {number} ms */
function startsAt(asked, ms) {
  return Math.abs(Number(new URLSearchParams(asked.split("?")[1]).get("start")) - ms / 1000) <= 10;
}

for (const [screen, address] of Object.entries(SCREENS)) {
  test(`${screen}: small, readable by everyone in light and dark, and at home on a phone`, () =>
    visit("/nothing", async (page) => {
      /** @type {Promise<Buffer>[]} */
      const scripts = [];
      page.on("response", (response) => {
        if (new URL(response.url()).pathname.endsWith(".js")) scripts.push(response.body());
      });
      await page.goto(mock.url + address);
      await drawn(page, screen);
      const sizes = (await Promise.all(scripts)).map((body) => gzipSync(body, { level: 9 }).length);
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      assert.ok(0 < bytes && bytes <= SCRIPT_GZIP_BYTES_MAX, `${bytes} bytes of JavaScript`);

      await page.evaluate(AXE);
      for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
        await page.emulateMedia({ colorScheme });
        await page.waitForFunction((theme) => document.documentElement.dataset.theme === theme, colorScheme);
        assert.deepEqual(await violations(page), [], colorScheme);
      }

      await resize(page, { width: 360, height: 800 });
      await drawn(page, screen);
      assert.equal(await overflow(page), 0, "scrolls sideways");
      assert.deepEqual(await violations(page), [], "on a phone");
    }));
}

const HOST_SCREENS = [...Object.values(SCREENS), "/hosts/12", "/hosts/33", "/hosts/999", "/nothing", "/?q=nothing"];
for (const locale of ["en-GB", "zh-CN"]) {
  test(`a phone in ${locale} scrolls no screen sideways, and the header reaches both edges`, () =>
    visit(
      "/",
      async (page) => {
        for (const address of HOST_SCREENS) {
          await page.goto(mock.url + address);
          await page.locator("main h1, main h2").first().waitFor({ state: "attached" });
          await page.waitForLoadState("networkidle");
          assert.equal(await overflow(page), 0, `${address} scrolls sideways`);
          const edges = await page.locator("header").evaluate((header) => header.getBoundingClientRect().toJSON());
          assert.deepEqual([edges.left, edges.right], [0, 360], address);
        }
      },
      { locale, viewport: { width: 360, height: 800 }, expected: /404/ },
    ));
}

for (const { locale, button } of [
  { locale: "en-GB", button: "Sign in" },
  { locale: "zh-CN", button: "登录" },
]) {
  test(`what a person sees before the login in ${locale} is styled, readable in light and dark, and fits a phone`, async () => {
    const stranger = await serve({ anonymous: true });
    await visit(
      "/login?link=open",
      async (page) => {
        for (const address of ["/login?link=open", "/login?link=spent", "/"]) {
          await page.goto(stranger.url + address);
          await page.locator("h1").waitFor();
          await page.evaluate(AXE);
          const shades = new Set();
          for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
            await page.emulateMedia({ colorScheme });
            await page.waitForTimeout(50);
            assert.deepEqual(await violations(page), [], `${address} ${colorScheme}`);
            shades.add(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
          }
          assert.deepEqual([...shades], ["rgb(247, 247, 248)", "rgb(16, 17, 20)"], address);
          assert.equal(await overflow(page), 0, `${address} scrolls sideways`);
        }
        await page.goto(`${stranger.url}/login?link=open`);
        await page.getByRole("button", { name: button, exact: true }).waitFor();
        assert.equal(await page.getByRole("button").count(), 1);
      },
      { url: stranger.url, expected: /401|403/, locale, viewport: { width: 360, height: 800 } },
    );
    await stranger.close();
  });
}

test("hosts: trouble comes first, the filter narrows, and the order is in the address", () =>
  visit("/", async (page) => {
    await drawn(page, "hosts");
    assert.match(await page.locator("[role=row] a").first().innerText(), /db-3/);
    await page.keyboard.press("f");
    await page.keyboard.type("env=build");
    await page.getByText("6 of 40 shown").waitFor();
    assert.equal(new URL(page.url()).searchParams.get("q"), "env=build");
    await page.getByRole("columnheader", { name: "Memory" }).getByRole("button").click();
    assert.equal(new URL(page.url()).searchParams.get("sort"), "-memory");
  }));

test("hosts: five hundred rows keep only those in sight", () =>
  visit("/", async (page) => {
    await drawn(page, "hosts");
    assert.ok((await page.getByRole("row").count()) < 40);
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await page.getByRole("link", { name: "edge-6" }).waitFor();
  }));

test("dragging over one chart zooms all of them and the address keeps it", () =>
  visit("/hosts/3?from=now-1h&to=now", async (page) => {
    await drawn(page, "host");
    const box = await page.locator(".plot").first().boundingBox();
    assert.ok(box);
    mock.asked.length = 0;
    await page.mouse.move(box.x + box.width * 0.4, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + 60, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL(/from=\d{13}&to=\d{13}/);
    const [from, to] = ["from", "to"].map((key) => Number(new URL(page.url()).searchParams.get(key)));
    assert.ok(Number(to) - Number(from) < 30 * 60_000);
    for (const subject of ["node_cpu", "node_load1", "MemAvailable", "node_disk_read", "node_network_receive"]) {
      await until(() => mock.asked.some((one) => one.includes(subject) && startsAt(one, Number(from))), subject);
    }
    await page.keyboard.press("l");
    await page.waitForURL(/to=now/);
  }));

test("the process table shows the moment under the cursor, and a click keeps it", () =>
  visit("/hosts/3", async (page) => {
    await drawn(page, "host");
    const box = await page.locator(".plot").first().boundingBox();
    assert.ok(box);
    await page.mouse.move(box.x + box.width / 2, box.y + 60);
    await page.mouse.click(box.x + box.width / 2, box.y + 60);
    await page.getByRole("button", { name: "Back to now" }).waitFor();
    await page.waitForFunction(() => document.querySelector("#processes .when b"));
    await until(() => mock.asked.some((one) => /processes\?at=\d{13}/.test(one)), "the table of that moment");
  }));

test("a chart is a table too, and its cursor moves by keys", () =>
  visit("/hosts/3", async (page) => {
    await drawn(page, "host");
    const chart = page.locator("[data-chart=cpu]");
    await chart.locator(".plot").focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowLeft");
    assert.match((await chart.locator(".plot").getAttribute("aria-valuetext")) ?? "", /user \d/);
    await chart.getByRole("button", { name: "Show CPU as a table" }).click();
    assert.ok((await chart.getByRole("row").count()) > 100);
  }));

test("an image that is not known is a dash, and its runtime is one look away", () =>
  visit("/hosts/3", async (page) => {
    const image = page.locator("tr", { hasText: "migrate" }).locator("td").first();
    await image.waitFor();
    assert.deepEqual([await image.innerText(), await image.getAttribute("title")], ["–", "docker"]);
  }));

test("as many alerts fire in the header as on the screen of alerts, held ones among them", () =>
  visit("/alerts", async (page) => {
    await drawn(page, "alerts");
    const header = await page.getByRole("link", { name: /^Alerts/ }).innerText();
    const totals = await page.locator(".totals > div").allInnerTexts();
    const cards = page.getByRole("region", { name: /^Firing/ }).getByRole("article");
    assert.deepEqual(
      totals.map((total) => total.split(/\s+/).join(" ")),
      ["5 Firing 1 of them held", "1 Pending"],
    );
    assert.deepEqual([header.replace(/\D/g, ""), await cards.count()], ["5", 5]);
    await cards.filter({ hasText: "HostHighLoad" }).getByText("Firing, held").waitFor();
  }));

test("why somebody was told is said in the person's language, and a reason that is not known in English", () =>
  visit(
    "/alerts",
    async (page) => {
      await page.getByRole("article").first().waitFor();
      const card = page.getByRole("article").filter({ hasText: "HostHighCpu" });
      for (const place of [card.locator(".told"), page.getByRole("table").last()]) {
        const said = await place.innerText();
        assert.match(said, /有新告警/);
        assert.match(said, /全部已恢复，但 send_resolved 已关闭/);
        assert.doesNotMatch(said, /new alerts|all resolved/i);
      }
      await page.getByRole("table").last().getByText("the moon is full").waitFor();
    },
    { locale: "zh-CN" },
  ));

test("an alert that two rules raise is there twice", () =>
  visit("/", async (page) => {
    await page.route("**/api/v1/alerts", async (route) => {
      const { alerts } = await (await route.fetch()).json();
      await route.fulfill({
        json: { alerts: [...alerts, { ...alerts[1], expr: "up == 0", file: "rules/other.yml" }] },
      });
    });
    await page.goto(`${mock.url}/alerts`);
    const cards = page.getByRole("article", { name: "DiskAlmostFull" });
    await cards.filter({ hasText: "up == 0" }).waitFor();
    assert.equal(await cards.count(), 2);
  }));

test("the link in a notification leads to its alert's card", () =>
  visit("/alerts?alert=HostHighLoaddb-3", async (page) => {
    const sought = page.locator("article.sought");
    await sought.locator(".plot canvas").waitFor();
    assert.match(await sought.innerText(), /HostHighLoad/);
    assert.equal(await sought.count(), 1);
    const [box, height] = [await sought.boundingBox(), await page.evaluate(() => innerHeight)];
    assert.ok(box && box.y >= 0 && box.y + box.height <= height, JSON.stringify(box));
  }));

test("a broken alertmanager.yml is said before everything else", async () => {
  const misrouted = await serve({ misrouted: true });
  const steps = async (/** @type {Page} */ page) => {
    const said = page.getByRole("alert").first();
    await said.getByText("alertmanager.yml").waitFor();
    await said.getByText(/line 9: unknown field/).waitFor();
    const [above, below] = [await said.boundingBox(), await page.locator("article").first().boundingBox()];
    assert.ok(above && below && above.y < below.y);
  };
  await visit("/alerts", steps, { url: misrouted.url });
  await misrouted.close();
});

test("a container's charts open in place", () =>
  visit("/hosts/3", async (page) => {
    await drawn(page, "host");
    await page.getByRole("button", { name: "shop-web", exact: true }).click();
    await page.locator("[data-chart=container-memory] canvas").waitFor();
    assert.equal(new URL(page.url()).searchParams.get("container"), "shop-web");
  }));

test("keys lead everywhere, and the range goes along", () =>
  visit("/?from=now-3h&to=now", async (page) => {
    await drawn(page, "hosts");
    await page.keyboard.press("g");
    await page.keyboard.press("a");
    await drawn(page, "alerts");
    assert.equal(path(page), "/alerts");
    assert.equal(new URL(page.url()).searchParams.get("from"), "now-3h");
    await page.keyboard.press("?");
    await page.getByRole("dialog").getByText("Show these keys").waitFor();
    await page.keyboard.press("Escape");
    // Keys are for the dialog as long as it is there.
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.keyboard.press("/");
    await page.getByRole("combobox").fill("redis");
    await page
      .getByRole("option", { name: /redis.*Container/ })
      .first()
      .waitFor();
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/hosts\/\d+\?.*container=redis/);
    await page.keyboard.press("g");
    await page.keyboard.press("h");
    await drawn(page, "hosts");
  }));

test("a key is the page's as soon as the dialog is closed, which has the focus until the next frame", () =>
  visit("/", async (page) => {
    await drawn(page, "hosts");
    await page.keyboard.press("?");
    await page.getByRole("dialog").getByText("Show these keys").waitFor();
    await page.getByRole("dialog").evaluate((/** @type {HTMLDialogElement} */ dialog) => {
      dialog.close();
      dialog.querySelector("button")?.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
    });
    await page.getByRole("combobox").waitFor();
  }));

test("Chinese by the browser, English by choice, and the choice is kept", () =>
  visit(
    "/",
    async (page) => {
      await page.getByRole("link", { name: "主机" }).waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
      await page.getByRole("button", { name: "设置" }).click();
      await page.getByRole("button", { name: "English" }).click();
      await page.getByRole("button", { name: "Dark" }).click();
      await page.reload();
      await page.getByRole("link", { name: "Hosts" }).waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    },
    { locale: "zh-CN" },
  ));

test("new windows arrive by themselves", () =>
  visit("/", async (page) => {
    await drawn(page, "hosts");
    await page.waitForTimeout(1_000);
    mock.asked.length = 0;
    mock.tell();
    await page.waitForResponse((response) => response.url().endsWith("/api/v1/hosts"));
  }));

test("without a login the page says how to get one", async () => {
  const stranger = await serve({ anonymous: true });
  const steps = async (/** @type {Page} */ page) => {
    await page.getByText("lapwing-aggregator user link").waitFor();
    await page.getByText("--data-dir or --config").waitFor();
    assert.equal(await page.getByText("Live").count(), 0, "nothing is live for a stranger");
    assert.ok(!stranger.asked.includes("/api/v1/events"), "a stream that is refused");
    stranger.mood.anonymous = false;
    // By the button or by itself: whoever opened the link in another tab need not come back to ask.
    await drawn(page, "hosts");
    await until(() => stranger.asked.includes("/api/v1/events"), "the stream after the login");
  };
  await visit("/", steps, { url: stranger.url, expected: /401/ });
  await stranger.close();
});

test("without a host the page has the line to paste", async () => {
  const young = await serve({ empty: true });
  await visit("/", (page) => page.getByText("lapwing-agent run --join").waitFor(), { url: young.url });
  await young.close();
});

test("an aggregator that goes away leaves the data and a bar", async () => {
  const leaving = await serve();
  await visit(
    "/",
    async (page) => {
      await drawn(page, "hosts");
      await leaving.close();
      await page.getByText("The aggregator does not answer").waitFor();
      await page.getByRole("button", { name: "Offline" }).waitFor();
      assert.ok((await page.getByRole("row").count()) > 5);
    },
    { url: leaving.url, expected: /ERR_|Failed to load/ },
  );
});

test("a host that has just joined is shown from then on, and the range says so", () =>
  visit("/", async (page) => {
    mock.asked.length = 0;
    await page.goto(`${mock.url}/hosts/12`);
    await drawn(page, "host");
    await page.getByRole("button", { name: /^Last 1 h · since \d\d:\d\d/ }).waitFor();
    const asked = mock.asked.filter((one) => one.includes("query_range") && one.includes("web-12"));
    assert.ok(asked.length > 0 && asked.every((one) => startsAt(one, Date.now() - 12 * 60_000)), asked[0]);
    await page.getByRole("link", { name: "Alerts" }).click();
    await page.getByRole("button", { name: /^Last 1 h$/ }).waitFor();
  }));

test("an alert's summary is written for a person", () =>
  visit("/alerts", (page) => page.getByText("is at 0.871 of its cores").waitFor()));

test("a host that is not there and a range without data say so", async () => {
  await visit("/hosts/999", (page) => page.getByText("There is no such host").waitFor(), { expected: /404/ });
  await visit("/hosts/3?from=1600000000000&to=1600003600000", (page) =>
    page.getByText("No data in this range").first().waitFor(),
  );
});

const { LAPWING_URL, LAPWING_LINK } = process.env;

test("the real aggregator fills every screen", { skip: !LAPWING_URL || !LAPWING_LINK }, async () => {
  const login = new URL(String(LAPWING_LINK), LAPWING_URL);
  await visit(
    login.pathname + login.search,
    async (page) => {
      await page.getByRole("button").first().click();
      for (const [screen, address] of Object.entries({ hosts: "/", host: "/hosts/1" })) {
        await page.goto(LAPWING_URL + address);
        await drawn(page, screen);
      }
      await page.goto(`${LAPWING_URL}/alerts`);
      await page.getByRole("heading", { name: "Notifications" }).waitFor();
    },
    { url: String(LAPWING_URL) },
  );
});
