import { type AggregateRow, type Aggregation, interpolate, type Measure } from "../../records/aggregation.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { Decimal, splitAmount } from "../../records/decimal.ts";
import { groupExpressions } from "../sql/aggregate.ts";
import { literal, type SqlDialect } from "../sql/select.ts";
import type { SqliteValue } from "./driver.ts";

/** Statements that aggregate, and what their rows stand for. */
export interface AggregatePlan {
  /** The first gives a row for each group, the others the values around the percentiles of a field each. */
  readonly statements: readonly string[];
  /** Makes the function that reads a row of the first statement, from the rows of the others. */
  reader(ranked: readonly SqliteValue[][][]): (row: SqliteValue[]) => AggregateRow;
}

type Percentile = Extract<Measure, { function: "percentile" }>;

/** SQL without parameters. */
export const DIALECT: SqlDialect = {
  value: (value) => typeof value === "number" ? String(value) : literal(value),
  hasEntry: (column, key, value) =>
    `EXISTS (SELECT 1 FROM json_each(${column}) AS e WHERE e.key = ${key} AND e.value = ${value})`,
  entry,
  // Row values compare whole units first, then the rest, which has the same sign.
  compareDecimal: (column, operator, amount) =>
    `(${column}_units, ${column}_parts) ${operator} (${splitAmount(amount).join(", ")})`,
  boolean: (value) => value ? "1" : "0",
  epochMs: (time) => time,
  asText: (expression) => expression,
};

/** A path saves a join for each record, but not every key can be written in one. */
export function entry(column: string, key: string): string {
  if (/^[^"\\\p{Cc}]+$/u.test(key)) return `json_extract(${column}, ${literal(`$."${key}"`)})`;
  // As a path to the key with escapes would be read differently by different versions.
  return `(SELECT e.value FROM json_each(${column}) AS e WHERE e.key = ${literal(key)})`;
}

/** Plans the aggregate of the records that a `WHERE` clause selects. */
export function planAggregate(
  dataset: Dataset<unknown>,
  aggregation: Aggregation,
  where: string,
): AggregatePlan {
  const groups = groupExpressions(dataset, aggregation, DIALECT);
  const parts = aggregation.measures.map((measure) => partOf(dataset, measure));
  // Distinct names: one driver returns rows as objects, in which columns of one name would be one.
  const columns = [...groups, ...parts.flatMap(({ columns }) => columns)].map((column, i) =>
    `${column} AS c${i}`
  );
  const sql = `SELECT ${columns.join(", ") || "1"} FROM ${dataset.source} ${where} ${grouping(groups)}`;
  const fractions = fractionsOf(aggregation);
  const ranks = [...fractions].map(([field, fractions]) =>
    neighbors(columnOf(dataset, field).name, fractions, { dataset, where, groups })
  );
  const reader = (ranked: readonly SqliteValue[][][]) => {
    const percentiles = percentileReader([...fractions.keys()], ranked, groups.length);
    return (row: SqliteValue[]) => {
      const key = row.slice(0, groups.length);
      let at = groups.length;
      const values = aggregation.measures.map((measure, i) => {
        if (measure.function === "percentile") return percentiles(measure, key);
        const { columns, read } = parts[i];
        at += columns.length;
        return read(row.slice(at - columns.length, at));
      });
      return { ...splitKey(aggregation, key), values };
    };
  };
  return { statements: [sql, ...ranks], reader };
}

function grouping(groups: readonly string[]): string {
  return groups.length > 0 ? `GROUP BY ${groups.map((_, i) => i + 1).join(", ")}` : "";
}

function splitKey(
  { ranges }: Aggregation,
  key: readonly SqliteValue[],
): { start?: number; group: (string | null)[] } {
  if (!ranges || ranges.length === 0) return { group: key as (string | null)[] };
  const [start, ...group] = key;
  return { start: start as number, group: group as (string | null)[] };
}

/** A measure as columns of a statement, and its value from them. */
interface Part {
  readonly columns: readonly string[];
  read(values: readonly SqliteValue[]): number | string | null;
}

function partOf(dataset: Dataset<unknown>, measure: Measure): Part {
  const read = ([value]: readonly SqliteValue[]) => value as number | null;
  if (measure.function === "percentile") return { columns: [], read: () => null };
  if (measure.field === undefined) return { columns: ["count(*)"], read };
  const { name, type } = columnOf(dataset, measure.field);
  if (measure.function === "count" && type === "decimal") return { columns: [`count(${name}_units)`], read };
  if (type === "decimal") return { columns: amountSums(name), read: (sums) => sumOf(sums) };
  if (measure.function !== "sum" || type === "real") {
    return { columns: [`${measure.function}(${name})`], read };
  }
  // An integer sum that overflows is an error; `total` goes on in floats, but takes nothing for 0.
  return { columns: [`CASE WHEN count(${name}) > 0 THEN total(${name}) END`], read };
}

/** The columns that give the sum of amounts: halves of nine digits are summed apart, so that no sum overflows. */
export function amountSums(name: string): string[] {
  return ["units", "parts"].flatMap((part) => [
    `CAST(sum(${name}_${part} / 1000000000) AS TEXT)`,
    `CAST(sum(${name}_${part} % 1000000000) AS TEXT)`,
  ]);
}

/** The sum that {@linkcode amountSums} stand for. */
export function sumOf(sums: readonly SqliteValue[]): string | null {
  if (sums[0] === null) return null;
  const [unitsHigh, unitsLow, partsHigh, partsLow] = (sums as string[]).map(BigInt);
  const billion = 1_000_000_000n;
  return Decimal.fromParts(unitsHigh * billion + unitsLow, partsHigh * billion + partsLow).toString();
}

/** The fractions of the percentiles of each field. */
function fractionsOf({ measures }: Aggregation): Map<string, number[]> {
  const fractions = new Map<string, number[]>();
  for (const measure of measures) {
    if (measure.function !== "percentile") continue;
    fractions.getOrInsertComputed(measure.field, () => []).push(measure.fraction);
  }
  return fractions;
}

/** Takes the neighbors of the percentiles of each field. Returns a function that looks one up. */
function percentileReader(
  fields: readonly string[],
  ranked: readonly SqliteValue[][][],
  groups: number,
): (percentile: Percentile, key: readonly SqliteValue[]) => number | null {
  const found = new Map(fields.map((field, i) => {
    const byKey = new Map<string, Ranked>();
    for (const row of ranked[i]) {
      const [count, rank, value] = row.slice(groups) as number[];
      const key = JSON.stringify(row.slice(0, groups));
      const ranked = byKey.get(key) ?? { count, values: new Map() };
      byKey.set(key, ranked);
      ranked.values.set(rank, value);
    }
    return [field, byKey];
  }));
  return ({ field, fraction }, key) => {
    const ranked = found.get(field)!.get(JSON.stringify(key));
    if (!ranked) return null;
    const { count, values } = ranked;
    const at = Math.floor(fraction * (count - 1));
    const low = values.get(at)!;
    return interpolate(fraction, count, [low, values.get(at + 1) ?? low]);
  };
}

/** The values of a group that were read, by their rank from 0, and how many there are in all. */
interface Ranked {
  readonly count: number;
  readonly values: Map<number, number>;
}

/** Builds the statement that selects the values on both sides of each fraction, by group. */
function neighbors(
  column: string,
  fractions: readonly number[],
  { dataset, where, groups }: { dataset: Dataset<unknown>; where: string; groups: readonly string[] },
): string {
  const names = groups.map((_, i) => `g${i}`);
  const partition = names.length > 0 ? `PARTITION BY ${names.join(", ")} ` : "";
  const rows = `SELECT ${[...groups.map((group, i) => `${group} AS g${i}`), `${column} AS x`].join(", ")} ` +
    `FROM ${dataset.source} ${where ? `${where} AND` : "WHERE"} ${column} IS NOT NULL`;
  // One order for both, so that it is sorted once.
  const ranked =
    `SELECT *, row_number() OVER (${partition}ORDER BY x) - 1 AS i, count(*) OVER (${partition}` +
    `ORDER BY x ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS n FROM (${rows})`;
  const isNear = fractions.map((fraction) => `i - CAST(${fraction} * (n - 1) AS INTEGER) IN (0, 1)`);
  return `SELECT ${[...names, "n", "i", "x"].join(", ")} FROM (${ranked}) WHERE ${isNear.join(" OR ")}`;
}
