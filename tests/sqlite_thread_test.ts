import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { encodeRows } from "../src/backends/sqlite/rows.ts";
import { SqliteThread, type ThreadData } from "../src/backends/sqlite/sqlite_thread.ts";
import { SqliteBackend } from "../src/backends/sqlite.ts";
import { BackendError } from "../src/errors.ts";
import { acceptQuery } from "../src/records/query.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { ObservabilityHub, openBackend } from "../mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { Turns } from "./turns.ts";

const OPTIONS = { mode: "create", driver: "node:sqlite", onConflict: "ignore", threadRecords: 1 } as const;
const COUNT = { groupBy: [], measures: [{ function: "count" }] } as const;
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
  return (await SqliteThread.start({ path, inode, driver: "node:sqlite", onConflict: "ignore" }))!;
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

Deno.test("SqliteThread writes, reports replays and continues after a failure", async () => {
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

Deno.test("SqliteThread passes on the kind and the code of a failure", async () => {
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

Deno.test("SqliteThread reports its end as transient", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  await thread.close();
  const error = await assertRejects(() => thread.write(batch("a", "n")), BackendError) as BackendError;
  assertEquals([error.kind, thread.hasEnded], ["transient", true]);
  assertMatch(error.message, /^The thread of SQLite ended \(/);
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
  const start = SqliteThread.start;
  let thread: SqliteThread | undefined;
  SqliteThread.start = async (data) => thread = await start(data); // to get at the thread
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
    SqliteThread.start = start;
  }
  assertEquals((await backend.stats()).datasets.cost_entries.rows, 0);
  await backend.close();
});

/** Runs something, and collects the threads that are started meanwhile. */
async function withThreads(run: (threads: SqliteThread[]) => Promise<void>) {
  const { start } = SqliteThread;
  const threads: SqliteThread[] = [];
  SqliteThread.start = async (data) => {
    const thread = await start.call(SqliteThread, data);
    if (thread) threads.push(thread);
    return thread;
  };
  try {
    await run(threads);
  } finally {
    SqliteThread.start = start;
  }
}

Deno.test("SqliteBackend starts its thread again after that has ended", async () => {
  using folder = new TemporaryFolder();
  await withThreads(async (threads) => {
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
  });
});

/** Opens a file with so many records, which a thread reads. */
async function openRead(folder: TemporaryFolder, records: number) {
  const options = { ...OPTIONS, threadRecords: Infinity, threadBytes: 0 };
  const backend = await SqliteBackend.open({ ...options, path: folder.file("test.db") });
  const made = Array.from({ length: records }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: `n${i % 2}`,
  }));
  await backend.write({ id: "a", dataset: systemMetrics, records: made });
  const count = (signal?: AbortSignal) =>
    backend.aggregate(systemMetrics, acceptQuery(systemMetrics), COUNT, { signal });
  return { backend, count };
}

Deno.test("SqliteBackend reads in a thread where the file is large and the answer may take long", async () => {
  using folder = new TemporaryFolder();
  await withThreads(async (threads) => {
    const { backend, count } = await openRead(folder, 10);
    await read(backend, systemMetrics);
    assertEquals(threads.length, 0);
    await count();
    assertEquals(threads.length, 1);
    await backend.close();
    const path = folder.file("test.db");
    const { size } = Deno.statSync(path);
    for (const [threadBytes, started] of [[size, 2], [size + 1, 2]]) {
      const backend = await SqliteBackend.open({ ...OPTIONS, mode: "read", path, threadBytes });
      const pages = backend.read(systemMetrics, acceptQuery(systemMetrics, { nodeId: "n1" }));
      assertEquals((await Array.fromAsync(pages)).flat().length, 5);
      assertEquals(threads.length, started);
      await backend.close();
    }
  });
});

Deno.test("SqliteBackend reads several pages of a filtered read beside newer aggregates in a thread", async () => {
  using folder = new TemporaryFolder();
  const { backend, count } = await openRead(folder, 2_000);
  const found: string[] = [];
  for await (const page of backend.read(systemMetrics, acceptQuery(systemMetrics, { nodeId: "n1" }))) {
    found.push(...page.map(({ nodeId }) => nodeId!));
    const record = { timestamp: NEW_YEAR, clusterId: "c", nodeId: "n1" };
    await backend.write({ id: `b${found.length}`, dataset: systemMetrics, records: [record] });
    assertEquals(found.every((nodeId) => nodeId === "n1"), true);
    assert((await count())[0].values[0] as number > 2_000); // not the state that the read sees
  }
  assertEquals(found.length, 1_000);
  await backend.close();
});

Deno.test("SqliteBackend gets all rows of a long answer from its thread, and those of percentiles", async () => {
  using folder = new TemporaryFolder();
  const { backend } = await openRead(folder, 4_500);
  const aggregation = {
    groupBy: [],
    ranges: [{ start: NEW_YEAR, end: NEW_YEAR + 4_500, stepMs: 1 }],
    measures: [{ function: "count" }, { function: "percentile", field: "timestamp", fraction: 0.5 }],
  } as const;
  const rows = await backend.aggregate(systemMetrics, acceptQuery(systemMetrics), aggregation);
  const expected = Array.from({ length: 4_500 }, (_, i) => [NEW_YEAR + i, 1, NEW_YEAR + i]);
  const found = rows.map(({ start, values }) => [start!, ...values as number[]]);
  assertEquals(found.sort(([a], [b]) => a - b), expected);
  await backend.close();
});

Deno.test("SqliteBackend drops an aggregate that is aborted before its turn", async () => {
  using folder = new TemporaryFolder();
  const { backend, count } = await openRead(folder, 10);
  const controller = new AbortController();
  const [first, second, third] = [count(), count(controller.signal), count()];
  controller.abort(new Error("the page changed"));
  await assertRejects(() => second, Error, "the page changed");
  for (const found of [first, third]) assertEquals((await found)[0].values, [10]);
  const left = backend.read(systemMetrics, acceptQuery(systemMetrics, { nodeId: "n1" }), controller);
  await assertRejects(() => left.next(), Error, "the page changed");
  await backend.close();
});

Deno.test("SqliteBackend fails a read whose thread ends, and starts another one for the next", async () => {
  using folder = new TemporaryFolder();
  await withThreads(async (threads) => {
    const { backend, count } = await openRead(folder, 2_000);
    const pages = backend.read(systemMetrics, acceptQuery(systemMetrics, { nodeId: "n1" }));
    assertEquals((await pages.next()).value!.length, 250);
    await threads[0].close();
    const error = await assertRejects(() => pages.next(), BackendError, "ended") as BackendError;
    assertEquals([error.kind, error.code, error.operation], ["transient", "BACKEND_FAILED", "read"]);
    assertEquals([(await count())[0].values, threads.length], [[2_000], 2]);
    await backend.close();
    await assertRejects(() => count(), BackendError, "closed");
    assertEquals(threads.length, 2);
  });
});

Deno.test("SqliteBackend reads the file at its path, also when it was replaced between two reads", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("test.db");
  const { backend } = await openRead(folder, 3);
  await (await SqliteBackend.open({ ...OPTIONS, path: folder.file("other.db") })).close();
  const find = async () => (await read(backend, systemMetrics)).length;
  assertEquals([await find(), await find()], [3, 3]);
  for (const suffix of ["", "-wal", "-shm"]) {
    Deno.renameSync(path + suffix, folder.file(`away.db${suffix}`));
  }
  Deno.renameSync(folder.file("other.db"), path);
  assertEquals([await find(), await find()], [0, 0]);
  await backend.close();
});

Deno.test("SqliteBackend reports why a thread could not read", async () => {
  using folder = new TemporaryFolder();
  const { backend, count } = await openRead(folder, 10);
  using database = new DatabaseSync(folder.file("test.db"));
  database.exec("ALTER TABLE system_metrics RENAME TO hidden");
  const error = await assertRejects(() => count(), BackendError) as BackendError;
  assertEquals([error.kind, error.code, error.operation], ["operator", "TABLES_ALTERED", "read"]);
  await backend.close();
});

Deno.test("SqliteThread does not start for a file that cannot be opened", async () => {
  using folder = new TemporaryFolder();
  const data = {
    path: folder.file("none.db"),
    inode: 1,
    driver: "node:sqlite",
    onConflict: "ignore",
  } as const;
  assertEquals(await SqliteThread.start(data), undefined);
});

Deno.test("SqliteThread does not start where threads are not available", async () => {
  using folder = new TemporaryFolder();
  await (await startThread(folder)).close();
  const path = folder.file("test.db");
  const unsendable = { path, inode: Deno.statSync(path).ino, driver: "node:sqlite", onConflict: () => {} };
  assertEquals(await SqliteThread.start(unsendable as unknown as ThreadData), undefined);
});

Deno.test("SqliteBackend does not keep a program alive when it is not closed", async () => {
  using folder = new TemporaryFolder();
  const found = await run(folder, { end: "", permissions: ["-A"] });
  assertEquals(found, { code: 0, err: "", length: 5_000, isByThread: true });
});

Deno.test("SqliteThread needs read permission for its module only", async () => {
  for (const isGranted of [true, false]) {
    using folder = new TemporaryFolder();
    const source = fileURLToPath(new URL("../src", import.meta.url));
    const read = isGranted ? [folder.path, source] : [folder.path];
    const permissions = [`--allow-read=${read}`, `--allow-write=${folder.path}`, "--deny-env"];
    const found = await run(folder, { end: "await backend.close();", permissions });
    assertEquals(found, { code: 0, err: "", length: 5_000, isByThread: isGranted });
  }
});

Deno.test("SqliteThread does not block the program while it writes", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const records = Array.from({ length: 30_000 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: "n",
  }));
  let turns: Turns | undefined;
  await backend.write({ id: "a", dataset: systemMetrics, records }, () => turns = new Turns());
  turns?.[Symbol.dispose]();
  await backend.close();
  assert((turns?.count ?? 0) > 0); // thousands; without a thread it would be none
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
  using turns = new Turns();
  let pages = 0;
  for await (const _page of backend.read(systemMetrics, acceptQuery(systemMetrics))) pages++;
  const { count } = turns;
  await backend.close();
  assert(pages > 3 && count >= pages - 1, `${count} turns, ${pages} pages`);
});
