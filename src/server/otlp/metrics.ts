import type { Sample } from "../../transfer/prometheus.ts";
import { LabelLimit } from "../protobuf.ts";
import type { Attributes, HistogramPoint, Metric, MetricsRequest, NumberPoint } from "./messages.ts";

const DELTA = 1;
const CUMULATIVE = 2;
const NO_VALUE = 1;

/** Samples of a request, and counts of the points that gave none. */
export interface OtlpSamples {
  readonly samples: Sample[];
  /** Number of points by name of the metrics that no field takes. */
  readonly unmapped: Map<string, number>;
  /** Number of points without a temporality, which cannot be read. */
  readonly invalid: number;
}

/**
 * Makes samples of the points of a request, as Prometheus would have them: a histogram or a summary becomes its count, its
 * sum and what fields take of its buckets or quantiles. Attributes of a point come before those of its resource.
 *
 * @param knows Returns true if a field takes a metric. Points of others are only counted.
 */
export function toSamples(
  { resourceMetrics = [] }: MetricsRequest,
  knows: (name: string) => boolean,
): OtlpSamples {
  const found: Found = { samples: [], unmapped: new Map(), invalid: 0, labels: new LabelLimit() };
  for (const { resource, scopeMetrics = [] } of resourceMetrics) {
    const attributes = resource?.attributes ?? {};
    const common = { attributes, count: Object.keys(attributes).length };
    for (const { metrics = [] } of scopeMetrics) {
      for (const metric of metrics) addMetric(found, metric, common, knows);
    }
  }
  return found;
}

/** Samples and counts so far, and the number of labels that may follow. */
interface Found extends Omit<OtlpSamples, "invalid"> {
  invalid: number;
  readonly labels: LabelLimit;
}

function addMetric(
  found: Found,
  metric: Metric,
  resource: { readonly attributes: Attributes; readonly count: number },
  knows: (name: string) => boolean,
): void {
  const { name = "", gauge, sum, histogram, exponentialHistogram, summary } = metric;
  for (const group of [gauge, sum, histogram, exponentialHistogram, summary]) {
    const { dataPoints = [], aggregationTemporality } = group ?? {};
    if (dataPoints.length === 0) continue;
    const isNumber = group === gauge || group === sum;
    const isKnown = isNumber
      ? knows(name)
      : ["", "_count", "_sum", "_bucket"].some((end) => knows(name + end));
    if (!isKnown) {
      found.unmapped.set(name, (found.unmapped.get(name) ?? 0) + dataPoints.length);
      continue;
    }
    const isCounter = group !== gauge && group !== summary;
    if (isCounter && aggregationTemporality !== DELTA && aggregationTemporality !== CUMULATIVE) {
      found.invalid += dataPoints.length;
      continue;
    }
    found.labels.take(dataPoints.length * (1 + resource.count)); // before the first is copied
    const isDelta = isCounter && aggregationTemporality === DELTA;
    for (const point of dataPoints as readonly HistogramPoint[]) {
      if (((point.flags ?? 0) & NO_VALUE) !== 0) continue; // the series has ended, as a stale marker says
      const labels = resource.count + Object.keys(point.attributes ?? {}).length;
      if (knows(`${name}_bucket`)) found.labels.take((point.bucketCounts?.length ?? 0) * (1 + labels));
      found.labels.take((point.quantileValues?.length ?? 0) * (1 + labels));
      const common = commonOf(point, resource.attributes, isDelta);
      const take: Take = (name, value, own) => {
        if (!knows(name)) return;
        found.samples.push({ ...common, name, value, ...own && { labels: { ...common.labels, ...own } } });
      };
      if (isNumber) readNumber(name, point, take);
      else readHistogram(name, point, take);
    }
  }
}

function commonOf(
  { attributes, timeUnixNano, startTimeUnixNano }: NumberPoint,
  resource: Attributes,
  isDelta: boolean,
): Omit<Sample, "name" | "value"> {
  return {
    labels: { ...resource, ...attributes },
    ...(timeUnixNano ? { timestamp: timeUnixNano } : {}),
    ...(startTimeUnixNano ? { start: startTimeUnixNano } : {}),
    ...(isDelta ? { isDelta } : {}),
  };
}

/** Takes a sample of a point, with labels beside those of the point. */
type Take = (name: string, value: number, own?: Attributes) => void;

function readNumber(name: string, { asDouble, asInt }: NumberPoint, take: Take): void {
  const value = asDouble ?? asInt;
  if (value !== undefined) take(name, value);
}

/** Reads a histogram of either kind, or a summary. */
function readHistogram(name: string, point: HistogramPoint, take: Take): void {
  const { count, sum, bucketCounts = [], explicitBounds = [], quantileValues = [] } = point;
  if (count !== undefined) take(`${name}_count`, count);
  if (sum !== undefined) take(`${name}_sum`, sum);
  let below = 0;
  for (const [i, inBucket] of bucketCounts.entries()) {
    below += inBucket;
    const le = i < explicitBounds.length ? String(explicitBounds[i]) : "+Inf";
    take(`${name}_bucket`, below, { le });
  }
  for (const { quantile, value } of quantileValues) {
    if (value !== undefined) take(name, value, { quantile: String(quantile ?? 0) });
  }
}
