/**
 * Tenants: a token of a tenant writes and reads only records of that tenant.
 *
 * @module
 */
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type { Condition } from "../records/where.ts";
import { RequestError } from "./problems.ts";

/** The key of labels and tags that names the tenant. */
const TENANT = "tenant";
/** Fields of records that name a tenant: the one of these that a dataset has. */
const MAPS: readonly string[] = ["tags", "labels", "attributes"];

/** The map of a record that names its tenant; undefined where records have none. */
export function mapOf({ maps }: Dataset<unknown>): string | undefined {
  return maps.find(({ field }) => MAPS.includes(field))?.field;
}

/** Returns a copy of a record with the tenant in its map, and in its id if the dataset has one. */
export function withTenant(
  dataset: Dataset<unknown>,
  record: Readonly<Record<string, unknown>>,
  tenant: string,
): Record<string, unknown> {
  const map = mapOf(dataset)!;
  const copy = { ...record };
  const given = record[map] ?? {};
  if (typeof given === "object" && !Array.isArray(given)) copy[map] = { ...given, [TENANT]: tenant };
  const key = dataset.key.find((field) => field !== "timestamp");
  const id = key === undefined ? undefined : record[key];
  if (typeof id === "string") copy[key!] = idOfTenant(tenant, id);
  return copy;
}

/**
 * The id of a record of a tenant: no other tenant has it, and no cost that is computed from usage (`usage:ID:UNIT`). An
 * empty id stays empty, so that it is refused.
 */
function idOfTenant(tenant: string, id: string): string {
  return id === "" ? id : `${tenant.replace(/[%/:]/g, encodeURIComponent)}/${id}`;
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
  const map = mapOf(dataset);
  if (map === undefined) throw refuseTenant(`Records of ${dataset.name} name no tenant.`);
  return map;
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
export function refuseTenants({ tenant }: { readonly tenant?: string }): void {
  if (tenant !== undefined) throw refuseTenant("This answer is about all tenants.");
}

function refuseTenant(problem: string): RequestError {
  return new RequestError(`${problem} Use a token without a tenant.`, { code: "SCOPE_MISSING" });
}
