import { DAY_MS } from "../../records/calendar.ts";
import { aggregateCosts } from "../../aggregation/aggregate.ts";
import { invalidAggregate } from "../../aggregation/aggregate_query.ts";
import type { Backend } from "../../backends/backend.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { acceptQuery, type CostEntriesQuery, queryFields } from "../../records/query.ts";
import { isAnything, takeFields } from "../field_checks.ts";

/** Time range and groups of a search for anomalies. */
export interface AnomalyQuery extends Omit<CostEntriesQuery, "limit" | "order"> {
  /**
   * The fields and tags that are told apart.
   *
   * @default {["category", "resourceId"]}
   */
  groupBy?: readonly string[];
}

/** The total of a day; days without costs are not there. */
export interface DayTotal {
  /** Days since the epoch. */
  readonly day: number;
  /** Statistics need no exact numbers. */
  readonly total: number;
}

/** Expected cost of a day. */
export interface Expectation {
  readonly expected: number;
  /** Tolerance in both directions. */
  readonly tolerance: number;
}

/** The days before a day that say what it is expected to cost: five weeks. */
export const HISTORY_DAYS = 35;
/** Default groups. */
export const SERIES = ["category", "resourceId"];

/** Known options. Values are checked as in other queries. */
const FIELDS = Object.fromEntries(
  [...queryFields(costEntries), "groupBy"].filter((field) => field !== "limit" && field !== "order")
    .map((field) => [field, isAnything]),
);

/** Minimum number of days in the history, of the same weekday or of all. */
const MIN_SAME_WEEKDAY = 3;
const MIN_DAYS = 10;
/** The deviation that is still taken for chance, in standard deviations, and at least as a part of what is expected. */
const MAX_SIGMAS = 4;
const MIN_DEVIATION = 0.2;
/** From the median of absolute deviations, and from the span between the 10th and 90th percentile, to a standard deviation. */
const SIGMA_OF_MAD = 1.4826;
const SIGMA_OF_SPAN = 1 / 2.5631;

/**
 * Returns the expected cost of a day from the days before it, or nothing if there are too few.
 *
 * Medians, so that what was out of order itself makes no difference; by weekday, because few weekends cost what working
 * days do; and with the trend, which is the median of the changes from week to week, taken out. Until three weeks are
 * known, the span in which most days lie stands in: weekends are in it.
 */
export function expectationOf(history: readonly DayTotal[], day: number): Expectation | undefined {
  if (history.length < MIN_DAYS) return undefined;
  const trend = trendOf(history);
  // Each day as if it were this one.
  const level = history.map(({ day: then, total }) => ({
    weekday: then % 7,
    total: total + trend * (day - then),
  }));
  const byWeekday = new Map<number, number[]>();
  for (const { weekday, total } of level) {
    byWeekday.set(weekday, [...byWeekday.get(weekday) ?? [], total]);
  }
  const medians = new Map<number, number>();
  for (const [weekday, totals] of byWeekday) {
    if (totals.length >= MIN_SAME_WEEKDAY) medians.set(weekday, quantile(totals, 0.5));
  }
  const expected = medians.get(day % 7);
  if (expected === undefined) {
    const totals = level.map(({ total }) => total);
    const sigma = (quantile(totals, 0.9) - quantile(totals, 0.1)) * SIGMA_OF_SPAN;
    return expectation(quantile(totals, 0.5), sigma);
  }
  const deviations = level.filter(({ weekday }) => medians.has(weekday))
    .map(({ weekday, total }) => Math.abs(total - medians.get(weekday)!));
  return expectation(expected, quantile(deviations, 0.5) * SIGMA_OF_MAD);
}

/** Returns the anomaly of a day, if it is one. */
export function detectAnomaly(
  total: number,
  { expected, tolerance }: Expectation,
): Pick<CostAnomaly, "expected" | "deviation" | "severity"> | undefined {
  const deviation = Math.abs(total - expected);
  if (deviation <= tolerance) return undefined;
  return {
    expected,
    deviation: (total - expected) / Math.abs(expected) * 100,
    severity: deviation > 2 * tolerance ? "high" : "medium",
  };
}

/** The days that are out of order, of all the costs that a query finds. */
export async function findAnomalies(backend: Backend, query: AnomalyQuery = {}): Promise<CostAnomaly[]> {
  const given = takeFields("a query of anomalies", query, { fields: FIELDS }) as AnomalyQuery;
  const { groupBy = SERIES, ...selection } = given;
  const { endTime = Date.now(), startTime = endTime - 30 * DAY_MS } = acceptQuery(costEntries, selection);
  if (startTime === 0) {
    throw invalidAggregate(costEntries, { field: "startTime", value: 0, expected: "a time" });
  }
  acceptQuery(costEntries, { startTime, endTime }); // where one of them was not given
  const rows = await aggregateCosts(backend, {
    ...selection,
    startTime: startOfDay(startTime) - HISTORY_DAYS * DAY_MS,
    endTime,
    bucket: "1d",
    groupBy,
  });
  const series = Map.groupBy(rows, ({ currency, group }) => JSON.stringify([currency, group]));
  return [...series.values()].flatMap((rows) => {
    const totals = rows.map(({ startTime, total }) => ({ day: startTime! / DAY_MS, total: Number(total) }));
    return rows.flatMap((row, i): CostAnomaly[] => {
      const { day, total } = totals[i];
      if (row.startTime! < startOfDay(startTime)) return [];
      const history = totals.slice(Math.max(0, i - HISTORY_DAYS), i).filter((then) =>
        then.day >= day - HISTORY_DAYS
      );
      const allowed = expectationOf(history, day);
      const found = allowed && detectAnomaly(total, allowed);
      const isOver = row.endTime! <= Math.min(endTime, Date.now());
      if (!found || (found.deviation < 0 && !isOver)) return []; // more may come
      return [{
        ...spanOf(day),
        group: row.group ?? {},
        currency: row.currency,
        amount: row.total,
        ...found,
      }];
    });
  }).toSorted((a, b) => a.startTime - b.startTime);
}

/** Start and end of a day. */
export function spanOf(day: number): { startTime: number; endTime: number } {
  return { startTime: day * DAY_MS, endTime: (day + 1) * DAY_MS };
}

function startOfDay(time: number): number {
  return Math.floor(time / DAY_MS) * DAY_MS;
}

function expectation(expected: number, sigma: number): Expectation {
  return { expected, tolerance: Math.max(MAX_SIGMAS * sigma, MIN_DEVIATION * Math.abs(expected)) };
}

/** The change a day: the median over all pairs of days that are whole weeks apart; none where there are too few. */
function trendOf(history: readonly DayTotal[]): number {
  const changes: number[] = [];
  for (const [i, a] of history.entries()) {
    for (const b of history.slice(i + 1)) {
      if ((b.day - a.day) % 7 === 0) changes.push((b.total - a.total) / (b.day - a.day));
    }
  }
  return changes.length >= 7 * MIN_SAME_WEEKDAY ? quantile(changes, 0.5) : 0;
}

/** The value that this fraction does not exceed, in proportion between two. */
function quantile(values: readonly number[], fraction: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = fraction * (sorted.length - 1);
  const low = sorted[Math.floor(at)];
  return low + (at - Math.floor(at)) * (sorted[Math.ceil(at)] - low);
}
