/**
 * Routes of Prometheus: remote write.
 *
 * @module
 */
import { DEFAULT_LIMITS } from "./limits.ts";
import { intakeOf } from "./metric_intake.ts";
import { RequestError, restate } from "./problems.ts";
import { decompressSnappy, readWriteRequest } from "./prometheus/remote_write.ts";
import { requestIdOf } from "./request_id.ts";
import type { Route, RouteRequest, ServerResources } from "./route.ts";

const VERSIONS: Readonly<Record<string, 1 | 2>> = {
  "prometheus.WriteRequest": 1,
  "io.prometheus.write.v2.Request": 2,
};
const FORM = "Content-Type application/x-protobuf and Content-Encoding snappy";

/** Routes of remote write. */
export const PROMETHEUS_ROUTES: readonly Route[] = [{
  method: "POST",
  path: "/api/v1/write",
  scope: "ingest",
  summary: "Takes samples of Prometheus: remote write 1.0 and 2.0",
  body: { summary: "A request of remote write, compressed by snappy", types: ["application/x-protobuf"] },
  answer: { summary: "Nothing", types: [] },
  encodings: ["snappy"],
  handle: write,
  translate: asText,
}];

async function write(request: RouteRequest, resources: ServerResources): Promise<Response> {
  const intake = intakeOf(resources);
  const version = readVersion(request.request.headers);
  const packed = await request.body();
  const { samples, stale, nameless, histograms } = readWriteRequest(
    decompressSnappy(packed, (request.limits ?? DEFAULT_LIMITS).maxBodyBytes, request.account),
    version,
  );
  const { signal, tenant } = request;
  const id = requestIdOf("write", packed, tenant);
  const { refused, error } = await intake.takeSamples(samples, { id, signal, tenant }, histograms);
  // A sample without a field is accepted and dropped, as by relabeling. It is counted by name.
  const headers = {
    "x-prometheus-remote-write-samples-written": String(samples.length + stale - refused),
    "x-prometheus-remote-write-histograms-written": "0",
    "x-prometheus-remote-write-exemplars-written": "0",
  };
  if (refused + nameless === 0) return new Response(null, { status: 204, headers });
  const message = nameless > 0 ? `${nameless} samples have no name.` : error!.message;
  return new Response(`${refused + nameless} samples were refused, all others stored. ${message}\n`, {
    status: 400,
    headers,
  });
}

function readVersion(headers: Headers): 1 | 2 {
  const [type, ...parameters] = (headers.get("content-type") ?? "").split(";").map((part) => part.trim());
  const proto = parameters.find((part) => /^proto=/i.test(part))?.slice("proto=".length).replaceAll('"', "");
  const version = VERSIONS[proto ?? "prometheus.WriteRequest"];
  const isPacked = headers.get("content-encoding")?.trim().toLowerCase() === "snappy";
  if (type.toLowerCase() === "application/x-protobuf" && version && isPacked) return version;
  throw new RequestError(
    version
      ? `Cannot read this body. Send ${FORM}.`
      : `Cannot read this message. Use ${Object.keys(VERSIONS).join(" or ")}.`,
    { code: "UNSUPPORTED_FORMAT" },
  );
}

/** A problem as text, which Prometheus shows in its log. A temporary problem gets a status after which it retries. */
function asText(problem: Response): Promise<Response> {
  return restate(problem, {
    status: problem.status === 408 ? 503 : problem.status,
    type: "text/plain; charset=utf-8",
    write: (message) => `${message}\n`,
  });
}
