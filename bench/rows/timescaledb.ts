import { openBackend } from "../../mod.ts";
import { runSql } from "../../tests/postgres_server.ts";
import type { Places } from "../fixtures.ts";
import type { Family } from "../row.ts";

/** 15 days of 64 nodes every 15 seconds. */
const RECORDS = 5_529_600;

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
async function secondsOf(url: string, sql: string): Promise<number> {
  const [plan] = await runSql(url, `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${sql}`);
  return (plan["QUERY PLAN"] as { "Execution Time": number }[])[0]["Execution Time"] / 1_000;
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
