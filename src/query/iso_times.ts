import { isoTime } from "../transfer/values.ts";

/** The fields that are times wherever they occur. */
const TIMES = [
  "startTime",
  "endTime",
  "at",
  "since",
  "firedAt",
  "acknowledgedAt",
  "resolvedAt",
  "lastSeen",
  "projectedExhaustion",
  "dataEnd",
  "oldest",
  "newest",
  "deliveredAt",
  "newestPeriod",
  "lastRun",
];

/** The same with all times as ISO 8601, for JSON. */
export function withIsoTimes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withIsoTimes);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).map(([name, field]) => [
    name,
    TIMES.includes(name) && typeof field === "number" ? isoTime(field) : withIsoTimes(field),
  ]);
  return Object.fromEntries(fields);
}
