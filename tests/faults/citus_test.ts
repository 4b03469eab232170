/**
 * Crashes of a Citus cluster. `TEST_CITUS_ROWS=1000000` runs them with a million costs.
 *
 * @module
 */
import { CostObservatory } from "../../mod.ts";
import { CitusBackend } from "../../src/backends/citus.ts";
import { costEntries } from "../../src/records/cost_entry.ts";
import { serviceMetrics } from "../../src/records/service_metrics.ts";
import { acceptRecord } from "../../src/records/validation.ts";
import { assert, assertEquals } from "../assert.ts";
import { read, write } from "../backend_contract.ts";
import { CitusCluster, CitusDatabase, citusVersion } from "../citus_cluster.ts";
import { costEntry, FULL_SERVICE_METRICS, NEW_YEAR } from "../fixtures.ts";
import { type PostgresServer, runSql } from "../postgres_server.ts";
import { sleep, until } from "./load.ts";

const ROWS = Number(Deno.env.get("TEST_CITUS_ROWS") ?? 20_000);
const OPTIONS = {
  mode: "create",
  onConflict: "ignore",
  maxConnections: 5,
  statementTimeoutSeconds: 60,
} as const;

/** Registers a test with a cluster of its own, where the machine has the extension. */
function test(title: string, run: (cluster: CitusCluster, database: CitusDatabase) => Promise<void>): void {
  Deno.test({
    name: `CitusBackend ${title}`,
    ignore: Deno.build.os !== "linux" || !hasCitus,
    fn: async () => {
      await using cluster = await CitusCluster.start();
      if (!cluster) return; // TEST_CITUS_URL names a cluster of other machines
      const database = await CitusDatabase.create(cluster);
      await run(cluster, database);
    },
  });
}
const hasCitus = (await citusVersion()).version !== undefined;

/** A cost by its number. All of them differ in their amount. */
const numbered = (i: number) =>
  costEntry({ entryId: `c${i}`, timestamp: NEW_YEAR + i * 1_000, amount: `${i}.000000000000000001` });

/** Checks that the costs with the numbers below a count are stored, each once. */
async function assertComplete(database: CitusDatabase, count: number): Promise<void> {
  await database.sql("SELECT recover_prepared_transactions()");
  const [found] = await database.sql(
    `SELECT count(*)::int AS rows, count(DISTINCT entry_id)::int AS ids, trim_scale(sum(amount))::text AS sum
      FROM cost_entries`,
  );
  const sum = BigInt(count) * BigInt(count - 1) / 2n * 10n ** 18n + BigInt(count);
  const text = `${sum / 10n ** 18n}.${(sum % 10n ** 18n).toString().padStart(18, "0")}`;
  assertEquals(found, { rows: count, ids: count, sum: text.replace(/\.?0+$/, "") });
  const [ledger] = await database.sql(
    "SELECT sum(committed)::int AS committed FROM ledger WHERE dataset = 'cost_entries'",
  );
  assertEquals(ledger.committed, count);
  assertEquals(await inDoubt(database), []);
}

/** Transactions that workers have prepared. */
async function inDoubt(database: CitusDatabase): Promise<unknown[]> {
  const sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
  return (await Promise.all(database.workers.map((url) => runSql(url, sql)))).flat();
}

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
  for (; written < ROWS || !isOver; written++) await costs.addCostEntry(numbered(written));
  await happening;
  await costs.flush();
  const stats = costs.stats().datasets.cost_entries!;
  assertEquals([stats.deadLettered, stats.dropped], [0, 0], failures.slice(0, 5).join("\n"));
  await costs.close();
  return written;
}

test("stores each cost once when workers are killed", async (cluster, database) => {
  await (await CitusBackend.open({ ...OPTIONS, connectionString: database.url })).close();
  const count = await writeDuring(database, async (progress, total) => {
    for (const [i, part] of [0.2, 0.4, 0.6, 0.8].entries()) {
      await untilLong(() => progress() >= part * total);
      const worker = cluster.workers[i % 2];
      await worker.kill();
      await sleep(200);
      await worker.resume();
    }
  });
  await assertComplete(database, count);
});

async function untilLong(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(5);
}

/** Has a server answer no commit and no prepare, after these are on its disk: it waits for a standby that there is not. */
async function hold(server: PostgresServer): Promise<void> {
  await setStandbys(server, "SET synchronous_standby_names = 'none_such'");
}

async function setStandbys(server: PostgresServer, change: string): Promise<void> {
  await runSql(server.url(), `ALTER SYSTEM ${change}`);
  await runSql(server.url(), "SELECT pg_reload_conf()");
  const expected = change.includes("none_such") ? "none_such" : "";
  await until(async () =>
    (await runSql(server.url(), "SHOW synchronous_standby_names"))[0].synchronous_standby_names === expected
  );
  await sleep(500); // the process that tells the others of it has a moment
}

/** The server that is held, for each moment at which the coordinator crashes. */
const HELD: Readonly<Record<string, (cluster: CitusCluster) => PostgresServer>> = {
  "has committed": ({ coordinator }) => coordinator, // and no worker knows
  "has not committed": ({ workers }) => workers[1], // and workers have prepared
};

for (const [when, held] of Object.entries(HELD)) {
  test(`counts a batch once when the coordinator crashes that ${when}`, async (cluster, database) => {
    const backend = await CitusBackend.open({ ...OPTIONS, connectionString: database.url });
    await write(backend, costEntries, Array.from({ length: 100 }, (_, i) => numbered(i))); // makes the partition
    const records = Array.from({ length: 400 }, (_, i) => acceptRecord(costEntries, numbered(100 + i)));
    const batch = { id: crypto.randomUUID(), dataset: costEntries, records };
    await hold(held(cluster));
    const failed = backend.write(batch).then(() => false, () => true);
    await until(async () => (await inDoubt(database)).length === 2, "prepared");
    await cluster.coordinator.kill();
    assertEquals(await failed, true);
    await cluster.coordinator.resume();
    await setStandbys(held(cluster), "RESET synchronous_standby_names");

    // The rows cannot be seen while they are in doubt.
    assertEquals((await inDoubt(database)).length, 2);
    assertEquals((await read(backend, costEntries)).length, 100);
    await backend.finishWrites(costEntries);
    const hasCommitted = when === "has committed";
    assertEquals((await read(backend, costEntries)).length, hasCommitted ? 500 : 100);
    const { committed, isReplay = false } = await backend.write(batch);
    assertEquals([committed, isReplay], [400, hasCommitted]);
    await assertComplete(database, 500);
    await backend.close();
  });
}

test("loses nothing when a worker is added and shards move under load", async (cluster, database) => {
  await (await CitusBackend.open({ ...OPTIONS, connectionString: database.url })).close();
  const count = await writeDuring(database, async (progress, total) => {
    await untilLong(() => progress() >= 0.2 * total);
    await cluster.addWorker(database.name);
    const backend = await CitusBackend.open({ ...OPTIONS, connectionString: database.url });
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
  const backend = await CitusBackend.open({ ...OPTIONS, connectionString: database.url });
  const prepared = async () =>
    Number((await database.sql("SELECT count(*) AS n FROM pg_dist_transaction"))[0].n);
  await write(backend, serviceMetrics, [FULL_SERVICE_METRICS]);
  await write(backend, costEntries, [numbered(0)]);
  for (
    const [dataset, record] of [
      [serviceMetrics, FULL_SERVICE_METRICS],
      [costEntries, numbered(1)],
      [costEntries, numbered(1)], // by INSERT
      [costEntries, numbered(2)],
    ] as const
  ) {
    const before = await prepared();
    await write(backend, dataset, [record]);
    // Without two phases, a worker commits before the coordinator, whose crash then loses the ledger entry.
    assertEquals(await prepared(), before + 1);
  }
  await backend.close();
});
