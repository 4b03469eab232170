import type { Backend } from "../backends/backend.ts";
import type { AggregateRow, Measure } from "../records/aggregation.ts";
import { type BucketRange, rangeAt } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import {
  acceptQuestion,
  COST_MEASURES,
  type CostAggregateQuery,
  hasMoney,
  type MeasureName,
  partsOf,
  type Question,
} from "./aggregate_query.ts";
import { planBuckets, refuseRows } from "./bucket_plan.ts";
import {
  type AnswerRow,
  compareRows,
  fillEmptyBuckets,
  type Ranking,
  type RowForm,
  selectTop,
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

/**
 * Adds costs up.
 *
 * @throws {ValidationError} If the query has an unknown field or a wrong value.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function aggregateCosts(
  backend: Pick<Backend, "aggregate">,
  query?: CostAggregateQuery,
): Promise<CostAggregate[]> {
  const question = acceptQuestion(costEntries, query);
  const field = question.measure;
  const unit = COST_MEASURES[field];
  const measures: Measure[] = [
    { function: "sum", field },
    field === "amount" ? { function: "count" } : { function: "count", field },
  ];
  const apart = ["currency", "basis", ...(unit === undefined ? [] : [unit])];
  const rows = await ask(backend, costEntries, { question, measures, rank: ([total]) => total, apart });
  return rows.filter(({ values: [total] }) => total !== null).map((row) => ({
    ...spanOf(question, row),
    currency: row.group[0]!,
    ...(row.group[1] === "estimated" ? { basis: "estimated" as const } : {}),
    ...(unit === undefined ? {} : { unit: row.group[2] }),
    total: row.values[0] as string,
    count: row.values[1] as number,
  }));
}

/**
 * Puts metrics together.
 *
 * @throws {ValidationError} If the query has an unknown field or a wrong value.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function aggregateMetrics(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  query?: object,
): Promise<MetricsAggregate[]> {
  const question = acceptQuestion(dataset, query);
  const measures = distinct([
    { function: "count" },
    ...question.wanted.flatMap((wanted) => partsOf(wanted, question.top)),
  ]);
  const names = measures.map((measure) => JSON.stringify(measure));
  const readers = question.wanted.map((wanted) => {
    const [value, count] = partsOf(wanted, question.top).map((part) => names.indexOf(JSON.stringify(part)));
    return {
      ...wanted,
      read: ({ values }: Pick<AnswerRow, "values">) => fromParts(values[value], values[count]),
    };
  });
  // Percentiles of what is put together are not known, so groups are not ranked by them either.
  const ranking = readers.find((wanted) => partsOf(wanted)[0].function !== "percentile");
  const rank: Ranking = (values) => ranking ? ranking.read({ values }) : values[0];
  const rows = await ask(backend, dataset, { question, measures, rank });
  return rows.map((row) => {
    const fields: MetricsAggregate["fields"] = {};
    for (const { field, measure, read } of readers) {
      const value = read(row);
      fields[field] ??= {};
      if (value !== undefined) fields[field][measure] = value;
    }
    return { ...spanOf(question, row), count: row.values[0] as number, fields };
  });
}

/** Builds the request to a backend. */
interface Asked {
  readonly question: Question;
  readonly measures: readonly Measure[];
  /** By what groups are ranked. */
  readonly rank: Ranking;
  /** Fields whose values are never put together. */
  readonly apart?: readonly string[];
}

async function ask(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { question, measures, rank, apart = [] }: Asked,
): Promise<AnswerRow[]> {
  const form: RowForm = { measures, apart: apart.length, isMoney: hasMoney(dataset) };
  const aggregation = {
    groupBy: [...apart.map((field) => ({ field })), ...question.groupBy],
    measures,
    mayUseRollUps: true,
  };
  const { parts, filled } = await planBuckets(backend, dataset, question);
  let rows: AnswerRow[] = [];
  for (const { query, ranges } of parts) {
    const found = await backend.aggregate(dataset, query, { ranges, ...aggregation });
    rows = rows.concat(withEnds(found, ranges));
  }
  const { top } = question;
  if (top !== undefined) rows = selectTop(rows, { form, top, rank });
  const always = aggregation.groupBy.length === 0;
  if (filled) return fillEmptyBuckets(rows, { form, ranges: filled, always, refuse: refuseRows(dataset) });
  return rows.toSorted(compareRows);
}

/**
 * Adds the end of each bucket. Leaves out rows outside of all buckets, of records that have arrived meanwhile. Bounds in
 * the query would have SQLite read all records through an index (a tenth more time, measured).
 */
function withEnds(rows: readonly AggregateRow[], ranges: readonly BucketRange[]): AnswerRow[] {
  if (ranges.length === 0) return [...rows];
  return rows.flatMap((row) => {
    const start = row.start!;
    const range = rangeAt(ranges, start);
    if (start < range.start || start >= range.end) return [];
    return [{ ...row, end: Math.min(start + range.stepMs, range.end) }];
  });
}

function spanOf(question: Question, row: AnswerRow): AggregateSpan {
  const { groupNames, groupBy } = question;
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
function fromParts(
  value: AnswerRow["values"][number],
  ...[count]: AnswerRow["values"]
): number | null | undefined {
  if (count === undefined || value === null) return value as number | null | undefined;
  return (value as number) / (count as number);
}

function distinct(measures: readonly Measure[]): Measure[] {
  return [...new Map(measures.map((measure) => [JSON.stringify(measure), measure])).values()];
}
