import { costEntries } from "./cost_entry.ts";
import type { Dataset, DatasetName } from "./dataset.ts";
import { serviceMetrics } from "./service_metrics.ts";
import { systemMetrics } from "./system_metrics.ts";

/** All datasets by name, in the order in which they are shown. */
export const DATASETS: Readonly<Record<DatasetName, Dataset<unknown>>> = {
  system_metrics: systemMetrics,
  service_metrics: serviceMetrics,
  cost_entries: costEntries,
};
