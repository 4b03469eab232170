import { columnOf, type Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";

/** SQL of a query that differs between databases. */
export interface SelectDialect {
  /** Writes a value into the statement: a text, or a time in epoch milliseconds. */
  value(value: string | number): string;
  /** A condition that a map column holds a key with a value. */
  hasEntry(column: string, key: string, value: string): string;
}

/** The `WHERE` clause of a query, or nothing where it asks for all. */
export function whereClause(
  dataset: Dataset<unknown>,
  query: RecordQuery,
  { value, hasEntry }: SelectDialect,
): string {
  const terms: string[] = [];
  if (query.startTime !== undefined) terms.push(`timestamp >= ${value(query.startTime)}`);
  if (query.endTime !== undefined) terms.push(`timestamp < ${value(query.endTime)}`);
  for (const [field, wanted] of Object.entries(query.equals)) {
    terms.push(`${columnOf(dataset, field).name} = ${value(wanted)}`);
  }
  for (const [key, wanted] of Object.entries(query.entries)) {
    terms.push(hasEntry(columnOf(dataset, dataset.mapFilter!).name, value(key), value(wanted)));
  }
  return terms.length > 0 ? `WHERE ${terms.join(" AND ")}` : "";
}
