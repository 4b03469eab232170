/** A day on which something cost far more or far less than on the like days before. */
export interface CostAnomaly {
  /** Where the day begins (UTC), in epoch milliseconds. */
  startTime: number;
  /** Where it ends. */
  endTime: number;
  /** What it is about: the value of each field that was told apart. */
  group: Record<string, string | null>;
  /** The currency. */
  currency: string;
  /** What that day has cost (so far, where it is not over), a canonical decimal string. */
  amount: string;
  /** About what was to be expected. */
  expected: number;
  /** How far off it is, in percent of what was expected; Infinity where nothing was. */
  deviation: number;
  /** `high` where it is off by more than twice of what is still taken for chance. */
  severity: "medium" | "high";
}
