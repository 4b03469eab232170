import { retryBriefly } from "../pipeline/retry.ts";
import type { Batch, Sink, WriteResult } from "../pipeline/sink.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";

/** Records of a batch, where they are small. With 10,000 and 20,000 nothing was faster (measured). */
const BATCH_RECORDS = 5_000;
const BATCH_BYTES = 8 * 2 ** 20;
/** Batches of a copy that are written at once: while one is being committed, the server takes in another. */
export const BATCHES_AT_ONCE = 2;

/**
 * A `TransformStream` of records into batches that depend on nothing but the records: of the same file come the same
 * batches again.
 */
export class FixedBatches<T> extends TransformStream<readonly T[], T[]> {
  /** Makes the stream, of batches of at most so many records. */
  constructor(dataset: Dataset<T>, maxRecords: number = BATCH_RECORDS) {
    let batch: T[] = [];
    let bytes = 0;
    super({
      transform(records, controller) {
        for (const record of records) {
          batch.push(record);
          bytes += byteLength(dataset, record);
          if (batch.length < maxRecords && bytes < BATCH_BYTES) continue;
          controller.enqueue(batch);
          batch = [];
          bytes = 0;
        }
      },
      flush(controller) {
        if (batch.length > 0) controller.enqueue(batch);
      },
    });
  }
}

export interface BatchSinkOptions<T> {
  dataset: Dataset<T>;
  sink: Sink;
  idOf: (records: readonly T[]) => string;
  /** Called for each batch. */
  onWritten: (result: WriteResult) => void;
  /**
   * Number of batches to write at once, if their order does not matter.
   *
   * @default {1}
   */
  atOnce?: number;
}

/** A `WritableStream` of batches. What may pass by itself is tried again for some 20 seconds. */
export function batchSink<T>(
  { dataset, sink, idOf, onWritten, atOnce }: BatchSinkOptions<T>,
): WritableStream<readonly T[]> {
  return aheadSink((records, onSent) => {
    const batch: Batch<T> = { id: idOf(records), dataset, records };
    return retryBriefly(() => sink.write(batch, onSent)).then(onWritten);
  }, { atOnce });
}

/**
 * A `WritableStream` that asks for the next chunk while this one is written: a database is idle otherwise while records are
 * read for it.
 *
 * @param write Writes a chunk; may call `onSent` once the rest of the work is done elsewhere.
 * @param options `atOnce` is the number of chunks that are written at once, 1 by default.
 */
export function aheadSink<T>(
  write: (chunk: T, onSent: () => void) => Promise<void>,
  { atOnce = 1 }: { atOnce?: number } = {},
): WritableStream<T> {
  const inFlight: Promise<void>[] = [];
  return new WritableStream({
    async write(chunk) {
      if (inFlight.length === atOnce) await over(inFlight.shift()!);
      const { promise: sent, resolve: onSent } = Promise.withResolvers<void>();
      const written = write(chunk, onSent);
      written.catch(() => {}); // reported to the next caller that waits
      inFlight.push(written);
      await Promise.race([sent, written]);
    },
    async close() {
      for (const written of inFlight) await over(written);
    },
    async abort() {
      await Promise.allSettled(inFlight);
    },
  });

  /** Nothing is in flight when a failure is reported. */
  async function over(written: Promise<void>): Promise<void> {
    try {
      await written;
    } catch (error) {
      await Promise.allSettled(inFlight);
      throw error;
    }
  }
}
