import { setImmediate } from "node:timers";
import { BackendError } from "../errors.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";
import { BatchStream, MAX_TIMER_MS } from "./batch_stream.ts";
import { type Sink, sinkStream, type WriteResult } from "./sink.ts";

/** What to do with a record when the buffer is full. */
export type OverflowPolicy = "block" | "drop-oldest" | "drop-newest";

/** The upper bounds of what a batch takes at once (group commit), beside the less that it may hold already. */
const MAX_BATCH_RECORDS = 10_000;
const MAX_BATCH_BYTES = 8 * 2 ** 20;
/** The bounds of what waits for its batch. */
const MAX_BUFFERED_RECORDS = MAX_BATCH_RECORDS;
const MAX_BUFFERED_BYTES = 64 * 2 ** 20;

/** How a {@linkcode Pipeline} works. */
export interface PipelineOptions<T> {
  /** The kind of record. */
  dataset: Dataset<T>;
  /** Where batches go. */
  sink: Sink;
  /** Records that make a batch due. */
  batchSize: number;
  /** The longest that a record waits for its batch, in milliseconds. */
  batchIntervalMs: number;
  /** What to do when the buffer is full. */
  overflow: OverflowPolicy;
  /** Is handed each record as it is accepted. */
  onAccepted?: (record: T) => void;
}

/**
 * What became of the records of a dataset. At every moment
 * `accepted = committed + duplicates + dropped + buffered + inFlight`.
 */
export interface PipelineStats {
  /** Records taken in. */
  accepted: number;
  /** Records that the backend has stored. */
  committed: number;
  /** Records whose key the backend had already. */
  duplicates: number;
  /** Those of the committed that took the place of an older record with their key. */
  restated: number;
  /** Records given up because the buffer was full. */
  dropped: number;
  /** Records that wait for their batch. */
  buffered: number;
  /** Records in the batch that is being written. */
  inFlight: number;
  /** Records refused as invalid. They were never accepted. */
  refused: number;
  /** Attempts to write that failed and were repeated. */
  retries: number;
  /** What stands in the way of the batch in flight, if anything. */
  lastError?: string;
}

/** What {@linkcode Pipeline.close} left behind. */
export interface CloseReport {
  /** Records stored since the start. */
  committed: number;
  /** Records that are kept on disk for the next start; 0, as there is no spool yet. */
  spooled: number;
  /** Records that were set aside as refused by the backend; 0, as nothing is set aside yet. */
  deadLettered: number;
  /** Records that were accepted and are not known to be committed at the deadline. */
  lost: number;
}

/** Somebody who waits until the buffer has room. */
interface Waiting<T> {
  record: T;
  admitted: () => void;
  refused: (error: Error) => void;
}

/** Somebody who waits until no record that was admitted before the one at `target` is left. */
interface Flushing {
  target: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Records that were taken out of the buffer together and are not all settled. */
interface Taken {
  /** How many are left. */
  count: number;
  /** The position after the last of them, in the order of admission. */
  readonly end: number;
}

const ADMITTED: Promise<void> = Promise.resolve();
/** The longest wait between attempts, and the same once the pipeline is closing and has not much time left. */
const MAX_RETRY_MS = 30_000;
const MAX_CLOSING_RETRY_MS = 250;

/**
 * The way of the records of one dataset: a bounded buffer, a {@linkcode BatchStream}, the backend's sink.
 *
 * While the sink writes, the stream is under back-pressure and arrivals gather in the buffer; the next
 * batch takes them all. So the cost of a commit is shared by as many records as there are (group commit).
 *
 * @typeParam T The type of the records.
 */
export class Pipeline<T> {
  readonly #dataset: Dataset<T>;
  readonly #overflow: OverflowPolicy;
  readonly #onAccepted: (record: T) => void;
  readonly #batchSize: number;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  readonly #counters = {
    accepted: 0,
    committed: 0,
    duplicates: 0,
    restated: 0,
    dropped: 0,
    inFlight: 0,
    refused: 0,
    retries: 0,
  };
  #arrivals: T[] = [];
  #arrivedBytes = 0;
  /** Records that were put into the buffer so far; a record's position is this number before it. */
  #admitted = 0;
  /** What has left the buffer for the stream, oldest first. Positions that were dropped are not in it. */
  readonly #taken: Taken[] = [];
  readonly #waiting: Waiting<T>[] = [];
  readonly #flushing: Flushing[] = [];
  /** Whether the batch stream has been asked for what it holds. */
  #flushAsked = false;
  #isClosed = false;
  #wakeSource: (() => void) | undefined;
  #isWaking = false;
  /** Ends the wait before the next attempt, where there is one. */
  #tryNow: () => void = () => {};
  #lastError: unknown;
  #closing: Promise<CloseReport> | undefined;

  /**
   * Starts the pipeline; it opens nothing by itself.
   *
   * @param options The dataset, the sink and the batching.
   */
  constructor(options: PipelineOptions<T>) {
    const { dataset, sink, batchSize, batchIntervalMs, overflow } = options;
    this.#dataset = dataset;
    this.#overflow = overflow;
    this.#onAccepted = options.onAccepted ?? (() => {});
    this.#batchSize = batchSize;
    const { signal } = this.#abort;
    this.#done = this.#source()
      .pipeThrough(
        new BatchStream<T>({
          size: batchSize,
          intervalMs: batchIntervalMs,
          maxBytes: MAX_BATCH_BYTES,
          byteLength: (record) => byteLength(dataset, record),
        }),
        { signal },
      )
      .pipeTo(
        sinkStream({ dataset, sink }, {
          signal,
          onTaken: (records) => this.#counters.inFlight += records,
          onCommitted: (result) => this.#onCommitted(result),
          onFailure: (error) => this.#onFailure(error),
          onWait: (tryNow) => this.#tryNow = tryNow,
          maxMs: () => this.#isClosed ? MAX_CLOSING_RETRY_MS : MAX_RETRY_MS,
        }),
        { signal },
      );
    this.#done.catch(() => {}); // only an abort at the deadline of close() ends it this way
  }

  /**
   * Takes a record in, or waits until there is room, as the overflow policy says.
   *
   * @param record A record that has been checked. It must not be changed afterwards.
   * @returns A promise that resolves when the record is accepted; it rejects only once closed.
   */
  accept(record: T): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#closedError());
    if (this.#hasRoom()) {
      this.#admit(record);
      return ADMITTED;
    }
    if (this.#overflow === "block") {
      return new Promise((admitted, refused) => this.#waiting.push({ record, admitted, refused }));
    }
    if (this.#overflow === "drop-oldest" && this.#arrivals.length > 0) {
      this.#dropOldest();
      this.#admit(record);
    } else {
      this.#counters.accepted++;
      this.#counters.dropped++;
    }
    return ADMITTED;
  }

  /** Counts a record that was refused as invalid. */
  countRefused(): void {
    this.#counters.refused++;
  }

  /**
   * Waits until all that was accepted before is committed, without waiting for size or interval.
   *
   * @throws {BackendError} If the backend is in a state that somebody has to mend. Nothing is lost by that:
   * the records stay, and are written as soon as it is mended.
   */
  flush(): Promise<void> {
    const target = this.#admitted + this.#waiting.length;
    if (this.#settledPosition() >= target) return Promise.resolve();
    this.#flushAsked = true;
    this.#wakeSource?.();
    this.#tryNow();
    return new Promise((resolve, reject) => this.#flushing.push({ target, resolve, reject }));
  }

  /**
   * Ends the intake and commits what is left, until the deadline. Another call gives the same report.
   *
   * @param options The deadline, in milliseconds from now.
   * @returns What was committed and what was not.
   */
  close({ deadlineMs }: { deadlineMs: number }): Promise<CloseReport> {
    this.#closing ??= this.#close(deadlineMs);
    return this.#closing;
  }

  async #close(deadlineMs: number): Promise<CloseReport> {
    this.#isClosed = true;
    for (const { refused } of this.#waiting.splice(0)) refused(this.#closedError());
    this.#wakeSource?.();
    this.#tryNow();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(deadlineMs, MAX_TIMER_MS));
    });
    await Promise.race([this.#done, deadline]);
    clearTimeout(timer);
    this.#abort.abort(this.#closedError());
    const { committed, buffered, inFlight } = this.stats();
    for (const { reject } of this.#flushing.splice(0)) reject(this.#lastError ?? this.#closedError());
    return { committed, spooled: 0, deadLettered: 0, lost: buffered + inFlight };
  }

  /** The counters and gauges as they stand. */
  stats(): PipelineStats {
    const { inFlight } = this.#counters;
    const taken = this.#taken.reduce((sum, { count }) => sum + count, 0);
    const buffered = this.#arrivals.length + taken - inFlight;
    const error = this.#lastError;
    return {
      ...this.#counters,
      buffered,
      ...(error === undefined ? {} : { lastError: messageOf(error) }),
    };
  }

  /** What has arrived, whenever the batch stream asks for more. */
  #source(): ReadableStream<readonly T[]> {
    return new ReadableStream({
      pull: async (controller) => {
        // A pull that ends without a chunk would not be called again.
        while (!this.#hasWork()) await new Promise<void>((resolve) => this.#wakeSource = resolve);
        this.#wakeSource = undefined;
        if (this.#arrivals.length > 0) controller.enqueue(this.#take());
        else if (this.#flushAsked) {
          this.#flushAsked = false;
          controller.enqueue([]);
        } else controller.close();
      },
    }, { highWaterMark: 0 });
  }

  #hasWork(): boolean {
    return this.#arrivals.length > 0 || this.#flushAsked || this.#isClosed;
  }

  /** All arrivals up to the bounds of a batch; those who waited for room move up. */
  #take(): T[] {
    let taken: T[];
    if (
      this.#arrivals.length <= MAX_BATCH_RECORDS && this.#arrivedBytes <= MAX_BATCH_BYTES
    ) {
      taken = this.#arrivals;
      this.#arrivals = [];
      this.#arrivedBytes = 0;
    } else {
      taken = this.#arrivals.splice(0, this.#batchLength());
      for (const record of taken) this.#arrivedBytes -= byteLength(this.#dataset, record);
    }
    this.#taken.push({ count: taken.length, end: this.#admitted - this.#arrivals.length });
    while (this.#waiting.length > 0 && this.#hasRoom()) {
      const { record, admitted } = this.#waiting.shift()!;
      this.#admit(record);
      admitted();
    }
    return taken;
  }

  /** How many arrivals fit the bounds of a batch: at least one. */
  #batchLength(): number {
    let bytes = 0;
    const most = Math.min(this.#arrivals.length, MAX_BATCH_RECORDS);
    for (let i = 0; i < most; i++) {
      bytes += byteLength(this.#dataset, this.#arrivals[i]);
      if (bytes > MAX_BATCH_BYTES) return Math.max(i, 1);
    }
    return most;
  }

  #hasRoom(): boolean {
    return this.#arrivals.length < MAX_BUFFERED_RECORDS && this.#arrivedBytes < MAX_BUFFERED_BYTES;
  }

  #admit(record: T): void {
    this.#arrivals.push(record);
    this.#arrivedBytes += byteLength(this.#dataset, record);
    this.#counters.accepted++;
    this.#admitted++;
    this.#onAccepted(record);
    if (this.#wakeSource) this.#wakeSoon();
  }

  /**
   * Hands arrivals on when they make a batch, else at the end of this turn of the event loop: a stream's cycle
   * costs 2 µs, too much to spend on each record of a caller that has more at hand.
   */
  #wakeSoon(): void {
    if (this.#arrivals.length >= this.#batchSize) this.#wakeSource?.();
    else if (!this.#isWaking) {
      this.#isWaking = true;
      setImmediate(() => {
        this.#isWaking = false;
        this.#wakeSource?.();
      });
    }
  }

  #dropOldest(): void {
    const oldest = this.#arrivals.shift()!;
    this.#arrivedBytes -= byteLength(this.#dataset, oldest);
    this.#counters.dropped++;
    this.#endFlushes();
  }

  #onCommitted({ committed, duplicates, restated }: WriteResult): void {
    this.#counters.committed += committed;
    this.#counters.duplicates += duplicates;
    this.#counters.restated += restated;
    this.#counters.inFlight -= committed + duplicates;
    this.#lastError = undefined;
    for (let left = committed + duplicates; left > 0;) {
      const oldest = this.#taken[0];
      const settled = Math.min(left, oldest.count);
      oldest.count -= settled;
      left -= settled;
      if (oldest.count === 0) this.#taken.shift();
    }
    this.#endFlushes();
  }

  #onFailure(error: unknown): void {
    this.#counters.retries++;
    this.#lastError = error;
    if (isRetryable(error)) return;
    for (const { reject } of this.#flushing.splice(0)) reject(error);
  }

  /** The position before which every record has left the pipeline. Batches settle in order, drops do not. */
  #settledPosition(): number {
    const oldest = this.#taken[0];
    return oldest ? oldest.end - oldest.count : this.#admitted - this.#arrivals.length;
  }

  #endFlushes(): void {
    const settled = this.#settledPosition();
    while (this.#flushing.length > 0 && this.#flushing[0].target <= settled) {
      this.#flushing.shift()!.resolve();
    }
  }

  #closedError(): BackendError {
    return new BackendError(
      `Cannot accept ${this.#dataset.noun}: an open hub or observatory is wanted: this one is closed`,
      { operation: "accept", retryable: false },
    );
  }
}

function isRetryable(error: unknown): boolean {
  return error === undefined || (error instanceof BackendError && error.retryable);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
