/** A day on which a group cost far more or far less than expected. */
export interface CostAnomaly {
  /** Start of the day (UTC), in epoch milliseconds. */
  startTime: number;
  /** End of the day. */
  endTime: number;
  /** Group: the value of each grouping field. */
  group: Record<string, string | null>;
  /** Currency. */
  currency: string;
  /** Cost of the day (so far, if it is not over), a canonical decimal string. */
  amount: string;
  /** Expected cost, approximate. */
  expected: number;
  /** Deviation in percent of the expected cost; Infinity if nothing was expected. */
  deviation: number;
  /** `high` if the deviation exceeds twice the tolerance. */
  severity: "medium" | "high";
}
