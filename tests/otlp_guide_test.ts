import { parse } from "yaml";
import { METRIC_FIELDS } from "../src/transfer/metric_names.ts";
import { assert, assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { PROMETHEUS } from "./node_exporter.ts";

const GUIDE = Deno.readTextFileSync(new URL("../docs/otlp.md", import.meta.url));
const [COLLECTOR, PROMETHEUS_CONFIG] = [...GUIDE.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text]) => text);

Deno.test("The Collector's configuration in the guide sends to the routes of the server, and keeps what it cannot send", () => {
  const { exporters, service, extensions, receivers, processors } = parse(COLLECTOR);
  assertEquals(Object.keys(exporters), ["otlphttp/openfinops"]);
  const { endpoint, retry_on_failure, sending_queue } = exporters["otlphttp/openfinops"];
  assertEquals(new URL(endpoint).pathname, "/"); // the Collector adds /v1/metrics and /v1/traces
  assertEquals([retry_on_failure.max_elapsed_time, sending_queue.storage], ["0s", "file_storage"]);
  assert(service.extensions.includes("file_storage") && extensions.file_storage.directory);
  for (const pipeline of Object.values(service.pipelines) as Record<string, string[]>[]) {
    assert(pipeline.receivers.every((name) => name in receivers));
    assert(pipeline.processors.every((name) => name in processors));
    assert(pipeline.exporters.every((name) => name in exporters));
  }
});

Deno.test("Prometheus' configuration in the guide keeps the metrics that have a field, and no others", () => {
  const [{ url, write_relabel_configs: [{ regex, action }] }] = parse(PROMETHEUS_CONFIG).remote_write;
  assertEquals([new URL(url).pathname, action], ["/api/v1/write", "keep"]);
  const pattern = new RegExp(`^(?:${regex})$`); // Prometheus matches whole names
  const exported = METRIC_FIELDS.flatMap(({ metrics, over }) => [...metrics, ...over?.metrics ?? []])
    .filter((name) => /^(DCGM|nv_|vllm:|node_|openfinops_)/.test(name));
  assert(exported.length > 50);
  for (const name of exported) assert(pattern.test(name), name);
  for (
    const name of [
      "node_load1",
      "node_cpu_guest_seconds_total",
      "go_goroutines",
      "up",
      "openfinops_build_info",
    ]
  ) {
    assert(!pattern.test(name), name);
  }
});

Deno.test({
  name: "Prometheus' tool accepts the configuration of the guide",
  ignore: PROMETHEUS === undefined, // tests/run.ts says so
  async fn() {
    using folder = new TemporaryFolder();
    Deno.writeTextFileSync(folder.file("prometheus.yml"), PROMETHEUS_CONFIG);
    Deno.writeTextFileSync(folder.file("openfinops-token"), "token");
    const { code, stdout, stderr } = await new Deno.Command(PROMETHEUS!.replace(/prometheus$/, "promtool"), {
      args: ["check", "config", "prometheus.yml"],
      cwd: folder.path,
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr));
  },
});
