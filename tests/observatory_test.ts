import { type CleanupOptions, CostObservatory, type PersistenceConfig, ValidationError } from "../mod.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

Deno.test("CostObservatory sums 100,000 smallest amounts exactly after reopening", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite() };
  const writer = await CostObservatory.open(config);
  for (let i = 0; i < 100_000; i++) {
    await writer.addCostEntry(costEntry({ entryId: `e${i}`, amount: "0.000000000000000001" }));
  }
  await writer.close();
  await using reader = await CostObservatory.open(config);
  assertEquals(await reader.aggregateCosts(), [
    { currency: "USD", total: "0.0000000000001", count: 100_000 },
  ]);
});

Deno.test("CostObservatory counts an entry once in any number of batches", async () => {
  await using costs = await CostObservatory.open({ connectionString: "sqlite://" });
  for (let round = 0; round < 3; round++) {
    await costs.addCostEntry(costEntry());
    await costs.addCostEntry(costEntry());
    await costs.flush();
  }
  const { accepted, committed, duplicates } = costs.stats().datasets.cost_entries!;
  assertEquals([accepted, committed, duplicates], [6, 1, 5]);
  assertEquals((await costs.aggregateCosts())[0], { currency: "USD", total: "1", count: 1 });
});

Deno.test("CostObservatory with onConflict replace updates an entry and counts it", async () => {
  for (const connectionString of ["sqlite://", undefined]) {
    await using costs = await CostObservatory.open({ connectionString, onConflict: "replace" });
    await costs.addCostEntry(costEntry({ amount: "10" }));
    await costs.addCostEntry(costEntry({ amount: "9.99" }));
    await costs.flush();
    assertEquals((await costs.aggregateCosts())[0].total, "9.99");
    assertEquals(costs.stats().datasets.cost_entries!.restated, 1);
  }
});

Deno.test("CostObservatory queries and streams by every filter", async () => {
  await using costs = new CostObservatory();
  await costs.addCostEntry(costEntry({ tags: { team: "nlp" }, region: "eu", currency: "EUR" }));
  await costs.addCostEntry(costEntry({ entryId: "e2", category: "storage", resourceId: "bucket" }));
  await costs.flush();
  const ids = async (query: object) =>
    (await costs.queryHistoricalCosts(query)).map(({ entryId }) => entryId);
  assertEquals(await ids({ tags: { team: "nlp" } }), ["e1"]);
  assertEquals(await ids({ region: "eu", currency: "EUR" }), ["e1"]);
  assertEquals(await ids({ category: "storage", resourceId: "bucket" }), ["e2"]);
  assertEquals((await Array.fromAsync(costs.streamHistoricalCosts({ startTime: NEW_YEAR }))).length, 2);
  assertEquals(costs.recentCosts().length, 2);
  await assertRejects(
    () => costs.queryHistoricalCosts({ clusterId: "c" } as object),
    ValidationError,
    "clusterId",
  );
});

Deno.test("CostObservatory.costEntriesSink() accepts numbers and strings as amounts", async () => {
  await using costs = new CostObservatory();
  const entries = [costEntry({ amount: 0.1 }), costEntry({ entryId: "e2", amount: "0.20" })];
  await ReadableStream.from(entries).pipeTo(costs.costEntriesSink());
  assertEquals((await costs.aggregateCosts())[0].total, "0.3");
  assertEquals((await costs.cleanupOldData({ retentionDays: 0 })).cost_entries, 2);
});

Deno.test("CostObservatory.cleanupOldData() deletes costs only with a number of days", async () => {
  const old = costEntry({ timestamp: Date.now() - 3_000 * 24 * 3_600_000 });
  const deletedWith = async (config: PersistenceConfig, options?: CleanupOptions) => {
    await using costs = await CostObservatory.open(config);
    await costs.entries.add(old);
    await costs.flush();
    return (await costs.cleanupOldData(options)).cost_entries;
  };
  for (const connectionString of [undefined, "sqlite://"]) {
    assertEquals(await deletedWith({ connectionString }), 0);
    assertEquals(await deletedWith({ connectionString, retentionDays: { system_metrics: 30 } }), 0);
    assertEquals(await deletedWith({ connectionString }, { retentionDays: { system_metrics: 30 } }), 0);
    assertEquals(await deletedWith({ connectionString, retentionDays: { cost_entries: 2_555 } }), 1);
    assertEquals(await deletedWith({ connectionString, retentionDays: 2_555 }), 1);
    assertEquals(await deletedWith({ connectionString }, { retentionDays: 2_555 }), 1);
  }
});
