import { acceptRule, type AlertRuleInput } from "../src/live/alert_rules.ts";
import { AlertWatch } from "../src/live/alert_watch.ts";
import { type DayTotal, expectationOf, judge } from "../src/live/anomalies.ts";
import { acceptBudget, type BudgetInput, windowAt } from "../src/live/budget.ts";
import { BackendError, ValidationError } from "../src/errors.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

const memory = () => new MemoryBackend({ maxMemoryEntries: 1_000, onConflict: "ignore" });

// --- Alerts

/** A watch, and what it tells: the type, and the minute since the new year. */
function watching() {
  const told: [string, number][] = [];
  const watch = new AlertWatch(memory().documents, (event) => {
    if (event.type !== "alert-fired" && event.type !== "alert-resolved") return;
    const { firedAt, resolvedAt } = event.alert;
    told.push([event.type, ((resolvedAt ?? firedAt) - NEW_YEAR) / MINUTE]);
  });
  const observe = (minute: number, metrics: object) =>
    watch.observe("system_metrics", { timestamp: NEW_YEAR + minute * MINUTE, nodeId: "n1", ...metrics });
  return { watch, told, observe };
}

Deno.test("AlertWatch fires when a condition has held for as long as its rule says, and not before", () => {
  const { told, observe } = watching();
  for (const minute of [0, 2, 4, 4.99]) observe(minute, { cpuUsage: 95 });
  assertEquals(told, []);
  for (const minute of [5, 6, 7]) observe(minute, { cpuUsage: 95 });
  observe(8, { cpuUsage: 90 }); // no longer above
  observe(9, { cpuUsage: 10 });
  assertEquals(told, [["alert-fired", 5], ["alert-resolved", 8]]);
});

Deno.test("AlertWatch begins anew where the condition did not hold in between, or nobody knows whether it did", () => {
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

Deno.test("AlertWatch takes no notice of what comes late, nor of measures that were not taken", () => {
  const { told, observe } = watching();
  observe(0, { temperature: 90 });
  observe(2, { temperature: 90 });
  observe(1, { temperature: 20 }); // late
  observe(3, { cpuUsage: 20 }); // no temperature
  assertEquals(told, [["alert-fired", 2]]);
  observe(4, { temperature: 20 });
  assertEquals(told.length, 2);
});

Deno.test("AlertWatch tells nodes, clusters and rules apart", () => {
  const { told, observe } = watching();
  for (const minute of [0, 1]) {
    for (const nodeId of ["n1", "n2"]) observe(minute, { nodeId, clusterId: "a", temperature: 90 });
    observe(minute, { nodeId: "n1", clusterId: "b", temperature: 90, errorRate: 90 });
  }
  assertEquals(told.length, 3);
  observe(2, { nodeId: "n1", clusterId: "b", errorRate: 90, temperature: 20 });
  assertEquals(told.slice(3).map(([type]) => type), ["alert-resolved", "alert-fired"]);
});

Deno.test("AlertWatch saves alerts as soon as the backend is back, and records never wait for it", async () => {
  const backend = memory();
  const { documents } = backend;
  const write = documents.write.bind(documents);
  let isAway = true;
  documents.write = (...document) =>
    isAway
      ? Promise.reject(new BackendError("away", { operation: "write", kind: "transient" }))
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
  ["spent", { spent: "1" }],
];

for (const [field, change] of WRONG_BUDGETS) {
  Deno.test(`acceptBudget() refuses ${JSON.stringify(change)} and names ${field}`, () => {
    const budget = { budgetId: "b", amount: 1, ...change } as BudgetInput;
    assertEquals((assertThrows(() => acceptBudget(budget), ValidationError) as ValidationError).field, field);
  });
}

Deno.test("windowAt() gives months of the budget's time zone, cut to its start and end", () => {
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

Deno.test("CostObservatory projects what is spent to the end of the period, and when nothing is left", async () => {
  await using costs = new CostObservatory();
  const [startTime, endTime] = [NEW_YEAR, NEW_YEAR + 10 * DAY];
  await costs.createBudget({ budgetId: "b", amount: "100", startTime, endTime });
  await costs.addCostEntry(costEntry({ amount: "50", timestamp: startTime }));
  await costs.flush();
  const [status] = await costs.getBudgetStatus({ at: startTime + 2 * DAY });
  assertEquals(
    [status.burnRatePerDay, status.expectedSpend, status.projectedSpend, status.projectedExhaustion],
    ["25", "20", "250", startTime + 4 * DAY],
  );
  const [early] = await costs.getBudgetStatus({ at: startTime + MINUTE });
  assertEquals([early.projectedSpend, early.projectedExhaustion], [undefined, undefined]);
  await assertRejects(() => costs.getBudgetStatus({ budgetId: "c" }), ValidationError, "one of b");
});

Deno.test("CostObservatory goes on committing costs while what is watched cannot be read", async () => {
  const backend = memory();
  backend.documents.read = () =>
    Promise.reject(new BackendError("away", { operation: "read", kind: "transient" }));
  await using costs = await CostObservatory.open({ backend, anomalyDetection: true });
  for (let i = 0; i < 10; i++) await costs.addCostEntry(costEntry({ entryId: `e${i}` }));
  await costs.flush();
  assertEquals(costs.stats().datasets.cost_entries!.committed, 10);
});

// --- Anomalies

/** Days that cost what a function says, with noise of up to 3 % that is the same in each run. */
function days(count: number, cost: (day: number) => number): DayTotal[] {
  return Array.from(
    { length: count },
    (_, day) => ({ day, total: cost(day) * (1 + (day * 37 % 7 - 3) / 100) }),
  );
}

const isWeekend = (day: number) => day % 7 >= 5;
const weekly = (day: number) => isWeekend(day) ? 20 : 100;

function verdict(history: readonly DayTotal[], total: number, day = history.at(-1)!.day + 1) {
  const allowed = expectationOf(history, day);
  return allowed && (judge(total, allowed)?.severity ?? "in order");
}

Deno.test("expectationOf() knows weekends, so that neither they nor a working day's cost is out of order, but each on the other is", () => {
  const history = days(35, weekly);
  for (let day = 35; day < 42; day++) {
    assertEquals(verdict(history, weekly(day), day), "in order");
    assert(verdict(history, isWeekend(day) ? 100 : 20, day) !== "in order");
  }
});

Deno.test("expectationOf() does not take weekends for anomalies before it knows three of them", () => {
  for (let count = 10; count < 35; count++) {
    const history = days(count, weekly);
    assertEquals(verdict(history, weekly(count)), "in order", `after ${count} days`);
    assert(verdict(history, 600) === "high", `after ${count} days`);
  }
  assertEquals(verdict(days(9, weekly), 1_000), undefined); // too few to tell
});

Deno.test("expectationOf() is not misled by outliers among the days before", () => {
  const history = days(35, weekly).map(({ day, total }) => ({
    day,
    total: day % 9 === 4 ? total * 50 : total,
  }));
  assertEquals(verdict(history, 100), "in order");
  assertEquals(verdict(history, 300), "high");
});

Deno.test("expectationOf() follows steady growth, and sees what breaks it", () => {
  const growing = (day: number) => weekly(day) + 3 * day;
  const history = days(35, growing);
  assertEquals(verdict(history, growing(35)), "in order");
  assert(verdict(history, 2 * growing(35)) === "high");
});

Deno.test("expectationOf() lets a fifth pass where all days cost the same, and tells of drops", () => {
  const history = Array.from({ length: 35 }, (_, day) => ({ day, total: 10 }));
  assertEquals([verdict(history, 12), verdict(history, 12.1), verdict(history, 0)], [
    "in order",
    "medium",
    "high",
  ]);
});
