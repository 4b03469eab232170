import { acceptRule, type AlertRuleInput } from "../src/monitoring/alerts/alert_rules.ts";
import { AlertMonitor } from "../src/monitoring/alerts/alert_monitor.ts";
import { acceptBudget, type BudgetInput, windowAt } from "../src/monitoring/budgets/budget.ts";
import { BackendError, ValidationError } from "../src/errors.ts";
import type { DocumentStore } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import type { CostEntryInput } from "../src/records/cost_entry.ts";
import { Alarm, type TelemetryEvent } from "../src/pipeline/events.ts";
import { write } from "./backend_contract.ts";
import { FakeTime } from "./fake_time.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { until } from "./until.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

const memory = () => new MemoryBackend({ maxMemoryEntries: 1_000, onConflict: "ignore" });

// --- Alerts

/** A watch, and what it tells: the type, and the minute since the new year. */
function watching() {
  const told: [string, number][] = [];
  const watch = new AlertMonitor(memory().documents, (event) => {
    if (event.type !== "alert-fired" && event.type !== "alert-resolved") return;
    const { firedAt, resolvedAt } = event.alert;
    told.push([event.type, ((resolvedAt ?? firedAt) - NEW_YEAR) / MINUTE]);
  });
  const observe = (minute: number, metrics: object) =>
    watch.observe("system_metrics", {
      timestamp: NEW_YEAR + minute * MINUTE,
      clusterId: "a",
      nodeId: "n1",
      ...metrics,
    });
  return { watch, told, observe };
}

Deno.test("AlertMonitor fires when a condition has held for the duration of its rule", () => {
  const { told, observe } = watching();
  for (const minute of [0, 2, 4, 4.99]) observe(minute, { cpuUsage: 95 });
  assertEquals(told, []);
  for (const minute of [5, 6, 7]) observe(minute, { cpuUsage: 95 });
  observe(8, { cpuUsage: 90 }); // no longer above
  observe(9, { cpuUsage: 10 });
  assertEquals(told, [["alert-fired", 5], ["alert-resolved", 8]]);
});

Deno.test("AlertMonitor restarts the duration when the condition breaks or is unknown", () => {
  const { told, observe } = watching();
  for (const [minute, cpuUsage] of [[0, 95], [4, 95], [4.5, 50], [5, 95], [9, 95]]) {
    observe(minute, { cpuUsage });
  }
  assertEquals(told, []);
  observe(20, { cpuUsage: 95 }); // 11 minutes of silence
  assertEquals(told, []);
  observe(24, { cpuUsage: 95 });
  observe(25, { cpuUsage: 95 });
  assertEquals(told, [["alert-fired", 25]]);
});

Deno.test("AlertMonitor ignores late metrics and missing measures", () => {
  const { told, observe } = watching();
  observe(0, { temperature: 90 });
  observe(2, { temperature: 90 });
  observe(1, { temperature: 20 }); // late
  observe(3, { cpuUsage: 20 }); // no temperature
  assertEquals(told, [["alert-fired", 2]]);
  observe(4, { temperature: 20 });
  assertEquals(told.length, 2);
});

Deno.test("AlertMonitor ignores metrics far ahead of the clock", () => {
  const { now } = Date;
  let minute = 0;
  Date.now = () => NEW_YEAR + minute * MINUTE;
  try {
    const { told, observe } = watching();
    observe(24 * 60, { temperature: 90 });
    for (minute of [0, 1]) observe(minute, { temperature: 90 });
    observe(minute + 5.01, { temperature: 20 });
    assertEquals(told, [["alert-fired", 1]]);
    observe(minute + 5, { temperature: 20 }); // clocks differ a little
    assertEquals(told, [["alert-fired", 1], ["alert-resolved", 6]]);
  } finally {
    Date.now = now;
  }
});

Deno.test("AlertMonitor resolves an alert that was stored with a clock ahead", async () => {
  const backend = memory();
  const alertId = "gpu_overheating/a/n1";
  const firedAt = Date.now() + 365 * DAY;
  const about = { rule: "gpu_overheating", severity: "critical", clusterId: "a", nodeId: "n1" };
  const body = {
    alertId,
    ...about,
    description: "",
    field: "temperature",
    value: 90,
    since: firedAt,
    firedAt,
  };
  await backend.documents.write({ kind: "alert", id: alertId, body });
  await using hub = await ObservabilityHub.open({ backend });
  assertEquals((await hub.getAlerts()).length, 1);
  await hub.collectSystemMetrics({
    timestamp: Date.now() + 1,
    clusterId: "a",
    nodeId: "n1",
    temperature: 20,
  });
  assertEquals(await hub.getAlerts(), []);
});

Deno.test("AlertMonitor tells nodes, clusters and rules apart", () => {
  const { told, observe } = watching();
  for (const minute of [0, 1]) {
    for (const nodeId of ["n1", "n2"]) observe(minute, { nodeId, clusterId: "a", temperature: 90 });
    observe(minute, { nodeId: "n1", clusterId: "b", temperature: 90, errorRate: 90 });
  }
  assertEquals(told.length, 3);
  observe(2, { nodeId: "n1", clusterId: "b", errorRate: 90, temperature: 20 });
  assertEquals(told.slice(3).map(([type]) => type), ["alert-resolved", "alert-fired"]);
});

for (const nodes of [6_000, 20_000]) {
  Deno.test(`AlertMonitor fires for each of ${nodes} nodes that break several rules at once`, () => {
    const { told, observe } = watching();
    const onFire = { cpuUsage: 99, memoryUsage: 99, temperature: 99, errorRate: 99 };
    for (const minute of [0, 1, 2, 3, 4, 5]) {
      for (let node = 0; node < nodes; node++) observe(minute, { nodeId: `n${node}`, ...onFire });
    }
    assertEquals(told.length, 4 * nodes);
    for (let node = 0; node < nodes; node++) observe(6, { nodeId: `n${node}`, cpuUsage: 1, temperature: 1 });
    assertEquals(told.length, 6 * nodes);
  });
}

Deno.test("AlertMonitor evicts only silent nodes and reports when it is full", () => {
  const told: string[] = [];
  const watch = new AlertMonitor(memory().documents, ({ type }) => void told.push(type));
  const { now } = Date;
  let minute = 0;
  Date.now = () => NEW_YEAR + minute * MINUTE;
  try {
    const observe = (nodeId: string) =>
      watch.observe("system_metrics", { timestamp: Date.now(), clusterId: "a", nodeId, temperature: 99 });
    observe("hot");
    for (let node = 1; node < 100_000; node++) observe(`once${node}`);
    assertEquals(told, []);
    observe("one more");
    assertEquals(told, ["watch-paused"]);
    minute = 0.5;
    observe("hot");
    minute = 1;
    observe("hot");
    assertEquals(told.splice(0), ["watch-paused", "alert-fired"]); // what is watched goes on
    observe("in the place of hot");
    observe("still one more");
    assertEquals(told.splice(0), ["watch-resumed", "watch-paused"]);
    minute = 7; // all others were silent for longer than five minutes
    observe("late");
    minute = 8;
    observe("late");
    assertEquals(told, ["watch-resumed", "alert-fired"]);
  } finally {
    Date.now = now;
  }
});

Deno.test("AlertMonitor remembers when it resolved the last 100,000 alerts", () => {
  let fired = 0;
  const documents = { ...memory().documents, write: () => Promise.resolve(true) } as unknown as DocumentStore;
  const watch = new AlertMonitor(documents, ({ type }) => void (type === "alert-fired" && fired++));
  watch.use([acceptRule({ name: "hot", field: "temperature", above: 85 })]);
  const observe = (node: number, minute: number, temperature: number) =>
    watch.observe("system_metrics", {
      timestamp: NEW_YEAR + minute * MINUTE,
      clusterId: "a",
      nodeId: `n${node}`,
      temperature,
    });
  for (let node = 0; node <= 100_000; node++) {
    observe(node, 0, 90);
    observe(node, 2, 20);
  }
  assertEquals(fired, 100_001);
  for (const late of [1, 100_000]) observe(late, 1, 90);
  assertEquals(fired, 100_001);
  observe(0, 1, 90); // the oldest one is forgotten, so that memory stays flat
  assertEquals(fired, 100_002);
});

Deno.test("AlertMonitor looks at a thousand rules by field, value and subject", async () => {
  const { told, watch, observe } = watching();
  const rule = (name: string, input: Partial<AlertRuleInput>) =>
    acceptRule({ name, field: "cpuUsage", ...input });
  watch.use([
    ...Array.from({ length: 300 }, (_, i) => rule(`above${i}`, { above: 50 + i })),
    ...Array.from({ length: 300 }, (_, i) => rule(`below${i}`, { below: 40 - i })),
    ...Array.from({ length: 200 }, (_, i) => rule(`cluster${i}`, { above: 0, clusterId: `c${i}` })),
    ...Array.from({ length: 200 }, (_, i) => rule(`node${i}`, { above: 0, clusterId: "a", nodeId: `n${i}` })),
    rule("status", { field: "healthStatus", equals: "down" }),
  ]);
  observe(0, { cpuUsage: 53, nodeId: "x" });
  assertEquals(told.splice(0).length, 3);
  observe(1, { cpuUsage: 51, nodeId: "x" });
  assertEquals(told.splice(0).map(([type]) => type), ["alert-resolved", "alert-resolved"]);
  observe(2, { cpuUsage: 38, nodeId: "x", healthStatus: "down" });
  assertEquals(told.splice(0).map(([type]) => type).toSorted(), [
    "alert-fired",
    "alert-fired",
    "alert-fired",
    "alert-resolved",
  ]);
  observe(3, { cpuUsage: 45, nodeId: "n7" });
  observe(3, { cpuUsage: 45, clusterId: "c9", nodeId: "n7" });
  const names = (await watch.alerts()).filter(({ resolvedAt }) => resolvedAt === undefined).map(({ rule }) =>
    rule
  );
  assertEquals(names.toSorted(), ["below0", "below1", "cluster9", "node7", "status"]);
});

Deno.test("AlertMonitor saves alerts when the backend recovers and never blocks records", async () => {
  const backend = memory();
  const { documents } = backend;
  const write = documents.write.bind(documents);
  let isAway = true;
  documents.write = (...document) =>
    isAway
      ? Promise.reject(
        new BackendError("away", { code: "BACKEND_FAILED", operation: "write", kind: "transient" }),
      )
      : write(...document);
  const hub = await ObservabilityHub.open({ backend });
  const hot = { clusterId: "a", nodeId: "n1", temperature: 90 };
  await hub.collectSystemMetrics({ timestamp: NEW_YEAR, ...hot });
  await hub.collectSystemMetrics({ timestamp: NEW_YEAR + MINUTE, ...hot });
  await hub.flush();
  assertEquals((await hub.getAlerts()).length, 1); // it is on its way
  assertEquals(await documents.read(), []);
  isAway = false;
  await hub.close();
  assertEquals((await documents.read()).map(({ kind }) => kind), ["alert"]);
});

Deno.test("AlertMonitor tells names with slashes apart", async () => {
  const { watch, told, observe } = watching();
  for (const minute of [0, 1]) {
    observe(minute, { clusterId: "a/b", nodeId: "c", temperature: 90 });
    observe(minute, { clusterId: "a", nodeId: "b/c", temperature: 90 });
  }
  assertEquals(told.length, 2);
  assertEquals((await watch.alerts()).map(({ alertId }) => alertId), [
    "gpu_overheating/a%2Fb/c",
    "gpu_overheating/a/b%2Fc",
  ]);
});

Deno.test("AlertMonitor does not fire again for late metrics of a resolved alert", () => {
  const { watch, told, observe } = watching();
  watch.use([acceptRule({ name: "hot", field: "temperature", above: 85 })]);
  observe(0, { temperature: 90 });
  observe(2, { temperature: 20 });
  observe(1, { temperature: 90 }); // late
  assertEquals(told, [["alert-fired", 0], ["alert-resolved", 2]]);
  observe(3, { temperature: 90 });
  assertEquals(told.length, 3);
});

Deno.test("ObservabilityHub resolves only the alerts of a changed rule", async () => {
  await using hub = new ObservabilityHub();
  const rule = { name: "hot", field: "temperature", above: 80, clusterId: "a" };
  await hub.setAlertRule(rule);
  const heat = (minute: number) =>
    hub.collectSystemMetrics({ timestamp: NEW_YEAR + minute * MINUTE, clusterId: "a", temperature: 90 });
  const active = async () => (await hub.getAlerts()).map(({ rule }) => rule).toSorted();
  await heat(0);
  await heat(1);
  assertEquals(await active(), ["gpu_overheating", "hot"]);
  await hub.setAlertRule(rule); // as each program does that sets its rules at the start
  assertEquals(await active(), ["gpu_overheating", "hot"]);
  await hub.setAlertRule({ ...rule, durationMs: MINUTE });
  assertEquals(await active(), ["gpu_overheating"]);
  await heat(2);
  assertEquals(await active(), ["gpu_overheating"]); // the duration restarts
  await heat(3);
  assertEquals(await active(), ["gpu_overheating", "hot"]);
  await hub.removeAlertRule("hot");
  assertEquals(await active(), ["gpu_overheating"]);
});

Deno.test("ObservabilityHub lists the worst alerts first and no resolved ones", async () => {
  const backend = memory();
  const hub = await ObservabilityHub.open({ backend });
  for (const [name, severity] of [["a", "info"], ["b", "emergency"], ["c", "warning"]] as const) {
    await hub.setAlertRule({ name, field: "gpuUsage", above: 50, severity });
  }
  const use = (hub: ObservabilityHub, minute: number) =>
    hub.collectSystemMetrics({ timestamp: NEW_YEAR + minute * MINUTE, gpuUsage: 90 });
  const active = async (hub: ObservabilityHub) => (await hub.getAlerts()).map(({ rule }) => rule);
  await use(hub, 0);
  assertEquals(await active(hub), ["b", "c", "a"]);
  await hub.resolveAlert("b/default/default");
  assertEquals(await active(hub), ["c", "a"]);
  await use(hub, 1);
  assertEquals(await active(hub), ["b", "c", "a"]); // it fires again
  await hub.resolveAlert("b/default/default");
  await hub.close();
  const restarted = await ObservabilityHub.open({ backend });
  assertEquals(await active(restarted), ["c", "a"]);
  await use(restarted, 2);
  assertEquals(await active(restarted), ["b", "c", "a"]);
  await restarted.close();
});

const NEVER = () => new Promise<never>(() => {});
const UNANSWERED: [string, (backend: MemoryBackend) => void][] = [
  ["a batch", (backend) => backend.write = NEVER],
  ["reading what is watched", (backend) => backend.documents.read = NEVER],
  ["storing what is watched", (backend) => backend.documents.write = NEVER],
];

for (const [what, silence] of UNANSWERED) {
  Deno.test(`CostObservatory and ObservabilityHub close by the deadline when ${what} hangs`, async () => {
    const backend = memory();
    const hub = await ObservabilityHub.open({ backend });
    const costs = await CostObservatory.open({ backend });
    await costs.createBudget({ budgetId: "b", amount: 1 });
    silence(backend);
    for (const timestamp of [NEW_YEAR, NEW_YEAR + MINUTE]) {
      await hub.collectSystemMetrics({ timestamp, temperature: 90 });
    }
    await costs.addCostEntry(costEntry({ timestamp: Date.now() }));
    let closed = 0;
    using time = new FakeTime();
    const closing = [hub, costs].map((one) => one.close({ deadlineMs: 10_000 }).then(() => closed++));
    await time.pass(9_999);
    assert(closed < 2, "It does not wait until the deadline.");
    await time.pass(1);
    await time.pass(0); // the monitors of a pipeline that took all the time
    assertEquals(closed, 2);
    await Promise.all(closing);
  });
}

const WRONG_OPTIONS: [string, string, () => Promise<unknown>][] = (() => {
  const [hub, costs] = [new ObservabilityHub(), new CostObservatory()];
  return [
    ["getAlerts()", "includeResolve", () => hub.getAlerts({ includeResolve: true } as object)],
    ["getAlerts()", "includeResolved", () => hub.getAlerts({ includeResolved: 1 } as object)],
    ["getAlerts()", "value", () => hub.getAlerts(null!)],
    ["getClusterHealthSummary()", "window", () => hub.getClusterHealthSummary({ window: 1 } as object)],
    ["getClusterHealthSummary()", "windowMs", () => hub.getClusterHealthSummary({ windowMs: "5" } as object)],
    ["getServiceDependencyMap()", "windowMs", () => hub.getServiceDependencyMap({ windowMs: NaN })],
    ["getBudgetStatus()", "budgetID", () => costs.getBudgetStatus({ budgetID: "b" } as object)],
    ["getBudgetStatus()", "at", () => costs.getBudgetStatus({ at: 1_700_000_000 })],
    ["getCostSummary()", "limit", () => costs.getCostSummary({ limit: 1 } as object)],
    ["getCostSummary()", "top", () => costs.getCostSummary({ top: -1 })],
    [
      "getCostSummary()",
      "startTime",
      () => costs.getCostSummary({ startTime: NEW_YEAR + 1, endTime: NEW_YEAR }),
    ],
    ["getCostAnomalies()", "bucket", () => costs.getCostAnomalies({ bucket: "1w" } as object)],
    ["getCostAnomalies()", "limit", () => costs.getCostAnomalies({ limit: 1 } as object)],
    ["getCostAnomalies()", "startTime", () => costs.getCostAnomalies({ startTime: Date.now() + DAY })],
    [
      "startTrainingRunTracking()",
      "start",
      () => costs.startTrainingRunTracking("r", { start: NEW_YEAR } as object),
    ],
  ];
})();

for (const [method, field, ask] of WRONG_OPTIONS) {
  Deno.test(`${method} refuses ${ask.toString().replace(/\s+/g, " ")} and names ${field}`, async () => {
    const error = await ask().then(() => undefined, (error) => error);
    assertEquals([error?.name, error?.field], ["ValidationError", field]);
  });
}

const WRONG_RULES: [string, object][] = [
  ["name", { name: "" }],
  ["name", { name: undefined }],
  ["field", { field: "cpu" }],
  ["field", { field: "labels" }],
  ["above or below", { above: undefined }],
  ["above or below", { below: 1 }],
  ["above or below", { above: undefined, equals: "x" }],
  ["equals", { field: "healthStatus" }],
  ["equals", { field: "trainingActive", above: undefined, equals: "true" }],
  ["above", { above: NaN }],
  ["durationMs", { durationMs: -1 }],
  ["severity", { severity: "bad" }],
  ["dataset", { dataset: "cost_entries" }],
  ["serviceName", { serviceName: "api" }],
  ["unknown", { unknown: 1 }],
];

for (const [field, change] of WRONG_RULES) {
  Deno.test(`acceptRule() refuses ${JSON.stringify(change)} and names ${field}`, () => {
    const rule = { name: "r", field: "cpuUsage", above: 90, ...change } as AlertRuleInput;
    assertEquals((assertThrows(() => acceptRule(rule), ValidationError) as ValidationError).field, field);
  });
}

// --- Budgets

const WRONG_BUDGETS: [string, object][] = [
  ["budgetId", { budgetId: "" }],
  ["budgetId", { budgetId: "a\0" }],
  ["amount", { amount: 0 }],
  ["amount", { amount: "0.0000000000000000001" }], // rounds to 0
  ["amount", { amount: "-1" }],
  ["amount", { amount: "1e18" }],
  ["amount", { amount: "ten" }],
  ["amount", { amount: undefined }],
  ["currency", { currency: "usd" }],
  ["period", { period: "2d" }],
  ["period", { period: "1h" }],
  ["timeZone", { timeZone: "Mars/Olympus" }],
  ["startTime", { startTime: 1_700_000_000 }],
  ["startTime", { startTime: NEW_YEAR, endTime: NEW_YEAR }],
  ["categories", { categories: [] }],
  ['tags["team"]', { tags: { team: 1 } }],
  ["thresholds", { thresholds: [0] }],
  ["thresholds", { thresholds: [1e-300] }], // comes to 0
  ["spent", { spent: "1" }],
];

for (const [field, change] of WRONG_BUDGETS) {
  Deno.test(`acceptBudget() refuses ${JSON.stringify(change)} and names ${field}`, () => {
    const budget = { budgetId: "b", amount: 1, ...change } as BudgetInput;
    assertEquals((assertThrows(() => acceptBudget(budget), ValidationError) as ValidationError).field, field);
  });
}

Deno.test("windowAt() returns months of the budget's time zone within its start and end", () => {
  const inParis = acceptBudget({ budgetId: "b", amount: 1, timeZone: "Europe/Paris" });
  const march = windowAt(inParis, Date.UTC(2026, 2, 15));
  assertEquals(march, { start: Date.UTC(2026, 1, 28, 23), end: Date.UTC(2026, 2, 31, 22) }); // an hour less
  const [start, end] = [Date.UTC(2026, 2, 10), Date.UTC(2026, 4, 5)];
  const bounded = acceptBudget({ budgetId: "b", amount: 1, period: "1mo", startTime: start, endTime: end });
  assertEquals(windowAt(bounded, NEW_YEAR), { start, end: Date.UTC(2026, 3, 1) });
  assertEquals(windowAt(bounded, Date.UTC(2027)), { start: Date.UTC(2026, 4, 1), end });
  const once = acceptBudget({ budgetId: "b", amount: 1, startTime: start, endTime: end });
  assertEquals([once.period, windowAt(once, NEW_YEAR)], [undefined, { start, end }]);
});

Deno.test("CostObservatory gives budgets the forecast of the summary, which knows where the data ends", async () => {
  await using costs = await CostObservatory.open({ timeZone: "Europe/Berlin" });
  const [start, end] = [Date.UTC(2026, 8, 1), Date.UTC(2026, 10, 29)];
  const entries: { entryId: string; timestamp: number; amount: string }[] = [];
  for (let time = start; time < end; time += DAY / 4) {
    const day = new Date(time).getUTCDay();
    for (const team of ["nlp", "vision", "ads", "core"]) {
      const amount = String((day % 6 === 0 ? 2 : 9) + team.length);
      const more = { tags: { team }, category: team === "ads" ? "cpu" : "gpu" };
      entries.push({ entryId: `${team}${time}`, timestamp: time, amount, ...more });
    }
  }
  entries.push({ entryId: "last", timestamp: end - DAY / 24, amount: "1.5" }); // 29th in Berlin
  for (const entry of entries) await costs.addCostEntry(costEntry(entry));
  await costs.flush();
  const teams = ["nlp", "vision", "ads", "core"];
  await costs.createBudget({ budgetId: "all", amount: "1000" });
  await costs.createBudget({ budgetId: "both", amount: "1000", categories: ["cpu", "gpu"] });
  for (const team of teams) await costs.createBudget({ budgetId: team, amount: "5000", tags: { team } });
  const { now } = Date;
  try {
    Date.now = () => Date.UTC(2026, 10, 30, 3);
    const { currencies: [usd] } = await costs.getCostSummary();
    const dataEnd = Date.UTC(2026, 10, 28, 23);
    assertEquals(usd.forecast!.dataEnd, dataEnd);
    // The comparison and the average are of the same days: October 1 to 28, and November 1 to 28, in Berlin.
    const sum = (from: number, to: number) =>
      entries.filter(({ timestamp }) => timestamp >= from && timestamp < to)
        .reduce((total, { amount }) => total + Number(amount), 0);
    const before = sum(Date.UTC(2026, 8, 30, 22), Date.UTC(2026, 9, 28, 23));
    const complete = sum(Date.UTC(2026, 9, 31, 23), dataEnd);
    const [bucket] = (await costs.aggregateCosts({ bucket: "1mo", compare: "previous" })).slice(-1);
    for (const { total, sameDaysTotal, sameDaysChange } of [usd, bucket]) {
      assertEquals([Number(total), sameDaysTotal], [complete + 1.5, String(before)]);
      assertEquals(sameDaysChange!.toFixed(6), ((complete / before - 1) * 100).toFixed(6));
    }
    assertEquals(Number(usd.averagePerDay).toFixed(6), (complete / 28).toFixed(6));
    const first = await costs.getBudgetStatus();
    const projected = new Map(first.map(({ budgetId, projectedSpend }) => [budgetId, projectedSpend]));
    assertEquals([projected.get("all"), projected.get("both")], Array(2).fill(usd.forecast!.total));
    for (const team of teams) {
      const { currencies: [{ forecast }] } = await costs.getCostSummary({ tags: { team } });
      assertEquals(projected.get(team), forecast!.total, team);
    }
    Date.now = () => Date.UTC(2026, 10, 30, 9);
    const [later] = await costs.getBudgetStatus({ budgetId: "all" });
    const { burnRatePerDay, projectedSpend, timeZone } = later;
    assertEquals([projectedSpend, timeZone], [usd.forecast!.total, "Europe/Berlin"]);
    assertEquals(burnRatePerDay, first.find(({ budgetId }) => budgetId === "all")!.burnRatePerDay);
  } finally {
    Date.now = now;
  }
});

Deno.test("costSummary() gives the average of the days that have data, also of the first one", async () => {
  await using costs = await CostObservatory.open();
  const today = Date.UTC(2026, 10, 30);
  await costs.addCostEntry(costEntry({ amount: "0.12", timestamp: today + 8 * 60 * MINUTE }));
  await costs.flush();
  const averageAt = async (at: number) => {
    const { currencies: [{ averagePerDay, averageDays }] } = await costs.getCostSummary({ at });
    return [averagePerDay, averageDays];
  };
  assertEquals(await averageAt(today + DAY / 2), ["0.12", undefined]); // no day is complete yet
  await costs.addCostEntry(costEntry({ entryId: "b", amount: "0.02", timestamp: today - 3 * DAY }));
  await costs.addCostEntry(costEntry({ entryId: "c", amount: "0.04", timestamp: today - DAY }));
  await costs.flush();
  assertEquals(await averageAt(today + DAY / 2), ["0.02", 3]); // 0.06 in three complete days
});

Deno.test("CostObservatory projects spending pro rata over days with data when there are few", async () => {
  await using costs = new CostObservatory();
  const [startTime, endTime] = [NEW_YEAR, NEW_YEAR + 10 * DAY];
  await costs.createBudget({ budgetId: "b", amount: "100", startTime, endTime });
  await costs.addCostEntry(costEntry({ amount: "50", timestamp: startTime }));
  await costs.flush();
  const forecastAt = async (now: number, at = now) => {
    const { now: realNow } = Date;
    Date.now = () => now;
    try {
      const [status] = await costs.getBudgetStatus({ at });
      const { burnRatePerDay, expectedSpend, projectedSpend, projectedExhaustion } = status;
      return [burnRatePerDay, expectedSpend, projectedSpend, projectedExhaustion];
    } finally {
      Date.now = realNow;
    }
  };
  // The data ends with the first day at any time of day.
  const expected = ["50", "20", "500", startTime + 2 * DAY];
  assertEquals(await forecastAt(startTime + 2 * DAY), expected);
  assertEquals(await forecastAt(startTime + 2.5 * DAY), expected.with(1, "25"));
  assertEquals((await forecastAt(startTime + MINUTE)).slice(2), [undefined, undefined]);
  // It is over: what was spent is known, whichever of its days is named.
  assertEquals(await forecastAt(endTime + DAY, startTime + DAY), ["5", "100", "50", undefined]);
  await assertRejects(
    () => costs.getBudgetStatus({ budgetId: "c" }),
    ValidationError,
    "the id of a budget (b)",
  );
});

Deno.test("CostObservatory projects no spending when costs ended long ago, as the summary does", async () => {
  await using costs = new CostObservatory();
  const november = Date.UTC(2026, 10, 1);
  await costs.createBudget({
    budgetId: "b",
    amount: "100",
    startTime: november,
    endTime: november + 30 * DAY,
  });
  await costs.addCostEntry(costEntry({ amount: "7", timestamp: november + 2 * DAY }));
  await costs.flush();
  const { now } = Date;
  try {
    for (
      const [day, projectedSpend, noForecast] of [
        [13, "70", undefined], // ten days may be late
        [14, undefined, "costs end 11 days ago"],
        [29, undefined, "costs end 26 days ago"],
      ] as const
    ) {
      Date.now = () => november + day * DAY + DAY / 2;
      const [status] = await costs.getBudgetStatus();
      assertEquals([status.projectedSpend, status.noForecast], [projectedSpend, noForecast], `day ${day}`);
      const { currencies: [summary] } = await costs.getCostSummary();
      if (noForecast) assertEquals(summary.noForecast, noForecast);
    }
  } finally {
    Date.now = now;
  }
});

Deno.test("CostObservatory commits costs when monitoring state cannot be read", async () => {
  const backend = memory();
  backend.documents.read = () =>
    Promise.reject(
      new BackendError("away", { code: "BACKEND_FAILED", operation: "read", kind: "transient" }),
    );
  await using costs = await CostObservatory.open({ backend, anomalyDetection: true });
  for (let i = 0; i < 10; i++) await costs.addCostEntry(costEntry({ entryId: `e${i}` }));
  await costs.flush();
  assertEquals(costs.stats().datasets.cost_entries!.committed, 10);
});

Deno.test("CostObservatory applies a budget that changes during a recount", async () => {
  const told: number[] = [];
  const backend = memory();
  await using costs = await CostObservatory.open({
    backend,
    onEvent: (event) => void (event.type === "budget-threshold" && told.push(event.crossing.threshold)),
  });
  const add = async (entryId: string) => {
    await costs.addCostEntry(costEntry({ entryId, timestamp: Date.now() }));
    await costs.flush();
  };
  await costs.createBudget({ budgetId: "a", amount: 100 });
  const aggregate = backend.aggregate.bind(backend);
  backend.aggregate = async (...question) => {
    backend.aggregate = aggregate;
    await costs.createBudget({ budgetId: "b", amount: 2, thresholds: [100] });
    return await aggregate(...question);
  };
  await add("1");
  await add("2");
  await costs.close(); // what is put off for a second is done now
  assertEquals(told, [100]);
});

Deno.test("CostObservatory reports a threshold after state is readable, without new costs", async () => {
  const told: string[] = [];
  const backend = memory();
  const costs = await CostObservatory.open({
    backend,
    onEvent: ({ type }) => void (type === "budget-threshold" && told.push(type)),
  });
  await costs.createBudget({ budgetId: "b", amount: "1", thresholds: [100] });
  const { documents } = backend;
  const read = documents.read.bind(documents);
  documents.read = () =>
    Promise.reject(
      new BackendError("away", { code: "BACKEND_FAILED", operation: "read", kind: "transient" }),
    );
  await costs.addCostEntry(costEntry({ timestamp: Date.now() }));
  await costs.flush();
  documents.read = read;
  assertEquals(told, []);
  await costs.close(); // what is put off is done now
  assertEquals(told.length, 1);
});

Deno.test("cleanupOldData() keeps exactly the costs of current budget periods", async () => {
  const { now } = Date;
  Date.now = () => Date.UTC(2026, 10, 15);
  try {
    const { costs, add } = await counting();
    const whole = { period: "1y", amount: 3 };
    await costs.createBudget({ budgetId: "year", ...whole, categories: ["gpu"] });
    await costs.createBudget({ budgetId: "over", ...whole, endTime: Date.UTC(2025, 11, 1) });
    await costs.createBudget({ budgetId: "to come", ...whole, startTime: Date.UTC(2026, 11, 1) });
    for (const month of [-8, -1, 0, 5, 10]) {
      await add({ entryId: `${month}`, timestamp: Date.UTC(2026, month, 2), category: "gpu", amount: "1" });
    }
    const ids = async () => (await costs.queryHistoricalCosts()).map(({ entryId }) => entryId);
    const spent = async () => (await costs.getBudgetStatus({ budgetId: "year" }))[0].spent;
    for (const dryRun of [true, false]) {
      assertEquals((await costs.cleanupOldData({ retentionDays: 90, dryRun })).cost_entries, 2);
    }
    assertEquals([await spent(), await ids()], ["3", ["0", "5", "10"]]);
    await costs.updateBudget("year", { period: "3mo" });
    assertEquals((await costs.cleanupOldData({ retentionDays: 0 })).cost_entries, 2);
    assertEquals([await spent(), await ids()], ["1", ["10"]]);
    await costs.deleteBudget("year");
    assertEquals((await costs.cleanupOldData({ retentionDays: 0 })).cost_entries, 1);
    await costs.close();
  } finally {
    Date.now = now;
  }
});

/** An observatory, what it tells of budgets, and a way to add a cost and have it committed. */
async function counting(backend = memory()) {
  const told: string[] = [];
  const costs = await CostObservatory.open({
    backend,
    onEvent: (event) => {
      if (event.type !== "budget-threshold") return;
      told.push(`${event.crossing.budgetId} ${event.crossing.spent}`);
    },
  });
  const add = async (overrides: Partial<CostEntryInput>) => {
    await costs.addCostEntry(costEntry({ timestamp: Date.now(), ...overrides }));
    await costs.flush();
  };
  return { costs, told, add };
}

Deno.test("CostObservatory counts only costs within a budget", async () => {
  const { costs, told, add } = await counting();
  const [startTime, endTime] = [Date.now() - DAY, Date.now() + DAY];
  const within = { resourceId: "r", category: "gpu", region: "eu", tags: { team: "nlp", more: "x" } };
  await costs.createBudget({
    budgetId: "b",
    amount: 2,
    thresholds: [100],
    resourceId: "r",
    categories: ["gpu"],
    region: "eu",
    tags: { team: "nlp" },
    startTime,
    endTime,
  });
  await add({ entryId: "first", ...within }); // from here on nothing is taken from the backend
  const without: Partial<CostEntryInput>[] = [
    { resourceId: "other" },
    { category: "cpu" },
    { region: "us" },
    { tags: { team: "cv" } },
    { tags: {} },
    { currency: "EUR" },
    { timestamp: startTime - 1 },
    { timestamp: endTime },
  ];
  for (const [i, overrides] of without.entries()) await add({ entryId: `e${i}`, ...within, ...overrides });
  assertEquals(told, []);
  await add({ entryId: "last", ...within, timestamp: endTime - 1 });
  assertEquals(told, ["b 2"]);
  await costs.close();
});

Deno.test("CostObservatory counts once a cost that is duplicate, restated or unseen", async () => {
  for (const onConflict of ["ignore", "replace"] as const) {
    const backend = new MemoryBackend({ maxMemoryEntries: 1_000, onConflict });
    const { costs, told, add } = await counting(backend);
    await costs.createBudget({ budgetId: "b", amount: 3, thresholds: [100] });
    const timestamp = Date.now();
    await add({ entryId: "a", timestamp });
    for (let i = 0; i < 3; i++) await add({ entryId: "a", timestamp });
    await costs.close();
    assertEquals(told, []);
  }
  const replaying = memory();
  { // an earlier process has stored what this one writes from the spool
    const { costs, told, add } = await counting(replaying);
    await add({ entryId: "a" });
    await costs.createBudget({ budgetId: "b", amount: 3, thresholds: [100] });
    replaying.write = () => Promise.resolve({ committed: 1, duplicates: 0, restated: 0, isReplay: true });
    for (let i = 0; i < 3; i++) await add({ entryId: "a" });
    await costs.close();
    assertEquals(told, []);
  }
  const backend = memory();
  const { costs, told, add } = await counting(backend);
  await costs.createBudget({ budgetId: "b", amount: 3, thresholds: [100] });
  await add({ entryId: "a" });
  const write = backend.write.bind(backend);
  backend.write = async (batch) => {
    backend.write = write;
    await write(batch);
    throw new BackendError("lost", { code: "BACKEND_FAILED", operation: "write", kind: "transient" });
  };
  await add({ entryId: "b" });
  await costs.close();
  assertEquals(told, []);
});

Deno.test("CostObservatory restarts a budget in each period", async () => {
  const { now } = Date;
  const midnight = Date.UTC(2026, 0, 2);
  let time = midnight - 2;
  Date.now = () => time;
  try {
    const { costs, told, add } = await counting();
    await costs.createBudget({ budgetId: "b", amount: 2, period: "1d", thresholds: [100] });
    await add({ entryId: "a", amount: "1" });
    time = midnight;
    await add({ entryId: "b", amount: "1.5" });
    await costs.close(); // what is put off for a second is done now
    assertEquals(told, []);
    const next = await counting();
    await next.costs.createBudget({ budgetId: "b", amount: 2, period: "1d", thresholds: [100] });
    time = midnight - 1;
    await next.add({ entryId: "a", amount: "2" });
    time = midnight;
    await next.add({ entryId: "b", amount: "3" });
    await next.costs.close();
    assertEquals(next.told, ["b 2", "b 3"]);
  } finally {
    Date.now = now;
  }
});

Deno.test("CostObservatory reports a threshold again after another process resets it", async () => {
  const told: string[] = [];
  const backend = memory();
  const [one, other] = await Promise.all(
    ["one", "other"].map((name) =>
      CostObservatory.open({
        backend,
        onEvent: ({ type }) => void (type === "budget-threshold" && told.push(name)),
      })
    ),
  );
  const budget = { budgetId: "b", amount: "2", thresholds: [100] };
  await one.createBudget(budget);
  const add = async (entryId: string, amount: string) => {
    await one.addCostEntry(costEntry({ entryId, amount, timestamp: Date.now() }));
    await one.flush();
  };
  await add("a", "2");
  await other.updateBudget("b", { amount: "3" });
  await one.createBudget({ ...budget, budgetId: "c", amount: "1000" }); // forces a recount
  await add("b", "1");
  assertEquals(told, ["one", "one"]);
  await assertRejects(
    () => one.updateBudget("b", { budgetId: "d" } as object),
    ValidationError,
    "absent, or b",
  );
  await Promise.all([one.close(), other.close()]);
});

Deno.test("CostObservatory returns shares of 0 when credits cancel all costs", async () => {
  await using costs = new CostObservatory();
  await costs.addCostEntry(costEntry({ amount: "5" }));
  await costs.addCostEntry(costEntry({ amount: "-5", entryId: "e2", category: "cpu" }));
  await costs.flush();
  const { currencies: [usd] } = await costs.getCostSummary({ startTime: NEW_YEAR, endTime: NEW_YEAR + DAY });
  assertEquals(usd.breakdowns[0].rows.map(({ share }) => share), [0, 0]);
});

// --- Anomalies

Deno.test("CostObservatory does not report an unfinished day as too cheap", async () => {
  await using costs = new CostObservatory();
  const today = Math.floor(Date.now() / DAY) * DAY;
  for (let day = 40; day >= 0; day--) {
    const amount = day === 0 || day === 3 ? "1" : "100";
    await costs.addCostEntry(costEntry({ entryId: `e${day}`, timestamp: today - day * DAY, amount }));
  }
  await costs.flush();
  const daysOf = async (query: { endTime?: number }) =>
    (await costs.getCostAnomalies(query)).map(({ startTime }) => (today - startTime) / DAY);
  assertEquals(await daysOf({}), [3]);
  assertEquals(await daysOf({ endTime: today - 2.5 * DAY }), []); // that day as it was at noon
  assertEquals(await daysOf({ endTime: today - 2 * DAY }), [3]);
});

/** A backend, and a way to add costs to it and get the anomalies that are reported, each by its amount. */
function searching() {
  const backend = memory();
  const today = Math.floor(Date.now() / DAY) * DAY;
  const add = async (amounts: Record<number, string>, suffix = "") => {
    const told: string[] = [];
    const onEvent = (event: TelemetryEvent) =>
      void (event.type === "cost-anomaly" && told.push(event.anomaly.amount));
    const costs = await CostObservatory.open({ backend, anomalyDetection: true, onEvent });
    for (const [day, amount] of Object.entries(amounts)) {
      const timestamp = today - Number(day) * DAY;
      await costs.addCostEntry(costEntry({ entryId: `e${day}${suffix}`, timestamp, amount }));
    }
    await costs.close();
    return told;
  };
  return { backend, today, add };
}

const each = (amount: string, from: number, to: number) =>
  Object.fromEntries(Array.from({ length: from - to + 1 }, (_, i) => [from - i, amount]));

Deno.test("CostObservatory reports a cheap day when the next one begins", async () => {
  const { add } = searching();
  assertEquals(await add({ ...each("10", 35, 2), 1: "3" }), []);
  assertEquals(await add({ 0: "10" }), ["3"]);
  assertEquals(await add({ 0: "0" }, "more"), []);
});

Deno.test("CostObservatory reports an expensive day when future costs exist", async () => {
  const told: string[] = [];
  await using costs = await CostObservatory.open({
    anomalyDetection: true,
    onEvent: ({ type, message }) => void (type === "cost-anomaly" && told.push(message)),
  });
  const today = Math.floor(Date.now() / DAY) * DAY;
  const add = async (entryId: string, overrides: object) => {
    await costs.addCostEntry(costEntry({ entryId, amount: "10", ...overrides }));
    await costs.flush();
  };
  for (let day = 35; day > 0; day--) await add(`e${day}`, { timestamp: today - day * DAY });
  await add("ahead", { timestamp: today + 20 * DAY });
  await add("now", { timestamp: today, amount: "900" });
  await costs.close();
  assertEquals(told.length, 1);
});

Deno.test("CostObservatory uses late costs as history", async () => {
  const { add } = searching();
  assertEquals(await add(each("10", 35, 1)), []);
  assertEquals(await add(each("20", 35, 1), "late"), []); // 30 a day is usual, it turns out
  assertEquals(await add({ 0: "29" }), []);
  assertEquals(await add({ 0: "9" }, "more"), ["38"]);
});

Deno.test("CostObservatory reports 80 % as near the limit, also to readers", async () => {
  const backend = memory();
  await using costs = await CostObservatory.open({ backend });
  await costs.createBudget({ budgetId: "b", amount: "10" });
  backend.documents.write = () =>
    Promise.reject(new BackendError("no", { code: "BACKEND_FAILED", operation: "write", kind: "operator" }));
  const add = async (entryId: string, amount: string) => {
    await costs.addCostEntry(costEntry({ entryId, amount, timestamp: Date.now() }));
    await costs.flush();
    return (await costs.getBudgetStatus())[0].status;
  };
  assertEquals(await add("a", "7.999999999999999999"), "under_budget");
  assertEquals(await add("b", "0.000000000000000001"), "approaching_limit");
});

Deno.test("getBudgetStatus() reports a threshold of what others have committed at exactly its amount", async () => {
  const told: [number, string][] = [];
  const backend = memory();
  await using costs = await CostObservatory.open({
    backend,
    onEvent: (event) =>
      void (event.type === "budget-threshold" && told.push([event.crossing.threshold, event.crossing.spent])),
  });
  await costs.createBudget({ budgetId: "b", amount: "0.3", thresholds: [50, 100] });
  const commit = async (entryId: string, amount: string) => { // as another process does
    await write(backend, costEntries, [costEntry({ entryId, amount, timestamp: Date.now() })]);
    const [{ status, crossed }] = await costs.getBudgetStatus();
    return [status, ...crossed.map(({ threshold }) => threshold)];
  };
  assertEquals(await commit("a", "0.149999999999999999"), ["under_budget"]);
  assertEquals(await commit("b", "0.000000000000000001"), ["under_budget", 50]);
  assertEquals(await commit("c", "0.149999999999999999"), ["approaching_limit", 50]);
  assertEquals(await commit("d", "0.000000000000000001"), ["budget_exhausted", 50, 100]);
  assertEquals(told, [[50, "0.15"], [100, "0.3"]]);
});

Deno.test("CostObservatory reports a threshold again when a budget is recreated", async () => {
  const told: number[] = [];
  await using costs = await CostObservatory.open({
    onEvent: (event) => void (event.type === "budget-threshold" && told.push(event.crossing.threshold)),
  });
  for (const entryId of ["a", "b"]) {
    await costs.createBudget({ budgetId: "x", amount: "1", thresholds: [100] });
    await costs.addCostEntry(costEntry({ entryId, timestamp: Date.now() }));
    await costs.flush();
    await costs.deleteBudget("x");
  }
  assertEquals(told, [100, 100]);
});

// --- What is left over

Deno.test("Alarm reports its end without the error that is over", () => {
  const told: string[] = [];
  const alarm = new Alarm("system_metrics", ({ type, message }) => void told.push(`${type}: ${message}`), {
    isMonitoring: true,
  });
  alarm.raise(new Error("connection refused"));
  alarm.clear();
  alarm.clear();
  assertEquals(told, ["watch-paused: connection refused", "watch-resumed: Watching system_metrics again."]);
});

Deno.test("CostObservatory reports no event after it has closed", async () => {
  const backend = memory();
  const told: string[] = [];
  const onEvent = (name: string) => ({ type }: { type: string }) => void told.push(`${name} ${type}`);
  const closed = await CostObservatory.open({ backend, onEvent: onEvent("closed") });
  await closed.createBudget({ budgetId: "b", amount: "1", thresholds: [100] });
  await closed.close();
  await write(backend, costEntries, [costEntry({ timestamp: Date.now(), amount: "2" })]);
  assertEquals((await closed.getBudgetStatus())[0].status, "over_budget");
  assertEquals(told, []);
  await using open = await CostObservatory.open({ backend, onEvent: onEvent("open") });
  await open.getBudgetStatus();
  assertEquals(told, ["open budget-threshold"]);
});

Deno.test("getClusterHealthSummary() answers for ten thousand clusters", async () => {
  await using hub = await ObservabilityHub.open({ maxMemoryEntries: 50_000 });
  const timestamp = Date.now();
  for (let i = 0; i < 30_000; i++) {
    const node = { clusterId: `c${i % 10_000}`, nodeId: `n${i}` };
    await hub.collectSystemMetrics({ timestamp, ...node, cpuUsage: i % 2, healthStatus: "warning" });
  }
  const { clusters } = await hub.getClusterHealthSummary();
  assertEquals(clusters.length, 10_000);
  assertEquals(clusters.every(({ nodes, nodesBy }) => nodes === 3 && nodesBy.warning === 3), true);
});

Deno.test("getServiceDependencyMap() follows a long chain and a circle of services", async () => {
  await using hub = new ObservabilityHub();
  const name = (i: number) => `s${`${i}`.padStart(4, "0")}`;
  for (let i = 0; i < 3_000; i++) {
    await hub.collectServiceMetrics({
      timestamp: Date.now(),
      serviceName: name(i),
      status: i === 2_999 ? "down" : "healthy",
      dependencyHealth: { [name((i + 1) % 3_000)]: "unknown" },
    });
  }
  const { nodes, edges } = await hub.getServiceDependencyMap();
  assertEquals([nodes.length, edges.length], [3_000, 3_000]);
  assertEquals(nodes.filter(({ downDependencies }) => downDependencies[0] === name(2_999)).length, 2_999);
});

Deno.test("cleanupOldData() deletes resolved alerts and past thresholds only", async () => {
  const backend = memory();
  const hub = await ObservabilityHub.open({ backend });
  const now = Date.now();
  const heat = (nodeId: string, ago: number, temperature: number) =>
    hub.collectSystemMetrics({ timestamp: now - ago, nodeId, temperature });
  for (const ago of [100 * DAY, 100 * DAY - MINUTE]) await heat("old", ago, 90);
  await heat("new", 2 * DAY, 90);
  await heat("new", 2 * DAY - MINUTE, 90);
  for (const { alertId } of await hub.getAlerts()) await hub.acknowledgeAlert(alertId);
  await heat("old", 99 * DAY, 20);
  const costs = await CostObservatory.open({ backend });
  // Its period began longer ago than the retention, and than thresholds are kept.
  const budget = { budgetId: "b", amount: 1, thresholds: [100] };
  await costs.createBudget({ ...budget, startTime: now - 450 * DAY, endTime: now + 100 * DAY });
  await costs.addCostEntry(costEntry({ timestamp: now, amount: "1" }));
  const crossing = (startTime: number) => ({
    kind: "budget_crossing",
    id: `b/${startTime}/100`,
    body: { budgetId: "b", startTime, threshold: 100, at: startTime, spent: "1" },
  });
  const [{ startTime }] = await costs.getBudgetStatus();
  for (const start of [startTime, now - 300 * DAY, now - 500 * DAY]) {
    await backend.documents.write(crossing(start));
  }
  await hub.flush();
  await costs.cleanupOldData({ retentionDays: 50, dryRun: true });
  const kinds = async () => (await backend.documents.read()).map(({ kind }) => kind);
  assertEquals((await kinds()).length, 9);
  await hub.cleanupOldData({ retentionDays: 50 });
  const crossings = ["budget_crossing", "budget_crossing"]; // bills of the last year may still be corrected
  assertEquals(await kinds(), ["alert", "alert_acknowledgement", "budget", ...crossings, "existence"]);
  assertEquals(
    (await hub.getAlerts()).map(({ nodeId, acknowledgedAt }) => [nodeId, acknowledgedAt !== undefined]),
    [
      ["new", true],
    ],
  );
  assertEquals((await costs.getBudgetStatus())[0].crossed.map(({ startTime }) => startTime), [startTime]);
  await costs.close();
  await hub.close();
});

Deno.test("DocumentWriter raises one alarm while it cannot store, and clears it", async () => {
  const backend = memory();
  const told: string[] = [];
  const write = backend.documents.write.bind(backend.documents);
  const onEvent = ({ type, dataset }: { type: string; dataset: string }) =>
    void told.push(`${type} ${dataset}`);
  const hub = await ObservabilityHub.open({ backend, onEvent });
  const away = () =>
    Promise.reject(
      new BackendError("away", { code: "BACKEND_FAILED", operation: "write", kind: "transient" }),
    );
  backend.documents.write = away;
  for (const ago of [2, 1, 0]) {
    await hub.collectSystemMetrics({ timestamp: Date.now() - ago * MINUTE, temperature: 90 });
  }
  await until(() => told.includes("watch-paused system_metrics"), "the alarm");
  backend.documents.write = write;
  await until(() => told.includes("watch-resumed system_metrics"), "the end of the alarm");
  assertEquals(told, [
    "alert-fired system_metrics",
    "watch-paused system_metrics",
    "watch-resumed system_metrics",
  ]);
  await hub.close();
});
