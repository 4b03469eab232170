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
  /** The text fields that queries filter by. */
  readonly filters: readonly string[];
  /** The map field that queries filter by, if any. */
  readonly mapFilter?: string;
  /** Only to bind the type; never set. */
  readonly _record?: T;
}

/** What may be said of a column beside its field and type. */
type ColumnOptions = Partial<Omit<Column, "field" | "name" | "type">>;

const MAX_TEXT_LENGTH = 65_536;

/** Describes a column; its table name follows from the field. */
export function column(type: ColumnType, field: string, options: ColumnOptions = {}): Column {
  return {
    field,
    name: field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    type,
    required: options.default !== undefined,
    maxLength: MAX_TEXT_LENGTH,
    summary: false,
    ...options,
  };
}

/** The column of a dataset that has this field. */
export function columnOf(dataset: Dataset<unknown>, field: string): Column {
  const found = dataset.columns.find((column) => column.field === field);
  if (!found) throw new Error(`${dataset.name} has no field ${field}`);
  return found;
}

/** About how many bytes a record takes, for the bounds of buffers and batches. */
export function byteLength(dataset: Dataset<unknown>, record: unknown): number {
  const values = record as Record<string, unknown>;
  let bytes = 0;
  for (const { field, type } of dataset.columns) {
    if (type === "text" || type === "decimal") {
      bytes += (values[field] as string | undefined)?.length ?? 0;
    } else if (type === "map") {
      const map = values[field] as Record<string, string> | undefined;
      for (const key in map) bytes += key.length + map[key].length;
    } else bytes += 8;
  }
  return bytes;
}
