import type { Sample } from "../../transfer/prometheus.ts";
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
  const found = { samples: [] as Sample[], unmapped: new Map<string, number>(), invalid: 0 };
  for (const { resource, scopeMetrics = [] } of resourceMetrics) {
    for (const { metrics = [] } of scopeMetrics) {
      for (const metric of metrics) addMetric(found, metric, resource?.attributes ?? {}, knows);
    }
  }
  return found;
}

function addMetric(
  found: { samples: Sample[]; unmapped: Map<string, number>; invalid: number },
  metric: Metric,
  resource: Attributes,
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
    const isDelta = isCounter && aggregationTemporality === DELTA;
    for (const point of dataPoints) {
      if (((point.flags ?? 0) & NO_VALUE) !== 0) continue; // the series has ended, as a stale marker says
      const common = commonOf(point, resource, isDelta);
      const take = (sample: Pick<Sample, "name" | "value"> & Partial<Sample>) => {
        if (knows(sample.name)) found.samples.push({ ...common, ...sample });
      };
      if (isNumber) readNumber(name, point, take);
      else readHistogram(name, point, common.labels, take);
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

type Take = (sample: Pick<Sample, "name" | "value"> & Partial<Sample>) => void;

function readNumber(name: string, { asDouble, asInt }: NumberPoint, take: Take): void {
  const value = asDouble ?? asInt;
  if (value !== undefined) take({ name, value });
}

/** Reads a histogram of either kind, or a summary. */
function readHistogram(name: string, point: HistogramPoint, labels: Attributes, take: Take): void {
  const { count, sum, bucketCounts = [], explicitBounds = [], quantileValues = [] } = point;
  if (count !== undefined) take({ name: `${name}_count`, value: count });
  if (sum !== undefined) take({ name: `${name}_sum`, value: sum });
  let below = 0;
  for (const [i, inBucket] of bucketCounts.entries()) {
    below += inBucket;
    const le = i < explicitBounds.length ? String(explicitBounds[i]) : "+Inf";
    take({ name: `${name}_bucket`, value: below, labels: { ...labels, le } });
  }
  for (const { quantile, value } of quantileValues) {
    if (value !== undefined) take({ name, value, labels: { ...labels, quantile: String(quantile ?? 0) } });
  }
}
