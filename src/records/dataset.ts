/**
 * What a dataset is: one description, as data, from which validation, tables, inserts, row decoding,
 * CSV headers and the columns of the command line are all derived.
 *
 * @module
 */

/** The kinds of value a column can hold. */
export type ColumnType =
  | "timestamp" // epoch milliseconds
  | "text"
  | "real"
  | "integer"
  | "boolean"
  | "decimal" // exact money, a canonical decimal string
  | "map"; // string keys and string values

/** One column of a dataset. */
export interface Column {
  /** The name in records, camelCase. */
  readonly field: string;
  /** The name in tables, snake_case. */
  readonly name: string;
  /** The kind of value. */
  readonly type: ColumnType;
  /** Whether each record has it, either given or by its default. */
  readonly required: boolean;
  /** What a record gets that does not give it. */
  readonly default?: string;
  /** The only texts that are allowed. */
  readonly oneOf?: readonly string[];
  /** What a text must be instead, or nothing where it is right. */
  readonly wants?: (text: string) => string | undefined;
  /** The most UTF-16 code units that a text may have. */
  readonly maxLength: number;
  /** Whether a table on a terminal shows it. */
  readonly summary: boolean;
}

/** The names of the datasets, which are also the names of their tables. */
export type DatasetName = "system_metrics" | "service_metrics" | "cost_entries";

/** A kind of record and all that is known of it. */
export interface Dataset<T> {
  /** The name, also of the table. */
  readonly name: DatasetName;
  /** How messages call a record of it, as in "a cost entry". */
  readonly noun: string;
  /** The columns, in the order of tables and files. */
  readonly columns: readonly Column[];
  /** The fields that identify a record; none where records have no identity. */
  readonly key: readonly string[];
  /** The fields of each index beside the key. */
  readonly indexes: readonly (readonly string[])[];
  /** The span of time that is kept and dropped together where a backend has partitions. */
  readonly partitionBy: "week" | "month";
  /** The days of records in one chunk, where a backend has chunks; a default. */
  readonly chunkDays: number;
  /** The fields by which records are sorted where they are stored in columns: what queries filter by, then time. */
  readonly sortBy: readonly string[];
  /** The fields by which roll-ups are grouped, beside time. */
  readonly rollUpBy: readonly string[];
  /** The text fields that queries filter by. */
  readonly filters: readonly string[];
  /** The fields of which each combination is counted by itself when two databases are compared. */
  readonly groups: readonly string[];
  /** The map field that queries filter by, if any. */
  readonly mapFilter?: string;
  /** The position of each field in the columns; derived. */
  readonly positions: ReadonlyMap<string, number>;
  /** The columns that each record has; derived. */
  readonly required: readonly Column[];
  /** The columns whose values differ in size; derived. */
  readonly sized: readonly Column[];
  /** Only to bind the type; never set. */
  readonly _record?: T;
}

/** What may be said of a column beside its field and type. */
type ColumnOptions = Partial<Omit<Column, "field" | "name" | "type">>;

const MAX_TEXT_LENGTH = 65_536;

/** Describes a column; its table name follows from the field. */
export function column(type: ColumnType, field: string, options: ColumnOptions = {}): Column {
  // Every field is named, so that all columns have one hidden class: validation reads them in a hot loop.
  return {
    field,
    name: field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    type,
    required: options.required ?? options.default !== undefined,
    default: options.default,
    oneOf: options.oneOf,
    wants: options.wants,
    maxLength: options.maxLength ?? MAX_TEXT_LENGTH,
    summary: options.summary ?? false,
  };
}

/** The column of a dataset that has this field. */
export function columnOf(dataset: Dataset<unknown>, field: string): Column {
  const found = dataset.columns.find((column) => column.field === field);
  if (!found) throw new Error(`${dataset.name} has no field ${field}`);
  return found;
}

/**
 * The position of a field in the columns, or -1. Records mostly have their fields in the order of the columns,
 * so a loop over a record hands in where the field is expected, and saves a look-up.
 */
export function positionOf(dataset: Dataset<unknown>, field: string, expected: number): number {
  if (dataset.columns[expected]?.field === field) return expected;
  return dataset.positions.get(field) ?? -1;
}

/** What of a dataset is not derived. */
type Description<T> = Omit<Dataset<T>, "positions" | "required" | "sized" | "_record">;

/** A dataset from its description. */
export function defineDataset<T>(description: Description<T>): Dataset<T> {
  const { columns } = description;
  return {
    ...description,
    positions: new Map(columns.map(({ field }, position) => [field, position])),
    required: columns.filter(({ required }) => required),
    sized: columns.filter(({ type }) => ["text", "decimal", "map"].includes(type)),
  };
}

/** A copy that can be given away: what is kept must not be changed from outside. */
export function copyRecord<T>(dataset: Dataset<T>, record: T): T {
  const copy = { ...record } as Record<string, unknown>;
  for (const { field, type } of dataset.sized) {
    if (type === "map" && copy[field] !== undefined) copy[field] = { ...copy[field] as object };
  }
  return copy as T;
}

/** The bytes that an entry of a map takes beside its texts. */
const MAP_ENTRY_BYTES = 32;

/** Estimates the bytes of a record, for the bounds of buffers and batches: one for each UTF-16 code unit of a text. */
export function byteLength(dataset: Dataset<unknown>, record: unknown): number {
  const values = record as Record<string, unknown>;
  let bytes = 8 * dataset.columns.length;
  for (const { field } of dataset.sized) {
    const value = values[field] as string | Record<string, string> | undefined;
    if (typeof value === "string") bytes += value.length;
    else for (const key in value) bytes += MAP_ENTRY_BYTES + key.length + value[key].length;
  }
  return bytes;
}
