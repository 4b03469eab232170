import type { Backend } from "../backends/backend.ts";
import { bucketAt, bucketRangesOf, DAY_MS } from "../records/calendar.ts";
import type { Dataset } from "../records/dataset.ts";
import {
  bucketShift,
  endOfDay,
  localDay,
  shiftBack,
  shiftForward,
  spanShift,
  startOfDay,
} from "../records/periods.ts";
import { acceptQuery, type TimeRangeQuery } from "../records/query.ts";
import { asBound } from "../records/validation.ts";
import type { AggregateRow } from "../records/aggregation.ts";
import type { AggregateRequest } from "./aggregate_query.ts";
import { edge } from "./bucket_plan.ts";
import { endOfCompleteDays } from "./forecast.ts";
import type { ResultRow } from "./result_rows.ts";

/** The requests for the periods that an aggregate is compared with. */
export interface EarlierPlan {
  /** The whole period before. */
  readonly whole: AggregateRequest;
  /** As many days of it as the last period has data, and these days of the last period; none where that one is over. */
  readonly partial: Promise<{ toDate: AggregateRequest; complete: AggregateRequest } | undefined>;
  /** Moves a row of them into the bucket that it is compared with. */
  readonly moveRow: (row: ResultRow) => ResultRow;
  /** The start of the last period. */
  readonly lastStart: number;
}

/** Weeks in which days that rarely have costs are found, and the usual costs of a day: eight, and late data. */
const HISTORY_MS = 70 * DAY_MS;
/** Data of a period may come so many milliseconds after its end. */
const MAX_LAG_MS = 7 * DAY_MS;

/**
 * Returns the end of the last complete day that has data in a time range; undefined where none has data. Today is not
 * complete, nor is a newest day with far less than usual: of a bill by days in UTC, other zones have a part.
 */
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
  if (newest === null) return undefined;
  const complete = await endOfCosts(backend, dataset, { timeZone, now });
  return Math.min(endOfDay(newest, timeZone), complete ?? Infinity);
}

/** Returns the end of the last complete day of the currency with the most costs; undefined where that ended long ago. */
async function endOfCosts(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { timeZone, now }: { timeZone: string; now: number },
): Promise<number | undefined> {
  const [start, end] = [startOfDay(now - HISTORY_MS, timeZone), endOfDay(now, timeZone)];
  const query = acceptQuery(dataset, { startTime: start, endTime: end });
  const rows = await backend.aggregate(dataset, query, {
    ranges: bucketRangesOf({ count: 1, unit: "d" }, { start, end, timeZone }),
    groupBy: [{ field: "currency" }, { field: "basis" }],
    measures: [{ function: "sum", field: "amount" }, { function: "count" }],
    mayUseRollUps: true,
  });
  const countOf = (some: readonly AggregateRow[]) =>
    some.reduce((sum, { values }) => sum + Number(values[1]), 0);
  const most = [...Map.groupBy(rows, ({ group }) => JSON.stringify(group)).values()]
    .reduce((a, b) => countOf(a) >= countOf(b) ? a : b, []);
  const days = new Map(most.map(({ start, values }) => [localDay(start!, timeZone), Number(values[0])]));
  const complete = endOfCompleteDays(days, { timeZone, now });
  return complete === undefined || now - complete > MAX_LAG_MS ? undefined : complete;
}

/** Plans the requests for the period before, or a year before. Only a request without an end waits for a read. */
export async function planEarlier(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  request: AggregateRequest,
  now: number,
): Promise<EarlierPlan> {
  const { query, bucket, timeZone, compare = "previous" } = request;
  const { startTime = 0, endTime } = query;
  const known = endOfData(backend, dataset, { startTime, endTime, timeZone, now })
    .then((found) => found ?? endTime ?? now);
  known.catch(() => {}); // `partial` rejects with it
  const bucketOf = (time: number) =>
    bucketAt(bucketRangesOf(bucket!, { start: time, end: time + 1, timeZone }), time);
  const end = endTime ?? (bucket ? bucketOf(await known - 1).end : await known);
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
  const partial = known.then((dataEnd) => {
    if (!(dataEnd < end && dataEnd > lastStart && now < end + MAX_LAG_MS)) return undefined;
    const range = { startTime: asBound(lastStart), endTime: dataEnd };
    const complete = { ...request, query: { ...query, ...range }, emptyBuckets: false };
    return { toDate: between(lastStart, dataEnd), complete };
  });
  partial.catch(() => {}); // who awaits it gets the error
  return {
    whole: between(startTime, end),
    partial,
    moveRow: (row) => row.start === undefined ? row : { ...row, ...laterBucket(row.start) },
    lastStart,
  };
}
