import { ObservabilityHub, type PersistenceConfig, ValidationError } from "../mod.ts";
import { BackendError } from "../src/errors.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { membersOf, type Range, setOrigin, StoredPositions } from "../src/pipeline/members.ts";
import { Pipeline } from "../src/pipeline/pipeline.ts";
import type { Batch, Member, Sink, WriteResult } from "../src/pipeline/sink.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { decodeFrame, FrameKind } from "../src/spool/frame.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { Chance } from "./faults/chance.ts";
import { conserved } from "./faults/load.ts";
import { until } from "./until.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { crash, metrics, open, range } from "./spooled.ts";

/** A sink that stores each position of a request once, as a backend does, and can be held or made to refuse. */
class MemberSink implements Sink {
  readonly stored: string[] = [];
  readonly batches: Batch[] = [];
  readonly #positions = new StoredPositions();
  hold: Promise<unknown> | undefined;
  refuse: (batch: Batch) => Error | undefined = () => undefined;

  async write(batch: Batch): Promise<WriteResult> {
    this.batches.push(batch);
    await this.hold;
    const refusal = this.refuse(batch);
    if (refusal) throw refusal;
    const known = this.#positions.add(batch.members ?? []);
    const fresh = (batch.records as SystemMetrics[]).filter((_, i) => !known.has(i));
    this.stored.push(...fresh.map(({ activeConnections }) => String(activeConnections)));
    return { committed: fresh.length, duplicates: known.size, restated: 0 };
  }
}

/** Records of a request, with positions from a number on; each holds its own. */
function request(id: string, first: number, count: number): SystemMetrics[] {
  return range(first, first + count).map((number) => {
    const record = metrics(number);
    setOrigin(record, id, number);
    return record;
  });
}

function inMemory(
  sink: Sink,
  options: Partial<ConstructorParameters<typeof Pipeline<SystemMetrics>>[0]> = {},
) {
  return new Pipeline<SystemMetrics>({
    dataset: systemMetrics,
    sink,
    batchSize: 100,
    batchIntervalMs: 60_000,
    overflow: "block",
    ...options,
  });
}

const numbers = (from: number, to: number) => range(from, to).map(String);

Deno.test("StoredPositions keeps the same positions as a set, in ranges that do not touch", () => {
  const chance = new Chance(7);
  for (let round = 0; round < 200; round++) {
    const plain = new Set<number>();
    let ranges: Range[] = [];
    for (let batch = 0; batch < 8; batch++) {
      const members: Member[] = [];
      const expected = new Set<number>();
      for (let index = 0, n = chance.between(1, 5); n > 0; n--) {
        const member = { requestId: "r", first: chance.between(0, 30), count: chance.between(1, 9), index };
        members.push(member);
        for (let i = 0; i < member.count; i++) {
          if (plain.has(member.first + i)) expected.add(index + i);
          plain.add(member.first + i);
        }
        index += member.count;
      }
      const stored = new StoredPositions([["r", ranges]]);
      assertEquals(stored.add(members), expected);
      const isNew = expected.size < members.reduce((sum, { count }) => sum + count, 0);
      assertEquals(stored.changed.length, isNew ? 1 : 0);
      if (isNew) [[, ranges]] = stored.changed;
    }
    assertEquals(ranges.flatMap(([from, to]) => range(from, to)), [...plain].sort((a, b) => a - b));
    assert(ranges.every(([from], i) => i === 0 || ranges[i - 1][1] < from));
  }
});

for (const place of ["memory", "SQLite", "SQLite with a spool"]) {
  Deno.test(`DatasetHandle.append() stores a request once in ${place}`, async () => {
    using folder = new TemporaryFolder();
    const config: PersistenceConfig = {
      ...(place === "memory" ? {} : { connectionString: folder.sqlite() }),
      ...(place.includes("spool") ? { spoolDirectory: folder.file("spool") } : {}),
    };
    const records = range(0, 20).map((i) => i % 5 === 3 ? { cpuUsage: 1, wrong: i } : metrics(i));
    for (let process = 0; process < (place === "memory" ? 1 : 2); process++) {
      await using hub = await ObservabilityHub.open(config);
      const handle = hub.systemMetrics;
      for (const length of [7, 20, 20]) {
        const given = records.slice(0, length) as SystemMetrics[];
        const report = await handle.append(given, { requestId: "r" });
        assertEquals(report.refused.map(({ index }) => index), range(0, length).filter((i) => i % 5 === 3));
        assertEquals(report.accepted + report.refused.length, length);
        assert(report.refused.every(({ error }) => error.field === "timestamp" || error.field === "wrong"));
      }
      // Parts of a request, and records without one.
      await handle.append(records.slice(10) as SystemMetrics[], { requestId: "r", position: 10 });
      await handle.append([metrics(90)]);
      await hub.flush();
      assertEquals((await handle.query()).length, 17 + process);
      conserved(hub);
    }
  });
}

Deno.test("DatasetHandle.append() refuses an id or a position that no database keeps", async () => {
  await using hub = new ObservabilityHub();
  for (const requestId of ["", "x".repeat(201), "a\0", 7 as unknown as string]) {
    await assertRejects(() => hub.systemMetrics.append([], { requestId }), ValidationError, "requestId");
  }
  for (const position of [-1, 0.5]) {
    await assertRejects(() => hub.systemMetrics.append([], { position }), ValidationError, "position");
  }
});

Deno.test("Pipeline.append() without a spool resolves once the backend has committed", async () => {
  const sink = new MemberSink();
  const { promise, resolve } = Promise.withResolvers<void>();
  sink.hold = promise;
  const pipeline = inMemory(sink);
  let isSafe = false;
  const appended = Promise.all([request("a", 0, 3), request("b", 0, 1), request("c", 0, 1)]
    .map((records) => pipeline.append(records).then(() => isSafe = true)));
  await until(() => sink.batches.length > 0, "the batch is written");
  assertEquals(isSafe, false);
  resolve();
  await appended;
  assertEquals(sink.batches.length, 1); // one commit for all three
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline.append() ends its wait for room with its signal and accepts nothing", async () => {
  const sink = new MemberSink();
  const { promise, resolve } = Promise.withResolvers<void>();
  sink.hold = promise;
  const pipeline = inMemory(sink, { overflow: "drop-newest" });
  const accepted = range(0, 25_000).map((number) => pipeline.accept(metrics(number)));
  await Promise.all(accepted);
  const { dropped } = pipeline.stats();
  assert(dropped > 0, "the buffer is not full");
  const stop = new AbortController();
  const waiting = pipeline.append(request("a", 0, 10), stop.signal);
  const after = pipeline.append(request("b", 0, 10));
  const flushed = pipeline.flush();
  stop.abort(new Error("not any longer"));
  await assertRejects(() => waiting, Error, "not any longer");
  await assertRejects(() => pipeline.append(request("a", 0, 10), stop.signal), Error, "not any longer");
  resolve();
  await after;
  await flushed; // what was withdrawn is not waited for
  assertEquals(pipeline.stats().dropped, dropped); // requests are not dropped
  assertEquals(pipeline.stats().accepted, 25_000 + 10);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Spool passes the requests of its records to the next process", async () => {
  using folder = new TemporaryFolder();
  const first = new MemberSink();
  first.hold = new Promise(() => {});
  const pipeline = await open(folder.file("spool"), first);
  await pipeline.append([...request("a", 0, 3), metrics(100), ...request("b", 5, 2)]);
  await pipeline.append(request("a", 2, 3)); // the same again, in part
  const second = new MemberSink();
  const next = await open(crash(folder), second);
  await next.append(request("b", 0, 7)); // all of it, sent to another process
  await next.flush();
  assertEquals(second.stored.sort(), ["0", "0", "1", "1", "100", "2", "2", "3", "3", "4", "4", "5", "6"]);
  const { committed, duplicates, accepted } = next.stats();
  assertEquals([committed, duplicates, accepted], [13, 3, 16]);
  await next.close({ deadlineMs: 1_000 });
  await pipeline.close({ deadlineMs: 0 });
});

Deno.test("Spool writes a request as one frame behind that of its members", async () => {
  using folder = new TemporaryFolder();
  const sink = new MemberSink();
  const pipeline = await open(folder.file("spool"), sink);
  await pipeline.append(request("a", 4, 1_000));
  const bytes = Deno.readFileSync(folder.file("spool/system_metrics/000000000001.journal"));
  const kinds = [];
  for (let at = 0; at < bytes.length;) {
    const found = decodeFrame(bytes, at);
    assert(typeof found === "object" && "frame" in found);
    kinds.push(found.frame.kind);
    if (found.frame.kind === FrameKind.MEMBERS) {
      assertEquals(JSON.parse(found.frame.payload), [["a", 4, 1_000, 0]]);
    }
    at += found.length;
  }
  assertEquals(kinds.slice(0, 2), [FrameKind.MEMBERS, FrameKind.RECORDS]);
  assertEquals(kinds.filter((kind) => kind === FrameKind.RECORDS).length, 1);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Spool gives members whose records were not written to no other records", async () => {
  using folder = new TemporaryFolder();
  const held = new MemberSink();
  held.hold = new Promise(() => {});
  const pipeline = await open(folder.file("spool"), held);
  await pipeline.append([metrics(1)]); // keeps the file
  const path = folder.file("spool/system_metrics/000000000001.journal");
  const { size } = Deno.statSync(path);
  void pipeline.append(request("a", 0, 3));
  await until(() => Deno.statSync(path).size > size, "the request is in the journal");
  const left = crash(folder);
  await pipeline.close({ deadlineMs: 0 });
  const bytes = Deno.readFileSync(path);
  let at = 0;
  for (;;) {
    const found = decodeFrame(bytes, at);
    assert(typeof found === "object" && "frame" in found);
    at += found.length;
    if (found.frame.kind === FrameKind.MEMBERS) break;
  }
  Deno.truncateSync(`${left}/system_metrics/000000000001.journal`, at); // the crash came between the frames
  const next = await open(left, held);
  await next.append(range(7, 10).map(metrics)); // they get the numbers that the others would have had
  const sink = new MemberSink();
  const last = await open(crash(folder, left), sink);
  await last.flush();
  assertEquals(new Set(sink.batches.map(({ members }) => members)), new Set([undefined]));
  assertEquals(sink.stored, ["1", ...numbers(7, 10)]);
  await last.close({ deadlineMs: 1_000 });
  await next.close({ deadlineMs: 0 });
});

Deno.test("Spool keeps the requests of records that it reads back from disk", async () => {
  using folder = new TemporaryFolder();
  const sink = new MemberSink();
  const { promise, resolve } = Promise.withResolvers<void>();
  sink.hold = promise;
  const pipeline = await open(folder.file("spool"), sink, { maxBytes: 2 ** 28 });
  for (const part of range(0, 6)) await pipeline.append(request("a", 5_000 * part, 5_000));
  assert(pipeline.stats().spooled > 0, "all records are in memory");
  resolve();
  await pipeline.append(request("a", 0, 9_000));
  await pipeline.flush();
  assertEquals(sink.stored, numbers(0, 30_000));
  assertEquals(pipeline.stats().duplicates, 9_000);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline keeps members in halves of a batch and in dead letters", async () => {
  using folder = new TemporaryFolder();
  const sink = new MemberSink();
  const isBad = ({ activeConnections }: SystemMetrics) => activeConnections === 5;
  sink.refuse = ({ records }) =>
    (records as SystemMetrics[]).some(isBad)
      ? new BackendError("refused", { code: "DATA_REFUSED", operation: "write", kind: "data" })
      : undefined;
  const letters = new DeadLetters(folder.path, "system_metrics");
  const pipeline = inMemory(sink, { deadLetters: letters });
  for (let attempt = 0; attempt < 2; attempt++) {
    const records = request("a", 0, 9).map((record) => ({ ...record, timestamp: NEW_YEAR + attempt }));
    records.forEach((record, i) => setOrigin(record, "a", i));
    await pipeline.append(records);
  }
  assertEquals(sink.stored, numbers(0, 9).filter((number) => number !== "5"));
  const { committed, duplicates, deadLettered } = pipeline.stats();
  assertEquals([committed, duplicates, deadLettered], [8, 8, 2]);
  const members = (await Array.fromAsync(letters.list())).map(({ member }) => member);
  assertEquals(members, Array(2).fill({ requestId: "a", first: 5, count: 1, index: 0 }));
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("membersOf() starts a member at each gap and at each other request", () => {
  const [a, b] = [request("a", 0, 4), request("b", 0, 2)];
  assertEquals(membersOf([a[0], a[1], a[3], b[0], metrics(0), b[1], a[2]]), [
    { requestId: "a", first: 0, count: 2, index: 0 },
    { requestId: "a", first: 3, count: 1, index: 2 },
    { requestId: "b", first: 0, count: 1, index: 3 },
    { requestId: "b", first: 1, count: 1, index: 5 },
    { requestId: "a", first: 2, count: 1, index: 6 },
  ]);
  assertEquals(membersOf([metrics(0)]), undefined);
});
