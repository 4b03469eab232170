/** Fields of records that name a tenant: the one of these that a dataset has. */
export const TENANT_MAPS: readonly string[] = ["tags", "labels", "attributes"];

/**
 * The id of a record of a tenant: no other tenant has it, and no cost that is computed from usage (`usage:ID:UNIT`). An
 * empty id stays empty, so that it is refused.
 */
export function idOfTenant(tenant: string, id: string): string {
  return id === "" ? id : `${tenant.replace(/[%/:]/g, encodeURIComponent)}/${id}`;
}
