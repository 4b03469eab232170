import { parseConnectionString } from "../src/backends/connection_string.ts";
import type { OpenMode } from "../src/backends/backend.ts";
import { SqliteBackend } from "../src/backends/sqlite.ts";
import { openSqliteFile } from "../src/backends/sqlite/file.ts";
import { loadSqliteDriver, type SqliteDriverName } from "../src/backends/sqlite/driver.ts";
import { FileGuard } from "../src/backends/sqlite/file_guard.ts";
import { queryTogether } from "../src/backends/sqlite/read_connection.ts";
import { SCHEMA_VERSION, upgradesFrom } from "../src/backends/sqlite/schema.ts";
import { BackendError } from "../src/errors.ts";
import { acceptQuery } from "../src/records/query.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { backendContract, countsByReading, read, write } from "./backend_contract.ts";
import { costEntry, FULL_COST_ENTRY, NEW_YEAR, TemporaryFolder, undoUpgrade } from "./fixtures.ts";
import { sqliteDrivers } from "./sqlite_drivers.ts";

const { present } = await sqliteDrivers();

for (const driver of present) {
  backendContract(`SqliteBackend (${driver}, in memory)`, async ({ onConflict }) => {
    const backend = await SqliteBackend.open({ path: "", mode: "create", driver, onConflict });
    return { backend, [Symbol.asyncDispose]: () => backend.close() };
  });
  testFile(driver, { threadRecords: Infinity });
  testFile(driver, { threadRecords: 0 });
}

/** The tests of a file: written and read by this thread, or by threads of their own. */
function testFile(driver: SqliteDriverName, { threadRecords }: { threadRecords: number }): void {
  const name = `SqliteBackend (${driver}, file${threadRecords === 0 ? " and thread" : ""})`;
  const threads = { threadRecords, threadBytes: threadRecords };
  const open = (path: string, mode: OpenMode = "create") =>
    SqliteBackend.open({ path, mode, driver, onConflict: "ignore", ...threads });

  backendContract(name, async ({ onConflict }) => {
    const folder = new TemporaryFolder();
    const path = folder.file("test.db");
    const backend = await SqliteBackend.open({ path, mode: "create", driver, onConflict, ...threads });
    return {
      backend,
      async [Symbol.asyncDispose]() {
        await backend.close();
        folder[Symbol.dispose]();
      },
    };
  });

  const test = (title: string, run: (folder: TemporaryFolder) => Promise<void>) =>
    Deno.test(`${name} ${title}`, async () => {
      using folder = new TemporaryFolder();
      await run(folder);
    });

  test("keeps records in one file after it closes", async (folder) => {
    const path = folder.file("a.db");
    for (const i of [1, 2]) {
      const backend = await open(path);
      await write(backend, systemMetrics, [{ timestamp: NEW_YEAR + i }]);
      assertEquals((await read(backend, systemMetrics)).length, i);
      await backend.close();
    }
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["a.db"]);
  });

  test("counts the write-ahead log in its size", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const { storage: { fileSizeBytes } } = await backend.stats();
    const [file, log] = [path, `${path}-wal`].map((path) => Deno.statSync(path).size);
    assert(log > 0);
    assertEquals(fileSizeBytes, file + log);
    await backend.close();
  });

  test("stores 10,000 records in 10,000 weeks", async (folder) => {
    const backend = await open(folder.file("a.db"));
    const records = Array.from(
      { length: 10_000 },
      (_, i) => ({ timestamp: NEW_YEAR + i * 40 * 7 * 86_400_000, nodeId: "odd" }),
    );
    await write(backend, systemMetrics, records);
    const { system_metrics } = (await backend.stats()).datasets;
    assertEquals([system_metrics.rows, system_metrics.newest], [10_000, records.at(-1)!.timestamp]);
    const found = await read(backend, systemMetrics, { startTime: records[9_000].timestamp });
    assertEquals(found.length, 1_000);
    const before = records[5_000].timestamp;
    assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false }), 5_000);
    await backend.close();
  });

  test("reports a refusal in SQLite's words and continues", async (folder) => {
    const path = folder.file("a.db");
    for (const table of ["system_metrics", "ledger"]) { // by a statement that is kept, and by one that is not
      const backend = await open(path);
      const { exec, close } = (await loadSqliteDriver(driver)).open(path, { readOnly: false });
      exec(
        `CREATE TRIGGER refuse BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'not on a Sunday'); END`,
      );
      await assertRejects(
        () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
        BackendError,
        "not on a Sunday",
      );
      exec("DROP TRIGGER refuse");
      close();
      await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
      await backend.close();
    }
    const backend = await open(path);
    assertEquals((await read(backend, systemMetrics)).length, 2);
    await backend.close();
  });

  test("writes nothing when it is closed or read-only", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    await backend.close();
    const reader = await open(path, "read");
    for (
      const [refusing, reason] of [[backend, "the backend is closed"], [reader, "readonly"]] as const
    ) {
      const writing = () => write(refusing, systemMetrics, [{ timestamp: NEW_YEAR + 1 }]);
      const error = await assertRejects(writing, BackendError, reason) as BackendError;
      assertEquals(error.kind, "operator"); // of another kind, the records would be taken for what is wrong
    }
    assertEquals((await read(reader, systemMetrics)).length, 1);
    await reader.close();
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["a.db"]);
  });

  test("reports a full disk while it creates tables, and creates them later", async (folder) => {
    const path = folder.file("a.db");
    const { open: openDatabase } = await loadSqliteDriver(driver);
    const openFull: typeof openDatabase = (...args) => {
      const database = openDatabase(...args);
      const exec = (sql: string) => {
        if (sql !== "COMMIT") return database.exec(sql);
        database.exec("ROLLBACK"); // as SQLite does by itself
        throw new Error("database or disk is full");
      };
      return { ...database, exec };
    };
    const opening = () => openSqliteFile({ name: driver, open: openFull }, path, "create");
    const error = assertThrows(opening, BackendError, "Free some space") as BackendError;
    assertEquals([error.code, error.kind], ["DISK_FULL", "disk-full"]);
    await (await open(path)).close();
  });

  test("waits for a locked file on its first write", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    const other = (await loadSqliteDriver(driver)).open(path, { readOnly: false });
    other.exec("BEGIN IMMEDIATE");
    const error = await assertRejects(
      () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
      BackendError,
      "locked",
    ) as BackendError;
    assertEquals([error.kind, error.retryable, error.code], ["transient", true, "LOCKED"]);
    other.exec("COMMIT");
    other.close();
    let isSent = false;
    const records = [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }];
    await backend.write({ id: "b", dataset: systemMetrics, records }, () => isSent = true);
    assertEquals(isSent, threadRecords === 0); // only the thread says so
    await backend.close();
  });

  test("frees disk when rows are deleted", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    const rows = Array.from({ length: 25_000 }, (_, i) => ({
      timestamp: NEW_YEAR + i,
      labels: { text: "x".repeat(50) },
    }));
    await write(backend, systemMetrics, rows);
    await backend.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false });
    const before = Deno.statSync(path).size;
    assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 24_000, { dryRun: false }), 24_000);
    const after = Deno.statSync(path).size;
    assert(after < before / 5, `${before} bytes before, ${after} after`);
    await backend.close();
  });

  test("deletes requests older than 24 hours only in a cleanup", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    const write = (requestId: string) =>
      backend.write({
        id: crypto.randomUUID(),
        dataset: systemMetrics,
        records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }],
        members: [{ requestId, first: 0, count: 1, index: 0 }],
      });
    for (const [id, age] of [["old", 86_460_000], ["kept", 86_340_000]] as const) {
      await write(id);
      const time = Date.now() - age;
      await execute(driver, path, `UPDATE requests SET stored_at = ${time} WHERE request_id = '${id}'`);
    }
    const known = async (id: string) => (await write(id)).duplicates === 1;
    assertEquals([await known("old"), await known("kept")], [true, true]);
    await backend.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false });
    assertEquals([await known("old"), await known("kept")], [false, true]);
    await backend.close();
  });

  test("deletes ledger entries older than 30 days only in a cleanup", async (folder) => {
    const path = folder.file("a.db");
    const first = await open(path);
    const batch = { dataset: systemMetrics, records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }] };
    for (const id of ["old", "kept", "new"]) await first.write({ ...batch, id });
    await first.close();
    const DAY = 86_400_000;
    for (const [id, age] of [["old", 30 * DAY + 60_000], ["kept", 30 * DAY - 60_000]] as const) {
      const time = Date.now() - age;
      await execute(driver, path, `UPDATE ledger SET committed_at = ${time} WHERE batch_id = '${id}'`);
    }
    const second = await open(path);
    const known = async () => {
      const ids = ["old", "kept", "new"];
      const results = await Promise.all(ids.map((id) => second.write({ ...batch, id })));
      return ids.filter((_, i) => results[i].isReplay);
    };
    assertEquals(await known(), ["old", "kept", "new"]);
    await second.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: true });
    assertEquals(await known(), ["old", "kept", "new"]);
    await second.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false });
    assertEquals(await known(), ["kept", "new"]);
    assertEquals((await read(second, systemMetrics)).length, 4);
    await second.close();
  });

  test("starts no further step of a cleanup after its time", async (folder) => {
    const backend = await open(folder.file("a.db"));
    const rows = Array.from({ length: 10_200 }, (_, i) => ({ timestamp: NEW_YEAR + i }));
    await write(backend, systemMetrics, rows);
    const clean = (timeBudgetMs?: number) =>
      backend.deleteBefore(systemMetrics, NEW_YEAR + 10_100, { dryRun: false, timeBudgetMs });
    assertEquals([await clean(0), await clean()], [10_000, 100]);
    assertEquals((await read(backend, systemMetrics)).length, 100);
    await backend.close();
  });

  test("sees one state of the file in all statements of an aggregate", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const loaded = await loadSqliteDriver(driver);
    const [reading, other] = [false, false].map((readOnly) => loaded.open(path, { readOnly }));
    const count = "SELECT count(*) FROM system_metrics";
    const statements = [count, count];
    Object.defineProperty(statements, 1, {
      get() { // is read for the second statement, after the first one was run
        other.exec(
          "INSERT INTO system_metrics (timestamp, cluster_id, node_id) VALUES (1, 'c', 'n')",
        );
        return count;
      },
    });
    const ask = () => queryTogether(reading, { statements, parameters: [] }).flat(2);
    assertEquals([ask(), ask()], [[1, 1], [2, 2]]);
    for (const database of [reading, other]) database.close();
    await backend.close();
  });

  test("rolls back a failed batch and writes it completely later", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    const trigger = "CREATE TRIGGER t BEFORE INSERT ON system_metrics WHEN new.node_id = 'bad' " +
      "BEGIN SELECT RAISE(ABORT, 'refused by trigger'); END";
    await execute(driver, path, trigger);
    const batch = {
      id: "b",
      dataset: systemMetrics,
      records: ["good", "bad"].map((nodeId) => ({ timestamp: NEW_YEAR, clusterId: "c", nodeId })),
    };
    await assertRejects(() => backend.write(batch), BackendError, "refused by trigger");
    assertEquals(await read(backend, systemMetrics), []);
    await execute(driver, path, "DROP TRIGGER t");
    assertEquals((await backend.write(batch)).committed, 2);
    await backend.close();
  });

  test("counts no record that a trigger skips, and none that one adds elsewhere, as stored", async (folder) => {
    for (const onConflict of ["ignore", "replace"] as const) {
      const path = folder.file(`${onConflict}.db`);
      const backend = await SqliteBackend.open({ path, mode: "create", driver, onConflict, threadRecords });
      await write(backend, costEntries, [costEntry({ entryId: "a" })]);
      await execute(driver, path, "CREATE TABLE audit (name TEXT)");
      for (const [table, column] of [["system_metrics", "node_id"], ["cost_entries", "entry_id"]]) {
        const when = `ON ${table} WHEN new.${column}`;
        const skip = `BEFORE INSERT ${when} = 'bad' BEGIN SELECT RAISE(IGNORE); END`;
        const audit = `AFTER INSERT ${when} <> '' BEGIN INSERT INTO audit VALUES ('x'); END`;
        await execute(driver, path, `CREATE TRIGGER ${table}_skip ${skip}`);
        await execute(driver, path, `CREATE TRIGGER ${table}_audit ${audit}`);
      }
      const { warnings } = await backend.probe();
      assertEquals(warnings.filter((warning) => /has a trigger/.test(warning)).length, 2);
      const metrics = (nodeId: string) => ({ timestamp: NEW_YEAR, clusterId: "c", nodeId });
      assertEquals((await write(backend, systemMetrics, [metrics("a"), metrics("b")])).committed, 2);
      const { committed, duplicates, restated } = await write(
        backend,
        costEntries,
        ["a", "b", "c"].map((entryId) => costEntry({ entryId, amount: "2" })),
      );
      const isReplacing = onConflict === "replace";
      assertEquals([committed, duplicates, restated], isReplacing ? [3, 0, 1] : [2, 1, 0]);
      const skipped = "skipped a record";
      const bad = [metrics("c"), metrics("bad")];
      await assertRejects(() => write(backend, systemMetrics, bad), BackendError, skipped);
      const costs = [costEntry({ entryId: "d" }), costEntry({ entryId: "bad" })];
      await assertRejects(() => write(backend, costEntries, costs), BackendError, skipped);
      assertEquals([(await read(backend, systemMetrics)).length, (await read(backend, costEntries)).length], [
        2,
        3,
      ]);
      await backend.close();
    }
  });

  test("reports an altered table and writes nothing", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await execute(driver, path, "ALTER TABLE system_metrics RENAME COLUMN cpu_usage TO cpu");
    const error = await assertRejects(
      () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
      BackendError,
      "cpu_usage",
    ) as BackendError;
    assertEquals([error.retryable, error.operation], [false, "write"]);
    await backend.close();
  });

  test("refuses to write when its file was deleted or replaced", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    Deno.renameSync(path, folder.file("b.db"));
    const error = await assertRejects(
      () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
      BackendError,
      "deleted or replaced",
    ) as BackendError;
    assertEquals(error.retryable, false);
    Deno.renameSync(folder.file("b.db"), path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    assertEquals((await read(backend, systemMetrics)).length, 2);
    await backend.close();
  });

  /** Ways in which others spoil an open file. */
  const SPOILED: Readonly<
    Record<string, { spoil(path: string): void; message: string; isRescued?: boolean }>
  > = {
    "its -wal is removed": {
      spoil: (path) => Deno.removeSync(`${path}-wal`),
      message: "write-ahead log",
      isRescued: true,
    },
    "its -wal is replaced": {
      spoil(path) {
        Deno.removeSync(`${path}-wal`);
        Deno.createSync(`${path}-wal`).close();
      },
      message: "write-ahead log",
    },
    "it is truncated to nothing": { spoil: (path) => Deno.truncateSync(path), message: "truncated" },
    "it is truncated to a half": {
      spoil: (path) => Deno.truncateSync(path, Math.floor(Deno.statSync(path).size / 8_192) * 4_096),
      message: "truncated",
    },
  };

  for (const [how, { spoil, message, isRescued = false }] of Object.entries(SPOILED)) {
    test(`acknowledges no batch after ${how}`, async (folder) => {
      if (Deno.build.os === "windows") return; // open files cannot be removed there
      const path = folder.file("a.db");
      const backend = await open(path);
      const rows = Array.from({ length: 3_000 }, (_, i) => ({ timestamp: NEW_YEAR + i }));
      await write(backend, systemMetrics, rows);
      await execute(driver, path, "PRAGMA wal_checkpoint(TRUNCATE)"); // into the file
      await write(backend, systemMetrics, rows);
      await backend.documents.write({ kind: "k", id: "i", body: 0 });
      spoil(path);
      for (let attempt = 0; attempt < 2; attempt++) {
        const writing = () => write(backend, systemMetrics, rows.slice(0, 10));
        const error = await assertRejects(writing, BackendError, message) as BackendError;
        assertEquals([error.kind, error.code], ["operator", "FILE_REPLACED"]);
        await assertRejects(() => backend.documents.write({ kind: "k", id: "i", body: 1 }), BackendError);
        const deleting = () => backend.deleteMatching(systemMetrics, acceptQuery(systemMetrics, {}));
        await assertRejects(deleting, BackendError);
        const cleaning = () => backend.deleteBefore(systemMetrics, NEW_YEAR + 5, { dryRun: false });
        await assertRejects(cleaning, BackendError);
      }
      await backend.close().catch(() => {}); // SQLite may find the file malformed
      if (!isRescued) return;
      const again = await open(path);
      assertEquals((await again.stats()).datasets.system_metrics.rows, 6_000);
      await again.close();
    });
  }

  test("changes nothing in a file that is gone, and acknowledges nothing if it goes meanwhile", async (folder) => {
    if (Deno.build.os === "windows") return; // open files cannot be removed there
    const path = folder.file("a.db");
    const database = openSqliteFile(await loadSqliteDriver(driver), path, "create");
    const guard = new FileGuard(database, { path, inode: Deno.statSync(path).ino });
    let changes = 0;
    assertEquals(guard.around(() => ++changes), 1);
    const away = folder.file("away.db");
    Deno.renameSync(path, away);
    assertThrows(() => guard.around(() => ++changes), BackendError, "deleted or replaced");
    Deno.renameSync(away, path);
    assertEquals(guard.around(() => ++changes), 2);
    const moving = () => {
      changes++;
      Deno.renameSync(path, away);
    };
    assertThrows(() => guard.around(moving), BackendError, "deleted or replaced");
    assertEquals(changes, 3);
    database.close();
  });

  test("writes on after another process has made the file smaller", async (folder) => {
    const path = folder.file("a.db");
    const backends = await Promise.all([open(path), open(path)]);
    const rows = Array.from({ length: 20_000 }, (_, i) => ({ timestamp: NEW_YEAR + i }));
    await write(backends[0], systemMetrics, rows);
    await execute(driver, path, "PRAGMA wal_checkpoint(TRUNCATE)");
    await write(backends[0], systemMetrics, [{ timestamp: NEW_YEAR + 30_000 }]);
    const { size } = Deno.statSync(path);
    await backends[1].deleteBefore(systemMetrics, NEW_YEAR + 20_000, { dryRun: false });
    assert(Deno.statSync(path).size < size / 2);
    await write(backends[0], systemMetrics, rows.slice(0, 10));
    assertEquals((await read(backends[0], systemMetrics)).length, 11);
    await Promise.all(backends.map((backend) => backend.close()));
  });

  test("keeps its file lock while it reads and writes", async (folder) => {
    if (Deno.build.os !== "linux") return; // only there can the locks be looked at
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const locks = () => {
      const file = `:${Deno.statSync(path).ino} `;
      return Deno.readTextFileSync("/proc/locks").split("\n").filter((lock) => lock.includes(file)).length;
    };
    assertEquals(locks(), 1);
    await read(backend, systemMetrics);
    assertEquals(locks(), 1);
    await backend.close();
    assertEquals(locks(), 0);
  });

  test("creates the target of a dangling link with mode 0600", async (folder) => {
    if (Deno.build.os === "windows") return; // has neither mode nor, without a privilege, links
    Deno.symlinkSync("real.db", folder.file("link.db"));
    await (await open(folder.file("link.db"))).close();
    const { mode, isFile } = Deno.lstatSync(folder.file("real.db"));
    assertEquals([mode! & 0o777, isFile], [0o600, true]);
    assertEquals(Deno.lstatSync(folder.file("link.db")).isSymlink, true);
    const { location } = parseConnectionString("sqlite:///file:z.db");
    const here = Deno.cwd();
    Deno.chdir(folder.path);
    try {
      await (await open(location)).close();
    } finally {
      Deno.chdir(here);
    }
    assertEquals(Deno.lstatSync(folder.file("file:z.db")).mode! & 0o777, 0o600);
    assert(Deno.lstatSync(folder.file("file:z.db")).size > 0);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), [
      "file:z.db",
      "link.db",
      "real.db",
    ]);
  });

  test("opens for reading without creating a file", async (folder) => {
    for (const mode of ["read", "existing"] as const) {
      await assertRejects(() => open(folder.file("none.db"), mode), BackendError, "no such file");
    }
    assertEquals([...Deno.readDirSync(folder.path)], []);
  });

  test("refuses to change an empty database when it may not create tables", async (folder) => {
    const path = folder.file("a.db");
    Deno.createSync(path).close();
    for (const mode of ["existing", "read"] as const) {
      await assertRejects(() => open(path, mode), BackendError, "it has no tables");
    }
    assertEquals(Deno.statSync(path).size, 0);
    await assertRejects(
      () => open("", "read"),
      BackendError,
      "Cannot open sqlite://: a new database in memory",
    );
  });

  test("refuses a missing folder and a folder in place of a file", async (folder) => {
    await assertRejects(() => open(folder.file("no/a.db")), BackendError, "its folder does not exist");
    await assertRejects(() => open(folder.path), BackendError, "it is a folder");
    Deno.writeTextFileSync(folder.file("file"), "");
    await assertRejects(() => open(folder.file("file/a.db")), BackendError, "Cannot open");
    await assertRejects(() => open(folder.file("x".repeat(300))), BackendError, "Cannot open");
  });

  test("refuses a file that is not a database and keeps it", async (folder) => {
    const path = folder.file("a.db");
    Deno.writeTextFileSync(path, "timestamp,value\n".repeat(1_000));
    for (const mode of ["create", "existing", "read"] as const) {
      await assertRejects(() => open(path, mode), BackendError, "not a database");
    }
    assertEquals(Deno.readTextFileSync(path), "timestamp,value\n".repeat(1_000));
  });

  test("refuses a newer schema and keeps the file", async (folder) => {
    const path = folder.file("a.db");
    await (await open(path)).close();
    await execute(driver, path, "INSERT INTO schema_version VALUES (99, 0, 99)");
    const before = Deno.readFileSync(path);
    for (const mode of ["create", "existing", "read"] as const) {
      await assertRejects(() => open(path, mode), BackendError, "its schema has version 99");
    }
    assertEquals(Deno.readFileSync(path), before);
  });

  test("notes its schema once, however often it is opened", async (folder) => {
    const path = folder.file("a.db");
    for (let i = 0; i < 3; i++) await (await open(path)).close();
    const database = (await loadSqliteDriver(driver)).open(path, { readOnly: true });
    assertEquals(database.prepare("SELECT version FROM schema_version").all([]), [[SCHEMA_VERSION]]);
    database.close();
  });

  test("upgrades schema version 1 once, and reads it unchanged when read-only", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    await write(backend, costEntries, [costEntry()]);
    await backend.close();
    for (const statement of undoUpgrade(upgradesFrom(1))) await execute(driver, path, statement);
    await execute(driver, path, "UPDATE schema_version SET version = 1");
    const before = Deno.readFileSync(path);
    const reader = await open(path, "read");
    assertEquals(await reader.documents.read(), []);
    assertEquals((await reader.stats()).datasets.device_metrics, { rows: 0 });
    assertEquals(await countsByReading(reader), {
      system_metrics: [1, 1, 1, 1],
      service_metrics: [0, 0, 0, 0],
      device_metrics: [0, 0, 0, 0],
      usage_records: [0, 0, 0, 0],
      cost_entries: [1, 1, 1, 1],
      metric_points: [0, 0, 0, 0],
    });
    const costs = await read(reader, costEntries);
    assertEquals(costs, [{ ...costEntry(), currency: "USD" } as CostEntry]);
    await reader.close();
    assertEquals(Deno.readFileSync(path), before);
    const writers = await Promise.all(Array.from({ length: 3 }, () => open(path)));
    await writers[2].documents.write({ kind: "budget", id: "x", body: 1 });
    assertEquals(await writers[0].documents.read(), [{ kind: "budget", id: "x", body: 1 }]);
    assertEquals((await read(writers[1], systemMetrics)).length, 1);
    await write(writers[1], costEntries, [FULL_COST_ENTRY]);
    assertEquals(await read(writers[0], costEntries), [...costs, FULL_COST_ENTRY]);
    assertEquals((await writers[0].probe()).details.schemaVersion, SCHEMA_VERSION);
    await Promise.all(writers.map((writer) => writer.close()));
  });

  test("refuses a database whose schema_version was emptied, and says what to do", async (folder) => {
    const path = folder.file("a.db");
    await (await open(path)).close();
    await execute(driver, path, "DELETE FROM schema_version");
    await assertRejects(() => open(path), BackendError, "the table schema_version is empty");
    await execute(driver, path, `INSERT INTO schema_version VALUES (${SCHEMA_VERSION}, 0, 1)`);
    await (await open(path)).close();
  });

  test("refuses another program's database with tables of the same names", async (folder) => {
    const path = folder.file("a.db");
    Deno.createSync(path).close();
    await execute(driver, path, "CREATE TABLE schema_version (version INTEGER)");
    await execute(driver, path, "INSERT INTO schema_version VALUES (1)");
    const before = Deno.readFileSync(path);
    for (const mode of ["create", "existing", "read"] as const) {
      await assertRejects(() => open(path, mode), BackendError, "holds tables of another program");
    }
    assertEquals(Deno.readFileSync(path), before);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["a.db"]);
  });

  test("opens and cleans a database that was dumped and restored", async (folder) => {
    const path = folder.file("a.db");
    const { open: openRaw } = await loadSqliteDriver(driver);
    Deno.createSync(path).close();
    const restored = openRaw(path, { readOnly: false });
    for (const statement of upgradesFrom(0)) restored.exec(statement); // without auto_vacuum, as .dump has it
    restored.exec(`INSERT INTO schema_version VALUES (${SCHEMA_VERSION}, 0, ${SCHEMA_VERSION})`);
    restored.close();
    const backend = await open(path);
    const rows = Array.from({ length: 2_000 }, (_, i) => ({ timestamp: NEW_YEAR + i }));
    await write(backend, systemMetrics, rows);
    assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 1_999, { dryRun: false }), 1_999);
    assert((await backend.probe()).warnings.some((warning) => warning.includes("auto_vacuum")));
    await backend.close();
  });

  test("cleans up beside a busy writer", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const { open: openRaw } = await loadSqliteDriver(driver);
    const other = openRaw(path, { readOnly: false });
    other.exec("BEGIN IMMEDIATE");
    const deleting = backend.deleteBefore(systemMetrics, NEW_YEAR + 1, { dryRun: false });
    setTimeout(() => other.exec("ROLLBACK"), 0); // comes after the first attempt: that blocks the event loop
    assertEquals(await deleting, 1);
    other.close();
    await backend.close();
  });

  test("creates files that only their owner can read", async (folder) => {
    if (Deno.build.os === "windows") return; // has no such modes
    const path = folder.file("a.db");
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const files = [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort();
    assertEquals(files, ["a.db", "a.db-shm", "a.db-wal"]);
    for (const file of files) {
      assertEquals(Deno.statSync(folder.file(file)).mode! & 0o777, 0o600, file);
    }
    await backend.close();
  });

  test("accepts a path with spaces, quotes, percent and hash", async (folder) => {
    const path = folder.file('it\'s 100% #1 "ä".db');
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    assertEquals((await read(backend, systemMetrics)).length, 1);
    await backend.close();
  });

  test("reports driver, version and file and warns of a faulty version", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    const { details, warnings } = await backend.probe();
    assertEquals([details.driver, details.file, details.schemaVersion], [driver, path, SCHEMA_VERSION]);
    const isSound = String(details.sqliteVersion).localeCompare("3.51.3", "en", { numeric: true }) >= 0;
    assertEquals(warnings.length, isSound ? 0 : 1);
    await backend.close();
  });

  test("uses the time index for ranges and the node index for nodes", async (folder) => {
    const path = folder.file("a.db");
    await (await open(path)).close();
    const plan = (where: string) =>
      execute(
        driver,
        path,
        `EXPLAIN QUERY PLAN SELECT * FROM system_metrics WHERE ${where} ORDER BY timestamp`,
      );
    assert((await plan("timestamp >= 1 AND timestamp < 2")).includes("system_metrics_timestamp "));
    const byNode = await plan("cluster_id = 'c' AND node_id = 'n' AND timestamp >= 1");
    assert(byNode.includes("system_metrics_cluster_id_node_id_timestamp "), byNode);
    assert(!byNode.includes("TEMP B-TREE"), byNode);
  });

  test("ends a pending read with an error when the file is gone", async (folder) => {
    const path = folder.file("a.db");
    const backend = await open(path);
    await backend.close();
    Deno.removeSync(path);
    await assertRejects(
      () => Array.fromAsync(backend.read(systemMetrics, acceptQuery(systemMetrics))),
      BackendError,
      "no such file",
    );
  });
}

/** Runs SQL on a file behind the backend's back; gives the rows as text. */
async function execute(driver: SqliteDriverName, path: string, sql: string): Promise<string> {
  const database = (await loadSqliteDriver(driver)).open(path, { readOnly: false });
  try {
    return [...database.prepare(sql).iterate([])].join("\n");
  } finally {
    database.close();
  }
}
