/**
 * Probes and metrics of an agent. It has no routes that read or write records.
 *
 * @module
 */
import { resolveConfig } from "../config.ts";
import type { StoreStats } from "../store.ts";
import { methodRefusal, problem, RequestError } from "./problems.ts";
import { metricsResponse } from "./prometheus_text.ts";
import { pausedReasons, readinessResponse } from "./probe_routes.ts";
import { type Listening, serve, type ServeOptions } from "./serve.ts";

export const AGENT_PATHS = ["/healthz", "/readyz", "/metrics"] as const;

/** Serves probes and metrics of a process that has these counters. */
export async function serveAgentStatus(
  stores: () => readonly StoreStats[],
  options: ServeOptions,
): Promise<Listening> {
  return await serve({ fetch: (request) => Promise.resolve(answer(request, stores())) }, options);
}

function answer({ method, url }: Request, stores: readonly StoreStats[]): Response {
  const { pathname } = new URL(url);
  const isStarting = stores.length === 0;
  const reasons = isStarting ? ["starting"] : pausedReasons(stores, resolveConfig().maxSpoolBytes);
  const path = AGENT_PATHS.find((path) => path === pathname);
  if (path === undefined) {
    return problem(new RequestError(`Unknown path. Use ${AGENT_PATHS.join(", ")}.`, { code: "NOT_FOUND" }));
  }
  if (method !== "GET" && method !== "HEAD") return problem(methodRefusal("GET"));
  if (path === "/healthz") return Response.json({ status: "ok" });
  if (path === "/readyz") return readinessResponse(reasons);
  return metricsResponse(stores, { isReady: reasons.length === 0 });
}
