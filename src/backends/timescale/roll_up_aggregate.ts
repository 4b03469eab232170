/**
 * Answers from roll-ups, where those say what the records say.
 *
 * @module
 */
import type { Aggregation, Measure } from "../../records/aggregation.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import type { AggregateSource } from "../sql/aggregate.ts";
import { DIALECT, literal, timeLiteral } from "../postgres/schema.ts";
import { whereClause } from "../sql/select.ts";
import { HOUR_MS } from "../../records/calendar.ts";
import { hypertableCondition } from "./chunks.ts";

/** Days are put together from hours as well: so they may begin at midnight of a time zone. */
const hourlyOf = (dataset: Dataset<unknown>) => `${dataset.name}_hourly`;

/** The hourly roll-up in place of the records, or nothing where it does not know what is asked. */
export function rollUpSource(
  dataset: Dataset<unknown>,
  query: RecordQuery,
  { ranges = [], groupBy, measures }: Aggregation,
): AggregateSource | undefined {
  const times = [
    query.startTime,
    query.endTime,
    ...ranges.flatMap(({ start, end, stepMs }) => [start, end, stepMs]),
  ];
  const fields = [...Object.keys(query.equals), ...groupBy.map(({ field }) => field)];
  const isKnown = dataset.rollUpBy.length > 0 && times.every((time = 0) => time % HOUR_MS === 0) &&
    Object.keys(query.entries).length === 0 && (query.where ?? []).length === 0 &&
    fields.every((field) => dataset.rollUpBy.includes(field)) &&
    measures.every((measure) => isRolledUp(dataset, measure));
  if (!isKnown) return undefined;
  return {
    from: `(SELECT bucket AS timestamp, * FROM ${hourlyOf(dataset)}) AS hours`,
    where: whereClause(dataset, query, DIALECT),
    measure: measureOfHours,
  };
}

function isRolledUp(dataset: Dataset<unknown>, measure: Measure): boolean {
  if (measure.field === undefined) return true;
  const { type, since } = columnOf(dataset, measure.field);
  if (since > 1) return false;
  if (type === "decimal") return measure.function === "sum";
  return measure.function !== "percentile" && (type === "real" || type === "integer");
}

function measureOfHours(dataset: Dataset<unknown>, measure: Measure): string {
  if (measure.field === undefined) return "coalesce(sum(records), 0)";
  const { name, type } = columnOf(dataset, measure.field);
  if (type === "decimal") return `trim_scale(sum(${name}))`;
  if (measure.function === "count") return `coalesce(sum(${name}_count), 0)`;
  if (measure.function === "min" || measure.function === "max") {
    return `${measure.function}(${name}_${measure.function})`;
  }
  const sum = `${name}_avg * ${name}_count`;
  // Each average counts as often as there were values in it.
  if (measure.function === "avg") return `sum(${sum}) / nullif(sum(${name}_count), 0)::double precision`;
  return `sum(${type === "integer" ? `round(${sum})` : sum})`;
}

/**
 * Returns a query that is true if the hourly rollup includes all changes in the time range of a query, and most of its
 * records. Records newer than the watermark are read through the view, which groups them by hour first and without
 * parallel workers: twice the time of reading them. Changes and deletions before it stay in the server's invalidation log
 * until the rollup is refreshed there.
 */
export function freshnessQuery(dataset: Dataset<unknown>, { startTime = 0, endTime }: RecordQuery): string {
  const log = (table: string, id: string) =>
    `SELECT lowest_modified_value AS first, greatest_modified_value AS last FROM _timescaledb_catalog.${table} ` +
    `WHERE ${id}`;
  const start = startTime * 1_000;
  const end = endTime === undefined ? "watermark" : `least(watermark, ${endTime * 1_000})`;
  const newChunks = "sum(CASE WHEN extract(epoch FROM range_start) * 1000000 < watermark THEN -1 ELSE 1 END)";
  const inRange = `${hypertableCondition(dataset.name)} AND range_end > ${timeLiteral(startTime)}` +
    (endTime === undefined ? "" : ` AND range_start < ${timeLiteral(endTime)}`);
  return `WITH hourly AS (SELECT mat_hypertable_id, raw_hypertable_id,
      _timescaledb_functions.cagg_watermark(mat_hypertable_id) AS watermark
    FROM _timescaledb_catalog.continuous_agg
    WHERE user_view_name = ${
    literal(hourlyOf(dataset))
  } AND user_view_schema = current_schema() AND NOT materialized_only)
  SELECT (EXISTS (SELECT FROM hourly WHERE coalesce(
      (SELECT ${newChunks} FROM timescaledb_information.chunks WHERE ${inRange}), 0) <= 0) AND NOT EXISTS (SELECT FROM hourly, LATERAL (
      ${log("continuous_aggs_hypertable_invalidation_log", "hypertable_id = raw_hypertable_id")}
      UNION ALL ${
    log("continuous_aggs_materialization_invalidation_log", "materialization_id = mat_hypertable_id")
  }
      UNION ALL ${log("continuous_aggs_materialization_ranges", "materialization_id = mat_hypertable_id")}
    ) AS changed WHERE ${start} < ${end} AND first < ${end} AND last >= ${start}))::text`;
}
