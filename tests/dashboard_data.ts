/**
 * A small company's telemetry and costs, the same for each day: for the tests of the dashboard and for its screenshots.
 *
 * @module
 */
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { priceUsageRecords } from "../src/transfer/price_usage.ts";
import { PriceBook } from "../src/pricing/price_book.ts";
import { startOfDay } from "../src/records/periods.ts";
import { importCosts } from "../src/transfer/import_costs.ts";
import { Chance } from "./faults/chance.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const TEAMS = ["nlp", "vision", "search", "platform"];
const SERVICES: readonly [category: string, serviceName: string, perDay: number][] = [
  ["Compute", "GPU instances", 420],
  ["Compute", "CPU instances", 130],
  ["AI and Machine Learning", "Model API", 180],
  ["Storage", "Object storage", 60],
  ["Storage", "Block storage", 34],
  ["Networking", "Data transfer", 41],
  ["Databases", "PostgreSQL", 52],
  ["Management and Governance", "Monitoring", 12],
];
const MODELS: readonly [provider: string, model: string, perHour: number][] = [
  ["openai", "gpt-4o", 30],
  ["openai", "gpt-4o-mini", 90],
  ["anthropic", "claude-3-5-sonnet", 40],
  ["vllm", "llama-3-70b", 60],
  ["acme", "acme-embed-2", 20],
];

/** Options of {@linkcode fillDashboard}. */
export interface DashboardOptions {
  /** Time up to which there are records. */
  readonly now: number;
  /** Days of costs and usage. */
  readonly days: number;
  /** Tag of some costs beside the team, such as one that is hostile. */
  readonly tag?: string;
}

/** Fills a database. The same options give the same records. */
export async function fillDashboard(
  backend: Backend,
  { now, days, tag = "prod" }: DashboardOptions,
): Promise<void> {
  const chance = new Chance(7);
  const hub = await ObservabilityHub.open({ backend, batchSize: 5_000 });
  const costs = await CostObservatory.open({ backend, batchSize: 5_000 });
  await addCosts(costs, chance, { now, days, tag });
  await importBill(backend, { now, days });
  await addNodes(hub, costs, chance, now);
  await addUsage(costs, chance, { now, days: Math.min(days, 30) });
  await hub.flush();
  await costs.flush();
  await priceUsageRecords(backend, { book: await PriceBook.read(backend.documents) });
  for (
    const [budgetId, amount, tags] of [["all", "34000", undefined], ["nlp", "7600", { team: "nlp" }]] as const
  ) {
    await costs.createBudget({
      budgetId,
      name: budgetId,
      amount,
      currency: "USD",
      period: "1mo",
      basis: "billed",
      tags,
    });
  }
  await hub.close();
  await costs.close();
}

async function addCosts(
  costs: CostObservatory,
  chance: Chance,
  { now, days, tag }: Required<DashboardOptions>,
): Promise<void> {
  const today = startOfDay(now, "UTC");
  for (let day = -days + 1; day <= 0; day++) {
    const timestamp = today + day * DAY;
    const weekday = new Date(timestamp).getUTCDay() % 6 === 0 ? 0.7 : 1;
    for (const [category, serviceName, perDay] of SERVICES) {
      for (const [i, team] of TEAMS.entries()) {
        const growth = 1 + 0.3 * (days + day) / days;
        const spike = day === -9 && serviceName === "GPU instances" && team === "vision" ? 5 : 1;
        const cents = Math.round(
          perDay / 4 * (1 + i * 0.2) * weekday * growth * spike * chance.between(90, 110),
        );
        await costs.addCostEntry({
          entryId: `${serviceName}/${team}/${day}`,
          timestamp,
          category,
          serviceName,
          resourceId: `${serviceName.toLowerCase().replaceAll(" ", "-")}-${team}`,
          region: i % 2 === 0 ? "eu-west-1" : "us-east-1",
          amount: `${(cents / 100).toFixed(2)}0000${chance.between(1, 9)}`,
          currency: "USD",
          ...(chance.between(1, 20) === 1 ? {} : { tags: { team, env: i === 3 ? tag : "prod" } }),
        });
      }
    }
  }
}

/** A bill in another currency, as a vendor delivers it. */
async function importBill(backend: Backend, { now, days }: { now: number; days: number }): Promise<void> {
  const header = "Id,ChargePeriodStart,BilledCost,BillingCurrency,ServiceCategory,ServiceName,ResourceId";
  const lines = Array.from({ length: days }, (_, i) => {
    const day = new Date(now - i * DAY).toISOString().slice(0, 10);
    return `eur-${day},${day}T00:00:00Z,48.5,EUR,Compute,Colocation,rack-7`;
  });
  const bill = new Blob([[header, ...lines].join("\n")]);
  const open = () => Promise.resolve(bill.stream());
  await importCosts([{ name: "colocation.csv", format: "focus", open }], {
    backend,
    dataset: "cost_entries",
    format: "focus",
    source: "colocation",
  });
}

async function addNodes(
  hub: ObservabilityHub,
  costs: CostObservatory,
  chance: Chance,
  now: number,
): Promise<void> {
  const nodes = Array.from({ length: 6 }, (_, i) => `gpu-${String(i + 1).padStart(2, "0")}`);
  for (let timestamp = now - 2 * DAY; timestamp <= now; timestamp += 15 * MINUTE) {
    for (const [n, nodeId] of nodes.entries()) {
      const busy = n === 5 ? 4 : 88 - n * 9;
      const wave = Math.sin(timestamp / DAY * 2 * Math.PI) * 8;
      const load = (of: number) => Math.max(0, Math.min(100, of + wave + chance.between(-6, 6)));
      if (n < 5 || timestamp < now - HOUR) {
        await hub.systemMetrics.add({
          timestamp,
          clusterId: "prod",
          nodeId,
          cpuUsage: load(busy / 2),
          memoryUsage: load(60),
          gpuUsage: load(busy),
          powerConsumption: 900 + load(busy) * 22,
          latencyP50: 40 + load(20),
          latencyP95: 120 + load(60),
          costPerHour: 12.5,
          healthStatus: n === 3 ? "warning" : "healthy",
          trainingActive: n < 2,
        });
      }
      for (let device = 0; device < 8; device++) {
        await hub.deviceMetrics.add({
          timestamp,
          clusterId: "prod",
          nodeId,
          deviceId: `GPU-${nodeId}-${device}`,
          deviceIndex: device,
          model: "NVIDIA H100 80GB HBM3",
          utilization: n === 5 || device === 7 && n > 2 ? chance.between(0, 3) : load(busy - device * 3),
          memoryUsed: 40 * 2 ** 30,
          memoryTotal: 80 * 2 ** 30,
          powerConsumption: 120 + busy * 5,
          labels: n === 5
            ? { model: "llama-3-70b" }
            : { team: TEAMS[n % 4], model: n < 3 ? "llama-3-70b" : "research" },
        });
      }
    }
    for (
      const [serviceName, requestRate] of [["inference", 140], ["embeddings", 60], [
        "training-scheduler",
        2,
      ]] as const
    ) {
      await hub.serviceMetrics.add({
        serviceName,
        timestamp,
        status: serviceName === "embeddings" ? "degraded" : "running",
        requestRate: requestRate + chance.between(0, 9),
        responseTime: 80 + chance.between(0, 40),
        successRate: 99.2,
      });
    }
  }
  for (const nodeId of nodes) {
    for (let hour = Math.floor(now / HOUR) - 47; hour <= Math.floor(now / HOUR); hour++) {
      await costs.addCostEntry({
        entryId: `prod/${nodeId}/${hour}`,
        timestamp: hour * HOUR,
        category: "Compute",
        resourceId: nodeId,
        amount: "12.5",
        currency: "USD",
        basis: "estimated",
        source: "collect",
      });
    }
  }
}

async function addUsage(
  costs: CostObservatory,
  chance: Chance,
  { now, days }: { now: number; days: number },
): Promise<void> {
  for (let timestamp = now - days * DAY; timestamp <= now; timestamp += 4 * HOUR) {
    for (const [m, [provider, model, perHour]] of MODELS.entries()) {
      for (const team of TEAMS.slice(0, 3)) {
        const requests = Math.round(perHour * chance.between(80, 120) / 25);
        await costs.usage.add({
          usageId: `${model}/${team}/${timestamp}`,
          timestamp,
          provider,
          model,
          operation: "chat",
          requests,
          inputTokens: requests * chance.between(900, 1400),
          cacheReadTokens: requests * 300,
          outputTokens: requests * chance.between(150, 400),
          durationMs: 600 + m * 300 + chance.between(0, 900),
          timeToFirstTokenMs: 180 + m * 40 + chance.between(0, 90),
          tags: { team },
        });
      }
    }
  }
}
