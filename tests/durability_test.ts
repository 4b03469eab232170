/** What is on disk, and when: syncs come before renames and acknowledgements, and files are private to their owner. */
import { DatabaseSync } from "node:sqlite";
import { backup } from "../src/cli/backup.ts";
import { readArguments } from "../src/cli/arguments.ts";
import { openBackend } from "../src/open_backend.ts";
import { ObservabilityHub } from "../src/hub.ts";
import { loadSqliteDriver, queryAll } from "../src/backends/sqlite/driver.ts";
import { openOnceMore, openSqliteFile } from "../src/backends/sqlite/file.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { replaceFile, writeAll } from "../src/pipeline/durable_file.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { decodeFrame } from "../src/spool/frame.ts";
import { type FsyncPolicy, Spool } from "../src/spool/spool.ts";
import { writeWholeFile } from "../src/transfer/file_writer.ts";
import { assert, assertEquals } from "./assert.ts";
import { until } from "./until.ts";
import { FileCalls } from "./file_calls.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { LedgerSink, metrics, never, open, range } from "./spooled.ts";

const RECORD_BYTES = 250;

/** A spool by itself, without a pipeline that takes records out of it. */
async function openSpool(directory: string, fsync: FsyncPolicy): Promise<Spool<SystemMetrics>> {
  const options = { directory, maxBytes: 32_768, fsync, onEvent() {} };
  const spool = await Spool.open<SystemMetrics>(systemMetrics, options);
  return spool.attach({ onReady() {}, onRoom() {}, onTaken() {}, onMissing() {} });
}

const push = (spool: Spool<SystemMetrics>, from: number, to: number) =>
  Promise.all(range(from, to).map((number) => spool.push(metrics(number), RECORD_BYTES)));

Deno.test("writeAll() writes all of it, however few bytes a call takes", async () => {
  const written: number[] = [];
  const file = {
    write(bytes: Uint8Array) {
      written.push(...bytes.subarray(0, 3));
      return Promise.resolve(Math.min(3, bytes.length));
    },
  };
  await writeAll(file, new Uint8Array([1, 2, 3, 4, 5, 6, 7]));
  assertEquals(written, [1, 2, 3, 4, 5, 6, 7]);
});

Deno.test("replaceFile() syncs the file before its rename, and the folder after it", async () => {
  using folder = new TemporaryFolder();
  using files = new FileCalls(folder.path);
  await replaceFile(folder.file("a"), new Uint8Array([1]));
  const expected = ["write a.new", "sync a.new", "rename a.new a"];
  assertEquals(files.calls, Deno.build.os === "windows" ? expected : [...expected, "sync ."]);
});

Deno.test("writeWholeFile() syncs the file before its rename, and the folder after it", async () => {
  using folder = new TemporaryFolder();
  using files = new FileCalls(folder.path);
  await writeWholeFile(folder.file("a.csv"), new Blob(["a,b\n"]).stream());
  const { mode } = Deno.statSync(folder.file("a.csv"));
  if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600);
  const calls = files.only("write", "sync", "rename").map((call) => call.replaceAll(/\S+\.part/g, "part"));
  assertEquals(calls.slice(0, 3), ["write part", "sync part", "rename part a.csv"]);
  if (Deno.build.os !== "windows") assertEquals(calls.slice(3), ["sync ."]);
});

Deno.test("database backup syncs the file before its rename, and the folder after it", async () => {
  using folder = new TemporaryFolder();
  await (await openBackend({ connectionString: folder.sqlite("from.db"), sqliteDriver: "node:sqlite" }))
    .close();
  using files = new FileCalls(folder.path);
  const args = [folder.file("b.db"), "--connection-string", folder.sqlite("from.db"), "--format", "json"];
  await backup.run(await readArguments(args, backup.options));
  const calls = files.only("sync", "rename").map((call) => call.replaceAll(/\S+\.part/g, "part"));
  assertEquals(calls.slice(0, 2), ["sync part", "rename part b.db"]);
  if (Deno.build.os !== "windows") assertEquals(calls.slice(2), ["sync ."]);
});

Deno.test("DeadLetters has a dead letter on disk when append() resolves", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  using files = new FileCalls(folder.file("letters"));
  const file = "system_metrics.ndjson";
  const isWindows = Deno.build.os === "windows";
  for (const number of [1, 2]) {
    await letters.append({ batchId: `b${number}`, message: "no", record: metrics(number) });
    const isNew = number === 1 && !isWindows; // else a crash could leave a folder without the new file
    assertEquals(files.calls.splice(0), [
      `lock ${file}`,
      `write ${file}`,
      `sync ${file}`,
      ...(isNew ? ["sync ."] : []),
    ]);
  }
  await letters.drain(({ batchId }) => batchId === "b1");
  const drained = [`sync ${file}.new`, `rename ${file}.new ${file}`, ...(isWindows ? [] : ["sync ."])];
  assertEquals(files.only("sync", "rename"), drained);
});

Deno.test("Spool acknowledges a record when it and the name of its file are on disk", async () => {
  using folder = new TemporaryFolder();
  using files = new FileCalls(folder.path);
  const spool = await openSpool(folder.path, "batch");
  const file = "system_metrics/000000000001.journal";
  const isWindows = Deno.build.os === "windows";
  assert(isWindows || files.calls.includes("sync ."), "the name of the folder of the dataset");
  for (const number of [0, 1]) {
    await push(spool, number, number + 1);
    assert(files.isAfterLast(`sync ${file}`, `write ${file}`), files.calls.join());
    assert(isWindows || files.isAfterLast("sync system_metrics", `create ${file}`), files.calls.join());
  }
  await spool.close();
});

for (const [given, isSynced] of [[{}, true], [{ fsync: "none" }, false]] as const) {
  Deno.test(`ObservabilityHub has a spool as its configuration says (${JSON.stringify(given)})`, async () => {
    using folder = new TemporaryFolder();
    using files = new FileCalls(folder.file("spool/system_metrics"));
    const hub = await ObservabilityHub.open({
      connectionString: folder.sqlite(),
      sqliteDriver: "node:sqlite",
      spoolDirectory: folder.file("spool"),
      maxSpoolBytes: 100_000,
      ...given,
    });
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR });
    const file = "000000000001.journal";
    assertEquals(files.isAfterLast(`sync ${file}`, `write ${file}`), isSynced);
    for (let round = 0; round < 3; round++) { // each beyond an eighth of the spool
      const records = range(0, 50).map(() => ({ timestamp: NEW_YEAR, labels: { text: "x".repeat(300) } }));
      await Promise.all(records.map((record) => hub.collectSystemMetrics(record)));
    }
    assert(files.only("create").length > 1, "there is one segment");
    await hub.close();
  });
}

Deno.test("Spool with fsync interval syncs what it has acknowledged within a second or so", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.path, "interval");
  using files = new FileCalls(folder.file("system_metrics"));
  const file = "000000000001.journal";
  for (const round of [0, 1]) {
    await push(spool, round, round + 1);
    assert(files.isAfterLast(`write ${file}`, `sync ${file}`), "it is synced before it is acknowledged");
    await until(() => files.isAfterLast(`sync ${file}`, `write ${file}`), "a sync");
  }
  await spool.close();
});

Deno.test("Spool syncs a segment before the next segment is begun", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.path, "interval");
  using files = new FileCalls(folder.file("system_metrics"));
  for (let from = 0; from < 500; from += 100) await push(spool, from, from + 100); // each beyond 4 KiB
  const created = files.only("create").map((call) => call.slice("create ".length));
  assert(created.length > 3, created.join());
  for (const [i, name] of created.slice(1).entries()) {
    const before = files.calls.slice(0, files.calls.indexOf(`create ${name}`));
    assert(
      before.lastIndexOf(`sync ${created[i]}`) > before.lastIndexOf(`write ${created[i]}`),
      `${created[i]} is not synced before ${name}: ${before}`,
    );
  }
  await spool.close();
});

for (const fsync of ["interval", "none"] as const) {
  Deno.test(`Spool.close() syncs the journal with fsync ${fsync}`, async () => {
    using folder = new TemporaryFolder();
    const spool = await openSpool(folder.path, fsync);
    using files = new FileCalls(folder.file("system_metrics"));
    await push(spool, 0, 3);
    await spool.close();
    const file = "000000000001.journal";
    assert(files.isAfterLast(`sync ${file}`, `write ${file}`), files.calls.join());
  });
}

Deno.test("Spool removes a segment only when the cursor on disk is behind its records", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("system_metrics");
  const spool = await openSpool(folder.path, "batch");
  using files = new FileCalls(path);
  const removed: [end: number, cursor: number][] = [];
  files.beforeRemove = (file) => {
    if (file.endsWith(".journal")) removed.push([lastNumber(file), lastNumber(`${path}/cursor`)]);
  };
  const { promise: isHeld, resolve } = Promise.withResolvers<void>();
  files.beforeSync = (file) => file === "cursor.new" ? isHeld : undefined;
  for (const from of [0, 100, 200]) await push(spool, from, from + 100); // each in a segment of its own
  assertEquals((await spool.take()).length, 300);
  await spool.freeze(100);
  await spool.freeze(100);
  spool.acknowledge(); // its cursor takes long, and the next batch is settled meanwhile
  spool.acknowledge();
  assertEquals(removed, []);
  resolve();
  await until(() => removed.length === 2, "segments are removed");
  assertEquals(removed, [[100, 100], [200, 200]]);
  await spool.close();
});

/** The number after the last record of a file of the spool. */
function lastNumber(path: string): number {
  const bytes = Deno.readFileSync(path);
  let end = 0;
  for (let at = 0; at < bytes.length;) {
    const found = decodeFrame(bytes, at);
    if (typeof found !== "object" || !("frame" in found)) throw new Error(`no frame at ${at} of ${path}`);
    end = Math.max(end, found.frame.sequence + found.frame.count);
    at += found.length;
  }
  return end;
}

Deno.test("Spool and dead letters are files and folders that only their owner can read", async () => {
  if (Deno.build.os === "windows") return; // modes have no such meaning there
  using folder = new TemporaryFolder();
  const path = folder.file("spool/system_metrics");
  const sink = new LedgerSink();
  let isDown = false;
  sink.refuse = () => isDown ? never : undefined;
  const first = await open(folder.file("spool"), sink);
  await first.accept(metrics(1));
  await first.flush();
  isDown = true;
  await first.accept(metrics(2));
  await until(() => sink.attempts.length === 2, "a batch is on its way");
  await first.close({ deadlineMs: 0 }); // leaves a journal and a cursor
  Deno.writeTextFileSync(`${path}/000000000009.journal`, "garbage", { mode: 0o600 }); // goes into `damaged`
  const options = { directory: folder.file("spool"), database: "a", maxBytes: 65_536 };
  Deno.removeSync(`${path}/lock`);
  const spool = await Spool.open<SystemMetrics>(systemMetrics, { ...options, fsync: "batch", onEvent() {} });
  spool.attach({ onReady() {}, onRoom() {}, onTaken() {}, onMissing() {} });
  const letters = new DeadLetters(folder.file("spool/letters"), "system_metrics");
  for (const number of [1, 2]) {
    await letters.append({ batchId: `b${number}`, message: "no", record: metrics(number) });
  }
  const found = modesIn(folder.file("spool"));
  await letters.drain(({ batchId }) => batchId === "b1"); // writes the file again
  const names = found.map(([name]) => name.replace(/^.*-0000/, "damaged-0000"));
  for (const name of ["lock", "cursor", "reserve", "database", "damaged-000000000009.journal-0"]) {
    assert(names.includes(name), `${name} is not there: ${names}`);
  }
  assert(names.some((name) => name.endsWith(".journal")), names.join());
  for (const [name, isFolder, mode] of [...found, ...modesIn(folder.file("spool"))]) {
    assertEquals([name, mode.toString(8)], [name, isFolder ? "700" : "600"]);
  }
  await spool.close();
});

Deno.test("Spool moves files aside into a folder that only its owner can read", async () => {
  if (Deno.build.os === "windows") return; // modes have no such meaning there
  using folder = new TemporaryFolder();
  const path = folder.file("system_metrics");
  Deno.mkdirSync(path, { mode: 0o700 });
  const large = `${path}/000000000001.journal`;
  Deno.writeTextFileSync(large, "", { mode: 0o600 });
  Deno.truncateSync(large, 2 ** 30); // too large for a segment; it takes no space
  const spool = await openSpool(folder.path, "batch");
  const found = modesIn(path).filter(([name]) => name === "damaged" || name.endsWith("000000000001.journal"));
  assertEquals(found.map(([, , mode]) => mode.toString(8)), ["700", "600"]);
  await spool.close();
});

function modesIn(folder: string): [name: string, isFolder: boolean, mode: number][] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const { mode } = Deno.statSync(`${folder}/${name}`);
    const here: [string, boolean, number] = [name, isDirectory, mode! & 0o777];
    return isDirectory ? [here, ...modesIn(`${folder}/${name}`)] : [here];
  });
}

Deno.test("SqliteBackend writes with synchronous FULL on each of its connections", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("a.db");
  const driver = await loadSqliteDriver("auto");
  const synchronous = (database: Parameters<typeof queryAll>[0]) => queryAll(database, "PRAGMA synchronous");
  const first = openSqliteFile(driver, path, "create");
  const again = openOnceMore(driver, { path, inode: Deno.statSync(path).ino });
  assertEquals([synchronous(first), synchronous(again)], [[[2]], [[2]]]); // FULL with any default of the library
  for (const database of [first, again]) database.close();
  using reader = new DatabaseSync(path);
  assertEquals(reader.prepare("PRAGMA journal_mode").get()!.journal_mode, "wal");
});
