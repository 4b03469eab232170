/**
 * Reads records of a file of any form: its parts, their rows, and the outcome of each row.
 *
 * @module
 */
import type { Backend, StoredDocument } from "../backends/backend.ts";
import { describePath } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { constantsName } from "./cost_sources.ts";
import type { Origin } from "./delivery.ts";
import { detectFormat } from "./detect_format.ts";
import { type FileInput, type FilePart, openParts } from "./file_parts.ts";
import { focusDatasetOf, stageFocusRows } from "./focus_documents.ts";
import { asImportError, type ImportOptions, type ImportProgress } from "./import_options.ts";
import { assertFits, constantsOf } from "./mapping.ts";
import { readParquetRows } from "./parquet_rows.ts";
import { presetOf } from "./presets/presets.ts";
import { readPrometheusRows } from "./prometheus_rows.ts";
import { type Outcome, RecordStream, type Reject } from "./record_stream.ts";
import { type FileRows, readRows, type RowOptions } from "./rows.ts";
import { TransferError } from "./transfer_error.ts";

/** Completes a record of a file. */
export type Take = (record: unknown, from: Origin) => unknown;

/** Options of an import, but for its target. */
export type FileOptions = Omit<ImportOptions, "backend">;

export interface ReadingOptions {
  readonly dataset: Dataset<unknown>;
  readonly progress: ImportProgress;
  readonly options: FileOptions;
  /** Completes a record. */
  readonly take: Take;
  /** Documents of the target; none if it keeps none. */
  readonly stored?: Pick<Backend["documents"], "read">;
  /** Gets the documents that are published with the costs. */
  readonly documents?: StoredDocument[];
  /** Called at the end of the records of a file, or of each member of a zip file. */
  readonly onEnd?: (member?: string) => void;
}

/**
 * Reads a file into a function, and closes it where that fails.
 *
 * @param outcome What is stored when the file cannot be read to its end.
 * @throws {TransferError} If the file cannot be read. When the signal aborts, its reason.
 */
export async function readFile(
  file: FileInput,
  reading: ReadingOptions,
  { write, outcome }: {
    write(records: AsyncIterable<unknown[]>): Promise<void>;
    outcome(): string;
  },
): Promise<void> {
  const { progress, options: { signal } } = reading;
  const input = new CountedInput(file, progress, signal);
  try {
    await write(readRecords(input, reading));
  } catch (error) {
    await input.close();
    signal?.throwIfAborted();
    throw asImportError(error, outcome());
  }
}

/** Reads the records of a file, part by part. The rows of FOCUS files that are none of costs become documents. */
async function* readRecords(input: CountedInput, reading: ReadingOptions): AsyncGenerator<unknown[]> {
  const { dataset, progress, options, take, stored, documents: staged = [], onEnd } = reading;
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
      onEnd?.(part.member);
      continue;
    }
    if (!stored) {
      throw new TransferError(
        `Cannot import ${documents}: the sink keeps no documents. Use a backend that openBackend() opened.`,
        { code: "UNSUPPORTED_FORMAT" },
      );
    }
    const target = { documents: stored, staged, dataset: documents, columns: columns!, reject };
    const found = await stageFocusRows(rows, target);
    progress.stored += found.stored;
    progress.known += found.known;
    progress.restated += found.restated;
  }
}

async function openRows(part: FilePart, { dataset, options }: ReadingOptions): Promise<FileRows> {
  assertFits(dataset, options.format);
  const detect = detector(dataset, options);
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
  { isStrict = false, onReject }: FileOptions,
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

/** Makes the function that finds the format of a file and tells it. */
function detector(
  { name }: Dataset<unknown>,
  { map, idColumn, onNote }: FileOptions,
): RowOptions["detect"] {
  return (columns, row) => {
    const format = detectFormat(name, columns, row);
    const title = presetOf(format)?.title;
    if (map || idColumn !== undefined) {
      if (title) {
        onNote?.(`these are the columns of ${title}. With --format ${format}, they are mapped`);
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
