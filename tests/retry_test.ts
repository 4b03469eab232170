import { retry } from "../src/pipeline/retry.ts";
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
