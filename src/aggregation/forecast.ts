/**
 * Forecast of daily costs to the end of a period, with an interval from back-tests, and their trend.
 *
 * @module
 */
import { endOfDay, localDay, startOfDay, startOfLocalDay } from "../records/periods.ts";
import { fit, type ForecastModel, LEVEL, level, quantile, takeApart, WEEK } from "./daily_model.ts";

/** Daily costs, and the period to forecast. Days are counted from the epoch. */
export interface ForecastInput {
  /** Totals by day; days without costs are absent. */
  readonly days: ReadonlyMap<number, number>;
  /** The first day of the period. */
  readonly start: number;
  /** The day after the last one. */
  readonly end: number;
  /** The day that is not over. */
  readonly today: number;
  /**
   * The total so far, where the period does not begin with a day.
   *
   * @default {the sum of its days}
   */
  readonly known?: number;
  /**
   * The part of the last day that belongs to the period.
   *
   * @default {1}
   */
  readonly lastPart?: number;
}

/** The expected total of a period. */
export interface DailyForecast {
  /** The total: what is known, and what is expected for the days after. */
  readonly total: number;
  /** Bounds of the total in 8 of 10 earlier cases. */
  readonly low: number;
  readonly high: number;
  /** The last day whose costs are complete. */
  readonly lastDay: number;
  /** The number of days that the model is from. */
  readonly history: number;
  readonly model: ForecastModel;
}

/** A range of time whose days are those of a time zone. */
export interface DayRange {
  readonly startTime: number;
  /** Exclusive. */
  readonly endTime: number;
  readonly timeZone: string;
  readonly now: number;
}

/** Forecasts the total of a range, as {@linkcode forecastDays} does; undefined also for a range that ended within a day. */
export function forecastRange(
  { startTime, endTime, timeZone, now }: DayRange,
  { days, known }: Pick<ForecastInput, "days" | "known">,
): DailyForecast | string | undefined {
  const dayOf = (time: number) => localDay(time, timeZone);
  const lastDay = startOfDay(endTime - 1, timeZone);
  const lastPart = (endTime - lastDay) / (endOfDay(lastDay, timeZone) - lastDay);
  if (endTime <= now && lastPart < 1) return undefined;
  const [start, end, today] = [dayOf(startTime), dayOf(endTime - 1) + 1, dayOf(now)];
  return forecastDays({ days, start, end, today, known, lastPart });
}

/** Returns the end of the last day whose costs are complete; undefined without costs up to now. */
export function endOfCompleteDays(
  days: ReadonlyMap<number, number>,
  { timeZone, now }: Pick<DayRange, "timeZone" | "now">,
): number | undefined {
  const today = localDay(now, timeZone);
  const newest = [...days.keys()].reduce((a, b) => b <= today ? Math.max(a, b) : a, -Infinity);
  if (newest === -Infinity) return undefined;
  return startOfLocalDay(lastCompleteDay(days, { newest, today }) + 1, timeZone);
}

/** The fewest days with which a forecast is more than a guess: two of each weekday. */
const MIN_DAYS = 14;
/** The longest part of a period that is forecast: four times the days that are known. */
const MAX_HORIZON = 4;
/** Data that ends earlier is not late but has ended. */
export const MAX_LAG_DAYS = 10;
/** The most days of history: six months, for monthly costs. */
export const HISTORY_DAYS = 185;
/** In a backtest: the fewest days before, and the most cases. */
const [MIN_BACKTEST, MAX_CASES] = [21, 20];
/** With too few earlier cases, a forecast is taken to be off by this part. */
const MIN_ERROR = 0.1;
/** 8 of 10 cases lie within so many standard deviations. */
const SIGMAS = 1.28;

/** Forecasts the total of a period, or says why that cannot be done; undefined for a period that is over. */
export function forecastDays(input: ForecastInput): DailyForecast | string | undefined {
  const { days, start, end, today, lastPart = 1 } = input;
  if (today >= end + MAX_LAG_DAYS) return undefined;
  const known = [...days.keys()].filter((day) => day <= today);
  if (known.length === 0) return "there are no costs yet";
  const lastDay = lastCompleteDay(days, { newest: Math.max(...known), today });
  const first = Math.max(Math.min(...known), lastDay + 1 - HISTORY_DAYS);
  const values = Array.from({ length: lastDay + 1 - first }, (_, i) => days.get(first + i) ?? 0);
  const horizon = end - 1 - lastDay;
  if (horizon <= 0) return undefined;
  if (today - lastDay - 1 > MAX_LAG_DAYS) return `costs end ${today - lastDay - 1} days ago`;
  const needed = Math.max(MIN_DAYS, Math.ceil(horizon / MAX_HORIZON));
  if (values.length < needed) {
    const there = values.length === 1 ? "is 1" : `are ${values.length}`;
    return `it needs ${needed} complete days of costs, and there ${there}`;
  }
  const { predict, model, sigma } = fit(values, first);
  let [sum, expected] = [0, 0];
  for (const [day, value] of days) if (day >= start && day < end) sum += value;
  for (let day = Math.max(start, lastDay + 1); day < end; day++) {
    const value = predict(day) * (day === end - 1 ? lastPart : 1);
    const soFar = days.get(day);
    expected += soFar === undefined ? value : Math.max(0, value - soFar);
  }
  const total = (input.known ?? sum) + expected;
  /** Half of the interval, computed on use: its back-tests take most of the time of a forecast. */
  let half: number | undefined;
  const width = () => half ??= intervalWidth(values, { first, horizon, sigma, expected });
  const least = values.some((value) => value < 0) ? -Infinity : total - expected;
  return {
    total,
    get low() {
      return Math.max(least, total - width());
    },
    get high() {
      return total + width();
    },
    lastDay,
    history: values.length,
    model,
  };
}

/** Half of the interval of an expected total. */
function intervalWidth(
  values: readonly number[],
  { first, horizon, sigma, expected }: { first: number; horizon: number; sigma: number; expected: number },
): number {
  const daily = SIGMAS * sigma * (Math.sqrt(horizon) + horizon / Math.sqrt(Math.min(LEVEL, values.length)));
  return Math.max(backtestError(values, first, horizon) * Math.abs(expected), daily);
}

/** Returns the last day whose costs are complete. Days that rarely have costs are no sign that data is late. */
function lastCompleteDay(
  days: ReadonlyMap<number, number>,
  { newest, today }: { newest: number; today: number },
): number {
  let last = newest === today ? today - 1 : newest;
  const oldest = [...days.keys()].reduce((a, b) => Math.min(a, b));
  const isRare = (day: number) => {
    const earlier = Array.from({ length: 8 }, (_, i) => day - 7 * (i + 1))
      .filter((day) => day >= oldest && day <= newest);
    return earlier.filter((day) => days.has(day)).length * 2 < earlier.length;
  };
  while (last + 1 < today && isRare(last + 1)) last++;
  // The newest data is often of a part of a day.
  const before = [1, 2, 3, 4].map((weeks) => days.get(last - 7 * weeks)).filter((value) =>
    value !== undefined
  );
  return before.length >= 2 && (days.get(last) ?? 0) < quantile(before, 0.5) / 2 ? last - 1 : last;
}

/** Returns how far forecasts of so many days were off in 8 of 10 earlier cases, as a part of what was expected. */
function backtestError(values: readonly number[], first: number, horizon: number): number {
  const cases = values.length - horizon - MIN_BACKTEST;
  if (cases < WEEK) return MIN_ERROR;
  const errors: number[] = [];
  for (let i = 0; i < cases; i += Math.ceil(cases / MAX_CASES)) {
    const known = MIN_BACKTEST + i;
    const { predict } = fit(values.slice(0, known), first);
    const actual = values.slice(known, known + horizon);
    const expected = actual.reduce((sum, _, k) => sum + predict(first + known + k), 0);
    if (expected > 0) errors.push(Math.abs(actual.reduce((sum, value) => sum + value, 0) / expected - 1));
  }
  return errors.length === 0 ? MIN_ERROR : quantile(errors, 0.8);
}

/** The fewest days that show a trend, and the least change from the first third of them to the last. */
const [TREND_DAYS, MIN_CHANGE] = [14, 0.05];
/** The chance that days without a trend show one is 0.3 %. */
const TREND_SIGMAS = 3;

/**
 * Returns the trend of the days of a period that are complete (Mann-Kendall test, without weekdays and outliers);
 * undefined where they show none, and are not steady either.
 */
export function trendOfDays(
  { days, start, end, today }: ForecastInput,
): "increasing" | "decreasing" | "stable" | undefined {
  const known = [...days.keys()].filter((day) => day >= start && day <= Math.min(today, end - 1));
  if (known.length < TREND_DAYS) return undefined;
  const [first, newest] = [Math.min(...known), Math.max(...known)];
  const last = lastCompleteDay(days, { newest, today: Math.min(today, end) });
  const values = Array.from({ length: last + 1 - first }, (_, i) => days.get(first + i) ?? 0);
  const points = takeApart(values, first, Infinity).points.filter(({ weight }) => weight > MIN_CHANGE);
  const count = points.length;
  if (count < TREND_DAYS) return undefined;
  let score = 0;
  for (const [i, { value }] of points.entries()) {
    for (const later of points.slice(i + 1)) score += Math.sign(later.value - value);
  }
  const sigmas = score / Math.sqrt(count * (count - 1) * (2 * count + 5) / 18);
  const third = Math.floor(count / 3);
  const [early, late] = [level(points.slice(0, third)), level(points.slice(-third))];
  const change = (late - early) / Math.abs(early);
  if (Math.abs(change) < MIN_CHANGE) return "stable";
  if (!(Math.abs(sigmas) > TREND_SIGMAS) || Math.sign(sigmas) !== Math.sign(change)) return undefined;
  return change > 0 ? "increasing" : "decreasing";
}
