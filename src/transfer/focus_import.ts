/**
 * Import of FOCUS 1.0 to 1.4: typed columns become fields, all others stand in `focus`, and so does each value that an
 * export would not give back from the fields.
 *
 * @module
 */
import type { CostEntry } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { ValidationError } from "../errors.ts";
import { focusCell, hasFewDigits, isSameValue } from "./focus_cells.ts";
import {
  FOCUS_COLUMNS,
  FOCUS_VERSIONS,
  type FocusColumn,
  focusColumn,
  type FocusVersion,
  focusVersionOf,
} from "./focus_columns.ts";
import { type FieldPlan, memoize } from "./field_plan.ts";
import type { Cell, Locate, Row } from "./locate.ts";
import type { Source } from "./sources.ts";
import { isoTime, READERS } from "./values.ts";

/** The text that some files write for null. Quoted, it is a text. */
export const FOCUS_NULL = "NULL";

/** True if a cell is null: empty, or the word that stands for null in a column that holds no texts. */
function isNull(value: unknown, column: FocusColumn | undefined): boolean {
  return value === null || value === undefined || value === "" ||
    (value === FOCUS_NULL && column !== undefined && column.type !== "text");
}

/** Column of our own exports that names the columns of a row that were filled in. */
export const ASSUMED = "x_Assumed";
/** Columns of our own exports, which hold what FOCUS has no column for. */
const OWN: ReadonlySet<string> = new Set(
  `x_EntryId x_Timestamp x_Category x_BillingPeriod x_Basis x_Source x_Currency ${ASSUMED}`.split(" "),
);

/** Columns that later versions replaced: kept by name, even if an export would derive them. */
const KEPT: ReadonlySet<string> = new Set(["ProviderName", "PublisherName"]);

/** Columns whose field an export adjusts. */
const ADJUSTED: ReadonlySet<string> = new Set(["BilledCost", "ChargePeriodStart", "ChargePeriodEnd"]);
/** Options of an import of a FOCUS file. */
export interface FocusImportOptions {
  readonly costColumn?: string;
  /** The version, if the columns do not identify it. */
  readonly focusVersion?: FocusVersion;
  /** The column of ids, if one is named. */
  readonly idColumn?: string;
  /** Fields that the import sets where the file has no value. */
  readonly set?: Readonly<Record<string, string>>;
  /** The fields that are taken from another column. */
  readonly map?: Readonly<Record<string, string>>;
  /** Finds the columns of the file. */
  readonly locate: Locate;
}

const NOTHING: ReadonlySet<string> = new Set();

interface FocusFileColumn {
  readonly name: string;
  readonly column: FocusColumn | undefined;
  /** True if a field holds it without a change. */
  readonly isDirect: boolean;
  /** True if the import sets its field where it has no value. */
  readonly isSet: boolean;
  readonly cell: Cell;
}

/** Reads the rows of one file. */
export class FocusReader {
  readonly version: FocusVersion;
  /** The fields of a cost and the columns that each is taken from, the first that has a value. */
  readonly plan: readonly FieldPlan[];
  readonly #isOwnExport: boolean;
  readonly #columns: readonly FocusFileColumn[];
  readonly #assumed: Cell | undefined;
  readonly #ownCurrency: Cell | undefined;
  readonly #allocated: Cell | undefined;

  constructor(names: readonly string[], options: FocusImportOptions) {
    const { costColumn = "BilledCost", focusVersion, idColumn, set = {}, map = {}, locate } = options;
    this.version = focusVersion ?? focusVersionOf(names);
    this.#isOwnExport = names.includes("x_EntryId");
    this.#assumed = this.#isOwnExport ? locate(ASSUMED) : undefined;
    this.#ownCurrency = this.#isOwnExport ? locate("x_Currency") : undefined;
    this.#allocated = idColumn === undefined ? undefined : locate("AllocatedResourceId");
    const isUnmapped = (name: string) => name !== "ResourceId" && !(this.#isOwnExport && OWN.has(name));
    // ResourceId comes first: whether there is a resource decides on the columns that describe it.
    const resource = names.filter((name) => name === "ResourceId");
    this.plan = this.#makePlan(costColumn);
    const direct = new Set(
      this.plan.filter(({ sources }) => sources.length === 1).map(({ sources }) => sources[0][0].names[0]),
    );
    this.#columns = [...resource, ...names.filter(isUnmapped)].map((name) => {
      const column = focusColumn(name, this.version);
      const isExact = column?.type === "decimal" || column?.type === "timestamp";
      const isDirect = isExact && !ADJUSTED.has(name) && direct.has(name) &&
        !Object.hasOwn(map, column.field!);
      return { name, column, isDirect, isSet: Object.hasOwn(set, column?.field ?? ""), cell: locate(name)! };
    });
  }

  #makePlan(costColumn: string): FieldPlan[] {
    const readers = { ...READERS, timestamp: memoize(READERS.timestamp), decimal: readDecimal };
    const source = (name: string, read = READERS.text) => [this.#source(name), read] as const;
    const own = (name: string, read = READERS.text) => this.#isOwnExport ? [source(name, read)] : [];
    const text = (...names: string[]) => names.map((name) => source(name));
    const sources: Record<string, FieldPlan["sources"]> = {
      entryId: own("x_EntryId"),
      timestamp: [...own("x_Timestamp", readers.timestamp), source("ChargePeriodStart", readers.timestamp)],
      resourceId: text("ResourceId"),
      category: [...own("x_Category"), ...text("ServiceCategory", "ServiceName")],
      amount: [source(costColumn, readDecimal)],
      currency: [...own("x_Currency"), ...text("BillingCurrency")],
      serviceProviderName: text("ServiceProviderName", "ProviderName"),
      billingPeriod: [...own("x_BillingPeriod"), source("BillingPeriodStart", memoize(readPeriod))],
      basis: own("x_Basis"),
      source: own("x_Source"),
    };
    const typed = FOCUS_COLUMNS.flatMap(({ name, type, field }): FieldPlan[] =>
      field === undefined || sources[field] || focusColumn(name, this.version) === undefined
        ? []
        : [{ field, sources: [source(name, readers[type])] }]
    );
    return [...Object.entries(sources).map(([field, sources]) => ({ field, sources })), ...typed];
  }

  /** The source of a column as the plan reads it: without nulls, and without values that an export had filled in. */
  #source(name: string): Source {
    const column = focusColumn(name);
    return {
      names: [name],
      bind: (locate) => {
        const cell = locate(name);
        if (!cell) return undefined;
        const withoutNull: Cell = (row) => {
          const value = cell(row);
          return isNull(value, column) ? undefined : value;
        };
        if (!this.#isOwnExport) return withoutNull;
        const virtual = name === "BilledCost" ? locate("PricingCurrencyEffectiveCost") : undefined;
        return (row) => {
          if (this.#assumedIn(row).has(name)) return undefined;
          return virtual && !isNull(this.#ownCurrency?.(row), undefined) ? virtual(row) : withoutNull(row);
        };
      },
    };
  }

  #assumedIn(row: Row): ReadonlySet<string> {
    const names = this.#assumed?.(row);
    return typeof names === "string" ? new Set(names.split(" ")) : NOTHING;
  }

  /** Completes the input for a cost: `focus` gets what an export would not give back from the other fields. */
  complete(input: Record<string, unknown>, row: Row): void {
    const { resourceId, category } = input;
    if (resourceId === undefined || category === undefined) return; // validation refuses it
    const assumed = this.#assumedIn(row);
    const focus: Record<string, string> = { ...input.focus as object };
    const entry = { ...input, focus } as unknown as CostEntry;
    for (const { name, column, isDirect, isSet, cell } of this.#columns) {
      if (assumed.has(name)) continue;
      const value = cell(row);
      if (isSet && isNull(value, column)) continue;
      const text = isNull(value, column) ? undefined : value as string;
      // What the field was read from needs no comparison, if the field holds all of its digits.
      if (isDirect && text !== undefined && hasFewDigits(column!.type, text)) continue;
      let derived: string | undefined;
      try {
        derived = column && deriveCell(column, entry);
      } catch {
        return; // a field that is no decimal or time: validation refuses the record, with a reason
      }
      const isKept = text !== undefined && KEPT.has(name);
      if (!isKept && isSameValue(column?.type ?? "text", derived, text)) continue;
      focus[name] = text ?? "";
    }
    if (Object.keys(focus).length > 0) input.focus = focus;
    const allocated = this.#allocated?.(row);
    // Parts of a split cost have one id in the bill.
    if (!isNull(allocated, undefined)) input.entryId += `/${allocated}`;
  }

  /** The columns that are null in a row and that the record does not name. */
  absentIn(row: Row, record: unknown): string[] {
    const { focus = {} } = record as CostEntry;
    if (this.#isOwnExport && Object.keys(focus).length === 0) return []; // a cost that no bill brought
    return this.#columns.filter(({ name, column, cell }) =>
      column?.level !== "M" && isNull(cell(row), column) && !Object.hasOwn(focus, name)
    ).map(({ name }) => name);
  }
}

function deriveCell(column: FocusColumn, entry: CostEntry): string | undefined {
  try {
    return focusCell(column, entry, {}).text;
  } catch {
    return undefined; // a field that validation refuses
  }
}

/** Reads a decimal in its canonical form; what is none is left to validation to refuse. */
function readDecimal(value: unknown): unknown {
  try {
    return Decimal.from(value as string).toString();
  } catch {
    return value;
  }
}

/** Names a billing period that begins with a month by the month. */
function readPeriod(value: unknown): unknown {
  const start = READERS.timestamp(value) as number;
  const iso = isoTime(start);
  return iso.endsWith("-01T00:00:00.000Z") ? iso.slice(0, 7) : iso.slice(0, 10);
}

/** Reads the name of a version. */
export function acceptFocusVersion(subject: string, version: string | undefined): FocusVersion | undefined {
  if (version === undefined || FOCUS_VERSIONS.includes(version as FocusVersion)) {
    return version as FocusVersion | undefined;
  }
  const expected = `one of ${FOCUS_VERSIONS.join(", ")}`;
  throw new ValidationError({ subject, field: "focusVersion", value: version, expected });
}
