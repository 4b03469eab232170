import { ValidationError } from "../../errors.ts";
import type { Budget } from "../../records/budget.ts";
import {
  bucketAt,
  bucketRangesOf,
  bucketsOf,
  isTimeZone,
  parseBucket,
  TIME_ZONE_SYNTAX,
} from "../../records/calendar.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { currencyFault } from "../../records/currency.ts";
import { Decimal } from "../../records/decimal.ts";
import { acceptMap, acceptTimeText, EARLIEST_TIME } from "../../records/validation.ts";
import { acceptWhere, type WhereCondition } from "../../records/where.ts";
import {
  type Check,
  isAnything,
  isOneOf,
  isText,
  isTexts,
  isTextUpTo,
  takeFields,
} from "../../records/field_checks.ts";

/** A {@linkcode Budget} as it is handed in. */
export interface BudgetInput {
  /** The id. */
  budgetId: string;
  /**
   * Display name.
   *
   * @default {budgetId}
   */
  name?: string;
  /** Limit for each period: above 0, with up to 18 digits after the point. */
  amount: number | string;
  /**
   * The currency. Costs in other currencies do not count.
   *
   * @default {"USD"}
   */
  currency?: string;
  /**
   * Recurrence: `1d`, `1w` (on Monday), `1mo`, `3mo`, `1y` …
   *
   * @default {"1mo", or none where both startTime and endTime are given}
   */
  period?: string;
  /**
   * The time zone in which periods begin, as in `America/New_York`.
   *
   * @default {the timeZone of the configuration}
   */
  timeZone?: string;
  /** Costs before this do not count: epoch milliseconds, a `Date`, or a text such as `2026-10`, which is its start. */
  startTime?: number | Date | string;
  /** Costs from this on do not count: epoch milliseconds, a `Date` or a text. */
  endTime?: number | Date | string;
  /** Only costs of these categories; all where not given. */
  categories?: string[];
  /** Only costs of this resource. */
  resourceId?: string;
  /** Only costs of this region. */
  region?: string;
  /** Only costs with all of these tags. */
  tags?: Record<string, string>;
  /** Only costs for which all of these conditions hold. */
  where?: readonly WhereCondition[];
  /**
   * Basis of the costs that count.
   *
   * @default {billed costs; estimated ones in a period for which the filter has no billed cost}
   */
  basis?: "billed" | "estimated";
  /**
   * Thresholds in percent of the amount.
   *
   * @default {[50, 80, 100]}
   */
  thresholds?: number[];
}

/** A period in which a budget counts, or another span of time. */
export interface BudgetWindow {
  /** Start, inclusive, in epoch milliseconds. */
  readonly start: number;
  /** End, exclusive. */
  readonly end: number;
}

const SUBJECT = "a budget";
const DEFAULT_THRESHOLDS = [50, 80, 100];
const PERIODS = ["d", "w", "mo", "y"];

const FIELDS: Record<keyof BudgetInput, Check> = {
  budgetId: isText,
  name: isTextUpTo(800),
  amount: isAnything,
  currency: {
    test: (value) => isTextUpTo(64).test(value) && currencyFault(value as string) === undefined,
    expected: "a currency by its code, such as USD",
  },
  period: {
    test: (value) => {
      const bucket = typeof value === "string" ? parseBucket(value) : undefined;
      return bucket !== undefined && PERIODS.includes(bucket.unit);
    },
    expected: "a span such as 1d, 1w, 1mo, 3mo or 1y",
  },
  timeZone: {
    test: (value) => typeof value === "string" && isTimeZone(value),
    expected: TIME_ZONE_SYNTAX,
  },
  startTime: isAnything,
  endTime: isAnything,
  categories: {
    test: (value) => isTexts.test(value) && (value as unknown[]).length > 0,
    expected: "an array of one or more non-empty strings",
  },
  resourceId: isTextUpTo(800),
  region: isTextUpTo(65_536),
  tags: isAnything,
  where: isAnything,
  basis: isOneOf("billed", "estimated"),
  thresholds: {
    test: (value) =>
      Array.isArray(value) && value.every((percent) => Number.isFinite(percent) && percent >= 0.01),
    expected: "an array of percentages from 0.01",
  },
};

/**
 * Checks a budget and fills in what is left open.
 *
 * @param input The budget.
 * @param defaultZone The time zone of a budget that names none.
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function acceptBudget(input: BudgetInput, defaultZone = "UTC"): Budget {
  const given = takeFields(SUBJECT, input, { fields: FIELDS, required: ["budgetId", "amount"] });
  const { timeZone = defaultZone } = given;
  for (const field of ["startTime", "endTime"]) {
    if (given[field] === undefined) continue;
    const time = acceptTimeText(SUBJECT, field, given[field], timeZone as string);
    given[field] = Math.max(time, EARLIEST_TIME);
  }
  if (given.tags !== undefined) given.tags = acceptMap(SUBJECT, "tags", given.tags);
  if (given.where !== undefined) given.where = acceptConditions(given.where, timeZone as string);
  const isFixed = given.startTime !== undefined && given.endTime !== undefined && given.period === undefined;
  const budget = {
    name: given.budgetId,
    currency: "USD",
    ...(isFixed ? {} : { period: "1mo" }),
    timeZone,
    ...given,
    amount: acceptAmount(given.amount),
    thresholds: [...new Set(given.thresholds as number[] ?? DEFAULT_THRESHOLDS)].toSorted((a, b) => a - b),
  } as unknown as Budget;
  const { startTime = 0, endTime = Infinity } = budget;
  if (startTime < endTime) return budget;
  const expected = `before endTime (${endTime})`;
  throw new ValidationError({ subject: SUBJECT, field: "startTime", value: startTime, expected });
}

/** Checks conditions, and writes their times as numbers, so that they are the same when they are read again. */
function acceptConditions(where: unknown, timeZone: string): WhereCondition[] {
  acceptWhere(costEntries, where, timeZone);
  const stored = (value: unknown): unknown =>
    value instanceof Date ? value.getTime() : Array.isArray(value) ? value.map(stored) : value;
  return (where as WhereCondition[]).map((condition) =>
    Object.fromEntries(
      Object.entries(condition).filter(([, value]) => value !== undefined)
        .map(([name, value]) => [name, stored(value)]),
    ) as unknown as WhereCondition
  );
}

function acceptAmount(value: unknown): string {
  const expected = "a decimal above 0 with at most 18 digits before the point, as a number or string";
  const refuse = (): never => {
    throw new ValidationError({ subject: SUBJECT, field: "amount", value, expected });
  };
  if (typeof value !== "string" && typeof value !== "number") return refuse();
  try {
    const amount = Decimal.from(value);
    return amount.isStorable && amount.compare(Decimal.ZERO) > 0 ? amount.toString() : refuse();
  } catch {
    return refuse();
  }
}

/** The window of a budget that holds a time; else the first one that comes, or the last one that was. */
export function windowAt(budget: Budget, time: number): BudgetWindow {
  const { startTime = 0, endTime = Infinity, period, timeZone } = budget;
  if (period === undefined) return { start: startTime, end: endTime };
  const at = Math.min(Math.max(time, startTime), endTime - 1);
  const ranges = bucketRangesOf(parseBucket(period)!, { start: at, end: at + 1, timeZone });
  const { start, end } = bucketAt(ranges, at);
  return { start: Math.max(start, startTime), end: Math.min(end, endTime) };
}

/** The windows of a budget that hold any time of some spans, each once. */
export function windowsIn(budget: Budget, spans: readonly BudgetWindow[]): BudgetWindow[] {
  const { startTime = 0, endTime = Infinity, period, timeZone } = budget;
  const found = new Map<number, BudgetWindow>();
  for (const span of spans) {
    const [from, to] = [Math.max(span.start, startTime), Math.min(span.end, endTime)];
    if (from >= to) continue;
    const windows = period === undefined
      ? [{ start: startTime, end: endTime }]
      : bucketsOf(bucketRangesOf(parseBucket(period)!, { start: from, end: to, timeZone }));
    for (const { start, end } of windows) {
      const window = { start: Math.max(start, startTime), end: Math.min(end, endTime) };
      found.set(window.start, window);
    }
  }
  return [...found.values()];
}
