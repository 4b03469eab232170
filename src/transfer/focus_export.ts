/**
 * Export of costs as FOCUS: which columns a file has, and how a cost is written in them.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import type { Measure } from "../records/aggregation.ts";
import { costEntries, type CostEntry } from "../records/cost_entry.ts";
import { isNationalCurrency } from "../records/currency.ts";
import type { ColumnType } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { focusCell, type FocusOptions } from "./focus_cells.ts";
import {
  FOCUS_COLUMNS,
  type FocusColumn,
  focusColumn,
  type FocusVersion,
  isInVersion,
  PARTNERS,
  serviceOf,
} from "./focus_columns.ts";
import { ASSUMED } from "./focus_import.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

const LATEST: FocusVersion = "1.4";

/** A file of FOCUS: its columns, and the texts of a cost in them; null is undefined. */
export interface FocusFile {
  readonly columns: readonly {
    readonly name: string;
    readonly type: ColumnType;
    readonly isRequired: boolean;
  }[];
  row(entry: CostEntry): (string | undefined)[];
}

/** Columns that only some costs have. */
interface UsedColumns {
  /** Optional fields. */
  readonly fields: ReadonlySet<string>;
  /** Keys of `focus`. */
  readonly keys: ReadonlySet<string>;
  /** Keys of `focus` that have a value in a cost. */
  readonly filled: ReadonlySet<string>;
  readonly hasVirtualCurrency: boolean;
}

/**
 * Makes the file for the costs that a query finds. Conditional columns are there where a cost has a value for them or
 * came from a file that had them. Reads the costs twice where some have columns of a bill.
 *
 * @throws {BackendError} If the backend cannot be read.
 */
export async function focusFile(
  backend: Pick<Backend, "read" | "aggregate">,
  query: RecordQuery,
  options: FocusOptions,
): Promise<FocusFile> {
  const used = await findUsedColumns(backend, query);
  const { version = LATEST } = options;
  const own = OWN.filter(({ isAlways, field, name }) =>
    !used.keys.has(name) &&
    (isAlways || used.fields.has(field ?? "") || (name === "x_Currency" && used.hasVirtualCurrency))
  );
  const standard = FOCUS_COLUMNS.filter((column) => isInVersion(column, version))
    .filter(isUsed(used, options));
  const vendors = [...used.keys].filter((key) => !focusColumn(key)).sort();
  const known = new Set([...standard.map(({ name }) => name), ...vendors]);
  return {
    columns: [
      ...standard.map(({ name, type, isNullable, level }) => ({
        name,
        type,
        isRequired: !isNullable && level === "M" && !used.keys.has(name),
      })),
      ...vendors.map((name) => ({ name, type: "text" as const, isRequired: false })),
      ...[...own.map(({ name }) => name), ASSUMED].map((name) => ({
        name,
        type: "text" as const,
        isRequired: false,
      })),
    ],
    row(entry) {
      assertKnown(entry, known);
      const assumed: string[] = [];
      const cells = standard.map((column) => {
        const { text, isAssumed } = focusCell(column, entry, options);
        if (isAssumed) assumed.push(column.name);
        return text;
      });
      return [
        ...cells,
        ...vendors.map((name) => entry.focus?.[name] || undefined),
        ...own.map(({ value }) => value(entry)),
        assumed.join(" ") || undefined,
      ];
    },
  };
}

/** Columns of our own: what FOCUS has no place for. An import reads them. */
const OWN: readonly {
  readonly name: string;
  /** The field that has to occur for the column to be there. */
  readonly field?: string;
  readonly isAlways?: true;
  readonly value: (entry: CostEntry) => string | undefined;
}[] = [
  { name: "x_Basis", field: "basis", value: ({ basis }) => basis },
  { name: "x_BillingPeriod", isAlways: true, value: ({ billingPeriod }) => billingPeriod || undefined },
  {
    name: "x_Category",
    isAlways: true,
    value: ({ category, focus }) =>
      serviceOf(category)[0] === category && focus?.ServiceCategory === undefined ? undefined : category,
  },
  {
    name: "x_Currency",
    value: ({ currency }) => isNationalCurrency(currency) ? undefined : currency,
  },
  { name: "x_EntryId", isAlways: true, value: ({ entryId }) => entryId },
  { name: "x_Source", field: "source", value: ({ source }) => source },
  { name: "x_Timestamp", isAlways: true, value: ({ timestamp }) => isoTime(timestamp) },
];

/** Tells whether a column is in a file. */
function isUsed({ fields, keys, filled, hasVirtualCurrency }: UsedColumns, options: FocusOptions) {
  const hasValues = ({ name, field, level }: FocusColumn) =>
    level === "M" ||
    (field !== undefined && (costEntries.positions.get(field)! < ALWAYS || fields.has(field))) ||
    keys.has(name) || (name === "InvoiceId" && options.invoiceId !== undefined) ||
    (name === "PricingCurrency" && hasVirtualCurrency);
  const used = new Set(FOCUS_COLUMNS.filter(hasValues).map(({ name }) => name));
  for (const name of ["ChargeFrequency", "ServiceSubcategory"]) used.add(name); // known of every cost
  for (const [name, partners] of Object.entries(PARTNERS)) {
    const isEmpty = keys.has(name) && !filled.has(name) && !fields.has(focusColumn(name)?.field ?? "");
    if (used.has(name) && !isEmpty) { for (const partner of partners) used.add(partner); }
  }
  return ({ name }: FocusColumn) => used.has(name);
}

/** The position of the first field that a cost may lack. */
const ALWAYS = costEntries.columns.findIndex(({ required }) => !required);

async function findUsedColumns(
  backend: Pick<Backend, "read" | "aggregate">,
  query: RecordQuery,
): Promise<UsedColumns> {
  const optional = costEntries.columns.filter(({ required }) => !required);
  const functions: Partial<Record<ColumnType, "sum" | "max">> = { decimal: "sum", timestamp: "max" };
  const measures = optional.map(({ field, type }): Measure => ({
    function: functions[type] ?? "count",
    field,
  }));
  const rows = await backend.aggregate(costEntries, query, { groupBy: [{ field: "currency" }], measures });
  const hasValue = (_: unknown, i: number) =>
    rows.some(({ values }) => values[i] !== null && values[i] !== 0);
  const fields = new Set(optional.filter(hasValue).map(({ field }) => field));
  const keys = new Set<string>();
  const filled = new Set<string>();
  if (fields.has("focus")) {
    for await (const page of backend.read(costEntries, query)) {
      for (const { focus } of page) for (const key in focus) (focus[key] === "" ? keys : filled).add(key);
    }
  }
  const hasVirtualCurrency = rows.some(({ group: [currency] }) => !isNationalCurrency(currency!));
  return { fields, keys: keys.union(filled), filled, hasVirtualCurrency };
}

/** A vendor's column that came in while the file was written would be lost. */
function assertKnown({ focus }: CostEntry, known: ReadonlySet<string>): void {
  for (const key in focus) {
    if (known.has(key) || focus[key] === "" || focusColumn(key)) continue;
    throw new TransferError(
      `Cannot export cost_entries: a cost with the new column ${key} was stored meanwhile. Run the export again.`,
      { code: "MISSING_COLUMN" },
    );
  }
}
