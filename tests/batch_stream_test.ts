import { BatchStream } from "../src/pipeline/batch_stream.ts";
import { assertEquals, assertThrows } from "./assert.ts";
import { FakeTime, settle } from "./fake_time.ts";

/** Everything that comes out of a stream, as it comes. */
function gather<T>(readable: ReadableStream<T>): T[] {
  const gathered: T[] = [];
  readable.pipeTo(new WritableStream({ write: (chunk) => void gathered.push(chunk) })).catch(() => {});
  return gathered;
}

Deno.test("BatchStream() emits when it holds `size` records", async () => {
  using _time = new FakeTime();
  const stream = new BatchStream<number>({ size: 3 });
  const batches = gather(stream.readable);
  const writer = stream.writable.getWriter();
  await writer.write([1, 2]);
  assertEquals(batches, []);
  await writer.write([3]);
  await settle();
  assertEquals(batches, [[1, 2, 3]]);
  await writer.close();
});

Deno.test("BatchStream() keeps a chunk together when it exceeds `size`", async () => {
  const batches = await Array.fromAsync(
    ReadableStream.from([[1, 2, 3, 4, 5]]).pipeThrough(new BatchStream<number>({ size: 2 })),
  );
  assertEquals(batches, [[1, 2, 3, 4, 5]]);
});

Deno.test("BatchStream() flushes a partial batch on close and frees its timer", async () => {
  using time = new FakeTime();
  const stream = new BatchStream<number>({ size: 10 });
  const batches = gather(stream.readable);
  const writer = stream.writable.getWriter();
  await writer.write([1]);
  assertEquals(time.pending, 1);
  await writer.close();
  await settle();
  assertEquals([batches, time.pending], [[[1]], 0]);
});

Deno.test("BatchStream() emits a partial batch when its interval ends", async () => {
  using time = new FakeTime();
  const stream = new BatchStream<number>({ size: 10, intervalMs: 1_000 });
  const batches = gather(stream.readable);
  const writer = stream.writable.getWriter();
  await writer.write([1]);
  await time.pass(600);
  await writer.write([2]);
  await time.pass(399);
  assertEquals(batches, []);
  await time.pass(1);
  assertEquals(batches, [[1, 2]]);
  assertEquals(time.pending, 0);
  await writer.close();
});

Deno.test("BatchStream() emits when it reaches its byte limit", async () => {
  using _time = new FakeTime();
  const stream = new BatchStream<string>({ maxBytes: 5, byteLength: (text) => text.length });
  const batches = gather(stream.readable);
  const writer = stream.writable.getWriter();
  await writer.write(["ab", "cd"]);
  assertEquals(batches, []);
  await writer.write(["e"]);
  await settle();
  assertEquals(batches, [["ab", "cd", "e"]]);
  await writer.close();
});

Deno.test("BatchStream() flushes when it gets an empty chunk", async () => {
  using time = new FakeTime();
  const stream = new BatchStream<number>({ size: 10 });
  const batches = gather(stream.readable);
  const writer = stream.writable.getWriter();
  await writer.write([]);
  await writer.write([1]);
  await writer.write([]);
  await settle();
  assertEquals([batches, time.pending], [[[1]], 0]);
  await writer.close();
});

Deno.test("BatchStream() waits when there is backpressure", async () => {
  using time = new FakeTime();
  const stream = new BatchStream<number>({ size: 1, intervalMs: 1 });
  const writer = stream.writable.getWriter();
  const writes = [writer.write([1]), writer.write([2]), writer.write([3])];
  await time.pass(60_000);
  assertEquals([writer.desiredSize, time.pending], [-2, 0]); // without a reader, nothing is accepted
  const reader = stream.readable.getReader();
  for (const expected of [1, 2, 3]) assertEquals((await reader.read()).value, [expected]);
  await Promise.all(writes);
  await writer.close();
});

Deno.test("BatchStream() frees its timer when the reader cancels or the writer aborts", async () => {
  using time = new FakeTime();
  for (const end of ["cancel", "abort"] as const) {
    const stream = new BatchStream<number>({ size: 10 });
    const reader = stream.readable.getReader();
    const read = reader.read().catch(() => {});
    const writer = stream.writable.getWriter();
    writer.closed.catch(() => {});
    await writer.write([1]);
    assertEquals(time.pending, 1);
    if (end === "cancel") await reader.cancel();
    else await writer.abort();
    await read;
    assertEquals(time.pending, 0);
  }
});

Deno.test("BatchStream() refuses an invalid size or interval", () => {
  for (const size of [0, -1, 1.5, NaN]) assertThrows(() => new BatchStream({ size }), RangeError, "size");
  for (const intervalMs of [-1, NaN, 2 ** 31]) {
    assertThrows(() => new BatchStream({ intervalMs }), RangeError, "intervalMs");
  }
});
