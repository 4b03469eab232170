import { type Dataset, hasTable, narrowTo } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { triggerWarning } from "../condition.ts";
import type { PostgresSession } from "./pool.ts";
import { columnNames, expectedShape, literal, shapeQuery, tablesQuery, triggersQuery } from "./schema.ts";

export interface TableFaults {
  /** Faults with which batches are refused, or would be stored twice. */
  readonly faults: string[];
  /** Faults with which records are stored and answers are slow or lax. */
  readonly warnings: string[];
}

/** The columns of the keys on which counting once depends, by table. */
function keys(): [table: string, columns: string][] {
  const ofDatasets = Object.values(DATASETS).filter(({ key }) => key.length > 0)
    .map((dataset): [string, string] => [dataset.name, columnNames(dataset, dataset.key)]);
  return [
    ["ledger", "batch_id"],
    ["live_documents", "kind, id"],
    ["requests", "request_id, dataset"],
    ...ofDatasets,
  ];
}

/**
 * Finds what the tables lack of what `database init` made: a restore that failed halfway leaves out keys and indexes,
 * which come last in a dump. A schema of an older version lacks no more than what was added later.
 */
export async function findTableFaults(session: PostgresSession, version: number): Promise<TableFaults> {
  const indexes = new Set((await session.query(INDEXES)).map(([found]) => found!));
  const faults: string[] = [];
  const warnings: string[] = [];
  const tables = new Set(
    (await session.query(tablesQuery(keys().map(([table]) => table)))).map(([name]) => name),
  );
  for (const [table, columns] of keys()) {
    if (!tables.has(table)) continue; // a database of an older release
    if (!indexes.has(`${table} unique ${columns}`)) faults.push(`${table} lacks its unique key (${columns})`);
  }
  for (const dataset of datasetsOf(version)) {
    const { name } = dataset;
    for (const columns of dataset.indexes.map((fields) => columnNames(dataset, fields))) {
      if (!indexes.has(`${name} index ${columns}`)) warnings.push(`${name} lacks its index (${columns})`);
    }
    const [[triggers]] = await session.query(triggersQuery(dataset));
    if (triggers !== "0") warnings.push(triggerWarning(name));
    const altered = await alteredColumns(session, dataset);
    if (altered.length > 0) faults.push(`${name} has other types or lacks columns: ${altered.join(", ")}`);
    const nullable = await session.query(nullableQuery(dataset));
    if (nullable.length > 0) {
      warnings.push(`${name} lacks NOT NULL of ${nullable.map(([column]) => column).join(", ")}`);
    }
  }
  return { faults, warnings };
}

/** The datasets as a version of the schema has them. */
function datasetsOf(version: number): Dataset<unknown>[] {
  return Object.values<Dataset<unknown>>(DATASETS).filter((dataset) => hasTable(dataset, version))
    .map((dataset) =>
      narrowTo(dataset, dataset.columns.filter(({ since }) => since <= version).map(({ field }) => field))
    );
}

/** Each valid index as its table, its kind and its columns in order; each unique one also as an index. */
const INDEXES = `WITH found AS (SELECT c.relname::text AS name, indisunique, (SELECT
      string_agg(attname::text, ', ' ORDER BY n) FROM unnest(indkey::int2[]) WITH ORDINALITY k(attnum, n)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = indrelid AND a.attnum = k.attnum) AS columns
    FROM pg_catalog.pg_index JOIN pg_catalog.pg_class c ON c.oid = indrelid
    WHERE indisvalid AND indpred IS NULL AND indexprs IS NULL AND pg_catalog.pg_table_is_visible(indrelid))
  SELECT concat_ws(' ', name, kind, columns)
  FROM found, unnest(CASE WHEN indisunique THEN ARRAY['unique', 'index'] ELSE ARRAY['index'] END) AS kind`;

async function alteredColumns(session: PostgresSession, dataset: Dataset<unknown>): Promise<string[]> {
  const [[shape]] = await session.query(shapeQuery(dataset));
  const found = (shape ?? "").split(", ");
  return expectedShape(dataset).split(", ").filter((part) => !found.includes(part))
    .map((part) => part.split(" ")[0]).filter((name) => name !== "unique");
}

/** The required columns that take NULL. */
function nullableQuery({ name, columns }: Dataset<unknown>): string {
  const required = columns.filter((column) => column.required).map((column) => literal(column.name));
  return `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = ${literal(name)}::regclass ` +
    `AND attname IN (${required.join(", ")}) AND NOT attnotnull`;
}
