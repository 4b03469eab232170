import { whatIsNoCurrency } from "./currency.ts";
import { column, type Dataset, defineDataset } from "./dataset.ts";

/** One exact cost. Its key is `(entryId, timestamp)`. */
export interface CostEntry {
  /** Id, unique together with the timestamp. */
  entryId: string;
  /** Time of the charge, epoch ms. */
  timestamp: number;
  /** Resource that caused the cost. */
  resourceId: string;
  /** Category: one of {@linkcode CostCategory} or any other non-empty name. */
  category: string;
  /** Amount in the currency: a canonical decimal string with up to 18 digits after the point. */
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
}

/** Input form of {@linkcode CostEntry}. */
export interface CostEntryInput extends Omit<CostEntry, "timestamp" | "amount" | "currency"> {
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

/** The dataset of {@linkcode CostEntry}. */
export const costEntries: Dataset<CostEntry> = defineDataset({
  name: "cost_entries",
  noun: "a cost entry",
  columns: [
    // Ids are bounded so that PostgreSQL can index them (2,704 bytes an index entry).
    column("text", "entryId", { required: true, maxLength: 800, summary: true }),
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "resourceId", { required: true, maxLength: 800, summary: true }),
    column("text", "category", { required: true, maxLength: 255, summary: true }),
    column("decimal", "amount", { required: true, summary: true }),
    column("text", "currency", { default: "USD", maxLength: 64, wants: whatIsNoCurrency, summary: true }),
    column("text", "region", { summary: true }),
    column("map", "tags"),
    column("text", "description"),
    column("text", "billingPeriod"),
  ],
  // Time first: the index of the key then serves time ranges too, and one index less is written.
  key: ["timestamp", "entryId"],
  indexes: [["category", "timestamp"], ["resourceId", "timestamp"]],
  partitionBy: "month",
  chunkDays: 30,
  sortBy: ["timestamp", "entryId"], // the key, by which conflicts are looked for
  rollUpBy: ["category", "currency", "region"],
  filters: ["category", "resourceId", "region", "currency"],
  groups: ["currency"],
  mapFilter: "tags",
});
