import type { OpenMode } from "../src/backends/backend.ts";
import { DuckdbBackend } from "../src/backends/duckdb.ts";
import { loadDuckdbDriver } from "../src/backends/duckdb/driver.ts";
import { DuckdbFile } from "../src/backends/duckdb/file.ts";
import { SCHEMA_VERSION } from "../src/backends/duckdb/schema.ts";
import { DuckdbSession } from "../src/backends/duckdb/session.ts";
import { writeBatch } from "../src/backends/duckdb/writer.ts";
import { openBackend } from "../src/open_backend.ts";
import { BackendError, errorCodeOf } from "../src/errors.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { Decimal } from "../src/records/decimal.ts";
import { type DeviceMetrics, deviceMetrics } from "../src/records/device_metrics.ts";
import { metricPoints } from "../src/records/metric_point.ts";
import { acceptQuery } from "../src/records/query.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { migrate } from "../src/transfer/migrate.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { backendContract, read, write } from "./backend_contract.ts";
import { openfinops, RUN } from "./command.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";
import { Chance } from "./faults/chance.ts";
import { killImport } from "./faults/deliveries.ts";
import { fillDisk, killWriter } from "./faults/scenarios.ts";
import {
  costEntry,
  FULL_COST_ENTRY,
  FULL_DEVICE_METRICS,
  FULL_SYSTEM_METRICS,
  NEW_YEAR,
  TemporaryFolder,
} from "./fixtures.ts";
import { until } from "./until.ts";
import { startServer } from "./server.ts";

await useDuckdbLibrary();

backendContract("DuckdbBackend (file)", async ({ onConflict }) => {
  const folder = new TemporaryFolder();
  const backend = await DuckdbBackend.open({ path: folder.file("test.duckdb"), mode: "create", onConflict });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      folder[Symbol.dispose]();
    },
  };
});

const open = (path: string, mode: OpenMode = "create") =>
  DuckdbBackend.open({ path, mode, onConflict: "ignore" });

const test = (title: string, run: (folder: TemporaryFolder) => Promise<void>) =>
  Deno.test(`DuckdbBackend ${title}`, async () => {
    using folder = new TemporaryFolder();
    await run(folder);
  });

/** Runs SQL in a file, without the library. */
async function runSql(path: string, ...statements: string[]): Promise<void> {
  const driver = await loadDuckdbDriver();
  const database = await driver.get_or_create_from_cache(
    driver.create_instance_cache(),
    path,
    driver.create_config(),
  );
  const connection = await driver.connect(database);
  for (const statement of statements) await driver.query(connection, statement);
  driver.disconnect_sync(connection);
  driver.close_sync(database);
}

/** Rows of a query that DuckDB answers without the library. */
async function rowsOf(sql: string): Promise<unknown[][]> {
  const driver = await loadDuckdbDriver();
  const database = await driver.get_or_create_from_cache(
    driver.create_instance_cache(),
    ":memory:",
    driver.create_config(),
  );
  const session = new DuckdbSession(driver, await driver.connect(database));
  const rows = await session.query(sql);
  await session.close();
  driver.close_sync(database);
  return rows;
}

test("names the database in the error of a commit", async () => {
  const driver = await loadDuckdbDriver();
  for (const [path, name] of [["a.duckdb", "a.duckdb"], ["", "the DuckDB database in memory"]]) {
    const database = await driver.get_or_create_from_cache(
      driver.create_instance_cache(),
      ":memory:",
      driver.create_config(),
    );
    const session = new DuckdbSession(driver, await driver.connect(database), path);
    const ended = () => session.transaction(() => session.execute("ROLLBACK"));
    await assertRejects(ended, Error, `Cannot commit ${name}:`);
    await session.close();
    driver.close_sync(database);
  }
});

test("takes as many statements for the requests of a batch, however many they are", async (folder) => {
  const path = folder.file("a.duckdb");
  await (await open(path)).close();
  const driver = await loadDuckdbDriver();
  let statements = 0;
  const counting: typeof driver = Object.create(driver, {
    query: { value: (...args: Parameters<typeof driver.query>) => (statements++, driver.query(...args)) },
  });
  const database = await driver.get_or_create_from_cache(
    driver.create_instance_cache(),
    path,
    driver.create_config(),
  );
  const session = new DuckdbSession(counting, await driver.connect(database));
  const statementsFor = async (requests: number) => {
    statements = 0;
    const members = Array.from({ length: requests }, (_, index) => ({
      requestId: `${requests}.${index}`,
      first: 0,
      count: 1,
      index,
    }));
    const records = members.map(() => FULL_SYSTEM_METRICS);
    const batch = { id: `${requests}`, dataset: systemMetrics, records, members };
    assertEquals((await writeBatch(session, batch, { onConflict: "ignore" })).committed, requests);
    return statements;
  };
  await statementsFor(1); // the first reads the columns of the table
  assertEquals(await statementsFor(200), await statementsFor(2));
  await session.close();
  driver.close_sync(database);
});

test("keeps records in one file, private to its owner, while it is open and after", async (folder) => {
  const path = folder.file("a.duckdb");
  const modes = () =>
    [...Deno.readDirSync(folder.path)].map(({ name }) =>
      `${name} ${(Deno.statSync(folder.file(name)).mode! & 0o777).toString(8)}`
    ).sort();
  for (const i of [1, 2]) {
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR + i }]);
    assertEquals((await read(backend, systemMetrics)).length, i);
    assertEquals(modes(), ["a.duckdb 600", "a.duckdb.wal 600"]);
    await backend.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false }); // writes the log into the file
    await write(backend, costEntries, [costEntry({ entryId: `e${i}` })]);
    assertEquals(modes(), ["a.duckdb 600", "a.duckdb.wal 600"]);
    await backend.close();
    assertEquals(modes(), ["a.duckdb 600"]);
  }
});

test("shares its file within a process, and adds each record once", async (folder) => {
  const path = folder.file("a.duckdb");
  const backends = await Promise.all([open(path), open(path)]);
  const reader = await open(path, "read");
  const records = [FULL_COST_ENTRY];
  const batch = { id: "one", dataset: costEntries, records };
  const results = await Promise.all([...backends, ...backends].map((backend) => backend.write(batch)));
  assertEquals(results.filter(({ isReplay }) => !isReplay).length, 1);
  assertEquals((await read(reader, costEntries)).length, 1);
  await backends[0].close();
  assertEquals((await write(backends[1], costEntries, records)).duplicates, 1);
  for (const backend of [reader, ...backends]) await backend.close();
});

test("names --server when another process has the file", async (folder) => {
  const at = ["--connection-string", "duckdb:///a.duckdb"];
  const backend = await open(folder.file("a.duckdb"));
  for (const command of [["stats"], ["query", "metrics"], ["cleanup", "--yes"]]) {
    const { code, out, err } = await openfinops(["database", ...command, ...at], { cwd: folder.path });
    assertEquals([code, out], [1, ""]);
    assertMatch(err, /Cannot open a\.duckdb: another process .* add --server URL .*\[FILE_IN_USE\]\n$/);
  }
  { // A server with a spool starts, and takes records in when it gets the file.
    await using server = await startServer([...at, "--spool-directory", "spool"], { cwd: folder.path });
    await server.line((line) => line.includes("another process has the file open"));
    const body = JSON.stringify([{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }]);
    const headers = { "content-type": "application/json" };
    const post = async () =>
      (await server.send("/api/v1/system-metrics", { method: "POST", body, headers })).status;
    assertEquals(await post(), 503);
    await backend.close();
    await until(async () => await post() !== 503, "the server has the file");
    assertEquals(await server.stop(), 0);
  }
  const { code, out } = await openfinops(["database", "test-connection", ...at, "--format", "json"], {
    cwd: folder.path,
  });
  assertEquals([code, JSON.parse(out).writable], [0, true]);
  const stored = await open(folder.file("a.duckdb"), "read");
  assert((await stored.stats()).datasets.system_metrics.rows > 0);
  await stored.close();
});

test("can be read by several processes at once", async (folder) => {
  await (await open(folder.file("a.duckdb"))).close();
  const reader = await open(folder.file("a.duckdb"), "read");
  const at = ["--connection-string", "duckdb:///a.duckdb"];
  assertEquals((await openfinops(["database", "query", "metrics", ...at], { cwd: folder.path })).code, 0);
  await assertRejects(
    () => write(reader, systemMetrics, [{ timestamp: NEW_YEAR }]),
    BackendError,
    "readonly",
  );
  assertEquals((await reader.probe()).writable, false);
  await reader.close();
});

test("counts the write-ahead log in its size", async (folder) => {
  const path = folder.file("a.duckdb");
  const backend = await open(path);
  for (let i = 0; i < 20; i++) await write(backend, costEntries, [costEntry({ entryId: `${i}` })]);
  const { storage: { fileSizeBytes } } = await backend.stats();
  const [file, log] = [path, `${path}.wal`].map((path) => Deno.statSync(path).size);
  assert(log > 0);
  assertEquals(fileSizeBytes, file + log);
  await backend.close();
});

test("refuses files that are not its own, and leaves them unchanged", async (folder) => {
  const path = folder.file("a.duckdb");
  const refused = async (mode: OpenMode, code: string) => {
    const error = await assertRejects(() => open(path, mode), BackendError, path);
    assertEquals(errorCodeOf(error), code, String(error));
  };
  await refused("existing", "FILE_NOT_FOUND");
  await refused("read", "FILE_NOT_FOUND");
  Deno.writeTextFileSync(path, "a text, and not a database");
  await refused("create", "NOT_A_DATABASE");
  assertEquals(Deno.readTextFileSync(path), "a text, and not a database");
  Deno.removeSync(path);
  await (await openBackend({ connectionString: folder.sqlite("a.duckdb") }, { mode: "create" })).close();
  await refused("create", "NOT_A_DATABASE");
  await refused("read", "NOT_A_DATABASE");
  Deno.removeSync(path);
  await runSql(path, "CREATE TABLE other (a INTEGER)");
  const before = Deno.readFileSync(path);
  await refused("create", "TABLES_FOREIGN");
  assertEquals(Deno.readFileSync(path), before);
  Deno.removeSync(path);
  await (await open(path)).close();
  await runSql(path, "UPDATE schema_version SET version = 999, writable_from = 999");
  await refused("create", "SCHEMA_TOO_NEW");
  await refused("read", "SCHEMA_TOO_NEW");
  await runSql(path, `UPDATE schema_version SET writable_from = ${SCHEMA_VERSION}`);
  const newer = await open(path);
  assertEquals((await newer.probe()).warnings.length, 1);
  await newer.close();
  Deno.removeSync(path);
  Deno.mkdirSync(path);
  await refused("create", "NOT_A_FILE");
});

test("upgrades an older schema once, and reads it unchanged when read-only", async (folder) => {
  const path = folder.file("a.duckdb");
  const backend = await open(path);
  await write(backend, costEntries, [FULL_COST_ENTRY]);
  await backend.close();
  await runSql(path, "DROP TABLE metric_points", "UPDATE schema_version SET version = 5");
  const before = Deno.readFileSync(path);
  const reader = await open(path, "read");
  assertEquals(await read(reader, costEntries), [FULL_COST_ENTRY]);
  assertEquals(await read(reader, metricPoints), []);
  assertEquals((await reader.stats()).datasets.metric_points.rows, 0);
  await reader.close();
  assertEquals(Deno.readFileSync(path), before);
  for (const _ of [1, 2]) await (await open(path)).close();
  const upgraded = await open(path);
  await write(upgraded, metricPoints, [{ timestamp: NEW_YEAR, name: "m", value: 1 }]);
  assertEquals((await read(upgraded, metricPoints)).length, 1);
  assertEquals((await upgraded.probe()).details.schemaVersion, SCHEMA_VERSION);
  await upgraded.close();
  const versions = await DuckdbFile.open(path, "read");
  const sql = "SELECT version FROM schema_version ORDER BY 1";
  assertEquals(await versions.use("read", (session) => session.query(sql)), [[5], [SCHEMA_VERSION]]);
  await versions.close();
});

test("loads nothing, and touches no other file", async (folder) => {
  const file = await DuckdbFile.open(folder.file("a.duckdb"), "create");
  const statements = [
    "INSTALL httpfs",
    "LOAD httpfs",
    `COPY ledger TO '${folder.file("b.csv")}'`,
    "SELECT * FROM read_csv('/etc/passwd')",
    `ATTACH '${folder.file("b.duckdb")}'`,
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
  ];
  for (const sql of statements) await assertRejects(() => file.use("read", (session) => session.query(sql)));
  await file.close();
  assertEquals([...Deno.readDirSync(folder.path)].length, 1);
});

test("does not acknowledge a write into a file that was deleted or replaced", async (folder) => {
  const path = folder.file("a.duckdb");
  for (const harm of [() => Deno.removeSync(path), () => Deno.copyFileSync(path, folder.file("b"))]) {
    const backend = await open(path);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    harm();
    if (harm.toString().includes("copy")) Deno.renameSync(folder.file("b"), path);
    const error = await assertRejects(
      () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
      BackendError,
      "was deleted or replaced",
    );
    assertEquals(errorCodeOf(error), "FILE_REPLACED");
    await backend.close();
  }
});

test("sums amounts exactly where the sum has more digits than a decimal of DuckDB", async (folder) => {
  const backend = await open(folder.file("a.duckdb"));
  const amount = (sign: string) => `${sign}999999999999999999.999999999999999999`;
  const costs = (currency: string, sign: string) =>
    Array.from(
      { length: 400 },
      (_, i) => costEntry({ entryId: `${currency}${i}`, currency, amount: amount(sign) }),
    );
  await write(backend, costEntries, [...costs("XTS", ""), ...costs("EUR", "-")]);
  await write(backend, costEntries, [costEntry({ currency: "USD", amount: "-0.5" })]);
  assertEquals((await backend.stats()).totals.map(({ currency, total }) => [currency, total]), [
    ["EUR", "-399999999999999999999.9999999999999996"],
    ["USD", "-0.5"],
    ["XTS", "399999999999999999999.9999999999999996"],
  ]);
  await backend.close();
});

test("keeps records of all times, integers and maps exactly", async (folder) => {
  const path = folder.file("a.duckdb");
  const backend = await open(path);
  const times = [
    NEW_YEAR - 1,
    NEW_YEAR,
    2 ** 41 - 1,
    2 ** 41,
    9_007_199_254_740,
    9_007_199_254_741,
    253_402_300_799_999,
  ];
  const numbers = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 3];
  const records = times.map((timestamp, i) => ({
    timestamp,
    clusterId: "default",
    nodeId: "x".repeat(10 + i),
    activeConnections: numbers[i],
    labels: JSON.parse(`{ "__proto__": "é${i}", "${"k".repeat(11 + i)}": "" }`),
  }));
  await write(backend, systemMetrics, records);
  assertEquals(await read(backend, systemMetrics), records as SystemMetrics[]);
  const { datasets } = await backend.stats();
  assertEquals([datasets.system_metrics.oldest, datasets.system_metrics.newest], [times[0], times.at(-1)]);
  await backend.close();
});

test("keeps and finds texts of all lengths and letters, repeated or not", async (folder) => {
  const backend = await open(folder.file("a.duckdb"));
  const letters = ["a", "\x7f", "\x80", "é", "€", "😀"];
  const lengths = [1, 2, 3, 4, 5, 11, 12, 13, 14, 40];
  const texts = letters.flatMap((letter) => lengths.map((length) => letter.repeat(length)));
  for (let i = 0; i < 300; i++) texts.push(`a long text with the number ${i}`);
  const records = Array.from({ length: 3_000 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: texts[i * 7 % texts.length],
    nodeId: texts[i % 3],
    deviceId: texts[i % texts.length],
    ...(i % 5 === 0 ? {} : { partition: texts[i % texts.length] }),
    labels: { [texts[i % 60]]: texts[i * 11 % texts.length], other: "" },
  }));
  await write(backend, deviceMetrics, records);
  assertEquals(await read(backend, deviceMetrics), records as DeviceMetrics[]);
  const count = { groupBy: [{ field: "clusterId" }], measures: [{ function: "count" as const }] };
  const found = await backend.aggregate(deviceMetrics, acceptQuery(deviceMetrics, {}), count);
  assertEquals(
    new Map(found.map(({ group: [clusterId], values: [rows] }) => [clusterId, rows])),
    new Map(texts.map((text) => [text, records.filter(({ clusterId }) => clusterId === text).length])),
  );
  await backend.close();
});

test("says to name a file when a new database in memory is read", async () => {
  const error = await assertRejects(() => open("", "read"), BackendError, "Name a file");
  assertEquals(errorCodeOf(error), "TABLES_MISSING");
});

test("counts costs of one id at other times as others", async (folder) => {
  const backend = await open(folder.file("a.duckdb"));
  const entries = [0, 1, 1, 2].map((at) => costEntry({ entryId: "same", timestamp: NEW_YEAR + at }));
  const { committed, duplicates } = await write(backend, costEntries, entries);
  assertEquals([committed, duplicates], [3, 1]);
  assertEquals((await read(backend, costEntries)).map(({ timestamp }) => timestamp - NEW_YEAR), [0, 1, 2]);
  await backend.close();
});

test("gives the disk of deleted records back, beside a reader and with an index of the operator", async (folder) => {
  const path = folder.file("a.duckdb");
  await (await open(path)).close();
  const random = "random()";
  await runSql(
    path,
    "INSERT INTO system_metrics (timestamp, cluster_id, node_id, cpu_usage, memory_usage, disk_usage, gpu_usage) " +
      `SELECT epoch_ms(${NEW_YEAR} + i), 'c', 'n', ${random}, ${random}, ${random}, ${random} FROM range(300000) AS t (i)`,
    "CREATE INDEX mine ON usage_records (model)",
  );
  const { size } = Deno.statSync(path);
  const backend = await open(path);
  const reading = backend.read(systemMetrics, acceptQuery(systemMetrics, { startTime: NEW_YEAR + 260_000 }));
  const first = await reading.next();
  assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 270_000, { dryRun: false }), 270_000);
  let count = first.value!.length;
  for await (const page of reading) count += page.length;
  assertEquals(count, 40_000);
  assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 270_001, { dryRun: false }), 1);
  assertEquals((await read(backend, systemMetrics, { limit: 1 }))[0].timestamp, NEW_YEAR + 270_001);
  assertEquals((await backend.stats()).datasets.system_metrics.rows, 29_999);
  await write(backend, usageRecords, [{ timestamp: NEW_YEAR, usageId: "u", model: "m" }]);
  await backend.close();
  assert(Deno.statSync(path).size < size / 3, `${size} bytes before, ${Deno.statSync(path).size} after`);
  await runSql(path, "DROP INDEX mine"); // it is still there
});

test("reads pages in flat memory when records are not in order", async (folder) => {
  const path = folder.file("a.duckdb");
  await (await open(path)).close();
  await runSql(
    path,
    "INSERT INTO system_metrics (timestamp, cluster_id, node_id, active_connections) " +
      `SELECT epoch_ms(${NEW_YEAR} + (i * 7919) % 70000), 'c', 'n', i FROM range(70000) AS t (i)`,
  );
  const backend = await open(path);
  for (const order of ["asc", "desc"] as const) {
    const expected = order === "asc" ? 1 : -1;
    let [count, last, largest] = [0, order === "asc" ? -Infinity : Infinity, 0];
    for await (const page of backend.read(systemMetrics, acceptQuery(systemMetrics, { order }))) {
      for (const { timestamp } of page) {
        assert(Math.sign(timestamp - last) === expected);
        last = timestamp;
      }
      count += page.length;
      largest = Math.max(largest, page.length);
    }
    assertEquals(count, 70_000);
    assert(largest <= 2_048);
  }
  await backend.close();
});

test("ends a read when its signal aborts, and closes while others read", async (folder) => {
  const path = folder.file("a.duckdb");
  await (await open(path)).close();
  await runSql(
    path,
    "INSERT INTO system_metrics (timestamp, cluster_id, node_id, cpu_usage) " +
      `SELECT epoch_ms(${NEW_YEAR} + i), 'c' || i, 'n', random() FROM range(1000000) AS t (i)`,
  );
  const backend = await open(path);
  const abort = new AbortController();
  const measures = [{ function: "percentile" as const, field: "cpuUsage", fraction: 0.95 }];
  const asked = backend.aggregate(systemMetrics, acceptQuery(systemMetrics), {
    groupBy: [{ field: "clusterId" }],
    measures,
  }, abort);
  const refused = assertRejects(() => asked, Error, "enough");
  setTimeout(() => abort.abort(new Error("enough")), 20);
  await refused;
  const reading = backend.read(systemMetrics, acceptQuery(systemMetrics));
  await reading.next();
  await backend.close();
  const error = await assertRejects(() => reading.next(), BackendError, "closed");
  assertEquals(errorCodeOf(error), "CLOSED");
});

test("says what to do where DuckDB cannot be loaded", async (folder) => {
  const at = ["database", "stats", "--connection-string", "duckdb:///a.duckdb"];
  const ask = async (flags: string[], env: Record<string, string> = {}) => {
    const [command, ...rest] = RUN.filter((word) => word !== "-A");
    return await openfinops(at, { cwd: folder.path, env, run: [command, ...flags, ...rest] });
  };
  const without = await ask(["--allow-read", "--allow-env"]);
  assertEquals(without.code, 1);
  assertMatch(without.err, /Requires ffi access.*--allow-ffi.*\[PERMISSION_MISSING\]\n$/);
  const broken = await ask(["-A"], { OPENFINOPS_DUCKDB: folder.file("none.node") });
  assertEquals(broken.code, 1);
  assertMatch(
    broken.err,
    /Correct OPENFINOPS_DUCKDB, or unset it\. Else run `npm install @duckdb\/node-bindings@.*sqlite:\/\/\/.*\[DRIVER_MISSING\]\n$/,
  );
  Deno.writeTextFileSync(folder.file("a.duckdb"), "");
  const unreadable = await ask(["--allow-ffi", "--allow-env", "--deny-read=a.duckdb", "--allow-read"]);
  assertMatch(unreadable.err, /Requires read access .*\[PERMISSION_MISSING\]\n$/);
});

test("reads the months of an export as they were exported, exactly", async (folder) => {
  const backend = await open(folder.file("a.duckdb"));
  const costs = [
    costEntry({ entryId: "a", timestamp: Date.UTC(2026, 9, 1), amount: "0.000000000000000001" }),
    costEntry({
      entryId: "b",
      timestamp: Date.UTC(2026, 9, 31, 23, 59, 59, 999),
      tags: { "": "x", team: "é" },
    }),
    costEntry({
      entryId: "c",
      timestamp: Date.UTC(2026, 10, 1),
      amount: "-999999999999999999.9",
      currency: "EUR",
    }),
    costEntry({ entryId: "d", timestamp: Date.UTC(9999, 11, 31) }),
    costEntry({ entryId: "e", timestamp: Date.UTC(2026, 10, 2), region: "none" }),
  ];
  await write(backend, costEntries, costs);
  await backend.close();
  const command = ["database", "export", "costs", "--connection-string", "duckdb:///a.duckdb"];
  const ask = (...more: string[]) => openfinops([...command, ...more], { cwd: folder.path });
  const months = ["--format", "parquet", "--partition-by", "month", "--output", "months"];
  const { code, err } = await ask(...months, "--where", "entryId!=e");
  assertEquals([code, err], [0, "4 records exported as parquet.\n"]);
  const rows = await rowsOf(
    "SELECT month, entryId, amount::VARCHAR, currency, epoch_ms(timestamp), tags::VARCHAR " +
      `FROM read_parquet('${folder.path}/months/*/*.parquet', hive_partitioning = true) ORDER BY entryId`,
  );
  assertEquals(
    rows,
    costs.slice(0, 4).map(({ entryId, timestamp, amount, currency = "USD", tags }) => {
      const decimals = Decimal.from(amount).toString().split(".")[1] ?? "";
      const shown = `${String(amount).split(".")[0]}.${decimals.padEnd(18, "0")}`;
      const month = new Date(timestamp as number).toISOString().slice(0, 7);
      return [month, entryId, shown, currency, timestamp, tags === undefined ? null : JSON.stringify(tags)];
    }),
  );
  assertEquals([...Deno.readDirSync(folder.file("months"))].map(({ name }) => name).sort(), [
    "month=2026-10",
    "month=2026-11",
    "month=9999-12",
  ]);
  assertMatch((await ask(...months)).err, /months exists and stays as it is.*\[ALREADY_EXISTS\]\n$/);
  for (
    const wrong of [["--partition-by", "month"], [...months, "--limit", "1"], [
      ...months,
      "--partition-by",
      "day",
    ]]
  ) {
    assertEquals((await ask(...wrong)).code, 2);
  }
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), ["a.duckdb", "months"]);
});

test("keeps all records and documents when they are migrated from and to it", async (folder) => {
  const sqlite = await openBackend({ connectionString: folder.sqlite() });
  await write(sqlite, costEntries, [FULL_COST_ENTRY, costEntry({ entryId: "z", amount: "0.1" })]);
  await write(sqlite, systemMetrics, [FULL_SYSTEM_METRICS, FULL_SYSTEM_METRICS]);
  await write(sqlite, deviceMetrics, [FULL_DEVICE_METRICS]);
  await sqlite.documents.write({ kind: "budget", id: "b", body: { amount: "1" } });
  const duckdb = await open(folder.file("a.duckdb"));
  const back = await openBackend({ connectionString: folder.sqlite("back.db") });
  for (const [from, to] of [[sqlite, duckdb], [sqlite, duckdb], [duckdb, back]]) {
    assert((await migrate(from, to)).every(({ isSame }) => isSame));
  }
  for (const dataset of [costEntries, systemMetrics, deviceMetrics] as Dataset<unknown>[]) {
    assertEquals(await read(back, dataset), await read(sqlite, dataset));
    assertEquals(await read(duckdb, dataset), await read(sqlite, dataset));
  }
  assertEquals(await back.documents.read("budget"), await sqlite.documents.read("budget"));
  assertEquals(await duckdb.verify(), []);
  for (const backend of [sqlite, duckdb, back]) await backend.close();
});

Deno.test("Spool loses and duplicates nothing in 6 kills with DuckDB", async () => {
  using folder = new TemporaryFolder();
  const connectionString = `duckdb:///${folder.file("a.duckdb")}`;
  await killWriter(new Chance(6), { connectionString, kills: 6 });
});

Deno.test("DuckdbBackend raises an alarm and loses nothing when its disk is full", async () => {
  assertEquals(await fillDisk("duckdb"), "done");
});

Deno.test("Delivery leaves the old month or the new one in 3 kills with DuckDB", async () => {
  using folder = new TemporaryFolder();
  await killImport(new Chance(6), { connectionString: `duckdb:///${folder.file("a.duckdb")}`, kills: 3 });
});
