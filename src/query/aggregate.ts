import { acceptAggregateRequest, hasMoney } from "../aggregation/aggregate_query.ts";
import type { Dataset } from "../records/dataset.ts";
import { type Arguments, type Option, optionsOf } from "./arguments.ts";
import { conflict, invalidValue, missing, readCount, readName, readOption } from "./option_values.ts";
import { readSelection } from "./selection.ts";
import { readZone } from "./time_zone.ts";
import { splitNames } from "./where.ts";

/** Options that request an aggregate in place of records. */
export const AGGREGATE_OPTIONS: readonly Option[] = optionsOf({
  "group-by FIELDS": "aggregate by these fields, such as category,tags.team",
  "bucket SPAN": "aggregate by time: 15m, 1h, 1d, 1w, 1mo, 1y …",
  "measure NAMES": "cpuUsage.avg,gpuUsage.p95 (avg min max sum count p95 …); of costs: effectiveCost …",
  "top N": "only the N largest groups, and one of all others",
  "compare WITH": "costs: change against the previous period, or a year before (year)",
  "empty-buckets": "also print buckets without records",
});

/** Returns true if an aggregate is requested. */
export function isAggregate(given: Arguments): boolean {
  return AGGREGATE_OPTIONS.some(({ name }) => given.has(name));
}

/** Reads and checks the request for an aggregate, before any database is opened. */
export function readAggregateRequest(given: Arguments, dataset: Dataset<unknown>): object {
  const top = readOption(given, "top", (name, text) => readCount(name, text, 1));
  const limit = readOption(given, "limit", readCount) || undefined;
  if (top !== undefined && limit !== undefined) {
    throw conflict("--top and --limit both limit the groups. Remove one.");
  }
  const groupBy = splitNames(given.text("group-by"));
  if ((top ?? limit) !== undefined && groupBy.length === 0) {
    const problem = top !== undefined ? "--top ranks groups" : "--limit counts the groups of an aggregate";
    throw conflict(`${problem}. Name their fields with --group-by.`);
  }
  const hasStart = ["since", "during", "days", "bucket"].some((name) => given.has(name));
  if (given.has("compare") && !hasStart) {
    throw missing("--compare compares periods. Give --bucket, --during or --since.");
  }
  const request = {
    ...readSelection(given, dataset),
    groupBy,
    bucket: given.text("bucket"),
    timeZone: readZone(given),
    emptyBuckets: given.has("empty-buckets") || undefined,
    top,
    limit,
    order: readOption(given, "order", (name, text) => readName(name, text, ["desc", "asc", "name"])),
    compare: readOption(given, "compare", (name, text) => readName(name, text, ["previous", "year"])),
    shares: hasMoney(dataset) && groupBy.length > 0 || undefined,
    ...readMeasures(given, dataset),
  };
  acceptAggregateRequest(dataset, request);
  return request;
}

function list(text = ""): string[] {
  return text.split(",").filter((name) => name !== "");
}

function readMeasures(given: Arguments, dataset: Dataset<unknown>): object {
  const names = list(given.text("measure"));
  if (names.length === 0) return {};
  if (hasMoney(dataset)) return { measure: given.text("measure") };
  const fields: Record<string, string[]> = {};
  for (const name of names) {
    const [field, measure] = name.split(/\.(.*)/s);
    if (!measure) {
      throw invalidValue("measure", "FIELD.MEASURE such as cpuUsage.avg", name);
    }
    (fields[field] ??= []).push(measure);
  }
  return { fields };
}
