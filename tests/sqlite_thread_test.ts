import { encodeRows } from "../src/backends/sqlite/rows.ts";
import { WriterThread } from "../src/backends/sqlite/thread.ts";
import { BackendError } from "../src/errors.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { ObservabilityHub, openBackend } from "../mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const MOD = new URL("../mod.ts", import.meta.url).href;

function batch(id: string, nodeId: string) {
  const records = [{ timestamp: NEW_YEAR, clusterId: "c", nodeId }];
  return { id, dataset: systemMetrics.name, rows: encodeRows(systemMetrics, records) };
}

/** A thread for a file with tables in it. */
async function startThread(folder: TemporaryFolder) {
  const path = folder.file("test.db");
  await (await openBackend({ connectionString: folder.sqlite() })).close();
  const { ino: inode } = Deno.statSync(path);
  return (await WriterThread.start({ path, inode, driver: "node:sqlite", onConflict: "ignore" }))!;
}

/** Runs a program that writes 5,000 records into a file, in a Deno of its own. */
async function run(folder: TemporaryFolder, { end, permissions }: { end: string; permissions: string[] }) {
  const program = `
    import { ObservabilityHub } from ${JSON.stringify(MOD)};
    const hub = await ObservabilityHub.open({ connectionString: ${JSON.stringify(folder.sqlite())} });
    for (let i = 0; i < 5_000; i++) await hub.collectSystemMetrics({ timestamp: ${NEW_YEAR} });
    await hub.flush();
    ${end}`;
  Deno.writeTextFileSync(folder.file("program.ts"), program);
  const args = ["run", "-q", "--no-prompt", "--cached-only", ...permissions, folder.file("program.ts")];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  const { length } = await hub.queryHistoricalMetrics();
  return { code, err: new TextDecoder().decode(stderr), length };
}

Deno.test("WriterThread writes, says what became of a batch that comes again, and goes on after a failure", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  assertEquals(await thread.write(batch("a", "n")), { committed: 1, duplicates: 0, restated: 0 });
  const again = await thread.write(batch("a", "n"));
  assertEquals(again, { committed: 1, duplicates: 0, restated: 0, isReplay: true });
  Deno.renameSync(folder.file("test.db"), folder.file("away.db"));
  await assertRejects(() => thread.write(batch("b", "n")), BackendError, "it was deleted or replaced");
  Deno.renameSync(folder.file("away.db"), folder.file("test.db"));
  assertEquals((await thread.write(batch("b", "n"))).committed, 1);
  await thread.close();
});

Deno.test("WriterThread that has ended says so, as something that passes by itself", async () => {
  using folder = new TemporaryFolder();
  const thread = await startThread(folder);
  await thread.close();
  const error = await assertRejects(() => thread.write(batch("a", "n")), BackendError) as BackendError;
  assertEquals([error.kind, thread.hasEnded], ["transient", true]);
  assertMatch(error.message, /^Cannot write: a thread that goes on is wanted: /);
});

Deno.test("WriterThread is not to be had for a file that cannot be opened", async () => {
  using folder = new TemporaryFolder();
  const data = {
    path: folder.file("none.db"),
    inode: 1,
    driver: "node:sqlite",
    onConflict: "ignore",
  } as const;
  assertEquals(await WriterThread.start(data), undefined);
});

Deno.test("a program that forgets to close a hub ends all the same", async () => {
  using folder = new TemporaryFolder();
  const { code, err, length } = await run(folder, { end: "", permissions: ["-A"] });
  assertEquals([code, err, length], [0, "", 5_000]);
});

Deno.test("a program that may not read the thread's module writes by itself", async () => {
  using folder = new TemporaryFolder();
  const permissions = [`--allow-read=${folder.path}`, `--allow-write=${folder.path}`];
  const { code, err, length } = await run(folder, { end: "await hub.close();", permissions });
  assertEquals([code, err, length], [0, "", 5_000]);
});

Deno.test("what a program does is not held up while a thread writes", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const records = Array.from({ length: 30_000 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: "n",
  }));
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await backend.write({ id: "a", dataset: systemMetrics, records }, () => turns = 0);
  clearInterval(timer);
  await backend.close();
  assert(turns > 5, `${turns} turns`); // of some 100; without a thread it would be none
});
