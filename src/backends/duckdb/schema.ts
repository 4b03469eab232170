import { columnOf, type ColumnType, type Dataset, hasTable } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { literal, type SelectDialect } from "../sql/select.ts";

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

/** The statements that lead from a schema version, 0 for an empty database, to that of this program. */
export function upgradesFrom(version: number): string[] {
  const steps = Object.entries(UPGRADES).flatMap(([to, steps]) => Number(to) > version ? steps : []);
  const datasets = Object.values(DATASETS).flatMap((dataset: Dataset<unknown>) =>
    version > 0 && hasTable(dataset, version)
      ? addedColumns(dataset, version)
      : createTable(dataset.name, dataset)
  );
  return [
    ...steps,
    ...datasets,
    `INSERT INTO schema_version VALUES (${SCHEMA_VERSION}, ${NOW}, ${WRITABLE_FROM})`,
  ];
}

function addedColumns({ name, columns }: Dataset<unknown>, version: number): string[] {
  return columns.filter(({ since }) => since > version)
    .map((column) => `ALTER TABLE ${name} ADD COLUMN ${column.name} ${TYPES[column.type].sql}`);
}

/** The statement that creates a table for records of a dataset. */
export function createTable(table: string, { columns }: Dataset<unknown>): string {
  const definitions = columns.map(({ name, type, required }) =>
    `${name} ${TYPES[type].sql}${required ? " NOT NULL" : ""}`
  );
  return `CREATE TABLE ${table} (${definitions.join(", ")})`;
}

/** The dataset as a database of an older schema version can be read: the columns that it lacks are null. */
export function readableFrom<T>(dataset: Dataset<T>, version: number): Dataset<T> {
  if (version >= SCHEMA_VERSION) return dataset;
  const hasRows = hasTable(dataset, version);
  const columns = dataset.columns.map(({ name, type, since }) =>
    hasRows && since <= version ? name : `NULL::${TYPES[type].sql} AS ${name}`
  );
  const from = hasRows ? `, rowid FROM ${dataset.name}` : ", 0 AS rowid WHERE false";
  return { ...dataset, source: `(SELECT ${columns.join(", ")}${from})` };
}

/** The column beside time that orders records of one time. */
export function tieBreaker(dataset: Dataset<unknown>): string {
  const field = dataset.key.find((field) => field !== "timestamp");
  return field === undefined ? "rowid" : columnOf(dataset, field).name;
}

/** Current time in UTC, as SQL. */
export const NOW = "epoch_ms(epoch_ms(now()))";

/** Writes a time as SQL. */
export function timeLiteral(ms: number): string {
  return `epoch_ms(${ms})`;
}

/** Reads the entry of a map; null where it has none. */
export function entry(column: string, key: string): string {
  return `${column}[${literal(key)}]`;
}

/** SQL of queries. */
export const DIALECT: SelectDialect = {
  value: (value) => typeof value === "number" ? timeLiteral(value) : literal(value),
  hasEntry: (column, key, value) => `${column}[${key}] = ${value}`,
  entry,
  compareDecimal: (column, operator, amount) => `${column} ${operator} ${literal(amount)}::DECIMAL(38,18)`,
  boolean: String,
};
