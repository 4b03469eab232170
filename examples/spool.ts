// Journal records on disk, so that neither a crash nor an outage of the database loses any.
import { ObservabilityHub, type PersistenceConfig } from "@openfinops/telemetry";

const config: PersistenceConfig = {
  connectionString: Deno.args[0] ?? "sqlite:///example.db",
  spoolDirectory: "spool", // one process at a time
  maxSpoolBytes: 256 * 2 ** 20,
  batchIntervalSeconds: 3_600, // so that this example commits nothing before it ends
  onEvent: ({ type, message }) => console.error(type, message),
};

const agent = await ObservabilityHub.open(config);
await agent.systemMetrics.add({ timestamp: Date.now(), nodeId: "gpu-01", powerConsumption: 312.4 });
await agent.systemMetrics.add({ timestamp: Date.now(), nodeId: "gpu-02", powerConsumption: 287.9 });
// Both are on disk. The process may end at any moment, here without time to commit:
console.log(await agent.close({ deadlineMs: 0 })); // { committed: 0, spooled: 2, deadLettered: 0, lost: 0 }

// The next process finds both in the spool and commits them.
const next = await ObservabilityHub.open(config);
await next.flush();
console.log(await next.close()); // { committed: 2, spooled: 0, deadLettered: 0, lost: 0 }
