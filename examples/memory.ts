// Keep the newest records in memory, with nothing to set up.
import { ObservabilityHub } from "@openfinops/telemetry";

await using hub = new ObservabilityHub(); // keeps 10,000 of each kind: see maxMemoryEntries

for (const [nodeId, gpuUsage] of [["gpu-01", 97.5], ["gpu-02", 62.5], ["gpu-03", 80]] as const) {
  await hub.collectSystemMetrics({ timestamp: Date.now(), clusterId: "prod", nodeId, gpuUsage });
}
await hub.collectServiceMetrics({ timestamp: Date.now(), serviceName: "inference", requestRate: 120 });
await hub.flush(); // from now on, queries find them

const [all] = await hub.aggregateMetrics({ clusterId: "prod", fields: { gpuUsage: ["avg", "max"] } });
console.log(all.count, all.fields.gpuUsage); // 3 { avg: 80, max: 97.5 }
console.log(await hub.queryHistoricalMetrics({ nodeId: "gpu-01" }));
