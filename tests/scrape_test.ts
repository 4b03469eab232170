import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { readMetricFields } from "../src/transfer/metric_fields.ts";
import { METRIC_FIELDS } from "../src/transfer/metric_names.ts";
import { readTarget, ScrapeTarget } from "../src/cli/scrape.ts";
import { assert, assertEquals, assertMatch, assertThrows } from "./assert.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { NODE_EXPORTER } from "./node_exporter.ts";

/** Serves texts one after the other, the last one again and again. */
function serveTexts(texts: readonly (string | number)[], contentType = "text/plain; version=0.0.4") {
  let next = 0;
  const asked: Headers[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    asked.push(request.headers);
    const text = texts[Math.min(next++, texts.length - 1)];
    if (typeof text === "number") return new Response("no", { status: text });
    const body = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
    return new Response(body, { headers: { "content-type": contentType, "content-encoding": "gzip" } });
  });
  return { url: `http://127.0.0.1:${server.addr.port}`, asked, close: () => server.shutdown() };
}

const DCGM = Deno.readTextFileSync(new URL("cases/gpu/dcgm.prom", import.meta.url));
const VLLM = (n: number) =>
  `# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{model_name="llama"} ${1_000 * n}
vllm:generation_tokens_total{model_name="llama"} ${10 * n}
# EOF
`;

const never = new AbortController().signal;
const targetOf = (url: string) =>
  new ScrapeTarget(readTarget(url), { clusterId: "c", nodeId: "here" }, METRIC_FIELDS);

Deno.test("openfinops collect --scrape stores the devices and the usage of its targets", async () => {
  using folder = new TemporaryFolder();
  const dcgm = serveTexts([DCGM]);
  const vllm = serveTexts([1, 2, 3, 4, 5, 6].map(VLLM), "application/openmetrics-text; version=1.0.0");
  const targets = ["--scrape", dcgm.url, "--scrape", vllm.url, "--scrape", "http://127.0.0.1:1"];
  const args = ["collect", "--interval", "200ms", "--duration", "2s", "--cluster-id", "prod", ...targets];
  const { code, err } = await openfinops(args, { cwd: folder.path });
  assertEquals(code, 0, err);
  assertEquals(err.match(/Cannot scrape 127\.0\.0\.1:1: /g)?.length, 1, err);
  assertMatch(dcgm.asked[0].get("accept")!, /^application\/openmetrics-text/);
  await Promise.all([dcgm.close(), vllm.close()]);
  const config = { connectionString: folder.sqlite("openfinops.db") };
  await using hub = await ObservabilityHub.open(config);
  const [device] = await hub.deviceMetrics.query({ deviceId: "GPU-1", limit: 1 });
  assertEquals([device.clusterId, device.nodeId, device.utilization, device.powerConsumption], [
    "prod",
    "node-1",
    42,
    16.365,
  ]);
  const down = await hub.serviceMetrics.query({ serviceName: "127.0.0.1:1" });
  assert(down.length > 0 && down.every(({ status }) => status === "down"));
  const up = await hub.serviceMetrics.query({ serviceName: new URL(vllm.url).host });
  assert(up.length > 0 && up.every(({ status }) => status === "up"));
  await using costs = await CostObservatory.open(config);
  const usage = await costs.usage.query({ model: "llama" });
  const scrapes = Math.min(vllm.asked.length, 6) - 1;
  assertEquals(usage.reduce((sum, { inputTokens = 0 }) => sum + inputTokens, 0), 1_000 * scrapes);
  assertEquals(usage.reduce((sum, { outputTokens = 0 }) => sum + outputTokens, 0), 10 * scrapes);
});

Deno.test("ScrapeTarget says once that a target fails, goes on, and says when it is back", async () => {
  const server = serveTexts([
    503,
    "not a sample\n",
    "node_memory_MemTotal_bytes 4\nnode_memory_MemAvailable_bytes 1\n",
  ]);
  const target = targetOf(server.url);
  const states = [];
  for (let i = 0; i < 3; i++) {
    const records = await target.take(never);
    states.push(records.map(({ record }) => record.status ?? record.memoryUsage));
    if (i === 2) assertEquals(records[0].record.nodeId, "here");
  }
  assertEquals(states, [["down"], ["down"], [75, "up"]]);
  await server.close();
});

Deno.test("readTarget() reads hosts and URLs", () => {
  assertEquals(readTarget("gpu-01:9400").href, "http://gpu-01:9400/metrics");
  assertEquals(readTarget("https://h/federate?match=x").href, "https://h/federate?match=x");
  for (const wrong of ["", "http://", "a b"]) {
    assertThrows(() => readTarget(wrong), Error, "--scrape must be");
  }
});

Deno.test("readMetricFields() reads own mappings, and names what is wrong", () => {
  const own = {
    dataset: "service_metrics",
    field: "requestRate",
    metrics: ["my_requests_total"],
    counter: "rate",
  };
  assertEquals(readMetricFields(JSON.stringify([own]), "f"), [own]);
  const wrong: [unknown, string][] = [
    ["{", "no JSON"],
    [{}, "must be an array"],
    [[{ ...own, dataset: "x" }], "needs a dataset"],
    [[{ ...own, field: "nodeId" }], "needs a field of service_metrics"],
    [[{ ...own, metrics: "a" }], "an array of names"],
    [[{ ...own, over: { metrics: ["a"], by: "median" } }], "by is sum, avg or max"],
    [[{ ...own, colour: 1 }], 'unknown field "colour"'],
  ];
  for (const [value, expected] of wrong) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    assertThrows(() => readMetricFields(text, "f"), Error, expected);
  }
});

Deno.test({
  name: "ScrapeTarget reads a real node_exporter",
  ignore: NODE_EXPORTER === undefined, // tests/run.ts says so
  async fn() {
    const process = new Deno.Command(NODE_EXPORTER!, {
      args: ["--web.listen-address=127.0.0.1:0"],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let log = "";
    const lines = process.stderr.pipeThrough(new TextDecoderStream());
    let address: string | undefined;
    for await (const piece of lines.values({ preventCancel: true })) {
      log += piece;
      address = /Listening on.*address=(127\.0\.0\.1:\d+)/.exec(log)?.[1];
      if (address) break;
    }
    try {
      const target = targetOf(address!);
      await target.take(never);
      await new Promise((resolve) => setTimeout(resolve, 50));
      const [{ dataset, record }, state] = await target.take(never);
      assertEquals([dataset, record.nodeId, state.record.status], ["system_metrics", "here", "up"]);
      for (const field of ["cpuUsage", "memoryUsage", "networkIo"]) {
        const value = record[field] as number;
        assert(Number.isFinite(value) && value >= 0, `${field}: ${value}`);
      }
    } finally {
      process.kill("SIGKILL");
      await lines.cancel();
      await process.status;
    }
  },
});
