/**
 * Model of daily costs: the level of recent days, weekdays, growth, and costs that return on the same day of each month.
 *
 * @module
 */
import { quantile as quantileOfSorted } from "../records/aggregation.ts";
import { DAY_MS } from "../records/calendar.ts";

/** Parts of a forecast that are more than the level of recent days. */
export interface ForecastModel {
  /** True if weekdays differ. */
  readonly hasWeekdays: boolean;
  /** Growth from the last day to the next, in percent; absent where there is none. */
  readonly growthPerDay?: number;
  /** Days of the month on which costs return, and how much more than on other days; 0 is the last day. */
  readonly monthly: readonly { readonly day: number; readonly amount: number }[];
}

/** The fewest days of a level. */
export const WEEK = 7;
/** Days of history: twelve weeks for weekdays and growth, three for the level. */
const RECENT = 84;
export const LEVEL = 21;
/** Growth is carried on for so many days. */
const MAX_GROWTH_DAYS = 31;

/** A model of daily costs. */
export interface Fit {
  predict(day: number): number;
  readonly model: ForecastModel;
  /** The standard deviation of a day. */
  readonly sigma: number;
}

/** Costs of consecutive days, taken apart. */
export interface Parts {
  /** The usual cost in the weeks around each day. */
  readonly usual: readonly number[];
  readonly isOutlier: readonly boolean[];
  /** The factor of each weekday. */
  readonly factors: readonly number[];
  /** The days without outliers and weekdays. */
  readonly points: readonly Point[];
}

/** Takes outliers and weekdays out of the last days. */
export function takeApart(values: readonly number[], first: number, days: number): Parts {
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
export function fit(values: readonly number[], first: number): Fit {
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
export interface Point {
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

/** Returns the mean, by weight. */
export function level(points: readonly Point[]): number {
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
  // A cost that returns on the last day is not also one of the 28th to 31st.
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

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function variance(values: readonly number[], center: number): number {
  return values.reduce((sum, value) => sum + (value - center) ** 2, 0) / Math.max(1, values.length - 1);
}

/** Returns a quantile of values in any order. */
export function quantile(values: readonly number[], fraction: number): number {
  return quantileOfSorted(values.toSorted((a, b) => a - b), fraction);
}
