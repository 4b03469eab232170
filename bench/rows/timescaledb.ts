import { openBackend } from "../../mod.ts";
import { runSql } from "../../tests/postgres_server.ts";
import { columnOf } from "../../src/records/dataset.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import type { Places } from "../fixtures.ts";
import { QUESTIONS } from "../questions.ts";
import type { Family } from "../row.ts";

/** 15 days of 64 nodes every 15 seconds. */
const RECORDS = 5_529_600;
const DOMAIN_RECORDS = 2_000_000;
const JIT_RECORDS = 2_500_000;

const HOURLY_FROM_ROWS = "SELECT time_bucket(INTERVAL '1 hour', timestamp) AS bucket, cluster_id, " +
  "avg(cpu_usage), max(gpu_usage), count(*) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2";
const HOURLY_FROM_ROLL_UP = "SELECT bucket, cluster_id, " +
  "sum(cpu_usage_avg * cpu_usage_count) / sum(cpu_usage_count), max(gpu_usage_max), sum(records) " +
  "FROM system_metrics_hourly GROUP BY 1, 2 ORDER BY 1, 2";

/** A hypertable with so many records and its roll-up. */
async function hypertable(places: Places, records: number): Promise<string> {
  const { url } = places.use(await places.database("timescaledb"));
  await places.ingest("system_metrics", records, { backend: "timescaledb", connectionString: url });
  await runSql(url, "VACUUM ANALYZE system_metrics");
  return url;
}

async function bytesPerRecord(url: string, records: number): Promise<number> {
  const [{ bytes }] = await runSql(url, "SELECT hypertable_size('system_metrics') AS bytes");
  return Number(bytes) / records;
}

/** The seconds of a query, as the server measures them. */
async function secondsOf(url: string, sql: string, setting = "jit = on"): Promise<number> {
  const [plan] = await runSql(url, `SET ${setting}; EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${sql}`);
  return (plan["QUERY PLAN"] as { "Execution Time": number }[])[0]["Execution Time"] / 1_000;
}

const HOURS = QUESTIONS.hours.postgresql;

/** A copy of the hypertable whose measures are `double precision`, compressed as it is. */
async function copyWithoutDomain(url: string): Promise<void> {
  const measures = systemMetrics.columns.filter(({ type }) => type === "real")
    .map(({ name }) => `ALTER COLUMN ${name} TYPE double precision`);
  await runSql(
    url,
    `CREATE TABLE plain (LIKE system_metrics); ALTER TABLE plain ${measures.join(", ")}; ` +
      "SELECT create_hypertable('plain', by_range('timestamp', INTERVAL '1 day')); " +
      `ALTER TABLE plain SET (timescaledb.enable_columnstore, timescaledb.orderby = '${
        systemMetrics.sortBy.map((field) => columnOf(systemMetrics, field).name).join(", ")
      }')`,
  );
  await runSql(url, "INSERT INTO plain SELECT * FROM system_metrics");
  await runSql(url, "SELECT compress_chunk(chunk) FROM show_chunks('plain') chunk");
  await runSql(url, "VACUUM ANALYZE plain");
}

/** Days of the records for a hypertable with many chunks. */
const MANY_DAYS = 50;

async function manyChunks(places: Places, records: number): Promise<string> {
  const { url } = places.use(await places.tables("timescaledb", "system_metrics", 1));
  await runSql(
    url,
    "INSERT INTO system_metrics (timestamp, cluster_id, node_id, cpu_usage, gpu_usage) " +
      `SELECT '2026-01-01 UTC'::timestamptz + i * INTERVAL '${MANY_DAYS} days' / ${records}, 'c' || i % 4, ` +
      `'n' || i % 64, 100 * random(), 100 * random() FROM generate_series(0, ${records - 1}) AS i`,
  );
  await runSql(url, "VACUUM ANALYZE system_metrics");
  return url;
}

/** Savings by compression and rollups. */
export const timescaleRows: Family = {
  name: "timescaledb",
  rows: [
    {
      name: "roll-up-timescaledb",
      work: "hours by cluster, from the hourly roll-up",
      against: "the same from rows",
      quantity: "time",
      records: RECORDS,
      open: async (places, records) => {
        const url = await hypertable(places, records);
        await runSql(url, "CALL refresh_continuous_aggregate('system_metrics_hourly', NULL, NULL)");
        return {
          ours: () => secondsOf(url, HOURLY_FROM_ROLL_UP),
          theirs: () => secondsOf(url, HOURLY_FROM_ROWS),
        };
      },
    },
    {
      name: "domain-timescaledb",
      work: `${QUESTIONS.hours.title}, of compressed measures with a domain`,
      against: "of plain `double precision`",
      quantity: "time",
      records: DOMAIN_RECORDS,
      open: async (places, records) => {
        const url = await places.filled("timescaledb", { system_metrics: records });
        await copyWithoutDomain(url);
        return {
          ours: () => secondsOf(url, HOURS, "jit = off"),
          theirs: () => secondsOf(url, HOURS.replace("system_metrics", "plain"), "jit = off"),
        };
      },
    },
    {
      name: "jit-timescaledb",
      work: `${QUESTIONS.hours.title}, of ${MANY_DAYS} chunks with \`jit\` off`,
      against: "with `jit` on",
      quantity: "time",
      records: JIT_RECORDS,
      open: async (places, records) => {
        const url = await manyChunks(places, records);
        return {
          ours: () => secondsOf(url, HOURS, "jit = off"),
          theirs: () => secondsOf(url, HOURS, "jit = on"),
        };
      },
    },
    {
      name: "disk-timescaledb",
      work: "disk of SystemMetrics with indexes, compressed",
      against: "the same before",
      quantity: "disk",
      records: RECORDS,
      pairs: 1, // the same in every run
      isCold: true,
      open: async (places, records) => {
        const connectionString = await hypertable(places, records);
        const before = await bytesPerRecord(connectionString, records);
        await (await openBackend({ backend: "timescaledb", connectionString, enableCompression: true }))
          .close();
        await runSql(
          connectionString,
          "SELECT compress_chunk(chunk) FROM show_chunks('system_metrics') chunk",
        );
        await runSql(connectionString, "VACUUM ANALYZE system_metrics");
        return {
          ours: () => bytesPerRecord(connectionString, records),
          theirs: () => Promise.resolve(before),
        };
      },
    },
  ],
};
