import { clearImmediate, setImmediate } from "node:timers";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { encodeRows } from "../src/backends/sqlite/rows.ts";
import { type ThreadData, WriterThread } from "../src/backends/sqlite/writer_thread.ts";
import { SqliteBackend } from "../src/backends/sqlite.ts";
import { BackendError } from "../src/errors.ts";
import { acceptQuery } from "../src/records/query.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { ObservabilityHub, openBackend } from "../mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const OPTIONS = { mode: "create", driver: "node:sqlite", onConflict: "ignore", threadRecords: 1 } as const;
const MOD = new URL("../mod.ts", import.meta.url).href;

function batch(id: string, nodeId: string) {
  const records = [{ timestamp: NEW_YEAR, clusterId: "c", nodeId }];
  const fields = systemMetrics.columns.map(({ field }) => field);
  return { id, dataset: systemMetrics.name, fields, rows: encodeRows(systemMetrics, records) };
}

/** A thread for a file with tables in it. */
async function startThread(folder: TemporaryFolder) {
  const path = folder.file("test.db");
  await (await openBackend({ connectionString: folder.sqlite() })).close();
  const { ino: inode } = Deno.statSync(path);
  return (await WriterThread.start({ path, inode, driver: "node:sqlite", onConflict: "ignore" }))!;
}

/** Runs a program that writes 5,000 records into a file; gives how many are there, and whether a thread wrote them. */
async function run(folder: TemporaryFolder, { end, permissions }: { end: string; permissions: string[] }) {
  const program = `
    import { openBackend } from ${JSON.stringify(MOD)};
    import { systemMetrics } from ${JSON.stringify(new URL("src/records/system_metrics.ts", MOD).href)};
    const backend = await openBackend({ connectionString: ${JSON.stringify(folder.sqlite())} });
    const records = Array(5_000).fill({ timestamp: ${NEW_YEAR}, clusterId: "c", nodeId: "n" });
    await backend.write({ id: "a", dataset: systemMetrics, records }, () => console.log("sent"));
    ${end}`;
  Deno.writeTextFileSync(folder.file("program.ts"), program);
  const args = ["run", "-q", "--no-prompt", "--cached-only", ...permissions, folder.file("program.ts")];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  const { length } = await hub.queryHistoricalMetrics();
  const isByThread = new TextDecoder().decode(stdout) === "sent\n";
  return { code, err: new TextDecoder().decode(stderr), length, isByThread };
}

Deno.test("WriterThread writes, reports replays and continues after a failure", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  assertEquals(await thread.write(batch("a", "n")), { committed: 1, duplicates: 0, restated: 0 });
  const again = await thread.write(batch("a", "n"));
  assertEquals(again, { committed: 1, duplicates: 0, restated: 0, isReplay: true });
  Deno.renameSync(folder.file("test.db"), folder.file("away.db"));
  await assertRejects(() => thread.write(batch("b", "n")), BackendError, "deleted or replaced");
  Deno.renameSync(folder.file("away.db"), folder.file("test.db"));
  assertEquals((await thread.write(batch("b", "n"))).committed, 1);
  await thread.close();
});

Deno.test("WriterThread passes on the kind and the code of a failure", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  using database = new DatabaseSync(folder.file("test.db"));
  const failure = async () => {
    const error = await assertRejects(() => thread.write(batch("a", "n")), BackendError) as BackendError;
    return [error.kind, error.code, error.operation];
  };
  database.exec("BEGIN IMMEDIATE");
  assertEquals(await failure(), ["transient", "LOCKED", "write"]);
  database.exec("ROLLBACK");
  database.exec("CREATE TABLE other (a INTEGER CHECK (a > 1))");
  database.exec(
    "CREATE TRIGGER refuse BEFORE INSERT ON system_metrics BEGIN INSERT INTO other VALUES (0); END",
  );
  assertEquals(await failure(), ["data", "CONSTRAINT_VIOLATED", "write"]);
  database.exec("DROP TRIGGER refuse; ALTER TABLE system_metrics RENAME TO hidden");
  assertEquals(await failure(), ["operator", "TABLES_ALTERED", "write"]);
  await thread.close();
});

Deno.test("WriterThread reports its end as transient", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  await thread.close();
  const error = await assertRejects(() => thread.write(batch("a", "n")), BackendError) as BackendError;
  assertEquals([error.kind, thread.hasEnded], ["transient", true]);
  assertMatch(error.message, /^Cannot write: the writer thread ended \(/);
});

Deno.test("SqliteBackend writes each batch under its own id when another one was prepared", async () => {
  using folder = new TemporaryFolder();
  const backend = await SqliteBackend.open({ ...OPTIONS, path: folder.file("test.db") });
  const record = (nodeId: string) => ({ timestamp: NEW_YEAR, clusterId: "c", nodeId });
  const batches = ["a", "b"].map((id) => ({ id, dataset: systemMetrics, records: [record(id), record(id)] }));
  backend.prepare(batches[1]);
  for (const batch of batches) await backend.write(batch);
  const nodes = (await read(backend, systemMetrics)).map(({ nodeId }) => nodeId).sort();
  assertEquals(nodes, ["a", "a", "b", "b"]);
  await backend.close();
});

Deno.test("SqliteStaging fails at once when its thread ends, and nothing is stored", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const start = WriterThread.start;
  let thread: WriterThread | undefined;
  WriterThread.start = async (data) => thread = await start(data); // to get at the thread
  try {
    const staging = await backend.stage!();
    const cost = {
      entryId: "a",
      timestamp: NEW_YEAR,
      resourceId: "r",
      category: "c",
      amount: "1",
      currency: "USD",
    };
    await staging.add(Array(2_000).fill({ ...cost, stagedPart: 0, stagedAt: undefined, isHashed: false }));
    await thread!.close();
    const publication = { related: () => [], decide: () => undefined };
    const error = await assertRejects(
      () => staging.publish(publication),
      BackendError,
      "Run the same command again",
    );
    assertEquals((error as BackendError).kind, "operator");
    await staging.discard();
  } finally {
    WriterThread.start = start;
  }
  assertEquals((await backend.stats()).datasets.cost_entries.rows, 0);
  await backend.close();
});

Deno.test("SqliteBackend starts its thread again after that has ended", async () => {
  using folder = new TemporaryFolder();
  const { start } = WriterThread;
  const threads: WriterThread[] = [];
  WriterThread.start = async (data) => {
    const thread = await start.call(WriterThread, data);
    if (thread) threads.push(thread);
    return thread;
  };
  try {
    const backend = await SqliteBackend.open({ ...OPTIONS, path: folder.file("test.db") });
    const write = (id: string) =>
      backend.write({
        id,
        dataset: systemMetrics,
        records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: id }],
      });
    assertEquals((await write("a")).committed, 1);
    await threads[0].close();
    assertEquals([(await write("b")).committed, threads.length], [1, 2]);
    await backend.close();
  } finally {
    WriterThread.start = start;
  }
});

Deno.test("WriterThread does not start for a file that cannot be opened", async () => {
  using folder = new TemporaryFolder();
  const data = {
    path: folder.file("none.db"),
    inode: 1,
    driver: "node:sqlite",
    onConflict: "ignore",
  } as const;
  assertEquals(await WriterThread.start(data), undefined);
});

Deno.test("WriterThread does not start where threads are not available", async () => {
  using folder = new TemporaryFolder();
  await (await startThread(folder)).close();
  const path = folder.file("test.db");
  const unsendable = { path, inode: Deno.statSync(path).ino, driver: "node:sqlite", onConflict: () => {} };
  assertEquals(await WriterThread.start(unsendable as unknown as ThreadData), undefined);
});

Deno.test("SqliteBackend does not keep a program alive when it is not closed", async () => {
  using folder = new TemporaryFolder();
  const found = await run(folder, { end: "", permissions: ["-A"] });
  assertEquals(found, { code: 0, err: "", length: 5_000, isByThread: true });
});

Deno.test("WriterThread needs read permission for its module only", async () => {
  for (const isGranted of [true, false]) {
    using folder = new TemporaryFolder();
    const source = fileURLToPath(new URL("../src", import.meta.url));
    const read = isGranted ? [folder.path, source] : [folder.path];
    const permissions = [`--allow-read=${read}`, `--allow-write=${folder.path}`, "--deny-env"];
    const found = await run(folder, { end: "await backend.close();", permissions });
    assertEquals(found, { code: 0, err: "", length: 5_000, isByThread: isGranted });
  }
});

Deno.test("WriterThread does not block the program while it writes", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const records = Array.from({ length: 30_000 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: "n",
  }));
  let turns = 0;
  let next: ReturnType<typeof setImmediate> | undefined;
  const count = () => {
    turns++;
    next = setImmediate(count);
  };
  await backend.write({ id: "a", dataset: systemMetrics, records }, () => next = setImmediate(count));
  clearImmediate(next);
  await backend.close();
  assert(turns > 0); // thousands; without a thread it would be none
});

Deno.test("SqliteBackend lets the program go on between the pages of a read", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const records = Array.from({ length: 900 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: "n",
  }));
  await backend.write({ id: "a", dataset: systemMetrics, records });
  let turns = 0;
  let next = setImmediate(function count() {
    turns++;
    next = setImmediate(count);
  });
  let pages = 0;
  for await (const _page of backend.read(systemMetrics, acceptQuery(systemMetrics))) pages++;
  clearImmediate(next);
  await backend.close();
  assert(pages > 3 && turns >= pages - 1, `${turns} turns, ${pages} pages`);
});
