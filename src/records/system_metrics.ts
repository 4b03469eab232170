import { column, type Dataset, defineDataset } from "./dataset.ts";

/** The health states of OpenFinOps. */
export type HealthStatus = "healthy" | "warning" | "critical" | "down";

/** The health states, in order of severity. */
export const HEALTH_STATUSES: readonly HealthStatus[] = ["healthy", "warning", "critical", "down"];

/** One observation of a node. A measure that was not taken is absent, never 0. */
export interface SystemMetrics {
  /** When it was observed, in epoch milliseconds. */
  timestamp: number;
  /** The cluster. */
  clusterId: string;
  /** The node within the cluster. */
  nodeId: string;
  /** CPU in use, percent. */
  cpuUsage?: number;
  /** Memory in use, percent. */
  memoryUsage?: number;
  /** Disk in use, percent. */
  diskUsage?: number;
  /** GPU in use, percent. */
  gpuUsage?: number;
  /** Network traffic in and out, MB/s. */
  networkIo?: number;
  /** Open connections. */
  activeConnections?: number;
  /** Errors since the last observation. */
  errorCount?: number;
  /** Warnings since the last observation. */
  warningCount?: number;
  /** Operations a second. */
  throughput?: number;
  /** Median latency, ms. */
  latencyP50?: number;
  /** 95th percentile of latency, ms. */
  latencyP95?: number;
  /** 99th percentile of latency, ms. */
  latencyP99?: number;
  /** Failed operations, percent. */
  errorRate?: number;
  /** Whether a training runs. */
  trainingActive?: boolean;
  /** Whether a model is being loaded. */
  modelLoading?: boolean;
  /** Whether data is being loaded. */
  dataLoading?: boolean;
  /** Whether gradients are being synchronized. */
  gradientSync?: boolean;
  /** Whether a checkpoint is being saved. */
  checkpointSaving?: boolean;
  /** Temperature, °C. */
  temperature?: number;
  /** Power drawn, W. */
  powerConsumption?: number;
  /** Fan speed, RPM. */
  fanSpeed?: number;
  /** The state of health. */
  healthStatus?: HealthStatus;
  /** What the node costs an hour: an indication, not an amount; money goes into cost entries. */
  costPerHour?: number;
  /** What the node is expected to cost today: an indication, likewise. */
  estimatedDailyCost?: number;
  /** Free labels. */
  labels?: Record<string, string>;
}

/** {@linkcode SystemMetrics} as they are handed in: a `Date` will do, and the ids have defaults. */
export interface SystemMetricsInput extends Omit<SystemMetrics, "timestamp" | "clusterId" | "nodeId"> {
  /** When it was observed: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
  /**
   * The cluster.
   *
   * @default {"default"}
   */
  clusterId?: string;
  /**
   * The node within the cluster.
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
  chunkDays: 1,
  sortBy: ["clusterId", "nodeId", "timestamp"],
  rollUpBy: ["clusterId", "nodeId"],
  filters: ["clusterId", "nodeId"],
  groups: ["clusterId", "nodeId"],
});
