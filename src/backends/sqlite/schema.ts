import {
  type Column,
  columnOf,
  type ColumnType,
  type Dataset,
  hasTable,
  withSortedKeys,
} from "../../records/dataset.ts";
import { recordBuilder } from "../../records/record_builder.ts";
import { DATASETS } from "../../records/datasets.ts";
import { Decimal, splitAmount } from "../../records/decimal.ts";
import type { DocumentDialect } from "../sql/documents.ts";
import { upgradesFrom as upgrades } from "../sql/schema.ts";
import type { SqliteValue } from "./driver.ts";

/** The schema that this program reads and writes. */
export const SCHEMA_VERSION = 6;
/**
 * The oldest schema version whose programs may write into this one. Versions that only add tables, and columns that
 * may be null, keep it, so that programs of several releases share a file.
 */
export const WRITABLE_FROM = 1;

/** The tables of schema version 1, by which a database is known to be ours. */
export const TABLES: readonly string[] = [
  "schema_version",
  "ledger",
  ...Object.values(DATASETS).filter((dataset) => hasTable(dataset, 1)).map(({ name }) => name),
];

/** The statements that lead to each schema version from the one before, beside the tables and columns of datasets. */
const UPGRADES: Readonly<Record<number, readonly string[]>> = {
  1: [
    "CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at INTEGER NOT NULL)",
    "CREATE TABLE ledger (batch_id TEXT PRIMARY KEY, dataset TEXT NOT NULL, " +
    "committed INTEGER NOT NULL, duplicates INTEGER NOT NULL, restated INTEGER NOT NULL, " +
    "committed_at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX ledger_committed_at ON ledger (committed_at)",
  ],
  2: [
    "CREATE TABLE live_documents (kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, " +
    "updated_at INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID",
  ],
  3: ["ALTER TABLE schema_version ADD COLUMN writable_from INTEGER"],
  5: [
    "CREATE TABLE requests (request_id TEXT NOT NULL, dataset TEXT NOT NULL, ranges TEXT NOT NULL, " +
    "stored_at INTEGER NOT NULL, PRIMARY KEY (request_id, dataset)) WITHOUT ROWID",
    "CREATE INDEX requests_stored_at ON requests (stored_at)",
  ],
};

/** The statements that lead from a schema version, 0 for an empty database, to that of this program. */
export function upgradesFrom(version: number): string[] {
  return upgrades(version, {
    steps: UPGRADES,
    createTable,
    addColumns: ({ name }, columns) =>
      columns.flatMap(definitionsOf).map((column) => `ALTER TABLE ${name} ADD COLUMN ${column}`),
  });
}

/** A column as `CREATE TABLE` has it: a decimal takes two. */
function definitionsOf({ name, type, required }: Column): string[] {
  return STORAGE[type].columns.map((stored) =>
    `${name}${stored.suffix} ${stored.type}${required ? " NOT NULL" : ""}`
  );
}

/** Columns as they are read. */
export const READABLE = { names: namesOf, nullOf: () => "NULL", hasRowid: true };

/** SQL of documents. */
export const DOCUMENTS: DocumentDialect = {
  parameter: "?",
  now: () => String(Date.now()),
  hasRevision: (revision) => `json_extract(body, '$.revision') = ${revision}`,
};

/** A column of a table. */
export interface StoredColumn {
  readonly suffix: string;
  readonly type: string;
  /** True if it is bound as a number; otherwise as a text, which SQLite converts to the column's type. */
  readonly isNumber: boolean;
  /** Gives what is handed over; none where it is the value. */
  readonly encode?: (value: unknown) => number | string;
}

/** Storage of a column of a record in columns of a table. Values are never absent here. */
interface Storage {
  readonly columns: readonly StoredColumn[];
  /** Reads the value from the row, at the position of its first column; none where it is the value. */
  readonly decode?: (row: readonly SqliteValue[], at: number) => unknown;
}

/** A value in one column. */
function plain(type: string, encode?: StoredColumn["encode"]): Storage {
  return { columns: [{ suffix: "", type, isNumber: type !== "TEXT", encode }] };
}

const STORAGE: Record<ColumnType, Storage> = {
  timestamp: plain("INTEGER"),
  text: plain("TEXT"),
  real: plain("REAL"),
  integer: plain("INTEGER"),
  boolean: {
    ...plain("INTEGER", (value) => value ? 1 : 0),
    decode: (row, at) => row[at] !== 0,
  },
  map: {
    ...plain("TEXT", JSON.stringify),
    decode: (row, at) => withSortedKeys(JSON.parse(row[at] as string)),
  },
  // Two integers, so that sums are exact: whole units, and the rest in units of 10⁻¹⁸ with the same sign. As texts, as
  // they may pass 2⁵³.
  decimal: {
    columns: [
      {
        suffix: "_units",
        type: "INTEGER",
        isNumber: false,
        encode: (amount) => splitAmount(amount as string)[0],
      },
      {
        suffix: "_parts",
        type: "INTEGER",
        isNumber: false,
        encode: (amount) => splitAmount(amount as string)[1],
      },
    ],
    decode: (row, at) =>
      Decimal.fromParts(BigInt(row[at] as string), BigInt(row[at + 1] as string)).toString(),
  },
};

/** The statements that create the table of a dataset and its indexes. */
function createTable(dataset: Dataset<unknown>): string[] {
  const columns = dataset.columns.flatMap(definitionsOf);
  if (dataset.key.length > 0) columns.push(`UNIQUE (${columnNames(dataset, dataset.key)})`);
  const indexes = dataset.indexes.map((fields) => {
    const names = columnNames(dataset, fields);
    const index = `${dataset.name}_${names.replaceAll(", ", "_")}`;
    return `CREATE INDEX ${index} ON ${dataset.name} (${names})`;
  });
  return [`CREATE TABLE ${dataset.name} (\n  ${columns.join(",\n  ")}\n)`, ...indexes];
}

/** The statement that inserts one record; a record whose key exists changes nothing. */
export function insertStatement(dataset: Dataset<unknown>): string {
  const names = storedNames(dataset);
  const values = names.map(() => "?").join(", ");
  const conflict = dataset.key.length > 0 ? " ON CONFLICT DO NOTHING" : "";
  return `INSERT INTO ${dataset.name} (${names.join(", ")}) VALUES (${values})${conflict}`;
}

/** The statement that writes a record over the one that has its key. Columns that it does not name become null. */
export function restateStatement(dataset: Dataset<unknown>): string {
  const set = storedNames(DATASETS[dataset.name]).map((name) => `${name} = excluded.${name}`).join(", ");
  const key = columnNames(dataset, dataset.key);
  return insertStatement(dataset).replace("DO NOTHING", `(${key}) DO UPDATE SET ${set}`);
}

/**
 * The columns as they are selected. Halves of a decimal come as text: they may pass 2⁵³. Added columns come together as
 * one JSON array, or null for a record without any: most records have none, and 33 nulls take as long as the rest of it.
 */
export function selectList(dataset: Dataset<unknown>): string {
  const { alone, packed } = layoutOf(dataset);
  const select = (columns: readonly Column[]) =>
    columns.flatMap(({ name, type }) =>
      STORAGE[type].columns.map(({ suffix }) => type === "decimal" ? `CAST(${name}${suffix} AS TEXT)` : name)
    );
  if (packed.length === 0) return select(alone).join(", ");
  const stored = packed.map(({ name, type }) => name + STORAGE[type].columns[0].suffix);
  const array = `CASE WHEN coalesce(${stored.join(", ")}) IS NOT NULL THEN json_array(${
    select(packed).join(", ")
  }) END`;
  return [...select(alone), array].join(", ");
}

/** The columns that are selected each by itself, and those that come together. JSON may round a real. */
function layoutOf({ columns }: Dataset<unknown>): { alone: readonly Column[]; packed: readonly Column[] } {
  const isPacked = ({ since, type }: Column) => since > 1 && type !== "real";
  const packed = columns.filter(isPacked);
  return packed.length < 2
    ? { alone: columns, packed: [] }
    : { alone: columns.filter((column) => !isPacked(column)), packed };
}

/** The columns of the table in which each column of a dataset is kept. */
export function storedColumns(dataset: Dataset<unknown>): (readonly StoredColumn[])[] {
  return dataset.columns.map(({ type }) => STORAGE[type].columns);
}

/** Makes the function that reads the records of a page of selected rows. */
export function rowsDecoder<T>(dataset: Dataset<T>): (rows: readonly SqliteValue[][]) => T[] {
  const { alone, packed } = layoutOf(dataset);
  const values: unknown[] = dataset.columns.map(() => undefined);
  const decodeAlone = columnsDecoder(dataset, alone, values);
  const decodePacked = columnsDecoder(dataset, packed, values);
  const packedAt = alone.reduce((sum, { type }) => sum + STORAGE[type].columns.length, 0);
  const none: SqliteValue[] = packed.flatMap(({ type }) => STORAGE[type].columns.map(() => null));
  const build = recordBuilder(dataset);
  let isClear = true;
  return (rows) =>
    rows.map((row) => {
      decodeAlone(row);
      const rest = packed.length === 0 ? null : row[packedAt];
      if (rest !== null) decodePacked(JSON.parse(rest as string));
      else if (!isClear) decodePacked(none);
      isClear = rest === null;
      return build(values);
    });
}

/** Makes the function that reads some columns from a row that has only these, into the values of a record. */
function columnsDecoder(
  dataset: Dataset<unknown>,
  columns: readonly Column[],
  values: unknown[],
): (row: readonly SqliteValue[]) => void {
  let next = 0;
  const plan = columns.map(({ field, type }) => {
    const start = next;
    next += STORAGE[type].columns.length; // a decimal takes two columns of the table
    return { start, decode: STORAGE[type].decode, position: dataset.positions.get(field)! };
  });
  return (row) => {
    for (const { start, decode, position } of plan) {
      const value = row[start];
      values[position] = value === null ? undefined : decode ? decode(row, start) : value;
    }
  };
}

/** Names of the columns of the table. */
export function storedNames(dataset: Dataset<unknown>): string[] {
  return dataset.columns.flatMap(namesOf);
}

function namesOf({ name, type }: Column): string[] {
  return STORAGE[type].columns.map(({ suffix }) => name + suffix);
}

function columnNames(dataset: Dataset<unknown>, fields: readonly string[]): string {
  return fields.map((field) => columnOf(dataset, field).name).join(", ");
}
