import { resolveConfig } from "../config.ts";
import { errorCodeOf } from "../errors.ts";
import { LEASE } from "../monitoring/document_kinds.ts";
import type { StoreStats } from "../store.ts";
import { metricsResponse } from "./prometheus_text.ts";
import type { Route, ServerResources } from "./route.ts";
import { refuseTenants } from "./tenants.ts";
import { withinLimit } from "../pipeline/time_limit.ts";

/** Lifetime of a cached answer of `/readyz`, in milliseconds. It bounds the load on the database, as no token is needed. */
const READY_MS = 2_000;
/** The longest that the database may take to answer, in milliseconds. */
const PROBE_LIMIT_MS = 2_000;

/** Fraction of the maximum size of a spool at which it counts as full: the next record may not fit. */
const FULL_SPOOL = 0.95;

/** The last answers of `/readyz`. */
const answers = new WeakMap<ServerResources, { at: number; reasons: Promise<string[]> }>();

/** Probes for supervisors and load balancers, which need no token and return no secret; and metrics. */
export const PROBE_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/healthz",
    scope: "none",
    summary: "Reports that the process answers",
    handle: () => Response.json({ status: "ok" }),
  },
  {
    method: "GET",
    path: "/readyz",
    scope: "none",
    summary: "Reports if records can be stored, or the reasons why not",
    handle: async (_request, resources) => readinessResponse(await reasonsOf(resources)),
  },
  {
    method: "GET",
    path: "/metrics",
    scope: "read",
    summary: "Metrics of the server in the text format of Prometheus",
    async handle(asked, resources) {
      refuseTenants(asked);
      const { hub, costs, requests, intake } = resources;
      const isReady = (await reasonsOf(resources)).length === 0;
      // All counters are read at once, so that they add up.
      const others = [...requests?.families() ?? [], ...intake?.families() ?? []];
      return metricsResponse([hub.stats(), costs.stats()], { isReady, others });
    },
  },
];

/** Answers a readiness probe, by the reasons for which records cannot be stored. */
export function readinessResponse(reasons: readonly string[]): Response {
  if (reasons.length === 0) return Response.json({ status: "ready" });
  const error = { code: "NOT_READY", message: "Records cannot be stored now.", reasons };
  return Response.json({ error }, { status: 503 });
}

/** Returns the reasons why records cannot be stored, at most two seconds old. */
async function reasonsOf(resources: ServerResources): Promise<readonly string[]> {
  let answer = answers.get(resources);
  if (answer === undefined || performance.now() - answer.at >= READY_MS) {
    answers.set(resources, answer = { at: performance.now(), reasons: findReasons(resources) });
  }
  return await answer.reasons;
}

/** Finds the reasons why records cannot be stored. Has only codes and names of datasets: a message may name a host. */
async function findReasons({ hub, costs, backend, config }: ServerResources): Promise<string[]> {
  const reasons: string[] = [];
  // One cheap read. A write that the database refuses raises an alarm below.
  const probe = backend.documents.read(LEASE).then(() => undefined, errorCodeOf);
  const fault = await withinLimit<string | undefined>(probe, PROBE_LIMIT_MS, () => "CONNECTION_TIMEOUT");
  if (fault !== undefined) reasons.push(`database: ${fault}`);
  const { maxSpoolBytes } = resolveConfig(config);
  return [...reasons, ...pausedReasons([hub.stats(), costs.stats()], maxSpoolBytes)];
}

/** Names the datasets that wait for an operator, or whose spool is full. */
export function pausedReasons(stores: readonly StoreStats[], maxSpoolBytes: number): string[] {
  return stores.flatMap(({ datasets }) => Object.entries(datasets)).flatMap((
    [name, { alarm, spoolBytes }],
  ) => [
    ...alarm === undefined ? [] : [`${name}: paused`],
    ...spoolBytes < FULL_SPOOL * maxSpoolBytes ? [] : [`${name}: spool full`],
  ]);
}
