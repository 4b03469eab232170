// Keep the newest records in memory, without any setup.
import { ObservabilityHub } from "@openfinops/telemetry";

await using hub = new ObservabilityHub(); // keeps 10,000 records of each dataset: see maxMemoryEntries

for (const [nodeId, gpuUsage] of [["gpu-01", 97.5], ["gpu-02", 62.5], ["gpu-03", 80]] as const) {
  await hub.systemMetrics.add({ timestamp: Date.now(), clusterId: "prod", nodeId, gpuUsage });
}
await hub.serviceMetrics.add({ timestamp: Date.now(), serviceName: "inference", requestRate: 120 });

const [all] = await hub.systemMetrics.aggregate({ clusterId: "prod", fields: { gpuUsage: ["avg", "max"] } });
console.log(all.count, all.fields.gpuUsage); // 3 { avg: 80, max: 97.5 }
console.log(await hub.systemMetrics.query({ nodeId: "gpu-01" }));
