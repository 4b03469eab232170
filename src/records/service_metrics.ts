import { column, type Dataset, defineDataset } from "./dataset.ts";

/** One observation of a service. A measure that was not taken is absent, not 0. */
export interface ServiceMetrics {
  /** Service. */
  serviceName: string;
  /** Time of the observation, epoch ms. */
  timestamp: number;
  /** Status as the service reports it. `down` fires an alert. */
  status?: string;
  /** Time since the start, s. */
  uptime?: number;
  /** Restarts since the start of counting. */
  restartCount?: number;
  /** Request rate, requests/s. */
  requestRate?: number;
  /** Response time, ms. */
  responseTime?: number;
  /** Successful requests, percent. */
  successRate?: number;
  /** CPU limit, in a unit of your choice such as cores. */
  cpuLimit?: number;
  /** Memory limit, in a unit of your choice such as bytes. */
  memoryLimit?: number;
  /** CPU request, in the unit of the limit. */
  cpuRequest?: number;
  /** Memory request, in the unit of the limit. */
  memoryRequest?: number;
  /** Status of each dependency by service name. */
  dependencyHealth?: Record<string, string>;
  /** Running training jobs. */
  trainingJobsActive?: number;
  /** Queued training jobs. */
  trainingJobsQueued?: number;
  /** Failed training jobs. */
  trainingJobsFailed?: number;
}

/** Input form of {@linkcode ServiceMetrics}: accepts a `Date`. */
export interface ServiceMetricsInput extends Omit<ServiceMetrics, "timestamp"> {
  /** Time of the observation: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
}

/** The dataset of {@linkcode ServiceMetrics}. */
export const serviceMetrics: Dataset<ServiceMetrics> = defineDataset({
  name: "service_metrics",
  noun: "service metrics",
  columns: [
    column("text", "serviceName", { required: true, maxLength: 255, summary: true }),
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "status", { summary: true }),
    column("real", "uptime", { summary: true }),
    column("integer", "restartCount", { summary: true }),
    column("real", "requestRate", { summary: true }),
    column("real", "responseTime", { summary: true }),
    column("real", "successRate", { summary: true }),
    column("real", "cpuLimit"),
    column("real", "memoryLimit"),
    column("real", "cpuRequest"),
    column("real", "memoryRequest"),
    column("map", "dependencyHealth"),
    column("integer", "trainingJobsActive"),
    column("integer", "trainingJobsQueued"),
    column("integer", "trainingJobsFailed"),
  ],
  key: [],
  indexes: [["timestamp"], ["serviceName", "timestamp"]],
  partitionBy: "week",
  retentionDays: 90,
  chunkDays: 7,
  sortBy: ["serviceName", "timestamp"],
  rollUpBy: ["serviceName"],
  filters: ["serviceName"],
  groups: ["serviceName"],
});
