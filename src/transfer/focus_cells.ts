/**
 * The value of each FOCUS column of a cost. Import compares it with the value in the file, and keeps the file's where
 * they differ; so an export gives back what the bill said.
 *
 * @module
 */
import { isNationalCurrency } from "../records/currency.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { type FocusColumn, serviceOf } from "./focus_columns.ts";
import { isoTime, parseTime } from "./values.ts";
import { HOUR_MS } from "../records/calendar.ts";

/** FOCUS version, and values of columns that a cost entry may lack. */
export interface FocusOptions {
  /** The version of FOCUS that is written. @default {"1.4"} */
  version?: "1.0" | "1.1" | "1.2" | "1.3" | "1.4";
  /** The dataset of FOCUS that is written, if not Cost and Usage. */
  dataset?: "contract-commitment" | "invoice-detail" | "billing-period";
  /** The account that is billed. @default {"unknown"} */
  billingAccountId?: string;
  /** The name of the account. */
  billingAccountName?: string;
  /** ServiceProviderName, and ProviderName before FOCUS 1.4: provider of the service. @default {"unknown"} */
  providerName?: string;
  /** PublisherName: producer of the service, before FOCUS 1.4. @default The provider. */
  publisherName?: string;
  /** InvoiceIssuerName: sender of the invoice. @default The provider. */
  invoiceIssuerName?: string;
  /** The invoice. */
  invoiceId?: string;
  /** The length of a charge period whose end is not known, in milliseconds; at least a second. @default {3_600_000} */
  chargePeriodMs?: number;
}

const SECOND_MS = 1_000;
const UNKNOWN = "unknown";
/** The ISO 4217 code for no currency. */
const NO_CURRENCY = "XXX";

/** A value as a cost has it, before its `focus` is looked at. */
type Derive = (entry: CostEntry, options: FocusOptions) => string | undefined;

const provider: Derive = ({ serviceProviderName }, { providerName }) =>
  serviceProviderName ?? providerName ?? UNKNOWN;
/** Costs that no bill brought have one price: an amount in a virtual currency is none in a national one. */
const anyCost: Derive = (entry) => DERIVED.BilledCost(entry, {});

/** Columns that hold a field in another form, or parts of it. */
const DERIVED: Readonly<Record<string, Derive>> = {
  BilledCost: (entry) => decimal(isNational(entry) ? entry.amount : "0"),
  BillingCurrency: (entry) => isNational(entry) ? entry.currency : NO_CURRENCY,
  ChargePeriodEnd: ({ timestamp, chargePeriodEnd }, { chargePeriodMs = HOUR_MS }) =>
    second(Math.max(chargePeriodEnd ?? timestamp + chargePeriodMs, floor(timestamp) + SECOND_MS)),
  ChargePeriodStart: ({ timestamp }) => second(timestamp),
  PricingCurrency: (entry) => isNational(entry) && !isNative(entry) ? undefined : entry.currency,
  PricingCurrencyEffectiveCost: (entry) =>
    isNational(entry) && !isNative(entry) ? undefined : decimal(entry.amount),
  ServiceCategory: ({ category }) => serviceOf(category)[0],
};

/** Values for costs that lack one and columns that have no null, or that go with another column. */
const DEFAULTS: Readonly<Record<string, Derive>> = {
  BillingAccountId: (_, { billingAccountId = UNKNOWN }) => billingAccountId,
  BillingAccountName: (_, { billingAccountName }) => billingAccountName,
  BillingPeriodEnd: (entry) => second(billingPeriod(entry)[1]),
  BillingPeriodStart: (entry) => second(billingPeriod(entry)[0]),
  ChargeCategory: () => "Usage",
  ChargeFrequency: (entry) => isUsage(entry) ? "Usage-Based" : "One-Time",
  ContractedCost: anyCost,
  EffectiveCost: anyCost,
  InvoiceId: (_, { invoiceId }) => invoiceId,
  InvoiceIssuerName: (entry, options) => options.invoiceIssuerName ?? provider(entry, options),
  ListCost: anyCost,
  // Usage and purchases have a quantity: an entry is one charge.
  PricingQuantity: (entry) => isPriced(entry) && entry.pricingUnit === undefined ? "1.0" : undefined,
  PricingUnit: (entry) => isPriced(entry) && entry.pricingQuantity === undefined ? "Charges" : undefined,
  ProviderName: provider,
  PublisherName: (entry, options) => options.publisherName ?? provider(entry, options),
  RegionName: ({ region }) => region || undefined,
  ResourceType: ({ category, focus }) => focus?.ResourceId === "" ? undefined : category,
  ServiceName: ({ category }) => category,
  ServiceProviderName: provider,
  ServiceSubcategory: ({ category }) => serviceOf(category)[1],
};

/** The option that gives the default of a column; without it, the default is an assumption. */
const OPTION_OF: Readonly<Record<string, keyof FocusOptions>> = {
  BillingAccountId: "billingAccountId",
  BillingAccountName: "billingAccountName",
  InvoiceId: "invoiceId",
  InvoiceIssuerName: "invoiceIssuerName",
  ProviderName: "providerName",
  PublisherName: "publisherName",
  ServiceProviderName: "providerName",
};

/** A value that is written: null is undefined. */
export interface FocusCell {
  readonly text: string | undefined;
  /** True if neither the cost nor an option has it. */
  readonly isAssumed: boolean;
}

/** The value of a column of a cost; what its `focus` keeps comes first. */
export function focusCell(column: FocusColumn, entry: CostEntry, options: FocusOptions): FocusCell {
  const { name, field } = column;
  const kept = entry.focus?.[name];
  if (kept !== undefined) return { text: kept === "" ? undefined : kept, isAssumed: false };
  const value = field === undefined ? undefined : (entry as unknown as Record<string, unknown>)[field];
  if (DERIVED[name]) {
    const isAssumed = name === "ChargePeriodEnd" ? value === undefined : /^Pricing/.test(name);
    return { text: DERIVED[name](entry, options), isAssumed };
  }
  if (value !== undefined && value !== "") return { text: WRITERS[column.type](value), isAssumed: false };
  const text = DEFAULTS[name]?.(entry, options);
  const option = OPTION_OF[name];
  return { text, isAssumed: text !== undefined && (option === undefined || options[option] === undefined) };
}

const WRITERS: Readonly<Record<string, (value: unknown) => string>> = {
  text: (value) => value as string,
  decimal: (value) => decimal(value as string),
  timestamp: (value) => second(value as number),
  map: (value) => JSON.stringify(value),
};

/** True if two values of a column are the same: as decimals, times or JSON. */
export function isSameValue(type: string, text: string | undefined, other: string | undefined): boolean {
  if (text === undefined || other === undefined) return text === other;
  if (type === "decimal") return isSameDecimal(text, other);
  if (text === other) return true;
  // Not by `parseTime()` alone, which cuts digits beyond milliseconds.
  if (type === "timestamp") return parseTime(text) === parseTime(other) && !/[.,]\d*[1-9]/.test(other);
  return type === "map" && text === withoutSpace(other);
}

/** True if a field holds all digits of a decimal or a time. */
export function hasFewDigits(type: string, text: string): boolean {
  if (type === "timestamp") return !/[.,]/.test(text);
  const [, fraction = "", exponent = "0"] = /(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(text)!;
  return fraction.length - Number(exponent) <= 18 ||
    fraction.replace(/0+$/, "").length - Number(exponent) <= 18;
}

/** True if two decimals are the same to their last digit: more digits than are stored make a difference. */
function isSameDecimal(text: string, other: string): boolean {
  if (text === other) return true;
  if (!hasFewDigits("decimal", other)) return false;
  try {
    return Decimal.from(text).compare(Decimal.from(other)) === 0;
  } catch {
    return false; // a bill may say anything in a column that is no field
  }
}

/** JSON without the white space between its tokens. */
function withoutSpace(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (token) => token[0] === '"' ? token : "");
}

/** A decimal with a point: readers that guess types must not take a column for whole numbers by its first rows. */
function decimal(amount: string): string {
  return amount.includes(".") ? amount : `${amount}.0`;
}

function floor(ms: number): number {
  return Math.floor(ms / SECOND_MS) * SECOND_MS;
}

/** A time to the second, as FOCUS has it. */
function second(ms: number): string {
  return `${isoTime(ms).slice(0, 19)}Z`;
}

function isNational({ currency }: CostEntry): boolean {
  return isNationalCurrency(currency);
}

/** True for a cost that no bill brought. */
function isNative({ chargeCategory, focus }: CostEntry): boolean {
  return chargeCategory === undefined && focus === undefined;
}

function isUsage({ chargeCategory = "Usage" }: CostEntry): boolean {
  return chargeCategory === "Usage";
}

function isPriced(entry: CostEntry): boolean {
  return (isUsage(entry) || entry.chargeCategory === "Purchase") && entry.chargeClass !== "Correction";
}

/** The month that the billing period of a cost names or begins on a day of, else that of its time. */
function billingPeriod(
  { billingPeriod = "", billingPeriodStart, timestamp }: CostEntry,
): [start: number, end: number] {
  const [, month, day = "-01"] = /^(\d{4}-\d\d)(-\d\d)?$/.exec(billingPeriod) ?? [];
  const time = new Date(timestamp);
  const start = billingPeriodStart ?? parseTime(month + day) ??
    Date.UTC(time.getUTCFullYear(), time.getUTCMonth());
  return [start, monthAfter(new Date(start))];
}

/** The same day of the next month, or its last one where that is shorter. */
function monthAfter(date: Date): number {
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  return Math.min(Date.UTC(year, month + 1, day), Date.UTC(year, month + 2, 0));
}
