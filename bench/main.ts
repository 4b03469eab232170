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

/** A stream of so many metrics, made as they are asked for. */
function source(records: number): ReadableStream<SystemMetricsInput> {
  let i = 0;
  return new ReadableStream({
    pull(controller) {
      for (const end = Math.min(i + 100, records); i < end; i++) controller.enqueue(metrics(i));
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

function remove(path: string): void {
  for (const suffix of ["", "-wal", "-shm"]) {
    try {
      Deno.removeSync(path + suffix);
    } catch {
      // was not there
    }
  }
}

/** The yardstick: a loop that inserts the same rows into the same table, as durably. */
function bareLoop(path: string): number | Promise<number> {
  remove(path);
  const database = new DatabaseSync(path);
  database.exec("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  for (const statement of createSchema()) database.exec(statement);
  const fields = systemMetrics.columns.map(({ field }) => field as keyof SystemMetricsInput);
  const insert = database.prepare(`INSERT INTO system_metrics VALUES (${fields.map(() => "?").join(", ")})`);
  return rate(RECORDS, () => {
    for (let i = 0; i < RECORDS; i += 5_000) {
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

async function intoSqlite(path: string, batchSize: number): Promise<number> {
  remove(path);
  const hub = await ObservabilityHub.open({ connectionString: `sqlite:///${path}`, batchSize });
  const measured = await rate(RECORDS, async () => {
    await source(RECORDS).pipeTo(hub.systemMetricsSink());
    await hub.close();
  });
  return measured;
}

async function intoMemory(): Promise<number> {
  await using hub = new ObservabilityHub();
  return await rate(RECORDS, () => source(RECORDS).pipeTo(hub.systemMetricsSink()));
}

async function collectIntoMemory(): Promise<number> {
  await using hub = new ObservabilityHub();
  return await rate(RECORDS, async () => {
    for (let i = 0; i < RECORDS; i++) await hub.collectSystemMetrics(metrics(i));
    await hub.flush();
  });
}

async function readBack(path: string): Promise<number> {
  await using hub = await ObservabilityHub.open({ connectionString: `sqlite:///${path}` });
  return await rate(RECORDS, async () => {
    let count = 0;
    for await (const _ of hub.streamHistoricalMetrics()) count++;
    if (count !== RECORDS) throw new Error(`${count} of ${RECORDS} records came back`);
  });
}

/** The most memory that a process of its own takes to store so many records, in MiB. */
async function peakMemory(path: string, records: number): Promise<number> {
  remove(path);
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--cached-only", import.meta.url, "memory", path, String(records)],
    stderr: "inherit",
  }).output();
  return Number(new TextDecoder().decode(stdout));
}

async function storeAndPrintPeak([path, records]: string[]): Promise<void> {
  const hub = await ObservabilityHub.open({ connectionString: `sqlite:///${path}` });
  let peak = 0;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  await source(Number(records)).pipeTo(hub.systemMetricsSink());
  clearInterval(watch);
  await hub.close();
  console.log(peak / 2 ** 20);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function show(title: string, rates: readonly number[], against?: readonly number[]): void {
  const thousands = (value: number) => `${Math.round(value / 1_000)}k`;
  const spread = `${thousands(Math.min(...rates))} to ${thousands(Math.max(...rates))}`;
  const ratio = against ? median(rates.map((value, i) => value / against[i])).toFixed(2) : "";
  console.log(`${title.padEnd(44)} ${thousands(median(rates)).padStart(6)}/s  (${spread})  ${ratio}`);
}

async function main(): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  const path = `${folder}/bench.db`;
  try {
    const results: Record<"bare" | "hub" | "large" | "read" | "memory" | "collect", number[]> = {
      bare: [],
      hub: [],
      large: [],
      read: [],
      memory: [],
      collect: [],
    };
    for (let round = 0; round <= ROUNDS; round++) {
      const found = {
        bare: await bareLoop(path),
        hub: await intoSqlite(path, 100),
        read: await readBack(path),
        large: await intoSqlite(path, 5_000),
        memory: await intoMemory(),
        collect: await collectIntoMemory(),
      };
      if (round === 0) continue; // warm-up
      for (const [name, value] of Object.entries(found)) results[name as keyof typeof results].push(value);
    }
    console.log(
      `${RECORDS} SystemMetrics, median (least to most) of ${ROUNDS} rounds, ratio to the line named\n`,
    );
    show("SQLite, bare node:sqlite loop", results.bare);
    show("SQLite, systemMetricsSink(), to the bare loop", results.hub, results.bare);
    show("  with batchSize 5000, to batchSize 100", results.large, results.hub);
    show("SQLite, streamHistoricalMetrics()", results.read);
    show("memory, systemMetricsSink()", results.memory);
    show("memory, collectSystemMetrics()", results.collect);
    const few = await peakMemory(path, RECORDS);
    const many = await peakMemory(path, 10 * RECORDS);
    console.log(
      `\npeak memory: ${few.toFixed(0)} MiB for ${RECORDS} records, ${many.toFixed(0)} MiB for ${
        10 * RECORDS
      }: ` +
        `${(many / few).toFixed(2)} times`,
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

if (Deno.args[0] === "memory") await storeAndPrintPeak(Deno.args.slice(1));
else await main();
