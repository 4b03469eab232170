import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { DatabaseSync } from "node:sqlite";
import { type Alert, openBackend } from "../mod.ts";
import { nameOf } from "../src/monitoring/alerts/alert_monitor.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { RUN } from "./command.ts";

const SQL = Deno.readTextFileSync(new URL("cases/openfinops-python.sql", import.meta.url));
/** The same tables as the original makes them in PostgreSQL. */
const POSTGRESQL = SQL.replaceAll("INTEGER PRIMARY KEY AUTOINCREMENT", "SERIAL PRIMARY KEY")
  .replaceAll("REAL", "DOUBLE PRECISION").replaceAll("metadata TEXT", "metadata JSONB");

/** A database of the original. */
interface Original {
  readonly url: string;
  run(sql: string): Promise<unknown>;
}

const kinds: Record<string, (run: (original: Original) => Promise<void>) => Promise<void>> = {
  async SQLite(run) {
    using folder = new TemporaryFolder();
    using database = new DatabaseSync(folder.file("old.db"));
    database.exec(SQL);
    const exec = (sql: string) => Promise.resolve(database.exec(sql));
    await run({ url: `sqlite:///${folder.file("old.db")}`, run: exec });
  },
  async PostgreSQL(run) {
    await using database = await TestDatabase.create();
    await database.sql(POSTGRESQL);
    await run({ url: database.url, run: (sql) => database.sql(sql) });
  },
};

/** Migrates as a user would. */
async function migrated(from: string, to: string, ...options: string[]) {
  const args = ["database", "migrate", "--from", from, "--to", to, "--format", "ndjson", ...options];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...args],
  }).output();
  const decoder = new TextDecoder();
  const lines = decoder.decode(stdout).trim().split("\n").filter((line) => line !== "");
  const counts = lines.map((line) => {
    const { dataset, copied, source, target, isSame } = JSON.parse(line);
    return [dataset, copied, source.rows, target.rows, isSame];
  });
  return { code, err: decoder.decode(stderr), counts, lines };
}

const WHOLE = [["system_metrics", 2], ["service_metrics", 1], ["cost_entries", 3], ["alerts", 1]] as const;

for (const [kind, withOriginal] of Object.entries(kinds)) {
  const test = (title: string, run: (original: Original, to: string) => Promise<void>) =>
    Deno.test(`openfinops database migrate from Python's ${kind} ${title}`, () =>
      withOriginal(async (original) => {
        using folder = new TemporaryFolder();
        await run(original, `sqlite:///${folder.file("new.db")}`);
      }));

  test("brings everything once, and compares it", async ({ url }, to) => {
    const dry = await migrated(url, to, "--dry-run");
    assertEquals([dry.code, dry.counts], [0, WHOLE.map(([name, rows]) => [name, rows, rows, 0, false])]);
    for (const isAgain of [false, true]) {
      const { code, counts, lines, err } = await migrated(url, to);
      assertEquals(code, 0, err);
      assertEquals(counts, WHOLE.map(([name, rows]) => [name, isAgain ? 0 : rows, rows, rows, true]));
      const [{ currency, total }] = JSON.parse(lines[2]).target.totals;
      assertEquals([currency, total], ["USD", "0.3000105"]);
    }
  });

  test("reads times, amounts, maps and alerts", async ({ url }, to) => {
    await migrated(url, to);
    const backend = await openBackend({ connectionString: to }, { mode: "read" });
    const [first, second] = await read(backend, systemMetrics);
    assertEquals(first, {
      timestamp: Date.parse("2026-01-01T00:00:00.250Z"),
      clusterId: "prod",
      nodeId: "gpu-01",
      cpuUsage: 41.2,
      memoryUsage: 63.5,
      gpuUsage: 97,
      networkIo: 15.75,
      temperature: 61,
      healthStatus: "healthy",
      labels: { "networkIo.in": "12.5", "networkIo.out": "3.25", rack: "r1" },
    });
    assertEquals([second.timestamp, second.gpuUsage, second.labels], [
      Date.parse("2026-01-01T00:00:15.250Z"),
      undefined,
      undefined,
    ]);
    const [service] = await read(backend, serviceMetrics);
    assertEquals([service.restartCount, service.trainingJobsActive, service.uptime], [1, 2, 3600]);
    const costs = await read(backend, costEntries);
    assertEquals(costs.map(({ entryId, amount, tags }) => [entryId, amount, tags]), [
      ["c1", "0.1", { team: "nlp" }],
      ["c2", "0.2", {}],
      ["c3", "0.0000105", undefined],
    ]);
    const at = Date.parse("2026-01-01");
    const [alert] = await backend.documents.read("alert");
    assertEquals(alert.body, {
      alertId: "openfinops-python:1",
      rule: "high_gpu",
      severity: "warning",
      description: "GPU above 95 percent",
      field: "high_gpu",
      value: 97,
      since: at,
      firedAt: at,
      clusterId: "prod",
    });
    assertEquals(nameOf(alert.body as Alert), "prod");
    const [note] = await backend.documents.read("alert_acknowledgement");
    assertEquals(note.body, { alertId: "openfinops-python:1", firedAt: at, at });
    await backend.close();
  });

  test("brings what was added since, and names rows that are bad", async ({ url, run }, to) => {
    await migrated(url, to);
    await run(
      `INSERT INTO cost_entries (entry_id, timestamp, resource_id, category, amount, currency, tags) VALUES
      ('c4', 1767236400.5, 'r', 'gpu', 1e22, 'USD', '{}'), ('c5', 1767236400.123456, 'r', 'gpu', 2.5, 'usd', '{"n": 1}'),
      ('c6', 1767236400.5, 'r', 'gpu', 1, 'EUR', 'no JSON')`,
    );
    await run(`INSERT INTO system_metrics (timestamp, cluster_id, node_id, health_status, metadata) VALUES
      (1767236400, 'prod', 'gpu-01', 'odd', '{"gpu_model": "H100", "fan_speed": 1200}')`);
    const { code, err, counts } = await migrated(url, to);
    assertEquals([code, counts.map(([name, copied]) => [name, copied])], [1, [
      ["system_metrics", 1],
      ["service_metrics", 0],
      ["cost_entries", 1],
      ["alerts", 0],
    ]], err);
    assert(/cost_entries 4: .*amount must be/.test(err) && /cost_entries 6: .*tags must be/.test(err), err);
    assert(err.includes("[LINES_REJECTED]"), err);
    const backend = await openBackend({ connectionString: to }, { mode: "read" });
    const last = (await read(backend, costEntries)).at(-1)!;
    assertEquals([last.timestamp, last.currency, last.tags], [1_767_236_400_123, "USD", { n: "1" }]);
    const node = (await read(backend, systemMetrics)).at(-1)!;
    assertEquals([node.fanSpeed, node.healthStatus, node.labels], [1200, undefined, {
      healthStatus: "odd",
      gpu_model: "H100",
    }]);
    await backend.close();
  });

  test("takes a part by dataset and time", async ({ url }, to) => {
    const { code, counts } = await migrated(url, to, "--dataset", "costs", "--since", "2026-01-01T01:00Z");
    assertEquals([code, counts], [0, [["cost_entries", 2, 2, 2, true]]]);
  });
}

Deno.test("openfinops database migrate still refuses tables of other programs", async () => {
  using folder = new TemporaryFolder();
  using database = new DatabaseSync(folder.file("old.db"));
  database.exec("CREATE TABLE alerts (id INTEGER, timestamp REAL)");
  const { code, err } = await migrated(
    `sqlite:///${folder.file("old.db")}`,
    `sqlite:///${folder.file("new.db")}`,
  );
  assertEquals([code, err.includes("[TABLES_FOREIGN]")], [1, true], err);
});
