/**
 * Spans of time as people count them: minutes and hours, and days, weeks, months and years of a time zone, where a
 * day has 23 or 25 hours now and then.
 *
 * @module
 */

/** Equal spans of time, one after the other; the last one may be cut short by the end. */
export interface BucketRange {
  /** Where the first span begins, in epoch milliseconds. */
  readonly start: number;
  /** Where the last one ends, in epoch milliseconds. */
  readonly end: number;
  /** How long each of them is, in milliseconds. */
  readonly stepMs: number;
}

/** A bucket: so many of a unit. */
export interface Bucket {
  readonly count: number;
  readonly unit: keyof typeof UNITS;
}

const DAY_MS = 86_400_000;

/** Each unit, with the most of it that make a bucket: a larger one is written in the next unit. */
const UNITS = {
  s: { most: 3_600, ms: 1_000 },
  m: { most: 1_440, ms: 60_000 },
  h: { most: 24, ms: 3_600_000 },
  d: { most: 1 },
  w: { most: 1 },
  mo: { most: 12 },
  y: { most: 1 },
} as const;

/** How buckets are written, for messages. */
export const BUCKET_WANTED = "a span such as 30s, 15m, 6h (of a day at the most), 1d, 1w, 1mo, 3mo or 1y";

/** Reads a bucket such as `1h`; nothing where it is none. */
export function parseBucket(text: string): Bucket | undefined {
  const [, digits, name] = /^(\d{1,4})(s|m|h|d|w|mo|y)$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const count = Number(digits);
  const unit = name as Bucket["unit"];
  // Months have to come out even with the year, or January would be in another bucket each year.
  const isEven = unit !== "mo" || 12 % count === 0;
  return count >= 1 && count <= UNITS[unit].most && isEven ? { count, unit } : undefined;
}

/** Whether the system knows a time zone of this name. */
export function isTimeZone(name: string): boolean {
  try {
    zoned(0, name);
    return true;
  } catch {
    return false;
  }
}

/**
 * The buckets that hold all times of a range. Days begin at midnight of the time zone, weeks on Monday; what is shorter
 * than a day is counted anew from each midnight.
 *
 * Nearly all buckets are as long as their neighbors, so this gives few stretches where there are many buckets:
 * databases find the bucket of a record by comparing with those few, and a division.
 */
export function bucketRangesOf(
  bucket: Bucket,
  { start, end, timeZone }: { start: number; end: number; timeZone: string },
): BucketRange[] {
  const stretches: BucketRange[] = [];
  let at = calendarStart(bucket, zoned(start, timeZone));
  while (at.epochMilliseconds < end) {
    const from = at.epochMilliseconds;
    const run = evenRun(bucket, at, end);
    const to = run > 0 ? zoned(from + run, timeZone) : calendarNext(bucket, at);
    append(stretches, {
      start: from,
      end: to.epochMilliseconds,
      stepMs: dividesDay(bucket) ?? (run > 0 ? calendarMs(bucket)! : to.epochMilliseconds - from),
    });
    at = to;
  }
  return clip(stretches, { start, end });
}

/** The bucket that holds a time. */
export function bucketAt(stretches: readonly BucketRange[], time: number): { start: number; end: number } {
  let low = 0;
  for (let high = stretches.length - 1; low < high;) {
    const middle = (low + high) >> 1;
    if (time < stretches[middle].end) high = middle;
    else low = middle + 1;
  }
  const { start: from, end: to, stepMs } = stretches[low];
  const start = from + Math.floor((time - from) / stepMs) * stepMs;
  return { start, end: Math.min(start + stepMs, to) };
}

/** How many buckets there are. */
export function bucketCount(stretches: readonly BucketRange[]): number {
  return stretches.reduce((sum, { start, end, stepMs }) => sum + Math.ceil((end - start) / stepMs), 0);
}

/** Where each bucket begins. */
export function* bucketStarts(stretches: readonly BucketRange[]): Generator<number> {
  for (const { start, end, stepMs } of stretches) {
    for (let at = start; at < end; at += stepMs) yield at;
  }
}

function zoned(ms: number, timeZone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone);
}

/** How long a bucket is that is shorter than a day, or a whole day by its hours. */
function dividesDay({ count, unit }: Bucket): number | undefined {
  const found = UNITS[unit];
  return "ms" in found ? count * found.ms : undefined;
}

/** How long the days are that a bucket is made of, or that it is a part of, where no clock is changed. */
function calendarMs({ unit }: Bucket): number | undefined {
  if (unit === "mo" || unit === "y") return undefined;
  return unit === "w" ? 7 * DAY_MS : DAY_MS;
}

/** The day, week, month or year in which a time lies begins here. */
function calendarStart({ count, unit }: Bucket, at: Temporal.ZonedDateTime): Temporal.ZonedDateTime {
  if (unit === "w") return at.startOfDay().subtract({ days: at.dayOfWeek - 1 }).startOfDay();
  if (unit === "mo") {
    return at.with({ month: at.month - (at.month - 1) % count, day: 1 }).startOfDay();
  }
  return (unit === "y" ? at.with({ month: 1, day: 1 }) : at).startOfDay();
}

/** The next one begins here. Not every day begins at midnight: some clocks are put forward then. */
function calendarNext({ count, unit }: Bucket, at: Temporal.ZonedDateTime): Temporal.ZonedDateTime {
  if (unit === "mo") return at.add({ months: count }).startOfDay();
  if (unit === "y") return at.add({ years: 1 }).startOfDay();
  return at.add({ days: unit === "w" ? 7 : 1 }).startOfDay();
}

/** How many milliseconds from here on are whole days or weeks of even length; none where the clock is changed. */
function evenRun(bucket: Bucket, at: Temporal.ZonedDateTime, end: number): number {
  const wholeMs = calendarMs(bucket);
  if (wholeMs === undefined || !at.toPlainTime().equals("00:00")) return 0;
  const change = at.getTimeZoneTransition("next")?.epochMilliseconds ?? Infinity;
  const from = at.epochMilliseconds;
  // A clock that is put back when a day would end makes that day longer: it is not over at the change itself.
  const even = Math.floor((change - 1 - from) / wholeMs);
  const run = Math.min(even, Math.ceil((end - from) / wholeMs));
  // What does not divide a day is counted anew each day.
  return DAY_MS % (dividesDay(bucket) ?? DAY_MS) === 0 ? run * wholeMs : Math.min(run, 1) * wholeMs;
}

/** Leaves out what lies before the first bucket of a range, or behind the last one: days are worked out as a whole. */
function clip(
  stretches: readonly BucketRange[],
  { start, end }: { start: number; end: number },
): BucketRange[] {
  return stretches.filter((stretch) => stretch.end > start && stretch.start < end).map((stretch) => {
    const { start: from, end: to, stepMs } = stretch;
    return {
      start: from + Math.max(0, Math.floor((start - from) / stepMs)) * stepMs,
      end: Math.min(to, from + Math.ceil((end - from) / stepMs) * stepMs),
      stepMs,
    };
  });
}

/** Adds a stretch to those before it, or to the last of them where that goes on evenly. */
function append(stretches: BucketRange[], next: BucketRange): void {
  const last = stretches.at(-1);
  const goesOn = last?.stepMs === next.stepMs && (last.end - last.start) % last.stepMs === 0;
  if (goesOn) stretches[stretches.length - 1] = { ...last, end: next.end };
  else stretches.push(next);
}
