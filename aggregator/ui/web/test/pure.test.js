import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

/** @param {string} path */
const load = async (path) =>
  (
    await runnerImport(fileURLToPath(new URL(`../src/${path}`, import.meta.url)), {
      configFile: false,
      logLevel: "error",
    })
  ).module;

/** @type {any} */ const units = await load("units.ts");
/** @type {any} */ const range = await load("range.ts");
/** @type {any} */ const list = await load("hosts/list.ts");
/** @type {any} */ const expression = await load("alerts/expression.ts");
/** @type {any} */ const axis = await load("chart/axis.ts");

test("quantities have three significant digits and the unit that fits", () => {
  const check = (/** @type {number | null} */ value, /** @type {string} */ unit, /** @type {string} */ text) =>
    assert.equal(units.quantity(value, unit), text);
  check(0, "bytes", "0 B");
  check(1023, "bytes", "1.00 KiB");
  check(8 * 1024 ** 3, "bytes", "8.00 GiB");
  check(8 * 1024 ** 3, "disk_bytes", "8.59 GB");
  check(999_499, "bytes_per_second", "999 kB/s");
  check(999_500, "bytes_per_second", "1.00 MB/s");
  check(1.3, "cores", "1.30");
  check(0.034, "cores", "0.034");
  check(null, "cores", "–");
  check(Number.NaN, "ratio", "–");
});

test("fractions in texts are as short as a person reads them; what only looks like one stays", () => {
  const check = (/** @type {string} */ text, /** @type {string} */ expect) =>
    assert.equal(units.readable(text), expect);
  check("is at 0.013648875000000001 of its cores", "is at 0.0136 of its cores");
  check("1234.567891, then -0.66666666%", "1235, then -0.667%");
  check("2.5 and 0.125", "2.5 and 0.125");
  check(
    "version 1.20261121.3, v1.23456, 10.0.12345.7, 1.23456/2",
    "version 1.20261121.3, v1.23456, 10.0.12345.7, 1.23456/2",
  );
});

test("a live range of a host that joined in its later half begins when it joined", () => {
  const check = (
    /** @type {[string, string]} */ [from, to],
    /** @type {number} */ agoMs,
    /** @type {number} */ startAgoMs,
  ) => {
    const nowMs = 1_800_000_000_000;
    const span = range.spanSince({ from, to }, nowMs, nowMs - agoMs);
    assert.equal(nowMs - span.startMs, startAgoMs);
  };
  const minute = 60_000;
  check(["now-1h", "now"], 12 * minute, 12 * minute);
  check(["now-1h", "now"], 31 * minute, 60 * minute);
  check(["now-1h", "now"], 1 * minute, 5 * minute);
  check(["now-15m", "now"], 1 * minute, 5 * minute);
  check(["now-5m", "now"], 1 * minute, 5 * minute);
  check(["1799999000000", "1800000000000"], 1 * minute, 1_000_000);
});

test("a range is read from the address, and what cannot be read is the last hour", () => {
  const check = (/** @type {string} */ search, /** @type {[string, string]} */ [from, to]) =>
    assert.deepEqual(range.parseRange(new URLSearchParams(search)), { from, to });
  check("", ["now-1h", "now"]);
  check("from=now-15m&to=now", ["now-15m", "now"]);
  check("from=1700000000000&to=1700000600000", ["1700000000000", "1700000600000"]);
  check("from=1700000600000&to=1700000000000", ["now-1h", "now"]);
  check("from=yesterday&to=now", ["now-1h", "now"]);
});

test("the grid lies on multiples of its step and ends before what is still on its way", () => {
  const check = (
    /** @type {[number, number, number]} */ [startMs, endMs, nowMs],
    /** @type {number[]} */ [start, end, step],
  ) => assert.deepEqual(range.gridOf({ startMs, endMs }, nowMs), { start, end, step });
  check([1_000_003_000, 1_003_603_000, 1_003_603_000], [1_000_010, 1_003_600, 10]);
  check([1_000_003_000, 1_003_601_000, 1_003_601_000], [1_000_010, 1_003_590, 10]);
  check([1_000_000_000, 1_086_400_000, 1_186_400_000], [1_000_200, 1_086_300, 300]);
});

test("hosts: trouble first, a missing figure last in either order, every word must match", () => {
  const host = (
    /** @type {string} */ instance,
    /** @type {string} */ state,
    /** @type {number | null} */ cpu_ratio,
    alerts_firing = 0,
  ) => ({
    instance,
    state,
    cpu_ratio,
    alerts_firing,
    labels: { env: instance.startsWith("web") ? "prod" : "build" },
    os: "Debian",
    address: null,
    agent_version: null,
  });
  const hosts = [
    host("web-10", "up", 0.2),
    host("web-2", "up", 0.9, 1),
    host("ci-1", "silent", null),
    host("web-1", "up", 0.4),
  ];
  const order = (/** @type {string} */ sort) =>
    list.sorted(hosts, list.parseSort(sort)).map((/** @type {any} */ one) => one.instance);
  assert.deepEqual(order(""), ["ci-1", "web-2", "web-1", "web-10"]);
  assert.deepEqual(order("-cpu"), ["web-2", "web-1", "web-10", "ci-1"]);
  assert.deepEqual(order("cpu"), ["web-10", "web-1", "web-2", "ci-1"]);
  const found = (/** @type {string} */ text) =>
    list.filtered(hosts, text).map((/** @type {any} */ one) => one.instance);
  assert.deepEqual(found("env=prod 10"), ["web-10"]);
  assert.deepEqual(found("silent"), ["ci-1"]);
  assert.deepEqual(found("env=x"), []);
});

test("an alert's expression is cut at its own comparison only", () => {
  const check = (/** @type {string} */ expr, /** @type {object} */ measured) =>
    assert.deepEqual(expression.measuredOf(expr), measured);
  check("node_load1 > 4", { expr: "node_load1", threshold: 4 });
  check('rate(x{a=">"}[5m]) >= 1e-3', { expr: 'rate(x{a=">"}[5m])', threshold: 0.001 });
  check("a > 1 and b > 2", { expr: "a > 1 and b > 2" });
  check("(a or b) < -0.5", { expr: "(a or b)", threshold: -0.5 });
  check("sum(a > 1)", { expr: "sum(a > 1)" });
  check("absent(up)", { expr: "absent(up)" });
});

test("a stack keeps its gaps, and the axis shows a limit only when it is near", () => {
  assert.deepEqual(
    axis.stack([
      [1, null, null],
      [2, 3, null],
    ]),
    [
      [1, null, null],
      [3, 3, null],
    ],
  );
  const plotted = (/** @type {number} */ value) => ({ times: [0], lines: [{ values: [value] }] });
  assert.equal(axis.axisOf({ limit: 10 }, plotted(5)).mark, undefined);
  assert.equal(axis.axisOf({ limit: 10 }, plotted(7)).mark, 10);
  assert.equal(axis.axisOf({ threshold: 10 }, plotted(1)).mark, 10);
  assert.equal(axis.axisOf({}, plotted(7)).bottom, 0);
});
