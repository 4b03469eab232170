import { relative } from "node:path";
import { StorageBackend } from "../src/backends/backend.ts";
import { inspect } from "node:util";
import { hidePassword, parseConnectionString } from "../src/backends/connection_string.ts";
import { resolvePostgresTarget } from "../src/backends/postgres/target.ts";
import { openBackend } from "../src/open_backend.ts";
import { type PersistenceConfig, resolveConfig } from "../src/config.ts";
import { ConfigError } from "../src/errors.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { sharedServer, TestDatabase } from "./postgres_server.ts";
import { runOf } from "./command.ts";

Deno.test("resolveConfig() returns the documented defaults", () => {
  assertEquals(resolveConfig(), {
    backend: "memory",
    location: "",
    retentionDays: {
      system_metrics: 90,
      service_metrics: 90,
      device_metrics: 90,
      usage_records: Infinity,
      cost_entries: Infinity,
      metric_points: 90,
    },
    batchSize: 100,
    anomalyDetection: false,
    priceUsage: false,
    batchIntervalSeconds: 60,
    enableCompression: false,
    compressAfterDays: 7,
    chunkDays: {},
    maxMemoryEntries: 10_000,
    overflow: "block",
    maxSpoolBytes: 2 ** 30,
    fsync: "batch",
    onConflict: "ignore",
    timeZone: "UTC",
    sqliteDriver: "auto",
    maxConnections: 5,
    statementTimeoutSeconds: 60,
  });
  assertEquals(resolveConfig({ batchSize: undefined }).batchSize, 100);
  assertEquals(resolveConfig({ retentionDays: { cost_entries: 2555 } }).retentionDays, {
    system_metrics: 90,
    service_metrics: 90,
    device_metrics: 90,
    usage_records: Infinity,
    cost_entries: 2555,
    metric_points: 90,
  });
});

Deno.test("resolveConfig() reads the backend from the connection string", () => {
  assertEquals(resolveConfig({ connectionString: "sqlite:///a.db" }).backend, "sqlite");
  assertEquals(resolveConfig({ backend: "sqlite" }).location, "openfinops.db");
  assertEquals(resolveConfig({ backend: "in_memory" }), resolveConfig({ backend: "memory" }));
  assertEquals(StorageBackend.IN_MEMORY, StorageBackend.MEMORY);
});

Deno.test("resolveConfig() refuses a backend that contradicts the connection string", async () => {
  const both = { backend: "memory" as const, connectionString: "sqlite:///a.db" };
  assertThrows(
    () => resolveConfig(both),
    ConfigError,
    "but the connection string names sqlite. Remove backend.",
  );
  const backend = await openBackend({});
  assertThrows(
    () => resolveConfig({ backend, connectionString: "sqlite://" }),
    ConfigError,
    "it has both an opened backend",
  );
});

Deno.test("resolveConfig() refuses unknown fields and names the known ones", () => {
  const config = { spoolDir: "x" } as PersistenceConfig;
  assertThrows(
    () => resolveConfig(config),
    ConfigError,
    'unknown option "spoolDir". Did you mean "spoolDirectory"?',
  );
  assertThrows(
    () => resolveConfig({ constructor: 1 } as PersistenceConfig),
    ConfigError,
    'unknown option "constructor"',
  );
});

Deno.test("resolveConfig() refuses invalid values and says what is valid", () => {
  const wrong: [object, string][] = [
    [{ backend: "oracle" }, "must be memory, sqlite"],
    [
      { backend: "host=db.example passwd=secret" },
      "or an opened backend, not a string that may hold a password.",
    ],
    [
      { backend: "Postgresql:/u:secret" },
      "or an opened backend, not a string that may hold a password.",
    ],
    [{ backend: {} }, "memory, sqlite"],
    [{ backend: "timescale" }, "must be memory, sqlite, duckdb, postgresql, timescaledb"],
    [{ chunkDays: { metrics: 1 } }, "by dataset"],
    [{ chunkDays: { cost_entries: 0.5 } }, "by dataset"],
    [{ compressAfterDays: 1e6 }, "a number of days from 0"],
    [{ retentionDays: NaN }, "or Infinity"],
    [{ maxConnections: 1 }, "a whole number from 2"],
    [{ statementTimeoutSeconds: 0 }, "a number of seconds above 0"],
    [{ batchSize: 0 }, "a whole number from 1"],
    [{ batchSize: 1.5 }, "a whole number from 1"],
    [{ maxMemoryEntries: -1 }, "a whole number from 1"],
    [{ batchIntervalSeconds: 0 }, "a number of seconds above 0"],
    [{ batchIntervalSeconds: 1e9 }, "a number of seconds above 0"],
    [{ retentionDays: { metrics: 30 } as object }, "by dataset"],
    [{ retentionDays: { cost_entries: -1 } }, "by dataset"],
    [{ retentionDays: -1 }, "a number of days from 0"],
    [{ overflow: "drop" }, "block, drop-oldest, drop-newest"],
    [{ onConflict: "update" }, "ignore, replace"],
    [{ sqliteDriver: "sqlite3" }, "auto, @db/sqlite, node:sqlite"],
    [{ connectionString: 5 }, "a string"],
    [{ spoolDirectory: "" }, "the path of a folder"],
    [{ maxSpoolBytes: 1_000 }, "bytes from 65536"],
    [{ fsync: "always" }, "batch, interval, none"],
    [{ deadLetterDirectory: 5 }, "the path of a folder"],
    [{ onEvent: "log" }, "a function"],
    [{ spoolDirectory: "spool" }, "a spool needs a database"],
  ];
  for (const [config, expected] of wrong) assertThrows(() => resolveConfig(config), ConfigError, expected);
});

Deno.test("parseConnectionString() reads relative, absolute and in-memory SQLite", () => {
  const locations: [string, string][] = [
    ["sqlite:///a.db", "a.db"],
    ["sqlite:///data/a b.db", "data/a b.db"],
    ["sqlite:////var/lib/a.db", "/var/lib/a.db"],
    ["sqlite:///C:/data/a.db", "C:/data/a.db"],
    ["sqlite://", ""],
    ["sqlite:///:memory:", ""],
  ];
  for (const [text, location] of locations) {
    assertEquals(parseConnectionString(text), { backend: "sqlite", location }, text);
  }
});

Deno.test("parseConnectionString() refuses other forms and hides passwords", () => {
  for (
    const text of [
      "",
      "a.db",
      "sqlite:a.db",
      "sqlite://a.db",
      "sqlite:///",
      "sqlite:///postgresql://u:pw@h/d",
      "sqlite:///a.db?mode=ro",
      "mysql://u:pw@h/d",
    ]
  ) {
    const error = assertThrows(() => parseConnectionString(text), ConfigError) as ConfigError;
    assert(!error.message.includes("pw"), error.message);
  }
});

Deno.test("openBackend() refuses an unknown driver before it touches a file", async () => {
  const config = {
    connectionString: "sqlite:///never.db",
    sqliteDriver: "x",
  } as unknown as PersistenceConfig;
  await assertRejects(() => openBackend(config), ConfigError, "sqliteDriver");
});

/** A target of PostgreSQL with an environment of its own. */
const targetOf = (url: string, env: Record<string, string> = {}) =>
  resolvePostgresTarget(url, (name) => ({ PGUSER: "me", ...env })[name]);

Deno.test("resolvePostgresTarget() reads all parts of a connection string", () => {
  const { host, port, user, password, database, sslMode, connectTimeoutMs } = targetOf(
    "postgresql+psycopg2://a%40b:p%2Fw@db.example:6432/tele%20metry?sslmode=verify-full&connect_timeout=3",
  );
  assertEquals([host, port, user, password, database, sslMode], [
    "db.example",
    6432,
    "a@b",
    "p/w",
    "tele metry",
    "verify-full",
  ]);
  assertEquals(connectTimeoutMs, 3_000);
  assertEquals(targetOf("postgres://[::1]:5433/d").host, "::1");
  assertEquals(targetOf("postgresql://%2Frun%2Fpostgresql/d").host, "/run/postgresql");
  assertEquals(targetOf("postgresql://me@/d?host=/tmp").host, "/tmp");
  assertEquals(targetOf("postgresql://:5433/d").port, 5433);
});

Deno.test("resolvePostgresTarget() fills missing parts from PG variables as psql does", () => {
  const env = {
    PGHOST: "h",
    PGPORT: "1",
    PGUSER: "u",
    PGPASSWORD: "w",
    PGDATABASE: "d",
    PGSSLMODE: "require",
    PGAPPNAME: "app",
    PGOPTIONS: "-c x=y",
  };
  const { host, port, user, password, database, sslMode, applicationName, options } = targetOf(
    "postgresql://",
    env,
  );
  assertEquals([host, port, user, password, database, sslMode], ["h", 1, "u", "w", "d", "require"]);
  assertEquals([applicationName, options], ["app", "-c x=y"]);
  assertEquals(targetOf("postgresql://x:y@z:2/e?sslmode=disable", env).host, "z");
  const plain = targetOf("postgresql://");
  assertEquals([plain.host, plain.port, plain.database, plain.sslMode], ["localhost", 5432, "me", "prefer"]);
});

Deno.test("resolvePostgresTarget() ignores a password file that others may read", () => {
  using folder = new TemporaryFolder();
  const PGPASSFILE = folder.file("pgpass");
  const lines = [
    "# comment",
    "other:*:*:*:no",
    "h:5432:*:me:pa\\:ss\\\\word",
    "h:*:\\*:*:star",
    "*:*:*:*:any",
  ];
  Deno.writeTextFileSync(PGPASSFILE, lines.join("\n"), { mode: 0o600 });
  assertEquals(targetOf("postgresql://h", { PGPASSFILE }).password, "pa:ss\\word");
  assertEquals(targetOf("postgresql://g", { PGPASSFILE }).password, "any");
  assertEquals(targetOf("postgresql://you@h/e", { PGPASSFILE }).password, "any"); // \* is no wildcard
  assertEquals(targetOf("postgresql://you@h/%2A", { PGPASSFILE }).password, "star");
  assertEquals(targetOf("postgresql://me:mine@h", { PGPASSFILE }).password, "mine");
  const [name, places] = Deno.build.os === "windows"
    ? ["postgresql/pgpass.conf", { APPDATA: folder.path }]
    : [".pgpass", { HOME: folder.path }];
  Deno.mkdirSync(folder.file("postgresql"));
  Deno.copyFileSync(PGPASSFILE, folder.file(name));
  assertEquals(targetOf("postgresql://g", places).password, "any");
  if (Deno.build.os === "windows") return; // files have no such mode there
  Deno.chmodSync(PGPASSFILE, 0o644);
  assertEquals(targetOf("postgresql://h", { PGPASSFILE }).password, "");
});

Deno.test("resolvePostgresTarget() refuses invalid parts and hides passwords", () => {
  const wrong: [string, string][] = [
    ["postgresql://u:secret@h:99999/d", "the port is no number. Use a whole number from 1 to 65535."],
    ["postgresql://u:se%cret@h/d", "Percent-encode a password"],
    ["postgresql://u:secret@h/d?port=0", "the port is no number"],
    ["postgresql://u:secret@h/d?sslmode=on", "verify-full"],
    ["postgresql://u:secret@h/d?sslmode=require&mode=1", "parameter 2 after the ? is unknown. Remove it"],
    ["postgresql://u:secret@h,i/d", "several hosts"],
    ["postgresql://u:secret@h1:5432,h2:5432/d", "several hosts"],
    ["postgresql://u:secret@h/d?host=h,i", "several hosts"],
    ["postgresql://u:secret@h/d?sslmod=require", 'Did you mean "sslmode"?'],
    ["postgresql://u:%00secret@h/d", "Percent-encode a password"],
  ];
  for (const [url, expected] of wrong) {
    const error = assertThrows(() => targetOf(url), ConfigError, expected) as ConfigError;
    assert(!error.message.includes("secret@") && !error.message.includes(":secret"), error.message);
  }
});

Deno.test("resolvePostgresTarget() shows nothing of a password that was not percent-encoded", () => {
  const wrong = [
    "postgresql://agent:?Tr0ub4dor@db.example/t",
    "postgresql://agent:77?Tr0ub4dor@db.example/t",
    "postgresql://agent@db.example/t?password=abc&Tr0ub4dor",
    "postgresql://agent:77/Tr0ub4dor@127.0.0.1/t",
    "postgresql://127.0.0.1:1/agent:Tr0ub4dor",
    "postgresql://agent%3ATr0ub4dor@127.0.0.1/t",
    "postgresql://agent:Tr0ub4dor",
    "postgresql://[agent:Tr0ub4dor@127.0.0.1]/t",
    "postgresql://agent:77@127.0.0.1/t#Tr0ub4dor",
    "postgresql://agent:77@127.0.0.1/#Tr0ub4dor",
    "postgresql://127.0.0.1/t?user=agent#Tr0ub4dor",
    "postgresql://127.0.0.1/t?sslmode=disable#Tr0ub4dor",
  ];
  const inVariables: Record<string, string>[] = [
    { PGHOST: "postgresql://agent:Tr0ub4dor@db.example/t" },
    { PGDATABASE: "postgresql://agent:Tr0ub4dor@db.example/t" },
    { PGDATABASE: "host=db.example password=Tr0ub4dor" },
    { PGUSER: "agent:Tr0ub4dor" },
    { PGPORT: "Tr0ub4dor" },
  ];
  for (
    const [url, env] of [
      ...wrong.map((url) => [url, {}] as const),
      ...inVariables.map((env) => ["postgresql://", env] as const),
    ]
  ) {
    const error = assertThrows(() => targetOf(url, env), ConfigError) as ConfigError;
    assert(!inspect(error, { depth: 10 }).includes("Tr0ub4dor"), error.message);
    assertEquals(error.code, "INVALID_CONNECTION_STRING");
  }
});

Deno.test("resolvePostgresTarget() reads odd passwords as libpq does", () => {
  const { user, password, host } = targetOf("postgresql://:pw@host/x");
  assertEquals([user, password, host], ["me", "pw", "host"]);
  const passwords = [
    ["postgresql://u:a#b@h/d", "a#b"],
    ["postgresql://u:a@b@h/d", "a@b"],
    ["postgresql://u::a@h/d", ":a"],
    ["postgresql://u@h/d?password=a%2Bb+c#d", "a+b+c#d"],
    ["postgresql://u@h/d?password=a@b", "a@b"],
    ["postgresql://u:p@h/d\n", "p"],
  ];
  for (const [url, password] of passwords) {
    const target = targetOf(url);
    assertEquals([target.password, target.host, target.database], [password, "h", "d"], url);
  }
});

Deno.test("resolvePostgresTarget() ignores parameters of other clients", () => {
  const { host, database } = targetOf(
    "postgresql://h/d?channel_binding=require&target_session_attrs=read-write&keepalives_idle=30" +
      "&client_encoding=utf8&gssencmode=disable&fallback_application_name=x&pgbouncer=true",
  );
  assertEquals([host, database], ["h", "d"]);
  assertEquals(targetOf("postgresql://h/d?hostaddr=10.0.0.1").host, "h");
  assertEquals(targetOf("postgresql:///d?hostaddr=10.0.0.1").host, "10.0.0.1");
  assertEquals(targetOf("postgresql://h/d?schema=public").options, undefined);
  assertEquals(targetOf("postgresql://h/d?schema=telemetry").options, "-c search_path=telemetry");
});

Deno.test("openfinops shows no password of 300 odd connection strings anywhere", async () => {
  const { port } = new URL(sharedServer());
  const program = new URL("faults/secrets.ts", import.meta.url).href;
  const args = [...runOf(program), "20261129", "300", port];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals([code, out, err], [0, "300 cases of seed 20261129: 0 leaks\n", ""]);
});

Deno.test("hidePassword() removes passwords from any form", () => {
  const forms: [string, string][] = [
    ["postgresql://u:secret@h/d", "postgresql://u:***@h/d"],
    ["postgresql://u:sec@ret@h/d", "postgresql://u:***@h/d"],
    ["postgresql://u:se/cret@h/d", "postgresql://***"],
    ["postgresql://u@h:5/d?pass%77ord=secret", "postgresql://u@h:5/d?password=***"],
    ["sqlite:///postgresql://u:secret@h/d", "***"],
    ["mysql://u:secret@h/d", "***"],
    ["postgresql://u@h/d?password=secret&sslmode=require", "postgresql://u@h/d?password=***&sslmode=require"],
    ["postgresql://u@h/d", "postgresql://u@h/d"],
    ["sqlite:////var/a.db", "sqlite:////var/a.db"],
    ["sqlite:////agent:secret@h/d", "***"],
    ["sqlite:///agent:77/secret@h/d", "***"],
    ["sqlite:///./a:b@c.db", "sqlite:///./a:b@c.db"],
    ["sqlite:///C:/Users/a@b.db", "sqlite:///C:/Users/a@b.db"],
  ];
  for (const [text, shown] of forms) {
    assertEquals(hidePassword(text), shown);
    if (text.startsWith("sqlite:") && shown === "***") {
      const error = assertThrows(() => parseConnectionString(text), ConfigError) as ConfigError;
      assert(!inspect(error).includes("secret"), error.message);
    }
  }
});

Deno.test("openBackend() names the location without credentials, also of an absent server", async () => {
  using folder = new TemporaryFolder();
  const locationOf = async (config: PersistenceConfig) => {
    const backend = await openBackend(config);
    await backend.close();
    return backend.location;
  };
  const path = folder.file("a.db");
  const fromHere = relative(Deno.cwd(), path);
  assertEquals(await locationOf({ connectionString: `sqlite:///${path}` }), `sqlite:///${path}`);
  assertEquals(await locationOf({ connectionString: `sqlite:///${fromHere}` }), `sqlite:///${path}`);
  assertEquals(await locationOf({ connectionString: "sqlite://" }), undefined);
  const away = { connectionString: "timescaledb://me:secret@127.0.0.1:1/d", spoolDirectory: folder.path };
  assertEquals(await locationOf(away), "postgresql://127.0.0.1:1/d");
  await using database = await TestDatabase.create();
  const { host, pathname } = new URL(database.url);
  assertEquals(await locationOf({ connectionString: database.url }), `postgresql://${host}${pathname}`);
});
