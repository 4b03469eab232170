import { ADMIN_ROUTES } from "./admin_routes.ts";
import { BACKEND_ROUTES } from "./backend_routes.ts";
import { PROBE_ROUTES } from "./probe_routes.ts";
import { QUERY_ROUTES } from "./query_routes.ts";
import type { Route } from "./route.ts";
import { VIEW_ROUTES } from "./views_routes.ts";

/** All routes of the server. */
export const ROUTES: readonly Route[] = [
  ...PROBE_ROUTES,
  ...QUERY_ROUTES,
  ...VIEW_ROUTES,
  ...ADMIN_ROUTES,
  ...BACKEND_ROUTES,
];
