import { describe } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS as BY_TABLE } from "../records/datasets.ts";
import { isoTime } from "../transfer/values.ts";
import { type Arguments, type Option, optionsOf } from "./arguments.ts";
import { readWhere, WHERE_OPTION } from "./where.ts";
import { readZone, TIME_ZONE_OPTION } from "./time_zone.ts";
import {
  conflict,
  invalidValue,
  readBound,
  readName,
  readNumber,
  readOption,
  readSpan,
  readTime,
  UsageError,
} from "./option_values.ts";

/** Datasets by their names on the command line. */
export const DATASETS: Readonly<Record<string, Dataset<unknown>>> = {
  metrics: BY_TABLE.system_metrics,
  services: BY_TABLE.service_metrics,
  devices: BY_TABLE.device_metrics,
  usage: BY_TABLE.usage_records,
  costs: BY_TABLE.cost_entries,
  points: BY_TABLE.metric_points,
};

/** The names of the datasets on the command line, as its usage lines have them. */
export const DATASET_NAMES: string = Object.keys(DATASETS).join("|");

/** Option that names a dataset by its table, as the original OpenFinOps does. */
export const TABLE_OPTION: Option = {
  name: "table",
  value: "NAME",
  summary: `the dataset by table name: ${Object.values(DATASETS).map(({ name }) => name).join(", ")}`,
};

/** Reads the name of a dataset, or of its table. */
export function readDataset(name: string): Dataset<unknown> {
  const byTable = Object.values(DATASETS).find((dataset) => dataset.name === name);
  return byTable ?? DATASETS[readName("dataset", name, Object.keys(DATASETS))];
}

const DELETED = Object.entries(DATASETS).filter(([, { retentionDays }]) => retentionDays < Infinity)
  .map(([name]) => name);

/** Option that names datasets to delete from. */
export const DATASET_OPTION: Option = {
  name: "dataset",
  value: "NAMES",
  summary: `datasets whose old records are deleted: ${Object.keys(DATASETS).join(", ")} (default ${
    DELETED.join(",")
  })`,
};

/** Reads the datasets to delete from: those that are named, else those that a cleanup deletes from by default. */
export function readDatasets(given: Arguments): Dataset<unknown>[] {
  const names = given.text("dataset")?.split(",") ?? DELETED;
  return [...new Set(names.map(readDataset))];
}

/** Reads the first positional argument or `--table`, if either is given. */
export function readDatasetName(given: Arguments): string | undefined {
  const [name] = given.positionals;
  const table = given.text("table");
  if (name === undefined || table === undefined) return name ?? table;
  throw conflict(`--table and ${describe(name)} both name a dataset. Remove one.`);
}

/** Options that select a time range. */
export const RANGE_OPTIONS: readonly Option[] = [
  ...optionsOf({
    "since TIME": "from this time: 2026-10-05, 2026-10, yesterday, 7d or 1mo ago …",
    "until TIME": "before this time, in the same forms",
    "during PERIOD": "only this day, month, quarter or year: last-month, 2026-10, 2026-Q3",
    "days N": "only the last N days; the same as --since Nd",
  }),
  TIME_ZONE_OPTION,
];

/** Options that filter by a field of any dataset. */
const FILTERS = [...new Set(Object.values(DATASETS).flatMap(({ filters }) => filters))]
  .map((field) => ({ field, name: field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`) }));

/** True if records may have a source: those of costs do. */
function hasSource(dataset: Dataset<unknown> | undefined): boolean {
  return dataset?.columns.some(({ field }) => field === "source") ?? true;
}

/** Options that select records: of any dataset, or of one. */
export function selectionOptions(dataset?: Dataset<unknown>): Option[] {
  const filters = FILTERS.filter(({ field }) => dataset?.filters.includes(field) ?? true);
  return [
    ...RANGE_OPTIONS,
    ...filters.map(({ field, name }) => ({ name, value: "VALUE", summary: `only this ${field}` })),
    ...(hasSource(dataset) ? [{ name: "source", value: "NAME", summary: "only costs of this source" }] : []),
    WHERE_OPTION,
  ];
}

/** Options that select records of any dataset. */
export const SELECTION_OPTIONS: readonly Option[] = selectionOptions();

/** Options that each set the start of a range. */
const STARTS = ["days", "since", "during"];

export function readRange(given: Arguments): { startTime?: number; endTime?: number } {
  const [start, other = start === "during" && given.has("until") ? "until" : undefined] = STARTS.filter((
    name,
  ) => given.has(name));
  if (other !== undefined) {
    const what = other === "until" ? "end" : "start";
    throw conflict(`--${start} and --${other} both set the ${what} of the range. Remove one.`);
  }
  const timeZone = readZone(given);
  if (start === "during") return readPeriod("during", given.text("during")!, timeZone);
  const days = given.text("days");
  const since = days === undefined ? given.text("since") : `${readNumber("days", days)}d`;
  const until = given.text("until");
  const startTime = since === undefined ? undefined : readBound("since", since, timeZone);
  const endTime = until === undefined ? undefined : readBound("until", until, timeZone);
  if (startTime !== undefined && endTime !== undefined && startTime > endTime) {
    throw new UsageError(
      `--since (${isoTime(startTime)}) must be no later than --until (${isoTime(endTime)}).`,
      "INVALID_OPTION",
    );
  }
  return { ...(startTime === undefined ? {} : { startTime }), ...(endTime === undefined ? {} : { endTime }) };
}

export function readAt(given: Arguments): { at?: number } {
  return { at: readOption(given, "at", (name, text) => readTime(name, text, readZone(given))) };
}

/** Reads a period that has a length, such as a day or a month. */
export function readPeriod(
  option: string,
  text: string,
  timeZone: string,
): { startTime: number; endTime: number } {
  const { start, end } = readSpan(option, text, timeZone);
  if (start < end) return { startTime: start, endTime: end };
  throw invalidValue(option, "a period such as 2026-10-05, 2026-10, 2026-Q3, yesterday or last-month", text);
}

/** Reads the query; the caller validates it. `others` are options with the name of a filter and a meaning of their own. */
export function readSelection(
  given: Arguments,
  dataset: Dataset<unknown>,
  others: readonly string[] = [],
): Record<string, unknown> {
  const asked: Record<string, unknown> = readRange(given);
  for (const { field, name } of FILTERS) {
    const value = given.text(name);
    if (value === undefined) continue;
    if (!dataset.filters.includes(field)) {
      if (others.includes(name)) continue;
      throw conflict(`--${name} does not apply to ${dataset.name}. Remove it.`);
    }
    asked[field] = value;
  }
  const where = readWhere(given, { dataset, timeZone: readZone(given) });
  const source = given.text("source");
  if (source !== undefined && !hasSource(dataset)) {
    throw conflict("--source applies to costs only. Remove it.");
  }
  if (source !== undefined) where.push({ field: "source", eq: source });
  if (where.length > 0) asked.where = where;
  return asked;
}
