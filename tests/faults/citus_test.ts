/**
 * Crashes of a Citus cluster. `TEST_CITUS_ROWS=1000000` runs them with a million costs.
 *
 * @module
 */
import { CostObservatory } from "../../mod.ts";
import { costEntries } from "../../src/records/cost_entry.ts";
import { serviceMetrics } from "../../src/records/service_metrics.ts";
import { assert, assertEquals } from "../assert.ts";
import { write } from "../backend_contract.ts";
import { CitusCluster, CitusDatabase, citusVersion } from "../citus_cluster.ts";
import { FULL_SERVICE_METRICS } from "../fixtures.ts";
import { Chance } from "./chance.ts";
import {
  assertComplete,
  CRASH_SIZES,
  crashCluster,
  crashCommit,
  crashPreparedWorker,
  MOMENTS,
  numberedCost,
  RECOVERY,
} from "./citus.ts";
import { openCitus } from "../server_backends.ts";
import { sleep, until } from "../until.ts";

const ROWS = Number(Deno.env.get("TEST_CITUS_ROWS") ?? 20_000);

/** Registers a test with a cluster of its own, where the machine has the extension. */
function test(
  title: string,
  run: (cluster: CitusCluster, database: CitusDatabase) => Promise<void>,
  settings: readonly string[] = [],
): void {
  Deno.test({
    name: `CitusBackend ${title}`,
    ignore: Deno.build.os !== "linux" || !hasCitus,
    fn: async () => {
      await using cluster = await CitusCluster.start({ settings });
      if (!cluster) return; // TEST_CITUS_URL names a cluster of other machines
      const database = await CitusDatabase.createOn(cluster);
      await run(cluster, database);
    },
  });
}
const hasCitus = (await citusVersion()).version !== undefined;

/** Writes numbered costs through a pipeline, while something happens; returns their number. */
async function writeDuring(
  database: CitusDatabase,
  during: (progress: () => number, total: number) => Promise<void>,
): Promise<number> {
  const failures: string[] = [];
  const costs = await CostObservatory.open({
    backend: "citus",
    connectionString: database.url,
    batchSize: 1_000,
    batchIntervalSeconds: 1,
    onEvent: (event) => failures.push(JSON.stringify(event)),
  });
  let written = 0;
  let isOver = false;
  const happening = during(() => written, ROWS).finally(() => isOver = true);
  for (; written < ROWS || !isOver; written++) await costs.addCostEntry(numberedCost(written));
  await happening;
  await costs.flush();
  const stats = costs.stats().datasets.cost_entries!;
  assertEquals([stats.deadLettered, stats.dropped], [0, 0], failures.slice(0, 5).join("\n"));
  await costs.close();
  return written;
}

test("stores each cost once when workers are killed", async (cluster, database) => {
  await (await openCitus(database.url)).close();
  const count = await writeDuring(database, async (progress, total) => {
    for (const [i, part] of [0.2, 0.4, 0.6, 0.8].entries()) {
      await until(() => progress() >= part * total, `${100 * part} % of the costs are taken`);
      const worker = cluster.workers[i % 2];
      await worker.kill();
      await sleep(200);
      await worker.resume();
    }
  });
  await assertComplete(database, count);
}, [RECOVERY]);

for (const [i, when] of MOMENTS.entries()) { // `deno task chaos` tries each moment with each size
  test(`counts a batch once when the coordinator crashes that ${when}`, (cluster) =>
    crashCommit(cluster, when, CRASH_SIZES[i]));
}

test(
  "stores each acknowledged metric once in 2 crashes of any machine",
  (cluster) => crashCluster(new Chance(34), cluster, { crashes: 2 }),
  [RECOVERY],
);

test(
  "stores a batch once whose worker crashes when it has prepared",
  (cluster) => crashPreparedWorker(cluster, CRASH_SIZES[0]),
  [RECOVERY],
);

test("loses nothing when a worker is added and shards move under load", async (cluster, database) => {
  await (await openCitus(database.url)).close();
  const count = await writeDuring(database, async (progress, total) => {
    await until(() => progress() >= 0.2 * total, "20 % of the costs are taken");
    await cluster.addWorker(database.name);
    const backend = await openCitus(database.url);
    const { warnings } = await backend.probe();
    assert(warnings.some((warning) => warning.includes("citus_rebalance_start")), warnings.join());
    await backend.close();
    await database.sql("SELECT rebalance_table_shards(shard_transfer_mode => 'force_logical')");
  });
  await assertComplete(database, count);
  const shards = await database.sql(
    `SELECT count(*)::int AS n FROM citus_shards WHERE table_name = 'cost_entries'::regclass GROUP BY nodeport ORDER BY 1`,
  );
  assertEquals(shards.map(({ n }) => n), [1, 1, 2]);
});

test("stores a batch of one shard with its ledger entry, or neither", async (_, database) => {
  const backend = await openCitus(database.url);
  const prepared = async () =>
    Number((await database.sql("SELECT count(*) AS n FROM pg_dist_transaction"))[0].n);
  await write(backend, serviceMetrics, [FULL_SERVICE_METRICS]);
  await write(backend, costEntries, [numberedCost(0)]);
  for (
    const [dataset, record] of [
      [serviceMetrics, FULL_SERVICE_METRICS],
      [costEntries, numberedCost(1)],
      [costEntries, numberedCost(1)], // by INSERT
      [costEntries, numberedCost(2)],
    ] as const
  ) {
    const before = await prepared();
    await write(backend, dataset, [record]);
    // Without two phases, a worker commits before the coordinator, whose crash then loses the ledger entry.
    assertEquals(await prepared(), before + 1);
  }
  await backend.close();
});
