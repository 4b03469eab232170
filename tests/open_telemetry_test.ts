import "../mod.ts"; // brings all that the process below needs into the cache
import "@opentelemetry/api";
import { assert, assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

/** A metric as OTLP has it in JSON. */
interface Metric {
  name: string;
  unit: string;
  sum?: { isMonotonic: boolean; dataPoints: Point[] };
  gauge?: { dataPoints: Point[] };
}
interface Point {
  asDouble?: number;
  asInt?: string;
  attributes: { key: string; value: { stringValue: string } }[];
}

Deno.test("ObservabilityHub publishes OpenTelemetry metrics without permissions", async () => {
  using folder = new TemporaryFolder();
  const exports: { resourceMetrics: { scopeMetrics: { scope: { name: string }; metrics: Metric[] }[] }[] }[] =
    [];
  const enough = Promise.withResolvers<void>();
  const collector = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const body = await request.text();
    if (request.url.endsWith("/v1/metrics")) exports.push(JSON.parse(body));
    if (committed() === 10) enough.resolve();
    return Response.json({});
  });
  const metrics = () =>
    exports.flatMap(({ resourceMetrics }) => resourceMetrics).flatMap(({ scopeMetrics }) => scopeMetrics)
      .filter(({ scope }) => scope.name === "openfinops").flatMap(({ metrics }) => metrics);
  const committed = () => {
    const found = metrics().findLast(({ name }) => name === "openfinops.records.committed");
    const point = found?.sum?.dataPoints.find(({ attributes }) =>
      attributes.some(({ value }) => value.stringValue === "system_metrics")
    );
    return Number(point?.asDouble ?? point?.asInt);
  };
  const program = `import { ObservabilityHub } from ${
    JSON.stringify(new URL("../mod.ts", import.meta.url).href)
  };
    const closed = new ObservabilityHub(); // what it counted is not forgotten
    for (let i = 0; i < 3; i++) await closed.collectSystemMetrics({ timestamp: Date.now() });
    await closed.close();
    const hub = new ObservabilityHub();
    for (let i = 0; i < 7; i++) await hub.collectSystemMetrics({ timestamp: Date.now() });
    await hub.flush();
    await new Promise(() => setInterval(() => {}, 1_000));`;
  Deno.writeTextFileSync(folder.file("program.ts"), program);
  const config = new URL("../deno.json", import.meta.url).pathname;
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-q",
      "--cached-only",
      "--no-check",
      "--no-prompt",
      "--config",
      config,
      folder.file("program.ts"),
    ],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_METRIC_EXPORT_INTERVAL: "50",
    },
  }).spawn();
  await enough.promise;
  process.kill("SIGKILL");
  await process.status;
  await collector.shutdown();
  const units = new Map(metrics().map(({ name, unit }) => [name, unit]));
  assertEquals(units.get("openfinops.records.accepted"), "{record}");
  assertEquals(units.get("openfinops.spool.size"), "By");
  assert(metrics().find(({ name }) => name === "openfinops.records.committed")!.sum!.isMonotonic);
  assert(metrics().find(({ name }) => name === "openfinops.records.buffered")!.gauge);
});
