import { endOfCompleteDays, forecastRange, MAX_LAG_DAYS } from "../../aggregation/forecast.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { localDay } from "../../records/periods.ts";
import type { CurrencyTotal } from "../../backends/backend.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import { Decimal, percentOf } from "../../records/decimal.ts";
import type { BudgetWindow } from "./budget.ts";
import { basisOf, type Spending } from "./spending.ts";

/**
 * Status of a budget: `approaching_limit` from 80 %, `budget_exhausted` when exactly all of it is spent,
 * `over_budget` when more is.
 */
export type BudgetState = BudgetStatus["status"];

/** Status of a budget in a period. Amounts are exact, canonical decimal strings. */
export interface BudgetStatus {
  /** The id. */
  budgetId: string;
  /** The time zone of its periods. */
  timeZone: string;
  /** Display name. */
  name: string;
  /** Status. */
  status: "under_budget" | "approaching_limit" | "budget_exhausted" | "over_budget";
  /** The currency of all amounts. */
  currency: string;
  /** Limit for the period. */
  amount: string;
  /** Spending: the total of committed costs. */
  spent: string;
  /** Remaining amount; negative if more was spent. */
  remaining: string;
  /** Spending in percent of the limit. */
  utilization: number;
  /** Number of costs. */
  entries: number;
  /** Start of the period, in epoch milliseconds. */
  startTime: number;
  /** End of the period. */
  endTime: number;
  /** End of the last day whose costs are complete; absent after the period, and where no day of it is complete. */
  dataEnd?: number;
  /** Average spending a day, up to the last day whose costs are complete. */
  burnRatePerDay: string;
  /** Spending by now if the limit were spent evenly. */
  expectedSpend: string;
  /**
   * Forecast of spending at the end, as in a cost summary; with too few days for one, spending pro rata over the
   * complete days of the period. Absent where it has none, or its costs have ended.
   */
  projectedSpend?: string;
  /** The reason why `projectedSpend` is absent, as in a cost summary; absent also before the period. */
  noForecast?: string;
  /** Time at which nothing will be left if it goes on like this, in epoch milliseconds; absent where that is after the period. */
  projectedExhaustion?: number;
  /** Basis of the costs that count. */
  basis: "billed" | "estimated";
  /** Thresholds that spending reaches now, or did at the end of the period, ascending. */
  reached: number[];
  /** Thresholds that were reported for the period and are not armed again, ascending. Spending may have fallen since. */
  reported: number[];
  /**
   * Details of all thresholds in `reached` and `reported`: those that spending reaches, and those that were reported for the period and are not armed again, ascending.
   * Time and spending are those of the report; of now where there was none yet.
   */
  crossed: BudgetCrossing[];
  /** Matching costs in other currencies, which do not count. */
  otherCurrencies: CurrencyTotal[];
  /** Matching costs of the other basis, which do not count; absent where there are none. */
  otherBasis?: CurrencyTotal;
}

const APPROACHING_PERCENT = 80n;

/** Returns the thresholds of a budget that an amount reaches. */
export function reachedThresholds(budget: Budget, spent: Decimal): number[] {
  return budget.thresholds.filter((threshold) => spent.compare(thresholdAmount(budget, threshold)) >= 0);
}

/** Returns the amount at which a threshold is reached. */
export function thresholdAmount({ amount }: Budget, threshold: number): Decimal {
  // A percentage such as 99.5 is taken by its shortest decimal form, as amounts are.
  const [integer, fraction = ""] = Decimal.from(threshold).toString().split(".");
  const hundred = 100n * 10n ** BigInt(fraction.length);
  return Decimal.from(amount).timesFraction(BigInt(integer + fraction), hundred);
}

/** Returns the status of a budget from the spending in a window: now, or at the end of a past window. */
export function budgetStatus(
  budget: Budget,
  { window, spending: { totals, others }, crossings, days = new Map(), now }: {
    window: BudgetWindow;
    spending: Spending;
    crossings: readonly BudgetCrossing[];
    /** Daily totals, also of the time before the window; absent where they do not matter any more. */
    days?: ReadonlyMap<number, number>;
    now: number;
  },
): BudgetStatus {
  const { budgetId, timeZone, name, currency, amount } = budget;
  const basis = basisOf(budget, totals);
  const { total: spent, count: entries } = totals[basis];
  const other = totals[basis === "billed" ? "estimated" : "billed"];
  const reached = reachedThresholds(budget, spent);
  const unreported = reached
    .filter((threshold) => crossings.every((crossing) => crossing.threshold !== threshold))
    .map((threshold) => ({ budgetId, startTime: window.start, threshold, at: now, spent: spent.toString() }));
  return {
    budgetId,
    timeZone,
    name,
    status: stateOf(budget, spent),
    currency,
    amount,
    basis,
    spent: spent.toString(),
    remaining: Decimal.from(amount).minus(spent).toString(),
    utilization: percentOf(Number(spent.toString()), Number(amount)),
    entries,
    startTime: window.start,
    endTime: window.end,
    ...outlook(budget, { window, spent, days, now }),
    reached,
    reported: crossings.map(({ threshold }) => threshold).toSorted((a, b) => a - b),
    crossed: [...crossings, ...unreported].toSorted((a, b) => a.threshold - b.threshold),
    otherCurrencies: others.toSorted((a, b) => a.currency < b.currency ? -1 : 1),
    ...(other.count === 0 ? {} : {
      otherBasis: {
        currency,
        ...(basis === "billed" ? { basis: "estimated" as const } : {}),
        total: other.total.toString(),
        count: other.count,
      },
    }),
  };
}

function stateOf({ amount }: Budget, spent: Decimal): BudgetState {
  const over = spent.compare(Decimal.from(amount));
  if (over > 0) return "over_budget";
  if (over === 0) return "budget_exhausted";
  const approaching = Decimal.from(amount).timesFraction(APPROACHING_PERCENT, 100n);
  return spent.compare(approaching) >= 0 ? "approaching_limit" : "under_budget";
}

/** Late data changes a window for so long. */
const MAX_LAG_MS = MAX_LAG_DAYS * DAY_MS;

/** Returns true if spending in a window may still go up: it is not over, or its data may be late. */
export function mayChange({ start, end }: BudgetWindow, now: number): boolean {
  return start <= now && now < end + MAX_LAG_MS;
}

/** Rates up to the end of the complete days, and the forecast; where that is refused, spending pro rata. */
function outlook(
  { amount, timeZone }: Budget,
  { window: { start, end }, spent, days, now }: {
    window: BudgetWindow;
    spent: Decimal;
    days: ReadonlyMap<number, number>;
    now: number;
  },
): Pick<
  BudgetStatus,
  "dataEnd" | "burnRatePerDay" | "expectedSpend" | "projectedSpend" | "projectedExhaustion" | "noForecast"
> {
  const length = BigInt(end - start);
  const within = (time: number) => Math.min(Math.max(time - start, 0), end - start);
  const complete = now >= end ? end : endOfCompleteDays(days, { timeZone, now }) ?? start;
  const hasDays = complete > start;
  const elapsed = BigInt(within(hasDays ? complete : now));
  const known = Number(spent.toString());
  const counted = hasDays ? spentBefore(localDay(complete, timeZone), { spent, days }) : spent;
  const found = {
    ...(hasDays && now < end ? { dataEnd: complete } : {}),
    burnRatePerDay: (elapsed === 0n ? Decimal.ZERO : counted.timesFraction(BigInt(DAY_MS), elapsed))
      .toString(),
    expectedSpend: Decimal.from(amount).timesFraction(BigInt(within(now)), length).toString(),
  };
  const forecast = start > now
    ? undefined
    : forecastRange({ startTime: start, endTime: end, timeZone, now }, {
      days,
      known,
    });
  const isForecast = typeof forecast === "object";
  const hasEnded = now < end && localDay(now, timeZone) - localDay(complete, timeZone) > MAX_LAG_DAYS;
  // Without a day to go by, or with costs that have ended, a projection would be a guess.
  if (!isForecast && (!hasDays || hasEnded)) {
    return { ...found, ...(forecast === undefined ? {} : { noForecast: forecast }) };
  }
  const projected = isForecast
    ? Decimal.from(forecast.total.toPrecision(12))
    : highest(spent, counted.timesFraction(length, elapsed));
  const [from, limit, total] = [start + Number(elapsed), Number(amount), Number(projected.toString())];
  const exhaustion = known >= limit
    ? start + Number(elapsed) * limit / known
    : from + (limit - known) / (total - known) * (end - from);
  return {
    ...found,
    projectedSpend: projected.toString(),
    ...(total > limit && exhaustion < end ? { projectedExhaustion: Math.round(exhaustion) } : {}),
  };
}

/** Returns spending without that of days which are not complete. */
function spentBefore(
  end: number,
  { spent, days }: { spent: Decimal; days: ReadonlyMap<number, number> },
): Decimal {
  let late = 0;
  for (const [day, total] of days) if (day >= end) late += total;
  return late === 0 ? spent : Decimal.from((Number(spent.toString()) - late).toPrecision(12));
}

function highest(a: Decimal, b: Decimal): Decimal {
  return a.compare(b) > 0 ? a : b;
}
