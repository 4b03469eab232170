import type { Backend } from "../backends/backend.ts";
import { countingChange } from "../backends/change_count.ts";
import { NOTHING_PUBLISHED, type Staging } from "../backends/staging.ts";
import { BackendError, describe } from "../errors.ts";
import { retry, retryBriefly } from "../pipeline/retry.ts";
import type { Sink } from "../pipeline/sink.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { aheadSink, FixedBatches } from "./batch_sink.ts";
import { Delivery } from "./delivery.ts";
import { readClosedPeriods } from "./focus_documents.ts";
import {
  type CostFile,
  type ImportOptions,
  type ImportProgress,
  type ImportReport,
  newProgress,
  ofFile,
  reportOf,
} from "./import_options.ts";
import { readFile, type Take } from "./read_records.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/** Records that are staged at once. With 5,000, the garbage collector copies them before it frees them. */
const STAGED_RECORDS = 2_000;
/** Time to wait for others that publish into an SQLite file: a large import takes minutes. */
const LOCK_WAIT_MS = 600_000;
/** Time to wait for a temporary failure to end. */
const BRIEF_WAIT_MS = 20_000;

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
  const { documents: stored } = options.backend as Partial<Pick<Backend, "documents">>;
  const closed = stored ? await readClosedPeriods(stored) : new Set<string>();
  const delivery = new Delivery({ ...options, closed, files: files.map(({ name }) => name) });
  const staging = await openStaging(options.backend);
  try {
    for (const file of files) {
      await stageFile(file, {
        staging,
        delivery,
        progress,
        stored,
        options: ofFile(file, options),
      });
    }
    signal?.throwIfAborted();
    return await countingChange(options.backend, publish(staging, { delivery, progress, options }));
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
  { name, open }: CostFile,
  { staging, delivery, progress, stored, options }: {
    staging: Staging;
    delivery: Delivery;
    progress: ImportProgress;
    stored?: Backend["documents"];
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
  const { documents } = delivery;
  const onEnd = (member?: string) => delivery.endFile(name, member);
  await readFile(await open(), { dataset, progress, options, take, stored, documents, onEnd }, {
    write: (records) =>
      ReadableStream.from(records).pipeThrough(new FixedBatches(dataset, STAGED_RECORDS))
        .pipeTo(sink, { signal }),
    outcome: () => "Nothing was stored.",
  });
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
  const { stored, restated, known, different, missing, replaced, clash } = delivery.isPublished
    ? { ...NOTHING_PUBLISHED, stored: delivery.rows - delivery.knownRows }
    : result;
  progress.stored += stored;
  progress.restated += restated;
  progress.known += known + delivery.knownRows - missing;
  const report: ImportReport = reportOf(progress);
  if (delivery.rows > 0) {
    report.delivery = { id: delivery.id, replaced, different, totals: delivery.totals };
  }
  for (const note of delivery.notes) options.onNote?.(note);
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
