import type { Backend } from "../backends/backend.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { formatCsv } from "./csv.ts";
import { TransferError } from "./transfer_error.ts";
import { ValidationError } from "../errors.ts";
import type { FocusOptions } from "./focus_cells.ts";
import { exportFocusRows, FOCUS_DATASETS } from "./focus_documents.ts";
import { type FocusFile, focusFile } from "./focus_export.ts";
import { acceptFocusVersion, FOCUS_NULL } from "./focus_import.ts";
import { type Encoder, parseTime, toCells, toJsonRecord } from "./values.ts";
import { tieOrder } from "./tie_order.ts";

/** A format that can be written. */
export type ExportFormat = ExportOptions["format"];
/** The formats that can be written. */
export const EXPORT_FORMATS: readonly ExportFormat[] = ["ndjson", "csv", "focus", "parquet"];

/** Options of an export. */
export interface ExportOptions {
  /** Source: a backend that `openBackend()` opened. */
  backend: Pick<Backend, "read" | "aggregate"> & Partial<Pick<Backend, "documents">>;
  /** Dataset. */
  dataset: DatasetName;
  /** The format. */
  format: "ndjson" | "csv" | "focus" | "parquet";
  /** Filter, as in a query of the dataset; all records by default. */
  query?: object;
  /** FOCUS version, and values of columns that the records lack. With a version, `parquet` has the columns of FOCUS. */
  focus?: FocusOptions;
  /**
   * Puts an apostrophe before cells of `csv` and `focus` that a spreadsheet would take for a formula. An import keeps it.
   *
   * @default {false}
   */
  isSpreadsheetSafe?: boolean;
  /** Called with the number of exported records. */
  onProgress?: (records: number) => void;
}

interface Export {
  readonly dataset: Dataset<unknown>;
  readonly query: RecordQuery;
  readonly options: ExportOptions;
}

const ENCODERS: Readonly<Record<ExportFormat, (what: Export) => Encoder | Promise<Encoder>>> = {
  ndjson: ({ dataset: { columns } }) =>
    textEncoder((record) => JSON.stringify(toJsonRecord(columns, record))),
  csv: ({ dataset: { columns }, options: { isSpreadsheetSafe } }) =>
    textEncoder(
      (record) => formatCsv(toCells(columns, record), { isSpreadsheetSafe }),
      formatCsv(columns.map(({ field }) => field)),
    ),
  async focus(what) {
    const { columns, row } = await openFocusFile(what);
    const { isSpreadsheetSafe } = what.options;
    return textEncoder(
      (entry) => formatCsv(row(entry as CostEntry), { nullText: FOCUS_NULL, isSpreadsheetSafe }),
      formatCsv(columns.map(({ name }) => name), { isSpreadsheetSafe }),
    );
  },
  async parquet(what) {
    const { parquetEncoder } = await import("./parquet.ts");
    const { dataset: { columns }, options: { focus } } = what;
    if (focus?.version !== undefined) {
      const file = await openFocusFile(what);
      return await parquetEncoder(file.columns, focusValues(file));
    }
    const fields = columns.map(({ field, type, required }) => ({ name: field, type, isRequired: required }));
    return await parquetEncoder(
      fields,
      (record) => fields.map(({ name }) => (record as Record<string, unknown>)[name]),
    );
  },
};

async function openFocusFile(
  { dataset, query, options: { backend, focus = {} } }: Export,
): Promise<FocusFile> {
  if (dataset.name !== "cost_entries") {
    throw new TransferError(
      `Cannot export ${dataset.name} as FOCUS, which is for costs. Use csv, ndjson or parquet.`,
      {
        code: "UNSUPPORTED_FORMAT",
      },
    );
  }
  acceptFocusVersion("an export", focus.version);
  return await focusFile(backend, query, focus);
}

/** The values of a cost as Parquet holds them: JSON as the text that it is in the bill. */
function focusValues({ columns, row }: FocusFile): (record: unknown) => unknown[] {
  return (record) =>
    row(record as CostEntry).map((text, i) => {
      const { type } = columns[i];
      if (text === undefined || type === "text" || type === "decimal") return text;
      return type === "timestamp" ? parseTime(text) : JSON.parse(text);
    });
}

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
  const { backend, format, focus, onProgress } = options;
  if (format === "focus" && focus?.dataset !== undefined) {
    if (backend.documents && FOCUS_DATASETS.includes(focus.dataset)) {
      return ReadableStream.from(exportFocusRows(backend.documents, focus.dataset, options));
    }
    const expected = `one of ${FOCUS_DATASETS.join(", ")}`;
    throw new ValidationError({ subject: "an export", field: "dataset", value: focus.dataset, expected });
  }
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const query = acceptQuery(dataset, options.query);
  const encoder = await ENCODERS[format]({ dataset, query, options });
  const pages = backend.read(dataset, query);
  let records = 0;
  const count = new TransformStream<unknown[], unknown[]>({
    transform(page, controller) {
      records += page.length;
      controller.enqueue(page);
      onProgress?.(records);
    },
  });
  const counted = ReadableStream.from(pages).pipeThrough(count);
  // Texts are compared by programs such as diff.
  return (format === "parquet" ? counted : counted.pipeThrough(tieOrder(dataset))).pipeThrough(encoder);
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
