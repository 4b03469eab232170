/**
 * What becomes of the rows that a backend gives: all but the top groups put together, empty spans filled in.
 *
 * @module
 */
import type { AggregateRow, Measure } from "../records/aggregation.ts";
import { type BucketRange, bucketStarts } from "../records/calendar.ts";
import { Decimal } from "../records/decimal.ts";

/** A row of an answer. Percentiles of groups that were put together are not known: undefined. */
export interface AnswerRow {
  readonly start?: number;
  readonly group: readonly (string | null)[];
  readonly values: readonly (number | string | null | undefined)[];
  /** Whether it stands for all groups that are not at the top. */
  readonly isOther?: true;
}

/** By what groups are ranked: a value of a row, of which the greatest is at the top. */
export type Ranking = (values: AnswerRow["values"]) => AnswerRow["values"][number];

/** How rows are read. */
export interface RowForm {
  readonly measures: readonly Measure[];
  /** How many of the first values of each group are never put together with others: the currency. */
  readonly apart: number;
}

/** Keeps the groups with the greatest value of a measure over all time, and puts the others together in one. */
export function keepTop(
  rows: readonly AggregateRow[],
  { form, top, rank }: { form: RowForm; top: number; rank: Ranking },
): AnswerRow[] {
  const overall = mergeRows(form, rows.map(({ start: _, ...row }) => row));
  const places = new Map<string, number>();
  const kept = new Set<string>();
  for (const { group } of overall.sort((a, b) => compareValues(rank(b.values), rank(a.values)))) {
    const apart = JSON.stringify(group.slice(0, form.apart));
    const place = (places.get(apart) ?? 0) + 1;
    places.set(apart, place);
    if (place <= top) kept.add(JSON.stringify(group));
  }
  const isKept = ({ group }: AggregateRow) => kept.has(JSON.stringify(group));
  const others = rows.filter((row) => !isKept(row))
    .map((row): AnswerRow => ({
      ...row,
      group: row.group.map((value, i) => i < form.apart ? value : null),
      isOther: true,
    }));
  return [...rows.filter(isKept), ...mergeRows(form, others)];
}

/** Adds a row for each span in which a group has none. */
export function fillEmpty(
  rows: readonly AnswerRow[],
  { form, stretches, always }: { form: RowForm; stretches: readonly BucketRange[]; always: boolean },
): AnswerRow[] {
  const nothing = form.measures.map((measure) =>
    measure.function === "count" ? 0 : measure.field === "amount" ? "0" : null
  );
  const groups = new Map<string, Pick<AnswerRow, "group" | "isOther">>();
  // Without groups there is one, also of no records.
  if (always) groups.set(nameOf({ group: [] }), { group: [] });
  for (const row of rows) groups.set(nameOf({ ...row, start: undefined }), row);
  const there = new Set(rows.map(nameOf));
  const filled = [...rows];
  for (const start of bucketStarts(stretches)) {
    for (const { group, isOther } of groups.values()) {
      const row = { start, group, ...(isOther ? { isOther } : {}), values: nothing };
      if (!there.has(nameOf(row))) filled.push(row);
    }
  }
  return filled;
}

/** By time, then by group; what has no value comes after what has, and the others last. */
export function compareRows(a: AnswerRow, b: AnswerRow): number {
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
