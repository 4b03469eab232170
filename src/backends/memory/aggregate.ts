import { type AggregateRow, type Aggregation, type Measure, quantile } from "../../records/aggregation.ts";
import { bucketAt } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { Decimal } from "../../records/decimal.ts";
import { readerOf } from "./matcher.ts";

type Fields = { readonly timestamp: number } & Readonly<Record<string, unknown>>;

/** Counts and adds up records in process, as databases do. */
export function aggregate(
  dataset: Dataset<unknown>,
  { ranges, groupBy, measures }: Aggregation,
  records: readonly Fields[],
): AggregateRow[] {
  const groups = new Map<string, { start?: number; group: (string | null)[]; records: Fields[] }>();
  const hasStart = ranges !== undefined && ranges.length > 0;
  // Without anything to tell apart there is one group, also of no records.
  if (!hasStart && groupBy.length === 0) groups.set("[null]", { group: [], records: [] });
  const readers = groupBy.map((key) => readerOf(dataset, key));
  for (const record of records) {
    const start = hasStart ? bucketAt(ranges, record.timestamp).start : undefined;
    const group = readers.map((read) => (read(record) as string | undefined) ?? null);
    const name = JSON.stringify([start, ...group]);
    let found = groups.get(name);
    if (!found) groups.set(name, found = { ...(hasStart ? { start } : {}), group, records: [] });
    found.records.push(record);
  }
  return [...groups.values()].map(({ records, ...key }) => ({
    ...key,
    values: measures.map((measure) => measureOf(dataset, measure, records)),
  }));
}

function measureOf(
  dataset: Dataset<unknown>,
  measure: Measure,
  records: readonly Fields[],
): number | string | null {
  const { field } = measure;
  if (field === undefined) return records.length;
  const values = records.map((record) => record[field]).filter((value) => value !== undefined);
  if (measure.function === "count") return values.length;
  if (values.length === 0) return null;
  if (columnOf(dataset, field).type === "decimal") {
    return (values as string[]).reduce((sum, value) => sum.plus(Decimal.from(value)), Decimal.ZERO)
      .toString();
  }
  const numbers = values as number[];
  if (measure.function === "percentile") {
    return quantile(numbers.sort((a, b) => a - b), measure.fraction);
  }
  const sum = () => numbers.reduce((sum, value) => sum + value, 0);
  if (measure.function === "sum") return sum();
  if (measure.function === "avg") return sum() / numbers.length;
  return numbers.reduce((found, value) => (measure.function === "min" ? Math.min : Math.max)(found, value));
}
