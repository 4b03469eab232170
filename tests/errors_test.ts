import {
  BackendError,
  ConfigError,
  CostObservatory,
  ObservabilityHub,
  openBackend,
  type PersistenceConfig,
  ValidationError,
} from "../mod.ts";
import { failureOf, type FailureRow } from "../src/errors.ts";
import { FILE_FAILURES } from "../src/pipeline/durable_file.ts";
import { POSTGRES_FAILURES } from "../src/backends/postgres/errors.ts";
import { SQLITE_FAILURES } from "../src/backends/sqlite/file.ts";
import { UsageError } from "../src/query/usage_error.ts";
import { TransferError } from "../src/transfer/transfer_error.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

Deno.test("ValidationError has a code for each fault of a record or query", async () => {
  await using hub = new ObservabilityHub();
  await using costs = new CostObservatory();
  const add = (record: unknown) => hub.collectSystemMetrics(record as { timestamp: number });
  const cases: [() => Promise<unknown>, string][] = [
    [() => add({ timestamp: Date.now(), cpuUsage: NaN }), "INVALID_FIELD"],
    [() => add({ timestamp: Date.now(), cpuusage: 1 }), "UNKNOWN_FIELD"],
    [() => add({ cpuUsage: 1 }), "MISSING_FIELD"],
    [() => add(null), "INVALID_RECORD"],
    [() => hub.queryHistoricalMetrics({ nodeid: "a" } as object), "UNKNOWN_FIELD"],
    [() => costs.createBudget({ budgetId: "b" } as never), "MISSING_FIELD"],
    [() => costs.createBudget(1 as never), "INVALID_RECORD"],
    [() => costs.updateBudget("none", { amount: 1 }), "NOT_FOUND"],
  ];
  for (const [run, code] of cases) {
    const error = await assertRejects(async () => await run(), ValidationError) as ValidationError;
    assertEquals(error.code, code, error.message);
  }
});

Deno.test("ConfigError and BackendError have a code when a database does not open", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(
    folder.file("text.db"),
    "This is no database, and long enough to be looked at.".repeat(20),
  );
  const cases: [PersistenceConfig, string][] = [
    [{ batchsize: 1 } as PersistenceConfig, "UNKNOWN_OPTION"],
    [{ batchSize: 0 }, "INVALID_OPTION"],
    [{ backend: "memory", connectionString: "sqlite://" }, "CONFLICTING_OPTIONS"],
    [{ connectionString: "mysql://localhost" }, "INVALID_CONNECTION_STRING"],
    [{ connectionString: "postgresql://u:p@127.0.0.1:1/d" }, "CONNECTION_REFUSED"],
    [{ connectionString: `sqlite:///${folder.file("none/a.db")}` }, "FILE_NOT_FOUND"],
    [{ connectionString: `sqlite:///${folder.path}` }, "NOT_A_FILE"],
    [{ connectionString: `sqlite:///${folder.file("text.db")}` }, "NOT_A_DATABASE"],
  ];
  for (const [config, code] of cases) {
    const error: unknown = await openBackend(config).catch((error) => error);
    assert(error instanceof BackendError || error instanceof ConfigError, String(error));
    assertEquals(error.code, code, error.message);
  }
});

Deno.test("failureOf() states problem and remedy and keeps the cause", () => {
  const cause = new Error("database or disk is full");
  const row = SQLITE_FAILURES.find(({ match }) => match.test(cause.message));
  const failure = {
    operation: "write",
    name: "a.db",
    reason: cause.message,
    cause,
    otherwise: "unknown",
  } as const;
  const error = failureOf(row, failure);
  assertEquals([error.code, error.kind, error.cause], ["DISK_FULL", "disk-full", cause]);
  assertEquals(
    error.message,
    "Cannot write a.db: no space left on the disk, or the quota is used up (database or disk is full). " +
      "Free some space (imports also need it in SQLITE_TMPDIR, else /var/tmp). Pipelines resume by themselves; run other commands again.",
  );
  const other = failureOf(undefined, failure);
  assertEquals([other.code, other.kind], ["BACKEND_FAILED", "unknown"]);
  assertEquals(other.message, "Cannot write a.db: database or disk is full");
});

Deno.test("failure rows have a problem and remedies that are sentences", () => {
  const rows: readonly FailureRow[] = [...FILE_FAILURES, ...SQLITE_FAILURES, ...POSTGRES_FAILURES];
  for (const { problem, remedy, code } of rows) {
    assert(/^[a-zA-Z].*[^.]$/.test(problem), `${code}: ${problem}`);
    assert(/^[A-Z].*\.$/.test(remedy), `${code}: ${remedy}`);
  }
});

Deno.test("TransferError and UsageError have a code", () => {
  assertEquals(new UsageError("no", "UNKNOWN_OPTION").code, "UNKNOWN_OPTION");
  assertEquals(new TransferError("no", { code: "INVALID_LINE", line: 3 }).code, "INVALID_LINE");
});

Deno.test("a constructor that is given a configuration names open()", () => {
  for (const made of [ObservabilityHub, CostObservatory]) {
    const Given = made as unknown as new (config: unknown) => object;
    for (const config of [{ connectionString: "sqlite://" }, "sqlite://", null]) {
      const error = assertThrows(() => new Given(config), ConfigError) as ConfigError;
      assertEquals([error.code, error.message.includes(`await ${made.name}.open(config)`)], [
        "UNEXPECTED_ARGUMENT",
        true,
      ]);
    }
  }
});
