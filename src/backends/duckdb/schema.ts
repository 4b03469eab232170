import type { Column, ColumnType, Dataset } from "../../records/dataset.ts";
import type { DocumentDialect } from "../sql/documents.ts";
import type { SchemaForm } from "../sql/schema.ts";
import { literal, type SqlDialect } from "../sql/select.ts";

/** The schema that this program reads and writes. Its number is that of the other backends. */
export const SCHEMA_VERSION = 6;
/** The oldest schema version whose programs may write into this one. */
export const WRITABLE_FROM = 5;

/** Tables that identify a database of OpenFinOps. */
export const TABLES: readonly string[] = ["schema_version", "ledger", "live_documents", "requests"];

/**
 * The statements that lead to each schema version from the one before, beside the tables and columns of datasets. Tables have
 * no unique keys: with them an ingest takes four times as long and six times the disk (measured). All writes go through one
 * process, one after the other, and look keys up first.
 */
const UPGRADES: Readonly<Record<number, readonly string[]>> = {
  5: [
    "CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL, writable_from INTEGER NOT NULL)",
    "CREATE TABLE ledger (batch_id VARCHAR NOT NULL, dataset VARCHAR NOT NULL, committed BIGINT NOT NULL, " +
    "duplicates BIGINT NOT NULL, restated BIGINT NOT NULL, committed_at TIMESTAMP NOT NULL)",
    "CREATE TABLE live_documents (kind VARCHAR NOT NULL, id VARCHAR NOT NULL, body VARCHAR NOT NULL, " +
    "updated_at TIMESTAMP NOT NULL)",
    "CREATE TABLE requests (request_id VARCHAR NOT NULL, dataset VARCHAR NOT NULL, ranges VARCHAR NOT NULL, " +
    "stored_at TIMESTAMP NOT NULL)",
  ],
};

/** Types of columns: in SQL, and by their number in the driver. */
export const TYPES: Readonly<Record<ColumnType, { readonly sql: string; readonly id: number }>> = {
  timestamp: { sql: "TIMESTAMP", id: 12 }, // UTC
  text: { sql: "VARCHAR", id: 17 },
  real: { sql: "DOUBLE", id: 11 },
  integer: { sql: "BIGINT", id: 5 },
  boolean: { sql: "BOOLEAN", id: 1 },
  decimal: { sql: "DECIMAL(38,18)", id: 19 },
  map: { sql: "MAP(VARCHAR, VARCHAR)", id: 26 },
};

/** The form of tables. */
export const FORM: SchemaForm = {
  steps: UPGRADES,
  createTable: (dataset) => [createTable(dataset.name, dataset)],
  addColumns: ({ name }, columns) =>
    columns.map((column) => `ALTER TABLE ${name} ADD COLUMN ${column.name} ${TYPES[column.type].sql}`),
};

/** The statement that creates a table for records of a dataset. */
export function createTable(table: string, { columns }: Dataset<unknown>): string {
  const definitions = columns.map(({ name, type, required }) =>
    `${name} ${TYPES[type].sql}${required ? " NOT NULL" : ""}`
  );
  return `CREATE TABLE ${table} (${definitions.join(", ")})`;
}

/** Columns as they are read. */
export const READABLE = {
  names: ({ name }: Column) => [name],
  nullOf: ({ type }: Column) => `NULL::${TYPES[type].sql}`,
  hasRowid: true,
};

/** Current time in UTC, as SQL. */
export const NOW = "epoch_ms(epoch_ms(now()))";

/** Writes a time as SQL. */
export function timeLiteral(ms: number): string {
  return `epoch_ms(${ms})`;
}

/** SQL of documents. */
export const DOCUMENTS: DocumentDialect = {
  isUnkeyed: true,
  now: () => NOW,
  hasRevision: (revision) => `(body ->> '$.revision') = '${revision}'`,
};

/** SQL of queries. */
export const DIALECT: SqlDialect = {
  value: (value) => typeof value === "number" ? timeLiteral(value) : literal(value),
  hasEntry: (column, key, value) => `${column}[${key}] = ${value}`,
  entry: (column, key) => `${column}[${literal(key)}]`,
  compareDecimal: (column, operator, amount) => `${column} ${operator} ${literal(amount)}::DECIMAL(38,18)`,
  boolean: String,
  epochMs: (time) => `epoch_ms(${time})`,
  asText: (expression) => `(${expression})::VARCHAR`,
};
