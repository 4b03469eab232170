import type { Dataset } from "../records/dataset.ts";
import type { Queue } from "./queue.ts";
import type { Batch, Sink } from "./sink.ts";

/** What goes with a {@linkcode Dispatch}. */
export interface DispatchOptions<T> {
  /** The dataset of the records. */
  dataset: Dataset<T>;
  /** Where batches are frozen. */
  queue: Pick<Queue<T>, "freeze">;
  /** Where they are made ready. */
  sink: Pick<Sink, "prepare">;
  /** Writes a batch; rejects only when nothing more is to be written. */
  deliver: (batch: Batch<T>) => Promise<void>;
  /** A batch is there to be written while another one is. */
  onReady: () => void;
  /** Another one may be dispatched, perhaps. */
  onMove: () => void;
}

/**
 * Batches on their way into the backend: one that is being written, and behind it one that is ready to be. They are written
 * one after the other.
 *
 * @typeParam T The type of the records.
 */
export class Dispatch<T> {
  readonly #options: DispatchOptions<T>;
  /** Those that are frozen and not yet delivered. */
  #count = 0;
  #delivered: Promise<void> = Promise.resolve();
  #isSent = false;
  #tellSent: () => void = () => {};

  /** Makes it; it does nothing by itself. */
  constructor(options: DispatchOptions<T>) {
    this.#options = options;
  }

  /** Whether nothing is being written. */
  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Whether a batch waits for the one that is being written. */
  get isNextReady(): boolean {
    return this.#count > 1;
  }

  /** Whether the backend has all of what is being written, and the next can be made ready meanwhile. */
  get canPrepare(): boolean {
    return this.#count === 1 && this.#isSent;
  }

  /** Has the records of a batch written; resolves when the backend has them all, or has written them. */
  stream(): WritableStream<readonly T[]> {
    return new WritableStream({
      write: (records) => this.#write(records),
      close: () => this.#delivered,
      abort: () => this.#delivered.catch(() => {}),
    });
  }

  /** The backend has all of what is being written. */
  sent(): void {
    this.#isSent = true;
    this.#tellSent();
    this.#options.onMove();
  }

  async #write(records: readonly T[]): Promise<void> {
    const { sink, onReady, onMove } = this.#options;
    if (++this.#count > 1) onReady();
    const batches = await this.#freeze(records);
    try {
      sink.prepare?.(batches[0]);
    } catch {
      // The write of that batch will meet the same, and knows what to do.
    }
    await this.#delivered;
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    this.#tellSent = resolve;
    this.#delivered = this.#deliver(batches).then(() => {
      this.#count--;
      this.#isSent = false;
      onMove();
    });
    this.#delivered.catch(() => {}); // whoever waits for it next is told
    await Promise.race([sent, this.#delivered]);
  }

  async #freeze(records: readonly T[]): Promise<Batch<T>[]> {
    const { queue, dataset } = this.#options;
    let from = 0;
    return (await queue.freeze(records.length)).map(({ id, count }) => {
      const part = count === records.length ? records : records.slice(from, from += count);
      return { id, dataset, records: part };
    });
  }

  async #deliver(batches: readonly Batch<T>[]): Promise<void> {
    for (const batch of batches) await this.#options.deliver(batch);
  }
}
