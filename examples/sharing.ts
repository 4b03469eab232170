// Share one open backend between a hub and an observatory.
import { CostObservatory, ObservabilityHub, openBackend } from "@openfinops/telemetry";

const backend = await openBackend({ connectionString: "sqlite:///example.db" });
const hub = await ObservabilityHub.open({ backend }); // each has its own batchSize, overflow, …
const costs = await CostObservatory.open({ backend, batchSize: 1_000 });

const timestamp = Date.now();
await hub.serviceMetrics.add({ serviceName: "inference", timestamp, requestRate: 120 });
const entryId = crypto.randomUUID();
await costs.entries.add({ entryId, timestamp, resourceId: "inference", category: "gpu", amount: "0.25" });

console.log(await hub.close()); // { committed: 1, spooled: 0, deadLettered: 0, lost: 0 }
console.log(await costs.close());
await backend.close(); // last: the program that opened it closes it
