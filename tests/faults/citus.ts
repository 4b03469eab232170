/**
 * Crashes of the machines of a Citus cluster, for the tests and for `chaos.ts`.
 *
 * @module
 */
import { PARALLEL_RECORDS } from "../../src/backends/citus/distribution.ts";
import { costEntries } from "../../src/records/cost_entry.ts";
import { acceptRecord } from "../../src/records/validation.ts";
import { assert, assertEquals } from "../assert.ts";
import { read, write } from "../backend_contract.ts";
import { type CitusCluster, CitusDatabase } from "../citus_cluster.ts";
import { costEntry, NEW_YEAR } from "../fixtures.ts";
import { type PostgresServer, runSql } from "../postgres_server.ts";
import type { Chance } from "./chance.ts";
import { openCitus } from "../server_backends.ts";
import { conserved, Load } from "./load.ts";
import { sleep, until } from "../until.ts";

/**
 * Has the cluster end transactions in doubt by itself, as clusters do outside of the tests, only sooner. Without it, a
 * batch waits forever for the rows that a worker had prepared when it crashed.
 */
export const RECOVERY = "citus.recover_2pc_interval = '1s'";

/** Kills the coordinator or a worker in the middle of writing, and starts it again, so many times. */
export async function crashCluster(
  chance: Chance,
  cluster: CitusCluster,
  { crashes }: { crashes: number },
): Promise<void> {
  const database = await CitusDatabase.createOn(cluster);
  const connectionString = database.url.replace("postgresql:", "citus:");
  const load = await Load.open({ connectionString });
  const nodeId = (number: number) => `node-${number % 50}`; // on all shards
  await load.addUntil(
    (async () => {
      for (let i = 0; i < crashes; i++) {
        await sleep(chance.between(20, 1_000));
        const server = chance.of([cluster.coordinator, ...cluster.workers]);
        await server.kill();
        await sleep(chance.between(0, 200));
        await server.resume();
      }
    })(),
    { nodeId },
  );
  assert(conserved(load.hub).retries > 0, "no write met a crash");
  await load.hub.flush();
  await recover(database);
  await load.endsExactly(connectionString);
}

/** Ends transactions in doubt, once all machines answer. */
async function recover(database: CitusDatabase): Promise<void> {
  await until(
    () => database.sql("SELECT recover_prepared_transactions()").then(() => true, () => false),
    "transactions to be recovered",
  );
  assertEquals(await inDoubt(database), []);
}

/** Transactions that workers have prepared. */
export async function inDoubt(database: CitusDatabase): Promise<unknown[]> {
  const sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
  return (await Promise.all(database.workers.map((url) => runSql(url, sql)))).flat();
}

/** A cost by its number. All of them differ in their amount. */
export const numberedCost = (i: number) =>
  costEntry({ entryId: `c${i}`, timestamp: NEW_YEAR + i * 1_000, amount: `${i}.000000000000000001` });

/** Checks that the costs with the numbers below a count are stored, each once. */
export async function assertComplete(database: CitusDatabase, count: number): Promise<void> {
  await recover(database);
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
}

/** Has a server answer no commit and no prepare, after these are on its disk: it waits for a standby that there is not. */
async function setStandbys(server: PostgresServer, change: string): Promise<void> {
  await runSql(server.url(), `ALTER SYSTEM ${change}`);
  await runSql(server.url(), "SELECT pg_reload_conf()");
  const isHeld = change.includes("none_such");
  await until(async () => await holdsCommits(server) === isHeld, "the setting is in force");
}

/** Returns true if a commit waits for a standby. The setting shows a change before it takes effect. */
async function holdsCommits(server: PostgresServer): Promise<boolean> {
  const mark = crypto.randomUUID();
  let isOver = false;
  const commit = runSql(server.url(), `SELECT pg_logical_emit_message(true, '', '${mark}')`)
    .finally(() => isOver = true);
  const release = `SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND query LIKE '%${mark}%'`;
  let isHeld = false;
  while (!isOver && !isHeld) isHeld = (await runSql(server.url(), release)).length > 0;
  await commit;
  return isHeld;
}

/** The server that is held, for each moment at which the coordinator crashes. */
const HELD = {
  "has committed": ({ coordinator }: CitusCluster) => coordinator, // and no worker knows
  "has not committed": ({ workers }: CitusCluster) => workers[1], // and workers have prepared
} as const;

/** Moments at which {@linkcode crashCommit} kills the coordinator. */
export const MOMENTS = Object.keys(HELD) as (keyof typeof HELD)[];

/** Records of a batch, and the transactions that workers prepare for it: a large one has two connections to each. */
export const CRASH_SIZES = [{ size: 400, prepared: 2 }, { size: PARALLEL_RECORDS, prepared: 4 }] as const;

/** A batch of costs on all workers, which the cluster has prepared, and whose write gets no answer. */
async function holdCommit(
  database: CitusDatabase,
  held: PostgresServer,
  { size, prepared }: typeof CRASH_SIZES[number],
) {
  const backend = await openCitus(database.url);
  await write(backend, costEntries, Array.from({ length: 100 }, (_, i) => numberedCost(i))); // makes the partition
  const records = Array.from({ length: size }, (_, i) => acceptRecord(costEntries, numberedCost(100 + i)));
  const batch = { id: crypto.randomUUID(), dataset: costEntries, records };
  await setStandbys(held, "SET synchronous_standby_names = 'none_such'");
  const failed = backend.write(batch).then(() => false, () => true);
  await until(async () => (await inDoubt(database)).length === prepared, "prepared");
  return { backend, batch, failed };
}

/** Kills the coordinator between the two phases of a commit. The batch is written again, and is stored once. */
export async function crashCommit(
  cluster: CitusCluster,
  when: keyof typeof HELD,
  crash: typeof CRASH_SIZES[number],
): Promise<void> {
  const { size, prepared } = crash;
  const database = await CitusDatabase.createOn(cluster);
  const held = HELD[when](cluster);
  const { backend, batch, failed } = await holdCommit(database, held, crash);
  await cluster.coordinator.kill();
  assertEquals(await failed, true);
  await cluster.coordinator.resume();
  await setStandbys(held, "RESET synchronous_standby_names");

  // The rows cannot be seen while they are in doubt.
  assertEquals((await inDoubt(database)).length, prepared);
  assertEquals((await read(backend, costEntries)).length, 100);
  await backend.finishWrites(costEntries);
  const hasCommitted = when === "has committed";
  assertEquals((await read(backend, costEntries)).length, hasCommitted ? 100 + size : 100);
  const { committed, isReplay = false } = await backend.write(batch);
  assertEquals([committed, isReplay], [size, hasCommitted]);
  await assertComplete(database, 100 + size);
  await backend.close();
}

/** Kills a worker that has prepared. The coordinator rolls back, and the batch is written again, and stored once. */
export async function crashPreparedWorker(
  cluster: CitusCluster,
  crash: typeof CRASH_SIZES[number],
): Promise<void> {
  const { size } = crash;
  const database = await CitusDatabase.createOn(cluster);
  const [, worker] = cluster.workers;
  const { backend, batch, failed } = await holdCommit(database, worker, crash);
  await worker.kill();
  assertEquals(await failed, true);
  await worker.resume();
  await setStandbys(worker, "RESET synchronous_standby_names");
  assertEquals(await backend.write(batch), { committed: size, duplicates: 0, restated: 0 });
  await assertComplete(database, 100 + size);
  await backend.close();
}
