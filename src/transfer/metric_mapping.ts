import type { DatasetName } from "../records/dataset.ts";

/** Values of labels: `|` separates alternatives, of names as of values, and `*` is any value. */
export type LabelFilter = Readonly<Record<string, string>>;

/** Series of some metrics whose values are combined into one number. */
export interface Term {
  /** Names of the metrics; those that a target lacks do not count. */
  readonly metrics: readonly string[];
  /** Labels that a series must have. */
  readonly where?: LabelFilter;
  /** Labels that a series must not have. */
  readonly except?: LabelFilter;
  /** True for a counter: what counts is its increase per second between two scrapes, or `increase` all of it. */
  readonly counter?: "rate" | "increase";
  /**
   * Function that combines several series of a record into one number.
   *
   * @default {"sum"}
   */
  readonly by?: "sum" | "avg" | "max";
  /** Quantile from 0 to 1 of a histogram, whose buckets the series are, each with its upper bound as the label `le`. */
  readonly quantile?: number;
}

/** A field of a record and the metrics that it comes from. */
export interface MetricField extends Term {
  readonly dataset: DatasetName;
  readonly field: string;
  /**
   * Factor from the unit of the metric to that of the field.
   *
   * @default {1}
   */
  readonly scale?: number;
  /** Divides by this term, as in used of total. */
  readonly over?: Term;
  /** True to subtract the value from 1: `1 - idle`. */
  readonly isComplement?: true;
  /** True if the field is true or false: true for a value with any of these bits. */
  readonly bits?: number;
}

/** Makes the function that describes fields of a dataset. */
export function fieldsOf(
  dataset: DatasetName,
  common: Partial<Term> = {},
): (field: string, term: Term, more?: Partial<MetricField>) => MetricField {
  return (field, term, more) => ({ dataset, field, ...common, ...term, ...more });
}

/** Counters whose growth per second counts. */
export function rate(...metrics: readonly string[]): Term {
  return { metrics, counter: "rate" };
}
