import type { Backend } from "../backends/backend.ts";
import type { AggregateRow, Measure } from "../records/aggregation.ts";
import { bucketAt, bucketCount, type BucketRange, bucketRangesOf } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import {
  acceptQuestion,
  type CostAggregateQuery,
  hasMoney,
  type MeasureName,
  partsOf,
  type Question,
  refusal,
} from "./aggregate_query.ts";
import {
  type AnswerRow,
  compareRows,
  fillEmpty,
  keepTop,
  type Ranking,
  type RowForm,
} from "./result_rows.ts";

/** The most spans that are filled in where they are empty. */
const MAX_BUCKETS = 100_000;
/** The most stretches of even spans that stand in a statement: months of 800 years. */
const MAX_STRETCHES = 10_000;

/** What every row of an answer says of where it is from. */
export interface AggregateSpan {
  /** Where the bucket begins, in epoch milliseconds; only where buckets were asked for. */
  startTime?: number;
  /** Where the next one begins. */
  endTime?: number;
  /** The value of each field or key that was grouped by, null where records have none; only where it was. */
  group?: Record<string, string | null>;
  /** Whether it stands for all groups that are not at the top; `group` then has only nulls. */
  isOther?: true;
}

/** The exact total of a group of costs within a bucket. Currencies are never added together. */
export interface CostAggregate extends AggregateSpan {
  /** The currency. */
  currency: string;
  /** The exact sum, a canonical decimal string. */
  total: string;
  /** The number of entries in it. */
  count: number;
}

/** What was wanted of a group of metrics within a bucket. */
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
export async function aggregateCosts(backend: Backend, query?: CostAggregateQuery): Promise<CostAggregate[]> {
  const question = acceptQuestion(costEntries, query);
  const measures: Measure[] = [{ function: "sum", field: "amount" }, { function: "count" }];
  const { rows, stretches } = await ask(backend, costEntries, {
    question,
    measures,
    rank: ([total]) => total,
  });
  return rows.map((row) => ({
    ...spanOf(question, row, stretches),
    currency: row.group[0]!,
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
  backend: Backend,
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
  const { rows, stretches } = await ask(backend, dataset, { question, measures, rank });
  return rows.map((row) => {
    const fields: MetricsAggregate["fields"] = {};
    for (const { field, measure, read } of readers) {
      const value = read(row);
      fields[field] ??= {};
      if (value !== undefined) fields[field][measure] = value;
    }
    return { ...spanOf(question, row, stretches), count: row.values[0] as number, fields };
  });
}

/** What is to be asked of a backend. */
interface Asked {
  readonly question: Question;
  readonly measures: readonly Measure[];
  /** By what groups are ranked. */
  readonly rank: Ranking;
}

async function ask(
  backend: Backend,
  dataset: Dataset<unknown>,
  { question, measures, rank }: Asked,
): Promise<{ rows: AnswerRow[]; stretches: readonly BucketRange[] }> {
  const stretches = await stretchesFor(backend, dataset, question);
  if (question.bucket && stretches.length === 0) return { rows: [], stretches }; // there is no record
  const currency = hasMoney(dataset) ? [{ field: "currency" }] : [];
  const form: RowForm = { measures, apart: currency.length };
  const all = await backend.aggregate(dataset, question.query, {
    stretches,
    groupBy: [...currency, ...question.groupBy],
    measures,
    mayUseRollUps: true,
  });
  const found = within(all, stretches);
  const { top, emptyBuckets } = question;
  let rows: readonly AnswerRow[] = top === undefined ? found : keepTop(found, { form, top, rank });
  const always = currency.length === 0 && question.groupBy.length === 0;
  if (emptyBuckets) rows = fillEmpty(rows, { form, stretches, always });
  return { rows: rows.toSorted(compareRows), stretches };
}

/**
 * The rows within the buckets: a record may have come meanwhile that lies beyond them. Not by bounds in the query, which
 * would have SQLite go through an index for records that it wants all of (a tenth more time, measured).
 */
function within(rows: readonly AggregateRow[], stretches: readonly BucketRange[]): readonly AggregateRow[] {
  if (stretches.length === 0) return rows;
  const [first, last] = [stretches[0].start, stretches.at(-1)!.end];
  return rows.filter(({ start }) => start! >= first && start! < last);
}

/** The buckets of a question, from the oldest to the newest record where it names no times. */
async function stretchesFor(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query, bucket, timeZone, emptyBuckets }: Question,
): Promise<readonly BucketRange[]> {
  if (!bucket) return [];
  const start = query.startTime || await edge(backend, dataset, { query, of: "min" });
  const newest = query.endTime === undefined && await edge(backend, dataset, { query, of: "max" });
  const end = newest === false ? query.endTime! : newest === null ? null : newest + 1;
  if (start === null || end === null) return [];
  const stretches = bucketRangesOf(bucket, { start, end, timeZone });
  const refuse = (most: string, count: number): never => {
    const wanted =
      `a span of which no more than ${most} lie between startTime and endTime (these are ${count})`;
    throw refusal(dataset, { field: "bucket", value: `${bucket.count}${bucket.unit}`, wanted });
  };
  const count = bucketCount(stretches);
  if (emptyBuckets && count > MAX_BUCKETS) refuse(`${MAX_BUCKETS}`, count);
  if (stretches.length > MAX_STRETCHES) refuse(`${MAX_STRETCHES} uneven ones`, count);
  return stretches;
}

/** The time of the oldest or the newest record. Each by itself, which an index answers at once. */
async function edge(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query, of }: { query: RecordQuery; of: "min" | "max" },
): Promise<number | null> {
  const measures = [{ function: of, field: "timestamp" }];
  const [{ values }] = await backend.aggregate(dataset, query, { groupBy: [], measures });
  return values[0] as number | null;
}

function spanOf(question: Question, row: AnswerRow, stretches: readonly BucketRange[]): AggregateSpan {
  const { groupNames, groupBy } = question;
  const group = row.group.slice(row.group.length - groupBy.length);
  return {
    ...(row.start === undefined ? {} : {
      startTime: row.start,
      endTime: bucketAt(stretches, row.start).end,
    }),
    ...(groupBy.length === 0 ? {} : {
      group: Object.fromEntries(groupNames.map((name, i) => [name, group[i]])),
    }),
    ...(row.isOther ? { isOther: true } : {}),
  };
}

/** What was wanted, of what the backend gave for it: a value as it is, or a sum and the count to divide it by. */
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
