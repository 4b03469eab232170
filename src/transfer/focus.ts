/**
 * Cost entries as the FinOps Open Cost and Usage Specification has them: which column is which field, as data.
 * Versions 1.0 to 1.2 are read, 1.2 is written.
 *
 * @see https://focus.finops.org
 * @module
 */
import { CostCategory, type CostEntry } from "../records/cost_entry.ts";
import { type FieldPlan, isoTime, parseTime, READERS } from "./values.ts";

/** FOCUS columns that a cost entry may lack. */
export interface FocusOptions {
  /** The account that is billed. @default {"unknown"} */
  billingAccountId?: string;
  /** Its name. @default {"unknown"} */
  billingAccountName?: string;
  /** ProviderName: provider of the service. @default {"unknown"} */
  providerName?: string;
  /** PublisherName: producer of the service. @default {"unknown"} */
  publisherName?: string;
  /** InvoiceIssuerName: sender of the invoice. @default {"unknown"} */
  invoiceIssuerName?: string;
  /** The invoice, where there is one. */
  invoiceId?: string;
  /** Length of each charge period, in milliseconds. @default {3_600_000} */
  chargePeriodMs?: number;
}

const HOUR_MS = 3_600_000;
const { text, timestamp, decimal, map } = READERS;

/**
 * The fields of a cost entry and the columns that each is taken from, the first that has a value. Columns that begin
 * with `x_` are those of our own export, and give back what FOCUS has no place for.
 *
 * @param costColumn The column of the amount.
 */
export function focusPlan(costColumn = "BilledCost"): FieldPlan[] {
  return [
    { field: "entryId", sources: [["x_EntryId", text]] },
    { field: "timestamp", sources: [["x_Timestamp", timestamp], ["ChargePeriodStart", timestamp]] },
    // A tax or a support plan is no resource: its service is what cost it.
    {
      field: "resourceId",
      sources: [["ResourceId", text], ["ServiceName", text], ["ServiceCategory", text]],
    },
    { field: "category", sources: [["x_Category", text], ["ServiceCategory", text], ["ServiceName", text]] },
    { field: "amount", sources: [[costColumn, decimal]] },
    { field: "currency", sources: [["BillingCurrency", text]] },
    { field: "region", sources: [["RegionId", text]] },
    { field: "tags", sources: [["Tags", map]] },
    { field: "description", sources: [["ChargeDescription", text]] },
    { field: "billingPeriod", sources: [["x_BillingPeriod", text], ["BillingPeriodStart", readPeriod]] },
  ];
}

/** A billing period that begins with a month is called by the month. */
function readPeriod(value: unknown): unknown {
  const start = timestamp(value) as number;
  const iso = isoTime(start);
  return iso.endsWith("-01T00:00:00.000Z") ? iso.slice(0, 7) : iso.slice(0, 10);
}

/** Nothing, as files of FOCUS have it: the specification says null, and some write that out. */
export function isFocusNull(value: unknown): boolean {
  return value === "" || value === "NULL";
}

/** The service categories of FOCUS. */
const SERVICE_CATEGORIES: ReadonlySet<string> = new Set([
  "AI and Machine Learning",
  "Analytics",
  "Business Applications",
  "Compute",
  "Databases",
  "Developer Tools",
  "Multicloud",
  "Identity",
  "Integration",
  "Internet of Things",
  "Management and Governance",
  "Media",
  "Migration",
  "Mobile",
  "Networking",
  "Security",
  "Storage",
  "Web",
  "Other",
]);

/** FOCUS category, and subcategory if one fits, of each category of OpenFinOps. */
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

/** The category and subcategory that FOCUS has for a category. */
function serviceOf(category: string): [category: string, subcategory: string] {
  const known = SERVICE_CATEGORIES.has(category) ? category : "Other";
  const [found, subcategory] = SERVICES[category] ?? [known];
  return [found, subcategory ?? `Other (${found})`];
}

/** A column that is written. */
interface FocusColumn {
  readonly name: string;
  readonly value: (entry: CostEntry, options: FocusOptions) => string | undefined;
}

function column(name: string, value: FocusColumn["value"]): FocusColumn {
  return { name, value };
}

const UNKNOWN = "unknown";

/** The columns of FOCUS 1.2 in the order of the file: the 21 mandatory ones, some more, and our own. */
export const FOCUS_COLUMNS: readonly FocusColumn[] = [
  column("BilledCost", cost),
  column("BillingAccountId", (_, { billingAccountId = UNKNOWN }) => billingAccountId),
  column("BillingAccountName", (_, { billingAccountName = UNKNOWN }) => billingAccountName),
  column("BillingCurrency", ({ currency }) => currency),
  column("BillingPeriodEnd", (entry) => focusTime(billingPeriod(entry)[1])),
  column("BillingPeriodStart", (entry) => focusTime(billingPeriod(entry)[0])),
  column("ChargeCategory", () => "Usage"),
  column("ChargeClass", () => undefined),
  column("ChargeDescription", ({ description }) => description || undefined),
  column("ChargeFrequency", () => "Usage-Based"),
  column(
    "ChargePeriodEnd",
    ({ timestamp }, { chargePeriodMs = HOUR_MS }) => focusTime(timestamp + chargePeriodMs),
  ),
  column("ChargePeriodStart", ({ timestamp }) => focusTime(timestamp)),
  column("ContractedCost", cost),
  column("EffectiveCost", cost),
  column("InvoiceId", (_, { invoiceId }) => invoiceId),
  column("InvoiceIssuerName", (_, { invoiceIssuerName = UNKNOWN }) => invoiceIssuerName),
  column("ListCost", cost),
  // Usage has to have a quantity, and an entry is one charge.
  column("PricingQuantity", () => "1.0"),
  column("PricingUnit", () => "Charges"),
  column("ProviderName", (_, { providerName = UNKNOWN }) => providerName),
  column("PublisherName", (_, { publisherName = UNKNOWN }) => publisherName),
  column("RegionId", ({ region }) => region || undefined),
  column("ResourceId", ({ resourceId }) => resourceId),
  column("ServiceCategory", ({ category }) => serviceOf(category)[0]),
  column("ServiceName", ({ category }) => category),
  column("ServiceSubcategory", ({ category }) => serviceOf(category)[1]),
  column("Tags", ({ tags }) => tags && JSON.stringify(tags)),
  column("x_BillingPeriod", ({ billingPeriod }) => billingPeriod),
  column("x_Category", ({ category }) => category),
  column("x_EntryId", ({ entryId }) => entryId),
  column("x_Timestamp", ({ timestamp }) => isoTime(timestamp)),
];

/** The amount; readers that guess types must not take a column for whole numbers by its first rows. */
function cost({ amount }: CostEntry): string {
  return amount.includes(".") ? amount : `${amount}.0`;
}

/** A time to the second, as FOCUS wants it. */
function focusTime(ms: number): string {
  return `${isoTime(ms).slice(0, 19)}Z`;
}

/** The month that the entry's billing period names or begins on a day of, else that of its time. */
function billingPeriod({ billingPeriod = "", timestamp }: CostEntry): [start: number, end: number] {
  const [, month, day = "-01"] = /^(\d{4}-\d\d)(-\d\d)?$/.exec(billingPeriod) ?? [];
  const time = new Date(timestamp);
  const start = parseTime(month + day) ?? Date.UTC(time.getUTCFullYear(), time.getUTCMonth());
  return [start, monthAfter(new Date(start))];
}

/** The same day of the next month, or its last one where that is shorter. */
function monthAfter(date: Date): number {
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  return Math.min(Date.UTC(year, month + 1, day), Date.UTC(year, month + 2, 0));
}
