/**
 * Writes metrics in the text exposition format of Prometheus, version 0.0.4.
 *
 * @module
 */
import project from "../../deno.json" with { type: "json" };
import { PIPELINE_METRICS, type PipelineMetric } from "../pipeline/pipeline_metrics.ts";
import type { StoreStats } from "../store.ts";

/** Content type of the format. */
export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** One line of a metric. */
export interface Sample {
  /** End of the name, such as `_bucket` of a histogram. */
  readonly suffix?: string;
  /** Labels. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Value. */
  readonly value: number;
}

/** A metric with all its lines. */
export interface MetricFamily {
  /** Name without a suffix of its type. */
  readonly name: string;
  /** Meaning. */
  readonly help: string;
  /** Type. */
  readonly type: "counter" | "gauge" | "histogram";
  /** Lines. */
  readonly samples: readonly Sample[];
}

/** Units of OpenTelemetry as Prometheus has them at the end of a name. */
const UNITS: Readonly<Record<string, string>> = { s: "_seconds", By: "_bytes" };

/** Name in Prometheus of a metric of OpenTelemetry. */
export function prometheusName({ name, unit, isCounter }: PipelineMetric): string {
  return `${name.replaceAll(".", "_")}${UNITS[unit] ?? ""}${isCounter ? "_total" : ""}`;
}

/** Answers with the metrics of a process: of its pipelines, its readiness, itself, and others. */
export function metricsResponse(
  stores: readonly StoreStats[],
  { isReady, others = [] }: { isReady: boolean; others?: readonly MetricFamily[] },
): Response {
  const families = [...pipelineFamilies(stores), ...others, ...processFamilies(isReady)];
  return new Response(formatMetrics(families), { headers: { "content-type": METRICS_TYPE } });
}

/** Metrics of all pipelines, with the labels `backend` and `dataset`. */
function pipelineFamilies(stores: readonly StoreStats[]): MetricFamily[] {
  const pipelines = stores.flatMap(({ backend, datasets }) =>
    Object.entries(datasets).map(([dataset, stats]) => ({ labels: { backend, dataset }, stats }))
  );
  return PIPELINE_METRICS.map((metric) => ({
    name: prometheusName(metric),
    help: metric.description,
    type: metric.isCounter ? "counter" : "gauge",
    samples: pipelines.map(({ labels, stats }) => ({ labels, value: metric.value(stats) })),
  }));
}

/** Start of the process, in epoch seconds. */
const STARTED = performance.timeOrigin / 1_000;

function processFamilies(isReady: boolean): MetricFamily[] {
  const { rss, heapUsed } = Deno.memoryUsage();
  const gauge = (name: string, help: string, value: number, labels = {}): MetricFamily => ({
    name,
    help,
    type: "gauge",
    samples: [{ labels, value }],
  });
  return [
    gauge("openfinops_ready", "1 if the process is ready, as /readyz says", isReady ? 1 : 0),
    gauge("process_start_time_seconds", "Start of the process since the epoch", STARTED),
    gauge("process_resident_memory_bytes", "Resident memory", rss),
    gauge("openfinops_heap_used_bytes", "Heap in use", heapUsed),
    gauge("openfinops_build_info", "Versions, as labels of the constant 1", 1, {
      version: project.version,
      deno: Deno.version.deno,
    }),
  ];
}

/** Writes metrics as text. */
export function formatMetrics(families: readonly MetricFamily[]): string {
  return families.map(({ name, help, type, samples }) =>
    [
      `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
      `# TYPE ${name} ${type}`,
      ...samples.map(({ suffix = "", labels = {}, value }) => `${name}${suffix}${labelsOf(labels)} ${value}`),
    ].join("\n") + "\n"
  ).join("");
}

function labelsOf(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) =>
    `${name}="${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
