import type { Backend } from "../backends/backend.ts";
import { bucketAt, bucketRangesOf, DAY_MS } from "../records/calendar.ts";
import type { Dataset } from "../records/dataset.ts";
import { bucketShift, endOfDay, shiftBack, shiftForward, spanShift } from "../records/periods.ts";
import { acceptQuery, type TimeRangeQuery } from "../records/query.ts";
import { asBound } from "../records/validation.ts";
import type { AggregateRequest } from "./aggregate_query.ts";
import { edge } from "./bucket_plan.ts";
import type { ResultRow } from "./result_rows.ts";

/** The requests for the periods that an aggregate is compared with. */
export interface EarlierPlan {
  /** The whole period before. */
  readonly whole: AggregateRequest;
  /** As many days of it as the last period has data; absent where that one is over. */
  readonly toDate?: AggregateRequest;
  /** Moves a row of them into the bucket that it is compared with. */
  readonly moveRow: (row: ResultRow) => ResultRow;
  /** The start of the last period. */
  readonly lastStart: number;
}

/** Data of a period may come so many milliseconds after its end. */
const MAX_LAG_MS = 7 * DAY_MS;

/** Returns the end of the last day that has data in a time range, up to today; undefined where none has. */
export async function endOfData(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { startTime, endTime, timeZone, now = Date.now() }:
    & Pick<TimeRangeQuery, "startTime" | "endTime">
    & { timeZone: string; now?: number },
): Promise<number | undefined> {
  // A record of the far future is no sign of data up to then.
  const last = Math.min(Number(endTime ?? Infinity), endOfDay(now, timeZone));
  if (last <= Number(startTime ?? 0)) return undefined;
  const query = acceptQuery(dataset, { startTime, endTime: last });
  const newest = await edge(backend, dataset, { query, of: "max" });
  return newest === null ? undefined : endOfDay(newest, timeZone);
}

/** Plans the requests for the period before, or a year before. */
export async function planEarlier(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  request: AggregateRequest,
  now: number,
): Promise<EarlierPlan> {
  const { query, bucket, timeZone, compare = "previous" } = request;
  const { startTime = 0, endTime } = query;
  const dataEnd = await endOfData(backend, dataset, { startTime, endTime, timeZone, now }) ?? endTime ?? now;
  const bucketOf = (time: number) =>
    bucketAt(bucketRangesOf(bucket!, { start: time, end: time + 1, timeZone }), time);
  const end = endTime ?? (bucket ? bucketOf(dataEnd - 1).end : dataEnd);
  const shift = bucket
    ? bucketShift(bucket, compare)
    : spanShift({ start: startTime, end, timeZone }, compare);
  const back = (time: number) => asBound(shiftBack(time, shift, timeZone));
  const between = (from: number, to: number): AggregateRequest => {
    const start = from === 0 ? 0 : back(from);
    const range = { startTime: start, endTime: Math.max(start, back(to)) };
    return { ...request, query: { ...query, ...range }, emptyBuckets: false };
  };
  const buckets = new Map<number, { start: number; end: number }>();
  const laterBucket = (start: number) => {
    const found = buckets.get(start) ?? bucketOf(shiftForward(start, shift, timeZone));
    buckets.set(start, found);
    return found;
  };
  const lastStart = bucket ? Math.max(bucketOf(end - 1).start, startTime) : startTime;
  const isPartial = dataEnd < end && dataEnd > lastStart && now < end + MAX_LAG_MS;
  return {
    whole: between(startTime, end),
    ...(isPartial ? { toDate: between(lastStart, dataEnd) } : {}),
    moveRow: (row) => row.start === undefined ? row : { ...row, ...laterBucket(row.start) },
    lastStart,
  };
}
