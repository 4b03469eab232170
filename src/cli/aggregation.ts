import {
  aggregateCosts,
  aggregateFields,
  type AggregateSpan,
  type CostAggregate,
  separatorsOf,
  type UsageAggregate,
} from "../aggregation/aggregate.ts";
import { acceptAggregateRequest, COST_MEASURES, hasMoney } from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import type { GroupKey } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import type { Arguments, Option } from "./arguments.ts";
import { type Format, formatCsv, formatTable, isoTime, note, print, sparkline } from "./output.ts";
import { readZone } from "./command.ts";
import { readSelection } from "./selection.ts";
import { invalidValue, readCount, UsageError } from "./option_values.ts";
import { splitNames } from "./where.ts";

/** The most bars of a line: more buckets are put together. */
const MAX_BARS = 60;

/** Options that request an aggregate in place of records. */
export const AGGREGATE_OPTIONS: readonly Option[] = [
  { name: "group-by", value: "FIELDS", summary: "aggregate by these fields, such as category,tags.team" },
  { name: "bucket", value: "SPAN", summary: "aggregate by time: 15m, 1h, 1d, 1w, 1mo, 1y …" },
  {
    name: "measure",
    value: "NAMES",
    summary: "cpuUsage.avg,gpuUsage.p95 (avg min max sum count p95 …); of costs: effectiveCost …",
  },
  { name: "top", value: "N", summary: "only the N largest groups, and one of all others" },
  { name: "empty-buckets", summary: "also print buckets without records" },
];

/** Returns true if an aggregate is requested. */
export function isAggregate(given: Arguments): boolean {
  return AGGREGATE_OPTIONS.some(({ name }) => given.has(name));
}

/** Reads and checks the request for an aggregate, before any database is opened. */
export function readAggregateRequest(given: Arguments, dataset: Dataset<unknown>): object {
  const no = ["limit", "order"].find((name) => given.has(name));
  if (no) {
    throw new UsageError(`--${no} applies to records, not to aggregates. Use --top N.`, {
      code: "CONFLICTING_OPTIONS",
    });
  }
  const top = given.text("top");
  const request = {
    ...readSelection(given, dataset),
    groupBy: splitNames(given.text("group-by")),
    bucket: given.text("bucket"),
    timeZone: readZone(given),
    emptyBuckets: given.has("empty-buckets") || undefined,
    top: top === undefined ? undefined : readCount("top", top, 1),
    ...readMeasures(given, dataset),
  };
  if (top !== undefined && !given.has("group-by")) {
    throw new UsageError("--top ranks groups. Name their fields with --group-by.", {
      code: "CONFLICTING_OPTIONS",
    });
  }
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

/** Runs the query, prints the result, and returns the number of rows. */
export async function printAggregate(
  backend: Backend,
  dataset: Dataset<unknown>,
  { request, format }: { request: object; format: Format },
): Promise<number> {
  const found: Row[] = hasMoney(dataset)
    ? await aggregateCosts(backend, request)
    : await aggregateFields(backend, dataset, request);
  if (format === "json") print(JSON.stringify(found.map(toJson), null, 2));
  else if (format === "ndjson") { for (const row of found) print(JSON.stringify(toJson(row))); }
  else {
    const columns = columnsOf(dataset, request, found);
    const header = columns.map(({ title }) => title);
    if (format === "csv") {
      print(formatCsv(header));
      for (const row of found) print(formatCsv(columns.map(({ cell }) => cell(row) ?? undefined)));
    } else if (found.length > 0) {
      print(formatTable(header, found.map((row) => columns.map(({ cell }) => cell(row) ?? ""))));
      if (Deno.stdout.isTerminal()) printTrends(found);
    }
  }
  const { query, groupBy, groupNames } = acceptAggregateRequest(dataset, request);
  const empty = groupBy.filter((_, i) => found.every(({ group }) => group?.[groupNames[i]] === null));
  await noteAbsentKeys(backend, dataset, {
    query,
    keys: found.length > 0 ? empty : [...groupBy, ...query.where ?? []],
  });
  return found.length;
}

/** Says which keys of maps no record in the time range has: most often they are misspelled. */
export async function noteAbsentKeys(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query: { startTime, endTime }, keys }: { query: RecordQuery; keys: readonly GroupKey[] },
): Promise<void> {
  for (const { field, key } of keys) {
    if (key === undefined) continue;
    const present = { field, key, operator: "present", values: [] } as const;
    const query = { ...acceptQuery(dataset, { startTime, endTime }), where: [present] };
    const measures = [{ function: "count" } as const];
    const [{ values: [count] }] = await backend.aggregate(dataset, query, { groupBy: [], measures });
    if (count === 0) note(`No record has ${field}.${key}.`);
  }
}

/** A row with its times as ISO 8601. */
function toJson({ startTime, endTime, ...rest }: AggregateSpan): object {
  return {
    ...(startTime === undefined ? {} : { startTime: isoTime(startTime), endTime: isoTime(endTime!) }),
    ...rest,
  };
}

/** Any row of a result. */
type Row =
  & AggregateSpan
  & Partial<Pick<CostAggregate, "basis" | "total">>
  & Partial<UsageAggregate>;

interface ResultColumn {
  readonly title: string;
  cell(row: Row): string | null | undefined;
}

/** Columns of a result as a table: bucket, group, then measures. */
function columnsOf(dataset: Dataset<unknown>, request: object, found: readonly Row[]): ResultColumn[] {
  const { bucket, groupNames, fieldMeasures, top, measure } = acceptAggregateRequest(dataset, request);
  const columns: ResultColumn[] = [];
  const add = (title: string, cell: ResultColumn["cell"]) => columns.push({ title, cell });
  if (bucket) add("startTime", ({ startTime }) => isoTime(startTime!));
  for (const name of groupNames) add(name, ({ group }) => group![name]);
  if (top !== undefined) add("others", ({ isOther }) => isOther ? "yes" : null);
  if (hasMoney(dataset)) {
    add("currency", ({ currency }) => currency);
    if (found.some(({ basis }) => basis !== undefined)) add("basis", ({ basis = "billed" }) => basis);
    if (COST_MEASURES[measure] !== undefined) add("unit", ({ unit }) => unit);
    add("total", ({ total }) => total);
  } else {
    for (const field of separatorsOf(dataset, fieldMeasures)) {
      add(field, (row) => row[field as "currency" | "unit"]);
    }
  }
  add("count", ({ count }) => String(count));
  for (const { field, measure } of fieldMeasures) {
    add(`${field}.${measure}`, ({ fields }) => fields?.[field]?.[measure]?.toString());
  }
  return columns;
}

/** Below the table: how each group went over time, as a line of bars. */
function printTrends(found: readonly Row[]): void {
  const trends = trendsOf(found);
  if (trends.length === 0) return;
  print("");
  print(formatTable(["group", "over time"], trends));
}

/** Each group with its totals (of metrics: its first measure, or the number of records) as a line of bars. */
export function trendsOf(found: readonly Row[]): [string, string][] {
  const times = [...new Set(found.map(({ startTime }) => startTime))].sort((a, b) => a! - b!);
  if (times.length < 2) return []; // without buckets there is only one
  const perBar = Math.ceil(times.length / MAX_BARS);
  const barOf = new Map(times.map((time, i) => [time, Math.floor(i / perBar)]));
  const groups = new Map<string, number[]>();
  for (const row of found) {
    const group = row.isOther
      ? ["(others)"]
      : Object.values(row.group ?? {}).map((value) => value ?? "(none)");
    const separate = [row.currency, row.basis, row.unit].filter((value) => value);
    const name = [...group, ...separate].join(" ");
    const bars = groups.get(name) ?? Array<number>(Math.ceil(times.length / perBar)).fill(0);
    bars[barOf.get(row.startTime)!] += heightOf(row);
    groups.set(name, bars);
  }
  return [...groups].map(([name, bars]) => {
    const most = Math.max(...bars);
    return [name || "(all)", sparkline(bars.map((height) => most > 0 ? height / most * 100 : 0))];
  });
}

function heightOf({ total, count, fields = {} }: Row): number {
  if (total !== undefined) return Number(total);
  const [first] = Object.values(fields).flatMap((measures) => Object.values(measures));
  return first !== undefined ? Number(first) : (Object.keys(fields).length > 0 ? 0 : count!);
}
