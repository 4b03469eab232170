import { ValidationError } from "../errors.ts";
import type { Dataset } from "./dataset.ts";
import { acceptMap, acceptText, acceptTimeText, acceptTimeZone } from "./validation.ts";
import { acceptWhere, type Condition, type WhereCondition } from "./where.ts";

/** Options of every query. Ranges are half-open: `[startTime, endTime)`. */
export interface TimeRangeQuery {
  /** The earliest time, inclusive: epoch milliseconds, a `Date`, or a text such as `2026-10`, which is its start. */
  startTime?: number | Date | string;
  /** The latest time, exclusive: epoch milliseconds, a `Date`, or a text, as in `this-month`. */
  endTime?: number | Date | string;
  /**
   * The time zone in which texts are read and days begin, as in `America/New_York`.
   *
   * @default {the timeZone of the configuration}
   */
  timeZone?: string;
  /** The most records to return; all where it is not given. */
  limit?: number;
  /**
   * Order by time: oldest or newest first.
   *
   * @default {"asc"}
   */
  order?: "asc" | "desc";
  /** Conditions on any field or key of a map, all of which have to hold. */
  where?: readonly WhereCondition[];
}

/** A query over system metrics. */
export interface SystemMetricsQuery extends TimeRangeQuery {
  /** Only this cluster. */
  clusterId?: string;
  /** Only this node. */
  nodeId?: string;
}

/** A query over service metrics. */
export interface ServiceMetricsQuery extends TimeRangeQuery {
  /** Only this service. */
  serviceName?: string;
}

/** A query over device metrics. */
export interface DeviceMetricsQuery extends TimeRangeQuery {
  /** Only this cluster. */
  clusterId?: string;
  /** Only this node. */
  nodeId?: string;
  /** Only this device. */
  deviceId?: string;
}

/** A query over metric points. */
export interface MetricPointsQuery extends TimeRangeQuery {
  /** Only this metric. */
  name?: string;
}

/** A query over usage records. */
export interface UsageRecordsQuery extends TimeRangeQuery {
  /** Only this provider. */
  provider?: string;
  /** Only this model. */
  model?: string;
  /** Only this service. */
  serviceName?: string;
  /** Only records that have all of these tags. */
  tags?: Record<string, string>;
}

/** A query over cost entries. */
export interface CostEntriesQuery extends TimeRangeQuery {
  /** Only this category. */
  category?: string;
  /** Only this resource. */
  resourceId?: string;
  /** Only this region. */
  region?: string;
  /** Only this currency. */
  currency?: string;
  /** Only entries that have all of these tags. */
  tags?: Record<string, string>;
}

/** A query that has been checked; what backends get. */
export interface RecordQuery {
  /** The earliest time, inclusive, in epoch milliseconds. */
  readonly startTime?: number;
  /** The latest time, exclusive, in epoch milliseconds. */
  readonly endTime?: number;
  /** Text fields and the value each must have. */
  readonly equals: Readonly<Record<string, string>>;
  /** Entries that the dataset's `mapFilter` field must contain. */
  readonly entries: Readonly<Record<string, string>>;
  /** Further conditions. */
  readonly where?: readonly Condition[];
  /** The most records to return. */
  readonly limit?: number;
  /** Order by time: oldest or newest first. */
  readonly order: "asc" | "desc";
}

/**
 * Checks a query against the dataset.
 *
 * @throws {ValidationError} If a field is unknown or its value is wrong.
 */
export function acceptQuery(dataset: Dataset<unknown>, input: object = {}): RecordQuery {
  const subject = `a query of ${dataset.name}`;
  const refuse = (field: string, value: unknown, expected: string): never => {
    throw new ValidationError({ subject, field, value, expected });
  };
  const query: { -readonly [K in keyof RecordQuery]: RecordQuery[K] } = {
    equals: {},
    entries: {},
    order: "asc",
  };
  const equals: Record<string, string> = {};
  const timeZone = acceptTimeZone(subject, (input as TimeRangeQuery).timeZone);
  for (const [field, value] of Object.entries(input)) {
    if (value === undefined) continue;
    if (field === "startTime" || field === "endTime") {
      // 0 says "from the beginning" often enough not to be taken for a time in seconds.
      query[field] = Number(value) === 0 && value !== ""
        ? 0
        : acceptTimeText(subject, field, value, timeZone);
    } else if (field === "timeZone") {
      continue;
    } else if (field === "limit") {
      if (!Number.isSafeInteger(value) || value < 1) refuse(field, value, "a whole number from 1");
      query.limit = value;
    } else if (field === "order") {
      if (value !== "asc" && value !== "desc") refuse(field, value, "asc or desc");
      query.order = value;
    } else if (dataset.filters.includes(field)) {
      equals[field] = acceptText(subject, field, value);
    } else if (field === "where") {
      query.where = acceptWhere(dataset, value, timeZone);
    } else if (field === dataset.mapFilter) {
      query.entries = acceptMap(subject, field, value);
    } else throw new ValidationError({ subject, field, value, known: queryFields(dataset) });
  }
  if ((query.startTime ?? 0) > (query.endTime ?? Infinity)) {
    const [start, end] = [new Date(query.startTime!), new Date(query.endTime!)];
    refuse("startTime", start, `no later than endTime (${end.toISOString()})`);
  }
  return { ...query, equals };
}

/** Returns the options of a query of a dataset. */
export function queryFields(dataset: Dataset<unknown>): string[] {
  const map = dataset.mapFilter ? [dataset.mapFilter] : [];
  return ["startTime", "endTime", "limit", "order", "timeZone", "where", ...dataset.filters, ...map];
}
