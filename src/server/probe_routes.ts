import { resolveConfig } from "../config.ts";
import { errorCodeOf } from "../errors.ts";
import { LEASE } from "../monitoring/document_kinds.ts";
import type { Route, ServerResources } from "./route.ts";
import { withinLimit } from "./time_limit.ts";

/** Age from which the answer of `/readyz` is found again, in milliseconds: anyone may ask, and the database pays. */
const READY_MS = 2_000;
/** The longest that the database may take to answer, in milliseconds. */
const PROBE_LIMIT_MS = 2_000;

/** Part of the most bytes of a spool at which it counts as full: the next record may not fit. */
const FULL_SPOOL = 0.95;

/** The last answers of `/readyz`. */
const answers = new WeakMap<ServerResources, { at: number; reasons: Promise<string[]> }>();

/** Probes for supervisors and load balancers. They need no token, and tell no secret. */
export const PROBE_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/healthz",
    scope: "none",
    summary: "Tells that the process answers",
    handle: () => Response.json({ status: "ok" }),
  },
  {
    method: "GET",
    path: "/readyz",
    scope: "none",
    summary: "Tells whether records can be stored now, or why not",
    async handle(_request, resources) {
      let answer = answers.get(resources);
      if (answer === undefined || performance.now() - answer.at >= READY_MS) {
        answers.set(resources, answer = { at: performance.now(), reasons: findReasons(resources) });
      }
      const reasons = await answer.reasons;
      if (reasons.length === 0) return Response.json({ status: "ready" });
      const error = { code: "NOT_READY", message: "The server cannot store records now.", reasons };
      return Response.json({ error }, { status: 503 });
    },
  },
];

/** Finds what keeps records from being stored. Only codes and names of datasets: a message may name a host. */
async function findReasons({ hub, costs, backend, config }: ServerResources): Promise<string[]> {
  const reasons: string[] = [];
  // One cheap read: what the database refuses to write raises an alarm below.
  const probe = backend.documents.read(LEASE).then(() => undefined, errorCodeOf);
  const fault = await withinLimit<string | undefined>(probe, PROBE_LIMIT_MS, () => "CONNECTION_TIMEOUT");
  if (fault !== undefined) reasons.push(`database: ${fault}`);
  const { maxSpoolBytes } = resolveConfig(config);
  for (
    const [name, { alarm, spoolBytes }] of Object.entries({
      ...hub.stats().datasets,
      ...costs.stats().datasets,
    })
  ) {
    if (alarm !== undefined) reasons.push(`${name}: paused`);
    if (spoolBytes >= FULL_SPOOL * maxSpoolBytes) reasons.push(`${name}: spool full`);
  }
  return reasons;
}
