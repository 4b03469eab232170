/**
 * Metrics of a pipeline as data. OpenTelemetry and Prometheus derive names, units and values from it.
 *
 * @module
 */
import type { PipelineStats } from "./pipeline_stats.ts";

/** A metric. Counters never decrease; all others are gauges. */
export interface PipelineMetric {
  /** Name in OpenTelemetry. */
  readonly name: string;
  /** Unit by UCUM: `s`, `By`, `1`, or what is counted in braces. */
  readonly unit: string;
  /** Meaning, as a noun phrase. */
  readonly description: string;
  readonly isCounter: boolean;
  readonly value: (stats: PipelineStats) => number;
}

export const PIPELINE_METRICS: readonly PipelineMetric[] = [
  count("records.accepted", "Records accepted", ({ accepted }) => accepted),
  count("records.committed", "Records stored", ({ committed }) => committed),
  count("records.duplicates", "Records whose key existed", ({ duplicates }) => duplicates),
  count("records.dead_lettered", "Records that the backend refused", ({ deadLettered }) => deadLettered),
  count("records.dropped", "Records dropped", ({ dropped }) => dropped),
  count("records.refused", "Invalid records that were never accepted", ({ refused }) => refused),
  { ...count("writes.failed", "Attempts to write that failed", ({ retries }) => retries), unit: "{attempt}" },
  gauge("records.buffered", "{record}", "Records in memory", ({ buffered }) => buffered),
  gauge("records.in_flight", "{record}", "Records being written", ({ inFlight }) => inFlight),
  gauge("records.spooled", "{record}", "Records on disk only", ({ spooled }) => spooled),
  gauge(
    "records.age",
    "s",
    "Age of the oldest record that is neither stored nor dropped",
    (stats) => stats.oldestUnacknowledgedMs / 1_000,
  ),
  gauge("spool.size", "By", "Bytes of the spool", ({ spoolBytes }) => spoolBytes),
  gauge(
    "commit.duration.p50",
    "s",
    "Median of the last commits",
    ({ commitMs }) => (commitMs?.p50 ?? 0) / 1_000,
  ),
  gauge(
    "commit.duration.p95",
    "s",
    "95th percentile of the last commits",
    ({ commitMs }) => (commitMs?.p95 ?? 0) / 1_000,
  ),
  gauge("alarm", "1", "1 while an alarm needs an operator", ({ alarm }) => alarm === undefined ? 0 : 1),
];

function count(name: string, description: string, value: PipelineMetric["value"]): PipelineMetric {
  return { name: `openfinops.${name}`, unit: "{record}", description, isCounter: true, value };
}

function gauge(
  name: string,
  unit: string,
  description: string,
  value: PipelineMetric["value"],
): PipelineMetric {
  return { name: `openfinops.${name}`, unit, description, isCounter: false, value };
}
