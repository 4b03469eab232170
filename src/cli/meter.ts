import type { CostObservatory } from "../observatory.ts";
import type { CostEntryInput } from "../records/cost_entry.ts";
import type { Decimal } from "../records/decimal.ts";

const MINUTE_MS = 60_000;
/** Charged minutes that are remembered: a day. */
const MAX_CHARGED = 1_440;

/** Settings for sampling and charging this machine. */
export interface SamplePlan {
  intervalMs: number;
  durationMs: number;
  clusterId: string;
  nodeId?: string;
  costPerHour?: Decimal;
  /** Fields of each cost beside those of the meter. */
  cost: { currency: string; category: string; region?: string; tags?: Record<string, string> };
  labels?: Record<string, string>;
}

/**
 * Charges each UTC minute in which this machine runs, in full and once: the id of the entry is `cluster/node/minute`, and its
 * amount depends on nothing else but the price. So a restart, or a second collector of the node, charges the same entry again,
 * which changes nothing.
 */
export class Meter {
  readonly #costs: Pick<CostObservatory, "addCostEntry">;
  readonly #plan: SamplePlan;
  readonly #nodeId: string;
  #chargedMs = 0;
  /** Minutes that were charged, oldest first. Times that are read apart, or a clock that is set back, meet them again. */
  readonly #charged = new Set<number>();

  constructor(costs: Pick<CostObservatory, "addCostEntry">, plan: SamplePlan, nodeId: string) {
    this.#costs = costs;
    this.#plan = plan;
    this.#nodeId = nodeId;
  }

  /** Adds the entries of the minutes up to now that are not charged yet. A clock that jumps adds no minutes. */
  async charge(now: number, elapsedMs: number): Promise<void> {
    if (!this.#plan.costPerHour) return;
    const first = Math.floor((now - (elapsedMs - this.#chargedMs)) / MINUTE_MS);
    this.#chargedMs = elapsedMs; // before the wait: a stop does not wait for it, and charges the rest
    const minutes: number[] = [];
    for (let minute = first; minute <= now / MINUTE_MS; minute++) {
      if (!this.#charged.has(minute)) minutes.push(minute);
      this.#charged.add(minute);
    }
    for (const oldest of this.#charged) {
      if (this.#charged.size <= MAX_CHARGED) break;
      this.#charged.delete(oldest);
    }
    await Promise.all(minutes.map((minute) => this.#costs.addCostEntry(this.#entryOf(minute))));
  }

  #entryOf(minute: number): CostEntryInput {
    const { clusterId, costPerHour, cost } = this.#plan;
    const timestamp = minute * MINUTE_MS;
    // The difference of two parts of the hour, so that the minutes of an hour add up to its price exactly.
    const [before, after] = [minute % 60, minute % 60 + 1].map((part) =>
      costPerHour!.timesFraction(BigInt(part), 60n)
    );
    const names = [clusterId, this.#nodeId].map((name) => name.replace(/[%/]/g, encodeURIComponent));
    return {
      ...cost,
      entryId: [...names, new Date(timestamp).toISOString().slice(0, 16) + "Z"].join("/"),
      timestamp,
      chargePeriodEnd: timestamp + MINUTE_MS,
      resourceId: this.#nodeId,
      amount: after.minus(before).toString(),
      basis: "estimated",
      source: "collect",
      description: `${this.#nodeId} at ${costPerHour} ${cost.currency} an hour`,
    };
  }
}
