import { describe, ValidationError } from "../errors.ts";
import {
  type Column,
  columnOf,
  type ColumnType,
  type Dataset,
  positionOf,
  withSortedKeys,
} from "./dataset.ts";
import { isTimeZone, TIME_ZONE_SYNTAX } from "./calendar.ts";
import { parseSpan, TIME_SYNTAX } from "./time_text.ts";
import { Decimal, isCanonicalAmount } from "./decimal.ts";

/** Times before this are taken for seconds: 100,000,000,000 ms is 3 March 1973. */
export const EARLIEST_TIME = 100_000_000_000;
/** The end of the year 9999, which every backend can hold. */
export const LATEST_TIME = 253_402_300_799_999;

/** The most UTF-16 code units that the keys and values of a map may have together. */
const MAX_MAP_LENGTH = 65_536;

/** Thrown by the checks; becomes a {@linkcode ValidationError} that names the field. */
class Refusal {
  constructor(readonly expected: string, readonly value: unknown, readonly key = "") {}
}

/** Validates each type of value and returns the stored form. */
const checks: Record<ColumnType, (value: unknown, column: Column) => unknown> = {
  timestamp: checkTime,
  text: checkText,
  real: (value) => Number.isFinite(value) ? value : refuse("a finite number", value),
  integer: checkInteger,
  boolean: (value) => typeof value === "boolean" ? value : refuse("true or false", value),
  decimal: checkAmount,
  map: checkMap,
};

/**
 * Checks a record and makes the copy that is kept: defaults filled in, times as epoch milliseconds,
 * amounts in canonical form, absent and null fields left out.
 *
 * @throws {ValidationError} If any field is missing, unknown or wrong.
 */
export function acceptRecord<T>(dataset: Dataset<T>, input: unknown): T {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    throw new ValidationError({
      subject: dataset.noun,
      field: "record",
      value: input,
      expected: "an object",
      code: "INVALID_RECORD",
    });
  }
  // Measured on system metrics: a spread copies them in 52 ns, storing 28 fields one by one takes 3 µs; and
  // values are read fastest in the order of `for in`, so that goes first and looks for their columns.
  const record = { ...input } as Record<string, unknown>;
  const { columns } = dataset;
  let position = -1;
  for (const field in record) {
    position = positionOf(dataset, field, position + 1);
    const value = record[field];
    // Most values are reals: to ask here saves a fifth of the time.
    if (position >= 0 && columns[position].type === "real" && Number.isFinite(value)) continue;
    if (value === undefined || value === null) delete record[field]; // absent is absent
    else if (position < 0) throw unknownField(dataset, field, value);
    else {
      const kept = checkColumn(dataset, columns[position], value);
      if (kept === columns[position].absent) delete record[field]; // kept is never undefined
      else if (kept !== value) record[field] = kept;
    }
  }
  for (const { field, default: byDefault } of dataset.required) {
    if (record[field] !== undefined) continue;
    if (byDefault === undefined) {
      throw new ValidationError({
        subject: dataset.noun,
        field,
        value: undefined,
        expected: "given",
        code: "MISSING_FIELD",
      });
    }
    record[field] = byDefault;
  }
  return record as T;
}

/**
 * Checks a time: epoch milliseconds or a `Date`.
 *
 * @throws {ValidationError} If it is no time, or looks like seconds, microseconds or nanoseconds.
 */
export function acceptTime(subject: string, field: string, value: unknown): number {
  try {
    return checkTime(value);
  } catch (refusal) {
    throw asValidationError(subject, field, refusal);
  }
}

/**
 * Checks a time of a question: epoch milliseconds, a `Date`, or a text that is read in a time zone, as in `2026-10`. A
 * period is its start; a time before any record is 0.
 *
 * @throws {ValidationError} If it is no time.
 */
export function acceptTimeText(subject: string, field: string, value: unknown, timeZone = "UTC"): number {
  if (typeof value !== "string") return acceptTime(subject, field, value);
  const span = parseSpan(value, { timeZone });
  if (span !== undefined) return asBound(span.start);
  throw new ValidationError({ subject, field, value, expected: TIME_SYNTAX });
}

/**
 * Checks the name of a time zone; UTC where there is none.
 *
 * @throws {ValidationError} If the system does not know it.
 */
export function acceptTimeZone(subject: string, value: unknown = "UTC"): string {
  if (typeof value === "string" && isTimeZone(value)) return value;
  throw new ValidationError({ subject, field: "timeZone", value, expected: TIME_ZONE_SYNTAX });
}

/**
 * Checks a text that is compared with stored ones.
 *
 * @throws {ValidationError} If it is none, or one that no record can have.
 */
export function acceptText(subject: string, field: string, value: unknown): string {
  try {
    return typeof value === "string" ? checkStorable(value) : refuse("a string", value);
  } catch (refusal) {
    throw asValidationError(subject, field, refusal);
  }
}

/** Limits a bound of a time range to times that can be stored: 0 for earlier ones, the last one for the end of year 9999. */
export function asBound(time: number): number {
  return time < EARLIEST_TIME ? 0 : time === LATEST_TIME + 1 ? LATEST_TIME : time;
}

/**
 * Checks a map of strings.
 *
 * @throws {ValidationError} If it is not a plain object whose values are all strings.
 */
export function acceptMap(subject: string, field: string, value: unknown): Record<string, string> {
  try {
    return checkMap(value);
  } catch (refusal) {
    throw asValidationError(subject, field, refusal);
  }
}

/**
 * Checks the value of one field by itself, as {@linkcode acceptRecord} checks it in a record.
 *
 * @throws {ValidationError} If it is wrong.
 */
export function acceptValue(dataset: Dataset<unknown>, field: string, value: unknown): unknown {
  return checkColumn(dataset, columnOf(dataset, field), value);
}

function checkColumn(dataset: Dataset<unknown>, column: Column, value: unknown): unknown {
  try {
    return checks[column.type](value, column);
  } catch (refusal) {
    throw asValidationError(dataset.noun, column.field, refusal);
  }
}

function asValidationError(subject: string, field: string, refusal: unknown): unknown {
  if (!(refusal instanceof Refusal)) return refusal;
  const { expected, value, key } = refusal;
  return new ValidationError({ subject, field: field + key, value, expected });
}

function refuse(expected: string, value: unknown, key?: string): never {
  throw new Refusal(expected, value, key);
}

function checkTime(value: unknown): number {
  const time = value instanceof Date ? value.getTime() : value;
  if (!Number.isSafeInteger(time)) {
    return refuse("a time in whole epoch milliseconds or a Date", value);
  }
  const ms = time as number;
  if (ms >= EARLIEST_TIME && ms <= LATEST_TIME) return ms;
  if (ms > LATEST_TIME) {
    return refuse("a time in epoch milliseconds (this looks like micro- or nanoseconds)", value);
  }
  return refuse(
    `a time in epoch milliseconds (this looks like seconds; multiply by 1000)`,
    value,
  );
}

function checkInteger(value: unknown, { min }: Column): unknown {
  if (!Number.isSafeInteger(value)) return refuse("a whole number", value);
  return value as number >= min ? value : refuse(`a whole number from ${min}`, value);
}

function checkText(value: unknown, column: Column): string {
  if (typeof value !== "string") return refuse("a string", value);
  if (value === "" && column.required) return refuse("a non-empty string", value);
  if (column.oneOf && !column.oneOf.includes(value)) {
    return refuse(`one of ${column.oneOf.join(", ")}`, value);
  }
  const expected = column.fault?.(value);
  if (expected !== undefined) return refuse(expected, value);
  if (value.length > column.maxLength) {
    return refuse(`at most ${column.maxLength} characters (this has ${value.length})`, value);
  }
  return checkStorable(value);
}

function checkStorable(text: string): string {
  const expected = textFault(text);
  return expected === undefined ? text : refuse(expected, text);
}

/** Returns what a text must be if PostgreSQL cannot store it. */
function textFault(text: string): string | undefined {
  if (text.includes("\0")) return "free of NUL characters";
  if (!text.isWellFormed()) return "well-formed Unicode (no lone surrogates)";
}

function checkAmount(value: unknown): string {
  if (typeof value === "string" && isCanonicalAmount(value)) return value;
  if (typeof value !== "string" && !Number.isFinite(value)) {
    return refuse("a decimal number or string", value);
  }
  let amount: Decimal;
  try {
    amount = Decimal.from(value as string | number);
  } catch {
    return refuse("a decimal number or string", value);
  }
  if (!amount.isStorable) return refuse("a decimal with at most 18 digits before the point", value);
  return amount.toString();
}

function checkMap(value: unknown): Record<string, string> {
  const prototype = typeof value === "object" && value !== null && Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    return refuse("a plain object of strings", value);
  }
  const given = value as Record<string, string>;
  const sorted = withSortedKeys(given);
  const map: Record<string, string> = sorted === given ? { ...given } : sorted;
  let length = 0;
  for (const key in map) {
    const value = map[key];
    const isText = typeof value === "string";
    const expected = isText ? textFault(key) ?? textFault(value) : "a string";
    if (expected !== undefined) return refuse(expected, value, `[${describe(key)}]`);
    length += key.length + value.length;
  }
  if (length > MAX_MAP_LENGTH) {
    return refuse(`at most ${MAX_MAP_LENGTH} characters in all (this has ${length})`, value);
  }
  return map;
}

/** Refuses an unknown field, so that a misspelled one is not lost. */
function unknownField(dataset: Dataset<unknown>, field: string, value: unknown): ValidationError {
  return new ValidationError({
    subject: dataset.noun,
    field,
    value,
    known: dataset.columns.map(({ field }) => field),
  });
}
