import type { Route } from "./route.ts";

/** Probes for supervisors and load balancers. */
export const PROBE_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/healthz",
    scope: "none",
    summary: "Tells that the process answers",
    handle: () => Response.json({ status: "ok" }),
  },
];
