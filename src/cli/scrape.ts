/**
 * Reads the metrics that other programs serve: dcgm-exporter, node_exporter, vLLM, Triton.
 *
 * @module
 */
import { type CostObservatory, handlesOf } from "../observatory.ts";
import type { ObservabilityHub } from "../hub.ts";
import { messageOf } from "../errors.ts";
import { readMetricFields } from "../transfer/metric_fields.ts";
import type { MetricField } from "../transfer/metric_mapping.ts";
import { METRIC_FIELDS } from "../transfer/metric_names.ts";
import { parseSamples } from "../transfer/prometheus.ts";
import { type MappedRecord, SampleMapper } from "../transfer/samples_to_records.ts";
import { readNamedFile } from "./environment.ts";
import { note } from "./output.ts";
import { invalidValue } from "../query/option_values.ts";

/** OpenMetrics first: its counters and times are without doubt. */
const ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/** Time limit of a scrape, in milliseconds. */
const SCRAPE_LIMIT_MS = 10_000;
/** The most bytes of a target. */
const MAX_BYTES = 64 * 2 ** 20;

/** Reads the URL of a target. A host and port alone mean its `/metrics`. */
export function readTarget(text: string): URL {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `http://${text}`);
  if (!url || url.hostname === "") {
    throw invalidValue("scrape", "a URL such as http://gpu-01:9400/metrics", text);
  }
  if (url.pathname === "/" && url.search === "") url.pathname = "/metrics";
  return url;
}

/** Reads own mappings of metrics from a JSON file; they come after the built-in ones, and so count more. */
export function readMapping(path: string | undefined): readonly MetricField[] {
  return path === undefined
    ? METRIC_FIELDS
    : [...METRIC_FIELDS, ...readMetricFields(readNamedFile(path, "the metrics"), path)];
}

export async function addRecords(
  records: readonly MappedRecord[],
  { hub, costs, add }: {
    hub: ObservabilityHub;
    costs: CostObservatory;
    add: (accepted: Promise<void>) => Promise<void>;
  },
): Promise<void> {
  const handles = handlesOf({ hub, costs });
  for (const { dataset, record } of records) await add(handles[dataset].add(record as never));
}

/** A target that is scraped again and again. */
export class ScrapeTarget {
  readonly #url: URL;
  readonly #mapper: SampleMapper;
  #hasFailed = false;

  /**
   * Makes a target.
   *
   * @param names Cluster of its records, and the node where it runs on this machine.
   */
  constructor(
    url: URL,
    { clusterId, nodeId }: { clusterId: string; nodeId: string },
    fields: readonly MetricField[],
  ) {
    this.#url = url;
    const isHere = /^(localhost|127\.|\[::1\])/.test(url.hostname);
    this.#mapper = new SampleMapper({
      target: url.href,
      defaults: { clusterId, nodeId: isHere ? nodeId : url.hostname, serviceName: url.host },
      fields,
    });
  }

  /** Reads it once. A target that cannot be read is a service that is `down`, and said once; sampling goes on. */
  async take(signal: AbortSignal): Promise<readonly MappedRecord[]> {
    const timestamp = Date.now();
    const state = (status: string): MappedRecord => ({
      dataset: "service_metrics",
      record: { timestamp, serviceName: this.#url.host, status },
      samples: 1,
      position: 0,
    });
    try {
      const { samples, badLines } = parseSamples(...await this.#read(signal));
      if (badLines.length > 0) throw new Error(`${badLines.length} lines are no samples`);
      if (this.#hasFailed) note(`Scraped again: ${this.#url.host}.`);
      this.#hasFailed = false;
      return [...this.#mapper.map(samples, timestamp).records, state("up")];
    } catch (error) {
      if (signal.aborted) return [];
      if (!this.#hasFailed) {
        note(`Cannot scrape ${this.#url.host}: ${messageOf(error)}. It is tried at each interval.`);
      }
      this.#hasFailed = true;
      return [state("down")];
    }
  }

  async #read(signal: AbortSignal): Promise<[text: string, options: { isOpenMetrics?: boolean }]> {
    const response = await fetch(this.#url, {
      headers: { accept: ACCEPT },
      signal: AbortSignal.any([signal, AbortSignal.timeout(SCRAPE_LIMIT_MS)]),
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`it answered ${response.status}`);
    }
    let text = "";
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      text += piece;
      if (text.length > MAX_BYTES) throw new Error(`it serves more than ${MAX_BYTES} bytes`);
    }
    const type = response.headers.get("content-type") ?? "";
    return [text, type === "" ? {} : { isOpenMetrics: type.includes("openmetrics") }];
  }
}
