/**
 * Post-processing of the rows of a backend: merges all but the top groups, and fills empty buckets.
 *
 * @module
 */
import type { Measure } from "../records/aggregation.ts";
import { bucketCount, type BucketRange, bucketsOf } from "../records/calendar.ts";
import { Decimal } from "../records/decimal.ts";

/** A row of a result. Percentiles of merged groups are not known: undefined. */
export interface ResultRow {
  readonly start?: number;
  readonly end?: number;
  readonly group: readonly (string | null)[];
  readonly values: readonly (number | string | null | undefined)[];
  /** True for the row of all groups that are not at the top. */
  readonly isOther?: true;
}

/** By what groups are ranked: a value of a row, of which the greatest is at the top. */
export type Ranking = (values: ResultRow["values"]) => ResultRow["values"][number];

/** Layout of rows. */
export interface RowLayout {
  readonly measures: readonly Measure[];
  /** Number of leading values of each group that are never merged: the currency. */
  readonly leadingKeys: number;
  /** True if the sums are exact decimals. */
  readonly isMoney: boolean;
}

/** Keeps the groups with the greatest value of a measure over all time, and puts the others together in one. */
export function selectTop(
  rows: readonly ResultRow[],
  { layout, top, rank }: { layout: RowLayout; top: number; rank: Ranking },
): ResultRow[] {
  const overall = mergeRows(layout, rows.map(({ start: _, end: __, ...row }) => row));
  const places = new Map<string, number>();
  const kept = new Set<string>();
  // Equal values rank by group, independent of the backend's order.
  overall.sort((a, b) => compareValues(rank(b.values), rank(a.values)) || compareRows(a, b));
  for (const { group } of overall) {
    const key = JSON.stringify(group.slice(0, layout.leadingKeys));
    const place = (places.get(key) ?? 0) + 1;
    places.set(key, place);
    if (place <= top) kept.add(JSON.stringify(group));
  }
  const isKept = ({ group }: ResultRow) => kept.has(JSON.stringify(group));
  const others = rows.filter((row) => !isKept(row))
    .map((row): ResultRow => ({
      ...row,
      group: row.group.map((value, i) => i < layout.leadingKeys ? value : null),
      isOther: true,
    }));
  return [...rows.filter(isKept), ...mergeRows(layout, others)];
}

/** Adds a row for each bucket in which a group has none; returns all in order. */
export function fillEmptyBuckets(
  rows: readonly ResultRow[],
  { layout, ranges, always, refuse }: {
    layout: RowLayout;
    ranges: readonly BucketRange[];
    /** True if there is a group even without records. */
    always: boolean;
    /** Throws if there would be too many rows. */
    refuse: (rows: number) => void;
  },
): ResultRow[] {
  const values = layout.measures.map((measure) =>
    measure.function === "count" ? 0 : layout.isMoney ? "0" : null
  );
  const groups = Map.groupBy(rows, ({ group, isOther }) => nameOf({ group, isOther }));
  if (always && groups.size === 0) groups.set("", []);
  refuse(bucketCount(ranges) * groups.size);
  const sorted = [...groups.values()].map((found) => ({
    group: found[0]?.group ?? [],
    ...(found[0]?.isOther ? { isOther: true as const } : {}),
    found: new Map(found.map((row) => [row.start, row])),
  })).toSorted(compareRows);
  const filled: ResultRow[] = [];
  for (const { start, end } of bucketsOf(ranges)) {
    for (const { found, ...group } of sorted) {
      filled.push(found.get(start) ?? { start, end, ...group, values });
    }
  }
  return filled;
}

/** By time, then by group; what has no value comes after what has, and the others last. */
export function compareRows(a: Omit<ResultRow, "values">, b: Omit<ResultRow, "values">): number {
  if (a.start !== b.start) return a.start! - b.start!;
  if (a.isOther !== b.isOther) return a.isOther ? 1 : -1;
  for (const [i, value] of a.group.entries()) {
    const other = b.group[i];
    if (value === other) continue;
    if (value === null || other === null) return value === null ? 1 : -1;
    return value < other ? -1 : 1;
  }
  return 0;
}

function nameOf({ start, group, isOther }: Omit<ResultRow, "values">): string {
  return JSON.stringify([start, isOther, ...group]);
}

/** Puts the rows of each group within each span together. */
function mergeRows({ measures }: RowLayout, rows: readonly ResultRow[]): ResultRow[] {
  const merged = new Map<string, ResultRow>();
  for (const row of rows) {
    const name = nameOf(row);
    const found = merged.get(name);
    const values = found && found.values.map((value, i) => merge(measures[i], value, row.values[i]));
    merged.set(name, values ? { ...row, values } : row);
  }
  return [...merged.values()];
}

type Value = ResultRow["values"][number];

function merge(measure: Measure, a: Value, b: Value): Value {
  if (measure.function === "percentile") return undefined;
  if (a === null || a === undefined) return b;
  if (b === null || b === undefined) return a;
  if (measure.function === "min") return Math.min(a as number, b as number);
  if (measure.function === "max") return Math.max(a as number, b as number);
  return typeof a === "string" ? Decimal.from(a).plus(Decimal.from(b)).toString() : a + (b as number);
}

function compareValues(a: Value, b: Value): number {
  if (typeof a === "string" && typeof b === "string") return Decimal.from(a).compare(Decimal.from(b));
  return Number(a ?? -Infinity) - Number(b ?? -Infinity) || 0;
}
