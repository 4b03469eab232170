/**
 * Measures speed and memory, as ratios within one run: the machines are noisy. `deno task bench`.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { ObservabilityHub } from "../mod.ts";
import type { SystemMetricsInput } from "../mod.ts";
import { createSchema } from "../src/backends/sqlite_schema.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";

const RECORDS = 300_000;
const ROUNDS = 5;
const START = Date.UTC(2026, 0, 1);

/** Metrics with the shape of real ones: 64 nodes, one decimal, every field set. */
function metrics(i: number): SystemMetricsInput {
  const wave = Math.round(500 + 400 * Math.sin(i / 1_000)) / 10;
  return {
    timestamp: START + i * 15,
    clusterId: "prod",
    nodeId: `gpu-${i % 64}`,
    cpuUsage: wave,
    memoryUsage: 100 - wave,
    diskUsage: 40.5,
    gpuUsage: i % 100,
    networkIo: 1.5,
    activeConnections: i % 7,
    errorCount: 0,
    warningCount: 0,
    throughput: 100.5,
    latencyP50: 1.5,
    latencyP95: 2.5,
    latencyP99: 9.5,
    errorRate: 0.5,
    trainingActive: true,
    modelLoading: false,
    dataLoading: false,
    gradientSync: true,
    checkpointSaving: false,
    temperature: 60.5,
    powerConsumption: 300.5,
    fanSpeed: 1_000,
    healthStatus: "healthy",
    costPerHour: 2.5,
    estimatedDailyCost: 60,
    labels: { team: "nlp" },
  };
}

/** Made beforehand, for what is so fast that making records would be most of the time. */
const READY = Array.from({ length: 1_000 }, (_, i) => metrics(i));
const ready = (i: number) => READY[i % READY.length];

/** A stream of so many metrics, made as they are asked for. */
function source(records: number, make = metrics): ReadableStream<SystemMetricsInput> {
  let i = 0;
  return new ReadableStream({
    pull(controller) {
      for (const end = Math.min(i + 100, records); i < end; i++) controller.enqueue(make(i));
      if (i === records) controller.close();
    },
  });
}

/** Records a second. */
async function rate(records: number, run: () => Promise<void> | void): Promise<number> {
  const start = performance.now();
  await run();
  return records / (performance.now() - start) * 1_000;
}

/** The yardstick: a loop that inserts the same rows into the same table, as durably. */
function bareLoop(path: string, records: number): Promise<number> {
  const database = new DatabaseSync(path);
  database.exec("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  for (const statement of createSchema()) database.exec(statement);
  const fields = systemMetrics.columns.map(({ field }) => field as keyof SystemMetricsInput);
  const insert = database.prepare(`INSERT INTO system_metrics VALUES (${fields.map(() => "?").join(", ")})`);
  return rate(records, () => {
    for (let i = 0; i < records; i += 5_000) {
      database.exec("BEGIN IMMEDIATE");
      for (let k = i; k < i + 5_000; k++) {
        const record = metrics(k);
        insert.run(...fields.map((field) => {
          const value = record[field];
          if (typeof value === "boolean") return value ? 1 : 0;
          return typeof value === "object" ? JSON.stringify(value) : value as number | string;
        }));
      }
      database.exec("COMMIT");
    }
    database.close();
  });
}

async function intoSqlite(path: string, records: number, batchSize = 100): Promise<number> {
  const hub = await ObservabilityHub.open({ connectionString: `sqlite:///${path}`, batchSize });
  return await rate(records, async () => {
    await source(records).pipeTo(hub.systemMetricsSink());
    await hub.close();
  });
}

async function readBack(path: string, records: number): Promise<number> {
  await intoSqlite(path, records);
  await using hub = await ObservabilityHub.open({ connectionString: `sqlite:///${path}` });
  return await rate(records, async () => {
    let count = 0;
    for await (const _ of hub.streamHistoricalMetrics()) count++;
    if (count !== records) throw new Error(`${count} of ${records} records came back`);
  });
}

/** The yardstick in memory: a loop that pushes copies. */
function pushCopies(_path: string, records: number): Promise<number> {
  const copies: SystemMetricsInput[] = [];
  return rate(records, () => {
    for (let i = 0; i < records; i++) copies.push({ ...ready(i) });
  });
}

async function intoMemory(_path: string, records: number): Promise<number> {
  await using hub = new ObservabilityHub();
  return await rate(records, () => source(records, ready).pipeTo(hub.systemMetricsSink()));
}

async function collectIntoMemory(_path: string, records: number): Promise<number> {
  await using hub = new ObservabilityHub();
  return await rate(records, async () => {
    for (let i = 0; i < records; i++) await hub.collectSystemMetrics(ready(i));
    await hub.flush();
  });
}

/** The most memory that it takes to store so many records, in MiB. */
async function peakMemory(path: string, records: number): Promise<number> {
  let peak = 0;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  await intoSqlite(path, records);
  clearInterval(watch);
  return peak / 2 ** 20;
}

/** What is measured. Each gives records a second, but for the memory. */
const MEASURES: Readonly<Record<string, (path: string, records: number) => Promise<number>>> = {
  bareLoop,
  intoSqlite,
  intoSqlite5000: (path, records) => intoSqlite(path, records, 5_000),
  readBack,
  pushCopies,
  intoMemory,
  collectIntoMemory,
  peakMemory,
};

/** Measures in a process of its own, so that nothing is left of what was measured before. */
async function measure(name: string, records = RECORDS): Promise<number> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--cached-only", import.meta.url, name, String(records)],
    stderr: "inherit",
  }).output();
  return Number(new TextDecoder().decode(stdout));
}

/** What the process of {@linkcode measure} does: a short warm-up, and the measure. */
async function measureHere(name: string, records: number): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  try {
    if (name !== "peakMemory") await MEASURES[name](`${folder}/warm-up.db`, 100_000);
    console.log(await MEASURES[name](`${folder}/bench.db`, records));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function show(title: string, rates: readonly number[], against?: readonly number[]): void {
  const thousands = (value: number) => `${Math.round(value / 1_000)}k`;
  const spread = `${thousands(Math.min(...rates))} to ${thousands(Math.max(...rates))}`;
  const ratio = against ? median(rates.map((value, i) => value / against[i])).toFixed(2) : "";
  console.log(`${title.padEnd(46)} ${thousands(median(rates)).padStart(6)}/s  (${spread})  ${ratio}`);
}

async function main(): Promise<void> {
  const names = Object.keys(MEASURES).filter((name) => name !== "peakMemory");
  const found = Object.fromEntries(names.map((name) => [name, [] as number[]]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of names) found[name].push(await measure(name));
  }
  console.log(
    `${RECORDS} SystemMetrics, median (least to most) of ${ROUNDS} rounds, ratio to the line named\n`,
  );
  show("SQLite, bare node:sqlite loop", found.bareLoop);
  show("SQLite, systemMetricsSink(), to the bare loop", found.intoSqlite, found.bareLoop);
  show("  with batchSize 5000, to batchSize 100", found.intoSqlite5000, found.intoSqlite);
  show("SQLite, streamHistoricalMetrics()", found.readBack);
  show("memory, bare loop that pushes copies", found.pushCopies);
  show("memory, systemMetricsSink(), to the bare loop", found.intoMemory, found.pushCopies);
  show("memory, collectSystemMetrics(), to the same", found.collectIntoMemory, found.pushCopies);
  const few = await measure("peakMemory");
  const many = await measure("peakMemory", 10 * RECORDS);
  console.log(
    `\npeak memory: ${few.toFixed(0)} MiB for ${RECORDS} records, ${many.toFixed(0)} MiB for ${
      10 * RECORDS
    }: ` +
      `${(many / few).toFixed(2)} times`,
  );
}

if (Deno.args.length > 0) await measureHere(Deno.args[0], Number(Deno.args[1]));
else await main();
