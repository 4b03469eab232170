/** Fields of records that name a tenant: the one of these that a dataset has. */
export const TENANT_MAPS: readonly string[] = ["tags", "labels", "attributes"];
