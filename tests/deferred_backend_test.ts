import { DeferredBackend } from "../src/backends/deferred_backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { BackendError, type FailureKind } from "../src/errors.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { NEW_YEAR } from "./fixtures.ts";

const BATCH = {
  id: "a",
  dataset: systemMetrics,
  records: [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }],
};

Deno.test("DeferredBackend blames no record while it cannot be opened", async () => {
  const kinds: readonly [FailureKind, FailureKind][] = [
    ["transient", "transient"],
    ["timeout", "transient"],
    ["data", "transient"],
    ["unknown", "transient"],
    ["operator", "operator"],
    ["disk-full", "disk-full"],
  ];
  for (const [kind, expected] of kinds) {
    const openNow = () =>
      Promise.reject(new BackendError("away", { code: "BACKEND_FAILED", operation: "open", kind }));
    const backend = new DeferredBackend("sqlite", { location: undefined, openNow });
    const error = await assertRejects(() => backend.write(BATCH), BackendError) as BackendError;
    assertEquals([kind, error.kind], [kind, expected]);
    await backend.close();
  }
});

Deno.test("DeferredBackend opens once for calls that come together, and again after a failure", async () => {
  let attempts = 0;
  const openNow = () => {
    if (++attempts === 1) {
      const options = { code: "CONNECTION_REFUSED", operation: "open", kind: "transient" } as const;
      return Promise.reject(new BackendError("away", options));
    }
    return Promise.resolve(new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" }));
  };
  const backend = new DeferredBackend("memory", { location: undefined, openNow });
  const both = () => Promise.allSettled([backend.write(BATCH), backend.write(BATCH)]);
  assertEquals((await both()).map(({ status }) => status), ["rejected", "rejected"]);
  assertEquals((await both()).map(({ status }) => status), ["fulfilled", "fulfilled"]);
  assertEquals(attempts, 2);
  assertEquals((await backend.stats()).datasets.system_metrics.rows, 1);
  await backend.close();
});
