import type { Backend } from "../backends/backend.ts";
import type { AggregateRow, Aggregation, Measure } from "../records/aggregation.ts";
import { type BucketRange, rangeAt } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import { Decimal, percentOf } from "../records/decimal.ts";
import { mapSlices } from "../records/slices.ts";
import {
  acceptAggregateRequest,
  type AggregateRequest,
  backendMeasures,
  COST_MEASURES,
  type CostAggregateQuery,
  type FieldMeasure,
  hasMoney,
  type MeasureName,
} from "./aggregate_query.ts";
import { FusedReads } from "./fused_reads.ts";
import { planEarlier } from "./comparison.ts";
import { planBuckets, refuseRows } from "./bucket_plan.ts";
import {
  fillEmptyBuckets,
  joinEarlier,
  type Ranking,
  type ResultRow,
  type RowLayout,
  selectGroups,
  sharesOf,
  sortRows,
} from "./result_rows.ts";

/** Time range and group of a result row. */
export interface AggregateSpan {
  /** Start of the bucket, in epoch milliseconds; only with `bucket`. */
  startTime?: number;
  /** Start of the next bucket. */
  endTime?: number;
  /** The value of each field or key that was grouped by, null where records have none; only where it was. */
  group?: Record<string, string | null>;
  /** True for the row of all groups that are not at the top; its `group` has only nulls. */
  isOther?: true;
}

/** The exact total of a group of costs within a bucket. Currencies are never added together. */
export interface CostAggregate extends AggregateSpan {
  /** The currency. */
  currency: string;
  /** Set for estimated costs, which are never added to billed ones. */
  basis?: "estimated";
  /** The unit of a quantity, null if the bill names none; only with a measure that has one. */
  unit?: string | null;
  /** The exact sum, a canonical decimal string. */
  total: string;
  /** The number of entries in it. */
  count: number;
  /** The same in percent of all groups in the bucket, in this currency; 0 where all is 0. Only with `shares`. */
  share?: number;
  /** The exact sum in the period before. Only with `compare`. */
  previousTotal?: string;
  /** The change since then in percent; absent where that was 0. */
  change?: number;
  /**
   * The exact sum of as many days of the period before as this one has complete data. Only with `compare`, for a period
   * that is not over or whose data ends earlier.
   */
  sameDaysTotal?: string;
  /** The change from it to the complete days of this period in percent; absent where it is 0. */
  sameDaysChange?: number;
}

/** Measures of a group of metrics in a bucket. */
export interface MetricsAggregate extends AggregateSpan {
  /** The number of records in it. */
  count: number;
  /**
   * The measures of each field, as in `{ cpuUsage: { avg: 41.2 } }`; null where no record has the field. Percentiles
   * of what was put together are left out: they cannot be told from those of its groups.
   */
  fields: Record<string, Partial<Record<MeasureName, number | null>>>;
}

/** Measures of a group of usage records in a bucket. */
export interface UsageAggregate extends AggregateSpan {
  /** The currency of the sum of reported costs; only with such a sum. */
  currency?: string | null;
  /** The unit of the sum of quantities; only with such a sum. */
  unit?: string | null;
  /** The number of records in it. */
  count: number;
  /** The measures of each field; null where no record has the field. Sums of decimals are canonical decimal strings. */
  fields: Record<string, Partial<Record<MeasureName, number | string | null>>>;
}

/**
 * Adds costs up.
 *
 * @throws {ValidationError} If the query has an unknown field or a wrong value.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function aggregateCosts(
  backend: Pick<Backend, "aggregate">,
  query?: CostAggregateQuery,
  { now = Date.now() }: { now?: number } = {},
): Promise<CostAggregate[]> {
  const request = acceptAggregateRequest(costEntries, query);
  const field = request.measure;
  const unit = COST_MEASURES[field];
  const measures: Measure[] = [
    { function: "sum", field },
    field === "amount" ? { function: "count" } : { function: "count", field },
  ];
  const separateBy = ["currency", "basis", ...(unit === undefined ? [] : [unit])];
  const rows = await aggregateRows(request.compare ? FusedReads.over(backend) : backend, costEntries, {
    request,
    measures,
    rank: ([total]) => total,
    separateBy,
    now,
  });
  const present = rows.filter(({ values: [total, , whole] }) => (total ?? whole ?? null) !== null);
  return await mapSlices(present, (row) => {
    const [found, count, whole, , toDate, , complete] = row.values as (string | null)[] & { 1: number };
    const total = found ?? "0";
    return {
      ...spanOf(request, row),
      currency: row.group[0]!,
      ...(row.group[1] === "estimated" ? { basis: "estimated" as const } : {}),
      ...(unit === undefined ? {} : { unit: row.group[2] }),
      total,
      count,
      ...(row.share === undefined ? {} : { share: row.share }),
      ...(request.compare === undefined ? {} : compared("previousTotal", "change", whole ?? "0", total)),
      ...(row.isPartial ? compared("sameDaysTotal", "sameDaysChange", toDate ?? "0", complete ?? "0") : {}),
    };
  });
}

function compared(totalName: string, changeName: string, from: string, to: string): object {
  const change = changeOf(from, to);
  return { [totalName]: from, ...(change === undefined ? {} : { [changeName]: change }) };
}

/** Returns the change from one amount to another in percent; undefined where the first is 0. */
export function changeOf(from: string, to: string): number | undefined {
  if (from === "0") return undefined;
  const difference = Decimal.from(to).minus(Decimal.from(from)).toString();
  return percentOf(Number(difference), Math.abs(Number(from)));
}

/**
 * Computes measures of metrics.
 *
 * @throws {ValidationError} If the query has an unknown field or a wrong value.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function aggregateMetrics(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  query?: object,
): Promise<MetricsAggregate[]> {
  return await aggregateFields(backend, dataset, query) as MetricsAggregate[];
}

/**
 * Computes measures of the fields of any dataset.
 *
 * @throws {ValidationError} If the query has an unknown field or a wrong value.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function aggregateFields(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  query?: object,
): Promise<UsageAggregate[]> {
  const request = acceptAggregateRequest(dataset, query);
  const measures = distinct([
    { function: "count" },
    ...request.fieldMeasures.flatMap((fieldMeasure) => backendMeasures(fieldMeasure, request.top)),
  ]);
  const names = measures.map((measure) => JSON.stringify(measure));
  const readers = request.fieldMeasures.map((fieldMeasure) => {
    const [value, count] = backendMeasures(fieldMeasure, request.top).map((part) =>
      names.indexOf(JSON.stringify(part))
    );
    return {
      ...fieldMeasure,
      read: ({ values }: Pick<ResultRow, "values">) => combineParts(values[value], values[count]),
    };
  });
  // Percentiles of what is put together are not known, so groups are not ranked by them either.
  const ranking = readers.find((fieldMeasure) => backendMeasures(fieldMeasure)[0].function !== "percentile");
  const rank: Ranking = (values) => ranking ? ranking.read({ values }) : values[0];
  const separateBy = separatorsOf(dataset, request.fieldMeasures);
  const rows = await aggregateRows(backend, dataset, { request, measures, rank, separateBy });
  return await mapSlices(rows, (row) => {
    const fields: UsageAggregate["fields"] = {};
    for (const { field, measure, read } of readers) {
      const value = read(row);
      fields[field] ??= {};
      if (value !== undefined) fields[field][measure] = value;
    }
    const apart = Object.fromEntries(separateBy.map((field, i) => [field, row.group[i]]));
    return { ...spanOf(request, row), ...apart, count: row.values[0] as number, fields };
  });
}

/** The fields whose values keep the requested sums apart: no total adds two currencies or two units. */
export function separatorsOf(dataset: Dataset<unknown>, fieldMeasures: readonly FieldMeasure[]): string[] {
  const fields = fieldMeasures.filter(({ measure }) => measure === "sum").map(({ field }) => field);
  return [...new Set(fields.map((field) => columnOf(dataset, field).per).filter((per) => per !== undefined))];
}

interface BackendRequest {
  readonly request: AggregateRequest;
  readonly measures: readonly Measure[];
  /** Value by which groups are ranked. */
  readonly rank: Ranking;
  /** Fields whose values are never put together. */
  readonly separateBy?: readonly string[];
  /** The time that is now; only for comparisons. */
  readonly now?: number;
}

async function aggregateRows(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { request, measures, rank, separateBy = [], now = Date.now() }: BackendRequest,
): Promise<ResultRow[]> {
  const layout: RowLayout = { measures, leadingKeys: separateBy.length, isMoney: hasMoney(dataset) };
  const aggregation = {
    groupBy: [...separateBy.map((field) => ({ field })), ...request.groupBy],
    measures,
    mayUseRollUps: true,
  };
  const read = (part: AggregateRequest) => readBuckets(backend, dataset, part, aggregation);
  const plan = request.compare && await planEarlier(backend, dataset, request, now);
  const [found, ...earlier] = await Promise.all([
    read(request),
    plan && read(plan.whole),
    plan && plan.partial.then((part) => part && read(part.toDate)),
    plan && plan.partial.then((part) => part && read(part.complete)),
  ]);
  let [all, rows] = [layout, found.rows];
  for (const [i, part] of earlier.entries()) {
    if (part === undefined) continue;
    rows = await joinEarlier(rows, i === 2 ? part.rows : part.rows.map(plan!.moveRow), [all, layout]);
    all = { ...layout, measures: [...all.measures, ...measures] };
  }
  if (plan && earlier[1]) {
    rows = rows.map((row) =>
      (row.start ?? plan.lastStart) < plan.lastStart ? row : { ...row, isPartial: true }
    );
  }
  const withShare = request.shares ? await sharesOf(rows, layout) : undefined;
  const { top, limit, order } = request;
  const most = top ?? limit;
  if (most !== undefined) {
    const select = { layout: all, rank, order: top === undefined ? order : "desc" } as const;
    rows = await selectGroups(rows, { ...select, most, hasOther: top !== undefined });
  }
  if (found.filled) {
    const always = aggregation.groupBy.length === 0;
    const refuse = refuseRows(dataset);
    rows = await fillEmptyBuckets(rows, { layout: all, ranges: found.filled, always, refuse });
  }
  const sorted = await sortRows(rows, { layout, rank, order });
  return withShare ? await mapSlices(sorted, withShare) : sorted;
}

/** Reads the rows of all buckets, and returns the ranges in which empty buckets get a row. */
async function readBuckets(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  request: AggregateRequest,
  aggregation: Omit<Aggregation, "ranges">,
): Promise<{ rows: ResultRow[]; filled?: readonly BucketRange[] }> {
  const { parts, filled } = await planBuckets(backend, dataset, request);
  let rows: ResultRow[] = [];
  for (const { query, ranges } of parts) {
    const found = await backend.aggregate(dataset, query, { ranges, ...aggregation });
    rows = rows.concat(await withEnds(found, ranges));
  }
  return { rows, filled };
}

/**
 * Adds the end of each bucket. Leaves out rows outside of all buckets, of records that have arrived meanwhile. Bounds in
 * the query would have SQLite read all records through an index (a tenth more time, measured).
 */
async function withEnds(rows: readonly AggregateRow[], ranges: readonly BucketRange[]): Promise<ResultRow[]> {
  if (ranges.length === 0) return [...rows];
  const found = await mapSlices(rows, (row) => {
    const start = row.start!;
    const range = rangeAt(ranges, start);
    if (start < range.start || start >= range.end) return undefined;
    return { ...row, end: Math.min(start + range.stepMs, range.end) };
  });
  return found.filter((row) => row !== undefined);
}

function spanOf(request: AggregateRequest, row: ResultRow): AggregateSpan {
  const { groupNames, groupBy } = request;
  const group = row.group.slice(row.group.length - groupBy.length);
  return {
    ...(row.start === undefined ? {} : { startTime: row.start, endTime: row.end }),
    ...(groupBy.length === 0 ? {} : {
      group: Object.fromEntries(groupNames.map((name, i) => [name, group[i]])),
    }),
    ...(row.isOther ? { isOther: true } : {}),
  };
}

/** Computes a measure from the backend's values: a value as it is, or a sum divided by its count. */
function combineParts(
  value: ResultRow["values"][number],
  ...[count]: ResultRow["values"]
): number | string | null | undefined {
  if (count === undefined || value === null) return value;
  return (value as number) / (count as number);
}

function distinct(measures: readonly Measure[]): Measure[] {
  return [...new Map(measures.map((measure) => [JSON.stringify(measure), measure])).values()];
}
