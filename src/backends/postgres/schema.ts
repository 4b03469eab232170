import { type Column, columnOf, type ColumnType, type Dataset, hasTable } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { upgradesFrom as upgrades } from "../sql/schema.ts";
import type { SqlDialect } from "../sql/select.ts";

/** The schema that this program reads and writes. */
export const SCHEMA_VERSION = 6;
/**
 * The oldest schema version whose programs may write into this one. Versions that only add tables, and columns that
 * may be null, keep it, so that agents of several releases share a database.
 */
const WRITABLE_FROM = 1;

/** The tables of each schema version. */
export function tablesOf(version: number): string[] {
  const tables = Object.values(DATASETS).filter((dataset) => hasTable(dataset, version)).map(({ name }) =>
    name
  );
  const added = [...(version >= 2 ? ["live_documents"] : []), ...(version >= 5 ? ["requests"] : [])];
  return ["schema_version", "ledger", ...tables, ...added];
}

/** The statements that lead to each schema version from the one before, beside the tables and columns of datasets. */
const UPGRADES: Readonly<Record<number, readonly string[]>> = {
  1: [
    "CREATE TABLE schema_version (version integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE ledger (batch_id text PRIMARY KEY, dataset text NOT NULL, committed bigint NOT NULL, " +
    "duplicates bigint NOT NULL, restated bigint NOT NULL, committed_at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX ledger_committed_at ON ledger (committed_at)",
  ],
  2: [
    "CREATE TABLE live_documents (kind text NOT NULL, id text NOT NULL, body jsonb NOT NULL, " +
    "updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (kind, id))",
  ],
  3: ["ALTER TABLE schema_version ADD COLUMN writable_from integer"],
  5: [
    "CREATE TABLE requests (request_id text, dataset text, ranges text NOT NULL, " +
    "stored_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (request_id, dataset))",
    "CREATE INDEX requests_stored_at ON requests (stored_at)",
  ],
};

/** The statements that lead from a schema version, 0 for an empty database, to that of this program. */
export function upgradesFrom(version: number, form: TableForm): string[] {
  const statements = upgrades(version, {
    steps: UPGRADES,
    createTable: (dataset) => [
      createTable(dataset, form),
      ...createIndexes(dataset),
      ...form.afterTable?.(dataset) ?? [],
    ],
    addColumns({ name }, columns) {
      const added = columns.map(({ name, type }) => `ADD COLUMN ${name} ${TYPES[type].sql}`);
      return [`ALTER TABLE ${name} ${added.join(", ")}`];
    },
  });
  const values = `${SCHEMA_VERSION}, ${WRITABLE_FROM}`;
  return [...statements, `INSERT INTO schema_version (version, writable_from) VALUES (${values})`];
}

/** Columns as they are read. */
export const READABLE = {
  names: ({ name }: Column) => [name],
  nullOf: ({ type }: Column) => `NULL::${TYPES[type].sql}`,
  hasRowid: false,
};

/** The type of a column on the server, and how the catalog has it: its OID, and its modifier where it has one. */
const TYPES: Readonly<Record<ColumnType, { sql: string; oid: number; modifier?: number }>> = {
  timestamp: { sql: "timestamptz", oid: 1184 },
  text: { sql: "text", oid: 25 },
  real: { sql: "double precision", oid: 701 },
  integer: { sql: "bigint", oid: 20 },
  boolean: { sql: "boolean", oid: 16 },
  decimal: { sql: "numeric(38,18)", oid: 1700, modifier: (38 << 16) + 18 + 4 },
  map: { sql: "jsonb", oid: 3802 },
};

/** Parts of the schema that differ between databases. */
export interface TableForm {
  /** Statements that partition a table by time. */
  readonly partitioning?: string;
  /** The type of measures: `double precision`, or a domain over it. */
  readonly measure?: string;
  /** Statements that follow the creation of a table. */
  afterTable?(dataset: Dataset<unknown>): string[];
}

/** The statement that creates the table of a dataset. */
export function createTable(
  dataset: Dataset<unknown>,
  { partitioning = "", measure = TYPES.real.sql }: TableForm,
): string {
  const columns = dataset.columns.map(({ name, type, required }) =>
    `${name} ${type === "real" ? measure : TYPES[type].sql}${required ? " NOT NULL" : ""}`
  );
  if (dataset.key.length > 0) columns.push(`UNIQUE (${columnNames(dataset, dataset.key)})`);
  return `CREATE TABLE ${dataset.name} (\n  ${columns.join(",\n  ")}\n)${partitioning}`;
}

/** The statements that create the indexes, except the one of the key. */
export function createIndexes(dataset: Dataset<unknown>): string[] {
  const statements = dataset.indexes.map((fields) =>
    `CREATE INDEX ON ${dataset.name} (${columnNames(dataset, fields)})`
  );
  if (dataset.mapFilter) {
    const { name } = columnOf(dataset, dataset.mapFilter);
    statements.push(`CREATE INDEX ON ${dataset.name} USING gin (${name} jsonb_path_ops)`);
  }
  return statements;
}

/**
 * A query for the name and kind of those of these tables and views that exist. `to_regclass()` may answer from the
 * cache of the session, from before another process created the table.
 */
export function tablesQuery(names: readonly string[]): string {
  return "SELECT relname::text, relkind::text FROM pg_catalog.pg_class " +
    `WHERE relname IN (${names.map(literal).join(", ")}) AND pg_table_is_visible(oid)`;
}

/** The columns by name, as a list. */
export function columnList(dataset: Dataset<unknown>): string {
  return dataset.columns.map(({ name }) => name).join(", ");
}

/** Columns as they are read. Types are named, so that an altered column is never misread. */
export function selectList(dataset: Dataset<unknown>): string {
  return dataset.columns.map(({ name, type }) =>
    type === "decimal" ? `trim_scale(${name})::text` : `${name}::${TYPES[type].sql}`
  ).join(", ");
}

/** Columns as a table holds them. */
export function rawSelectList(dataset: Dataset<unknown>): string {
  return dataset.columns.map(({ name, type }) => `${name}::${TYPES[type].sql}`).join(", ");
}

/**
 * A query for the shape that a table must have for binary COPY to write into it (with another type of the same length
 * it would store nonsense, and without its unique key it would store duplicates), and for the number of its triggers
 * that may skip rows.
 */
export function shapeQuery(dataset: Dataset<unknown>): string {
  const columns = dataset.columns.map(({ name }) => literal(name)).join(", ");
  return `SELECT (SELECT string_agg(concat(attname, ' ', coalesce(nullif(typbasetype, 0), atttypid), ' ', atttypmod),
      ', ' ORDER BY attname COLLATE "C")
    FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type t ON t.oid = atttypid
    WHERE attrelid = ${literal(dataset.name)}::regclass AND attname IN (${columns}) AND NOT attisdropped)
    || (SELECT ', unique ' || count(*) FROM pg_catalog.pg_constraint
    WHERE conrelid = ${literal(dataset.name)}::regclass AND contype = 'u'),
    (${triggersQuery(dataset)})`;
}

/** A query for the number of triggers of a table that may skip rows. TimescaleDB has one of its own that does not. */
export function triggersQuery({ name }: Dataset<unknown>): string {
  return `SELECT count(*)::text FROM pg_catalog.pg_trigger WHERE tgrelid = ${literal(name)}::regclass ` +
    "AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7 AND tgname <> 'ts_insert_blocker'";
}

/** A query for the rows that this transaction has inserted into and updated in a table; null where that is not counted. */
export function touchedQuery({ name }: Dataset<unknown>): string {
  return `WITH RECURSIVE tree AS (SELECT ${literal(name)}::regclass::oid AS relid UNION ALL
      SELECT inhrelid FROM pg_catalog.pg_inherits JOIN tree ON relid = inhparent)
    SELECT CASE current_setting('track_counts') WHEN 'on' THEN
      sum(pg_stat_get_xact_tuples_inserted(relid) + pg_stat_get_xact_tuples_updated(relid))::text END FROM tree`;
}

/** A query for the number of records of a JSON array, its one parameter, whose keys are in the table. */
export function presentQuery(dataset: Dataset<unknown>): string {
  return `SELECT count(*)::text FROM ${dataset.name} JOIN ${recordset(dataset)} ` +
    `USING (${columnNames(dataset, dataset.key)})`;
}

/** Result of {@linkcode shapeQuery} for an unaltered table. */
export function expectedShape(dataset: Dataset<unknown>): string {
  const columns = dataset.columns
    .map(({ name, type }) => `${name} ${TYPES[type].oid} ${TYPES[type].modifier ?? -1}`)
    .sort();
  return [...columns, `unique ${dataset.key.length > 0 ? 1 : 0}`].join(", ");
}

/** The records of a JSON array, the one parameter of the statement, as rows named `r`. */
function recordset(dataset: Dataset<unknown>): string {
  const columns = dataset.columns.map(({ name, type }) => `${name} ${TYPES[type].sql}`).join(", ");
  return `json_to_recordset($1::text::json) AS r (${columns})`;
}

/**
 * Inserts the records whose key does not exist. Returns the keys of the inserted ones in the form of `keyOf()`, or 1
 * for each where records have no key.
 */
export function insertStatement(dataset: Dataset<unknown>): string {
  const insert = `INSERT INTO ${dataset.name} (${columnList(dataset)}) ` +
    `SELECT ${columnList(dataset)} FROM ${recordset(dataset)}`;
  if (dataset.key.length === 0) return `${insert} RETURNING 1`; // without it, Citus copies, and its errors lack their SQLSTATE
  const key = columnNames(dataset, dataset.key);
  return `${insert} ON CONFLICT (${key}) DO NOTHING RETURNING ${jsonKey(dataset)}`;
}

/**
 * Replaces records that have the same keys. Columns that it does not name become null. An UPDATE would have TimescaleDB
 * decompress whole chunks.
 */
export function restateStatement(dataset: Dataset<unknown>): string {
  const set = DATASETS[dataset.name].columns.filter(({ field }) => !dataset.key.includes(field))
    .map(({ name }) => `${name} = excluded.${name}`);
  return insertStatement(dataset).replace(/DO NOTHING.*$/, `DO UPDATE SET ${set.join(", ")}`);
}

/** A record as {@linkcode insertStatement} expects it, with the names of the table's columns. */
export function jsonRow(dataset: Dataset<unknown>, record: unknown): Record<string, unknown> {
  const values = record as Record<string, unknown>;
  const row: Record<string, unknown> = {};
  for (const { field, name, type } of dataset.columns) {
    const value = values[field];
    if (value !== undefined) row[name] = type === "timestamp" ? isoTime(value as number) : value;
  }
  return row;
}

function jsonKey(dataset: Dataset<unknown>): string {
  const parts = dataset.key.map((field) => {
    const { name, type } = columnOf(dataset, field);
    return type === "timestamp" ? `(extract(epoch FROM ${name}) * 1000)::bigint` : name;
  });
  return `concat_ws(' ', ${parts.join(", ")})`;
}

/** The columns of some fields, as a list. */
export function columnNames(dataset: Dataset<unknown>, fields: readonly string[]): string {
  return fields.map((field) => columnOf(dataset, field).name).join(", ");
}

/** Writes a text as SQL, with any setting of `standard_conforming_strings`. */
export function literal(text: string): string {
  return `E'${text.replace(/[\\']/g, "\\$&")}'`;
}

/** Writes a time as SQL. */
export function timeLiteral(ms: number): string {
  return `'${isoTime(ms)}'::timestamptz`;
}

/** A time as epoch milliseconds in a text, which no driver changes. */
export function epochMs(time: string): string {
  return `(extract(epoch FROM ${time}) * 1000)::bigint::text`;
}

/** ISO 8601; beyond the year 9999 without the sign, which PostgreSQL does not read. */
function isoTime(ms: number): string {
  return new Date(ms).toISOString().replace(/^\+0?/, "");
}

/** COPY takes no parameters, so values are part of the text. */
export const DIALECT: SqlDialect = {
  value: (value) => typeof value === "number" ? timeLiteral(value) : `${literal(value)}::text`,
  hasEntry: (column, key, value) => `${column} @> jsonb_build_object(${key}, ${value})`,
  entry: (column, key) => `(${column} ->> ${literal(key)})`,
  compareDecimal: (column, operator, amount) => `${column} ${operator} ${literal(amount)}::numeric`,
  boolean: String,
  epochMs,
  asText: (expression) => `(${expression})::text`,
};
