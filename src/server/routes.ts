import { PROBE_ROUTES } from "./probe_routes.ts";
import type { Route } from "./route.ts";

/** All routes of the server. */
export const ROUTES: readonly Route[] = [...PROBE_ROUTES];
