import { BackendError } from "../src/errors.ts";
import { decodeFrame, encodeFrame, FrameKind } from "../src/spool/frame.ts";
import type { SystemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { until } from "./until.ts";
import { crash, LedgerSink, metrics, never, obstruct, open, range } from "./spooled.ts";

const failure = (kind: "data" | "transient" | "unknown") =>
  new BackendError("refused", { code: "BACKEND_FAILED", operation: "write", kind });

Deno.test("decodeFrame() reverses encodeFrame() and refuses partial frames", () => {
  const frame = {
    kind: FrameKind.RECORDS,
    sequence: 2 ** 53 - 1,
    count: 2,
    time: NEW_YEAR,
    payload: '["ü 😀"]',
  };
  const bytes = encodeFrame(frame);
  assertEquals(decodeFrame(bytes, 0), { frame, length: bytes.length });
  for (let length = 0; length < bytes.length; length++) {
    const found = decodeFrame(bytes.subarray(0, length), 0);
    assert(typeof found === "object" && "needed" in found, `${length} bytes are taken for a frame`);
  }
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const flipped = bytes.slice();
    flipped[bit >> 3] ^= 1 << (bit & 7);
    const found = decodeFrame(flipped, 0);
    assert(found === "bad" || "needed" in found, `bit ${bit} makes no difference`);
  }
});

Deno.test("Spool passes records to the next process under their batch ids", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  const pipeline = await open(folder.file("spool"), first);
  for (const number of range(0, 4)) void pipeline.accept(metrics(number));
  await pipeline.flush();
  let isWritten = false;
  first.refuse = async (batch) => { // it is written, but the reply is lost
    first.refuse = () => never;
    first.ledger.set(batch.id, batch.records as SystemMetrics[]);
    isWritten = true;
    return await never;
  };
  for (const number of range(4, 8)) await pipeline.accept(metrics(number));
  await until(() => isWritten, "the batch to be written");
  for (const number of range(8, 10)) await pipeline.accept(metrics(number));
  const second = new LedgerSink(first);
  const next = await open(crash(folder), second);
  await next.flush();
  assertEquals(second.numbers, range(0, 10));
  assertEquals((await next.close({ deadlineMs: 1_000 })).lost, 0);
  await pipeline.close({ deadlineMs: 0 });
});

Deno.test("Spool never writes a whole batch after it was halved", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  const pipeline = await open(folder.file("spool"), first);
  let isHalf = false;
  first.refuse = ({ id }) => {
    if (!id.includes("/")) return Promise.resolve(failure("data"));
    if (id.endsWith("/1")) {
      isHalf = true;
      return never; // the first half is stored, and then the process ends
    }
  };
  for (const number of range(0, 8)) void pipeline.accept(metrics(number));
  const flushing = pipeline.flush().catch(() => {});
  await until(() => isHalf, "the second half");
  assertEquals(first.numbers, range(0, 4));
  const second = new LedgerSink(first); // accepts everything: the fault of the records is fixed
  const next = await open(crash(folder), second);
  await next.flush();
  assertEquals(second.numbers, range(0, 8));
  assert(second.attempts.every((id) => id.includes("/")), second.attempts.join());
  await next.close({ deadlineMs: 1_000 });
  await pipeline.close({ deadlineMs: 0 });
  await flushing;
});

Deno.test("Spool passes a record of an earlier process that fails alone", async () => {
  using folder = new TemporaryFolder();
  const first = new LedgerSink();
  first.refuse = () => never;
  const pipeline = await open(folder.file("spool"), first);
  await pipeline.accept(metrics(0));
  const flushing = pipeline.flush().catch(() => {});
  await until(() => first.attempts.length > 0, "an attempt"); // its batch is frozen, and then the process ends
  const second = new LedgerSink();
  second.refuse = ({ records: [record] }) =>
    (record as SystemMetrics).activeConnections === 0 ? Promise.resolve(failure("unknown")) : undefined;
  const next = await open(crash(folder), second);
  const hurry = () => void next.flush().catch(() => {}); // cuts the wait before the next attempt short
  await until(() => second.attempts.length > 0, "an attempt");
  const { now } = performance;
  performance.now = () => now.call(performance) + 700_000;
  try {
    for (const number of range(1, 5)) await next.accept(metrics(number));
    await until(() => (hurry(), next.stats().deadLettered === 1), "a dead letter");
  } finally {
    performance.now = now;
  }
  await next.flush();
  assertEquals(second.numbers, [1, 2, 3, 4]);
  assertEquals(next.stats().committed, 4);
  await next.close({ deadlineMs: 1_000 });
  await pipeline.close({ deadlineMs: 0 });
  await flushing;
});

Deno.test("Spool commits waiting callers as one group", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  sink.refuse = () => never;
  const pipeline = await open(folder.file("spool"), sink);
  const journal = folder.file("spool/system_metrics/000000000001.journal");
  const acknowledged = range(0, 1_000).map((number) => pipeline.accept(metrics(number)));
  let size = -1;
  await acknowledged[0].then(() => size = Deno.statSync(journal).size);
  assert(size > 1_000 * 50, `${size} bytes when the first was acknowledged`);
  await Promise.all(acknowledged);
  const bytes = Deno.readFileSync(journal);
  const found = decodeFrame(bytes, 0);
  assert(typeof found === "object" && "frame" in found && found.frame.count === 1_000);
  await pipeline.close({ deadlineMs: 0 });
});

Deno.test("Spool removes settled records and is empty when it closes", async () => {
  using folder = new TemporaryFolder();
  for (const fsync of ["batch", "interval", "none"] as const) {
    const pipeline = await open(folder.file("spool"), new LedgerSink(), { maxBytes: 65_536, fsync });
    for (let round = 0; round < 40; round++) {
      await Promise.all(range(0, 100).map((number) => pipeline.accept(metrics(number))));
      assert(pipeline.stats().spoolBytes < 100_000);
    }
    assertEquals(await pipeline.close({ deadlineMs: 5_000 }), {
      committed: 4_000,
      spooled: 0,
      deadLettered: 0,
      lost: 0,
    });
    const names = [...Deno.readDirSync(folder.file("spool/system_metrics"))].map(({ name }) => name).sort();
    assertEquals(names, ["cursor", "lock", "reserve"]);
  }
});

Deno.test("Spool holds more records than memory, in order", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  let release = () => {};
  const gate = new Promise<undefined>((resolve) => release = () => resolve(undefined));
  sink.refuse = () => gate;
  const pipeline = await open(folder.file("spool"), sink, { maxBytes: 2 ** 26 });
  for (let round = 0; round < 50; round++) {
    await Promise.all(range(0, 1_000).map((i) => pipeline.accept(metrics(1_000 * round + i))));
  }
  const { spooled, buffered, inFlight, accepted } = pipeline.stats();
  assert(spooled > 20_000 && buffered < 30_000, JSON.stringify(pipeline.stats()));
  assertEquals(spooled + buffered + inFlight, accepted);
  release();
  await pipeline.flush();
  assertEquals(
    [...sink.ledger.values()].flat().map(({ activeConnections }) => activeConnections),
    range(0, 50_000),
  );
  await pipeline.close({ deadlineMs: 1_000 });
});

Deno.test("Spool rejects and counts a record that cannot be journaled in time", async () => {
  using folder = new TemporaryFolder();
  const pipeline = await open(folder.file("spool"), new LedgerSink());
  obstruct(folder, "spool");
  const refused = assertRejects(() => pipeline.accept(metrics(1)), BackendError, "Cannot write");
  await until(() => pipeline.stats().alarm !== undefined, "the alarm");
  assertEquals((await pipeline.close({ deadlineMs: 20 })).lost, 1);
  await refused;
});

Deno.test("Spool admits one process at a time", async () => {
  using folder = new TemporaryFolder();
  const pipeline = await open(folder.file("spool"), new LedgerSink());
  await assertRejects(() => open(folder.file("spool"), new LedgerSink()), BackendError, "another process");
  await pipeline.close({ deadlineMs: 1_000 });
  await (await open(folder.file("spool"), new LedgerSink())).close({ deadlineMs: 1_000 });
});
