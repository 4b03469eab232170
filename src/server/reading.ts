/**
 * Reads for requests: committed records only, until the client disconnects.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import { override } from "../backends/override.ts";
import type { ServerResources } from "./route.ts";

/** Returns the backend. Flushes accepted records first if it is in memory. */
export async function committed({ backend, hub, costs }: ServerResources): Promise<Backend> {
  if (!backend.isDurable) await Promise.all([hub.flush(), costs.flush()]);
  return backend;
}

/** Returns the backend for reads that end when a signal aborts. */
export function readUntil(backend: Backend, signal: AbortSignal): Backend {
  return override(backend, {
    aggregate: (...asked) => backend.aggregate(asked[0], asked[1], asked[2], { signal }),
    read: (dataset, query) => backend.read(dataset, query, { signal }),
  });
}
