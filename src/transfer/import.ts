import { createHash } from "node:crypto";
import { countingChange } from "../backends/change_count.ts";
import { describe } from "../errors.ts";
import type { Sink } from "../pipeline/sink.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { batchSink, FixedBatches } from "./batch_sink.ts";
import type { FileInput } from "./file_parts.ts";
import { importCosts } from "./import_costs.ts";
import { type ImportOptions, type ImportReport, newProgress, reportOf } from "./import_options.ts";
import { type KeyedResult, keyedSink } from "./keyed_sink.ts";
import { readFile } from "./read_records.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/**
 * Imports the records of a file into a backend, as a stream and in flat memory. Gzip, zstd, zip, Parquet, JSON and UTF-16
 * are recognized by their first bytes. Zip and Parquet are held in memory unless the file is a `Blob` or the like.
 *
 * To import the same file again changes nothing. Costs are a delivery: all of it becomes visible in one transaction, or
 * nothing. A billing period of a source that is delivered again replaces what is there, or is refused. Usage is known by
 * its key, and batches of metrics by the backend's ledger for 30 days.
 *
 * @param input The bytes of the file.
 * @param options Where they go, what they are, and how columns become fields.
 * @returns What became of them.
 * @throws {TransferError} If the file cannot be read (to its end), lacks a column that is mapped, has ids that stand
 * for different costs or uses, or in strict mode has a bad line; or if the delivery is refused, as it does not cover what is
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
  const { backend, onConflict, onProgress, signal } = options;
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const progress = newProgress();
  let clash: unknown;
  const add = ({ stored, known, restated, different }: KeyedResult) => {
    progress.stored += stored;
    progress.known += known;
    progress.restated += restated;
    if (different.length > 0) progress.different = (progress.different ?? 0) + different.length;
    clash ??= different[0];
    onProgress?.({ ...progress });
  };
  const sink = dataset.key.length > 0
    ? keyedSink(backend, dataset, { onConflict, onWritten: add })
    : ledgerSink(backend, dataset, add);
  const read = readFile(input, { dataset, progress, options, take: (record) => record }, {
    write: (records) =>
      ReadableStream.from(records).pipeThrough(new FixedBatches(dataset)).pipeTo(sink, { signal }),
    outcome: () => `${progress.stored} records before it are stored.`,
  });
  await countingChange(backend, read);
  const report = reportOf(progress);
  if (clash) throw clashError(dataset, clash, report);
  return report;
}

/** A `WritableStream` of batches of records without a key, which the ledger knows by their content and position. */
function ledgerSink(
  sink: Sink,
  dataset: Dataset<unknown>,
  onWritten: (result: KeyedResult) => void,
): WritableStream<readonly unknown[]> {
  return batchSink({
    dataset,
    sink,
    idOf: contentIds(dataset.name),
    onWritten: ({ committed, duplicates, isReplay }) =>
      onWritten({
        stored: isReplay ? 0 : committed,
        known: isReplay ? committed + duplicates : duplicates,
        restated: 0,
        different: [],
      }),
  });
}

/** Creates the error for records whose key is stored with other content. */
function clashError({ key }: Dataset<unknown>, record: unknown, report: ImportReport): TransferError {
  const { timestamp, ...fields } = record as Record<string, unknown>;
  const id = fields[key.find((field) => field !== "timestamp")!];
  const { stored, known, different } = report;
  return new TransferError(
    `Cannot import all: ${describe(id)} of ${
      isoTime(timestamp as number)
    } is stored with other content. To replace ` +
      `stored records, run "openfinops database import usage FILE --on-conflict replace" where the database can be ` +
      `opened. ${stored} records are stored, ${known} are known, ${different} with other content are not stored.`,
    { code: "KEY_CLASH" },
  );
}

/** Derives batch ids from contents and position, so that the same file has the same ids. */
function contentIds(dataset: DatasetName): (records: readonly unknown[]) => string {
  let position = 0;
  return (records) => {
    const hash = createHash("sha256").update(`${dataset} ${position++} `).update(JSON.stringify(records));
    return `import-${hash.digest("hex")}`;
  };
}
