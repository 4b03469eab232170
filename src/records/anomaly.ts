/** A day on which the costs of a group were unusual. */
export interface CostAnomaly {
  /** Id: the day and a hash of the series. */
  anomalyId: string;
  /** Start of the day (UTC), in epoch milliseconds. */
  startTime: number;
  /** End of the day. */
  endTime: number;
  /** Group: the value of each grouping field. Empty where all costs of the currency stopped. */
  group: Record<string, string | null>;
  /** Currency. */
  currency: string;
  /** Set for estimated costs, which are never added to billed ones. */
  basis?: "estimated";
  /**
   * `high` or `low`: far more or far less than expected; the first day of a new level, too. `new`: a large group begins.
   * `stopped`: a group that has costs every day, or the whole feed, has none.
   */
  kind: "high" | "low" | "new" | "stopped";
  /** Cost of the day (so far, if it is not over), a canonical decimal string. */
  amount: string;
  /** Expected cost, approximate. */
  expected: number;
  /** Deviation in percent of the expected cost; Infinity if nothing was expected. */
  deviation: number;
  /** Time at which it was reported, in epoch milliseconds; absent in the result of a search. */
  at?: number;
  /** `high` if the deviation exceeds twice the tolerance, and for `stopped`. */
  severity: "medium" | "high";
  /** Time of the acknowledgement, in epoch milliseconds. */
  acknowledgedAt?: number;
  /** Name of the person who acknowledged it. */
  acknowledgedBy?: string;
}
