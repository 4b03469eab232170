// Store costs in a Citus cluster: each on one of several machines, all of them exact.
import { CostObservatory, openBackend } from "@openfinops/telemetry";

const backend = await openBackend({
  backend: "citus", // the connection is to the coordinator
  connectionString: Deno.args[0] ?? "citus:///example_citus",
});
const costs = await CostObservatory.open({ backend });

const timestamp = Date.UTC(2026, 0, 31);
for (let i = 0; i < 1_000; i++) {
  // The same id again changes nothing.
  const entryId = `example-${i}`;
  await costs.addCostEntry({
    entryId,
    timestamp,
    resourceId: `gpu-${i % 64}`,
    category: "gpu",
    amount: "0.1",
    currency: "USD",
  });
}
await costs.flush();

const [{ count, total }] = await costs.aggregateCosts({ startTime: timestamp, endTime: timestamp + 1 });
console.log(count, total); // 1000 100
const { storage } = await backend.stats();
console.log(storage.nodes); // such as: 10.0.0.1:5432 (0 shards, …), 10.0.0.2:5432 (20 shards, …)
await costs.close();
await backend.close();
