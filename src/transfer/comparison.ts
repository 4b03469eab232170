/**
 * Comparison of source and target by time range.
 *
 * @module
 */
import type { Backend, CurrencyTotal } from "../backends/backend.ts";
import type { Dataset } from "../records/dataset.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptQuery } from "../records/query.ts";

/** Rows and totals of one side. */
export interface DatasetTotals {
  /** The number of records. */
  rows: number;
  /** The exact total of each currency. */
  totals: CurrencyTotal[];
}

/** Counts and totals of one group in one time range, comparable between backends. */
export interface Tally {
  /** Start of the range, in epoch milliseconds. */
  readonly start: number;
  /** The values of the fields that the dataset is grouped by. */
  readonly group: readonly string[];
  readonly rows: number;
  /** The exact sum of their amounts, where the records have one. */
  readonly total?: string;
}

/** Counts and adds up the records of a range, for each group and each span of time that holds any. */
export async function tally(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  { start, end, spanMs }: Range & { spanMs: number },
): Promise<Tally[]> {
  const { amount } = dataset;
  const query = { ...acceptQuery(dataset), startTime: start, endTime: end };
  const rows = await backend.aggregate(dataset, query, {
    ranges: [{ start, end, stepMs: spanMs }],
    groupBy: dataset.groups.map((field) => ({ field })),
    measures: [{ function: "count" }, ...(amount ? [{ function: "sum", field: amount } as const] : [])],
  });
  return rows.map(({ start, group, values: [rows, total] }) => ({
    start: start!,
    group: group as string[],
    rows: rows as number,
    ...(amount ? { total: total as string } : {}),
  }));
}

/** From one time until before another. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Counts of source and target in a time range. */
export interface Span extends Range {
  readonly source: Tally[];
  readonly target: Tally[];
}

/** The spans that tallies of both sides are of, in the order of time. */
export function toSpans(
  { source, target }: { source: readonly Tally[]; target: readonly Tally[] },
  { spanMs, end }: { spanMs: number; end: number },
): Span[] {
  const spans = new Map<number, Span>();
  const spanOf = ({ start }: Tally) => {
    let span = spans.get(start);
    if (!span) {
      spans.set(start, span = { start, end: Math.min(start + spanMs, end), source: [], target: [] });
    }
    return span;
  };
  for (const tally of source) spanOf(tally).source.push(tally);
  const sourceNames = new Set(source.map(({ group }) => nameOf(group)));
  for (const tally of target) {
    // Other records of the target are ignored.
    if (sourceNames.has(nameOf(tally.group))) spanOf(tally).target.push(tally);
  }
  return [...spans.values()].sort((a, b) => a.start - b.start);
}

/** A group as a key. */
export function nameOf(group: readonly string[]): string {
  return group.join("\0");
}

/** The groups of the source of which the target does not hold as much. */
export function differingGroups({ source, target }: Span): (readonly string[])[] {
  const inTarget = new Map(target.map((tally) => [nameOf(tally.group), tally]));
  return source.filter(({ group, rows, total }) => {
    const other = inTarget.get(nameOf(group));
    return other?.rows !== rows || other.total !== total;
  }).map(({ group }) => group);
}

/** Returns true if both sides have the same counts and totals in each group. */
export function isSame(span: Span): boolean {
  return span.source.length === span.target.length && differingGroups(span).length === 0;
}

/** Returns the least number of rows that the target lacks. */
export function missingRows({ source, target }: Span): number {
  const inTarget = new Map(target.map(({ group, rows }) => [nameOf(group), rows]));
  return sum(source.map(({ group, rows }) => Math.max(0, rows - (inTarget.get(nameOf(group)) ?? 0))));
}

/** The rows of some tallies. */
export function rowsIn(tallies: readonly Tally[]): number {
  return sum(tallies.map(({ rows }) => rows));
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Sums tallies: rows, and totals by currency for datasets with amounts. */
export function addTallies(tallies: readonly Tally[]): DatasetTotals {
  const totals = new Map<string, { sum: Decimal; count: number }>();
  for (const { group: [currency], rows, total } of tallies) {
    if (total === undefined) continue;
    const { sum, count } = totals.get(currency) ?? { sum: Decimal.ZERO, count: 0 };
    totals.set(currency, { sum: sum.plus(Decimal.from(total)), count: count + rows });
  }
  const currencies = [...totals].sort(([a], [b]) => a < b ? -1 : 1);
  return {
    rows: rowsIn(tallies),
    totals: currencies.map(([currency, { sum, count }]) => ({ currency, total: sum.toString(), count })),
  };
}
