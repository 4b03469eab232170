// Store metrics and costs in a file, and sum costs exactly.
import { CostCategory, CostObservatory, ObservabilityHub } from "@openfinops/telemetry";

const config = { connectionString: "sqlite:///example.db" }; // created if it is missing
await using hub = await ObservabilityHub.open(config);
await using costs = await CostObservatory.open(config);

const startTime = Date.now();
await hub.systemMetrics.add({ timestamp: startTime, nodeId: "gpu-01", gpuUsage: 97.5 });
for (const [entryId, amount] of [["a", "0.0000008"], ["b", "0.1"], ["c", "0.2"]]) {
  await costs.entries.add({
    entryId, // identifies the cost, with the timestamp: a second run stores nothing
    timestamp: new Date("2026-01-31T12:00:00Z"),
    resourceId: "gpu-01",
    category: CostCategory.GPU,
    amount,
    tags: { team: "nlp" },
  });
}
await hub.flush(); // committed in the file
await costs.flush();

for await (const { nodeId, gpuUsage } of hub.systemMetrics.stream({ startTime })) {
  console.log(nodeId, gpuUsage); // gpu-01 97.5
}
const [{ total, currency }] = await costs.entries.aggregate({ tags: { team: "nlp" } });
console.log(total, currency); // 0.3000008 USD
