import { CostObservatory, ObservabilityHub, openBackend, type PersistenceConfig } from "../mod.ts";
import { aggregateCosts, aggregateMetrics } from "../src/aggregation/aggregate.ts";
import type { TimescaleBackend } from "../src/backends/timescale.ts";
import { JOBS } from "../src/backends/timescale/jobs.ts";
import { ROLL_UPS } from "../src/backends/timescale/roll_ups.ts";
import { currencyTotals } from "../src/backends/currency_totals.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { PostgresSession } from "../src/backends/postgres/pool.ts";
import { BackendError } from "../src/errors.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { DATASETS, DELETED_BY_DEFAULT } from "../src/records/datasets.ts";
import { acceptQuery } from "../src/records/query.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { backendContract, read, write } from "./backend_contract.ts";
import { writeParts } from "./members_contract.ts";
import {
  costEntry,
  FULL_DEVICE_METRICS,
  FULL_SYSTEM_METRICS,
  FULL_USAGE_RECORD,
  NEW_YEAR,
} from "./fixtures.ts";
import { until } from "./until.ts";
import { assertSilentReadsEnd } from "./faults/silent_reads.ts";
import { databaseUrl, PostgresServer, runSql, TestDatabase, timescaleVersion } from "./postgres_server.ts";
import { onEmpty, openPostgres, openTimescale as open } from "./server_backends.ts";

const NAMES = Object.keys(DATASETS);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Without TimescaleDB these are not run, and `tests/run.ts` says why. */
const isPresent = (await timescaleVersion()).version !== undefined;

for (const enableCompression of isPresent ? [false, true] : []) {
  const name = `TimescaleBackend${enableCompression ? " (with compression)" : ""}`;
  backendContract(
    name,
    onEmpty(TestDatabase.create, (url, options) => open(url, { ...options, enableCompression })),
  );
}

/** Registers a test with an empty database, where there is TimescaleDB. */
function test(title: string, run: (database: TestDatabase) => Promise<void>): void {
  if (!isPresent) return;
  Deno.test(`TimescaleBackend ${title}`, async () => {
    await using database = await TestDatabase.create();
    await run(database);
  });
}

const metrics = (count: number, stepMs = 1_000, start = NEW_YEAR) =>
  Array.from({ length: count }, (_, i) => ({
    timestamp: start + i * stepMs,
    clusterId: "prod",
    nodeId: `n${i % 4}`,
    cpuUsage: i % 100,
    activeConnections: i,
  }));

const compressAll = (database: TestDatabase, table: string) =>
  database.sql(`SELECT compress_chunk(chunk, if_not_compressed => true) FROM show_chunks('${table}') chunk`);

/** Runs the server's own work of a kind, as its scheduler would. */
async function runPolicies(database: TestDatabase, kind: string): Promise<void> {
  const jobs = await database.sql(
    `SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_${kind}' ORDER BY job_id`,
  );
  for (const { job_id } of jobs) await database.sql(`CALL run_job(${job_id})`);
}

const REFRESH = "refresh_continuous_aggregate";

/** Number of records in the days of a rollup. */
async function recordsIn(database: TestDatabase, view: string): Promise<number> {
  return Number((await database.sql(`SELECT coalesce(sum(records), 0) AS n FROM ${view}`))[0].n);
}

const ids = (records: readonly { activeConnections?: number }[]) =>
  records.map(({ activeConnections }) => activeConnections).sort((a, b) => a! - b!);

// --- Opening

test("creates hypertables when ten open at once", async (database) => {
  const options = { enableCompression: true, retentionDays: 36_500 };
  const backends = await Promise.all(Array.from({ length: 10 }, () => open(database.url, options)));
  await Promise.all(
    backends.map((backend, i) => write(backend, costEntries, [costEntry({ entryId: `e${i}` })])),
  );
  await Promise.all(backends.map((backend) => backend.close()));
  const [{ n }] = await database.sql("SELECT count(*)::int AS n FROM timescaledb_information.hypertables");
  assertEquals(n, NAMES.length);
  const jobs = await database.sql(
    "SELECT proc_name FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1",
  );
  assertEquals(jobs.length, NAMES.length + DELETED_BY_DEFAULT.length + ROLL_UPS.length); // compression, retention of metrics, refresh: each once
});

test("converts plain tables with all records and grants", async (database) => {
  const reader = `reader_${database.name}`;
  const plain = await openPostgres(database.url);
  await write(plain, systemMetrics, metrics(3_000, HOUR));
  await write(plain, costEntries, [
    costEntry({ amount: "0.000000000000000001" }),
    costEntry({ entryId: "e2" }),
  ]);
  await plain.close();
  await database.sql(
    `CREATE ROLE ${reader} LOGIN PASSWORD '${reader}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${reader}`,
  );
  try {
    await assertRejects(() => open(database.url, { mode: "existing" }), BackendError, "timescaledb");
    const backend = await open(database.url, { retentionDays: 36_500 });
    assertEquals((await read(backend, systemMetrics)).length, 3_000);
    const [{ total }] = await currencyTotals(backend);
    assertEquals(total, "1.000000000000000001");
    assertEquals(await write(backend, costEntries, [costEntry()]), {
      committed: 0,
      duplicates: 1,
      restated: 0,
    });
    assertEquals(await recordsIn(database, "system_metrics_daily"), 3_000);
    await backend.close();
    const url = databaseUrl(database.url, database.name, reader);
    const forReading = await open(url, { mode: "read" });
    assertEquals((await read(forReading, systemMetrics, { limit: 1 })).length, 1);
    await forReading.close();
  } finally {
    await database.sql(`DROP OWNED BY ${reader}; DROP ROLE ${reader}`);
  }
});

for (const [scheme, state] of [["timescaledb", "hypertables"], ["postgresql", "partitions"]]) {
  test(`adds the tables of later schema versions to ${state}`, async (database) => {
    await (await openBackend({ connectionString: database.url.replace("postgresql", scheme) })).close();
    const added = ["device_metrics", "usage_records", "metric_points"];
    await database.sql(
      [...added, "requests"].map((name) => `DROP TABLE ${name} CASCADE`).join("; ") +
        "; DELETE FROM schema_version; INSERT INTO schema_version (version, writable_from) VALUES (3, 1)",
    );
    const backend = await open(database.url);
    await write(backend, deviceMetrics, [FULL_DEVICE_METRICS]);
    await write(backend, usageRecords, [FULL_USAGE_RECORD]);
    assertEquals(await read(backend, usageRecords), [FULL_USAGE_RECORD]);
    await backend.close();
    const rows = await database.sql(
      "SELECT hypertable_name AS name FROM timescaledb_information.hypertables",
    );
    for (const name of added) assert(rows.some((row) => row.name === name), name);
    assertEquals(await recordsIn(database, "device_metrics_hourly"), 1);
  });
}

const ADDITIONS: readonly { sql: string; named: string }[] = [
  { sql: "ALTER TABLE system_metrics ADD rack text", named: "the column rack of system_metrics" },
  { sql: "ALTER TABLE cost_entries ENABLE ROW LEVEL SECURITY", named: "row security of cost_entries" },
  { sql: "GRANT SELECT (amount) ON cost_entries TO PUBLIC", named: "a grant on the column amount" },
  {
    sql: "ALTER TABLE service_metrics ADD CONSTRAINT sane CHECK (uptime >= 0)",
    named: "the constraint sane",
  },
];

for (const { sql, named } of ADDITIONS) {
  test(`refuses to convert tables when it would lose ${named}`, async (database) => {
    const plain = await openPostgres(database.url);
    await database.sql(sql);
    const error = await assertRejects(
      () => open(database.url),
      BackendError,
      "would be lost",
    ) as BackendError;
    assert(error.message.includes(named), error.message);
    await write(plain, systemMetrics, metrics(10));
    assertEquals((await read(plain, systemMetrics)).length, 10);
    await plain.close();
  });
}

test("loses nothing when a plain process is open during conversion", async (database) => {
  const plain = await openPostgres(database.url);
  await write(plain, systemMetrics, metrics(3_000, HOUR));
  const backend = await open(database.url);
  assertEquals(await plain.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false }), 0);
  assertEquals((await read(backend, systemMetrics)).length, 3_000);
  await plain.close();
  await backend.close();
});

test("reports a search_path without the extension", async (database) => {
  await database.sql("CREATE EXTENSION timescaledb; CREATE SCHEMA telemetry");
  const url = `${database.url}?options=${encodeURIComponent("-c search_path=telemetry")}`;
  await assertRejects(() => open(url), BackendError, "search_path=telemetry,public");
  const both = `${database.url}?options=${encodeURIComponent("-c search_path=telemetry,public")}`;
  const backend = await open(both);
  await write(backend, systemMetrics, metrics(3));
  assertEquals(await database.sql("SELECT count(*)::int AS n FROM telemetry.system_metrics_daily"), [{
    n: 3,
  }]);
  await backend.close();
});

test("changes nothing when tables cannot be converted", async (database) => {
  const plain = await openPostgres(database.url);
  await write(plain, systemMetrics, metrics(10));
  await database.sql("CREATE VIEW mine AS SELECT * FROM system_metrics"); // keeps the table from being dropped
  await assertRejects(() => open(database.url), BackendError, "mine");
  assertEquals((await read(plain, systemMetrics)).length, 10);
  await write(plain, systemMetrics, metrics(1));
  await plain.close();
});

test("is not opened as a plain database", async (database) => {
  await (await open(database.url)).close();
  await assertRejects(
    () => openPostgres(database.url),
    BackendError,
    "Open hypertables with `--backend timescaledb`",
  );
});

Deno.test("TimescaleBackend reports what the server lacks", async () => {
  await using server = await PostgresServer.start();
  const error = await assertRejects(() => open(server.url()), BackendError) as BackendError;
  assertMatch(error.message, /the server (lacks the extension|does not load) timescaledb/);
  assert(
    error.message.includes("The backend postgresql (postgresql://…) works on this server as it is"),
    error.message,
  );
  assertEquals(error.retryable, false);
  await assertRejects(() => open(server.url(), { mode: "read" }), BackendError, "`openfinops database init`");
});

if (isPresent) {
  Deno.test("TimescaleBackend works on the Apache edition without compression and policies", async () => {
    await using server = await PostgresServer.start();
    await server.loadTimescale({ license: "apache" });
    await assertRejects(
      () => open(server.url(), { enableCompression: true }),
      BackendError,
      "timescaledb.license = 'timescale'",
    );
    await assertRejects(
      () => open(server.url(), { retentionDays: 30 }),
      BackendError,
      "`database cleanup --retention-days`",
    );
    assertEquals(await runSql(server.url(), "SELECT to_regclass('ledger') AS made"), [{ made: null }]);
    // A hub deletes by itself when it is told to: its retention is no order to the server.
    const backend = await open(server.url(), { retentionDays: 30, retentionOf: ["system_metrics"] });
    await write(backend, systemMetrics, metrics(100, HOUR));
    assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 50 * HOUR, { dryRun: false }), 50);
    assertEquals((await backend.stats()).datasets.system_metrics.rows, 50);
    const { warnings, details } = await backend.probe();
    assertEquals(details.timescaledbLicense, "apache");
    assert(warnings.some((warning) => warning.includes("Apache edition")), String(warnings));
    await backend.close();
  });
}

test("works with an agent that only writes and a reader that only reads", async (database) => {
  const [owner, agent, reader] = ["owner", "agent", "reader"].map((name) => `${name}_${database.name}`);
  const roles = [owner, agent, reader].map((role) => `CREATE ROLE ${role} LOGIN PASSWORD '${role}'`);
  await database.sql(
    `${roles.join("; ")};
    ALTER DATABASE ${database.name} OWNER TO ${owner}; GRANT CREATE ON SCHEMA public TO ${owner}`,
  );
  const as = (role: string) => databaseUrl(database.url, database.name, role);
  try {
    await (await open(as(owner), { enableCompression: true, retentionDays: 36_500 })).close();
    await database.sql(
      `GRANT SELECT, INSERT ON ledger, requests, schema_version, system_metrics, cost_entries, service_metrics, device_metrics, usage_records, metric_points TO ${agent};
      GRANT UPDATE ON ledger, requests, cost_entries TO ${agent};
      GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${reader}`,
    );
    const writer = await open(as(agent), { enableCompression: true, onConflict: "replace" });
    await write(writer, systemMetrics, metrics(2_000));
    await write(writer, costEntries, [costEntry()]);
    assertEquals((await write(writer, costEntries, [costEntry({ amount: "2" })])).restated, 1);
    for (const requestId of ["r", "r"]) await writeParts(writer, [[requestId, 0, 2]]);
    await writer.close();
    const backend = await open(as(reader), { mode: "read" });
    assertEquals((await read(backend, systemMetrics)).length, 2_002);
    assertEquals((await backend.stats()).datasets.system_metrics.rows, 2_002);
    assertEquals((await backend.probe()).writable, false);
    await backend.close();
    const records = "SELECT sum(records)::int AS n FROM system_metrics_daily";
    assertEquals(await runSql(as(reader), records), [{ n: 2_002 }]);
  } finally {
    await database.sql(`DROP OWNED BY ${agent}, ${reader} CASCADE`);
    await database.sql(
      `ALTER DATABASE ${database.name} OWNER TO CURRENT_USER; REASSIGN OWNED BY ${owner} TO CURRENT_USER`,
    );
    await database.sql(`DROP OWNED BY ${owner} CASCADE; DROP ROLE ${agent}, ${reader}, ${owner}`);
  }
});

// --- Compression

test("writes a large batch compressed and reads it back", async (database) => {
  const backend = await open(database.url, { enableCompression: true });
  const records = metrics(5_000);
  await write(backend, systemMetrics, [...records, FULL_SYSTEM_METRICS]);
  const { chunks, compressedChunks } = (await backend.stats()).datasets.system_metrics;
  const [{ can }] = await database.sql(
    "SELECT current_setting('timescaledb.enable_direct_compress_copy', true) IS NOT NULL AS can",
  );
  assertEquals([chunks, compressedChunks], [1, can ? 1 : 0]); // older releases take it into rows
  const found = await read(backend, systemMetrics);
  assertEquals(found.length, 5_001);
  assertEquals(found.filter(({ labels }) => labels), [FULL_SYSTEM_METRICS]);
  assertEquals((await read(backend, systemMetrics, { nodeId: "n1" })).length, 1_250);
  await backend.close();
});

test("accepts late records in compressed chunks without duplicates", async (database) => {
  const backend = await open(database.url, { enableCompression: true });
  await write(backend, systemMetrics, metrics(5_000));
  const late = {
    id: crypto.randomUUID(),
    dataset: systemMetrics,
    records: metrics(300).map((record) => ({
      ...record,
      activeConnections: record.activeConnections + 5_000,
    })),
  };
  await backend.write(late);
  await backend.write(late);
  assertEquals(ids(await read(backend, systemMetrics)), Array.from({ length: 5_300 }, (_, i) => i));
  await runPolicies(database, "compression");
  assertEquals(ids(await read(backend, systemMetrics)), Array.from({ length: 5_300 }, (_, i) => i));
  await backend.close();
});

test("updates and ignores costs in compressed chunks exactly", async (database) => {
  const entries = Array.from({ length: 3_000 }, (_, i) =>
    costEntry({
      entryId: `e${i}`,
      timestamp: NEW_YEAR + i * HOUR,
      amount: "0.000000000000000001",
      tags: { i: String(i) },
    }));
  const backend = await open(database.url, { enableCompression: true, onConflict: "replace" });
  await write(backend, costEntries, entries);
  await compressAll(database, "cost_entries");
  const restated = await write(backend, costEntries, [
    ...entries.slice(1_000, 1_010).map((entry) => ({ ...entry, amount: "2" })),
    costEntry({ entryId: "new" }),
  ]);
  assertEquals(restated, { committed: 11, duplicates: 0, restated: 10 });
  await backend.close();
  const ignoring = await open(database.url);
  const ignored = await write(ignoring, costEntries, entries.map((entry) => ({ ...entry, amount: "9" })));
  assertEquals(ignored, { committed: 0, duplicates: 3_000, restated: 0 });
  assertEquals(await currencyTotals(ignoring), [
    { currency: "USD", total: "21.00000000000000299", count: 3_001 },
  ]);
  assertEquals((await read(ignoring, costEntries, { tags: { i: "1005" } })).map(({ amount }) => amount), [
    "2",
  ]);
  await ignoring.close();
});

test("updates more compressed records than the server's default limit", async (database) => {
  const entries = Array.from(
    { length: 10_000 },
    (_, i) => costEntry({ entryId: `e${i}`, timestamp: NEW_YEAR + i * 60_000 }),
  );
  const backend = await open(database.url, { enableCompression: true, onConflict: "replace" });
  await write(backend, costEntries, entries);
  await compressAll(database, "cost_entries");
  await database.sql(
    `ALTER DATABASE ${database.name} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 100`,
  );
  await backend.close();
  const again = await open(database.url, { onConflict: "replace" });
  const result = await write(again, costEntries, entries.map((entry) => ({ ...entry, amount: "3" })));
  assertEquals(result, { committed: 10_000, duplicates: 0, restated: 10_000 });
  await again.close();
});

test("compresses a node that is sampled rarely", async (database) => {
  const backend = await open(database.url, { enableCompression: true });
  const seldom = Array.from({ length: 20 * 288 }, (_, i) => ({
    ...FULL_SYSTEM_METRICS,
    timestamp: NEW_YEAR + i * 300_000,
    cpuUsage: Math.round(500 + 400 * Math.sin(i / 40)) / 10,
  }));
  for (let i = 0; i < seldom.length; i += 288) {
    await write(backend, systemMetrics, seldom.slice(i, i + 288)); // a day at a time, too few for columns
  }
  await runPolicies(database, "compression");
  const { chunks, compressedChunks, bytesBeforeCompression, bytesAfterCompression } =
    (await backend.stats()).datasets.system_metrics;
  assertEquals([chunks, compressedChunks], [20, 20]);
  assert(
    bytesAfterCompression! < bytesBeforeCompression!,
    `${bytesBeforeCompression} to ${bytesAfterCompression}`,
  );
  await backend.close();
});

// --- Retention

const dropAfter = async (database: TestDatabase) =>
  (await database.sql(
    "SELECT config->>'drop_after' AS age FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'",
  )).map(({ age }) => age);

test("sets, changes and removes retention only when told", async (database) => {
  const openWith = async (retentionDays?: PersistenceConfig["retentionDays"]) =>
    await (await open(database.url, { retentionDays })).close();
  await openWith(undefined);
  assertEquals(await dropAfter(database), []); // no retention without being told
  await openWith(30);
  assertEquals(await dropAfter(database), Array(4).fill("30 days")); // of metrics
  await openWith(undefined);
  assertEquals(await dropAfter(database), Array(4).fill("30 days"));
  await openWith({ cost_entries: 2_555 });
  assertEquals((await dropAfter(database)).toSorted(), ["2555 days", ...Array(4).fill("30 days")]);
  await openWith({ cost_entries: Infinity });
  await openWith(1.5);
  assertEquals(new Set(await dropAfter(database)), new Set(["36:00:00"]));
  await openWith(Infinity);
  assertEquals(await dropAfter(database), []);
});

test("sets retention of metrics by hub and of costs by observatory", async (database) => {
  const config = { backend: "timescaledb", connectionString: database.url } as const;
  await (await CostObservatory.open({ ...config, retentionDays: 3_650 })).close();
  await (await ObservabilityHub.open({ ...config, retentionDays: 7 })).close();
  const ages = await database.sql(
    `SELECT hypertable_name AS of, config->>'drop_after' AS age FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_retention' ORDER BY 1`,
  );
  assertEquals(ages, [
    { of: "cost_entries", age: "3650 days" },
    { of: "device_metrics", age: "7 days" },
    { of: "metric_points", age: "7 days" },
    { of: "service_metrics", age: "7 days" },
    { of: "system_metrics", age: "7 days" },
    { of: "usage_records", age: "3650 days" },
  ]);
});

test("counts each record once when cleanups run together", async (database) => {
  const backends = await Promise.all([1, 2, 3].map(() => open(database.url)));
  await write(backends[0], systemMetrics, metrics(500, HOUR));
  const counts = await Promise.all(
    backends.map((backend) => backend.deleteBefore(systemMetrics, NEW_YEAR + 400 * HOUR, { dryRun: false })),
  );
  assertEquals(counts.reduce((sum, count) => sum + count), 400);
  await Promise.all(backends.map((backend) => backend.close()));
});

test("drops chunks, deletes at the edge and counts, also compressed", async (database) => {
  await database.sql(
    `ALTER DATABASE ${database.name} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 10`,
  );
  const backend = await open(database.url, { enableCompression: true });
  await write(backend, systemMetrics, metrics(5_000, 60_000)); // three and a half days, in columns
  const before = NEW_YEAR + 2 * DAY + 90 * 60_000;
  const count = Math.ceil((before - NEW_YEAR) / 60_000);
  assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: true }), count);
  assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false }), count);
  const { rows, oldest, chunks } = (await backend.stats()).datasets.system_metrics;
  assertEquals([rows, oldest, chunks], [5_000 - count, before, 2]);
  assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false, timeBudgetMs: 0 }), 0);
  await backend.close();
});

test("makes a compressed chunk smaller by deleting a part of it", async (database) => {
  const backend = await open(database.url, { enableCompression: true });
  const entries = Array.from(
    { length: 20_000 },
    (_, i) => costEntry({ entryId: `e${i}`, timestamp: NEW_YEAR + i * 60_000 }),
  );
  await write(backend, costEntries, entries);
  await compressAll(database, "cost_entries");
  const size = async () => {
    const { tableBytes = 0, indexBytes = 0 } = (await backend.stats()).datasets.cost_entries;
    return tableBytes + indexBytes;
  };
  const before = await size();
  assertEquals(
    await backend.deleteBefore(costEntries, NEW_YEAR + 15_000 * 60_000, { dryRun: false }),
    15_000,
  );
  // Rows of the emptied table can be removed when no transaction of another test may still see them.
  const [{ chunk }] = await database.sql("SELECT show_chunks('cost_entries')::text AS chunk");
  await until(async () => {
    await database.sql(`VACUUM FULL ${chunk}`);
    return await size() < 0.75 * before;
  }, "the chunk is smaller");
  assertEquals((await read(backend, costEntries)).length, 5_000);
  await backend.close();
});

// --- Odd timestamps

/** A record in each of some weeks from a time on. */
const weekly = (count: number, start: number, nodeId = "odd") =>
  Array.from({ length: count }, (_, i) => ({ timestamp: start + i * 7 * DAY, clusterId: "prod", nodeId }));

test("keeps odd timestamps in a chunk a decade, and answers", async (database) => {
  const [one, two] = await Promise.all([1, 2].map(() => open(database.url)));
  const [old, far] = [1994, 2101].map((year) => Date.UTC(year, 0, 1));
  // By SQL, into a chunk of a day within the decade that is filled next.
  await database.sql(
    "INSERT INTO system_metrics (timestamp, cluster_id, node_id) VALUES ('1995-05-05', 'c', 'n')",
  );
  await Promise.all([
    write(one, systemMetrics, [...weekly(300, old), ...weekly(100, far)]),
    write(two, systemMetrics, [...weekly(300, old + DAY / 2), ...weekly(100, far)]),
    write(one, systemMetrics, metrics(48, HOUR)),
  ]);
  const { rows, chunks } = (await one.stats()).datasets.system_metrics;
  // The 1990s in two parts around the day, the 2100s, and two days of the present.
  assertEquals([rows, chunks], [849, 3 + 1 + 2]);
  const [{ count }] = await aggregateMetrics(one, systemMetrics, { fields: { cpuUsage: ["avg"] } });
  assertEquals(count, 849);
  assertEquals(await one.deleteBefore(systemMetrics, Date.UTC(1996, 0, 1), { dryRun: false }), 211);
  await write(two, systemMetrics, weekly(10, old));
  assertEquals((await read(two, systemMetrics, { endTime: old + 365 * DAY })).length, 10);
  await Promise.all([one, two].map((backend) => backend.close()));
});

// --- Roll-ups

test("rolls metrics up by hour and day exactly once", async (database) => {
  const backend = await open(database.url);
  await write(backend, systemMetrics, [
    { timestamp: NEW_YEAR, clusterId: "a", nodeId: "n", cpuUsage: 10, errorCount: 1 },
    { timestamp: NEW_YEAR + 60_000, clusterId: "a", nodeId: "n", cpuUsage: 20 },
    { timestamp: NEW_YEAR + HOUR, clusterId: "a", nodeId: "n", cpuUsage: 60, errorCount: 5 },
    { timestamp: NEW_YEAR + HOUR, clusterId: "a", nodeId: "m", cpuUsage: 1 },
  ]);
  await write(backend, serviceMetrics, [{ timestamp: NEW_YEAR, serviceName: "s", responseTime: 8.5 }]);
  const columns =
    "cluster_id, node_id, records::int, cpu_usage_avg, cpu_usage_min, cpu_usage_max, cpu_usage_count::int, error_count_avg";
  const days = [
    {
      cluster_id: "a",
      node_id: "m",
      records: 1,
      cpu_usage_avg: 1,
      cpu_usage_min: 1,
      cpu_usage_max: 1,
      cpu_usage_count: 1,
      error_count_avg: null,
    },
    {
      cluster_id: "a",
      node_id: "n",
      records: 3,
      cpu_usage_avg: 30,
      cpu_usage_min: 10,
      cpu_usage_max: 60,
      cpu_usage_count: 3,
      error_count_avg: 3,
    },
  ];
  for (let refreshed = 0; refreshed < 2; refreshed++) { // before a refresh, in real time, and after it
    assertEquals(await database.sql(`SELECT ${columns} FROM system_metrics_daily ORDER BY node_id`), days);
    assertEquals((await database.sql("SELECT * FROM system_metrics_hourly")).length, 3);
    const [{ response_time_max }] = await database.sql("SELECT response_time_max FROM service_metrics_daily");
    assertEquals(response_time_max, 8.5);
    await runPolicies(database, REFRESH);
  }
  await backend.close();
});

/** Runs something, and tells how many statements that read a roll-up it took. */
async function countRollUps<T>(run: () => Promise<T>): Promise<[T, number]> {
  const { query } = PostgresSession.prototype;
  let count = 0;
  PostgresSession.prototype.query = function (sql, parameters) {
    if (/FROM \(SELECT bucket AS timestamp/.test(sql)) count++;
    return query.call(this, sql, parameters);
  };
  try {
    return [await run(), count];
  } finally {
    PostgresSession.prototype.query = query;
  }
}

test("ends reads when their reader is gone, although the server is silent", async (database) => {
  const backend = await open(database.url);
  await assertSilentReadsEnd(backend, database.url, (url) => open(url));
  await backend.close();
});

test("answers from rollups only when they equal the records", async (database) => {
  const start = Math.floor(Date.now() / DAY) * DAY - 30 * DAY;
  const entries = Array.from({ length: 500 }, (_, i) =>
    costEntry({
      entryId: `e${i}`,
      timestamp: start + i * HOUR,
      category: `c${i % 3}`,
      region: i % 2 ? "eu" : undefined,
      amount: "0.000000000000000001",
    }));
  const memory = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "replace" });
  const backend = await open(database.url, { onConflict: "replace" });
  const take = async (dataset: typeof costEntries | typeof systemMetrics, records: readonly object[]) => {
    for (const one of [memory, backend]) await write(one, dataset, records);
  };
  const assertAnswers = async (asked: object, isFromRollUp: boolean) => {
    const [found, rollUps] = await countRollUps(() => aggregateCosts(backend, asked));
    assertEquals(found, await aggregateCosts(memory, asked), JSON.stringify(asked));
    assertEquals(rollUps, isFromRollUp ? 1 : 0, JSON.stringify(asked));
  };
  await take(costEntries, entries);
  await take(systemMetrics, metrics(2_000, 600_000, start));
  const byDay = { bucket: "1d", timeZone: "America/New_York", groupBy: ["category", "region"] };
  await assertAnswers(byDay, false); // nothing is rolled up yet, and the view would take longer than the records
  await runPolicies(database, REFRESH);
  await assertAnswers(byDay, true);
  await assertAnswers({ ...byDay, category: "c1", startTime: start + DAY, endTime: start + 9 * DAY }, true);
  await assertAnswers({ bucket: "1h", emptyBuckets: true, top: 1, groupBy: ["category"] }, true);
  await assertAnswers({ ...byDay, bucket: "30m" }, false);
  await assertAnswers({ ...byDay, timeZone: "Asia/Kathmandu" }, false); // a quarter of an hour beside UTC
  await assertAnswers({ ...byDay, startTime: start + 1 }, false);
  await assertAnswers({ ...byDay, groupBy: ["tags.team"] }, false);
  await assertAnswers({ ...byDay, resourceId: "gpu-01" }, false);
  const fields = { cpuUsage: ["avg", "min", "max", "count"], activeConnections: ["sum"] };
  const byCluster = { bucket: "1d", groupBy: ["clusterId", "nodeId"], fields };
  assertEquals(
    await countRollUps(() => aggregateMetrics(backend, systemMetrics, byCluster)),
    [await aggregateMetrics(memory, systemMetrics, byCluster), 1],
  );

  // Updated, late or deleted records stay on the server's list until the next refresh, or forever.
  await take(costEntries, [costEntry({ ...entries[24], amount: "5" })]);
  await assertAnswers(byDay, false);
  await assertAnswers({ ...byDay, startTime: start + 3 * DAY }, true); // where nothing was changed
  await runPolicies(database, REFRESH);
  await assertAnswers(byDay, true);
  await take(costEntries, [costEntry({ entryId: "late", timestamp: start - 40 * DAY })]);
  await assertAnswers(byDay, false);
  await runPolicies(database, REFRESH);
  await assertAnswers(byDay, true);
  for (const one of [memory, backend]) {
    await one.deleteBefore(costEntries, start + 2 * DAY, { dryRun: false });
  }
  await assertAnswers(byDay, false);
  await runPolicies(database, REFRESH);
  await assertAnswers(byDay, false);
  await assertAnswers({ ...byDay, startTime: start + 3 * DAY }, true);
  await backend.close();
});

test("answers from records when a rollup is incomplete or missing", async (database) => {
  const backend = await open(database.url);
  await write(backend, costEntries, [costEntry()]);
  await database.sql(
    "ALTER MATERIALIZED VIEW cost_entries_hourly SET (timescaledb.materialized_only = true)",
  );
  assertEquals((await aggregateCosts(backend, { bucket: "1d" })).map(({ total }) => total), ["1"]);
  await database.sql("DROP MATERIALIZED VIEW cost_entries_hourly CASCADE");
  assertEquals((await aggregateCosts(backend, { bucket: "1d" })).map(({ total }) => total), ["1"]);
  await backend.close();
});

test("answers costs from rollups and keeps estimated and billed ones apart", async (database) => {
  const backend = await open(database.url);
  await write(backend, costEntries, [
    costEntry({ amount: "1" }),
    costEntry({ entryId: "e2", amount: "2", basis: "estimated" }),
    costEntry({ entryId: "e3", amount: "4", basis: "billed" }),
  ]);
  const assertApart = async (isRolledUp: boolean) => {
    const [found, rollUps] = await countRollUps(() => aggregateCosts(backend, { bucket: "1d" }));
    const apart = [[undefined, "5"], ["estimated", "2"]];
    assertEquals([found.map(({ basis, total }) => [basis, total]), rollUps], [apart, isRolledUp ? 1 : 0]);
  };
  await assertApart(false);
  await database.sql("CALL refresh_continuous_aggregate('cost_entries_hourly', NULL, NULL)");
  await assertApart(true);
  await backend.close();
});

test("makes rollups of costs again that do not have the basis, unless they keep history", async (database) => {
  const first = await open(database.url);
  await write(first, costEntries, [costEntry({ amount: "1" })]);
  await write(first, costEntries, [costEntry({ entryId: "e2", amount: "2", basis: "estimated" })]);
  await first.close();
  const groups = () => database.sql("SELECT DISTINCT basis FROM cost_entries_daily ORDER BY 1");
  const old = (name: string, from: string, bucket: string) =>
    `CREATE MATERIALIZED VIEW ${name} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS ` +
    `SELECT time_bucket(INTERVAL '${bucket}', ${
      from === "cost_entries" ? "timestamp" : "bucket"
    }) AS bucket, ` +
    `category, currency, region, ${
      from === "cost_entries" ? "count(*)" : "sum(records)::bigint"
    } AS records, ` +
    `sum(amount) AS amount FROM ${from} GROUP BY 1, 2, 3, 4 WITH NO DATA`;
  const makeOld = async () => {
    await database.sql("DROP MATERIALIZED VIEW cost_entries_daily");
    await database.sql("DROP MATERIALIZED VIEW cost_entries_hourly");
    await database.sql(old("cost_entries_hourly", "cost_entries", "1 hour"));
    await database.sql(old("cost_entries_daily", "cost_entries_hourly", "1 day"));
  };
  const totals = async () => {
    const backend = await open(database.url);
    const found = await aggregateCosts(backend, { bucket: "1d" });
    await backend.close();
    return found.map(({ basis, total }) => [basis, total]);
  };
  const apart = [[undefined, "1"], ["estimated", "2"]];
  await makeOld();
  const reader = await open(database.url, { mode: "read" });
  assertEquals((await aggregateCosts(reader, { bucket: "1d" })).length, 2); // from the records
  await reader.close();
  assertEquals(await totals(), apart);
  assertEquals((await groups()).length, 2);
  await makeOld();
  await database.sql("INSERT INTO roll_up_floors VALUES ('cost_entries', now())");
  assertEquals(await totals(), apart);
  await assertRejects(groups, Error, "basis");
});

test("rolls costs up exactly by category, currency and region", async (database) => {
  const costs = await CostObservatory.open({ backend: "timescaledb", connectionString: database.url });
  const smallest = { amount: "0.000000000000000001", currency: "EUR" };
  for (let i = 0; i < 100; i++) await costs.addCostEntry(costEntry({ ...smallest, entryId: `e${i}` }));
  await costs.addCostEntry(costEntry({ entryId: "a", amount: "0.1", region: "eu" }));
  await costs.addCostEntry(
    costEntry({ entryId: "b", amount: "0.2", region: "eu", timestamp: NEW_YEAR + HOUR }),
  );
  await costs.close();
  await runPolicies(database, REFRESH);
  const rows = await database.sql(
    "SELECT category, currency, region, records::int, trim_scale(amount)::text AS amount FROM cost_entries_daily ORDER BY currency",
  );
  assertEquals(rows, [
    { category: "gpu", currency: "EUR", region: null, records: 100, amount: "0.0000000000000001" },
    { category: "gpu", currency: "USD", region: "eu", records: 2, amount: "0.3" },
  ]);
});

/** Ways in which old records go. */
const WAYS: Readonly<Record<string, (backend: TimescaleBackend, database: TestDatabase) => Promise<void>>> = {
  "a cleanup": async (backend) => {
    await backend.deleteBefore(systemMetrics, Date.now() - 30 * DAY, { dryRun: false });
  },
  "the server's retention": async (_, database) => {
    await (await open(database.url, { retentionDays: 30 })).close();
    await runPolicies(database, "retention");
  },
  "a cleanup of nearly all": async (backend) => {
    await backend.deleteBefore(systemMetrics, Date.now() - HOUR / 2, { dryRun: false });
  },
};

for (const [way, take] of Object.entries(WAYS)) {
  test(`keeps rollups of records that ${way} deleted, also after a refresh`, async (database) => {
    const backend = await open(database.url, { retentionDays: 1_000 }); // nothing is that old
    const start = Math.floor(Date.now() / HOUR) * HOUR - 100 * DAY + HOUR / 2;
    await write(backend, systemMetrics, metrics(100 * 24, HOUR, start)); // one an hour, up to half an hour ago
    await take(backend, database);
    const left = (await read(backend, systemMetrics)).length;
    assert(left < 800, `${left} records are left`);
    await write(backend, systemMetrics, metrics(1, HOUR, start)); // late, into a time that is gone
    // As the server's scheduler would: what is put off is not run before its time.
    const [{ late }] = await database.sql(
      "SELECT count(*)::int AS late FROM timescaledb_information.jobs WHERE next_start > now() + interval '2 hours'",
    );
    if (late === 0) await runPolicies(database, REFRESH);
    assertEquals(await recordsIn(database, "system_metrics_hourly"), 2_400);
    assertEquals(await recordsIn(database, "system_metrics_daily"), 2_400);
    await backend.close();
  });
}

test("rolls late records up where all records still exist", async (database) => {
  const startOffset = async () =>
    (await database.sql(
      `SELECT config->>'start_offset' AS hours FROM ${JOBS} WHERE subject = 'system_metrics_hourly'`,
    ))[0].hours;
  const backend = await open(database.url, { retentionDays: 2 });
  assertEquals(await startOffset(), "48 hours");
  await (await open(database.url, { retentionDays: Infinity })).close();
  assertEquals(await startOffset(), "48 hours"); // what the server may have dropped
  await database.sql("UPDATE roll_up_floors SET since = since - interval '8 days'"); // as time goes by
  await backend.deleteBefore(systemMetrics, Date.now() - 365 * DAY, { dryRun: false });
  assertEquals(await startOffset(), "240 hours");
  await backend.close();
});

// --- Reading and knowing

test("reads only chunks in the range and uses an index", async (database) => {
  const backend = await open(database.url);
  const times = (i: number) => NEW_YEAR + i * DAY / 500;
  await write(
    backend,
    systemMetrics,
    Array.from({ length: 10_000 }, (_, i) => ({
      timestamp: times(i),
      clusterId: `c${i % 5}`,
      nodeId: `n${i % 50}`,
    })),
  );
  await write(
    backend,
    costEntries,
    Array.from(
      { length: 10_000 },
      (_, i) =>
        costEntry({
          timestamp: times(i),
          entryId: `e${i}`,
          category: `c${i % 20}`,
          resourceId: `r${i % 50}`,
        }),
    ),
  );
  await database.sql("ANALYZE");
  const range = { startTime: NEW_YEAR + 5 * DAY, endTime: NEW_YEAR + 5 * DAY + HOUR };
  const queries: [keyof typeof DATASETS, object][] = [
    ["system_metrics", {}],
    ["system_metrics", { clusterId: "c1", nodeId: "n1" }],
    ["cost_entries", { category: "c1" }],
    ["cost_entries", { resourceId: "r1" }],
  ];
  for (const [name, filters] of queries) {
    const dataset = DATASETS[name];
    const select = backend.selectStatement(dataset, acceptQuery(dataset, { ...range, ...filters }));
    const plan = (await database.sql(`EXPLAIN ${select}`)).map((row) => row["QUERY PLAN"]).join("\n");
    assertEquals(new Set(plan.match(/ on _hyper_\w+_chunk/g)).size, 1, plan);
    assert(plan.includes("Index"), plan);
  }
  await backend.close();
});

test("reports chunks, compression, policies, versions and license", async (database) => {
  const backend = await open(database.url, { enableCompression: true, retentionDays: 36_500 });
  for (let day = 0; day < 3; day++) {
    await write(backend, systemMetrics, metrics(900, 60_000, NEW_YEAR + day * DAY));
  }
  await compressAll(database, "system_metrics");
  await runPolicies(database, "retention");
  const { datasets, policies, storage } = await backend.stats();
  const { chunks, compressedChunks, bytesBeforeCompression, bytesAfterCompression } = datasets.system_metrics;
  assertEquals([chunks, compressedChunks], [3, 3]);
  assert(bytesBeforeCompression! > bytesAfterCompression! && bytesAfterCompression! > 0);
  assertEquals(policies!.length, NAMES.length + DELETED_BY_DEFAULT.length + ROLL_UPS.length);
  const retention = policies!.find(({ policy, table }) =>
    policy === "retention" && table === "system_metrics"
  )!;
  assertEquals(retention.settings, '{"drop_after": "36500 days"}');
  const { version } = await timescaleVersion();
  assertEquals([storage.timescaledbVersion, storage.timescaledbLicense], [version, "timescale"]);
  assertEquals((await backend.probe()).details.timescaledbVersion, version);
  await backend.close();
});

test("applies chunkDays and compressAfterDays to future chunks", async (database) => {
  const settings = { enableCompression: true, compressAfterDays: 3, chunkDays: { system_metrics: 7 } };
  await (await open(database.url, settings)).close();
  const backend = await open(database.url, { enableCompression: true }); // nothing given: nothing changed
  await write(backend, systemMetrics, metrics(20, 12 * HOUR));
  const { datasets, policies } = await backend.stats();
  assertEquals(datasets.system_metrics.chunks, 2);
  const ages = policies!.filter(({ policy }) => policy === "compression").map(({ settings }) => settings);
  assertEquals(new Set(ages), new Set(['{"compress_after": "3 days"}']));
  await backend.close();
});

test("accepts streams with only the backend's name changed", async (database) => {
  const url = database.url.replace(/^postgres(ql)?:/, "timescaledb:");
  const hub = await ObservabilityHub.open({ connectionString: url, enableCompression: true });
  await ReadableStream.from(metrics(25_000)).pipeTo(hub.systemMetricsSink());
  let count = 0;
  for await (const _ of hub.streamHistoricalMetrics({ startTime: NEW_YEAR })) count++;
  assertEquals([count, hub.stats().backend], [25_000, "timescaledb"]);
  await hub.close();
});

/** The refresh jobs: the roll-up, its instants in minutes modulo the refresh of hours, and its order. */
const refreshJobs = (database: TestDatabase) =>
  database.sql(
    `SELECT subject, (extract(epoch FROM initial_start)::bigint / 60 % 30)::int AS minute,
      config->>'refresh_newest_first' AS newest FROM ${JOBS} WHERE proc_name = 'policy_${REFRESH}' ORDER BY job_id`,
  );

test("never shows half a rollup during a refresh", async (database) => {
  const backend = await open(database.url);
  const start = Math.floor(Date.now() / DAY) * DAY - 100 * DAY;
  await write(backend, systemMetrics, metrics(30_000, 4 * 60_000, start));
  const [{ job_id }] = await database.sql(
    `SELECT job_id FROM ${JOBS} WHERE subject = 'system_metrics_hourly' AND proc_name = 'policy_${REFRESH}'`,
  );
  let isOver = false;
  const running = runSql(database.url, `CALL run_job(${job_id})`).finally(() => isOver = true);
  while (!isOver) assertEquals(await recordsIn(database, "system_metrics_hourly"), 30_000);
  await running;
  assertEquals(await recordsIn(database, "system_metrics_daily"), 30_000);
  await backend.close();
});

test("refreshes days between refreshes of hours, also after an upgrade", async (database) => {
  const assertApart = async () => {
    const jobs = await refreshJobs(database);
    assertEquals(new Set(jobs.map(({ newest }) => newest)), new Set(["false"]));
    for (let i = 0; i < jobs.length; i += 2) {
      const [hours, days] = jobs.slice(i, i + 2).map(({ minute }) => minute as number);
      assertEquals((days - hours + 30) % 30, 15, JSON.stringify(jobs));
    }
  };
  await (await open(database.url)).close();
  await assertApart();
  await database.sql(
    `SELECT alter_job(job_id, config => config - 'refresh_newest_first',
      initial_start => date_trunc('hour', now()) + interval '1 hour') FROM ${JOBS} WHERE proc_name = 'policy_${REFRESH}'`,
  );
  await (await open(database.url)).close();
  await assertApart();
  await (await open(database.url)).close(); // changes nothing
  await assertApart();
});

if (isPresent) {
  Deno.test("TimescaleBackend reports a failed background job with its error", async () => {
    await using server = await PostgresServer.start();
    await server.loadTimescale();
    const url = server.url();
    await (await open(url, { retentionDays: 30 })).close();
    const retention = async () =>
      (await backend.stats()).policies!.find(({ policy, table }) =>
        policy === "retention" && table === "system_metrics"
      )!;
    await runSql(
      url,
      `UPDATE _timescaledb_catalog.bgw_job SET config = config || '{"drop_after": "a while"}'
        WHERE id IN (SELECT job_id FROM ${JOBS} WHERE proc_name = 'policy_retention' AND subject = 'system_metrics')`,
    );
    // The scheduler reads the jobs when it starts, and notices a later change only when one of them ends.
    await runSql(url, "ALTER SYSTEM SET timescaledb.max_background_workers = 4");
    await server.stop();
    await server.resume();
    const backend = await open(url, { mode: "existing" });
    const { lastStatus, lastError, failures } = await until(
      async () => {
        const found = await retention();
        return found.lastError?.includes("a while") ? found : undefined;
      },
      "the job to fail",
      50,
    );
    assertEquals([lastStatus, lastError], ["Failed", 'invalid input syntax for type interval: "a while"']);
    assert(failures > 0);
    const warning = (await backend.probe()).warnings.find((warning) => warning.includes("a while"))!;
    assertMatch(warning, /^the last run of \d+ of \d+ background jobs of TimescaleDB failed/);
    // As the server has it during a run.
    await runSql(url, "UPDATE _timescaledb_internal.bgw_job_stat SET last_finish = '-infinity'");
    assertEquals((await retention()).lastStatus, "Running");
    await backend.close();
  });
}
