/**
 * Post-processing of the rows of a backend: merges all but the top groups, and fills empty buckets.
 *
 * @module
 */
import type { Measure } from "../records/aggregation.ts";
import { bucketCount, type BucketRange, bucketsOf } from "../records/calendar.ts";
import { Decimal } from "../records/decimal.ts";

/** A row of an answer. Percentiles of groups that were put together are not known: undefined. */
export interface AnswerRow {
  readonly start?: number;
  readonly end?: number;
  readonly group: readonly (string | null)[];
  readonly values: readonly (number | string | null | undefined)[];
  /** True for the row of all groups that are not at the top. */
  readonly isOther?: true;
}

/** By what groups are ranked: a value of a row, of which the greatest is at the top. */
export type Ranking = (values: AnswerRow["values"]) => AnswerRow["values"][number];

/** Layout of rows. */
export interface RowForm {
  readonly measures: readonly Measure[];
  /** Number of leading values of each group that are never merged: the currency. */
  readonly apart: number;
  /** True if the sums are exact decimals. */
  readonly isMoney: boolean;
}

/** Keeps the groups with the greatest value of a measure over all time, and puts the others together in one. */
export function selectTop(
  rows: readonly AnswerRow[],
  { form, top, rank }: { form: RowForm; top: number; rank: Ranking },
): AnswerRow[] {
  const overall = mergeRows(form, rows.map(({ start: _, end: __, ...row }) => row));
  const places = new Map<string, number>();
  const kept = new Set<string>();
  // Equal values rank by group, independent of the backend's order.
  overall.sort((a, b) => compareValues(rank(b.values), rank(a.values)) || compareRows(a, b));
  for (const { group } of overall) {
    const apart = JSON.stringify(group.slice(0, form.apart));
    const place = (places.get(apart) ?? 0) + 1;
    places.set(apart, place);
    if (place <= top) kept.add(JSON.stringify(group));
  }
  const isKept = ({ group }: AnswerRow) => kept.has(JSON.stringify(group));
  const others = rows.filter((row) => !isKept(row))
    .map((row): AnswerRow => ({
      ...row,
      group: row.group.map((value, i) => i < form.apart ? value : null),
      isOther: true,
    }));
  return [...rows.filter(isKept), ...mergeRows(form, others)];
}

/** Adds a row for each bucket in which a group has none; returns all in order. */
export function fillEmptyBuckets(
  rows: readonly AnswerRow[],
  { form, ranges, always, refuse }: {
    form: RowForm;
    ranges: readonly BucketRange[];
    /** True if there is a group even without records. */
    always: boolean;
    /** Throws if there would be too many rows. */
    refuse: (rows: number) => void;
  },
): AnswerRow[] {
  const values = form.measures.map((measure) => measure.function === "count" ? 0 : form.isMoney ? "0" : null);
  const groups = Map.groupBy(rows, ({ group, isOther }) => nameOf({ group, isOther }));
  if (always && groups.size === 0) groups.set("", []);
  refuse(bucketCount(ranges) * groups.size);
  const sorted = [...groups.values()].map((found) => ({
    group: found[0]?.group ?? [],
    ...(found[0]?.isOther ? { isOther: true as const } : {}),
    found: new Map(found.map((row) => [row.start, row])),
  })).toSorted(compareRows);
  const filled: AnswerRow[] = [];
  for (const { start, end } of bucketsOf(ranges)) {
    for (const { found, ...group } of sorted) {
      filled.push(found.get(start) ?? { start, end, ...group, values });
    }
  }
  return filled;
}

/** By time, then by group; what has no value comes after what has, and the others last. */
export function compareRows(a: Omit<AnswerRow, "values">, b: Omit<AnswerRow, "values">): number {
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

function nameOf({ start, group, isOther }: Omit<AnswerRow, "values">): string {
  return JSON.stringify([start, isOther, ...group]);
}

/** Puts the rows of each group within each span together. */
function mergeRows({ measures }: RowForm, rows: readonly AnswerRow[]): AnswerRow[] {
  const merged = new Map<string, AnswerRow>();
  for (const row of rows) {
    const name = nameOf(row);
    const found = merged.get(name);
    const values = found && found.values.map((value, i) => merge(measures[i], value, row.values[i]));
    merged.set(name, values ? { ...row, values } : row);
  }
  return [...merged.values()];
}

type Value = AnswerRow["values"][number];

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
