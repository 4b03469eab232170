import { column, type Dataset, defineDataset } from "./dataset.ts";

/** Health states of OpenFinOps. */
export type HealthStatus = "healthy" | "warning" | "critical" | "down";

/** Health states in order of severity. */
export const HEALTH_STATUSES: readonly HealthStatus[] = ["healthy", "warning", "critical", "down"];

/** One observation of a node. A measure that was not taken is absent, not 0. */
export interface SystemMetrics {
  /** Time of the observation, epoch ms. */
  timestamp: number;
  /** Cluster. */
  clusterId: string;
  /** Node in the cluster. */
  nodeId: string;
  /** CPU load, percent. */
  cpuUsage?: number;
  /** Memory in use, percent. */
  memoryUsage?: number;
  /** Disk in use, percent. */
  diskUsage?: number;
  /** GPU load, mean of all GPUs of the node, percent. */
  gpuUsage?: number;
  /** Network traffic in and out, MB/s. */
  networkIo?: number;
  /** Open connections. */
  activeConnections?: number;
  /** Errors since the previous observation. */
  errorCount?: number;
  /** Warnings since the previous observation. */
  warningCount?: number;
  /** Throughput, operations/s. */
  throughput?: number;
  /** Median latency, ms. */
  latencyP50?: number;
  /** 95th percentile of latency, ms. */
  latencyP95?: number;
  /** 99th percentile of latency, ms. */
  latencyP99?: number;
  /** Failed operations, percent. */
  errorRate?: number;
  /** True while a training runs. */
  trainingActive?: boolean;
  /** True while a model is loading. */
  modelLoading?: boolean;
  /** True while data is loading. */
  dataLoading?: boolean;
  /** True while gradients are synchronized. */
  gradientSync?: boolean;
  /** True while a checkpoint is saved. */
  checkpointSaving?: boolean;
  /** Temperature, °C. */
  temperature?: number;
  /** Power drawn, W. */
  powerConsumption?: number;
  /** Fan speed, RPM. */
  fanSpeed?: number;
  /** Health of the node as it reports it. */
  healthStatus?: HealthStatus;
  /** Cost of the node, currency/h. Indicative: exact money goes into cost entries. */
  costPerHour?: number;
  /** Expected cost of the node, currency/day. Indicative. */
  estimatedDailyCost?: number;
  /** Labels of your choice. */
  labels?: Record<string, string>;
}

/** Input form of {@linkcode SystemMetrics}: accepts a `Date`, and the ids have defaults. */
export interface SystemMetricsInput extends Omit<SystemMetrics, "timestamp" | "clusterId" | "nodeId"> {
  /** Time of the observation: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
  /**
   * Cluster.
   *
   * @default {"default"}
   */
  clusterId?: string;
  /**
   * Node in the cluster.
   *
   * @default {"default"}
   */
  nodeId?: string;
}

/** The dataset of {@linkcode SystemMetrics}. */
export const systemMetrics: Dataset<SystemMetrics> = defineDataset({
  name: "system_metrics",
  noun: "system metrics",
  columns: [
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "clusterId", { default: "default", maxLength: 255, summary: true }),
    column("text", "nodeId", { default: "default", maxLength: 255, summary: true }),
    column("real", "cpuUsage", { summary: true }),
    column("real", "memoryUsage", { summary: true }),
    column("real", "diskUsage", { summary: true }),
    column("real", "gpuUsage", { summary: true }),
    column("real", "networkIo", { summary: true }),
    column("integer", "activeConnections"),
    column("integer", "errorCount"),
    column("integer", "warningCount"),
    column("real", "throughput"),
    column("real", "latencyP50"),
    column("real", "latencyP95"),
    column("real", "latencyP99"),
    column("real", "errorRate"),
    column("boolean", "trainingActive"),
    column("boolean", "modelLoading"),
    column("boolean", "dataLoading"),
    column("boolean", "gradientSync"),
    column("boolean", "checkpointSaving"),
    column("real", "temperature"),
    column("real", "powerConsumption"),
    column("real", "fanSpeed"),
    column("text", "healthStatus", { oneOf: HEALTH_STATUSES, summary: true }),
    column("real", "costPerHour"),
    column("real", "estimatedDailyCost"),
    column("map", "labels"),
  ],
  key: [],
  indexes: [["timestamp"], ["clusterId", "nodeId", "timestamp"]],
  partitionBy: "week",
  retentionDays: 90,
  chunkDays: 1,
  sortBy: ["clusterId", "nodeId", "timestamp"],
  rollUpBy: ["clusterId", "nodeId"],
  filters: ["clusterId", "nodeId"],
  groups: ["clusterId", "nodeId"],
});
