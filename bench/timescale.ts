/**
 * Measures TimescaleDB: disk before and after compression, ingest with and without it, and what roll-ups save.
 * `deno run -A bench/timescale.ts [DAYS]`, on a machine whose PostgreSQL has the extension.
 *
 * @module
 */
import { ObservabilityHub, openBackend } from "../mod.ts";
import type { SystemMetricsInput } from "../mod.ts";
import { PostgresServer, serverVersion, TestDatabase, timescaleVersion } from "../tests/postgres_server.ts";
import { median } from "./median.ts";

const DAYS = Number(Deno.args[0] ?? 30);
const NODES = 64;
const STEP_MS = 15_000;
const START = Date.UTC(2026, 0, 1);
const HOUR_MS = 3_600_000;
/** Rows of each round that compares ways to take them in. */
const ROUND_ROWS = 1_000_000;
const ROUNDS = 3;

/** Numbers from 0 to 1, the same in every run. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const oneDecimal = (value: number) => Math.round(value * 10) / 10;

/** Samples with the shape of real hosts: days and weeks, noise, one decimal, and every eighth node idle. */
function* samples(rows: number): Generator<SystemMetricsInput> {
  const random = noise(1);
  for (let i = 0; i < rows; i++) {
    const node = i % NODES;
    const timestamp = START + Math.floor(i / NODES) * STEP_MS;
    const hour = (timestamp / HOUR_MS + node / 8) % 24;
    const isWeekend = Math.floor(timestamp / 86_400_000 + 4) % 7 >= 5;
    const day = Math.sin((hour - 8) / 24 * 2 * Math.PI);
    const isIdle = node % 8 === 7;
    const load = isIdle ? 0.01 : Math.max(0.02, (isWeekend ? 0.3 : 0.5) + 0.3 * day);
    const wobble = () => isIdle ? 0 : random() - 0.5;
    const gpuUsage = oneDecimal(Math.min(100, Math.max(0, 100 * load + 6 * wobble())));
    yield {
      timestamp,
      clusterId: node < 48 ? "train" : "serve",
      nodeId: `gpu-${String(node).padStart(2, "0")}`,
      cpuUsage: oneDecimal(Math.max(0, 60 * load + 4 * wobble())),
      memoryUsage: oneDecimal(30 + 40 * load + wobble()),
      diskUsage: oneDecimal(40 + node / 4 + (timestamp - START) / 86_400_000 / 3),
      gpuUsage,
      networkIo: oneDecimal(Math.max(0, 120 * load + 10 * wobble())),
      activeConnections: Math.round(40 * load + 3 * wobble()),
      errorCount: random() < 0.002 ? 1 : 0,
      warningCount: random() < 0.01 ? 1 : 0,
      throughput: oneDecimal(Math.max(0, 900 * load + 20 * wobble())),
      latencyP50: oneDecimal(8 + 10 * load + wobble()),
      latencyP95: oneDecimal(20 + 30 * load + 3 * wobble()),
      latencyP99: oneDecimal(45 + 60 * load + 8 * wobble()),
      errorRate: 0,
      trainingActive: !isIdle && node < 48,
      modelLoading: false,
      dataLoading: !isIdle && random() < 0.05,
      gradientSync: !isIdle && node < 48,
      checkpointSaving: Math.floor(timestamp / 60_000) % 30 === 0 && !isIdle,
      temperature: oneDecimal(35 + 40 * load + wobble()),
      powerConsumption: oneDecimal(80 + 320 * load + 8 * wobble()),
      fanSpeed: Math.round((1_200 + 2_400 * load) / 50) * 50,
      healthStatus: gpuUsage > 99 ? "warning" : "healthy",
      costPerHour: 2.5,
      estimatedDailyCost: 60,
      labels: { team: node < 48 ? "nlp" : "serving" },
    };
  }
}

/** Takes so many rows in; gives rows a second. */
async function ingest(connectionString: string, rows: number, enableCompression: boolean): Promise<number> {
  const backend = await openBackend({ backend: "timescaledb", connectionString, enableCompression });
  const hub = await ObservabilityHub.open({ backend });
  const start = performance.now();
  await ReadableStream.from(samples(rows)).pipeTo(hub.systemMetricsSink());
  const seconds = (performance.now() - start) / 1_000;
  await hub.close();
  await backend.close();
  return rows / seconds;
}

async function sizeOf(database: TestDatabase): Promise<number> {
  return Number((await database.sql("SELECT hypertable_size('system_metrics') AS bytes"))[0].bytes);
}

/** The least time of five runs, in milliseconds, as the server measures it. */
async function milliseconds(database: TestDatabase, sql: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const plan = await database.sql(`EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${sql}`);
    times.push((plan[0]["QUERY PLAN"] as { "Execution Time": number }[])[0]["Execution Time"]);
  }
  return Math.min(...times);
}

const HOURLY_FROM_ROWS = "SELECT time_bucket(INTERVAL '1 hour', timestamp) AS bucket, cluster_id, " +
  "avg(cpu_usage), max(gpu_usage), count(*) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2";
const HOURLY_FROM_ROLL_UP = "SELECT bucket, cluster_id, " +
  "sum(cpu_usage_avg * cpu_usage_count) / sum(cpu_usage_count), max(gpu_usage_max), sum(records) " +
  "FROM system_metrics_hourly GROUP BY 1, 2 ORDER BY 1, 2";

const thousands = (value: number) => `${Math.round(value / 1_000)}k`;
const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;

async function compareIngest(): Promise<void> {
  const rates: Record<string, number[]> = { plain: [], columns: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const enableCompression of [false, true]) {
      await using database = await TestDatabase.create();
      rates[enableCompression ? "columns" : "plain"].push(
        await ingest(database.url, ROUND_ROWS, enableCompression),
      );
    }
  }
  const ratio = median(rates.columns.map((rate, i) => rate / rates.plain[i]));
  console.log(`ingest of ${ROUND_ROWS.toLocaleString("en")} rows, median of ${ROUNDS} rounds`);
  console.log(`  without compression         ${thousands(median(rates.plain))}/s`);
  console.log(
    `  with, straight into columns ${thousands(median(rates.columns))}/s, ratio ${ratio.toFixed(2)}`,
  );
}

async function compareDisk(): Promise<void> {
  await using database = await TestDatabase.create();
  const rows = Math.floor(DAYS * 86_400_000 / STEP_MS) * NODES;
  await ingest(database.url, rows, false);
  await database.sql("VACUUM ANALYZE system_metrics");
  const before = await sizeOf(database);
  await database.sql("CALL refresh_continuous_aggregate('system_metrics_hourly', NULL, NULL)");
  await database.sql("VACUUM ANALYZE system_metrics_hourly").catch(() => {}); // a view in some releases
  const rollUp = await milliseconds(database, HOURLY_FROM_ROLL_UP);
  const raw = await milliseconds(database, HOURLY_FROM_ROWS);
  await (await openBackend({
    backend: "timescaledb",
    connectionString: database.url,
    enableCompression: true,
  })).close();
  await database.sql("SELECT compress_chunk(chunk) FROM show_chunks('system_metrics') chunk");
  await database.sql("VACUUM ANALYZE system_metrics");
  const after = await sizeOf(database);
  const columns = await milliseconds(database, HOURLY_FROM_ROWS);
  console.log(`\n${DAYS} days of ${NODES} nodes every 15 s: ${rows.toLocaleString("en")} rows`);
  console.log(`  disk with indexes, before   ${mib(before)}, ${Math.round(before / rows)} bytes a row`);
  console.log(`  disk with indexes, after    ${mib(after)}, ${(after / rows).toFixed(1)} bytes a row`);
  console.log(`  after compression           ${(after / before * 100).toFixed(1)} % of before`);
  console.log(`  hours by cluster, from rows          ${raw.toFixed(0)} ms`);
  console.log(`  the same, from compressed rows       ${columns.toFixed(0)} ms`);
  console.log(
    `  the same, from the hourly roll-up    ${rollUp.toFixed(1)} ms, a ${(raw / rollUp).toFixed(0)}th ` +
      `and a ${(columns / rollUp).toFixed(0)}th`,
  );
}

await using server = await PostgresServer.start({
  settings: ["fsync = on", "max_wal_size = 4GB", "shared_buffers = 2GB", "work_mem = 64MB"],
});
await server.loadTimescale();
Deno.env.set("TEST_POSTGRESQL_URL", server.url());
const { version, reason } = await timescaleVersion();
if (version === undefined) console.log(`Not run: timescaledb: ${reason}`);
else {
  console.log(`TimescaleDB ${version}, PostgreSQL ${await serverVersion()}\n`);
  await compareIngest();
  await compareDisk();
}
