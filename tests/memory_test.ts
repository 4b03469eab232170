import { MemoryBackend } from "../src/backends/memory.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assertEquals } from "./assert.ts";
import { backendContract, read, write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

backendContract("MemoryBackend", ({ onConflict }) => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict });
  return Promise.resolve({ backend, [Symbol.asyncDispose]: () => backend.close() });
});

Deno.test("MemoryBackend keeps only the newest records of each dataset", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 3, onConflict: "ignore" });
  const times = [1, 2, 3, 4, 5].map((i) => ({ timestamp: NEW_YEAR + i }));
  await write(backend, systemMetrics, times);
  assertEquals((await read(backend, systemMetrics)).map(({ timestamp }) => timestamp - NEW_YEAR), [3, 4, 5]);
  assertEquals((await backend.stats()).storage, { maxMemoryEntries: 3, evicted: 2 });
});

Deno.test("MemoryBackend takes a cost entry again after it made way", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 1, onConflict: "ignore" });
  await write(backend, costEntries, [costEntry(), costEntry({ entryId: "e2" })]);
  assertEquals((await write(backend, costEntries, [costEntry()])).committed, 1);
});
