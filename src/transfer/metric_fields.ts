import { describe } from "../errors.ts";
import { DATASETS } from "../records/datasets.ts";
import type { MetricField, Term } from "./metric_mapping.ts";
import { TransferError } from "./transfer_error.ts";

const KEYS = [
  "dataset",
  "field",
  "metrics",
  "where",
  "except",
  "counter",
  "by",
  "quantile",
  "scale",
  "over",
  "isComplement",
  "bits",
];

/**
 * Reads own mappings of metrics: a JSON array of objects as in `metric_names.ts`, of which `dataset`, `field` and `metrics`
 * are required.
 *
 * @throws {TransferError} If the text is no such array.
 */
export function readMetricFields(text: string, name: string): MetricField[] {
  const refuse = (problem: string): never => {
    throw new TransferError(`Cannot read the metrics of ${name}: ${problem}. Correct the file.`, {
      code: "INVALID_FIELD",
    });
  };
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (error) {
    return refuse(`it is no JSON (${(error as Error).message})`);
  }
  if (!Array.isArray(found)) return refuse("it must be an array");
  return found.map((field: Partial<MetricField>, i) => {
    const at = `entry ${i + 1}`;
    const unknown = Object.keys(field ?? {}).find((key) => !KEYS.includes(key));
    if (unknown !== undefined) return refuse(`${at} has an unknown field ${describe(unknown)}`);
    const dataset = Object.hasOwn(DATASETS, String(field.dataset)) ? DATASETS[field.dataset!] : undefined;
    if (!dataset) return refuse(`${at} needs a dataset, one of ${Object.keys(DATASETS).join(", ")}`);
    if (!dataset.positions.has(String(field.field))) {
      return refuse(`${at} needs a field of ${dataset.name}, not ${describe(field.field)}`);
    }
    for (const term of [field, field.over].filter((term) => term !== undefined)) {
      if (!isTerm(term)) {
        return refuse(
          `${at} needs "metrics", an array of names; counter is rate or increase, by is sum, avg or max`,
        );
      }
    }
    return field as MetricField;
  });
}

function isTerm({ metrics, counter = "rate", by = "sum" }: Partial<Term>): boolean {
  return Array.isArray(metrics) && metrics.length > 0 && metrics.every((name) => typeof name === "string") &&
    ["rate", "increase"].includes(counter) && ["sum", "avg", "max"].includes(by);
}
