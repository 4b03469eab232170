import type { Column, Dataset, DatasetName } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { columnNames } from "../postgres/schema.ts";

/** A continuous aggregate: a dataset by spans of time, kept for good, whatever becomes of the records. */
export interface RollUp {
  /** The view, as in `system_metrics_hourly`. */
  readonly name: string;
  /** The dataset that it comes from. */
  readonly dataset: DatasetName;
  /** The span that a row stands for, as an interval. */
  readonly bucket: string;
  /** How often the server brings it up to date, as an interval. */
  readonly refreshEvery: string;
  /** Whether it comes from the records, not from another roll-up. */
  readonly isFromRecords: boolean;
  /** The statement that makes it. */
  readonly create: string;
}

/** What a roll-up says of a numeric column, from the records and from a finer roll-up. */
function measuresOf({ name, type }: Column): { fromRecords: string[]; fromRollUp: string[] } {
  if (type === "decimal") {
    return { fromRecords: [`sum(${name}) AS ${name}`], fromRollUp: [`sum(${name}) AS ${name}`] };
  }
  return {
    fromRecords: [
      `avg(${name}::double precision) AS ${name}_avg`,
      `min(${name}) AS ${name}_min`,
      `max(${name}) AS ${name}_max`,
      `count(${name}) AS ${name}_count`,
    ],
    fromRollUp: [
      // Each average counts as often as there were values in it.
      `sum(${name}_avg * ${name}_count) / nullif(sum(${name}_count), 0)::double precision AS ${name}_avg`,
      `min(${name}_min) AS ${name}_min`,
      `max(${name}_max) AS ${name}_max`,
      `sum(${name}_count)::bigint AS ${name}_count`,
    ],
  };
}

/**
 * The roll-ups of a dataset. Days come from hours, so that only the hours have to be there before retention takes
 * the records.
 */
export function rollUpsOf(dataset: Dataset<unknown>): RollUp[] {
  const groups = columnNames(dataset, dataset.rollUpBy);
  const measures = dataset.columns.filter(({ type }) => ["real", "integer", "decimal"].includes(type))
    .map(measuresOf);
  const statement = (name: string, bucket: string, columns: readonly string[], from: string) =>
    `CREATE MATERIALIZED VIEW ${name} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS ` +
    `SELECT ${bucket} AS bucket, ${groups}, ${columns.join(", ")} FROM ${from} ` +
    `GROUP BY 1, ${groups} WITH NO DATA`;
  const hourly = `${dataset.name}_hourly`;
  const daily = `${dataset.name}_daily`;
  return [
    {
      name: hourly,
      dataset: dataset.name,
      bucket: "1 hour",
      refreshEvery: "30 minutes",
      isFromRecords: true,
      create: statement(
        hourly,
        "time_bucket(INTERVAL '1 hour', timestamp)",
        ["count(*) AS records", ...measures.flatMap(({ fromRecords }) => fromRecords)],
        dataset.name,
      ),
    },
    {
      name: daily,
      dataset: dataset.name,
      bucket: "1 day",
      refreshEvery: "1 hour",
      isFromRecords: false,
      create: statement(
        daily,
        "time_bucket(INTERVAL '1 day', bucket)",
        ["sum(records)::bigint AS records", ...measures.flatMap(({ fromRollUp }) => fromRollUp)],
        hourly,
      ),
    },
  ];
}

/** All roll-ups, each after what it comes from. */
export const ROLL_UPS: readonly RollUp[] = Object.values(DATASETS).flatMap(rollUpsOf);
