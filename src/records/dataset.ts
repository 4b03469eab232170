/**
 * Description of a dataset, as data, from which validation, tables, inserts, row decoding,
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
  /** True if each record has it, given or by default. */
  readonly required: boolean;
  /** Default value. */
  readonly default?: string;
  /** The only texts that are allowed. */
  readonly oneOf?: readonly string[];
  /** Returns what a text must be if it is invalid. */
  readonly fault?: (text: string) => string | undefined;
  /** The most UTF-16 code units that a text may have. */
  readonly maxLength: number;
  /** The field whose values keep sums of this one apart, such as the currency. */
  readonly per?: string;
  /** The least value of an integer. */
  readonly min: number;
  /** True if tables on a terminal show it. */
  readonly summary: boolean;
  /** The version of the schema that added it to a table that was there. A table of an older version lacks it. */
  readonly since: number;
  /** The value that an absent one stands for, in filters and groups. It is never stored. */
  readonly absent?: string;
}

/** The names of the datasets, which are also the names of their tables. */
export type DatasetName =
  | "system_metrics"
  | "service_metrics"
  | "device_metrics"
  | "usage_records"
  | "cost_entries"
  | "metric_points";

/** A kind of record and all that is known of it. */
export interface Dataset<T> {
  /** The name, also of the table. */
  readonly name: DatasetName;
  /** Name of a record in messages, such as "a cost entry". */
  readonly noun: string;
  /** The version of the schema that added the table; 1 where not given. */
  readonly since?: number;
  /** The field of money that totals are of, by currency; none where records have no such field. */
  readonly amount?: string;
  /** The columns, in the order of tables and files. */
  readonly columns: readonly Column[];
  /** The fields that identify a record; none where records have no identity. */
  readonly key: readonly string[];
  /** The fields of each index beside the key. */
  readonly indexes: readonly (readonly string[])[];
  /** The span of time that is kept and dropped together where a backend has partitions. */
  readonly partitionBy: "week" | "month";
  /** Age in days at which a cleanup deletes records that no retention is given for; Infinity for never. */
  readonly retentionDays: number;
  /** The days of records in one chunk, where a backend has chunks; a default. */
  readonly chunkDays: number;
  /** The fields by which records are sorted where they are stored in columns: what queries filter by, then time. */
  readonly sortBy: readonly string[];
  /** The fields by which roll-ups are grouped, beside time; none where it has no roll-ups. */
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
  /** The columns that are maps; derived. */
  readonly maps: readonly Column[];
  /** The columns of the first schema, which most records have; derived. */
  readonly usual: readonly Column[];
  /** The table, or a query in parentheses that stands in for it; derived. */
  readonly source: string;
  /** Only to bind the type; never set. */
  readonly _record?: T;
}

/** Options of a column beside field and type. */
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
    fault: options.fault,
    maxLength: options.maxLength ?? MAX_TEXT_LENGTH,
    per: options.per,
    min: options.min ?? -Infinity,
    summary: options.summary ?? false,
    since: options.since ?? 1,
    absent: options.absent,
  };
}

/** True if a database of this version of the schema has the table. */
export function hasTable({ since = 1 }: Dataset<unknown>, version: number): boolean {
  return since <= version;
}

/** The key of a record: its fields, separated by spaces. Different keys give different texts, as only the last is a text. */
export function keyOf({ key }: Dataset<unknown>, record: unknown): string {
  return key.map((field) => String((record as Record<string, unknown>)[field])).join(" ");
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

/** Parts of a dataset that are not derived. */
type Description<T> = Omit<
  Dataset<T>,
  "positions" | "required" | "sized" | "maps" | "usual" | "source" | "_record"
>;

/** A dataset from its description. */
export function defineDataset<T>(description: Description<T>): Dataset<T> {
  const { columns } = description;
  return {
    ...description,
    positions: new Map(columns.map(({ field }, position) => [field, position])),
    required: columns.filter(({ required }) => required),
    sized: columns.filter(({ type }) => ["text", "decimal", "map"].includes(type)),
    maps: columns.filter(({ type }) => type === "map"),
    usual: columns.filter(({ since }) => since === 1),
    source: description.name,
  };
}

/** Views of datasets by their added columns. They are few: the columns of a vendor's files are the same each time. */
const views = new WeakMap<Dataset<unknown>, Map<string, Dataset<unknown>>>();
const MAX_VIEWS = 64;

/**
 * The dataset with the usual columns and those added ones that the records have. Inserts then name no column that all
 * of them lack. The same columns give the same object.
 */
export function narrow<T>(dataset: Dataset<T>, records: readonly unknown[]): Dataset<T> {
  const { columns, usual } = dataset;
  if (usual.length === columns.length) return dataset;
  const isUsed = columns.map(({ since }) => since === 1);
  for (const record of records) {
    let position = -1;
    for (const field in record as object) isUsed[position = positionOf(dataset, field, position + 1)] = true;
  }
  return narrowTo(dataset, columns.filter((_, i) => isUsed[i]).map(({ field }) => field));
}

/** The dataset with only the columns of these fields. */
export function narrowTo<T>(dataset: Dataset<T>, fields: readonly string[]): Dataset<T> {
  if (fields.length === dataset.columns.length) return dataset;
  let known = views.get(dataset);
  if (!known) views.set(dataset, known = new Map());
  const name = fields.join();
  let view = known.get(name);
  if (!view) {
    if (known.size >= MAX_VIEWS) known.clear();
    const kept = new Set(fields);
    view = defineDataset({ ...dataset, columns: dataset.columns.filter(({ field }) => kept.has(field)) });
    known.set(name, view);
  }
  return view as Dataset<T>;
}

/** The keys of the last map that was not sorted, and the same sorted: nearly all records have the same. */
let lastKeys: readonly string[] = [];
let lastSorted: readonly string[] = [];

/**
 * Returns a map with its keys in the order of their code units; the map itself where they are. Every backend stores and
 * reads maps in that order.
 */
export function withSortedKeys(map: Record<string, string>): Record<string, string> {
  let previous = "";
  let isSorted = true;
  let count = 0;
  let known = 0;
  for (const key in map) {
    if (key < previous) isSorted = false;
    if (key === lastKeys[count++]) known++;
    previous = key;
  }
  if (isSorted) return map;
  if (known !== count || count !== lastKeys.length) {
    lastKeys = Object.keys(map);
    lastSorted = lastKeys.toSorted();
  }
  const sorted: Record<string, string> = {};
  for (const key of lastSorted) {
    // An assignment to this key would set the prototype.
    if (key === "__proto__") return Object.fromEntries(lastSorted.map((key) => [key, map[key]]));
    sorted[key] = map[key];
  }
  return sorted;
}

/** A copy that can be given away: what is kept must not be changed from outside. */
export function copyRecord<T>(dataset: Dataset<T>, record: T): T {
  const copy = { ...record } as Record<string, unknown>;
  for (const { field } of dataset.maps) {
    if (copy[field] !== undefined) copy[field] = { ...copy[field] as object };
  }
  return copy as T;
}

/** The bytes that an entry of a map takes beside its texts. */
const MAP_ENTRY_BYTES = 32;
/** More columns of varying size than these are rarely all there: their values are found faster through the record. */
const MANY_SIZED = 10;

/** Estimates the bytes of a record, for the bounds of buffers and batches: one for each UTF-16 code unit of a text. */
export function byteLength(dataset: Dataset<unknown>, record: unknown): number {
  const values = record as Record<string, unknown>;
  let bytes = 8 * dataset.usual.length;
  if (dataset.sized.length > MANY_SIZED) {
    for (const field in values) bytes += 8 + varyingLength(values[field]);
  } else for (const { field } of dataset.sized) bytes += varyingLength(values[field]);
  return bytes;
}

function varyingLength(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object") return 0;
  let length = 0;
  const map = value as Record<string, string>;
  for (const key in map) length += MAP_ENTRY_BYTES + key.length + map[key].length;
  return length;
}
