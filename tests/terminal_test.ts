/**
 * Commands on a terminal, which `script` provides: nothing is changed before a question is answered.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { type Backend, CostObservatory, importRecords, ObservabilityHub, openBackend } from "../mod.ts";
import { upgradesFrom } from "../src/backends/sqlite/schema.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { readDeliveries } from "../src/transfer/deliveries.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder, undoUpgrade } from "./fixtures.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";
import { RUN } from "./command.ts";

const COMMAND = [Deno.execPath(), ...RUN];
const hasTerminal = Deno.build.os === "linux" && await exists("/usr/bin/script");
const hasTimescale = (await timescaleVersion()).version !== undefined;

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Runs the command on a terminal and types an answer; gives the exit code and all that the terminal shows. */
async function onTerminal(
  args: string[],
  cwd: string,
  answer = "",
  isColored = false,
): Promise<{ code: number; text: string }> {
  const color = isColored ? ["env", "-u", "NO_COLOR"] : [];
  const command = [...color, ...COMMAND, ...args].map((arg) => `'${arg}'`).join(" ");
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
    if (!wasAsked && text.includes("[y/N]")) await writer.write(new TextEncoder().encode(answer));
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
  const no = await onTerminal(args, folder.path, "n\n");
  assertMatch(
    no.text,
    /Have the server drop 1 record before .* for good\? \[y\/N\] n\s+Nothing was changed\.\s*$/,
  );
  assertEquals(no.code, 0);
  assertEquals(await catalogOf(database), before);
  const yes = await onTerminal(args, folder.path, "y\n");
  assertMatch(yes.text, /Ready: timescaledb:\/\//);
  const [{ count }] = await database.sql("SELECT count(*)::int FROM timescaledb_information.hypertables");
  assert(count as number > 0);
}, hasTimescale);

test("database init asks nothing where there is no record to drop", async (folder) => {
  await using database = await TestDatabase.create();
  const url = database.url.replace("postgresql", "timescaledb");
  const args = ["database", "init", "--retention-days", "30", "--connection-string", url];
  const { code, text } = await onTerminal(args, folder.path, "n\n");
  assertEquals(code, 0, text);
  assert(!text.includes("[y/N]") && text.includes("Ready: "), text);
}, hasTimescale);

/** Leaves a database as version 2 did. */
function age(path: string): void {
  using old = new DatabaseSync(path);
  for (const statement of undoUpgrade(upgradesFrom(2))) old.exec(statement);
  old.exec("UPDATE schema_version SET version = 2");
}

const AT = ["--connection-string", "sqlite:///a.db"];

/** A command that asks before it deletes. */
interface Deletion {
  /** Stores so many records. */
  fill(folder: TemporaryFolder, records: number): Promise<void>;
  /** The arguments that delete them. */
  args(folder: TemporaryFolder): string[] | Promise<string[]>;
  /** Question about a number of records, such as "2 records". */
  question(records: string): RegExp;
  /** Number of records that are there. */
  count(folder: TemporaryFolder): Promise<number>;
}

const METRICS: Pick<Deletion, "fill" | "count"> = {
  async fill(folder, records) {
    await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
    for (let i = 0; i < records; i++) await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i });
  },
  async count(folder) {
    await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
    return (await hub.queryHistoricalMetrics()).length;
  },
};

const DELETIONS: Readonly<Record<string, Deletion>> = {
  "database cleanup": {
    ...METRICS,
    args: () => ["database", "cleanup", "--retention-days", "0", ...AT],
    question: (records) => new RegExp(`Delete ${records} before \\S+ from sqlite:///a.db for good\\? `),
  },
  "database delete": {
    ...METRICS,
    args: () => ["database", "delete", "metrics", "--since", "2026-01-01", ...AT],
    question: (records) => new RegExp(`Delete ${records} of system_metrics from sqlite:///a.db for good\\? `),
  },
  "database deliveries undo": {
    async fill(folder, records) {
      await using backend = await openFile(folder);
      const rows = Array.from({ length: records }, (_, i) => `2026-01-0${i + 1},r,c,1,USD\n`);
      const file = `timestamp,resourceId,category,amount,currency\n${rows.join("")}`;
      await importRecords(new Blob([file]).stream(), { backend, dataset: "cost_entries", format: "csv" });
    },
    async args(folder) {
      await using backend = await openFile(folder);
      const { id } = (await readDeliveries(backend)).at(-1)!;
      return ["database", "deliveries", "undo", id, ...AT];
    },
    question: (records) => new RegExp(`Delete ${records.replace("record", "cost")} of delivery \\S+ \\(USD`),
    async count(folder) {
      await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
      return (await costs.queryHistoricalCosts()).length;
    },
  },
  "database dead-letter purge": {
    async fill(folder, records) {
      const letters = new DeadLetters(folder.path, "system_metrics");
      for (let i = 0; i < records; i++) await letters.append({ batchId: `b${i}`, message: "m", record: {} });
    },
    args: () => ["database", "dead-letter", "purge", "--dead-letter-directory", "."],
    question: (records) => new RegExp(`Delete ${records.replace("record", "refused record")} for good\\? `),
    async count(folder) {
      return (await Array.fromAsync(new DeadLetters(folder.path, "system_metrics").list())).length;
    },
  },
};

async function openFile(folder: TemporaryFolder): Promise<Backend & AsyncDisposable> {
  const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
  return Object.assign(backend, { [Symbol.asyncDispose]: () => backend.close() });
}

for (const [command, { fill, args, question, count }] of Object.entries(DELETIONS)) {
  test(`${command} deletes only when the answer is yes`, async (folder) => {
    await fill(folder, 2);
    const given = await args(folder);
    // The last one is the end of the input, as Ctrl-D types it.
    for (const answer of ["\n", "n\n", "maybe\n", "yesterday\n", "ny\n", "\x04"]) {
      const { code, text } = await onTerminal(given, folder.path, answer);
      assertMatch(text, question("2 records"));
      assertMatch(text, /Nothing was deleted\.\s*$/);
      assertEquals([code, await count(folder)], [0, 2], answer);
    }
    const { code, text } = await onTerminal(given, folder.path, "Yes\n");
    assertEquals([code, await count(folder)], [0, 0], text);
  });

  test(`${command} migrates no older database before its question is answered`, async (folder) => {
    await fill(folder, 2);
    const given = await args(folder);
    age(folder.file("a.db"));
    const before = Deno.readFileSync(folder.file("a.db"));
    assertMatch((await onTerminal(given, folder.path, "n\n")).text, question("2 records"));
    assertEquals(Deno.readFileSync(folder.file("a.db")), before);
    const yes = await onTerminal(given, folder.path, "y\n");
    assertEquals(yes.code, 0, yes.text);
  }, command !== "database dead-letter purge");

  test(`${command} asks about one record in the singular`, async (folder) => {
    await fill(folder, 1);
    const { text } = await onTerminal(await args(folder), folder.path, "y\n");
    assertMatch(text, question("1 record"));
    assertEquals(await count(folder), 0, text);
  });
}

test("database export writes no Parquet to a terminal", async (folder) => {
  await METRICS.fill(folder, 1);
  const { code, text } = await onTerminal(
    ["database", "export", "metrics", "--format", "parquet", ...AT],
    folder.path,
  );
  assertMatch(text, /^error: Parquet is binary\. Pass --output FILE\. \[CONFLICTING_OPTIONS\]/);
  assertEquals([code, text.includes("PAR1")], [2, false]);
});

test("prints headings in bold on a terminal only, and not under NO_COLOR", async (folder) => {
  await METRICS.fill(folder, 1);
  const args = ["database", "query", "metrics", ...AT];
  for (const isColored of [true, false]) {
    const { code, text } = await onTerminal(args, folder.path, "", isColored);
    assertEquals([code, text.startsWith("\x1b[1mtimestamp")], [0, isColored], text);
    assertEquals(text.includes("\x1b["), isColored, text);
  }
  const [command, ...rest] = [...COMMAND, ...args];
  const { stdout } = await new Deno.Command("env", {
    args: ["-u", "NO_COLOR", command, ...rest],
    cwd: folder.path,
  }).output();
  assertMatch(new TextDecoder().decode(stdout), /^timestamp /);
});
