/**
 * Measures aggregates through the library against the plain SQL in `psql` and in the `sqlite3` shell, on the same data,
 * in turn. `deno run -A bench/answers.ts [METRICS]`; a fifth as many cost entries.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { CostObservatory, ObservabilityHub, openBackend } from "../mod.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { PostgresServer, runSql, serverVersion, TestDatabase } from "../tests/postgres_server.ts";
import { median } from "./median.ts";

const METRICS = 1_000_000;
const ROUNDS = 5;
const START = Date.UTC(2026, 0, 1);

/** What each column holds, as SQL over `i`, where it is not the same for all of its type. */
const VALUES: Readonly<Record<string, string>> = {
  cluster_id: "'c' || (i % 4)",
  node_id: "'gpu-' || (i % 64)",
  health_status: "'healthy'",
  labels: `'{"team":"nlp"}'`,
  entry_id: "'e' || i",
  resource_id: "'gpu-' || (i % 64)",
  category: "'category-' || (i % 7)",
  currency: "'USD'",
  region: "'eu-' || (i % 3)",
  tags: `'{"team":"t' || (i % 9) || '","env":"prod"}'`,
  description: "'an hour of a GPU'",
  billing_period: "'2026-01'",
};
const BY_TYPE: Readonly<Record<string, string>> = {
  real: "(i * 7919 % 1000) / 10.0",
  integer: "i % 7",
  boolean: "i % 2",
};

interface Engine {
  readonly time: (ms: string) => string;
  readonly boolean: string;
  readonly map: (json: string) => string;
  readonly amount: readonly string[];
}

/** The expressions for all columns of a dataset; the records are spread over 90 days. */
function rowOf(dataset: Dataset<unknown>, rows: number, engine: Engine): string {
  const stepMs = Math.floor(90 * 86_400_000 / rows);
  return dataset.columns.flatMap(({ name, type }) => {
    if (type === "timestamp") return engine.time(`${START} + i * ${stepMs}`);
    if (type === "decimal") return engine.amount;
    if (type === "boolean") return engine.boolean;
    if (type === "map") return engine.map(VALUES[name]);
    return VALUES[name] ?? BY_TYPE[type];
  }).join(", ");
}

const SQLITE: Engine = {
  time: (ms) => ms,
  boolean: BY_TYPE.boolean,
  map: (json) => json,
  amount: ["i % 100", "(i % 1000) * 1000000000000000"],
};
const POSTGRESQL: Engine = {
  time: (ms) => `to_timestamp((${ms}) / 1000.0)`,
  boolean: "i % 2 = 0",
  map: (json) => `(${json})::jsonb`,
  amount: ["i % 100 + (i % 1000) / 1000.0"],
};

/** A question to the library, and the same as SQL for the shells. */
interface Question {
  readonly name: string;
  readonly ask: (hub: ObservabilityHub, costs: CostObservatory) => Promise<unknown[]>;
  readonly sqlite?: string;
  readonly postgresql: string;
}

const QUESTIONS: readonly Question[] = [
  {
    name: "metrics by hour and cluster: avg, max",
    ask: (hub) =>
      hub.aggregateMetrics({
        bucket: "1h",
        groupBy: ["clusterId"],
        fields: { cpuUsage: ["avg", "max"], gpuUsage: ["avg", "max"] },
      }),
    sqlite: "SELECT timestamp / 3600000 * 3600000, cluster_id, count(*), avg(cpu_usage), max(cpu_usage), " +
      "avg(gpu_usage), max(gpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
    postgresql:
      "SELECT date_trunc('hour', timestamp), cluster_id, count(*), avg(cpu_usage), max(cpu_usage), " +
      "avg(gpu_usage), max(gpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
  },
  {
    name: "metrics by day and cluster: p95",
    ask: (hub) =>
      hub.aggregateMetrics({ bucket: "1d", groupBy: ["clusterId"], fields: { cpuUsage: ["p95"] } }),
    sqlite:
      "SELECT b, c, max(n), max(x) FROM (SELECT b, c, x, row_number() OVER w AS i, count(*) OVER (PARTITION BY b, c) " +
      "AS n FROM (SELECT timestamp / 86400000 * 86400000 AS b, cluster_id AS c, cpu_usage AS x FROM system_metrics " +
      "WHERE cpu_usage IS NOT NULL) WINDOW w AS (PARTITION BY b, c ORDER BY x)) " +
      "WHERE i <= 0.95 * (n - 1) + 1 GROUP BY b, c",
    postgresql: "SELECT date_trunc('day', timestamp, 'UTC'), cluster_id, count(*), " +
      "percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_usage) FROM system_metrics GROUP BY 1, 2 ORDER BY 1, 2",
  },
  {
    name: "metrics by day of New York and node: avg",
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
  {
    name: "costs by day, category and team",
    ask: (_, costs) => costs.aggregateCosts({ bucket: "1d", groupBy: ["category", "tags.team"] }),
    sqlite:
      "SELECT timestamp / 86400000 * 86400000, currency, category, json_extract(tags, '$.team'), count(*), " +
      "sum(amount_units / 1000000000), sum(amount_units % 1000000000), sum(amount_parts / 1000000000), " +
      "sum(amount_parts % 1000000000) FROM cost_entries GROUP BY 1, 2, 3, 4",
    postgresql:
      "SELECT date_trunc('day', timestamp, 'UTC'), currency, category, tags ->> 'team', count(*), " +
      "sum(amount) FROM cost_entries GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
  },
  {
    name: "costs by month of New York and region",
    ask: (_, costs) =>
      costs.aggregateCosts({ bucket: "1mo", timeZone: "America/New_York", groupBy: ["region"] }),
    postgresql: "SELECT date_trunc('month', timestamp, 'America/New_York'), currency, region, count(*), " +
      "sum(amount) FROM cost_entries GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
  },
];

async function run(command: string, args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args: [...args], stdout: "null" }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

async function milliseconds(what: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await what();
  return performance.now() - start;
}

/** Asks all questions on both sides, in turn, and prints the medians. */
async function compare(
  connectionString: string,
  shell: (question: Question) => readonly [string, ...string[]] | undefined,
): Promise<void> {
  await using hub = await ObservabilityHub.open({ connectionString });
  await using costs = await CostObservatory.open({ connectionString });
  for (const question of QUESTIONS) {
    const command = shell(question);
    if (!command) continue;
    const [program, ...args] = command;
    const ours: number[] = [];
    const theirs: number[] = [];
    let rows = 0;
    for (let round = 0; round <= ROUNDS; round++) {
      const us = await milliseconds(async () => rows = (await question.ask(hub, costs)).length);
      const them = await milliseconds(() => run(program, args));
      if (round === 0) continue; // the first reads the disk
      ours.push(us);
      theirs.push(them);
    }
    const ratio = median(ours.map((ms, i) => ms / theirs[i]));
    console.log(
      `  ${question.name.padEnd(42)} ${String(rows).padStart(6)} rows  ${
        median(ours).toFixed(0).padStart(6)
      } ms, ` +
        `${program} ${median(theirs).toFixed(0).padStart(6)} ms: ${ratio.toFixed(2)}`,
    );
  }
}

async function main(metrics: number): Promise<void> {
  const counts = [[systemMetrics, metrics], [costEntries, metrics / 5]] as [Dataset<unknown>, number][];
  console.log(
    `${metrics} SystemMetrics and ${metrics / 5} cost entries over 90 days, medians of ${ROUNDS} rounds`,
  );
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  try {
    const path = `${folder}/bench.db`;
    await (await openBackend({ connectionString: `sqlite:///${path}` })).close();
    const database = new DatabaseSync(path);
    for (const [dataset, rows] of counts) {
      database.exec(
        `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows - 1}) ` +
          `INSERT INTO ${dataset.name} SELECT ${rowOf(dataset, rows, SQLITE)} FROM n`,
      );
    }
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    database.close();
    console.log("SQLite");
    await compare(`sqlite:///${path}`, ({ sqlite }) => sqlite ? ["sqlite3", path, sqlite] : undefined);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
  await using server = await PostgresServer.start({ settings: ["max_wal_size = 4GB"] });
  Deno.env.set("TEST_POSTGRESQL_URL", server.url());
  await using base = await TestDatabase.create();
  const backend = await openBackend({ connectionString: base.url });
  for (const [dataset, rows] of counts) {
    // A record a day makes the partitions.
    const days = Array.from({ length: 91 }, (_, day) => ({
      timestamp: START + day * 86_400_000,
      ...(dataset === costEntries
        ? { entryId: `p${day}`, resourceId: "r", category: "c", amount: "0", currency: "USD" }
        : { clusterId: "c0", nodeId: "gpu-0" }),
    }));
    await backend.write({ id: crypto.randomUUID(), dataset, records: days });
    await runSql(
      base.url,
      `INSERT INTO ${dataset.name} SELECT ${
        rowOf(dataset, rows, POSTGRESQL)
      } FROM generate_series(0::bigint, ${rows - 1}) AS i`,
    );
  }
  await backend.close();
  await runSql(base.url, "VACUUM ANALYZE");
  console.log(`PostgreSQL ${await serverVersion()}`);
  await compare(base.url, ({ postgresql }) => ["psql", "-qAtX", base.url, "-c", postgresql]);
}

await main(Number(Deno.args[0] ?? METRICS));
