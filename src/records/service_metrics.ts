import { column, type Dataset, defineDataset } from "./dataset.ts";

/** One observation of a service. A measure that was not taken is absent, never 0. */
export interface ServiceMetrics {
  /** The service. */
  serviceName: string;
  /** When it was observed, in epoch milliseconds. */
  timestamp: number;
  /** The state, in the service's own words. */
  status?: string;
  /** Time since the start, s. */
  uptime?: number;
  /** Restarts so far. */
  restartCount?: number;
  /** Requests a second. */
  requestRate?: number;
  /** Response time, ms. */
  responseTime?: number;
  /** Successful requests, percent. */
  successRate?: number;
  /** Most CPU it may use. */
  cpuLimit?: number;
  /** Most memory it may use. */
  memoryLimit?: number;
  /** CPU set aside for it. */
  cpuRequest?: number;
  /** Memory set aside for it. */
  memoryRequest?: number;
  /** The state of each service it depends on, by name. */
  dependencyHealth?: Record<string, string>;
  /** Training jobs that run. */
  trainingJobsActive?: number;
  /** Training jobs that wait. */
  trainingJobsQueued?: number;
  /** Training jobs that failed. */
  trainingJobsFailed?: number;
}

/** {@linkcode ServiceMetrics} as they are handed in: a `Date` will do. */
export interface ServiceMetricsInput extends Omit<ServiceMetrics, "timestamp"> {
  /** When it was observed: epoch milliseconds or a `Date`. */
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
  chunkDays: 7,
  sortBy: ["serviceName", "timestamp"],
  rollUpBy: ["serviceName"],
  filters: ["serviceName"],
  groups: ["serviceName"],
});
