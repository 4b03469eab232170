import { aggregateCosts, type CostAggregate } from "../aggregation/aggregate.ts";
import {
  acceptAggregateRequest,
  type CostMeasure,
  invalidAggregate,
} from "../aggregation/aggregate_query.ts";
import { endOfData } from "../aggregation/comparison.ts";
import { FusedReads } from "../aggregation/fused_reads.ts";
import type { Backend } from "../backends/backend.ts";
import { DAY_MS } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { endOfDay, localDay, startOfDay, startOfLocalDay } from "../records/periods.ts";
import { acceptQuery, type CostEntriesQuery, queryFields } from "../records/query.ts";
import { parseSpan } from "../records/time_text.ts";
import { acceptTimeText, acceptTimeZone } from "../records/validation.ts";
import { type Check, isAnything, takeFields } from "../records/field_checks.ts";
import { type DayRange, forecastRange, HISTORY_DAYS, trendOfDays } from "../aggregation/forecast.ts";

/** Time range, filters and groups of a cost summary. */
export interface CostSummaryOptions extends Omit<CostEntriesQuery, "limit" | "order"> {
  /**
   * Earliest time: epoch milliseconds, a `Date`, or a text such as `2026-10`, whose start counts.
   *
   * @default {the start of the month}
   */
  startTime?: number | Date | string;
  /**
   * Up to when, exclusive.
   *
   * @default {the end of the month; now where startTime is given}
   */
  endTime?: number | Date | string;
  /**
   * The time as of which the summary is: later costs do not count.
   *
   * @default {now}
   */
  at?: number | Date | string;
  /**
   * Fields and tags to list by, together.
   *
   * @default {by category, and by resourceId}
   */
  groupBy?: readonly string[];
  /**
   * The field that is added up.
   *
   * @default {"amount"}
   */
  measure?: CostMeasure;
  /**
   * Number of groups to list for each currency, the most expensive first; 0 for none.
   *
   * @default {10}
   */
  top?: number;
}

/** Expected total of a period that is not over. */
export interface CostForecast {
  /** The total: what is known and what is expected, a decimal string of 12 digits. */
  total: string;
  /** Lower bound of the total in 8 of 10 earlier cases. */
  low: string;
  /** Upper bound of the total in these cases. */
  high: string;
  /** The day after the last one whose costs are complete, in epoch milliseconds. */
  dataEnd: number;
  /** The number of days that the forecast is from. */
  days: number;
  /** True if weekdays differ. */
  hasWeekdays: boolean;
  /** Growth in percent a day; absent where there is none. */
  growthPerDay?: number;
  /** Days of the month on which costs return, and how much more than on other days; 0 is the last day. */
  monthly: { day: number; amount: number }[];
}

/** Groups of costs, the costliest first. */
export interface CostBreakdown {
  /** The fields and tags that the costs are grouped by. */
  groupBy: string[];
  /** The groups, with shares and change, and all others in one. */
  rows: CostAggregate[];
}

/** Spending in one currency. Amounts are canonical decimal strings. */
export interface CurrencySummary extends Omit<CostAggregate, "group" | "isOther" | "share"> {
  /** Average of the complete days since the first cost; where none is complete yet, of the days with costs. */
  averagePerDay: string;
  /** Number of those complete days; absent where none is complete yet. */
  averageDays?: number;
  /** Trend of the days, without weekdays and outliers; absent where there are too few days, or they show none. */
  trend?: "increasing" | "decreasing" | "stable";
  /** The expected total at the end of the period. */
  forecast?: CostForecast;
  /** The reason why there is no forecast of a period that is not over. */
  noForecast?: string;
  /** Groups of the costs. */
  breakdowns: CostBreakdown[];
}

/** Spending in a time range. */
export interface CostSummary {
  /** Earliest time, in epoch milliseconds. */
  startTime: number;
  /** Time before which costs count, in epoch milliseconds. */
  endTime: number;
  /** The time zone of days and months. */
  timeZone: string;
  /** The end of the last day whose data is complete; absent where none has data. */
  dataEnd?: number;
  /** Each currency, billed costs first. */
  currencies: CurrencySummary[];
}

export interface CostsViewOptions extends CostSummaryOptions {
  /** Length of the buckets of `series`, which have the first of the groups that the summary lists. */
  bucket?: string;
  /**
   * True to return the totals of the present month as well.
   *
   * @default {false}
   */
  month?: boolean;
}

/** Spending in a time range, over time, and in the present month. */
export interface CostsView extends CostSummary {
  /** Costs of the groups in each bucket; only with `bucket`. */
  series?: CostAggregate[];
  /** Totals of the month, with the same filters; only with `month`. */
  month?: CostSummary;
}

const SUBJECT = "a summary of costs";
const BREAKDOWNS = [["category"], ["resourceId"]];

const FIELDS: Record<string, Check> = Object.fromEntries(
  [...queryFields(costEntries), "at", "groupBy", "measure", "top"]
    .filter((field) => field !== "limit" && field !== "order").map((field) => [field, isAnything]),
);

/** Sums up what was spent, in the backend. */
export async function costSummary(
  backend: Pick<Backend, "aggregate">,
  options: CostSummaryOptions = {},
): Promise<CostSummary> {
  return await answer(backend, options);
}

/** Sums up what was spent, with its course and the present month. Costs that several of these add up are read once. */
export async function costsView(
  backend: Pick<Backend, "aggregate">,
  { bucket, month, ...options }: CostsViewOptions = {},
): Promise<CostsView> {
  return await answer(backend, options, { bucket, month });
}

async function answer(
  backend: Pick<Backend, "aggregate">,
  options: CostSummaryOptions,
  { bucket, month }: Pick<CostsViewOptions, "bucket" | "month"> = {},
): Promise<CostsView> {
  const { at, top = 10, groupBy, measure, ...filters } = takeFields(SUBJECT, options, { fields: FIELDS });
  const timeZone = acceptTimeZone(SUBJECT, filters.timeZone);
  const now = at === undefined ? Date.now() : acceptTimeText(SUBJECT, "at", at, timeZone);
  const range = acceptRange({ ...filters, timeZone }, now);
  const asked = { ...filters, ...range, timeZone, measure: measure as CostMeasure };
  // Before anything is read.
  acceptAggregateRequest(costEntries, { ...asked, groupBy, bucket, ...(top === 0 ? {} : { top }) });
  const groups = top === 0 ? [] : groupBy ? [groupBy as string[]] : BREAKDOWNS;
  const reads = FusedReads.over(at === undefined ? backend : upTo(backend, now));
  const { startTime: _, endTime: __, ...always } = filters;
  const [whole, ofMonth] = await Promise.all([
    summarize(reads, asked, { groups, ...(top === 0 ? {} : { top: top as number }), bucket, now }),
    month
      ? summarize(reads, { ...asked, ...acceptRange({ ...always, timeZone }, now) }, { groups: [], now })
      : undefined,
  ]);
  return { ...whole, ...(ofMonth ? { month: ofMonth } : {}) };
}

/** Reads costs up to a time only. */
function upTo(backend: Pick<Backend, "aggregate">, now: number): Pick<Backend, "aggregate"> {
  return {
    aggregate: (dataset, query, parts) =>
      backend.aggregate(dataset, { ...query, endTime: Math.min(query.endTime ?? Infinity, now) }, parts),
  };
}

/** Range, filters and measure of a summary. */
type Asked = Omit<CostSummaryOptions, "startTime" | "endTime" | "at" | "groupBy" | "top"> & {
  startTime: number;
  endTime: number;
  timeZone: string;
};

async function summarize(
  reads: FusedReads,
  asked: Asked,
  { groups, top, bucket, now }: { groups: readonly string[][]; top?: number; bucket?: string; now: number },
): Promise<CostsView> {
  const { startTime, endTime, timeZone } = asked;
  const range = { startTime, endTime };
  // Before all costs there is nothing to compare with.
  const compare = startTime > 0 ? "previous" as const : undefined;
  const ask = (more: object) => aggregateCosts(reads, { ...asked, compare, ...more }, { now });
  // All of these at once, so that one scan of the costs of each day answers them.
  const [dataEnd, found, history] = await Promise.all([
    endOfData(reads, costEntries, { ...range, timeZone, now }),
    ask({}),
    aggregateCosts(reads, {
      ...asked,
      startTime: Math.min(startTime, startOfDay(now - HISTORY_DAYS * DAY_MS, timeZone)),
      bucket: "1d",
    }),
  ]);
  // A period that has not begun did not cost 100 % less.
  const totals = dataEnd === undefined && found.every(({ count }) => count === 0) ? [] : found;
  const [series, ...rows] = totals.length === 0 ? [[]] : await Promise.all([
    bucket === undefined
      ? []
      : aggregateCosts(reads, { ...asked, groupBy: groups[0], top, bucket, emptyBuckets: true }),
    ...groups.map((groupBy) => ask({ groupBy, top, shares: true })),
  ]);
  const byName = rows.map((rows) => Map.groupBy(rows, nameOf));
  const daysOf = Map.groupBy(history, nameOf);
  const currencies = totals.toSorted(byBasis).map((total): CurrencySummary => {
    const [name, days] = [nameOf(total), daysOf.get(nameOf(total)) ?? []];
    return {
      ...total,
      ...averageOf(total, days, { ...range, dataEnd, timeZone }),
      ...outlook(total, days, { ...range, timeZone, now }),
      breakdowns: byName.map((rows, i) => ({ groupBy: groups[i], rows: rows.get(name) ?? [] })),
    };
  });
  return {
    ...range,
    timeZone,
    ...(dataEnd === undefined ? {} : { dataEnd }),
    currencies,
    ...(bucket === undefined ? {} : { series }),
  };
}

/** Returns the time range: the month of `now` where no bounds are given. */
function acceptRange(
  filters: Record<string, unknown> & { timeZone: string },
  now: number,
): { startTime: number; endTime: number } {
  const { startTime: start, endTime: end } = acceptQuery(costEntries, filters);
  const month = parseSpan("this-month", {
    timeZone: filters.timeZone,
    now: end === undefined ? now : end - 1,
  })!;
  const startTime = start ?? month.start;
  const endTime = end ?? (start === undefined ? month.end : now);
  if (startTime < endTime) return { startTime, endTime };
  const expected = `before endTime (${endTime})`;
  throw invalidAggregate(costEntries, { field: "startTime", value: startTime, expected });
}

/** Returns the average of the complete days since costs began; where there is none yet, of the days with costs. */
function averageOf(
  { total }: CostAggregate,
  days: readonly CostAggregate[],
  { startTime, endTime, timeZone, dataEnd = endTime }: Omit<DayRange, "now"> & { dataEnd?: number },
): Pick<CurrencySummary, "averagePerDay" | "averageDays"> {
  if (days.length === 0) return { averagePerDay: total };
  const times = days.map((day) => day.startTime!);
  const start = Math.max(startTime, times.reduce((a, b) => Math.min(a, b)));
  const newest = times.reduce((a, b) => Math.max(a, b));
  const hasDays = dataEnd > start;
  const end = hasDays ? dataEnd : endOfDay(newest, timeZone);
  const late = hasDays ? days.filter((day) => day.startTime! >= end) : [];
  const counted = late.reduce((sum, day) => sum.minus(Decimal.from(day.total)), Decimal.from(total));
  const ms = Math.max(1, Math.min(end, endTime) - start);
  return {
    averagePerDay: counted.timesFraction(BigInt(DAY_MS), BigInt(ms)).toString(),
    ...(hasDays ? { averageDays: Math.round(ms / DAY_MS) } : {}),
  };
}

/** The trend of days, and the forecast where the range is not over, or its data may come late. */
function outlook(
  { total: known }: CostAggregate,
  rows: readonly CostAggregate[],
  range: DayRange,
): Pick<CurrencySummary, "trend" | "forecast" | "noForecast"> {
  const { startTime, endTime, timeZone, now } = range;
  const dayOf = (time: number) => localDay(time, timeZone);
  const days = new Map(rows.map((row) => [dayOf(row.startTime!), Number(row.total)]));
  const [start, end, today] = [dayOf(startTime), dayOf(endTime - 1) + 1, dayOf(now)];
  const trend = trendOfDays({ days, start, end, today });
  const found = { ...(trend === undefined ? {} : { trend }) };
  const forecast = forecastRange(range, { days, known: Number(known) });
  if (forecast === undefined) return found;
  if (typeof forecast === "string") return { ...found, noForecast: forecast };
  const { total, low, high, lastDay: complete, history, model } = forecast;
  const text = (value: number) => Decimal.from(value.toPrecision(12)).toString();
  const dataEnd = startOfLocalDay(complete + 1, timeZone);
  const amounts = { total: text(total), low: text(low), high: text(high) };
  return {
    ...found,
    forecast: { ...amounts, dataEnd, days: history, ...model, monthly: [...model.monthly] },
  };
}

/** Costs that may be added: those of one currency and unit, either billed or estimated. */
function nameOf({ currency, basis, unit }: CostAggregate): string {
  return JSON.stringify([currency, basis, unit]);
}

/** Billed costs first; the order of currencies stays. */
function byBasis(a: CostAggregate, b: CostAggregate): number {
  return Number(a.basis !== undefined) - Number(b.basis !== undefined);
}
