import { CostObservatory, ObservabilityHub, openBackend } from "../mod.ts";
import { PIPELINE_METRICS } from "../src/pipeline/pipeline_metrics.ts";
import { formatMetrics, METRICS_TYPE, prometheusName } from "../src/server/prometheus_text.ts";
import { RequestMetrics } from "../src/server/request_metrics.ts";
import type { RouteRequest } from "../src/server/route.ts";
import { PROBE_ROUTES } from "../src/server/probe_routes.ts";
import { parseSamples } from "../src/transfer/prometheus.ts";
import { assert, assertEquals } from "./assert.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { promtool } from "./promtool.ts";
import { Proxy } from "./faults/proxy.ts";
import { openServer } from "./server.ts";
import { until } from "./until.ts";

/** Samples by name and labels, as the project's own reader of the format sees them. */
function read(text: string): Record<string, number> {
  const { samples, badLines } = parseSamples(text);
  assertEquals(badLines, [], text);
  return Object.fromEntries(samples.map(({ name, labels, value }) => {
    const pairs = Object.entries(labels).sort().map(([key, text]) => `${key}=${text}`);
    return [[name, ...pairs].join(" "), value];
  }));
}

/** What `/metrics` answers for a hub, an observatory and counted requests. */
async function metricsOf(requests: RequestMetrics): Promise<Response> {
  const backend = await openBackend({});
  await using hub = await ObservabilityHub.open({ backend });
  await using costs = await CostObservatory.open({ backend });
  for (let i = 0; i < 3; i++) await hub.systemMetrics.add({ timestamp: NEW_YEAR + i });
  for (let i = 0; i < 2; i++) await costs.entries.add(costEntry()); // one key
  await hub.systemMetrics.add({ timestamp: -1 }).catch(() => {});
  await Promise.all([hub.flush(), costs.flush()]);
  const [route] = PROBE_ROUTES.filter(({ path }) => path === "/metrics");
  const resources = { hub, costs, backend, config: {}, requests };
  return await route.handle({} as RouteRequest, resources);
}

Deno.test("/metrics has every pipeline metric of each dataset in the format of Prometheus", async () => {
  const response = await metricsOf(new RequestMetrics());
  assertEquals(response.headers.get("content-type"), METRICS_TYPE);
  const text = await response.text();
  const found = read(text);
  for (const metric of PIPELINE_METRICS) {
    for (
      const dataset of [
        "system_metrics",
        "service_metrics",
        "device_metrics",
        "usage_records",
        "cost_entries",
      ]
    ) {
      assert(`${prometheusName(metric)} backend=memory dataset=${dataset}` in found, metric.name);
    }
  }
  const at = (name: string, dataset: string) => found[`${name} backend=memory dataset=${dataset}`];
  assertEquals(at("openfinops_records_committed_total", "system_metrics"), 3);
  assertEquals(at("openfinops_records_refused_total", "system_metrics"), 1);
  assertEquals(at("openfinops_records_duplicates_total", "cost_entries"), 1);
  assertEquals(at("openfinops_spool_size_bytes", "cost_entries"), 0);
  assert(found["process_resident_memory_bytes"] > 1e6);
  assert(Math.abs(found["process_start_time_seconds"] - Date.now() / 1_000) < 86_400);
  await promtool(["check", "metrics"], { stdin: text });
});

Deno.test("RequestMetrics counts by route and status for anything that clients send", async () => {
  const requests = new RequestMetrics();
  const end = (path: string | undefined, method: string, seconds: number, status = 200) => {
    requests.start();
    const code = status === 404 ? "NOT_FOUND" : undefined;
    requests.end({ path, method, status, durationMs: seconds * 1_000, code });
  };
  end("/api/v1/alerts/:id", "GET", 0.02);
  end("/api/v1/alerts/:id", "GET", 0.05); // a bound belongs to its bucket
  end("/api/v1/alerts/:id", "GET", 99);
  for (let i = 0; i < 100; i++) end(undefined, `METHOD${i}`, 0.001, 404);
  requests.start();
  const text = formatMetrics(requests.families());
  const found = read(text);
  const name = "openfinops_http_request_duration_seconds";
  const labels = "method=GET route=/api/v1/alerts/:id status=200";
  const bucket = (le: string) => found[`${name}_bucket le=${le} ${labels}`];
  assertEquals([bucket("0.01"), bucket("0.025"), bucket("0.05"), bucket("10"), bucket("+Inf")], [
    0,
    1,
    2,
    2,
    3,
  ]);
  assertEquals(found[`${name}_count ${labels}`], 3);
  assertEquals(found[`${name}_sum ${labels}`], 99.07);
  assertEquals(found[`${name}_count method=other route=unmatched status=404`], 100);
  assertEquals(found["openfinops_http_requests_in_flight"], 1);
  assertEquals(found["openfinops_http_requests_refused_total code=NOT_FOUND"], 100);
  assertEquals(text.split("\n").filter((line) => line.startsWith(`${name}_count`)).length, 2);
  await promtool(["check", "metrics"], { stdin: text });
});

Deno.test("formatMetrics() escapes label values and help", () => {
  const value = 'a\\b"c\nd';
  const text = formatMetrics([
    { name: "m", help: "one\ntwo\\", type: "gauge", samples: [{ labels: { value }, value: 1 }] },
  ]);
  assertEquals(text, '# HELP m one\\ntwo\\\\\n# TYPE m gauge\nm{value="a\\\\b\\"c\\nd"} 1\n');
  assertEquals(parseSamples(text).samples[0].labels, { value });
});

Deno.test("serve counts requests by the pattern of their route", async () => {
  await using server = await openServer();
  assertEquals((await server.send("/readyz")).json(), { status: "ready" });
  await server.send("/nope/1");
  await server.send("/nope/2");
  const { text } = await server.send("/metrics");
  const found = read(text);
  const count = (labels: string) => found[`openfinops_http_request_duration_seconds_count ${labels}`];
  assertEquals(count("method=GET route=/readyz status=200"), 1);
  assertEquals(count("method=GET route=unmatched status=404"), 2);
  assertEquals(found["openfinops_http_requests_refused_total code=NOT_FOUND"], 2);
  assertEquals(found["openfinops_http_requests_in_flight"], 1);
  assertEquals(found["openfinops_ready"], 1);
  await promtool(["check", "metrics"], { stdin: text });
});

Deno.test("serve is not ready while its database does not answer, and tells no more than that", async () => {
  await using database = await TestDatabase.create();
  await using proxy = await Proxy.start(Number(new URL(database.url).port));
  await using server = await openServer({ connectionString: proxy.url(database.url) });
  assertEquals((await server.send("/readyz")).status, 200);
  proxy.stall();
  const ready = () => server.send("/readyz");
  const answer = await until(async () => { // the last answer counts for a second
    const answer = await ready();
    return answer.status === 200 ? undefined : answer;
  }, "the server to be not ready");
  assertEquals([answer.status, answer.json()], [503, {
    error: {
      code: "NOT_READY",
      message: "Records cannot be stored now.",
      reasons: ["database: CONNECTION_TIMEOUT"],
    },
  }]);
  assertEquals(read((await server.send("/metrics")).text)["openfinops_ready"], 0);
  assertEquals((await server.send("/healthz")).status, 200);
  proxy.resume();
  await until(async () => (await ready()).status === 200, "the server to be ready");
});
