import { aggregateCosts } from "../aggregation/aggregate.ts";
import { invalidAggregate } from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import { costEntries } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptQuery } from "../records/query.ts";
import { asBound } from "../records/validation.ts";
import { type Check, isAnything, takeFields } from "./field_checks.ts";
import { HOUR_MS } from "../records/calendar.ts";

/** Time range and size of a cost summary. */
export interface CostSummaryOptions {
  /**
   * From when on: epoch milliseconds, a `Date`, or a text such as `2026-10`, which is its start.
   *
   * @default {24 hours before endTime}
   */
  startTime?: number | Date | string;
  /**
   * Up to when, exclusive.
   *
   * @default {now}
   */
  endTime?: number | Date | string;
  /**
   * The time zone in which texts are read.
   *
   * @default {the timeZone of the configuration}
   */
  timeZone?: string;
  /**
   * Number of resources to list for each currency, the most expensive first.
   *
   * @default {10}
   */
  top?: number;
}

/** A part of the costs. */
export interface CostShare {
  /** Category or resource; absent for all other resources together. */
  name?: string;
  /** The exact sum, a canonical decimal string. */
  total: string;
  /** The number of entries. */
  count: number;
  /** The same in percent of all; 0 where all is 0. */
  percent: number;
}

/** Spending in one currency. Amounts are canonical decimal strings. */
export interface CurrencySummary {
  /** The currency. */
  currency: string;
  /** Set for estimated costs, which are never added to billed ones. */
  basis?: "estimated";
  /** The exact sum. */
  total: string;
  /** The number of entries. */
  count: number;
  /** The sum of the span of the same length before, and the change since then in percent, absent where that was 0. */
  previousTotal: string;
  /** See {@linkcode CurrencySummary.previousTotal}. */
  change?: number;
  /** Average cost of an hour. */
  averagePerHour: string;
  /** Cost of 30 days at this rate. */
  projectedPer30Days: string;
  /** Trend: the second half of the range against the first, by more than 10 %. */
  trend: "increasing" | "decreasing" | "stable";
  /** Each category, the costliest first. */
  categories: CostShare[];
  /** The costliest resources, and all others in one. */
  resources: CostShare[];
}

/** Spending in a time range. */
export interface CostSummary {
  /** From when on, in epoch milliseconds. */
  startTime: number;
  /** Up to when, exclusive. */
  endTime: number;
  /** Each currency, by name. */
  currencies: CurrencySummary[];
}

const FIELDS: Record<keyof CostSummaryOptions, Check> = {
  startTime: isAnything,
  endTime: isAnything,
  timeZone: isAnything,
  top: {
    test: (value) => Number.isSafeInteger(value) && value as number > 0,
    expected: "a whole number from 1",
  },
};

/** Sums up what was spent, in the backend. */
export async function costSummary(backend: Backend, options: CostSummaryOptions = {}): Promise<CostSummary> {
  const { top = 10, ...span } = takeFields("a summary of costs", options, { fields: FIELDS });
  const { endTime = Date.now(), ...given } = acceptQuery(costEntries, span);
  const { startTime = endTime - 24 * HOUR_MS } = given;
  const length = endTime - startTime;
  if (!(length > 0)) {
    throw invalidAggregate(costEntries, {
      field: "startTime",
      value: startTime,
      expected: `before endTime (${endTime})`,
    });
  }
  const range = { startTime, endTime };
  const middle = startTime + Math.floor(length / 2);
  const [categories, resources, firstHalf, before] = [
    await aggregateCosts(backend, { ...range, groupBy: ["category"] }),
    await aggregateCosts(backend, { ...range, groupBy: ["resourceId"], top: top as number }),
    await totalsBy(backend, startTime, middle),
    await totalsBy(backend, asBound(startTime - length), startTime),
  ];
  const groups = Map.groupBy(categories, nameOf);
  const currencies = [...groups].toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, rows]) => {
    const [{ currency, basis }] = rows;
    const total = rows.reduce((sum, row) => sum.plus(Decimal.from(row.total)), Decimal.ZERO);
    const first = firstHalf.get(name) ?? Decimal.ZERO;
    const previous = before.get(name) ?? Decimal.ZERO;
    const change = changeOf(previous, total);
    const share = ({ total: part, count, group, isOther }: typeof rows[number]): CostShare => ({
      ...(isOther ? {} : { name: Object.values(group!)[0]! }),
      total: part,
      count,
      percent: total.compare(Decimal.ZERO) === 0 ? 0 : Number(part) / Number(total.toString()) * 100,
    });
    return {
      currency,
      ...(basis ? { basis } : {}),
      total: total.toString(),
      count: rows.reduce((sum, { count }) => sum + count, 0),
      previousTotal: previous.toString(),
      ...(change === undefined ? {} : { change }),
      averagePerHour: total.timesFraction(BigInt(HOUR_MS), BigInt(length)).toString(),
      projectedPer30Days: total.timesFraction(BigInt(30 * 24 * HOUR_MS), BigInt(length)).toString(),
      trend: trendOf(first, total.minus(first)),
      categories: rows.map(share).toSorted(byTotal),
      resources: resources.filter((row) => nameOf(row) === name).map(share).toSorted(byTotal),
    };
  });
  return { startTime, endTime, currencies };
}

async function totalsBy(backend: Backend, startTime: number, endTime: number): Promise<Map<string, Decimal>> {
  const rows = await aggregateCosts(backend, { startTime, endTime });
  return new Map(rows.map((row) => [nameOf(row), Decimal.from(row.total)]));
}

/** Costs that may be added: those of one currency, either billed or estimated. */
function nameOf({ currency, basis = "" }: { currency: string; basis?: string }): string {
  return `${currency} ${basis}`;
}

function changeOf(from: Decimal, to: Decimal): number | undefined {
  const start = Number(from.toString());
  return start === 0 ? undefined : Number(to.minus(from).toString()) / Math.abs(start) * 100;
}

function trendOf(first: Decimal, second: Decimal): CurrencySummary["trend"] {
  const change = changeOf(first, second) ?? (second.compare(Decimal.ZERO) > 0 ? Infinity : 0);
  if (change > 10) return "increasing";
  return change < -10 ? "decreasing" : "stable";
}

/** The greatest first; all others last. */
function byTotal(a: CostShare, b: CostShare): number {
  if ((a.name === undefined) !== (b.name === undefined)) return a.name === undefined ? 1 : -1;
  return Decimal.from(b.total).compare(Decimal.from(a.total));
}
