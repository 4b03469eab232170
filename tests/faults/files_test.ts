/** Files of a spool that fail, vanish or block a path, and the recovery by the next process. */
import { DatabaseSync } from "node:sqlite";
import type { TelemetryEvent } from "../../mod.ts";
import { BackendError, ConfigError } from "../../src/errors.ts";
import { DeadLetters } from "../../src/pipeline/dead_letters.ts";
import { decodeFrame, FrameKind, HEADER_BYTES } from "../../src/spool/frame.ts";
import { type FsyncPolicy, Spool } from "../../src/spool/spool.ts";
import { type SystemMetrics, systemMetrics } from "../../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { crash, LedgerSink, metrics, never, obstruct, open, range } from "../spooled.ts";
import { Load, storedNumbers } from "./load.ts";
import { inTime, until } from "../until.ts";

/** About the size of a record of `metrics()`. */
const RECORD_BYTES = 250;

const NO_DEADLINE = { deadlineMs: 30_000 };

/** Has attempts to open a file fail as long as it is told to; waits before another attempt take no time. */
function failToOpen(isFailing: (path: string, options?: Deno.OpenOptions) => boolean): Disposable {
  const { open } = Deno;
  const { random } = Math;
  Math.random = () => 0;
  Deno.open = (path, options) =>
    isFailing(String(path), options)
      ? Promise.reject(new Error(`Too many open files (os error 24): open '${path}'`))
      : open(path, options);
  return {
    [Symbol.dispose]() {
      Deno.open = open;
      Math.random = random;
    },
  };
}

/** Has something done instead of each sync of a file; it is given what syncs. */
function insteadOfSync(run: (sync: () => Promise<void>) => Promise<void>): Disposable {
  const { syncData } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.syncData = function () {
    return run(() => syncData.call(this));
  };
  return {
    [Symbol.dispose]() {
      Deno.FsFile.prototype.syncData = syncData;
    },
  };
}

const isJournal = (path: string) => path.endsWith(".journal");

/** The journal's files in the folder of the dataset, oldest first. */
function journals(folder: string): string[] {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter(isJournal);
  return names.sort().map((name) => `${folder}/${name}`);
}

/** A spool by itself, without a pipeline. */
async function openSpool(
  { path: directory }: TemporaryFolder,
  onMissing = (_records: number) => {},
): Promise<Spool<SystemMetrics>> {
  const options = { directory, maxBytes: 2 ** 23, fsync: "batch", onEvent() {} } as const;
  const spool = await Spool.open<SystemMetrics>(systemMetrics, options);
  return spool.attach({ onReady() {}, onRoom() {}, onTaken() {}, onMissing });
}

function flipBit(path: string, offset: number): void {
  const bytes = Deno.readFileSync(path);
  bytes[offset] ^= 1;
  Deno.writeFileSync(path, bytes);
}

Deno.test("Spool refuses another database until its `database` file is removed", async () => {
  using folder = new TemporaryFolder();
  const events: TelemetryEvent[] = [];
  const openAt = (name: string) =>
    Load.open({
      connectionString: folder.sqlite(name),
      sqliteDriver: "node:sqlite",
      spoolDirectory: folder.file("spool"),
      onEvent: (event) => events.push(event),
    });
  const first = await openAt("a.db");
  await first.add(5);
  assertEquals((await first.hub.close()).committed, 5);
  const second = await openAt("b.db"); // nothing was left, so it is anybody's
  const table = new DatabaseSync(folder.file("b.db"));
  table.exec("DROP TABLE system_metrics");
  table.close();
  await second.add(5);
  assertEquals((await second.hub.close({ deadlineMs: 20 })).spooled, 5);
  events.length = 0;
  const third = await openAt("a.db");
  const [told, ...others] = events;
  assert(told.type === "spool-unusable" && told.error instanceof ConfigError && others.length === 0);
  for (const name of ["a.db", "b.db", "spool/system_metrics/database"]) {
    assert(told.message.includes(folder.file(name)), told.message);
  }
  await third.add(3); // the program goes on in memory
  assertEquals((await third.hub.close()).committed, 3);
  Deno.removeSync(folder.file("spool/system_metrics/database")); // as it says
  const fourth = await openAt("a.db");
  await fourth.hub.flush();
  assertEquals((await fourth.hub.close()).committed, 5);
  assertEquals((await storedNumbers(folder.sqlite("a.db"))).length, 13);
});

Deno.test("Spool loses nothing when a segment briefly cannot be opened for reading", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const gate = Promise.withResolvers<undefined>();
  sink.refuse = () => gate.promise;
  const events: TelemetryEvent[] = [];
  const onEvent = (event: TelemetryEvent) => void events.push(event);
  const pipeline = await open(folder.file("spool"), sink, { maxBytes: 2 ** 23, onEvent });
  for (let round = 0; round < 40; round++) {
    await Promise.all(range(0, 1_000).map((i) => pipeline.accept(metrics(1_000 * round + i))));
  }
  assert(pipeline.stats().spooled > 10_000, JSON.stringify(pipeline.stats()));
  let reads = 0;
  using _ = failToOpen((path, options) => isJournal(path) && !options?.write && ++reads === 2);
  gate.resolve(undefined);
  await inTime(pipeline.flush(), "all is read back");
  assert(reads > 2, `${reads} attempts to read`);
  assertEquals(sink.numbers, range(0, 40_000));
  assertEquals(events.map(({ type }) => type), ["paused", "resumed"]);
  assertEquals((await pipeline.close(NO_DEADLINE)).lost, 0);
});

Deno.test("Spool keeps a segment that briefly cannot be opened at the start", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  first.refuse = () => never;
  const pipeline = await open(folder.file("spool"), first);
  await Promise.all(range(0, 10).map((number) => pipeline.accept(metrics(number))));
  await pipeline.close({ deadlineMs: 0 });
  const second = new LedgerSink();
  const events: TelemetryEvent[] = [];
  let reads = 0;
  using _ = failToOpen((path, options) => isJournal(path) && !options?.write && ++reads === 1);
  const next = await open(folder.file("spool"), second, { onEvent: (event) => events.push(event) });
  await next.flush();
  assertEquals(second.numbers, range(0, 10));
  assertEquals(events, []);
  await next.close(NO_DEADLINE);
});

Deno.test("Spool never reuses the number of a damaged record in a frozen batch", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  first.refuse = (batch) => { // it is written, but the process ends before anybody hears of it
    first.ledger.set(batch.id, batch.records as SystemMetrics[]);
    return never;
  };
  const pipeline = await open(folder.file("spool"), first);
  await Promise.all(range(0, 20).map((number) => pipeline.accept(metrics(number))));
  await until(() => first.ledger.size > 0, "the batch is written");
  assertEquals(first.numbers, range(0, 20));
  const damaged = crash(folder);
  flipBit(journals(`${damaged}/system_metrics`)[0], HEADER_BYTES + 20);
  const second = new LedgerSink(first);
  second.refuse = () => never;
  const next = await open(damaged, second);
  await Promise.all(range(100, 110).map((number) => next.accept(metrics(number))));
  await until(() => second.attempts.length > 0, "the later records are on their way");
  const third = new LedgerSink(first);
  const last = await open(crash(folder, damaged), third);
  await last.flush();
  assertEquals(third.numbers, [...range(0, 20), ...range(100, 110)]);
  await last.close(NO_DEADLINE);
  for (const killed of [pipeline, next]) await killed.close({ deadlineMs: 0 });
});

Deno.test("Spool frees a segment when all records of its batch are damaged", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  first.refuse = () => never;
  const maxBytes = 65_536; // so that records beyond 8 KiB and the frame of their batch are in two segments
  const pipeline = await open(folder.file("spool"), first, { maxBytes });
  await Promise.all(range(0, 200).map((number) => pipeline.accept(metrics(number))));
  await until(() => first.attempts.length > 0, "the batch is frozen");
  const copy = crash(folder);
  const files = journals(`${copy}/system_metrics`);
  assertEquals(files.length, 2);
  flipBit(files[0], HEADER_BYTES + 20);
  const second = new LedgerSink();
  const next = await open(copy, second, { maxBytes });
  for (let round = 0; round < 20; round++) {
    await Promise.all(range(0, 100).map((i) => next.accept(metrics(1_000 + 100 * round + i))));
  }
  await next.close(NO_DEADLINE);
  assertEquals(second.numbers, range(1_000, 3_000));
  assertEquals(journals(`${copy}/system_metrics`), []);
  await pipeline.close({ deadlineMs: 0 });
});

Deno.test("Spool reads back only complete records when a segment was emptied", async () => {
  using folder = new TemporaryFolder();
  let missing = 0;
  const spool = await openSpool(folder, (records) => missing += records);
  let pushed = 0;
  const push = (count: number) =>
    Promise.all(range(pushed, pushed += count).map((number) => spool.push(metrics(number), RECORD_BYTES)));
  while (spool.spooled < 30_000) await push(1_000);
  Deno.truncateSync(journals(folder.file("system_metrics")).at(-2)!, 0);
  const found: number[] = [];
  const takeAll = async () => {
    while (!spool.isEmpty) found.push(...(await spool.take()).map((record) => record.activeConnections!));
  };
  const isOnDisk = Promise.withResolvers<void>();
  using _ = insteadOfSync((sync) => isOnDisk.promise.then(sync));
  const last = push(500);
  const before = spool.bytes;
  await until(() => spool.bytes > before, "records are in the file");
  await takeAll();
  assert(missing > 0, "the segment is not missed");
  assertEquals(found.filter((number) => number >= pushed - 500), []);
  isOnDisk.resolve();
  await last;
  await takeAll();
  assertEquals(found.slice(-500), range(pushed - 500, pushed));
  assertEquals([new Set(found).size, found.length + missing], [found.length, pushed]);
  await spool.close();
});

for (const fsync of ["batch", "interval"] as const satisfies FsyncPolicy[]) {
  Deno.test(`Spool with fsync ${fsync} has the batch on disk before the backend gets it`, async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("spool/system_metrics/000000000001.journal");
    let synced = 0;
    using _ = insteadOfSync(async (sync) => {
      const { size } = Deno.statSync(file);
      await sync();
      synced = size;
    });
    const sink = new LedgerSink();
    const onDisk: string[] = [];
    sink.refuse = () => {
      onDisk.push(...batchIds(Deno.readFileSync(file).subarray(0, synced)));
      return undefined;
    };
    const pipeline = await open(folder.file("spool"), sink, { fsync });
    await pipeline.accept(metrics(1));
    await pipeline.flush();
    assertEquals(onDisk, sink.attempts);
    await pipeline.close(NO_DEADLINE);
  });
}

/** The ids of the batches that are frozen in a journal. */
function batchIds(bytes: Uint8Array): string[] {
  const ids: string[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const found = decodeFrame(bytes, offset);
    if (typeof found !== "object" || !("frame" in found)) throw new Error(`no frame at ${offset}`);
    if (found.frame.kind === FrameKind.BATCH) ids.push(found.frame.payload);
    offset += found.length;
  }
  return ids;
}

Deno.test("Spool.close() ends at its deadline when the spool is not writable", async () => {
  using folder = new TemporaryFolder();
  const pipeline = await open(folder.file("spool"), new LedgerSink());
  obstruct(folder, "spool");
  const refused = assertRejects(() => pipeline.accept(metrics(1)), BackendError, "Cannot write");
  await until(() => pipeline.stats().alarm !== undefined, "the alarm is raised");
  const { lost } = await inTime(pipeline.close({ deadlineMs: 0 }), "it is closed");
  assertEquals(lost, 1);
  await refused;
});

Deno.test("Spool.close() gives up waiting records when the spool fails during close", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder);
  obstruct(folder, "system_metrics");
  const refused = assertRejects(() => spool.push(metrics(1), RECORD_BYTES), BackendError, "Cannot write");
  await inTime(spool.close(), "it is closed"); // begun before the first attempt to write
  await refused;
  assertEquals(spool.unwritten, 1);
});

Deno.test("Spool with drop-oldest keeps the newest records across a restart", async () => {
  using folder = new TemporaryFolder();
  const given = { maxBytes: 65_536, overflow: "drop-oldest" } as const;
  const down = new LedgerSink();
  down.refuse = () => never;
  const first = await open(folder.file("spool"), down, given);
  await Promise.all(range(0, 20).map((number) => first.accept(metrics(number))));
  await until(() => down.attempts.length === 1, "a batch is frozen");
  await first.close({ deadlineMs: 0 });
  const second = await open(folder.file("spool"), down, given);
  await until(() => down.attempts.length === 2, "the batch is on its way again");
  for (let round = 0; round < 100; round++) {
    await Promise.all(range(0, 50).map((i) => second.accept(metrics(1_000 + 50 * round + i))));
  }
  const { accepted, dropped } = second.stats();
  assert(dropped > 0, "nothing was dropped");
  await second.close({ deadlineMs: 0 });
  const up = new LedgerSink();
  const third = await open(folder.file("spool"), up);
  await third.flush();
  assertEquals(up.numbers.length, accepted - dropped);
  assertEquals(up.numbers.slice(0, 20), range(0, 20));
  assertEquals(up.numbers.slice(20), range(6_000 - (up.numbers.length - 20), 6_000));
  await third.close(NO_DEADLINE);
});

Deno.test("Spool with drop-oldest drops nothing in a burst while the disk has room", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const pipeline = await open(folder.file("spool"), sink, { maxBytes: 2 ** 26, overflow: "drop-oldest" });
  await Promise.all(range(0, 30_000).map((number) => pipeline.accept(metrics(number))));
  await pipeline.flush();
  assertEquals(pipeline.stats().dropped, 0);
  assertEquals(sink.numbers, range(0, 30_000));
  await pipeline.close(NO_DEADLINE);
});

for (const name of ["cursor", "cursor.new", "reserve"]) {
  Deno.test(`Spool moves a folder aside when it is in place of ${name}`, async () => {
    using folder = new TemporaryFolder();
    const path = folder.file(`spool/system_metrics/${name}`);
    Deno.mkdirSync(`${path}/kept`, { recursive: true });
    const sink = new LedgerSink();
    const pipeline = await open(folder.file("spool"), sink, { maxBytes: 65_536 });
    const adding = (async () => {
      for (let round = 0; round < 60; round++) {
        await Promise.all(range(0, 50).map((i) => pipeline.accept(metrics(50 * round + i))));
      }
    })();
    await inTime(adding, "there is room for all");
    await pipeline.close(NO_DEADLINE);
    assertEquals(sink.numbers, range(0, 3_000));
    const [{ name: aside }] = Deno.readDirSync(folder.file("spool/system_metrics/damaged"));
    assert(Deno.statSync(folder.file(`spool/system_metrics/damaged/${aside}/kept`)).isDirectory);
  });
}

Deno.test("Spool raises one alarm when writes fail with different messages", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const events: TelemetryEvent[] = [];
  const pipeline = await open(folder.file("spool"), sink, { onEvent: (event) => events.push(event) });
  const tried: string[] = [];
  using _ = failToOpen((path) => isJournal(path) && tried.push(path) <= 5);
  await pipeline.accept(metrics(1));
  assert(new Set(tried).size > 5, `the same file is tried: ${tried}`); // so each failure tells of another one
  assertEquals(events.map(({ type }) => type), ["paused", "resumed"]);
  await pipeline.close(NO_DEADLINE);
  assertEquals(sink.numbers, [1]);
});

Deno.test("DeadLetters keeps an invalid line when the others are retried", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  for (const number of [1, 2, 3]) {
    const record = metrics(number);
    await letters.append({ batchId: `b${number}`, message: "no", sqlState: undefined, record });
  }
  const edited = Deno.readTextFileSync(letters.path).split("\n");
  edited[1] = edited[1].replace('"activeConnections":2', '"activeConnections":2,');
  Deno.writeTextFileSync(letters.path, edited.join("\n"));
  assertEquals(await letters.drain(({ batchId }) => batchId === "b1"), { gone: 1, left: 2 });
  assertEquals(Deno.readTextFileSync(letters.path).split("\n"), [edited[1], edited[2]]);
  assertEquals(await letters.drain(() => true), { gone: 1, left: 1 });
  assertEquals(Deno.readTextFileSync(letters.path), edited[1]);
});

Deno.test("DeadLetters gives a letter that crashes repeated once, and an edited one beside it", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  const numbers = [1, 2, 1, 2, 1];
  for (const number of numbers) {
    await letters.append({
      batchId: `b${number}`,
      message: `at ${performance.now()}`,
      record: metrics(number),
    });
  }
  await letters.append({ batchId: "b1", message: "edited", record: metrics(3) });
  const found = await Array.fromAsync(letters.list());
  assertEquals(found.map(({ record }) => (record as SystemMetrics).activeConnections), [1, 2, 3]);
  const stray = ["null", "7", '{"batchId":"b9"}', '{"batchId":"b9","dataset":"other","record":{}}'];
  Deno.writeTextFileSync(letters.path, `\n${stray.join("\n")}`, { append: true });
  assertEquals(await letters.drain(({ batchId }) => batchId === "b1"), { gone: 2, left: 5 });
  assertEquals((await Array.fromAsync(letters.list())).map(({ batchId }) => batchId), ["b2"]);
  assertEquals(Deno.readTextFileSync(letters.path).split("\n").slice(1), stray);
  assertEquals([...Deno.readDirSync(folder.file("letters"))].map(({ name }) => name), [
    "system_metrics.ndjson",
  ]);
});

Deno.test("DeadLetters keeps its file when retrying ends with an error", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  for (const number of [1, 2]) {
    await letters.append({ batchId: `b${number}`, message: "no", record: metrics(number) });
  }
  const before = Deno.readTextFileSync(letters.path);
  const down = new BackendError("down", {
    code: "CONNECTION_REFUSED",
    operation: "write",
    kind: "transient",
  });
  const settle = ({ batchId }: { batchId: string }) => {
    if (batchId === "b2") throw down;
    return false;
  };
  assertEquals(await letters.drain(settle).catch((error) => error), down);
  assertEquals(Deno.readTextFileSync(letters.path), before);
  assertEquals([...Deno.readDirSync(folder.file("letters"))].length, 1);
});
