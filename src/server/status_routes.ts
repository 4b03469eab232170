import { formatMetrics, METRICS_TYPE, pipelineFamilies, processFamilies } from "./prometheus_text.ts";
import type { Route } from "./route.ts";

/** Routes about the server itself. */
export const STATUS_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/metrics",
    scope: "read",
    summary: "Metrics of the server in the text format of Prometheus",
    handle(_request, { hub, costs, requests }) {
      const text = formatMetrics([
        ...pipelineFamilies([hub.stats(), costs.stats()]),
        ...requests?.families() ?? [],
        ...processFamilies(),
      ]);
      return new Response(text, { headers: { "content-type": METRICS_TYPE } });
    },
  },
];
