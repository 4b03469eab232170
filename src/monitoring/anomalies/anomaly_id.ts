import { createHash } from "node:crypto";
import type { CostAnomaly } from "../../records/anomaly.ts";

/** Day and series of an anomaly. */
type Identity = Pick<CostAnomaly, "startTime" | "currency" | "basis" | "group">;

/**
 * Returns the id of an anomaly: the same in any order of the fields that it is grouped by. Bounded in length, so that every
 * backend can index it.
 */
export function anomalyIdOf({ group, ...anomaly }: Identity): string {
  const sorted = Object.entries(group).sort(([a], [b]) => a < b ? -1 : 1);
  return formerIdOf({ ...anomaly, group: Object.fromEntries(sorted) });
}

/** Returns the id that acknowledgements of earlier versions have, which depends on the order of the fields. */
export function formerIdOf({ startTime, currency, basis, group }: Identity): string {
  const name = JSON.stringify([currency, basis, group]);
  return `${startTime}/${createHash("sha256").update(name).digest("hex")}`;
}

/** Returns a short id for people. Two anomalies may have the same. */
export function shortIdOf(anomalyId: string): string {
  return createHash("sha256").update(anomalyId).digest("hex").slice(0, 8);
}

/** Returns the start of the day of an anomaly from its id. */
export function dayOfAnomaly(anomalyId: string): number {
  return Number(anomalyId.split("/")[0]);
}
