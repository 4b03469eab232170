import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { type Backend, CostObservatory, importRecords, openBackend, TransferError } from "../mod.ts";
import { currencyTotals } from "../src/backends/currency_totals.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { acceptQuery } from "../src/records/query.ts";
import { copyInto } from "../src/cli/backup.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { verifyDatabase } from "../src/transfer/verify.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { FULL_SERVICE_METRICS, FULL_SYSTEM_METRICS, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { RUN } from "./command.ts";
import { until } from "./until.ts";

const DATABASE = [...RUN, "database"];

function command(args: readonly string[], cwd: string): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...DATABASE, ...args],
    cwd,
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs a database command as a user would. */
async function database(args: readonly string[], cwd: string) {
  const { code, stdout, stderr } = await command(args, cwd).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out, err };
}

/** Fills a database with metrics, services, a delivery of FOCUS costs and a budget. */
async function fill(connectionString: string): Promise<void> {
  const backend = await openBackend({ connectionString });
  try {
    await write(backend, systemMetrics, [FULL_SYSTEM_METRICS, FULL_SYSTEM_METRICS]);
    await write(backend, serviceMetrics, [FULL_SERVICE_METRICS]);
    const focus = await Deno.open(new URL("cases/deliveries/focus-closed.csv", import.meta.url));
    await importRecords(focus.readable, { backend, dataset: "cost_entries", format: "focus" });
    const costs = await CostObservatory.open({ backend });
    await costs.createBudget({ budgetId: "nlp", amount: "12.000000000000000001", currency: "EUR" });
    await costs.close();
  } finally {
    await backend.close();
  }
}

/** Text that is the same for values that differ only in the order of keys. */
function text(value: unknown): string {
  return JSON.stringify(
    value,
    (_, value) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort())
        : value,
  );
}

async function contentOf(connectionString: string): Promise<Record<string, unknown>> {
  const backend = await openBackend({ connectionString });
  try {
    const content: Record<string, unknown> = {};
    for (const dataset of Object.values(DATASETS) as readonly Dataset<unknown>[]) {
      content[dataset.name] = (await read(backend, dataset)).map(text).sort();
    }
    content.totals = text(await currencyTotals(backend, acceptQuery(costEntries, {})));
    content.documents = await documentsOf(backend);
    content.differing = await verifyDatabase(backend);
    return content;
  } finally {
    await backend.close();
  }
}

/** Documents without the version, which counts the changes in one database. */
async function documentsOf(backend: Backend): Promise<string[]> {
  return (await backend.documents.read()).map(({ kind, id, body }) => text({ kind, id, body })).sort();
}

for (const source of ["SQLite", "PostgreSQL"]) {
  Deno.test(`database backup of ${source} can be restored into each backend`, async () => {
    using folder = new TemporaryFolder();
    await using from = await TestDatabase.create();
    await using to = await TestDatabase.create();
    const url = source === "SQLite" ? folder.sqlite("from.db") : from.url;
    await fill(url);
    const done = await database(["backup", "backup.db", "--connection-string", url], folder.path);
    assertEquals(done.code, 0, done.err);
    assertMatch(done.err, /Backup written to backup\.db\./);
    const { mode } = Deno.statSync(folder.file("backup.db"));
    if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600);
    assertEquals(
      [...Deno.readDirSync(folder.path)].filter(({ name }) => name.includes("backup.db")).length,
      1,
    );
    const expected = await contentOf(url);
    assertEquals(expected.differing, []);
    assert((expected.documents as string[]).length >= 2);
    for (const target of [folder.sqlite("restored.db"), to.url]) {
      const restored = await database(
        ["migrate", "--from", "sqlite:///backup.db", "--to", target],
        folder.path,
      );
      assertEquals(restored.code, 0, restored.err);
      assertEquals(await contentOf(target), expected);
      const verified = await database(["verify", "--connection-string", target], folder.path);
      assertEquals(verified.code, 0, verified.err);
    }
  });
}

Deno.test("database backup refuses an existing file, a link, a URL and a missing folder", async () => {
  using folder = new TemporaryFolder();
  await fill(folder.sqlite("from.db"));
  Deno.writeTextFileSync(folder.file("taken.db"), "mine");
  const names = ["taken.db", "sqlite:///new.db", "none/new.db"];
  const codes = ["ALREADY_EXISTS", "INVALID_OPTION", "FILE_NOT_FOUND"];
  if (Deno.build.os !== "windows") {
    Deno.symlinkSync(folder.file("nowhere.db"), folder.file("link.db"));
    names.push("link.db");
    codes.push("ALREADY_EXISTS");
  }
  const before = [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort();
  const at = ["--connection-string", "sqlite:///from.db"];
  for (const [i, name] of names.entries()) {
    const { code, out, err } = await database(["backup", name, ...at], folder.path);
    assertEquals([code, out], [codes[i] === "INVALID_OPTION" ? 2 : 1, ""], err);
    assert(err.includes(`[${codes[i]}]`), err);
  }
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), before);
  assertEquals(Deno.readTextFileSync(folder.file("taken.db")), "mine");
});

Deno.test("database backup leaves no file under its name when killed", async () => {
  if (Deno.build.os === "windows") return; // has no SIGKILL to send
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite("from.db") });
  const records = Array.from({ length: 5_000 }, (_, i) => ({ timestamp: NEW_YEAR + i, nodeId: `n${i}` }));
  for (let i = 0; i < 20; i++) await write(backend, systemMetrics, records);
  await backend.close();
  const left = () =>
    [...Deno.readDirSync(folder.path)].map(({ name }) => name).filter((n) => n !== "from.db");
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (let isKilled = false; !isKilled;) {
      const process = command(["backup", "b.db", "--connection-string", "sqlite:///from.db"], folder.path)
        .spawn();
      let hasEnded = false;
      const output = process.output().finally(() => hasEnded = true);
      const isUnderWay = () => hasEnded || left().some((name) => name.endsWith(".part"));
      await until(isUnderWay, "the backup to be under way", 1);
      try {
        process.kill(signal);
      } catch {
        // it has just ended
      }
      const end = await output;
      isKilled = end.signal === signal;
      if (isKilled) continue;
      assertEquals(end.code, 0); // it was faster
      Deno.removeSync(folder.file("b.db"));
    }
    const names = left().filter((name) => !name.startsWith("from.db"));
    assert(!names.includes("b.db"), names.join());
    if (signal === "SIGTERM") assertEquals(names, []);
  }
});

Deno.test("database backup fails when a delivery is published meanwhile", async () => {
  using folder = new TemporaryFolder();
  await fill(folder.sqlite("from.db"));
  const backend = await openBackend({ connectionString: folder.sqlite("from.db") });
  let file = "";
  const growing = new Proxy(backend, {
    get(target, name) {
      if (name === "read" && file === "") {
        file = "timestamp,resourceId,category,amount,currency\n2026-01-01,r,c,1,USD\n";
        return async function* (...asked: Parameters<Backend["read"]>) {
          const stream = new Blob([file]).stream();
          await importRecords(stream, { backend, dataset: "cost_entries", format: "csv" });
          yield* target.read(...asked);
        };
      }
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  try {
    const part = folder.file("part");
    const error = await assertRejects(() => copyInto(part, { from: growing, driver: "auto" }), TransferError);
    assertEquals((error as TransferError).code, "MIGRATION_DIFFERS");
    await copyInto(folder.file("again"), { from: growing, driver: "auto" });
  } finally {
    await backend.close();
  }
});
