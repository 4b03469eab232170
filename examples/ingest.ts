// Receive metrics over HTTP: curl --data-binary @metrics.ndjson http://127.0.0.1:PORT/
import { ObservabilityHub } from "@openfinops/telemetry";

const hub = await ObservabilityHub.open({
  connectionString: "sqlite:///example.db",
  spoolDirectory: "ingest-spool", // records answered with 202 are on disk, even while the database is down
});

async function receive(request: Request): Promise<Response> {
  if (request.method !== "POST") return new Response("Send NDJSON with POST.\n", { status: 405 });
  const lines = (await request.text()).split("\n").filter((line) => line.trim() !== "");
  // All at once, so that they share one sync to disk.
  const results = await Promise.allSettled(
    lines.map(async (line) => await hub.systemMetrics.add(JSON.parse(line))),
  );
  const rejected = results.flatMap((result, i) =>
    result.status === "rejected" ? [{ line: i + 1, reason: result.reason.message }] : []
  );
  const status = rejected.length > 0 ? 422 : 202;
  return Response.json({ accepted: lines.length - rejected.length, rejected }, { status });
}

const server = Deno.serve({
  hostname: "127.0.0.1",
  port: Number(Deno.args[0] ?? 0), // 0: any free port
  onListen: ({ port }) => console.log(`http://127.0.0.1:${port}/`),
}, receive);
Deno.addSignalListener("SIGINT", () => server.shutdown()); // completes open requests, then ends
if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => server.shutdown());
await server.finished;
console.log(await hub.close());
Deno.exit(); // signal listeners would keep the process alive
