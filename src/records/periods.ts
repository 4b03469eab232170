/**
 * Periods that are compared with earlier ones, and the labels of buckets.
 *
 * @module
 */
import { type Bucket, DAY_MS, type ZonedSpan } from "./calendar.ts";

/** A distance on the calendar: months, days, or a length without one. */
export type Shift = { readonly months: number } | { readonly days: number } | { readonly ms: number };

/** An earlier period that a period is compared with. */
export type Comparison = "previous" | "year";

/** Returns the distance from each bucket to the one that it is compared with. Years of weeks have 52 of them. */
export function bucketShift({ count, unit }: Bucket, comparison: Comparison): Shift {
  if (comparison === "year") return unit === "w" ? { days: 364 } : { months: 12 };
  if (unit === "mo" || unit === "y") return { months: unit === "y" ? 12 : count };
  if (unit === "w" || unit === "d") return { days: unit === "w" ? 7 : 1 };
  return { ms: count * { s: 1_000, m: 60_000, h: 3_600_000 }[unit] };
}

/**
 * Returns the distance to the period before a span: of as many months where it begins with one, of as many days where it
 * begins at midnight, else of the same length. A week that has begun is compared with the week before.
 */
export function spanShift({ start, end, timeZone }: ZonedSpan, comparison: Comparison): Shift {
  if (comparison === "year") return { months: 12 };
  const [from, to] = [zonedAt(start, timeZone), zonedAt(end, timeZone)];
  if (!from.equals(from.startOfDay())) return { ms: end - start };
  const ceil = (unit: "months" | "days") => {
    const whole = Math.max(1, Math.trunc(from.until(to, { largestUnit: unit })[unit]));
    return from.add({ [unit]: whole }).epochMilliseconds < end ? whole + 1 : whole;
  };
  if (from.day === 1) return { months: ceil("months") };
  const days = ceil("days");
  return { days: from.dayOfWeek === 1 && days < 7 ? 7 : days };
}

/**
 * Returns the time that lies a distance before a time. Days of a month that the earlier month does not have are its end.
 */
export function shiftBack(time: number, shift: Shift, timeZone: string): number {
  if ("ms" in shift) return time - shift.ms;
  const at = zonedAt(time, timeZone);
  if ("days" in shift) return at.subtract(shift).epochMilliseconds;
  const month = at.with({ day: 1 }).startOfDay();
  const earlier = month.subtract(shift).startOfDay();
  const end = month.add({ months: 1 }).subtract(shift).startOfDay();
  const moved = earlier.add({ days: at.day - 1 }).withPlainTime(at.toPlainTime());
  return Math.min(moved.epochMilliseconds, end.epochMilliseconds);
}

/** Returns the time that lies a distance after a time. */
export function shiftForward(time: number, shift: Shift, timeZone: string): number {
  return "ms" in shift ? time + shift.ms : zonedAt(time, timeZone).add(shift).epochMilliseconds;
}

/** Returns the start of the day that holds a time. */
export function startOfDay(time: number, timeZone: string): number {
  return zonedAt(time, timeZone).startOfDay().epochMilliseconds;
}

/** Returns the start of the day that follows a time. */
export function endOfDay(time: number, timeZone: string): number {
  return zonedAt(time, timeZone).startOfDay().add({ days: 1 }).startOfDay().epochMilliseconds;
}

/** Returns the days since the epoch of the local date of a time. */
export function localDay(time: number, timeZone: string): number {
  const { year, month, day } = zonedAt(time, timeZone);
  return Date.UTC(year, month - 1, day) / DAY_MS;
}

/** Returns the time at which a local day begins, from its days since the epoch. */
export function startOfLocalDay(day: number, timeZone: string): number {
  const [year, month, date] = new Date(day * DAY_MS).toISOString().slice(0, 10).split("-").map(Number);
  return new Temporal.PlainDate(year, month, date).toZonedDateTime(timeZone).epochMilliseconds;
}

/** Returns the local label of a bucket: `2026`, `2026-Q4`, `2026-10`, a date (of weeks the Monday), or a time. */
export function bucketLabel({ count, unit }: Bucket, start: number, timeZone: string): string {
  const at = zonedAt(start, timeZone);
  const date = at.toPlainDate().toString();
  if (unit === "y" || unit === "mo" && count === 12) return date.slice(0, -6);
  if (unit === "mo") {
    return count === 3 ? `${date.slice(0, -6)}-Q${Math.ceil(at.month / 3)}` : date.slice(0, -3);
  }
  if (unit === "d" || unit === "w") return date;
  const time = at.toPlainTime().toString({ smallestUnit: unit === "s" ? "second" : "minute" });
  // An hour that clocks show twice has its offset.
  const isTwice = at.toPlainDateTime().toZonedDateTime(timeZone, { disambiguation: "earlier" })
    .epochMilliseconds !== at.toPlainDateTime().toZonedDateTime(timeZone, { disambiguation: "later" })
    .epochMilliseconds;
  return `${date} ${time}${isTwice ? at.offset : ""}`;
}

function zonedAt(ms: number, timeZone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone);
}
