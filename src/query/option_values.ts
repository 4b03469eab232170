import { Decimal } from "../records/decimal.ts";
import { describe } from "../errors.ts";
import { nearest, suggest } from "../nearest.ts";
import { DAY_MS } from "../records/calendar.ts";
import { parseSpan, TIME_SYNTAX, TIME_WORDS, type TimeSpan } from "../records/time_text.ts";
import { asBound, EARLIEST_TIME } from "../records/validation.ts";
import { isoTime } from "../transfer/values.ts";
import type { Arguments } from "./arguments.ts";
import { UsageError } from "./usage_error.ts";

export { conflict, missing, UsageError } from "./usage_error.ts";

/** Creates the error for an option whose value has the wrong form. */
export function invalidValue(option: string, expected: string, text: string, hint = ""): UsageError {
  return new UsageError(`--${option} must be ${expected}, not ${describe(text)}.${hint}`, "INVALID_OPTION");
}

/** Reads an option; undefined where it is not given. */
export function readOption<T>(
  given: Arguments,
  option: string,
  read: (option: string, text: string) => T,
): T | undefined {
  const text = given.text(option);
  return text === undefined ? undefined : read(option, text);
}

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: DAY_MS,
};

/**
 * Reads a duration: `250ms`, `30s`, `15m`, `24h`, `7d`.
 *
 * @throws {UsageError} If it is none.
 */
export function readDurationMs(option: string, text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (number === undefined) {
    throw invalidValue(option, "a duration such as 250ms, 30s, 15m, 24h or 7d", text);
  }
  return Math.round(Number(number) * UNITS_MS[unit]);
}

/**
 * Reads a time, as in ISO 8601, `2026-10`, `yesterday`, or a duration ago, in a time zone. A period is its start.
 *
 * @throws {UsageError} If it is none, or before the time of any record.
 */
export function readTime(option: string, text: string, timeZone: string): number {
  const time = readBound(option, text, timeZone);
  if (time > 0) return time;
  throw invalidValue(option, `a time from ${isoTime(EARLIEST_TIME)} on`, text);
}

/**
 * Reads the bound of a range of time; one before the time of any record is 0, the beginning.
 *
 * @throws {UsageError} If it is no time.
 */
export function readBound(option: string, text: string, timeZone: string): number {
  return readSpan(option, text, timeZone).start;
}

/**
 * Reads a period, or a single time.
 *
 * @throws {UsageError} If it is neither.
 */
export function readSpan(option: string, text: string, timeZone: string): TimeSpan {
  const span = parseSpan(text, { timeZone });
  if (span !== undefined) return { start: asBound(span.start), end: asBound(span.end) };
  const hint = nearest(text, TIME_WORDS);
  throw invalidValue(option, TIME_SYNTAX, text, hint && ` Did you mean ${hint}?`);
}

/**
 * Reads a whole number.
 *
 * @throws {UsageError} If it is none, or below the least.
 */
export function readCount(option: string, text: string, least = 0): number {
  const count = /^\d+$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(count) && count >= least) return count;
  throw invalidValue(option, `a whole number from ${least}`, text);
}

/**
 * Reads an exact amount from 0.
 *
 * @throws {UsageError} If it is none.
 */
export function readAmount(option: string, text: string): Decimal {
  try {
    const amount = Decimal.from(text);
    if (amount.isStorable && !text.startsWith("-")) return amount;
  } catch {
    // reported below
  }
  throw invalidValue(option, "a decimal number such as 2.50", text);
}

/**
 * Reads a number from 0.
 *
 * @throws {UsageError} If it is none.
 */
export function readNumber(option: string, text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw invalidValue(option, "a number from 0", text);
}

/**
 * Reads a repeatable option of the form KEY=VALUE; undefined where it is not given.
 *
 * @throws {UsageError} If one has another form.
 */
export function readPairs(given: Arguments, option: string): Record<string, string> | undefined {
  const pairs = given.texts(option).map((text) => {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    if (key === undefined) throw invalidValue(option, "KEY=VALUE such as team=nlp", text);
    return [key, value];
  });
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs);
}

/**
 * Reads one of some names.
 *
 * @throws {UsageError} If it is none of them.
 */
export function readName<T extends string>(what: string, text: string, names: readonly T[]): T {
  const found = names.find((name) => name === text);
  if (found) return found;
  throw new UsageError(`Unknown ${what} ${describe(text)}.${suggest(text, names)}`, "INVALID_OPTION");
}

/**
 * Reads the URL of a server, without user, parameters and fragment.
 *
 * @throws {UsageError} If it is none.
 */
export function readUrl(option: string, text: string): URL {
  const url = URL.parse(text);
  const isPlain = url && /^https?:$/.test(url.protocol) && url.username === "" && url.password === "" &&
    url.search === "" && url.hash === "";
  if (isPlain) return url;
  throw invalidValue(option, "a URL such as https://finops.example:8430, without a user", text);
}
