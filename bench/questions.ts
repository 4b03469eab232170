/**
 * Questions for the library, and the same as plain SQL for the shells.
 *
 * @module
 */
import type { CostObservatory, ObservabilityHub } from "../mod.ts";

/** A question to the library, and the same as SQL for the shells. */
export interface Question {
  readonly title: string;
  readonly ask: (hub: ObservabilityHub, costs: CostObservatory) => Promise<unknown[]>;
  readonly sqlite?: string;
  readonly duckdb?: string;
  readonly postgresql: string;
}

/** The questions by their names. */
export const QUESTIONS: Readonly<Record<string, Question>> = {
  hours: {
    title: "metrics by hour and cluster: avg, max",
    ask: (hub) =>
      hub.aggregateMetrics({
        bucket: "1h",
        groupBy: ["clusterId"],
        fields: { cpuUsage: ["avg", "max"], gpuUsage: ["avg", "max"] },
      }),
    sqlite: "SELECT timestamp / 3600000 * 3600000, cluster_id, count(*), avg(cpu_usage), max(cpu_usage), " +
      "avg(gpu_usage), max(gpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
    duckdb: "SELECT date_trunc('hour', timestamp), cluster_id, count(*), avg(cpu_usage), max(cpu_usage), " +
      "avg(gpu_usage), max(gpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
    postgresql:
      "SELECT date_trunc('hour', timestamp), cluster_id, count(*), avg(cpu_usage), max(cpu_usage), " +
      "avg(gpu_usage), max(gpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
  },
  p95: {
    title: "metrics by day and cluster: p95",
    ask: (hub) =>
      hub.aggregateMetrics({ bucket: "1d", groupBy: ["clusterId"], fields: { cpuUsage: ["p95"] } }),
    sqlite:
      "SELECT b, c, max(n), max(x) FROM (SELECT b, c, x, row_number() OVER w AS i, count(*) OVER (PARTITION BY b, c) " +
      "AS n FROM (SELECT timestamp / 86400000 * 86400000 AS b, cluster_id AS c, cpu_usage AS x FROM system_metrics " +
      "WHERE cpu_usage IS NOT NULL) WINDOW w AS (PARTITION BY b, c ORDER BY x)) " +
      "WHERE i <= 0.95 * (n - 1) + 1 GROUP BY b, c",
    duckdb: "SELECT date_trunc('day', timestamp), cluster_id, count(*), quantile_cont(cpu_usage, 0.95) " +
      "FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
    postgresql: "SELECT date_trunc('day', timestamp, 'UTC'), cluster_id, count(*), " +
      "percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
  },
  "days-new-york": {
    title: "metrics by day of New York and node: avg",
    ask: (hub) =>
      hub.aggregateMetrics({
        bucket: "1d",
        timeZone: "America/New_York",
        groupBy: ["nodeId"],
        fields: { cpuUsage: ["avg"] },
      }),
    postgresql:
      "SELECT date_trunc('day', timestamp, 'America/New_York'), node_id, count(*), avg(cpu_usage) " +
      "FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
  },
  "costs-days": {
    title: "costs by day, category and team",
    ask: (_, costs) => costs.aggregateCosts({ bucket: "1d", groupBy: ["category", "tags.team"] }),
    sqlite:
      "SELECT timestamp / 86400000 * 86400000, currency, category, json_extract(tags, '$.team'), count(*), " +
      "sum(amount_units / 1000000000), sum(amount_units % 1000000000), sum(amount_parts / 1000000000), " +
      "sum(amount_parts % 1000000000) FROM cost_entries GROUP BY 1, 2, 3, 4",
    duckdb: "SELECT date_trunc('day', timestamp), currency, category, tags['team'], count(*), sum(amount) " +
      "FROM cost_entries GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
    postgresql:
      "SELECT date_trunc('day', timestamp, 'UTC'), currency, category, tags ->> 'team', count(*), " +
      "sum(amount) FROM cost_entries GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
  },
  "costs-months-new-york": {
    title: "costs by month of New York and region",
    ask: (_, costs) =>
      costs.aggregateCosts({ bucket: "1mo", timeZone: "America/New_York", groupBy: ["region"] }),
    postgresql: "SELECT date_trunc('month', timestamp, 'America/New_York'), currency, region, count(*), " +
      "sum(amount) FROM cost_entries GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
  },
};
