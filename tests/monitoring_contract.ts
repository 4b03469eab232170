/**
 * The part of the contract that is about what is watched: budgets, alerts and health are the same with every backend,
 * and outlive the process.
 *
 * @module
 */
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { findAnomalies } from "../src/monitoring/anomalies/anomalies.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { ValidationError } from "../src/errors.ts";
import { ObservabilityHub } from "../src/hub.ts";
import { CostObservatory } from "../src/observatory.ts";
import type { BudgetInput } from "../src/monitoring/budgets/budget.ts";
import type { BudgetStatus } from "../src/monitoring/budgets/budget_status.ts";
import type { TelemetryEvent } from "../src/pipeline/events.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { generate } from "./anomaly_series.ts";
import { write } from "./backend_contract.ts";
import { costEntry } from "./fixtures.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

type Register = (title: string, run: (backend: Backend) => Promise<void>) => void;

/** Collected events, and their listener. */
function listener(type: TelemetryEvent["type"]) {
  const told: TelemetryEvent[] = [];
  return { told, onEvent: (event: TelemetryEvent) => void (event.type === type && told.push(event)) };
}

function thresholdsOf(events: readonly TelemetryEvent[]): number[] {
  return events.map((event) => event.type === "budget-threshold" ? event.crossing.threshold : NaN);
}

/** Registers the tests. */
export function liveContract(test: Register): void {
  test("counts each cost once in budgets of its currency, across restarts", async (backend) => {
    const now = Date.now();
    const { told, onEvent } = listener("budget-threshold");
    const first = await CostObservatory.open({ backend, onEvent });
    await first.createBudget({
      budgetId: "b",
      amount: "1",
      thresholds: [100, 50],
      categories: ["gpu", "cpu"],
    });
    const add = async (costs: CostObservatory, entryId: string, overrides = {}) => {
      await costs.addCostEntry(costEntry({ entryId, timestamp: now, ...overrides }));
      await costs.flush();
    };
    await add(first, "a", { amount: "0.499999999999999999" });
    await add(first, "eur", { amount: "5", currency: "EUR" });
    await add(first, "disk", { amount: "5", category: "storage" });
    assertEquals(thresholdsOf(told), []);
    await add(first, "b", { amount: "0.000000000000000001", category: "cpu" });
    assertEquals(thresholdsOf(told), [50]);
    await add(first, "a", { amount: "0.499999999999999999" }); // a duplicate
    await first.close();
    assertEquals(thresholdsOf(told), [50]);

    const second = await CostObservatory.open({ backend, onEvent });
    await add(second, "c", { amount: "0.5" });
    await add(second, "d", { amount: "0" });
    assertEquals(thresholdsOf(told), [50, 100]);
    const [status] = await second.getBudgetStatus();
    assertEquals([status.status, status.spent, status.remaining, status.entries], [
      "budget_exhausted",
      "1",
      "0",
      4,
    ]);
    assertEquals(status.crossed.map(({ threshold }) => threshold), [50, 100]);
    assertEquals(status.otherCurrencies, [{ currency: "EUR", total: "5", count: 1 }]);

    await second.updateBudget("b", { amount: "1.5" });
    assertEquals((await second.getBudgetStatus())[0].crossed.map(({ threshold }) => threshold), [50]);
    await add(second, "e", { amount: "0.6" });
    assertEquals(thresholdsOf(told), [50, 100, 100]);
    assertEquals((await second.getBudgetStatus())[0].status, "over_budget");
    const again = { budgetId: "b", amount: 1.5, thresholds: [50, 100], categories: ["gpu", "cpu"] };
    assertEquals((await second.createBudget(again)).amount, "1.5"); // as it is
    await assertRejects(
      () => second.createBudget({ budgetId: "b", amount: 1 }),
      ValidationError,
      "must be new",
    );
    assertEquals([await second.deleteBudget("b"), await second.deleteBudget("b")], [true, false]);
    assertEquals(await second.getBudgetStatus(), []);
    await second.close();
  });

  test("reports a threshold from one of several processes", async (backend) => {
    const timestamp = Date.now();
    const { told, onEvent } = listener("budget-threshold");
    const all = await Promise.all([1, 2, 3].map(() => CostObservatory.open({ backend, onEvent })));
    await all[0].createBudget({ budgetId: "b", amount: "10" });
    await Promise.all(
      all.map((costs, i) => costs.addCostEntry(costEntry({ entryId: `e${i}`, timestamp, amount: "4" }))),
    );
    await Promise.all(all.map((costs) => costs.flush()));
    await Promise.all(all.map((costs) => costs.getBudgetStatus()));
    assertEquals(thresholdsOf(told).toSorted((a, b) => a - b), [50, 80, 100]);
    await Promise.all(all.map((costs) => costs.close()));
  });

  test("reports anomalies by weekday in spite of earlier ones", async (backend) => {
    const today = Math.floor(Date.now() / DAY) * DAY;
    const { told, onEvent } = listener("cost-anomaly");
    const costs = await CostObservatory.open({ backend, onEvent, anomalyDetection: true });
    // Six weeks: half as much on days 5 and 6 of each, some noise, and two days far out of order.
    for (let day = 42; day >= 1; day--) {
      const amount = (day % 7 > 4 ? 50 : 100) + day * 13 % 5;
      const timestamp = today - day * DAY;
      const outlier = day === 20 ? 900 : day === 9 ? 0 : amount;
      await costs.addCostEntry(costEntry({ entryId: `e${day}`, timestamp, amount: outlier }));
    }
    await costs.flush();
    const found = await costs.getCostAnomalies({ startTime: today - 30 * DAY });
    const daysOf = found.map(({ startTime, kind, amount }) => [(today - startTime) / DAY, kind, amount]);
    assertEquals(daysOf, [[20, "high", "900"], [9, "stopped", "0"]]);
    assertEquals(found[0].severity, "high");
    const dayTotal = { category: "gpu", serviceName: null };
    assertEquals(found.map(({ group }) => group), [dayTotal, dayTotal]);
    await costs.close(); // looks for anomalies for the last time

    const restarted = await CostObservatory.open({ backend, onEvent, anomalyDetection: true });
    await restarted.addCostEntry(costEntry({ entryId: "t1", timestamp: today, amount: "300.5" }));
    await restarted.flush();
    await restarted.addCostEntry(costEntry({ entryId: "t2", timestamp: today + 2, amount: "1" }));
    await restarted.close();
    const again = await CostObservatory.open({ backend, onEvent, anomalyDetection: true });
    await again.addCostEntry(costEntry({ entryId: "t3", timestamp: today + 3, amount: "1" }));
    await again.close();
    const amounts = told.map((event) => event.type === "cost-anomaly" ? event.anomaly.amount : "");
    assertEquals(amounts.slice(0, 2), ["900", "0"]);
    assert(/^30[012]\.5$/.test(amounts[2]) && amounts.length === 3, amounts.join()); // once, with what it cost by then
  });

  test("finds the same anomalies as the memory backend", async (backend) => {
    const firstDay = Math.floor(Date.UTC(2025, 0, 1) / DAY);
    const options = { firstDay, length: 110, warmUp: 70, perShape: 1 };
    const days = generate(7, options).filter(({ amount }) => amount !== 0);
    const entries = days.map(({ day, series, shape, amount }, i) =>
      costEntry({
        entryId: `${series}/${day}`,
        timestamp: day * DAY + i,
        category: series,
        amount: String(amount),
        currency: i % 3 === 0 ? "EUR" : "USD",
        tags: { shape },
      })
    );
    const memory = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
    const range = { startTime: (firstDay + 70) * DAY, endTime: (firstDay + 110) * DAY };
    for (const one of [memory, backend]) await write(one, costEntries, entries);
    for (const query of [range, { ...range, groupBy: ["tags.shape"], timeZone: "America/New_York" }]) {
      const found = await findAnomalies(memory, query);
      assert(found.length > 5, `${found.length} found`);
      assertEquals(await findAnomalies(backend, query), found);
    }
  });

  test("counts budgets by basis and conditions", async (backend) => {
    const timestamp = Date.now();
    const costs = await CostObservatory.open({ backend });
    const where = [{ field: "serviceName", ne: "S3" }, { field: "amount", gte: 2 }];
    const budgets = { plain: {}, estimated: { basis: "estimated" as const }, conditions: { where } };
    for (const [budgetId, more] of Object.entries(budgets)) {
      await costs.createBudget({ budgetId, amount: 100, ...more });
    }
    const spent = async () => (await costs.getBudgetStatus()).map(({ basis, spent }) => [basis, spent]);
    const add = async (entryId: string, amount: string, more: object = {}) => {
      await costs.addCostEntry(costEntry({ entryId, timestamp, amount, ...more }));
      await costs.flush();
    };
    await add("a", "1", { basis: "estimated" });
    await add("b", "2", { basis: "estimated" });
    assertEquals(await spent(), [["estimated", "2"], ["estimated", "3"], ["estimated", "3"]]);
    await add("c", "4", { basis: "billed", serviceName: "EC2" });
    await add("d", "8", { serviceName: "S3" });
    assertEquals(await spent(), [["billed", "4"], ["estimated", "3"], ["billed", "12"]]);
    await costs.close();
  });

  test("keeps the cost of a training run for any process that ends it", async (backend) => {
    const start = Math.floor(Date.now() / HOUR) * HOUR - 5 * HOUR;
    const tags = { training_run_id: "llm" };
    const costs = await CostObservatory.open({ backend });
    await costs.startTrainingRunTracking("llm", { startTime: start });
    const entries = [
      { entryId: "before", timestamp: start - 1, tags },
      { entryId: "a", timestamp: start, tags, amount: "0.000000000000000001" },
      { entryId: "b", timestamp: start + HOUR, tags, amount: "10" },
      { entryId: "other", timestamp: start + HOUR, tags: { training_run_id: "other" } },
      { entryId: "eur", timestamp: start + HOUR, tags, currency: "EUR", amount: "4" },
      { entryId: "after", timestamp: start + 4 * HOUR, tags },
    ];
    for (const entry of entries) await costs.addCostEntry(costEntry(entry));
    await costs.close();
    const other = await CostObservatory.open({ backend });
    const run = await other.stopTrainingRunTracking("llm", { endTime: start + 4 * HOUR });
    assertEquals(run, {
      trainingRunId: "llm",
      startTime: start,
      endTime: start + 4 * HOUR,
      durationHours: 4,
      totals: [
        { currency: "EUR", total: "4", count: 1, costPerHour: "1" },
        { currency: "USD", total: "10.000000000000000001", count: 2, costPerHour: "2.5" },
      ],
    });
    assertEquals(await other.getTrainingRuns(), [run]);
    await assertRejects(
      () => other.stopTrainingRunTracking("llm2"),
      ValidationError,
      "startTrainingRunTracking",
    );
    await other.close();
  });

  test("summarizes a month by currency: same days before, shares, trend and forecast", async (backend) => {
    const costs = await CostObservatory.open({ backend, timeZone: "Europe/Berlin" });
    const day = (month: number, day: number) => Date.UTC(2026, month - 1, day, 12);
    const entries = [
      ...Array.from({ length: 61 }, (_, i) => ({ timestamp: day(9, 1 + i), amount: "2", resourceId: "r1" })),
      ...Array.from({ length: 12 }, (_, i) => ({ timestamp: day(11, 1 + i), amount: "3", resourceId: "r1" })),
      { timestamp: Date.UTC(2026, 9, 31, 23, 30), amount: "0.5", resourceId: "r2", category: "cpu" }, // November in Berlin
      { timestamp: day(11, 2), amount: "1", resourceId: "r3" },
      { timestamp: day(11, 2), amount: "7", currency: "EUR" },
      { timestamp: day(11, 2), amount: "9", basis: "estimated" as const },
      { timestamp: day(11, 20), amount: "1000" }, // later than the summary
    ];
    for (const [i, entry] of entries.entries()) {
      await costs.addCostEntry(costEntry({ entryId: `e${i}`, ...entry }));
    }
    await costs.flush();
    const at = "2026-11-14T08:00";
    const { currencies, ...found } = await costs.getCostSummary({ at, top: 1 });
    const end = (month: number, day: number) => Date.UTC(2026, month - 1, day, 23);
    assertEquals(found, {
      startTime: end(10, 31),
      endTime: end(11, 30),
      timeZone: "Europe/Berlin",
      dataEnd: end(11, 12),
    });
    assertEquals(currencies.map(({ currency, basis, total }) => [currency, basis, total]), [
      ["EUR", undefined, "7"],
      ["USD", undefined, "37.5"],
      ["USD", "estimated", "9"],
    ]);
    const [eur, usd] = currencies;
    assertEquals([eur.previousTotal, eur.change, eur.noForecast], ["0", undefined, "costs end 11 days ago"]);
    const { previousTotal, sameDaysTotal, sameDaysChange, averagePerDay, averageDays, trend, count } = usd;
    assertEquals([previousTotal, sameDaysTotal, sameDaysChange], ["62", "24", 56.25]);
    assertEquals([averagePerDay, averageDays, trend, count], ["3.125", 12, undefined, 14]);
    const { total, low, high, dataEnd } = usd.forecast!;
    assert(Math.abs(Number(total) - 93.75) < 0.1, total); // 18 days more like these 12
    assertEquals(dataEnd, end(11, 12));
    assert(Number(low) < Number(total) && Number(total) < Number(high));
    assertEquals(usd.breakdowns.map(({ groupBy, rows }) => [groupBy, rows.map(({ total }) => total)]), [
      [["category"], ["37", "0.5"]],
      [["resourceId"], ["36", "1.5"]],
    ]);
    const [gpu] = usd.breakdowns[0].rows;
    assertEquals([gpu.group, gpu.share, gpu.sameDaysTotal], [{ category: "gpu" }, 98.6666666667, "24"]);
    const asked = { startTime: "2026-10", endTime: "2026-11", category: "gpu", groupBy: ["tags.team"] };
    const { currencies: [october] } = await costs.getCostSummary({ ...asked, timeZone: "UTC", at });
    assertEquals([october.total, october.change, october.forecast], ["62", 3.33333333333, undefined]);
    assertEquals(october.breakdowns[0].rows.map(({ group, total }) => [group, total]), [[{
      "tags.team": null,
    }, "62"]]);
    await costs.close();
  });

  test("fires an alert once and keeps it across restarts until it resolves", async (backend) => {
    const start = Date.now() - HOUR;
    const { told, onEvent } = listener("alert-fired");
    const heat = (hub: ObservabilityHub, minutes: number, temperature: number) =>
      hub.collectSystemMetrics({
        timestamp: start + minutes * MINUTE,
        clusterId: "prod",
        nodeId: "n1",
        temperature,
      });
    const first = await ObservabilityHub.open({ backend, onEvent });
    for (let minute = 0; minute < 5; minute++) await heat(first, minute, 90);
    assertEquals(told.length, 1);
    await first.close();

    const second = await ObservabilityHub.open({ backend, onEvent });
    await heat(second, 5, 91);
    assertEquals(told.length, 1); // it is the same alert
    const [alert] = await second.getAlerts();
    assertEquals([alert.rule, alert.nodeId, alert.since, alert.firedAt], [
      "gpu_overheating",
      "n1",
      start,
      start + MINUTE,
    ]);
    await second.acknowledgeAlert(alert.alertId, { by: "kim" });
    assertEquals((await second.getAlerts())[0].acknowledgedBy, "kim");
    await heat(second, 6, 50);
    assertEquals(await second.getAlerts(), []);
    const [resolved] = await second.getAlerts({ includeResolved: true });
    assertEquals([resolved.resolvedAt, resolved.acknowledgedBy], [start + 6 * MINUTE, "kim"]);
    await assertRejects(() => second.acknowledgeAlert(alert.alertId), ValidationError, "an active alert");
    for (let minute = 7; minute < 10; minute++) await heat(second, minute, 90);
    assertEquals((await second.getAlerts()).map(({ acknowledgedBy }) => acknowledgedBy), [undefined]);
    assertEquals(told.length, 2);
    await second.close();
  });

  test("keeps and applies rules after a restart", async (backend) => {
    const { told, onEvent } = listener("alert-fired");
    const first = await ObservabilityHub.open({ backend });
    await first.setAlertRule({ name: "idle", field: "gpuUsage", below: 5, clusterId: "prod" });
    await first.setAlertRule({ name: "high_cpu_usage", field: "cpuUsage", above: 90, isEnabled: false });
    await first.close();
    const second = await ObservabilityHub.open({ backend, onEvent });
    for (const timestamp of [Date.now() - HOUR, Date.now()]) {
      await second.collectSystemMetrics({ timestamp, clusterId: "prod", gpuUsage: 1, cpuUsage: 99 });
      await second.collectSystemMetrics({ timestamp, clusterId: "test", gpuUsage: 1 });
    }
    assertEquals(told.map(({ message }) => message), ["warning: gpuUsage below 5: prod/default, gpuUsage 1"]);
    assertEquals([await second.removeAlertRule("idle"), await second.removeAlertRule("idle")], [true, false]);
    assertEquals((await second.getAlertRules()).find(({ name }) => name === "idle"), undefined);
    await second.close();
  });

  test("counts many budgets as it counts each alone", async (backend) => {
    const now = Date.now();
    const costs = await CostObservatory.open({ backend });
    const filters = (i: number): Partial<BudgetInput>[] => [
      {},
      { resourceId: `r${i}` },
      { categories: ["gpu", `c${i}`] },
      { tags: { team: `t${i}`, "": "x" } },
      { region: "eu", resourceId: `r${i}`, tags: { team: `t${i}` } },
    ];
    let number = 0;
    for (let i = 0; i < 6; i++) {
      for (const filter of filters(i)) {
        const period = ["1d", "1w", "1mo", "1y"][number % 4];
        const timeZone = ["UTC", "America/New_York", "Asia/Kathmandu"][number % 3];
        await costs.createBudget({ budgetId: `b${number++}`, amount: "10", period, timeZone, ...filter });
      }
    }
    for (let i = 0; i < 60; i++) {
      await costs.addCostEntry(costEntry({
        entryId: `e${i}`,
        timestamp: now - i ** 2 * HOUR,
        amount: "1.1",
        resourceId: `r${i % 7}`,
        category: i % 2 ? "gpu" : `c${i % 5}`,
        currency: i % 4 ? "USD" : "EUR",
        region: i % 3 ? "eu" : undefined,
        tags: i % 5 ? { team: `t${i % 6}`, ...(i % 7 ? { "": "x" } : {}) } : undefined,
      }));
    }
    await costs.flush();
    const all = await costs.getBudgetStatus({ at: now });
    assertEquals(all.length, 30);
    for (const status of all) {
      const [alone] = await costs.getBudgetStatus({ budgetId: status.budgetId, at: now });
      const total = (
        { budgetId, spent, entries, otherCurrencies }: BudgetStatus,
      ) => [budgetId, spent, entries, otherCurrencies];
      assertEquals(total(status), total(alone));
    }
    assertEquals(all.filter(({ spent }) => spent !== "0").length > 15, true);
    await costs.close();
  });

  test("reports health to a process that has seen no metrics", async (backend) => {
    const at = Date.now();
    const writer = await ObservabilityHub.open({ backend });
    await writer.registerCluster({ clusterId: "prod", nodes: ["n1", "n2", "n3"], region: "eu" });
    await writer.registerService({ serviceName: "api", clusterId: "prod", dependencies: ["queue"] });
    await writer.registerService({ serviceName: "queue", dependencies: ["db", "api"] });
    const node = (nodeId: string, ago: number, more: object) =>
      writer.collectSystemMetrics({ timestamp: at - ago, clusterId: "prod", nodeId, ...more });
    await node("n1", 2 * MINUTE, { cpuUsage: 99, healthStatus: "down" });
    await node("n1", MINUTE, { cpuUsage: 10, powerConsumption: 100, trainingActive: true });
    await node("n2", MINUTE, { cpuUsage: 30, healthStatus: "warning", powerConsumption: 200 });
    await node("n3", HOUR, { cpuUsage: 99 });
    await writer.collectServiceMetrics({ serviceName: "db", timestamp: at, status: "down" });
    await writer.collectServiceMetrics({ serviceName: "api", timestamp: at, status: "running" });
    await writer.close();

    const reader = await ObservabilityHub.open({ backend });
    const { clusters: [prod] } = await reader.getClusterHealthSummary({ at });
    assertEquals(prod, {
      clusterId: "prod",
      region: "eu",
      status: "critical", // 100, 70 and 0
      score: 57,
      nodes: 3,
      nodesBy: { healthy: 1, warning: 1, critical: 0, down: 1 },
      silentNodes: ["n3"],
      cpuUsage: 20,
      powerConsumption: 300,
      trainingNodes: 1,
      lastSeen: at - MINUTE,
    });
    const { nodes, edges } = await reader.getServiceDependencyMap({ at });
    assertEquals(nodes, [
      { serviceName: "api", clusterId: "prod", status: "running", downDependencies: ["db"] },
      { serviceName: "db", status: "down", downDependencies: [] },
      { serviceName: "queue", status: "unknown", downDependencies: ["db"] },
    ]);
    assertEquals(edges, [
      { source: "queue", target: "api" },
      { source: "api", target: "queue" },
      { source: "db", target: "queue" },
    ]);
    await reader.close();
  });
}
