/**
 * Columns of the FinOps Open Cost and Usage Specification, as data: type, level, nulls and versions of each, and the
 * field of a cost that holds it.
 *
 * @see https://focus.finops.org
 * @module
 */
import { CostCategory, costEntries } from "../records/cost_entry.ts";
import type { ColumnType } from "../records/dataset.ts";

export type FocusVersion = "1.0" | "1.1" | "1.2" | "1.3" | "1.4";
/** The versions of FOCUS that are read and written, oldest first. */
export const FOCUS_VERSIONS: readonly FocusVersion[] = ["1.0", "1.1", "1.2", "1.3", "1.4"];

/** A column of the Cost and Usage dataset. */
export interface FocusColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** Mandatory, recommended or conditional. */
  readonly level: "M" | "R" | "C";
  readonly isNullable: boolean;
  /** The first version that has it. */
  readonly since: FocusVersion;
  /** The last version that has it. */
  readonly until: FocusVersion;
  /** The field of a cost that holds it; without one, `focus` does. */
  readonly field?: string;
}

/** A line a column: name, type, level (`?` allows null), first version after 1.0, last version before 1.4. */
const TABLE = `
AllocatedMethodDetails map R? 1.3
AllocatedMethodId text C? 1.3
AllocatedResourceId text C? 1.3
AllocatedResourceName text C? 1.3
AllocatedTags map C? 1.3
AvailabilityZone text R?
BilledCost decimal M
BillingAccountId text M
BillingAccountName text M?
BillingAccountType text C 1.2
BillingCurrency text M
BillingPeriodEnd timestamp M
BillingPeriodStart timestamp M
CapacityReservationId text C? 1.1
CapacityReservationStatus text C? 1.1
ChargeCategory text M
ChargeClass text M?
ChargeDescription text M?
ChargeFrequency text R
ChargePeriodEnd timestamp M
ChargePeriodStart timestamp M
CommitmentDiscountCategory text C?
CommitmentDiscountId text C?
CommitmentDiscountName text C?
CommitmentDiscountQuantity decimal C? 1.1
CommitmentDiscountStatus text C?
CommitmentDiscountType text C?
CommitmentDiscountUnit text C? 1.1
CommitmentProgramEligibilityDetails map C? 1.4
ConsumedQuantity decimal C?
ConsumedUnit text C?
ContractApplied map C? 1.3
ContractedCost decimal M
ContractedUnitPrice decimal C?
EffectiveCost decimal M
HostProviderName text M? 1.3
InvoiceDetailId text C? 1.4
InvoiceId text C? 1.2
InvoiceIssuerName text M
ListCost decimal M
ListUnitPrice decimal C?
PricingCategory text C?
PricingCurrency text C 1.2
PricingCurrencyContractedUnitPrice decimal C? 1.2
PricingCurrencyEffectiveCost decimal C 1.2
PricingCurrencyListUnitPrice decimal C? 1.2
PricingQuantity decimal M?
PricingUnit text M?
ProviderName text M 1.0 1.3
PublisherName text M 1.0 1.3
RegionId text C?
RegionName text C?
ResourceId text C?
ResourceName text C?
ResourceType text C?
ServiceCategory text M
ServiceName text M
ServiceProviderName text M 1.3
ServiceSubcategory text R 1.1
SkuId text C?
SkuMeter text C? 1.1
SkuPriceDetails map C? 1.1
SkuPriceId text C?
SubAccountId text C?
SubAccountName text C?
SubAccountType text C? 1.2
Tags map C?`;

/** The fields of a cost whose FOCUS column has another name. */
const FIELDS: Readonly<Record<string, string>> = {
  BilledCost: "amount",
  BillingCurrency: "currency",
  ChargeDescription: "description",
  ChargePeriodStart: "timestamp",
  RegionId: "region",
  ServiceCategory: "category",
};

/** The columns of Cost and Usage in the order of files. */
export const FOCUS_COLUMNS: readonly FocusColumn[] = TABLE.trim().split("\n").map((line) => {
  const [name, type, level, since = "1.0", until = "1.4"] = line.split(" ");
  const field = FIELDS[name] ?? name[0].toLowerCase() + name.slice(1);
  return {
    name,
    type: type as ColumnType,
    level: level[0] as FocusColumn["level"],
    isNullable: level.endsWith("?"),
    since: since as FocusVersion,
    until: until as FocusVersion,
    ...(costEntries.positions.has(field) ? { field } : {}),
  };
});

const BY_NAME = new Map(FOCUS_COLUMNS.map((column) => [column.name, column]));

/** The column of a name, of any version or of one. */
export function focusColumn(name: string, version?: FocusVersion): FocusColumn | undefined {
  const column = BY_NAME.get(name);
  return column && (version === undefined || isInVersion(column, version)) ? column : undefined;
}

export function isInVersion({ since, until }: FocusColumn, version: FocusVersion): boolean {
  return since <= version && version <= until;
}

/** The version of a file by its columns: the newest that brought one, and 1.4 where the names of before are gone. */
export function focusVersionOf(columns: readonly string[]): FocusVersion {
  const has = (name: string) => columns.includes(name);
  if (has("ServiceProviderName") && !has("ProviderName") && !has("PublisherName")) return "1.4";
  return columns.reduce<FocusVersion>((newest, name) => {
    const since = BY_NAME.get(name)?.since ?? "1.0";
    return since > newest ? since : newest;
  }, "1.0");
}

/** Conditional columns that a file has together with another one. */
export const PARTNERS: Readonly<Record<string, readonly string[]>> = {
  AllocatedResourceId: ["AllocatedMethodId", "AllocatedResourceName", "AllocatedTags"],
  CapacityReservationId: ["CapacityReservationStatus"],
  CommitmentDiscountId: [
    "CommitmentDiscountCategory",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
  ],
  CommitmentDiscountQuantity: ["CommitmentDiscountUnit"],
  ConsumedQuantity: ["ConsumedUnit"],
  PricingCurrency: ["PricingCurrencyEffectiveCost"],
  RegionId: ["RegionName"],
  ResourceId: ["ResourceName", "ResourceType"],
  SkuId: ["SkuPriceId"],
  SubAccountId: ["SubAccountName"],
};

const SERVICE_CATEGORIES: ReadonlySet<string> = new Set(
  ("AI and Machine Learning|Analytics|Business Applications|Compute|Databases|Developer Tools|" +
    "Multicloud|Identity|Integration|Internet of Things|Management and Governance|Media|Migration|" +
    "Mobile|Networking|Security|Storage|Web|Other")
    .split("|"),
);

/** The FOCUS category of each category of OpenFinOps, and the subcategory where one fits. */
const SERVICES: Readonly<Record<string, readonly [category: string, subcategory?: string]>> = {
  [CostCategory.COMPUTE]: ["Compute"],
  [CostCategory.GPU]: ["Compute"],
  [CostCategory.MEMORY]: ["Compute"],
  [CostCategory.STORAGE]: ["Storage"],
  [CostCategory.NETWORK]: ["Networking"],
  [CostCategory.DATA_TRANSFER]: ["Networking"],
  [CostCategory.SOFTWARE_LICENSES]: ["Other"],
  [CostCategory.SUPPORT]: ["Management and Governance", "Support"],
  [CostCategory.DATABRICKS]: ["Analytics", "Analytics Platforms"],
  [CostCategory.DATABRICKS_DBU]: ["Analytics", "Analytics Platforms"],
  [CostCategory.DATABRICKS_JOBS]: ["Analytics", "Data Processing"],
  [CostCategory.DATABRICKS_SQL]: ["Analytics", "Analytics Platforms"],
  [CostCategory.SNOWFLAKE]: ["Databases", "Data Warehouses"],
  [CostCategory.SNOWFLAKE_COMPUTE]: ["Databases", "Data Warehouses"],
  [CostCategory.SNOWFLAKE_STORAGE]: ["Databases", "Data Warehouses"],
  [CostCategory.MONGODB_ATLAS]: ["Databases", "NoSQL Databases"],
  [CostCategory.REDIS_CLOUD]: ["Databases", "Caching"],
  [CostCategory.GITHUB_ACTIONS]: ["Developer Tools", "Continuous Integration and Deployment"],
  [CostCategory.DATADOG]: ["Management and Governance", "Observability"],
  [CostCategory.ELASTICSEARCH]: ["Analytics", "Search"],
  [CostCategory.CONFLUENT_KAFKA]: ["Integration", "Messaging"],
  [CostCategory.DATABASE]: ["Databases"],
  [CostCategory.DATABASE_COMPUTE]: ["Databases"],
  [CostCategory.DATABASE_STORAGE]: ["Databases"],
  [CostCategory.DATABASE_BACKUP]: ["Databases"],
};

/** The FOCUS category and subcategory of a category. */
export function serviceOf(category: string): [category: string, subcategory: string] {
  const known = SERVICE_CATEGORIES.has(category) ? category : "Other";
  const [found, subcategory] = SERVICES[category] ?? [known];
  return [found, subcategory ?? `Other (${found})`];
}
