import { BackendError, type FailureKind } from "../src/errors.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import type { EventOf, TelemetryEvent } from "../src/pipeline/events.ts";
import { FlushTracker } from "../src/pipeline/flush_tracker.ts";
import { Pipeline, type PipelineOptions } from "../src/pipeline/pipeline.ts";
import type { PipelineStats } from "../src/pipeline/pipeline_stats.ts";
import type { Batch, Sink, WriteResult } from "../src/pipeline/sink.ts";
import { AdmissionQueue } from "../src/pipeline/admission_queue.ts";
import { MAX_BUFFERED_BYTES, MemoryQueue } from "../src/pipeline/queue.ts";
import { byteLength } from "../src/records/dataset.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { FakeTime, settle } from "./fake_time.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const BUFFER = 10_000;

/** A sink whose writes wait until they are let through, or fail as told. */
class GatedSink implements Sink {
  readonly batches: Batch[] = [];
  readonly attempts: Batch[] = [];
  failures: Error[] = [];
  #gate = Promise.withResolvers<void>();
  isOpen: boolean;

  constructor({ isOpen = true } = {}) {
    this.isOpen = isOpen;
  }

  open(): void {
    this.isOpen = true;
    this.#gate.resolve();
  }

  async write(batch: Batch): Promise<WriteResult> {
    this.attempts.push(batch);
    if (!this.isOpen) await this.#gate.promise;
    const failure = this.failures.shift();
    if (failure) throw failure;
    this.batches.push(batch);
    return { committed: batch.records.length, duplicates: 0, restated: 0 };
  }

  get numbers(): number[] {
    return this.batches.flatMap(({ records }) =>
      (records as SystemMetrics[]).map(({ activeConnections }) => activeConnections!)
    );
  }
}

/** A sink that is told when it has all of a batch, and when it is done with it. */
class ManualSink implements Sink {
  readonly prepared: number[] = [];
  readonly writes: { count: number; send: () => void; end: () => void; fail: (error: Error) => void }[] = [];

  prepare({ records }: Batch): void {
    this.prepared.push(records.length);
  }

  write({ records }: Batch, onSent: () => void): Promise<WriteResult> {
    const { promise, resolve, reject: fail } = Promise.withResolvers<WriteResult>();
    const end = () => resolve({ committed: records.length, duplicates: 0, restated: 0 });
    this.writes.push({ count: records.length, send: onSent, end, fail });
    return promise;
  }

  get counts(): number[] {
    return this.writes.map(({ count }) => count);
  }
}

/** A pipeline with one record in flight, a full buffer, and a caller that waits for room. */
async function fullPipelineInto(sink: ManualSink) {
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  for (const number of range(0, BUFFER)) await pipeline.accept(metrics(number));
  const last = { isAccepted: false };
  pipeline.accept(metrics(1)).then(() => last.isAccepted = true);
  await settle();
  assertEquals([sink.counts, last.isAccepted], [[1], false]);
  return { pipeline, last };
}

function pipelineInto(sink: Sink, options: Partial<PipelineOptions<SystemMetrics>> = {}) {
  return new Pipeline<SystemMetrics>({
    dataset: systemMetrics,
    sink,
    batchSize: 100,
    batchIntervalMs: 60_000,
    overflow: "block",
    ...options,
  });
}

function metrics(number: number): SystemMetrics {
  return { timestamp: NEW_YEAR, clusterId: "c", nodeId: "n", activeConnections: number };
}

function assertConserved(stats: PipelineStats): void {
  const { accepted, committed, duplicates, deadLettered, dropped, spooled, buffered, inFlight } = stats;
  assertEquals(accepted, committed + duplicates + deadLettered + dropped + spooled + buffered + inFlight);
  for (const count of [buffered, inFlight]) assert(count >= 0, JSON.stringify(stats));
}

const failure = (kind: FailureKind) =>
  new BackendError("down", { code: "BACKEND_FAILED", operation: "write", kind });
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

Deno.test("Pipeline.flush() resolves when earlier records are committed in order", async () => {
  const sink = new GatedSink();
  const pipeline = pipelineInto(sink);
  for (const number of range(0, 7)) await pipeline.accept(metrics(number));
  await pipeline.flush();
  assertEquals(sink.numbers, range(0, 7));
  assertConserved(pipeline.stats());
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline.flush() waits for the write under way, and for callers that wait for room", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  const done: string[] = [];
  const flushed = [pipeline.flush().then(() => done.push(`${sink.numbers.length}`))];
  await settle();
  assertEquals([sink.attempts.length, done], [1, []]);
  for (const number of range(1, BUFFER + 1)) await pipeline.accept(metrics(number));
  void pipeline.accept(metrics(BUFFER + 1)); // waits
  flushed.push(pipeline.flush().then(() => done.push(`${sink.numbers.length}`)));
  await settle();
  assertEquals(done, []);
  sink.open();
  await Promise.all(flushed);
  assertEquals(done, ["1", `${BUFFER + 2}`]);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline with overflow block admits no caller before those that came earlier", async () => {
  using _ = new FakeTime();
  const sink = new ManualSink();
  const accepted: number[] = [];
  const onAccepted = ({ activeConnections }: SystemMetrics) => void accepted.push(activeConnections!);
  const pipeline = pipelineInto(sink, { batchSize: 1, onAccepted });
  await pipeline.accept(metrics(0));
  await settle();
  for (const number of range(1, BUFFER + 1)) await pipeline.accept(metrics(number));
  for (const number of [20_001, 20_002]) void pipeline.accept(metrics(number)); // wait for room
  sink.writes[0].end();
  await settle();
  assertEquals(sink.counts, [1, BUFFER]); // there is room now
  assertEquals(accepted.length, BUFFER + 1);
  void pipeline.accept(metrics(20_003));
  await settle();
  sink.writes[1].send();
  await settle();
  assertEquals(accepted.slice(BUFFER + 1), [20_001, 20_002, 20_003]);
  sink.writes[1].end();
  await settle();
  sink.writes[2].end();
  await settle();
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline.flush() resolves at once when nothing is pending", async () => {
  const pipeline = pipelineInto(new GatedSink());
  let flushed = 0;
  const flush = () => void pipeline.flush().then(() => flushed++);
  flush();
  await settle();
  assertEquals(flushed, 1);
  await pipeline.accept(metrics(0));
  await pipeline.flush();
  flush();
  await settle();
  assertEquals(flushed, 2);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline commits when there are batchSize records", async () => {
  const sink = new GatedSink();
  const pipeline = pipelineInto(sink, { batchSize: 5 });
  for (const number of range(0, 5)) await pipeline.accept(metrics(number));
  await settle();
  assertEquals(sink.numbers, range(0, 5));
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline puts records that arrive during a write into the next batch", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 5 });
  for (const number of range(0, 5)) await pipeline.accept(metrics(number));
  await settle();
  for (const number of range(5, 4_000)) await pipeline.accept(metrics(number));
  sink.open();
  await pipeline.flush();
  assertEquals(sink.numbers, range(0, 4_000));
  assert(sink.batches.length <= 3, `${sink.batches.length} batches`);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline bounds a batch by records and by bytes", async () => {
  const sink = new GatedSink();
  const pipeline = pipelineInto(sink);
  const huge = "x".repeat(2 ** 20);
  for (const number of range(0, 30)) pipeline.accept({ ...metrics(number), labels: { huge } });
  for (const number of range(30, BUFFER)) pipeline.accept(metrics(number));
  await pipeline.flush();
  assertEquals(sink.numbers, range(0, BUFFER));
  for (const { records } of sink.batches) {
    assert(records.length <= BUFFER + 100);
    const bytes = (records as SystemMetrics[]).reduce(
      (sum, { labels }) => sum + (labels?.huge.length ?? 0),
      0,
    );
    assert(bytes < 2 * 8 * 2 ** 20, `${bytes} bytes in a batch`);
  }
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline buffers no more than 64 MiB", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  const record = { ...metrics(0), labels: { huge: "x".repeat(2 ** 20) } };
  const most = Math.ceil(MAX_BUFFERED_BYTES / byteLength(systemMetrics, record));
  assertEquals(most, 64);
  let accepted = 0;
  const calls = range(1, 101).map((number) =>
    pipeline.accept({ ...record, activeConnections: number }).then(() => accepted++)
  );
  await settle();
  assertEquals([accepted, pipeline.stats().buffered], [most, most]);
  sink.open();
  await pipeline.flush();
  await Promise.all(calls);
  assertEquals(sink.numbers, range(0, 101));
  assertEquals((await pipeline.close({ deadlineMs: 1_000 })).lost, 0);
});

Deno.test("MemoryQueue has room again for the bytes that are taken or dropped", () => {
  const hooks = { onReady() {}, onRoom() {}, onTaken() {}, onMissing() {} };
  const queue = new MemoryQueue(systemMetrics, hooks);
  const record = { ...metrics(0), labels: { huge: "x".repeat(2 ** 20) } };
  const bytes = byteLength(systemMetrics, record);
  const fill = () => {
    let pushed = 0;
    for (; queue.room === "memory"; pushed++) void queue.push(record, bytes);
    return pushed;
  };
  assertEquals(fill(), 64);
  assertEquals([queue.dropOldest(), queue.room, fill()], [1, "memory", 1]);
  assertEquals([queue.take().length, queue.room, fill()], [7, "memory", 7]); // 8 MiB at most
  for (let left = 64; left > 0;) left -= queue.take().length;
  assertEquals(fill(), 64);
});

Deno.test("Pipeline buffers no more records than the sink's batch limit", async () => {
  const sink = Object.assign(new GatedSink({ isOpen: false }), { maxRecords: () => 20 });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  const calls = range(1, 100).map((number) => pipeline.accept(metrics(number)));
  await settle();
  assertEquals(pipeline.stats().buffered, 20);
  sink.open();
  await pipeline.flush();
  await Promise.all(calls);
  assertEquals(sink.numbers, range(0, 100));
  assertEquals(sink.batches.map(({ records }) => records.length), [1, 20, 20, 20, 20, 19]);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline with overflow block makes callers wait in order when it is full", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  let accepted = 0;
  const calls = range(1, 3 * BUFFER).map((number) => pipeline.accept(metrics(number)).then(() => accepted++));
  await settle();
  assert(accepted >= BUFFER && accepted <= 2 * BUFFER, `${accepted} accepted`);
  assertConserved(pipeline.stats());
  sink.open();
  await pipeline.flush();
  await Promise.all(calls);
  assertEquals(sink.numbers, range(0, 3 * BUFFER));
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline prepares the next full batch during a write", async () => {
  const sink = new ManualSink();
  const { pipeline } = await fullPipelineInto(sink);
  assertEquals(sink.prepared, [1]);
  sink.writes[0].send();
  await settle();
  assertEquals([sink.prepared, sink.counts], [[1, BUFFER], [1]]);
  assertConserved(pipeline.stats());
  sink.writes[0].end();
  await settle();
  assertEquals(sink.counts, [1, BUFFER]);
  sink.writes[1].end();
  await settle();
  sink.writes[2].end();
  assertEquals((await pipeline.close({ deadlineMs: 1_000 })).committed, BUFFER + 2);
});

Deno.test("Pipeline with overflow block admits waiters when a batch is settled", async () => {
  const sink = new ManualSink();
  const { pipeline, last } = await fullPipelineInto(sink);
  sink.writes[0].end();
  await settle();
  assertEquals([sink.counts, last.isAccepted], [[1, BUFFER], false]);
  sink.writes[1].send();
  await settle();
  assert(last.isAccepted);
  sink.writes[1].end();
  await settle();
  sink.writes[2].end();
  assertEquals((await pipeline.close({ deadlineMs: 1_000 })).lost, 0);
});

Deno.test("Pipeline with overflow block admits waiters after a second of silence", async () => {
  using time = new FakeTime();
  const sink = new ManualSink();
  const { pipeline, last } = await fullPipelineInto(sink);
  sink.writes[0].end();
  await settle();
  await time.pass(999);
  assert(!last.isAccepted);
  await time.pass(1);
  assert(last.isAccepted);
  for (const write of [1, 2]) {
    sink.writes[write].end();
    await settle();
  }
  assertEquals((await pipeline.close({ deadlineMs: 1_000 })).lost, 0);
});

Deno.test("Pipeline with overflow block admits while there is room when a write hangs", async () => {
  using time = new FakeTime();
  const sink = new ManualSink();
  const { pipeline, last } = await fullPipelineInto(sink);
  sink.writes[0].send();
  await settle();
  await time.pass(999);
  assert(!last.isAccepted);
  await time.pass(1);
  assert(last.isAccepted);
  for (const number of range(0, 100)) await pipeline.accept(metrics(number)); // would never end, or take seconds
  sink.writes[0].end();
  await settle();
  sink.writes[1].end();
  await settle();
  sink.writes[2].end();
  assertEquals((await pipeline.close({ deadlineMs: 1_000 })).committed, BUFFER + 102);
});

Deno.test("Pipeline writes a batch that cannot be prepared", async () => {
  const sink = new GatedSink();
  const prepare = () => {
    throw new Error("not this one");
  };
  const pipeline = pipelineInto(Object.assign(sink, { prepare }), { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await pipeline.flush();
  assertEquals(sink.numbers, [0]);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline with overflow block admits while there is room after a failure", async () => {
  const sink = new ManualSink();
  const { pipeline, last } = await fullPipelineInto(sink);
  sink.writes[0].send();
  await settle();
  assert(!last.isAccepted); // the next batch is ready, and its turn comes first
  sink.writes[0].fail(failure("transient"));
  await settle();
  assert(last.isAccepted);
  let isAccepted = false;
  void pipeline.accept(metrics(2)).then(() => isAccepted = true);
  await settle();
  assert(isAccepted);
  const closed = pipeline.close({ deadlineMs: 10_000 });
  while ((await Promise.race([closed, settle()])) === undefined) for (const { end } of sink.writes) end();
  assertEquals((await closed).committed, BUFFER + 3);
});

Deno.test("Pipeline with drop-newest keeps the oldest records and counts drops", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1, overflow: "drop-newest" });
  for (const number of range(0, 3 * BUFFER)) await pipeline.accept(metrics(number));
  assertConserved(pipeline.stats());
  sink.open();
  await pipeline.flush();
  const { accepted, committed, dropped } = pipeline.stats();
  assertEquals([accepted, committed + dropped], [3 * BUFFER, 3 * BUFFER]);
  assertEquals(sink.numbers.slice(0, BUFFER), range(0, BUFFER));
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline with drop-oldest keeps the newest records and counts drops", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1, overflow: "drop-oldest" });
  for (const number of range(0, 3 * BUFFER)) await pipeline.accept(metrics(number));
  const { dropped } = pipeline.stats();
  assert(dropped > 0);
  assertConserved(pipeline.stats());
  sink.open();
  await pipeline.flush();
  assertEquals(sink.numbers.slice(-BUFFER), range(2 * BUFFER, 3 * BUFFER));
  assertEquals(pipeline.stats().committed, 3 * BUFFER - dropped);
  assertConserved(pipeline.stats());
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline.flush() waits for the batch in flight when records are dropped", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 100, overflow: "drop-oldest" });
  for (const number of range(0, 100)) await pipeline.accept(metrics(number));
  await settle();
  let isFlushed = false;
  const flush = pipeline.flush().then(() => isFlushed = true);
  for (const number of range(100, 3 * BUFFER)) await pipeline.accept(metrics(number));
  await settle();
  assert(pipeline.stats().dropped > 100);
  assertEquals(isFlushed, false);
  sink.open();
  await flush;
  assertEquals(sink.numbers.slice(0, 100), range(0, 100));
  await pipeline.close({ deadlineMs: 1_000 });
  assertConserved(pipeline.stats());
});

Deno.test("Pipeline.flush() and close() retry at once during a long backoff", async () => {
  const random = Math.random;
  Math.random = () => 1e6; // each wait would be hours
  try {
    for (const end of ["flush", "close"] as const) {
      const sink = new GatedSink();
      sink.failures = [failure("operator")];
      const pipeline = pipelineInto(sink, { batchSize: 1 });
      await pipeline.accept(metrics(1));
      await settle();
      assertEquals([sink.attempts.length, pipeline.stats().lastError], [1, "down"]);
      if (end === "flush") await pipeline.flush();
      assertEquals((await pipeline.close({ deadlineMs: 10_000 })).committed, 1);
    }
  } finally {
    Math.random = random;
  }
});

Deno.test("Pipeline.close() tries again four times a second until its deadline", async () => {
  using time = new FakeTime();
  const { random } = Math;
  Math.random = () => 1; // each wait is as long as it may be
  try {
    const sink = refusing(() => failure("operator"));
    const pipeline = pipelineInto(sink, { batchSize: 1 });
    await pipeline.accept(metrics(1));
    for (let passed = 0; passed < 60_000; passed += 1_000) await time.pass(1_000);
    assertEquals(sink.attempts.length, 6); // at once and after 1, 3, 7, 15 and 31 seconds
    const closing = pipeline.close({ deadlineMs: 10_000 });
    await time.pass(0);
    assertEquals(sink.attempts.length, 7);
    for (let passed = 0; passed < 9_750; passed += 250) await time.pass(250);
    assertEquals(sink.attempts.length, 7 + 39);
    await time.pass(250);
    assertEquals((await closing).lost, 1);
  } finally {
    Math.random = random;
  }
});

Deno.test("Pipeline passes on only accepted records", async () => {
  const sink = new GatedSink({ isOpen: false });
  let accepted = 0;
  const pipeline = pipelineInto(sink, { overflow: "drop-newest", onAccepted: () => accepted++ });
  for (const number of range(0, 3 * BUFFER)) await pipeline.accept(metrics(number));
  const { dropped } = pipeline.stats();
  assertEquals(accepted, 3 * BUFFER - dropped);
  sink.open();
  await pipeline.close({ deadlineMs: 5_000 });
  await pipeline.accept(metrics(0)).catch(() => {});
  assertEquals(accepted, 3 * BUFFER - dropped);
});

Deno.test("Pipeline retries a failed batch under the same id without rejecting callers", async () => {
  const sink = new GatedSink();
  sink.failures = [failure("transient"), failure("transient")];
  const pipeline = pipelineInto(sink);
  await pipeline.accept(metrics(1));
  await pipeline.flush();
  assertEquals(sink.attempts.length, 3);
  assertEquals(new Set(sink.attempts).size, 1);
  const { retries, lastError, committed } = pipeline.stats();
  assertEquals([retries, lastError, committed], [2, undefined, 1]);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline.flush() rejects with an operator error and loses nothing", async () => {
  const sink = new GatedSink();
  sink.failures = [failure("operator"), failure("operator")];
  const pipeline = pipelineInto(sink);
  await pipeline.accept(metrics(1));
  await assertRejects(() => pipeline.flush(), BackendError, "down");
  assertEquals(pipeline.stats().lastError, "down");
  await pipeline.accept(metrics(2));
  assertConserved(pipeline.stats());
  await pipeline.close({ deadlineMs: 5_000 });
  assertEquals(sink.numbers, [1, 2]);
});

Deno.test("Pipeline.close() commits pending records", async () => {
  const sink = new GatedSink();
  const pipeline = pipelineInto(sink);
  for (const number of range(0, 7_000)) await pipeline.accept(metrics(number));
  const report = await pipeline.close({ deadlineMs: 5_000 });
  assertEquals(report, { committed: 7_000, spooled: 0, deadLettered: 0, lost: 0 });
  assertEquals(sink.numbers, range(0, 7_000));
});

Deno.test("Pipeline.close() reports lost records at its deadline", async () => {
  for (const sink of [new GatedSink({ isOpen: false }), new GatedSink()]) {
    sink.failures = Array.from({ length: 1_000 }, () => failure("transient"));
    const pipeline = pipelineInto(sink, { batchSize: 2 });
    for (const number of range(0, 7)) await pipeline.accept(metrics(number));
    await settle();
    const flush = pipeline.flush().catch((error) => error);
    assertEquals((await pipeline.close({ deadlineMs: 20 })).lost, 7);
    assert(await flush instanceof BackendError);
    assertConserved(pipeline.stats());
    sink.open();
    await settle();
  }
});

Deno.test("Pipeline refuses new and waiting records after close()", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  const calls = range(0, 3 * BUFFER).map((number) =>
    pipeline.accept(metrics(number)).catch((error) => error)
  );
  await settle();
  const closing = pipeline.close({ deadlineMs: 5_000 });
  await assertRejects(() => pipeline.accept(metrics(1)), BackendError, "closed");
  sink.open();
  const { committed, lost } = await closing;
  const outcomes = await Promise.all(calls);
  const refused = outcomes.filter((outcome) => outcome instanceof BackendError).length;
  assertEquals([committed + refused, lost], [3 * BUFFER, 0]);
});

Deno.test("FlushTracker ends a wait when the last records before it are settled, dropped or refused", async () => {
  const tracker = new FlushTracker(1); // one of an earlier process
  const done: string[] = [];
  const wait = (name: string, target: number) =>
    void tracker.wait(target).then(() => done.push(name), (error) => done.push(`${name} ${error}`));
  for (let i = 0; i < 3; i++) tracker.admit();
  wait("first", 1);
  wait("third", 3);
  wait("fourth", 4);
  tracker.take(2, NEW_YEAR);
  assertEquals([tracker.admitted, tracker.taken, tracker.settled, tracker.oldestTime], [4, 2, 0, NEW_YEAR]);
  tracker.settle(1);
  await settle();
  assertEquals([tracker.settled, done], [1, ["first"]]);
  tracker.drop(1); // behind what was taken
  await settle();
  assertEquals([tracker.settled, done], [1, ["first"]]);
  tracker.settle(1);
  await settle();
  assertEquals([tracker.settled, done], [3, ["first", "third"]]);
  tracker.drop(1); // cannot be read back
  await settle();
  assertEquals([tracker.settled, done], [4, ["first", "third", "fourth"]]);
  tracker.admit();
  wait("fifth", 5);
  tracker.rejectAll("away");
  await settle();
  assertEquals(done.at(-1), "fifth away");
});

Deno.test("AdmissionQueue admits in order while there is room and rejects the rest", async () => {
  let room = 0;
  const admitted: number[] = [];
  const waiting = new AdmissionQueue<number>();
  const admit = () =>
    waiting.admit(() => room > 0, ([number]) => {
      room--;
      admitted.push(number);
      return Promise.resolve();
    });
  const refused: number[] = [];
  const enter = (number: number) => void waiting.enqueue([number]).catch(() => refused.push(number));
  for (const number of range(0, 10)) enter(number);
  for (const [places, left] of [[3, 7], [1, 6], [3, 3]]) {
    room = places;
    admit();
    assertEquals(waiting.length, left);
  }
  for (const number of range(10, 15)) enter(number);
  room = 4;
  admit();
  waiting.close(new Error("closed"));
  await settle();
  assertEquals([admitted, refused, waiting.length], [range(0, 11), range(11, 15), 0]);
});

/** A sink that refuses a batch as long as this gives an error for it. */
function refusing(refusal: (batch: Batch) => Error | undefined) {
  const sink = new GatedSink();
  const write = sink.write.bind(sink);
  sink.write = (batch) => {
    const error = refusal(batch);
    if (!error) return write(batch);
    sink.attempts.push(batch);
    return Promise.reject(error);
  };
  return sink;
}

const holds = ({ records }: Batch, ...numbers: number[]) =>
  (records as SystemMetrics[]).some(({ activeConnections }) => numbers.includes(activeConnections!));

for (const kind of ["data", "unknown"] as const) {
  Deno.test(`Pipeline isolates records that are refused with ${kind}`, async () => {
    using time = new FakeTime();
    const sink = refusing((batch) => holds(batch, 3, 17) ? failure(kind) : undefined);
    const events: TelemetryEvent[] = [];
    const pipeline = pipelineInto(sink, { onEvent: (event) => events.push(event) });
    for (const number of range(0, 40)) await pipeline.accept(metrics(number));
    await time.passUntil(pipeline.flush());
    assertEquals(sink.numbers.toSorted((a, b) => a - b), range(0, 40).filter((n) => n !== 3 && n !== 17));
    const { deadLettered, committed, lastError } = pipeline.stats();
    assertEquals([deadLettered, committed, lastError], [2, 38, undefined]);
    assertConserved(pipeline.stats());
    const told = events.filter(({ type }) => type === "dead-lettered") as EventOf<"dead-lettered">[];
    const numbers = told.map(({ record }) => (record as SystemMetrics).activeConnections!);
    assertEquals(numbers.toSorted((a, b) => a - b), [3, 17]);
    // They are in the events and nowhere else.
    assertEquals(await pipeline.close({ deadlineMs: 1_000 }), {
      committed: 38,
      spooled: 0,
      deadLettered: 0,
      lost: 2,
    });
    // The halves have ids of their own, which follow from the id of the whole.
    const ids = sink.attempts.map(({ id }) => id);
    assertEquals(ids.slice(0, kind === "data" ? 1 : 5), Array(kind === "data" ? 1 : 5).fill(ids[0]));
    assert(ids.every((id) => id.startsWith(ids[0])) && ids.includes(`${ids[0]}/0/0`), ids.join());
  });
}

Deno.test("Pipeline.close() counts a refused record as dead-lettered with a folder", async () => {
  using folder = new TemporaryFolder();
  const deadLetters = new DeadLetters(folder.path, "system_metrics");
  const pipeline = pipelineInto(refusing((batch) => holds(batch, 1) ? failure("data") : undefined), {
    deadLetters,
  });
  for (const number of range(0, 3)) await pipeline.accept(metrics(number));
  await pipeline.flush();
  assertEquals(await pipeline.close({ deadlineMs: 1_000 }), {
    committed: 2,
    spooled: 0,
    deadLettered: 1,
    lost: 0,
  });
  assertEquals((await Array.fromAsync(deadLetters.list())).map(({ record }) => record), [metrics(1)]);
});

Deno.test("Pipeline loses nothing in ten minutes of unknown failures", async () => {
  using time = new FakeTime();
  await time.pass(3_600_000); // the program has run for an hour
  let isDown = true;
  const sink = refusing(() => isDown ? failure("unknown") : undefined);
  const told: string[] = [];
  const pipeline = pipelineInto(sink, { onEvent: ({ type }) => told.push(type) });
  for (const number of range(0, 5_000)) await pipeline.accept(metrics(number));
  const flushed = pipeline.flush();
  for (let passed = 0; passed < 599_000; passed += 1_000) await time.pass(1_000);
  assert(sink.attempts.length > 20, `${sink.attempts.length} attempts`);
  assertEquals(new Set(sink.attempts.map(({ id }) => id)).size, 1);
  assertEquals([told, pipeline.stats().alarm], [["paused"], "down"]);
  isDown = false;
  await time.passUntil(flushed);
  assertEquals(sink.numbers, range(0, 5_000));
  assertEquals(told, ["paused", "resumed"]);
  await pipeline.close({ deadlineMs: 1_000 });
});

for (const kind of ["transient", "operator", "disk-full"] as const) {
  Deno.test(`Pipeline keeps trying the whole batch for hours when all fails with ${kind}`, async () => {
    using time = new FakeTime();
    let isDown = true;
    const sink = refusing(() => isDown ? failure(kind) : undefined);
    const pipeline = pipelineInto(sink);
    for (const number of range(0, 40)) await pipeline.accept(metrics(number));
    const flush = () => pipeline.flush().catch(() => {}); // an operator's failure rejects it
    let flushed = flush();
    for (let passed = 0; passed < 3 * 3_600_000; passed += 30_000) await time.pass(30_000);
    assert(sink.attempts.length > 100, `${sink.attempts.length} attempts`);
    assertEquals(new Set(sink.attempts.map(({ id }) => id)).size, 1);
    assertEquals([pipeline.stats().inFlight, pipeline.stats().deadLettered], [40, 0]);
    isDown = false;
    flushed = Promise.all([flushed, flush()]).then(() => {});
    await time.passUntil(flushed);
    assertEquals([sink.numbers, sink.batches.length], [range(0, 40), 1]);
    await pipeline.close({ deadlineMs: 1_000 });
  });
}

for (const count of [1, 4]) {
  Deno.test(`Pipeline keeps ${count} records as they are at the deadline of close()`, async () => {
    using time = new FakeTime();
    const sink = refusing(() => failure("transient"));
    const told = new Set<string>();
    const pipeline = pipelineInto(sink, { batchSize: count, onEvent: ({ type }) => told.add(type) });
    for (const number of range(0, count)) await pipeline.accept(metrics(number));
    await settle();
    const report = await time.passUntil(pipeline.close({ deadlineMs: 2_000 }), 250);
    assertEquals(report, { committed: 0, spooled: 0, deadLettered: 0, lost: count });
    const { length } = sink.attempts;
    assert(length > 2, `${length} attempts`);
    for (let passed = 0; passed < 600_000; passed += 30_000) await time.pass(30_000);
    assertEquals([sink.attempts.length, time.pending], [length, 0]);
    assertEquals(new Set(sink.attempts.map(({ id }) => id)).size, 1); // it is not split
    assertEquals([[...told], pipeline.stats().deadLettered], [["retry"], 0]); // nor refused
  });
}

for (const count of [1, 700]) {
  Deno.test(`Pipeline retries ${count} records for hours while nothing at all is committed`, async () => {
    using time = new FakeTime();
    let isDown = true;
    const sink = refusing(() => isDown ? failure("unknown") : undefined);
    const pipeline = pipelineInto(sink, { batchSize: 1_000 });
    for (const number of range(0, count)) await pipeline.accept(metrics(number));
    const flushed = pipeline.flush();
    for (let passed = 0; passed < 3 * 3_600_000; passed += 30_000) await time.pass(30_000);
    assertEquals([pipeline.stats().inFlight, pipeline.stats().deadLettered], [count, 0]);
    // Only so many parts while the backend stores none of them: it is not to be flooded when it comes back.
    const parts = new Set(sink.attempts.map(({ id }) => id)).size;
    assert(parts < 1_000, `${parts} parts`);
    isDown = false;
    await time.passUntil(flushed);
    assertEquals(sink.numbers.toSorted((a, b) => a - b), range(0, count));
    assertEquals((await pipeline.close({ deadlineMs: 1_000 })).lost, 0);
  });
}

Deno.test("Pipeline sets no record aside while the batch behind it fails as well", async () => {
  using time = new FakeTime();
  let isDown = true;
  const sink = refusing(() => isDown ? failure("unknown") : undefined);
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  await pipeline.accept(metrics(0));
  await settle();
  for (const number of range(1, 4)) await pipeline.accept(metrics(number));
  const flushed = pipeline.flush();
  for (let passed = 0; passed < 3 * 3_600_000; passed += 30_000) await time.pass(30_000);
  assert(sink.attempts.some((batch) => holds(batch, 3)), "the batch behind is not tried");
  assertEquals(pipeline.stats().deadLettered, 0);
  isDown = false;
  await time.passUntil(flushed);
  assertEquals([...new Set(sink.numbers)], range(0, 4));
  assertEquals(pipeline.stats().committed, 4);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline passes a record that fails alone for an unknown cause", async () => {
  using time = new FakeTime();
  const sink = refusing((batch) => holds(batch, 0) ? failure("unknown") : undefined);
  const pipeline = pipelineInto(sink, { batchSize: 2 });
  await pipeline.accept(metrics(0));
  const flushed = pipeline.flush();
  for (let passed = 0; passed < 700_000; passed += 10_000) await time.pass(10_000);
  assertEquals(pipeline.stats().deadLettered, 0); // no other record shows that the backend stores any
  for (const number of range(1, 3)) await pipeline.accept(metrics(number));
  await time.passUntil(Promise.all([flushed, pipeline.flush()]));
  // The batch behind it was written ahead of its turn; a backend's ledger knows it by its id when its turn comes.
  assertEquals([...new Set(sink.numbers)], [1, 2]);
  assertEquals(new Set(sink.batches.map(({ id }) => id)).size, 1);
  const { deadLettered, committed } = pipeline.stats();
  assertEquals([deadLettered, committed], [1, 2]);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline isolates records that fail for an unknown cause when most of them do", async () => {
  using time = new FakeTime();
  const sink = refusing((batch) =>
    (batch.records as SystemMetrics[]).some(({ activeConnections }) => activeConnections! % 7 !== 0)
      ? failure("unknown")
      : undefined
  );
  const pipeline = pipelineInto(sink, { batchSize: 1_000 });
  for (const number of range(0, 280)) await pipeline.accept(metrics(number));
  await time.passUntil(pipeline.flush());
  assertEquals(sink.numbers.toSorted((a, b) => a - b), range(0, 40).map((number) => 7 * number));
  assertEquals(pipeline.stats().deadLettered, 240);
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Pipeline halves a batch that times out and never drops a record", async () => {
  let patience = 3;
  const sink = refusing(({ records }) =>
    records.length > 10 || (records.length === 1 && patience-- > 0) ? failure("timeout") : undefined
  );
  const pipeline = pipelineInto(sink);
  for (const number of range(0, 40)) await pipeline.accept(metrics(number));
  await pipeline.flush();
  assertEquals(sink.numbers, range(0, 40));
  await pipeline.accept(metrics(40)); // alone, it is tried again and again
  await pipeline.flush();
  assertEquals([sink.numbers.length, pipeline.stats().deadLettered], [41, 0]);
  await pipeline.close({ deadlineMs: 1_000 });
});

for (const kind of ["operator", "disk-full"] as const) {
  Deno.test(`Pipeline raises one alarm for ${kind} and clears it`, async () => {
    const sink = new GatedSink();
    sink.failures = [failure(kind), failure(kind), failure(kind)];
    const told: string[] = [];
    const pipeline = pipelineInto(sink, {
      onEvent({ type }) {
        told.push(`${type} ${pipeline.stats().alarm}`);
      },
    });
    await pipeline.accept(metrics(1));
    while (pipeline.stats().committed === 0) { // each flush tries again at once
      void pipeline.flush().catch(() => {});
      await settle();
    }
    assertEquals(told, ["paused down", "resumed undefined"]);
    await pipeline.close({ deadlineMs: 1_000 });
  });
}

Deno.test("Pipeline reports drops once each time the buffer is full", async () => {
  const sink = new GatedSink({ isOpen: false });
  const told: number[] = [];
  const pipeline = pipelineInto(sink, {
    batchSize: 1,
    overflow: "drop-newest",
    onEvent(event) {
      if (event.type === "dropped") told.push(event.dropped);
    },
  });
  for (const number of range(0, 3 * BUFFER)) await pipeline.accept(metrics(number));
  assertEquals(told, [1]);
  sink.open();
  await pipeline.close({ deadlineMs: 5_000 });
});

Deno.test("Pipeline reports the age of the oldest record and commit latency", async () => {
  const sink = new GatedSink({ isOpen: false });
  const pipeline = pipelineInto(sink, { batchSize: 1 });
  assertEquals([pipeline.stats().oldestUnacknowledgedMs, pipeline.stats().commitMs], [0, undefined]);
  await pipeline.accept(metrics(1));
  await settle();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert(pipeline.stats().oldestUnacknowledgedMs >= 15);
  sink.open();
  await pipeline.flush();
  const { oldestUnacknowledgedMs, commitMs } = pipeline.stats();
  assertEquals(oldestUnacknowledgedMs, 0);
  assert(commitMs!.last >= 15 && commitMs!.p50 === commitMs!.p95, JSON.stringify(commitMs));
  await pipeline.close({ deadlineMs: 1_000 });
});
