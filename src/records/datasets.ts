import { ValidationError } from "../errors.ts";
import { costEntries, type CostEntry } from "./cost_entry.ts";
import type { Dataset, DatasetName } from "./dataset.ts";
import { type DeviceMetrics, deviceMetrics } from "./device_metrics.ts";
import { type MetricPoint, metricPoints } from "./metric_point.ts";
import { type ServiceMetrics, serviceMetrics } from "./service_metrics.ts";
import { type SystemMetrics, systemMetrics } from "./system_metrics.ts";
import { type UsageRecord, usageRecords } from "./usage_record.ts";

/** The record of each dataset. */
interface RecordOf {
  system_metrics: SystemMetrics;
  service_metrics: ServiceMetrics;
  device_metrics: DeviceMetrics;
  usage_records: UsageRecord;
  cost_entries: CostEntry;
  metric_points: MetricPoint;
}

/** All datasets by name, each with the type of its records, in the order in which they are shown. */
export const DATASETS: { readonly [Name in DatasetName]: Dataset<RecordOf[Name]> } = {
  system_metrics: systemMetrics,
  service_metrics: serviceMetrics,
  device_metrics: deviceMetrics,
  usage_records: usageRecords,
  cost_entries: costEntries,
  metric_points: metricPoints,
};

const NAMES = Object.keys(DATASETS) as DatasetName[];

/** Makes something for each dataset, by its name. */
export function byDataset<V>(make: (dataset: Dataset<unknown>) => V): Record<DatasetName, V> {
  return Object.fromEntries(NAMES.map((name) => [name, make(DATASETS[name])])) as Record<DatasetName, V>;
}

/** Days that records are kept: by dataset, or one number. */
export type RetentionDays = number | Readonly<Partial<Record<DatasetName, number>>>;

/** Datasets that one number stands for where none is named: those that a cleanup deletes by default. */
export const DELETED_BY_DEFAULT: readonly DatasetName[] = NAMES.filter((name) =>
  DATASETS[name].retentionDays < Infinity
);

/** The days of each dataset that a retention gives a number for, among the datasets that it is for. */
export function daysByDataset(
  retention: RetentionDays,
  datasets: readonly DatasetName[] = NAMES,
): Partial<Record<DatasetName, number>> {
  if (typeof retention === "object") {
    const unknown = Object.keys(retention).find((name) => !Object.hasOwn(DATASETS, name));
    if (unknown !== undefined) {
      const expected = `an object with numbers of days for ${NAMES.join(", ")}`;
      throw new ValidationError({ subject: "a retention", field: "retentionDays", value: unknown, expected });
    }
  }
  const days = (name: DatasetName) => typeof retention === "number" ? retention : retention[name];
  return Object.fromEntries(
    datasets.map((name) => [name, days(name)]).filter(([, days]) => days !== undefined),
  );
}
