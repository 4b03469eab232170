/**
 * Measures speed and memory, as ratios within one run: the machines are noisy. `deno task bench`.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { ObservabilityHub } from "../mod.ts";
import type { SystemMetricsInput } from "../mod.ts";
import { createSchema } from "../src/backends/sqlite/schema.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { PostgresServer, runSql, serverVersion, TestDatabase } from "../tests/postgres_server.ts";
import { median } from "./median.ts";

const RECORDS = 300_000;
const POSTGRES_RECORDS = 500_000;
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

async function ingest(
  connectionString: string,
  records: number,
  { batchSize = 100, spoolDirectory }: { batchSize?: number; spoolDirectory?: string } = {},
): Promise<number> {
  const hub = await ObservabilityHub.open({ connectionString, batchSize, spoolDirectory });
  return await rate(records, async () => {
    await source(records).pipeTo(hub.systemMetricsSink());
    await hub.close();
  });
}

/** With a spool that is synced by batch. */
async function ingestSpooled(connectionString: string, records: number): Promise<number> {
  const spoolDirectory = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  try {
    return await ingest(connectionString, records, { spoolDirectory });
  } finally {
    Deno.removeSync(spoolDirectory, { recursive: true });
  }
}

async function readBack(connectionString: string, records: number): Promise<number> {
  await ingest(connectionString, records);
  await using hub = await ObservabilityHub.open({ connectionString });
  return await rate(records, async () => {
    let count = 0;
    for await (const _ of hub.streamHistoricalMetrics()) count++;
    if (count !== records) throw new Error(`${count} of ${records} records came back`);
  });
}

/** The yardsticks of PostgreSQL: its own client copies the same rows out of the same table, and into it again. */
async function psql(connectionString: string, records: number, direction: "in" | "out"): Promise<number> {
  await ingest(connectionString, records);
  const file = Deno.makeTempFileSync();
  try {
    const copyOut = `\\copy (SELECT * FROM system_metrics ORDER BY timestamp) TO '${file}'`;
    if (direction === "out") return await rate(records, () => runPsql(connectionString, copyOut));
    await runPsql(connectionString, copyOut);
    await runSql(connectionString, "TRUNCATE system_metrics");
    return await rate(records, () => runPsql(connectionString, `\\copy system_metrics FROM '${file}'`));
  } finally {
    Deno.removeSync(file);
  }
}

async function runPsql(connectionString: string, command: string): Promise<void> {
  const args = ["-X", "-q", connectionString, "-c", command];
  const { success, stderr } = await new Deno.Command("psql", { args }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
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
async function peakMemory(connectionString: string, records: number): Promise<number> {
  let peak = 0;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  await ingest(connectionString, records);
  clearInterval(watch);
  return peak / 2 ** 20;
}

type Measure = (connectionString: string, records: number) => Promise<number>;

const IN_MEMORY: Readonly<Record<string, Measure>> = { pushCopies, intoMemory, collectIntoMemory };
const ON_SQLITE: Readonly<Record<string, Measure>> = {
  bareLoop: (connectionString, records) => bareLoop(connectionString.replace("sqlite:///", ""), records),
  intoSqlite: (connectionString, records) => ingest(connectionString, records),
  intoSqlite5000: (connectionString, records) => ingest(connectionString, records, { batchSize: 5_000 }),
  intoSqliteSpooled: ingestSpooled,
  outOfSqlite: readBack,
  peakOfSqlite: peakMemory,
};
const ON_POSTGRESQL: Readonly<Record<string, Measure>> = {
  psqlIn: (connectionString, records) => psql(connectionString, records, "in"),
  psqlOut: (connectionString, records) => psql(connectionString, records, "out"),
  intoPostgresql: (connectionString, records) => ingest(connectionString, records),
  intoPostgresql5000: (connectionString, records) => ingest(connectionString, records, { batchSize: 5_000 }),
  intoPostgresqlSpooled: ingestSpooled,
  outOfPostgresql: readBack,
  peakOfPostgresql: peakMemory,
};

/** Measures in a process of its own, so that nothing is left of what was measured before. */
async function measure(
  name: string,
  records = name in ON_POSTGRESQL ? POSTGRES_RECORDS : RECORDS,
): Promise<number> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--cached-only", import.meta.url, name, String(records)],
    stderr: "inherit",
  }).output();
  return Number(new TextDecoder().decode(stdout));
}

/** What the process of {@linkcode measure} does: a short warm-up, and the measure. Each has a database of its own. */
async function measureHere(name: string, records: number): Promise<void> {
  const warmUp = name.startsWith("peak") || name.startsWith("psql") ? [] : [100_000];
  for (const count of [...warmUp, records]) {
    const found = name in ON_POSTGRESQL ? await onPostgresql(name, count) : await onFile(name, count);
    if (count === records) console.log(found);
  }
}

async function onFile(name: string, records: number): Promise<number> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  try {
    return await { ...IN_MEMORY, ...ON_SQLITE }[name](`sqlite:///${folder}/bench.db`, records);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

async function onPostgresql(name: string, records: number): Promise<number> {
  await using database = await TestDatabase.create();
  return await ON_POSTGRESQL[name](database.url, records);
}

function show(title: string, rates: readonly number[], against?: readonly number[]): void {
  const thousands = (value: number) => `${Math.round(value / 1_000)}k`;
  const spread = `${thousands(Math.min(...rates))} to ${thousands(Math.max(...rates))}`;
  const ratio = against ? median(rates.map((value, i) => value / against[i])).toFixed(2) : "";
  console.log(`${title.padEnd(46)} ${thousands(median(rates)).padStart(6)}/s  (${spread})  ${ratio}`);
}

/** Measures some things in turn, over some rounds; gives the figures of each. */
async function rounds(names: readonly string[]): Promise<Record<string, number[]>> {
  const found = Object.fromEntries(names.map((name) => [name, [] as number[]]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of names) found[name].push(await measure(name));
  }
  return found;
}

async function showPeak(name: string, records: number): Promise<void> {
  const few = await measure(name, records);
  const many = await measure(name, 10 * records);
  console.log(
    `  peak memory: ${few.toFixed(0)} MiB for ${records} records, ${many.toFixed(0)} MiB for ${
      10 * records
    }: ` +
      `${(many / few).toFixed(2)} times`,
  );
}

async function compareOnPostgresql(): Promise<void> {
  await using server = await PostgresServer.start({ settings: ["fsync = on", "max_wal_size = 4GB"] });
  Deno.env.set("TEST_POSTGRESQL_URL", server.url());
  const version = await serverVersion();
  const hasPsql = await new Deno.Command("psql", { args: ["--version"] }).output().then(
    () => true,
    () => false,
  );
  if (!hasPsql) console.log("Not run: psql, which this machine does not have");
  const names = Object.keys(ON_POSTGRESQL).filter((name) =>
    !name.startsWith("peak") && (hasPsql || !name.startsWith("psql"))
  );
  const found = await rounds(names);
  console.log(`\nPostgreSQL ${version}, ${POSTGRES_RECORDS} records`);
  if (hasPsql) show("psql \\copy FROM", found.psqlIn);
  show("systemMetricsSink(), to psql", found.intoPostgresql, found.psqlIn);
  show("  with batchSize 5000, to batchSize 100", found.intoPostgresql5000, found.intoPostgresql);
  show("  with a spool, to without", found.intoPostgresqlSpooled, found.intoPostgresql);
  if (hasPsql) show("psql \\copy (SELECT …) TO", found.psqlOut);
  show("streamHistoricalMetrics(), to psql", found.outOfPostgresql, found.psqlOut);
  await showPeak("peakOfPostgresql", POSTGRES_RECORDS);
}

async function main(): Promise<void> {
  console.log(`SystemMetrics: median a second (least to most) of ${ROUNDS} rounds, ratio to the line named`);
  await compareOnPostgresql();
  const found = await rounds(
    [...Object.keys(ON_SQLITE), ...Object.keys(IN_MEMORY)].filter((name) => !name.startsWith("peak")),
  );
  console.log(`\nSQLite, ${RECORDS} records`);
  show("bare node:sqlite loop", found.bareLoop);
  show("systemMetricsSink(), to the bare loop", found.intoSqlite, found.bareLoop);
  show("  with batchSize 5000, to batchSize 100", found.intoSqlite5000, found.intoSqlite);
  show("  with a spool, to without", found.intoSqliteSpooled, found.intoSqlite);
  show("streamHistoricalMetrics()", found.outOfSqlite);
  await showPeak("peakOfSqlite", RECORDS);
  console.log(`\nIn memory, ${RECORDS} records`);
  show("bare loop that pushes copies", found.pushCopies);
  show("systemMetricsSink(), to the bare loop", found.intoMemory, found.pushCopies);
  show("collectSystemMetrics(), to the same", found.collectIntoMemory, found.pushCopies);
}

if (Deno.args.length > 0) await measureHere(Deno.args[0], Number(Deno.args[1]));
else await main();
