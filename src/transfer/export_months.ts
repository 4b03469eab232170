import { acceptAggregateRequest } from "../aggregation/aggregate_query.ts";
import { planBuckets } from "../aggregation/bucket_plan.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { EARLIEST_TIME, LATEST_TIME } from "../records/validation.ts";
import { type ExportOptions, exportRecords } from "./export.ts";

/** Records of a UTC month, as the bytes of a file. */
export interface MonthFile {
  /** Path below the folder, as DuckDB, Spark and ClickHouse read it: the month is a column named `month`. */
  readonly path: string;
  readonly bytes: ReadableStream<Uint8Array>;
}

/**
 * Exports records by the UTC months that have any, as one Parquet file each. Read each file before the next one is asked for.
 *
 * @param options Selection of records, without limit and order.
 * @throws {ValidationError} If the query cannot be answered.
 */
export async function* exportMonths(options: Omit<ExportOptions, "format">): AsyncGenerator<MonthFile> {
  const { backend, query = {}, onProgress } = options;
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const request = acceptAggregateRequest(dataset, { ...query, bucket: "1mo" });
  const { parts } = await planBuckets(backend, dataset, { ...request, timeZone: "UTC" });
  const starts: number[] = [];
  for (const { query: asked, ranges } of parts) {
    const measures = [{ function: "count" }] as const;
    const found = await backend.aggregate(dataset, asked, {
      ranges,
      groupBy: [],
      measures,
      mayUseRollUps: true,
    });
    starts.push(...found.map(({ start }) => start!));
  }
  starts.sort((a, b) => a - b);
  let done = 0;
  for (const start of starts) {
    const date = new Date(start);
    const end = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
    const { startTime = EARLIEST_TIME, endTime } = request.query;
    // No time of a query is beyond all times of records, as the ends of the first and the last month may be.
    const span = {
      startTime: Math.max(start, startTime),
      endTime: end > LATEST_TIME ? endTime : Math.min(end, endTime ?? end),
    };
    let records = 0;
    const bytes = await exportRecords({
      ...options,
      format: "parquet",
      query: { ...query, ...span },
      onProgress: (count) => onProgress?.(done + (records = count)),
    });
    yield { path: `month=${date.toISOString().slice(0, 7)}/data.parquet`, bytes };
    done += records;
  }
}
