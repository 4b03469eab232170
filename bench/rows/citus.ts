import { runSql } from "../../tests/postgres_server.ts";
import { openBackend } from "../../mod.ts";
import { acceptQuery } from "../../src/records/query.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import type { Places } from "../fixtures.ts";
import { program } from "../peers.ts";
import type { Measured } from "../records.ts";
import type { Family, Measure, Row } from "../row.ts";
import { byCopy, intoServer } from "./ingest.ts";

const RECORDS = 1_000_000;

/** A coordinator and two workers against one server. All of them share the cores of this machine. */
function ingest(dataset: Measured, work: string): Row {
  return {
    name: `ingest-${dataset === "system_metrics" ? "metrics" : "costs"}-citus`,
    work: `ingest ${work}, Citus (coordinator and two workers)`,
    against: "the same into PostgreSQL",
    quantity: "rate",
    records: RECORDS,
    reach: { atLeast: 0.8 },
    open: (places) =>
      Promise.resolve({
        ours: intoServer(places, dataset, { server: "citus" }),
        theirs: intoServer(places, dataset, { server: "postgresql" }),
      }),
  };
}

/** The same without this library: the overhead of two-phase commits and of the coordinator alone. */
function copy(dataset: Measured, work: string): Row {
  return {
    name: `copy-${dataset === "system_metrics" ? "metrics" : "costs"}-citus`,
    work: `\`psql\` \`\\copy\` of ${work} in one transaction, Citus`,
    against: "the same into PostgreSQL",
    quantity: "rate",
    records: RECORDS,
    open: async (places) => {
      await program("psql");
      return { ours: byCopy(places, dataset, "citus"), theirs: byCopy(places, dataset, "postgresql") };
    },
  };
}

/** The seconds of a statement in a session of its own. */
function timeOf(url: string, sql: string): Measure {
  return async () => {
    const start = performance.now();
    await runSql(url, sql);
    return (performance.now() - start) / 1_000;
  };
}

function answer(name: string, work: string, sql: string): Row {
  return {
    name: `answers-${name}-citus`,
    work: `${work}, Citus`,
    against: "the same in PostgreSQL",
    quantity: "time",
    records: RECORDS,
    open: async (places, records) => {
      const counts = { system_metrics: records };
      return {
        ours: timeOf(await places.filled("citus", counts), sql),
        theirs: timeOf(await places.filled("postgresql", counts), sql),
      };
    },
  };
}

/** Reads all records in the order of time. */
async function secondsOfStream(connectionString: string, backend: "citus" | "postgresql"): Promise<number> {
  const opened = await openBackend({ backend, connectionString });
  const start = performance.now();
  for await (const _page of opened.read(systemMetrics, acceptQuery(systemMetrics))) { /* counts nothing */ }
  const seconds = (performance.now() - start) / 1_000;
  await opened.close();
  return seconds;
}

const streamed: Row = {
  name: "stream-citus",
  work: "stream SystemMetrics out, Citus",
  against: "the same from PostgreSQL",
  quantity: "rate",
  records: RECORDS,
  open: async (places: Places, records) => {
    const counts = { system_metrics: records };
    const [ours, theirs] = [await places.filled("citus", counts), await places.filled("postgresql", counts)];
    return {
      ours: () => secondsOfStream(ours, "citus"),
      theirs: () => secondsOfStream(theirs, "postgresql"),
    };
  },
};

/** Overhead of a cluster where one server is enough. */
export const citusRows: Family = {
  name: "citus",
  rows: [
    ingest("system_metrics", "SystemMetrics"),
    ingest("cost_entries", "CostEntry with their unique key"),
    copy("system_metrics", "SystemMetrics"),
    copy("cost_entries", "CostEntry with their unique key"),
    streamed,
    answer(
      "hours",
      "metrics by hour and cluster: avg, max",
      "SELECT date_trunc('hour', timestamp), cluster_id, count(*), avg(cpu_usage), max(cpu_usage) " +
        "FROM system_metrics GROUP BY 1, 2",
    ),
    answer(
      "node",
      "metrics of one node by hour",
      "SELECT date_trunc('hour', timestamp), count(*), avg(cpu_usage) FROM system_metrics " +
        "WHERE node_id = 'node-7' GROUP BY 1",
    ),
  ],
};
