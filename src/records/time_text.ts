/**
 * Times as texts: ISO 8601, dates and periods of a time zone, and durations ago.
 *
 * @module
 */
import { HOUR_MS } from "./calendar.ts";

const TIME =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?$/;

/** No clock is further from UTC. */
const MAX_OFFSET_MS = 18 * HOUR_MS;

/** Cache of the last date and its start: most times of a file fall on few days. */
const last = { date: "none", start: 0 };

/** Reads an ISO 8601 time; without a zone it is of `timeZone`, and digits beyond milliseconds are cut. */
export function parseTime(text: string, timeZone = "UTC"): number | undefined {
  if (text.startsWith(last.date)) {
    const clock = utcClockOf(text);
    if (!Number.isNaN(clock)) return last.start + clock;
  }
  const match = TIME.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((digits) => Number(digits ?? 0));
  const ms = Number((match[7] ?? "").padEnd(3, "0").slice(0, 3));
  const date = new Date(Date.UTC(year, month - 1, day));
  // `Date.UTC()` takes the first hundred years for those of the last century.
  const isDate = year >= 1_000 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!isDate || hour > 23 || minute > 59 || second > 59) return undefined;
  last.date = text.slice(0, 10);
  last.start = date.getTime();
  const local = last.start + HOUR_MS * hour + 60_000 * minute + 1_000 * second + ms;
  if (match[8] === undefined) return timeZone === "UTC" ? local : instantOf(local, timeZone);
  const [, sign, hours = "0", minutes = "0"] = /^([+-])(\d\d):?(\d\d)?$/.exec(match[8]) ?? [];
  const aheadMs = 60_000 * (60 * Number(hours) + Number(minutes));
  if (Number(minutes) > 59 || aheadMs > MAX_OFFSET_MS) return undefined;
  return local - (sign === "-" ? -aheadMs : aheadMs);
}

/** Milliseconds after midnight of a time in the form of `toISOString()`, or that without a fraction; NaN of any other. */
function utcClockOf(text: string): number {
  const { length } = text;
  const hasFraction = length === 24;
  if (!hasFraction && length !== 20) return NaN;
  if (text[10] !== "T" || text[13] !== ":" || text[16] !== ":" || text[length - 1] !== "Z") return NaN;
  if (hasFraction && text[19] !== ".") return NaN;
  const [hour, minute, second] = [twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17)];
  if (hour > 23 || minute > 59 || second > 59) return NaN;
  const ms = hasFraction ? 10 * twoDigits(text, 20) + digit(text, 22) : 0;
  return HOUR_MS * hour + 60_000 * minute + 1_000 * second + ms;
}

function twoDigits(text: string, at: number): number {
  return 10 * digit(text, at) + digit(text, at + 1);
}

/** A digit of a text; NaN if there is none. */
function digit(text: string, at: number): number {
  const value = text.charCodeAt(at) - 48;
  return value >= 0 && value <= 9 ? value : NaN;
}

/** The time at which clocks of a zone show a local time; the earlier one where they show it twice. */
function instantOf(localMs: number, timeZone: string): number {
  const local = Temporal.Instant.fromEpochMilliseconds(localMs).toZonedDateTimeISO("UTC").toPlainDateTime();
  return local.toZonedDateTime(timeZone).epochMilliseconds;
}

/** A span of time. A single time begins and ends there. */
export interface TimeSpan {
  /** The start, in epoch milliseconds. */
  readonly start: number;
  /** The end, exclusive. */
  readonly end: number;
}

/** The zone in which a text is read, and the time that is now. */
export interface ReadTimeOptions {
  readonly timeZone: string;
  /** @default {Date.now()} */
  readonly now?: number;
}

/** Units of periods, and the length of each in those of `Temporal`. */
const PERIODS: Readonly<Record<string, Temporal.DurationLike>> = {
  day: { days: 1 },
  week: { weeks: 1 },
  month: { months: 1 },
  quarter: { months: 3 },
  year: { years: 1 },
};
const DAYS: Readonly<Record<string, number>> = { yesterday: -1, today: 0, tomorrow: 1 };

/** Words that {@linkcode parseSpan} reads, for suggestions. */
export const TIME_WORDS: readonly string[] = [
  "now",
  ...Object.keys(DAYS),
  ...["last", "this", "next"].flatMap((word) =>
    Object.keys(PERIODS).slice(1).map((unit) => `${word}-${unit}`)
  ),
];

/** The syntax of times, for messages. */
export const TIME_SYNTAX =
  "a time such as 2026-01-31T12:00Z, 2026-10, 2026-Q3 or last-month, or a duration ago such as 7d";

/** The units of a duration ago: milliseconds, or calendar units of `Temporal`. */
const AGO: Readonly<Record<string, number | "months" | "years">> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: HOUR_MS,
  d: 24 * HOUR_MS,
  w: 7 * 24 * HOUR_MS,
  mo: "months",
  y: "years",
};

/**
 * Reads a time or a period: ISO 8601, a date, `2026-10`, `2026-Q3`, `2026`, `yesterday`, `last-month`, or a duration ago
 * such as `7d` or `1mo`. Periods, and times without a zone, are those of `timeZone`.
 *
 * @returns The span; undefined if the text is none of these.
 */
export function parseSpan(
  text: string,
  { timeZone, now = Date.now() }: ReadTimeOptions,
): TimeSpan | undefined {
  const at = Temporal.Instant.fromEpochMilliseconds(now).toZonedDateTimeISO(timeZone);
  const ago = text === "now" ? now : parseAgo(text, at);
  if (ago !== undefined) return { start: ago, end: ago };
  if (Object.hasOwn(DAYS, text)) return periodOf("day", at.add({ days: DAYS[text] }));
  const [, word, unit] = /^(last|this|next)-(week|month|quarter|year)$/.exec(text) ?? [];
  if (word === undefined) return parsePeriod(text, timeZone);
  const { start: first } = periodOf(unit, at);
  const start = Temporal.Instant.fromEpochMilliseconds(first).toZonedDateTimeISO(timeZone);
  if (word === "this") return periodOf(unit, start);
  return periodOf(unit, word === "last" ? start.subtract(PERIODS[unit]) : start.add(PERIODS[unit]));
}

/** Reads a year, quarter, month, day, or a time. */
function parsePeriod(text: string, timeZone: string): TimeSpan | undefined {
  const [, year, quarter, month, day] = /^(\d{4})(?:-Q([1-4])|-(\d\d)(?:-(\d\d))?)?$/i.exec(text) ?? [];
  if (year === undefined) {
    const time = parseTime(text, timeZone);
    return time === undefined ? undefined : { start: time, end: time };
  }
  const unit = quarter ? "quarter" : day ? "day" : month ? "month" : "year";
  const first = quarter ? String(3 * Number(quarter) - 2).padStart(2, "0") : month ?? "01";
  const start = parseTime(`${year}-${first}-${day ?? "01"}`, timeZone);
  if (start === undefined) return undefined;
  return periodOf(unit, Temporal.Instant.fromEpochMilliseconds(start).toZonedDateTimeISO(timeZone));
}

function parseAgo(text: string, now: Temporal.ZonedDateTime): number | undefined {
  const [, number, name] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w|mo|y)$/.exec(text) ?? [];
  if (number === undefined) return undefined;
  const unit = AGO[name];
  if (typeof unit === "number") return now.epochMilliseconds - Math.round(Number(number) * unit);
  const count = Number(number);
  // Nothing is older than a few thousand years, which `Temporal` cannot count back in.
  return Number.isInteger(count) && count <= 12_000
    ? now.subtract({ [unit]: count }).epochMilliseconds
    : undefined;
}

/** Returns the day, week, month, quarter or year that holds a time. */
function periodOf(unit: string, at: Temporal.ZonedDateTime): TimeSpan {
  const { dayOfWeek, month } = at;
  const day = unit === "day"
    ? at
    : unit === "week"
    ? at.subtract({ days: dayOfWeek - 1 })
    : at.with({ day: 1, month: unit === "year" ? 1 : unit === "quarter" ? month - (month - 1) % 3 : month });
  const start = day.startOfDay();
  const end = start.add(PERIODS[unit]).startOfDay();
  return { start: start.epochMilliseconds, end: end.epochMilliseconds };
}
