import { createHash } from "node:crypto";
import type { Backend, StoredDocument } from "../backends/backend.ts";
import { NOTHING_PUBLISHED, type Staging } from "../backends/staging.ts";
import { BackendError, describe, describePath } from "../errors.ts";
import { retry, retryBriefly } from "../pipeline/retry.ts";
import type { Sink } from "../pipeline/sink.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { aheadSink, batchSink, FixedBatches } from "./batch_sink.ts";
import { TransferError } from "./transfer_error.ts";
import { type FocusDataset, focusDatasetOf, readClosedPeriods, stageFocusRows } from "./focus_documents.ts";
import { assertFits, constantsOf } from "./mapping.ts";
import type { MappingOptions } from "./mapping_options.ts";
import { type Outcome, RecordStream, type Reject } from "./record_stream.ts";
import { detectFormat } from "./detect_format.ts";
import { presetOf } from "./presets/presets.ts";
import { type FileRow, type FileRows, readRows, type RowOptions } from "./rows.ts";
import {
  constantsName,
  Delivery,
  type DeliveryOptions,
  type DeliveryTotal,
  type Origin,
} from "./delivery.ts";
import { type FileInput, type FilePart, openParts } from "./file_parts.ts";
import { readParquetRows } from "./parquet_rows.ts";
import { readPrometheusRows } from "./prometheus_rows.ts";
import { isoTime } from "./values.ts";

/** Records that are staged at once: they die young, where 5,000 are copied by the garbage collector first. */
const STAGED_RECORDS = 2_000;
/** Time to wait for others that publish into an SQLite file: a large import takes minutes. */
const LOCK_WAIT_MS = 600_000;
/** Time to wait for what may pass by itself. */
const BRIEF_WAIT_MS = 20_000;

/** Options of an import. */
export interface ImportOptions extends MappingOptions, DeliveryOptions {
  /** Form of the file where its format does not say; by default its first byte tells. */
  form?: "csv" | "ndjson";
  /** Target: a backend that `openBackend()` opened. */
  backend: Sink;
  /** Dataset. */
  dataset: DatasetName;
  /** Time of samples of Prometheus that have none, in epoch ms; the present by default. */
  at?: number;
  /**
   * Stop at the first bad line.
   *
   * @default {false}
   */
  isStrict?: boolean;
  /** Ends the import when it aborts. No costs are stored then; other records that were written stay. */
  signal?: AbortSignal;
  /** Called for each rejected line. */
  onReject?: (reject: Reject) => void;
  /** Called about once a batch. */
  onProgress?: (progress: ImportProgress) => void;
}

/** Number of lines by result: `stored`, `known`, `rejected`, `skipped` and, of costs, `different` add up to all. */
export interface ImportReport {
  /** Records that are new in the backend, restated ones included. */
  stored: number;
  /** Records that the backend had already. */
  known: number;
  /** Those of the stored that took the place of an older record with their key. */
  restated: number;
  /** Lines that could not be taken. */
  rejected: number;
  /** Lines of a bill that are no charge as they have no amount, if there are any. */
  skipped?: number;
  /** Outcome of a delivery of costs, if the files have any. */
  delivery?: DeliveryReport;
}

/** Outcome of a delivery of costs. */
export interface DeliveryReport {
  /** Id of the delivery, as `database deliveries` lists it. */
  id: string;
  /** Costs of earlier deliveries that were deleted. */
  replaced: number;
  /** Costs whose id and time exist with other content. They were not stored. */
  different: number;
  /** Totals of each source, billing period and currency, before and after. */
  totals: readonly DeliveryTotal[];
}

/** Progress of an import. */
export interface ImportProgress extends Omit<ImportReport, "delivery"> {
  /** Bytes that were read, of the file as it is. */
  bytes: number;
  /** Costs that are staged and not visible yet. */
  staged: number;
}

/** A file of costs. */
export interface CostFile {
  /** Name in messages, and in the list of deliveries. */
  readonly name: string;
  /** Format; by default the one that its columns identify. */
  readonly format?: ImportOptions["format"];
  /** Form of the file where its format does not say; by default its first byte tells. */
  readonly form?: ImportOptions["form"];
  /** Opens it. */
  open(): Promise<FileInput>;
  /** Size in bytes, where known. */
  readonly size?: number;
}

/**
 * Imports the records of a file into a backend, as a stream and in flat memory. Gzip, zstd, zip, Parquet, JSON and UTF-16
 * are recognized by their first bytes. Zip and Parquet are held in memory unless the file is a `Blob` or the like.
 *
 * To import the same file again changes nothing. Costs are a delivery: all of it becomes visible in one transaction, or
 * nothing. A billing period of a source that is delivered again replaces what is there, or is refused. Batches of metrics
 * are known by the backend's ledger for 30 days.
 *
 * @param input The bytes of the file.
 * @param options Where they go, what they are, and how columns become fields.
 * @returns What became of them.
 * @throws {TransferError} If the file cannot be read (to its end), lacks a column that is mapped, has ids that stand
 * for different costs, or in strict mode has a bad line; or if the delivery is refused, as it does not cover what is
 * there. Records that it counts as stored stay stored.
 * @throws {BackendError} If the backend cannot take them. When the signal aborts, its reason.
 *
 * @example Import a file of costs, twice
 * ```ts
 * import { importRecords, openBackend } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * const backend = await openBackend({ connectionString: "sqlite://" });
 * const file = "Id,Hour,Cost,What,Kind\n1,2026-01-31T12:00Z,8e-7,gpu-01,gpu\n";
 * for (const known of [0, 1]) {
 *   const report = await importRecords(new Blob([file]).stream(), {
 *     backend,
 *     dataset: "cost_entries",
 *     format: "csv",
 *     map: { entryId: "Id", timestamp: "Hour", amount: "Cost", resourceId: "What", category: "Kind" },
 *     set: { currency: "USD" },
 *   });
 *   assert.equal(report.known, known);
 * }
 * await backend.close();
 * ```
 */
export async function importRecords(
  input: FileInput,
  options: ImportOptions,
): Promise<ImportReport> {
  if (options.dataset === "cost_entries") {
    const open = () => Promise.resolve(input);
    return await importCosts([{ name: "a stream", format: options.format, open }], options);
  }
  const { backend, onProgress, signal } = options;
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const progress = newProgress();
  const sink = batchSink<unknown>({
    dataset,
    sink: backend,
    idOf: contentIds(dataset.name),
    onWritten({ committed, duplicates, restated, isReplay }) {
      progress.stored += isReplay ? 0 : committed;
      progress.known += isReplay ? committed + duplicates : duplicates;
      progress.restated += isReplay ? 0 : restated;
      onProgress?.({ ...progress });
    },
  });
  const counted = new CountedInput(input, progress, signal);
  try {
    const records = readRecords(counted, { dataset, progress, options, take: (record) => record });
    await ReadableStream.from(records).pipeThrough(new FixedBatches(dataset)).pipeTo(sink, { signal });
  } catch (error) {
    await counted.close();
    signal?.throwIfAborted();
    throw asImportError(error, `${progress.stored} records before it are stored.`);
  }
  return reportOf(progress);
}

/**
 * Imports files of costs as one delivery: all of it becomes visible in one transaction, or nothing.
 *
 * @throws {TransferError} As {@linkcode importRecords}.
 * @throws {BackendError} If the backend cannot take them. When the signal aborts, its reason.
 */
export async function importCosts(
  files: readonly CostFile[],
  options: ImportOptions & { readonly onDelivered?: (report: ImportReport) => void },
): Promise<ImportReport> {
  const { signal } = options;
  const progress = newProgress();
  const { documents } = options.backend as Partial<Pick<Backend, "documents">>;
  const closed = documents ? await readClosedPeriods(documents) : new Set<string>();
  const delivery = new Delivery({ ...options, closed, files: files.map(({ name }) => name) });
  const staging = await openStaging(options.backend);
  try {
    for (const file of files) {
      await stageFile(file, {
        staging,
        delivery,
        progress,
        options: { ...options, format: file.format, form: file.form },
      });
    }
    signal?.throwIfAborted();
    return await publish(staging, { delivery, progress, options });
  } finally {
    await staging.discard();
  }
}

function openStaging(backend: Sink): Promise<Staging> {
  const { stage } = backend as Partial<Pick<Backend, "stage">>;
  if (stage) return retryBriefly(() => stage.call(backend));
  throw new TransferError(
    "Cannot import costs: the sink cannot stage them. Use a backend that openBackend() opened.",
    { code: "UNSUPPORTED_FORMAT" },
  );
}

async function stageFile(
  { open }: CostFile,
  { staging, delivery, progress, options }: {
    staging: Staging;
    delivery: Delivery;
    progress: ImportProgress;
    options: ImportOptions;
  },
): Promise<void> {
  const { signal, onProgress } = options;
  const dataset: Dataset<unknown> = DATASETS.cost_entries;
  const take: Take = (record, from) => {
    delivery.take(record, from);
    return record;
  };
  const sink = aheadSink(async (records: readonly unknown[], onSent) => {
    onSent();
    await staging.add(records);
    progress.staged += records.length;
    onProgress?.({ ...progress });
  });
  const input = new CountedInput(await open(), progress, signal);
  try {
    const { documents } = delivery;
    const records = readRecords(input, { dataset, progress, options, take, documents });
    await ReadableStream.from(records).pipeThrough(new FixedBatches(dataset, STAGED_RECORDS)).pipeTo(sink, {
      signal,
    });
  } catch (error) {
    await input.close();
    signal?.throwIfAborted();
    throw asImportError(error, "Nothing was stored.");
  }
}

async function publish(
  staging: Staging,
  { delivery, progress, options }: {
    delivery: Delivery;
    progress: ImportProgress;
    options: ImportOptions & { readonly onDelivered?: (report: ImportReport) => void };
  },
): Promise<ImportReport> {
  const result = await publishWhenFree(() => staging.publish(delivery), options);
  delivery.assertAccepted();
  // An attempt whose outcome was unknown had succeeded: its numbers are lost.
  const { stored, restated, known, different, replaced, clash } = delivery.isPublished
    ? { ...NOTHING_PUBLISHED, stored: delivery.rows - delivery.knownRows }
    : result;
  progress.stored += stored;
  progress.restated += restated;
  progress.known += known + delivery.knownRows;
  const report: ImportReport = reportOf(progress);
  if (delivery.rows > 0) {
    report.delivery = { id: delivery.id, replaced, different, totals: delivery.totals };
  }
  if (delivery.replacementNote) options.onNote?.(delivery.replacementNote);
  options.onDelivered?.(report);
  if (clash) throw clashError(clash, { report, options });
  return report;
}

/** Publishes as soon as no other program holds the lock, such as another import that publishes. */
async function publishWhenFree<T>(
  publish: () => Promise<T>,
  { signal = new AbortController().signal, onNote }: ImportOptions,
): Promise<T> {
  const start = performance.now();
  let isTold = false;
  return await retry(publish, {
    signal,
    maxMs: () => 1_000,
    onFailure(error) {
      if (!(error instanceof BackendError && error.retryable)) throw error;
      const waited = performance.now() - start;
      if (error.code !== "LOCKED") {
        if (waited > BRIEF_WAIT_MS) throw error;
      } else if (waited > LOCK_WAIT_MS) {
        throw new BackendError(
          `${error.message} Waited ${
            LOCK_WAIT_MS / 60_000
          } minutes; nothing was stored. Run the same command again ` +
            "when the other program is done.",
          { code: "LOCKED", operation: "publish", kind: "transient", cause: error },
        );
      } else if (!isTold) {
        isTold = true;
        onNote?.("waiting for another program that writes into the database");
      }
    },
  });
}

function newProgress(): ImportProgress {
  return { stored: 0, known: 0, restated: 0, rejected: 0, bytes: 0, staged: 0 };
}

function reportOf({ stored, known, restated, rejected, skipped }: ImportProgress): ImportReport {
  return { stored, known, restated, rejected, ...(skipped ? { skipped } : {}) };
}

/** Completes a record of a file. */
export type Take = (record: unknown, from: Origin) => unknown;

/** Options of reading a file. */
export interface ReadingOptions {
  readonly dataset: Dataset<unknown>;
  readonly progress: ImportProgress;
  readonly options: ImportOptions;
  /** Completes a record; `isHashed` if the file has no id for it. */
  readonly take: Take;
  /** Documents that are published with the costs. */
  readonly documents?: StoredDocument[];
}

/** Reads a file as an import does, into a function. Nothing is stored. */
export async function readFile(
  file: FileInput,
  { options, onRecords, ...reading }: Pick<ReadingOptions, "dataset" | "take"> & {
    readonly options: Omit<ImportOptions, "backend">;
    readonly onRecords: (records: readonly unknown[]) => void;
  },
): Promise<ImportProgress> {
  const progress = newProgress();
  const input = new CountedInput(file, progress, options.signal);
  const backend = { documents: { read: () => Promise.resolve([]) } };
  try {
    const given = { ...options, backend: backend as unknown as Sink };
    for await (const page of readRecords(input, { ...reading, progress, options: given })) {
      onRecords(page);
      options.onProgress?.({ ...progress });
    }
  } catch (error) {
    await input.close();
    options.signal?.throwIfAborted();
    throw asImportError(error, "Nothing was stored.");
  }
  return progress;
}

/** Reads the records of a file, part by part. The rows of FOCUS files that are none of costs become documents. */
async function* readRecords(input: CountedInput, reading: ReadingOptions): AsyncGenerator<unknown[]> {
  const { dataset, progress, options, take, documents: staged = [] } = reading;
  for await (const part of openParts(input.bytes, options)) {
    const { columns, rows, format } = await openRows(part, reading);
    const reject = rejector(progress, options, part.member);
    const documents = format === "focus" ? focusDatasetOf(columns ?? []) : undefined;
    if (documents === undefined) {
      const isBill = format !== undefined && format !== "parquet";
      const resolved = { ...options, format: isBill ? format : columns ? "csv" as const : "ndjson" as const };
      yield* rows.pipeThrough(new RecordStream(dataset, resolved, columns))
        .pipeThrough(sorter(progress, {
          reject,
          take,
          format: resolved.format,
          constants: constantsName(constantsOf(dataset, options, columns)),
        }));
      continue;
    }
    const target = { dataset: documents, columns: columns!, staged, options, reject };
    const { stored, known, restated } = await importDocuments(rows, target);
    progress.stored += stored;
    progress.known += known;
    progress.restated += restated;
  }
}

/** Opens the rows of a part of a file. */
async function openRows(part: FilePart, { dataset, options }: ReadingOptions): Promise<FileRows> {
  assertFits(dataset, options.format);
  const detect = dataset.name === "cost_entries" ? detector(options) : undefined;
  try {
    if (options.format === "parquet" && !part.parquet) {
      throw new TransferError("the file is not Parquet. Leave --format out.", { code: "UNSUPPORTED_FORMAT" });
    }
    const found = part.parquet
      ? await readParquetRows(part.parquet, { ...options, detect })
      : options.format === "prometheus"
      ? { format: "ndjson" as const, rows: readPrometheusRows(part.text!, options) }
      : await readRows(part.text!, { ...options, detect });
    if (found.format !== "focus" || found.columns) return found;
    throw new TransferError("FOCUS is read as CSV or Parquet, and this is JSON.", {
      code: "UNSUPPORTED_FORMAT",
    });
  } catch (error) {
    if (!(error instanceof TransferError) || error.code === "INVALID_FILE") throw error;
    const member = part.member === undefined ? "" : `${describePath(part.member)}: `;
    throw new TransferError(`Cannot import ${dataset.name}: ${member}${error.message}`, error);
  }
}

/** Imports a file of FOCUS that is none of costs. */
async function importDocuments(
  rows: ReadableStream<readonly FileRow[]>,
  { dataset, columns, staged, options, reject }: {
    dataset: FocusDataset;
    columns: readonly string[];
    staged: StoredDocument[];
    options: ImportOptions;
    reject: (reject: Reject) => void;
  },
): Promise<Pick<ImportReport, "stored" | "known" | "restated">> {
  const { documents } = options.backend as Partial<Pick<Backend, "documents">>;
  if (!documents) {
    throw new TransferError(
      `Cannot import ${dataset}: the sink keeps no documents. Use a backend that openBackend() opened.`,
      { code: "UNSUPPORTED_FORMAT" },
    );
  }
  return await stageFocusRows(rows, { documents, staged, dataset, columns, reject });
}

/** The bytes of a file, counted as they are read. */
class CountedInput {
  readonly bytes: FileInput;
  readonly #progress: ImportProgress;
  readonly #signal?: AbortSignal;
  #cancel: (reason?: unknown) => Promise<void> = () => Promise.resolve();

  constructor(input: FileInput, progress: ImportProgress, signal?: AbortSignal) {
    this.#progress = progress;
    this.#signal = signal;
    // A read that waits for the other end of a pipe ends with it.
    signal?.addEventListener("abort", () => this.close(), { once: true });
    this.bytes = input instanceof ReadableStream ? this.#count(input) : {
      size: input.size,
      slice: (start, end) => {
        signal?.throwIfAborted();
        progress.bytes += end - start;
        return input.slice(start, end);
      },
      stream: () => this.#count(input.stream()),
    };
  }

  #count(input: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const reader = input.getReader();
    let canceled: Promise<void> | undefined;
    this.#cancel = (reason) => canceled ??= reader.cancel(reason);
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        this.#signal?.throwIfAborted();
        const { done, value } = await reader.read();
        this.#signal?.throwIfAborted();
        if (done) return controller.close();
        this.#progress.bytes += value.length;
        controller.enqueue(value);
      },
      cancel: this.#cancel,
    }, { highWaterMark: 0 });
  }

  /** Closes the file; resolves when that is done. An import that failed leaves nothing open. */
  async close(): Promise<void> {
    await this.#cancel().catch(() => {});
  }
}

/** Makes the function that counts and reports bad lines. */
function rejector(
  progress: ImportProgress,
  { isStrict = false, onReject }: ImportOptions,
  member?: string,
): (reject: Reject) => void {
  const place = member === undefined ? "line" : `${describePath(member)}, line`;
  return (reject) => {
    const { code, line, reason } = reject;
    if (isStrict) throw new TransferError(`${place} ${line}: ${reason}`, { code, line });
    progress.rejected++;
    onReject?.(member === undefined ? reject : { member, ...reject });
  };
}

/** Makes the function that finds the format of a bill and tells it. */
function detector({ map, idColumn, onNote }: ImportOptions): RowOptions["detect"] {
  return (columns, row) => {
    const format = detectFormat(columns, row);
    const title = presetOf(format)?.title;
    if (map || idColumn !== undefined) {
      if (title) {
        onNote?.(`these are the columns of ${title}. With --format ${format}, all of them are mapped`);
      }
      return undefined;
    }
    if (title) onNote?.(`${title} (detected from the columns; --format overrides)`);
    return format;
  };
}

/** Passes records on, counts lines that are no charge, and reports rejected ones. */
function sorter(
  progress: ImportProgress,
  { reject, take, ...file }: { reject: (reject: Reject) => void; take: Take } & Omit<Origin, "isHashed">,
): TransformStream<readonly Outcome[], unknown[]> {
  return new TransformStream({
    transform(outcomes, controller) {
      const records: unknown[] = [];
      for (const outcome of outcomes) {
        if ("skipped" in outcome) progress.skipped = (progress.skipped ?? 0) + 1;
        else if (!("record" in outcome)) reject(outcome);
        else {
          // The columns that the first record of a file names are no part of its content.
          const record = take(outcome.record, { isHashed: outcome.isHashed === true, ...file });
          records.push(outcome.absent?.length ? withColumns(record, outcome.absent) : record);
        }
      }
      if (records.length > 0) controller.enqueue(records);
    },
  });
}

/** A record that also names the columns of its file that are null in it, so that an export has them, too. */
function withColumns(record: unknown, names: readonly string[]): unknown {
  const { focus, ...rest } = record as { focus?: Record<string, string> };
  return { ...rest, focus: { ...focus, ...Object.fromEntries(names.map((name) => [name, ""])) } };
}

/** Creates the error for an id that several costs share: all but the first would be missing silently. */
function clashError(
  { entryId, timestamp }: { entryId: string; timestamp: number },
  { report, options }: { report: ImportReport; options: ImportOptions },
): TransferError {
  const column = options.idColumn ?? options.map?.entryId ?? "entryId";
  const { stored, known, delivery } = report;
  return new TransferError(
    `Cannot import all: ${describe(entryId)} in ${column} stands for several costs of ${
      isoTime(timestamp)
    }. Choose an id column that tells them apart. ${stored} records are stored, ${known} are known, ` +
      `${delivery!.different} with other content are not stored.`,
    { code: "KEY_CLASH" },
  );
}

/** The error as the caller gets it, with what is stored. */
function asImportError(error: unknown, stored: string): unknown {
  if (!(error instanceof TransferError) || error.message.startsWith("Cannot import")) return error;
  const { code, line, message } = error;
  return new TransferError(`Cannot import all: ${message} ${stored}`, { code, line, cause: error });
}

/** Derives batch ids from contents and position, so that the same file has the same ids. */
function contentIds(dataset: DatasetName): (records: readonly unknown[]) => string {
  let position = 0;
  return (records) => {
    const hash = createHash("sha256").update(`${dataset} ${position++} `).update(JSON.stringify(records));
    return `import-${hash.digest("hex")}`;
  };
}
