// Pipe NDJSON of any length into the database in flat memory.
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { ObservabilityHub, type SystemMetricsInput } from "@openfinops/telemetry";

// A file of 10,000 lines, one of them invalid. A response body or stdin is read in the same way.
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
  .pipeTo(hub.systemMetrics.sink({ onInvalid: (error) => console.error(error.message) }));

const { accepted, committed } = hub.stats().datasets.system_metrics!; // closing a sink commits its records
console.log(accepted, committed); // 9999 9999
