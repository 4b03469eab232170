import { createHash } from "node:crypto";
import type { Backend } from "../backends/backend.ts";
import { describe } from "../errors.ts";
import type { Sink } from "../pipeline/sink.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { batchSink, FixedBatches } from "./batch_sink.ts";
import { TransferError } from "./transfer_error.ts";
import { type FocusDataset, focusDatasetOf, storeFocusRows } from "./focus_documents.ts";
import { type Line, LineStream } from "./line_stream.ts";
import type { MappingOptions } from "./mapping.ts";
import { headerOf, type Outcome, RecordStream, type Reject } from "./record_stream.ts";
import { KeyClashes } from "./content_id.ts";
import { decompress } from "./decompress.ts";
import { isoTime } from "./values.ts";

/** Options of an import. */
export interface ImportOptions extends MappingOptions {
  /** Target: a backend that `openBackend()` opened. */
  backend: Sink;
  /** Dataset. */
  dataset: DatasetName;
  /**
   * Stop at the first bad line.
   *
   * @default {false}
   */
  isStrict?: boolean;
  /** Ends the import when it aborts. Batches that are written by then stay stored. */
  signal?: AbortSignal;
  /** Called for each rejected line. */
  onReject?: (reject: Reject) => void;
  /** Called about once a batch. */
  onProgress?: (progress: ImportProgress) => void;
}

/** Number of lines by result: `stored`, `known` and `rejected` add up to all. */
export interface ImportReport {
  /** Records that are new in the backend, restated ones included. */
  stored: number;
  /** Records that the backend had already. */
  known: number;
  /** Those of the stored that took the place of an older record with their key. */
  restated: number;
  /** Lines that could not be taken. */
  rejected: number;
}

/** Progress of an import. */
export interface ImportProgress extends ImportReport {
  /** Bytes that were read, of the file as it is. */
  bytes: number;
}

/**
 * Imports the records of a file into a backend, as a stream and in flat memory. Files of gzip are recognized.
 *
 * To import the same file again changes nothing: cost entries are known by their key, batches of metrics, which have
 * none, by the backend's ledger for 30 days.
 *
 * @param input The bytes of the file.
 * @param options Where they go, what they are, and how columns become fields.
 * @returns What became of them.
 * @throws {TransferError} If the file cannot be read (to its end), lacks a column that is mapped, has ids that stand
 * for different costs, or in strict mode has a bad line. Records that it counts as stored stay stored.
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
 *   });
 *   assert.equal(report.known, known);
 * }
 * await backend.close();
 * ```
 */
export async function importRecords(
  input: ReadableStream<Uint8Array>,
  options: ImportOptions,
): Promise<ImportReport> {
  const { backend, onProgress, signal } = options;
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const progress: ImportProgress = { stored: 0, known: 0, restated: 0, rejected: 0, bytes: 0 };
  const clashes = new KeyClashes(dataset);
  let ignored = 0; // none where the backend replaces, and what comes last counts
  const sink = batchSink<unknown>({
    dataset,
    sink: backend,
    idOf: dataset.key.length > 0 ? () => crypto.randomUUID() : contentIds(dataset.name),
    onWritten({ committed, duplicates, restated, isReplay }) {
      progress.stored += isReplay ? 0 : committed;
      progress.known += isReplay ? committed + duplicates : duplicates;
      progress.restated += isReplay ? 0 : restated;
      ignored += duplicates;
      onProgress?.({ ...progress });
    },
  });
  try {
    const lines = (await decompress(input.pipeThrough(counter(progress), { signal })))
      .pipeThrough(new LineStream({ isQuoted: options.format !== "ndjson" }));
    const { first, whole } = options.format === "focus" ? await peek(lines) : { first: [], whole: lines };
    const columns = first.length > 0 && first[0].fault === undefined ? headerOf(first[0].text) : [];
    const documents = focusDatasetOf(columns);
    if (documents !== undefined) {
      return await importDocuments(whole, { dataset: documents, columns, progress, options });
    }
    await whole
      .pipeThrough(new RecordStream(dataset, options))
      .pipeThrough(sorter({ progress, clashes }, options))
      .pipeThrough(new FixedBatches(dataset))
      .pipeTo(sink, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw asImportError(error, progress.stored);
  }
  if (clashes.first && ignored > 0) throw clashError(clashes.first, { progress, options });
  const { bytes: _, ...report } = progress;
  return report;
}

/** Reads the first lines of a file and returns them with the rest. */
async function peek(
  lines: ReadableStream<Line[]>,
): Promise<{ first: readonly Line[]; whole: ReadableStream<Line[]> }> {
  const reader = lines.getReader();
  const { value: first = [] } = await reader.read();
  reader.releaseLock();
  const whole = ReadableStream.from((async function* () {
    if (first.length > 0) yield first;
    yield* lines;
  })());
  return { first, whole };
}

/** Imports a file of FOCUS that is none of costs. */
async function importDocuments(
  lines: ReadableStream<Line[]>,
  { dataset, columns, progress, options }: {
    dataset: FocusDataset;
    columns: readonly string[];
    progress: ImportProgress;
    options: ImportOptions;
  },
): Promise<ImportReport> {
  const { documents } = options.backend as Partial<Pick<Backend, "documents">>;
  if (!documents) {
    throw new TransferError(
      `Cannot import ${dataset}: the sink keeps no documents. Use a backend that openBackend() opened.`,
      { code: "UNSUPPORTED_FORMAT" },
    );
  }
  let isHeader = true;
  const rows = lines.pipeThrough(
    new TransformStream<Line[], Line[]>({
      transform(page, controller) {
        controller.enqueue(isHeader ? page.slice(1) : page);
        isHeader = false;
      },
    }),
  );
  const reject = rejector(progress, options);
  const stored = await storeFocusRows(rows, { documents, dataset, columns, reject });
  return { ...stored, rejected: progress.rejected };
}

/** Counts the bytes of the file as it is. */
function counter(progress: ImportProgress): TransformStream<Uint8Array, Uint8Array> {
  return new TransformStream({
    transform(chunk, controller) {
      progress.bytes += chunk.length;
      controller.enqueue(chunk);
    },
  });
}

/** Makes the function that counts and reports bad lines. */
function rejector(
  progress: ImportProgress,
  { isStrict = false, onReject }: ImportOptions,
): (reject: Reject) => void {
  return (reject) => {
    const { code, line, reason } = reject;
    if (isStrict) throw new TransferError(`line ${line}: ${reason}`, { code, line });
    progress.rejected++;
    onReject?.(reject);
  };
}

/** Passes records on and reports rejected lines. */
function sorter(
  { progress, clashes }: { progress: ImportProgress; clashes: KeyClashes },
  options: ImportOptions,
): TransformStream<readonly Outcome[], unknown[]> {
  const reject = rejector(progress, options);
  return new TransformStream({
    transform(outcomes, controller) {
      const records: unknown[] = [];
      for (const outcome of outcomes) {
        if (!("record" in outcome)) {
          reject(outcome);
          continue;
        }
        clashes.add(outcome.record);
        records.push(outcome.absent?.length ? withColumns(outcome.record, outcome.absent) : outcome.record);
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
  { entryId, timestamp }: Record<string, unknown>,
  { progress, options }: { progress: ImportProgress; options: ImportOptions },
): TransferError {
  const column = options.idColumn ?? options.map?.entryId ?? "entryId";
  const { stored, known } = progress;
  return new TransferError(
    `Cannot import all: ${describe(entryId)} in ${column} stands for several costs of ${
      isoTime(timestamp as number)
    }. Choose an id column that tells them apart. ${stored} records are stored, ${known} counted as known.`,
    { code: "KEY_CLASH" },
  );
}

/** The error as the caller gets it: what was stored before it stays so, and has to be known. */
function asImportError(error: unknown, stored: number): unknown {
  const code = error instanceof Error ? (error as { code?: string }).code : undefined;
  const isFault = error instanceof TransferError && !error.message.startsWith("Cannot import");
  if (!isFault && !code?.startsWith("Z_")) return error;
  const { message } = error as Error;
  const reason = isFault ? message : `the gzip file is damaged or cut short (${message}). Fetch it again.`;
  return new TransferError(`Cannot import all: ${reason} ${stored} records before it are stored.`, {
    code: isFault ? error.code : "INVALID_FILE",
    line: isFault ? error.line : undefined,
    cause: error,
  });
}

/** Derives batch ids from contents and position, so that the same file has the same ids. */
function contentIds(dataset: DatasetName): (records: readonly unknown[]) => string {
  let position = 0;
  return (records) => {
    const hash = createHash("sha256").update(`${dataset} ${position++} `).update(JSON.stringify(records));
    return `import-${hash.digest("hex")}`;
  };
}
