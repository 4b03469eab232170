/**
 * Requests to a backend as JSON, for programs that read through a server. The server validates them again.
 *
 * @module
 */
import { ValidationError } from "../../errors.ts";
import type { Aggregation, GroupKey, Measure } from "../../records/aggregation.ts";
import type { BucketRange } from "../../records/calendar.ts";
import type { Column, Dataset } from "../../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../../records/query.ts";
import { type Condition, findField, type Operator, type WhereCondition } from "../../records/where.ts";

/** Names of comparisons in a {@linkcode WhereCondition}. */
const NAMES: Readonly<Record<Operator, keyof WhereCondition>> = {
  in: "in",
  notIn: "notIn",
  ">": "gt",
  ">=": "gte",
  "<": "lt",
  "<=": "lte",
  missing: "missing",
  present: "missing",
};

/** Writes a checked query as {@linkcode acceptBackendQuery} reads it. */
export function toBackendQuery(
  dataset: Dataset<unknown>,
  { equals, entries, where = [], ...rest }: RecordQuery,
): Record<string, unknown> {
  return {
    ...rest,
    ...equals,
    ...(Object.keys(entries).length > 0 ? { [dataset.mapFilter!]: entries } : {}),
    ...(where.length > 0 ? { where: where.map(toWhere) } : {}),
  };
}

function toWhere({ field, key, operator, values }: Condition): WhereCondition {
  const isList = operator === "in" || operator === "notIn";
  const value = isList
    ? values
    : operator === "missing" || operator === "present"
    ? operator === "missing"
    : values[0];
  return { field: key === undefined ? field : `${field}.${key}`, [NAMES[operator]]: value };
}

/**
 * Checks a query that came as JSON.
 *
 * @throws {ValidationError} If it is wrong.
 */
export function acceptBackendQuery(dataset: Dataset<unknown>, input: unknown): RecordQuery {
  const { startTime, endTime, ...rest } = acceptObject(dataset, "query", input);
  // Views compute bounds, which may be earlier or later than any that is asked for.
  const times = Object.entries({ startTime, endTime }).filter(([, time]) => time !== undefined);
  for (const [field, time] of times) {
    if (!Number.isSafeInteger(time)) throw refusal(dataset, field, time, "epoch milliseconds");
  }
  return { ...acceptQuery(dataset, rest), ...Object.fromEntries(times) };
}

/** The types of the fields that each measure takes. */
const TYPES: Readonly<Record<Exclude<Measure["function"], "count">, readonly Column["type"][]>> = {
  avg: ["real", "integer"],
  sum: ["real", "integer", "decimal"],
  min: ["real", "integer", "timestamp"],
  max: ["real", "integer", "timestamp"],
  percentile: ["real", "integer"],
};

/**
 * Checks an aggregation that came as JSON.
 *
 * @throws {ValidationError} If it is wrong.
 */
export function acceptAggregation(dataset: Dataset<unknown>, input: unknown): Aggregation {
  const { ranges, groupBy, measures, mayUseRollUps = false } = acceptObject(dataset, "aggregation", input);
  return {
    ...(ranges === undefined
      ? {}
      : { ranges: acceptList(dataset, "ranges", ranges).map((each) => acceptRange(dataset, each)) }),
    groupBy: acceptList(dataset, "groupBy", groupBy).map((each) => acceptKey(dataset, each)),
    measures: acceptList(dataset, "measures", measures).map((each) => acceptMeasure(dataset, each)),
    mayUseRollUps: mayUseRollUps === true,
  };
}

function acceptRange(
  dataset: Dataset<unknown>,
  { start, end, stepMs }: Record<string, unknown>,
): BucketRange {
  const isRange = [start, end, stepMs].every(Number.isSafeInteger) && start as number <= (end as number) &&
    stepMs as number > 0;
  if (isRange) return { start: start as number, end: end as number, stepMs: stepMs as number };
  throw refusal(dataset, "ranges", start, "a start, an end and a stepMs in milliseconds");
}

function acceptKey(dataset: Dataset<unknown>, { field, key }: Record<string, unknown>): GroupKey {
  const found = findField(dataset, key === undefined ? field : `${field}.${key}`);
  const isGroup = found && found.column.field === field && ["text", "map"].includes(found.column.type);
  if (isGroup) return { field, ...(found.key === undefined ? {} : { key: found.key }) };
  throw refusal(dataset, "groupBy", field, "a field of text, or a map and a key");
}

function acceptMeasure(dataset: Dataset<unknown>, input: Record<string, unknown>): Measure {
  const { function: name, field, fraction } = input;
  const column = dataset.columns.find((column) => column.field === field);
  if (name === "count" && (field === undefined || column)) {
    return { function: name, ...(column ? { field: column.field } : {}) };
  }
  const types = Object.hasOwn(TYPES, String(name)) ? TYPES[name as keyof typeof TYPES] : [];
  if (!column || !types.includes(column.type)) {
    throw refusal(dataset, "measures", name, "a measure of a field that has it");
  }
  if (name !== "percentile") return { function: name as "sum", field: column.field };
  if (typeof fraction === "number" && fraction >= 0 && fraction <= 1) {
    return { function: name, field: column.field, fraction };
  }
  throw refusal(dataset, "fraction", fraction, "a number from 0 to 1");
}

function acceptObject(dataset: Dataset<unknown>, field: string, input: unknown): Record<string, unknown> {
  if (typeof input === "object" && input !== null && !Array.isArray(input)) {
    return input as Record<string, unknown>;
  }
  throw refusal(dataset, field, input, "an object");
}

function acceptList(dataset: Dataset<unknown>, field: string, input: unknown): Record<string, unknown>[] {
  if (!Array.isArray(input)) throw refusal(dataset, field, input, "an array");
  return input.map((item) => acceptObject(dataset, field, item));
}

function refusal(
  dataset: Dataset<unknown>,
  field: string,
  value: unknown,
  expected: string,
): ValidationError {
  return new ValidationError({ subject: `a request for ${dataset.name}`, field, value, expected });
}
