import { metricsResponse } from "./prometheus_text.ts";
import { reasonsOf } from "./probe_routes.ts";
import { refuseTenants } from "./reading.ts";
import type { Route } from "./route.ts";

/** Routes about the server itself. */
export const STATUS_ROUTES: readonly Route[] = [
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
