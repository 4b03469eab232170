/**
 * Metrics of OpenTelemetry's semantic conventions, and the fields of records that they become: data only. Each has two
 * names: its own, and the one that exporters to Prometheus make of it.
 *
 * @module
 */
import { fieldsOf, type MetricField, rate, type Term } from "./metric_mapping.ts";

/** Ends of names in Prometheus by unit. */
const UNITS: Readonly<Record<string, string>> = {
  "By": "_bytes",
  "s": "_seconds",
  "1": "_ratio",
  "W": "_watts",
  "J": "_joules",
  "Cel": "_celsius",
};

/** The two names of a metric. A part is that of a histogram. */
function names(name: string, unit = "", part: "" | "_sum" | "_count" | "_bucket" | "_total" = ""): string[] {
  const own = part === "_total" ? name : name + part;
  return [own, `${name.replaceAll(".", "_")}${UNITS[unit] ?? ""}${part}`];
}

const gauge = (name: string, unit?: string): Term => ({ metrics: names(name, unit) });
const counter = (name: string, unit?: string): Term => rate(...names(name, unit, "_total"));

/** Attributes by their current name, the one of the Collector's receivers, and both as Prometheus has them. */
const CPU_MODE = "cpu.mode|cpu_mode|system.cpu.state|state";
const MEMORY_STATE = "system.memory.state|system_memory_state|state";
const DISK_STATE = "system.filesystem.state|system_filesystem_state|state";
const MOUNT = "system.filesystem.mountpoint|system_filesystem_mountpoint|mountpoint";
const INTERFACE = "network.interface.name|network_interface_name|system.device|device";
const CONNECTION = "network.connection.state|network_connection_state|state";
const HARDWARE = "hw.type|hw_type";

const system = fieldsOf("system_metrics");

/** `system.*` of the host, and `k8s.node.*` of the kubelet. */
const SYSTEM: readonly MetricField[] = [
  system("cpuUsage", counter("system.cpu.time", "s"), {
    where: { [CPU_MODE]: "idle" },
    by: "avg",
    isComplement: true,
    scale: 100,
  }),
  system("cpuUsage", gauge("system.cpu.utilization", "1"), {
    where: { [CPU_MODE]: "idle" },
    by: "avg",
    isComplement: true,
    scale: 100,
  }),
  system("cpuUsage", gauge("system.cpu.utilization", "1"), {
    except: { [CPU_MODE]: "*" },
    by: "avg",
    scale: 100,
  }),
  system("memoryUsage", { ...gauge("k8s.node.memory.working_set", "By") }, {
    over: {
      metrics: [...names("k8s.node.memory.working_set", "By"), ...names("k8s.node.memory.available", "By")],
    },
    scale: 100,
  }),
  system("memoryUsage", gauge("system.memory.usage", "By"), {
    where: { [MEMORY_STATE]: "used" },
    // The parts of the slab are counted in other states, too.
    over: {
      ...gauge("system.memory.usage", "By"),
      where: { [MEMORY_STATE]: "used|free|cached|buffered|buffers" },
    },
    scale: 100,
  }),
  system("memoryUsage", gauge("system.memory.utilization", "1"), {
    where: { [MEMORY_STATE]: "used" },
    scale: 100,
  }),
  system("diskUsage", gauge("k8s.node.filesystem.usage", "By"), {
    over: gauge("k8s.node.filesystem.capacity", "By"),
    scale: 100,
  }),
  system("diskUsage", gauge("system.filesystem.usage", "By"), {
    where: { [MOUNT]: "/", [DISK_STATE]: "used" },
    over: { ...gauge("system.filesystem.usage", "By"), where: { [MOUNT]: "/" } },
    scale: 100,
  }),
  system("networkIo", counter("k8s.node.network.io", "By"), { scale: 1e-6 }),
  system("networkIo", counter("system.network.io", "By"), { except: { [INTERFACE]: "lo" }, scale: 1e-6 }),
  // The name of the Collector's receiver, then that of the conventions.
  ...["system.network.connections", "system.network.connection.count"].map((name) =>
    system("activeConnections", gauge(name), { where: { [CONNECTION]: "ESTABLISHED|established" } })
  ),
  system("errorCount", { metrics: names("hw.errors", "", "_total"), counter: "increase" }),
  system("temperature", gauge("hw.temperature", "Cel"), { by: "max" }),
  system("powerConsumption", counter("hw.host.energy", "J")),
  system("powerConsumption", gauge("hw.host.power", "W")),
  system("fanSpeed", gauge("hw.fan.speed"), { by: "max" }),
  ...([["latencyP50", 0.5], ["latencyP95", 0.95], ["latencyP99", 0.99]] as const).map(([field, quantile]) =>
    system(field, {
      metrics: names("http.server.request.duration", "s", "_bucket"),
      counter: "increase",
      quantile,
    }, { scale: 1_000 })
  ),
];

const gpu = fieldsOf("device_metrics", { by: "max" });

/** `hw.gpu.*`, and what `hw.*` has of GPUs. The memory in use is no time of access, which `memoryUtilization` is. */
const GPU: readonly MetricField[] = [
  gpu("utilization", gauge("hw.gpu.utilization", "1"), {
    except: { "hw.gpu.task|hw_gpu_task": "decoder|encoder" },
    scale: 100,
  }),
  gpu("memoryUsed", gauge("hw.gpu.memory.usage", "By")),
  gpu("memoryTotal", gauge("hw.gpu.memory.limit", "By")),
  gpu("powerConsumption", gauge("hw.power", "W"), { where: { [HARDWARE]: "gpu" } }),
  gpu("energyConsumption", { metrics: names("hw.energy", "J", "_total") }, { where: { [HARDWARE]: "gpu" } }),
];

const service = fieldsOf("service_metrics");

/** Histograms of requests, in seconds. */
function requests(name: string): readonly MetricField[] {
  const count: Term = rate(...names(name, "s", "_count"));
  return [
    service("requestRate", count),
    service("responseTime", rate(...names(name, "s", "_sum")), {
      over: count,
      scale: 1_000,
    }),
    service("successRate", count, {
      except: { "error.type|error_type": "*" },
      over: count,
      scale: 100,
    }),
  ];
}

/** Services: their requests, and the containers that Kubernetes runs for them. */
const SERVICE: readonly MetricField[] = [
  ...requests("http.server.request.duration"),
  ...requests("gen_ai.server.request.duration"),
  ...([
    ["restartCount", ["k8s.container.restarts", "k8s.container.restart.count"], ""],
    ["cpuLimit", ["k8s.container.cpu_limit", "k8s.container.cpu.limit.desired"], ""],
    ["cpuRequest", ["k8s.container.cpu_request", "k8s.container.cpu.request.desired"], ""],
    ["memoryLimit", ["k8s.container.memory_limit", "k8s.container.memory.limit.desired"], "By"],
    ["memoryRequest", ["k8s.container.memory_request", "k8s.container.memory.request.desired"], "By"],
  ] as const).flatMap(([field, metrics, unit]) =>
    metrics.map((name) => service(field, gauge(name, unit), { by: "max" }))
  ),
];

const TOKEN_TYPE = "gen_ai.token.type|gen_ai_token_type";

const usage = fieldsOf("usage_records", { counter: "increase" });

/** Tokens and calls of models. */
const GEN_AI: readonly MetricField[] = [
  usage("requests", { metrics: names("gen_ai.client.operation.duration", "s", "_count") }),
  ...([["inputTokens", "input"], ["outputTokens", "output|completion"]] as const).map(([field, type]) =>
    usage(field, { metrics: names("gen_ai.client.token.usage", "", "_sum"), where: { [TOKEN_TYPE]: type } })
  ),
  ...Object.entries({
    inputTokens: "input_tokens",
    outputTokens: "output_tokens",
    cacheReadTokens: "cache_read.input_tokens",
    cacheWriteTokens: "cache_write.input_tokens",
    reasoningTokens: "reasoning.output_tokens",
  }).map(([field, name]) =>
    usage(field, { metrics: names(`gen_ai.client.inference.usage.${name}`, "", "_total") })
  ),
];

/** All metrics of the conventions that have a field. */
export const OTEL_FIELDS: readonly MetricField[] = [...SYSTEM, ...GPU, ...SERVICE, ...GEN_AI];
