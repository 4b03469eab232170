import { costEntries, type CostEntry } from "./cost_entry.ts";
import type { Dataset, DatasetName } from "./dataset.ts";
import { type ServiceMetrics, serviceMetrics } from "./service_metrics.ts";
import { type SystemMetrics, systemMetrics } from "./system_metrics.ts";

/** The record of each dataset. */
interface RecordOf {
  system_metrics: SystemMetrics;
  service_metrics: ServiceMetrics;
  cost_entries: CostEntry;
}

/** All datasets by name, each with the type of its records, in the order in which they are shown. */
export const DATASETS: { readonly [Name in DatasetName]: Dataset<RecordOf[Name]> } = {
  system_metrics: systemMetrics,
  service_metrics: serviceMetrics,
  cost_entries: costEntries,
};
