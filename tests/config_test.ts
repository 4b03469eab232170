import { parseConnectionString } from "../src/backends/connection_string.ts";
import { openBackend, type PersistenceConfig, resolveConfig } from "../src/config.ts";
import { ConfigError } from "../src/errors.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";

Deno.test("resolveConfig() gives the documented defaults", () => {
  assertEquals(resolveConfig(), {
    backend: "memory",
    location: "",
    retentionDays: 90,
    batchSize: 100,
    batchIntervalSeconds: 60,
    enableCompression: false,
    maxMemoryEntries: 10_000,
    overflow: "block",
    onConflict: "ignore",
    sqliteDriver: "auto",
    maxConnections: 5,
    statementTimeoutSeconds: 60,
  });
  assertEquals(resolveConfig({ batchSize: undefined }).batchSize, 100);
});

Deno.test("resolveConfig() takes the backend from the connection string", () => {
  assertEquals(resolveConfig({ connectionString: "sqlite:///a.db" }).backend, "sqlite");
  assertEquals(resolveConfig({ backend: "sqlite" }).location, "openfinops_telemetry.db");
});

Deno.test("resolveConfig() refuses a backend and a connection string that disagree", async () => {
  const both = { backend: "memory" as const, connectionString: "sqlite:///a.db" };
  assertThrows(() => resolveConfig(both), ConfigError, "it names sqlite");
  const backend = await openBackend({});
  assertThrows(() => resolveConfig({ backend, connectionString: "sqlite://" }), ConfigError, "it has both");
});

Deno.test("resolveConfig() refuses unknown fields and names the known ones", () => {
  const config = { spoolDir: "x" } as PersistenceConfig;
  assertThrows(() => resolveConfig(config), ConfigError, "retentionDays, batchSize");
  assertThrows(
    () => resolveConfig({ constructor: 1 } as PersistenceConfig),
    ConfigError,
    "it has constructor",
  );
});

Deno.test("resolveConfig() refuses values that cannot be, and says what is wanted", () => {
  const wrong: [object, string][] = [
    [{ backend: "oracle" }, "memory, sqlite"],
    [{ backend: {} }, "memory, sqlite"],
    [{ backend: "timescaledb" }, "not built yet"],
    [{ maxConnections: 1 }, "a whole number from 2"],
    [{ statementTimeoutSeconds: 0 }, "a number of seconds above 0"],
    [{ batchSize: 0 }, "a whole number from 1"],
    [{ batchSize: 1.5 }, "a whole number from 1"],
    [{ maxMemoryEntries: -1 }, "a whole number from 1"],
    [{ batchIntervalSeconds: 0 }, "a number of seconds above 0"],
    [{ batchIntervalSeconds: 1e9 }, "a number of seconds above 0"],
    [{ retentionDays: -1 }, "a number of days from 0"],
    [{ overflow: "drop" }, "block, drop-oldest, drop-newest"],
    [{ onConflict: "update" }, "ignore, replace"],
    [{ sqliteDriver: "sqlite3" }, "auto, @db/sqlite, node:sqlite"],
    [{ connectionString: 5 }, "a string"],
  ];
  for (const [config, wanted] of wrong) assertThrows(() => resolveConfig(config), ConfigError, wanted);
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

Deno.test("parseConnectionString() refuses other forms and never shows a password", () => {
  for (
    const text of ["", "a.db", "sqlite:a.db", "sqlite://a.db", "sqlite:///a.db?mode=ro", "mysql://u:pw@h/d"]
  ) {
    const error = assertThrows(() => parseConnectionString(text), ConfigError) as ConfigError;
    assert(!error.message.includes("pw"), error.message);
  }
});

Deno.test("openBackend() refuses a driver that is not known before it touches a file", async () => {
  const config = {
    connectionString: "sqlite:///never.db",
    sqliteDriver: "x",
  } as unknown as PersistenceConfig;
  await assertRejects(() => openBackend(config), ConfigError, "sqliteDriver");
});
