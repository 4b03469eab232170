import { column, type Dataset, defineDataset } from "./dataset.ts";

/** One observation of an accelerator. A measure that was not taken is absent, not 0. */
export interface DeviceMetrics {
  /** Time of the observation, epoch ms. */
  timestamp: number;
  /** Cluster. */
  clusterId: string;
  /** Node in the cluster. */
  nodeId: string;
  /** Device: its UUID or PCI id. */
  deviceId: string;
  /** Position of the device in its node, from 0. */
  deviceIndex?: number;
  /** Vendor, such as `nvidia`. */
  vendor?: string;
  /** Model of the device, such as `NVIDIA H100 80GB HBM3`. */
  model?: string;
  /** Partition of the device, such as a MIG instance. */
  partition?: string;
  /** Time in which the device computed, percent. */
  utilization?: number;
  /** Time in which the memory was read or written, percent. */
  memoryUtilization?: number;
  /** Time in which the tensor cores computed, percent. */
  tensorUtilization?: number;
  /** Memory in use, bytes. */
  memoryUsed?: number;
  /** Memory of the device, bytes. */
  memoryTotal?: number;
  /** Temperature of the chip, °C. */
  temperature?: number;
  /** Temperature of the memory, °C. */
  memoryTemperature?: number;
  /** Power drawn, W. */
  powerConsumption?: number;
  /** Energy drawn since the start of counting, J. */
  energyConsumption?: number;
  /** Clock of the compute units, MHz. */
  clockSm?: number;
  /** Clock of the memory, MHz. */
  clockMemory?: number;
  /** Last error of the device, such as an XID; 0 for none. */
  errorCode?: number;
  /** True while the device is slowed down by heat or power. */
  throttled?: boolean;
  /** Labels of your choice: pod, namespace, container, job. */
  labels?: Record<string, string>;
}

/** Input form of {@linkcode DeviceMetrics}: accepts a `Date`, and the ids of cluster and node have defaults. */
export interface DeviceMetricsInput extends Omit<DeviceMetrics, "timestamp" | "clusterId" | "nodeId"> {
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

/** The dataset of {@linkcode DeviceMetrics}. */
export const deviceMetrics: Dataset<DeviceMetrics> = defineDataset({
  name: "device_metrics",
  noun: "device metrics",
  since: 4,
  columns: [
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "clusterId", { default: "default", maxLength: 255, summary: true }),
    column("text", "nodeId", { default: "default", maxLength: 255, summary: true }),
    column("text", "deviceId", { required: true, maxLength: 255, summary: true }),
    column("integer", "deviceIndex"),
    column("text", "vendor"),
    column("text", "model"),
    column("text", "partition"),
    column("real", "utilization", { summary: true }),
    column("real", "memoryUtilization"),
    column("real", "tensorUtilization"),
    column("integer", "memoryUsed", { summary: true }),
    column("integer", "memoryTotal", { summary: true }),
    column("real", "temperature", { summary: true }),
    column("real", "memoryTemperature"),
    column("real", "powerConsumption", { summary: true }),
    column("real", "energyConsumption"),
    column("real", "clockSm"),
    column("real", "clockMemory"),
    column("integer", "errorCode"),
    column("boolean", "throttled"),
    column("map", "labels"),
  ],
  key: [],
  indexes: [["timestamp"], ["clusterId", "nodeId", "timestamp"]],
  partitionBy: "week",
  retentionDays: 90,
  chunkDays: 1,
  sortBy: ["clusterId", "nodeId", "deviceId", "timestamp"],
  rollUpBy: ["clusterId", "nodeId", "deviceId"],
  filters: ["clusterId", "nodeId", "deviceId"],
  groups: ["clusterId", "nodeId", "deviceId"],
});
