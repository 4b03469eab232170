import { DAY_MS } from "../../records/calendar.ts";
import type { CurrencyTotal } from "../../backends/backend.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import { Decimal } from "../../records/decimal.ts";
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
  /** Average spending a day so far. */
  burnRatePerDay: string;
  /** Spending by now if the limit were spent evenly. */
  expectedSpend: string;
  /** Projected spending at the end; absent in the first hundredth of the period. */
  projectedSpend?: string;
  /** Time at which nothing will be left if it goes on like this, in epoch milliseconds; absent where that is after the period. */
  projectedExhaustion?: number;
  /** Basis of the costs that count. */
  basis: "billed" | "estimated";
  /**
   * Thresholds that spending reaches, and those that were reported for the period and are not armed again, ascending.
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
  { window, spending: { totals, others }, crossings }: {
    window: BudgetWindow;
    spending: Spending;
    crossings: readonly BudgetCrossing[];
  },
): BudgetStatus {
  const { budgetId, name, currency, amount } = budget;
  const basis = basisOf(budget, totals);
  const { total: spent, count: entries } = totals[basis];
  const other = totals[basis === "billed" ? "estimated" : "billed"];
  const unreported = reachedThresholds(budget, spent)
    .filter((threshold) => crossings.every((crossing) => crossing.threshold !== threshold))
    .map((threshold) => ({
      budgetId,
      startTime: window.start,
      threshold,
      at: Date.now(),
      spent: spent.toString(),
    }));
  return {
    budgetId,
    name,
    status: stateOf(budget, spent),
    currency,
    amount,
    basis,
    spent: spent.toString(),
    remaining: Decimal.from(amount).minus(spent).toString(),
    utilization: Number(spent.toString()) / Number(amount) * 100,
    entries,
    startTime: window.start,
    endTime: window.end,
    ...forecast(budget, window, spent),
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

/** Projection at the current rate. */
function forecast(
  { amount }: Budget,
  { start, end }: BudgetWindow,
  spent: Decimal,
): Pick<BudgetStatus, "burnRatePerDay" | "expectedSpend" | "projectedSpend" | "projectedExhaustion"> {
  const length = BigInt(end - start);
  const elapsed = BigInt(Math.min(Math.max(Date.now() - start, 0), end - start));
  const found = {
    burnRatePerDay: (elapsed === 0n ? Decimal.ZERO : spent.timesFraction(BigInt(DAY_MS), elapsed)).toString(),
    expectedSpend: Decimal.from(amount).timesFraction(elapsed, length).toString(),
  };
  if (elapsed * 100n < length) return found; // too early to tell
  const exhaustion = start + Number(elapsed) * Number(amount) / Number(spent.toString());
  const isWithin = spent.compare(Decimal.ZERO) > 0 && exhaustion < end;
  return {
    ...found,
    projectedSpend: spent.timesFraction(length, elapsed).toString(),
    ...(isWithin ? { projectedExhaustion: Math.round(exhaustion) } : {}),
  };
}
