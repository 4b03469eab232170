// Keep metrics and costs in a file, and add costs up exactly.
import { CostCategory, CostObservatory, ObservabilityHub } from "@openfinops/telemetry";

const config = { connectionString: "sqlite:///example.db" }; // made where it is missing
await using hub = await ObservabilityHub.open(config);
await using costs = await CostObservatory.open(config);

const startTime = Date.now();
await hub.collectSystemMetrics({ timestamp: startTime, nodeId: "gpu-01", gpuUsage: 97.5 });
for (const [entryId, amount] of [["a", "0.0000008"], ["b", "0.1"], ["c", "0.2"]]) {
  await costs.addCostEntry({
    entryId, // with the timestamp, it says which cost this is: another run stores it no second time
    timestamp: new Date("2026-01-31T12:00:00Z"),
    resourceId: "gpu-01",
    category: CostCategory.GPU,
    amount,
    tags: { team: "nlp" },
  });
}
await hub.flush(); // committed in the file
await costs.flush();

for await (const { nodeId, gpuUsage } of hub.streamHistoricalMetrics({ startTime })) {
  console.log(nodeId, gpuUsage); // gpu-01 97.5
}
const [{ total, currency }] = await costs.aggregateCosts({ tags: { team: "nlp" } });
console.log(total, currency); // 0.3000008 USD
