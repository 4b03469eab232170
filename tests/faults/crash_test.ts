/** What a process leaves in its spool when it ends at the worst moment, or when a sync fails. */
import { BackendError, type FailureKind } from "../../src/errors.ts";
import { type SystemMetrics, systemMetrics } from "../../src/records/system_metrics.ts";
import { decodeFrame, type Frame, FrameKind, HEADER_BYTES } from "../../src/spool/frame.ts";
import { type FsyncPolicy, Spool } from "../../src/spool/spool.ts";
import type { Pipeline } from "../../src/pipeline/pipeline.ts";
import { assert, assertEquals } from "../assert.ts";
import { FileCalls } from "../file_calls.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { crash, LedgerSink, metrics, never, open, range } from "../spooled.ts";
import { until } from "../until.ts";

const NO_DEADLINE = { deadlineMs: 30_000 };
const RECORD_BYTES = 250;

const failure = (kind: FailureKind) =>
  new BackendError("refused", { code: "BACKEND_FAILED", operation: "write", kind });
const numberOf = (record: unknown) => (record as SystemMetrics).activeConnections!;
const journals = (folder: string) =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".journal")).sort();

function framesIn(bytes: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length;) {
    const found = decodeFrame(bytes, at);
    if (typeof found !== "object" || !("frame" in found)) throw new Error(`no frame at ${at}`);
    frames.push(found.frame);
    at += found.length;
  }
  return frames;
}

/** A spool by itself, without a pipeline that takes records out of it. */
async function openSpool(
  directory: string,
  given: { maxBytes?: number; fsync?: FsyncPolicy } = {},
): Promise<Spool<SystemMetrics>> {
  const options = { directory, maxBytes: 2 ** 20, fsync: "batch", onEvent() {}, ...given } as const;
  const spool = await Spool.open<SystemMetrics>(systemMetrics, options);
  return spool.attach({ onReady() {}, onRoom() {}, onTaken() {}, onMissing() {} });
}

const push = (spool: Spool<SystemMetrics>, from: number, to: number) =>
  Promise.all(range(from, to).map((number) => spool.push(metrics(number), RECORD_BYTES)));

/** Has a pipeline try again at once until something is so. */
const hurry = (pipeline: Pipeline<SystemMetrics>, isSo: () => boolean, what: string) =>
  until(() => {
    void pipeline.flush().catch(() => {});
    return isSo();
  }, what);

/** Has ten minutes have passed, after which a failure of unknown cause may be a record's. */
function tenMinutesLater(): Disposable {
  const { now } = performance;
  performance.now = () => now.call(performance) + 700_000;
  return { [Symbol.dispose]: () => performance.now = now };
}

Deno.test("Spool acknowledges no record whose sync has failed, and writes it again once", async () => {
  using folder = new TemporaryFolder();
  using files = new FileCalls(folder.file("spool/system_metrics"));
  const spool = await openSpool(folder.file("spool"));
  await push(spool, 0, 2);
  let failures = 0;
  files.beforeSync = (path) => {
    if (path.endsWith(".journal") && failures < 2) {
      failures++;
      return Promise.reject(new Error("Input/output error (os error 5)"));
    }
  };
  const acknowledged: number[] = [];
  await Promise.all(
    range(2, 4).map((number) =>
      spool.push(metrics(number), RECORD_BYTES).then(() => {
        assertEquals(failures, 2);
        acknowledged.push(number);
      })
    ),
  );
  assertEquals(acknowledged, [2, 3]);
  // What a failed sync leaves on disk is not known: nothing that is acknowledged comes behind it.
  const paths = journals(folder.file("spool/system_metrics"));
  assertEquals(paths.length, 3);
  const synced = files.only("sync").filter((call) => call.endsWith(".journal"));
  assertEquals(synced, [`sync ${paths[0]}`, `sync ${paths[2]}`]);
  const sink = new LedgerSink();
  const next = await open(crash(folder), sink);
  assertEquals(next.stats().accepted, 4);
  await next.flush();
  assertEquals(sink.numbers, range(0, 4));
  await next.close(NO_DEADLINE);
  await spool.close();
});

Deno.test("Spool cuts off half a frame that could not be written", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.file("spool"));
  await push(spool, 0, 2);
  const [first] = journals(folder.file("spool/system_metrics"));
  const path = folder.file(`spool/system_metrics/${first}`);
  const { size } = Deno.statSync(path);
  const { write } = Deno.FsFile.prototype;
  let calls = 0;
  Deno.FsFile.prototype.write = function (bytes) {
    if (++calls === 2) return Promise.reject(new Error("Input/output error (os error 5)"));
    return write.call(this, calls === 1 ? bytes.subarray(0, bytes.length >> 1) : bytes);
  };
  try {
    await push(spool, 2, 4);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assertEquals(Deno.statSync(path).size, size);
  const events: string[] = [];
  const sink = new LedgerSink();
  const next = await open(crash(folder), sink, { onEvent: ({ type }) => events.push(type) });
  await next.flush();
  assertEquals([sink.numbers, events], [range(0, 4), []]);
  await next.close(NO_DEADLINE);
  await spool.close();
});

for (const kind of ["data", "unknown"] as const) {
  Deno.test(`Spool has a split on disk before a half is written (${kind})`, async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("spool/system_metrics/000000000001.journal");
    using files = new FileCalls(folder.file("spool/system_metrics"));
    let synced = 0;
    let size = 0;
    files.beforeSync = (path) => {
      if (path.endsWith(".journal")) size = Deno.statSync(file).size;
    };
    const onDisk = () => {
      const written = files.calls.lastIndexOf("write 000000000001.journal");
      synced = files.calls.lastIndexOf("sync 000000000001.journal") > written ? size : synced;
      return framesIn(Deno.readFileSync(file).subarray(0, synced));
    };
    const sink = new LedgerSink();
    const halves: string[] = [];
    sink.refuse = ({ id, records }) => {
      synced = 0;
      if (id.includes("/")) {
        const whole = id.slice(0, id.lastIndexOf("/"));
        const splits = onDisk().filter(({ kind }) => kind === FrameKind.SPLIT).map(({ payload }) => payload);
        assert(splits.includes(whole), `${id} is written, and on disk are the splits ${splits}`);
        halves.push(id);
      }
      return records.length > 1 ? Promise.resolve(failure(kind)) : undefined;
    };
    const pipeline = await open(folder.file("spool"), sink);
    const accepted = Promise.all(range(0, 4).map((number) => pipeline.accept(metrics(number))));
    await accepted;
    await until(() => sink.attempts.length > 0, "an attempt");
    using _ = tenMinutesLater();
    await hurry(pipeline, () => sink.numbers.length === 4, "all is written");
    assert(halves.length >= 6, halves.join());
    assertEquals(sink.numbers, range(0, 4));
    await pipeline.close(NO_DEADLINE);
  });
}

Deno.test("Pipeline writes no batch ahead of its turn as a whole after it was split", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.file("spool"));
  await push(spool, 0, 5);
  await spool.take();
  await spool.freeze(1);
  const [{ id }] = await spool.freeze(4);
  await spool.split(id);
  const copy = crash(folder); // the first half of the second batch is stored
  const sink = new LedgerSink();
  sink.ledger.set(`${id}/0`, [1, 2].map(metrics));
  sink.refuse = ({ records: [record] }) =>
    numberOf(record) === 0 ? Promise.resolve(failure("unknown")) : undefined;
  const next = await open(copy, sink);
  {
    await until(() => sink.attempts.length > 0, "an attempt");
    using _ = tenMinutesLater();
    await hurry(next, () => next.stats().deadLettered === 1, "the first record is given up");
  }
  await next.flush();
  assertEquals(sink.numbers, range(1, 5));
  assert(!sink.attempts.includes(id), sink.attempts.join());
  await next.close(NO_DEADLINE);
  await spool.close();
});

Deno.test("Spool settles no batch before the backend has replied", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const gate = Promise.withResolvers<undefined>();
  sink.refuse = () => gate.promise;
  const pipeline = await open(folder.file("spool"), sink);
  using files = new FileCalls(folder.file("spool/system_metrics"));
  await pipeline.accept(metrics(0));
  await until(() => sink.attempts.length > 0, "an attempt");
  await pipeline.accept(metrics(1)); // what was asked of the disk before this is done
  assertEquals(files.only("rename", "remove"), []);
  gate.resolve(undefined);
  await pipeline.flush();
  await until(() => files.calls.includes("rename cursor.new cursor"), "the cursor");
  await pipeline.close(NO_DEADLINE);
  assertEquals(sink.numbers, [0, 1]);
});

Deno.test("Spool keeps a segment that holds only batch frames through two crashes", async () => {
  using folder = new TemporaryFolder();
  const given = { maxBytes: 4_096 } as const; // segments of 512 bytes: records and their batch are in two
  const first = new LedgerSink();
  first.refuse = (batch) => { // it is written, but the reply is lost
    first.ledger.set(batch.id, batch.records as SystemMetrics[]);
    return never;
  };
  const pipeline = await open(folder.file("spool"), first, given);
  await Promise.all(range(0, 10).map((number) => pipeline.accept(metrics(number))));
  await until(() => first.ledger.size > 0, "the batch is written");
  let copy = crash(folder);
  const kinds = journals(`${copy}/system_metrics`).map((name) =>
    framesIn(Deno.readFileSync(`${copy}/system_metrics/${name}`)).map(({ kind }) => kind)
  );
  assertEquals(kinds, [[FrameKind.RECORDS], [FrameKind.BATCH]]);
  const crashed = [pipeline];
  for (let round = 0; round < 2; round++) {
    const sink = new LedgerSink();
    sink.refuse = () => never;
    const next = await open(copy, sink, given);
    await until(() => sink.attempts.length > 0, "the batch is tried again");
    assertEquals(sink.attempts, first.attempts);
    crashed.push(next);
    copy = crash(folder, copy);
  }
  const last = new LedgerSink(first);
  const next = await open(copy, last, given);
  await next.flush();
  assertEquals(last.numbers, range(0, 10));
  await next.close(NO_DEADLINE);
  for (const killed of crashed) await killed.close({ deadlineMs: 0 });
});

Deno.test("Spool keeps a segment that holds only a split through two crashes", async () => {
  using folder = new TemporaryFolder();
  const given = { maxBytes: 600 } as const; // segments of 75 bytes: each frame is in one of its own
  const first = new LedgerSink();
  first.refuse = ({ id }) => {
    if (id.endsWith("/1")) return never; // the first half is stored, and then the process ends
    return id.includes("/") ? undefined : Promise.resolve(failure("data"));
  };
  const pipeline = await open(folder.file("spool"), first, given);
  await Promise.all(range(0, 2).map((number) => pipeline.accept(metrics(number))));
  await until(() => first.attempts.length === 3, "the second half is tried");
  assertEquals(first.numbers, [0]);
  let copy = crash(folder);
  assertEquals(journals(`${copy}/system_metrics`).length, 3);
  const crashed = [pipeline];
  for (let round = 0; round < 2; round++) {
    const sink = new LedgerSink();
    sink.refuse = () => never;
    const next = await open(copy, sink, given);
    await until(() => sink.attempts.length > 0, "a half is tried again");
    assertEquals(sink.attempts, [`${first.attempts[0]}/0`]);
    crashed.push(next);
    copy = crash(folder, copy);
  }
  const last = new LedgerSink(first);
  const next = await open(copy, last, given);
  await next.flush();
  assertEquals(last.numbers, [0, 1]);
  await next.close(NO_DEADLINE);
  for (const killed of crashed) await killed.close({ deadlineMs: 0 });
});

for (const what of ["a record is damaged", "a file is too large to read"] as const) {
  Deno.test(`Spool leaves numbers out after ${what}, for records that come back by hand`, async () => {
    using folder = new TemporaryFolder();
    const first = await openSpool(folder.file("spool"));
    await push(first, 0, 10);
    await push(first, 10, 20);
    const copy = crash(folder);
    await first.close();
    const path = `${copy}/system_metrics/000000000001.journal`;
    const bytes = Deno.readFileSync(path);
    const found = decodeFrame(bytes, 0);
    assert(typeof found === "object" && "frame" in found);
    if (what === "a record is damaged") {
      bytes[found.length + HEADER_BYTES + 5] ^= 1; // in the second frame
      Deno.writeFileSync(path, bytes);
    } else {
      Deno.writeFileSync(path, bytes.subarray(0, found.length));
      Deno.writeFileSync(`${copy}/system_metrics/000000000002.journal`, bytes.subarray(found.length));
      Deno.truncateSync(`${copy}/system_metrics/000000000002.journal`, 2 ** 30); // it takes no space
    }
    const second = await openSpool(copy);
    await push(second, 100, 105);
    const numbers = journals(`${copy}/system_metrics`)
      .flatMap((name) => framesIn(Deno.readFileSync(`${copy}/system_metrics/${name}`).subarray(0, 2 ** 16)))
      .filter(({ kind }) => kind === FrameKind.RECORDS).map(({ sequence }) => sequence);
    assertEquals(numbers[0], 0);
    assert(numbers.length === 2 && numbers[1] >= 20, numbers.join());
    assert(numbers[1] + 1e6 < Number.MAX_SAFE_INTEGER, numbers.join());
    await second.close();
  });
}

Deno.test("Spool leaves bytes where they are when they cannot be moved aside", async () => {
  using folder = new TemporaryFolder();
  const first = await openSpool(folder.file("spool"));
  await push(first, 0, 3);
  const copy = crash(folder);
  await first.close();
  const path = `${copy}/system_metrics/000000000001.journal`;
  Deno.writeTextFileSync(path, "half a frame", { append: true });
  const before = Deno.readFileSync(path);
  Deno.writeTextFileSync(`${copy}/system_metrics/damaged`, ""); // in place of the folder
  const sink = new LedgerSink();
  sink.refuse = () => never;
  const next = await open(copy, sink);
  await until(() => sink.attempts.length > 0, "an attempt");
  assertEquals(Deno.readFileSync(path).subarray(0, before.length), before);
  await next.close({ deadlineMs: 0 });
});

Deno.test("Spool.close() leaves a batch that is settled too late to the next process", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const gate = Promise.withResolvers<undefined>();
  sink.refuse = () => gate.promise;
  const pipeline = await open(folder.file("spool"), sink);
  await pipeline.accept(metrics(1));
  await until(() => sink.attempts.length > 0, "an attempt");
  assertEquals((await pipeline.close({ deadlineMs: 0 })).spooled, 1);
  const held = new LedgerSink();
  held.refuse = () => never;
  const next = await open(folder.file("spool"), held); // the folder is another process's now
  await until(() => held.attempts.length > 0, "an attempt");
  using files = new FileCalls(folder.file("spool/system_metrics"));
  gate.resolve(undefined);
  await until(() => sink.ledger.size > 0, "the late write");
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(files.calls, []);
  await next.close({ deadlineMs: 0 });
});

/**
 * A spool with segments of 512 bytes: the records of a frozen batch, its frame with records that wait, and two with records
 * that wait. A crash leaves the same.
 */
async function openInUse(folder: TemporaryFolder): Promise<{ spool: Spool<SystemMetrics>; id: string }> {
  const spool = await openSpool(folder.file("spool"), { maxBytes: 4_096 });
  await push(spool, 0, 10);
  await spool.take();
  const [{ id }] = await spool.freeze(10);
  for (const [from, to] of [[10, 16], [16, 30], [30, 40]]) await push(spool, from, to);
  const kinds = journals(folder.file("spool/system_metrics")).map((name) =>
    framesIn(Deno.readFileSync(folder.file(`spool/system_metrics/${name}`))).map(({ kind }) => kind)
  );
  const { RECORDS, BATCH } = FrameKind;
  assertEquals(kinds, [[RECORDS], [BATCH, RECORDS], [RECORDS], [RECORDS]]);
  return { spool, id };
}

Deno.test("Spool with drop-oldest removes no segment that a batch on its way needs", async () => {
  using folder = new TemporaryFolder();
  const { spool, id } = await openInUse(folder);
  const files = () => journals(folder.file("spool/system_metrics")).map((name) => Number(name.slice(0, 12)));
  assertEquals(spool.dropOldest(), 20); // all that waits up to the end of the third
  await until(() => files().length === 3, "a segment is removed");
  assertEquals(files(), [1, 2, 4]);
  assertEquals(spool.dropOldest(), 0); // the last is being written
  const sink = new LedgerSink();
  const next = await open(crash(folder), sink);
  await next.flush();
  assertEquals(sink.ledger.get(id)?.map(numberOf), range(0, 10));
  assertEquals(sink.numbers.filter((number) => number >= 30), range(30, 40));
  await next.close(NO_DEADLINE);
  await spool.close();
});

Deno.test("Spool with drop-oldest drops nothing before it goes on with what an earlier process froze", async () => {
  using folder = new TemporaryFolder();
  const { spool, id } = await openInUse(folder);
  const copy = crash(folder);
  const next = await openSpool(copy, { maxBytes: 4_096 });
  assertEquals([next.dropOldest(), journals(`${copy}/system_metrics`).length], [0, 4]);
  const frozen: string[] = [];
  for await (const batch of next.frozen()) {
    frozen.push(batch.id);
    assertEquals(batch.records.map(numberOf), range(0, 10));
  }
  assertEquals(frozen, [id]);
  assertEquals(next.dropOldest(), 20);
  await next.close();
  await spool.close();
});

Deno.test("Spool with drop-oldest drops nothing while records are read back or wait for the disk", async () => {
  using folder = new TemporaryFolder();
  using files = new FileCalls(folder.file("spool/system_metrics"));
  const spool = await openSpool(folder.file("spool"), { maxBytes: 2 ** 24 }); // segments of some 25,000 records
  for (let from = 0; from < 60_000; from += 1_000) await push(spool, from, from + 1_000);
  const found = [...await spool.take()];
  assertEquals(found.length, 10_000); // the others are on disk only
  const reading = spool.take();
  assertEquals(spool.dropOldest(), 0);
  found.push(...await reading);
  while (!spool.isEmpty) found.push(...await spool.take());
  assertEquals(found.map(numberOf), range(0, 60_000));
  for (let from = 60_000; from < 110_000; from += 1_000) await push(spool, from, from + 1_000);
  const { promise: isHeld, resolve } = Promise.withResolvers<void>();
  files.beforeSync = () => isHeld;
  const waiting = push(spool, 110_000, 120_000);
  assertEquals([spool.room, spool.dropOldest()], ["busy", 0]);
  resolve();
  await waiting;
  assert(spool.dropOldest() > 0, "nothing is dropped");
  await spool.close();
});

Deno.test("Spool numbers no record like one of a frozen batch whose file is gone", async () => {
  using folder = new TemporaryFolder();
  const { spool, id } = await openInUse(folder);
  const copy = crash(folder);
  for (const name of journals(`${copy}/system_metrics`)) {
    const path = `${copy}/system_metrics/${name}`;
    const frames = framesIn(Deno.readFileSync(path));
    if (frames.every(({ kind }) => kind === FrameKind.RECORDS)) Deno.removeSync(path);
    else Deno.truncateSync(path, HEADER_BYTES + id.length); // the frame of the batch is all that is left
  }
  const first = new LedgerSink();
  first.refuse = () => never;
  const next = await open(copy, first);
  await next.accept(metrics(100));
  await until(() => first.attempts.length > 0, "an attempt");
  assert(!first.attempts.includes(id), first.attempts.join());
  const last = new LedgerSink();
  last.ledger.set(id, range(0, 10).map(metrics)); // as it was stored
  const again = await open(crash(folder, copy), last);
  await again.flush();
  assertEquals(last.numbers, [...range(0, 10), 100]);
  await again.close(NO_DEADLINE);
  await next.close({ deadlineMs: 0 });
  await spool.close();
});

Deno.test("Spool makes a new batch of records whose batch frame is damaged, beside the next batch", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.file("spool"));
  await push(spool, 0, 4);
  await spool.take();
  const [{ id: damaged }] = await spool.freeze(2);
  const [{ id }] = await spool.freeze(2);
  const copy = crash(folder);
  const path = `${copy}/system_metrics/000000000001.journal`;
  const bytes = Deno.readFileSync(path);
  bytes[new TextDecoder("latin1").decode(bytes).indexOf(damaged)] ^= 1;
  Deno.writeFileSync(path, bytes);
  const sink = new LedgerSink();
  sink.ledger.set(id, [2, 3].map(metrics)); // the second was stored, the first was not
  const next = await open(copy, sink);
  await next.flush();
  assertEquals(sink.numbers, range(0, 4));
  assertEquals([sink.attempts.length, sink.attempts[1]], [2, id]);
  await next.close(NO_DEADLINE);
  await spool.close();
});

Deno.test("Spool has the frame of a batch in its file when the file was moved away before", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.file("spool"));
  await push(spool, 0, 4);
  await spool.take();
  const path = folder.file("spool/system_metrics/000000000001.journal");
  Deno.renameSync(path, folder.file("moved"));
  const [{ id }] = await spool.freeze(4);
  assertEquals(
    framesIn(Deno.readFileSync(path)).filter(({ kind }) => kind === FrameKind.BATCH).at(-1)?.payload,
    id,
  );
  const sink = new LedgerSink();
  const next = await open(crash(folder), sink);
  await next.flush();
  assertEquals([sink.numbers, sink.attempts], [range(0, 4), [id]]);
  await next.close(NO_DEADLINE);
  await spool.close();
});

Deno.test("Spool reads back only the rest of a frame whose first records are settled", async () => {
  using folder = new TemporaryFolder();
  const spool = await openSpool(folder.file("spool"));
  for (const from of [0, 5, 10]) await push(spool, from, from + 5);
  await spool.take();
  await spool.freeze(7);
  using files = new FileCalls(folder.file("spool/system_metrics"));
  spool.acknowledge();
  await until(() => files.calls.includes("rename cursor.new cursor"), "the cursor");
  const sink = new LedgerSink();
  const next = await open(crash(folder), sink);
  assertEquals(next.stats().accepted, 8);
  await next.flush();
  assertEquals(sink.numbers, range(7, 15));
  await next.close(NO_DEADLINE);
  await spool.close();
});
