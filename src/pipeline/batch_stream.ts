/** Limits at which a {@linkcode BatchStream} emits a batch. */
export interface BatchStreamOptions<T> {
  /**
   * Records that make a batch due. Not a cap: what arrives together stays together.
   *
   * @default {100}
   */
  size?: number;
  /**
   * The longest that a record waits for its batch, in milliseconds.
   *
   * @default {60_000}
   */
  intervalMs?: number;
  /**
   * Bytes that make a batch due.
   *
   * @default {Infinity}
   */
  maxBytes?: number;
  /**
   * The bytes of a record.
   *
   * @default {() => 0}
   */
  byteLength?: (record: T) => number;
}

/** `setTimeout` fires at once beyond this; 24.8 days. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A `TransformStream` that gathers arrivals into batches, by number, by bytes and by time.
 *
 * It takes arrays, for speed: what has arrived since the last read comes as one chunk. An empty chunk
 * asks for a batch of the records held. A batch is only ever enqueued where the reader waits for one:
 * `transform()` is not called under back-pressure, and after it enqueues nothing is left over, so that
 * records are held only while the reader waits. That makes it safe for the timer to enqueue, too.
 *
 * @typeParam T The type of the records.
 */
export class BatchStream<T> extends TransformStream<readonly T[], readonly T[]> {
  /**
   * Makes the stream.
   *
   * @throws {RangeError} If size or intervalMs is out of range.
   */
  constructor(options: BatchStreamOptions<T> = {}) {
    const { size = 100, intervalMs = 60_000, maxBytes = Infinity, byteLength = () => 0 } = options;
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new RangeError(
        `BatchStream: size must be a whole number from 1, not ${size}.`,
      );
    }
    if (!(intervalMs >= 0 && intervalMs <= MAX_TIMER_MS)) {
      throw new RangeError(
        `BatchStream: intervalMs must be from 0 to ${MAX_TIMER_MS}, not ${intervalMs}.`,
      );
    }
    let held: T[] = [];
    let bytes = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;

    function emit(controller: TransformStreamDefaultController<readonly T[]>): void {
      clearTimeout(timer);
      timer = undefined;
      if (held.length === 0) return;
      const batch = held;
      held = [];
      bytes = 0;
      controller.enqueue(batch);
    }

    super({
      transform(arrivals, controller) {
        // Not concat(): single arrivals would copy all that is held each time.
        if (held.length === 0) held = arrivals.slice();
        else for (const record of arrivals) held.push(record);
        let isDue = arrivals.length === 0 || held.length >= size;
        if (!isDue && maxBytes < Infinity) {
          for (const record of arrivals) bytes += byteLength(record);
          isDue = bytes >= maxBytes;
        }
        if (isDue) emit(controller);
        else timer ??= setTimeout(emit, intervalMs, controller);
      },
      flush: emit,
      cancel() {
        clearTimeout(timer);
        held = [];
      },
    });
  }
}
