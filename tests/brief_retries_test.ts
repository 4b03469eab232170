/**
 * Operations that repeat what passes by itself: one failure does not end them, and an outage does.
 *
 * @module
 */
import { SqliteCleanup } from "../src/backends/sqlite/cleanup.ts";
import { loadSqliteDriver } from "../src/backends/sqlite/driver.ts";
import { upgradesFrom } from "../src/backends/sqlite/schema.ts";
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { retryLetters } from "../src/cli/dead_letter.ts";
import { BackendError, type FailureKind } from "../src/errors.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { acceptQuery } from "../src/records/query.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { deleteRecords } from "../src/transfer/delete_records.ts";
import { readDeliveries, undoDelivery } from "../src/transfer/deliveries.ts";
import { importRecords } from "../src/transfer/import.ts";
import { migrate } from "../src/transfer/migrate.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { FakeTime } from "./fake_time.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const METRICS = "timestamp,cpuUsage\n2026-01-01,1\n";
const COSTS = "timestamp,resourceId,category,amount,currency\n2026-01-01,r,c,1,USD\n";
const LETTER = { batchId: "b", message: "no", record: { timestamp: NEW_YEAR } };

const memory = () => new MemoryBackend({ maxMemoryEntries: 100, onConflict: "ignore" });

const away = (kind: FailureKind = "transient") =>
  new BackendError("away", { code: "CONNECTION_LOST", operation: "write", kind });

/** Fails some attempts, and all attempts after so many that a retry without end is told from one that ends. */
class Outage {
  attempts = 0;
  readonly #failures: number;

  constructor(failures: number) {
    this.#failures = failures;
  }

  /** Rejects while the outage lasts. */
  async pass(): Promise<void> {
    if (++this.attempts > 100) throw new Error("It did not end.");
    await Promise.resolve();
    if (this.attempts <= this.#failures) throw away();
  }

  /** Has a method of an object fail first. */
  strike<T extends object>(target: T, name: keyof T): void {
    const method = (target[name] as (...args: unknown[]) => Promise<unknown>).bind(target);
    const struck = async (...args: unknown[]) => {
      await this.pass();
      return await method(...args);
    };
    Object.assign(target, { [name]: struck });
  }
}

function importText(backend: Backend, text: string): Promise<unknown> {
  const dataset = text === COSTS ? "cost_entries" : "system_metrics";
  return importRecords(new Blob([text]).stream(), { backend, dataset, format: "csv" });
}

/** Makes the staging of a backend fail to publish. */
function strikePublish(backend: MemoryBackend, outage: Outage): void {
  const stage = backend.stage.bind(backend);
  backend.stage = async () => {
    const staging = await stage();
    outage.strike(staging, "publish");
    return staging;
  };
}

/** Operations against a backend that fails: each rejects with the last failure, and resolves once it is over. */
const OPERATIONS: Readonly<Record<string, (outage: Outage) => Promise<unknown>>> = {
  "importRecords() of metrics": async (outage) => {
    const backend = memory();
    outage.strike(backend, "write");
    await importText(backend, METRICS);
    assertEquals((await read(backend, systemMetrics)).length, 1);
  },
  "importRecords() of costs that cannot be staged": async (outage) => {
    const backend = memory();
    outage.strike(backend, "stage");
    await importText(backend, COSTS);
    assertEquals((await backend.stats()).datasets.cost_entries.rows, 1);
  },
  "importRecords() of costs that cannot be published": async (outage) => {
    const backend = memory();
    strikePublish(backend, outage);
    await importText(backend, COSTS);
    assertEquals((await backend.stats()).datasets.cost_entries.rows, 1);
  },
  "undoDelivery()": async (outage) => {
    const backend = memory();
    await importText(backend, COSTS);
    const [{ id }] = await readDeliveries(backend);
    strikePublish(backend, outage);
    await undoDelivery(backend, id, {});
    assertEquals((await backend.stats()).datasets.cost_entries.rows, 0);
  },
  "migrate() that waits for writes": async (outage) => {
    const [from, to] = [memory(), memory()];
    await write(from, systemMetrics, [{ timestamp: NEW_YEAR }]);
    outage.strike(to, "finishWrites");
    await migrate(from, to, { datasets: ["system_metrics"] });
    assertEquals((await read(to, systemMetrics)).length, 1);
  },
  "migrate() that writes": async (outage) => {
    const [from, to] = [memory(), memory()];
    await write(from, systemMetrics, [{ timestamp: NEW_YEAR }]);
    outage.strike(to, "write");
    await migrate(from, to, { datasets: ["system_metrics"] });
    assertEquals((await read(to, systemMetrics)).length, 1);
  },
  "deleteRecords()": async (outage) => {
    const backend = memory();
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    outage.strike(backend, "deleteMatching");
    assertEquals(await deleteRecords(backend, systemMetrics, acceptQuery(systemMetrics)), 1);
  },
  "SqliteCleanup": async (outage) => {
    const database = (await loadSqliteDriver("auto")).open(":memory:", { readOnly: false });
    try {
      for (const statement of upgradesFrom(0)) database.exec(statement);
      database.exec(
        `INSERT INTO system_metrics (timestamp, cluster_id, node_id) VALUES (${NEW_YEAR}, 'c', 'n')`,
      );
      const cleanup = new SqliteCleanup(database, async (operation, run) => {
        if (operation === "delete") await outage.pass();
        return run();
      });
      assertEquals(await cleanup.deleteBefore("system_metrics", NEW_YEAR + 1, Infinity), 1);
    } finally {
      database.close();
    }
  },
  "retryLetters()": async (outage) => {
    using folder = new TemporaryFolder();
    const letters = new DeadLetters(folder.path, "system_metrics");
    await letters.append(LETTER);
    const backend = memory();
    outage.strike(backend, "write");
    try {
      await retryLetters([letters], backend);
    } finally {
      const left = (await Array.fromAsync(letters.list())).length;
      const stored = (await read(backend, systemMetrics)).length;
      assertEquals([left + stored, [...Deno.readDirSync(folder.path)].length], [1, left]);
    }
  },
};

for (const [name, run] of Object.entries(OPERATIONS)) {
  Deno.test(`${name} repeats an attempt that fails for a moment`, async () => {
    using time = new FakeTime();
    const outage = new Outage(1);
    await time.passUntil(run(outage), 1_000);
  });

  Deno.test(`${name} ends within 20 seconds when the backend stays away`, async () => {
    using time = new FakeTime();
    const outage = new Outage(Infinity);
    const ended = assertRejects(() => run(outage), BackendError, "away");
    await time.passUntil(ended, 1_000);
    // A cleanup also prunes the ledger, which it gives up as well.
    const operations = name === "SqliteCleanup" ? 2 : 1;
    const attempts = outage.attempts / operations;
    assert(attempts >= 20 && attempts <= 22, `${attempts} attempts, each of at most a second`);
  });
}

Deno.test("retryLetters() stores no record of a request that another process has stored since", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  const backend = memory();
  const member = (first: number) => ({ requestId: "r", first, count: 1, index: 0 });
  for (const first of [0, 1]) {
    await letters.append({ ...LETTER, batchId: `b/${first}`, member: member(first) });
  }
  const records = [{ timestamp: NEW_YEAR, clusterId: "default", nodeId: "default" }];
  await backend.write({ id: "other", dataset: systemMetrics, records, members: [member(1)] });
  await retryLetters([letters], backend);
  assertEquals((await read(backend, systemMetrics)).length, 2);
  assertEquals((await Array.fromAsync(letters.list())).length, 0);
});

Deno.test("retryLetters() takes a backend that is away for no refusal, and keeps all letters", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  for (const batchId of ["a", "b", "c"]) await letters.append({ ...LETTER, batchId });
  const before = Deno.readTextFileSync(letters.path);
  const backend = memory();
  const write = backend.write.bind(backend);
  for (const kind of ["operator", "transient", "timeout", "disk-full"] as const) {
    using time = new FakeTime();
    backend.write = (batch) => batch.id === "a" ? write(batch) : Promise.reject(away(kind));
    const error = await time.passUntil(assertRejects(() => retryLetters([letters], backend), BackendError));
    assertEquals((error as BackendError).code, "CONNECTION_LOST");
    assertEquals(Deno.readTextFileSync(letters.path), before);
  }
  for (const kind of ["data", "unknown"] as const) {
    backend.write = (batch) => batch.id === "a" ? write(batch) : Promise.reject(away(kind));
    const error = await assertRejects(() => retryLetters([letters], backend), BackendError);
    assertEquals((error as BackendError).code, "RECORDS_REFUSED");
    assertEquals((await Array.fromAsync(letters.list())).map(({ batchId }) => batchId), ["b", "c"]);
  }
});
