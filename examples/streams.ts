// Pipe NDJSON of any length into the database, in flat memory.
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { ObservabilityHub, type SystemMetricsInput } from "@openfinops/telemetry";

// A file to read: 10,000 lines, of which one is no good. A response's body or stdin is read in the same way.
const line = (i: number) =>
  JSON.stringify({ timestamp: 1_767_225_600_000 + i, cpuUsage: i === 500 ? "hot" : 12.5 });
await Deno.writeTextFile("metrics.ndjson", Array.from({ length: 10_000 }, (_, i) => line(i) + "\n").join(""));

await using hub = await ObservabilityHub.open({ connectionString: "sqlite:///example.db" });
const file = await Deno.open("metrics.ndjson");
const lines = createInterface({ input: Readable.fromWeb(file.readable), crlfDelay: Infinity });
await ReadableStream.from(lines)
  .pipeThrough(
    new TransformStream<string, SystemMetricsInput>({
      transform: (text, controller) => controller.enqueue(JSON.parse(text)),
    }),
  )
  .pipeTo(hub.systemMetricsSink({ onInvalid: (error) => console.error(error.message) }));

const { accepted, committed } = hub.stats().datasets.system_metrics!; // a sink that has closed has committed
console.log(accepted, committed); // 9999 9999
