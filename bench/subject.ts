/**
 * Measured work in its own process. Reads one {@linkcode Order} a line from stdin, and writes
 * {@linkcode Done} a line on stdout.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import process from "node:process";
import {
  CostObservatory,
  importRecords,
  migrate,
  ObservabilityHub,
  openBackend,
  type PersistenceConfig,
  type SystemMetricsInput,
} from "../mod.ts";
import { loadDuckdbDriver } from "../src/backends/duckdb/driver.ts";
import { DuckdbSession } from "../src/backends/duckdb/session.ts";
import { append, p99, post, type PostOrder } from "./posts.ts";
import { QUESTIONS } from "./questions.ts";
import { type Measured, type Precision, sample, source } from "./records.ts";

/** Work of a process. */
export type Order =
  | {
    readonly what: "ingest";
    dataset: Measured;
    records: number;
    config: PersistenceConfig;
    precision?: Precision;
  }
  | { readonly what: "bare"; path: string; sql: string; isCold?: boolean }
  | { readonly what: "import"; dataset: Measured; records: number; path: string; connectionString: string }
  | { readonly what: "collect" | "push"; records: number }
  | { readonly what: "read"; connectionString: string; records: number }
  | { readonly what: "iterate"; path: string; records: number }
  | { readonly what: "answer"; connectionString: string; question: string }
  | { readonly what: "migrate"; from: string; to: string }
  | { readonly what: "post" | "post-latency" } & PostOrder
  | { readonly what: "append-latency"; dataset: Measured; records: number; path: string }
  | {
    readonly what: "execute_values";
    url: string;
    path: string;
    table: string;
    columns: readonly { readonly name: string; readonly type: string }[];
    pageSize: number;
  };

/** Result of an order. */
export interface Done {
  readonly seconds: number;
  /** The most memory that the process has had, in MiB; Python does not say. */
  readonly peak?: number;
}

type Run<T extends Order["what"]> = (order: Extract<Order, { what: T }>) => Promise<number>;

async function seconds(run: () => Promise<void> | void): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1_000;
}

/** From the first record until all are committed and the backend is closed. */
async function ingest(
  { dataset, records, config, precision }: Parameters<Run<"ingest">>[0],
): Promise<number> {
  if (dataset === "cost_entries" || dataset === "usage_records") {
    const costs = await CostObservatory.open(config);
    return await seconds(async () => {
      await source<never>(dataset, records).pipeTo(
        dataset === "cost_entries" ? costs.costEntriesSink() : costs.usage.sink(),
      );
      assertCount((await costs.close()).committed, records);
    });
  }
  const hub = await ObservabilityHub.open(config);
  return await seconds(async () => {
    await source<never>(dataset, records, precision).pipeTo(
      dataset === "system_metrics" ? hub.systemMetricsSink() : hub.deviceMetrics.sink(),
    );
    assertCount((await hub.close()).committed, records);
  });
}

/** DuckDB itself, with a file open and its own settings. Its results are read, the second time if it is not cold. */
async function bare({ path, sql, isCold = false }: Parameters<Run<"bare">>[0]): Promise<number> {
  const driver = await loadDuckdbDriver();
  const config = driver.create_config();
  const database = await driver.get_or_create_from_cache(driver.create_instance_cache(), path, config);
  const session = new DuckdbSession(driver, await driver.connect(database));
  if (!isCold) await session.query(sql);
  const found = await seconds(async () => void await session.query(sql));
  await session.close();
  driver.close_sync(database);
  return found;
}

/** From the opening of the file until all is published and the backend is closed. */
async function importFile({ dataset, records, path, connectionString }: Parameters<Run<"import">>[0]) {
  const backend = await openBackend({ connectionString });
  return await seconds(async () => {
    const file = await Deno.open(path);
    const { stored } = await importRecords(file.readable, { backend, dataset, format: "csv" });
    await backend.close();
    assertCount(stored, records);
  });
}

async function collect({ records }: { records: number }): Promise<number> {
  await using hub = new ObservabilityHub();
  sample(0);
  return await seconds(async () => {
    for (let i = 0; i < records; i++) await hub.collectSystemMetrics(sample(i));
    await hub.flush();
  });
}

/** The yardstick in memory: a loop that pushes copies. */
function push({ records }: { records: number }): Promise<number> {
  const copies: SystemMetricsInput[] = [];
  sample(0);
  return seconds(() => {
    for (let i = 0; i < records; i++) copies.push({ ...sample(i) });
  });
}

async function read({ connectionString, records }: Parameters<Run<"read">>[0]): Promise<number> {
  await using hub = await ObservabilityHub.open({ connectionString });
  return await seconds(async () => {
    let count = 0;
    for await (const _ of hub.streamHistoricalMetrics()) count++;
    assertCount(count, records);
  });
}

async function iterate({ path, records }: Parameters<Run<"iterate">>[0]): Promise<number> {
  const database = new DatabaseSync(path);
  const statement = database.prepare("SELECT * FROM system_metrics ORDER BY timestamp");
  const found = await seconds(() => {
    let count = 0;
    for (const _ of statement.iterate()) count++;
    assertCount(count, records);
  });
  database.close();
  return found;
}

function assertCount(count: number, records: number): void {
  if (count !== records) throw new Error(`${count} of ${records} records are there`);
}

async function answer({ connectionString, question }: Parameters<Run<"answer">>[0]): Promise<number> {
  await using hub = await ObservabilityHub.open({ connectionString });
  await using costs = await CostObservatory.open({ connectionString });
  const ask = async () => {
    const rows = await QUESTIONS[question].ask(hub, costs);
    if (rows.length === 0) throw new Error(`there is no answer to ${question}`);
  };
  await ask(); // its pages are in memory, as in a process that has run for a while
  return await seconds(ask);
}

async function migrateAll({ from, to }: Parameters<Run<"migrate">>[0]): Promise<number> {
  const source = await openBackend({ connectionString: from }, { mode: "read" });
  const target = await openBackend({ connectionString: to });
  const found = await seconds(async () => {
    const reports = await migrate(source, target);
    if (!reports.every(({ isSame }) => isSame)) throw new Error("both sides differ");
  });
  await source.close();
  await target.close();
  return found;
}

const RUNS: { readonly [T in Exclude<Order["what"], "execute_values">]: Run<T> } = {
  ingest,
  bare,
  import: importFile,
  collect,
  push,
  read,
  iterate,
  answer,
  migrate: migrateAll,
  post: async (order) => (await post(order)).seconds,
  "post-latency": async (order) => p99((await post(order)).latencies),
  "append-latency": async (order) => p99(await append(order)),
};

if (import.meta.main) {
  const { createInterface } = await import("node:readline");
  for await (const line of createInterface({ input: process.stdin })) {
    const order: Order = JSON.parse(line);
    const found = await (RUNS[order.what as keyof typeof RUNS] as (order: Order) => Promise<number>)(order);
    const done: Done = { seconds: found, peak: process.resourceUsage().maxRSS / 1_024 };
    console.log(JSON.stringify(done));
  }
}
