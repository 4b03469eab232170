/**
 * A route of the server, described as data: the application, `/openapi.json` and the test of access derive from it.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import type { PersistenceConfig } from "../config.ts";
import type { ObservabilityHub } from "../hub.ts";
import type { CostObservatory } from "../observatory.ts";
import type { Option } from "../query/arguments.ts";
import type { DatasetName } from "../records/dataset.ts";
import type { BodyLimits } from "./body.ts";
import type { MetricIntake } from "./metric_intake.ts";
import type { RequestMetrics } from "./request_metrics.ts";

/** Rights that a token may have. */
export type Scope = "ingest" | "read" | "admin";

/** Resources that handlers share. */
export interface ServerResources {
  /** Metrics. */
  readonly hub: ObservabilityHub;
  /** Costs and usage. */
  readonly costs: CostObservatory;
  /** The open backend of both. */
  readonly backend: Backend;
  /** Its configuration. */
  readonly config: PersistenceConfig;
  /**
   * Takes metrics and usage of other programs; absent where the server is for reads only.
   *
   * @internal
   */
  readonly intake?: MetricIntake;
  /** Counters of requests; the application keeps them. */
  readonly requests?: RequestMetrics;
  /**
   * True if no route of the application changes anything; the application sets it.
   *
   * @internal
   */
  readonly isReadOnly?: boolean;
}

/** A request after access, limits and decompression. */
export interface RouteRequest {
  /** The request; its body is read by `body()` only. */
  readonly request: Request;
  /** The address. */
  readonly url: URL;
  /** Values of the parameters in the path. */
  readonly params: Readonly<Record<string, string>>;
  /** Aborts when the client disconnects, or the server stops. */
  readonly signal: AbortSignal;
  /** Value of the label or tag `tenant` that the token forces on each record; absent where it has none. */
  readonly tenant?: string;
  /** Bounds of the body. */
  readonly limits?: BodyLimits;
  /** Counts further bytes that the handler holds, such as those of a body that it decompresses itself. */
  readonly account?: { take(bytes: number): void };
  /** Reads the whole body, decompressed, within the limit of the server. */
  body(): Promise<Uint8Array<ArrayBuffer>>;
  /** Reads the body as it arrives, decompressed, within the limit of the server. Once, and in place of `body()`. */
  chunks(): AsyncIterable<Uint8Array>;
}

/** A body of a request or of an answer, for `/openapi.json`. */
export interface RouteBody {
  /** Content, in one line. */
  readonly summary: string;
  /** Media types, the default first. */
  readonly types: readonly string[];
  /** Dataset whose records it holds: the schema derives from its columns. */
  readonly dataset?: DatasetName;
  /** Schema of JSON, where it holds no records. */
  readonly schema?: Readonly<Record<string, unknown>>;
}

/** A body that is any object of JSON. */
export function jsonBody(summary: string): RouteBody {
  return { summary, types: ["application/json"], schema: { type: "object" } };
}

/** A route. */
export interface Route {
  /** Method of HTTP. */
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path, with parameters as `:name`. */
  readonly path: string;
  /** Scope that a token needs; `none` for routes that return no data. */
  readonly scope: Scope | "none";
  /** Purpose, in one line. */
  readonly summary: string;
  /** Parameters of the query, the same data as the options of a command; one without a placeholder is true or false. */
  readonly parameters?: readonly Option[];
  /** Body of the request. */
  readonly body?: RouteBody;
  /** Body of the answer to a request that succeeds. */
  readonly answer?: RouteBody;
  /** Content encodings that the route decodes itself: `body()` gives these as they arrive. */
  readonly encodings?: readonly string[];
  /** Bounds that differ from those of the server. */
  readonly limits?: Partial<BodyLimits>;
  /** Writes an error of this route in the form of its protocol; as the JSON that it is where absent. */
  translate?(problem: Response, request: Request): Response | Promise<Response>;
  /** Answers a request. A `ValidationError` becomes 400, other errors by their code. */
  handle(request: RouteRequest, resources: ServerResources): Response | Promise<Response>;
}
