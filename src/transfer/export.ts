import type { Backend } from "../backends/backend.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptQuery } from "../records/query.ts";
import { formatCsv } from "./csv.ts";
import { TransferError } from "./transfer_error.ts";
import { FOCUS_COLUMNS, type FocusOptions } from "./focus.ts";
import { type Encoder, toCells, toJsonRecord } from "./values.ts";

/** A format that can be written. */
export type ExportFormat = "ndjson" | "csv" | "focus" | "parquet";
/** The formats that can be written. */
export const EXPORT_FORMATS: readonly ExportFormat[] = ["ndjson", "csv", "focus", "parquet"];

/** Options of an export. */
export interface ExportOptions {
  /** Source: a backend that `openBackend()` opened. */
  backend: Pick<Backend, "read">;
  /** Dataset. */
  dataset: DatasetName;
  /** The format. */
  format: ExportFormat;
  /** Filter, as in a query of the dataset; all records by default. */
  query?: object;
  /** FOCUS columns that the records lack. */
  focus?: FocusOptions;
  /** Is told how many records were given out. */
  onProgress?: (records: number) => void;
}

const ENCODERS: Readonly<
  Record<ExportFormat, (dataset: Dataset<unknown>, focus: FocusOptions) => Encoder | Promise<Encoder>>
> = {
  ndjson: ({ columns }) => textEncoder((record) => JSON.stringify(toJsonRecord(columns, record))),
  csv: ({ columns }) =>
    textEncoder(
      (record) => formatCsv(toCells(columns, record)),
      formatCsv(columns.map(({ field }) => field)),
    ),
  focus(dataset, focus) {
    if (dataset.name !== "cost_entries") {
      throw new TransferError(`Cannot export ${dataset.name}: another format is wanted: focus is for costs`, {
        code: "UNSUPPORTED_FORMAT",
      });
    }
    return textEncoder(
      (entry) => formatCsv(FOCUS_COLUMNS.map(({ value }) => value(entry as CostEntry, focus))),
      formatCsv(FOCUS_COLUMNS.map(({ name }) => name)),
    );
  },
  async parquet(dataset) {
    const { parquetEncoder } = await import("./parquet.ts");
    return await parquetEncoder(dataset);
  },
};

/**
 * Exports records as the bytes of a file, in the order of time, as a stream and in flat memory. What is exported as
 * `ndjson` or `csv` is identical when it is imported again.
 *
 * @param options Which records, and in which format.
 * @returns The bytes.
 * @throws {TransferError} If the dataset cannot be had in this format.
 * @throws {ValidationError} If the query cannot be answered. Errors of the backend error the stream.
 *
 * @example Export costs in the form that finance knows
 * ```ts
 * import { CostObservatory, exportRecords, openBackend } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * const backend = await openBackend({ connectionString: "sqlite://" });
 * const costs = await CostObservatory.open({ backend });
 * const timestamp = new Date("2026-01-31T12:00Z");
 * await costs.addCostEntry({ entryId: "e1", timestamp, resourceId: "gpu-01", category: "gpu", amount: 2 });
 * await costs.close();
 *
 * const file = await exportRecords({ backend, dataset: "cost_entries", format: "focus" });
 * const text = await new Response(file).text();
 * assert(text.includes("2.0,unknown"));
 * await backend.close();
 * ```
 */
export async function exportRecords(options: ExportOptions): Promise<ReadableStream<Uint8Array>> {
  const { backend, format, query, focus = {}, onProgress } = options;
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const pages = backend.read(dataset, acceptQuery(dataset, query));
  let records = 0;
  const count = new TransformStream<unknown[], unknown[]>({
    transform(page, controller) {
      records += page.length;
      controller.enqueue(page);
      onProgress?.(records);
    },
  });
  const encoder = await ENCODERS[format](dataset, focus);
  return ReadableStream.from(pages).pipeThrough(count).pipeThrough(encoder);
}

/** Lines of text, perhaps under a first line. */
function textEncoder(line: (record: unknown) => string, header?: string): Encoder {
  const utf8 = new TextEncoder();
  return new TransformStream({
    start(controller) {
      if (header !== undefined) controller.enqueue(utf8.encode(`${header}\n`));
    },
    transform(records, controller) {
      controller.enqueue(utf8.encode(records.map((record) => `${line(record)}\n`).join("")));
    },
  });
}
