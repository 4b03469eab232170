import { MemoryBackend } from "../src/backends/memory.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals } from "./assert.ts";
import { backendContract, read, write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

backendContract("MemoryBackend", ({ onConflict }) => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict });
  return Promise.resolve({ backend, [Symbol.asyncDispose]: () => backend.close() });
});

Deno.test("MemoryBackend keeps only the newest records of each dataset", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 3, onConflict: "ignore" });
  const times = [1, 2, 3, 4, 5].map((i) => ({ timestamp: NEW_YEAR + i }));
  await write(backend, systemMetrics, times);
  assertEquals((await read(backend, systemMetrics)).map(({ timestamp }) => timestamp - NEW_YEAR), [3, 4, 5]);
  assertEquals((await backend.stats()).storage, {
    maxMemoryEntries: 3,
    maxMemoryBytes: 64 * 2 ** 20,
    evicted: 2,
  });
});

Deno.test("MemoryBackend accepts a cost again after it was evicted", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 1, onConflict: "ignore" });
  await write(backend, costEntries, [costEntry(), costEntry({ entryId: "e2" })]);
  assertEquals((await write(backend, costEntries, [costEntry()])).committed, 1);
});

Deno.test("MemoryBackend evicts the oldest records when they take more than 64 MiB", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
  const description = "漢".repeat(65_000);
  for (let i = 0; i < 1_000; i++) {
    await write(backend, costEntries, [
      costEntry({ entryId: `e${i}`, timestamp: NEW_YEAR + i, description }),
    ]);
  }
  const times = (await read(backend, costEntries)).map(({ timestamp }) => timestamp - NEW_YEAR);
  assert(times.length > 400 && times.length * 2 * 65_000 <= 64 * 2 ** 20, `${times.length} records`);
  assertEquals([times[0], times.at(-1)], [1_000 - times.length, 999]);
  assertEquals((await backend.stats()).storage.evicted, 1_000 - times.length);
});

Deno.test("MemoryBackend knows the last 1,000 batches", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
  const records = [{ timestamp: NEW_YEAR, clusterId: "c", nodeId: "n" }];
  const again = async (id: string) =>
    (await backend.write({ id, dataset: systemMetrics, records })).isReplay === true;
  for (let i = 0; i < 1_001; i++) assertEquals(await again(`b${i}`), false);
  assertEquals([await again("b1"), await again("b1000")], [true, true]);
  assertEquals(await again("b0"), false); // forgotten, so that memory stays flat
  assertEquals((await read(backend, systemMetrics)).length, 1_002);
});

/** Stores records of the largest size in a process whose heap could not hold them all. */
async function storeHugeRecords(connectionString: string | undefined, records: number): Promise<string> {
  const program = `
    import { CostObservatory, ObservabilityHub } from ${
    JSON.stringify(new URL("../mod.ts", import.meta.url))
  };
    const config = ${JSON.stringify(connectionString === undefined ? {} : { connectionString })};
    const text = "漢".repeat(65_000);
    const largest = (i) => \`\${i}\`.padEnd(9, "x") + text; // joined, and flat once it is compared
    const costs = await CostObservatory.open(config);
    const hub = await ObservabilityHub.open(config);
    for (let i = 0; i < ${records}; i++) {
      const tags = { team: largest(i) };
      await costs.addCostEntry({
        entryId: "e" + i, timestamp: ${NEW_YEAR} + i, resourceId: "r", category: "gpu", amount: "1",
        region: largest(i), description: largest(i), billingPeriod: largest(i), tags,
      });
      // A map of many short keys takes far more than its texts.
      const keys = Array.from({ length: 15_000 }, (_, key) => [String.fromCharCode(0x4e00 + key), "" + i % 10]);
      if (i % 20 === 0) await hub.collectSystemMetrics({ timestamp: ${NEW_YEAR} + i, labels: Object.fromEntries(keys) });
    }
    await Promise.all([costs.flush(), hub.flush()]);
    const { committed } = costs.stats().datasets.cost_entries;
    console.log(committed, hub.stats().datasets.system_metrics.committed, costs.recentCosts().length > 50);
    await costs.close();
    await hub.close();`;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--v8-flags=--max-old-space-size=300", program],
    cwd: new URL("..", import.meta.url),
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(code, 0, err);
  return out.trim();
}

Deno.test("Records of the largest size do not exhaust the heap in memory", async () => {
  assertEquals(await storeHugeRecords(undefined, 1_500), "1500 75 true");
});

Deno.test("Records of the largest size do not exhaust the heap in front of SQLite", async () => {
  using folder = new TemporaryFolder();
  assertEquals(await storeHugeRecords(`sqlite:///${folder.file("huge.db")}`, 900), "900 45 true");
});
