import type { WhereCondition } from "./where.ts";

/** Limit on spending, with its filter and period. */
export interface Budget {
  /** The id. */
  budgetId: string;
  /** Display name. */
  name: string;
  /** Limit for each period, a canonical decimal string. */
  amount: string;
  /** The currency. Costs in other currencies do not count. */
  currency: string;
  /** Recurrence, such as `1mo`; absent if it counts once, from `startTime` to `endTime`. */
  period?: string;
  /** The time zone in which periods begin. */
  timeZone: string;
  /** Costs before this do not count, in epoch milliseconds. */
  startTime?: number;
  /** Costs from this on do not count, in epoch milliseconds. */
  endTime?: number;
  /** Only costs of these categories; all where absent. */
  categories?: string[];
  /** Only costs of this resource. */
  resourceId?: string;
  /** Only costs of this region. */
  region?: string;
  /** Only costs with all of these tags. */
  tags?: Record<string, string>;
  /** Only costs for which all of these conditions hold. */
  where?: WhereCondition[];
  /**
   * Basis of the costs that count. Where absent: in each period billed costs, or estimated ones while the filter has no
   * billed cost of the period. The two are never added.
   */
  basis?: "billed" | "estimated";
  /** Thresholds in percent of the amount, ascending. */
  thresholds: number[];
}

/** A threshold that was crossed in a period. */
export interface BudgetCrossing {
  /** The budget. */
  budgetId: string;
  /** Start of the period, in epoch milliseconds. */
  startTime: number;
  /** The percentage. */
  threshold: number;
  /** Time at which that was noticed, in epoch milliseconds. */
  at: number;
  /** Spending at that time, a canonical decimal string. */
  spent: string;
  /** Set where estimated costs counted. */
  basis?: "estimated";
  /** Time at which the threshold was armed again, because spending fell or the budget changed. */
  rearmedAt?: number;
  /** Number of earlier crossings of the same threshold in the period; absent for the first. */
  generation?: number;
}
