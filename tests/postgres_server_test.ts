/** Tests that need their own server: it stops, crashes, asks for a password, or uses TLS. */
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { generate } from "selfsigned";
import { ObservabilityHub } from "../mod.ts";
import { BackendError } from "../src/errors.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { until } from "./until.ts";
import { PostgresServer, runSql } from "./postgres_server.ts";
import { openPostgres as open } from "./server_backends.ts";
import { RUN } from "./command.ts";

Deno.test("PostgresBackend writes again when the server has restarted", async () => {
  await using server = await PostgresServer.start();
  const backend = await open(server.url());
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
  await server.stop();
  await server.resume();
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR + 1 }]);
  assertEquals((await read(backend, systemMetrics)).length, 2);
  await backend.close();
});

Deno.test("ObservabilityHub loses and duplicates nothing when the server crashes", async () => {
  await using server = await PostgresServer.start({ settings: ["fsync = on"] });
  const hub = await ObservabilityHub.open({ connectionString: server.url(), batchSize: 20 });
  const crashing = (async () => {
    for (let crashes = 0; crashes < 3; crashes++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      await server.stop("immediate");
      await server.resume();
    }
  })();
  let count = 0;
  let isOver = false;
  void crashing.finally(() => isOver = true);
  while (!isOver || count % 100 !== 0) {
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR + count, activeConnections: count++ });
    if (count % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await crashing;
  await hub.flush();
  assert(hub.stats().datasets.system_metrics!.retries > 0, "no write met a crash");
  await hub.close();
  const [found] = await runSql(
    server.url(),
    "SELECT count(*)::int AS rows, count(DISTINCT active_connections)::int AS numbers FROM system_metrics",
  );
  assertEquals(found, { rows: count, numbers: count });
});

Deno.test("ObservabilityHub with a spool starts when its server is down", async () => {
  using folder = new TemporaryFolder();
  await using server = await PostgresServer.start();
  await server.stop();
  const config = { connectionString: server.url(), spoolDirectory: folder.file("spool") };
  await assertRejects(() => ObservabilityHub.open({ ...config, spoolDirectory: undefined }), BackendError);
  const hub = await ObservabilityHub.open(config);
  for (let i = 0; i < 100; i++) {
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i, activeConnections: i });
  }
  await assertRejects(() => hub.queryHistoricalMetrics(), BackendError, "connection refused");
  const { spooled, lost } = await hub.close({ deadlineMs: 100 });
  assertEquals([spooled, lost], [100, 0]);
  await assertRejects(() => hub.flush(), BackendError); // no retry will write them
  const again = await ObservabilityHub.open(config);
  await again.collectSystemMetrics({ timestamp: NEW_YEAR + 100, activeConnections: 100 });
  await server.resume();
  await again.flush();
  const found = await again.queryHistoricalMetrics();
  assertEquals(
    found.map(({ activeConnections }) => activeConnections),
    Array.from({ length: 101 }, (_, i) => i),
  );
  assertEquals((await again.close()).committed, 101);
});

/** Runs `database test-connection` as a user would; gives the exit code and what it says. */
async function testConnection(
  url: string,
  env: Record<string, string> = {},
): Promise<{ code: number; out: string }> {
  using folder = new TemporaryFolder();
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...RUN,
      "database",
      "test-connection",
      "--connection-string",
      url,
    ],
    cwd: folder.path,
    env: { PGPASSFILE: folder.file("none"), ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout) + decoder.decode(stderr) };
}

Deno.test("openfinops database test-connection names each cause and remedy", async () => {
  await using server = await PostgresServer.start();
  await runSql(
    server.url(),
    "CREATE ROLE agent LOGIN PASSWORD 'sesame'; CREATE ROLE stranger LOGIN",
  );
  await runSql(server.url(), "CREATE DATABASE telemetry");
  server.configure(
    "pg_hba.conf",
    "host all agent 127.0.0.1/32 scram-sha-256\nhost all nobody 127.0.0.1/32 reject\n",
  );
  const loadedAt = async () =>
    (await runSql(server.url(), "SELECT pg_conf_load_time()::text AS loaded_at"))[0].loaded_at;
  const before = await loadedAt();
  await runSql(server.url(), "SELECT pg_reload_conf()");
  await until(async () => await loadedAt() !== before, "the settings to be loaded");
  const { port } = server;
  await (await open(server.url("telemetry"))).close();
  const at = (user: string, database: string) => `postgresql://${user}@127.0.0.1:${port}/${database}`;
  const kinds: [url: string, says: string][] = [
    ["postgresql://postgres@no-such-host.invalid/telemetry", "Check the host in the connection string"],
    [`postgresql://postgres@127.0.0.1:1/telemetry`, "Is PostgreSQL running there?"],
    [`${at("postgres", "telemetry")}?sslmode=require`, "choose sslmode=disable or prefer"],
    [at("agent:open", "telemetry"), "wrong password"],
    [at("nobody:open", "telemetry"), "that pg_hba.conf lets it in"],
    [at("postgres", "nowhere"), "Create it with `createdb NAME`"],
    [at("postgres", "postgres"), "Run `openfinops database init`"],
    [at("stranger", "telemetry"), "Have the owner of the table grant it"],
    [`postgresql://postgres@/telemetry?host=${server.folder}/nowhere`, "no such Unix socket"],
  ];
  const results = await Promise.all(
    kinds.map(async ([url, says]) => ({ url, says, ...await testConnection(url) })),
  );
  for (const { url, says, code, out } of results) {
    assertEquals(code, 1, `${url}: ${out}`);
    assert(out.includes(says), `${url}: ${out}`);
    assert(!out.includes("open@") && !out.includes(":open"), out);
  }
  const good = await testConnection(at("postgres", "telemetry"));
  assertEquals(good.code, 0, good.out);
  for (const part of ["serverVersion", "schemaVersion", "writable"]) {
    assert(good.out.includes(part), good.out);
  }
  const password = {
    PGPASSWORD: "sesame",
    PGUSER: "agent",
    PGHOST: "127.0.0.1",
    PGPORT: String(port),
    PGDATABASE: "telemetry",
  };
  const refused = await testConnection("postgresql://", password); // let in, but without a privilege
  assert(refused.out.includes("SQLSTATE 42501"), refused.out);
  assert(!refused.out.includes("sesame"), refused.out);

  // A standby that takes no readers says all the time what a server says that is starting up.
  await server.stop();
  server.configure("standby.signal", "");
  server.configure("postgresql.conf", "");
  server.configure("postgresql.auto.conf", "hot_standby = off\n");
  server.launch();
  const name = at("postgres", "telemetry");
  const out = await until(async () => {
    const { code, out } = await testConnection(name);
    assertEquals(code, 1, out);
    return out.includes("connection refused") ? undefined : out;
  }, "the server to listen");
  assert(out.includes("the server is starting up or shutting down"), out);
});

Deno.test("PostgresBackend connects through a Unix socket", async () => {
  if (Deno.build.os === "windows") return; // its servers have none
  await using server = await PostgresServer.start();
  const backend = await open(
    `postgresql://postgres@:${server.port}/postgres?host=${encodeURIComponent(server.folder)}`,
  );
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
  assertEquals((await read(backend, systemMetrics)).length, 1);
  await backend.close();
});

Deno.test("PostgresBackend reports a read-only server", async () => {
  await using server = await PostgresServer.start();
  await (await open(server.url())).close();
  await runSql(server.url(), "ALTER DATABASE postgres SET default_transaction_read_only = on");
  const backend = await open(server.url());
  assertEquals((await backend.probe()).writable, false);
  const error = await assertRejects(
    () => write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]),
    BackendError,
    "the server takes no writes",
  ) as BackendError;
  assertEquals(error.sqlState, "25006");
  await backend.close();
});

Deno.test("PostgresBackend uses TLS as sslmode says", async () => {
  using folder = new TemporaryFolder();
  const pem = (altName: string) =>
    generate([{ name: "commonName", value: altName }], {
      keyType: "ec",
      extensions: [{ name: "basicConstraints", cA: true }, {
        name: "subjectAltName",
        altNames: [{ type: 2, value: altName }],
      }],
    });
  const [own, foreign] = await Promise.all([pem("localhost"), pem("elsewhere")]);
  Deno.writeTextFileSync(folder.file("own.pem"), own.cert);
  Deno.writeTextFileSync(folder.file("foreign.pem"), foreign.cert);
  await using server = await PostgresServer.start();
  await server.stop();
  server.configure("server.crt", own.cert);
  server.configure("server.key", own.private);
  server.configure("postgresql.auto.conf", "ssl = on\n");
  await server.resume();
  const url = (sslmode: string, file?: string, host = "localhost") =>
    `postgresql://postgres@${host}:${server.port}/postgres?sslmode=${sslmode}` +
    (file ? `&sslrootcert=${encodeURIComponent(folder.file(file))}` : "");
  const tlsOf = async (url: string) => {
    const backend = await open(url);
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
    const { details } = await backend.probe();
    await backend.close();
    return details.tls;
  };
  assertEquals(await tlsOf(url("disable")), "none");
  for (
    const good of [
      url("prefer"),
      url("require"),
      url("verify-ca", "own.pem"),
      url("verify-full", "own.pem"),
      url("verify-ca", "own.pem", "127.0.0.1"),
      url("require", "own.pem"),
    ]
  ) {
    assert(String(await tlsOf(good)).startsWith("TLSv1."), good);
  }
  for (
    const bad of [
      url("verify-full"),
      url("verify-ca", "foreign.pem"),
      url("verify-full", "own.pem", "127.0.0.1"),
      url("require", "foreign.pem"),
    ]
  ) {
    const error = await assertRejects(
      () => open(bad),
      BackendError,
      "certificate is not trusted",
    ) as BackendError;
    assertEquals(error.retryable, false, bad);
  }
});
