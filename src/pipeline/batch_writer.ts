import type { Dataset } from "../records/dataset.ts";
import { BatchDelivery, type BatchDeliveryParts } from "./batch_delivery.ts";
import { batchOf } from "./members.ts";
import type { Batch, Sink } from "./sink.ts";
import type { Queue } from "./queue.ts";

/**
 * State of a batch: `ready` behind the one that is being written, `sent` in whole to the backend, a write of it
 * `failed` and will be repeated, its only record is `suspect`, all of it was `delivered`, or the next one may `start`.
 */
export type Progress = "ready" | "sent" | "failed" | "suspect" | "delivered" | "start";

/** The parts of a {@linkcode BatchWriter}. */
export interface WriterParts<T> extends Omit<BatchDeliveryParts<T>, "onSent" | "onFailed" | "nextBatch"> {
  readonly dataset: Dataset<T>;
  readonly sink: Sink;
  readonly queue: Queue<T>;
  readonly onProgress: (progress: Progress) => void;
}

/**
 * - `idle`: no batch.
 * - `writing`: a batch is being written.
 * - `sent`: the backend has all of that batch, so the next can be made ready.
 * - `suspect`: the only record of that batch fails, so another batch is needed to tell if the backend stores any.
 * - `ahead`: another batch is ready behind it.
 */
type WriterState = "idle" | "writing" | "sent" | "suspect" | "ahead";

/**
 * Writes batches one after the other: one is being written, and one is ready behind it. Each is frozen in the queue first
 * and acknowledged when all of its records are settled.
 *
 * @typeParam T The type of the records.
 */
export class BatchWriter<T> {
  readonly #parts: WriterParts<T>;
  readonly #delivery: BatchDelivery<T>;
  #state: WriterState = "idle";
  #delivered: Promise<void> = Promise.resolve();
  /** The batch that is ready behind the one that is being written. */
  #ahead: Batch<T> | undefined;
  #onSent: () => void = () => {};

  /** Writes nothing until the stream is written to. */
  constructor(parts: WriterParts<T>) {
    this.#parts = parts;
    this.#delivery = new BatchDelivery({
      ...parts,
      onSent: () => {
        if (this.#state === "writing") this.#state = "sent";
        parts.onProgress("sent");
        this.#onSent();
      },
      onFailed: () => parts.onProgress("failed"),
      nextBatch: () => this.#nextBatch(),
    });
  }

  /** Stage of the batches on their way. */
  get state(): WriterState {
    return this.#state;
  }

  /** The last failure, until a write succeeds. */
  get lastError(): unknown {
    return this.#delivery.lastError;
  }

  /** Cause that blocks the batch in flight until an operator acts, if any. */
  get alarm(): string | undefined {
    return this.#delivery.alarm.message;
  }

  /** Writes the batches that an earlier process froze, as they were. Resolves when the last of them is being written. */
  async writeFrozen(): Promise<void> {
    const { dataset, queue } = this.#parts;
    for await (const { id, records } of queue.frozen()) {
      this.#begin();
      await this.#writeNext([batchOf(id, dataset, records)]);
    }
  }

  /** Takes the records of one batch at a time; a write resolves when the backend has them all, or has written them. */
  stream(): WritableStream<readonly T[]> {
    return new WritableStream({
      write: (records) => this.#write(records),
      close: () => this.#delivered,
      abort: () => this.#delivered.catch(() => {}),
    });
  }

  async #write(records: readonly T[]): Promise<void> {
    this.#begin();
    const batches = await this.#freeze(records);
    try {
      this.#parts.sink.prepare?.(batches[0]);
    } catch {
      // The write of that batch fails in the same way and reports it.
    }
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    await this.#writeNext(batches, resolve);
    await Promise.race([sent, this.#delivered]);
  }

  #begin(): void {
    if (this.#state === "idle") this.#state = "writing";
    else {
      this.#state = "ahead";
      this.#parts.onProgress("ready");
    }
  }

  /** Writes batches once those before them are delivered; resolves as soon as that begins. */
  async #writeNext(batches: readonly Batch<T>[], onSent = () => {}): Promise<void> {
    this.#ahead = batches[0];
    await this.#delivered;
    this.#ahead = undefined;
    this.#onSent = onSent;
    this.#delivered = this.#deliverAll(batches);
    this.#delivered.catch(() => {}); // the next write or the close of the stream rejects with it
  }

  /** Gives the batch that is ready behind the one that is being written, or has one taken. */
  #nextBatch(): Batch<T> | undefined {
    if (!this.#ahead && this.#state !== "ahead") {
      this.#state = "suspect";
      this.#parts.onProgress("suspect");
      this.#onSent(); // the stream passes on no batch before that
    }
    return this.#ahead;
  }

  async #freeze(records: readonly T[]): Promise<Batch<T>[]> {
    const { queue, dataset } = this.#parts;
    let from = 0;
    return (await queue.freeze(records.length)).map(({ id, count }) => {
      const part = count === records.length ? records : records.slice(from, from += count);
      return batchOf(id, dataset, part);
    });
  }

  async #deliverAll(batches: readonly Batch<T>[]): Promise<void> {
    for (const batch of batches) await this.#deliver(batch);
    this.#state = this.#state === "ahead" ? "writing" : "idle";
    this.#parts.onProgress("start");
  }

  /** Never rejects for a failure of the backend: a stream that throws would drop all that is queued behind the batch. */
  async #deliver(batch: Batch<T>): Promise<void> {
    const { counters, queue, onProgress } = this.#parts;
    counters.inFlight += batch.records.length;
    await this.#delivery.deliver(batch);
    onProgress("delivered");
    await queue.acknowledge();
  }
}
