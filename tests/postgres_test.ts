import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { type AddressInfo, createServer, Socket } from "node:net";
import type { PostgresBackend, PostgresBackendOptions } from "../src/backends/postgres.ts";
import {
  type Partition,
  type PartitionManager,
  planPartitions,
} from "../src/backends/postgres/partitions.ts";
import { aggregateDialect } from "../src/backends/postgres/aggregate.ts";
import { PostgresPool } from "../src/backends/postgres/pool.ts";
import { openPostgresSocket } from "../src/backends/postgres/socket.ts";
import { resolvePostgresTarget } from "../src/backends/postgres/target.ts";
import { PostgresWriter } from "../src/backends/postgres/writer.ts";
import { aggregateStatement } from "../src/backends/sql/aggregate.ts";
import { currencyTotals } from "../src/backends/currency_totals.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { asPostgresError } from "../src/backends/postgres/errors.ts";
import { BackendError, type FailureKind } from "../src/errors.ts";
import { CostObservatory, importRecords, ObservabilityHub } from "../mod.ts";
import type { AggregateRow, Measure } from "../src/records/aggregation.ts";
import { retryBriefly } from "../src/pipeline/retry.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { acceptQuery } from "../src/records/query.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { PARTITIONED } from "../src/backends/postgres/migrate.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { backendContract, countsByReading, read, write } from "./backend_contract.ts";
import { writeParts } from "./members_contract.ts";
import { Chance } from "./faults/chance.ts";
import { until } from "./until.ts";
import { Proxy } from "./faults/proxy.ts";
import { assertSilentReadsEnd } from "./faults/silent_reads.ts";
import { costEntry, FULL_COST_ENTRY, NEW_YEAR, undoUpgrade } from "./fixtures.ts";
import { databaseUrl, PostgresServer, runSql, sharedServer, TestDatabase } from "./postgres_server.ts";
import { onEmpty, openPostgres } from "./server_backends.ts";

const DAY = 24 * 3_600_000;
/** The present of all backends here: names of partitions must not depend on when the tests run. */
const NOW = Date.UTC(2026, 5, 30);

const open = (url: string, options: Partial<PostgresBackendOptions> = {}) =>
  openPostgres(url, { now: () => NOW, ...options });

backendContract("PostgresBackend", onEmpty(TestDatabase.create, open));

/** Registers a test with an empty database, and a backend on it. */
function test(
  title: string,
  run: (backend: PostgresBackend, database: TestDatabase) => Promise<void>,
  options: Partial<PostgresBackendOptions> = {},
): void {
  Deno.test(`PostgresBackend ${title}`, async () => {
    await using database = await TestDatabase.create();
    const backend = await open(database.url, options);
    try {
      await run(backend, database);
    } finally {
      await backend.close();
    }
  });
}

const rowsIn = async (database: TestDatabase, table: string) =>
  Number((await database.sql(`SELECT count(*) AS rows FROM ${table}`))[0].rows);

/** The connections to a database beside the one that asks. */
const connectionsTo = async (database: TestDatabase) =>
  Number(
    (await database.sql(
      `SELECT count(*) AS n FROM pg_stat_activity WHERE datname = '${database.name}' AND pid <> pg_backend_pid()`,
    ))[0].n,
  );

const metrics = (count: number, overrides: object = {}) =>
  Array.from({ length: count }, (_, i) => ({ timestamp: NEW_YEAR + i, activeConnections: i, ...overrides }));

// --- Ingest

test("switches Nagle's algorithm off", async (_backend, database) => {
  const { setNoDelay } = Socket.prototype;
  const settings: unknown[] = [];
  Socket.prototype.setNoDelay = function (value) {
    settings.push(value);
    return setNoDelay.call(this, value);
  };
  try {
    const socket = await openPostgresSocket(resolvePostgresTarget(database.url));
    socket.destroy();
  } finally {
    Socket.prototype.setNoDelay = setNoDelay;
  }
  assert(settings.includes(true));
});

test("names the server that accepts a connection and does not answer", async () => {
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const host = `127.0.0.1:${silent.addr.port}`;
  const error = await assertRejects(
    () => open(`postgresql://u@${host}/d?sslmode=disable&connect_timeout=1`),
    BackendError,
  ) as BackendError;
  assertEquals(error.code, "CONNECTION_TIMEOUT");
  assert(error.message.includes(`(write CONNECT_TIMEOUT ${host})`), error.message);
});

test("has the system notice a server that vanished", async (_backend, database) => {
  if (Deno.build.os !== "linux") return;
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, "0");
  const socket = await openPostgresSocket(resolvePostgresTarget(database.url));
  const ports = `:${hex(socket.localPort!)} [0-9A-F]{8}:${hex(Number(new URL(database.url).port))}`;
  // The state 01 is a connection, the timer 02 is keepalive.
  assertMatch(await Deno.readTextFile("/proc/net/tcp"), new RegExp(`${ports} 01 \\S+ 02:`));
  socket.destroy();
});

test(
  "reports SQLSTATE and message and writes nothing when a value is refused",
  async (backend, database) => {
    await database.sql("ALTER TABLE system_metrics ADD CONSTRAINT sane CHECK (cpu_usage < 100)");
    for (const bad of [0, 70, 999]) {
      const records = metrics(1_000).map((record, i) => ({
        ...record,
        nodeId: `n${i}`,
        cpuUsage: i === bad ? 150 : 1,
      }));
      const error = await assertRejects(
        () => write(backend, systemMetrics, records),
        BackendError,
        "sane",
      ) as BackendError;
      assertEquals([error.operation, error.kind, error.sqlState], ["write", "data", "23514"]);
    }
    assertEquals(await rowsIn(database, "system_metrics"), 0);
    assertEquals(await rowsIn(database, "ledger"), 0);
  },
);

/** Constraints that openfinops did not make, and the kind of a record's failure on them. */
const CONSTRAINTS: readonly { sql: string; sqlState: string; kind: FailureKind }[] = [
  { sql: "ADD rack text NOT NULL", sqlState: "23502", kind: "operator" },
  { sql: "ALTER cpu_usage SET NOT NULL", sqlState: "23502", kind: "data" },
  { sql: "ADD rack text, ADD CONSTRAINT one CHECK (rack IS NOT NULL)", sqlState: "23514", kind: "operator" },
  { sql: "ADD CONSTRAINT one CHECK (false)", sqlState: "23514", kind: "operator" },
  { sql: "ADD CONSTRAINT one CHECK (active_connections > 0)", sqlState: "23514", kind: "data" },
  { sql: "ADD CONSTRAINT one FOREIGN KEY (node_id) REFERENCES nodes", sqlState: "23503", kind: "operator" },
  { sql: "ADD rack text DEFAULT 'r1', ADD UNIQUE (timestamp, rack)", sqlState: "23505", kind: "operator" },
  { sql: "ADD UNIQUE (timestamp, node_id)", sqlState: "23505", kind: "data" },
];

for (const { sql, sqlState, kind } of CONSTRAINTS) {
  test(
    `blames ${kind === "data" ? "the record" : "the table"} after ALTER TABLE … ${sql}`,
    async (backend, database) => {
      await database.sql(`CREATE TABLE nodes (id text PRIMARY KEY); ALTER TABLE system_metrics ${sql}`);
      const twice = [{ timestamp: NEW_YEAR, activeConnections: 0 }, {
        timestamp: NEW_YEAR,
        activeConnections: 0,
      }];
      const error = await assertRejects(
        () => write(backend, systemMetrics, twice),
        BackendError,
      ) as BackendError;
      assertEquals([error.sqlState, error.kind], [sqlState, kind]);
      assertEquals(await rowsIn(database, "ledger"), 0);
    },
  );
}

for (const onConflict of ["ignore", "replace"] as const) {
  test(`counts no row that a trigger skips as stored (${onConflict})`, async (backend, database) => {
    await write(backend, costEntries, [costEntry({ entryId: "old" }), costEntry({ entryId: "odd" })]);
    await database.sql(
      "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
        "IF to_jsonb(NEW) ->> 'node_id' = 'odd' OR to_jsonb(NEW) ->> 'resource_id' = 'odd' THEN RETURN NULL; END IF; " +
        "RETURN NEW; END $$; " +
        "CREATE TRIGGER skip BEFORE INSERT ON system_metrics FOR EACH ROW EXECUTE FUNCTION skip(); " +
        "CREATE TRIGGER skip BEFORE INSERT ON cost_entries FOR EACH ROW EXECUTE FUNCTION skip()",
    );
    const batch = (nodeId: string) => [{ timestamp: NEW_YEAR }, { timestamp: NEW_YEAR, nodeId }];
    const costs = (entryId: string, resourceId: string) => [
      costEntry({ entryId: "old" }),
      costEntry({ entryId: "old" }),
      costEntry({ entryId, resourceId }),
    ];
    for (const round of [1, 2]) { // by COPY, and by INSERT, as the costs then have duplicates
      const cases: [Dataset<unknown>, unknown[]][] = [[systemMetrics, batch("odd")], [
        costEntries,
        costs("new", "odd"),
      ]];
      for (const [dataset, records] of cases) {
        const error = await assertRejects(
          () => write(backend, dataset, records),
          BackendError,
        ) as BackendError;
        assertMatch(error.message, /skipped 1 of 2 records/);
        assertEquals(error.kind, "data");
      }
      assertEquals((await write(backend, systemMetrics, batch("even"))).committed, 2);
      assertEquals((await write(backend, costEntries, costs(`new ${round}`, "even"))).committed > 0, true);
    }
    assertEquals(await rowsIn(database, "system_metrics"), 4);
    assertEquals(await rowsIn(database, "cost_entries"), 4);
  }, { onConflict });
}

test(
  "treats a failing trigger as an unknown cause",
  async (backend, database) => {
    await database.sql(
      "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
        "IF NEW.active_connections % 100 = 7 THEN PERFORM no_such_function(); END IF; RETURN NEW; END $$; " +
        "CREATE TRIGGER fail BEFORE INSERT ON system_metrics FOR EACH ROW EXECUTE FUNCTION fail()",
    );
    const error = await assertRejects(
      () => write(backend, systemMetrics, metrics(100)),
      BackendError,
    ) as BackendError;
    assertEquals([error.sqlState, error.kind], ["42883", "unknown"]);
    await write(backend, systemMetrics, metrics(7));
  },
);

Deno.test("asPostgresError() says what happened, then what to do", () => {
  const cause = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:5432"), { code: "ECONNREFUSED" });
  assertEquals(
    asPostgresError("open", "postgresql://u@127.0.0.1:5432/d", cause).message,
    "Cannot open postgresql://u@127.0.0.1:5432/d: connection refused (connect ECONNREFUSED 127.0.0.1:5432). " +
      "Is PostgreSQL running there? Check the host and the port.",
  );
});

test("leaks no connection when batches fail", async (backend, database) => {
  await database.sql("ALTER TABLE system_metrics ADD CONSTRAINT sane CHECK (cpu_usage < 100)");
  for (let i = 0; i < 10; i++) {
    await assertRejects(() => write(backend, systemMetrics, metrics(3, { cpuUsage: 150 })), BackendError);
  }
  assert(await connectionsTo(database) <= 2);
  await write(backend, systemMetrics, metrics(3, { cpuUsage: 50 }));
  assertEquals(await rowsIn(database, "system_metrics"), 3);
});

const ALTERATIONS: readonly { by: string; expected: string }[] = [
  { by: "ALTER TABLE system_metrics ALTER cpu_usage TYPE bigint", expected: "cpu_usage" },
  { by: "ALTER TABLE system_metrics DROP cpu_usage", expected: "cpu_usage" },
  { by: "ALTER TABLE cost_entries ALTER amount TYPE numeric(38,2)", expected: "amount" },
  { by: "ALTER TABLE cost_entries DROP CONSTRAINT cost_entries_timestamp_entry_id_key", expected: "unique" },
  {
    by: "DROP TABLE system_metrics, cost_entries",
    expected: "openfinops created them|tables of openfinops|tables were dropped",
  },
  { by: "ALTER TABLE ledger DROP restated", expected: "not as openfinops created them" },
];

for (const { by, expected } of ALTERATIONS) {
  test(`writes nothing and reports it after ${by}`, async (backend, database) => {
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    await database.sql(by);
    const dataset = by.includes("cost_entries ") ? costEntries : systemMetrics;
    const record = dataset === costEntries
      ? costEntry({ amount: "0.001" })
      : { timestamp: NEW_YEAR, cpuUsage: 5 };
    const error = await assertRejects(() => write(backend, dataset, [record]), BackendError) as BackendError;
    assertMatch(error.message, new RegExp(expected));
    assertEquals(error.retryable, false);
    if (!by.startsWith("DROP")) {
      assertEquals(await rowsIn(database, dataset.name), dataset === systemMetrics ? 1 : 0);
    }
  });
}

test("ignores new columns, indexes and views", async (backend, database) => {
  await database.sql("ALTER TABLE system_metrics ADD rack text DEFAULT 'r1'");
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR, cpuUsage: 5 }]);
  assertEquals((await read(backend, systemMetrics))[0].cpuUsage, 5);
});

test(
  "loses and duplicates nothing when connections are cut repeatedly",
  async (_backend, database) => {
    const hub = await ObservabilityHub.open({ connectionString: database.url, batchSize: 50 });
    let isOver = false;
    const cutting = (async () => {
      for (let cuts = 0; !isOver || cuts === 0; cuts++) {
        await database.sql(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity ` +
            `WHERE datname = '${database.name}' AND pid <> pg_backend_pid() AND query NOT LIKE '%test%'`,
        );
        await new Promise((resolve) => setTimeout(resolve, 15));
      }
    })();
    for (let i = 0; i < 10_000; i++) {
      await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i, activeConnections: i });
      if (i % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    isOver = true;
    await cutting;
    await hub.flush();
    const { retries, committed } = hub.stats().datasets.system_metrics!;
    await hub.close();
    assertEquals(committed, 10_000);
    assert(retries > 0, "no write was cut");
    const [found] = await database.sql(
      "SELECT count(*)::int AS rows, count(DISTINCT active_connections)::int AS numbers FROM system_metrics",
    );
    assertEquals(found, { rows: 10_000, numbers: 10_000 });
  },
);

test(
  "waits for a first attempt that is still running",
  async (backend, database) => {
    const id = crypto.randomUUID();
    const insert = `INSERT INTO ledger (batch_id, dataset, committed, duplicates, restated) ` +
      `VALUES ('${id}', 'system_metrics', 7, 0, 0)`;
    const gate = await holding(database, "SELECT pg_advisory_xact_lock(1)");
    const first = database.sql(`BEGIN; ${insert}; SELECT pg_advisory_xact_lock(1); COMMIT`);
    const isWaitingFor = async (event: string) =>
      (await database.sql(`SELECT 1 FROM ${SESSIONS} WHERE wait_event = '${event}'`)).length > 0;
    await until(() => isWaitingFor("advisory"), "a wait for the lock");
    const again = backend.write({ id, dataset: systemMetrics, records: [{ timestamp: NEW_YEAR }] });
    await until(() => isWaitingFor("transactionid"), "a wait for the transaction");
    await gate[Symbol.asyncDispose]();
    await first;
    assertEquals(await again, { committed: 7, duplicates: 0, restated: 0, isReplay: true });
    assertEquals(await rowsIn(database, "system_metrics"), 0);
  },
);

test("ends a statement at its timeout and allows a retry", async (backend, database) => {
  const locked = await holding(database, "LOCK TABLE ledger");
  const error = await assertRejects(
    () => write(backend, systemMetrics, metrics(1)),
    BackendError,
  ) as BackendError;
  // It waited for the outcome of what may be an earlier attempt: to write less would not help.
  assertEquals([error.sqlState, error.kind], ["57014", "transient"]);
  await locked[Symbol.asyncDispose]();
  await write(backend, systemMetrics, metrics(1));
}, { statementTimeoutSeconds: 1 });

test(
  "blames no record when the ledger fails",
  async (backend, database) => {
    await database.sql(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS " +
        "$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = TG_ARGV[0]; END $$",
    );
    for (const code of ["23514", "ZZ001"]) { // one that elsewhere means bad data, and an unknown one
      await database.sql(
        `CREATE TRIGGER refuse BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION refuse('${code}')`,
      );
      const error = await assertRejects(
        () => write(backend, systemMetrics, metrics(3)),
        BackendError,
      ) as BackendError;
      assertEquals([error.sqlState, error.kind], [code, "transient"]);
      await database.sql("DROP TRIGGER refuse ON ledger");
    }
    await write(backend, systemMetrics, metrics(3));
    assertEquals(await rowsIn(database, "system_metrics"), 3);
  },
);

test("blames no record when a partition cannot be created", async (backend, database) => {
  await database.sql(
    "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS " +
      "$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'ZZ001'; END $$; " +
      "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()",
  );
  const error = await assertRejects(
    () => write(backend, systemMetrics, metrics(3)),
    BackendError,
  ) as BackendError;
  assertEquals([error.sqlState, error.kind], ["ZZ001", "transient"]);
  await database.sql("DROP EVENT TRIGGER refuse");
  await write(backend, systemMetrics, metrics(3));
});

Deno.test("PostgresWriter blames no record when a pooler refuses", async () => {
  const pooler = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(fatal("XX000", "Max client connections reached")));
  });
  await new Promise<void>((resolve) => pooler.listen(0, "127.0.0.1", resolve));
  const { port } = pooler.address() as AddressInfo;
  const options = { maxConnections: 1, statementTimeoutSeconds: 60, onConflict: "ignore" } as const;
  const target = resolvePostgresTarget(`postgresql://u@127.0.0.1:${port}/d?sslmode=disable`);
  const pool = new PostgresPool(target, options);
  const parts = { ensure: () => Promise.resolve(), clearCache() {} } as unknown as PartitionManager;
  const writer = new PostgresWriter(pool, parts, options);
  const error = await assertRejects(
    () => writer.write({ id: "a", dataset: systemMetrics, records: metrics(3) }),
    BackendError,
  ) as BackendError;
  assertEquals([error.sqlState, error.kind], ["XX000", "transient"]);
  await pool.close();
  await new Promise((resolve) => pooler.close(resolve));
  await new Promise((resolve) => setTimeout(resolve, 100)); // until the driver reconnects
});

/** Reply of a server that refuses all connections. */
function fatal(code: string, message: string): Uint8Array {
  const fields = new TextEncoder().encode(`SFATAL\0VFATAL\0C${code}\0M${message}\0\0`);
  const bytes = new Uint8Array(5 + fields.length);
  bytes[0] = "E".charCodeAt(0);
  new DataView(bytes.buffer).setInt32(1, 4 + fields.length);
  bytes.set(fields, 5);
  return bytes;
}

test(
  "lets the server end a transaction that is slow, idle, or of a client that vanished",
  async (backend, database) => {
    const limits = {
      statement_timeout: "1min",
      idle_in_transaction_session_timeout: "130s",
      tcp_keepalives_idle: "30",
      tcp_keepalives_interval: "10",
      tcp_keepalives_count: "3",
      synchronous_commit: "on", // what is acknowledged survives a crash
    };
    const found = Object.keys(limits).map((name) => `'${name}', current_setting('${name}')`).join(", ");
    await database.sql(
      "CREATE TABLE seen (limits json); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS " +
        `$$ BEGIN INSERT INTO seen VALUES (json_build_object(${found})); RETURN NEW; END $$; ` +
        "CREATE TRIGGER note BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION note()",
    );
    await write(backend, systemMetrics, metrics(3));
    assertEquals(await database.sql("SELECT * FROM seen"), [{ limits }]);
  },
);

test("aggregates without compiling the statement", async (backend, database) => {
  await write(backend, systemMetrics, metrics(3));
  await database.sql(
    "CREATE TABLE seen (jit text); CREATE FUNCTION note() RETURNS boolean LANGUAGE sql VOLATILE AS " +
      "$$ INSERT INTO seen VALUES (current_setting('jit')) RETURNING true $$; " +
      "ALTER TABLE system_metrics RENAME TO records; " +
      "CREATE VIEW system_metrics AS SELECT * FROM records WHERE note()",
  );
  const count = { groupBy: [], measures: [{ function: "count" }] } as const;
  const [{ values }] = await backend.aggregate(systemMetrics, acceptQuery(systemMetrics), count);
  assertEquals(values, [3]);
  assertEquals(await database.sql("SELECT DISTINCT jit FROM seen"), [{ jit: "off" }]);
});

test("cuts a connection on which the server is silent, and blames no record", async (_backend, database) => {
  const target = resolvePostgresTarget(database.url);
  const pool = new PostgresPool(target, { maxConnections: 1, statementTimeoutSeconds: 60 });
  const sleeping = pool.use("write", (session) => session.query("SELECT pg_sleep(600)"), { limitMs: 300 });
  const error = await assertRejects(() => sleeping, BackendError) as BackendError;
  assertEquals([error.kind, error.code], ["transient", "CONNECTION_LOST"]);
  assertEquals(await pool.use("read", (session) => session.query("SELECT 1::text")), [["1"]]);
  await pool.close();
});

test(
  "ends reads when their reader is gone, although the server is silent",
  (backend, database) => assertSilentReadsEnd(backend, database.url, (url) => open(url)),
);

test("ends a wait for a connection when its reader is gone", async (_backend, database) => {
  const pool = new PostgresPool(resolvePostgresTarget(database.url), {
    maxConnections: 2,
    statementTimeoutSeconds: 60,
  });
  const held = await pool.acquire("read", { isStream: true });
  const gone = new AbortController();
  const { signal } = gone;
  const waiting = assertRejects(() => pool.acquire("read", { isStream: true, signal }), DOMException);
  const next = pool.acquire("read", { isStream: true });
  gone.abort();
  await waiting;
  await assertRejects(() => pool.use("read", () => Promise.resolve(), { signal }), DOMException);
  pool.release(held);
  pool.release(await next);
  await pool.close();
});

test("reports when the server has no free connection, and recovers", async (backend, database) => {
  const role = `few_${database.name}`;
  await database.sql(
    `CREATE ROLE ${role} LOGIN PASSWORD '${role}' CONNECTION LIMIT 1; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`,
  );
  try {
    await write(backend, systemMetrics, metrics(1));
    const url = databaseUrl(database.url, database.name, role);
    const first = await open(url);
    const error = await assertRejects(() => open(url), BackendError, "max_connections") as BackendError;
    assertEquals([error.sqlState, error.retryable], ["53300", true]);
    await first.close();
    const second = await open(url);
    assertEquals((await read(second, systemMetrics)).length, 1);
    await second.close();
  } finally {
    await database.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});

/** Settings that a session takes over at login, each with the SQLSTATE of the failure while it holds. */
const LOGIN_SETTINGS: readonly { set: string; reset: string; sqlState: string; isRead?: true }[] = [
  {
    set: "ALTER DATABASE %d SET default_transaction_read_only = on",
    reset: "ALTER DATABASE %d RESET default_transaction_read_only",
    sqlState: "25006",
  },
  {
    set: "ALTER DATABASE %d SET search_path = other",
    reset: "ALTER DATABASE %d RESET search_path",
    sqlState: "42P01",
  },
  {
    set: "ALTER ROLE CURRENT_USER IN DATABASE %d SET role = pg_monitor",
    reset: "ALTER ROLE CURRENT_USER IN DATABASE %d RESET role",
    sqlState: "42501",
  },
  {
    set: "ALTER ROLE CURRENT_USER IN DATABASE %d SET statement_timeout = 1",
    reset: "ALTER ROLE CURRENT_USER IN DATABASE %d RESET statement_timeout",
    sqlState: "57014",
    isRead: true,
  },
  {
    set: "ALTER DATABASE %d SET temp_file_limit = 0; ALTER DATABASE %d SET work_mem = 64",
    reset: "ALTER DATABASE %d RESET temp_file_limit; ALTER DATABASE %d RESET work_mem",
    sqlState: "53400",
    isRead: true,
  },
];

for (const { set, reset, sqlState, isRead } of LOGIN_SETTINGS) {
  test(
    `resumes at once when ${set.replace(/^.*ALTER (\w+) .*SET /, "$1 ")} is taken back`,
    async (backend, database) => {
      await write(backend, systemMetrics, metrics(30_000));
      const tries = Array.from({ length: 3 }, () => async () => {
        if (isRead) return await read(backend, systemMetrics, { order: "desc", nodeId: "default" });
        return await write(backend, systemMetrics, metrics(1));
      });
      if (isRead) await database.sql("DROP INDEX system_metrics_timestamp_idx"); // so that it sorts
      const change = (sql: string) => runSql(sharedServer(), sql.replaceAll("%d", database.name));
      await change(set);
      await change("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%d'");
      for (let round = 0; round < 2; round++) { // the first may still meet the lost connection
        const failures = await Promise.allSettled(tries.map((run) => run()));
        if (round === 0) continue;
        for (const { reason } of failures as PromiseRejectedResult[]) assertEquals(reason.sqlState, sqlState);
      }
      await change(reset);
      await Promise.all(tries.map((run) => run()));
    },
  );
}

// --- Partitions and retention

/** Partitions for times beside those that exist, as name, first day and day after the last, in mid-2026. */
function planned(
  times: readonly number[],
  { dataset = DATASETS.system_metrics as Dataset<unknown>, existing = [] as Partition[] } = {},
): string[][] {
  const day = (time: number) => new Date(time).toISOString().slice(0, 10);
  return planPartitions(dataset, { times, existing, now: NOW })
    .map(({ name, start, end }) => [name, day(start), day(end)]);
}

Deno.test("planPartitions() returns weeks and months near the present", () => {
  const week = [["system_metrics_2025_12_29", "2025-12-29", "2026-01-05"]];
  assertEquals(planned([NEW_YEAR]), week);
  assertEquals(planned([Date.UTC(2025, 11, 29), Date.UTC(2026, 0, 5) - 1]), week);
  assertEquals(planned([Date.UTC(2026, 0, 5)])[0][0], "system_metrics_2026_01_05");
  assertEquals(planned([Date.UTC(2025, 11, 31)], { dataset: DATASETS.cost_entries }), [
    ["cost_entries_2025_12_01", "2025-12-01", "2026-01-01"],
  ]);
});

Deno.test("planPartitions() returns decades far from the present", () => {
  assertEquals(planned([Date.UTC(1999, 5), Date.UTC(1993, 5)]), [
    ["system_metrics_1990_01_01_to_1999_12_27", "1990-01-01", "1999-12-27"], // the week of 1 January 2000 begins then
  ]);
  assertEquals(planned([Date.UTC(2020, 0), Date.UTC(2029, 11, 30)]), [
    ["system_metrics_2019_12_30_to_2021_06_28", "2019-12-30", "2021-06-28"],
    ["system_metrics_2027_07_05_to_2029_12_31", "2027-07-05", "2029-12-31"],
  ]);
  assertEquals(planned([Date.UTC(2029, 11, 31)])[0][1], "2029-12-31");
  assertEquals(planned([253_402_300_799_999])[0][0], "system_metrics_9999_12_27_to_10009_12_28");
  assertEquals(planned([Date.UTC(2020, 0), Date.UTC(2050, 0)], { dataset: DATASETS.cost_entries }), [
    ["cost_entries_2020_01_01_to_2021_06_01", "2020-01-01", "2021-06-01"],
    ["cost_entries_2050_01_01_to_2060_01_01", "2050-01-01", "2060-01-01"],
  ]);
});

Deno.test("planPartitions() never overlaps existing partitions", () => {
  const chance = new Chance(1);
  for (const dataset of [DATASETS.system_metrics, DATASETS.cost_entries]) {
    for (let round = 0; round < 300; round++) {
      let existing: Partition[] = [];
      let now = NOW;
      for (let step = 0; step < 10; step++) {
        now += chance.between(0, 700) * DAY; // weeks come near that have a decade's partition
        const near = chance.between(0, 2) === 0;
        const times = Array.from(
          { length: 1 + chance.between(0, 30) },
          () =>
            near
              ? now + (chance.between(0, 4_000) - 2_000) * DAY
              : NEW_YEAR + (chance.between(0, 60_000) - 10_000) * DAY,
        );
        const made = planPartitions(dataset, { times, existing, now });
        existing = [...existing, ...made].sort((a, b) => a.start - b.start);
        if (step === 3) { // another program's, with other bounds
          const start = NEW_YEAR + chance.between(0, 5_000_000) * 60_000;
          const end = start + 1 + chance.between(0, 100 * DAY);
          if (existing.every((one) => one.end <= start || one.start >= end)) {
            existing = [...existing, { name: "other", start, end }].sort((a, b) => a.start - b.start);
          }
        }
        for (const [i, { start, end }] of existing.entries()) {
          assert(start < end && (i === 0 || existing[i - 1].end <= start), `${round}: ${i}`);
        }
        const covered = times.every((time) => existing.some(({ start, end }) => time >= start && time < end));
        assert(covered, `a time has no partition in round ${round}`);
      }
      assertEquals(new Set(existing.map(({ name }) => name)).size, existing.length);
    }
  }
});

test("keeps using a decade's partition when its weeks come near", async (backend, database) => {
  const year = (number: number) => Date.UTC(number, 5);
  await write(backend, systemMetrics, [{ timestamp: year(2033) }]);
  const later = await open(database.url, { now: () => year(2035) });
  await write(later, systemMetrics, [2030, 2033, 2035, 2036, 2040].map((y) => ({ timestamp: year(y) })));
  await later.close();
  const { datasets } = await backend.stats();
  assertEquals([datasets.system_metrics.rows, datasets.system_metrics.partitions], [6, 2]);
});

test("fills the gaps between the weeks of an older release", async (backend, database) => {
  for (let year = 1990; year < 2000; year++) {
    const [start, end] = [Date.UTC(year, 2, 5), Date.UTC(year, 2, 12)].map((time) =>
      new Date(time).toISOString()
    );
    await database.sql(
      `CREATE TABLE w${year} PARTITION OF system_metrics FOR VALUES FROM ('${start}') TO ('${end}')`,
    );
  }
  const records = Array.from({ length: 120 }, (_, i) => ({ timestamp: Date.UTC(1990, i) }));
  const writers = await Promise.all(Array.from({ length: 3 }, () => open(database.url)));
  await Promise.all(writers.map((writer) => write(writer, systemMetrics, records)));
  await Promise.all(writers.map((writer) => writer.close()));
  assertEquals((await backend.stats()).datasets.system_metrics, {
    ...(await backend.stats()).datasets.system_metrics,
    rows: 360,
    partitions: 21,
  });
});

test("deletes rows from a decade's partition and drops it when it expires", async (backend) => {
  const records = Array.from({ length: 25_000 }, (_, i) => ({ timestamp: Date.UTC(2000, 5) + i * DAY / 10 }));
  await write(backend, systemMetrics, records);
  const clean = (year: number) => backend.deleteBefore(systemMetrics, Date.UTC(year, 5), { dryRun: false });
  assertEquals(await clean(2005), 18_260);
  assertEquals((await backend.stats()).datasets.system_metrics.rows, 6_740);
  assertEquals(await clean(2025), 6_740);
  assertEquals((await backend.stats()).datasets.system_metrics.partitions, 0);
});

Deno.test("PostgresBackend stores 10,000 records in 10,000 weeks while others write", async () => {
  // Locks for some 30 partitions at once: a server as it comes has them for 1,000.
  await using server = await PostgresServer.start({
    settings: ["max_connections = 20", "max_locks_per_transaction = 10"],
  });
  const at = ["--connection-string", server.url()];
  const hub = await ObservabilityHub.open({ connectionString: server.url(), batchSize: 10_000 });
  const other = await open(server.url(), { now: () => NOW });
  const odd = Array.from({ length: 10_000 }, (_, i) => ({
    timestamp: Date.UTC(1974, 0) + i * 10 * 7 * DAY,
    cpuUsage: i % 100,
    nodeId: i % 2 === 0 ? "a" : "b",
  }));
  for (const record of odd) await hub.collectSystemMetrics(record);
  let isStored = false;
  const stored = hub.flush().then(() => isStored = true);
  let normal = 0;
  for (; !isStored; normal++) {
    await retryBriefly(() => write(other, systemMetrics, [{ timestamp: NEW_YEAR, nodeId: "normal" }]));
  }
  await stored;
  await hub.close();
  assert(normal > 1, "no normal record was stored meanwhile");

  const found = await read(other, systemMetrics, { nodeId: "b", order: "desc" });
  assertEquals(
    found.map(({ timestamp }) => timestamp),
    odd.filter((_, i) => i % 2).map((r) => r.timestamp).reverse(),
  );
  assertEquals((await read(other, systemMetrics, { limit: 7_000 })).length, 7_000);
  const measures: Measure[] = [
    { function: "count" },
    ...(["avg", "sum", "min", "max"] as const).map((name) => ({ function: name, field: "cpuUsage" })),
    { function: "percentile", field: "cpuUsage", fraction: 0.25 },
    { function: "avg", field: "gpuUsage" },
    { function: "percentile", field: "gpuUsage", fraction: 0.5 },
  ];
  const aggregation = { groupBy: [{ field: "nodeId" }], measures };
  const memory = new MemoryBackend({ maxMemoryEntries: 100_000, onConflict: "ignore" });
  await write(memory, systemMetrics, await read(other, systemMetrics));
  const query = acceptQuery(systemMetrics);
  const byGroup = (rows: AggregateRow[]) => rows.sort((a, b) => a.group[0]! < b.group[0]! ? -1 : 1);
  assertEquals(
    byGroup(await other.aggregate(systemMetrics, query, aggregation)),
    byGroup(await memory.aggregate(systemMetrics, query, aggregation)),
  );
  const { datasets } = await other.stats();
  assertEquals([datasets.system_metrics.rows, datasets.system_metrics.oldest], [
    10_000 + normal,
    odd[0].timestamp,
  ]);
  for (
    const command of [
      ["stats", "--format", "json"],
      ["export", "metrics", "--format", "ndjson"],
      ["cleanup", "--retention-days", "30", "--yes"],
    ]
  ) {
    const { code, err } = await openfinops(["database", ...command, ...at]);
    assertEquals(code, 0, `${command.join(" ")}: ${err}`);
  }
  await other.close();
});

test("accepts records of any time from many writers", async (backend, database) => {
  const times = [
    100_000_000_000,
    NEW_YEAR,
    253_402_300_799_999,
    ...Array.from({ length: 30 }, (_, i) => NEW_YEAR - (i + 1) * 5 * DAY),
  ];
  const writers = await Promise.all(Array.from({ length: 6 }, () => open(database.url)));
  await Promise.all(
    writers.map((writer) => write(writer, systemMetrics, times.map((timestamp) => ({ timestamp })))),
  );
  await Promise.all(
    writers.map((writer) => write(writer, costEntries, times.map((timestamp) => costEntry({ timestamp })))),
  );
  await Promise.all(writers.map((writer) => writer.close()));
  const found = (await read(backend, systemMetrics)).map(({ timestamp }) => timestamp);
  assertEquals(found, times.flatMap((time) => Array(6).fill(time)).sort((a, b) => a - b));
  assertEquals((await read(backend, costEntries)).length, times.length);
});

/** Sessions of a database: other tests have theirs on the same server. */
const SESSIONS = "(SELECT * FROM pg_stat_activity WHERE datname = current_database()) AS sessions";

/** Runs statements in a session that then holds its locks; disposing of it ends the session. */
async function holding(database: TestDatabase, statements: string): Promise<AsyncDisposable> {
  const held = database.sql(`BEGIN; ${statements}; SELECT pg_sleep(300); COMMIT`).catch(() => {}); // it is ended below
  const ended = "pg_cancel_backend(pid)";
  const sleeping = (what: string) =>
    database.sql(`SELECT ${what} FROM ${SESSIONS} WHERE wait_event = 'PgSleep' AND query LIKE '%(300)%'`);
  await until(async () => (await sleeping("1")).length > 0, `its locks after ${statements}`);
  return {
    async [Symbol.asyncDispose]() {
      assertEquals((await sleeping(ended)).length, 1, "It did not hold its locks until now.");
      await held;
    },
  };
}

test("creates a partition without waiting for readers", async (backend, database) => {
  await write(backend, systemMetrics, metrics(1));
  await using _reader = await holding(database, "SELECT count(*) FROM system_metrics");
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR + 100 * DAY }]);
  assertEquals((await backend.stats()).datasets.system_metrics.partitions, 2);
  assertEquals((await read(backend, systemMetrics)).length, 2);
});

test(
  "finishes writes of other sessions to one dataset, or says soon that it cannot",
  async (backend, database) => {
    await write(backend, systemMetrics, metrics(1));
    {
      await using _writer = await holding(database, "DELETE FROM system_metrics");
      const error = await assertRejects(
        () => backend.finishWrites(systemMetrics),
        BackendError,
      ) as BackendError;
      assertEquals([error.retryable, error.sqlState], [true, "55P03"]);
      await backend.finishWrites(serviceMetrics);
    }
    {
      await using _reader = await holding(database, "SELECT count(*) FROM system_metrics");
      await backend.finishWrites(systemMetrics);
    }
    await backend.finishWrites(systemMetrics);
  },
);

test("drops expired partitions, deletes at the edge and frees disk", async (backend, database) => {
  const rows = Array.from(
    { length: 40_000 },
    (_, i) => ({ timestamp: NEW_YEAR + i * DAY / 1_000, labels: { x: "y".repeat(50) } }),
  );
  await write(backend, systemMetrics, rows); // 1,000 a day for 40 days
  const before = (await backend.stats()).datasets.system_metrics;
  assertEquals(before.partitions, 7);
  const cutoff = NEW_YEAR + 30 * DAY;
  assertEquals(await backend.deleteBefore(systemMetrics, cutoff, { dryRun: true }), 30_000);
  assertEquals(await backend.deleteBefore(systemMetrics, cutoff, { dryRun: false }), 30_000);
  const after = (await backend.stats()).datasets.system_metrics;
  assertEquals([after.rows, after.oldest, after.partitions], [10_000, cutoff, 3]);
  assert(
    after.tableBytes! < before.tableBytes! / 2,
    `${before.tableBytes} bytes before, ${after.tableBytes} after`,
  );
  const names = await database.sql(
    "SELECT relid::text AS name FROM pg_partition_tree('system_metrics') WHERE isleaf",
  );
  assertEquals(names.map(({ name }) => name).sort()[0], "system_metrics_2026_01_26");
  // What was dropped is made again for a late record, also by a writer that saw it before.
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
  assertEquals((await backend.stats()).datasets.system_metrics.rows, 10_001);
});

test("writes when another process has dropped its partition", async (backend, database) => {
  await write(backend, systemMetrics, metrics(1));
  await database.sql("DROP TABLE system_metrics_2025_12_29");
  assertEquals(await write(backend, systemMetrics, metrics(2)), { committed: 2, duplicates: 0, restated: 0 });
  assertEquals(await rowsIn(database, "system_metrics"), 2);
});

test(
  "names a detached partition when records need it",
  async (backend, database) => {
    await write(backend, systemMetrics, metrics(1));
    const [[name]] = planned([NEW_YEAR]);
    await database.sql(`ALTER TABLE system_metrics DETACH PARTITION ${name}`);
    const other = await open(database.url);
    const error = await assertRejects(
      () => write(other, systemMetrics, metrics(1)),
      BackendError,
      name,
    ) as BackendError;
    assertEquals(error.kind, "operator");
    await database.sql(`ALTER TABLE ${name} RENAME TO archived`);
    await write(other, systemMetrics, metrics(1));
    await other.close();
  },
);

test("blames no record when a DEFAULT partition holds its week", async (backend, database) => {
  await database.sql(
    "CREATE TABLE rest PARTITION OF system_metrics DEFAULT; INSERT INTO system_metrics (timestamp, cluster_id, node_id) " +
      `VALUES ('${new Date(NEW_YEAR).toISOString()}', 'c', 'n')`,
  );
  const error = await assertRejects(
    () => write(backend, systemMetrics, metrics(1)),
    BackendError,
    "out of the DEFAULT partition",
  ) as BackendError;
  assertEquals(error.kind, "operator");
});

test("skips a partition that a reader holds, and deletes all others", async (backend, database) => {
  await write(
    backend,
    systemMetrics,
    Array.from({ length: 5 }, (_, i) => ({ timestamp: NEW_YEAR + i * 7 * DAY })),
  );
  await write(backend, serviceMetrics, [{ timestamp: NEW_YEAR, serviceName: "s" }]);
  const reader = await holding(database, "SELECT * FROM system_metrics_2026_01_05");
  const { code, out, err } = await openfinops([
    "database",
    "cleanup",
    "--retention-days",
    "0",
    "--yes",
    "--time-budget",
    "8s",
    "--connection-string",
    database.url,
  ]);
  assertEquals(code, 1);
  assertMatch(out, /system_metrics +4\n(.*\n)*service_metrics +1\n/);
  assertMatch(err, /Skipped system_metrics_2026_01_05: other sessions hold them.*\[LOCKED\]/);
  const error = await assertRejects(
    () => backend.deleteBefore(systemMetrics, NEW_YEAR + 100 * DAY, { dryRun: false, timeBudgetMs: 1_000 }),
    BackendError,
    "system_metrics_2026_01_05",
  ) as BackendError;
  assertEquals(error.retryable, true);
  await reader[Symbol.asyncDispose]();
  assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + 100 * DAY, { dryRun: false }), 1);
});

test("starts no further cleanup step after its time budget", async (backend) => {
  await write(backend, systemMetrics, metrics(10));
  const options = { dryRun: false, timeBudgetMs: 0 };
  assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + DAY, options), 0);
  assertEquals((await read(backend, systemMetrics)).length, 10);
});

test("locks requests in the order of their ids, however batches list them", async (backend, database) => {
  await database.sql(
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END'; " +
      "CREATE TRIGGER slow BEFORE INSERT ON requests FOR EACH ROW EXECUTE FUNCTION slow()",
  );
  const results = await Promise.all(
    [["a", "b"], ["b", "a"]].map((ids) => writeParts(backend, ids.map((id) => [id, 0, 1])) // a deadlock would fail one of them
    ),
  );
  assertEquals(results.map(({ committed }) => committed).sort(), [0, 2]);
});

test("deletes requests older than 24 hours only in a cleanup", async (backend, database) => {
  const write = (requestId: string) =>
    backend.write({
      id: crypto.randomUUID(),
      dataset: systemMetrics,
      records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }],
      members: [{ requestId, first: 0, count: 1, index: 0 }],
    });
  for (const [id, age] of [["old", "24 hours 1 minute"], ["kept", "23 hours 50 minutes"]]) {
    await write(id);
    await database.sql(
      `UPDATE requests SET stored_at = now() - interval '${age}' WHERE request_id = '${id}'`,
    );
  }
  const known = async (id: string) => (await write(id)).duplicates === 1;
  assertEquals([await known("old"), await known("kept")], [true, true]);
  await backend.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false });
  assertEquals([await known("old"), await known("kept")], [false, true]);
});

test("deletes ledger entries older than 30 days only in a cleanup", async (backend, database) => {
  const batch = { dataset: systemMetrics, records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }] };
  const age = (id: string, age: string) =>
    database.sql(`UPDATE ledger SET committed_at = now() - interval '${age}' WHERE batch_id = '${id}'`);
  const writeBoth = async () => {
    for (const id of ["old", "new"]) await backend.write({ ...batch, id });
    await age("old", "30 days 1 minute");
    await age("new", "29 days 23 hours 50 minutes");
    return await rowsIn(database, "system_metrics");
  };
  assertEquals([await writeBoth(), await writeBoth()], [2, 2]);
  await backend.deleteBefore(systemMetrics, NEW_YEAR, { dryRun: false });
  assertEquals(await database.sql("SELECT batch_id FROM ledger"), [{ batch_id: "new" }]);
  assertEquals(await writeBoth(), 3);
});

test(
  "stores nothing while the ledger has lost its key, by which it knows a batch",
  async (backend, database) => {
    const batch = { dataset: systemMetrics, records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }] };
    await backend.write({ ...batch, id: "a" });
    await database.sql("ALTER TABLE ledger DROP CONSTRAINT ledger_pkey");
    const error = await assertRejects(
      () => backend.write({ ...batch, id: "a" }),
      BackendError,
    ) as BackendError;
    assertEquals([error.kind, error.code], ["operator", "TABLES_ALTERED"]);
    await database.sql("ALTER TABLE ledger ADD PRIMARY KEY (batch_id)");
    assertEquals((await backend.write({ ...batch, id: "a" })).isReplay, true);
    assertEquals(await rowsIn(database, "system_metrics"), 1);
  },
);

// --- Reading

test("prunes partitions and uses an index in documented queries", async (backend, database) => {
  const time = (i: number) => NEW_YEAR + i * DAY / 50;
  await write(
    backend,
    systemMetrics,
    Array.from(
      { length: 5_000 },
      (_, i) => ({ timestamp: time(i), clusterId: `c${i % 5}`, nodeId: `n${i % 50}` }),
    ),
  );
  await write(
    backend,
    serviceMetrics,
    Array.from({ length: 5_000 }, (_, i) => ({ timestamp: time(i), serviceName: `s${i % 50}` })),
  );
  await write(
    backend,
    costEntries,
    Array.from({ length: 5_000 }, (_, i) =>
      costEntry({
        timestamp: time(i),
        entryId: `e${i}`,
        category: `c${i % 20}`,
        resourceId: `r${i % 50}`,
        tags: { team: `t${i % 50}` },
      })),
  );
  await database.sql("ANALYZE");
  const range = { startTime: NEW_YEAR + 40 * DAY, endTime: NEW_YEAR + 41 * DAY };
  const queries: [string, object, RegExp][] = [
    ["system_metrics", {}, /_timestamp_idx/],
    ["system_metrics", { clusterId: "c1", nodeId: "n1" }, /cluster_id_node_id_timestamp_idx|_timestamp_idx/],
    ["service_metrics", { serviceName: "s1" }, /service_name_timestamp_idx|_timestamp_idx/],
    ["cost_entries", {}, /_timestamp_entry_id_key/],
    ["cost_entries", { category: "c1" }, /category_timestamp_idx/],
    ["cost_entries", { resourceId: "r1" }, /resource_id_timestamp_idx/],
    ["cost_entries", { region: "eu" }, /_timestamp_entry_id_key/],
    ["cost_entries", { currency: "USD" }, /_timestamp_entry_id_key/],
    ["cost_entries", { tags: { team: "t1" } }, /_tags_idx|_timestamp_entry_id_key/],
  ];
  for (const [name, filters, index] of queries) {
    const dataset = DATASETS[name as keyof typeof DATASETS];
    const plan = (await database.sql(
      `EXPLAIN ${backend.selectStatement(dataset, acceptQuery(dataset, { ...range, ...filters }))}`,
    ))
      .map((row) => row["QUERY PLAN"]).join("\n");
    const scanned = new Set(
      [...plan.matchAll(/(?:Heap Scan|Seq Scan|Scan using \w+) on (\w+)/g)].map(([, name]) => name),
    );
    assertEquals(scanned.size, 1, `${name} ${JSON.stringify(filters)}\n${plan}`);
    assertMatch(plan, index);
    assert(!plan.includes("Seq Scan"), plan);
  }
  // Tags without a range of time: the index of the tags serves in every partition.
  const plan = (await database.sql(
    `SET enable_seqscan = off; EXPLAIN ${
      backend.selectStatement(costEntries, acceptQuery(costEntries, { tags: { team: "t1" } }))
    }`,
  )).map((row) => row["QUERY PLAN"]).join("\n");
  assertMatch(plan, /Bitmap Index Scan on cost_entries_\w+_tags_idx/);
});

test("groups by hour alike on servers with and without date_bin()", async (backend, database) => {
  const HOUR = 3_600_000;
  const offsets = [0, 1, HOUR - 1, HOUR, 25 * HOUR - 1, 25 * HOUR, 70_000 * HOUR + 1];
  await write(backend, systemMetrics, offsets.map((offset) => ({ timestamp: NEW_YEAR + offset })));
  const aggregation = {
    ranges: [{ start: NEW_YEAR, end: NEW_YEAR + 80_000 * HOUR, stepMs: HOUR }],
    groupBy: [],
    measures: [{ function: "count" as const }],
  };
  const found = async (version: number) => {
    const source = { from: "system_metrics", where: "", dialect: aggregateDialect(version) };
    const sql = aggregateStatement(systemMetrics, aggregation, source);
    assertEquals(sql.includes("date_bin"), version > 13);
    return (await database.sql(`SELECT found::text AS row FROM (${sql}) AS found ORDER BY 1`))
      .map(({ row }) => row);
  };
  const expected = [[0, 3], [1, 1], [24, 1], [25, 1], [70_000, 1]]
    .map(([hour, count]) => `(${NEW_YEAR + hour * HOUR},${count})`);
  for (const version of [13, 14]) assertEquals(await found(version), expected);
});

test(
  "frees the connection and stops the query when a stream is abandoned",
  async (backend, database) => {
    await write(backend, systemMetrics, metrics(30_000, { labels: { text: "x".repeat(200) } }));
    for (let i = 0; i < 5; i++) {
      for await (const _page of backend.read(systemMetrics, acceptQuery(systemMetrics))) break;
    }
    assertEquals((await read(backend, systemMetrics, { limit: 10 })).length, 10);
    await until(async () => await connectionsTo(database) <= 1, "connections to close");
  },
  { maxConnections: 2 },
);

test("keeps a connection for writes when many streams are open", async (backend) => {
  await write(backend, systemMetrics, metrics(5_000));
  const streams = Array.from({ length: 3 }, () => backend.read(systemMetrics, acceptQuery(systemMetrics)));
  await streams[0].next();
  await streams[1].next();
  const third = streams[2].next();
  await write(backend, systemMetrics, metrics(1));
  await Promise.all([streams[0].return(undefined), streams[1].return(undefined)]);
  assertEquals((await third).done, false);
  await streams[2].return(undefined);
}, { maxConnections: 3 });

test("passes a server error to an open stream", async (backend, database) => {
  await write(backend, systemMetrics, metrics(30_000, { labels: { text: "x".repeat(200) } }));
  const error = await assertRejects(async () => {
    for await (const _page of backend.read(systemMetrics, acceptQuery(systemMetrics))) {
      await database.sql(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database.name}' AND query LIKE 'COPY%'`,
      );
    }
  }, BackendError) as BackendError;
  assertEquals([error.operation, error.retryable], ["read", true]);
});

test("takes no stream that was cut off for a whole one", async (backend, database) => {
  await write(backend, systemMetrics, metrics(30_000, { labels: { text: "x".repeat(200) } }));
  await using proxy = await Proxy.start(Number(new URL(database.url).port));
  const reader = await open(proxy.url(database.url));
  let read = 0;
  const error = await assertRejects(async () => {
    for await (const page of reader.read(systemMetrics, acceptQuery(systemMetrics))) {
      read += page.length;
      proxy.cut();
    }
  }, BackendError) as BackendError;
  assertEquals([error.operation, error.kind], ["read", "transient"]);
  assert(read > 0 && read < 30_000, `${read} records`);
  await reader.close();
});

test("uses a connection again after the server has refused a statement", async (_backend, database) => {
  const pool = new PostgresPool(resolvePostgresTarget(database.url), {
    maxConnections: 1,
    statementTimeoutSeconds: 60,
  });
  const ask = (sql: string) => pool.transaction("read", (session) => session.query(sql));
  const pid = "SELECT pg_backend_pid()::text";
  const before = await ask(pid);
  await assertRejects(() => ask("SELECT 1 / 0"), BackendError, "division by zero");
  assertEquals(await ask(pid), before);
  await pool.close();
});

test(
  "logs in again on each connection after a failure that may come from the login",
  async (_backend, database) => {
    const pool = new PostgresPool(resolvePostgresTarget(database.url), {
      maxConnections: 2,
      statementTimeoutSeconds: 60,
    });
    const both = () => {
      const isReady = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      return Promise.all(isReady.map(({ resolve }) =>
        pool.use("read", async (session) => {
          resolve();
          await Promise.all(isReady.map(({ promise }) => promise)); // so that both are in use
          return (await session.query("SELECT pg_backend_pid()::text"))[0][0];
        })
      ));
    };
    const fail = (code: string) =>
      pool.use(
        "read",
        (session) => session.query(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '${code}'; END $$`),
      );
    const before = await both();
    await assertRejects(
      () => fail("22012"),
      BackendError,
      "no",
    ); // comes from a value
    assertEquals((await both()).sort(), before.toSorted());
    await assertRejects(() => fail("25006"), BackendError, "no");
    assertEquals((await both()).filter((pid) => before.includes(pid)), []);
    await pool.close();
  },
);

// --- Opening

Deno.test("PostgresBackend opens ten times at once on an empty database", async () => {
  await using database = await TestDatabase.create();
  const backends = await Promise.all(Array.from({ length: 10 }, () => open(database.url)));
  await Promise.all(
    backends.map((backend, i) => write(backend, costEntries, [costEntry({ entryId: `e${i}` }), costEntry()])),
  );
  assertEquals(await rowsIn(database, "cost_entries"), 10); // e1 came eleven times
  assertEquals(await rowsIn(database, "schema_version"), 1);
  await Promise.all(backends.map((backend) => backend.close()));
});

test("refuses a newer schema and changes nothing", async (_backend, database) => {
  await database.sql("INSERT INTO schema_version (version) VALUES (99)");
  await assertRejects(() => open(database.url), BackendError, "its schema has version 99");
});

test(
  "refuses a database whose schema_version was emptied, and says what to do",
  async (_backend, database) => {
    await database.sql("DELETE FROM schema_version");
    await assertRejects(() => open(database.url), BackendError, "the table schema_version is empty");
  },
);

test(
  "upgrades schema version 1 once, and reads it unchanged when read-only",
  async (backend, database) => {
    await write(backend, systemMetrics, metrics(1));
    await write(backend, costEntries, [costEntry()]);
    const undo = undoUpgrade(PARTITIONED.upgradesFrom(1)).join("; ");
    await database.sql(`${undo}; UPDATE schema_version SET version = 1`);
    const reader = await open(database.url, { mode: "read" });
    assertEquals(await reader.documents.read(), []);
    assertEquals((await reader.stats()).datasets.device_metrics.rows, 0);
    assertEquals(await countsByReading(reader), {
      system_metrics: [1, 1, 1, 1],
      service_metrics: [0, 0, 0, 0],
      device_metrics: [0, 0, 0, 0],
      usage_records: [0, 0, 0, 0],
      cost_entries: [1, 1, 1, 1],
      metric_points: [0, 0, 0, 0],
    });
    const { writable, warnings } = await reader.probe();
    assertEquals([writable, warnings.filter((text) => !text.startsWith("fsync is off"))], [false, []]);
    const costs = await read(reader, costEntries);
    assertEquals(costs, [{ ...costEntry(), currency: "USD" } as CostEntry]);
    await reader.close();
    await assertRejects(
      () => open(database.url, { mode: "existing" }),
      BackendError,
      "Run `openfinops database init`",
    );
    const writers = await Promise.all(Array.from({ length: 5 }, () => open(database.url)));
    await writers[4].documents.write({ kind: "budget", id: "x", body: 1 });
    assertEquals(await writers[0].documents.read(), [{ kind: "budget", id: "x", body: 1 }]);
    assertEquals(await rowsIn(database, "schema_version"), 2);
    await write(writers[1], costEntries, [FULL_COST_ENTRY]);
    assertEquals(await read(writers[0], costEntries), [...costs, FULL_COST_ENTRY]);
    await Promise.all(writers.map((writer) => writer.close()));
  },
);

Deno.test("PostgresBackend creates tables only when allowed, and none over others", async () => {
  await using database = await TestDatabase.create();
  for (const mode of ["existing", "read"] as const) {
    await assertRejects(() => open(database.url, { mode }), BackendError, "`openfinops database init`");
  }
  await database.sql("CREATE TABLE ledger (account text)");
  await assertRejects(() => open(database.url), BackendError, "another program has tables");
  assertEquals((await database.sql("SELECT relname FROM pg_class WHERE relname = 'cost_entries'")).length, 0);
});

Deno.test("PostgresBackend needs only the privileges that docs/postgresql.md grants", async () => {
  await using database = await TestDatabase.create();
  const document = Deno.readTextFileSync(new URL("../docs/postgresql.md", import.meta.url));
  const roleNames = {
    owner: `owner_${database.name}`,
    agent: `agent_${database.name}`,
    reader: `reader_${database.name}`,
    writer: `writer_${database.name}`,
  };
  const [forWriting, forReading, forInserting, forImporting] = [...document.matchAll(/```sql\n(.*?)```/gs)]
    .map(([, sql]) =>
      sql.replaceAll(
        /\bopenfinops(?:_(agent|reader|writer))?\b/g,
        (_, role = "owner") => roleNames[role as "owner"],
      )
        .replaceAll(/(\w+) LOGIN PASSWORD 'change me'/g, "$1 LOGIN PASSWORD '$1'")
    );
  const { agent, reader } = roleNames;
  try {
    await database.sql(forWriting);
    const writer = await open(databaseUrl(database.url, database.name, agent));
    await write(writer, systemMetrics, metrics(2));
    await write(writer, costEntries, [costEntry()]);
    assertEquals(await writer.deleteBefore(costEntries, NEW_YEAR + DAY, { dryRun: false }), 1);
    assertEquals((await writer.probe()).warnings.filter((warning) => warning.includes("may not")), []);
    await writer.close();

    await database.sql(forReading);
    const backend = await open(databaseUrl(database.url, database.name, reader), { mode: "read" });
    assertEquals((await read(backend, systemMetrics)).length, 2);
    const { datasets } = await backend.stats();
    assertEquals([datasets.system_metrics.rows, datasets.system_metrics.partitions], [2, 1]);
    assertEquals((await backend.probe()).writable, false);
    assertEquals(await backend.deleteBefore(systemMetrics, NEW_YEAR + DAY, { dryRun: true }), 2);
    const error = await assertRejects(
      () => write(backend, systemMetrics, metrics(1)),
      BackendError,
    ) as BackendError;
    assertEquals(error.sqlState, "42501");
    await backend.close();

    await database.sql(forInserting);
    const url = databaseUrl(database.url, database.name, roleNames.writer);
    const inserter = await open(url);
    const weeks = [metrics(2), [{ timestamp: NEW_YEAR + 20 * DAY }, { timestamp: Date.UTC(1999, 0) }]].flat();
    await write(inserter, systemMetrics, weeks); // two new partitions
    for (const duplicates of [0, 1]) {
      assertEquals(await write(inserter, costEntries, [costEntry()]), {
        committed: 1 - duplicates,
        duplicates,
        restated: 0,
      });
    }
    assertEquals((await writeParts(inserter, [["r", 1, 2]])).committed, 2);
    assertEquals((await writeParts(inserter, [["r", 0, 4]])).committed, 2);
    assertEquals((await inserter.probe()).warnings.filter((warning) => warning.includes("may not")), []);
    await inserter.close();
    const forbidden = [
      "DROP TABLE ledger",
      "DELETE FROM ledger",
      "SELECT cpu_usage FROM system_metrics",
      "DELETE FROM system_metrics",
      "UPDATE cost_entries SET amount = 0",
      "CREATE TABLE mine ()",
      "SELECT openfinops_add_partition('ledger', 'ledger_1', now(), now())",
      "SELECT openfinops_add_partition('cost_entries', 'ledger', now(), now())",
    ];
    for (const sql of forbidden) await assertRejects(() => runSql(url, sql), Error);

    const importer = await open(url);
    const importMonth = async (amount: number) => {
      const rows = [1, 2].map((day) => `2026-03-0${day},r,c,USD,${amount}\n`);
      const input = new Blob([`timestamp,resourceId,category,currency,amount\n${rows.join("")}`]).stream();
      return await importRecords(input, { backend: importer, dataset: "cost_entries", format: "csv" });
    };
    await assertRejects(
      () => importMonth(1),
      BackendError,
      `Have the owner of the tables run: GRANT CREATE ON SCHEMA public TO ${roleNames.writer}; ` +
        `GRANT SELECT ON cost_entries TO ${roleNames.writer}; GRANT DELETE ON cost_entries TO ${roleNames.writer}; ` +
        "Nothing was stored.",
    );
    await database.sql(forImporting);
    assertEquals((await importMonth(1)).stored, 2);
    assertEquals((await importMonth(2)).delivery!.replaced, 2);
    await importer.close();
  } finally {
    const roles = Object.values(roleNames).reverse();
    await database.sql(roles.map((role) => `DROP OWNED BY ${role} CASCADE`).join("; "));
    await database.sql(roles.map((role) => `DROP ROLE ${role}`).join("; "));
  }
});

Deno.test("PostgresBackend creates tables owned by a role without a superuser", async () => {
  await using database = await TestDatabase.create();
  const [owner, agent, keeper] = ["owner", "agent", "keeper"].map((name) => `${name}_${database.name}`);
  await database.sql(
    `CREATE ROLE ${owner} NOLOGIN; CREATE ROLE ${agent} LOGIN PASSWORD '${agent}' IN ROLE ${owner};
    CREATE ROLE ${keeper} LOGIN PASSWORD '${keeper}' IN ROLE ${owner};
    GRANT CREATE ON SCHEMA public TO ${owner}`,
  );
  try {
    await database.sql(`SET ROLE ${owner}; CREATE TABLE unused (); DROP TABLE unused`);
    const first = await open(
      `${databaseUrl(database.url, database.name, agent)}?options=-c%20role%3D${owner}`,
    );
    await first.close();
    const writer = await open(databaseUrl(database.url, database.name, agent));
    await write(writer, systemMetrics, metrics(3));
    await writer.close();
    const cleaner = await open(databaseUrl(database.url, database.name, keeper));
    assertEquals(await cleaner.deleteBefore(systemMetrics, NEW_YEAR + 30 * DAY, { dryRun: false }), 3);
    assertEquals((await cleaner.stats()).datasets.system_metrics.partitions, 0);
    await cleaner.close();
  } finally {
    await database.sql([owner, agent, keeper].map((role) => `DROP OWNED BY ${role} CASCADE`).join("; "));
    await database.sql([agent, keeper, owner].map((role) => `DROP ROLE ${role}`).join("; "));
  }
});

// --- Money

test(
  "updates the same entries from two writers without deadlock or loss",
  async (backend, database) => {
    const other = await open(database.url, { onConflict: "replace" });
    const entries = (amount: string) =>
      Array.from({ length: 200 }, (_, i) => costEntry({ entryId: `e${i}`, amount }));
    await write(backend, costEntries, entries("1"));
    for (let round = 0; round < 5; round++) {
      const results = await Promise.all([
        write(backend, costEntries, entries("2")),
        write(other, costEntries, entries("2").reverse()),
      ]);
      for (const result of results) assertEquals(result, { committed: 200, duplicates: 0, restated: 200 });
    }
    assertEquals(await currencyTotals(backend), [{
      currency: "USD",
      total: "400",
      count: 200,
    }]);
    await other.close();
  },
  { onConflict: "replace" },
);

test("keeps 100,000 smallest amounts exactly", async (_backend, database) => {
  const costs = await CostObservatory.open({ connectionString: database.url });
  const entry = { timestamp: NEW_YEAR, resourceId: "r", category: "gpu", amount: "0.000000000000000001" };
  for (let i = 0; i < 100_000; i++) await costs.addCostEntry({ ...entry, entryId: `e${i}` });
  await costs.close();
  const again = await CostObservatory.open({ connectionString: database.url });
  assertEquals(await again.aggregateCosts(), [{ currency: "USD", total: "0.0000000000001", count: 100_000 }]);
  await again.close();
});

test("accepts a map with the maximum number of keys", async (backend) => {
  const tags = Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [String.fromCharCode(i + 1), ""]));
  for (let code = 0xd800; code < 0xe000; code++) delete tags[String.fromCharCode(code)]; // no characters
  await write(backend, costEntries, [costEntry({ tags })]);
  const [entry] = await read(backend, costEntries);
  assertEquals(Object.keys(entry.tags!).length, Object.keys(tags).length);
});

test("reads back every amount", async (backend) => {
  const amounts = [
    "0",
    "1",
    "-1",
    "10000",
    "9999",
    "0.0001",
    "0.00001",
    "100000000",
    "0.000000000000000001",
    "-999999999999999999.999999999999999999",
    "120000.00034",
    "1000000000000",
    "0.1",
    "12345.678901234567890123",
  ];
  const exact = amounts.map((amount) =>
    amount.replace(/(\.\d{18})\d+$/, "$1").replace(/(\.\d*[1-9])0+$/, "$1")
  );
  await write(
    backend,
    costEntries,
    exact.map((amount, i) => costEntry({ entryId: `e${String(i).padStart(2, "0")}`, amount })),
  );
  assertEquals((await read(backend, costEntries)).map(({ amount }) => amount), exact);
});

// --- The command

/** Runs the command as a user would, with these permissions; gives the exit code and what it prints. */
async function openfinops(
  args: string[],
  permissions = ["-A"],
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-q",
      "--no-prompt",
      "--cached-only",
      ...permissions,
      new URL("../cli.ts", import.meta.url).href,
      ...args,
    ],
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("openfinops works on PostgreSQL as on SQLite", async () => {
  await using database = await TestDatabase.create();
  const at = ["--connection-string", database.url];
  const init = await openfinops(["database", "init", ...at]);
  assertEquals([init.code, init.err], [0, ""]);
  await using costs = await CostObservatory.open({ connectionString: database.url });
  for (const [entryId, amount] of [["a", "0.1"], ["b", "0.2"]]) {
    await costs.addCostEntry(costEntry({ entryId, amount }));
  }
  await costs.flush();
  const query = await openfinops(["database", "query", "costs", "--format", "csv", "--order", "asc", ...at]);
  assertEquals([query.code, query.out.split("\n").length, query.err], [0, 4, ""]);
  assertMatch(query.out, /^a,2026-01-01T00:00:00\.000Z,gpu-01,gpu,0\.1,USD/m);
  const stats = JSON.parse((await openfinops(["database", "stats", "--format", "json", ...at])).out);
  assertEquals(stats.totals, [{ currency: "USD", total: "0.3", count: 2 }]);
  const { partitions, tableBytes, indexBytes } = stats.datasets.cost_entries;
  assert(partitions === 1 && tableBytes > 0 && indexBytes > 0);
  assertMatch(stats.storage.serverVersion, /^\d+/);
  assertMatch((await openfinops(["database", "stats", ...at])).out, /partitions +table +indexes/);
  const cleanup = await openfinops([
    "database",
    "cleanup",
    "--dataset",
    "costs",
    "--retention-days",
    "0",
    "--yes",
    "--time-budget",
    "1m",
    ...at,
  ]);
  assertMatch(cleanup.out, /cost_entries +2/);
  assertEquals((await openfinops(["database", "cleanup", "--time-budget", "soon", "--yes", ...at])).code, 2);
});

Deno.test("openfinops needs only net and env permissions on PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  const { hostname, port } = new URL(database.url);
  const permissions = [`--allow-net=${hostname}:${port}`, "--allow-env"];
  const { code, out, err } = await openfinops(
    ["database", "init", "--connection-string", database.url],
    permissions,
  );
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^Ready: /);
});
