/**
 * Names of metrics as exporters have them, and the fields of records that they become: data only. `samples_to_records.ts`
 * applies it. Sources: the counters that dcgm-exporter ships, node_exporter, the metrics of vLLM and of Triton.
 *
 * @module
 */
import type { DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { fieldsOf, type MetricField, rate } from "./metric_mapping.ts";
import { OTEL_FIELDS } from "./otel_metric_names.ts";

/** Names of labels, each also as exporters to Prometheus write it. */
const labels = (text: string): string[] =>
  text.split(" ").flatMap((name) => name.includes(".") ? [name, name.replaceAll(".", "_")] : name);

const CLUSTER = labels("cluster cluster_id clusterId k8s.cluster.name");
/** Nodes before hosts: in a container, the host is the pod. */
const NODE = labels(
  "Hostname node nodename kubernetes_node node_id nodeId k8s.node.name host.name host instance host.id",
);
const WORKLOADS = labels("k8s.deployment.name k8s.statefulset.name k8s.daemonset.name k8s.job.name");

/** Labels that give the identity of a record, by dataset: the first that a series has. */
export const IDENTITY: Readonly<Partial<Record<DatasetName, Readonly<Record<string, readonly string[]>>>>> = {
  system_metrics: { clusterId: CLUSTER, nodeId: NODE },
  device_metrics: {
    clusterId: CLUSTER,
    nodeId: NODE,
    deviceId: labels("UUID gpu_uuid uuid pci_bus_id device_id deviceId hw.id"),
    partition: ["GPU_I_ID"],
  },
  service_metrics: {
    serviceName: [...labels("service model_name model serviceName service.name"), ...WORKLOADS, "job"],
  },
  usage_records: {
    model: labels("model_name model gen_ai.response.model gen_ai.request.model"),
    provider: labels("gen_ai.provider.name gen_ai.system"),
    operation: labels("gen_ai.operation.name"),
    serviceName: labels("service.name"),
  },
};

/** Labels whose value is a host and a port, of which the host counts. */
export const ADDRESSES: ReadonlySet<string> = new Set(["instance"]);

/** Labels that become fields without being part of the identity. */
export const DESCRIPTIONS: Readonly<Record<string, string>> = {
  gpu: "deviceIndex",
  modelName: "model",
  "hw.model": "model",
  hw_model: "model",
  "hw.vendor": "vendor",
  hw_vendor: "vendor",
};

/**
 * Labels that become labels of the record, in order of precedence. Where Prometheus has renamed those of a workload to
 * `exported_…`, the plain ones are of the exporter itself.
 */
export const LABELS: Readonly<Record<string, string>> = {
  exported_pod: "pod",
  exported_namespace: "namespace",
  exported_container: "container",
  "k8s.pod.name": "pod",
  "k8s.namespace.name": "namespace",
  "k8s.container.name": "container",
  k8s_pod_name: "pod",
  k8s_namespace_name: "namespace",
  k8s_container_name: "container",
  pod: "pod",
  namespace: "namespace",
  container: "container",
  GPU_I_PROFILE: "migProfile",
  job: "job",
};

const MIB = 1_048_576;

const system = fieldsOf("system_metrics");
const devices = fieldsOf("device_metrics", { by: "max" });
const service = fieldsOf("service_metrics");
const usage = fieldsOf("usage_records", { counter: "increase" });
const device = (field: string, metric: string, more?: Partial<MetricField>): MetricField =>
  devices(field, { metrics: [metric] }, more);

const DCGM: readonly MetricField[] = [
  device("utilization", "DCGM_FI_DEV_GPU_UTIL"),
  device("memoryUtilization", "DCGM_FI_DEV_MEM_COPY_UTIL"),
  device("tensorUtilization", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", { scale: 100 }),
  device("memoryUsed", "DCGM_FI_DEV_FB_USED", { scale: MIB }),
  device("memoryTotal", "", {
    metrics: ["DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED"],
    by: "sum",
    scale: MIB,
  }),
  device("memoryTotal", "DCGM_FI_DEV_FB_TOTAL", { scale: MIB }),
  device("temperature", "DCGM_FI_DEV_GPU_TEMP"),
  device("memoryTemperature", "DCGM_FI_DEV_MEMORY_TEMP"),
  device("powerConsumption", "DCGM_FI_DEV_POWER_USAGE"),
  device("energyConsumption", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", { scale: 0.001 }),
  device("clockSm", "DCGM_FI_DEV_SM_CLOCK"),
  device("clockMemory", "DCGM_FI_DEV_MEM_CLOCK"),
  device("errorCode", "DCGM_FI_DEV_XID_ERRORS"),
  // Power cap, slowdowns by hardware and software, thermal and power brakes; not idle and not a clock that was set.
  ...["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"].map((metric) =>
    device("throttled", metric, { bits: 0xec })
  ),
];

/** Triton Inference Server. */
const TRITON: readonly MetricField[] = [
  device("utilization", "nv_gpu_utilization", { scale: 100 }),
  device("memoryUsed", "nv_gpu_memory_used_bytes"),
  device("memoryTotal", "nv_gpu_memory_total_bytes"),
  device("powerConsumption", "nv_gpu_power_usage"),
  device("energyConsumption", "nv_energy_consumption"),
  service("requestRate", rate("nv_inference_request_success", "nv_inference_request_failure")),
  service("responseTime", rate("nv_inference_request_duration_us"), {
    over: rate("nv_inference_request_success"),
    scale: 0.001,
  }),
  service("successRate", rate("nv_inference_request_success"), {
    over: rate("nv_inference_request_success", "nv_inference_request_failure"),
    scale: 100,
  }),
];

/** vLLM. Its prefix cache counts in tokens. */
const VLLM: readonly MetricField[] = [
  service("requestRate", rate("vllm:request_success_total")),
  service("responseTime", rate("vllm:e2e_request_latency_seconds_sum"), {
    over: rate("vllm:e2e_request_latency_seconds_count"),
    scale: 1_000,
  }),
  usage("inputTokens", { metrics: ["vllm:prompt_tokens_total"] }),
  usage("outputTokens", { metrics: ["vllm:generation_tokens_total"] }),
  usage("cacheReadTokens", { metrics: ["vllm:prefix_cache_hits_total"] }),
  usage("requests", { metrics: ["vllm:request_success_total"] }),
];

const NODE_EXPORTER: readonly MetricField[] = [
  system("cpuUsage", rate("node_cpu_seconds_total"), {
    where: { mode: "idle" },
    by: "avg",
    isComplement: true,
    scale: 100,
  }),
  system("memoryUsage", { metrics: ["node_memory_MemAvailable_bytes"] }, {
    over: { metrics: ["node_memory_MemTotal_bytes"] },
    isComplement: true,
    scale: 100,
  }),
  system("diskUsage", { metrics: ["node_filesystem_avail_bytes"], where: { mountpoint: "/" }, by: "max" }, {
    over: { metrics: ["node_filesystem_size_bytes"], where: { mountpoint: "/" }, by: "max" },
    isComplement: true,
    scale: 100,
  }),
  system("networkIo", rate("node_network_receive_bytes_total", "node_network_transmit_bytes_total"), {
    except: { device: "lo" },
    scale: 1e-6,
  }),
  system("temperature", { metrics: ["node_hwmon_temp_celsius"], by: "max" }),
  system("activeConnections", { metrics: ["node_netstat_Tcp_CurrEstab"] }),
];

/**
 * Metrics that are named like a field of a record, such as `openfinops.system_metrics.cpu_usage`, in the unit of the
 * field: for programs that measure what no other metric says.
 */
const OWN: readonly MetricField[] = Object.values(DATASETS)
  .filter(({ name, key }) => key.length === 0 && Object.hasOwn(IDENTITY, name))
  .flatMap(({ name, columns }) =>
    columns.filter(({ type }) => ["real", "integer", "boolean"].includes(type)).map((column) => {
      const metrics = [`openfinops.${name}.${column.name}`, `openfinops_${name}_${column.name}`];
      return fieldsOf(name)(column.field, { metrics, by: "avg" });
    })
  );

/** All known metrics. Of two rows for a field the later one counts, where a target has its metrics. */
export const METRIC_FIELDS: readonly MetricField[] = [
  ...OTEL_FIELDS,
  ...DCGM,
  ...TRITON,
  ...VLLM,
  ...NODE_EXPORTER,
  ...OWN,
];
