import { ADMIN_ROUTES } from "./admin_routes.ts";
import { cached, forgetting } from "./answer_cache.ts";
import { BACKEND_ROUTES } from "./backend_routes.ts";
import { openApiRoute } from "./openapi.ts";
import { IMPORT_ROUTES } from "./import_routes.ts";
import { INGEST_ROUTES } from "./ingest_routes.ts";
import { OTLP_ROUTES } from "./otlp_routes.ts";
import { PROBE_ROUTES } from "./probe_routes.ts";
import { PROMETHEUS_ROUTES } from "./prometheus_routes.ts";
import { QUERY_ROUTES } from "./query_routes.ts";
import type { Route } from "./route.ts";
import { VIEW_ROUTES } from "./views_routes.ts";
import { WEB_ROUTES } from "./web_routes.ts";

const DESCRIBED: readonly Route[] = [
  ...PROBE_ROUTES,
  ...OTLP_ROUTES,
  ...PROMETHEUS_ROUTES,
  ...WEB_ROUTES,
  ...INGEST_ROUTES,
  ...QUERY_ROUTES.map((route) => route.path.endsWith("/aggregate") ? cached(route) : route),
  ...VIEW_ROUTES.map(cached),
  ...[...ADMIN_ROUTES, ...IMPORT_ROUTES].map((route) => route.method === "GET" ? route : forgetting(route)),
  ...BACKEND_ROUTES,
];

export const ROUTES: readonly Route[] = [...DESCRIBED, openApiRoute(DESCRIBED)];
