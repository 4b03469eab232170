import { column, type Dataset, defineDataset } from "./dataset.ts";

/** One value of a metric that no field of another dataset takes, as OpenTelemetry and Prometheus send it. */
export interface MetricPoint {
  /** Time of the value, epoch ms. */
  timestamp: number;
  /** Name of the metric. */
  name: string;
  /** Value, in the unit of the metric. Counters are cumulative, unless their name or sender says otherwise. */
  value: number;
  /** Attributes or labels of the series. */
  attributes?: Record<string, string>;
}

/** Input form of {@linkcode MetricPoint}: accepts a `Date`. */
export interface MetricPointInput extends Omit<MetricPoint, "timestamp"> {
  /** Time of the value: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
}

/** The dataset of {@linkcode MetricPoint}. */
export const metricPoints: Dataset<MetricPoint> = defineDataset({
  name: "metric_points",
  noun: "a metric point",
  since: 6,
  columns: [
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "name", { required: true, maxLength: 255, summary: true }),
    column("real", "value", { required: true, summary: true }),
    column("map", "attributes", { summary: true }),
  ],
  key: [],
  indexes: [["timestamp"], ["name", "timestamp"]],
  partitionBy: "week",
  retentionDays: 90,
  chunkDays: 1,
  sortBy: ["name", "timestamp"],
  rollUpBy: [],
  filters: ["name"],
  groups: ["name"],
});
