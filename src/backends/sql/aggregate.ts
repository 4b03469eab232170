import type { Aggregation, GroupKey } from "../../records/aggregation.ts";
import type { BucketRange } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";

/** What differs between databases when records are grouped. */
export interface GroupDialect {
  /** The time of a record in epoch milliseconds. */
  readonly epochMs: string;
  /** How a time stands in the statement. */
  value(time: number): string;
  /**
   * The value that belongs to the range in which a record lies, by a table of the starts of all ranges; none where a
   * nested CASE of any size will do.
   */
  lookUp?(starts: readonly number[], values: readonly number[]): string;
  /** What a map column holds under a key. */
  entry(column: string, key: string): string;
}

/** What is grouped by, as expressions: the beginning of the span where there are spans, then the groups. */
export function groupExpressions(
  dataset: Dataset<unknown>,
  { ranges, groupBy }: Aggregation,
  dialect: GroupDialect,
): string[] {
  const groups = groupBy.map(({ field, key }: GroupKey) => {
    const { name } = columnOf(dataset, field);
    return key === undefined ? name : dialect.entry(name, key);
  });
  return ranges && ranges.length > 0 ? [bucketOf(ranges, dialect), ...groups] : groups;
}

/** Of more ranges than these a table is made, where there can be one: few are found faster without. */
const MAX_CASES = 16;

/** Where the span of a record begins: its range is found by halving, so that many cost little more than few. */
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

/** What spans are counted from: a step earlier, as whole numbers are cut towards zero, which for earlier times would be up. */
function fromOf({ start, stepMs }: BucketRange): number {
  return start - stepMs;
}

function startOfSpan(from: number | string, step: number | string, { epochMs }: GroupDialect): string {
  return `${from} + (${epochMs} - ${from}) / ${step} * ${step}`;
}
