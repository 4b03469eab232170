import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import { serviceMetrics } from "../records/service_metrics.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import type { Arguments, Option } from "./arguments.ts";
import { readBound, readName, UsageError } from "./option_values.ts";

/** The datasets by the names that the command line gives them. */
export const DATASETS: Readonly<Record<string, Dataset<unknown>>> = {
  metrics: systemMetrics,
  services: serviceMetrics,
  costs: costEntries,
};

/** The dataset that a name on the command line means. */
export function readDataset(name: string): Dataset<unknown> {
  return DATASETS[readName("dataset", name, Object.keys(DATASETS))];
}

/** The options that choose a range of time. */
export const RANGE_OPTIONS: readonly Option[] = [
  { name: "since", value: "TIME", summary: "from this time on: ISO 8601, or a duration ago (7d)" },
  { name: "until", value: "TIME", summary: "before this time: ISO 8601, or a duration ago" },
];

/** The options that filter by a field, of whichever dataset has it. */
const FILTERS = [...new Set(Object.values(DATASETS).flatMap(({ filters }) => filters))]
  .map((field) => ({ field, name: field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`) }));

/** The options that choose records. */
export const SELECTION_OPTIONS: readonly Option[] = [
  ...RANGE_OPTIONS,
  ...FILTERS.map(({ field, name }) => ({ name, value: "ID", summary: `only this ${field}` })),
];

/** The range of time that is asked for. */
export function readRange(given: Arguments): { startTime?: number; endTime?: number } {
  const since = given.text("since");
  const until = given.text("until");
  return {
    ...(since === undefined ? {} : { startTime: readBound("since", since) }),
    ...(until === undefined ? {} : { endTime: readBound("until", until) }),
  };
}

/** The query that is asked for, still to be checked. */
export function readSelection(given: Arguments, dataset: Dataset<unknown>): Record<string, unknown> {
  const asked: Record<string, unknown> = readRange(given);
  for (const { field, name } of FILTERS) {
    const value = given.text(name);
    if (value === undefined) continue;
    if (!dataset.filters.includes(field)) {
      throw new UsageError(`--${name} does not apply to ${dataset.name}`, { code: "CONFLICTING_OPTIONS" });
    }
    asked[field] = value;
  }
  return asked;
}
