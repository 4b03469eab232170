import { createHash } from "node:crypto";
import type { CostAnomaly } from "../../records/anomaly.ts";

/** Returns the id of an anomaly. Bounded in length, so that every backend can index it. */
export function anomalyIdOf(
  { startTime, currency, basis, group }: Pick<CostAnomaly, "startTime" | "currency" | "basis" | "group">,
): string {
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
