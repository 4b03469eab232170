/**
 * Rules of FOCUS as data, and a check of a file against them: presence, type, null, allowed values and format of each
 * column, and rules between columns.
 *
 * @module
 */
import { readCsvLine } from "../src/transfer/csv.ts";
import { Decimal } from "../src/records/decimal.ts";

const CASES = new URL("cases/focus/", import.meta.url);

/** A row of a file by column; null where there is no value. */
export type FocusRow = Record<string, string | null>;

/** Reads CSV: its columns and rows. Text for null without quotes is null. */
export function readCsv(text: string, nullText?: string): { columns: string[]; rows: FocusRow[] } {
  const lines = text.match(/(?:"[^"]*"|[^"\n])+/g)!.map((line) =>
    readCsvLine(line.replace(/\r$/, ""), { nullText })
  );
  const columns = lines[0] as string[];
  const rows = lines.slice(1).map((cells) =>
    Object.fromEntries(cells.map((cell, i) => [columns[i], cell === "" ? null : cell]))
  );
  return { columns, rows };
}

/** Reads a file of `tests/cases/focus/`. */
export function caseText(name: string): Promise<string> {
  const bytes = Deno.readFileSync(new URL(name, CASES));
  const { readable, writable } = name.endsWith(".gz")
    ? new DecompressionStream("gzip")
    : new TransformStream();
  new Blob([bytes]).stream().pipeTo(writable);
  return new Response(readable).text();
}

const FACTS = readCsv(Deno.readTextFileSync(new URL("columns-1.4.csv", CASES))).rows;
const SUBCATEGORIES = new Map(
  readCsv(Deno.readTextFileSync(new URL("service-subcategories.csv", CASES))).rows
    .map(({ subcategory, category }) => [subcategory!, category!]),
);
/** ISO 4217, which has a code for no currency as well. */
const CURRENCIES = new Set([...Intl.supportedValuesOf("currency"), "XXX"]);
/** Columns that 1.4 has no more: mandatory, without nulls. */
const REMOVED = ["ProviderName", "PublisherName"];

/** The check of a value, by format. */
const FORMATS: Readonly<Record<string, (value: string) => boolean>> = {
  "Date/Time": (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value),
  "Decimal (any)": (value) => /^-?\d+(\.\d+)?$/.test(value),
  "Decimal (non-negative)": (value) => /^\d+(\.\d+)?$/.test(value),
  "JSON Object": isObject,
  "Key-Value": isObject,
  Unspecified: (value) => value.trim() === value,
};

function isObject(value: string): boolean {
  return value.startsWith("{") && typeof JSON.parse(value) === "object";
}

/** Rules between columns that hold for each row of a file that has both columns. */
type Rule = (row: FocusRow, names: readonly string[]) => boolean;
const RULES: readonly (readonly [rule: string, columns: string, holds: Rule])[] = [
  ["a region has a name", "RegionId RegionName", both],
  ["a resource has a type", "ResourceId ResourceType", both],
  ["a name of a resource needs the resource", "ResourceId ResourceName", needs],
  ["a quantity has a unit", "ConsumedQuantity ConsumedUnit", both],
  ["a price has a unit", "PricingQuantity PricingUnit", both],
  ["a commitment has a category", "CommitmentDiscountId CommitmentDiscountCategory", both],
  ["a status needs its commitment", "CommitmentDiscountId CommitmentDiscountStatus", needs],
  ["a sub-account has a name", "SubAccountId SubAccountName", needs],
  ["a reservation has a status", "CapacityReservationId CapacityReservationStatus", needs],
  [
    "usage has a quantity",
    "PricingQuantity ChargeCategory ChargeClass",
    ({ PricingQuantity, ChargeCategory, ChargeClass }) =>
      PricingQuantity !== null || ChargeClass === "Correction" || !/Usage|Purchase/.test(ChargeCategory!),
  ],
  [
    "a tax has no quantity",
    "PricingQuantity ChargeCategory",
    ({ PricingQuantity, ChargeCategory }) => PricingQuantity === null || ChargeCategory !== "Tax",
  ],
  [
    "a charge period lasts",
    "ChargePeriodStart ChargePeriodEnd",
    ({ ChargePeriodStart, ChargePeriodEnd }) => ChargePeriodStart! < ChargePeriodEnd!,
  ],
  [
    "a billing period lasts",
    "BillingPeriodStart BillingPeriodEnd",
    ({ BillingPeriodStart, BillingPeriodEnd }) => BillingPeriodStart! < BillingPeriodEnd!,
  ],
  [
    "a subcategory is one of its category",
    "ServiceCategory ServiceSubcategory",
    ({ ServiceCategory, ServiceSubcategory }) => SUBCATEGORIES.get(ServiceSubcategory!) === ServiceCategory,
  ],
  [
    "the billing currency is national",
    "BillingCurrency",
    ({ BillingCurrency }) => CURRENCIES.has(BillingCurrency!),
  ],
  [
    "a cost in the billing currency is the same in the pricing currency",
    "PricingCurrency BillingCurrency EffectiveCost PricingCurrencyEffectiveCost",
    (row) =>
      row.PricingCurrency !== row.BillingCurrency || row.EffectiveCost === row.PricingCurrencyEffectiveCost,
  ],
];

function both(row: FocusRow, names: readonly string[]): boolean {
  return (row[names[0]] === null) === (row[names[1]] === null);
}

function needs(row: FocusRow, names: readonly string[]): boolean {
  return row[names[0]] !== null || row[names[1]] === null;
}

/** Returns what a file breaks of a version of FOCUS. */
export function violations(text: string, version: string): string[] {
  const { columns, rows } = readCsv(text);
  const broken: string[] = [];
  const facts = FACTS.filter(({ since }) => since! <= version);
  const known = new Map(facts.map((fact) => [fact.column!, fact]));
  const mandatory = facts.filter(({ level }) => level === "Mandatory").map(({ column }) => column!);
  for (const name of version < "1.4" ? [...mandatory, ...REMOVED] : mandatory) {
    if (!columns.includes(name)) broken.push(`${name} is missing`);
  }
  for (const name of columns) {
    const fact = known.get(name);
    const isRemoved = version < "1.4" && REMOVED.includes(name);
    if (!fact && !isRemoved && !name.startsWith("x_")) broken.push(`${name} is no column of ${version}`);
    if (fact) broken.push(...rows.flatMap((row) => valueViolations(fact, row[name])));
    if (isRemoved && rows.some((row) => row[name] === null)) broken.push(`${name} is null`);
  }
  for (const [rule, names, holds] of RULES) {
    const list = names.split(" ");
    if (!list.every((name) => columns.includes(name))) continue;
    for (const row of rows) {
      if (!holds(row, list)) broken.push(rule);
    }
  }
  return [...new Set(broken)];
}

function valueViolations(
  { column, nullable, allowed_values, format }: FocusRow,
  value: string | null,
): string[] {
  if (value === null) return nullable === "yes" ? [] : [`${column} is null`];
  if (allowed_values && !allowed_values.split("|").includes(value)) return [`${column} must not be ${value}`];
  return FORMATS[format!]?.(value) === false ? [`${column} has another format: ${value}`] : [];
}

/** A value in a form in which equal ones are the same: as decimal, time or JSON. */
function comparable(column: string, value: string | null | undefined): string | null {
  if (value === null || value === undefined) return null;
  if (/(Cost|Quantity|Price)$/.test(column)) return Decimal.from(value).toString();
  if (/Period(Start|End)$/.test(column)) {
    return new Date(/Z$/.test(value) ? value : `${value.replace(" ", "T")}Z`).toISOString();
  }
  return /^\{/.test(value) ? sortedJson(value) : value;
}

/** JSON with sorted keys and numbers to their last digit. */
function sortedJson(text: string): string {
  const reviver = (_key: string, value: unknown, context?: { source?: string }) => {
    if (typeof value === "number") return `number ${context?.source}`;
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1));
  };
  return JSON.stringify(JSON.parse(text, reviver));
}

/** The rows of a file in the columns of another one, in an order of their own. */
export function comparableRows(columns: readonly string[], rows: readonly FocusRow[]): string[] {
  return rows.map((row) => JSON.stringify(columns.map((name) => [name, comparable(name, row[name])]))).sort();
}
