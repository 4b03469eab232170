/**
 * What an agent serves about itself: probes and metrics, without routes that show or take records.
 *
 * @module
 */
import type { StoreStats } from "../store.ts";
import {
  formatMetrics,
  METRICS_TYPE,
  pipelineFamilies,
  processFamilies,
  readyFamily,
} from "./prometheus_text.ts";
import { type Listening, serve, type ServeOptions } from "./serve.ts";

/** Paths that an agent answers. */
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
  const alarms = stores.flatMap(({ datasets }) => Object.values(datasets)).flatMap(({ alarm }) =>
    alarm ?? []
  );
  const isReady = alarms.length === 0;
  const path = AGENT_PATHS.find((path) => path === pathname);
  if (path === undefined) return Response.json({ error: { code: "NOT_FOUND" } }, { status: 404 });
  if (method !== "GET" && method !== "HEAD") {
    return Response.json({ error: { code: "METHOD_NOT_ALLOWED" } }, {
      status: 405,
      headers: { allow: "GET" },
    });
  }
  if (path === "/healthz") return Response.json({ status: "ok" });
  if (path === "/readyz") {
    const body = isReady ? { status: "ready" } : { status: "not ready", alarms: [...new Set(alarms)] };
    return Response.json(body, { status: isReady ? 200 : 503 });
  }
  const text = formatMetrics([...pipelineFamilies(stores), readyFamily(isReady), ...processFamilies()]);
  return new Response(text, { headers: { "content-type": METRICS_TYPE } });
}
