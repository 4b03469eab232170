import { columnOf, type Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";

/** What differs between databases in a query. */
export interface SelectDialect {
  /** The placeholder of the parameter with this number, from 1. */
  placeholder(number: number): string;
  /** A condition that a map column holds a key with a value. */
  hasEntry(column: string, key: string, value: string): string;
}

/** A piece of SQL and its parameters. */
export interface Condition {
  readonly sql: string;
  readonly parameters: readonly (string | number)[];
}

/** The `WHERE` clause of a query, or nothing where it asks for all. */
export function whereClause(
  dataset: Dataset<unknown>,
  query: RecordQuery,
  dialect: SelectDialect,
): Condition {
  const parameters: (string | number)[] = [];
  const bind = (value: string | number) => dialect.placeholder(parameters.push(value));
  const terms: string[] = [];
  if (query.startTime !== undefined) terms.push(`timestamp >= ${bind(query.startTime)}`);
  if (query.endTime !== undefined) terms.push(`timestamp < ${bind(query.endTime)}`);
  for (const [field, value] of Object.entries(query.equals)) {
    terms.push(`${columnOf(dataset, field).name} = ${bind(value)}`);
  }
  for (const [key, value] of Object.entries(query.entries)) {
    const { name } = columnOf(dataset, dataset.mapFilter!);
    terms.push(dialect.hasEntry(name, bind(key), bind(value)));
  }
  return { sql: terms.length > 0 ? `WHERE ${terms.join(" AND ")}` : "", parameters };
}
