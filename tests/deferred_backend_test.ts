import { DeferredBackend } from "../src/backends/deferred_backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { BackendError, type FailureKind } from "../src/errors.ts";
import { openBackend } from "../src/open_backend.ts";
import type { ReadOptions } from "../src/backends/backend.ts";
import { COUNTED } from "../src/backends/postgres.ts";
import { acceptQuery } from "../src/records/query.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { openServer } from "./server.ts";

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

Deno.test("DeferredBackend ends reads with their signal, and its own opening with close()", async () => {
  const opening = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const backend = new DeferredBackend("sqlite", { location: "there", openNow: opening });
  const query = acceptQuery(systemMetrics);
  const readOne = async ({ signal }: ReadOptions) => {
    for await (const _page of backend.read(systemMetrics, query, { signal }));
  };
  const count = ({ signal }: ReadOptions) => backend.aggregate(systemMetrics, query, COUNTED, { signal });
  for (const start of [readOne, count]) {
    const gone = new AbortController();
    const reading = assertRejects(() => Promise.resolve<unknown>(start({ signal: gone.signal })));
    gone.abort(new Error("gone"));
    assertEquals((await reading as Error).message, "gone");
  }
  const writing = assertRejects(() => backend.write(BATCH), BackendError);
  await backend.close();
  assertEquals((await writing as BackendError).code, "CLOSED");
  const later = new DeferredBackend("sqlite", { location: "there", openNow: opening });
  await later.close();
  assertEquals((await assertRejects(() => later.write(BATCH)) as BackendError).code, "CLOSED");
});

Deno.test("A server that does not answer while it is opened keeps nothing from closing", async () => {
  using folder = new TemporaryFolder();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `postgresql://u@127.0.0.1:${listener.addr.port}/d?sslmode=disable&connect_timeout=600`;
  const opening = openBackend({ connectionString: url, spoolDirectory: folder.path });
  (await listener.accept()).close();
  const backend = await opening;
  const asked = assertRejects(() => backend.stats(), BackendError);
  using _silent = await listener.accept();
  await backend.close();
  await asked;
});

Deno.test("A server with a spool listens while its database takes connections and does not answer", async () => {
  using folder = new TemporaryFolder();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `postgresql://u@127.0.0.1:${listener.addr.port}/d?sslmode=disable&connect_timeout=600`;
  const opening = openServer({ connectionString: url, spoolDirectory: folder.path });
  using _silent = await listener.accept(); // and stays open
  await using server = await opening;
  const body = JSON.stringify([{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n", cpuUsage: 1 }]);
  const headers = { "content-type": "application/json" };
  assertEquals((await server.send("/api/v1/system-metrics", { method: "POST", body, headers })).status, 202);
  const ready = await server.send("/readyz");
  assertEquals([ready.status, ready.json().error.reasons], [503, ["database: CONNECTION_TIMEOUT"]]);
  assertEquals((await server.send("/healthz")).status, 200);
  assertEquals((await server.resources.close({ deadlineMs: 0 })).spooled, 1);
});
