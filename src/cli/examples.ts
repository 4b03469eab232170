import type { Command } from "./command.ts";
import { bold, print } from "./output.ts";
import { readName } from "./usage.ts";

/** A program that runs as it stands, and what it shows. The tests run each of them. */
export interface Example {
  /** How it is asked for. */
  readonly topic: string;
  /** What it shows. */
  readonly title: string;
  /** The program. */
  readonly code: string;
}

/** The programs, simplest first. */
export const EXAMPLES: readonly Example[] = [
  {
    topic: "memory",
    title: "Keep the newest records in memory, with nothing to set up",
    code: `import { ObservabilityHub } from "jsr:@openfinops/telemetry";

await using hub = new ObservabilityHub();
await hub.collectSystemMetrics({ timestamp: Date.now(), clusterId: "prod", cpuUsage: 41.2 });
await hub.flush();
console.log(await hub.queryHistoricalMetrics({ clusterId: "prod" }));
`,
  },
  {
    topic: "sqlite",
    title: "Keep records in a file and read the last hour",
    code: `import { ObservabilityHub } from "jsr:@openfinops/telemetry";

await using hub = await ObservabilityHub.open({ connectionString: "sqlite:///example.db" });
await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "gpu-01", gpuUsage: 97.5 });
await hub.flush();
for await (const metrics of hub.streamHistoricalMetrics({ startTime: Date.now() - 3_600_000 })) {
  console.log(metrics.nodeId, metrics.gpuUsage);
}
`,
  },
  {
    topic: "costs",
    title: "Add up costs, exact to the last digit",
    code: `import { CostCategory, CostObservatory } from "jsr:@openfinops/telemetry";

await using costs = await CostObservatory.open({ connectionString: "sqlite:///example.db" });
for (const [entryId, amount] of [["a", "0.0000008"], ["b", "0.1"], ["c", "0.2"]]) {
  await costs.addCostEntry({
    entryId,
    timestamp: new Date("2026-01-31T12:00:00Z"),
    resourceId: "gpu-01",
    category: CostCategory.GPU,
    amount,
    tags: { team: "nlp" },
  });
}
await costs.flush();
console.log(await costs.aggregateCosts({ tags: { team: "nlp" } })); // 0.3000008 USD
`,
  },
  {
    topic: "sharing",
    title: "Share one opened backend between a hub and an observatory",
    code: `import { CostObservatory, ObservabilityHub, openBackend } from "jsr:@openfinops/telemetry";

const backend = await openBackend({ connectionString: "sqlite:///example.db" });
const hub = await ObservabilityHub.open({ backend });
const costs = await CostObservatory.open({ backend });
await hub.collectServiceMetrics({ serviceName: "inference", timestamp: Date.now(), requestRate: 120 });
console.log(await hub.close(), await costs.close());
await backend.close();
`,
  },
  {
    topic: "streams",
    title: "Pipe NDJSON into the database",
    code: `import { ObservabilityHub } from "jsr:@openfinops/telemetry";

const ndjson = '{"timestamp":1767225600000,"cpuUsage":12.5}\\n{"timestamp":1767225601000,"cpuUsage":"x"}\\n';
const lines = ReadableStream.from(ndjson.split("\\n").filter((line) => line !== ""));

await using hub = await ObservabilityHub.open({ connectionString: "sqlite:///example.db" });
await lines
  .pipeThrough(
    new TransformStream({ transform: (line, out) => out.enqueue(JSON.parse(line)) }),
  )
  .pipeTo(hub.systemMetricsSink({ onInvalid: (error) => console.error(error.message) }));
console.log(hub.stats().datasets.system_metrics);
`,
  },
  {
    topic: "moving",
    title: "Import a vendor's CSV, move to another database, and export for finance",
    code: `import { exportRecords, importRecords, migrate, openBackend } from "jsr:@openfinops/telemetry";

const from = await openBackend({ connectionString: "sqlite:///vendor.db" });
const csv = "Id,Hour,Cost,What\\n1,2026-01-31T12:00Z,8e-7,gpu-01\\n2,2026-01-31T12:00Z,one,gpu-02\\n";
const report = await importRecords(new Blob([csv]).stream(), {
  backend: from,
  dataset: "cost_entries",
  format: "csv",
  map: { entryId: "Id", timestamp: "Hour", amount: "Cost", resourceId: "What" },
  set: { category: "gpu" },
  onReject: ({ line, reason }) => console.error(line, reason),
});
console.log(report); // stored: 1, rejected: 1

const to = await openBackend({ connectionString: "sqlite:///example.db" });
console.log(await migrate(from, to, { datasets: ["cost_entries"] }));
const focus = await exportRecords({ backend: to, dataset: "cost_entries", format: "focus" });
for await (const text of focus.pipeThrough(new TextDecoderStream())) console.log(text);
await from.close();
await to.close();
`,
  },
];

/** `openfinops database examples` */
export const examples: Command = {
  name: "database examples",
  positionals: "[topic]",
  maxPositionals: 1,
  options: [],
  examples: ["openfinops database examples", "openfinops database examples costs"],
  run(given) {
    const [topic] = given.positionals;
    const topics = EXAMPLES.map(({ topic }) => topic);
    const chosen = topic === undefined ? undefined : readName("topic", topic, topics);
    for (const example of EXAMPLES) {
      if (chosen !== undefined && example.topic !== chosen) continue;
      print(bold(`// ${example.topic}: ${example.title}`));
      print(example.code);
    }
    return Promise.resolve();
  },
};
