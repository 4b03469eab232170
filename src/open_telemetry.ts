import type { BatchObservableResult, Meter, Observable } from "@opentelemetry/api";
import { PIPELINE_METRICS, type PipelineMetric } from "./pipeline/pipeline_metrics.ts";
import type { PipelineStats } from "./pipeline/pipeline_stats.ts";

/** The counters of a store, by dataset. */
interface StoreStats {
  readonly backend: string;
  readonly datasets: Readonly<Record<string, PipelineStats>>;
}

/** Global under which `@opentelemetry/api` 1.x registers providers; Deno does so with OTEL_DENO=true. */
const REGISTRY = Symbol.for("opentelemetry.js.api.1");

/** Open stores of this process, by the function that returns their counters. */
const open = new Set<() => StoreStats>();
/** Sums of the counters of closed stores, by attributes and metric. */
const past = new Map<string, number>();
let meter: Promise<void> | undefined;

/**
 * Publishes the counters of a store as OpenTelemetry metrics, if the process exports metrics.
 *
 * @param stats Returns the counters.
 * @returns A function that ends it.
 */
export function publish(stats: () => StoreStats): () => void {
  const { metrics } = (globalThis as { [REGISTRY]?: { metrics?: unknown } })[REGISTRY] ?? {};
  if (metrics === undefined) return () => {};
  open.add(stats);
  meter ??= import("@opentelemetry/api").then(
    ({ metrics }) => observe(metrics.getMeter("openfinops")),
    () => {}, // a store works without metrics
  );
  return () => {
    if (!open.delete(stats)) return;
    for (const [key, value] of totals(stats(), ({ isCounter }) => isCounter)) {
      past.set(key, (past.get(key) ?? 0) + value);
    }
  };
}

function observe(meter: Meter): void {
  const instruments = new Map<string, Observable>();
  for (const { name, unit, description, isCounter } of PIPELINE_METRICS) {
    const options = { unit, description };
    instruments.set(
      name,
      isCounter ? meter.createObservableCounter(name, options) : meter.createObservableGauge(name, options),
    );
  }
  meter.addBatchObservableCallback((result: BatchObservableResult) => report(instruments, result), [
    ...instruments.values(),
  ]);
}

/** Observes one sum for all stores of the process that have the same attributes. */
function report(instruments: ReadonlyMap<string, Observable>, result: BatchObservableResult): void {
  const sums = new Map(past);
  for (const stats of open) {
    for (const [key, value] of totals(stats(), () => true)) sums.set(key, (sums.get(key) ?? 0) + value);
  }
  for (const [key, value] of sums) {
    const [name, backend, dataset] = key.split(" ");
    result.observe(instruments.get(name)!, value, {
      "openfinops.backend": backend,
      "openfinops.dataset": dataset,
    });
  }
}

function* totals(
  { backend, datasets }: StoreStats,
  isIncluded: (metric: PipelineMetric) => boolean,
): Generator<[string, number]> {
  for (const [dataset, stats] of Object.entries(datasets)) {
    for (const metric of PIPELINE_METRICS) {
      if (isIncluded(metric)) yield [`${metric.name} ${backend} ${dataset}`, metric.value(stats)];
    }
  }
}
