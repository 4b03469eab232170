import type { Backend } from "../backends/backend.ts";
import {
  type BucketRange,
  bucketRangesOf,
  bucketRangesOfDays,
  DAY_MS,
  estimateRanges,
  minBuckets,
} from "../records/calendar.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { type AggregateRequest, invalidAggregate } from "./aggregate_query.ts";

/** The most ranges in a statement: months of 300 years. */
const MAX_RANGES = 4_000;
/** The most rows of a result that has empty buckets. */
const MAX_FILLED_ROWS = 500_000;

/** A query, and the buckets of what it finds; none where it is not about buckets. */
export interface PlanPart {
  readonly query: RecordQuery;
  readonly ranges: readonly BucketRange[];
}

export interface BucketPlan {
  /** Requests to a backend, one after the other. */
  readonly parts: Iterable<PlanPart>;
  /** All buckets, where those without records are rows as well. */
  readonly filled?: readonly BucketRange[];
}

/**
 * Finds the buckets of an aggregate, from the oldest to the newest record where the query names no times.
 *
 * A span that has too many ranges for a statement is asked about in parts, and only about days that have records: a
 * single record of the year 9999 must not cost eight thousand years of buckets.
 *
 * @throws {ValidationError} If empty buckets are asked for and there are too many.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function planBuckets(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { query, bucket, timeZone, emptyBuckets }: AggregateRequest,
): Promise<BucketPlan> {
  if (!bucket) return { parts: [{ query, ranges: [] }] };
  const found = await spanOfRecords(backend, dataset, query);
  if (!found) return { parts: [] };
  const span = { ...found, timeZone };
  if (emptyBuckets) refuseRows(dataset)(minBuckets(bucket, span));
  const isSmall = estimateRanges(bucket, span) <= MAX_RANGES;
  const all = isSmall || emptyBuckets ? bucketRangesOf(bucket, span) : undefined;
  const filled = emptyBuckets ? all : undefined;
  if (isSmall) return { parts: [{ query, ranges: all! }], filled };
  const days = await daysWithRecords(backend, dataset, { query, ...span });
  const chunks = bucketRangesOfDays(bucket, { ...span, days, chunkLength: MAX_RANGES });
  return { parts: chunkParts(query, chunks), filled };
}

/** Returns a check of how many rows a result with empty buckets has. */
export function refuseRows(dataset: Dataset<unknown>): (rows: number) => void {
  return (rows) => {
    if (rows <= MAX_FILLED_ROWS) return;
    const expected = `false for so many rows: ${rows} or more, where ${MAX_FILLED_ROWS} are the most; ` +
      "choose a longer bucket, a shorter time, or fewer groups";
    throw invalidAggregate(dataset, { field: "emptyBuckets", value: true, expected });
  };
}

function* chunkParts(query: RecordQuery, chunks: Iterable<readonly BucketRange[]>): Generator<PlanPart> {
  const { startTime = 0, endTime = Infinity } = query;
  for (const ranges of chunks) {
    const bounds = {
      startTime: Math.max(startTime, ranges[0].start),
      endTime: Math.min(endTime, ranges.at(-1)!.end),
    };
    yield { query: { ...query, ...bounds }, ranges };
  }
}

/** Returns the span of a query, as far as it has records. */
async function spanOfRecords(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  query: RecordQuery,
): Promise<{ start: number; end: number } | undefined> {
  const start = query.startTime || await edge(backend, dataset, { query, of: "min" });
  if (start === null) return undefined;
  if (query.endTime !== undefined) return { start, end: query.endTime };
  const newest = await edge(backend, dataset, { query, of: "max" });
  return newest === null ? undefined : { start, end: newest + 1 };
}

/** Returns the time of the oldest or the newest record. Each in a query of its own, which an index answers at once. */
export async function edge(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { query, of }: { query: RecordQuery; of: "min" | "max" },
): Promise<number | null> {
  const measures = [{ function: of, field: "timestamp" }];
  const [{ values }] = await backend.aggregate(dataset, query, { groupBy: [], measures });
  return values[0] as number | null;
}

/** Returns the beginning in UTC of each day that has records, ascending. */
async function daysWithRecords(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { query, start, end }: { query: RecordQuery; start: number; end: number },
): Promise<number[]> {
  const first = Math.floor(start / DAY_MS) * DAY_MS;
  const rows = await backend.aggregate(dataset, query, {
    ranges: [{ start: first, end: Math.ceil(end / DAY_MS) * DAY_MS, stepMs: DAY_MS }],
    groupBy: [],
    measures: [{ function: "count" }],
    mayUseRollUps: true,
  });
  return rows.map(({ start }) => start!).sort((a, b) => a - b);
}
