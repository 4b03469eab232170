/**
 * Reads for requests: of what is committed, and of the tenant of the token.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import { override } from "../backends/override.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type { Condition } from "../records/where.ts";
import { RequestError } from "./problems.ts";
import type { RouteRequest, ServerResources } from "./route.ts";
import { TENANT_MAPS } from "./tenant_maps.ts";

/** The key of labels and tags that names the tenant. */
const TENANT = "tenant";

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

/**
 * The condition that a record is of the tenant of the token; none where the token has no tenant.
 *
 * @throws {RequestError} If records of the dataset name no tenant.
 */
export function tenantConditions(dataset: Dataset<unknown>, tenant: string | undefined): Condition[] {
  const field = tenantMap(dataset, tenant);
  if (field === undefined) return [];
  return [{ field, key: TENANT, operator: "in", values: [tenant!] }];
}

/**
 * The map of a record that names the tenant of the token; none where the token has no tenant.
 *
 * @throws {RequestError} If records of the dataset name no tenant.
 */
export function tenantMap(dataset: Dataset<unknown>, tenant: string | undefined): string | undefined {
  if (tenant === undefined) return undefined;
  const map = dataset.maps.find(({ field }) => TENANT_MAPS.includes(field));
  if (!map) throw refuseTenant(`Records of ${dataset.name} name no tenant.`);
  return map.field;
}

/** A query for the records of the tenant alone. */
export function ofTenant(
  dataset: Dataset<unknown>,
  query: RecordQuery,
  tenant: string | undefined,
): RecordQuery {
  const conditions = tenantConditions(dataset, tenant);
  return conditions.length === 0 ? query : { ...query, where: [...query.where ?? [], ...conditions] };
}

/**
 * Refuses a token of one tenant where an answer is about all.
 *
 * @throws {RequestError} If the token has a tenant.
 */
export function refuseTenants({ tenant }: Pick<RouteRequest, "tenant">): void {
  if (tenant !== undefined) throw refuseTenant("This answer is about all tenants.");
}

function refuseTenant(problem: string): RequestError {
  return new RequestError(`${problem} Use a token without a tenant.`, { code: "SCOPE_MISSING" });
}
