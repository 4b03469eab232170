import { openBackend } from "../mod.ts";
import { DISTRIBUTED, DISTRIBUTED_BY } from "../src/backends/citus/distribution.ts";
import { sliceByRows } from "../src/backends/citus/row_slices.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { PostgresPool } from "../src/backends/postgres/pool.ts";
import { resolvePostgresTarget } from "../src/backends/postgres/target.ts";
import { BackendError } from "../src/errors.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { metricPoints } from "../src/records/metric_point.ts";
import { acceptQuery } from "../src/records/query.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { backendContract, read, write } from "./backend_contract.ts";
import { CitusDatabase, citusVersion } from "./citus_cluster.ts";
import { costEntry, NEW_YEAR, REQUIRED_FIELDS } from "./fixtures.ts";
import { databaseUrl, runSql, TestDatabase } from "./postgres_server.ts";
import { onEmpty, openCitus as open, openPostgres, OPTIONS } from "./server_backends.ts";
import { until } from "./until.ts";

/** Without Citus these are not run, and `tests/run.ts` says why. */
const isPresent = (await citusVersion()).version !== undefined;

const NAMES = Object.keys(DATASETS);
const HOUR = 3_600_000;
const WEEK = 7 * 24 * HOUR;
if (isPresent) {
  backendContract("CitusBackend", onEmpty(CitusDatabase.create, open));
}

/** Registers a test with an empty database, where there is Citus. */
function test(title: string, run: (database: CitusDatabase) => Promise<void>): void {
  if (!isPresent) return;
  Deno.test(`CitusBackend ${title}`, async () => {
    await using database = await CitusDatabase.create();
    await run(database);
  });
}

/** The error with which something fails. */
async function failureOf(run: () => Promise<unknown>): Promise<BackendError> {
  const error = await run().then(() => undefined, (error) => error);
  assert(error instanceof BackendError, String(error));
  return error;
}

const metrics = (count: number, stepMs = 1_000, start = NEW_YEAR) =>
  Array.from({ length: count }, (_, i) => ({
    timestamp: start + i * stepMs,
    clusterId: "prod",
    nodeId: `n${i % 64}`,
    activeConnections: i,
  }));

// --- Opening

test("distributes each table by its column when ten open at once", async (database) => {
  const backends = await Promise.all(Array.from({ length: 10 }, () => open(database.url)));
  await Promise.all(
    backends.map((backend, i) => write(backend, costEntries, [costEntry({ entryId: `e${i}` })])),
  );
  assertEquals((await read(backends[0], costEntries)).length, 10);
  await Promise.all(backends.map((backend) => backend.close()));
  const found = await database.sql(
    `SELECT table_name::text AS table, distribution_column AS by, shard_count::int AS shards, colocation_id::int AS place
      FROM citus_tables WHERE table_name::text IN (${NAMES.map((name) => `'${name}'`)})`,
  );
  const expected = Object.entries(DISTRIBUTED_BY).map(([table, field]) => [
    table,
    field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    4,
  ]);
  assertEquals(found.map(({ table, by, shards }) => [table, by, shards]).sort(), expected.sort());
  assertEquals(new Set(found.map(({ place }) => place)).size, found.length); // each by itself
  const local =
    "SELECT count(*)::int AS n FROM pg_dist_partition WHERE logicalrelid::text IN ('ledger', 'live_documents')";
  assertEquals((await database.sql(local))[0].n, 0);
});

test("takes the operator's number of shards", async (database) => {
  const [{ name }] = await database.sql("SELECT current_database() AS name");
  await database.sql(`ALTER DATABASE ${name} SET citus.shard_count = 3`);
  await (await open(database.url)).close();
  const [{ n }] = await database.sql(
    "SELECT shard_count::int AS n FROM citus_tables WHERE table_name = 'usage_records'::regclass",
  );
  assertEquals(n, 3);
});

test("copies a large batch over two connections to each worker, and a small one over one", async (database) => {
  const [{ name }] = await database.sql("SELECT current_database() AS name");
  await database.sql(`ALTER DATABASE ${name} SET citus.shard_count = 8`);
  const backend = await open(database.url);
  const costs = (count: number, first: number) =>
    Array.from({ length: count }, (_, i) => costEntry({ entryId: `c${first + i}` }));
  const prepared = async () =>
    Number((await database.sql("SELECT count(*) AS n FROM pg_dist_transaction"))[0].n);
  await write(backend, costEntries, costs(1, 0)); // makes the partition
  const found: unknown[] = [];
  for (const [count, first] of [[4_999, 1], [5_000, 5_000]]) {
    const before = await prepared();
    const { committed } = await write(backend, costEntries, costs(count, first));
    found.push([committed, await prepared() - before]);
  }
  assertEquals(found, [[4_999, 2], [5_000, 4]]);
  await backend.close();
});

test("is opened by citus:// and by its name with postgresql://", async (database) => {
  for (
    const config of [{ connectionString: database.url.replace("postgresql", "citus") }, {
      backend: "citus" as const,
      connectionString: database.url,
    }]
  ) {
    const backend = await openBackend(config);
    assertEquals(backend.name, "citus");
    await backend.close();
  }
});

test("refuses a worker, an empty cluster, and tables in another form", async (database) => {
  await assertRejects(
    () => open(database.workers[0]),
    BackendError,
    "this is a worker. Connect to the coordinator",
  );
  await assertRejects(() => open(database.url, { mode: "existing" }), BackendError, "database init");
  const plain = await openPostgres(database.url);
  await plain.close();
  const error = await failureOf(() => open(database.url, { mode: "existing" }));
  assertMatch(error.message, /divided in another way.*database init --backend citus/);
  await (await open(database.url)).close();
  for (const mode of ["create", "existing", "read"] as const) {
    const error = await failureOf(() => openPostgres(database.url, { mode }));
    assertEquals(error.code, "TABLES_FOREIGN");
    assertMatch(error.message, /distributed tables with `--backend citus`/);
  }
  await database.sql(
    "SELECT citus_set_node_property(nodename, nodeport, 'shouldhaveshards', false) FROM pg_dist_node",
  );
  await assertRejects(() => open(database.url), BackendError, "no node for shards");
});

test("distributes filled tables with all records and grants", async (database) => {
  const reader = `reader_${database.name}`;
  const plain = await openPostgres(database.url);
  await write(plain, systemMetrics, metrics(3_000, HOUR));
  const costs = Array.from(
    { length: 500 },
    (_, i) => costEntry({ entryId: `e${i}`, amount: "0.000000000000000001" }),
  );
  await write(plain, costEntries, costs);
  const before = await read(plain, systemMetrics);
  await plain.close();
  await database.sql(
    `CREATE ROLE ${reader} LOGIN PASSWORD '${reader}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${reader}`,
  );
  try {
    const backend = await open(database.url);
    assertEquals(await read(backend, systemMetrics), before);
    assertEquals((await backend.stats()).totals, [{
      currency: "USD",
      total: "0.0000000000000005",
      count: 500,
    }]);
    const again = await write(backend, costEntries, costs.slice(0, 2));
    assertEquals(again, { committed: 0, duplicates: 2, restated: 0 });
    await write(backend, costEntries, [costEntry({ entryId: "new", timestamp: NEW_YEAR + 99 * WEEK })]);
    const reading = await open(databaseUrl(database.url, database.name, reader), { mode: "read" });
    assertEquals((await read(reading, costEntries)).length, 501);
    await Promise.all([backend, reading].map((opened) => opened.close()));
    const [{ bytes }] = await database.sql(
      "SELECT sum(pg_relation_size(relid))::int AS bytes FROM pg_partition_tree('system_metrics')",
    );
    assertEquals(bytes, 0); // nothing is left on the coordinator
  } finally {
    await database.sql(`DROP OWNED BY ${reader}; DROP ROLE ${reader}`);
  }
});

test("adds and distributes the tables of a newer schema", async (database) => {
  await (await open(database.url)).close();
  await database.sql("DROP TABLE metric_points; UPDATE schema_version SET version = 5");
  await assertRejects(() => open(database.url, { mode: "existing" }), BackendError, "database init");
  const backend = await open(database.url);
  await write(backend, metricPoints, [{ timestamp: NEW_YEAR, name: "queue", value: 1 }]);
  assertEquals((await read(backend, metricPoints)).length, 1);
  const [{ n }] = await database.sql(
    "SELECT shard_count::int AS n FROM citus_tables WHERE table_name = 'metric_points'::regclass",
  );
  assertEquals(n, 4);
  await backend.close();
});

/** Additions that Citus does not take, and how the error names them. */
const BLOCKERS: readonly [sql: string, named: RegExp][] = [
  [
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; " +
    "CREATE TRIGGER mine BEFORE INSERT ON cost_entries FOR EACH ROW EXECUTE FUNCTION f()",
    /the trigger mine of cost_entries/,
  ],
  [
    "CREATE TABLE regions (name text PRIMARY KEY); ALTER TABLE cost_entries ADD FOREIGN KEY (region) REFERENCES regions",
    /the foreign key cost_entries_region_fkey of cost_entries/,
  ],
  [
    "CREATE UNIQUE INDEX mine ON usage_records (timestamp)",
    /the unique index mine without usage_id/,
  ],
  [
    "ALTER TABLE service_metrics RENAME TO old; CREATE TABLE service_metrics (LIKE old INCLUDING ALL)",
    /the table service_metrics, which is not partitioned by time/,
  ],
];

Deno.test("CitusBackend names what keeps tables from being distributed, on any PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  const plain = await openPostgres(database.url);
  await write(plain, costEntries, [costEntry()]);
  await plain.close();
  for (const [sql] of BLOCKERS) await database.sql(sql);
  const pool = new PostgresPool(resolvePostgresTarget(database.url), OPTIONS);
  const error = await failureOf(() => pool.transaction("open", DISTRIBUTED.adopt!));
  for (const [, named] of BLOCKERS) assertMatch(error.message, named);
  assertMatch(error.message, /Nothing was changed\.$/);
  assertEquals([error.code, error.kind], ["EXTENSION_CONFLICT", "operator"]);
  await pool.close();
});

test("changes nothing where a table cannot be distributed", async (database) => {
  const plain = await openPostgres(database.url);
  await write(plain, costEntries, [costEntry()]);
  await database.sql(BLOCKERS[0][0]);
  await assertRejects(() => open(database.url), BackendError, "the trigger mine of cost_entries. Remove it");
  assertEquals((await database.sql("SELECT FROM pg_dist_partition")).length, 0);
  assertEquals((await read(plain, costEntries)).length, 1);
  await plain.close();
  await database.sql("DROP TRIGGER mine ON cost_entries");
  const backend = await open(database.url);
  assertEquals((await read(backend, costEntries)).length, 1);
  await backend.close();
});

// --- Writing

test("creates partitions of long index names from several processes at once", async (database) => {
  const backends = await Promise.all(Array.from({ length: 4 }, () => open(database.url)));
  const device = (week: number, deviceId: string) => ({
    ...REQUIRED_FIELDS.device_metrics,
    timestamp: NEW_YEAR + week * WEEK,
    deviceId,
  });
  const weeks = Array.from({ length: 12 }, (_, week) => week);
  await Promise.all(
    backends.map((backend, i) => write(backend, deviceMetrics, weeks.map((week) => device(week, `d${i}`)))),
  );
  assertEquals((await read(backends[0], deviceMetrics)).length, 48);
  const [{ n }] = await database.sql(
    "SELECT count(*)::int AS n FROM pg_inherits WHERE inhparent = 'device_metrics'::regclass",
  );
  assertEquals(n, 12);
  await Promise.all(backends.map((backend) => backend.close()));
});

test("writes into a partition that another process has dropped", async (database) => {
  const [one, two] = [await open(database.url), await open(database.url)];
  await write(one, systemMetrics, metrics(10));
  assertEquals(await two.deleteBefore(systemMetrics, NEW_YEAR + 9 * WEEK, { dryRun: false }), 10);
  await write(one, systemMetrics, metrics(10)); // still knows of the partition
  assertEquals((await read(two, systemMetrics)).length, 10);
  await Promise.all([one, two].map((backend) => backend.close()));
});

test("refuses a record by a constraint that an operator added, and stores the others", async (database) => {
  const backend = await open(database.url);
  await database.sql("ALTER TABLE cost_entries ADD CONSTRAINT mine CHECK (amount < 100)");
  const error = await failureOf(() => write(backend, costEntries, [costEntry({ amount: "100" })]));
  assertEquals([error.kind, error.sqlState], ["data", "23514"]);
  await write(backend, costEntries, [costEntry({ amount: "99" })]);
  assertEquals((await read(backend, costEntries)).length, 1);
  await backend.close();
});

test("blames the operator when the owner of tables cannot log in on workers", async (database) => {
  const owner = `owner_${database.name}`;
  const backend = await open(database.url);
  await database.sql(`CREATE ROLE ${owner} NOLOGIN; GRANT ALL ON SCHEMA public TO ${owner}`);
  try {
    for (const name of NAMES) await database.sql(`ALTER TABLE ${name} OWNER TO ${owner}`);
    const error = await failureOf(() => write(backend, costEntries, [costEntry()]));
    assertEquals([error.code, error.kind], ["LOGIN_REFUSED", "operator"]);
    assertMatch(error.message, new RegExp(owner));
    await database.sql(`ALTER ROLE ${owner} LOGIN`);
    assertEquals((await write(backend, costEntries, [costEntry()])).committed, 1);
  } finally {
    await backend.close();
    await database.sql(`REASSIGN OWNED BY ${owner} TO postgres; DROP OWNED BY ${owner}`);
    await database.sql(`DROP ROLE ${owner}`);
  }
});

// --- Reading

Deno.test("sliceByRows() cuts a query into slices of few records that cover it once", async () => {
  const times = [
    ...Array.from({ length: 3_000 }, (_, i) => NEW_YEAR + i * 60_000), // even
    ...Array.from({ length: 3_000 }, (_, i) => NEW_YEAR + 40 * WEEK + i % 700), // dense
    ...Array.from({ length: 900 }, () => NEW_YEAR + 41 * WEEK), // all at once
    NEW_YEAR + 500 * WEEK, // far
  ];
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
  await write(
    backend,
    systemMetrics,
    times.map((timestamp, activeConnections) => ({ timestamp, activeConnections })),
  );
  for (
    const input of [{}, { order: "desc" }, { startTime: NEW_YEAR + HOUR, endTime: NEW_YEAR + 41 * WEEK }]
  ) {
    const query = acceptQuery(systemMetrics, input);
    const count = (
      query: Parameters<MemoryBackend["aggregate"]>[1],
      aggregation: Parameters<MemoryBackend["aggregate"]>[2],
    ) => backend.aggregate(systemMetrics, query, aggregation);
    const slices = await sliceByRows([{ query, partitions: [] }], count, 500);
    const found: number[] = [];
    for (const slice of slices) {
      const records = (await Array.fromAsync(backend.read(systemMetrics, slice.query))).flat();
      found.push(...records.map(({ timestamp }) => timestamp));
      const isOneMoment = new Set(records.map(({ timestamp }) => timestamp)).size === 1;
      assert(records.length <= 500 || isOneMoment, `${records.length}`);
    }
    const expected = (await Array.fromAsync(backend.read(systemMetrics, query))).flat();
    assertEquals(found, expected.map(({ timestamp }) => timestamp));
    assert(slices.length < 60, `${slices.length}`);
  }
});

test("reads more records than the coordinator sorts at once, in either order", async (database) => {
  const backend = await open(database.url);
  for (let i = 0; i < 6; i++) await write(backend, systemMetrics, metrics(20_000, 10, NEW_YEAR + i * HOUR));
  const statements: string[] = [];
  const select = backend.selectStatement.bind(backend);
  backend.selectStatement = (...args) => {
    statements.push(select(...args));
    return statements.at(-1)!;
  };
  for (const order of ["asc", "desc"] as const) {
    const times = (await read(backend, systemMetrics, { order })).map(({ timestamp }) => timestamp);
    assertEquals(times.length, 120_000);
    assert(
      times.every((time, i) => i === 0 || (order === "asc" ? time >= times[i - 1] : time <= times[i - 1])),
    );
  }
  assert(statements.length >= 6, `${statements.length}`); // at most 50,000 in each
  await backend.close();
});

test("answers a percentile as PostgreSQL does", async (database) => {
  await using elsewhere = await TestDatabase.create();
  const plain = await openPostgres(elsewhere.url);
  const backend = await open(database.url);
  const aggregation = {
    groupBy: [{ field: "clusterId" }],
    measures: [{ function: "percentile", field: "activeConnections", fraction: 0.95 }, { function: "count" }],
  } as const;
  const answers = [];
  for (const opened of [backend, plain]) {
    await write(opened, systemMetrics, metrics(5_000));
    answers.push(await opened.aggregate(systemMetrics, acceptQuery(systemMetrics), aggregation));
    await opened.close();
  }
  assertEquals(answers[0], answers[1]);
  assertEquals(answers[0][0].values, [4_749.05, 5_000]);
});

// --- Deleting

test("gives up a partition that a session on a worker holds, in time", async (database) => {
  const backend = await open(database.url);
  await write(backend, systemMetrics, metrics(100));
  const [{ shard, nodeport }] = await database.sql(
    "SELECT shard_name AS shard, nodeport FROM citus_shards WHERE table_name::text LIKE 'system_metrics_2%' LIMIT 1",
  );
  const worker = database.workers.find((url) => new URL(url).port === String(nodeport))!;
  const holder = runSql(worker, `BEGIN; SELECT FROM ${shard} LIMIT 1; SELECT pg_sleep(600)`).catch(
    () => {},
  );
  const isHeld =
    `SELECT FROM pg_locks WHERE relation = '${shard}'::regclass AND mode = 'AccessShareLock' AND granted`;
  await until(async () => (await runSql(worker, isHeld)).length, "the lock on the worker");
  const held: string[] = [];
  const deleted = await backend.deleteBefore(systemMetrics, NEW_YEAR + 9 * WEEK, {
    dryRun: false,
    timeBudgetMs: 6_000, // enough to come to the partition on a loaded machine
    onHeld: (name) => held.push(name),
  });
  assertEquals([deleted, held.length], [0, 1]);
  await runSql(
    worker,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND datname = current_database() AND pid <> pg_backend_pid()",
  );
  await holder;
  assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 9 * WEEK, { dryRun: false }), 100);
  await backend.close();
});

test("deletes the records before a time from a partition that stays", async (database) => {
  const backend = await open(database.url);
  await write(backend, systemMetrics, metrics(1_000, 10 * 60_000)); // most of a week
  const before = NEW_YEAR + 300 * 10 * 60_000;
  assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false }), 300);
  assertEquals((await read(backend, systemMetrics))[0].timestamp, before);
  await backend.close();
});

// --- Operating

test("reports nodes, shards and sizes", async (database) => {
  const backend = await open(database.url);
  await write(backend, systemMetrics, metrics(5_000));
  const { datasets, storage } = await backend.stats();
  const { tableBytes = 0, indexBytes = 0, partitions } = datasets.system_metrics;
  assert(tableBytes > 200_000 && indexBytes > 100_000, `${tableBytes} ${indexBytes}`);
  assertEquals(partitions, 1);
  const shards = 2 * (NAMES.length + 1); // on each worker, of each table and the one partition
  const found = [...String(storage.nodes).matchAll(/\((\d+) shards, [\d.]+ MiB\)/g)];
  assertEquals(found.map(([, count]) => Number(count)), [0, shards, shards]);
  const { writable, details, warnings } = await backend.probe();
  assertEquals([writable, details.nodes, details.shards], [true, 3, 2 * shards]);
  assert(warnings.every((warning) => !/shards|node|prepared_/.test(warning)), warnings.join("\n"));
  const off = "citus.recover_2pc_interval is -1"; // as the tests have it
  assertEquals(warnings.filter((warning) => warning.includes(off)).length, 3);
  await backend.close();
});

test("says that a node is disabled or does not answer, and takes no writes for granted", async (database) => {
  const backend = await open(database.url);
  const port = Number(new URL(database.workers[1]).port);
  const move = (to: number) =>
    database.sql(
      `SET citus.enable_metadata_sync = off; UPDATE pg_dist_node SET nodeport = ${to} WHERE nodeport IN (1, ${port})`,
    );
  await move(1); // nothing listens there
  const { writable, warnings } = await backend.probe();
  assertEquals(writable, false);
  assert(warnings.some((warning) => /:1: the node does not answer/.test(warning)), warnings.join("\n"));
  await move(port);
  assertEquals((await backend.probe()).writable, true);
  await backend.close();
});
