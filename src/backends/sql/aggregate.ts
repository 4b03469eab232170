import type { Aggregation, GroupKey } from "../../records/aggregation.ts";
import type { Stretch } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";

/** What differs between databases when records are grouped. */
export interface GroupDialect {
  /** The time of a record in epoch milliseconds. */
  readonly epochMs: string;
  /** How a time stands in the statement. */
  value(time: number): string;
  /** What a map column holds under a key. */
  entry(column: string, key: string): string;
}

/** What is grouped by, as expressions: the beginning of the span where there are spans, then the groups. */
export function groupExpressions(
  dataset: Dataset<unknown>,
  { stretches, groupBy }: Aggregation,
  dialect: GroupDialect,
): string[] {
  const groups = groupBy.map(({ field, key }: GroupKey) => {
    const { name } = columnOf(dataset, field);
    return key === undefined ? name : dialect.entry(name, key);
  });
  return stretches && stretches.length > 0 ? [bucketOf(stretches, dialect), ...groups] : groups;
}

/** Where the span of a record begins: its stretch is found by halving, so that many cost little more than few. */
function bucketOf(stretches: readonly Stretch[], dialect: GroupDialect): string {
  if (stretches.length > 1) {
    const middle = stretches.length >> 1;
    const [before, after] = [stretches.slice(0, middle), stretches.slice(middle)]
      .map((half) => bucketOf(half, dialect));
    return `CASE WHEN timestamp < ${dialect.value(stretches[middle].start)} THEN ${before} ELSE ${after} END`;
  }
  const [{ start, stepMs }] = stretches;
  // Counted from a step earlier: whole numbers are cut towards zero, which for earlier times would be up.
  const from = start - stepMs;
  return `${from} + (${dialect.epochMs} - ${from}) / ${stepMs} * ${stepMs}`;
}
