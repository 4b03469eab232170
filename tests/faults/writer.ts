/**
 * A process to be killed: it collects numbers from the one it is given on, and prints each once it is acknowledged.
 * Arguments: connection string, folder of the spool, first number.
 *
 * @module
 */
import { ObservabilityHub } from "../../mod.ts";

const [connectionString, spoolDirectory, first] = Deno.args;
const hub = await ObservabilityHub.open({
  connectionString,
  spoolDirectory,
  batchSize: 20,
  onEvent: ({ type, message }) => console.error(type, message),
});
const encoder = new TextEncoder();
for (let number = Number(first);; number += 10) {
  const numbers = Array.from({ length: 10 }, (_, i) => number + i);
  await Promise.all(numbers.map((activeConnections) =>
    hub.collectSystemMetrics({
      timestamp: Date.now(),
      clusterId: "faults",
      nodeId: "good",
      activeConnections,
    })
  ));
  Deno.stdout.writeSync(encoder.encode(`${numbers.join("\n")}\n`));
}
