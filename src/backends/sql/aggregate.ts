import type { Aggregation, GroupKey } from "../../records/aggregation.ts";
import type { BucketRange } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { valueOf } from "./select.ts";

/** SQL of grouping that differs between databases. */
export interface GroupDialect {
  /** The time of a record in epoch milliseconds. */
  readonly epochMs: string;
  /** Writes a text, or a time in epoch milliseconds, into the statement. */
  value(value: string | number): string;
  /**
   * The value that belongs to the range in which a record lies, by a table of the starts of all ranges; none where a
   * nested CASE of any size will do.
   */
  lookUp?(starts: readonly number[], values: readonly number[]): string;
  /** Reads the entry of a map column. */
  entry(column: string, key: string): string;
  /**
   * Operator that divides whole numbers, and truncates towards zero.
   *
   * @default {"/"}
   */
  readonly division?: string;
}

/** Grouping expressions: the start of the range if there are ranges, then the groups. */
export function groupExpressions(
  dataset: Dataset<unknown>,
  { ranges, groupBy }: Aggregation,
  dialect: GroupDialect,
): string[] {
  const groups = groupBy.map(({ field, key }: GroupKey) => {
    const column = columnOf(dataset, field);
    return key === undefined ? valueOf(column, dialect) : dialect.entry(column.name, key);
  });
  return ranges && ranges.length > 0 ? [bucketOf(ranges, dialect), ...groups] : groups;
}

/** Above this number of ranges a table is used if possible: few are found faster without. */
const MAX_CASES = 16;

/** Start of the range of a record, found by binary search, so that many ranges cost little more than few. */
function bucketOf(ranges: readonly BucketRange[], dialect: GroupDialect): string {
  if (ranges.length > MAX_CASES && dialect.lookUp) {
    const starts = ranges.map(({ start }) => start);
    const from = dialect.lookUp(starts, ranges.map(fromOf));
    const step = dialect.lookUp(starts, ranges.map(({ stepMs }) => stepMs));
    return startOfSpan(from, step, dialect);
  }
  if (ranges.length > 1) {
    const middle = ranges.length >> 1;
    const [before, after] = [ranges.slice(0, middle), ranges.slice(middle)]
      .map((half) => bucketOf(half, dialect));
    return `CASE WHEN timestamp < ${dialect.value(ranges[middle].start)} THEN ${before} ELSE ${after} END`;
  }
  const [range] = ranges;
  return startOfSpan(fromOf(range), range.stepMs, dialect);
}

/** Origin of the ranges: one step earlier, because integer division truncates towards zero, which would round earlier times up. */
function fromOf({ start, stepMs }: BucketRange): number {
  return start - stepMs;
}

function startOfSpan(from: number | string, step: number | string, dialect: GroupDialect): string {
  const { epochMs, division = "/" } = dialect;
  return `${from} + (${epochMs} - ${from}) ${division} ${step} * ${step}`;
}
