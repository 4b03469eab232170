import { BackendError, type FailureKind } from "../src/errors.ts";
import { retry, retryBriefly, RetryPace } from "../src/pipeline/retry.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { FakeTime } from "./fake_time.ts";

const never = new AbortController().signal;

/** Fails so many times, then gives "done". */
function failing(times: number): () => Promise<string> {
  return () => times-- > 0 ? Promise.reject(new Error(`${times} left`)) : Promise.resolve("done");
}

Deno.test("retry() repeats until the operation succeeds and reports each failure", async () => {
  using time = new FakeTime();
  const failures: string[] = [];
  const done = retry(failing(3), {
    signal: never,
    onFailure: (error) => failures.push((error as Error).message),
  });
  for (let i = 0; i < 4; i++) await time.pass(30_000);
  assertEquals(await done, "done");
  assertEquals(failures, ["2 left", "1 left", "0 left"]);
});

Deno.test("retry() waits randomly below a doubling limit", async () => {
  using time = new FakeTime();
  const waits: number[] = [];
  const done = retry(failing(12), { signal: never, onFailure: () => {}, maxMs: () => 1_000 });
  for (let i = 0; i < 12; i++) {
    await time.pass(0);
    waits.push(time.nextMs);
    await time.pass(1_000);
  }
  assertEquals(await done, "done");
  waits.forEach((wait, i) => assert(wait >= 0 && wait < Math.min(1_000, 50 * 2 ** i), `${i}: ${wait}`));
  assert(new Set(waits).size > 6, "waits do not vary");
});

Deno.test("retry() ends with the reason of its signal", async () => {
  using time = new FakeTime();
  const controller = new AbortController();
  const ended = retry(failing(9), { signal: controller.signal, onFailure: () => {} });
  await time.pass(0);
  controller.abort(new Error("deadline"));
  await assertRejects(() => ended, Error, "deadline");
  assertEquals(time.pending, 0);
  const { signal } = controller;
  await assertRejects(() => retry(failing(0), { signal, onFailure: () => {} }), Error, "deadline");
});

Deno.test("retry() retries at once when it is told to", async () => {
  using time = new FakeTime();
  let tryNow = () => {};
  const done = retry(failing(1), { signal: never, onFailure: () => {}, onWait: (end) => tryNow = end });
  await time.pass(0);
  tryNow();
  assertEquals(await done, "done");
  assertEquals(time.pending, 0);
});

Deno.test("retry() ends when onFailure throws", async () => {
  const onFailure = (error: unknown) => {
    throw error;
  };
  await assertRejects(() => retry(failing(1), { signal: never, onFailure }), Error, "0 left");
});

const WAITS: readonly [FailureKind, firstMs: number][] = [
  ["transient", 50],
  ["timeout", 50],
  ["data", 50],
  ["unknown", 50],
  ["disk-full", 1_000],
  ["operator", 1_000],
];

for (const [kind, firstMs] of WAITS) {
  Deno.test(`retry() waits longer from ${firstMs} ms to 30 s while an outage of kind ${kind} lasts`, async () => {
    using time = new FakeTime();
    using _ = largestWaits();
    const failure = new BackendError("away", { code: "BACKEND_FAILED", operation: "write", kind });
    let left = 14;
    const operation = () => left-- > 0 ? Promise.reject(failure) : Promise.resolve("done");
    const done = retry(operation, { signal: never, onFailure: () => {} });
    for (let attempt = 0; attempt < 14; attempt++) {
      await time.pass(0);
      assertEquals(time.nextMs, Math.min(30_000, firstMs * 2 ** attempt));
      await time.pass(time.nextMs);
    }
    assertEquals(await done, "done");
  });
}

Deno.test("RetryPace ends a long wait when its pipeline closes, and keeps the next ones short", async () => {
  using time = new FakeTime();
  using _ = largestWaits();
  const pace = new RetryPace();
  const done = retry(failing(12), pace.options(() => {}));
  for (let attempt = 0; attempt < 9; attempt++) {
    await time.pass(0);
    await time.pass(time.nextMs);
  }
  assertEquals(time.nextMs, 25_600);
  pace.shortenWaits();
  for (let attempt = 10; attempt < 12; attempt++) {
    await time.pass(0);
    assertEquals(time.nextMs, 250);
    await time.pass(250);
  }
  assertEquals(await done, "done");
});

for (const kind of ["transient", "timeout", "disk-full"] as const) {
  Deno.test(`retryBriefly() gives up after 20 failures of kind ${kind}, within 20 seconds`, async () => {
    using time = new FakeTime();
    using _ = largestWaits();
    let attempts = 0;
    const failure = () =>
      new BackendError(`${++attempts}`, { code: "BACKEND_FAILED", operation: "write", kind });
    const ended = assertRejects(() => retryBriefly(() => Promise.reject(failure())), BackendError, "20");
    for (let second = 0; second < 20; second++) await time.pass(1_000);
    await ended;
    assertEquals([attempts, time.pending], [20, 0]);
  });
}

Deno.test("retryBriefly() repeats nothing that does not pass by itself", async () => {
  for (const kind of ["data", "operator", "unknown"] as const) {
    let attempts = 0;
    const failure = () =>
      new BackendError(`${++attempts}`, { code: "BACKEND_FAILED", operation: "write", kind });
    await assertRejects(() => retryBriefly(() => Promise.reject(failure())), BackendError, "1");
  }
});

/** Makes each random wait as long as it may be. */
function largestWaits(): Disposable {
  const { random } = Math;
  Math.random = () => 1;
  return { [Symbol.dispose]: () => Math.random = random };
}
