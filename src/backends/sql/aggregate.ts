import type { AggregateRow, Aggregation, GroupKey, Measure } from "../../records/aggregation.ts";
import type { BucketRange } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { valueOf } from "./select.ts";

/** SQL of grouping that differs between databases. */
export interface GroupDialect {
  /** A time in epoch milliseconds. */
  epochMs(time: string): string;
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

/** SQL of aggregates that differs between databases. */
export interface AggregateDialect extends GroupDialect {
  /** The type of floating-point numbers. */
  readonly real: string;
  /** The exact sum of a column of amounts. */
  sum(column: string): string;
  /** An expression as it is selected. */
  select(expression: string): string;
  /** A key of the step in which a record lies: groups by it take less time than those by its start. */
  stepOf?(from: number, stepMs: number): string;
  /** The start of a step in epoch milliseconds. */
  startOf(step: string, from: number, stepMs: number): string;
}

/** Source of the rows, and SQL of a measure of them. */
export interface AggregateSource {
  /** The table, or a query in parentheses with a name. */
  readonly from: string;
  /** The `WHERE` clause, or nothing. */
  readonly where: string;
  /**
   * Expression of a measure, whose value is a number or null.
   *
   * @default {measureOfRecords}
   */
  readonly measure?: typeof measureOfRecords;
}

/** A measure of the records themselves. */
export function measureOfRecords(
  dataset: Dataset<unknown>,
  measure: Measure,
  { epochMs, real, sum }: AggregateDialect,
): string {
  if (measure.field === undefined) return "count(*)";
  const { name, type } = columnOf(dataset, measure.field);
  if (measure.function === "percentile") {
    return `percentile_cont(${measure.fraction}::${real}) WITHIN GROUP (ORDER BY ${name}::${real})`;
  }
  const value = `${measure.function}(${name})`;
  if (measure.function === "count") return value;
  if (type === "decimal") return sum(name);
  if (type === "timestamp") return epochMs(value);
  return type === "integer" ? `${value}::${real}` : value;
}

/** The statement that aggregates. */
export function aggregateStatement(
  dataset: Dataset<unknown>,
  aggregation: Aggregation,
  { from, where, measure = measureOfRecords, dialect }: AggregateSource & { dialect: AggregateDialect },
): string {
  const { ranges = [], measures } = aggregation;
  const groups = groupExpressions(dataset, aggregation, dialect);
  const columns = [...groups, ...measures.map((requested) => measure(dataset, requested, dialect))];
  const [range] = ranges;
  if (ranges.length === 1 && dialect.stepOf) {
    groups[0] = dialect.stepOf(fromOf(range), range.stepMs);
    columns[0] = dialect.startOf(groups[0], fromOf(range), range.stepMs);
    // With the cast no expression is a bare number, which would be taken for the position of a column.
  } else if (range) columns[0] = groups[0] = `(${groups[0]})::bigint`;
  const grouping = groups.length > 0 ? `GROUP BY ${groups.join(", ")}` : "";
  return `SELECT ${columns.map(dialect.select).join(", ")} FROM ${from} ${where} ${grouping}`;
}

/** Reads a row of {@linkcode aggregateStatement}. */
export function readAggregateRow(
  dataset: Dataset<unknown>,
  { ranges, groupBy, measures }: Aggregation,
  row: readonly unknown[],
): AggregateRow {
  const first = ranges && ranges.length > 0 ? 1 : 0;
  const values = row.slice(first + groupBy.length).map((value, i) => {
    const { field, function: name } = measures[i];
    const isAmount = field !== undefined && name !== "count" && columnOf(dataset, field).type === "decimal";
    return value === null || isAmount ? value as string | null : Number(value);
  });
  return {
    ...(first ? { start: Number(row[0]) } : {}),
    group: row.slice(first, first + groupBy.length) as (string | null)[],
    values,
  };
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
  return `${from} + (${epochMs("timestamp")} - ${from}) ${division} ${step} * ${step}`;
}
