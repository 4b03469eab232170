// Store metrics in TimescaleDB, which compresses and drops old records by itself.
import { ObservabilityHub, openBackend } from "@openfinops/telemetry";

const DAY = 24 * 3_600_000;
const backend = await openBackend({
  backend: "timescaledb",
  connectionString: Deno.args[0] ?? "timescaledb:///example_timescaledb",
  enableCompression: true,
  compressAfterDays: 7,
  retentionDays: 365,
});
const hub = await ObservabilityHub.open({ backend });

const endTime = Date.now();
const startTime = endTime - 2 * DAY;
const clusterId = `example-${crypto.randomUUID()}`; // so that each run finds only its own records
for (let timestamp = startTime; timestamp < endTime; timestamp += 60_000) {
  const cpuUsage = timestamp < startTime + DAY ? 20 : 60;
  await hub.systemMetrics.add({ timestamp, clusterId, nodeId: "gpu-01", cpuUsage });
}
await hub.flush();

// Whole hours come from the hourly rollup where it is up to date, else from the records.
const query = { startTime, endTime, clusterId, fields: { cpuUsage: ["avg" as const] } };
const [all] = await hub.systemMetrics.aggregate(query);
console.log(all.count, all.fields.cpuUsage.avg); // 2880 40
for (const { policy, table, every } of (await backend.stats()).policies ?? []) {
  console.log(policy, table, every); // such as: retention system_metrics 1 day
}
await hub.close();
await backend.close();
