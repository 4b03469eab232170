/**
 * Views of models, devices, clusters and data, by numbers that were added up by hand.
 *
 * @module
 */
import type { Backend } from "../src/backends/backend.ts";
import { openBackend } from "../src/open_backend.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { clustersView } from "../src/views/clusters.ts";
import { costSummary } from "../src/views/costs.ts";
import { dataHealthView } from "../src/views/data_health.ts";
import { devicesView } from "../src/views/devices.ts";
import { modelsView } from "../src/views/models.ts";
import { assertEquals } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RANGE = { startTime: NEW_YEAR, endTime: NEW_YEAR + HOUR };

Deno.test("modelsView() adds up tokens, requests, latency and cost by model and team", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const use = (usageId: string, more: object) => ({ usageId, timestamp: NEW_YEAR, ...more });
  const [nlp, vision] = [{ team: "nlp" }, { team: "vision" }];
  const gpt = { provider: "openai", model: "gpt-x" };
  await write(backend, usageRecords, [
    use("a", {
      ...gpt,
      requests: 3,
      inputTokens: 600_000,
      outputTokens: 400_000,
      durationMs: 100,
      tags: nlp,
    }),
    use("b", { ...gpt, inputTokens: 900_000, outputTokens: 100_000, durationMs: 300, tags: vision }),
    use("c", { model: "own-7b", quantity: "500000", unit: "tokens", tags: nlp }),
    { ...use("late", { ...gpt, inputTokens: 1 }), timestamp: NEW_YEAR + HOUR },
  ]);
  const cost = (entryId: string, amount: string, tags: Record<string, string>) =>
    costEntry({
      entryId,
      amount,
      tags,
      timestamp: NEW_YEAR,
      resourceId: "gpt-x",
      serviceProviderName: "openai",
      currency: "USD",
      basis: "estimated",
      source: "prices",
    });
  // Usage is not a cost of other sources, such as a bill for the same model.
  const other = { ...cost("c", "99", nlp), source: "api" };
  await write(backend, costEntries, [cost("a", "5", nlp), cost("b", "2.5", vision), other]);
  const found = await modelsView(backend, RANGE);
  assertEquals(found.models, [
    {
      provider: "openai",
      model: "gpt-x",
      count: 2,
      requests: 4,
      tokens: 2_000_000,
      inputTokens: 1_500_000,
      outputTokens: 500_000,
      durationP50: 200,
      durationP95: 290,
      costs: [{ currency: "USD", cost: "7.5", costPerMillionTokens: "3.75" }],
    },
    { provider: null, model: "own-7b", count: 1, requests: 1, tokens: 500_000, costs: [] },
  ]);
  assertEquals(found.tags.map(({ value, tokens, requests }) => [value, tokens, requests]), [
    ["nlp", 1_500_000, 4],
    ["vision", 1_000_000, 1],
  ]);
  assertEquals(found.tags[0].costs, [{
    currency: "USD",
    cost: "5",
    costPerMillionTokens: "3.333333333333333333",
  }]);
  assertEquals(found.unpriced, [
    { provider: "openai", model: "gpt-x", unit: "input", quantity: "1500000", records: 2 },
    { provider: "openai", model: "gpt-x", unit: "output", quantity: "500000", records: 2 },
    { model: "own-7b", unit: "tokens", quantity: "500000", records: 1 },
  ]);
  const ofTeam = await modelsView(backend, { ...RANGE, value: "vision" });
  assertEquals(ofTeam.models.map(({ model, tokens, costs }) => [model, tokens, costs[0].cost]), [
    ["gpt-x", 1_000_000, "2.5"],
  ]);
  await backend.close();
});

Deno.test("devicesView() tells idle devices and what they cost", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const samples = (deviceId: string, deviceIndex: number, utilization: number) =>
    Array.from({ length: 4 }, (_, i) => ({
      timestamp: NEW_YEAR + i * MINUTE,
      clusterId: "prod",
      nodeId: "n1",
      deviceId,
      deviceIndex,
      utilization,
      memoryTotal: 80,
    }));
  await write(backend, deviceMetrics, [...samples("gpu-b", 1, 2), ...samples("gpu-a", 0, 75)]);
  await write(backend, costEntries, [
    costEntry({
      entryId: "n1",
      amount: "8",
      timestamp: NEW_YEAR,
      resourceId: "n1",
      currency: "USD",
      basis: "estimated",
    }),
  ]);
  const { devices, totals } = await devicesView(backend, RANGE);
  assertEquals(
    devices.map(({ deviceId, utilization, isIdle, costs }) => [deviceId, utilization, isIdle, costs]),
    [
      ["gpu-a", 75, undefined, [{ currency: "USD", cost: "4", idleCost: "1" }]],
      ["gpu-b", 2, true, [{ currency: "USD", cost: "4", idleCost: "3.92" }]],
    ],
  );
  assertEquals(totals, [{ currency: "USD", cost: "8", idleCost: "4.92", costOfIdleDevices: "4" }]);
  const billed = await devicesView(backend, { ...RANGE, basis: "billed" });
  assertEquals([billed.totals, billed.devices.length], [[], 2]);
  await backend.close();
});

Deno.test("clustersView() lists nodes and services with status and age", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const at = NEW_YEAR + HOUR;
  const node = (nodeId: string, age: number, more: object) => ({
    clusterId: "prod",
    nodeId,
    timestamp: at - age,
    ...more,
  });
  await write(backend, systemMetrics, [
    node("n1", 2 * MINUTE, { cpuUsage: 10 }),
    node("n1", MINUTE, { cpuUsage: 30, costPerHour: 2 }),
    node("n2", 0, { healthStatus: "critical" }),
    node("old", HOUR, {}),
  ]);
  await write(backend, serviceMetrics, [
    {
      serviceName: "api",
      timestamp: at - MINUTE,
      status: "running",
      requestRate: 4,
      dependencyHealth: { db: "down" },
    },
  ]);
  const { nodes, services } = await clustersView(backend, { at });
  assertEquals(nodes, [
    {
      clusterId: "prod",
      nodeId: "n1",
      status: "healthy",
      lastSeen: at - MINUTE,
      cpuUsage: 30,
      costPerHour: 2,
    },
    { clusterId: "prod", nodeId: "n2", status: "critical", lastSeen: at },
  ]);
  assertEquals(services, [
    {
      serviceName: "api",
      status: "running",
      downDependencies: ["db"],
      lastSeen: at - MINUTE,
      requestRate: 4,
    },
    { serviceName: "db", status: "down", downDependencies: [] },
  ]);
  await backend.close();
});

Deno.test("dataHealthView() tells retention, dead letters and counters of its process", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const letters = new DeadLetters(folder.path, "cost_entries");
  for (const message of ["first", "second"]) {
    await letters.append({ batchId: message, message, record: {} });
  }
  const config = { deadLetterDirectory: folder.path, retentionDays: { system_metrics: 30 } };
  const { datasets, deadLetters, deliveries } = await dataHealthView(backend, NEW_YEAR, { config });
  assertEquals(deadLetters?.map(({ dataset, count, message }) => [dataset, count, message]), [
    ["cost_entries", 2, "second"],
  ]);
  const days = Object.fromEntries(datasets.map(({ dataset, retentionDays }) => [dataset, retentionDays]));
  assertEquals([days.system_metrics, days.service_metrics, days.cost_entries], [30, 90, undefined]);
  assertEquals(deliveries, []);
  const alone = await dataHealthView(backend, NEW_YEAR);
  assertEquals([alone.deadLetters, alone.pipelines], [undefined, undefined]);
  await backend.close();
});

Deno.test("costSummary() reads each answer once, and without groups those of the totals only", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const at = NEW_YEAR + 40 * DAY;
  await write(
    backend,
    costEntries,
    Array.from(
      { length: 40 },
      (_, i) =>
        costEntry({ entryId: String(i), timestamp: NEW_YEAR + i * DAY, amount: "2", currency: "USD" }),
    ),
  );
  const questions: string[] = [];
  const reader: Pick<Backend, "aggregate"> = {
    aggregate(dataset, query, parts) {
      questions.push(JSON.stringify([query, parts]));
      return backend.aggregate(dataset, query, parts);
    },
  };
  const range = { startTime: NEW_YEAR + 30 * DAY, endTime: at, at };
  const whole = await costSummary(reader, range);
  assertEquals(new Set(questions).size, questions.length);
  const count = questions.length;
  const { breakdowns, ...totals } = (await costSummary(reader, { ...range, top: 0 })).currencies[0];
  assertEquals([breakdowns, questions.length - count < count], [[], true]);
  const { breakdowns: _, ...same } = whole.currencies[0];
  assertEquals([totals, totals.total], [same, "20"]);
  await backend.close();
});
