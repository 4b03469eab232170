import { setImmediate } from "node:timers";
import { BackendError, errorCodeOf, kindOf, messageOf } from "../errors.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";
import { BatchStream, MAX_TIMER_MS } from "./batch_stream.ts";
import type { DeadLetters } from "./dead_letters.ts";
import { Delivery } from "./delivery.ts";
import { Dispatch } from "./dispatch.ts";
import { Alarm, type EventListener } from "./events.ts";
import { type CloseReport, Latencies, type PipelineStats } from "./pipeline_stats.ts";
import { FlushTracker } from "./flush_tracker.ts";
import { MAX_BATCH_BYTES, MemoryQueue, type Queue, type QueueHooks } from "./queue.ts";
import { retry } from "./retry.ts";
import type { Batch, Sink, WriteResult } from "./sink.ts";
import { AdmissionQueue } from "./admission_queue.ts";

/** What to do with a record when the buffer is full. */
export type OverflowPolicy = "block" | "drop-oldest" | "drop-newest";

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
  /** Called with each record as it is accepted, and its size by `byteLength()`. */
  onAccepted?: (record: T, bytes: number) => void;
  /** Is told of what happens. It does not throw. */
  onEvent?: EventListener;
  /** Where records wait; in memory where not given. */
  queue?: (hooks: QueueHooks) => Queue<T>;
  /** Where records go that the backend refuses; they are only told of where not given. */
  deadLetters?: DeadLetters;
}

const ADMITTED: Promise<void> = Promise.resolve();
/** The longest wait between attempts, and the same once the pipeline is closing and has not much time left. */
const MAX_RETRY_MS = 30_000;
const MAX_CLOSING_RETRY_MS = 250;

/**
 * The way of the records of one dataset: a bounded queue, a {@linkcode BatchStream}, the backend's sink.
 *
 * While the sink writes, the stream is under back-pressure and arrivals gather in the queue; the next batch takes
 * them all, and when no more would go in it is made ready. So the cost of a commit is shared by as many records as
 * there are (group commit).
 *
 * @typeParam T The type of the records.
 */
export class Pipeline<T> {
  readonly #dataset: Dataset<T>;
  readonly #overflow: OverflowPolicy;
  readonly #onAccepted: (record: T, bytes: number) => void;
  readonly #emit: EventListener;
  readonly #batchSize: number;
  readonly #queue: Queue<T>;
  readonly #deadLetters: DeadLetters | undefined;
  readonly #delivery: Delivery<T>;
  readonly #dispatch: Dispatch<T>;
  readonly #alarm: Alarm;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  readonly #counters = {
    accepted: 0,
    committed: 0,
    duplicates: 0,
    restated: 0,
    deadLettered: 0,
    lost: 0,
    dropped: 0,
    inFlight: 0,
    refused: 0,
    retries: 0,
  };
  readonly #latencies = new Latencies();
  readonly #positions: FlushTracker;
  readonly #waiting: AdmissionQueue<T>;
  /** Whether the batch stream has been asked for what it holds. */
  #flushAsked = false;
  #isDropping = false;
  /** Whether arrivals wait although there is room, until the batch that is ready is sent. */
  #isHolding = false;
  /** Whether records need not wait for room in memory. */
  #isSpilling = false;
  #isClosed = false;
  /** Whether closing is over, so that nothing that is left will be written. */
  #isOver = false;
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
    this.#emit = options.onEvent ?? (() => {});
    this.#batchSize = batchSize;
    this.#deadLetters = options.deadLetters;
    this.#alarm = new Alarm(dataset.name, this.#emit);
    const hooks: QueueHooks = {
      onReady: () => this.#wakeSoon(),
      onRoom: () => this.#letIn(),
      onTaken: (records, time) => this.#positions.take(records, time),
      onMissing: (records) => this.#giveUp(records),
    };
    this.#queue = options.queue?.(hooks) ??
      new MemoryQueue(dataset, hooks, { maxRecords: sink.maxRecords?.(dataset) });
    this.#counters.accepted = this.#queue.spooled;
    this.#positions = new FlushTracker(this.#queue.spooled);
    this.#waiting = new AdmissionQueue({
      hasRoom: () => this.#hasRoom,
      admit: (record) => this.#admit(record),
      onImpatient: () => {
        this.#isSpilling = true;
        this.#letIn();
      },
    });
    const { signal } = this.#abort;
    this.#delivery = new Delivery({
      sink,
      queue: this.#queue,
      signal,
      onFailure: (error) => this.#onFailure(error),
      onWait: (tryNow) => this.#tryNow = tryNow,
      maxMs: () => this.#isClosed ? MAX_CLOSING_RETRY_MS : MAX_RETRY_MS,
      onSent: () => {
        this.#letIn();
        this.#dispatch.sent();
      },
      onCommitted: (result, ms) => this.#onCommitted(result, ms),
      setAside: (batch, error) => this.#setAside(batch, error),
    });
    this.#dispatch = new Dispatch({
      dataset,
      queue: this.#queue,
      sink,
      deliver: (batch) => this.#deliver(batch),
      onReady: () => this.#isHolding = true,
      onMove: () => this.#wakeSource?.(),
    });
    const stream = new BatchStream<T>({
      size: batchSize,
      intervalMs: batchIntervalMs,
      maxBytes: MAX_BATCH_BYTES,
      byteLength: (record) => byteLength(dataset, record),
    });
    this.#done = this.#deliverFrozen().then(() =>
      this.#source().pipeThrough(stream, { signal }).pipeTo(this.#dispatch.stream(), { signal })
    );
    this.#done.catch(() => {}); // only an abort at the deadline of close() ends it this way
  }

  /**
   * Takes a record in, or waits until there is room, as the overflow policy says.
   *
   * @param record A record that has been checked. It must not be changed afterwards.
   * @returns A promise that resolves when the record is accepted: in memory, or on disk where there is a spool. It
   * rejects only once closed.
   */
  accept(record: T): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#closedError());
    if (this.#isWayFree) {
      this.#isDropping = false;
      return this.#admit(record);
    }
    if (this.#overflow === "block" || this.#queue.isBusy) {
      const accepted = this.#waiting.enter(record);
      this.#bePatient();
      return accepted;
    }
    const dropped = this.#overflow === "drop-oldest" ? this.#queue.dropOldest() : 0;
    if (dropped > 0) {
      this.#giveUp(dropped);
      this.#tellOfDrop();
      return this.#admit(record);
    }
    this.#counters.accepted++;
    this.#counters.dropped++;
    this.#tellOfDrop();
    return ADMITTED;
  }

  /** As {@linkcode Pipeline.accept}, but waits only for room: for streams, which are safe once they are closed. */
  offer(record: T): Promise<void> {
    if (this.#isClosed || !this.#isWayFree) return this.accept(record);
    this.#isDropping = false;
    this.#admit(record);
    return ADMITTED;
  }

  /** Counts a record that was refused as invalid. */
  countRefused(): void {
    this.#counters.refused++;
  }

  /**
   * Waits until all that was accepted before is settled, without waiting for size or interval. What a spool cannot
   * write or read back is waited for, too, with an alarm: that may pass by itself.
   *
   * @throws {BackendError} If the backend is in a state that somebody has to mend. Nothing is lost by that:
   * the records stay, and are written as soon as it is mended.
   */
  flush(): Promise<void> {
    const target = this.#positions.admitted + this.#waiting.length;
    if (this.#positions.settled >= target) return Promise.resolve();
    if (this.#isOver) return Promise.reject(this.#lastError ?? this.#closedError());
    this.#flushAsked = true;
    this.#wakeSource?.();
    this.#tryNow();
    return this.#positions.wait(target);
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
    this.#waiting.close(this.#closedError());
    this.#wakeSource?.();
    this.#tryNow();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(deadlineMs, MAX_TIMER_MS));
    });
    await Promise.race([this.#done, deadline]);
    clearTimeout(timer);
    this.#abort.abort(this.#closedError());
    await this.#queue.close();
    this.#isOver = true;
    const { committed, spooled, deadLettered, lost, buffered, inFlight } = this.stats();
    this.#positions.refuse(this.#lastError ?? this.#closedError());
    return { committed, spooled, deadLettered: deadLettered - lost, lost: lost + buffered + inFlight };
  }

  /** The counters and gauges as they stand. */
  stats(): PipelineStats {
    const queue = this.#queue;
    const { inFlight } = this.#counters;
    const waits = {
      buffered: queue.buffered + this.#positions.taken - inFlight,
      spooled: queue.spooled,
      inFlight,
    };
    if (this.#isOver && queue.isDurable) { // all is left to the next start
      waits.spooled += waits.buffered + inFlight - queue.unsafe;
      waits.buffered = queue.unsafe;
      waits.inFlight = 0;
    }
    const oldest = this.#positions.oldestTime ?? queue.oldestTime;
    const error = this.#lastError;
    const alarm = this.#alarm.message ?? queue.alarm;
    const commitMs = this.#latencies.summary();
    return {
      ...this.#counters,
      ...waits,
      spoolBytes: queue.bytes,
      oldestUnacknowledgedMs: oldest === undefined ? 0 : Math.max(0, Date.now() - oldest),
      ...(commitMs === undefined ? {} : { commitMs }),
      ...(error === undefined ? {} : { lastError: messageOf(error) }),
      ...(alarm === undefined ? {} : { alarm }),
    };
  }

  /** What an earlier process has frozen goes first, batch by batch, as it was. */
  async #deliverFrozen(): Promise<void> {
    for await (const { id, records } of this.#queue.frozen()) {
      await this.#deliver({ id, dataset: this.#dataset, records });
    }
  }

  /** What waits in the queue, whenever the batch stream asks for more. */
  #source(): ReadableStream<readonly T[]> {
    return new ReadableStream({
      pull: async (controller) => {
        for (;;) { // a pull that ends without a chunk would not be called again
          while (!this.#hasWork()) await new Promise<void>((resolve) => this.#wakeSource = resolve);
          this.#wakeSource = undefined;
          if (!this.#queue.isEmpty) {
            const found = this.#queue.take();
            const records = found instanceof Promise ? await found : found;
            this.#bePatient();
            if (records.length > 0) return controller.enqueue(records);
          } else if (this.#flushAsked) {
            this.#flushAsked = false;
            return controller.enqueue([]);
          } else return controller.close();
        }
      },
    }, { highWaterMark: 0 });
  }

  get #hasRoom(): boolean {
    const { hasRoom, hasMemoryRoom } = this.#queue;
    return hasRoom && (hasMemoryRoom || this.#isSpilling || this.#overflow !== "block");
  }

  /** Whether a record goes in at once: there is room, and nobody came before it who waits to be let in. */
  get #isWayFree(): boolean {
    const isQueueing = this.#waiting.length > 0 || this.#isHolding;
    return this.#hasRoom && !(isQueueing && this.#overflow === "block");
  }

  /**
   * Those who wait do so for a second at the most while there is room on disk, or will be in memory. What goes by disk
   * only is read back, and so costs twice; but who collects must not wait for a backend that is gone.
   */
  #bePatient(): void {
    const isRoomKept = this.#isHolding || !this.#isSpilling;
    if (isRoomKept && this.#queue.hasRoom) this.#waiting.beImpatient();
  }

  /**
   * Whether the next batch may be taken. What arrives while one is being written all goes into the next, so that is taken
   * before its time only when no more would go in, and the backend needs nothing of us.
   */
  get #mayTake(): boolean {
    return this.#dispatch.isIdle || (this.#dispatch.canPrepare && !this.#hasRoom);
  }

  #hasWork(): boolean {
    if (!this.#mayTake) return false;
    return !this.#queue.isEmpty || (this.#queue.isDrained && (this.#flushAsked || this.#isClosed));
  }

  /** Failures are dealt with in here: a stream that throws would drop all that is queued behind the failed batch. */
  async #deliver(batch: Batch<T>): Promise<void> {
    this.#counters.inFlight += batch.records.length;
    await this.#delivery.deliver(batch);
    if (!this.#isHolding || !this.#dispatch.isNextReady) this.#letIn();
    await this.#queue.settle();
  }

  /**
   * Those who waited for room move up: not when the batch is taken that makes it, but when the backend has all of that
   * batch, or has failed, or a second later. Arrivals that come one after the other leave no turn to anything else, so
   * that the backend would wait for the batch meanwhile (PostgreSQL took in 1.3 times as much, measured).
   */
  #letIn(): void {
    this.#isHolding = false;
    if (this.#queue.hasMemoryRoom) this.#isSpilling = false;
    this.#waiting.letIn();
    this.#bePatient();
  }

  #admit(record: T): Promise<void> {
    this.#counters.accepted++;
    this.#positions.admit();
    const bytes = byteLength(this.#dataset, record);
    const safe = this.#queue.push(record, bytes);
    this.#onAccepted(record, bytes);
    return safe;
  }

  /**
   * Hands arrivals on when they make a batch, else at the end of this turn of the event loop: a stream's cycle
   * costs 2 µs, too much to spend on each record of a caller that has more at hand.
   */
  #wakeSoon(): void {
    if (!this.#wakeSource || !this.#mayTake) return;
    if (this.#queue.buffered >= this.#batchSize) this.#wakeSource();
    else if (!this.#isWaking) {
      this.#isWaking = true;
      setImmediate(() => {
        this.#isWaking = false;
        this.#wakeSource?.();
      });
    }
  }

  /** Records at the head of the queue are gone. */
  #giveUp(records: number): void {
    this.#counters.dropped += records;
    this.#positions.drop(records);
  }

  #tellOfDrop(): void {
    if (this.#isDropping) return;
    this.#isDropping = true;
    const { name: dataset, noun } = this.#dataset;
    const { dropped } = this.#counters;
    const message = `Dropping ${noun}: room for more is wanted: ${dropped} dropped so far`;
    this.#emit({ type: "dropped", dataset, message, dropped });
  }

  #onCommitted({ committed, duplicates, restated }: WriteResult, ms: number): void {
    this.#counters.committed += committed;
    this.#counters.duplicates += duplicates;
    this.#counters.restated += restated;
    this.#latencies.add(ms);
    this.#lastError = undefined;
    this.#alarm.clear();
    this.#onSettled(committed + duplicates);
  }

  /** Sees to it that a refused record is not lost. Where it cannot be written anywhere, that is waited for. */
  async #setAside({ id: batchId, dataset, records: [record] }: Batch<T>, error: unknown): Promise<void> {
    const letters = this.#deadLetters;
    const message = messageOf(error);
    const code = errorCodeOf(error);
    const sqlState = error instanceof BackendError ? error.sqlState : undefined;
    if (letters) {
      await retry(() => letters.append({ batchId, code, sqlState, message, record }), {
        signal: this.#abort.signal,
        onFailure: (failure) => {
          this.#alarm.raise(failure);
          this.#positions.refuse(failure);
        },
        onWait: (tryNow) => this.#tryNow = tryNow,
        maxMs: () => this.#isClosed ? MAX_CLOSING_RETRY_MS : MAX_RETRY_MS,
      });
    }
    this.#alarm.clear();
    this.#counters.deadLettered++;
    if (!letters) this.#counters.lost++;
    this.#lastError = undefined;
    this.#onSettled(1);
    const file = letters?.path;
    this.#emit({
      type: "dead-lettered",
      dataset: dataset.name,
      code,
      message,
      error,
      record,
      ...(file ? { file } : {}),
    });
  }

  #onSettled(records: number): void {
    this.#counters.inFlight -= records;
    this.#positions.settle(records);
  }

  #onFailure(error: unknown): void {
    this.#letIn();
    this.#counters.retries++;
    this.#lastError = error;
    const kind = kindOf(error);
    if (kind === "operator" || kind === "disk-full" || kind === "unknown") this.#alarm.raise(error);
    else {
      const { name: dataset } = this.#dataset;
      this.#emit({ type: "retry", dataset, code: errorCodeOf(error), message: messageOf(error), error });
    }
    if (kind === "operator") this.#positions.refuse(error);
  }

  #closedError(): BackendError {
    return new BackendError(
      `Cannot accept ${this.#dataset.noun}: an open hub or observatory is wanted: this one is closed`,
      { code: "CLOSED", operation: "accept", kind: "operator" },
    );
  }
}
