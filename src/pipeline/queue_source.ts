import { setImmediate } from "node:timers";
import type { Queue } from "./queue.ts";

/** The parts of a {@linkcode QueueSource}. */
export interface SourceParts<T> {
  readonly queue: Pick<Queue<T>, "isEmpty" | "buffered" | "spooled" | "take">;
  /** Records that make a batch due. */
  readonly batchSize: number;
  /** True if the next batch may be taken. */
  readonly canTake: () => boolean;
}

/**
 * Reads a queue as a stream, whenever the batch stream asks for more.
 *
 * @typeParam T The type of the records.
 */
export class QueueSource<T> {
  readonly #parts: SourceParts<T>;
  /** `flushing`: an empty chunk follows what is in the queue. `ending`: the stream closes after that. */
  #state: "reading" | "flushing" | "ending" = "reading";
  #wake: (() => void) | undefined;
  #isWaking = false;

  /** Reads nothing until the stream is pulled. */
  constructor(parts: SourceParts<T>) {
    this.#parts = parts;
  }

  /** The records as they are taken. An empty chunk asks for a batch of all before it. */
  stream(): ReadableStream<readonly T[]> {
    const { queue } = this.#parts;
    return new ReadableStream({
      pull: async (controller) => {
        for (;;) { // a pull that ends without a chunk would not be called again
          while (!this.#hasWork()) await new Promise<void>((resolve) => this.#wake = resolve);
          this.#wake = undefined;
          if (!queue.isEmpty) {
            const found = queue.take();
            const records = found instanceof Promise ? await found : found;
            if (records.length > 0) return controller.enqueue(records);
          } else if (this.#state === "flushing") {
            this.#state = "reading";
            return controller.enqueue([]);
          } else return controller.close();
        }
      },
    }, { highWaterMark: 0 });
  }

  /** Looks for work again. */
  wake(): void {
    this.#wake?.();
  }

  /**
   * Looks for work at once when arrivals make a batch, else at the end of this turn of the event loop: a stream's cycle
   * costs 2 µs, too much to spend on each record of a caller that adds many.
   */
  wakeSoon(): void {
    const { queue, batchSize, canTake } = this.#parts;
    if (!this.#wake || !canTake()) return;
    if (queue.buffered >= batchSize) this.#wake();
    else if (!this.#isWaking) {
      this.#isWaking = true;
      setImmediate(() => {
        this.#isWaking = false;
        this.#wake?.();
      });
    }
  }

  /** Has the batch stream emit what it holds, once the queue is empty. */
  flush(): void {
    if (this.#state === "reading") this.#state = "flushing";
    this.#wake?.();
  }

  /** Ends the stream once the queue is empty. */
  end(): void {
    this.#state = "ending";
    this.#wake?.();
  }

  #hasWork(): boolean {
    const { queue, canTake } = this.#parts;
    if (!canTake()) return false;
    return !queue.isEmpty || (this.#state !== "reading" && queue.buffered + queue.spooled === 0);
  }
}
