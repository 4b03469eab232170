import {
  aggregateCosts,
  aggregateFields,
  type AggregateSpan,
  type CostAggregate,
  separatorsOf,
  type UsageAggregate,
} from "../aggregation/aggregate.ts";
import {
  acceptAggregateRequest,
  type AggregateRequest,
  COST_MEASURES,
  hasMoney,
} from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import type { GroupKey } from "../records/aggregation.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import {
  type Format,
  formatCsv,
  formatTable,
  isoTime,
  note,
  print,
  showChange,
  showMoney,
  sparkline,
  terminalColumns,
} from "./output.ts";
import type { Cell } from "./table.ts";
import { bucketLabel } from "../records/periods.ts";
import { NONE } from "../query/where.ts";

/** The most bars of a line, also on a wider terminal: more buckets are put together. */
const MAX_BARS = 120;
const MIN_BARS = 20;
/** The most records in which keys are looked for, and the most keys that a note names. */
const [MAX_SEARCHED, MAX_KEYS] = [1_000, 10];

/** Runs the query, prints the result, and returns the number of rows. */
export async function printAggregate(
  backend: Backend,
  dataset: Dataset<unknown>,
  { request, format }: { request: object; format: Format },
): Promise<number> {
  const found: Row[] = hasMoney(dataset)
    ? await aggregateCosts(backend, request)
    : await aggregateFields(backend, dataset, request);
  const accepted = acceptAggregateRequest(dataset, request);
  if (format === "json") print(JSON.stringify(found.map(toJson), null, 2));
  else if (format === "ndjson") { for (const row of found) print(JSON.stringify(toJson(row))); }
  else {
    const columns = columnsOf(dataset, accepted, found).filter(({ only = format }) => only === format);
    const header = columns.map(({ title }) => title);
    if (format === "csv") {
      print(formatCsv(header));
      for (const row of found) print(formatCsv(columns.map(({ cell }) => cell(row)?.toString())));
    } else if (found.length > 0) {
      print(formatTable(header, found.map((row) => columns.map(({ cell, show = cell }) => show(row) ?? ""))));
      if (Deno.stdout.isTerminal()) printTrends(found);
    }
  }
  const { query, groupBy, groupNames } = accepted;
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
    if (count === 0) {
      note(`No record has ${field}.${key}.${await knownKeys(backend, dataset, { query, field })}`);
    }
  }
}

/** Names keys that the newest records have, in a sentence. */
async function knownKeys(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query, field }: { query: RecordQuery; field: string },
): Promise<string> {
  const keys = new Set<string>();
  const newest = { ...query, where: undefined, limit: MAX_SEARCHED };
  for await (const page of backend.read(dataset, newest)) {
    for (const record of page as Record<string, object | undefined>[]) {
      for (const key of Object.keys(record[field] ?? {})) if (keys.size < MAX_KEYS) keys.add(key);
    }
  }
  return keys.size === 0 ? "" : ` The newest have ${field}: ${[...keys].toSorted().join(", ")}.`;
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
  & Partial<Omit<CostAggregate, keyof AggregateSpan | "unit" | "currency">>
  & Partial<UsageAggregate>;

/** Columns of a result. */
interface ResultColumn {
  readonly title: string;
  /** The value in CSV. */
  cell(row: Row): string | null | undefined;
  /** The cell of a table, if it is another. */
  show?(row: Row): Cell;
  /** The only format that has the column. */
  readonly only?: Format;
}

/** The group of all others, in tables. */
export const OTHER = "(other)";

/** A group in a table. A name that reads as none or all others is in quotes. */
export function showGroup(value: string | null): string {
  if (value === null) return NONE;
  return value === NONE || value === OTHER || value.startsWith('"') ? JSON.stringify(value) : value;
}

/** Columns of a result: bucket, group, then measures. */
function columnsOf(
  dataset: Dataset<unknown>,
  { bucket, timeZone, groupNames, fieldMeasures, top, measure, ...request }: AggregateRequest,
  found: readonly Row[],
): ResultColumn[] {
  const columns: ResultColumn[] = [];
  const add = (title: string, cell: ResultColumn["cell"], more: Partial<ResultColumn> = {}) =>
    columns.push({ title, cell, ...more });
  if (bucket) {
    add("startTime", ({ startTime }) => isoTime(startTime!), { only: "csv" });
    add("endTime", ({ endTime }) => isoTime(endTime!), { only: "csv" });
    const label = ({ startTime }: Row) => bucketLabel(bucket, startTime!, timeZone);
    add(BUCKET_TITLES[bucket.unit] ?? "time", label, { only: "table" });
  }
  // A field whose values are kept apart anyway has one column, also where it is grouped by.
  const isMoney = hasMoney(dataset) && COST_MEASURES[measure] === undefined;
  const apart = new Map(
    apartFields(dataset, { fieldMeasures, isMoney }).map((field) => [field, cellOf(field)]),
  );
  const labeled = groupNames.find((name) => !apart.has(name));
  for (const name of groupNames) {
    const cell = apart.get(name);
    if (cell) {
      add(name, cell, { show: (row) => showGroup(cell(row) ?? null) });
      continue;
    }
    const show = ({ group, isOther }: Row) =>
      !isOther ? showGroup(group![name]) : name === labeled ? OTHER : "";
    add(name, ({ group }) => group![name], { show });
  }
  if (top !== undefined) add("others", ({ isOther }) => isOther ? "yes" : null, { only: "csv" });
  for (const [field, cell] of apart) {
    if (groupNames.includes(field)) continue;
    if (field !== "basis" || found.some(({ basis }) => basis !== undefined)) add(field, cell);
  }
  if (hasMoney(dataset)) {
    const money = (amount: string | undefined, currency: string) =>
      amount === undefined ? "" : isMoney ? showMoney(amount, currency) : amount;
    add("total", ({ total }) => total, { show: ({ total, currency }) => money(total, currency!) });
    if (request.shares) {
      add("share", ({ share }) => share?.toString(), { show: ({ share }) => `${share!.toFixed(1)} %` });
    }
    if (request.compare) {
      const show = ({ previousTotal, currency }: Row) => money(previousTotal, currency!);
      add("previousTotal", ({ previousTotal }) => previousTotal, { show });
      add("change", ({ change }) => change?.toString(), { show: ({ change }) => showChange(change) });
      if (found.some(({ sameDaysTotal }) => sameDaysTotal !== undefined)) {
        const sameDays = ({ sameDaysTotal, currency }: Row) => money(sameDaysTotal, currency!);
        add("sameDaysTotal", (row) => row.sameDaysTotal, { show: sameDays });
        add("sameDaysChange", (row) => row.sameDaysChange?.toString(), {
          show: (row) => showChange(row.sameDaysChange),
        });
      }
    }
  }
  add("count", ({ count }) => String(count));
  for (const { field, measure } of fieldMeasures) {
    const cell = ({ fields }: Row) => fields?.[field]?.[measure]?.toString();
    const isMoney = measure === "sum" && columnOf(dataset, field).per === "currency";
    const show = (row: Row) =>
      isMoney && cell(row) ? showMoney(cell(row)!, row.currency ?? "") : cell(row) ?? "";
    add(`${field}.${measure}`, cell, { show });
  }
  if (request.shares && Deno.stdout.isTerminal()) {
    const most = Math.max(...found.map(({ share = 0 }) => share));
    add("", () => null, { show: ({ share = 0 }) => ({ bar: share / most * 100 }), only: "table" });
  }
  return columns;
}

/** The fields whose values no row adds up. */
function apartFields(
  dataset: Dataset<unknown>,
  { fieldMeasures, isMoney }: Pick<AggregateRequest, "fieldMeasures"> & { isMoney: boolean },
): string[] {
  if (!hasMoney(dataset)) return separatorsOf(dataset, fieldMeasures);
  return ["currency", "basis", ...(isMoney ? [] : ["unit"])];
}

function cellOf(field: string): ResultColumn["cell"] {
  return field === "basis" ? ({ basis = "billed" }) => basis : (row) => row[field as "currency" | "unit"];
}

/** Titles of buckets in tables. */
const BUCKET_TITLES: Partial<Record<string, string>> = { d: "day", w: "week of", mo: "month", y: "year" };

/** Below the table: how each group went over time, as a line of bars. */
function printTrends(found: readonly Row[]): void {
  const trends = trendsOf(found, terminalColumns());
  if (trends.length === 0) return;
  print("");
  print(formatTable(["group", "over time"], trends));
}

/** Each group with its totals (of metrics: its first measure, or the number of records) as a line of bars. */
export function trendsOf(found: readonly Row[], columns = 80): [string, string][] {
  const times = [...new Set(found.map(({ startTime }) => startTime))].sort((a, b) => a! - b!);
  if (times.length < 2) return []; // without buckets there is only one
  const names = new Map(found.map((row) => [row, trendName(row)]));
  const widest = Math.max(...[...names.values()].map(({ length }) => length), "group".length);
  const perBar = Math.ceil(times.length / Math.max(MIN_BARS, Math.min(MAX_BARS, columns - widest - 2)));
  const barOf = new Map(times.map((time, i) => [time, Math.floor(i / perBar)]));
  const groups = new Map<string, number[]>();
  for (const row of found) {
    const name = names.get(row)!;
    const bars = groups.get(name) ?? Array<number>(Math.ceil(times.length / perBar)).fill(0);
    bars[barOf.get(row.startTime)!] += heightOf(row);
    groups.set(name, bars);
  }
  return [...groups].map(([name, bars]) => {
    const most = Math.max(...bars);
    return [name || "(all)", sparkline(bars.map((height) => most > 0 ? height / most * 100 : 0))];
  });
}

function trendName({ isOther, group, currency, basis, unit }: Row): string {
  const names = isOther ? [OTHER] : Object.values(group ?? {}).map(showGroup);
  return [...names, ...[currency, basis, unit].filter((value) => value)].join(" ");
}

function heightOf({ total, count, fields = {} }: Row): number {
  if (total !== undefined) return Number(total);
  const [first] = Object.values(fields).flatMap((measures) => Object.values(measures));
  return first !== undefined ? Number(first) : (Object.keys(fields).length > 0 ? 0 : count!);
}
