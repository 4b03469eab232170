/**
 * What a backend is asked to count and add up, as data.
 *
 * @module
 */
import type { BucketRange } from "./calendar.ts";

/** What records are grouped by: a text field, or a key of a map field. */
export interface GroupKey {
  /** The field. */
  readonly field: string;
  /** The key, where the field is a map. */
  readonly key?: string;
}

/** What is asked of each group. */
export type Measure =
  /** The number of records, or of those that have the field. */
  | { readonly function: "count"; readonly field?: string }
  /** Over the values that are there; null where there is none. The sum of amounts is exact, a decimal string; nothing but it is asked of them. */
  | { readonly function: "avg" | "sum" | "min" | "max"; readonly field: string }
  /**
   * The value that this fraction of the values does not exceed; between two values in proportion, as `percentile_cont`
   * of SQL has it.
   */
  | { readonly function: "percentile"; readonly field: string; readonly fraction: number };

/** What a backend counts and adds up of the records that a query finds, whatever the query's limit and order. */
export interface Aggregation {
  /**
   * The spans of time, one after the other; all time where not given. Records before the first or after the last count
   * for spans that begin there: who asks leaves those out, or has a query that finds no such records.
   */
  readonly ranges?: readonly BucketRange[];
  /** What is told apart. */
  readonly groupBy: readonly GroupKey[];
  /** What is wanted. */
  readonly measures: readonly Measure[];
  /**
   * Whether what is rolled up may stand in where it says the same as the records.
   *
   * @default {false}
   */
  readonly mayUseRollUps?: boolean;
}

/** What a backend has found of one group within one span of time. Spans and groups without records are left out. */
export interface AggregateRow {
  /** Where the span begins, in epoch milliseconds. */
  readonly start?: number;
  /** The values by which it is grouped; null for records that have none. */
  readonly group: readonly (string | null)[];
  /** The measures, in the order in which they were asked for. */
  readonly values: readonly (number | string | null)[];
}

/** What `percentile_cont` gives between two neighbors in the order of values, to the last bit. */
export function interpolate(fraction: number, count: number, [low, high]: readonly [number, number]): number {
  const at = fraction * (count - 1);
  return low + (at - Math.floor(at)) * (high - low);
}
