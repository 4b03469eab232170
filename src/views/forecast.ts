/**
 * Forecast of daily costs to the end of a period, by statistics that can be explained: the level of recent days, weekdays,
 * growth, and costs that return on the same day of each month. Outliers count for none of these.
 *
 * @module
 */
import { DAY_MS } from "../records/calendar.ts";

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

/** Parts of a forecast that are more than the level of recent days. */
export interface ForecastModel {
  /** True if weekdays differ. */
  readonly hasWeekdays: boolean;
  /** Growth from the last day to the next, in percent; absent where there is none. */
  readonly growthPerDay?: number;
  /** Days of the month on which costs return, and how much more than on other days; 0 is the last day. */
  readonly monthly: readonly { readonly day: number; readonly amount: number }[];
}

/** The expected total of a period. */
export interface DailyForecast {
  /** The total: what is known, and what is expected for the days after. */
  readonly total: number;
  /** In 8 of 10 earlier cases the total was between these. */
  readonly low: number;
  readonly high: number;
  /** The last day whose costs are complete. */
  readonly lastDay: number;
  /** The number of days that the model is from. */
  readonly history: number;
  readonly model: ForecastModel;
}

/** The fewest days with which a forecast is more than a guess: two of each weekday. */
const MIN_DAYS = 14;
/** The fewest days of a level. */
const WEEK = 7;
/** The longest part of a period that is forecast: four times the days that are known. */
const MAX_HORIZON = 4;
/** Data that ends earlier is not late but has ended. */
const MAX_LAG_DAYS = 10;
/** The most days of history: six months, for monthly costs; eight weeks for weekdays and growth; three for the level. */
export const HISTORY_DAYS = 185;
const [RECENT, LEVEL] = [56, 21];
/** Growth is carried on for so many days. */
const MAX_GROWTH_DAYS = 31;
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
  const daily = SIGMAS * sigma * (Math.sqrt(horizon) + horizon / Math.sqrt(Math.min(LEVEL, values.length)));
  const width = Math.max(backtestError(values, first, horizon) * Math.abs(expected), daily);
  const least = values.some((value) => value < 0) ? -Infinity : total - expected;
  return {
    total,
    low: Math.max(least, total - width),
    high: total + width,
    lastDay,
    history: values.length,
    model,
  };
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

/** A model of daily costs. */
interface Fit {
  predict(day: number): number;
  readonly model: ForecastModel;
  /** The standard deviation of a day. */
  readonly sigma: number;
}

/** Costs of consecutive days, taken apart. */
interface Parts {
  /** The usual cost in the weeks around each day. */
  readonly usual: readonly number[];
  readonly isOutlier: readonly boolean[];
  /** The factor of each weekday. */
  readonly factors: readonly number[];
  /** The days without outliers and weekdays. */
  readonly points: readonly Point[];
}

/** Takes outliers and weekdays out of the last days. */
function takeApart(values: readonly number[], first: number, days: number): Parts {
  const usual = values.map((_, i) => {
    const from = Math.max(0, Math.min(i - 7, values.length - 15));
    return quantile(values.slice(from, from + 15), 0.5);
  });
  const isOutlier = findOutliers(values, usual);
  const recent = values.map((value, t) => ({
    t,
    value: isOutlier[t] ? usual[t] : value,
    isOutlier: isOutlier[t],
  }))
    .slice(-days);
  const factors = weekdayFactors(recent, first);
  const points = recent.filter(({ isOutlier }) => !isOutlier).map(({ t, value }): Point => {
    const factor = factors[(first + t) % 7];
    // Days that cost little say little about the level.
    return { t, value: value / factor, weight: factor };
  });
  return { usual, isOutlier, factors, points };
}

/** Fits the model to the costs of consecutive days. */
function fit(values: readonly number[], first: number): Fit {
  const { usual, isOutlier, factors, points } = takeApart(values, first, RECENT);
  const last = values.length - 1;
  const { valueAt, growthPerDay, sigma } = fitTrend(points, last);
  const monthly = monthlyCosts(values, first, { usual, isOutlier });
  const isOther = values.map((_, i) =>
    isOutlier[i] && !monthly.some(({ day }) => isMonthDay(first + i, day))
  );
  const other = otherCosts(values, first, { usual, isOutlier: isOther });
  const hasNegative = values.some((value) => value < 0);
  return {
    predict(day) {
      const level = valueAt(Math.min(day - first, last + MAX_GROWTH_DAYS)) * factors[day % 7];
      const more = monthly.find((cost) => isMonthDay(day, cost.day))?.amount ?? 0;
      return (hasNegative ? level : Math.max(0, level)) + more + other(day);
    },
    model: {
      hasWeekdays: factors.some((factor) => Math.abs(factor - 1) > 0.02),
      ...(growthPerDay === undefined ? {} : { growthPerDay }),
      monthly,
    },
    sigma,
  };
}

/** Finds days far from the usual of the weeks around them. If there are many, they are no outliers. */
function findOutliers(values: readonly number[], usual: readonly number[]): boolean[] {
  const rest = values.map((value, i) => value - usual[i]);
  const [low, high] = [quantile(rest, 0.25), quantile(rest, 0.75)];
  const least = Math.abs(quantile(usual, 0.5)) / 2;
  const fence = 3 * (high - low);
  const found = rest.map((value) =>
    value > Math.max(high + fence, least) || value < Math.min(low - fence, -least)
  );
  return found.filter(Boolean).length > Math.max(1, values.length / 10) ? found.map(() => false) : found;
}

/** Returns the factor of each weekday, drawn towards 1 as far as chance explains the differences. */
function weekdayFactors(
  recent: readonly { t: number; value: number; isOutlier: boolean }[],
  first: number,
): number[] {
  const none = Array<number>(7).fill(1);
  if (recent.length < 2 * WEEK) return none;
  const ratios: number[][] = none.map(() => []);
  for (const [i, { t, value, isOutlier }] of recent.entries()) {
    const from = Math.max(0, Math.min(i - 3, recent.length - 7));
    const week = mean(recent.slice(from, from + 7).map(({ value }) => value));
    if (week <= 0) return none;
    if (!isOutlier) ratios[(first + t) % 7].push(value / week);
  }
  if (ratios.some(({ length }) => length < 2)) return none;
  const means = ratios.map(mean);
  const within = mean(ratios.map((found, i) => variance(found, means[i]) / found.length));
  const between = variance(means, 1);
  const kept = between === 0 ? 0 : Math.max(0, 1 - within / between);
  const factors = means.map((factor) => Math.max(0.01, 1 + kept * (factor - 1)));
  const scale = mean(factors);
  return factors.map((factor) => factor / scale);
}

/** The cost of a day as if all weekdays were the same. */
interface Point {
  readonly t: number;
  readonly value: number;
  readonly weight: number;
}

/** A trend of daily costs. */
interface Trend {
  valueAt(t: number): number;
  readonly growthPerDay?: number;
  readonly sigma: number;
}

/** Chooses the level, growth by an amount or a rate, or a level since a step: what explains the days with the least. */
function fitTrend(points: readonly Point[], last: number): Trend {
  const count = points.length;
  const overall = level(points);
  const now = level(points.filter(({ t }) => t > last - LEVEL)) || overall;
  const tiny = (Math.abs(overall) * 1e-6) ** 2 + Number.MIN_VALUE;
  const candidates: { valueAt(t: number): number; error: number; score: number; isGrowth: boolean }[] = [];
  const consider = (
    valueAt: (t: number) => number,
    { parameters, isGrowth = false, past = valueAt }: {
      parameters: number;
      isGrowth?: boolean;
      /** The same for the days that are known, where that differs. */
      past?: (t: number) => number;
    },
  ) => {
    const error = points.reduce((sum, { t, value, weight }) => sum + weight * (value - past(t)) ** 2, 0);
    const score = count * Math.log(error / count + tiny) + parameters * Math.log(count);
    candidates.push({ valueAt, error, score, isGrowth });
  };
  consider(() => now, { parameters: 1, past: () => overall });
  if (count >= LEVEL) {
    consider(line(points), { parameters: 3, isGrowth: true });
    if (points.every(({ value }) => value > 0)) {
      const logs = line(points.map(({ value, ...point }) => ({ ...point, value: Math.log(value) })));
      const scale = overall / level(points.map((point) => ({ ...point, value: Math.exp(logs(point.t)) })));
      consider((t) => scale * Math.exp(logs(t)), { parameters: 3, isGrowth: true });
    }
    for (let cut = WEEK; cut <= count - WEEK; cut++) {
      const [before, after] = [level(points.slice(0, cut)), level(points.slice(cut))];
      const at = points[cut].t;
      consider(() => after, { parameters: 4, past: (t) => t < at ? before : after });
    }
  }
  const best = candidates.reduce((a, b) => b.score < a.score ? b : a);
  const growth = best.valueAt(last + 1) / best.valueAt(last) - 1;
  return {
    valueAt: best.valueAt,
    ...(best.isGrowth && Number.isFinite(growth) ? { growthPerDay: growth * 100 } : {}),
    sigma: Math.sqrt(best.error / Math.max(1, count - 2)),
  };
}

function level(points: readonly Point[]): number {
  const weights = points.reduce((sum, { weight }) => sum + weight, 0);
  return weights === 0 ? 0 : points.reduce((sum, { value, weight }) => sum + weight * value, 0) / weights;
}

/** Returns the line of least squares. */
function line(points: readonly Point[]): (t: number) => number {
  const [x, y] = [level(points.map((point) => ({ ...point, value: point.t }))), level(points)];
  const spread = points.reduce((sum, { t, weight }) => sum + weight * (t - x) ** 2, 0);
  const slope = spread === 0
    ? 0
    : points.reduce((sum, { t, value, weight }) => sum + weight * (t - x) * (value - y), 0) / spread;
  return (t) => y + slope * (t - x);
}

/** Finds costs that return on a day of the month: in half of the months or more, in two at least, and in the last. */
function monthlyCosts(
  values: readonly number[],
  first: number,
  { usual, isOutlier }: { usual: readonly number[]; isOutlier: readonly boolean[] },
): { day: number; amount: number }[] {
  const found: { day: number; amount: number }[] = [];
  for (let day = 0; day <= 31; day++) {
    const chances = values.map((_, i) => i).filter((i) => isMonthDay(first + i, day));
    const seen = chances.filter((i) => isOutlier[i]);
    if (seen.length < 2 || seen.length * 2 < chances.length || !isOutlier[chances.at(-1)!]) continue;
    found.push({ day, amount: quantile(seen.slice(-3).map((i) => values[i] - usual[i]), 0.5) });
  }
  // What returns on the last day is not also a cost of the 28th to 31st.
  return found[0]?.day === 0 ? found.filter(({ day }) => day < 28) : found;
}

/** Returns what is expected of other outliers: a cost about once a month on another day, or costs at any time. */
function otherCosts(
  values: readonly number[],
  first: number,
  { usual, isOutlier }: { usual: readonly number[]; isOutlier: readonly boolean[] },
): (day: number) => number {
  const seen = values.map((_, i) => i).filter((i) => isOutlier[i]);
  const gaps = seen.slice(1).map((i, k) => i - seen[k]);
  const excess = seen.map((i) => values[i] - usual[i]);
  if (gaps.length > 0 && gaps.every((gap) => gap >= 25 && gap <= 36)) {
    const next = first + seen.at(-1)! + Math.round(quantile(gaps, 0.5));
    return (day) => day === next ? quantile(excess, 0.5) : 0;
  }
  const rate = seen.length < 3 ? 0 : excess.reduce((sum, value) => sum + value, 0) / values.length;
  return () => rate;
}

/** Returns true if a day is this day of its month, 0 for the last one. */
function isMonthDay(day: number, dayOfMonth: number): boolean {
  return new Date((day + (dayOfMonth === 0 ? 1 : 0)) * DAY_MS).getUTCDate() === (dayOfMonth || 1);
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

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function variance(values: readonly number[], center: number): number {
  return values.reduce((sum, value) => sum + (value - center) ** 2, 0) / Math.max(1, values.length - 1);
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

/** Returns a quantile of values, interpolated. */
function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * fraction;
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
