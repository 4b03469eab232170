/**
 * The application of the server: routes, access, limits, and errors as JSON.
 *
 * @module
 */
import { Hono } from "hono";
import type { Access } from "./access.ts";
import { type BodyAccount, readBody, streamBody } from "./body.ts";
import { Capacity, DEFAULT_LIMITS, type Limits, RateLimiter } from "./limits.ts";
import { codeOf, isWhole, methodRefusal, problem, RequestError } from "./problems.ts";
import { type AnsweredRequest, RequestMetrics } from "./request_metrics.ts";
import type { Route, RouteRequest, ServerResources } from "./route.ts";
import { ROUTES } from "./routes.ts";

/** An answered request, for logs and counters. */
export interface Answered extends AnsweredRequest {
  /** Cause of a response with status 500; absent for other errors. */
  readonly error?: unknown;
}

/** Options of {@linkcode createApp}. */
export interface AppOptions {
  /** Authorizes requests by token and host. */
  readonly access: Access;
  /** Limits of requests; the defaults of {@linkcode Limits} where absent. */
  readonly limits?: Partial<Limits>;
  /**
   * Routes.
   *
   * @default All routes of the server.
   */
  readonly routes?: readonly Route[];
  /** Called with each answer. It must not throw. */
  readonly onAnswer?: (answered: Answered) => void;
}

/** The application. */
export interface App {
  /**
   * Answers a request. Never rejects.
   *
   * @param request The request.
   * @param body Its body, where it is not in the request.
   */
  fetch(request: Request, body?: AsyncIterable<Uint8Array>): Promise<Response>;
}

/** Variables of a request in hono. */
interface Bindings {
  readonly body: AsyncIterable<Uint8Array>;
  /** Set where a route matches. */
  route?: Route;
}

/** Creates the application. It opens nothing. */
export function createApp(resources: ServerResources, options: AppOptions): App {
  const { onAnswer, routes = ROUTES } = options;
  const requests = resources.requests ?? new RequestMetrics();
  const isReadOnly = routes.every(({ method }) => method === "GET");
  const hono = createRouter({ ...resources, requests, isReadOnly }, options);
  return {
    async fetch(request, body = request.body ?? NOTHING) {
      const start = performance.now();
      requests.start();
      const env: Bindings = { body };
      let failure: Pick<Answered, "code" | "error"> = {};
      const response = await Promise.try(() => hono.fetch(request, env)).catch((thrown) => {
        const error = request.signal.aborted && !(thrown instanceof RequestError) ? clientGone() : thrown;
        const response = problem(error);
        failure = { code: codeOf(error), error: response.status === 500 ? error : undefined };
        return env.route?.translate?.(response, request) ?? response;
      });
      for (const [name, value] of SECURITY_HEADERS) {
        if (!response.headers.has(name)) response.headers.set(name, value);
      }
      const answered: Answered = {
        method: request.method,
        path: env.route?.path,
        status: response.status,
        durationMs: performance.now() - start,
        ...failure,
      };
      requests.end(answered);
      onAnswer?.(answered);
      return response;
    },
  };
}

/** Creates the router of the routes, which throws where a request is refused or fails. */
function createRouter(
  resources: ServerResources,
  { routes = ROUTES, access, limits: given }: AppOptions,
): Hono<{ Bindings: Bindings }> {
  const limits = { ...DEFAULT_LIMITS, ...given };
  const occupancy = new Capacity(limits.maxRequests);
  const held = new Capacity(
    limits.maxHeldBytes,
    "The server holds too many bytes of requests. Try again.",
  );
  const rates = new RateLimiter(limits.maxRatePerToken);
  const hono = new Hono<{ Bindings: Bindings }>();
  for (const route of routes) {
    hono.on(route.method, route.path, async ({ req, env }) => {
      env.route = route;
      const request = req.raw;
      const isProbe = route.scope === "none";
      const { id = "", tenant } = isProbe ? {} : await access.authorize(request, route.scope);
      if (!isProbe) rates.take(id);
      using place = new DisposableStack();
      if (!isProbe) place.use(occupancy.hold(1));
      using account = held.hold();
      const response = await route.handle(
        asRouteRequest(route, request, { params: req.param(), tenant, limits, account, body: env.body }),
        resources,
      );
      if (request.method !== "HEAD") return untilRead(response, place.move());
      await response.body?.cancel(); // hono drops it
      return response;
    });
  }
  for (const path of new Set(routes.map(({ path }) => path))) {
    const methods = routes.filter((route) => route.path === path).map(({ method }) => method).join(", ");
    hono.all(path, () => {
      throw methodRefusal(methods);
    });
  }
  hono.notFound(() => {
    throw new RequestError("Unknown path. GET /openapi.json lists all paths.", { code: "NOT_FOUND" });
  });
  hono.onError((error) => {
    throw error; // to fetch(), the one place that reports errors
  });
  return hono;
}

/** Keeps a place until the body of a response was read, has failed, or is canceled; not for one that is whole. */
function untilRead(response: Response, place: Disposable): Response {
  const reader = isWhole(response) ? undefined : response.body?.getReader();
  const end = () => place[Symbol.dispose]();
  if (!reader) {
    end();
    return response;
  }
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read().catch((error) => {
        end();
        throw error;
      });
      if (!done) return controller.enqueue(value);
      end();
      controller.close();
    },
    cancel: (reason) => reader.cancel(reason).finally(end),
  }, { highWaterMark: 0 });
  return new Response(body, response);
}

/** Creates the error of a request whose client has disconnected. Only counters see the answer. */
function clientGone(): RequestError {
  return new RequestError("The client disconnected before the answer. Send the request again.", {
    code: "INTERRUPTED",
  });
}

const NOTHING: AsyncIterable<Uint8Array> = (async function* () {})();

/** Headers of each response that has none of its own. */
const SECURITY_HEADERS: readonly (readonly [string, string])[] = [
  ["cache-control", "no-store"],
  ["x-content-type-options", "nosniff"],
];

/** Creates the request that a route gets. Its body is read once, even if the route calls `body()` again. */
function asRouteRequest(
  { encodings, limits: own }: Route,
  request: Request,
  { params, tenant, limits, account, body }: Pick<RouteRequest, "params" | "tenant"> & Bindings & {
    limits: Limits;
    account: BodyAccount;
  },
): RouteRequest {
  const bounds = { ...limits, ...own };
  let whole: Promise<Uint8Array<ArrayBuffer>> | undefined;
  return {
    request,
    url: new URL(request.url),
    params,
    signal: request.signal,
    tenant,
    limits: bounds,
    account,
    body: () => whole ??= readBody(body, request.headers, bounds, { own: encodings, account }),
    chunks: () => streamBody(body, request.headers, bounds, encodings),
  };
}
