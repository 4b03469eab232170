import { currencyFault } from "./currency.ts";
import { type Column, column, type Dataset, defineDataset } from "./dataset.ts";

/** One exact cost. Its key is `(entryId, timestamp)`. */
export interface CostEntry {
  /** Id, unique together with the timestamp. */
  entryId: string;
  /** Time of the charge, epoch ms. */
  timestamp: number;
  /** Resource that caused the cost; the service where a bill names no resource. */
  resourceId: string;
  /** Category: one of {@linkcode CostCategory} or any other non-empty name. */
  category: string;
  /** Amount in the currency: a canonical decimal string with up to 18 digits after the point; BilledCost of a bill. */
  amount: string;
  /** Currency: ISO 4217 code, or the name of a virtual currency. */
  currency: string;
  /** Region. */
  region?: string;
  /** Tags of your choice. */
  tags?: Record<string, string>;
  /** Description. */
  description?: string;
  /** Billing period, such as `2026-11`. */
  billingPeriod?: string;
  /** End of the charge, exclusive, epoch ms. FOCUS ChargePeriodEnd; `timestamp` is the start. */
  chargePeriodEnd?: number;
  /** FOCUS ChargeCategory: `Usage`, `Purchase`, `Tax`, `Credit` or `Adjustment`. */
  chargeCategory?: string;
  /** FOCUS ChargeClass: `Correction`, or absent. */
  chargeClass?: string;
  /** FOCUS ChargeFrequency: `One-Time`, `Recurring` or `Usage-Based`. */
  chargeFrequency?: string;
  /** FOCUS ServiceName, such as `Amazon SageMaker`. */
  serviceName?: string;
  /** FOCUS ServiceSubcategory, such as `Generative AI`. */
  serviceSubcategory?: string;
  /** FOCUS ServiceProviderName; ProviderName before FOCUS 1.3. */
  serviceProviderName?: string;
  /** FOCUS HostProviderName: the infrastructure that the service runs on. */
  hostProviderName?: string;
  /** FOCUS InvoiceIssuerName: the sender of the invoice. */
  invoiceIssuerName?: string;
  /** FOCUS BillingAccountId: the account that is billed. */
  billingAccountId?: string;
  /** FOCUS SubAccountId: the account, subscription or project below it. */
  subAccountId?: string;
  /** FOCUS ResourceName: the display name of the resource. */
  resourceName?: string;
  /** FOCUS ResourceType: the kind of resource. */
  resourceType?: string;
  /** FOCUS SkuId: the product in the price list. */
  skuId?: string;
  /** FOCUS ConsumedQuantity: the measured volume, in `consumedUnit`. */
  consumedQuantity?: string;
  /** FOCUS ConsumedUnit, such as `Tokens`. */
  consumedUnit?: string;
  /** FOCUS PricingQuantity: the priced volume, in `pricingUnit`. */
  pricingQuantity?: string;
  /** FOCUS PricingUnit, such as `1M Tokens`. */
  pricingUnit?: string;
  /** FOCUS ListCost: the cost at list prices. */
  listCost?: string;
  /** FOCUS ContractedCost: the cost at negotiated prices. */
  contractedCost?: string;
  /** FOCUS EffectiveCost: the cost with purchases spread over what they cover. */
  effectiveCost?: string;
  /** FOCUS BillingPeriodStart, epoch ms. */
  billingPeriodStart?: number;
  /** FOCUS BillingPeriodEnd, exclusive, epoch ms. */
  billingPeriodEnd?: number;
  /** FOCUS InvoiceId; absent until the charge is invoiced. */
  invoiceId?: string;
  /** `estimated` for a cost that no bill brought; absent for a billed one. No total adds the two. */
  basis?: "billed" | "estimated";
  /** Origin of the cost, such as `aws-cur:999999999999`. */
  source?: string;
  /** Delivery that brought it: one import of the files of a source. */
  deliveryId?: string;
  /** Every other column of the bill by its name, in FOCUS or not. An empty text stands for null. */
  focus?: Record<string, string>;
}

/** Fields of a cost that are times, beside its own. */
export type CostTimeField = "chargePeriodEnd" | "billingPeriodStart" | "billingPeriodEnd";
/** Fields of a cost that are exact decimals, beside its amount. */
export type CostAmountField =
  | "consumedQuantity"
  | "pricingQuantity"
  | "listCost"
  | "contractedCost"
  | "effectiveCost";

/** Input form of {@linkcode CostEntry}. */
export interface CostEntryInput
  extends
    Omit<CostEntry, "timestamp" | "amount" | "currency" | CostTimeField | CostAmountField>,
    Partial<Record<CostTimeField, number | Date> & Record<CostAmountField, number | string>> {
  /** Time of the charge: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
  /**
   * The amount. A number is taken by its shortest decimal form; digits beyond the 18th after the point
   * are rounded half to even; at most 18 digits stand before it.
   */
  amount: number | string;
  /**
   * The currency of the amount: its code of ISO 4217, as in `EUR`, or the name of a virtual currency.
   *
   * @default {"USD"}
   */
  currency?: string;
}

/** The categories known to OpenFinOps. Any other non-empty name is allowed as well. */
export const CostCategory = {
  COMPUTE: "compute",
  STORAGE: "storage",
  NETWORK: "network",
  GPU: "gpu",
  MEMORY: "memory",
  SOFTWARE_LICENSES: "software_licenses",
  DATA_TRANSFER: "data_transfer",
  SUPPORT: "support",
  DATABRICKS: "databricks",
  DATABRICKS_DBU: "databricks_dbu",
  DATABRICKS_JOBS: "databricks_jobs",
  DATABRICKS_SQL: "databricks_sql",
  SNOWFLAKE: "snowflake",
  SNOWFLAKE_COMPUTE: "snowflake_compute",
  SNOWFLAKE_STORAGE: "snowflake_storage",
  MONGODB_ATLAS: "mongodb_atlas",
  REDIS_CLOUD: "redis_cloud",
  GITHUB_ACTIONS: "github_actions",
  DATADOG: "datadog",
  ELASTICSEARCH: "elasticsearch",
  CONFLUENT_KAFKA: "confluent_kafka",
  DATABASE: "database",
  DATABASE_COMPUTE: "database_compute",
  DATABASE_STORAGE: "database_storage",
  DATABASE_BACKUP: "database_backup",
} as const;

/** Optional text columns of schema version 3. */
function texts(fields: string): Column[] {
  return fields.split(" ").map((field) => column("text", field, { since: 3 }));
}

/** The dataset of {@linkcode CostEntry}. */
export const costEntries: Dataset<CostEntry> = defineDataset({
  name: "cost_entries",
  noun: "a cost entry",
  amount: "amount",
  columns: [
    // Ids are bounded so that PostgreSQL can index them (2,704 bytes an index entry).
    column("text", "entryId", { required: true, maxLength: 800, summary: true }),
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "resourceId", { required: true, maxLength: 800, summary: true }),
    column("text", "category", { required: true, maxLength: 255, summary: true }),
    column("decimal", "amount", { required: true, summary: true }),
    column("text", "currency", { default: "USD", maxLength: 64, fault: currencyFault, summary: true }),
    column("text", "region", { summary: true }),
    column("map", "tags"),
    column("text", "description"),
    column("text", "billingPeriod"),
    column("timestamp", "chargePeriodEnd", { since: 3 }),
    ...texts("chargeCategory chargeClass chargeFrequency serviceName serviceSubcategory serviceProviderName"),
    ...texts(
      "hostProviderName invoiceIssuerName billingAccountId subAccountId resourceName resourceType skuId",
    ),
    column("decimal", "consumedQuantity", { since: 3 }),
    ...texts("consumedUnit"),
    column("decimal", "pricingQuantity", { since: 3 }),
    ...texts("pricingUnit"),
    ...["listCost", "contractedCost", "effectiveCost"].map((field) => column("decimal", field, { since: 3 })),
    ...["billingPeriodStart", "billingPeriodEnd"].map((field) => column("timestamp", field, { since: 3 })),
    ...texts("invoiceId"),
    column("text", "basis", { since: 3, oneOf: ["billed", "estimated"], absent: "billed", summary: true }),
    ...texts("source deliveryId"),
    column("map", "focus", { since: 3 }),
  ],
  // Time first: the index of the key then serves time ranges too, and one index less is written.
  key: ["timestamp", "entryId"],
  indexes: [["category", "timestamp"], ["resourceId", "timestamp"]],
  partitionBy: "month",
  retentionDays: Infinity,
  chunkDays: 30,
  sortBy: ["timestamp", "entryId"], // the key, by which conflicts are looked for
  rollUpBy: ["category", "currency", "region", "basis"],
  filters: ["category", "resourceId", "region", "currency"],
  groups: ["currency"],
  mapFilter: "tags",
});
