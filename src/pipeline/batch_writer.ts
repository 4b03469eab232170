import type { Dataset } from "../records/dataset.ts";
import { Delivery, type DeliveryParts } from "./delivery.ts";
import type { Batch, Sink } from "./sink.ts";
import type { Queue } from "./queue.ts";

/**
 * State of a batch: `ready` behind the one that is being written, `sent` in whole to the backend, a write of it
 * `failed` and will be repeated, all of it was `delivered`, or the next one may `start`.
 */
export type Progress = "ready" | "sent" | "failed" | "delivered" | "start";

/** The parts of a {@linkcode BatchWriter}. */
export interface WriterParts<T> extends Omit<DeliveryParts<T>, "onSent" | "onFailed"> {
  readonly dataset: Dataset<T>;
  readonly sink: Sink;
  readonly queue: Queue<T>;
  readonly onProgress: (progress: Progress) => void;
}

/**
 * - `idle`: no batch.
 * - `writing`: a batch is being written.
 * - `sent`: the backend has all of that batch, so the next can be made ready.
 * - `ahead`: another batch is ready behind it.
 */
type WriterState = "idle" | "writing" | "sent" | "ahead";

/**
 * Writes batches one after the other: one is being written, and one is ready behind it. Each is frozen in the queue first
 * and acknowledged when all of its records are settled.
 *
 * @typeParam T The type of the records.
 */
export class BatchWriter<T> {
  readonly #parts: WriterParts<T>;
  readonly #delivery: Delivery<T>;
  #state: WriterState = "idle";
  #delivered: Promise<void> = Promise.resolve();
  #onSent: () => void = () => {};

  /** Writes nothing until the stream is written to. */
  constructor(parts: WriterParts<T>) {
    this.#parts = parts;
    this.#delivery = new Delivery({
      ...parts,
      onSent: () => {
        if (this.#state === "writing") this.#state = "sent";
        parts.onProgress("sent");
        this.#onSent();
      },
      onFailed: () => parts.onProgress("failed"),
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

  /** Writes the batches that an earlier process froze, as they were. */
  async writeFrozen(): Promise<void> {
    const { dataset, queue } = this.#parts;
    for await (const { id, records } of queue.frozen()) await this.#deliver({ id, dataset, records });
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
    const { sink, onProgress } = this.#parts;
    if (this.#state === "idle") this.#state = "writing";
    else {
      this.#state = "ahead";
      onProgress("ready");
    }
    const batches = await this.#freeze(records);
    try {
      sink.prepare?.(batches[0]);
    } catch {
      // The write of that batch meets the same and reports it.
    }
    await this.#delivered;
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    this.#onSent = resolve;
    this.#delivered = this.#deliverAll(batches);
    this.#delivered.catch(() => {}); // the next write or the close of the stream rejects with it
    await Promise.race([sent, this.#delivered]);
  }

  async #freeze(records: readonly T[]): Promise<Batch<T>[]> {
    const { queue, dataset } = this.#parts;
    let from = 0;
    return (await queue.freeze(records.length)).map(({ id, count }) => {
      const part = count === records.length ? records : records.slice(from, from += count);
      return { id, dataset, records: part };
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
