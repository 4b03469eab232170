import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";

/** Datasets by the last part of their paths under `/api/v1`. */
export const API_DATASETS: Readonly<Record<string, Dataset<unknown>>> = {
  "system-metrics": DATASETS.system_metrics,
  "service-metrics": DATASETS.service_metrics,
  devices: DATASETS.device_metrics,
  usage: DATASETS.usage_records,
  costs: DATASETS.cost_entries,
  points: DATASETS.metric_points,
};
