/**
 * Commands on a terminal, which `script` provides: nothing is changed before a question is answered.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { upgradesFrom } from "../src/backends/sqlite/schema.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";

const RUN = [Deno.execPath(), "run", "-q", "-A", "--cached-only", new URL("../cli.ts", import.meta.url).href];
const hasTerminal = Deno.build.os === "linux" && await exists("/usr/bin/script");
const hasTimescale = (await timescaleVersion()).version !== undefined;

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Runs the command on a terminal and types an answer; gives the exit code and all that the terminal shows. */
async function onTerminal(
  args: string[],
  cwd: string,
  answer: string,
): Promise<{ code: number; text: string }> {
  const command = [...RUN, ...args].map((arg) => `'${arg}'`).join(" ");
  const process = new Deno.Command("script", {
    args: ["-qec", command, "/dev/null"],
    cwd,
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  let text = "";
  for await (const piece of process.stdout.pipeThrough(new TextDecoderStream())) {
    const wasAsked = text.includes("[y/N]");
    text += piece;
    if (!wasAsked && text.includes("[y/N]")) await writer.write(new TextEncoder().encode(`${answer}\n`));
  }
  await writer.close().catch(() => {});
  return { code: (await process.status).code, text };
}

/** Registers a test that needs a terminal. */
function test(title: string, run: (folder: TemporaryFolder) => Promise<void>, needs = true): void {
  if (!hasTerminal || !needs) return;
  Deno.test(`openfinops ${title}`, async () => {
    using folder = new TemporaryFolder();
    await run(folder);
  });
}

/** All tables and indexes of a server's database, and the extension. */
async function catalogOf(database: TestDatabase): Promise<unknown> {
  return [
    await database.sql("SELECT oid::text, relname, relkind FROM pg_class ORDER BY oid"),
    await database.sql("SELECT extname FROM pg_extension ORDER BY 1"),
  ];
}

test("database init converts no tables before its question is answered", async (folder) => {
  await using database = await TestDatabase.create();
  {
    await using hub = await ObservabilityHub.open({ connectionString: database.url });
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR, cpuUsage: 1 });
  }
  const before = await catalogOf(database);
  const url = database.url.replace("postgresql", "timescaledb");
  const args = ["database", "init", "--retention-days", "30", "--connection-string", url];
  const no = await onTerminal(args, folder.path, "n");
  assertMatch(
    no.text,
    /Have the server drop 1 record before .* for good\? \[y\/N\] n\s+Nothing was changed\.\s*$/,
  );
  assertEquals(no.code, 0);
  assertEquals(await catalogOf(database), before);
  const yes = await onTerminal(args, folder.path, "y");
  assertMatch(yes.text, /Ready: timescaledb:\/\//);
  const [{ count }] = await database.sql("SELECT count(*)::int FROM timescaledb_information.hypertables");
  assert(count as number > 0);
}, hasTimescale);

test("database init asks nothing where there is no record to drop", async (folder) => {
  await using database = await TestDatabase.create();
  const url = database.url.replace("postgresql", "timescaledb");
  const args = ["database", "init", "--retention-days", "30", "--connection-string", url];
  const { code, text } = await onTerminal(args, folder.path, "n");
  assertEquals(code, 0, text);
  assert(!text.includes("[y/N]") && text.includes("Ready: "), text);
}, hasTimescale);

test("database cleanup migrates no older database before its question is answered", async (folder) => {
  {
    await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
    await costs.addCostEntry(costEntry({ entryId: "a" }));
  }
  { // as version 2 left it
    using old = new DatabaseSync(folder.file("a.db"));
    for (const statement of upgradesFrom(2)) {
      const [, table, column] = /^ALTER TABLE (\w+) ADD COLUMN (\w+)/.exec(statement) ?? [];
      if (table) old.exec(`ALTER TABLE ${table} DROP COLUMN ${column}`);
    }
    old.exec("UPDATE schema_version SET version = 2");
  }
  const before = Deno.readFileSync(folder.file("a.db"));
  const args = [
    "database",
    "cleanup",
    "--dataset",
    "costs",
    "--retention-days",
    "0",
    "--connection-string",
    "sqlite:///a.db",
  ];
  const no = await onTerminal(args, folder.path, "n");
  assertMatch(no.text, /Delete 1 records? before .* for good\? \[y\/N\] n\s+Nothing was deleted\.\s*$/);
  assertEquals(Deno.readFileSync(folder.file("a.db")), before);
  const yes = await onTerminal(args, folder.path, "y");
  assertEquals(yes.code, 0, yes.text);
  assertMatch(yes.text, /cost_entries +1\s/);
});

test("database dead-letter purge deletes nothing before its question is answered", async (folder) => {
  const letter = {
    time: "2026-01-01T00:00:00.000Z",
    dataset: "system_metrics",
    batchId: "b",
    message: "m",
    record: {},
  };
  Deno.writeTextFileSync(folder.file("system_metrics.ndjson"), JSON.stringify(letter));
  const args = ["database", "dead-letter", "purge", "--dead-letter-directory", "."];
  const no = await onTerminal(args, folder.path, "n");
  assertMatch(no.text, /Nothing was deleted\.\s*$/);
  assertEquals(await exists(folder.file("system_metrics.ndjson")), true);
});
