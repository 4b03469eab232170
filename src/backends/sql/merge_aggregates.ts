/**
 * Aggregates over several slices of the records, merged into what one aggregate over all of them gives.
 *
 * @module
 */
import { type AggregateRow, type Aggregation, interpolate, type Measure } from "../../records/aggregation.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { Decimal } from "../../records/decimal.ts";

type Value = number | string | null;

/** Aggregates the records of all slices. */
type AggregateSlices = (aggregation: Aggregation) => AsyncIterable<readonly AggregateRow[]>;

/**
 * Aggregates in slices. Percentiles need one more pass for each of their fields, and memory for each value that
 * differs.
 */
export async function mergeAggregates(
  dataset: Dataset<unknown>,
  aggregation: Aggregation,
  aggregate: AggregateSlices,
): Promise<AggregateRow[]> {
  const { measures } = aggregation;
  const parts = measures.map(partsOf);
  const merged = new Map<string, AggregateRow & { values: Value[] }>();
  for await (const rows of aggregate({ ...aggregation, measures: parts.flat() })) {
    for (const row of rows) {
      const found = merged.get(nameOf(row));
      if (!found) merged.set(nameOf(row), { ...row, values: [...row.values] });
      else {
        parts.flat().forEach((part, i) =>
          found.values[i] = merge(dataset, part, [found.values[i], row.values[i]])
        );
      }
    }
  }
  const percentiles = await readPercentiles(aggregation, aggregate);
  return [...merged.values()].map((row) => {
    let at = 0;
    const values = measures.map((measure, i) => {
      const given = row.values.slice(at, at += parts[i].length);
      if (measure.function === "percentile") {
        return percentileOf(measure.fraction, percentiles.get(measure.field)!.get(nameOf(row)) ?? new Map());
      }
      if (measure.function !== "avg") return given[0];
      return given[0] === null ? null : (given[0] as number) / (given[1] as number);
    });
    return { ...row, values };
  });
}

/** The measures of slices from which a measure of all follows. */
function partsOf(measure: Measure): Measure[] {
  if (measure.function === "percentile") return [];
  if (measure.function !== "avg") return [measure];
  return [{ function: "sum", field: measure.field }, { function: "count", field: measure.field }];
}

function merge(dataset: Dataset<unknown>, measure: Measure, [a, b]: readonly [Value, Value]): Value {
  if (a === null || b === null) return a ?? b;
  if (measure.field !== undefined && columnOf(dataset, measure.field).type === "decimal") {
    if (measure.function === "sum") return Decimal.from(a).plus(Decimal.from(b)).toString();
  }
  if (measure.function === "min") return Math.min(a as number, b as number);
  if (measure.function === "max") return Math.max(a as number, b as number);
  return (a as number) + (b as number);
}

/** Frequency of each value, by field and group. */
async function readPercentiles(
  { measures, ...aggregation }: Aggregation,
  aggregate: AggregateSlices,
): Promise<Map<string, Map<string, Map<number, number>>>> {
  const fields = measures.flatMap((measure) => measure.function === "percentile" ? [measure.field] : []);
  const found = new Map<string, Map<string, Map<number, number>>>();
  for (const field of new Set(fields)) {
    const groups = new Map<string, Map<number, number>>();
    found.set(field, groups);
    const counted: Aggregation = {
      ...aggregation,
      groupBy: [...aggregation.groupBy, { field }],
      measures: [{ function: "count" }],
    };
    for await (const rows of aggregate(counted)) {
      for (const { start, group, values: [count] } of rows) {
        const value = group.at(-1);
        if (value === null || value === undefined) continue;
        const name = nameOf({ start, group: group.slice(0, -1), values: [] });
        const counts = groups.get(name) ?? new Map<number, number>();
        groups.set(name, counts.set(Number(value), (counts.get(Number(value)) ?? 0) + (count as number)));
      }
    }
  }
  return found;
}

/** The percentile of values that occur so often. */
function percentileOf(fraction: number, counts: ReadonlyMap<number, number>): number | null {
  const values = [...counts.keys()].sort((a, b) => a - b);
  const total = values.reduce((sum, value) => sum + counts.get(value)!, 0);
  if (total === 0) return null;
  const low = Math.floor(fraction * (total - 1));
  const at = (index: number) => {
    let seen = 0;
    return values.find((value) => (seen += counts.get(value)!) > index)!;
  };
  return interpolate(fraction, total, [at(low), at(Math.min(low + 1, total - 1))]);
}

function nameOf({ start, group }: AggregateRow): string {
  return JSON.stringify([start, ...group]);
}
