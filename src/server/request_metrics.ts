import type { ErrorCode } from "../errors.ts";
import type { MetricFamily, Sample } from "./prometheus_text.ts";

/** Upper bounds of the histogram of durations, in seconds. */
const BOUNDS: readonly number[] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** A request that was answered. */
export interface AnsweredRequest {
  /** Pattern of the route; absent where none matched. A path would make a metric for each client error. */
  readonly path?: string;
  /** Method of HTTP. */
  readonly method: string;
  /** Status of the response. */
  readonly status: number;
  /** Time until the response, in milliseconds. */
  readonly durationMs: number;
  /** Stable name of the error in the response. */
  readonly code?: ErrorCode;
}

/** Durations of one route, method and status. */
interface Histogram {
  readonly labels: Readonly<Record<string, string>>;
  readonly counts: number[];
  sum: number;
}

const METHODS: readonly string[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** Counts requests by route, method and status. The number of metrics does not depend on what clients send. */
export class RequestMetrics {
  readonly #histograms = new Map<string, Histogram>();
  readonly #refused = new Map<ErrorCode, number>();
  #inFlight = 0;

  /** Counts a request that has begun. */
  start(): void {
    this.#inFlight++;
  }

  /** Counts a request that was answered, for each `start()`. */
  end({ path: route = "unmatched", method, status, durationMs, code }: AnsweredRequest): void {
    this.#inFlight--;
    const labels = { route, method: METHODS.includes(method) ? method : "other", status: String(status) };
    const key = Object.values(labels).join(" ");
    const found = this.#histograms.get(key) ?? { labels, counts: Array(BOUNDS.length + 1).fill(0), sum: 0 };
    this.#histograms.set(key, found);
    const seconds = durationMs / 1_000;
    const bucket = BOUNDS.findIndex((bound) => seconds <= bound);
    found.counts[bucket < 0 ? BOUNDS.length : bucket]++;
    found.sum += seconds;
    if (code !== undefined) this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
  }

  /** Returns the metrics. */
  families(): MetricFamily[] {
    return [
      {
        name: "openfinops_http_request_duration_seconds",
        help: "Time to answer requests, by route",
        type: "histogram",
        samples: [...this.#histograms.values()].flatMap(samplesOf),
      },
      {
        name: "openfinops_http_requests_in_flight",
        help: "Requests that are being answered",
        type: "gauge",
        samples: [{ value: this.#inFlight }],
      },
      {
        name: "openfinops_http_requests_refused_total",
        help: "Requests that were answered with an error, by its code",
        type: "counter",
        samples: [...this.#refused].map(([code, value]) => ({ labels: { code }, value })),
      },
    ];
  }
}

function samplesOf({ labels, counts, sum }: Histogram): Sample[] {
  let count = 0;
  const buckets = counts.map((inBucket, i) => ({
    suffix: "_bucket",
    labels: { ...labels, le: i < BOUNDS.length ? String(BOUNDS[i]) : "+Inf" },
    value: count += inBucket,
  }));
  return [...buckets, { suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: count }];
}
