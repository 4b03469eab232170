/** What may be spent, on what, and when. */
export interface Budget {
  /** The id. */
  budgetId: string;
  /** What people call it. */
  name: string;
  /** What may be spent in each period, a canonical decimal string. */
  amount: string;
  /** The currency. Costs in other currencies do not count. */
  currency: string;
  /** How often it begins anew, as in `1mo`; absent where it counts once, from `startTime` to `endTime`. */
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
  /** The percentages of the amount at which somebody is told, ascending. */
  thresholds: number[];
}

/** A threshold that was crossed in a period. */
export interface BudgetCrossing {
  /** The budget. */
  budgetId: string;
  /** Where the period begins, in epoch milliseconds. */
  startTime: number;
  /** The percentage. */
  threshold: number;
  /** When that was noticed, in epoch milliseconds. */
  at: number;
  /** What was spent then, a canonical decimal string. */
  spent: string;
}
