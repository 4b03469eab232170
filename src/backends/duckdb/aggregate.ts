import type { AggregateRow, Aggregation, Measure } from "../../records/aggregation.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { Decimal } from "../../records/decimal.ts";
import { mapSlices } from "../../records/slices.ts";
import { type GroupDialect, groupExpressions } from "../sql/aggregate.ts";
import { DIALECT, entry } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

const GROUPS: GroupDialect = {
  epochMs: "epoch_ms(timestamp)",
  value: DIALECT.value,
  entry,
  division: "//",
};

/** Aggregates the records of a query. */
export async function aggregate(
  session: DuckdbSession,
  { dataset, where, aggregation }: { dataset: Dataset<unknown>; where: string; aggregation: Aggregation },
): Promise<AggregateRow[]> {
  const groups = groupExpressions(dataset, aggregation, GROUPS);
  const hasStart = (aggregation.ranges?.length ?? 0) > 0;
  const run = (sumOf: (column: string) => string) => {
    const measures = aggregation.measures.map((measure) => measureOf(dataset, measure, sumOf));
    const columns = [
      ...groups.map((group, i) => i === 0 && hasStart ? `(${group})::BIGINT` : group),
      ...measures,
    ];
    const grouping = groups.map((_, i) => i + 1).join(", ");
    return session.query(
      `SELECT ${columns.join(", ")} FROM ${dataset.source} ${where} ${grouping && `GROUP BY ${grouping}`}`,
    );
  };
  const rows = await run((column) => `sum(${column})`).catch((error) => {
    // More than 170 times the largest amount.
    if (/Overflow|Out of Range/.test(String(error))) {
      return run((column) => exactSums(column).join(" || ' ' || "));
    }
    throw error;
  });
  return await mapSlices(rows, (row) => {
    const start = hasStart ? { start: row[0] as number } : {};
    const first = hasStart ? 1 : 0;
    const group = row.slice(first, groups.length) as (string | null)[];
    const values = row.slice(groups.length).map((value) =>
      typeof value === "string" && value.includes(" ")
        ? totalOf(value.split(" "))
        : value as AggregateRow["values"][0]
    );
    return { ...start, group, values };
  });
}

function measureOf(dataset: Dataset<unknown>, measure: Measure, sumOf: (column: string) => string): string {
  if (measure.field === undefined) return "count(*)";
  const { name, type } = columnOf(dataset, measure.field);
  if (measure.function === "percentile") return `quantile_cont(${name}::DOUBLE, ${measure.fraction}::DOUBLE)`;
  if (measure.function === "count") return `count(${name})`;
  if (type === "decimal") return sumOf(name);
  const value = `${measure.function}(${name})`;
  if (type === "timestamp") return `epoch_ms(${value})`;
  return type === "integer" ? `${value}::DOUBLE` : value;
}

/** The sums of the whole units and of the rest of amounts, as texts: neither overflows. */
export function exactSums(column: string): string[] {
  return [
    `sum(trunc(${column})::DECIMAL(20,0))::VARCHAR`,
    `sum((${column} - trunc(${column}))::DECIMAL(20,18))::VARCHAR`,
  ];
}

/** The total of {@linkcode exactSums}. */
export function totalOf([units, rest]: readonly string[]): string {
  return Decimal.fromParts(BigInt(units), 0n).plus(Decimal.from(rest)).toString();
}
