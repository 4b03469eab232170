import { type Column, columnOf, type Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import type { Condition } from "../../records/where.ts";

/** SQL of a query that differs between databases. */
export interface SelectDialect {
  /** Writes a value into the statement: a text, or a time in epoch milliseconds. */
  value(value: string | number): string;
  /** A condition that a map column holds a key with a value. */
  hasEntry(column: string, key: string, value: string): string;
  /** Reads the entry of a map column: a text, or null. */
  entry(column: string, key: string): string;
  /** Compares a decimal column with a canonical amount. */
  compareDecimal(column: string, operator: "=" | ">" | ">=" | "<" | "<=", amount: string): string;
  /** Writes a truth value into the statement. */
  boolean(value: boolean): string;
}

/** SQL of queries, publishes, aggregates and checks that differs between databases. */
export interface SqlDialect extends SelectDialect {
  /** A time as epoch milliseconds. */
  epochMs(time: string): string;
  /** An expression as a text. */
  asText(expression: string): string;
}

/** Writes a text as standard SQL. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** The `WHERE` clause of a query, or nothing where it asks for all. */
export function whereClause(
  dataset: Dataset<unknown>,
  query: RecordQuery,
  dialect: SelectDialect,
): string {
  const { value, hasEntry } = dialect;
  const terms: string[] = [];
  if (query.startTime !== undefined) terms.push(`timestamp >= ${value(query.startTime)}`);
  if (query.endTime !== undefined) terms.push(`timestamp < ${value(query.endTime)}`);
  for (const [field, expected] of Object.entries(query.equals)) {
    terms.push(`${columnOf(dataset, field).name} = ${value(expected)}`);
  }
  for (const [key, expected] of Object.entries(query.entries)) {
    terms.push(hasEntry(columnOf(dataset, dataset.mapFilter!).name, value(key), value(expected)));
  }
  for (const condition of query.where ?? []) terms.push(conditionOf(dataset, condition, dialect));
  return terms.length > 0 ? `WHERE ${terms.join(" AND ")}` : "";
}

/** A column as an expression: an absent value is what it stands for. */
export function valueOf({ name, absent }: Column, { value }: Pick<SelectDialect, "value">): string {
  return absent === undefined ? name : `coalesce(${name}, ${value(absent)})`;
}

function conditionOf(
  dataset: Dataset<unknown>,
  { field, key, operator, values }: Condition,
  dialect: SelectDialect,
): string {
  const column = columnOf(dataset, field);
  const { name, type } = column;
  const present = type === "decimal" ? dialect.compareDecimal(name, ">=", MIN_AMOUNT) : "";
  const side = key === undefined ? valueOf(column, dialect) : dialect.entry(name, key);
  if (operator === "missing") return present ? `(${present}) IS NULL` : `${side} IS NULL`;
  if (operator === "present") return present ? `(${present}) IS NOT NULL` : `${side} IS NOT NULL`;
  const compare = (sign: "=" | ">" | ">=" | "<" | "<=", value: string | number | boolean) => {
    if (type === "decimal") return dialect.compareDecimal(name, sign, value as string);
    // An index on the map serves a comparison of one of its entries.
    if (key !== undefined && field === dataset.mapFilter && operator === "in") {
      return dialect.hasEntry(name, dialect.value(key), dialect.value(value as string));
    }
    return `${side} ${sign} ${literalOf(column, value, dialect)}`;
  };
  if (operator !== "in" && operator !== "notIn") return compare(operator, values[0]);
  // A database looks a list up, but compares a row with each alternative.
  const isOne = key === undefined && type !== "decimal"
    ? `(${side} IN (${values.map((value) => literalOf(column, value, dialect)).join(", ")}))`
    : `(${values.map((value) => compare("=", value)).join(" OR ")})`;
  return operator === "in" ? isOne : `(${isOne}) IS NOT TRUE`;
}

/** No amount is lower. */
const MIN_AMOUNT = "-999999999999999999.999999999999999999";

function literalOf({ type }: Column, value: string | number | boolean, dialect: SelectDialect): string {
  if (typeof value === "boolean") return dialect.boolean(value);
  // A number of a record is finite, and safe in the text of a statement.
  return type === "real" || type === "integer" ? `(${value})` : dialect.value(value);
}
