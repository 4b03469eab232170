/**
 * Routes of OTLP/HTTP: metrics and traces, as protobuf or JSON.
 *
 * @module
 */
import { PbfWriter } from "pbf";
import { describeUnmapped } from "../transfer/unmapped_points.ts";
import { intakeOf, type MetricIntake, type Taken } from "./metric_intake.ts";
import { METRICS_REQUEST, TRACES_REQUEST } from "./otlp/messages.ts";
import { toSamples } from "./otlp/metrics.ts";
import { usageOfSpans } from "./otlp/spans.ts";
import { RequestError, restate } from "./problems.ts";
import { requestIdOf } from "./request_id.ts";
import type { Route, RouteRequest } from "./route.ts";

const PROTOBUF = "application/x-protobuf";
const JSON_TYPE = "application/json";

/** Outcome of the points or spans of a request. */
interface Outcome {
  readonly rejected: number;
  readonly message: string;
}

export const OTLP_ROUTES: readonly Route[] = [
  route("metrics", "Takes metrics of OpenTelemetry", async (body, isJson, request, intake) => {
    const { samples, unmapped, invalid } = toSamples(
      METRICS_REQUEST.decode(body, isJson),
      (name) => intake.knows(name),
    );
    const id = requestIdOf("metrics", body, request.tenant);
    const taken = await intake.takeSamples(samples, { ...request, id }, unmapped);
    for (const [name, count] of taken.unmapped ?? []) unmapped.set(name, count); // of samples, not of points
    const homeless = unmapped.values().reduce((sum, count) => sum + count, 0);
    return outcomeOf(taken, {
      rejected: homeless + invalid,
      messages: [
        ...homeless > 0 ? [`${describeUnmapped(unmapped)}.`] : [],
        ...invalid > 0 ? [`${invalid} points have no aggregation temporality.`] : [],
      ],
    });
  }),
  route(
    "traces",
    "Takes spans of OpenTelemetry: calls of models become usage",
    async (body, isJson, request, intake) => {
      const { records, invalid } = usageOfSpans(TRACES_REQUEST.decode(body, isJson));
      // Spans that are no calls of models are ignored, and not counted as rejected.
      const taken = intake.takesSpans
        ? await intake.takeRecords(records, {
          ...request,
          id: requestIdOf("traces", body, request.tenant),
        })
        : { refused: 0 };
      return outcomeOf(taken, {
        rejected: invalid.length,
        messages: invalid.slice(0, 1).map(({ message }) => message),
      });
    },
  ),
];

type Handler = (
  body: Uint8Array<ArrayBuffer>,
  isJson: boolean,
  request: RouteRequest,
  intake: MetricIntake,
) => Promise<Outcome>;

function route(signal: "metrics" | "traces", summary: string, take: Handler): Route {
  return {
    method: "POST",
    path: `/v1/${signal}`,
    scope: "ingest",
    summary,
    body: { summary: "A request of OTLP", types: [PROTOBUF, JSON_TYPE] },
    answer: { summary: "An answer of OTLP", types: [PROTOBUF, JSON_TYPE] },
    translate: (problem, request) => asStatus(problem, isJsonRequest(request) ?? true),
    async handle(request, resources) {
      const isJson = isJsonRequest(request.request);
      if (isJson === undefined) {
        throw new RequestError(`Cannot read this Content-Type. Use ${PROTOBUF} or ${JSON_TYPE}.`, {
          code: "UNSUPPORTED_FORMAT",
        });
      }
      const outcome = await take(await request.body(), isJson, request, intakeOf(resources));
      return new Response(isJson ? answerJson(signal, outcome) : answerBytes(outcome), {
        headers: { "content-type": isJson ? JSON_TYPE : PROTOBUF },
      });
    },
  };
}

function isJsonRequest({ headers }: Request): boolean | undefined {
  const type = headers.get("content-type")?.split(";")[0].trim().toLowerCase();
  return type === JSON_TYPE ? true : type === PROTOBUF ? false : undefined;
}

function outcomeOf(
  { refused, error }: Taken,
  { rejected, messages }: { rejected: number; messages: readonly string[] },
): Outcome {
  return { rejected: rejected + refused, message: [...messages, ...error ? [error.message] : []].join(" ") };
}

/** Response to an accepted request: its rejected points or spans; empty if all were accepted. */
function answerJson(signal: "metrics" | "traces", { rejected, message }: Outcome): string {
  if (rejected === 0) return "{}";
  const field = signal === "metrics" ? "rejectedDataPoints" : "rejectedSpans";
  return JSON.stringify({ partialSuccess: { [field]: String(rejected), errorMessage: message } });
}

function answerBytes({ rejected, message }: Outcome): BodyInit {
  return bytesOf((writer) => {
    if (rejected === 0) return;
    writer.writeMessage(1, (_, writer) => {
      writer.writeVarintField(1, rejected);
      writer.writeStringField(2, message);
    }, undefined);
  });
}

function bytesOf(write: (writer: PbfWriter) => void): BodyInit {
  const writer = new PbfWriter();
  write(writer);
  return writer.finish() as Uint8Array<ArrayBuffer>;
}

/** Statuses after which an OTLP client retries. It drops the request after any other. */
const RETRYABLE = [429, 502, 503, 504];

/** A problem as `google.rpc.Status`. A temporary problem gets a status after which the client retries. */
function asStatus(problem: Response, isJson: boolean): Promise<Response> {
  const mayPass = problem.status >= 500 || problem.status === 408;
  return restate(problem, {
    status: mayPass && !RETRYABLE.includes(problem.status) ? 503 : problem.status,
    type: isJson ? JSON_TYPE : PROTOBUF,
    write: (message) =>
      isJson ? JSON.stringify({ message }) : bytesOf((writer) => writer.writeStringField(2, message)),
  });
}
