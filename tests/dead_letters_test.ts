/** Dead letters that are appended, worked off and written again at the same time, or while their file cannot be written. */
import { BackendError } from "../src/errors.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import type { TelemetryEvent } from "../src/pipeline/events.ts";
import { Pipeline } from "../src/pipeline/pipeline.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { until } from "./until.ts";
import { FileCalls } from "./file_calls.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { LedgerSink, metrics } from "./spooled.ts";

const letter = (number: number) => ({ batchId: `b${number}`, message: "no", record: metrics(number) });

async function numbersIn(letters: DeadLetters): Promise<number[]> {
  const found = await Array.fromAsync(letters.list());
  return found.map(({ record }) => (record as SystemMetrics).activeConnections!);
}

for (const [what, isHandled] of [["some", (id: string) => id === "b1"], ["all", () => true]] as const) {
  Deno.test(`DeadLetters keeps a letter that is appended while ${what} are worked off`, async () => {
    using folder = new TemporaryFolder();
    const letters = new DeadLetters(folder.path, "system_metrics");
    for (const number of [1, 2]) await letters.append(letter(number));
    using files = new FileCalls(folder.path);
    let appended: Promise<void> | undefined;
    await letters.drain(async ({ batchId }) => {
      if (batchId === "b2") { // the last: its file was read to the end
        const before = files.only("lock").length;
        let isAppended = false;
        appended = letters.append(letter(3)).then(() => void (isAppended = true));
        await until(() => isAppended || files.only("lock").length > before, "an append");
        assert(!isAppended, "it was appended to a file that is being worked off");
      }
      return isHandled(batchId);
    });
    await appended;
    assertEquals(await numbersIn(letters), what === "all" ? [3] : [2, 3]);
  });
}

Deno.test("DeadLetters cuts off half a letter that could not be written", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  await letters.append(letter(1));
  const before = Deno.readTextFileSync(letters.path);
  const { write } = Deno.FsFile.prototype;
  let calls = 0;
  Deno.FsFile.prototype.write = function (bytes) {
    if (++calls > 1) return Promise.reject(new Error("No space left on device (os error 28)"));
    return write.call(this, bytes.subarray(0, bytes.length >> 1));
  };
  try {
    const error = await assertRejects(() => letters.append(letter(2)), BackendError) as BackendError;
    assertEquals([error.kind, error.code], ["disk-full", "DISK_FULL"]);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assertEquals(Deno.readTextFileSync(letters.path), before);
  await letters.append(letter(3));
  assertEquals(await numbersIn(letters), [1, 3]);
});

Deno.test("DeadLetters keeps what was refused, when, why, and of which dataset", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  const refusal = { ...letter(1), code: "CONSTRAINT_VIOLATED", sqlState: "23514" } as const;
  const before = new Date().toISOString();
  await letters.append(refusal);
  const [{ time, ...found }] = await Array.fromAsync(letters.list());
  assertEquals(found, { ...refusal, dataset: "system_metrics" });
  assert(time >= before && time <= new Date().toISOString(), time);
  const others = new DeadLetters(folder.path, "service_metrics");
  Deno.copyFileSync(letters.path, others.path);
  assertEquals(await Array.fromAsync(others.list()), []); // letters of another dataset
});

Deno.test("DeadLetters reads large letters back as they were", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  const records = [70_000, 10, 200_000, 65_536].map((length, i) => ({
    ...metrics(i),
    labels: { text: `${i}`.repeat(length) },
  }));
  for (const [i, record] of records.entries()) await letters.append({ ...letter(i), record });
  const found = await Array.fromAsync(letters.list());
  assertEquals(found.map(({ record }) => record), records);
});

Deno.test("Pipeline keeps a refused record in flight until its dead letter is on disk", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("letters"), ""); // in place of the folder
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  const sink = new LedgerSink();
  sink.refuse = ({ records: [record] }) => {
    const options = { code: "DATA_REFUSED", operation: "write", kind: "data" } as const;
    const isRefused = (record as SystemMetrics).activeConnections === 1;
    return isRefused ? Promise.resolve(new BackendError("refused", options)) : undefined;
  };
  const events: TelemetryEvent[] = [];
  const pipeline = new Pipeline<SystemMetrics>({
    dataset: systemMetrics,
    sink,
    batchSize: 1,
    batchIntervalMs: 10,
    overflow: "block",
    deadLetters: letters,
    onEvent: (event) => events.push(event),
  });
  await pipeline.accept(metrics(1));
  await until(() => pipeline.stats().alarm !== undefined, "the alarm");
  const { inFlight, deadLettered, alarm } = pipeline.stats();
  assertEquals([inFlight, deadLettered], [1, 0]);
  assert(alarm!.includes(letters.path), alarm);
  await assertRejects(() => pipeline.flush(), BackendError, letters.path);
  assertEquals(events.some(({ type }) => type === "dead-lettered"), false);
  Deno.removeSync(folder.file("letters"));
  await until(async () => {
    await pipeline.flush().catch(() => {}); // tries again at once
    return pipeline.stats().deadLettered === 1;
  }, "the dead letter");
  assertEquals(await numbersIn(letters), [1]);
  assertEquals(pipeline.stats().alarm, undefined);
  assertEquals(await pipeline.close({ deadlineMs: 30_000 }), {
    committed: 0,
    spooled: 0,
    deadLettered: 1,
    lost: 0,
  });
});

Deno.test("DeadLetters removes its file when no letter is left", async () => {
  using folder = new TemporaryFolder();
  const letters = new DeadLetters(folder.path, "system_metrics");
  assertEquals(await letters.drain(() => true), { gone: 0, left: 0 });
  assertEquals(await numbersIn(letters), []);
  await letters.append(letter(1));
  assertEquals(await letters.drain(() => true), { gone: 1, left: 0 });
  assertEquals([...Deno.readDirSync(folder.path)], []);
});
