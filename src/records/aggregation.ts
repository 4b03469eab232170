/**
 * Aggregation request to a backend, as data.
 *
 * @module
 */
import type { BucketRange } from "./calendar.ts";

/** Grouping key: a text field, or a key of a map field. */
export interface GroupKey {
  /** The field. */
  readonly field: string;
  /** The key, where the field is a map. */
  readonly key?: string;
}

/** Measure of each group. */
export type Measure =
  /** The number of records, or of those that have the field. */
  | { readonly function: "count"; readonly field?: string }
  /** Computed over present values; null without any. Amounts have only a sum, an exact decimal string. */
  | { readonly function: "avg" | "sum" | "min" | "max"; readonly field: string }
  /**
   * The value that this fraction of the values does not exceed; between two values in proportion, as `percentile_cont`
   * of SQL has it.
   */
  | { readonly function: "percentile"; readonly field: string; readonly fraction: number };

/** Aggregation of the records that match a query. Limit and order of the query are ignored. */
export interface Aggregation {
  /**
   * The spans of time, one after the other; all time where not given. Records before the first or after the last count
   * for spans that begin there: who asks leaves those out, or has a query that finds no such records.
   */
  readonly ranges?: readonly BucketRange[];
  /** Grouping keys. */
  readonly groupBy: readonly GroupKey[];
  /** Measures. */
  readonly measures: readonly Measure[];
  /**
   * Allow rollups if they give the same result as the records.
   *
   * @default {false}
   */
  readonly mayUseRollUps?: boolean;
}

/** Result of one group in one time range. Ranges and groups without records are left out. */
export interface AggregateRow {
  /** Start of the range, in epoch milliseconds. */
  readonly start?: number;
  /** Values of the grouping keys; null for records without one. */
  readonly group: readonly (string | null)[];
  /** Measures in the order of the request. */
  readonly values: readonly (number | string | null)[];
}

/** Interpolates between two neighboring values as `percentile_cont` does, to the last bit. */
export function interpolate(fraction: number, count: number, [low, high]: readonly [number, number]): number {
  const at = fraction * (count - 1);
  return low + (at - Math.floor(at)) * (high - low);
}

/** Returns a quantile of sorted numbers, as {@linkcode interpolate} does. */
export function quantile(sorted: ArrayLike<number>, fraction: number): number {
  const at = fraction * (sorted.length - 1);
  return interpolate(fraction, sorted.length, [sorted[Math.floor(at)], sorted[Math.ceil(at)]]);
}
