/**
 * Options of views as data, and functions that read them for a command or a request.
 *
 * @module
 */
import type { CostMeasure } from "../aggregation/aggregate_query.ts";
import type { AnomalyQuery } from "../monitoring/anomalies/anomalies.ts";
import type { BudgetQuery } from "../monitoring/budgets/budgets.ts";
import { type HealthOptions, healthWindow } from "../monitoring/health.ts";
import { DAY_MS, parseBucket } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import { ALLOCATION_METHODS, type AllocationQuery } from "../views/allocation.ts";
import type { CostSummaryOptions } from "../views/costs.ts";
import type { DevicesQuery } from "../views/devices.ts";
import type { ModelsQuery } from "../views/models.ts";
import { type Arguments, type Option, optionsOf } from "./arguments.ts";
import {
  invalidValue,
  missing,
  readCount,
  readDurationMs,
  readName,
  readNumber,
  readOption,
} from "./option_values.ts";
import { RANGE_OPTIONS, readAt, readRange, readSelection, selectionOptions } from "./selection.ts";
import { readZone, TIME_ZONE_OPTION } from "./time_zone.ts";
import { readWhere, splitNames, WHERE_OPTION } from "./where.ts";

export const SUMMARY_OPTIONS: readonly Option[] = [
  ...withDefault(selectionOptions(costEntries), "this-month"),
  ...optionsOf({
    "at TIME": "as of this time: later costs do not count (default now)",
    "group-by FIELDS": "list by these fields (default category, and resourceId)",
    "measure NAME": "effectiveCost, listCost, … (default amount)",
    "top N": "number of groups to list, 0 for none (default 10)",
  }),
];

export function readSummary(given: Arguments): CostSummaryOptions {
  return {
    ...readSelection(given, costEntries),
    timeZone: readZone(given),
    ...readAt(given),
    top: readOption(given, "top", readCount),
    groupBy: readGroups(given),
    measure: given.text("measure") as CostMeasure | undefined, // checked with the query
  };
}

export const BUDGET_OPTIONS: readonly Option[] = [
  { name: "at", value: "TIME", summary: "show the period that contains this time (default now)" },
  TIME_ZONE_OPTION,
];

export function readBudgets(given: Arguments, budgetId?: string): BudgetQuery {
  return { budgetId, ...readAt(given) };
}

export const HEALTH_OPTIONS: readonly Option[] = [
  ...optionsOf({
    "at TIME": "health at this time (default now)",
    "window TIME": "nodes silent for this long are down, unless their cluster has an interval (default 5m)",
  }),
  TIME_ZONE_OPTION,
];

/** Reads and checks the options of the health of clusters. */
export function readHealth(given: Arguments): HealthOptions {
  const options = { ...readAt(given), windowMs: readOption(given, "window", readDurationMs) };
  healthWindow(options); // a wrong one fails before a database is opened
  return options;
}

export const ANOMALY_OPTIONS: readonly Option[] = [
  ...withDefault(RANGE_OPTIONS, "30d"),
  ...optionsOf({
    "group-by FIELDS":
      "series by these fields, such as tags.team or subAccountId (default category,serviceName)",
  }),
  WHERE_OPTION,
];

export function readAnomalies(given: Arguments): AnomalyQuery {
  const timeZone = readZone(given);
  return {
    ...readRange(given),
    timeZone,
    where: readWhere(given, { dataset: costEntries, timeZone }),
    groupBy: readGroups(given),
  };
}

function readGroups(given: Arguments): string[] | undefined {
  return readOption(given, "group-by", (_, text) => splitNames(text));
}

export const ALLOCATION_OPTIONS: readonly Option[] = [
  ...RANGE_OPTIONS,
  ...optionsOf({
    "by LABEL": "label of devices: team, pod, model … (required)",
    "method NAME": `${ALLOCATION_METHODS.join(", ")} (default utilization)`,
    "basis NAME": "costs to divide: estimated or billed (default estimated)",
    "provider NAME": "count only the tokens of this provider, such as vllm",
    "bucket SPAN": "span within which a cost is divided (default 1d)",
  }),
];

export function readAllocation(given: Arguments): AllocationQuery {
  const by = given.text("by");
  if (by === undefined) {
    throw missing("Pass --by with a label of devices.");
  }
  const method = readName("method", given.text("method") ?? "utilization", ALLOCATION_METHODS);
  const basis = readName("basis", given.text("basis") ?? "estimated", ["estimated", "billed"]);
  const span = given.text("bucket") ?? "1d";
  const bucket = parseBucket(span);
  if (!bucket) throw invalidValue("bucket", "a span such as 1h, 6h or 1d", span);
  const { startTime, endTime = Date.now() } = readRange(given);
  if (startTime === undefined) {
    throw missing("Pass a time range: --since, --during or --days.");
  }
  const timeZone = readZone(given);
  return { startTime, endTime, by, method, basis, bucket, timeZone, provider: given.text("provider") };
}

export const MODEL_OPTIONS: readonly Option[] = [
  ...RANGE_OPTIONS,
  ...optionsOf({
    "provider NAME": "only this provider",
    "model NAME": "only this model",
    "by TAG": "tag of the second list (default team)",
    "value TEXT": "only usage with this value of the tag",
  }),
];

export function readModels(given: Arguments): ModelsQuery {
  const [provider, model, by, value] = ["provider", "model", "by", "value"].map((name) => given.text(name));
  return { ...readRange(given), provider, model, by, value };
}

export const DEVICE_OPTIONS: readonly Option[] = [
  ...withDefault(RANGE_OPTIONS, "1d"),
  ...optionsOf({
    "cluster-id ID": "only this cluster",
    "basis NAME": "costs of devices: estimated or billed (default estimated)",
    "idle-below N": "mean utilization of an idle device, percent (default 5)",
  }),
];

export function readDevices(given: Arguments): DevicesQuery {
  const { endTime = Date.now(), startTime = endTime - DAY_MS } = readRange(given);
  const basis = readName("basis", given.text("basis") ?? "estimated", ["estimated", "billed"]);
  return {
    startTime,
    endTime,
    basis,
    timeZone: readZone(given),
    clusterId: given.text("cluster-id"),
    idleBelow: readOption(given, "idle-below", readNumber),
  };
}

/** Returns options with the default of `since` in its summary. */
export function withDefault(options: readonly Option[], since: string): Option[] {
  return options.map((option) =>
    option.name === "since" ? { ...option, summary: `${option.summary} (default ${since})` } : option
  );
}
