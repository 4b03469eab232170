/**
 * Post-processing of the rows of a backend: merges all but the top groups, and fills empty buckets.
 *
 * @module
 */
import type { Measure } from "../records/aggregation.ts";
import { bucketCount, type BucketRange, bucketsOf } from "../records/calendar.ts";
import { Decimal, percentOf } from "../records/decimal.ts";
import { mapSlices, slicesOf, sortSlices } from "../records/slices.ts";
import { Sums } from "../records/sums.ts";

/** A row of a result. Percentiles of merged groups are not known: undefined. */
export interface ResultRow {
  readonly start?: number;
  readonly end?: number;
  readonly group: readonly (string | null)[];
  readonly values: readonly (number | string | null | undefined)[];
  /** True for the row of all groups that are not at the top. */
  readonly isOther?: true;
  /** The first value in percent of those of all groups; only where asked for. */
  readonly share?: number;
  /** True in a period that is not over, or whose data ends earlier. */
  readonly isPartial?: true;
}

/** Value of a row by which groups are ranked, the greatest first. */
export type Ranking = (values: ResultRow["values"]) => ResultRow["values"][number];

export interface RowLayout {
  readonly measures: readonly Measure[];
  /** Number of leading values of each group that are never merged: the currency. */
  readonly leadingKeys: number;
  /** True if the sums are exact decimals. */
  readonly isMoney: boolean;
}

/** Selection of groups by rank. */
interface Selection {
  readonly layout: RowLayout;
  readonly rank: Ranking;
  readonly order: RowOrder;
  /** Number of groups that stay, for each value of the leading keys. */
  readonly most: number;
  /** True to put all others together in one. */
  readonly hasOther: boolean;
}

/** Keeps the first groups over all time, and puts the others together in one, or leaves them out. */
export async function selectGroups(
  rows: readonly ResultRow[],
  { layout, rank, order, most, hasOther }: Selection,
): Promise<ResultRow[]> {
  const overall = await mergeRows(layout, await mapSlices(rows, ({ start: _, end: __, ...row }) => row));
  const places = new Map<string, number>();
  const kept = new Set<string>();
  for (const { group } of await sortRows(overall, { layout, rank, order })) {
    const key = JSON.stringify(group.slice(0, layout.leadingKeys));
    const place = (places.get(key) ?? 0) + 1;
    places.set(key, place);
    if (place <= most) kept.add(JSON.stringify(group));
  }
  const [first, others]: [ResultRow[], ResultRow[]] = [[], []];
  for await (const slice of slicesOf(rows)) {
    for (const row of slice) (kept.has(JSON.stringify(row.group)) ? first : others).push(row);
  }
  if (!hasOther) return first;
  const other = await mapSlices(others, (row): ResultRow => ({
    ...row,
    group: row.group.map((value, i) => i < layout.leadingKeys ? value : null),
    isOther: true,
  }));
  return first.concat(await mergeRows(layout, other));
}

/** Order of groups: by rank, the largest or smallest first, or by name. */
export type RowOrder = "desc" | "asc" | "name";

/** Sorts rows by time, currency, and group: all others last, then by rank or name. */
export async function sortRows(
  rows: readonly ResultRow[],
  { layout: { leadingKeys }, rank, order }: Pick<Selection, "layout" | "rank" | "order">,
): Promise<ResultRow[]> {
  const ranked = await mapSlices(rows, (row) => ({
    row,
    leading: JSON.stringify(row.group.slice(0, leadingKeys)),
    value: order === "name" ? null : sortKey(rank(row.values)),
  }));
  const sign = order === "asc" ? 1 : -1;
  const sorted = await sortSlices(ranked, (a, b) =>
    (a.row.start ?? 0) - (b.row.start ?? 0) ||
    (a.leading === b.leading ? 0 : a.leading < b.leading ? -1 : 1) ||
    Number(a.row.isOther ?? false) - Number(b.row.isOther ?? false) ||
    sign * compareKeys(a.value, b.value) ||
    compareGroups(a.row.group, b.row.group)); // equal values: independent of the backend's order
  return sorted.map(({ row }) => row);
}

/** Adds a row for each bucket in which a group has none. */
export async function fillEmptyBuckets(
  rows: readonly ResultRow[],
  { layout, ranges, always, refuse }: {
    layout: RowLayout;
    ranges: readonly BucketRange[];
    /** True if there is a group even without records. */
    always: boolean;
    /** Throws if there would be too many rows. */
    refuse: (rows: number) => void;
  },
): Promise<ResultRow[]> {
  const values = emptyValues(layout);
  const groups = Map.groupBy(rows, ({ group, isOther }) => nameOf({ group, isOther }));
  if (always && groups.size === 0) groups.set("", []);
  refuse(bucketCount(ranges) * groups.size);
  const sorted = [...groups.values()].map((found) => ({
    group: found[0]?.group ?? [],
    ...(found[0]?.isOther ? { isOther: true as const } : {}),
    found: new Map(found.map((row) => [row.start, row])),
  }));
  const filled: ResultRow[] = [];
  for await (const slice of slicesOf([...bucketsOf(ranges)])) {
    for (const { start, end } of slice) {
      for (const { found, ...group } of sorted) {
        filled.push(found.get(start) ?? { start, end, ...group, values });
      }
    }
  }
  return filled;
}

/** By name; what has no value comes last. */
function compareGroups(a: ResultRow["group"], b: ResultRow["group"]): number {
  for (const [i, value] of a.entries()) {
    const other = b[i];
    if (value === other) continue;
    if (value === null || other === null) return value === null ? 1 : -1;
    return value < other ? -1 : 1;
  }
  return 0;
}

/** The values of a row without records. */
function emptyValues({ measures, isMoney }: RowLayout): ResultRow["values"] {
  return measures.map((measure) => measure.function === "count" ? 0 : isMoney ? "0" : null);
}

/** Returns a function that adds to a row its share of the first value of all rows, by bucket and leading keys. */
export async function sharesOf(
  rows: readonly ResultRow[],
  { leadingKeys }: RowLayout,
): Promise<(row: ResultRow) => ResultRow> {
  const wholeOf = ({ start, group }: ResultRow) => JSON.stringify([start, group.slice(0, leadingKeys)]);
  const sums = new Sums();
  for await (const slice of slicesOf(rows)) {
    for (const row of slice) sums.add(wholeOf(row), row.values[0] as string ?? "0");
  }
  const wholes = sums.toRecord();
  return (row) => ({
    ...row,
    share: percentOf(Number(row.values[0]), Number(wholes[wholeOf(row)] ?? "0")),
  });
}

/** Puts the values of earlier rows behind those of each row. Groups that only earlier rows have get a row. */
export async function joinEarlier(
  rows: readonly ResultRow[],
  earlier: readonly ResultRow[],
  [layout, earlierLayout]: readonly [RowLayout, RowLayout],
): Promise<ResultRow[]> {
  const [none, before] = [emptyValues(earlierLayout), emptyValues(layout)];
  const joined = new Map<string, ResultRow>();
  for await (const slice of slicesOf(rows)) {
    for (const row of slice) joined.set(nameOf(row), { ...row, values: [...row.values, ...none] });
  }
  for await (const slice of slicesOf(await mergeRows(earlierLayout, earlier))) {
    for (const row of slice) {
      const { values = before } = joined.get(nameOf(row)) ?? {};
      joined.set(nameOf(row), { ...row, values: [...values.slice(0, before.length), ...row.values] });
    }
  }
  return [...joined.values()];
}

function nameOf({ start, group, isOther }: Omit<ResultRow, "values">): string {
  return JSON.stringify([start, isOther, ...group]);
}

/** Puts the rows of each group within each span together. Sums of money stay decimals up to the last row. */
export async function mergeRows(
  { measures }: Pick<RowLayout, "measures">,
  rows: readonly ResultRow[],
): Promise<ResultRow[]> {
  const merged = new Map<string, ResultRow | { row: ResultRow; sums: (Value | Decimal)[] }>();
  const add = (row: ResultRow) => {
    const name = nameOf(row);
    const found = merged.get(name);
    if (found === undefined) {
      merged.set(name, row);
      return;
    }
    const sums = "sums" in found ? found.sums : [...found.values];
    for (const [i, value] of row.values.entries()) sums[i] = merge(measures[i], sums[i], value);
    if (!("sums" in found)) merged.set(name, { row, sums });
  };
  for await (const slice of slicesOf(rows)) for (const row of slice) add(row);
  return await mapSlices(
    [...merged.values()],
    (found) =>
      "sums" in found
        ? { ...found.row, values: found.sums.map((sum) => sum instanceof Decimal ? sum.toString() : sum) }
        : found,
  );
}

type Value = ResultRow["values"][number];

function merge(measure: Measure, a: Value | Decimal, b: Value): Value | Decimal {
  if (measure.function === "percentile") return undefined;
  if (a === null || a === undefined) return b;
  if (b === null || b === undefined) return a;
  if (measure.function === "min") return Math.min(a as number, b as number);
  if (measure.function === "max") return Math.max(a as number, b as number);
  if (typeof a === "number") return a + (b as number);
  return (a instanceof Decimal ? a : Decimal.from(a)).plus(Decimal.from(b));
}

/** A value as it sorts: sums of money as exact decimals. */
function sortKey(value: Value): Decimal | number {
  return typeof value === "string" ? Decimal.from(value) : value ?? -Infinity;
}

function compareKeys(a: Decimal | number | null, b: Decimal | number | null): number {
  if (a instanceof Decimal && b instanceof Decimal) return a.compare(b);
  const [left, right] = [a, b].map((key) => Number(key ?? 0));
  return left < right ? -1 : left > right ? 1 : 0;
}
