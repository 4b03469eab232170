/** Requests of OTLP and remote write, as tests send them. */
import snappy from "snappyjs";
import { NEW_YEAR } from "./fixtures.ts";
import { writeOtlp } from "./otlp_writer.ts";
import { type SeriesInput, writeRemote } from "./remote_writer.ts";

export const PROTOBUF = "application/x-protobuf";
const nanos = (ms: number) => `${ms}000000`;
const attribute = (key: string, value: string) => ({ key, value: { stringValue: value } });

/** A request with gauges of a host. */
export function hostMetrics(values: Record<string, number>, at = NEW_YEAR) {
  const metrics = Object.entries(values).map(([name, asDouble]) => ({
    name,
    gauge: { dataPoints: [{ timeUnixNano: nanos(at), asDouble }] },
  }));
  const resource = { attributes: [attribute("host.name", "n1")] };
  return { resourceMetrics: [{ resource, scopeMetrics: [{ metrics }] }] };
}

export function chat(tokens: number, spanId = "eee19b7ec3c1b174") {
  const span = {
    traceId: "5b8efff798038103d269b633813fc60c",
    spanId,
    name: "chat gpt-4o",
    startTimeUnixNano: nanos(NEW_YEAR),
    endTimeUnixNano: nanos(NEW_YEAR + 250),
    attributes: [
      attribute("gen_ai.operation.name", "chat"),
      attribute("gen_ai.provider.name", "openai"),
      attribute("gen_ai.response.model", "gpt-4o"),
      { key: "gen_ai.usage.input_tokens", value: { intValue: String(tokens) } },
      { key: "gen_ai.usage.output_tokens", value: { intValue: "1000000" } },
    ],
  };
  return { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] };
}

export const post = (body: Uint8Array | string, headers: Record<string, string> = {}) => ({
  method: "POST",
  body: body as BodyInit,
  headers,
});
export const asJson = (body: object) => post(JSON.stringify(body), { "content-type": "application/json" });
export const asBytes = (signal: "metrics" | "traces", body: object) =>
  post(writeOtlp(signal, body), { "content-type": PROTOBUF });

/** A request of remote write. */
export function written(
  series: readonly SeriesInput[],
  version: 1 | 2 = 1,
  headers: Record<string, string> = {},
) {
  const proto = version === 1 ? "" : ";proto=io.prometheus.write.v2.Request";
  return post(snappy.compress(writeRemote(version, series)), {
    "content-type": PROTOBUF + proto,
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": version === 1 ? "0.1.0" : "2.0.0",
    ...headers,
  });
}

export const series = (name: string, value: number, at = NEW_YEAR, labels = {}): SeriesInput => ({
  labels: { __name__: name, instance: "gpu-01:9100", job: "node", ...labels },
  samples: [[value, at]],
});
