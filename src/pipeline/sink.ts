import type { Dataset } from "../records/dataset.ts";
import { retry, type RetryOptions } from "./retry.ts";

/** Records of one dataset that are written in one transaction. Frozen together with its id. */
export interface Batch<T = unknown> {
  /** The id by which the ledger knows it. */
  readonly id: string;
  /** The dataset of all its records. */
  readonly dataset: Dataset<T>;
  /** The records, in the order in which they were accepted. */
  readonly records: readonly T[];
}

/** What became of the records of a batch: `committed` and `duplicates` add up to it. */
export interface WriteResult {
  /** Records that are now stored, restated ones included. */
  readonly committed: number;
  /** Records that were not stored because their key was there already. */
  readonly duplicates: number;
  /** Those of the committed that took the place of an older record with their key. */
  readonly restated: number;
  /** Set where the ledger knew the batch: nothing was written, and the numbers are those of the first time. */
  readonly isReplay?: true;
}

/** The write side of a backend. */
export interface Sink {
  /**
   * Writes a batch in one transaction together with its id. To write the same batch again changes nothing
   * and gives the same result, marked as a replay.
   *
   * @throws {BackendError} If it was not written, or if that is unknown.
   */
  write(batch: Batch): Promise<WriteResult>;
}

/** Who is told what a {@linkcode sinkStream} does, and how it retries. */
export interface SinkStreamOptions extends RetryOptions {
  /** A batch has been taken over. */
  onTaken: (records: number) => void;
  /** A batch has been committed. */
  onCommitted: (result: WriteResult) => void;
}

/**
 * A `WritableStream` of batches into a sink. A stream that throws would drop all that is queued behind the
 * failed batch, so failures are retried here and never reach the stream.
 *
 * @param dataset The dataset of the records.
 * @param sink Where batches are written.
 * @param options Who is told, and how it retries.
 * @returns The stream.
 */
export function sinkStream<T>(
  { dataset, sink }: { dataset: Dataset<T>; sink: Sink },
  options: SinkStreamOptions,
): WritableStream<readonly T[]> {
  const { onTaken, onCommitted, ...retries } = options;
  return new WritableStream<readonly T[]>({
    async write(records) {
      onTaken(records.length);
      const batch: Batch<T> = { id: crypto.randomUUID(), dataset, records };
      onCommitted(await retry(() => sink.write(batch), retries));
    },
  });
}
