import { ValidationError } from "../errors.ts";
import type { GroupKey, Measure } from "../records/aggregation.ts";
import {
  type Bucket,
  BUCKET_SYNTAX,
  isTimeZone,
  parseBucket,
  TIME_ZONE_SYNTAX,
} from "../records/calendar.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import {
  acceptQuery,
  type CostEntriesQuery,
  type DeviceMetricsQuery,
  type MetricPointsQuery,
  queryFields,
  type RecordQuery,
  type ServiceMetricsQuery,
  type SystemMetricsQuery,
  type UsageRecordsQuery,
} from "../records/query.ts";
import type { ServiceMetrics } from "../records/service_metrics.ts";
import type { DeviceMetrics } from "../records/device_metrics.ts";
import type { MetricPoint } from "../records/metric_point.ts";
import type { SystemMetrics } from "../records/system_metrics.ts";
import type { UsageDecimalField, UsageRecord } from "../records/usage_record.ts";
import type { Comparison } from "../records/periods.ts";
import { expectedName } from "../records/where.ts";

/** Grouping options of an aggregate. */
export interface GroupingOptions {
  /**
   * Length of a time bucket: `30s`, `15m`, `6h`, `1d`, `1w` (from Monday), `1mo`, `3mo`, `1y`; all time
   * where it is not given.
   */
  bucket?: string;
  /** Text fields to group by, and keys of maps, as in `tags.team`. */
  groupBy?: readonly string[];
  /**
   * Includes the buckets without records, with a count of 0, for each group that has any. At most 500,000 rows.
   *
   * @default {false}
   */
  emptyBuckets?: boolean;
  /**
   * Only so many groups, of each currency those that cost the most, of metrics those with the highest first measure
   * that is no percentile (else with the most records); all others are put together in one.
   */
  top?: number;
  /**
   * Order of the groups within each bucket: by cost or that measure, the largest or the smallest first, or by name.
   *
   * @default {"desc" for costs and with top, else "name"}
   */
  order?: "desc" | "asc" | "name";
  /** Only the first so many groups over all time, in that order; of each currency. Without `top`. */
  limit?: number;
}

/** Measures of a numeric field: `p95` is a percentile, any from `p0` to `p100`. */
export type MeasureName = "avg" | "min" | "max" | "sum" | "count" | `p${number}`;

/** The fields of a record that are numbers, beside its time. */
export type NumericField<T> = Exclude<
  { [K in keyof T]-?: NonNullable<T[K]> extends number ? K : never }[keyof T],
  "timestamp"
>;

/** Measures by field. */
export type MeasuresOf<T> = Partial<Record<NumericField<T>, readonly MeasureName[]>>;

/** Measure of a cost aggregate: a cost, or a quantity, which adds up by its unit. */
export type CostMeasure = "amount" | "effectiveCost" | "listCost" | "contractedCost" | "consumedQuantity";
/** The measures of costs, and the field with the unit of those that have one. */
export const COST_MEASURES: Readonly<Record<CostMeasure, string | undefined>> = {
  amount: undefined,
  effectiveCost: undefined,
  listCost: undefined,
  contractedCost: undefined,
  consumedQuantity: "consumedUnit",
};

/** Filter, groups and measure of a cost aggregate. */
export interface CostAggregateQuery extends Omit<CostEntriesQuery, "limit" | "order">, GroupingOptions {
  /**
   * The field that is added up. Costs without it do not count.
   *
   * @default {"amount"}
   */
  measure?: CostMeasure;
  /** True to return the share of each group. */
  shares?: boolean;
  /**
   * Also returns what each group cost in the period before, or a year before: of buckets in the bucket before, else in
   * the months, days or hours before the time range. A period that is not over, or whose data ends earlier, is compared
   * with the same days.
   */
  compare?: Comparison;
}

/** Filter, groups and measures of system metrics. */
export interface SystemMetricsAggregateQuery
  extends Omit<SystemMetricsQuery, "limit" | "order">, GroupingOptions {
  /** Measures by field. */
  fields?: MeasuresOf<SystemMetrics>;
}

/** Filter, groups and measures of service metrics. */
export interface ServiceMetricsAggregateQuery
  extends Omit<ServiceMetricsQuery, "limit" | "order">, GroupingOptions {
  /** Measures by field. */
  fields?: MeasuresOf<ServiceMetrics>;
}

/** Filter, groups and measures of device metrics. */
export interface DeviceMetricsAggregateQuery
  extends Omit<DeviceMetricsQuery, "limit" | "order">, GroupingOptions {
  /** Measures by field. */
  fields?: MeasuresOf<DeviceMetrics>;
}

/** Filter, groups and measures of metric points. */
export interface MetricPointsAggregateQuery
  extends Omit<MetricPointsQuery, "limit" | "order">, GroupingOptions {
  /** Measures by field. */
  fields?: MeasuresOf<MetricPoint>;
}

/** Filter, groups and measures of usage records. */
export interface UsageRecordsAggregateQuery
  extends Omit<UsageRecordsQuery, "limit" | "order">, GroupingOptions {
  /** Measures by field. Quantities are kept apart by unit, reported costs by currency. */
  fields?: MeasuresOf<UsageRecord> & Partial<Record<UsageDecimalField, readonly ("sum" | "count")[]>>;
}

export interface FieldMeasure {
  readonly field: string;
  readonly measure: MeasureName;
}

/** Request for an aggregate, checked. */
export interface AggregateRequest {
  readonly query: RecordQuery;
  readonly bucket?: Bucket;
  readonly timeZone: string;
  /** The names by which groups were asked for, as in `tags.team`. */
  readonly groupNames: readonly string[];
  readonly groupBy: readonly GroupKey[];
  readonly fieldMeasures: readonly FieldMeasure[];
  readonly measure: CostMeasure;
  readonly emptyBuckets: boolean;
  readonly top?: number;
  readonly order: "desc" | "asc" | "name";
  readonly limit?: number;
  readonly shares: boolean;
  readonly compare?: Comparison;
}

/** Checks of the options beyond those of every query. `fields` is checked against the dataset. */
const CHECKS: Readonly<
  Record<string, { test(value: unknown): boolean; expected: string | ((value: unknown) => string) }>
> = {
  bucket: {
    test: (value) => typeof value === "string" && parseBucket(value) !== undefined,
    expected: BUCKET_SYNTAX,
  },
  timeZone: {
    test: (value) => typeof value === "string" && isTimeZone(value),
    expected: TIME_ZONE_SYNTAX,
  },
  groupBy: { test: Array.isArray, expected: "an array of fields" },
  emptyBuckets: { test: (value) => typeof value === "boolean", expected: "true or false" },
  top: {
    test: (value) => Number.isSafeInteger(value) && value as number > 0,
    expected: "a whole number from 1",
  },
  order: {
    test: (value) => ["desc", "asc", "name"].includes(value as string),
    expected: "desc, asc or name",
  },
  limit: {
    test: (value) => Number.isSafeInteger(value) && value as number > 0,
    expected: "a whole number from 1",
  },
  shares: { test: (value) => typeof value === "boolean", expected: "true or false" },
  compare: {
    test: (value) => value === "previous" || value === "year",
    expected: "previous or year",
  },
  measure: {
    test: (value) => Object.hasOwn(COST_MEASURES, value as string),
    expected: (value) => expectedName(value, Object.keys(COST_MEASURES)),
  },
  fields: { test: () => true, expected: "" },
};

/**
 * Checks a request against the dataset and fills in defaults.
 *
 * @throws {ValidationError} If a field is unknown or its value is wrong.
 */
export function acceptAggregateRequest(dataset: Dataset<unknown>, input: object = {}): AggregateRequest {
  const { options, selection } = splitOptions(dataset, input);
  const {
    bucket,
    timeZone = "UTC",
    groupBy = [],
    emptyBuckets = false,
    fields,
    measure = "amount",
    ...rest
  } = options;
  const { order = hasMoney(dataset) || rest.top !== undefined ? "desc" : "name", shares = false } = rest;
  const refuse = (field: string, value: unknown, expected: string): never => {
    throw invalidAggregate(dataset, { field, value, expected });
  };
  if (emptyBuckets && bucket === undefined) refuse("emptyBuckets", true, "false where no bucket is given");
  if (rest.top !== undefined && rest.limit !== undefined) {
    refuse("limit", rest.limit, "absent where top is given");
  }
  const query = acceptQuery(dataset, { ...selection, timeZone });
  if (rest.compare !== undefined && bucket === undefined && !query.startTime) {
    refuse("compare", rest.compare, "absent where neither startTime nor bucket is given");
  }
  return {
    ...rest,
    query,
    ...(bucket === undefined ? {} : { bucket: parseBucket(bucket as string) }),
    timeZone: timeZone as string,
    groupNames: groupBy as string[],
    groupBy: (groupBy as unknown[]).map((name) => acceptGroup(dataset, name)),
    fieldMeasures: acceptFields(dataset, fields),
    measure: measure as CostMeasure,
    emptyBuckets: emptyBuckets as boolean,
    order: order as AggregateRequest["order"],
    shares: shares as boolean,
  };
}

/** Options of costs only. */
const OF_COSTS = ["measure", "shares", "compare"];

/** Checks the options of aggregates, and returns them apart from those that select records. */
function splitOptions(dataset: Dataset<unknown>, input: object) {
  const unused = hasMoney(dataset) ? ["fields"] : OF_COSTS;
  const known = Object.keys(CHECKS).filter((field) => !unused.includes(field));
  const options: Record<string, unknown> = {};
  const selection: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(input)) {
    if (value === undefined) continue;
    if (known.includes(field)) {
      const { test, expected } = CHECKS[field];
      if (!test(value)) {
        throw invalidAggregate(dataset, {
          field,
          value,
          expected: typeof expected === "string" ? expected : expected(value),
        });
      }
      options[field] = value;
    } else if (queryFields(dataset).includes(field)) selection[field] = value;
    else throw invalidAggregate(dataset, { field, value, known: [...queryFields(dataset), ...known] });
  }
  return { options, selection };
}

/** The fields that records of a dataset can be grouped by, and `map.…` for the keys of a map. */
function groupableFields(dataset: Dataset<unknown>): string[] {
  const fields = dataset.columns.filter(({ field, type }) => type === "text" && !dataset.key.includes(field));
  const maps = dataset.columns.filter(({ type }) => type === "map");
  return [...fields.map(({ field }) => field), ...maps.map(({ field }) => `${field}.…`)];
}

/** Returns true if a dataset has amounts. They are grouped by currency and only summed. */
export function hasMoney({ amount }: Dataset<unknown>): boolean {
  return amount !== undefined;
}

/**
 * Returns the measures to request for a field. Averages that are merged later are requested as
 * sums and counts; else databases are faster with the average itself.
 */
export function backendMeasures({ field, measure }: FieldMeasure, top?: number): Measure[] {
  if (measure === "avg" && top !== undefined) {
    return [{ function: "sum", field }, { function: "count", field }];
  }
  const fraction = fractionOf(measure);
  if (fraction !== undefined) return [{ function: "percentile", field, fraction }];
  return [{ function: measure as "sum", field }];
}

/** The fraction that a percentile such as `p99.9` means. */
function fractionOf(name: string): number | undefined {
  const [, percent] = /^p(\d{1,2}(?:\.\d{1,6})?|100)$/.exec(name) ?? [];
  return percent === undefined ? undefined : Number(percent) / 100;
}

function acceptGroup(dataset: Dataset<unknown>, name: unknown): GroupKey {
  const [, map, key] = /^([^.]+)\.(.*)$/s.exec(String(name)) ?? [];
  const groupable = groupableFields(dataset);
  const isText = typeof name === "string" && !name.includes("\0") && name.isWellFormed();
  if (isText && map !== undefined && groupable.includes(`${map}.…`)) return { field: map, key };
  if (isText && map === undefined && groupable.includes(name)) return { field: name };
  throw invalidAggregate(dataset, { field: "groupBy", value: name, expected: expectedName(name, groupable) });
}

function acceptFields(dataset: Dataset<unknown>, fields: unknown = {}): FieldMeasure[] {
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    throw invalidAggregate(dataset, {
      field: "fields",
      value: fields,
      expected: 'an object such as { cpuUsage: ["avg"] }',
    });
  }
  const numeric = dataset.columns.filter(({ type }) => ["real", "integer", "decimal"].includes(type))
    .map(({ field }) => field);
  return Object.entries(fields).filter(([, measures]) => measures !== undefined).flatMap(
    ([field, measures]) => {
      if (!numeric.includes(field)) {
        throw invalidAggregate(dataset, {
          field: `fields.${field}`,
          value: field,
          expected: expectedName(field, numeric),
        });
      }
      if (!Array.isArray(measures)) {
        throw invalidAggregate(dataset, {
          field: `fields.${field}`,
          value: measures,
          expected: "an array of measures",
        });
      }
      return measures.map((measure) => {
        const isDecimal = columnOf(dataset, field).type === "decimal";
        const names = isDecimal ? ["sum", "count"] : ["avg", "min", "max", "sum", "count"];
        const isKnown = names.includes(measure) || (!isDecimal && fractionOf(String(measure)) !== undefined);
        if (isKnown) return { field, measure };
        const expected = isDecimal
          ? "sum or count"
          : `one of ${names.join(", ")}, or a percentile such as p95`;
        throw invalidAggregate(dataset, { field: `fields.${field}`, value: measure, expected });
      });
    },
  );
}

export function invalidAggregate(
  dataset: Dataset<unknown>,
  problem: { field: string; value: unknown } & ({ expected: string } | { known: string[] }),
): ValidationError {
  return new ValidationError({ subject: `an aggregate of ${dataset.name}`, ...problem });
}
