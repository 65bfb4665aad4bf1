//! A stand-in for the aggregator: forty hosts with troubles of every kind, answered as the public API does.
//! Only a fixture: `npm run mock` serves it on port 4649 with the built page; the browser test starts its own.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const PLAIN = fileURLToPath(new URL("../../plain", import.meta.url));
const SOURCES = fileURLToPath(new URL("../src", import.meta.url));
const PAGE = fileURLToPath(new URL("../dist/page", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
/** The aggregator's own: what it forbids would show in the console. */
const POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const GIB = 1024 ** 3;

/**
 * @typedef {object} Mood What the stand-in plays.
 * @property {boolean} [empty] No host has joined.
 * @property {boolean} [anonymous] Nobody is logged in.
 * @property {boolean} [failing] Every question fails.
 * @property {boolean} [misrouted] `alertmanager.yml` cannot be read.
 */

/** Starts on a free port, or on the one given. @param {Mood} mood @param {number} port */
export async function serve(mood = {}, port = 0) {
  /** @type {string[]} */
  const asked = [];
  const streams = new Set();
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://mock");
    asked.push(url.pathname + url.search);
    if (url.pathname === "/api/v1/events" && !mood.anonymous) return stream(streams, response);
    const language = request.headers["accept-language"]?.startsWith("zh") ? "zh" : "en";
    answer(mood, request.method ?? "GET", url, language).then(
      ({ status, type, body }) =>
        response.writeHead(status, { "content-type": type, "content-security-policy": POLICY }).end(body),
      (failure) => response.writeHead(500).end(String(failure)),
    );
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${address.port}`,
    asked,
    mood,
    /** Says that a window was committed. */
    tell: () => streams.forEach((one) => one.write(`event: window\ndata: {"host":1,"stamp_ms":${Date.now()}}\n\n`)),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** @param {Set<import("node:http").ServerResponse>} streams @param {import("node:http").ServerResponse} response */
function stream(streams, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.write(": open\n\n");
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

/** @param {Mood} mood @param {string} method @param {URL} url @param {string} language */
async function answer(mood, method, url, language) {
  const { pathname, searchParams } = url;
  if (pathname === "/login") return login(searchParams.get("link") ?? "", language);
  if (pathname === "/plain.css") return { status: 200, type: TYPES[".css"], body: await plainStyle() };
  if (pathname === "/mark.svg")
    return { status: 200, type: TYPES[".svg"], body: await readFile(join(SOURCES, "mark.svg")) };
  if (!pathname.startsWith("/api/") && !pathname.startsWith("/prometheus/")) return file(pathname);
  if (mood.anonymous) return problem(401, "Unauthorized", "log in with a link");
  if (mood.failing) return problem(500, "Internal Server Error", "the store could not be read: disk I/O error");
  if (method === "POST" && pathname === "/api/v1/tokens") return json(token());
  if (pathname === "/api/v1/hosts") return json(mood.empty ? { hosts: [], totals: totals([]) } : fleet());
  if (pathname === "/api/v1/alerts")
    return json({ alerts: mood.empty ? [] : alerts().map(({ notifications: _, ...one }) => one) });
  if (pathname === "/api/v1/rules") return json(mood.empty ? { files: [], ignored: [] } : rules());
  if (pathname === "/api/v1/notifications") return json(told(mood));
  if (pathname === "/prometheus/api/v1/query") return json(instant(searchParams.get("query") ?? ""));
  if (pathname === "/prometheus/api/v1/query_range") return json(range(searchParams));
  const host = HOSTS.find(
    (one) =>
      pathname.startsWith(`/api/v1/hosts/${one.id}`) &&
      /^\/api\/v1\/hosts\/\d+(\/|$)/.test(pathname) &&
      pathname.split("/")[4] === String(one.id),
  );
  if (!host) return problem(404, "Not Found", "no such host");
  if (pathname.endsWith("/containers")) return json({ containers: containers(host) });
  if (pathname.endsWith("/processes")) return json(processes(host, searchParams.get("at") ?? "now"));
  if (pathname.endsWith("/events")) return json({ events: events(host, searchParams) });
  return json(figures(host));
}

/** The link `open` waits; every other is spent. @param {string} link @param {string} language */
async function login(link, language) {
  const name = `${link === "open" ? "sign-in" : "spent"}.${language}.html`;
  return { status: link === "open" ? 200 : 403, type: TYPES[".html"], body: await readFile(join(PLAIN, name)) };
}

/** As the aggregator puts it together. */
async function plainStyle() {
  const [tokens, dark, base, plain] = await Promise.all(
    [join(SOURCES, "tokens.css"), join(SOURCES, "dark.css"), join(SOURCES, "base.css"), join(PLAIN, "plain.css")].map(
      (path) => readFile(path, "utf8"),
    ),
  );
  return `${tokens}@media (prefers-color-scheme: dark) {${dark}}${base}${plain}`;
}

/** @param {string} pathname */
async function file(pathname) {
  const path = join(PAGE, normalize(pathname));
  const body = await readFile(path).catch(() => undefined);
  if (body) return { status: 200, type: TYPES[/** @type {".js"} */ (extname(path))] ?? "text/plain", body };
  return { status: 200, type: "text/html", body: await readFile(join(PAGE, "index.html")) };
}

/** @param {unknown} body */
function json(body) {
  return { status: 200, type: "application/json", body: JSON.stringify(body) };
}

/** @param {number} status @param {string} title @param {string} detail */
function problem(status, title, detail) {
  return {
    status,
    type: "application/problem+json",
    body: JSON.stringify({ type: "about:blank", title, status, detail }),
  };
}

function token() {
  return {
    token: "lw1.k3Qm",
    line: "lapwing-agent run --join lw1.k3Qm9Zr2vT0dLwXyB7uNfA --aggregator lapwing.example.net:4641",
  };
}

// ---- the fleet ----

const ROLES = [
  {
    name: "web",
    count: 12,
    cores: 4,
    memory: 8,
    os: "Debian GNU/Linux 13 (trixie)",
    kernel: "6.12.57+deb13-cloud-amd64",
    env: "prod",
    team: "shop",
  },
  {
    name: "db",
    count: 6,
    cores: 16,
    memory: 64,
    os: "Debian GNU/Linux 12",
    kernel: "6.1.0-28-amd64",
    env: "prod",
    team: "data",
  },
  {
    name: "worker",
    count: 10,
    cores: 8,
    memory: 32,
    os: "Ubuntu 24.04.1 LTS",
    kernel: "6.8.0-49-generic",
    env: "prod",
    team: "shop",
  },
  {
    name: "ci",
    count: 6,
    cores: 32,
    memory: 128,
    os: "Fedora Linux 41",
    kernel: "6.11.10-300.fc41",
    env: "build",
    team: "tools",
  },
  {
    name: "edge",
    count: 6,
    cores: 2,
    memory: 2,
    os: "Alpine Linux v3.20",
    kernel: "6.6.63-0-lts",
    env: "prod",
    team: "net",
  },
];
const STATES = new Map([
  ["db-3", { state: "silent", since: 14 * MINUTE }],
  ["edge-5", { state: "silent", since: 3 * HOUR }],
  ["ci-6", { state: "stopped", since: 9 * HOUR }],
  ["worker-9", { state: "rebooting", since: 40_000 }],
  ["edge-6", { state: "shutdown", since: 26 * HOUR }],
]);
const FIRING = new Map([
  ["web-3", 1],
  ["db-1", 2],
  ["db-3", 2],
]);

const HOSTS = ROLES.flatMap((role) =>
  Array.from({ length: role.count }, (_, at) => ({ ...role, instance: `${role.name}-${at + 1}` })),
).map((host, at) => ({
  ...host,
  id: at + 1,
  ...(STATES.get(host.instance) ?? { state: "up", since: 30 * 24 * HOUR }),
}));

/** @typedef {typeof HOSTS[number]} MockHost */

function fleet() {
  return { hosts: HOSTS.map(figures), totals: totals(HOSTS) };
}

/** @param {MockHost[]} hosts */
function totals(hosts) {
  const up = hosts.filter((host) => host.state === "up").length;
  return {
    hosts: hosts.length,
    hosts_up: up,
    alerts_firing: hosts.reduce((sum, host) => sum + (FIRING.get(host.instance) ?? 0), 0),
    containers: hosts.length ? 212 : 0,
    samples_per_second: up * 223.4,
  };
}

/** @param {MockHost} host */
function figures(host) {
  const now = Date.now();
  const up = host.state === "up";
  const cpu = load(host, now);
  const seen = up ? now - 4_000 - (host.id % 5) * 1_000 : now - host.since;
  return {
    id: host.id,
    instance: host.instance,
    labels: { instance: host.instance, env: host.env, team: host.team, ...(host.id % 7 === 0 && { dc: "fra-2" }) },
    state: host.state,
    state_since_ms: now - host.since,
    joined_ms: now - ageOf(host),
    last_seen_ms: seen,
    agent_version: host.id % 11 === 0 ? "0.0.9" : "0.1.0",
    address: `10.4.${host.id % 9}.${20 + host.id}:47${100 + host.id}`,
    os: host.os,
    kernel: host.kernel,
    architecture: host.name === "edge" ? "aarch64" : "x86_64",
    cores: host.cores,
    memory_bytes: host.memory * GIB,
    boot_ms: now - (3 + host.id) * 24 * HOUR - 5 * HOUR,
    cpu_ratio: up ? cpu : null,
    cpu_peak_ratio: up ? Math.min(1, cpu * 1.5 + 0.06) : null,
    memory_ratio: up ? (host.instance === "db-1" ? 0.93 : 0.25 + ((host.id * 7) % 50) / 100) : null,
    disk_ratio: host.instance === "db-1" ? 0.962 : host.instance === "ci-2" ? 0.88 : 0.18 + ((host.id * 13) % 60) / 100,
    disk_mountpoint: host.name === "db" ? "/var/lib/postgresql" : "/",
    receive_bytes_per_second: up ? 4e4 * (1 + cpu * 60) * ((host.id % 4) + 1) : null,
    transmit_bytes_per_second: up ? 2e4 * (1 + cpu * 90) * ((host.id % 3) + 1) : null,
    load1: up ? cpu * host.cores * 1.1 : null,
    containers: host.name === "db" ? 2 : host.name === "edge" ? 0 : 4 + (host.id % 9),
    alerts_firing: FIRING.get(host.instance) ?? 0,
  };
}

/** A smooth pseudo-random walk: the same moment has the same value. @param {number} seed @param {number} ms */
function noise(seed, ms) {
  const t = ms / 1000;
  const fast = Math.sin(t / 23 + seed * 5.1) * 0.35 + Math.sin(t / 7.3 + seed * 2.7) * 0.2;
  const slow = Math.sin(t / 611 + seed) * 0.9 + Math.sin(t / 1733 + seed * 3.3) * 0.6;
  const grain = (Math.abs(Math.sin(Math.floor(t / 10) * 12.9898 + seed * 78.233)) * 43758.5453) % 1;
  return 0.5 + (fast + slow) / 5 + (grain - 0.5) * 0.12;
}

/** CPU of a host as a share. @param {MockHost} host @param {number} ms */
function load(host, ms) {
  const busy = host.instance === "web-3" ? 0.8 : host.name === "ci" ? 0.5 : host.name === "worker" ? 0.32 : 0.12;
  return Math.max(0.004, Math.min(0.985, busy * (0.55 + noise(host.id, ms) * 0.9)));
}

// ---- one host ----

const HEX = "4f1c0a7be2d94d0c8a5f6e3b2d1c9f8e7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d";
const CONTAINERS = [
  ["shop-web", "registry.example.net/shop/web:2026.11.3", 0.92, 1, 0.34, 512, 470],
  ["shop-api", "registry.example.net/shop/api:2026.11.3", 0.41, 2, 0.01, 1024, 388],
  ["redis", "redis:7.4-alpine", 0.06, null, 0, null, 96],
  ["nginx", "nginx:1.27", 0.11, null, 0, 256, 41],
  ["mailer", "registry.example.net/shop/mailer:41", 0.003, 0.25, 0, 128, 127],
  ["promtail", "grafana/promtail:3.2.1", 0.02, null, 0, null, 62],
  ["migrate", null, 0.008, null, 0, null, 23],
];
const SERVICES = [
  "ssh",
  "cron",
  "docker",
  "systemd-journald",
  "systemd-networkd",
  "lapwing-agent",
  "chrony",
  "unattended-upgrades",
];

/** @param {MockHost} host */
function containers(host) {
  const now = Date.now();
  if (host.name === "edge") return [];
  const docker = CONTAINERS.map(([name, image, cpu, limit, throttled, memoryLimit, memory], at) => ({
    id: `/system.slice/docker-${at}${HEX.slice(1)}.scope`,
    runtime: "docker",
    name,
    image,
    kind: "container",
    cpu_cores: Number(cpu) * (0.8 + noise(at, now) * 0.4),
    cpu_limit_cores: limit,
    throttled_ratio: throttled,
    memory_working_set_bytes: Number(memory) * 1024 ** 2,
    memory_limit_bytes: memoryLimit === null ? null : Number(memoryLimit) * 1024 ** 2,
    read_bytes_per_second: at === 2 ? 0 : 1200 * at,
    write_bytes_per_second: 52_000 / (at + 1),
    tasks: 4 + at * 3,
    oom_kills: name === "mailer" ? 3 : 0,
    restarts: name === "mailer" ? 3 : 0,
    last_seen_ms: name === "promtail" ? now - 2 * MINUTE : now - 4_000,
  }));
  const services = SERVICES.map((name, at) => ({
    id: `/system.slice/${name}.service`,
    runtime: "systemd",
    name: `${name}.service`,
    image: null,
    kind: "service",
    cpu_cores: 0.002 * (at + 1),
    cpu_limit_cores: null,
    throttled_ratio: null,
    memory_working_set_bytes: (9 + at * 6) * 1024 ** 2,
    memory_limit_bytes: null,
    read_bytes_per_second: 0,
    write_bytes_per_second: at * 900,
    tasks: 1 + at,
    oom_kills: 0,
    restarts: null,
    last_seen_ms: now - 4_000,
  }));
  return [...docker, ...services];
}

const PROCESSES = [
  ["node", "node /srv/web/server.js --port 8080", "www-data", "shop-web"],
  ["gunicorn", "gunicorn: worker [shop.api] --bind 0.0.0.0:9000 --token ****", "app", "shop-api"],
  ["redis-server", "redis-server *:6379", "redis", "redis"],
  ["dockerd", "/usr/bin/dockerd -H fd://", "root", null],
  ["nginx", "nginx: worker process", "nginx", "nginx"],
  ["containerd", "/usr/bin/containerd", "root", null],
  ["lapwing-agent", "lapwing-agent run", "lapwing", null],
  ["systemd-journald", "/lib/systemd/systemd-journald", "root", null],
  ["python3", "python3 -m mailer --password ****", "app", "mailer"],
  ["sshd", "sshd: deploy@pts/0", "root", null],
  ["kworker/u8:2", null, "root", null],
  ["chronyd", "/usr/sbin/chronyd -F 1", "_chrony", null],
];

/** @param {MockHost} host @param {string} at */
function processes(host, at) {
  const ms = at === "now" ? Date.now() : Number(at);
  const stamp = Math.floor(ms / 10_000) * 10_000;
  return {
    at_ms: stamp,
    processes: PROCESSES.map(([command, line, user, container], index) => {
      const cpu = (load(host, stamp) * 3 * noise(index + 40, stamp)) / (index + 1) ** 1.4;
      return {
        pid: 311 + index * 977,
        start_ticks: 9000 + index,
        user,
        command,
        command_line: line,
        container,
        cpu_ms: Math.round(cpu * 10_000),
        cpu_cores: cpu,
        resident_bytes: (420 / (index + 1) + 4) * 1024 ** 2,
        read_bytes: index % 3 === 0 ? 81_920 * index : 0,
        written_bytes: 40_960 * (12 - index),
        major_faults: index === 4 ? 17 : 0,
        minor_faults: 900 - index * 31,
        threads: 1 + ((index * 5) % 17),
      };
    }),
  };
}

/** @param {MockHost} host @param {URLSearchParams} parameters */
function events(host, parameters) {
  const now = Date.now();
  const [from, to] = [Number(parameters.get("from")), Number(parameters.get("to"))];
  return [
    {
      at_ms: now - 11 * MINUTE,
      kind: "oom_kill",
      entity: { name: "mailer" },
      text: "the kernel killed 1 of the tasks of mailer for want of memory",
      host: host.id,
    },
    {
      at_ms: now - 11 * MINUTE + 2_000,
      kind: "container_started",
      entity: { name: "mailer" },
      text: "container mailer began",
      host: host.id,
    },
    {
      at_ms: now - 34 * MINUTE,
      kind: "container_started",
      entity: { name: "shop-web" },
      text: "container shop-web began",
      host: host.id,
    },
    { at_ms: now - 5 * HOUR, kind: "agent_started", entity: {}, text: "agent 0.1.0 started", host: host.id },
  ].filter((event) => from <= event.at_ms && event.at_ms <= to);
}

// ---- alerts ----

function alerts() {
  const now = Date.now();
  const told = (/** @type {number} */ ago, /** @type {string} */ key, /** @type {object} */ more) => ({
    at_ms: now - ago,
    group_key: key,
    receiver: "on-call",
    status: "sent",
    reason: "new alerts",
    reason_code: "new_alerts",
    attempts: 1,
    error: null,
    alerts_total: 1,
    alerts: [],
    ...more,
  });
  const disk = '{}/{team="data"}:{alertname="DiskAlmostFull"}';
  return [
    alert(
      "HostHighCpu",
      "web-3",
      { severity: "warning", team: "shop" },
      0.87,
      '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])) > 0.8',
      22 * MINUTE,
      "CPU of web-3 is at 0.8713648875000001 of its cores",
      [
        told(12 * MINUTE, '{}:{alertname="HostHighCpu"}', {
          status: "failed",
          receiver: "chat",
          attempts: 4,
          error: "503 Service Unavailable",
        }),
        told(12 * MINUTE, '{}:{alertname="HostHighCpu"}', {}),
        told(2 * MINUTE, '{}:{alertname="HostHighCpu"}', {
          status: "skipped",
          reason: "all resolved, and send_resolved is off",
          reason_code: "resolved_unwanted",
        }),
      ],
    ),
    alert(
      "DiskAlmostFull",
      "db-1",
      { severity: "critical", team: "data", mountpoint: "/var/lib/postgresql" },
      0.038,
      "node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.05",
      95 * MINUTE,
      "/var/lib/postgresql on db-1 has 3.8 % left",
      [told(94 * MINUTE, disk, {})],
    ),
    alert(
      "ReplicaLag",
      "db-1",
      { severity: "warning", team: "data" },
      41.5,
      "pg_replication_lag_seconds > 30",
      8 * MINUTE,
      "The replica is 41 s behind",
      [told(94 * MINUTE, disk, { at_ms: now - 7 * MINUTE, reason: "the moon is full", reason_code: "full_moon" })],
    ),
    alert(
      "HostSilent",
      "db-3",
      { severity: "critical", team: "data" },
      0,
      "up == 0",
      14 * MINUTE,
      "db-3 stopped reporting",
      [told(13 * MINUTE, '{}:{alertname="HostSilent"}', {})],
    ),
    {
      ...alert(
        "HostHighLoad",
        "db-3",
        { severity: "warning", team: "data" },
        18.2,
        "node_load1 > 16",
        31 * MINUTE,
        "",
        [],
      ),
      held_since_ms: now - 14 * MINUTE,
    },
    {
      ...alert(
        "ContainerThrottled",
        "web-3",
        { severity: "info", name: "shop-web" },
        0.34,
        "rate(container_cpu_cfs_throttled_periods_total[1m]) / rate(container_cpu_cfs_periods_total[1m]) > 0.25",
        3 * MINUTE,
        "shop-web waits for its CPU limit in 34 % of its periods",
        [],
      ),
      state: "pending",
      fired_ms: null,
    },
  ];
}

/** @param {string} rule @param {string} instance @param {Record<string, string>} labels @param {number} value @param {string} expr @param {number} ago @param {string} summary @param {object[]} notifications */
function alert(rule, instance, labels, value, expr, ago, summary, notifications) {
  const since = Date.now() - ago;
  return {
    rule,
    group: "host",
    file: "rules/host.yml",
    state: "firing",
    held_since_ms: null,
    since_ms: since,
    fired_ms: since + MINUTE / 2,
    resolved_ms: null,
    value,
    labels: { alertname: rule, instance, ...labels },
    annotations: summary ? { summary } : {},
    expr,
    fingerprint: `${rule}${instance}`,
    groups: [...new Set(notifications.map((told) => /** @type {any} */ (told).group_key))],
    notifications,
  };
}

function rules() {
  const rule = {
    name: "HostHighCpu",
    expr: "1",
    for_ms: 600_000,
    labels: {},
    annotations: {},
    health: "ok",
    error: null,
    state: "firing",
    alerts: 1,
    last_evaluation_ms: Date.now(),
  };
  return {
    files: [
      {
        path: "rules/host.yml",
        error: null,
        groups: [
          {
            name: "host",
            interval_ms: 10_000,
            rules: [rule, { ...rule, name: "ReplicaLagTrend", health: "error", error: "function deriv is not known" }],
          },
        ],
      },
      { path: "rules/shop.yml", error: 'line 12: unknown field "exprs", did you mean "expr"?', groups: [] },
    ],
    ignored: ["rules/README"],
  };
}

/** @param {Mood} mood */
function told(mood) {
  const error = 'line 9: unknown field "recieivers" in the route, did you mean "receiver"?';
  return { notifications: mood.empty ? [] : history(), config_error: mood.misrouted ? error : null };
}

function history() {
  return alerts()
    .flatMap((one) =>
      one.notifications.map((told) => ({ ...told, alerts: [{ labels: one.labels, status: "firing" }] })),
    )
    .sort((left, right) => /** @type {any} */ (right).at_ms - /** @type {any} */ (left).at_ms);
}

// ---- series ----

/** @param {string} query */
function instant(query) {
  const label = query.includes("groupname") ? "groupname" : "name";
  const names = label === "groupname" ? PROCESSES.map(([command]) => command) : CONTAINERS.map(([name]) => name);
  const result = HOSTS.slice(0, 12).flatMap((host) =>
    names.map((name) => ({ metric: { instance: host.instance, [label]: name }, value: [Date.now() / 1000, "1"] })),
  );
  return { status: "success", data: { resultType: "vector", result } };
}

/** @param {URLSearchParams} parameters */
function range(parameters) {
  const query = parameters.get("query") ?? "";
  const [start, end, step] = ["start", "end", "step"].map((key) => Number(parameters.get(key)));
  const result = seriesOf(query).map(({ metric, value, host }) => {
    /** @type {[number, string][]} */
    const values = [];
    for (let at = Number(start); at <= Number(end); at += Number(step)) {
      if (isGap(host, at * 1000)) continue;
      const number = value(at * 1000);
      if (number !== null) values.push([at, String(number)]);
    }
    return { metric, values };
  });
  return {
    status: "success",
    data: { resultType: "matrix", result: result.filter((series) => series.values.length > 0) },
  };
}

/** How long ago it joined: most two days, web-12 twelve minutes. @param {MockHost} host */
function ageOf(host) {
  return host.instance === "web-12" ? 12 * MINUTE : 48 * HOUR;
}

/** Silent since its end, two days of history, and a hole of four minutes in the last hour of web-1. @param {MockHost} host @param {number} ms */
function isGap(host, ms) {
  const now = Date.now();
  if (ms > now || ms < now - ageOf(host)) return true;
  if (host.state !== "up" && ms > now - host.since) return true;
  return host.instance === "web-1" && ms > now - 27 * MINUTE && ms < now - 23 * MINUTE;
}

/** Which series a query of the page answers with. @param {string} query */
function seriesOf(query) {
  const name = /instance="([^"]+)"/.exec(query)?.[1];
  const host = HOSTS.find((one) => one.instance === name);
  if (query.includes("node_cpu_seconds_total") && !host)
    return HOSTS.map((one) => ({
      metric: { instance: one.instance },
      host: one,
      value: (/** @type {number} */ ms) => Math.min(1, load(one, ms) * (query.includes("peak_rate") ? 1.35 : 1)),
    }));
  if (!host) return alertSeries(query);
  /** @param {(ms: number) => number} value @param {Record<string, string>} [metric] */
  const one = (value, metric = {}) => ({ metric, host, value });
  const high =
    query.includes("peak_rate") ||
    (query.includes("max_over_time") !== query.includes("MemAvailable") &&
      !query.includes("avg_over_time(node_filesystem"))
      ? query.includes("peak_rate") || query.includes("max_over_time")
        ? 1.25
        : 1
      : 1;
  const factor = query.includes("min_over_time") && !query.includes("MemAvailable") ? 0.8 : high;
  if (query.includes("node_cpu_seconds_total")) {
    const cores = (/** @type {number} */ ms) => load(host, ms) * host.cores;
    if (query.includes("peak_rate")) return [one((ms) => Math.min(host.cores, cores(ms) * 1.3 + noise(9, ms) * 0.3))];
    const shares = { user: 0.62, system: 0.22, iowait: 0.09, softirq: 0.04, nice: 0.01, irq: 0.01, steal: 0.01 };
    return Object.entries(shares).map(([mode, share]) => one((ms) => cores(ms) * share, { mode }));
  }
  if (query.includes("node_load")) {
    const smooth = query.includes("load15") ? 0.7 : query.includes("load5") ? 0.85 : 1;
    return [
      one(
        (ms) =>
          load(host, Math.floor(ms / 60_000 / (2 - smooth)) * 60_000 * (2 - smooth)) *
          host.cores *
          1.1 *
          smooth *
          factor,
      ),
    ];
  }
  if (query.includes("pressure"))
    return [one((ms) => load(host, ms) * (query.includes("cpu") ? 0.3 : query.includes("io") ? 0.1 : 0.005))];
  if (query.includes("MemAvailable")) {
    const wide = query.includes("min_over_time(") ? 1.04 : query.includes("max_over_time(") ? 0.97 : 1;
    return [one((ms) => host.memory * GIB * (0.42 + noise(host.id, ms) * 0.12) * wide)];
  }
  if (query.includes("node_memory_Swap")) return [one((ms) => host.memory * GIB * 0.01 * (1 + noise(3, ms)))];
  if (query.includes("node_memory_Cached"))
    return [one((ms) => host.memory * GIB * (0.3 + noise(host.id + 5, ms) * 0.05))];
  if (query.includes("node_disk_read")) return [one((ms) => 2.1e6 * noise(1, ms) ** 4 * factor * 2)];
  if (query.includes("node_disk_written"))
    return [one((ms) => 6.4e6 * noise(2, ms) ** 2 * factor * (query.includes("peak") ? 2 : 1))];
  if (query.includes("node_network_receive")) return [one((ms) => 1.4e6 * noise(6, ms) * factor)];
  if (query.includes("node_network_transmit")) return [one((ms) => 3.1e6 * noise(7, ms) * factor)];
  if (query.includes("node_filesystem"))
    return [
      ["/", 0.41],
      ["/var", 0.63],
      ["/boot", 0.22],
    ].map(([mountpoint, used], at) =>
      one((ms) => Number(used) + noise(at, ms) * 0.01, { mountpoint: String(mountpoint) }),
    );
  if (query.includes("container_cpu_usage")) return [one((ms) => 0.9 * (0.7 + noise(11, ms) * 0.4) * factor)];
  if (query.includes("container_memory")) return [one((ms) => 450 * 1024 ** 2 * (0.9 + noise(12, ms) * 0.1) * factor)];
  if (query.includes("throttled")) return [one((ms) => 0.3 * noise(13, ms))];
  if (query.includes("container_fs")) return [one((ms) => 9e4 * noise(14, ms) * factor)];
  return [];
}

/** @param {string} query */
function alertSeries(query) {
  const at = (/** @type {string} */ instance) =>
    /** @type {MockHost} */ (HOSTS.find((one) => one.instance === instance));
  const now = Date.now();
  if (query.includes("node_filesystem_avail"))
    return [
      {
        metric: { instance: "db-1", mountpoint: "/var/lib/postgresql" },
        host: at("db-1"),
        value: (/** @type {number} */ ms) => 0.038 + ((now - ms) / HOUR) * 0.011,
      },
    ];
  if (query.includes("pg_replication"))
    return [
      {
        metric: { instance: "db-1" },
        host: at("db-1"),
        value: (/** @type {number} */ ms) => Math.max(0.4, 41.5 - (now - ms) / 15_000 + noise(4, ms) * 3),
      },
    ];
  if (query.startsWith("up"))
    return [
      {
        metric: { instance: "db-3" },
        host: at("db-1"),
        value: (/** @type {number} */ ms) => (now - ms < 14 * MINUTE ? 0 : 1),
      },
    ];
  if (query.includes("node_load1"))
    return [
      { metric: { instance: "db-3" }, host: at("db-3"), value: (/** @type {number} */ ms) => 13 + noise(5, ms) * 8 },
    ];
  if (query.includes("throttled"))
    return [
      {
        metric: { instance: "web-3", name: "shop-web" },
        host: at("web-3"),
        value: (/** @type {number} */ ms) => 0.1 + (now - ms < 5 * MINUTE ? 0.22 : 0) + noise(6, ms) * 0.05,
      },
    ];
  return [];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await serve({}, 4649);
  setInterval(mock.tell, 10_000);
  process.stdout.write(`open ${mock.url}\n`);
}
