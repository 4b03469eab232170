/**
 * Time buckets: minutes and hours, and the days, weeks, months and years of a time zone, where some days have 23 or 25
 * hours.
 *
 * @module
 */

/** Consecutive buckets of equal length; the end may cut the last one short. */
export interface BucketRange {
  /** The start of the first bucket, in epoch milliseconds. */
  readonly start: number;
  /** The end of the last one. */
  readonly end: number;
  /** The length of each, in milliseconds. */
  readonly stepMs: number;
}

/** The length of a bucket: a count of a unit. */
export interface Bucket {
  readonly count: number;
  readonly unit: keyof typeof UNITS;
}

/** A day of 24 hours, in milliseconds. */
export const DAY_MS = 86_400_000;
/** Milliseconds of an hour. */
export const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * DAY_MS;
/** Clocks change up to four times a year; at each change an uneven day and an even range begin. */
const RANGES_PER_YEAR = 8;

/** Each unit, with the largest count of it in a bucket: a longer bucket uses the next unit. */
const UNITS = {
  s: { most: 3_600, ms: 1_000 },
  m: { most: 1_440, ms: 60_000 },
  h: { most: 24, ms: HOUR_MS },
  d: { most: 1 },
  w: { most: 1 },
  mo: { most: 12 },
  y: { most: 1 },
} as const;

/** The syntax of buckets, for messages. */
export const BUCKET_SYNTAX = "a span such as 30s, 15m, 6h (of a day at the most), 1d, 1w, 1mo, 3mo or 1y";

/** The syntax of time zones, for messages. */
export const TIME_ZONE_SYNTAX = "the name of a time zone, such as America/New_York";

/** Parses a bucket such as `1h`; returns undefined if it is none. */
export function parseBucket(text: string): Bucket | undefined {
  const [, digits, name] = /^(\d{1,4})(s|m|h|d|w|mo|y)$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const count = Number(digits);
  const unit = name as Bucket["unit"];
  // Months have to come out even with the year, or January would be in another bucket each year.
  const dividesYear = unit !== "mo" || 12 % count === 0;
  return count >= 1 && count <= UNITS[unit].most && dividesYear ? { count, unit } : undefined;
}

/** Returns true if the system knows a time zone of this name. */
export function isTimeZone(name: string): boolean {
  try {
    zoned(0, name);
    return true;
  } catch {
    return false;
  }
}

/** A span of time, and the time zone in which its days begin. */
export interface ZonedSpan {
  /** The first millisecond, in epoch milliseconds. */
  readonly start: number;
  /** The end, exclusive. */
  readonly end: number;
  readonly timeZone: string;
}

/**
 * Returns the buckets that hold all times of a span. Days begin at midnight of the time zone, weeks on Monday. Buckets
 * shorter than a day are counted from each midnight.
 *
 * Nearly all buckets are as long as their neighbors, so there are few ranges where there are many buckets. Databases find
 * the bucket of a record by comparing with those few, and a division.
 */
export function bucketRangesOf(bucket: Bucket, { start, end, timeZone }: ZonedSpan): BucketRange[] {
  const ranges: BucketRange[] = [];
  let at = calendarStart(bucket, zoned(start, timeZone));
  while (at.epochMilliseconds < end) {
    const from = at.epochMilliseconds;
    const even = appendEven(ranges, { bucket, at, end });
    if (even > from) {
      at = zoned(even, timeZone);
      continue;
    }
    at = calendarNext(bucket, at);
    const to = at.epochMilliseconds;
    appendRange(ranges, { start: from, end: to, stepMs: dividesDay(bucket) ?? to - from });
  }
  return clip(ranges, { start, end });
}

/** The days for which ranges are worked out at once. */
const DAYS_AT_ONCE = 1_000;

/**
 * Returns the buckets that hold any time of some days, in chunks, so that a span of thousands of years costs no more than
 * the days in it that have records.
 *
 * @param bucket The bucket.
 * @param options The span, the days of it by the beginning of each in UTC, ascending, and the number of ranges that fill a
 * chunk.
 */
export function* bucketRangesOfDays(
  bucket: Bucket,
  { start, end, timeZone, days, chunkLength }: ZonedSpan & { days: readonly number[]; chunkLength: number },
): Generator<BucketRange[]> {
  let chunk: BucketRange[] = [];
  let covered = start;
  for (let i = 0; i < days.length;) {
    const first = i;
    while (++i < days.length && days[i] === days[i - 1] + DAY_MS && i - first < DAYS_AT_ONCE);
    const from = Math.max(days[first], covered);
    const to = Math.min(days[i - 1] + DAY_MS, end);
    if (from >= to) continue; // in the bucket of the day before
    for (const range of bucketRangesOf(bucket, { start: from, end: to, timeZone })) appendRange(chunk, range);
    covered = chunk.at(-1)!.end;
    if (chunk.length < chunkLength) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}

/** Returns a number of ranges that {@linkcode bucketRangesOf} does not exceed by much. */
export function estimateRanges(bucket: Bucket, { start, end, timeZone }: ZonedSpan): number {
  const years = (end - start) / YEAR_MS + 1;
  if (bucket.unit === "mo") return years * 12 / bucket.count;
  if (bucket.unit === "y") return years;
  if (DAY_MS % (dividesDay(bucket) ?? DAY_MS) !== 0) return years * 366;
  return timeZone === "UTC" ? 1 : years * RANGES_PER_YEAR;
}

/** Returns a number of buckets that a span has at least. */
export function minBuckets(bucket: Bucket, { start, end }: Omit<ZonedSpan, "timeZone">): number {
  const { count, unit } = bucket;
  const days = unit === "y" ? 367 : unit === "mo" ? 32 * count : unit === "w" ? 8 : 2;
  return Math.floor((end - start) / (dividesDay(bucket) ?? days * DAY_MS));
}

/** Returns the bucket that holds a time. For a time in no range it is one that begins in no range either. */
export function bucketAt(ranges: readonly BucketRange[], time: number): { start: number; end: number } {
  const { start: from, end: to, stepMs } = rangeAt(ranges, time);
  const start = from + Math.floor((time - from) / stepMs) * stepMs;
  return { start, end: Math.min(start + stepMs, to) };
}

/** Returns the last range that begins at or before a time, else the first one. */
export function rangeAt(ranges: readonly BucketRange[], time: number): BucketRange {
  let low = 0;
  for (let high = ranges.length - 1; low < high;) {
    const middle = (low + high + 1) >> 1;
    if (time < ranges[middle].start) high = middle - 1;
    else low = middle;
  }
  return ranges[low];
}

/** Returns how many buckets there are. */
export function bucketCount(ranges: readonly BucketRange[]): number {
  return ranges.reduce((sum, { start, end, stepMs }) => sum + Math.ceil((end - start) / stepMs), 0);
}

/** Yields the buckets. */
export function* bucketsOf(ranges: readonly BucketRange[]): Generator<{ start: number; end: number }> {
  for (const { start, end, stepMs } of ranges) {
    for (let at = start; at < end; at += stepMs) yield { start: at, end: Math.min(at + stepMs, end) };
  }
}

function zoned(ms: number, timeZone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone);
}

/** Returns the length of a bucket in seconds, minutes or hours; undefined for calendar units. */
function dividesDay({ count, unit }: Bucket): number | undefined {
  const found = UNITS[unit];
  return "ms" in found ? count * found.ms : undefined;
}

/** Returns the length of the week of a bucket, or of its day, where no clock changes; undefined for months and years. */
function calendarMs({ unit }: Bucket): number | undefined {
  if (unit === "mo" || unit === "y") return undefined;
  return unit === "w" ? 7 * DAY_MS : DAY_MS;
}

/** Returns the start of the day, week, month or year that holds a time. */
function calendarStart({ count, unit }: Bucket, at: Temporal.ZonedDateTime): Temporal.ZonedDateTime {
  if (unit === "w") return at.startOfDay().subtract({ days: at.dayOfWeek - 1 }).startOfDay();
  if (unit === "mo") {
    return at.with({ month: at.month - (at.month - 1) % count, day: 1 }).startOfDay();
  }
  return (unit === "y" ? at.with({ month: 1, day: 1 }) : at).startOfDay();
}

/** Returns the start of the next one. Some days do not begin at midnight, because clocks are put forward then. */
function calendarNext({ count, unit }: Bucket, at: Temporal.ZonedDateTime): Temporal.ZonedDateTime {
  if (unit === "mo") return at.add({ months: count }).startOfDay();
  if (unit === "y") return at.add({ years: 1 }).startOfDay();
  return at.add({ days: unit === "w" ? 7 : 1 }).startOfDay();
}

/**
 * Appends the buckets from a time on that are worked out without the time zone: those that end before its next clock
 * change.
 *
 * @returns Where they end; the time itself where there are none.
 */
function appendEven(
  ranges: BucketRange[],
  { bucket, at, end }: { bucket: Bucket; at: Temporal.ZonedDateTime; end: number },
): number {
  let from = at.epochMilliseconds;
  if (!at.toPlainTime().equals("00:00")) return from;
  // A clock that is put back at the end of a day makes that day longer, so it is not over at the change itself.
  const change = (at.getTimeZoneTransition("next")?.epochMilliseconds ?? Infinity) - 1;
  const wholeMs = calendarMs(bucket);
  const stepMs = dividesDay(bucket);
  if (wholeMs !== undefined && DAY_MS % (stepMs ?? DAY_MS) === 0) {
    const count = Math.min(Math.floor((change - from) / wholeMs), Math.ceil((end - from) / wholeMs));
    if (count <= 0) return from;
    const to = from + count * wholeMs;
    appendRange(ranges, { start: from, end: to, stepMs: stepMs ?? wholeMs });
    return to;
  }
  const offsetMs = at.offsetNanoseconds / 1e6;
  while (from < end) {
    const to = wholeMs === undefined
      ? monthsAfter(from + offsetMs, monthsOf(bucket)) - offsetMs
      : from + wholeMs;
    if (to > change) break;
    appendRange(ranges, { start: from, end: to, stepMs: stepMs ?? to - from });
    from = to;
  }
  return from;
}

/** Returns how many months a bucket of months or years has. */
function monthsOf({ count, unit }: Bucket): number {
  return unit === "y" ? 12 : count;
}

/** Returns the first of a month, so many months after the month that begins at a time; both in local milliseconds. */
function monthsAfter(localMs: number, months: number): number {
  const date = new Date(localMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + months, 1);
}

/** Leaves out the buckets before the first one of a span and after the last one: whole days were worked out. */
function clip(ranges: readonly BucketRange[], { start, end }: { start: number; end: number }): BucketRange[] {
  return ranges.filter((range) => range.end > start && range.start < end).map((range) => {
    const { start: from, end: to, stepMs } = range;
    return {
      start: from + Math.max(0, Math.floor((start - from) / stepMs)) * stepMs,
      end: Math.min(to, from + Math.ceil((end - from) / stepMs) * stepMs),
      stepMs,
    };
  });
}

/** Appends a range, or extends the last one where the new one goes on evenly. */
export function appendRange(ranges: BucketRange[], next: BucketRange): void {
  const last = ranges.at(-1);
  const isContinued = last?.stepMs === next.stepMs && last.end === next.start &&
    (last.end - last.start) % last.stepMs === 0;
  if (isContinued) ranges[ranges.length - 1] = { ...last, end: next.end };
  else ranges.push(next);
}
