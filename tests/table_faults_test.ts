/** Reports of `test-connection` on tables that a bad restore left incomplete. */
import { openBackend } from "../mod.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { BackendError } from "../src/errors.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";

const hasTimescale = (await timescaleVersion()).version !== undefined;
const BACKENDS = ["postgresql", ...(hasTimescale ? ["timescaledb" as const] : [])] as const;

/** Removed part, report, and whether batches are refused. */
const FAULTS: readonly { sql: string; warning: string; isFatal: boolean }[] = [
  {
    sql: "ALTER TABLE ledger DROP CONSTRAINT ledger_pkey",
    warning: "ledger lacks its unique key (batch_id)",
    isFatal: true,
  },
  {
    sql:
      `DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE cost_entries DROP CONSTRAINT ' || conname FROM pg_constraint
      WHERE conrelid = 'cost_entries'::regclass AND contype = 'u'); END $$`,
    warning: "cost_entries lacks its unique key (timestamp, entry_id)",
    isFatal: true,
  },
  {
    sql: "ALTER TABLE cost_entries ALTER amount TYPE numeric",
    warning: "cost_entries has other types or lacks columns: amount",
    isFatal: true,
  },
  {
    sql: "DROP INDEX system_metrics_cluster_id_node_id_timestamp_idx",
    warning: "system_metrics lacks its index (cluster_id, node_id, timestamp)",
    isFatal: false,
  },
  {
    sql: "ALTER TABLE cost_entries ALTER currency DROP NOT NULL",
    warning: "cost_entries lacks NOT NULL of currency",
    isFatal: false,
  },
  {
    sql: `CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER pass BEFORE INSERT ON cost_entries FOR EACH ROW EXECUTE FUNCTION pass()`,
    warning: "cost_entries has a trigger before INSERT",
    isFatal: false,
  },
];

for (const backend of BACKENDS) {
  for (const { sql, warning, isFatal } of FAULTS) {
    Deno.test(`test-connection on ${backend} reports that ${warning}`, async () => {
      await using database = await TestDatabase.create();
      const config = { backend, connectionString: database.url };
      await using opened = await disposable(config);
      const sound = await opened.backend.probe();
      assertEquals([sound.writable, sound.warnings.filter((text) => /lack|types|trigger/.test(text))], [
        true,
        [],
      ]);
      if (backend === "timescaledb") { // which changes no column that its views read
        await database.sql("DROP MATERIALIZED VIEW cost_entries_hourly CASCADE");
      }
      await database.sql(sql);
      const { writable, warnings } = await opened.backend.probe();
      assertEquals(writable, !isFatal);
      assert(warnings.some((text) => text.startsWith(warning)), warnings.join("\n"));
      const records = [costEntry()];
      if (isFatal) {
        const error = await assertRejects(() => write(opened.backend, costEntries, records), BackendError);
        assertEquals((error as BackendError).kind, "operator");
      } else assertEquals((await write(opened.backend, costEntries, records)).committed, 1);
    });
  }
}

/** A backend that is closed at the end of the test. */
async function disposable(config: Parameters<typeof openBackend>[0]) {
  const backend = await openBackend(config);
  return { backend, [Symbol.asyncDispose]: () => backend.close() };
}

if (hasTimescale) {
  Deno.test("TimescaleBackend waits while the database is being restored", async () => {
    await using database = await TestDatabase.create();
    const config = { backend: "timescaledb" as const, connectionString: database.url };
    await using opened = await disposable(config);
    const records = [1, 2].map((i) => ({ timestamp: NEW_YEAR + i, clusterId: "c", nodeId: "n" }));
    await write(opened.backend, systemMetrics, records.slice(0, 1));
    await database.sql("SELECT timescaledb_pre_restore()");
    await database.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    await assertRejects(() => openBackend(config), BackendError, "timescaledb_post_restore()");
    const batch = { id: "late", dataset: systemMetrics, records: records.slice(1) };
    let error: unknown;
    for (let attempt = 0; attempt < 10 && !/restored/.test(String(error)); attempt++) { // sessions that were ended come first
      error = await opened.backend.write(batch).then(() => undefined, (error) => error);
    }
    assert(error instanceof BackendError && error.retryable, String(error));
    assertMatch(error.message, /the database is being restored: run SELECT timescaledb_post_restore\(\)/);
    await database.sql("SELECT timescaledb_post_restore()");
    assertEquals((await opened.backend.write(batch)).committed, 1);
    assertEquals((await read(opened.backend, systemMetrics)).length, 2);
  });

  Deno.test("test-connection reports a table that is not a hypertable", async () => {
    await using database = await TestDatabase.create();
    const config = { backend: "timescaledb" as const, connectionString: database.url };
    await using opened = await disposable(config);
    await database.sql(
      "CREATE TABLE plain (LIKE service_metrics INCLUDING ALL); DROP TABLE service_metrics CASCADE; " +
        "ALTER TABLE plain RENAME TO service_metrics",
    );
    const { warnings } = await opened.backend.probe();
    assert(warnings.some((text) => text.startsWith("service_metrics is no hypertable")), warnings.join("\n"));
  });
}
